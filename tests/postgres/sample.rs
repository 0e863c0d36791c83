//! Two students' marks of a morning.

use std::sync::Arc;

use chrono::{NaiveDate, TimeDelta, Utc};
use rollmark::model::{Record, Registration};
use rollmark::rules::{Freshness, Resolver, Rules, Scope, Window};
use rollmark::store::{Run, Write};

pub const STUDENT: &str = "4733683260";

pub fn date() -> NaiveDate {
    "2026-11-20".parse().unwrap()
}

pub fn scope() -> Scope {
    Scope::all(Window::day(date()))
}

pub fn rules() -> Rules {
    Rules::new("Europe/London".parse().unwrap())
}

pub fn run() -> Run {
    Run::new(Freshness::new(Utc::now(), TimeDelta::zero()), scope(), rules())
}

/// The marks of a register that was taken at this minute past nine.
pub fn marks(minute: u32) -> Vec<Write> {
    let mut resolver = Resolver::new(rules(), scope());
    for student in [STUDENT, "é"] {
        let row = Registration::new(student, "2026-11-20T08:40:00".parse().unwrap());
        let stamp = format!("2026-11-20T09:{minute:02}:00.123456").parse().unwrap();
        resolver.push(Record::Registration(row.with_id(student).with_last_updated(stamp)));
    }
    resolver.finish().unwrap().marks().map(|mark| Write::Put(Arc::new(mark))).collect()
}
