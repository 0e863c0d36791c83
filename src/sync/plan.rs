use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::{Mark, MarkContent, RecordKind, Session, StudentId, setters};
use crate::rules::{Freshness, Register};
use crate::store::{MarkCounts, MarkKey, Snapshot, StoredMark, WithheldChange, WithheldReason, Write};

/// The limits of a run ([R11.4](crate::guide::rules#r11-4)-R11.6, [R11.8](crate::guide::rules#r11-8)), and which of
/// them the caller has lifted.
///
/// Nothing lifts the proof that a removal needs ([R11.4](crate::guide::rules#r11-4)), nor the rule that old data never
/// overwrites newer data ([R11.7](crate::guide::rules#r11-7)).
///
/// ```
/// use rollmark::sync::{Guards, SyncRequest};
///
/// // The new term: forty students have left, and somebody has checked that.
/// let request = SyncRequest::overnight("2026-09-01".parse()?).with_guards(Guards::default().with_leavers(true));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Guards {
    /// Up to this many vanished students are never too many. [R11](crate::guide::rules#r11): 10.
    pub vanished_students: u64,
    /// More vanished students than `vanished_students` are too many if they are more than this percentage of the
    /// students with marks. [R11](crate::guide::rules#r11): 5.
    pub vanished_students_percent: u64,
    /// With registrations on fewer dates than this, a student who is missing from the fetch says nothing.
    /// [R11](crate::guide::rules#r11): 5.
    pub vanished_students_dates: usize,
    /// Up to this many removals are never too many, unless they are all marks. [R11](crate::guide::rules#r11): 50.
    pub removals: u64,
    /// More removals than `removals` are too many if they are more than this percentage of the marks.
    /// [R11](crate::guide::rules#r11): 10.
    pub removals_percent: u64,
    /// Removing every mark in scope is too many removals if there are at least this many. [R11](crate::guide::rules#r11): 10.
    pub removals_of_all: u64,
    /// If at least this many marks were decided by out-of-school records, a fetch without any such record is
    /// suspicious. [R11](crate::guide::rules#r11): 20.
    pub out_of_school_marks: u64,
    /// Up to this many changes of status or code are never a mass change. [R11](crate::guide::rules#r11): 200.
    pub mass_change: u64,
    /// More changes than `mass_change` are a mass change if they are more than this percentage of the marks.
    /// [R11](crate::guide::rules#r11): 50.
    pub mass_change_percent: u64,
    /// Whether the students who vanished from the source have left: their marks are then kept, however many students
    /// there are.
    pub leavers: bool,
    /// Whether the limits on removals, on vanished out-of-school records and on vanished students are lifted.
    pub allow_removals: bool,
    /// Whether the stops on mass change and on vanished codes are lifted.
    pub allow_mass_change: bool,
}

setters!(Guards {
    with_vanished_students(vanished_students: u64) => vanished_students;
    with_vanished_students_percent(vanished_students_percent: u64) => vanished_students_percent;
    with_vanished_students_dates(vanished_students_dates: usize) => vanished_students_dates;
    with_removals(removals: u64) => removals;
    with_removals_percent(removals_percent: u64) => removals_percent;
    with_removals_of_all(removals_of_all: u64) => removals_of_all;
    with_out_of_school_marks(out_of_school_marks: u64) => out_of_school_marks;
    with_mass_change(mass_change: u64) => mass_change;
    with_mass_change_percent(mass_change_percent: u64) => mass_change_percent;
    with_allow_removals(allow_removals: bool) => allow_removals;
    with_allow_mass_change(allow_mass_change: bool) => allow_mass_change;
    with_leavers(leavers: bool) => leavers;
});

impl Default for Guards {
    /// [R11](crate::guide::rules#r11)'s limits, none of them lifted.
    fn default() -> Self {
        Self {
            vanished_students: 10,
            vanished_students_percent: 5,
            vanished_students_dates: 5,
            removals: 50,
            removals_percent: 10,
            removals_of_all: 10,
            out_of_school_marks: 20,
            mass_change: 200,
            mass_change_percent: 50,
            leavers: false,
            allow_removals: false,
            allow_mass_change: false,
        }
    }
}

/// The figures of a mass change: many more marks would change than a day at school explains (R11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{changed} of {marks} marks would change in status or code: a wrong PM time, time zone or code table looks like this. \
     Nothing was written; check the settings, or allow the mass change"
)]
#[non_exhaustive]
pub struct MassChange {
    /// Marks that would change in status or code.
    pub changed: u64,
    /// Live marks in scope.
    pub marks: u64,
}

/// A planned change: what a mark is, and what it will be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PlannedChange {
    /// The mark's key.
    pub key: MarkKey,
    /// What the mark in the store says; `None` if the store has none.
    pub before: Option<Arc<MarkContent>>,
    /// The mark that the source gives; `None` if it no longer gives one.
    pub after: Option<Arc<Mark>>,
}

impl PlannedChange {
    fn into_write(self) -> Write {
        match self.after {
            Some(after) => Write::Put(after),
            None => Write::Remove(self.key),
        }
    }
}

/// The changes of a plan. Each is made when it is read, from the register that the plan was made from, because all marks of a
/// first sync together would take tens of megabytes. Clones share the changes. They are serialised as a list.
#[derive(Clone, Default)]
pub struct PlannedChanges(Arc<Changes>);

enum Changes {
    /// From a saved plan.
    Read(Vec<PlannedChange>),
    Made(Vec<Place>, Box<Register>),
}

/// The place of a change.
struct Place {
    key: MarkKey,
    before: Option<Arc<MarkContent>>,
    is_removed: bool,
}

impl Place {
    fn of(stored: &StoredMark, is_removed: bool) -> Self {
        Self { key: stored.key.clone(), before: Some(Arc::clone(&stored.content)), is_removed }
    }

    fn change(&self, register: &Register) -> PlannedChange {
        let (student, date, session) = self.key.parts();
        let after = if self.is_removed { None } else { register.mark(student, date, session).map(Arc::new) };
        PlannedChange { key: self.key.clone(), before: self.before.clone(), after }
    }
}

impl Default for Changes {
    fn default() -> Self {
        Self::Read(Vec::new())
    }
}

impl PlannedChanges {
    fn of(places: Vec<Place>, register: &Register) -> Self {
        Self(Arc::new(Changes::Made(places, Box::new(register.clone()))))
    }

    /// The number of changes.
    pub fn len(&self) -> usize {
        match &*self.0 {
            Changes::Read(changes) => changes.len(),
            Changes::Made(places, _) => places.len(),
        }
    }

    /// Whether there are no changes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The change at a place in the list.
    pub fn get(&self, place: usize) -> Option<PlannedChange> {
        match &*self.0 {
            Changes::Read(changes) => changes.get(place).cloned(),
            Changes::Made(places, register) => places.get(place).map(|place| place.change(register)),
        }
    }

    /// All changes, in order.
    pub fn iter(&self) -> impl Iterator<Item = PlannedChange> + '_ {
        (0..self.len()).filter_map(|place| self.get(place))
    }

    /// The changes of marks that the store has.
    pub(super) fn of_known_marks(&self) -> impl Iterator<Item = PlannedChange> + '_ {
        let is_known = |place: &usize| match &*self.0 {
            Changes::Read(changes) => changes.get(*place).is_some_and(|change| change.before.is_some()),
            Changes::Made(places, _) => places.get(*place).is_some_and(|place| place.before.is_some()),
        };
        (0..self.len()).filter(is_known).filter_map(|place| self.get(place))
    }

    /// The change at a place, in the form that a store takes.
    pub(super) fn write(&self, place: usize) -> Option<Write> {
        self.get(place).map(PlannedChange::into_write)
    }
}

impl<'a> IntoIterator for &'a PlannedChanges {
    type Item = PlannedChange;
    type IntoIter = Box<dyn Iterator<Item = PlannedChange> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}

impl fmt::Debug for PlannedChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl PartialEq for PlannedChanges {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other)
    }
}

impl Eq for PlannedChanges {}

impl Serialize for PlannedChanges {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self)
    }
}

impl<'de> Deserialize<'de> for PlannedChanges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Arc::new(Changes::Read(Vec::deserialize(deserializer)?))))
    }
}

/// What a run would write, as data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Plan {
    /// Sorted by student (code points), date, session.
    pub changes: PlannedChanges,
    /// The changes that are not written, in the same order.
    pub withheld: Vec<WithheldChange>,
    /// How many marks are added, changed and so on.
    pub counts: MarkCounts,
    /// The students who vanished, sorted by code point: the fetch holds no record of them. They have left, or a filter
    /// on the key hides them ([R11.4](crate::guide::rules#r11-4)). Their marks are kept, or withheld if they are too
    /// many.
    #[serde(default)]
    pub vanished_students: Vec<StudentId>,
    /// The newest stamp of the marks that the source gives; stamps after the fetch don't count.
    #[serde(default)]
    pub newest_stamp: Option<DateTime<Utc>>,
}

impl Plan {
    /// Compares what the store holds in the register's scope with what the register gives
    /// ([R11](crate::guide::rules#r11)). Pure.
    ///
    /// `out_of_school_rows` is the number of out-of-school records in the fetch, of any student and date. The snapshot
    /// must have the register's scope.
    ///
    /// # Errors
    /// A mass change that is not allowed.
    pub fn new(
        snapshot: &Snapshot,
        register: &Register,
        freshness: Freshness,
        out_of_school_rows: u64,
        guards: &Guards,
    ) -> Result<Self, MassChange> {
        // On closed dates every mark is removed, before anything else is checked (R11.4).
        let is_closed = |stored: &StoredMark| register.is_closed(stored.key.date);
        let closed: Vec<&StoredMark> = snapshot.marks().iter().filter(|stored| is_closed(stored)).collect();
        let open = || snapshot.marks().iter().filter(|stored| !is_closed(stored));
        let live = (snapshot.marks().len() - closed.len()) as u64;
        let by_out_of_school = |stored: &StoredMark| stored.content.decided_by == RecordKind::OutOfSchool;
        let out_of_school_vanished = out_of_school_rows == 0
            && !guards.allow_removals
            && open().filter(|stored| by_out_of_school(stored)).count() as u64 >= guards.out_of_school_marks;
        let mut students: Vec<&StudentId> = Vec::new();
        for stored in open() {
            if students.last() != Some(&&stored.key.student) {
                students.push(&stored.key.student);
            }
        }
        let vanished = vanished_students(&students, register, guards);
        let (gone, known) = (vanished.len() as u64, students.len() as u64);
        let too_many_vanished =
            !guards.leavers && gone > guards.vanished_students && gone * 100 > known * guards.vanished_students_percent;

        let mut plan = Self::default();
        let mut changes = Vec::new();
        let mut removals = Vec::new();
        let mut changed_in_substance = 0;
        let mut newest = None;
        merge(open(), register.contents(), |stored, given| {
            let stamp = given.as_ref().and_then(|(.., content)| content.last_updated);
            newest = newest.max(stamp.filter(|stamp| *stamp <= freshness.fetched_at));
            match (stored, given) {
                (None, Some((student, date, session, _))) => {
                    plan.counts.added += 1;
                    let key = MarkKey::new(student, date, session);
                    changes.push(Place { key, before: None, is_removed: false });
                }
                (Some(stored), Some((.., content))) if content.same_content(&stored.content) => {
                    plan.counts.unchanged += 1;
                }
                (Some(stored), Some((.., content))) => {
                    let before = &stored.content;
                    changed_in_substance += u64::from(before.status != content.status || before.code != content.code);
                    let reason = if out_of_school_vanished && by_out_of_school(stored) {
                        Some(WithheldReason::OutOfSchoolVanished)
                    } else if !guards.allow_mass_change && loses_its_letter(before, &content) {
                        Some(WithheldReason::CodeVanished)
                    } else if is_stale(stored, freshness) && micros(content.last_updated) < micros(before.last_updated)
                    {
                        Some(WithheldReason::MayBeStale)
                    } else {
                        None
                    };
                    match reason {
                        Some(reason) => plan.withheld.push(WithheldChange::new(stored.key.clone(), reason)),
                        None => {
                            plan.counts.changed += 1;
                            changes.push(Place::of(stored, false));
                        }
                    }
                }
                (Some(stored), None) if !vanished.contains(&stored.key.student) => removals.push(stored),
                (Some(stored), None) if too_many_vanished => {
                    plan.withheld.push(WithheldChange::new(stored.key.clone(), WithheldReason::StudentsVanished));
                }
                (Some(_), None) => plan.counts.kept += 1,
                (None, None) => {}
            }
        });
        if changed_in_substance > guards.mass_change
            && changed_in_substance * 100 > live * guards.mass_change_percent
            && !guards.allow_mass_change
        {
            return Err(MassChange { changed: changed_in_substance, marks: live });
        }

        let is_proven = |stored: &StoredMark| {
            let (student, date, session) = stored.key.parts();
            register.proves_absence_of_mark(student, date, session)
        };
        let proven = removals.iter().filter(|stored| is_proven(stored)).count() as u64;
        let too_many = !guards.allow_removals
            && ((proven > guards.removals && proven * 100 > live * guards.removals_percent)
                || (proven >= guards.removals_of_all && proven == live));
        for stored in removals {
            let reason = if !is_proven(stored) {
                Some(WithheldReason::Unproven)
            } else if too_many {
                Some(WithheldReason::TooMany)
            } else if out_of_school_vanished && by_out_of_school(stored) {
                Some(WithheldReason::OutOfSchoolVanished)
            } else if is_stale(stored, freshness) {
                Some(WithheldReason::MayBeStale)
            } else {
                None
            };
            match reason {
                Some(reason) => plan.withheld.push(WithheldChange::new(stored.key.clone(), reason)),
                None => changes.push(Place::of(stored, true)),
            }
        }
        changes.extend(closed.into_iter().map(|stored| Place::of(stored, true)));
        plan.counts.removed = changes.iter().filter(|place| place.is_removed).count() as u64;
        plan.vanished_students = vanished.into_iter().cloned().collect();
        plan.newest_stamp = newest;
        plan.counts.withheld = plan.withheld.len() as u64;
        changes.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        if !changes.is_empty() {
            plan.changes = PlannedChanges::of(changes, register);
        }
        plan.withheld.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(plan)
    }

    /// How many changes are withheld, by reason.
    pub fn withheld_by_reason(&self) -> BTreeMap<WithheldReason, u64> {
        let mut counts = BTreeMap::new();
        for withheld in &self.withheld {
            *counts.entry(withheld.reason).or_default() += 1;
        }
        counts
    }

    /// The changes in the form that a store takes.
    pub fn writes(&self) -> impl Iterator<Item = Write> + '_ {
        self.changes.iter().map(PlannedChange::into_write)
    }

    /// The marks of the scope after the plan is applied. Pass the snapshot and the freshness that the plan was made
    /// from.
    pub fn applied_to(&self, snapshot: &Snapshot, freshness: Freshness) -> Vec<StoredMark> {
        let (fetched_at, as_of) = (freshness.fetched_at, freshness.as_of_earliest());
        let mut stored = snapshot.marks().iter().peekable();
        let mut marks = Vec::new();
        for PlannedChange { key, after, .. } in &self.changes {
            while let Some(before) = stored.next_if(|stored| stored.key < key) {
                marks.push(before.clone());
            }
            stored.next_if(|stored| stored.key == key);
            marks.extend(after.map(|mark| StoredMark::new(key, mark.content(), fetched_at, as_of)));
        }
        marks.extend(stored.cloned());
        marks
    }
}

/// The students with marks for whom the fetch holds no record (R11.4).
fn vanished_students<'a>(students: &[&'a StudentId], register: &Register, guards: &Guards) -> BTreeSet<&'a StudentId> {
    if guards.allow_removals || register.dates_with_registrations() < guards.vanished_students_dates {
        return BTreeSet::new();
    }
    students.iter().copied().filter(|student| !register.has_records_of(student)).collect()
}

/// Whether the raw code is the same, but the code table no longer has a letter for it (R11.6).
fn loses_its_letter(stored: &MarkContent, given: &MarkContent) -> bool {
    stored.code.is_some() && given.code.is_none() && stored.raw_code == given.raw_code
}

/// A mark by the register.
type Given<'a> = (&'a StudentId, NaiveDate, Session, MarkContent);

/// Walks two sequences in key order side by side.
fn merge<'a>(
    stored: impl Iterator<Item = &'a StoredMark>,
    given: impl Iterator<Item = Given<'a>>,
    mut each: impl FnMut(Option<&'a StoredMark>, Option<Given<'a>>),
) {
    let mut stored = stored.peekable();
    for given in given {
        let key = (given.0, given.1, given.2);
        let equal = loop {
            match stored.peek().map(|stored| stored.key.parts().cmp(&key)) {
                Some(Ordering::Less) => each(stored.next(), None),
                Some(Ordering::Equal) => break stored.next(),
                _ => break None,
            }
        };
        each(equal, Some(given));
    }
    stored.for_each(|gone| each(Some(gone), None));
}

fn is_stale(stored: &StoredMark, freshness: Freshness) -> bool {
    freshness.as_of_earliest() < stored.fetched_at
}

/// Microseconds, like a mark's content; missing is oldest.
fn micros(stamp: Option<DateTime<Utc>>) -> Option<i64> {
    stamp.map(|stamp| stamp.timestamp_micros())
}
