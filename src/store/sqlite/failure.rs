//! Failures and their messages.

use std::path::Path;

use rusqlite::{ErrorCode, ffi};

use crate::model::Cause;
use crate::store::{StoreError, StoreErrorKind};

/// A failure inside, before it becomes a [`StoreError`] with the file's name.
pub(super) enum Failure {
    Sqlite(rusqlite::Error),
    Store(StoreError),
    /// The file does not hold what was written.
    Damaged,
    /// A text in the file can't be read.
    Unreadable(Cause),
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
    fn from(error: serde_json::Error) -> Self {
        Self::Unreadable(Cause::of_json(&error))
    }
}

impl From<chrono::ParseError> for Failure {
    fn from(_: chrono::ParseError) -> Self {
        Self::Unreadable(Cause::new("a text is not a date or time"))
    }
}

impl Failure {
    pub(super) fn is_busy(&self) -> bool {
        let Self::Sqlite(error) = self else { return false };
        matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed)
        )
    }

    pub(super) fn told_of(self, path: &Path) -> StoreError {
        let damaged = (StoreErrorKind::Damaged, "is damaged or is not a SQLite file; restore it from a copy");
        let is_busy = self.is_busy();
        let cause = match &self {
            Self::Sqlite(error) => Some(cause_of(error)),
            Self::Unreadable(cause) => Some(cause.clone()),
            Self::Store(_) | Self::Damaged => None,
        };
        let (kind, what) = match self {
            Self::Store(error) => return error,
            Self::Damaged | Self::Unreadable(_) => damaged,
            Self::Sqlite(_) if is_busy => (StoreErrorKind::Busy, "is in use by another program; try again"),
            Self::Sqlite(error) if is_of_folder(&error) => (
                StoreErrorKind::ReadOnly,
                "can't be used in a folder where this user may not write; SQLite needs that even to read: \
                 read a copy in another folder",
            ),
            Self::Sqlite(error) => match error.sqlite_error_code() {
                Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                    (StoreErrorKind::ReadOnly, "can't be written; check the permissions of the file and of its folder")
                }
                Some(ErrorCode::DiskFull) => {
                    (StoreErrorKind::Full, "can't grow, the disk is full; nothing was written")
                }
                Some(ErrorCode::SystemIoFailure) => (
                    StoreErrorKind::Failed,
                    "can't be read or written by this machine (is the disk full?); nothing was written",
                ),
                Some(ErrorCode::CannotOpen) => {
                    (StoreErrorKind::CannotOpen, "can't be opened; check the path and the permissions")
                }
                // If there is no SQLite code, a row is missing or holds another kind of value.
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) | None => damaged,
                _ => (StoreErrorKind::Failed, "has failed; nothing was written"),
            },
        };
        let error = StoreError::new(kind, format!("the store {} {what}", path.display()));
        match cause {
            Some(cause) => error.with_cause(cause),
            None => error,
        }
    }
}

fn is_of_folder(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_READONLY_DIRECTORY)
}

/// SQLite's codes and the name of the error; never its text, which can quote a value.
fn cause_of(error: &rusqlite::Error) -> Cause {
    match error.sqlite_error() {
        Some(error) => {
            let extended = error.extended_code;
            let name = ffi::code_to_str(extended);
            Cause::new(format!("SQLite error {} (extended {extended}): {name}", extended & 0xFF))
        }
        None => Cause::new("a row is missing or holds another kind of value"),
    }
}

pub(super) type Outcome<T> = Result<T, Failure>;
