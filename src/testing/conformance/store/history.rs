//! What the store held, when and why: runs, histories and the feed.

use super::*;
use crate::explain::ReplyAge;
use crate::model::{Issue, Issues};
use crate::store::{RunPurpose, as_of};

/// Every run is recorded, even if it writes nothing, and numbers count from 1.
///
/// # Errors
/// The promise is broken.
pub async fn records_runs(store: &dyn MarkStore) -> Kept {
    const PROMISE: &str = "every run is recorded as it was, in order, numbered from 1";
    let school = SchoolId::new(SCHOOL);
    let mut issues = Issues::default();
    issues.raise(Issue::ImplausibleTimestamp, Some("901"));
    let freshness = Freshness::new(instant(10), TimeDelta::hours(24));
    let rich = Run::new(freshness, Scope::all(window(3, 4)).with_students([AMELIA]), rules())
        .with_purpose(RunPurpose::Targeted)
        .with_zone_edition("2026a")
        .with_closed_dates([date(4)].into())
        .with_issues(issues)
        .with_reply_age(ReplyAge { at_most_seconds: Some(7), proofs: 2, ..ReplyAge::default() });
    let rich = withholding(rich, &[withheld(AMELIA, 4, WithheldReason::TooMany)]);
    let list = [run(9), rich, run(10), run(8)];
    for (run, writes) in list.iter().zip([vec![put(AMELIA, 3, 1)], vec![], vec![], vec![put(AMELIA, 3, 2)]]) {
        write_as(store, SCHOOL, run.clone(), writes).await?;
    }
    let expected: Vec<Run> = list.into_iter().zip(1..).map(|(run, number)| run.with_number(number)).collect();
    equal_lists(&runs(store, SCHOOL).await?, &expected, PROMISE)?;
    let only = async |query: RunQuery| {
        let runs = store.runs(&school, &query).await?;
        Ok::<Vec<u64>, StoreError>(runs.iter().map(|run| run.number).collect())
    };
    let newest = only(RunQuery::all().with_newest(1)).await?;
    equal(&newest, &vec![4], "the newest runs are those with the last numbers")?;
    let since = only(RunQuery::all().with_since(instant(10))).await?;
    equal(&since, &vec![2, 3], "runs since an instant include one that fetched then")?;
    let ordinary = RunQuery::all().with_purposes([RunPurpose::Window]);
    let promise = "a query for runs goes by purpose, time and number together";
    equal(&only(ordinary.clone()).await?, &vec![1, 3, 4], promise)?;
    equal(&only(ordinary.clone().with_newest(2)).await?, &vec![3, 4], promise)?;
    equal(&only(ordinary.with_since(instant(9)).with_newest(1)).await?, &vec![3], promise)
}

/// A removed mark keeps its history and can come back; the history says what was shown at any time.
///
/// # Errors
/// The promise is broken.
pub async fn keeps_the_history_of_removed_marks(store: &dyn MarkStore) -> Kept {
    const PROMISE: &str = "a mark's history holds every change, oldest first, with what was there before, removals too";
    for (hour, change) in
        [(9, put(AMELIA, 3, 1)), (10, put(AMELIA, 3, 0)), (11, remove(AMELIA, 3)), (12, put(AMELIA, 3, 1))]
    {
        write(store, SCHOOL, hour, vec![change]).await?;
    }
    let history = history(store, SCHOOL, AMELIA).await?;
    let states = [None, Some(mark(AMELIA, 3, 1)), Some(mark(AMELIA, 3, 0)), None, Some(mark(AMELIA, 3, 1))];
    equal(&history.len(), &4, PROMISE)?;
    for (number, change) in history.iter().enumerate() {
        let before = states.get(number).and_then(Option::as_ref).map(|mark| mark.content());
        equal(&change.before.as_deref().cloned(), &before, PROMISE)?;
        equal(&change.after, &states.get(number + 1).cloned().flatten(), PROMISE)?;
        equal(&change.run, &(number as u64 + 1), "a change names the run that wrote it")?;
        equal(&change.seen_at, &instant(9 + number as i64), "a change says when its run fetched")?;
    }
    let shown = |hour| as_of(&history, instant(hour)).cloned();
    let answers = [shown(8), shown(10), shown(11)];
    equal(&answers, &[None, Some(mark(AMELIA, 3, 0)), None], "the history says what was shown at any time")?;
    equal_lists(&marks(&read(store, SCHOOL).await?), &said([mark(AMELIA, 3, 1)]), "a removed mark can come back")?;

    write(store, SCHOOL, 13, vec![put_pm(AMELIA, 3, 1)]).await?;
    write(store, SCHOOL, 14, vec![remove(AMELIA, 3)]).await?;
    let left = marks(&read(store, SCHOOL).await?);
    let pm = session_mark(AMELIA, 3, Session::Pm, 1);
    equal_lists(&left, &said([pm]), "a mark's place is student, date and session")
}

/// The withheld changes of the newest runs that withheld anything are returned with reasons, by student, date and session.
///
/// # Errors
/// The promise is broken.
pub async fn keeps_what_runs_withheld(store: &dyn MarkStore) -> Kept {
    const PROMISE: &str = "what a run withheld comes back with its reasons, by student, date and session";
    const KEPT: &str =
        "the lists of a school's newest runs that withheld anything (WithheldChange::RUNS_KEPT) are kept";
    let school = SchoolId::new(SCHOOL);
    let both = |day| vec![withheld(BEN, day, WithheldReason::Unproven), withheld(AMELIA, day, WithheldReason::TooMany)];
    let sorted = |day| Some(both(day).into_iter().rev().collect::<Vec<_>>());
    for day in 1..=WithheldChange::RUNS_KEPT as u32 {
        withhold(store, SCHOOL, both(day)).await?;
        withhold(store, SCHOOL, Vec::new()).await?;
    }
    let newest = WithheldChange::RUNS_KEPT as u32;
    equal(&store.withheld(&school, u64::from(newest) * 2 - 1).await?, &sorted(newest), PROMISE)?;
    equal(&store.withheld(&school, 2).await?, &Some(Vec::new()), "a run that withheld nothing has an empty list")?;
    for day in 1..WithheldChange::RUNS_KEPT as u32 {
        equal(&store.withheld(&school, u64::from(day) * 2 - 1).await?, &sorted(day), KEPT)?;
    }
    for unknown in [0, 1_000, u64::MAX] {
        equal(&store.withheld(&school, unknown).await?, &None, "a run that is not there has no list")?;
    }
    Ok(())
}

/// The last run that could touch a mark is found, and so are the sessions in which any student has a mark.
///
/// # Errors
/// The promise is broken.
pub async fn finds_runs_and_sessions(store: &dyn MarkStore) -> Kept {
    const COVERING: &str = "the last covering run is the newest whose scope has the student and date";
    const HELD: &str = "a session is held where anybody has a mark";
    let school = SchoolId::new(SCHOOL);
    write(store, SCHOOL, 9, vec![put(AMELIA, 3, 1), put(BEN, 5, 1), put(BEN, 7, 1), put_pm(BEN, 5, 1)]).await?;
    let narrow = Scope::all(window(3, 5)).with_students([BEN]);
    write_as(store, SCHOOL, Run::new(Freshness::new(instant(10), TimeDelta::zero()), narrow, rules()), vec![]).await?;
    for (student, day, run) in [(AMELIA, 3, 1), (BEN, 2, 1), (BEN, 3, 2), (BEN, 5, 2), (BEN, 6, 1), (AMELIA, 30, 1)] {
        let found = store.last_covering_run(&school, &student.into(), date(day)).await?.map(|run| run.number);
        equal(&found, &Some(run), COVERING)?;
    }
    let far = NaiveDate::from_ymd_opt(2027, 1, 1).unwrap_or_default();
    let none = store.last_covering_run(&school, &BEN.into(), far).await?;
    equal(&none, &None, "no run covers a date outside of all scopes")?;
    write(store, SCHOOL, 11, vec![remove(BEN, 7)]).await?;
    let held = store.sessions_held(&school, scope().window()).await?;
    let expected = [(date(3), Session::Am), (date(5), Session::Am), (date(5), Session::Pm)];
    equal(&held, &expected.into(), HELD)?;
    let held = store.sessions_held(&school, window(4, 5)).await?;
    equal(&held.len(), &2, HELD)
}

/// The feed holds every change once, oldest first; reading on from a cursor leaves nothing out and repeats nothing.
///
/// # Errors
/// The promise is broken.
pub async fn feeds_every_change_once_and_in_order(store: &dyn MarkStore) -> Kept {
    const PROMISE: &str = "the feed holds every change once, in the order in which they were applied";
    const ON: &str = "reading on from a cursor leaves nothing out and repeats nothing";
    let school = SchoolId::new(SCHOOL);
    // The order of the change set, which is neither that of ids nor that of dates.
    write(store, SCHOOL, 9, [4, 2, 5, 1, 3].map(|day| put(AMELIA, day, 1)).into()).await?;
    write(store, OTHER, 9, vec![put(AMELIA, 3, 9)]).await?;
    // This run fetched before the first, but is written after it.
    write(store, SCHOOL, 8, vec![put(BEN, 3, 2), remove(AMELIA, 4), put(AMELIA, 5, 1), put(AMELIA, 3, 2)]).await?;
    let all = feed(store, SCHOOL, 1_000).await?;
    let found: Vec<(u64, MarkKey, bool)> = all
        .iter()
        .filter_map(|entry| if let FeedEntry::Changed(change) = entry { Some(change) } else { None })
        .map(|change| (change.run, change.key.clone(), change.after.is_some()))
        .collect();
    let mut expected: Vec<_> = [4, 2, 5, 1, 3].map(|day| (1, key(AMELIA, day), true)).into();
    expected.extend([(2, key(BEN, 3), true), (2, key(AMELIA, 4), false), (2, key(AMELIA, 3), true)]);
    equal_lists(&found, &expected, PROMISE)?;
    let grows = all.windows(2).all(|pair| pair.first().map(FeedEntry::cursor) < pair.last().map(FeedEntry::cursor));
    ensure(grows, "cursors grow", || "One is not above the one before".to_owned())?;
    let whole: Vec<_> = whole_history(store, SCHOOL).await?.into_iter().map(FeedEntry::Changed).collect();
    equal_lists(&whole, &all, "the history of a scope and the feed tell the same, in the same order")?;
    for limit in [1, 2, 3] {
        equal_lists(&feed(store, SCHOOL, limit).await?, &all, ON)?;
        let some = store.changes(&school, None, limit).await?;
        equal_lists(
            &some,
            all.get(..limit).unwrap_or_default(),
            "the feed gives as many entries as asked, and no more",
        )?;
    }
    equal_lists(&store.changes(&school, None, usize::MAX).await?, &all, ON)?;
    equal(&store.changes(&school, None, 0).await?, &Vec::new(), "none are given where none are asked for")?;
    let last = all.last().map(FeedEntry::cursor);
    for beyond in [last, Some(ChangeCursor::new(u64::MAX))] {
        let rest = store.changes(&school, beyond, 9).await?;
        equal(&rest, &Vec::new(), "after the last cursor comes nothing")?;
    }
    write(store, SCHOOL, 7, vec![put(BEN, 4, 1)]).await?;
    let more = store.changes(&school, last, 9).await?;
    equal(&more.len(), &1, "what is applied later comes after every earlier cursor")
}
