//! The REST API: today's registers, read one by one.

use std::sync::Arc;

use chrono::{Datelike, NaiveDate, NaiveTime};
use futures::StreamExt;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::body::{ended_early, is_page, text_of, too_large, too_many};
use super::fields::{listed, printable};
use super::message::Message;
use super::source::Settings;
use super::transport::{self, Budget, Failed};
use crate::model::{
    Code, FIRST_REAL_YEAR, FeedTime, PeriodId, Record, Registration, RegistrationPeriod, SourceVerdict, UnreadableField,
};
use crate::source::{Completeness, FetchRequest, FetchedKind, SourceError, SourceErrorKind, SourceRecord};

/// Registers that are read at the same time.
const AT_ONCE: usize = 4;
/// Records of one page (in use, verified).
const PAGE_SIZE: u64 = 100;
/// More than iSAMS says of an error.
const MOST_ERROR_BYTES: u64 = 64 << 10;
/// More registers than a school takes on one day.
const MOST_REGISTERS: usize = 2_000;
/// More pages than any list has.
const MOST_PAGES: u64 = 1_000;
/// A list is held whole; real ones are ten times smaller.
const MOST_LIST_BYTES: u64 = 16 << 20;

type Object = Map<String, Value>;

pub(super) struct Fetch {
    settings: Arc<Settings>,
    request: FetchRequest,
    sender: mpsc::Sender<Vec<SourceRecord>>,
    budget: Budget,
}

impl Fetch {
    pub(super) fn new(settings: Arc<Settings>, request: FetchRequest, sender: mpsc::Sender<Vec<SourceRecord>>) -> Self {
        let budget = Budget::new(settings.total_deadline, request.counters.clone(), request.began.into());
        Self { settings, request, sender, budget }
    }

    /// Codes, periods and registers of today, then the verdict.
    pub(super) async fn run(self) -> Result<(), SourceError> {
        let window = self.request.window;
        if window.from() != window.to() {
            return Err(SourceError::permanent(
                SourceErrorKind::Configuration,
                "iSAMS's REST interface gives today only; ask for today alone, or read the Batch interface",
            ));
        }
        let codes = self.list(&["absencecodes"], ListName::Known("absenceCodes")).await?;
        let listed = self.list(&["periods"], ListName::Known("registrationPeriods")).await?;
        let counts = (codes.len() as u64, listed.len() as u64);
        self.send(codes.iter().map(code).collect::<Result<_, _>>()?).await;

        let periods = listed.iter().map(|item| period(item, window.from())).collect::<Result<Vec<_>, _>>()?;
        let date_of = |period: &RegistrationPeriod| match &self.request.zone {
            Some(zone) => period.at.school_time(zone).date(),
            None => period.at.as_written().date(),
        };
        let other = periods.first().map(date_of);
        let of_today: Vec<RegistrationPeriod> =
            periods.into_iter().filter(|period| date_of(period) == window.from()).collect();
        if let (true, Some(other)) = (of_today.is_empty(), other) {
            return Err(SourceError::permanent(
                SourceErrorKind::Incomplete,
                format!(
                    "iSAMS lists the registration periods of {other}, not of {}; its REST interface gives its own today only",
                    window.from()
                ),
            ));
        }
        if of_today.len() > MOST_REGISTERS {
            return Err(too_large("more than 2,000 registers of one day"));
        }
        self.send(of_today.iter().cloned().map(Record::Period).collect()).await;

        let mut rows = 0;
        let mut registers =
            futures::stream::iter(of_today).map(|period| self.register(period)).buffer_unordered(AT_ONCE);
        while let Some(register) = registers.next().await {
            let register = register?;
            rows += register.len() as u64;
            if rows > self.settings.max_rows_per_day {
                return Err(too_many(FetchedKind::Registrations, self.settings.max_rows_per_day));
            }
            self.send(register).await;
        }
        drop(registers);
        let kinds =
            [(FetchedKind::Codes, counts.0), (FetchedKind::Periods, counts.1), (FetchedKind::Registrations, rows)];
        let verdict = SourceRecord::Complete(Completeness::whole(window, kinds));
        let _ = self.sender.send(vec![verdict]).await;
        Ok(())
    }

    /// Whoever no longer listens has dropped the whole fetch.
    async fn send(&self, records: Vec<Record>) {
        let _ = self.sender.send(records.into_iter().map(SourceRecord::Record).collect()).await;
    }

    async fn register(&self, period: RegistrationPeriod) -> Result<Vec<Record>, SourceError> {
        let items = self.list(&["register", period.id.as_str()], ListName::WithField("schoolId")).await?;
        items.iter().map(|item| registration(item, &period)).collect()
    }

    /// Every item of a list, page by page.
    async fn list(&self, path: &[&str], name: ListName) -> Result<Vec<Object>, SourceError> {
        let place = printable(&path.join("/"));
        let (mut items, mut length, mut before): (Vec<Object>, u64, u64) = (Vec::new(), 0, 0);
        for page in 1..=MOST_PAGES {
            let (reply, bytes) = self.budget.retry(|| self.attempt(path, page, MOST_LIST_BYTES - length)).await?;
            length += bytes;
            let about = Paging::of(&reply);
            // Some count from 0; whether they begin with the page after the first shows in their total.
            let is_from_zero = |given: u64| given + 1 == page && about.total.is_some();
            if let Some(given) = about.page.filter(|given| *given != page && !is_from_zero(*given)) {
                return Err(bad_reply(format!("page {page} of {place} was asked for, and page {given} came")));
            }
            let rows = objects(reply, name).ok_or_else(|| {
                bad_reply(format!("the reply for {place} holds no list of records; check the address"))
            })?;
            let read = rows.len() as u64;
            let repeats = read > 0 && read == before && items.ends_with(&rows);
            before = read;
            if repeats && about.pages.is_some() {
                return Err(bad_reply(format!("page {page} of {place} is page {} again", page - 1)));
            }
            // Whoever does not page gives the only page again.
            if !repeats {
                items.extend(rows);
            }
            let is_last = match (about.pages, about.total) {
                (Some(pages), _) => page >= pages,
                (None, _) if repeats || read == 0 => true,
                (None, Some(total)) if read != about.size => items.len() as u64 >= total,
                // A page that is full can be followed by another, whatever it counts.
                (None, _) => read < about.size,
            };
            if is_last {
                // A count of this page alone says nothing of the others.
                return match about.total.filter(|total| *total != read && *total != items.len() as u64) {
                    None => Ok(items),
                    // Records that come or go between two pages: another try sees them whole.
                    Some(total) => Err(SourceError::temporary(
                        SourceErrorKind::Incomplete,
                        format!("iSAMS counts {total} records of {place} and sent {}", items.len()),
                    )),
                };
            }
        }
        Err(bad_reply(format!("{place} has more than {MOST_PAGES} pages; check the address")))
    }

    /// A page of at most so many bytes, and its length.
    async fn attempt(&self, path: &[&str], page: u64, most: u64) -> Result<(Object, u64), Failed> {
        let settings = &self.settings;
        let mut url = settings.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "registration"]).extend(path);
        }
        let request = settings.client.get(url).query(&[("page", page), ("pageSize", PAGE_SIZE)]);
        let Budget { deadline, counters, .. } = &self.budget;
        let (response, secrets) = settings.credentials.send(request, *deadline, counters).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        if !status.is_success() {
            let body = transport::whole(response, *deadline, MOST_ERROR_BYTES, counters).await.unwrap_or_default();
            let said = serde_json::from_slice::<Object>(&body).ok();
            let is_message = |name: &str| name.eq_ignore_ascii_case("message");
            let text = said.iter().flatten().find(|(name, _)| is_message(name)).and_then(|(_, text)| text.as_str());
            let said = text.map(|text| Message { description: text.to_owned(), ..Message::default() });
            return Err(transport::failure(status, &headers, said, is_page(&body), &secrets).into());
        }
        let body = transport::whole(response, *deadline, settings.max_bytes.min(most), counters).await;
        let body = body.map_err(|error| match error.kind() {
            SourceErrorKind::TooLarge => {
                too_large(&format!("a list of more than {} bytes", settings.max_bytes.min(MOST_LIST_BYTES)))
            }
            _ => error,
        })?;
        Ok((parse(&body)?, body.len() as u64))
    }
}

fn bad_reply(message: impl Into<String>) -> SourceError {
    SourceError::permanent(SourceErrorKind::BadReply, message)
}

/// A page as an object; a bare array stands for a page with nothing else.
fn parse(body: &[u8]) -> Result<Object, SourceError> {
    let text = text_of(body)?;
    if text.is_empty() {
        return Err(bad_reply("the reply is empty; check the address and the client's rights"));
    }
    match serde_json::from_slice(&text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(list @ Value::Array(_)) => Ok(Object::from_iter([(String::new(), list)])),
        Ok(_) => Err(bad_reply("the reply is JSON, but not of iSAMS; check the address")),
        Err(error) if error.is_eof() => Err(ended_early()),
        Err(_) => Err(bad_reply("the reply is not well-formed JSON; check the address")),
    }
}

/// What a page says of itself, as far as it does; whatever the case of the names.
struct Paging {
    page: Option<u64>,
    pages: Option<u64>,
    total: Option<u64>,
    size: u64,
}

impl Paging {
    fn of(reply: &Object) -> Self {
        let count = |wanted: &str| {
            let (name, _) = reply.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
            whole_number(&text(reply, name)?)
        };
        Self {
            page: count("page"),
            pages: count("totalPages"),
            total: count("totalCount"),
            size: count("pageSize").filter(|size| *size > 0).unwrap_or(PAGE_SIZE),
        }
    }
}

/// How a list is found in its page.
#[derive(Clone, Copy)]
enum ListName {
    /// By its name (verified).
    Known(&'static str),
    /// Its name is not documented: the only list, or the only one of records with this field.
    WithField(&'static str),
}

/// The records of a page; a page that is a list has it without a name. A known list can be null for an empty one.
fn objects(mut reply: Object, name: ListName) -> Option<Vec<Object>> {
    let list = match (reply.remove(""), name) {
        (Some(list), _) => list,
        (None, ListName::Known(name)) => {
            let name = reply.keys().find(|known| known.eq_ignore_ascii_case(name))?.clone();
            reply.remove(&name)?
        }
        (None, ListName::WithField(field)) => {
            let mut lists: Vec<Value> = reply.into_iter().map(|(_, value)| value).filter(Value::is_array).collect();
            if lists.len() > 1 {
                let is_empty = |list: &Value| list.as_array().is_none_or(Vec::is_empty);
                if lists.iter().all(is_empty) {
                    return Some(Vec::new());
                }
                let has_field = |item: &Value| item.get(field).is_some();
                lists.retain(|list| list.as_array().is_some_and(|items| items.iter().any(has_field)));
            }
            lists.pop().filter(|_| lists.is_empty())?
        }
    };
    let object = |item| match item {
        Value::Object(object) => Some(object),
        _ => None,
    };
    match list {
        Value::Null => Some(Vec::new()),
        Value::Array(items) => items.into_iter().map(object).collect(),
        _ => None,
    }
}

/// A scalar as trimmed text; ids come as numbers and as text.
fn text(item: &Object, name: &str) -> Option<String> {
    let text = match item.get(name)? {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

fn required(item: &Object, kind: FetchedKind, name: &str) -> Result<String, SourceError> {
    let text = text(item, name).ok_or_else(|| {
        bad_record(format!(
            "one of the {kind} has no field {name}; its fields are: {}; iSAMS's REST interface is other than known",
            listed(item.keys().map(String::as_str))
        ))
    })?;
    if text.contains(char::is_control) {
        return Err(unreadable(kind, name));
    }
    Ok(text)
}

fn bad_record(message: String) -> SourceError {
    SourceError::permanent(SourceErrorKind::BadRecord, message)
}

fn unreadable(kind: FetchedKind, name: &str) -> SourceError {
    bad_record(format!("one of the {kind} has an unreadable field {name}; mend it in the management system"))
}

/// A number of things, also where it is written `2.0`.
fn whole_number(text: &str) -> Option<u64> {
    let number: f64 = text.parse().ok()?;
    let is_exact = number.fract() == 0.0 && (0.0..9e15).contains(&number);
    is_exact.then_some(number as u64)
}

/// A yes or no, as a truth value or a number.
fn flag(text: &str) -> Option<bool> {
    match text {
        "true" => Some(true),
        "false" => Some(false),
        number => number.parse::<i64>().ok().map(|number| number != 0),
    }
}

fn required_flag(item: &Object, kind: FetchedKind, name: &str) -> Result<bool, SourceError> {
    flag(&required(item, kind, name)?).ok_or_else(|| unreadable(kind, name))
}

fn code(item: &Object) -> Result<Record, SourceError> {
    Ok(Record::Code(Code {
        id: required(item, FetchedKind::Codes, "id")?.as_str().into(),
        letter: text(item, "code").map(Into::into),
        name: text(item, "name").map(Into::into),
        absence: true,
        active: true,
        unreadable: Vec::new(),
    }))
}

/// The register's time is `time`, else `start` (assumed). A time of day, or one with a placeholder for its date, is of
/// today; midnight of a placeholder is no time.
fn period(item: &Object, today: NaiveDate) -> Result<RegistrationPeriod, SourceError> {
    let kind = FetchedKind::Periods;
    let given: Vec<String> = ["time", "start"].iter().filter_map(|name| text(item, name)).collect();
    if given.is_empty() {
        required(item, kind, "time")?;
    }
    let at = given.iter().find_map(|text| moment(text, today)).ok_or_else(|| unreadable(kind, "time"))?;
    Ok(RegistrationPeriod {
        id: required(item, kind, "id")?.as_str().into(),
        at,
        session: text(item, "registrationType").map(Into::into),
        name: text(item, "friendlyName").map(Into::into),
        unreadable: Vec::new(),
    })
}

fn moment(text: &str, today: NaiveDate) -> Option<FeedTime> {
    let of_day = ["%H:%M:%S%.f", "%H:%M"].iter().find_map(|form| NaiveTime::parse_from_str(text, form).ok());
    if let Some(clock) = of_day {
        return Some(FeedTime::School(today.and_time(clock)));
    }
    let time: FeedTime = text.parse().ok()?;
    if time.as_written().year() >= FIRST_REAL_YEAR {
        return Some(time).filter(|time| !time.is_date());
    }
    let clock = Some(time.as_written().time()).filter(|clock| *clock != NaiveTime::MIN);
    clock.map(|clock| FeedTime::School(today.and_time(clock)))
}

/// Present codes have ids of their own, so that only absence codes are looked up.
fn registration(item: &Object, period: &RegistrationPeriod) -> Result<Record, SourceError> {
    let kind = FetchedKind::Registrations;
    let mut row = Registration::new(required(item, kind, "schoolId")?.as_str(), period.at);
    row.period = Some(text(item, "registrationPeriodId").map_or_else(|| period.id.clone(), PeriodId::new));
    row.registered = required_flag(item, kind, "isPresent")?;
    let verdict = SourceVerdict {
        taken: required_flag(item, kind, "isRegistered")?,
        out_of_school: required_flag(item, kind, "isOutOfSchool")?,
    };
    row.verdict = Some(verdict);
    row.code = text(item, "absenceCodeId").as_deref().map(Into::into);
    row.comment = text(item, "registrationComment").map(Into::into);
    let mut optional = |name: &str, is_readable: bool| {
        if !is_readable {
            row.unreadable.push(UnreadableField(name.to_owned()));
        }
    };
    let late = text(item, "isLate").map(|text| flag(&text));
    optional("isLate", late != Some(None));
    let minutes = text(item, "numberOfMinutesLate").map(|text| text.parse::<i64>().ok());
    optional("numberOfMinutesLate", minutes != Some(None));
    row.late = late.flatten().unwrap_or(false);
    // Negative minutes are missing (R2).
    row.minutes_late = minutes.flatten().and_then(|minutes| minutes.try_into().ok());
    Ok(Record::Registration(row))
}
