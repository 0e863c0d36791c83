use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Serialize, Serializer};

use super::OutsideWindow;
use crate::explain::Wording;
use crate::explain::words::counted;
use crate::model::{Issue, Issues, Zone, ZoneOrigin, clock_text, stamp_text};
use crate::store::{MarkCounts, WithheldReason};

/// Counts what a run read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Fetched {
    /// Rows of registers in the accepted replies, before rows outside the window are dropped.
    pub registrations: u64,
    /// Session marks, counted likewise, from a source that gives them instead of registers.
    #[serde(skip_serializing_if = "crate::model::is_zero")]
    pub session_marks: u64,
    /// Out-of-school records, counted likewise.
    pub out_of_school: u64,
    /// Registration periods, counted likewise; 0 if they were not requested.
    pub periods: u64,
    /// Requests, including every attempt and every request for a token.
    pub requests: u64,
    /// Attempts after the first for each request or fetch.
    pub retries: u64,
    /// The size of reply bodies in bytes, after decompression.
    pub bytes: u64,
}

/// The dates of a run, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ReportWindow {
    /// The first date.
    pub from: NaiveDate,
    /// The last date.
    pub to: NaiveDate,
}

/// The time zone of a run and the edition of its rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ReportZone {
    /// The IANA name.
    pub name: String,
    /// The edition of the time-zone database that its rules are from, such as `2026b`.
    pub edition: String,
    /// Whether the rules come from the bundled database or the machine's.
    pub origin: ZoneOrigin,
}

impl From<&Zone> for ReportZone {
    fn from(zone: &Zone) -> Self {
        Self { name: zone.name().to_owned(), edition: zone.edition().to_owned(), origin: zone.origin() }
    }
}

/// Says what a run did, or what a dry run would do. It is serialised as one JSON object; `Display` is a summary of a few
/// lines for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SyncReport {
    /// The run's number in the store; `None` for a dry run.
    pub run: Option<u64>,
    /// Whether this was a dry run, which writes nothing.
    pub dry_run: bool,
    /// What was read.
    pub fetched: Fetched,
    /// What happened to the marks in scope.
    pub marks: MarkCounts,
    /// Changes that were not written, by reason ([R11](crate::guide::rules#r11)).
    pub withheld: BTreeMap<WithheldReason, u64>,
    /// The issues in the records, by name.
    #[serde(serialize_with = "counts")]
    pub issues: Issues,
    /// The first few records of each issue, by id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub issue_examples: BTreeMap<Issue, Vec<String>>,
    /// The dates that were synced.
    pub window: ReportWindow,
    /// The time-zone rules by which times were read.
    pub zone: ReportZone,
    /// The instant just before the first request.
    #[serde(serialize_with = "stamp")]
    pub fetched_at: DateTime<Utc>,
    /// The earliest moment that the data can show ([R9](crate::guide::rules#r9)).
    #[serde(serialize_with = "stamp")]
    pub as_of_earliest: DateTime<Utc>,
    /// The result of a sweep of older dates ([`SyncRequest::with_sweep`](super::SyncRequest::with_sweep)); `None` without a
    /// sweep, or if there were no older dates to read.
    pub outside_window: Option<OutsideWindow>,
    /// What the school should know or change, as sentences.
    pub advice: Vec<String>,
    /// How long the run took, in milliseconds by a monotonic clock.
    pub duration_ms: u64,
    #[serde(skip)]
    pub(super) wording: Wording,
}

fn stamp<S: Serializer>(stamp: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&stamp_text(*stamp))
}

fn counts<S: Serializer>(issues: &Issues, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(issues.iter().map(|(issue, count)| (issue.name(), count.count)))
}

pub(super) fn examples(issues: &Issues) -> BTreeMap<Issue, Vec<String>> {
    let named = issues.iter().filter(|(_, count)| !count.examples.is_empty());
    named.map(|(issue, count)| (issue, count.examples.clone())).collect()
}

impl fmt::Display for SyncReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { marks, fetched, window, .. } = self;
        write!(f, "{} to {}: ", window.from, window.to)?;
        match fetched.session_marks {
            0 => write!(
                f,
                "{} registrations and {} out-of-school records",
                fetched.registrations, fetched.out_of_school
            )?,
            marks => write!(f, "{marks} session marks")?,
        }
        let (requests, retries) = (counted(fetched.requests, "request"), fetched.retries);
        let again = if retries == 1 { "retry" } else { "retries" };
        writeln!(f, " read in {requests} ({retries} {again}, {} bytes)", fetched.bytes)?;
        writeln!(
            f,
            "marks{}: {} added, {} changed, {} removed, {} unchanged, {} withheld, {} kept",
            if self.dry_run { " (dry run, nothing written)" } else { "" },
            marks.added,
            marks.changed,
            marks.removed,
            marks.unchanged,
            marks.withheld,
            marks.kept
        )?;
        for (reason, count) in &self.withheld {
            writeln!(f, "withheld, {reason}: {count} ({})", meaning(*reason, &self.wording))?;
        }
        for (issue, count) in self.issues.iter() {
            write!(f, "issue {issue}: {}", count.count)?;
            if !count.examples.is_empty() {
                write!(f, " (for example {})", count.examples.join(", "))?;
            }
            writeln!(f)?;
        }
        if let Some(outside) = &self.outside_window {
            write!(f, "before the window, {} to {}: ", outside.from, outside.to)?;
            let OutsideWindow { added, changed, removed, withheld, .. } = outside;
            match (&outside.error, outside.oldest_change_days) {
                (Some(error), _) => writeln!(f, "nothing written, because {error}")?,
                (None, None) => writeln!(f, "no changes, {withheld} withheld")?,
                (None, Some(days)) => writeln!(
                    f,
                    "{added} added, {changed} changed, {removed} removed, {withheld} withheld; the oldest change is {} old",
                    counted(days.unsigned_abs(), "day")
                )?,
            }
        }
        for advice in &self.advice {
            writeln!(f, "advice: {advice}")?;
        }
        let Self { as_of_earliest, zone: ReportZone { name, edition, .. }, .. } = self;
        let as_of = name.parse().map_or(stamp_text(*as_of_earliest), |zone| clock_text(*as_of_earliest, &zone));
        write!(f, "what was read can be as old as {as_of}; times by {name}, edition {edition}")
    }
}

fn meaning(reason: WithheldReason, wording: &Wording) -> String {
    let key = wording.key();
    match reason {
        WithheldReason::StudentsVanished => {
            format!(
                "many students have no record in the reply any more; check the filters of the {key}, or say that they have \
                 left (--leavers)"
            )
        }
        WithheldReason::Unproven => {
            "nothing in the reply proves that these marks are gone; if the school was closed on those dates, say so (--closed)"
                .to_owned()
        }
        WithheldReason::TooMany => {
            "more removals at once than the limit; if they are meant, allow them (--allow-removals)".to_owned()
        }
        WithheldReason::OutOfSchoolVanished => {
            format!("the reply holds no out-of-school record at all; check the {key}'s rights, or allow removals (--allow-removals)")
        }
        WithheldReason::CodeVanished => {
            format!(
                "the code table has lost the codes of these marks; check the {key}'s rights, or allow the change \
                 (--allow-mass-change)"
            )
        }
        WithheldReason::MayBeStale => {
            "the reply can be older than what the store holds; a later run decides".to_owned()
        }
        WithheldReason::Unknown => "use a newer version of this program to see why".to_owned(),
    }
}
