//! What every [`MarkStore`] must do.
//!
//! A [`StoreHarness`] opens the store that is tested; [`every`] asks it for a new one for each promise. Run it on a runtime
//! with several threads: then runs really meet.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use super::{Kept, Violation, ensure, equal, equal_lists};
use crate::model::{Mark, MarkContent, OutOfSchool, Record, Registration, SchoolId, Session, StudentId};
use crate::rules::{Freshness, Resolver, Rules, Scope, Window};
use crate::store::{
    Change, ChangeCursor, ChangeSet, FeedEntry, HistoryQuery, LeaseToken, MarkCounts, MarkKey, MarkStore, Run,
    RunQuery, Snapshot, StoreError, StoreErrorKind, WithheldChange, WithheldReason, Write, as_of,
};

/// Opens the store that is tested.
#[async_trait]
pub trait StoreHarness: Send + Sync {
    /// A new store that holds nothing.
    async fn open(&self) -> Arc<dyn MarkStore>;

    /// The store that was opened last, opened once more, as another process does it.
    async fn reopen(&self) -> Arc<dyn MarkStore>;

    /// Lets a lease of this length run out in the store that was opened last. The default waits.
    async fn expire_lease(&self, ttl: Duration) {
        tokio::time::sleep(ttl + Duration::from_millis(20)).await;
    }

    /// Lets the next change set that the store opened last applies fail at this step (its statements, say), counted from 1.
    /// The default has no steps. `false`: there is no such step, so every one has failed once.
    fn fail_at(&self, _step: u32) -> bool {
        false
    }
}

const AMELIA: &str = "4733683260";
const BEN: &str = "A-17";
const SCHOOL: &str = "conformance";
const OTHER: &str = "conformance-other";
/// Long enough for any store's slowest call.
const SHORT_LEASE: Duration = Duration::from_millis(500);
const TTL: Duration = Duration::from_secs(30);

/// All of the promises below, each on a store of its own.
///
/// # Errors
/// The first that is broken.
pub async fn every(harness: &dyn StoreHarness) -> Kept {
    tells_ids_apart(&*harness.open().await).await?;
    reads_what_was_applied(&*harness.open().await).await?;
    keeps_times_to_the_microsecond(&*harness.open().await).await?;
    keeps_to_the_scope(&*harness.open().await).await?;
    keeps_schools_apart(&*harness.open().await).await?;
    refuses_a_plan_from_another_state(&*harness.open().await).await?;
    writes_equal_content_only_once(&*harness.open().await).await?;
    records_runs(&*harness.open().await).await?;
    keeps_the_history_of_removed_marks(&*harness.open().await).await?;
    finds_runs_and_sessions(&*harness.open().await).await?;
    feeds_every_change_once_and_in_order(&*harness.open().await).await?;
    erases_a_student(&*harness.open().await).await?;
    prunes_what_nobody_sees(&*harness.open().await).await?;
    keeps_what_runs_withheld(&*harness.open().await).await?;
    gives_a_lease_to_one_at_a_time(&*harness.open().await).await?;
    refuses_a_lease_that_was_lost(&*harness.open().await).await?;
    refuses_a_lease_that_has_run_out(harness).await?;
    shows_readers_all_or_nothing(harness.open().await).await?;
    reads_marks_and_revision_of_one_moment(harness.open().await).await?;
    lets_one_of_two_first_runs_write(harness).await?;
    lets_runs_take_turns(harness.open().await).await?;
    leaves_all_or_nothing_of_a_dropped_call(harness).await?;
    leaves_nothing_of_a_failed_call(harness).await?;
    shows_others_what_was_applied(harness).await
}

fn date(day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 11, day).unwrap_or_default()
}

/// With microseconds, as clocks have them.
fn instant(hour: i64) -> DateTime<Utc> {
    date(20).and_time(chrono::NaiveTime::MIN).and_utc() + TimeDelta::hours(hour) + TimeDelta::microseconds(123_456)
}

fn scope() -> Scope {
    Scope::all(Window::between(date(1), date(30)).unwrap_or(Window::day(date(1))))
}

fn rules() -> Rules {
    Rules::new(crate::model::Zone::utc())
}

/// The AM mark of a register that was taken at this minute past nine; 0 is an out-of-school record without an id.
fn mark(student: &str, day: u32, minute: u32) -> Arc<Mark> {
    let time = |text: String| text.parse().unwrap_or_else(|error| panic!("{error}"));
    let mut resolver = Resolver::new(rules(), scope());
    let row = Registration::new(student, time(format!("{}T08:40:00", date(day)))).with_id("1");
    resolver.push(Record::Registration(row.with_last_updated(time(format!("{}T09:{minute:02}:00.123456", date(day))))));
    if minute == 0 {
        let record = OutOfSchool::new(student, time(date(day).to_string()), None).with_code("é");
        resolver.push(Record::OutOfSchool(record.with_last_updated(time(format!("{}T10:00:00", date(day))))));
    }
    let register = resolver.finish().unwrap_or_else(|error| panic!("{error}"));
    let mark = register.mark(&student.into(), date(day), Session::Am);
    Arc::new(mark.unwrap_or_else(|| panic!("the school has a mark")))
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
    let revision = read(store, school).await?.revision();
    store.apply(&school.into(), &changes(revision, hour, writes)).await
}

async fn history(store: &dyn MarkStore, school: &str, student: &str) -> Result<Vec<Change>, StoreError> {
    store.history(&school.into(), &(&key(student, 3)).into()).await
}

async fn runs(store: &dyn MarkStore, school: &str) -> Result<Vec<Run>, StoreError> {
    store.runs(&school.into(), &RunQuery::all()).await
}

type Marks = Vec<(MarkKey, MarkContent)>;

fn marks(snapshot: &Snapshot) -> Marks {
    snapshot.marks().iter().map(|stored| (stored.key.clone(), MarkContent::clone(&stored.content))).collect()
}

fn said<const N: usize>(marks: [Arc<Mark>; N]) -> Marks {
    marks.iter().map(|mark| (MarkKey::from(&**mark), mark.content())).collect()
}

/// Marks come back as they were put, by student, date and session, with the time of their fetch.
///
/// # Errors
/// The promise is broken; so with every function here.
pub async fn reads_what_was_applied(store: &dyn MarkStore) -> Kept {
    let empty = read(store, SCHOOL).await?;
    equal(&empty, &Snapshot::default(), "a school that was never written is empty, with revision 0")?;
    write(store, SCHOOL, 9, vec![put(BEN, 3, 1), put(AMELIA, 4, 0), put(AMELIA, 3, 2)]).await?;
    let snapshot = read(store, SCHOOL).await?;
    let put = said([mark(AMELIA, 3, 2), mark(AMELIA, 4, 0), mark(BEN, 3, 1)]);
    equal_lists(&marks(&snapshot), &put, "marks come back as they were put")?;
    ensure(snapshot.revision() > 0, "the revision grows with every change", || "It is still 0".to_owned())
}

/// Ids that differ in anything are different students, and sort by code point.
///
/// # Errors
/// The promise is broken.
pub async fn tells_ids_apart(store: &dyn MarkStore) -> Kept {
    let ids = ["10", "9", "B", "E", "b", "e", "é"];
    write(store, SCHOOL, 9, ids.into_iter().rev().map(|id| put(id, 3, 1)).collect()).await?;
    let snapshot = read(store, SCHOOL).await?;
    let found: Vec<&str> = snapshot.marks().iter().map(|stored| stored.key.student.as_str()).collect();
    equal_lists(&found, &ids, "ids that differ in anything, case and accents too, are different students")?;
    let one = Scope::all(scope().window()).with_students(["b"]);
    let found = store.read(&SCHOOL.into(), &one).await?;
    equal_lists(&marks(&found), &said([mark("b", 3, 1)]), "a scope's student is that id and no other")?;
    let found = store.history(&SCHOOL.into(), &HistoryQuery::new(scope())).await?;
    equal(&found.len(), &ids.len(), "every student has a history of its own")
}

/// Every time is kept to the microsecond.
///
/// # Errors
/// The promise is broken.
pub async fn keeps_times_to_the_microsecond(store: &dyn MarkStore) -> Kept {
    const PROMISE: &str = "times are kept to the microsecond";
    write(store, SCHOOL, 9, vec![put(AMELIA, 3, 1)]).await?;
    let snapshot = read(store, SCHOOL).await?;
    let stored = snapshot.marks().first().ok_or_else(|| Violation::new(PROMISE, "The mark is not there"))?;
    equal(&stored.fetched_at, &instant(9), PROMISE)?;
    equal(&stored.as_of_earliest, &instant(9), PROMISE)?;
    equal(&stored.content.last_updated, &mark(AMELIA, 3, 1).last_updated(), PROMISE)?;
    let seen: Vec<_> = history(store, SCHOOL, AMELIA).await?.iter().map(|change| change.seen_at).collect();
    equal(&seen, &vec![instant(9)], PROMISE)?;
    let mut fetched: Vec<_> = runs(store, SCHOOL).await?.iter().map(|run| run.freshness.fetched_at).collect();
    fetched.dedup();
    equal(&fetched, &vec![instant(9)], PROMISE)
}

/// A read holds the scope's dates, both ends included, and its students, and nothing else.
///
/// # Errors
/// The promise is broken.
pub async fn keeps_to_the_scope(store: &dyn MarkStore) -> Kept {
    write(store, SCHOOL, 9, vec![put(AMELIA, 3, 1), put(AMELIA, 4, 1), put(AMELIA, 6, 1), put(BEN, 4, 1)]).await?;
    let window = Window::between(date(3), date(4)).unwrap_or(Window::day(date(3)));
    let narrow = Scope::all(window).with_students([AMELIA]);
    let expected = said([mark(AMELIA, 3, 1), mark(AMELIA, 4, 1)]);
    let snapshot = store.read(&SCHOOL.into(), &narrow).await?;
    equal_lists(&marks(&snapshot), &expected, "a read holds the scope's students and dates, both ends included")?;
    let history = store.history(&SCHOOL.into(), &HistoryQuery::new(narrow)).await?;
    let keys: Vec<MarkKey> = history.into_iter().map(|change| change.key).collect();
    let expected: Vec<MarkKey> = expected.into_iter().map(|(key, _)| key).collect();
    equal_lists(&keys, &expected, "a scope's history is that of its students and dates")
}

/// No call shows or changes anything of another school's.
///
/// # Errors
/// The promise is broken.
pub async fn keeps_schools_apart(store: &dyn MarkStore) -> Kept {
    const PROMISE: &str = "a school shows nothing of another's, and changes nothing there";
    let other = SchoolId::new(OTHER);
    write(store, SCHOOL, 9, vec![put(AMELIA, 3, 1)]).await?;
    write(store, SCHOOL, 10, vec![put(AMELIA, 3, 2)]).await?;
    equal(&read(store, OTHER).await?, &Snapshot::default(), PROMISE)?;
    equal(&history(store, OTHER, AMELIA).await?, &Vec::new(), PROMISE)?;
    equal(&store.history(&other, &HistoryQuery::new(scope())).await?, &Vec::new(), PROMISE)?;
    equal(&runs(store, OTHER).await?, &Vec::new(), PROMISE)?;
    equal(&store.changes(&other, None, 9).await?, &Vec::new(), PROMISE)?;
    equal(&store.last_covering_run(&other, &AMELIA.into(), date(3)).await?, &None, PROMISE)?;
    ensure(store.sessions_held(&other, scope().window()).await?.is_empty(), PROMISE, || "A session is held".into())?;
    let before = everything(store, SCHOOL).await?;
    write(store, OTHER, 11, vec![put(AMELIA, 3, 4), put(BEN, 3, 4)]).await?;
    write(store, OTHER, 12, vec![remove(AMELIA, 3)]).await?;
    store.prune(&other, date(28)).await?;
    store.erase(&other, &AMELIA.into()).await?;
    equal_lists(&everything(store, SCHOOL).await?, &before, PROMISE)?;
    equal(&history(store, SCHOOL, BEN).await?, &Vec::new(), PROMISE)
}

/// What every call shows of a school.
async fn everything(store: &dyn MarkStore, school: &str) -> Result<Vec<String>, StoreError> {
    let school = SchoolId::new(school);
    Ok(vec![
        format!("{:?}", store.read(&school, &scope()).await?),
        format!("{:?}", store.history(&school, &HistoryQuery::new(scope())).await?),
        format!("{:?}", store.changes(&school, None, 1_000).await?),
        format!("{:?}", store.runs(&school, &RunQuery::all()).await?),
    ])
}

/// A change set applies only to the revision that it was planned from; otherwise nothing of it is written.
///
/// # Errors
/// The promise is broken.
pub async fn refuses_a_plan_from_another_state(store: &dyn MarkStore) -> Kept {
    const PROMISE: &str = "a plan from another revision is refused, and nothing of it is written, its run neither";
    write(store, SCHOOL, 9, vec![put(AMELIA, 3, 1)]).await?;
    let before = everything(store, SCHOOL).await?;
    let revision = read(store, SCHOOL).await?.revision();
    for revision in [revision - 1, revision + 1] {
        let outdated = changes(revision, 10, vec![put(AMELIA, 3, 2), put(BEN, 3, 1)]);
        let refused = store.apply(&SCHOOL.into(), &outdated).await;
        equal(&refused.map_err(|error| error.kind()), &Err(StoreErrorKind::Moved), PROMISE)?;
    }
    equal_lists(&everything(store, SCHOOL).await?, &before, PROMISE)
}

/// Putting equal content, or removing what is not there, changes no mark, no history and no revision.
///
/// # Errors
/// The promise is broken.
pub async fn writes_equal_content_only_once(store: &dyn MarkStore) -> Kept {
    const PROMISE: &str = "equal content (MarkContent::same_content) and removals of nothing change nothing";
    write(store, SCHOOL, 9, vec![put(AMELIA, 3, 1)]).await?;
    let before = read(store, SCHOOL).await?;
    let mut renamed = Mark::clone(&mark(AMELIA, 3, 1));
    renamed.code_name = Some("another name".into());
    let again = vec![put(AMELIA, 3, 1), remove(BEN, 3)];
    for writes in [again, vec![Write::Put(Arc::new(renamed))]] {
        write(store, SCHOOL, 10, writes).await?;
        equal(&read(store, SCHOOL).await?, &before, PROMISE)?;
    }
    equal(&history(store, SCHOOL, AMELIA).await?.len(), &1, PROMISE)?;
    equal(&history(store, SCHOOL, BEN).await?.len(), &0, PROMISE)
}

/// A removed mark keeps its history and can come back; the history says what was shown at any time.
///
/// # Errors
/// The promise is broken.
pub async fn keeps_the_history_of_removed_marks(store: &dyn MarkStore) -> Kept {
    const PROMISE: &str = "a mark's history holds every change, oldest first, with what was there before, removals too";
    for (hour, change) in
        [(9, put(AMELIA, 3, 1)), (10, put(AMELIA, 3, 0)), (11, remove(AMELIA, 3)), (12, put(AMELIA, 3, 1))]
    {
        write(store, SCHOOL, hour, vec![change]).await?;
    }
    let history = history(store, SCHOOL, AMELIA).await?;
    let states = [None, Some(mark(AMELIA, 3, 1)), Some(mark(AMELIA, 3, 0)), None, Some(mark(AMELIA, 3, 1))];
    equal(&history.len(), &4, PROMISE)?;
    for (number, change) in history.iter().enumerate() {
        let before = states.get(number).and_then(Option::as_ref).map(|mark| mark.content());
        equal(&change.before.as_deref().cloned(), &before, PROMISE)?;
        equal(&change.after, &states.get(number + 1).cloned().flatten(), PROMISE)?;
        equal(&change.run, &(number as u64 + 1), "a change names the run that wrote it")?;
        equal(&change.seen_at, &instant(9 + number as i64), "a change says when its run fetched")?;
    }
    let shown = |hour| as_of(&history, instant(hour)).cloned();
    let answers = [shown(8), shown(10), shown(11)];
    equal(&answers, &[None, Some(mark(AMELIA, 3, 0)), None], "the history says what was shown at any time")?;
    equal_lists(&marks(&read(store, SCHOOL).await?), &said([mark(AMELIA, 3, 1)]), "a removed mark can come back")
}

/// Every run is recorded, also one that writes nothing, and numbers count from 1.
///
/// # Errors
/// The promise is broken.
pub async fn records_runs(store: &dyn MarkStore) -> Kept {
    for hour in [9, 10] {
        write(store, SCHOOL, hour, vec![put(AMELIA, 3, 1)]).await?;
    }
    let expected: Vec<Run> = [9, 10].into_iter().zip(1..).map(|(hour, number)| run(hour).with_number(number)).collect();
    equal_lists(&runs(store, SCHOOL).await?, &expected, "every run is recorded as it was, in order, numbered from 1")?;
    let newest = store.runs(&SCHOOL.into(), &RunQuery::all().with_newest(1)).await?;
    equal_lists(&newest, expected.get(1..).unwrap_or_default(), "the newest runs are the last ones")?;
    let since = store.runs(&SCHOOL.into(), &RunQuery::all().with_since(instant(10))).await?;
    equal_lists(&since, expected.get(1..).unwrap_or_default(), "runs since an instant include one that fetched then")
}

/// What a run withheld comes back with its reasons, by student, date and session, for the newest runs that withheld anything.
///
/// # Errors
/// The promise is broken.
pub async fn keeps_what_runs_withheld(store: &dyn MarkStore) -> Kept {
    const PROMISE: &str = "what a run withheld comes back with its reasons, by student, date and session";
    const KEPT: &str =
        "the lists of a school's newest runs that withheld anything (WithheldChange::RUNS_KEPT) are kept";
    let school = SchoolId::new(SCHOOL);
    let both = |day| vec![withheld(BEN, day, WithheldReason::Unproven), withheld(AMELIA, day, WithheldReason::TooMany)];
    let sorted = |day| Some(both(day).into_iter().rev().collect::<Vec<_>>());
    for day in 1..=WithheldChange::RUNS_KEPT as u32 {
        withhold(store, SCHOOL, both(day)).await?;
        withhold(store, SCHOOL, Vec::new()).await?;
    }
    equal(&store.withheld(&school, 1).await?, &sorted(1), PROMISE)?;
    equal(&store.withheld(&school, 2).await?, &Some(Vec::new()), "a run that withheld nothing has an empty list")?;
    for day in 2..=WithheldChange::RUNS_KEPT as u32 {
        equal(&store.withheld(&school, u64::from(day) * 2 - 1).await?, &sorted(day), KEPT)?;
    }
    for unknown in [0, 1_000, u64::MAX] {
        equal(&store.withheld(&school, unknown).await?, &None, "a run that is not there has no list")?;
    }
    Ok(())
}

fn withheld(student: &str, day: u32, reason: WithheldReason) -> WithheldChange {
    WithheldChange::new(key(student, day), reason)
}

/// A run that withholds this and writes nothing.
async fn withhold(store: &dyn MarkStore, school: &str, changes: Vec<WithheldChange>) -> Result<u64, StoreError> {
    let mut counts = MarkCounts::default();
    counts.withheld = changes.len() as u64;
    let mut by_reason = BTreeMap::new();
    changes.iter().for_each(|change| *by_reason.entry(change.reason).or_default() += 1);
    let run = run(9).with_marks(counts).with_withheld(by_reason);
    let revision = read(store, school).await?.revision();
    store.apply(&school.into(), &ChangeSet::new(revision, run).with_withheld(changes)).await
}

/// The last run that could touch a mark is found, and the sessions in which anybody has one.
///
/// # Errors
/// The promise is broken.
pub async fn finds_runs_and_sessions(store: &dyn MarkStore) -> Kept {
    let school = SchoolId::new(SCHOOL);
    write(store, SCHOOL, 9, vec![put(AMELIA, 3, 1), put(BEN, 5, 1)]).await?;
    let revision = read(store, SCHOOL).await?.revision();
    let narrow = Run::new(Freshness::new(instant(10), TimeDelta::zero()), scope().with_students([BEN]), rules());
    store.apply(&school, &ChangeSet::new(revision, narrow)).await?;
    for (student, run) in [(AMELIA, 1), (BEN, 2)] {
        let found = store.last_covering_run(&school, &student.into(), date(3)).await?.map(|run| run.number);
        equal(&found, &Some(run), "the last covering run is the newest whose scope has the student and date")?;
    }
    let far = NaiveDate::from_ymd_opt(2027, 1, 1).unwrap_or_default();
    let none = store.last_covering_run(&school, &BEN.into(), far).await?;
    equal(&none, &None, "no run covers a date outside of all scopes")?;
    let held = store.sessions_held(&school, scope().window()).await?;
    let expected = [3, 5].map(|day| (date(day), Session::Am)).into();
    equal(&held, &expected, "a session is held where anybody has a mark")
}

/// The whole feed, read so many entries at a time.
async fn feed(store: &dyn MarkStore, limit: usize) -> Result<Vec<FeedEntry>, StoreError> {
    let (mut all, mut after): (Vec<FeedEntry>, Option<ChangeCursor>) = (Vec::new(), None);
    loop {
        let more = store.changes(&SCHOOL.into(), after, limit).await?;
        let Some(last) = more.last() else { return Ok(all) };
        after = Some(last.cursor());
        all.extend(more);
        // Entries that come again and again would never end.
        if all.len() > 1_000 {
            return Ok(all);
        }
    }
}

/// The feed holds every change once, oldest first; reading on from a cursor leaves nothing out and repeats nothing.
///
/// # Errors
/// The promise is broken.
pub async fn feeds_every_change_once_and_in_order(store: &dyn MarkStore) -> Kept {
    const PROMISE: &str = "the feed holds every change once, in the order in which they were applied";
    write(store, SCHOOL, 9, (1..=5).map(|day| put(AMELIA, day, 1)).collect()).await?;
    write(store, OTHER, 9, vec![put(AMELIA, 3, 7)]).await?;
    write(store, SCHOOL, 10, vec![put(AMELIA, 3, 2), remove(AMELIA, 4), put(AMELIA, 5, 1)]).await?;
    let all = feed(store, 1_000).await?;
    let kinds: Vec<(u64, bool)> = all
        .iter()
        .map(|entry| match entry {
            FeedEntry::Changed(change) => (change.run, change.after.is_some()),
            FeedEntry::Erased { .. } => (0, false),
        })
        .collect();
    let mut of_second = kinds.get(5..).unwrap_or_default().to_vec();
    of_second.sort_unstable();
    equal(&of_second, &vec![(2, false), (2, true)], PROMISE)?;
    equal_lists(kinds.get(..5).unwrap_or_default(), &[(1, true); 5], PROMISE)?;
    let grows = all.windows(2).all(|pair| pair.first().map(FeedEntry::cursor) < pair.last().map(FeedEntry::cursor));
    ensure(grows, "cursors grow", || "One is not above the one before".to_owned())?;
    for limit in [1, 2, 3] {
        let parts = feed(store, limit).await?;
        equal_lists(&parts, &all, "reading on from a cursor leaves nothing out and repeats nothing")?;
    }
    let last = all.last().map(FeedEntry::cursor);
    let rest = store.changes(&SCHOOL.into(), last, 9).await?;
    equal(&rest, &Vec::new(), "after the last cursor comes nothing")?;
    write(store, SCHOOL, 11, vec![put(BEN, 3, 1)]).await?;
    let more = store.changes(&SCHOOL.into(), last, 9).await?;
    equal(&more.len(), &1, "what is applied later comes after every earlier cursor")
}

/// Erasing a student leaves nothing of the student but one entry of the feed, and everything of others.
///
/// # Errors
/// The promise is broken.
pub async fn erases_a_student(store: &dyn MarkStore) -> Kept {
    const PROMISE: &str = "of an erased student nothing is left but the feed's entry, and of others everything";
    let school = SchoolId::new(SCHOOL);
    write(store, SCHOOL, 9, vec![put(AMELIA, 3, 1), put(BEN, 3, 1)]).await?;
    write(store, SCHOOL, 10, vec![put(AMELIA, 3, 0), remove(AMELIA, 4)]).await?;
    let revision = read(store, SCHOOL).await?.revision();
    let named = Run::new(Freshness::new(instant(11), TimeDelta::zero()), scope().with_students([AMELIA, BEN]), rules());
    store.apply(&school, &ChangeSet::new(revision, named)).await?;
    let of_ben = history(store, SCHOOL, BEN).await?;
    let last = feed(store, 100).await?.last().map(FeedEntry::cursor);

    equal(&store.erase(&school, &AMELIA.into()).await?, &1, "an erasure counts the places that held anything")?;
    let after = read(store, SCHOOL).await?;
    equal_lists(&marks(&after), &said([mark(BEN, 3, 1)]), PROMISE)?;
    ensure(after.revision() > revision, "an erasure raises the revision", || "It stays".to_owned())?;
    equal(&history(store, SCHOOL, AMELIA).await?, &Vec::new(), PROMISE)?;
    equal_lists(&history(store, SCHOOL, BEN).await?, &of_ben, PROMISE)?;
    let scopes = format!("{:?}", runs(store, SCHOOL).await?);
    ensure(!scopes.contains(AMELIA), "no run names an erased student", || "One does".to_owned())?;
    let new = store.changes(&school, last, 9).await?;
    let is_erasure =
        |entry: &FeedEntry| matches!(entry, FeedEntry::Erased { student, .. } if student.as_str() == AMELIA);
    ensure(new.len() == 1 && new.iter().all(is_erasure), "the feed tells of an erasure at a new cursor", || {
        format!("Found {} entries after the last cursor", new.len())
    })?;
    store.erase(&school, &StudentId::new("nobody")).await?;
    let of_nobody = feed(store, 100).await?;
    ensure(of_nobody.iter().filter(|entry| matches!(entry, FeedEntry::Erased { .. })).count() == 2, PROMISE, || {
        "An erasure of a student who is not there is not in the feed".to_owned()
    })
}

/// Pruning changes nothing that the store shows from that date on.
///
/// # Errors
/// The promise is broken.
pub async fn prunes_what_nobody_sees(store: &dyn MarkStore) -> Kept {
    const PROMISE: &str = "pruning changes nothing that the store shows from that date on";
    let school = SchoolId::new(SCHOOL);
    for (hour, writes) in [
        (-60, vec![put(AMELIA, 3, 1), put(BEN, 3, 1)]),
        (-50, vec![put(AMELIA, 3, 2), remove(BEN, 3)]),
        (9, vec![put(AMELIA, 3, 4)]),
        (10, vec![put(AMELIA, 3, 5)]),
    ] {
        write(store, SCHOOL, hour, writes).await?;
    }
    let before = read(store, SCHOOL).await?;
    let whole = history(store, SCHOOL, AMELIA).await?;
    let cursors: Vec<ChangeCursor> = feed(store, 100).await?.iter().map(FeedEntry::cursor).collect();
    let pruned = store.prune(&school, date(20)).await?;
    equal(&(pruned.changes, pruned.runs), &(3, 1), "pruning says how many changes and runs it has deleted")?;
    equal(&read(store, SCHOOL).await?, &before, PROMISE)?;
    let left = history(store, SCHOOL, AMELIA).await?;
    for hour in [0, 9, 10, 11] {
        equal(&as_of(&left, instant(hour)), &as_of(&whole, instant(hour)), PROMISE)?;
    }
    equal(&left.len(), &3, "the last change before the date stays")?;
    let still: Vec<ChangeCursor> = feed(store, 100).await?.iter().map(FeedEntry::cursor).collect();
    ensure(still.iter().all(|cursor| cursors.contains(cursor)), "cursors stay valid", || "One is new".to_owned())?;
    write(store, SCHOOL, 12, vec![put(AMELIA, 3, 6)]).await?;
    let newest = feed(store, 100).await?.last().map(FeedEntry::cursor);
    ensure(newest > cursors.last().copied(), "no cursor is given twice", || "One has come again".to_owned())
}

async fn acquire(store: &dyn MarkStore, ttl: Duration) -> Result<Option<LeaseToken>, StoreError> {
    store.acquire_lease(&SCHOOL.into(), ttl).await
}

async fn acquired(store: &dyn MarkStore, ttl: Duration) -> Result<LeaseToken, Violation> {
    acquire(store, ttl).await?.ok_or_else(|| Violation::new("a free lease is given", "It is refused"))
}

fn kind(result: Result<(), StoreError>) -> Option<StoreErrorKind> {
    result.err().map(|error| error.kind())
}

/// While one holds a school's lease nobody else gets it; another school's is free. Given back, it is free again.
///
/// # Errors
/// The promise is broken.
pub async fn gives_a_lease_to_one_at_a_time(store: &dyn MarkStore) -> Kept {
    const PROMISE: &str = "a school's lease is one holder's until it is given back or runs out";
    let school = SchoolId::new(SCHOOL);
    let first = acquired(store, TTL).await?;
    equal(&acquire(store, TTL).await?, &None, PROMISE)?;
    let other = store.acquire_lease(&OTHER.into(), TTL).await?;
    ensure(other.is_some(), "each school has a lease of its own", || "Another school's is not free".to_owned())?;
    store.renew_lease(&school, first, TTL).await?;
    store.release_lease(&school, first).await?;
    let second = acquired(store, TTL).await?;
    ensure(second > first, "tokens of a school grow", || format!("{second:?} comes after {first:?}"))?;
    store.release_lease(&school, second).await?;
    acquired(store, Duration::MAX).await?;
    equal(&acquire(store, TTL).await?, &None, "a lease of any length is kept")
}

/// Whoever lost a lease to another can neither renew it nor write, and gives nobody's away.
///
/// # Errors
/// The promise is broken.
pub async fn refuses_a_lease_that_was_lost(store: &dyn MarkStore) -> Kept {
    const PROMISE: &str = "who has lost a lease to another can neither write nor renew it, and gives nobody's away";
    let school = SchoolId::new(SCHOOL);
    let stale = acquired(store, Duration::ZERO).await?;
    let holder = acquired(store, TTL).await?;
    let lost = Some(StoreErrorKind::LeaseLost);
    equal(&kind(store.renew_lease(&school, stale, TTL).await), &lost, PROMISE)?;
    let changes = |lease| changes(0, 9, vec![put(AMELIA, 3, 1)]).with_lease(lease);
    equal(&kind(store.apply(&school, &changes(stale)).await.map(|_| ())), &lost, PROMISE)?;
    equal(&read(store, SCHOOL).await?, &Snapshot::default(), PROMISE)?;
    let _ = store.release_lease(&school, stale).await;
    equal(&acquire(store, TTL).await?, &None, PROMISE)?;
    store.apply(&school, &changes(holder)).await.map(|_| ()).map_err(Violation::from)
}

/// A lease that has run out is over, also where nobody has taken it since.
///
/// # Errors
/// The promise is broken.
pub async fn refuses_a_lease_that_has_run_out(harness: &dyn StoreHarness) -> Kept {
    let store = harness.open().await;
    let school = SchoolId::new(SCHOOL);
    let lease = acquired(&*store, SHORT_LEASE).await?;
    harness.expire_lease(SHORT_LEASE).await;
    let lost = Some(StoreErrorKind::LeaseLost);
    let changes = changes(0, 9, vec![put(AMELIA, 3, 1)]).with_lease(lease);
    let written = kind(store.apply(&school, &changes).await.map(|_| ()));
    equal(&written, &lost, "a lease that has run out may not write")?;
    let renewed = kind(store.renew_lease(&school, lease, TTL).await);
    equal(&renewed, &lost, "a lease that has run out may not be renewed")?;
    acquired(&*store, TTL).await.map(|_| ())
}

/// A reader sees a change set whole or not at all.
///
/// # Errors
/// The promise is broken.
pub async fn shows_readers_all_or_nothing(store: Arc<dyn MarkStore>) -> Kept {
    const PROMISE: &str = "a reader sees a change set whole or not at all";
    let set = |minute: u32| (1..=28).map(|day| put(AMELIA, day, minute)).collect::<Vec<_>>();
    write(&*store, SCHOOL, 9, set(1)).await?;
    let writer = Arc::clone(&store);
    let writing = tokio::spawn(async move {
        for minute in 2..12 {
            write(&*writer, SCHOOL, 9 + i64::from(minute), set(minute)).await?;
        }
        Ok::<(), StoreError>(())
    });
    loop {
        let is_last = writing.is_finished();
        let snapshot = read(&*store, SCHOOL).await?;
        let mut times: Vec<_> = snapshot.marks().iter().map(|stored| stored.fetched_at).collect();
        times.dedup();
        equal(&(snapshot.marks().len(), times.len()), &(28, 1), PROMISE)?;
        if is_last {
            break;
        }
        tokio::task::yield_now().await;
    }
    writing.await.map_err(|_| Violation::new(PROMISE, "The writer has panicked"))?.map_err(Violation::from)
}

/// The marks and the revision of a read are those of one moment.
///
/// # Errors
/// The promise is broken.
pub async fn reads_marks_and_revision_of_one_moment(store: Arc<dyn MarkStore>) -> Kept {
    const PROMISE: &str = "the marks and the revision of a read are of one moment";
    let writer = Arc::clone(&store);
    let writing = tokio::spawn(async move {
        for minute in 1..40 {
            write(&*writer, SCHOOL, i64::from(minute), vec![put(AMELIA, 3, minute)]).await?;
            tokio::task::yield_now().await;
        }
        Ok::<(), StoreError>(())
    });
    let mut seen = BTreeMap::new();
    loop {
        let is_last = writing.is_finished();
        let snapshot = read(&*store, SCHOOL).await?;
        let shown = snapshot.marks().first().map(|stored| stored.fetched_at);
        let before = *seen.entry(snapshot.revision()).or_insert(shown);
        equal(&shown, &before, PROMISE)?;
        if is_last {
            break;
        }
        tokio::task::yield_now().await;
    }
    let shown: Vec<_> = seen.into_values().collect();
    let grows = shown.windows(2).all(|pair| pair.first() < pair.last());
    ensure(grows, PROMISE, || "A later revision shows an older mark".to_owned())?;
    writing.await.map_err(|_| Violation::new(PROMISE, "The writer has panicked"))?.map_err(Violation::from)
}

/// Of two runs that both begin a school, one writes and the other is refused.
///
/// # Errors
/// The promise is broken.
pub async fn lets_one_of_two_first_runs_write(harness: &dyn StoreHarness) -> Kept {
    const PROMISE: &str = "of two first runs of a school one writes, and the other is refused";
    for _ in 0..5 {
        let store = harness.open().await;
        let first = |student: &'static str| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.apply(&SCHOOL.into(), &changes(0, 9, vec![put(student, 3, 1)])).await })
        };
        let (one, two) = (first(AMELIA), first(BEN));
        let panicked = |_| Violation::new(PROMISE, "A call has panicked");
        let results = [one.await.map_err(panicked)?, two.await.map_err(panicked)?];
        let mut kinds: Vec<Option<StoreErrorKind>> =
            results.into_iter().map(|result| kind(result.map(|_| ()))).collect();
        kinds.sort_by_key(Option::is_some);
        equal(&kinds, &vec![None, Some(StoreErrorKind::Moved)], PROMISE)?;
        equal(&(read(&*store, SCHOOL).await?.marks().len(), runs(&*store, SCHOOL).await?.len()), &(1, 1), PROMISE)?;
    }
    Ok(())
}

/// Runs that meet take turns: none writes over what another has written meanwhile.
///
/// # Errors
/// The promise is broken.
pub async fn lets_runs_take_turns(store: Arc<dyn MarkStore>) -> Kept {
    const PROMISE: &str = "of runs that were planned from one revision only one writes";
    let mut working = Vec::new();
    for worker in 0..4 {
        let store = Arc::clone(&store);
        working.push(tokio::spawn(async move {
            let mut planned_from = Vec::new();
            while planned_from.len() < 5 {
                let minute = 1 + worker * 10 + planned_from.len() as u32;
                let revision = read(&*store, SCHOOL).await?.revision();
                let changes = changes(revision, i64::from(minute), vec![put(AMELIA, 3, minute)]);
                match store.apply(&SCHOOL.into(), &changes).await {
                    Err(error) if error.kind() == StoreErrorKind::Moved => tokio::task::yield_now().await,
                    written => {
                        written?;
                        planned_from.push(revision);
                    }
                }
            }
            Ok::<_, StoreError>(planned_from)
        }));
    }
    let mut planned_from = Vec::new();
    for worker in working {
        planned_from.extend(worker.await.map_err(|_| Violation::new(PROMISE, "A run has panicked"))??);
    }
    planned_from.sort_unstable();
    let mut different = planned_from.clone();
    different.dedup();
    equal_lists(&planned_from, &different, PROMISE)?;
    let history = history(&*store, SCHOOL, AMELIA).await?;
    equal(&(history.len(), runs(&*store, SCHOOL).await?.len()), &(20, 20), PROMISE)?;
    let mut numbers: Vec<u64> = history.iter().map(|change| change.run).collect();
    numbers.dedup();
    equal(&numbers, &(1..=20).collect(), "every run has a number of its own")?;
    for pair in history.windows(2) {
        let [earlier, later] = pair else { continue };
        let was = earlier.after.as_ref().map(|mark| mark.content());
        equal(
            &later.before.as_deref().cloned(),
            &was,
            "what was there before a change is what the change before left",
        )?;
    }
    Ok(())
}

/// However late a call's future is dropped, all of its change set is there or nothing, and the store goes on working.
///
/// # Errors
/// The promise is broken.
pub async fn leaves_all_or_nothing_of_a_dropped_call(harness: &dyn StoreHarness) -> Kept {
    const PROMISE: &str = "a call that is dropped leaves all or nothing";
    for polls in 0..60 {
        let store = harness.open().await;
        write(&*store, SCHOOL, 9, vec![put(BEN, 3, 1)]).await?;
        let revision = read(&*store, SCHOOL).await?.revision();
        let school = SchoolId::new(SCHOOL);
        let writes = changes(revision, 10, (1..=9).map(|day| put(AMELIA, day, 1)).chain([remove(BEN, 3)]).collect());
        let is_done = {
            let mut call = pin!(store.apply(&school, &writes));
            let mut is_done = false;
            for _ in 0..polls {
                let polled = std::future::poll_fn(|context| Poll::Ready(call.as_mut().poll(context).is_ready())).await;
                is_done = polled;
                if is_done {
                    break;
                }
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            is_done
        };
        let found = (read(&*store, SCHOOL).await?.marks().len(), runs(&*store, SCHOOL).await?.len());
        // What runs on in the background can end between the two reads.
        let again = (read(&*store, SCHOOL).await?.marks().len(), runs(&*store, SCHOOL).await?.len());
        ensure([found, again].contains(&(1, 1)) || again == (9, 2), PROMISE, || {
            format!("After {polls} polls there are {} marks and {} runs", again.0, again.1)
        })?;
        loop {
            match write(&*store, SCHOOL, 11, vec![put(AMELIA, 3, 2)]).await {
                Err(error) if error.kind() == StoreErrorKind::Moved => {}
                written => {
                    written?;
                    break;
                }
            }
        }
        if is_done {
            break;
        }
    }
    Ok(())
}

/// At whichever step a call fails, nothing of it is there, and the store goes on working.
///
/// # Errors
/// The promise is broken.
pub async fn leaves_nothing_of_a_failed_call(harness: &dyn StoreHarness) -> Kept {
    const PROMISE: &str = "a call that fails leaves everything as it was";
    for step in 1..1_000 {
        let store = harness.open().await;
        write(&*store, SCHOOL, 9, vec![put(BEN, 3, 1)]).await?;
        let before = everything(&*store, SCHOOL).await?;
        if !harness.fail_at(step) {
            break;
        }
        let failed = write(&*store, SCHOOL, 10, vec![put(AMELIA, 3, 1), put(BEN, 3, 2)]).await;
        ensure(failed.is_err(), "a failure in a call is its error", || format!("Step {step} failed without one"))?;
        equal_lists(&everything(&*store, SCHOOL).await?, &before, PROMISE)?;
        write(&*store, SCHOOL, 11, vec![put(AMELIA, 3, 1)]).await?;
    }
    Ok(())
}

/// What was applied is there for every other process, and so is a lease.
///
/// # Errors
/// The promise is broken.
pub async fn shows_others_what_was_applied(harness: &dyn StoreHarness) -> Kept {
    const PROMISE: &str = "what was applied is there for whoever opens the store";
    let store = harness.open().await;
    write(&*store, SCHOOL, 9, vec![put(AMELIA, 3, 1), put(BEN, 3, 0)]).await?;
    store.erase(&SCHOOL.into(), &BEN.into()).await?;
    acquired(&*store, TTL).await?;
    let other = harness.reopen().await;
    equal_lists(&everything(&*other, SCHOOL).await?, &everything(&*store, SCHOOL).await?, PROMISE)?;
    equal(&acquire(&*other, TTL).await?, &None, "a lease holds for every process")
}
