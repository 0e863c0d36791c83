//! Which PM start fits a school, and what other rules would change.

use chrono::{NaiveDate, NaiveTime, Weekday};
use rollmark::explain::{PmAudit, PmAuditor, Question};
use rollmark::model::{Record, Session};
use rollmark::rules::{PmRule, Rules, SyncWindow, Window};
use rollmark::source::{SourceError, SourceErrorKind};
use rollmark::support::Support;
use rollmark::testing::{FakeSchool, FakeSource};

fn clock(text: &str) -> NaiveTime {
    text.parse().unwrap()
}

fn window() -> Window {
    SyncWindow::default().ending("2026-11-20".parse().unwrap())
}

fn rules() -> Rules {
    Rules::new("Europe/London".parse().unwrap())
}

/// Two students, registers at 08:40 and 13:30 on every day of two weeks; Mondays have a lesson at 12:10, in which the
/// first student is absent. From the second week on, PM registration is at 14:00.
fn school(with_flags: bool) -> FakeSchool {
    let mut school = FakeSchool::new();
    school.code("9", "I", "Illness", true);
    for day in (9..=13).chain(16..=20) {
        let date: NaiveDate = format!("2026-11-{day:02}").parse().unwrap();
        let pm = if day < 16 { "13:30:00" } else { "14:00:00" };
        let is_monday = chrono::Datelike::weekday(&date) == Weekday::Mon;
        let registers = [("08:40:00", Some("am")), (pm, Some("pm")), ("12:10:00", None)];
        for (slot, (at, flag)) in registers.into_iter().enumerate().take(if is_monday { 3 } else { 2 }) {
            let (period, at) = (format!("{day}{slot}"), format!("{date}T{at}"));
            school.period(&period, &at, flag.filter(|_| with_flags));
            for student in ["1", "2"] {
                let mut row = school.registration(&format!("{day}{slot}{student}"), student, &at);
                row.in_period(period.as_str()).present().updated(&at);
                if flag.is_none() && student == "1" {
                    row.absent("9");
                }
            }
        }
    }
    school
}

fn audit(with_flags: bool) -> PmAudit {
    let mut auditor = PmAuditor::new(rules(), window());
    auditor.extend(school(with_flags).records());
    auditor.finish().unwrap()
}

#[test]
fn each_start_is_compared_with_the_flags_and_the_best_is_named() {
    let audit = audit(true);
    assert_eq!(audit.compared_with, PmRule::RegistrationPeriods);
    assert_eq!(audit.marks, 40);
    let starts: Vec<_> = audit.starts.iter().map(|start| (start.pm_start, start.differing)).collect();
    // From 14:00 on, the first week's PM register counts as AM's, and ten PM marks are missing.
    let expected = [("12:00:00", 2), ("12:10:00", 2), ("13:30:00", 0), ("14:00:00", 10)];
    assert_eq!(starts, expected.map(|(start, differing)| (clock(start), differing)));
    assert_eq!(audit.best, Some(clock("13:30:00")));
}

#[test]
fn where_marks_differ_is_told_by_weekday_and_register() {
    let audit = audit(true);
    let cells: Vec<_> =
        audit.starts[0].cells.iter().map(|cell| (cell.weekday, cell.register, cell.differing)).collect();
    assert_eq!(cells, [(Weekday::Mon, Some(clock("12:10:00")), 2)]);
    assert!(audit.to_string().contains("Mon 12:10: 2"), "{audit}");
}

#[test]
fn the_dates_on_which_the_pattern_changed_are_told() {
    let changed: Vec<_> = audit(true).changes;
    assert_eq!(changed.len(), 5, "each weekday of the second week");
    assert_eq!(changed[0].date.to_string(), "2026-11-16");
    assert_eq!(changed[0].before, [clock("08:40:00"), clock("13:30:00")].into());
    assert_eq!(changed[0].after, [clock("08:40:00"), clock("14:00:00")].into());
}

#[test]
fn without_flags_the_starts_are_compared_with_the_rules_in_force_and_none_is_best() {
    let audit = audit(false);
    assert_eq!(audit.compared_with, rules().pm());
    assert_eq!(audit.best, None);
    assert_eq!(audit.starts[0].differing, 0, "noon is in force");
    assert_eq!(audit.starts[2].differing, 2, "from 13:30 on, the lesson no longer counts");
}

/// One register a minute of each hour from 11 to 14, on one date; 12:59 on two.
fn crowded(order: impl Iterator<Item = u32>) -> PmAudit {
    let mut school = FakeSchool::new();
    for minute in order {
        let at = format!("2026-11-19T{:02}:{:02}:00", 11 + minute / 60, minute % 60);
        school.registration(&minute.to_string(), "1", &at).present().updated(&at);
    }
    school.registration("1000", "1", "2026-11-20T12:59:00").present().updated("2026-11-20T12:59:00");
    let mut auditor = PmAuditor::new(rules(), window());
    auditor.extend(school.records());
    auditor.finish().unwrap()
}

#[test]
fn of_many_register_times_those_of_most_dates_are_tried() {
    let audit = crowded(0..240);
    let starts: Vec<NaiveTime> = audit.starts.iter().map(|start| start.pm_start).collect();
    assert_eq!(starts.len(), 25, "24 of the feed, and noon");
    assert!(starts.contains(&clock("12:59:00")) && starts.contains(&clock("12:00:00")), "{starts:?}");
    assert_eq!(audit, crowded((0..240).rev()), "the order of arrival decides nothing");
}

#[tokio::test]
async fn what_if_lists_the_marks_that_other_rules_would_change() {
    let (source, rules) = (FakeSource::new(school(true)), rules());
    let support = Support::new(&source, &rules);
    let other = rules.clone().with_pm(PmRule::FirstFrom(clock("13:30:00")));
    let differences = support.what_if(&other, window()).await.unwrap();
    let texts: Vec<String> = differences.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["1 2026-11-09 PM: I (illness) → present", "1 2026-11-16 PM: I (illness) → present"]);
    assert_eq!(differences[0].mark().unwrap().session, Session::Pm);
    assert!(support.what_if(&rules, window()).await.unwrap().is_empty());
    assert_eq!(support.audit_pm(window()).await.unwrap(), audit(true));
}

#[tokio::test]
async fn an_empty_code_table_under_records_with_codes_is_refused_as_a_sync_refuses_it() {
    let mut without_codes = FakeSchool::new();
    school(true).records().filter(|record| !matches!(record, Record::Code(_))).for_each(|row| without_codes.add(row));
    let (source, rules) = (FakeSource::new(without_codes.clone()), rules());
    let support = Support::new(&source, &rules).with_now("2026-11-20T18:00:00Z".parse().unwrap());
    let monday = "2026-11-16".parse().unwrap();
    let refused = [
        support.audit_pm(window()).await.map(drop),
        support.what_if(&rules, window()).await.map(drop),
        support.diagnose(&Question::about("1", monday).with_window(window())).await.map(drop),
    ];
    for result in refused {
        let error = result.unwrap_err();
        assert_eq!(error.source_error().map(SourceError::kind), Some(SourceErrorKind::Incomplete), "{error}");
    }
    let friday = Question::about("1", "2026-11-20".parse().unwrap()).with_window(window());
    assert!(support.diagnose(&friday).await.is_ok(), "nobody has a code on that date");

    let mut auditor = PmAuditor::new(rules, window());
    auditor.extend(without_codes.records());
    let audit = auditor.finish().unwrap();
    assert!(audit.lacks_code_table);
    assert!(serde_json::to_value(&audit).unwrap().get("lacks_code_table").is_none());
}
