use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use chrono::NaiveDate;
use clap::Args;
use futures::FutureExt;
use indicatif::{ProgressBar, ProgressStyle};
use rollmark::model::{SchoolId, StudentId, Zone};
use rollmark::rules::Window;
use rollmark::sync::{
    AttendanceSync, Guards, Planned, PlannedChange, PlannedChanges, SavedPlan, Sweep, SyncEvent, SyncReport,
    SyncRequest,
};

use crate::check;
use crate::flags::{LONGEST_WAIT, ReadFlags, StoreFlags, StorePlace, parse_date, parse_id};
use crate::output::{Failure, Needed, Output, check_targets, is_standard_output, json, say, tell, wrong_flags};
use crate::program::{Stop, unless_stopped};

/// Syncs a school's AM and PM marks into a store.
#[derive(Args)]
#[command(after_help = "\
Example:
  ISAMS_API_KEY=… rollmark sync --url https://school.isams.cloud --store sqlite:marks.db

Exit codes: 0 done, 1 error, 2 wrong flags, 3 done, but something was withheld.")]
#[command(mut_arg("place", |store| {
    store.help(
        "Where marks live: memory, sqlite:PATH (the file is created, its folder is not) or \
         postgres://USER@HOST:PORT/DATABASE (tables are made in its schema rollmark)",
    )
}))]
pub struct Flags {
    #[command(flatten)]
    read: ReadFlags,
    /// Only this student; can be repeated [default: all]
    #[arg(long = "student", value_name = "ID", value_parser = parse_id)]
    students: Vec<String>,
    #[command(flatten)]
    store: StoreFlags,
    /// Writes the store's marks in scope after the run, one JSON object a line; - is standard output
    #[arg(long, value_name = "FILE")]
    marks: Option<PathBuf>,
    /// Writes the run's report as a JSON object
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Writes the plan of a dry run as JSON, for rollmark apply
    #[arg(long, value_name = "FILE", requires = "dry_run")]
    save_plan: Option<PathBuf>,
    /// The school was closed on this date: its marks are removed; can be repeated
    #[arg(long, value_name = "DATE", value_parser = parse_date)]
    closed: Vec<NaiveDate>,
    /// Students of whom nothing is read any more have left: their marks are kept, however many they are
    #[arg(long)]
    leavers: bool,
    /// Also reads a slice of the dates before the window, in rotation, for corrections that came late
    #[arg(long, conflicts_with_all = ["from", "students"])]
    sweep: bool,
    /// The first date that is swept [default: the latest 1 September]
    #[arg(long, value_name = "DATE", value_parser = parse_date, requires = "sweep")]
    sweep_from: Option<NaiveDate>,
    /// In how many nights every older date is read [default: 14]
    #[arg(long, value_name = "M", value_parser = parse_nights, requires = "sweep")]
    sweep_nights: Option<NonZeroU32>,
    /// Plans and prints, writes nothing
    #[arg(long)]
    dry_run: bool,
    /// Lifts the limits on removals, vanished records and vanished students, never the proof
    #[arg(long)]
    allow_removals: bool,
    /// Lifts the stop on mass change and on vanished codes
    #[arg(long)]
    allow_mass_change: bool,
}

/// What hears how far a run is.
pub type Listener = Box<dyn Fn(&SchoolId, SyncEvent) + Send + Sync>;

/// What a run did.
pub struct Executed {
    pub report: SyncReport,
    /// What it planned, in sentences.
    planned_changes: Vec<String>,
}

pub async fn run(mut flags: Flags, stop: &Stop) -> Result<u8, Failure> {
    let Executed { report, planned_changes } = execute(&mut flags, stop, progress()).await?;
    if flags.dry_run {
        planned_changes.iter().for_each(|line| flags.say(line));
    }
    report.lines().iter().for_each(|line| flags.say(line));
    Ok(if is_held_back(&report) { 3 } else { 0 })
}

/// Runs a sync and writes its outputs. A wrong flag ends the program, unless [`Flags::validate`] has looked before.
pub async fn execute(flags: &mut Flags, stop: &Stop, listener: Listener) -> Result<Executed, Failure> {
    let source = flags.read.source()?;
    let rules = flags.read.rules();
    let zone = rules.zone().clone();
    let window = flags.read.window();
    flags.check_targets().unwrap_or_else(|error| wrong_flags(error));
    let mut outputs = unless_stopped(stop, Outputs::open(flags)).await?;
    let (source, kept) = flags.read.keeping(source)?;
    let (store, school) = flags.store.open(flags.dry_run)?;
    let sync = AttendanceSync::new(source, store, school, rules)
        .with_wait_for_other_run(LONGEST_WAIT)
        .with_stop(stop.clone().map(|_| ()))
        .with_listener(listener);
    let mut planned_changes = Vec::new();
    let report = sync
        .run_with(flags.request(window), |planned| {
            planned_changes = sentences(&planned.plan.changes, &flags.closed, &zone);
            outputs.prepare(planned, || sync.save_plan(planned))
        })
        .await?;
    outputs.finish(&report, stop).await?;
    kept.tell(flags.students.iter().map(StudentId::new));
    Ok(Executed { report, planned_changes })
}

/// Whether something was not written, of the window or of a sweep.
pub fn is_held_back(report: &SyncReport) -> bool {
    let outside = report.outside_window.as_ref();
    report.marks.withheld > 0 || outside.is_some_and(|outside| outside.withheld > 0 || outside.error.is_some())
}

impl Flags {
    /// What would end the program with a wrong flag.
    pub fn validate(&self) -> Result<(), String> {
        self.read.validate()?;
        self.store.validate()?;
        self.check_targets()
    }

    /// Opens a store's file once for all schools that keep their marks in it.
    pub fn share_file(&mut self, known: &mut BTreeMap<PathBuf, StorePlace>) {
        self.store.place.share_file(known);
    }

    /// Only what a check needs of them.
    pub fn into_check(self) -> check::Flags {
        check::Flags::of(self.read, self.store)
    }

    fn check_targets(&self) -> Result<(), String> {
        check_targets(&self.targets(), &self.needed_files(), self.read.replies.folder())
    }

    /// What no output may replace.
    pub fn needed_files(&self) -> Vec<Needed> {
        self.read.needed_files().chain(self.store.needed_files()).collect()
    }

    fn request(&self, window: Window) -> SyncRequest {
        let guards = Guards::default()
            .with_allow_removals(self.allow_removals)
            .with_leavers(self.leavers)
            .with_allow_mass_change(self.allow_mass_change);
        let request = match self.read.sync_window() {
            Some((around, today)) if self.students.is_empty() => SyncRequest::of_window(around, today),
            _ => SyncRequest::targeted(window),
        };
        let request = request
            .with_guards(guards)
            .with_closed_dates(self.closed.iter().copied())
            .with_dry_run(self.dry_run)
            .with_now(self.read.now());
        let mut sweep = Sweep::default();
        if let Some(from) = self.sweep_from {
            sweep = sweep.with_from(from);
        }
        if let Some(nights) = self.sweep_nights {
            sweep = sweep.with_nights(nights);
        }
        let request = if self.sweep { request.with_sweep(sweep) } else { request };
        if self.students.is_empty() { request } else { request.with_students(self.students.iter().map(String::as_str)) }
    }

    /// Where the outputs go.
    pub fn targets(&self) -> Vec<&Path> {
        [&self.marks, &self.report, &self.save_plan].into_iter().flatten().map(PathBuf::as_path).collect()
    }

    /// Prints a line for people; standard output is theirs unless an output goes there.
    fn say(&self, line: &str) {
        if self.targets().into_iter().any(is_standard_output) { tell(line) } else { say(line) }
    }
}

fn parse_nights(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| "not a number of nights; 14 is one".to_owned())
}

fn sentences(changes: &PlannedChanges, closed: &[NaiveDate], zone: &Zone) -> Vec<String> {
    const MOST: usize = 50;
    let sentence = |change: PlannedChange| {
        let text = |mark: Option<String>| mark.unwrap_or("no mark".to_owned());
        let key = &change.key;
        let why = match &change.after {
            Some(after) => after.decision().in_school_time(zone),
            None if closed.contains(&key.date) => "the school was closed on that date".to_owned(),
            None => "the source no longer has it".to_owned(),
        };
        let before = text(change.before.as_ref().map(ToString::to_string));
        let after = text(change.after.as_ref().map(ToString::to_string));
        let place = format!("{} {} {}", key.student, key.date, key.session);
        match before == after {
            true => format!("{place}: {after} as before, but another record decides now: {why}"),
            false => format!("{place}: {before} → {after}, because {why}"),
        }
    };
    let mut lines: Vec<String> = changes.iter().take(MOST).map(sentence).collect();
    if changes.len() > MOST {
        lines.push(format!("… and {} more", changes.len() - MOST));
    }
    lines
}

/// The output files, filled before the commit and put in their places after it.
struct Outputs {
    marks: Option<Output>,
    report: Option<Output>,
    plan: Option<Output>,
}

impl Outputs {
    async fn open(flags: &Flags) -> Result<Self, Failure> {
        let mut outputs = Self { marks: None, report: None, plan: None };
        for (output, path) in [
            (&mut outputs.marks, &flags.marks),
            (&mut outputs.report, &flags.report),
            (&mut outputs.plan, &flags.save_plan),
        ] {
            if let Some(path) = path {
                *output = Some(Output::open(path).await?);
            }
        }
        Ok(outputs)
    }

    fn prepare(&mut self, planned: &Planned, saved: impl FnOnce() -> SavedPlan) -> Result<(), Failure> {
        if let Some(output) = &mut self.marks {
            output.write(|file| {
                planned.marks_after().iter().try_for_each(|mark| writeln!(file, "{}", json(&mark.to_json_line())))
            })?;
        }
        if let Some(output) = &mut self.plan {
            let text = json(&serde_json::to_string(&saved())?);
            output.write(|file| writeln!(file, "{text}"))?;
        }
        // The report still lacks its last figures; the spaces hold room for them, so that a full disk shows now.
        self.write_report(&planned.report, &" ".repeat(1024))
    }

    fn write_report(&mut self, report: &SyncReport, room: &str) -> Result<(), Failure> {
        let Some(output) = &mut self.report else { return Ok(()) };
        let text = json(&serde_json::to_string_pretty(report)?);
        output.write(|file| writeln!(file, "{text}{room}"))
    }

    /// After the commit. A stream whose reader is slow can be left by a signal.
    async fn finish(mut self, report: &SyncReport, stop: &Stop) -> Result<(), Failure> {
        self.write_report(report, "")?;
        let outputs = [self.marks, self.report, self.plan].into_iter().flatten();
        let (files, streams): (Vec<_>, Vec<_>) = outputs.partition(Output::is_file);
        let put = async {
            let mut first_error = Ok(());
            for output in files.into_iter().chain(streams) {
                first_error = first_error.and(output.put().await);
            }
            first_error
        };
        unless_stopped(stop, put).await.map_err(|error| match report.run {
            Some(run) => format!("{error}; the store was written, as run {run}").into(),
            None => error,
        })
    }
}

/// A spinner on a terminal, plain lines elsewhere; both on standard error.
fn progress() -> Listener {
    let spinner = std::io::stderr().is_terminal().then(|| {
        let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
        ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
    });
    Box::new(move |_, event| {
        let Some(message) = message(event) else { return };
        match (&spinner, event) {
            (Some(spinner), SyncEvent::Applied { .. }) => spinner.finish_and_clear(),
            (Some(spinner), _) => {
                spinner.set_message(message);
                spinner.tick();
            }
            (None, SyncEvent::Read { .. }) => {}
            (None, _) => tell(&message),
        }
    })
}

/// How far a run is, for people.
pub fn message(event: SyncEvent) -> Option<String> {
    Some(match event {
        SyncEvent::FetchStarted { attempt: 1, .. } => "reading".to_owned(),
        SyncEvent::FetchStarted { attempt, .. } => format!("reading again, attempt {attempt}"),
        SyncEvent::Read { records, .. } => format!("reading: {records} records"),
        SyncEvent::Resolved { .. } => "everything is read".to_owned(),
        SyncEvent::FetchFailed { failure, .. } => format!("reading broke off: {failure}"),
        SyncEvent::SweepStarted { from, to, .. } => format!("reading older dates: {from} to {to}"),
        SyncEvent::Planned { changes, withheld, .. } => format!("{changes} changes, {withheld} withheld"),
        SyncEvent::Applied { run, .. } => format!("written as run {run}"),
        _ => return None,
    })
}
