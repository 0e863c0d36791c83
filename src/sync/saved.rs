use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::engine::apply;
use super::lease::under_lease;
use super::{AttendanceSync, Plan, Planned, SyncError};
use crate::model::SchoolId;
use crate::rules::Rules;
use crate::source::hex;
use crate::store::{MarkStore, Run, Snapshot, StoreErrorKind};

/// A plan that can be saved as JSON, shown to somebody, and applied later.
///
/// It only fits the state that it was made from: the school, the rules, the store's revision of the school, and the
/// marks in its scope. Any change to the school's marks makes it outdated, and so does erasing a student.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedPlan {
    basis: String,
    /// The run as the store will record it, without a number yet.
    pub run: Run,
    /// The changes that it writes, and those that it withholds.
    pub plan: Plan,
}

impl AttendanceSync {
    /// Makes a saveable plan from a run (usually a dry run).
    pub fn save_plan(&self, planned: &Planned) -> SavedPlan {
        SavedPlan {
            basis: basis(&self.school, &self.rules, &planned.snapshot),
            run: planned.run.clone(),
            plan: planned.plan.clone(),
        }
    }
}

impl SavedPlan {
    /// Applies the plan and returns the run's number. `wait_for_other_run` is how long to wait for another run of the
    /// school; when `stop` completes, the call ends without writing (pass [`std::future::pending`] for never). A plan can
    /// be applied only once: after that the store has changed.
    ///
    /// # Errors
    /// [`SyncErrorKind::PlanOutdated`](super::SyncErrorKind::PlanOutdated) if the school or its marks are not those that the
    /// plan was made from, or the plan was altered.
    pub async fn apply(
        &self,
        store: impl MarkStore + 'static,
        school: &SchoolId,
        wait_for_other_run: Duration,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<u64, SyncError> {
        let stop = stop.boxed().shared();
        let store: Arc<dyn MarkStore> = Arc::new(store);
        let kept = &*store;
        under_lease(&store, school, wait_for_other_run, &stop, |lease| async move {
            let snapshot = kept.read(school, &self.run.scope).await?;
            if basis(school, &self.run.rules, &snapshot) != self.basis {
                return Err(SyncError::PLAN_OUTDATED);
            }
            let applied = apply(kept, school, snapshot.revision(), &self.plan, &self.run, lease).await;
            applied.map_err(|error| match error.kind() {
                StoreErrorKind::Moved => SyncError::PLAN_OUTDATED,
                _ => error.into(),
            })
        })
        .await
    }
}

/// A hash of the school, the rules, the revision and the marks in scope.
fn basis(school: &SchoolId, rules: &Rules, snapshot: &Snapshot) -> String {
    let mut hash = Sha256::new();
    // The JSON form is stable; the output of `Debug` is not.
    let rules = serde_json::to_string(rules).unwrap_or_default();
    hash.update(format!("{school}\n{rules}\n{}\n", snapshot.revision()));
    for stored in snapshot.marks() {
        hash.update(stored.to_json_line());
        hash.update(format!("\n{}\n", stored.fetched_at));
    }
    hex(hash)
}
