use std::collections::BTreeMap;

use chrono::NaiveDate;
use clap::Args;
use rollmark::codes::{Jurisdiction, Summary, Sums};
use rollmark::model::{StudentId, stamp_text};
use rollmark::rules::{Scope, Window};

use crate::flags::{CodeFlags, KeptStore, parse_date};
use crate::output::{Failure, say, say_json, say_text, wrong_flags};

/// Adds up marks: attendance by student, with what is left out and why.
#[derive(Args)]
#[command(after_help = "\
Example:
  rollmark summary --store sqlite:marks.db --from 2026-09-01 --to 2026-11-20 --map HOL=G")]
pub struct Flags {
    #[command(flatten)]
    store: KeptStore,
    /// Only this student; can be repeated [default: all]
    #[arg(long = "student", value_name = "ID")]
    students: Vec<String>,
    /// The first date, included
    #[arg(long, value_parser = parse_date, value_name = "DATE")]
    from: NaiveDate,
    /// The last date, included
    #[arg(long, value_parser = parse_date, value_name = "DATE")]
    to: NaiveDate,
    #[command(flatten)]
    codes: CodeFlags,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    /// Prints a line of comma-separated values for each student
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

pub async fn run(flags: Flags) -> Result<u8, Failure> {
    let table = flags.codes.table();
    let window = Window::between(flags.from, flags.to).unwrap_or_else(|error| wrong_flags(error.to_string()));
    let (store, school) = flags.store.open_to_read().await?;
    let scope = match flags.students.is_empty() {
        true => Scope::all(window),
        false => Scope::all(window).with_students(&flags.students),
    };
    let snapshot = store.read(&school, &scope).await?;
    let summary = Summary::of(&table, window, snapshot.marks())
        .with_sessions_held(store.sessions_held(&school, window).await?)
        .with_students(&flags.students);
    match (flags.json, flags.csv) {
        (true, _) => say_json(&summary)?,
        (_, true) => drop(say_text(&csv(&summary)?)?),
        _ => show(&summary, table.jurisdiction()),
    }
    Ok(0)
}

/// `HOL 3, no letter 1`
fn by_letter(counts: &BTreeMap<Box<str>, u64>) -> String {
    let letters = counts.iter().map(|(letter, marks)| (&**letter, marks));
    let named =
        letters.map(|(letter, marks)| format!("{} {marks}", if letter.is_empty() { "no letter" } else { letter }));
    named.collect::<Vec<_>>().join(", ")
}

fn percentage(sums: &Sums) -> String {
    sums.percentage().map_or("–".to_owned(), |percentage| percentage.to_string())
}

fn csv(summary: &Summary) -> Result<Vec<u8>, Failure> {
    let mut rows = csv::Writer::from_writer(Vec::new());
    rows.write_record([
        "student",
        "possible",
        "attended",
        "authorised",
        "unauthorised",
        "late_before",
        "late_after",
        "percentage",
        "not_taken",
        "not_possible",
        "not_collected",
        "unclassified",
        "no_mark",
    ])?;
    let no_mark = summary.no_mark();
    for (student, sums) in summary.students() {
        let unclassified = by_letter(&sums.unclassified);
        let counts =
            [sums.possible(), sums.attended(), sums.authorised, sums.unauthorised, sums.late_before, sums.late_after];
        let left_out = [sums.not_taken, sums.not_possible, sums.not_collected].map(|count| count.to_string());
        let fields = [student.to_string()].into_iter().chain(counts.map(|count| count.to_string()));
        let fields = fields.chain([sums.percentage().map(|percentage| percentage.to_string()).unwrap_or_default()]);
        let fields = fields.chain(left_out).chain([unclassified]);
        rows.write_record(fields.chain([no_mark.get(student).unwrap_or(&0).to_string()]))?;
    }
    Ok(rows.into_inner()?)
}

fn show(summary: &Summary, jurisdiction: Jurisdiction) {
    let window = summary.window();
    let as_of = summary.as_of().map_or("unknown".to_owned(), stamp_text);
    say(&format!("{} to {}; codes: {}; as of {as_of}", window.from(), window.to(), summary.edition()));
    say("");
    let total = summary.total();
    let width = summary.students().keys().map(|student| student.as_str().chars().count()).max().unwrap_or(0).max(7);
    say(&format!(
        "{:<width$}  {:>8}  {:>8}  {:>10}  {:>12}  {:>4}  {:>10}  {:>8}  {:>8}",
        "student", "possible", "attended", "authorised", "unauthorised", "late", "late after", "percent", "left out"
    ));
    let rows = summary.students().iter().map(|(student, sums)| (StudentId::as_str(student), sums));
    for (name, sums) in rows.chain([("total", &total)]) {
        say(&format!(
            "{name:<width$}  {:>8}  {:>8}  {:>10}  {:>12}  {:>4}  {:>10}  {:>8}  {:>8}",
            sums.possible(),
            sums.attended(),
            sums.authorised,
            sums.unauthorised,
            sums.late_before,
            sums.late_after,
            percentage(sums),
            sums.marks() - sums.possible()
        ));
    }
    say("");
    let no_mark: u64 = summary.no_mark().values().sum();
    let reasons = [
        ("register not taken", total.not_taken),
        ("not a possible attendance", total.not_possible),
        ("not collected", total.not_collected),
        ("no mark although the school was in session", no_mark),
    ];
    for (reason, sessions) in reasons.into_iter().filter(|(_, sessions)| *sessions > 0) {
        say(&format!("left out, {reason}: {sessions}"));
    }
    if !total.unclassified.is_empty() {
        let advice = match jurisdiction {
            Jurisdiction::SchoolsOwn => "",
            _ => "; say with --map what the school's own letters stand for",
        };
        say(&format!("left out, no class: {}{advice}", by_letter(&total.unclassified)));
    }
    if !summary.contradicting().is_empty() {
        say(&format!(
            "the school's own table says the opposite of these letters: {}; the figures follow {}",
            by_letter(summary.contradicting()),
            summary.edition()
        ));
    }
}
