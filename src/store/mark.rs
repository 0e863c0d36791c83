use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use crate::codes::CodedMark;
use crate::model::{Decision, Mark, MarkContent, MarkLine, Session, StudentId};

/// The place of a mark within a school. Keys sort by student (code points), date and session.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MarkKey {
    /// The student.
    pub student: StudentId,
    /// The school date.
    pub date: NaiveDate,
    /// The session.
    pub session: Session,
}

impl MarkKey {
    /// The place of this student, school date and session.
    pub fn new(student: impl Into<StudentId>, date: NaiveDate, session: Session) -> Self {
        Self { student: student.into(), date, session }
    }

    pub(crate) fn parts(&self) -> (&StudentId, NaiveDate, Session) {
        (&self.student, self.date, self.session)
    }

    /// The whole mark at this place, for a store that keeps its content and its decision separately.
    pub fn mark(&self, content: MarkContent, decision: Decision) -> Mark {
        let (student, date, session) = (self.student.clone(), self.date, self.session);
        let MarkContent { status, code, code_name, raw_code, minutes_late, .. } = content;
        Mark { student, date, session, status, code, code_name, raw_code, minutes_late, decision }
    }
}

impl From<&Mark> for MarkKey {
    fn from(mark: &Mark) -> Self {
        Self::new(&mark.student, mark.date, mark.session)
    }
}

/// A live mark in a store, without its decision. The decision is in its last [`Change`](super::Change).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StoredMark {
    /// Its place.
    pub key: MarkKey,
    /// What it says.
    pub content: Arc<MarkContent>,
    /// When the run that last wrote the mark fetched (f of [R9](crate::guide::rules#r9)).
    pub fetched_at: DateTime<Utc>,
    /// The earliest moment that this fetch can show (f − E of [R9](crate::guide::rules#r9)).
    pub as_of_earliest: DateTime<Utc>,
}

impl StoredMark {
    /// A mark as a store returns it.
    pub fn new(
        key: MarkKey,
        content: impl Into<Arc<MarkContent>>,
        fetched_at: DateTime<Utc>,
        as_of_earliest: DateTime<Utc>,
    ) -> Self {
        Self { key, content: content.into(), fetched_at, as_of_earliest }
    }

    /// The mark as one line of a marks file, as [`Mark::to_json_line`] writes it.
    pub fn to_json_line(&self) -> String {
        MarkLine::new(self.key.parts(), MarkContent::clone(&self.content)).to_json()
    }
}

impl<'a> From<&'a StoredMark> for CodedMark<'a> {
    fn from(stored: &'a StoredMark) -> Self {
        Self {
            student: &stored.key.student,
            date: stored.key.date,
            session: stored.key.session,
            status: stored.content.status,
            code: stored.content.code.as_deref(),
            raw_code: stored.content.raw_code.as_ref(),
            as_of_earliest: Some(stored.as_of_earliest),
        }
    }
}

/// The live marks of a school in a scope, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    revision: u64,
    marks: Vec<StoredMark>,
}

impl Snapshot {
    /// The marks in any order, and the school's revision at the same moment.
    pub fn new(revision: u64, mut marks: Vec<StoredMark>) -> Self {
        marks.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Self { revision, marks }
    }

    /// The school's revision: it grows with every change to any of the school's marks.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Sorted by student (code points), date, session.
    pub fn marks(&self) -> &[StoredMark] {
        &self.marks
    }
}
