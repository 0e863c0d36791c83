//! Brings a file that an older version wrote up to this version.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use rusqlite::Transaction;
use serde::Serialize;

use super::failure::{Failure, Outcome};
use super::rows::{self, ChangeRow, ChangeTimes, Place, SchoolRow, Texts, each, verify};
use super::schema::{CHANGES, WITHHELD, create_tables};
use crate::model::{Mark, MarkContent};
use crate::store::{MarkKey, Run};

/// Versions 3 and 4 held the content of a mark as JSON, and version 3 did not hold what runs withheld. Versions 1 and 2 held a
/// whole mark in its change, without the time at which it was written. Version 1 also had no checksums and no lengths of leases,
/// and held each code's name with every mark.
///
/// Old leases are over: a run of an older version that still holds one can't write into the new tables.
pub(super) fn from_older(transaction: &Transaction<'_>, version: i32) -> Outcome<()> {
    let old_tables: &[&str] = match version {
        3 | 4 => return from_3_or_4(transaction, version),
        1 => &["schools", "changes", "marks", "runs"],
        _ => &["schools", "changes", "marks", "runs", "texts"],
    };
    for table in old_tables {
        transaction.execute_batch(&format!("ALTER TABLE {table} RENAME TO old_{table}"))?;
        if version == 1 {
            transaction.execute_batch(&format!("ALTER TABLE old_{table} ADD COLUMN checksum INTEGER"))?;
        }
    }
    if version == 1 {
        transaction.execute_batch(
            "ALTER TABLE old_changes ADD COLUMN code_name INTEGER;
             CREATE TABLE old_texts (id INTEGER PRIMARY KEY, text TEXT, checksum INTEGER);",
        )?;
    }
    create_tables(transaction)?;

    let mut schools = HashMap::new();
    each(transaction, "SELECT id, name, revision, lease_token, checksum FROM old_schools", [], |row| {
        let old: (i64, String, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        verify_old(&OldSchool { id: old.0, name: &old.1, revision: old.2, lease_token: old.3 }, row.get(4)?)?;
        let (id, name, revision, lease_token) = old;
        schools.insert(id, SchoolRow { id, name, revision, lease_token, last_change: 0 });
        Ok(())
    })?;
    let mut runs = HashMap::new();
    each(transaction, "SELECT school, number, run, checksum FROM old_runs", [], |row| {
        let (school, number, text): (i64, i64, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        verify_old(&(school, number, &text), row.get(3)?)?;
        let run: Run = serde_json::from_str(&text)?;
        rows::save_run(transaction, school, number, &run)?;
        runs.insert((school, number), run);
        Ok(())
    })?;
    let mut old_texts: HashMap<i64, Box<str>> = HashMap::new();
    each(transaction, "SELECT id, text, checksum FROM old_texts", [], |row| {
        let (id, text): (i64, Box<str>) = (row.get(0)?, row.get(1)?);
        verify_old(&(id, &text), row.get(2)?)?;
        old_texts.insert(id, text);
        Ok(())
    })?;
    let mut texts = Texts::default();
    each(transaction, "SELECT school, date, student, session, change, checksum FROM old_marks", [], |row| {
        let (place, last): (Place, i64) = (Place::of(row)?, row.get(4)?);
        verify_old(&(&place, last), row.get(5)?)?;
        let school = schools.get_mut(&place.school).ok_or(Failure::Damaged)?;
        school.last_change = school.last_change.max(last);
        let mut next = Some(last);
        while let Some(id) = next {
            next = copy_change(transaction, (&mut texts, &old_texts), &runs, &place, id)?;
        }
        place.point_at(transaction, last)
    })?;
    for school in schools.values() {
        school.add(transaction)?;
    }
    for table in ["schools", "changes", "marks", "runs", "texts"] {
        transaction.execute_batch(&format!("DROP TABLE old_{table}"))?;
    }
    Ok(())
}

/// Checks an old row; a row of version 1 has no checksum.
fn verify_old(row: &impl Serialize, kept: Option<u32>) -> Outcome<()> {
    kept.map_or(Ok(()), |kept| verify(row, kept))
}

/// Rows in the form over which version 2 made its checksums.
#[derive(Serialize)]
struct OldSchool<'a> {
    id: i64,
    name: &'a str,
    revision: i64,
    lease_token: i64,
}

#[derive(Serialize)]
struct OldChange {
    id: i64,
    previous: Option<i64>,
    run: i64,
    seen_at: String,
    mark: Option<String>,
    code_name: Option<i64>,
}

/// Copies a change and returns the one before it.
fn copy_change(
    transaction: &Transaction<'_>,
    (texts, old_texts): (&mut Texts, &HashMap<i64, Box<str>>),
    runs: &HashMap<(i64, i64), Run>,
    place: &Place,
    id: i64,
) -> Outcome<Option<i64>> {
    let mut statement = transaction
        .prepare_cached("SELECT previous, run, seen_at, mark, code_name, checksum FROM old_changes WHERE id = ?1")?;
    let (old, kept) = statement.query_row([id], |row| {
        let (previous, run, seen_at) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok((OldChange { id, previous, run, seen_at, mark: row.get(3)?, code_name: row.get(4)? }, row.get(5)?))
    })?;
    verify_old(&(place, &old), kept)?;
    let mut mark: Option<Mark> = old.mark.as_deref().map(serde_json::from_str).transpose()?;
    if let (Some(mark), Some(name)) = (&mut mark, old.code_name) {
        mark.code_name = Some(old_texts.get(&name).ok_or(Failure::Damaged)?.clone());
    }
    let is_elsewhere = |mark: &Mark| Place::new(place.school, &MarkKey::from(mark)) != *place;
    if old.previous.is_some_and(|previous| previous >= id) || mark.as_ref().is_some_and(is_elsewhere) {
        return Err(Failure::Damaged);
    }
    let freshness = runs.get(&(place.school, old.run)).ok_or(Failure::Damaged)?.freshness;
    let seen_at = moment(&old.seen_at)?;
    // Nothing says when it was written.
    let times = ChangeTimes { seen_at, as_of_earliest: freshness.as_of_earliest(), applied_at: seen_at };
    let content = mark.as_ref().map(Mark::content);
    let change = ChangeRow { id, place: place.clone(), previous: old.previous, run: old.run, times, content };
    change.add(transaction, texts, mark.as_ref().map(|mark| &mark.decision))?;
    Ok(old.previous)
}

fn moment(text: &str) -> Outcome<DateTime<Utc>> {
    Ok(DateTime::parse_from_rfc3339(text)?.to_utc())
}

/// A change in the form over which versions 3 and 4 made its checksum. The form of its decision has not changed.
#[derive(Serialize)]
struct JsonChange {
    id: i64,
    place: Place,
    previous: Option<i64>,
    run: i64,
    seen_at: String,
    as_of_earliest: String,
    applied_at: String,
    content: Option<String>,
    code_name: Option<i64>,
}

fn from_3_or_4(transaction: &Transaction<'_>, version: i32) -> Outcome<()> {
    transaction.execute_batch(
        "DROP INDEX feed; ALTER TABLE changes RENAME TO old_changes; ALTER TABLE marks RENAME TO old_marks;",
    )?;
    transaction.execute_batch(CHANGES)?;
    if version == 3 {
        transaction.execute_batch(WITHHELD)?;
    }
    let mut texts = Texts::read(transaction)?;
    each(transaction, "SELECT school, date, student, session, change, checksum FROM old_marks", [], |row| {
        let (place, last): (Place, i64) = (Place::of(row)?, row.get(4)?);
        verify(&(&place, last), row.get(5)?)?;
        let mut next = Some(last);
        while let Some(id) = next {
            next = copy_json_change(transaction, &mut texts, &place, id)?;
        }
        place.point_at(transaction, last)
    })?;
    Ok(transaction.execute_batch("DROP TABLE old_changes; DROP TABLE old_marks;")?)
}

/// Copies a change and returns the one before it.
fn copy_json_change(transaction: &Transaction<'_>, texts: &mut Texts, place: &Place, id: i64) -> Outcome<Option<i64>> {
    let mut statement = transaction.prepare_cached("SELECT * FROM old_changes WHERE id = ?1")?;
    let (old, kept) = statement.query_row([id], |row| {
        let place = Place { school: row.get(1)?, date: row.get(2)?, student: row.get(3)?, session: row.get(4)? };
        let old = JsonChange {
            id: row.get(0)?,
            place,
            previous: row.get(5)?,
            run: row.get(6)?,
            seen_at: row.get(7)?,
            as_of_earliest: row.get(8)?,
            applied_at: row.get(9)?,
            content: row.get(10)?,
            code_name: row.get(11)?,
        };
        Ok((old, row.get(12)?))
    })?;
    verify(&old, kept)?;
    if old.place != *place || old.previous.is_some_and(|previous| previous >= id) {
        return Err(Failure::Damaged);
    }
    let mut content: Option<MarkContent> = old.content.as_deref().map(serde_json::from_str).transpose()?;
    if let (Some(content), Some(name)) = (&mut content, old.code_name) {
        content.code_name = Some(texts.text(name)?);
    }
    let times = ChangeTimes {
        seen_at: moment(&old.seen_at)?,
        as_of_earliest: moment(&old.as_of_earliest)?,
        applied_at: moment(&old.applied_at)?,
    };
    ChangeRow { id, place: old.place, previous: old.previous, run: old.run, times, content }.add(
        transaction,
        texts,
        None,
    )?;
    Ok(old.previous)
}
