use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};

use super::codes::SchoolCodes;
use super::duplicates::{compare_duplicates, is_not_taken, stamp_of};
use super::span::{Span, end_of};
use super::untaken::{DayRegisters, UntakenRegister};
use super::{PmRule, Rules, Scope, TieBreak};
#[cfg(feature = "sync")]
use crate::model::MarkContent;
use crate::model::{
    Decision, DecisionRule, FeedTime, Issue, Issues, Loser, LoserReason, Mark, PeriodId, PickedBy, PickedRegistration,
    RawCode, RecordId, RecordKind, RecordReference, Registration, Session, SourceVerdict, Status, StudentId,
    UnreadableField, Zone,
};

/// More rows than one student has in one register.
const FEW: usize = 16;

/// A row as it is held until marks are made from it, in half of the memory: rare fields are held separately, and the student is
/// stored once for all rows.
#[derive(Clone, PartialEq, Eq)]
struct HeldRow {
    id: Option<RecordId>,
    period: Option<PeriodId>,
    /// In school time.
    at: NaiveDateTime,
    last_updated: Option<FeedTime>,
    session: Session,
    registered: bool,
    late: bool,
    rare: Option<Box<Rare>>,
}

/// The fields that few rows have.
#[derive(Clone, Default, PartialEq, Eq)]
struct Rare {
    /// The time as it was written, if not in school time.
    written: Option<FeedTime>,
    code: Option<RawCode>,
    minutes_late: Option<u32>,
    comment: Option<Box<str>>,
    verdict: Option<SourceVerdict>,
    unreadable: Vec<UnreadableField>,
}

impl HeldRow {
    fn new(row: &Registration, at: NaiveDateTime, session: Session) -> Self {
        let rare = Rare {
            written: Some(row.at).filter(|written| *written != FeedTime::School(at)),
            code: row.code.clone(),
            minutes_late: row.minutes_late,
            comment: row.comment.clone(),
            verdict: row.verdict,
            unreadable: row.unreadable.clone(),
        };
        Self {
            id: row.id.clone(),
            period: row.period.clone(),
            at,
            last_updated: row.last_updated,
            session,
            registered: row.registered,
            late: row.late,
            rare: (rare != Rare::default()).then(|| Box::new(rare)),
        }
    }

    /// The row as it was read.
    fn row(&self, student: &StudentId) -> Registration {
        let mut row = Registration::new(student, FeedTime::School(self.at));
        row.id = self.id.clone();
        row.period = self.period.clone();
        row.last_updated = self.last_updated;
        row.registered = self.registered;
        row.late = self.late;
        if let Some(rare) = &self.rare {
            let Rare { written, code, minutes_late, comment, verdict, unreadable } = Rare::clone(rare);
            row.at = written.unwrap_or(row.at);
            (row.code, row.minutes_late, row.comment) = (code, minutes_late, comment);
            (row.verdict, row.unreadable) = (verdict, unreadable);
        }
        row
    }

    fn place(&self) -> (NaiveDate, Session) {
        (self.at.date(), self.session)
    }
}

/// Leaves out the fields that can hold medical facts.
impl fmt::Debug for HeldRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldRow").field("id", &self.id).field("at", &self.at).finish_non_exhaustive()
    }
}

/// One student's rows that may count: for each date and session those at the earliest time, that is, the session's
/// registration and its duplicates. Sorted by date and session; the nodes of a map would be many times larger for a student
/// with few rows.
#[derive(Clone, Debug, Default)]
pub(super) struct StudentDays(Vec<HeldRow>);

impl StudentDays {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn rows(&self, date: NaiveDate, session: Session) -> &[HeldRow] {
        let begin = self.0.partition_point(|row| row.place() < (date, session));
        let rest = self.0.get(begin..).unwrap_or_default();
        let count = rest.iter().take_while(|row| row.place() == (date, session)).count();
        rest.get(..count).unwrap_or_default()
    }

    pub(super) fn take(&mut self, row: &Registration, at: NaiveDateTime, session: Session) {
        let place = (at.date(), session);
        // Most feeds come date by date, so the end is checked first.
        let end = match self.0.last() {
            Some(last) if last.place() > place => self.0.partition_point(|known| known.place() <= place),
            _ => self.0.len(),
        };
        let known = end.checked_sub(1).and_then(|last| self.0.get(last)).filter(|known| known.place() == place);
        let order = known.map(|known| at.cmp(&known.at));
        // Most rows belong to later registers.
        if order == Some(Ordering::Greater) {
            return;
        }
        let row = HeldRow::new(row, at, session);
        let mut end = end;
        if order.is_some() {
            let begin = self.0.partition_point(|known| known.place() < place);
            let same = self.0.get(begin..end).unwrap_or_default();
            match order {
                Some(Ordering::Less) => {
                    self.0.drain(begin..end);
                    end = begin;
                }
                // If there are many, repeats are found once all have arrived.
                _ if same.len() < FEW && same.contains(&row) => return,
                _ => {}
            }
        }
        if self.0.len() == self.0.capacity() {
            // Doubling could hold twice the memory that is needed.
            self.0.reserve_exact((self.0.len() / 4).max(2));
        }
        self.0.insert(end, row);
    }

    /// Puts the winner of each register first (R4) and counts the losers.
    pub(super) fn settle(&mut self, student: &StudentId, zone: &Zone, issues: &mut Issues) {
        let has_duplicates = |rows: &[HeldRow]| matches!(rows, [a, b] if a.place() == b.place());
        if !self.0.windows(2).any(has_duplicates) {
            return;
        }
        let mut held = std::mem::take(&mut self.0).into_iter().peekable();
        while let Some(first) = held.next() {
            let ((date, session), at) = (first.place(), first.at);
            if held.peek().is_none_or(|next| next.place() != (date, session)) {
                self.0.push(first);
                continue;
            }
            let mut rows = vec![first.row(student)];
            while let Some(next) = held.next_if(|next| next.place() == (date, session)) {
                rows.push(next.row(student));
            }
            rows.sort_by(|a, b| compare_duplicates(b, a, zone));
            rows.dedup();
            for loser in rows.iter().skip(1) {
                issues.raise(Issue::DuplicateRegistration, loser.id.as_ref().map(RecordId::as_str));
            }
            self.0.extend(rows.iter().map(|row| HeldRow::new(row, at, session)));
        }
    }
}

/// What was read about one student.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// A record lies in or reaches into the window on a date on which the school was not closed.
    pub(super) is_open: bool,
    /// The rows that may count, of a student in scope.
    pub(super) days: StudentDays,
}

/// What a fetch says beyond the records that marks are made from.
#[derive(Clone, Debug)]
pub(super) struct FetchFacts {
    pub(super) has_coded_records: bool,
    pub(super) midnight_ends_are_meant: bool,
    pub(super) closed: BTreeSet<NaiveDate>,
    pub(super) closed_with_rows: BTreeSet<NaiveDate>,
}

/// The result of a [`Resolver`](super::Resolver): every mark in scope, computed when it is asked for.
#[derive(Clone, Debug)]
pub struct Register {
    pub(super) rules: Rules,
    pub(super) scope: Scope,
    pub(super) codes: SchoolCodes,
    /// Whether the rows are registrations or session marks.
    pub(super) row_kind: RecordKind,
    /// All students with a record that lies in or reaches into the window, in scope or not. Shared by the register's clones.
    pub(super) students: Arc<BTreeMap<StudentId, Seen>>,
    pub(super) spans: Arc<BTreeMap<StudentId, Vec<Span>>>,
    pub(super) assigned: BTreeSet<(NaiveDate, Session)>,
    /// `assigned`, and under the period rule the sessions of periods (R7).
    pub(super) in_session: BTreeSet<(NaiveDate, Session)>,
    pub(super) period_times: BTreeMap<(NaiveDate, Session), BTreeSet<NaiveDateTime>>,
    pub(super) unknown_period_days: BTreeSet<(StudentId, NaiveDate)>,
    pub(super) day_registers: DayRegisters,
    pub(super) facts: FetchFacts,
    pub(super) issues: Issues,
}

impl Register {
    /// The mark of one student, date and session; `None` if there is none, or if it is out of scope.
    pub fn mark(&self, student: &StudentId, date: NaiveDate, session: Session) -> Option<Mark> {
        if !self.is_in_session(date, session) {
            return None;
        }
        self.decide(student, date, session, self.rows_of(student, date, session), self.spans_of(student))
    }

    /// All marks, sorted by student (code points), date, session.
    pub fn marks(&self) -> impl Iterator<Item = Mark> + '_ {
        self.students().into_iter().flat_map(|student| self.student(student))
    }

    /// One student's marks, sorted by date, session.
    pub fn student<'a>(&'a self, student: &'a StudentId) -> impl Iterator<Item = Mark> + 'a {
        let sessions = self.sessions_of(student);
        sessions.filter_map(move |(date, session, rows, spans)| self.decide(student, date, session, rows, spans))
    }

    /// The contents of the [`marks`](Self::marks), in their order, with less work: most need no decision.
    #[cfg(feature = "sync")]
    pub(crate) fn contents(&self) -> impl Iterator<Item = (&StudentId, NaiveDate, Session, MarkContent)> + '_ {
        self.students().into_iter().flat_map(move |student| {
            self.sessions_of(student).filter_map(move |(date, session, rows, spans)| {
                let content = match rows {
                    [row] if row.rare.is_none() && spans.is_empty() => self.content_of(row),
                    _ => self.decide(student, date, session, rows, spans)?.content(),
                };
                Some((student, date, session, content))
            })
        })
    }

    /// What the mark says for a row without rare fields, if there is no other record.
    #[cfg(feature = "sync")]
    fn content_of(&self, row: &HeldRow) -> MarkContent {
        let status = status_without_code(row.registered, row.late, None);
        let last_updated = row.last_updated.map(|stamp| stamp.instant(self.rules.zone()));
        let content = MarkContent::new(status, self.row_kind, DecisionRule::OnlyCandidate);
        MarkContent { record_id: row.id.clone(), last_updated, ..content }
    }

    /// The sessions, with the student's rows at the time of each register, and all out-of-school records of the student.
    fn sessions_of<'a>(
        &'a self,
        student: &StudentId,
    ) -> impl Iterator<Item = (NaiveDate, Session, &'a [HeldRow], &'a [Span])> + use<'a> {
        let spans = self.spans_of(student);
        // The sessions and the rows are both sorted.
        let mut rest = self.students.get(student).map_or(&[][..], |seen| &seen.days.0);
        self.in_session.iter().map(move |(date, session)| {
            let place = (*date, *session);
            let before = rest.iter().take_while(|row| row.place() < place).count();
            let from_here = rest.get(before..).unwrap_or_default();
            let count = from_here.iter().take_while(|row| row.place() == place).count();
            let (rows, after) = from_here.split_at_checked(count).unwrap_or_default();
            rest = after;
            (*date, *session, rows, spans)
        })
    }

    /// One date's marks, sorted by student, session.
    pub fn day(&self, date: NaiveDate) -> impl Iterator<Item = Mark> + '_ {
        self.students().into_iter().flat_map(move |student| {
            Session::BOTH.into_iter().filter_map(move |session| self.mark(student, date, session))
        })
    }

    /// The students with any record in the window, sorted by code point.
    pub fn students(&self) -> BTreeSet<&StudentId> {
        let with_rows = self.students.iter().filter(|(_, seen)| !seen.days.is_empty()).map(|(student, _)| student);
        with_rows.chain(self.spans.keys()).collect()
    }

    /// The issues in the records, for the school to look at.
    pub fn issues(&self) -> &Issues {
        &self.issues
    }

    /// The scope that was resolved.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Whether the fetch holds session marks instead of registrations.
    pub(crate) fn has_session_marks(&self) -> bool {
        self.row_kind == RecordKind::SessionMark
    }

    /// The registers of a date that were not taken, or not for every student in scope, lessons included; sorted by time, then
    /// period (code points). `None` if the resolver did not keep the registers of the date
    /// ([`Resolver::with_registers_of`](super::Resolver::with_registers_of)).
    ///
    /// Rows of one student with the same time and period belong to one register; the row that counts says whether it was taken
    /// ([R4](crate::guide::rules#r4)). There are no registers on a date on which the school was closed.
    pub fn not_taken(&self, date: NaiveDate) -> Option<Vec<UntakenRegister>> {
        if !self.day_registers.are_asked(date) {
            return None;
        }
        if self.is_closed(date) {
            return Some(Vec::new());
        }
        let is_registration = |student: &StudentId, session, at, period: Option<&PeriodId>| {
            let held = self.rows_of(student, date, session).first();
            held.is_some_and(|row| row.at == at && row.period.as_ref() == period)
        };
        Some(self.day_registers.not_taken(date, is_registration))
    }

    /// Whether the school was in session (R7).
    pub(crate) fn is_in_session(&self, date: NaiveDate, session: Session) -> bool {
        self.in_session.contains(&(date, session))
    }

    /// Whether this fetch proves that a student without a mark has none ([R11.4](crate::guide::rules#r11-4)): any
    /// student has a row or session mark in that session on that date, and no row of this student and date was ignored
    /// because its period is unknown.
    pub fn proves_absence_of_mark(&self, student: &StudentId, date: NaiveDate, session: Session) -> bool {
        self.assigned.contains(&(date, session)) && !self.unknown_period_days.contains(&(student.clone(), date))
    }

    /// Whether any record of the student lies in or reaches into the window: a row of any period, or an out-of-school
    /// record, even an old version that no longer counts ([R11.4](crate::guide::rules#r11-4)). Dates on which the
    /// school was closed do not count.
    pub fn has_records_of(&self, student: &StudentId) -> bool {
        self.students.get(student).is_some_and(|seen| seen.is_open)
    }

    /// The number of dates in the window on which any student has a session's registration
    /// ([R11.4](crate::guide::rules#r11-4)). Dates on which the school was closed do not count.
    pub fn dates_with_registrations(&self) -> usize {
        self.assigned.iter().map(|(date, _)| date).collect::<BTreeSet<_>>().len()
    }

    /// Whether the caller said that the school was closed on this date.
    pub fn is_closed(&self, date: NaiveDate) -> bool {
        self.facts.closed.contains(&date)
    }

    /// The dates of the window on which the school was closed, as the caller said, but which have registrations.
    pub fn closed_with_registrations(&self) -> &BTreeSet<NaiveDate> {
        &self.facts.closed_with_rows
    }

    /// Whether the fetch holds any code record.
    pub fn has_code_table(&self) -> bool {
        !self.codes.is_empty()
    }

    /// Whether any record in the window, or reaching into it, has a code, whichever student it belongs to.
    pub fn has_coded_records(&self) -> bool {
        self.facts.has_coded_records
    }

    /// Whether records have codes, but the fetch holds no code record: incomplete where the source has a code table (R11.6).
    pub(crate) fn lacks_code_table(&self) -> bool {
        !self.has_code_table() && self.has_coded_records()
    }

    /// Whether there are both kinds of out-of-school record that end at midnight: whole days from midnight to the same
    /// midnight, and records from midnight to a later midnight. The school then evidently includes the later date
    /// ([`MidnightEnd::IncludesDate`](super::MidnightEnd::IncludesDate), [R5](crate::guide::rules#r5)).
    pub fn midnight_ends_are_meant(&self) -> bool {
        self.facts.midnight_ends_are_meant
    }

    fn rows_of(&self, student: &StudentId, date: NaiveDate, session: Session) -> &[HeldRow] {
        self.students.get(student).map_or(&[], |seen| seen.days.rows(date, session))
    }

    fn spans_of(&self, student: &StudentId) -> &[Span] {
        self.spans.get(student).map_or(&[], Vec::as_slice)
    }

    fn covers(&self, span: &Span, date: NaiveDate, session: Session, register: Option<NaiveDateTime>) -> bool {
        match (register, self.rules.pm_rule) {
            (Some(time), _) => span.covers(time),
            (None, PmRule::FirstFrom(pm_start)) => {
                let (midnight, noon) = (date.and_time(NaiveTime::MIN), date.and_time(pm_start));
                match session {
                    Session::Am => span.overlaps(midnight, noon),
                    Session::Pm => span.overlaps(noon, end_of(date)),
                }
            }
            (None, PmRule::RegistrationPeriods) => {
                let times = self.period_times.get(&(date, session));
                span.is_valid() && times.is_some_and(|times| times.range(span.from..span.to).next().is_some())
            }
        }
    }

    /// The candidates for a session, the winner first (R6).
    fn candidates<'a>(
        &self,
        date: NaiveDate,
        session: Session,
        row: Option<&'a Registration>,
        spans: &'a [Span],
    ) -> Vec<Candidate<'a>> {
        let zone = self.rules.zone();
        let at = row.map(|row| row.at.school_time(zone));
        let mut candidates: Vec<Candidate<'_>> = spans
            .iter()
            .filter(|span| self.covers(span, date, session, at))
            .map(Candidate::OutOfSchool)
            .chain(row.map(|row| self.candidate(row)))
            .collect();
        candidates.sort_by(|a, b| b.compare(a, self.rules.tie_break));
        candidates
    }

    fn decide(
        &self,
        student: &StudentId,
        date: NaiveDate,
        session: Session,
        rows: &[HeldRow],
        spans: &[Span],
    ) -> Option<Mark> {
        let first = rows.first().map(|held| held.row(student));
        let row = first.as_ref();
        let at = rows.first().map(|held| held.at);
        let (only, several);
        let candidates = if spans.is_empty() {
            only = row.map(|row| self.candidate(row));
            only.as_slice()
        } else {
            several = self.candidates(date, session, row, spans);
            several.as_slice()
        };
        let (winner, others) = candidates.split_first()?;

        let rule = if others.is_empty() {
            DecisionRule::OnlyCandidate
        } else if others.iter().any(Candidate::is_not_taken) {
            DecisionRule::NotTakenYields
        } else if others.iter().all(|other| other.stamp() < winner.stamp()) {
            DecisionRule::LatestUpdate
        } else {
            DecisionRule::TieBreak
        };
        let beaten = others.iter().map(|other| Loser { record: other.reference(), why: other.why_lost_to(winner) });
        let duplicates = rows
            .iter()
            .skip(1)
            .map(|held| Loser { record: self.candidate(&held.row(student)).reference(), why: LoserReason::Duplicate });
        let losers: Vec<Loser> = beaten.chain(duplicates).take(Decision::MOST_LOSERS).collect();
        let more_losers = (others.len() + rows.len().saturating_sub(1) - losers.len()) as u64;

        let outcome = self.outcome(winner);
        let judged_by_source =
            matches!(winner, Candidate::Row(row, RecordKind::Registration, _) if row.verdict.is_some());
        let late_minutes = match (outcome.status, winner) {
            (Status::Late, Candidate::Row(row, ..)) => row.minutes_late,
            _ => None,
        };
        Some(Mark {
            student: student.clone(),
            date,
            session,
            status: outcome.status,
            code: outcome.letter,
            code_name: outcome.name,
            raw_code: outcome.raw,
            minutes_late: late_minutes,
            decision: Decision {
                rule,
                winner: winner.reference(),
                registration: row.filter(|_| !self.has_session_marks()).zip(at).map(|(row, at)| PickedRegistration {
                    id: row.id.clone(),
                    period: row.period.clone(),
                    at,
                    picked_by: match self.rules.pm_rule {
                        PmRule::FirstFrom(_) => PickedBy::TimeRule,
                        PmRule::RegistrationPeriods => PickedBy::PeriodRule,
                    },
                }),
                losers,
                more_losers,
                judged_by_source,
            },
        })
    }

    /// Every record of a student that concerns a session, and why it lost: the winner first, without a reason, then losing
    /// candidates, duplicates and out-of-school records of the date that do not cover the session. Empty where the school was
    /// not in session (R7). The rows are those of [`rows`](Self::rows).
    pub(crate) fn contenders<'a>(
        &'a self,
        student: &StudentId,
        date: NaiveDate,
        session: Session,
        rows: &'a [Registration],
    ) -> Vec<(Candidate<'a>, Option<LoserReason>)> {
        let spans = self.spans_of(student);
        let at = rows.first().map(|row| row.at.school_time(self.rules.zone()));
        let candidates = self.candidates(date, session, rows.first(), spans);
        let mut all: Vec<(Candidate<'a>, Option<LoserReason>)> = Vec::new();
        if !self.is_in_session(date, session) {
            return all;
        }
        if let Some((winner, others)) = candidates.split_first() {
            all.push((*winner, None));
            all.extend(others.iter().map(|other| (*other, Some(other.why_lost_to(winner)))));
        }
        let duplicates = rows.iter().skip(1);
        all.extend(duplicates.map(|row| (self.candidate(row), Some(LoserReason::Duplicate))));
        let elsewhere = spans.iter().filter(|span| !self.covers(span, date, session, at));
        all.extend(elsewhere.map(|span| (Candidate::OutOfSchool(span), Some(LoserReason::NotCovering))));
        all
    }

    /// The student's rows at the time of the session's register, the one that counts first (R3, R4).
    pub(crate) fn rows(&self, student: &StudentId, date: NaiveDate, session: Session) -> Vec<Registration> {
        self.rows_of(student, date, session).iter().map(|held| held.row(student)).collect()
    }

    /// The record that would decide if this row were a session's registration (R6).
    pub(crate) fn winner_beside<'a>(&'a self, row: &'a Registration) -> Candidate<'a> {
        let at = row.at.school_time(self.rules.zone());
        let spans = self.spans_of(&row.student);
        let covering = spans.iter().filter(|span| span.covers(at)).map(Candidate::OutOfSchool);
        covering.fold(self.candidate(row), |best, span| match span.compare(&best, self.rules.tie_break) {
            Ordering::Greater => span,
            _ => best,
        })
    }

    /// The student's out-of-school records that reach into the window.
    pub(crate) fn out_of_school<'a>(&'a self, student: &StudentId) -> impl Iterator<Item = Candidate<'a>> + use<'a> {
        self.spans_of(student).iter().map(Candidate::OutOfSchool)
    }

    /// A row as a candidate.
    pub(crate) fn candidate<'a>(&self, row: &'a Registration) -> Candidate<'a> {
        Candidate::Row(row, self.row_kind, stamp_of(row, self.rules.zone()))
    }

    /// What a record says if it decides.
    pub(crate) fn outcome(&self, candidate: &Candidate<'_>) -> Outcome {
        match candidate {
            Candidate::Row(row, ..) => self.judge(row),
            Candidate::OutOfSchool(span) => self.judge_absence(span.record.code.as_ref(), Status::Absent),
        }
    }

    /// What a registration row says (R2).
    fn judge(&self, row: &Registration) -> Outcome {
        let without_code = status_without_code(row.registered, row.late, row.verdict);
        let outcome = self.judge_absence(row.code.as_ref(), without_code);
        if row.registered { Outcome { status: without_code, ..outcome } } else { outcome }
    }

    /// The status of a code (R2's "no" rows), or the given status if there is no code.
    fn judge_absence(&self, code: Option<&RawCode>, without_code: Status) -> Outcome {
        let Some(raw) = code else {
            return Outcome { status: without_code, letter: None, name: None, raw: None };
        };
        let found = self.codes.find(raw);
        let status = match found {
            _ if self.codes.is_empty() => Status::Absent,
            Some(code) if code.absence => Status::Absent,
            Some(_) => Status::NotRequired,
            None => Status::UnknownCode,
        };
        Outcome {
            status,
            letter: found.and_then(|code| code.letter.clone()),
            name: found.and_then(|code| code.name.clone()),
            raw: Some(raw.clone()),
        }
    }
}

/// What a registration row says if it has no code (R2).
fn status_without_code(registered: bool, late: bool, verdict: Option<SourceVerdict>) -> Status {
    match verdict {
        _ if registered && late => Status::Late,
        _ if registered => Status::Present,
        Some(verdict) if verdict.taken || verdict.out_of_school => Status::Absent,
        _ => Status::NotTaken,
    }
}

/// What a record says (R2).
pub(crate) struct Outcome {
    pub(crate) status: Status,
    pub(crate) letter: Option<Box<str>>,
    pub(crate) name: Option<Box<str>>,
    pub(crate) raw: Option<RawCode>,
}

/// A record that competes for a session (R6).
#[derive(Clone, Copy)]
pub(crate) enum Candidate<'a> {
    /// A registration, or a session mark as a row.
    Row(&'a Registration, RecordKind, Option<DateTime<Utc>>),
    OutOfSchool(&'a Span),
}

impl Candidate<'_> {
    fn stamp(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Row(.., stamp) => *stamp,
            Self::OutOfSchool(span) => span.stamp,
        }
    }

    fn is_not_taken(&self) -> bool {
        matches!(self, Self::Row(row, ..) if is_not_taken(row))
    }

    /// The greater wins (R6). There is at most one registration among the candidates.
    fn compare(&self, other: &Self, tie_break: TieBreak) -> Ordering {
        let is_preferred = |candidate: &Self| match candidate {
            Self::Row(..) => tie_break == TieBreak::Registration,
            Self::OutOfSchool(_) => tie_break == TieBreak::OutOfSchool,
        };
        (!self.is_not_taken(), self.stamp()).cmp(&(!other.is_not_taken(), other.stamp())).then_with(|| {
            match (self, other) {
                (Self::OutOfSchool(a), Self::OutOfSchool(b)) => a.compare_ties(b),
                _ => is_preferred(self).cmp(&is_preferred(other)),
            }
        })
    }

    pub(crate) fn reference(&self) -> RecordReference {
        let (kind, id) = match self {
            Self::Row(row, kind, _) => (*kind, row.id.clone()),
            Self::OutOfSchool(span) => (RecordKind::OutOfSchool, span.record.id.clone()),
        };
        RecordReference { kind, id, last_updated: self.stamp() }
    }

    fn why_lost_to(&self, winner: &Self) -> LoserReason {
        match (self.stamp(), winner.stamp()) {
            _ if self.is_not_taken() => LoserReason::NotTaken,
            (None, Some(_)) => LoserReason::NoTimestamp,
            (own, winning) if own == winning => LoserReason::Tie,
            _ => LoserReason::Older,
        }
    }
}
