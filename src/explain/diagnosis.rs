use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;

use super::day::{Contender, DayRecord, Facts, SessionDay};
use super::finding::{Finding, as_line};
use super::words::Words;
use super::{Question, ShownMark, Wording};
use crate::model::{Decision, Loser, Mark, Record, Session, StudentId};
use crate::rules::{Freshness, Register, ResolveError, Resolver, Rules, Scope, Window};

/// The most records that did not decide to list; a student's day has some fifteen.
const MOST_LISTED: usize = 40;

/// The answer for one session.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SessionDiagnosis {
    /// The session.
    pub session: Session,
    /// The mark that the source gives now. It is serialised like a line of a marks file.
    #[serde(serialize_with = "as_line")]
    pub mark: Option<Mark>,
    /// The mark's decision. Its losers include the other records of the day, up to 40; those that say what is expected
    /// take priority.
    pub decision: Option<Decision>,
    /// What was found, the finding that explains most first; never empty.
    pub findings: Vec<Finding>,
    /// What became of the listed records: first the one that decided, then the losers in the order of the decision.
    #[serde(skip)]
    pub contenders: Vec<Contender>,
}

/// The answer for one student and date. Serialises as one JSON object, without the records of the day.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Diagnosis {
    /// The student.
    pub student: StudentId,
    /// The school date.
    pub date: NaiveDate,
    /// The answers for both sessions, AM first, or for the one that was asked about.
    pub sessions: Vec<SessionDiagnosis>,
    /// The records of the student's day, by time, for a drawing of the day. If there are very many, this holds only those that
    /// a session lists.
    #[serde(skip)]
    pub day: Vec<DayRecord>,
    /// How many more records the day has.
    #[serde(skip)]
    pub more_in_day: usize,
    /// Whether records of the date have codes but no code table was read. The marks then have no letters, and every
    /// code counts as an absence.
    #[serde(skip)]
    pub lacks_code_table: bool,
}

/// Answers a [`Question`] from the records of a fetch that covers the date, in any order.
///
/// Push everybody's records: only they show whether the school was in session ([R7](crate::guide::rules#r7)). Memory
/// grows with the records of one day, however many dates the fetch covers.
///
/// ```
/// use chrono::{TimeDelta, Utc};
/// use rollmark::explain::{Diagnoser, FindingName, Question};
/// use rollmark::rules::{Freshness, Rules};
/// use rollmark::testing::FakeSchool;
///
/// let today = "2026-11-20".parse()?;
/// let mut school = FakeSchool::new();
/// school.code("17", "M", "Medical", true);
/// school.registration("100", "4733683260", "2026-11-20T08:40:00").present().updated("2026-11-20T08:52:00");
/// school.out_of_school("901", "4733683260", "2026-11-20T08:00:00", "2026-11-20T12:00:00").coded("17")
///     .updated("2026-11-19T16:00:00");
///
/// let question = Question::about("4733683260", today).expecting("M");
/// let freshness = Freshness::new(Utc::now(), TimeDelta::hours(4));
/// let mut diagnoser = Diagnoser::new(Rules::new("Europe/London".parse()?), question, freshness);
/// school.records().for_each(|record| diagnoser.push(record));
/// let diagnosis = diagnoser.finish()?;
/// assert_eq!(diagnosis.sessions[0].findings[0].name(), FindingName::OutOfSchoolOlderThanRegistration);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Diagnoser {
    resolver: Resolver,
    facts: Facts,
    wording: Wording,
}

impl Diagnoser {
    /// A diagnosis by a school's rules. `freshness` says when the records were fetched, and how old they can be.
    pub fn new(rules: Rules, question: Question, freshness: Freshness) -> Self {
        let facts = Facts::new(rules.clone(), question, freshness);
        Self { resolver: Resolver::new(rules, scope_of(&facts)), facts, wording: Wording::default() }
    }

    /// Sets what things are called in the management system.
    #[must_use]
    pub fn with_wording(mut self, wording: Wording) -> Self {
        self.wording = wording;
        self
    }

    /// Sets the time of the data, if the source gives it; see [`Freshness::with_as_of`].
    #[must_use]
    pub fn with_as_of(mut self, as_of: Option<DateTime<Utc>>) -> Self {
        self.facts.freshness = self.facts.freshness.with_as_of(as_of);
        self
    }

    /// Says that the caller of the last sync stated that the school was closed on the date
    /// ([R11.4](crate::guide::rules#r11-4)), so that no mark is expected. Call this before you push records.
    #[must_use]
    pub fn with_school_closed(mut self) -> Self {
        self.resolver = self.resolver.with_closed_dates([self.facts.question.date]);
        self
    }

    /// Sets what the portal's store shows in each session. Without it, the answer leaves out the store.
    #[must_use]
    pub fn with_shown(mut self, shown: impl IntoIterator<Item = ShownMark>) -> Self {
        self.facts.shown.extend(shown);
        self
    }

    /// Sets the fields of out-of-school records that may hold their time of update or their code under an unknown name
    /// (`source::Completeness::undecided_fields`).
    #[must_use]
    pub fn with_undecided_fields(mut self, names: Vec<String>) -> Self {
        self.facts.undecided_fields = names;
        self
    }

    /// Takes one record.
    pub fn push(&mut self, mut record: Record) {
        record.drop_empty_texts();
        self.facts.note(&record);
        self.resolver.push(record);
    }

    /// Answers the question.
    ///
    /// # Errors
    /// See [`ResolveError`].
    pub fn finish(self) -> Result<Diagnosis, ResolveError> {
        let Self { resolver, facts, wording } = self;
        let register = resolver.finish()?;
        let mut day = facts.day(&register);
        let answer = |session| answer(&facts, &register, &wording, session, !day.is_empty());
        let sessions: Vec<SessionDiagnosis> = facts.question.sessions().map(answer).collect();
        let all = day.len();
        if all > MOST_LISTED {
            let is_listed = |record: &DayRecord| {
                sessions.iter().flat_map(|answer| &answer.contenders).any(|one| one.record == *record)
            };
            day.retain(is_listed);
            // Rows that differ only in a comment look alike here.
            day.truncate(2 * (MOST_LISTED + 1));
        }
        let more_in_day = all - day.len();
        Ok(Diagnosis {
            student: facts.question.student,
            date: facts.question.date,
            sessions,
            day,
            more_in_day,
            lacks_code_table: register.lacks_code_table(),
        })
    }
}

impl Extend<Record> for Diagnoser {
    fn extend<I: IntoIterator<Item = Record>>(&mut self, records: I) {
        records.into_iter().for_each(|record| self.push(record));
    }
}

fn scope_of(facts: &Facts) -> Scope {
    let day = Window::day(facts.question.date);
    let window = facts.window.today().map_or(day, |today| day.with_today(today));
    Scope::all(window).with_students([facts.question.student.clone()])
}

fn answer(
    facts: &Facts,
    register: &Register,
    wording: &Wording,
    session: Session,
    has_records: bool,
) -> SessionDiagnosis {
    let Question { student, date, .. } = &facts.question;
    let mark = register.mark(student, *date, session);
    let contenders = facts.contenders(register, session);
    let has_school = register.is_in_session(*date, session);
    let day =
        SessionDay { facts, register, session, mark: mark.as_ref(), contenders: &contenders, has_school, has_records };
    let words = Words { day: &day, wording };
    let findings = day.causes().into_iter().map(|cause| words.finding(cause)).collect();
    let (contenders, more_losers) = listed(contenders);
    let decision = mark.as_ref().map(|mark| {
        let lost = |one: &Contender| Some(Loser { record: one.record.record.clone(), why: one.why? });
        let losers = contenders.iter().filter_map(lost).collect();
        Decision { losers, more_losers, ..mark.decision.clone() }
    });
    SessionDiagnosis { session, mark, decision, findings, contenders }
}

/// The contenders that are listed, in their order, and the number of others.
fn listed(contenders: Vec<Contender>) -> (Vec<Contender>, u64) {
    let room = MOST_LISTED + usize::from(contenders.iter().any(|one| one.why.is_none()));
    let more = contenders.len().saturating_sub(room);
    let mut numbered: Vec<(usize, Contender)> = contenders.into_iter().enumerate().collect();
    numbered.sort_by_key(|(_, one)| one.why.is_some() && !one.is_expected);
    numbered.truncate(room);
    numbered.sort_by_key(|(place, _)| *place);
    (numbered.into_iter().map(|(_, one)| one).collect(), more as u64)
}
