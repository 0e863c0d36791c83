use std::cmp::{Ordering, Reverse};

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};

use super::window::dates;
use super::{MidnightEnd, Rules, Window};
use crate::model::{FIRST_REAL_YEAR, FeedTime, OutOfSchool, RecordId, compare_ids};

/// An out-of-school record with its interval in school time and its stamp as an instant (R5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) record: OutOfSchool,
    /// Included.
    pub(crate) from: NaiveDateTime,
    /// Not included.
    pub(crate) to: NaiveDateTime,
    pub(crate) stamp: Option<DateTime<Utc>>,
    pub(super) end: End,
}

/// How the end of a span was written (R5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// As a time or a date with a clear meaning.
    Plain,
    Missing,
    /// As the midnight of the date on which it begins: the whole date is meant.
    SameMidnight,
    /// From midnight to the midnight of a later date: nothing says whether that date is included.
    LaterMidnight,
}

impl Span {
    pub(crate) fn new(record: OutOfSchool, rules: &Rules) -> Self {
        let zone = rules.zone();
        let is_midnight = |time: FeedTime| !time.is_date() && time.school_time(zone).time() == NaiveTime::MIN;
        let from = record.from.school_time(zone);
        let given = record.to.map(|to| (to, to.school_time(zone))).filter(|(_, to)| to.year() >= FIRST_REAL_YEAR);
        let (to, end) = match given {
            None => (end_of(from.date()), End::Missing),
            Some((written, to)) if written.is_date() => (end_of(to.date()), End::Plain),
            Some((written, to)) if written.is_end_of_day() || !is_midnight(written) => (to, End::Plain),
            Some((_, to)) if to.date() == from.date() => (end_of(to.date()), End::SameMidnight),
            Some((_, to)) if is_midnight(record.from) && to > from => match rules.midnight_end {
                MidnightEnd::Excluded => (to, End::LaterMidnight),
                MidnightEnd::IncludesDate => (end_of(to.date()), End::LaterMidnight),
            },
            Some((_, to)) => (to, End::Plain),
        };
        let stamp = record.last_updated.map(|stamp| stamp.instant(zone));
        Self { from, to, stamp, end, record }
    }

    /// Whether this is one day, written from its midnight to the same midnight.
    pub(super) fn is_whole_day(&self) -> bool {
        self.end == End::SameMidnight && self.from.time() == NaiveTime::MIN && !self.record.from.is_date()
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

    /// Whether the record lies in or reaches into the window; an invalid record lies where its start lies.
    pub(crate) fn reaches_into(&self, window: Window) -> bool {
        if self.is_valid() {
            self.overlaps(window.from().and_time(NaiveTime::MIN), end_of(window.to()))
        } else {
            window.contains(self.from.date())
        }
    }

    /// The dates of the window on which the record lies.
    pub(super) fn dates_in(&self, window: Window) -> impl Iterator<Item = NaiveDate> + use<> {
        let last = if self.is_valid() { (self.to - TimeDelta::nanoseconds(1)).date() } else { self.from.date() };
        dates(self.from.date().max(window.from()), last.min(window.to()))
    }

    /// R6.2 between out-of-school records with equal stamps: the greater wins.
    pub(super) fn compare_ties(&self, other: &Self) -> Ordering {
        (self.from, Reverse(self.length()))
            .cmp(&(other.from, Reverse(other.length())))
            .then_with(|| compare_ids(self.id(), other.id()))
            // The content comes first (R1.6), before how the times are written.
            .then_with(|| (&self.record.code, &self.record.reason).cmp(&(&other.record.code, &other.record.reason)))
            .then_with(|| self.record.cmp(&other.record))
    }

    /// The order of versions of one record: the latest stamp, then R6.2 (R1.5).
    pub(crate) fn compare_versions(&self, other: &Self) -> Ordering {
        self.stamp.cmp(&other.stamp).then_with(|| self.compare_ties(other))
    }
}

/// Versions of one record that were saved this close together are one series: all of them count if they do not overlap.
const SERIES: TimeDelta = TimeDelta::seconds(60);

/// One student's records, sorted into those that count and superseded versions (R1.5).
#[derive(Default)]
pub(crate) struct Versions {
    pub(crate) counting: Vec<Span>,
    pub(crate) superseded: Vec<Superseded>,
}

/// A version of a record that another one has replaced.
pub(crate) struct Superseded {
    pub(crate) span: Span,
    /// It is valid and overlaps no version that counts.
    pub(super) is_apart: bool,
}

impl Versions {
    pub(crate) fn of(mut spans: Vec<Span>) -> Self {
        // By id, then time: every order of arrival gives the same result.
        spans.sort_by(|a, b| (a.id(), a.from, a.to).cmp(&(b.id(), b.from, b.to)).then_with(|| a.compare_versions(b)));
        let mut versions = Self::default();
        let mut spans = spans.into_iter().peekable();
        while let Some(first) = spans.next() {
            let id = first.id().cloned();
            let mut group = vec![first];
            while let Some(next) = spans.next_if(|next| id.is_some() && next.id() == id.as_ref()) {
                group.push(next);
            }
            versions.add(group);
        }
        versions
    }

    /// Takes the records of one id, sorted by time.
    fn add(&mut self, group: Vec<Span>) {
        let latest = group.iter().filter_map(|span| span.stamp).max();
        let is_recent = |span: &Span| match (latest, span.stamp) {
            (Some(latest), Some(stamp)) => latest - stamp <= SERIES,
            (latest, stamp) => latest == stamp,
        };
        let (mut counting, mut superseded): (Vec<Span>, Vec<Span>) = group.into_iter().partition(is_recent);
        let is_series = counting.iter().filter(|span| span.is_valid()).is_sorted_by(|a, b| a.to <= b.from);
        if !is_series {
            counting.sort_by(Span::compare_versions);
            let newest = counting.pop();
            superseded.append(&mut counting);
            counting.extend(newest);
        }
        // They are sorted and none overlaps another, so only the first that does not end before a version has to be checked.
        let valid: Vec<&Span> = counting.iter().filter(|span| span.is_valid()).collect();
        let is_apart = |span: &Span| {
            let at = valid.partition_point(|other| other.to <= span.from);
            span.is_valid() && valid.get(at).is_none_or(|other| other.from >= span.to)
        };
        let superseded = superseded.into_iter().map(|span| Superseded { is_apart: is_apart(&span), span });
        self.superseded.extend(superseded);
        self.counting.append(&mut counting);
    }
}

/// The midnight that ends the date.
pub(super) fn end_of(date: NaiveDate) -> NaiveDateTime {
    date.checked_add_days(Days::new(1)).map_or(NaiveDateTime::MAX, |next| next.and_time(NaiveTime::MIN))
}
