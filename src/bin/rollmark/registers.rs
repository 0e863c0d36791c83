use chrono::NaiveDate;
use clap::Args;
use rollmark::rules::{UntakenRegister, Window};
use rollmark::support::Support;
use serde::Serialize;

use crate::flags::{ReadFlags, parse_date};
use crate::output::{Failure, say, say_json};

/// Lists the registers of a date that were not taken, or not for every student.
#[derive(Args)]
#[command(after_help = "\
Example:
  ISAMS_API_KEY=… rollmark registers --url https://school.isams.cloud --date 2026-11-20")]
pub struct Flags {
    /// The school date
    #[arg(long, value_name = "DATE", value_parser = parse_date)]
    date: NaiveDate,
    #[command(flatten)]
    read: ReadFlags,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Registers {
    date: NaiveDate,
    registers: Vec<UntakenRegister>,
}

pub async fn run(mut flags: Flags) -> Result<u8, Failure> {
    let source = flags.read.source()?;
    let day = Window::day(flags.date);
    let day = flags.read.window().today().map_or(day, |today| day.with_today(today));
    let (source, _) = flags.read.keeping(source)?;
    let rules = flags.read.rules();
    let mut by_date = Support::new(&source, &rules).not_taken(day).await?;
    let registers = by_date.remove(&flags.date).unwrap_or_default();
    if flags.json {
        say_json(&Registers { date: flags.date, registers })?;
        return Ok(0);
    }
    if registers.is_empty() {
        say(&format!("{}: none of the registers that were read is left to take", flags.date));
    }
    for register in registers {
        let session = register.session.map(|session| format!(" ({session})")).unwrap_or_default();
        let period = register.period.map(|period| format!(", period {period}")).unwrap_or_default();
        let students = if register.students == 1 { "student" } else { "students" };
        say(&format!(
            "{} {}{session}{period}: not taken for {} of {} {students}",
            flags.date,
            register.at.format("%H:%M"),
            register.not_taken,
            register.students
        ));
    }
    Ok(0)
}
