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

/// `postgres://USER@HOST:PORT/DATABASE`, without a password. `?service=NAME` names an entry of a service file that has it.
#[derive(Clone)]
pub struct Address {
    config: Config,
    service: Option<String>,
}

impl FromStr for Address {
    type Err = String;

    /// No error repeats anything of the text.
    fn from_str(text: &str) -> Result<Self, String> {
        let (address, options) = text.split_once('?').unwrap_or((text, ""));
        let (services, others): (Vec<&str>, Vec<&str>) =
            options.split('&').filter(|option| !option.is_empty()).partition(|option| option.starts_with("service="));
        let service = services.first().and_then(|service| service.split_once('=')).map(|(_, name)| name.to_owned());
        let config: Config = format!("{address}?{}", others.join("&"))
            .parse()
            .map_err(|_| "not the address of a database; postgres://USER@HOST:PORT/DATABASE is one".to_owned())?;
        if config.get_password().is_some() {
            return Err(
                "other processes can see a password here; give it by PGPASSWORD or --store-password-file, or name a service"
                    .into()
            );
        }
        if config.get_ssl_mode() == SslMode::Require {
            return Err("this program does not speak TLS to a database; leave sslmode=require out, or reach the \
                        database through a tunnel"
                .to_owned());
        }
        Ok(Self { config, service })
    }
}

impl Address {
    /// The store there; no connection is made yet.
    pub fn store(&self, password: Option<&str>) -> Result<PostgresStore, StoreError> {
        let mut config = self.config.clone();
        let password = match (password, self.service.clone().or_else(|| variable("PGSERVICE"))) {
            (Some(password), _) => Some(password.to_owned()),
            (None, Some(service)) => password_of(&service)?,
            (None, None) => None,
        };
        if let Some(password) = password.or_else(|| variable("PGPASSWORD")) {
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

/// An empty environment variable is one that is not set.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The password of a service in PostgreSQL's service file, if it has one there.
fn password_of(service: &str) -> Result<Option<String>, StoreError> {
    let refused = |what: String| StoreError::new(StoreErrorKind::CannotOpen, what);
    let of_home = || variable("HOME").map(|home| format!("{home}/.pg_service.conf"));
    let path = variable("PGSERVICEFILE").or_else(of_home).unwrap_or_default();
    let text = std::fs::read_to_string(&path)
        .map_err(|_| refused(format!("the service file {path} can't be read; check PGSERVICEFILE")))?;
    let head = format!("[{service}]");
    let mut lines = text.lines().map(str::trim).skip_while(|line| *line != head);
    if lines.next().is_none() {
        return Err(refused(format!("the service file {path} has no service {service}; check its name")));
    }
    let mut settings = lines.take_while(|line| !line.starts_with('[')).filter_map(|line| line.split_once('='));
    Ok(settings.find(|(name, _)| name.trim() == "password").map(|(_, password)| password.trim().to_owned()))
}
