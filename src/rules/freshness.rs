use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// How old the data of a fetch can be ([R9](crate::guide::rules#r9)).
///
/// ```
/// use chrono::{TimeDelta, Utc};
/// use rollmark::rules::Freshness;
///
/// let fetched_at = Utc::now();
/// let freshness = Freshness::new(fetched_at, TimeDelta::hours(24));
/// assert_eq!(freshness.as_of_earliest(), fetched_at - TimeDelta::hours(24));
/// assert!(freshness.is_advised_against());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freshness {
    /// The instant just before the run's first request.
    pub fetched_at: DateTime<Utc>,
    cache_seconds: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    as_of: Option<DateTime<Utc>>,
}

impl Freshness {
    /// The longest cache expiry that is fine: 6 hours. Anything above is advised against.
    pub const ADVISED: TimeDelta = TimeDelta::hours(6);

    /// The freshness of a fetch at this instant from a source with this cache expiry, in whole seconds. A negative expiry
    /// counts as 0.
    pub fn new(fetched_at: DateTime<Utc>, cache_expiry: TimeDelta) -> Self {
        Self { fetched_at, cache_seconds: cache_expiry.num_seconds().try_into().unwrap_or(0), as_of: None }
    }

    /// Sets the time of the data, if the source gives it (for example, when an export was made). It then replaces f − E.
    /// A time after the fetch counts as the time of the fetch.
    #[must_use]
    pub fn with_as_of(mut self, as_of: Option<DateTime<Utc>>) -> Self {
        self.as_of = as_of;
        self
    }

    /// The time of the data, if the source gives it.
    pub fn as_of(&self) -> Option<DateTime<Utc>> {
        self.as_of
    }

    /// The cache expiry E.
    pub fn cache_expiry(&self) -> TimeDelta {
        self.cache_seconds.try_into().ok().and_then(TimeDelta::try_seconds).unwrap_or(TimeDelta::MAX)
    }

    /// The earliest moment that the data can show: the time that the source gives, or else f − E.
    pub fn as_of_earliest(&self) -> DateTime<Utc> {
        let without_as_of =
            || self.fetched_at.checked_sub_signed(self.cache_expiry()).unwrap_or(DateTime::<Utc>::MIN_UTC);
        self.as_of.map_or_else(without_as_of, |as_of| as_of.min(self.fetched_at))
    }

    /// The earliest of the scheduled fetches that is sure to see a change made at this instant (t), if there is one:
    /// the first with f ≥ t + E. The schedule can be in any order. `None` if the source gives the time of its data: then only
    /// the source's own schedule says when newer data comes.
    pub fn visible_by(
        &self,
        change: DateTime<Utc>,
        schedule: impl IntoIterator<Item = DateTime<Utc>>,
    ) -> Option<DateTime<Utc>> {
        let sure = change.checked_add_signed(self.cache_expiry()).filter(|_| self.as_of.is_none())?;
        schedule.into_iter().filter(|fetch| *fetch >= sure).min()
    }

    /// Whether the cache expiry is above 6 hours, so that the next sync can easily miss a change.
    pub fn is_advised_against(&self) -> bool {
        self.cache_expiry() > Self::ADVISED
    }
}
