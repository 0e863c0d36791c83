//! What both stores of this library promise beyond reading and writing: the feed, the history of a scope, erasing, pruning.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use rollmark::model::{Retry, SchoolId, Session, StudentId};
use rollmark::rules::{Rules, Scope, SyncWindow, Window};
use rollmark::store::{
    Change, ChangeCursor, ChangeSet, FeedEntry, HistoryQuery, LeaseToken, MarkKey, MarkStore, MemoryStore, Pruned, Run,
    RunPurpose, RunQuery, Snapshot, SqliteStore, StoreError, StoreErrorKind, WithheldChange, WithheldReason, as_of,
};
use rollmark::sync::{AttendanceSync, SyncErrorKind, SyncRequest};
use rollmark::testing::{FakeSchool, FakeSource};

const AMELIA: &str = "4733683260";
const BEN: &str = "4733683261";

fn date(day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 11, day).unwrap()
}

fn at(day: u32) -> DateTime<Utc> {
    date(day).and_hms_opt(18, 0, 0).unwrap().and_utc()
}

fn school() -> SchoolId {
    SchoolId::new("school")
}

fn scope() -> Scope {
    Scope::all(SyncWindow::default().ending(date(20)))
}

fn sync(source: &FakeSource, store: &Arc<dyn MarkStore>) -> AttendanceSync {
    AttendanceSync::new(source.clone(), Arc::clone(store), "school", Rules::new("Europe/London".parse().unwrap()))
}

/// Amelia's and Ben's mornings of the 16th: added on the 17th, Amelia's changed on the 18th, Ben's removed on the 19th.
async fn filled(store: &Arc<dyn MarkStore>) -> FakeSource {
    let mut fake = FakeSchool::new();
    fake.code("9", "I", "Illness", true);
    for (id, student) in [("1", AMELIA), ("2", BEN), ("3", "3")] {
        fake.registration(id, student, "2026-11-16T08:40:00").present().updated("2026-11-16T08:45:00");
    }
    let source = FakeSource::new(fake);
    let run = async |day| {
        sync(&source, store).run(SyncRequest::overnight(date(20)).with_now(at(day))).await.unwrap();
    };
    run(17).await;
    source.change(|fake| {
        fake.registration_mut("1").unwrap().absent("9").updated("2026-11-18T09:00:00");
    });
    run(18).await;
    source.change(|fake| fake.remove_registrations(|row| row.student == BEN.into()));
    run(19).await;
    source
}

async fn with_both(test: impl AsyncFn(Arc<dyn MarkStore>, &Path)) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("marks.db");
    test(Arc::new(MemoryStore::new()), &path).await;
    test(Arc::new(SqliteStore::open(&path).unwrap()), &path).await;
}

async fn history(store: &dyn MarkStore, student: &str) -> Vec<Change> {
    store.history(&school(), &HistoryQuery::new(scope().with_students([student]))).await.unwrap()
}

#[tokio::test]
async fn the_feed_gives_every_change_once_and_goes_on_from_any_cursor() {
    with_both(async |store, _| {
        filled(&store).await;
        let all = store.changes(&school(), None, usize::MAX).await.unwrap();
        assert_eq!(all.len(), 5);
        let mut read = Vec::new();
        while let Some(next) = store.changes(&school(), read.last().map(FeedEntry::cursor), 2).await.unwrap().first() {
            read.push(next.clone());
        }
        assert_eq!(read, all);
        assert!(all.windows(2).all(|pair| pair[0].cursor() < pair[1].cursor()));
        let whole = store.history(&school(), &HistoryQuery::new(scope())).await.unwrap();
        assert_eq!(whole.into_iter().map(FeedEntry::Changed).collect::<Vec<_>>(), all);
        let cursor = all[4].cursor();
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        assert!(store.changes(&school(), Some(cursor), 9).await.unwrap().is_empty());
        assert!(store.changes(&school(), Some(ChangeCursor::new(u64::MAX)), 9).await.unwrap().is_empty());
        assert!(store.changes(&"other".into(), None, 9).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_change_says_when_it_was_written_and_what_was_there() {
    with_both(async |store, _| {
        let before = Utc::now() - TimeDelta::seconds(1);
        filled(&store).await;
        let amelia = history(&store, AMELIA).await;
        assert_eq!(
            amelia.iter().map(|change| (change.run, change.seen_at)).collect::<Vec<_>>(),
            [(1, at(17)), (2, at(18))]
        );
        assert!(amelia.iter().all(|change| before < change.applied_at && change.applied_at <= Utc::now()));
        assert_eq!(amelia[0].before, None);
        assert_eq!(amelia[1].before.as_deref(), Some(&amelia[0].after.as_ref().unwrap().content()));
        let last = amelia[1].after.as_ref().unwrap();
        assert_eq!(last.to_string(), "I (illness)");
        let snapshot = store.read(&school(), &scope()).await.unwrap();
        assert_eq!(*snapshot.marks()[1].content, last.content());
        assert_eq!(snapshot.marks()[1].to_json_line(), last.to_json_line());
    })
    .await;
}

#[tokio::test]
async fn runs_are_found_by_time_number_and_what_they_covered() {
    with_both(async |store, _| {
        filled(&store).await;
        let numbers = async |query: RunQuery| {
            let runs = store.runs(&school(), &query).await.unwrap();
            runs.iter().map(|run| run.number).collect::<Vec<_>>()
        };
        assert_eq!(numbers(RunQuery::all()).await, [1, 2, 3]);
        assert_eq!(numbers(RunQuery::all().with_newest(2)).await, [2, 3]);
        assert_eq!(numbers(RunQuery::all().with_since(at(18))).await, [2, 3]);
        assert_eq!(numbers(RunQuery::all().with_since(at(18)).with_newest(1)).await, [3]);
        assert_eq!(numbers(RunQuery::all().with_purposes([RunPurpose::Targeted])).await, [0; 0]);
        let covering =
            async |day| store.last_covering_run(&school(), &AMELIA.into(), day).await.unwrap().map(|run| run.number);
        assert_eq!(covering(date(16)).await, Some(3));
        assert_eq!(covering(date(21)).await, None);
        let held = store.sessions_held(&school(), scope().window()).await.unwrap();
        assert_eq!(held, BTreeSet::from([(date(16), Session::Am)]));
    })
    .await;
}

#[tokio::test]
async fn an_erased_student_leaves_nothing_but_an_entry_of_the_feed() {
    with_both(async |store, path| {
        let source = filled(&store).await;
        let named = SyncRequest::targeted(scope().window()).with_students([AMELIA, BEN]).with_now(at(20));
        sync(&source, &store).run(named).await.unwrap();
        let saved = Mutex::new(None);
        let sync = sync(&source, &store);
        let dry = SyncRequest::overnight(date(20)).with_dry_run(true);
        let keep = |planned: &_| {
            *saved.lock().unwrap() = Some(sync.save_plan(planned));
            Ok(())
        };
        sync.run_with(dry, keep).await.unwrap();
        let before = store.changes(&school(), None, 99).await.unwrap();
        let revision = store.read(&school(), &scope()).await.unwrap().revision();

        assert_eq!(store.erase(&school(), &AMELIA.into()).await.unwrap(), 1);
        let snapshot = store.read(&school(), &scope()).await.unwrap();
        assert!(snapshot.revision() > revision);
        assert_eq!(snapshot.marks().len(), 1);
        assert!(history(&store, AMELIA).await.is_empty());
        let runs = store.runs(&school(), &RunQuery::all()).await.unwrap();
        assert_eq!(runs.len(), 4);
        assert_eq!((runs[0].marks.added, runs[1].marks.changed), (3, 1));
        assert_eq!(runs[3].scope.students(), Some(&BTreeSet::from([StudentId::new(BEN)])));
        let saved = saved.lock().unwrap().take().unwrap();
        assert_eq!(
            saved
                .apply(store.clone(), &"school".into(), std::time::Duration::ZERO, std::future::pending())
                .await
                .unwrap_err()
                .kind(),
            SyncErrorKind::PlanOutdated
        );

        let after = store.changes(&school(), before.last().map(FeedEntry::cursor), 99).await.unwrap();
        assert!(matches!(&after[..], [FeedEntry::Erased { student, .. }] if student.as_str() == AMELIA));
        let others = store.changes(&school(), None, 99).await.unwrap();
        assert_eq!(others.len(), 4, "Ben's two, the third student's and the erasure");
        assert_eq!(store.erase(&school(), &AMELIA.into()).await.unwrap(), 0);
        assert_eq!(store.changes(&school(), after.last().map(FeedEntry::cursor), 99).await.unwrap().len(), 1);

        sync.run(SyncRequest::overnight(date(20)).with_now(at(20))).await.unwrap();
        let again = history(&store, AMELIA).await;
        assert_eq!((again.len(), &again[0].before), (1, &None), "the source still yields the mark");
        if path.exists() {
            store.erase(&school(), &AMELIA.into()).await.unwrap();
            store.prune(&school(), date(30) + TimeDelta::days(9_999)).await.unwrap();
            for companion in ["", "-wal"] {
                let bytes = std::fs::read(format!("{}{companion}", path.display())).unwrap_or_default();
                let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
                assert!(!holds(AMELIA) && !holds("2026-11-18T09:00:00"), "{companion}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_run_withheld_is_kept_for_the_newest_runs_that_withheld_anything() {
    with_both(async |store, path| {
        filled(&store).await;
        let (amelia, ben) = (MarkKey::new(AMELIA, date(16), Session::Am), MarkKey::new(BEN, date(16), Session::Pm));
        let both = vec![
            WithheldChange::new(ben.clone(), WithheldReason::Unproven),
            WithheldChange::new(amelia.clone(), WithheldReason::TooMany),
        ];
        let sorted: Vec<_> = both.iter().rev().cloned().collect();
        let withhold = async |withheld: Vec<WithheldChange>| {
            let last = store.runs(&school(), &RunQuery::all().with_newest(1)).await.unwrap().remove(0);
            let mut counts = last.marks;
            counts.withheld = withheld.len() as u64;
            let revision = store.read(&school(), &scope()).await.unwrap().revision();
            let changes = ChangeSet::new(revision, last.with_marks(counts)).with_withheld(withheld);
            store.apply(&school(), &changes).await.unwrap()
        };
        let first = withhold(both.clone()).await;
        assert_eq!(first, 4);
        for _ in 1..WithheldChange::RUNS_KEPT {
            withhold(Vec::new()).await;
            withhold(both.clone()).await;
        }
        let newest = withhold(Vec::new()).await;
        let withheld = async |run| store.withheld(&school(), run).await.unwrap();
        assert_eq!(withheld(first).await, Some(sorted.clone()));
        assert_eq!(withheld(newest).await, Some(Vec::new()), "this run withheld nothing");
        assert_eq!(withheld(newest + 1).await, None, "there is no such run");
        assert_eq!(withheld(u64::MAX).await, None);
        assert_eq!(store.withheld(&"other".into(), first).await.unwrap(), None);

        let newest = withhold(both.clone()).await;
        assert_eq!(withheld(first).await, None, "its list is no longer kept");
        assert_eq!(withheld(newest).await, Some(sorted));
        store.erase(&school(), &AMELIA.into()).await.unwrap();
        let of_ben = Some(vec![WithheldChange::new(ben.clone(), WithheldReason::Unproven)]);
        assert_eq!(withheld(newest).await, of_ben);
        store.erase(&school(), &BEN.into()).await.unwrap();
        assert_eq!(withheld(newest).await, Some(Vec::new()));
        store.prune(&school(), date(20)).await.unwrap();
        assert_eq!((withheld(newest - 1).await, withheld(newest).await), (None, Some(Vec::new())));
        if path.exists() {
            let bytes = std::fs::read(path).unwrap();
            let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(holds("withheld") && !holds("\"too_many\",\"2026-11-16\""));
        }
    })
    .await;
}

#[tokio::test]
async fn pruning_keeps_what_was_shown_from_the_date_on() {
    with_both(async |store, _| {
        let source = filled(&store).await;
        let before = store.read(&school(), &scope()).await.unwrap();
        let (amelia, ben) = (history(&store, AMELIA).await, history(&store, BEN).await);
        assert_eq!(store.prune(&school(), date(18)).await.unwrap(), Pruned::new(0, 0));
        assert_eq!(store.prune(&school(), date(19)).await.unwrap(), Pruned::new(1, 0), "Amelia's first change");
        let left = history(&store, AMELIA).await;
        assert_eq!((left.len(), &left[0].after, &left[0].before), (1, &amelia[1].after, &None));
        for day in 19..=20 {
            assert_eq!(as_of(&left, at(day)), as_of(&amelia, at(day)));
        }
        assert_eq!(history(&store, BEN).await, ben);
        assert_eq!(store.prune(&school(), date(20)).await.unwrap(), Pruned::new(2, 0), "Ben's");
        assert!(history(&store, BEN).await.is_empty());
        assert_eq!(store.read(&school(), &scope()).await.unwrap(), before);
        let feed = store.changes(&school(), None, 99).await.unwrap();
        assert_eq!(feed.len(), 2, "the third student's and Amelia's second");

        // Neither a run's number nor a cursor is given twice.
        source.change(|fake| {
            fake.registration("4", BEN, "2026-11-16T08:40:00").present().updated("2026-11-16T08:45:00");
        });
        let report = sync(&source, &store).run(SyncRequest::overnight(date(20)).with_now(at(20))).await.unwrap();
        assert_eq!(report.run, Some(4));
        let back = history(&store, BEN).await;
        assert!(back[0].cursor > ben[1].cursor);
        let runs = store.runs(&school(), &RunQuery::all()).await.unwrap();
        assert_eq!(runs.iter().map(|run| run.number).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(store.prune(&school(), date(20)).await.unwrap(), Pruned::new(0, 1), "nothing refers to run 3");
        assert_eq!(store.prune(&"other".into(), date(20)).await.unwrap(), Pruned::default());
    })
    .await;
}

/// Counts nothing and knows nothing, but has answers of its own also where the trait has a default.
#[derive(Debug)]
struct Own(MemoryStore);

#[async_trait]
impl MarkStore for Own {
    async fn read(&self, school: &SchoolId, scope: &Scope) -> Result<Snapshot, StoreError> {
        self.0.read(school, scope).await
    }
    async fn apply(&self, school: &SchoolId, changes: &ChangeSet) -> Result<u64, StoreError> {
        self.0.apply(school, changes).await
    }
    async fn history(&self, school: &SchoolId, query: &HistoryQuery) -> Result<Vec<Change>, StoreError> {
        self.0.history(school, query).await
    }
    async fn changes(
        &self,
        school: &SchoolId,
        after: Option<ChangeCursor>,
        limit: usize,
    ) -> Result<Vec<FeedEntry>, StoreError> {
        self.0.changes(school, after, limit).await
    }
    async fn runs(&self, school: &SchoolId, query: &RunQuery) -> Result<Vec<Run>, StoreError> {
        self.0.runs(school, query).await
    }
    async fn last_covering_run(&self, _: &SchoolId, _: &StudentId, _: NaiveDate) -> Result<Option<Run>, StoreError> {
        Err(StoreError::new(StoreErrorKind::Failed, "its own last covering run"))
    }
    async fn sessions_held(&self, _: &SchoolId, _: Window) -> Result<BTreeSet<(NaiveDate, Session)>, StoreError> {
        Err(StoreError::new(StoreErrorKind::Failed, "its own sessions"))
    }
    async fn withheld(&self, _: &SchoolId, run: u64) -> Result<Option<Vec<WithheldChange>>, StoreError> {
        let key = MarkKey::new(AMELIA, date(run as u32), Session::Am);
        Ok(Some(vec![WithheldChange::new(key, WithheldReason::TooMany)]))
    }
    async fn erase(&self, school: &SchoolId, student: &StudentId) -> Result<u64, StoreError> {
        self.0.erase(school, student).await
    }
    async fn prune(&self, school: &SchoolId, before: NaiveDate) -> Result<Pruned, StoreError> {
        self.0.prune(school, before).await
    }
    async fn acquire_lease(&self, school: &SchoolId, ttl: Duration) -> Result<Option<LeaseToken>, StoreError> {
        self.0.acquire_lease(school, ttl).await
    }
    async fn renew_lease(&self, school: &SchoolId, token: LeaseToken, ttl: Duration) -> Result<(), StoreError> {
        self.0.renew_lease(school, token, ttl).await
    }
    async fn release_lease(&self, school: &SchoolId, token: LeaseToken) -> Result<(), StoreError> {
        self.0.release_lease(school, token).await
    }
}

#[tokio::test]
async fn pointers_to_a_store_forward_every_call_also_those_with_a_default() {
    async fn answers(store: impl MarkStore) {
        let run = store.last_covering_run(&school(), &AMELIA.into(), date(16)).await.unwrap_err();
        assert_eq!(run.to_string(), "its own last covering run");
        let held = store.sessions_held(&school(), scope().window()).await.unwrap_err();
        assert_eq!(held.to_string(), "its own sessions");
        assert_eq!(store.withheld(&school(), 7).await.unwrap().unwrap()[0].key.date, date(7));
        assert_eq!(store.read(&school(), &scope()).await.unwrap().marks().len(), 2);
        assert_eq!(store.history(&school(), &HistoryQuery::new(scope())).await.unwrap().len(), 5);
        assert_eq!(store.changes(&school(), None, 9).await.unwrap().len(), 5);
        assert_eq!(store.runs(&school(), &RunQuery::all()).await.unwrap().len(), 3);
        let token = store.acquire_lease(&school(), Duration::from_secs(9)).await.unwrap().unwrap();
        store.renew_lease(&school(), token, Duration::from_secs(9)).await.unwrap();
        store.release_lease(&school(), token).await.unwrap();
        assert_eq!(store.prune(&school(), date(1)).await.unwrap(), Pruned::default());
    }
    let memory = MemoryStore::new();
    let shared: Arc<dyn MarkStore> = Arc::new(memory.clone());
    filled(&shared).await;
    answers(&Own(memory.clone())).await;
    answers(Box::new(Own(memory.clone())) as Box<dyn MarkStore>).await;
    answers(Arc::new(Own(memory))).await;
}

#[tokio::test]
async fn a_run_of_a_newer_version_can_be_read() {
    let store: Arc<dyn MarkStore> = Arc::new(MemoryStore::new());
    filled(&store).await;
    let run = store.runs(&school(), &RunQuery::all().with_newest(1)).await.unwrap().remove(0);
    let text = serde_json::to_string(&run).unwrap();
    assert_eq!(serde_json::from_str::<Run>(&text).unwrap(), run);
    let newer = text
        .replace(r#""purpose":"window""#, r#""purpose":"patrol""#)
        .replace(r#""withheld":{}"#, r#""withheld":{"a_whim":2,"another":3},"new":true"#);
    assert_ne!(newer, text);
    let read: Run = serde_json::from_str(&newer).unwrap();
    assert_eq!(read.purpose, RunPurpose::Unknown);
    assert_eq!(read.withheld.get(&WithheldReason::Unknown), Some(&5));
    let older = text.replace(r#""purpose":"window","#, "");
    assert_eq!(serde_json::from_str::<Run>(&older).unwrap(), run);
}

#[test]
fn a_store_s_error_says_whether_to_try_again_and_why_without_a_value() {
    assert_eq!(StoreError::moved().retry(), Retry::Now);
    assert_eq!(StoreError::new(StoreErrorKind::Busy, "busy").retry(), Retry::Exhausted);
    assert_eq!(StoreError::new(StoreErrorKind::Full, "full").retry(), Retry::Never);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("marks.db");
    std::fs::write(&path, "not a database, but long enough to look like one at first sight".repeat(40)).unwrap();
    let error = SqliteStore::open(&path).unwrap_err();
    assert_eq!(error.source().unwrap().to_string(), "SQLite error 26 (extended 26): file is not a database");
    let error = SqliteStore::open(folder.path().join("loop/marks.db").join("\u{0}")).unwrap_err();
    assert!(error.source().is_some(), "{error}");
}
