//! What the PostgreSQL store costs beside a plain insert of the same columns, on the server that `ROLLMARK_TEST_POSTGRES`
//! names, in a database of its own: `cargo bench --bench postgres`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use deadpool_postgres::{Manager, Pool};
use rollmark::model::{Decision, Mark, RawCode, Record, RecordId, Registration, SchoolId};
use rollmark::rules::{Freshness, Resolver, Rules, Scope, SyncWindow};
use rollmark::store::{ChangeSet, MarkStore, PostgresStore, Run, Write};
use tokio_postgres::types::{Json, ToSql, Type};
use tokio_postgres::{Client, Config, NoTls};

const ROUNDS: usize = 5;
const STUDENTS: u64 = 1_500;
const DATABASE: &str = "rollmark_bench";

#[tokio::main]
async fn main() {
    let Ok(url) = std::env::var("ROLLMARK_TEST_POSTGRES") else {
        println!("ROLLMARK_TEST_POSTGRES names no server");
        return;
    };
    let mut config: Config = url.parse().unwrap();
    let administration = connect(&config).await;
    administration.batch_execute(&format!("DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")).await.unwrap();
    administration.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await.unwrap();
    config.dbname(DATABASE);

    let scope = Scope::all(SyncWindow::default().ending("2026-11-20".parse().unwrap()));
    let marks = resolve(&scope);
    let school = SchoolId::new("school");
    let (mut plain, mut loading, mut second, mut month) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut client = connect(&config).await;
        client.batch_execute(&format!("DROP SCHEMA IF EXISTS rollmark CASCADE; {PLAIN}")).await.unwrap();
        client.batch_execute("CHECKPOINT").await.unwrap();
        let started = Instant::now();
        insert_plainly(&mut client, &marks).await;
        plain.push(started.elapsed());

        let store = PostgresStore::new(Pool::builder(Manager::new(config.clone(), NoTls)).build().unwrap());
        store.migrate().await.unwrap();
        client.batch_execute("CHECKPOINT").await.unwrap();
        let writes = marks.iter().map(|mark| Write::Put(Arc::clone(mark))).collect();
        let changes = ChangeSet::new(0, run(&scope)).with_writes(writes);
        let started = Instant::now();
        store.apply(&school, &changes).await.unwrap();
        loading.push(started.elapsed());

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
        }
    }
    let (plain, loading) = (median(&mut plain), median(&mut loading));
    let times = loading.as_secs_f64() / plain.as_secs_f64();
    println!("insert {} marks plainly, by UNNEST in one transaction: {plain:?}", marks.len());
    println!("first load into the store: {loading:?}, {times:.2} times the plain insert");
    println!("in the store of a second, identical sync: {:?}", median(&mut second));
    println!("read one student's month: {:?}", median(&mut month));
    administration.batch_execute(&format!("DROP DATABASE {DATABASE} WITH (FORCE)")).await.unwrap();
}

async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
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

const PLAIN: &str = "
    DROP TABLE IF EXISTS plain;
    CREATE TABLE plain (
        school text NOT NULL, student text COLLATE \"C\" NOT NULL, date date NOT NULL, session text NOT NULL,
        run bigint NOT NULL, status text NOT NULL, code text, code_name text, raw_code text, minutes_late bigint,
        decided_by text NOT NULL, record_id text, last_updated timestamptz, rule text NOT NULL, decision jsonb NOT NULL,
        PRIMARY KEY (school, student, date, session)
    )";

async fn insert_plainly(client: &mut Client, marks: &[Arc<Mark>]) {
    fn column<'a, T>(marks: &'a [Arc<Mark>], value: impl Fn(&'a Mark) -> T) -> Vec<T> {
        marks.iter().map(|mark| value(mark)).collect()
    }
    let transaction = client.transaction().await.unwrap();
    let student: Vec<&str> = column(marks, |mark| mark.student.as_str());
    let date: Vec<NaiveDate> = column(marks, |mark| mark.date);
    let session: Vec<&str> = column(marks, |mark| mark.session.name());
    let status: Vec<&str> = column(marks, |mark| mark.status.name());
    let code: Vec<Option<&str>> = column(marks, |mark| mark.code.as_deref());
    let code_name: Vec<Option<&str>> = column(marks, |mark| mark.code_name.as_deref());
    let raw_code: Vec<Option<&str>> = column(marks, |mark| mark.raw_code.as_ref().map(RawCode::as_str));
    let minutes_late: Vec<Option<i64>> = column(marks, |mark| mark.minutes_late.map(i64::from));
    let decided_by: Vec<&str> = column(marks, |mark| mark.decision.winner.kind.name());
    let record_id: Vec<Option<&str>> = column(marks, |mark| mark.decision.winner.id.as_ref().map(RecordId::as_str));
    let last_updated: Vec<Option<DateTime<Utc>>> = column(marks, Mark::last_updated);
    let rule: Vec<&str> = column(marks, |mark| mark.decision.rule.name());
    let decision: Vec<Json<&Decision>> = column(marks, |mark| Json(&mark.decision));
    let values: [(&(dyn ToSql + Sync), Type); 13] = [
        (&student, Type::TEXT_ARRAY),
        (&date, Type::DATE_ARRAY),
        (&session, Type::TEXT_ARRAY),
        (&status, Type::TEXT_ARRAY),
        (&code, Type::TEXT_ARRAY),
        (&code_name, Type::TEXT_ARRAY),
        (&raw_code, Type::TEXT_ARRAY),
        (&minutes_late, Type::INT8_ARRAY),
        (&decided_by, Type::TEXT_ARRAY),
        (&record_id, Type::TEXT_ARRAY),
        (&last_updated, Type::TIMESTAMPTZ_ARRAY),
        (&rule, Type::TEXT_ARRAY),
        (&decision, Type::JSONB_ARRAY),
    ];
    let sql = "
        INSERT INTO plain (school, run, student, date, session, status, code, code_name, raw_code, minutes_late,
            decided_by, record_id, last_updated, rule, decision)
        SELECT 'school', 1, * FROM unnest($1::text[], $2::date[], $3::text[], $4::text[], $5::text[], $6::text[],
            $7::text[], $8::bigint[], $9::text[], $10::text[], $11::timestamptz[], $12::text[], $13::jsonb[])";
    transaction.execute_typed(sql, &values).await.unwrap();
    transaction.commit().await.unwrap();
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}
