//! How findings name things.

use chrono::{NaiveTime, Timelike};

use super::DayRecord;
use crate::model::{Mark, RecordKind};

fn kind(day: &DayRecord) -> &'static str {
    match day.record.kind {
        RecordKind::Registration => "the registration",
        RecordKind::OutOfSchool => "the out-of-school record",
    }
}

/// «the registration 101», «the out-of-school record 901»; with its times where it has no id.
pub(super) fn short(day: &DayRecord) -> String {
    day.record.id.as_ref().map_or_else(|| named(day), |id| format!("{} {id}", kind(day)))
}

/// «the registration 101 of 08:40», «the out-of-school record 901 from 2026-11-20 08:00 to 2026-11-20 12:00».
pub(super) fn named(day: &DayRecord) -> String {
    let id = day.record.id.as_ref().map(|id| format!(" {id}")).unwrap_or_default();
    let times = match day.to {
        None => format!("of {}", clock(day.from.time())),
        Some(to) => format!("from {} to {}", day.from.format("%Y-%m-%d %H:%M"), to.format("%Y-%m-%d %H:%M")),
    };
    format!("{}{id} {times}", kind(day))
}

/// «A», «A and B», «A, B and C».
pub(super) fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

pub(super) fn clock(time: NaiveTime) -> String {
    time.format(if time.second() == 0 { "%H:%M" } else { "%H:%M:%S" }).to_string()
}

pub(super) fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// «Take the register; then sync.»
pub(super) fn then_sync(what: &str) -> String {
    format!("{}; then sync.", capitalised(what))
}

pub(super) fn or_none(mark: Option<&Mark>) -> String {
    mark.map_or("no mark".to_owned(), ToString::to_string)
}
