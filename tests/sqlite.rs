//! An SQLite store that is closed, broken, killed or full loses nothing.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use chrono::NaiveDate;
use common::program::program;
use rollmark::isams::simulator::Simulator;
use rollmark::model::SchoolId;
use rollmark::rules::{Rules, Scope, SyncWindow};
use rollmark::source::{FakeSchool, FakeSource};
use rollmark::store::{MarkKey, MarkStore, Snapshot, SqliteStore, StoreErrorKind};
use rollmark::sync::{AttendanceSync, SyncRequest};
use rusqlite::Connection;

fn today() -> NaiveDate {
    "2026-11-20".parse().unwrap()
}

fn school() -> SchoolId {
    SchoolId::new("school")
}

fn request() -> SyncRequest {
    SyncRequest::overnight(today()).at("2026-11-20T18:00:00Z".parse().unwrap())
}

fn sync(source: &FakeSource, store: &SqliteStore) -> AttendanceSync {
    AttendanceSync::new(source.clone(), store.clone(), "school", Rules::new("Europe/London".parse().unwrap()))
}

async fn all(store: &SqliteStore) -> Snapshot {
    store.read(&school(), &Scope::all(SyncWindow::default().ending(today()))).await.unwrap()
}

/// A folder with a store that holds the first act of the demonstration.
async fn filled() -> (tempfile::TempDir, PathBuf, FakeSource) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("marks.db");
    let source = FakeSource::new(FakeSchool::demo(today()));
    sync(&source, &SqliteStore::open(&path).unwrap()).run(request()).await.unwrap();
    (folder, path, source)
}

#[tokio::test]
async fn a_file_that_is_opened_again_holds_what_it_held() {
    let (_folder, path, source) = filled().await;
    let first = all(&SqliteStore::open(&path).unwrap()).await;
    assert_eq!(first.marks.len(), 1840);
    let store = SqliteStore::open(&path).unwrap();
    source.change(|school| school.demo_changes(today()));
    let report = sync(&source, &store).run(request()).await.unwrap();
    assert_eq!((report.run, report.marks.changed), (Some(2), 8));
    let read_only = SqliteStore::open_read_only(&path).unwrap();
    assert_eq!(all(&read_only).await, all(&store).await);
    assert_eq!(read_only.runs(&school()).await.unwrap().len(), 2);
}

#[test]
fn a_file_that_is_not_ours_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    std::fs::write(&text, "not a database, but long enough to look like one at first sight".repeat(40)).unwrap();
    let other = folder.path().join("other.db");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    let newer = folder.path().join("newer.db");
    drop(SqliteStore::open(&newer).unwrap());
    Connection::open(&newer).unwrap().pragma_update(None, "user_version", 2).unwrap();
    for (path, kind) in
        [(text, StoreErrorKind::Damaged), (other, StoreErrorKind::CannotOpen), (newer, StoreErrorKind::NewerVersion)]
    {
        let before = std::fs::read(&path).unwrap();
        assert_eq!(SqliteStore::open(&path).unwrap_err().kind(), kind);
        assert_eq!(SqliteStore::open_read_only(&path).unwrap_err().kind(), kind);
        assert_eq!(std::fs::read(&path).unwrap(), before, "{kind:?}");
    }
}

#[tokio::test]
async fn a_damaged_file_is_refused() {
    let (_folder, path, _) = filled().await;
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 20_000].fill(0x5A);
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(SqliteStore::open(&path).unwrap_err().kind(), StoreErrorKind::Damaged);
}

#[test]
fn a_missing_folder_is_named() {
    let error = SqliteStore::open("/nowhere/at/all/marks.db").unwrap_err();
    assert_eq!(error.to_string(), "the folder /nowhere/at/all is not there; create it first");
}

#[test]
fn reading_only_creates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    SqliteStore::open_read_only(folder.path().join("marks.db")).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_failure_at_any_step_of_apply_leaves_all_as_it_was() {
    let (_folder, path, source) = filled().await;
    source.change(|school| school.demo_changes(today()));
    let store = SqliteStore::open(&path).unwrap();
    let before = all(&store).await;
    let breaker = Connection::open(&path).unwrap();
    for event in [
        "INSERT ON changes",
        "INSERT ON changes WHEN (SELECT count(*) FROM changes) = 1844",
        "UPDATE ON marks",
        "INSERT ON runs",
        "UPDATE OF revision ON schools",
    ] {
        let (event, when) =
            event.split_once(" WHEN ").map_or((event, String::new()), |(e, w)| (e, format!("WHEN {w}")));
        breaker
            .execute_batch(&format!(
                "CREATE TRIGGER fault BEFORE {event} {when} BEGIN SELECT RAISE(ABORT, 'fault'); END"
            ))
            .unwrap();
        assert!(sync(&source, &store).run(request()).await.is_err(), "{event}");
        breaker.execute_batch("DROP TRIGGER fault").unwrap();
        assert_eq!(all(&store).await, before, "{event}");
        assert_eq!(store.runs(&school()).await.unwrap().len(), 1, "{event}");
    }
    assert_eq!(sync(&source, &store).run(request()).await.unwrap().marks.changed, 8);
}

#[tokio::test]
async fn a_file_that_must_not_be_written_keeps_its_marks_and_can_still_be_read() {
    let (_folder, path, source) = filled().await;
    let mut rights = std::fs::metadata(&path).unwrap().permissions();
    rights.set_readonly(true);
    std::fs::set_permissions(&path, rights).unwrap();
    let store = SqliteStore::open_read_only(&path).unwrap();
    let error = sync(&source, &store).run(request()).await.unwrap_err();
    assert!(error.to_string().contains("can't be written"), "{error}");
    assert_eq!(all(&store).await.marks.len(), 1840);
}

fn run_to_end(url: &str, key: &str, path: &Path, marks: &Path) -> std::process::ExitStatus {
    command(url, key, path).arg("--marks").arg(marks).status().unwrap()
}

fn command(url: &str, key: &str, path: &Path) -> Command {
    let mut command = Command::new(program("sync"));
    command.args(["--url", url, "--today", "2026-11-20", "--cache-expiry", "0s"]);
    command.arg("--store").arg(format!("sqlite:{}", path.display()));
    command.env("ISAMS_API_KEY", key).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Every row gets a new stamp and another status, as if the school had corrected them all.
fn correct(school: &mut FakeSchool, round: u32) {
    let rows: Vec<String> =
        school.registrations().iter().filter_map(|row| row.id.as_ref()).map(ToString::to_string).collect();
    for (number, id) in (0_u32..).zip(rows) {
        let Some(row) = school.registration_mut(&id) else { continue };
        if (number + round).is_multiple_of(7) {
            row.absent("9")
        } else {
            row.present()
        };
        row.updated(&format!("2026-11-20T16:{round:02}:00"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_is_killed_at_any_moment_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("marks.db");
    let simulator = Simulator::start(FakeSchool::demo(today())).await.unwrap();
    let (url, key) = (simulator.url(), simulator.api_key());
    for round in 0..20 {
        simulator.change(|school| correct(school, round));
        let mut running = command(&url, &key, &path).spawn().unwrap();
        // The moment is meant to be any: from before the start to after the end of a run.
        std::thread::sleep(Duration::from_millis(u64::from(round) * 15));
        let _ = running.kill();
        running.wait().unwrap();
        // The killed run's lease would run out after half a minute; the test does not wait for that.
        if path.exists() {
            let _ = Connection::open(&path).unwrap().execute("UPDATE schools SET lease_until_ms = 0", []);
        }
    }
    let (marks, fresh_marks) = (folder.path().join("marks"), folder.path().join("fresh"));
    assert!(run_to_end(&url, &key, &path, &marks).success());
    assert!(run_to_end(&url, &key, &folder.path().join("fresh.db"), &fresh_marks).success());
    assert_eq!(std::fs::read(&marks).unwrap(), std::fs::read(&fresh_marks).unwrap());

    let store = SqliteStore::open(&path).unwrap();
    let runs = store.runs(&school()).await.unwrap();
    assert!(runs.iter().zip(1..).all(|(run, number)| run.number == number), "the runs have a gap");
    for stored in all(&store).await.marks.iter().step_by(50) {
        let history = store.history(&school(), &MarkKey::from(&*stored.mark)).await.unwrap();
        assert_eq!(history.first().unwrap().before, None);
        assert_eq!(history.last().unwrap().after.as_ref(), Some(&stored.mark));
        assert!(history.windows(2).all(|pair| pair[0].run < pair[1].run && pair[0].after == pair[1].before));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_runs_at_once_end_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("marks.db");
    let simulator = Simulator::start(FakeSchool::demo(today())).await.unwrap();
    let (url, key) = (simulator.url(), simulator.api_key());
    let running: Vec<_> = (0..3).map(|_| command(&url, &key, &path).spawn().unwrap()).collect();
    for mut run in running {
        assert!(run.wait().unwrap().success());
    }
    let store = SqliteStore::open(&path).unwrap();
    let runs = store.runs(&school()).await.unwrap();
    let added: Vec<u64> = runs.iter().map(|run| run.marks.added).collect();
    assert_eq!(added, [1840, 0, 0]);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_a_clear_error_and_loses_nothing() {
    let (_folder, path, source) = filled().await;
    let simulator = Simulator::start(FakeSchool::demo(today())).await.unwrap();
    simulator.change(|school| correct(school, 1));
    source.change(|school| correct(school, 1));
    let before = all(&SqliteStore::open(&path).unwrap()).await;
    // A limit on the size of the files that a process writes stands for the disk; its signal is ignored, so that the
    // write fails as on a full disk.
    let limited = "trap '' XFSZ; ulimit -f 100; exec \"$@\"";
    let program = command(&simulator.url(), &simulator.api_key(), &path);
    let ended = Command::new("bash")
        .args(["-c", limited, "bash"])
        .arg(program.get_program())
        .args(program.get_args())
        .arg("--allow-mass-change")
        .env("ISAMS_API_KEY", simulator.api_key())
        .output()
        .unwrap();
    let errors = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{errors}");
    assert!(errors.contains("disk"), "{errors}");
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(all(&store).await, before);
    assert!(sync(&source, &store).run(request()).await.is_ok());
}
