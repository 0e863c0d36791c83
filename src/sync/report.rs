use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, NaiveDate, Utc};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::OutsideWindow;
use crate::explain::Wording;
use crate::explain::words::counted;
use crate::model::{Issue, IssueCount, Issues, Zone, ZoneOrigin, clock_text, stamp_text};
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
    /// The issues in the records, with the first few records of each; in JSON two objects by name, `issues` with the counts and
    /// `issue_examples` with the ids.
    #[serde(flatten, serialize_with = "counts_and_examples")]
    pub issues: Issues,
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

fn counts_and_examples<S: Serializer>(issues: &Issues, serializer: S) -> Result<S::Ok, S::Error> {
    let counts: BTreeMap<Issue, u64> = issues.iter().map(|(issue, count)| (issue, count.count)).collect();
    let with_examples = issues.iter().filter(|(_, count)| !count.examples.is_empty());
    let examples: BTreeMap<Issue, &Vec<String>> =
        with_examples.map(|(issue, count)| (issue, &count.examples)).collect();
    let mut fields = serializer.serialize_map(None)?;
    fields.serialize_entry("issues", &counts)?;
    if !examples.is_empty() {
        fields.serialize_entry("issue_examples", &examples)?;
    }
    fields.end()
}

impl SyncReport {
    /// The lines of the summary. A value from outside can put a line feed into one of them, which `Display` shows as two.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.fetched_line(), self.marks_line()];
        lines.extend(self.withheld_lines());
        lines.extend(self.issues.iter().map(|(issue, IssueCount { count, examples })| match examples.is_empty() {
            true => format!("issue {issue}: {count}"),
            false => format!("issue {issue}: {count} (for example {})", examples.join(", ")),
        }));
        lines.extend(self.outside_window_line());
        lines.extend(self.advice.iter().map(|advice| format!("advice: {advice}")));
        lines.push(self.age_line());
        lines
    }

    /// For each reason why something was withheld, the line of the summary that says how much and what to do.
    pub fn withheld_lines(&self) -> impl Iterator<Item = String> {
        let line = |(reason, count): (&WithheldReason, &u64)| {
            format!("withheld, {reason}: {count} ({})", meaning(*reason, &self.wording))
        };
        self.withheld.iter().map(line)
    }

    /// The line of the summary that says what became of older dates; `None` if none were read.
    pub fn outside_window_line(&self) -> Option<String> {
        let OutsideWindow { from, to, added, changed, removed, withheld, error, oldest_change_days } =
            self.outside_window.as_ref()?;
        let found = match (error, oldest_change_days) {
            (Some(error), _) => format!("nothing written, because {error}"),
            (None, None) => format!("no changes, {withheld} withheld"),
            (None, Some(days)) => format!(
                "{added} added, {changed} changed, {removed} removed, {withheld} withheld; the oldest change is {} old",
                counted(days.unsigned_abs(), "day")
            ),
        };
        Some(format!("before the window, {from} to {to}: {found}"))
    }

    fn fetched_line(&self) -> String {
        let Self { fetched, window, .. } = self;
        let records = match fetched.session_marks {
            0 => format!("{} registrations and {} out-of-school records", fetched.registrations, fetched.out_of_school),
            marks => format!("{marks} session marks"),
        };
        let (requests, retries) = (counted(fetched.requests, "request"), fetched.retries);
        let again = if retries == 1 { "retry" } else { "retries" };
        let ReportWindow { from, to } = window;
        format!("{from} to {to}: {records} read in {requests} ({retries} {again}, {} bytes)", fetched.bytes)
    }

    fn marks_line(&self) -> String {
        let MarkCounts { added, changed, unchanged, removed, withheld, kept } = self.marks;
        let note = if self.dry_run { " (dry run, nothing written)" } else { "" };
        format!(
            "marks{note}: {added} added, {changed} changed, {removed} removed, {unchanged} unchanged, {withheld} withheld, \
             {kept} kept"
        )
    }

    fn age_line(&self) -> String {
        let Self { as_of_earliest, zone: ReportZone { name, edition, .. }, .. } = self;
        let as_of = name.parse().map_or(stamp_text(*as_of_earliest), |zone| clock_text(*as_of_earliest, &zone));
        format!("what was read can be as old as {as_of}; times by {name}, edition {edition}")
    }
}

impl fmt::Display for SyncReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("\n"))
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
