use chrono::NaiveDate;
use clap::Args;

use crate::flags::{KeptStore, parse_date};
use crate::output::{Failure, confirm, say, say_json};

/// Deletes history from before a date; what the store shows stays.
#[derive(Args)]
#[command(after_help = "\
Example:
  rollmark prune --store sqlite:marks.db --before 2025-09-01 --yes

A program that follows the changes (history --since) and has not read up to that date yet misses what is deleted.")]
pub struct Flags {
    #[command(flatten)]
    store: KeptStore,
    /// The first date whose history stays whole
    #[arg(long, value_parser = parse_date, value_name = "DATE")]
    before: NaiveDate,
    /// Does not ask
    #[arg(long)]
    yes: bool,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(flags: Flags) -> Result<u8, Failure> {
    let (store, school) = flags.store.open_existing().await?;
    let before = flags.before;
    if !flags.yes {
        let what =
            format!("This deletes history from before {before} in the school with the key {school}. Its marks stay.");
        confirm(&what).await?;
    }
    let pruned = store.prune(&school, before).await?;
    if flags.json {
        say_json(&pruned)?;
    } else {
        say(&format!("{} changes and {} runs from before {before} are deleted", pruned.changes, pruned.runs));
    }
    Ok(0)
}
