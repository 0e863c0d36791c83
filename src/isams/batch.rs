//! The Batch API: what is asked for, in which parts, and how a reply is accepted.

use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{Days, NaiveDate, TimeDelta};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use reqwest::{Response, Url, header};
use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_util::io::{StreamReader, SyncIoBridge};
use tracing::Span;
use tracing::field::display;

use super::FieldNames;
use super::auth::{Credentials, TokenScope};
use super::body::{read_error, too_many, web_page};
use super::fields::{Item, record};
use super::message::{Message, hidden};
use super::reply::{Nothing, Sink};
use super::settings::{Tenant, stream, tenant_methods};
use super::transport::{self, Attempt, Budget, Failed, out_of_time};
use super::undecided::Undecided;
use super::vocabulary::{container_name, contents_of, method_of};
use super::{json, xml};
use crate::explain::Wording;
use crate::model::Record;
use crate::source::{
    AttendanceSource, Capabilities, Completeness, FetchItem, FetchRequest, FetchedKind, Part, RecordBatch,
    RecordStream, SourceError, SourceErrorKind,
};

/// In which form the Batch API answers; the data are the same (verified).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// `xml.ashx`
    #[default]
    Xml,
    /// `json.ashx`
    Json,
}

/// A school's iSAMS, read over the Batch API: registers, out-of-school records, periods and codes of any dates.
///
/// ```
/// use chrono::TimeDelta;
/// use rollmark::isams::Batch;
///
/// let source = Batch::new("https://school.isams.cloud", "00000000-0000-0000-0000-000000000000")?
///     .with_cache_expiry(TimeDelta::hours(6));
/// assert_eq!(source.to_string(), "iSAMS at school.isams.cloud");
/// # Ok::<(), rollmark::source::SourceError>(())
/// ```
#[derive(Clone)]
pub struct Batch {
    pub(super) tenant: Tenant,
    pub(super) format: Format,
    pub(super) names: FieldNames,
    ignored_fields: Vec<String>,
    cache_expiry: TimeDelta,
    max_held_bytes: u64,
    suspicious_rows: Option<u64>,
    look_back_days: u32,
    slice_days: Option<u32>,
    /// A large reply was found to be cut after rows of it were out. The next fetch, which starts again from the beginning,
    /// asks day by day at once; clones remember it together.
    asks_by_day: Arc<AtomicBool>,
}

impl Batch {
    /// The Batch API with an API key. The address's path, if it has one, comes before the API's.
    ///
    /// # Errors
    /// The address is no URL, or is plain http to another host than this machine.
    pub fn new(url: &str, api_key: impl Into<String>) -> Result<Self, SourceError> {
        let url = transport::parse_url(url)?;
        Self::reading(url, Credentials::Key(SecretString::from(api_key.into().trim())))
    }

    /// The Batch API with an OAuth client (scope `apiv1`). Its token is fetched when it is needed, renewed ahead of its end,
    /// and fetched anew if it is refused.
    ///
    /// # Errors
    /// The address is no URL, or is plain http to another host than this machine.
    pub fn for_client(
        url: &str,
        client_id: impl Into<String>,
        client_secret: impl Into<String>,
    ) -> Result<Self, SourceError> {
        let url = transport::parse_url(url)?;
        let credentials = Credentials::client(&url, TokenScope::Batch, client_id.into(), client_secret.into());
        Self::reading(url, credentials)
    }

    fn reading(url: Url, credentials: Credentials) -> Result<Self, SourceError> {
        Ok(Self {
            tenant: Tenant::new(url, credentials, true)?,
            format: Format::Xml,
            names: FieldNames::default(),
            ignored_fields: Vec::new(),
            cache_expiry: TimeDelta::hours(24),
            max_held_bytes: 512 << 20,
            suspicious_rows: Some(2_000),
            look_back_days: 180,
            slice_days: None,
            asks_by_day: Arc::default(),
        })
    }

    /// Sets in which form the Batch API answers. The default is XML, the only one in which a missing container shows.
    #[must_use]
    pub fn with_format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// Sets what the key's cache expiry is set to in iSAMS. The default is iSAMS's own: 24 hours.
    #[must_use]
    pub fn with_cache_expiry(mut self, expiry: TimeDelta) -> Self {
        self.cache_expiry = expiry;
        self
    }

    /// Sets how many bytes a fetch may hold: about what a sync holds of its records. That is the texts of all records, and
    /// for each out-of-school record four times its size besides. The default is 512 MiB.
    #[must_use]
    pub fn with_max_held_bytes(mut self, most: u64) -> Self {
        self.max_held_bytes = most;
        self
    }

    /// Sets the number of rows at which a reply is suspected to be cut (assumed: 2,000); `None` suspects nothing.
    #[must_use]
    pub fn with_suspicious_rows(mut self, rows: Option<u64>) -> Self {
        self.suspicious_rows = rows;
        self
    }

    /// Sets how many days before the window out-of-school records are asked for (assumed to be filtered by their
    /// beginning). The default is 180.
    #[must_use]
    pub fn with_look_back_days(mut self, days: u32) -> Self {
        self.look_back_days = days;
        self
    }

    /// Sets in slices of how many days (at least 1) the API is asked for a window, 3 slices at a time; `None`, the default,
    /// asks for the whole window at once.
    #[must_use]
    pub fn with_slice_days(mut self, days: Option<u32>) -> Self {
        self.slice_days = days;
        self
    }

    /// Sets under which names the fields of each record are looked for.
    #[must_use]
    pub fn with_field_names(mut self, names: FieldNames) -> Self {
        self.names = names;
        self
    }

    /// Names fields that decide nothing. A field of out-of-school records that no list of [`FieldNames`] has and that looks
    /// like a time of update or a code stops a fetch where no record has one under a listed name, unless it is named here.
    #[must_use]
    pub fn with_ignored_fields(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.ignored_fields = names.into_iter().map(Into::into).collect();
        self
    }
}

tenant_methods!(Batch, "Batch");

#[async_trait]
impl AttendanceSource for Batch {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new().with_code_table(self.tenant.has_code_table).with_cache_expiry(self.cache_expiry)
    }

    fn wording(&self) -> Wording {
        wording()
    }

    async fn fetch(&self, request: &FetchRequest) -> Result<RecordStream, SourceError> {
        Ok(stream(|sender| Fetch::new(Arc::new(self.clone()), request.clone(), sender).run()))
    }
}

/// What iSAMS's things are called.
pub(super) fn wording() -> Wording {
    Wording::for_api_key().with_code_table("code table (RegistrationCodes)")
}

/// A reply up to this size is read whole before a row of it is let out, so it can be asked for again or in parts.
const SMALL: usize = 4 << 20;
/// Records that go out together.
const BATCH: usize = 256;
/// Requests under way at the same time.
const AT_ONCE: usize = 3;

type Sender = mpsc::Sender<FetchItem>;

/// One request: which kinds, over which dates.
#[derive(Clone, Debug)]
struct Ask {
    kinds: Vec<FetchedKind>,
    from: NaiveDate,
    to: NaiveDate,
    /// How many days earlier out-of-school records are asked for.
    look_back: u32,
}

impl Ask {
    fn start_of(&self, kind: FetchedKind) -> NaiveDate {
        let days = if kind == FetchedKind::OutOfSchool { self.look_back } else { 0 };
        self.from.checked_sub_days(Days::new(days.into())).unwrap_or(self.from)
    }

    /// How many days are asked for.
    fn days(&self, kind: FetchedKind) -> u64 {
        (self.to - self.start_of(kind)).num_days().unsigned_abs() + 1
    }

    /// The parts to ask for instead; none of a single day.
    fn split(&self) -> Vec<Self> {
        let mut parts = self.look_back_part();
        let days = (self.to - self.from).num_days();
        if days > 0 {
            let middle = self.from + chrono::TimeDelta::days(days / 2);
            let second = middle.succ_opt().unwrap_or(self.to);
            for (from, to) in [(self.from, middle), (second, self.to)] {
                parts.push(Self { kinds: self.kinds.clone(), from, to, look_back: 0 });
            }
        } else if !parts.is_empty() {
            parts.push(Self { look_back: 0, ..self.clone() });
        }
        parts
    }

    /// The same in slices of so many days.
    fn slices(&self, days: u32) -> Vec<Self> {
        let mut parts = self.look_back_part();
        let mut from = self.from;
        while from <= self.to {
            let last = from.checked_add_days(Days::new(u64::from(days.max(1)) - 1)).unwrap_or(self.to);
            let to = last.min(self.to);
            parts.push(Self { kinds: self.kinds.clone(), from, to, look_back: 0 });
            let Some(next) = to.succ_opt() else { break };
            from = next;
        }
        parts
    }

    /// The days before the range, as a part of their own.
    fn look_back_part(&self) -> Vec<Self> {
        if self.look_back == 0 || !self.kinds.contains(&FetchedKind::OutOfSchool) {
            return Vec::new();
        }
        let to = self.from.pred_opt().unwrap_or(self.from);
        let from = self.start_of(FetchedKind::OutOfSchool);
        vec![Self { kinds: vec![FetchedKind::OutOfSchool], from, to, look_back: 0 }]
    }

    /// The end date is taken for exclusive (assumed).
    fn body(&self) -> String {
        let end = self.to.succ_opt().unwrap_or(self.to);
        let method = |kind: &FetchedKind| {
            let method = method_of(*kind)?;
            Some((method.name, method.filter.map(|filter| (filter, self.start_of(*kind), end))))
        };
        body(self.kinds.iter().filter_map(method))
    }
}

/// The documented body (verified): methods, each with its filter element, start date and end date.
pub(super) fn body<'a>(asked: impl Iterator<Item = (&'a str, Option<(&'a str, NaiveDate, NaiveDate)>)>) -> String {
    let mut methods = String::new();
    let mut filters = String::new();
    for (method, filter) in asked {
        let _ = write!(methods, "<Method>Registration_{method}</Method>");
        if let Some((filter, start, end)) = filter {
            let _ = write!(filters, r#"<{filter} StartDate="{start}" EndDate="{end}" />"#);
        }
    }
    let filters = if filters.is_empty() { filters } else { format!("<Registration>{filters}</Registration>") };
    format!(
        r#"<?xml version="1.0" encoding="utf-8"?><Filters><MethodsToRun>{methods}</MethodsToRun>{filters}</Filters>"#
    )
}

/// Sends a request with this body; the answer's status is a success. With it comes what must not show in a message.
pub(super) async fn send(
    batch: &Batch,
    body: String,
    attempt: &Attempt,
) -> Result<(Response, Vec<SecretString>), Failed> {
    let page = match batch.format {
        Format::Xml => "xml.ashx",
        Format::Json => "json.ashx",
    };
    let request = batch.tenant.request(["api", "batch", "1.0", page]);
    let request = request.header(header::CONTENT_TYPE, "application/xml").body(body);
    let (response, secrets) = batch.tenant.send(request, attempt).await?;
    let (status, headers) = (response.status(), response.headers().clone());
    if status.is_success() {
        return Ok((response, secrets));
    }
    // A body that breaks off takes nothing from what the status says.
    let body = transport::whole(response, SMALL as u64, attempt).await.unwrap_or_default();
    let read = read(batch.format, body.as_slice(), &mut Nothing);
    let is_page = read.as_ref().is_err_and(|error| error.to_string() == web_page().to_string());
    Err(transport::failure(status, &headers, read.unwrap_or_default(), is_page, &secrets).into())
}

/// Reads one reply. A message of the API in it is given back, whatever else there is.
pub(super) fn read(format: Format, body: impl Read, sink: &mut impl Sink) -> Result<Option<Message>, SourceError> {
    match format {
        Format::Xml => xml::read(body, sink),
        Format::Json => json::read(body, sink),
    }
}

/// What a reply held.
#[derive(Debug)]
struct Reply {
    /// Rows of each container that was there.
    rows: Vec<(FetchedKind, u64)>,
    message: Option<Message>,
    /// The records, unless they were let out already.
    records: RecordBatch,
    learned: Learned,
    held: Held,
}

/// What is held of a reply, in bytes; it counts among its fetch's until the reply is thrown away.
#[derive(Debug)]
struct Held {
    own: u64,
    of_fetch: Arc<AtomicU64>,
}

impl Held {
    fn add(&mut self, bytes: u64, most: u64) -> Result<(), SourceError> {
        self.own += bytes;
        if self.of_fetch.fetch_add(bytes, Ordering::Relaxed) + bytes <= most {
            return Ok(());
        }
        let message = format!(
            "the records take more than {most} bytes, so reading stopped there; ask for fewer days, or raise max_held_bytes"
        );
        Err(SourceError::new(SourceErrorKind::TooLarge, message))
    }

    /// The reply is accepted.
    fn keep(mut self) {
        self.own = 0;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of_fetch.fetch_sub(self.own, Ordering::Relaxed);
    }
}

/// What the accepted replies of a fetch tell beside their records.
#[derive(Debug, Default)]
struct Learned {
    /// The ids and letters of the code table.
    codes: BTreeSet<Box<str>>,
    undecided: Undecided,
}

pub(super) struct Fetch {
    batch: Arc<Batch>,
    request: FetchRequest,
    sender: Sender,
    budget: Budget,
    /// The ids and letters of the code table, once it is read.
    codes: Arc<BTreeSet<Box<str>>>,
    /// About what a sync holds of all records, in bytes.
    held: Arc<AtomicU64>,
}

impl Fetch {
    pub(super) fn new(batch: Arc<Batch>, request: FetchRequest, sender: Sender) -> Self {
        let budget = Budget::new(batch.tenant.total_deadline, request.counters().clone(), request.began().into());
        Self { batch, request, sender, budget, codes: Arc::default(), held: Arc::default() }
    }

    /// Everything that the request asks for, then the verdict.
    pub(super) async fn run(mut self) -> Result<(), SourceError> {
        let window = self.request.window();
        let mut parts = Vec::new();
        let tables =
            [(FetchedKind::Codes, self.batch.tenant.has_code_table), (FetchedKind::Periods, self.request.periods())];
        let tables: Vec<_> = tables.into_iter().filter_map(|(kind, is_needed)| is_needed.then_some(kind)).collect();
        // Codes and periods come first, so that a registration is understood as it arrives.
        if !tables.is_empty() {
            let tables = Ask { kinds: tables, from: window.from(), to: window.to(), look_back: 0 };
            self.codes = Arc::new(self.read(vec![tables], &mut parts).await?.codes);
        }
        let undecided = self.read(self.rows(), &mut parts).await?.undecided.names()?;
        let verdict = parts.into_iter().fold(Completeness::new(), Completeness::with_part);
        self.send(FetchItem::Complete(verdict.with_undecided_fields(undecided))).await;
        Ok(())
    }

    /// The requests for registrations and out-of-school records.
    fn rows(&self) -> Vec<Ask> {
        let window = self.request.window();
        let kinds = vec![FetchedKind::Registrations, FetchedKind::OutOfSchool];
        let whole = Ask { kinds, from: window.from(), to: window.to(), look_back: self.batch.look_back_days };
        match self.batch.slice_days {
            _ if self.batch.asks_by_day.load(Ordering::Relaxed) => whole.slices(1),
            Some(days) => whole.slices(days),
            None => vec![whole],
        }
    }

    /// Asks for all parts, a few at a time; a part that looks cut is asked for again in smaller ones.
    async fn read(&self, mut waiting: Vec<Ask>, parts: &mut Vec<Part>) -> Result<Learned, SourceError> {
        let mut learned = Learned::default();
        waiting.reverse();
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < AT_ONCE
                && let Some(ask) = waiting.pop()
            {
                running.push(self.ask(ask));
            }
            let Some(answered) = running.next().await else { return Ok(learned) };
            let (reply, ask) = answered?;
            if let Some(kind) = self.suspect(&reply) {
                let smaller = ask.split();
                if smaller.is_empty() || kind == FetchedKind::Codes {
                    return Err(self.cut(kind, &ask));
                }
                waiting.extend(smaller.into_iter().rev());
                continue;
            }
            for kind in &ask.kinds {
                let rows = reply.rows.iter().find(|(found, _)| found == kind).map_or(0, |(_, rows)| *rows);
                parts.push(Part::new(*kind, ask.start_of(*kind), ask.to, rows));
            }
            reply.held.keep();
            learned.codes.extend(reply.learned.codes);
            learned.undecided.add(reply.learned.undecided);
            self.send(FetchItem::Records(reply.records)).await;
        }
    }

    /// Where nobody listens any more, the whole fetch was dropped.
    async fn send(&self, item: FetchItem) {
        let _ = self.sender.send(item).await;
    }

    /// The container that looks cut, the code table first: it can't be asked for in parts.
    fn suspect(&self, reply: &Reply) -> Option<FetchedKind> {
        let is_cut = |rows: u64| rows > 0 && self.batch.suspicious_rows == Some(rows);
        let cut = reply.rows.iter().filter(|(_, rows)| is_cut(*rows)).map(|(kind, _)| *kind);
        cut.max_by_key(|kind| *kind == FetchedKind::Codes)
    }

    /// What looks cut and can't be asked for in smaller parts.
    fn cut(&self, kind: FetchedKind, ask: &Ask) -> SourceError {
        let what = match kind {
            FetchedKind::Codes => "the code table".to_owned(),
            _ => format!("the reply for {}", ask.from),
        };
        SourceError::new(
            SourceErrorKind::Incomplete,
            format!(
                "{what} has exactly {} rows in {}, at which iSAMS may cut; if there really are so many, set suspicious_rows \
                 to another number, or to none",
                self.batch.suspicious_rows.unwrap_or_default(),
                container_name(kind)
            ),
        )
    }

    async fn ask(&self, ask: Ask) -> Result<(Reply, Ask), SourceError> {
        let reply = self.budget.retry(&self.batch.tenant.url, |attempt| self.attempt(&ask, attempt)).await?;
        Ok((reply, ask))
    }

    async fn attempt(&self, ask: &Ask, attempt: Attempt) -> Result<Reply, Failed> {
        let batch = &self.batch;
        let span = attempt.span.clone();
        span.record("from", display(ask.from)).record("to", display(ask.to));
        let (response, secrets) = send(batch, ask.body(), &attempt).await?;
        let status = response.status().as_u16();
        let mut chunks = transport::chunks(response, batch.tenant.max_bytes, attempt);

        let mut beginning: Vec<Bytes> = Vec::new();
        let mut length = 0;
        let mut is_whole = false;
        while length <= SMALL {
            match chunks.next().await {
                Some(chunk) => {
                    let chunk = chunk.map_err(|error| read_error(&error))?;
                    length += chunk.len();
                    beginning.push(chunk);
                }
                None => {
                    is_whole = true;
                    break;
                }
            }
        }
        if is_whole && length == 0 {
            let message = "the reply is empty; check the address and the key's methods";
            return Err(SourceError::new(SourceErrorKind::BadReply, message).into());
        }
        let parsed = if is_whole {
            self.parse(std::io::Cursor::new(beginning.concat()), ask, None).await
        } else {
            // Dropping the fetch ends the reading, which waits on a thread of its own.
            let sender = self.sender.clone();
            let dropped = async move { sender.closed().await };
            let all = futures::stream::iter(beginning.into_iter().map(Ok)).chain(chunks).take_until(dropped.boxed());
            let body = SyncIoBridge::new(StreamReader::new(Box::pin(all)));
            self.parse(body, ask, Some(self.sender.clone())).await
        };
        // An error can name fields, and the tenant can call them anything.
        let mut reply = parsed
            .map_err(|failed| Failed { error: failed.error.reworded(|message| hidden(message, &secrets)), ..failed })?;
        span.record("rows", reply.rows.iter().map(|(_, rows)| rows).sum::<u64>());
        reply.learned.undecided.forget(|name| hidden(name, &secrets) != name);
        if let Some(message) = reply.message {
            return Err(Failed { error: message.into_error(status, &secrets), rows_are_out: !is_whole });
        }
        // In JSON an empty container can be left out (verified), so that nothing tells it from one that is missing.
        let must_be_there = if batch.format == Format::Xml { &*ask.kinds } else { &[] };
        if let Some(missing) = must_be_there.iter().find(|kind| !reply.rows.iter().any(|(found, _)| found == *kind)) {
            let cure = match missing {
                FetchedKind::Codes => {
                    "let the API key read the code table, or say that there is none (--no-code-table, with_code_table)"
                }
                _ => "check the key's methods",
            };
            let container = container_name(*missing);
            return Err(Failed {
                error: SourceError::new(
                    SourceErrorKind::Incomplete,
                    format!("the reply has no {container}, although the {missing} were asked for; {cure}"),
                ),
                rows_are_out: !is_whole,
            });
        }
        if let Some(kind) = self.suspect(&reply).filter(|_| !is_whole) {
            let error = self.cut(kind, ask);
            if ask.split().is_empty() || kind == FetchedKind::Codes {
                return Err(Failed { error, rows_are_out: true });
            }
            // The whole fetch starts again, day by day.
            batch.asks_by_day.store(true, Ordering::Relaxed);
            let error = SourceError::temporary(error.kind(), error.to_string());
            return Err(Failed { error, rows_are_out: true });
        }
        Ok(reply)
    }

    /// Parses on a thread where waiting for bytes blocks nobody. With a sender, rows go out as they are read.
    async fn parse(
        &self,
        body: impl Read + Send + 'static,
        ask: &Ask,
        sender: Option<Sender>,
    ) -> Result<Reply, Failed> {
        let (batch, codes) = (Arc::clone(&self.batch), Arc::clone(&self.codes));
        let held = Held { own: 0, of_fetch: Arc::clone(&self.held) };
        let ask = ask.clone();
        // What the connection says while the rest of a reply is read belongs to the request too.
        let span = Span::current();
        let parsing = spawn_blocking(move || {
            let _entered = span.entered();
            let learned = Learned::default();
            let reply = Reply { rows: Vec::new(), message: None, records: RecordBatch::new(), learned, held };
            let mut collector = Collector { batch, codes, ask, reply, sender, rows_are_out: false };
            let format = collector.batch.format;
            match read(format, body, &mut collector).and_then(|message| collector.flush().map(|()| message)) {
                Ok(message) => Ok(Reply { message, ..collector.reply }),
                Err(error) => Err(Failed { error, rows_are_out: collector.rows_are_out }),
            }
        });
        parsing.await.unwrap_or_else(|_| {
            let message = "the reply could not be read; save it and report it as a mistake of rollmark";
            Err(SourceError::new(SourceErrorKind::BadReply, message).into())
        })
    }
}

/// How many rows of a kind a reply over so many days may hold.
fn most_rows(kind: FetchedKind, per_day: u64, days: u64) -> u64 {
    let share = |of: u64| (per_day / of).max(1);
    match kind {
        FetchedKind::Registrations | FetchedKind::SessionMarks => per_day.saturating_mul(days),
        FetchedKind::Periods => share(30).saturating_mul(days),
        // Few begin on each of the many days before the window, but on any day everybody can be away.
        FetchedKind::OutOfSchool => share(120).saturating_mul(days).max(per_day.saturating_mul(2)),
        FetchedKind::Codes => share(12),
    }
}

/// What a sync holds of a record, about: its texts, and of out-of-school records, which are not folded, the record itself, as
/// it was read and as it is resolved.
fn held_bytes(record: &Record) -> u64 {
    let lengths = |texts: &[Option<&str>]| texts.iter().flatten().map(|text| text.len() as u64).sum();
    match record {
        Record::Registration(row) => lengths(&[
            Some(row.student.as_str()),
            row.id.as_ref().map(|id| id.as_str()),
            row.period.as_ref().map(|id| id.as_str()),
            row.code.as_ref().map(|code| code.as_str()),
            row.comment.as_deref(),
        ]),
        Record::OutOfSchool(record) => {
            let texts = lengths(&[
                Some(record.student.as_str()),
                record.id.as_ref().map(|id| id.as_str()),
                record.code.as_ref().map(|code| code.as_str()),
                record.reason.as_deref(),
            ]);
            texts + 4 * size_of_val(record) as u64
        }
        Record::Period(period) => {
            lengths(&[Some(period.id.as_str()), period.session.as_deref(), period.name.as_deref()])
        }
        Record::Code(code) => lengths(&[Some(code.id.as_str()), code.letter.as_deref(), code.name.as_deref()]),
        Record::SessionMark(_) => 0,
    }
}

/// Turns items into records, and lets them out in batches if it may.
struct Collector {
    batch: Arc<Batch>,
    codes: Arc<BTreeSet<Box<str>>>,
    ask: Ask,
    reply: Reply,
    sender: Option<Sender>,
    rows_are_out: bool,
}

impl Collector {
    fn flush(&mut self) -> Result<(), SourceError> {
        let Some(sender) = &self.sender else { return Ok(()) };
        let batch = std::mem::replace(&mut self.reply.records, RecordBatch::with_capacity(BATCH));
        self.rows_are_out |= !batch.is_empty();
        // Nobody listens any more: the reading ends, and with it the request.
        sender.blocking_send(FetchItem::Records(batch)).map_err(|_| out_of_time())
    }
}

impl Sink for Collector {
    fn container(&mut self, name: &str) -> Option<FetchedKind> {
        let kind = contents_of(name).map(|contents| contents.kind)?;
        if !self.reply.rows.iter().any(|(found, _)| *found == kind) {
            self.reply.rows.push((kind, 0));
        }
        Some(kind)
    }

    fn item(&mut self, kind: FetchedKind, fields: &[(String, String)]) -> Result<(), SourceError> {
        if !self.ask.kinds.contains(&kind) {
            return Ok(());
        }
        let Batch { names, ignored_fields, .. } = &*self.batch;
        let item = Item { kind, fields, ignored: ignored_fields };
        let record = record(&item, names)?;
        if let Some((_, rows)) = self.reply.rows.iter_mut().find(|(found, _)| *found == kind) {
            *rows += 1;
            let most = most_rows(kind, self.batch.tenant.max_rows_per_day, self.ask.days(kind));
            if *rows > most {
                return Err(too_many(kind, most));
            }
        }
        self.reply.held.add(held_bytes(&record), self.batch.max_held_bytes)?;
        match &record {
            Record::Code(code) => {
                self.reply.learned.codes.extend([code.id.as_str().into()].into_iter().chain(code.letter.clone()));
            }
            Record::OutOfSchool(record) => self.reply.learned.undecided.take(&item, record, names, &self.codes),
            _ => {}
        }
        self.reply.records.push(record);
        if self.sender.is_some() && self.reply.records.len() >= BATCH { self.flush() } else { Ok(()) }
    }
}
