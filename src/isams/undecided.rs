//! Out-of-school records whose stamp or code may stand under a name that no list has (assumed names).

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use chrono::{Datelike, NaiveTime};

use super::fields::{FieldNames, Item, out_of_school_lists};
use super::text::unknown_name;
use super::vocabulary::container_name;
use crate::model::{FIRST_REAL_YEAR, FeedTime, OutOfSchool};
use crate::source::{FetchedKind, SourceError, SourceErrorKind};

/// This many records show that a school's feed is like that, and not just these records.
const ENOUGH: usize = 5;
/// More names than any tenant's records have.
const MOST_NAMES: usize = 1_024;

/// What the fields that no list names hold in the out-of-school records of a fetch.
#[derive(Debug, Default)]
pub(super) struct Undecided {
    records: u64,
    /// Of up to [`ENOUGH`] different records: one can come in several parts.
    different: BTreeSet<u64>,
    has_stamp: bool,
    has_code: bool,
    fields: BTreeMap<String, Unlisted>,
}

/// One field that no list names.
#[derive(Debug, Default)]
struct Unlisted {
    values: u64,
    /// Values that are a date with a time of day.
    date_times: u64,
    /// Values that are an id or a letter of the code table.
    codes: u64,
    /// Values that are 0 or 1.
    flags: u64,
}

impl Undecided {
    /// Takes one record; `codes` are the ids and letters of the code table.
    pub(super) fn take(
        &mut self,
        item: &Item<'_>,
        record: &OutOfSchool,
        names: &FieldNames,
        codes: &BTreeSet<Box<str>>,
    ) {
        self.records += 1;
        self.has_stamp |= record.last_updated.is_some();
        self.has_code |= record.code.is_some();
        if self.has_stamp && self.has_code {
            return;
        }
        if self.different.len() < ENOUGH {
            let mut hasher = DefaultHasher::new();
            item.fields.hash(&mut hasher);
            self.different.insert(hasher.finish());
        }
        // Of several fields of one name the first counts, as everywhere.
        let mut unlisted = BTreeMap::new();
        for (field, value) in item.unlisted(&out_of_school_lists(names)) {
            unlisted.entry(field).or_insert(value);
        }
        for (field, value) in unlisted {
            let field = unknown_name(field);
            if self.fields.len() >= MOST_NAMES && !self.fields.contains_key(field) {
                continue;
            }
            let field = self.fields.entry(field.to_owned()).or_default();
            field.values += 1;
            field.date_times += u64::from(value.parse().is_ok_and(has_time_of_day));
            field.codes += u64::from(codes.contains(value));
            field.flags += u64::from(matches!(value, "0" | "1"));
        }
    }

    /// Forgets fields whose name must not be shown.
    pub(super) fn forget(&mut self, is_it: impl Fn(&str) -> bool) {
        self.fields.retain(|name, _| !is_it(name));
    }

    /// Adds what another part of the fetch held.
    pub(super) fn add(&mut self, other: Self) {
        self.records += other.records;
        self.different.extend(other.different);
        self.has_stamp |= other.has_stamp;
        self.has_code |= other.has_code;
        for (name, unlisted) in other.fields {
            let field = self.fields.entry(name).or_default();
            field.values += unlisted.values;
            field.date_times += unlisted.date_times;
            field.codes += unlisted.codes;
            field.flags += unlisted.flags;
        }
    }

    /// The names of the fields that may hold the stamp or the code, where there are too few records to tell.
    ///
    /// # Errors
    /// There are enough.
    pub(super) fn names(self) -> Result<Vec<String>, SourceError> {
        let is_usual = |count: u64| count > 0 && count * 2 >= self.records;
        let stamps = self.those(!self.has_stamp, |field| is_usual(field.date_times));
        let codes = self.those(!self.has_code, |field| {
            is_usual(field.values) && field.codes == field.values && field.flags < field.values
        });
        if self.different.len() < ENOUGH {
            return Ok(stamps.union(&codes).cloned().collect());
        }
        let found = [
            (stamps, "a time of update", "date-times", "out_of_school_updated"),
            (codes, "a code", "codes of the code table", "out_of_school_code"),
        ];
        match found.into_iter().find(|(names, ..)| !names.is_empty()) {
            None => Ok(Vec::new()),
            Some((names, what, values, option)) => {
                let names = names.into_iter().collect::<Vec<_>>().join(", ");
                Err(SourceError::new(
                    SourceErrorKind::BadRecord,
                    format!(
                        "no record in {} has {what} under a known name, but these fields hold {values}: {names}; name the \
                         field (--field {option}=NAME), or say that it is nothing of the kind (--ignore-field NAME)",
                        container_name(FetchedKind::OutOfSchool),
                    ),
                ))
            }
        }
    }

    fn those(&self, is_sought: bool, is_it: impl Fn(&Unlisted) -> bool) -> BTreeSet<String> {
        let found = self.fields.iter().filter(|(_, field)| is_sought && is_it(field));
        found.map(|(name, _)| name.clone()).collect()
    }
}

/// Midnight is how dates are written as date-times, and early years are placeholders.
fn has_time_of_day(time: FeedTime) -> bool {
    let written = time.as_written();
    !time.is_date() && written.time() != NaiveTime::MIN && written.year() >= FIRST_REAL_YEAR
}
