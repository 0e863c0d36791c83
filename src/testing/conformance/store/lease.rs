//! Who may write.

use std::time::Instant;

use tokio::sync::Barrier;

use super::*;
use crate::store::LeaseToken;

async fn acquire(store: &dyn MarkStore, ttl: Duration) -> Result<Option<LeaseToken>, StoreError> {
    store.acquire_lease(&SCHOOL.into(), ttl).await
}

pub(super) async fn acquired(store: &dyn MarkStore, ttl: Duration) -> Result<LeaseToken, Violation> {
    acquire(store, ttl).await?.ok_or_else(|| Violation::new("a free lease is given", "It is refused"))
}

/// While a caller holds a school's lease, nobody else gets it; another school's lease is free. Once given back, it is free again.
///
/// # Errors
/// The promise is broken.
pub async fn gives_a_lease_to_one_at_a_time(store: Arc<dyn MarkStore>) -> Kept {
    const PROMISE: &str = "a school's lease is one holder's until it is given back or runs out";
    const TOKENS: &str = "tokens of a school grow";
    let school = SchoolId::new(SCHOOL);
    let mut last = acquired(&*store, TTL).await?;
    equal(&acquire(&*store, TTL).await?, &None, PROMISE)?;
    let other = store.acquire_lease(&OTHER.into(), TTL).await?;
    ensure(other.is_some(), "each school has a lease of its own", || "Another school's is not free".to_owned())?;
    store.renew_lease(&school, last, TTL).await?;
    for _ in 0..3 {
        store.release_lease(&school, last).await?;
        let next = acquired(&*store, TTL).await?;
        ensure(next > last, TOKENS, || format!("{next:?} comes after {last:?}"))?;
        last = next;
        write(&*store, SCHOOL, 9, vec![put(AMELIA, 3, 1)]).await?;
        equal(&acquire(&*store, TTL).await?, &None, "a lease outlives what others write, erase and prune")?;
        store.erase(&school, &AMELIA.into()).await?;
        store.prune(&school, date(20)).await?;
        equal(&acquire(&*store, TTL).await?, &None, "a lease outlives what others write, erase and prune")?;
    }
    store.release_lease(&school, last).await?;
    acquired(&*store, Duration::MAX).await?;
    equal(&acquire(&*store, TTL).await?, &None, "a lease of any length is kept")?;

    for round in 0..10 {
        // A school's first lease, when the school has no row yet.
        let school = SchoolId::new(format!("first-{round}"));
        let start = Arc::new(Barrier::new(4));
        let asking: Vec<_> = (0..4)
            .map(|_| {
                let (store, school, start) = (Arc::clone(&store), school.clone(), Arc::clone(&start));
                tokio::spawn(async move {
                    start.wait().await;
                    store.acquire_lease(&school, TTL).await
                })
            })
            .collect();
        let mut given = 0;
        for asked in asking {
            given += u32::from(asked.await.map_err(panicked(PROMISE))?.map_err(breaks(PROMISE))?.is_some());
        }
        equal(&given, &1, PROMISE)?;
    }
    Ok(())
}

/// A lease lasts as long as requested, counted from its renewal if it was renewed.
///
/// # Errors
/// The promise is broken.
pub async fn keeps_a_lease_as_long_as_asked(harness: &dyn StoreHarness) -> Kept {
    const PROMISE: &str = "a lease lasts as long as was asked for, and a renewed one from its renewal on";
    let store = opened(harness).await?;
    let school = SchoolId::new(SCHOOL);
    let started = Instant::now();
    let lease = acquired(&*store, SHORT_LEASE).await?;
    tokio::time::sleep(SHORT_LEASE * 3 / 4).await;
    let asked = acquire(&*store, TTL).await?;
    // If the machine was stalled, the lease may have run out.
    ensure(asked.is_none() || started.elapsed() >= SHORT_LEASE, PROMISE, || "It has run out already".to_owned())?;
    if asked.is_none() && store.renew_lease(&school, lease, TTL).await.is_ok() {
        tokio::time::sleep(SHORT_LEASE + Duration::from_millis(20)).await;
        equal(&acquire(&*store, TTL).await?, &None, PROMISE)?;
        store.renew_lease(&school, lease, SHORT_LEASE).await?;
        harness.expire_lease(SHORT_LEASE).await;
        let next = acquire(&*store, TTL).await?;
        ensure(next > Some(lease), PROMISE, || "It outlives a renewal for a shorter time".to_owned())?;
    }
    Ok(())
}

/// A caller who lost a lease to another, or gave it back, can neither renew it nor write, nor give back another's lease.
///
/// # Errors
/// The promise is broken.
pub async fn refuses_a_lease_that_was_lost(store: &dyn MarkStore) -> Kept {
    const PROMISE: &str = "who has lost a lease to another can neither write nor renew it, and gives nobody's away";
    const BACK: &str = "who has given a lease back can neither write nor renew it";
    const NEVER: &str = "a token that the school never gave is refused";
    let school = SchoolId::new(SCHOOL);
    let stale = acquired(store, Duration::ZERO).await?;
    let holder = acquired(store, TTL).await?;
    let lost = Some(StoreErrorKind::LeaseLost);
    equal(&kind(store.renew_lease(&school, stale, TTL).await), &lost, PROMISE)?;
    let changes = |revision, lease| changes(revision, 9, vec![put(AMELIA, 3, 1)]).with_lease(lease);
    let apply = async |lease| {
        let revision = read(store, SCHOOL).await?.revision();
        Ok::<_, StoreError>(kind(store.apply(&school, &changes(revision, lease)).await))
    };
    equal(&apply(stale).await?, &lost, PROMISE)?;
    equal(&read(store, SCHOOL).await?, &Snapshot::default(), PROMISE)?;
    equal(&runs(store, SCHOOL).await?, &Vec::new(), "a run without its lease is not recorded")?;
    let _ = store.release_lease(&school, stale).await;
    equal(&acquire(store, TTL).await?, &None, PROMISE)?;
    for never in [holder.number() + 1, u64::MAX] {
        equal(&apply(LeaseToken::new(never)).await?, &lost, NEVER)?;
        equal(&kind(store.renew_lease(&school, LeaseToken::new(never), TTL).await), &lost, NEVER)?;
    }
    let elsewhere = SchoolId::new("conformance-third");
    equal(&kind(store.apply(&elsewhere, &changes(0, holder)).await), &lost, "a lease is good in its own school")?;
    equal(&apply(holder).await?, &None, "the holder of the lease may write")?;
    store.release_lease(&school, holder).await?;
    equal(&apply(holder).await?, &lost, BACK)?;
    equal(&kind(store.renew_lease(&school, holder, TTL).await), &lost, BACK)?;
    store.release_lease(&school, holder).await.map_err(breaks("giving a lost lease back is not an error"))?;
    acquired(store, TTL).await.map(|_| ())
}

/// A lease that has run out is over, even if nobody has taken it since.
///
/// # Errors
/// The promise is broken.
pub async fn refuses_a_lease_that_has_run_out(harness: &dyn StoreHarness) -> Kept {
    let store = opened(harness).await?;
    let school = SchoolId::new(SCHOOL);
    let lease = acquired(&*store, SHORT_LEASE).await?;
    harness.expire_lease(SHORT_LEASE).await;
    let lost = Some(StoreErrorKind::LeaseLost);
    let changes = changes(0, 9, vec![put(AMELIA, 3, 1)]).with_lease(lease);
    let written = kind(store.apply(&school, &changes).await);
    equal(&written, &lost, "a lease that has run out may not write")?;
    let renewed = kind(store.renew_lease(&school, lease, TTL).await);
    equal(&renewed, &lost, "a lease that has run out may not be renewed")?;
    equal(&runs(&*store, SCHOOL).await?, &Vec::new(), "a run without its lease is not recorded")?;
    let next = acquired(&*store, TTL).await?;
    ensure(next > lease, "tokens of a school grow", || format!("{next:?} comes after {lease:?}"))
}
