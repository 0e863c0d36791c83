mod connection;
mod failure;
mod rows;
mod schema;

use std::collections::BTreeSet;
use std::fmt;
use std::pin::pin;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{NaiveDate, NaiveTime};
use deadpool_postgres::Pool;
use futures::TryStreamExt;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use self::connection::{Connection, commit};
use self::failure::{Failure, Outcome};
use self::rows::{
    CHANGE_BEFORE, CHANGE_COLUMNS, NewChange, SchoolRow, Value, bigint, content_columns, count, date_in_range, moment,
};
use super::{
    Change, ChangeCursor, ChangeSet, FeedEntry, HistoryQuery, LONGEST_LEASE, LeaseToken, MarkStore, Pruned, Run,
    RunPurpose, RunQuery, Snapshot, StoreError, WithheldChange,
};
use crate::model::{SchoolId, Session, StudentId};
use crate::rules::{Scope, Window};

/// Keeps marks, their history and the runs of any number of schools in a PostgreSQL database, in its own schema `rollmark`.
/// It uses your pool of connections, so that TLS, timeouts and limits are yours. Clones share the pool.
///
/// ```no_run
/// use deadpool_postgres::tokio_postgres::NoTls;
/// use deadpool_postgres::{Manager, Pool};
/// use rollmark::rules::{Scope, SyncWindow};
/// use rollmark::store::{MarkStore, PostgresStore};
///
/// # async fn read() -> Result<(), Box<dyn std::error::Error>> {
/// let config = "postgres://portal@localhost/portal".parse()?;
/// let store = PostgresStore::new(Pool::builder(Manager::new(config, NoTls)).max_size(8).build()?);
/// let scope = Scope::all(SyncWindow::default().ending("2026-11-20".parse()?));
/// println!("{} marks", store.read(&"school".into(), &scope).await?.marks().len());
/// # Ok(())
/// # }
/// ```
///
/// # What a portal's SQL reads
/// These views are a contract: columns can be added, but none is removed. `school` is the [`SchoolId`]. Students, statuses and
/// the other ids compare by bytes (`COLLATE "C"`), so students sort by code point in any database. Times are to the microsecond.
///
/// `rollmark.marks`, one row for each live mark:
///
/// | columns | hold |
/// |---|---|
/// | `school`, `student`, `date`, `session` | the mark's place; `session` is `AM` or `PM` |
/// | `status` | a name of [`Status`](crate::model::Status): `present`, `late`, `absent`, `not_required`, `not_taken`, `unknown_code` |
/// | `code`, `code_name`, `raw_code` | the code's letter and name, and the code as the source gave it; null where there is none |
/// | `minutes_late` | with `late`, where it is known |
/// | `decided_by`, `record_id`, `last_updated` | the record that decided: a name of [`RecordKind`](crate::model::RecordKind), its id, its stamp |
/// | `rule`, `decision` | a name of [`DecisionRule`](crate::model::DecisionRule); the whole [`Decision`](crate::model::Decision) as JSONB |
/// | `run`, `seen_at`, `as_of_earliest`, `applied_at` | the run that last wrote it, when that run fetched, the earliest moment that the fetch can show, when it was written |
/// | `cursor` | the change's place in the feed ([`ChangeCursor`]) |
///
/// `rollmark.history`, one row for each change: `cursor`, the columns of `marks` without `as_of_earliest` for what the mark
/// became (null where `removed`), and `status_before`, `code_before`, `raw_code_before`, `minutes_late_before`.
///
/// `rollmark.runs`, one row for each run: `school`, `run`, `purpose`, `fetched_at`, `as_of_earliest`, `applied_at`,
/// `from_date`, `to_date`, `students` (null: all), and the counts `added`, `changed`, `unchanged`, `removed`, `withheld`, `kept`.
///
/// `rollmark.withheld`, one row for each withheld change of the newest runs: `school`, `run`, `student`, `date`, `session`,
/// `reason`.
///
/// ```sql
/// -- What changed since yesterday?
/// SELECT student, date, session, status_before, status, code, decision
/// FROM rollmark.history WHERE school = 'st-mary' AND applied_at > now() - interval '1 day' ORDER BY cursor;
/// ```
///
/// The tables behind the views can change with any version: neither read nor write them.
///
/// # Making the schema
/// The first call that writes makes the schema or brings an older one up to this version; [`migrate`](Self::migrate) does so
/// at a time of your choice, and [`MIGRATIONS`](Self::MIGRATIONS) is the SQL for a tool of your own. Reading changes nothing: a
/// database without the schema reads as empty. A schema from a newer version is refused.
///
/// # Rights
/// The user who migrates needs `CREATE` on the database, or owns an empty schema `rollmark`. The user who syncs needs
/// `GRANT USAGE ON SCHEMA rollmark` and `GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA rollmark`; a portal that
/// only reads needs `USAGE` and `SELECT` on the views.
///
/// # Server, poolers, replicas
/// - PostgreSQL 12 or later, in an encoding that has the texts of your source: UTF-8.
/// - It works behind poolers in transaction mode: no statement has a name, and nothing is kept in the session. A lease is a row
///   with a token that grows; it goes by the server's clock.
/// - A call takes one connection. Give a run two, so that it can renew its lease while it writes; a pool of one works, as long
///   as no write takes as long as a lease. A connection whose call failed or was dropped is closed; a connection that the server
///   has closed is replaced.
/// - A replica can be read. Writing to it is refused with [`ReadOnly`](crate::store::StoreErrorKind::ReadOnly).
/// - Schools write side by side; runs of one school take turns at its row, and no two runs can wait for each other.
/// - If the connection breaks during the commit, it is not known whether the commit was done: the error says so, and the next
///   run finds out.
///
/// # Deleting
/// Data that [`erase`](MarkStore::erase) and [`prune`](MarkStore::prune) delete is no longer in any table or view. The server
/// overwrites the space at its next `VACUUM`; its write-ahead log and your backups hold the data as long as you keep them.
///
/// # Cost
/// With 93,000 marks, a first load takes less time than one plain insert of the same columns, a second, identical sync spends
/// a tenth of a second in the store, and one student's month is read in a millisecond (`cargo bench --bench postgres`).
#[derive(Clone)]
pub struct PostgresStore {
    pool: Pool,
}

/// Shows nothing of the pool, which knows the address and the user.
impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// The SQL of every migration with its number, for those who make the schema with their own tool. Run each text in one
    /// transaction. It records its number itself, so that [`migrate`](Self::migrate) finds it done.
    pub const MIGRATIONS: &[(i32, &str)] = schema::MIGRATIONS;

    /// The store in the database that this pool connects to. Nothing is read or written yet.
    pub fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// Makes the schema `rollmark`, or brings it up to this version. Programs that call this at the same time take turns.
    ///
    /// # Errors
    /// The database can't be reached, does not give the right to make the schema, or was migrated by a newer version.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        Ok(self.to_write().await.map(Connection::give_back)?)
    }

    /// Whether the database has the schema, of this version or an older one.
    ///
    /// # Errors
    /// The database can't be read, or was migrated by a newer version.
    pub async fn is_there(&self) -> Result<bool, StoreError> {
        Ok(self.to_read().await?.map(Connection::give_back).is_some())
    }

    /// `None` if there is nothing to read.
    async fn to_read(&self) -> Outcome<Option<Connection>> {
        Connection::to_read(&self.pool).await
    }

    async fn to_write(&self) -> Outcome<Connection> {
        Connection::to_write(&self.pool).await
    }
}

/// A lease's length in seconds.
fn seconds(ttl: Duration) -> f64 {
    ttl.min(LONGEST_LEASE).as_secs_f64()
}

/// The parts of a scope that narrow a statement.
struct Narrowed<'a> {
    school: &'a str,
    from: NaiveDate,
    to: NaiveDate,
    students: Option<Vec<&'a str>>,
}

impl<'a> Narrowed<'a> {
    fn new(school: &'a SchoolId, scope: &'a Scope) -> Self {
        let window = scope.window();
        let students = scope.students().map(|students| students.iter().map(StudentId::as_str).collect());
        let (from, to) = (date_in_range(window.from()), date_in_range(window.to()));
        Self { school: school.as_str(), from, to, students }
    }

    /// `$1` to `$3`, and `$4` if students are named.
    fn values(&self) -> Vec<Value<'_>> {
        let mut values: Vec<Value<'_>> =
            vec![(&self.school, Type::TEXT), (&self.from, Type::DATE), (&self.to, Type::DATE)];
        if let Some(students) = &self.students {
            values.push((students, Type::TEXT_ARRAY));
        }
        values
    }
}

/// The marks of all students, and of named students: with one text for both, the planner would read everything. Each is one
/// statement, so that the revision and the marks are from the same moment.
const READ_ALL: &str = concat!(
    "SELECT s.revision, c.student, c.date, c.session, ",
    content_columns!("c"),
    ", c.seen_at, c.as_of_earliest
     FROM rollmark.schools s
     LEFT JOIN rollmark.changes c
       ON c.school = s.id AND c.is_latest AND c.status IS NOT NULL AND c.date BETWEEN $2 AND $3
     WHERE s.school = $1"
);
const READ_NAMED: &str = concat!(
    "SELECT s.revision, c.student, c.date, c.session, ",
    content_columns!("c"),
    ", c.seen_at, c.as_of_earliest
     FROM rollmark.schools s
     LEFT JOIN rollmark.changes c
       ON c.school = s.id AND c.is_latest AND c.status IS NOT NULL AND c.date BETWEEN $2 AND $3
      AND c.student = ANY($4)
     WHERE s.school = $1"
);

/// Takes a free lease. A lease that ends later than its length from now was written before the clock was set back.
const ACQUIRE: &str = "
    INSERT INTO rollmark.leases AS held (school, token, ends_at, length)
    VALUES ($1, 1, clock_timestamp() + make_interval(secs => $2), make_interval(secs => $2))
    ON CONFLICT (school) DO UPDATE
    SET token = held.token + 1, ends_at = clock_timestamp() + excluded.length, length = excluded.length
    WHERE held.ends_at <= clock_timestamp() OR held.ends_at > clock_timestamp() + held.length
    RETURNING token";

/// `now()` is when the statement began: a caller does not lose its lease because the statement then waited.
const RENEW: &str = "
    UPDATE rollmark.leases
    SET ends_at = clock_timestamp() + make_interval(secs => $3), length = make_interval(secs => $3)
    WHERE school = $1 AND token = $2 AND ends_at > now()";

/// `now()` is when the transaction began, before it waited for other runs.
const IS_HELD: &str =
    "SELECT EXISTS (SELECT FROM rollmark.leases WHERE school = $1 AND token = $2 AND ends_at > now())";

impl PostgresStore {
    async fn read_snapshot(&self, school: &SchoolId, scope: &Scope) -> Outcome<Snapshot> {
        let Some(mut connection) = self.to_read().await? else { return Ok(Snapshot::default()) };
        let narrowed = Narrowed::new(school, scope);
        let sql = if narrowed.students.is_some() { READ_NAMED } else { READ_ALL };
        let mut rows = pin!(connection.stream(sql, narrowed.values()).await?);
        let (mut revision, mut marks) = (0, Vec::new());
        while let Some(row) = rows.try_next().await? {
            revision = row.try_get(0)?;
            if row.try_get::<_, Option<&str>>(1)?.is_some() {
                marks.push(rows::stored_mark(&row, 1)?);
            }
        }
        connection.give_back();
        Ok(Snapshot::new(count(revision)?, marks))
    }

    async fn apply_changes(&self, school: &SchoolId, changes: &ChangeSet) -> Outcome<u64> {
        let mut connection = self.to_write().await?;
        let transaction = connection.begin().await?;
        let mut row = SchoolRow::lock_or_add(&transaction, school.as_str()).await?;
        if let Some(token) = changes.lease() {
            // This is a statement of its own: the one that waits for the lock sees the leases as they were before.
            let values: [Value<'_>; 2] = [(&school.as_str(), Type::TEXT), (&bigint(token.number()), Type::INT8)];
            if !transaction.query_typed_one(IS_HELD, &values).await?.try_get::<_, bool>(0)? {
                return Err(StoreError::lease_lost().into());
            }
        }
        if count(row.revision)? != changes.revision() {
            return Err(StoreError::moved().into());
        }
        let number = row.last_run + 1;
        let run = changes.run().clone().with_number(count(number)?);
        let writes: Vec<_> = changes.writes().collect();
        let new = NewChange::of(&transaction, &row, &writes).await?;
        NewChange::add_all(&transaction, &row, &run, &new).await?;
        let keeps_withheld = !changes.withheld().is_empty() || !run.withheld_any();
        rows::add_run(&transaction, row.id, &run, keeps_withheld).await?;
        rows::add_withheld(&transaction, row.id, number, changes.withheld()).await?;
        row.last_run = number;
        row.last_entry += bigint(new.len() as u64);
        row.revision += i64::from(!new.is_empty());
        row.save(&transaction).await?;
        commit(transaction).await?;
        connection.give_back();
        Ok(run.number)
    }

    async fn read_history(&self, school: &SchoolId, query: &HistoryQuery) -> Outcome<Vec<Change>> {
        let Some(connection) = self.to_read().await? else { return Ok(Vec::new()) };
        let narrowed = Narrowed::new(school, query.scope());
        let of_students = if narrowed.students.is_some() { "AND c.student = ANY($4)" } else { "" };
        let of_session = query.session().map_or("", |session| match session {
            Session::Am => "AND c.session = 'AM'",
            Session::Pm => "AND c.session = 'PM'",
        });
        let sql = format!(
            "SELECT {CHANGE_COLUMNS} FROM rollmark.schools s JOIN rollmark.changes c ON c.school = s.id {CHANGE_BEFORE}
             WHERE s.school = $1 AND c.date BETWEEN $2 AND $3 {of_students} {of_session} ORDER BY c.entry"
        );
        let rows = connection.rows(&sql, &narrowed.values()).await?;
        rows.iter().map(rows::change).collect()
    }

    async fn read_feed(&self, school: &SchoolId, after: Option<ChangeCursor>, limit: usize) -> Outcome<Vec<FeedEntry>> {
        let Some(connection) = self.to_read().await? else { return Ok(Vec::new()) };
        // One statement, so that nothing is committed between reading the changes and reading the erasures.
        let sql = format!(
            "SELECT {CHANGE_COLUMNS}, e.entry, e.student, e.applied_at
             FROM rollmark.schools s
             CROSS JOIN LATERAL (
                 (SELECT entry FROM rollmark.changes WHERE school = s.id AND entry > $2 ORDER BY entry LIMIT $3)
                 UNION ALL
                 (SELECT entry FROM rollmark.erasures WHERE school = s.id AND entry > $2 ORDER BY entry LIMIT $3)
                 ORDER BY entry LIMIT $3
             ) f
             LEFT JOIN rollmark.changes c ON c.school = s.id AND c.entry = f.entry {CHANGE_BEFORE}
             LEFT JOIN rollmark.erasures e ON e.school = s.id AND e.entry = f.entry
             WHERE s.school = $1 ORDER BY f.entry"
        );
        let after = after.map_or(0, |cursor| bigint(cursor.number()));
        let limit = bigint(limit as u64);
        let values: [Value<'_>; 3] = [(&school.as_str(), Type::TEXT), (&after, Type::INT8), (&limit, Type::INT8)];
        let rows = connection.rows(&sql, &values).await?;
        rows.iter().map(rows::feed_entry).collect()
    }

    async fn read_runs(&self, school: &SchoolId, query: &RunQuery) -> Outcome<Vec<Run>> {
        let Some(connection) = self.to_read().await? else { return Ok(Vec::new()) };
        // A purpose that this version does not know can have any name.
        let known = query.purposes().filter(|purposes| !purposes.contains(&RunPurpose::Unknown));
        let purposes: Option<Vec<&str>> = known.map(|purposes| purposes.iter().map(|purpose| purpose.name()).collect());
        let is_narrowed_here = query.purposes().is_some() && known.is_none();
        let limit = query.newest().filter(|_| !is_narrowed_here).map(|newest| bigint(newest as u64));
        let sql = "SELECT r.run FROM rollmark.run_records r JOIN rollmark.schools s ON s.id = r.school
             WHERE s.school = $1 AND ($2 IS NULL OR r.fetched_at >= $2) AND ($3 IS NULL OR r.purpose = ANY($3))
             ORDER BY r.number DESC LIMIT $4";
        let values: [Value<'_>; 4] = [
            (&school.as_str(), Type::TEXT),
            (&query.since().map(moment), Type::TIMESTAMPTZ),
            (&purposes, Type::TEXT_ARRAY),
            (&limit, Type::INT8),
        ];
        let rows = connection.rows(sql, &values).await?;
        let mut runs: Vec<Run> = rows.iter().map(rows::run).collect::<Outcome<_>>()?;
        if is_narrowed_here {
            runs.retain(|run| query.fits(run));
            runs.truncate(query.newest().unwrap_or(usize::MAX));
        }
        runs.reverse();
        Ok(runs)
    }

    async fn find_covering_run(&self, school: &SchoolId, student: &StudentId, date: NaiveDate) -> Outcome<Option<Run>> {
        let Some(connection) = self.to_read().await? else { return Ok(None) };
        let sql = "SELECT r.run FROM rollmark.run_records r JOIN rollmark.schools s ON s.id = r.school
             WHERE s.school = $1 AND $2 BETWEEN r.from_date AND r.to_date
               AND (r.students IS NULL OR $3 = ANY(r.students))
             ORDER BY r.number DESC LIMIT 1";
        let values: [Value<'_>; 3] =
            [(&school.as_str(), Type::TEXT), (&date_in_range(date), Type::DATE), (&student.as_str(), Type::TEXT)];
        connection.rows(sql, &values).await?.first().map(rows::run).transpose()
    }

    async fn read_withheld(&self, school: &SchoolId, run: u64) -> Outcome<Option<Vec<WithheldChange>>> {
        let Some(connection) = self.to_read().await? else { return Ok(None) };
        let sql = "SELECT r.keeps_withheld, w.student, w.date, w.session, w.reason
             FROM rollmark.run_records r JOIN rollmark.schools s ON s.id = r.school
             LEFT JOIN rollmark.withheld_changes w ON w.school = r.school AND w.run = r.number
             WHERE s.school = $1 AND r.number = $2 ORDER BY w.student, w.date, w.session";
        let values: [Value<'_>; 2] = [(&school.as_str(), Type::TEXT), (&bigint(run), Type::INT8)];
        let rows = connection.rows(sql, &values).await?;
        match rows.first().map(|row| row.try_get(0)).transpose()? {
            Some(true) => {
                rows.iter().filter_map(|row| rows::withheld(row).transpose()).collect::<Outcome<_>>().map(Some)
            }
            _ => Ok(None),
        }
    }

    async fn read_sessions_held(&self, school: &SchoolId, window: Window) -> Outcome<BTreeSet<(NaiveDate, Session)>> {
        let Some(connection) = self.to_read().await? else { return Ok(BTreeSet::new()) };
        let sql = "SELECT DISTINCT c.date, c.session FROM rollmark.schools s JOIN rollmark.changes c ON c.school = s.id
             WHERE s.school = $1 AND c.is_latest AND c.status IS NOT NULL AND c.date BETWEEN $2 AND $3";
        let scope = Scope::all(window);
        let rows = connection.rows(sql, &Narrowed::new(school, &scope).values()).await?;
        let held = |row: &Row| {
            let session: &str = row.try_get(1)?;
            Ok((row.try_get(0)?, session.parse().map_err(|_| Failure::Damaged)?))
        };
        rows.iter().map(held).collect()
    }

    async fn erase_student(&self, school: &SchoolId, student: &StudentId) -> Outcome<u64> {
        let mut connection = self.to_write().await?;
        let transaction = connection.begin().await?;
        let mut row = SchoolRow::lock_or_add(&transaction, school.as_str()).await?;
        let whose: [Value<'_>; 2] = [(&row.id, Type::INT4), (&student.as_str(), Type::TEXT)];
        let places = "
            WITH gone AS (DELETE FROM rollmark.changes WHERE school = $1 AND student = $2 RETURNING date, session)
            SELECT count(DISTINCT (date, session)) FROM gone";
        let places = count(transaction.query_typed_one(places, &whose).await?.try_get(0)?)?;
        for table in ["erasures", "withheld_changes"] {
            let sql = format!("DELETE FROM rollmark.{table} WHERE school = $1 AND student = $2");
            transaction.execute_typed(&sql, &whose).await?;
        }
        let runs = "SELECT run FROM rollmark.run_records WHERE school = $1";
        for kept in transaction.query_typed(runs, &[(&row.id, Type::INT4)]).await? {
            let run = rows::run(&kept)?;
            let without = run.clone().without_student(student);
            if without != run {
                rows::update_run(&transaction, row.id, &without).await?;
            }
        }
        row.last_entry += 1;
        row.revision += 1;
        let erasure: [Value<'_>; 3] =
            [(&row.id, Type::INT4), (&row.last_entry, Type::INT8), (&student.as_str(), Type::TEXT)];
        let sql = "INSERT INTO rollmark.erasures (school, entry, student, applied_at)
                   VALUES ($1, $2, $3, clock_timestamp())";
        transaction.execute_typed(sql, &erasure).await?;
        row.save(&transaction).await?;
        commit(transaction).await?;
        connection.give_back();
        Ok(places)
    }

    async fn prune_before(&self, school: &SchoolId, before: NaiveDate) -> Outcome<Pruned> {
        let Some(mut connection) = self.to_read().await? else { return Ok(Pruned::default()) };
        let transaction = connection.begin().await?;
        let Some(row) = SchoolRow::lock(&transaction, school.as_str()).await? else { return Ok(Pruned::default()) };
        let midnight = moment(before.and_time(NaiveTime::MIN).and_utc());
        let values: [Value<'_>; 2] = [(&row.id, Type::INT4), (&midnight, Type::TIMESTAMPTZ)];
        // The last change of a mark that was seen before midnight says what the store showed then. A change whose previous
        // change is gone has nothing before it.
        let changes = "
            WITH last AS (
                SELECT student, date, session, max(entry) AS entry
                FROM rollmark.changes
                WHERE school = $1 AND seen_at < $2
                GROUP BY student, date, session
            )
            DELETE FROM rollmark.changes c USING last
            WHERE c.school = $1 AND c.student = last.student AND c.date = last.date AND c.session = last.session
              AND (c.entry < last.entry OR c.entry = last.entry AND c.status IS NULL)";
        let changes = transaction.execute_typed(changes, &values).await?;
        let erasures = "DELETE FROM rollmark.erasures WHERE school = $1 AND applied_at < $2";
        transaction.execute_typed(erasures, &values).await?;
        let runs = "
            DELETE FROM rollmark.run_records
            WHERE school = $1 AND fetched_at < $2 AND number < $3
              AND number NOT IN (SELECT run FROM rollmark.changes WHERE school = $1)";
        let values: [Value<'_>; 3] =
            [(&row.id, Type::INT4), (&midnight, Type::TIMESTAMPTZ), (&row.last_run, Type::INT8)];
        let runs = transaction.execute_typed(runs, &values).await?;
        let withheld = "
            DELETE FROM rollmark.withheld_changes
            WHERE school = $1 AND run NOT IN (SELECT number FROM rollmark.run_records WHERE school = $1)";
        transaction.execute_typed(withheld, &[(&row.id, Type::INT4)]).await?;
        commit(transaction).await?;
        connection.give_back();
        Ok(Pruned::new(changes, runs))
    }

    async fn take_lease(&self, school: &SchoolId, ttl: Duration) -> Outcome<Option<LeaseToken>> {
        let connection = self.to_write().await?;
        let values: [Value<'_>; 2] = [(&school.as_str(), Type::TEXT), (&seconds(ttl), Type::FLOAT8)];
        let rows = connection.rows(ACQUIRE, &values).await?;
        rows.first().map(|row| Ok(LeaseToken::new(count(row.try_get(0)?)?))).transpose()
    }

    async fn extend_lease(&self, school: &SchoolId, token: LeaseToken, ttl: Duration) -> Outcome<()> {
        let lost = || StoreError::lease_lost().into();
        let connection = self.to_read().await?.ok_or_else(lost)?;
        let values: [Value<'_>; 3] =
            [(&school.as_str(), Type::TEXT), (&bigint(token.number()), Type::INT8), (&seconds(ttl), Type::FLOAT8)];
        if connection.execute(RENEW, &values).await? == 1 { Ok(()) } else { Err(lost()) }
    }

    async fn give_lease_back(&self, school: &SchoolId, token: LeaseToken) -> Outcome<()> {
        let Some(connection) = self.to_read().await? else { return Ok(()) };
        let values: [Value<'_>; 2] = [(&school.as_str(), Type::TEXT), (&bigint(token.number()), Type::INT8)];
        let sql = "UPDATE rollmark.leases SET ends_at = '-infinity' WHERE school = $1 AND token = $2";
        connection.execute(sql, &values).await?;
        Ok(())
    }
}

#[async_trait]
impl MarkStore for PostgresStore {
    async fn read(&self, school: &SchoolId, scope: &Scope) -> Result<Snapshot, StoreError> {
        Ok(self.read_snapshot(school, scope).await?)
    }

    async fn apply(&self, school: &SchoolId, changes: &ChangeSet) -> Result<u64, StoreError> {
        Ok(self.apply_changes(school, changes).await?)
    }

    async fn history(&self, school: &SchoolId, query: &HistoryQuery) -> Result<Vec<Change>, StoreError> {
        Ok(self.read_history(school, query).await?)
    }

    async fn changes(
        &self,
        school: &SchoolId,
        after: Option<ChangeCursor>,
        limit: usize,
    ) -> Result<Vec<FeedEntry>, StoreError> {
        Ok(self.read_feed(school, after, limit).await?)
    }

    async fn runs(&self, school: &SchoolId, query: &RunQuery) -> Result<Vec<Run>, StoreError> {
        Ok(self.read_runs(school, query).await?)
    }

    async fn last_covering_run(
        &self,
        school: &SchoolId,
        student: &StudentId,
        date: NaiveDate,
    ) -> Result<Option<Run>, StoreError> {
        Ok(self.find_covering_run(school, student, date).await?)
    }

    async fn withheld(&self, school: &SchoolId, run: u64) -> Result<Option<Vec<WithheldChange>>, StoreError> {
        Ok(self.read_withheld(school, run).await?)
    }

    async fn sessions_held(
        &self,
        school: &SchoolId,
        window: Window,
    ) -> Result<BTreeSet<(NaiveDate, Session)>, StoreError> {
        Ok(self.read_sessions_held(school, window).await?)
    }

    async fn erase(&self, school: &SchoolId, student: &StudentId) -> Result<u64, StoreError> {
        Ok(self.erase_student(school, student).await?)
    }

    async fn prune(&self, school: &SchoolId, before: NaiveDate) -> Result<Pruned, StoreError> {
        Ok(self.prune_before(school, before).await?)
    }

    async fn acquire_lease(&self, school: &SchoolId, ttl: Duration) -> Result<Option<LeaseToken>, StoreError> {
        Ok(self.take_lease(school, ttl).await?)
    }

    async fn renew_lease(&self, school: &SchoolId, token: LeaseToken, ttl: Duration) -> Result<(), StoreError> {
        Ok(self.extend_lease(school, token, ttl).await?)
    }

    async fn release_lease(&self, school: &SchoolId, token: LeaseToken) -> Result<(), StoreError> {
        Ok(self.give_lease_back(school, token).await?)
    }
}
