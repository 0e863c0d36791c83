//! A sync loses nothing: what a run writes, and what it leaves alone.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use rollmark::model::{Code, Record, RecordKind, Registration, SchoolId, Session, SessionMark, Status};
use rollmark::rules::{Rules, Scope, SyncWindow, Window};
use rollmark::source::{
    AttendanceSource, Capabilities, Completeness, FetchRequest, FetchedKind, RecordStream, SourceError, SourceErrorKind,
};
use rollmark::store::{MarkKey, MarkStore, MemoryStore, RunQuery, Snapshot, SqliteStore, as_of};
use rollmark::sync::{AttendanceSync, SavedPlan, SyncErrorKind, SyncRequest};
use rollmark::testing::{FakeSchool, FakeSource, TestClock};

const AMELIA: &str = "4733683260";

fn today() -> NaiveDate {
    "2026-11-20".parse().unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn rules() -> Rules {
    Rules::new("Europe/London".parse().unwrap())
}

fn request() -> SyncRequest {
    SyncRequest::overnight(today()).with_now(at("2026-11-20T18:00:00Z"))
}

async fn all(store: &MemoryStore, school: &str) -> Snapshot {
    let scope = Scope::all(SyncWindow::default().with_days(400).with_look_ahead(400).ending(today()));
    store.read(&SchoolId::new(school), &scope).await.unwrap()
}

fn temporary() -> SourceError {
    SourceError::temporary(SourceErrorKind::Connection, "the connection broke off")
}

#[tokio::test]
async fn the_same_sync_twice_writes_nothing_the_second_time() {
    let store = MemoryStore::new();
    let source = FakeSource::new(FakeSchool::demo(today())).with_shuffling(3);
    let sync = AttendanceSync::new(source, store.clone(), "school", rules());
    let first = sync.run(request()).await.unwrap();
    let before = all(&store, "school").await;
    assert_eq!(first.marks.added, before.marks().len() as u64);
    let second = sync.run(request()).await.unwrap();
    assert_eq!((second.marks.added, second.marks.changed, second.marks.removed), (0, 0, 0));
    assert_eq!(second.marks.unchanged, first.marks.added);
    assert_eq!(all(&store, "school").await, before);
    assert_eq!(
        store.runs(&SchoolId::new("school"), &RunQuery::all()).await.unwrap().len(),
        2,
        "that a run took place is recorded"
    );
}

#[tokio::test]
async fn a_fetch_that_fails_or_is_cut_short_writes_nothing() {
    let store = MemoryStore::new();
    let source = FakeSource::new(FakeSchool::demo(today()));
    let sync = AttendanceSync::new(source.clone(), store.clone(), "school", rules());
    source.fail_next(SourceError::new(SourceErrorKind::Credentials, "refused"));
    assert_eq!(sync.run(request()).await.unwrap_err().kind(), SyncErrorKind::Source);
    (0..4).for_each(|_| source.cut_next_after(500));
    let error = sync.run(request()).await.unwrap_err();
    assert!(error.to_string().contains("before it was complete"), "{error}");
    assert_eq!(all(&store, "school").await, Snapshot::default());
    assert!(store.runs(&SchoolId::new("school"), &RunQuery::all()).await.unwrap().is_empty());
}

#[tokio::test]
async fn no_row_of_a_broken_reply_counts() {
    let source = FakeSource::new(FakeSchool::demo(today()));
    let broken = MemoryStore::new();
    source.break_next_after(700, temporary());
    source.cut_next_after(20);
    let sync = AttendanceSync::new(source.clone(), broken.clone(), "school", rules());
    let report = sync.run(request()).await.unwrap();
    assert_eq!(report.fetched.retries, 2);
    let whole = MemoryStore::new();
    AttendanceSync::new(source, whole.clone(), "school", rules()).run(request()).await.unwrap();
    assert_eq!(all(&broken, "school").await, all(&whole, "school").await);
}

#[tokio::test]
async fn a_dry_run_reports_and_writes_nothing() {
    let store = MemoryStore::new();
    let source = FakeSource::new(FakeSchool::demo(today()));
    let sync = AttendanceSync::new(source, store.clone(), "school", rules());
    let report = sync.run(request().with_dry_run(true)).await.unwrap();
    assert!(report.marks.added > 0);
    assert_eq!(all(&store, "school").await, Snapshot::default());
}

#[tokio::test]
async fn only_marks_in_scope_change() {
    let store = MemoryStore::new();
    let source = FakeSource::new(FakeSchool::demo(today()));
    let sync = AttendanceSync::new(source.clone(), store.clone(), "school", rules());
    sync.run(request()).await.unwrap();
    let other = AttendanceSync::new(source.clone(), store.clone(), "other", rules());
    other.run(request()).await.unwrap();
    let before = all(&store, "school").await;

    source.change(|school| {
        let rows: Vec<String> =
            school.registrations().iter().filter_map(|row| row.id.as_ref()).map(ToString::to_string).collect();
        for id in rows {
            school.registration_mut(&id).unwrap().absent("9").updated("2026-11-20T17:00:00");
        }
    });
    let day: NaiveDate = "2026-11-18".parse().unwrap();
    let student = before.marks()[0].key.student.clone();
    let request = SyncRequest::targeted(Window::between(day, day).unwrap())
        .with_students([student.clone()])
        .with_now(at("2026-11-20T19:00:00Z"));
    let report = sync.run(request).await.unwrap();
    assert_eq!(report.marks.changed, 2);
    let after = all(&store, "school").await;
    assert_eq!(before.marks().len(), after.marks().len());
    for (before, after) in before.marks().iter().zip(after.marks()) {
        let in_scope = before.key.date == day && before.key.student == student;
        assert_eq!(before == after, !in_scope, "{:?}", before.key);
    }
    assert!(all(&store, "other").await.marks().iter().all(|stored| stored.fetched_at == at("2026-11-20T18:00:00Z")));
}

#[tokio::test]
async fn history_says_what_the_portal_showed_at_any_time() {
    let mut school = FakeSchool::new();
    school.code("17", "M", "Medical", true);
    school.registration("1", AMELIA, "2026-11-20T08:40:00").present().updated("2026-11-20T08:50:00");
    school.registration("2", "1", "2026-11-20T08:40:00").present();
    let source = FakeSource::new(school);
    let store = MemoryStore::new();
    let sync = AttendanceSync::new(source.clone(), store.clone(), "school", rules());
    sync.run(request().with_now(at("2026-11-20T10:00:00Z"))).await.unwrap();
    source.change(|school| {
        school.out_of_school("9", AMELIA, "2026-11-20", "2026-11-20").coded("17").updated("2026-11-20T10:30:00");
    });
    sync.run(request().with_now(at("2026-11-20T11:00:00Z"))).await.unwrap();
    source.change(|school| {
        school.remove_registrations(|row| row.student.as_str() == AMELIA);
        school.remove_out_of_school(|_| true);
    });
    sync.run(request().with_now(at("2026-11-20T12:00:00Z"))).await.unwrap();

    let key = MarkKey::new(AMELIA, today(), Session::Am);
    let history = store.history(&SchoolId::new("school"), &(&key).into()).await.unwrap();
    let shown = |text| as_of(&history, at(text)).map(|mark| mark.status);
    assert_eq!(shown("2026-11-20T09:59:59Z"), None);
    assert_eq!(shown("2026-11-20T10:00:00Z"), Some(Status::Present));
    assert_eq!(shown("2026-11-20T11:30:00Z"), Some(Status::Absent));
    assert_eq!(shown("2026-11-20T12:00:00Z"), None);
    assert_eq!(history.iter().map(|change| change.run).collect::<Vec<_>>(), [1, 2, 3]);
}

#[tokio::test]
async fn a_cached_reply_shows_a_change_only_after_its_expiry() {
    let clock = TestClock::new(at("2026-11-20T02:00:00Z"));
    let source = FakeSource::new(FakeSchool::demo(today())).with_cache(TimeDelta::hours(24), &clock);
    let sync = AttendanceSync::new(source.clone(), MemoryStore::new(), "school", rules());
    sync.run(request().with_now(clock.now())).await.unwrap();
    source.change(|school| school.demo_changes(today()));
    clock.advance(TimeDelta::hours(23));
    assert_eq!(sync.run(request().with_now(clock.now())).await.unwrap().marks.changed, 0);
    clock.advance(TimeDelta::hours(1));
    let report = sync.run(request().with_now(clock.now())).await.unwrap();
    assert!(report.marks.changed > 0);
    assert_eq!(report.as_of_earliest, clock.now() - TimeDelta::hours(24));
}

#[tokio::test]
async fn a_saved_plan_applies_once_and_only_to_the_state_it_was_made_from() {
    let store = MemoryStore::new();
    let source = FakeSource::new(FakeSchool::demo(today()));
    let sync = AttendanceSync::new(source, store.clone(), "school", rules());
    let saved = Arc::new(Mutex::new(None));
    sync.run_with(request().with_dry_run(true), |planned| {
        *saved.lock().unwrap() = Some(serde_json::to_string(&sync.save_plan(planned)).unwrap());
        Ok(())
    })
    .await
    .unwrap();
    let text = saved.lock().unwrap().take().unwrap();
    let plan: SavedPlan = serde_json::from_str(&text).unwrap();
    assert_eq!(
        plan.apply(store.clone(), &"school".into(), std::time::Duration::ZERO, std::future::pending()).await.unwrap(),
        1
    );
    let before = all(&store, "school").await;
    assert_eq!(before.marks().len(), plan.plan.changes.len());
    assert_eq!(
        plan.apply(store.clone(), &"school".into(), std::time::Duration::ZERO, std::future::pending())
            .await
            .unwrap_err()
            .kind(),
        SyncErrorKind::PlanOutdated
    );
    assert_eq!(all(&store, "school").await, before);
}

#[tokio::test]
async fn a_second_run_of_a_school_is_refused_while_the_first_runs() {
    let store = MemoryStore::new();
    let source = FakeSource::new(FakeSchool::demo(today()));
    let sync = AttendanceSync::new(source, store.clone(), "school", rules());
    let school = SchoolId::new("school");
    let token = store.acquire_lease(&school, std::time::Duration::from_secs(30)).await.unwrap().unwrap();
    assert_eq!(sync.run(request()).await.unwrap_err().kind(), SyncErrorKind::Busy);
    store.release_lease(&school, token).await.unwrap();
    assert!(sync.run(request()).await.is_ok());
}

#[tokio::test]
async fn what_fails_before_the_commit_stops_it() {
    let store = MemoryStore::new();
    let source = FakeSource::new(FakeSchool::demo(today()));
    let sync = AttendanceSync::new(source, store.clone(), "school", rules());
    let result = sync.run_with(request(), |_| Err("no space for the report".into())).await;
    assert_eq!(result.unwrap_err().to_string(), "no space for the report");
    assert_eq!(all(&store, "school").await, Snapshot::default());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]

    /// Whatever the school changes: a sync of some dates changes nothing outside them, and done again it writes nothing.
    #[test]
    fn nothing_outside_the_window_changes_and_the_same_sync_again_writes_nothing(
        seed: u64,
        edits in proptest::collection::vec((0_usize..3680, 0_u8..4), 0..60),
        first_day in 0_u64..31,
        days in 0_u64..10,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let source = FakeSource::new(FakeSchool::demo(today())).with_shuffling(seed);
            let store = MemoryStore::new();
            let sync = AttendanceSync::new(source.clone(), store.clone(), "school", rules());
            sync.run(request()).await.unwrap();
            let before = all(&store, "school").await;
            source.change(|school| {
                let ids: Vec<String> = school.registrations().iter().filter_map(|row| row.id.as_ref()).map(ToString::to_string).collect();
                for (row, edit) in &edits {
                    let Some(mut row) = school.registration_mut(&ids[*row]) else { continue };
                    match edit {
                        0 => row.absent("9").updated("2026-11-20T17:00:00"),
                        1 => row.late(Some(3)).updated("2026-11-20T17:01:00"),
                        2 => row.absent("unheard-of"),
                        _ => row.present(),
                    };
                }
            });
            let from = request().scope().window().from() + chrono::Days::new(first_day);
            let window = Window::between(from, from + chrono::Days::new(days)).unwrap().with_today(today());
            let again = || SyncRequest::targeted(window).with_now(at("2026-11-20T18:30:00Z"));
            sync.run(again()).await.unwrap();
            let after = all(&store, "school").await;
            let outside = |snapshot: &Snapshot| -> Vec<_> {
                snapshot.marks().iter().filter(|stored| !window.contains(stored.key.date)).cloned().collect()
            };
            proptest::prop_assert_eq!(outside(&before), outside(&after));
            let second = sync.run(again()).await.unwrap();
            proptest::prop_assert_eq!((second.marks.added, second.marks.changed, second.marks.removed), (0, 0, 0));
            proptest::prop_assert_eq!(all(&store, "school").await, after);
            Ok(())
        })?;
    }
}

/// An aggregator: it knows the marks of each session and nothing of the registers behind them.
#[derive(Clone, Debug)]
struct Aggregator {
    records: Arc<Mutex<Vec<Record>>>,
    answered: FetchedKind,
    gives_session_marks: bool,
}

impl std::fmt::Display for Aggregator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an aggregator")
    }
}

#[async_trait]
impl AttendanceSource for Aggregator {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new().with_session_marks(self.gives_session_marks)
    }

    async fn fetch(&self, request: &FetchRequest) -> Result<RecordStream, SourceError> {
        let records = self.records.lock().unwrap().clone();
        let verdict =
            Completeness::whole(request.window(), [(FetchedKind::Codes, 1), (self.answered, records.len() as u64)]);
        Ok(RecordStream::of(records, verdict))
    }
}

fn session_mark(student: &str, session: Session, updated: &str) -> SessionMark {
    let mut mark = SessionMark::new(student, today(), session);
    (mark.present, mark.last_updated) = (true, updated.parse().ok());
    mark
}

/// Amelia and Ben in both sessions of today.
fn aggregator() -> Aggregator {
    let illness = Code::new("9", true).with_letter("I");
    let mut records = vec![Record::Code(illness)];
    for student in [AMELIA, "4733683261"] {
        for session in Session::BOTH {
            records.push(Record::SessionMark(session_mark(student, session, "2026-11-20T14:00:00")));
        }
    }
    let records = Arc::new(Mutex::new(records));
    Aggregator { records, answered: FetchedKind::SessionMarks, gives_session_marks: true }
}

async fn session_marks_come_and_go(store: impl MarkStore + Clone + 'static) {
    let source = aggregator();
    // The period rule has nothing to decide here, so no periods are needed.
    for rules in [rules(), rules().with_pm(rollmark::rules::PmRule::RegistrationPeriods)] {
        let sync = AttendanceSync::new(source.clone(), store.clone(), "other", rules);
        assert_eq!(sync.run(request().with_dry_run(true)).await.unwrap().marks.added, 4);
    }
    let sync = AttendanceSync::new(source.clone(), store.clone(), "school", rules());
    let first = sync.run(request()).await.unwrap();
    assert_eq!((first.marks.added, first.fetched.session_marks, first.fetched.registrations), (4, 5, 0));
    assert!(first.to_string().contains(": 5 session marks read in "), "{first}");

    let scope = Scope::all(SyncWindow::default().ending(today()));
    let before = store.read(&SchoolId::new("school"), &scope).await.unwrap();
    assert!(before.marks().iter().all(|stored| stored.content.decided_by == RecordKind::SessionMark));
    let second = sync.run(request()).await.unwrap();
    assert_eq!((second.marks.unchanged, second.marks.added, second.marks.changed, second.marks.removed), (4, 0, 0, 0));
    assert_eq!(store.read(&SchoolId::new("school"), &scope).await.unwrap(), before);

    // Amelia's PM mark goes, and Ben's shows that the session took place; nobody's AM mark is left as a proof.
    let is_amelia = |record: &Record| matches!(record, Record::SessionMark(mark) if mark.student.as_str() == AMELIA);
    source.records.lock().unwrap().retain(|record| !is_amelia(record));
    let mut ill = session_mark(AMELIA, Session::Am, "2026-11-20T15:00:00");
    (ill.present, ill.code) = (false, Some("9".into()));
    source.records.lock().unwrap().push(Record::SessionMark(ill));
    let third = sync.run(request()).await.unwrap();
    assert_eq!((third.marks.changed, third.marks.removed, third.marks.withheld), (1, 1, 0));
    source.records.lock().unwrap().retain(|record| match record {
        Record::SessionMark(mark) => mark.session == Session::Am,
        _ => true,
    });
    let fourth = sync.run(request()).await.unwrap();
    assert_eq!((fourth.marks.removed, fourth.marks.withheld), (0, 1), "no PM mark of anybody is a proof");
    let after = store.read(&SchoolId::new("school"), &scope).await.unwrap();
    let amelia: Vec<_> = after.marks().iter().filter(|stored| stored.key.student.as_str() == AMELIA).collect();
    assert_eq!(amelia.iter().map(|stored| stored.content.to_string()).collect::<Vec<_>>(), ["I (absent)"]);
}

#[tokio::test]
async fn session_marks_are_brought_into_a_store_in_memory() {
    session_marks_come_and_go(MemoryStore::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn session_marks_are_brought_into_an_sqlite_file() {
    let folder = tempfile::tempdir().unwrap();
    session_marks_come_and_go(SqliteStore::open(folder.path().join("marks.db")).unwrap()).await;
}

#[tokio::test]
async fn a_source_gives_what_it_says_in_full_or_nothing_is_written() {
    let row = || Record::Registration(Registration::new(AMELIA, "2026-11-20T08:40:00".parse().unwrap()));
    let both = || {
        let source = aggregator();
        source.records.lock().unwrap().push(row());
        source
    };
    let registers = Aggregator { gives_session_marks: false, answered: FetchedKind::Registrations, ..aggregator() };
    for (source, line) in [
        (
            Aggregator { answered: FetchedKind::Registrations, ..aggregator() },
            "some dates have no answer for session marks",
        ),
        (both(), "says that it gives session marks, but it sent registrations"),
        (
            Aggregator { gives_session_marks: false, ..both() },
            "says that it gives registrations, but it sent session marks",
        ),
        (registers, "says that it gives registrations, but it sent session marks"),
    ] {
        let store = MemoryStore::new();
        let error = AttendanceSync::new(source, store.clone(), "school", rules()).run(request()).await.unwrap_err();
        assert!(error.to_string().contains(line), "{error}");
        assert_eq!(all(&store, "school").await, Snapshot::default());
    }
}

#[tokio::test]
async fn a_run_that_is_dropped_gives_its_lease_back() {
    let store = MemoryStore::new();
    let sync = AttendanceSync::new(FakeSource::new(FakeSchool::demo(today())), store.clone(), "school", rules());
    let mut run = Box::pin(sync.run_with(request(), |_| Ok(())));
    // Under way, and then dropped.
    assert!(futures::poll!(&mut run).is_pending());
    assert_eq!(store.acquire_lease(&"school".into(), std::time::Duration::from_secs(1)).await.unwrap(), None);
    drop(run);
    tokio::task::yield_now().await;
    assert!(sync.run(request()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_listener_is_told_of_which_school_and_why_a_fetch_broke_off() {
    let source = FakeSource::new(FakeSchool::demo(today()));
    source.fail_next(SourceError::temporary(SourceErrorKind::Connection, "the line is down"));
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let sync = AttendanceSync::new(source, MemoryStore::new(), "school", rules())
        .with_listener(move |school, event| heard.lock().unwrap().push(format!("{school} {event:?}")));
    sync.run(request()).await.unwrap();
    let told = told.lock().unwrap();
    assert_eq!(told[0], "school FetchStarted { attempt: 1 }");
    assert_eq!(told[1], "school FetchFailed { attempt: 1, failure: Connection }");
    assert_eq!(told[2], "school FetchStarted { attempt: 2 }");
}
