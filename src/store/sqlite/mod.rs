mod file;
mod migration;
mod rows;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use self::file::{Failure, Outcome, PATIENCE, patiently};
use self::rows::{ChangeRow, Place, SchoolRow, Texts};
use super::{
    Change, ChangeSet, LeaseToken, MarkKey, MarkStore, Run, Snapshot, StoreError, StoreErrorKind, StoredMark, Write,
};
use crate::model::SchoolId;
use crate::rules::Scope;

/// Marks, their history and the runs of any number of schools in one SQLite file. Clones share one connection; several
/// processes can use the file.
///
/// A commit is on the disk before [`apply`](MarkStore::apply) returns. The file belongs to this library; it has to lie on
/// a local disk, since network file systems do not keep SQLite's locks.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    path: PathBuf,
    connection: Arc<Mutex<Connection>>,
}

impl SqliteStore {
    /// Opens the file, and creates it if it is not there; its folder has to be there. A file that an older version wrote is
    /// brought up to this one. A new file and SQLite's companions of it can be read by their owner only (on Unix); of a file
    /// that is there the permissions stay, and its companions get the same.
    ///
    /// # Errors
    /// The file can't be reached, is damaged, another program's, or a newer version's. It is then as it was.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let connection = file::open(path).map_err(|failure| failure.told_of(path))?;
        Ok(Self::around(path, connection))
    }

    /// Opens the file to read only: it is neither created nor changed. Where nothing is there, in a folder that is, the
    /// store is empty.
    ///
    /// # Errors
    /// The file can't be reached, is damaged, another program's, or a newer version's.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let connection = file::open_read_only(path).map_err(|failure| failure.told_of(path))?;
        Ok(Self::around(path, connection))
    }

    fn around(path: &Path, connection: Connection) -> Self {
        Self { path: path.to_owned(), connection: Arc::new(Mutex::new(connection)) }
    }

    /// Does the work on a thread where waiting for the disk blocks nobody. The work goes on if the caller drops the call.
    async fn call<T: Send + 'static>(
        &self,
        mut work: impl FnMut(&mut Connection) -> Outcome<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.connection);
        let done = tokio::task::spawn_blocking(move || {
            // Between two tries the connection is free, so that a lease can be renewed. A transaction that a panic cut
            // short was rolled back when it was dropped.
            patiently(PATIENCE, || work(&mut shared.lock().unwrap_or_else(PoisonError::into_inner)))
        });
        let outcome = done.await.map_err(|_| {
            StoreError::new(
                StoreErrorKind::Failed,
                format!("the work on the store {} was interrupted", self.path.display()),
            )
        })?;
        outcome.map_err(|failure| failure.told_of(&self.path))
    }
}

fn count(number: i64) -> Outcome<u64> {
    u64::try_from(number).map_err(|_| Failure::Damaged)
}

/// Now, by the clock that all processes of a machine share.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis().try_into().unwrap_or(i64::MAX)
}

fn set_lease(transaction: &Transaction<'_>, school: &SchoolRow, length: Duration) -> Outcome<()> {
    let length_ms: i64 = length.as_millis().try_into().unwrap_or(i64::MAX);
    transaction.execute(
        "UPDATE schools SET lease_until_ms = ?2, lease_length_ms = ?3 WHERE id = ?1",
        params![school.id, now_ms().saturating_add(length_ms), length_ms],
    )?;
    Ok(())
}

/// Whether the token is the newest and had not run out when its holder asked. That the call then had to wait for other
/// programs takes nothing from anybody: another run that had taken the lease since would hold a newer token.
fn check_lease(transaction: &Transaction<'_>, school: &SchoolRow, token: LeaseToken, asked_ms: i64) -> Outcome<()> {
    let until: i64 =
        transaction.query_row("SELECT lease_until_ms FROM schools WHERE id = ?1", [school.id], |row| row.get(0))?;
    let is_held = i64::try_from(token.0) == Ok(school.lease_token) && asked_ms < until;
    if is_held { Ok(()) } else { Err(StoreError::lease_lost().into()) }
}

fn read_snapshot(connection: &mut Connection, school: &SchoolId, scope: &Scope) -> Outcome<Snapshot> {
    // One transaction, so that the revision and the marks are of one moment.
    let transaction = connection.transaction()?;
    let Some(school) = SchoolRow::find(&transaction, school)? else { return Ok(Snapshot::default()) };
    let texts = Texts::read(&transaction)?;
    let mut marks = Vec::new();
    let (from, to) = (rows::date_text(scope.window().from()), rows::date_text(scope.window().to()));
    rows::each(
        &transaction,
        "SELECT marks.school, date, student, session, change, marks.checksum,
                changes.id, previous, run, seen_at, mark, code_name, changes.checksum
         FROM marks LEFT JOIN changes ON changes.id = marks.change
         WHERE marks.school = ?1 AND date BETWEEN ?2 AND ?3",
        params![school.id, from, to],
        |row| {
            let place = Place::checked(row)?;
            if scope.students().is_some() && !scope.has_student(&place.student.as_str().into()) {
                return Ok(());
            }
            let change = ChangeRow::of(row, 6, &place)?;
            if let Some(mark) = change.mark(&place, &texts)? {
                marks.push(StoredMark { mark, fetched_at: change.seen_at()? });
            }
            Ok(())
        },
    )?;
    marks.sort_by(|a, b| a.mark.key().cmp(&b.mark.key()));
    Ok(Snapshot { revision: count(school.revision)?, marks })
}

fn apply(connection: &mut Connection, school: &SchoolId, changes: &ChangeSet, asked_ms: i64) -> Outcome<u64> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut school = SchoolRow::find_or_add(&transaction, school)?;
    if let Some(token) = changes.lease {
        check_lease(&transaction, &school, token, asked_ms)?;
    }
    if count(school.revision)? != changes.revision {
        return Err(StoreError::moved().into());
    }
    let last: Option<i64> =
        transaction.query_row("SELECT max(number) FROM runs WHERE school = ?1", [school.id], |row| row.get(0))?;
    let number = last.unwrap_or(0) + 1;
    school.revision += i64::from(write_changes(&transaction, school.id, number, changes)?);
    let run = Run { number: count(number)?, ..changes.run.clone() };
    rows::add_run(&transaction, school.id, number, &serde_json::to_string(&run)?)?;
    school.save(&transaction)?;
    transaction.commit()?;
    Ok(run.number)
}

/// Whether anything has changed.
fn write_changes(transaction: &Transaction<'_>, school: i64, run: i64, changes: &ChangeSet) -> Outcome<bool> {
    let mut texts = Texts::read(transaction)?;
    let first = rows::next_change(transaction)?;
    let mut next = first;
    let seen_at = changes.run.freshness.fetched_at.to_rfc3339();
    for write in &changes.writes {
        let place = Place::new(school, &write.key());
        let previous = place.last_change(transaction)?;
        let before = match previous {
            Some(id) => ChangeRow::read(transaction, &place, id)?.mark(&place, &texts)?,
            None => None,
        };
        let after = match write {
            Write::Put(mark) => Some(mark),
            Write::Remove(_) => None,
        };
        match (&before, after) {
            (None, None) => continue,
            (Some(before), Some(after)) if before.same_content(after) => continue,
            _ => {}
        }
        let mark = after.map(|mark| &**mark);
        rows::add_change(transaction, &mut texts, &place, (next, previous), (run, &seen_at), mark)?;
        place.point_at(transaction, next)?;
        next += 1;
    }
    Ok(next > first)
}

fn read_history(connection: &mut Connection, school: &SchoolId, key: &MarkKey) -> Outcome<Vec<Change>> {
    let transaction = connection.transaction()?;
    let Some(school) = SchoolRow::find(&transaction, school)? else { return Ok(Vec::new()) };
    let texts = Texts::read(&transaction)?;
    let place = Place::new(school.id, key);
    let mut next = place.last_change(&transaction)?;
    let mut history: Vec<Change> = Vec::new();
    while let Some(id) = next {
        let change = ChangeRow::read(&transaction, &place, id)?;
        let after = change.mark(&place, &texts)?;
        if let Some(later) = history.last_mut() {
            later.before = after.clone();
        }
        history.push(Change { run: count(change.run)?, seen_at: change.seen_at()?, before: None, after });
        next = change.previous;
    }
    history.reverse();
    Ok(history)
}

fn read_runs(connection: &mut Connection, school: &SchoolId) -> Outcome<Vec<Run>> {
    let transaction = connection.transaction()?;
    let Some(school) = SchoolRow::find(&transaction, school)? else { return Ok(Vec::new()) };
    rows::read_runs(&transaction, school.id)
}

fn acquire_lease(connection: &mut Connection, school: &SchoolId, ttl: Duration) -> Outcome<Option<LeaseToken>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut school = SchoolRow::find_or_add(&transaction, school)?;
    let (until, length): (i64, i64) = transaction.query_row(
        "SELECT lease_until_ms, lease_length_ms FROM schools WHERE id = ?1",
        [school.id],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    // One that ends later than its length from now was written before the clock was set back.
    let left = until.saturating_sub(now_ms());
    if left > 0 && left <= length {
        return Ok(None);
    }
    school.lease_token += 1;
    school.save(&transaction)?;
    set_lease(&transaction, &school, ttl)?;
    transaction.commit()?;
    Ok(Some(LeaseToken(count(school.lease_token)?)))
}

#[async_trait]
impl MarkStore for SqliteStore {
    async fn read(&self, school: &SchoolId, scope: &Scope) -> Result<Snapshot, StoreError> {
        let (school, scope) = (school.clone(), scope.clone());
        self.call(move |connection| read_snapshot(connection, &school, &scope)).await
    }

    async fn apply(&self, school: &SchoolId, changes: &ChangeSet) -> Result<u64, StoreError> {
        let (school, changes, asked_ms) = (school.clone(), changes.clone(), now_ms());
        self.call(move |connection| apply(connection, &school, &changes, asked_ms)).await
    }

    async fn history(&self, school: &SchoolId, key: &MarkKey) -> Result<Vec<Change>, StoreError> {
        let (school, key) = (school.clone(), key.clone());
        self.call(move |connection| read_history(connection, &school, &key)).await
    }

    async fn runs(&self, school: &SchoolId) -> Result<Vec<Run>, StoreError> {
        let school = school.clone();
        self.call(move |connection| read_runs(connection, &school)).await
    }

    async fn acquire_lease(&self, school: &SchoolId, ttl: Duration) -> Result<Option<LeaseToken>, StoreError> {
        let school = school.clone();
        self.call(move |connection| acquire_lease(connection, &school, ttl)).await
    }

    async fn renew_lease(&self, school: &SchoolId, token: LeaseToken, ttl: Duration) -> Result<(), StoreError> {
        let (school, asked_ms) = (school.clone(), now_ms());
        self.call(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let school = SchoolRow::find_or_add(&transaction, &school)?;
            check_lease(&transaction, &school, token, asked_ms)?;
            set_lease(&transaction, &school, ttl)?;
            Ok(transaction.commit()?)
        })
        .await
    }

    async fn release_lease(&self, school: &SchoolId, token: LeaseToken) -> Result<(), StoreError> {
        let (school, token) = (school.clone(), i64::try_from(token.0).unwrap_or(i64::MAX));
        self.call(move |connection| {
            connection.execute(
                "UPDATE schools SET lease_until_ms = 0 WHERE name = ?1 AND lease_token = ?2",
                params![school.as_str(), token],
            )?;
            Ok(())
        })
        .await
    }
}
