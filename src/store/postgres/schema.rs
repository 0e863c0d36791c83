//! The tables and views, and how they are made.

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Transaction};

use super::failure::Outcome;
use crate::store::{StoreError, StoreErrorKind};

/// Every migration with its number, which it writes into `rollmark.migrations` itself.
pub(super) const MIGRATIONS: &[(i32, &str)] = &[(1, include_str!("migration_1.sql"))];

/// A number that no other program is likely to lock: "rollmark" in ASCII.
const MIGRATION_LOCK: &str = "SELECT pg_advisory_xact_lock(x'726F6C6C6D61726B'::bigint)";

fn newest() -> i32 {
    MIGRATIONS.last().map_or(0, |(number, _)| *number)
}

/// The state of rollmark's schema in a database.
#[derive(PartialEq, Eq)]
pub(super) enum Schema {
    Missing,
    Older,
    Current,
}

impl Schema {
    /// # Errors
    /// A newer version has made it.
    pub(super) async fn of(client: &Client) -> Outcome<Self> {
        let newest_there = "SELECT coalesce(max(number), 0) FROM rollmark.migrations";
        let number: i32 = match client.query_typed_one(newest_there, &[]).await {
            Ok(row) => row.try_get(0)?,
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => 0,
            Err(error) => return Err(error.into()),
        };
        Self::of_number(number)
    }

    fn of_number(number: i32) -> Outcome<Self> {
        match number {
            ..=0 => Ok(Self::Missing),
            number if number < newest() => Ok(Self::Older),
            number if number == newest() => Ok(Self::Current),
            _ => Err(StoreError::new(
                StoreErrorKind::NewerVersion,
                "the PostgreSQL store was made by a newer version (its schema rollmark); update this program",
            )
            .into()),
        }
    }
}

/// Makes or changes the schema, one program at a time.
pub(super) async fn migrate(transaction: &Transaction<'_>) -> Outcome<()> {
    transaction.batch_execute(MIGRATION_LOCK).await?;
    // Another program may have been faster. What it made is visible in the catalogue's own tables, but not to to_regclass, whose
    // cache is not updated while this waits for the lock.
    let is_there = "SELECT EXISTS (
        SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'rollmark' AND c.relname = 'migrations')";
    let mut number = 0;
    if transaction.query_typed_one(is_there, &[]).await?.try_get(0)? {
        let newest_there = "SELECT coalesce(max(number), 0) FROM rollmark.migrations";
        number = transaction.query_typed_one(newest_there, &[]).await?.try_get(0)?;
    }
    Schema::of_number(number)?;
    for (_, sql) in MIGRATIONS.iter().filter(|(migration, _)| *migration > number) {
        transaction.batch_execute(sql).await?;
    }
    Ok(())
}
