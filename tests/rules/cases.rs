//! Worked cases: records and settings with the marks and issues that follow from them.

use std::collections::BTreeMap;
use std::path::Path;

use crate::common::case::Case;
use chrono::TimeDelta;
use rollmark::isams::Batch;
use rollmark::rules::Resolver;
use rollmark::store::{MarkStore, MemoryStore};
use rollmark::sync::{AttendanceSync, SyncRequest};
use rollmark::testing::FakeSchool;
use rollmark::testing::simulator::Simulator;

async fn check_folder(folder: &Path) -> usize {
    let mut checked = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        check_rules(&path);
        check_sync(&path).await;
        checked += 1;
    }
    checked
}

fn check_rules(path: &Path) {
    let case = Case::read(path);
    let mut resolver = Resolver::new(case.rules(), case.scope());
    for record in case.records() {
        resolver.push(record);
    }
    let register = resolver.finish().unwrap();
    let lines: Vec<serde_json::Value> =
        register.marks().map(|mark| serde_json::from_str(&mark.to_json_line()).unwrap()).collect();
    for (line, expected) in lines.iter().zip(&case.marks) {
        assert_eq!(line, expected, "{}", path.display());
    }
    assert_eq!(lines.len(), case.marks.len(), "number of marks in {}", path.display());
    let issues: BTreeMap<String, u64> =
        register.issues().iter().map(|(issue, count)| (issue.name().to_owned(), count.count)).collect();
    assert_eq!(issues, case.issues, "issues of {}", path.display());
}

/// The same over HTTP: the case as a tenant, read by the iSAMS source and synced into a store.
async fn check_sync(path: &Path) {
    let case = Case::read(path);
    let mut school = FakeSchool::new();
    case.records().into_iter().for_each(|record| school.add(record));
    let simulator = Simulator::start(school).await.unwrap();
    simulator.shuffle(5);
    let source = Batch::new(&simulator.url(), simulator.api_key()).unwrap();
    let source = source.with_cache_expiry(TimeDelta::zero()).with_code_table(case.has_codes());
    let store = MemoryStore::new();
    let sync = AttendanceSync::new(source, store.clone(), "school", case.rules());
    let mut request = SyncRequest::targeted(case.scope().window());
    if let Some(students) = case.scope().students() {
        request = request.with_students(students);
    }
    let report = sync.run(request).await.unwrap();
    let snapshot = store.read(&"school".into(), &case.scope()).await.unwrap();
    let lines: Vec<serde_json::Value> =
        snapshot.marks().iter().map(|stored| serde_json::from_str(&stored.to_json_line()).unwrap()).collect();
    assert_eq!(lines, case.marks, "{}", path.display());
    let issues: BTreeMap<String, u64> =
        report.issues.iter().map(|(issue, count)| (issue.name().to_owned(), count.count)).collect();
    assert_eq!(issues, case.issues, "issues of {}", path.display());
}

#[tokio::test]
async fn the_cases_of_this_crate_give_their_marks_and_issues() {
    assert_eq!(check_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")).await, 3);
}
