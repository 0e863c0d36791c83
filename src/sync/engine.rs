use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use futures::FutureExt;
use tokio::task::spawn_blocking;
use tracing::field::Empty;
use tracing::{Instrument, info_span, warn};

use super::lease::{Stop, under_lease, unless_stopped};
use super::report::{Fetched, ReportWindow, SyncReport};
use super::{OutsideWindow, Plan, SyncError, SyncRequest, advice};
use crate::explain::{MeasuredAge, ReplyAge};
use crate::model::{Issue, Record, SchoolId, setters};
use crate::rules::{Freshness, MidnightEnd, Register, Resolver, Rules, Scope, Window};
use crate::source::{
    AttendanceSource, Completeness, FetchRequest, FetchedKind, Progress, SourceError, SourceErrorKind, Tally,
    read_watched, refuse_if_codes_are_missing,
};
use crate::store::{
    ChangeSet, LeaseToken, MarkCounts, MarkStore, Run, RunPurpose, RunQuery, Snapshot, StoreError, StoreErrorKind,
    StoredMark,
};

/// The most tries of a plan whose store changes in between.
const TRIES: usize = 4;
/// The age of the runs by which a key's cache is judged.
const RECENT: TimeDelta = TimeDelta::days(14);

/// What a run is doing, for progress displays and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SyncEvent {
    /// A fetch begins. Attempts count from 1.
    #[non_exhaustive]
    FetchStarted {
        /// The number of this attempt.
        attempt: u32,
    },
    /// A fetch broke off. It is started again if that can help and attempts are left.
    #[non_exhaustive]
    FetchFailed {
        /// The number of that attempt.
        attempt: u32,
        /// Why it broke off.
        failure: SourceErrorKind,
    },
    /// Records were read in this attempt.
    #[non_exhaustive]
    Read {
        /// Records of any kind.
        records: u64,
    },
    /// Everything was read and resolved.
    #[non_exhaustive]
    Resolved {
        /// Records of any kind.
        records: u64,
    },
    /// The plan is made.
    #[non_exhaustive]
    Planned {
        /// Changes that it would write.
        changes: u64,
        /// Changes that it withholds.
        withheld: u64,
    },
    /// The window is done, and a slice of older dates is read ([`SyncRequest::with_sweep`]).
    #[non_exhaustive]
    SweepStarted {
        /// The first date of the slice.
        from: NaiveDate,
        /// The last date of the slice.
        to: NaiveDate,
    },
    /// The change set is written.
    #[non_exhaustive]
    Applied {
        /// The run's number in the store.
        run: u64,
    },
}

/// Brings one school's marks in a store up to date from a source.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use rollmark::rules::Rules;
/// use rollmark::store::MemoryStore;
/// use rollmark::sync::{AttendanceSync, SyncRequest};
/// use rollmark::testing::{FakeSchool, FakeSource};
///
/// let today = "2026-11-20".parse()?;
/// let source = FakeSource::new(FakeSchool::demo(today));
/// let rules = Rules::new("Europe/London".parse()?);
/// let sync = AttendanceSync::new(source, MemoryStore::new(), "school", rules);
/// let report = sync.run(SyncRequest::overnight(today)).await?;
/// assert!(report.marks.added > 0);
/// # Ok(())
/// # }
/// ```
pub struct AttendanceSync {
    pub(super) source: Arc<dyn AttendanceSource>,
    pub(super) store: Arc<dyn MarkStore>,
    pub(super) school: SchoolId,
    pub(super) rules: Rules,
    pub(super) wait_for_other_run: Duration,
    pub(super) stop: Stop,
    listener: Option<Listener>,
}

type Listener = Box<dyn Fn(&SchoolId, SyncEvent) + Send + Sync>;

/// A run before its commit: what it read, and what it will write (or would write, in a dry run).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Planned {
    /// The report, without a run number yet.
    pub report: SyncReport,
    /// The changes.
    pub plan: Plan,
    /// The marks in scope in the store.
    pub snapshot: Snapshot,
    /// The run as the store will record it, without a number yet.
    pub run: Run,
}

impl Planned {
    /// The marks in scope as the store holds them after the run; after a dry run, as it holds them now.
    pub fn marks_after(&self) -> Vec<StoredMark> {
        if self.report.dry_run {
            self.snapshot.marks().to_vec()
        } else {
            self.plan.applied_to(&self.snapshot, self.run.freshness)
        }
    }
}

/// The result of a complete fetch.
struct Resolved {
    register: Arc<Register>,
    scope: Scope,
    freshness: Freshness,
    completeness: Completeness,
    tally: Tally,
    advice: Vec<String>,
}

impl AttendanceSync {
    /// A sync of one school. To share a source or a store with other syncs, pass an `Arc`. A second run of the same
    /// school at the same time is refused, unless [`with_wait_for_other_run`](Self::with_wait_for_other_run) lets it
    /// wait.
    pub fn new(
        source: impl AttendanceSource + 'static,
        store: impl MarkStore + 'static,
        school: impl Into<SchoolId>,
        rules: Rules,
    ) -> Self {
        let stop = futures::future::pending().boxed().shared();
        Self {
            source: Arc::new(source),
            store: Arc::new(store),
            school: school.into(),
            rules,
            wait_for_other_run: Duration::ZERO,
            stop,
            listener: None,
        }
    }

    /// Runs once.
    ///
    /// If a fetch breaks off and another try can help, it starts again from the beginning, up to four attempts in all,
    /// with growing waits; the report counts them as retries. The run holds the school's lease and renews it. If its
    /// future is dropped, a task on the runtime gives the lease back; at the latest, it runs out after 30 seconds.
    ///
    /// # Errors
    /// See [`SyncError`]; the store then holds what it held.
    pub async fn run(&self, request: SyncRequest) -> Result<SyncReport, SyncError> {
        self.run_with(request, |_| Ok(())).await
    }

    /// Runs once, and calls `prepare` just before the commit (in a dry run: at the end), so that the caller can write
    /// its own outputs first.
    ///
    /// `prepare` is called again if the store has changed in between and the plan had to be made again. If it returns
    /// an error, the run stops before anything is written.
    ///
    /// # Errors
    /// See [`SyncError`]; the store then holds what it held.
    pub async fn run_with(
        &self,
        request: SyncRequest,
        prepare: impl FnMut(&Planned) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + Send,
    ) -> Result<SyncReport, SyncError> {
        let (window, dry_run) = (request.scope.window(), request.dry_run);
        let span = info_span!("rollmark.sync", from = %window.from(), to = %window.to(), dry_run);
        self.run_once(request, prepare).instrument(span).await
    }

    async fn run_once(
        &self,
        request: SyncRequest,
        mut prepare: impl FnMut(&Planned) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + Send,
    ) -> Result<SyncReport, SyncError> {
        let started = Instant::now();
        if request.dry_run {
            let resolved = unless_stopped(&self.stop, self.resolve(&request)).await?;
            let planned = self.plan(&request, &resolved, started, 1).await?;
            prepare(&planned).map_err(SyncError::prepare)?;
            let outside_window = self.sweep(&request, None).await;
            return Ok(SyncReport { outside_window, duration_ms: millis(started), ..planned.report });
        }
        under_lease(&self.store, &self.school, self.wait_for_other_run, &self.stop, |lease| async move {
            let resolved = unless_stopped(&self.stop, self.resolve(&request)).await?;
            let (planned, run) = self.write(&request, &resolved, started, lease, &mut prepare).await?;
            // It is no longer needed, and is as large as the data that the sweep reads.
            drop(resolved);
            let outside_window = self.sweep(&request, Some(lease)).await;
            let report = SyncReport { run: Some(run), outside_window, ..planned.report };
            Ok(SyncReport { duration_ms: millis(started), ..report })
        })
        .await
    }

    /// Plans and writes what was read, and does so again if the store has changed in between.
    async fn write(
        &self,
        request: &SyncRequest,
        resolved: &Resolved,
        started: Instant,
        lease: LeaseToken,
        prepare: &mut (impl FnMut(&Planned) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + Send),
    ) -> Result<(Planned, u64), SyncError> {
        let mut tries = 1;
        loop {
            let planned = unless_stopped(&self.stop, self.plan(request, resolved, started, tries)).await?;
            prepare(&planned).map_err(SyncError::prepare)?;
            let revision = planned.snapshot.revision();
            match apply(&*self.store, &self.school, revision, &planned.plan, &planned.run, lease).await {
                Err(error) if error.kind() == StoreErrorKind::Moved && tries < TRIES => {
                    warn!("the store has changed since the plan was made, which is made anew");
                    tries += 1;
                }
                Err(error) => return Err(error.into()),
                Ok(run) => {
                    self.tell(SyncEvent::Applied { run });
                    return Ok((planned, run));
                }
            }
        }
    }

    /// Reads a slice of older dates, if the request asks for it and there are any. It is written if there is a lease. A failure
    /// does not undo the run of the window.
    async fn sweep(&self, request: &SyncRequest, lease: Option<LeaseToken>) -> Option<OutsideWindow> {
        let sweep = request.sweep.filter(|_| !self.source.capabilities().today_only)?;
        let slice = sweep.slice(request.scope.window())?;
        self.tell(SyncEvent::SweepStarted { from: slice.from(), to: slice.to() });
        let request = SyncRequest {
            scope: request.scope.clone().with_window(slice),
            purpose: RunPurpose::Sweep,
            ..request.clone()
        };
        let work = async {
            let resolved = unless_stopped(&self.stop, self.resolve(&request)).await?;
            let started = Instant::now();
            Ok::<_, SyncError>(match lease {
                None => self.plan(&request, &resolved, started, 1).await?,
                Some(lease) => self.write(&request, &resolved, started, lease, &mut |_| Ok(())).await?.0,
            })
        };
        Some(match work.await {
            Ok(planned) => OutsideWindow::of(slice, &planned.plan),
            Err(error) => OutsideWindow::failed(slice, error.to_string()),
        })
    }

    async fn resolve(&self, request: &SyncRequest) -> Result<Resolved, SyncError> {
        let capabilities = self.source.capabilities();
        let mut scope = request.scope.clone();
        let mut advice = Vec::new();
        if capabilities.today_only {
            let today = narrow_to_today(scope.window())?;
            scope = scope.with_window(today);
            if scope.window() != request.scope.window() {
                advice.push(
                    "This source reaches today only, so only today was synced; other days need another way in."
                        .to_owned(),
                );
            }
        }
        if !capabilities.has_stamps {
            advice.push(
                "This source has no times of update: the marks are the management system's own verdicts.".to_owned(),
            );
        }
        let periods = self.rules.is_by_periods() && !capabilities.gives_session_marks;
        let fetch = FetchRequest::new(scope.window()).with_zone(self.rules.zone()).with_periods(periods);
        let freshness = Freshness::new(request.now.unwrap_or_else(Utc::now), capabilities.cache_expiry);
        let wording = self.source.wording();
        if let Some(stale) = advice::on_freshness(freshness, &wording) {
            warn!(cache_seconds = freshness.cache_expiry().num_seconds(), "replies can be older than is advised");
            advice.push(stale);
        }
        let resolver =
            || Resolver::new(self.rules.clone(), scope.clone()).with_closed_dates(request.closed.iter().copied());
        let (resolver, completeness) = self.read(&fetch, resolver).await?;
        let freshness = freshness.with_as_of(completeness.as_of(freshness.as_of_earliest()));
        let span = info_span!("rollmark.resolve");
        let register = Arc::new(aside(move || span.in_scope(|| resolver.finish())).await?);
        refuse_if_codes_are_missing(&*self.source, register.lacks_code_table())?;
        advice.extend(advice::on_closed_dates(&request.closed, &register));
        advice.extend(advice::on_undecided_fields(&completeness, &wording));
        if register.midnight_ends_are_meant() && self.rules.midnight_end() == MidnightEnd::Excluded {
            advice.push(advice::MIDNIGHTS.to_owned());
        }
        Ok(Resolved { register, scope, freshness, completeness, tally: fetch.counters().tally(), advice })
    }

    /// Reads a complete fetch into a new value from `start`, and informs the listener.
    async fn read<S: Extend<Record>>(
        &self,
        fetch: &FetchRequest,
        start: impl Fn() -> S,
    ) -> Result<(S, Completeness), SourceError> {
        let tell = |progress| {
            self.tell(match progress {
                Progress::Started(attempt) => SyncEvent::FetchStarted { attempt },
                Progress::Failed(attempt, failure) => SyncEvent::FetchFailed { attempt, failure },
                Progress::Read(records) => SyncEvent::Read { records },
                Progress::Complete(records) => SyncEvent::Resolved { records },
            });
        };
        read_watched(&*self.source, fetch, start, tell).await
    }

    async fn plan(
        &self,
        request: &SyncRequest,
        resolved: &Resolved,
        started: Instant,
        attempt: usize,
    ) -> Result<Planned, SyncError> {
        let span = info_span!(
            "rollmark.plan",
            attempt,
            added = Empty,
            changed = Empty,
            unchanged = Empty,
            removed = Empty,
            withheld = Empty,
            kept = Empty
        );
        let planned = self.compare(request, resolved, started).instrument(span.clone()).await?;
        let MarkCounts { added, changed, unchanged, removed, withheld, kept } = planned.plan.counts;
        span.record("added", added).record("changed", changed).record("unchanged", unchanged);
        span.record("removed", removed).record("withheld", withheld).record("kept", kept);
        span.in_scope(|| {
            for (reason, changes) in &planned.report.withheld {
                warn!(%reason, changes, "changes are withheld");
            }
        });
        Ok(planned)
    }

    /// Compares the records that were read with the marks in the store.
    async fn compare(
        &self,
        request: &SyncRequest,
        resolved: &Resolved,
        started: Instant,
    ) -> Result<Planned, SyncError> {
        let snapshot = self.store.read(&self.school, &resolved.scope).await?;
        let Resolved { register, completeness, freshness, tally, .. } = resolved;
        let out_of_school = completeness.rows(FetchedKind::OutOfSchool);
        let (register_of_plan, freshness, guards) = (Arc::clone(register), *freshness, request.guards);
        let (snapshot, plan) = aside(move || {
            let plan = Plan::new(&snapshot, &register_of_plan, freshness, out_of_school, &guards);
            (snapshot, plan)
        })
        .await;
        let plan = plan?;
        self.tell(SyncEvent::Planned { changes: plan.changes.len() as u64, withheld: plan.counts.withheld });
        let since = freshness.fetched_at.checked_sub_signed(RECENT).unwrap_or(DateTime::<Utc>::MIN_UTC);
        let recent = self.newest_runs(&RunQuery::measuring(), since).await?;
        let reply_age = self.reply_age(&plan, recent.last(), freshness);
        // How the key behaved before its settings were changed says nothing about today.
        let is_so_set =
            |run: &&Run| run.freshness.fetched_at >= since && run.freshness.cache_expiry() == freshness.cache_expiry();
        let ages = recent.iter().filter(is_so_set).map(|run| run.reply_age).chain([reply_age]);
        let measured = MeasuredAge::over(ages, freshness.cache_expiry());
        let mut issues = register.issues().clone();
        for field in completeness.undecided_fields() {
            issues.raise(Issue::UndecidedField, Some(field));
        }
        let wording = self.source.wording();
        let students = advice::on_students(&plan, &resolved.scope, register, &snapshot, &wording);
        let warning = measured.is_worse_than_setting().then(|| {
            warn!(
                at_least_seconds = measured.at_least.map(|age| age.num_seconds()),
                cache_seconds = measured.setting.num_seconds(),
                "replies were older than the cache expiry allows"
            );
            format!("Measured: {}.", measured.sentence(&wording))
        });
        let report = SyncReport {
            run: None,
            dry_run: request.dry_run,
            fetched: Fetched {
                registrations: completeness.rows(FetchedKind::Registrations),
                session_marks: completeness.rows(FetchedKind::SessionMarks),
                out_of_school,
                periods: completeness.rows(FetchedKind::Periods),
                requests: tally.requests,
                retries: tally.retries,
                bytes: tally.bytes,
            },
            marks: plan.counts,
            withheld: plan.withheld_by_reason(),
            issues,
            window: ReportWindow { from: resolved.scope.window().from(), to: resolved.scope.window().to() },
            zone: self.rules.zone().into(),
            fetched_at: freshness.fetched_at,
            as_of_earliest: freshness.as_of_earliest(),
            outside_window: None,
            advice: resolved.advice.iter().cloned().chain(students).chain(warning).collect(),
            duration_ms: millis(started),
            wording,
        };
        let run = Run::new(freshness, resolved.scope.clone(), self.rules.clone())
            .with_purpose(request.purpose)
            .with_closed_dates(request.closed.clone())
            .with_zone_edition(self.rules.zone().edition())
            .with_marks(plan.counts)
            .with_withheld(report.withheld.clone())
            .with_issues(report.issues.clone())
            .with_reply_age(reply_age);
        Ok(Planned { report, plan, snapshot, run })
    }

    /// The newest runs of a query, at least those since `since`. Years of older runs are not read.
    async fn newest_runs(&self, query: &RunQuery, since: DateTime<Utc>) -> Result<Vec<Run>, StoreError> {
        let mut most = 32;
        loop {
            let runs = self.store.runs(&self.school, &query.clone().with_newest(most)).await?;
            let are_all = runs.len() < most || runs.first().is_some_and(|run| run.freshness.fetched_at < since);
            if are_all {
                return Ok(runs);
            }
            most = most.saturating_mul(4);
        }
    }

    /// What the plan shows about the age of the replies. A change proves something about the run before only if that run
    /// would have written it: by the same rules, with the date in scope, nothing withheld, and a newer record now.
    fn reply_age(&self, plan: &Plan, previous: Option<&Run>, freshness: Freshness) -> ReplyAge {
        let previous = previous.filter(|run| run.rules == self.rules && run.withheld.is_empty());
        let appeared = plan.changes.of_known_marks().filter_map(|change| {
            let (before, after) = (change.before.as_ref()?, change.after.as_ref()?);
            let could_see = previous?.scope.contains(&after.student, after.date);
            after.last_updated().filter(|stamp| could_see && Some(*stamp) > before.last_updated)
        });
        let is_unchanged = previous.is_some() && plan.changes.is_empty() && plan.withheld.is_empty();
        let previous_fetch = previous.map(|run| run.freshness.fetched_at);
        ReplyAge::of(freshness.fetched_at, plan.newest_stamp, previous_fetch, appeared, is_unchanged)
    }

    fn tell(&self, event: SyncEvent) {
        if let Some(listener) = &self.listener {
            listener(&self.school, event);
        }
    }
}

setters!(AttendanceSync {
    /// Sets how long a run waits for another run of the school to end.
    with_wait_for_other_run(wait_for_other_run: Duration) => wait_for_other_run;
    /// Sets a future that stops a run when it completes, such as one that waits for a signal. The run then ends with
    /// [`SyncErrorKind::Stopped`](super::SyncErrorKind::Stopped) and gives its lease back before it returns. A commit
    /// that has begun is finished.
    with_stop(stop: impl Future<Output = ()> + Send + 'static) => stop.boxed().shared();
    /// Sets a function that is called with each event of a run, and the school.
    with_listener(listener: impl Fn(&SchoolId, SyncEvent) + Send + Sync + 'static) => Some(Box::new(listener));
});

impl Debug for AttendanceSync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttendanceSync")
            .field("source", &self.source)
            .field("store", &self.store)
            .field("school", &self.school)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

/// Writes a plan and its run in one transaction, and returns the run's number.
pub(super) async fn apply(
    store: &dyn MarkStore,
    school: &SchoolId,
    revision: u64,
    plan: &Plan,
    run: &Run,
    lease: LeaseToken,
) -> Result<u64, StoreError> {
    let (count, planned) = (plan.changes.len(), plan.changes.clone());
    let changes = ChangeSet::new(revision, run.clone())
        .with_writes_made(count, move |place| planned.write(place))
        .with_withheld(plan.withheld.clone())
        .with_lease(lease);
    let span = info_span!("rollmark.apply", rows = count);
    store.apply(school, &changes).instrument(span).await
}

/// Does long work on a separate thread, so that the lease is renewed meanwhile.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    spawn_blocking(work).await.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()))
}

pub(crate) fn narrow_to_today(window: Window) -> Result<Window, SyncError> {
    let today = window.today().filter(|today| window.contains(*today)).ok_or(SyncError::NOT_TODAY)?;
    Ok(Window::day(today).with_today(today))
}

fn millis(started: Instant) -> u64 {
    started.elapsed().as_millis().try_into().unwrap_or(u64::MAX)
}
