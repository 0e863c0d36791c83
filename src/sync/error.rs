use crate::rules::ResolveError;
use crate::source::SourceError;
use crate::store::StoreError;

use super::MassChange;

/// A sync that did not happen. The store holds what it held.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// The source failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The records can't be resolved.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Too many marks would change.
    #[error(transparent)]
    MassChange(#[from] MassChange),
    /// The stream ended without a verdict, or the verdict leaves out what was asked for.
    #[error("the source's answer is incomplete ({0}); nothing was written")]
    Incomplete(String),
    /// The source reaches today only, and today is not in the window, or was not passed.
    #[error("the source can only read today, and the date range does not hold today; choose a range with today in it")]
    NotToday,
    /// A saved plan is not for this school, these rules or this state of the store.
    #[error("the plan was made for another school, other rules or another state of the store; make a new plan")]
    PlanOutdated,
    /// Another run holds the school's lease.
    #[error("another run is syncing this school; try again when it has ended, 30 seconds at most after it was stopped")]
    Busy,
    /// The run was asked to stop.
    #[error("the run was stopped; nothing was written")]
    Stopped,
    /// What the caller does before the commit has failed.
    #[error("{0}")]
    Prepare(Box<dyn std::error::Error + Send + Sync>),
}
