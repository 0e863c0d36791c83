//! The shape of a tenant's replies, without any value.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Cursor;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use reqwest::header;
use serde::Serialize;
use tokio::time::Instant;

use super::Batch;
use super::batch;
use super::confidential::Confidential;
use super::failure::too_large;
use super::fields::REQUIRED;
use super::message::is_message;
use super::reply::Sink;
use super::request;
use super::text::unknown_name;
use super::vocabulary::{METHODS, Method, contents_of, is_around};

use super::transport::{self, Attempt, Budget, Failed};
use crate::model::FeedTime;
use crate::rules::Window;
use crate::source::{FetchCounters, FetchedKind, SourceError, SourceErrorKind};

/// A probe asks for a few days; a larger reply is a feed, not a sample.
const MOST_BYTES: u64 = 64 << 20;

/// More names than any reply has.
const MOST_CONTAINERS: usize = 64;
const MOST_NAMES: usize = 1_024;

/// What a tenant's replies look like: names, counts and kinds of value, never a value. Made to be pasted into a support
/// case: `Display` gives plain text, and it serialises.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Probe {
    /// Each method that was asked for.
    pub methods: Vec<MethodShape>,
    /// Whether the end date of a range belongs to it.
    pub end_date: EndDate,
    /// Two identical requests had equal replies: from the cache, or because nothing had changed.
    pub identical_requests_agree: Option<bool>,
    /// Two requests over different ranges had the same number of rows for the day that they share. If they are cached
    /// separately, one can be older than the other.
    pub different_ranges_agree: Option<bool>,
    /// How many whole hours before the request the newest record was updated: the reply was no older. School time is taken
    /// to be UTC here, so the figure includes the school's offset.
    pub newest_update_hours: Option<i64>,
    /// By how many seconds the tenant's clock (the header `Date`) is ahead of this machine's, as precisely as the duration of
    /// a request allows.
    pub clock_difference_seconds: Option<i64>,
}

/// What one method answers.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct MethodShape {
    /// The method's name.
    pub method: String,
    /// What of its reply is read, if anything. Not serialised: the name of the method says it.
    #[serde(skip)]
    pub reads: Option<FetchedKind>,
    /// Why there was no answer; what iSAMS said is left out, because it can hold values.
    pub failure: Option<SourceErrorKind>,
    /// The containers of the answer.
    pub containers: Vec<ContainerShape>,
}

/// One container of a reply.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct ContainerShape {
    /// Its element's name.
    pub name: String,
    /// How many items it holds.
    pub rows: u64,
    /// The names of the items' elements.
    pub items: BTreeSet<String>,
    /// The items' fields that have a value, attributes and children alike.
    pub fields: BTreeMap<String, FieldShape>,
    /// The options of [`FieldNames`](super::FieldNames) for required fields under none of whose names a field was found.
    pub unmatched: Vec<String>,
}

/// One field of a container's items.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct FieldShape {
    /// In how many items it has a value.
    pub present: u64,
    /// How often each kind of value occurs.
    pub kinds: BTreeMap<String, u64>,
    /// The options of [`FieldNames`](super::FieldNames) that read this field.
    pub read_by: Vec<String>,
}

/// Whether the end date of a range belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EndDate {
    /// A range ends before its end date.
    Exclusive,
    /// A range includes its end date.
    Inclusive,
    /// There was no day with registrations that could tell.
    Unknown,
}

/// What one reply held: its shape, and what is needed to compare it with others.
#[derive(Default)]
struct ProbedReply {
    containers: Vec<ContainerShape>,
    body: Vec<u8>,
    /// Registrations of each date.
    dates: BTreeMap<NaiveDate, u64>,
    newest: Option<DateTime<Utc>>,
    clock_difference_seconds: Option<i64>,
}

impl Batch {
    /// Asks for every method of the Batch API, each on its own and for at most a sixth of the total deadline, and gives the
    /// replies' shape. Choose a window of a few school days in the past.
    ///
    /// # Errors
    /// No method answers; the error is that of the first.
    pub async fn probe(&self, window: Window) -> Result<Probe, SourceError> {
        let mut methods = Vec::new();
        let mut first_error = None;
        let mut registrations = None;
        let end = next(window.to());
        let asked_at = Utc::now();
        let mut clock_difference_seconds = None;
        for method in &METHODS {
            let mut shape = MethodShape {
                method: format!("Registration_{}", method.name),
                reads: method.read.as_ref().map(|contents| contents.kind),
                failure: None,
                containers: Vec::new(),
            };
            match self.probe_method(method, window.from(), end).await {
                Ok(reply) => {
                    shape.containers.clone_from(&reply.containers);
                    clock_difference_seconds = clock_difference_seconds.or(reply.clock_difference_seconds);
                    if shape.reads == Some(FetchedKind::Registrations) {
                        registrations = Some((method, reply));
                    }
                }
                // Such a failure of the first method would be every method's.
                Err(error) if methods.is_empty() && concerns_all(error.kind()) => {
                    return Err(without_words(&error, &shape.method));
                }
                Err(error) => {
                    shape.failure = Some(error.kind());
                    first_error.get_or_insert_with(|| without_words(&error, &shape.method));
                }
            }
            methods.push(shape);
        }
        if let Some(error) = first_error.filter(|_| methods.iter().all(|method| method.failure.is_some())) {
            return Err(error);
        }
        let mut probe = Probe {
            methods,
            end_date: EndDate::Unknown,
            identical_requests_agree: None,
            different_ranges_agree: None,
            newest_update_hours: None,
            clock_difference_seconds,
        };
        if let Some((method, reply)) = registrations {
            self.compare_replies(&mut probe, method, &reply, window, asked_at).await;
        }
        Ok(probe)
    }

    /// Asks for registrations again, over the same range and over others. What fails here stays unknown.
    async fn compare_replies(
        &self,
        probe: &mut Probe,
        method: &Method,
        first: &ProbedReply,
        window: Window,
        asked_at: DateTime<Utc>,
    ) {
        let registrations = async |from, end| self.probe_method(method, from, end).await.ok();
        let again = registrations(window.from(), next(window.to())).await;
        probe.identical_requests_agree = again.map(|again| again.body == first.body);
        probe.newest_update_hours = first.newest.map(|newest| (asked_at - newest).num_hours());
        let Some((day, rows)) = first.dates.last_key_value() else { return };
        let rows_of_day = |reply: &ProbedReply| reply.dates.get(day).copied().unwrap_or_default();
        let (Some(alone), Some(with_next)) = (registrations(*day, *day).await, registrations(*day, next(*day)).await)
        else {
            return;
        };
        probe.different_ranges_agree = Some(rows_of_day(&with_next) == *rows);
        probe.end_date = match (rows_of_day(&alone), rows_of_day(&with_next)) {
            (0, 1..) => EndDate::Exclusive,
            (1.., _) => EndDate::Inclusive,
            (0, 0) => EndDate::Unknown,
        };
    }

    async fn probe_method(&self, method: &Method, from: NaiveDate, end: NaiveDate) -> Result<ProbedReply, SourceError> {
        let filter = method.filter.map(|filter| (filter, from, end));
        let body = request::body([(method.name, filter)].into_iter());
        // A method that never answers leaves the others their time.
        let share = self.tenant.total_deadline / METHODS.len() as u32;
        let budget = Budget::new(share, FetchCounters::default(), Instant::now());
        budget.retry(&self.tenant.url, |attempt| self.probe_once(body.clone(), attempt)).await
    }

    async fn probe_once(&self, body: String, attempt: Attempt) -> Result<ProbedReply, Failed> {
        let response = batch::send(self, body, &attempt).await?;
        let status = response.status().as_u16();
        let date = response.headers().get(header::DATE).and_then(|date| date.to_str().ok());
        let clock = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok());
        let clock_difference_seconds = clock.map(|clock| (clock.to_utc() - Utc::now()).num_seconds());
        let most = self.tenant.max_bytes.min(MOST_BYTES);
        let body = transport::whole(response, most, &attempt).await?;
        let mut sink =
            Shapes { batch: self, confidential: attempt.confidential.clone(), reply: ProbedReply::default() };
        match batch::read(self.format, Cursor::new(&body), &mut sink)? {
            Some(message) => Err(message.into_error(status, &attempt.confidential).into()),
            None => {
                sink.finish();
                Ok(ProbedReply { body, clock_difference_seconds, ..sink.reply })
            }
        }
    }
}

/// A failure without what iSAMS said, because that can hold values.
fn without_words(error: &SourceError, method: &str) -> SourceError {
    let message = format!("{method}: {}; a sync shows what iSAMS said, which is left out here", error.kind());
    SourceError::new(error.kind(), message)
}

fn concerns_all(failure: SourceErrorKind) -> bool {
    use SourceErrorKind::{Configuration, Connection, Credentials, TimedOut};
    matches!(failure, Configuration | Connection | Credentials | TimedOut)
}

fn next(date: NaiveDate) -> NaiveDate {
    date.succ_opt().unwrap_or(date)
}

/// Takes the shape of a reply.
struct Shapes<'a> {
    batch: &'a Batch,
    confidential: Confidential,
    reply: ProbedReply,
}

impl Sink for Shapes<'_> {
    /// Everything below the two elements around a reply is a container, whatever its name.
    fn container(&mut self, name: &str) -> Option<FetchedKind> {
        if is_around(name) || is_message(name) || self.reply.containers.len() >= MOST_CONTAINERS {
            return None;
        }
        let shape = ContainerShape { name: self.name(name), ..ContainerShape::default() };
        self.reply.containers.push(shape);
        // Which kind does not matter to a shape, but an unknown container has none.
        Some(contents_of(name).map_or(FetchedKind::Codes, |contents| contents.kind))
    }

    fn item_name(&mut self, name: &str) {
        let name = self.name(name);
        if let Some(container) = self.reply.containers.last_mut().filter(|known| known.items.len() <= MOST_NAMES) {
            container.items.insert(name);
        }
    }

    fn item(&mut self, kind: FetchedKind, fields: &[(String, String)]) -> Result<(), SourceError> {
        let names = &self.batch.names;
        if kind == FetchedKind::Registrations {
            let find = |names: &[String]| {
                let find = |name: &String| fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
                names.iter().find_map(find).and_then(|(_, value)| value.parse::<FeedTime>().ok())
            };
            if let Some(at) = find(&names.registration_time) {
                *self.reply.dates.entry(at.as_written().date()).or_default() += 1;
            }
            let updated = find(&names.registration_updated).map(|time| time.instant(&crate::model::Zone::utc()));
            self.reply.newest = self.reply.newest.max(updated);
        }
        let named: Vec<String> = fields.iter().map(|(name, _)| self.name(name)).collect();
        let Some(container) = self.reply.containers.last_mut() else { return Ok(()) };
        if container.fields.len() > MOST_NAMES || container.items.len() > MOST_NAMES {
            return Err(too_large("a container with thousands of names"));
        }
        container.rows += 1;
        for (name, (_, value)) in named.into_iter().zip(fields) {
            let field = container.fields.entry(name).or_default();
            field.present += 1;
            *field.kinds.entry(kind_of(value)).or_default() += 1;
        }
        Ok(())
    }
}

impl Shapes<'_> {
    fn name(&self, name: &str) -> String {
        self.confidential.hidden(unknown_name(name))
    }

    /// Says which field is read by which option.
    fn finish(&mut self) {
        let lists = self.batch.names.lists();
        for container in &mut self.reply.containers {
            let Some(contents) = contents_of(&container.name) else { continue };
            for (option, names) in lists.iter().filter(|(option, _)| option.starts_with(contents.options)) {
                let find =
                    |name: &String| container.fields.keys().find(|field| field.eq_ignore_ascii_case(name)).cloned();
                match names.iter().find_map(find).and_then(|field| container.fields.get_mut(&field)) {
                    Some(field) => field.read_by.push((*option).to_owned()),
                    None if REQUIRED.contains(option) && container.rows > 0 => {
                        container.unmatched.push((*option).to_owned());
                    }
                    None => {}
                }
            }
        }
    }
}

/// The kind of a value, which tells nothing of the value but its form.
fn kind_of(value: &str) -> String {
    let is_digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let is_guid = |text: &str| {
        let text = text.trim_matches(['{', '}']);
        text.len() == 36 && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
    };
    let is_time =
        |text: &str| ["%H:%M", "%H:%M:%S%.f"].iter().any(|form| NaiveTime::parse_from_str(text, form).is_ok());
    match value.parse::<FeedTime>() {
        _ if matches!(value, "0" | "1") => "0/1".to_owned(),
        _ if is_digits && value.len() > 40 => "digits(> 40)".to_owned(),
        _ if is_digits => format!("digits({})", value.len()),
        _ if ["true", "false"].iter().any(|flag| flag.eq_ignore_ascii_case(value)) => "true/false".to_owned(),
        Ok(FeedTime::Date(_)) => "date".to_owned(),
        Ok(FeedTime::School(_) | FeedTime::EndOfDay(_)) => "date-time".to_owned(),
        Ok(FeedTime::Offset(_) | FeedTime::OffsetEndOfDay(_)) => "date-time with offset".to_owned(),
        Err(_) if is_time(value) => "time".to_owned(),
        Err(_) if is_guid(value) => "guid".to_owned(),
        Err(_) if value.parse::<f64>().is_ok() => "number".to_owned(),
        Err(_) => "text".to_owned(),
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for method in &self.methods {
            writeln!(f, "{}", method.method)?;
            if let Some(failure) = method.failure {
                writeln!(f, "  no answer: {failure}")?;
            }
            for container in &method.containers {
                let items: Vec<&str> = container.items.iter().map(String::as_str).collect();
                writeln!(f, "  {}: {} rows, items {}", container.name, container.rows, items.join(", "))?;
                for (name, field) in &container.fields {
                    let kinds: Vec<String> =
                        field.kinds.iter().map(|(kind, count)| format!("{kind} × {count}")).collect();
                    let read_by = if field.read_by.is_empty() {
                        String::new()
                    } else {
                        format!(" → {}", field.read_by.join(", "))
                    };
                    writeln!(
                        f,
                        "    {name}: in {} of {}, {}{read_by}",
                        field.present,
                        container.rows,
                        kinds.join(", ")
                    )?;
                }
                for option in &container.unmatched {
                    writeln!(f, "    NOT FOUND: a required field; say which one it is (--field {option}=NAME)")?;
                }
            }
        }
        let agree = |agree: Option<bool>, yes: &'static str, no: &'static str| match agree {
            Some(true) => yes,
            Some(false) => no,
            None => "can't tell",
        };
        writeln!(
            f,
            "end date of a range: {}",
            match self.end_date {
                EndDate::Exclusive => "not included",
                EndDate::Inclusive => "included",
                EndDate::Unknown => "can't tell",
            }
        )?;
        writeln!(
            f,
            "two identical requests: {}",
            agree(
                self.identical_requests_agree,
                "equal replies (cached, or nothing changed)",
                "different replies (not cached)"
            )
        )?;
        writeln!(
            f,
            "two different ranges: {}",
            agree(
                self.different_ranges_agree,
                "the same rows of the day that they share",
                "other rows of the day that they share (cached separately, or cut)"
            )
        )?;
        match self.newest_update_hours {
            Some(hours) => writeln!(f, "newest update: {hours} hours before the request")?,
            None => writeln!(f, "newest update: can't tell")?,
        }
        match self.clock_difference_seconds {
            // The header tells whole seconds.
            Some(-1..=1) => write!(f, "the tenant's clock: within two seconds of this machine's"),
            Some(seconds @ 2..) => write!(f, "the tenant's clock: {seconds} seconds ahead of this machine's"),
            Some(seconds) => {
                write!(f, "the tenant's clock: {} seconds behind this machine's", seconds.unsigned_abs())
            }
            None => write!(f, "the tenant's clock: can't tell"),
        }
    }
}
