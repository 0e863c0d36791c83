//! The pure decisions, R1–R10: no clock, no I/O, no async. The result depends neither on the order in which records
//! arrive nor on a record arriving twice.

mod codes;
mod freshness;
mod register;
mod resolver;
mod span;
mod window;

use chrono::NaiveTime;
use serde::{Deserialize, Serialize};

use crate::model::Zone;

pub use freshness::Freshness;
pub use register::Register;
pub(crate) use register::{Candidate, compare_duplicates};
pub use resolver::{ResolveError, Resolver};
pub(crate) use span::{Span, Versions};
pub use window::{Scope, SyncWindow, Window, WindowError};

/// How AM and PM registers are distinguished (R3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PmRule {
    /// Each half-day's earliest registration counts; the afternoon begins at this school time, included.
    FirstFrom(NaiveTime),
    /// The session flag of the row's registration period decides.
    RegistrationPeriods,
}

impl PmRule {
    pub(crate) const NOON: NaiveTime = match NaiveTime::from_hms_opt(12, 0, 0) {
        Some(noon) => noon,
        None => NaiveTime::MIN,
    };
}

impl Default for PmRule {
    /// The first registration from 12:00 on.
    fn default() -> Self {
        Self::FirstFrom(Self::NOON)
    }
}

/// Which record wins when an out-of-school record and a registration have equal stamps, or none (R6.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TieBreak {
    /// The out-of-school record.
    #[default]
    OutOfSchool,
    /// The registration.
    Registration,
}

/// What it means when an out-of-school record runs from midnight to the midnight that begins a later date (R5): nothing in
/// the record tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MidnightEnd {
    /// It ends with the date before: the end stands as it is.
    #[default]
    Excluded,
    /// Its last date is included whole.
    IncludesDate,
}

/// A school's settings for the decisions.
///
/// ```
/// use chrono::NaiveTime;
/// use rollmark::rules::{PmRule, Rules};
///
/// let half_past_one = NaiveTime::from_hms_opt(13, 30, 0).unwrap();
/// let rules = Rules::new("Europe/London".parse().unwrap()).pm(PmRule::FirstFrom(half_past_one));
/// assert_eq!(rules.pm_rule(), PmRule::FirstFrom(half_past_one));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rules {
    zone: Zone,
    pm_rule: PmRule,
    tie_break: TieBreak,
    #[serde(default)]
    midnight_end: MidnightEnd,
}

impl Rules {
    /// The default rules in the school's IANA time zone: PM from 12:00, ties to the out-of-school record, ends at midnight
    /// as they stand.
    pub fn new(zone: Zone) -> Self {
        let (pm_rule, tie_break, midnight_end) = Default::default();
        Self { zone, pm_rule, tie_break, midnight_end }
    }

    /// Sets how AM and PM registers are distinguished.
    #[must_use]
    pub fn pm(mut self, rule: PmRule) -> Self {
        self.pm_rule = rule;
        self
    }

    /// Sets which record wins a tie.
    #[must_use]
    pub fn tie_break(mut self, tie_break: TieBreak) -> Self {
        self.tie_break = tie_break;
        self
    }

    /// Sets what an end at midnight means where a record spans whole days.
    #[must_use]
    pub fn midnight_end(mut self, midnight_end: MidnightEnd) -> Self {
        self.midnight_end = midnight_end;
        self
    }

    /// What an end at midnight means where a record spans whole days.
    pub fn ends_at_midnight(&self) -> MidnightEnd {
        self.midnight_end
    }

    /// The school's time zone.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// How AM and PM registers are distinguished.
    pub fn pm_rule(&self) -> PmRule {
        self.pm_rule
    }
}
