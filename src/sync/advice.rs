//! Sentences that say what a school should know or set.

use std::collections::BTreeSet;

use chrono::NaiveDate;

use super::Plan;
use crate::explain::Wording;
use crate::explain::words::{counted, listed, risk};
use crate::model::StudentId;
use crate::rules::{Freshness, Register, Scope};
use crate::source::Completeness;
use crate::store::{Snapshot, WithheldReason};

/// For ends at midnight whose meaning is evidently not the one that is set (R5).
pub(super) const MIDNIGHTS: &str = "Some out-of-school records end at 00:00 of the day on which they begin, so the whole day \
                                    is meant. Others end at 00:00 of a later day, which is then probably meant too: \
                                    include it (--midnight-end included).";

/// What to know about the dates that the caller said the school was closed on.
pub(super) fn on_closed_dates(closed: &BTreeSet<NaiveDate>, register: &Register) -> Vec<String> {
    let mut advice = Vec::new();
    let taken: Vec<String> = register.closed_with_registrations().iter().map(ToString::to_string).collect();
    if !taken.is_empty() {
        advice.push(format!(
            "You said that the school was closed on {}, but registers were read for it. No marks are shown there; check the dates.",
            listed(&taken, 0)
        ));
    }
    let outside = closed.iter().filter(|date| !register.scope().window().contains(**date));
    let outside: Vec<String> = outside.map(ToString::to_string).collect();
    if !outside.is_empty() {
        advice.push(format!(
            "These closed dates are outside the dates of this run and had no effect: {}.",
            listed(&outside, 0)
        ));
    }
    advice
}

/// What to do about replies that can be older than advised.
pub(super) fn on_freshness(freshness: Freshness, wording: &Wording) -> Option<String> {
    freshness.is_advised_against().then(|| format!("{} {}", risk(freshness.cache_expiry()), wording.cache_advice))
}

/// What to do about fields that may affect decisions.
pub(super) fn on_undecided_fields(completeness: &Completeness, wording: &Wording) -> Option<String> {
    let fields = completeness.undecided_fields();
    (!fields.is_empty()).then(|| {
        format!(
            "Out-of-school records may hold their time of update or their code in a field that rollmark does not look for: {}. {}",
            listed(fields, 0),
            wording.field_advice
        )
    })
}

/// What to know about students without records.
pub(super) fn on_students(
    plan: &Plan,
    scope: &Scope,
    register: &Register,
    snapshot: &Snapshot,
    wording: &Wording,
) -> Vec<String> {
    const NAMED: usize = 3;
    let mut advice = Vec::new();
    let vanished = &plan.vanished_students;
    if !vanished.is_empty() {
        let named: Vec<&str> = vanished.iter().take(NAMED).map(StudentId::as_str).collect();
        let is_withheld = plan.withheld.iter().any(|change| change.reason == WithheldReason::StudentsVanished);
        let count = counted(vanished.len() as u64, "student");
        let verb = if vanished.len() == 1 { "the student has" } else { "they have" };
        advice.push(format!(
            "Nothing was read of {count} with marks (for example {}): {verb} left, or a filter of the {} hides them. Their \
             marks stay as they are{}.",
            named.join(", "),
            wording.access,
            if is_withheld { "; if they have all left, say so (--leavers)" } else { "" }
        ));
    }
    let is_known = |student: &&StudentId| {
        register.has_records_of(student) || snapshot.marks().iter().any(|stored| stored.key.student == **student)
    };
    let unknown: Vec<&str> =
        scope.students().into_iter().flatten().filter(|student| !is_known(student)).map(StudentId::as_str).collect();
    if !unknown.is_empty() {
        let named: Vec<&str> = unknown.iter().copied().take(NAMED).collect();
        let count = counted(unknown.len() as u64, "student");
        advice.push(format!(
            "Neither the replies nor the store hold anything for {count} you asked for (for example {}) on these dates; check \
             each id, including upper and lower case.",
            named.join(", ")
        ));
    }
    advice
}
