//! What the SQLite store costs beside plain inserts, a plan beside the parsing of its feed, and a diagnosis beside reading it:
//! `cargo bench --bench store`.
//!
//! Everything is measured in one run, since only the ratios travel from machine to machine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use rollmark::explain::Question;
use rollmark::isams::Batch;
use rollmark::model::{Record, Registration, SchoolId};
use rollmark::rules::{Freshness, Register, Resolver, Rules, Scope, SyncWindow};
use rollmark::source::{AttendanceSource, FetchRequest};
use rollmark::store::{ChangeSet, MarkStore, Run, Snapshot, SqliteStore, Write};
use rollmark::support::diagnose;
use rollmark::sync::{Guards, Plan};
use rusqlite::{Connection, params};

const ROUNDS: usize = 5;
const STUDENTS: u64 = 1_500;
/// Registers of a day, from eight on.
const REGISTERS: u32 = 8;

#[tokio::main]
async fn main() {
    let today: NaiveDate = "2026-11-20".parse().unwrap();
    let scope = Scope::all(SyncWindow::default().ending(today));
    let feed = feed(&scope);
    let url = serve(feed.clone());
    let mut parsing = Vec::new();
    for _ in 0..ROUNDS {
        let source = Batch::new(&url, "key").unwrap().with_suspicious_rows(None);
        let started = Instant::now();
        let items = source.fetch(&FetchRequest::new(scope.window())).await.unwrap();
        assert_eq!(futures::StreamExt::count(items).await as u64, STUDENTS * u64::from(REGISTERS) * 31 + 1);
        parsing.push(started.elapsed());
    }
    println!("parse a feed of {} MB: {:?}", feed.len() >> 20, median(&mut parsing));
    let mut diagnosing = Vec::new();
    for _ in 0..ROUNDS {
        let source = Batch::new(&url, "key").unwrap().with_suspicious_rows(None);
        let rules = Rules::new("Europe/London".parse().unwrap());
        let question = Question::about("4733683260", today).with_window(scope.window());
        let started = Instant::now();
        let diagnosis = diagnose(&source, &rules, &question).await.unwrap();
        diagnosing.push(started.elapsed());
        assert_eq!(diagnosis.day.len(), REGISTERS as usize);
    }
    let more = median(&mut diagnosing).saturating_sub(median(&mut parsing));
    println!(
        "diagnose one student's day from the whole feed: {:?}, {more:?} more than reading it",
        median(&mut diagnosing)
    );

    let register = resolve(&scope);
    let marks: Vec<_> = register.marks().map(Arc::new).collect();
    let rows: Vec<String> = marks.iter().map(|mark| serde_json::to_string(&**mark).unwrap()).collect();
    let (mut plain, mut loading, mut reading, mut planning) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let folder = tempfile::tempdir().unwrap();
        let connection = Connection::open(folder.path().join("plain.db")).unwrap();
        plain.push(timed(|| insert_plainly(connection, &rows, &marks)));

        let store = SqliteStore::open(folder.path().join("store.db")).unwrap();
        let writes = marks.iter().map(|mark| Write::Put(Arc::clone(mark))).collect();
        let changes = change_set(&scope, writes);
        let school = SchoolId::new("school");
        let started = Instant::now();
        store.apply(&school, &changes).await.unwrap();
        loading.push(started.elapsed());

        let started = Instant::now();
        let snapshot = store.read(&school, &scope).await.unwrap();
        reading.push(started.elapsed());
        planning.push(timed(|| plan_nothing(&snapshot, &register, &changes)));
    }
    let (plain, loading) = (median(&mut plain), median(&mut loading));
    println!("insert {} marks and their history plainly: {plain:?}", marks.len());
    println!("first load into the store: {loading:?}, {:.2} times the plain inserts", ratio(loading, plain));
    println!("read them back: {:?}", median(&mut reading));
    let (planning, parsing) = (median(&mut planning), median(&mut parsing));
    println!("plan a second, identical sync: {planning:?}, {:.3} of parsing the feed", ratio(planning, parsing));
}

fn plan_nothing(snapshot: &Snapshot, register: &Register, changes: &ChangeSet) {
    let plan = Plan::new(snapshot, register, changes.run().freshness, 1, &Guards::default()).unwrap();
    assert!(plan.changes.is_empty());
}

/// The same rows in the same tables, by prepared statements in one transaction.
fn insert_plainly(mut connection: Connection, rows: &[String], marks: &[Arc<rollmark::model::Mark>]) {
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection
        .execute_batch(
            "CREATE TABLE changes (id INTEGER PRIMARY KEY, previous INTEGER, run INTEGER, seen_at TEXT, mark TEXT);
             CREATE TABLE marks (school INTEGER, date TEXT, student TEXT, session TEXT, change INTEGER,
                 PRIMARY KEY (school, date, student, session)) WITHOUT ROWID;",
        )
        .unwrap();
    let transaction = connection.transaction().unwrap();
    let mut log = transaction.prepare("INSERT INTO changes (run, seen_at, mark) VALUES (1, ?1, ?2)").unwrap();
    let mut point = transaction.prepare("INSERT INTO marks VALUES (1, ?1, ?2, ?3, ?4)").unwrap();
    for (row, mark) in rows.iter().zip(marks) {
        let change = log.insert(params!["2026-11-20T18:00:00+00:00", row]).unwrap();
        point.execute(params![mark.date.to_string(), mark.student.as_str(), mark.session.name(), change]).unwrap();
    }
    drop((log, point));
    transaction.commit().unwrap();
}

fn change_set(scope: &Scope, writes: Vec<Write>) -> ChangeSet {
    let fetched_at: DateTime<Utc> = "2026-11-20T18:00:00Z".parse().unwrap();
    let freshness = Freshness::new(fetched_at, TimeDelta::zero());
    let run = Run::new(freshness, scope.clone(), Rules::new("Europe/London".parse().unwrap()));
    ChangeSet::new(0, run).with_writes(writes)
}

fn registers(scope: &Scope) -> impl Iterator<Item = (u64, String, String)> {
    let (from, to) = (scope.window().from(), scope.window().to());
    let days = from.iter_days().take_while(move |date| *date <= to);
    days.flat_map(|date| (0..STUDENTS).map(move |student| (date, student))).flat_map(|(date, student)| {
        (0..REGISTERS).map(move |slot| {
            let hour = 8 + slot;
            (4_733_683_260 + student, format!("{date}T{hour:02}:40:00"), format!("{date}T{hour:02}:52:11.123"))
        })
    })
}

fn resolve(scope: &Scope) -> Register {
    let mut resolver = Resolver::new(Rules::new("Europe/London".parse().unwrap()), scope.clone());
    for (number, (student, at, updated)) in registers(scope).enumerate() {
        let mut row = Registration::new(student.to_string().as_str(), at.parse().unwrap());
        row.id = Some(number.to_string().as_str().into());
        row.last_updated = Some(updated.parse().unwrap());
        resolver.push(Record::Registration(row));
    }
    resolver.finish().unwrap()
}

fn feed(scope: &Scope) -> String {
    let rows = registers(scope).enumerate().map(|(number, (student, at, updated))| {
        format!(
            "<RegistrationStatus Id=\"{number}\"><PupilId>{student}</PupilId><Registered>1</Registered>\
             <RegistrationDateTime>{at}</RegistrationDateTime><Alert>0</Alert>\
             <ParentNotificationSent>0</ParentNotificationSent><Author>STAFF</Author><LastUpdated>{updated}</LastUpdated>\
             <PeriodId>{}</PeriodId></RegistrationStatus>",
            50_000 + number % 248
        )
    });
    format!(
        "<iSAMS><RegistrationManager><RegistrationCodes /><RegistrationStatuses>{}</RegistrationStatuses>\
         <OutOfSchoolPupils /></RegistrationManager></iSAMS>",
        rows.collect::<String>()
    )
}

/// Answers the request for codes with none, and the other with the feed.
fn serve(feed: String) -> String {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            while !request.ends_with(b"</Filters>") {
                let length = stream.read(&mut buffer).unwrap();
                request.extend_from_slice(&buffer[..length]);
            }
            let asks_codes = String::from_utf8_lossy(&request).contains("GetRegistrationCodes");
            let body = if asks_codes { "<iSAMS><RegistrationCodes /><RegistrationPeriods /></iSAMS>" } else { &feed };
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(body.as_bytes());
        }
    });
    url
}

fn timed(work: impl FnOnce()) -> Duration {
    let started = Instant::now();
    work();
    started.elapsed()
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}
