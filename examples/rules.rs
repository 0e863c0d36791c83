//! The pure rules, without I/O, clock or async: what the mark is, and why.
//!
//! `cargo run --no-default-features --example rules`

use std::error::Error;
use std::io::Write;

use rollmark::model::{Code, OutOfSchool, Record, Registration, Session, StudentId};
use rollmark::rules::{PmRule, Resolver, Rules, Scope, SyncWindow};

fn main() -> Result<(), Box<dyn Error>> {
    let today = "2026-11-20".parse()?;
    let rules = Rules::new("Europe/London".parse()?).with_pm(PmRule::first_from(13, 30)?);
    let mut resolver = Resolver::new(rules, Scope::all(SyncWindow::default().ending(today)));

    // Amelia was registered twice; then the office saved a dentist's appointment for the morning.
    let amelia = "4733683260";
    let registration = |id: &str, at: &str, updated: &str| -> Result<Record, Box<dyn Error>> {
        let row = Registration::new(amelia, at.parse()?).with_id(id).with_registered(true);
        Ok(Record::Registration(row.with_last_updated(updated.parse()?)))
    };
    let dentist = OutOfSchool::new(amelia, "2026-11-20T08:00:00".parse()?, Some("2026-11-20T11:00:00".parse()?))
        .with_id("901")
        .with_code("17")
        .with_last_updated("2026-11-20T09:14:00".parse()?);
    // In any order.
    resolver.push(registration("102", "2026-11-20T13:40:00", "2026-11-20T13:52:00")?);
    resolver.push(Record::OutOfSchool(dentist));
    resolver.push(registration("101", "2026-11-20T08:40:00", "2026-11-20T08:52:00")?);
    resolver.push(Record::Code(Code::new("17", true).with_letter("M").with_name("Medical")));
    let register = resolver.finish()?;

    for session in Session::BOTH {
        let mark = register.mark(&StudentId::new(amelia), today, session).ok_or("no mark")?;
        writeln!(std::io::stdout(), "{session}: {mark}, because {}", mark.decision())?;
    }
    Ok(())
}
