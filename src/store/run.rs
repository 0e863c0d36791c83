use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Deserializer, Serialize};

use super::WithheldReason;
use crate::explain::ReplyAge;
use crate::model::{Issues, StudentId, names, setters};
use crate::rules::{Freshness, Rules, Scope};

/// Counts the marks that a run added, changed and so on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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
    /// Marks of students without any record in the fetch, kept as they are ([R11.4](crate::guide::rules#r11-4)).
    pub kept: u64,
}

/// The purpose of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RunPurpose {
    /// The last days, night after night.
    #[default]
    Window,
    /// Dates that somebody chose.
    Targeted,
    /// A slice of older dates, one after another, so that no correction is missed for long.
    Sweep,
    /// A purpose that a newer version of this library wrote and this one does not know.
    Unknown,
}

names!(RunPurpose, "a purpose of a run", {
    Window => "window",
    Targeted => "targeted",
    Sweep => "sweep",
} else Unknown);

/// A run, as a store records it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Run {
    /// The run's number within the school, from 1. A store sets it when the run is applied; until then it is 0.
    pub number: u64,
    /// What it was for.
    #[serde(default)]
    pub purpose: RunPurpose,
    /// When it fetched, and how old the replies could be.
    pub freshness: Freshness,
    /// The students and dates that it could touch.
    pub scope: Scope,
    /// The rules by which it decided.
    pub rules: Rules,
    /// The edition of the time-zone database by which it read the school's times, if the run recorded it.
    #[serde(default)]
    pub zone_edition: Option<String>,
    /// The dates on which the caller said that the school was closed ([R11.4](crate::guide::rules#r11-4)).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub closed: BTreeSet<NaiveDate>,
    /// The counts of marks.
    pub marks: MarkCounts,
    /// The number of withheld changes, by reason.
    #[serde(deserialize_with = "by_reason")]
    pub withheld: BTreeMap<WithheldReason, u64>,
    /// The issues in the records.
    pub issues: Issues,
    /// What it revealed about the age of the replies.
    #[serde(default)]
    pub reply_age: ReplyAge,
}

/// Reads the counts by reason; reasons that this version does not know are counted together.
fn by_reason<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<WithheldReason, u64>, D::Error> {
    let written = BTreeMap::<String, u64>::deserialize(deserializer)?;
    let mut counts = BTreeMap::new();
    for (reason, count) in written {
        *counts.entry(reason.parse().unwrap_or(WithheldReason::Unknown)).or_default() += count;
    }
    Ok(counts)
}

impl Run {
    /// A run of the last days ([`RunPurpose::Window`]) that has done nothing yet.
    pub fn new(freshness: Freshness, scope: Scope, rules: Rules) -> Self {
        Self {
            number: 0,
            purpose: RunPurpose::default(),
            freshness,
            scope,
            rules,
            zone_edition: None,
            closed: BTreeSet::new(),
            marks: MarkCounts::default(),
            withheld: BTreeMap::new(),
            issues: Issues::default(),
            reply_age: ReplyAge::default(),
        }
    }

    /// Whether it withheld anything, by its counts.
    pub(crate) fn withheld_any(&self) -> bool {
        self.marks.withheld > 0 || !self.withheld.is_empty()
    }

    /// The run without a trace of this student, as [`MarkStore::erase`](super::MarkStore::erase) leaves it: the scope does
    /// not name the student, and the issues have no examples, since those can be the student's records. Counts stay.
    #[must_use]
    pub fn without_student(mut self, student: &StudentId) -> Self {
        if let Some(students) = self.scope.students() {
            let others: BTreeSet<StudentId> = students.iter().filter(|other| *other != student).cloned().collect();
            self.scope = self.scope.with_students(others);
        }
        self.issues = self.issues.without_examples();
        self
    }
}

setters!(Run {
    with_number(number: u64) => number;
    with_purpose(purpose: RunPurpose) => purpose;
    with_zone_edition(zone_edition: impl Into<String>) => Some(zone_edition.into());
    with_closed_dates(closed: BTreeSet<NaiveDate>) => closed;
    with_marks(marks: MarkCounts) => marks;
    with_withheld(withheld: BTreeMap<WithheldReason, u64>) => withheld;
    with_issues(issues: Issues) => issues;
    with_reply_age(reply_age: ReplyAge) => reply_age;
});

/// Says which runs to read: all of them, unless the query is narrowed.
///
/// ```
/// use rollmark::store::{RunPurpose, RunQuery};
///
/// // The newest ordinary run.
/// let query = RunQuery::all().with_purposes([RunPurpose::Window]).with_newest(1);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunQuery {
    since: Option<DateTime<Utc>>,
    purposes: Option<BTreeSet<RunPurpose>>,
    newest: Option<usize>,
}

impl RunQuery {
    /// Every run.
    pub fn all() -> Self {
        Self::default()
    }

    /// The runs that show how old replies are. A sweep reads other dates every night, so it says nothing about that.
    pub(crate) fn measuring() -> Self {
        Self::all().with_purposes([RunPurpose::Window, RunPurpose::Targeted])
    }

    /// The earliest time of a fetch, included.
    pub fn since(&self) -> Option<DateTime<Utc>> {
        self.since
    }

    /// The purposes; `None` means all.
    pub fn purposes(&self) -> Option<&BTreeSet<RunPurpose>> {
        self.purposes.as_ref()
    }

    /// The most runs to read, the newest ones; `None` means all.
    pub fn newest(&self) -> Option<usize> {
        self.newest
    }

    /// Whether a run fits, apart from the limit on the number of runs.
    pub fn fits(&self, run: &Run) -> bool {
        self.since.is_none_or(|since| run.freshness.fetched_at >= since)
            && self.purposes.as_ref().is_none_or(|purposes| purposes.contains(&run.purpose))
    }
}

setters!(RunQuery {
    /// Sets the earliest time of a fetch, included.
    with_since(since: DateTime<Utc>) => Some(since);
    /// Sets the purposes.
    with_purposes(purposes: impl IntoIterator<Item = RunPurpose>) => Some(purposes.into_iter().collect());
    /// Sets the most runs to read: of those that fit, the newest by number.
    with_newest(newest: usize) => Some(newest);
});
