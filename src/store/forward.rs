//! Pointers to a store are stores: every call goes to the store that they point to, even if the trait has a default.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::NaiveDate;

use super::{
    Change, ChangeCursor, ChangeSet, FeedEntry, HistoryQuery, LeaseToken, MarkStore, Pruned, Run, RunQuery, Snapshot,
    StoreError, WithheldChange,
};
use crate::model::{SchoolId, Session, StudentId};
use crate::rules::{Scope, Window};

macro_rules! forward {
    ($pointer:ty { $(fn $name:ident($($argument:ident: $of:ty),*) -> $result:ty;)+ }) => {
        #[async_trait]
        impl<S: MarkStore + ?Sized> MarkStore for $pointer {
            $(
                async fn $name(&self, school: &SchoolId, $($argument: $of),*) -> Result<$result, StoreError> {
                    (**self).$name(school, $($argument),*).await
                }
            )+
        }
    };
    ($pointer:ty) => {
        forward!($pointer {
            fn read(scope: &Scope) -> Snapshot;
            fn apply(changes: &ChangeSet) -> u64;
            fn history(query: &HistoryQuery) -> Vec<Change>;
            fn changes(after: Option<ChangeCursor>, limit: usize) -> Vec<FeedEntry>;
            fn runs(query: &RunQuery) -> Vec<Run>;
            fn last_covering_run(student: &StudentId, date: NaiveDate) -> Option<Run>;
            fn withheld(run: u64) -> Option<Vec<WithheldChange>>;
            fn sessions_held(window: Window) -> BTreeSet<(NaiveDate, Session)>;
            fn erase(student: &StudentId) -> u64;
            fn prune(before: NaiveDate) -> Pruned;
            fn acquire_lease(ttl: Duration) -> Option<LeaseToken>;
            fn renew_lease(token: LeaseToken, ttl: Duration) -> ();
            fn release_lease(token: LeaseToken) -> ();
        });
    };
}

forward!(Arc<S>);
forward!(Box<S>);
forward!(&S);
