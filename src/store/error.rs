use std::error::Error;
use std::sync::Arc;

use crate::model::{Retry, names, opaque_error};

/// The kinds of [`StoreError`], by what a caller can do about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store's marks have changed since the plan was made: plan again.
    Moved,
    /// The lease ran out or went to another run.
    LeaseLost,
    /// The store can't be opened: check the path and the permissions.
    CannotOpen,
    /// The store is damaged: restore it.
    Damaged,
    /// A newer version of this library has written the store: update the library.
    NewerVersion,
    /// There is no space left.
    Full,
    /// The store can't be written.
    ReadOnly,
    /// Another process keeps the store busy.
    Busy,
    /// The store's server can't be reached, or the connection to it was lost.
    Unreachable,
    /// Anything else.
    Failed,
}

names!(StoreErrorKind, "a kind of failure", {
    Moved => "moved",
    LeaseLost => "lease_lost",
    CannotOpen => "cannot_open",
    Damaged => "damaged",
    NewerVersion => "newer_version",
    Full => "full",
    ReadOnly => "read_only",
    Busy => "busy",
    Unreachable => "unreachable",
    Failed => "failed",
});

/// Why a store failed. The message is one line: what happened, to which store, and what to do. The cause is its
/// [`source`](Error::source). Neither holds any data of a mark.
#[derive(Clone, Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    message: String,
    retry: Retry,
    cause: Option<Arc<dyn Error + Send + Sync>>,
}

impl StoreError {
    /// A failure of this kind. Whether a new try is worth it follows from the kind: [`Moved`](StoreErrorKind::Moved) at once,
    /// [`Busy`](StoreErrorKind::Busy), [`LeaseLost`](StoreErrorKind::LeaseLost) and
    /// [`Unreachable`](StoreErrorKind::Unreachable) later, the others never.
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        let retry = match kind {
            StoreErrorKind::Moved => Retry::Now,
            StoreErrorKind::Busy | StoreErrorKind::LeaseLost | StoreErrorKind::Unreachable => Retry::Exhausted,
            _ => Retry::Never,
        };
        Self { kind, message: message.into(), retry, cause: None }
    }

    /// The store's revision is another than the change set's.
    pub fn moved() -> Self {
        Self::new(StoreErrorKind::Moved, "the store has changed since the plan was made; plan again")
    }

    /// The lease ran out or went to another run.
    pub fn lease_lost() -> Self {
        Self::new(
            StoreErrorKind::LeaseLost,
            "this run has lost its lease on the school to another run, or was stopped for too long; nothing was written",
        )
    }
}

opaque_error!(StoreError, StoreErrorKind);
