use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

/// What can be the matter with a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FindingName {
    /// The date lies outside the dates that ordinary syncs cover.
    OutsideWindow,
    /// The store shows something else than the source says now.
    StoreBehindSource,
    /// A record says what is expected, but has no time of update.
    MissingTimestamp,
    /// An out-of-school record says what is expected, but another record is newer.
    OutOfSchoolOlderThanRegistration,
    /// The session's registration says what is expected, but an out-of-school record is as new or newer, and counts.
    RegistrationOlderThanOutOfSchool,
    /// A row of the same register says what is expected, but another row of it counts.
    DuplicateRegistrations,
    /// An out-of-school record says what is expected, but not at the session's time.
    OutOfSchoolDoesNotCoverSession,
    /// Another register of the day says what is expected.
    PmRulePicksOtherRegistration,
    /// The record that decides has a code that the code table does not know.
    UnknownCode,
    /// The register has not been taken.
    NotTaken,
    /// The source has nothing of this student and date.
    NoRecord,
    /// Nothing that was read says what is expected, but the replies can be old.
    CacheMayBeStale,
    /// Nothing is wrong.
    Consistent,
    /// Replies can be older than is advised.
    CacheExpiryTooLong,
}

impl FindingName {
    /// The finding's name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::OutsideWindow => "outside_window",
            Self::StoreBehindSource => "store_behind_source",
            Self::MissingTimestamp => "missing_timestamp",
            Self::OutOfSchoolOlderThanRegistration => "out_of_school_older_than_registration",
            Self::RegistrationOlderThanOutOfSchool => "registration_older_than_out_of_school",
            Self::DuplicateRegistrations => "duplicate_registrations",
            Self::OutOfSchoolDoesNotCoverSession => "out_of_school_does_not_cover_session",
            Self::PmRulePicksOtherRegistration => "pm_rule_picks_other_registration",
            Self::UnknownCode => "unknown_code",
            Self::NotTaken => "not_taken",
            Self::NoRecord => "no_record",
            Self::CacheMayBeStale => "cache_may_be_stale",
            Self::Consistent => "consistent",
            Self::CacheExpiryTooLong => "cache_expiry_too_long",
        }
    }
}

impl fmt::Display for FindingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One thing that was found, and what to do about it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// Its name.
    pub name: FindingName,
    /// What was found: sentences for a school office.
    pub summary: String,
    /// What to do: sentences for a school office.
    pub advice: String,
    /// Ids, times and stamps.
    pub evidence: Map<String, Value>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.name, self.summary, self.advice)
    }
}
