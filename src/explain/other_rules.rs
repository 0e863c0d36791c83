//! Registers of the day that would be a session's register under another PM start or rule.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{NaiveDateTime, NaiveTime, TimeDelta, Timelike};

use super::Expected;
use super::day::{DayRecord, Facts, SessionDay};
use crate::model::{Registration, Session};
use crate::rules::{PmRule, compare_duplicates};

/// The most other registers of the day to try, the likeliest first; a student has some ten.
const MOST_TRIED: usize = 20;

impl Facts {
    /// The student's registers of the day, by time, each with the row that counts (R4): of all rows, or of those that are
    /// flagged with a session.
    fn registers(&self, flag: Option<Session>) -> BTreeMap<NaiveDateTime, &Registration> {
        let zone = self.rules.zone();
        let is_flagged =
            |row: &&Registration| flag.is_none() || row.period.as_ref().and_then(|period| self.flag(period)) == flag;
        let mut registers = BTreeMap::new();
        for row in self.read.rows.iter().filter(is_flagged) {
            let counting = registers.entry(row.at.school_time(zone)).or_insert(row);
            if compare_duplicates(row, counting, zone).is_gt() {
                *counting = row;
            }
        }
        registers
    }

    /// The rows that would be the session's registration under some rule, with that rule (R3).
    fn by_any_rule(&self, session: Session) -> Vec<(&Registration, PmRule)> {
        let registers = self.registers(None);
        let mut found: Vec<(&Registration, PmRule)> = match session {
            // Any start after the day's earliest register makes it AM.
            Session::Am => {
                let earliest = registers.first_key_value();
                earliest
                    .and_then(|(at, row)| Some((*row, PmRule::FirstFrom(start_after(at.time())?))))
                    .into_iter()
                    .collect()
            }
            Session::Pm => {
                let mut before: Option<NaiveDateTime> = None;
                let mut start = |at: NaiveDateTime| {
                    let minute = at.with_second(0).and_then(|at| at.with_nanosecond(0)).unwrap_or(at);
                    let is_first_from_minute = before.replace(at).is_none_or(|before| before < minute);
                    if is_first_from_minute { minute.time() } else { at.time() }
                };
                registers.iter().map(|(at, row)| (*row, PmRule::FirstFrom(start(*at)))).collect()
            }
        };
        let flagged = self.registers(Some(session));
        found.extend(flagged.first_key_value().map(|(_, row)| (*row, PmRule::RegistrationPeriods)));
        found
    }
}

/// Noon, or the next whole minute after a later time; `None` at the end of the day.
fn start_after(time: NaiveTime) -> Option<NaiveTime> {
    let minute = time.with_second(0)?.with_nanosecond(0)?;
    let start = if time < PmRule::NOON { PmRule::NOON } else { minute.overflowing_add_signed(TimeDelta::minutes(1)).0 };
    (start > time).then_some(start)
}

impl SessionDay<'_> {
    /// A registration of neither session that says what is expected, and a rule under which it would count and decide.
    pub(super) fn counts_by_other_rule(&self, expected: &Expected) -> Option<(DayRecord, PmRule)> {
        let (facts, session) = (self.facts, self.session);
        if self.register.has_session_marks() {
            return None;
        }
        let rows = |session| self.register.rows(&facts.question.student, facts.question.date, session);
        let of_other_session =
            Session::BOTH.into_iter().filter(|one| *one != session).filter_map(|one| rows(one).into_iter().next());
        let known: BTreeSet<Registration> = rows(session).into_iter().chain(of_other_session).collect();
        let mut others: Vec<(DayRecord, &Registration, PmRule)> = facts
            .by_any_rule(session)
            .into_iter()
            .filter(|(row, _)| !known.contains(row))
            .map(|(row, rule)| (facts.day_record(self.register, &self.register.candidate(row)), row, rule))
            .filter(|(record, ..)| record.says(expected))
            .collect();
        // The likeliest register first: flagged with the session, then in its half of the day.
        others.sort_by_key(|(record, ..)| (record.flag != Some(session), record.half_day() != session, record.from));
        let decides = |row: &Registration| {
            let winner = self.register.outcome(&self.register.winner_beside(row));
            expected.is_met(winner.status, winner.letter.as_deref())
        };
        let found = others.into_iter().take(MOST_TRIED).find(|(_, row, _)| decides(row));
        found.map(|(record, _, rule)| (record, rule))
    }
}
