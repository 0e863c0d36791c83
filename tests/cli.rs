//! The command from outside: exit codes, one-line errors, files that stay as they are, and no key
//! anywhere.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::program::rollmark;
use common::tenant::{answering, answering_with, ok};
use rollmark::model::StudentId;
use rollmark::store::{MarkStore, RunQuery, SqliteStore};
use rollmark::testing::FakeSchool;
use rollmark::testing::simulator::Simulator;

const KEY: &str = "5f7e6c1a-0000-4000-8000-0123456789ab";

fn sync(arguments: &[&str]) -> Output {
    run("sync", arguments)
}

/// Runs a subcommand with full logs, and makes sure that no output holds the key.
fn run(name: &str, arguments: &[&str]) -> Output {
    let output = rollmark(name).env("RUST_LOG", "trace").args(arguments).output().unwrap();
    for stream in [&output.stdout, &output.stderr] {
        assert!(!String::from_utf8_lossy(stream).contains(KEY), "the key shows");
    }
    output
}

/// The demonstration's school on a port of its own, for as long as this lives.
struct School {
    simulator: Simulator,
    flags: Vec<String>,
    _runtime: tokio::runtime::Runtime,
}

impl School {
    fn demo() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let simulator = runtime.block_on(Simulator::start(FakeSchool::demo(TODAY[1].parse().unwrap()))).unwrap();
        let flags = ["--url".into(), simulator.url(), "--api-key".into(), simulator.api_key()].to_vec();
        Self { simulator, flags, _runtime: runtime }
    }

    /// The flags of the tenant and of its today, and more.
    fn with<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let tenant = self.flags.iter().map(String::as_str);
        tenant.chain(TODAY).chain(more.iter().copied()).collect()
    }

    /// A student of the school.
    fn simulator_student(&self) -> String {
        FakeSchool::demo(TODAY[1].parse().unwrap()).registrations()[0].student.to_string()
    }

    /// Runs a line of shell in a folder, where `rollmark` stands for itself and meets this school.
    #[cfg(unix)]
    fn in_shell(&self, folder: &Path, line: &str) -> Output {
        let mut shell = Command::new("bash");
        let programs = Path::new(env!("CARGO_BIN_EXE_rollmark")).parent().unwrap().to_owned();
        let path = std::env::join_paths([programs, "/usr/bin".into(), "/bin".into()]).unwrap();
        shell.env("ISAMS_URL", self.simulator.url()).env("ISAMS_API_KEY", self.simulator.api_key());
        shell.current_dir(folder).env("PATH", path).args(["-c", line]);
        shell.output().unwrap()
    }
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
        &["--cache-expiry", "5"],
        &["--cache-expiry", "soon"],
        &["--cache-expiry", "999999999999999999y"],
        &["--midnight-end", "noon"],
        &["--closed", "20/11/2026"],
        &["--field", "SavedAt"],
        &["--field", "no_such_list=SavedAt"],
        &["--field", "out_of_school_updated="],
        &["--field", "out_of_school_updated=SavedAt,"],
        &["--today", "20/11/2026"],
        &["--pm-start", "1330"],
        &["--days", "-1"],
        &["--days", "4000000"],
        &["--sweep", "--sweep-nights", "0"],
        &["--school", " "],
        &["--student", " "],
        &["--store", "postgres"],
        &["--api-key", KEY],
        &url,
        &["--url", "https://school.example", "--client-id", "id"],
        &["--url", "https://school.example", "--client-id", "id", "--client-secret", "s", "--api-key", KEY],
        &["--client-id", "id", "--client-secret", "s"],
        &["--today", "2026-11-20"],
        &["--save-plan", "plan", "--url", "http://127.0.0.1:9", "--api-key", KEY],
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
fn without_a_source_it_says_where_one_is() {
    for (name, flags) in [("sync", &[][..]), ("diagnose", &["--student", "1", "--date", "2026-11-20"]), ("audit", &[])]
    {
        let output = run(name, flags);
        assert_eq!(output.status.code(), Some(2), "{name}");
        let line = error_line(&output);
        assert!(
            ["--url", "--replay", "rollmark simulate", "--example sync"].iter().all(|way| line.contains(way)),
            "{line}"
        );
    }
}

#[test]
fn every_subcommand_explains_itself_with_an_example() {
    let help = String::from_utf8(run("--help", &[]).stdout).unwrap();
    let names = [
        "sync",
        "diagnose",
        "check",
        "audit",
        "history",
        "summary",
        "registers",
        "probe",
        "apply",
        "erase",
        "prune",
        "simulate",
        "completions",
    ];
    for name in names {
        assert!(help.contains(&format!("  {name} ")), "{help}");
        let output = run(name, &["--help"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && text.contains("Example") && text.contains(&format!("rollmark {name}")),
            "{text}"
        );
    }
    let nothing = Command::new(env!("CARGO_BIN_EXE_rollmark")).output().unwrap();
    assert_eq!((nothing.status.code(), String::from_utf8_lossy(&nothing.stderr).contains("Usage")), (Some(2), true));
    let completions = run("completions", &["bash"]);
    assert!(String::from_utf8(completions.stdout).unwrap().contains("--save-plan"));
}

#[test]
fn a_first_sync_writes_every_mark_to_standard_output() {
    let school = School::demo();
    let output = sync(&school.with(&["--marks", "-"]));
    assert_eq!(output.status.code(), Some(0));
    let marks = String::from_utf8(output.stdout).unwrap();
    assert_eq!(marks.lines().count(), 1840);
    assert!(marks.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
    let summary = String::from_utf8(output.stderr).unwrap();
    assert!(summary.contains("1840 added, 0 changed, 0 removed"), "{summary}");
    for today in ["0001-01-01", "9999-12-31"] {
        let tenant = school.flags.iter().map(String::as_str).chain(["--today", today]);
        assert_eq!(sync(&tenant.collect::<Vec<_>>()).status.code(), Some(0), "{today}");
    }
}

#[cfg(unix)]
#[test]
fn secrets_come_from_files_and_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let school = School::demo();
    let (id, url) = (school.simulator.client_id(), school.simulator.url());
    std::fs::write(folder.path().join("key"), format!("  {}\r\nnot the key\n", school.simulator.api_key())).unwrap();
    std::fs::write(folder.path().join("secret"), school.simulator.client_secret()).unwrap();
    std::fs::write(folder.path().join("empty"), "\nlate").unwrap();
    let with_mark = format!("\u{FEFF}{}\r\n", school.simulator.api_key());
    std::fs::write(folder.path().join("by-notepad"), with_mark).unwrap();
    let no_key = format!("env -u ISAMS_API_KEY rollmark sync --today 2026-11-20 --days 0 --url {url}");
    for (line, code) in [
        ("--api-key-file key".to_owned(), 0),
        ("--api-key-file - < key".to_owned(), 0),
        ("--api-key-file by-notepad".to_owned(), 0),
        ("--api-key-file /dev/zero".to_owned(), 2),
        ("--api-key-file key --marks ./key".to_owned(), 2),
        (format!("--client-id {id} --client-secret-file secret --report secret"), 2),
        (format!("--client-id {id} --client-secret-file secret"), 0),
        (format!("--client-id {id} --client-secret-file - < secret"), 0),
        ("--api-key-file empty".to_owned(), 2),
        ("--api-key-file missing".to_owned(), 2),
        ("--api-key-file . ".to_owned(), 2),
        ("--api-key k --api-key-file key".to_owned(), 2),
        (format!("--client-id {id} --client-secret-file secret --api-key-file key"), 2),
    ] {
        let output = school.in_shell(folder.path(), &format!("{no_key} {line}"));
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{line}: {errors}");
        assert!(!errors.contains(&school.simulator.api_key()), "the key shows");
    }
    let key = std::fs::read_to_string(folder.path().join("key")).unwrap();
    assert!(key.contains(&school.simulator.api_key()), "no output has replaced it");
    let both = school.in_shell(folder.path(), "rollmark sync --api-key-file key");
    assert!(error_line(&both).contains("variable"), "{}", error_line(&both));
}

#[test]
fn a_saved_plan_is_applied_once() {
    let folder = tempfile::tempdir().unwrap();
    let school = School::demo();
    let store = format!("sqlite:{}", folder.path().join("marks.db").display());
    let plan = folder.path().join("plan").display().to_string();
    let dry_run = school.with(&["--store", &store, "--dry-run", "--pm-start", "13:00", "--save-plan", &plan]);
    let planned = sync(&dry_run);
    assert_eq!(planned.status.code(), Some(0));
    let sentences = String::from_utf8_lossy(&planned.stdout).into_owned();
    assert!(sentences.contains("updated 2026-10-21 08:"), "in school time: {sentences}");
    let other_school = run("apply", &[&plan, "--store", &store, "--school", "other"]);
    assert_eq!(other_school.status.code(), Some(1), "a plan is of one school");
    let applied = run("apply", &[&plan, "--store", &store, "--json"]);
    assert_eq!(applied.status.code(), Some(0), "{}", error_line(&applied));
    let applied: serde_json::Value = serde_json::from_slice(&applied.stdout).unwrap();
    assert_eq!((&applied["run"], &applied["marks"]["added"]), (&1.into(), &1840.into()));
    let again = run("apply", &[&plan, "--store", &store]);
    assert_eq!(again.status.code(), Some(1));
    assert!(error_line(&again).contains("plan"), "{}", error_line(&again));
    let changing = school.with(&["--store", &store, "--dry-run", "--save-plan", &plan]);
    assert_eq!(sync(&changing).status.code(), Some(0));
    let elsewhere = folder.path().join("other.db");
    let mistyped = run("apply", &[&plan, "--store", &format!("sqlite:{}", elsewhere.display())]);
    assert!(error_line(&mistyped).contains("no store at"), "{}", error_line(&mistyped));
    assert!(!elsewhere.exists());
    let runs: serde_json::Value =
        serde_json::from_slice(&run("history", &["--store", &store, "--json"]).stdout).unwrap();
    assert_eq!(runs.as_array().unwrap().len(), 1);
    let shown = ["--store", &store, "--student", "4733683200", "--json"];
    let shown: serde_json::Value = serde_json::from_slice(&run("history", &shown).stdout).unwrap();
    assert_eq!(shown[0]["changes"][0]["run"], 1, "{shown}");
    std::fs::write(folder.path().join("plan"), "{}").unwrap();
    assert!(error_line(&run("apply", &[&plan, "--store", &store])).contains("--save-plan"));
}

#[test]
fn the_simulator_says_how_to_reach_it() {
    use std::io::BufRead;
    let mut child = rollmark("simulate")
        .args(["--json", "--today", "2026-11-20"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let tenant: serde_json::Value = serde_json::from_str(&line).unwrap();
    let (url, key) = (tenant["url"].as_str().unwrap(), tenant["api_key"].as_str().unwrap());
    let synced = sync(&[&["--url", url, "--api-key", key][..], &TODAY].concat());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(synced.status.code(), Some(0));
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
fn a_diagnosis_is_a_page_too_and_a_wrong_question_exits_with_two() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    let school = School::demo();
    let question = ["--student", "4733683200", "--date", "2026-11-20", "--expected", "M"];
    let output =
        run("diagnose", &school.with(&[&question[..], &["--json", "--html", page.to_str().unwrap()]].concat()));
    assert_eq!(output.status.code(), Some(0));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("The school expects M") && page.contains("<ol>"));
    assert!(!page.contains(first_finding(&answer)) && !page.contains("then sync"), "the page is for an office");
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
        &[&tenant[..], &question, &["--json", "--html", "-"]].concat(),
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

const TODAY: [&str; 2] = ["--today", "2026-11-20"];

/// How many runs the store of a folder holds.
fn runs(folder: &Path) -> usize {
    let store = SqliteStore::open_read_only(folder.join("marks.db")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(store.runs(&"school".into(), &RunQuery::all())).unwrap().len()
}

#[cfg(unix)]
const SYNC: &str = "rollmark sync --today 2026-11-20 --store sqlite:marks.db";

#[cfg(unix)]
#[test]
fn marks_go_through_standard_output_a_pipe_and_a_link() {
    let school = School::demo();
    let folder = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir_in("/dev/shm").unwrap();
    let elsewhere = other.path().join("marks");
    for (line, file) in [
        ("--marks - > marks", folder.path().join("marks")),
        ("--marks /dev/stdout > marks", folder.path().join("marks")),
        ("--marks marks > marks", folder.path().join("marks")),
        ("--marks - | cat > marks", folder.path().join("marks")),
        ("--marks >(cat > marks; touch done); until [ -e done ]; do sleep 0.01; done", folder.path().join("marks")),
        ("--marks /dev/fd/3 3> marks", folder.path().join("marks")),
        ("--marks link", elsewhere.clone()),
        ("--marks link", elsewhere.clone()),
    ] {
        let _ = std::os::unix::fs::symlink(&elsewhere, folder.path().join("link"));
        let output = school.in_shell(folder.path(), &format!("{SYNC} {line}"));
        assert_eq!(output.status.code(), Some(0), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(std::fs::read_to_string(file).unwrap().lines().count(), 1840, "{line}");
    }
    assert!(folder.path().join("link").is_symlink());
}

#[cfg(unix)]
#[test]
fn a_target_that_cannot_be_written_shows_before_the_commit() {
    let school = School::demo();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    std::os::unix::fs::symlink("loop", folder.path().join("loop")).unwrap();
    for line in [
        "--marks folder",
        "--marks folder/",
        "--marks new/",
        "--marks missing/marks",
        "--marks loop",
        "--marks /dev/full",
        "--marks - > /dev/full",
        "--report /dev/full",
        "--marks /proc/marks",
        "--marks /proc/version",
        "--report fine --marks /sys/marks",
    ] {
        let output = school.in_shell(folder.path(), &format!("{SYNC} {line}"));
        assert_eq!(output.status.code(), Some(1), "{line}");
        assert!(error_line(&output).contains("can't write"), "{line}: {}", error_line(&output));
        let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names.count(), 2, "{line} leaves nothing, and no store");
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_that_closes_leaves_the_store_written_and_says_so() {
    let school = School::demo();
    let folder = tempfile::tempdir().unwrap();
    let output = school.in_shell(folder.path(), &format!("{SYNC} --marks - | head -1; exit ${{PIPESTATUS[0]}}"));
    assert_eq!(output.status.code(), Some(1));
    assert!(error_line(&output).contains("the store was written"), "{}", error_line(&output));
    assert_eq!(runs(folder.path()), 1);
}

#[cfg(unix)]
#[test]
fn one_target_for_two_outputs_and_the_stores_own_files_are_wrong_flags() {
    let school = School::demo();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    assert_eq!(school.in_shell(path, &format!("{SYNC} --marks marks")).status.code(), Some(0));
    std::fs::create_dir(path.join("folder")).unwrap();
    for (target, link) in [("new", "to-new"), ("marks.db", "to-store"), ("marks", "to-marks")] {
        std::os::unix::fs::symlink(target, path.join(link)).unwrap();
    }
    std::fs::hard_link(path.join("marks"), path.join("twin")).unwrap();
    std::fs::hard_link(path.join("marks.db"), path.join("store-twin")).unwrap();
    let marks = std::fs::read(path.join("marks")).unwrap();
    for line in [
        "--marks new --report new",
        "--marks new --report ./folder/../new",
        "--marks new --report to-new",
        "--marks twin --report to-marks",
        "--marks - --report -",
        "--marks - --report /dev/stdout | cat; exit ${PIPESTATUS[0]}",
        "--marks - --report marks >> marks",
        "--marks marks.db",
        "--marks to-store",
        "--report store-twin",
        "--report ./marks.db-wal",
        "--report folder/../marks.db-shm",
        "--report marks.db-journal",
        "--store sqlite:to-store --marks marks.db-wal",
        "--store sqlite:later.db --marks ./later.db",
    ] {
        let store = if line.contains("--store") { "" } else { "--store sqlite:marks.db" };
        let output = school.in_shell(path, &format!("rollmark sync {store} {line}"));
        assert_eq!(output.status.code(), Some(2), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(std::fs::read(path.join("marks")).unwrap(), marks);
    assert!(!path.join("new").exists());
    assert_eq!(runs(path), 1);
    let page = "rollmark diagnose --student 1 --date 2026-11-20 --store sqlite:marks.db --html marks.db";
    assert_eq!(school.in_shell(path, page).status.code(), Some(2));
}

#[cfg(unix)]
#[test]
fn nothing_panics_where_standard_output_or_error_is_closed_or_full() {
    let school = School::demo();
    let folder = tempfile::tempdir().unwrap();
    for stream in ["2>&-", ">&-", ">&- 2>&-", "2>/dev/full", ">/dev/full", ">/dev/full 2>&1", "2> >(true)", "> >(true)"]
    {
        for (name, flags, code) in [
            ("sync", "--today 2026-11-20 --days 1", 0),
            ("sync", "--today 2026-11-20 --days 1 --marks /dev/null", 0),
            ("sync", "--marks folder-that-is-missing/marks", 1),
            ("sync", "--unknown", 2),
            ("sync", "--days 1 --pm-start 1", 2),
            ("sync", "--help", 0),
            ("diagnose", "--student 4733683200 --date 2026-11-20", 0),
            ("diagnose", "--student 4733683200 --date 2026-11-20 --json", 0),
            ("completions", "bash", 0),
            ("audit", "--today 2026-11-20 --days 1", 0),
            ("probe", "--today 2026-11-20", 0),
            ("history", "--store sqlite:nothing.db", 0),
        ] {
            let output =
                school.in_shell(folder.path(), &format!("env RUST_LOG=trace,=[ rollmark {name} {flags} {stream}"));
            // What programs read must not be lost in silence.
            let is_lost = (flags.ends_with("--json") || name == "completions") && stream.starts_with(">/dev/full");
            let code = if is_lost { 1 } else { code };
            assert_eq!(output.status.code(), Some(code), "{name} {flags} {stream}");
        }
    }
}

#[cfg(unix)]
#[test]
fn the_mode_of_a_target_stays_and_a_new_file_is_its_owners() {
    let school = School::demo();
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mode = |name: &str| folder.path().join(name).metadata().unwrap().permissions().mode() & 0o777;
    std::fs::write(folder.path().join("shared"), "as it was").unwrap();
    std::fs::set_permissions(folder.path().join("shared"), PermissionsExt::from_mode(0o640)).unwrap();
    let output = school.in_shell(folder.path(), &format!("umask 0; {SYNC} --marks shared --report new"));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!((mode("shared"), mode("new")), (0o640, 0o600));
    assert_eq!(std::fs::read_to_string(folder.path().join("shared")).unwrap().lines().count(), 1840);
    let report: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(folder.path().join("new")).unwrap()).unwrap();
    assert_eq!(report["run"], 1);
}

/// A tenant that answers half of a reply, and says when it was asked.
#[cfg(unix)]
fn stalling() -> (String, std::sync::mpsc::Receiver<()>) {
    use std::io::Write;
    let (asked, was_asked) = std::sync::mpsc::channel();
    let url = answering_with(move |stream| {
        let half = "HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n<iSAMS><RegistrationManager><RegistrationStatuses>";
        stream.write_all(half.as_bytes()).unwrap();
        asked.send(()).unwrap();
        // Until the program goes away.
        let _ = std::io::copy(stream, &mut std::io::sink());
    });
    (url, was_asked)
}

#[cfg(unix)]
fn signalled(mut child: std::process::Child, signal: &str) -> Option<i32> {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    child.wait().unwrap().code()
}

#[cfg(unix)]
fn spawned(folder: &Path, name: &str, flags: &[&str]) -> std::process::Child {
    use std::process::Stdio;
    let mut command = rollmark(name);
    command.current_dir(folder).args(flags).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[cfg(unix)]
fn names(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[cfg(unix)]
#[test]
fn a_signal_during_a_fetch_gives_the_lease_back_and_leaves_nothing() {
    let outputs = ["--marks", "marks", "--report", "report"];
    let store = ["--store", "sqlite:marks.db"];
    let student = ["--student", "1", "--date", "2026-11-20"];
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        for (name, more) in [
            ("sync", [&outputs[..], &store].concat()),
            ("diagnose", [&["--html", "page"], &student[..]].concat()),
            ("audit", vec![]),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let (url, was_asked) = stalling();
            let tenant = ["--url", &url, "--api-key", KEY, "--save-replies", "kept"];
            let child = spawned(folder.path(), name, &[&tenant[..], &more].concat());
            was_asked.recv().unwrap();
            assert_eq!(signalled(child, signal), Some(code), "{name}");
            assert_eq!(names(&folder.path().join("kept")), [""; 0], "{name}");
            let left = names(folder.path());
            assert!(left.iter().all(|name| ["kept", "marks.db"].contains(&name.as_str())), "{name}: {left:?}");
            if name == "sync" {
                assert_eq!(runs(folder.path()), 0);
                assert_lease_is_free(folder.path());
            }
        }
    }
}

/// The next run need not wait.
fn assert_lease_is_free(folder: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let lease = runtime.block_on(async {
        let store = SqliteStore::open(folder.join("marks.db")).unwrap();
        store.acquire_lease(&"school".into(), std::time::Duration::from_millis(1)).await.unwrap()
    });
    assert!(lease.is_some(), "the lease is held");
}

#[cfg(unix)]
#[test]
fn a_signal_while_another_run_holds_the_lease_ends_the_waiting() {
    let school = School::demo();
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("marks.db")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let held = runtime.block_on(store.acquire_lease(&"school".into(), std::time::Duration::from_secs(600))).unwrap();
    assert!(held.is_some());
    let child = spawned(folder.path(), "sync", &school.with(&["--marks", "marks", "--store", "sqlite:marks.db"]));
    until_it_has_opened_its_outputs(folder.path());
    assert_eq!(signalled(child, "-TERM"), Some(143));
    assert_eq!(names(folder.path()).iter().filter(|name| !name.starts_with("marks.db")).count(), 0);
}

#[cfg(unix)]
fn until_it_has_opened_its_outputs(folder: &Path) {
    while !names(folder).iter().any(|name| name.starts_with(".rollmark-")) {
        std::thread::yield_now();
    }
}

#[cfg(unix)]
#[test]
fn a_signal_at_any_moment_leaves_whole_runs_and_a_free_lease() {
    let school = School::demo();
    for moment in 0..12 {
        let folder = tempfile::tempdir().unwrap();
        let flags = ["--store", "sqlite:marks.db", "--save-replies", "kept", "--marks", "marks"];
        let child = spawned(folder.path(), "sync", &school.with(&flags));
        until_it_has_opened_its_outputs(folder.path());
        std::thread::sleep(std::time::Duration::from_millis(moment * 60));
        let code = signalled(child, "-TERM");
        assert!([Some(143), Some(0)].contains(&code), "{code:?}");
        assert_eq!(names(folder.path()).iter().filter(|name| name.starts_with('.')).count(), 0);
        if folder.path().join("marks").exists() {
            assert_eq!(runs(folder.path()), 1, "the marks are those of the run");
        }
        if folder.path().join("kept").exists() {
            let kept = names(&folder.path().join("kept"));
            assert_eq!(kept.len() % 2, 0, "{kept:?}");
        }
        assert_lease_is_free(folder.path());
    }
}

#[cfg(unix)]
#[test]
fn a_signal_ends_the_wait_for_a_reader() {
    let school = School::demo();
    for (marks, is_written) in [("pipe", false), ("-", true)] {
        let folder = tempfile::tempdir().unwrap();
        let made = Command::new("mkfifo").arg(folder.path().join("pipe")).status().unwrap();
        assert!(made.success());
        let flags = ["--store", "sqlite:marks.db", "--report", "report", "--marks", marks];
        let child = spawned(folder.path(), "sync", &school.with(&flags));
        if is_written {
            // The report is in its place before the marks wait for their reader.
            while !folder.path().join("report").exists() {
                std::thread::yield_now();
            }
            assert_eq!(signalled(child, "-INT"), Some(130));
            assert_eq!(runs(folder.path()), 1);
        } else {
            until_signals_are_caught(child.id());
            assert_eq!(signalled(child, "-INT"), Some(130));
            assert_eq!(names(folder.path()), ["pipe"]);
        }
    }
}

/// SIGINT and SIGTERM are the second and the fifteenth bit.
#[cfg(unix)]
fn until_signals_are_caught(process: u32) {
    let caught = || {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?.trim().to_owned();
        u64::from_str_radix(&mask, 16).ok()
    };
    while caught().is_none_or(|mask| mask & 0x4002 != 0x4002) {
        std::thread::yield_now();
    }
}

#[test]
fn what_a_killed_run_left_does_not_block_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    std::fs::create_dir(&kept).unwrap();
    for name in ["replies-1.records.jsonl", "replies-1.part", "replies-2.records.jsonl"] {
        std::fs::write(kept.join(name), "{\"regi").unwrap();
    }
    std::fs::write(folder.path().join(".rollmark-aB3xyz"), "half").unwrap();
    let flags =
        ["--save-replies", kept.to_str().unwrap(), "--marks", &folder.path().join("marks").display().to_string()];
    let school = School::demo();
    assert_eq!(sync(&school.with(&flags)).status.code(), Some(0));
    let replay = ["--replay", kept.to_str().unwrap()];
    assert_eq!(sync(&[&TODAY[..], &replay].concat()).status.code(), Some(0));
    let again = sync(&school.with(&flags));
    assert_eq!(again.status.code(), Some(1));
    assert!(error_line(&again).contains("already"), "whole replies are not replaced");
}

#[test]
fn a_secret_at_a_wrong_place_is_not_repeated() {
    for (name, flags) in [
        ("sync", &[&*format!("--api-kye={KEY}")][..]),
        ("sync", &["--api-kye", KEY]),
        ("sync", &[KEY]),
        ("sync", &["--", "hunter2"]),
        ("sync", &["hunter2"]),
        ("sync", &["--format", KEY]),
        ("sync", &["--mask=hunter2", "--save-replies", "kept"]),
        ("sync", &["--days", KEY]),
        ("sync", &["--now", KEY]),
        ("sync", &["--store", KEY]),
        ("sync", &["--store", "postgres://portal:hunter2@db/marks"]),
        ("sync", &["--store", "sqlite:postgres://portal:hunter2@db/marks"]),
        ("sync", &["--store", "portal:one hunter2 two@db"]),
        ("sync", &["--field", "postgres://portal:one hunter2 two@db/marks=SavedAt"]),
        ("sync", &["--postgres://portal:hunter2@db/marks"]),
        ("sync", &["--field", KEY]),
        ("sync", &["--field", &format!("{KEY}=SavedAt")]),
        ("sync", &[&format!("--dry-run={KEY}")]),
        ("sync", &[&format!("-p{KEY}")]),
        ("sync", &[&format!("--{KEY}")]),
        ("sync", &["--url", KEY, "--api-key", "k"]),
        ("history", &["--store", "memory", KEY]),
        ("probe", &[KEY]),
        ("audit", &[KEY]),
        ("diagnose", &["--date", KEY]),
        ("simulate", &["--fault", KEY]),
        ("apply", &["--store", KEY, "plan"]),
        ("completions", &[KEY]),
        (KEY, &[]),
    ] {
        let output = run(name, flags);
        assert_eq!(output.status.code(), Some(2), "{name} {flags:?}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!text.contains("hunter2"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        error_line(&output);
    }
}

/// A code name that would forge a line, turn it round or clear the terminal.
const FORGED: &str = "1\nPM 2026-11-20: present\r\u{1b}[2J\u{85}a\u{2028}b\u{2029}c\u{202e}d\u{2066}e\u{61c}f";

#[test]
fn what_comes_from_outside_has_no_line_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let row = serde_json::json!({
        "Id": "100\u{2028}\u{202e}", "PupilId": "1", "Registered": "0", "Code": "9",
        "RegistrationDateTime": "2026-11-20T08:40:00", "LastUpdated": "soon",
    });
    let code = serde_json::json!({"Id": "9", "Code": "I", "Name": FORGED, "Absence": "1"});
    let url = answering(ok(serde_json::json!({"iSAMS": {
        "RegistrationCodes": {"Row": [code]}, "RegistrationStatuses": {"Row": [row]}, "OutOfSchoolPupils": "",
        "RegistrationPeriods": "",
    }})
    .to_string()));
    let tenant = ["--url", &url, "--api-key", KEY, "--format", "json", "--now", "2026-11-20T18:00:00Z"];
    let store = format!("sqlite:{}", folder.path().join("marks.db").display());
    let written = sync(&[&tenant[..], &["--store", &store, "--marks", "-"]].concat());
    assert_eq!(written.status.code(), Some(0), "{}", error_line(&written));
    let planned = sync(&[&tenant[..], &["--dry-run"]].concat());
    let changed = run("history", &["--store", &store, "--student", "1"]);
    let listed = run("history", &["--store", &store]);
    let question = ["--student", "1", "--date", "2026-11-20", "--store", &store];
    let answered = run("diagnose", &[&tenant[..], &question].concat());
    let answered_json = run("diagnose", &[&tenant[..], &question, &["--json"]].concat());
    let page = run("diagnose", &[&tenant[..], &question, &["--html", "-"]].concat());
    let audited = run("audit", &tenant);
    let history = String::from_utf8_lossy(&changed.stdout).into_owned();
    assert!(history.contains("1\u{fffd}pm 2026-11-20: present"), "{history}");
    let runs = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(runs.contains("1 added, 0 changed, 0 removed, 0 withheld, 0 kept"), "{runs}");
    let summary = String::from_utf8_lossy(&planned.stdout).into_owned();
    assert!(summary.contains("issue bad_value: 1 (for example 100\u{fffd}\u{fffd})"), "{summary}");
    for output in [written, planned, changed, listed, answered, answered_json, page, audited] {
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(!text.lines().any(|line| line.to_lowercase().starts_with("pm 2026-11-20: present")), "{text}");
        let acts = |letter: char| {
            (letter.is_control() && letter != '\n') || "\u{2028}\u{2029}\u{202e}\u{2066}\u{61c}".contains(letter)
        };
        assert!(!text.contains(acts), "{text:?}");
    }
}

#[test]
fn the_flags_of_a_source_and_of_midnights_reach_the_marks() {
    let registers: String = [18, 19, 20]
        .map(|day| {
            format!(
                "<Row><Id>{day}</Id><PupilId>1</PupilId><Registered>0</Registered>\
                 <RegistrationDateTime>2026-11-{day}T08:40:00</RegistrationDateTime></Row>"
            )
        })
        .concat();
    let away = |id| {
        format!(
            "<Row><Id>{id}</Id><PupilId>{id}</PupilId><StartDate>2026-11-18T00:00:00</StartDate>\
             <EndDate>2026-11-20T00:00:00</EndDate><Code>17</Code><SavedAt>2026-11-18T09:30:00</SavedAt></Row>"
        )
    };
    let away: String = (1..=5).map(away).collect();
    let url = answering(ok(format!(
        "<iSAMS><RegistrationStatuses>{registers}</RegistrationStatuses><OutOfSchoolPupils>{away}</OutOfSchoolPupils></iSAMS>"
    )));
    let run = |flags: &[&str]| {
        let tenant = ["--url", &url, "--api-key", KEY, "--student", "1", "--marks", "-", "--cache-expiry", "1h 30m"];
        sync(&[&tenant[..], &["--from", "2026-11-18", "--to", "2026-11-20"], flags].concat())
    };
    assert!(error_line(&run(&[])).contains("RegistrationCodes"));
    assert!(error_line(&run(&["--no-code-table"])).contains("SavedAt"));
    let marks = |flags: &[&str]| {
        let output = run(&[&["--no-code-table"], flags].concat());
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8(output.stdout).unwrap();
        let absent = lines.lines().filter(|line| line.contains("\"absent\"")).count();
        (absent, lines.contains("2026-11-18T09:30:00Z"))
    };
    assert_eq!(marks(&["--ignore-field", "SavedAt"]), (2, false));
    assert_eq!(marks(&["--field", "out_of_school_updated=LastSaved,SavedAt"]), (2, true));
    assert_eq!(marks(&["--ignore-field", "SavedAt", "--midnight-end", "included"]), (3, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_day_and_leavers_are_said_by_flags() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    let simulator = Simulator::start(FakeSchool::demo("2026-11-20".parse().unwrap())).await.unwrap();
    let (url, key) = (simulator.url(), simulator.api_key());
    let store = format!("sqlite:{}", folder.path().join("marks.db").display());
    let run = |flags: &[&str]| {
        let tenant = ["--url", &url, "--api-key", &key, "--store", &store, "--cache-expiry", "0s"];
        let output = sync(&[&tenant[..], &TODAY, &["--report", report.to_str().unwrap()], flags].concat());
        let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&report).unwrap()).unwrap();
        (output.status.code(), report["marks"]["removed"].as_u64().unwrap(), report["marks"]["kept"].as_u64().unwrap())
    };
    assert_eq!(run(&[]), (Some(0), 0, 0));
    // Each of the 40 students has a mark in both sessions of the day.
    let closing = ["--closed", "2026-11-19", "--closed", "2020-01-01"];
    let tenant = ["--url", &url, "--api-key", &key, "--store", &store, "--cache-expiry", "0s"];
    let planned = sync(&[&tenant[..], &TODAY, &closing, &["--dry-run"]].concat());
    let planned = String::from_utf8(planned.stdout).unwrap();
    assert!(planned.contains("→ no mark, because the school was closed on that date"), "{planned}");
    assert_eq!(run(&closing), (Some(0), 80, 0));
    let history = self::run("history", &["--store", &store, "--student", "4733683200"]);
    let history = String::from_utf8(history.stdout).unwrap();
    assert!(history.contains("removed, because the school was closed on that date"), "{history}");
    assert!(!history.contains("no longer yielded"), "{history}");
    let question = ["--student", "4733683200", "--date", "2026-11-19", "--session", "AM"];
    let answer = diagnosis(&[&tenant[..], &question].concat());
    assert_eq!(first_finding(&answer), "consistent");
    assert!(answer["sessions"][0]["findings"][0]["summary"].as_str().unwrap().contains("closed"), "{answer}");
    let have_left = |student: &StudentId| student.as_str() < "4733683290";
    simulator.change(|school| {
        school.remove_registrations(|row| have_left(&row.student));
        school.remove_out_of_school(|record| have_left(&record.student));
    });
    assert_eq!(run(&["--closed", "2026-11-19"]), (Some(3), 0, 0));
    let (code, removed, kept) = run(&["--closed", "2026-11-19", "--leavers"]);
    assert!((code, removed) == (Some(0), 0) && kept > 0, "{code:?} {removed} {kept}");
}

#[test]
fn a_student_is_erased_and_history_is_pruned_after_a_yes() {
    let school = School::demo();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("marks.db");
    let store = format!("sqlite:{}", path.display());
    assert!(sync(&school.with(&["--store", &store])).status.success());
    let before = std::fs::read(&path).unwrap();
    for (name, what) in [("erase", ["--student", "4733683260"]), ("prune", ["--before", "2026-11-21"])] {
        let asked = run(name, &[&["--store", &store][..], &what].concat());
        assert_eq!(asked.status.code(), Some(2), "{name}: nobody can be asked");
        assert!(error_line(&asked).contains("--yes"));
        let missing = run(name, &[&["--store", "sqlite:/nowhere/marks.db", "--yes"][..], &what].concat());
        assert_eq!(missing.status.code(), Some(1));
        assert!(error_line(&missing).contains("no store at /nowhere/marks.db"));
    }
    assert_eq!(std::fs::read(&path).unwrap(), before);

    let student = school.simulator_student();
    let erased = run("erase", &["--store", &store, "--student", &student, "--yes", "--json"]);
    let erased: serde_json::Value = serde_json::from_slice(&erased.stdout).unwrap();
    assert!(erased["sessions"].as_u64().unwrap() > 10, "{erased}");
    let shown = run("history", &["--store", &store, "--student", &student, "--json"]);
    assert_eq!(String::from_utf8_lossy(&shown.stdout).trim(), "[]");

    let nobody = run("erase", &["--store", &store, "--student", "nobody", "--yes"]);
    assert!(String::from_utf8_lossy(&nobody.stdout).starts_with("nothing was stored of student nobody"));

    let pruned = run("prune", &["--store", &store, "--before", "2026-11-21", "--yes"]);
    assert!(pruned.status.success(), "{}", error_line(&pruned));
    assert!(String::from_utf8_lossy(&pruned.stdout).contains("0 changes and 0 runs"), "what the store shows stays");
}

#[test]
fn a_day_without_records_has_one_answer_for_both_sessions() {
    let output = run("diagnose", &School::demo().with(&["--student", "nobody", "--date", "2026-11-19"]));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(printed.starts_with("Student nobody, 2026-11-19\n\nAM and PM: no mark.\n"), "{printed}");
    assert!(printed.contains("enter the attendance for the AM and PM sessions of 2026-11-19"), "{printed}");
}

#[test]
fn history_says_what_it_does_not_hold() {
    let school = School::demo();
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", folder.path().join("marks.db").display());
    for day in ["2026-11-17", "2026-11-18", "2026-11-19"] {
        let now = format!("{day}T18:00:00Z");
        assert!(sync(&school.with(&["--store", &store, "--now", &now])).status.success());
    }
    let student = school.simulator_student();
    let told = |student: &str, as_of: &str| {
        let output = run("history", &["--store", &store, "--student", student, "--as-of", as_of]);
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(told("nobody", "2026-11-19T20:00:00Z").contains("nothing is stored of student nobody"));
    assert_eq!(told(&student, "2026-11-18T20:00:00Z"), "");

    assert!(run("prune", &["--store", &store, "--before", "2026-11-19", "--yes"]).status.success());
    assert!(told(&student, "2026-11-18T20:00:00Z").starts_with("history from before 2026-11-19 18:00"));
    assert_eq!(told(&student, "2026-11-19T20:00:00Z"), "");

    for wrong in [["--limit", "0"], ["--as-of", "2026-11-19T20:00:00Z"], ["--from", "2026-11-19"]] {
        let output = run("history", &[&["--store", &store, "--since", "0"][..], &wrong].concat());
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn a_portal_follows_what_has_changed() {
    let school = School::demo();
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", folder.path().join("marks.db").display());
    let since = |cursor: &str, more: &[&str]| {
        json(&run("history", &[&["--store", &store, "--since", cursor, "--json"], more].concat()))
    };
    let nobody = run("history", &["--store", &store, "--since", "0"]);
    assert_eq!(nobody.status.code(), Some(0), "{}", error_line(&nobody));
    assert!(sync(&school.with(&["--store", &store])).status.success());

    let all = since("0", &[]);
    let changes = all["changes"].as_array().unwrap();
    assert_eq!((&changes[0]["kind"], &changes[0]["before"]), (&"changed".into(), &serde_json::Value::Null));
    assert!(changes[0]["after"]["status"].is_string() && changes[0]["meaning"]["class"].is_string(), "{}", changes[0]);
    assert_eq!(all["cursor"], changes.last().unwrap()["cursor"]);
    // In parts: nothing is left out, and nothing comes twice.
    let (mut cursor, mut parts) = ("0".to_owned(), Vec::new());
    loop {
        let part = since(&cursor, &["--limit", "700"]);
        cursor = part["cursor"].as_str().unwrap().to_owned();
        match part["changes"].as_array().unwrap() {
            none if none.is_empty() => break,
            some => parts.extend(some.clone()),
        }
    }
    assert_eq!(&parts, changes);
    assert!(parts.len() > 1_400, "more than two parts");

    // An identical sync changes nothing; an erasure is told.
    assert!(sync(&school.with(&["--store", &store])).status.success());
    assert_eq!(since(&cursor, &[]), serde_json::json!({ "changes": [], "cursor": cursor }));
    let student = school.simulator_student();
    assert!(run("erase", &["--store", &store, "--student", &student, "--yes"]).status.success());
    let erased = since(&cursor, &[]);
    assert_eq!(erased["changes"].as_array().unwrap().len(), 1, "{erased}");
    assert_eq!((&erased["changes"][0]["kind"], &erased["changes"][0]["student"]), (&"erased".into(), &student.into()));
    assert_ne!(erased["cursor"], cursor);
    assert!(!since("0", &[])["changes"].as_array().unwrap().is_empty());

    let people = run("history", &["--store", &store, "--since", &cursor]);
    let people = String::from_utf8_lossy(&people.stdout).into_owned();
    assert!(people.contains("erased: forget what came before") && people.contains("go on with --since"), "{people}");
    for wrong in [&["--since", "x"][..], &["--since", "0", "--student", "1"], &["--limit", "5"]] {
        assert_eq!(run("history", &[&["--store", &store], wrong].concat()).status.code(), Some(2), "{wrong:?}");
    }
}

fn json(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", error_line(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn marks_add_up_and_the_registers_to_take_are_listed() {
    let school = School::demo();
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", folder.path().join("marks.db").display());
    let now = "2026-11-20T18:00:00Z";
    assert!(sync(&school.with(&["--store", &store, "--now", now])).status.success());
    let month = ["--store", &store, "--from", "2026-11-01", "--to", "2026-11-20"];

    // The demonstration's student whose PM register of today is not taken.
    let student = school.simulator_student();
    let output = run("summary", &[&month[..], &["--student", &student, "--student", "nobody", "--json"]].concat());
    let sums = r#"{"possible":29,"attended":28,"authorised":1,"unauthorised":0,"late_before":4,"late_after":0,"percentage":"96.6","left_out":{"not_taken":1,"not_possible":0,"not_collected":0,"unclassified":{}}}"#;
    let nothing = r#"{"student":"nobody","possible":0,"attended":0,"authorised":0,"unauthorised":0,"late_before":0,"late_after":0,"percentage":null,"left_out":{"not_taken":0,"not_possible":0,"not_collected":0,"unclassified":{}}}"#;
    let expected = format!(
        r#"{{"from":"2026-11-01","to":"2026-11-20","as_of":"2026-11-19T18:00:00Z","edition":"England, August 2024","students":[{{"student":"{student}",{},{nothing}],"total":{sums},"no_mark":{{"nobody":30}},"contradicting":{{}}}}"#,
        &sums[1..]
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), expected);

    let csv = String::from_utf8(run("summary", &[&month[..], &["--csv"]].concat()).stdout).unwrap();
    assert_eq!(csv.lines().count(), 41, "a head and forty students");
    assert!(csv.starts_with("student,possible,attended,"), "{csv}");
    assert_eq!(csv.lines().nth(1).unwrap(), format!("{student},29,28,1,0,4,0,96.6,1,0,0,,0"));
    let table = String::from_utf8(run("summary", &month).stdout).unwrap();
    assert!(table.contains("left out, register not taken: 5"), "{table}");

    // A letter of the school's own has no class, unless it is mapped.
    let own = json(&run("summary", &[&month[..], &["--codes", "school", "--json"]].concat()));
    assert_eq!(own["total"]["left_out"]["unclassified"]["M"], 5, "{own}");
    let mapped = json(&run("summary", &[&month[..], &["--map", "M=V", "--json"]].concat()));
    assert_eq!(mapped["contradicting"]["M"], 5, "the school counts it as an absence");
    for wrong in [["--map", "M"], ["--map", "M=QQ"], ["--codes", "wales"]] {
        assert_eq!(run("summary", &[&month[..], &wrong].concat()).status.code(), Some(2), "{wrong:?}");
    }
    let backwards = ["--store", &store, "--from", "2026-11-02", "--to", "2026-11-01"];
    assert_eq!(run("summary", &backwards).status.code(), Some(2));

    for rule in ["time", "periods"] {
        let flags = school.with(&["--date", "2026-11-20", "--pm-rule", rule, "--json"]);
        let listed = String::from_utf8(run("registers", &flags).stdout).unwrap();
        let expected = r#"{"date":"2026-11-20","registers":[{"at":"13:30","period":"50223","session":"PM","not_taken":6,"students":40}]}"#;
        assert_eq!(listed.trim(), expected, "{rule}");
    }
    let people = run("registers", &school.with(&["--date", "2026-11-20"]));
    let people = String::from_utf8_lossy(&people.stdout).into_owned();
    assert_eq!(people.trim(), "2026-11-20 13:30 (PM), period 50223: not taken for 6 of 40 students");
    let taken = run("registers", &school.with(&["--date", "2026-11-19"]));
    assert!(String::from_utf8_lossy(&taken.stdout).contains("none of the registers that were read is left to take"));
}

#[test]
fn what_a_mark_counts_as_stands_beside_it() {
    let school = School::demo();
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", folder.path().join("marks.db").display());
    assert!(sync(&school.with(&["--store", &store])).status.success());
    // Away in the morning of 2026-11-20, by an out-of-school record that counts in the afternoon.
    let away = FakeSchool::demo(TODAY[1].parse().unwrap()).all_out_of_school().last().unwrap().student.to_string();
    let meaning = serde_json::json!({
        "edition": "England, August 2024", "code": "V", "meaning": "Educational visit or trip",
        "class": "approved_activity", "late": false, "warning": null,
    });
    let diagnosis = json(&run("diagnose", &school.with(&["--student", &away, "--date", "2026-11-20", "--json"])));
    assert_eq!(diagnosis["sessions"][1]["meaning"], meaning);
    assert_eq!(diagnosis["sessions"][0]["meaning"]["class"], "present");
    let printed = run("diagnose", &school.with(&["--student", &away, "--date", "2026-11-20"]));
    let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
    assert!(printed.contains("It counts as approved activity: Educational visit or trip (England"), "{printed}");

    let flags = ["--store", &store, "--student", &away, "--from", "2026-11-20", "--json"];
    let history = json(&run("history", &flags));
    assert_eq!(history[1]["changes"][0]["meaning"], meaning, "{history}");
    let then = json(&run("history", &[&flags[..], &["--as-of", "2100-01-01T00:00:00Z"]].concat()));
    assert_eq!((&then[1]["mark"]["code"], &then[1]["meaning"]), (&"V".into(), &meaning));
    let twice = run("history", &[&flags[..], &["--map", "Q7=G", "--map", "Q7=C"]].concat());
    assert_eq!(twice.status.code(), Some(2), "a letter stands for one code");
    let own = json(&run("history", &[&flags[..], &["--codes", "school"]].concat()));
    assert_eq!(own[1]["changes"][0]["meaning"]["class"], serde_json::Value::Null);
}

#[test]
fn a_check_compares_letters_with_a_statutory_table_if_asked() {
    let school = School::demo();
    school.simulator.change(|school| {
        school.code("30", "HOL", "Holiday", true);
        let row = school.registrations()[0].id.clone().unwrap();
        school.registration_mut(row.as_str()).unwrap().absent("30").updated("2026-11-19T09:00:00");
    });
    let codes = |flags: &[&str]| {
        let output = run("check", &school.with(&[flags, &["--json"]].concat()));
        let checks: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        checks["checks"].as_array().unwrap().iter().find(|check| check["name"] == "codes").unwrap().clone()
    };
    assert_eq!(codes(&[])["verdict"], "ok");
    let apart = codes(&["--codes", "england"]);
    assert_eq!((&apart["verdict"], &apart["evidence"]["unmapped"]["HOL"]), (&"look".into(), &1.into()), "{apart}");
    assert_eq!(codes(&["--codes", "england", "--map", "HOL=G"])["verdict"], "ok");
    let opposite = codes(&["--codes", "england", "--map", "HOL=B"]);
    assert_eq!(opposite["evidence"]["contradicting"]["HOL"], 1);
}

#[test]
fn a_sweep_reads_a_slice_of_older_dates_beside_the_window() {
    let school = School::demo();
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", folder.path().join("marks.db").display());
    let report = folder.path().join("report.json");
    let flags = ["--store", &store, "--report", report.to_str().unwrap(), "--days", "5"];
    let outside = |more: &[&str]| {
        let output = sync(&school.with(&[&flags[..], more].concat()));
        let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
        (output.status.code(), report["marks"]["added"].clone(), report["outside_window"].clone())
    };
    assert_eq!(outside(&[]).2, serde_json::Value::Null, "without --sweep");
    let all = ["--sweep", "--sweep-nights", "1", "--sweep-from", "2026-11-02"];
    let (code, added, found) = outside(&[&all[..], &["--dry-run"]].concat());
    assert_eq!((code, added), (Some(0), 0.into()), "the ordinary counts are of the window");
    let expected = serde_json::json!({
        "from": "2026-11-02", "to": "2026-11-14", "changed": 0, "added": 800, "removed": 0, "withheld": 0, "error": null,
        "oldest_change_days": 18,
    });
    assert_eq!(found, expected, "ten school days of forty students");
    assert_eq!(outside(&all).2, expected);
    assert_eq!(outside(&all).2["added"], 0, "the second time it is known");
    assert_eq!(outside(&["--sweep", "--sweep-from", "2026-11-15"]).2, serde_json::Value::Null, "nothing is older");

    school.simulator.change(|school| school.remove_registrations(|row| row.at.to_string().starts_with("2026-11-0")));
    let (code, _, found) = outside(&all);
    assert_eq!(code, Some(3), "{found}");
    assert_eq!(found["withheld"], 480, "no proof that the marks of six school days are gone");

    for wrong in [
        &["--sweep", "--from", "2026-11-01", "--to", "2026-11-20"][..],
        &["--sweep", "--student", "4733683200"],
        &["--sweep-nights", "3"],
        &["--sweep", "--sweep-nights", "0"],
    ] {
        assert_eq!(
            sync(&[&school.flags.iter().map(String::as_str).collect::<Vec<_>>(), wrong].concat()).status.code(),
            Some(2),
            "{wrong:?}"
        );
    }
}
