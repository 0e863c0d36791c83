//! How findings name things.

use chrono::{NaiveTime, Timelike};

use super::DayRecord;
use crate::model::{Mark, RecordKind, Session};
use crate::rules::PmRule;

/// "registration", "out-of-school record"
pub(super) fn kind(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::Registration => "registration",
        RecordKind::OutOfSchool => "out-of-school record",
        RecordKind::SessionMark => "session mark",
        RecordKind::Unknown => "record",
    }
}

/// The setting that names the field of a record's time of update.
pub(super) fn setting(kind: RecordKind) -> String {
    let name = match kind {
        RecordKind::Registration => "registration_updated",
        RecordKind::OutOfSchool => "out_of_school_updated",
        RecordKind::SessionMark | RecordKind::Unknown => return "a setting of the source".to_owned(),
    };
    format!("setting {name}; on the command line, --field {name}=NAME")
}

/// "the registration 101 of 08:40", "the out-of-school record 901 from 2026-11-20 08:00 to 2026-11-20 12:00".
pub(super) fn named(day: &DayRecord) -> String {
    let id = day.record.id.as_ref().map(|id| format!(" {id}")).unwrap_or_default();
    let times = match day.to {
        None if day.record.kind == RecordKind::SessionMark => format!("of {} {}", day.from.date(), session(day)),
        None => format!("of {}", clock(day.from.time())),
        Some(to) => format!("from {} to {}", day.from.format("%Y-%m-%d %H:%M"), to.format("%Y-%m-%d %H:%M")),
    };
    format!("the {}{id} {times}", kind(day.record.kind))
}

/// "1 mark", "2 marks".
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// The session of a session mark.
pub(super) fn session(day: &DayRecord) -> Session {
    if day.from.time() < PmRule::NOON { Session::Am } else { Session::Pm }
}

/// So many records are named in one sentence.
pub(super) const MOST_NAMED: usize = 3;

/// "A", "A and B", "A, B and C", "A, B, C and 9 more".
pub(crate) fn listed(names: &[String], more: usize) -> String {
    match names {
        [] => String::new(),
        names if more > 0 => format!("{} and {more} more", names.join(", ")),
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

/// "Take the register; then sync."
pub(super) fn then_sync(what: &str) -> String {
    format!("{}; then sync.", capitalised(what))
}

pub(super) fn or_none(mark: Option<&Mark>) -> String {
    mark.map_or("no mark".to_owned(), ToString::to_string)
}
