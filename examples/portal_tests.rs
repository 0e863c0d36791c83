//! How a portal tests its own code: the fake for behaviour, the mock for one precise fault.
//!
//! `cargo run --no-default-features --features mock --example portal_tests`

use std::io::Write;

use rollmark::model::{Session, StudentId};
use rollmark::rules::Rules;
use rollmark::source::{Capabilities, SourceError, SourceErrorKind};
use rollmark::store::{MarkStore, MemoryStore};
use rollmark::sync::{AttendanceSync, SyncRequest};
use rollmark::testing::{FakeSchool, FakeSource, MockAttendanceSource};

/// The portal's own code: what a parent reads.
async fn line_for_parent(store: &MemoryStore, student: &str, request: &SyncRequest) -> String {
    let snapshot = store.read(&"school".into(), request.scope()).await.expect("the memory can be read");
    let student = StudentId::new(student);
    let mark =
        snapshot.marks().iter().find(|stored| stored.key.student == student && stored.key.session == Session::Am);
    mark.map_or("no mark yet".to_owned(), |stored| stored.content.to_string())
}

#[tokio::main]
async fn main() {
    let today = "2026-11-20".parse().expect("a date");
    let request = SyncRequest::overnight(today);
    let rules = Rules::new("Europe/London".parse().expect("a zone"));
    let amelia = "4733683260";

    // Amelia is registered at 08:52, then her school saves an out-of-school record.
    let mut school = FakeSchool::new();
    school.code("17", "M", "Medical", true);
    school.registration("100", amelia, "2026-11-20T08:40:00").present().updated("2026-11-20T08:52:00");
    let source = FakeSource::new(school);
    let store = MemoryStore::new();
    let sync = AttendanceSync::new(source.clone(), store.clone(), "school", rules.clone());
    sync.run(request.clone()).await.expect("the fake answers");
    assert_eq!(line_for_parent(&store, amelia, &request).await, "present");

    source.change(|school| {
        let mut record = school.out_of_school("901", amelia, "2026-11-20T08:00:00", "2026-11-20T12:00:00");
        record.coded("17").updated("2026-11-20T09:14:00");
    });
    sync.run(request.clone()).await.expect("the fake answers");
    assert_eq!(line_for_parent(&store, amelia, &request).await, "M (medical)");

    // If the key is refused, parents still see what they saw before.
    let mut refusing = MockAttendanceSource::new();
    refusing.expect_capabilities().returning(Capabilities::default);
    refusing
        .expect_fetch()
        .returning(|_| Err(SourceError::new(SourceErrorKind::Credentials, "the API key is refused")));
    let failing = AttendanceSync::new(refusing, store.clone(), "school", rules.clone());
    let error = failing.run(request.clone()).await.expect_err("the key is refused");
    assert_eq!(error.to_string(), "the API key is refused");
    assert_eq!(line_for_parent(&store, amelia, &request).await, "M (medical)");
    let _ =
        writeln!(std::io::stdout(), "the portal shows what the school has recorded, and keeps it when a sync fails");
}
