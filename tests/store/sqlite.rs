//! An SQLite store that is closed, broken, killed or full loses nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::program::rollmark;
use chrono::NaiveDate;
use rollmark::model::{SchoolId, Session};
use rollmark::rules::{Rules, Scope, SyncWindow};
use rollmark::store::{
    Change, FeedEntry, MarkKey, MarkStore, Run, RunQuery, Snapshot, SqliteStore, StoreError, StoreErrorKind,
};
use rollmark::sync::{AttendanceSync, SyncRequest};
use rollmark::testing::simulator::Simulator;
use rollmark::testing::{FakeSchool, FakeSource};
use rusqlite::Connection;

const FLIPS: usize = 200;

fn today() -> NaiveDate {
    "2026-11-20".parse().unwrap()
}

fn school() -> SchoolId {
    SchoolId::new("school")
}

fn request() -> SyncRequest {
    SyncRequest::overnight(today()).with_now("2026-11-20T18:00:00Z".parse().unwrap())
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
    assert_eq!(first.marks().len(), 1840);
    let store = SqliteStore::open(&path).unwrap();
    source.change(|school| school.demo_changes(today()));
    let report = sync(&source, &store).run(request()).await.unwrap();
    assert_eq!((report.run, report.marks.changed), (Some(2), 8));
    let read_only = SqliteStore::open_read_only(&path).unwrap();
    assert_eq!(all(&read_only).await, all(&store).await);
    assert_eq!(read_only.runs(&school(), &RunQuery::all()).await.unwrap().len(), 2);
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
    Connection::open(&newer).unwrap().pragma_update(None, "user_version", 6).unwrap();
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

/// Small enough that every part of the file matters: two schools, a change, a removal, and a mark that came back.
async fn small(path: &Path) {
    let mut school = FakeSchool::new();
    school.code("9", "I", "Illness", true);
    school.code("17", "M", "Medical or dental appointment", true);
    for student in 0..8 {
        for day in 16..=20 {
            let (date, student) = (format!("2026-11-{day}"), format!("473368320{student}"));
            let mut row = school.registration(&format!("{day}{student}"), &student, &format!("{date}T08:40:00"));
            row.updated(&format!("{date}T08:45:00"));
            if (day + student.len() as u32).is_multiple_of(3) {
                row.absent("9")
            } else {
                row.present()
            };
        }
    }
    let source = FakeSource::new(school);
    for name in ["school", "other"] {
        let store = SqliteStore::open(path).unwrap();
        let sync = AttendanceSync::new(source.clone(), store, name, Rules::new("Europe/London".parse().unwrap()));
        let request =
            |hour| SyncRequest::overnight(today()).with_now(format!("2026-11-20T{hour}:00:00Z").parse().unwrap());
        sync.run(request(18)).await.unwrap();
        source.change(|school| {
            school.registration_mut("204733683200").unwrap().absent("17").updated("2026-11-20T16:00:00");
            school.remove_registrations(|row| row.student == "4733683201".into());
            school.registration("new", "4733683202", "2026-11-20T13:30:00").absent("9");
        });
        sync.run(request(19)).await.unwrap();
    }
}

type Everything = Vec<(Snapshot, Snapshot, Vec<Run>, Vec<Vec<Change>>)>;

/// All that a store says of the schools of [`small`].
async fn everything(store: &SqliteStore) -> Result<Everything, StoreError> {
    let mut all = Vec::new();
    for name in ["school", "other"] {
        let (name, window) = (SchoolId::new(name), SyncWindow::default().ending(today()));
        let one = Scope::all(window).with_students(["4733683203"]);
        let snapshot = store.read(&name, &Scope::all(window)).await?;
        let mut histories = Vec::new();
        for student in 0..8 {
            for (day, session) in [(16, Session::Am), (20, Session::Am), (20, Session::Pm)] {
                let date = NaiveDate::from_ymd_opt(2026, 11, day).unwrap();
                let key = MarkKey::new(format!("473368320{student}"), date, session);
                histories.push(store.history(&name, &(&key).into()).await?);
            }
        }
        all.push((snapshot, store.read(&name, &one).await?, store.runs(&name, &RunQuery::all()).await?, histories));
    }
    Ok(all)
}

#[tokio::test]
async fn a_flipped_bit_is_an_error_or_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("marks.db");
    small(&path).await;
    let expected = everything(&SqliteStore::open(&path).unwrap()).await.unwrap();
    let sound = std::fs::read(&path).unwrap();
    let (mut number, mut found) = (7_u64, 0);
    for _ in 0..FLIPS {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bit = (number >> 16) as usize % (sound.len() * 8);
        let mut flipped = sound.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, flipped).unwrap();
        let answer = match SqliteStore::open_read_only(&path) {
            Ok(store) => everything(&store).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(answer) => assert_eq!(answer, expected, "bit {bit}"),
            Err(_) => found += 1,
        }
    }
    // The rest hit the free space of the pages.
    assert!(found > FLIPS / 4, "only {found} were found");
}

#[tokio::test]
async fn a_row_that_was_altered_or_points_elsewhere_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let sound = folder.path().join("sound.db");
    small(&sound).await;
    for (number, tampering) in [
        "UPDATE changes SET status = 'late' WHERE id = 1",
        "UPDATE changes SET code = raw_code WHERE code IS NOT NULL",
        "UPDATE changes SET decided_by = rule, rule = decided_by WHERE id = 1",
        "UPDATE changes SET record_id = record_id || '0' WHERE id = 1",
        "UPDATE changes SET status = NULL WHERE id = 1",
        "UPDATE changes SET seen_at = seen_at - 1 WHERE id = 1",
        "UPDATE changes SET last_updated = last_updated - 1 WHERE id = 1",
        "UPDATE changes SET run = 2 WHERE id = 1",
        "UPDATE changes SET student = '1' WHERE id = 1",
        "UPDATE decisions SET decision = replace(decision, 'time_rule', 'period_rule') WHERE change = 1",
        "DELETE FROM decisions WHERE change = 1",
        "UPDATE changes SET previous = 1 WHERE previous IS NOT NULL",
        "UPDATE changes SET code_name = 2 WHERE code_name = 1",
        "UPDATE texts SET text = 'Holiday' WHERE id = 1",
        "DELETE FROM texts",
        "DELETE FROM changes WHERE id = 1",
        "UPDATE marks SET change = 1",
        "UPDATE marks SET change = (SELECT previous FROM changes WHERE id = change) WHERE change IN
            (SELECT id FROM changes WHERE previous IS NOT NULL)",
        "UPDATE marks SET change = 41 - change WHERE change < 41",
        "UPDATE marks SET student = '1' WHERE student = '4733683200'",
        "UPDATE marks SET date = '2026-01-01' WHERE student = '4733683200' AND date = '2026-11-20' AND session = 'AM'",
        "UPDATE marks SET school = 3 - school WHERE student = '4733683201'",
        "UPDATE runs SET run = replace(run, '\"number\":1', '\"number\":2') WHERE number = 1",
        "UPDATE runs SET number = 3 WHERE number = 2",
        "UPDATE runs SET school = 3 WHERE school = 1",
        "UPDATE schools SET revision = revision + 1",
        "UPDATE schools SET lease_token = lease_token - 1",
        "UPDATE schools SET last_change = 0",
        "UPDATE schools SET name = 'another' WHERE name = 'school'",
    ]
    .iter()
    .enumerate()
    {
        let path = folder.path().join(format!("{number}.db"));
        std::fs::copy(&sound, &path).unwrap();
        let changed = Connection::open(&path).unwrap().execute(tampering, []).unwrap();
        assert!(changed > 0, "{tampering}");
        let answer = match SqliteStore::open(&path) {
            Ok(store) => everything(&store).await,
            Err(error) => Err(error),
        };
        assert_eq!(answer.unwrap_err().kind(), StoreErrorKind::Damaged, "{tampering}");
    }
}

/// What version 1 wrote: a change, a removal, an out-of-school record and two schools.
const VERSION_1: &str = include_str!("../stores/version_1.sql");

#[tokio::test]
async fn a_file_of_version_1_is_read_as_it_stands_and_brought_up_to_date_when_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("marks.db");
    Connection::open(&path).unwrap().execute_batch(VERSION_1).unwrap();
    Connection::open(&path).unwrap().pragma_update(None, "journal_mode", "WAL").unwrap();
    let before = std::fs::read(&path).unwrap();
    let read_only = SqliteStore::open_read_only(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let store = SqliteStore::open(&path).unwrap();
    let again = SqliteStore::open(&path).unwrap();
    for store in [read_only, store, again] {
        let snapshot = all(&store).await;
        assert_eq!(snapshot.revision(), 2);
        let marks: Vec<_> = snapshot.marks().iter().map(|stored| stored.content.to_string()).collect();
        assert_eq!(marks, ["I (illness)", "M (medical or dental appointment)"]);
        let am = |student: &str| MarkKey::new(student, today(), Session::Am);
        let decided = store.history(&school(), &(&snapshot.marks()[1].key).into()).await.unwrap();
        assert_eq!(decided[0].after.as_ref().unwrap().decision.losers.len(), 1);
        let changed = store.history(&school(), &(&am("4733683200")).into()).await.unwrap();
        assert_eq!(changed.iter().map(|change| change.run).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(changed[0].after.as_ref().map(|mark| mark.content()).as_ref(), changed[1].before.as_deref());
        assert_eq!(changed[1].after.as_ref().unwrap().content(), *snapshot.marks()[0].content);
        let removed = store.history(&school(), &(&am("4733683201")).into()).await.unwrap();
        assert_eq!(removed[1].after, None);
        assert_eq!(store.runs(&school(), &RunQuery::all()).await.unwrap().len(), 2);
        assert_eq!(store.runs(&"other".into(), &RunQuery::all()).await.unwrap().len(), 1);
    }
}

/// What version 2 wrote: a change, a removal, a mark that came back, an out-of-school record and two schools.
const VERSION_2: &str = include_str!("../stores/version_2.sql");

#[tokio::test]
async fn a_file_of_version_2_holds_what_it_held() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("marks.db");
    Connection::open(&path).unwrap().execute_batch(VERSION_2).unwrap();
    let before = std::fs::read(&path).unwrap();
    let read_only = SqliteStore::open_read_only(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let store = SqliteStore::open(&path).unwrap();
    for store in [&read_only, &store, &SqliteStore::open(&path).unwrap()] {
        let snapshot = all(store).await;
        let marks: Vec<_> = snapshot.marks().iter().map(|stored| stored.content.to_string()).collect();
        assert_eq!(marks, ["I (illness)", "late, 7 minutes", "M (medical or dental appointment)", "present"]);
        assert!(snapshot.marks().iter().all(|stored| stored.as_of_earliest == stored.fetched_at));
        let back = MarkKey::new("4733683201", today(), Session::Am);
        let history = store.history(&school(), &(&back).into()).await.unwrap();
        let shown = |change: &Change| change.after.as_ref().map(|mark| mark.to_string());
        let shown: Vec<_> = history.iter().map(shown).collect();
        assert_eq!(shown, [Some("I (illness)".into()), None, Some("late, 7 minutes".into())]);
        assert_eq!(history.iter().map(|change| change.cursor.number()).collect::<Vec<_>>(), [2, 10, 11]);
        assert!(history.iter().all(|change| change.applied_at == change.seen_at));
        assert_eq!(store.changes(&school(), None, 99).await.unwrap().len(), 7);
        assert_eq!(store.changes(&"other".into(), None, 99).await.unwrap().len(), 4);
        assert_eq!(store.runs(&school(), &RunQuery::all()).await.unwrap().len(), 3);
        assert_eq!(
            store.read(&"other".into(), &Scope::all(SyncWindow::default().ending(today()))).await.unwrap().revision(),
            1
        );
    }
    store.erase(&school(), &"4733683202".into()).await.unwrap();
    let last = store.changes(&school(), None, 99).await.unwrap().pop().unwrap();
    assert_eq!(last.cursor().number(), 12, "cursors go on");
}

/// What version 3 wrote: a change, a removal, a mark that came back, an out-of-school record, a run that withheld removals,
/// an erasure and two schools.
const VERSION_3: &str = include_str!("../stores/version_3.sql");

#[tokio::test]
async fn a_file_of_version_3_holds_what_it_held() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("marks.db");
    Connection::open(&path).unwrap().execute_batch(VERSION_3).unwrap();
    let before = std::fs::read(&path).unwrap();
    let read_only = SqliteStore::open_read_only(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let store = SqliteStore::open(&path).unwrap();
    for store in [&read_only, &store, &SqliteStore::open(&path).unwrap()] {
        let snapshot = all(store).await;
        assert_eq!(snapshot.revision(), 5);
        let marks: Vec<_> = snapshot.marks().iter().map(|stored| stored.content.to_string()).collect();
        let medical = "M (medical or dental appointment)";
        assert_eq!(marks, ["I (illness)", "present", "late, 7 minutes", medical, "present", "present"]);
        let stamps: Vec<_> = snapshot.marks().iter().map(|stored| stored.content.last_updated.unwrap()).collect();
        assert_eq!(stamps[4], "2026-11-20T08:45:00.123456Z".parse::<chrono::DateTime<chrono::Utc>>().unwrap());
        let fetched: Vec<_> = snapshot.marks().iter().map(|stored| stored.fetched_at.to_rfc3339()).collect();
        assert_eq!(fetched[..3], ["19", "21", "20"].map(|hour| format!("2026-11-20T{hour}:00:00+00:00")));
        let back = MarkKey::new("4733683201", today(), Session::Am);
        let history = store.history(&school(), &(&back).into()).await.unwrap();
        let shown: Vec<_> = history.iter().map(|change| change.after.as_ref().map(ToString::to_string)).collect();
        assert_eq!(shown, [Some("I (illness)".into()), None, Some("late, 7 minutes".into())]);
        assert!(history.iter().all(|change| change.applied_at > change.seen_at));
        let decided = store.history(&school(), &(&snapshot.marks()[3].key).into()).await.unwrap();
        assert_eq!(decided[0].after.as_ref().unwrap().decision.losers.len(), 1);
        let feed = store.changes(&school(), None, 99).await.unwrap();
        assert_eq!(feed.iter().map(|entry| entry.cursor().number()).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
        assert!(matches!(feed[9], FeedEntry::Erased { .. }));
        assert_eq!(store.changes(&"other".into(), None, 99).await.unwrap().len(), 3);
        assert_eq!(store.runs(&school(), &RunQuery::all()).await.unwrap()[3].marks.withheld, 3);
        assert_eq!(store.withheld(&school(), 3).await.unwrap(), Some(Vec::new()), "that run withheld nothing");
        assert_eq!(store.withheld(&school(), 4).await.unwrap(), None, "its list was not kept");
    }
    store.erase(&school(), &"4733683202".into()).await.unwrap();
    assert_eq!(store.changes(&school(), None, 99).await.unwrap().pop().unwrap().cursor().number(), 14, "cursors go on");
}

/// What version 4 wrote: what version 3 wrote, and a run whose withheld changes are kept.
const VERSION_4: &str = include_str!("../stores/version_4.sql");

#[tokio::test]
async fn a_file_of_version_4_holds_what_it_held() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("marks.db");
    Connection::open(&path).unwrap().execute_batch(VERSION_4).unwrap();
    let before = std::fs::read(&path).unwrap();
    let read_only = SqliteStore::open_read_only(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let store = SqliteStore::open(&path).unwrap();
    for store in [&read_only, &store, &SqliteStore::open(&path).unwrap()] {
        let snapshot = all(store).await;
        assert_eq!(snapshot.revision(), 6);
        let marks: Vec<_> = snapshot.marks().iter().map(|stored| stored.content.to_string()).collect();
        assert_eq!(marks, ["I (illness)", "I (illness)", "late, 7 minutes", "present"]);
        let stamp = snapshot.marks()[1].content.last_updated.unwrap();
        assert_eq!(stamp, "2026-11-20T13:45:00.654321Z".parse::<chrono::DateTime<chrono::Utc>>().unwrap());
        let changed = store.history(&school(), &(&snapshot.marks()[1].key).into()).await.unwrap();
        assert_eq!(changed.iter().map(|change| change.run).collect::<Vec<_>>(), [4, 5]);
        assert_eq!(changed[1].before.as_ref(), changed[0].after.as_ref().map(|mark| mark.content().into()).as_ref());
        assert_eq!(changed[1].after.as_ref().unwrap().content(), *snapshot.marks()[1].content);
        let away = MarkKey::new("4733683202", today(), Session::Am);
        assert_eq!(store.history(&school(), &(&away).into()).await.unwrap().len(), 1);
        let feed = store.changes(&school(), None, 99).await.unwrap();
        assert!(feed.iter().any(|entry| matches!(entry, FeedEntry::Erased { .. })));
        assert_eq!(store.withheld(&school(), 5).await.unwrap().map(|withheld| withheld.len()), Some(3));
        let one = Scope::all(SyncWindow::default().ending(today())).with_students(["4733683201"]);
        assert_eq!(store.read(&school(), &one).await.unwrap().marks().len(), 1);
    }
}

#[tokio::test]
async fn a_damaged_file_of_version_4_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("marks.db");
    let damaged = VERSION_4.replace("\"minutes_late\":7", "\"minutes_late\":8");
    assert_ne!(damaged, VERSION_4);
    Connection::open(&path).unwrap().execute_batch(&damaged).unwrap();
    assert_eq!(SqliteStore::open(&path).unwrap_err().kind(), StoreErrorKind::Damaged);
    let version: i32 = Connection::open(&path).unwrap().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 4);
}

#[tokio::test]
async fn a_damaged_file_of_version_2_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("marks.db");
    let damaged = VERSION_2.replace("\"minutes_late\":7", "\"minutes_late\":8");
    assert_ne!(damaged, VERSION_2);
    Connection::open(&path).unwrap().execute_batch(&damaged).unwrap();
    assert_eq!(SqliteStore::open(&path).unwrap_err().kind(), StoreErrorKind::Damaged);
    let version: i32 = Connection::open(&path).unwrap().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 2);
}

#[tokio::test]
async fn a_code_s_name_is_held_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("marks.db");
    let name = "A long name ".repeat(5_000);
    let mut long = FakeSchool::new();
    long.code("9", "I", name.trim(), true);
    for student in 0..200 {
        long.registration(&student.to_string(), &student.to_string(), "2026-11-20T08:40:00").absent("9");
    }
    let store = SqliteStore::open(&path).unwrap();
    sync(&FakeSource::new(long), &store).run(request()).await.unwrap();
    let snapshot = all(&store).await;
    assert_eq!(snapshot.marks().len(), 200);
    assert!(snapshot.marks().iter().all(|stored| stored.content.code_name.as_deref() == Some(name.trim())));
    drop(store);
    assert!(std::fs::metadata(&path).unwrap().len() < 500_000);
}

#[tokio::test]
async fn a_lease_further_ahead_than_its_length_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("marks.db");
    let store = SqliteStore::open(&path).unwrap();
    let length = Duration::from_secs(30);
    let first = store.acquire_lease(&school(), length).await.unwrap().unwrap();
    assert_eq!(store.acquire_lease(&school(), length).await.unwrap(), None);
    // As if the clock had been set back by a minute since.
    let breaker = Connection::open(&path).unwrap();
    breaker.execute("UPDATE schools SET lease_until_ms = lease_until_ms + 60000", []).unwrap();
    let second = store.acquire_lease(&school(), length).await.unwrap().unwrap();
    assert!(second > first);
    let lost = store.renew_lease(&school(), first, length).await.unwrap_err();
    assert_eq!(lost.kind(), StoreErrorKind::LeaseLost);
    assert_eq!(store.acquire_lease(&school(), length).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_runs_out_while_the_file_is_busy_is_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("marks.db");
    let store = SqliteStore::open(&path).unwrap();
    let length = Duration::from_millis(500);
    let token = store.acquire_lease(&school(), length).await.unwrap().unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let renewing = tokio::spawn({
        let store = store.clone();
        async move { store.renew_lease(&school(), token, length).await }
    });
    tokio::time::sleep(length * 2).await;
    other.execute_batch("COMMIT").unwrap();
    renewing.await.unwrap().unwrap();
}

#[test]
fn many_can_make_one_file_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..10 {
        let path = folder.path().join(format!("{round}.db"));
        let start = std::sync::Barrier::new(24);
        std::thread::scope(|threads| {
            for _ in 0..24 {
                threads.spawn(|| {
                    start.wait();
                    SqliteStore::open(&path).map(drop).unwrap_or_else(|error| panic!("{error}"));
                    SqliteStore::open_read_only(&path).map(drop).unwrap_or_else(|error| panic!("{error}"));
                });
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_eight_schools_can_write_one_new_file_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("marks.db");
    let source = FakeSource::new(FakeSchool::demo(today()));
    let runs: Vec<_> = (0..48)
        .map(|number| {
            let (source, path) = (source.clone(), path.clone());
            tokio::spawn(async move {
                let store = tokio::task::spawn_blocking(|| SqliteStore::open(path)).await.unwrap().unwrap();
                let rules = Rules::new("Europe/London".parse().unwrap());
                AttendanceSync::new(source, store, format!("school {number}").as_str(), rules).run(request()).await
            })
        })
        .collect();
    for run in runs {
        assert_eq!(run.await.unwrap().unwrap().marks.added, 1840);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_of_many_schools_can_make_one_file_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("marks.db");
    let simulator = Simulator::start(FakeSchool::demo(today())).await.unwrap();
    let (url, key) = (simulator.url(), simulator.api_key());
    let running: Vec<_> = (0..12)
        .map(|number| command(&url, &key, &path).args(["--school", &number.to_string()]).spawn().unwrap())
        .collect();
    for mut run in running {
        assert!(run.wait().unwrap().success());
    }
}

/// What can't be a store, and must never pass for an empty one.
#[cfg(unix)]
#[test]
fn what_can_t_be_reached_is_an_error_also_where_it_is_only_read() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    symlink(at("loop"), at("loop")).unwrap();
    symlink(at("nothing"), at("dangling")).unwrap();
    assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    std::fs::create_dir(at("folder")).unwrap();
    std::fs::write(at("file"), "").unwrap();
    let names = ["loop", "loop/marks.db", "dangling", "pipe", "folder", "file/marks.db", "missing/marks.db"];
    let unreachable = names.into_iter().map(at);
    let others = ["/dev/null", "", ":memory:", "file:marks.db", "file:marks.db?mode=memory"].map(PathBuf::from);
    for path in unreachable.chain(others) {
        for outcome in [SqliteStore::open(&path), SqliteStore::open_read_only(&path)] {
            let error = outcome.map(drop).unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::CannotOpen, "{error}");
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 5, "something was made");
}

#[test]
fn names_that_mean_something_to_sqlite_are_names_of_files_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    for name in [":memory:", "file:marks.db?mode=memory", "marks.db?mode=ro"] {
        let path = folder.path().join(name);
        SqliteStore::open(&path).unwrap();
        assert!(path.is_file(), "{name}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_read_a_new_file_and_permissions_that_are_there_stay() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    for mode in [0o600, 0o640] {
        let path = folder.path().join(format!("{mode}.db"));
        if mode != 0o600 {
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let store = SqliteStore::open(&path).unwrap();
        store.acquire_lease(&school(), Duration::from_secs(1)).await.unwrap();
        for companion in ["", "-wal", "-shm"] {
            let file = format!("{}{companion}", path.display());
            let permissions = std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
            assert_eq!(permissions, mode, "{file}");
        }
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_in_the_place_of_a_companion_is_not_followed() {
    for companion in ["-wal", "-shm", "-journal"] {
        let (folder, path, _) = filled().await;
        let victim = folder.path().join("victim");
        std::fs::write(&victim, "as it was").unwrap();
        std::os::unix::fs::symlink(&victim, format!("{}{companion}", path.display())).unwrap();
        if let Ok(store) = SqliteStore::open(&path) {
            let _ = store.acquire_lease(&school(), Duration::from_secs(1)).await;
        }
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "as it was", "{companion}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_to_a_store_is_that_store() {
    let (folder, path, _) = filled().await;
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert_eq!(all(&SqliteStore::open(&link).unwrap()).await.marks().len(), 1840);
    assert_eq!(all(&SqliteStore::open_read_only(&link).unwrap()).await.marks().len(), 1840);
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
        assert_eq!(store.runs(&school(), &RunQuery::all()).await.unwrap().len(), 1, "{event}");
    }
    assert_eq!(sync(&source, &store).run(request()).await.unwrap().marks.changed, 8);
}

#[tokio::test]
async fn a_file_that_must_not_be_written_keeps_its_marks_and_can_still_be_read() {
    let (_folder, path, source) = filled().await;
    let mut permissions = std::fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&path, permissions).unwrap();
    let store = SqliteStore::open_read_only(&path).unwrap();
    let error = sync(&source, &store).run(request()).await.unwrap_err();
    assert!(error.to_string().contains("can't be written"), "{error}");
    assert_eq!(all(&store).await.marks().len(), 1840);
}

fn run_to_end(url: &str, key: &str, path: &Path, marks: &Path) -> std::process::ExitStatus {
    command(url, key, path).arg("--marks").arg(marks).status().unwrap()
}

fn command(url: &str, key: &str, path: &Path) -> Command {
    let mut command = rollmark("sync");
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
        let Some(mut row) = school.registration_mut(&id) else { continue };
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
    let runs = store.runs(&school(), &RunQuery::all()).await.unwrap();
    assert!(runs.iter().zip(1..).all(|(run, number)| run.number == number), "the runs have a gap");
    for stored in all(&store).await.marks().iter().step_by(50) {
        let history = store.history(&school(), &(&stored.key).into()).await.unwrap();
        assert_eq!(history.first().unwrap().before, None);
        assert_eq!(history.last().unwrap().after.as_ref().unwrap().content(), *stored.content);
        assert!(history.windows(2).all(|pair| {
            let before = pair[0].after.as_ref().map(|mark| mark.content());
            pair[0].run < pair[1].run && before.as_ref() == pair[1].before.as_deref()
        }));
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
    let runs = store.runs(&school(), &RunQuery::all()).await.unwrap();
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

#[tokio::test]
async fn a_connection_of_its_own_reads_and_writes_the_same_file() {
    let (_folder, path, source) = filled().await;
    let store = SqliteStore::open(&path).unwrap();
    let own = store.with_own_connection().unwrap();
    source.change(|school| school.demo_changes(today()));
    assert_eq!(sync(&source, &own).run(request()).await.unwrap().marks.changed, 8);
    assert_eq!(all(&store).await, all(&own).await);
    let read_only = SqliteStore::open_read_only(&path).unwrap().with_own_connection().unwrap();
    assert_eq!(all(&read_only).await, all(&own).await);
    assert!(sync(&source, &read_only).run(request()).await.is_err(), "it is still there to read only");
    std::fs::rename(&path, path.with_extension("gone")).unwrap();
    assert_eq!(store.with_own_connection().unwrap_err().kind(), StoreErrorKind::CannotOpen);
}
