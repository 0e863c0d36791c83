use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use clap::Args;
use futures::FutureExt;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use rollmark::model::SchoolId;
use rollmark::support::{Check, Verdict};
use rollmark::sync::{SyncEvent, SyncReport};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::flags::{parse_duration, parse_instant};
use crate::output::{Failure, Output, change_counts, check_targets, json, plain, say, tell, wrong_flags};
use crate::program::{Stop, with_reason};
use crate::schools::{School, read_schools};
use crate::{check, sync};

/// Syncs, or checks, every school of a file on this machine.
#[derive(Args)]
#[command(after_help = "\
Example of a file:
  [defaults]
  store = \"sqlite:marks.db\"
  cache_expiry = \"6h\"

  [[school]]
  id = \"greenfield\"
  url = \"https://greenfield.isams.cloud\"
  api_key_env = \"GREENFIELD_KEY\"
  pm_start = \"13:30\"

The keys are the long flags of rollmark sync, with underscores. Secrets are named, not written: api_key_env, api_key_file,
client_secret_env, client_secret_file. Older dates are swept, unless sweep = false.

Example:
  rollmark fleet schools.toml --concurrency 8 --report report.json

Exit codes: 0 done, 1 a school failed, 2 wrong flags or file, 3 something was withheld (with --check: something to look at).")]
pub struct Flags {
    /// The file with the schools
    #[arg(value_name = "SCHOOLS.toml")]
    file: PathBuf,
    /// How many schools run at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: u16,
    /// How many schools of one host run at once
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    per_host: u16,
    /// Spreads the starts evenly over this time: 4h, 90m
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "0s", hide_default_value = true)]
    spread: Duration,
    /// Only this school; can be repeated [default: all]
    #[arg(long, value_name = "ID")]
    only: Vec<String>,
    /// Checks the schools' settings instead, as rollmark check does
    #[arg(long)]
    check: bool,
    /// Plans and prints, writes nothing
    #[arg(long)]
    dry_run: bool,
    /// The moment at which the runs are taken to happen [default: the clock]
    #[arg(long, value_parser = parse_instant, value_name = "RFC3339")]
    now: Option<DateTime<Utc>>,
    /// Writes what became of each school as a JSON object
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// What became of a school.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Done,
    Withheld,
    Failed,
}

impl Outcome {
    fn exit_code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Withheld => 3,
            Self::Failed => 1,
        }
    }
}

/// One school's part of the report.
#[derive(Serialize)]
struct SchoolReport {
    id: String,
    outcome: Outcome,
    exit_code: u8,
    #[serde(flatten)]
    result: Ended,
    duration_ms: u64,
    /// What it comes to, for people.
    #[serde(skip)]
    line: String,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Ended {
    Report(Report),
    Error(String),
}

#[derive(Serialize)]
#[serde(untagged)]
enum Report {
    Sync(Box<SyncReport>),
    Checks { checks: Vec<Check> },
}

#[derive(Serialize)]
struct FleetReport {
    schools: Vec<SchoolReport>,
    done: usize,
    withheld: usize,
    failed: usize,
}

pub async fn run(flags: Flags, stop: &Stop) -> Result<u8, Failure> {
    let schools = match read_schools(&flags.file, flags.now, flags.dry_run) {
        Ok(schools) => check_files(&flags, &schools)
            .and_then(|()| only(schools, &flags.only))
            .unwrap_or_else(|error| wrong_flags(error)),
        Err(error) => wrong_flags(error),
    };
    let mut output = match &flags.report {
        Some(path) => Some(Output::open(path).await?),
        None => None,
    };
    let (all, mut files) = (schools.len(), BTreeMap::new());
    let limits = Limits::new(&flags, &schools);
    let progress = Arc::new(Progress::new(all as u64));
    let mut running = JoinSet::new();
    for (place, mut school) in schools.into_iter().enumerate() {
        school.flags.share_file(&mut files);
        let (limits, progress, stop) = (limits.clone(), Arc::clone(&progress), stop.clone());
        let wait = flags.spread.mul_f64(place as f64 / all as f64);
        let is_check = flags.check;
        running.spawn(async move {
            let id = school.id.clone();
            // A wait for a turn ends at once when the program is to stop.
            let turn = async {
                tokio::time::sleep(wait).await;
                limits.turn(&school.host).await
            };
            let (started, result) = tokio::select! {
                biased;
                _ = stop.clone() => (Instant::now(), Err("stopped by a signal before it began".into())),
                turn = turn => {
                    let started = Instant::now();
                    let result = isolated(work(school, is_check, &stop, &progress)).await;
                    drop(turn);
                    (started, result)
                }
            };
            let report = SchoolReport::new(id, result, started.elapsed());
            progress.ended(&report.line);
            (place, report)
        });
    }
    let mut reports: BTreeMap<usize, SchoolReport> = BTreeMap::new();
    while let Some(ended) = running.join_next().await {
        let (place, report) = ended.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()));
        reports.insert(place, report);
    }
    progress.clear();
    let schools: Vec<SchoolReport> = reports.into_values().collect();
    let count = |outcome| schools.iter().filter(|school| school.outcome == outcome).count();
    let (done, withheld, failed) = (count(Outcome::Done), count(Outcome::Withheld), count(Outcome::Failed));
    let report = FleetReport { done, withheld, failed, schools };
    report.schools.iter().for_each(|school| say(&school.line));
    let (held_back, nouns) = if flags.check { ("to look at", "checked") } else { ("with changes withheld", "done") };
    let schools = if all == 1 { "school" } else { "schools" };
    say(&format!("{all} {schools}: {done} {nouns}, {withheld} {held_back}, {failed} failed"));
    if let Some(output) = &mut output {
        let text = json(&serde_json::to_string_pretty(&report)?);
        output.write(|file| writeln!(file, "{text}"))?;
    }
    if let Some(output) = output {
        output.put().await?;
    }
    Ok(match (failed, withheld) {
        (0, 0) => 0,
        (0, _) => 3,
        _ => 1,
    })
}

/// No output of a school or of the fleet may replace another one, or what any of the schools needs.
fn check_files(flags: &Flags, schools: &[School]) -> Result<(), String> {
    let mut targets: Vec<&Path> = flags.report.iter().map(PathBuf::as_path).collect();
    targets.extend(schools.iter().flat_map(|school| school.flags.targets()));
    let mut needed = vec![(flags.file.clone(), "the file with the schools")];
    needed.extend(schools.iter().flat_map(|school| school.flags.needed_files()));
    check_targets(&targets, &needed, None)
}

/// The schools that were asked for, in the file's order.
fn only(mut schools: Vec<School>, ids: &[String]) -> Result<Vec<School>, String> {
    if ids.is_empty() {
        return Ok(schools);
    }
    if let Some(unknown) = ids.iter().find(|id| schools.iter().all(|school| school.id != **id)) {
        return Err(format!("--only {unknown}: the file has no school with this id"));
    }
    schools.retain(|school| ids.contains(&school.id));
    Ok(schools)
}

/// A fault of this program in one school's run is that school's failure.
async fn isolated<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let ended = AssertUnwindSafe(work).catch_unwind().await;
    ended.unwrap_or_else(|_| Err("this is a bug in rollmark (its panic message is above); please report it".into()))
}

async fn work(school: School, is_check: bool, stop: &Stop, progress: &Progress) -> Result<Report, Failure> {
    let listener = progress.of(&school.id);
    if is_check {
        let checks = crate::program::unless_stopped(stop, check::checks(school.flags.into_check())).await?;
        return Ok(Report::Checks { checks });
    }
    let mut flags = school.flags;
    Ok(Report::Sync(Box::new(sync::execute(&mut flags, stop, listener).await?.report)))
}

impl SchoolReport {
    fn new(id: String, result: Result<Report, Failure>, took: Duration) -> Self {
        let outcome = match &result {
            Err(_) => Outcome::Failed,
            Ok(Report::Sync(report)) if sync::is_held_back(report) => Outcome::Withheld,
            Ok(Report::Checks { checks }) if checks.iter().any(|check| check.verdict != Verdict::Ok) => {
                Outcome::Withheld
            }
            Ok(_) => Outcome::Done,
        };
        let line = match &result {
            Err(error) => format!("{id}: failed: {}", with_reason(error)),
            Ok(Report::Checks { checks }) => {
                let open: Vec<String> = checks
                    .iter()
                    .filter(|check| check.verdict != Verdict::Ok)
                    .map(|check| format!("{}: {} {}", check.name, check.summary, check.advice))
                    .collect();
                if open.is_empty() { format!("{id}: all ok") } else { format!("{id}: {}", open.join(" ")) }
            }
            Ok(Report::Sync(report)) => {
                let mut told = vec![format!("{id}: {}", change_counts(&report.marks))];
                told.extend(report.withheld_lines());
                let outside = report.outside_window.as_ref();
                let is_quiet = outside.is_none_or(|outside| {
                    outside.oldest_change_days.is_none() && outside.withheld == 0 && outside.error.is_none()
                });
                if !is_quiet {
                    told.extend(report.outside_window_line());
                }
                told.join("; ")
            }
        };
        let result = match result {
            Ok(report) => Ended::Report(report),
            Err(error) => Ended::Error(with_reason(&error)),
        };
        let duration_ms = took.as_millis().try_into().unwrap_or(u64::MAX);
        Self { id, outcome, exit_code: outcome.exit_code(), result, duration_ms, line }
    }
}

/// How many schools may run at once, of one host and of all.
#[derive(Clone)]
struct Limits {
    all: Arc<Semaphore>,
    hosts: Arc<BTreeMap<String, Semaphore>>,
}

impl Limits {
    fn new(flags: &Flags, schools: &[School]) -> Self {
        let hosts: BTreeSet<&String> = schools.iter().map(|school| &school.host).collect();
        let limited = |host: &String| (host.clone(), Semaphore::new(flags.per_host.into()));
        Self {
            all: Arc::new(Semaphore::new(flags.concurrency.into())),
            hosts: Arc::new(hosts.into_iter().map(limited).collect()),
        }
    }

    /// Held while a school runs. A school that waits for its host takes no other school's turn.
    async fn turn(&self, host: &str) -> Turn<'_> {
        let of_host = match self.hosts.get(host) {
            Some(host) => host.acquire().await.ok(),
            None => None,
        };
        Turn { _of_host: of_host, _of_all: self.all.acquire().await.ok() }
    }
}

struct Turn<'a> {
    _of_host: Option<tokio::sync::SemaphorePermit<'a>>,
    _of_all: Option<tokio::sync::SemaphorePermit<'a>>,
}

/// A line for each school that runs and a total, on a terminal; elsewhere a line when a school has ended.
struct Progress(Option<(MultiProgress, ProgressBar)>);

impl Progress {
    fn new(all: u64) -> Self {
        Self(std::io::stderr().is_terminal().then(|| {
            let lines = MultiProgress::new();
            let style = ProgressStyle::with_template("{pos} of {len} schools ({elapsed})");
            let total = ProgressBar::new(all).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            let total = lines.add(total);
            (lines, total)
        }))
    }

    /// What hears how far a school is.
    fn of(&self, id: &str) -> sync::Listener {
        let line = self.0.as_ref().map(|(lines, total)| {
            let style = ProgressStyle::with_template("{spinner} {msg}");
            let line =
                ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            lines.insert_before(total, line)
        });
        let id = plain(id);
        Box::new(move |_: &SchoolId, event: SyncEvent| {
            if let (Some(line), Some(message)) = (&line, sync::message(event)) {
                line.set_message(format!("{id}: {message}"));
                line.tick();
            }
        })
    }

    fn ended(&self, line: &str) {
        match &self.0 {
            Some((_, total)) => total.inc(1),
            None => tell(line),
        }
    }

    fn clear(&self) {
        if let Some((lines, total)) = &self.0 {
            total.finish_and_clear();
            let _ = lines.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_one_school_s_failure() {
        let fault = isolated::<()>(async { panic!("a fault") }).await;
        assert!(fault.unwrap_err().to_string().contains("a bug in rollmark"));
        assert!(isolated(async { Ok(()) }).await.is_ok());
    }
}
