use chrono::{DateTime, NaiveDate, Utc};

use super::{Class, CodeTable, CodeWarning, FoundCode};
use crate::model::{Mark, RawCode, Session, Status, StudentId, setters};

/// The part of a mark that counts: from a [`Mark`], or from a mark in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CodedMark<'a> {
    /// The student.
    pub student: &'a StudentId,
    /// The school date.
    pub date: NaiveDate,
    /// The session.
    pub session: Session,
    /// What the mark says.
    pub status: Status,
    /// The code's letter, if there is a code and the school's code table has it.
    pub code: Option<&'a str>,
    /// The code as the source gave it.
    pub raw_code: Option<&'a RawCode>,
    /// The earliest moment that the mark can show ([R9](crate::guide::rules#r9)), if a store knows it.
    pub as_of_earliest: Option<DateTime<Utc>>,
}

impl<'a> CodedMark<'a> {
    /// A mark without a code, from any place where a portal keeps marks.
    pub fn new(student: &'a StudentId, date: NaiveDate, session: Session, status: Status) -> Self {
        Self { student, date, session, status, code: None, raw_code: None, as_of_earliest: None }
    }
}

setters!(CodedMark<'a> {
    /// Sets the code's letter.
    with_code(code: &'a str) => Some(code);
    /// Sets the code as the source gave it.
    with_raw_code(raw_code: &'a RawCode) => Some(raw_code);
    /// Sets the earliest moment that the mark can show.
    with_as_of(as_of_earliest: DateTime<Utc>) => Some(as_of_earliest);
});

impl<'a> From<&'a Mark> for CodedMark<'a> {
    fn from(mark: &'a Mark) -> Self {
        Self {
            student: &mark.student,
            date: mark.date,
            session: mark.session,
            status: mark.status,
            code: mark.code.as_deref(),
            raw_code: mark.raw_code.as_ref(),
            as_of_earliest: None,
        }
    }
}

/// What a mark counts as.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MarkClass<'a> {
    /// It counts as this class.
    #[non_exhaustive]
    Of {
        /// The class.
        class: Class,
        /// Whether the student was late.
        late: bool,
        /// The code that gives the class. A student who is there needs no code; this is then the table's own code, if any.
        code: Option<FoundCode<'a>>,
        /// Whether the school's own code table says the opposite: that the code counts as an absence although it is not one by
        /// this table, or the other way round. This table decides.
        contradicts_school: bool,
    },
    /// The register was not taken, so there is nothing to count.
    NotTaken,
    /// Nothing says what it counts as. The text is the letter, or the raw code if the school's own table does not have the
    /// code; it is empty for an absence without a letter.
    Unclassified(&'a str),
}

impl MarkClass<'_> {
    /// The class, if there is one.
    pub fn class(&self) -> Option<Class> {
        if let Self::Of { class, .. } = self { Some(*class) } else { None }
    }

    /// What the code means, in a few words, if the table says so.
    pub fn meaning(&self) -> Option<&str> {
        if let Self::Of { code: Some(code), .. } = self { Some(&code.row.meaning) } else { None }
    }

    /// Why the code should not be used on the mark's date.
    pub fn warning(&self) -> Option<&CodeWarning> {
        if let Self::Of { code: Some(code), .. } = self { code.warning.as_ref() } else { None }
    }
}

impl CodeTable {
    /// What a mark counts as: by its status first, then by its letter. It is never an absence by default.
    pub fn class_of<'a>(&'a self, mark: impl Into<CodedMark<'a>>) -> MarkClass<'a> {
        let mark = mark.into();
        let counts_as_absence = match mark.status {
            Status::Present if mark.session == Session::Am => return self.there(mark.date, "/", false),
            Status::Present => return self.there(mark.date, "\\", false),
            Status::Late => return self.there(mark.date, "L", true),
            Status::NotTaken => return MarkClass::NotTaken,
            Status::UnknownCode => return MarkClass::Unclassified(mark.raw_code.map_or("", RawCode::as_str)),
            Status::Absent => true,
            Status::NotRequired => false,
        };
        let Some(letter) = mark.code else { return MarkClass::Unclassified("") };
        let Some(found) = self.lookup(mark.date, letter) else { return MarkClass::Unclassified(letter) };
        MarkClass::Of {
            class: found.row.class,
            late: found.row.late,
            contradicts_school: counts_as_absence != found.row.class.is_absence(),
            code: Some(found),
        }
    }

    /// A student who is there is present, whatever the table says; the code is the table's code for that, if it has one.
    fn there(&self, date: NaiveDate, code: &str, late: bool) -> MarkClass<'_> {
        let code = self.unmapped(date, code).filter(|found| found.row.class == Class::Present);
        MarkClass::Of { class: Class::Present, late, code, contradicts_school: false }
    }
}
