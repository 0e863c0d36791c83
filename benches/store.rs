//! What the SQLite store costs beside plain inserts of the same columns: `cargo bench --bench store --all-features`.
//!
//! Everything is measured in one run, since only the ratios travel from machine to machine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use rollmark::model::{Mark, RawCode, Record, RecordId, Registration, SchoolId};
use rollmark::rules::{Freshness, Resolver, Rules, Scope, SyncWindow};
use rollmark::store::{ChangeSet, HistoryQuery, MarkStore, Run, SqliteStore, Write};
use rusqlite::{Connection, params};

const ROUNDS: usize = 5;
const STUDENTS: u64 = 1_500;

#[tokio::main]
async fn main() {
    let scope = Scope::all(SyncWindow::default().ending("2026-11-20".parse().unwrap()));
    let marks = resolve(&scope);
    let school = SchoolId::new("school");
    let (mut plain, mut loading, mut second) = (Vec::new(), Vec::new(), Vec::new());
    let (mut opening, mut month, mut history) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let folder = tempfile::tempdir().unwrap();
        let connection = Connection::open(folder.path().join("plain.db")).unwrap();
        let started = Instant::now();
        insert_plainly(connection, &marks);
        plain.push(started.elapsed());

        let path = folder.path().join("store.db");
        let store = SqliteStore::open(&path).unwrap();
        let writes = marks.iter().map(|mark| Write::Put(Arc::clone(mark))).collect();
        let changes = ChangeSet::new(0, run(&scope)).with_writes(writes);
        let started = Instant::now();
        store.apply(&school, &changes).await.unwrap();
        loading.push(started.elapsed());
        drop(store);

        let started = Instant::now();
        let store = SqliteStore::open(&path).unwrap();
        opening.push(started.elapsed());

        // What a second, identical sync does in the store.
        let started = Instant::now();
        let lease = store.acquire_lease(&school, Duration::from_secs(30)).await.unwrap().unwrap();
        let snapshot = store.read(&school, &scope).await.unwrap();
        let changes = ChangeSet::new(snapshot.revision(), run(&scope)).with_lease(lease);
        store.apply(&school, &changes).await.unwrap();
        store.release_lease(&school, lease).await.unwrap();
        second.push(started.elapsed());
        assert_eq!(snapshot.marks().len(), marks.len());

        for student in 0..50_u64 {
            let one = scope.clone().with_students([(4_733_683_260 + student * 29).to_string()]);
            let started = Instant::now();
            assert_eq!(store.read(&school, &one).await.unwrap().marks().len(), 62);
            month.push(started.elapsed());
            let started = Instant::now();
            assert_eq!(store.history(&school, &HistoryQuery::new(one)).await.unwrap().len(), 62);
            history.push(started.elapsed());
        }
    }
    let (plain, loading) = (median(&mut plain), median(&mut loading));
    let times = loading.as_secs_f64() / plain.as_secs_f64();
    println!("insert {} marks plainly, prepared, in one transaction: {plain:?}", marks.len());
    println!("first load into the store: {loading:?}, {times:.2} times the plain inserts");
    println!("open the store: {:?}", median(&mut opening));
    println!("in the store of a second, identical sync: {:?}", median(&mut second));
    println!("read one student's month: {:?}, and its history: {:?}", median(&mut month), median(&mut history));
}

fn run(scope: &Scope) -> Run {
    let fetched_at: DateTime<Utc> = "2026-11-20T18:00:00Z".parse().unwrap();
    Run::new(Freshness::new(fetched_at, TimeDelta::zero()), scope.clone(), Rules::new("Europe/London".parse().unwrap()))
}

/// Two registers a day for each student.
fn resolve(scope: &Scope) -> Vec<Arc<Mark>> {
    let mut resolver = Resolver::new(run(scope).rules, scope.clone());
    let days = scope.window().from().iter_days().take_while(|date| *date <= scope.window().to());
    let registers =
        days.flat_map(|date| (0..STUDENTS).flat_map(move |student| [8, 13].map(|hour| (date, student, hour))));
    for (number, (date, student, hour)) in registers.enumerate() {
        let at = format!("{date}T{hour:02}:40:00").parse().unwrap();
        let mut row = Registration::new((4_733_683_260 + student).to_string(), at);
        row.id = Some(number.to_string().into());
        row.last_updated = Some(format!("{date}T{hour:02}:52:11.123").parse().unwrap());
        resolver.push(Record::Registration(row));
    }
    resolver.finish().unwrap().marks().map(Arc::new).collect()
}

/// Marks and their history, as a portal would write them by hand: the same columns and keys as the store's.
fn insert_plainly(mut connection: Connection, marks: &[Arc<Mark>]) {
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection
        .execute_batch(
            "CREATE TABLE changes (
                 id INTEGER PRIMARY KEY, school INTEGER, date TEXT, student TEXT, session TEXT, previous INTEGER, run INTEGER,
                 seen_at INTEGER, as_of_earliest INTEGER, applied_at INTEGER, status TEXT, code TEXT, code_name INTEGER,
                 raw_code TEXT, minutes_late INTEGER, decided_by TEXT, record_id TEXT, last_updated INTEGER, rule TEXT);
             CREATE INDEX feed ON changes (school);
             CREATE TABLE decisions (change INTEGER PRIMARY KEY, decision TEXT);
             CREATE TABLE marks (
                 school INTEGER, date TEXT, student TEXT, session TEXT, change INTEGER,
                 PRIMARY KEY (school, date, student, session)) WITHOUT ROWID;",
        )
        .unwrap();
    let transaction = connection.transaction().unwrap();
    let mut change = transaction
        .prepare(
            "INSERT INTO changes VALUES (?1, 1, ?2, ?3, ?4, NULL, 1, ?5, ?5, ?5, ?6, ?7, NULL, ?8, ?9, ?10, ?11, ?12, ?13)",
        )
        .unwrap();
    let mut decision = transaction.prepare("INSERT INTO decisions VALUES (?1, ?2)").unwrap();
    let mut point = transaction.prepare("INSERT INTO marks VALUES (1, ?1, ?2, ?3, ?4)").unwrap();
    let now = Utc::now().timestamp_micros();
    for (id, mark) in (1_i64..).zip(marks) {
        let date = mark.date.to_string();
        let (student, session, winner) = (mark.student.as_str(), mark.session.name(), &mark.decision.winner);
        change
            .execute(params![
                id,
                date,
                student,
                session,
                now,
                mark.status.name(),
                mark.code,
                mark.raw_code.as_ref().map(RawCode::as_str),
                mark.minutes_late,
                winner.kind.name(),
                winner.id.as_ref().map(RecordId::as_str),
                winner.last_updated.map(|stamp| stamp.timestamp_micros()),
                mark.decision.rule.name()
            ])
            .unwrap();
        decision.execute(params![id, serde_json::to_string(&mark.decision).unwrap()]).unwrap();
        point.execute(params![date, student, session, id]).unwrap();
    }
    drop((change, decision, point));
    transaction.commit().unwrap();
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}
