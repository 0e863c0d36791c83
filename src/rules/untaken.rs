use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{NaiveDate, NaiveDateTime, NaiveTime};
use serde::{Serialize, Serializer};

use super::duplicates::{compare_duplicates, is_not_taken};
use crate::model::{PeriodId, Registration, Session, StudentId, Zone};

/// A register of a date that was not taken, or not for every student.
///
/// Serialises as one register of `rollmark registers --json`, with the time as `HH:MM`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct UntakenRegister {
    /// When it begins, in school time.
    #[serde(serialize_with = "hours_and_minutes")]
    pub at: NaiveTime,
    /// Its registration period, if its rows have one.
    pub period: Option<PeriodId>,
    /// The session, if this register is the session's registration for any of its students ([R3](crate::guide::rules#r3)).
    pub session: Option<Session>,
    /// The students whose row was not taken.
    pub not_taken: u64,
    /// All students in it.
    pub students: u64,
}

fn hours_and_minutes<S: Serializer>(at: &NaiveTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&at.format("%H:%M"))
}

/// The rows of the requested dates: for each register and student, the one that counts (R4).
#[derive(Clone, Debug, Default)]
pub(super) struct DayRegisters {
    dates: BTreeSet<NaiveDate>,
    registers: BTreeMap<(NaiveDateTime, Option<PeriodId>), HashMap<StudentId, Registration>>,
}

impl DayRegisters {
    pub(super) fn ask(&mut self, dates: impl IntoIterator<Item = NaiveDate>) {
        self.dates.extend(dates);
    }

    pub(super) fn are_asked(&self, date: NaiveDate) -> bool {
        !self.dates.is_empty() && self.dates.contains(&date)
    }

    pub(super) fn take(&mut self, row: &Registration, at: NaiveDateTime, zone: &Zone) {
        let rows = self.registers.entry((at, row.period.clone())).or_default();
        match rows.get_mut(&row.student) {
            Some(known) if compare_duplicates(row, known, zone) == Ordering::Greater => *known = row.clone(),
            Some(_) => {}
            None => drop(rows.insert(row.student.clone(), row.clone())),
        }
    }

    /// The registers of a date that were not taken, or not for every student; sorted by time, then period. The function says
    /// whether a register with this time and period is a student's registration for the session.
    pub(super) fn not_taken(
        &self,
        date: NaiveDate,
        is_registration: impl Fn(&StudentId, Session, NaiveDateTime, Option<&PeriodId>) -> bool,
    ) -> Vec<UntakenRegister> {
        let of_date = self.registers.iter().filter(|((at, _), _)| at.date() == date);
        let untaken = of_date.filter_map(|((at, period), rows)| {
            let not_taken = rows.values().filter(|row| is_not_taken(row)).count() as u64;
            let is_session =
                |session: &Session| rows.keys().any(|student| is_registration(student, *session, *at, period.as_ref()));
            (not_taken > 0).then(|| UntakenRegister {
                at: at.time(),
                period: period.clone(),
                session: Session::BOTH.into_iter().find(is_session),
                not_taken,
                students: rows.len() as u64,
            })
        });
        untaken.collect()
    }
}
