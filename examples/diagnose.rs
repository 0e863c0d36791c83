//! "This child's mark is wrong": the six classic causes, and what a diagnosis says of each.
//!
//! `cargo run --no-default-features --features testing --example diagnose`

use std::error::Error;
use std::io::Write;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use rollmark::explain::Question;
use rollmark::model::Session::{self, Am, Pm};
use rollmark::rules::Rules;
use rollmark::store::MemoryStore;
use rollmark::sync::{AttendanceSync, SyncRequest};
use rollmark::testing::{FakeSchool, FakeSource, TestClock};

const AMELIA: &str = "4733683260";

/// Changes the school's records.
type Edit = fn(&mut FakeSchool);

/// The cause; the day and the session; the code that the school expects; what it recorded before the sync at 15:00 and
/// after it; the day on which somebody asks, at 18:00.
type Case = (&'static str, &'static str, Session, &'static str, Edit, Edit, &'static str);

const NOTHING: Edit = |_| {};
const DAY: &str = "2026-11-20";
const CASES: [Case; 6] = [
    (
        "The correction is newer than the cached reply",
        DAY,
        Am,
        "I",
        NOTHING,
        |school| ill(school, "201", "20T15:10"),
        DAY,
    ),
    ("The first register after noon is a lesson", DAY, Pm, "I", |school| ill(school, "203", "20T13:41"), NOTHING, DAY),
    ("The out-of-school record is older", DAY, Am, "M", |school| away(school, "08:00", "19T16:05"), NOTHING, DAY),
    (
        "The date is no longer synced",
        "2026-11-02",
        Am,
        "I",
        NOTHING,
        |school| ill(school, "21", "30T11:00"),
        "2026-12-04",
    ),
    ("The out-of-school record ends too early", DAY, Pm, "M", |school| away(school, "09:30", "20T14:20"), NOTHING, DAY),
    ("The register holds two rows", DAY, Am, "I", second_row, NOTHING, DAY),
];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    for (cause, date, session, expected, before, after, asked) in CASES {
        let mut school = school();
        before(&mut school);
        let date: NaiveDate = date.parse()?;
        let (synced, asked): (DateTime<Utc>, DateTime<Utc>) =
            (format!("{date}T15:00:00Z").parse()?, format!("{asked}T18:00:00Z").parse()?);
        let clock = TestClock::new(synced);
        let source = FakeSource::new(school).with_cache(TimeDelta::hours(6), &clock);
        let sync =
            AttendanceSync::new(source.clone(), MemoryStore::new(), "school", Rules::new("Europe/London".parse()?));
        let question = Question::about(AMELIA, date).with_session(session).expecting(expected);
        sync.run(SyncRequest::overnight(date).with_now(synced)).await?;
        // The source's cache now holds a reply for the date alone too.
        sync.diagnose(question.clone(), synced).await?;
        source.change(after);
        clock.advance(asked - synced);

        let diagnosis = sync.diagnose(question, asked).await?;
        writeln!(std::io::stdout(), "{cause}; the school expects {expected}.")?;
        for answer in &diagnosis.sessions {
            let mark = answer.mark.as_ref().map_or("no mark".to_owned(), ToString::to_string);
            writeln!(std::io::stdout(), "  {session}: {mark}")?;
            for finding in &answer.findings {
                writeln!(std::io::stdout(), "  {}: {}\n    → {}", finding.name(), finding.summary, finding.advice)?;
            }
        }
    }
    Ok(())
}

/// Registers at 08:40, 12:10 (a lesson) and 13:30 on the 2nd and the 20th, with Amelia present.
fn school() -> FakeSchool {
    let mut school = FakeSchool::new();
    school.code("9", "I", "Illness", true);
    school.code("17", "M", "Medical", true);
    for day in [2, 20] {
        let registers = [("08:40", "08:52", Some("am")), ("12:10", "12:14", None), ("13:30", "13:41", Some("pm"))];
        for (slot, (at, taken, flag)) in (1..).zip(registers) {
            let at = format!("2026-11-{day:02}T{at}:00");
            school.period(&at, &at, flag);
            let mut row = school.registration(&format!("{}", day * 10 + slot), AMELIA, &at);
            row.in_period(at.as_str()).present().updated(&format!("2026-11-{day:02}T{taken}:00"));
        }
    }
    school
}

fn ill(school: &mut FakeSchool, row: &str, updated: &str) {
    if let Some(mut row) = school.registration_mut(row) {
        row.absent("9").updated(&format!("2026-11-{updated}:00"));
    }
}

fn second_row(school: &mut FakeSchool) {
    let at = "2026-11-20T08:40:00";
    school.registration("209", AMELIA, at).in_period(at).absent("9").updated("2026-11-20T08:45:00");
}

fn away(school: &mut FakeSchool, from: &str, updated: &str) {
    let mut record = school.out_of_school("901", AMELIA, &format!("2026-11-20T{from}:00"), "2026-11-20T12:00:00");
    record.coded("17").updated(&format!("2026-11-{updated}:00"));
}
