use std::fmt;

/// What kind of failure a [`StoreError`] is, by what a caller can do about it.
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
    /// Anything else.
    Failed,
}

/// A store that failed. One line that says what happened, to which store, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError {
    kind: StoreErrorKind,
    message: String,
}

impl StoreError {
    /// A failure of this kind.
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
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

    /// What kind of failure it is.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StoreError {}
