//! A database of its own for each test.

use std::sync::atomic::{AtomicU32, Ordering};

use deadpool_postgres::{Manager, Pool};
use rollmark::store::PostgresStore;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config, NoTls};

static NUMBER: AtomicU32 = AtomicU32::new(1);

#[derive(Clone)]
pub struct Server {
    /// Where databases are made.
    administration: Config,
    /// The test's own database.
    pub config: Config,
    database: String,
}

impl Server {
    pub async fn create(url: &str) -> Self {
        let administration: Config = url.parse().expect("ROLLMARK_TEST_POSTGRES is a postgres:// URL");
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let database = format!("rollmark_test_{}_{number}", std::process::id());
        let mut config = administration.clone();
        config.dbname(&database);
        let server = Self { administration, config, database };
        server.administer(&format!("CREATE DATABASE {}", server.database)).await;
        server
    }

    pub async fn drop(self) {
        self.administer(&format!("DROP DATABASE {} WITH (FORCE)", self.database)).await;
    }

    /// Outside of the test's database.
    pub async fn administer(&self, sql: &str) {
        connect(&self.administration).await.batch_execute(sql).await.unwrap();
    }

    /// A connection of the test's own.
    pub async fn client(&self) -> Client {
        connect(&self.config).await
    }

    pub async fn execute(&self, sql: &str) {
        self.client().await.batch_execute(sql).await.unwrap();
    }

    pub fn store(&self) -> PostgresStore {
        PostgresStore::new(pool(&self.config, 8))
    }

    /// Ends all other connections to the test's database.
    pub async fn terminate_others(&self) {
        let sql = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
        self.client().await.query_typed(sql, &[]).await.unwrap();
    }

    /// Ends a connection, and waits until it is gone.
    pub async fn terminate(&self, process: i32) {
        let sql = "SELECT pg_terminate_backend($1, 5000)";
        self.client().await.query_typed(sql, &[(&process, Type::INT4)]).await.unwrap();
    }

    /// Whether a connection is idle, outside of a transaction.
    pub async fn is_idle(&self, process: i32) -> bool {
        let sql = "SELECT state = 'idle' FROM pg_stat_activity WHERE pid = $1";
        self.client().await.query_typed_one(sql, &[(&process, Type::INT4)]).await.unwrap().get(0)
    }

    /// Waits until a connection is gone.
    pub async fn wait_until_gone(&self, process: i32) {
        let client = self.client().await;
        let sql = "SELECT FROM pg_stat_activity WHERE pid = $1";
        while !client.query_typed(sql, &[(&process, Type::INT4)]).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    }
}

pub async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

pub fn pool(config: &Config, size: usize) -> Pool {
    Pool::builder(Manager::new(config.clone(), NoTls)).max_size(size).build().unwrap()
}
