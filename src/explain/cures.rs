//! What makes a mark the expected one, as parts of sentences.

use super::diagnosis::Contender;
use super::findings::Situation;
use super::words::{MOST_NAMED, capitalised, clock, kind, listed, named, setting};
use super::{DayRecord, Expected};
use crate::model::{LoserReason, RecordKind, Session, Status};
use crate::rules::PmRule;

/// Whether a register is of the half of the day that people call so, whatever the rules.
pub(super) fn is_of_half_day(register: &DayRecord, session: Session) -> bool {
    (register.from.time() < PmRule::NOON) == (session == Session::Am)
}

impl Situation<'_> {
    /// The record by its id; with its times where it has none, or where others of the day share it.
    pub(super) fn short(&self, record: &DayRecord) -> String {
        let own = &record.record;
        let shares = |one: &&Contender| one.record.record.kind == own.kind && one.record.record.id == own.id;
        match &own.id {
            Some(id) if self.contenders.iter().filter(shares).nth(1).is_none() => {
                format!("the {} {id}", kind(own.kind))
            }
            _ => named(record),
        }
    }

    /// What has to be done before a saved record of the kind is the newest, as the beginning of a sentence.
    pub(super) fn first(&self, of_kind: RecordKind, record: Option<&DayRecord>) -> String {
        let steps = [self.name_field(of_kind, record), self.save_future(record)];
        let steps: Vec<String> = steps.into_iter().flatten().collect();
        match steps.is_empty() {
            true => String::new(),
            false => format!("first {}; then ", steps.join(", and ")),
        }
    }

    /// Saving a record makes it the newest only where a time of update is read of its kind.
    pub(super) fn name_field(&self, of_kind: RecordKind, record: Option<&DayRecord>) -> Option<String> {
        let winner = self.winner()?;
        let decides = record.is_some_and(|record| std::ptr::eq(winner, record));
        let needs_time = !decides && winner.status != Status::NotTaken;
        (needs_time && !self.facts.has_stamps(of_kind)).then(|| {
            let (kind, setting, candidates) = (kind(of_kind), setting(of_kind), self.stamp_fields(of_kind));
            format!(
                "name the field that holds the time of update of {kind}s ({setting}{candidates}), since no {kind} was read with one"
            )
        })
    }

    /// Fields that may hold the time of update that no record of the kind was read with: "; it may be one of: A, B".
    pub(super) fn stamp_fields(&self, of_kind: RecordKind) -> String {
        match (of_kind, self.undecided()) {
            (RecordKind::OutOfSchool, Some(names)) => format!("; it may be one of: {names}"),
            _ => String::new(),
        }
    }

    /// What to do where a field that is not looked for may hold the code that no out-of-school record was read with.
    pub(super) fn code_fields(&self, expected: &Expected) -> Option<String> {
        let names = self.undecided().filter(|_| !self.facts.spans_have_codes && *expected != Expected::Present)?;
        Some(format!(
            "No out-of-school record was read with a code; if one of these fields holds it, name that field (setting \
             out_of_school_code; on the command line, --field out_of_school_code=NAME): {names}."
        ))
    }

    fn undecided(&self) -> Option<String> {
        let names = &self.facts.undecided_fields;
        let named: Vec<String> = names.iter().take(MOST_NAMED).cloned().collect();
        (!names.is_empty()).then(|| listed(&named, names.len().saturating_sub(MOST_NAMED)))
    }

    /// Nothing is newer than a rival whose time of update lies in the future, until that rival is saved.
    fn save_future(&self, record: Option<&DayRecord>) -> Option<String> {
        let is_ahead = |one: &&Contender| {
            !record.is_some_and(|record| std::ptr::eq(&one.record, record))
                && !matches!(one.why, Some(LoserReason::NotCovering | LoserReason::OtherRegistration))
                && one.record.record.last_updated > Some(self.facts.freshness.fetched_at)
        };
        let ahead = || self.contenders.iter().filter(is_ahead);
        let names: Vec<String> = ahead().take(MOST_NAMED).map(|one| self.short(&one.record)).collect();
        let more = ahead().skip(MOST_NAMED).count();
        let whose = if names.len() == 1 { "its time of update lies" } else { "their times of update lie" };
        (!names.is_empty()).then(|| format!("save {} again, because {whose} in the future", listed(&names, more)))
    }

    pub(super) fn save_again(&self, record: &DayRecord) -> String {
        let first = self.first(record.record.kind, Some(record));
        format!("{first}save {} again, so that it is the newest", self.short(record))
    }

    /// How the out-of-school records that count before a record can leave the session to it; `None` where they are many, or
    /// others count before it too.
    pub(super) fn end_rivals(&self, record: &DayRecord) -> Option<String> {
        let rivals = self.contenders.iter().map(|one| &one.record).take_while(|one| !std::ptr::eq(*one, record));
        let rivals: Vec<&DayRecord> = rivals.take(MOST_NAMED + 1).collect();
        if rivals.len() > MOST_NAMED || rivals.iter().any(|rival| rival.to.is_none()) {
            return None;
        }
        let names: Vec<String> = rivals.iter().map(|rival| self.short(rival)).collect();
        let names = listed(&names, 0);
        Some(match self.row() {
            Some(row) if rivals.iter().all(|rival| rival.from < row.from) => {
                format!("end {names} at {} (if the student was back by then)", clock(row.from.time()))
            }
            _ => format!("change the times of {names}, so that the {} session is left out", self.session),
        })
    }

    /// What makes the session's mark the expected one, and leaves other sessions as they are: an out-of-school record can
    /// span many. What is saved last is the newest.
    pub(super) fn correction(&self, expected: &Expected) -> String {
        let (session, date) = (self.session, self.facts.question.date);
        let row = self.row();
        let (of_kind, what) = match (expected, row) {
            (Expected::Present, Some(row)) if row.record.kind == RecordKind::SessionMark => {
                (RecordKind::SessionMark, format!("change {} to present", named(row)))
            }
            (Expected::Code(letter), Some(row)) => {
                (RecordKind::Registration, format!("give {} the code {letter}", named(row)))
            }
            (Expected::Present, Some(row)) => {
                (RecordKind::Registration, format!("mark the student as present in {}", named(row)))
            }
            (Expected::Code(letter), None) => (
                RecordKind::OutOfSchool,
                format!("enter an out-of-school record with the code {letter} for the {session} session of {date}"),
            ),
            (Expected::Present, None) => {
                (RecordKind::Registration, format!("enter the student as present in the {session} register of {date}"))
            }
        };
        format!("{}{what}", self.first(of_kind, row))
    }

    /// What to enter where nothing is.
    pub(super) fn entry(&self, expected: Option<&Expected>) -> String {
        let what = expected.map_or("the attendance".to_owned(), ToString::to_string);
        let (session, date) = (self.session, self.facts.question.date);
        format!("enter {what} for the {session} session of {date} in the management system")
    }

    fn is_by_periods(&self) -> bool {
        self.facts.rules.pm() == PmRule::RegistrationPeriods
    }

    /// Under the period rule, a date without a period of the session: what is the matter, and what to do.
    pub(super) fn flagging(&self) -> Option<(String, String)> {
        let (facts, session) = (self.facts, self.session);
        let has_periods = self.is_by_periods() && !self.register.has_session_marks();
        (has_periods && facts.first_period(session).is_none()).then(|| {
            (
                format!("No registration period of {} is flagged {session}", facts.question.date),
                format!(
                    "flag the period of the {session} register as {session} in the management system, or give the API \
                     key access to it"
                ),
            )
        })
    }

    /// The last sync was told that the school was closed on the date.
    pub(super) fn is_closed(&self) -> bool {
        self.register.is_closed(self.facts.question.date)
    }

    /// Why the session has no mark, and what to do if it should have one.
    pub(super) fn nothing_here(&self, expected: Option<&Expected>) -> (String, String) {
        let (facts, session, date) = (self.facts, self.session, self.facts.question.date);
        if self.is_closed() {
            return (
                format!("The school was closed on {date}, as the last sync was told"),
                format!("sync without saying that the school was closed on {date} (--closed)"),
            );
        }
        let with = expected.map(|expected| format!(", with {expected} for this student")).unwrap_or_default();
        let is_unlisted = |record: &&DayRecord| is_of_half_day(record, session) && facts.is_unlisted(record);
        let records = self.contenders.iter().map(|one| &one.record);
        let unlisted = records.filter(is_unlisted).find_map(|row| Some((row, row.period.as_ref()?)));
        if let (Some((row, period)), true) = (unlisted, self.is_by_periods()) {
            return (
                format!(
                    "{} belongs to the registration period {period}, which was not read, so it does not count",
                    capitalised(&named(row))
                ),
                format!("give the API key access to the registration period {period}"),
            );
        }
        match self.flagging() {
            Some(flagging) => flagging,
            None if self.has_school => (
                format!("Nothing that was read makes a mark for this student in the {session} session"),
                self.entry(expected),
            ),
            None if self.register.has_session_marks() => {
                (format!("No student has a session mark for the {session} session of {date}"), self.entry(expected))
            }
            None => (
                format!("No student has a register in the {session} session of {date}, so there are no marks for it"),
                format!("take the {session} register{with}, if there was school"),
            ),
        }
    }
}
