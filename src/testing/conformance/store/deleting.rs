//! What deleting removes, and what stays.

use super::*;
use crate::model::{Issue, Issues, StudentId};
use crate::store::as_of;

/// Erasing a student leaves nothing of the student except one entry of the feed, and leaves all data of others.
///
/// # Errors
/// The promise is broken.
pub async fn erases_a_student(store: &dyn MarkStore) -> Kept {
    const PROMISE: &str = "of an erased student nothing is left but the feed's entry, and of others everything";
    const FEED: &str = "the feed tells of an erasure at a new cursor";
    let school = SchoolId::new(SCHOOL);
    write(store, SCHOOL, 9, vec![put(AMELIA, 3, 1), put(BEN, 3, 1), put(AMELIA, 4, 1), put(BEN, 4, 1)]).await?;
    write(store, SCHOOL, 10, vec![put(AMELIA, 3, 0), remove(AMELIA, 4), put(AMELIA, 9, 1)]).await?;
    let mut issues = Issues::default();
    issues.raise(Issue::ImplausibleTimestamp, Some("901"));
    let named = Run::new(Freshness::new(instant(11), TimeDelta::zero()), scope().with_students([AMELIA, BEN]), rules());
    let (of_amelia, of_ben) =
        (withheld(AMELIA, 4, WithheldReason::Unproven), withheld(BEN, 4, WithheldReason::TooMany));
    let lists = vec![of_amelia, of_ben.clone()];
    let named = withholding(named.with_issues(issues), &lists);
    let revision = read(store, SCHOOL).await?.revision();
    let narrow = store.apply(&school, &ChangeSet::new(revision, named).with_withheld(lists)).await?;
    let before = (runs(store, SCHOOL).await?, whole_history(store, SCHOOL).await?);
    let last = feed(store, SCHOOL, 100).await?.last().map(FeedEntry::cursor);

    let places = store.erase(&school, &AMELIA.into()).await?;
    let after = read(store, SCHOOL).await?;
    equal_lists(&marks(&after), &said([mark(BEN, 3, 1), mark(BEN, 4, 1)]), PROMISE)?;
    equal(&history(store, SCHOOL, AMELIA).await?, &Vec::new(), PROMISE)?;
    let others: Vec<Change> = before.1.into_iter().filter(|change| change.key.student.as_str() != AMELIA).collect();
    equal_lists(&whole_history(store, SCHOOL).await?, &others, PROMISE)?;
    let new = store.changes(&school, last, 9).await?;
    let is_erasure =
        |entry: &FeedEntry| matches!(entry, FeedEntry::Erased { student, .. } if student.as_str() == AMELIA);
    ensure(new.len() == 1 && new.iter().all(is_erasure), FEED, || {
        format!("Found {} entries after the last cursor", new.len())
    })?;
    let found = format!("{:?}", runs(store, SCHOOL).await?);
    ensure(!found.contains(AMELIA), "no run names an erased student", || "One does".to_owned())?;
    let expected: Vec<Run> = before.0.into_iter().map(|run| run.without_student(&AMELIA.into())).collect();
    let promise = "an erasure leaves the runs as Run::without_student does";
    equal_lists(&runs(store, SCHOOL).await?, &expected, promise)?;
    let found = store.withheld(&school, narrow).await?;
    let promise = "what runs withheld of an erased student is gone, and of others it stays";
    ensure(found.is_none() || found == Some(vec![of_ben]), promise, || "It is otherwise".to_owned())?;
    ensure(after.revision() > revision, "an erasure raises the revision", || "It stays".to_owned())?;
    let outdated = kind(store.apply(&school, &changes(revision, 12, vec![put(AMELIA, 3, 1)])).await);
    equal(&outdated, &Some(StoreErrorKind::Moved), "a plan from before an erasure is refused")?;
    equal(&places, &3, "an erasure counts the places that held anything")?;

    let unknown = SchoolId::new("conformance-unknown");
    store.erase(&unknown, &AMELIA.into()).await?;
    let told = store.changes(&unknown, None, 9).await?;
    ensure(told.iter().any(is_erasure), FEED, || "In a school that was never written it is not told".to_owned())?;

    store.erase(&school, &StudentId::new("nobody")).await?;
    let erased =
        |entries: &[FeedEntry]| entries.iter().filter(|entry| matches!(entry, FeedEntry::Erased { .. })).count();
    let entries = feed(store, SCHOOL, 100).await?;
    ensure(erased(&entries) == 2, FEED, || "That of a student who is not there is not told".to_owned())?;
    equal(&store.erase(&school, &AMELIA.into()).await?, &0, "an erasure counts the places that held anything")?;
    let again = feed(store, SCHOOL, 100).await?;
    let is_newer = again.last().is_some_and(is_erasure)
        && again.last().map(FeedEntry::cursor) > entries.last().map(FeedEntry::cursor);
    ensure(is_newer, FEED, || "That of a student who was erased before is not told again".to_owned())?;
    equal(&erased(&again), &2, "a later erasure of a student takes the place of the earlier one")?;
    let newest = again.last().map(FeedEntry::cursor);
    let run = write(store, SCHOOL, 13, vec![put(AMELIA, 3, 1)]).await?;
    equal(&run, &4, "numbers of runs go on after an erasure")?;
    let back = history(store, SCHOOL, AMELIA).await?;
    let is_new = back.len() == 1 && back.iter().all(|change| change.before.is_none() && Some(change.cursor) > newest);
    ensure(is_new, "a student who comes back after an erasure is new", || "An older change is there".to_owned())
}

/// Pruning changes nothing that the store shows from the date on.
///
/// # Errors
/// The promise is broken.
pub async fn prunes_what_nobody_sees(store: &dyn MarkStore) -> Kept {
    const PROMISE: &str = "pruning changes nothing that the store shows from that date on";
    const MORE: &str = "pruning deletes what nobody sees from that date on";
    let school = SchoolId::new(SCHOOL);
    let lists = vec![withheld(AMELIA, 3, WithheldReason::Unproven)];
    withhold_at(store, -70, &lists).await?;
    for (hour, writes) in
        [(-60, vec![put(AMELIA, 3, 1), put(BEN, 3, 1), put(BEN, 5, 1)]), (-50, vec![put(AMELIA, 3, 2), remove(BEN, 3)])]
    {
        write(store, SCHOOL, hour, writes).await?;
    }
    let at_midnight = Run::new(Freshness::new(midnight(), TimeDelta::zero()), scope(), rules());
    write_as(store, SCHOOL, at_midnight, vec![put(AMELIA, 3, 3), put(BEN, 3, 3)]).await?;
    for minute in [4, 5] {
        write(store, SCHOOL, i64::from(minute) + 5, vec![put(AMELIA, 3, minute)]).await?;
    }
    withhold_at(store, -40, &lists).await?;
    withhold_at(store, -30, &lists).await?;
    let before = read(store, SCHOOL).await?;
    let (of_amelia, of_ben) = (history(store, SCHOOL, AMELIA).await?, history(store, SCHOOL, BEN).await?);
    let entries = feed(store, SCHOOL, 100).await?;
    let nothing = store.prune(&school, date(16)).await?;
    equal(&(nothing.changes, nothing.runs), &(0, 0), PROMISE)?;

    let pruned = store.prune(&school, date(20)).await?;
    equal(&read(store, SCHOOL).await?, &before, PROMISE)?;
    let left = history(store, SCHOOL, AMELIA).await?;
    let left_of_ben = history(store, SCHOOL, BEN).await?;
    for moment in [midnight(), instant(0), instant(9), instant(10), instant(11)] {
        equal(&as_of(&left, moment), &as_of(&of_amelia, moment), PROMISE)?;
        equal(&as_of(&left_of_ben, moment), &as_of(&of_ben, moment), PROMISE)?;
    }
    let expected = |whole: &[Change], from: usize| {
        let mut left = whole.get(from..).unwrap_or_default().to_vec();
        if let Some(first) = left.first_mut() {
            first.before = None;
        }
        left
    };
    // The last change before midnight is what was shown then; the change before that is no longer seen.
    equal_lists(&left, &expected(&of_amelia, 1), MORE)?;
    equal_lists(&left_of_ben, &expected(&of_ben, 2), MORE)?;
    let found: Vec<u64> = runs(store, SCHOOL).await?.iter().map(|run| run.number).collect();
    equal(
        &found,
        &vec![2, 3, 4, 5, 6, 8],
        "runs from before the date go, unless a change needs them or they are the newest",
    )?;
    equal(&(pruned.changes, pruned.runs), &(3, 2), "pruning says how many changes and runs it has deleted")?;
    let promise = "what a run withheld goes with the run";
    equal(&store.withheld(&school, 1).await?, &None, promise)?;
    equal(&store.withheld(&school, 7).await?, &None, promise)?;
    ensure(store.withheld(&school, 8).await?.is_none_or(|kept| kept == lists), PROMISE, || {
        "What the newest run withheld is gone".to_owned()
    })?;

    let still = feed(store, SCHOOL, 100).await?;
    let known: Vec<ChangeCursor> = entries.iter().map(FeedEntry::cursor).collect();
    let stay = still.iter().all(|entry| known.contains(&entry.cursor()));
    ensure(stay, "cursors stay valid", || "One is new".to_owned())?;
    for cursor in &known {
        let rest = store.changes(&school, Some(*cursor), 100).await?;
        let expected: Vec<_> = still.iter().filter(|entry| entry.cursor() > *cursor).cloned().collect();
        equal_lists(&rest, &expected, "cursors stay valid")?;
    }
    let run = store.apply(&school, &changes(before.revision(), 12, vec![put(AMELIA, 3, 6)])).await;
    equal(&run.map_err(|error| error.kind()), &Ok(9), "pruning leaves the revision and the numbers of runs")?;
    let newest = feed(store, SCHOOL, 100).await?.last().map(FeedEntry::cursor);
    ensure(newest > known.last().copied(), "no cursor is given twice", || "One has come again".to_owned())?;

    store.erase(&school, &AMELIA.into()).await?;
    let erased =
        |entries: &[FeedEntry]| entries.iter().filter(|entry| matches!(entry, FeedEntry::Erased { .. })).count();
    store.prune(&school, date(20)).await?;
    let found = erased(&feed(store, SCHOOL, 100).await?);
    equal(&found, &1, "an erasure's entry stays until a date after it is pruned")?;
    let changes = whole_history(store, SCHOOL).await?.len();
    let later = Utc::now().date_naive() + TimeDelta::days(3);
    let pruned = store.prune(&school, later).await?.changes;
    let gone = changes - whole_history(store, SCHOOL).await?.len();
    equal(&pruned, &(gone as u64), "pruning says how many changes it has deleted, and counts no erasure")?;
    let found = erased(&feed(store, SCHOOL, 100).await?);
    equal(&found, &0, "an erasure's entry from before the date goes")?;
    equal_lists(&marks(&read(store, SCHOOL).await?), &said([mark(BEN, 3, 3), mark(BEN, 5, 1)]), PROMISE)
}

/// Applies a run at this time that withholds these changes and writes nothing.
async fn withhold_at(store: &dyn MarkStore, hour: i64, lists: &[WithheldChange]) -> Result<u64, StoreError> {
    let revision = read(store, SCHOOL).await?.revision();
    let set = ChangeSet::new(revision, withholding(run(hour), lists)).with_withheld(lists.to_vec());
    store.apply(&SCHOOL.into(), &set).await
}
