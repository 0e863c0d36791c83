//! An example of a portal built on rollmark: a sync, a store, a page for a student's parents and one for the office.
//!
//! A real portal signs people in, and shows parents only their own children. That is left out here.

mod pages;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use axum::extract::{Path as Segment, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use chrono::{DateTime, Datelike, Months, NaiveDate, TimeDelta, Utc};
use maud::Markup;
use rollmark::codes::{CodeTable, SettlingPolicy, Summary};
use rollmark::explain::Question;
use rollmark::isams::Batch;
use rollmark::model::{Mark, SchoolId, Session, StudentId};
use rollmark::rules::{Rules, Scope, UntakenRegister, Window};
use rollmark::store::{HistoryQuery, MarkStore, SqliteStore};
use rollmark::support::{Check, Support};
use rollmark::sync::{AttendanceSync, SyncReport, SyncRequest};
use rollmark::testing::{FakeSchool, simulator::Simulator};
use tokio::sync::RwLock;

/// An error of any kind.
pub type Failure = Box<dyn Error + Send + Sync>;

/// A portal of one made-up school.
pub struct Portal {
    /// The school's management system.
    pub system: Simulator,
    source: Arc<Batch>,
    store: Arc<SqliteStore>,
    school: SchoolId,
    rules: Rules,
    codes: CodeTable,
    policy: SettlingPolicy,
    now: fn() -> DateTime<Utc>,
    office: RwLock<Option<Arc<Office>>>,
}

/// What the office should know from the last sync.
struct Office {
    report: SyncReport,
    untaken: Vec<UntakenRegister>,
    checks: Vec<Check>,
}

/// A student's marks with their reasons, by date and session, and the earliest moment that each can show.
type Marks = BTreeMap<(NaiveDate, Session), (Arc<Mark>, DateTime<Utc>)>;

impl Portal {
    /// Starts the made-up school, and syncs it into a store in this folder.
    pub async fn start(folder: &Path, now: fn() -> DateTime<Utc>) -> Result<Arc<Self>, Failure> {
        let rules = Rules::new("Europe/London".parse()?);
        let system = Simulator::start(FakeSchool::demo(rules.zone().wall_time(now()).date())).await?;
        let portal = Arc::new(Self {
            source: Arc::new(Batch::new(&system.url(), system.api_key())?.with_cache_expiry(TimeDelta::hours(4))),
            store: Arc::new(SqliteStore::open(folder.join("marks.db"))?),
            school: SchoolId::new("school"),
            codes: CodeTable::england(),
            policy: SettlingPolicy::new(rules.zone().clone()),
            system,
            rules,
            now,
            office: RwLock::default(),
        });
        portal.sync().await?;
        Ok(portal)
    }

    /// Syncs, as a portal does every night, and when the office asks for it.
    pub async fn sync(&self) -> Result<(), Failure> {
        let request = SyncRequest::overnight(self.today()).with_now((self.now)());
        let window = request.scope().window();
        let (source, store) = (Arc::clone(&self.source), Arc::clone(&self.store));
        let report = AttendanceSync::new(source, store, &self.school, self.rules.clone()).run(request).await?;
        let checks = self.support().check(window).await?;
        let mut untaken = self.support().not_taken(Window::day(self.today())).await?;
        let untaken = untaken.remove(&self.today()).unwrap_or_default();
        *self.office.write().await = Some(Arc::new(Office { report, untaken, checks }));
        Ok(())
    }

    fn today(&self) -> NaiveDate {
        self.rules.zone().wall_time((self.now)()).date()
    }

    fn support(&self) -> Support<'_> {
        Support::new(&self.source, &self.rules).with_store(&self.store, &self.school).with_now((self.now)())
    }

    /// The portal's pages.
    pub fn router(self: &Arc<Self>) -> axum::Router {
        axum::Router::new()
            .route("/", get(office))
            .route("/sync", post(sync))
            .route("/why", get(why))
            .route("/students/{student}", get(month))
            .route("/style.css", get(([(header::CONTENT_TYPE, "text/css")], include_str!("../style.css"))))
            .with_state(Arc::clone(self))
    }
}

/// A failure, which can be shown: neither the store nor the source names a pupil in it.
struct Problem(Failure);

impl<E: Into<Failure>> From<E> for Problem {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, pages::problem(&self.0.to_string())).into_response()
    }
}

type Asked = Query<BTreeMap<String, String>>;

async fn sync(State(portal): State<Arc<Portal>>) -> Result<Redirect, Problem> {
    portal.sync().await?;
    Ok(Redirect::to("/"))
}

async fn office(State(portal): State<Arc<Portal>>) -> Result<Markup, Problem> {
    let office = portal.office.read().await.clone().ok_or("no sync has run yet")?;
    let marks = portal.store.read(&portal.school, &Scope::all(Window::day(portal.today()))).await?;
    let mut students: Vec<&StudentId> = marks.marks().iter().map(|stored| &stored.key.student).collect();
    students.dedup();
    Ok(pages::office(&portal, &office, &students))
}

async fn why(State(portal): State<Arc<Portal>>, Query(asked): Asked) -> Result<Markup, Problem> {
    let get = |name: &str| asked.get(name).map_or("", |value| value.trim());
    let mut question = Question::about(get("student"), get("date").parse()?);
    question.expected = Some(get("expected")).filter(|code| !code.is_empty()).map(str::parse).transpose()?;
    Ok(pages::why(&portal.support().diagnose(&question).await?))
}

async fn month(
    State(portal): State<Arc<Portal>>,
    Segment(student): Segment<StudentId>,
    Query(asked): Asked,
) -> Result<Markup, Problem> {
    let asked = asked.get("month").map(|month| format!("{month}-01").parse()).transpose()?;
    let first = asked.unwrap_or(portal.today()).with_day(1).ok_or("there is no such month")?;
    let last = (first + Months::new(1)).pred_opt().ok_or("there is no such month")?;
    let scope = Scope::all(Window::between(first, last)?).with_students([&student]);
    let snapshot = portal.store.read(&portal.school, &scope).await?;
    // A mark's reason is in its last change.
    let changes = portal.store.history(&portal.school, &HistoryQuery::new(scope.clone())).await?;
    let mut reasons: BTreeMap<_, _> = changes.into_iter().map(|change| (change.key, change.after)).collect();
    let shown = snapshot.marks().iter().filter_map(|stored| {
        let mark = reasons.remove(&stored.key).flatten()?;
        Some(((stored.key.date, stored.key.session), (mark, stored.as_of_earliest)))
    });
    let summary = Summary::of(&portal.codes, scope.window(), snapshot.marks())
        .with_students([&student])
        .with_sessions_held(portal.store.sessions_held(&portal.school, scope.window()).await?);
    Ok(pages::month(&portal, &student, &summary, &shown.collect()))
}
