use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{LeaseToken, MarkKey, Run};
use crate::model::{Mark, MarkContent, Session, StudentId, names, setters};
use crate::rules::{Scope, Window};

/// One change of a change set. Exhaustive: a mark is put or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a mark is put or removed")]
pub enum Write {
    /// Adds a mark, or replaces the one at its place.
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

    /// The mark after the change, with its decision; `None` if it is removed.
    pub fn after(&self) -> Option<&Arc<Mark>> {
        if let Self::Put(mark) = self { Some(mark) } else { None }
    }
}

/// Why a change was not written ([R11](crate::guide::rules#r11)). The reasons are checked in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum WithheldReason {
    /// Too many students no longer have a record in the fetch ([R11.4](crate::guide::rules#r11-4)).
    StudentsVanished,
    /// Nothing proves that the mark is gone ([R11.4](crate::guide::rules#r11-4)).
    Unproven,
    /// More removals than the limit allows ([R11.5](crate::guide::rules#r11-5)).
    TooMany,
    /// The source no longer has any out-of-school record ([R11.6](crate::guide::rules#r11-6)).
    OutOfSchoolVanished,
    /// The code table has lost the mark's code ([R11.6](crate::guide::rules#r11-6)).
    CodeVanished,
    /// The reply can be older than what the store holds ([R11.7](crate::guide::rules#r11-7)).
    MayBeStale,
    /// A reason that a newer version of this library wrote and this one does not know.
    Unknown,
}

names!(WithheldReason, "a reason to withhold", {
    StudentsVanished => "students_vanished",
    Unproven => "unproven",
    TooMany => "too_many",
    OutOfSchoolVanished => "out_of_school_vanished",
    CodeVanished => "code_vanished",
    MayBeStale => "may_be_stale",
} else Unknown);

/// A change that was withheld, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WithheldChange {
    /// The mark's place.
    pub key: MarkKey,
    /// The first reason that applies.
    pub reason: WithheldReason,
}

impl WithheldChange {
    /// The number of runs of a school, the newest that withheld anything, for which a store keeps at least the withheld
    /// changes. With more, nights that withhold a whole school could fill the disk. A run's counts stay as long as the run.
    pub const RUNS_KEPT: usize = 10;

    /// A change at this place, withheld for this reason.
    pub fn new(key: MarkKey, reason: WithheldReason) -> Self {
        Self { key, reason }
    }
}

/// Everything that one run writes. It is applied as a whole or not at all.
///
/// ```
/// use chrono::{TimeDelta, Utc};
/// use rollmark::rules::{Freshness, Rules, Scope, Window};
/// use rollmark::store::{ChangeSet, MarkKey, Run, Write};
///
/// let date = "2026-11-20".parse()?;
/// let freshness = Freshness::new(Utc::now(), TimeDelta::hours(24));
/// let run = Run::new(freshness, Scope::all(Window::day(date)), Rules::new("Europe/London".parse()?));
/// let gone = Write::Remove(MarkKey::new("4733683260", date, rollmark::model::Session::Am));
/// let changes = ChangeSet::new(7, run).with_writes(vec![gone]);
/// assert_eq!(changes.revision(), 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ChangeSet {
    revision: u64,
    run: Run,
    writes: Writes,
    withheld: Vec<WithheldChange>,
    lease: Option<LeaseToken>,
}

/// The changes that a change set writes.
#[derive(Clone)]
enum Writes {
    Held(Vec<Write>),
    /// A number of changes, each made when it is requested: together they would take most of the memory of a first sync.
    Made(usize, Arc<dyn Fn(usize) -> Option<Write> + Send + Sync>),
}

impl Writes {
    fn iter(&self) -> impl Iterator<Item = Write> + '_ {
        let count = match self {
            Self::Held(writes) => writes.len(),
            Self::Made(count, _) => *count,
        };
        (0..count).filter_map(|place| match self {
            Self::Held(writes) => writes.get(place).cloned(),
            Self::Made(_, make) => make(place),
        })
    }
}

impl fmt::Debug for Writes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

setters!(ChangeSet {
    with_writes(writes: Vec<Write>) => Writes::Held(writes);
    with_withheld(withheld: Vec<WithheldChange>) => withheld;
    with_lease(lease: LeaseToken) => Some(lease);
});

impl ChangeSet {
    /// An empty change set for a run that was planned from this revision of the school.
    pub fn new(revision: u64, run: Run) -> Self {
        Self { revision, run, writes: Writes::Held(Vec::new()), withheld: Vec::new(), lease: None }
    }

    /// Sets `count` changes, each of which is made when it is read.
    #[must_use]
    pub(crate) fn with_writes_made(
        mut self,
        count: usize,
        make: impl Fn(usize) -> Option<Write> + Send + Sync + 'static,
    ) -> Self {
        self.writes = Writes::Made(count, Arc::new(make));
        self
    }

    /// The revision that the changes were planned from.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The run, which is recorded even if nothing changes.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// The changes, each place at most once. A mark is made when its change is read, so take them one by one: collected, the
    /// changes of a first sync take tens of megabytes.
    pub fn writes(&self) -> impl Iterator<Item = Write> + '_ {
        self.writes.iter()
    }

    /// The changes that were not written, and why. [`MarkStore::withheld`](super::MarkStore::withheld) returns them later.
    pub fn withheld(&self) -> &[WithheldChange] {
        &self.withheld
    }

    /// The lease under which to write, if the caller holds one.
    pub fn lease(&self) -> Option<LeaseToken> {
        self.lease
    }
}

/// A place in a school's feed of changes. Later changes have greater cursors; cursors of different schools say nothing about
/// each other. `FromStr` reads what `Display` writes.
///
/// ```
/// use rollmark::store::ChangeCursor;
///
/// let cursor: ChangeCursor = "42".parse()?;
/// assert_eq!(cursor.to_string(), "42");
/// # Ok::<(), rollmark::store::UnknownCursor>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChangeCursor(u64);

/// A text that is not a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of a change feed; pass on what the feed gave, or start from the beginning")]
#[non_exhaustive]
pub struct UnknownCursor;

impl ChangeCursor {
    /// The cursor of a change that a store has given this number.
    pub fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number that the store gave.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ChangeCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ChangeCursor {
    type Err = UnknownCursor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| UnknownCursor)
    }
}

impl TryFrom<String> for ChangeCursor {
    type Error = UnknownCursor;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ChangeCursor> for String {
    fn from(cursor: ChangeCursor) -> Self {
        cursor.to_string()
    }
}

/// One change in the history of a mark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Change {
    /// The mark's place.
    pub key: MarkKey,
    /// The change's place in the school's feed.
    pub cursor: ChangeCursor,
    /// The run that wrote it.
    pub run: u64,
    /// When that run fetched: from then on the store shows `after`.
    pub seen_at: DateTime<Utc>,
    /// When it was written, by the store's own clock, whatever time was set for the run. For changes that were written before
    /// this field existed, it is the time at which they were seen.
    pub applied_at: DateTime<Utc>,
    /// What the mark said; `None` if there was no mark, or if the history before was pruned.
    pub before: Option<Arc<MarkContent>>,
    /// What it became, with its decision; `None` if it was removed.
    pub after: Option<Arc<Mark>>,
}

impl Change {
    /// A change as a store returns it. Unless set otherwise, there is no mark before or after it.
    pub fn new(
        key: MarkKey,
        cursor: ChangeCursor,
        run: u64,
        seen_at: DateTime<Utc>,
        applied_at: DateTime<Utc>,
    ) -> Self {
        Self { key, cursor, run, seen_at, applied_at, before: None, after: None }
    }
}

setters!(Change {
    with_before(before: Option<Arc<MarkContent>>) => before;
    with_after(after: Option<Arc<Mark>>) => after;
});

/// What the store showed at an instant, from a mark's history (oldest first, as returned by
/// [`MarkStore::history`](super::MarkStore::history)).
pub fn as_of(history: &[Change], instant: DateTime<Utc>) -> Option<&Arc<Mark>> {
    history.iter().rev().find(|change| change.seen_at <= instant)?.after.as_ref()
}

/// One entry in the feed of what has happened to a school's marks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FeedEntry {
    /// A mark was added, changed or removed.
    Changed(Change),
    /// Everything about a student was erased: forget all earlier entries about this student. Later entries are new.
    Erased {
        /// The entry's place in the feed.
        cursor: ChangeCursor,
        /// The student whose marks and history are gone.
        student: StudentId,
        /// When it was erased, by the store's own clock.
        applied_at: DateTime<Utc>,
    },
}

impl FeedEntry {
    /// The entry's place in the feed: go on from here.
    pub fn cursor(&self) -> ChangeCursor {
        match self {
            Self::Changed(change) => change.cursor,
            Self::Erased { cursor, .. } => *cursor,
        }
    }
}

/// Whose history to read: all of a scope, or one mark's.
///
/// ```
/// use rollmark::model::Session;
/// use rollmark::rules::{Scope, Window};
/// use rollmark::store::{HistoryQuery, MarkKey};
///
/// let date = "2026-11-20".parse()?;
/// // All mornings of that date, and one mark's history.
/// let mornings = HistoryQuery::new(Window::day(date)).with_session(Session::Am);
/// let one: HistoryQuery = (&MarkKey::new("4733683260", date, Session::Am)).into();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryQuery {
    scope: Scope,
    session: Option<Session>,
}

impl HistoryQuery {
    /// The history of every mark in scope.
    pub fn new(scope: impl Into<Scope>) -> Self {
        Self { scope: scope.into(), session: None }
    }

    /// Narrows the query to this session.
    #[must_use]
    pub fn with_session(mut self, session: Session) -> Self {
        self.session = Some(session);
        self
    }

    /// The dates and students.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The session; `None` means both.
    pub fn session(&self) -> Option<Session> {
        self.session
    }

    /// Whether the query includes the mark at this place.
    pub fn contains(&self, key: &MarkKey) -> bool {
        self.scope.contains(&key.student, key.date) && self.session.is_none_or(|session| session == key.session)
    }
}

/// One mark's history.
impl From<&MarkKey> for HistoryQuery {
    fn from(key: &MarkKey) -> Self {
        Self::new(Scope::all(Window::day(key.date)).with_students([&key.student])).with_session(key.session)
    }
}

/// The numbers of what was pruned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Pruned {
    /// Changes of marks.
    pub changes: u64,
    /// Runs.
    pub runs: u64,
}

impl Pruned {
    /// These numbers of changes and runs.
    pub fn new(changes: u64, runs: u64) -> Self {
        Self { changes, runs }
    }
}
