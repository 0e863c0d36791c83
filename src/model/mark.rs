use std::fmt;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, SecondsFormat, Timelike, Utc};
use serde::{Deserialize, Serialize};

use super::{PeriodId, RawCode, RecordId, Session, StudentId, Zone, names};

/// What a mark says ([R2](crate::guide::rules#r2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// The student was there.
    Present,
    /// The student was there, but late. [`Mark::minutes_late`] has the minutes, if they are known.
    Late,
    /// The student was not there, and this counts as an absence.
    Absent,
    /// The student was not there, and was not expected.
    NotRequired,
    /// Nobody has taken this register yet. Never an absence.
    NotTaken,
    /// The student was not there, with a code that the code table does not have.
    UnknownCode,
}

names!(@only Status, "a status", {
    Present => "present",
    Late => "late",
    Absent => "absent",
    NotRequired => "not_required",
    NotTaken => "not_taken",
    UnknownCode => "unknown_code",
});

impl Status {
    fn is_there(self) -> bool {
        matches!(self, Self::Present | Self::Late)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name().replace('_', " "))
    }
}

/// The kind of a record, such as the one that decided a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecordKind {
    /// A row of a register.
    Registration,
    /// An out-of-school record.
    OutOfSchool,
    /// A session mark.
    SessionMark,
    /// A value that a newer version of this library wrote and this one does not know.
    Unknown,
}

names!(RecordKind, "a kind of record", {
    Registration => "registration",
    OutOfSchool => "out_of_school",
    SessionMark => "session_mark",
} else Unknown);

/// Names a record: its kind, its id and its stamp.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RecordReference {
    /// Its kind.
    pub kind: RecordKind,
    /// Its id, if it has one.
    pub id: Option<RecordId>,
    /// When it was last updated, if that is known.
    pub last_updated: Option<DateTime<Utc>>,
}

impl fmt::Display for RecordReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.named(stamp_text))
    }
}

impl RecordReference {
    /// A record without an id and a stamp.
    pub fn new(kind: RecordKind) -> Self {
        Self { kind, id: None, last_updated: None }
    }

    /// The record in words. The caller chooses how the stamp is written.
    fn named(&self, stamp: impl Fn(DateTime<Utc>) -> String) -> String {
        let kind = match self.kind {
            RecordKind::Registration => "the registration",
            RecordKind::OutOfSchool => "the out-of-school record",
            RecordKind::SessionMark => "the session mark",
            RecordKind::Unknown => "the record",
        };
        let id = self.id.as_ref().map(|id| format!(" {id}")).unwrap_or_default();
        let updated = self.last_updated.map(|at| format!("updated {}", stamp(at)));
        format!("{kind}{id}, {}", updated.as_deref().unwrap_or("without a time of update"))
    }
}

/// The rule that decided between the candidates: the first that applies ([R10](crate::guide::rules#r10)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DecisionRule {
    /// There was one candidate.
    OnlyCandidate,
    /// An out-of-school record beat a register that was not taken.
    NotTakenYields,
    /// The winner was updated later than every other candidate.
    LatestUpdate,
    /// The stamps are equal or missing, and [R6.2](crate::guide::rules#r6-2) decided.
    TieBreak,
    /// A value that a newer version of this library wrote and this one does not know.
    Unknown,
}

names!(DecisionRule, "a rule of decision", {
    OnlyCandidate => "only_candidate",
    NotTakenYields => "not_taken_yields",
    LatestUpdate => "latest_update",
    TieBreak => "tie_break",
} else Unknown);

/// How a session's registration was picked ([R3](crate::guide::rules#r3)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PickedBy {
    /// The half-day's earliest registration.
    TimeRule,
    /// The earliest registration in a period with the session's flag.
    PeriodRule,
    /// A value that a newer version of this library wrote and this one does not know.
    Unknown,
}

names!(PickedBy, "a rule of picking", {
    TimeRule => "time_rule",
    PeriodRule => "period_rule",
} else Unknown);

/// The session's registration ([R3](crate::guide::rules#r3)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PickedRegistration {
    /// The row's id.
    pub id: Option<RecordId>,
    /// The row's period.
    pub period: Option<PeriodId>,
    /// The time of the register, in school time.
    pub at: NaiveDateTime,
    /// The rule that picked it.
    pub picked_by: PickedBy,
}

/// Why a record did not decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LoserReason {
    /// It was updated earlier.
    Older,
    /// It has no time of update, and the winner has one.
    NoTimestamp,
    /// The stamps are equal, or both missing.
    Tie,
    /// The register was not taken, so the row says nothing.
    NotTaken,
    /// Another row of the same student, date and time won ([R4](crate::guide::rules#r4)), or another mark of the same
    /// session.
    Duplicate,
    /// It is an out-of-school record of the day that does not cover the session (in a diagnosis only).
    NotCovering,
    /// It is another registration of the day (in a diagnosis only).
    OtherRegistration,
    /// A value that a newer version of this library wrote and this one does not know.
    Unknown,
}

names!(LoserReason, "a reason to lose", {
    Older => "older",
    NoTimestamp => "no_timestamp",
    Tie => "tie",
    NotTaken => "not_taken",
    Duplicate => "duplicate",
    NotCovering => "not_covering",
    OtherRegistration => "other_registration",
} else Unknown);

/// A record that did not decide, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Loser {
    /// The record.
    #[serde(flatten)]
    pub record: RecordReference,
    /// Why it lost.
    pub why: LoserReason,
}

/// Why a mark is what it is ([R10](crate::guide::rules#r10)). `Display` is a sentence for a school office.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Decision {
    /// The rule that decided.
    pub rule: DecisionRule,
    /// The record that decided.
    pub winner: RecordReference,
    /// The session's registration, if the student has one.
    pub registration: Option<PickedRegistration>,
    /// The records that did not decide: candidates in the order in which they would have won, then duplicates.
    pub losers: Vec<Loser>,
    /// The number of losers that `losers`, which holds at most [`Decision::MOST_LOSERS`], does not list.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_losers: u64,
    /// The management system itself gave the verdict, without saying which record decided (iSAMS REST, verified).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub judged_by_source: bool,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence(stamp_text))
    }
}

/// Whether a count is 0, so that it is left out of the JSON.
pub(crate) fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Decision {
    /// A decision for this record, without losers and without a registration.
    pub fn new(rule: DecisionRule, winner: RecordReference) -> Self {
        Self { rule, winner, registration: None, losers: Vec::new(), more_losers: 0, judged_by_source: false }
    }

    /// The most losers that a decision lists. A hostile source could send a hundred thousand.
    pub const MOST_LOSERS: usize = 12;

    /// The same sentence as `Display`, with the stamps in school time ([`clock_text`]) instead of UTC.
    pub fn in_school_time(&self, zone: &Zone) -> String {
        self.sentence(|stamp| clock_text(stamp, zone))
    }

    /// The sentence for a parent: like [`in_school_time`](Self::in_school_time), without the ids of records.
    pub fn for_parents(&self, zone: &Zone) -> String {
        let mut decision = self.clone();
        decision.winner.id = None;
        decision.losers.iter_mut().for_each(|loser| loser.record.id = None);
        decision.in_school_time(zone)
    }

    fn sentence(&self, stamp: impl Fn(DateTime<Utc>) -> String) -> String {
        let other = self.losers.iter().find(|loser| {
            matches!(
                loser.why,
                LoserReason::Older | LoserReason::NoTimestamp | LoserReason::Tie | LoserReason::NotTaken
            )
        });
        let other = other.map(|other| other.record.named(&stamp)).unwrap_or_default();
        let winner = self.winner.named(&stamp);
        let mut sentence = match self.rule {
            DecisionRule::NotTakenYields => format!("{winner}, counts, because the register has not been taken"),
            DecisionRule::LatestUpdate => format!("{winner}, is newer than {other}"),
            DecisionRule::TieBreak => format!("{winner}, wins the tie with {other}"),
            DecisionRule::OnlyCandidate => format!("{winner}, is the only record for this session"),
            DecisionRule::Unknown => format!("{winner}, counts"),
        };
        match self.losers.iter().filter(|loser| loser.why == LoserReason::Duplicate).count() {
            0 => {}
            1 if self.winner.kind == RecordKind::SessionMark => {
                sentence.push_str("; another session mark was ignored");
            }
            more if self.winner.kind == RecordKind::SessionMark => {
                sentence.push_str(&format!("; {more} other session marks were ignored"));
            }
            1 => sentence.push_str("; another row of the same register was ignored"),
            more => sentence.push_str(&format!("; {more} other rows of the same register were ignored")),
        }
        match self.more_losers {
            0 => {}
            1 => sentence.push_str("; 1 more record is not listed"),
            more => sentence.push_str(&format!("; {more} more records are not listed")),
        }
        if self.judged_by_source {
            sentence.push_str("; the management system decided this itself");
        }
        sentence
    }
}

/// What the portal shows for one student, date and session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Mark {
    /// The student.
    pub student: StudentId,
    /// The school date.
    pub date: NaiveDate,
    /// The session.
    pub session: Session,
    /// What the mark says.
    pub status: Status,
    /// The code's letter, if there is a code and the code table has it.
    pub code: Option<Box<str>>,
    /// The code's name, likewise.
    pub code_name: Option<Box<str>>,
    /// The code as the source gave it.
    pub raw_code: Option<RawCode>,
    /// Minutes late: only with [`Status::Late`], and not always known.
    pub minutes_late: Option<u32>,
    /// Why the mark is what it is.
    pub decision: Decision,
}

impl Mark {
    /// Why the mark is what it is.
    pub fn decision(&self) -> &Decision {
        &self.decision
    }

    /// The stamp of the record that decided.
    pub fn last_updated(&self) -> Option<DateTime<Utc>> {
        self.decision.winner.last_updated
    }

    /// The mark's key: student, date and session. Marks sort by it.
    pub fn key(&self) -> (&StudentId, NaiveDate, Session) {
        (&self.student, self.date, self.session)
    }

    /// What the mark says, without its key and without the losers of its decision. This is what a store compares.
    pub fn content(&self) -> MarkContent {
        MarkContent {
            status: self.status,
            code: self.code.clone(),
            code_name: self.code_name.clone(),
            raw_code: self.raw_code.clone(),
            minutes_late: self.minutes_late,
            decided_by: self.decision.winner.kind,
            record_id: self.decision.winner.id.clone(),
            last_updated: self.last_updated(),
            rule: self.decision.rule,
        }
    }

    /// Whether a parent sees the same: status, code and minutes, or no mark either way. The raw code shows only where the
    /// code table has no letter for it, and no code where the student is there (R2).
    pub(crate) fn look_alike(one: Option<&Self>, other: Option<&Self>) -> bool {
        fn visible(mark: &Mark) -> (Status, Option<&str>, Option<u32>) {
            let raw = mark.raw_code.as_ref().map(RawCode::as_str);
            let code = mark.code.as_deref().or(raw).filter(|_| !mark.status.is_there());
            (mark.status, code, mark.minutes_late)
        }
        one.map(visible) == other.map(visible)
    }

    /// The mark as one line of a marks file: a JSON object with all fields in a fixed order, without a line feed at the
    /// end.
    pub fn to_json_line(&self) -> String {
        self.line().to_json()
    }

    /// The fields of a line of a marks file.
    pub(crate) fn line(&self) -> MarkLine<'_> {
        MarkLine::new(self.key(), self.content())
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.content().fmt(f)
    }
}

/// What a mark says: all fields of a marks file except the key, and the code's name. `Display` is what a parent reads,
/// such as `M (medical)` or `late, 7 minutes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MarkContent {
    /// What the mark says.
    pub status: Status,
    /// The code's letter, if there is a code and the code table has it.
    pub code: Option<Box<str>>,
    /// The code's name, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_name: Option<Box<str>>,
    /// The code as the source gave it.
    pub raw_code: Option<RawCode>,
    /// Minutes late: only with [`Status::Late`], and not always known.
    pub minutes_late: Option<u32>,
    /// The kind of the record that decided.
    pub decided_by: RecordKind,
    /// Its id, if it has one.
    pub record_id: Option<RecordId>,
    /// Its stamp, if that is known.
    pub last_updated: Option<DateTime<Utc>>,
    /// The rule that decided.
    pub rule: DecisionRule,
}

impl MarkContent {
    /// The content of a mark without a code, an id and a stamp. A store that keeps it in columns sets the other fields.
    pub fn new(status: Status, decided_by: RecordKind, rule: DecisionRule) -> Self {
        let (code, code_name, raw_code, minutes_late) = Default::default();
        let (record_id, last_updated) = Default::default();
        Self { status, code, code_name, raw_code, minutes_late, decided_by, record_id, last_updated, rule }
    }

    /// Whether both say the same ([R11.3](crate::guide::rules#r11-3)): all fields of a marks file except the key are
    /// equal, stamps to the microsecond.
    pub fn same_content(&self, other: &Self) -> bool {
        let stamp = |content: &Self| content.last_updated.map(|stamp| stamp.timestamp_micros());
        self.status == other.status
            && self.code == other.code
            && self.raw_code == other.raw_code
            && self.minutes_late == other.minutes_late
            && self.rule == other.rule
            && self.decided_by == other.decided_by
            && self.record_id == other.record_id
            && stamp(self) == stamp(other)
    }
}

impl fmt::Display for MarkContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.code, &self.raw_code, &self.code_name) {
            // The code of a registered row does not affect its status (R2).
            _ if self.status.is_there() => write!(f, "{}", self.status)?,
            (Some(letter), _, Some(name)) => write!(f, "{letter} ({})", name.to_lowercase())?,
            (Some(letter), ..) => write!(f, "{letter} ({})", self.status)?,
            (None, Some(raw), _) => write!(f, "{} {raw}", self.status)?,
            (None, None, _) => write!(f, "{}", self.status)?,
        }
        match self.minutes_late {
            Some(1) => write!(f, ", 1 minute"),
            Some(minutes) => write!(f, ", {minutes} minutes"),
            None => Ok(()),
        }
    }
}

/// The fields of a marks file, in their order.
#[derive(Serialize)]
pub(crate) struct MarkLine<'a> {
    student: &'a StudentId,
    date: NaiveDate,
    session: Session,
    status: Status,
    code: Option<Box<str>>,
    raw_code: Option<RawCode>,
    minutes_late: Option<u32>,
    decided_by: RecordKind,
    record_id: Option<RecordId>,
    last_updated: Option<String>,
    rule: DecisionRule,
}

impl<'a> MarkLine<'a> {
    pub(crate) fn new((student, date, session): (&'a StudentId, NaiveDate, Session), content: MarkContent) -> Self {
        Self {
            student,
            date,
            session,
            status: content.status,
            code: content.code,
            raw_code: content.raw_code,
            minutes_late: content.minutes_late,
            decided_by: content.decided_by,
            record_id: content.record_id,
            last_updated: content.last_updated.map(stamp_text),
            rule: content.rule,
        }
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// An instant in school time, to the second: `2026-11-20 09:14:03`.
pub fn clock_text(instant: DateTime<Utc>, zone: &Zone) -> String {
    zone.wall_time(instant).format("%Y-%m-%d %H:%M:%S").to_string()
}

/// A time of day as sentences show it: `13:30`, with seconds only where there are some.
pub(crate) fn time_text(time: NaiveTime) -> String {
    time.format(if time.second() == 0 { "%H:%M" } else { "%H:%M:%S" }).to_string()
}

/// A stamp as files show it: RFC 3339 in UTC with `Z`, a fraction only if it is not zero (three digits, six if needed).
pub fn stamp_text(stamp: DateTime<Utc>) -> String {
    let micros = stamp.nanosecond() / 1_000;
    let format = match (micros, micros % 1_000) {
        (0, _) => SecondsFormat::Secs,
        (_, 0) => SecondsFormat::Millis,
        _ => SecondsFormat::Micros,
    };
    stamp.to_rfc3339_opts(format, true)
}
