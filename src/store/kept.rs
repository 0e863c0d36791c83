//! Changes and marks as the store in memory keeps them, at a third of their size.

use std::sync::Arc;

use chrono::{DateTime, NaiveDateTime, Utc};

use super::{Change, ChangeCursor, MarkKey};
use crate::model::{
    Decision, DecisionRule, Mark, MarkContent, PeriodId, PickedBy, PickedRegistration, RecordId, RecordKind,
    RecordReference, Status,
};

/// A change without the data of its run.
#[derive(Clone, Debug)]
pub(super) struct KeptChange {
    pub(super) key: MarkKey,
    pub(super) cursor: ChangeCursor,
    pub(super) run: u64,
    pub(super) before: Option<Arc<MarkContent>>,
    pub(super) after: Option<KeptMark>,
}

impl KeptChange {
    /// The whole change, for a run that fetched and was applied at these times.
    pub(super) fn change(&self, seen_at: DateTime<Utc>, applied_at: DateTime<Utc>) -> Change {
        let change = Change::new(self.key.clone(), self.cursor, self.run, seen_at, applied_at);
        change.with_before(self.before.clone()).with_after(self.mark())
    }

    /// The content of the mark that it made.
    pub(super) fn content(&self) -> Option<MarkContent> {
        Some(match self.after.as_ref()? {
            KeptMark::Usual(usual) => usual.content(),
            KeptMark::Other(mark) => mark.content(),
        })
    }

    /// The mark that it made.
    fn mark(&self) -> Option<Arc<Mark>> {
        Some(match self.after.as_ref()? {
            KeptMark::Usual(usual) => Arc::new(usual.mark(&self.key)),
            KeptMark::Other(mark) => Arc::clone(mark),
        })
    }
}

/// A mark without its place.
#[derive(Clone, Debug)]
pub(super) enum KeptMark {
    Usual(UsualMark),
    Other(Arc<Mark>),
}

impl KeptMark {
    pub(super) fn new(mark: &Arc<Mark>) -> Self {
        match UsualMark::of(mark) {
            Some(usual) => Self::Usual(usual),
            None => Self::Other(Arc::clone(mark)),
        }
    }
}

/// The form of nearly every mark: without a code, decided by the session's registration, which is the only record.
#[derive(Clone, Debug)]
pub(super) struct UsualMark {
    status: Status,
    picked_by: PickedBy,
    id: Option<RecordId>,
    period: Option<PeriodId>,
    at: NaiveDateTime,
    last_updated: Option<DateTime<Utc>>,
}

impl UsualMark {
    /// The usual form of a mark, if everything else follows from it and from the mark's place.
    fn of(mark: &Mark) -> Option<Self> {
        let picked = mark.decision.registration.as_ref()?;
        let usual = Self {
            status: mark.status,
            picked_by: picked.picked_by,
            id: picked.id.clone(),
            period: picked.period.clone(),
            at: picked.at,
            last_updated: mark.last_updated(),
        };
        (usual.mark(&MarkKey::from(mark)) == *mark).then_some(usual)
    }

    fn content(&self) -> MarkContent {
        let content = MarkContent::new(self.status, RecordKind::Registration, DecisionRule::OnlyCandidate);
        MarkContent { record_id: self.id.clone(), last_updated: self.last_updated, ..content }
    }

    fn mark(&self, key: &MarkKey) -> Mark {
        let Self { picked_by, id, period, at, last_updated, .. } = self.clone();
        let winner = RecordReference { kind: RecordKind::Registration, id: id.clone(), last_updated };
        let registration = Some(PickedRegistration { id, period, at, picked_by });
        key.mark(self.content(), Decision { registration, ..Decision::new(DecisionRule::OnlyCandidate, winner) })
    }
}
