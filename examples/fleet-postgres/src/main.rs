//! Every school's sync as a job of a queue in PostgreSQL, for fleets that outgrow one machine. README.md says how to run it.
//!
//! The queue decides when and where a school is synced. It need not prevent two syncs of a school at once: rollmark's own
//! lease does that.

use std::env;
use std::time::Duration;

use chrono::Utc;
use deadpool_postgres::{Manager, Pool};
use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, JobSpecBuilder, TaskHandler, WorkerContext, WorkerOptions, WorkerRecoveryConfig,
};
use rollmark::fleet::SyncJob;
use rollmark::store::PostgresStore;
use serde::{Deserialize, Serialize};
use tokio_postgres::NoTls;

/// An error that ends the program, or a job.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How long a job waits for another run of its school. A killed worker's lease runs out sooner.
const WAIT_FOR_OTHER_RUN: Duration = Duration::from_secs(60);

/// One school's sync, as the queue carries it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
struct SyncSchool(SyncJob);

impl TaskHandler for SyncSchool {
    const IDENTIFIER: &'static str = "sync_school";

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        // The error that is returned here stays with the job, and the queue tries again, with growing waits.
        sync(self.0, &context).await.map_err(|failure| failure.to_string())
    }
}

async fn sync(job: SyncJob, context: &WorkerContext) -> Result<(), Failure> {
    let store = context.get_ext::<PostgresStore>().ok_or("the worker has no store")?.clone();
    let request = job.request(Utc::now())?;
    // Reads the secret, from the place that the job names.
    let sync = job.sync(store)?.with_wait_for_other_run(WAIT_FOR_OTHER_RUN);
    let report = sync.run(request).await?;
    let marks = report.marks;
    println!(
        "{}: {} added, {} changed, {} removed, {} withheld",
        job.id, marks.added, marks.changed, marks.removed, marks.withheld
    );
    Ok(())
}

/// Runs jobs until it is stopped.
async fn work(pool: Pool) -> Result<(), Failure> {
    let store = PostgresStore::new(pool.clone());
    store.migrate().await?;
    let at_once = setting("FLEET_AT_ONCE", 4)?;
    // A worker that gives no sign of life for this long counts as dead, and its jobs go to others.
    let dead_after = Duration::from_secs(setting("FLEET_DEAD_AFTER", 120)?);
    let recovery = WorkerRecoveryConfig::default()
        .heartbeat_interval(dead_after / 4)
        .sweep_interval(dead_after / 4)
        .sweep_threshold(dead_after)
        .recovery_delay(Duration::ZERO);
    let worker = WorkerOptions::default()
        .database(pool)
        .concurrency(at_once)
        .worker_recovery(recovery)
        .add_extension(store)
        .define_job::<SyncSchool>()
        .init()
        .await?;
    Ok(worker.run().await?)
}

/// Adds a job for each school of a file, a JSON array. A school never has more than one waiting job: its key is the school.
async fn add(pool: Pool, file: &str) -> Result<(), Failure> {
    let jobs: Vec<SyncJob> = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    let worker = WorkerOptions::default().database(pool).define_job::<SyncSchool>().init().await?;
    let spec = |job: &SyncJob| JobSpecBuilder::new().job_key(job.id.as_str()).max_attempts(5).build();
    let specs: Vec<JobSpec> = jobs.iter().map(spec).collect();
    let jobs: Vec<_> = jobs.into_iter().map(SyncSchool).zip(&specs).collect();
    let added = worker.create_utils().add_jobs(&jobs).await?;
    println!("{} jobs", added.len());
    Ok(())
}

/// A number that the environment sets.
fn setting<T: std::str::FromStr>(name: &str, default: T) -> Result<T, Failure> {
    match env::var(name) {
        Ok(text) => text.parse().map_err(|_| format!("{name} is no number").into()),
        Err(_) => Ok(default),
    }
}

fn pool() -> Result<Pool, Failure> {
    let address = env::var("DATABASE_URL").map_err(|_| "name the database in DATABASE_URL")?;
    let config = address.parse().map_err(|_| "DATABASE_URL is no address of a PostgreSQL database")?;
    Ok(Pool::builder(Manager::new(config, NoTls)).max_size(16).build()?)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["work"] => work(pool()?).await,
        ["add", file] => add(pool()?, file).await,
        _ => Err("say work, or add FILE".into()),
    }
}
