//! A connection of the pool, for one call.

use deadpool_postgres::{Client, Pool};
use tokio_postgres::{IsolationLevel, Row, RowStream, Transaction};

use super::failure::{Failure, Outcome};
use super::rows::Value;
use super::schema::{self, Schema};

/// A connection that goes back into the pool only if its call succeeds. A connection whose call was dropped can still have
/// pending work, which poolers confuse with what comes next.
pub(super) struct Connection(Option<Client>);

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(Client::take(client));
        }
    }
}

impl Connection {
    /// A connection that works, and the state of the schema.
    async fn get(pool: &Pool) -> Outcome<(Self, Schema)> {
        // Connections that the server closed while they waited in the pool are removed from it.
        let mut left = pool.status().max_size;
        loop {
            let mut connection = Self(Some(pool.get().await?));
            match Schema::of(connection.client()?).await {
                Err(failure) if failure.is_lost_connection() && left > 0 => left -= 1,
                schema => return Ok((connection, schema?)),
            }
        }
    }

    /// A connection for reading; `None` if the schema does not exist, so that there is nothing to read.
    pub(super) async fn to_read(pool: &Pool) -> Outcome<Option<Self>> {
        let (connection, schema) = Self::get(pool).await?;
        if schema == Schema::Missing {
            connection.give_back();
            return Ok(None);
        }
        Ok(Some(connection))
    }

    /// A connection for writing, after the schema was made or migrated.
    pub(super) async fn to_write(pool: &Pool) -> Outcome<Self> {
        let (mut connection, schema) = Self::get(pool).await?;
        if schema != Schema::Current {
            let transaction = connection.begin().await?;
            schema::migrate(&transaction).await?;
            commit(transaction).await?;
        }
        Ok(connection)
    }

    pub(super) fn give_back(mut self) {
        drop(self.0.take());
    }

    fn client(&mut self) -> Outcome<&mut Client> {
        // The client is present until the connection is given back.
        self.0.as_mut().ok_or(Failure::Damaged)
    }

    /// Begins a transaction. If a statement waits for a lock, the next one sees what others committed meanwhile.
    pub(super) async fn begin(&mut self) -> Outcome<Transaction<'_>> {
        let client: &mut tokio_postgres::Client = self.client()?;
        Ok(client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().await?)
    }

    pub(super) async fn stream(&mut self, sql: &str, values: Vec<Value<'_>>) -> Outcome<RowStream> {
        Ok(self.client()?.query_typed_raw(sql, values).await?)
    }

    /// The rows of a call's only statement.
    pub(super) async fn rows(mut self, sql: &str, values: &[Value<'_>]) -> Outcome<Vec<Row>> {
        let rows = self.client()?.query_typed(sql, values).await?;
        self.give_back();
        Ok(rows)
    }

    /// The number of rows that a call's only statement changes.
    pub(super) async fn execute(mut self, sql: &str, values: &[Value<'_>]) -> Outcome<u64> {
        let count = self.client()?.execute_typed(sql, values).await?;
        self.give_back();
        Ok(count)
    }
}

pub(super) async fn commit(transaction: Transaction<'_>) -> Outcome<()> {
    transaction.commit().await.map_err(Failure::Commit)
}
