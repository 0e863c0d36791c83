use clap::Args;
use rollmark::store::MemoryStore;
use rollmark::sync::AttendanceSync;

use crate::flags::{ReplyFlags, RuleFlags, SourceFlags, WindowFlags, source};
use crate::output::{say, say_json};
use crate::program::{Failure, wrong_flags};

/// Compares PM starts with the session flags of the registration periods, before a school goes live.
#[derive(Args)]
#[command(after_help = "\
Example:
  ISAMS_API_KEY=… rollmark audit --url https://school.isams.cloud")]
pub struct Flags {
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

pub async fn run(mut flags: Flags) -> Result<u8, Failure> {
    let source = source(&flags.source, &flags.replies, &mut flags.window)?;
    let rules = flags.rules.rules();
    let window = flags.window.window(rules.zone()).unwrap_or_else(|error| wrong_flags(error));
    let (source, _) = flags.replies.keeping(source, flags.window.now())?;
    let sync = AttendanceSync::new(source, MemoryStore::new(), "school", rules);
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
