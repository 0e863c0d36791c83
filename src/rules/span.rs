use std::cmp::{Ordering, Reverse};

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};

use super::Window;
use crate::model::{FIRST_REAL_YEAR, FeedTime, OutOfSchool, RecordId, Zone};

/// An out-of-school record with its interval in school time and its stamp as an instant (R5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) record: OutOfSchool,
    /// Included.
    pub(crate) from: NaiveDateTime,
    /// Not included.
    pub(crate) to: NaiveDateTime,
    pub(crate) stamp: Option<DateTime<Utc>>,
    pub(super) end_was_missing: bool,
}

impl Span {
    pub(super) fn new(record: OutOfSchool, zone: &Zone) -> Self {
        let from = record.from.school_time(zone);
        let given = record.to.filter(|to| to.school_time(zone).year() >= FIRST_REAL_YEAR);
        let to = match given {
            Some(FeedTime::Date(date)) => end_of(date),
            Some(to) => to.school_time(zone),
            None => end_of(from.date()),
        };
        let stamp = record.last_updated.map(|stamp| stamp.instant(zone));
        Self { from, to, stamp, end_was_missing: given.is_none(), record }
    }

    pub(super) fn id(&self) -> Option<&RecordId> {
        self.record.id.as_ref()
    }

    pub(super) fn is_valid(&self) -> bool {
        self.from < self.to
    }

    fn length(&self) -> TimeDelta {
        self.to - self.from
    }

    pub(super) fn covers(&self, time: NaiveDateTime) -> bool {
        self.from <= time && time < self.to
    }

    /// Whether the span shares any moment with [from, to).
    pub(super) fn overlaps(&self, from: NaiveDateTime, to: NaiveDateTime) -> bool {
        self.from.max(from) < self.to.min(to)
    }

    /// Whether the record lies in or reaches into the window; an invalid one lies where its beginning lies.
    pub(super) fn reaches_into(&self, window: Window) -> bool {
        if self.is_valid() {
            self.overlaps(window.from().and_time(NaiveTime::MIN), end_of(window.to()))
        } else {
            window.contains(self.from.date())
        }
    }

    /// R6.2 between out-of-school records of equal stamps: the greater wins.
    pub(super) fn compare_ties(&self, other: &Self) -> Ordering {
        (self.from, Reverse(self.length()))
            .cmp(&(other.from, Reverse(other.length())))
            .then_with(|| crate::model::compare_ids(self.id().map(RecordId::as_str), other.id().map(RecordId::as_str)))
            .then_with(|| self.record.cmp(&other.record))
    }

    /// The order of versions of one record: the latest stamp, then R6.2 (R1.5).
    pub(super) fn compare_versions(&self, other: &Self) -> Ordering {
        self.stamp.cmp(&other.stamp).then_with(|| self.compare_ties(other))
    }
}

/// The midnight that ends the date.
pub(super) fn end_of(date: NaiveDate) -> NaiveDateTime {
    date.checked_add_days(Days::new(1)).map_or(NaiveDateTime::MAX, |next| next.and_time(NaiveTime::MIN))
}
