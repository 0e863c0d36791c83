//! Kept replies: they repeat a sync or a diagnosis without the management system, and masked ones decide the same.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::records::{records, rules};
use proptest::prelude::*;
use rollmark::conformance::source::{every, school};
use rollmark::model::{Decision, LoserReason, Mark, Record, StudentId};
use rollmark::rules::{Resolver, Rules, Scope, Window};
use rollmark::source::{
    AttendanceSource, FakeSchool, FakeSource, FetchRequest, ReplaySource, SavingSource, SourceError, SourceErrorKind,
    SourceRecord,
};
use tokio::runtime::Runtime;

fn window(from: &str, to: &str) -> Window {
    Window::between(from.parse().unwrap(), to.parse().unwrap()).unwrap()
}

async fn read(source: &dyn AttendanceSource, window: Window, periods: bool) -> Result<Vec<Record>, SourceError> {
    use futures::TryStreamExt;
    let items: Vec<SourceRecord> =
        source.fetch(&FetchRequest::new(window).with_periods(periods)).await?.try_collect().await?;
    Ok(items
        .into_iter()
        .filter_map(|item| match item {
            SourceRecord::Record(record) => Some(record),
            SourceRecord::Complete(_) => None,
        })
        .collect())
}

fn save(folder: &std::path::Path, school: FakeSchool) -> SavingSource {
    SavingSource::new(Arc::new(FakeSource::new(school)), folder, "2026-11-20T18:00:00Z".parse().unwrap()).unwrap()
}

#[tokio::test]
async fn keeping_changes_nothing_and_kept_replies_are_a_source_like_any_other() {
    for is_masked in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let saving = save(folder.path(), school());
        let saving = if is_masked { saving.masked() } else { saving };
        every(&saving, &school()).await;
        let replay = ReplaySource::open(folder.path()).unwrap();
        if !is_masked {
            every(&replay, &school()).await;
        }
        assert_eq!(replay.fetched_at(), "2026-11-20T18:00:00Z".parse::<chrono::DateTime<chrono::Utc>>().unwrap());
        assert_eq!(replay.capabilities(), saving.capabilities());
    }
}

#[tokio::test]
async fn a_fetch_that_breaks_off_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let fake = FakeSource::new(school());
    fake.cut_next_after(100);
    let saving = SavingSource::new(Arc::new(fake), folder.path(), chrono::Utc::now()).unwrap();
    read(&saving, window("2026-11-20", "2026-11-20"), false).await.unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn only_what_was_read_can_be_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let saving = save(folder.path(), school());
    let week = window("2026-11-16", "2026-11-20");
    let records = read(&saving, week, false).await.unwrap();
    let replay = ReplaySource::open(folder.path()).unwrap();
    assert_eq!(read(&replay, week, false).await.unwrap(), records);
    assert_eq!(read(&replay, window("2026-11-18", "2026-11-18"), false).await.unwrap(), records);
    for (window, periods) in [(window("2026-11-15", "2026-11-20"), false), (week, true)] {
        let error = read(&replay, window, periods).await.unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Incomplete, "{error}");
    }
}

#[tokio::test]
async fn damaged_files_and_folders_in_use_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(ReplaySource::open(folder.path()).unwrap_err().to_string().contains("holds no saved replies"));
    let day = window("2026-11-20", "2026-11-20");
    read(&save(folder.path(), school()), day, false).await.unwrap();
    let again = SavingSource::new(Arc::new(FakeSource::new(school())), folder.path(), chrono::Utc::now());
    assert!(again.unwrap_err().to_string().contains("already"));
    let second = tempfile::tempdir().unwrap();
    std::fs::write(second.path().join("replies-2.json"), "{}").unwrap();
    let again = SavingSource::new(Arc::new(FakeSource::new(school())), second.path(), chrono::Utc::now());
    assert!(again.unwrap_err().to_string().contains("already"), "whatever its number");
    let records = folder.path().join("replies-1.records.jsonl");
    let whole = std::fs::read(&records).unwrap();
    for half in [
        &whole[..whole.len() / 2],
        &whole[..whole.len() - 1 - whole.rsplit(|byte| *byte == b'\n').nth(1).unwrap().len()],
    ] {
        std::fs::write(&records, half).unwrap();
        let error = read(&ReplaySource::open(folder.path()).unwrap(), day, false).await.unwrap_err();
        assert!(error.to_string().contains("is damaged"), "{error}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_read_what_is_kept() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("evidence");
    read(&save(&folder, school()), window("2026-11-20", "2026-11-20"), false).await.unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 2);
    assert!(files.iter().all(|file| mode(file) == 0o600));
}

#[tokio::test]
async fn masked_replies_hold_no_id_of_a_student_or_record_and_no_text() {
    let folder = tempfile::tempdir().unwrap();
    let mut school = FakeSchool::new();
    school.registration("ROW-77", "STUDENT-88", "2026-11-20T08:40:00").in_period("PERIOD-66").comment =
        Some("broke a leg".into());
    school.period("PERIOD-66", "2026-11-20T08:40:00", Some("am"));
    school.out_of_school("SPAN-99", "STUDENT-88", "2026-11-20", "2026-11-20").reason = Some("hospital".into());
    let saving = save(folder.path(), school).masked();
    read(&saving, window("2026-11-20", "2026-11-20"), true).await.unwrap();
    let mut kept = String::new();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        kept += &std::fs::read_to_string(entry.unwrap().path()).unwrap();
    }
    assert!(kept.contains("student-00000001"));
    for secret in ["ROW-77", "STUDENT-88", "SPAN-99", "PERIOD-66", "leg", "hospital"] {
        assert!(!kept.contains(secret), "{secret}");
    }
    assert_eq!(saving.masked_student(&StudentId::new("STUDENT-88")), Some(StudentId::new("student-00000001")));
}

/// Everything that a mark says but the ids.
type Content = (chrono::NaiveDate, String, Option<u32>, Option<Decision>, Vec<LoserReason>);

fn content(mark: Mark) -> Content {
    let mut decision = mark.decision.clone();
    let reasons = decision.losers.iter().map(|loser| loser.why).collect();
    decision.losers.clear();
    decision.winner.id = None;
    if let Some(picked) = &mut decision.registration {
        (picked.id, picked.period) = (None, None);
    }
    let says = format!("{} {} {:?} {:?}", mark.session, mark.status, mark.code, mark.raw_code);
    (mark.date, says, mark.minutes_late, Some(decision), reasons)
}

fn marks(rules: Rules, window: Window, records: Vec<Record>) -> Option<Vec<Content>> {
    let mut resolver = Resolver::new(rules, Scope::all(window));
    resolver.extend(records);
    Some(resolver.finish().ok()?.marks().map(content).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn masked_and_unmasked_replays_give_the_same_decisions(records in records(), rules in rules()) {
        let window = window("2026-03-28", "2026-03-29");
        let mut school = FakeSchool::new();
        records.into_iter().for_each(|record| school.add(record));
        let (open, masked) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let decided = Runtime::new().unwrap().block_on(async {
            read(&save(open.path(), school.clone()), window, true).await.unwrap();
            read(&save(masked.path(), school).masked(), window, true).await.unwrap();
            let mut decided = Vec::new();
            for folder in [open.path(), masked.path()] {
                let replay = ReplaySource::open(folder).unwrap();
                let records = read(&replay, window, true).await.unwrap();
                let students: BTreeSet<StudentId> = records.iter().filter_map(|record| match record {
                    Record::Registration(row) => Some(row.student.clone()),
                    Record::OutOfSchool(span) => Some(span.student.clone()),
                    _ => None,
                }).collect();
                decided.push((students.len(), marks(rules.clone(), window, records)));
            }
            decided
        });
        prop_assert_eq!(&decided[0], &decided[1]);
    }
}
