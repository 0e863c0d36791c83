//! Out-of-school records that say what is expected but do not lie on the date: one that ends at the midnight that begins it,
//! and an older version of a record that has been moved since.

use super::Expected;
use super::day::{DayRecord, SessionDay};
use super::finding::{Evidence, Found, Step};
use crate::model::{RecordKind, Status};
use crate::rules::{Candidate, MidnightEnd, Span, Versions, Window};

/// A superseded version of a record, and the newest version that counts (R1.5).
struct Superseded {
    old: DayRecord,
    new: DayRecord,
    /// A version that counts lies on the date.
    is_on_date: bool,
}

impl SessionDay<'_> {
    /// The findings about records that say what is expected but do not lie on the date.
    pub(super) fn apart(&self, expected: &Expected) -> Option<Found> {
        if !self.has_school {
            return None;
        }
        let moved = || self.superseded(expected).filter(|one| !one.is_on_date);
        self.ends_before(expected).or_else(|| moved().map(|one| self.moved(one)))
    }

    fn out_of_school_record(&self, span: &Span) -> DayRecord {
        self.facts.day_record(self.register, &Candidate::OutOfSchool(span))
    }

    /// A record that ends at the midnight that begins the date.
    fn ends_before(&self, expected: &Expected) -> Option<Found> {
        let midnight = self.facts.midnight();
        let is_doubtful = |span: &&Span| {
            let written = span.record.to.filter(|to| !to.is_date() && !to.is_end_of_day());
            span.from < span.to && span.to == midnight && written.is_some()
        };
        let counting = self.facts.versions().counting;
        let found = counting
            .iter()
            .filter(is_doubtful)
            .map(|span| (span, self.out_of_school_record(span)))
            .filter(|(_, record)| record.says(expected));
        let (span, record) = found.max_by(|(a, _), (b, _)| a.compare_versions(b))?;

        let mut cures = Vec::new();
        let including = self.facts.rules.clone().with_midnight_end(MidnightEnd::IncludesDate);
        if Span::new(span.record.clone(), &including).to > midnight {
            cures.push(Step::IncludeMidnightEnds.into());
            cures.extend((!self.would_win(&record)).then(|| self.save_again(&record)));
        }
        cures.push(self.cure(RecordKind::OutOfSchool, Some(&record), Step::ChangeEnd(record.clone())));
        let register_at = self.register_at();
        Some((Evidence::OutOfSchoolDoesNotCoverSession { record, register_at, counting: None }, cures))
    }

    /// Whether an out-of-school record would surely decide if it covered the session (R6).
    fn would_win(&self, record: &DayRecord) -> bool {
        self.winner().is_none_or(|winner| {
            winner.status == Status::NotTaken || record.record.last_updated > winner.record.last_updated
        })
    }

    /// A superseded version that lies on the date and says what is expected.
    fn superseded(&self, expected: &Expected) -> Option<Superseded> {
        let day = Window::day(self.facts.question.date);
        let Versions { counting, superseded } = self.facts.versions();
        let found = superseded
            .iter()
            .map(|old| &old.span)
            .filter(|old| old.from < old.to && old.reaches_into(day))
            .map(|old| (old, self.out_of_school_record(old)))
            .filter(|(_, record)| record.says(expected));
        let (old, record) = found.max_by(|(a, _), (b, _)| a.compare_versions(b))?;
        let versions = || counting.iter().filter(|new| new.record.id == old.record.id);
        let new = versions().max_by(|a, b| a.compare_versions(b))?;
        let is_on_date = versions().any(|new| new.reaches_into(day));
        Some(Superseded { old: record, new: self.out_of_school_record(new), is_on_date })
    }

    fn moved(&self, Superseded { old, new, .. }: Superseded) -> Found {
        let cure = self.cure(RecordKind::OutOfSchool, Some(&new), Step::MoveBack(new.clone()));
        let (register_at, counting) = (self.register_at(), Some(new));
        (Evidence::OutOfSchoolDoesNotCoverSession { record: old, register_at, counting }, vec![cure])
    }

    /// A version that no longer counts and says what is expected, if another version of the record lies on the date.
    pub(super) fn replaced(&self, expected: &Expected) -> Option<DayRecord> {
        self.superseded(expected).filter(|one| one.is_on_date).map(|one| one.old)
    }
}
