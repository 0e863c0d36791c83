use std::path::PathBuf;

use clap::Args;
use futures::FutureExt;
use rollmark::store::MarkCounts;
use rollmark::sync::SavedPlan;
use serde::Serialize;

use crate::flags::{KeptStore, LONGEST_WAIT};
use crate::output::{Failure, change_counts, say, say_json};
use crate::program::Stop;

/// Writes a plan that `sync --dry-run --save-plan` has saved, unless the store has moved since.
#[derive(Args)]
#[command(after_help = "\
Example:
  rollmark sync --url https://school.isams.cloud --store sqlite:marks.db --dry-run --save-plan plan.json
  rollmark apply plan.json --store sqlite:marks.db

Exit codes: 0 done, 1 error, 2 wrong flags, 3 done, but the plan withholds something.")]
#[command(mut_arg("place", |store| {
    store.help("The store for which the plan was made: sqlite:PATH or postgres://USER@HOST:PORT/DATABASE")
}))]
pub struct Flags {
    /// The plan
    #[arg(value_name = "FILE")]
    plan: PathBuf,
    #[command(flatten)]
    store: KeptStore,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Applied {
    run: u64,
    marks: MarkCounts,
}

pub async fn run(flags: Flags, stop: &Stop) -> Result<u8, Failure> {
    let place = flags.plan.display();
    let text = std::fs::read(&flags.plan).map_err(|error| format!("can't read the plan {place}: {error}"))?;
    let saved: SavedPlan = serde_json::from_slice(&text)
        .map_err(|_| format!("{place} holds no plan; sync --dry-run --save-plan writes one"))?;
    let MarkCounts { changed, unchanged, removed, withheld, kept, .. } = saved.plan.counts;
    // Only a plan that found nothing can be for a store that is still to be made.
    let (store, school) = match changed + unchanged + removed + withheld + kept {
        0 => flags.store.open()?,
        _ => flags.store.open_existing().await?,
    };
    let run = saved.apply(store, &school, LONGEST_WAIT, stop.clone().map(|_| ())).await?;
    let marks = saved.plan.counts;
    if flags.json {
        say_json(&Applied { run, marks })?;
    } else {
        say(&format!("written as run {run}: {}, {} kept", change_counts(&marks), marks.kept));
    }
    Ok(if marks.withheld > 0 { 3 } else { 0 })
}
