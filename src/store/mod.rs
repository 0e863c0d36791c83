//! Where marks live: [`MarkStore`], and stores in memory and in an SQLite file.

#[doc = include_str!("your_own_store.md")]
pub mod your_own_store {}

mod error;
mod memory;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

pub use error::{StoreError, StoreErrorKind};
pub use memory::MemoryStore;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteStore;

use crate::explain::ReplyAge;
use crate::model::{Issues, Mark, SchoolId, Session, StudentId};
use crate::rules::{Freshness, Rules, Scope};

/// A place of a mark within a school.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MarkKey {
    /// The student.
    pub student: StudentId,
    /// The school date.
    pub date: NaiveDate,
    /// The session.
    pub session: Session,
}

impl From<&Mark> for MarkKey {
    fn from(mark: &Mark) -> Self {
        Self { student: mark.student.clone(), date: mark.date, session: mark.session }
    }
}

/// A live mark in a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredMark {
    /// The mark.
    pub mark: Arc<Mark>,
    /// When the run that last wrote it fetched (R9's f).
    pub fetched_at: DateTime<Utc>,
}

/// The live marks of a school in a scope, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The school's revision: it grows with every change to any of the school's marks.
    pub revision: u64,
    /// Sorted by student (code points), date, session.
    pub marks: Vec<StoredMark>,
}

/// One change of a change set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Write {
    /// Adds a mark or replaces the one at its place.
    Put(Arc<Mark>),
    /// Removes the mark at this place; its history stays.
    Remove(MarkKey),
}

impl Write {
    /// The place that changes.
    pub fn key(&self) -> MarkKey {
        match self {
            Self::Put(mark) => MarkKey::from(&**mark),
            Self::Remove(key) => key.clone(),
        }
    }
}

/// What one run writes, whole or not at all.
#[derive(Clone, Debug)]
pub struct ChangeSet {
    /// The revision that the changes were planned from.
    pub revision: u64,
    /// The changes, each place at most once.
    pub writes: Vec<Write>,
    /// The run, recorded also where nothing changes.
    pub run: Run,
    /// The lease under which to write, if the caller holds one.
    pub lease: Option<LeaseToken>,
}

/// Why a change was not written (R11), in the order in which they are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WithheldReason {
    /// Too many students have no record in the fetch any more (R11.4).
    StudentsVanished,
    /// Nothing proves that the mark is gone (R11.4).
    Unproven,
    /// More removals than the limit allows (R11.5).
    TooMany,
    /// The source has no out-of-school record at all any more (R11.6).
    OutOfSchoolVanished,
    /// The code table has lost the mark's code (R11.6).
    CodeVanished,
    /// The reply can be older than what the store holds (R11.7).
    MayBeStale,
}

impl WithheldReason {
    /// The reason's name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::StudentsVanished => "students_vanished",
            Self::Unproven => "unproven",
            Self::TooMany => "too_many",
            Self::OutOfSchoolVanished => "out_of_school_vanished",
            Self::CodeVanished => "code_vanished",
            Self::MayBeStale => "may_be_stale",
        }
    }
}

impl fmt::Display for WithheldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How many marks a run added, changed and so on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MarkCounts {
    /// New marks.
    pub added: u64,
    /// Marks with other content than before.
    pub changed: u64,
    /// Marks with the same content as before.
    pub unchanged: u64,
    /// Marks that the source no longer yields, or of dates on which the school was closed.
    pub removed: u64,
    /// Changes that were not written.
    pub withheld: u64,
    /// Marks of students of whom nothing is read any more, kept as they are (R11.4).
    #[serde(default)]
    pub kept: u64,
}

/// A run, as a store records it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The run's number within the school, from 1; a store sets it when the run is applied.
    pub number: u64,
    /// When it fetched, and how old the replies could be.
    pub freshness: Freshness,
    /// What it could touch.
    pub scope: Scope,
    /// By which rules it decided.
    pub rules: Rules,
    /// The edition of the time-zone database by which it read the school's times, where the run said so.
    #[serde(default)]
    pub zone_edition: Option<String>,
    /// The dates on which the caller said that the school was closed (R11.4).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub closed: BTreeSet<NaiveDate>,
    /// What it did.
    pub marks: MarkCounts,
    /// What it withheld, by reason.
    pub withheld: BTreeMap<WithheldReason, u64>,
    /// What it found in the records.
    pub issues: Issues,
    /// What it showed of how old the replies are.
    #[serde(default)]
    pub reply_age: ReplyAge,
}

/// One change in the history of a mark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The run that wrote it.
    pub run: u64,
    /// When that run fetched: from then on the store shows `after`.
    pub seen_at: DateTime<Utc>,
    /// What the mark was; `None` if there was none.
    pub before: Option<Arc<Mark>>,
    /// What it became, with its decision; `None` if it was removed.
    pub after: Option<Arc<Mark>>,
}

/// What the store showed at an instant, by a mark's history (oldest first, as [`MarkStore::history`] gives it).
pub fn as_of(history: &[Change], instant: DateTime<Utc>) -> Option<&Arc<Mark>> {
    history.iter().rev().find(|change| change.seen_at <= instant)?.after.as_ref()
}

/// Proof of holding a school's lease. Tokens of one school grow; an older one can no longer write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseToken(pub u64);

/// A portal's marks. [Your own store](your_own_store) says how to write one.
///
/// # Contract
/// - Every call concerns one school; nothing of another school is read or changed.
/// - [`read`](Self::read) sees one moment: never half of a change set.
/// - [`apply`](Self::apply) is one transaction: all of the writes, their history, the run and the new revision, or nothing.
/// - Dropping a call's future leaves all or nothing.
#[async_trait]
pub trait MarkStore: Debug + Send + Sync + 'static {
    /// The live marks in scope, and the school's revision (0 for a school that was never written).
    ///
    /// # Errors
    /// The store can't be read.
    async fn read(&self, school: &SchoolId, scope: &Scope) -> Result<Snapshot, StoreError>;

    /// Applies a change set and returns the run's number.
    ///
    /// Removing a mark that is not there, or putting one that is there with equal content
    /// ([`Mark::same_content`]), changes nothing and makes no history. The revision grows if any mark changed.
    ///
    /// # Errors
    /// [`StoreErrorKind::Moved`] if the school's revision is another than the change set's,
    /// [`StoreErrorKind::LeaseLost`] if its lease is no longer the newest or has run out; otherwise, the store can't be
    /// written.
    async fn apply(&self, school: &SchoolId, changes: &ChangeSet) -> Result<u64, StoreError>;

    /// All changes of one mark, oldest first.
    ///
    /// # Errors
    /// The store can't be read.
    async fn history(&self, school: &SchoolId, key: &MarkKey) -> Result<Vec<Change>, StoreError>;

    /// All runs of a school, oldest first.
    ///
    /// # Errors
    /// The store can't be read.
    async fn runs(&self, school: &SchoolId) -> Result<Vec<Run>, StoreError>;

    /// Takes the school's lease for this long, from now by the real clock; `None` while another holds it.
    ///
    /// # Errors
    /// The store can't be written.
    async fn acquire_lease(&self, school: &SchoolId, ttl: Duration) -> Result<Option<LeaseToken>, StoreError>;

    /// Extends a held lease to this long from now.
    ///
    /// # Errors
    /// [`StoreErrorKind::LeaseLost`] if it is no longer the newest or has run out.
    async fn renew_lease(&self, school: &SchoolId, token: LeaseToken, ttl: Duration) -> Result<(), StoreError>;

    /// Gives a lease back; one that was lost already is no error.
    ///
    /// # Errors
    /// The store can't be written.
    async fn release_lease(&self, school: &SchoolId, token: LeaseToken) -> Result<(), StoreError>;
}
