//! A school's set-up checked by `rollmark check`, as a support desk runs it.

use std::num::NonZeroU32;

use crate::common::program::rollmark;
use chrono::{Datelike, NaiveDate};
use rollmark::rules::{PmRule, Rules};
use rollmark::store::SqliteStore;
use rollmark::sync::{AttendanceSync, Sweep, SyncRequest};
use rollmark::testing::simulator::Simulator;
use rollmark::testing::{FakeSchool, FakeSource};
use serde_json::Value;

const TODAY: &str = "2026-11-20";

/// Ten students in the registers of four weeks: 08:40, a lesson at 12:10, and 13:30; the first and the last are flagged.
fn school() -> FakeSchool {
    let mut school = FakeSchool::new();
    school.code("9", "I", "Illness", true);
    let first: NaiveDate = "2026-10-21".parse().unwrap();
    for date in first.iter_days().take(31).filter(|date| date.weekday().num_days_from_monday() < 5) {
        for (time, flag, taken) in
            [("08:40", Some("am"), "08:52"), ("12:10", None, "12:15"), ("13:30", Some("pm"), "13:41")]
        {
            let period = format!("{date} {time}");
            school.period(&period, &format!("{date}T{time}:00"), flag);
            for student in 1..=10 {
                let id = format!("{period} {student}");
                let mut row = school.registration(&id, &student.to_string(), &format!("{date}T{time}:00"));
                row.in_period(&*period).present().updated(&format!("{date}T{taken}:00"));
            }
        }
    }
    school
}

/// The exit code and the checks, after a run with these flags.
async fn check(school: FakeSchool, flags: &[&str]) -> (i32, Vec<Value>) {
    let simulator = Simulator::start(school).await.unwrap();
    let mut command = rollmark("check");
    command.args(["--url", &simulator.url(), "--api-key", &simulator.api_key(), "--json", "--today", TODAY]);
    command.args(["--now", "2026-11-20T18:00:00Z"]).args(flags);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let checks: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), checks["checks"].as_array().unwrap().clone())
}

const RIGHT: [&str; 4] = ["--cache-expiry", "4h", "--pm-start", "13:30"];

async fn found(school: FakeSchool, name: &str, flags: &[&str]) -> Value {
    let (code, checks) = check(school, &[&RIGHT, flags].concat()).await;
    let found = checks.into_iter().find(|check| check["name"] == name).unwrap();
    assert!(code == 3 || found["verdict"] == "ok", "{found}");
    found
}

#[tokio::test]
async fn a_healthy_school_is_ok_in_every_point() {
    let (code, checks) = check(school(), &RIGHT).await;
    assert_eq!(code, 0, "{checks:#?}");
    let names: Vec<&str> = checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
    let all = ["access", "cache", "pm", "precedence", "window", "codes", "fields", "completeness", "students"];
    assert_eq!(names, all);
    assert!(checks.iter().all(|check| check["advice"] == "" && check["summary"] != ""));
    let fields = &checks[6]["evidence"];
    assert_eq!(fields["read_by"]["registration_student"], "PupilId");
}

#[tokio::test]
async fn a_lesson_that_is_taken_for_the_pm_register_is_found_with_the_start_that_agrees_best() {
    let mut school = school();
    school.registration_mut("2026-11-16 12:10 3").unwrap().absent("9").updated("2026-11-16T12:15:00");
    let (code, checks) = check(school, &["--cache-expiry", "4h"]).await;
    assert_eq!(code, 3);
    let pm = &checks[0];
    assert_eq!((pm["name"].as_str(), pm["verdict"].as_str()), (Some("pm"), Some("wrong")), "the worst comes first");
    assert_eq!(pm["evidence"]["best"], "13:30:00");
    assert_eq!(pm["evidence"]["differing"]["Mon"], 1);
    assert!(pm["advice"].as_str().unwrap().contains("Set the PM start to 13:30"), "{pm}");
}

#[tokio::test]
async fn replies_that_can_be_a_day_old_are_wrong() {
    let (code, checks) = check(school(), &["--pm-start", "13:30"]).await;
    assert_eq!((code, &checks[0]["name"], &checks[0]["verdict"]), (3, &"cache".into(), &"wrong".into()));
    assert_eq!(checks[0]["evidence"]["setting_seconds"], 86_400);
}

#[tokio::test]
async fn a_present_register_over_an_out_of_school_record_is_to_be_looked_at() {
    let mut school = school();
    school
        .out_of_school("901", "3", "2026-11-18T08:00:00", "2026-11-18T12:00:00")
        .coded("9")
        .updated("2026-11-17T16:00:00");
    school.out_of_school("902", "4", "2026-11-18T08:00:00", "2026-11-18T12:00:00").coded("9");
    // One that the register agrees with is not missed.
    school
        .out_of_school("903", "5", "2026-11-18T08:00:00", "2026-11-18T12:00:00")
        .coded("9")
        .updated("2026-11-17T16:00:00");
    school.registration_mut("2026-11-18 08:40 5").unwrap().absent("9");
    let found = found(school, "precedence", &[]).await;
    assert_eq!(found["verdict"], "look");
    assert_eq!((&found["evidence"]["older"], &found["evidence"]["no_timestamp"]), (&1.into(), &1.into()));
}

#[tokio::test]
async fn corrections_near_and_beyond_the_windows_reach_ask_for_a_longer_one() {
    let mut near = school();
    near.registration_mut("2026-10-22 08:40 3").unwrap().updated("2026-11-19T09:00:00");
    let near = found(near, "window", &[]).await;
    assert_eq!((&near["verdict"], &near["evidence"]["latest_correction_days"]), (&"look".into(), &28.into()));
    let mut beyond = school();
    beyond
        .out_of_school("901", "3", "2026-09-14T08:00:00", "2026-09-15T12:00:00")
        .coded("9")
        .updated("2026-11-10T09:00:00");
    let beyond = found(beyond, "window", &[]).await;
    assert_eq!((&beyond["verdict"], &beyond["evidence"]["latest_correction_days"]), (&"wrong".into(), &56.into()));
    assert!(beyond["advice"].as_str().unwrap().contains("--days 63"), "{beyond}");
}

#[tokio::test]
async fn what_sweeps_corrected_asks_for_a_longer_window() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("marks.db");
    let mut old = school();
    old.registration("old", "3", "2026-10-05T08:40:00").present().updated("2026-10-05T08:52:00");
    let source = FakeSource::new(old.clone());
    let rules = Rules::new("Europe/London".parse().unwrap()).with_pm(PmRule::first_from(13, 30).unwrap());
    let sync = AttendanceSync::new(source.clone(), SqliteStore::open(&path).unwrap(), "school", rules);
    let sweep = Sweep::default().with_nights(NonZeroU32::MIN);
    let night = |day: u32| {
        let now = format!("2026-11-{day}T18:00:00Z").parse().unwrap();
        sync.run(SyncRequest::overnight(TODAY.parse().unwrap()).with_now(now).with_sweep(sweep))
    };
    let store = format!("sqlite:{}", path.display());
    assert_eq!(night(18).await.unwrap().outside_window.unwrap().added, 1);
    let first = found(old.clone(), "window", &["--store", &store]).await;
    assert_eq!(
        (&first["verdict"], &first["evidence"]["swept_changes"]),
        (&"ok".into(), &0.into()),
        "read for the first time"
    );

    source.change(|school| {
        school.registration_mut("old").unwrap().absent("9").updated("2026-11-19T09:00:00");
    });
    assert_eq!(night(19).await.unwrap().outside_window.unwrap().changed, 1);
    let swept = found(old, "window", &["--store", &store]).await;
    assert_eq!((&swept["verdict"], &swept["evidence"]["swept_changes"]), (&"look".into(), &1.into()));
    assert!(swept["summary"].as_str().unwrap().contains("corrected 1 mark from before that"), "{swept}");
    assert!(swept["advice"].as_str().unwrap().contains("--days"), "{swept}");
}

#[tokio::test]
async fn unknown_codes_are_counted_by_code() {
    let mut school = school();
    for student in ["1", "2"] {
        school.registration_mut(&format!("2026-11-18 08:40 {student}")).unwrap().absent("77");
    }
    let found = found(school, "codes", &[]).await;
    assert_eq!((&found["verdict"], &found["evidence"]["unknown"]["77"]), (&"wrong".into(), &2.into()));
}

#[tokio::test]
async fn thin_days_and_registers_that_were_not_taken_are_found() {
    let mut school = school();
    school.remove_registrations(|row| row.at.to_string().starts_with("2026-11-12") && row.student.as_str() != "1");
    let mut row = school.registration_mut("2026-11-17 08:40 2").unwrap();
    (row.registered, row.last_updated) = (false, None);
    let found = found(school, "completeness", &[]).await;
    assert_eq!(found["verdict"], "look");
    assert_eq!(found["evidence"]["thin_dates"], serde_json::json!(["2026-11-12"]));
    assert_eq!(found["evidence"]["not_taken_dates"], serde_json::json!(["2026-11-17"]));
}

#[tokio::test]
async fn ids_that_are_alike_and_students_that_vanished_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", folder.path().join("marks.db").display());
    let mut before = school();
    for id in ["x1", "X1"] {
        before.registration(id, id, "2026-11-18T08:40:00").present().updated("2026-11-18T08:50:00");
    }
    let simulator = Simulator::start(before.clone()).await.unwrap();
    let mut sync = rollmark("sync");
    sync.args(["--url", &simulator.url(), "--api-key", &simulator.api_key(), "--store", &store, "--today", TODAY]);
    let synced = tokio::task::spawn_blocking(move || sync.output().unwrap()).await.unwrap();
    assert!(synced.status.success(), "{}", String::from_utf8_lossy(&synced.stderr));
    let bytes = std::fs::read(store.trim_start_matches("sqlite:")).unwrap();

    let mut after = before;
    after.remove_registrations(|row| row.student.as_str() == "7");
    let found = found(after, "students", &["--store", &store]).await;
    assert_eq!((&found["verdict"], &found["evidence"]["similar"]), (&"look".into(), &1.into()));
    assert_eq!(found["evidence"]["vanished"], serde_json::json!(["7"]));
    assert_eq!(std::fs::read(store.trim_start_matches("sqlite:")).unwrap(), bytes, "a store is only read");
}

#[tokio::test]
async fn a_field_that_may_decide_is_found() {
    let mut school = school();
    school
        .out_of_school("901", "3", "2026-11-18T08:00:00", "2026-11-18T12:00:00")
        .coded("9")
        .updated("2026-11-18T08:00:00");
    let simulator = Simulator::start(school).await.unwrap();
    simulator.rename_field("LastUpdated", "SavedAt");
    let mut command = rollmark("check");
    command.args(["--url", &simulator.url(), "--api-key", &simulator.api_key(), "--json", "--today", TODAY]);
    command.args(RIGHT);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let checks: Value = serde_json::from_slice(&output.stdout).unwrap();
    let fields = checks["checks"].as_array().unwrap().iter().find(|check| check["name"] == "fields").unwrap();
    assert_eq!((&fields["verdict"], &fields["evidence"]["undecided"][0]), (&"look".into(), &"SavedAt".into()));
}

#[tokio::test]
async fn what_can_not_be_read_is_an_error() {
    let mut command = rollmark("check");
    command.args(["--url", "http://127.0.0.1:1", "--api-key", "key"]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test]
async fn a_source_that_reaches_today_only_is_checked_for_today() {
    let simulator = Simulator::start(FakeSchool::demo(TODAY.parse().unwrap())).await.unwrap();
    let mut command = rollmark("check");
    command.args(["--url", &simulator.url(), "--format", "rest", "--json", "--today", TODAY]);
    command.args(["--client-id", &simulator.client_id(), "--client-secret", &simulator.client_secret()]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let checks: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let window = checks["checks"].as_array().unwrap().iter().find(|check| check["name"] == "window").unwrap();
    assert_eq!((output.status.code(), window["verdict"].as_str()), (Some(3), Some("look")), "{window}");
}

#[tokio::test]
async fn dates_that_do_not_reach_today_show_nothing_of_corrections() {
    for range in [["--from", "2026-11-02", "--to", "2026-11-06"], ["--from", "2026-12-02", "--to", "2026-12-06"]] {
        assert_eq!(found(school(), "window", &range).await["verdict"], "ok");
    }
}
