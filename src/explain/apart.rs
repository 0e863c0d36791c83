//! Out-of-school records that say what is expected but lie beside the date: one that ends at the midnight that begins it, and
//! an older version of a record that was moved elsewhere since.

use chrono::NaiveTime;
use serde_json::json;

use super::diagnosis::{DayRecord, Facts};
use super::findings::{Situation, finding, record_json};
use super::words::{capitalised, named};
use super::{Expected, Finding, FindingName};
use crate::model::{RecordKind, Status};
use crate::rules::{Candidate, MidnightEnd, Register, Span, Versions, Window};

/// A superseded version of a record, and the newest of those that count (R1.5).
struct Superseded {
    old: DayRecord,
    new: DayRecord,
    /// A version that counts lies on the date.
    is_on_date: bool,
}

impl Facts {
    fn out_of_school_record(&self, register: &Register, span: &Span) -> DayRecord {
        self.day_record(register, &Candidate::OutOfSchool(span))
    }

    /// The student's out-of-school records of the whole fetch (R1.5).
    fn versions(&self) -> Versions {
        Versions::of(self.spans.iter().map(|record| Span::new(record.clone(), &self.rules)).collect())
    }
}

impl Situation<'_> {
    /// What to find of records beside the date that say what is expected.
    pub(super) fn apart(&self, expected: &Expected) -> Option<Finding> {
        if !self.has_school {
            return None;
        }
        let moved = || self.superseded(expected).filter(|one| !one.is_on_date);
        self.ends_before(expected).or_else(|| moved().map(|one| self.moved(expected, &one)))
    }

    /// A record that ends at the midnight that begins the date.
    fn ends_before(&self, expected: &Expected) -> Option<Finding> {
        let (facts, date) = (self.facts, self.facts.question.date);
        let midnight = date.and_time(NaiveTime::MIN);
        let is_doubtful = |span: &&Span| {
            let written = span.record.to.filter(|to| !to.is_date() && !to.is_end_of_day());
            span.from < span.to && span.to == midnight && written.is_some()
        };
        let counting = facts.versions().counting;
        let found = counting
            .iter()
            .filter(is_doubtful)
            .map(|span| (span, facts.out_of_school_record(self.register, span)))
            .filter(|(_, record)| record.says(expected));
        let (span, record) = found.max_by(|(a, _), (b, _)| a.compare_versions(b))?;

        let (register_at, what) = self.to_cover();
        let short = self.short(&record);
        let first = self.first(RecordKind::OutOfSchool, Some(&record));
        let change = format!("{first}change the end of {short} so that {what}, and save it; then sync.");
        let including = facts.rules.clone().with_midnight_end(MidnightEnd::IncludesDate);
        let is_extended = Span::new(span.record.clone(), &including).to > midnight;
        let advice = match is_extended {
            false => capitalised(&change),
            true => {
                let save = match self.would_win(&record) {
                    true => String::new(),
                    false => format!(", and {}", self.save_again(&record)),
                };
                format!(
                    "If the school means {date} too, read such ends as including their date (setting midnight_end; on the \
                     command line, --midnight-end included){save}; then sync. This setting changes the marks of every \
                     student. Otherwise, {change}"
                )
            }
        };
        Some(finding(
            FindingName::OutOfSchoolDoesNotCoverSession,
            format!(
                "{} says {expected}, but ends at the midnight that begins {date}, so it does not reach into that date.",
                capitalised(&named(&record))
            ),
            advice,
            json!({ "record": record_json(&record), "register_at": register_at }),
        ))
    }

    /// Whether an out-of-school record would surely decide if it covered the session (R6).
    fn would_win(&self, record: &DayRecord) -> bool {
        self.winner().is_none_or(|winner| {
            winner.status == Status::NotTaken || record.record.last_updated > winner.record.last_updated
        })
    }

    /// A superseded version that lies on the date and says what is expected.
    fn superseded(&self, expected: &Expected) -> Option<Superseded> {
        let (facts, day) = (self.facts, Window::day(self.facts.question.date));
        let Versions { counting, superseded } = facts.versions();
        let found = superseded
            .iter()
            .map(|old| &old.span)
            .filter(|old| old.from < old.to && old.reaches_into(day))
            .map(|old| (old, facts.out_of_school_record(self.register, old)))
            .filter(|(_, record)| record.says(expected));
        let (old, record) = found.max_by(|(a, _), (b, _)| a.compare_versions(b))?;
        let versions = || counting.iter().filter(|new| new.record.id == old.record.id);
        let new = versions().max_by(|a, b| a.compare_versions(b))?;
        Some(Superseded {
            old: record,
            new: facts.out_of_school_record(self.register, new),
            is_on_date: versions().any(|new| new.reaches_into(day)),
        })
    }

    fn moved(&self, expected: &Expected, Superseded { old, new, .. }: &Superseded) -> Finding {
        let (register_at, what) = self.to_cover();
        let code = if new.says(expected) { String::new() } else { format!(" and its code to {expected}") };
        let first = self.first(RecordKind::OutOfSchool, Some(new));
        finding(
            FindingName::OutOfSchoolDoesNotCoverSession,
            format!(
                "An older version of {} says {expected}, but a newer version of the same record counts, and it lies elsewhere: \
                 {}.",
                named(old),
                named(new)
            ),
            capitalised(&format!(
                "{first}change the times of the newer version{code} so that {what}, and save it, or enter a record of its own \
                 with the code {expected} for {}; then sync.",
                self.facts.question.date
            )),
            json!({ "record": record_json(old), "counting": record_json(new), "register_at": register_at }),
        )
    }

    /// That a version that counts no more says what is expected, where another version of it lies on the date.
    pub(super) fn replaced(&self, expected: &Expected) -> Option<String> {
        let replaced = self.superseded(expected).filter(|one| one.is_on_date)?;
        Some(format!(
            "an older version of {} says {expected}, but a newer version of the same record counts",
            named(&replaced.old)
        ))
    }
}
