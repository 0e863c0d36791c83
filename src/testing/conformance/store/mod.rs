//! What every [`MarkStore`] must do.
//!
//! A [`StoreHarness`] opens the store to test. For most promises, [`every`] asks it for a new store and first puts another
//! school into it, whose marks, runs and lists must not show. Run it on a runtime with several threads, so that runs really
//! meet.

mod deleting;
mod failing;
mod history;
mod lease;
mod marks;
mod meeting;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

pub use self::deleting::{erases_a_student, prunes_what_nobody_sees};
pub use self::failing::{
    leaves_all_or_nothing_of_a_dropped_call, leaves_nothing_of_a_failed_call, shows_others_what_was_applied,
};
pub use self::history::{
    feeds_every_change_once_and_in_order, finds_runs_and_sessions, keeps_the_history_of_removed_marks,
    keeps_what_runs_withheld, records_runs,
};
pub use self::lease::{
    gives_a_lease_to_one_at_a_time, keeps_a_lease_as_long_as_asked, refuses_a_lease_that_has_run_out,
    refuses_a_lease_that_was_lost,
};
pub use self::marks::{
    keeps_schools_apart, keeps_times_to_the_microsecond, keeps_to_the_scope, reads_what_was_applied,
    refuses_a_plan_from_another_state, tells_ids_apart, writes_equal_content_only_once, writes_many_marks_at_once,
    writes_whatever_differs,
};
pub use self::meeting::{
    feeds_a_reader_beside_writers, lets_an_erasure_and_a_run_take_turns, lets_one_of_many_first_runs_write,
    lets_runs_take_turns, lets_schools_write_at_once, reads_marks_and_revision_of_one_moment,
    shows_readers_all_or_nothing,
};
use super::{Kept, Violation, ensure, equal, equal_lists};
use crate::model::{Mark, MarkContent, OutOfSchool, Record, Registration, SchoolId, Session};
use crate::rules::{Freshness, Resolver, Rules, Scope, Window};
use crate::store::{
    Change, ChangeCursor, ChangeSet, FeedEntry, HistoryQuery, MarkCounts, MarkKey, MarkStore, Run, RunQuery, Snapshot,
    StoreError, StoreErrorKind, WithheldChange, WithheldReason, Write,
};

/// Opens the store to test.
#[async_trait]
pub trait StoreHarness: Send + Sync {
    /// A new store that holds nothing.
    async fn open(&self) -> Arc<dyn MarkStore>;

    /// The store that was opened last, opened again as another process would.
    async fn reopen(&self) -> Arc<dyn MarkStore>;

    /// Lets a lease of length `ttl` run out in the store that was opened last. The default waits.
    async fn expire_lease(&self, ttl: Duration) {
        tokio::time::sleep(ttl + Duration::from_millis(20)).await;
    }

    /// Makes the next change set fail at this step (a statement, for example) in the store that was opened last. Steps count
    /// from 1. Returns `false` if there is no such step, so that every step has failed once. The default has no steps.
    fn fail_at(&self, _step: u32) -> bool {
        false
    }
}

const AMELIA: &str = "4733683260";
const BEN: &str = "A-17";
const SCHOOL: &str = "conformance";
const OTHER: &str = "conformance-other";
/// A lease that is long enough for any store's slowest call.
const SHORT_LEASE: Duration = Duration::from_millis(500);
const TTL: Duration = Duration::from_secs(30);

/// Checks all of the promises below, each with a separate store.
///
/// # Errors
/// The first promise that is broken.
pub async fn every(harness: &dyn StoreHarness) -> Kept {
    keeps_schools_apart(&*harness.open().await).await?;
    tells_ids_apart(&*opened(harness).await?).await?;
    keeps_times_to_the_microsecond(&*opened(harness).await?).await?;
    reads_what_was_applied(&*opened(harness).await?).await?;
    keeps_to_the_scope(&*opened(harness).await?).await?;
    refuses_a_plan_from_another_state(&*opened(harness).await?).await?;
    writes_equal_content_only_once(&*opened(harness).await?).await?;
    writes_whatever_differs(&*opened(harness).await?).await?;
    records_runs(&*opened(harness).await?).await?;
    keeps_the_history_of_removed_marks(&*opened(harness).await?).await?;
    finds_runs_and_sessions(&*opened(harness).await?).await?;
    feeds_every_change_once_and_in_order(&*opened(harness).await?).await?;
    erases_a_student(&*opened(harness).await?).await?;
    prunes_what_nobody_sees(&*opened(harness).await?).await?;
    gives_a_lease_to_one_at_a_time(opened(harness).await?).await?;
    refuses_a_lease_that_has_run_out(harness).await?;
    keeps_a_lease_as_long_as_asked(harness).await?;
    refuses_a_lease_that_was_lost(&*opened(harness).await?).await?;
    lets_one_of_many_first_runs_write(opened(harness).await?).await?;
    lets_runs_take_turns(opened(harness).await?).await?;
    lets_an_erasure_and_a_run_take_turns(opened(harness).await?).await?;
    lets_schools_write_at_once(opened(harness).await?).await?;
    reads_marks_and_revision_of_one_moment(opened(harness).await?).await?;
    shows_readers_all_or_nothing(opened(harness).await?).await?;
    feeds_a_reader_beside_writers(opened(harness).await?).await?;
    keeps_what_runs_withheld(&*opened(harness).await?).await?;
    leaves_all_or_nothing_of_a_dropped_call(opened(harness).await?).await?;
    leaves_nothing_of_a_failed_call(harness).await?;
    shows_others_what_was_applied(harness).await?;
    writes_many_marks_at_once(&*opened(harness).await?).await
}

/// A new store in which another school has marks, runs and a withheld change.
async fn opened(harness: &dyn StoreHarness) -> Result<Arc<dyn MarkStore>, Violation> {
    let store = harness.open().await;
    write(&*store, OTHER, 7, vec![put(AMELIA, 3, 7), put(BEN, 5, 7)]).await?;
    write(&*store, OTHER, 8, vec![put(AMELIA, 3, 8), remove(BEN, 5)]).await?;
    withhold(&*store, OTHER, vec![withheld(AMELIA, 3, WithheldReason::MayBeStale)]).await?;
    Ok(store)
}

fn date(day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 11, day).unwrap_or_default()
}

fn midnight() -> DateTime<Utc> {
    date(20).and_time(chrono::NaiveTime::MIN).and_utc()
}

/// An instant with microseconds, as clocks have them.
fn instant(hour: i64) -> DateTime<Utc> {
    midnight() + TimeDelta::hours(hour) + TimeDelta::microseconds(123_456)
}

fn window(from: u32, to: u32) -> Window {
    Window::between(date(from), date(to)).unwrap_or(Window::day(date(from)))
}

fn scope() -> Scope {
    Scope::all(window(1, 30))
}

fn rules() -> Rules {
    Rules::new(crate::model::Zone::utc())
}

/// The mark of a register that was taken `minute` minutes past nine, or past two; 0 means an out-of-school record without an id.
fn session_mark(student: &str, day: u32, session: Session, minute: u32) -> Arc<Mark> {
    let time = |text: String| text.parse().unwrap_or_else(|error| panic!("{error}"));
    let (lesson, hour) = if session == Session::Am { ("08:40:00", 9) } else { ("13:40:00", 14) };
    let mut resolver = Resolver::new(rules(), scope());
    let row = Registration::new(student, time(format!("{}T{lesson}", date(day)))).with_id("1");
    let updated = time(format!("{}T{hour:02}:{minute:02}:00.123456", date(day)));
    resolver.push(Record::Registration(row.with_last_updated(updated)));
    if minute == 0 {
        let record = OutOfSchool::new(student, time(date(day).to_string()), None).with_code("é");
        resolver.push(Record::OutOfSchool(record.with_last_updated(time(format!("{}T15:00:00", date(day))))));
    }
    let register = resolver.finish().unwrap_or_else(|error| panic!("{error}"));
    let mark = register.mark(&student.into(), date(day), session);
    Arc::new(mark.unwrap_or_else(|| panic!("the school has a mark")))
}

fn mark(student: &str, day: u32, minute: u32) -> Arc<Mark> {
    session_mark(student, day, Session::Am, minute)
}

fn run(hour: i64) -> Run {
    Run::new(Freshness::new(instant(hour), TimeDelta::zero()), scope(), rules())
}

fn changes(revision: u64, hour: i64, writes: Vec<Write>) -> ChangeSet {
    ChangeSet::new(revision, run(hour)).with_writes(writes)
}

fn put(student: &str, day: u32, minute: u32) -> Write {
    Write::Put(mark(student, day, minute))
}

fn put_pm(student: &str, day: u32, minute: u32) -> Write {
    Write::Put(session_mark(student, day, Session::Pm, minute))
}

fn remove(student: &str, day: u32) -> Write {
    Write::Remove(key(student, day))
}

fn key(student: &str, day: u32) -> MarkKey {
    MarkKey::new(student, date(day), Session::Am)
}

async fn read(store: &dyn MarkStore, school: &str) -> Result<Snapshot, StoreError> {
    store.read(&school.into(), &scope()).await
}

async fn write(store: &dyn MarkStore, school: &str, hour: i64, writes: Vec<Write>) -> Result<u64, StoreError> {
    write_as(store, school, run(hour), writes).await
}

async fn write_as(store: &dyn MarkStore, school: &str, run: Run, writes: Vec<Write>) -> Result<u64, StoreError> {
    let revision = read(store, school).await?.revision();
    store.apply(&school.into(), &ChangeSet::new(revision, run).with_writes(writes)).await
}

fn withheld(student: &str, day: u32, reason: WithheldReason) -> WithheldChange {
    WithheldChange::new(key(student, day), reason)
}

/// The run, with counts for these withheld changes.
fn withholding(run: Run, changes: &[WithheldChange]) -> Run {
    let counts = MarkCounts { withheld: changes.len() as u64, ..MarkCounts::default() };
    let mut by_reason = BTreeMap::new();
    changes.iter().for_each(|change| *by_reason.entry(change.reason).or_default() += 1);
    run.with_marks(counts).with_withheld(by_reason)
}

/// Applies a run that withholds these changes and writes nothing.
async fn withhold(store: &dyn MarkStore, school: &str, changes: Vec<WithheldChange>) -> Result<u64, StoreError> {
    let revision = read(store, school).await?.revision();
    let set = ChangeSet::new(revision, withholding(run(9), &changes)).with_withheld(changes);
    store.apply(&school.into(), &set).await
}

async fn history(store: &dyn MarkStore, school: &str, student: &str) -> Result<Vec<Change>, StoreError> {
    store.history(&school.into(), &(&key(student, 3)).into()).await
}

async fn whole_history(store: &dyn MarkStore, school: &str) -> Result<Vec<Change>, StoreError> {
    store.history(&school.into(), &HistoryQuery::new(scope())).await
}

async fn runs(store: &dyn MarkStore, school: &str) -> Result<Vec<Run>, StoreError> {
    store.runs(&school.into(), &RunQuery::all()).await
}

/// The whole feed, read `limit` entries at a time.
async fn feed(store: &dyn MarkStore, school: &str, limit: usize) -> Result<Vec<FeedEntry>, StoreError> {
    let (mut all, mut after): (Vec<FeedEntry>, Option<ChangeCursor>) = (Vec::new(), None);
    loop {
        let more = store.changes(&school.into(), after, limit).await?;
        let Some(last) = more.last() else { return Ok(all) };
        after = Some(last.cursor());
        all.extend(more);
        // If the same entries came again and again, this would never end.
        if all.len() > 1_000 {
            return Ok(all);
        }
    }
}

type Marks = Vec<(MarkKey, MarkContent)>;

fn marks(snapshot: &Snapshot) -> Marks {
    snapshot.marks().iter().map(|stored| (stored.key.clone(), MarkContent::clone(&stored.content))).collect()
}

fn said<const N: usize>(marks: [Arc<Mark>; N]) -> Marks {
    marks.iter().map(|mark| (MarkKey::from(&**mark), mark.content())).collect()
}

/// Everything that the calls show of a school.
async fn everything(store: &dyn MarkStore, school: &str) -> Result<Vec<String>, StoreError> {
    let mut all = vec![
        format!("{:?}", read(store, school).await?),
        format!("{:?}", whole_history(store, school).await?),
        format!("{:?}", store.changes(&school.into(), None, 1_000).await?),
    ];
    for run in runs(store, school).await? {
        all.push(format!("{run:?} withheld {:?}", store.withheld(&school.into(), run.number).await?));
    }
    Ok(all)
}

fn kind<T>(result: Result<T, StoreError>) -> Option<StoreErrorKind> {
    result.err().map(|error| error.kind())
}

/// The violation when a call fails that should have succeeded.
fn breaks(promise: &'static str) -> impl Fn(StoreError) -> Violation {
    move |error| Violation::new(promise, format!("A call fails: {error}"))
}

fn panicked(promise: &'static str) -> impl Fn(tokio::task::JoinError) -> Violation {
    move |_| Violation::new(promise, "A call has panicked")
}
