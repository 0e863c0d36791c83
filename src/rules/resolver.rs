use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use chrono::{DateTime, Days, NaiveDate, NaiveDateTime, Utc};

use super::codes::SchoolCodes;
use super::register::{FetchFacts, Seen};
use super::span::{End, Span, Versions};
use super::untaken::DayRegisters;
use super::{PmRule, Register, Rules, Scope, Window};
use crate::model::{
    Code, FIRST_REAL_YEAR, FeedTime, Issue, Issues, OutOfSchool, PeriodId, Record, RecordId, RecordKind, Registration,
    RegistrationPeriod, Session, SessionMark, StudentId, Zone,
};

/// Why the records allow no decision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// Under the period rule: the window holds registrations, but no periods.
    #[error(
        "the window holds registrations but the list of registration periods is empty; \
         let the source read the registration periods, or distinguish AM and PM by time"
    )]
    NoPeriods,
    /// A period came again with another flag, after registrations that depend on it.
    #[error(
        "registration period {0} came twice with different sessions, once after the registrations; send periods first"
    )]
    LatePeriod(PeriodId),
    /// A registration or a period has a date but no time.
    #[error("a registration or registration period has a date but no time")]
    BareDate,
    /// There are both registrations and session marks, and nothing says which count.
    #[error("the window holds both registrations and session marks; a source must give one of the two, never both")]
    BothKinds,
}

/// Takes records in any order and decides from them: [`finish`](Self::finish) gives a [`Register`].
///
/// Memory grows with students × days, with out-of-school records and with rows that raise an issue, not with the number
/// of rows. Codes and periods should come first: under the period rule, a registration whose period is not known yet
/// has to be kept.
///
/// ```
/// use rollmark::model::{Record, Registration, Session, StudentId};
/// use rollmark::rules::{Resolver, Rules, SyncWindow};
///
/// let today = "2026-11-20".parse().unwrap();
/// let mut resolver = Resolver::new(Rules::new("Europe/London".parse().unwrap()), SyncWindow::default().ending(today));
/// resolver.push(Record::Registration(Registration::new("4733683260", "2026-11-20T08:40:00".parse().unwrap())));
/// let register = resolver.finish()?;
/// let mark = register.mark(&StudentId::new("4733683260"), today, Session::Am).unwrap();
/// assert_eq!(mark.to_string(), "present");
/// # Ok::<(), rollmark::rules::ResolveError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Resolver {
    rules: Rules,
    scope: Scope,
    plausible: PlausibleStamps,
    codes: SchoolCodes,
    periods: BTreeMap<PeriodId, BTreeSet<RegistrationPeriod>>,
    /// Periods by which a row was already assigned or passed over.
    consulted: HashSet<PeriodId>,
    late_period: Option<PeriodId>,
    bare_date: bool,
    has_registrations: bool,
    has_session_marks: bool,
    students: Students,
    assigned: BTreeSet<(NaiveDate, Session)>,
    /// The last session that was assigned: most rows belong to the same register as the row before.
    last_assigned: Option<(NaiveDate, Session)>,
    /// Dates with rows, under the period rule.
    dates: BTreeSet<NaiveDate>,
    /// Rows whose period is not known (yet), of any student.
    unplaced: HashSet<Registration>,
    /// Rows in scope whose content raises, or may raise, an issue.
    noted: HashSet<Registration>,
    out_of_school: HashSet<OutOfSchool>,
    /// Whether any record that lies in or reaches into the window has a code.
    has_coded_records: bool,
    /// Whether any record is a day written from midnight to the same midnight, and whether any ends at a later one.
    has_whole_days: bool,
    has_later_midnights: bool,
    /// The dates in the window on which the school was closed but which have registrations.
    closed_with_rows: BTreeSet<NaiveDate>,
    closed: BTreeSet<NaiveDate>,
    day_registers: DayRegisters,
}

impl Resolver {
    /// A resolver for the records of one school, and one scope. A [`Window`] can be passed as the scope of all students
    /// on its dates.
    pub fn new(rules: Rules, scope: impl Into<Scope>) -> Self {
        let scope = scope.into();
        Self {
            plausible: PlausibleStamps::new(scope.window(), rules.zone()),
            rules,
            scope,
            codes: SchoolCodes::default(),
            periods: BTreeMap::new(),
            consulted: HashSet::new(),
            late_period: None,
            bare_date: false,
            has_registrations: false,
            has_session_marks: false,
            students: Students::default(),
            assigned: BTreeSet::new(),
            last_assigned: None,
            dates: BTreeSet::new(),
            unplaced: HashSet::new(),
            noted: HashSet::new(),
            out_of_school: HashSet::new(),
            has_coded_records: false,
            has_whole_days: false,
            has_later_midnights: false,
            closed_with_rows: BTreeSet::new(),
            closed: BTreeSet::new(),
            day_registers: DayRegisters::default(),
        }
    }

    /// Says on which dates the school was closed ([R11.4](crate::guide::rules#r11-4)): whatever the registers hold,
    /// there was no session then, and no record makes a mark.
    #[must_use]
    pub fn with_closed_dates(mut self, dates: impl IntoIterator<Item = NaiveDate>) -> Self {
        self.closed.extend(dates);
        self
    }

    /// Keeps the registers of these dates, lessons included, so that [`Register::not_taken`] can list those that were not
    /// taken. Costs memory for each of their rows.
    #[must_use]
    pub fn with_registers_of(mut self, dates: impl IntoIterator<Item = NaiveDate>) -> Self {
        self.day_registers.ask(dates);
        self
    }

    /// Takes one record.
    pub fn push(&mut self, mut record: Record) {
        record.drop_empty_texts();
        match record {
            // By reference: a row is large, and most are read and dropped.
            Record::Registration(ref row) => self.push_registration(row),
            Record::OutOfSchool(record) => self.push_out_of_school(record),
            Record::Period(period) => self.push_period(period),
            Record::Code(code) => self.codes.insert(code),
            Record::SessionMark(mark) => self.push_session_mark(mark),
        }
    }

    fn push_registration(&mut self, row: &Registration) {
        if row.at.is_date() {
            self.bare_date = true;
            return;
        }
        let at = row.at.school_time(self.rules.zone());
        if !self.scope.window().contains(at.date()) {
            return;
        }
        self.has_registrations = true;
        if self.day_registers.are_asked(at.date()) && self.scope.has_student(&row.student) {
            self.day_registers.take(row, at, self.rules.zone());
        }
        match self.rules.pm() {
            PmRule::FirstFrom(pm_start) => {
                let session = if at.time() < pm_start { Session::Am } else { Session::Pm };
                self.take(row, at, Some(session));
            }
            PmRule::RegistrationPeriods => {
                if !self.closed.contains(&at.date()) {
                    self.dates.insert(at.date());
                }
                let flag = flag_of(&self.periods, row);
                if let Some(period) = row
                    .period
                    .as_ref()
                    .filter(|period| !matches!(flag, Flag::UnknownPeriod) && !self.consulted.contains(*period))
                {
                    self.consulted.insert(period.clone());
                }
                let session = match flag {
                    Flag::Session(session) => Some(session),
                    Flag::None => None,
                    Flag::UnknownPeriod => {
                        self.unplaced.insert(row.clone());
                        None
                    }
                };
                self.take(row, at, session);
            }
        }
    }

    /// Takes a session mark as the row of its session: it needs no time or period to place it.
    fn push_session_mark(&mut self, mark: SessionMark) {
        if !self.scope.window().contains(mark.date) {
            return;
        }
        self.has_session_marks = true;
        let session = mark.session;
        let row = mark.into_row();
        let at = row.at.school_time(self.rules.zone());
        self.take(&row, at, Some(session));
    }

    /// Takes a row that is in the window: what it says about the school and, if it has a session, about that session.
    fn take(&mut self, row: &Registration, at: NaiveDateTime, session: Option<Session>) {
        let date = at.date();
        let is_open = !self.closed.contains(&date);
        if !is_open {
            self.closed_with_rows.insert(date);
        }
        self.has_coded_records |= row.code.is_some();
        let is_in_scope = self.scope.has_student(&row.student);
        if is_in_scope && self.may_raise_issue(row) {
            self.noted.insert(row.clone());
        }
        let seen = self.students.seen(&row.student);
        seen.is_open |= is_open;
        let Some(session) = session.filter(|_| is_open) else { return };
        if self.last_assigned != Some((date, session)) {
            self.last_assigned = Some((date, session));
            self.assigned.insert((date, session));
        }
        if is_in_scope {
            seen.days.take(row, at, session);
        }
    }

    fn may_raise_issue(&self, row: &Registration) -> bool {
        !row.unreadable.is_empty()
            || self.is_implausible(row.last_updated)
            || (!row.registered
                && match &row.code {
                    // A letter can stop being unique, but an id cannot: rows found by id need no second look.
                    Some(code) => self.codes.by_id(code).is_none(),
                    None => row.verdict.is_some(),
                })
    }

    fn is_implausible(&self, stamp: Option<FeedTime>) -> bool {
        stamp.is_some_and(|stamp| !self.plausible.contains(stamp, self.rules.zone()))
    }

    fn push_out_of_school(&mut self, record: OutOfSchool) {
        let is_in_scope = self.scope.has_student(&record.student);
        let span = Span::new(record, &self.rules);
        self.has_whole_days |= span.is_whole_day();
        self.has_later_midnights |= span.end == End::LaterMidnight;
        if span.reaches_into(self.scope.window()) {
            self.has_coded_records |= span.record.code.is_some();
            let is_open = span.dates_in(self.scope.window()).any(|date| !self.closed.contains(&date));
            self.students.seen(&span.record.student).is_open |= is_open;
        }
        if is_in_scope {
            self.out_of_school.insert(span.record);
        }
    }

    fn push_period(&mut self, period: RegistrationPeriod) {
        if !self.rules.is_by_periods() {
            return;
        }
        if period.at.is_date() {
            self.bare_date = true;
            return;
        }
        if !self.scope.window().contains(period.at.school_time(self.rules.zone()).date()) {
            return;
        }
        let id = period.id.clone();
        let known = self.periods.entry(id.clone()).or_default();
        let before = known.last().map(RegistrationPeriod::flag);
        known.insert(period);
        // Rows already passed over or assigned by the first flag cannot be taken back.
        if before.is_some_and(|before| known.last().map(RegistrationPeriod::flag) != Some(before))
            && self.consulted.contains(&id)
        {
            self.late_period = Some(id);
        }
    }

    /// Resolves the records that were pushed.
    ///
    /// # Errors
    /// See [`ResolveError`].
    pub fn finish(mut self) -> Result<Register, ResolveError> {
        if self.bare_date {
            return Err(ResolveError::BareDate);
        }
        if self.has_registrations && self.has_session_marks {
            return Err(ResolveError::BothKinds);
        }
        if let Some(id) = self.late_period {
            return Err(ResolveError::LatePeriod(id));
        }
        let by_periods = self.rules.is_by_periods();
        if by_periods && self.periods.is_empty() && !self.dates.is_empty() {
            return Err(ResolveError::NoPeriods);
        }

        let mut issues = Issues::default();
        let mut unknown_period_days = BTreeSet::new();
        for row in std::mem::take(&mut self.unplaced) {
            let at = row.at.school_time(self.rules.zone());
            match flag_of(&self.periods, &row) {
                Flag::Session(session) => self.take(&row, at, Some(session)),
                Flag::None => {}
                Flag::UnknownPeriod if self.scope.has_student(&row.student) => {
                    issues.raise(Issue::UnknownPeriod, row.id.as_ref().map(RecordId::as_str));
                    unknown_period_days.insert((row.student, at.date()));
                }
                Flag::UnknownPeriod => {}
            }
        }
        if by_periods {
            self.raise_period_issues(&mut issues);
        }
        self.raise_code_issues(&mut issues);
        for row in &self.noted {
            self.raise_row_issues(row, &mut issues);
        }

        let mut by_student: BTreeMap<StudentId, Vec<Span>> = BTreeMap::new();
        for record in std::mem::take(&mut self.out_of_school) {
            by_student.entry(record.student.clone()).or_default().push(Span::new(record, &self.rules));
        }
        let mut spans: BTreeMap<StudentId, Vec<Span>> = BTreeMap::new();
        for (student, records) in by_student {
            let versions = Versions::of(records);
            let apart = versions.superseded.iter().filter(|old| old.is_apart).map(|old| &old.span);
            for span in apart.filter(|span| span.reaches_into(self.scope.window())) {
                issues.raise(Issue::ConflictingRecord, span.id().map(RecordId::as_str));
            }
            // A record that ends before it begins covers nothing, but a diagnosis shows it.
            let mut counting = versions.counting;
            counting.retain(|span| span.reaches_into(self.scope.window()));
            for span in &counting {
                self.raise_span_issues(span, &mut issues);
            }
            // With session marks, out-of-school records decide nothing.
            if !counting.is_empty() && !self.has_session_marks {
                spans.insert(student, counting);
            }
        }
        raise_similar_ids(self.students.places.keys(), &self.scope, &mut issues);
        let zone = self.rules.zone();
        // The map is built in one go: inserting students one by one would need far more comparisons.
        let mut students: BTreeMap<StudentId, Seen> = self.students.seen.into_iter().collect();
        for (student, seen) in &mut students {
            seen.days.settle(student, zone, &mut issues);
        }
        let mut period_times: BTreeMap<(NaiveDate, Session), BTreeSet<NaiveDateTime>> = BTreeMap::new();
        for period in self.periods.values().filter_map(BTreeSet::last) {
            if let Some(session) = period.flag() {
                let at = period.at.school_time(zone);
                if !self.closed.contains(&at.date()) {
                    period_times.entry((at.date(), session)).or_default().insert(at);
                }
            }
        }
        Ok(Register {
            in_session: self.assigned.iter().chain(period_times.keys()).copied().collect(),
            rules: self.rules,
            scope: self.scope,
            codes: self.codes,
            row_kind: if self.has_session_marks { RecordKind::SessionMark } else { RecordKind::Registration },
            students: Arc::new(students),
            spans: Arc::new(spans),
            assigned: self.assigned,
            period_times,
            unknown_period_days,
            day_registers: self.day_registers,
            facts: FetchFacts {
                has_coded_records: self.has_coded_records,
                midnight_ends_are_meant: self.has_whole_days && self.has_later_midnights,
                closed_with_rows: self.closed_with_rows,
                closed: self.closed,
            },
            issues,
        })
    }

    fn raise_period_issues(&self, issues: &mut Issues) {
        let mut flagged = BTreeSet::new();
        for (id, records) in &self.periods {
            let id = Some(id.as_str());
            for _ in 1..records.len() {
                issues.raise(Issue::ConflictingRecord, id);
            }
            // Only a record that counts raises issues about its content (R1.5).
            let Some(period) = records.last() else { continue };
            if !period.unreadable.is_empty() {
                issues.raise(Issue::BadValue, id);
            }
            match period.flag() {
                Some(session) => {
                    flagged.insert((period.at.school_time(self.rules.zone()).date(), session));
                }
                None if period.session.as_deref().is_some_and(|text| !text.trim().is_empty()) => {
                    issues.raise(Issue::UnknownSessionFlag, id);
                }
                None => {}
            }
        }
        for date in &self.dates {
            for (session, issue) in [(Session::Am, Issue::NoAmPeriod), (Session::Pm, Issue::NoPmPeriod)] {
                if !flagged.contains(&(*date, session)) {
                    issues.raise(issue, Some(&date.to_string()));
                }
            }
        }
    }

    fn raise_code_issues(&self, issues: &mut Issues) {
        if self.codes.is_empty() {
            issues.raise(Issue::NoCodeTable, None);
        }
        for (id, losing) in self.codes.conflicts() {
            for _ in 0..losing {
                issues.raise(Issue::ConflictingRecord, Some(id.as_str()));
            }
        }
        for code in self.codes.records().filter(|code: &&Code| !code.unreadable.is_empty()) {
            issues.raise(Issue::BadValue, Some(code.id.as_str()));
        }
    }

    fn raise_row_issues(&self, row: &Registration, issues: &mut Issues) {
        let id = row.id.as_ref().map(RecordId::as_str);
        if !row.unreadable.is_empty() {
            issues.raise(Issue::BadValue, id);
        }
        if self.is_implausible(row.last_updated) {
            issues.raise(Issue::ImplausibleTimestamp, id);
        }
        if !row.registered {
            match (&row.code, row.verdict) {
                (Some(code), _) if !self.codes.is_empty() && self.codes.find(code).is_none() => {
                    issues.raise(Issue::UnknownCode, id);
                }
                (None, Some(verdict)) if verdict.taken && !verdict.out_of_school => {
                    issues.raise(Issue::AbsentWithoutCode, id);
                }
                _ => {}
            }
        }
    }

    fn raise_span_issues(&self, span: &Span, issues: &mut Issues) {
        let id = span.id().map(RecordId::as_str);
        let record = &span.record;
        let raised = [
            (!record.unreadable.is_empty(), Issue::BadValue),
            (span.end == End::Missing, Issue::MissingEnd),
            (matches!(span.end, End::SameMidnight | End::LaterMidnight), Issue::MidnightEnd),
            (!span.is_valid(), Issue::InvalidSpan),
            (self.is_implausible(record.last_updated), Issue::ImplausibleTimestamp),
            (
                !self.codes.is_empty() && record.code.as_ref().is_some_and(|code| self.codes.find(code).is_none()),
                Issue::UnknownCode,
            ),
        ];
        for (_, issue) in raised.into_iter().filter(|(raise, _)| *raise) {
            issues.raise(issue, id);
        }
    }
}

impl Extend<Record> for Resolver {
    fn extend<I: IntoIterator<Item = Record>>(&mut self, records: I) {
        records.into_iter().for_each(|record| self.push(record));
    }
}

/// Raises `similar_ids` once for each pair of which one is in scope (R1.7).
fn raise_similar_ids<'a>(students: impl Iterator<Item = &'a StudentId>, scope: &Scope, issues: &mut Issues) {
    let mut alike: BTreeMap<String, BTreeSet<&StudentId>> = BTreeMap::new();
    for student in students.filter(|student| student.as_str().contains(char::is_alphabetic)) {
        alike.entry(student.as_str().to_lowercase()).or_default().insert(student);
    }
    for ids in alike.values() {
        let pairs = |ids: u64| ids * ids.saturating_sub(1) / 2;
        let (all, outside) =
            (ids.len() as u64, ids.iter().filter(|student| !scope.has_student(student)).count() as u64);
        let in_scope = ids.iter().find(|student| scope.has_student(student));
        issues.raise_many(Issue::SimilarIds, pairs(all) - pairs(outside), in_scope.map(|student| student.as_str()));
    }
}

/// All students with a record that lies in or reaches into the window, in scope or not, in order of arrival.
#[derive(Clone, Debug, Default)]
struct Students {
    seen: Vec<(StudentId, Seen)>,
    places: HashMap<StudentId, usize>,
    /// The likeliest place of the next row's student: registers list students in the same order.
    expected: usize,
}

impl Students {
    #[expect(clippy::indexing_slicing, reason = "every place is one of the list")]
    fn seen(&mut self, student: &StudentId) -> &mut Seen {
        let is_expected = self.seen.get(self.expected).is_some_and(|(known, _)| known == student);
        let place = if is_expected { self.expected } else { self.place(student) };
        self.expected = place + 1;
        &mut self.seen[place].1
    }

    fn place(&mut self, student: &StudentId) -> usize {
        *self.places.entry(student.clone()).or_insert_with(|| {
            self.seen.push((student.clone(), Seen::default()));
            self.seen.len() - 1
        })
    }
}

/// What the period list says about a row.
enum Flag {
    Session(Session),
    None,
    UnknownPeriod,
}

fn flag_of(periods: &BTreeMap<PeriodId, BTreeSet<RegistrationPeriod>>, row: &Registration) -> Flag {
    match row.period.as_ref().and_then(|id| periods.get(id)).and_then(BTreeSet::last) {
        Some(period) => period.flag().map_or(Flag::None, Flag::Session),
        None => Flag::UnknownPeriod,
    }
}

/// The plausible stamps: from 1990 on, and before the midnight that ends today (R1.3).
#[derive(Clone, Debug)]
struct PlausibleStamps {
    from: DateTime<Utc>,
    to: Option<DateTime<Utc>>,
    /// Dates so far inside the range that no zone's offset matters. Nearly every stamp is on one, so the zone is not needed.
    surely: Range<NaiveDate>,
}

impl PlausibleStamps {
    fn new(window: Window, zone: &Zone) -> Self {
        const FAR: Days = Days::new(3);
        let from = NaiveDate::from_ymd_opt(FIRST_REAL_YEAR, 1, 1).unwrap_or(NaiveDate::MIN);
        let to = window.today().and_then(|today| today.checked_add_days(Days::new(1)));
        let surely = from + FAR..to.map_or(NaiveDate::MAX, |to| to.checked_sub_days(FAR).unwrap_or(to));
        let midnight = |date: NaiveDate| FeedTime::Date(date).instant(zone);
        Self { from: midnight(from), to: to.map(midnight), surely }
    }

    fn contains(&self, stamp: FeedTime, zone: &Zone) -> bool {
        if self.surely.contains(&stamp.as_written().date()) {
            return true;
        }
        let stamp = stamp.instant(zone);
        stamp >= self.from && self.to.is_none_or(|to| stamp < to)
    }
}
