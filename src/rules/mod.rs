//! The decisions, R1 to R10 of [the rules](crate::guide::rules): no clock, no I/O, no async. The result does not depend on
//! the order in which records arrive, nor on a record that arrives twice.

mod codes;
mod duplicates;
mod freshness;
mod register;
mod resolver;
mod span;
mod untaken;
mod window;

use std::fmt;
use std::str::FromStr;

use chrono::{NaiveTime, Timelike};
use serde::{Deserialize, Serialize};

use crate::model::{Zone, names, setters};

pub(crate) use duplicates::compare_duplicates;
pub use freshness::Freshness;
pub(crate) use register::Candidate;
pub use register::Register;
pub use resolver::{ResolveError, Resolver};
pub(crate) use span::{Span, Versions};
pub use untaken::UntakenRegister;
pub use window::{Scope, SyncWindow, Window, WindowError};

/// How AM and PM registers are distinguished ([R3](crate::guide::rules#r3)).
///
/// Written as the PM start (`13:30`), or as `periods`.
///
/// ```
/// use rollmark::rules::PmRule;
///
/// assert_eq!("13:30".parse(), PmRule::first_from(13, 30));
/// assert_eq!("periods".parse(), Ok(PmRule::RegistrationPeriods));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PmRule {
    /// The earliest registration of each half of the day counts. The afternoon starts at this school time, included.
    FirstFrom(NaiveTime),
    /// The session flag of the row's registration period decides.
    RegistrationPeriods,
}

/// A text or a number that is not a time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a PM rule; give a time such as 13:30, or the word periods")]
#[non_exhaustive]
pub struct UnknownPmRule;

impl PmRule {
    pub(crate) const NOON: NaiveTime = match NaiveTime::from_hms_opt(12, 0, 0) {
        Some(noon) => noon,
        None => NaiveTime::MIN,
    };

    /// The afternoon starts at this school time, included: a register at 13:30 needs `first_from(13, 30)`.
    ///
    /// # Errors
    /// There is no such time of day.
    pub fn first_from(hour: u32, minute: u32) -> Result<Self, UnknownPmRule> {
        NaiveTime::from_hms_opt(hour, minute, 0).map(Self::FirstFrom).ok_or(UnknownPmRule)
    }
}

impl Default for PmRule {
    /// The first registration from 12:00 on.
    fn default() -> Self {
        Self::FirstFrom(Self::NOON)
    }
}

impl FromStr for PmRule {
    type Err = UnknownPmRule;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == PERIODS {
            return Ok(Self::RegistrationPeriods);
        }
        let time = ["%H:%M", "%H:%M:%S%.f"].iter().find_map(|form| NaiveTime::parse_from_str(text, form).ok());
        time.map(Self::FirstFrom).ok_or(UnknownPmRule)
    }
}

const PERIODS: &str = "periods";

impl fmt::Display for PmRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstFrom(start) if start.signed_duration_since(start.with_second(0).unwrap_or(*start)).is_zero() => {
                write!(f, "{}", start.format("%H:%M"))
            }
            Self::FirstFrom(start) => write!(f, "{start}"),
            Self::RegistrationPeriods => f.write_str(PERIODS),
        }
    }
}

/// Which record wins when an out-of-school record and a registration have equal stamps, or none
/// ([R6.2](crate::guide::rules#r6-2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TieBreak {
    /// The out-of-school record.
    #[default]
    OutOfSchool,
    /// The registration.
    Registration,
}

names!(TieBreak, "a tie-break", { OutOfSchool => "out_of_school", Registration => "registration", });

/// What it means when an out-of-school record lasts from a midnight to a later midnight ([R5](crate::guide::rules#r5)).
/// Nothing in the record says whether its last date is included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MidnightEnd {
    /// The last date is not included: the end is taken as written.
    #[default]
    Excluded,
    /// The whole last date is included.
    IncludesDate,
}

names!(MidnightEnd, "a meaning of an end at midnight", { Excluded => "excluded", IncludesDate => "includes_date", });

/// A school's settings for the decisions. The zone, the PM rule and the rest belong to one school; another school has
/// its own.
///
/// ```
/// use rollmark::rules::{MidnightEnd, PmRule, Rules};
///
/// let rules = Rules::new("Europe/London".parse()?)
///     .with_pm(PmRule::first_from(13, 30)?)
///     .with_midnight_end(MidnightEnd::IncludesDate);
/// assert_eq!(rules.pm().to_string(), "13:30");
/// # Ok::<(), Box<dyn std::error::Error>>(())
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
    /// The default rules in the school's time zone: PM from 12:00, ties go to the out-of-school record, ends at
    /// midnight are taken as written.
    pub fn new(zone: Zone) -> Self {
        let (pm_rule, tie_break, midnight_end) = Default::default();
        Self { zone, pm_rule, tie_break, midnight_end }
    }

    /// Whether the session flags of the registration periods distinguish AM and PM.
    pub(crate) fn is_by_periods(&self) -> bool {
        self.pm_rule == PmRule::RegistrationPeriods
    }

    /// What an end at midnight means in a record of whole days.
    pub fn midnight_end(&self) -> MidnightEnd {
        self.midnight_end
    }

    /// The school's time zone.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// How AM and PM registers are distinguished.
    pub fn pm(&self) -> PmRule {
        self.pm_rule
    }

    /// Which record wins a tie.
    pub fn tie_break(&self) -> TieBreak {
        self.tie_break
    }
}

setters!(Rules {
    /// Sets how AM and PM registers are distinguished.
    with_pm(pm_rule: PmRule) => pm_rule;
    /// Sets which record wins a tie.
    with_tie_break(tie_break: TieBreak) => tie_break;
    /// Sets what an end at midnight means in a record of whole days.
    with_midnight_end(midnight_end: MidnightEnd) => midnight_end;
});
