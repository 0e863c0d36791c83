//! The diagnosis for a terminal.

use std::fmt::Write;

use chrono::NaiveDate;
use rollmark::codes::CodeTable;
use rollmark::explain::{DayRecord, Diagnosis, Finding, SessionDiagnosis};
use rollmark::model::{LoserReason, RecordKind, Status, Zone, clock_text};

use crate::output::Meaning;

/// What a record says: the code's letter, or the status; a row of a register says that the student is there whatever its code.
pub fn says(record: &DayRecord) -> String {
    match (&record.code, record.status) {
        (Some(code), Status::Present | Status::Late) => format!("{} (code {code})", record.status),
        (Some(code), _) => code.to_string(),
        (None, status) => status.to_string(),
    }
}

/// When the record is, with the date where it is another than the day's.
pub fn when(record: &DayRecord, date: NaiveDate) -> String {
    let at = |time: chrono::NaiveDateTime| {
        time.format(if time.date() == date { "%H:%M" } else { "%d %b %H:%M" }).to_string()
    };
    match record.to {
        None if record.record.kind == RecordKind::SessionMark => record.from.format("%p").to_string(),
        None => at(record.from),
        Some(to) => format!("{} – {}", at(record.from), at(to)),
    }
}

/// "registration 101 (PM)", "out of school 901".
pub fn name(record: &DayRecord) -> String {
    let mut name = match record.record.kind {
        RecordKind::Registration => "registration".to_owned(),
        RecordKind::OutOfSchool => "out of school".to_owned(),
        RecordKind::SessionMark => "session mark".to_owned(),
        _ => "record".to_owned(),
    };
    if let Some(id) = &record.record.id {
        let _ = write!(name, " {id}");
    }
    if let Some(flag) = record.flag {
        let _ = write!(name, " ({flag})");
    }
    name
}

/// What became of the record in one session.
pub fn role(record: &DayRecord, answer: &SessionDiagnosis) -> &'static str {
    let Some(contender) = answer.contenders.iter().find(|one| one.record == *record) else { return "–" };
    match contender.why {
        None => "decides",
        Some(LoserReason::Older) => "older",
        Some(LoserReason::NoTimestamp) => "no time of update",
        Some(LoserReason::Tie) => "loses the tie",
        Some(LoserReason::NotTaken) => "not taken",
        Some(LoserReason::Duplicate) => "duplicate",
        Some(LoserReason::NotCovering) => "does not cover",
        Some(LoserReason::OtherRegistration) => "another register",
        Some(_) => "–",
    }
}

/// When the record was last updated, in school time.
pub fn updated(record: &DayRecord, zone: &Zone) -> String {
    let at = record.record.last_updated;
    at.map_or("never".to_owned(), |at| clock_text(at, zone))
}

/// The findings of a session without a mark, without the session's name.
fn without_session(answer: &SessionDiagnosis) -> Option<Vec<String>> {
    let (name, is_without) = (answer.session.to_string(), answer.mark.is_none());
    let text = |finding: &Finding| format!("{} {}", finding.summary, finding.advice).replace(&name, "");
    is_without.then(|| answer.findings.iter().map(text).collect())
}

/// The records of the day, then each session's mark and findings. What comes from outside never makes a line of its own.
pub fn lines(diagnosis: &Diagnosis, zone: &Zone, codes: &CodeTable) -> Vec<String> {
    let mut rows = vec![vec!["when".to_owned(), "record".to_owned(), "says".to_owned(), "updated".to_owned()]];
    if let Some(header) = rows.first_mut() {
        header.extend(diagnosis.sessions.iter().map(|answer| answer.session.to_string()));
    }
    for record in &diagnosis.day {
        let mut row = vec![when(record, diagnosis.date), name(record), says(record), updated(record, zone)];
        row.extend(diagnosis.sessions.iter().map(|answer| role(record, answer).to_owned()));
        rows.push(row);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let mut lines = Vec::new();
    let has_records = !diagnosis.day.is_empty();
    for row in rows.iter().filter(|_| has_records) {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        lines.push(format!("  {}", cells.join("  ").trim_end()));
    }
    // A student of whom nothing is known has one answer, not two that differ in a letter.
    let is_one_answer = diagnosis.sessions.windows(2).all(|pair| {
        let one = without_session(&pair[0]);
        one.is_some() && one == without_session(&pair[1])
    });
    let is_of_both = is_one_answer && diagnosis.sessions.len() > 1;
    let text = |text: &str| match is_of_both {
        true => text.replace(" AM session", " AM and PM sessions").replace(" AM register", " AM and PM registers"),
        false => text.to_owned(),
    };
    for answer in diagnosis.sessions.iter().take(if is_of_both { 1 } else { 2 }) {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.push(match &answer.mark {
            Some(mark) => format!("{}: {mark} – {}.", answer.session, mark.decision.in_school_time(zone)),
            None if is_of_both => "AM and PM: no mark.".to_owned(),
            None => format!("{}: no mark.", answer.session),
        });
        if let Some(meaning) = answer.mark.as_ref().and_then(|mark| Meaning::of(codes, mark)) {
            lines.push(format!("  It {meaning}."));
        }
        for (number, finding) in (1..).zip(&answer.findings) {
            lines.push(format!("  {number}. {}", finding.name()));
            lines.push(format!("     {}", text(&finding.summary)));
            lines.push(format!("     → {}", text(&finding.advice)));
        }
    }
    lines
}
