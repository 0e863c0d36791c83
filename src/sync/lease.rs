use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Either, Shared, select};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::SyncError;
use crate::model::SchoolId;
use crate::store::{LeaseToken, MarkStore};

/// The longest time by which a killed run delays the next.
pub(super) const TTL: Duration = Duration::from_secs(30);
const RENEW_EVERY: Duration = Duration::from_secs(10);
const ASK_EVERY: Duration = Duration::from_millis(250);

/// A future that becomes ready when a run is asked to stop.
pub(super) type Stop = Shared<BoxFuture<'static, ()>>;

/// The work's result, unless the run is asked to stop first.
pub(super) async fn unless_stopped<T>(
    stop: &Stop,
    work: impl Future<Output = Result<T, SyncError>>,
) -> Result<T, SyncError> {
    match select(stop.clone(), pin!(work)).await {
        Either::Left(_) => Err(SyncError::STOPPED),
        Either::Right((result, _)) => result,
    }
}

/// Does the work under the school's lease, renews the lease meanwhile, and gives it back afterwards.
pub(super) async fn under_lease<T, F: Future<Output = Result<T, SyncError>>>(
    store: &Arc<dyn MarkStore>,
    school: &SchoolId,
    wait: Duration,
    stop: &Stop,
    work: impl FnOnce(LeaseToken) -> F,
) -> Result<T, SyncError> {
    let deadline = Instant::now() + wait;
    let token = loop {
        match store.acquire_lease(school, TTL).await? {
            Some(token) => break token,
            None if Instant::now() >= deadline => return Err(SyncError::BUSY),
            None => unless_stopped(stop, sleep(ASK_EVERY).map(Ok)).await?,
        }
    };
    let mut held = Held { lease: Some((Arc::clone(store), school.clone(), token)) };
    let renewing = async {
        loop {
            sleep(RENEW_EVERY).await;
            if let Err(error) = store.renew_lease(school, token, TTL).await {
                return SyncError::from(error);
            }
        }
    };
    let result = match select(pin!(work(token)), pin!(renewing)).await {
        Either::Left((result, _)) => result,
        Either::Right((lost, _)) => Err(lost),
    };
    // The result is valid either way: a lease that can't be given back runs out by itself.
    let _ = store.release_lease(school, token).await;
    held.lease = None;
    result
}

/// A lease, until it is given back.
struct Held {
    lease: Option<(Arc<dyn MarkStore>, SchoolId, LeaseToken)>,
}

impl Drop for Held {
    /// A run whose future is dropped can't wait for the store, but the runtime can.
    fn drop(&mut self) {
        if let (Some((store, school, token)), Ok(runtime)) = (self.lease.take(), Handle::try_current()) {
            runtime.spawn(async move {
                let _ = store.release_lease(&school, token).await;
            });
        }
    }
}
