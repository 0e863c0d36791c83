//! Reading marks, and how a change set changes them.

use chrono::SubsecRound;

use super::*;
use crate::model::{DecisionRule, Loser, LoserReason, RecordKind, Status};

/// No call shows or changes the data of another school.
///
/// # Errors
/// The promise is broken; so with every function here.
pub async fn keeps_schools_apart(store: &dyn MarkStore) -> Kept {
    const PROMISE: &str = "a school shows nothing of another's, and changes nothing there";
    let other = SchoolId::new(OTHER);
    write(store, SCHOOL, 9, vec![put(AMELIA, 3, 1)]).await?;
    write(store, SCHOOL, 10, vec![put(AMELIA, 3, 2)]).await?;
    withhold(store, SCHOOL, vec![withheld(AMELIA, 3, WithheldReason::Unproven)]).await?;
    let of_school = everything(store, SCHOOL).await?;
    for name in [OTHER, "Conformance", "conformance/3"] {
        let other = SchoolId::new(name);
        equal(&read(store, name).await?, &Snapshot::default(), PROMISE)?;
        equal(&history(store, name, AMELIA).await?, &Vec::new(), PROMISE)?;
        equal(&whole_history(store, name).await?, &Vec::new(), PROMISE)?;
        equal(&runs(store, name).await?, &Vec::new(), PROMISE)?;
        equal(&store.changes(&other, None, 9).await?, &Vec::new(), PROMISE)?;
        equal(&store.withheld(&other, 3).await?, &None, PROMISE)?;
        equal(&store.last_covering_run(&other, &AMELIA.into(), date(3)).await?, &None, PROMISE)?;
        let held = store.sessions_held(&other, scope().window()).await?;
        ensure(held.is_empty(), PROMISE, || "A session is held".to_owned())?;
    }
    write(store, OTHER, 11, vec![put(AMELIA, 3, 4), put(BEN, 3, 4)]).await?;
    write(store, OTHER, 12, vec![remove(AMELIA, 3)]).await?;
    withhold(store, OTHER, vec![withheld(BEN, 4, WithheldReason::TooMany)]).await?;
    equal_lists(&everything(store, SCHOOL).await?, &of_school, PROMISE)?;
    store.prune(&other, date(28)).await?;
    equal_lists(&everything(store, SCHOOL).await?, &of_school, PROMISE)?;
    store.erase(&other, &AMELIA.into()).await?;
    equal_lists(&everything(store, SCHOOL).await?, &of_school, PROMISE)?;
    equal(&history(store, SCHOOL, BEN).await?, &Vec::new(), PROMISE)?;
    let of_other = everything(store, OTHER).await?;
    store.erase(&SCHOOL.into(), &BEN.into()).await?;
    store.prune(&SCHOOL.into(), date(28)).await?;
    equal_lists(&everything(store, OTHER).await?, &of_other, PROMISE)
}

/// Marks are read as they were put, by student, date and session, with the time of their fetch.
///
/// # Errors
/// The promise is broken.
pub async fn reads_what_was_applied(store: &dyn MarkStore) -> Kept {
    let empty = read(store, SCHOOL).await?;
    equal(&empty, &Snapshot::default(), "a school that was never written is empty, with revision 0")?;
    write(store, SCHOOL, 9, vec![put(BEN, 3, 1), put(AMELIA, 4, 0), put(AMELIA, 3, 2), put_pm(AMELIA, 3, 3)]).await?;
    let snapshot = read(store, SCHOOL).await?;
    let put = said([mark(AMELIA, 3, 2), session_mark(AMELIA, 3, Session::Pm, 3), mark(AMELIA, 4, 0), mark(BEN, 3, 1)]);
    equal_lists(&marks(&snapshot), &put, "marks come back as they were put")?;
    ensure(snapshot.revision() > 0, "the revision grows with every change", || "It is still 0".to_owned())
}

/// Ids that differ in any way are different students, and sort by code point.
///
/// # Errors
/// The promise is broken.
pub async fn tells_ids_apart(store: &dyn MarkStore) -> Kept {
    const APART: &str = "ids that differ in anything, case and accents too, are different students";
    const SORTED: &str = "students sort by code point (b after B, é after z)";
    let ids = ["10", "9", "B", "E", "O'Neil; --", "b", "e", "e\u{301}", "z", "\u{e9}"];
    let lists = ids.iter().rev().map(|id| withheld(id, 4, WithheldReason::Unproven)).collect::<Vec<_>>();
    let writes = ids.into_iter().rev().map(|id| put(id, 3, 1)).collect();
    let revision = read(store, SCHOOL).await?.revision();
    let set = ChangeSet::new(revision, withholding(run(9), &lists)).with_writes(writes).with_withheld(lists);
    let run = store.apply(&SCHOOL.into(), &set).await?;
    let snapshot = read(store, SCHOOL).await?;
    let found: Vec<&str> = snapshot.marks().iter().map(|stored| stored.key.student.as_str()).collect();
    equal_lists(&found, &ids, APART)?;
    for id in ids {
        let one = Scope::all(scope().window()).with_students([id]);
        let snapshot = store.read(&SCHOOL.into(), &one).await?;
        let found: Vec<&MarkKey> = snapshot.marks().iter().map(|stored| &stored.key).collect();
        equal(&found, &vec![&key(id, 3)], "a scope's student is that id and no other")?;
        let students: Vec<_> = history(store, SCHOOL, id).await?.into_iter().map(|change| change.key.student).collect();
        equal(&students, &vec![id.into()], "every student has a history of its own")?;
    }
    let found = whole_history(store, SCHOOL).await?;
    equal(&found.len(), &ids.len(), "every student has a history of its own")?;
    let found = store.withheld(&SCHOOL.into(), run).await?.unwrap_or_default();
    let found: Vec<&str> = found.iter().map(|change| change.key.student.as_str()).collect();
    // Another promise catches a store that keeps no lists at all.
    if found.is_empty() { Ok(()) } else { equal_lists(&found, &ids, SORTED) }
}

/// Every time is kept to the microsecond.
///
/// # Errors
/// The promise is broken.
pub async fn keeps_times_to_the_microsecond(store: &dyn MarkStore) -> Kept {
    const PROMISE: &str = "times are kept to the microsecond";
    const CLOCK: &str = "a change says when it was written, by the store's own clock";
    // Years ago, so that no clock can be taken for the fetch.
    let hour = -200_000;
    let freshness = Freshness::new(instant(hour), TimeDelta::hours(7));
    write_as(store, SCHOOL, Run::new(freshness, scope(), rules()), vec![put(AMELIA, 3, 1)]).await?;
    let snapshot = read(store, SCHOOL).await?;
    let stored = snapshot.marks().first().ok_or_else(|| Violation::new(PROMISE, "The mark is not there"))?;
    equal(&stored.fetched_at, &instant(hour), PROMISE)?;
    let as_of = "a mark says what its run's fetch can show at the earliest (Freshness::as_of_earliest)";
    equal(&stored.as_of_earliest.trunc_subsecs(0), &instant(hour - 7).trunc_subsecs(0), as_of)?;
    equal(&stored.as_of_earliest, &instant(hour - 7), PROMISE)?;
    equal(&stored.content.last_updated, &mark(AMELIA, 3, 1).last_updated(), PROMISE)?;
    let history = history(store, SCHOOL, AMELIA).await?;
    let seen: Vec<_> = history.iter().map(|change| change.seen_at).collect();
    equal(&seen, &vec![instant(hour)], PROMISE)?;
    let after = history.first().and_then(|change| change.after.as_ref()?.last_updated());
    equal(&after, &mark(AMELIA, 3, 1).last_updated(), PROMISE)?;
    let mut fetched: Vec<_> = runs(store, SCHOOL).await?.iter().map(|run| run.freshness.fetched_at).collect();
    fetched.dedup();
    equal(&fetched, &vec![instant(hour)], PROMISE)?;
    // A server's clock can differ, but not by a day.
    let is_now = |applied_at: DateTime<Utc>| (Utc::now() - applied_at).abs() < TimeDelta::days(1);
    ensure(history.iter().all(|change| is_now(change.applied_at)), CLOCK, || "It says another day".to_owned())
}

/// A read holds the scope's dates, both ends included, and its students, and nothing else.
///
/// # Errors
/// The promise is broken.
pub async fn keeps_to_the_scope(store: &dyn MarkStore) -> Kept {
    let puts = [(AMELIA, 2), (AMELIA, 3), (AMELIA, 4), (AMELIA, 6), (BEN, 4)];
    let mut writes: Vec<Write> = puts.into_iter().map(|(student, day)| put(student, day, 1)).collect();
    writes.push(put_pm(AMELIA, 3, 1));
    write(store, SCHOOL, 9, writes).await?;
    let narrow = Scope::all(window(3, 4)).with_students([AMELIA]);
    let pm = session_mark(AMELIA, 3, Session::Pm, 1);
    let expected = said([mark(AMELIA, 3, 1), Arc::clone(&pm), mark(AMELIA, 4, 1)]);
    let snapshot = store.read(&SCHOOL.into(), &narrow).await?;
    equal_lists(&marks(&snapshot), &expected, "a read holds the scope's students and dates, both ends included")?;
    let whole = read(store, SCHOOL).await?.revision();
    let nobody = store.read(&SCHOOL.into(), &Scope::all(window(3, 4)).with_students(["nobody"])).await?;
    let found = (snapshot.revision(), nobody.revision(), nobody.marks().len());
    equal(&found, &(whole, whole, 0), "the revision is the school's, whatever the scope")?;
    let both = Scope::all(window(4, 4)).with_students([AMELIA, BEN, "nobody"]);
    let found = marks(&store.read(&SCHOOL.into(), &both).await?);
    equal_lists(&found, &said([mark(AMELIA, 4, 1), mark(BEN, 4, 1)]), "a scope can name several students")?;
    let found = marks(&store.read(&SCHOOL.into(), &Scope::all(window(4, 6))).await?);
    let all = said([mark(AMELIA, 4, 1), mark(AMELIA, 6, 1), mark(BEN, 4, 1)]);
    equal_lists(&found, &all, "a scope without students has them all")?;

    let keys = async |query: HistoryQuery| {
        let history = store.history(&SCHOOL.into(), &query).await?;
        let mut keys: Vec<MarkKey> = history.into_iter().map(|change| change.key).collect();
        keys.sort();
        Ok::<_, StoreError>(keys)
    };
    let expected: Vec<MarkKey> = expected.into_iter().map(|(key, _)| key).collect();
    let found = keys(HistoryQuery::new(narrow.clone())).await?;
    equal_lists(&found, &expected, "a scope's history is that of its students and dates")?;
    let of_pm = HistoryQuery::new(narrow).with_session(Session::Pm);
    equal_lists(&keys(of_pm).await?, &[MarkKey::from(&*pm)], "a history can be narrowed to a session")
}

/// A change set applies only to the revision that it was planned from; otherwise none of it is written.
///
/// # Errors
/// The promise is broken.
pub async fn refuses_a_plan_from_another_state(store: &dyn MarkStore) -> Kept {
    const PROMISE: &str = "a plan from another revision is refused, and nothing of it is written, its run neither";
    write(store, SCHOOL, 9, vec![put(AMELIA, 3, 1)]).await?;
    let before = everything(store, SCHOOL).await?;
    let revision = read(store, SCHOOL).await?.revision();
    for revision in [revision - 1, revision + 1] {
        let outdated = changes(revision, 10, vec![put(AMELIA, 3, 2), put(BEN, 3, 1)]).with_withheld(vec![withheld(
            AMELIA,
            4,
            WithheldReason::Unproven,
        )]);
        let refused = store.apply(&SCHOOL.into(), &outdated).await;
        equal(&refused.map_err(|error| error.kind()), &Err(StoreErrorKind::Moved), PROMISE)?;
    }
    equal_lists(&everything(store, SCHOOL).await?, &before, PROMISE)
}

/// Putting equal content, or removing a mark that does not exist, changes no mark, no history and no revision.
///
/// # Errors
/// The promise is broken.
pub async fn writes_equal_content_only_once(store: &dyn MarkStore) -> Kept {
    const PROMISE: &str = "equal content (MarkContent::same_content) and removals of nothing change nothing";
    write(store, SCHOOL, 9, vec![put(AMELIA, 3, 1)]).await?;
    let before = read(store, SCHOOL).await?;
    let altered = |alter: fn(&mut Mark)| {
        let mut mark = Mark::clone(&mark(AMELIA, 3, 1));
        alter(&mut mark);
        vec![Write::Put(Arc::new(mark))]
    };
    let renamed = altered(|mark| mark.code_name = Some("another name".into()));
    // Stamps are equal to the microsecond, and the losers are not content.
    let later = altered(|mark| {
        mark.decision.winner.last_updated = mark.last_updated().map(|stamp| stamp + TimeDelta::nanoseconds(700));
    });
    let contested = altered(|mark| {
        let record = mark.decision.winner.clone();
        mark.decision.losers.push(Loser { record, why: LoserReason::Duplicate });
    });
    for writes in [vec![put(AMELIA, 3, 1), remove(BEN, 3)], renamed, later, contested] {
        write(store, SCHOOL, 10, writes).await?;
        equal(&read(store, SCHOOL).await?, &before, PROMISE)?;
    }
    equal(&history(store, SCHOOL, AMELIA).await?.len(), &1, PROMISE)?;
    equal(&history(store, SCHOOL, BEN).await?.len(), &0, PROMISE)?;
    equal(&feed(store, SCHOOL, 100).await?.len(), &1, PROMISE)
}

/// Content that differs in any field of a marks file is written, and is read as it was put.
///
/// # Errors
/// The promise is broken.
pub async fn writes_whatever_differs(store: &dyn MarkStore) -> Kept {
    const PROMISE: &str = "a mark that differs in any field that MarkContent::same_content compares is written";
    let alterations: [fn(&mut Mark); 12] = [
        |mark| mark.status = Status::Late,
        |mark| mark.minutes_late = Some(7),
        |mark| mark.minutes_late = Some(8),
        |mark| mark.status = Status::NotTaken,
        |mark| mark.raw_code = Some("9".into()),
        |mark| (mark.code, mark.code_name) = (Some("I".into()), Some("Illness".into())),
        |mark| mark.code = Some("i".into()),
        |mark| mark.decision.rule = DecisionRule::TieBreak,
        |mark| mark.decision.winner.kind = RecordKind::SessionMark,
        |mark| mark.decision.winner.id = Some("901".into()),
        |mark| {
            mark.decision.winner.last_updated = mark.last_updated().map(|stamp| stamp + TimeDelta::microseconds(1));
        },
        |mark| mark.decision.winner.last_updated = None,
    ];
    let mut put = Mark::clone(&mark(AMELIA, 3, 1));
    write(store, SCHOOL, 9, vec![Write::Put(Arc::new(put.clone()))]).await?;
    for (alter, changes) in alterations.into_iter().zip(2..) {
        let before = read(store, SCHOOL).await?.revision();
        alter(&mut put);
        write(store, SCHOOL, 9 + changes, vec![Write::Put(Arc::new(put.clone()))]).await?;
        let snapshot = read(store, SCHOOL).await?;
        equal_lists(&marks(&snapshot), &said([Arc::new(put.clone())]), PROMISE)?;
        ensure(snapshot.revision() > before, "the revision grows with every change", || "It stays".to_owned())?;
        let history = history(store, SCHOOL, AMELIA).await?;
        equal(&(history.len() as i64), &changes, PROMISE)?;
        let last = history.last().and_then(|change| change.after.as_deref());
        equal(&last, &Some(&put), "a change holds the whole mark with its decision")?;
    }
    Ok(())
}

/// A change set can be as large as a school.
///
/// # Errors
/// The promise is broken.
pub async fn writes_many_marks_at_once(store: &dyn MarkStore) -> Kept {
    const PROMISE: &str = "a change set can hold a whole school";
    const MARKS: u32 = 10_000;
    let one = mark(AMELIA, 3, 1);
    let writes = (0..MARKS).map(|number| {
        let mut mark = Mark::clone(&one);
        mark.student = number.to_string().as_str().into();
        Write::Put(Arc::new(mark))
    });
    write(store, SCHOOL, 9, writes.collect()).await.map_err(breaks(PROMISE))?;
    equal(&read(store, SCHOOL).await?.marks().len(), &(MARKS as usize), PROMISE)
}
