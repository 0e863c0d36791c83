use clap::Args;
use rollmark::rules::SyncWindow;

use crate::flags::{SourceFlags, Tenant, WindowFlags};
use crate::output::{Failure, say, say_json, wrong_flags};

/// Prints names, counts and kinds of value of a tenant's replies, never a value: for a support case.
#[derive(Args)]
#[command(after_help = "\
Example:
  ISAMS_API_KEY=… rollmark probe --url https://school.isams.cloud")]
pub struct Flags {
    #[command(flatten)]
    source: SourceFlags,
    #[command(flatten)]
    window: WindowFlags,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(flags: Flags) -> Result<u8, Failure> {
    let zone = rollmark::model::Zone::utc();
    // A week, so that a school day is among them.
    let few_days = SyncWindow::default().with_days(6);
    let window = flags.window.window_or(&zone, few_days).unwrap_or_else(|error| wrong_flags(error));
    let tenant = flags.source.tenant().unwrap_or_else(|error| wrong_flags(error));
    let probe = match tenant {
        Some(Tenant::Batch(batch)) => batch.probe(window).await?,
        Some(Tenant::Rest(_)) => wrong_flags("a probe reads the Batch interface; leave --format rest out".to_owned()),
        None => wrong_flags("there is no tenant; name it with --url".to_owned()),
    };
    if flags.json {
        say_json(&probe)?;
    } else {
        probe.to_string().lines().for_each(say);
    }
    Ok(0)
}
