//! Values as the flags of `rollmark sync` spell them.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

/// A module for `#[serde(with = …)]` that reads and writes a value as a text.
macro_rules! spelled {
    ($module:ident, $type:ty, $what:literal, $read:expr, $write:expr) => {
        pub(super) mod $module {
            use super::*;

            pub(crate) fn serialize<S: Serializer>(value: &$type, serializer: S) -> Result<S::Ok, S::Error> {
                let write: fn(&$type) -> String = $write;
                serializer.serialize_str(&write(value))
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                let read: fn(&str) -> Option<$type> = $read;
                read(&text).ok_or_else(|| D::Error::custom($what))
            }
        }
    };
}

use chrono::{NaiveTime, TimeDelta};

use crate::rules::{MidnightEnd, TieBreak};

spelled!(
    tie,
    TieBreak,
    "tie is out-of-school or registration",
    |text| match text {
        "out-of-school" => Some(TieBreak::OutOfSchool),
        "registration" => Some(TieBreak::Registration),
        _ => None,
    },
    |tie| tie.to_string().replace('_', "-")
);

spelled!(
    midnight_end,
    MidnightEnd,
    "midnight_end is excluded or included",
    |text| match text {
        "excluded" => Some(MidnightEnd::Excluded),
        "included" => Some(MidnightEnd::IncludesDate),
        _ => None,
    },
    |end| match end {
        MidnightEnd::Excluded => "excluded".to_owned(),
        MidnightEnd::IncludesDate => "included".to_owned(),
    }
);

spelled!(
    clock,
    NaiveTime,
    "pm_start is not a time of day; 13:30 is one",
    |text| {
        let form = if text.len() == 8 { "%H:%M:%S" } else { "%H:%M" };
        NaiveTime::parse_from_str(text, form).ok().filter(|_| matches!(text.len(), 5 | 8))
    },
    |time| time.format("%H:%M:%S").to_string()
);

spelled!(
    duration,
    Option<TimeDelta>,
    "cache_expiry is not a duration; use 24h, 90m, 1h 30m or 0s",
    |text| Some(Some(TimeDelta::from_std(humantime::parse_duration(text).ok()?).ok()?)),
    |duration| {
        let duration = duration.and_then(|duration| duration.to_std().ok()).unwrap_or_default();
        humantime::format_duration(duration).to_string()
    }
);
