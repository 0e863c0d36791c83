use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::Wording;
use super::words::counted;

/// What one run revealed about the age of the source's replies, in whole seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ReplyAge {
    /// The reply was at most this old: its newest record that decides a mark was updated this long before the fetch.
    pub at_most_seconds: Option<u64>,
    /// The reply of the previous run was at least this old: it lacked a change that was made this long before that
    /// run's fetch.
    pub previous_at_least_seconds: Option<u64>,
    /// How many changes prove this.
    pub proofs: u64,
    /// Whether the reply gives the same marks as the previous run's: it was cached, or nothing has changed.
    pub is_unchanged: bool,
}

impl ReplyAge {
    /// Computes it from the time of a fetch, the newest stamp of its marks, the time of the previous run's fetch, and the
    /// stamps of the changes that appeared since. A change is proof if it was made before the previous fetch, which did not
    /// show it.
    pub fn of(
        fetched_at: DateTime<Utc>,
        newest: Option<DateTime<Utc>>,
        previous_fetch: Option<DateTime<Utc>>,
        appeared: impl IntoIterator<Item = DateTime<Utc>>,
        is_unchanged: bool,
    ) -> Self {
        let seconds = |age: TimeDelta| u64::try_from(age.num_seconds()).ok();
        let proven: Vec<u64> = appeared
            .into_iter()
            .filter_map(|change| seconds(previous_fetch? - change))
            .filter(|seconds| *seconds > 0)
            .collect();
        Self {
            at_most_seconds: newest.and_then(|newest| seconds(fetched_at - newest)),
            previous_at_least_seconds: proven.iter().max().copied(),
            proofs: proven.len() as u64,
            is_unchanged,
        }
    }
}

/// Says how sure a measurement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Certainty {
    /// No run proves that a reply was old.
    Unproven,
    /// One change proves it, and a stamp can be wrong.
    Likely,
    /// Several changes prove it.
    Sure,
}

/// How old a source's replies really are, measured over its runs.
///
/// ```
/// use chrono::{DateTime, TimeDelta, Utc};
/// use rollmark::explain::{MeasuredAge, ReplyAge};
///
/// let time = |text: &str| text.parse::<DateTime<Utc>>();
/// // The run of the second night shows a change that was made nine hours before the first night's fetch.
/// let age = ReplyAge::of(time("2026-11-20T02:00:00Z")?, None, Some(time("2026-11-19T02:00:00Z")?), [time("2026-11-18T17:00:00Z")?], false);
/// let measured = MeasuredAge::over([age], TimeDelta::hours(6));
/// assert_eq!(measured.at_least, Some(TimeDelta::hours(9)));
/// assert!(measured.is_worse_than_setting());
/// # Ok::<(), chrono::ParseError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MeasuredAge {
    /// At least one reply was this old, or older.
    pub at_least: Option<TimeDelta>,
    /// No reply was older than this, of those whose age has a known limit; `None` if `at_least` shows that another was.
    pub at_most: Option<TimeDelta>,
    /// How sure `at_least` is.
    pub certainty: Certainty,
    /// How many runs were looked at.
    pub runs: u64,
    /// How many of those runs gave the same marks as the run before.
    pub unchanged: u64,
    /// What the cache expiry is set to.
    pub setting: TimeDelta,
}

impl MeasuredAge {
    /// Measures over runs that had the same setting of the cache expiry.
    pub fn over(ages: impl IntoIterator<Item = ReplyAge>, setting: TimeDelta) -> Self {
        let ages: Vec<ReplyAge> = ages.into_iter().collect();
        let longest = |seconds: fn(&ReplyAge) -> Option<u64>| {
            let longest = i64::try_from(ages.iter().filter_map(seconds).max()?).ok()?;
            TimeDelta::try_seconds(longest)
        };
        let proofs: u64 = ages.iter().map(|age| age.proofs).sum();
        let at_least = longest(|age| age.previous_at_least_seconds);
        let at_most = longest(|age| age.at_most_seconds);
        Self {
            at_least,
            at_most: at_most.filter(|most| at_least.is_none_or(|least| least <= *most)),
            certainty: match proofs {
                0 => Certainty::Unproven,
                1 => Certainty::Likely,
                _ => Certainty::Sure,
            },
            runs: ages.len() as u64,
            unchanged: ages.iter().filter(|age| age.is_unchanged).count() as u64,
            setting,
        }
    }

    /// Whether a reply was older than the setting allows.
    pub fn is_worse_than_setting(&self) -> bool {
        self.at_least.is_some_and(|age| age > self.setting)
    }

    /// What was measured, as a sentence without a full stop.
    pub fn sentence(&self, wording: &Wording) -> String {
        let mut sentence = match self.at_least {
            None => "no change came late, so nothing shows that a reply was old".to_owned(),
            Some(age) => {
                let sure =
                    if self.certainty == Certainty::Sure { "several changes show it" } else { "one change shows it" };
                let setting = hours(self.setting);
                format!(
                    "at least one reply was {} old or older ({sure}); the cache expiry is set to {setting}",
                    hours(age)
                )
            }
        };
        if self.is_worse_than_setting() {
            let key = wording.key();
            sentence += &format!(
                ", so the {key} behaves worse than its setting: check the {key}'s settings and save them again"
            );
        }
        if let Some(age) = self.at_most {
            sentence += &format!("; no reply whose age is known was older than {}", hours(age));
        }
        sentence + &format!(" ({}, {} without a change)", counted(self.runs, "run"), self.unchanged)
    }
}

impl fmt::Display for MeasuredAge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence(&Wording::default()))
    }
}

fn hours(age: TimeDelta) -> String {
    format!("{} h {:02} min", age.num_hours(), age.num_minutes() % 60)
}
