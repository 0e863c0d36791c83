//! The shape of a tenant's replies, without any value: `cargo run --release --example probe -- --url … --api-key …`.
//! Its text can be pasted into a support case. Without flags it probes a made-up school.

mod common;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use common::output::{say, say_json};
use common::{SourceFlags, WindowFlags};
use rollmark::isams::simulator::Simulator;
use rollmark::rules::SyncWindow;
use rollmark::source::FakeSchool;

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
async fn main() -> ExitCode {
    match run(Flags::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(1)
        }
    }
}

fn wrong_flags(message: String) -> ! {
    Flags::command().error(ErrorKind::ValueValidation, message).exit()
}

async fn run(flags: Flags) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let zone = rollmark::model::Zone::utc();
    // A week, so that a school day is among them.
    let few_days = SyncWindow { days: 6, look_ahead: 0 };
    let window = flags.window.window_or(&zone, few_days).unwrap_or_else(|error| wrong_flags(error));
    let probe = match flags.source.tenant().unwrap_or_else(|error| wrong_flags(error)) {
        Some(tenant) => tenant.probe(window).await?,
        None => {
            let simulator = Simulator::start(FakeSchool::demo(flags.window.today(&zone))).await?;
            flags.source.simulated(&simulator)?.probe(window).await?
        }
    };
    if flags.json {
        return say_json(&probe);
    }
    say(&probe.to_string());
    Ok(())
}
