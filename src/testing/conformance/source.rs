//! What every [`AttendanceSource`] must do.
//!
//! The functions need a source, and the school that it serves as a [`FakeSchool`] to compare with.

use chrono::NaiveDate;
use futures::StreamExt;

use crate::model::{Mark, Record, Status};
use crate::rules::{Register, Resolver, Rules, Scope, Window};
use crate::source::{AttendanceSource, Completeness, FetchItem, FetchRequest, FetchedKind};
use crate::testing::FakeSchool;

/// A school that fills the windows that are asked for: the days up to 20 November 2026. Any other will do, but shows less.
pub fn school() -> FakeSchool {
    FakeSchool::demo(NaiveDate::from_ymd_opt(2026, 11, 20).unwrap_or_default())
}

/// The windows that a source is asked for; one that reaches today only is asked for 20 November 2026.
fn windows(source: &dyn AttendanceSource) -> Vec<Window> {
    let date = |month, day| NaiveDate::from_ymd_opt(2026, month, day).unwrap_or_default();
    let today = Window::day(date(11, 20));
    if source.capabilities().today_only {
        return vec![today];
    }
    let window = |from, to| Window::between(from, to).unwrap_or_else(|error| panic!("{error}"));
    vec![window(date(10, 21), date(11, 20)), Window::day(date(11, 18)), window(date(11, 21), date(11, 22)), today]
}

/// The largest window that a source is asked for.
fn widest(source: &dyn AttendanceSource) -> Window {
    let widest = windows(source).into_iter().max_by_key(|window| window.to() - window.from());
    widest.unwrap_or_else(|| panic!("there is no window to ask for"))
}

/// All of the functions below, for a source that serves this school.
pub async fn every(source: &dyn AttendanceSource, school: &FakeSchool) {
    ends_with_one_verdict(source).await;
    gives_the_schools_marks(source, school).await;
    answers_the_same_again(source).await;
    can_be_dropped_halfway(source).await;
    keeps_its_capabilities(source).await;
}

async fn read(source: &dyn AttendanceSource, request: &FetchRequest) -> Vec<FetchItem> {
    let stream = source.fetch(request).await.unwrap_or_else(|error| panic!("the fetch fails: {error}"));
    let items: Vec<_> = stream.collect().await;
    items.into_iter().map(|item| item.unwrap_or_else(|error| panic!("the stream fails: {error}"))).collect()
}

fn split(items: Vec<FetchItem>) -> (Vec<Record>, Completeness) {
    let mut records = Vec::with_capacity(items.len());
    let mut verdict = None;
    for item in items {
        assert!(verdict.is_none(), "nothing comes after the verdict");
        match item {
            FetchItem::Records(batch) => records.extend(batch),
            FetchItem::Complete(complete) => verdict = Some(complete),
        }
    }
    (records, verdict.unwrap_or_else(|| panic!("the stream ends without a verdict")))
}

/// A complete fetch ends with one verdict, which covers all that was asked for and counts its rows.
pub async fn ends_with_one_verdict(source: &dyn AttendanceSource) {
    for window in windows(source) {
        let request = FetchRequest::new(window).with_periods(source.capabilities().has_period_flags);
        let (records, verdict) = split(read(source, &request).await);
        for kind in source.capabilities().needed(request.periods()) {
            assert!(verdict.covers(kind, window), "the verdict leaves out {kind}");
        }
        let registrations = records.iter().filter(|record| matches!(record, Record::Registration(_))).count();
        let session_marks = records.iter().filter(|record| matches!(record, Record::SessionMark(_))).count();
        for (kind, held) in [(FetchedKind::Registrations, registrations), (FetchedKind::SessionMarks, session_marks)] {
            assert_eq!(verdict.rows(kind), held as u64, "the verdict counts other {kind} than the stream holds");
        }
        let (given, other) = match source.capabilities().gives_session_marks {
            true => (FetchedKind::SessionMarks, registrations),
            false => (FetchedKind::Registrations, session_marks),
        };
        assert_eq!(other, 0, "a source that gives {given} streams others too");
    }
}

/// Whatever order and repeats the records come in, they give the marks and issues of the school; where the source has no
/// times of update, and so can't say which record decided, what a parent sees.
pub async fn gives_the_schools_marks(source: &dyn AttendanceSource, school: &FakeSchool) {
    let rules = Rules::new("Europe/London".parse().unwrap());
    for window in windows(source) {
        let (records, _) = split(read(source, &FetchRequest::new(window)).await);
        let read = resolve(&rules, window, records);
        let expected = resolve(&rules, window, school.records());
        if !source.capabilities().has_stamps {
            // Such a source need not know which codes count as absences.
            let away = |status| if status == Status::NotRequired { Status::Absent } else { status };
            let mark = |mark: Mark| (mark.student, mark.date, mark.session, away(mark.status), mark.code);
            let seen = |register: &Register| register.marks().map(mark).collect::<Vec<_>>();
            assert_eq!(seen(&read), seen(&expected), "a parent sees other marks than the school's");
            continue;
        }
        let marks = |register: &Register| register.marks().collect::<Vec<Mark>>();
        assert_eq!(marks(&read), marks(&expected), "the marks are not the school's");
        assert_eq!(read.issues(), expected.issues(), "the issues are not the school's");
    }
}

fn resolve(rules: &Rules, window: Window, records: impl IntoIterator<Item = Record>) -> Register {
    let mut resolver = Resolver::new(rules.clone(), Scope::all(window));
    records.into_iter().for_each(|record| resolver.push(record));
    resolver.finish().unwrap_or_else(|error| panic!("the records can't be resolved: {error}"))
}

/// The same request has the same answer while the school stands still, in whatever order.
pub async fn answers_the_same_again(source: &dyn AttendanceSource) {
    let rules = Rules::new("Europe/London".parse().unwrap());
    let window = widest(source);
    let mut answers = Vec::new();
    for _ in 0..2 {
        let (records, verdict) = split(read(source, &FetchRequest::new(window)).await);
        let marks: Vec<Mark> = resolve(&rules, window, records).marks().collect();
        let kinds = [FetchedKind::Registrations, FetchedKind::SessionMarks];
        answers.push((marks, kinds.map(|kind| verdict.rows(kind))));
    }
    assert!(answers.windows(2).all(|pair| pair.first() == pair.last()), "the second answer differs from the first");
}

/// A stream that is dropped halfway leaves the source as it was.
pub async fn can_be_dropped_halfway(source: &dyn AttendanceSource) {
    let window = widest(source);
    let request = FetchRequest::new(window);
    if let Ok(mut stream) = source.fetch(&request).await {
        let mut records = 0;
        while records < 10
            && let Some(Ok(FetchItem::Records(batch))) = stream.next().await
        {
            records += batch.len();
        }
    }
    split(read(source, &request).await);
}

/// What a source can give does not change, and it has a name.
pub async fn keeps_its_capabilities(source: &dyn AttendanceSource) {
    let before = source.capabilities();
    let window = widest(source);
    read(source, &FetchRequest::new(window)).await;
    assert_eq!(source.capabilities(), before, "the capabilities have changed");
    assert!(!source.to_string().is_empty(), "the source has no name");
}
