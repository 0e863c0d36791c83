use clap::Args;
use rollmark::support::Support;

use crate::flags::ReadFlags;
use crate::output::{Failure, say, say_json};

/// Compares PM starts with the session flags of the registration periods, before a school goes live.
#[derive(Args)]
#[command(after_help = "\
Example:
  ISAMS_API_KEY=… rollmark audit --url https://school.isams.cloud")]
pub struct Flags {
    #[command(flatten)]
    read: ReadFlags,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(mut flags: Flags) -> Result<u8, Failure> {
    let source = flags.read.source()?;
    let rules = flags.read.rules();
    let window = flags.read.window();
    let (source, _) = flags.read.keeping(source)?;
    let audit = Support::new(&source, &rules).audit_pm(window).await?;
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
