//! "This child's mark is wrong": what the mark is, which record decides, and what to do about it.
//! `cargo run --release --example diagnose -- --url … --api-key … --student 4733683260 --date 2026-11-20 --expected M`
//!
//! Without flags for a tenant it plays six made-up cases, one for each classic cause. `--help` lists the flags.

#[path = "../common/mod.rs"]
mod common;
mod page;
mod stories;
mod table;

use std::path::PathBuf;
use std::sync::Arc;

use chrono::NaiveDate;
use clap::Parser;
use clap::builder::NonEmptyStringValueParser;
use common::output::{Output, check_targets, is_standard_output, say, say_json, tell};
use common::program::{self, Failure, wrong_flags};
use common::{ReplyFlags, RuleFlags, SourceFlags, StorePlace, WindowFlags, parse_date};
use page::Page;
use rollmark::explain::{Diagnosis, Expected, Question};
use rollmark::model::{SchoolId, Session};
use rollmark::rules::Window;
use rollmark::source::AttendanceSource;
use rollmark::store::{Change, MarkKey, MarkStore};
use rollmark::sync::AttendanceSync;

/// Says why a student's mark is what it is, and what to do if it is wrong.
#[derive(Parser)]
#[command(name = "diagnose")]
struct Flags {
    /// The student
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    student: Option<String>,
    /// The school date
    #[arg(long, value_name = "DATE", value_parser = parse_date)]
    date: Option<NaiveDate>,
    /// The session: AM or PM [default: both]
    #[arg(long, value_parser = parse_session)]
    session: Option<Session>,
    /// What the mark should be: a code's letter, or / for present
    #[arg(long, value_name = "CODE", value_parser = parse_expected)]
    expected: Option<Expected>,
    #[command(flatten)]
    source: SourceFlags,
    #[command(flatten)]
    replies: ReplyFlags,
    #[command(flatten)]
    rules: RuleFlags,
    #[command(flatten)]
    window: WindowFlags,
    /// The school's key in the store
    #[arg(long, value_name = "ID", default_value = "school")]
    school: String,
    /// The portal's store, to compare with: memory is none, or sqlite:PATH
    #[arg(long, default_value = "memory")]
    store: StorePlace,
    /// Prints JSON: one object; of the six cases, one a line
    #[arg(long)]
    json: bool,
    /// Writes a page that can be printed, too; - is standard output, and then --json can't be
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[tokio::main]
async fn main() {
    program::run(diagnose(program::flags())).await
}

async fn diagnose(mut flags: Flags) -> Result<u8, Failure> {
    let source = common::source(&flags.source, &flags.replies, &mut flags.window)?;
    let window = flags.window.window(flags.rules.rules().zone()).unwrap_or_else(|error| wrong_flags(error));
    let html = flags.html.as_deref();
    if flags.json && html.is_some_and(is_standard_output) {
        wrong_flags("--json and --html would both write to standard output; give the page a file".to_owned());
    }
    check_targets(html.as_slice(), flags.store.file(), flags.replies.folder())
        .unwrap_or_else(|error| wrong_flags(error));
    match (source, &flags.student, flags.date) {
        (Some(source), Some(student), Some(date)) => {
            let question = flags.question(student, date, window);
            ask(&flags, source, question).await?;
        }
        (None, None, None) => stories::tell(&flags).await?,
        (Some(_), ..) => wrong_flags("a diagnosis needs --student and --date".to_owned()),
        (None, ..) => wrong_flags("--student and --date need a tenant; name it with --url".to_owned()),
    }
    Ok(0)
}

fn parse_session(text: &str) -> Result<Session, String> {
    Session::from_flag(text).ok_or_else(|| "not a session; say AM or PM".to_owned())
}

fn parse_expected(text: &str) -> Result<Expected, String> {
    if text.trim().is_empty() {
        return Err("no code; say a code's letter, or / for present".to_owned());
    }
    text.parse().map_err(|never| match never {})
}

impl Flags {
    fn question(&self, student: &str, date: NaiveDate, window: Window) -> Question {
        let mut question = Question::about(student, date).with_window(window);
        question.session = self.session;
        question.expected = self.expected.clone();
        question
    }

    async fn open_page(&self) -> Result<Option<Output>, Failure> {
        Ok(match &self.html {
            Some(path) => Some(Output::open(path).await?),
            None => None,
        })
    }

    /// Prints a line for people; standard output is theirs unless the page goes there.
    fn say(&self, line: &str) {
        if self.html.as_deref().is_some_and(is_standard_output) { tell(line) } else { say(line) }
    }
}

async fn ask(flags: &Flags, source: Arc<dyn AttendanceSource>, question: Question) -> Result<(), Failure> {
    let page_output = flags.open_page().await?;
    let (source, kept) = flags.replies.keeping(source, flags.window.now())?;
    let store = flags.store.open(true)?;
    let school = SchoolId::new(&flags.school);
    let rules = flags.rules.rules();
    let sync = AttendanceSync::shared(source, Arc::clone(&store), school.clone(), rules.clone());
    if matches!(flags.store, StorePlace::Sqlite(_)) && store.runs(&school).await?.is_empty() {
        tell(&format!(
            "warning: the store holds no run of school {school}, so it is not compared; check --store and --school"
        ));
    }
    let diagnosis = sync.diagnose(question, flags.window.now()).await?;
    kept.tell([diagnosis.student.clone()]);
    let history = history(&*store, &school, &diagnosis).await?;
    let title = format!("Student {}, {}", diagnosis.student, diagnosis.date);
    let mut page = Page::new(rules.clone());
    let complaint = match &flags.expected {
        None => "The marks of the day".to_owned(),
        Some(Expected::Present) => "The school expects present".to_owned(),
        Some(code) => format!("The school expects {code}"),
    };
    page.add(&complaint, &diagnosis, &history);
    if let Some(output) = page_output {
        page.write(output).await?;
    }
    if flags.json {
        say_json(&diagnosis)?;
    } else {
        flags.say(&title);
        flags.say("");
        table::lines(&diagnosis, rules.zone()).iter().for_each(|line| flags.say(line));
    }
    Ok(())
}

/// The changes that the store has seen of each session that was asked about.
async fn history(
    store: &dyn MarkStore,
    school: &SchoolId,
    diagnosis: &Diagnosis,
) -> Result<Vec<(Session, Change)>, Failure> {
    let mut all = Vec::new();
    for answer in &diagnosis.sessions {
        let key = MarkKey { student: diagnosis.student.clone(), date: diagnosis.date, session: answer.session };
        let changes = store.history(school, &key).await?;
        all.extend(changes.into_iter().map(|change| (answer.session, change)));
    }
    Ok(all)
}
