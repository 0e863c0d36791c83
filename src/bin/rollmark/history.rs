use std::collections::BTreeMap;
use std::iter;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use clap::Args;
use clap::builder::RangedU64ValueParser;
use rollmark::codes::CodeTable;
use rollmark::explain::{MeasuredAge, Wording};
use rollmark::model::{Mark, StudentId, Zone, clock_text};
use rollmark::rules::{Scope, Window};
use rollmark::store::{Change, ChangeCursor, FeedEntry, HistoryQuery, MarkKey, Run, RunPurpose, RunQuery, as_of};
use serde::Serialize;

use crate::flags::{CodeFlags, KeptStore, parse_date, parse_instant};
use crate::output::{Failure, Meaning, change_counts, say, say_json, tell, wrong_flags};

/// Shows a school's runs, what a student's marks were, became, and why, or what has changed since last time.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollmark history --store sqlite:marks.db --student 4733683260 --as-of 2026-11-20T16:00:00Z
  rollmark history --store sqlite:marks.db --since 0 --json

--since prints the school's changes in the order in which they were written, and the cursor to go on from: pass it next time.
A student who was erased is one of these changes: forget what came before of that student.
--as-of goes by the time at which a run fetched; a plan that was applied later counts from its fetch on.")]
pub struct Flags {
    #[command(flatten)]
    store: KeptStore,
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
    /// Every change of the school after this cursor (0: from the beginning)
    #[arg(long, value_name = "CURSOR", conflicts_with_all = ["student", "from", "to", "as_of"])]
    since: Option<ChangeCursor>,
    /// How many changes at most, 1 or more [default: all]
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..), value_name = "N", requires = "since")]
    limit: Option<usize>,
    #[command(flatten)]
    codes: CodeFlags,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// What `--since --json` prints.
#[derive(Serialize)]
struct Feed {
    changes: Vec<Entry>,
    /// Where to go on.
    cursor: ChangeCursor,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Entry {
    Changed(Box<Explained<Change>>),
    Erased { cursor: ChangeCursor, student: StudentId, applied_at: DateTime<Utc> },
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
    let (store, school) = flags.store.open_to_read().await?;
    let runs = store.runs(&school, &RunQuery::all()).await?;
    if let Some(since) = flags.since {
        let entries = store.changes(&school, Some(since), flags.limit.unwrap_or(usize::MAX)).await?;
        let cursor = entries.last().map_or(since, FeedEntry::cursor);
        let changes = entries.into_iter().map(|entry| Entry::new(entry, &table)).collect::<Result<_, _>>()?;
        let feed = Feed { changes, cursor };
        return if flags.json { say_json(&feed).map(|()| 0) } else { Ok(tell_feed(&feed, &runs)) };
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
                None => Shown::Changes(changes.into_iter().map(|change| explained(change, &table)).collect()),
            };
            sessions.push(SessionHistory { key, shown });
        }
    }
    if sessions.is_empty() {
        tell(&format!("nothing is stored of student {student} on these dates; check the id, --from and --to"));
    }
    if let Some(begins) = flags.as_of.and_then(|moment| pruned_until(&runs).filter(|begins| moment < *begins)) {
        let zone = runs.last().map_or_else(Zone::utc, |run| run.rules.zone().clone());
        tell(&format!(
            "history from before {} was pruned, so marks of that time can be missing here",
            clock_text(begins, &zone)
        ));
    }
    if flags.json {
        say_json(&sessions)?;
    } else {
        sessions.iter().for_each(|session| tell_session(session, &runs));
    }
    Ok(0)
}

/// When the first run after the last pruned one fetched. Runs are numbered without gaps.
fn pruned_until(runs: &[Run]) -> Option<DateTime<Utc>> {
    let numbers_before = iter::once(0).chain(runs.iter().map(|run| run.number));
    let after_gap = numbers_before.zip(runs).filter(|(before, run)| before + 1 != run.number).last();
    after_gap.map(|(_, run)| run.freshness.fetched_at)
}

fn explained(change: Change, table: &CodeTable) -> Explained<Change> {
    let meaning = change.after.as_ref().and_then(|mark| Meaning::of(table, mark));
    Explained { meaning, of: change }
}

impl Entry {
    fn new(entry: FeedEntry, table: &CodeTable) -> Result<Self, Failure> {
        match entry {
            FeedEntry::Changed(change) => Ok(Self::Changed(Box::new(explained(change, table)))),
            FeedEntry::Erased { cursor, student, applied_at } => Ok(Self::Erased { cursor, student, applied_at }),
            _ => Err("the store holds a kind of change that this version does not know; install a newer one".into()),
        }
    }
}

fn list(runs: &[Run]) -> u8 {
    for run in runs {
        let (marks, window) = (run.marks, run.scope.window());
        say(&format!(
            "run {}, {}: {} to {}, {}, {} kept",
            run.number,
            clock_text(run.freshness.fetched_at, run.rules.zone()),
            window.from(),
            window.to(),
            change_counts(&marks),
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

fn tell_feed(feed: &Feed, runs: &[Run]) -> u8 {
    for entry in &feed.changes {
        match entry {
            Entry::Changed(change) => say(&format!("{} {}", change.of.key.student, told(change, runs))),
            Entry::Erased { student, .. } => say(&format!("{student} erased: forget what came before of this student")),
        }
    }
    say(&format!("{} changes; go on with --since {}", feed.changes.len(), feed.cursor));
    0
}

fn tell_session(session: &SessionHistory, runs: &[Run]) {
    match &session.shown {
        Shown::AsOf(Explained { of: MarkThen { mark: None }, .. }) => {}
        Shown::AsOf(Explained { of: MarkThen { mark: Some(mark) }, meaning }) => {
            say(&format!("{} {}: {mark}{}", session.key.date, session.key.session, counts_as(meaning)));
        }
        Shown::Changes(changes) => changes.iter().for_each(|change| say(&told(change, runs))),
    }
}

/// A change as a line for people.
fn told(Explained { of: change, meaning }: &Explained<Change>, runs: &[Run]) -> String {
    let (date, session) = (change.key.date, change.key.session);
    let run = runs.binary_search_by_key(&change.run, |run| run.number).ok().and_then(|place| runs.get(place));
    let zone = &run.or(runs.last()).map_or_else(Zone::utc, |run| run.rules.zone().clone());
    let text = match &change.after {
        Some(mark) => format!("{mark}, because {}{}", mark.decision().in_school_time(zone), counts_as(meaning)),
        None if run.is_some_and(|run| run.closed.contains(&date)) => {
            "removed, because the school was closed on that date".to_owned()
        }
        None => "removed, because the source no longer had it".to_owned(),
    };
    format!("{date} {session}, run {} at {}: {text}", change.run, clock_text(change.seen_at, zone))
}

fn counts_as(meaning: &Option<Meaning>) -> String {
    meaning.as_ref().map(|meaning| format!("; {meaning}")).unwrap_or_default()
}
