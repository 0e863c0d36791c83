use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::{Datelike, NaiveDate, NaiveTime, TimeDelta};
use serde::Serialize;

use super::{Both, Support};
use crate::codes::{CodeTable, MarkClass};
use crate::explain::words::{counted, listed};
use crate::explain::{MeasuredAge, PmAudit, PmAuditor, Wording};
use crate::model::{
    FeedTime, Issue, LoserReason, RawCode, Record, RecordKind, Status, StudentId, Zone, names, time_text,
};
use crate::rules::{Candidate, Freshness, PmRule, Register, Resolver, Rules, Scope, Window};
use crate::source::{Capabilities, Completeness};
use crate::store::{Run, RunPurpose, RunQuery};
use crate::sync::{SyncError, narrow_to_today};

/// Names the parts of a school's settings that are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum CheckName {
    /// Whether the source answers, and whether its clock is right.
    Access,
    /// How old replies can be, and how old they really were ([R9](crate::guide::rules#r9)).
    Cache,
    /// The PM rule in use, compared with the session flags of the registration periods ([R3](crate::guide::rules#r3)).
    Pm,
    /// Sessions in which an out-of-school record lost to a registration ([R6](crate::guide::rules#r6)).
    Precedence,
    /// How many days after their date the school still corrects registers, compared with the window
    /// ([R8](crate::guide::rules#r8)).
    Window,
    /// Codes that the code table does not have ([R2](crate::guide::rules#r2)).
    Codes,
    /// Fields under unknown names that may hold update times or codes.
    Fields,
    /// Days that look incomplete, and registers that were not taken ([R11](crate::guide::rules#r11)).
    Completeness,
    /// Students with similar ids, and students who vanished from the source.
    Students,
}

names!(CheckName, "a check", {
    Access => "access",
    Cache => "cache",
    Pm => "pm",
    Precedence => "precedence",
    Window => "window",
    Codes => "codes",
    Fields => "fields",
    Completeness => "completeness",
    Students => "students",
});

/// The result of a check. Results sort from the best to the worst. Exhaustive: there are only these three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(clippy::exhaustive_enums, reason = "right, doubtful and wrong are all there is")]
pub enum Verdict {
    /// Nothing to do.
    Ok,
    /// Somebody should look at it; it may be right.
    Look,
    /// Marks are wrong, or will be.
    Wrong,
}

names!(Verdict, "a verdict", { Ok => "ok", Look => "look", Wrong => "wrong", });

/// What the result of a check is based on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum CheckEvidence {
    /// Evidence of [`CheckName::Access`].
    #[non_exhaustive]
    Access {
        /// What the source did not answer.
        refused: Vec<String>,
        /// By how many seconds the source's clock is ahead of this machine's, if it is known.
        clock_difference_seconds: Option<i64>,
    },
    /// Evidence of [`CheckName::Cache`].
    #[non_exhaustive]
    Cache {
        /// The cache expiry that is set.
        setting_seconds: i64,
        /// At least one reply was this old or older, over the store's runs of the last two weeks.
        at_least_seconds: Option<i64>,
        /// The number of those runs.
        runs: u64,
    },
    /// Evidence of [`CheckName::Pm`].
    #[non_exhaustive]
    Pm {
        /// The PM start in use; `None` under the period rule.
        pm_start: Option<NaiveTime>,
        /// The start that agrees best with the flags; `None` if no period has a flag.
        best: Option<NaiveTime>,
        /// Marks that the rule in use decides differently from the flags, by weekday.
        differing: BTreeMap<String, u64>,
        /// Dates on which a weekday's registers changed.
        changes: Vec<NaiveDate>,
    },
    /// Evidence of [`CheckName::Precedence`]: sessions in which an out-of-school record lost to a registration that differs.
    #[non_exhaustive]
    Precedence {
        /// They lost to a newer registration.
        older: u64,
        /// They lost because the out-of-school record has no time of update.
        no_timestamp: u64,
        /// They lost by the rule for ties.
        tie: u64,
        /// Records of any kind without a time of update.
        missing_stamps: u64,
    },
    /// Evidence of [`CheckName::Window`].
    #[non_exhaustive]
    Window {
        /// The days before today that the window holds.
        days: i64,
        /// The latest update of any record of the fetch, in days after its date.
        latest_correction_days: i64,
        /// Records whose update came in the last week before their date would have left the window, or later.
        late_corrections: u64,
        /// Marks from before the window that sweeps of the last 14 days changed or removed, according to the store.
        swept_changes: u64,
    },
    /// Evidence of [`CheckName::Codes`].
    #[non_exhaustive]
    Codes {
        /// Marks with a code that the table does not know, by the code as it was read.
        unknown: BTreeMap<String, u64>,
        /// Whether a code table was read.
        has_code_table: bool,
        /// Marks whose letter the statutory table does not have, by letter. Empty if there is none to compare with.
        unmapped: BTreeMap<String, u64>,
        /// Marks whose letter counts the opposite way by the statutory table, by letter. Empty if there is none to compare with.
        contradicting: BTreeMap<String, u64>,
    },
    /// Evidence of [`CheckName::Fields`].
    #[non_exhaustive]
    Fields {
        /// Fields that are in no list of names and may hold a time of update or a code.
        undecided: Vec<String>,
        /// Settings for required fields for which no listed name was found.
        unmatched: Vec<String>,
        /// Which field each setting reads, if the source says.
        read_by: BTreeMap<String, String>,
    },
    /// Evidence of [`CheckName::Completeness`].
    #[non_exhaustive]
    Completeness {
        /// School days with less than half of the students that the weekday usually has.
        thin_dates: Vec<NaiveDate>,
        /// Marks on past dates whose register was not taken.
        not_taken: u64,
        /// The dates of these marks, the oldest first.
        not_taken_dates: Vec<NaiveDate>,
    },
    /// Evidence of [`CheckName::Students`].
    #[non_exhaustive]
    Students {
        /// Pairs of ids that differ only in the case of letters.
        similar: u64,
        /// Students with a mark in the store but no record in the fetch; at most ten of them.
        vanished: Vec<StudentId>,
        /// How many there are.
        vanished_students: u64,
    },
}

/// One check: what was found, and what to do.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Check {
    /// What was checked.
    pub name: CheckName,
    /// The result.
    pub verdict: Verdict,
    /// The finding, as sentences.
    pub summary: String,
    /// What to do, as sentences; empty if there is nothing to do.
    pub advice: String,
    /// What the result is based on.
    pub evidence: CheckEvidence,
}

impl Check {
    fn new(name: CheckName, evidence: CheckEvidence, summary: String) -> Self {
        Self { name, verdict: Verdict::Ok, summary, advice: String::new(), evidence }
    }

    fn advise(mut self, verdict: Verdict, advice: impl Into<String>) -> Self {
        self.verdict = verdict;
        self.advice = advice.into();
        self
    }

    /// The check of a source's access: what it did not answer, and how many seconds its clock is ahead of this machine's.
    pub fn access(refused: Vec<String>, clock_difference_seconds: Option<i64>) -> Self {
        /// More seconds than networks and schedules explain.
        const FAR: i64 = 120;
        let clock = match clock_difference_seconds {
            None => String::new(),
            Some(seconds) if seconds.abs() <= FAR => " Its clock agrees with this machine's.".to_owned(),
            Some(seconds) => {
                let side = if seconds > 0 { "ahead of" } else { "behind" };
                format!(" Its clock is {} {side} this machine's.", counted(seconds.unsigned_abs(), "second"))
            }
        };
        let is_far = clock_difference_seconds.is_some_and(|seconds| seconds.abs() > FAR);
        let answered = match refused.is_empty() {
            true => "The source answers everything that it was asked.".to_owned(),
            false => format!("The source does not answer {}.", refused.join(", ")),
        };
        let is_refused = !refused.is_empty();
        let check = Self::new(
            CheckName::Access,
            CheckEvidence::Access { refused, clock_difference_seconds },
            answered + &clock,
        );
        match (is_refused, is_far) {
            (true, _) => check.advise(Verdict::Wrong, "Let the key or client read what it does not answer."),
            (false, true) => check
                .advise(Verdict::Look, "Correct the clock that is wrong: these clocks decide which record is newer."),
            (false, false) => check,
        }
    }

    /// The check of a source's fields: those that may decide under unknown names, required settings whose field was not found,
    /// and which field each setting reads.
    pub fn fields(undecided: Vec<String>, unmatched: Vec<String>, read_by: BTreeMap<String, String>) -> Self {
        let mut said = Vec::new();
        if !unmatched.is_empty() {
            said.push(format!("No field was found for {}.", unmatched.join(", ")));
        }
        if !undecided.is_empty() {
            let names = undecided.join(", ");
            said.push(format!("These fields may hold a time of update or a code, and are not read: {names}."));
        }
        if said.is_empty() {
            said.push("Every field that decides is read.".to_owned());
        }
        let (is_unmatched, is_undecided) = (!unmatched.is_empty(), !undecided.is_empty());
        let check =
            Self::new(CheckName::Fields, CheckEvidence::Fields { undecided, unmatched, read_by }, said.join(" "));
        match (is_unmatched, is_undecided) {
            (true, _) => check.advise(Verdict::Wrong, "Say under which names these fields stand."),
            (false, true) => {
                check.advise(Verdict::Look, "Name the fields that hold them, or say that they are nothing of the kind.")
            }
            (false, false) => check,
        }
    }
}

/// `ok cache: …`
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<5} {}: {}", self.verdict.name(), self.name, self.summary)?;
        if self.advice.is_empty() { Ok(()) } else { write!(f, " {}", self.advice) }
    }
}

impl Support<'_> {
    /// Checks a school's settings for the known causes of wrong marks. The worst results come first, equal ones in the
    /// order of [`CheckName`]. It reads these dates once (only today, if the source can read nothing else), and the store if
    /// there is one.
    ///
    /// [`CheckName::Access`] only says that the source answered; a source's own probe can add more ([`Check::access`],
    /// [`Check::fields`]). All records are held in memory until every check is done.
    ///
    /// # Errors
    /// See [`SyncError`].
    pub async fn check(&self, window: Window) -> Result<Vec<Check>, SyncError> {
        let now = self.now();
        let capabilities = self.source.capabilities();
        let window = if capabilities.today_only { narrow_to_today(window)? } else { window };
        let freshness = Freshness::new(now, capabilities.cache_expiry);
        let start = || {
            let resolver = Resolver::new(self.rules.clone(), Scope::all(window));
            let corrections = Corrections::new(self.rules.zone(), window);
            Both(Both(resolver, corrections), PmAuditor::new(self.rules.clone(), window))
        };
        let (Both(Both(resolver, corrections), auditor), completeness) = self.read_with_periods(window, start).await?;
        let (register, audit) = (resolver.finish()?, auditor.finish()?);
        let (mut runs, mut swept_changes, mut held) = (Vec::new(), 0, None);
        if let Some((store, school)) = self.store {
            let since = now.checked_sub_signed(TimeDelta::days(14)).unwrap_or(now);
            runs = store.runs(school, &RunQuery::measuring().with_since(since)).await?;
            // The marks that a sweep adds are those that it reads for the first time.
            let sweeps = RunQuery::all().with_purposes([RunPurpose::Sweep]).with_since(since);
            let sweeps = store.runs(school, &sweeps).await?;
            swept_changes = sweeps.iter().map(|run| run.marks.changed + run.marks.removed).sum();
            let snapshot = store.read(school, &Scope::all(window)).await?;
            held = Some(snapshot.marks().iter().map(|stored| stored.key.student.clone()).collect());
        }
        let wording = self.source.wording();
        let mut checks = vec![
            Check::access(Vec::new(), None),
            cache(freshness, &runs, &wording),
            pm(self.rules, &audit, &capabilities),
            precedence(&register, corrections.missing_stamps, capabilities.has_stamps),
            corrections.check(capabilities.today_only, swept_changes),
            codes(&register, capabilities.has_code_table, &wording, self.codes),
            Check::fields(completeness.undecided_fields().to_vec(), Vec::new(), BTreeMap::new()),
            completeness_of(&register, &completeness, window),
            students(&register, held),
        ];
        checks.sort_by_key(|check| (std::cmp::Reverse(check.verdict), check.name));
        Ok(checks)
    }
}

fn cache(freshness: Freshness, runs: &[Run], wording: &Wording) -> Check {
    let setting = freshness.cache_expiry();
    let same = runs.iter().filter(|run| run.freshness.cache_expiry() == setting);
    let measured = MeasuredAge::over(same.map(|run| run.reply_age), setting);
    let evidence = CheckEvidence::Cache {
        setting_seconds: setting.num_seconds(),
        at_least_seconds: measured.at_least.map(|age| age.num_seconds()),
        runs: measured.runs,
    };
    let hours = setting.num_minutes() as f64 / 60.0;
    let mut summary = match setting.is_zero() {
        true => "Replies are not kept.".to_owned(),
        false => format!("Replies can be {hours} hours old."),
    };
    if measured.runs > 0 {
        summary += &format!(" Measured: {}.", measured.sentence(wording));
    }
    let check = Check::new(CheckName::Cache, evidence, summary);
    match measured.is_worse_than_setting() || freshness.is_advised_against() {
        true => check.advise(Verdict::Wrong, wording.cache_advice.clone()),
        false => check,
    }
}

fn pm(rules: &Rules, audit: &PmAudit, capabilities: &Capabilities) -> Check {
    let pm_start = match rules.pm() {
        PmRule::FirstFrom(start) => Some(start),
        PmRule::RegistrationPeriods => None,
    };
    let in_use = audit.starts.iter().find(|start| Some(start.pm_start) == pm_start);
    let in_use = in_use.filter(|_| audit.best.is_some());
    let marks = in_use.map_or(0, |start| start.differing);
    let mut weekdays = Vec::new();
    let mut differing: BTreeMap<String, u64> = BTreeMap::new();
    // The cells are sorted by weekday.
    for cell in in_use.into_iter().flat_map(|start| &start.cells) {
        let weekday = cell.weekday.to_string();
        if weekdays.last() != Some(&weekday) {
            weekdays.push(weekday.clone());
        }
        *differing.entry(weekday).or_default() += cell.differing;
    }
    let weekdays = weekdays.join(", ");
    let evidence = CheckEvidence::Pm {
        pm_start,
        best: audit.best,
        differing,
        changes: audit.changes.iter().map(|change| change.date).collect(),
    };
    let check = |summary: String| Check::new(CheckName::Pm, evidence, summary);
    if capabilities.gives_session_marks {
        return check("The source says itself which session a mark is for.".to_owned());
    }
    match (pm_start, audit.best) {
        (None, Some(_)) => {
            check("The session flags of the registration periods decide, and they are there.".to_owned())
        }
        (None, None) => {
            check("The session flags of the registration periods decide, but no period has one.".to_owned())
                .advise(Verdict::Wrong, "Distinguish AM and PM by time (pm_start), or set the flags.")
        }
        (Some(start), None) => {
            let reason = if capabilities.has_period_flags {
                "no registration period has a session flag"
            } else {
                "the source has none"
            };
            check(format!("PM begins at {}; {reason} to compare it with.", time_text(start)))
                .advise(Verdict::Look, "Compare it with the time of the school's PM registration.")
        }
        (Some(start), Some(_)) if marks == 0 => {
            check(format!("PM begins at {}, which agrees with the session flags everywhere.", time_text(start)))
        }
        (Some(start), Some(best)) => {
            let summary = format!(
                "With PM from {}, {} differ from the session flags of the registration periods ({weekdays}).",
                time_text(start),
                counted(marks, "mark")
            );
            let best_marks = audit.starts.iter().find(|one| one.pm_start == best).map_or(0, |one| one.differing);
            let advice = if best_marks < marks {
                let rest = match best_marks {
                    0 => "which agrees everywhere".to_owned(),
                    rest => format!("with which {} still differ", counted(rest, "mark")),
                };
                format!(
                    "Set the PM start to {}, {rest}, or let the session flags decide (--pm-rule periods).",
                    time_text(best)
                )
            } else {
                "No start agrees better: let the session flags decide (--pm-rule periods).".to_owned()
            };
            check(summary).advise(Verdict::Wrong, advice)
        }
    }
}

fn precedence(register: &Register, missing_stamps: u64, has_stamps: bool) -> Check {
    let (mut older, mut no_timestamp, mut tie) = (0, 0, 0);
    for mark in register.marks().filter(|mark| mark.decision.winner.kind == RecordKind::Registration) {
        if mark.decision.losers.is_empty() {
            continue;
        }
        // A record that says the same as the registration is not missed.
        let says_otherwise = |candidate: &Candidate<'_>| {
            let outcome = register.outcome(candidate);
            (outcome.status, outcome.letter) != (mark.status, mark.code.clone())
        };
        let rows = register.rows(&mark.student, mark.date, mark.session);
        let contenders = register.contenders(&mark.student, mark.date, mark.session, &rows);
        let lost = contenders.iter().find(|(candidate, why)| {
            matches!(candidate, Candidate::OutOfSchool(_))
                && *why != Some(LoserReason::NotCovering)
                && says_otherwise(candidate)
        });
        match lost.and_then(|(_, why)| *why) {
            Some(LoserReason::Older) => older += 1,
            Some(LoserReason::NoTimestamp) => no_timestamp += 1,
            Some(LoserReason::Tie) => tie += 1,
            _ => {}
        }
    }
    let evidence = CheckEvidence::Precedence { older, no_timestamp, tie, missing_stamps };
    if !has_stamps {
        let summary = "The source has no times of update: it decides itself which record counts.";
        return Check::new(CheckName::Precedence, evidence, summary.to_owned());
    }
    if older + no_timestamp + tie == 0 {
        let summary = "No out-of-school record lost to a registration that says something else.";
        return Check::new(CheckName::Precedence, evidence, summary.to_owned());
    }
    let parts =
        [(older, "to a newer registration"), (no_timestamp, "because it has no time of update"), (tie, "in a tie")];
    let parts: Vec<String> =
        parts.into_iter().filter(|(count, _)| *count > 0).map(|(count, how)| format!("{count} {how}")).collect();
    let total = counted(older + no_timestamp + tie, "session");
    Check::new(
        CheckName::Precedence,
        evidence,
        format!("In {total} an out-of-school record lost to a registration that says something else: {}.", parts.join(", ")),
    )
    .advise(
        Verdict::Look,
        "Diagnose a few of these marks. Where the student was away, save the out-of-school record again: the one that was \
         saved last is shown.",
    )
}

/// How long after its date each record was updated.
#[derive(Debug)]
struct Corrections {
    zone: Zone,
    window: Window,
    latest_days: i64,
    late: u64,
    missing_stamps: u64,
}

impl Corrections {
    /// Corrections within this many days of the end of the window's reach show that others come later.
    const NEAR: i64 = 7;

    fn new(zone: &Zone, window: Window) -> Self {
        Self { zone: zone.clone(), window, latest_days: 0, late: 0, missing_stamps: 0 }
    }

    fn days(&self) -> i64 {
        (self.window.today().unwrap_or(self.window.to()) - self.window.from()).num_days()
    }

    fn take(&mut self, date: NaiveDate, updated: Option<FeedTime>) {
        let Some(updated) = updated else {
            self.missing_stamps += 1;
            return;
        };
        let updated = updated.school_time(&self.zone).date();
        // An update before the window or after its today says nothing about what syncs of this length miss.
        if updated < self.window.from() || updated > self.window.today().unwrap_or(self.window.to()) {
            return;
        }
        let days = (updated - date).num_days();
        self.latest_days = self.latest_days.max(days);
        self.late += u64::from(days > self.days() - Self::NEAR && days > 0);
    }

    fn check(&self, today_only: bool, swept_changes: u64) -> Check {
        let (days, latest) = (self.days(), self.latest_days);
        let evidence =
            CheckEvidence::Window { days, latest_correction_days: latest, late_corrections: self.late, swept_changes };
        let check = |summary: String| Check::new(CheckName::Window, evidence, summary);
        if today_only {
            return check("The source reaches today only.".to_owned())
                .advise(Verdict::Look, "Read earlier days another way: corrections of them are never seen.");
        }
        if !self.window.today().is_some_and(|today| self.window.contains(today)) {
            return check(
                "These dates do not reach today, so they do not show how far back the school corrects.".to_owned(),
            );
        }
        let far = format!("The latest correction was made {} after its date.", counted(latest.unsigned_abs(), "day"));
        let reach = format!("Syncs reach back {}.", counted(days.unsigned_abs(), "day"));
        if latest > days {
            let advice = format!("Sync a longer window (--days {}), or the corrected dates on their own.", latest + 7);
            return check(format!("{far} {reach}")).advise(Verdict::Wrong, advice);
        }
        if swept_changes > 0 {
            let swept = counted(swept_changes, "mark");
            let summary = format!("{far} {reach} Sweeps of the last 14 days corrected {swept} from before that.");
            let advice = "The sweeps find such corrections only after some nights; to show them the next morning, sync a longer window (--days).";
            return check(summary).advise(Verdict::Look, advice);
        }
        if self.late > 0 {
            let late = counted(self.late, "record");
            let summary = format!("{far} {reach} {late} of them within a week of that.");
            let advice = "Later corrections are likely, and are never read: sync a longer window (--days).";
            return check(summary).advise(Verdict::Look, advice);
        }
        check(format!("{far} {reach}"))
    }
}

impl Extend<Record> for Corrections {
    fn extend<I: IntoIterator<Item = Record>>(&mut self, records: I) {
        for record in records {
            match record {
                Record::Registration(row) => {
                    let date = row.at.school_time(&self.zone).date();
                    // A row that was not taken has no stamp (iSAMS, verified).
                    if self.window.contains(date) && (row.registered || row.last_updated.is_some()) {
                        self.take(date, row.last_updated);
                    }
                }
                // The look-back days bring some records from before the window, which syncs no longer correct.
                Record::OutOfSchool(record) => {
                    let end = record.to.unwrap_or(record.from).school_time(&self.zone).date();
                    self.take(end, record.last_updated);
                }
                _ => {}
            }
        }
    }
}

fn codes(register: &Register, has_code_table: bool, wording: &Wording, statutory: Option<&CodeTable>) -> Check {
    let mut unknown: BTreeMap<String, u64> = BTreeMap::new();
    let mut unmapped: BTreeMap<String, u64> = BTreeMap::new();
    let mut contradicting: BTreeMap<String, u64> = BTreeMap::new();
    for mark in register.marks() {
        let add = |counts: &mut BTreeMap<String, u64>, code: &str| *counts.entry(code.to_owned()).or_default() += 1;
        if mark.status == Status::UnknownCode {
            add(&mut unknown, mark.raw_code.as_ref().map_or("", RawCode::as_str));
            continue;
        }
        let Some((table, letter)) = statutory.zip(mark.code.as_deref()) else { continue };
        match table.class_of(&mark) {
            MarkClass::Unclassified(_) => add(&mut unmapped, letter),
            MarkClass::Of { contradicts_school: true, .. } => add(&mut contradicting, letter),
            _ => {}
        }
    }
    let was_read = register.has_code_table();
    let (kinds, marks) = (unknown.len() as u64, unknown.values().sum());
    let table = &wording.code_table;
    let statutory =
        statutory.filter(|_| was_read && kinds == 0).and_then(|table| apart(&unmapped, &contradicting, table));
    let evidence = CheckEvidence::Codes { unknown, has_code_table: was_read, unmapped, contradicting };
    let check = |summary: String| Check::new(CheckName::Codes, evidence, summary);
    if kinds > 0 && was_read {
        let summary = format!("The {table} does not have {} of {}.", counted(kinds, "code"), counted(marks, "mark"));
        return check(summary).advise(Verdict::Wrong, format!("Add them to the {table}, or correct the records."));
    }
    match (was_read, has_code_table, register.has_coded_records()) {
        (true, ..) => match statutory {
            None => check(format!("Every code is in the {table}.")),
            Some(apart) => check(format!("Every code is in the {table}. {apart}")).advise(
                Verdict::Look,
                "Say which codes the school's own letters stand for (--map), and correct what counts as an absence.",
            ),
        },
        (false, false, _) => {
            check("There is no code table: every code counts as an absence, and marks have no letters.".to_owned())
        }
        (false, true, false) => check(format!("The {table} is empty, and no record has a code.")),
        (false, true, true) => check(format!("The {table} is empty, but records have codes: a sync is refused."))
            .advise(Verdict::Wrong, format!("Let the {} read the registration codes.", wording.access)),
    }
}

/// How the school's letters differ from the statutory table, if they do.
fn apart(unmapped: &BTreeMap<String, u64>, contradicting: &BTreeMap<String, u64>, table: &CodeTable) -> Option<String> {
    let letters = |counts: &BTreeMap<String, u64>| counts.keys().cloned().collect::<Vec<_>>();
    let mut said = Vec::new();
    if !unmapped.is_empty() {
        said.push(format!("{} does not have the letters {}.", table.edition(), listed(&letters(unmapped), 0)));
    }
    if !contradicting.is_empty() {
        said.push(format!(
            "The school's table and {} disagree on whether these letters count as an absence: {}.",
            table.edition(),
            listed(&letters(contradicting), 0)
        ));
    }
    (!said.is_empty()).then(|| said.join(" "))
}

fn completeness_of(register: &Register, completeness: &Completeness, window: Window) -> Check {
    let today = window.today().unwrap_or(window.to());
    let (mut students, mut not_taken): (BTreeMap<NaiveDate, BTreeSet<StudentId>>, BTreeMap<NaiveDate, u64>) =
        Default::default();
    for mark in register.marks() {
        if mark.status == Status::NotTaken && mark.date < today {
            *not_taken.entry(mark.date).or_default() += 1;
        }
        if mark.decision.winner.kind != RecordKind::OutOfSchool {
            students.entry(mark.date).or_default().insert(mark.student);
        }
    }
    let mut by_weekday: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (date, students) in students.iter().filter(|(date, _)| **date < today) {
        by_weekday.entry(date.weekday().num_days_from_monday()).or_default().push(students.len());
    }
    let usual = |date: &NaiveDate| {
        let mut counts = by_weekday.get(&date.weekday().num_days_from_monday())?.clone();
        counts.sort_unstable();
        counts.get(counts.len() / 2).copied()
    };
    let is_thin = |date: &NaiveDate, count: usize| usual(date).is_some_and(|usual| count * 2 < usual);
    let thin_dates: Vec<NaiveDate> = students
        .iter()
        .filter(|(date, students)| **date < today && is_thin(date, students.len()))
        .map(|(date, _)| *date)
        .collect();
    let marks: u64 = not_taken.values().sum();
    let mut said = Vec::new();
    if let Some(first) = thin_dates.first() {
        let dates = counted(thin_dates.len() as u64, "date");
        said.push(format!("On {dates} less than half of the usual students have a registration, first on {first}."));
    }
    if let Some(first) = not_taken.keys().next() {
        let dates = counted(not_taken.len() as u64, "past date");
        let marks = counted(marks, "mark");
        said.push(format!("On {dates} {marks} come from registers that were not taken, first on {first}."));
    }
    if said.is_empty() {
        let rows: u64 = completeness.parts().iter().map(|part| part.rows).sum();
        said.push(format!(
            "{} were read, no day looks cut, and every register of past days was taken.",
            counted(rows, "record")
        ));
    }
    let (is_thin, is_not_taken) = (!thin_dates.is_empty(), marks > 0);
    let evidence =
        CheckEvidence::Completeness { thin_dates, not_taken: marks, not_taken_dates: not_taken.into_keys().collect() };
    let check = Check::new(CheckName::Completeness, evidence, said.join(" "));
    match (is_thin, is_not_taken) {
        (true, _) => check.advise(
            Verdict::Look,
            "If the school was open to all on these dates, rows are missing: look at the filters and limits of the source.",
        ),
        (false, true) => check.advise(Verdict::Look, "Take these registers, or tell the school's office of them."),
        (false, false) => check,
    }
}

fn students(register: &Register, held: Option<BTreeSet<StudentId>>) -> Check {
    let similar = register.issues().count(Issue::SimilarIds);
    let has_store = held.as_ref().is_some_and(|held| !held.is_empty());
    let all: Vec<StudentId> = held.into_iter().flatten().filter(|student| !register.has_records_of(student)).collect();
    let vanished_students = all.len() as u64;
    let mut said = Vec::new();
    if similar > 0 {
        said.push(format!("{} of ids differ in the case of letters only.", counted(similar, "pair")));
    }
    if vanished_students > 0 {
        let students = counted(vanished_students, "student");
        said.push(format!("Nothing is read any more of {students} with a mark in the store."));
    }
    if said.is_empty() {
        said.push(match has_store {
            true => "No two ids are alike, and every student in the store is still read.".to_owned(),
            false => "No two ids are alike.".to_owned(),
        });
    }
    let evidence = CheckEvidence::Students { similar, vanished: all.into_iter().take(10).collect(), vanished_students };
    let check = Check::new(CheckName::Students, evidence, said.join(" "));
    match (similar, vanished_students) {
        (0, 0) => check,
        (0, _) => check.advise(
            Verdict::Look,
            "If they have left, say so in the next sync (--leavers); if not, look at the filters of the source.",
        ),
        (_, _) => check.advise(
            Verdict::Look,
            "Correct the ids in the management system: each spelling counts as a student of its own.",
        ),
    }
}
