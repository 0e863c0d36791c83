//! "This child's mark is wrong": the six classic causes, one for each of six students, and the diagnosis of each.
//!
//! `cargo run --no-default-features --features testing --example diagnose`

use std::error::Error;
use std::io::Write;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use rollmark::explain::Question;
use rollmark::model::Session::{Am, Pm};
use rollmark::rules::Rules;
use rollmark::store::MemoryStore;
use rollmark::support::Support;
use rollmark::sync::{AttendanceSync, SyncRequest};
use rollmark::testing::{FakeSchool, FakeSource, TestClock};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let today: NaiveDate = "2026-11-20".parse()?;
    let (synced, asked): (DateTime<Utc>, DateTime<Utc>) =
        ("2026-11-20T15:00:00Z".parse()?, "2026-11-20T18:00:00Z".parse()?);
    let clock = TestClock::new(synced);
    let source = FakeSource::new(school()).with_cache(TimeDelta::hours(6), &clock);
    let rules = Rules::new("Europe/London".parse()?);
    let (store, key) = (MemoryStore::new(), "school".into());
    let sync = AttendanceSync::new(source.clone(), store.clone(), &key, rules.clone());
    sync.run(SyncRequest::overnight(today).with_now(synced)).await?;
    let support = Support::new(&source, &rules).with_store(&store, &key);
    // From now on the source's cache also answers for today alone.
    support.with_now(synced).diagnose(&Question::about("1", today)).await?;
    source.change(|school| {
        correct(school, "1 am", "2026-11-20T15:10:00");
        correct(school, "4 am", "2026-11-20T15:20:00");
    });
    clock.advance(asked - synced);

    for (student, cause, date, session, expected) in [
        ("1", "The correction is newer than the cached reply", "2026-11-20", Am, "I"),
        ("2", "The first register after noon is a lesson", "2026-11-20", Pm, "I"),
        ("3", "The out-of-school record is older than the register", "2026-11-20", Am, "M"),
        ("4", "The date is older than thirty days", "2026-10-19", Am, "I"),
        ("5", "The out-of-school record ends before the register", "2026-11-20", Pm, "M"),
        ("6", "The register holds two rows for the student", "2026-11-20", Am, "I"),
    ] {
        let question = Question::about(student, date.parse()?).with_session(session).expecting(expected);
        let diagnosis = support.with_now(asked).diagnose(&question).await?;
        writeln!(std::io::stdout(), "\n{student}. {cause}. The school expects {expected}.")?;
        for finding in diagnosis.sessions.iter().flat_map(|answer| &answer.findings) {
            writeln!(std::io::stdout(), "{}\n→ {}", finding.summary, finding.advice)?;
        }
    }
    Ok(())
}

/// Six students, present in the registers of 08:40, 12:10 (a lesson) and 13:30; and what makes their marks wrong.
fn school() -> FakeSchool {
    let mut school = FakeSchool::new();
    school.code("9", "I", "Illness", true);
    school.code("17", "M", "Medical", true);
    for student in ["1", "2", "3", "4", "5", "6"] {
        let day = if student == "4" { "2026-10-19" } else { "2026-11-20" };
        for (slot, time, taken) in [("am", "08:40", "08:52"), ("lesson", "12:10", "12:14"), ("pm", "13:30", "13:41")] {
            let mut row = school.registration(&format!("{student} {slot}"), student, &format!("{day}T{time}:00"));
            row.present().updated(&format!("{day}T{taken}:00"));
        }
    }
    correct(&mut school, "2 pm", "2026-11-20T13:41:00");
    let noon = "2026-11-20T12:00:00";
    school.out_of_school("901", "3", "2026-11-20T08:00:00", noon).coded("17").updated("2026-11-19T16:05:00");
    school.out_of_school("902", "5", "2026-11-20T09:30:00", noon).coded("17").updated("2026-11-20T14:20:00");
    school.registration("6 too", "6", "2026-11-20T08:40:00").absent("9").updated("2026-11-20T08:45:00");
    school
}

/// The school enters an illness after all.
fn correct(school: &mut FakeSchool, row: &str, at: &str) {
    if let Some(mut row) = school.registration_mut(row) {
        row.absent("9").updated(at);
    }
}
