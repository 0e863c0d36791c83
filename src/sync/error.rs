use std::error::Error;
use std::sync::Arc;

use super::{MassChange, lease};
use crate::model::{Retry, names};
use crate::rules::ResolveError;
use crate::source::SourceError;
use crate::store::StoreError;

/// The kinds of [`SyncError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SyncErrorKind {
    /// The source failed, or its answer is incomplete.
    Source,
    /// The records can't be resolved.
    Resolve,
    /// The store failed.
    Store,
    /// Too many marks would change.
    MassChange,
    /// The source can read only today, and today is not in the window or was not passed.
    NotToday,
    /// A saved plan was made for another school, other rules or another state of the store.
    PlanOutdated,
    /// Another run holds the school's lease.
    Busy,
    /// The run was asked to stop.
    Stopped,
    /// The caller's own function, called before the commit, failed.
    Prepare,
}

names!(SyncErrorKind, "a kind of failure", {
    Source => "source",
    Resolve => "resolve",
    Store => "store",
    MassChange => "mass_change",
    NotToday => "not_today",
    PlanOutdated => "plan_outdated",
    Busy => "busy",
    Stopped => "stopped",
    Prepare => "prepare",
});

/// Why a sync did not happen. The store is as it was.
///
/// ```
/// use rollmark::model::Retry;
/// use rollmark::sync::{SyncError, SyncErrorKind};
///
/// fn what_to_do(error: &SyncError) -> &'static str {
///     match (error.kind(), error.retry()) {
///         (SyncErrorKind::MassChange, _) => "ask a person whether the settings are right",
///         (_, Retry::Now | Retry::After(_)) => "run again soon",
///         (_, Retry::Exhausted) => "leave it to the next scheduled run",
///         _ => "tell the person who looks after the connection",
///     }
/// }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct SyncError(Failure);

#[derive(Clone, Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Source(SourceError),
    #[error(transparent)]
    Resolve(ResolveError),
    #[error(transparent)]
    Store(StoreError),
    #[error(transparent)]
    MassChange(MassChange),
    #[error("the source can only read today, and the date range does not hold today; choose a range with today in it")]
    NotToday,
    #[error("the plan was made for another school, other rules or another state of the store; make a new plan")]
    PlanOutdated,
    #[error("another run is syncing this school; try again when it has ended, 30 seconds at most after it was stopped")]
    Busy,
    #[error("the run was stopped; nothing was written")]
    Stopped,
    #[error(transparent)]
    Prepare(Arc<dyn Error + Send + Sync>),
}

impl SyncError {
    pub(super) const NOT_TODAY: Self = Self(Failure::NotToday);
    pub(super) const PLAN_OUTDATED: Self = Self(Failure::PlanOutdated);
    pub(super) const BUSY: Self = Self(Failure::Busy);
    pub(super) const STOPPED: Self = Self(Failure::Stopped);

    pub(super) fn prepare(error: Box<dyn Error + Send + Sync>) -> Self {
        Self(Failure::Prepare(error.into()))
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> SyncErrorKind {
        match &self.0 {
            Failure::Source(_) => SyncErrorKind::Source,
            Failure::Resolve(_) => SyncErrorKind::Resolve,
            Failure::Store(_) => SyncErrorKind::Store,
            Failure::MassChange(_) => SyncErrorKind::MassChange,
            Failure::NotToday => SyncErrorKind::NotToday,
            Failure::PlanOutdated => SyncErrorKind::PlanOutdated,
            Failure::Busy => SyncErrorKind::Busy,
            Failure::Stopped => SyncErrorKind::Stopped,
            Failure::Prepare(_) => SyncErrorKind::Prepare,
        }
    }

    /// Whether another run can succeed without a change to anything.
    pub fn retry(&self) -> Retry {
        match &self.0 {
            Failure::Source(error) => error.retry(),
            Failure::Store(error) => error.retry(),
            Failure::Busy => Retry::After(lease::TTL),
            _ => Retry::Never,
        }
    }

    /// The source's error, if it was the source that failed.
    pub fn source_error(&self) -> Option<&SourceError> {
        if let Failure::Source(error) = &self.0 { Some(error) } else { None }
    }

    /// The store's error, if it was the store that failed.
    pub fn store_error(&self) -> Option<&StoreError> {
        if let Failure::Store(error) = &self.0 { Some(error) } else { None }
    }

    /// The figures of a mass change, if that stopped the run.
    pub fn mass_change(&self) -> Option<&MassChange> {
        if let Failure::MassChange(figures) = &self.0 { Some(figures) } else { None }
    }
}

macro_rules! from {
    ($($failure:ident($error:ty),)+) => {$(
        impl From<$error> for SyncError {
            fn from(error: $error) -> Self {
                Self(Failure::$failure(error))
            }
        }
    )+};
}

from! {
    Source(SourceError),
    Resolve(ResolveError),
    Store(StoreError),
    MassChange(MassChange),
}
