use std::num::NonZeroU32;

use chrono::{Datelike, Days, NaiveDate};
use serde::Serialize;

use super::Plan;
use crate::model::setters;
use crate::rules::Window;

/// Reads dates before the window again, one slice a night, in rotation, so that later corrections of them are found.
///
/// A run of the window never reads older dates, so a later correction there stays unknown
/// ([R8](crate::guide::rules#r8)). A sweep also reads a slice of the older dates. Which slice depends only on the date of the
/// run: after as many nightly runs as the sweep has nights, every date from its first one to the day before the window was read.
///
/// ```
/// use rollmark::rules::SyncWindow;
/// use rollmark::sync::Sweep;
///
/// let today = "2026-11-20".parse()?;
/// let slice = Sweep::default().slice(SyncWindow::default().ending(today)).unwrap();
/// assert_eq!((slice.from().to_string(), slice.to().to_string()), ("2026-10-12".into(), "2026-10-17".into()));
/// # Ok::<(), chrono::ParseError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sweep {
    from: Option<NaiveDate>,
    nights: NonZeroU32,
}

setters!(Sweep {
    with_from(from: NaiveDate) => Some(from);
    with_nights(nights: NonZeroU32) => nights;
});

impl Default for Sweep {
    /// From the latest 1 September, in 14 nights.
    fn default() -> Self {
        Self { from: None, nights: NonZeroU32::MIN.saturating_add(13) }
    }
}

impl Sweep {
    /// The first date that is read again; `None`: the latest 1 September at or before today.
    pub fn from(&self) -> Option<NaiveDate> {
        self.from
    }

    /// The number of nights in which every date is read.
    pub fn nights(&self) -> NonZeroU32 {
        self.nights
    }

    /// The dates that are read in addition to this window, both ends included; `None` if there are none before it. Without
    /// [`Window::today`], the window's last date counts as today.
    pub fn slice(&self, window: Window) -> Option<Window> {
        let today = window.today().unwrap_or(window.to());
        let first = self.from.unwrap_or_else(|| latest_september(today));
        let days = u64::try_from((window.from() - first).num_days()).ok().filter(|days| *days > 0)?;
        let nights = u64::from(self.nights.get());
        let turn = u64::from(today.num_days_from_ce().unsigned_abs()) % nights;
        // The dates in equal parts, one for each turn. The range grows by one day each night, so from one turn to the next a
        // bound moves by up to a day: each part begins a day early, and no date is skipped.
        let from = (turn * days / nights).saturating_sub(1);
        let to = ((turn + 1) * days).div_ceil(nights) - 1;
        let slice = Window::between(first.checked_add_days(Days::new(from))?, first.checked_add_days(Days::new(to))?);
        slice.ok().map(|slice| slice.with_today(today))
    }
}

fn latest_september(today: NaiveDate) -> NaiveDate {
    let year = if today.month() < 9 { today.year() - 1 } else { today.year() };
    NaiveDate::from_ymd_opt(year, 9, 1).unwrap_or(today)
}

/// The result of a [`Sweep`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct OutsideWindow {
    /// The first date that was read.
    pub from: NaiveDate,
    /// The last date that was read.
    pub to: NaiveDate,
    /// Marks with other content than before.
    pub changed: u64,
    /// New marks.
    pub added: u64,
    /// Marks that the source no longer yields.
    pub removed: u64,
    /// Changes that were not written.
    pub withheld: u64,
    /// Why nothing of the slice was written, in one line. The window was written before.
    pub error: Option<String>,
    /// The number of days from the date of the oldest change to today.
    pub oldest_change_days: Option<i64>,
}

impl OutsideWindow {
    pub(super) fn failed(slice: Window, error: String) -> Self {
        let (from, to) = (slice.from(), slice.to());
        Self { from, to, changed: 0, added: 0, removed: 0, withheld: 0, error: Some(error), oldest_change_days: None }
    }

    pub(super) fn of(slice: Window, plan: &Plan) -> Self {
        let today = slice.today().unwrap_or(slice.to());
        Self {
            changed: plan.counts.changed,
            added: plan.counts.added,
            removed: plan.counts.removed,
            withheld: plan.counts.withheld,
            error: None,
            oldest_change_days: plan.changes.iter().map(|change| (today - change.key.date).num_days()).max(),
            ..Self::failed(slice, String::new())
        }
    }
}
