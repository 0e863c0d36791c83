use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::names;

/// Something in the records that the school should look at ([R10](crate::guide::rules#r10)). It never stops a sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Issue {
    /// The source says that the register was taken and the student is not present, but gives no code
    /// ([R2](crate::guide::rules#r2)).
    AbsentWithoutCode,
    /// An optional field can't be read and counts as missing ([R1.6](crate::guide::rules#r1-6)).
    BadValue,
    /// Two codes or two periods have the same id and different content, or an old version of an out-of-school record
    /// covers other times than the new one ([R1.5](crate::guide::rules#r1-5)).
    ConflictingRecord,
    /// A row lost to another row of the same student, date and time ([R4](crate::guide::rules#r4)), or a session mark
    /// lost to another session mark of the same session.
    DuplicateRegistration,
    /// A last-updated stamp after today or before 1990 ([R1.3](crate::guide::rules#r1-3)).
    ImplausibleTimestamp,
    /// An out-of-school record ends at or before its start ([R5](crate::guide::rules#r5)).
    InvalidSpan,
    /// An out-of-school record ends at a midnight that can mean the start or the end of that date
    /// ([R5](crate::guide::rules#r5)).
    MidnightEnd,
    /// An out-of-school record has no end ([R5](crate::guide::rules#r5)).
    MissingEnd,
    /// A date has registrations but no period flagged AM ([R3](crate::guide::rules#r3)).
    NoAmPeriod,
    /// The fetch holds no code table at all ([R2](crate::guide::rules#r2)).
    NoCodeTable,
    /// A date has registrations but no period flagged PM ([R3](crate::guide::rules#r3)).
    NoPmPeriod,
    /// Two student ids of one fetch differ only in upper and lower case ([R1.7](crate::guide::rules#r1-7)).
    SimilarIds,
    /// A field under an unknown name may hold update times or codes, but there are too few records to be sure.
    UndecidedField,
    /// A code is not in the code table ([R2](crate::guide::rules#r2)).
    UnknownCode,
    /// A row's period is not in the period list ([R3](crate::guide::rules#r3)).
    UnknownPeriod,
    /// A period's session flag is neither `am` nor `pm` ([R3](crate::guide::rules#r3)).
    UnknownSessionFlag,
    /// An issue that a newer version of this library knows and this one does not.
    Unknown,
}

names!(Issue, "an issue", {
    AbsentWithoutCode => "absent_without_code",
    BadValue => "bad_value",
    ConflictingRecord => "conflicting_record",
    DuplicateRegistration => "duplicate_registration",
    ImplausibleTimestamp => "implausible_timestamp",
    InvalidSpan => "invalid_span",
    MidnightEnd => "midnight_end",
    MissingEnd => "missing_end",
    NoAmPeriod => "no_am_period",
    NoCodeTable => "no_code_table",
    NoPmPeriod => "no_pm_period",
    SimilarIds => "similar_ids",
    UndecidedField => "undecided_field",
    UnknownCode => "unknown_code",
    UnknownPeriod => "unknown_period",
    UnknownSessionFlag => "unknown_session_flag",
} else Unknown);

/// How often an issue was raised, with a few examples by id (or date).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct IssueCount {
    /// The number of records with the issue, or of dates if it is an issue of the date.
    pub count: u64,
    /// The first few ids (or dates), in id order; empty if the records have no ids.
    pub examples: Vec<String>,
}

/// The issues of a resolved register, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Issues(BTreeMap<Issue, IssueCount>);

impl Issues {
    const EXAMPLES: usize = 3;

    pub(crate) fn raise(&mut self, issue: Issue, example: Option<&str>) {
        self.raise_many(issue, 1, example);
    }

    /// Raises an issue `count` times, with one example.
    pub(crate) fn raise_many(&mut self, issue: Issue, count: u64, example: Option<&str>) {
        if count == 0 {
            return;
        }
        let entry = self.0.entry(issue).or_default();
        entry.count += count;
        // Kept sorted and short, so that the order of arrival does not show.
        if let Some(example) = example {
            let at =
                entry.examples.partition_point(|known| super::ids::compare_ids(Some(known), Some(example)).is_lt());
            if at < Self::EXAMPLES {
                entry.examples.insert(at, example.to_owned());
                entry.examples.truncate(Self::EXAMPLES);
            }
        }
    }

    /// How often the issue was raised; 0 if it was not.
    pub fn count(&self, issue: Issue) -> u64 {
        self.0.get(&issue).map_or(0, |entry| entry.count)
    }

    /// All issues that were raised, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (Issue, &IssueCount)> {
        self.0.iter().map(|(issue, count)| (*issue, count))
    }

    /// The counts without the examples, which can be ids of records that have to be deleted.
    #[must_use]
    pub fn without_examples(mut self) -> Self {
        self.0.values_mut().for_each(|entry| entry.examples.clear());
        self
    }

    /// Whether no issue was raised.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
