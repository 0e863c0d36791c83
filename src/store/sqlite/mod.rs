mod failure;
mod file;
mod migration;
mod rows;
mod schema;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use self::failure::{Failure, Outcome};
use self::file::{PATIENCE, patiently};
use self::rows::{ChangeRow, ChangeTimes, ErasureRow, Place, SchoolRow, Texts, count};
use super::{
    Change, ChangeCursor, ChangeSet, FeedEntry, HistoryQuery, LeaseToken, MarkStore, Pruned, Run, RunQuery, Snapshot,
    StoreError, StoreErrorKind, WithheldChange,
};
use crate::model::{SchoolId, StudentId};
use crate::rules::Scope;

/// Keeps marks, their history and the runs of any number of schools in one SQLite file. Clones share one connection; several
/// processes can use the file.
///
/// A commit is on the disk before [`apply`](MarkStore::apply) returns. The file belongs to this library. It must lie on a
/// local disk, because network file systems do not keep SQLite's locks. Data that [`erase`](MarkStore::erase) and
/// [`prune`](MarkStore::prune) delete is overwritten, in the file and in its log.
///
/// # Cost
/// Opening a file reads every row. With 93,000 marks, a first load takes 1.4 times as long as plain inserts of the same
/// columns, and one student's month is read in less than a millisecond (`cargo bench --bench store --all-features`).
///
/// ```
/// use rollmark::store::SqliteStore;
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("marks.db");
/// let store = SqliteStore::open(path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct SqliteStore {
    path: PathBuf,
    connection: Arc<Mutex<Connection>>,
    is_read_only: bool,
}

impl SqliteStore {
    /// Opens the file and creates it if needed; its folder must exist. A file from an older version is upgraded. On Unix,
    /// only the owner can read a new file; an existing file keeps its permissions. SQLite's companion files have the
    /// permissions of the file.
    ///
    /// # Errors
    /// The file can't be reached, is damaged, or belongs to another program or a newer version. It is left as it was.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let connection = file::open(path).map_err(|failure| failure.told_of(path))?;
        Ok(Self::around(path, connection, false))
    }

    /// Opens the file for reading only: it is neither created nor changed. If the file does not exist but its folder does,
    /// the store is empty.
    ///
    /// # Errors
    /// The file can't be reached, is damaged, or belongs to another program or a newer version.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let connection = file::open_read_only(path).map_err(|failure| failure.told_of(path))?;
        Ok(Self::around(path, connection, true))
    }

    /// The same file with a separate connection, so that neither store waits for the other's work. The rows of the file are not
    /// all read again, which takes most of the time of opening a file with many schools. A store that was opened for reading
    /// only shares its connection.
    ///
    /// # Errors
    /// The file can't be reached any more.
    pub fn with_own_connection(&self) -> Result<Self, StoreError> {
        if self.is_read_only {
            return Ok(self.clone());
        }
        let connection = file::open_again(&self.path).map_err(|failure| failure.told_of(&self.path))?;
        Ok(Self::around(&self.path, connection, false))
    }

    fn around(path: &Path, connection: Connection, is_read_only: bool) -> Self {
        Self { path: path.to_owned(), connection: Arc::new(Mutex::new(connection)), is_read_only }
    }

    /// Does the work on a thread where waiting for the disk blocks no other task. The work goes on if the caller drops the
    /// call.
    async fn call<T: Send + 'static>(
        &self,
        mut work: impl FnMut(&mut Connection) -> Outcome<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.connection);
        let done = tokio::task::spawn_blocking(move || {
            // Between two tries the connection is free, so that a lease can be renewed. A transaction that a panic
            // interrupted was rolled back when it was dropped.
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

/// The current time, by the clock that all processes of a machine share.
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

/// Checks that the token is the newest and had not run out when its holder asked. It does no harm that the call then waited
/// for other programs: another run that had taken the lease since would hold a newer token.
fn check_lease(transaction: &Transaction<'_>, school: &SchoolRow, token: LeaseToken, asked_ms: i64) -> Outcome<()> {
    let until: i64 =
        transaction.query_row("SELECT lease_until_ms FROM schools WHERE id = ?1", [school.id], |row| row.get(0))?;
    let is_held = i64::try_from(token.number()) == Ok(school.lease_token) && asked_ms < until;
    if is_held { Ok(()) } else { Err(StoreError::lease_lost().into()) }
}

fn read_snapshot(connection: &mut Connection, school: &SchoolId, scope: &Scope) -> Outcome<Snapshot> {
    // One transaction, so that the revision and the marks are from the same moment.
    let transaction = connection.transaction()?;
    let Some(school) = SchoolRow::find(&transaction, school)? else { return Ok(Snapshot::default()) };
    let texts = Texts::read(&transaction)?;
    let mut marks = Vec::new();
    // A mark's row and its change's row name the same place, or one of them is damaged.
    let is_placed = "changes.id = marks.change AND changes.school = marks.school AND changes.date = marks.date
         AND changes.student = marks.student AND changes.session = marks.session";
    let joined = format!("LEFT JOIN changes ON {is_placed}");
    rows::each_in_scope(&transaction, "changes.*, marks.*", &joined, school.id, scope, |row| {
        marks.extend(rows::stored_mark(row, &texts)?);
        Ok(())
    })?;
    Ok(Snapshot::new(count(school.revision)?, marks))
}

fn apply(connection: &mut Connection, school: &SchoolId, changes: &ChangeSet, asked_ms: i64) -> Outcome<u64> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut school = SchoolRow::find_or_add(&transaction, school)?;
    if let Some(token) = changes.lease() {
        check_lease(&transaction, &school, token, asked_ms)?;
    }
    if count(school.revision)? != changes.revision() {
        return Err(StoreError::moved().into());
    }
    let last: Option<i64> =
        transaction.query_row("SELECT max(number) FROM runs WHERE school = ?1", [school.id], |row| row.get(0))?;
    let number = last.unwrap_or(0) + 1;
    if let Some(last_change) = write_changes(&transaction, &school, number, changes)? {
        school.last_change = last_change;
        school.revision += 1;
    }
    let run = changes.run().clone().with_number(count(number)?);
    rows::save_run(&transaction, school.id, number, &run)?;
    if !changes.withheld().is_empty() {
        rows::save_withheld(&transaction, school.id, number, changes.withheld())?;
        rows::trim_withheld(&transaction, school.id)?;
    }
    school.save(&transaction)?;
    transaction.commit()?;
    Ok(run.number)
}

/// The last change's id, if anything has changed.
fn write_changes(
    transaction: &Transaction<'_>,
    school: &SchoolRow,
    run: i64,
    changes: &ChangeSet,
) -> Outcome<Option<i64>> {
    let mut texts = Texts::read(transaction)?;
    let mut id = rows::next_change(transaction)?;
    let mut last = None;
    let freshness = changes.run().freshness;
    let times = ChangeTimes {
        seen_at: freshness.fetched_at,
        as_of_earliest: freshness.as_of_earliest(),
        applied_at: Utc::now(),
    };
    for write in changes.writes() {
        let place = Place::new(school.id, &write.key());
        // A school that was never written has no marks to compare with.
        let previous = if school.last_change == 0 { None } else { place.last_change(transaction)? };
        let before = match previous {
            Some(id) => ChangeRow::read(transaction, &texts, &place, id)?.content,
            None => None,
        };
        let mark = write.after();
        let content = mark.map(|mark| mark.content());
        match (&before, &content) {
            (None, None) => continue,
            (Some(before), Some(after)) if before.same_content(after) => continue,
            _ => {}
        }
        place.point_at(transaction, id)?;
        let change = ChangeRow { id, place, previous, run, times, content };
        change.add(transaction, &mut texts, mark.map(|mark| &mark.decision))?;
        last = Some(id);
        id += 1;
    }
    Ok(last)
}

fn read_history(connection: &mut Connection, school: &SchoolId, query: &HistoryQuery) -> Outcome<Vec<Change>> {
    let transaction = connection.transaction()?;
    let Some(school) = SchoolRow::find(&transaction, school)? else { return Ok(Vec::new()) };
    let texts = Texts::read(&transaction)?;
    let mut history = Vec::new();
    rows::each_in_scope(&transaction, "marks.*", "", school.id, query.scope(), |row| {
        let (place, last) = Place::checked(row)?;
        if !query.contains(&place.key()?) {
            return Ok(());
        }
        let mut before = None;
        for change in ChangeRow::chain(&transaction, &texts, &place, last)?.into_iter().rev() {
            let content = change.content.clone();
            history.push(change.told(&transaction, before)?);
            before = content;
        }
        Ok(())
    })?;
    history.sort_by_key(|change| change.cursor);
    Ok(history)
}

fn read_changes(
    connection: &mut Connection,
    school: &SchoolId,
    after: Option<ChangeCursor>,
    limit: usize,
) -> Outcome<Vec<FeedEntry>> {
    let transaction = connection.transaction()?;
    let Some(school) = SchoolRow::find(&transaction, school)? else { return Ok(Vec::new()) };
    let texts = Texts::read(&transaction)?;
    let after = after.map_or(0, |cursor| i64::try_from(cursor.number()).unwrap_or(i64::MAX));
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut entries = Vec::new();
    let sql = "SELECT * FROM changes WHERE school = ?1 AND id > ?2 ORDER BY id LIMIT ?3";
    rows::each(&transaction, sql, [school.id, after, most], |row| {
        let change = ChangeRow::of(row, &texts)?;
        let before = match change.previous {
            Some(id) => ChangeRow::read(&transaction, &texts, &change.place, id)?.content,
            None => None,
        };
        entries.push(FeedEntry::Changed(change.told(&transaction, before)?));
        Ok(())
    })?;
    for erasure in ErasureRow::read(&transaction, school.id, after, most)? {
        entries.push(erasure.told()?);
    }
    entries.sort_by_key(FeedEntry::cursor);
    entries.truncate(limit);
    Ok(entries)
}

fn read_runs(connection: &mut Connection, school: &SchoolId, query: &RunQuery) -> Outcome<Vec<Run>> {
    let transaction = connection.transaction()?;
    let Some(school) = SchoolRow::find(&transaction, school)? else { return Ok(Vec::new()) };
    rows::read_runs(&transaction, school.id, query)
}

fn last_covering_run(
    connection: &mut Connection,
    school: &SchoolId,
    student: &StudentId,
    date: NaiveDate,
) -> Outcome<Option<Run>> {
    let transaction = connection.transaction()?;
    let Some(school) = SchoolRow::find(&transaction, school)? else { return Ok(None) };
    Ok(rows::newest_runs(&transaction, school.id, 1, |run| run.scope.contains(student, date))?.pop())
}

fn read_withheld(connection: &mut Connection, school: &SchoolId, run: u64) -> Outcome<Option<Vec<WithheldChange>>> {
    let transaction = connection.transaction()?;
    let Some(school) = SchoolRow::find(&transaction, school)? else { return Ok(None) };
    let Ok(number) = i64::try_from(run) else { return Ok(None) };
    if let Some(withheld) = rows::read_withheld(&transaction, school.id, number)? {
        return Ok(Some(withheld));
    }
    let run = rows::read_run(&transaction, school.id, number)?;
    Ok(run.filter(|run| !run.withheld_any()).map(|_| Vec::new()))
}

fn erase(connection: &mut Connection, school: &SchoolId, student: &StudentId) -> Outcome<u64> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut school = SchoolRow::find_or_add(&transaction, school)?;
    let whose = params![school.id, student.as_str()];
    transaction.execute(
        "DELETE FROM decisions WHERE change IN (SELECT id FROM changes WHERE school = ?1 AND student = ?2)",
        whose,
    )?;
    transaction.execute("DELETE FROM changes WHERE school = ?1 AND student = ?2", whose)?;
    transaction.execute("DELETE FROM erasures WHERE school = ?1 AND student = ?2", whose)?;
    let places = transaction.execute("DELETE FROM marks WHERE school = ?1 AND student = ?2", whose)?;
    for run in rows::read_runs(&transaction, school.id, &RunQuery::all())? {
        let number = i64::try_from(run.number).map_err(|_| Failure::Damaged)?;
        rows::save_run(&transaction, school.id, number, &run.without_student(student))?;
    }
    for run in rows::runs_with_withheld(&transaction, school.id)? {
        let mut withheld = rows::read_withheld(&transaction, school.id, run)?.unwrap_or_default();
        withheld.retain(|change| change.key.student != *student);
        rows::save_withheld(&transaction, school.id, run, &withheld)?;
    }
    school.last_change = rows::next_change(&transaction)?;
    school.revision += 1;
    let erasure = ErasureRow {
        id: school.last_change,
        school: school.id,
        student: student.as_str().to_owned(),
        applied_at: Utc::now().to_rfc3339(),
    };
    erasure.add(&transaction)?;
    school.save(&transaction)?;
    transaction.commit()?;
    Ok(places as u64)
}

fn prune(connection: &mut Connection, school: &SchoolId, midnight: DateTime<Utc>) -> Outcome<Pruned> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let Some(school) = SchoolRow::find(&transaction, school)? else { return Ok(Pruned::default()) };
    let mut places = Vec::new();
    let sql = "SELECT * FROM marks WHERE school = ?1";
    rows::each(&transaction, sql, [school.id], |row| {
        places.push(Place::checked(row)?);
        Ok(())
    })?;
    let mut texts = Texts::read(&transaction)?;
    let mut pruned = Pruned::default();
    for (place, last) in places {
        pruned.changes += prune_mark(&transaction, &mut texts, &place, last, midnight)?;
    }
    for erasure in ErasureRow::read(&transaction, school.id, 0, i64::MAX)? {
        if erasure.applied_at()? < midnight {
            transaction.execute("DELETE FROM erasures WHERE id = ?1", [erasure.id])?;
        }
    }
    let mut needed = BTreeSet::new();
    rows::each(&transaction, "SELECT DISTINCT run FROM changes WHERE school = ?1", [school.id], |row| {
        needed.insert(count(row.get(0)?)?);
        Ok(())
    })?;
    let runs = rows::read_runs(&transaction, school.id, &RunQuery::all())?;
    needed.extend(runs.last().map(|newest| newest.number));
    for run in runs {
        if run.freshness.fetched_at < midnight && !needed.contains(&run.number) {
            let number = i64::try_from(run.number).map_err(|_| Failure::Damaged)?;
            transaction.execute("DELETE FROM runs WHERE school = ?1 AND number = ?2", [school.id, number])?;
            transaction.execute("DELETE FROM withheld WHERE school = ?1 AND run = ?2", [school.id, number])?;
            pruned.runs += 1;
        }
    }
    transaction.commit()?;
    Ok(pruned)
}

/// Deletes the changes before the one that says what the store showed at midnight, and that one too if it is a removal.
fn prune_mark(
    transaction: &Transaction<'_>,
    texts: &mut Texts,
    place: &Place,
    last: i64,
    midnight: DateTime<Utc>,
) -> Outcome<u64> {
    let mut first = None;
    let mut gone = Vec::new();
    let mut is_over = false;
    for change in ChangeRow::chain(transaction, texts, place, last)? {
        let is_shown = !is_over && (change.times.seen_at >= midnight || change.content.is_some());
        is_over = is_over || change.times.seen_at < midnight;
        if is_shown {
            first = Some(change);
        } else {
            gone.push(change);
        }
    }
    if gone.is_empty() {
        return Ok(0);
    }
    for change in &gone {
        change.delete(transaction)?;
    }
    match &mut first {
        Some(first) => first.begin_here(transaction, texts)?,
        None => place.delete(transaction)?,
    }
    Ok(gone.len() as u64)
}

fn acquire_lease(connection: &mut Connection, school: &SchoolId, ttl: Duration) -> Outcome<Option<LeaseToken>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut school = SchoolRow::find_or_add(&transaction, school)?;
    let (until, length): (i64, i64) = transaction.query_row(
        "SELECT lease_until_ms, lease_length_ms FROM schools WHERE id = ?1",
        [school.id],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    // A lease that ends later than its length from now was written before the clock was set back.
    let left = until.saturating_sub(now_ms());
    if left > 0 && left <= length {
        return Ok(None);
    }
    school.lease_token += 1;
    school.save(&transaction)?;
    set_lease(&transaction, &school, ttl)?;
    transaction.commit()?;
    Ok(Some(LeaseToken::new(count(school.lease_token)?)))
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

    async fn history(&self, school: &SchoolId, query: &HistoryQuery) -> Result<Vec<Change>, StoreError> {
        let (school, query) = (school.clone(), query.clone());
        self.call(move |connection| read_history(connection, &school, &query)).await
    }

    async fn changes(
        &self,
        school: &SchoolId,
        after: Option<ChangeCursor>,
        limit: usize,
    ) -> Result<Vec<FeedEntry>, StoreError> {
        let school = school.clone();
        self.call(move |connection| read_changes(connection, &school, after, limit)).await
    }

    async fn runs(&self, school: &SchoolId, query: &RunQuery) -> Result<Vec<Run>, StoreError> {
        let (school, query) = (school.clone(), query.clone());
        self.call(move |connection| read_runs(connection, &school, &query)).await
    }

    async fn last_covering_run(
        &self,
        school: &SchoolId,
        student: &StudentId,
        date: NaiveDate,
    ) -> Result<Option<Run>, StoreError> {
        let (school, student) = (school.clone(), student.clone());
        self.call(move |connection| last_covering_run(connection, &school, &student, date)).await
    }

    async fn withheld(&self, school: &SchoolId, run: u64) -> Result<Option<Vec<WithheldChange>>, StoreError> {
        let school = school.clone();
        self.call(move |connection| read_withheld(connection, &school, run)).await
    }

    async fn erase(&self, school: &SchoolId, student: &StudentId) -> Result<u64, StoreError> {
        let (school, student) = (school.clone(), student.clone());
        let places = self.call(move |connection| erase(connection, &school, &student)).await?;
        self.call(|connection| file::empty_log(connection)).await?;
        Ok(places)
    }

    async fn prune(&self, school: &SchoolId, before: NaiveDate) -> Result<Pruned, StoreError> {
        let (school, midnight) = (school.clone(), before.and_time(NaiveTime::MIN).and_utc());
        let pruned = self.call(move |connection| prune(connection, &school, midnight)).await?;
        self.call(|connection| file::empty_log(connection)).await?;
        Ok(pruned)
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
        let (school, token) = (school.clone(), i64::try_from(token.number()).unwrap_or(i64::MAX));
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
