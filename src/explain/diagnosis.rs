use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;

use super::day::{Contender, DayRecord, Facts, SessionDay};
use super::finding::{Finding, as_line};
use super::words::Words;
use super::{Question, ShownMark, Wording};
use crate::model::{Decision, Loser, Mark, Record, Session, StudentId};
use crate::rules::{Freshness, Register, ResolveError, Resolver, Rules, Scope, Window};

/// So many of the records that did not decide are listed; a student's day has some fifteen.
const MOST_LISTED: usize = 40;

/// The answer for one session.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SessionDiagnosis {
    /// The session.
    pub session: Session,
    /// The mark that the source yields now; as in a marks file where it is serialised.
    #[serde(serialize_with = "as_line")]
    pub mark: Option<Mark>,
    /// The mark's decision, with the other records of the day among the losers: all of them, or 40 where there are more.
    /// Those that say what is expected come into the list first.
    pub decision: Option<Decision>,
    /// What was found, the one that explains most first; never empty.
    pub findings: Vec<Finding>,
    /// What became of the listed records: the one that decided first, then the others in the order of the decision's
    /// losers.
    #[serde(skip)]
    pub contenders: Vec<Contender>,
}

/// The answer for a student's date. Serialises as one JSON object; the records of the day are not part of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Diagnosis {
    /// The student.
    pub student: StudentId,
    /// The school date.
    pub date: NaiveDate,
    /// AM before PM, or the one that was asked about.
    pub sessions: Vec<SessionDiagnosis>,
    /// The records of the student's day, by time: what a drawing of the day shows. Where there are very many, those that
    /// a session lists.
    #[serde(skip)]
    pub day: Vec<DayRecord>,
    /// How many more records the day has.
    #[serde(skip)]
    pub more_in_day: usize,
    /// Records of the date have codes, but no code record was read: the marks have no letters, and every code counts as an
    /// absence.
    #[serde(skip)]
    pub lacks_code_table: bool,
}

/// Takes the records of a fetch that holds the date, in any order, and answers a question about them.
///
/// Everybody's records are needed, since the school was in session where anybody was registered
/// ([R7](crate::guide::rules#r7)). Memory grows with the school's day, whatever else the fetch holds.
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
    /// A diagnosis by a school's rules, from a fetch of this freshness.
    pub fn new(rules: Rules, question: Question, freshness: Freshness) -> Self {
        let facts = Facts::new(rules.clone(), question, freshness);
        Self { resolver: Resolver::new(rules, scope_of(&facts)), facts, wording: Wording::default() }
    }

    /// Sets what the source's things are called.
    #[must_use]
    pub fn with_wording(mut self, wording: Wording) -> Self {
        self.wording = wording;
        self
    }

    /// Sets the instant as of which the source says that its answer shows the school; see [`Freshness::with_as_of`].
    #[must_use]
    pub fn with_as_of(mut self, as_of: Option<DateTime<Utc>>) -> Self {
        self.facts.freshness = self.facts.freshness.with_as_of(as_of);
        self
    }

    /// Says that the last sync was told that the school was closed on the date ([R11.4](crate::guide::rules#r11-4)): no
    /// mark is expected then. Comes before the records.
    #[must_use]
    pub fn with_school_closed(mut self) -> Self {
        self.resolver = self.resolver.with_closed_dates([self.facts.question.date]);
        self
    }

    /// Says what the portal's store shows in a session; without it, the store is left out of the answer.
    #[must_use]
    pub fn with_shown(mut self, shown: impl IntoIterator<Item = ShownMark>) -> Self {
        self.facts.shown.extend(shown);
        self
    }

    /// Names the fields of out-of-school records that may hold their time of update or their code under a name that is not
    /// looked for ([`Completeness::undecided_fields`](crate::source::Completeness::undecided_fields)).
    #[must_use]
    pub fn with_undecided_fields(mut self, names: Vec<String>) -> Self {
        self.facts.undecided_fields = names;
        self
    }

    /// Takes one record.
    pub fn push(&mut self, record: Record) {
        self.facts.note(&record);
        self.resolver.push(record);
    }

    /// Answers from what was pushed.
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
            // Rows that differ in a comment alone look alike here.
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

/// The contenders that are listed, in their order, and how many others there are.
fn listed(contenders: Vec<Contender>) -> (Vec<Contender>, u64) {
    let room = MOST_LISTED + usize::from(contenders.iter().any(|one| one.why.is_none()));
    let more = contenders.len().saturating_sub(room);
    let mut numbered: Vec<(usize, Contender)> = contenders.into_iter().enumerate().collect();
    numbered.sort_by_key(|(_, one)| one.why.is_some() && !one.is_expected);
    numbered.truncate(room);
    numbered.sort_by_key(|(place, _)| *place);
    (numbered.into_iter().map(|(_, one)| one).collect(), more as u64)
}
