//! Many schools on one machine, driven from outside: no school delays or harms another.

mod job;

#[path = "../common/mod.rs"]
mod common;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::program::rollmark;
use common::tenant::{answering, answering_with, ok};
use rollmark::model::SchoolId;
use rollmark::rules::{Scope, Window};
use rollmark::store::{MarkStore, RunPurpose, RunQuery, SqliteStore};
use rollmark::testing::FakeSchool;
use rollmark::testing::simulator::Simulator;
use serde_json::Value;

const KEY: &str = "5f7e6c1a-0000-4000-8000-0123456789ab";
const WRONG_KEY: &str = "00000000-0000-4000-8000-0123456789ab";
const TODAY: &str = "2026-11-20";
const NOW: &str = "2026-11-20T18:00:00Z";

/// Runs a fleet with full logs, and makes sure that no output holds a key.
fn fleet(folder: &Path, flags: &[&str]) -> Output {
    let mut command = rollmark("fleet");
    command.current_dir(folder).args(["schools.toml", "--now", NOW]).args(flags);
    command.env("RUST_LOG", "trace").env("GOOD_KEY", KEY).env("WRONG_KEY", WRONG_KEY);
    let output = command.output().unwrap();
    for stream in [&output.stdout, &output.stderr] {
        let text = String::from_utf8_lossy(stream);
        assert!(!text.contains(KEY) && !text.contains(WRONG_KEY), "a key shows");
    }
    output
}

fn write(folder: &Path, schools: &str) {
    std::fs::write(folder.join("schools.toml"), schools).unwrap();
}

fn report(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("report.json")).unwrap()).unwrap()
}

fn school(id: &str, url: &str, more: &str) -> String {
    format!("[[school]]\nid = \"{id}\"\nurl = \"{url}\"\n{more}\n")
}

const DEFAULTS: &str = "[defaults]\nstore = \"sqlite:marks.db\"\napi_key_env = \"GOOD_KEY\"\ncache_expiry = \"4h\"\n";

async fn demo() -> Simulator {
    Simulator::start(FakeSchool::demo(TODAY.parse().unwrap())).await.unwrap()
}

async fn marks(folder: &Path, school: &str) -> usize {
    let store = SqliteStore::open(folder.join("marks.db")).unwrap();
    let window = Window::between("2026-10-01".parse().unwrap(), TODAY.parse().unwrap()).unwrap();
    store.read(&SchoolId::new(school), &Scope::all(window)).await.unwrap().marks().len()
}

/// A fleet runs as a process of its own, so that this runtime goes on to serve.
async fn fleet_aside(folder: &Path, flags: &[&str]) -> Output {
    let (folder, flags) = (folder.to_owned(), flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>());
    let run = move || fleet(&folder, &flags.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_hostile_and_refused_schools_harm_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two, empty) = (demo().await, demo().await, demo().await);
    empty.change(|school| *school = FakeSchool::new());
    let hostile = answering(ok("<iSAMS><RegistrationManager><RegistrationStatuses>"));
    let page = answering(ok("<html><body>Please log in</body></html>"));
    let broken = answering("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let cut = answering_with(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n<iSAMS>");
    });
    let schools = [
        DEFAULTS.to_owned(),
        school("first", &one.url(), "pm_start = \"13:30\""),
        school("dead", "http://127.0.0.1:9", ""),
        school("hostile", &hostile, ""),
        school("page", &page, ""),
        school("cut", &cut, ""),
        school("broken", &broken, ""),
        school("refused", &two.url(), "api_key_env = \"WRONG_KEY\""),
        school("last", &two.url(), "sweep = false"),
    ];
    write(folder.path(), &schools.concat());
    let output = fleet_aside(folder.path(), &["--report", "report.json"]).await;
    assert_eq!(output.status.code(), Some(1));
    let report = report(folder.path());
    let all = report["schools"].as_array().unwrap();
    let outcomes: Vec<_> =
        all.iter().map(|school| (school["id"].as_str().unwrap(), school["outcome"].as_str().unwrap())).collect();
    let expected = [
        ("first", "done"),
        ("dead", "failed"),
        ("hostile", "failed"),
        ("page", "failed"),
        ("cut", "failed"),
        ("broken", "failed"),
        ("refused", "failed"),
        ("last", "done"),
    ];
    assert_eq!(outcomes, expected, "in the file's order");
    assert_eq!((&report["done"], &report["withheld"], &report["failed"]), (&2.into(), &0.into(), &6.into()));
    for school in all {
        let is_done = school["outcome"] == "done";
        assert_eq!((school["report"].is_object(), school["error"].is_string()), (is_done, !is_done));
        assert_eq!(school["exit_code"], if is_done { 0 } else { 1 });
        assert!(school["duration_ms"].is_u64());
    }
    assert_eq!((marks(folder.path(), "first").await, marks(folder.path(), "last").await), (1840, 1840));
    // Older dates are swept, unless the file says otherwise.
    assert!(all[0]["report"]["outside_window"].is_object() && all[7]["report"]["outside_window"].is_null());
    let store = SqliteStore::open(folder.path().join("marks.db")).unwrap();
    let swept = RunQuery::all().with_purposes([RunPurpose::Sweep]);
    assert_eq!(store.runs(&SchoolId::new("first"), &swept).await.unwrap().len(), 1);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("refused: failed: iSAMS refuses the API key or client; check it"), "{told}");
    assert!(told.ends_with("8 schools: 2 done, 0 with changes withheld, 6 failed\n"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_school_withholds_is_seen_and_others_are_done() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (demo().await, demo().await);
    write(folder.path(), &[DEFAULTS.to_owned(), school("one", &one.url(), ""), school("two", &two.url(), "")].concat());
    assert_eq!(fleet_aside(folder.path(), &[]).await.status.code(), Some(0));
    one.change(|school| school.remove_registrations(|row| row.at.to_string().starts_with("2026-11-1")));
    let dry = fleet_aside(folder.path(), &["--dry-run", "--report", "report.json"]).await;
    assert_eq!(dry.status.code(), Some(3), "a dry run says so too");
    assert_eq!(report(folder.path())["schools"][0]["report"]["dry_run"], true);
    let output = fleet_aside(folder.path(), &["--report", "report.json"]).await;
    assert_eq!(output.status.code(), Some(3));
    let report = report(folder.path());
    assert_eq!((&report["schools"][0]["outcome"], &report["schools"][0]["exit_code"]), (&"withheld".into(), &3.into()));
    assert_eq!(report["schools"][1]["outcome"], "done");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("withheld, unproven: ") && told.contains("if the school was closed"), "{told}");
    assert_eq!(marks(folder.path(), "one").await, 1840, "nothing is lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn some_schools_can_be_run_alone_or_only_checked() {
    let folder = tempfile::tempdir().unwrap();
    let one = demo().await;
    let schools = [
        DEFAULTS.to_owned(),
        school("one", &one.url(), "pm_start = 13:30:00\nclosed = [2026-11-19]"),
        school("dead", "http://127.0.0.1:9", ""),
    ];
    write(folder.path(), &schools.concat());
    let output = fleet_aside(folder.path(), &["--only", "one", "--report", "report.json"]).await;
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(report(folder.path())["schools"].as_array().unwrap().len(), 1);
    assert_eq!(marks(folder.path(), "one").await, 1760, "a day was closed");
    let output = fleet_aside(folder.path(), &["--check", "--report", "report.json"]).await;
    assert_eq!(output.status.code(), Some(1), "one could not be asked");
    let checks = report(folder.path())["schools"][0]["report"]["checks"].clone();
    assert_eq!(checks.as_array().unwrap().len(), 9);
}

#[test]
fn a_wrong_file_is_told_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&asked);
    let url = answering_with(move |_| {
        counting.fetch_add(1, Ordering::SeqCst);
    });
    let good = [DEFAULTS.to_owned(), school("good", &url, "")].concat();
    let second = |more: &str| [good.clone(), school("second", &url, more)].concat();
    for (schools, says) in [
        (second("pm_startt = \"13:30\""), "school second: unknown key pm_startt"),
        (second("pm-start = \"13:30\""), "unknown key pm-start"),
        (second("dry_run = true"), "unknown key dry_run"),
        (second("api_key = \"5f7e6c1a\""), "api_key_env or api_key_file"),
        (second("api_key_env = \"NO_SUCH_KEY\""), "NO_SUCH_KEY (api_key_env) is not set"),
        (second("api_key_file = \"no-such-file\""), "can't read it"),
        (second("days = -1"), "--days"),
        (second("timezone = \"Mars/Olympus\""), "--timezone"),
        (second("from = \"2026-11-20\"\nto = \"2026-11-19\""), "2026-11-20"),
        (second("store = \"sqlite:own.db\"\nmarks = \"marks.db\""), "marks.db is the store's own file"),
        (second("report = \"schools.toml\""), "schools.toml is the file with the schools"),
        (
            good.replace("[defaults]", "[defaults]\nmarks = \"all\"") + &school("second", &url, ""),
            "all is named for two",
        ),
        (second("sweep = \"yes\""), "sweep is neither true nor false"),
        (second("sweep = true\nstudent = [\"1\"]"), "--sweep"),
        ([good.clone(), school("good", &url, "")].concat(), "two schools have the id good"),
        ([good.clone(), "[[school]]\nurl = \"https://school.example\"\n".to_owned()].concat(), "school 2 has no id"),
        ([good.clone(), school("plain", "http://school.example", "")].concat(), "plain http"),
        ([good.clone(), "[[school]]\nid = \"nowhere\"\n".to_owned()].concat(), "no --url"),
        (good.replace("[defaults]", "[default]"), "unknown key default"),
        (good.replace("[defaults]", "[defaults]\nid = \"x\""), "id stands in [defaults]"),
        ("[defaults]\n".to_owned(), "names no school"),
        ("[[school]".to_owned(), "is not TOML, line 1"),
    ] {
        write(folder.path(), &schools);
        let output = fleet(folder.path(), &[]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let lines: Vec<&str> = told.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!((output.status.code(), lines.len()), (Some(2), 1), "{schools}: {told}");
        assert!(lines[0].contains(says), "{says}: {told}");
    }
    write(folder.path(), &good);
    assert_eq!(fleet(folder.path(), &["--only", "nobody"]).status.code(), Some(2));
    for wrong in [
        ["--concurrency", "0"],
        ["--per-host", "0"],
        ["--spread", "soon"],
        ["--report", "marks.db"],
        ["--report", "./schools.toml"],
    ] {
        assert_eq!(fleet(folder.path(), &wrong).status.code(), Some(2), "{wrong:?}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    assert!(!folder.path().join("marks.db").exists());
}

#[test]
fn a_variable_of_the_machine_is_not_every_schools() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &school("one", "https://school.example", ""));
    let mut command = rollmark("fleet");
    command.current_dir(folder.path()).arg("schools.toml").env("ISAMS_API_KEY", KEY);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("needs either --api-key"));
}

/// A tenant that refuses the key after a while, and counts how many requests it held at once.
fn counting() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let highest = Arc::clone(&most);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (now, highest) = (Arc::clone(&now), Arc::clone(&highest));
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                highest.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(300));
                now.fetch_sub(1, Ordering::SeqCst);
                let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            });
        }
    });
    (url, most)
}

#[test]
fn so_many_run_at_once_and_so_many_of_one_host() {
    let folder = tempfile::tempdir().unwrap();
    let (url, most) = counting();
    let schools: String = (0..8).map(|number| school(&format!("s{number}"), &url, "")).collect();
    write(folder.path(), &[DEFAULTS, &schools].concat());
    assert_eq!(fleet(folder.path(), &["--concurrency", "8", "--per-host", "2"]).status.code(), Some(1));
    assert_eq!(most.swap(0, Ordering::SeqCst), 2);
    assert_eq!(fleet(folder.path(), &["--concurrency", "3", "--per-host", "8"]).status.code(), Some(1));
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[cfg(unix)]
#[test]
fn a_signal_ends_every_school_and_gives_the_leases_back() {
    let folder = tempfile::tempdir().unwrap();
    let (asked, was_asked) = std::sync::mpsc::channel();
    let stalling = answering_with(move |stream| {
        asked.send(()).unwrap();
        // Until the program goes away.
        let _ = std::io::copy(stream, &mut std::io::sink());
    });
    let schools = [DEFAULTS.to_owned(), school("one", &stalling, ""), school("waiting", &stalling, "")];
    write(folder.path(), &schools.concat());
    let mut command = rollmark("fleet");
    command.current_dir(folder.path()).args(["schools.toml", "--concurrency", "1", "--report", "report.json"]);
    let mut child = command.env("GOOD_KEY", KEY).stdout(std::process::Stdio::null()).spawn().unwrap();
    was_asked.recv().unwrap();
    let sent = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let report = report(folder.path());
    assert_eq!(report["failed"], 2);
    // Whichever of them ran.
    let errors = [0, 1].map(|place| report["schools"][place]["error"].as_str().unwrap().to_owned());
    assert!(errors.iter().any(|error| error.contains("stopped by a signal before it began")), "{report}");
    let ran = errors.iter().position(|error| error.contains("the run was stopped")).unwrap();
    let store = SqliteStore::open(folder.path().join("marks.db")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let school = SchoolId::new(["one", "waiting"][ran]);
    let lease = runtime.block_on(async { store.acquire_lease(&school, Duration::from_secs(1)).await });
    assert!(lease.unwrap().is_some(), "the lease is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_school_delays_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let good = demo().await;
    let (release, released) = std::sync::mpsc::channel::<()>();
    // It drips, and ends only when all others have ended.
    let slow = answering_with(move |stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n<iSAMS>");
        while released.recv_timeout(Duration::from_millis(20)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            if stream.write_all(b" ").is_err() {
                return;
            }
        }
    });
    let others: String = (0..6).map(|number| school(&format!("good{number}"), &good.url(), "sweep = false")).collect();
    write(folder.path(), &[DEFAULTS, &school("slow", &slow, ""), &others].concat());
    let mut command = rollmark("fleet");
    command.current_dir(folder.path()).args([
        "schools.toml",
        "--now",
        NOW,
        "--concurrency",
        "2",
        "--report",
        "report.json",
    ]);
    command.env("GOOD_KEY", good.api_key()).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
    let ended = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
        let done = lines.map_while(Result::ok).filter(|line| line.starts_with("good") && line.contains("1840 added"));
        assert_eq!(done.take(6).count(), 6, "the others are done while the slow one goes on");
        drop(release);
        child.wait().unwrap().code()
    });
    assert_eq!(ended.await.unwrap(), Some(1));
    let report = report(folder.path());
    assert_eq!((&report["done"], &report["failed"]), (&6.into(), &1.into()), "{report}");
    assert_eq!(report["schools"][0]["outcome"], "failed");
}
