//! One HTTP request, and what its failure means.

use std::io;
use std::time::Duration;

use async_compression::tokio::bufread::GzipDecoder;
use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use reqwest::{Client, Response, StatusCode, Url, header, redirect};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::io::StreamReader;
use tracing::field::Empty;
use tracing::{Instrument, Span, info_span};

use super::confidential::Confidential;
use super::failure::{CHECK_NETWORK, broken_off, cannot_answer_now, read_error};
use super::message::Message;
use crate::model::{Cause, Retry};
use crate::source::{FetchCounters, SourceError, SourceErrorKind, retry};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For a pause in a reply, and for its first byte: iSAMS gathers a large one before it begins to send.
const READ_TIMEOUT: Duration = Duration::from_secs(120);

fn configuration(message: impl Into<String>) -> SourceError {
    SourceError::new(SourceErrorKind::Configuration, message)
}

/// Reads and checks a tenant's address.
pub(super) fn parse_url(text: &str) -> Result<Url, SourceError> {
    let url = Url::parse(text.trim())
        .map_err(|_| configuration("the tenant's address is not a URL; https://school.isams.cloud is one"))?;
    if url.host_str().is_none_or(str::is_empty) || !matches!(url.scheme(), "http" | "https") {
        return Err(configuration("the tenant's address is not an https URL; https://school.isams.cloud is one"));
    }
    if url.scheme() == "http" && !is_loopback(&url) {
        return Err(configuration("the tenant's address is plain http, which would show the key to others; use https"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(configuration(
            "the tenant's address must hold neither a password nor a query; pass the key separately",
        ));
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Where tokens are fetched and given back.
pub(super) const AUTH_PATH: &str = "/auth/connect/";

/// Follows a redirect within the tenant's host and port; what is not followed comes back as the redirect that it is. One
/// that turns a POST into a GET would lose the request's body, and one with a password in its address would be logged. A
/// request for a token is not redirected at all.
fn same_host(url: &Url, is_post: bool) -> redirect::Policy {
    let origin = url.origin();
    redirect::Policy::custom(move |attempt| {
        let keeps_body = !is_post || matches!(attempt.status().as_u16(), 307 | 308);
        let (next, previous) = (attempt.url(), attempt.previous());
        let is_for_token = previous.first().is_some_and(|first| first.path().starts_with(AUTH_PATH));
        let is_same = next.origin() == origin && next.username().is_empty() && next.password().is_none();
        if is_same && keeps_body && !is_for_token && previous.len() < 5 { attempt.follow() } else { attempt.stop() }
    })
}

/// How a tenant is reached, besides its address.
#[derive(Clone, Default)]
pub(super) struct Connection {
    proxy: Option<reqwest::Proxy>,
    #[cfg(feature = "rustls")]
    root_certificates: Vec<reqwest::Certificate>,
}

impl Connection {
    pub(super) fn set_proxy(&mut self, url: &str) -> Result<(), SourceError> {
        let proxy = reqwest::Proxy::all(url.trim())
            .map_err(|_| configuration("the proxy's address is not a URL; http://proxy.school.example:8080 is one"))?;
        self.proxy = Some(proxy);
        Ok(())
    }

    #[cfg(feature = "rustls")]
    pub(super) fn add_root_certificate(&mut self, pem: &[u8]) -> Result<(), SourceError> {
        let refused = || configuration("the root certificate can't be read; give an authority's certificate in PEM");
        let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(|_| refused())?;
        if certificates.is_empty() {
            return Err(refused());
        }
        self.root_certificates.extend(certificates);
        Ok(())
    }

    pub(super) fn client(&self, url: &Url, posts: bool) -> Result<Client, SourceError> {
        let accepted = [(header::ACCEPT_ENCODING, header::HeaderValue::from_static("gzip"))];
        let mut builder = Client::builder()
            .default_headers(accepted.into_iter().collect())
            // Decompressed here, whatever features another crate switches on.
            .no_gzip()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .redirect(same_host(url, posts))
            .retry(reqwest::retry::never())
            .referer(false)
            .user_agent(concat!("rollmark/", env!("CARGO_PKG_VERSION")));
        #[cfg(feature = "rustls")]
        {
            let certificates = self.root_certificates.iter().cloned();
            builder = match url.scheme() {
                // Without TLS, this machine's certificates need not be read.
                "http" => builder.tls_certs_only(certificates),
                _ => builder.tls_certs_merge(certificates),
            };
        }
        if let Some(proxy) = self.proxy.clone().filter(|_| !is_loopback(url)) {
            builder = builder.proxy(proxy);
        } else if is_loopback(url) {
            builder = builder.no_proxy();
        }
        builder.build().map_err(|_| configuration("this machine's TLS set-up does not work; check its certificates"))
    }
}

/// How often one request is tried.
const TRIES: usize = 4;
/// As long as a clock can be trusted to count: thirty years.
const NO_LIMIT: Duration = Duration::from_secs(30 * 365 * 86_400);

/// A failed attempt; once rows are out, only a new fetch from the start can help.
pub(super) struct Failed {
    pub(super) error: SourceError,
    pub(super) rows_are_out: bool,
}

impl From<SourceError> for Failed {
    fn from(error: SourceError) -> Self {
        Self { error, rows_are_out: false }
    }
}

/// One try of a request: by when it must end, where it is counted, and the span that shows it.
#[derive(Clone)]
pub(super) struct Attempt {
    pub(super) deadline: Instant,
    pub(super) counters: FetchCounters,
    pub(super) confidential: Confidential,
    pub(super) span: Span,
}

impl Attempt {
    /// Of the address only the host shows: a path can hold ids, a query the key.
    pub(super) fn new(
        url: &Url,
        number: u32,
        deadline: Instant,
        counters: FetchCounters,
        confidential: Confidential,
    ) -> Self {
        let span = info_span!(
            "rollmark.request",
            host = url.host_str(),
            attempt = number,
            from = Empty,
            to = Empty,
            status = Empty,
            rows = Empty,
            bytes = Empty
        );
        Self { deadline, counters, confidential, span }
    }
}

/// What one fetch may take.
pub(super) struct Budget {
    deadline: Instant,
    counters: FetchCounters,
    pub(super) confidential: Confidential,
    started: Instant,
}

impl Budget {
    pub(super) fn new(longest: Duration, counters: FetchCounters, started: Instant) -> Self {
        let confidential = Confidential::default();
        Self { deadline: started + longest.min(NO_LIMIT), counters, confidential, started }
    }

    /// Makes a request to a tenant until it succeeds: what is temporary is worth another try while tries and time last.
    pub(super) async fn retry<T, A: Future<Output = Result<T, Failed>>>(
        &self,
        tenant: &Url,
        make: impl Fn(Attempt) -> A,
    ) -> Result<T, SourceError> {
        let mut waits = retry::waits(TRIES);
        let mut made = 1;
        loop {
            let attempt = Attempt::new(tenant, made, self.deadline, self.counters.clone(), self.confidential.clone());
            let span = attempt.span.clone();
            let Failed { error, rows_are_out } = match make(attempt).instrument(span.clone()).await {
                Ok(reply) => return Ok(reply),
                Err(failed) => failed,
            };
            if rows_are_out {
                return Err(error);
            }
            // A tenant that asks for no wait at all would get four requests at once.
            let least = error.retry().wait();
            let wait = waits.next().and_then(|wait| Some(least?.max(wait)));
            let is_short = |wait: &Duration| *wait <= retry::LONGEST_WAIT && Instant::now() + *wait < self.deadline;
            let Some(wait) = wait.filter(is_short) else {
                return Err(match least {
                    Some(asked) if !asked.is_zero() && !is_short(&asked) => self.asked_to_wait(error, asked, made),
                    // What can't pass and came at once needs no count.
                    None if error.kind() != SourceErrorKind::TimedOut && made == 1 => error,
                    _ => error.exhausted(&self.tried(made)),
                });
            };
            span.in_scope(|| retry::warn(error.kind(), wait));
            // The wait is not part of the request.
            drop(span);
            sleep(wait).await;
            made += 1;
            self.counters.add_retry();
        }
    }

    /// A failure after which the tenant asks for a longer wait than is sat out here.
    fn asked_to_wait(&self, error: SourceError, wait: Duration, times: u32) -> SourceError {
        let said = |message: &str| {
            let wait = in_words(wait);
            format!("{message}; iSAMS asks to wait {wait} before the next request; run again then")
        };
        let error = error.reworded(said).exhausted(&self.tried(times));
        if wait > retry::LONGEST_WAIT { error.with_retry(Retry::After(wait)) } else { error }
    }

    fn tried(&self, times: u32) -> String {
        let seconds = self.started.elapsed().as_secs_f32();
        let times = if times == 1 { "once".to_owned() } else { format!("{times} times") };
        format!("tried {times} in {seconds:.1} s")
    }
}

/// A wait, rounded up: `45 s`, `5 min`, `1 h 00 min`.
fn in_words(wait: Duration) -> String {
    let seconds = wait.as_millis().div_ceil(1_000);
    match seconds.div_ceil(60) {
        ..=2 => format!("{seconds} s"),
        minutes @ ..60 => format!("{minutes} min"),
        minutes => format!("{} h {:02} min", minutes / 60, minutes % 60),
    }
}

/// Sends a request. An answer with any status is an answer, but part of one is not, nor is a redirect that is not followed.
pub(super) async fn send(request: reqwest::RequestBuilder, attempt: &Attempt) -> Result<Response, SourceError> {
    attempt.counters.add_request();
    let answer = timeout_at(attempt.deadline, request.send()).await.map_err(|_| out_of_time())?;
    // reqwest's own text names the whole URL, and with it the key.
    let response = answer.map_err(|error| connection(&error.without_url()))?;
    attempt.span.record("status", response.status().as_u16());
    if is_part(&response) {
        return Err(SourceError::new(
            SourceErrorKind::BadReply,
            "only a part of the reply came, although all of it was asked for (HTTP status 206 or Content-Range); check what \
             stands between here and iSAMS, such as a proxy",
        ));
    }
    if response.status().is_redirection() { Err(redirected(&response)) } else { Ok(response) }
}

/// Of where a redirect leads nothing shows: it can hold secrets.
fn redirected(response: &Response) -> SourceError {
    let location = response.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
    let target = location.and_then(|location| response.url().join(location).ok());
    let message = match target {
        _ if response.status() == StatusCode::NOT_MODIFIED => {
            "the answer says only that nothing has changed, which was not the question; check what stands between here and \
             iSAMS, such as a proxy"
        }
        None => "the tenant's address answers with a redirect that does not say where to; check the address",
        Some(target) if target.origin() == response.url().origin() => {
            "the tenant's address answers with a redirect to a page of the same host that can't be followed, perhaps a login \
             page; check the address and its path"
        }
        Some(_) => {
            "the tenant's address answers with a redirect to another host or port, which is not followed; check the address"
        }
    };
    let status = response.status().as_u16();
    SourceError::new(SourceErrorKind::BadReply, format!("{message} (HTTP status {status})"))
}

fn is_part(response: &Response) -> bool {
    let has_range = response.headers().contains_key(header::CONTENT_RANGE);
    response.status() == StatusCode::PARTIAL_CONTENT || (response.status().is_success() && has_range)
}

pub(super) fn out_of_time() -> SourceError {
    SourceError::new(
        SourceErrorKind::TimedOut,
        "the reply did not come within the time that is set for a fetch; ask for fewer days, or run again later",
    )
}

fn connection(error: &reqwest::Error) -> SourceError {
    if error.is_builder() {
        return configuration("the key or token holds a character that a request can't carry; check the credentials");
    }
    let (kind, message) = if error.is_timeout() {
        (SourceErrorKind::TimedOut, "iSAMS did not answer in time; check the address and the network")
    } else if error.is_connect() {
        (
            SourceErrorKind::Connection,
            "there is no answer at the tenant's address, or its certificate is not trusted; check the address and the network",
        )
    } else {
        let message = format!("the connection broke off before the reply; {CHECK_NETWORK}");
        return SourceError::temporary(SourceErrorKind::Connection, message).with_cause(cause_of(error));
    };
    SourceError::temporary(kind, message).with_cause(cause_of(error))
}

/// What lies behind a failure of HTTP: its kind, and the operating system's error if there is one. Their texts are left out:
/// they can quote addresses.
fn cause_of(error: &reqwest::Error) -> Cause {
    let what = match error {
        _ if error.is_timeout() => "HTTP: nothing came in time",
        _ if error.is_connect() => "HTTP: no connection could be made",
        _ if error.is_body() || error.is_decode() => "HTTP: the body could not be read",
        _ => "HTTP: the request could not be sent, or the answer is no HTTP",
    };
    let mut behind: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(cause) = behind {
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            return Cause::new(what).with_cause(Cause::of_io(error));
        }
        behind = cause.source();
    }
    Cause::new(what)
}

/// A body as it was before compression. Whatever follows the compressed data is an error: it would be lost.
fn decompressed(response: Response) -> BoxStream<'static, io::Result<Bytes>> {
    let encoding = response.headers().get(header::CONTENT_ENCODING).map(|encoding| encoding.as_bytes().trim_ascii());
    let is_gzip =
        encoding.is_some_and(|name| name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"x-gzip"));
    let body = response.bytes_stream().map_err(|error| io::Error::other(broken_body(&error.without_url())));
    if !is_gzip {
        return body.boxed();
    }
    let decoder = GzipDecoder::new(StreamReader::new(body.boxed()));
    futures::stream::unfold(Some(decoder), async |decoder| {
        let mut decoder = decoder?;
        match next_part(&mut decoder).await {
            Ok(part) if part.is_empty() => None,
            Ok(part) => Some((Ok(part), Some(decoder))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

/// The next part of what was compressed; empty at its end.
async fn next_part(decoder: &mut GzipDecoder<impl AsyncBufRead + Unpin>) -> io::Result<Bytes> {
    let mut part = BytesMut::with_capacity(32 << 10);
    let read = decoder.read_buf(&mut part).await;
    // The decoder's own errors say what is damaged in words that a school can't use.
    let is_ours = |error: &io::Error| error.get_ref().is_some_and(|inner| inner.is::<SourceError>());
    read.map_err(|error| if is_ours(&error) { error } else { io::Error::other(damaged(&error)) })?;
    if part.is_empty() && !decoder.get_mut().fill_buf().await?.is_empty() {
        return Err(io::Error::other(SourceError::new(
            SourceErrorKind::BadReply,
            "the reply goes on after the end of its compressed data; check what stands between here and iSAMS, such as a \
             proxy",
        )));
    }
    Ok(part.freeze())
}

/// The chunks of a body, counted after decompression, within a size and a deadline.
pub(super) fn chunks(
    response: Response,
    max_bytes: u64,
    attempt: Attempt,
) -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static {
    futures::stream::unfold((decompressed(response), 0_u64), move |(mut body, so_far)| {
        let Attempt { deadline, counters, span, .. } = attempt.clone();
        async move {
            let chunk = match timeout_at(deadline, body.next()).await {
                Err(_) => Err(io::Error::other(out_of_time())),
                Ok(None) => {
                    span.record("bytes", so_far);
                    return None;
                }
                Ok(Some(chunk)) => chunk,
            };
            let length = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
            counters.add_bytes(length);
            let so_far = so_far + length;
            if chunk.is_err() || so_far > max_bytes {
                span.record("bytes", so_far);
            }
            if so_far > max_bytes {
                let error = SourceError::new(
                    SourceErrorKind::TooLarge,
                    format!(
                        "the reply is larger than the limit of {max_bytes} bytes; check the address, ask for fewer days, or \
                         raise the limit"
                    ),
                );
                return Some((Err(io::Error::other(error)), (body, 0)));
            }
            Some((chunk, (body, so_far)))
        }
    })
    .boxed()
}

/// A short body, read whole.
pub(super) async fn whole(response: Response, max_bytes: u64, attempt: &Attempt) -> Result<Vec<u8>, SourceError> {
    let mut chunks = chunks(response, max_bytes, attempt.clone());
    let mut body = Vec::new();
    while let Some(chunk) = chunks.next().await {
        body.extend_from_slice(&chunk.map_err(|error| read_error(&error))?);
    }
    Ok(body)
}

fn broken_body(error: &reqwest::Error) -> SourceError {
    let failure = match error.is_timeout() {
        true => SourceError::temporary(
            SourceErrorKind::Connection,
            format!("the reply stopped coming in the middle; {CHECK_NETWORK}"),
        ),
        false => broken_off(),
    };
    failure.with_cause(cause_of(error))
}

fn damaged(error: &io::Error) -> SourceError {
    let message = format!("the reply breaks off, or its compression is damaged; {CHECK_NETWORK}");
    SourceError::temporary(SourceErrorKind::Connection, message).with_cause(Cause::of_io(error))
}

/// What an answer with a status other than 200 means: what iSAMS says in it, or else its status.
pub(super) fn failure(
    status: StatusCode,
    headers: &header::HeaderMap,
    said: Option<Message>,
    is_page: bool,
    confidential: &Confidential,
) -> SourceError {
    let plain = status_error(status, headers, is_page);
    match said {
        Some(message) => {
            let error = message.into_error(status.as_u16(), confidential);
            match (error.retry(), plain.retry()) {
                (Retry::Now, Retry::After(wait)) => error.with_retry(Retry::After(wait)),
                _ => error,
            }
        }
        None => plain,
    }
}

/// What a status other than 200 means where the body says nothing, or is a web page.
pub(super) fn status_error(status: StatusCode, headers: &header::HeaderMap, is_page: bool) -> SourceError {
    let code = status.as_u16();
    let page = if is_page { ", with an HTML page, perhaps a proxy's" } else { "" };
    if let Some(error) = cannot_answer_now(code, page, "") {
        return error.with_retry(retry_after(headers).map_or(Retry::Now, Retry::After));
    }
    let (kind, message) = match code {
        401 => (SourceErrorKind::Credentials, "iSAMS refuses the API key or client; check the credentials"),
        403 => (
            SourceErrorKind::NotAllowed,
            "iSAMS refuses the request; check the rights, IP and domain limits of the key",
        ),
        404 => (SourceErrorKind::BadReply, "there is no iSAMS interface at this address; check the address"),
        _ if is_page => (SourceErrorKind::BadReply, "something other than iSAMS answered; check the address"),
        _ => (
            SourceErrorKind::Server,
            "iSAMS answered with an error and did not say which; run again later; if it stays so, ask iSAMS support",
        ),
    };
    SourceError::new(kind, format!("{message} (HTTP status {code}{page})"))
}

/// `Retry-After` as seconds or as a date.
fn retry_after(headers: &header::HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let wait = match is_number {
        true => text.parse().map_or(NO_LIMIT, Duration::from_secs),
        false => {
            let until = DateTime::parse_from_rfc2822(text).ok()?;
            (until.to_utc() - Utc::now()).to_std().unwrap_or_default()
        }
    };
    Some(wait.min(NO_LIMIT))
}
