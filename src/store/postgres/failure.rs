//! Failures and their messages.

use std::error::Error;
use std::io;

use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

use crate::model::Cause;
use crate::store::{StoreError, StoreErrorKind};

/// A failure inside, before it becomes a [`StoreError`].
pub(super) enum Failure {
    /// There was no connection.
    Pool(PoolError),
    /// A statement failed.
    Statement(tokio_postgres::Error),
    /// The commit itself failed.
    Commit(tokio_postgres::Error),
    Store(StoreError),
    /// The tables do not hold what was written.
    Damaged,
    /// A text in the tables can't be read.
    Unreadable(Cause),
}

pub(super) type Outcome<T> = Result<T, Failure>;

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        Self::Pool(error)
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Statement(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Unreadable(Cause::of_json(&error))
    }
}

impl Failure {
    /// Whether a statement failed because its connection is gone.
    pub(super) fn is_lost_connection(&self) -> bool {
        let Self::Statement(error) = self else { return false };
        error.code().map_or_else(|| of_statement(error) == LOST, is_of_lost_connection)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        let told = |kind, what: &str| StoreError::new(kind, format!("the PostgreSQL store {what}"));
        match failure {
            Failure::Store(error) => error,
            Failure::Damaged => told(StoreErrorKind::Damaged, DAMAGED),
            Failure::Unreadable(cause) => told(StoreErrorKind::Damaged, DAMAGED).with_cause(cause),
            Failure::Pool(PoolError::Backend(error)) => {
                let (kind, what) = match error.code() {
                    Some(code) => of_code(code),
                    None => of_no_connection(&error),
                };
                finished(told(kind, what), &error)
            }
            Failure::Pool(PoolError::Timeout(_)) => told(
                StoreErrorKind::Busy,
                "is busy: no connection of the pool became free in time; try again, or allow the pool more connections",
            ),
            Failure::Pool(PoolError::Closed) => {
                told(StoreErrorKind::CannotOpen, "can't be reached: the pool of connections is closed")
            }
            Failure::Pool(_) => {
                told(StoreErrorKind::CannotOpen, "can't be reached: the pool gives no connection; check how it is made")
            }
            Failure::Statement(error) => {
                let (kind, what) = match error.code() {
                    Some(code) => of_code(code),
                    None => of_statement(&error),
                };
                finished(told(kind, what), &error)
            }
            Failure::Commit(error) => {
                let (kind, what) = match error.code() {
                    Some(code) if !is_of_lost_connection(code) => of_code(code),
                    _ => (
                        StoreErrorKind::Unreachable,
                        "lost its connection during the commit: everything is written or nothing; the next run sees which",
                    ),
                };
                finished(told(kind, what), &error)
            }
        }
    }
}

const DAMAGED: &str = "does not hold what was written; restore the schema rollmark from a copy";
const LOST: (StoreErrorKind, &str) =
    (StoreErrorKind::Unreachable, "lost its connection; nothing was written, try again later");

fn finished(error: StoreError, behind: &tokio_postgres::Error) -> StoreError {
    let cause = match (behind.code(), behind.source().and_then(|source| source.downcast_ref::<io::Error>())) {
        (Some(code), _) => Some(Cause::new(format!("PostgreSQL error {}", code.code()))),
        (None, Some(io)) => Some(Cause::of_io(io)),
        (None, None) => None,
    };
    match cause {
        Some(cause) => error.with_cause(cause),
        None => error,
    }
}

/// Whether the server ended the connection.
fn is_of_lost_connection(code: &SqlState) -> bool {
    code.code().starts_with("08")
        || [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::DATABASE_DROPPED].contains(code)
}

/// The message for an error that PostgreSQL itself reports.
fn of_code(code: &SqlState) -> (StoreErrorKind, &'static str) {
    use StoreErrorKind::{Busy, CannotOpen, Damaged, Failed, Full, ReadOnly, Unreachable};
    match code {
        code if is_of_lost_connection(code) => LOST,
        &SqlState::CANNOT_CONNECT_NOW => {
            (Unreachable, "can't be reached: the server is starting or shutting down; try again later")
        }
        &SqlState::TOO_MANY_CONNECTIONS | &SqlState::CONFIGURATION_LIMIT_EXCEEDED => {
            (Busy, "is busy: the server has no connection left; try again later, or let the pool hold fewer")
        }
        &SqlState::READ_ONLY_SQL_TRANSACTION => {
            (ReadOnly, "can't be written: the server is a read-only replica or set to read only; name the primary")
        }
        &SqlState::DISK_FULL => (Full, "can't grow, the server's disk is full; nothing was written"),
        &SqlState::INSUFFICIENT_PRIVILEGE => (
            CannotOpen,
            "refuses this: the database user lacks a right in the schema rollmark; the page of PostgresStore lists the rights",
        ),
        &SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            (CannotOpen, "refuses the connection; check user, password and the server's pg_hba.conf")
        }
        &SqlState::INVALID_CATALOG_NAME => (CannotOpen, "can't be opened: the database is not there; create it first"),
        &SqlState::T_R_SERIALIZATION_FAILURE
        | &SqlState::T_R_DEADLOCK_DETECTED
        | &SqlState::LOCK_NOT_AVAILABLE
        | &SqlState::QUERY_CANCELED
        | &SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
        | &SqlState::OBJECT_IN_USE => {
            (Busy, "is busy: another program's work or a time limit ended this; try again later")
        }
        &SqlState::OUT_OF_MEMORY | &SqlState::INSUFFICIENT_RESOURCES => {
            (Busy, "is busy: the server has no memory left for this; nothing was written, try again later")
        }
        &SqlState::DATA_CORRUPTED | &SqlState::INDEX_CORRUPTED => (Damaged, DAMAGED),
        &SqlState::UNDEFINED_TABLE
        | &SqlState::UNDEFINED_COLUMN
        | &SqlState::UNDEFINED_OBJECT
        | &SqlState::INVALID_SCHEMA_NAME
        | &SqlState::DATATYPE_MISMATCH => {
            (Damaged, "lacks tables or columns of its own; restore the schema rollmark from a copy")
        }
        &SqlState::DUPLICATE_SCHEMA | &SqlState::DUPLICATE_TABLE | &SqlState::DUPLICATE_OBJECT => {
            (CannotOpen, "can't be made: the schema rollmark holds another program's tables; choose another database")
        }
        &SqlState::CHARACTER_NOT_IN_REPERTOIRE | &SqlState::UNTRANSLATABLE_CHARACTER => {
            (Failed, "can't keep a text of the source: it has a character that this database does not take; use UTF-8")
        }
        _ => (Failed, "has failed; nothing was written"),
    }
}

/// Why there is no connection, if the server did not say so.
fn of_no_connection(error: &tokio_postgres::Error) -> (StoreErrorKind, &'static str) {
    // The kind of the error is only in its text, which holds no value.
    match error.to_string().as_str() {
        "error performing TLS handshake" => {
            (StoreErrorKind::CannotOpen, "can't be reached: TLS failed; check the server's certificate and sslmode")
        }
        "authentication error" | "invalid configuration" | "invalid connection string" => {
            (StoreErrorKind::CannotOpen, "refuses the connection; check user, password and address")
        }
        _ => (StoreErrorKind::Unreachable, "can't be reached; check that the server runs, and its host and port"),
    }
}

/// What went wrong between here and the server.
fn of_statement(error: &tokio_postgres::Error) -> (StoreErrorKind, &'static str) {
    match error.to_string().as_str() {
        "connection closed" | "error communicating with the server" | "timeout waiting for server" => LOST,
        text if text.starts_with("error serializing") => {
            (StoreErrorKind::Failed, "can't keep a value: PostgreSQL has no place for it; nothing was written")
        }
        text if text.starts_with("error deserializing") => (StoreErrorKind::Damaged, DAMAGED),
        _ => (StoreErrorKind::Failed, "has failed; nothing was written"),
    }
}
