//! Calls that break off.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;

use super::lease::acquired;
use super::*;

/// Polls a call this many times, and drops it if it is not done by then.
async fn dropped_after<T>(polls: usize, call: impl Future<Output = T>) -> Option<T> {
    let mut call = pin!(call);
    for _ in 0..polls {
        let polled = std::future::poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await;
        if let Poll::Ready(done) = polled {
            return Some(done);
        }
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    None
}

/// The numbers of marks, changes, entries of the feed, runs and withheld changes of a school.
async fn counts(store: &dyn MarkStore, school: &SchoolId) -> Result<[usize; 5], StoreError> {
    let name = school.as_str();
    let marks = read(store, name).await?.marks().len();
    let mut withheld = 0;
    let runs = runs(store, name).await?;
    for run in &runs {
        withheld += store.withheld(school, run.number).await?.map_or(0, |list| list.len());
    }
    let changes = whole_history(store, name).await?.len();
    Ok([marks, changes, feed(store, name, 1_000).await?.len(), runs.len(), withheld])
}

/// Whenever a call's future is dropped, either all of its changes are stored or none, and the store still works.
///
/// # Errors
/// The promise is broken.
pub async fn leaves_all_or_nothing_of_a_dropped_call(store: Arc<dyn MarkStore>) -> Kept {
    const PROMISE: &str = "a call that is dropped leaves all or nothing";
    const MOST_POLLS: usize = 60;
    for call in ["apply", "erase", "prune"] {
        let begin = async |school: &SchoolId| {
            write(&*store, school.as_str(), -60, vec![put(AMELIA, 3, 1), put(BEN, 3, 1)]).await?;
            write(&*store, school.as_str(), -50, vec![put(AMELIA, 3, 2), put(AMELIA, 4, 2), put(BEN, 3, 2)]).await?;
            let revision = read(&*store, school.as_str()).await?.revision();
            let lists = vec![withheld(AMELIA, 5, WithheldReason::Unproven)];
            let writes = (1..=9).map(|day| put(AMELIA, day, 3)).chain([remove(BEN, 3)]).collect();
            let set = ChangeSet::new(revision, withholding(run(10), &lists)).with_writes(writes);
            Ok::<_, StoreError>(set.with_withheld(lists))
        };
        let make = async |school: &SchoolId, set: &ChangeSet| match call {
            "apply" => store.apply(school, set).await.map(|_| ()),
            "erase" => store.erase(school, &AMELIA.into()).await.map(|_| ()),
            _ => store.prune(school, date(20)).await.map(|_| ()),
        };
        let whole = SchoolId::new(format!("{call}-whole"));
        let set = begin(&whole).await?;
        let nothing = counts(&*store, &whole).await?;
        make(&whole, &set).await?;
        let all = counts(&*store, &whole).await?;
        for polls in 0..MOST_POLLS {
            let school = SchoolId::new(format!("{call}-{polls}"));
            let set = begin(&school).await?;
            let is_done = dropped_after(polls, make(&school, &set)).await.is_some();
            // Work that goes on in the background can end between the reads.
            let mut found = counts(&*store, &school).await?;
            for _ in 0..20 {
                if found == all || found == nothing {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
                found = counts(&*store, &school).await?;
            }
            ensure(found == all || found == nothing, PROMISE, || {
                format!("Of {call}, dropped after {polls} polls, {found:?} are left; expected {nothing:?} or {all:?}")
            })?;
            loop {
                match write(&*store, school.as_str(), 11, vec![put(BEN, 6, 1)]).await {
                    Err(error) if error.kind() == StoreErrorKind::Moved => {}
                    written => {
                        written.map_err(breaks("a store goes on working after a dropped call"))?;
                        break;
                    }
                }
            }
            if is_done {
                break;
            }
        }
    }
    Ok(())
}

/// At whichever step a call fails, none of its changes are stored, and the store still works.
///
/// # Errors
/// The promise is broken.
pub async fn leaves_nothing_of_a_failed_call(harness: &dyn StoreHarness) -> Kept {
    const PROMISE: &str = "a call that fails leaves everything as it was";
    for step in 1..1_000 {
        let store = opened(harness).await?;
        write(&*store, SCHOOL, 9, vec![put(BEN, 3, 1), put(BEN, 4, 1)]).await?;
        let before = everything(&*store, SCHOOL).await?;
        let lists = vec![withheld(AMELIA, 5, WithheldReason::Unproven)];
        let revision = read(&*store, SCHOOL).await?.revision();
        let writes = vec![put(AMELIA, 3, 1), put(BEN, 3, 2), remove(BEN, 4)];
        let set = ChangeSet::new(revision, withholding(run(10), &lists)).with_writes(writes).with_withheld(lists);
        if !harness.fail_at(step) {
            break;
        }
        let failed = store.apply(&SCHOOL.into(), &set).await;
        ensure(failed.is_err(), "a failure in a call is its error", || format!("Step {step} failed without one"))?;
        equal_lists(&everything(&*store, SCHOOL).await?, &before, PROMISE)?;
        write(&*store, SCHOOL, 11, vec![put(AMELIA, 3, 1)])
            .await
            .map_err(breaks("a store goes on working after a failed call"))?;
    }
    Ok(())
}

/// Every other process sees what was applied, and sees a lease.
///
/// # Errors
/// The promise is broken.
pub async fn shows_others_what_was_applied(harness: &dyn StoreHarness) -> Kept {
    const PROMISE: &str = "what was applied is there for whoever opens the store";
    let store = opened(harness).await?;
    write(&*store, SCHOOL, 9, vec![put(AMELIA, 3, 1), put(BEN, 3, 0)]).await?;
    withhold(&*store, SCHOOL, vec![withheld(AMELIA, 4, WithheldReason::Unproven)]).await?;
    store.erase(&SCHOOL.into(), &BEN.into()).await?;
    let lease = acquired(&*store, TTL).await?;
    let other = harness.reopen().await;
    equal_lists(&everything(&*other, SCHOOL).await?, &everything(&*store, SCHOOL).await?, PROMISE)?;
    let taken = other.acquire_lease(&SCHOOL.into(), TTL).await?;
    equal(&taken, &None, "a lease holds for every process")?;
    write(&*other, SCHOOL, 11, vec![put(AMELIA, 3, 2)]).await?;
    equal_lists(&everything(&*store, SCHOOL).await?, &everything(&*other, SCHOOL).await?, PROMISE)?;
    let _ = store.release_lease(&SCHOOL.into(), lease).await;
    let next = other.acquire_lease(&SCHOOL.into(), TTL).await?;
    ensure(next > Some(lease), "tokens of a school grow", || format!("{next:?} comes after {lease:?}"))
}
