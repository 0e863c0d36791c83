//! The engine: fetch → resolve → plan → guard → apply → report.
//!
//! A run that fails at any point leaves the store as it was.
//!
//! # Watching a run
//! A run emits [`tracing`](https://docs.rs/tracing) spans at level INFO. None of them holds a student, an id, a code, a
//! text from the school, a path or a query.
//!
//! | span | in | fields |
//! |---|---|---|
//! | `rollmark.sync` | | `from`, `to`, `dry_run` |
//! | `rollmark.fetch` | `rollmark.sync` | `from`, `to`, `attempt`, `rows`, `bytes` |
//! | `rollmark.request` | `rollmark.fetch`; for a token, the request that needs it | `host`, `attempt`, `from`, `to`, `status`, `rows`, `bytes` |
//! | `rollmark.resolve` | `rollmark.sync` | |
//! | `rollmark.plan` | `rollmark.sync` | `attempt`, `added`, `changed`, `unchanged`, `removed`, `withheld`, `kept` |
//! | `rollmark.apply` | `rollmark.sync` | `rows`: the changes that are written |
//!
//! A run with a sweep has the spans below `rollmark.sync` twice: for the window, then for the slice.
//!
//! A field that is not (yet) known is left out. Events at level WARN report a retry (`failure`, `wait_seconds`),
//! withheld changes (`reason`, `changes`), and replies that can be or were stale (`cache_seconds`, `at_least_seconds`).
//! A run's error is not an event: the call returns it.
//!
//! [In a portal](crate::guide::embedding#metrics-and-traces) says how the report and the spans reach Prometheus and
//! OpenTelemetry. Don't use anything that records whole URLs, such as an HTTP tracing middleware or a proxy's log: the key
//! is in their query.

mod advice;
mod engine;
mod error;
mod lease;
mod plan;
mod report;
mod saved;
mod sweep;

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDate, Utc};

pub(crate) use engine::narrow_to_today;
pub use engine::{AttendanceSync, Planned, SyncEvent};
pub use error::{SyncError, SyncErrorKind};
pub use plan::{Guards, MassChange, Plan, PlannedChange, PlannedChanges};
pub use report::{Fetched, ReportWindow, ReportZone, SyncReport};
pub use saved::SavedPlan;
pub use sweep::{OutsideWindow, Sweep};

use crate::model::{StudentId, setters};
use crate::rules::{Scope, SyncWindow, Window};
use crate::store::RunPurpose;

/// Says what a run should do.
///
/// ```
/// use rollmark::sync::SyncRequest;
///
/// let today = "2026-11-20".parse().unwrap();
/// let request = SyncRequest::overnight(today).with_students(["4733683260"]).with_dry_run(true);
/// assert_eq!(request.scope().window().from().to_string(), "2026-10-21");
/// ```
#[derive(Clone, Debug)]
pub struct SyncRequest {
    scope: Scope,
    purpose: RunPurpose,
    guards: Guards,
    closed: BTreeSet<NaiveDate>,
    dry_run: bool,
    sweep: Option<Sweep>,
    now: Option<DateTime<Utc>>,
}

impl SyncRequest {
    /// The last 30 days of all students: what an overnight or a manual sync covers ([R8](crate::guide::rules#r8)).
    pub fn overnight(today: NaiveDate) -> Self {
        Self::of_window(SyncWindow::default(), today)
    }

    /// The same for another window around today.
    pub fn of_window(window: SyncWindow, today: NaiveDate) -> Self {
        Self { purpose: RunPurpose::Window, ..Self::targeted(window.ending(today)) }
    }

    /// Any dates, for example to fetch a correction that is older than the window. If today is known, pass it with
    /// [`Window::with_today`].
    pub fn targeted(window: Window) -> Self {
        Self {
            scope: Scope::all(window),
            purpose: RunPurpose::Targeted,
            guards: Guards::default(),
            closed: BTreeSet::new(),
            dry_run: false,
            sweep: None,
            now: None,
        }
    }

    /// Limits what is compared and written to these students. Everybody's records are still read.
    #[must_use]
    pub fn with_students(mut self, students: impl IntoIterator<Item = impl Into<StudentId>>) -> Self {
        self.scope = self.scope.with_students(students);
        self
    }

    /// Says on which dates the school was closed ([R11.4](crate::guide::rules#r11-4)): the marks in scope on these
    /// dates are removed, whatever the registers hold. This applies to one run only, so pass the dates as long as they
    /// are in the window.
    #[must_use]
    pub fn with_closed_dates(mut self, dates: impl IntoIterator<Item = NaiveDate>) -> Self {
        self.closed.extend(dates);
        self
    }

    /// What the run may compare and write.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }
}

setters!(SyncRequest {
    /// Sets the limits, and which of them are lifted.
    with_guards(guards: Guards) => guards;
    /// Sets whether the run only plans and reports, and writes nothing.
    with_dry_run(dry_run: bool) => dry_run;
    /// Also reads a slice of the dates before the window again, as a second run under the same lease, with its own plan and
    /// guards. The window is written first. The result of the slice is in
    /// [`SyncReport::outside_window`]: even if it fails, the run of the window has succeeded. A source that can read only
    /// today has no slice.
    with_sweep(sweep: Sweep) => Some(sweep);
    /// Sets the time of the run, so that the clock is not read. Fetch time, freshness and history go by it. Tests need it.
    with_now(now: DateTime<Utc>) => Some(now);
});
