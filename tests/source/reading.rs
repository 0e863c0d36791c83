//! What reads a source: pointers forward, a complete reading retries, and only a complete answer counts.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use rollmark::explain::Wording;
use rollmark::model::{Record, Registration, Retry};
use rollmark::rules::{Rules, Window};
use rollmark::source::{
    AttendanceSource, Capabilities, Completeness, Coverage, FetchRequest, FetchedKind, Part, RecordStream,
    ReplaySource, SavingSource, SourceError, SourceErrorKind, read_all,
};
use rollmark::store::{MarkStore, MemoryStore, RunQuery};
use rollmark::sync::{AttendanceSync, SyncRequest};
use rollmark::testing::{FakeSchool, FakeSource};

/// A file of registers, exported at some time.
#[derive(Debug)]
struct Export {
    as_of: Option<DateTime<Utc>>,
    coverage: Coverage,
}

impl fmt::Display for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an export")
    }
}

#[async_trait]
impl AttendanceSource for Export {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new()
            .with_code_table(false)
            .with_period_flags(false)
            .with_out_of_school(false)
            .with_cache_expiry(TimeDelta::hours(2))
    }

    fn wording(&self) -> Wording {
        Wording::default().with_code_table("list of codes")
    }

    async fn fetch(&self, request: &FetchRequest) -> Result<RecordStream, SourceError> {
        request.counters().add_request();
        let row = Registration::new("4733683260", "2026-11-20T08:40:00".parse().unwrap());
        let window = request.window();
        let part = Part::new(FetchedKind::Registrations, window.from(), window.to(), 1).with_coverage(self.coverage);
        let part = self.as_of.map_or(part, |as_of| part.with_as_of(as_of));
        Ok(RecordStream::of([Record::Registration(row)], Completeness::new().with_part(part)))
    }
}

fn window() -> Window {
    Window::day("2026-11-20".parse().unwrap())
}

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

#[tokio::test]
async fn what_points_to_a_source_forwards_every_method() {
    async fn same(pointer: impl AttendanceSource) {
        let own = Export { as_of: None, coverage: Coverage::Everything };
        assert_eq!(pointer.capabilities(), own.capabilities());
        assert_eq!(pointer.wording(), own.wording());
        assert_ne!(pointer.wording(), Wording::default());
        let request = FetchRequest::new(window());
        let (records, _) = read_all(&pointer, &request, Vec::new).await.unwrap();
        assert_eq!((records.len(), request.counters().tally().requests), (1, 1));
        assert_eq!(pointer.to_string(), "an export");
    }
    let export = || Export { as_of: None, coverage: Coverage::Everything };
    same(&export()).await;
    same(Arc::new(export())).await;
    same(Box::new(export())).await;
    same(Arc::new(export()) as Arc<dyn AttendanceSource>).await;
    same(Box::new(export()) as Box<dyn AttendanceSource>).await;
}

#[tokio::test]
async fn an_answer_that_says_as_of_when_it_is_counts_from_there() {
    let now = instant("2026-11-20T18:00:00Z");
    let as_of_earliest = async |as_of| {
        let store = MemoryStore::new();
        let rules = Rules::new("Europe/London".parse().unwrap());
        let source = Export { as_of, coverage: Coverage::Everything };
        let sync = AttendanceSync::new(source, store.clone(), "school", rules);
        let report = sync.run(SyncRequest::targeted(window()).with_now(now)).await.unwrap();
        let runs = store.runs(&"school".into(), &RunQuery::all()).await.unwrap();
        assert_eq!(runs.last().unwrap().freshness.as_of_earliest(), report.as_of_earliest);
        report.as_of_earliest
    };
    assert_eq!(as_of_earliest(None).await, instant("2026-11-20T16:00:00Z"));
    let morning = instant("2026-11-20T10:00:00Z");
    assert_eq!(as_of_earliest(Some(morning)).await, morning);
    assert_eq!(as_of_earliest(Some(now + TimeDelta::hours(1))).await, now, "a clock that is ahead proves nothing");
}

#[test]
fn the_oldest_part_decides_as_of_when_an_answer_is() {
    let (early, late) = (instant("2026-11-20T10:00:00Z"), instant("2026-11-20T12:00:00Z"));
    let part = Part::new(FetchedKind::Registrations, window().from(), window().to(), 1);
    let silent = Completeness::new().with_part(part);
    assert_eq!(silent.as_of(early), None);
    let says = silent.with_part(part.with_as_of(late));
    assert_eq!(says.as_of(early), Some(early));
    assert_eq!(says.with_part(part.with_as_of(early)).as_of(late), Some(early));
}

#[tokio::test]
async fn as_of_when_an_answer_is_is_kept_with_it() {
    let as_of = Some(instant("2026-11-20T10:00:00Z"));
    let folder = tempfile::tempdir().unwrap();
    let export = Export { as_of, coverage: Coverage::Everything };
    let saving = SavingSource::new(export, folder.path(), instant("2026-11-20T18:00:00Z")).unwrap();
    let request = FetchRequest::new(window());
    let (_, kept) = read_all(&saving, &request, Vec::new).await.unwrap();
    let replay = ReplaySource::open(folder.path()).unwrap();
    let (_, replayed) = read_all(&replay, &request, Vec::new).await.unwrap();
    assert_eq!(replayed, kept);
    assert_eq!(replayed.parts().first().unwrap().as_of, as_of);
}

#[tokio::test]
async fn changes_alone_never_pass_for_a_complete_answer() {
    let coverage = Coverage::ChangesSince(instant("2026-11-19T18:00:00Z"));
    let source = Export { as_of: None, coverage };
    let error = read_all(&source, &FetchRequest::new(window()), Vec::new).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (SourceErrorKind::Incomplete, Retry::Never));
    assert!(error.to_string().contains("only changes"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_reading_that_breaks_off_starts_again_from_nothing() {
    let source = FakeSource::new(FakeSchool::demo(window().to()));
    let request = FetchRequest::new(window());
    let (expected, _) = read_all(&source, &request, Vec::new).await.unwrap();
    let starts = AtomicU32::new(0);
    let start = || {
        starts.fetch_add(1, Ordering::Relaxed);
        Vec::new()
    };
    source.break_next_after(3, SourceError::temporary(SourceErrorKind::Connection, "the connection broke off"));
    source.cut_next_after(5);
    assert_eq!(read_all(&source, &request, start).await.unwrap().0, expected);
    assert_eq!(starts.load(Ordering::Relaxed), 3);

    for _ in 0..4 {
        source.fail_next(SourceError::temporary(SourceErrorKind::Connection, "the connection broke off"));
    }
    let error = read_all(&source, &request, Vec::new).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Exhausted);
    assert!(
        error.to_string().starts_with("the connection broke off (the whole fetch was tried 4 times in "),
        "{error}"
    );

    // A source that asks for a long wait is not asked again.
    let wait = Retry::After(Duration::from_secs(3_600));
    source.fail_next(SourceError::temporary(SourceErrorKind::Throttled, "too many requests").with_retry(wait));
    assert_eq!(read_all(&source, &request, Vec::new).await.unwrap_err().retry(), wait);
}
