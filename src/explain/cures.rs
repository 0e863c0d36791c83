//! What makes a mark the expected one, as parts of sentences.

use super::diagnosis::Contender;
use super::findings::Situation;
use super::words::{capitalised, listed, named, short};
use super::{DayRecord, Expected};
use crate::model::{LoserReason, Session};
use crate::rules::PmRule;

/// Whether a register is of the half of the day that people call so, whatever the rules.
pub(super) fn is_of_half_day(register: &DayRecord, session: Session) -> bool {
    (register.from.time() < PmRule::NOON) == (session == Session::Am)
}

impl Situation<'_> {
    /// What has to be saved before a record can become the newest: rivals whose time of update lies in the future.
    pub(super) fn future_rivals(&self, record: Option<&DayRecord>) -> String {
        let is_ahead = |one: &&Contender| {
            !record.is_some_and(|record| std::ptr::eq(&one.record, record))
                && !matches!(one.why, Some(LoserReason::NotCovering | LoserReason::OtherRegistration))
                && one.record.record.last_updated > Some(self.facts.freshness.fetched_at)
        };
        let ahead: Vec<String> = self.contenders.iter().filter(is_ahead).map(|one| short(&one.record)).collect();
        match ahead.is_empty() {
            true => String::new(),
            false => format!("first save {} again (updated in the future, as it seems); then ", listed(&ahead)),
        }
    }

    pub(super) fn save_again(&self, record: &DayRecord) -> String {
        format!("{}save {} again, so that it is the newest", self.future_rivals(Some(record)), short(record))
    }

    /// What makes the session's mark the expected one, and leaves other sessions as they are: an out-of-school record can
    /// span many. What is saved last is the newest.
    pub(super) fn correction(&self, expected: &Expected) -> String {
        let (session, date) = (self.session, self.facts.question.date);
        let row = self.row();
        let what = match (expected, row) {
            (Expected::Code(letter), Some(row)) => format!("give {} the code {letter}", named(row)),
            (Expected::Present, Some(row)) => format!("mark the student as present in {}", named(row)),
            (Expected::Code(letter), None) => {
                format!("enter an out-of-school record with the code {letter} for the {session} session of {date}")
            }
            (Expected::Present, None) => format!("enter the student as present in the {session} register of {date}"),
        };
        format!("{}{what}", self.future_rivals(row))
    }

    /// What to enter where nothing is.
    pub(super) fn entry(&self, expected: Option<&Expected>) -> String {
        let what = expected.map_or("the attendance".to_owned(), ToString::to_string);
        let (session, date) = (self.session, self.facts.question.date);
        format!("enter {what} for the {session} session of {date} in the management system")
    }

    fn is_by_periods(&self) -> bool {
        self.facts.rules.pm_rule() == PmRule::RegistrationPeriods
    }

    /// Under the period rule, a date without a period of the session: what is the matter, and what to do.
    pub(super) fn flagging(&self) -> Option<(String, String)> {
        let (facts, session) = (self.facts, self.session);
        (self.is_by_periods() && facts.first_period(session).is_none()).then(|| {
            (
                format!("No registration period of {} is flagged {session}", facts.question.date),
                format!(
                    "flag the period of the {session} register as {session} in the management system, or let the API key \
                     read it"
                ),
            )
        })
    }

    /// Why the session has no mark, and what to do if it should have one.
    pub(super) fn nothing_here(&self, expected: Option<&Expected>) -> (String, String) {
        let (facts, session, date) = (self.facts, self.session, self.facts.question.date);
        let with = expected.map(|expected| format!(", with {expected} for this student")).unwrap_or_default();
        let is_unlisted = |record: &&DayRecord| is_of_half_day(record, session) && facts.is_unlisted(record);
        let records = self.contenders.iter().map(|one| &one.record);
        let unlisted = records.filter(is_unlisted).find_map(|row| Some((row, row.period.as_ref()?)));
        if let (Some((row, period)), true) = (unlisted, self.is_by_periods()) {
            return (
                format!(
                    "{} is of the registration period {period}, which was not read, so it is passed over",
                    capitalised(&named(row))
                ),
                format!("let the API key read the registration period {period} too"),
            );
        }
        match self.flagging() {
            Some(flagging) => flagging,
            None if self.has_school => {
                (format!("The student has nothing that makes a mark in this {session} session"), self.entry(expected))
            }
            None => (
                format!("No student has a register in the {session} session of {date}, so there are no marks for it"),
                format!("take the {session} register{with}, provided that there was school"),
            ),
        }
    }
}
