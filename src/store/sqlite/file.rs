//! The file itself: where it is, whether it is ours, how it is made, and the messages when it fails.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, TransactionBehavior, ffi};

use super::failure::{Failure, Outcome};
use super::migration;
use super::rows;
use super::schema::create_tables;
use crate::model::Cause;
use crate::store::{StoreError, StoreErrorKind};

/// "roll" in ASCII: distinguishes our files from other programs' databases.
const APPLICATION_ID: i32 = 0x726F_6C6C;
const VERSION: i32 = 5;
/// The longest time that a call waits for other programs: many schools that write into one file take turns.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// Waits are random, so that waiting programs do not all come back at once.
const WAIT_MS: std::ops::RangeInclusive<u64> = 2..=80;

fn refused<T>(path: &Path, kind: StoreErrorKind, what: impl std::fmt::Display) -> Outcome<T> {
    Err(StoreError::new(kind, format!("the store {} {what}", path.display())).into())
}

/// The error when the system refuses to open the file.
fn cannot<T>(path: &Path, what: &str, error: &std::io::Error) -> Outcome<T> {
    let message = format!("the store {} {what}", path.display());
    Err(StoreError::new(StoreErrorKind::CannotOpen, message).with_cause(Cause::of_io(error)).into())
}

/// Repeats the work while other programs keep the file busy, for `longest` at most.
///
/// SQLite's own waiting is not enough: it is not used when the journal mode changes, and it holds the connection.
pub(super) fn patiently<T>(longest: Duration, mut work: impl FnMut() -> Outcome<T>) -> Outcome<T> {
    let started = Instant::now();
    loop {
        match work() {
            Err(failure) if failure.is_busy() && started.elapsed() < longest => {
                sleep(Duration::from_millis(rand::random_range(WAIT_MS)));
            }
            outcome => return outcome,
        }
    }
}

/// The file that a path names, after following links; `None` if the file does not exist but its folder does.
///
/// A file that can't be looked at is an error: it must not pass for an empty store.
fn locate(path: &Path) -> Outcome<Option<PathBuf>> {
    if path.as_os_str().is_empty() {
        let message = "the path of the store is empty; name a file";
        return Err(StoreError::new(StoreErrorKind::CannotOpen, message).into());
    }
    // SQLite takes these for something other than a file.
    if path == Path::new(":memory:") || path.to_string_lossy().starts_with("file:") {
        let what = "is not the path of a file; name a file (write ./NAME if it is really called that)";
        return refused(path, StoreErrorKind::CannotOpen, what);
    }
    let unreachable = |error| cannot(path, "can't be reached; check the path, its links and the permissions", &error);
    match fs::symlink_metadata(path) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            return match fs::metadata(folder) {
                Ok(_) => Ok(None),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let message = format!("the folder {} is not there; create it first", folder.display());
                    Err(StoreError::new(StoreErrorKind::CannotOpen, message).into())
                }
                Err(error) => unreachable(error),
            };
        }
        Err(error) => return unreachable(error),
    }
    let file = match fs::canonicalize(path) {
        Ok(file) => file,
        Err(error) => return unreachable(error),
    };
    match fs::metadata(&file) {
        Ok(metadata) if metadata.is_file() => Ok(Some(file)),
        Ok(_) => refused(path, StoreErrorKind::CannotOpen, "is a folder, pipe or device; name a file"),
        Err(error) => unreachable(error),
    }
}

/// Makes an empty file that only its owner can read; SQLite gives its companion files the same permissions. A file that another
/// run has made meanwhile stays as it is.
fn create(path: &Path) -> Outcome<PathBuf> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            cannot(path, "can't be created; check the path and the permissions", &error)
        }
        _ => match locate(path)? {
            Some(file) => Ok(file),
            None => refused(path, StoreErrorKind::CannotOpen, "was removed while it was opened"),
        },
    }
}

fn connect(file: &Path, access: OpenFlags) -> Outcome<Connection> {
    // The links were already followed; a link that is there now was put there by somebody else.
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(Duration::ZERO)?;
    Ok(connection)
}

pub(super) fn open(path: &Path) -> Outcome<Connection> {
    let file = match locate(path)? {
        Some(file) => file,
        None => create(path)?,
    };
    patiently(PATIENCE, || {
        let mut connection = connect(&file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        prepare(&mut connection, path)?;
        Ok(connection)
    })
}

/// Another connection to a file that was opened before.
pub(super) fn open_again(path: &Path) -> Outcome<Connection> {
    let Some(file) = locate(path)? else {
        return refused(path, StoreErrorKind::CannotOpen, "was removed while it was in use");
    };
    let connection = connect(&file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    configure(&connection)?;
    Ok(connection)
}

/// Sets the options of a connection that writes.
fn configure(connection: &Connection) -> Outcome<()> {
    // Deleted data is overwritten.
    connection.pragma_update(None, "secure_delete", true)?;
    // Committed data survives a loss of power.
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(())
}

pub(super) fn open_read_only(path: &Path) -> Outcome<Connection> {
    let Some(file) = locate(path)? else { return empty() };
    patiently(PATIENCE, || {
        let mut connection = connect(&file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        match check(&mut connection, path)? {
            None => empty(),
            Some(VERSION) => Ok(connection),
            Some(version) => migrated_copy(&connection, version),
        }
    })
}

fn empty() -> Outcome<Connection> {
    let empty = Connection::open_in_memory()?;
    create_tables(&empty)?;
    Ok(empty)
}

/// A copy in memory of an older version's store, migrated to this version.
fn migrated_copy(connection: &Connection, version: i32) -> Outcome<Connection> {
    let mut copy = Connection::open_in_memory()?;
    if Backup::new(connection, &mut copy)?.step(-1)? != StepResult::Done {
        // Another program is writing.
        return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None).into());
    }
    let transaction = copy.transaction()?;
    migration::from_older(&transaction, version)?;
    transaction.commit()?;
    Ok(copy)
}

/// The version of a file if it is ours and sound; `None` if it is still empty.
fn check(connection: &mut Connection, path: &Path) -> Outcome<Option<i32>> {
    // All reads are from one moment: another process may be about to make the tables.
    let transaction = connection.transaction()?;
    let version = version(&transaction, path)?;
    if version.is_some() {
        let sound: String = transaction.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if sound != "ok" {
            return Err(Failure::Damaged);
        }
    }
    if version == Some(VERSION) {
        rows::check_places(&transaction)?;
    }
    Ok(version)
}

fn version(connection: &Connection, path: &Path) -> Outcome<Option<i32>> {
    let (application, version, tables): (i32, i32, i64) = connection.query_row(
        "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema)
         FROM pragma_application_id, pragma_user_version",
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    match (application, version) {
        (0, 0) if tables == 0 => Ok(None),
        (APPLICATION_ID, 1..=VERSION) => Ok(Some(version)),
        (APPLICATION_ID, ..=0) => Err(Failure::Damaged),
        (APPLICATION_ID, _) => {
            refused(path, StoreErrorKind::NewerVersion, "was written by a newer version; update this program")
        }
        _ => refused(path, StoreErrorKind::CannotOpen, "is another program's database; choose another file"),
    }
}

/// Makes the file one of ours and of this version, unless it already is.
fn prepare(connection: &mut Connection, path: &Path) -> Outcome<()> {
    configure(connection)?;
    if check(connection, path)? != Some(VERSION) {
        // Readers do not wait for a writer, and a writer does not wait for readers.
        connection.pragma_update(None, "journal_mode", "WAL")?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another process may have been faster.
        match version(&transaction, path)? {
            Some(VERSION) => {}
            Some(version) => migration::from_older(&transaction, version)?,
            None => create_tables(&transaction)?,
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Writes everything into the file itself, so that no deleted data is left in its log.
pub(super) fn empty_log(connection: &Connection) -> Outcome<()> {
    match connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))? {
        false => Ok(()),
        true => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_another_program_ends_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("marks.db");
        let holder = open(&path).unwrap_or_else(|failure| panic!("{}", failure.told_of(&path)));
        holder.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut waiting = connect(&fs::canonicalize(&path).unwrap(), OpenFlags::SQLITE_OPEN_READ_WRITE)
            .unwrap_or_else(|failure| panic!("{}", failure.told_of(&path)));
        let started = Instant::now();
        let longest = Duration::from_millis(300);
        let outcome =
            patiently(longest, || Ok(waiting.transaction_with_behavior(TransactionBehavior::Immediate).map(drop)?));
        let error = outcome.err().unwrap().told_of(&path);
        assert!(started.elapsed() >= longest);
        assert_eq!(error.kind(), StoreErrorKind::Busy);
        assert!(error.to_string().contains("is in use by another program"), "{error}");
    }
}
