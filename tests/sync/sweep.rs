//! Beside the window, older dates are read again in rotation, so that a late correction is found.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use chrono::{DateTime, Datelike, Days, NaiveDate, TimeDelta, Utc};
use proptest::prelude::*;
use rollmark::model::{SchoolId, Session, StudentId};
use rollmark::rules::{Rules, Scope, SyncWindow, Window};
use rollmark::source::{SourceError, SourceErrorKind};
use rollmark::store::{MarkStore, MemoryStore, RunPurpose, RunQuery};
use rollmark::sync::{AttendanceSync, Guards, OutsideWindow, Sweep, SyncEvent, SyncReport, SyncRequest};
use rollmark::testing::{FakeSchool, FakeSource};

fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn evening(date: NaiveDate) -> DateTime<Utc> {
    date.and_hms_opt(22, 0, 0).unwrap().and_utc()
}

fn nights(nights: u32) -> NonZeroU32 {
    NonZeroU32::new(nights).unwrap()
}

fn sweep(from: Option<NaiveDate>, every: u32) -> Sweep {
    let sweep = Sweep::default().with_nights(nights(every));
    from.map_or(sweep, |from| sweep.with_from(from))
}

/// The first date of a sweep of this night.
fn first(from: Option<NaiveDate>, today: NaiveDate) -> NaiveDate {
    let year = today.year() - i32::from(today.month() < 9);
    from.unwrap_or(NaiveDate::from_ymd_opt(year, 9, 1).unwrap())
}

proptest! {
    #[test]
    fn every_older_date_is_read_in_any_so_many_nights_in_a_row(
        start in 0..800_u64,
        days in 0..60_u32,
        every in 1..40_u32,
        back in prop::option::of(-40..900_i64),
    ) {
        let start = date("2024-01-01") + Days::new(start);
        let from = back.map(|back| start - TimeDelta::days(back));
        let sweep = sweep(from, every);
        let (mut read, mut older): (BTreeMap<NaiveDate, u32>, BTreeMap<NaiveDate, u32>) = Default::default();
        for today in start.iter_days().take(every as usize) {
            let window = SyncWindow::default().with_days(days).ending(today);
            let range: Vec<NaiveDate> =
                first(from, today).iter_days().take_while(|date| *date < window.from()).collect();
            let slice = sweep.slice(window);
            prop_assert_eq!(slice.is_some(), !range.is_empty(), "a slice wherever there is an older date");
            range.iter().for_each(|date| *older.entry(*date).or_default() += 1);
            let Some(slice) = slice else { continue };
            prop_assert!(slice.from() >= range[0] && slice.to() <= range[range.len() - 1], "within the range");
            prop_assert_eq!(slice.today(), Some(today));
            let most = range.len().div_ceil(every as usize) as i64 + 2;
            prop_assert!((slice.to() - slice.from()).num_days() < most, "about one part");
            slice.from().iter_days().take_while(|date| *date <= slice.to()).for_each(|date| *read.entry(date).or_default() += 1);
        }
        for (date, _) in older.into_iter().filter(|(_, nights)| *nights == every) {
            prop_assert!(read.contains_key(&date), "{} is read", date);
        }
    }
}

/// A school of two students with a register every weekday morning.
fn school(from: NaiveDate, to: NaiveDate) -> FakeSchool {
    let mut school = FakeSchool::new();
    school.code("1", "I", "Illness", true);
    for day in from.iter_days().take_while(|day| *day <= to) {
        if day.weekday().num_days_from_monday() < 5 {
            for student in ["s1", "s2"] {
                let id = format!("{student}-{day}");
                let stamp = format!("{day}T08:52:00");
                school.registration(&id, student, &format!("{day}T08:40:00")).present().updated(&stamp);
            }
        }
    }
    school
}

fn correct(school: &mut FakeSchool, day: NaiveDate, on: NaiveDate) {
    let mut row = school.registration_mut(&format!("s1-{day}")).unwrap();
    row.absent("1").updated(&format!("{on}T12:00:00"));
}

fn request(today: NaiveDate) -> SyncRequest {
    SyncRequest::overnight(today).with_now(evening(today))
}

async fn is_corrected(store: &MemoryStore, day: NaiveDate) -> bool {
    let scope = Scope::all(Window::day(day)).with_students(["s1"]);
    let snapshot = store.read(&SchoolId::new("school"), &scope).await.unwrap();
    snapshot.marks().iter().any(|stored| stored.content.code.as_deref() == Some("I"))
}

/// The school's dates, its marks in a store, and a sync of it. Everything is known up to the night before `today`.
async fn synced(today: NaiveDate) -> (FakeSource, MemoryStore, AttendanceSync) {
    let source = FakeSource::new(school(date("2026-09-01"), today));
    let store = MemoryStore::new();
    let sync =
        AttendanceSync::new(source.clone(), store.clone(), "school", Rules::new("Europe/London".parse().unwrap()));
    let all = Window::between(date("2026-09-01"), today).unwrap().with_today(today);
    sync.run(SyncRequest::targeted(all).with_now(evening(today) - TimeDelta::days(1))).await.unwrap();
    (source, store, sync)
}

#[tokio::test]
async fn a_correction_before_the_window_is_found_and_reported() {
    let today = date("2026-11-20");
    let (source, store, sync) = synced(today).await;
    let old = date("2026-09-15");
    source.change(|school| correct(school, old, today));
    let mut found: Vec<(NaiveDate, OutsideWindow)> = Vec::new();
    for night in today.iter_days().take(14) {
        let report = sync.run(request(night).with_sweep(Sweep::default())).await.unwrap();
        assert_eq!((report.marks.changed, report.window.to), (0, night), "the ordinary counts are of the window");
        let outside = report.outside_window.unwrap();
        if outside.changed > 0 {
            found.push((night, outside));
        }
    }
    assert!(is_corrected(&store, old).await);
    let [(night, outside)] = &found[..] else { panic!("found once: {found:?}") };
    assert_eq!((outside.changed, outside.added, outside.removed, outside.withheld), (1, 0, 0, 0));
    assert_eq!(outside.oldest_change_days, Some((*night - old).num_days()));

    let runs = store.runs(&SchoolId::new("school"), &RunQuery::all()).await.unwrap();
    let sweeps = runs.iter().filter(|run| run.purpose == RunPurpose::Sweep);
    assert_eq!((runs.len(), sweeps.count()), (29, 14), "a run of its own each night");
}

#[tokio::test]
async fn without_a_sweep_and_where_nothing_is_older_the_report_says_so() {
    let today = date("2026-09-20");
    let (_, _, sync) = synced(today).await;
    assert_eq!(sync.run(request(today)).await.unwrap().outside_window, None);
    assert_eq!(sync.run(request(today).with_sweep(Sweep::default())).await.unwrap().outside_window, None);
    let earlier = Sweep::default().with_from(date("2026-08-01"));
    let outside = sync.run(request(today).with_sweep(earlier)).await.unwrap().outside_window.unwrap();
    assert_eq!((outside.changed, outside.oldest_change_days), (0, None));
}

/// A sweep that reads every older date each night.
fn whole(today: NaiveDate) -> SyncRequest {
    request(today).with_sweep(sweep(None, 1))
}

fn fail_in_the_slice(sync: AttendanceSync, source: &FakeSource) -> AttendanceSync {
    let source = source.clone();
    sync.with_listener(move |_, event| {
        if let SyncEvent::SweepStarted { .. } = event {
            source.fail_next(SourceError::new(SourceErrorKind::NotAllowed, "the key may not read it"));
        }
    })
}

#[tokio::test]
async fn a_slice_that_fails_leaves_the_window_written() {
    let today = date("2026-11-20");
    let (source, store, sync) = synced(today).await;
    let sync = fail_in_the_slice(sync, &source);
    let recent = date("2026-11-19");
    source.change(|school| correct(school, recent, today));
    let report = sync.run(whole(today)).await.unwrap();
    assert_eq!((report.marks.changed, report.run), (1, Some(2)));
    assert!(is_corrected(&store, recent).await);
    let outside = report.outside_window.unwrap();
    assert_eq!(outside.error.as_deref(), Some("the key may not read it"));
    assert_eq!((outside.from, outside.to), (date("2026-09-01"), date("2026-10-20")));
}

#[tokio::test]
async fn a_slice_has_guards_of_its_own() {
    let today = date("2026-11-20");
    let (source, store, sync) = synced(today).await;
    // One student's rows of all older dates vanish: proven removals beyond the limit.
    source.change(|school| {
        school.remove_registrations(|row| row.student == StudentId::new("s2") && *row.at.to_string() < *"2026-10-21");
        correct(school, date("2026-11-19"), today);
    });
    let report: SyncReport = sync.run(whole(today)).await.unwrap();
    assert_eq!((report.marks.changed, report.marks.withheld), (1, 0), "the window's own guards see nothing of it");
    let outside = report.outside_window.unwrap();
    assert_eq!((outside.removed, outside.withheld), (0, 0), "a student of whom nothing is read is kept");

    source.change(|school| {
        let row = "s2-2026-09-01";
        school.registration(row, "s2", "2026-09-01T08:40:00").present().updated("2026-09-01T08:52:00");
    });
    let outside = sync.run(whole(today)).await.unwrap().outside_window.unwrap();
    assert!(outside.removed > 0 || outside.withheld > 0, "{outside:?}");
    let before = outside.withheld;
    let lifted = whole(today).with_guards(Guards::default().with_allow_removals(true));
    let outside = sync.run(lifted).await.unwrap().outside_window.unwrap();
    assert_eq!((outside.removed, outside.withheld), (before, 0));
    let snapshot = store.read(&SchoolId::new("school"), &Scope::all(Window::day(date("2026-09-02")))).await.unwrap();
    assert!(
        snapshot.marks().iter().all(|stored| stored.key.session == Session::Am && stored.key.student == "s1".into())
    );
}

#[tokio::test]
async fn a_dry_run_of_a_sweep_writes_nothing() {
    let today = date("2026-11-20");
    let (source, store, sync) = synced(today).await;
    source.change(|school| correct(school, date("2026-09-15"), today));
    let report = sync.run(whole(today).with_dry_run(true)).await.unwrap();
    assert_eq!(report.outside_window.unwrap().changed, 1);
    assert!(!is_corrected(&store, date("2026-09-15")).await);
    assert_eq!(store.runs(&SchoolId::new("school"), &RunQuery::all()).await.unwrap().len(), 1);
}

/// Every correction, up to 120 days late, is right within so many nights after it was made.
#[tokio::test]
async fn in_a_year_of_nights_no_correction_stays_unknown_for_long() {
    const EVERY: u32 = 14;
    let (first, last) = (date("2026-09-01"), date("2027-07-20"));
    let source = FakeSource::new(FakeSchool::new());
    let store = MemoryStore::new();
    let rules = Rules::new("Europe/London".parse().unwrap());
    let sync = AttendanceSync::new(source.clone(), store.clone(), "school", rules);
    let mut open: Vec<(NaiveDate, NaiveDate)> = Vec::new();
    let (mut corrected, mut longest) = (0, 0);
    for (number, today) in (0_u64..).zip(first.iter_days().take_while(|day| *day <= last)) {
        let mut grown = school(first, today);
        source.change(|school| {
            // What was corrected before stays so.
            for row in school.registrations().iter().filter(|row| !row.registered) {
                let mut again = grown.registration_mut(row.id.as_ref().unwrap().as_str()).unwrap();
                again.absent("1").last_updated = row.last_updated;
            }
            // One correction most days, between 0 and 120 days late.
            let day = today - Days::new(number * 37 % 121);
            if grown.registration_mut(&format!("s1-{day}")).is_some_and(|row| row.registered) {
                correct(&mut grown, day, today);
                open.push((day, today));
                corrected += 1;
            }
            *school = grown;
        });
        sync.run(request(today).with_sweep(Sweep::default().with_nights(nights(EVERY)))).await.unwrap();
        let mut still_open = Vec::new();
        for (day, on) in open {
            let nights = (today - on).num_days();
            if is_corrected(&store, day).await {
                longest = longest.max(nights);
            } else {
                assert!(nights < i64::from(EVERY), "the correction of {day} on {on} is not known on {today}");
                still_open.push((day, on));
            }
        }
        open = still_open;
    }
    assert!(corrected > 100 && longest > 5, "{corrected} corrections, {longest} nights at most");
}
