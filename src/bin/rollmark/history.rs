//! A student's marks with every change and its reason, from an SQLite store:
//! `cargo run --example history -- --store sqlite:marks.db --student 4733683260`.

mod common;

use chrono::{DateTime, NaiveDate, Utc};
use clap::Parser;
use common::StorePlace;
use common::output::{say, tell};
use common::program::{self, Failure};
use rollmark::explain::MeasuredAge;
use rollmark::model::{SchoolId, Session, StudentId, stamp_text};
use rollmark::rules::Window;
use rollmark::store::{MarkKey, as_of};

/// Shows what a student's marks were, became, and why.
#[derive(Parser)]
struct Flags {
    /// The store: sqlite:PATH
    #[arg(long)]
    store: StorePlace,
    /// The school's key in the store
    #[arg(long, value_name = "ID", default_value = "school")]
    school: String,
    /// The student; without one, the runs are listed
    #[arg(long, value_name = "ID")]
    student: Option<String>,
    /// The first date, included [default: the first of the last run]
    #[arg(long, value_name = "DATE")]
    from: Option<NaiveDate>,
    /// The last date, included [default: the last of the last run]
    #[arg(long, value_name = "DATE")]
    to: Option<NaiveDate>,
    /// What the portal showed at this moment, instead of every change
    #[arg(long, value_name = "RFC3339")]
    as_of: Option<DateTime<Utc>>,
}

#[tokio::main]
async fn main() {
    program::run(show(program::flags())).await
}

async fn show(flags: Flags) -> Result<u8, Failure> {
    let store = flags.store.open(true)?;
    let school = SchoolId::new(&flags.school);
    let runs = store.runs(&school).await?;
    if runs.is_empty() {
        tell(&format!("the store holds no run of school {school}; check --store and --school"));
    }
    let Some(student) = flags.student.as_deref().map(StudentId::new) else {
        for run in &runs {
            let (marks, window) = (run.marks, run.scope.window());
            say(&format!(
                "run {}, {}: {} to {}, {} added, {} changed, {} removed, {} withheld, {} kept",
                run.number,
                stamp_text(run.freshness.fetched_at),
                window.from(),
                window.to(),
                marks.added,
                marks.changed,
                marks.removed,
                marks.withheld,
                marks.kept
            ));
        }
        if let Some(last) = runs.last() {
            let setting = last.freshness.cache_expiry();
            let same = runs.iter().filter(|run| run.freshness.cache_expiry() == setting);
            say(&format!("measured: {}", MeasuredAge::over(same.map(|run| run.reply_age), setting)));
        }
        return Ok(0);
    };
    let Some(last) = runs.last().map(|run| run.scope.window()) else { return Ok(0) };
    let window = Window::between(flags.from.unwrap_or(last.from()), flags.to.unwrap_or(last.to()))?;
    let dates = window.from().iter_days().take_while(|date| *date <= window.to());
    for (date, session) in dates.flat_map(|date| Session::BOTH.map(|session| (date, session))) {
        let key = MarkKey { student: student.clone(), date, session };
        let history = store.history(&school, &key).await?;
        let place = format!("{} {}", key.date, key.session);
        if let Some(moment) = flags.as_of {
            if let Some(mark) = as_of(&history, moment) {
                say(&format!("{place}: {mark}"));
            }
            continue;
        }
        for change in history {
            let text = match &change.after {
                Some(mark) => format!("{mark}, because {}", mark.decision()),
                None if runs.iter().any(|run| run.number == change.run && run.closed.contains(&date)) => {
                    "removed, because the school was closed on that date".to_owned()
                }
                None => "removed, because the source no longer yielded it".to_owned(),
            };
            say(&format!("{place}, run {} at {}: {text}", change.run, stamp_text(change.seen_at)));
        }
    }
    Ok(0)
}
