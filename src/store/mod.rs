//! Where marks live: [`MarkStore`], and stores in memory, in an SQLite file (`sqlite`) and in PostgreSQL (`postgres`).

#[doc = include_str!("your_own_store.md")]
pub mod your_own_store {}

mod change;
mod error;
mod forward;
mod kept;
mod mark;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
mod run;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use chrono::NaiveDate;

pub use change::{
    Change, ChangeCursor, ChangeSet, FeedEntry, HistoryQuery, Pruned, UnknownCursor, WithheldChange, WithheldReason,
    Write, as_of,
};
pub use error::{StoreError, StoreErrorKind};
pub use mark::{MarkKey, Snapshot, StoredMark};
pub use memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use postgres::PostgresStore;
pub use run::{MarkCounts, Run, RunPurpose, RunQuery};
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteStore;

use crate::model::{SchoolId, Session, StudentId};
use crate::rules::{Scope, Window};

/// Proof of holding a school's lease. The tokens of one school grow, and an older token can no longer write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseToken(u64);

impl LeaseToken {
    /// The token that a store has given this number.
    pub fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number that the store gave.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// As good as for ever, and the sum of this and the current time is still a valid time.
const LONGEST_LEASE: Duration = Duration::from_secs(366 * 24 * 3_600);

/// A store of a portal's marks. [Your own store](your_own_store) says how to write one.
///
/// `Arc`, `Box` and references to a store are stores too.
///
/// # Contract
/// - Every call concerns one school; no data of another school is read or changed.
/// - [`read`](Self::read) sees one moment, and never half of a change set.
/// - [`apply`](Self::apply) is one transaction: all of the writes, their history, the run, what it withheld and the new
///   revision, or nothing. So are [`erase`](Self::erase) and [`prune`](Self::prune).
/// - Runs and erasures of a school take turns, even if several processes write; schools do not wait for each other's
///   revision.
/// - Times are kept to the microsecond at least. Finer parts may get lost.
/// - Dropping a call's future leaves all of its changes or none.
#[async_trait]
pub trait MarkStore: Debug + Send + Sync {
    /// The live marks in scope, and the school's revision (0 for a school that was never written).
    ///
    /// # Errors
    /// The store can't be read.
    async fn read(&self, school: &SchoolId, scope: &Scope) -> Result<Snapshot, StoreError>;

    /// Applies a change set and returns the run's number.
    ///
    /// Removing a mark that is not there, or putting one that is there with equal content
    /// ([`MarkContent::same_content`](crate::model::MarkContent::same_content)), changes nothing and makes no history. The
    /// revision grows if any mark changed.
    ///
    /// # Errors
    /// [`StoreErrorKind::Moved`] if the school's revision is not the change set's,
    /// [`StoreErrorKind::LeaseLost`] if its lease is not the newest, was given back or has run out; otherwise, the store can't
    /// be written.
    async fn apply(&self, school: &SchoolId, changes: &ChangeSet) -> Result<u64, StoreError>;

    /// The changes of one mark (pass `&key.into()`) or of every mark in a scope, in the order of the feed.
    ///
    /// # Errors
    /// The store can't be read.
    async fn history(&self, school: &SchoolId, query: &HistoryQuery) -> Result<Vec<Change>, StoreError>;

    /// The entries of the feed after a cursor (`None`: from the beginning), `limit` entries at most, in the order in which they
    /// were applied (within a run, in the order of its change set). Pass the last entry's cursor to read the next ones. No
    /// entry is left out or given twice, even if entries were erased or pruned meanwhile. Nothing comes after a cursor beyond
    /// the end.
    ///
    /// # Errors
    /// The store can't be read.
    async fn changes(
        &self,
        school: &SchoolId,
        after: Option<ChangeCursor>,
        limit: usize,
    ) -> Result<Vec<FeedEntry>, StoreError>;

    /// The runs of a school that a query asks for, oldest first (by number).
    ///
    /// # Errors
    /// The store can't be read.
    async fn runs(&self, school: &SchoolId, query: &RunQuery) -> Result<Vec<Run>, StoreError>;

    /// The newest run that could touch this student's marks of this date: the store shows them as of its fetch.
    ///
    /// The default reads every run; a query of your own can stop at the first run that fits.
    ///
    /// # Errors
    /// The store can't be read.
    async fn last_covering_run(
        &self,
        school: &SchoolId,
        student: &StudentId,
        date: NaiveDate,
    ) -> Result<Option<Run>, StoreError> {
        let runs = self.runs(school, &RunQuery::all()).await?;
        Ok(runs.into_iter().rev().find(|run| run.scope.contains(student, date)))
    }

    /// The changes that a run withheld ([R11](crate::guide::rules#r11)), with their reasons, by student (code points), date
    /// and session. Empty if the run withheld nothing; `None` if there is no such run, or its list is no longer kept. A store
    /// keeps the lists of the newest [`WithheldChange::RUNS_KEPT`] runs of a school that withheld anything, or more.
    ///
    /// The default keeps no lists and says so. That is enough for a test double; what every store promises
    /// (`testing::conformance`) includes the lists.
    ///
    /// # Errors
    /// The store can't be read.
    async fn withheld(&self, school: &SchoolId, run: u64) -> Result<Option<Vec<WithheldChange>>, StoreError> {
        let (_, _) = (school, run);
        Ok(None)
    }

    /// The sessions that the school held on these dates: those in which any student has a mark
    /// ([R7](crate::guide::rules#r7)).
    ///
    /// The default reads the marks of these dates; a query of your own needs only the places.
    ///
    /// # Errors
    /// The store can't be read.
    async fn sessions_held(
        &self,
        school: &SchoolId,
        window: Window,
    ) -> Result<BTreeSet<(NaiveDate, Session)>, StoreError> {
        let snapshot = self.read(school, &Scope::all(window)).await?;
        Ok(snapshot.marks().iter().map(|stored| (stored.key.date, stored.key.session)).collect())
    }

    /// Erases a student: the marks, their history, the student's withheld changes, and every text that came with them. Returns
    /// how many places (date and session) held a mark or had a history.
    ///
    /// Runs keep their counts, but no scope names the student any more, and no run keeps examples of issues, since those can
    /// be the student's records ([`Run::without_student`]). The revision grows, so a plan that was made before is outdated.
    /// The feed yields [`FeedEntry::Erased`] at a new cursor, even if there was nothing to erase: a reader of the feed may
    /// still hold data. Only that entry still names the student; it replaces an earlier one.
    ///
    /// A later sync adds marks of the student again as long as the source yields them: take the student out of the source
    /// first.
    ///
    /// # Errors
    /// The store can't be written.
    async fn erase(&self, school: &SchoolId, student: &StudentId) -> Result<u64, StoreError>;

    /// Deletes history from before a date, that is, seen before its midnight in UTC ([`Change::seen_at`]): every change that
    /// was followed by another one before that midnight, and removals. So [`as_of`] still answers for that midnight and
    /// every later moment, and what the store shows stays the same. The first change that is left of a mark has no
    /// [`before`](Change::before), unless a removal before the date was the reason that there was none. Entries of erased
    /// students are deleted if they were made before the date. So are runs that fetched before it, with what they withheld,
    /// unless a remaining change refers to them or they are the school's newest.
    ///
    /// The revision stays the same. Cursors stay valid, but a reader of the feed that is further behind misses what was pruned.
    ///
    /// With `before` set to 20 November:
    ///
    /// | changes of a mark, by when they were seen | what is left |
    /// |---|---|
    /// | added on the 17th, changed on the 18th, changed on the 21st | the change of the 18th, without `before`, and that of the 21st |
    /// | added on the 17th, removed on the 18th | nothing |
    /// | added on the 17th, removed on the 18th, added on the 21st | the addition of the 21st |
    /// | added on the 17th | the addition: the mark is still shown |
    ///
    /// # Errors
    /// The store can't be written.
    async fn prune(&self, school: &SchoolId, before: NaiveDate) -> Result<Pruned, StoreError>;

    /// Takes the school's lease for `ttl`, from now by the real clock; `None` while another caller holds it. Any `ttl` is
    /// allowed; a store may shorten one that it can't hold, such as `Duration::MAX`.
    ///
    /// # Errors
    /// The store can't be written.
    async fn acquire_lease(&self, school: &SchoolId, ttl: Duration) -> Result<Option<LeaseToken>, StoreError>;

    /// Extends a held lease to `ttl` from now.
    ///
    /// # Errors
    /// [`StoreErrorKind::LeaseLost`] if the lease is not the newest, was given back or has run out.
    async fn renew_lease(&self, school: &SchoolId, token: LeaseToken, ttl: Duration) -> Result<(), StoreError>;

    /// Gives a lease back; a lease that was already lost is not an error.
    ///
    /// # Errors
    /// The store can't be written.
    async fn release_lease(&self, school: &SchoolId, token: LeaseToken) -> Result<(), StoreError>;
}
