mod page;
mod table;

use std::path::PathBuf;

use chrono::NaiveDate;
use clap::Args;
use page::page;
use rollmark::codes::CodeTable;
use rollmark::explain::{Diagnosis, Expected, Finding, Question, SessionDiagnosis};
use rollmark::model::{Decision, SchoolId, Session, StudentId};
use rollmark::store::{Change, MarkKey, MarkStore};
use rollmark::support::Support;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::flags::{CodeFlags, ReadFlags, StoreFlags, StorePlace, parse_date, parse_id, warn_without_runs};
use crate::output::{
    Failure, Meaning, Needed, Output, check_targets, is_standard_output, say, say_json, tell, wrong_flags,
};

/// Says why a student's mark is what it is, and what to do if it is wrong.
#[derive(Args)]
#[command(after_help = "\
Example:
  ISAMS_API_KEY=… rollmark diagnose --url https://school.isams.cloud --student 4733683260 --date 2026-11-20 --expected M")]
pub struct Flags {
    /// The student
    #[arg(long, value_name = "ID", value_parser = parse_id)]
    student: String,
    /// The school date
    #[arg(long, value_name = "DATE", value_parser = parse_date)]
    date: NaiveDate,
    /// The session: AM or PM [default: both]
    #[arg(long, value_parser = parse_session)]
    session: Option<Session>,
    /// What the mark should be: a code's letter, or / for present or late
    #[arg(long, value_name = "CODE", value_parser = parse_expected)]
    expected: Option<Expected>,
    #[command(flatten)]
    read: ReadFlags,
    #[command(flatten)]
    store: StoreFlags,
    #[command(flatten)]
    codes: CodeFlags,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    /// Writes a page that can be printed, too; - is standard output, and then --json can't be
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// The diagnosis in JSON, with what each mark counts as.
#[derive(Serialize)]
struct Explained<'a> {
    student: &'a StudentId,
    date: NaiveDate,
    sessions: Vec<ExplainedSession<'a>>,
}

#[derive(Serialize)]
struct ExplainedSession<'a> {
    session: Session,
    mark: Option<Box<RawValue>>,
    meaning: Option<Meaning>,
    decision: &'a Option<Decision>,
    findings: &'a [Finding],
}

impl<'a> Explained<'a> {
    fn new(diagnosis: &'a Diagnosis, table: &CodeTable) -> Result<Self, Failure> {
        let explained = |answer: &'a SessionDiagnosis| {
            let line = answer.mark.as_ref().map(|mark| RawValue::from_string(mark.to_json_line()));
            Ok(ExplainedSession {
                session: answer.session,
                mark: line.transpose()?,
                meaning: answer.mark.as_ref().and_then(|mark| Meaning::of(table, mark)),
                decision: &answer.decision,
                findings: &answer.findings,
            })
        };
        let sessions = diagnosis.sessions.iter().map(explained).collect::<Result<_, Failure>>()?;
        Ok(Self { student: &diagnosis.student, date: diagnosis.date, sessions })
    }
}

pub async fn run(mut flags: Flags) -> Result<u8, Failure> {
    let table = flags.codes.table();
    let source = flags.read.source()?;
    let window = flags.read.window();
    let html = flags.html.as_deref();
    if flags.json && html.is_some_and(is_standard_output) {
        wrong_flags("--json and --html would both write to standard output; give the page a file".to_owned());
    }
    let needed: Vec<Needed> = flags.read.needed_files().chain(flags.store.needed_files()).collect();
    check_targets(html.as_slice(), &needed, flags.read.replies.folder()).unwrap_or_else(|error| wrong_flags(error));
    let page_output = match html {
        Some(path) => Some(Output::open(path).await?),
        None => None,
    };
    let (source, kept) = flags.read.keeping(source)?;
    let (store, school) = flags.store.open(true)?;
    let rules = flags.read.rules();
    if !matches!(flags.store.place, StorePlace::Memory) {
        warn_without_runs(&*store, &school).await?;
    }
    let mut question = Question::about(flags.student.as_str(), flags.date).with_window(window);
    question.session = flags.session;
    question.expected = flags.expected.clone();
    let support = Support::new(&source, &rules).with_store(&*store, &school).with_now(flags.read.now());
    let diagnosis = support.diagnose(&question).await?;
    kept.tell([diagnosis.student.clone()]);
    if let Some(mut output) = page_output {
        let complaint = match &flags.expected {
            None => "The marks of the day".to_owned(),
            Some(Expected::Present) => "The school expects present".to_owned(),
            Some(code) => format!("The school expects {code}"),
        };
        let history = history(&*store, &school, &diagnosis).await?;
        let page = page(&rules, &complaint, &diagnosis, &history);
        output.write(|file| writeln!(file, "{page}"))?;
        output.put().await?;
    }
    if flags.json {
        say_json(&Explained::new(&diagnosis, &table)?)?;
        return Ok(0);
    }
    // Standard output is people's unless the page goes there.
    let say = if html.is_some_and(is_standard_output) { tell } else { say };
    say(&format!("Student {}, {}", diagnosis.student, diagnosis.date));
    say("");
    table::lines(&diagnosis, rules.zone(), &table).iter().for_each(|line| say(line));
    Ok(0)
}

fn parse_session(text: &str) -> Result<Session, String> {
    Session::from_flag(text).ok_or_else(|| "not a session; say AM or PM".to_owned())
}

fn parse_expected(text: &str) -> Result<Expected, String> {
    if text.trim().is_empty() {
        return Err("no code; say a code's letter, or / for present or late".to_owned());
    }
    text.parse().map_err(|never| match never {})
}

/// The changes that the store has seen of each session that was asked about.
async fn history(
    store: &dyn MarkStore,
    school: &SchoolId,
    diagnosis: &Diagnosis,
) -> Result<Vec<(Session, Change)>, Failure> {
    let mut all = Vec::new();
    for answer in &diagnosis.sessions {
        let key = MarkKey::new(&diagnosis.student, diagnosis.date, answer.session);
        let changes = store.history(school, &(&key).into()).await?;
        all.extend(changes.into_iter().map(|change| (answer.session, change)));
    }
    Ok(all)
}
