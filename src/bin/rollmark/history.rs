use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use clap::Args;
use rollmark::explain::{MeasuredAge, Wording};
use rollmark::model::{Mark, SchoolId, StudentId, clock_text};
use rollmark::rules::{Scope, Window};
use rollmark::store::{Change, HistoryQuery, MarkKey, Run, RunPurpose, RunQuery, as_of};
use serde::Serialize;

use crate::flags::{CodeFlags, StorePassword, StorePlace, parse_date, parse_instant, parse_kept_store};
use crate::output::{Failure, Meaning, say, say_json, tell, wrong_flags};

/// Shows a school's runs, or what a student's marks were, became, and why.
#[derive(Args)]
#[command(after_help = "\
Example:
  rollmark history --store sqlite:marks.db --student 4733683260 --as-of 2026-11-20T16:00:00Z")]
pub struct Flags {
    /// The store: sqlite:PATH or postgres://USER@HOST:PORT/DATABASE
    #[arg(long, value_parser = parse_kept_store)]
    store: StorePlace,
    #[command(flatten)]
    password: StorePassword,
    /// The school's key in the store
    #[arg(long, value_name = "ID", default_value = "school")]
    school: String,
    /// The student; without one, the runs are listed
    #[arg(long, value_name = "ID")]
    student: Option<String>,
    /// The first date, included [default: the first of the last run]
    #[arg(long, value_parser = parse_date, value_name = "DATE", requires = "student")]
    from: Option<NaiveDate>,
    /// The last date, included [default: the last of the last run]
    #[arg(long, value_parser = parse_date, value_name = "DATE", requires = "student")]
    to: Option<NaiveDate>,
    /// What the portal showed at this moment, instead of every change
    #[arg(long, value_parser = parse_instant, value_name = "RFC3339", requires = "student")]
    as_of: Option<DateTime<Utc>>,
    #[command(flatten)]
    codes: CodeFlags,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints of a student's session.
#[derive(Serialize)]
struct SessionHistory {
    #[serde(flatten)]
    key: MarkKey,
    #[serde(flatten)]
    shown: Shown,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Shown {
    Changes(Vec<Explained<Change>>),
    #[serde(untagged)]
    AsOf(Explained<MarkThen>),
}

/// With what the mark counts as.
#[derive(Serialize)]
struct Explained<T> {
    #[serde(flatten)]
    of: T,
    meaning: Option<Meaning>,
}

#[derive(Serialize)]
struct MarkThen {
    mark: Option<Arc<Mark>>,
}

pub async fn run(flags: Flags) -> Result<u8, Failure> {
    let table = flags.codes.table();
    let store = flags.store.open(&flags.password, true)?;
    let school = SchoolId::new(&flags.school);
    let runs = store.runs(&school, &RunQuery::all()).await?;
    if runs.is_empty() {
        tell(&format!("the store holds no run of school {school}; check --store and --school"));
    }
    let Some(student) = flags.student.as_deref().map(StudentId::new) else {
        return if flags.json { say_json(&runs).map(|()| 0) } else { Ok(list(&runs)) };
    };
    let mut sessions = Vec::new();
    // A sweep looks at other dates than the portal shows.
    let last = runs.iter().rev().find(|run| run.purpose != RunPurpose::Sweep);
    if let Some(last) = last.map(|run| run.scope.window()) {
        let (from, to) = (flags.from.unwrap_or(last.from()), flags.to.unwrap_or(last.to()));
        let window = Window::between(from, to).unwrap_or_else(|error| wrong_flags(error.to_string()));
        let query = HistoryQuery::new(Scope::all(window).with_students([&student]));
        let mut places: BTreeMap<MarkKey, Vec<Change>> = BTreeMap::new();
        for change in store.history(&school, &query).await? {
            places.entry(change.key.clone()).or_default().push(change);
        }
        for (key, changes) in places {
            let shown = match flags.as_of {
                Some(moment) => {
                    let mark = as_of(&changes, moment).cloned();
                    let meaning = mark.as_ref().and_then(|mark| Meaning::of(&table, mark));
                    Shown::AsOf(Explained { of: MarkThen { mark }, meaning })
                }
                None => {
                    let meaning = |change: &Change| Meaning::of(&table, change.after.as_ref()?);
                    let explained = |change| Explained { meaning: meaning(&change), of: change };
                    Shown::Changes(changes.into_iter().map(explained).collect())
                }
            };
            sessions.push(SessionHistory { key, shown });
        }
    }
    if flags.json {
        say_json(&sessions)?;
    } else {
        sessions.iter().for_each(|session| tell_session(session, &runs));
    }
    Ok(0)
}

fn list(runs: &[Run]) -> u8 {
    for run in runs {
        let (marks, window) = (run.marks, run.scope.window());
        say(&format!(
            "run {}, {}: {} to {}, {} added, {} changed, {} removed, {} withheld, {} kept",
            run.number,
            clock_text(run.freshness.fetched_at, run.rules.zone()),
            window.from(),
            window.to(),
            marks.added,
            marks.changed,
            marks.removed,
            marks.withheld,
            marks.kept
        ));
    }
    let measuring = || runs.iter().filter(|run| run.purpose != RunPurpose::Sweep);
    if let Some(last) = measuring().next_back() {
        let setting = last.freshness.cache_expiry();
        let same = measuring().filter(|run| run.freshness.cache_expiry() == setting);
        let measured = MeasuredAge::over(same.map(|run| run.reply_age), setting);
        say(&format!("measured: {}", measured.sentence(&Wording::for_api_key())));
    }
    0
}

fn tell_session(session: &SessionHistory, runs: &[Run]) {
    let date = session.key.date;
    let place = format!("{date} {}", session.key.session);
    let changes = match &session.shown {
        Shown::AsOf(Explained { of: MarkThen { mark: None }, .. }) => return,
        Shown::AsOf(Explained { of: MarkThen { mark: Some(mark) }, meaning }) => {
            return say(&format!("{place}: {mark}{}", counts_as(meaning)));
        }
        Shown::Changes(changes) => changes,
    };
    for Explained { of: change, meaning } in changes {
        let run = runs.iter().find(|run| run.number == change.run).or(runs.last());
        let Some(zone) = run.map(|run| run.rules.zone()) else { continue };
        let run = run.filter(|run| run.number == change.run);
        let text = match &change.after {
            Some(mark) => {
                format!("{mark}, because {}{}", mark.decision().in_school_time(zone), counts_as(meaning))
            }
            None if run.is_some_and(|run| run.closed.contains(&date)) => {
                "removed, because the school was closed on that date".to_owned()
            }
            None => "removed, because the source no longer had it".to_owned(),
        };
        say(&format!("{place}, run {} at {}: {text}", change.run, clock_text(change.seen_at, zone)));
    }
}

fn counts_as(meaning: &Option<Meaning>) -> String {
    meaning.as_ref().map(|meaning| format!("; {meaning}")).unwrap_or_default()
}
