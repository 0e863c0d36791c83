//! Syncs a made-up school over real HTTP, lets the school change, syncs again, and prints what changed and why.
//!
//! `cargo run --no-default-features --features simulator --example sync`

use std::error::Error;
use std::io::Write;

use chrono::{NaiveDate, TimeDelta, Utc};
use rollmark::isams::Batch;
use rollmark::rules::Rules;
use rollmark::store::MemoryStore;
use rollmark::sync::{AttendanceSync, PlannedChange, SyncRequest};
use rollmark::testing::FakeSchool;
use rollmark::testing::simulator::Simulator;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout();
    let rules = Rules::new("Europe/London".parse()?);
    let now = Utc::now();
    let today: NaiveDate = rules.zone().wall_time(now).date();

    let simulator = Simulator::start(FakeSchool::demo(today)).await?;
    writeln!(out, "A made-up school is served at {}.", simulator.url())?;
    let source = Batch::new(&simulator.url(), simulator.api_key())?;
    let sync = AttendanceSync::new(source, MemoryStore::new(), "school", rules);

    // As if it had run yesterday, so that what the school changes in between is newer.
    let report = sync.run(SyncRequest::overnight(today).with_now(now - TimeDelta::days(1))).await?;
    writeln!(out, "\nFirst sync\n{report}")?;

    simulator.change(|school| school.demo_changes(today));
    writeln!(out, "\nThe school corrects a register, resaves an out-of-school record, and takes a PM register.")?;

    let mut changes = Vec::new();
    let report = sync
        .run_with(SyncRequest::overnight(today).with_now(now), |planned| {
            changes = planned.plan.changes.iter().filter_map(|change| sentence(&change)).collect();
            Ok(())
        })
        .await?;
    writeln!(out, "\nSecond sync\n{}\n{report}", changes.join("\n"))?;
    Ok(())
}

/// What the mark was, what it becomes, and why.
fn sentence(change: &PlannedChange) -> Option<String> {
    let after = change.after.as_ref()?;
    let before = change.before.as_ref().map_or("no mark".to_owned(), |mark| mark.to_string());
    let (student, date, session) = after.key();
    Some(format!("{student} {date} {session}: {before} → {after}, because {}", after.decision()))
}
