//! The rows of the file, each with a checksum over all that it holds and over its place, so that a row that the disk has
//! altered, or that another row points at by mistake, is an error and never a wrong mark.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use rusqlite::{Connection, OptionalExtension, Params, Row, Transaction, params};
use serde::Serialize;

use super::file::{Failure, Outcome};
use crate::model::{Mark, SchoolId};
use crate::store::{MarkKey, Run};

fn checksum(row: &impl Serialize) -> Outcome<u32> {
    Ok(crc32fast::hash(&serde_json::to_vec(row)?))
}

fn verify(row: &impl Serialize, kept: u32) -> Outcome<()> {
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
    name: String,
    pub(super) revision: i64,
    pub(super) lease_token: i64,
}

impl SchoolRow {
    /// Looks at every school, since a damaged name could be the one that is looked for.
    pub(super) fn find(connection: &Connection, school: &SchoolId) -> Outcome<Option<Self>> {
        let mut found = None;
        each(connection, "SELECT id, name, revision, lease_token, checksum FROM schools", [], |row| {
            let known = Self { id: row.get(0)?, name: row.get(1)?, revision: row.get(2)?, lease_token: row.get(3)? };
            verify(&known, row.get(4)?)?;
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
        let added = Self { id, name: school.as_str().to_owned(), revision: 0, lease_token: 0 };
        added.add(transaction)?;
        Ok(added)
    }

    fn add(&self, transaction: &Transaction<'_>) -> Outcome<()> {
        transaction.execute(
            "INSERT INTO schools (id, name, revision, lease_token, checksum) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![self.id, self.name, self.revision, self.lease_token, checksum(self)?],
        )?;
        Ok(())
    }

    pub(super) fn save(&self, transaction: &Transaction<'_>) -> Outcome<()> {
        transaction.execute(
            "UPDATE schools SET revision = ?2, lease_token = ?3, checksum = ?4 WHERE id = ?1",
            params![self.id, self.revision, self.lease_token, checksum(self)?],
        )?;
        Ok(())
    }

    /// Adds a school that an older version wrote.
    pub(super) fn adopt(transaction: &Transaction<'_>, row: &Row<'_>) -> Outcome<()> {
        Self { id: row.get(0)?, name: row.get(1)?, revision: row.get(2)?, lease_token: row.get(3)? }.add(transaction)
    }
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

    /// The place of a mark's row: its columns, the change that it points at, and the checksum over them.
    pub(super) fn checked(row: &Row<'_>) -> Outcome<Self> {
        let place = Self::of(row)?;
        verify(&(&place, row.get::<_, i64>(4)?), row.get(5)?)?;
        Ok(place)
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

/// One change of a mark, as it stands in its row.
#[derive(Serialize)]
pub(super) struct ChangeRow {
    pub(super) id: i64,
    pub(super) previous: Option<i64>,
    pub(super) run: i64,
    pub(super) seen_at: String,
    /// The mark without its code's name.
    mark: Option<String>,
    code_name: Option<i64>,
}

impl ChangeRow {
    /// A change of this place, read by its id.
    pub(super) fn read(connection: &Connection, place: &Place, id: i64) -> Outcome<Self> {
        let mut statement = connection.prepare_cached(
            "SELECT id, previous, run, seen_at, mark, code_name, checksum FROM changes WHERE id = ?1",
        )?;
        let mut rows = statement.query([id])?;
        Self::of(rows.next()?.ok_or(Failure::Damaged)?, 0, place)
    }

    /// The change of this place whose columns begin here.
    pub(super) fn of(row: &Row<'_>, first: usize, place: &Place) -> Outcome<Self> {
        let change = Self {
            id: row.get(first)?,
            previous: row.get(first + 1)?,
            run: row.get(first + 2)?,
            seen_at: row.get(first + 3)?,
            mark: row.get(first + 4)?,
            code_name: row.get(first + 5)?,
        };
        verify(&(place, &change), row.get(first + 6)?)?;
        // Only an earlier change can be the previous one: a damaged file must not lead in circles.
        if change.previous.is_some_and(|previous| previous >= change.id) {
            return Err(Failure::Damaged);
        }
        Ok(change)
    }

    /// What the change made of the mark; `None` if it removed it.
    pub(super) fn mark(&self, place: &Place, texts: &Texts) -> Outcome<Option<Arc<Mark>>> {
        let Some(text) = &self.mark else { return Ok(None) };
        let mut mark: Mark = serde_json::from_str(text)?;
        if Place::new(place.school, &MarkKey::from(&mark)) != *place {
            return Err(Failure::Damaged);
        }
        if let Some(id) = self.code_name {
            mark.code_name = Some(texts.by_id.get(&id).ok_or(Failure::Damaged)?.clone());
        }
        Ok(Some(Arc::new(mark)))
    }

    pub(super) fn seen_at(&self) -> Outcome<DateTime<Utc>> {
        Ok(DateTime::parse_from_rfc3339(&self.seen_at)?.to_utc())
    }
}

/// Adds a change of this place. Its id is the next one, or the given one where an older version gave it.
pub(super) fn add_change(
    transaction: &Transaction<'_>,
    texts: &mut Texts,
    place: &Place,
    (id, previous): (i64, Option<i64>),
    (run, seen_at): (i64, &str),
    mark: Option<&Mark>,
) -> Outcome<()> {
    let code_name = mark.and_then(|mark| mark.code_name.as_deref());
    let code_name = code_name.map(|name| texts.id_or_new(transaction, name)).transpose()?;
    let mark = mark.map(|mark| serde_json::to_string(&Mark { code_name: None, ..mark.clone() })).transpose()?;
    let change = ChangeRow { id, previous, run, seen_at: seen_at.to_owned(), mark, code_name };
    let mut statement = transaction.prepare_cached(
        "INSERT INTO changes (id, previous, run, seen_at, mark, code_name, checksum) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let kept = checksum(&(place, &change))?;
    statement.execute(params![id, previous, run, seen_at, change.mark, code_name, kept])?;
    Ok(())
}

/// The id of the next change.
pub(super) fn next_change(connection: &Connection) -> Outcome<i64> {
    Ok(connection.query_row("SELECT coalesce(max(id), 0) + 1 FROM changes", [], |row| row.get(0))?)
}

pub(super) fn add_run(transaction: &Transaction<'_>, school: i64, number: i64, run: &str) -> Outcome<()> {
    transaction.execute(
        "INSERT INTO runs (school, number, run, checksum) VALUES (?1, ?2, ?3, ?4)",
        params![school, number, run, checksum(&(school, number, run))?],
    )?;
    Ok(())
}

pub(super) fn read_runs(connection: &Connection, school: i64) -> Outcome<Vec<Run>> {
    let mut runs = Vec::new();
    each(connection, "SELECT number, run, checksum FROM runs WHERE school = ?1 ORDER BY number", [school], |row| {
        let (number, text): (i64, String) = (row.get(0)?, row.get(1)?);
        verify(&(school, number, &text), row.get(2)?)?;
        let run: Run = serde_json::from_str(&text)?;
        if i64::try_from(run.number) != Ok(number) {
            return Err(Failure::Damaged);
        }
        runs.push(run);
        Ok(())
    })?;
    Ok(runs)
}

/// Whether every row stands where it was written: one whose place is damaged would otherwise just not be found.
pub(super) fn check_places(connection: &Connection) -> Outcome<()> {
    each(connection, "SELECT school, date, student, session, change, checksum FROM marks", [], |row| {
        Place::checked(row).map(drop)
    })?;
    each(connection, "SELECT school, number, run, checksum FROM runs", [], |row| {
        let (school, number, run): (i64, i64, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        verify(&(school, number, run), row.get(3)?)
    })
}
