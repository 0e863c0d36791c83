//! Every source keeps the contract.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chrono::TimeDelta;
use rollmark::isams::{Batch, Format, Rest};
use rollmark::model::{FeedTime, Record, SessionMark, Status};
use rollmark::rules::{Resolver, Rules, Scope, SyncWindow};
use rollmark::store::{MarkStore, MemoryStore, SqliteStore};
use rollmark::testing::conformance::source::{every, school};
use rollmark::testing::conformance::store::{self, StoreHarness};
use rollmark::testing::simulator::{Fault, Simulator};
use rollmark::testing::{FakeSchool, FakeSource, TestClock};

#[tokio::test]
async fn the_fake() {
    every(&FakeSource::new(school()), &school()).await.unwrap();
}

#[tokio::test]
async fn the_fake_out_of_order_and_with_every_record_twice() {
    every(&FakeSource::new(school()).with_shuffling(7).with_duplicates(true), &school()).await.unwrap();
}

#[tokio::test]
async fn the_fake_with_a_cache() {
    let clock = TestClock::new("2026-11-20T18:00:00Z".parse().unwrap());
    every(&FakeSource::new(school()).with_cache(TimeDelta::hours(24), &clock), &school()).await.unwrap();
}

#[tokio::test]
async fn a_source_of_session_marks() {
    let mut aggregated = FakeSchool::new();
    let demo = school();
    demo.codes().iter().cloned().map(Record::Code).for_each(|code| aggregated.add(code));
    let mut resolver = Resolver::new(
        Rules::new("Europe/London".parse().unwrap()),
        Scope::all(SyncWindow::default().ending("2026-11-20".parse().unwrap())),
    );
    resolver.extend(demo.records());
    for mark in resolver.finish().unwrap().marks() {
        let mut given = SessionMark::new(mark.student.clone(), mark.date, mark.session);
        (given.late, given.minutes_late) = (mark.status == Status::Late, mark.minutes_late);
        given.present = given.late || mark.status == Status::Present;
        given.code = mark.raw_code.clone();
        given.last_updated = mark.last_updated().map(|stamp| FeedTime::Offset(stamp.fixed_offset()));
        aggregated.add(Record::SessionMark(given));
    }
    every(&FakeSource::new(aggregated.clone()), &aggregated).await.unwrap();
    every(&FakeSource::new(aggregated.clone()).with_shuffling(7).with_duplicates(true), &aggregated).await.unwrap();
}

#[tokio::test]
async fn batch_xml() {
    let simulator = Simulator::start(school()).await.unwrap();
    every(&Batch::new(&simulator.url(), simulator.api_key()).unwrap(), &school()).await.unwrap();
    simulator.shuffle(11);
    every(&Batch::new(&simulator.url(), simulator.api_key()).unwrap(), &school()).await.unwrap();
}

#[tokio::test]
async fn batch_json() {
    let simulator = Simulator::start(school()).await.unwrap();
    simulator.shuffle(11);
    let source = Batch::new(&simulator.url(), simulator.api_key()).unwrap().with_format(Format::Json);
    every(&source, &school()).await.unwrap();
}

#[tokio::test]
async fn batch_in_slices_with_an_oauth_client() {
    let simulator = Simulator::start(school()).await.unwrap();
    let source = Batch::for_client(&simulator.url(), simulator.client_id(), simulator.client_secret()).unwrap();
    every(&source.with_slice_days(Some(4)), &school()).await.unwrap();
}

#[tokio::test]
async fn rest_as_far_as_it_reaches() {
    let simulator = Simulator::start(school()).await.unwrap();
    simulator.shuffle(11);
    every(&Rest::new(&simulator.url(), simulator.client_id(), simulator.client_secret()).unwrap(), &school())
        .await
        .unwrap();
}

/// The retrying transport gives the same answers while every third request fails in one of the ways that can pass.
#[tokio::test]
async fn every_way_in_while_the_tenant_has_its_troubles() {
    let simulator = Simulator::start(school()).await.unwrap();
    let passing = [
        Fault::Status(429, Some(0)),
        Fault::Reset,
        Fault::Status(503, Some(0)),
        Fault::HalfDocument,
        Fault::WrongContentType,
        Fault::Status(408, Some(0)),
    ];
    simulator.fail_every(3, passing);
    let (url, key, id, secret) =
        (simulator.url(), simulator.api_key(), simulator.client_id(), simulator.client_secret());
    every(&Batch::new(&url, &*key).unwrap(), &school()).await.unwrap();
    every(&Batch::new(&url, &*key).unwrap().with_format(Format::Json).with_slice_days(Some(7)), &school())
        .await
        .unwrap();
    every(&Rest::new(&url, &*id, &*secret).unwrap(), &school()).await.unwrap();
    simulator.fail_every(3, [Fault::Deadlock, Fault::LockTimeOut]);
    every(&Batch::for_client(&url, id, secret).unwrap(), &school()).await.unwrap();
}

/// Memory, which another process does not see: it is its own.
#[derive(Default)]
struct Memory(Mutex<MemoryStore>);

#[async_trait]
impl StoreHarness for Memory {
    async fn open(&self) -> Arc<dyn MarkStore> {
        let store = MemoryStore::new();
        *self.0.lock().unwrap() = store.clone();
        Arc::new(store)
    }

    async fn reopen(&self) -> Arc<dyn MarkStore> {
        Arc::new(self.0.lock().unwrap().clone())
    }
}

/// A new file in this folder for each store.
struct Files(tempfile::TempDir, AtomicU32);

impl Files {
    fn store(&self) -> Arc<dyn MarkStore> {
        let number = self.1.load(Ordering::Relaxed);
        Arc::new(SqliteStore::open(self.0.path().join(format!("{number}.db"))).unwrap())
    }
}

#[async_trait]
impl StoreHarness for Files {
    async fn open(&self) -> Arc<dyn MarkStore> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.store()
    }

    async fn reopen(&self) -> Arc<dyn MarkStore> {
        self.store()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_in_memory() {
    store::every(&Memory::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_in_an_sqlite_file() {
    store::every(&Files(tempfile::tempdir().unwrap(), AtomicU32::new(0))).await.unwrap();
}
