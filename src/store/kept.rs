//! Changes and marks as the store in memory keeps them: in a third of their size.

use std::sync::Arc;

use chrono::{DateTime, NaiveDateTime, Utc};

use super::{Change, ChangeCursor, MarkKey};
use crate::model::{
    Decision, DecisionRule, Mark, MarkContent, PeriodId, PickedBy, PickedRegistration, RecordId, RecordKind,
    RecordReference, Status,
};

/// A change, without what its run says.
#[derive(Clone, Debug)]
pub(super) struct KeptChange {
    pub(super) key: MarkKey,
    pub(super) cursor: ChangeCursor,
    pub(super) run: u64,
    pub(super) before: Option<Arc<MarkContent>>,
    pub(super) after: Option<KeptMark>,
}

impl KeptChange {
    /// The whole change, of a run that fetched and was applied then.
    pub(super) fn change(&self, seen_at: DateTime<Utc>, applied_at: DateTime<Utc>) -> Change {
        let change = Change::new(self.key.clone(), self.cursor, self.run, seen_at, applied_at);
        change.with_before(self.before.clone()).with_after(self.mark())
    }

    /// What the mark says that it made.
    pub(super) fn content(&self) -> Option<MarkContent> {
        Some(match self.after.as_ref()? {
            KeptMark::Usual(usual) => MarkContent {
                status: usual.status,
                code: None,
                code_name: None,
                raw_code: None,
                minutes_late: None,
                decided_by: RecordKind::Registration,
                record_id: usual.id.clone(),
                last_updated: usual.last_updated,
                rule: DecisionRule::OnlyCandidate,
            },
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

/// What a mark of a known place says.
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

/// What nearly every mark is: one without a code, decided by the session's registration, which is the only record.
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
    /// What is left of a mark, if it is a usual one: all else follows from its place.
    fn of(mark: &Mark) -> Option<Self> {
        // Every field is named, so that a new one is thought of here.
        let Mark {
            student: _,
            date: _,
            session: _,
            status,
            code: None,
            code_name: None,
            raw_code: None,
            minutes_late: None,
            decision:
                Decision {
                    rule: DecisionRule::OnlyCandidate,
                    winner,
                    registration: Some(picked),
                    losers,
                    more_losers: 0,
                    judged_by_source: false,
                },
        } = mark
        else {
            return None;
        };
        let RecordReference { kind: RecordKind::Registration, id, last_updated } = winner else { return None };
        let PickedRegistration { id: picked_id, period, at, picked_by } = picked;
        (losers.is_empty() && id == picked_id).then(|| Self {
            status: *status,
            picked_by: *picked_by,
            id: id.clone(),
            period: period.clone(),
            at: *at,
            last_updated: *last_updated,
        })
    }

    fn mark(&self, key: &MarkKey) -> Mark {
        let Self { status, picked_by, id, period, at, last_updated } = self.clone();
        Mark {
            student: key.student.clone(),
            date: key.date,
            session: key.session,
            status,
            code: None,
            code_name: None,
            raw_code: None,
            minutes_late: None,
            decision: Decision {
                rule: DecisionRule::OnlyCandidate,
                winner: RecordReference { kind: RecordKind::Registration, id: id.clone(), last_updated },
                registration: Some(PickedRegistration { id, period, at, picked_by }),
                losers: Vec::new(),
                more_losers: 0,
                judged_by_source: false,
            },
        }
    }
}
