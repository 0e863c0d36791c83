//! The rows of the tables, as they are written and read.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Datelike, NaiveDate, SubsecRound, Utc};
use futures::{StreamExt, TryStreamExt};
use tokio_postgres::types::{Json, ToSql, Type};
use tokio_postgres::{Row, Transaction};

use super::failure::{Failure, Outcome};
use crate::model::{Decision, DecisionRule, MarkContent, RawCode, RecordId, RecordKind, StudentId};
use crate::store::{Change, ChangeCursor, FeedEntry, MarkKey, Run, StoredMark, WithheldChange, WithheldReason, Write};

/// A value for a statement, with its type: statements are not prepared under a name, because that breaks behind poolers.
pub(super) type Value<'a> = (&'a (dyn ToSql + Sync), Type);

/// The columns of a mark's content, of the table `c`.
macro_rules! content_columns {
    ($table:literal) => {
        concat!(
            $table,
            ".status, ",
            $table,
            ".code, ",
            $table,
            ".code_name, ",
            $table,
            ".raw_code, ",
            $table,
            ".minutes_late, ",
            $table,
            ".decided_by, ",
            $table,
            ".record_id, ",
            $table,
            ".last_updated, ",
            $table,
            ".rule"
        )
    };
}
pub(super) use content_columns;

/// The number of columns in `content_columns`.
const OF_CONTENT: usize = 9;

/// The number of rows that a statement writes: enough that round trips cost little, and few enough that a first load needs
/// little memory.
const ROWS: usize = 5_000;

/// The date, clamped to years that PostgreSQL accepts.
pub(super) fn date_in_range(date: NaiveDate) -> NaiveDate {
    date.with_year(date.year().clamp(1, 9999)).unwrap_or(date)
}

/// A moment as PostgreSQL keeps it: to the microsecond, and in its range.
pub(super) fn moment(moment: DateTime<Utc>) -> DateTime<Utc> {
    let in_range = moment.with_year(moment.year().clamp(1, 9999)).unwrap_or(moment);
    in_range.trunc_subsecs(6)
}

/// Reads a number of a row that is never negative.
pub(super) fn count(number: i64) -> Outcome<u64> {
    u64::try_from(number).map_err(|_| Failure::Damaged)
}

/// A number as a row holds it.
pub(super) fn bigint(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The mark's place, from the three columns that start at `first`.
fn key(row: &Row, first: usize) -> Outcome<MarkKey> {
    let session: &str = row.try_get(first + 2)?;
    let session = session.parse().map_err(|_| Failure::Damaged)?;
    Ok(MarkKey::new(row.try_get::<_, &str>(first)?, row.try_get(first + 1)?, session))
}

/// What a mark says, from the columns that start at `first`; `None` if it was removed or there is no row.
fn content(row: &Row, first: usize) -> Outcome<Option<MarkContent>> {
    let Some(status) = row.try_get::<_, Option<&str>>(first)? else { return Ok(None) };
    let text = |at: usize| row.try_get::<_, Option<&str>>(first + at);
    let minutes_late: Option<i64> = row.try_get(first + 4)?;
    Ok(Some(MarkContent {
        status: status.parse().map_err(|_| Failure::Damaged)?,
        code: text(1)?.map(Into::into),
        code_name: text(2)?.map(Into::into),
        raw_code: text(3)?.map(RawCode::new),
        minutes_late: minutes_late.map(u32::try_from).transpose().map_err(|_| Failure::Damaged)?,
        decided_by: text(5)?.ok_or(Failure::Damaged)?.parse().unwrap_or(RecordKind::Unknown),
        record_id: text(6)?.map(RecordId::new),
        last_updated: row.try_get(first + 7)?,
        rule: text(8)?.ok_or(Failure::Damaged)?.parse().unwrap_or(DecisionRule::Unknown),
    }))
}

/// A live mark: its place, its content, when its run fetched and the earliest moment that this fetch can show.
pub(super) fn stored_mark(row: &Row, first: usize) -> Outcome<StoredMark> {
    let content = content(row, first + 3)?.ok_or(Failure::Damaged)?;
    let times = first + 3 + OF_CONTENT;
    Ok(StoredMark::new(key(row, first)?, content, row.try_get(times)?, row.try_get(times + 1)?))
}

/// The columns that [`change`] reads, of a change `c` and the change before it `p`.
pub(super) const CHANGE_COLUMNS: &str = concat!(
    "c.student, c.date, c.session, c.entry, c.run, c.seen_at, c.applied_at, c.decision, ",
    content_columns!("c"),
    ", ",
    content_columns!("p")
);

/// The change before a change `c`.
pub(super) const CHANGE_BEFORE: &str = "LEFT JOIN rollmark.changes p ON p.school = c.school AND p.entry = c.previous";

pub(super) fn change(row: &Row) -> Outcome<Change> {
    let key = key(row, 0)?;
    let cursor = ChangeCursor::new(count(row.try_get(3)?)?);
    let decision: Option<Json<Decision>> = row.try_get(7)?;
    let after = match (content(row, 8)?, decision) {
        (Some(content), Some(Json(decision))) => Some(Arc::new(key.mark(content, decision))),
        (None, None) => None,
        _ => return Err(Failure::Damaged),
    };
    let before = content(row, 8 + OF_CONTENT)?.map(Arc::new);
    let change = Change::new(key, cursor, count(row.try_get(4)?)?, row.try_get(5)?, row.try_get(6)?);
    Ok(change.with_before(before).with_after(after))
}

/// An entry of the feed: a change, or an erasure in the columns after it.
pub(super) fn feed_entry(row: &Row) -> Outcome<FeedEntry> {
    const ERASURE: usize = 8 + 2 * OF_CONTENT;
    let Some(entry) = row.try_get::<_, Option<i64>>(ERASURE)? else { return Ok(FeedEntry::Changed(change(row)?)) };
    let (cursor, student) = (ChangeCursor::new(count(entry)?), row.try_get::<_, &str>(ERASURE + 1)?.into());
    Ok(FeedEntry::Erased { cursor, student, applied_at: row.try_get(ERASURE + 2)? })
}

/// A school's row, locked by this transaction.
pub(super) struct SchoolRow {
    pub(super) id: i32,
    pub(super) revision: i64,
    /// The last entry of its feed, even if that was pruned: no number is given twice.
    pub(super) last_entry: i64,
    pub(super) last_run: i64,
}

impl SchoolRow {
    pub(super) async fn lock(transaction: &Transaction<'_>, school: &str) -> Outcome<Option<Self>> {
        const SQL: &str =
            "SELECT id, revision, last_entry, last_run FROM rollmark.schools WHERE school = $1 FOR UPDATE";
        let Some(row) = transaction.query_typed_opt(SQL, &[(&school, Type::TEXT)]).await? else { return Ok(None) };
        let (id, revision) = (row.try_get(0)?, row.try_get(1)?);
        Ok(Some(Self { id, revision, last_entry: row.try_get(2)?, last_run: row.try_get(3)? }))
    }

    /// A row that does not exist can't be locked, so it is added first; if two runs add it, one waits for the other here.
    pub(super) async fn lock_or_add(transaction: &Transaction<'_>, school: &str) -> Outcome<Self> {
        if let Some(row) = Self::lock(transaction, school).await? {
            return Ok(row);
        }
        const SQL: &str = "INSERT INTO rollmark.schools (school) VALUES ($1) ON CONFLICT DO NOTHING";
        transaction.execute_typed(SQL, &[(&school, Type::TEXT)]).await?;
        Self::lock(transaction, school).await?.ok_or(Failure::Damaged)
    }

    pub(super) async fn save(&self, transaction: &Transaction<'_>) -> Outcome<()> {
        let values: [Value<'_>; 4] = [
            (&self.id, Type::INT4),
            (&self.revision, Type::INT8),
            (&self.last_entry, Type::INT8),
            (&self.last_run, Type::INT8),
        ];
        let sql = "UPDATE rollmark.schools SET revision = $2, last_entry = $3, last_run = $4 WHERE id = $1";
        transaction.execute_typed(sql, &values).await?;
        Ok(())
    }
}

/// A write that changes something, with the entry of the change before it.
pub(super) struct NewChange<'a> {
    write: &'a Write,
    previous: Option<i64>,
}

impl<'a> NewChange<'a> {
    /// The writes that change something.
    pub(super) async fn of(
        transaction: &Transaction<'_>,
        school: &SchoolRow,
        writes: &'a [Write],
    ) -> Outcome<Vec<Self>> {
        let mut changes = Vec::with_capacity(writes.len());
        for writes in writes.chunks(ROWS) {
            // A first load has nothing to compare with.
            let latest = match school.last_entry {
                0 => HashMap::new(),
                _ => latest(transaction, school, writes).await?,
            };
            for write in writes {
                let known = latest.get(&write.key());
                let before = known.and_then(|(_, content)| content.as_ref());
                let is_same = match (before, write.after()) {
                    (None, None) => true,
                    (Some(before), Some(after)) => before.same_content(&after.content()),
                    _ => false,
                };
                if !is_same {
                    changes.push(Self { write, previous: known.map(|(entry, _)| *entry) });
                }
            }
        }
        Ok(changes)
    }

    /// Writes all changes, as the school's next entries.
    pub(super) async fn add_all(
        transaction: &Transaction<'_>,
        school: &SchoolRow,
        run: &Run,
        changes: &[Self],
    ) -> Outcome<()> {
        let previous: Vec<i64> = changes.iter().filter_map(|change| change.previous).collect();
        if !previous.is_empty() {
            let sql = "UPDATE rollmark.changes SET is_latest = false WHERE school = $1 AND entry = ANY($2)";
            let values: [Value<'_>; 2] = [(&school.id, Type::INT4), (&previous, Type::INT8_ARRAY)];
            transaction.execute_typed(sql, &values).await?;
        }
        let starts = (school.last_entry + 1..).step_by(ROWS);
        // While the server writes some rows, the next ones are on their way.
        futures::stream::iter(starts.zip(changes.chunks(ROWS)))
            .map(Ok)
            .try_for_each_concurrent(2, async |(first, changes)| {
                Columns::of(first, changes).insert(transaction, school.id, run).await
            })
            .await
    }
}

/// The latest change of each of these places, if it has any, and the mark after it.
async fn latest(
    transaction: &Transaction<'_>,
    school: &SchoolRow,
    writes: &[Write],
) -> Outcome<HashMap<MarkKey, (i64, Option<MarkContent>)>> {
    const SQL: &str = concat!(
        "SELECT c.student, c.date, c.session, c.entry, ",
        content_columns!("c"),
        " FROM unnest($2::text[], $3::date[], $4::text[]) AS place (student, date, session)
         JOIN rollmark.changes c ON c.school = $1 AND c.student = place.student AND c.date = place.date
          AND c.session = place.session AND c.is_latest"
    );
    let keys: Vec<MarkKey> = writes.iter().map(Write::key).collect();
    let students: Vec<&str> = keys.iter().map(|key| key.student.as_str()).collect();
    let dates: Vec<NaiveDate> = keys.iter().map(|key| key.date).collect();
    let sessions: Vec<&str> = keys.iter().map(|key| key.session.name()).collect();
    let values: [Value<'_>; 4] = [
        (&school.id, Type::INT4),
        (&students, Type::TEXT_ARRAY),
        (&dates, Type::DATE_ARRAY),
        (&sessions, Type::TEXT_ARRAY),
    ];
    let mut latest = HashMap::with_capacity(writes.len());
    for row in transaction.query_typed(SQL, &values).await? {
        latest.insert(key(&row, 0)?, (row.try_get(3)?, content(&row, 4)?));
    }
    Ok(latest)
}

/// Changes, column by column.
#[derive(Default)]
struct Columns<'a> {
    entry: Vec<i64>,
    previous: Vec<Option<i64>>,
    student: Vec<String>,
    date: Vec<NaiveDate>,
    session: Vec<&'a str>,
    status: Vec<Option<&'a str>>,
    code: Vec<Option<&'a str>>,
    code_name: Vec<Option<&'a str>>,
    raw_code: Vec<Option<&'a str>>,
    minutes_late: Vec<Option<i64>>,
    decided_by: Vec<Option<&'a str>>,
    record_id: Vec<Option<&'a str>>,
    last_updated: Vec<Option<DateTime<Utc>>>,
    rule: Vec<Option<&'a str>>,
    decision: Vec<Option<Json<&'a Decision>>>,
}

impl<'a> Columns<'a> {
    fn of(first: i64, changes: &[NewChange<'a>]) -> Self {
        let mut columns = Self::default();
        for (entry, change) in (first..).zip(changes) {
            let key = change.write.key();
            let mark = change.write.after();
            let decision = mark.map(|mark| &mark.decision);
            columns.entry.push(entry);
            columns.previous.push(change.previous);
            columns.student.push(key.student.as_str().to_owned());
            columns.date.push(key.date);
            columns.session.push(key.session.name());
            columns.status.push(mark.map(|mark| mark.status.name()));
            columns.code.push(mark.and_then(|mark| mark.code.as_deref()));
            columns.code_name.push(mark.and_then(|mark| mark.code_name.as_deref()));
            columns.raw_code.push(mark.and_then(|mark| mark.raw_code.as_ref()).map(RawCode::as_str));
            columns.minutes_late.push(mark.and_then(|mark| mark.minutes_late).map(i64::from));
            columns.decided_by.push(decision.map(|decision| decision.winner.kind.name()));
            columns.record_id.push(decision.and_then(|decision| decision.winner.id.as_ref()).map(RecordId::as_str));
            columns.last_updated.push(decision.and_then(|decision| decision.winner.last_updated).map(moment));
            columns.rule.push(decision.map(|decision| decision.rule.name()));
            columns.decision.push(decision.map(Json));
        }
        columns
    }

    async fn insert(&self, transaction: &Transaction<'_>, school: i32, run: &Run) -> Outcome<()> {
        const SQL: &str = "
            INSERT INTO rollmark.changes (school, run, seen_at, as_of_earliest, applied_at, entry, previous, student, date,
                session, status, code, code_name, raw_code, minutes_late, decided_by, record_id, last_updated, rule, decision)
            SELECT $1, $2, $3, $4, now(), *
            FROM unnest($5::bigint[], $6::bigint[], $7::text[], $8::date[], $9::text[], $10::text[], $11::text[],
                $12::text[], $13::text[], $14::bigint[], $15::text[], $16::text[], $17::timestamptz[], $18::text[],
                $19::jsonb[])";
        let number = bigint(run.number);
        let (seen_at, as_of_earliest) = (moment(run.freshness.fetched_at), moment(run.freshness.as_of_earliest()));
        let values: [Value<'_>; 19] = [
            (&school, Type::INT4),
            (&number, Type::INT8),
            (&seen_at, Type::TIMESTAMPTZ),
            (&as_of_earliest, Type::TIMESTAMPTZ),
            (&self.entry, Type::INT8_ARRAY),
            (&self.previous, Type::INT8_ARRAY),
            (&self.student, Type::TEXT_ARRAY),
            (&self.date, Type::DATE_ARRAY),
            (&self.session, Type::TEXT_ARRAY),
            (&self.status, Type::TEXT_ARRAY),
            (&self.code, Type::TEXT_ARRAY),
            (&self.code_name, Type::TEXT_ARRAY),
            (&self.raw_code, Type::TEXT_ARRAY),
            (&self.minutes_late, Type::INT8_ARRAY),
            (&self.decided_by, Type::TEXT_ARRAY),
            (&self.record_id, Type::TEXT_ARRAY),
            (&self.last_updated, Type::TIMESTAMPTZ_ARRAY),
            (&self.rule, Type::TEXT_ARRAY),
            (&self.decision, Type::JSONB_ARRAY),
        ];
        transaction.execute_typed(SQL, &values).await?;
        Ok(())
    }
}

/// Writes a run. `keeps_withheld` is false if the run withheld changes that are not listed.
pub(super) async fn add_run(
    transaction: &Transaction<'_>,
    school: i32,
    run: &Run,
    keeps_withheld: bool,
) -> Outcome<()> {
    const SQL: &str = "
        INSERT INTO rollmark.run_records (school, number, purpose, fetched_at, as_of_earliest, applied_at, from_date,
            to_date, students, added, changed, unchanged, removed, withheld, kept, keeps_withheld, run)
        VALUES ($1, $2, $3, $4, $5, now(), $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
    let window = run.scope.window();
    let students = students_of(run);
    let marks = run.marks;
    let values: [Value<'_>; 16] = [
        (&school, Type::INT4),
        (&bigint(run.number), Type::INT8),
        (&run.purpose.name(), Type::TEXT),
        (&moment(run.freshness.fetched_at), Type::TIMESTAMPTZ),
        (&moment(run.freshness.as_of_earliest()), Type::TIMESTAMPTZ),
        (&date_in_range(window.from()), Type::DATE),
        (&date_in_range(window.to()), Type::DATE),
        (&students, Type::TEXT_ARRAY),
        (&bigint(marks.added), Type::INT8),
        (&bigint(marks.changed), Type::INT8),
        (&bigint(marks.unchanged), Type::INT8),
        (&bigint(marks.removed), Type::INT8),
        (&bigint(marks.withheld), Type::INT8),
        (&bigint(marks.kept), Type::INT8),
        (&keeps_withheld, Type::BOOL),
        (&Json(run), Type::JSON),
    ];
    transaction.execute_typed(SQL, &values).await?;
    Ok(())
}

fn students_of(run: &Run) -> Option<Vec<&str>> {
    Some(run.scope.students()?.iter().map(StudentId::as_str).collect())
}

/// Writes the parts of a run that an erasure changes.
pub(super) async fn update_run(transaction: &Transaction<'_>, school: i32, run: &Run) -> Outcome<()> {
    let values: [Value<'_>; 4] = [
        (&school, Type::INT4),
        (&bigint(run.number), Type::INT8),
        (&students_of(run), Type::TEXT_ARRAY),
        (&Json(run), Type::JSON),
    ];
    let sql = "UPDATE rollmark.run_records SET students = $3, run = $4 WHERE school = $1 AND number = $2";
    transaction.execute_typed(sql, &values).await?;
    Ok(())
}

/// The run in a row's first column.
pub(super) fn run(row: &Row) -> Outcome<Run> {
    let Json(run) = row.try_get(0)?;
    Ok(run)
}

/// Writes what a run withheld, and deletes the lists of older runs.
pub(super) async fn add_withheld(
    transaction: &Transaction<'_>,
    school: i32,
    run: i64,
    withheld: &[WithheldChange],
) -> Outcome<()> {
    if withheld.is_empty() {
        return Ok(());
    }
    const SQL: &str = "
        INSERT INTO rollmark.withheld_changes (school, run, student, date, session, reason)
        SELECT $1, $2, * FROM unnest($3::text[], $4::date[], $5::text[], $6::text[])";
    for withheld in withheld.chunks(ROWS) {
        let students: Vec<&str> = withheld.iter().map(|change| change.key.student.as_str()).collect();
        let dates: Vec<NaiveDate> = withheld.iter().map(|change| change.key.date).collect();
        let sessions: Vec<&str> = withheld.iter().map(|change| change.key.session.name()).collect();
        let reasons: Vec<&str> = withheld.iter().map(|change| change.reason.name()).collect();
        let values: [Value<'_>; 6] = [
            (&school, Type::INT4),
            (&run, Type::INT8),
            (&students, Type::TEXT_ARRAY),
            (&dates, Type::DATE_ARRAY),
            (&sessions, Type::TEXT_ARRAY),
            (&reasons, Type::TEXT_ARRAY),
        ];
        transaction.execute_typed(SQL, &values).await?;
    }
    const TRIM: &str = "
        WITH old AS (
            SELECT DISTINCT run FROM rollmark.withheld_changes WHERE school = $1 ORDER BY run DESC OFFSET $2
        ), trimmed AS (
            UPDATE rollmark.run_records SET keeps_withheld = false
            WHERE school = $1 AND number IN (SELECT run FROM old)
        )
        DELETE FROM rollmark.withheld_changes WHERE school = $1 AND run IN (SELECT run FROM old)";
    let kept = bigint(WithheldChange::RUNS_KEPT as u64);
    transaction.execute_typed(TRIM, &[(&school, Type::INT4), (&kept, Type::INT8)]).await?;
    Ok(())
}

/// A withheld change, from the columns that start at the second; `None` if there is none.
pub(super) fn withheld(row: &Row) -> Outcome<Option<WithheldChange>> {
    let Some(reason) = row.try_get::<_, Option<&str>>(4)? else { return Ok(None) };
    Ok(Some(WithheldChange::new(key(row, 1)?, reason.parse().unwrap_or(WithheldReason::Unknown))))
}
