use std::cmp::Reverse;
use std::collections::BTreeMap;

use chrono::{Datelike, Weekday};
use clap::Args;
use rollmark::codes::Jurisdiction;
use rollmark::isams::{Batch, MethodShape};
use rollmark::rules::{PmRule, Window};
use rollmark::source::{AttendanceSource, FetchedKind};
use rollmark::support::{Check, CheckEvidence, CheckName, Support, Verdict};
use serde::Serialize;

use crate::flags::{ReadFlags, StoreFlags, code_table, parse_jurisdiction, parse_mapping};
use crate::output::{Failure, GREEN, RED, YELLOW, say_in_colour, say_json};

/// Checks a school's set-up in one go: what the known causes of wrong marks look like there.
#[derive(Args)]
#[command(after_help = "\
Example:
  ISAMS_API_KEY=… rollmark check --url https://school.isams.cloud --store sqlite:marks.db

Exit codes: 0 all ok, 1 error, 2 wrong flags, 3 something to look at or wrong.")]
pub struct Flags {
    #[command(flatten)]
    read: ReadFlags,
    #[command(flatten)]
    store: StoreFlags,
    /// Also compares the school's letters with these codes
    #[arg(long, value_parser = parse_jurisdiction, value_name = "england|school")]
    codes: Option<Jurisdiction>,
    /// Which statutory code one of the school's own letters stands for, such as HOL=G; can be repeated
    #[arg(long = "map", value_parser = parse_mapping, value_name = "LETTER=CODE", requires = "codes")]
    mapping: Vec<(String, String)>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Checks {
    checks: Vec<Check>,
}

impl Flags {
    /// A check with the settings of a sync.
    pub fn of(read: ReadFlags, store: StoreFlags) -> Self {
        Self { read, store, codes: None, mapping: Vec::new(), json: false }
    }
}

pub async fn run(flags: Flags) -> Result<u8, Failure> {
    let is_json = flags.json;
    let checks = checks(flags).await?;
    let is_ok = checks.iter().all(|check| check.verdict == Verdict::Ok);
    if is_json {
        say_json(&Checks { checks })?;
    } else {
        checks.iter().for_each(show);
    }
    Ok(if is_ok { 0 } else { 3 })
}

fn show(check: &Check) {
    let colour = match check.verdict {
        Verdict::Ok => GREEN,
        Verdict::Look => YELLOW,
        _ => RED,
    };
    let (line, verdict) = (check.to_string(), check.verdict.name());
    say_in_colour(colour, verdict, line.strip_prefix(verdict).unwrap_or(&line));
}

/// The checks of one school.
pub async fn checks(mut flags: Flags) -> Result<Vec<Check>, Failure> {
    let source = flags.read.source()?;
    let (rules, window) = (flags.read.rules(), flags.read.window());
    let (source, _) = flags.read.keeping(source)?;
    let (store, school) = flags.store.open(true)?;
    let support = Support::new(&source, &rules).with_store(&*store, &school).with_now(flags.read.now());
    let table = flags.codes.map(|codes| code_table(codes, &flags.mapping));
    let support = table.as_ref().map_or(support, |table| support.with_codes(table));
    let mut checks = support.check(window).await?;
    if let Some(batch) = flags.read.batch() {
        add_probe(&mut checks, &batch, window, rules.pm() == PmRule::RegistrationPeriods).await;
    }
    Ok(checks)
}

/// What a probe of one school day tells of the tenant's access and fields. One that fails adds nothing: the window was read.
async fn add_probe(checks: &mut [Check], batch: &Batch, window: Window, needs_periods: bool) {
    let mut day = window.today().unwrap_or(window.to()).min(window.to());
    while matches!(day.weekday(), Weekday::Sat | Weekday::Sun) && day > window.from() {
        day = day.pred_opt().unwrap_or(day);
    }
    let Ok(probe) = batch.probe(Window::day(day)).await else { return };
    let has_codes = batch.capabilities().has_code_table;
    let is_needed = |method: &&MethodShape| match method.reads {
        Some(FetchedKind::Periods) => needs_periods,
        Some(FetchedKind::Codes) => has_codes,
        reads => reads.is_some(),
    };
    let needed = probe.methods.iter().filter(is_needed);
    let refused =
        needed.clone().filter(|method| method.failure.is_some()).map(|method| method.method.clone()).collect();
    let access = Check::access(refused, probe.clock_difference_seconds);
    let (mut unmatched, mut read_by) = (Vec::new(), BTreeMap::new());
    for container in needed.flat_map(|method| &method.containers) {
        unmatched.extend(container.unmatched.iter().cloned());
        for (name, field) in &container.fields {
            read_by.extend(field.read_by.iter().map(|option| (option.clone(), name.clone())));
        }
    }
    for check in checks.iter_mut() {
        if check.name == CheckName::Access {
            *check = access.clone();
        } else if let CheckEvidence::Fields { undecided, .. } = &check.evidence {
            *check = Check::fields(undecided.clone(), std::mem::take(&mut unmatched), std::mem::take(&mut read_by));
        }
    }
    checks.sort_by_key(|check| (Reverse(check.verdict), check.name));
}
