//! Where records come from: [`AttendanceSource`], its request, its stream and its error.

mod error;
mod forward;
mod reading;
mod request;
pub(crate) mod retry;
mod saved;
mod stream;
mod zone;

use std::fmt::{Debug, Display};

use async_trait::async_trait;
use chrono::TimeDelta;

pub use error::{SourceError, SourceErrorKind};
pub use reading::read_all;
pub(crate) use reading::{Progress, read_watched, refuse_if_codes_are_missing};
pub use request::{Completeness, Coverage, FetchCounters, FetchRequest, FetchedKind, Part, Tally};
pub use saved::{ReplaySource, SavingSource};
pub use stream::{FetchItem, RecordBatch, RecordStream};
pub use zone::newest_zone;

pub use crate::explain::Wording;
use crate::model::setters;

/// What a source can give.
///
/// ```
/// use chrono::TimeDelta;
/// use rollmark::source::Capabilities;
///
/// // Registers and codes from an export that is made every hour.
/// let capabilities = Capabilities::new()
///     .with_period_flags(false)
///     .with_out_of_school(false)
///     .with_cache_expiry(TimeDelta::hours(1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Records say when they were last updated.
    pub has_stamps: bool,
    /// The source has registration periods with a session flag.
    pub has_period_flags: bool,
    /// The source has out-of-school records.
    pub has_out_of_school: bool,
    /// The source has a code table. Where it has none, every code counts as an absence ([R2](crate::guide::rules#r2));
    /// where it has one, an empty table under records with codes is an incomplete fetch
    /// ([R11.6](crate::guide::rules#r11-6)).
    pub has_code_table: bool,
    /// The source gives session marks ([`SessionMark`](crate::model::SessionMark)) instead of registrations. A sync then
    /// needs them in full, and nothing else; a registration is an error.
    pub gives_session_marks: bool,
    /// Nothing older or newer than today can be read; a sync narrows its window to today and says so.
    pub today_only: bool,
    /// How old a reply can be ([R9](crate::guide::rules#r9)). Zero where nothing is cached.
    pub cache_expiry: TimeDelta,
}

impl Default for Capabilities {
    /// Everything but session marks, from replies that are never cached.
    fn default() -> Self {
        Self {
            has_stamps: true,
            has_period_flags: true,
            has_out_of_school: true,
            has_code_table: true,
            gives_session_marks: false,
            today_only: false,
            cache_expiry: TimeDelta::zero(),
        }
    }
}

setters!(Capabilities {
    with_stamps(has_stamps: bool) => has_stamps;
    with_period_flags(has_period_flags: bool) => has_period_flags;
    with_out_of_school(has_out_of_school: bool) => has_out_of_school;
    with_code_table(has_code_table: bool) => has_code_table;
    with_session_marks(gives_session_marks: bool) => gives_session_marks;
    with_today_only(today_only: bool) => today_only;
    with_cache_expiry(cache_expiry: TimeDelta) => cache_expiry;
});

impl Capabilities {
    /// Everything but session marks, from replies that are never cached.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a fetch must have read in full (R11.1).
    pub(crate) fn needed(&self, periods: bool) -> Vec<FetchedKind> {
        let mut needed = Vec::from_iter(self.has_code_table.then_some(FetchedKind::Codes));
        if self.gives_session_marks {
            needed.push(FetchedKind::SessionMarks);
            return needed;
        }
        needed.push(FetchedKind::Registrations);
        needed.extend(self.has_out_of_school.then_some(FetchedKind::OutOfSchool));
        needed.extend(periods.then_some(FetchedKind::Periods));
        needed
    }
}

/// A school's management system, as far as attendance goes.
///
/// # Contract
/// - A fetch reads **everybody's** records of the window's dates: whether the school was in session shows only there.
///   Records outside the window can be among them. Out-of-school records that overlap the window belong to it,
///   wherever they begin.
/// - **Kind**: registrations and out-of-school records, or session marks, as [`Capabilities::gives_session_marks`] says;
///   never both.
/// - **Order** is free. Codes and periods should come first: a late one costs memory, never correctness.
/// - **Completeness**: the stream's last item is [`FetchItem::Complete`], once, only if every part was read in full.
///   It has a part for every kind that the capabilities promise, codes included. A stream that ends without it was cut
///   short, and nothing of it counts.
/// - **Errors** end the stream. One whose [`SourceError::retry`] says so can be tried again from the start; a source that has
///   its own retries says so only where a new fetch has a fresh chance.
/// - **Cancellation**: dropping the stream stops the work and leaves nothing half done.
/// - `Debug` and `Display` name the source without any secret.
#[async_trait]
pub trait AttendanceSource: Debug + Display + Send + Sync {
    /// What this source can give. The same on every call.
    fn capabilities(&self) -> Capabilities;

    /// What this system's things are called, for sentences about it.
    fn wording(&self) -> Wording {
        Wording::default()
    }

    /// Reads a window.
    ///
    /// # Errors
    /// What fails before the first record; later failures are items of the stream.
    async fn fetch(&self, request: &FetchRequest) -> Result<RecordStream, SourceError>;
}
