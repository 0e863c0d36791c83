//! Stores that break a promise each, and what the conformance suite says of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{NaiveDate, SubsecRound};
use futures::{StreamExt, stream};
use rollmark::model::{MarkContent, SchoolId, Session, StudentId};
use rollmark::rules::{Scope, Window};
use rollmark::store::{
    Change, ChangeCursor, ChangeSet, FeedEntry, HistoryQuery, LeaseToken, MarkKey, MarkStore, MemoryStore, Pruned, Run,
    RunQuery, Snapshot, StoreError, StoreErrorKind, WithheldChange, Write,
};
use rollmark::testing::conformance::store::{StoreHarness, every};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Defect {
    AppliesWithoutALock,
    LocksNoRowThatIsNotThere,
    IgnoresCaseInIds,
    LetsExpiredLeasesWrite,
    RenewsExpiredLeases,
    ComparesEveryField,
    WritesEqualContent,
    ReadsTheRevisionLater,
    CutsTimesToSeconds,
    CutsTimesToMilliseconds,
    CutsSeenTimesToMilliseconds,
    SharesHistory,
    SharesRuns,
    SharesTheFeed,
    RecordsRefusedRuns,
    AppliesWriteByWrite,
    IgnoresTheRevision,
    LosesRemovals,
    LeavesTheLastDateOut,
    GivesALeaseTwice,
    SharesTheLease,
    LetsAnybodyGiveALeaseBack,
    RepeatsTheCursorsEntry,
    LeavesAnEntryOut,
    ErasesMarksOnly,
    ErasesWithoutAnEntry,
    PrunesTheLastChange,
    PrunesEverySchool,
    ForgetsWhenReopened,
    FailsHalfway,
    OrdersIdsByCollation,
    RecordsTheRunLater,
    FeedsARunBackwards,
    FeedsByTheTimeOfTheFetch,
    GivesMoreThanAsked,
    CutsStampsToSeconds,
    TakesTheFetchForItsOldestReply,
    TakesTheFetchForTheWriting,
    ReadsTheRevisionEarlier,
    TakesTheRevisionFromTheScope,
    IgnoresStudents,
    IgnoresSessions,
    ComparesStatusAndCodeOnly,
    CoversByDatesOnly,
    HoldsRemovedSessions,
    ForgetsPurposes,
    CountsTokensFromOne,
    EndsLeasesEarly,
    AsksForNoLease,
    LetsGivenBackLeasesWrite,
    TakesAnyToken,
    ErasesNoScopes,
    ErasesWithoutALock,
    KeepsWithheldOfTheErased,
    KeepsWithheldOfPrunedRuns,
    PrunesNothing,
    PrunesNeededRuns,
    LosesWithheld,
    SharesWithheld,
    KeepsNoOlderWithheld,
    SavesWithheldAfterwards,
    FailsWhereRunsMeet,
    RefusesOtherSchoolsMeanwhile,
    FeedsTooEarly,
    RefusesLargeSets,
    LosesCodeNames,
    EndsLeasesInHalf,
    CountsErasuresAsChanges,
    ErasesInUnknownSchoolsSilently,
}

/// What holds for every defect: which promise the suite says is broken.
const CAUGHT: [(Defect, &str); 69] = [
    (
        Defect::AppliesWithoutALock,
        "of runs that were planned from one revision only one writes, and the others are refused",
    ),
    (
        Defect::LocksNoRowThatIsNotThere,
        "of the first runs of a school that meet one writes, and the others are refused",
    ),
    (Defect::IgnoresCaseInIds, "ids that differ in anything, case and accents too, are different students"),
    (Defect::LetsExpiredLeasesWrite, "a lease that has run out may not write"),
    (Defect::RenewsExpiredLeases, "a lease that has run out may not be renewed"),
    (Defect::ComparesEveryField, "equal content (MarkContent::same_content) and removals of nothing change nothing"),
    (Defect::WritesEqualContent, "equal content (MarkContent::same_content) and removals of nothing change nothing"),
    (Defect::ReadsTheRevisionLater, "the marks and the revision of a read are of one moment"),
    (Defect::CutsTimesToSeconds, "times are kept to the microsecond"),
    (Defect::CutsTimesToMilliseconds, "times are kept to the microsecond"),
    (Defect::CutsSeenTimesToMilliseconds, "times are kept to the microsecond"),
    (Defect::SharesHistory, "a school shows nothing of another's, and changes nothing there"),
    (Defect::SharesRuns, "a school shows nothing of another's, and changes nothing there"),
    (Defect::SharesTheFeed, "a school shows nothing of another's, and changes nothing there"),
    (
        Defect::RecordsRefusedRuns,
        "a plan from another revision is refused, and nothing of it is written, its run neither",
    ),
    (Defect::AppliesWriteByWrite, "every run is recorded as it was, in order, numbered from 1"),
    (
        Defect::IgnoresTheRevision,
        "a plan from another revision is refused, and nothing of it is written, its run neither",
    ),
    (
        Defect::LosesRemovals,
        "a mark's history holds every change, oldest first, with what was there before, removals too",
    ),
    (Defect::LeavesTheLastDateOut, "a read holds the scope's students and dates, both ends included"),
    (Defect::GivesALeaseTwice, "a school's lease is one holder's until it is given back or runs out"),
    (Defect::SharesTheLease, "each school has a lease of its own"),
    (
        Defect::LetsAnybodyGiveALeaseBack,
        "who has lost a lease to another can neither write nor renew it, and gives nobody's away",
    ),
    (Defect::RepeatsTheCursorsEntry, "reading on from a cursor leaves nothing out and repeats nothing"),
    (Defect::LeavesAnEntryOut, "reading on from a cursor leaves nothing out and repeats nothing"),
    (Defect::ErasesMarksOnly, "of an erased student nothing is left but the feed's entry, and of others everything"),
    (Defect::ErasesWithoutAnEntry, "the feed tells of an erasure at a new cursor"),
    (Defect::PrunesTheLastChange, "pruning changes nothing that the store shows from that date on"),
    (Defect::PrunesEverySchool, "a school shows nothing of another's, and changes nothing there"),
    (Defect::ForgetsWhenReopened, "what was applied is there for whoever opens the store"),
    (Defect::FailsHalfway, "a call that fails leaves everything as it was"),
    (Defect::OrdersIdsByCollation, "students sort by code point (b after B, é after z)"),
    (Defect::RecordsTheRunLater, "a run, its marks and its history become visible together"),
    (Defect::FeedsARunBackwards, "the feed holds every change once, in the order in which they were applied"),
    (Defect::FeedsByTheTimeOfTheFetch, "the feed holds every change once, in the order in which they were applied"),
    (Defect::GivesMoreThanAsked, "the feed gives as many entries as asked, and no more"),
    (Defect::CutsStampsToSeconds, "times are kept to the microsecond"),
    (
        Defect::TakesTheFetchForItsOldestReply,
        "a mark says what its run's fetch can show at the earliest (Freshness::as_of_earliest)",
    ),
    (Defect::TakesTheFetchForTheWriting, "a change says when it was written, by the store's own clock"),
    (Defect::ReadsTheRevisionEarlier, "the marks and the revision of a read are of one moment"),
    (Defect::TakesTheRevisionFromTheScope, "the revision is the school's, whatever the scope"),
    (Defect::IgnoresStudents, "a scope's student is that id and no other"),
    (Defect::IgnoresSessions, "a history can be narrowed to a session"),
    (
        Defect::ComparesStatusAndCodeOnly,
        "a mark that differs in any field that MarkContent::same_content compares is written",
    ),
    (Defect::CoversByDatesOnly, "the last covering run is the newest whose scope has the student and date"),
    (Defect::HoldsRemovedSessions, "a session is held where anybody has a mark"),
    (Defect::ForgetsPurposes, "a query for runs goes by purpose, time and number together"),
    (Defect::CountsTokensFromOne, "tokens of a school grow"),
    (Defect::EndsLeasesEarly, "a lease lasts as long as was asked for, and a renewed one from its renewal on"),
    (Defect::AsksForNoLease, "a lease that has run out may not write"),
    (Defect::LetsGivenBackLeasesWrite, "who has given a lease back can neither write nor renew it"),
    (Defect::TakesAnyToken, "a token that the school never gave is refused"),
    (Defect::ErasesNoScopes, "no run names an erased student"),
    (Defect::ErasesWithoutALock, "an erasure and a run that meet take turns, and the student stays erased"),
    (Defect::KeepsWithheldOfTheErased, "what runs withheld of an erased student is gone, and of others it stays"),
    (Defect::KeepsWithheldOfPrunedRuns, "what a run withheld goes with the run"),
    (Defect::PrunesNothing, "pruning deletes what nobody sees from that date on"),
    (Defect::PrunesNeededRuns, "runs from before the date go, unless a change needs them or they are the newest"),
    (Defect::LosesWithheld, "what a run withheld comes back with its reasons, by student, date and session"),
    (Defect::SharesWithheld, "a school shows nothing of another's, and changes nothing there"),
    (
        Defect::KeepsNoOlderWithheld,
        "the lists of a school's newest runs that withheld anything (WithheldChange::RUNS_KEPT) are kept",
    ),
    (Defect::SavesWithheldAfterwards, "a call that is dropped leaves all or nothing"),
    (Defect::FailsWhereRunsMeet, "of the first runs of a school that meet one writes, and the others are refused"),
    (Defect::RefusesOtherSchoolsMeanwhile, "schools that write at once write as if each were alone"),
    (Defect::FeedsTooEarly, "a reader that follows the feed beside writers misses nothing and gets nothing twice"),
    (Defect::RefusesLargeSets, "a change set can hold a whole school"),
    (Defect::LosesCodeNames, "a mark that differs in any field that MarkContent::same_content compares is written"),
    (Defect::EndsLeasesInHalf, "a lease lasts as long as was asked for, and a renewed one from its renewal on"),
    (Defect::CountsErasuresAsChanges, "pruning says how many changes it has deleted, and counts no erasure"),
    (Defect::ErasesInUnknownSchoolsSilently, "the feed tells of an erasure at a new cursor"),
];

/// A store in memory with one defect.
#[derive(Clone, Debug)]
struct Broken {
    store: MemoryStore,
    defect: Defect,
    /// At which write the next call fails; 0 is at none.
    fails_at: Arc<AtomicU32>,
    leases: Arc<Mutex<BTreeMap<SchoolId, LeaseToken>>>,
    memory: Arc<Mutex<Memory>>,
}

/// What some of the defects have to know.
#[derive(Debug, Default)]
struct Memory {
    /// Runs that were recorded, by school.
    recorded: BTreeMap<SchoolId, usize>,
    /// Runs as they were before an erasure.
    runs: BTreeMap<SchoolId, Vec<Run>>,
    withheld: BTreeMap<(SchoolId, u64), Vec<WithheldChange>>,
    pruned: BTreeMap<SchoolId, NaiveDate>,
    given: u64,
    is_writing: bool,
}

impl Broken {
    fn is(&self, defect: Defect) -> bool {
        self.defect == defect
    }

    /// The change set, from the revision that the store has when it comes to write.
    async fn at_any_revision(&self, school: &SchoolId, changes: &ChangeSet) -> Result<ChangeSet, StoreError> {
        let revision = self.store.read(school, &changes.run().scope).await?.revision();
        Ok(rewritten(changes, revision, changes.writes().collect()))
    }

    /// Looks at the revision first and writes later, whatever has come between.
    async fn check_then_write(&self, school: &SchoolId, changes: &ChangeSet) -> Result<u64, StoreError> {
        if self.store.read(school, &changes.run().scope).await?.revision() != changes.revision() {
            return Err(StoreError::moved());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
        self.store.apply(school, &self.at_any_revision(school, changes).await?).await
    }

    fn other(school: &SchoolId) -> SchoolId {
        if school.as_str() == "conformance" { "conformance-other" } else { "conformance" }.into()
    }
}

/// The change set with other writes, at another revision.
fn rewritten(changes: &ChangeSet, revision: u64, writes: Vec<Write>) -> ChangeSet {
    let again = ChangeSet::new(revision, changes.run().clone()).with_writes(writes);
    let again = again.with_withheld(changes.withheld().to_vec());
    changes.lease().map_or(again.clone(), |lease| again.with_lease(lease))
}

fn without_lease(changes: &ChangeSet) -> ChangeSet {
    let again = ChangeSet::new(changes.revision(), changes.run().clone()).with_writes(changes.writes().collect());
    again.with_withheld(changes.withheld().to_vec())
}

fn entry_run(entry: &FeedEntry) -> u64 {
    if let FeedEntry::Changed(change) = entry { change.run } else { 0 }
}

fn set_cursor(entry: &mut FeedEntry, new: ChangeCursor) {
    if let FeedEntry::Changed(change) = entry {
        change.cursor = new;
    }
}

/// The mark's student without the case of its letters.
fn without_case(write: &Write) -> Write {
    match write {
        Write::Put(mark) => {
            let mut mark = rollmark::model::Mark::clone(mark);
            mark.student = StudentId::new(mark.student.as_str().to_lowercase());
            Write::Put(Arc::new(mark))
        }
        Write::Remove(key) => Write::Remove(MarkKey::new(key.student.as_str().to_lowercase(), key.date, key.session)),
    }
}

#[async_trait]
impl MarkStore for Broken {
    async fn read(&self, school: &SchoolId, scope: &Scope) -> Result<Snapshot, StoreError> {
        let found = self.store.read(school, scope).await?;
        let mut marks = found.marks().to_vec();
        let mut revision = found.revision();
        match self.defect {
            Defect::CutsTimesToSeconds => {
                marks.iter_mut().for_each(|mark| mark.fetched_at = mark.fetched_at.trunc_subsecs(0))
            }
            Defect::CutsTimesToMilliseconds => {
                marks.iter_mut().for_each(|mark| mark.fetched_at = mark.fetched_at.trunc_subsecs(3));
            }
            Defect::ReadsTheRevisionLater => {
                tokio::time::sleep(Duration::from_millis(1)).await;
                revision = self.store.read(school, scope).await?.revision();
            }
            Defect::CutsStampsToSeconds | Defect::LosesCodeNames => marks.iter_mut().for_each(|mark| {
                let mut content = MarkContent::clone(&mark.content);
                match self.defect {
                    Defect::LosesCodeNames => content.code_name = None,
                    _ => content.last_updated = content.last_updated.map(|stamp| stamp.trunc_subsecs(0)),
                }
                mark.content = Arc::new(content);
            }),
            Defect::TakesTheFetchForItsOldestReply => {
                marks.iter_mut().for_each(|mark| mark.as_of_earliest = mark.fetched_at);
            }
            Defect::ReadsTheRevisionEarlier => {
                tokio::time::sleep(Duration::from_millis(1)).await;
                marks = self.store.read(school, scope).await?.marks().to_vec();
            }
            Defect::TakesTheRevisionFromTheScope if marks.is_empty() => revision = 0,
            Defect::IgnoresStudents => {
                let all = self.store.read(school, &Scope::all(scope.window())).await?;
                marks = all.marks().to_vec();
            }
            Defect::LeavesTheLastDateOut => marks.retain(|mark| mark.key.date < scope.window().to()),
            _ => return Ok(found),
        }
        Ok(Snapshot::new(revision, marks))
    }

    async fn apply(&self, school: &SchoolId, changes: &ChangeSet) -> Result<u64, StoreError> {
        let run = changes.run();
        match self.defect {
            Defect::AppliesWithoutALock if changes.revision() > 0 => self.check_then_write(school, changes).await,
            Defect::LocksNoRowThatIsNotThere if changes.revision() == 0 => self.check_then_write(school, changes).await,
            Defect::IgnoresTheRevision => {
                let changes = self.at_any_revision(school, changes).await?;
                self.store.apply(school, &changes).await
            }
            Defect::IgnoresCaseInIds => {
                let writes = changes.writes().map(|write| without_case(&write)).collect();
                self.store.apply(school, &rewritten(changes, changes.revision(), writes)).await
            }
            Defect::LetsExpiredLeasesWrite => {
                let newest = self.leases.lock().unwrap().get(school).copied();
                if changes.lease().is_some_and(|lease| Some(lease) != newest) {
                    return Err(StoreError::lease_lost());
                }
                let unleased = ChangeSet::new(changes.revision(), run.clone()).with_writes(changes.writes().collect());
                let unleased = unleased.with_withheld(changes.withheld().to_vec());
                self.store.apply(school, &unleased).await
            }
            Defect::ComparesEveryField | Defect::WritesEqualContent => {
                let held = self.store.read(school, &run.scope).await?;
                let is_written = |write: &Write| {
                    let Some(after) = write.after() else { return false };
                    let known = held.marks().iter().find(|stored| stored.key == write.key());
                    known.is_some_and(|known| self.is(Defect::WritesEqualContent) || *known.content != after.content())
                };
                let mut revision = changes.revision();
                let removals: Vec<Write> =
                    changes.writes().filter(is_written).map(|write| Write::Remove(write.key())).collect();
                if !removals.is_empty() {
                    self.store.apply(school, &ChangeSet::new(revision, run.clone()).with_writes(removals)).await?;
                    revision = self.store.read(school, &run.scope).await?.revision();
                }
                self.store.apply(school, &rewritten(changes, revision, changes.writes().collect())).await
            }
            Defect::RecordsRefusedRuns => {
                let applied = self.store.apply(school, changes).await;
                if applied.as_ref().is_err_and(|error| error.kind() == StoreErrorKind::Moved) {
                    let nothing = ChangeSet::new(changes.revision(), run.clone());
                    let nothing = self.at_any_revision(school, &nothing).await?;
                    self.store.apply(school, &nothing).await?;
                }
                applied
            }
            Defect::AppliesWriteByWrite | Defect::FailsHalfway => {
                if self.is(Defect::FailsHalfway) && self.fails_at.load(Ordering::Relaxed) == 0 {
                    return self.store.apply(school, changes).await;
                }
                let mut last = self.store.apply(school, &ChangeSet::new(changes.revision(), run.clone())).await?;
                for (number, write) in (1..).zip(changes.writes()) {
                    if self.fails_at.load(Ordering::Relaxed) == number {
                        self.fails_at.store(0, Ordering::Relaxed);
                        return Err(StoreError::new(StoreErrorKind::CannotOpen, "made to fail"));
                    }
                    let revision = self.store.read(school, &run.scope).await?.revision();
                    let one = ChangeSet::new(revision, run.clone()).with_writes(vec![write]);
                    last = self.store.apply(school, &one).await?;
                }
                Ok(last)
            }
            Defect::LosesRemovals => {
                let puts = changes.writes().filter(|write| write.after().is_some()).collect();
                self.store.apply(school, &rewritten(changes, changes.revision(), puts)).await
            }
            Defect::RecordsTheRunLater => {
                let number = self.store.apply(school, changes).await?;
                tokio::time::sleep(Duration::from_millis(1)).await;
                self.memory.lock().unwrap().recorded.insert(school.clone(), number as usize);
                Ok(number)
            }
            Defect::ComparesStatusAndCodeOnly => {
                let held = self.store.read(school, &run.scope).await?;
                let looks_other = |write: &Write| {
                    let known = held.marks().iter().find(|stored| stored.key == write.key());
                    let shown = |content: &MarkContent| (content.status, content.code.clone());
                    let after = write.after().map(|mark| shown(&mark.content()));
                    known.is_none_or(|known| after != Some(shown(&known.content)))
                };
                let writes = changes.writes().filter(looks_other).collect();
                self.store.apply(school, &rewritten(changes, changes.revision(), writes)).await
            }
            Defect::AsksForNoLease => self.store.apply(school, &without_lease(changes)).await,
            Defect::LetsGivenBackLeasesWrite => {
                let is_back = changes.lease().is_some() && self.memory.lock().unwrap().given > 0;
                let unleased = without_lease(changes);
                self.store.apply(school, if is_back { &unleased } else { changes }).await
            }
            Defect::TakesAnyToken => {
                let newest = self.leases.lock().unwrap().get(school).copied();
                let is_newer = changes.lease() > newest;
                let unleased = without_lease(changes);
                self.store.apply(school, if is_newer { &unleased } else { changes }).await
            }
            Defect::ErasesWithoutALock => match self.store.apply(school, changes).await {
                Err(error) if error.kind() == StoreErrorKind::Moved && self.memory.lock().unwrap().is_writing => {
                    self.store.apply(school, &self.at_any_revision(school, changes).await?).await
                }
                applied => applied,
            },
            Defect::LosesWithheld => {
                let none = ChangeSet::new(changes.revision(), run.clone()).with_writes(changes.writes().collect());
                self.store.apply(school, &changes.lease().map_or(none.clone(), |lease| none.with_lease(lease))).await
            }
            Defect::SavesWithheldAfterwards | Defect::KeepsNoOlderWithheld => {
                let number = self.store.apply(school, changes).await?;
                tokio::time::sleep(Duration::from_millis(1)).await;
                self.memory.lock().unwrap().recorded.insert(school.clone(), number as usize);
                Ok(number)
            }
            Defect::RefusesOtherSchoolsMeanwhile | Defect::FailsWhereRunsMeet => {
                if std::mem::replace(&mut self.memory.lock().unwrap().is_writing, true) {
                    let failed = StoreError::new(StoreErrorKind::Failed, "deadlock detected");
                    return Err(if self.is(Defect::FailsWhereRunsMeet) { failed } else { StoreError::moved() });
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
                let applied = self.store.apply(school, changes).await;
                self.memory.lock().unwrap().is_writing = false;
                applied
            }
            Defect::RefusesLargeSets if changes.writes().count() > 5_000 => {
                Err(StoreError::new(StoreErrorKind::Failed, "too many parameters"))
            }
            _ => self.store.apply(school, changes).await,
        }
    }

    async fn history(&self, school: &SchoolId, query: &HistoryQuery) -> Result<Vec<Change>, StoreError> {
        let mut found = self.store.history(school, query).await?;
        if self.is(Defect::SharesHistory) {
            found.extend(self.store.history(&Self::other(school), query).await?);
        }
        if self.is(Defect::IgnoresSessions) {
            found = self.store.history(school, &HistoryQuery::new(query.scope().clone())).await?;
        }
        if self.is(Defect::TakesTheFetchForTheWriting) {
            found.iter_mut().for_each(|change| change.applied_at = change.seen_at);
        }
        if self.is(Defect::CutsSeenTimesToMilliseconds) {
            found.iter_mut().for_each(|change| change.seen_at = change.seen_at.trunc_subsecs(3));
        }
        Ok(found)
    }

    async fn changes(
        &self,
        school: &SchoolId,
        after: Option<ChangeCursor>,
        limit: usize,
    ) -> Result<Vec<FeedEntry>, StoreError> {
        let all = self.store.changes(school, None, usize::MAX).await?;
        let of_others = self.store.changes(&Self::other(school), after, limit).await?;
        let from = all.iter().position(|entry| Some(entry.cursor()) == after);
        match self.defect {
            Defect::SharesTheFeed if all.is_empty() => Ok(of_others),
            // Where entries remain; else it would never end.
            Defect::RepeatsTheCursorsEntry if from.is_some_and(|from| from + 1 < all.len()) => {
                let from = from.unwrap();
                Ok(all.into_iter().skip(from).take(limit.max(2)).collect())
            }
            Defect::FeedsARunBackwards => {
                let mut found = self.store.changes(school, after, limit).await?;
                let cursors: Vec<ChangeCursor> = found.iter().map(FeedEntry::cursor).collect();
                found.sort_by_key(|entry| (entry_run(entry), std::cmp::Reverse(entry.cursor())));
                found.iter_mut().zip(cursors).for_each(|(entry, cursor)| set_cursor(entry, cursor));
                Ok(found)
            }
            Defect::FeedsByTheTimeOfTheFetch => {
                let mut found = self.store.changes(school, after, limit).await?;
                found.sort_by_key(
                    |entry| if let FeedEntry::Changed(change) = entry { Some(change.seen_at) } else { None },
                );
                Ok(found)
            }
            Defect::GivesMoreThanAsked => self.store.changes(school, after, limit.saturating_add(1)).await,
            // What a run has just written is there for those who come from the beginning only.
            Defect::FeedsTooEarly if after.is_some() && !all.is_empty() => {
                let newest = all.last().map(entry_run).unwrap_or_default();
                let mut found = self.store.changes(school, after, limit).await?;
                if found.len() > 1 && found.iter().all(|entry| entry_run(entry) == newest && newest % 7 == 3) {
                    found.remove(0);
                }
                Ok(found)
            }
            Defect::LeavesAnEntryOut => {
                let mut found = self.store.changes(school, after, limit.saturating_add(1)).await?;
                if after.is_some() && found.len() > 1 {
                    found.remove(0);
                }
                found.truncate(limit);
                Ok(found)
            }
            _ => self.store.changes(school, after, limit).await,
        }
    }

    async fn runs(&self, school: &SchoolId, query: &RunQuery) -> Result<Vec<Run>, StoreError> {
        let all = RunQuery::all();
        let query = if self.is(Defect::ForgetsPurposes) && query.purposes().is_some() { &all } else { query };
        let mut found = self.store.runs(school, query).await?;
        if self.is(Defect::SharesRuns) && found.is_empty() {
            found = self.store.runs(&Self::other(school), query).await?;
        }
        let memory = self.memory.lock().unwrap();
        match self.defect {
            Defect::RecordsTheRunLater => {
                let recorded = memory.recorded.get(school).copied().unwrap_or_default();
                found.retain(|run| run.number as usize <= recorded);
            }
            Defect::ErasesNoScopes => found = memory.runs.get(school).cloned().unwrap_or(found),
            Defect::PrunesNeededRuns => {
                let is_left = |run: &Run| {
                    memory.pruned.get(school).is_none_or(|date| run.freshness.fetched_at.date_naive() >= *date)
                };
                let newest = found.last().map(|run| run.number);
                found.retain(|run| is_left(run) || Some(run.number) == newest);
            }
            _ => {}
        }
        Ok(found)
    }

    async fn withheld(&self, school: &SchoolId, run: u64) -> Result<Option<Vec<WithheldChange>>, StoreError> {
        let mut found = self.store.withheld(school, run).await?;
        if found.is_none() && self.is(Defect::SharesWithheld) {
            return self.store.withheld(&Self::other(school), run).await;
        }
        let mut memory = self.memory.lock().unwrap();
        match (self.defect, &mut found) {
            (Defect::OrdersIdsByCollation, Some(list)) => {
                list.sort_by_key(|change| (change.key.student.as_str().to_lowercase(), change.key.clone()));
            }
            (Defect::KeepsWithheldOfTheErased | Defect::KeepsWithheldOfPrunedRuns, found) => {
                let keeps = matches!(
                    (&found, self.defect),
                    (None, Defect::KeepsWithheldOfPrunedRuns) | (Some(_), Defect::KeepsWithheldOfTheErased)
                );
                match found {
                    Some(list) if !memory.withheld.contains_key(&(school.clone(), run)) => {
                        memory.withheld.insert((school.clone(), run), list.clone());
                    }
                    _ if keeps => *found = memory.withheld.get(&(school.clone(), run)).cloned(),
                    _ => {}
                }
            }
            (Defect::KeepsNoOlderWithheld, Some(list)) => {
                let newest = memory.recorded.get(school).copied().unwrap_or_default() as u64;
                if run + 12 < newest {
                    list.clear();
                }
            }
            (Defect::SavesWithheldAfterwards, Some(list))
                if memory.recorded.get(school).copied().unwrap_or_default() < run as usize =>
            {
                list.clear();
            }
            _ => {}
        }
        Ok(found)
    }

    async fn last_covering_run(
        &self,
        school: &SchoolId,
        student: &StudentId,
        date: NaiveDate,
    ) -> Result<Option<Run>, StoreError> {
        if self.is(Defect::CoversByDatesOnly) {
            let runs = self.store.runs(school, &RunQuery::all()).await?;
            return Ok(runs.into_iter().rev().find(|run| run.scope.window().contains(date)));
        }
        self.store.last_covering_run(school, student, date).await
    }

    async fn sessions_held(
        &self,
        school: &SchoolId,
        window: Window,
    ) -> Result<BTreeSet<(NaiveDate, Session)>, StoreError> {
        if self.is(Defect::HoldsRemovedSessions) {
            let history = self.store.history(school, &HistoryQuery::new(Scope::all(window))).await?;
            return Ok(history.into_iter().map(|change| (change.key.date, change.key.session)).collect());
        }
        self.store.sessions_held(school, window).await
    }

    async fn erase(&self, school: &SchoolId, student: &StudentId) -> Result<u64, StoreError> {
        match self.defect {
            Defect::ErasesMarksOnly => {
                let scope = Scope::all(Window::between(NaiveDate::MIN, NaiveDate::MAX).unwrap());
                let held = self.store.read(school, &scope).await?;
                let keys = held.marks().iter().map(|stored| stored.key.clone()).filter(|key| key.student == *student);
                let writes: Vec<Write> = keys.map(Write::Remove).collect();
                let erased = writes.len() as u64;
                let Some(run) = self.store.runs(school, &RunQuery::all()).await?.pop() else { return Ok(0) };
                self.store.apply(school, &ChangeSet::new(held.revision(), run).with_writes(writes)).await?;
                Ok(erased)
            }
            Defect::ErasesWithoutAnEntry => {
                let erased = self.store.erase(school, student).await?;
                self.store.erase(school, &"somebody else".into()).await?;
                Ok(erased)
            }
            Defect::ErasesNoScopes => {
                let runs = self.store.runs(school, &RunQuery::all()).await?;
                self.memory.lock().unwrap().runs.insert(school.clone(), runs);
                self.store.erase(school, student).await
            }
            Defect::ErasesWithoutALock => {
                self.memory.lock().unwrap().is_writing = true;
                let erased = self.store.erase(school, student).await;
                tokio::time::sleep(Duration::from_millis(2)).await;
                self.memory.lock().unwrap().is_writing = false;
                erased
            }
            Defect::KeepsWithheldOfTheErased => {
                for run in self.store.runs(school, &RunQuery::all()).await? {
                    self.withheld(school, run.number).await?;
                }
                self.store.erase(school, student).await
            }
            Defect::ErasesInUnknownSchoolsSilently if self.store.runs(school, &RunQuery::all()).await?.is_empty() => {
                Ok(0)
            }
            _ => self.store.erase(school, student).await,
        }
    }

    async fn prune(&self, school: &SchoolId, before: NaiveDate) -> Result<Pruned, StoreError> {
        match self.defect {
            Defect::PrunesTheLastChange => {
                self.store.prune(school, before).await?;
                // A day further than asked: what was shown at that midnight is gone.
                self.store.prune(school, before + chrono::Days::new(1)).await?;
                Ok(Pruned::new(3, 1))
            }
            Defect::PrunesEverySchool => {
                self.store.prune(&Self::other(school), before).await?;
                self.store.prune(school, before).await
            }
            Defect::PrunesNothing => Ok(Pruned::new(0, 0)),
            Defect::CountsErasuresAsChanges => {
                let is_erasure = |entry: &FeedEntry| matches!(entry, FeedEntry::Erased { .. });
                let before_it = self.store.changes(school, None, usize::MAX).await?;
                let pruned = self.store.prune(school, before).await?;
                let after_it = self.store.changes(school, None, usize::MAX).await?;
                let erasures = |entries: &[FeedEntry]| entries.iter().filter(|entry| is_erasure(entry)).count();
                let gone = erasures(&before_it) - erasures(&after_it);
                Ok(Pruned::new(pruned.changes + gone as u64, pruned.runs))
            }
            Defect::PrunesNeededRuns => {
                self.memory.lock().unwrap().pruned.insert(school.clone(), before);
                self.store.prune(school, before).await
            }
            Defect::KeepsWithheldOfPrunedRuns => {
                for run in self.store.runs(school, &RunQuery::all()).await? {
                    self.withheld(school, run.number).await?;
                }
                self.store.prune(school, before).await
            }
            _ => self.store.prune(school, before).await,
        }
    }

    async fn acquire_lease(&self, school: &SchoolId, ttl: Duration) -> Result<Option<LeaseToken>, StoreError> {
        let school = if self.is(Defect::SharesTheLease) { &"all".into() } else { school };
        let ttl = match self.defect {
            Defect::EndsLeasesEarly => ttl / 1_000,
            Defect::EndsLeasesInHalf => ttl / 2,
            _ => ttl,
        };
        let token = self.store.acquire_lease(school, ttl).await?;
        if self.is(Defect::CountsTokensFromOne) {
            return Ok(token.map(|_| LeaseToken::new(1)));
        }
        if self.is(Defect::GivesALeaseTwice) && token.is_none() {
            return Ok(self.leases.lock().unwrap().get(school).copied());
        }
        if let Some(token) = token {
            self.leases.lock().unwrap().insert(school.clone(), token);
        }
        Ok(token)
    }

    async fn renew_lease(&self, school: &SchoolId, token: LeaseToken, ttl: Duration) -> Result<(), StoreError> {
        let school = if self.is(Defect::SharesTheLease) { &"all".into() } else { school };
        let newest = self.leases.lock().unwrap().get(school).copied();
        if self.is(Defect::RenewsExpiredLeases) && newest == Some(token) {
            return Ok(());
        }
        let token = if self.is(Defect::CountsTokensFromOne) { newest.unwrap_or(token) } else { token };
        self.store.renew_lease(school, token, ttl).await
    }

    async fn release_lease(&self, school: &SchoolId, token: LeaseToken) -> Result<(), StoreError> {
        let school = if self.is(Defect::SharesTheLease) { &"all".into() } else { school };
        let newest = self.leases.lock().unwrap().get(school).copied();
        let token = if self.is(Defect::LetsAnybodyGiveALeaseBack) { newest.unwrap_or(token) } else { token };
        let is_real = newest == Some(token) && self.is(Defect::LetsGivenBackLeasesWrite);
        self.memory.lock().unwrap().given = u64::from(is_real);
        self.store.release_lease(school, token).await
    }
}

struct Harness(Mutex<Broken>);

impl Harness {
    fn new(defect: Defect) -> Self {
        let (fails_at, leases, memory) = Default::default();
        Self(Mutex::new(Broken { store: MemoryStore::new(), defect, fails_at, leases, memory }))
    }
}

#[async_trait]
impl StoreHarness for Harness {
    async fn open(&self) -> Arc<dyn MarkStore> {
        let mut broken = self.0.lock().unwrap();
        *broken = Self::new(broken.defect).0.into_inner().unwrap();
        Arc::new(broken.clone())
    }

    async fn reopen(&self) -> Arc<dyn MarkStore> {
        let broken = self.0.lock().unwrap();
        match broken.defect {
            Defect::ForgetsWhenReopened => Arc::new(MemoryStore::new()),
            _ => Arc::new(broken.clone()),
        }
    }

    fn fail_at(&self, step: u32) -> bool {
        let broken = self.0.lock().unwrap();
        let has_step = broken.is(Defect::FailsHalfway) && step <= 2;
        broken.fails_at.store(if has_step { step } else { 0 }, Ordering::Relaxed);
        has_step
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_broken_promise_is_named() {
    // Some at a time: most of it is waiting.
    let tried =
        stream::iter(CAUGHT).map(async |(defect, promise)| (defect, promise, every(&Harness::new(defect)).await));
    let mut otherwise = Vec::new();
    for (defect, promise, kept) in tried.buffer_unordered(8).collect::<Vec<_>>().await {
        match kept {
            Ok(()) => otherwise.push(format!("{defect:?} passes")),
            Err(violation) if violation.promise != promise => otherwise.push(format!("{defect:?}: {violation}")),
            Err(violation) => assert!(violation.to_string().len() < 1_200, "{defect:?}: one readable line"),
        }
    }
    assert!(otherwise.is_empty(), "{otherwise:#?}");
}
