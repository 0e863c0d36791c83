//! The rows of the file, each with a checksum over all that it holds and over its place, so that a row that the disk has
//! altered, or that another row points at by mistake, is an error and never a wrong mark.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use rusqlite::{Connection, OptionalExtension, Params, Row, Transaction, params};
use serde::Serialize;

use super::failure::{Failure, Outcome};
use crate::model::{Decision, Mark, MarkContent, SchoolId, Session};
use crate::store::{Change, ChangeCursor, FeedEntry, MarkKey, Run, RunQuery, WithheldChange, WithheldReason};

fn checksum(row: &impl Serialize) -> Outcome<u32> {
    Ok(crc32fast::hash(&serde_json::to_vec(row)?))
}

pub(super) fn verify(row: &impl Serialize, kept: u32) -> Outcome<()> {
    if checksum(row)? == kept { Ok(()) } else { Err(Failure::Damaged) }
}

/// Looks at every row that a query finds.
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
    /// The last entry of its feed, also where that was pruned: no number is given twice.
    pub(super) last_change: i64,
}

impl SchoolRow {
    /// Looks at every school, since a damaged name could be the one that is looked for.
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

/// Where a mark stands in the file.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub(super) struct Place {
    pub(super) school: i64,
    pub(super) date: String,
    pub(super) student: String,
    pub(super) session: String,
}

/// A date as it sorts; the text of years from 1 to 9999 does.
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

    /// The place of a row that begins with its columns.
    pub(super) fn of(row: &Row<'_>) -> Outcome<Self> {
        Ok(Self { school: row.get(0)?, date: row.get(1)?, student: row.get(2)?, session: row.get(3)? })
    }

    /// What a mark's row holds: its place and the change that it points at, before the checksum over them.
    pub(super) fn checked(row: &Row<'_>) -> Outcome<(Self, i64)> {
        let (place, change) = (Self::of(row)?, row.get(4)?);
        verify(&(&place, change), row.get(5)?)?;
        Ok((place, change))
    }

    pub(super) fn key(&self) -> Outcome<MarkKey> {
        let session: Session = self.session.parse().map_err(|_| Failure::Damaged)?;
        Ok(MarkKey::new(self.student.as_str(), self.date.parse()?, session))
    }

    /// The mark's last change, if it has any.
    pub(super) fn last_change(&self, connection: &Connection) -> Outcome<Option<i64>> {
        let mut statement = connection.prepare_cached(
            "SELECT change, checksum FROM marks WHERE school = ?1 AND date = ?2 AND student = ?3 AND session = ?4",
        )?;
        let found: Option<(i64, u32)> = statement
            .query_row(params![self.school, self.date, self.student, self.session], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let Some((change, kept)) = found else { return Ok(None) };
        verify(&(self, change), kept)?;
        Ok(Some(change))
    }

    pub(super) fn delete(&self, transaction: &Transaction<'_>) -> Outcome<()> {
        transaction.execute(
            "DELETE FROM marks WHERE school = ?1 AND date = ?2 AND student = ?3 AND session = ?4",
            params![self.school, self.date, self.student, self.session],
        )?;
        Ok(())
    }

    pub(super) fn point_at(&self, transaction: &Transaction<'_>, change: i64) -> Outcome<()> {
        let mut statement = transaction.prepare_cached(
            "INSERT INTO marks (school, date, student, session, change, checksum) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET change = excluded.change, checksum = excluded.checksum",
        )?;
        let kept = checksum(&(self, change))?;
        statement.execute(params![self.school, self.date, self.student, self.session, change, kept])?;
        Ok(())
    }
}

/// A moment as a row holds it.
fn moment(text: &str) -> Outcome<DateTime<Utc>> {
    Ok(DateTime::parse_from_rfc3339(text)?.to_utc())
}

/// A number of a row that is never negative.
pub(super) fn count(number: i64) -> Outcome<u64> {
    u64::try_from(number).map_err(|_| Failure::Damaged)
}

/// One change of a mark, as it stands in its row. Its decision has a row of its own, so that marks are read without.
#[derive(Serialize)]
pub(super) struct ChangeRow {
    pub(super) id: i64,
    pub(super) place: Place,
    pub(super) previous: Option<i64>,
    pub(super) run: i64,
    pub(super) seen_at: String,
    pub(super) as_of_earliest: String,
    pub(super) applied_at: String,
    /// What the mark says, without its code's name; none if it was removed.
    pub(super) content: Option<String>,
    pub(super) code_name: Option<i64>,
}

impl ChangeRow {
    /// A change of this place, read by its id.
    pub(super) fn read(connection: &Connection, place: &Place, id: i64) -> Outcome<Self> {
        let mut statement = connection.prepare_cached("SELECT * FROM changes WHERE id = ?1")?;
        let mut rows = statement.query([id])?;
        let change = Self::of(rows.next()?.ok_or(Failure::Damaged)?, 0)?;
        if change.place == *place { Ok(change) } else { Err(Failure::Damaged) }
    }

    /// All changes of this place from this one back, the newest first.
    pub(super) fn chain(connection: &Connection, place: &Place, last: i64) -> Outcome<Vec<Self>> {
        let mut changes = Vec::new();
        let mut next = Some(last);
        while let Some(id) = next {
            let change = Self::read(connection, place, id)?;
            next = change.previous;
            changes.push(change);
        }
        Ok(changes)
    }

    /// The change whose columns begin here, in the order of the table.
    pub(super) fn of(row: &Row<'_>, first: usize) -> Outcome<Self> {
        let text = |at: usize| row.get::<_, String>(first + at);
        let change = Self {
            id: row.get(first)?,
            place: Place { school: row.get(first + 1)?, date: text(2)?, student: text(3)?, session: text(4)? },
            previous: row.get(first + 5)?,
            run: row.get(first + 6)?,
            seen_at: text(7)?,
            as_of_earliest: text(8)?,
            applied_at: text(9)?,
            content: row.get(first + 10)?,
            code_name: row.get(first + 11)?,
        };
        verify(&change, row.get(first + 12)?)?;
        // Only an earlier change can be the previous one: a damaged file must not lead in circles.
        if change.previous.is_some_and(|previous| previous >= change.id) {
            return Err(Failure::Damaged);
        }
        Ok(change)
    }

    /// What the mark says; `None` if it was removed.
    pub(super) fn content(&self, texts: &Texts) -> Outcome<Option<Arc<MarkContent>>> {
        let Some(text) = &self.content else { return Ok(None) };
        let mut content: MarkContent = serde_json::from_str(text)?;
        if let Some(id) = self.code_name {
            content.code_name = Some(texts.by_id.get(&id).ok_or(Failure::Damaged)?.clone());
        }
        Ok(Some(Arc::new(content)))
    }

    pub(super) fn seen_at(&self) -> Outcome<DateTime<Utc>> {
        moment(&self.seen_at)
    }

    pub(super) fn as_of_earliest(&self) -> Outcome<DateTime<Utc>> {
        moment(&self.as_of_earliest)
    }

    /// The change as callers see it, by what the mark said before.
    pub(super) fn told(
        &self,
        connection: &Connection,
        texts: &Texts,
        before: Option<Arc<MarkContent>>,
    ) -> Outcome<Change> {
        let (key, cursor) = (self.place.key()?, ChangeCursor::new(count(self.id)?));
        let after = match self.content(texts)? {
            Some(content) => Some(Arc::new(self.mark(connection, &key, MarkContent::clone(&content))?)),
            None => None,
        };
        let change = Change::new(key, cursor, count(self.run)?, self.seen_at()?, moment(&self.applied_at)?);
        Ok(change.with_before(before).with_after(after))
    }

    fn mark(&self, connection: &Connection, key: &MarkKey, content: MarkContent) -> Outcome<Mark> {
        let mut statement = connection.prepare_cached("SELECT decision, checksum FROM decisions WHERE change = ?1")?;
        let (text, kept): (String, u32) = statement.query_row([self.id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        verify(&(self.id, &text), kept)?;
        Ok(Mark {
            student: key.student.clone(),
            date: key.date,
            session: key.session,
            status: content.status,
            code: content.code,
            code_name: content.code_name,
            raw_code: content.raw_code,
            minutes_late: content.minutes_late,
            decision: serde_json::from_str(&text)?,
        })
    }

    /// Adds the change with what it makes of the mark.
    pub(super) fn add(
        mut self,
        transaction: &Transaction<'_>,
        texts: &mut Texts,
        after: Option<(MarkContent, &Decision)>,
    ) -> Outcome<()> {
        if let Some((mut content, decision)) = after {
            let name = content.code_name.take();
            self.code_name = name.map(|name| texts.id_or_new(transaction, &name)).transpose()?;
            self.content = Some(serde_json::to_string(&content)?);
            let decision = serde_json::to_string(decision)?;
            let mut statement =
                transaction.prepare_cached("INSERT INTO decisions (change, decision, checksum) VALUES (?1, ?2, ?3)")?;
            statement.execute(params![self.id, decision, checksum(&(self.id, &decision))?])?;
        }
        let mut statement = transaction
            .prepare_cached("INSERT INTO changes VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)")?;
        let kept = checksum(&self)?;
        let Place { school, date, student, session } = &self.place;
        statement.execute(params![
            self.id,
            school,
            date,
            student,
            session,
            self.previous,
            self.run,
            self.seen_at,
            self.as_of_earliest,
            self.applied_at,
            self.content,
            self.code_name,
            kept
        ])?;
        Ok(())
    }

    /// Makes it the mark's first change.
    pub(super) fn begin_here(&mut self, transaction: &Transaction<'_>) -> Outcome<()> {
        self.previous = None;
        transaction.execute(
            "UPDATE changes SET previous = NULL, checksum = ?2 WHERE id = ?1",
            params![self.id, checksum(self)?],
        )?;
        Ok(())
    }

    pub(super) fn delete(&self, transaction: &Transaction<'_>) -> Outcome<()> {
        transaction.execute("DELETE FROM changes WHERE id = ?1", [self.id])?;
        transaction.execute("DELETE FROM decisions WHERE change = ?1", [self.id])?;
        Ok(())
    }
}

/// That a student was erased, as it stands in its row.
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
        moment(&self.applied_at)
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

/// Writes a run, or writes it anew.
pub(super) fn save_run(transaction: &Transaction<'_>, school: i64, number: i64, run: &Run) -> Outcome<()> {
    let text = serde_json::to_string(run)?;
    transaction.execute(
        "INSERT OR REPLACE INTO runs (school, number, run, checksum) VALUES (?1, ?2, ?3, ?4)",
        params![school, number, text, checksum(&(school, number, &text))?],
    )?;
    Ok(())
}

/// The run of a row, whole.
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

/// Oldest first.
pub(super) fn read_runs(connection: &Connection, school: i64, query: &RunQuery) -> Outcome<Vec<Run>> {
    let most = query.newest().unwrap_or(usize::MAX);
    let mut runs = Vec::new();
    let mut statement = connection
        .prepare_cached("SELECT school, number, run, checksum FROM runs WHERE school = ?1 ORDER BY number DESC")?;
    let mut rows = statement.query([school])?;
    // The newest are often all that is wanted of years of runs.
    while runs.len() < most
        && let Some(row) = rows.next()?
    {
        let run = run_of(row)?;
        if query.fits(&run) {
            runs.push(run);
        }
    }
    runs.reverse();
    Ok(runs)
}

/// Changes that a run withheld, in few bytes each: the students by reason, date and session.
type Withheld<'a> = BTreeMap<(WithheldReason, NaiveDate, Session), Vec<Cow<'a, str>>>;

/// Writes what a run withheld, or writes it anew.
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

/// The runs of a school of which it is known what they withheld, but for those that withheld nothing.
pub(super) fn runs_with_withheld(connection: &Connection, school: i64) -> Outcome<Vec<i64>> {
    let mut runs = Vec::new();
    each(connection, "SELECT run FROM withheld WHERE school = ?1", [school], |row| {
        runs.push(row.get(0)?);
        Ok(())
    })?;
    Ok(runs)
}

/// Whether every row stands where it was written: one whose place is damaged would otherwise just not be found.
pub(super) fn check_places(connection: &Connection) -> Outcome<()> {
    each(connection, "SELECT school, date, student, session, change, checksum FROM marks", [], |row| {
        Place::checked(row).map(drop)
    })?;
    for (table, columns) in [("runs", "school, number, run"), ("withheld", "school, run, changes")] {
        each(connection, &format!("SELECT {columns}, checksum FROM {table}"), [], |row| {
            let (school, number, text): (i64, i64, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            verify(&(school, number, text), row.get(3)?)
        })?;
    }
    Ok(())
}
