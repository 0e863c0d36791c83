//! What every [`AttendanceSource`] must do.
//!
//! The functions need a source and, to compare with, a [`FakeSchool`] that describes the school that it serves.

use chrono::{Days, NaiveDate};

use super::{Kept, Violation, ensure, equal, equal_lists};
use crate::model::{Mark, Record, Status, StudentId, Zone};
use crate::rules::{Register, Resolver, Rules, Window};
use crate::source::{AttendanceSource, Completeness, FetchItem, FetchRequest, FetchedKind};
use crate::testing::FakeSchool;

/// A school that fills the requested windows: the days up to 20 November 2026. Any other school will do, but it tests less.
///
/// The windows are 21 October to 20 November 2026, 18 November, 21 to 22 November and 20 November. One out-of-school record
/// begins long before them, and another ends after them.
pub fn school() -> FakeSchool {
    let mut school = FakeSchool::demo(today());
    let students: Vec<StudentId> = school.registrations().iter().map(|row| row.student.clone()).take(2).collect();
    let spans = [
        ("long-before", "2026-09-01T08:00:00", "2026-10-22T12:00:00"),
        ("beyond", "2026-11-19T12:00:00", "2026-12-04T12:00:00"),
    ];
    for ((id, from, to), student) in spans.into_iter().zip(&students) {
        let code = school.codes().first().map(|code| code.id.as_str().to_owned()).unwrap_or_default();
        school.out_of_school(id, student.as_str(), from, to).coded(&code).updated("2026-11-20T15:45:00");
    }
    school
}

fn today() -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 11, 20).unwrap_or_default()
}

/// The windows that a source is asked for; a source that can read only today is asked for 20 November 2026.
fn windows(source: &dyn AttendanceSource) -> Vec<Window> {
    let today = Window::day(today());
    if source.capabilities().today_only {
        return vec![today];
    }
    let back = |days| today.to().checked_sub_days(Days::new(days)).unwrap_or_default();
    let next = |days| today.to().checked_add_days(Days::new(days)).unwrap_or_default();
    let window = |from, to| Window::between(from, to).unwrap_or(today);
    vec![window(back(30), today.to()), Window::day(back(2)), window(next(1), next(2)), today]
}

/// The largest window that a source is asked for.
fn widest(source: &dyn AttendanceSource) -> Window {
    windows(source).into_iter().max_by_key(|window| window.to() - window.from()).unwrap_or(Window::day(today()))
}

/// Checks all of the promises below, for a source that serves this school.
///
/// # Errors
/// The first promise that is broken.
pub async fn every(source: &dyn AttendanceSource, school: &FakeSchool) -> Kept {
    ends_with_one_verdict(source).await?;
    gives_the_schools_marks(source, school).await?;
    answers_the_same_again(source).await?;
    can_be_dropped_halfway(source).await?;
    keeps_its_capabilities(source).await
}

/// Reads the records of a fetch, and its verdict.
async fn read(source: &dyn AttendanceSource, request: &FetchRequest) -> Result<(Vec<Record>, Completeness), Violation> {
    const PROMISE: &str = "a stream ends with its verdict, which comes once";
    let mut stream = source.fetch(request).await?;
    let (mut records, mut verdict) = (Vec::new(), None);
    while let Some(item) = stream.next().await {
        ensure(verdict.is_none(), PROMISE, || "Something comes after the verdict".to_owned())?;
        match item? {
            FetchItem::Records(batch) => records.extend(batch),
            FetchItem::Complete(complete) => verdict = Some(complete),
        }
    }
    verdict.map(|verdict| (records, verdict)).ok_or_else(|| Violation::new(PROMISE, "There is none"))
}

/// A complete fetch ends with one verdict, which covers everything that was requested and counts the rows.
///
/// # Errors
/// The promise is broken; so with every function here.
pub async fn ends_with_one_verdict(source: &dyn AttendanceSource) -> Kept {
    let capabilities = source.capabilities();
    for window in windows(source) {
        let request = FetchRequest::new(window).with_periods(capabilities.has_period_flags);
        let (records, verdict) = read(source, &request).await?;
        for kind in capabilities.needed(request.periods()) {
            ensure(verdict.covers(kind, window), "the verdict covers every date in every promised kind", || {
                format!("It leaves out {kind} of {} to {}", window.from(), window.to())
            })?;
        }
        let held = |kind| {
            let is_of = |record: &&Record| match record {
                Record::Registration(_) => kind == FetchedKind::Registrations,
                Record::SessionMark(_) => kind == FetchedKind::SessionMarks,
                _ => false,
            };
            records.iter().filter(is_of).count() as u64
        };
        let other = match capabilities.gives_session_marks {
            true => FetchedKind::Registrations,
            false => FetchedKind::SessionMarks,
        };
        const ONE_KIND: &str = "a source gives registrations, or session marks if it says so (gives_session_marks)";
        ensure(held(other) == 0, ONE_KIND, || format!("It streamed {} {other}", held(other)))?;
        for kind in [FetchedKind::Registrations, FetchedKind::SessionMarks] {
            let (counted, streamed) = (verdict.rows(kind), held(kind));
            ensure(counted == streamed, "the verdict counts the rows that were streamed", || {
                format!("It counts {counted} {kind}, and {streamed} were streamed")
            })?;
        }
    }
    Ok(())
}

/// In whatever order and however often the records come, they give the marks and issues of the school. If the source has no
/// times of update, and so can't say which record decided, they give what a parent sees.
///
/// # Errors
/// The promise is broken.
pub async fn gives_the_schools_marks(source: &dyn AttendanceSource, school: &FakeSchool) -> Kept {
    const PROMISE: &str = "the records give the school's marks";
    for window in windows(source) {
        let (records, _) = read(source, &FetchRequest::new(window)).await?;
        let read = resolve(window, records)?;
        let expected = resolve(window, school.records())?;
        if !source.capabilities().has_stamps {
            // Such a source need not know which codes count as absences.
            let away = |status| if status == Status::NotRequired { Status::Absent } else { status };
            let mark = |mark: Mark| (mark.student, mark.date, mark.session, away(mark.status), mark.code);
            let seen = |register: &Register| register.marks().map(mark).collect::<Vec<_>>();
            equal_lists(&seen(&read), &seen(&expected), PROMISE)?;
            continue;
        }
        let has_periods = source.capabilities().has_period_flags;
        let without_period = |mut mark: Mark| {
            // A source without periods can't name the registration's.
            mark.decision.registration = mark.decision.registration.map(|mut picked| {
                picked.period = picked.period.filter(|_| has_periods);
                picked
            });
            mark
        };
        let marks = |register: &Register| register.marks().map(without_period).collect::<Vec<Mark>>();
        equal_lists(&marks(&read), &marks(&expected), PROMISE)?;
        equal(read.issues(), expected.issues(), "the records raise the school's issues")?;
    }
    Ok(())
}

fn resolve(window: Window, records: impl IntoIterator<Item = Record>) -> Result<Register, Violation> {
    let mut resolver = Resolver::new(Rules::new("Europe/London".parse().unwrap_or(Zone::utc())), window);
    resolver.extend(records);
    resolver.finish().map_err(|error| Violation::new("the records can be resolved", error.to_string()))
}

/// The same request gets the same answer, in any order, as long as the school does not change.
///
/// # Errors
/// The promise is broken.
pub async fn answers_the_same_again(source: &dyn AttendanceSource) -> Kept {
    const PROMISE: &str = "the same request has the same answer while the school stands still";
    let window = widest(source);
    let mut answers = Vec::new();
    for _ in 0..2 {
        let (records, verdict) = read(source, &FetchRequest::new(window)).await?;
        let kinds = [FetchedKind::Registrations, FetchedKind::SessionMarks];
        answers.push((resolve(window, records)?.marks().collect::<Vec<Mark>>(), kinds.map(|kind| verdict.rows(kind))));
    }
    let [(first, first_rows), (second, second_rows)] = &answers[..] else { return Ok(()) };
    equal_lists(second, first, PROMISE)?;
    equal(second_rows, first_rows, PROMISE)
}

/// A stream that is dropped halfway leaves the source as it was.
///
/// # Errors
/// The promise is broken.
pub async fn can_be_dropped_halfway(source: &dyn AttendanceSource) -> Kept {
    let request = FetchRequest::new(widest(source));
    if let Ok(mut stream) = source.fetch(&request).await {
        let mut records = 0;
        while records < 10
            && let Some(Ok(FetchItem::Records(batch))) = stream.next().await
        {
            records += batch.len();
        }
    }
    read(source, &request).await.map(|_| ())
}

/// The capabilities of a source do not change, and it has a name.
///
/// # Errors
/// The promise is broken.
pub async fn keeps_its_capabilities(source: &dyn AttendanceSource) -> Kept {
    let before = source.capabilities();
    read(source, &FetchRequest::new(widest(source))).await?;
    equal(&source.capabilities(), &before, "what a source can give does not change")?;
    let name = source.to_string();
    ensure(!name.trim().is_empty(), "a source has a name", || "Its Display is empty".to_owned())
}
