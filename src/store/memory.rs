use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};

use super::kept::{KeptChange, KeptMark};
use super::{
    Change, ChangeCursor, ChangeSet, FeedEntry, HistoryQuery, LONGEST_LEASE, LeaseToken, MarkKey, MarkStore, Pruned,
    Run, RunQuery, Snapshot, StoreError, StoredMark, WithheldChange,
};
use crate::model::{MarkContent, SchoolId, Session, StudentId};
use crate::rules::{Freshness, Scope};

/// Keeps marks in memory, for tests and for runs that do not need the marks of the last run. Clones share their marks.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use rollmark::rules::{Scope, SyncWindow};
/// use rollmark::store::{MarkStore, MemoryStore};
///
/// let store = MemoryStore::new();
/// let scope = Scope::all(SyncWindow::default().ending("2026-11-20".parse()?));
/// assert!(store.read(&"school".into(), &scope).await?.marks().is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryStore(Arc<Mutex<HashMap<SchoolId, School>>>);

/// A student's live marks, sorted by place, each with the cursor of the change that made it. The content is held only in the
/// feed.
type LiveMarks = Vec<((NaiveDate, Session), ChangeCursor)>;

#[derive(Debug, Default)]
struct School {
    revision: u64,
    live: BTreeMap<StudentId, LiveMarks>,
    /// Oldest first.
    feed: Vec<Entry>,
    last_cursor: u64,
    /// Oldest first; the newest is never pruned.
    runs: Vec<Run>,
    /// When each run was applied.
    applied: BTreeMap<u64, DateTime<Utc>>,
    /// By run, for the runs that withheld anything.
    withheld: BTreeMap<u64, Vec<WithheldChange>>,
    last_token: u64,
    lease_until: Option<Instant>,
}

/// An entry of the feed, as it is kept.
#[derive(Debug)]
enum Entry {
    Changed(KeptChange),
    Erased { cursor: ChangeCursor, student: StudentId, applied_at: DateTime<Utc> },
}

impl Entry {
    fn cursor(&self) -> ChangeCursor {
        match self {
            Self::Changed(change) => change.cursor,
            Self::Erased { cursor, .. } => *cursor,
        }
    }
}

impl School {
    fn check_lease(&self, token: LeaseToken) -> Result<(), StoreError> {
        let held = self.lease_until.is_some_and(|until| Instant::now() < until);
        if held && token.number() == self.last_token { Ok(()) } else { Err(StoreError::lease_lost()) }
    }

    fn next_cursor(&mut self) -> ChangeCursor {
        self.last_cursor += 1;
        ChangeCursor::new(self.last_cursor)
    }

    /// The change in the feed that has this cursor.
    fn change(&self, cursor: ChangeCursor) -> Option<&KeptChange> {
        // If nothing was deleted, cursors count the entries.
        let counted = usize::try_from(cursor.number().saturating_sub(1)).ok()?;
        let place = match self.feed.get(counted) {
            Some(entry) if entry.cursor() == cursor => counted,
            _ => self.feed.binary_search_by_key(&cursor, Entry::cursor).ok()?,
        };
        if let Entry::Changed(change) = self.feed.get(place)? { Some(change) } else { None }
    }

    /// The content of the live mark at a place.
    fn content(&self, key: &MarkKey) -> Option<MarkContent> {
        let marks = self.live.get(&key.student)?;
        let place = marks.binary_search_by_key(&(key.date, key.session), |(place, _)| *place).ok()?;
        self.change(marks.get(place)?.1)?.content()
    }

    /// The live mark that a change has made.
    fn stored(&self, change: &KeptChange) -> Option<StoredMark> {
        let freshness = self.freshness_of(change)?;
        let (fetched_at, as_of) = (freshness.fetched_at, freshness.as_of_earliest());
        Some(StoredMark::new(change.key.clone(), change.content()?, fetched_at, as_of))
    }

    /// The freshness of the change's run, which exists as long as the change does.
    fn freshness_of(&self, change: &KeptChange) -> Option<Freshness> {
        let run = self.runs.binary_search_by_key(&change.run, |run| run.number).ok()?;
        Some(self.runs.get(run)?.freshness)
    }

    /// The change as callers see it.
    fn told(&self, change: &KeptChange) -> Option<Change> {
        Some(change.change(self.freshness_of(change)?.fetched_at, *self.applied.get(&change.run)?))
    }

    fn changes(&self) -> impl Iterator<Item = &KeptChange> {
        self.feed.iter().filter_map(|entry| if let Entry::Changed(change) = entry { Some(change) } else { None })
    }

    fn prune(&mut self, midnight: DateTime<Utc>) -> Pruned {
        // The last change of each mark before that midnight: it says what the store showed then.
        let mut last: HashMap<MarkKey, ChangeCursor> = HashMap::new();
        let seen_before =
            |change: &&KeptChange| self.freshness_of(change).is_some_and(|freshness| freshness.fetched_at < midnight);
        for change in self.changes().filter(seen_before) {
            last.insert(change.key.clone(), change.cursor);
        }
        let (entries_before, runs_before) = (self.changes().count(), self.runs.len());
        self.feed.retain_mut(|entry| match entry {
            Entry::Erased { applied_at, .. } => *applied_at >= midnight,
            Entry::Changed(change) => match last.get(&change.key) {
                Some(last) if *last > change.cursor => false,
                Some(last) if *last == change.cursor => {
                    change.before = None;
                    change.after.is_some()
                }
                _ => true,
            },
        });
        let mut needed: BTreeSet<u64> = self.changes().map(|change| change.run).collect();
        needed.extend(self.runs.last().map(|run| run.number));
        self.runs.retain(|run| run.freshness.fetched_at >= midnight || needed.contains(&run.number));
        let kept: BTreeSet<u64> = self.runs.iter().map(|run| run.number).collect();
        self.withheld.retain(|run, _| kept.contains(run));
        self.applied.retain(|run, _| kept.contains(run));
        Pruned::new((entries_before - self.changes().count()) as u64, (runs_before - self.runs.len()) as u64)
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SchoolId, School>> {
        // Every change below is made in one go, so a panic elsewhere can't leave a change half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl MarkStore for MemoryStore {
    async fn read(&self, school: &SchoolId, scope: &Scope) -> Result<Snapshot, StoreError> {
        let schools = self.lock();
        let Some(school) = schools.get(school) else { return Ok(Snapshot::default()) };
        let window = scope.window();
        let students = school.live.iter().filter(|(student, _)| scope.has_student(student));
        let marks = students.flat_map(|(_, marks)| marks).filter(|((date, _), _)| window.contains(*date));
        let live = marks.filter_map(|(_, cursor)| school.stored(school.change(*cursor)?));
        Ok(Snapshot::new(school.revision, live.collect()))
    }

    async fn apply(&self, school: &SchoolId, changes: &ChangeSet) -> Result<u64, StoreError> {
        let mut schools = self.lock();
        let school = schools.entry(school.clone()).or_default();
        if let Some(token) = changes.lease() {
            school.check_lease(token)?;
        }
        if school.revision != changes.revision() {
            return Err(StoreError::moved());
        }
        let number = school.runs.last().map_or(0, |run| run.number) + 1;
        school.applied.insert(number, Utc::now());
        let cursor_before = school.last_cursor;
        let writes = changes.writes();
        school.feed.reserve(writes.size_hint().1.unwrap_or_default());
        // A first load has nothing to compare with.
        let has_marks = !school.live.is_empty();
        for write in writes {
            let key = write.key();
            let before = if has_marks { school.content(&key).map(Arc::new) } else { None };
            match (&before, write.after()) {
                (None, None) => continue,
                (Some(before), Some(after)) if after.content().same_content(before) => continue,
                _ => {}
            }
            let cursor = school.next_cursor();
            let of_student = school.live.entry(key.student.clone()).or_default();
            let place = (key.date, key.session);
            match (of_student.binary_search_by_key(&place, |(place, _)| *place), write.after()) {
                (Ok(known), Some(_)) => of_student.iter_mut().skip(known).take(1).for_each(|(_, last)| *last = cursor),
                (Ok(known), None) => drop(of_student.remove(known)),
                (Err(new), Some(_)) => of_student.insert(new, (place, cursor)),
                (Err(_), None) => {}
            }
            let after = write.after().map(KeptMark::new);
            school.feed.push(Entry::Changed(KeptChange { key, cursor, run: number, before, after }));
        }
        school.revision += u64::from(school.last_cursor > cursor_before);
        school.runs.push(changes.run().clone().with_number(number));
        if !changes.withheld().is_empty() {
            let mut withheld = changes.withheld().to_vec();
            withheld.sort_by(|a, b| a.key.cmp(&b.key));
            school.withheld.insert(number, withheld);
            if school.withheld.len() > WithheldChange::RUNS_KEPT {
                school.withheld.pop_first();
            }
        }
        Ok(number)
    }

    async fn history(&self, school: &SchoolId, query: &HistoryQuery) -> Result<Vec<Change>, StoreError> {
        let schools = self.lock();
        let Some(school) = schools.get(school) else { return Ok(Vec::new()) };
        let fitting = school.changes().filter(|change| query.contains(&change.key));
        Ok(fitting.filter_map(|change| school.told(change)).collect())
    }

    async fn changes(
        &self,
        school: &SchoolId,
        after: Option<ChangeCursor>,
        limit: usize,
    ) -> Result<Vec<FeedEntry>, StoreError> {
        let schools = self.lock();
        let Some(school) = schools.get(school) else { return Ok(Vec::new()) };
        let seen = school.feed.partition_point(|entry| Some(entry.cursor()) <= after);
        let told = |entry: &Entry| match entry {
            Entry::Changed(change) => school.told(change).map(FeedEntry::Changed),
            Entry::Erased { cursor, student, applied_at } => {
                Some(FeedEntry::Erased { cursor: *cursor, student: student.clone(), applied_at: *applied_at })
            }
        };
        Ok(school.feed.iter().skip(seen).take(limit).filter_map(told).collect())
    }

    async fn runs(&self, school: &SchoolId, query: &RunQuery) -> Result<Vec<Run>, StoreError> {
        let schools = self.lock();
        let Some(school) = schools.get(school) else { return Ok(Vec::new()) };
        let fitting = school.runs.iter().rev().filter(|run| query.fits(run));
        let mut runs: Vec<Run> = fitting.take(query.newest().unwrap_or(usize::MAX)).cloned().collect();
        runs.reverse();
        Ok(runs)
    }

    async fn withheld(&self, school: &SchoolId, run: u64) -> Result<Option<Vec<WithheldChange>>, StoreError> {
        let schools = self.lock();
        let Some(school) = schools.get(school) else { return Ok(None) };
        if let Some(withheld) = school.withheld.get(&run) {
            return Ok(Some(withheld.clone()));
        }
        let run = school.runs.iter().find(|known| known.number == run);
        Ok(run.filter(|run| !run.withheld_any()).map(|_| Vec::new()))
    }

    async fn erase(&self, school: &SchoolId, student: &StudentId) -> Result<u64, StoreError> {
        let mut schools = self.lock();
        let school = schools.entry(school.clone()).or_default();
        let of_student = school.changes().map(|change| &change.key).filter(|key| key.student == *student);
        let places = of_student.collect::<BTreeSet<_>>().len() as u64;
        school.live.remove(student);
        school.feed.retain(|entry| match entry {
            Entry::Changed(change) => change.key.student != *student,
            Entry::Erased { student: erased, .. } => erased != student,
        });
        let cursor = school.next_cursor();
        school.feed.push(Entry::Erased { cursor, student: student.clone(), applied_at: Utc::now() });
        for withheld in school.withheld.values_mut() {
            withheld.retain(|change| change.key.student != *student);
        }
        school.runs = std::mem::take(&mut school.runs).into_iter().map(|run| run.without_student(student)).collect();
        school.revision += 1;
        Ok(places)
    }

    async fn prune(&self, school: &SchoolId, before: NaiveDate) -> Result<Pruned, StoreError> {
        let midnight = before.and_time(NaiveTime::MIN).and_utc();
        Ok(self.lock().get_mut(school).map(|school| school.prune(midnight)).unwrap_or_default())
    }

    async fn acquire_lease(&self, school: &SchoolId, ttl: Duration) -> Result<Option<LeaseToken>, StoreError> {
        let mut schools = self.lock();
        let school = schools.entry(school.clone()).or_default();
        if school.lease_until.is_some_and(|until| Instant::now() < until) {
            return Ok(None);
        }
        school.last_token += 1;
        school.lease_until = Some(Instant::now() + ttl.min(LONGEST_LEASE));
        Ok(Some(LeaseToken::new(school.last_token)))
    }

    async fn renew_lease(&self, school: &SchoolId, token: LeaseToken, ttl: Duration) -> Result<(), StoreError> {
        let mut schools = self.lock();
        let school = schools.entry(school.clone()).or_default();
        school.check_lease(token)?;
        school.lease_until = Some(Instant::now() + ttl.min(LONGEST_LEASE));
        Ok(())
    }

    async fn release_lease(&self, school: &SchoolId, token: LeaseToken) -> Result<(), StoreError> {
        if let Some(school) = self.lock().get_mut(school)
            && school.check_lease(token).is_ok()
        {
            school.lease_until = None;
        }
        Ok(())
    }
}
