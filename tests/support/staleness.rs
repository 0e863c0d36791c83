//! How old replies really are, measured over runs.

use chrono::{DateTime, TimeDelta, Utc};
use rollmark::explain::{Certainty, MeasuredAge, ReplyAge};
use rollmark::isams::Batch;
use rollmark::rules::Rules;
use rollmark::store::{MarkStore, MemoryStore, RunQuery};
use rollmark::sync::{AttendanceSync, SyncReport, SyncRequest};
use rollmark::testing::simulator::Simulator;
use rollmark::testing::{FakeSchool, TestClock};

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

struct Portal {
    simulator: Simulator,
    clock: TestClock,
    store: MemoryStore,
    sync: AttendanceSync,
}

impl Portal {
    /// A key that is set to one hour, and really caches for `cached_for`.
    async fn new(cached_for: TimeDelta) -> Self {
        let mut school = FakeSchool::new();
        school.code("9", "I", "Illness", true);
        for (id, student) in [("1", "10"), ("2", "20")] {
            school.registration(id, student, "2026-11-20T08:40:00").present().updated("2026-11-20T08:52:00");
        }
        let clock = TestClock::new(time("2026-11-20T09:00:00Z"));
        let simulator = Simulator::start(school).await.unwrap();
        simulator.cache_for(cached_for, &clock);
        let source = Batch::new(&simulator.url(), simulator.api_key()).unwrap().with_cache_expiry(TimeDelta::hours(1));
        let store = MemoryStore::new();
        let sync = AttendanceSync::new(source, store.clone(), "school", Rules::new("Europe/London".parse().unwrap()));
        Self { simulator, clock, store, sync }
    }

    async fn run_at(&self, at: &str) -> SyncReport {
        self.clock.advance(time(at) - self.clock.now());
        let today = "2026-11-20".parse().unwrap();
        self.sync.run(SyncRequest::overnight(today).with_now(time(at))).await.unwrap()
    }

    fn correct(&self, ids: &[&str], at: &str) {
        self.simulator.change(|school| {
            for id in ids {
                school.registration_mut(id).unwrap().absent("9").updated(at);
            }
        });
    }

    async fn measured(&self) -> MeasuredAge {
        let runs = self.store.runs(&"school".into(), &RunQuery::all()).await.unwrap();
        MeasuredAge::over(runs.iter().map(|run| run.reply_age), TimeDelta::hours(1))
    }
}

#[tokio::test]
async fn a_key_that_caches_longer_than_its_setting_is_found_out() {
    let portal = Portal::new(TimeDelta::hours(12)).await;
    portal.run_at("2026-11-20T09:00:00Z").await;
    let first = portal.measured().await.to_string();
    assert!(first.ends_with("(1 run, 0 without a change)"), "{first}");
    portal.correct(&["1", "2"], "2026-11-20T09:30:00");
    assert_eq!(portal.run_at("2026-11-20T15:00:00Z").await.marks.changed, 0, "still the old reply");
    assert!(!portal.measured().await.is_worse_than_setting(), "nothing shows it yet");

    let report = portal.run_at("2026-11-20T22:00:00Z").await;
    assert_eq!(report.marks.changed, 2);
    let measured = portal.measured().await;
    assert_eq!(measured.at_least, Some(TimeDelta::minutes(330)), "at 15:00 the change of 09:30 was missing");
    assert_eq!(measured.certainty, Certainty::Sure);
    assert_eq!((measured.runs, measured.unchanged), (3, 1));
    assert!(measured.is_worse_than_setting());
    assert!(report.advice.iter().any(|advice| advice.contains("worse than its setting")), "{:?}", report.advice);
}

#[tokio::test]
async fn a_key_that_keeps_to_its_setting_raises_no_warning() {
    let portal = Portal::new(TimeDelta::hours(1)).await;
    portal.run_at("2026-11-20T09:00:00Z").await;
    portal.correct(&["1"], "2026-11-20T09:30:00");
    portal.run_at("2026-11-20T09:45:00Z").await;
    let report = portal.run_at("2026-11-20T15:00:00Z").await;
    assert_eq!(report.marks.changed, 1);
    let measured = portal.measured().await;
    assert_eq!(measured.at_least, Some(TimeDelta::minutes(15)));
    assert_eq!(measured.certainty, Certainty::Likely);
    assert!(!measured.is_worse_than_setting());
    assert_eq!(report.advice, Vec::<String>::new());
}

#[tokio::test]
async fn a_mark_that_falls_back_to_an_older_record_proves_nothing() {
    let portal = Portal::new(TimeDelta::zero()).await;
    portal.simulator.change(|school| {
        school
            .out_of_school("901", "10", "2026-11-20T08:00:00", "2026-11-20T12:00:00")
            .coded("9")
            .updated("2026-11-20T08:59:00");
    });
    portal.run_at("2026-11-20T09:00:00Z").await;
    portal.simulator.change(|school| school.remove_out_of_school(|_| true));
    assert_eq!(portal.run_at("2026-11-20T15:00:00Z").await.marks.changed, 1);
    assert_eq!(portal.measured().await.at_least, None);
}

#[test]
fn the_newest_stamp_bounds_the_age_from_above() {
    let age = |newest| ReplyAge::of(time("2026-11-20T18:00:00Z"), newest, None, [], false);
    let ages = [age(Some(time("2026-11-20T17:00:00Z"))), age(Some(time("2026-11-20T14:00:00Z"))), age(None)];
    let measured = MeasuredAge::over(ages, TimeDelta::hours(24));
    assert_eq!(measured.at_most, Some(TimeDelta::hours(4)));
    assert_eq!(measured.certainty, Certainty::Unproven);
    assert!(measured.to_string().contains("no reply whose age is known was older than 4 h 00 min"), "{measured}");

    // A bound that another run has disproved is none.
    let (fetch, previous, change) = ("2026-11-20T18:00:00Z", "2026-11-20T12:00:00Z", "2026-11-20T07:00:00Z");
    let later = ReplyAge::of(time(fetch), None, Some(time(previous)), [time(change)], false);
    assert_eq!(MeasuredAge::over(ages.into_iter().chain([later]), TimeDelta::hours(24)).at_most, None);
}
