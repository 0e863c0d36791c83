use std::collections::{BTreeMap, BTreeSet};

use chrono::{NaiveDate, NaiveDateTime};
use serde::{Serialize, Serializer};

use super::findings::Situation;
use super::{Expected, Finding, Question, ShownMark};
use crate::model::{
    Decision, FeedTime, Loser, LoserReason, Mark, OutOfSchool, PeriodId, Record, RecordKind, RecordReference,
    Registration, RegistrationPeriod, Session, Status, StudentId,
};
use crate::rules::{Candidate, Freshness, Register, ResolveError, Resolver, Rules, Scope, Window};

/// So many of the records that did not decide are listed; a student's day has some fifteen.
const MOST_LISTED: usize = 40;

/// One record of the student's day.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DayRecord {
    /// Which record.
    pub record: RecordReference,
    /// What it says if it decides.
    pub status: Status,
    /// The letter of its code, if the code table has it.
    pub code: Option<Box<str>>,
    /// A registration's time, an out-of-school record's beginning (included), or the start of a session mark's half-day; school
    /// time.
    pub from: NaiveDateTime,
    /// An out-of-school record's end (not included); `None` for others.
    pub to: Option<NaiveDateTime>,
    /// A registration's period.
    pub period: Option<PeriodId>,
    /// The session that the registration's period is flagged with.
    pub flag: Option<Session>,
}

impl DayRecord {
    pub(super) fn says(&self, expected: &Expected) -> bool {
        expected.is_met(self.status, self.code.as_deref())
    }
}

/// A record of the day beside one session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Contender {
    /// The record.
    pub record: DayRecord,
    /// Why it did not decide; `None` for the one that did.
    pub why: Option<LoserReason>,
    pub(super) is_expected: bool,
}

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

fn as_line<S: Serializer>(mark: &Option<Mark>, serializer: S) -> Result<S::Ok, S::Error> {
    mark.as_ref().map(Mark::line).serialize(serializer)
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
/// Everybody's records are needed, since the school was in session where anybody was registered (R7). Memory grows with
/// the school's day, whatever else the fetch holds.
///
/// ```
/// use chrono::{TimeDelta, Utc};
/// use rollmark::explain::{Diagnoser, FindingName, Question};
/// use rollmark::rules::{Freshness, Rules, SyncWindow};
/// use rollmark::testing::FakeSchool;
///
/// let today = "2026-11-20".parse()?;
/// let mut school = FakeSchool::new();
/// school.code("17", "M", "Medical", true);
/// school.registration("100", "4733683260", "2026-11-20T08:40:00").present().updated("2026-11-20T08:52:00");
/// school.out_of_school("901", "4733683260", "2026-11-20T08:00:00", "2026-11-20T12:00:00").coded("17")
///     .updated("2026-11-19T16:00:00");
///
/// let question = Question::new("4733683260", today, SyncWindow::default().ending(today)).expected("M".parse()?);
/// let freshness = Freshness::new(Utc::now(), TimeDelta::hours(4));
/// let mut diagnoser = Diagnoser::new(Rules::new("Europe/London".parse()?), question, freshness);
/// school.records().for_each(|record| diagnoser.push(record));
/// let diagnosis = diagnoser.finish()?;
/// assert_eq!(diagnosis.sessions[0].findings[0].name, FindingName::OutOfSchoolOlderThanRegistration);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Diagnoser {
    resolver: Resolver,
    facts: Facts,
}

/// What is known beside the resolved register.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) question: Question,
    pub(super) rules: Rules,
    pub(super) freshness: Freshness,
    pub(super) shown: Vec<ShownMark>,
    /// The student's rows of the date: registrations or session marks.
    pub(super) rows: BTreeSet<Registration>,
    /// The student's out-of-school records, of any date.
    pub(super) spans: BTreeSet<OutOfSchool>,
    /// The periods of the date; of two that share an id the greater counts (R1.5).
    pub(super) periods: BTreeMap<PeriodId, RegistrationPeriod>,
    /// The letters of the code table.
    pub(super) letters: BTreeSet<Box<str>>,
    /// Another student has a registration on the date.
    pub(super) others_have_rows: bool,
    /// At least one registration, of any student, has a time of update.
    rows_have_stamps: bool,
    /// At least one out-of-school record, of any student, has a time of update.
    spans_have_stamps: bool,
    /// At least one out-of-school record, of any student, has a code.
    pub(super) spans_have_codes: bool,
    /// Fields of out-of-school records that may hold their stamp or code.
    pub(super) undecided_fields: Vec<String>,
}

impl Diagnoser {
    /// A diagnosis by a school's rules, from a fetch of this freshness.
    pub fn new(rules: Rules, question: Question, freshness: Freshness) -> Self {
        let resolver = Resolver::new(rules.clone(), scope_of(&question));
        let facts = Facts {
            question,
            rules,
            freshness,
            shown: Vec::new(),
            rows: BTreeSet::new(),
            spans: BTreeSet::new(),
            periods: BTreeMap::new(),
            letters: BTreeSet::new(),
            others_have_rows: false,
            rows_have_stamps: false,
            spans_have_stamps: false,
            spans_have_codes: false,
            undecided_fields: Vec::new(),
        };
        Self { resolver, facts }
    }

    /// Says that the last sync was told that the school was closed on the date (R11.4): no mark is expected then. Comes before
    /// the records.
    #[must_use]
    pub fn closed(mut self) -> Self {
        self.resolver = self.resolver.with_closed_dates([self.facts.question.date]);
        self
    }

    /// Says what the portal's store shows in one session; without it, the store is left out of the answer.
    pub fn store_shows(&mut self, shown: ShownMark) {
        self.facts.shown.push(shown);
    }

    /// Names the fields of out-of-school records that may hold their time of update or their code under a name that is not
    /// looked for ([`Completeness::undecided_fields`](crate::source::Completeness::undecided_fields)).
    pub fn undecided_fields(&mut self, names: Vec<String>) {
        self.facts.undecided_fields = names;
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
        let register = self.resolver.finish()?;
        let facts = self.facts;
        let mut day = facts.day(&register);
        let session = |session| facts.session(&register, session, !day.is_empty());
        let sessions: Vec<SessionDiagnosis> = facts.question.sessions().map(session).collect();
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

fn scope_of(question: &Question) -> Scope {
    let day = Window::day(question.date);
    let window = question.window.today().map_or(day, |today| day.with_today(today));
    Scope::all(window).with_students([question.student.clone()])
}

impl Facts {
    fn note(&mut self, record: &Record) {
        let Question { student, date, .. } = &self.question;
        let is_of_date = |at: FeedTime| at.school_time(self.rules.zone()).date() == *date;
        match record {
            Record::Registration(row) => {
                self.rows_have_stamps |= row.last_updated.is_some();
                if row.student != *student {
                    self.others_have_rows = self.others_have_rows || is_of_date(row.at);
                } else if is_of_date(row.at) {
                    self.rows.insert(row.clone());
                }
            }
            Record::OutOfSchool(span) => {
                self.spans_have_stamps |= span.last_updated.is_some();
                self.spans_have_codes |= span.code.is_some();
                if span.student == *student {
                    // Nothing is decided by these, so their free texts need not be held twice.
                    self.spans.insert(OutOfSchool { reason: None, ..span.clone() });
                }
            }
            Record::Period(period) => {
                if is_of_date(period.at) && self.periods.get(&period.id).is_none_or(|known| known < period) {
                    self.periods.insert(period.id.clone(), period.clone());
                }
            }
            Record::Code(code) => self.letters.extend(code.letter.clone()),
            Record::SessionMark(mark) => {
                self.rows_have_stamps |= mark.last_updated.is_some();
                if mark.student != *student {
                    self.others_have_rows |= mark.date == *date;
                } else if mark.date == *date {
                    self.rows.insert(mark.clone().into_row());
                }
            }
        }
    }

    fn session(&self, register: &Register, session: Session, has_records: bool) -> SessionDiagnosis {
        let Question { student, date, .. } = &self.question;
        let mark = register.mark(student, *date, session);
        let contenders = self.contenders(register, session);
        let findings = Situation {
            facts: self,
            register,
            session,
            mark: mark.as_ref(),
            contenders: &contenders,
            has_school: register.is_in_session(*date, session),
            has_records,
        }
        .findings();
        let (contenders, more_losers) = listed(contenders);
        let decision = mark.as_ref().map(|mark| {
            let losers = contenders
                .iter()
                .filter_map(|contender| Some(Loser { record: contender.record.record.clone(), why: contender.why? }))
                .collect();
            Decision { losers, more_losers, ..mark.decision.clone() }
        });
        SessionDiagnosis { session, mark, decision, findings, contenders }
    }

    fn contenders(&self, register: &Register, session: Session) -> Vec<Contender> {
        let Question { student, date, .. } = &self.question;
        let mut all = register.contenders(student, *date, session);
        let known: BTreeSet<&Registration> = all
            .iter()
            .filter_map(|(candidate, _)| match candidate {
                Candidate::Registration(row, _) => Some(*row),
                Candidate::SessionMark(..) | Candidate::OutOfSchool(_) => None,
            })
            .collect();
        // No rule makes the mark of one session that of the other.
        let rows = self.rows.iter().filter(|_| !register.has_session_marks());
        let others = rows.filter(|row| !known.contains(row));
        let others: Vec<_> =
            others.map(|row| (register.candidate(row), Some(LoserReason::OtherRegistration))).collect();
        all.extend(others);
        let expected = self.question.expected.as_ref();
        all.into_iter()
            .map(|(candidate, why)| {
                let record = self.day_record(register, &candidate);
                let is_expected = expected.is_some_and(|expected| record.says(expected));
                Contender { record, why, is_expected }
            })
            .collect()
    }

    /// Whether any record of the kind has a time of update.
    pub(super) fn has_stamps(&self, kind: RecordKind) -> bool {
        match kind {
            RecordKind::Registration | RecordKind::SessionMark => self.rows_have_stamps,
            RecordKind::OutOfSchool => self.spans_have_stamps,
            RecordKind::Unknown => false,
        }
    }

    pub(super) fn day_record(&self, register: &Register, candidate: &Candidate<'_>) -> DayRecord {
        let outcome = register.outcome(candidate);
        let (from, to, period) = match candidate {
            Candidate::Registration(row, _) | Candidate::SessionMark(row, _) => {
                (row.at.school_time(self.rules.zone()), None, row.period.clone())
            }
            Candidate::OutOfSchool(span) => (span.from, Some(span.to), None),
        };
        let flag = period.as_ref().and_then(|period| self.flag(period));
        DayRecord {
            record: candidate.reference(),
            status: outcome.status,
            code: outcome.letter,
            from,
            to,
            period,
            flag,
        }
    }

    /// A registration whose period is not in the list: the period rule passes it over (R3).
    pub(super) fn is_unlisted(&self, record: &DayRecord) -> bool {
        record.to.is_none() && record.period.as_ref().is_none_or(|period| !self.periods.contains_key(period))
    }

    pub(super) fn flag(&self, id: &PeriodId) -> Option<Session> {
        self.periods.get(id)?.flag()
    }

    /// The time of the date's first period with the session's flag.
    pub(super) fn first_period(&self, session: Session) -> Option<NaiveDateTime> {
        let has_flag = |period: &&RegistrationPeriod| period.flag() == Some(session);
        self.periods.values().filter(has_flag).map(|period| period.at.school_time(self.rules.zone())).min()
    }

    fn day(&self, register: &Register) -> Vec<DayRecord> {
        let spans = register.out_of_school(&self.question.student);
        let rows = self.rows.iter().map(|row| register.candidate(row));
        let mut day: Vec<_> = spans.chain(rows).map(|candidate| self.day_record(register, &candidate)).collect();
        day.sort_by_key(|record| record.from);
        day
    }
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
