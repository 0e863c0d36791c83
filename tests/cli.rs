//! The sync and diagnose examples as programs: exit codes, one-line errors, files that stay as they are, and no key
//! anywhere.

mod common;

use std::process::{Command, Output};

use common::program::program;
use common::tenant::{answering, ok};
use rollmark::isams::simulator::Simulator;
use rollmark::source::FakeSchool;

const KEY: &str = "5f7e6c1a-0000-4000-8000-0123456789ab";

fn sync(arguments: &[&str]) -> Output {
    run("sync", arguments)
}

/// Runs an example with full logs, and makes sure that no output holds the key.
fn run(name: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program(name));
    command.env("RUST_LOG", "trace").args(arguments);
    for name in ["ISAMS_URL", "ISAMS_API_KEY", "ISAMS_CLIENT_ID", "ISAMS_CLIENT_SECRET"] {
        command.env_remove(name);
    }
    let output = command.output().unwrap();
    for stream in [&output.stdout, &output.stderr] {
        assert!(!String::from_utf8_lossy(stream).contains(KEY), "the key shows");
    }
    output
}

fn error_line(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut lines = errors.lines().filter(|line| line.starts_with("error: "));
    let line = lines.next().unwrap_or_default().to_owned();
    assert_eq!(lines.next(), None, "one error, one line");
    line
}

#[test]
fn a_wrong_flag_exits_with_two() {
    let url = ["--url", "https://school.example"];
    for flags in [
        &["--timezone", "Mars/Olympus"][..],
        &["--from", "2026-11-20", "--to", "2026-11-19"],
        &["--from", "2026-11-20"],
        &["--from", "2026-11-20", "--to", "2026-11-20", "--days", "3"],
        &["--cache-expiry", "1h30m"],
        &["--cache-expiry", "5"],
        &["--today", "20/11/2026"],
        &["--pm-start", "1330"],
        &["--days", "-1"],
        &["--store", "postgres"],
        &["--api-key", KEY],
        &url,
        &["--url", "https://school.example", "--client-id", "id"],
        &["--url", "https://school.example", "--client-id", "id", "--client-secret", "s", "--api-key", KEY],
        &["--client-id", "id", "--client-secret", "s"],
        &["--url", "http://school.example", "--api-key", KEY],
        &["--url", "https://school.example", "--api-key", KEY, "--format", "rest"],
    ] {
        let output = sync(flags);
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(error_line(&output).len() > 20, "{flags:?}");
    }
}

#[test]
fn a_failing_tenant_exits_with_one_and_leaves_the_files_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (marks, report) = (folder.path().join("marks"), folder.path().join("report"));
    std::fs::write(&marks, "as it was").unwrap();
    for (reply, says) in [
        ("<html><body>Log in</body></html>", "HTML page"),
        ("", "empty"),
        ("<iSAMS><RegistrationManager><RegistrationCodes><Regis", "middle of the document"),
        ("<Message><MessageName>InvalidApiKey</MessageName><Title>Invalid key</Title></Message>", "Invalid key"),
        ("<iSAMS><RegistrationCodes /></iSAMS>", "registrations"),
    ] {
        let url = answering(ok(reply));
        let (marks, report) = (marks.to_str().unwrap(), report.to_str().unwrap());
        let output = sync(&["--url", &url, "--api-key", KEY, "--marks", marks, "--report", report]);
        assert_eq!(output.status.code(), Some(1), "{reply}");
        assert!(error_line(&output).contains(says), "{}", error_line(&output));
    }
    assert_eq!(std::fs::read_to_string(&marks).unwrap(), "as it was");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_withheld_exits_with_three_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let simulator = Simulator::start(FakeSchool::demo("2026-11-20".parse().unwrap())).await.unwrap();
    let (url, key, store) = (simulator.url(), simulator.api_key(), format!("sqlite:{}", file("marks.db")));
    let run = |marks: &str, more: &[&str]| {
        let flags =
            ["--url", &url, "--api-key", &key, "--store", &store, "--today", "2026-11-20", "--cache-expiry", "0s"];
        let marks = file(marks);
        sync(&[&flags[..], &["--marks", &marks, "--report", &file("report")], more].concat()).status.code()
    };
    assert_eq!(run("first", &[]), Some(0));
    simulator.change(|school| school.remove_registrations(|_| true));
    assert_eq!(run("dry", &["--dry-run"]), Some(3));
    assert_eq!(run("second", &["--allow-removals"]), Some(3));
    let read = |name: &str| std::fs::read_to_string(file(name)).unwrap();
    assert_eq!(read("second"), read("first"));
    assert_eq!(read("dry"), read("first"));
    let report: serde_json::Value = serde_json::from_str(&read("report")).unwrap();
    assert_eq!(report["withheld"]["unproven"], report["marks"]["withheld"]);
}

#[test]
fn without_flags_it_tells_a_story_with_every_change() {
    let output = sync(&["--today", "2026-11-20", "--marks", "-"]);
    assert_eq!(output.status.code(), Some(0));
    let marks = String::from_utf8(output.stdout).unwrap();
    assert_eq!(marks.lines().count(), 1840);
    assert!(marks.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
    let story = String::from_utf8(output.stderr).unwrap();
    assert!(story.contains("0 added, 8 changed, 0 removed"), "{story}");
    assert!(!story.contains("Measured"), "what changed between the two runs proves nothing of the cache: {story}");
    for today in ["0001-01-01", "9999-12-31"] {
        assert_eq!(sync(&["--today", today]).status.code(), Some(0), "{today}");
    }
}

/// What a diagnosis of the demonstration's first student says, as JSON.
fn diagnosis(flags: &[&str]) -> serde_json::Value {
    let output = run("diagnose", &[&["--json", "--today", "2026-11-20"], flags].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn first_finding(diagnosis: &serde_json::Value) -> &str {
    diagnosis["sessions"][0]["findings"][0]["name"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_diagnosis_reads_any_date_and_compares_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", folder.path().join("marks.db").to_str().unwrap());
    let simulator = Simulator::start(FakeSchool::demo("2026-11-20".parse().unwrap())).await.unwrap();
    let (url, key) = (simulator.url(), simulator.api_key());
    let tenant = ["--url", &url, "--api-key", &key];
    let ask = |date: &str, more: &[&str]| {
        let question = ["--student", "4733683200", "--date", date, "--session", "AM"];
        diagnosis(&[&tenant[..], &question, more].concat())
    };
    assert_eq!(first_finding(&ask("2026-11-20", &[])), "consistent");
    assert_eq!(first_finding(&ask("2026-11-20", &["--days", "0", "--expected", "/"])), "consistent");
    assert_eq!(first_finding(&ask("2026-11-19", &["--days", "0", "--expected", "/"])), "outside_window");
    assert_eq!(first_finding(&ask("2026-11-20", &["--expected", "M"])), "cache_may_be_stale");
    assert_eq!(first_finding(&ask("2026-11-20", &["--expected", "M", "--cache-expiry", "0s"])), "no_record");

    let synced = sync(&[&tenant[..], &["--today", "2026-11-20", "--store", &store]].concat());
    assert_eq!(synced.status.code(), Some(0));
    assert_eq!(first_finding(&ask("2026-11-20", &["--store", &store])), "consistent");
    simulator.change(|school| {
        let row = school.records().find_map(|record| match record {
            rollmark::model::Record::Registration(row)
                if row.student == "4733683200".into() && row.at == "2026-11-20T08:40:00".parse().unwrap() =>
            {
                row.id
            }
            _ => None,
        });
        school.registration_mut(row.unwrap().as_str()).unwrap().absent("9").updated("2026-11-20T15:00:00");
    });
    let behind = ask("2026-11-20", &["--store", &store, "--expected", "I"]);
    assert_eq!(first_finding(&behind), "store_behind_source");
    assert_eq!(behind["sessions"][0]["mark"]["code"], "I");
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_replies_repeat_a_sync_and_a_diagnosis() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let simulator = Simulator::start(FakeSchool::demo("2026-11-20".parse().unwrap())).await.unwrap();
    let (url, key, now) = (simulator.url(), simulator.api_key(), "2026-11-20T18:00:00Z");
    let live = sync(&[
        "--url",
        &url,
        "--api-key",
        &key,
        "--now",
        now,
        "--save-replies",
        &file("kept"),
        "--marks",
        &file("live"),
    ]);
    assert_eq!(live.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&live.stderr).contains("pupils' data"));
    drop(simulator);
    assert_eq!(sync(&["--replay", &file("kept"), "--marks", &file("replayed")]).status.code(), Some(0));
    let read = |name: &str| std::fs::read_to_string(file(name)).unwrap();
    assert_eq!(read("replayed"), read("live"));
    let question = ["--student", "4733683200", "--date", "2026-11-20", "--session", "AM"];
    assert_eq!(first_finding(&diagnosis(&[&["--replay", &file("kept")], &question[..]].concat())), "consistent");
    let missing = run("diagnose", &["--replay", &file("nothing"), "--student", "1", "--date", "2026-11-20"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(error_line(&missing).contains("folder"));
}

#[test]
fn the_six_cases_are_played_and_a_wrong_question_exits_with_two() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    let output = run("diagnose", &["--json", "--html", page.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    let answers: Vec<serde_json::Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = answers.iter().map(first_finding).collect();
    assert_eq!(
        names,
        [
            "cache_may_be_stale",
            "pm_rule_picks_other_registration",
            "out_of_school_older_than_registration",
            "outside_window",
            "out_of_school_does_not_cover_session",
            "duplicate_registrations",
        ]
    );
    let page = std::fs::read_to_string(page).unwrap();
    assert!(names.iter().all(|name| page.contains(name)));
    assert!(!page.contains("<script") && !page.contains("http"), "the page needs nothing else");
    let tenant = ["--url", "https://school.example", "--api-key", KEY];
    for flags in [
        &["--student", "1", "--date", "2026-11-20"][..],
        &["--student", "1"],
        &tenant,
        &[&tenant[..], &["--student", "1", "--date", "20/11/2026"]].concat(),
        &[&tenant[..], &["--student", "1", "--date", "2026-11-20", "--session", "noon"]].concat(),
        &[&tenant[..], &["--student", "1", "--date", "2026-11-20", "--expected", ""]].concat(),
        &[&tenant[..], &["--student", "", "--date", "2026-11-20"]].concat(),
        &["--json", "--html", "-"],
        &["--replay", "folder", "--save-replies", "other"],
        &["--mask"],
    ] {
        let output = run("diagnose", flags);
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(error_line(&output).len() > 20, "{flags:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_in_gives_the_same_marks_of_today() {
    let folder = tempfile::tempdir().unwrap();
    let simulator = Simulator::start(FakeSchool::demo("2026-11-20".parse().unwrap())).await.unwrap();
    let (url, key) = (simulator.url(), simulator.api_key());
    simulator.set_client("client", "s&cr=t +%/ü");
    let (id, secret) = (simulator.client_id(), simulator.client_secret());
    let client = ["--client-id", &id, "--client-secret", &secret];
    let marks = |flags: &[&str]| {
        let file = folder.path().join("marks");
        let today = ["--url", &url, "--today", "2026-11-20", "--days", "0", "--marks", file.to_str().unwrap()];
        let output = sync(&[&today[..], flags].concat());
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(!String::from_utf8_lossy(&output.stderr).contains(&secret), "the secret shows");
        std::fs::read_to_string(file).unwrap()
    };
    let expected = marks(&["--api-key", &key]);
    assert_eq!(expected.lines().count(), 80);
    assert_eq!(marks(&["--api-key", &key, "--format", "json"]), expected);
    assert_eq!(marks(&client), expected);
    assert_eq!(marks(&[&client[..], &["--format", "json"]].concat()), expected);
    let over_rest = marks(&[&client[..], &["--format", "rest"]].concat());
    let codes = |marks: &str| -> Vec<String> {
        let code = |line: &str| {
            let mark: serde_json::Value = serde_json::from_str(line).unwrap();
            format!("{} {} {}", mark["student"], mark["session"], mark["code"])
        };
        marks.lines().map(code).collect()
    };
    assert_eq!(codes(&over_rest), codes(&expected));
}
