use std::fmt;

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, Timelike, Utc};
use chrono::{Offset, TimeZone};
use serde::{Deserialize, Serialize};

use super::{Zone, names};

/// The first year whose times are taken as real (R1.3); feeds write 0001 and 1900 for "none" (iSAMS, verified).
pub(crate) const FIRST_REAL_YEAR: i32 = 1990;

/// The half of the school day that a mark is for. `Am` sorts before `Pm`. Exhaustive: a school day has no third half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(clippy::exhaustive_enums, reason = "a school day has two halves")]
pub enum Session {
    /// The morning session.
    Am,
    /// The afternoon session.
    Pm,
}

impl Session {
    /// Both sessions, in order.
    pub const BOTH: [Self; 2] = [Self::Am, Self::Pm];

    /// Reads `am` or `pm` in any case; `None` for any other text ([R3](crate::guide::rules#r3)).
    pub fn from_flag(text: &str) -> Option<Self> {
        Self::BOTH.into_iter().find(|session| session.name().eq_ignore_ascii_case(text.trim()))
    }
}

names!(Session, "a session", { Am => "AM", Pm => "PM", });

/// A time as a source gives it: with an offset, without an offset (school time), or a date without a time.
///
/// ```
/// use rollmark::model::FeedTime;
///
/// assert!(matches!("2026-01-14T08:40:00".parse(), Ok(FeedTime::School(_))));
/// assert!(matches!("2026-01-14T08:40:00.5+01:00".parse(), Ok(FeedTime::Offset(_))));
/// assert!(matches!("2026-01-14".parse(), Ok(FeedTime::Date(_))));
/// assert!("14/01/2026".parse::<FeedTime>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FeedTime {
    /// A date without a time.
    Date(NaiveDate),
    /// Local time at the school.
    School(NaiveDateTime),
    /// A time with an offset, which is an instant.
    Offset(DateTime<FixedOffset>),
    /// The end of a day, written `24:00`: 00:00 of the next date in school time. Distinguished from a midnight written
    /// `00:00`, which can mean the end of its own date ([R5](crate::guide::rules#r5)).
    EndOfDay(NaiveDateTime),
    /// The end of a day with an offset, as 00:00 of the next date.
    OffsetEndOfDay(DateTime<FixedOffset>),
}

impl FeedTime {
    /// This time as an instant ([R1.2](crate::guide::rules#r1-2), [`Zone::instant`]). A date without a time is the
    /// start of that date.
    pub fn instant(self, zone: &Zone) -> DateTime<Utc> {
        match self {
            Self::Offset(time) | Self::OffsetEndOfDay(time) => time.to_utc(),
            other => zone.instant(other.as_written()),
        }
    }

    /// This time, converted to school time ([R1.1](crate::guide::rules#r1-1)). A date without a time is the start of that date.
    pub fn school_time(self, zone: &Zone) -> NaiveDateTime {
        match self {
            Self::Offset(time) | Self::OffsetEndOfDay(time) => zone.wall_time(time.to_utc()),
            other => other.as_written(),
        }
    }

    /// This time as it is written, ignoring its offset. A date without a time is the start of that date.
    pub(crate) fn as_written(self) -> NaiveDateTime {
        match self {
            Self::Date(date) => date.and_time(NaiveTime::MIN),
            Self::School(time) | Self::EndOfDay(time) => time,
            Self::Offset(time) | Self::OffsetEndOfDay(time) => time.naive_local(),
        }
    }

    /// Whether this was written as the end of a day, `24:00`.
    pub fn is_end_of_day(self) -> bool {
        matches!(self, Self::EndOfDay(_) | Self::OffsetEndOfDay(_))
    }

    /// Whether this is a date without a time.
    pub fn is_date(self) -> bool {
        matches!(self, Self::Date(_))
    }
}

/// Writes the time as sources do; `FromStr` reads the same time again.
impl fmt::Display for FeedTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const TIME: &str = "%Y-%m-%dT%H:%M:%S%.f";
        let date_before = |time: NaiveDateTime| time.date().pred_opt().unwrap_or(time.date());
        match self {
            Self::Date(date) => write!(f, "{date}"),
            Self::School(time) => write!(f, "{}", time.format(TIME)),
            Self::Offset(time) => write!(f, "{}{}", time.naive_local().format(TIME), time.offset()),
            Self::EndOfDay(time) => write!(f, "{}T24:00:00", date_before(*time)),
            Self::OffsetEndOfDay(time) => write!(f, "{}T24:00:00{}", date_before(time.naive_local()), time.offset()),
        }
    }
}

/// A text that is not a time in any form that sources use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a date (2026-01-14) or a date and time (2026-01-14T08:40:00, with or without an offset)")]
#[non_exhaustive]
pub struct UnreadableTime;

impl std::str::FromStr for FeedTime {
    type Err = UnreadableTime;

    /// Reads ISO 8601 as sources write it. Seconds, a fraction and an offset are optional.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let (date, rest) = text.split_at_checked(10).ok_or(UnreadableTime)?;
        let date = parse_date(date)?;
        let Some(rest) = rest.strip_prefix(['T', 't', ' ']) else {
            return if rest.is_empty() { Ok(Self::Date(date)) } else { Err(UnreadableTime) };
        };
        let clock_end = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
        let (clock, offset) = rest.split_at(clock_end);
        let clock = clock.trim_end();
        // R1.6.
        let is_midnight = |rest: &str| parse_clock(&format!("00{rest}")) == Ok(NaiveTime::MIN);
        let is_end_of_day = clock.strip_prefix("24").is_some_and(is_midnight);
        let time = match is_end_of_day {
            true => date.succ_opt().ok_or(UnreadableTime)?.and_time(NaiveTime::MIN),
            false => date.and_time(parse_clock(clock)?),
        };
        let offset: FixedOffset = match offset {
            "" if is_end_of_day => return Ok(Self::EndOfDay(time)),
            "" => return Ok(Self::School(time)),
            "Z" | "z" => Utc.fix(),
            _ => offset.parse().map_err(|_| UnreadableTime)?,
        };
        let time = offset.from_local_datetime(&time).single().ok_or(UnreadableTime)?;
        Ok(if is_end_of_day { Self::OffsetEndOfDay(time) } else { Self::Offset(time) })
    }
}

fn parse_clock(text: &str) -> Result<NaiveTime, UnreadableTime> {
    if let Some(clock) = usual_clock(text.as_bytes()) {
        return Ok(clock);
    }
    let format = if text.len() == 5 { "%H:%M" } else { "%H:%M:%S%.f" };
    let clock = NaiveTime::parse_from_str(text, format).map_err(|_| UnreadableTime)?;
    // A leap second has no place on a school's clock.
    if clock.nanosecond() < 1_000_000_000 { Ok(clock) } else { Err(UnreadableTime) }
}

/// Reads the form of nearly all times, `08:40:00` with or without a fraction, at a tenth of the cost of a general parser.
fn usual_clock(text: &[u8]) -> Option<NaiveTime> {
    let (clock, fraction) = text.split_at_checked(8)?;
    let &[h, hh, b':', m, mm, b':', s, ss] = clock else { return None };
    let nanoseconds = match fraction {
        [] => 0,
        [b'.', digits @ ..] if (1..=9).contains(&digits.len()) => number(digits)? * 10_u32.pow(9 - digits.len() as u32),
        _ => return None,
    };
    NaiveTime::from_hms_nano_opt(number(&[h, hh])?, number(&[m, mm])?, number(&[s, ss])?, nanoseconds)
}

fn parse_date(text: &str) -> Result<NaiveDate, UnreadableTime> {
    let &[y, yy, yyy, yyyy, b'-', m, mm, b'-', d, dd] = text.as_bytes() else { return Err(UnreadableTime) };
    let date = || {
        let year = number(&[y, yy, yyy, yyyy])?;
        // The year 0 is excluded, so that there is a day before any such date.
        NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, number(&[m, mm])?, number(&[d, dd])?).filter(|_| year > 0)
    };
    date().ok_or(UnreadableTime)
}

/// Reads a number of at most nine digits.
fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn a_time_with_an_offset_reads_in_school_time() {
        let time: FeedTime = "2026-07-01T23:30:00Z".parse().unwrap();
        assert_eq!(time.school_time(&"Europe/London".parse().unwrap()).to_string(), "2026-07-02 00:30:00");
    }

    #[test]
    fn the_end_of_a_day_is_the_next_dates_midnight() {
        let london = "Europe/London".parse().unwrap();
        for text in [
            "2026-11-17T24:00",
            "2026-11-17T24:00:00",
            "2026-11-17 24:00:00Z",
            "2026-11-17T24:00:00+00:00",
            "2026-11-17T24:00:00.0",
            "2026-11-17T24:00:00.000",
            "2026-11-17T24:00:00.0000000Z",
        ] {
            let time: FeedTime = text.parse().unwrap();
            assert!(time.is_end_of_day(), "{text}");
            assert_eq!(time.school_time(&london).to_string(), "2026-11-18 00:00:00", "{text}");
        }
        assert!(!"2026-11-18T00:00:00".parse::<FeedTime>().unwrap().is_end_of_day());
    }

    #[test]
    fn other_texts_are_unreadable() {
        for text in [
            "",
            "2026-13-01",
            "2026-01-14T",
            "2026-01-14T25:00:00",
            "2026-01-14T24:00:01",
            "2026-01-14T24:00:00.001",
            "2026-01-14T24:00:00.",
            "2026-01-14T24:00.0",
            "2026-01-14T24",
            "2026-01-14T24:30",
            "2026-01-14x",
            "0000-01-01",
            "2026-1-1",
            "2026-01-14T08:40:60",
            "é026-01-14",
            "2026-01-14T08:40:00+99:00",
        ] {
            assert_eq!(text.parse::<FeedTime>(), Err(UnreadableTime), "{text}");
        }
    }
}
