use chrono::{DateTime, Utc};

use super::engine::narrow_to_today;
use super::{AttendanceSync, SyncError};
use crate::explain::{Diagnoser, Diagnosis, Question, ShownMark};
use crate::model::Session;
use crate::rules::{Freshness, PmRule, Window};
use crate::source::{FetchRequest, SourceErrorKind};
use crate::store::MarkKey;

impl AttendanceSync {
    /// Answers «why is this mark wrong?» from a fetch of the date, wherever that lies; reads the store, writes nothing.
    ///
    /// `now` is the instant just before the fetch. The store is compared if it has recorded a run of this school.
    /// Registration periods are read too if the source gives them, so that both PM rules can be looked at.
    ///
    /// # Errors
    /// See [`SyncError`].
    pub async fn diagnose(&self, question: Question, now: DateTime<Utc>) -> Result<Diagnosis, SyncError> {
        let capabilities = self.source.capabilities();
        let mut window = Window::day(question.date);
        if capabilities.today_only {
            let today = question.window.today();
            window = narrow_to_today(today.map_or(window, |today| window.with_today(today)))?;
        }
        let freshness = Freshness::new(now, capabilities.cache_expiry);
        let start = || Diagnoser::new(self.rules, question.clone(), freshness);
        let fetch = FetchRequest::new(window).with_periods(true);
        let (mut diagnoser, _) = match self.read(&fetch, start).await {
            // The time rule works without periods.
            Err(SyncError::Source(error)) if self.can_do_without_periods(error.kind()) => {
                self.read(&fetch.with_periods(false), start).await?
            }
            read => read?,
        };
        for shown in self.shown(&question).await? {
            diagnoser.store_shows(shown);
        }
        Ok(diagnoser.finish()?)
    }

    fn can_do_without_periods(&self, failure: SourceErrorKind) -> bool {
        use SourceErrorKind::{BadRecord, Incomplete, NotAllowed, Server};
        self.rules.pm_rule() != PmRule::RegistrationPeriods
            && matches!(failure, BadRecord | Incomplete | NotAllowed | Server)
    }

    async fn shown(&self, question: &Question) -> Result<Vec<ShownMark>, SyncError> {
        let mut shown = Vec::new();
        if self.store.runs(&self.school).await?.is_empty() {
            return Ok(shown);
        }
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
