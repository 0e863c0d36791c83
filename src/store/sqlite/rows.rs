//! The rows of the file, each with a checksum over its content and its place, so that a row that the disk has altered, or that
//! another row points to by mistake, is an error and never a wrong mark.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Params, Row, ToSql, Transaction, params};
use serde::Serialize;

use super::failure::{Failure, Outcome};
use crate::model::{
    Decision, DecisionRule, Mark, MarkContent, RawCode, RecordId, RecordKind, SchoolId, Session, StudentId,
};
use crate::rules::Scope;
use crate::store::{
    Change, ChangeCursor, FeedEntry, MarkKey, Run, RunQuery, StoredMark, WithheldChange, WithheldReason,
};

fn checksum(row: &impl Serialize) -> Outcome<u32> {
    Ok(crc32fast::hash(&serde_json::to_vec(row)?))
}

pub(super) fn verify(row: &impl Serialize, kept: u32) -> Outcome<()> {
    if checksum(row)? == kept { Ok(()) } else { Err(Failure::Damaged) }
}

/// A checksum over the stored values of a row, with their kinds and lengths, for marks and changes, of which there are many.
#[derive(Default)]
struct ValuesChecksum(crc32fast::Hasher);

impl ValuesChecksum {
    fn add(&mut self, value: ValueRef<'_>) {
        match value {
            ValueRef::Null => self.0.update(b"n"),
            ValueRef::Integer(number) => {
                self.0.update(b"i");
                self.0.update(&number.to_le_bytes());
            }
            ValueRef::Real(number) => {
                self.0.update(b"r");
                self.0.update(&number.to_le_bytes());
            }
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
                self.0.update(b"t");
                self.0.update(&(bytes.len() as u64).to_le_bytes());
                self.0.update(bytes);
            }
        }
    }
}

/// Checks the checksum that follows these columns of a row.
fn verify_values(row: &Row<'_>, first: usize, columns: usize) -> Outcome<()> {
    let mut checksum = ValuesChecksum::default();
    for column in first..first + columns {
        checksum.add(row.get_ref(column)?);
    }
    let kept: Option<u32> = row.get(first + columns)?;
    if kept == Some(checksum.0.finalize()) { Ok(()) } else { Err(Failure::Damaged) }
}

/// Inserts a row with these values and their checksum.
fn insert(transaction: &Transaction<'_>, sql: &str, values: &[&dyn ToSql]) -> Outcome<()> {
    let mut statement = transaction.prepare_cached(sql)?;
    let mut checksum = ValuesChecksum::default();
    let mut place = 0;
    for value in values {
        place += 1;
        match &value.to_sql()? {
            ToSqlOutput::Borrowed(value) => checksum.add(*value),
            ToSqlOutput::Owned(value) => checksum.add(value.into()),
            _ => return Err(Failure::Damaged),
        }
        statement.raw_bind_parameter(place, value)?;
    }
    statement.raw_bind_parameter(place + 1, checksum.0.finalize())?;
    statement.raw_execute()?;
    Ok(())
}

/// Calls `work` for every row that a query finds.
pub(super) fn each(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    mut work: impl FnMut(&Row<'_>) -> Outcome<()>,
) -> Outcome<()> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    while let Some(row) = rows.next()? {
        work(row)?;
    }
    Ok(())
}

/// A school's row, without its lease's end.
#[derive(Serialize)]
pub(super) struct SchoolRow {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) revision: i64,
    pub(super) lease_token: i64,
    /// The last entry of its feed, even if that was pruned: no number is given twice.
    pub(super) last_change: i64,
}

impl SchoolRow {
    /// Reads every school's row, because a damaged name could be the one to find.
    pub(super) fn find(connection: &Connection, school: &SchoolId) -> Outcome<Option<Self>> {
        let mut found = None;
        let sql = "SELECT id, name, revision, lease_token, last_change, checksum FROM schools";
        each(connection, sql, [], |row| {
            let (id, name, revision) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let known = Self { id, name, revision, lease_token: row.get(3)?, last_change: row.get(4)? };
            verify(&known, row.get(5)?)?;
            if known.name == school.as_str() {
                found = Some(known);
            }
            Ok(())
        })?;
        Ok(found)
    }

    pub(super) fn find_or_add(transaction: &Transaction<'_>, school: &SchoolId) -> Outcome<Self> {
        if let Some(known) = Self::find(transaction, school)? {
            return Ok(known);
        }
        let id =
            transaction.query_row("SELECT coalesce(max(id), 0) + 1 FROM schools", [], |row| row.get::<_, i64>(0))?;
        let added = Self { id, name: school.as_str().to_owned(), revision: 0, lease_token: 0, last_change: 0 };
        added.add(transaction)?;
        Ok(added)
    }

    pub(super) fn add(&self, transaction: &Transaction<'_>) -> Outcome<()> {
        transaction.execute(
            "INSERT INTO schools (id, name, revision, lease_token, last_change, checksum) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![self.id, self.name, self.revision, self.lease_token, self.last_change, checksum(self)?],
        )?;
        Ok(())
    }

    pub(super) fn save(&self, transaction: &Transaction<'_>) -> Outcome<()> {
        transaction.execute(
            "UPDATE schools SET revision = ?2, lease_token = ?3, last_change = ?4, checksum = ?5 WHERE id = ?1",
            params![self.id, self.revision, self.lease_token, self.last_change, checksum(self)?],
        )?;
        Ok(())
    }
}

/// The number of the next entry in any school's feed.
pub(super) fn next_change(connection: &Connection) -> Outcome<i64> {
    Ok(connection.query_row("SELECT coalesce(max(last_change), 0) + 1 FROM schools", [], |row| row.get(0))?)
}

/// The names of codes, each held once.
#[derive(Default)]
pub(super) struct Texts {
    by_id: HashMap<i64, Box<str>>,
    ids: HashMap<Box<str>, i64>,
}

impl Texts {
    pub(super) fn read(connection: &Connection) -> Outcome<Self> {
        let mut texts = Self::default();
        each(connection, "SELECT id, text, checksum FROM texts", [], |row| {
            let (id, text): (i64, Box<str>) = (row.get(0)?, row.get(1)?);
            verify(&(id, &text), row.get(2)?)?;
            texts.ids.insert(text.clone(), id);
            texts.by_id.insert(id, text);
            Ok(())
        })?;
        Ok(texts)
    }

    pub(super) fn text(&self, id: i64) -> Outcome<Box<str>> {
        Ok(self.by_id.get(&id).ok_or(Failure::Damaged)?.clone())
    }

    fn id_or_new(&mut self, transaction: &Transaction<'_>, text: &str) -> Outcome<i64> {
        if let Some(id) = self.ids.get(text) {
            return Ok(*id);
        }
        let id: i64 = transaction.query_row("SELECT coalesce(max(id), 0) + 1 FROM texts", [], |row| row.get(0))?;
        transaction.execute(
            "INSERT INTO texts (id, text, checksum) VALUES (?1, ?2, ?3)",
            params![id, text, checksum(&(id, text))?],
        )?;
        self.ids.insert(text.into(), id);
        self.by_id.insert(id, text.into());
        Ok(id)
    }
}

/// The place of a mark in the file.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub(super) struct Place {
    pub(super) school: i64,
    pub(super) date: String,
    pub(super) student: String,
    pub(super) session: String,
}

/// A date as text that sorts by date, with the year clamped from 1 to 9999.
pub(super) fn date_text(date: NaiveDate) -> String {
    use chrono::Datelike;
    date.with_year(date.year().clamp(1, 9999)).unwrap_or(date).to_string()
}

impl Place {
    pub(super) fn new(school: i64, key: &MarkKey) -> Self {
        Self {
            school,
            date: date_text(key.date),
            student: key.student.as_str().to_owned(),
            session: key.session.name().to_owned(),
        }
    }

    /// The place, from the first columns of a row.
    pub(super) fn of(row: &Row<'_>) -> Outcome<Self> {
        Ok(Self { school: row.get(0)?, date: row.get(1)?, student: row.get(2)?, session: row.get(3)? })
    }

    /// The content of a mark's row: the place and the change that it points to.
    pub(super) fn checked(row: &Row<'_>) -> Outcome<(Self, i64)> {
        verify_values(row, 0, PLACE_COLUMNS)?;
        Ok((Self::of(row)?, row.get(4)?))
    }

    pub(super) fn key(&self) -> Outcome<MarkKey> {
        let session: Session = self.session.parse().map_err(|_| Failure::Damaged)?;
        Ok(MarkKey::new(self.student.as_str(), self.date.parse()?, session))
    }

    /// The mark's last change, if it has any.
    pub(super) fn last_change(&self, connection: &Connection) -> Outcome<Option<i64>> {
        let mut statement = connection
            .prepare_cached("SELECT * FROM marks WHERE school = ?1 AND date = ?2 AND student = ?3 AND session = ?4")?;
        let mut rows = statement.query(params![self.school, self.date, self.student, self.session])?;
        rows.next()?.map(|row| Ok(Self::checked(row)?.1)).transpose()
    }

    pub(super) fn delete(&self, transaction: &Transaction<'_>) -> Outcome<()> {
        transaction.execute(
            "DELETE FROM marks WHERE school = ?1 AND date = ?2 AND student = ?3 AND session = ?4",
            params![self.school, self.date, self.student, self.session],
        )?;
        Ok(())
    }

    pub(super) fn point_at(&self, transaction: &Transaction<'_>, change: i64) -> Outcome<()> {
        insert(
            transaction,
            "INSERT INTO marks VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET change = excluded.change, checksum = excluded.checksum",
            params![self.school, self.date, self.student, self.session, change],
        )
    }
}

/// Reads a number of a row that is never negative.
pub(super) fn count(number: i64) -> Outcome<u64> {
    u64::try_from(number).map_err(|_| Failure::Damaged)
}

/// One change of a mark. Its decision is in a separate row, so that marks are read without it.
pub(super) struct ChangeRow {
    pub(super) id: i64,
    pub(super) place: Place,
    pub(super) previous: Option<i64>,
    pub(super) run: i64,
    pub(super) times: ChangeTimes,
    /// What the mark says; `None` if it was removed.
    pub(super) content: Option<MarkContent>,
}

/// When a change's run fetched, the earliest moment that this fetch can show, and when the change was written.
#[derive(Clone, Copy)]
pub(super) struct ChangeTimes {
    pub(super) seen_at: DateTime<Utc>,
    pub(super) as_of_earliest: DateTime<Utc>,
    pub(super) applied_at: DateTime<Utc>,
}

/// The columns of a change before its checksum.
const CHANGE_COLUMNS: usize = 19;
/// The columns of a mark before its checksum.
const PLACE_COLUMNS: usize = 5;

impl ChangeRow {
    /// A change of this place, read by its id.
    pub(super) fn read(connection: &Connection, texts: &Texts, place: &Place, id: i64) -> Outcome<Self> {
        let mut statement = connection.prepare_cached("SELECT * FROM changes WHERE id = ?1")?;
        let mut rows = statement.query([id])?;
        let change = Self::of(rows.next()?.ok_or(Failure::Damaged)?, texts)?;
        if change.place == *place { Ok(change) } else { Err(Failure::Damaged) }
    }

    /// All changes of this place from `last` back, the newest first.
    pub(super) fn chain(connection: &Connection, texts: &Texts, place: &Place, last: i64) -> Outcome<Vec<Self>> {
        let mut changes = Vec::new();
        let mut next = Some(last);
        while let Some(id) = next {
            let change = Self::read(connection, texts, place, id)?;
            next = change.previous;
            changes.push(change);
        }
        Ok(changes)
    }

    /// The change, from a row that begins with its columns in the order of the table.
    pub(super) fn of(row: &Row<'_>, texts: &Texts) -> Outcome<Self> {
        verify_values(row, 0, CHANGE_COLUMNS)?;
        let (id, previous): (i64, Option<i64>) = (row.get(0)?, row.get(5)?);
        // Only an earlier change can be the previous one: a damaged file must not lead in circles.
        if previous.is_some_and(|previous| previous >= id) {
            return Err(Failure::Damaged);
        }
        let place = Place { school: row.get(1)?, date: row.get(2)?, student: row.get(3)?, session: row.get(4)? };
        let times =
            ChangeTimes { seen_at: moment(row, 7)?, as_of_earliest: moment(row, 8)?, applied_at: moment(row, 9)? };
        Ok(Self { id, place, previous, run: row.get(6)?, times, content: content(row, texts)? })
    }

    /// The change as callers see it, with what the mark said before.
    pub(super) fn told(self, connection: &Connection, before: Option<MarkContent>) -> Outcome<Change> {
        let (key, cursor) = (self.place.key()?, ChangeCursor::new(count(self.id)?));
        let after = match self.content {
            Some(content) => Some(Arc::new(mark(connection, self.id, &key, content)?)),
            None => None,
        };
        let change = Change::new(key, cursor, count(self.run)?, self.times.seen_at, self.times.applied_at);
        Ok(change.with_before(before.map(Arc::new)).with_after(after))
    }

    /// Adds the change, with the decision of the mark that it makes.
    pub(super) fn add(
        &self,
        transaction: &Transaction<'_>,
        texts: &mut Texts,
        decision: Option<&Decision>,
    ) -> Outcome<()> {
        if let Some(decision) = decision {
            let decision = serde_json::to_string(decision)?;
            let mut statement =
                transaction.prepare_cached("INSERT INTO decisions (change, decision, checksum) VALUES (?1, ?2, ?3)")?;
            statement.execute(params![self.id, decision, checksum(&(self.id, &decision))?])?;
        }
        self.save(transaction, texts)
    }

    fn save(&self, transaction: &Transaction<'_>, texts: &mut Texts) -> Outcome<()> {
        let content = self.content.as_ref();
        let code_name = match content.and_then(|content| content.code_name.as_deref()) {
            Some(name) => Some(texts.id_or_new(transaction, name)?),
            None => None,
        };
        let Place { school, date, student, session } = &self.place;
        insert(
            transaction,
            "INSERT OR REPLACE INTO changes
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)",
            params![
                self.id,
                school,
                date,
                student,
                session,
                self.previous,
                self.run,
                self.times.seen_at.timestamp_micros(),
                self.times.as_of_earliest.timestamp_micros(),
                self.times.applied_at.timestamp_micros(),
                content.map(|content| content.status.name()),
                content.and_then(|content| content.code.as_deref()),
                code_name,
                content.and_then(|content| content.raw_code.as_ref()).map(RawCode::as_str),
                content.and_then(|content| content.minutes_late),
                content.map(|content| content.decided_by.name()),
                content.and_then(|content| content.record_id.as_ref()).map(RecordId::as_str),
                content.and_then(|content| content.last_updated).map(|stamp| stamp.timestamp_micros()),
                content.map(|content| content.rule.name()),
            ],
        )
    }

    /// Makes this the mark's first change.
    pub(super) fn begin_here(&mut self, transaction: &Transaction<'_>, texts: &mut Texts) -> Outcome<()> {
        self.previous = None;
        self.save(transaction, texts)
    }

    pub(super) fn delete(&self, transaction: &Transaction<'_>) -> Outcome<()> {
        transaction.execute("DELETE FROM changes WHERE id = ?1", [self.id])?;
        transaction.execute("DELETE FROM decisions WHERE change = ?1", [self.id])?;
        Ok(())
    }
}

fn text<'a>(row: &'a Row<'_>, column: usize) -> Outcome<&'a str> {
    row.get_ref(column)?.as_str().map_err(|_| Failure::Damaged)
}

fn text_or_none<'a>(row: &'a Row<'_>, column: usize) -> Outcome<Option<&'a str>> {
    row.get_ref(column)?.as_str_or_null().map_err(|_| Failure::Damaged)
}

/// Calls `work` for the rows that a query finds of the marks in a scope. Named students are looked up one by one and date by
/// date, so that the marks of all students are not read for one.
pub(super) fn each_in_scope(
    connection: &Connection,
    columns: &str,
    joined: &str,
    school: i64,
    scope: &Scope,
    work: impl FnMut(&Row<'_>) -> Outcome<()>,
) -> Outcome<()> {
    let (from, to) = (date_text(scope.window().from()), date_text(scope.window().to()));
    let Some(students) = scope.students() else {
        let sql =
            format!("SELECT {columns} FROM marks {joined} WHERE marks.school = ?1 AND marks.date BETWEEN ?2 AND ?3");
        return each(connection, &sql, params![school, from, to], work);
    };
    // Each next date that has marks is found without reading the marks of the date before.
    let sql = format!(
        "WITH RECURSIVE dates (date) AS (
             SELECT min(date) FROM marks WHERE school = ?1 AND date >= ?2
             UNION ALL
             SELECT (SELECT min(marks.date) FROM marks WHERE marks.school = ?1 AND marks.date > dates.date)
             FROM dates WHERE dates.date < ?3
         )
         SELECT {columns} FROM dates CROSS JOIN json_each(?4) named
         CROSS JOIN marks ON marks.school = ?1 AND marks.date = dates.date AND marks.student = named.value {joined}
         WHERE dates.date <= ?3"
    );
    let students = serde_json::to_string(&students.iter().map(StudentId::as_str).collect::<Vec<_>>())?;
    each(connection, &sql, params![school, from, to, students], work)
}

/// A moment as a change's row holds it.
fn moment(row: &Row<'_>, column: usize) -> Outcome<DateTime<Utc>> {
    DateTime::from_timestamp_micros(row.get(column)?).ok_or(Failure::Damaged)
}

/// What the mark says after a change, from a row of changes; `None` if it was removed.
fn content(row: &Row<'_>, texts: &Texts) -> Outcome<Option<MarkContent>> {
    let Some(status) = text_or_none(row, 10)? else { return Ok(None) };
    let code_name = match row.get(12)? {
        Some(id) => Some(texts.text(id)?),
        None => None,
    };
    let stamp: Option<i64> = row.get(17)?;
    Ok(Some(MarkContent {
        status: status.parse().map_err(|_| Failure::Damaged)?,
        code: text_or_none(row, 11)?.map(Into::into),
        code_name,
        raw_code: text_or_none(row, 13)?.map(RawCode::new),
        minutes_late: row.get(14)?,
        decided_by: text(row, 15)?.parse().unwrap_or(RecordKind::Unknown),
        record_id: text_or_none(row, 16)?.map(RecordId::new),
        last_updated: stamp.map(|stamp| DateTime::from_timestamp_micros(stamp).ok_or(Failure::Damaged)).transpose()?,
        rule: text(row, 18)?.parse().unwrap_or(DecisionRule::Unknown),
    }))
}

/// The live mark, from a row of `changes.*, marks.*`; `None` if it was removed.
pub(super) fn stored_mark(row: &Row<'_>, texts: &Texts) -> Outcome<Option<StoredMark>> {
    verify_values(row, 0, CHANGE_COLUMNS)?;
    verify_values(row, CHANGE_COLUMNS + 1, PLACE_COLUMNS)?;
    let Some(content) = content(row, texts)? else { return Ok(None) };
    let session: Session = text(row, 4)?.parse().map_err(|_| Failure::Damaged)?;
    let key = MarkKey::new(text(row, 3)?, text(row, 2)?.parse()?, session);
    Ok(Some(StoredMark::new(key, content, moment(row, 7)?, moment(row, 8)?)))
}

/// The mark that a change made.
fn mark(connection: &Connection, change: i64, key: &MarkKey, content: MarkContent) -> Outcome<Mark> {
    let mut statement = connection.prepare_cached("SELECT decision, checksum FROM decisions WHERE change = ?1")?;
    let (text, kept): (String, u32) = statement.query_row([change], |row| Ok((row.get(0)?, row.get(1)?)))?;
    verify(&(change, &text), kept)?;
    Ok(key.mark(content, serde_json::from_str(&text)?))
}

/// The row that says that a student was erased.
#[derive(Serialize)]
pub(super) struct ErasureRow {
    pub(super) id: i64,
    pub(super) school: i64,
    pub(super) student: String,
    pub(super) applied_at: String,
}

impl ErasureRow {
    /// Erasures of a school after this entry of its feed, oldest first.
    pub(super) fn read(connection: &Connection, school: i64, after: i64, limit: i64) -> Outcome<Vec<Self>> {
        let mut erasures = Vec::new();
        let sql = "SELECT id, school, student, applied_at, checksum FROM erasures WHERE school = ?1 AND id > ?2
                   ORDER BY id LIMIT ?3";
        each(connection, sql, [school, after, limit], |row| {
            let (id, school, student) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let erasure = Self { id, school, student, applied_at: row.get(3)? };
            verify(&erasure, row.get(4)?)?;
            erasures.push(erasure);
            Ok(())
        })?;
        Ok(erasures)
    }

    pub(super) fn applied_at(&self) -> Outcome<DateTime<Utc>> {
        Ok(DateTime::parse_from_rfc3339(&self.applied_at)?.to_utc())
    }

    pub(super) fn told(&self) -> Outcome<FeedEntry> {
        let (cursor, student) = (ChangeCursor::new(count(self.id)?), self.student.as_str().into());
        Ok(FeedEntry::Erased { cursor, student, applied_at: self.applied_at()? })
    }

    pub(super) fn add(&self, transaction: &Transaction<'_>) -> Outcome<()> {
        transaction.execute(
            "INSERT INTO erasures (id, school, student, applied_at, checksum) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![self.id, self.school, self.student, self.applied_at, checksum(self)?],
        )?;
        Ok(())
    }
}

/// Writes a run, or overwrites it.
pub(super) fn save_run(transaction: &Transaction<'_>, school: i64, number: i64, run: &Run) -> Outcome<()> {
    let text = serde_json::to_string(run)?;
    transaction.execute(
        "INSERT OR REPLACE INTO runs (school, number, run, checksum) VALUES (?1, ?2, ?3, ?4)",
        params![school, number, text, checksum(&(school, number, &text))?],
    )?;
    Ok(())
}

/// The whole run, from a row.
fn run_of(row: &Row<'_>) -> Outcome<Run> {
    let (school, number, text): (i64, i64, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
    verify(&(school, number, &text), row.get(3)?)?;
    let run: Run = serde_json::from_str(&text)?;
    if i64::try_from(run.number) == Ok(number) { Ok(run) } else { Err(Failure::Damaged) }
}

pub(super) fn read_run(connection: &Connection, school: i64, number: i64) -> Outcome<Option<Run>> {
    let mut statement = connection
        .prepare_cached("SELECT school, number, run, checksum FROM runs WHERE school = ?1 AND number = ?2")?;
    let mut rows = statement.query([school, number])?;
    rows.next()?.map(run_of).transpose()
}

/// The runs that a query selects, in order.
pub(super) fn read_runs(connection: &Connection, school: i64, query: &RunQuery) -> Outcome<Vec<Run>> {
    let mut runs = newest_runs(connection, school, query.newest().unwrap_or(usize::MAX), |run| query.fits(run))?;
    runs.reverse();
    Ok(runs)
}

/// The newest runs that fit, the newest first: often these are all that is needed from years of runs.
pub(super) fn newest_runs(
    connection: &Connection,
    school: i64,
    most: usize,
    fits: impl Fn(&Run) -> bool,
) -> Outcome<Vec<Run>> {
    let mut runs = Vec::new();
    let mut statement = connection
        .prepare_cached("SELECT school, number, run, checksum FROM runs WHERE school = ?1 ORDER BY number DESC")?;
    let mut rows = statement.query([school])?;
    while runs.len() < most
        && let Some(row) = rows.next()?
    {
        runs.extend(Some(run_of(row)?).filter(&fits));
    }
    Ok(runs)
}

/// The changes that a run withheld, in few bytes each: the students by reason, date and session.
type Withheld<'a> = BTreeMap<(WithheldReason, NaiveDate, Session), Vec<Cow<'a, str>>>;

/// Writes what a run withheld, or overwrites it.
pub(super) fn save_withheld(
    transaction: &Transaction<'_>,
    school: i64,
    run: i64,
    withheld: &[WithheldChange],
) -> Outcome<()> {
    let mut students = Withheld::new();
    for change in withheld {
        let place = (change.reason, change.key.date, change.key.session);
        students.entry(place).or_default().push(change.key.student.as_str().into());
    }
    let text = serde_json::to_string(&students.into_iter().collect::<Vec<_>>())?;
    transaction.execute(
        "INSERT OR REPLACE INTO withheld (school, run, changes, checksum) VALUES (?1, ?2, ?3, ?4)",
        params![school, run, text, checksum(&(school, run, &text))?],
    )?;
    Ok(())
}

/// Deletes all but the newest lists of a school.
pub(super) fn trim_withheld(transaction: &Transaction<'_>, school: i64) -> Outcome<()> {
    transaction.execute(
        "DELETE FROM withheld WHERE school = ?1
         AND run NOT IN (SELECT run FROM withheld WHERE school = ?1 ORDER BY run DESC LIMIT ?2)",
        params![school, WithheldChange::RUNS_KEPT as i64],
    )?;
    Ok(())
}

/// What a run withheld, by student, date and session, if it withheld anything and the list is still there.
pub(super) fn read_withheld(connection: &Connection, school: i64, run: i64) -> Outcome<Option<Vec<WithheldChange>>> {
    let mut statement =
        connection.prepare_cached("SELECT changes, checksum FROM withheld WHERE school = ?1 AND run = ?2")?;
    let found: Option<(String, u32)> =
        statement.query_row([school, run], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let Some((text, kept)) = found else { return Ok(None) };
    verify(&(school, run, &text), kept)?;
    type Place = (WithheldReason, NaiveDate, Session);
    let places: Vec<(Place, Vec<Cow<'_, str>>)> = serde_json::from_str(&text)?;
    let mut withheld: Vec<WithheldChange> = places
        .into_iter()
        .flat_map(|((reason, date, session), students)| {
            let change =
                move |student: Cow<'_, str>| WithheldChange::new(MarkKey::new(student.as_ref(), date, session), reason);
            students.into_iter().map(change)
        })
        .collect();
    withheld.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(Some(withheld))
}

/// The runs of a school whose withheld changes are listed, without those that withheld nothing.
pub(super) fn runs_with_withheld(connection: &Connection, school: i64) -> Outcome<Vec<i64>> {
    let mut runs = Vec::new();
    each(connection, "SELECT run FROM withheld WHERE school = ?1", [school], |row| {
        runs.push(row.get(0)?);
        Ok(())
    })?;
    Ok(runs)
}

/// Checks that every row is where it was written: a row with a damaged place would otherwise just not be found.
pub(super) fn check_places(connection: &Connection) -> Outcome<()> {
    each(connection, "SELECT * FROM marks", [], |row| verify_values(row, 0, PLACE_COLUMNS))?;
    for (table, columns) in [("runs", "school, number, run"), ("withheld", "school, run, changes")] {
        each(connection, &format!("SELECT {columns}, checksum FROM {table}"), [], |row| {
            let (school, number, text): (i64, i64, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            verify(&(school, number, text), row.get(3)?)
        })?;
    }
    Ok(())
}
