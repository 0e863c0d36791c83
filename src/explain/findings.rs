//! Which findings a session has, the one that explains most first.

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};

use super::cures::is_of_half_day;
use super::diagnosis::{Contender, DayRecord, Facts};
use super::words::{capitalised, clock, kind, named, or_none, session, setting, then_sync};
use super::{Expected, Finding, FindingName};
use crate::model::{LoserReason, Mark, RecordKind, Session, Status, clock_text, stamp_text};
use crate::rules::{Freshness, PmRule, Register};

pub(super) fn finding(name: FindingName, summary: String, advice: String, evidence: Value) -> Finding {
    let evidence = match evidence {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    Finding { name, summary, advice, evidence }
}

pub(super) fn record_json(day: &DayRecord) -> Value {
    let mut json = json!({
        "kind": day.record.kind,
        "id": day.record.id,
        "last_updated": day.record.last_updated.map(stamp_text),
        "status": day.status,
        "code": day.code,
    });
    let times = match day.to {
        Some(to) => vec![("from", json!(day.from)), ("to", json!(to))],
        None if day.record.kind == RecordKind::SessionMark => {
            vec![("date", json!(day.from.date())), ("session", json!(session(day)))]
        }
        None => vec![("at", json!(day.from)), ("period", json!(day.period))],
    };
    if let Value::Object(map) = &mut json {
        map.extend(times.into_iter().map(|(name, value)| (name.to_owned(), value)));
    }
    json
}

/// "the register of 08:40", "the AM register"
fn register_of(row: &DayRecord) -> String {
    match row.record.kind {
        RecordKind::SessionMark => format!("the {} register", session(row)),
        _ => format!("the register of {}", clock(row.from.time())),
    }
}

/// Whether a record lost to another candidate of the session (R6).
fn is_beaten(contender: &Contender) -> bool {
    matches!(contender.why, Some(LoserReason::Older | LoserReason::Tie | LoserReason::NoTimestamp))
}

/// One session of the student's day.
pub(super) struct Situation<'a> {
    pub(super) facts: &'a Facts,
    pub(super) register: &'a Register,
    pub(super) session: Session,
    pub(super) mark: Option<&'a Mark>,
    pub(super) contenders: &'a [Contender],
    /// The school was in session (R7).
    pub(super) has_school: bool,
    /// The student has a record on that date.
    pub(super) has_records: bool,
}

impl Situation<'_> {
    /// What was found, the one that explains most first; never empty.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let plain = self.plain();
        let mut findings: Vec<Finding> = match (&self.facts.question.expected, self.store_behind()) {
            // No record of a date without school explains anything.
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
        if findings.is_empty() {
            let (summary, advice) = match self.mark {
                Some(mark) => {
                    let why = mark.decision.in_school_time(self.facts.rules.zone());
                    (format!("The mark is {mark}: {why}."), "Nothing needs to be done.".to_owned())
                }
                None => {
                    let (why, cure) = self.nothing_here(None);
                    let advice = format!("If there should be a mark, {cure}; otherwise nothing needs to be done.");
                    (format!("There is no mark. {why}."), advice)
                }
            };
            findings.push(finding(FindingName::Consistent, summary, advice, json!({})));
        }
        let freshness = self.facts.freshness;
        if freshness.advised_against() {
            let evidence = json!({ "cache_expiry_seconds": freshness.cache_expiry().num_seconds() });
            let advice = Freshness::REMEDY.to_owned();
            findings.push(finding(FindingName::CacheExpiryTooLong, freshness.risk(), advice, evidence));
        }
        findings
    }

    /// What explains that the mark is not the expected one.
    fn against(&self, expected: &Expected, plain: Option<Finding>) -> Vec<Finding> {
        let losing: Vec<&Contender> =
            self.contenders.iter().filter(|one| one.is_expected && one.why.is_some()).collect();
        let first = |is: &dyn Fn(&Contender) -> bool| losing.iter().find(|one| is(one)).map(|one| &one.record);
        let has_stamp = |one: &Contender| one.record.record.last_updated.is_some();
        let is_span = |one: &Contender| one.record.record.kind == RecordKind::OutOfSchool;
        let why = |why: LoserReason| move |one: &Contender| one.why == Some(why);
        let beaten = first(&|one| is_beaten(one) && !is_span(one) && has_stamp(one));

        let without_stamp = first(&|one| is_beaten(one) && !has_stamp(one));
        let older = first(&|one| is_beaten(one) && is_span(one) && has_stamp(one));
        let duplicate = first(&why(LoserReason::Duplicate));
        let not_covering = first(&why(LoserReason::NotCovering));
        let apart = losing.is_empty().then(|| self.apart(expected)).flatten();
        let is_read = !losing.is_empty() || apart.is_some();
        // It would send the reader after a record that was read.
        let plain = plain.filter(|plain| apart.is_none() || plain.name != FindingName::NoRecord);
        let explained = [
            without_stamp.map(|loser| self.missing_timestamp(expected, loser)),
            older.map(|loser| self.older(expected, loser)),
            beaten.map(|loser| self.registration_older(expected, loser)),
            duplicate.map(|loser| self.duplicate(expected, loser)),
            not_covering.map(|loser| self.not_covering(expected, loser)),
            apart,
            self.other_registration(expected, beaten),
            plain,
        ];
        let mut findings: Vec<Finding> = explained.into_iter().flatten().collect();
        if findings.is_empty() || !is_read {
            findings.extend(self.stale_or_missing(expected, findings.is_empty()));
        }
        findings
    }

    fn outside_window(&self) -> Option<Finding> {
        let (date, window) = (self.facts.question.date, self.facts.question.window);
        (!window.contains(date)).then(|| {
            let covered = format!("the dates that ordinary syncs cover ({} to {})", window.from(), window.to());
            let is_ahead = window.today().is_some_and(|today| date > today);
            finding(
                FindingName::OutsideWindow,
                match is_ahead {
                    true => format!("{date} is later than {covered}; syncs from that day on will cover it."),
                    false => format!(
                        "{date} is not one of {covered}, so a correction of that day does not reach the portal by itself."
                    ),
                },
                match is_ahead {
                    true => format!("Wait for that day, or run a sync for that date only, from {date} to {date}."),
                    false => format!("Run a sync for that date only, from {date} to {date}."),
                },
                json!({ "date": date, "window_from": window.from(), "window_to": window.to() }),
            )
        })
    }

    fn store_behind(&self) -> Option<Finding> {
        let shown = self.facts.shown.iter().find(|shown| shown.session == self.session)?;
        if Mark::look_alike(shown.mark.as_ref(), self.mark) {
            return None;
        }
        let since = match shown.since {
            Some((run, at)) => format!(" since run {run} of {}", self.school_time(at)),
            None => ", and no run has ever written one".to_owned(),
        };
        let date = self.facts.question.date;
        Some(finding(
            FindingName::StoreBehindSource,
            format!(
                "The portal's store shows {}{since}; the source now says {}.",
                or_none(shown.mark.as_ref()),
                or_none(self.mark)
            ),
            format!(
                "Run a sync that covers {date}. If the store still differs after it, look at what that run withheld."
            ),
            json!({
                "date": date,
                "store_mark": shown.mark.as_ref().map(Mark::line),
                "run": shown.since.map(|(run, _)| run),
                "fetched_at": shown.since.map(|(_, at)| stamp_text(at)),
            }),
        ))
    }

    /// What is wrong whether or not anything is expected.
    fn plain(&self) -> Option<Finding> {
        let date = self.facts.question.date;
        let expected = self.facts.question.expected.as_ref();
        // Nothing can be entered with a letter that there is not.
        let trouble = expected.and_then(|expected| self.letter_trouble(expected));
        let trouble = trouble.map(|(trouble, _)| format!(" {trouble}.")).unwrap_or_default();
        match (self.mark.map(|mark| mark.status), self.winner()) {
            (Some(Status::UnknownCode), Some(winner)) => {
                let raw =
                    self.mark.and_then(|mark| mark.raw_code.as_ref()).map(ToString::to_string).unwrap_or_default();
                let table = "give the API key access to the whole table of registration codes";
                let advice = match expected {
                    None => format!("give {} a code that is in the table, or {table}", named(winner)),
                    Some(Expected::Code(letter)) if **letter == *raw => table.to_owned(),
                    Some(expected @ Expected::Code(_)) => {
                        format!("{}, or, if {raw} is that code, {table}", self.correction(expected))
                    }
                    Some(expected) => self.correction(expected),
                };
                Some(finding(
                    FindingName::UnknownCode,
                    format!(
                        "{} has the code {raw}, which is not in the code table.{trouble}",
                        capitalised(&named(winner))
                    ),
                    then_sync(&advice),
                    json!({ "record": record_json(winner), "raw_code": raw }),
                ))
            }
            (Some(Status::NotTaken), Some(winner)) => {
                let with = expected.map(|expected| format!(", with {expected} for this student")).unwrap_or_default();
                Some(finding(
                    FindingName::NotTaken,
                    format!("{} has not been taken for this student.{trouble}", capitalised(&named(winner))),
                    then_sync(&format!(
                        "{}take {} on {date}{with}",
                        self.first(winner.record.kind, Some(winner)),
                        register_of(winner)
                    )),
                    json!({ "record": record_json(winner) }),
                ))
            }
            _ if !self.has_records => Some(finding(
                FindingName::NoRecord,
                format!(
                    "The source has no {} of this student on {date}{}.{trouble}",
                    match self.register.has_session_marks() {
                        true => "session mark",
                        false => "registration and no out-of-school record",
                    },
                    match (self.has_school, self.facts.others_have_rows) {
                        (_, true) if self.register.has_session_marks() => ", but session marks of other students",
                        (_, true) => ", but registrations of other students",
                        (true, false) => "",
                        (false, false) => ", and no register of this session of any student",
                    }
                ),
                then_sync(&format!(
                    "check the student's id, and whether the API key has a student filter that leaves this student out; \
                     if neither is the cause and there was school, {}{}",
                    self.flagging().map(|(_, cure)| format!("{cure}, and ")).unwrap_or_default(),
                    self.entry(expected)
                )),
                json!({ "student": self.facts.question.student, "date": date }),
            )),
            _ => None,
        }
    }

    /// Another register of the day says what is expected, and would count by another rule.
    fn other_registration(&self, expected: &Expected, beaten: Option<&DayRecord>) -> Option<Finding> {
        let (facts, session) = (self.facts, self.session);
        let (other, pm_rule) = self.counts_by_other_rule(expected)?;
        let other = &other;
        let picked = self.mark.and_then(|mark| mark.decision.registration.as_ref());
        let (setting, pm_start) = match pm_rule {
            PmRule::FirstFrom(start) => {
                (format!("distinguish AM and PM by time, with the PM start at {}", clock(start)), Some(clock(start)))
            }
            PmRule::RegistrationPeriods => {
                ("distinguish AM and PM by the session flags of the registration periods".to_owned(), None)
            }
        };
        let everybody = "This changes the marks of every student; an audit of the PM starts shows which.";
        let is_doubtful = other.flag != Some(session)
            && (other.flag.is_some() || facts.first_period(session).is_some() || !is_of_half_day(other, session));
        let advice = match is_doubtful {
            false => format!("{} {everybody}", then_sync(&setting)),
            true => {
                let cure = match (beaten, self.mark) {
                    (Some(beaten), _) => self.save_again(beaten),
                    (None, Some(_)) => self.correction(expected),
                    (None, None) => self.nothing_here(Some(expected)).1,
                };
                format!(
                    "If that register is the school's {session} registration, {setting}, and sync. {everybody} \
                     If it is not, {cure}; then sync."
                )
            }
        };
        let by = match facts.rules.pm() {
            PmRule::FirstFrom(start) => format!("with the PM start at {}", clock(start)),
            PmRule::RegistrationPeriods => "by the flags of the registration periods".to_owned(),
        };
        let counting = match picked {
            Some(picked) => format!("the register of {} is the {session} register", clock(picked.at.time())),
            None => format!("the student is in no {session} register"),
        };
        Some(finding(
            FindingName::PmRulePicksOtherRegistration,
            format!("{} says {expected}, but {by} {counting}.", capitalised(&named(other))),
            advice,
            json!({
                "registration": record_json(other),
                "picked": picked,
                "pm_rule": if pm_start.is_some() { "time" } else { "periods" },
                "pm_start": pm_start,
                "flag": other.flag,
            }),
        ))
    }

    /// Nothing that was read explains the mark: a change may not have reached the reply yet.
    fn stale_or_missing(&self, expected: &Expected, is_first: bool) -> Option<Finding> {
        let (date, session) = (self.facts.question.date, self.session);
        let (mut read, cure) = match (self.letter_trouble(expected), self.mark) {
            (Some(trouble), _) => trouble,
            (None, Some(_)) => {
                let read = format!("Nothing that was read for this {session} session says {expected}");
                let replaced = self.replaced(expected).map(|why| capitalised(&why));
                (replaced.unwrap_or(read), self.correction(expected))
            }
            (None, None) => self.nothing_here(Some(expected)),
        };
        let shown = self.facts.shown.iter().find(|shown| shown.session == session);
        if shown.and_then(|shown| shown.mark.as_ref()).is_some_and(|mark| expected.is_met_by(mark)) {
            read += &format!("; the portal's store shows {expected} already");
        }
        let unnamed = self.code_fields(expected).map(|cure| format!(" {cure}")).unwrap_or_default();
        let fetched_at = self.facts.freshness.fetched_at;
        let expiry = self.facts.freshness.cache_expiry();
        if expiry > TimeDelta::zero() {
            let sure_from = fetched_at.checked_add_signed(expiry).unwrap_or(fetched_at);
            let moments = [self.facts.freshness.as_of_earliest(), fetched_at, sure_from];
            let [earliest, fetched, sure] = moments.map(|moment| self.school_time(moment));
            let evidence = moments.map(stamp_text);
            Some(finding(
                FindingName::CacheMayBeStale,
                format!("{read}. The replies can be as old as {earliest}, so a later change may not be in them."),
                format!(
                    "If it was corrected by {fetched}, a sync at {sure} or later is certain to read it; saving the API \
                     key's settings refreshes its cache at once. If it was not, {cure}; then sync.{unnamed}"
                ),
                json!({ "as_of_earliest": evidence[0], "fetched_at": evidence[1], "sure_from": evidence[2] }),
            ))
        } else {
            is_first.then(|| {
                finding(
                    FindingName::NoRecord,
                    format!("{read}. The replies are not cached, so they show what the management system holds."),
                    then_sync(&cure) + &unnamed,
                    json!({
                        "student": self.facts.question.student,
                        "date": date,
                        "fetched_at": stamp_text(fetched_at),
                    }),
                )
            })
        }
    }

    /// A letter that no code of the table has: what is the matter, and what to do.
    fn letter_trouble(&self, expected: &Expected) -> Option<(String, String)> {
        let Expected::Code(letter) = expected else { return None };
        let letters = &self.facts.letters;
        if letters.is_empty() {
            let read = "No registration codes were read, so no mark has a letter".to_owned();
            return Some((read, "give the API key access to the registration codes".to_owned()));
        }
        if letters.contains(letter) {
            return None;
        }
        let alike = letters.iter().find(|known| known.eq_ignore_ascii_case(letter));
        let alike = alike.map(|known| format!(" (it has {known})")).unwrap_or_default();
        let read = format!("The code table has no code {letter}{alike}, so no mark can have it");
        Some((read, format!("ask again with a letter that the table has, or add {letter} to the registration codes")))
    }

    fn missing_timestamp(&self, expected: &Expected, loser: &DayRecord) -> Finding {
        let against = match self.winner() {
            Some(winner) if winner.record.last_updated.is_none() => {
                format!("; {} has none either, and counts in a tie", named(winner))
            }
            Some(winner) => format!(", so it counts as older than {}, which {}", named(winner), self.updated(winner)),
            None => String::new(),
        };
        finding(
            FindingName::MissingTimestamp,
            format!("{} says {expected}, but has no time of update{against}.", capitalised(&named(loser))),
            self.stamp(expected, loser),
            self.against_winner(loser),
        )
    }

    /// How a record without a time of update comes to count.
    fn stamp(&self, expected: &Expected, loser: &DayRecord) -> String {
        let of_kind = loser.record.kind;
        if self.facts.has_stamps(of_kind) {
            let (first, name) = (self.first(of_kind, Some(loser)), self.short(loser));
            return then_sync(&format!("{first}edit {name} and save it again, so that it gets a time of update"));
        }
        let other_cure = match self.winner() {
            Some(winner) if winner.record.kind == RecordKind::Registration => Some(self.correction(expected)),
            _ => self.end_rivals(loser),
        };
        let other_cure = other_cure.map(|cure| format!(" If it does not, {cure}; then sync.")).unwrap_or_default();
        let (kind, setting) = (kind(of_kind), setting(of_kind));
        let candidates = self.stamp_fields(of_kind);
        format!(
            "No {kind} was read with a time of update, so saving this one again does not help. If the management system \
             keeps that time, name the field that holds it ({setting}{candidates}); then sync.{other_cure}"
        )
    }

    fn older(&self, expected: &Expected, loser: &DayRecord) -> Finding {
        finding(
            FindingName::OutOfSchoolOlderThanRegistration,
            self.beaten(expected, loser),
            then_sync(&self.save_again(loser)),
            self.against_winner(loser),
        )
    }

    fn registration_older(&self, expected: &Expected, loser: &DayRecord) -> Finding {
        let end = self.end_rivals(loser).map(|cure| format!("; or {cure}")).unwrap_or_default();
        finding(
            FindingName::RegistrationOlderThanOutOfSchool,
            self.beaten(expected, loser),
            then_sync(&format!("{}{end}", self.save_again(loser))),
            self.against_winner(loser),
        )
    }

    /// A record with a time of update and the one that counts before it.
    fn beaten(&self, expected: &Expected, loser: &DayRecord) -> String {
        let against = match self.winner() {
            Some(winner) if winner.record.last_updated == loser.record.last_updated => {
                format!(", at the same time as {}, which counts in a tie.", named(winner))
            }
            Some(winner) => {
                format!("; {} {}. The most recently updated record counts.", named(winner), self.updated(winner))
            }
            None => ".".to_owned(),
        };
        format!("{} says {expected} and {}{against}", capitalised(&named(loser)), self.updated(loser))
    }

    fn duplicate(&self, expected: &Expected, loser: &DayRecord) -> Finding {
        let stands = |one: &&Contender| {
            one.why != Some(LoserReason::Duplicate) && one.record.to.is_none() && one.record.from == loser.from
        };
        let standing = self.contenders.iter().find(stands).map(|one| &one.record);
        let (holder, rows) = match self.register.has_session_marks() {
            true => ("session", "marks"),
            false => ("register", "rows"),
        };
        let against = standing
            .map(|one| format!("; {} {} and counts for the {holder}", named(one), self.updated(one)))
            .unwrap_or_default();
        finding(
            FindingName::DuplicateRegistrations,
            format!(
                "The {holder} holds several {rows} for this student: {} says {expected} and {}{against}.",
                named(loser),
                self.updated(loser)
            ),
            then_sync(&self.single_out(loser, standing)),
            json!({ "record": record_json(loser), "counting": standing.map(record_json) }),
        )
    }

    /// How a row comes to count before the other rows of its register.
    fn single_out(&self, loser: &DayRecord, standing: Option<&DayRecord>) -> String {
        let others = match loser.record.kind {
            RecordKind::SessionMark => format!("remove the student's other marks of the {} session", self.session),
            _ => format!("take the student's other rows out of {}", register_of(loser)),
        };
        let beats_standing = self.winner().is_some_and(|winner| winner.to.is_some());
        match standing.filter(|_| beats_standing).map(|standing| self.end_rivals(standing)) {
            _ if self.facts.has_stamps(RecordKind::Registration) => {
                format!("{}, and {others}", self.save_again(loser))
            }
            Some(None) => format!("{}, and {others}", self.save_again(loser)),
            Some(Some(end)) => format!("{others}, and {end}"),
            None => others,
        }
    }

    /// The time of the session's register, where it has one, and what an out-of-school record must do to cover the session.
    pub(super) fn to_cover(&self) -> (Option<NaiveDateTime>, String) {
        let session = self.session;
        let picked = self.mark.and_then(|mark| mark.decision.registration.as_ref()).map(|picked| picked.at);
        match (self.facts.rules.pm(), picked) {
            (PmRule::FirstFrom(start), None) => {
                let part = match session {
                    Session::Am => format!("before {}", clock(start)),
                    Session::Pm => format!("from {} on", clock(start)),
                };
                (None, format!("it covers some time of that day {part}"))
            }
            (_, picked) => {
                let register = picked.or_else(|| self.facts.first_period(session));
                let at = register.map_or("the register".to_owned(), |at| clock(at.time()));
                (register, format!("it begins at {at} or before and ends after {at}"))
            }
        }
    }

    fn not_covering(&self, expected: &Expected, loser: &DayRecord) -> Finding {
        let session = self.session;
        let (register, what) = self.to_cover();
        let why = match register {
            _ if loser.to.is_some_and(|to| to <= loser.from) => {
                "does not end after it begins, so it covers nothing".to_owned()
            }
            Some(at) => format!("does not cover the {session} register at {}", clock(at.time())),
            None => format!("does not reach into the {session} session"),
        };
        finding(
            FindingName::OutOfSchoolDoesNotCoverSession,
            format!("{} says {expected}, but {why}.", capitalised(&named(loser))),
            then_sync(&format!(
                "{}change the times of {} so that {what}, and save it",
                self.first(RecordKind::OutOfSchool, Some(loser)),
                self.short(loser)
            )),
            json!({ "record": record_json(loser), "register_at": register }),
        )
    }

    pub(super) fn winner(&self) -> Option<&DayRecord> {
        self.contenders.iter().find(|one| one.why.is_none()).map(|one| &one.record)
    }

    /// The student's row of the session's register (R3).
    pub(super) fn row(&self) -> Option<&DayRecord> {
        let is_row = |one: &&Contender| {
            one.record.record.kind != RecordKind::OutOfSchool
                && !matches!(one.why, Some(LoserReason::Duplicate | LoserReason::OtherRegistration))
        };
        self.contenders.iter().find(is_row).map(|one| &one.record)
    }

    fn against_winner(&self, loser: &DayRecord) -> Value {
        json!({ "record": record_json(loser), "winner": self.winner().map(record_json) })
    }

    /// An instant as the school reads it.
    fn school_time(&self, instant: DateTime<Utc>) -> String {
        clock_text(instant, self.facts.rules.zone())
    }

    fn updated(&self, day: &DayRecord) -> String {
        let at = day.record.last_updated;
        at.map_or("has no time of update".to_owned(), |at| format!("was updated at {}", self.school_time(at)))
    }
}
