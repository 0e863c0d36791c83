//! A store of your own: it reports every change that is written to the portal, from the store's feed.
//!
//! `cargo run --no-default-features --features testing --example custom_store`

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::NaiveDate;
use rollmark::model::{SchoolId, StudentId};
use rollmark::rules::{Rules, Scope};
use rollmark::store::*;
use rollmark::sync::{AttendanceSync, SyncRequest};
use rollmark::testing::conformance::store::{StoreHarness, every};
use rollmark::testing::{FakeSchool, FakeSource};

/// Keeps marks in another store, and records what was reported to the portal and up to where; a real one does so in a database.
#[derive(Clone, Debug, Default)]
struct Announcing(MemoryStore, Arc<Mutex<(Option<ChangeCursor>, Vec<String>)>>);

impl Announcing {
    async fn announce(&self, school: &SchoolId) -> Result<(), StoreError> {
        let told = self.1.lock().unwrap().0;
        for entry in self.0.changes(school, told, 1_000).await? {
            let mut portal = self.1.lock().unwrap();
            portal.0 = Some(entry.cursor());
            if let FeedEntry::Changed(Change { key, after, .. }) = entry {
                let after = after.map_or("no mark".to_owned(), |mark| mark.to_string());
                portal.1.push(format!("{} {} {} is now {after}", key.student, key.date, key.session));
            }
        }
        Ok(())
    }
}

#[async_trait]
#[rustfmt::skip]
impl MarkStore for Announcing {
    async fn apply(&self, school: &SchoolId, changes: &ChangeSet) -> Result<u64, StoreError> {
        let run = self.0.apply(school, changes).await?;
        self.announce(school).await.map(|()| run)
    }
    async fn read(&self, school: &SchoolId, scope: &Scope) -> Result<Snapshot, StoreError> { self.0.read(school, scope).await }
    async fn history(&self, school: &SchoolId, query: &HistoryQuery) -> Result<Vec<Change>, StoreError> { self.0.history(school, query).await }
    async fn changes(&self, school: &SchoolId, after: Option<ChangeCursor>, limit: usize) -> Result<Vec<FeedEntry>, StoreError> { self.0.changes(school, after, limit).await }
    async fn runs(&self, school: &SchoolId, query: &RunQuery) -> Result<Vec<Run>, StoreError> { self.0.runs(school, query).await }
    async fn withheld(&self, school: &SchoolId, run: u64) -> Result<Option<Vec<WithheldChange>>, StoreError> { self.0.withheld(school, run).await }
    async fn erase(&self, school: &SchoolId, student: &StudentId) -> Result<u64, StoreError> { self.0.erase(school, student).await }
    async fn prune(&self, school: &SchoolId, before: NaiveDate) -> Result<Pruned, StoreError> { self.0.prune(school, before).await }
    async fn acquire_lease(&self, school: &SchoolId, ttl: Duration) -> Result<Option<LeaseToken>, StoreError> { self.0.acquire_lease(school, ttl).await }
    async fn renew_lease(&self, school: &SchoolId, token: LeaseToken, ttl: Duration) -> Result<(), StoreError> { self.0.renew_lease(school, token, ttl).await }
    async fn release_lease(&self, school: &SchoolId, token: LeaseToken) -> Result<(), StoreError> { self.0.release_lease(school, token).await }
}

/// Opens the store for the test of what every store promises.
#[derive(Default)]
struct Harness(Mutex<Announcing>);

#[async_trait]
impl StoreHarness for Harness {
    async fn open(&self) -> Arc<dyn MarkStore> {
        *self.0.lock().unwrap() = Announcing::default();
        self.reopen().await
    }
    async fn reopen(&self) -> Arc<dyn MarkStore> {
        Arc::new(self.0.lock().unwrap().clone())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let today = "2026-11-20".parse()?;
    let (source, store) = (FakeSource::new(FakeSchool::demo(today)), Announcing::default());
    let sync = AttendanceSync::new(source, store.clone(), "school", Rules::new("Europe/London".parse()?));
    sync.run(SyncRequest::overnight(today)).await?;
    store.1.lock().unwrap().1.iter().take(5).for_each(|told| println!("{told}"));
    every(&Harness::default()).await?;
    println!("The store keeps every promise.");
    Ok(())
}
