//! Syncs a school into a store: `cargo run --release --example sync`.
//!
//! Without flags it starts a made-up school on a loopback port, syncs it over real HTTP, lets the school change, syncs
//! again, and prints what changed and why. `--help` lists the flags for a real tenant.

mod common;

use std::error::Error;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use chrono::TimeDelta;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use common::output::{Output, plain, say};
use common::{LONGEST_WAIT, ReplyFlags, RuleFlags, SourceFlags, StorePlace, WindowFlags};
use indicatif::{ProgressBar, ProgressStyle};
use rollmark::isams::simulator::Simulator;
use rollmark::model::{Mark, SchoolId, StudentId};
use rollmark::rules::Window;
use rollmark::source::{AttendanceSource, FakeSchool};
use rollmark::store::MarkStore;
use rollmark::sync::{AttendanceSync, Guards, Planned, PlannedChange, SyncEvent, SyncReport, SyncRequest};

/// Syncs a school's AM and PM marks into a store.
#[derive(Parser)]
#[command(name = "sync")]
struct Flags {
    #[command(flatten)]
    source: SourceFlags,
    #[command(flatten)]
    replies: ReplyFlags,
    #[command(flatten)]
    rules: RuleFlags,
    #[command(flatten)]
    window: WindowFlags,
    /// Only this student; can be repeated [default: all]
    #[arg(long = "student", value_name = "ID")]
    students: Vec<String>,
    /// The school's key in the store
    #[arg(long, value_name = "ID", default_value = "school")]
    school: String,
    /// Where marks live: memory or sqlite:PATH, whose file is created but not its folder
    #[arg(long, default_value = "memory")]
    store: StorePlace,
    /// Writes the store's marks in scope after the run, one JSON object a line; - is standard output
    #[arg(long, value_name = "FILE")]
    marks: Option<PathBuf>,
    /// Writes the run's report as a JSON object
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Plans and prints, writes nothing
    #[arg(long)]
    dry_run: bool,
    /// Lifts the limits on removals and on vanished records, never the proof
    #[arg(long)]
    allow_removals: bool,
    /// Lifts the stop on mass change
    #[arg(long)]
    allow_mass_change: bool,
}

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(Flags::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(1)
        }
    }
}

async fn run(mut flags: Flags) -> Result<ExitCode, Failure> {
    let source = common::source(&flags.source, &flags.replies, &mut flags.window, wrong_flags)?;
    let window = flags.window.window(flags.rules.rules().zone()).unwrap_or_else(|error| wrong_flags(error));
    match source {
        Some(source) => sync_source(&flags, source, window).await,
        None => tell_story(&flags, window).await,
    }
}

fn wrong_flags(message: String) -> ! {
    Flags::command().error(ErrorKind::ValueValidation, message).exit()
}

async fn sync_source(flags: &Flags, source: Arc<dyn AttendanceSource>, window: Window) -> Result<ExitCode, Failure> {
    let (source, kept) = flags.replies.keeping(source, flags.window.now())?;
    let store = flags.store.open(flags.dry_run)?;
    let mut outputs = Outputs::default();
    let mut planned_changes = Vec::new();
    let report = flags
        .sync(source, store)
        .run_with(flags.request(window), |planned| {
            planned_changes = sentences(&planned.plan.changes);
            outputs = Outputs::prepare(flags, planned)?;
            Ok(())
        })
        .await?;
    outputs.finish(&report)?;
    kept.tell(flags.students.iter().map(StudentId::new));
    if flags.dry_run {
        planned_changes.iter().for_each(|line| flags.say(line));
    }
    flags.say(&report.to_string());
    Ok(if report.marks.withheld > 0 { ExitCode::from(3) } else { ExitCode::SUCCESS })
}

/// Two syncs of a made-up school that changes in between.
async fn tell_story(flags: &Flags, window: Window) -> Result<ExitCode, Failure> {
    let rules = flags.rules.rules();
    let zone = rules.zone();
    let (today, now) = (flags.window.today(zone), flags.window.now_of_story(zone));
    let simulator = Simulator::start(FakeSchool::demo(today)).await?;
    let store = flags.store.open(flags.dry_run)?;
    flags.say(&format!("A made-up school is served at {}.\n\nFirst sync", simulator.url()));
    let source = Arc::new(flags.source.simulated(&simulator)?);
    let (source, kept) = flags.replies.keeping(source, now)?;
    let sync = flags.sync(source, Arc::clone(&store));
    // A day before the second, so that what the school changes in between is younger.
    let report = sync.run(flags.request(window).at(now - TimeDelta::days(1))).await?;
    flags.say(&report.to_string());

    simulator.change(|school| school.demo_changes(today));
    flags.say(
        "\nThen the school corrects a register, resaves an out-of-school record, and takes a PM register.\n\nSecond sync",
    );
    let mut outputs = Outputs::default();
    let mut changes = Vec::new();
    let report = sync
        .run_with(flags.request(window).at(now), |planned| {
            changes = sentences(&planned.plan.changes);
            outputs = Outputs::prepare(flags, planned)?;
            Ok(())
        })
        .await?;
    outputs.finish(&report)?;
    kept.tell(flags.students.iter().map(StudentId::new));
    changes.iter().for_each(|line| flags.say(line));
    flags.say(&report.to_string());
    Ok(ExitCode::SUCCESS)
}

impl Flags {
    fn sync(&self, source: Arc<dyn AttendanceSource>, store: Arc<dyn MarkStore>) -> AttendanceSync {
        let school = SchoolId::new(&self.school);
        AttendanceSync::shared(source, store, school, self.rules.rules())
            .wait_for_other_run(LONGEST_WAIT)
            .on_event(progress())
    }

    fn request(&self, window: Window) -> SyncRequest {
        let mut guards = Guards::default();
        guards.allow_removals = self.allow_removals;
        guards.allow_mass_change = self.allow_mass_change;
        let request = SyncRequest::targeted(window).guards(guards).dry_run(self.dry_run).at(self.window.now());
        if self.students.is_empty() { request } else { request.students(self.students.iter().map(String::as_str)) }
    }

    /// Prints for people; standard output is theirs unless the marks go there.
    fn say(&self, text: &str) {
        match self.marks.as_deref() {
            Some(path) if path == Path::new("-") => eprintln!("{}", plain(text)),
            _ => say(text),
        }
    }
}

fn sentences(changes: &[PlannedChange]) -> Vec<String> {
    const MOST: usize = 50;
    let sentence = |change: &PlannedChange| {
        let text = |mark: &Option<Arc<Mark>>| mark.as_ref().map_or("no mark".to_owned(), |mark| mark.to_string());
        let mark = change.after.as_ref().or(change.before.as_ref())?;
        let why = match &change.after {
            Some(after) => after.decision().to_string(),
            None => "the source no longer yields it".to_owned(),
        };
        let (before, after) = (text(&change.before), text(&change.after));
        Some(format!("{} {} {}: {before} → {after}, because {why}", mark.student, mark.date, mark.session))
    };
    let mut lines: Vec<String> = changes.iter().take(MOST).filter_map(sentence).collect();
    if changes.len() > MOST {
        lines.push(format!("… and {} more", changes.len() - MOST));
    }
    lines
}

/// The output files, written before the commit and put in their places after it.
#[derive(Default)]
struct Outputs {
    marks: Option<Output>,
    report: Option<Output>,
}

impl Outputs {
    fn prepare(flags: &Flags, planned: &Planned) -> Result<Self, Failure> {
        let marks = flags.marks.as_deref().map(Output::create).transpose()?;
        let mut outputs = Self { marks, report: flags.report.as_deref().map(Output::create).transpose()? };
        if let Some(output) = &mut outputs.marks {
            output.write(|file| {
                for mark in planned.marks_after() {
                    writeln!(file, "{}", mark.to_json_line())?;
                }
                Ok(())
            })?;
        }
        // The report goes in once without its last figures, so that a full disk shows before the commit.
        outputs.write_report(&planned.report)?;
        Ok(outputs)
    }

    fn write_report(&mut self, report: &SyncReport) -> Result<(), Failure> {
        let Some(output) = &mut self.report else { return Ok(()) };
        let text = serde_json::to_string_pretty(report)?;
        output.write(|file| writeln!(file, "{text}"))
    }

    fn finish(mut self, report: &SyncReport) -> Result<(), Failure> {
        self.write_report(report)?;
        [self.marks, self.report].into_iter().flatten().try_for_each(Output::put)
    }
}

/// A spinner on a terminal, plain lines elsewhere; both on standard error.
fn progress() -> impl Fn(SyncEvent) + Send + Sync + 'static {
    let spinner = std::io::stderr().is_terminal().then(|| {
        let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
        ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
    });
    move |event| {
        let (message, is_last) = match event {
            SyncEvent::FetchStarted { attempt: 1 } => ("reading".to_owned(), false),
            SyncEvent::FetchStarted { attempt } => (format!("reading again, attempt {attempt}"), false),
            SyncEvent::Read { records } => (format!("reading: {records} records"), false),
            SyncEvent::Resolved { records } => (format!("read {records} records"), false),
            SyncEvent::Planned { changes, withheld } => (format!("{changes} changes, {withheld} withheld"), false),
            SyncEvent::Applied { run } => (format!("written as run {run}"), true),
            _ => return,
        };
        match (&spinner, event) {
            (Some(spinner), _) if is_last => spinner.finish_and_clear(),
            (Some(spinner), _) => {
                spinner.set_message(message);
                spinner.tick();
            }
            (None, SyncEvent::Read { .. }) => {}
            (None, _) => eprintln!("{message}"),
        }
    }
}
