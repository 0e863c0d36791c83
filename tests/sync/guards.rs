//! R11: what a plan writes and what it withholds.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use rollmark::model::{Code, Mark, OutOfSchool, Record, Registration, Status};
use rollmark::rules::{Freshness, Register, Resolver, Rules, Scope, Window};
use rollmark::store::{MarkKey, Snapshot, StoredMark, WithheldReason};
use rollmark::sync::{Guards, Plan};

fn date() -> NaiveDate {
    "2026-11-20".parse().unwrap()
}

fn fetched_at() -> DateTime<Utc> {
    "2026-11-20T18:00:00Z".parse().unwrap()
}

fn student(number: usize) -> String {
    format!("{:010}", 4_000_000_000 + number)
}

fn present(number: usize) -> Record {
    Record::Registration(
        Registration::new(student(number).as_str(), "2026-11-20T08:40:00".parse().unwrap())
            .with_id(number.to_string())
            .with_last_updated("2026-11-20T08:50:00".parse().unwrap()),
    )
}

fn absent(number: usize, stamp: &str) -> Record {
    Record::Registration(
        Registration::new(student(number).as_str(), "2026-11-20T08:40:00".parse().unwrap())
            .with_id(number.to_string())
            .with_registered(false)
            .with_code("17")
            .with_last_updated(stamp.parse().unwrap()),
    )
}

fn out_of_school(number: usize) -> Record {
    Record::OutOfSchool(
        OutOfSchool::new(student(number).as_str(), "2026-11-20".parse().unwrap(), None)
            .with_id(number.to_string())
            .with_last_updated("2026-11-20T09:00:00".parse().unwrap()),
    )
}

fn register(records: impl IntoIterator<Item = Record>) -> Register {
    let scope = Scope::all(Window::between(date(), date()).unwrap());
    let mut resolver = Resolver::new(Rules::new("Europe/London".parse().unwrap()), scope);
    resolver.push(Record::Code(Code::new("17", true).with_letter("M")));
    records.into_iter().for_each(|record| resolver.push(record));
    resolver.finish().unwrap()
}

fn stored(register: &Register, fetched_at: DateTime<Utc>) -> Snapshot {
    let stored = |mark: Mark| StoredMark::new(MarkKey::from(&mark), mark.content(), fetched_at, fetched_at);
    Snapshot::new(1, register.marks().map(stored).collect())
}

fn fresh() -> Freshness {
    Freshness::new(fetched_at(), TimeDelta::zero())
}

fn plan(before: &Register, after: &Register) -> Plan {
    Plan::new(&stored(before, fetched_at()), after, fresh(), 1, &Guards::default()).unwrap()
}

fn reasons(plan: &Plan) -> Vec<(WithheldReason, u64)> {
    plan.withheld_by_reason().into_iter().collect()
}

#[test]
fn equal_content_writes_nothing() {
    let register = register((0..5).map(present));
    let plan = plan(&register, &register);
    assert!(plan.changes.is_empty() && plan.withheld.is_empty());
    assert_eq!(plan.counts.unchanged, 5);
}

#[test]
fn new_and_changed_marks_are_written() {
    let before = register([present(1)]);
    let after = register([absent(1, "2026-11-20T10:00:00"), present(2)]);
    let plan = plan(&before, &after);
    assert_eq!((plan.counts.added, plan.counts.changed), (1, 1));
    let statuses: Vec<Status> = plan.changes.iter().map(|change| change.after.as_ref().unwrap().status).collect();
    assert_eq!(statuses, [Status::Absent, Status::Present]);
}

#[test]
fn a_removal_without_a_row_of_anybody_in_the_session_is_unproven() {
    let plan = plan(&register([present(1)]), &register([]));
    assert_eq!(reasons(&plan), [(WithheldReason::Unproven, 1)]);
    assert!(plan.changes.is_empty());
}

#[test]
fn a_removal_is_proven_by_a_row_of_another_student() {
    let plan = plan(&register((0..20).map(present)), &register((1..20).map(present)));
    assert_eq!((plan.counts.removed, plan.counts.withheld), (1, 0));
}

#[test]
fn more_than_fifty_removals_that_are_more_than_a_tenth_are_too_many() {
    let limits = [(51, 510, 0), (51, 509, 51), (50, 100, 0)];
    for (removed, before, withheld) in limits {
        let plan = plan(&register((0..before).map(present)), &register((removed..before).map(present)));
        assert_eq!(plan.counts.withheld, withheld, "{removed} of {before}");
        assert_eq!(plan.counts.removed, removed as u64 - withheld);
    }
}

#[test]
fn removing_every_mark_is_too_many_from_ten_on() {
    for (marks, withheld) in [(9, 0), (10, 10)] {
        let after = register([present(100)]);
        let plan = plan(&register((0..marks).map(present)), &after);
        assert_eq!(plan.counts.withheld, withheld, "{marks} marks");
    }
}

#[test]
fn the_caller_lifts_the_limit_but_never_the_proof() {
    let before = stored(&register((0..10).map(present)), fetched_at());
    let mut guards = Guards::default();
    guards.allow_removals = true;
    let proven = Plan::new(&before, &register([present(100)]), fresh(), 0, &guards).unwrap();
    assert_eq!((proven.counts.removed, proven.counts.withheld), (10, 0));
    let unproven = Plan::new(&before, &register([]), fresh(), 0, &guards).unwrap();
    assert_eq!(reasons(&unproven), [(WithheldReason::Unproven, 10)]);
}

#[test]
fn marks_of_out_of_school_records_stay_when_all_such_records_vanish() {
    let before = register((0..20).flat_map(|number| [present(number), out_of_school(number)]));
    let after = register((0..20).map(present));
    let plan_for = |rows| Plan::new(&stored(&before, fetched_at()), &after, fresh(), rows, &Guards::default()).unwrap();
    assert_eq!(reasons(&plan_for(0)), [(WithheldReason::OutOfSchoolVanished, 20)]);
    assert_eq!(plan_for(1).counts.changed, 20);
}

#[test]
fn a_reply_that_can_be_older_than_the_store_takes_nothing_back() {
    let before = register((0..20).map(present).chain([absent(30, "2026-11-20T10:00:00")]));
    let older = register((1..20).map(present).chain([absent(30, "2026-11-20T09:00:00")]));
    let later = fetched_at() + TimeDelta::hours(1);
    let cached = Freshness::new(later, TimeDelta::hours(2));
    let plan = Plan::new(&stored(&before, fetched_at()), &older, cached, 1, &Guards::default()).unwrap();
    assert_eq!(reasons(&plan), [(WithheldReason::MayBeStale, 2)]);

    let not_older = Freshness::new(later, TimeDelta::hours(1));
    let plan = Plan::new(&stored(&before, fetched_at()), &older, not_older, 1, &Guards::default()).unwrap();
    assert_eq!((plan.counts.removed, plan.counts.changed, plan.counts.withheld), (1, 1, 0));
}

#[test]
fn a_newer_stamp_is_written_however_old_the_reply_can_be() {
    let before = register([present(1)]);
    let after = register([absent(1, "2026-11-20T10:00:00")]);
    let cached = Freshness::new(fetched_at(), TimeDelta::hours(24));
    let plan = Plan::new(&stored(&before, fetched_at()), &after, cached, 1, &Guards::default()).unwrap();
    assert_eq!(plan.counts.changed, 1);
}

#[test]
fn more_than_two_hundred_changes_of_more_than_half_the_marks_stop_the_run() {
    let before = register((0..401).map(present));
    let after = |changed: usize| {
        register((0..401).map(
            |number| {
                if number < changed { absent(number, "2026-11-20T10:00:00") } else { present(number) }
            },
        ))
    };
    let snapshot = stored(&before, fetched_at());
    let stopped = Plan::new(&snapshot, &after(201), fresh(), 1, &Guards::default());
    let stopped = stopped.unwrap_err();
    assert_eq!((stopped.changed, stopped.marks), (201, 401));
    assert_eq!(Plan::new(&snapshot, &after(200), fresh(), 1, &Guards::default()).unwrap().counts.changed, 200);
    let mut allowed = Guards::default();
    allowed.allow_mass_change = true;
    assert_eq!(Plan::new(&snapshot, &after(201), fresh(), 1, &allowed).unwrap().counts.changed, 201);
}

#[test]
fn the_marks_after_a_plan_are_those_of_the_register() {
    let before = register([present(1), present(3), present(4)]);
    let after = register([present(0), absent(3, "2026-11-20T10:00:00"), present(4), present(9)]);
    let planned = plan(&before, &after);
    let marks = planned.applied_to(&stored(&before, fetched_at()), fresh());
    assert_eq!(marks, stored(&after, fetched_at()).marks());
}

/// Morning rows of these students on each of so many dates, and the closed dates.
fn term(students: std::ops::Range<usize>, dates: u32, closed: &[&str]) -> Register {
    let scope = Scope::all(Window::between("2026-11-01".parse().unwrap(), date()).unwrap());
    let resolver = Resolver::new(Rules::new("Europe/London".parse().unwrap()), scope);
    let mut resolver = resolver.with_closed_dates(closed.iter().map(|date| date.parse().unwrap()));
    for number in students {
        for day in 1..=dates {
            let at = format!("2026-11-{day:02}T08:40:00").parse().unwrap();
            resolver.push(Record::Registration(Registration::new(student(number).as_str(), at)));
        }
    }
    resolver.finish().unwrap()
}

fn plan_with(before: &Register, after: &Register, set: impl FnOnce(&mut Guards)) -> Plan {
    let mut guards = Guards::default();
    set(&mut guards);
    Plan::new(&stored(before, fetched_at()), after, fresh(), 1, &guards).unwrap()
}

#[test]
fn marks_of_a_student_of_whom_nothing_is_read_are_kept() {
    let plan = plan(&term(0..40, 5, &[]), &term(1..40, 5, &[]));
    assert_eq!((plan.counts.kept, plan.counts.removed, plan.counts.withheld), (5, 0, 0));
    assert_eq!(plan.vanished_students, [student(0).as_str().into()]);
    assert!(plan.changes.is_empty());
}

#[test]
fn on_few_dates_a_missing_student_says_nothing() {
    let plan = plan(&term(0..40, 4, &[]), &term(1..40, 4, &[]));
    assert_eq!((plan.counts.kept, plan.counts.removed), (0, 4));
}

#[test]
fn many_vanished_students_raise_an_alarm_until_the_caller_says_that_they_have_left() {
    for (gone, before, is_alarm) in [(11, 219, true), (11, 220, false), (10, 20, false)] {
        let (old, new) = (term(0..before, 5, &[]), term(gone..before, 5, &[]));
        let marks = 5 * gone as u64;
        let expected = if is_alarm { (0, marks) } else { (marks, 0) };
        let found = plan(&old, &new);
        assert_eq!((found.counts.kept, found.counts.withheld), expected, "{gone} of {before}");
        let left = plan_with(&old, &new, |guards| guards.leavers = true);
        assert_eq!((left.counts.kept, left.counts.withheld), (marks, 0));
        let allowed = plan_with(&old, &new, |guards| guards.allow_removals = true);
        assert_eq!((allowed.counts.kept, allowed.counts.removed), (0, marks));
    }
}

#[test]
fn an_out_of_school_record_or_a_lesson_shows_that_a_student_is_still_there() {
    let before = term(0..40, 5, &[]);
    let scope = before.scope().clone();
    let mut resolver = Resolver::new(Rules::new("Europe/London".parse().unwrap()), scope);
    resolver.push(out_of_school(0));
    for number in 1..40 {
        for day in 1..=5 {
            let at = format!("2026-11-{day:02}T08:40:00").parse().unwrap();
            resolver.push(Record::Registration(Registration::new(student(number).as_str(), at)));
        }
    }
    let plan = plan(&before, &resolver.finish().unwrap());
    assert_eq!((plan.counts.kept, plan.counts.removed), (0, 5));
}

#[test]
fn closed_dates_lose_their_marks_before_any_guard_looks() {
    let before = term(0..60, 5, &[]);
    let closed = ["2026-11-01", "2026-11-02", "2026-11-03"];
    let cached = Freshness::new(fetched_at(), TimeDelta::hours(24));
    let after = term(0..60, 5, &closed);
    let plan = Plan::new(&stored(&before, fetched_at()), &after, cached, 0, &Guards::default()).unwrap();
    assert_eq!((plan.counts.removed, plan.counts.withheld, plan.counts.unchanged), (180, 0, 120));
    let nothing_read = term(0..0, 0, &closed);
    let empty = Plan::new(&stored(&before, fetched_at()), &nothing_read, cached, 0, &Guards::default()).unwrap();
    assert_eq!((empty.counts.removed, empty.counts.withheld), (180, 120), "the proof is still needed elsewhere");
}

fn code_without_letter() -> Record {
    Record::Code(Code::new("17", true))
}

#[test]
fn a_letter_that_the_code_table_has_lost_is_kept() {
    let before = register([absent(1, "2026-11-20T09:00:00")]);
    let scope = before.scope().clone();
    let mut resolver = Resolver::new(Rules::new("Europe/London".parse().unwrap()), scope);
    resolver.push(absent(1, "2026-11-20T09:00:00"));
    let after = resolver.finish().unwrap();
    assert_eq!(reasons(&plan(&before, &after)), [(WithheldReason::CodeVanished, 1)]);
    let allowed = plan_with(&before, &after, |guards| guards.allow_mass_change = true);
    assert_eq!(allowed.counts.changed, 1);
    let mut without_letter = Resolver::new(Rules::new("Europe/London".parse().unwrap()), before.scope().clone());
    without_letter.extend([code_without_letter(), absent(1, "2026-11-20T09:00:00")]);
    let plan_without = plan(&before, &without_letter.finish().unwrap());
    assert_eq!(reasons(&plan_without), [(WithheldReason::CodeVanished, 1)], "a table without letters");
    let corrected = register([Record::Registration(
        Registration::new(student(1).as_str(), "2026-11-20T08:40:00".parse().unwrap())
            .with_registered(false)
            .with_code("99"),
    )]);
    assert_eq!(plan(&before, &corrected).counts.changed, 1, "another code is a correction");
}

#[test]
fn closed_dates_stand_outside_the_question_of_who_has_vanished() {
    let before = term(0..40, 6, &[]);
    let closed = ["2026-11-01"];
    let scope = before.scope().clone();
    let resolver = Resolver::new(Rules::new("Europe/London".parse().unwrap()), scope);
    let mut resolver = resolver.with_closed_dates(closed.iter().map(|date| date.parse().unwrap()));
    for number in 0..40 {
        for day in 1..=6 {
            // Of student 0 nothing but a row of the closed date is left.
            if number > 0 || day == 1 {
                let at = format!("2026-11-{day:02}T08:40:00").parse().unwrap();
                resolver.push(Record::Registration(Registration::new(student(number).as_str(), at)));
            }
        }
    }
    let plan = plan(&before, &resolver.finish().unwrap());
    assert_eq!((plan.counts.kept, plan.counts.removed), (5, 40));
}
