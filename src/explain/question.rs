use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, Utc};

use crate::model::{Mark, Session, Status, StudentId, setters};
use crate::rules::{SyncWindow, Window};

/// What a school expects a mark to say. Exhaustive: the student is present, or there is a code.
///
/// ```
/// use rollmark::explain::Expected;
///
/// assert_eq!("/".parse(), Ok(Expected::Present));
/// assert_eq!(Expected::from("M"), Expected::Code("M".into()));
/// assert_eq!(Expected::Present.to_string(), "/");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a mark is there or it is not")]
pub enum Expected {
    /// Present or late.
    Present,
    /// The letter of a code, whatever the status.
    Code(Box<str>),
}

impl Expected {
    /// Whether the mark says this.
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

impl From<&str> for Expected {
    /// `/` means present; any other text is a code's letter.
    fn from(text: &str) -> Self {
        match text.trim() {
            "/" => Self::Present,
            letter => Self::Code(letter.into()),
        }
    }
}

impl FromStr for Expected {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.into())
    }
}

impl fmt::Display for Expected {
    /// Writes it as `FromStr` reads it: `/` or the letter.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Present => "/",
            Self::Code(letter) => letter,
        })
    }
}

/// A question about one student's marks on one date, and what the school expects.
///
/// ```
/// use rollmark::explain::Question;
/// use rollmark::model::Session;
///
/// let question = Question::about("4733683260", "2026-11-20".parse()?).with_session(Session::Am).expecting("M");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Question {
    /// The student.
    pub student: StudentId,
    /// The school date. It can be outside the window.
    pub date: NaiveDate,
    /// The session; `None` asks about both.
    pub session: Option<Session>,
    /// What the school expects, if that is known.
    pub expected: Option<Expected>,
    /// The window that ordinary syncs cover, with its today. `None`: the default window ([R8](crate::guide::rules#r8))
    /// that ends on the date of the fetch.
    pub window: Option<Window>,
}

setters!(Question {
    with_session(session: Session) => Some(session);
    with_window(window: Window) => Some(window);
    /// Says what the mark should be: a code's letter, or `/` for present.
    expecting(expected: impl Into<Expected>) => Some(expected.into());
});

impl Question {
    /// Both sessions of one student's date, with nothing expected and the default window.
    pub fn about(student: impl Into<StudentId>, date: NaiveDate) -> Self {
        Self { student: student.into(), date, session: None, expected: None, window: None }
    }

    /// What ordinary syncs cover.
    pub(crate) fn window_at(&self, today: NaiveDate) -> Window {
        self.window.unwrap_or_else(|| SyncWindow::default().ending(today))
    }

    pub(super) fn sessions(&self) -> impl Iterator<Item = Session> + '_ {
        Session::BOTH.into_iter().filter(|session| self.session.is_none_or(|asked| asked == *session))
    }
}

/// What a portal's store shows for one session.
///
/// ```
/// use rollmark::explain::ShownMark;
/// use rollmark::model::Session;
///
/// // The portal shows no AM mark; run 12 removed it.
/// let shown = ShownMark::new(Session::Am, None).with_run(12, "2026-11-20T01:00:00Z".parse()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShownMark {
    /// The session.
    pub session: Session,
    /// The mark; `None` if the store shows none.
    pub mark: Option<Mark>,
    /// The run that wrote or removed it, and when that run fetched; `None` if no run ever did.
    pub since: Option<(u64, DateTime<Utc>)>,
}

impl ShownMark {
    /// A mark, or none, without saying which run wrote or removed it.
    pub fn new(session: Session, mark: Option<Mark>) -> Self {
        Self { session, mark, since: None }
    }

    /// Sets which run wrote or removed it, and when that run fetched.
    #[must_use]
    pub fn with_run(mut self, run: u64, fetched_at: DateTime<Utc>) -> Self {
        self.since = Some((run, fetched_at));
        self
    }
}
