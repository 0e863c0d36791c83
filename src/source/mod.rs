//! Where records come from: the trait [`AttendanceSource`], its request, its stream and its error.

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
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use error::{SourceError, SourceErrorKind};
pub use reading::read_all;
pub(crate) use reading::{Progress, read_watched, refuse_if_codes_are_missing};
pub use request::{Completeness, Coverage, FetchCounters, FetchRequest, FetchedKind, Part, Tally};
pub(crate) use saved::hex;
pub use saved::{ReplaySource, SavingSource};
pub use stream::{FetchItem, RecordBatch, RecordStream};
pub use zone::newest_zone;

pub use crate::explain::Wording;
use crate::model::setters;

/// Describes what a source can give.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Capabilities {
    /// Whether records say when they were last updated. Without that, [R6](crate::guide::rules#r6) has nothing to compare.
    pub has_stamps: bool,
    /// Whether the source has registration periods with a session flag.
    pub has_period_flags: bool,
    /// Whether the source has out-of-school records.
    pub has_out_of_school: bool,
    /// Whether the source has a code table. Without one, every code counts as an absence
    /// ([R2](crate::guide::rules#r2)). With one, an empty table is an incomplete fetch if records have codes
    /// ([R11.6](crate::guide::rules#r11-6)).
    pub has_code_table: bool,
    /// Whether the source gives session marks ([`SessionMark`](crate::model::SessionMark)) instead of registrations. A
    /// sync then needs all of them, and treats a registration as an error.
    pub gives_session_marks: bool,
    /// Whether the source can read only today. A sync then narrows its window to today and says so.
    pub today_only: bool,
    /// How old a reply can be ([R9](crate::guide::rules#r9)), in whole seconds; zero if nothing is cached, and less counts
    /// as zero.
    #[serde(rename = "cache_seconds", with = "seconds")]
    pub cache_expiry: TimeDelta,
}

/// A length of time in whole seconds, as files hold it.
mod seconds {
    use super::{Deserialize, Deserializer, Serializer, TimeDelta};

    pub(super) fn serialize<S: Serializer>(time: &TimeDelta, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(time.num_seconds())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TimeDelta, D::Error> {
        let seconds = i64::deserialize(deserializer)?;
        TimeDelta::try_seconds(seconds).ok_or_else(|| serde::de::Error::custom("too many seconds"))
    }
}

impl Default for Capabilities {
    /// A source that has everything except session marks, and no cache.
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
    /// A source that has everything except session marks, and no cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// The kinds of record that a fetch must have read in full (R11.1).
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

/// A school's management system, as far as attendance is concerned. [Your own source](crate::guide::your_own_source)
/// shows how to write one.
///
/// # Contract
/// - A fetch reads **everybody's** records of the window's dates, because only these show whether the school was in
///   session. It may give records outside the window too. Out-of-school records that overlap the window belong to it,
///   wherever they begin.
/// - **Kind**: registrations and out-of-school records, or session marks, as [`Capabilities::gives_session_marks`] says;
///   never both.
/// - **Order**: any. Codes and periods should come first: a late one costs memory, but the result stays right.
/// - **Completeness**: the last item of the stream is [`FetchItem::Complete`], once, and only if every part was read in
///   full. It has a part for every kind that the capabilities promise, codes included. A stream that ends without it
///   was cut short, and none of its records count.
/// - **Errors** end the stream. [`SourceError::retry`] says whether a new fetch from the start can succeed. A source
///   that retries by itself says so only if a new fetch has a better chance.
/// - **Cancellation**: dropping the stream stops the work and leaves nothing half done.
/// - `Debug` and `Display` name the source, without any secret.
#[async_trait]
pub trait AttendanceSource: Debug + Display + Send + Sync {
    /// What this source can give. Every call gives the same answer.
    fn capabilities(&self) -> Capabilities;

    /// The names of things in this system, for the sentences of a diagnosis.
    fn wording(&self) -> Wording {
        Wording::default()
    }

    /// Reads a window.
    ///
    /// # Errors
    /// A failure before the first record. Later failures are items of the stream.
    async fn fetch(&self, request: &FetchRequest) -> Result<RecordStream, SourceError>;
}
