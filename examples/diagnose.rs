//! Six made-up cases, one for each classic cause, played on the simulator.

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use rollmark::explain::Question;
use rollmark::isams::Isams;
use rollmark::model::{SchoolId, Session};
use rollmark::rules::{Rules, SyncWindow};
use rollmark::store::MemoryStore;
use rollmark::sync::{AttendanceSync, SyncRequest};
use rollmark::testing::simulator::Simulator;
use rollmark::testing::{FakeSchool, TestClock};

use super::common::output::say_json;
use super::page::Page;
use super::{Failure, Flags, history, table};

const STUDENT: &str = "4733683260";

struct Story {
    title: &'static str,
    session: Session,
    expected: &'static str,
    /// The date in question, synced at 15:00.
    date: &'static str,
    before: fn(&mut FakeSchool),
    /// What the school does after the sync.
    after: fn(&mut FakeSchool),
    /// When the question is asked.
    asked_at: &'static str,
}

const STORIES: [Story; 6] = [
    Story {
        title: "1. The correction is younger than the cached reply",
        session: Session::Am,
        expected: "I",
        date: "2026-11-20",
        before: |_| {},
        after: |school| {
            if let Some(mut row) = school.registration_mut("201") {
                row.absent("9").updated("2026-11-20T15:10:00");
            }
        },
        asked_at: "2026-11-20T18:00:00Z",
    },
    Story {
        title: "2. The first register after noon is a lesson",
        session: Session::Pm,
        expected: "I",
        date: "2026-11-20",
        before: |school| {
            if let Some(mut row) = school.registration_mut("203") {
                row.absent("9");
            }
        },
        after: |_| {},
        asked_at: "2026-11-20T18:00:00Z",
    },
    Story {
        title: "3. The out-of-school record is older than the register",
        session: Session::Am,
        expected: "M",
        date: "2026-11-20",
        before: |school| {
            let (from, to) = ("2026-11-20T08:00:00", "2026-11-20T12:00:00");
            school.out_of_school("901", STUDENT, from, to).coded("17").updated("2026-11-19T16:05:00");
        },
        after: |_| {},
        asked_at: "2026-11-20T18:00:00Z",
    },
    Story {
        title: "4. The correction is older than thirty days",
        session: Session::Am,
        expected: "I",
        date: "2026-11-02",
        before: |_| {},
        after: |school| {
            if let Some(mut row) = school.registration_mut("21") {
                row.absent("9").updated("2026-12-03T11:00:00");
            }
        },
        asked_at: "2026-12-04T08:00:00Z",
    },
    Story {
        title: "5. The out-of-school record ends before the register",
        session: Session::Pm,
        expected: "M",
        date: "2026-11-20",
        before: |school| {
            let (from, to) = ("2026-11-20T09:30:00", "2026-11-20T12:00:00");
            school.out_of_school("902", STUDENT, from, to).coded("17").updated("2026-11-20T14:20:00");
        },
        after: |_| {},
        asked_at: "2026-11-20T18:00:00Z",
    },
    Story {
        title: "6. The register holds two rows for the student",
        session: Session::Am,
        expected: "I",
        date: "2026-11-20",
        before: |school| {
            school
                .registration("209", STUDENT, "2026-11-20T08:40:00")
                .in_period("2001")
                .absent("9")
                .updated("2026-11-20T08:45:00");
        },
        after: |_| {},
        asked_at: "2026-11-20T18:00:00Z",
    },
];

/// Registers at 08:40, 12:10 (a lesson) and 13:30 on the 2nd and the 20th.
fn school() -> FakeSchool {
    let mut school = FakeSchool::new();
    school.code("9", "I", "Illness", true);
    school.code("17", "M", "Medical", true);
    for day in [2, 20] {
        for (slot, time, taken, flag) in [
            (1, "08:40:00", "08:52:00", Some("am")),
            (2, "12:10:00", "12:14:00", None),
            (3, "13:30:00", "13:41:00", Some("pm")),
        ] {
            let (at, period) = (format!("2026-11-{day:02}T{time}"), format!("{}", day * 100 + slot));
            school.period(&period, &at, flag);
            school
                .registration(&format!("{}", day * 10 + slot), STUDENT, &at)
                .in_period(period.as_str())
                .present()
                .updated(&format!("2026-11-{day:02}T{taken}"));
        }
    }
    school
}

/// Plays each case: a sync in the afternoon, what the school does then, and the complaint.
pub async fn tell(flags: &Flags) -> Result<(), Failure> {
    let rules = Rules::new("Europe/London".parse()?);
    let page_output = flags.open_page().await?;
    let mut page = Page::new(rules.clone());
    for story in &STORIES {
        let mut school = school();
        (story.before)(&mut school);
        let simulator = Simulator::start(school).await?;
        let date: NaiveDate = story.date.parse()?;
        let synced_at = format!("{date}T15:00:00Z").parse()?;
        let asked_at: DateTime<Utc> = story.asked_at.parse()?;
        let clock = TestClock::new(synced_at);
        let expiry = TimeDelta::hours(6);
        simulator.cache_for(expiry, &clock);
        let source = Isams::batch(&simulator.url(), simulator.api_key())?.cache_expiry(expiry);
        let store = Arc::new(MemoryStore::new());
        let id = SchoolId::new(&flags.school);
        let sync = AttendanceSync::shared(Arc::new(source), store.clone(), id.clone(), rules.clone());
        let question = |now: DateTime<Utc>| -> Result<Question, Failure> {
            let window = SyncWindow::default().ending(now.date_naive());
            Ok(Question::about(STUDENT, date).with_window(window).with_session(story.session).expecting(story.expected))
        };
        sync.run(SyncRequest::overnight(date).with_now(synced_at)).await?;
        // The key's cache now holds a reply for the date alone too.
        sync.diagnose(question(synced_at)?, synced_at).await?;

        simulator.change(story.after);
        clock.advance(asked_at - synced_at);
        let diagnosis = sync.diagnose(question(asked_at)?, asked_at).await?;
        page.add(story.title, &diagnosis, &history(&*store, &id, &diagnosis).await?);
        if flags.json {
            say_json(&diagnosis)?;
        } else {
            flags.say(story.title);
            flags.say(&format!("The school expects {} in the {} session.", story.expected, story.session));
            flags.say("");
            table::lines(&diagnosis, rules.zone()).iter().for_each(|line| flags.say(line));
            flags.say("");
        }
    }
    if let Some(output) = page_output {
        page.write(output).await?;
    }
    Ok(())
}
