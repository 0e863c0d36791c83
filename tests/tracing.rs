//! What a run shows to somebody who watches it: where it is and how it goes, and nothing of a student's.

mod common;

use std::collections::BTreeSet;
use std::fmt::{Debug, Write};
use std::sync::{Mutex, OnceLock};

use chrono::NaiveDate;
use common::tenant::{answering_to, ok, with_status};
use rollmark::isams::{Batch, Rest};
use rollmark::rules::{Rules, Window};
use rollmark::source::AttendanceSource;
use rollmark::store::{MarkStore, MemoryStore, SqliteStore};
use rollmark::sync::{AttendanceSync, SyncError, SyncReport, SyncRequest};
use rollmark::testing::FakeSchool;
use rollmark::testing::simulator::{Fault, Simulator};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

const DATE: &str = "2026-11-20";
const KEY: &str = "1b2c3d4e-secret-key";
/// The school's own words and numbers, each found nowhere else.
const STUDENTS: std::ops::Range<u64> = 88_310_400..88_310_412;
const PRIVATE: [&str; 12] = [
    "883104",
    "771230",
    "990017",
    "664455",
    "QZX",
    "Zebra",
    "Okapi",
    "made-up-academy",
    "apiKey",
    "apikey",
    "pageSize",
    "secret",
];

/// Something that a watcher was told: a new span, a value of one, or an event.
#[derive(Clone, Debug)]
struct Seen {
    target: String,
    level: tracing::Level,
    /// The spans around it, outermost first.
    place: String,
    fields: String,
}

static SEEN: Mutex<Vec<Seen>> = Mutex::new(Vec::new());

struct Watcher;

#[derive(Default)]
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl Watcher {
    fn see(metadata: &tracing::Metadata<'_>, place: Vec<&str>, fields: Fields) {
        let (target, level) = (metadata.target().to_owned(), *metadata.level());
        SEEN.lock().unwrap().push(Seen { target, level, place: place.join(" > "), fields: fields.0 });
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Watcher {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let place = context.span_scope(id).unwrap().from_root().map(|span| span.name()).collect();
        Self::see(attributes.metadata(), place, fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        let place = context.span_scope(id).unwrap().from_root().map(|span| span.name()).collect();
        Self::see(context.span(id).unwrap().metadata(), place, fields);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let scope = context.event_scope(event).into_iter().flat_map(|scope| scope.from_root());
        Self::see(event.metadata(), scope.map(|span| span.name()).collect(), fields);
    }
}

/// What was seen of some work, at every level and of every crate. One is watched at a time, so every run has to be watched.
async fn watched<T>(work: impl Future<Output = T>) -> (T, Vec<Seen>) {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    INSTALLED.get_or_init(|| tracing_subscriber::registry().with(Watcher).init());
    let _turn = ONE_AT_A_TIME.lock().await;
    SEEN.lock().unwrap().clear();
    let done = work.await;
    let seen = std::mem::take(&mut *SEEN.lock().unwrap());
    assert!(seen.iter().any(|seen| !seen.target.starts_with("rollmark")), "other crates are heard too");
    (done, seen)
}

fn ours(seen: &[Seen]) -> impl Iterator<Item = &Seen> {
    seen.iter().filter(|seen| seen.target.starts_with("rollmark"))
}

fn assert_nothing_private(seen: &[Seen], keys: &[&str]) {
    for seen in ours(seen) {
        let found: Vec<_> = PRIVATE.iter().filter(|text| seen.fields.contains(**text)).collect();
        assert!(found.is_empty(), "{found:?} in {seen:?}");
    }
    for seen in seen {
        assert!(!keys.iter().any(|key| seen.fields.contains(key)), "{seen:?}");
    }
}

/// All spans of ours, by the spans around them.
fn places(seen: &[Seen]) -> BTreeSet<&str> {
    ours(seen).map(|seen| seen.place.as_str()).collect()
}

/// The values and events in a place, in order.
fn told(seen: &[Seen], place: &str) -> String {
    ours(seen).filter(|seen| seen.place == place).map(|seen| seen.fields.as_str()).collect()
}

fn warnings(seen: &[Seen]) -> Vec<(&str, &str)> {
    let warnings = ours(seen).filter(|seen| seen.level == tracing::Level::WARN);
    warnings.map(|seen| (seen.place.as_str(), seen.fields.trim_end())).collect()
}

const FETCH: &str = "rollmark.sync > rollmark.fetch";
const REQUEST: &str = "rollmark.sync > rollmark.fetch > rollmark.request";
const PLAN: &str = "rollmark.sync > rollmark.plan";
const APPLY: &str = "rollmark.sync > rollmark.apply";

/// Every span of a run that writes.
fn whole_run() -> BTreeSet<&'static str> {
    ["rollmark.sync", FETCH, REQUEST, "rollmark.sync > rollmark.resolve", PLAN, APPLY].into()
}

fn date() -> NaiveDate {
    DATE.parse().unwrap()
}

fn school() -> FakeSchool {
    let mut school = FakeSchool::new();
    school.code("771230", "QZX", "Zebra clinic", true);
    school.period("664455", &format!("{DATE}T08:40:00"), Some("am"));
    for (number, student) in STUDENTS.enumerate() {
        let (id, at) = (format!("990017{number:02}"), format!("{DATE}T08:40:00"));
        let mut row = school.registration(&id, &student.to_string(), &at);
        row.in_period("664455").absent("771230").updated(&format!("{DATE}T08:52:00"));
        row.comment = Some("Okapi".into());
    }
    let mut away =
        school.out_of_school("99001799", "88310400", &format!("{DATE}T08:00:00"), &format!("{DATE}T15:30:00"));
    away.coded("771230").updated(&format!("{DATE}T07:00:00"));
    away.reason = Some("Okapi".into());
    school
}

fn batch(simulator: &Simulator) -> Batch {
    Batch::new(&simulator.url(), simulator.api_key()).unwrap().with_cache_expiry(chrono::TimeDelta::zero())
}

async fn run(
    source: impl AttendanceSource + 'static,
    store: impl MarkStore + 'static,
    hour: u32,
) -> Result<SyncReport, SyncError> {
    let sync = AttendanceSync::new(source, store, "made-up-academy", Rules::new("Europe/London".parse().unwrap()));
    let now = date().and_hms_opt(hour, 0, 0).unwrap().and_utc();
    sync.run(SyncRequest::targeted(Window::day(date()).with_today(date())).with_now(now)).await
}

#[tokio::test]
async fn a_run_shows_its_steps_and_their_figures() {
    let simulator = Simulator::start(school()).await.unwrap();
    let (report, seen) = watched(run(batch(&simulator), MemoryStore::new(), 18)).await;
    assert_eq!(report.unwrap().marks.added, 12);
    assert_nothing_private(&seen, &[&simulator.api_key()]);
    assert_eq!(places(&seen), whole_run());
    assert_eq!(told(&seen, "rollmark.sync"), "from=2026-11-20 to=2026-11-20 dry_run=false ");
    let fetch = told(&seen, FETCH);
    assert!(fetch.starts_with("from=2026-11-20 to=2026-11-20 attempt=1 bytes="), "{fetch}");
    assert!(fetch.ends_with("rows=14 "), "{fetch}");
    let request = told(&seen, REQUEST);
    assert!(request.starts_with("host=\"127.0.0.1\" attempt=1 from=2026-11-20 to=2026-11-20 status=200 "), "{request}");
    assert!(request.contains("rows=1 ") && request.ends_with("rows=13 "), "the code table, then the rows: {request}");
    assert_eq!(told(&seen, PLAN), "attempt=1 added=12 changed=0 unchanged=0 removed=0 withheld=0 kept=0 ");
    assert_eq!(told(&seen, APPLY), "rows=12 ");
    assert_eq!(warnings(&seen), []);
}

#[tokio::test]
async fn a_run_into_a_file_shows_the_same() {
    let simulator = Simulator::start(school()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("Okapi.sqlite")).unwrap();
    let (report, seen) = watched(run(batch(&simulator), store, 18)).await;
    report.unwrap();
    assert_nothing_private(&seen, &[&simulator.api_key()]);
    assert_eq!(places(&seen), whole_run());
}

#[tokio::test]
async fn a_run_over_rest_shows_no_address_of_a_register_and_its_token_within_the_request_that_needs_it() {
    let simulator = Simulator::start(school()).await.unwrap();
    simulator.set_today(date());
    let source = Rest::new(&simulator.url(), simulator.client_id(), simulator.client_secret()).unwrap();
    let (report, seen) = watched(run(source, MemoryStore::new(), 18)).await;
    report.unwrap();
    assert_nothing_private(&seen, &[&simulator.client_id(), &simulator.client_secret(), "Bearer"]);
    let token = format!("{REQUEST} > rollmark.request");
    let mut expected = whole_run();
    expected.insert(&token);
    assert_eq!(places(&seen), expected);
    assert!(told(&seen, &token).contains("status=200 "));
    assert!(told(&seen, REQUEST).contains("rows=12 "));
}

#[tokio::test]
async fn a_refused_key_stays_hidden_even_where_the_answer_repeats_it() {
    let url = answering_to(|request| {
        assert!(request.contains(KEY));
        let asked = request.lines().next().unwrap();
        let said = format!("The key {KEY} of Okapi may not ask {asked} of 88310400.");
        with_status("401 Unauthorized", format!("<Message><Description>{said}</Description></Message>"))
    });
    let (run, seen) = watched(run(Batch::new(&url, KEY).unwrap(), MemoryStore::new(), 18)).await;
    let error = run.unwrap_err().to_string();
    assert!(error.contains("may not ask"), "the answer is read: {error}");
    assert_nothing_private(&seen, &[KEY]);
    assert_eq!(places(&seen), ["rollmark.sync", FETCH, REQUEST].into());
    assert!(told(&seen, REQUEST).contains("status=401 "));
    let stale = "message=replies can be older than is advised cache_seconds=86400";
    assert_eq!(warnings(&seen), [("rollmark.sync", stale)]);
}

#[tokio::test]
async fn a_redirect_shows_no_key_either() {
    let url = answering_to(|request| match request.contains("/elsewhere") {
        true => ok("<iSAMS><RegistrationStatuses/><OutOfSchoolPupils/><RegistrationCodes/></iSAMS>"),
        false => with_status(&format!("307 Redirect\r\nLocation: /elsewhere?apiKey={KEY}"), ""),
    });
    let (run, seen) = watched(run(Batch::new(&url, KEY).unwrap(), MemoryStore::new(), 18)).await;
    run.unwrap();
    assert_nothing_private(&seen, &[KEY]);
}

#[tokio::test]
async fn a_reply_that_breaks_off_is_a_warning_where_it_broke_and_the_next_attempt_a_span_of_its_own() {
    let simulator = Simulator::start(school()).await.unwrap();
    simulator.fail_next(Fault::Reset);
    let (report, seen) = watched(run(batch(&simulator), MemoryStore::new(), 18)).await;
    assert_eq!(report.unwrap().fetched.retries, 1);
    assert_nothing_private(&seen, &[&simulator.api_key()]);
    let [(REQUEST, warning)] = warnings(&seen)[..] else { panic!("{:?}", warnings(&seen)) };
    assert!(warning.starts_with("message=failed, and is tried again failure=Connection wait_seconds="), "{warning}");
    assert!(told(&seen, REQUEST).contains("attempt=2 "));
}

#[tokio::test]
async fn withheld_changes_are_a_warning_by_reason() {
    let simulator = Simulator::start(school()).await.unwrap();
    let store = MemoryStore::new();
    watched(run(batch(&simulator), store.clone(), 18)).await.0.unwrap();
    simulator.change(|school| school.remove_registrations(|_| true));
    let (report, seen) = watched(run(batch(&simulator), store, 19)).await;
    assert_eq!(report.unwrap().marks.withheld, 12);
    assert_nothing_private(&seen, &[&simulator.api_key()]);
    assert_eq!(warnings(&seen), [(PLAN, "message=changes are withheld reason=unproven changes=12")]);
    assert_eq!(told(&seen, APPLY), "rows=0 ");
}

#[tokio::test]
async fn replies_that_were_older_than_the_setting_allows_are_a_warning() {
    let simulator = Simulator::start(school()).await.unwrap();
    let store = MemoryStore::new();
    watched(run(batch(&simulator), store.clone(), 18)).await.0.unwrap();
    simulator.change(|school| {
        school.registration_mut("99001701").unwrap().present().updated(&format!("{DATE}T14:00:00"));
    });
    let (report, seen) = watched(run(batch(&simulator), store, 19)).await;
    assert_eq!(report.unwrap().marks.changed, 1);
    assert_nothing_private(&seen, &[&simulator.api_key()]);
    let stale = "message=replies were older than the cache expiry allows at_least_seconds=14400 cache_seconds=0";
    assert_eq!(warnings(&seen), [(PLAN, stale)]);
}
