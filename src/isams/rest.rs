//! The REST API: today's registers, read one by one.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{Datelike, NaiveDate, NaiveTime, TimeDelta};
use futures::StreamExt;
use tokio::sync::mpsc;

use super::auth::{Credentials, TokenScope};
use super::batch::wording;
use super::body::{is_page, text_of};
use super::failure::{bad_record, bad_reply, too_large, too_many};
use super::fields::{flag, letter, minutes, session_named};
use super::message::Message;
use super::page::{ListName, Object, Page, Paging, Unreadable, object};
use super::pager::{PAGE_SIZE, PageStep, Pager};
use super::settings::{Tenant, stream, tenant_methods};
use super::text::{LONGEST_NAME, LONGEST_TEXT, clipped, is_id, listed, printable};
use super::transport::{self, Attempt, Budget, Failed};
use crate::explain::Wording;
use crate::model::{
    Code, FIRST_REAL_YEAR, FeedTime, PeriodId, Record, Registration, RegistrationPeriod, SourceVerdict, UnreadableField,
};
use crate::source::{
    AttendanceSource, Capabilities, Completeness, FetchItem, FetchRequest, FetchedKind, RecordStream, SourceError,
    SourceErrorKind,
};

/// Registers that are read at the same time.
const AT_ONCE: usize = 4;
/// The largest page (in use, verified).
const LARGEST_PAGE_SIZE: u64 = 1_000;
/// More than iSAMS says about an error.
const MOST_ERROR_BYTES: u64 = 64 << 10;
/// More registers than a school takes on one day.
const MOST_REGISTERS: usize = 2_000;
/// A list is held whole, and a few lists at a time; one of 5,000 students takes 2 MiB.
const MOST_LIST_BYTES: u64 = 8 << 20;

/// A school's iSAMS, read over the REST API with an OAuth client (scope `restapi`). It reaches today only, register by
/// register.
///
/// It has neither times of update nor out-of-school records: each mark is iSAMS's own verdict, and its decision says so
/// ([`judged_by_source`](crate::model::Decision::judged_by_source)). Its absence codes do not say whether they count as
/// absences; every one is taken to (assumed). Replies are taken not to be cached (assumed).
///
/// ```
/// use rollmark::isams::Rest;
///
/// let source = Rest::new("https://school.isams.cloud", "client", "secret")?;
/// assert_eq!(source.to_string(), "iSAMS at school.isams.cloud");
/// # Ok::<(), rollmark::source::SourceError>(())
/// ```
#[derive(Clone)]
pub struct Rest {
    tenant: Tenant,
    cache_expiry: TimeDelta,
}

impl Rest {
    /// The REST API. The address's path, if it has one, comes before the API's. The client's token is fetched when it is
    /// needed, renewed before it expires, and fetched again if it is refused.
    ///
    /// # Errors
    /// The address is not a URL, or is plain http to a host other than this machine.
    pub fn new(url: &str, client_id: impl Into<String>, client_secret: impl Into<String>) -> Result<Self, SourceError> {
        let url = transport::parse_url(url)?;
        let credentials = Credentials::client(&url, TokenScope::Rest, client_id.into(), client_secret.into());
        Ok(Self { tenant: Tenant::new(url, credentials, false)?, cache_expiry: TimeDelta::zero() })
    }

    /// Sets how old replies can be if something between here and iSAMS caches them. The default is 0.
    #[must_use]
    pub fn with_cache_expiry(mut self, expiry: TimeDelta) -> Self {
        self.cache_expiry = expiry;
        self
    }
}

tenant_methods!(Rest, "Rest");

#[async_trait]
impl AttendanceSource for Rest {
    fn capabilities(&self) -> Capabilities {
        let capabilities =
            Capabilities::new().with_code_table(self.tenant.has_code_table).with_cache_expiry(self.cache_expiry);
        capabilities.with_stamps(false).with_out_of_school(false).with_today_only(true)
    }

    fn wording(&self) -> Wording {
        wording()
    }

    async fn fetch(&self, request: &FetchRequest) -> Result<RecordStream, SourceError> {
        Ok(stream(|sender| RestFetch::new(self.tenant.clone(), request.clone(), sender).run()))
    }
}

struct RestFetch {
    tenant: Tenant,
    request: FetchRequest,
    sender: mpsc::Sender<FetchItem>,
    budget: Budget,
    hashing: RandomState,
}

impl RestFetch {
    fn new(tenant: Tenant, request: FetchRequest, sender: mpsc::Sender<FetchItem>) -> Self {
        let budget = Budget::new(tenant.total_deadline, request.counters().clone(), request.began().into());
        Self { tenant, request, sender, budget, hashing: RandomState::new() }
    }

    /// Codes, periods and registers of today, then the verdict.
    async fn run(self) -> Result<(), SourceError> {
        let read = self.read().await;
        // An error can name fields and periods, and the tenant can call them anything.
        read.map_err(|error| error.reworded(|message| self.budget.confidential.hidden(message)))
    }

    async fn read(&self) -> Result<(), SourceError> {
        let window = self.request.window();
        if window.from() != window.to() {
            return Err(SourceError::new(
                SourceErrorKind::Configuration,
                "iSAMS's REST interface gives today only; ask for today alone, or read the Batch interface",
            ));
        }
        let codes = match self.tenant.has_code_table {
            true => Some(self.list(&["absencecodes"], ListName::Known("absenceCodes"), code).await?),
            false => None,
        };
        let name = ListName::Known("registrationPeriods");
        let periods = self.list(&["periods"], name, |item| period(item, window.from())).await?;
        let mut kinds = vec![(FetchedKind::Periods, periods.len() as u64)];
        if let Some(codes) = codes {
            kinds.push((FetchedKind::Codes, codes.len() as u64));
            self.send(codes.into_iter().map(Record::Code).collect()).await;
        }

        let date_of = |period: &RegistrationPeriod| match self.request.zone() {
            Some(zone) => period.at.school_time(zone).date(),
            None => period.at.as_written().date(),
        };
        let other = periods.first().map(date_of);
        let of_today: Vec<RegistrationPeriod> =
            periods.into_iter().filter(|period| date_of(period) == window.from()).collect();
        if let (true, Some(other)) = (of_today.is_empty(), other) {
            return Err(SourceError::new(
                SourceErrorKind::Incomplete,
                format!(
                    "iSAMS lists the registration periods of {other}, not of {}; its REST interface only answers for \
                     its own today",
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
            if rows > self.tenant.max_rows_per_day {
                return Err(too_many(FetchedKind::Registrations, self.tenant.max_rows_per_day));
            }
            self.send(register).await;
        }
        drop(registers);
        kinds.push((FetchedKind::Registrations, rows));
        let verdict = FetchItem::Complete(Completeness::whole(window, kinds));
        let _ = self.sender.send(verdict).await;
        Ok(())
    }

    /// If nobody is listening any more, the whole fetch was dropped.
    async fn send(&self, records: Vec<Record>) {
        let _ = self.sender.send(FetchItem::Records(records.into_iter().collect())).await;
    }

    async fn register(&self, period: RegistrationPeriod) -> Result<Vec<Record>, SourceError> {
        let path = ["register", period.id.as_str()];
        self.list(&path, ListName::WithField("schoolId"), |item| registration(item, &period)).await
    }

    /// Every item of a list. Where pages repeat records of each other, one page for all is tried.
    async fn list<T>(
        &self,
        path: &[&str],
        name: ListName<'_>,
        read: impl Fn(&Object<'_>) -> Result<T, SourceError>,
    ) -> Result<Vec<T>, SourceError> {
        for size in [PAGE_SIZE, LARGEST_PAGE_SIZE] {
            if let Some(items) = self.pages(path, name, size, &read).await? {
                return Ok(items);
            }
        }
        let place = printable(&path.join("/"));
        Err(SourceError::temporary(
            SourceErrorKind::Incomplete,
            format!("iSAMS sent records of {place} again on another page, so others may be missing"),
        ))
    }

    /// Every item of a list, page by page; nothing where a page repeats records of those before ([`PageStep::Repeats`]).
    async fn pages<T>(
        &self,
        path: &[&str],
        name: ListName<'_>,
        size: u64,
        read: &impl Fn(&Object<'_>) -> Result<T, SourceError>,
    ) -> Result<Option<Vec<T>>, SourceError> {
        let place = printable(&path.join("/"));
        let mut pager = Pager::new(&place);
        let (mut items, mut length, mut found) = (Vec::new(), 0, None);
        loop {
            // The pages of a list all have it under one name.
            let name = found.as_deref().map_or(name, ListName::Known);
            let ask = PageRequest { path, name, page: pager.page(), size, most_bytes: MOST_LIST_BYTES - length };
            let reply = self.budget.retry(&self.tenant.url, |attempt| self.attempt(&ask, read, attempt)).await?;
            found = reply.list_name.or(found);
            length += reply.length;
            match pager.accept(reply.hashes, reply.paging)? {
                PageStep::Next => items.extend(reply.items),
                PageStep::Last => {
                    items.extend(reply.items);
                    return Ok(Some(items));
                }
                PageStep::LastAgain => return Ok(Some(items)),
                PageStep::Repeats => return Ok(None),
            }
        }
    }

    async fn attempt<T>(
        &self,
        ask: &PageRequest<'_>,
        read: &impl Fn(&Object<'_>) -> Result<T, SourceError>,
        attempt: Attempt,
    ) -> Result<ListPage<T>, Failed> {
        let request = self.tenant.request(["api", "registration"].into_iter().chain(ask.path.iter().copied()));
        let request = request.query(&[("page", ask.page), ("pageSize", ask.size)]);
        let response = self.tenant.send(request, &attempt).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        if !status.is_success() {
            let body = transport::whole(response, MOST_ERROR_BYTES, &attempt).await.unwrap_or_default();
            let words = Page::parse(&body).map(|page| page.words()).unwrap_or_default();
            let said = Some(words).filter(|words| *words != Message::default());
            return Err(transport::failure(status, &headers, said, is_page(&body), &attempt.confidential).into());
        }
        let body = transport::whole(response, self.tenant.max_bytes.min(ask.most_bytes), &attempt).await;
        let body = body.map_err(|error| match error.kind() {
            SourceErrorKind::TooLarge => {
                too_large(&format!("a list of more than {} bytes", self.tenant.max_bytes.min(MOST_LIST_BYTES)))
            }
            _ => error,
        })?;
        let length = body.len() as u64;
        let text = text_of(&body)?;
        drop(body);
        let page = Page::parse(&text)?;
        if let Some(said) = page.refusal() {
            return Err(said.into_error(status.as_u16(), &attempt.confidential).into());
        }
        let Some((list_name, records)) = page.records(ask.name) else {
            let place = printable(&ask.path.join("/"));
            return Err(match page.words() {
                said if said != Message::default() => said.into_error(status.as_u16(), &attempt.confidential),
                _ => bad_reply(format!("the reply for {place} holds no list of records; check the address")),
            }
            .into());
        };
        attempt.span.record("rows", records.len());
        Ok(ListPage {
            list_name,
            items: records
                .iter()
                .filter_map(|record| object(record))
                .zip(1..)
                .map(|(record, number)| {
                    let PageRequest { path, page, .. } = ask;
                    let placed =
                        |wrong: &str| format!("row {number} on page {page} of {} {wrong}", printable(&path.join("/")));
                    // What reads the fields says only what is wrong.
                    read(&record).map_err(|error| error.reworded(placed))
                })
                .collect::<Result<_, _>>()?,
            hashes: records.iter().map(|record| self.hashing.hash_one(record.get())).collect(),
            paging: page.paging(),
            length,
        })
    }
}

/// Asks for one page.
struct PageRequest<'a> {
    path: &'a [&'a str],
    name: ListName<'a>,
    page: u64,
    size: u64,
    most_bytes: u64,
}

/// A page, read.
struct ListPage<T> {
    /// Under which name the list was found, if it is not the whole page.
    list_name: Option<String>,
    items: Vec<T>,
    /// Equal for records that are written alike.
    hashes: Vec<u64>,
    paging: Paging,
    length: u64,
}

fn required(item: &Object<'_>, name: &str) -> Result<String, SourceError> {
    let text = item.text(name).ok_or_else(|| {
        bad_record(format!(
            "has no field {name}; its fields are: {}; iSAMS's REST interface differs from what is known",
            listed(item.names())
        ))
    })?;
    let text = text.map_err(|Unreadable| unreadable(name))?;
    Some(text).filter(|text| is_id(text)).ok_or_else(|| unreadable(name))
}

/// An optional id. One that can't be read is an error all the same: without it the record would be another.
fn optional_id(item: &Object<'_>, name: &str) -> Result<Option<String>, SourceError> {
    item.text(name).map(|_| required(item, name)).transpose()
}

fn unreadable(name: &str) -> SourceError {
    bad_record(format!("has an unreadable field {name}; correct it in the management system"))
}

fn required_flag(item: &Object<'_>, name: &str) -> Result<bool, SourceError> {
    flag(&required(item, name)?).ok_or_else(|| unreadable(name))
}

/// An optional field, read; what can't be read is missing and noted (R1.6).
fn optional<T>(
    item: &Object<'_>,
    name: &str,
    unreadable: &mut Vec<UnreadableField>,
    read: impl FnOnce(&str) -> Option<T>,
) -> Option<T> {
    let read = item.text(name)?.ok().and_then(|text| read(&text));
    if read.is_none() {
        unreadable.push(UnreadableField::new(name.to_owned()));
    }
    read
}

/// An optional name or free text. One that is too long is cut and noted.
fn words(item: &Object<'_>, name: &str, unreadable: &mut Vec<UnreadableField>, longest: usize) -> Option<Box<str>> {
    let text: String = optional(item, name, unreadable, |text| Some(text.to_owned()))?;
    let cut = clipped(&text, longest);
    if cut.len() < text.len() {
        unreadable.push(UnreadableField::new(name.to_owned()));
    }
    Some(cut.trim_end().into())
}

fn code(item: &Object<'_>) -> Result<Code, SourceError> {
    let mut unreadable = Vec::new();
    Ok(Code {
        id: required(item, "id")?.as_str().into(),
        letter: optional(item, "code", &mut unreadable, letter),
        name: words(item, "name", &mut unreadable, LONGEST_NAME),
        absence: true,
        active: true,
        unreadable,
    })
}

/// The register's time is `time`, else `start` (assumed). A time of day, or one with a placeholder for its date, is of
/// today; midnight of a placeholder is not a time.
fn period(item: &Object<'_>, today: NaiveDate) -> Result<RegistrationPeriod, SourceError> {
    let given: Vec<String> = ["time", "start"].iter().filter_map(|name| item.text(name)?.ok()).collect();
    if given.is_empty() {
        required(item, "time")?;
    }
    let at = given.iter().find_map(|text| moment(text, today)).ok_or_else(|| unreadable("time"))?;
    let mut unreadable = Vec::new();
    let name = words(item, "friendlyName", &mut unreadable, LONGEST_NAME);
    let session = match item.text("registrationType") {
        Some(_) => words(item, "registrationType", &mut unreadable, LONGEST_NAME),
        // A period without a flag of its own is flagged by its name if that is one.
        None => name.as_deref().and_then(session_named).map(Into::into),
    };
    Ok(RegistrationPeriod { id: required(item, "id")?.as_str().into(), at, session, name, unreadable })
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

/// Present codes have ids of their own, so only absence codes are looked up.
fn registration(item: &Object<'_>, period: &RegistrationPeriod) -> Result<Record, SourceError> {
    let mut row = Registration::new(required(item, "schoolId")?.as_str(), period.at);
    row.registered = required_flag(item, "isPresent")?;
    row.verdict = Some(SourceVerdict {
        taken: required_flag(item, "isRegistered")?,
        out_of_school: required_flag(item, "isOutOfSchool")?,
    });
    let own_period = optional_id(item, "registrationPeriodId")?;
    row.period = Some(own_period.map_or_else(|| period.id.clone(), PeriodId::new));
    row.code = optional_id(item, "absenceCodeId")?.as_deref().map(Into::into);
    let unreadable = &mut row.unreadable;
    row.comment = words(item, "registrationComment", unreadable, LONGEST_TEXT);
    row.late = optional(item, "isLate", unreadable, flag).unwrap_or(false);
    row.minutes_late = optional(item, "numberOfMinutesLate", unreadable, minutes).flatten();
    Ok(Record::Registration(row))
}
