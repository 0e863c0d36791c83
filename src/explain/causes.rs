//! Which findings a session has, the one that explains most first, and what helps: decisions as data, without sentences.

use chrono::TimeDelta;

use super::Expected;
use super::day::{Contender, DayRecord, SessionDay};
use super::finding::{Cure, Evidence, Found, Reason, Step};
use crate::model::{LoserReason, Mark, RecordKind, Status};

/// Whether a record lost to another candidate of the session (R6).
fn is_beaten(contender: &Contender) -> bool {
    matches!(contender.why, Some(LoserReason::Older | LoserReason::Tie | LoserReason::NoTimestamp))
}

impl SessionDay<'_> {
    fn expected(&self) -> Option<&Expected> {
        self.facts.question.expected.as_ref()
    }

    /// What was found, the one that explains most first; never empty.
    pub(super) fn causes(&self) -> Vec<Found> {
        let plain = self.plain();
        let mut causes: Vec<Found> = match (self.expected(), self.store_behind()) {
            // On a date without school, no record explains anything.
            (_, behind) if self.is_closed() => behind.into_iter().collect(),
            (Some(expected), behind) => {
                let is_met = self.mark.is_some_and(|mark| expected.is_met_by(mark));
                let explained = match is_met {
                    true => behind.into_iter().collect(),
                    false => self.against(expected, plain),
                };
                self.outside_window().into_iter().chain(explained).collect()
            }
            (None, Some(behind)) => [behind].into_iter().chain(self.outside_window()).chain(plain).collect(),
            (None, None) => plain.into_iter().collect(),
        };
        if causes.is_empty() {
            let (no_mark, cures) = match self.mark {
                Some(_) => (None, Vec::new()),
                None => {
                    let (reason, step) = self.nothing_here();
                    (Some(reason), vec![step.into()])
                }
            };
            causes.push((Evidence::Consistent { no_mark }, cures));
        }
        if self.facts.freshness.is_advised_against() {
            let cache_expiry = self.facts.freshness.cache_expiry();
            causes.push((Evidence::CacheExpiryTooLong { cache_expiry }, Vec::new()));
        }
        causes
    }

    /// What explains that the mark is not the expected one.
    fn against(&self, expected: &Expected, plain: Option<Found>) -> Vec<Found> {
        let losing: Vec<&Contender> =
            self.contenders.iter().filter(|one| one.is_expected && one.why.is_some()).collect();
        let first = |is: &dyn Fn(&Contender) -> bool| losing.iter().find(|one| is(one)).map(|one| &one.record);
        let has_stamp = |one: &Contender| one.record.record.last_updated.is_some();
        let is_span = |one: &Contender| one.record.is_of_kind(RecordKind::OutOfSchool);
        let why = |why: LoserReason| move |one: &Contender| one.why == Some(why);
        let beaten = first(&|one| is_beaten(one) && !is_span(one) && has_stamp(one));

        let without_stamp = first(&|one| is_beaten(one) && !has_stamp(one));
        let older = first(&|one| is_beaten(one) && is_span(one) && has_stamp(one));
        let duplicate = first(&why(LoserReason::Duplicate));
        let not_covering = first(&why(LoserReason::NotCovering));
        let apart = losing.is_empty().then(|| self.apart(expected)).flatten();
        let is_read = !losing.is_empty() || apart.is_some();
        // It would make the reader look for a record that was read.
        let plain = plain.filter(|(plain, _)| apart.is_none() || !matches!(plain, Evidence::NoRecord { .. }));
        let explained = [
            without_stamp.map(|loser| self.missing_timestamp(expected, loser)),
            older.map(|loser| {
                let (record, winner) = self.beside_winner(loser);
                let cures = vec![self.save_again(loser)];
                (Evidence::OutOfSchoolOlderThanRegistration { record, winner }, cures)
            }),
            beaten.map(|loser| {
                let (record, winner) = self.beside_winner(loser);
                let cures = [Some(self.save_again(loser)), self.end_rivals(loser).map(Cure::from)];
                let cures = cures.into_iter().flatten().collect();
                (Evidence::RegistrationOlderThanOutOfSchool { record, winner }, cures)
            }),
            duplicate.map(|loser| self.duplicate(loser)),
            not_covering.map(|loser| self.not_covering(loser)),
            apart,
            self.other_registration(expected, beaten),
            plain,
        ];
        let mut causes: Vec<Found> = explained.into_iter().flatten().collect();
        if causes.is_empty() || !is_read {
            causes.extend(self.stale_or_missing(expected, causes.is_empty()));
        }
        causes
    }

    fn outside_window(&self) -> Option<Found> {
        let (date, window) = (self.facts.question.date, self.facts.window);
        let is_ahead = window.today().is_some_and(|today| date > today);
        let (window_from, window_to) = (window.from(), window.to());
        (!window.contains(date))
            .then(|| (Evidence::OutsideWindow { date, window_from, window_to, is_ahead }, Vec::new()))
    }

    fn store_behind(&self) -> Option<Found> {
        let shown = self.shown()?;
        (!Mark::look_alike(shown.mark.as_ref(), self.mark)).then(|| {
            let (run, fetched_at) = shown.since.unzip();
            let (date, store_mark) = (self.facts.question.date, shown.mark.clone());
            (Evidence::StoreBehindSource { date, store_mark, run, fetched_at }, Vec::new())
        })
    }

    /// What is wrong whether or not anything is expected.
    fn plain(&self) -> Option<Found> {
        let question = &self.facts.question;
        // Nothing can be entered with a letter that does not exist.
        let why_no_letter = self.letter_trouble().map(|(reason, _)| reason);
        match (self.mark, self.winner()) {
            (Some(Mark { status: Status::UnknownCode, raw_code: Some(raw), .. }), Some(winner)) => {
                let table = Step::GrantCodeTable.into();
                let cures = match &question.expected {
                    None => vec![Step::GiveKnownCode(winner.clone()).into(), table],
                    Some(Expected::Code(letter)) if **letter == *raw.as_str() => vec![table],
                    Some(expected @ Expected::Code(_)) => vec![self.correction(expected), table],
                    Some(expected) => vec![self.correction(expected)],
                };
                Some((Evidence::UnknownCode { record: winner.clone(), raw_code: raw.clone(), why_no_letter }, cures))
            }
            (Some(Mark { status: Status::NotTaken, .. }), Some(winner)) => {
                let cure = self.cure(winner.record.kind, Some(winner), Step::TakeRegister(winner.clone()));
                Some((Evidence::NotTaken { record: winner.clone(), why_no_letter }, vec![cure]))
            }
            _ if !self.has_records => {
                let flag = self.lacks_flagged_period().then_some(Step::FlagPeriod);
                let cure = Cure { first: Vec::new(), steps: flag.into_iter().chain([Step::Enter]).collect() };
                let (student, date) = (question.student.clone(), question.date);
                let others_have_rows = self.facts.read.others_have_rows;
                Some((Evidence::NoRecord { student, date, others_have_rows, why_no_letter }, vec![cure]))
            }
            _ => None,
        }
    }

    /// Another register of the day says what is expected, and would count by another rule.
    fn other_registration(&self, expected: &Expected, beaten: Option<&DayRecord>) -> Option<Found> {
        let (registration, pm_rule) = self.counts_by_other_rule(expected)?;
        let flag = registration.flag;
        let is_doubtful = flag != Some(self.session)
            && (flag.is_some()
                || self.facts.first_period(self.session).is_some()
                || registration.half_day() != self.session);
        let otherwise = is_doubtful.then(|| match (beaten, self.mark) {
            (Some(beaten), _) => self.save_again(beaten),
            (None, Some(_)) => self.correction(expected),
            (None, None) => self.nothing_here().1.into(),
        });
        let cures = [Step::SetPmRule(pm_rule).into()].into_iter().chain(otherwise).collect();
        let picked = self.mark.and_then(|mark| mark.decision.registration.clone());
        Some((Evidence::PmRulePicksOtherRegistration { registration, picked, pm_rule, flag }, cures))
    }

    /// Nothing that was read explains the mark: a change may not have reached the reply yet.
    fn stale_or_missing(&self, expected: &Expected, is_first: bool) -> Option<Found> {
        let (reason, cure) = match (self.letter_trouble(), self.mark) {
            (Some((reason, step)), _) => (reason, step.into()),
            (None, Some(_)) => {
                let replaced = self.replaced(expected).map(Reason::Replaced);
                (replaced.unwrap_or(Reason::NothingSaysSo), self.correction(expected))
            }
            (None, None) => {
                let (reason, step) = self.nothing_here();
                (reason, step.into())
            }
        };
        let shown = self.shown().and_then(|shown| shown.mark.as_ref());
        let store_agrees = shown.is_some_and(|mark| expected.is_met_by(mark));
        let fields = &self.facts.undecided_fields;
        let is_code_missed = !fields.is_empty() && !self.facts.read.spans_have_codes && *expected != Expected::Present;
        let unnamed = is_code_missed.then(|| Step::NameCodeField(fields.clone()).into());
        let cures = [cure].into_iter().chain(unnamed).collect();

        let fetched_at = self.facts.freshness.fetched_at;
        let as_of_earliest = self.facts.freshness.as_of_earliest();
        let age = fetched_at - as_of_earliest;
        let (student, date) = (self.facts.question.student.clone(), self.facts.question.date);
        if age > TimeDelta::zero() {
            let is_cached = self.facts.freshness.as_of().is_none();
            let sure_from = is_cached.then(|| fetched_at.checked_add_signed(age).unwrap_or(fetched_at));
            Some((Evidence::CacheMayBeStale { as_of_earliest, fetched_at, sure_from, reason, store_agrees }, cures))
        } else {
            is_first.then(|| (Evidence::NothingExpected { student, date, fetched_at, reason, store_agrees }, cures))
        }
    }

    /// For a letter that no code of the table has: what is wrong, and what to do.
    fn letter_trouble(&self) -> Option<(Reason, Step)> {
        let Expected::Code(letter) = self.expected()? else { return None };
        let letters = &self.facts.read.letters;
        if letters.is_empty() {
            return Some((Reason::NoCodes, Step::GrantCodes));
        }
        (!letters.contains(letter)).then(|| {
            let alike = letters.iter().find(|known| known.eq_ignore_ascii_case(letter)).cloned();
            (Reason::UnknownLetter { letter: letter.clone(), alike }, Step::AddLetter(letter.clone()))
        })
    }

    fn missing_timestamp(&self, expected: &Expected, loser: &DayRecord) -> Found {
        let kind = loser.record.kind;
        let cures = if self.facts.has_stamps(kind) {
            vec![self.cure(kind, Some(loser), Step::AddStamp(loser.clone()))]
        } else {
            let other = match self.winner() {
                Some(winner) if winner.is_of_kind(RecordKind::Registration) => Some(self.correction(expected)),
                _ => self.end_rivals(loser).map(Cure::from),
            };
            [self.name_stamp_field(kind).into()].into_iter().chain(other).collect()
        };
        let (record, winner) = self.beside_winner(loser);
        (Evidence::MissingTimestamp { record, winner }, cures)
    }

    fn duplicate(&self, loser: &DayRecord) -> Found {
        let stands = |one: &&Contender| {
            one.why != Some(LoserReason::Duplicate) && one.record.to.is_none() && one.record.from == loser.from
        };
        let standing = self.contenders.iter().find(stands).map(|one| &one.record);
        let cure = self.single_out(loser, standing);
        let (record, counting) = (loser.clone(), standing.cloned());
        (Evidence::DuplicateRegistrations { record, counting }, vec![cure])
    }

    /// How to make a row count before the other rows of its register.
    fn single_out(&self, loser: &DayRecord, standing: Option<&DayRecord>) -> Cure {
        let others = Step::RemoveOthers(loser.clone());
        let beats_standing = self.winner().is_some_and(|winner| winner.to.is_some());
        let end = standing.filter(|_| beats_standing).map(|standing| self.end_rivals(standing));
        match end {
            Some(Some(end)) if !self.facts.has_stamps(RecordKind::Registration) => {
                Cure { first: Vec::new(), steps: vec![others, end] }
            }
            None if !self.facts.has_stamps(RecordKind::Registration) => others.into(),
            _ => {
                let mut cure = self.save_again(loser);
                cure.steps.push(others);
                cure
            }
        }
    }

    fn not_covering(&self, loser: &DayRecord) -> Found {
        let cure = self.cure(RecordKind::OutOfSchool, Some(loser), Step::CoverSession(loser.clone()));
        let (record, register_at) = (loser.clone(), self.register_at());
        (Evidence::OutOfSchoolDoesNotCoverSession { record, register_at, counting: None }, vec![cure])
    }

    fn beside_winner(&self, loser: &DayRecord) -> (DayRecord, Option<DayRecord>) {
        (loser.clone(), self.winner().cloned())
    }

    /// Whether, under the period rule, the date has no period with the session's flag.
    fn lacks_flagged_period(&self) -> bool {
        let has_periods = self.facts.is_by_periods() && !self.register.has_session_marks();
        has_periods && self.facts.first_period(self.session).is_none()
    }

    /// Why the session has no mark, and what to do if it should have one.
    fn nothing_here(&self) -> (Reason, Step) {
        if self.is_closed() {
            return (Reason::Closed, Step::Reopen);
        }
        let is_unlisted = |row: &&DayRecord| row.half_day() == self.session && self.facts.is_unlisted(row);
        let records = self.contenders.iter().map(|one| &one.record).filter(|_| self.facts.is_by_periods());
        let unlisted = records.filter(is_unlisted).find_map(|row| Some((row, row.period.clone()?)));
        if let Some((row, period)) = unlisted {
            return (Reason::UnreadPeriod { record: row.clone(), period: period.clone() }, Step::GrantPeriod(period));
        }
        match (self.has_school, self.register.has_session_marks()) {
            _ if self.lacks_flagged_period() => (Reason::NoFlaggedPeriod, Step::FlagPeriod),
            (true, _) => (Reason::NothingMakesAMark, Step::Enter),
            (false, true) => (Reason::NoSessionMarks, Step::Enter),
            (false, false) => (Reason::NoRegister, Step::TakeSessionRegister),
        }
    }
}
