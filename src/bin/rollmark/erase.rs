use clap::Args;
use rollmark::model::StudentId;
use serde::Serialize;

use crate::flags::{KeptStore, parse_id};
use crate::output::{Failure, confirm, say, say_json};

/// Deletes what a store holds of a student: marks, history, and every text that came with them.
#[derive(Args)]
#[command(after_help = "\
Take the student out of the management system first: the next sync adds again what is still read.

Example:
  rollmark erase --store sqlite:marks.db --student 4733683260 --yes")]
pub struct Flags {
    #[command(flatten)]
    store: KeptStore,
    /// The student
    #[arg(long, value_name = "ID", value_parser = parse_id)]
    student: String,
    /// Does not ask
    #[arg(long)]
    yes: bool,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Erased {
    sessions: u64,
}

pub async fn run(flags: Flags) -> Result<u8, Failure> {
    let (store, school) = flags.store.open_existing().await?;
    let student = StudentId::new(&flags.student);
    if !flags.yes {
        confirm(&format!(
            "This deletes all marks of student {student}, and their history, in the school with the key {school}."
        ))
        .await?;
    }
    let sessions = store.erase(&school, &student).await?;
    if flags.json {
        say_json(&Erased { sessions })?;
    } else if sessions == 0 {
        say(&format!("nothing was stored of student {student}; check the id and --school"));
    } else {
        say(&format!("student {student} is erased: {sessions} sessions held a mark or had a history"));
    }
    Ok(0)
}
