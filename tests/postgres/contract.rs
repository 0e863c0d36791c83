//! What every store promises, on PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use libtest_mimic::Trial;
use rollmark::store::{ChangeSet, MarkStore, PostgresStore};
use rollmark::testing::conformance::store::{StoreHarness, every};

use crate::on_server;
use crate::proxy::{Fault, Proxy};
use crate::sample::{marks, run, scope};
use crate::server::{Server, pool};

pub fn tests() -> Vec<Trial> {
    vec![
        on_server("every_promise_of_a_store_is_kept", |server| every_promise(server, Fault::Terminate)),
        on_server("every_promise_is_kept_where_connections_break", |server| every_promise(server, Fault::Cut)),
    ]
}

async fn every_promise(server: Server, fault: Fault) {
    let harness = Harness::new(server, fault).await;
    every(&harness).await.unwrap_or_else(|violation| panic!("{violation}"));
}

struct Harness {
    server: Server,
    proxy: Arc<Proxy>,
    /// How many statements it takes to read and to write.
    statements: u32,
}

impl Harness {
    async fn new(server: Server, fault: Fault) -> Self {
        let proxy = Proxy::start(&server, fault).await;
        let mut harness = Self { server, proxy, statements: 0 };
        let store = harness.open().await;
        let write = async |minute| {
            let revision = store.read(&"school".into(), &scope()).await.unwrap().revision();
            store.apply(&"school".into(), &ChangeSet::new(revision, run()).with_writes(marks(minute))).await.unwrap();
        };
        write(1).await;
        harness.proxy.reset();
        write(2).await;
        harness.statements = harness.proxy.count();
        assert!(harness.statements > 5, "the proxy counts");
        harness
    }
}

#[async_trait]
impl StoreHarness for Harness {
    async fn open(&self) -> Arc<dyn MarkStore> {
        self.proxy.reset();
        self.server.execute("DROP SCHEMA IF EXISTS rollmark CASCADE").await;
        self.reopen().await
    }

    async fn reopen(&self) -> Arc<dyn MarkStore> {
        Arc::new(PostgresStore::new(pool(&self.proxy.config, 8)))
    }

    async fn expire_lease(&self, _: Duration) {
        self.server.execute("UPDATE rollmark.leases SET ends_at = clock_timestamp()").await;
    }

    fn fail_at(&self, step: u32) -> bool {
        self.proxy.fail_at(step);
        step <= self.statements
    }
}
