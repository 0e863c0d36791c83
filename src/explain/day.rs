//! The records of a student's day, and what became of each.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{NaiveDateTime, NaiveTime};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::{Expected, Question, ShownMark};
use crate::model::{
    FeedTime, LoserReason, Mark, OutOfSchool, PeriodId, Record, RecordKind, RecordReference, Registration,
    RegistrationPeriod, Session, Status, stamp_text,
};
use crate::rules::{Candidate, Freshness, PmRule, Register, Rules, Span, Versions, Window};

/// One record of the student's day.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DayRecord {
    /// The record.
    pub record: RecordReference,
    /// What the mark would say if this record decided.
    pub status: Status,
    /// The letter of its code, if the code table has the code.
    pub code: Option<Box<str>>,
    /// In school time: the time of a registration, the start of an out-of-school record (included), or the start of a
    /// session mark's half of the day.
    pub from: NaiveDateTime,
    /// The end of an out-of-school record (not included); `None` for other records.
    pub to: Option<NaiveDateTime>,
    /// The period of a registration.
    pub period: Option<PeriodId>,
    /// The session flag of that period.
    pub flag: Option<Session>,
}

impl DayRecord {
    pub(super) fn says(&self, expected: &Expected) -> bool {
        expected.is_met(self.status, self.code.as_deref())
    }

    /// The half of the day in which people see it, whatever the rules; for a session mark, its session.
    pub(super) fn half_day(&self) -> Session {
        if self.from.time() < PmRule::NOON { Session::Am } else { Session::Pm }
    }

    pub(super) fn is_of_kind(&self, kind: RecordKind) -> bool {
        self.record.kind == kind
    }
}

impl Serialize for DayRecord {
    /// As evidence: an out-of-school record with `from` and `to`, a registration with `at` and `period`, a session mark with
    /// `date` and `session`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(7))?;
        map.serialize_entry("kind", &self.record.kind)?;
        map.serialize_entry("id", &self.record.id)?;
        map.serialize_entry("last_updated", &self.record.last_updated.map(stamp_text))?;
        map.serialize_entry("status", &self.status)?;
        map.serialize_entry("code", &self.code)?;
        match (self.record.kind, self.to) {
            (RecordKind::SessionMark, _) => {
                map.serialize_entry("date", &self.from.date())?;
                map.serialize_entry("session", &self.half_day())?;
            }
            (_, Some(to)) => {
                map.serialize_entry("from", &self.from)?;
                map.serialize_entry("to", &to)?;
            }
            (_, None) => {
                map.serialize_entry("at", &self.from)?;
                map.serialize_entry("period", &self.period)?;
            }
        }
        map.end()
    }
}

/// A record of the day, and what became of it in one session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Contender {
    /// The record.
    pub record: DayRecord,
    /// Why it did not decide; `None` for the one that did.
    pub why: Option<LoserReason>,
    pub(super) is_expected: bool,
}

/// What is known in addition to the resolved register.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) question: Question,
    /// What ordinary syncs cover.
    pub(super) window: Window,
    pub(super) rules: Rules,
    pub(super) freshness: Freshness,
    pub(super) shown: Vec<ShownMark>,
    /// Fields of out-of-school records that may hold their stamp or code.
    pub(super) undecided_fields: Vec<String>,
    pub(super) read: Read,
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// The student's rows of the date: registrations or session marks.
    pub(super) rows: BTreeSet<Registration>,
    /// The student's out-of-school records, of any date.
    spans: BTreeSet<OutOfSchool>,
    /// The periods of the date; of two that share an id the greater counts (R1.5).
    periods: BTreeMap<PeriodId, RegistrationPeriod>,
    /// The letters of the code table.
    pub(super) letters: BTreeSet<Box<str>>,
    /// Another student has a registration on the date.
    pub(super) others_have_rows: bool,
    /// At least one registration, of any student, has a time of update.
    rows_have_stamps: bool,
    /// At least one out-of-school record, of any student, has a time of update.
    spans_have_stamps: bool,
    /// At least one out-of-school record, of any student, has a code.
    pub(super) spans_have_codes: bool,
}

impl Facts {
    pub(super) fn new(rules: Rules, question: Question, freshness: Freshness) -> Self {
        let window = question.window_at(rules.zone().wall_time(freshness.fetched_at).date());
        let (shown, undecided_fields, read) = Default::default();
        Self { question, window, rules, freshness, shown, undecided_fields, read }
    }

    pub(super) fn note(&mut self, record: &Record) {
        let Question { student, date, .. } = &self.question;
        let is_of_date = |at: FeedTime| at.school_time(self.rules.zone()).date() == *date;
        match record {
            Record::Registration(row) => {
                self.read.rows_have_stamps |= row.last_updated.is_some();
                if row.student != *student {
                    self.read.others_have_rows = self.read.others_have_rows || is_of_date(row.at);
                } else if is_of_date(row.at) {
                    self.read.rows.insert(row.clone());
                }
            }
            Record::OutOfSchool(span) => {
                self.read.spans_have_stamps |= span.last_updated.is_some();
                self.read.spans_have_codes |= span.code.is_some();
                if span.student == *student {
                    // These rows decide nothing, so their free texts need not be held twice.
                    self.read.spans.insert(OutOfSchool { reason: None, ..span.clone() });
                }
            }
            Record::Period(period) => {
                if is_of_date(period.at) && self.read.periods.get(&period.id).is_none_or(|known| known < period) {
                    self.read.periods.insert(period.id.clone(), period.clone());
                }
            }
            Record::Code(code) => self.read.letters.extend(code.letter.clone()),
            Record::SessionMark(mark) => {
                self.read.rows_have_stamps |= mark.last_updated.is_some();
                if mark.student != *student {
                    self.read.others_have_rows |= mark.date == *date;
                } else if mark.date == *date {
                    self.read.rows.insert(mark.clone().into_row());
                }
            }
        }
    }

    /// All records of the day, by time.
    pub(super) fn day(&self, register: &Register) -> Vec<DayRecord> {
        let spans = register.out_of_school(&self.question.student);
        let rows = self.read.rows.iter().map(|row| register.candidate(row));
        let mut day: Vec<_> = spans.chain(rows).map(|candidate| self.day_record(register, &candidate)).collect();
        day.sort_by_key(|record| record.from);
        day
    }

    /// The records of the day for one session: the winner first, then the others in the order in which they would have won.
    pub(super) fn contenders(&self, register: &Register, session: Session) -> Vec<Contender> {
        let Question { student, date, expected, .. } = &self.question;
        let rows_of_session = register.rows(student, *date, session);
        let mut all = register.contenders(student, *date, session, &rows_of_session);
        let known: BTreeSet<&Registration> = all
            .iter()
            .filter_map(|(candidate, _)| match candidate {
                Candidate::Row(row, ..) => Some(*row),
                Candidate::OutOfSchool(_) => None,
            })
            .collect();
        // No rule moves a session mark to the other session.
        let rows = self.read.rows.iter().filter(|_| !register.has_session_marks());
        let others = rows.filter(|row| !known.contains(row));
        let others: Vec<_> =
            others.map(|row| (register.candidate(row), Some(LoserReason::OtherRegistration))).collect();
        all.extend(others);
        all.into_iter()
            .map(|(candidate, why)| {
                let record = self.day_record(register, &candidate);
                let is_expected = expected.as_ref().is_some_and(|expected| record.says(expected));
                Contender { record, why, is_expected }
            })
            .collect()
    }

    pub(super) fn day_record(&self, register: &Register, candidate: &Candidate<'_>) -> DayRecord {
        let outcome = register.outcome(candidate);
        let (from, to, period) = match candidate {
            Candidate::Row(row, ..) => (row.at.school_time(self.rules.zone()), None, row.period.clone()),
            Candidate::OutOfSchool(span) => (span.from, Some(span.to), None),
        };
        let flag = period.as_ref().and_then(|period| self.flag(period));
        let (status, code) = (outcome.status, outcome.letter);
        DayRecord { record: candidate.reference(), status, code, from, to, period, flag }
    }

    /// The student's out-of-school records of the whole fetch (R1.5).
    pub(super) fn versions(&self) -> Versions {
        Versions::of(self.read.spans.iter().map(|record| Span::new(record.clone(), &self.rules)).collect())
    }

    /// Whether any record of the kind has a time of update.
    pub(super) fn has_stamps(&self, kind: RecordKind) -> bool {
        match kind {
            RecordKind::Registration | RecordKind::SessionMark => self.read.rows_have_stamps,
            RecordKind::OutOfSchool => self.read.spans_have_stamps,
            RecordKind::Unknown => false,
        }
    }

    pub(super) fn is_by_periods(&self) -> bool {
        self.rules.is_by_periods()
    }

    /// A registration whose period is not in the list: the period rule passes it over (R3).
    pub(super) fn is_unlisted(&self, record: &DayRecord) -> bool {
        record.to.is_none() && record.period.as_ref().is_none_or(|period| !self.read.periods.contains_key(period))
    }

    pub(super) fn flag(&self, id: &PeriodId) -> Option<Session> {
        self.read.periods.get(id)?.flag()
    }

    /// The time of the date's first period with the session's flag.
    pub(super) fn first_period(&self, session: Session) -> Option<NaiveDateTime> {
        let has_flag = |period: &&RegistrationPeriod| period.flag() == Some(session);
        self.read.periods.values().filter(has_flag).map(|period| period.at.school_time(self.rules.zone())).min()
    }

    /// The midnight that begins the date.
    pub(super) fn midnight(&self) -> NaiveDateTime {
        self.question.date.and_time(NaiveTime::MIN)
    }
}

/// One session of the student's day.
pub(super) struct SessionDay<'a> {
    pub(super) facts: &'a Facts,
    pub(super) register: &'a Register,
    pub(super) session: Session,
    pub(super) mark: Option<&'a Mark>,
    pub(super) contenders: &'a [Contender],
    /// The school was in session (R7).
    pub(super) has_school: bool,
    /// The student has a record on that date.
    pub(super) has_records: bool,
}

impl SessionDay<'_> {
    /// Whether the caller of the last sync stated that the school was closed on the date.
    pub(super) fn is_closed(&self) -> bool {
        self.register.is_closed(self.facts.question.date)
    }

    /// The record that decides.
    pub(super) fn winner(&self) -> Option<&DayRecord> {
        self.contenders.iter().find(|one| one.why.is_none()).map(|one| &one.record)
    }

    /// The student's row of the session's register (R3).
    pub(super) fn row(&self) -> Option<&DayRecord> {
        let is_row = |one: &&Contender| {
            !one.record.is_of_kind(RecordKind::OutOfSchool)
                && !matches!(one.why, Some(LoserReason::Duplicate | LoserReason::OtherRegistration))
        };
        self.contenders.iter().find(is_row).map(|one| &one.record)
    }

    /// What the portal's store shows.
    pub(super) fn shown(&self) -> Option<&ShownMark> {
        self.facts.shown.iter().find(|shown| shown.session == self.session)
    }

    /// The time of the session's register, if it has one; or else of its first period.
    pub(super) fn register_at(&self) -> Option<NaiveDateTime> {
        let picked = self.mark.and_then(|mark| mark.decision.registration.as_ref()).map(|picked| picked.at);
        picked.or_else(|| self.facts.is_by_periods().then(|| self.facts.first_period(self.session)).flatten())
    }
}
