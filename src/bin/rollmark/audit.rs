//! Which PM start fits a school, and which marks it would change: before it goes live, and after each change of term.
//! `cargo run --release --example audit -- --url … --api-key …`; without flags it audits a made-up school.

mod common;

use std::sync::Arc;

use clap::Parser;
use common::output::{say, say_json};
use common::program::{self, Failure, wrong_flags};
use common::{ReplyFlags, RuleFlags, SourceFlags, WindowFlags};
use rollmark::store::MemoryStore;
use rollmark::sync::AttendanceSync;
use rollmark::testing::FakeSchool;
use rollmark::testing::simulator::Simulator;

/// Compares PM starts with the session flags of the registration periods.
#[derive(Parser)]
#[command(name = "audit")]
struct Flags {
    #[command(flatten)]
    source: SourceFlags,
    #[command(flatten)]
    replies: ReplyFlags,
    #[command(flatten)]
    rules: RuleFlags,
    #[command(flatten)]
    window: WindowFlags,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() {
    program::run(audit(program::flags())).await
}

async fn audit(mut flags: Flags) -> Result<u8, Failure> {
    let source = common::source(&flags.source, &flags.replies, &mut flags.window)?;
    let rules = flags.rules.rules();
    let window = flags.window.window(rules.zone()).unwrap_or_else(|error| wrong_flags(error));
    // It serves until it is dropped.
    let mut simulator = None;
    let source = match source {
        Some(source) => source,
        None => {
            let today = flags.window.today(rules.zone());
            let school = simulator.insert(Simulator::start(FakeSchool::demo(today)).await?);
            Arc::new(flags.source.simulated(school)?)
        }
    };
    let (source, _) = flags.replies.keeping(source, flags.window.now())?;
    let sync = AttendanceSync::shared(source, Arc::new(MemoryStore::new()), "school", rules);
    let audit = sync.audit_pm(window).await?;
    if flags.json {
        say_json(&audit)?;
        return Ok(0);
    }
    audit.to_string().lines().for_each(say);
    if !audit.would_change.is_empty() {
        say(&format!("marks that would change with the start that agrees best: {}", audit.would_change.len()));
        audit.would_change.iter().take(20).for_each(|change| say(&format!("  {change}")));
    }
    Ok(0)
}
