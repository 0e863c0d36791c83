//! A source of your own: registers kept as a table, tested with the conformance suite.
//!
//! `cargo run --no-default-features --features testing --example custom_source`

use std::io::Write;

use async_trait::async_trait;
use rollmark::model::{Code, Record, Registration};
use rollmark::source::{
    AttendanceSource, Capabilities, Completeness, FetchRequest, FetchedKind, RecordStream, SourceError, SourceErrorKind,
};
use rollmark::testing::FakeSchool;
use rollmark::testing::conformance::source::every;

/// One line for each row of a register: row id; student; time; mark; time of update.
#[derive(Debug)]
struct Table {
    lines: Vec<String>,
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a table of registers")
    }
}

fn parse(line: &str) -> Option<Registration> {
    let fields: Vec<&str> = line.split(';').collect();
    let [id, student, at, mark, updated] = fields.as_slice() else { return None };
    let mut row = Registration::new(*student, at.parse().ok()?);
    row.id = Some((*id).into());
    row.registered = *mark == "/";
    row.code = (!row.registered).then(|| (*mark).into());
    row.last_updated = Some(updated.parse().ok()?);
    Some(row)
}

#[async_trait]
impl AttendanceSource for Table {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new().with_period_flags(false).with_out_of_school(false)
    }

    async fn fetch(&self, request: &FetchRequest) -> Result<RecordStream, SourceError> {
        request.counters().add_request();
        let mut records = vec![illness()];
        for (number, line) in self.lines.iter().enumerate() {
            // A line that can't be read is an error with its line number, and is never skipped.
            let row = parse(line).ok_or_else(|| {
                SourceError::new(SourceErrorKind::BadRecord, format!("line {number} of the table is unreadable"))
            })?;
            records.push(Record::Registration(row));
        }
        let read = [(FetchedKind::Codes, 1), (FetchedKind::Registrations, self.lines.len() as u64)];
        Ok(RecordStream::of(records, Completeness::whole(request.window(), read)))
    }
}

fn illness() -> Record {
    Record::Code(Code::new("9", true).with_letter("I"))
}

#[tokio::main]
async fn main() {
    let lines = vec![
        "1;4733683260;2026-11-18T08:40:00;/;2026-11-18T08:52:00".to_owned(),
        "2;4733683260;2026-11-18T13:30:00;9;2026-11-18T13:41:00".to_owned(),
    ];
    let mut same = FakeSchool::new();
    same.add(illness());
    lines.iter().filter_map(|line| parse(line)).for_each(|row| same.add(Record::Registration(row)));
    let table = Table { lines };

    every(&table, &same).await.unwrap();
    let _ = writeln!(std::io::stdout(), "{table} keeps the contract of a source");
}
