//! Findings in English.

use chrono::{DateTime, TimeDelta, Utc};

use super::day::{DayRecord, SessionDay};
use super::finding::{Cure, Evidence, Finding, Found, Reason, Step};
use super::{Expected, Wording};
use crate::model::{Mark, RecordKind, Session, clock_text, time_text};
use crate::rules::PmRule;

/// The most records or fields that one sentence names.
const MOST_NAMED: usize = 3;

/// The sentences about one session.
pub(super) struct Words<'a> {
    pub(super) day: &'a SessionDay<'a>,
    pub(super) wording: &'a Wording,
}

impl Words<'_> {
    pub(super) fn finding(&self, (evidence, cures): Found) -> Finding {
        let (summary, advice) = (self.summary(&evidence), self.advice(&evidence, &cures));
        Finding { evidence, cures, summary, advice }
    }

    fn summary(&self, evidence: &Evidence) -> String {
        let (session, expected) = (self.day.session, self.expected());
        let says = |record: &DayRecord| format!("{} says {expected}", capitalised(&named(record)));
        let trouble = |why_no_letter: &Option<Reason>| {
            why_no_letter.as_ref().map(|reason| format!(" {}.", self.reason(reason))).unwrap_or_default()
        };
        match evidence {
            Evidence::OutsideWindow { date, window_from, window_to, is_ahead } => {
                let covered = format!("the dates that ordinary syncs cover ({window_from} to {window_to})");
                match is_ahead {
                    true => format!("{date} is later than {covered}; syncs from that day on will cover it."),
                    false => format!(
                        "{date} is not one of {covered}, so a correction of that day does not reach the portal automatically."
                    ),
                }
            }
            Evidence::StoreBehindSource { store_mark, run, fetched_at, .. } => {
                let since = match run.zip(*fetched_at) {
                    Some((run, at)) => format!(" since run {run} of {}", self.school_time(at)),
                    None => ", and no run has ever written one".to_owned(),
                };
                let (shown, now) = (or_none(store_mark.as_ref()), or_none(self.day.mark));
                format!("The portal's store shows {shown}{since}; the source now says {now}.")
            }
            Evidence::MissingTimestamp { record, winner } => {
                let against = match winner {
                    Some(winner) if winner.record.last_updated.is_none() => {
                        format!("; {} has none either, and counts in a tie", named(winner))
                    }
                    Some(winner) => {
                        format!(", so it counts as older than {}, which {}", named(winner), self.updated(winner))
                    }
                    None => String::new(),
                };
                format!("{}, but has no time of update{against}.", says(record))
            }
            Evidence::OutOfSchoolOlderThanRegistration { record, winner }
            | Evidence::RegistrationOlderThanOutOfSchool { record, winner } => {
                let against = match winner {
                    Some(winner) if winner.record.last_updated == record.record.last_updated => {
                        format!(", at the same time as {}, which counts in a tie.", named(winner))
                    }
                    Some(winner) => {
                        let (winner, updated) = (named(winner), self.updated(winner));
                        format!("; {winner} {updated}. The most recently updated record counts.")
                    }
                    None => ".".to_owned(),
                };
                format!("{} and {}{against}", says(record), self.updated(record))
            }
            Evidence::DuplicateRegistrations { record, counting } => {
                let (holder, rows) = match record.record.kind {
                    RecordKind::SessionMark => ("session", "marks"),
                    _ => ("register", "rows"),
                };
                let against = counting
                    .as_ref()
                    .map(|one| format!("; {} {} and counts for the {holder}", named(one), self.updated(one)))
                    .unwrap_or_default();
                let (name, updated) = (named(record), self.updated(record));
                format!(
                    "The {holder} holds several {rows} for this student: {name} says {expected} and {updated}{against}."
                )
            }
            Evidence::OutOfSchoolDoesNotCoverSession { record, counting: Some(counting), .. } => format!(
                "An older version of {} says {expected}, but a newer version of the same record counts, and it lies elsewhere: \
                 {}.",
                named(record),
                named(counting)
            ),
            Evidence::OutOfSchoolDoesNotCoverSession { record, register_at, counting: None } => {
                let date = self.day.facts.question.date;
                let why = match register_at {
                    _ if record.to.is_some_and(|to| to <= record.from) => {
                        "does not end after it begins, so it covers nothing".to_owned()
                    }
                    _ if record.to == Some(self.day.facts.midnight()) => {
                        format!("ends at the midnight that begins {date}, so it does not reach into that date")
                    }
                    Some(at) => format!("does not cover the {session} register at {}", time_text(at.time())),
                    None => format!("does not reach into the {session} session"),
                };
                format!("{}, but {why}.", says(record))
            }
            Evidence::PmRulePicksOtherRegistration { registration, picked, .. } => {
                let by = match self.day.facts.rules.pm() {
                    PmRule::FirstFrom(start) => format!("with the PM start at {}", time_text(start)),
                    PmRule::RegistrationPeriods => "by the flags of the registration periods".to_owned(),
                };
                let counting = match picked {
                    Some(picked) => {
                        format!("the register of {} is the {session} register", time_text(picked.at.time()))
                    }
                    None => format!("the student is in no {session} register"),
                };
                format!("{}, but {by} {counting}.", says(registration))
            }
            Evidence::UnknownCode { record, raw_code, why_no_letter } => format!(
                "{} has the code {raw_code}, which is not in the code table.{}",
                capitalised(&named(record)),
                trouble(why_no_letter)
            ),
            Evidence::NotTaken { record, why_no_letter } => {
                format!(
                    "{} has not been taken for this student.{}",
                    capitalised(&named(record)),
                    trouble(why_no_letter)
                )
            }
            Evidence::NoRecord { date, others_have_rows, why_no_letter, .. } => {
                let has_marks = self.day.register.has_session_marks();
                let nothing = match has_marks {
                    true => "session mark",
                    false => "registration and no out-of-school record",
                };
                let others = match (self.day.has_school, others_have_rows) {
                    (_, true) if has_marks => ", but session marks of other students",
                    (_, true) => ", but registrations of other students",
                    (true, false) => "",
                    (false, false) => ", and no register of this session of any student",
                };
                format!("The source has no {nothing} of this student on {date}{others}.{}", trouble(why_no_letter))
            }
            Evidence::NothingExpected { reason, store_agrees, .. } => format!(
                "{}. The replies are not cached, so they show what the management system holds.",
                self.not_expected(reason, *store_agrees)
            ),
            Evidence::CacheMayBeStale { as_of_earliest, reason, store_agrees, .. } => format!(
                "{}. The replies can be as old as {}, so a later change may not be in them.",
                self.not_expected(reason, *store_agrees),
                self.school_time(*as_of_earliest)
            ),
            Evidence::Consistent { no_mark: Some(reason) } => format!("There is no mark. {}.", self.reason(reason)),
            Evidence::Consistent { no_mark: None } => {
                let zone = self.day.facts.rules.zone();
                let why = self.day.mark.map(|mark| mark.decision.in_school_time(zone)).unwrap_or_default();
                format!("The mark is {}: {why}.", or_none(self.day.mark))
            }
            Evidence::CacheExpiryTooLong { cache_expiry } => risk(*cache_expiry),
        }
    }

    fn advice(&self, evidence: &Evidence, cures: &[Cure]) -> String {
        let (session, date) = (self.day.session, self.day.facts.question.date);
        let texts: Vec<String> = cures.iter().map(|cure| self.cure(cure)).collect();
        match (evidence, texts.as_slice()) {
            (Evidence::OutsideWindow { is_ahead, .. }, _) => {
                let wait = if *is_ahead { "wait for that day, or " } else { "" };
                capitalised(&format!("{wait}run a sync for that date only (--from {date} --to {date})."))
            }
            (Evidence::StoreBehindSource { .. }, _) => format!(
                "Run a sync that covers {date}. If the store still differs after it, look at what that run withheld."
            ),
            (Evidence::MissingTimestamp { .. }, [_, other @ ..]) => {
                match cures.first().map(|cure| cure.steps.as_slice()) {
                    Some([Step::NameStampField { kind: of_kind, fields }]) => {
                        let other = other.iter().map(|cure| format!(" If it does not, {cure}; then sync."));
                        format!(
                            "No {} was read with a time of update, so saving this one again does not help. If the management \
                         system keeps that time, name the field that holds it ({}); then sync.{}",
                            kind(*of_kind),
                            self.stamp_field(*of_kind, fields),
                            other.collect::<String>()
                        )
                    }
                    _ => then_sync(&texts.concat()),
                }
            }
            (Evidence::RegistrationOlderThanOutOfSchool { .. }, texts) => then_sync(&texts.join("; or ")),
            (Evidence::OutOfSchoolDoesNotCoverSession { .. }, [setting @ .., change]) if !setting.is_empty() => {
                format!(
                    "If the school means {date} too, {}; then sync. This setting changes the marks of every student. Otherwise, \
                 {change}; then sync.",
                    setting.join(", and ")
                )
            }
            (Evidence::PmRulePicksOtherRegistration { .. }, [setting, otherwise @ ..]) => {
                let everybody = "This changes the marks of every student; an audit of the PM starts shows which.";
                match otherwise {
                    [cure] => format!(
                        "If that register is the school's {session} registration, {setting}, and sync. {everybody} If it is \
                         not, {cure}; then sync."
                    ),
                    _ => format!("{} {everybody}", then_sync(setting)),
                }
            }
            (Evidence::UnknownCode { raw_code, .. }, texts) => {
                let or = match self.day.facts.question.expected {
                    Some(_) => format!(", or, if {raw_code} is that code, "),
                    None => ", or ".to_owned(),
                };
                then_sync(&texts.join(&or))
            }
            (Evidence::NoRecord { .. }, texts) => then_sync(&format!(
                "check the student's id, and whether the {} has a student filter that leaves this student out; if neither is \
                 the cause and there was school, {}",
                self.wording.access,
                texts.concat()
            )),
            (Evidence::NothingExpected { .. }, [cure, field @ ..]) => sentences(then_sync(cure), field),
            (Evidence::CacheMayBeStale { as_of_earliest, sure_from: None, .. }, [cure, field @ ..]) => {
                let as_of = self.school_time(*as_of_earliest);
                let newer = format!(
                    "If it was corrected after {as_of}, a sync reads it once the source has newer data. If it was not, {cure}; \
                     then sync."
                );
                sentences(newer, field)
            }
            (Evidence::CacheMayBeStale { fetched_at, sure_from: Some(sure), .. }, [cure, field @ ..]) => {
                let (fetched, sure) = (self.school_time(*fetched_at), self.school_time(*sure));
                let refresh = match &*self.wording.cache_refresh {
                    "" => String::new(),
                    refresh => format!("; {refresh}"),
                };
                let sure = format!(
                    "If it was corrected by {fetched}, a sync at {sure} or later is certain to read it{refresh}. If it was \
                     not, {cure}; then sync."
                );
                sentences(sure, field)
            }
            (Evidence::Consistent { .. }, [cure]) => {
                format!("If there should be a mark, {cure}; otherwise nothing needs to be done.")
            }
            (Evidence::Consistent { .. }, _) => "Nothing needs to be done.".to_owned(),
            (Evidence::CacheExpiryTooLong { .. }, _) => self.wording.cache_advice.to_string(),
            (_, texts) => then_sync(&texts.concat()),
        }
    }

    /// Why the mark is not the expected one.
    fn not_expected(&self, reason: &Reason, store_agrees: bool) -> String {
        let store = match store_agrees {
            true => format!("; the portal's store shows {} already", self.expected()),
            false => String::new(),
        };
        self.reason(reason) + &store
    }

    fn reason(&self, reason: &Reason) -> String {
        let (session, date, expected) = (self.day.session, self.day.facts.question.date, self.expected());
        match reason {
            Reason::Closed => format!("The school was closed on {date}, as the last sync was told"),
            Reason::UnreadPeriod { record, period } => format!(
                "{} belongs to the registration period {period}, which was not read, so it does not count",
                capitalised(&named(record))
            ),
            Reason::NoFlaggedPeriod => format!("No registration period of {date} is flagged {session}"),
            Reason::NoRegister => {
                format!("No student has a register in the {session} session of {date}, so there are no marks for it")
            }
            Reason::NoSessionMarks => {
                format!("No student has a session mark for the {session} session of {date}")
            }
            Reason::NothingMakesAMark => {
                format!("Nothing that was read makes a mark for this student in the {session} session")
            }
            Reason::NothingSaysSo => format!("Nothing that was read for this {session} session says {expected}"),
            Reason::Replaced(old) => format!(
                "An older version of {} says {expected}, but a newer version of the same record counts",
                named(old)
            ),
            Reason::NoCodes => "No registration codes were read, so no mark has a letter".to_owned(),
            Reason::UnknownLetter { letter, alike } => {
                let alike = alike.as_ref().map(|known| format!(" (it has {known})")).unwrap_or_default();
                format!("The code table has no code {letter}{alike}, so no mark can have it")
            }
        }
    }

    /// The middle of a sentence.
    fn cure(&self, cure: &Cure) -> String {
        let joined = |steps: &[Step]| steps.iter().map(|step| self.step(step)).collect::<Vec<_>>().join(", and ");
        let steps = joined(&cure.steps);
        match cure.first.as_slice() {
            [] => steps,
            first => format!("first {}; then {steps}", joined(first)),
        }
    }

    fn step(&self, step: &Step) -> String {
        let (session, date, expected) = (self.day.session, self.day.facts.question.date, self.expected());
        let access = &self.wording.access;
        let with = match &self.day.facts.question.expected {
            Some(_) => format!(", with {expected} for this student"),
            None => String::new(),
        };
        match step {
            Step::SaveAgain(record) => format!("save {} again, so that it is the newest", self.short(record)),
            Step::SaveFuture(records) => {
                let whose = if records.len() == 1 { "its time of update lies" } else { "their times of update lie" };
                format!("save {} again, because {whose} in the future", self.all_short(records))
            }
            Step::AddStamp(record) => {
                format!("edit {} and save it again, so that it gets a time of update", self.short(record))
            }
            Step::NameStampField { kind: of_kind, fields } => {
                let (kind, field) = (kind(*of_kind), self.stamp_field(*of_kind, fields));
                format!(
                    "name the field that holds the time of update of {kind}s ({field}), since no {kind} was read with one"
                )
            }
            Step::NameCodeField(fields) => format!(
                "No out-of-school record was read with a code; if one of these fields holds it, name that field ({}): {}.",
                self.wording.named_field("out_of_school_code"),
                few(fields)
            ),
            Step::EndRecords { records, at: Some(at) } => {
                format!("end {} at {} (if the student was back by then)", self.all_short(records), time_text(*at))
            }
            Step::EndRecords { records, at: None } => {
                format!("change the times of {}, so that the {session} session is left out", self.all_short(records))
            }
            Step::CoverSession(record) => {
                format!("change the times of {} so that {}, and save it", self.short(record), self.to_cover())
            }
            Step::ChangeEnd(record) => {
                format!("change the end of {} so that {}, and save it", self.short(record), self.to_cover())
            }
            Step::MoveBack(new) => {
                let says_so = self.day.facts.question.expected.as_ref().is_some_and(|expected| new.says(expected));
                let code = if says_so { String::new() } else { format!(" and its code to {expected}") };
                format!(
                    "change the times of the newer version{code} so that {}, and save it, or enter a record of its own with \
                     the code {expected} for {date}",
                    self.to_cover()
                )
            }
            Step::IncludeMidnightEnds => {
                "read such ends as including their date (setting midnight_end; on the command \
                                          line, --midnight-end included)"
                    .to_owned()
            }
            Step::RemoveOthers(row) => match row.record.kind {
                RecordKind::SessionMark => format!("remove the student's other marks of the {session} session"),
                _ => format!("take the student's other rows out of {}", register_of(row)),
            },
            Step::GiveKnownCode(record) => format!("give {} a code that is in the table", named(record)),
            Step::GiveExpected(row) => match (&self.day.facts.question.expected, row.record.kind) {
                (Some(Expected::Code(letter)), _) => format!("give {} the code {letter}", named(row)),
                (_, RecordKind::SessionMark) => format!("change {} to present", named(row)),
                _ => format!("mark the student as present in {}", named(row)),
            },
            Step::EnterExpected => match &self.day.facts.question.expected {
                Some(Expected::Code(letter)) => {
                    format!("enter an out-of-school record with the code {letter} for the {session} session of {date}")
                }
                _ => format!("enter the student as present in the {session} register of {date}"),
            },
            Step::Enter => format!("enter {expected} for the {session} session of {date} in the management system"),
            Step::TakeRegister(row) => format!("take {} on {date}{with}", register_of(row)),
            Step::TakeSessionRegister => format!("take the {session} register{with}, if there was school"),
            Step::FlagPeriod => format!(
                "flag the period of the {session} register as {session} in the management system, or give the {access} access \
                 to it"
            ),
            Step::GrantCodes => format!("give the {access} access to the registration codes"),
            Step::GrantCodeTable => format!("give the {access} access to the whole table of registration codes"),
            Step::GrantPeriod(period) => format!("give the {access} access to the registration period {period}"),
            Step::AddLetter(letter) => {
                format!("ask again with a letter that the table has, or add {letter} to the registration codes")
            }
            Step::SetPmRule(PmRule::FirstFrom(start)) => {
                format!("distinguish AM and PM by time, with the PM start at {}", time_text(*start))
            }
            Step::SetPmRule(PmRule::RegistrationPeriods) => {
                "distinguish AM and PM by the session flags of the registration periods".to_owned()
            }
            Step::Reopen => format!("sync without saying that the school was closed on {date} (--closed)"),
        }
    }

    /// What an out-of-school record must do to cover the session.
    fn to_cover(&self) -> String {
        match (self.day.facts.rules.pm(), self.day.register_at(), self.day.session) {
            (PmRule::FirstFrom(start), None, Session::Am) => {
                format!("it covers some time of that day before {}", time_text(start))
            }
            (PmRule::FirstFrom(start), None, Session::Pm) => {
                format!("it covers some time of that day from {} on", time_text(start))
            }
            (_, register, _) => {
                let at = register.map_or("the register".to_owned(), |at| time_text(at.time()));
                format!("it begins at {at} or before and ends after {at}")
            }
        }
    }

    /// What is expected; "the attendance" if nothing is.
    fn expected(&self) -> &str {
        match &self.day.facts.question.expected {
            Some(Expected::Present) => "present",
            Some(Expected::Code(letter)) => letter,
            None => "the attendance",
        }
    }

    /// How to name the field with a record's time of update, and which fields it may be.
    fn stamp_field(&self, kind: RecordKind, fields: &[String]) -> String {
        let how = match kind {
            RecordKind::Registration => self.wording.named_field("registration_updated"),
            RecordKind::OutOfSchool => self.wording.named_field("out_of_school_updated"),
            _ => "a setting of the source".to_owned(),
        };
        if fields.is_empty() { how } else { format!("{how}; it may be one of: {}", few(fields)) }
    }

    /// The record by its id, with its times if it has no id or shares it with other records of the day.
    fn short(&self, record: &DayRecord) -> String {
        let own = &record.record;
        let shares = |other: &&DayRecord| other.record.kind == own.kind && other.record.id == own.id;
        let contenders = self.day.contenders.iter().map(|one| &one.record);
        match &own.id {
            Some(id) if contenders.filter(shares).nth(1).is_none() => format!("the {} {id}", kind(own.kind)),
            _ => named(record),
        }
    }

    fn all_short(&self, records: &[DayRecord]) -> String {
        let names: Vec<String> = records.iter().take(MOST_NAMED).map(|record| self.short(record)).collect();
        listed(&names, records.len().saturating_sub(MOST_NAMED))
    }

    /// An instant in the school's own time.
    fn school_time(&self, instant: DateTime<Utc>) -> String {
        clock_text(instant, self.day.facts.rules.zone())
    }

    fn updated(&self, day: &DayRecord) -> String {
        let at = day.record.last_updated;
        at.map_or("has no time of update".to_owned(), |at| format!("was updated at {}", self.school_time(at)))
    }
}

/// What a cache expiry means.
pub(crate) fn risk(cache_expiry: TimeDelta) -> String {
    let hours = cache_expiry.num_seconds().saturating_add(3_599) / 3_600;
    format!("Replies can be {hours} hours old, so a change can be missed by the next sync.")
}

/// "registration", "out-of-school record"
fn kind(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::Registration => "registration",
        RecordKind::OutOfSchool => "out-of-school record",
        RecordKind::SessionMark => "session mark",
        RecordKind::Unknown => "record",
    }
}

/// "the registration 101 of 08:40", "the out-of-school record 901 from 2026-11-20 08:00 to 2026-11-20 12:00".
fn named(day: &DayRecord) -> String {
    let id = day.record.id.as_ref().map(|id| format!(" {id}")).unwrap_or_default();
    let times = match (day.record.kind, day.to) {
        (RecordKind::SessionMark, _) => format!("of {} {}", day.from.date(), day.half_day()),
        (_, None) => format!("of {}", time_text(day.from.time())),
        (_, Some(to)) => format!("from {} to {}", day.from.format("%Y-%m-%d %H:%M"), to.format("%Y-%m-%d %H:%M")),
    };
    format!("the {}{id} {times}", kind(day.record.kind))
}

/// "the register of 08:40", "the AM register"
fn register_of(row: &DayRecord) -> String {
    match row.record.kind {
        RecordKind::SessionMark => format!("the {} register", row.half_day()),
        _ => format!("the register of {}", time_text(row.from.time())),
    }
}

/// "1 mark", "2 marks".
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// "A", "A and B", "A, B and C", "A, B, C and 9 more".
pub(crate) fn listed(names: &[String], more: usize) -> String {
    match names {
        [] => String::new(),
        names if more > 0 => format!("{} and {more} more", names.join(", ")),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// The first few, and how many more there are.
fn few(names: &[String]) -> String {
    listed(names.get(..MOST_NAMED).unwrap_or(names), names.len().saturating_sub(MOST_NAMED))
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn sentences(first: String, others: &[String]) -> String {
    others.iter().fold(first, |text, other| text + " " + other)
}

/// "Take the register; then sync."
fn then_sync(what: &str) -> String {
    format!("{}; then sync.", capitalised(what))
}

fn or_none(mark: Option<&Mark>) -> String {
    mark.map_or("no mark".to_owned(), ToString::to_string)
}
