//! Steps that make a mark the expected one.

use super::Expected;
use super::day::{Contender, DayRecord, SessionDay};
use super::finding::{Cure, Step};
use crate::model::{LoserReason, RecordKind, Status};

/// The most records that one step ends.
const MOST_ENDED: usize = 3;

impl SessionDay<'_> {
    /// A step that saves a record of the kind, preceded by the steps that are needed for it to become the newest.
    pub(super) fn cure(&self, kind: RecordKind, record: Option<&DayRecord>, step: Step) -> Cure {
        let first = [self.unnamed_stamp_field(kind, record), self.save_future(record)];
        Cure { first: first.into_iter().flatten().collect(), steps: vec![step] }
    }

    /// Saving a record makes it the newest only if a time of update is read for records of its kind.
    fn unnamed_stamp_field(&self, kind: RecordKind, record: Option<&DayRecord>) -> Option<Step> {
        let winner = self.winner()?;
        let decides = record.is_some_and(|record| std::ptr::eq(winner, record));
        let needs_time = !decides && winner.status != Status::NotTaken;
        (needs_time && !self.facts.has_stamps(kind)).then(|| self.name_stamp_field(kind))
    }

    pub(super) fn name_stamp_field(&self, kind: RecordKind) -> Step {
        let fields = match kind {
            RecordKind::OutOfSchool => self.facts.undecided_fields.clone(),
            _ => Vec::new(),
        };
        Step::NameStampField { kind, fields }
    }

    /// Nothing is newer than a rival whose time of update lies in the future, until that rival is saved.
    fn save_future(&self, record: Option<&DayRecord>) -> Option<Step> {
        let is_ahead = |one: &&Contender| {
            !record.is_some_and(|record| std::ptr::eq(&one.record, record))
                && !matches!(one.why, Some(LoserReason::NotCovering | LoserReason::OtherRegistration))
                && one.record.record.last_updated > Some(self.facts.freshness.fetched_at)
        };
        let ahead: Vec<DayRecord> = self.contenders.iter().filter(is_ahead).map(|one| one.record.clone()).collect();
        (!ahead.is_empty()).then_some(Step::SaveFuture(ahead))
    }

    pub(super) fn save_again(&self, record: &DayRecord) -> Cure {
        self.cure(record.record.kind, Some(record), Step::SaveAgain(record.clone()))
    }

    /// How the out-of-school records that count before a record can leave the session to it; `None` if there are many, or if
    /// other kinds of record count before it too.
    pub(super) fn end_rivals(&self, record: &DayRecord) -> Option<Step> {
        let rivals = self.contenders.iter().map(|one| &one.record).take_while(|one| !std::ptr::eq(*one, record));
        let rivals: Vec<DayRecord> = rivals.take(MOST_ENDED + 1).cloned().collect();
        if rivals.len() > MOST_ENDED || rivals.iter().any(|rival| rival.to.is_none()) {
            return None;
        }
        let row = self.row().filter(|row| rivals.iter().all(|rival| rival.from < row.from));
        Some(Step::EndRecords { records: rivals, at: row.map(|row| row.from.time()) })
    }

    /// What makes the session's mark the expected one, and leaves other sessions as they are: an out-of-school record can
    /// span many. The record that is saved last is the newest.
    pub(super) fn correction(&self, expected: &Expected) -> Cure {
        let row = self.row();
        let kind = match (expected, row) {
            (Expected::Present, Some(row)) => row.record.kind,
            (Expected::Code(_), None) => RecordKind::OutOfSchool,
            _ => RecordKind::Registration,
        };
        self.cure(kind, row, row.map_or(Step::EnterExpected, |row| Step::GiveExpected(row.clone())))
    }
}
