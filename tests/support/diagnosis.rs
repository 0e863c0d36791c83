//! The diagnosis: each cause is found first, and its advice, followed, gives the expected mark.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use futures::TryStreamExt;
use proptest::prelude::*;
use rollmark::explain::{Diagnoser, Diagnosis, Expected, Finding, FindingName, Question, ShownMark, Wording};
use rollmark::model::{Mark, OutOfSchool, Record, Session, SessionMark, Status, StudentId};
use rollmark::rules::{Freshness, MidnightEnd, PmRule, Resolver, Rules, Scope, SyncWindow, TieBreak, Window};
use rollmark::source::{
    AttendanceSource, Capabilities, Completeness, FetchItem, FetchRequest, RecordStream, SourceError,
};
use rollmark::store::MemoryStore;
use rollmark::support::Support;
use rollmark::sync::{AttendanceSync, SyncRequest};
use rollmark::testing::{FakeSchool, FakeSource};

const AMELIA: &str = "4733683260";
const BEN: &str = "4733683261";

fn today() -> NaiveDate {
    "2026-11-20".parse().unwrap()
}

fn now() -> DateTime<Utc> {
    "2026-11-20T18:00:00Z".parse().unwrap()
}

fn rules() -> Rules {
    Rules::new("Europe/London".parse().unwrap())
}

fn window() -> Window {
    SyncWindow::default().ending(today())
}

/// A school day: Amelia and Ben are there at 08:40, in a lesson at 12:10 and at 13:30.
fn school() -> FakeSchool {
    let mut school = FakeSchool::new();
    school.code("17", "M", "Medical", true);
    school.code("9", "I", "Illness", true);
    school.period("1", "2026-11-20T08:40:00", Some("am"));
    school.period("2", "2026-11-20T12:10:00", None);
    school.period("3", "2026-11-20T13:30:00", Some("pm"));
    for (offset, student) in [(0, AMELIA), (100, BEN)] {
        for (period, time, taken) in
            [(1, "08:40:00", "08:52:00"), (2, "12:10:00", "12:14:00"), (3, "13:30:00", "13:41:00")]
        {
            let mut row =
                school.registration(&(100 + offset + period).to_string(), student, &format!("2026-11-20T{time}"));
            row.in_period(period.to_string().as_str()).present().updated(&format!("2026-11-20T{taken}"));
        }
    }
    school
}

fn question() -> Question {
    Question::about(AMELIA, today()).with_window(window())
}

fn ask(school: &FakeSchool, rules: Rules, question: Question, hours: i64, shown: Vec<ShownMark>) -> Diagnosis {
    let freshness = Freshness::new(now(), TimeDelta::hours(hours));
    let mut diagnoser =
        Diagnoser::new(rules, question, freshness).with_wording(Wording::for_api_key()).with_shown(shown);
    diagnoser.extend(school.records());
    diagnoser.finish().unwrap()
}

/// The findings for one session by the default rules, from replies that are at most four hours old.
fn findings(school: &FakeSchool, session: Session, expected: &str) -> Vec<Finding> {
    let question = question().with_session(session).expecting(expected);
    ask(school, rules(), question, 4, Vec::new()).sessions.remove(0).findings
}

fn names(findings: &[Finding]) -> Vec<FindingName> {
    findings.iter().map(|finding| finding.name()).collect()
}

fn evidence(finding: &Finding) -> serde_json::Value {
    serde_json::to_value(&finding.evidence).unwrap()
}

fn mark(school: &FakeSchool, rules: Rules, session: Session) -> Option<Mark> {
    let mut resolver = Resolver::new(rules, Scope::all(window()));
    resolver.extend(school.records());
    resolver.finish().unwrap().mark(&StudentId::new(AMELIA), today(), session)
}

fn shows(school: &FakeSchool, rules: Rules, session: Session, expected: &str) -> bool {
    let expected: Expected = expected.parse().unwrap();
    mark(school, rules, session).is_some_and(|mark| expected.is_met_by(&mark))
}

#[test]
fn nothing_is_wrong_where_the_mark_is_as_expected_or_nothing_is_expected() {
    let school = school();
    assert_eq!(names(&findings(&school, Session::Am, "/")), [FindingName::Consistent]);
    for session in ask(&school, rules(), question(), 4, Vec::new()).sessions {
        assert_eq!(names(&session.findings), [FindingName::Consistent]);
    }
}

#[test]
fn a_cache_expiry_above_six_hours_is_never_the_first_finding() {
    for (hours, expected) in [
        (6, vec![FindingName::Consistent]),
        (7, vec![FindingName::Consistent, FindingName::CacheExpiryTooLong]),
        (24, vec![FindingName::Consistent, FindingName::CacheExpiryTooLong]),
    ] {
        let diagnosis = ask(&school(), rules(), question(), hours, Vec::new());
        assert_eq!(names(&diagnosis.sessions[0].findings), expected, "{hours} hours");
    }
}

#[test]
fn an_older_out_of_school_record_counts_once_it_is_saved_again() {
    let mut school = school();
    school
        .out_of_school("901", AMELIA, "2026-11-20T08:00:00", "2026-11-20T12:00:00")
        .coded("17")
        .updated("2026-11-19T16:00:00");
    let found = findings(&school, Session::Am, "M");
    assert_eq!(names(&found), [FindingName::OutOfSchoolOlderThanRegistration]);
    assert_eq!(evidence(&found[0])["record"]["id"], "901");
    assert_eq!(evidence(&found[0])["winner"]["id"], "101");
    school.out_of_school_mut("901").unwrap().updated("2026-11-20T18:00:00");
    assert!(shows(&school, rules(), Session::Am, "M"));
}

#[test]
fn a_rival_whose_time_of_update_lies_in_the_future_has_to_be_saved_first() {
    let mut school = school();
    school
        .out_of_school("901", AMELIA, "2026-11-20T08:00:00", "2026-11-20T12:00:00")
        .coded("17")
        .updated("2026-11-19T16:00:00");
    school.registration_mut("101").unwrap().updated("2062-11-20T08:52:00");
    let found = findings(&school, Session::Am, "M");
    assert_eq!(found[0].name(), FindingName::OutOfSchoolOlderThanRegistration);
    assert!(found[0].advice.starts_with("First save the registration 101 again"), "{}", found[0].advice);
    school.registration_mut("101").unwrap().updated("2026-11-20T18:01:00");
    school.out_of_school_mut("901").unwrap().updated("2026-11-20T18:02:00");
    assert!(shows(&school, rules(), Session::Am, "M"));
}

#[test]
fn a_registration_that_a_newer_out_of_school_record_beats_counts_once_it_is_saved_again() {
    let mut school = school();
    school
        .out_of_school("901", AMELIA, "2026-11-20T08:00:00", "2026-11-20T12:00:00")
        .coded("17")
        .updated("2026-11-20T14:00:00");
    let found = findings(&school, Session::Am, "/");
    assert_eq!(names(&found), [FindingName::RegistrationOlderThanOutOfSchool]);
    assert_eq!(evidence(&found[0])["record"]["id"], "101");
    assert_eq!(evidence(&found[0])["winner"]["id"], "901");
    let advice = "Save the registration 101 again, so that it is the newest; or end the out-of-school record 901 at \
                  08:40 (if the student was back by then); then sync.";
    assert_eq!(found[0].advice, advice);
    let mut ended = school.clone();
    ended.out_of_school_mut("901").unwrap().to = Some("2026-11-20T08:40:00".parse().unwrap());
    assert!(shows(&ended, rules(), Session::Am, "/"));
    school.registration_mut("101").unwrap().updated("2026-11-20T18:01:00");
    assert!(shows(&school, rules(), Session::Am, "/"));
}

#[test]
fn a_registration_that_loses_a_tie_counts_once_it_is_saved_again() {
    let mut school = school();
    school
        .out_of_school("901", AMELIA, "2026-11-20T08:40:00", "2026-11-20T12:00:00")
        .coded("17")
        .updated("2026-11-20T08:52:00");
    let found = findings(&school, Session::Am, "/");
    assert_eq!(names(&found), [FindingName::RegistrationOlderThanOutOfSchool]);
    assert!(found[0].summary.contains("which counts in a tie"), "{}", found[0].summary);
    let end = "change the times of the out-of-school record 901, so that the AM session is left out";
    assert!(found[0].advice.contains(end), "it begins with the register, so it can't end before: {}", found[0].advice);
}

#[test]
fn a_record_that_shares_its_id_with_another_of_the_day_is_named_with_its_times() {
    let mut school = school();
    school.registration("101", AMELIA, "2026-11-20T09:40:00").present().updated("2026-11-20T09:41:00");
    school
        .out_of_school("901", AMELIA, "2026-11-20T08:00:00", "2026-11-20T12:00:00")
        .coded("17")
        .updated("2026-11-20T14:00:00");
    let found = findings(&school, Session::Am, "/");
    assert!(found[0].advice.starts_with("Save the registration 101 of 08:40 again"), "{}", found[0].advice);
}

#[test]
fn without_a_register_the_advice_names_the_times_that_a_record_must_cover() {
    let mut school = school();
    school.remove_registrations(|row| row.student == AMELIA.into() && row.id != Some("101".into()));
    school
        .out_of_school("901", AMELIA, "2026-11-20T09:00:00", "2026-11-20T10:00:00")
        .coded("17")
        .updated("2026-11-20T14:00:00");
    let ask_under = |rules: Rules| {
        let question = question().with_session(Session::Pm).expecting("M");
        ask(&school, rules.clone(), question, 4, Vec::new()).sessions.remove(0).findings.remove(0)
    };
    let by_time = ask_under(rules());
    assert_eq!(by_time.name(), FindingName::OutOfSchoolDoesNotCoverSession);
    assert!(by_time.advice.contains("some time of that day from 12:00 on"), "{}", by_time.advice);
    let by_periods = ask_under(rules().with_pm(PmRule::RegistrationPeriods));
    assert_eq!(by_periods.name(), FindingName::OutOfSchoolDoesNotCoverSession);
    assert!(by_periods.advice.contains("begins at 13:30 or before and ends after 13:30"), "{}", by_periods.advice);
    assert_eq!(evidence(&by_periods)["register_at"], "2026-11-20T13:30:00");
}

#[test]
fn a_record_without_a_time_of_update_counts_once_it_has_one() {
    let mut school = school();
    school.out_of_school("901", AMELIA, "2026-11-20T08:00:00", "2026-11-20T12:00:00").coded("17");
    // Ben's record shows that the source reads times of update.
    school.out_of_school("902", BEN, "2026-11-19", "2026-11-19").updated("2026-11-19T14:00:00");
    let found = findings(&school, Session::Am, "M");
    assert_eq!(names(&found), [FindingName::MissingTimestamp]);
    assert!(found[0].advice.contains("save it again, so that it gets a time of update"), "{}", found[0].advice);
    school.out_of_school_mut("901").unwrap().updated("2026-11-20T18:00:00");
    assert!(shows(&school, rules(), Session::Am, "M"));
}

#[test]
fn where_no_record_was_read_with_a_time_of_update_nobody_is_told_to_save_one_again() {
    let mut school = school();
    school.out_of_school("901", AMELIA, "2026-11-20T08:00:00", "2026-11-20T12:00:00").coded("17");
    let found = findings(&school, Session::Am, "M");
    assert_eq!(names(&found), [FindingName::MissingTimestamp]);
    let advice = &found[0].advice;
    for says in ["does not help", "--field out_of_school_updated=NAME", "give the registration 101 of 08:40 the code M"]
    {
        assert!(advice.contains(says), "{advice}");
    }
    school.registration_mut("101").unwrap().absent("17");
    assert!(shows(&school, rules(), Session::Am, "M"));

    let mut school = self::school();
    school.out_of_school("901", AMELIA, "2026-11-20T10:00:00", "2026-11-20T11:00:00").coded("17");
    let found = findings(&school, Session::Am, "M");
    assert_eq!(names(&found), [FindingName::OutOfSchoolDoesNotCoverSession]);
    assert!(found[0].advice.starts_with("First name the field"), "{}", found[0].advice);
}

#[test]
fn without_times_of_update_a_row_of_a_register_counts_once_the_others_are_out_of_it() {
    let mut school = FakeSchool::new();
    school.code("9", "I", "Illness", true);
    school.registration("101", AMELIA, "2026-11-20T08:40:00").absent("9");
    school.registration("102", AMELIA, "2026-11-20T08:40:00").present();
    let found = findings(&school, Session::Am, "I");
    assert_eq!(names(&found), [FindingName::DuplicateRegistrations]);
    assert_eq!(found[0].advice, "Take the student's other rows out of the register of 08:40; then sync.");
    school.remove_registrations(|row| row.id == Some("102".into()));
    assert!(shows(&school, rules(), Session::Am, "I"));
}

#[test]
fn a_student_of_whom_nothing_is_read_beside_others_may_be_filtered_out() {
    let mut school = school();
    school.remove_registrations(|row| row.student == StudentId::new(AMELIA));
    let found = findings(&school, Session::Am, "M");
    assert_eq!(found[0].name(), FindingName::NoRecord);
    assert!(found[0].summary.contains("but registrations of other students"), "{}", found[0].summary);
    assert!(found[0].advice.contains("student filter"), "{}", found[0].advice);
}

#[test]
fn of_very_many_records_those_that_say_what_is_expected_are_listed_and_the_rest_is_counted() {
    let mut school = school();
    for number in 0..500 {
        let at = format!("2026-11-20T08:{:02}:{:02}", 10 + number / 60, number % 60);
        let mut record =
            school.out_of_school(&format!("{}", 1000 + number), AMELIA, "2026-11-20T08:00:00", "2026-11-20T12:00:00");
        record.coded(if number == 17 { "17" } else { "9" }).updated(&at);
    }
    let diagnosis = ask(&school, rules(), question().expecting("M"), 4, Vec::new());
    let answer = &diagnosis.sessions[0];
    assert_eq!(evidence(&answer.findings[0])["record"]["id"], "1017");
    let json = serde_json::to_value(&answer.decision).unwrap();
    let losers = json["losers"].as_array().unwrap();
    assert_eq!(
        (losers.len(), &json["more_losers"]),
        (40, &serde_json::json!(462)),
        "500 records and two other registers"
    );
    assert!(losers.iter().any(|loser| loser["id"] == "1017"));
    assert_eq!(answer.contenders.len(), 41);
    assert_eq!(diagnosis.day.len() + diagnosis.more_in_day, 503);
    assert!(diagnosis.day.len() < 100);
}

#[test]
fn a_tie_that_the_registration_wins_is_broken_by_saving_the_record_again() {
    let mut school = school();
    school
        .out_of_school("901", AMELIA, "2026-11-20T08:00:00", "2026-11-20T12:00:00")
        .coded("17")
        .updated("2026-11-20T08:52:00");
    let rules = rules().with_tie_break(TieBreak::Registration);
    let question = question().with_session(Session::Am).expecting("M");
    let diagnosis = ask(&school, rules.clone(), question, 4, Vec::new());
    assert_eq!(names(&diagnosis.sessions[0].findings), [FindingName::OutOfSchoolOlderThanRegistration]);
    school.out_of_school_mut("901").unwrap().updated("2026-11-20T18:00:00");
    assert!(shows(&school, rules, Session::Am, "M"));
}

#[test]
fn a_record_that_does_not_cover_the_register_counts_once_its_times_do() {
    let mut school = school();
    school
        .out_of_school("901", AMELIA, "2026-11-20T10:00:00", "2026-11-20T11:00:00")
        .coded("17")
        .updated("2026-11-20T14:00:00");
    for session in Session::BOTH {
        let found = findings(&school, session, "M");
        assert_eq!(names(&found), [FindingName::OutOfSchoolDoesNotCoverSession], "{session}");
    }
    let found = findings(&school, Session::Am, "M");
    assert_eq!(evidence(&found[0])["register_at"], "2026-11-20T08:40:00");
    school.out_of_school_mut("901").unwrap().from = "2026-11-20T08:40:00".parse().unwrap();
    assert!(shows(&school, rules(), Session::Am, "M"));
}

/// Amelia is on a visit from the midnight that begins the 18th to the one that begins the 20th.
fn school_with_a_visit(updated: &str) -> FakeSchool {
    let mut school = school();
    school.code("21", "V", "Educational visit", false);
    school.out_of_school("901", AMELIA, "2026-11-18T00:00:00", "2026-11-20T00:00:00").coded("21").updated(updated);
    school
}

#[test]
fn a_record_that_ends_at_the_midnight_that_begins_the_date_may_mean_that_date() {
    let included = || rules().with_midnight_end(MidnightEnd::IncludesDate);
    let school = school_with_a_visit("2026-11-20T14:00:00");
    for session in Session::BOTH {
        let found = findings(&school, session, "V");
        assert_eq!(names(&found), [FindingName::OutOfSchoolDoesNotCoverSession]);
        assert_eq!(evidence(&found[0])["record"]["id"], "901");
        assert!(found[0].summary.contains("ends at the midnight that begins 2026-11-20"), "{}", found[0].summary);
        let setting = "If the school means 2026-11-20 too, read such ends as including their date (setting midnight_end; on \
                       the command line, --midnight-end included); then sync. This setting changes the marks of every student. \
                       Otherwise, change the end of the out-of-school record 901 so that";
        assert!(found[0].advice.starts_with(setting), "{}", found[0].advice);
        assert!(shows(&school, included(), session, "V"));
        let mut longer = school.clone();
        longer.out_of_school_mut("901").unwrap().to = Some("2026-11-20T16:00:00".parse().unwrap());
        assert!(shows(&longer, rules(), session, "V"));
    }
    let other_code = findings(&school, Session::Am, "M");
    assert_eq!(names(&other_code), [FindingName::CacheMayBeStale], "it does not say M");

    let mut older = school_with_a_visit("2026-11-17T14:00:00");
    let found = findings(&older, Session::Am, "V");
    assert!(found[0].advice.contains("included), and save the out-of-school record 901 again"), "{}", found[0].advice);
    assert!(!shows(&older, included(), Session::Am, "V"));
    older.out_of_school_mut("901").unwrap().updated("2026-11-20T18:00:00");
    assert!(shows(&older, included(), Session::Am, "V"));
}

#[test]
fn an_end_at_midnight_that_the_setting_does_not_touch_is_changed_in_the_record() {
    let mut school = school_with_a_visit("2026-11-20T14:00:00");
    school.out_of_school_mut("901").unwrap().from = "2026-11-18T09:00:00".parse().unwrap();
    let found = findings(&school, Session::Am, "V");
    assert_eq!(names(&found), [FindingName::OutOfSchoolDoesNotCoverSession]);
    assert!(found[0].advice.starts_with("Change the end of the out-of-school record 901"), "{}", found[0].advice);
    // The end of the day before, written so that it leaves no doubt.
    for end in ["2026-11-19", "2026-11-19T24:00:00"] {
        school.out_of_school_mut("901").unwrap().to = Some(end.parse().unwrap());
        assert_eq!(names(&findings(&school, Session::Am, "V")), [FindingName::CacheMayBeStale], "{end}");
    }
}

#[test]
fn a_student_without_a_register_whose_record_ends_at_that_midnight_is_not_said_to_have_no_record() {
    let mut school = school_with_a_visit("2026-11-17T14:00:00");
    school.remove_registrations(|row| row.student == AMELIA.into());
    let found = findings(&school, Session::Pm, "V");
    assert_eq!(names(&found), [FindingName::OutOfSchoolDoesNotCoverSession]);
    assert!(shows(&school, rules().with_midnight_end(MidnightEnd::IncludesDate), Session::Pm, "V"));
}

#[test]
fn an_older_version_of_a_record_that_was_moved_to_another_day_is_named() {
    let mut school = school_with_a_visit("2026-11-17T14:00:00");
    school.remove_out_of_school(|_| true);
    let versions = [("20", "2026-11-20T14:00:00"), ("13", "2026-11-20T15:00:00")];
    for (day, updated) in versions {
        let (from, to) = (format!("2026-11-{day}T08:00:00"), format!("2026-11-{day}T16:00:00"));
        school.out_of_school("60", AMELIA, &from, &to).coded("21").updated(updated);
    }
    let found = findings(&school, Session::Am, "V");
    assert_eq!(names(&found), [FindingName::OutOfSchoolDoesNotCoverSession]);
    assert_eq!(
        found[0].summary,
        "An older version of the out-of-school record 60 from 2026-11-20 08:00 to 2026-11-20 16:00 says V, but a newer version \
         of the same record counts, and it lies elsewhere: the out-of-school record 60 from 2026-11-13 08:00 to 2026-11-13 \
         16:00."
    );
    assert_eq!(
        found[0].advice,
        "Change the times of the newer version so that it begins at 08:40 or before and ends after 08:40, and save it, or \
         enter a record of its own with the code V for 2026-11-20; then sync."
    );
    assert_eq!(evidence(&found[0])["record"]["from"], "2026-11-20T08:00:00");
    assert_eq!(evidence(&found[0])["counting"]["from"], "2026-11-13T08:00:00");
    school
        .out_of_school("61", AMELIA, "2026-11-20T08:00:00", "2026-11-20T16:00:00")
        .coded("21")
        .updated("2026-11-20T18:00:00");
    assert!(shows(&school, rules(), Session::Am, "V"));
}

#[test]
fn an_older_version_of_a_record_whose_code_was_changed_is_named() {
    let mut school = school();
    for (code, updated) in [("9", "2026-11-20T14:00:00"), ("17", "2026-11-20T15:00:00")] {
        school.out_of_school("60", AMELIA, "2026-11-20T08:00:00", "2026-11-20T16:00:00").coded(code).updated(updated);
    }
    let found = findings(&school, Session::Am, "I");
    assert_eq!(names(&found), [FindingName::CacheMayBeStale]);
    let summary = &found[0].summary;
    assert!(
        summary.starts_with("An older version of the out-of-school record 60 from") && summary.contains("says I"),
        "{summary}"
    );
}

/// A source whose verdict names a field that may hold the time of update or the code.
#[derive(Debug)]
struct Undecided(FakeSource);

impl std::fmt::Display for Undecided {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait::async_trait]
impl AttendanceSource for Undecided {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn wording(&self) -> Wording {
        self.0.wording()
    }

    async fn fetch(&self, request: &FetchRequest) -> Result<RecordStream, SourceError> {
        let stream = self.0.fetch(request).await?;
        let name_it = |item| match item {
            FetchItem::Complete(verdict) => {
                FetchItem::Complete(verdict.with_undecided_fields(["Reference", "SavedAt"]))
            }
            records => records,
        };
        Ok(RecordStream::new(stream.map_ok(name_it)))
    }
}

/// An export of the morning.
#[derive(Debug)]
struct Export(FakeSource);

impl std::fmt::Display for Export {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an export")
    }
}

#[async_trait::async_trait]
impl AttendanceSource for Export {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn fetch(&self, request: &FetchRequest) -> Result<RecordStream, SourceError> {
        let stream = self.0.fetch(request).await?;
        let dated = |item| match item {
            FetchItem::Complete(complete) => {
                let parts = complete.parts().iter().cloned();
                let parts = parts.map(|part| part.with_as_of("2026-11-20T08:50:00Z".parse().unwrap()));
                FetchItem::Complete(parts.fold(Completeness::new(), Completeness::with_part))
            }
            records => records,
        };
        Ok(RecordStream::new(stream.map_ok(dated)))
    }
}

#[tokio::test]
async fn an_export_of_the_morning_does_not_show_what_was_entered_since() {
    let (source, rules) = (Export(FakeSource::new(school())), rules());
    assert!(source.capabilities().cache_expiry.is_zero());
    let support = Support::new(&source, &rules).with_now(now());
    let found = support.diagnose(&question().with_session(Session::Am).expecting("M")).await.unwrap();
    let first = &found.sessions[0].findings[0];
    assert_eq!(first.name(), FindingName::CacheMayBeStale);
    assert!(first.summary.contains("as old as 2026-11-20 08:50:00"), "{}", first.summary);
    // Nothing says when the next export is made, so no sync is certain to read it.
    assert!(evidence(first)["sure_from"].is_null());
    let advice = "If it was corrected after 2026-11-20 08:50:00, a sync reads it once the source has newer data. ";
    assert!(first.advice.starts_with(advice), "{}", first.advice);
}

#[tokio::test]
async fn fields_that_may_hold_the_time_of_update_or_the_code_are_named_where_it_is_missed() {
    let advice = async |code: Option<&str>, expected: &str| {
        let mut school = school();
        school.out_of_school("901", AMELIA, "2026-11-20T08:00:00", "2026-11-20T12:00:00").code = code.map(Into::into);
        let (source, rules) = (Undecided(FakeSource::new(school)), rules());
        let support = Support::new(&source, &rules).with_now(now());
        let question = question().with_session(Session::Am).expecting(expected);
        support.diagnose(&question).await.unwrap().sessions.remove(0).findings.remove(0).advice
    };
    let stamp = advice(Some("17"), "M").await;
    assert!(stamp.contains("--field out_of_school_updated=NAME; it may be one of: Reference and SavedAt)"), "{stamp}");
    let code = advice(None, "M").await;
    let setting = "(setting out_of_school_code; on the command line, --field out_of_school_code=NAME)";
    assert!(code.contains(&format!("name that field {setting}: Reference and SavedAt.")), "{code}");
    let known = advice(Some("17"), "I").await;
    assert!(!known.contains("Reference"), "records are read with a code: {known}");
}

#[test]
fn advice_for_a_record_that_keeps_no_time_of_update_has_one_condition_a_sentence() {
    let mut school = school();
    school.registration_mut("101").unwrap().last_updated = None;
    school.remove_registrations(|row| row.student != AMELIA.into() || row.id != Some("101".into()));
    school
        .out_of_school("901", AMELIA, "2026-11-20T08:00:00", "2026-11-20T12:00:00")
        .coded("17")
        .updated("2026-11-20T14:00:00");
    let advice = &findings(&school, Session::Am, "/")[0].advice;
    let says =
        "If it does not, end the out-of-school record 901 at 08:40 (if the student was back by then); then sync.";
    assert!(advice.ends_with(says), "{advice}");
}

#[test]
fn a_record_that_ends_before_it_begins_covers_nothing() {
    let mut school = school();
    school
        .out_of_school("901", AMELIA, "2026-11-20T15:00:00", "2026-11-20T08:00:00")
        .coded("17")
        .updated("2026-11-20T14:00:00");
    let found = findings(&school, Session::Pm, "M");
    assert_eq!(names(&found), [FindingName::OutOfSchoolDoesNotCoverSession]);
    assert!(found[0].summary.contains("does not end after it begins"), "{}", found[0].summary);
}

#[test]
fn another_row_of_the_register_counts_once_it_is_the_newest() {
    let mut school = school();
    school.registration("109", AMELIA, "2026-11-20T08:40:00").in_period("1").absent("9").updated("2026-11-20T08:45:00");
    let found = findings(&school, Session::Am, "I");
    assert_eq!(names(&found), [FindingName::DuplicateRegistrations]);
    assert_eq!(evidence(&found[0])["counting"]["id"], "101");
    school.registration_mut("109").unwrap().updated("2026-11-20T18:00:00");
    assert!(shows(&school, rules(), Session::Am, "I"));
}

#[test]
fn the_pm_start_that_picks_the_right_register_is_named() {
    let mut school = school();
    school.registration_mut("103").unwrap().absent("9");
    let found = findings(&school, Session::Pm, "I");
    assert_eq!(names(&found), [FindingName::PmRulePicksOtherRegistration]);
    assert_eq!(evidence(&found[0])["registration"]["id"], "103");
    assert_eq!(evidence(&found[0])["pm_start"], "13:30");
    assert!(found[0].advice.contains("13:30"));
    let start = NaiveTime::from_hms_opt(13, 30, 0).unwrap();
    assert!(shows(&school, rules().with_pm(PmRule::FirstFrom(start)), Session::Pm, "I"));
}

#[test]
fn a_pm_start_is_named_also_where_an_out_of_school_record_says_the_same() {
    let mut school = school();
    school.registration_mut("103").unwrap().absent("17");
    school
        .out_of_school("901", AMELIA, "2026-11-20T08:00:00", "2026-11-20T16:00:00")
        .coded("17")
        .updated("2026-11-20T14:00:00");
    let late = rules().with_pm(PmRule::FirstFrom(NaiveTime::from_hms_opt(14, 0, 0).unwrap()));
    let question = question().with_session(Session::Pm).expecting("M");
    let found = ask(&school, late, question, 0, Vec::new()).sessions.remove(0).findings.remove(0);
    assert_eq!(found.name(), FindingName::PmRulePicksOtherRegistration);
    assert_eq!(evidence(&found)["pm_start"], "13:30");
}

#[test]
fn a_start_that_makes_a_lesson_the_pm_register_is_named_with_a_warning_and_the_likelier_cure() {
    let mut school = school();
    school.registration_mut("102").unwrap().absent("9");
    let from_one = rules().with_pm(PmRule::FirstFrom(NaiveTime::from_hms_opt(13, 0, 0).unwrap()));
    let question = question().with_session(Session::Pm).expecting("I");
    let found = ask(&school, from_one, question, 4, Vec::new()).sessions.remove(0).findings;
    assert_eq!(found[0].name(), FindingName::PmRulePicksOtherRegistration);
    assert_eq!(evidence(&found[0])["pm_start"], "12:10");
    for says in [
        "If that register is the school's PM registration",
        "PM start at 12:10",
        "changes the marks of every student",
        "If it is not, give the registration 103 of 13:30 the code I",
    ] {
        assert!(found[0].advice.contains(says), "{}", found[0].advice);
    }
}

#[test]
fn the_other_sessions_own_registration_is_no_cause() {
    let mut school = school();
    school.registration_mut("101").unwrap().absent("9");
    assert_eq!(names(&findings(&school, Session::Pm, "I")), [FindingName::CacheMayBeStale]);
    let mut school = self::school();
    school.registration_mut("102").unwrap().absent("9");
    school.remove_registrations(|row| row.id == Some("101".into()));
    assert_eq!(names(&findings(&school, Session::Am, "I")), [FindingName::CacheMayBeStale]);
}

#[test]
fn a_correction_leaves_the_other_days_of_an_out_of_school_record_alone() {
    let mut school = school();
    school.registration_mut("103").unwrap().registered = false;
    school.remove_registrations(|row| row.id == Some("102".into()));
    school.out_of_school("901", AMELIA, "2026-11-18", "2026-11-20").coded("17").updated("2026-11-20T14:00:00");
    school.code("21", "V", "Educational visit", false);
    let found = findings(&school, Session::Pm, "V");
    assert!(found[0].advice.contains("give the registration 103 of 13:30 the code V"), "{}", found[0].advice);
    school.registration_mut("103").unwrap().absent("21").updated("2026-11-20T18:00:00");
    assert!(shows(&school, rules(), Session::Pm, "V"));
    school.remove_registrations(|row| row.id == Some("103".into()));
    let found = findings(&school, Session::Pm, "V");
    assert!(found[0].advice.contains("enter an out-of-school record with the code V for the PM session"));
    let found = findings(&school, Session::Pm, "/");
    assert!(found[0].advice.contains("enter the student as present in the PM register"), "{}", found[0].advice);
    school.registration("104", AMELIA, "2026-11-20T13:30:00").present().updated("2026-11-20T18:00:00");
    assert!(shows(&school, rules(), Session::Pm, "/"));
}

#[test]
fn under_the_period_rule_a_missing_flag_and_a_missing_period_are_named() {
    let by_periods = rules().with_pm(PmRule::RegistrationPeriods);
    let mut unflagged = FakeSchool::new();
    school().records().filter(|record| !matches!(record, Record::Period(_))).for_each(|record| unflagged.add(record));
    unflagged.period("1", "2026-11-20T08:40:00", Some("am"));
    unflagged.period("2", "2026-11-20T12:10:00", None);
    unflagged.period("3", "2026-11-20T13:30:00", None);
    let pm = question().with_session(Session::Pm);
    let expects = pm.clone().expecting("M");
    for asked in [pm, expects.clone()] {
        let found = ask(&unflagged, by_periods.clone(), asked, 4, Vec::new()).sessions.remove(0).findings.remove(0);
        assert!(found.summary.contains("No registration period of 2026-11-20 is flagged PM"), "{}", found.summary);
        assert!(found.advice.contains("flag the period of the PM register as PM"), "{}", found.advice);
    }
    let mut unlisted = school();
    unlisted.registration_mut("103").unwrap().in_period("555");
    let found = ask(&unlisted, by_periods, expects, 4, Vec::new()).sessions.remove(0).findings.remove(0);
    assert!(found.summary.contains("103 of 13:30 belongs to the registration period 555"), "{}", found.summary);
}

#[test]
fn a_row_that_would_lose_as_a_duplicate_is_no_other_register() {
    let mut school = FakeSchool::new();
    school.code("17", "M", "Medical", true);
    school.registration("98", AMELIA, "2026-11-20T13:30:00").present().updated("2026-11-20T13:35:00");
    school.registration("99", AMELIA, "2026-11-20T13:30:00").absent("17");
    school
        .out_of_school("901", AMELIA, "2026-11-20T13:00:00", "2026-11-20T13:59:00")
        .coded("17")
        .updated("2026-11-20T14:30:00");
    let late = rules().with_pm(PmRule::FirstFrom(NaiveTime::from_hms_opt(14, 0, 0).unwrap()));
    let question = question().with_session(Session::Pm).expecting("M");
    let found = ask(&school, late, question, 4, Vec::new()).sessions.remove(0).findings;
    assert_eq!(names(&found), [FindingName::CacheMayBeStale]);
}

#[test]
fn a_date_that_has_not_come_is_not_called_a_late_correction() {
    let mut ahead = question().with_session(Session::Am).expecting("M");
    ahead.window = Some(SyncWindow::default().ending("2026-11-10".parse().unwrap()));
    let found = ask(&school(), rules(), ahead, 4, Vec::new()).sessions.remove(0).findings.remove(0);
    assert_eq!(found.name(), FindingName::OutsideWindow);
    assert!(found.summary.contains("is later than") && found.advice.starts_with("Wait for that day"), "{found}");
}

#[test]
fn a_letter_that_the_code_table_lacks_is_no_matter_of_waiting() {
    let lower = findings(&school(), Session::Am, "m");
    assert_eq!(names(&lower), [FindingName::CacheMayBeStale]);
    assert!(lower[0].summary.contains("no code m (it has M)"), "{}", lower[0].summary);
    let mut not_taken = school();
    not_taken.registration_mut("101").unwrap().registered = false;
    let found = findings(&not_taken, Session::Am, "Z");
    assert_eq!(found[0].name(), FindingName::NotTaken);
    assert!(found[0].summary.contains("no code Z"), "{}", found[0].summary);
    let mut without_codes = FakeSchool::new();
    school().records().filter(|record| !matches!(record, Record::Code(_))).for_each(|row| without_codes.add(row));
    without_codes.registration_mut("101").unwrap().absent("17");
    let found = findings(&without_codes, Session::Am, "M");
    assert!(found[0].advice.contains("give the API key access to the registration codes"), "{}", found[0].advice);
}

#[test]
fn a_tie_is_called_a_tie() {
    let mut school = school();
    school.registration_mut("101").unwrap().last_updated = None;
    school.out_of_school("901", AMELIA, "2026-11-20T08:00:00", "2026-11-20T12:00:00").coded("17");
    let by_registration = rules().with_tie_break(TieBreak::Registration);
    let ask_for_m = |school: &FakeSchool| {
        let question = question().with_session(Session::Am).expecting("M");
        ask(school, by_registration.clone(), question, 4, Vec::new()).sessions.remove(0).findings.remove(0)
    };
    let without_stamps = ask_for_m(&school);
    assert_eq!(without_stamps.name(), FindingName::MissingTimestamp);
    assert!(without_stamps.summary.contains("has none either"), "{}", without_stamps.summary);
    school.registration_mut("101").unwrap().updated("2026-11-20T09:00:00.250");
    school.out_of_school_mut("901").unwrap().updated("2026-11-20T09:00:00.250");
    let equal = ask_for_m(&school);
    assert_eq!(equal.name(), FindingName::OutOfSchoolOlderThanRegistration);
    assert!(equal.summary.contains("09:00:00, at the same time as the registration 101"), "{}", equal.summary);
}

#[test]
fn a_store_that_shows_what_is_expected_beside_an_old_reply_is_mentioned() {
    let mut later = school();
    later.registration_mut("101").unwrap().absent("17");
    let shown = ShownMark::new(Session::Am, mark(&later, rules(), Session::Am)).with_run(7, now());
    let question = question().with_session(Session::Am).expecting("M");
    let found = ask(&school(), rules(), question, 4, vec![shown]).sessions.remove(0).findings;
    assert_eq!(names(&found), [FindingName::CacheMayBeStale]);
    assert!(found[0].summary.contains("the portal's store shows M already"), "{}", found[0].summary);
}

#[test]
fn the_register_that_is_flagged_with_the_session_is_named_before_others_that_would_do() {
    let mut school = school();
    school.registration_mut("102").unwrap().absent("9");
    let found = findings(&school, Session::Pm, "/");
    assert_eq!(evidence(&found[0])["registration"]["id"], "103");
}

#[test]
fn for_am_only_the_days_earliest_register_can_count_by_time() {
    let by_periods = rules().with_pm(PmRule::RegistrationPeriods);
    let ask_for_i = |school: &FakeSchool| {
        let question = question().with_session(Session::Am).expecting("I");
        ask(school, by_periods.clone(), question, 4, Vec::new()).sessions.remove(0).findings
    };
    let mut school = school();
    school.registration_mut("102").unwrap().absent("9");
    assert_eq!(names(&ask_for_i(&school)), [FindingName::CacheMayBeStale]);

    school.registration("100", AMELIA, "2026-11-20T08:10:00").in_period("2").absent("9").updated("2026-11-20T08:20:00");
    let found = ask_for_i(&school);
    assert_eq!(found[0].name(), FindingName::PmRulePicksOtherRegistration);
    assert_eq!(evidence(&found[0])["registration"]["id"], "100");
    let start = NaiveTime::parse_from_str(evidence(&found[0])["pm_start"].as_str().unwrap(), "%H:%M").unwrap();
    assert!(shows(&school, rules().with_pm(PmRule::FirstFrom(start)), Session::Am, "I"));
}

#[test]
fn under_the_period_rule_a_flag_on_the_wrong_register_is_found() {
    let mut school = FakeSchool::new();
    school.code("9", "I", "Illness", true);
    school.period("1", "2026-11-20T08:40:00", Some("am"));
    school.period("2", "2026-11-20T13:30:00", None);
    school.period("3", "2026-11-20T14:30:00", Some("pm"));
    school.registration("11", AMELIA, "2026-11-20T13:30:00").in_period("2").absent("9").updated("2026-11-20T13:41:00");
    school.registration("12", AMELIA, "2026-11-20T14:30:00").in_period("3").present().updated("2026-11-20T14:41:00");
    let by_periods = rules().with_pm(PmRule::RegistrationPeriods);
    let question = question().with_session(Session::Pm).expecting("I");
    let found = ask(&school, by_periods, question, 4, Vec::new()).sessions.remove(0).findings;
    assert_eq!(found[0].name(), FindingName::PmRulePicksOtherRegistration);
    assert_eq!(evidence(&found[0])["pm_rule"], "time");
}

#[test]
fn a_register_that_was_not_taken_and_an_unknown_code_are_found_with_and_without_an_expectation() {
    let mut school = school();
    school.registration("104", AMELIA, "2026-11-20T12:00:00");
    school.registration_mut("101").unwrap().absent("99");
    let plain = ask(&school, rules(), question(), 4, Vec::new());
    assert_eq!(names(&plain.sessions[0].findings), [FindingName::UnknownCode]);
    assert_eq!(names(&plain.sessions[1].findings), [FindingName::NotTaken]);
    assert_eq!(names(&findings(&school, Session::Am, "M")), [FindingName::UnknownCode, FindingName::CacheMayBeStale]);
    let not_taken = findings(&school, Session::Pm, "M");
    assert_eq!(names(&not_taken), [FindingName::NotTaken, FindingName::CacheMayBeStale]);
    assert!(not_taken[0].advice.contains("with M for this student"), "{}", not_taken[0].advice);
    for (expected, advice) in [("M", "the code M, or, if 99 is that code"), ("/", "present in the registration 101")] {
        let unknown = findings(&school, Session::Am, expected);
        assert!(unknown[0].advice.contains(advice), "{}", unknown[0].advice);
    }
}

#[test]
fn a_student_without_a_record_has_none_and_the_reply_may_be_old() {
    let mut school = school();
    school.remove_registrations(|row| row.student == StudentId::new(AMELIA));
    let plain = ask(&school, rules(), question(), 4, Vec::new());
    assert_eq!(names(&plain.sessions[0].findings), [FindingName::NoRecord]);
    assert_eq!(names(&findings(&school, Session::Am, "M")), [FindingName::NoRecord, FindingName::CacheMayBeStale]);
}

#[test]
fn a_mark_that_no_record_explains_may_be_younger_than_the_reply() {
    let school = school();
    let found = findings(&school, Session::Pm, "M");
    assert_eq!(names(&found), [FindingName::CacheMayBeStale]);
    assert_eq!(evidence(&found[0])["as_of_earliest"], "2026-11-20T14:00:00Z");
    assert_eq!(evidence(&found[0])["sure_from"], "2026-11-20T22:00:00Z");

    let question = question().with_session(Session::Pm).expecting("M");
    let uncached = ask(&school, rules(), question, 0, Vec::new());
    assert_eq!(names(&uncached.sessions[0].findings), [FindingName::NoRecord]);
}

#[test]
fn a_date_outside_the_window_comes_first_and_is_answered_all_the_same() {
    let mut old = question().with_session(Session::Am).expecting("/");
    old.window = Window::between("2026-10-01".parse().unwrap(), "2026-11-19".parse().unwrap()).ok();
    let met = ask(&school(), rules(), old.clone(), 4, Vec::new()).sessions.remove(0);
    assert_eq!(names(&met.findings), [FindingName::OutsideWindow]);
    assert_eq!(met.mark.unwrap().status, Status::Present);
    old.expected = Some("M".into());
    let unmet = ask(&school(), rules(), old, 0, Vec::new()).sessions.remove(0);
    assert_eq!(names(&unmet.findings), [FindingName::OutsideWindow, FindingName::NoRecord]);
}

#[test]
fn a_store_that_shows_something_else_is_behind() {
    let mut earlier = school();
    earlier.registration_mut("101").unwrap().absent("9");
    let shown = |mark| ShownMark::new(Session::Am, mark).with_run(7, now());
    let behind = shown(mark(&earlier, rules(), Session::Am));
    for question in [question(), question().expecting("/")] {
        let found = ask(&school(), rules(), question, 4, vec![behind.clone()]).sessions.remove(0).findings;
        assert_eq!(names(&found), [FindingName::StoreBehindSource]);
        assert_eq!(evidence(&found[0])["run"], 7);
        assert_eq!(evidence(&found[0])["store_mark"]["code"], "I");
    }
    let mut not_taken = school();
    not_taken.registration_mut("101").unwrap().registered = false;
    let found = ask(&not_taken, rules(), question(), 4, vec![behind]).sessions.remove(0).findings;
    assert_eq!(names(&found), [FindingName::StoreBehindSource, FindingName::NotTaken]);
    let level = shown(mark(&school(), rules(), Session::Am));
    let found = ask(&school(), rules(), question(), 4, vec![level]).sessions.remove(0).findings;
    assert_eq!(names(&found), [FindingName::Consistent]);
    let empty = ShownMark::new(Session::Am, None);
    let found = ask(&school(), rules(), question(), 4, vec![empty]).sessions.remove(0).findings;
    assert_eq!(names(&found), [FindingName::StoreBehindSource]);
}

#[tokio::test]
async fn no_mark_is_expected_of_a_date_that_the_last_sync_was_told_is_closed() {
    let mut school = school();
    school
        .out_of_school("901", AMELIA, "2026-11-20T08:00:00", "2026-11-20T12:00:00")
        .coded("17")
        .updated("2026-11-19T16:00:00");
    let (source, store, key, rules) = (FakeSource::new(school), MemoryStore::new(), "school".into(), rules());
    let sync = AttendanceSync::new(source.clone(), store.clone(), &key, rules.clone());
    let support = Support::new(&source, &rules).with_store(&store, &key).with_now(now());
    let request = |closed: &[NaiveDate]| {
        SyncRequest::targeted(window()).with_closed_dates(closed.iter().copied()).with_now(now())
    };
    let first = async |question: Question| support.diagnose(&question).await.unwrap().sessions.remove(0);
    sync.run(request(&[])).await.unwrap();
    sync.run(request(&[today()])).await.unwrap();
    // A later run that does not cover the student and date says nothing of them.
    sync.run(request(&[]).with_students([BEN])).await.unwrap();
    sync.run(SyncRequest::targeted(Window::day("2026-11-19".parse().unwrap())).with_now(now())).await.unwrap();
    let far = Question::about(AMELIA, today()).with_window(Window::day("2026-12-20".parse().unwrap()));
    for question in [question(), question().expecting("M"), far.expecting("/")] {
        let answer = first(question).await;
        assert_eq!(answer.mark, None);
        assert_eq!(names(&answer.findings), [FindingName::Consistent]);
        let (summary, advice) = (&answer.findings[0].summary, &answer.findings[0].advice);
        assert_eq!(summary, "There is no mark. The school was closed on 2026-11-20, as the last sync was told.");
        let cure = "sync without saying that the school was closed on 2026-11-20 (--closed)";
        assert_eq!(*advice, format!("If there should be a mark, {cure}; otherwise nothing needs to be done."));
    }
    sync.run(request(&[])).await.unwrap();
    let answer = first(question().expecting("/")).await;
    assert_eq!(answer.mark.map(|mark| mark.status), Some(Status::Present), "the statement holds for its run");
    assert_eq!(names(&answer.findings), [FindingName::Consistent]);
}

#[test]
fn one_record_that_is_not_listed_is_one_record() {
    let mut decision = mark(&school(), rules(), Session::Am).unwrap().decision;
    for (more, says) in [(1, "1 more record is not listed"), (2, "2 more records are not listed")] {
        decision.more_losers = more;
        assert!(decision.to_string().ends_with(says), "{decision}");
    }
}

#[test]
fn every_other_record_of_the_day_is_among_the_losers_with_its_reason() {
    let mut school = school();
    school.registration("109", AMELIA, "2026-11-20T08:40:00").in_period("1").absent("9").updated("2026-11-20T08:45:00");
    school.out_of_school("901", AMELIA, "2026-11-20T08:00:00", "2026-11-20T09:00:00").updated("2026-11-19T16:00:00");
    school.out_of_school("902", AMELIA, "2026-11-20T10:00:00", "2026-11-20T11:00:00");
    let diagnosis = ask(&school, rules(), question(), 4, Vec::new());
    let json = serde_json::to_value(&diagnosis).unwrap();
    let losers: BTreeSet<(String, String)> = json["sessions"][0]["decision"]["losers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|loser| (loser["id"].as_str().unwrap().to_owned(), loser["why"].as_str().unwrap().to_owned()))
        .collect();
    let expected = [
        ("109", "duplicate"),
        ("901", "older"),
        ("902", "not_covering"),
        ("102", "other_registration"),
        ("103", "other_registration"),
    ];
    assert_eq!(losers, expected.map(|(id, why)| (id.to_owned(), why.to_owned())).into());
    assert_eq!(json["sessions"][0]["mark"]["decided_by"], "registration");
    assert_eq!(json["sessions"][0]["decision"]["registration"]["at"], "2026-11-20T08:40:00");
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&json), ["student", "date", "sessions"]);
    assert_eq!(keys(&json["sessions"][0]), ["session", "mark", "decision", "findings"]);
    assert_eq!(keys(&json["sessions"][0]["decision"]), ["rule", "winner", "registration", "losers"]);
    assert_eq!(keys(&json["sessions"][0]["findings"][0]), ["name", "summary", "advice", "evidence"]);
}

#[test]
fn an_out_of_school_record_on_a_day_without_school_is_not_called_missing() {
    let mut school = FakeSchool::new();
    school.code("17", "M", "Medical", true);
    school.out_of_school("901", AMELIA, "2026-11-20T00:00:00", "2026-11-21T00:00:00").coded("17");
    let plain = ask(&school, rules(), question(), 4, Vec::new());
    assert_eq!(names(&plain.sessions[0].findings), [FindingName::Consistent]);
    let found = findings(&school, Session::Am, "M");
    assert_eq!(names(&found), [FindingName::CacheMayBeStale]);
    assert!(found[0].summary.contains("No student has a register"), "{}", found[0].summary);
    let advice = "take the AM register, with M for this student, if there was school";
    assert!(found[0].advice.contains(advice), "{}", found[0].advice);
}

proptest! {
    #[test]
    fn the_order_of_the_records_does_not_matter(order in Just((0..11).collect::<Vec<usize>>()).prop_shuffle()) {
        let mut school = school();
        school.out_of_school("901", AMELIA, "2026-11-20T08:00:00", "2026-11-20T12:00:00").coded("17");
        let records: Vec<Record> = school.records().collect();
        let expected = ask(&school, rules(), question().expecting("M"), 24, Vec::new());
        let question = question().expecting("M");
        let freshness = Freshness::new(now(), TimeDelta::hours(24));
        let mut diagnoser = Diagnoser::new(rules(), question, freshness).with_wording(Wording::for_api_key());
        diagnoser.extend(order.iter().chain(&[11]).filter_map(|at| records.get(*at).cloned()));
        prop_assert_eq!(diagnoser.finish().unwrap(), expected);
        prop_assert_eq!(records.len(), 12);
    }
}

/// Does what the finding advises, on the records or the rules. `None` where the advice is not about a record or a rule.
fn follow(finding: &Finding, records: &mut Vec<Record>, rules: Rules, date: NaiveDate) -> Option<Rules> {
    let zone = rules.zone();
    let evidence = |name: &str| evidence(finding)[name].clone();
    let later: rollmark::model::FeedTime = "2027-01-01T00:00:00Z".parse().unwrap();
    let named = evidence("record");
    let is_it = |id: &Option<rollmark::model::RecordId>, from: rollmark::model::FeedTime, time: &str, updated| {
        let stamp: Option<rollmark::model::FeedTime> = updated;
        id.as_ref().map(|id| id.as_str()) == named["id"].as_str()
            && serde_json::json!(from.school_time(zone)) == named[time]
            && serde_json::json!(stamp.map(|stamp| rollmark::model::stamp_text(stamp.instant(zone))))
                == named["last_updated"]
    };
    let is_coded = |code: &Option<rollmark::model::RawCode>| {
        let letter = match code.as_ref().map(|code| code.as_str()) {
            Some("17") => Some("M"),
            Some("2" | "V") => Some("V"),
            _ => None,
        };
        letter == named["code"].as_str()
    };
    let student = AMELIA.into();
    match finding.name() {
        FindingName::PmRulePicksOtherRegistration => {
            return Some(match evidence("pm_start").as_str() {
                Some(start) => {
                    let form = if start.len() == 5 { "%H:%M" } else { "%H:%M:%S" };
                    rules.with_pm(PmRule::FirstFrom(NaiveTime::parse_from_str(start, form).unwrap()))
                }
                None => rules.with_pm(PmRule::RegistrationPeriods),
            });
        }
        FindingName::DuplicateRegistrations
        | FindingName::MissingTimestamp
        | FindingName::RegistrationOlderThanOutOfSchool
            if named["kind"] == "registration" =>
        {
            let row = records.iter().find_map(|record| match record {
                Record::Registration(row)
                    if row.student == student
                        && is_it(&row.id, row.at, "at", row.last_updated)
                        && serde_json::json!(row.period) == named["period"]
                        && is_coded(&row.code)
                        && row.registered == (named["status"] == "present" || named["status"] == "late") =>
                {
                    Some(row.clone())
                }
                _ => None,
            });
            let mut row = row.unwrap();
            row.last_updated = Some(later);
            records.push(Record::Registration(row));
        }
        FindingName::OutOfSchoolOlderThanRegistration
        | FindingName::MissingTimestamp
        | FindingName::OutOfSchoolDoesNotCoverSession => {
            let spans = records.iter().filter_map(|record| match record {
                Record::OutOfSchool(span)
                    if span.student == student
                        && is_it(&span.id, span.from, "from", span.last_updated)
                        && is_coded(&span.code) =>
                {
                    Some(span.clone())
                }
                _ => None,
            });
            // Of several that look alike, one that does not end before it begins.
            let end = |span: &OutOfSchool| span.to.is_none_or(|to| to.school_time(zone) > span.from.school_time(zone));
            let mut span = spans.max_by_key(end).unwrap();
            span.last_updated = Some(later);
            if finding.name() == FindingName::OutOfSchoolDoesNotCoverSession {
                span.from = rollmark::model::FeedTime::Date(date);
                span.to = Some(rollmark::model::FeedTime::Date(date));
            }
            records.push(Record::OutOfSchool(span));
        }
        _ => return None,
    }
    Some(rules)
}

/// The records as one student's, most of them on one date, with codes that are known.
fn crowded(records: Vec<Record>) -> Vec<Record> {
    let on_the_date = |time: rollmark::model::FeedTime| match time {
        rollmark::model::FeedTime::School(time) => {
            rollmark::model::FeedTime::School("2026-03-28".parse::<NaiveDate>().unwrap().and_time(time.time()))
        }
        other => other,
    };
    let mut known = FakeSchool::new();
    known.code("17", "M", "Medical", true);
    known.code("2", "V", "Educational visit", false);
    let crowded = records.into_iter().filter_map(|record| match record {
        Record::Registration(mut row) => {
            row.student = AMELIA.into();
            row.at = on_the_date(row.at);
            Some(Record::Registration(row))
        }
        Record::OutOfSchool(mut span) => {
            span.student = AMELIA.into();
            span.from = on_the_date(span.from);
            Some(Record::OutOfSchool(span))
        }
        Record::Code(_) => None,
        other => Some(other),
    });
    crowded.chain(known.records()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the records: if the first finding is about a record or a rule, following its advice gives the mark.
    #[test]
    fn the_first_findings_advice_followed_on_the_data_gives_the_expected_mark(
        records in crate::common::records::records(),
        rules in crate::common::records::rules(),
        expected in prop::sample::select(&["M", "V", "/"][..]),
    ) {
        let mut records = crowded(records);
        let date: NaiveDate = "2026-03-28".parse().unwrap();
        let expected: Expected = expected.parse().unwrap();
        let question = Question::about(AMELIA, date).with_window(Window::day(date)).expecting(expected.clone());
        let mut diagnoser = Diagnoser::new(rules.clone(), question, Freshness::new(now(), TimeDelta::hours(4)));
        diagnoser.extend(records.clone());
        let Ok(diagnosis) = diagnoser.finish() else { return Ok(()) };
        for answer in diagnosis.sessions {
            let first = &answer.findings[0];
            if first.name() == FindingName::Consistent {
                prop_assert!(answer.mark.is_some_and(|mark| expected.is_met_by(&mark)));
                continue;
            }
            let Some(other_rules) = follow(first, &mut records, rules.clone(), date) else { continue };
            let mut resolver = Resolver::new(other_rules, Scope::all(Window::day(date)));
            resolver.extend(records.clone());
            let mark = resolver.finish().unwrap().mark(&AMELIA.into(), date, answer.session);
            prop_assert!(mark.as_ref().is_some_and(|mark| expected.is_met_by(mark)), "{first} gave {mark:?}");
            break;
        }
    }
}

/// Amelia's AM marks beside Ben's, from a source that knows no registers.
fn aggregated(marks: &[(&str, &str, Option<&str>)]) -> FakeSchool {
    let mut school = FakeSchool::new();
    school.code("17", "M", "Medical", true);
    let mut ben = SessionMark::new(BEN, today(), Session::Am);
    ben.present = true;
    school.add(Record::SessionMark(ben));
    for (id, updated, code) in marks {
        let mut mark = SessionMark::new(AMELIA, today(), Session::Am);
        (mark.id, mark.last_updated) = (Some((*id).into()), updated.parse().ok());
        (mark.present, mark.code) = (code.is_none(), code.filter(|code| !code.is_empty()).map(Into::into));
        school.add(Record::SessionMark(mark));
    }
    school
}

#[test]
fn session_marks_are_explained_without_the_times_of_registers() {
    use FindingName::*;
    let early = "2026-11-20T09:00:00";
    let late = "2026-11-20T10:00:00";
    for (marks, session, expected, first, words) in [
        (&[("7", early, None)][..], Session::Am, "/", Consistent, "the session mark 7, updated"),
        (
            &[("7", early, None)],
            Session::Am,
            "M",
            CacheMayBeStale,
            "give the session mark 7 of 2026-11-20 AM the code M",
        ),
        (
            &[("7", early, Some("17"))],
            Session::Am,
            "/",
            CacheMayBeStale,
            "change the session mark 7 of 2026-11-20 AM to present",
        ),
        (
            &[("7", early, None)],
            Session::Pm,
            "/",
            CacheMayBeStale,
            "No student has a session mark for the PM session of 2026-11-20",
        ),
        (
            &[("7", early, Some("17")), ("8", late, None)],
            Session::Am,
            "M",
            DuplicateRegistrations,
            "The session holds several marks for this student: the session mark 7 of 2026-11-20 AM says M",
        ),
        (
            &[("7", early, Some("99"))],
            Session::Am,
            "M",
            UnknownCode,
            "The session mark 7 of 2026-11-20 AM has the code 99",
        ),
        (&[("7", early, Some(""))], Session::Am, "/", NotTaken, "Take the AM register on 2026-11-20"),
        (
            &[],
            Session::Am,
            "/",
            NoRecord,
            "no session mark of this student on 2026-11-20, but session marks of other students",
        ),
    ] {
        for rules in [rules(), rules().with_pm(PmRule::RegistrationPeriods)] {
            let question = question().with_session(session).expecting(expected);
            let answer = ask(&aggregated(marks), rules, question, 4, Vec::new());
            let found = &answer.sessions[0].findings;
            assert_eq!(found[0].name(), first, "{found:?}");
            let text = found.iter().map(|one| format!("{} {}", one.summary, one.advice)).collect::<Vec<_>>().join(" ");
            assert!(text.contains(words), "{text}");
            assert!(
                !text.contains(" 00:00") && !text.contains(" 12:00") && !text.contains("registration_updated"),
                "{text}"
            );
            let json = serde_json::to_string(&answer).unwrap();
            assert!(!json.contains("T00:00:00\""), "{json}");
        }
    }
}
