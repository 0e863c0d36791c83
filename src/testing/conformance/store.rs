//! What every [`MarkStore`] must do.
//!
//! Each function needs a store that holds nothing of the schools `conformance` and `conformance-other`; [`every`] asks for
//! a new one for each.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use crate::model::{Mark, MarkContent, OutOfSchool, Record, Registration, SchoolId, Session};
use crate::rules::{Freshness, Resolver, Rules, Scope, Window};
use crate::store::{
    ChangeSet, LeaseToken, MarkKey, MarkStore, Run, RunQuery, Snapshot, StoreErrorKind, StoredMark, Write, as_of,
};

const AMELIA: &str = "4733683260";
const BEN: &str = "A-17";
const SCHOOL: &str = "conformance";
const OTHER: &str = "conformance-other";

/// All of the functions below, each on a store of its own.
pub async fn every<S: MarkStore + 'static, F: Future<Output = S>>(mut new_store: impl FnMut() -> F) {
    reads_what_was_applied_in_order(&new_store().await).await;
    keeps_to_the_scope(&new_store().await).await;
    keeps_schools_apart(&new_store().await).await;
    refuses_a_plan_from_another_state(&new_store().await).await;
    writes_equal_content_only_once(&new_store().await).await;
    keeps_the_history_of_removed_marks(&new_store().await).await;
    records_runs(&new_store().await).await;
    gives_a_lease_to_one_at_a_time(&new_store().await).await;
    refuses_a_lease_that_was_lost(&new_store().await).await;
    shows_readers_all_or_nothing(Arc::new(new_store().await)).await;
}

fn date(day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 11, day).unwrap_or_default()
}

fn instant(hour: i64) -> DateTime<Utc> {
    date(20).and_time(chrono::NaiveTime::MIN).and_utc() + TimeDelta::hours(hour)
}

fn scope() -> Scope {
    Scope::all(Window::between(date(1), date(30)).unwrap_or_else(|error| panic!("{error}")))
}

/// The AM mark of a register that was taken at this minute past nine; 0 is an out-of-school record without an id.
fn mark(student: &str, day: u32, minute: u32) -> Arc<Mark> {
    let time = |text: String| text.parse().unwrap_or_else(|error| panic!("{error}"));
    let mut resolver = Resolver::new(Rules::new("Europe/London".parse().unwrap()), scope());
    let mut row = Registration::new(student, time(format!("{}T08:40:00", date(day))));
    row.id = Some("1".into());
    row.last_updated = Some(time(format!("{}T09:{minute:02}:00.123456", date(day))));
    resolver.push(Record::Registration(row));
    if minute == 0 {
        let mut record = OutOfSchool::new(student, time(date(day).to_string()), None);
        record.code = Some("é".into());
        record.last_updated = Some(time(format!("{}T10:00:00", date(day))));
        resolver.push(Record::OutOfSchool(record));
    }
    let register = resolver.finish().unwrap_or_else(|error| panic!("{error}"));
    let mark = register.mark(&student.into(), date(day), Session::Am);
    Arc::new(mark.unwrap_or_else(|| panic!("the school has a mark")))
}

fn changes(revision: u64, hour: i64, writes: Vec<Write>) -> ChangeSet {
    let freshness = Freshness::new(instant(hour), TimeDelta::zero());
    let run = Run::new(freshness, scope(), Rules::new("Europe/London".parse().unwrap()));
    ChangeSet::new(revision, run).with_writes(writes)
}

fn put(student: &str, day: u32, minute: u32) -> Write {
    Write::Put(mark(student, day, minute))
}

fn remove(student: &str, day: u32) -> Write {
    Write::Remove(MarkKey::from(&*mark(student, day, 1)))
}

async fn read(store: &dyn MarkStore, school: &str) -> Snapshot {
    store.read(&school.into(), &scope()).await.unwrap_or_else(|error| panic!("the store can't be read: {error}"))
}

async fn write(store: &dyn MarkStore, school: &str, hour: i64, writes: Vec<Write>) -> u64 {
    let revision = read(store, school).await.revision();
    let applied = store.apply(&school.into(), &changes(revision, hour, writes)).await;
    applied.unwrap_or_else(|error| panic!("the store can't be written: {error}"))
}

type Marks = Vec<(MarkKey, MarkContent)>;

fn marks(snapshot: &Snapshot) -> Marks {
    let mark = |stored: &StoredMark| (stored.key.clone(), MarkContent::clone(&stored.content));
    snapshot.marks().iter().map(mark).collect()
}

fn said<const N: usize>(marks: [Arc<Mark>; N]) -> Marks {
    marks.iter().map(|mark| (MarkKey::from(&**mark), mark.content())).collect()
}

/// Marks come back as they were put, decision and all, sorted by student, date and session, with the time of their fetch.
pub async fn reads_what_was_applied_in_order(store: &dyn MarkStore) {
    assert_eq!(read(store, SCHOOL).await, Snapshot::default(), "a school that was never written is not empty");
    let writes = vec![put(BEN, 3, 1), put(AMELIA, 4, 0), put(AMELIA, 3, 2)];
    write(store, SCHOOL, 9, writes).await;
    let snapshot = read(store, SCHOOL).await;
    let put = said([mark(AMELIA, 3, 2), mark(AMELIA, 4, 0), mark(BEN, 3, 1)]);
    assert_eq!(marks(&snapshot), put, "the marks are not as put");
    assert!(snapshot.marks().iter().all(|stored| stored.fetched_at == instant(9)), "the time of the fetch is lost");
    assert!(snapshot.revision() > 0, "the revision does not grow");
}

/// A read holds the scope's dates, both ends included, and its students, and nothing else.
pub async fn keeps_to_the_scope(store: &dyn MarkStore) {
    write(store, SCHOOL, 9, vec![put(AMELIA, 3, 1), put(AMELIA, 4, 1), put(AMELIA, 6, 1), put(BEN, 4, 1)]).await;
    let window = Window::between(date(3), date(4)).unwrap_or_else(|error| panic!("{error}"));
    let narrow = Scope::all(window).with_students([AMELIA]);
    let snapshot = store.read(&SCHOOL.into(), &narrow).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(marks(&snapshot), said([mark(AMELIA, 3, 1), mark(AMELIA, 4, 1)]), "the read does not keep to the scope");
}

/// Another school's marks, history, runs and revision are out of reach.
pub async fn keeps_schools_apart(store: &dyn MarkStore) {
    write(store, SCHOOL, 9, vec![put(AMELIA, 3, 1)]).await;
    assert_eq!(read(store, OTHER).await, Snapshot::default(), "another school shows the marks");
    write(store, OTHER, 10, vec![remove(AMELIA, 3)]).await;
    assert_eq!(marks(&read(store, SCHOOL).await), said([mark(AMELIA, 3, 1)]), "another school has removed the mark");
    let runs = store.runs(&OTHER.into(), &RunQuery::all()).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(runs.len(), 1, "a school shows another's runs");
}

/// A change set applies only to the revision that it was planned from; otherwise nothing of it is written.
pub async fn refuses_a_plan_from_another_state(store: &dyn MarkStore) {
    write(store, SCHOOL, 9, vec![put(AMELIA, 3, 1)]).await;
    let before = read(store, SCHOOL).await;
    let outdated = changes(before.revision() - 1, 10, vec![put(AMELIA, 3, 2), put(BEN, 3, 1)]);
    let error = store.apply(&SCHOOL.into(), &outdated).await.err();
    assert_eq!(error.map(|error| error.kind()), Some(StoreErrorKind::Moved), "an outdated plan is not refused");
    assert_eq!(read(store, SCHOOL).await, before, "a refused plan has changed something");
    let runs = store.runs(&SCHOOL.into(), &RunQuery::all()).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(runs.len(), 1, "a refused plan is recorded as a run");
}

/// Putting equal content, or removing what is not there, changes no mark, no history and no revision.
pub async fn writes_equal_content_only_once(store: &dyn MarkStore) {
    write(store, SCHOOL, 9, vec![put(AMELIA, 3, 1)]).await;
    let before = read(store, SCHOOL).await;
    write(store, SCHOOL, 10, vec![put(AMELIA, 3, 1), remove(BEN, 3)]).await;
    assert_eq!(read(store, SCHOOL).await, before, "equal content was written again");
    for student in [AMELIA, BEN] {
        let history = history(store, student).await;
        assert_eq!(history.len(), usize::from(student == AMELIA), "equal content has made history");
    }
}

async fn history(store: &dyn MarkStore, student: &str) -> Vec<crate::store::Change> {
    let key = MarkKey::from(&*mark(student, 3, 1));
    store
        .history(&SCHOOL.into(), &(&key).into())
        .await
        .unwrap_or_else(|error| panic!("the history can't be read: {error}"))
}

/// A removed mark keeps its history and can come back; the history says what was shown at any time.
pub async fn keeps_the_history_of_removed_marks(store: &dyn MarkStore) {
    for (hour, change) in
        [(9, put(AMELIA, 3, 1)), (10, put(AMELIA, 3, 0)), (11, remove(AMELIA, 3)), (12, put(AMELIA, 3, 1))]
    {
        write(store, SCHOOL, hour, vec![change]).await;
    }
    let history = history(store, AMELIA).await;
    let states = [None, Some(mark(AMELIA, 3, 1)), Some(mark(AMELIA, 3, 0)), None, Some(mark(AMELIA, 3, 1))];
    assert_eq!(history.len(), 4, "the history has a gap");
    for (number, change) in history.iter().enumerate() {
        let before = states.get(number).and_then(Option::as_ref).map(|mark| mark.content());
        assert_eq!(change.before.as_deref(), before.as_ref(), "before change {number}");
        assert_eq!(change.after.as_ref(), states.get(number + 1).and_then(Option::as_ref), "after change {number}");
        assert_eq!(change.run, number as u64 + 1, "the run of change {number}");
        assert_eq!(change.seen_at, instant(9 + number as i64), "the time of change {number}");
    }
    let shown = |hour| as_of(&history, instant(hour)).cloned();
    assert_eq!(shown(8), None);
    assert_eq!(shown(10), Some(mark(AMELIA, 3, 0)));
    assert_eq!(shown(11), None);
    assert_eq!(marks(&read(store, SCHOOL).await), said([mark(AMELIA, 3, 1)]), "a removed mark does not come back");
}

/// Every run is recorded, also one that writes nothing, and numbers count from 1.
pub async fn records_runs(store: &dyn MarkStore) {
    for hour in [9, 10] {
        write(store, SCHOOL, hour, vec![put(AMELIA, 3, 1)]).await;
    }
    let runs = store
        .runs(&SCHOOL.into(), &RunQuery::all())
        .await
        .unwrap_or_else(|error| panic!("the runs can't be read: {error}"));
    let expected = [9, 10].map(|hour| changes(0, hour, Vec::new()).run().clone());
    let expected: Vec<Run> = (1..).zip(expected).map(|(number, run)| run.with_number(number)).collect();
    assert_eq!(runs, expected, "the runs are not as recorded");
}

const TTL: Duration = Duration::from_secs(30);

async fn acquire(store: &dyn MarkStore, ttl: Duration) -> Option<LeaseToken> {
    store.acquire_lease(&SCHOOL.into(), ttl).await.unwrap_or_else(|error| panic!("the lease can't be taken: {error}"))
}

/// While one holds a school's lease nobody else gets it; another school's is free. Given back, it is free again.
pub async fn gives_a_lease_to_one_at_a_time(store: &dyn MarkStore) {
    let school = SchoolId::new(SCHOOL);
    let first = acquire(store, TTL).await.unwrap_or_else(|| panic!("a free lease is refused"));
    assert_eq!(acquire(store, TTL).await, None, "two hold the same lease");
    let other = store.acquire_lease(&OTHER.into(), TTL).await;
    assert!(matches!(other, Ok(Some(_))), "another school's lease is not free");
    store
        .renew_lease(&school, first, TTL)
        .await
        .unwrap_or_else(|error| panic!("a held lease can't be renewed: {error}"));
    store.release_lease(&school, first).await.unwrap_or_else(|error| panic!("a lease can't be given back: {error}"));
    let second = acquire(store, TTL).await.unwrap_or_else(|| panic!("a lease that was given back is refused"));
    assert!(second > first, "tokens do not grow");
    store.release_lease(&school, second).await.unwrap_or_else(|error| panic!("a lease can't be given back: {error}"));
    let longest = acquire(store, Duration::MAX).await;
    assert!(longest.is_some(), "a lease without an end is refused");
    assert_eq!(acquire(store, TTL).await, None, "a lease without an end is over");
}

/// A lease that ran out is free; its old holder can neither renew it nor write, and giving it back takes it from nobody.
pub async fn refuses_a_lease_that_was_lost(store: &dyn MarkStore) {
    let school = SchoolId::new(SCHOOL);
    let stale = acquire(store, Duration::ZERO).await.unwrap_or_else(|| panic!("a free lease is refused"));
    let holder = acquire(store, TTL).await.unwrap_or_else(|| panic!("a lease that ran out is refused"));
    let lost = |result: Result<(), crate::store::StoreError>| result.err().map(|error| error.kind());
    assert_eq!(lost(store.renew_lease(&school, stale, TTL).await), Some(StoreErrorKind::LeaseLost));
    let changes = |lease| changes(0, 9, vec![put(AMELIA, 3, 1)]).with_lease(lease);
    let refused = store.apply(&school, &changes(stale)).await.map(|_| ());
    assert_eq!(lost(refused), Some(StoreErrorKind::LeaseLost), "a stale holder can write");
    assert_eq!(read(store, SCHOOL).await, Snapshot::default(), "a stale holder has written");
    let _ = store.release_lease(&school, stale).await;
    assert_eq!(acquire(store, TTL).await, None, "a stale holder has given away another's lease");
    assert!(store.apply(&school, &changes(holder)).await.is_ok(), "the holder can't write");
}

/// A reader sees a change set whole or not at all.
pub async fn shows_readers_all_or_nothing<S: MarkStore + 'static>(store: Arc<S>) {
    let set = |minute: u32| (1..=28).map(|day| put(AMELIA, day, minute)).collect::<Vec<_>>();
    write(&*store, SCHOOL, 9, set(1)).await;
    let writer = Arc::clone(&store);
    let writing = tokio::spawn(async move {
        for minute in 2..12 {
            write(&*writer, SCHOOL, 9 + i64::from(minute), set(minute)).await;
        }
    });
    loop {
        let is_last = writing.is_finished();
        let snapshot = read(&*store, SCHOOL).await;
        let mut times: Vec<_> = snapshot.marks().iter().map(|stored| stored.fetched_at).collect();
        times.dedup();
        assert_eq!(snapshot.marks().len(), 28, "a reader sees part of the marks");
        assert_eq!(times.len(), 1, "a reader sees half of a change set");
        if is_last {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(writing.await.is_ok(), "the writer has failed");
}
