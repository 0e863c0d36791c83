//! The rules R1–R7, one statement each.

use rollmark::model::{
    Code, DecisionRule, Issue, LoserReason, Mark, OutOfSchool, Record, RecordKind, Registration, RegistrationPeriod,
    Session, SessionMark, SourceVerdict, Status, StudentId, UnreadableField,
};
use rollmark::rules::{MidnightEnd, PmRule, Register, ResolveError, Resolver, Rules, Scope, TieBreak, Window};

const DAY: &str = "2026-11-20";

fn rules() -> Rules {
    Rules::new("Europe/London".parse().unwrap())
}

fn row(id: &str, at: &str, updated: &str) -> Registration {
    let mut record = Registration::new("1", format!("{DAY}T{at}").parse().unwrap());
    record.id = Some(id.into());
    record.last_updated = updated.parse().ok();
    record
}

fn out(id: &str, from: &str, to: &str, updated: &str) -> OutOfSchool {
    let mut record = OutOfSchool::new("1", from.parse().unwrap(), to.parse().ok());
    record.id = Some(id.into());
    record.last_updated = updated.parse().ok();
    record
}

fn code(id: &str, letter: &str, absence: bool) -> Record {
    Record::Code(Code::new(id, absence).with_letter(letter).with_active(false))
}

fn period(id: &str, at: &str, session: Option<&str>) -> Record {
    Record::Period({
        let mut period = RegistrationPeriod::new(id, format!("{DAY}T{at}").parse().unwrap());
        period.session = session.map(Into::into);
        period
    })
}

fn resolve(rules: Rules, records: Vec<Record>) -> Result<Register, ResolveError> {
    let day = DAY.parse().unwrap();
    let mut resolver = Resolver::new(rules, Scope::all(Window::between(day, day).unwrap().with_today(day)));
    resolver.push(code("17", "M", true));
    resolver.push(code("2", "V", false));
    records.into_iter().for_each(|record| resolver.push(record));
    resolver.finish()
}

fn register(records: Vec<Record>) -> Register {
    resolve(rules(), records).unwrap()
}

fn mark(register: &Register, session: Session) -> Option<Mark> {
    register.mark(&StudentId::new("1"), DAY.parse().unwrap(), session)
}

fn winner(register: &Register, session: Session) -> String {
    mark(register, session).unwrap().decision.winner.id.unwrap().to_string()
}

use Record::{OutOfSchool as Out, Registration as Row};
use Session::{Am, Pm};

#[test]
fn r1_and_r4_many_rows_of_one_register_are_duplicates_once_however_often_they_come() {
    let rows = (0..40).map(|number| Row(row(&number.to_string(), "08:40:00", "2026-11-20T09:00:00")));
    let register = register(rows.clone().chain(rows.clone()).chain(rows).collect());
    assert_eq!(winner(&register, Am), "39");
    assert_eq!(register.issues().count(Issue::DuplicateRegistration), 39);
    let decision = mark(&register, Am).unwrap().decision;
    assert_eq!(decision.losers.len() as u64 + decision.more_losers, 39);
}

#[test]
fn r1_a_stamp_of_tomorrow_wins_and_is_an_issue() {
    let register = register(vec![
        Row(row("1", "08:40:00", "2026-11-20T23:59:59")),
        Out(out("9", "2026-11-20", "", "2026-11-21T00:00:00")),
    ]);
    assert_eq!(winner(&register, Am), "9");
    assert_eq!(register.issues().count(Issue::ImplausibleTimestamp), 1);
}

#[test]
fn r1_an_end_before_1990_is_missing() {
    let register = register(vec![
        Row(row("1", "13:30:00", "2026-11-20T08:00:00")),
        Out(out("9", "2026-11-20T09:00:00", "1900-01-01T00:00:00", "2026-11-20T09:00:00")),
    ]);
    assert_eq!(winner(&register, Pm), "9");
    assert_eq!(register.issues().count(Issue::MissingEnd), 1);
    assert_eq!(register.issues().count(Issue::InvalidSpan), 0);
}

#[test]
fn r1_only_the_latest_version_of_a_record_counts_even_where_it_left_the_day() {
    let register = register(vec![
        Row(row("1", "08:40:00", "2026-11-20T08:00:00")),
        Out(out("9", "2026-11-20", "", "2026-11-20T09:00:00")),
        Out(out("9", "2026-11-27", "2026-11-27", "2026-11-20T10:00:00")),
    ]);
    assert_eq!(mark(&register, Am).unwrap().status, Status::Present);
    assert_eq!(register.issues().count(Issue::ConflictingRecord), 1, "the day has lost its record");
}

#[test]
fn r1_records_without_an_id_are_no_versions_of_each_other() {
    let nameless = |to: &str, updated: &str| {
        let mut record = out("", "2026-11-20", to, updated);
        record.id = None;
        record
    };
    let register = register(vec![
        Row(row("1", "08:40:00", "2026-11-20T08:00:00")),
        Out(nameless("2026-11-20", "2026-11-20T09:00:00")),
        Out(nameless("2026-11-21", "2026-11-20T10:00:00")),
    ]);
    assert_eq!(mark(&register, Am).unwrap().decision.losers.len(), 2);
}

#[test]
fn r1_an_empty_text_is_missing_from_whatever_source_it_comes() {
    let register = register(vec![
        Row(row("1", "08:40:00", "").with_registered(false).with_code("")),
        Row(row("2", "13:30:00", "")),
        Out(out("", "2026-11-20T13:00:00", "2026-11-20T15:00:00", "2026-11-20T09:00:00")),
        Out(out(" ", "2026-11-20T12:30:00", "2026-11-21T15:00:00", "2026-11-20T10:00:00")),
    ]);
    assert_eq!(mark(&register, Am).unwrap().status, Status::NotTaken, "an empty code is no code");
    let pm = mark(&register, Pm).unwrap().decision;
    assert_eq!((pm.winner.id, pm.losers.len()), (None, 2), "an empty id groups nothing");
    assert_eq!(register.issues().count(Issue::ConflictingRecord), 0);
}

#[test]
fn r1_the_greatest_of_conflicting_codes_counts() {
    let register =
        register(vec![code("17", "N", true), Row(row("1", "08:40:00", "").with_registered(false).with_code("17"))]);
    assert_eq!(mark(&register, Am).unwrap().code.as_deref(), Some("N"));
    assert_eq!(register.issues().count(Issue::ConflictingRecord), 1);
}

#[test]
fn r2_a_row_says_what_its_flag_code_and_lateness_say() {
    let status = |change: fn(&mut Registration)| {
        let mut row = row("1", "08:40:00", "");
        change(&mut row);
        let mark = mark(&register(vec![Row(row)]), Am).unwrap();
        (mark.status, mark.minutes_late, mark.code.map(String::from))
    };
    assert_eq!(status(|_| {}), (Status::Present, None, None));
    assert_eq!(status(|row| row.late = true), (Status::Late, None, None));
    assert_eq!(
        status(|row| (row.late, row.minutes_late) = (true, Some(0))),
        (Status::Late, Some(0), None),
        "0 minutes are minutes"
    );
    assert_eq!(status(|row| row.minutes_late = Some(5)), (Status::Present, None, None), "minutes exist only on late");
    assert_eq!(status(|row| row.registered = false), (Status::NotTaken, None, None));
    assert_eq!(
        status(|row| (row.registered, row.late) = (false, true)),
        (Status::NotTaken, None, None),
        "late with registered no changes nothing"
    );
    let coded = |letter: &str, status| (status, None, Some(letter.to_owned()));
    assert_eq!(status(|row| (row.registered, row.code) = (false, Some("17".into()))), coded("M", Status::Absent));
    assert_eq!(status(|row| (row.registered, row.code) = (false, Some("V".into()))), coded("V", Status::NotRequired));
    assert_eq!(
        status(|row| (row.registered, row.code) = (false, Some("99".into()))),
        (Status::UnknownCode, None, None)
    );
    assert_eq!(status(|row| row.code = Some("17".into())), coded("M", Status::Present));
}

#[test]
fn r2_a_letter_that_two_codes_have_finds_none() {
    let register =
        register(vec![code("18", "M", true), Row(row("1", "08:40:00", "").with_registered(false).with_code("M"))]);
    let mark = mark(&register, Am).unwrap();
    assert_eq!((mark.status, mark.raw_code), (Status::UnknownCode, Some("M".into())));
}

#[test]
fn r2_without_a_code_table_any_code_is_an_absence() {
    let day = DAY.parse().unwrap();
    let mut resolver = Resolver::new(rules(), Scope::all(Window::between(day, day).unwrap()));
    resolver.push(Row(row("1", "08:40:00", "").with_registered(false).with_code("2")));
    let register = resolver.finish().unwrap();
    let mark = mark(&register, Am).unwrap();
    assert_eq!((mark.status, mark.code, mark.raw_code), (Status::Absent, None, Some("2".into())));
    assert_eq!(register.issues().count(Issue::NoCodeTable), 1);
    assert_eq!(register.issues().count(Issue::UnknownCode), 0);
}

#[test]
fn r2_a_source_can_judge_itself() {
    let judged = |taken, out_of_school| {
        let verdict = Some(SourceVerdict::new(taken, out_of_school));
        let register = register(vec![Row({
            let mut record = row("1", "08:40:00", "");
            record.registered = false;
            record.verdict = verdict;
            record
        })]);
        let mark = mark(&register, Am).unwrap();
        assert!(mark.decision.judged_by_source);
        assert_eq!(mark.decision.winner.kind, RecordKind::Registration);
        (mark.status, register.issues().count(Issue::AbsentWithoutCode))
    };
    assert_eq!(judged(true, true), (Status::Absent, 0));
    assert_eq!(judged(false, true), (Status::Absent, 0));
    assert_eq!(judged(true, false), (Status::Absent, 1));
    assert_eq!(judged(false, false), (Status::NotTaken, 0));
}

#[test]
fn r3_the_pm_start_is_inclusive_and_each_half_days_earliest_register_counts() {
    let rows = || ["11:59:59", "08:40:00", "12:00:00", "13:30:00"].map(|at| Row(row(at, at, ""))).to_vec();
    let by_noon = register(rows());
    assert_eq!((winner(&by_noon, Am), winner(&by_noon, Pm)), ("08:40:00".into(), "12:00:00".into()));
    let later = rules().with_pm(PmRule::FirstFrom("13:30:00".parse().unwrap()));
    assert_eq!(winner(&resolve(later, rows()).unwrap(), Pm), "13:30:00");
}

#[test]
fn r3_the_period_rule_passes_over_lessons_and_unknown_periods() {
    let in_period = |period: &str, at: &str| Row(row(period, at, "").with_period(period));
    let register = resolve(
        rules().with_pm(PmRule::RegistrationPeriods),
        vec![
            period("10", "08:40:00", Some("AM")),
            period("11", "09:00:00", None),
            period("12", "11:00:00", Some("pm")),
            in_period("11", "08:00:00"),
            in_period("99", "08:01:00"),
            in_period("12", "11:05:00"),
            in_period("10", "08:45:00"),
        ],
    )
    .unwrap();
    assert_eq!((winner(&register, Am), winner(&register, Pm)), ("10".into(), "12".into()));
    assert_eq!(register.issues().count(Issue::UnknownPeriod), 1);
    assert!(!register.proves_absence_of_mark(&"1".into(), DAY.parse().unwrap(), Am), "a row had an unknown period");
}

#[test]
fn r3_conflicting_periods_settle_alike_before_and_after_the_registrations() {
    let registration = Row(row("1", "08:40:00", "").with_period("10"));
    let conflicting = [period("10", "08:40:00", Some("AM")), period("10", "08:40:00", Some("PM"))];
    let first = [conflicting.to_vec(), vec![registration.clone()]].concat();
    let last = [vec![registration], conflicting.to_vec()].concat();
    let rules = rules().with_pm(PmRule::RegistrationPeriods);
    for records in [first, last] {
        let register = resolve(rules.clone(), records).unwrap();
        assert_eq!(winner(&register, Pm), "1");
        assert_eq!(register.issues().count(Issue::ConflictingRecord), 1);
    }
}

#[test]
fn r4_of_two_rows_of_one_register_the_later_then_the_taken_then_the_greater_id_counts() {
    let not_taken = |row: Registration| row.with_registered(false);
    let at = "08:40:00";
    let (nine, ten) = ("2026-11-20T09:00:00", "2026-11-20T10:00:00");
    let later = register(vec![Row(row("2", at, nine)), Row(not_taken(row("1", at, ten)))]);
    assert_eq!(winner(&later, Am), "1");
    assert_eq!(mark(&later, Am).unwrap().status, Status::NotTaken);
    let taken = register(vec![Row(row("1", at, nine)), Row(not_taken(row("2", at, nine)))]);
    assert_eq!(winner(&taken, Am), "1");
    let by_id = register(vec![Row(row("9", at, nine)), Row(row("10", at, nine)), Row(row("", at, nine))]);
    assert_eq!(winner(&by_id, Am), "10");
    assert_eq!(by_id.issues().count(Issue::DuplicateRegistration), 2);
    let losers = mark(&by_id, Am).unwrap().decision.losers;
    assert!(losers.iter().all(|loser| loser.why == LoserReason::Duplicate));
}

#[test]
fn r5_a_span_covers_its_beginning_but_not_its_end() {
    let covered = |from: &str, to: &str| {
        let register = register(vec![
            Row(row("1", "13:30:00", "2026-11-20T08:00:00")),
            Out(out("9", from, to, "2026-11-20T09:00:00")),
        ]);
        winner(&register, Pm) == "9"
    };
    assert!(covered("2026-11-20T13:30:00", "2026-11-20T13:30:01"));
    assert!(!covered("2026-11-20T10:00:00", "2026-11-20T13:30:00"), "a pupil back at 13:30 is expected at 13:30");
    assert!(covered("2026-11-18", "2026-11-20"), "a bare end date is included whole");
    assert!(!covered("2026-11-18", "2026-11-20T00:00:00"), "midnight is a time, not a bare date");
    assert!(covered("2026-11-20T09:00:00", ""), "without an end, to the end of the day of its beginning");
    assert!(!covered("2026-11-19T09:00:00", ""));
    assert!(!covered("2026-11-20T14:00:00", "2026-11-20T13:00:00"));
}

#[test]
fn r5_without_a_registration_a_span_covers_the_half_days_it_overlaps() {
    let other = {
        let mut record = row("1", "08:40:00", "");
        record.student = "2".into();
        record
    };
    let other_pm = {
        let mut record = row("1", "13:30:00", "");
        record.student = "2".into();
        record
    };
    let both = |from: &str, to: &str| {
        let records = vec![Row(other.clone()), Row(other_pm.clone()), Out(out("9", from, to, ""))];
        let register = register(records);
        Session::BOTH.map(|session| mark(&register, session).is_some())
    };
    assert_eq!(both("2026-11-20T05:00:00", "2026-11-20T06:00:00"), [true, false], "also outside lesson hours");
    assert_eq!(both("2026-11-20T11:00:00", "2026-11-20T12:00:00"), [true, false]);
    assert_eq!(both("2026-11-20T11:00:00", "2026-11-20T12:00:01"), [true, true]);
    assert_eq!(both("2026-11-19T11:00:00", "2026-11-20T00:00:00"), [false, false]);
}

#[test]
fn r5_spans_read_as_the_wall_reads_when_the_clocks_change() {
    let day = "2026-03-29".parse().unwrap();
    let mut resolver = Resolver::new(rules(), Scope::all(Window::between(day, day).unwrap()));
    resolver.push(Row(Registration::new("1", "2026-03-29T08:40:00+01:00".parse().unwrap())));
    // 07:50Z is 08:50 on the wall, after the register.
    let span = OutOfSchool::new("1", "2026-03-29T00:00:00".parse().unwrap(), "2026-03-29T07:50:00Z".parse().ok());
    resolver.push(Out(span));
    let register = resolver.finish().unwrap();
    let mark = register.mark(&"1".into(), day, Am).unwrap();
    assert_eq!(mark.decision.winner.kind, RecordKind::OutOfSchool);
}

#[test]
fn r6_a_missing_stamp_is_older_than_any_and_a_tie_goes_as_asked() {
    let decide = |tie, row_updated: &str, out_updated: &str| {
        let records = vec![Row(row("1", "08:40:00", row_updated)), Out(out("9", "2026-11-20", "", out_updated))];
        let mark = mark(&resolve(rules().with_tie_break(tie), records).unwrap(), Am).unwrap();
        (mark.decision.winner.id.unwrap().to_string(), mark.decision.rule.name(), mark.decision.losers[0].why)
    };
    let won = |id: &str, rule, why| (id.to_owned(), rule, why);
    let nine = "2026-11-20T09:00:00";
    assert_eq!(decide(TieBreak::OutOfSchool, nine, ""), won("1", "latest_update", LoserReason::NoTimestamp));
    assert_eq!(decide(TieBreak::OutOfSchool, nine, "2026-11-20T09:00:00Z"), won("9", "tie_break", LoserReason::Tie));
    assert_eq!(decide(TieBreak::Registration, nine, nine), won("1", "tie_break", LoserReason::Tie));
    assert_eq!(decide(TieBreak::Registration, "", ""), won("1", "tie_break", LoserReason::Tie));
}

#[test]
fn r6_between_out_of_school_records_the_later_beginning_then_the_shorter_then_the_greater_id_wins() {
    let updated = "2026-11-20T09:00:00";
    let wins = |records: [OutOfSchool; 2]| {
        let records = records.map(Out).into_iter().chain([Row(row("1", "08:40:00", ""))]).collect();
        winner(&register(records), Am)
    };
    let (early, late) = ("2026-11-19T00:00:00", "2026-11-20T08:00:00");
    let (ten, noon) = ("2026-11-20T10:00:00", "2026-11-20T12:00:00");
    assert_eq!(wins([out("1", late, noon, updated), out("2", early, ten, updated)]), "1");
    assert_eq!(wins([out("1", late, ten, updated), out("2", late, noon, updated)]), "1");
    assert_eq!(wins([out("9", late, ten, updated), out("10", late, ten, updated)]), "10");
}

#[test]
fn r6_between_equal_intervals_the_code_decides_however_the_times_are_written() {
    let coded = |to: &str, code: &str| {
        let mut record = out("", "2026-11-20T08:00:00", to, "2026-11-20T09:00:00");
        (record.id, record.code) = (None, Some(code.into()));
        Out(record)
    };
    for (one, other) in [("2026-11-20T12:00:00", "2026-11-20T12:00:00Z"), ("2026-11-21", "2026-11-21T24:00:00")] {
        for (of_one, of_other) in [("17", "2"), ("2", "17")] {
            let records = vec![Row(row("1", "08:40:00", "")), coded(one, of_one), coded(other, of_other)];
            assert_eq!(mark(&register(records), Am).unwrap().raw_code.unwrap().as_str(), "2", "{one} {of_one}");
        }
    }
}

#[test]
fn r6_a_register_that_was_not_taken_yields_whatever_the_stamps() {
    let register = register(vec![
        Row(row("1", "08:40:00", "2026-11-20T12:00:00").with_registered(false)),
        Out(out("9", "2026-11-20", "", "")),
        Out(out("8", "2026-11-20", "", "2026-11-19T12:00:00")),
    ]);
    let decision = mark(&register, Am).unwrap().decision;
    assert_eq!((decision.winner.id, decision.rule.name()), (Some("8".into()), "not_taken_yields"));
    assert_eq!(
        decision.losers.iter().map(|loser| loser.why).collect::<Vec<_>>(),
        [LoserReason::NoTimestamp, LoserReason::NotTaken]
    );
}

#[test]
fn r7_an_out_of_school_record_alone_makes_a_mark_only_where_school_was_in_session() {
    let alone = register(vec![Out(out("9", "2026-11-01", "2026-11-30", ""))]);
    assert_eq!(alone.marks().count(), 0);
    let others_register = {
        let mut record = row("1", "08:40:00", "");
        record.student = "2".into();
        record.registered = false;
        record
    };
    let with_another = register(vec![Row(others_register), Out(out("9", "2026-11-01", "2026-11-30", ""))]);
    assert!(mark(&with_another, Am).is_some());
    assert!(mark(&with_another, Pm).is_none());
    let by_periods = rules().with_pm(PmRule::RegistrationPeriods);
    let listed = vec![period("10", "13:30:00", Some("pm")), Out(out("9", "2026-11-01", "2026-11-30", ""))];
    assert!(mark(&resolve(by_periods, listed).unwrap(), Pm).is_some());
}

#[test]
fn the_period_rule_without_periods_is_an_error_where_there_are_registrations() {
    let by_periods = rules().with_pm(PmRule::RegistrationPeriods);
    assert_eq!(resolve(by_periods.clone(), vec![Row(row("1", "08:40:00", ""))]).unwrap_err(), ResolveError::NoPeriods);
    assert!(resolve(by_periods, vec![]).is_ok());
}

/// A week of morning rows of student 1, resolved with these out-of-school records.
fn week(rules: Rules, records: Vec<OutOfSchool>) -> Register {
    let [from, to] = ["2026-11-16", "2026-11-20"].map(|date| date.parse().unwrap());
    let mut resolver = Resolver::new(rules, Scope::all(Window::between(from, to).unwrap()));
    resolver.push(code("17", "M", true));
    for date in 16..=20 {
        let at = format!("2026-11-{date}T08:40:00");
        resolver.push(Row({
            let mut record = Registration::new("1", at.parse().unwrap());
            record.last_updated = format!("2026-11-{date}T08:45:00").parse().ok();
            record
        }));
    }
    resolver.extend(records.into_iter().map(|record| Out(record.with_code("17"))));
    resolver.finish().unwrap()
}

/// The days of November 2026 on which student 1 is away.
fn away(register: &Register) -> Vec<String> {
    let absent = |mark: &Mark| mark.status == Status::Absent;
    register.marks().filter(absent).map(|mark| mark.date.format("%d").to_string()).collect()
}

const SAVED: &str = "2026-11-20T12:00:00";

#[test]
fn r1_a_series_under_one_id_counts_where_its_records_were_saved_together_and_do_not_overlap() {
    let on = |day: u32, saved: &str| out("60", &format!("2026-11-{day}"), &format!("2026-11-{day}"), saved);
    let series = week(rules(), vec![on(16, SAVED), on(17, SAVED), on(19, "2026-11-20T11:59:00")]);
    assert_eq!(away(&series), ["16", "17", "19"]);
    assert_eq!(series.issues().count(Issue::ConflictingRecord), 0);

    let moved = week(rules(), vec![on(16, SAVED), on(19, "2026-11-20T11:58:59")]);
    assert_eq!(away(&moved), ["16"], "more than 60 seconds older: a superseded version");
    assert_eq!(moved.issues().count(Issue::ConflictingRecord), 1);

    let without_stamps = week(rules().with_tie_break(TieBreak::OutOfSchool), vec![on(16, ""), on(17, SAVED)]);
    assert_eq!(away(&without_stamps), ["17"], "a missing stamp is older than any");
}

#[test]
fn r1_of_overlapping_versions_only_the_newest_counts() {
    let span = |from: &str, to: &str, saved: &str| out("60", from, to, saved);
    let newest = span("2026-11-17", "2026-11-17", SAVED);
    let wider = span("2026-11-16", "2026-11-18", "2026-11-20T11:59:30");
    let apart = span("2026-11-20", "2026-11-20", "2026-11-20T11:59:30");
    let register = week(rules(), vec![wider, newest, apart]);
    assert_eq!(away(&register), ["17"]);
    assert_eq!(register.issues().count(Issue::ConflictingRecord), 1, "only the version that lies apart");
}

#[test]
fn r1_ids_that_differ_only_in_case_are_an_issue_once_a_pair() {
    let of = |student: &str| {
        Row({
            let mut record = row("1", "08:40:00", "");
            record.student = student.into();
            record
        })
    };
    let elsewhere = {
        let mut record = out("9", "2026-10-01", "2026-10-02", "");
        record.student = "ab3".into();
        record
    };
    let here = {
        let mut record = out("8", DAY, DAY, "");
        record.student = "Ab1".into();
        record
    };
    let register = register(vec![of("AB1"), of("ab1"), of("AB2"), of("AB3"), Out(here), Out(elsewhere)]);
    assert_eq!(register.issues().count(Issue::SimilarIds), 3, "three pairs of one id, none of a record elsewhere");
}

#[test]
fn r5_a_midnight_that_ends_a_day_is_read_as_the_school_means_it() {
    let days = |from: &str, to: &str, midnight_end| {
        let register = week(rules().with_midnight_end(midnight_end), vec![out("1", from, to, SAVED)]);
        (away(&register).join(" "), register.issues().count(Issue::MidnightEnd))
    };
    let (excluded, included) = (MidnightEnd::Excluded, MidnightEnd::IncludesDate);
    for (from, to, by_default, otherwise) in [
        ("2026-11-17T00:00:00", "2026-11-17T00:00:00", ("17", 1), ("17", 1)),
        ("2026-11-17T08:00:00", "2026-11-17T00:00:00", ("17", 1), ("17", 1)),
        ("2026-11-17T00:00:00", "2026-11-19T00:00:00", ("17 18", 1), ("17 18 19", 1)),
        ("2026-11-17T08:00:00", "2026-11-19T00:00:00", ("17 18", 0), ("17 18", 0)),
        ("2026-11-17", "2026-11-19T00:00:00", ("17 18", 0), ("17 18", 0)),
        ("2026-11-17T00:00:00", "2026-11-18T24:00:00", ("17 18", 0), ("17 18", 0)),
        ("2026-11-17T00:00:00", "2026-11-17T24:00", ("17", 0), ("17", 0)),
        ("2026-11-17T00:00:00", "2026-11-16T00:00:00", ("", 0), ("", 0)),
    ] {
        let expected = |(days, issues): (&str, u64)| (days.to_owned(), issues);
        assert_eq!(days(from, to, excluded), expected(by_default), "{from} {to}");
        assert_eq!(days(from, to, included), expected(otherwise), "{from} {to}, included");
    }
}

#[test]
fn r5_whole_days_beside_longer_spans_show_how_the_school_means_midnight() {
    let same = || out("1", "2026-11-17T00:00:00", "2026-11-17T00:00:00", SAVED);
    let later = || out("2", "2026-11-18T00:00:00", "2026-11-19T00:00:00", SAVED);
    assert!(week(rules(), vec![same(), later()]).midnight_ends_are_meant());
    assert!(!week(rules(), vec![same()]).midnight_ends_are_meant());
    assert!(!week(rules(), vec![later()]).midnight_ends_are_meant());
}

#[test]
fn r10_a_decision_lists_a_dozen_losers_and_counts_the_rest() {
    let spans = (0..20).map(|number| Out(out(&number.to_string(), DAY, DAY, &format!("{DAY}T10:{number:02}:00"))));
    let mark = mark(&register(spans.chain([Row(row("1", "08:40:00", ""))]).collect()), Am).unwrap();
    assert_eq!((mark.decision.losers.len(), mark.decision.more_losers), (12, 8));
    assert_eq!(mark.decision.winner.id, Some("19".into()));
    assert!(mark.decision.to_string().contains("8 more records"), "{}", mark.decision);
}

fn session_mark(id: &str, session: Session, updated: &str) -> SessionMark {
    let mut mark = SessionMark::new("1", DAY.parse().unwrap(), session);
    (mark.id, mark.last_updated) = (Some(id.into()), updated.parse().ok());
    mark
}

fn present(mut mark: SessionMark) -> Record {
    mark.present = true;
    Record::SessionMark(mark)
}

fn coded(code: &str, mut mark: SessionMark) -> Record {
    mark.code = Some(code.into());
    Record::SessionMark(mark)
}

#[test]
fn a_session_mark_is_its_sessions_only_candidate() {
    let newer_absence = out("9", "2026-11-20", "2026-11-20", "2026-11-20T17:00:00");
    for rules in [rules(), rules().with_pm(PmRule::RegistrationPeriods)] {
        let mark_of_am = present(session_mark("7", Am, "2026-11-20T09:00:00"));
        let register = resolve(rules, vec![mark_of_am, Out(newer_absence.clone())]).unwrap();
        let decided = mark(&register, Am).unwrap();
        assert_eq!((decided.status, decided.decision.rule), (Status::Present, DecisionRule::OnlyCandidate));
        assert_eq!(decided.decision.winner.kind, RecordKind::SessionMark);
        assert_eq!(decided.decision.registration, None);
        assert!(decided.to_json_line().contains(r#""decided_by":"session_mark","record_id":"7""#));
        assert!(
            decided.decision.to_string().starts_with("the session mark 7, updated 2026-11-20T09:00:00Z, is the only")
        );
        assert!(mark(&register, Pm).is_none(), "an out-of-school record decides nothing beside session marks");
        assert_eq!(register.issues().iter().count(), 0);
    }
}

#[test]
fn r2_a_session_mark_says_what_its_presence_code_and_lateness_say() {
    for (is_present, code, late, minutes, status, letter, shown_minutes) in [
        (true, None, false, None, Status::Present, None, None),
        (true, Some("17"), false, Some(4), Status::Present, Some("M"), None),
        (true, None, true, Some(4), Status::Late, None, Some(4)),
        (true, None, true, None, Status::Late, None, None),
        (false, Some("17"), false, Some(4), Status::Absent, Some("M"), None),
        (false, Some("V"), false, None, Status::NotRequired, Some("V"), None),
        (false, Some("99"), false, None, Status::UnknownCode, None, None),
        (false, None, false, None, Status::NotTaken, None, None),
        (false, None, true, Some(4), Status::NotTaken, None, None),
    ] {
        let mut given = session_mark("7", Pm, "");
        (given.present, given.late, given.minutes_late) = (is_present, late, minutes);
        given.code = code.map(Into::into);
        let register = register(vec![Record::SessionMark(given)]);
        let mark = mark(&register, Pm).unwrap();
        assert_eq!((mark.status, mark.code.as_deref(), mark.minutes_late), (status, letter, shown_minutes), "{code:?}");
        assert_eq!(mark.raw_code.as_ref().map(ToString::to_string).as_deref(), code);
        assert_eq!(register.issues().count(Issue::UnknownCode), u64::from(status == Status::UnknownCode));
    }
}

#[test]
fn r2_without_a_code_table_every_code_of_a_session_mark_is_an_absence() {
    let day = DAY.parse().unwrap();
    let mut resolver = Resolver::new(rules(), Scope::all(Window::day(day)));
    resolver.push(coded("V", session_mark("7", Am, "")));
    let register = resolver.finish().unwrap();
    let mark = mark(&register, Am).unwrap();
    assert_eq!((mark.status, mark.code), (Status::Absent, None));
    assert_eq!(register.issues().count(Issue::NoCodeTable), 1);
    assert!(register.has_coded_records());
}

#[test]
fn r4_of_several_session_marks_the_greatest_counts_and_the_others_are_duplicates() {
    for (marks, winning) in [
        // The later update, then taken over not taken, then the id.
        (
            vec![
                present(session_mark("8", Am, "2026-11-20T09:00:00")),
                coded("17", session_mark("7", Am, "2026-11-20T10:00:00")),
            ],
            "7",
        ),
        (vec![present(session_mark("8", Am, "")), coded("17", session_mark("7", Am, "2026-11-20T10:00:00"))], "7"),
        (vec![Record::SessionMark(session_mark("8", Am, "")), coded("17", session_mark("7", Am, ""))], "7"),
        (vec![present(session_mark("10", Am, "")), coded("17", session_mark("9", Am, ""))], "10"),
    ] {
        let there_and_back = marks.iter().chain(marks.iter().rev()).cloned().collect();
        let register = register(there_and_back);
        let decision = mark(&register, Am).unwrap().decision;
        assert_eq!(decision.winner.id.as_ref().unwrap().as_str(), winning);
        assert_eq!(decision.rule, DecisionRule::OnlyCandidate);
        let losers: Vec<_> = decision.losers.iter().map(|loser| (loser.record.kind, loser.why)).collect();
        assert_eq!(losers, [(RecordKind::SessionMark, LoserReason::Duplicate)]);
        assert!(decision.to_string().ends_with("; another session mark was ignored"), "{decision}");
        assert_eq!(register.issues().count(Issue::DuplicateRegistration), 1);
    }
}

#[test]
fn r7_session_marks_stand_in_place_of_rows() {
    let ben = SessionMark::new("2", DAY.parse().unwrap(), Am);
    let alike = |id: &str| SessionMark::new(id, DAY.parse().unwrap(), Am);
    let records = vec![present(ben), present(alike("x")), coded("17", alike("X"))];
    let register = register(records.clone());
    let (day, amelia) = (DAY.parse().unwrap(), StudentId::new("1"));
    assert!(register.proves_absence_of_mark(&amelia, day, Am), "a session mark of anybody is proof");
    assert!(!register.proves_absence_of_mark(&amelia, day, Pm));
    assert!(register.has_records_of(&StudentId::new("2")) && !register.has_records_of(&amelia));
    assert_eq!(register.dates_with_registrations(), 1);
    assert!(register.has_coded_records());
    assert_eq!(register.issues().count(Issue::SimilarIds), 1);

    let mut closed = Resolver::new(rules(), Scope::all(Window::day(day))).with_closed_dates([day]);
    closed.extend(records);
    let closed = closed.finish().unwrap();
    assert_eq!((closed.marks().count(), closed.dates_with_registrations()), (0, 0));
    assert!(!closed.has_records_of(&StudentId::new("2")));
}

#[test]
fn r8_session_marks_outside_the_window_are_dropped() {
    let before = SessionMark::new("1", "2026-11-19".parse().unwrap(), Am);
    let register = register(vec![present(before), Row(row("1", "08:40:00", ""))]);
    assert_eq!(mark(&register, Am).unwrap().decision.winner.kind, RecordKind::Registration);
    assert_eq!(register.marks().count(), 1);
}

#[test]
fn registrations_and_session_marks_in_one_fetch_are_an_error() {
    let (row, mark) = (Row(row("1", "08:40:00", "")), present(session_mark("7", Pm, "")));
    for records in [vec![row.clone(), mark.clone()], vec![mark, row]] {
        assert_eq!(resolve(rules(), records).unwrap_err(), ResolveError::BothKinds);
    }
}

#[test]
fn r10_session_marks_raise_the_issues_of_their_content() {
    let mut odd = session_mark("7", Am, "2026-11-21T00:00:00");
    odd.unreadable = vec![UnreadableField::new("minutes")];
    let register = register(vec![coded("99", odd)]);
    for issue in [Issue::BadValue, Issue::ImplausibleTimestamp, Issue::UnknownCode] {
        assert_eq!(register.issues().count(issue), 1, "{issue}");
    }
}

#[test]
fn a_session_mark_is_kept_whole_in_files_and_debug_leaves_its_comment_out() {
    let mut mark = session_mark("7", Am, "2026-11-20T09:00:00+01:00");
    mark.comment = Some("has the flu".into());
    let record = coded("17", mark);
    let text = serde_json::to_string(&record).unwrap();
    assert!(
        text.starts_with(r#"{"kind":"session_mark","id":"7","student":"1","date":"2026-11-20","session":"AM""#),
        "{text}"
    );
    assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    assert!(!format!("{record:?}").contains("flu"));
    let short = r#"{"kind":"session_mark","student":"1","date":"2026-11-20","session":"PM","present":true}"#;
    let expected = present(SessionMark::new("1", DAY.parse().unwrap(), Pm));
    assert_eq!(serde_json::from_str::<Record>(short).unwrap(), expected);
}

#[test]
fn a_decisions_sentence_for_a_parent_names_no_record() {
    let mut resolver =
        Resolver::new(Rules::new("Europe/London".parse().unwrap()), Window::day("2026-11-20".parse().unwrap()));
    let row = Registration::new("1", "2026-11-20T08:40:00".parse().unwrap()).with_id("101");
    resolver.push(Record::Registration(row.with_last_updated("2026-11-20T08:50:00".parse().unwrap())));
    let away = OutOfSchool::new("1", "2026-11-20T08:00:00".parse().unwrap(), None).with_id("901");
    resolver.push(Record::OutOfSchool(away.with_last_updated("2026-11-20T09:00:00".parse().unwrap())));
    let register = resolver.finish().unwrap();
    let mark = register.mark(&"1".into(), "2026-11-20".parse().unwrap(), Session::Am).unwrap();
    let sentence = mark.decision().for_parents(&"Europe/London".parse().unwrap());
    assert_eq!(
        sentence,
        "the out-of-school record, updated 2026-11-20 09:00:00, is newer than the registration, updated 2026-11-20 08:50:00"
    );
}
