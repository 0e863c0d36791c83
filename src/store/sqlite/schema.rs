//! The tables.

use rusqlite::Connection;

use super::failure::Outcome;

/// Every change is kept with what it made of a mark, and points at the change before it; a mark's row points at its last
/// change. So a mark is written once, and its history needs no index. A code's name is a text of its own, and a change's
/// decision a row of its own. What a run withheld is one row, since most of it is the same from night to night. The ids of changes and erasures are the feed's cursors.
///
/// The checksums are those of [`rows`]. A lease's end and length have none: a false one at worst ends the lease, and the
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
    CREATE TABLE changes (
        id INTEGER PRIMARY KEY,
        school INTEGER NOT NULL,
        date TEXT NOT NULL,
        student TEXT NOT NULL,
        session TEXT NOT NULL,
        previous INTEGER,
        run INTEGER NOT NULL,
        seen_at TEXT NOT NULL,
        as_of_earliest TEXT NOT NULL,
        applied_at TEXT NOT NULL,
        content TEXT,
        code_name INTEGER,
        checksum INTEGER NOT NULL
    );
    CREATE INDEX feed ON changes (school);
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
    CREATE TABLE marks (
        school INTEGER NOT NULL,
        date TEXT NOT NULL,
        student TEXT NOT NULL,
        session TEXT NOT NULL,
        change INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        PRIMARY KEY (school, date, student, session)
    ) WITHOUT ROWID;
    CREATE TABLE runs (
        school INTEGER NOT NULL,
        number INTEGER NOT NULL,
        run TEXT NOT NULL,
        checksum INTEGER NOT NULL,
        PRIMARY KEY (school, number)
    ) WITHOUT ROWID;
";

/// What runs withheld, which version 3 did not hold.
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
    Ok(connection.execute_batch(WITHHELD)?)
}
