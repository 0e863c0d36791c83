//! Findings as data.

use std::fmt;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::DayRecord;
use crate::model::{
    Mark, PeriodId, PickedRegistration, RawCode, RecordKind, Session, StudentId, names, stamp_text, time_text,
};
use crate::rules::PmRule;

/// What can be wrong with a mark. The names are part of the JSON of a diagnosis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FindingName {
    /// The date is outside the dates that ordinary syncs cover.
    OutsideWindow,
    /// The portal's store shows something different from the source now.
    StoreBehindSource,
    /// A record says what is expected, but has no time of update.
    MissingTimestamp,
    /// An out-of-school record says what is expected, but another record is newer.
    OutOfSchoolOlderThanRegistration,
    /// The session's registration says what is expected, but an out-of-school record is as new or newer, and counts.
    RegistrationOlderThanOutOfSchool,
    /// A row of the same register says what is expected, but another row of that register counts.
    DuplicateRegistrations,
    /// An out-of-school record says what is expected, but not at the session's time.
    OutOfSchoolDoesNotCoverSession,
    /// Another register of the day says what is expected.
    PmRulePicksOtherRegistration,
    /// The record that decides has a code that the code table does not have.
    UnknownCode,
    /// The register has not been taken.
    NotTaken,
    /// The source has no record that explains what is expected, or no record at all for this student and date.
    NoRecord,
    /// No record says what is expected, but the replies can be too old to show it.
    CacheMayBeStale,
    /// Nothing is wrong.
    Consistent,
    /// The cache expiry is longer than advised.
    CacheExpiryTooLong,
}

names!(FindingName, "a finding", {
    OutsideWindow => "outside_window",
    StoreBehindSource => "store_behind_source",
    MissingTimestamp => "missing_timestamp",
    OutOfSchoolOlderThanRegistration => "out_of_school_older_than_registration",
    RegistrationOlderThanOutOfSchool => "registration_older_than_out_of_school",
    DuplicateRegistrations => "duplicate_registrations",
    OutOfSchoolDoesNotCoverSession => "out_of_school_does_not_cover_session",
    PmRulePicksOtherRegistration => "pm_rule_picks_other_registration",
    UnknownCode => "unknown_code",
    NotTaken => "not_taken",
    NoRecord => "no_record",
    CacheMayBeStale => "cache_may_be_stale",
    Consistent => "consistent",
    CacheExpiryTooLong => "cache_expiry_too_long",
});

/// One thing that was found, and what to do about it: as data, and in English.
///
/// Serialises as an object with `name`, `summary`, `advice` and `evidence`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Finding {
    /// What was found.
    pub evidence: Evidence,
    /// What to do, the most likely first; empty if there is nothing to do.
    pub cures: Vec<Cure>,
    /// What was found: sentences for a school office.
    pub summary: String,
    /// What to do: sentences for a school office.
    pub advice: String,
}

impl Finding {
    /// Its name.
    pub fn name(&self) -> FindingName {
        self.evidence.name()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.name(), self.summary, self.advice)
    }
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Finding", 4)?;
        object.serialize_field("name", &self.name())?;
        object.serialize_field("summary", &self.summary)?;
        object.serialize_field("advice", &self.advice)?;
        object.serialize_field("evidence", &self.evidence)?;
        object.end()
    }
}

/// What was found, with the records, times and stamps that prove it. Serialises as an object of these.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Evidence {
    /// [`FindingName::OutsideWindow`]
    #[non_exhaustive]
    OutsideWindow {
        /// The date in question.
        date: NaiveDate,
        /// The first date that ordinary syncs cover.
        window_from: NaiveDate,
        /// The last one.
        window_to: NaiveDate,
        /// The date is later than today.
        #[serde(skip)]
        is_ahead: bool,
    },
    /// [`FindingName::StoreBehindSource`]
    #[non_exhaustive]
    StoreBehindSource {
        /// The date in question.
        date: NaiveDate,
        /// What the store shows.
        #[serde(serialize_with = "as_line")]
        store_mark: Option<Mark>,
        /// The run that wrote or removed it.
        run: Option<u64>,
        /// When that run fetched.
        #[serde(serialize_with = "stamp")]
        fetched_at: Option<DateTime<Utc>>,
    },
    /// [`FindingName::MissingTimestamp`]
    #[non_exhaustive]
    MissingTimestamp {
        /// The record that says what is expected.
        record: DayRecord,
        /// The record that decides.
        winner: Option<DayRecord>,
    },
    /// [`FindingName::OutOfSchoolOlderThanRegistration`]
    #[non_exhaustive]
    OutOfSchoolOlderThanRegistration {
        /// The record that says what is expected.
        record: DayRecord,
        /// The record that decides.
        winner: Option<DayRecord>,
    },
    /// [`FindingName::RegistrationOlderThanOutOfSchool`]
    #[non_exhaustive]
    RegistrationOlderThanOutOfSchool {
        /// The record that says what is expected.
        record: DayRecord,
        /// The record that decides.
        winner: Option<DayRecord>,
    },
    /// [`FindingName::DuplicateRegistrations`]
    #[non_exhaustive]
    DuplicateRegistrations {
        /// The record that says what is expected.
        record: DayRecord,
        /// The record that counts for the register.
        counting: Option<DayRecord>,
    },
    /// [`FindingName::OutOfSchoolDoesNotCoverSession`]
    #[non_exhaustive]
    OutOfSchoolDoesNotCoverSession {
        /// The record that says what is expected.
        record: DayRecord,
        /// The time of the session's register, in school time; `None` if it has none.
        register_at: Option<NaiveDateTime>,
        /// The newer version of the same record, if it covers other times, so that this one no longer counts.
        #[serde(skip_serializing_if = "Option::is_none")]
        counting: Option<DayRecord>,
    },
    /// [`FindingName::PmRulePicksOtherRegistration`]
    #[non_exhaustive]
    PmRulePicksOtherRegistration {
        /// The registration that says what is expected.
        registration: DayRecord,
        /// The session's registration.
        picked: Option<PickedRegistration>,
        /// A rule by which the other registration would be the session's.
        #[serde(flatten, serialize_with = "rule")]
        pm_rule: PmRule,
        /// The session flag of the other registration's period.
        flag: Option<Session>,
    },
    /// [`FindingName::UnknownCode`]
    #[non_exhaustive]
    UnknownCode {
        /// The record that decides.
        record: DayRecord,
        /// Its code.
        raw_code: RawCode,
        /// Why no mark can have the expected letter.
        #[serde(skip)]
        why_no_letter: Option<Reason>,
    },
    /// [`FindingName::NotTaken`]
    #[non_exhaustive]
    NotTaken {
        /// The row of the register.
        record: DayRecord,
        /// Why no mark can have the expected letter.
        #[serde(skip)]
        why_no_letter: Option<Reason>,
    },
    /// [`FindingName::NoRecord`]: there is no record at all for the student and date.
    #[non_exhaustive]
    NoRecord {
        /// The student.
        student: StudentId,
        /// The date in question.
        date: NaiveDate,
        /// Other students have registrations or session marks on the date.
        #[serde(skip)]
        others_have_rows: bool,
        /// Why no mark can have the expected letter.
        #[serde(skip)]
        why_no_letter: Option<Reason>,
    },
    /// [`FindingName::NoRecord`]: no record says what is expected, and replies are not cached.
    #[non_exhaustive]
    NothingExpected {
        /// The student.
        student: StudentId,
        /// The date in question.
        date: NaiveDate,
        /// The instant just before the first request.
        #[serde(serialize_with = "stamp")]
        fetched_at: DateTime<Utc>,
        /// Why the mark is not the expected one.
        #[serde(skip)]
        reason: Reason,
        /// The store shows what is expected.
        #[serde(skip)]
        store_agrees: bool,
    },
    /// [`FindingName::CacheMayBeStale`]
    #[non_exhaustive]
    CacheMayBeStale {
        /// The earliest moment that the replies can show.
        #[serde(serialize_with = "stamp")]
        as_of_earliest: DateTime<Utc>,
        /// The instant just before the first request.
        #[serde(serialize_with = "stamp")]
        fetched_at: DateTime<Utc>,
        /// From this moment on, a fetch is sure to show every change made before `fetched_at`. `None` if the source gives the
        /// time of its data: then a fetch shows it only once the source has newer data.
        #[serde(serialize_with = "stamp")]
        sure_from: Option<DateTime<Utc>>,
        /// Why the mark is not the expected one.
        #[serde(skip)]
        reason: Reason,
        /// The store shows what is expected.
        #[serde(skip)]
        store_agrees: bool,
    },
    /// [`FindingName::Consistent`]
    #[non_exhaustive]
    Consistent {
        /// Why there is no mark; `None` if there is one.
        #[serde(skip)]
        no_mark: Option<Reason>,
    },
    /// [`FindingName::CacheExpiryTooLong`]
    #[non_exhaustive]
    CacheExpiryTooLong {
        /// The cache expiry.
        #[serde(rename = "cache_expiry_seconds", serialize_with = "seconds")]
        cache_expiry: TimeDelta,
    },
}

impl Evidence {
    /// The finding's name.
    pub fn name(&self) -> FindingName {
        match self {
            Self::OutsideWindow { .. } => FindingName::OutsideWindow,
            Self::StoreBehindSource { .. } => FindingName::StoreBehindSource,
            Self::MissingTimestamp { .. } => FindingName::MissingTimestamp,
            Self::OutOfSchoolOlderThanRegistration { .. } => FindingName::OutOfSchoolOlderThanRegistration,
            Self::RegistrationOlderThanOutOfSchool { .. } => FindingName::RegistrationOlderThanOutOfSchool,
            Self::DuplicateRegistrations { .. } => FindingName::DuplicateRegistrations,
            Self::OutOfSchoolDoesNotCoverSession { .. } => FindingName::OutOfSchoolDoesNotCoverSession,
            Self::PmRulePicksOtherRegistration { .. } => FindingName::PmRulePicksOtherRegistration,
            Self::UnknownCode { .. } => FindingName::UnknownCode,
            Self::NotTaken { .. } => FindingName::NotTaken,
            Self::NoRecord { .. } | Self::NothingExpected { .. } => FindingName::NoRecord,
            Self::CacheMayBeStale { .. } => FindingName::CacheMayBeStale,
            Self::Consistent { .. } => FindingName::Consistent,
            Self::CacheExpiryTooLong { .. } => FindingName::CacheExpiryTooLong,
        }
    }
}

/// Why there is no mark, or not the expected one.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// The caller of the last sync stated that the school was closed on the date.
    Closed,
    /// The registration belongs to a period that was not read.
    #[non_exhaustive]
    UnreadPeriod {
        /// The registration.
        record: DayRecord,
        /// Its period.
        period: PeriodId,
    },
    /// No registration period of the date is flagged with the session.
    NoFlaggedPeriod,
    /// No student has a register in the session.
    NoRegister,
    /// No student has a session mark for the session.
    NoSessionMarks,
    /// No record makes a mark for the student.
    NothingMakesAMark,
    /// No record says what is expected.
    NothingSaysSo,
    /// An old version of an out-of-school record says what is expected, but a newer one counts.
    Replaced(DayRecord),
    /// No registration codes were read.
    NoCodes,
    /// The code table does not have the expected letter.
    #[non_exhaustive]
    UnknownLetter {
        /// The letter.
        letter: Box<str>,
        /// The same letter in the other case, if the table has that.
        alike: Option<Box<str>>,
    },
}

/// Steps that make the mark the expected one if they are done in this order.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Cure {
    /// What has to be done first for the steps to work.
    pub first: Vec<Step>,
    /// The steps, to be followed by a sync.
    pub steps: Vec<Step>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Step {
    /// Save the record again, so that it is the newest.
    SaveAgain(DayRecord),
    /// Save the records again, since their times of update lie in the future.
    SaveFuture(Vec<DayRecord>),
    /// Edit the record and save it again, so that it gets a time of update.
    AddStamp(DayRecord),
    /// Tell rollmark which field holds the time of update of records of a kind.
    #[non_exhaustive]
    NameStampField {
        /// The kind.
        kind: RecordKind,
        /// Fields that may hold it.
        fields: Vec<String>,
    },
    /// Tell rollmark which field holds the code of out-of-school records, if it is one of those listed.
    NameCodeField(Vec<String>),
    /// End out-of-school records at a school time, or change their times so that they leave out the session.
    #[non_exhaustive]
    EndRecords {
        /// The records.
        records: Vec<DayRecord>,
        /// A time that leaves out the session, if there is one.
        at: Option<NaiveTime>,
    },
    /// Change the times of the out-of-school record so that it covers the session.
    CoverSession(DayRecord),
    /// Change the end of the out-of-school record so that it covers the session.
    ChangeEnd(DayRecord),
    /// Change the times, and if need be the code, of the newer version of an out-of-school record, or enter a new record.
    MoveBack(DayRecord),
    /// Set that an end at midnight includes its date.
    IncludeMidnightEnds,
    /// Remove the student's rows from the register, except this one.
    RemoveOthers(DayRecord),
    /// Give the record a code that the code table has.
    GiveKnownCode(DayRecord),
    /// Change the record to what is expected.
    GiveExpected(DayRecord),
    /// Enter the attendance that the question expects; the student has no row yet.
    EnterExpected,
    /// Enter the attendance, the expected one if the question names it: no record makes a mark.
    Enter,
    /// Take the register that this row belongs to.
    TakeRegister(DayRecord),
    /// Take the session's register.
    TakeSessionRegister,
    /// Set the session flag of the period of the session's register.
    FlagPeriod,
    /// Let the source read the registration codes.
    GrantCodes,
    /// Let the source read the whole code table.
    GrantCodeTable,
    /// Let the source read the registration period.
    GrantPeriod(PeriodId),
    /// Expect another letter, or add this one to the code table.
    AddLetter(Box<str>),
    /// Distinguish AM and PM by this rule.
    SetPmRule(PmRule),
    /// Sync again without stating that the school was closed.
    Reopen,
}

/// The evidence that was found, and the cures that help.
pub(super) type Found = (Evidence, Vec<Cure>);

impl From<Step> for Cure {
    fn from(step: Step) -> Self {
        Self { first: Vec::new(), steps: vec![step] }
    }
}

fn stamp<S: Serializer>(stamp: &(impl Copy + Into<Option<DateTime<Utc>>>), serializer: S) -> Result<S::Ok, S::Error> {
    (*stamp).into().map(stamp_text).serialize(serializer)
}

fn seconds<S: Serializer>(time: &TimeDelta, serializer: S) -> Result<S::Ok, S::Error> {
    time.num_seconds().serialize(serializer)
}

pub(super) fn as_line<S: Serializer>(mark: &Option<Mark>, serializer: S) -> Result<S::Ok, S::Error> {
    mark.as_ref().map(Mark::line).serialize(serializer)
}

fn rule<S: Serializer>(rule: &PmRule, serializer: S) -> Result<S::Ok, S::Error> {
    let (name, start) = match rule {
        PmRule::FirstFrom(start) => ("time", Some(time_text(*start))),
        PmRule::RegistrationPeriods => ("periods", None),
    };
    let mut object = serializer.serialize_struct("PmRule", 2)?;
    object.serialize_field("pm_rule", name)?;
    object.serialize_field("pm_start", &start)?;
    object.end()
}
