//! Brings a file that an older version wrote up to this version.

use rusqlite::Transaction;

use super::file::{Failure, Outcome, SCHEMA};
use super::rows::{self, Place, SchoolRow, Texts, each};
use crate::model::Mark;
use crate::store::MarkKey;

/// Version 1 had no checksums, no lengths of leases, and each code's name with every mark.
///
/// Its leases are over: a run of the older version that still holds one can't write into the new tables.
pub(super) fn from_1(transaction: &Transaction<'_>) -> Outcome<()> {
    for table in ["schools", "changes", "marks", "runs"] {
        transaction.execute_batch(&format!("ALTER TABLE {table} RENAME TO old_{table}"))?;
    }
    transaction.execute_batch(SCHEMA)?;

    each(transaction, "SELECT id, name, revision, lease_token FROM old_schools", [], |row| {
        SchoolRow::adopt(transaction, row)
    })?;
    each(transaction, "SELECT school, number, run FROM old_runs", [], |row| {
        rows::add_run(transaction, row.get(0)?, row.get(1)?, &row.get::<_, String>(2)?)
    })?;
    let mut texts = Texts::default();
    each(transaction, "SELECT school, date, student, session, change FROM old_marks", [], |row| {
        let (place, last): (Place, i64) = (Place::of(row)?, row.get(4)?);
        copy_history(transaction, &mut texts, &place, last)?;
        place.point_at(transaction, last)
    })?;
    for table in ["schools", "changes", "marks", "runs"] {
        transaction.execute_batch(&format!("DROP TABLE old_{table}"))?;
    }
    Ok(())
}

fn copy_history(transaction: &Transaction<'_>, texts: &mut Texts, place: &Place, last: i64) -> Outcome<()> {
    let mut statement =
        transaction.prepare_cached("SELECT previous, run, seen_at, mark FROM old_changes WHERE id = ?1")?;
    let mut next = Some(last);
    while let Some(id) = next {
        let (previous, run, seen_at, mark): (Option<i64>, i64, String, Option<String>) =
            statement.query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        let mark: Option<Mark> = mark.map(|text| serde_json::from_str(&text)).transpose()?;
        let is_elsewhere = |mark: &Mark| Place::new(place.school, &MarkKey::from(mark)) != *place;
        if previous.is_some_and(|previous| previous >= id) || mark.as_ref().is_some_and(is_elsewhere) {
            return Err(Failure::Damaged);
        }
        rows::add_change(transaction, texts, place, (id, previous), (run, &seen_at), mark.as_ref())?;
        next = previous;
    }
    Ok(())
}
