//! The shape of a tenant's replies, without any value: `cargo run --release --example probe -- --url … --api-key …`.
//! Its text can be pasted into a support case. Without flags it probes a made-up school.

mod common;

use clap::Parser;
use common::output::{say, say_json};
use common::program::{self, Failure, wrong_flags};
use common::{SourceFlags, WindowFlags};
use rollmark::rules::SyncWindow;
use rollmark::testing::FakeSchool;
use rollmark::testing::simulator::Simulator;

/// Prints names, counts and kinds of value of a tenant's replies, never a value.
#[derive(Parser)]
#[command(name = "probe")]
struct Flags {
    #[command(flatten)]
    source: SourceFlags,
    #[command(flatten)]
    window: WindowFlags,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() {
    program::run(probe(program::flags())).await
}

async fn probe(flags: Flags) -> Result<u8, Failure> {
    let zone = rollmark::model::Zone::utc();
    // A week, so that a school day is among them.
    let few_days = SyncWindow::default().with_days(6);
    let window = flags.window.window_or(&zone, few_days).unwrap_or_else(|error| wrong_flags(error));
    let probe = match flags.source.tenant().unwrap_or_else(|error| wrong_flags(error)) {
        Some(tenant) => tenant.probe(window).await?,
        None => {
            let simulator = Simulator::start(FakeSchool::demo(flags.window.today(&zone))).await?;
            flags.source.simulated(&simulator)?.probe(window).await?
        }
    };
    if flags.json {
        say_json(&probe)?;
    } else {
        probe.to_string().lines().for_each(say);
    }
    Ok(0)
}
