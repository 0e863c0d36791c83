use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, Utc};

use crate::model::{Mark, Session, Status, StudentId};
use crate::rules::Window;

/// What a school expects a mark to say.
///
/// ```
/// use rollmark::explain::Expected;
///
/// assert_eq!("/".parse(), Ok(Expected::Present));
/// assert_eq!("M".parse(), Ok(Expected::Code("M".into())));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Present or late.
    Present,
    /// The letter of a code, whatever the status.
    Code(Box<str>),
}

impl Expected {
    /// Whether the mark says so.
    pub fn is_met_by(&self, mark: &Mark) -> bool {
        self.is_met(mark.status, mark.code.as_deref())
    }

    pub(super) fn is_met(&self, status: Status, letter: Option<&str>) -> bool {
        match self {
            Self::Present => matches!(status, Status::Present | Status::Late),
            Self::Code(expected) => letter == Some(expected),
        }
    }
}

impl FromStr for Expected {
    type Err = Infallible;

    /// `/` is present, any other text is a code's letter.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.trim() {
            "/" => Self::Present,
            letter => Self::Code(letter.into()),
        })
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Present => "present",
            Self::Code(letter) => letter,
        })
    }
}

/// Whose mark is in question, and what is known of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Question {
    /// The student.
    pub student: StudentId,
    /// The school date, also one outside the window.
    pub date: NaiveDate,
    /// The session; both without one.
    pub session: Option<Session>,
    /// What the school expects, if it said.
    pub expected: Option<Expected>,
    /// What ordinary syncs cover, with its today.
    pub window: Window,
}

impl Question {
    /// Both sessions of one student's date, with nothing expected.
    pub fn new(student: impl Into<StudentId>, date: NaiveDate, window: Window) -> Self {
        Self { student: student.into(), date, session: None, expected: None, window }
    }

    /// Narrows the question to one session.
    #[must_use]
    pub fn session(mut self, session: Session) -> Self {
        self.session = Some(session);
        self
    }

    /// Says what the mark should be.
    #[must_use]
    pub fn expected(mut self, expected: Expected) -> Self {
        self.expected = Some(expected);
        self
    }

    pub(super) fn sessions(&self) -> impl Iterator<Item = Session> + '_ {
        Session::BOTH.into_iter().filter(|session| self.session.is_none_or(|asked| asked == *session))
    }
}

/// What a portal's store shows in one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownMark {
    /// The session.
    pub session: Session,
    /// The mark; `None` where the store shows none.
    pub mark: Option<Mark>,
    /// The run that wrote or removed it, and when that run fetched; `None` if none ever did.
    pub since: Option<(u64, DateTime<Utc>)>,
}
