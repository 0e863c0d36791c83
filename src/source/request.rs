use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use crate::model::{Zone, setters};
use crate::rules::Window;

/// What a fetch asks for: a window, never single students. Make a new request for each fetch: the source's time limit
/// for the whole fetch starts when the request is made, and is not extended if the fetch has to be started again.
///
/// ```
/// use rollmark::rules::SyncWindow;
/// use rollmark::source::FetchRequest;
///
/// let window = SyncWindow::default().ending("2026-11-20".parse()?);
/// let request = FetchRequest::new(window).with_zone(&"Europe/London".parse()?).with_periods(true);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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

    /// The dates, both ends included.
    pub fn window(&self) -> Window {
        self.window
    }

    /// The school's time zone. Sources that can read only today need it to compare their today with the window.
    pub fn zone(&self) -> Option<&Zone> {
        self.zone.as_ref()
    }

    /// Whether registration periods are needed.
    pub fn periods(&self) -> bool {
        self.periods
    }

    /// The counters of what the fetch costs. A source counts as it goes, even if the fetch fails later.
    pub fn counters(&self) -> &FetchCounters {
        &self.counters
    }

    /// The time at which the request was made, by a monotonic clock.
    pub fn began(&self) -> Instant {
        self.began
    }
}

setters!(FetchRequest {
    /// Sets the time zone of the window's dates.
    with_zone(zone: &Zone) => Some(zone.clone());
    /// Sets whether registration periods are needed too, as the period rule does.
    with_periods(periods: bool) => periods;
});

/// Counts what fetching costs. Clones share their counts, so that the counts of a repeated fetch add up.
#[derive(Clone, Debug, Default)]
pub struct FetchCounters(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    retries: AtomicU64,
    bytes: AtomicU64,
}

/// The counts of [`FetchCounters`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Tally {
    /// Requests sent, including every attempt and every request for a token.
    pub requests: u64,
    /// Attempts after the first for each request.
    pub retries: u64,
    /// The size of reply bodies in bytes, after decompression.
    pub bytes: u64,
}

impl FetchCounters {
    /// Counts a request.
    pub fn add_request(&self) {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a repeated attempt. Count its request with [`add_request`](Self::add_request) as well.
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
    /// Session marks, from a source that gives them instead of registers.
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

/// Says how much of the school's data one part of a fetch holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Coverage {
    /// Every record.
    #[default]
    Everything,
    /// Only the records that have changed since this instant. A sync refuses it, because it proves nothing about the
    /// rest.
    ChangesSince(DateTime<Utc>),
}

impl Coverage {
    fn is_everything(&self) -> bool {
        *self == Self::Everything
    }
}

/// One part of a fetch that was read in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Part {
    /// The kind of record.
    pub kind: FetchedKind,
    /// The first date asked for, included.
    pub from: NaiveDate,
    /// The last date asked for, included.
    pub to: NaiveDate,
    /// Rows in the accepted reply, before rows outside the window are dropped.
    pub rows: u64,
    /// The time of the data, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<DateTime<Utc>>,
    /// How much of these dates it holds.
    #[serde(default, skip_serializing_if = "Coverage::is_everything")]
    pub coverage: Coverage,
}

impl Part {
    /// A part that holds everything from `from` to `to`, both included, from a reply with `rows` rows.
    pub fn new(kind: FetchedKind, from: NaiveDate, to: NaiveDate, rows: u64) -> Self {
        Self { kind, from, to, rows, as_of: None, coverage: Coverage::Everything }
    }
}

setters!(Part {
    /// Sets the time of the data, for files and exports. Without it, the data can be as old as the time of the fetch
    /// minus [`Capabilities::cache_expiry`](super::Capabilities::cache_expiry).
    with_as_of(as_of: DateTime<Utc>) => Some(as_of);
    /// Sets how much of its dates this part holds.
    with_coverage(coverage: Coverage) => coverage;
});

/// The proof that a fetch is complete: which kinds were requested and read in full, over which dates. A sync accepts
/// nothing less ([R11.1](crate::guide::rules#r11-1)).
///
/// ```
/// use rollmark::rules::Window;
/// use rollmark::source::{Completeness, FetchedKind, Part};
///
/// let week = Window::between("2026-11-16".parse()?, "2026-11-20".parse()?)?;
/// let completeness = Completeness::whole(week, [(FetchedKind::Codes, 12), (FetchedKind::Registrations, 4_310)]);
/// assert!(completeness.covers(FetchedKind::Registrations, week));
///
/// // Read in parts: one for each request.
/// let registers = Part::new(FetchedKind::Registrations, week.from(), week.to(), 4_310).with_as_of("2026-11-20T06:00:00Z".parse()?);
/// let completeness = Completeness::new().with_part(registers);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completeness {
    parts: Vec<Part>,
    undecided_fields: Vec<String>,
}

impl Completeness {
    /// A proof without any part.
    pub fn new() -> Self {
        Self::default()
    }

    /// For a source that reads a whole window at once: one part of each kind, with its number of rows.
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

    /// Names fields of out-of-school records that may hold their stamp or code under an unknown name, if there are too
    /// few records to be sure.
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

    /// The number of rows of a kind in all parts.
    pub fn rows(&self, kind: FetchedKind) -> u64 {
        self.parts.iter().filter(|part| part.kind == kind).map(|part| part.rows).sum()
    }

    /// The time of the data: the earliest of all parts. A part without a time counts as `otherwise`; `None` if no part
    /// has one.
    pub fn as_of(&self, otherwise: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let says = self.parts.iter().any(|part| part.as_of.is_some());
        self.parts.iter().filter(|_| says).map(|part| part.as_of.unwrap_or(otherwise)).min()
    }

    /// Whether the parts of a kind cover every date of the window.
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
