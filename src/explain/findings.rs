//! Which findings a session has, the one that explains most first.

use chrono::{DateTime, NaiveTime, TimeDelta, Timelike, Utc};
use serde_json::{Map, Value, json};

use super::diagnosis::{Contender, DayRecord, Facts};
use super::{Expected, Finding, FindingName};
use crate::model::{LoserReason, Mark, RecordKind, Session, Status, stamp_text};
use crate::rules::{Freshness, PmRule};

fn finding(name: FindingName, summary: String, advice: String, evidence: Value) -> Finding {
    let evidence = match evidence {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    Finding { name, summary, advice, evidence }
}

fn record_json(day: &DayRecord) -> Value {
    let mut json = json!({
        "kind": day.record.kind,
        "id": day.record.id,
        "last_updated": day.record.last_updated.map(stamp_text),
        "status": day.status,
        "code": day.code,
    });
    let times = match day.to {
        Some(to) => vec![("from", json!(day.from)), ("to", json!(to))],
        None => vec![("at", json!(day.from)), ("period", json!(day.period))],
    };
    if let Value::Object(map) = &mut json {
        map.extend(times.into_iter().map(|(name, value)| (name.to_owned(), value)));
    }
    json
}

/// «the registration 101», «the out-of-school record 901».
fn short(day: &DayRecord) -> String {
    let kind = match day.record.kind {
        RecordKind::Registration => "the registration",
        RecordKind::OutOfSchool => "the out-of-school record",
    };
    day.record.id.as_ref().map_or(kind.to_owned(), |id| format!("{kind} {id}"))
}

/// «the registration 101 of 08:40», «the out-of-school record 901 from 2026-11-20 08:00 to 2026-11-20 12:00».
fn named(day: &DayRecord) -> String {
    match day.to {
        None => format!("{} of {}", short(day), clock(day.from.time())),
        Some(to) => {
            format!("{} from {} to {}", short(day), day.from.format("%Y-%m-%d %H:%M"), to.format("%Y-%m-%d %H:%M"))
        }
    }
}

fn clock(time: NaiveTime) -> String {
    time.format(if time.second() == 0 { "%H:%M" } else { "%H:%M:%S" }).to_string()
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn or_none(mark: Option<&Mark>) -> String {
    mark.map_or("no mark".to_owned(), ToString::to_string)
}

impl Facts {
    /// An instant as the school reads it.
    fn school_time(&self, instant: DateTime<Utc>) -> String {
        instant.with_timezone(&self.rules.zone()).format("%Y-%m-%d %H:%M:%S").to_string()
    }

    fn updated(&self, day: &DayRecord) -> String {
        let at = day.record.last_updated;
        at.map_or("has no time of update".to_owned(), |at| format!("was updated at {}", self.school_time(at)))
    }

    /// The findings of one session, from its mark, the records beside it, and whether the day has any record.
    pub(super) fn findings(
        &self,
        session: Session,
        mark: Option<&Mark>,
        contenders: &[Contender],
        has_records: bool,
    ) -> Vec<Finding> {
        let plain = self.plain(session, mark, contenders, has_records);
        let mut findings: Vec<Finding> = match (&self.question.expected, self.store_behind(session, mark)) {
            (Some(expected), behind) => {
                let is_met = mark.is_some_and(|mark| expected.is_met_by(mark));
                let explained = match is_met {
                    true => behind.into_iter().collect(),
                    false => self.against(expected, session, mark, contenders, plain),
                };
                self.outside_window().into_iter().chain(explained).collect()
            }
            (None, Some(behind)) => [behind].into_iter().chain(self.outside_window()).chain(plain).collect(),
            (None, None) => plain.into_iter().collect(),
        };
        if findings.is_empty() {
            let summary = match mark {
                Some(mark) => format!("The mark is {mark}: {}.", mark.decision.in_school_time(self.rules.zone())),
                None => "There is no mark: the student has no record that makes one in this session.".to_owned(),
            };
            let nothing = "Nothing needs to be done.".to_owned();
            findings.push(finding(FindingName::Consistent, summary, nothing, json!({})));
        }
        if self.freshness.advised_against() {
            let evidence = json!({ "cache_expiry_seconds": self.freshness.cache_expiry().num_seconds() });
            let advice = Freshness::REMEDY.to_owned();
            findings.push(finding(FindingName::CacheExpiryTooLong, self.freshness.risk(), advice, evidence));
        }
        findings
    }

    /// What explains that the mark is not the expected one.
    fn against(
        &self,
        expected: &Expected,
        session: Session,
        mark: Option<&Mark>,
        contenders: &[Contender],
        plain: Option<Finding>,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        let losing: Vec<&Contender> =
            contenders.iter().filter(|contender| contender.is_expected && contender.why.is_some()).collect();
        let winner = contenders.iter().find(|contender| contender.why.is_none()).map(|contender| &contender.record);
        let first = |is: &dyn Fn(&Contender) -> bool| losing.iter().copied().find(|contender| is(contender));
        let is_span = |contender: &Contender| contender.record.record.kind == RecordKind::OutOfSchool;
        let has_no_stamp = |contender: &Contender| contender.record.record.last_updated.is_none();
        let is_rival = |contender: &Contender| {
            matches!(contender.why, Some(LoserReason::Older | LoserReason::Tie | LoserReason::NoTimestamp))
        };
        let is_duplicate = |contender: &Contender| contender.why == Some(LoserReason::Duplicate);
        findings.extend(
            first(&|one| has_no_stamp(one) && is_rival(one))
                .map(|loser| self.missing_timestamp(expected, &loser.record, winner, contenders)),
        );
        findings.extend(
            first(&|one| is_span(one) && is_rival(one) && !has_no_stamp(one))
                .map(|loser| self.older(expected, &loser.record, winner, contenders)),
        );
        findings.extend(first(&is_duplicate).map(|loser| self.duplicate(expected, &loser.record, contenders)));
        findings.extend(
            first(&|one| one.why == Some(LoserReason::NotCovering))
                .map(|loser| self.not_covering(expected, session, &loser.record, mark, contenders)),
        );
        findings.extend(self.other_registration(expected, session, mark, &losing));
        findings.extend(plain);
        if findings.is_empty() || losing.is_empty() {
            let rival = first(&is_rival).map(|loser| &loser.record).zip(winner);
            findings.extend(self.stale_or_missing(expected, session, mark, rival, findings.is_empty()));
        }
        findings
    }

    fn outside_window(&self) -> Option<Finding> {
        let (date, window) = (self.question.date, self.question.window);
        (!window.contains(date)).then(|| {
            finding(
                FindingName::OutsideWindow,
                format!(
                    "{date} is not among the dates that ordinary syncs cover ({} to {}), so a correction of that day \
                     does not reach the portal by itself.",
                    window.from(),
                    window.to()
                ),
                format!("Run a sync for that date alone: from {date} to {date}."),
                json!({ "date": date, "window_from": window.from(), "window_to": window.to() }),
            )
        })
    }

    fn store_behind(&self, session: Session, mark: Option<&Mark>) -> Option<Finding> {
        let shown = self.shown.iter().find(|shown| shown.session == session)?;
        if Mark::look_alike(shown.mark.as_ref(), mark) {
            return None;
        }
        let since = match shown.since {
            Some((run, at)) => format!("since run {run} of {}", self.school_time(at)),
            None => "and no run has ever written one".to_owned(),
        };
        let date = self.question.date;
        Some(finding(
            FindingName::StoreBehindSource,
            format!(
                "The portal's store shows {} {since}; the source says {}.",
                or_none(shown.mark.as_ref()),
                or_none(mark)
            ),
            format!("Run a sync that covers {date}. If the store still differs after it, see what that run withheld."),
            json!({
                "date": date,
                "store_mark": shown.mark.as_ref().map(Mark::line),
                "run": shown.since.map(|(run, _)| run),
                "fetched_at": shown.since.map(|(_, at)| stamp_text(at)),
            }),
        ))
    }

    /// What is wrong whether or not anything is expected.
    fn plain(
        &self,
        session: Session,
        mark: Option<&Mark>,
        contenders: &[Contender],
        has_records: bool,
    ) -> Option<Finding> {
        let winner = contenders.iter().find(|contender| contender.why.is_none()).map(|contender| &contender.record);
        let date = self.question.date;
        let expected = self.question.expected.as_ref();
        match (mark.map(|mark| mark.status), winner) {
            (Some(Status::UnknownCode), Some(winner)) => {
                let raw = mark.and_then(|mark| mark.raw_code.as_ref()).map(ToString::to_string).unwrap_or_default();
                let table = "let the API key read the whole table of registration codes";
                let advice = match expected {
                    None => format!("Give {} a code that is in the table, or {table}; then sync.", named(winner)),
                    Some(Expected::Code(letter)) => {
                        format!(
                            "Give {} the code {letter}, or, if {raw} is that code, {table}; then sync.",
                            named(winner)
                        )
                    }
                    Some(Expected::Present) if winner.to.is_some() => format!(
                        "Delete {}, and mark the student as present in the {session} register; then sync.",
                        named(winner)
                    ),
                    Some(Expected::Present) => {
                        format!("Mark the student as present in {}; then sync.", named(winner))
                    }
                };
                Some(finding(
                    FindingName::UnknownCode,
                    format!("{} has the code {raw}, which is not in the code table.", capitalised(&named(winner))),
                    advice,
                    json!({ "record": record_json(winner), "raw_code": raw }),
                ))
            }
            (Some(Status::NotTaken), Some(winner)) => Some(finding(
                FindingName::NotTaken,
                format!("{} has not been taken for this student.", capitalised(&named(winner))),
                match expected {
                    None => format!("Take the register of {} on {date}; then sync.", clock(winner.from.time())),
                    Some(expected) => format!(
                        "Take the register of {} on {date}, with {expected} for this student; then sync.",
                        clock(winner.from.time())
                    ),
                },
                json!({ "record": record_json(winner) }),
            )),
            _ if !has_records => Some(finding(
                FindingName::NoRecord,
                format!("The source has no registration and no out-of-school record of this student on {date}."),
                format!(
                    "Check the student's id and the filters of the API key, and enter {} for the {session} session of \
                     {date} in the management system; then sync.",
                    expected.map_or("the attendance".to_owned(), ToString::to_string)
                ),
                json!({ "student": self.question.student, "date": date }),
            )),
            _ => None,
        }
    }

    /// Another register of the day says what is expected, and would count by another rule.
    fn other_registration(
        &self,
        expected: &Expected,
        session: Session,
        mark: Option<&Mark>,
        losing: &[&Contender],
    ) -> Option<Finding> {
        let mut others: Vec<&DayRecord> = losing
            .iter()
            .filter(|contender| contender.why == Some(LoserReason::OtherRegistration))
            .map(|contender| &contender.record)
            .collect();
        // The likeliest register first: flagged with the session, then of its half of the day.
        others.sort_by_key(|other| {
            let is_morning = other.from.time() < PmRule::NOON;
            (other.flag != Some(session), is_morning != (session == Session::Am), other.from)
        });
        let (other, pm_rule) = others.into_iter().find_map(|other| {
            let counts = |pm_rule: &PmRule| {
                self.mark_under(self.rules.pm(*pm_rule), session).is_some_and(|mark| {
                    expected.is_met_by(&mark)
                        && mark.decision.winner.kind == RecordKind::Registration
                        && mark.decision.registration.is_some_and(|picked| picked.at == other.from)
                })
            };
            Some((other, self.other_rules(session, other).into_iter().find(counts)?))
        })?;
        let picked = mark.and_then(|mark| mark.decision.registration.as_ref());
        let (advice, pm_start) = match pm_rule {
            PmRule::FirstFrom(start) => (
                format!("Tell AM and PM by time, with the PM start at {}; then sync.", clock(start)),
                Some(clock(start)),
            ),
            PmRule::RegistrationPeriods => {
                ("Tell AM and PM by the session flags of the registration periods; then sync.".to_owned(), None)
            }
        };
        let by = match self.rules.pm_rule() {
            PmRule::FirstFrom(start) => format!("with the PM start at {}", clock(start)),
            PmRule::RegistrationPeriods => "by the flags of the registration periods".to_owned(),
        };
        let counting = picked
            .map_or("no register is".to_owned(), |picked| format!("the register of {} is", clock(picked.at.time())));
        Some(finding(
            FindingName::PmRulePicksOtherRegistration,
            format!("{} says {expected}, but {by} {counting} the {session} register.", capitalised(&named(other))),
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

    /// Rules by which the row may be the session's registration, the likeliest first.
    fn other_rules(&self, session: Session, other: &DayRecord) -> Vec<PmRule> {
        let time = other.from.time();
        let whole_minute = time.with_second(0).and_then(|time| time.with_nanosecond(0)).unwrap_or(time);
        let starts = match session {
            Session::Pm => vec![whole_minute, time],
            // Any start after the register makes it AM; noon is the usual one.
            Session::Am => vec![PmRule::NOON, whole_minute.overflowing_add_signed(TimeDelta::minutes(1)).0],
        };
        let by_time = starts.into_iter().map(PmRule::FirstFrom);
        let by_periods = (other.flag == Some(session)).then_some(PmRule::RegistrationPeriods);
        by_time.chain(by_periods).filter(|rule| *rule != self.rules.pm_rule()).collect()
    }

    /// Nothing that was read explains the mark: a change may not have reached the reply yet. A rival is a registration that
    /// says what is expected, and the newer record that it lost to.
    fn stale_or_missing(
        &self,
        expected: &Expected,
        session: Session,
        mark: Option<&Mark>,
        rival: Option<(&DayRecord, &DayRecord)>,
        is_first: bool,
    ) -> Option<Finding> {
        let date = self.question.date;
        let (read, cure) = match rival {
            Some((loser, winner)) => (
                format!(
                    "{} says {expected} and {}, but {} {} and counts",
                    capitalised(&named(loser)),
                    self.updated(loser),
                    named(winner),
                    self.updated(winner)
                ),
                format!("If {expected} is right, save {} again, so that it is the newest.", short(loser)),
            ),
            None => (
                match mark {
                    None => format!("No register that makes a mark was read for this {session} session"),
                    Some(_) => format!("Nothing that was read for this {session} session says {expected}"),
                },
                format!("Make sure that {expected} is saved for the {session} session of {date}."),
            ),
        };
        let fetched_at = self.freshness.fetched_at;
        if self.freshness.cache_expiry() > TimeDelta::zero() {
            let sure_from = fetched_at.checked_add_signed(self.freshness.cache_expiry()).unwrap_or(fetched_at);
            let moments = [self.freshness.as_of_earliest(), fetched_at, sure_from];
            let [earliest, fetched, sure] = moments.map(|moment| self.school_time(moment));
            let evidence = moments.map(stamp_text);
            Some(finding(
                FindingName::CacheMayBeStale,
                format!(
                    "{read}. The replies can show the state of {earliest}: a change made after that may not be in them."
                ),
                format!(
                    "{cure} A sync from {sure} on is sure to see what was saved by {fetched}; saving the API key's \
                     settings refreshes its cache at once."
                ),
                json!({ "as_of_earliest": evidence[0], "fetched_at": evidence[1], "sure_from": evidence[2] }),
            ))
        } else {
            is_first.then(|| {
                finding(
                    FindingName::NoRecord,
                    format!("{read}. The replies are not cached, so they show what the management system holds."),
                    format!("{cure} Then sync."),
                    json!({ "student": self.question.student, "date": date, "fetched_at": stamp_text(fetched_at) }),
                )
            })
        }
    }

    /// What has to be saved before a record can become the newest: rivals whose time of update lies in the future.
    fn future_rivals(&self, loser: &DayRecord, contenders: &[Contender]) -> String {
        let is_ahead = |one: &&Contender| {
            !std::ptr::eq(&one.record, loser)
                && !matches!(one.why, Some(LoserReason::NotCovering | LoserReason::OtherRegistration))
                && one.record.record.last_updated > Some(self.freshness.fetched_at)
        };
        let ahead: Vec<String> = contenders.iter().filter(is_ahead).map(|one| short(&one.record)).collect();
        match ahead.is_empty() {
            true => String::new(),
            false => format!("First save {} again: the time of update lies in the future. ", ahead.join(" and ")),
        }
    }

    fn missing_timestamp(
        &self,
        expected: &Expected,
        loser: &DayRecord,
        winner: Option<&DayRecord>,
        contenders: &[Contender],
    ) -> Finding {
        let against = match winner {
            Some(winner) if winner.record.last_updated.is_none() => {
                format!("; neither has {}, which wins the tie", named(winner))
            }
            Some(winner) => format!(", so it counts as older than {}, which {}", named(winner), self.updated(winner)),
            None => String::new(),
        };
        finding(
            FindingName::MissingTimestamp,
            format!("{} says {expected}, but has no time of update{against}.", capitalised(&named(loser))),
            format!(
                "{}Edit {} in the management system and save it again, so that it gets a time of update; then sync.",
                self.future_rivals(loser, contenders),
                short(loser)
            ),
            json!({ "record": record_json(loser), "winner": winner.map(record_json) }),
        )
    }

    fn older(
        &self,
        expected: &Expected,
        loser: &DayRecord,
        winner: Option<&DayRecord>,
        contenders: &[Contender],
    ) -> Finding {
        let against = winner.map(|winner| format!("; {} {}", named(winner), self.updated(winner))).unwrap_or_default();
        finding(
            FindingName::OutOfSchoolOlderThanRegistration,
            format!(
                "{} says {expected} and {}{against}. The most recently updated record counts.",
                capitalised(&named(loser)),
                self.updated(loser)
            ),
            format!(
                "{}Edit {} in the management system and save it again, so that it is the newest; then sync.",
                self.future_rivals(loser, contenders),
                short(loser)
            ),
            json!({ "record": record_json(loser), "winner": winner.map(record_json) }),
        )
    }

    fn duplicate(&self, expected: &Expected, loser: &DayRecord, contenders: &[Contender]) -> Finding {
        let is_rival = |one: &&Contender| {
            one.why != Some(LoserReason::Duplicate) && one.record.to.is_none() && one.record.from == loser.from
        };
        let counting = contenders.iter().find(is_rival).map(|one| &one.record);
        let against =
            counting.map(|one| format!("; {} {} and counts", named(one), self.updated(one))).unwrap_or_default();
        finding(
            FindingName::DuplicateRegistrations,
            format!(
                "The register holds several rows for this student: {} says {expected} and {}{against}.",
                named(loser),
                self.updated(loser)
            ),
            format!(
                "{}Save {} again, so that it is the newest, and take the wrong row out of the register; then sync.",
                self.future_rivals(loser, contenders),
                named(loser)
            ),
            json!({ "record": record_json(loser), "counting": counting.map(record_json) }),
        )
    }

    fn not_covering(
        &self,
        expected: &Expected,
        session: Session,
        loser: &DayRecord,
        mark: Option<&Mark>,
        contenders: &[Contender],
    ) -> Finding {
        let picked = mark.and_then(|mark| mark.decision.registration.as_ref()).map(|picked| picked.at);
        let (register, half_day) = match self.rules.pm_rule() {
            PmRule::RegistrationPeriods => (picked.or_else(|| self.first_period(session)), None),
            PmRule::FirstFrom(start) => (picked, Some(start)),
        };
        let ends_too_early = loser.to.is_some_and(|to| to <= loser.from);
        let why = match register {
            _ if ends_too_early => "ends before it begins, so it covers nothing".to_owned(),
            Some(at) => format!("does not cover the {session} register at {}", clock(at.time())),
            None => format!("does not reach into the {session} session"),
        };
        let what = match (register, half_day, session) {
            (Some(at), ..) => format!("it begins at {0} or before and ends after {0}", clock(at.time())),
            (None, None, _) => format!("it reaches into the {session} session"),
            (None, Some(start), Session::Am) => format!("it covers some time of that day before {}", clock(start)),
            (None, Some(start), Session::Pm) => format!("it covers some time of that day from {} on", clock(start)),
        };
        finding(
            FindingName::OutOfSchoolDoesNotCoverSession,
            format!("{} says {expected}, but {why}.", capitalised(&named(loser))),
            format!(
                "{}Change the times of {} so that {what}, and save it; then sync.",
                self.future_rivals(loser, contenders),
                short(loser)
            ),
            json!({ "record": record_json(loser), "register_at": register }),
        )
    }
}
