use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use super::{FakeSchool, TestClock};
use crate::explain::Wording;
use crate::model::{FeedTime, OutOfSchool, Record};
use crate::rules::Window;
use crate::source::{
    AttendanceSource, Capabilities, Completeness, FetchItem, FetchRequest, FetchedKind, RecordStream, SourceError,
};

/// A source in memory that behaves like a real one. Clones are the same source.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use rollmark::rules::Window;
/// use rollmark::source::{AttendanceSource, FetchRequest};
/// use rollmark::testing::{FakeSchool, FakeSource};
///
/// let mut school = FakeSchool::new();
/// school.registration("100", "4733683260", "2026-11-20T08:40:00").present();
/// let source = FakeSource::new(school);
/// source.cut_next_after(1);
/// let date = "2026-11-20".parse()?;
/// let mut items = source.fetch(&FetchRequest::new(Window::day(date))).await?;
/// assert!(items.next().await.is_some(), "a row");
/// assert!(items.next().await.is_none(), "and no verdict");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct FakeSource(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    school: FakeSchool,
    shuffle: Option<u64>,
    duplicates: bool,
    cache: Option<(TimeDelta, TestClock)>,
    replies: HashMap<(NaiveDate, NaiveDate, bool), CachedReply>,
    faults: VecDeque<Fault>,
}

/// The time at which a reply was made, and its items.
type CachedReply = (DateTime<Utc>, Vec<FetchItem>);

#[derive(Debug)]
enum Fault {
    Fail(SourceError),
    CutAfter(usize),
    BreakAfter(usize, SourceError),
}

impl FakeSource {
    /// A source that answers at once, in order and in full.
    pub fn new(school: FakeSchool) -> Self {
        Self(Arc::new(Mutex::new(State {
            school,
            shuffle: None,
            duplicates: false,
            cache: None,
            replies: HashMap::new(),
            faults: VecDeque::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends registrations and out-of-school records in another order, the same for the same seed.
    #[must_use]
    pub fn with_shuffling(self, seed: u64) -> Self {
        self.lock().shuffle = Some(seed);
        self
    }

    /// Sets whether every record is sent twice.
    #[must_use]
    pub fn with_duplicates(self, duplicates: bool) -> Self {
        self.lock().duplicates = duplicates;
        self
    }

    /// Sets a cache: for the length of `expiry` by the test's clock, the same request gets the same reply.
    #[must_use]
    pub fn with_cache(self, expiry: TimeDelta, clock: &TestClock) -> Self {
        self.lock().cache = Some((expiry, clock.clone()));
        self
    }

    /// Changes the school. Cached replies stay as they are.
    pub fn change(&self, change: impl FnOnce(&mut FakeSchool)) {
        change(&mut self.lock().school);
    }

    /// Makes the next fetch fail. Faults queue up, one for each fetch.
    pub fn fail_next(&self, error: SourceError) {
        self.lock().faults.push_back(Fault::Fail(error));
    }

    /// Makes the next fetch end after `records` records, without a verdict.
    pub fn cut_next_after(&self, records: usize) {
        self.lock().faults.push_back(Fault::CutAfter(records));
    }

    /// Makes the next fetch break off with an error after `records` records.
    pub fn break_next_after(&self, records: usize, error: SourceError) {
        self.lock().faults.push_back(Fault::BreakAfter(records, error));
    }
}

impl fmt::Display for FakeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a fake school in memory")
    }
}

impl State {
    fn capabilities(&self) -> Capabilities {
        let expiry = self.cache.as_ref().map(|(expiry, _)| *expiry);
        let gives_session_marks = !self.school.session_marks().is_empty();
        Capabilities::new().with_session_marks(gives_session_marks).with_cache_expiry(expiry.unwrap_or_default())
    }

    fn reply(&mut self, request: &FetchRequest) -> Vec<FetchItem> {
        let key = (request.window().from(), request.window().to(), request.periods());
        if let Some((expiry, clock)) = &self.cache
            && let Some((at, reply)) = self.replies.get(&key)
            && clock.now() < *at + *expiry
        {
            return reply.clone();
        }
        let reply = self.answer(request);
        if let Some((_, clock)) = &self.cache {
            self.replies.insert(key, (clock.now(), reply.clone()));
        }
        reply
    }

    fn answer(&self, request: &FetchRequest) -> Vec<FetchItem> {
        let window = request.window();
        let twice = |record: Record| std::iter::repeat_n(record, if self.duplicates { 2 } else { 1 });
        let is_asked = |record: &Record| match record {
            Record::Code(_) => true,
            Record::Period(period) => request.periods() && is_in(period.at, window),
            Record::Registration(row) => is_in(row.at, window),
            Record::OutOfSchool(record) => may_overlap(record, window),
            Record::SessionMark(mark) => window.contains(mark.date),
        };
        let all = self.school.records().filter(is_asked).flat_map(twice);
        let (first, mut rows): (Vec<Record>, Vec<Record>) =
            all.partition(|record| matches!(record, Record::Code(_) | Record::Period(_)));
        if let Some(seed) = self.shuffle {
            shuffle(&mut rows, seed);
        }
        let count = |kind| {
            let of_kind = |record: &&Record| kind_of(record) == kind;
            first.iter().chain(&rows).filter(of_kind).count() as u64
        };
        let kinds = [FetchedKind::Codes].into_iter().chain(self.capabilities().needed(request.periods()));
        let verdict = Completeness::whole(window, kinds.map(|kind| (kind, count(kind))));
        // One by one, so that a fetch can break off after any of them.
        let records = first.into_iter().chain(rows).map(|record| FetchItem::Records([record].into_iter().collect()));
        records.chain([FetchItem::Complete(verdict)]).collect()
    }
}

fn kind_of(record: &Record) -> FetchedKind {
    match record {
        Record::Code(_) => FetchedKind::Codes,
        Record::Period(_) => FetchedKind::Periods,
        Record::Registration(_) => FetchedKind::Registrations,
        Record::OutOfSchool(_) => FetchedKind::OutOfSchool,
        Record::SessionMark(_) => FetchedKind::SessionMarks,
    }
}

/// A source knows its school's time zone; the fake lets a time with an offset through if it can lie in the window.
fn is_in(time: FeedTime, window: Window) -> bool {
    let days = if matches!(time, FeedTime::Offset(_)) { -1..=1 } else { 0..=0 };
    days.into_iter().any(|days| window.contains((time.as_written() + TimeDelta::days(days)).date()))
}

fn may_overlap(record: &OutOfSchool, window: Window) -> bool {
    let wide = TimeDelta::days(1);
    let from = record.from.as_written();
    let starts_after = (from - wide).date() > window.to();
    let ends_before =
        record.to.map(FeedTime::as_written).is_some_and(|to| to > from && (to + wide).date() < window.from());
    !starts_after && !ends_before
}

/// Shuffles into the same order for the same seed, on every machine (a linear congruential generator and Fisher–Yates).
pub(super) fn shuffle<T>(rows: &mut [T], mut seed: u64) {
    for last in (1..rows.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let other = (seed >> 33) as usize % (last + 1);
        rows.swap(last, other);
    }
}

#[async_trait]
impl AttendanceSource for FakeSource {
    fn capabilities(&self) -> Capabilities {
        self.lock().capabilities()
    }

    fn wording(&self) -> Wording {
        Wording::for_api_key()
    }

    async fn fetch(&self, request: &FetchRequest) -> Result<RecordStream, SourceError> {
        request.counters().add_request();
        let mut state = self.lock();
        let fault = state.faults.pop_front();
        let mut items: Vec<Result<FetchItem, SourceError>> = match fault {
            Some(Fault::Fail(error)) => return Err(error),
            _ => state.reply(request).into_iter().map(Ok).collect(),
        };
        match fault {
            Some(Fault::CutAfter(records)) => items.truncate(records.min(items.len().saturating_sub(1))),
            Some(Fault::BreakAfter(records, error)) => {
                items.truncate(records.min(items.len().saturating_sub(1)));
                items.push(Err(error));
            }
            _ => {}
        }
        Ok(RecordStream::new(futures::stream::iter(items)))
    }
}
