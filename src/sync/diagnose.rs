use chrono::{DateTime, Utc};

use super::engine::narrow_to_today;
use super::{AttendanceSync, SyncError};
use crate::explain::{Diagnoser, Diagnosis, MarkDifference, PmAudit, PmAuditor, Question, ShownMark, differences};
use crate::model::{Record, Session};
use crate::rules::{Freshness, PmRule, Resolver, Rules, Scope, Window};
use crate::source::{Completeness, FetchRequest, SourceError, SourceErrorKind};
use crate::store::MarkKey;

impl AttendanceSync {
    /// Answers "why is this mark wrong?" from a fetch of the date, wherever that lies; reads the store, writes nothing.
    ///
    /// `now` is the instant just before the fetch. The store is compared if it has recorded a run of this school. Where the
    /// last run that covered the student and date was told that the school was closed on that date, no mark is expected.
    /// Registration periods are read too if the source gives them, so that both PM rules can be looked at.
    ///
    /// # Errors
    /// See [`SyncError`].
    pub async fn diagnose(&self, question: Question, now: DateTime<Utc>) -> Result<Diagnosis, SyncError> {
        let capabilities = self.source.capabilities();
        let mut window = Window::day(question.date);
        if capabilities.today_only {
            let today = question.window_at(self.rules.zone().wall_time(now).date()).today();
            window = narrow_to_today(today.map_or(window, |today| window.with_today(today)))?;
        }
        let freshness = Freshness::new(now, capabilities.cache_expiry);
        let runs = self.store.runs(&self.school).await?;
        let last_covering = runs.iter().rev().find(|run| run.scope.contains(&question.student, question.date));
        let is_closed = last_covering.is_some_and(|run| run.closed.contains(&question.date));
        let start = || {
            let diagnoser = Diagnoser::new(self.rules.clone(), question.clone(), freshness);
            let diagnoser = diagnoser.with_wording(self.source.wording());
            if is_closed { diagnoser.with_school_closed() } else { diagnoser }
        };
        let (mut diagnoser, completeness) = self.read_with_periods(window, start).await?;
        diagnoser = diagnoser.with_undecided_fields(completeness.undecided_fields().to_vec());
        if !runs.is_empty() {
            diagnoser = diagnoser.with_shown(self.shown(&question).await?);
        }
        let diagnosis = diagnoser.finish()?;
        self.refuse_if(diagnosis.lacks_code_table)?;
        Ok(diagnosis)
    }

    /// Which PM start fits the school, from a fetch of these dates; see [`PmAuditor`]. A source that reaches today only can
    /// be asked for today alone.
    ///
    /// # Errors
    /// See [`SyncError`].
    pub async fn audit_pm(&self, window: Window) -> Result<PmAudit, SyncError> {
        let (auditor, _) = self.read_with_periods(window, || PmAuditor::new(self.rules.clone(), window)).await?;
        let audit = auditor.finish()?;
        self.refuse_if(audit.lacks_code_table)?;
        Ok(audit)
    }

    /// "What if?": the marks of these dates that other rules would decide differently. A source that reaches today only can
    /// be asked for today alone.
    ///
    /// # Errors
    /// See [`SyncError`].
    pub async fn what_if(&self, other: Rules, window: Window) -> Result<Vec<MarkDifference>, SyncError> {
        let by_periods = [&self.rules, &other].iter().any(|rules| rules.pm() == PmRule::RegistrationPeriods);
        let fetch = FetchRequest::new(window).with_zone(self.rules.zone()).with_periods(by_periods);
        let resolver = |rules: &Rules| Resolver::new(rules.clone(), Scope::all(window));
        let start = || Both(resolver(&self.rules), resolver(&other));
        let (Both(before, after), _) = self.read(&fetch, start).await?;
        let (before, after) = (before.finish()?, after.finish()?);
        self.refuse_if(before.lacks_code_table())?;
        Ok(differences(&before, &after))
    }

    /// Reads registration periods too, if the source gives them: the time rule works without.
    async fn read_with_periods<S: Extend<Record>>(
        &self,
        window: Window,
        start: impl Fn() -> S,
    ) -> Result<(S, Completeness), SourceError> {
        let fetch = FetchRequest::new(window).with_zone(self.rules.zone()).with_periods(true);
        match self.read(&fetch, &start).await {
            Err(error) if self.can_do_without_periods(error.kind()) => {
                self.read(&fetch.with_periods(false), &start).await
            }
            read => read,
        }
    }

    fn can_do_without_periods(&self, failure: SourceErrorKind) -> bool {
        use SourceErrorKind::{BadRecord, Incomplete, NotAllowed, Server};
        self.rules.pm() != PmRule::RegistrationPeriods
            && matches!(failure, BadRecord | Incomplete | NotAllowed | Server)
    }

    async fn shown(&self, question: &Question) -> Result<Vec<ShownMark>, SyncError> {
        let mut shown = Vec::new();
        for session in Session::BOTH {
            let key = MarkKey { student: question.student.clone(), date: question.date, session };
            let last = self.store.history(&self.school, &key).await?.pop();
            shown.push(ShownMark {
                session,
                mark: last.as_ref().and_then(|change| change.after.as_deref().cloned()),
                since: last.map(|change| (change.run, change.seen_at)),
            });
        }
        Ok(shown)
    }
}

/// Two resolvers of the same records.
struct Both(Resolver, Resolver);

impl Extend<Record> for Both {
    fn extend<I: IntoIterator<Item = Record>>(&mut self, records: I) {
        for record in records {
            self.0.push(record.clone());
            self.1.push(record);
        }
    }
}
