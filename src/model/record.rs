use chrono::{NaiveDate, NaiveTime};
use serde::{Deserialize, Serialize};

use super::{CodeId, FeedTime, PeriodId, RawCode, RecordId, Session, StudentId, setters};

/// One record that a source reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Record {
    /// A row of a register.
    Registration(Registration),
    /// An out-of-school record.
    OutOfSchool(OutOfSchool),
    /// A registration period.
    Period(RegistrationPeriod),
    /// A code of the code table.
    Code(Code),
    /// The mark that the source itself gives for one student, date and session.
    SessionMark(SessionMark),
}

impl Record {
    /// Takes an empty id, code, letter or name for a missing one (R1.6).
    pub(crate) fn drop_empty_texts(&mut self) {
        fn drop_empty<T: AsRef<str>>(text: &mut Option<T>) {
            text.take_if(|text| text.as_ref().trim().is_empty());
        }
        match self {
            Self::Registration(row) => {
                drop_empty(&mut row.id);
                drop_empty(&mut row.period);
                drop_empty(&mut row.code);
            }
            Self::OutOfSchool(record) => {
                drop_empty(&mut record.id);
                drop_empty(&mut record.code);
            }
            Self::SessionMark(mark) => {
                drop_empty(&mut mark.id);
                drop_empty(&mut mark.code);
            }
            Self::Period(period) => drop_empty(&mut period.name),
            Self::Code(code) => {
                drop_empty(&mut code.letter);
                drop_empty(&mut code.name);
            }
        }
    }
}

/// An optional field whose text can't be read. The record is used without it ([R1.6](crate::guide::rules#r1-6), issue
/// `bad_value`).
///
/// Holds the field's name, never its value.
///
/// ```
/// use rollmark::model::{Registration, UnreadableField};
///
/// let row = Registration::new("4733683260", "2026-11-20T08:40:00".parse()?)
///     .with_unreadable(vec![UnreadableField::new("MinutesLate")]);
/// # Ok::<(), rollmark::model::UnreadableTime>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnreadableField(String);

impl UnreadableField {
    /// The unreadable field of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The field's name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// The source's own verdict on a row, for sources that decide themselves (iSAMS REST, verified).
///
/// ```
/// use rollmark::model::{Registration, SourceVerdict};
///
/// // Not taken, but the source says that the student is out of school: absent.
/// let row = Registration::new("4733683260", "2026-11-20T08:40:00".parse()?)
///     .with_registered(false)
///     .with_verdict(SourceVerdict::new(false, true));
/// # Ok::<(), rollmark::model::UnreadableTime>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SourceVerdict {
    /// The register was taken for this student.
    pub taken: bool,
    /// The source says that the student is out of school.
    pub out_of_school: bool,
}

impl SourceVerdict {
    /// A verdict.
    pub fn new(taken: bool, out_of_school: bool) -> Self {
        Self { taken, out_of_school }
    }
}

/// One row of a register.
///
/// `Debug` leaves out the comment, which can hold medical facts.
///
/// ```
/// use rollmark::model::Registration;
///
/// let at = "2026-11-20T08:40:00".parse()?;
/// let present = Registration::new("4733683260", at).with_id("101").with_last_updated("2026-11-20T08:52:00".parse()?);
/// let late = Registration::new("4733683260", at).with_late(true).with_minutes_late(7);
/// let absent = Registration::new("4733683260", at).with_registered(false).with_code("17");
/// // Nobody has taken this register yet: not registered, and no code.
/// let not_taken = Registration::new("4733683260", at).with_registered(false);
/// # Ok::<(), rollmark::model::UnreadableTime>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Registration {
    /// The row's id.
    pub id: Option<RecordId>,
    /// The student.
    pub student: StudentId,
    /// The registration period that the row belongs to.
    pub period: Option<PeriodId>,
    /// The time of the register; a date without a time is an error.
    pub at: FeedTime,
    /// Whether the student was registered as present.
    pub registered: bool,
    /// The id of a code in the code table, or its letter.
    pub code: Option<RawCode>,
    /// Whether the student was late.
    #[serde(default)]
    pub late: bool,
    /// How many minutes late.
    #[serde(default)]
    pub minutes_late: Option<u32>,
    /// Free text, which can hold medical facts. No mark, sentence or log shows it.
    #[serde(default)]
    pub comment: Option<Box<str>>,
    /// When the row was last updated.
    pub last_updated: Option<FeedTime>,
    /// The source's own verdict, if it gives one. `registered` is then the source's "is present".
    #[serde(default)]
    pub verdict: Option<SourceVerdict>,
    /// The optional fields that can't be read.
    #[serde(default)]
    pub unreadable: Vec<UnreadableField>,
}

impl Registration {
    /// A row for a student who is registered, with nothing else set.
    pub fn new(student: impl Into<StudentId>, at: FeedTime) -> Self {
        Self {
            id: None,
            student: student.into(),
            period: None,
            at,
            registered: true,
            code: None,
            late: false,
            minutes_late: None,
            comment: None,
            last_updated: None,
            verdict: None,
            unreadable: Vec::new(),
        }
    }
}

setters!(Registration {
    with_id(id: impl Into<RecordId>) => Some(id.into());
    with_period(period: impl Into<PeriodId>) => Some(period.into());
    with_registered(registered: bool) => registered;
    with_code(code: impl Into<RawCode>) => Some(code.into());
    with_late(late: bool) => late;
    with_minutes_late(minutes_late: u32) => Some(minutes_late);
    with_comment(comment: impl Into<Box<str>>) => Some(comment.into());
    with_last_updated(last_updated: FeedTime) => Some(last_updated);
    with_verdict(verdict: SourceVerdict) => Some(verdict);
    with_unreadable(unreadable: Vec<UnreadableField>) => unreadable;
});

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registration")
            .field("id", &self.id)
            .field("student", &self.student)
            .field("period", &self.period)
            .field("at", &self.at)
            .field("registered", &self.registered)
            .field("code", &self.code)
            .field("last_updated", &self.last_updated)
            .finish_non_exhaustive()
    }
}

/// A time during which a student is out of school, such as an appointment, an illness or a trip.
///
/// `Debug` leaves out the reason, which can hold medical facts.
///
/// ```
/// use rollmark::model::OutOfSchool;
///
/// // A dentist's appointment from 10:00 to 11:00.
/// let dentist = OutOfSchool::new("4733683260", "2026-11-20T10:00:00".parse()?, Some("2026-11-20T11:00:00".parse()?))
///     .with_id("901")
///     .with_code("17")
///     .with_last_updated("2026-11-19T16:05:00".parse()?);
/// // Two whole days: both dates are included.
/// let trip = OutOfSchool::new("4733683260", "2026-11-23".parse()?, Some("2026-11-24".parse()?));
/// # Ok::<(), rollmark::model::UnreadableTime>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OutOfSchool {
    /// The record's id.
    pub id: Option<RecordId>,
    /// The student.
    pub student: StudentId,
    /// The start, included. A date without a time is the start of that date.
    pub from: FeedTime,
    /// The end, not included. A date without a time includes that whole date; a missing end is the end of the start's
    /// date ([R5](crate::guide::rules#r5)).
    pub to: Option<FeedTime>,
    /// The id of a code in the code table, or its letter.
    pub code: Option<RawCode>,
    /// Free text, which can hold medical facts. No mark, sentence or log shows it.
    #[serde(default)]
    pub reason: Option<Box<str>>,
    /// When the record was last updated.
    pub last_updated: Option<FeedTime>,
    /// The optional fields that can't be read.
    #[serde(default)]
    pub unreadable: Vec<UnreadableField>,
}

impl OutOfSchool {
    /// A record from `from` to `to`, with nothing else set.
    pub fn new(student: impl Into<StudentId>, from: FeedTime, to: Option<FeedTime>) -> Self {
        Self {
            id: None,
            student: student.into(),
            from,
            to,
            code: None,
            reason: None,
            last_updated: None,
            unreadable: Vec::new(),
        }
    }
}

setters!(OutOfSchool {
    with_id(id: impl Into<RecordId>) => Some(id.into());
    with_code(code: impl Into<RawCode>) => Some(code.into());
    with_reason(reason: impl Into<Box<str>>) => Some(reason.into());
    with_last_updated(last_updated: FeedTime) => Some(last_updated);
    with_unreadable(unreadable: Vec<UnreadableField>) => unreadable;
});

impl std::fmt::Debug for OutOfSchool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutOfSchool")
            .field("id", &self.id)
            .field("student", &self.student)
            .field("from", &self.from)
            .field("to", &self.to)
            .field("code", &self.code)
            .field("last_updated", &self.last_updated)
            .finish_non_exhaustive()
    }
}

/// The mark of one student, date and session, from a source that gives marks instead of registers and out-of-school
/// records.
///
/// It is the only candidate for its session: it is not compared with registers or out-of-school records. If there are
/// several for one session, the one that was updated last counts ([R6](crate::guide::rules#r6)). A source gives session
/// marks or registers, never both (`Capabilities::gives_session_marks` says which).
///
/// `Debug` leaves out the comment, which can hold medical facts.
///
/// ```
/// use rollmark::model::{Record, Session, SessionMark};
/// use rollmark::rules::{Resolver, Rules, SyncWindow};
///
/// let today = "2026-11-20".parse()?;
/// let late = SessionMark::new("4733683260", today, Session::Am).with_id("7").with_present(true).with_late(true).with_minutes_late(7);
///
/// let mut resolver = Resolver::new(Rules::new("Europe/London".parse()?), SyncWindow::default().ending(today));
/// resolver.push(Record::SessionMark(late));
/// let register = resolver.finish()?;
/// let mark = register.mark(&"4733683260".into(), today, Session::Am).ok_or("no mark")?;
/// assert_eq!(mark.to_string(), "late, 7 minutes");
/// assert_eq!(
///     mark.decision().to_string(),
///     "the session mark 7, without a time of update, is the only record for this session"
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SessionMark {
    /// The mark's id.
    #[serde(default)]
    pub id: Option<RecordId>,
    /// The student.
    pub student: StudentId,
    /// The school date.
    pub date: NaiveDate,
    /// The session.
    pub session: Session,
    /// Whether the student was there; also true if the student was late.
    pub present: bool,
    /// The id of a code in the code table, or its letter, if the student was not there.
    #[serde(default)]
    pub code: Option<RawCode>,
    /// Whether the student was late; ignored for a student who was not there.
    #[serde(default)]
    pub late: bool,
    /// How many minutes late.
    #[serde(default)]
    pub minutes_late: Option<u32>,
    /// Free text, which can hold medical facts. No mark, sentence or log shows it.
    #[serde(default)]
    pub comment: Option<Box<str>>,
    /// When the mark was last updated.
    #[serde(default)]
    pub last_updated: Option<FeedTime>,
    /// The optional fields that can't be read.
    #[serde(default)]
    pub unreadable: Vec<UnreadableField>,
}

impl SessionMark {
    /// A session mark that nobody has taken yet: not present, and without a code.
    pub fn new(student: impl Into<StudentId>, date: NaiveDate, session: Session) -> Self {
        Self {
            id: None,
            student: student.into(),
            date,
            session,
            present: false,
            code: None,
            late: false,
            minutes_late: None,
            comment: None,
            last_updated: None,
            unreadable: Vec::new(),
        }
    }

    /// The registration row that says the same. Its time only stands for the session: it is the start of the half-day.
    pub(crate) fn into_row(self) -> Registration {
        let hour = match self.session {
            Session::Am => 0,
            Session::Pm => 12,
        };
        let at = self.date.and_time(NaiveTime::from_hms_opt(hour, 0, 0).unwrap_or_default());
        Registration {
            id: self.id,
            registered: self.present,
            code: self.code,
            late: self.late,
            minutes_late: self.minutes_late,
            comment: self.comment,
            last_updated: self.last_updated,
            unreadable: self.unreadable,
            ..Registration::new(self.student, FeedTime::School(at))
        }
    }
}

setters!(SessionMark {
    with_id(id: impl Into<RecordId>) => Some(id.into());
    with_present(present: bool) => present;
    with_code(code: impl Into<RawCode>) => Some(code.into());
    with_late(late: bool) => late;
    with_minutes_late(minutes_late: u32) => Some(minutes_late);
    with_comment(comment: impl Into<Box<str>>) => Some(comment.into());
    with_last_updated(last_updated: FeedTime) => Some(last_updated);
    with_unreadable(unreadable: Vec<UnreadableField>) => unreadable;
});

impl std::fmt::Debug for SessionMark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionMark")
            .field("id", &self.id)
            .field("student", &self.student)
            .field("date", &self.date)
            .field("session", &self.session)
            .field("present", &self.present)
            .field("late", &self.late)
            .field("code", &self.code)
            .field("last_updated", &self.last_updated)
            .finish_non_exhaustive()
    }
}

/// One register on one date, for example Friday's afternoon registration. iSAMS calls it a registration period.
///
/// ```
/// use rollmark::model::{RegistrationPeriod, Session};
///
/// let period = RegistrationPeriod::new("5001", "2026-11-20T13:30:00".parse()?).with_session("pm").with_name("Afternoon");
/// assert_eq!(period.flag(), Some(Session::Pm));
/// # Ok::<(), rollmark::model::UnreadableTime>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RegistrationPeriod {
    /// The period's id.
    pub id: PeriodId,
    /// The time of the register; a date without a time is an error.
    pub at: FeedTime,
    /// The session flag as the source gives it (`am`, `PM`, …); `None` for a lesson.
    pub session: Option<Box<str>>,
    /// The period's name.
    #[serde(default)]
    pub name: Option<Box<str>>,
    /// The optional fields that can't be read.
    #[serde(default)]
    pub unreadable: Vec<UnreadableField>,
}

impl RegistrationPeriod {
    /// A period without a flag or a name.
    pub fn new(id: impl Into<PeriodId>, at: FeedTime) -> Self {
        Self { id: id.into(), at, session: None, name: None, unreadable: Vec::new() }
    }

    /// The session that the flag names; `None` if there is no flag, or one that is neither AM nor PM
    /// ([R3](crate::guide::rules#r3)).
    pub fn flag(&self) -> Option<Session> {
        Session::from_flag(self.session.as_deref()?)
    }
}

setters!(RegistrationPeriod {
    with_session(session: impl Into<Box<str>>) => Some(session.into());
    with_name(name: impl Into<Box<str>>) => Some(name.into());
    with_unreadable(unreadable: Vec<UnreadableField>) => unreadable;
});

/// One code of the code table.
///
/// ```
/// use rollmark::model::Code;
///
/// let medical = Code::new("17", true).with_letter("M").with_name("Medical");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Code {
    /// The code's id.
    pub id: CodeId,
    /// The code's letter.
    #[serde(rename = "code")]
    pub letter: Option<Box<str>>,
    /// The code's name, such as `Illness`.
    #[serde(default)]
    pub name: Option<Box<str>>,
    /// Whether the code counts as an absence.
    pub absence: bool,
    /// Whether the code is in use. It never affects a status.
    #[serde(default)]
    pub active: bool,
    /// The optional fields that can't be read.
    #[serde(default)]
    pub unreadable: Vec<UnreadableField>,
}

impl Code {
    /// A code that is in use, without a letter or a name. `absence` says whether it counts as an absence.
    pub fn new(id: impl Into<CodeId>, absence: bool) -> Self {
        Self { id: id.into(), letter: None, name: None, absence, active: true, unreadable: Vec::new() }
    }
}

setters!(Code {
    with_letter(letter: impl Into<Box<str>>) => Some(letter.into());
    with_name(name: impl Into<Box<str>>) => Some(name.into());
    with_active(active: bool) => active;
    with_unreadable(unreadable: Vec<UnreadableField>) => unreadable;
});
