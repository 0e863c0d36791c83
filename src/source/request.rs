use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use crate::model::Zone;
use crate::rules::Window;

/// What a fetch asks for: a window, never single students. Make a new one for each reading: a source's time limit counts from
/// here on, and goes on counting where the fetch has to be started again.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    window: Window,
    periods: bool,
    zone: Option<Zone>,
    counters: FetchCounters,
    began: Instant,
}

impl FetchRequest {
    /// A request for a window, without registration periods.
    pub fn new(window: Window) -> Self {
        Self { window, periods: false, zone: None, counters: FetchCounters::default(), began: Instant::now() }
    }

    /// Sets the school's time zone, in which the window's dates are.
    #[must_use]
    pub fn with_zone(mut self, zone: &Zone) -> Self {
        self.zone = Some(zone.clone());
        self
    }

    /// Sets whether registration periods are needed too (the period rule).
    #[must_use]
    pub fn with_periods(mut self, periods: bool) -> Self {
        self.periods = periods;
        self
    }

    /// The dates, both ends included.
    pub fn window(&self) -> Window {
        self.window
    }

    /// The school's time zone: a source that reaches today only compares its own today with the window's.
    pub fn zone(&self) -> Option<&Zone> {
        self.zone.as_ref()
    }

    /// Whether registration periods are needed.
    pub fn periods(&self) -> bool {
        self.periods
    }

    /// What the fetch costs; a source counts here as it goes, also on the way to a failure.
    pub fn counters(&self) -> &FetchCounters {
        &self.counters
    }

    /// When the reading began, by a monotonic clock.
    pub fn began(&self) -> Instant {
        self.began
    }
}

/// What fetching costs. Clones count together, so that the counts of a repeated fetch add up.
#[derive(Clone, Debug, Default)]
pub struct FetchCounters(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    retries: AtomicU64,
    bytes: AtomicU64,
}

/// The state of [`FetchCounters`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Tally {
    /// Requests sent, with every attempt and token call.
    pub requests: u64,
    /// Attempts beyond each request's first.
    pub retries: u64,
    /// Bytes of reply bodies, after decompression.
    pub bytes: u64,
}

impl FetchCounters {
    /// Counts a request.
    pub fn add_request(&self) {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a repeated attempt; the request that it makes is counted apart.
    pub fn add_retry(&self) {
        self.0.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts bytes read.
    pub fn add_bytes(&self, bytes: u64) {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The counts so far.
    pub fn tally(&self) -> Tally {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Tally { requests: of(&self.0.requests), retries: of(&self.0.retries), bytes: of(&self.0.bytes) }
    }
}

/// A kind of record that a source is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FetchedKind {
    /// Rows of registers.
    Registrations,
    /// Out-of-school records.
    OutOfSchool,
    /// Registration periods.
    Periods,
    /// The code table.
    Codes,
    /// Session marks, from a source that gives these instead of registers.
    SessionMarks,
}

impl std::fmt::Display for FetchedKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Registrations => "registrations",
            Self::OutOfSchool => "out-of-school records",
            Self::Periods => "registration periods",
            Self::Codes => "codes",
            Self::SessionMarks => "session marks",
        })
    }
}

/// What one part of an answer holds of what the school has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Coverage {
    /// Every record.
    #[default]
    Everything,
    /// Only the records that have changed since this instant. A sync refuses such an answer: it proves nothing about the rest.
    ChangesSince(DateTime<Utc>),
}

impl Coverage {
    fn is_everything(&self) -> bool {
        *self == Self::Everything
    }
}

/// One part of a fetch that was answered in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Part {
    /// The kind of record.
    pub kind: FetchedKind,
    /// The first date asked for, included.
    pub from: NaiveDate,
    /// The last date asked for, included.
    pub to: NaiveDate,
    /// Rows in the accepted reply, before any window.
    pub rows: u64,
    /// As of when it shows the school, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<DateTime<Utc>>,
    /// What it holds of these dates.
    #[serde(default, skip_serializing_if = "Coverage::is_everything")]
    pub coverage: Coverage,
}

impl Part {
    /// A part that holds everything, from a reply with so many rows for the dates from `from` to `to`, both included.
    pub fn new(kind: FetchedKind, from: NaiveDate, to: NaiveDate, rows: u64) -> Self {
        Self { kind, from, to, rows, as_of: None, coverage: Coverage::Everything }
    }

    /// Says as of when this part shows the school, for files and exports. Without it, that is the time of the fetch minus
    /// [`Capabilities::cache_expiry`](super::Capabilities::cache_expiry).
    #[must_use]
    pub fn with_as_of(mut self, as_of: DateTime<Utc>) -> Self {
        self.as_of = Some(as_of);
        self
    }

    /// Says what this part holds of its dates.
    #[must_use]
    pub fn with_coverage(mut self, coverage: Coverage) -> Self {
        self.coverage = coverage;
        self
    }
}

/// What was asked and answered in full: the evidence on which a sync may decide (R11.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completeness {
    parts: Vec<Part>,
    undecided_fields: Vec<String>,
}

impl Completeness {
    /// A verdict without any part.
    pub fn new() -> Self {
        Self::default()
    }

    /// The verdict of a source that answers a whole window at once: one part of each kind, with its number of rows.
    pub fn whole(window: Window, rows: impl IntoIterator<Item = (FetchedKind, u64)>) -> Self {
        let part = |(kind, rows)| Part::new(kind, window.from(), window.to(), rows);
        Self { parts: rows.into_iter().map(part).collect(), ..Self::default() }
    }

    /// Adds a part.
    #[must_use]
    pub fn with_part(mut self, part: Part) -> Self {
        self.parts.push(part);
        self
    }

    /// Names the fields of out-of-school records that may hold their stamp or code under a name that is not looked for: too
    /// few records to tell.
    #[must_use]
    pub fn with_undecided_fields<I: IntoIterator<Item: Into<String>>>(mut self, names: I) -> Self {
        self.undecided_fields = names.into_iter().map(Into::into).collect();
        self.undecided_fields.sort_unstable();
        self.undecided_fields.dedup();
        self
    }

    /// The parts, in any order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The undecided fields, sorted, each once.
    pub fn undecided_fields(&self) -> &[String] {
        &self.undecided_fields
    }

    /// Rows of a kind over all parts.
    pub fn rows(&self, kind: FetchedKind) -> u64 {
        self.parts.iter().filter(|part| part.kind == kind).map(|part| part.rows).sum()
    }

    /// As of when the parts show the school: the earliest of them, where a part that doesn't say counts as `otherwise`.
    /// `None` if no part says.
    pub fn as_of(&self, otherwise: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let says = self.parts.iter().any(|part| part.as_of.is_some());
        self.parts.iter().filter(|_| says).map(|part| part.as_of.unwrap_or(otherwise)).min()
    }

    /// Whether the parts of a kind leave no date of the window out.
    pub fn covers(&self, kind: FetchedKind, window: Window) -> bool {
        let mut parts: Vec<_> = self.parts.iter().filter(|part| part.kind == kind).collect();
        parts.sort_by_key(|part| part.from);
        let mut missing_from = Some(window.from());
        for part in parts {
            match missing_from {
                Some(date) if part.from <= date && date <= part.to => missing_from = part.to.succ_opt(),
                _ => {}
            }
        }
        missing_from.is_none_or(|date| date > window.to())
    }
}
