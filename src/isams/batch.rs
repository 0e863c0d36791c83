//! The Batch API: what is asked for, in which parts, and how a reply is accepted.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::TimeDelta;
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
use super::body::is_web_page;
use super::failure::{read_error, too_many};
use super::fields::{Item, record};
use super::message::Message;
use super::reply::{Nothing, Sink};
use super::request::{BatchRequest, Format};
use super::settings::{Tenant, stream, tenant_methods};
use super::transport::{self, Attempt, Budget, Failed, out_of_time};
use super::undecided::Undecided;
use super::vocabulary::contents_of;
use super::{json, xml};
use crate::explain::Wording;
use crate::model::{Record, setters};
use crate::source::{
    AttendanceSource, Capabilities, Completeness, FetchItem, FetchRequest, FetchedKind, Part, RecordBatch,
    RecordStream, SourceError, SourceErrorKind,
};

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
    /// The address is not a URL, or is plain http to a host other than this machine.
    pub fn new(url: &str, api_key: impl Into<String>) -> Result<Self, SourceError> {
        let url = transport::parse_url(url)?;
        Self::reading(url, Credentials::Key(SecretString::from(api_key.into().trim())))
    }

    /// The Batch API with an OAuth client (scope `apiv1`). Its token is fetched when it is needed, renewed before it
    /// expires, and fetched again if it is refused.
    ///
    /// # Errors
    /// The address is not a URL, or is plain http to a host other than this machine.
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
}

setters!(Batch {
    /// Sets the format of the Batch API's replies. The default is XML, the only one that shows that a container is missing.
    with_format(format: Format) => format;
    /// Sets the cache expiry that the key has in iSAMS. The default is iSAMS's own: 24 hours.
    with_cache_expiry(cache_expiry: TimeDelta) => cache_expiry;
    /// Sets how many bytes of records a fetch may hold, counted about as a sync holds them: the texts of all records, and
    /// four times the size of each out-of-school record. The default is 512 MiB.
    with_max_held_bytes(max_held_bytes: u64) => max_held_bytes;
    /// Sets the number of rows at which a reply is suspected to be cut (assumed: 2,000); `None` suspects nothing.
    with_suspicious_rows(suspicious_rows: Option<u64>) => suspicious_rows;
    /// Sets from how many days before the window out-of-school records are asked for (assumed to be filtered by their
    /// beginning). The default is 180.
    with_look_back_days(look_back_days: u32) => look_back_days;
    /// Splits a window into requests of this many days (at least 1), made 3 at a time. `None`, the default, asks for the
    /// whole window at once.
    with_slice_days(slice_days: Option<u32>) => slice_days;
    /// Sets under which names the fields of each record are looked for.
    with_field_names(names: FieldNames) => names;
    /// Names fields that decide nothing. Where no out-of-school record has a time of update or a code under a listed name, an
    /// unlisted field that looks like one stops the fetch, unless it is named here.
    with_ignored_fields(ignored_fields: impl IntoIterator<Item = impl Into<String>>) => ignored_fields.into_iter().map(Into::into).collect();
});

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
        Ok(stream(|sender| BatchFetch::new(Arc::new(self.clone()), request.clone(), sender).run()))
    }
}

/// What iSAMS calls things.
pub(super) fn wording() -> Wording {
    Wording::for_api_key().with_code_table("code table (RegistrationCodes)")
}

/// A reply up to this size is read whole before a row of it is let out, so it can be asked for again or in parts.
const SMALL: usize = 4 << 20;
/// Records that go out together.
const BATCH: usize = 1024;
/// Requests under way at the same time.
const AT_ONCE: usize = 3;

type Sender = mpsc::Sender<FetchItem>;

/// Sends a request with this body; the answer's status is a success.
pub(super) async fn send(batch: &Batch, body: String, attempt: &Attempt) -> Result<Response, Failed> {
    let page = match batch.format {
        Format::Xml => "xml.ashx",
        Format::Json => "json.ashx",
    };
    let request = batch.tenant.request(["api", "batch", "1.0", page]);
    let request = request.header(header::CONTENT_TYPE, "application/xml").body(body);
    let response = batch.tenant.send(request, attempt).await?;
    let (status, headers) = (response.status(), response.headers().clone());
    if status.is_success() {
        return Ok(response);
    }
    // A body that breaks off takes nothing from what the status says.
    let body = transport::whole(response, SMALL as u64, attempt).await.unwrap_or_default();
    let read = read(batch.format, body.as_slice(), &mut Nothing);
    let is_page = is_web_page(&body);
    Err(transport::failure(status, &headers, read.unwrap_or_default(), is_page, &attempt.confidential).into())
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
struct BatchReply {
    /// Rows of each container that was there.
    rows: Vec<(FetchedKind, u64)>,
    /// What to ask for instead, where the reply looks cut.
    instead: Vec<BatchRequest>,
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

/// What the accepted replies of a fetch tell besides their records.
#[derive(Debug, Default)]
struct Learned {
    /// The ids and letters of the code table.
    codes: BTreeSet<Box<str>>,
    undecided: Undecided,
}

struct BatchFetch {
    batch: Arc<Batch>,
    request: FetchRequest,
    sender: Sender,
    budget: Budget,
    /// The ids and letters of the code table, once it is read.
    codes: Arc<BTreeSet<Box<str>>>,
    /// About what a sync holds of all records, in bytes.
    held: Arc<AtomicU64>,
}

impl BatchFetch {
    fn new(batch: Arc<Batch>, request: FetchRequest, sender: Sender) -> Self {
        let budget = Budget::new(batch.tenant.total_deadline, request.counters().clone(), request.began().into());
        Self { batch, request, sender, budget, codes: Arc::default(), held: Arc::default() }
    }

    /// Everything that the request asks for, then the verdict.
    async fn run(mut self) -> Result<(), SourceError> {
        let window = self.request.window();
        let mut parts = Vec::new();
        let tables =
            [(FetchedKind::Codes, self.batch.tenant.has_code_table), (FetchedKind::Periods, self.request.periods())];
        let tables: Vec<_> = tables.into_iter().filter_map(|(kind, is_needed)| is_needed.then_some(kind)).collect();
        // Codes and periods come first, so that a registration is understood as it arrives.
        if !tables.is_empty() {
            let tables = BatchRequest { kinds: tables, from: window.from(), to: window.to(), look_back: 0 };
            self.codes = Arc::new(self.read(vec![tables], &mut parts).await?.codes);
        }
        let undecided = self.read(self.rows(), &mut parts).await?.undecided.names()?;
        let verdict = parts.into_iter().fold(Completeness::new(), Completeness::with_part);
        self.send(FetchItem::Complete(verdict.with_undecided_fields(undecided))).await;
        Ok(())
    }

    /// The requests for registrations and out-of-school records.
    fn rows(&self) -> Vec<BatchRequest> {
        let window = self.request.window();
        let kinds = vec![FetchedKind::Registrations, FetchedKind::OutOfSchool];
        let whole = BatchRequest { kinds, from: window.from(), to: window.to(), look_back: self.batch.look_back_days };
        match self.batch.slice_days {
            _ if self.batch.asks_by_day.load(Ordering::Relaxed) => whole.slices(1),
            Some(days) => whole.slices(days),
            None => vec![whole],
        }
    }

    /// Asks for all parts, a few at a time; a part that looks cut is asked for again in smaller ones.
    async fn read(&self, mut waiting: Vec<BatchRequest>, parts: &mut Vec<Part>) -> Result<Learned, SourceError> {
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
            if !reply.instead.is_empty() {
                waiting.extend(reply.instead.into_iter().rev());
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

    /// If nobody is listening any more, the whole fetch was dropped.
    async fn send(&self, item: FetchItem) {
        let _ = self.sender.send(item).await;
    }

    async fn ask(&self, ask: BatchRequest) -> Result<(BatchReply, BatchRequest), SourceError> {
        let reply = self.budget.retry(&self.batch.tenant.url, |attempt| self.attempt(&ask, attempt)).await?;
        Ok((reply, ask))
    }

    async fn attempt(&self, ask: &BatchRequest, attempt: Attempt) -> Result<BatchReply, Failed> {
        let batch = &self.batch;
        let span = attempt.span.clone();
        span.record("from", display(ask.from)).record("to", display(ask.to));
        let response = send(batch, ask.body(), &attempt).await?;
        let confidential = attempt.confidential.clone();
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
        let mut reply = parsed.map_err(|failed| Failed {
            error: failed.error.reworded(|message| confidential.hidden(message)),
            ..failed
        })?;
        span.record("rows", reply.rows.iter().map(|(_, rows)| rows).sum::<u64>());
        reply.learned.undecided.forget(|name| confidential.hidden(name) != name);
        if let Some(message) = reply.message {
            return Err(Failed { error: message.into_error(status, &confidential), rows_are_out: !is_whole });
        }
        let rows_are_out = !is_whole;
        let accepted = ask.accept(&reply.rows, batch.format, batch.suspicious_rows);
        reply.instead = accepted.map_err(|error| Failed { error, rows_are_out })?;
        if rows_are_out && !reply.instead.is_empty() {
            // The whole fetch starts again, day by day.
            batch.asks_by_day.store(true, Ordering::Relaxed);
            let message = "a reply of many rows looks cut, so the fetch starts again day by day";
            let error = SourceError::temporary(SourceErrorKind::Incomplete, message);
            return Err(Failed { error, rows_are_out });
        }
        Ok(reply)
    }

    /// Parses on a thread where waiting for bytes blocks nobody. With a sender, rows go out as they are read.
    async fn parse(
        &self,
        body: impl Read + Send + 'static,
        ask: &BatchRequest,
        sender: Option<Sender>,
    ) -> Result<BatchReply, Failed> {
        let (batch, codes) = (Arc::clone(&self.batch), Arc::clone(&self.codes));
        let held = Held { own: 0, of_fetch: Arc::clone(&self.held) };
        let ask = ask.clone();
        // What the connection says while the rest of a reply is read belongs to the request too.
        let span = Span::current();
        let parsing = spawn_blocking(move || {
            let _entered = span.entered();
            let learned = Learned::default();
            let reply = BatchReply {
                rows: Vec::new(),
                instead: Vec::new(),
                message: None,
                records: RecordBatch::new(),
                learned,
                held,
            };
            let mut collector = Collector { batch, codes, ask, reply, sender, rows_are_out: false };
            let format = collector.batch.format;
            match read(format, body, &mut collector).and_then(|message| collector.flush().map(|()| message)) {
                Ok(message) => Ok(BatchReply { message, ..collector.reply }),
                Err(error) => Err(Failed { error, rows_are_out: collector.rows_are_out }),
            }
        });
        parsing.await.unwrap_or_else(|_| {
            let message = "the reply could not be read; save it and report it as a bug in rollmark";
            Err(SourceError::new(SourceErrorKind::BadReply, message).into())
        })
    }
}

/// How many rows of a kind a reply may hold, given how many days were asked for.
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
    ask: BatchRequest,
    reply: BatchReply,
    sender: Option<Sender>,
    rows_are_out: bool,
}

impl Collector {
    fn flush(&mut self) -> Result<(), SourceError> {
        let Some(sender) = &self.sender else { return Ok(()) };
        let batch = std::mem::replace(&mut self.reply.records, RecordBatch::with_capacity(BATCH));
        self.rows_are_out |= !batch.is_empty();
        // Nobody is listening any more: the reading ends, and with it the request.
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
        let mut number = 0;
        if let Some((_, rows)) = self.reply.rows.iter_mut().find(|(found, _)| *found == kind) {
            *rows += 1;
            number = *rows;
            let most = most_rows(kind, self.batch.tenant.max_rows_per_day, self.ask.days(kind));
            if number > most {
                return Err(too_many(kind, most));
            }
        }
        let item = Item { kind, number, fields, ignored: ignored_fields };
        let record = record(&item, names)?;
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
