//! A store in a PostgreSQL database, by its address.

use std::str::FromStr;
use std::time::Duration;

use deadpool_postgres::{Manager, Pool};
use rollmark::store::{PostgresStore, StoreError, StoreErrorKind};
use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, NoTls};

/// The most connections of a run: one that writes, one that renews the lease.
const CONNECTIONS: usize = 2;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// `postgres://USER@HOST:PORT/DATABASE`, without a password.
#[derive(Clone)]
pub struct Address(Config);

impl FromStr for Address {
    type Err = String;

    /// No error repeats anything of the text.
    fn from_str(text: &str) -> Result<Self, String> {
        let config: Config = text
            .parse()
            .map_err(|_| "not the address of a database; postgres://USER@HOST:PORT/DATABASE is one".to_owned())?;
        if config.get_password().is_some() {
            return Err(
                "other processes can see a password here; give it by PGPASSWORD or --store-password-file".into()
            );
        }
        if config.get_ssl_mode() == SslMode::Require {
            return Err("this program does not speak TLS to a database; leave sslmode=require out, or reach the \
                        database through a tunnel"
                .to_owned());
        }
        Ok(Self(config))
    }
}

impl Address {
    /// The store there; no connection is made yet.
    pub fn store(&self, password: Option<&str>) -> Result<PostgresStore, StoreError> {
        let mut config = self.0.clone();
        let of_environment = std::env::var("PGPASSWORD").ok().filter(|password| !password.is_empty());
        if let Some(password) = password.map(str::to_owned).or(of_environment) {
            config.password(password);
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_application_name().is_none() {
            config.application_name("rollmark");
        }
        let pool = Pool::builder(Manager::new(config, NoTls)).max_size(CONNECTIONS).build();
        let no_pool = |_| StoreError::new(StoreErrorKind::CannotOpen, "no pool of connections can be made");
        Ok(PostgresStore::new(pool.map_err(no_pool)?))
    }
}
