//! For the support desk: answers about one school, from a fetch and, if there is one, from the portal's store. It only
//! reads, and never writes.

mod check;

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};

pub use check::{Check, CheckEvidence, CheckName, Verdict};

use crate::codes::CodeTable;
use crate::explain::{Diagnoser, Diagnosis, MarkDifference, PmAudit, PmAuditor, Question, ShownMark, differences};
use crate::model::{Record, SchoolId, Session, setters};
use crate::rules::{Freshness, Resolver, Rules, Scope, UntakenRegister, Window};
use crate::source::{
    AttendanceSource, Completeness, FetchRequest, SourceError, SourceErrorKind, read_all, refuse_if_codes_are_missing,
};
use crate::store::{MarkKey, MarkStore, RunQuery};
use crate::sync::{SyncError, narrow_to_today};

/// Answers "why is this mark wrong?" as of now and without a store. See [`Support::diagnose`].
///
/// # Errors
/// See [`SyncError`].
pub async fn diagnose(
    source: &dyn AttendanceSource,
    rules: &Rules,
    question: &Question,
) -> Result<Diagnosis, SyncError> {
    Support::new(source, rules).diagnose(question).await
}

/// One school's source and rules, and its store if it has one.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use rollmark::explain::Question;
/// use rollmark::rules::Rules;
/// use rollmark::support::Support;
/// use rollmark::testing::{FakeSchool, FakeSource};
///
/// let today = "2026-11-20".parse()?;
/// let source = FakeSource::new(FakeSchool::demo(today));
/// let rules = Rules::new("Europe/London".parse()?);
/// let support = Support::new(&source, &rules).with_now("2026-11-20T18:00:00Z".parse()?);
/// let diagnosis = support.diagnose(&Question::about("4733683260", today)).await?;
/// println!("{}", diagnosis.sessions[0].findings[0]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Support<'a> {
    source: &'a dyn AttendanceSource,
    rules: &'a Rules,
    store: Option<(&'a dyn MarkStore, &'a SchoolId)>,
    codes: Option<&'a CodeTable>,
    now: Option<DateTime<Utc>>,
}

impl<'a> Support<'a> {
    /// The support desk of a school without a store.
    pub fn new(source: &'a dyn AttendanceSource, rules: &'a Rules) -> Self {
        Self { source, rules, store: None, codes: None, now: None }
    }

    /// Also compares with what this store holds for the school.
    #[must_use]
    pub fn with_store(mut self, store: &'a dyn MarkStore, school: &'a SchoolId) -> Self {
        self.store = Some((store, school));
        self
    }

    /// Answers "why is this mark wrong?" from a fetch of the date, even if it is outside the window.
    ///
    /// The store is compared if it has recorded a run of this school. If the caller of the last run that covered the student
    /// and date stated that the school was closed then, no mark is expected. Registration periods are read too, if the source
    /// has them, so that both PM rules can be tried.
    ///
    /// # Errors
    /// See [`SyncError`].
    pub async fn diagnose(&self, question: &Question) -> Result<Diagnosis, SyncError> {
        let now = self.now();
        let capabilities = self.source.capabilities();
        let mut window = Window::day(question.date);
        if capabilities.today_only {
            let today = question.window_at(self.rules.zone().wall_time(now).date()).today();
            window = narrow_to_today(today.map_or(window, |today| window.with_today(today)))?;
        }
        let (mut shown, mut is_closed) = (None, false);
        if let Some((store, school)) = self.store {
            if !store.runs(school, &RunQuery::all().with_newest(1)).await?.is_empty() {
                shown = Some(shown_marks(store, school, question).await?);
            }
            let last_covering = store.last_covering_run(school, &question.student, question.date).await?;
            is_closed = last_covering.is_some_and(|run| run.closed.contains(&question.date));
        }
        let freshness = Freshness::new(now, capabilities.cache_expiry);
        let start = || {
            let diagnoser = Diagnoser::new(self.rules.clone(), question.clone(), freshness);
            let diagnoser = diagnoser.with_wording(self.source.wording());
            if is_closed { diagnoser.with_school_closed() } else { diagnoser }
        };
        let (diagnoser, completeness) = self.read_with_periods(window, start).await?;
        let diagnoser = diagnoser
            .with_as_of(completeness.as_of(freshness.as_of_earliest()))
            .with_undecided_fields(completeness.undecided_fields().to_vec())
            .with_shown(shown.into_iter().flatten());
        let diagnosis = diagnoser.finish()?;
        refuse_if_codes_are_missing(self.source, diagnosis.lacks_code_table)?;
        Ok(diagnosis)
    }

    /// Finds out which PM start fits the school, from a fetch of these dates; see [`PmAuditor`]. For a source that can read
    /// only today, ask for today alone.
    ///
    /// # Errors
    /// See [`SyncError`].
    pub async fn audit_pm(&self, window: Window) -> Result<PmAudit, SyncError> {
        let (auditor, _) = self.read_with_periods(window, || PmAuditor::new(self.rules.clone(), window)).await?;
        let audit = auditor.finish()?;
        refuse_if_codes_are_missing(self.source, audit.lacks_code_table)?;
        Ok(audit)
    }

    /// "What if?": finds the marks of these dates that other rules would decide differently. For a source that can read
    /// only today, ask for today alone.
    ///
    /// # Errors
    /// See [`SyncError`].
    pub async fn what_if(&self, other: &Rules, window: Window) -> Result<Vec<MarkDifference>, SyncError> {
        let by_periods = self.rules.is_by_periods() || other.is_by_periods();
        let fetch = FetchRequest::new(window).with_zone(self.rules.zone()).with_periods(by_periods);
        let resolver = |rules: &Rules| Resolver::new(rules.clone(), Scope::all(window));
        let (Both(before, after), _) =
            read_all(self.source, &fetch, || Both(resolver(self.rules), resolver(other))).await?;
        let (before, after) = (before.finish()?, after.finish()?);
        refuse_if_codes_are_missing(self.source, before.lacks_code_table())?;
        Ok(differences(&before, &after))
    }

    /// The registers that were not taken, or not for every student, by date: a school's office asks for them daily. Only dates
    /// that have any are listed. For a source that can read only today, ask for today alone. A source that gives session marks
    /// instead of registers yields none.
    ///
    /// # Errors
    /// See [`SyncError`].
    pub async fn not_taken(&self, window: Window) -> Result<BTreeMap<NaiveDate, Vec<UntakenRegister>>, SyncError> {
        let fetch = FetchRequest::new(window).with_zone(self.rules.zone()).with_periods(self.rules.is_by_periods());
        let start = || Resolver::new(self.rules.clone(), window).with_registers_of(window.dates());
        let (resolver, _) = read_all(self.source, &fetch, start).await?;
        let register = resolver.finish()?;
        let of_date = |date| Some((date, register.not_taken(date)?)).filter(|(_, untaken)| !untaken.is_empty());
        Ok(window.dates().filter_map(of_date).collect())
    }

    fn now(&self) -> DateTime<Utc> {
        self.now.unwrap_or_else(Utc::now)
    }

    /// Reads registration periods too, if the source gives them: the time rule works without them.
    async fn read_with_periods<S: Extend<Record>>(
        &self,
        window: Window,
        start: impl Fn() -> S,
    ) -> Result<(S, Completeness), SourceError> {
        let fetch = FetchRequest::new(window).with_zone(self.rules.zone()).with_periods(true);
        match read_all(self.source, &fetch, &start).await {
            Err(error) if self.can_do_without_periods(error.kind()) => {
                read_all(self.source, &fetch.with_periods(false), &start).await
            }
            read => read,
        }
    }

    fn can_do_without_periods(&self, failure: SourceErrorKind) -> bool {
        use SourceErrorKind::{BadRecord, Incomplete, NotAllowed, Server};
        !self.rules.is_by_periods() && matches!(failure, BadRecord | Incomplete | NotAllowed | Server)
    }
}

setters!(Support<'a> {
    /// Sets the statutory table that [`check`](Self::check) compares the school's letters with.
    with_codes(codes: &'a CodeTable) => Some(codes);
    /// Sets the time of the fetch. Without it, each answer reads the clock.
    with_now(now: DateTime<Utc>) => Some(now);
});

async fn shown_marks(
    store: &dyn MarkStore,
    school: &SchoolId,
    question: &Question,
) -> Result<Vec<ShownMark>, SyncError> {
    let mut shown = Vec::new();
    for session in Session::BOTH {
        let key = MarkKey::new(&question.student, question.date, session);
        let last = store.history(school, &(&key).into()).await?.pop();
        shown.push(ShownMark {
            session,
            mark: last.as_ref().and_then(|change| change.after.as_deref().cloned()),
            since: last.map(|change| (change.run, change.seen_at)),
        });
    }
    Ok(shown)
}

/// Two collectors that take the same records.
struct Both<A, B>(A, B);

impl<A: Extend<Record>, B: Extend<Record>> Extend<Record> for Both<A, B> {
    fn extend<I: IntoIterator<Item = Record>>(&mut self, records: I) {
        for record in records {
            self.0.extend([record.clone()]);
            self.1.extend([record]);
        }
    }
}
