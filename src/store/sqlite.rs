use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};

use super::{
    Change, ChangeSet, LeaseToken, MarkKey, MarkStore, Run, Snapshot, StoreError, StoreErrorKind, StoredMark, Write,
};
use crate::model::{Mark, SchoolId, Session};
use crate::rules::Scope;

/// «roll» in ASCII: tells our files from other programs' databases.
const APPLICATION_ID: i32 = 0x726F_6C6C;
const VERSION: i32 = 1;
/// How long a call waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// A lease that ends later than this from now was written before the clock was set back, and must not hold up the school.
const LONGEST_LEASE_MS: i64 = 3_600_000;

/// Every change is kept with what it made of a mark, and points at the change before it; a mark's row points at its last
/// change. So a mark is written once, and its history needs no index.
const SCHEMA: &str = "
    CREATE TABLE schools (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        revision INTEGER NOT NULL DEFAULT 0,
        lease_token INTEGER NOT NULL DEFAULT 0,
        lease_until_ms INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE changes (
        id INTEGER PRIMARY KEY,
        previous INTEGER,
        run INTEGER NOT NULL,
        seen_at TEXT NOT NULL,
        mark TEXT
    );
    CREATE TABLE marks (
        school INTEGER NOT NULL,
        date TEXT NOT NULL,
        student TEXT NOT NULL,
        session TEXT NOT NULL,
        change INTEGER NOT NULL,
        PRIMARY KEY (school, date, student, session)
    ) WITHOUT ROWID;
    CREATE TABLE runs (
        school INTEGER NOT NULL,
        number INTEGER NOT NULL,
        run TEXT NOT NULL,
        PRIMARY KEY (school, number)
    ) WITHOUT ROWID;
";

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

/// What goes wrong inside, before it is told with the file's name.
enum Failure {
    Sqlite(rusqlite::Error),
    Store(StoreError),
    Unreadable,
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(_: serde_json::Error) -> Self {
        Self::Unreadable
    }
}

impl From<chrono::ParseError> for Failure {
    fn from(_: chrono::ParseError) -> Self {
        Self::Unreadable
    }
}

type Outcome<T> = Result<T, Failure>;

fn described(path: &Path, failure: Failure) -> StoreError {
    let damaged = (StoreErrorKind::Damaged, "is damaged or is no SQLite file; restore it from a copy");
    let (kind, what) = match failure {
        Failure::Store(error) => return error,
        Failure::Unreadable => damaged,
        Failure::Sqlite(error) => match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                (StoreErrorKind::Busy, "is kept busy by another program; try again")
            }
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                (StoreErrorKind::ReadOnly, "can't be written; check its rights and its folder's")
            }
            Some(ErrorCode::DiskFull) => (StoreErrorKind::Full, "can't grow, the disk is full; nothing was written"),
            Some(ErrorCode::SystemIoFailure) => (
                StoreErrorKind::Failed,
                "can't be read or written by this machine (is the disk full?); nothing was written",
            ),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged,
            Some(ErrorCode::CannotOpen) => {
                (StoreErrorKind::CannotOpen, "can't be opened; check the path and the rights")
            }
            _ => (StoreErrorKind::Failed, "has failed; nothing was written"),
        },
    };
    StoreError::new(kind, format!("the store {} {what}", path.display()))
}

impl SqliteStore {
    /// Opens the file, and creates it if it is not there; its folder has to be there.
    ///
    /// # Errors
    /// The folder is missing, the file is damaged, another program's, or a newer version's. The file is then as it was.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
            let message = format!("the folder {} is not there; create it first", folder.display());
            return Err(StoreError::new(StoreErrorKind::CannotOpen, message));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Self::connect(path, flags)
            .and_then(|mut connection| {
                prepare(&mut connection, path)?;
                Ok(Self::around(path, connection))
            })
            .map_err(|failure| described(path, failure))
    }

    /// Opens the file to read only: it is neither created nor changed. A file that is not there is an empty store.
    ///
    /// # Errors
    /// The file is damaged, another program's, or a newer version's.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let open = || -> Outcome<Connection> {
            if path.exists() {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let connection = Self::connect(path, flags)?;
                if check(&connection, path)? {
                    return Ok(connection);
                }
            }
            let empty = Connection::open_in_memory()?;
            empty.execute_batch(SCHEMA)?;
            Ok(empty)
        };
        open().map(|connection| Self::around(path, connection)).map_err(|failure| described(path, failure))
    }

    fn connect(path: &Path, flags: OpenFlags) -> Outcome<Connection> {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        Ok(connection)
    }

    fn around(path: &Path, connection: Connection) -> Self {
        Self { path: path.to_owned(), connection: Arc::new(Mutex::new(connection)) }
    }

    /// Does the work on a thread where waiting for the disk blocks nobody. The work goes on if the caller drops the call.
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Outcome<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.connection);
        let done = tokio::task::spawn_blocking(move || {
            // A transaction that a panic cut short was rolled back when it was dropped.
            work(&mut shared.lock().unwrap_or_else(PoisonError::into_inner))
        });
        let outcome = done.await.map_err(|_| {
            StoreError::new(
                StoreErrorKind::Failed,
                format!("the store {} was stopped at its work", self.path.display()),
            )
        })?;
        outcome.map_err(|failure| described(&self.path, failure))
    }
}

/// Whether the file is one of ours (`true`) or still empty.
fn check(connection: &Connection, path: &Path) -> Outcome<bool> {
    let application: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
    if application == 0 && version == 0 && tables == 0 {
        return Ok(false);
    }
    let refused = |kind, what| Err(StoreError::new(kind, format!("the store {} {what}", path.display())).into());
    if application != APPLICATION_ID {
        return refused(StoreErrorKind::CannotOpen, "is another program's database; choose another file");
    }
    if version > VERSION {
        return refused(StoreErrorKind::NewerVersion, "was written by a newer version; update this program");
    }
    let sound: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if sound == "ok" { Ok(true) } else { Err(Failure::Unreadable) }
}

fn prepare(connection: &mut Connection, path: &Path) -> Outcome<()> {
    if !check(connection, path)? {
        // Readers do not wait for a writer, and the writer not for them.
        connection.pragma_update(None, "journal_mode", "WAL")?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another process may have been faster.
        if !check(&transaction, path)? {
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
        }
        transaction.commit()?;
    }
    // What is committed survives a loss of power too.
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(())
}

fn school_id(connection: &Connection, school: &SchoolId) -> Outcome<Option<i64>> {
    let mut statement = connection.prepare_cached("SELECT id FROM schools WHERE name = ?1")?;
    Ok(statement.query_row([school.as_str()], |row| row.get(0)).optional()?)
}

fn school_id_or_new(transaction: &Transaction<'_>, school: &SchoolId) -> Outcome<i64> {
    transaction.execute("INSERT INTO schools (name) VALUES (?1) ON CONFLICT DO NOTHING", [school.as_str()])?;
    school_id(transaction, school)?.ok_or(Failure::Unreadable)
}

fn read_time(text: &str) -> Outcome<DateTime<Utc>> {
    Ok(DateTime::parse_from_rfc3339(text)?.to_utc())
}

fn read_mark(text: Option<String>) -> Outcome<Option<Arc<Mark>>> {
    Ok(text.map(|text| serde_json::from_str(&text)).transpose()?.map(Arc::new))
}

/// A date as it sorts; the text of years from 1 to 9999 does.
fn date_text(date: NaiveDate) -> String {
    use chrono::Datelike;
    date.with_year(date.year().clamp(1, 9999)).unwrap_or(date).to_string()
}

/// Now, by the clock that all processes of a machine share.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis().try_into().unwrap_or(i64::MAX)
}

fn until_ms(ttl: Duration) -> i64 {
    now_ms().saturating_add(ttl.as_millis().try_into().unwrap_or(i64::MAX))
}

fn check_lease(transaction: &Transaction<'_>, school: i64, token: LeaseToken) -> Outcome<()> {
    let (newest, until): (i64, i64) =
        transaction.query_row("SELECT lease_token, lease_until_ms FROM schools WHERE id = ?1", [school], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    let is_held = i64::try_from(token.0) == Ok(newest) && now_ms() < until;
    if is_held { Ok(()) } else { Err(StoreError::lease_lost().into()) }
}

fn read_snapshot(connection: &mut Connection, school: &SchoolId, scope: &Scope) -> Outcome<Snapshot> {
    // One transaction, so that the revision and the marks are of one moment.
    let transaction = connection.transaction()?;
    let Some(id) = school_id(&transaction, school)? else { return Ok(Snapshot::default()) };
    let revision: i64 = transaction.query_row("SELECT revision FROM schools WHERE id = ?1", [id], |row| row.get(0))?;
    let mut marks = Vec::new();
    let mut statement = transaction.prepare_cached(
        "SELECT marks.student, changes.seen_at, changes.mark FROM marks JOIN changes ON changes.id = marks.change
         WHERE marks.school = ?1 AND marks.date BETWEEN ?2 AND ?3",
    )?;
    let mut rows = statement.query(params![id, date_text(scope.window.from()), date_text(scope.window.to())])?;
    while let Some(row) = rows.next()? {
        let student = row.get_ref(0)?.as_str().map_err(|_| Failure::Unreadable)?;
        if scope.students.is_some() && !scope.has_student(&student.into()) {
            continue;
        }
        let Some(mark) = row.get_ref(2)?.as_str_or_null().map_err(|_| Failure::Unreadable)? else { continue };
        let mark: Arc<Mark> = Arc::new(serde_json::from_str(mark)?);
        let fetched_at = read_time(row.get_ref(1)?.as_str().map_err(|_| Failure::Unreadable)?)?;
        marks.push(StoredMark { mark, fetched_at });
    }
    marks.sort_by(|a, b| a.mark.key().cmp(&b.mark.key()));
    Ok(Snapshot { revision: u64::try_from(revision).map_err(|_| Failure::Unreadable)?, marks })
}

fn apply(connection: &mut Connection, school: &SchoolId, changes: &ChangeSet) -> Outcome<u64> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let id = school_id_or_new(&transaction, school)?;
    if let Some(token) = changes.lease {
        check_lease(&transaction, id, token)?;
    }
    let revision: i64 = transaction.query_row("SELECT revision FROM schools WHERE id = ?1", [id], |row| row.get(0))?;
    if u64::try_from(revision) != Ok(changes.revision) {
        return Err(StoreError::moved().into());
    }
    let number: i64 =
        transaction
            .query_row("SELECT coalesce(max(number), 0) + 1 FROM runs WHERE school = ?1", [id], |row| row.get(0))?;
    let changed = write_changes(&transaction, id, number, changes)?;
    let number = u64::try_from(number).map_err(|_| Failure::Unreadable)?;
    let run = serde_json::to_string(&Run { number, ..changes.run.clone() })?;
    transaction
        .execute("INSERT INTO runs (school, number, run) VALUES (?1, ?2, ?3)", params![id, number as i64, run])?;
    transaction
        .execute("UPDATE schools SET revision = revision + ?2 WHERE id = ?1", params![id, i64::from(changed)])?;
    transaction.commit()?;
    Ok(number)
}

/// Whether anything has changed.
fn write_changes(transaction: &Transaction<'_>, school: i64, run: i64, changes: &ChangeSet) -> Outcome<bool> {
    let mut find = transaction.prepare_cached(
        "SELECT marks.change, changes.mark FROM marks JOIN changes ON changes.id = marks.change
         WHERE school = ?1 AND date = ?2 AND student = ?3 AND session = ?4",
    )?;
    let mut log =
        transaction.prepare_cached("INSERT INTO changes (previous, run, seen_at, mark) VALUES (?1, ?2, ?3, ?4)")?;
    let mut point = transaction.prepare_cached(
        "INSERT INTO marks (school, date, student, session, change) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET change = excluded.change",
    )?;
    let seen_at = changes.run.freshness.fetched_at.to_rfc3339();
    let mut changed = false;
    for write in &changes.writes {
        let key = write.key();
        let (date, session) = (date_text(key.date), key.session.as_str());
        let found: Option<(i64, Option<String>)> = find
            .query_row(params![school, date, key.student.as_str(), session], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let (previous, before) = found.map_or((None, None), |(change, mark)| (Some(change), mark));
        let before = read_mark(before)?;
        let after = match write {
            Write::Put(mark) => Some(mark),
            Write::Remove(_) => None,
        };
        match (&before, after) {
            (None, None) => continue,
            (Some(before), Some(after)) if before.same_content(after) => continue,
            _ => {}
        }
        let after = after.map(|mark| serde_json::to_string(&**mark)).transpose()?;
        let change = log.insert(params![previous, run, seen_at, after])?;
        point.execute(params![school, date, key.student.as_str(), session, change])?;
        changed = true;
    }
    Ok(changed)
}

fn read_history(connection: &mut Connection, school: &SchoolId, key: &MarkKey) -> Outcome<Vec<Change>> {
    let transaction = connection.transaction()?;
    let Some(id) = school_id(&transaction, school)? else { return Ok(Vec::new()) };
    let session: Session = key.session;
    let mut next: Option<i64> = transaction
        .query_row(
            "SELECT change FROM marks WHERE school = ?1 AND date = ?2 AND student = ?3 AND session = ?4",
            params![id, date_text(key.date), key.student.as_str(), session.as_str()],
            |row| row.get(0),
        )
        .optional()?;
    let mut statement = transaction.prepare_cached("SELECT previous, run, seen_at, mark FROM changes WHERE id = ?1")?;
    let mut history: Vec<Change> = Vec::new();
    while let Some(change) = next {
        let (previous, run, seen_at, mark): (Option<i64>, i64, String, Option<String>) =
            statement.query_row([change], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        // Only an earlier change can be the previous one: a damaged file must not lead in circles.
        if previous.is_some_and(|previous| previous >= change) {
            return Err(Failure::Unreadable);
        }
        let after = read_mark(mark)?;
        if let Some(later) = history.last_mut() {
            later.before = after.clone();
        }
        let run = u64::try_from(run).map_err(|_| Failure::Unreadable)?;
        history.push(Change { run, seen_at: read_time(&seen_at)?, before: None, after });
        next = previous;
    }
    history.reverse();
    Ok(history)
}

fn read_runs(connection: &mut Connection, school: &SchoolId) -> Outcome<Vec<Run>> {
    let mut statement = connection.prepare_cached(
        "SELECT run FROM runs JOIN schools ON schools.id = runs.school WHERE schools.name = ?1 ORDER BY number",
    )?;
    let texts = statement.query_map([school.as_str()], |row| row.get::<_, String>(0))?;
    texts.map(|text| Ok(serde_json::from_str(&text?)?)).collect()
}

#[async_trait]
impl MarkStore for SqliteStore {
    async fn read(&self, school: &SchoolId, scope: &Scope) -> Result<Snapshot, StoreError> {
        let (school, scope) = (school.clone(), scope.clone());
        self.call(move |connection| read_snapshot(connection, &school, &scope)).await
    }

    async fn apply(&self, school: &SchoolId, changes: &ChangeSet) -> Result<u64, StoreError> {
        let (school, changes) = (school.clone(), changes.clone());
        self.call(move |connection| apply(connection, &school, &changes)).await
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
        self.call(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let id = school_id_or_new(&transaction, &school)?;
            let taken = transaction.execute(
                "UPDATE schools SET lease_token = lease_token + 1, lease_until_ms = ?2
                 WHERE id = ?1 AND (lease_until_ms <= ?3 OR lease_until_ms > ?3 + ?4)",
                params![id, until_ms(ttl), now_ms(), LONGEST_LEASE_MS],
            )?;
            let token: i64 =
                transaction.query_row("SELECT lease_token FROM schools WHERE id = ?1", [id], |row| row.get(0))?;
            transaction.commit()?;
            let token = u64::try_from(token).map_err(|_| Failure::Unreadable)?;
            Ok((taken > 0).then_some(LeaseToken(token)))
        })
        .await
    }

    async fn renew_lease(&self, school: &SchoolId, token: LeaseToken, ttl: Duration) -> Result<(), StoreError> {
        let school = school.clone();
        self.call(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let id = school_id_or_new(&transaction, &school)?;
            check_lease(&transaction, id, token)?;
            transaction.execute("UPDATE schools SET lease_until_ms = ?2 WHERE id = ?1", params![id, until_ms(ttl)])?;
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
