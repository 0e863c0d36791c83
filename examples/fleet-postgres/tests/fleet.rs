//! A fleet of 200 simulated schools on a real PostgreSQL server: three workers, of which one is killed.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chrono::{Days, NaiveDate, Utc};
use deadpool_postgres::{Manager, Pool};
use rollmark::fleet::SyncJob;
use rollmark::model::MarkContent;
use rollmark::rules::{Rules, Scope, SyncWindow};
use rollmark::store::{MarkKey, MarkStore, MemoryStore, PostgresStore};
use rollmark::sync::{AttendanceSync, SyncRequest};
use rollmark::testing::simulator::{Fault, Simulator};
use rollmark::testing::{FakeSchool, FakeSource};
use tokio_postgres::{Client, Config, NoTls};

const SCHOOLS: usize = 200;
const WORKERS: usize = 3;
const AT_ONCE: usize = 4;
/// The school whose key is refused each time.
const FAILS: &str = "school-7";
/// The school whose tenant shows a login page twice, and then answers.
const FAILS_TWICE: &str = "school-9";
const LONGEST: Duration = Duration::from_secs(180);

fn today() -> NaiveDate {
    Utc::now().date_naive()
}

/// No two schools have the same registers.
fn school(number: usize) -> FakeSchool {
    let mut school = FakeSchool::new();
    school.code("9", "I", "Illness", true);
    for (row, (student, ago)) in (0..4).flat_map(|student| (1..=3).map(move |ago| (student, ago))).enumerate() {
        let date = today() - Days::new(ago);
        for hour in ["08:40", "13:30"] {
            let id = format!("{row}-{hour}");
            let mut row_of_register =
                school.registration(&id, &format!("{number}-{student}"), &format!("{date}T{hour}:00"));
            row_of_register.updated(&format!("{date}T{hour}:30"));
            if (number + row).is_multiple_of(5) {
                row_of_register.absent("9")
            } else {
                row_of_register.present()
            };
        }
    }
    school
}

async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

struct Program {
    url: String,
    key: String,
}

impl Program {
    fn run(&self, arguments: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleet-postgres"));
        command.args(arguments).env("DATABASE_URL", &self.url).stdout(Stdio::null());
        command.env("FLEET_KEY", &self.key).env("FLEET_WRONG_KEY", "00000000-0000-4000-8000-000000000000");
        command.env("FLEET_AT_ONCE", AT_ONCE.to_string()).env("FLEET_DEAD_AFTER", "4");
        command.spawn().unwrap()
    }
}

/// Repeats a query until its answer is the expected one.
async fn until(client: &Client, sql: &str, mut is_wanted: impl FnMut(i64) -> bool) {
    let started = Instant::now();
    loop {
        let count: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
        if is_wanted(count) {
            return;
        }
        assert!(started.elapsed() < LONGEST, "{sql}: still {count}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn contents(store: &dyn MarkStore, id: &str) -> BTreeMap<MarkKey, MarkContent> {
    let scope = Scope::all(SyncWindow::default().ending(today()));
    let snapshot = store.read(&id.into(), &scope).await.unwrap();
    snapshot.marks().iter().map(|stored| (stored.key.clone(), (*stored.content).clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server; name one in ROLLMARK_TEST_POSTGRES, and pass --include-ignored"]
async fn every_school_ends_right_though_a_worker_is_killed() {
    let url = std::env::var("ROLLMARK_TEST_POSTGRES").expect("ROLLMARK_TEST_POSTGRES names no server");
    let (mut config, name): (Config, _) = (url.parse().unwrap(), format!("rollmark_fleet_{}", std::process::id()));
    let administration = connect(&config).await;
    administration.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    config.dbname(&name);
    let client = connect(&config).await;

    let mut tenants = Vec::new();
    for number in 0..SCHOOLS {
        tenants.push(Simulator::start(school(number)).await.unwrap());
    }
    let ids: Vec<String> = (0..SCHOOLS).map(|number| format!("school-{number}")).collect();
    for _ in 0..2 {
        tenants[ids.iter().position(|id| id == FAILS_TWICE).unwrap()].fail_next(Fault::LoginPage);
    }
    let job = |(id, tenant): (&String, &Simulator)| {
        let variable = if id == FAILS { "FLEET_WRONG_KEY" } else { "FLEET_KEY" };
        SyncJob::new(id.as_str(), tenant.url()).with_api_key_env(variable).with_sweep(id.ends_with('5'))
    };
    let jobs: Vec<SyncJob> = ids.iter().zip(&tenants).map(job).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("schools.json");
    std::fs::write(&file, serde_json::to_string(&jobs).unwrap()).unwrap();

    let (start, end) = url.rsplit_once('/').unwrap();
    let options = end.split_once('?').map(|(_, options)| format!("?{options}")).unwrap_or_default();
    let program = Program { url: format!("{start}/{name}{options}"), key: tenants[0].api_key() };
    assert!(program.run(&["add", file.to_str().unwrap()]).wait().unwrap().success());
    // Any language can add jobs by SQL. The key limits a school to one job.
    let again = "SELECT graphile_worker.add_job('sync_school', $1::json, job_key => $2)";
    let payload = serde_json::to_value(&jobs[3]).unwrap();
    client.execute(again, &[&payload, &"school-3"]).await.unwrap();
    until(&client, "SELECT count(*) FROM graphile_worker.jobs", |jobs| jobs == SCHOOLS as i64).await;
    // Without a key the queue runs these at the same time, and rollmark's lease separates them.
    for _ in 0..3 {
        let without = "SELECT graphile_worker.add_job('sync_school', $1::json)";
        client.execute(without, &[&serde_json::to_value(&jobs[1]).unwrap()]).await.unwrap();
    }

    let mut workers: Vec<Child> = (0..WORKERS).map(|_| program.run(&["work"])).collect();
    until(&client, "SELECT count(*) FROM pg_views WHERE schemaname = 'rollmark' AND viewname = 'runs'", |views| {
        views == 1
    })
    .await;
    let begun = "SELECT count(DISTINCT school) FROM rollmark.runs";
    until(&client, begun, |schools| schools >= SCHOOLS as i64 / 4).await;
    workers[0].kill().unwrap();
    until(&client, "SELECT count(*) FROM graphile_worker.jobs", |jobs| jobs == 1).await;

    // The job that fails stays, with its error.
    let left = client.query_one("SELECT key, last_error, attempts FROM graphile_worker.jobs", &[]).await.unwrap();
    assert_eq!(left.get::<_, &str>(0), FAILS);
    assert!(left.get::<_, &str>(1).contains("iSAMS refuses the API key"), "{}", left.get::<_, &str>(1));
    assert!(left.get::<_, i16>(2) >= 1);
    for worker in &mut workers {
        let _ = worker.kill();
        worker.wait().unwrap();
    }

    let store = PostgresStore::new(Pool::builder(Manager::new(config.clone(), NoTls)).build().unwrap());
    for (number, id) in ids.iter().enumerate() {
        let expected = MemoryStore::new();
        if id != FAILS {
            let rules = Rules::new("Europe/London".parse().unwrap());
            let source = FakeSource::new(school(number));
            let sync = AttendanceSync::new(source, expected.clone(), id.as_str(), rules);
            assert_eq!(sync.run(SyncRequest::overnight(today())).await.unwrap().marks.added, 24);
        }
        assert_eq!(contents(&store, id).await, contents(&expected, id).await, "{id}");
    }
    // The killed worker's jobs ran twice at most, and no other school ran again.
    let twice =
        "SELECT count(*) FROM (SELECT school FROM rollmark.runs WHERE purpose = 'window' AND school <> 'school-1'
                 GROUP BY school HAVING count(*) > 1) again";
    until(&client, twice, |schools| schools <= AT_ONCE as i64).await;
    until(&client, "SELECT count(*) FROM rollmark.runs WHERE school = 'school-1'", |runs| (4..=5).contains(&runs))
        .await;
    // Every change was written once.
    let changes = "SELECT count(*) FROM rollmark.history";
    until(&client, changes, |changes| changes == (SCHOOLS as i64 - 1) * 24).await;

    drop((client, store));
    administration.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
}
