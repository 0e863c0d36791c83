//! The tables.

use rusqlite::Connection;

use super::failure::Outcome;

/// Each code's name is held once, as a text. The ids of changes and erasures are the feed's cursors.
///
/// The checksums are those of [`rows`]. A lease's end and length have none: at worst, a wrong value ends the lease, and the
/// token then keeps its holder from writing.
const SCHEMA: &str = "
    CREATE TABLE schools (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        revision INTEGER NOT NULL,
        lease_token INTEGER NOT NULL,
        last_change INTEGER NOT NULL,
        lease_until_ms INTEGER NOT NULL DEFAULT 0,
        lease_length_ms INTEGER NOT NULL DEFAULT 0,
        checksum INTEGER NOT NULL
    );
    CREATE TABLE texts (
        id INTEGER PRIMARY KEY,
        text TEXT NOT NULL,
        checksum INTEGER NOT NULL
    );
    CREATE TABLE decisions (
        change INTEGER PRIMARY KEY,
        decision TEXT NOT NULL,
        checksum INTEGER NOT NULL
    );
    CREATE TABLE erasures (
        id INTEGER PRIMARY KEY,
        school INTEGER NOT NULL,
        student TEXT NOT NULL,
        applied_at TEXT NOT NULL,
        checksum INTEGER NOT NULL
    );
    CREATE TABLE runs (
        school INTEGER NOT NULL,
        number INTEGER NOT NULL,
        run TEXT NOT NULL,
        checksum INTEGER NOT NULL,
        PRIMARY KEY (school, number)
    ) WITHOUT ROWID;
";

/// Every change holds the mark after it and points to the change before it; a mark's row points to its last change. So a mark
/// is written once, and its history needs no index. A change's decision is in a separate row, so that marks are read without
/// it. Moments are microseconds since the start of 1970.
pub(super) const CHANGES: &str = "
    CREATE TABLE changes (
        id INTEGER PRIMARY KEY,
        school INTEGER NOT NULL,
        date TEXT NOT NULL,
        student TEXT NOT NULL,
        session TEXT NOT NULL,
        previous INTEGER,
        run INTEGER NOT NULL,
        seen_at INTEGER NOT NULL,
        as_of_earliest INTEGER NOT NULL,
        applied_at INTEGER NOT NULL,
        status TEXT,
        code TEXT,
        code_name INTEGER,
        raw_code TEXT,
        minutes_late INTEGER,
        decided_by TEXT,
        record_id TEXT,
        last_updated INTEGER,
        rule TEXT,
        checksum INTEGER NOT NULL
    );
    CREATE INDEX feed ON changes (school);
    CREATE TABLE marks (
        school INTEGER NOT NULL,
        date TEXT NOT NULL,
        student TEXT NOT NULL,
        session TEXT NOT NULL,
        change INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        PRIMARY KEY (school, date, student, session)
    ) WITHOUT ROWID;
";

/// All that a run withheld is in one row: a night that withholds a whole school would otherwise add thousands. Version 3 did not
/// hold it.
pub(super) const WITHHELD: &str = "
    CREATE TABLE withheld (
        school INTEGER NOT NULL,
        run INTEGER NOT NULL,
        changes TEXT NOT NULL,
        checksum INTEGER NOT NULL,
        PRIMARY KEY (school, run)
    ) WITHOUT ROWID;
";

pub(super) fn create_tables(connection: &Connection) -> Outcome<()> {
    connection.execute_batch(SCHEMA)?;
    connection.execute_batch(CHANGES)?;
    Ok(connection.execute_batch(WITHHELD)?)
}
