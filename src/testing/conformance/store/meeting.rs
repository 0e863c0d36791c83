//! Runs and readers that meet.

use tokio::sync::Barrier;

use super::*;

/// The results of change sets that are applied at the same moment, each for its school.
async fn race(
    store: &Arc<dyn MarkStore>,
    sets: Vec<(SchoolId, ChangeSet)>,
    promise: &'static str,
) -> Result<Vec<Option<StoreErrorKind>>, Violation> {
    let start = Arc::new(Barrier::new(sets.len()));
    let racing: Vec<_> = sets
        .into_iter()
        .map(|(school, changes)| {
            let (store, start) = (Arc::clone(store), Arc::clone(&start));
            tokio::spawn(async move {
                start.wait().await;
                store.apply(&school, &changes).await
            })
        })
        .collect();
    let mut results = Vec::new();
    for applied in racing {
        match applied.await.map_err(panicked(promise))? {
            Err(error) if error.kind() != StoreErrorKind::Moved => return Err(breaks(promise)(error)),
            result => results.push(kind(result)),
        }
    }
    Ok(results)
}

/// Whether one change set was written, and all others were refused.
fn one_of(results: &[Option<StoreErrorKind>], promise: &'static str) -> Kept {
    let written = results.iter().filter(|kind| kind.is_none()).count();
    ensure(written == 1, promise, || format!("Of {} that met, {written} were written", results.len()))
}

/// If many first runs of a school meet, one writes and the others are refused.
///
/// # Errors
/// The promise is broken.
pub async fn lets_one_of_many_first_runs_write(store: Arc<dyn MarkStore>) -> Kept {
    const PROMISE: &str = "of the first runs of a school that meet one writes, and the others are refused";
    for round in 0..10 {
        let school = format!("first-{round}");
        let set = |student| (SchoolId::new(&school), changes(0, 9, vec![put(student, 3, 1)]));
        let sets = vec![set(AMELIA), set(BEN), set("3"), set(AMELIA)];
        one_of(&race(&store, sets, PROMISE).await?, PROMISE)?;
        let found = (read(&*store, &school).await?.marks().len(), runs(&*store, &school).await?.len());
        equal(&found, &(1, 1), PROMISE)?;
        equal(&feed(&*store, &school, 9).await?.len(), &1, PROMISE)?;
    }
    Ok(())
}

/// Runs that meet take turns: no run overwrites what another has written meanwhile.
///
/// # Errors
/// The promise is broken.
pub async fn lets_runs_take_turns(store: Arc<dyn MarkStore>) -> Kept {
    const PROMISE: &str = "of runs that were planned from one revision only one writes, and the others are refused";
    const ROUNDS: u32 = 14;
    write(&*store, SCHOOL, 0, vec![put(AMELIA, 3, 1)]).await?;
    for round in 1..=ROUNDS {
        let revision = read(&*store, SCHOOL).await?.revision();
        let sets = (0..4).map(|racer| {
            let (minute, hour) = (round * 4 + racer, i64::from(round));
            // In every other round they write different marks, but it is still one school.
            let other = if round % 2 == 0 { put(AMELIA, 4, minute) } else { put(&racer.to_string(), 4, minute) };
            (SchoolId::new(SCHOOL), changes(revision, hour, vec![put(AMELIA, 3, minute), other]))
        });
        one_of(&race(&store, sets.collect(), PROMISE).await?, PROMISE)?;
        let found = history(&*store, SCHOOL, AMELIA).await?.len();
        equal(&found, &(round as usize + 1), PROMISE)?;
    }
    let history = history(&*store, SCHOOL, AMELIA).await?;
    let mut numbers: Vec<u64> = history.iter().map(|change| change.run).collect();
    numbers.dedup();
    equal(&numbers, &(1..=u64::from(ROUNDS) + 1).collect(), "every run has a number of its own")?;
    equal(&runs(&*store, SCHOOL).await?.len(), &numbers.len(), PROMISE)?;
    for pair in history.windows(2) {
        let [earlier, later] = pair else { continue };
        let was = earlier.after.as_ref().map(|mark| mark.content());
        let found = later.before.as_deref().cloned();
        equal(&found, &was, "what was there before a change is what the change before left")?;
    }
    Ok(())
}

/// A run that was planned before an erasure never restores the student.
///
/// # Errors
/// The promise is broken.
pub async fn lets_an_erasure_and_a_run_take_turns(store: Arc<dyn MarkStore>) -> Kept {
    const PROMISE: &str = "an erasure and a run that meet take turns, and the student stays erased";
    for round in 1..=10 {
        write(&*store, SCHOOL, round, vec![put(AMELIA, 3, 1)]).await?;
        let revision = read(&*store, SCHOOL).await?.revision();
        let (erasing, start) = (Arc::clone(&store), Arc::new(Barrier::new(2)));
        let waiting = Arc::clone(&start);
        let erased = tokio::spawn(async move {
            waiting.wait().await;
            erasing.erase(&SCHOOL.into(), &AMELIA.into()).await
        });
        start.wait().await;
        let written = store.apply(&SCHOOL.into(), &changes(revision, round, vec![put(AMELIA, 3, 2)])).await;
        erased.await.map_err(panicked(PROMISE))?.map_err(breaks(PROMISE))?;
        if let Err(error) = written
            && error.kind() != StoreErrorKind::Moved
        {
            return Err(breaks(PROMISE)(error));
        }
        equal(&marks(&read(&*store, SCHOOL).await?), &Vec::new(), PROMISE)?;
        equal(&history(&*store, SCHOOL, AMELIA).await?, &Vec::new(), PROMISE)?;
    }
    Ok(())
}

/// Schools that write at once do not get in each other's way.
///
/// # Errors
/// The promise is broken.
pub async fn lets_schools_write_at_once(store: Arc<dyn MarkStore>) -> Kept {
    const PROMISE: &str = "schools that write at once write as if each were alone";
    let names: Vec<String> = (0..4).map(|number| format!("school-{number}")).collect();
    for round in 1..=5 {
        let mut sets = Vec::new();
        for (number, name) in names.iter().enumerate() {
            // The same marks, in another order.
            let mut writes: Vec<Write> = (1..=6).map(|day| put(AMELIA, day, round)).collect();
            writes.rotate_left(number);
            let revision = read(&*store, name).await?.revision();
            sets.push((SchoolId::new(name), changes(revision, i64::from(round), writes)));
        }
        let refused = race(&store, sets, PROMISE).await?.into_iter().flatten().count();
        ensure(refused == 0, PROMISE, || format!("{refused} of {} were refused", names.len()))?;
    }
    for name in &names {
        let numbers: Vec<u64> = runs(&*store, name).await?.iter().map(|run| run.number).collect();
        equal(&numbers, &vec![1, 2, 3, 4, 5], PROMISE)?;
        equal(&feed(&*store, name, 7).await?.len(), &30, PROMISE)?;
    }
    Ok(())
}

/// A reader sees a whole change set or none of it, with its run and its history.
///
/// # Errors
/// The promise is broken.
pub async fn shows_readers_all_or_nothing(store: Arc<dyn MarkStore>) -> Kept {
    const PROMISE: &str = "a reader sees a change set whole or not at all";
    const RUN: &str = "a run, its marks and its history become visible together";
    let set = |minute: u32| (1..=28).map(|day| put(AMELIA, day, minute)).collect::<Vec<_>>();
    write(&*store, SCHOOL, 1, set(1)).await?;
    let writer = Arc::clone(&store);
    let writing = tokio::spawn(async move {
        for minute in 2..25 {
            write(&*writer, SCHOOL, i64::from(minute), set(minute)).await?;
        }
        Ok::<(), StoreError>(())
    });
    let newest_run = async || {
        let runs = store.runs(&SCHOOL.into(), &RunQuery::all().with_newest(1)).await?;
        Ok::<_, StoreError>(runs.first().map(|run| run.freshness.fetched_at))
    };
    let newest_change =
        async || Ok::<_, StoreError>(history(&*store, SCHOOL, AMELIA).await?.last().map(|change| change.seen_at));
    loop {
        let is_last = writing.is_finished();
        let earlier = [newest_run().await?, newest_change().await?];
        let snapshot = read(&*store, SCHOOL).await?;
        let later = [newest_run().await?, newest_change().await?];
        let mut times: Vec<_> = snapshot.marks().iter().map(|stored| stored.fetched_at).collect();
        times.dedup();
        equal(&(snapshot.marks().len(), times.len()), &(28, 1), PROMISE)?;
        let shown = times.first().copied();
        let together = earlier.iter().all(|time| *time <= shown) && later.iter().all(|time| *time >= shown);
        ensure(together, RUN, || "One of them comes later".to_owned())?;
        if is_last {
            break;
        }
        tokio::task::yield_now().await;
    }
    writing.await.map_err(panicked(PROMISE))?.map_err(breaks(PROMISE))
}

/// The marks and the revision of a read are from the same moment.
///
/// # Errors
/// The promise is broken.
pub async fn reads_marks_and_revision_of_one_moment(store: Arc<dyn MarkStore>) -> Kept {
    const PROMISE: &str = "the marks and the revision of a read are of one moment";
    let writer = Arc::clone(&store);
    let writing = tokio::spawn(async move {
        for hour in 1..=80 {
            write(&*writer, SCHOOL, hour, vec![put(AMELIA, 3, 1 + hour as u32 % 50)]).await?;
            tokio::task::yield_now().await;
        }
        Ok::<(), StoreError>(())
    });
    let mut seen = BTreeMap::new();
    loop {
        let is_last = writing.is_finished();
        let snapshot = read(&*store, SCHOOL).await?;
        let shown = snapshot.marks().first().map(|stored| stored.fetched_at);
        let before = *seen.entry(snapshot.revision()).or_insert(shown);
        equal(&shown, &before, PROMISE)?;
        if is_last {
            break;
        }
        tokio::task::yield_now().await;
    }
    let shown: Vec<_> = seen.into_values().collect();
    let grows = shown.windows(2).all(|pair| pair.first() < pair.last());
    ensure(grows, PROMISE, || "A later revision shows an older mark".to_owned())?;
    writing.await.map_err(panicked(PROMISE))?.map_err(breaks(PROMISE))
}

/// A reader that follows the feed while others write misses nothing and gets nothing twice.
///
/// # Errors
/// The promise is broken.
pub async fn feeds_a_reader_beside_writers(store: Arc<dyn MarkStore>) -> Kept {
    const PROMISE: &str = "a reader that follows the feed beside writers misses nothing and gets nothing twice";
    let writers: Vec<_> = [SCHOOL, "conformance-third"]
        .into_iter()
        .map(|school| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for minute in 1..25 {
                    let writes = (1..=4).map(|day| put(AMELIA, day, minute)).collect();
                    write(&*store, school, i64::from(minute), writes).await?;
                    if minute % 5 == 0 {
                        store.erase(&school.into(), &BEN.into()).await?;
                    }
                }
                Ok::<(), StoreError>(())
            })
        })
        .collect();
    let mut followed: Vec<FeedEntry> = Vec::new();
    loop {
        let is_last = writers.iter().all(|writer| writer.is_finished());
        let after = followed.last().map(FeedEntry::cursor);
        followed.extend(store.changes(&SCHOOL.into(), after, 3).await?);
        let is_done = is_last && followed.last().map(FeedEntry::cursor) == after;
        if is_done || followed.len() > 1_000 {
            break;
        }
        tokio::task::yield_now().await;
    }
    for writer in writers {
        writer.await.map_err(panicked(PROMISE))?.map_err(breaks(PROMISE))?;
    }
    // A later erasure replaces an earlier one, so only the last is left.
    let erasures = followed.iter().filter(|entry| matches!(entry, FeedEntry::Erased { .. })).map(FeedEntry::cursor);
    let newest = erasures.max();
    followed.retain(|entry| matches!(entry, FeedEntry::Changed(_)) || Some(entry.cursor()) == newest);
    equal_lists(&followed, &feed(&*store, SCHOOL, 1_000).await?, PROMISE)?;
    equal(&followed.len(), &(24 * 4 + 1), PROMISE)
}
