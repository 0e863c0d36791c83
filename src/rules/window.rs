use std::collections::BTreeSet;

use chrono::{Days, NaiveDate};
use serde::{Deserialize, Serialize};

use crate::model::{StudentId, setters};

/// How many days before and after today a sync covers ([R8](crate::guide::rules#r8)). The default is the last 30 days:
/// 31 dates.
///
/// ```
/// use rollmark::rules::SyncWindow;
///
/// let window = SyncWindow::default().ending("2026-11-21".parse()?);
/// assert_eq!(window.from().to_string(), "2026-10-22");
/// assert_eq!(window.to().to_string(), "2026-11-21");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SyncWindow {
    /// Days before today, the earliest included: N days are N + 1 dates.
    pub days: u32,
    /// Days after today, the latest included.
    pub look_ahead: u32,
}

impl Default for SyncWindow {
    fn default() -> Self {
        Self { days: 30, look_ahead: 0 }
    }
}

setters!(SyncWindow {
    with_days(days: u32) => days;
    with_look_ahead(look_ahead: u32) => look_ahead;
});

impl SyncWindow {
    /// The window as dates, for the "today" that the caller passes. It is cut off at the ends of the calendar.
    pub fn ending(self, today: NaiveDate) -> Window {
        Window {
            from: today.checked_sub_days(Days::new(self.days.into())).unwrap_or(NaiveDate::MIN),
            to: today.checked_add_days(Days::new(self.look_ahead.into())).unwrap_or(LAST),
            today: Some(today),
        }
    }
}

/// The last date a window can hold; the day after it exists.
const LAST: NaiveDate = match NaiveDate::MAX.pred_opt() {
    Some(date) => date,
    None => NaiveDate::MAX,
};

/// A range of dates that ends before it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the date range ends ({to}) before it starts ({from}); swap the two dates")]
pub struct WindowError {
    from: NaiveDate,
    to: NaiveDate,
}

/// A range of school dates, both ends included, and the "today" that belongs to it, if the caller passed one.
///
/// ```
/// use rollmark::rules::Window;
///
/// let week = Window::between("2026-11-16".parse()?, "2026-11-20".parse()?)?;
/// assert!(week.contains("2026-11-20".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "WrittenWindow")]
pub struct Window {
    from: NaiveDate,
    to: NaiveDate,
    today: Option<NaiveDate>,
}

/// A window as it is deserialised: `from` and `to` can be swapped.
#[derive(Deserialize)]
struct WrittenWindow {
    from: NaiveDate,
    to: NaiveDate,
    #[serde(default)]
    today: Option<NaiveDate>,
}

impl TryFrom<WrittenWindow> for Window {
    type Error = WindowError;

    fn try_from(written: WrittenWindow) -> Result<Self, WindowError> {
        Ok(Self { today: written.today, ..Self::between(written.from, written.to)? })
    }
}

impl Window {
    /// An explicit range, both ends included.
    ///
    /// # Errors
    /// The range ends before it starts.
    pub fn between(from: NaiveDate, to: NaiveDate) -> Result<Self, WindowError> {
        if from > to {
            return Err(WindowError { from, to });
        }
        Ok(Self { from, to: to.min(LAST), today: None })
    }

    /// One date.
    pub fn day(date: NaiveDate) -> Self {
        let date = date.min(LAST);
        Self { from: date, to: date, today: None }
    }

    /// Sets today, so that stamps in the future can be recognised ([R1.3](crate::guide::rules#r1-3)).
    #[must_use]
    pub fn with_today(mut self, today: NaiveDate) -> Self {
        self.today = Some(today);
        self
    }

    /// The first date, included.
    pub fn from(&self) -> NaiveDate {
        self.from
    }

    /// The last date, included.
    pub fn to(&self) -> NaiveDate {
        self.to
    }

    /// Today, if the caller passed it.
    pub fn today(&self) -> Option<NaiveDate> {
        self.today
    }

    /// Whether the date lies in the window.
    pub fn contains(&self, date: NaiveDate) -> bool {
        self.from <= date && date <= self.to
    }

    /// Its dates, in order.
    pub fn dates(&self) -> impl Iterator<Item = NaiveDate> + use<> {
        dates(self.from, self.to)
    }
}

/// The dates between two dates, both included.
pub(super) fn dates(from: NaiveDate, to: NaiveDate) -> impl Iterator<Item = NaiveDate> {
    from.iter_days().take_while(move |date| *date <= to)
}

/// What a run may compare and write: the dates of a window, for all students or for named ones.
///
/// ```
/// use rollmark::rules::{Scope, Window};
///
/// let date = "2026-11-20".parse()?;
/// let scope = Scope::all(Window::day(date)).with_students(["4733683260"]);
/// assert!(scope.contains(&"4733683260".into(), date));
/// assert!(!scope.contains(&"4733683261".into(), date));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    window: Window,
    students: Option<BTreeSet<StudentId>>,
}

/// All students of the window.
impl From<Window> for Scope {
    fn from(window: Window) -> Self {
        Self::all(window)
    }
}

impl Scope {
    /// All students of the window.
    pub fn all(window: Window) -> Self {
        Self { window, students: None }
    }

    /// The dates.
    pub fn window(&self) -> Window {
        self.window
    }

    /// The named students; `None` means all.
    pub fn students(&self) -> Option<&BTreeSet<StudentId>> {
        self.students.as_ref()
    }

    /// Whether the student is in scope.
    pub fn has_student(&self, student: &StudentId) -> bool {
        self.students.as_ref().is_none_or(|students| students.contains(student))
    }

    /// Whether a mark of this student and date is in scope.
    pub fn contains(&self, student: &StudentId, date: NaiveDate) -> bool {
        self.window.contains(date) && self.has_student(student)
    }
}

setters!(Scope {
    /// Limits it to these students.
    with_students(students: impl IntoIterator<Item = impl Into<StudentId>>) => Some(students.into_iter().map(Into::into).collect());
    /// Sets other dates, and keeps the students.
    with_window(window: Window) => window;
});
