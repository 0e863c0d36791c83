use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::{Change, ChangeSet, LeaseToken, MarkKey, MarkStore, Run, Snapshot, StoreError, StoredMark, Write};
use crate::model::{Mark, SchoolId};
use crate::rules::Scope;

/// Marks in memory, for tests and for runs that need no memory of the last one. Clones share their marks.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore(Arc<Mutex<HashMap<SchoolId, School>>>);

/// As good as for ever, and no sum of it and now goes over.
const LONGEST_LEASE: Duration = Duration::from_secs(366 * 24 * 3_600);

#[derive(Debug, Default)]
struct School {
    revision: u64,
    /// Oldest first; the last says what is live.
    changes: BTreeMap<MarkKey, Vec<Change>>,
    runs: Vec<Run>,
    last_token: u64,
    lease_until: Option<Instant>,
}

impl School {
    fn live(&self, key: &MarkKey) -> Option<&Arc<Mark>> {
        self.changes.get(key)?.last()?.after.as_ref()
    }

    fn check_lease(&self, token: LeaseToken) -> Result<(), StoreError> {
        let held = self.lease_until.is_some_and(|until| Instant::now() < until);
        if held && token.0 == self.last_token { Ok(()) } else { Err(StoreError::lease_lost()) }
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SchoolId, School>> {
        // Every change is made in one go below, so a panic elsewhere leaves no half of one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl MarkStore for MemoryStore {
    async fn read(&self, school: &SchoolId, scope: &Scope) -> Result<Snapshot, StoreError> {
        let schools = self.lock();
        let Some(school) = schools.get(school) else { return Ok(Snapshot::default()) };
        let in_scope = school.changes.iter().filter(|(key, _)| scope.contains(&key.student, key.date));
        let live = in_scope.filter_map(|(_, changes)| {
            let last = changes.last()?;
            Some(StoredMark { mark: Arc::clone(last.after.as_ref()?), fetched_at: last.seen_at })
        });
        Ok(Snapshot { revision: school.revision, marks: live.collect() })
    }

    async fn apply(&self, school: &SchoolId, changes: &ChangeSet) -> Result<u64, StoreError> {
        let mut schools = self.lock();
        let school = schools.entry(school.clone()).or_default();
        if let Some(token) = changes.lease {
            school.check_lease(token)?;
        }
        if school.revision != changes.revision {
            return Err(StoreError::moved());
        }
        let number = school.runs.len() as u64 + 1;
        let seen_at = changes.run.freshness.fetched_at;
        let mut changed = false;
        for write in &changes.writes {
            let key = write.key();
            let before = school.live(&key).cloned();
            let after = match write {
                Write::Put(mark) => Some(Arc::clone(mark)),
                Write::Remove(_) => None,
            };
            match (&before, &after) {
                (None, None) => continue,
                (Some(before), Some(after)) if before.same_content(after) => continue,
                _ => {}
            }
            changed = true;
            let changes = school.changes.entry(key).or_default();
            // Most marks never change again.
            changes.reserve_exact(1);
            changes.push(Change { run: number, seen_at, before, after });
        }
        school.revision += u64::from(changed);
        school.runs.push(Run { number, ..changes.run.clone() });
        Ok(number)
    }

    async fn history(&self, school: &SchoolId, key: &MarkKey) -> Result<Vec<Change>, StoreError> {
        let schools = self.lock();
        Ok(schools.get(school).and_then(|school| school.changes.get(key)).cloned().unwrap_or_default())
    }

    async fn runs(&self, school: &SchoolId) -> Result<Vec<Run>, StoreError> {
        Ok(self.lock().get(school).map(|school| school.runs.clone()).unwrap_or_default())
    }

    async fn acquire_lease(&self, school: &SchoolId, ttl: Duration) -> Result<Option<LeaseToken>, StoreError> {
        let mut schools = self.lock();
        let school = schools.entry(school.clone()).or_default();
        if school.lease_until.is_some_and(|until| Instant::now() < until) {
            return Ok(None);
        }
        school.last_token += 1;
        school.lease_until = Some(Instant::now() + ttl.min(LONGEST_LEASE));
        Ok(Some(LeaseToken(school.last_token)))
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
