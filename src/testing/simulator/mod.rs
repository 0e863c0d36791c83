//! An iSAMS tenant on a loopback port, serving a [`FakeSchool`]: for tests of a whole HTTP stack.
//!
//! It is strict: a wrong request gets the error that iSAMS gives. Nodes and errors that are verified look like iSAMS's own;
//! the items of out-of-school records and registration periods use assumed names. It serves the Batch API as XML and JSON,
//! with a key or an OAuth client, and the REST API with an OAuth client, whose credentials it takes in the form or as HTTP
//! Basic. As at iSAMS (assumed), names in paths, queries and filters count without regard to case, the tenant's pages also
//! lie below `/main`, a Batch request without a body asks like one without filters, and a token asked for without a scope has
//! all of the client's.

mod batch;
mod rest;

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::model::Code;
use crate::testing::{FakeSchool, TestClock};

/// The largest request that is read.
const MOST_REQUEST_BYTES: usize = 1 << 20;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Something that goes wrong with one request.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use rollmark::testing::FakeSchool;
/// use rollmark::testing::simulator::{Fault, Simulator};
///
/// let simulator = Simulator::start(FakeSchool::demo("2026-11-20".parse()?)).await?;
/// simulator.fail_next(Fault::Deadlock);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// iSAMS's message about a deadlock, with status 500.
    Deadlock,
    /// iSAMS's message about a lock time-out, with status 500.
    LockTimeOut,
    /// This status without a body, and a request to wait for this many seconds.
    Status(u16, Option<u64>),
    /// A login page as HTML, with status 200.
    LoginPage,
    /// Status 200 and nothing else.
    EmptyBody,
    /// The connection breaks in the middle of the reply.
    Reset,
    /// Half of the document, sent as if it were whole.
    HalfDocument,
    /// Status 200 and a text that is not a document.
    NotXml,
    /// The right reply under the wrong content type.
    WrongContentType,
    /// The reply's first bytes, then a byte now and then, without an end.
    SlowDrip,
    /// A JSON object with a `message`, which is how the REST API refuses, but with status 200.
    ErrorObject,
    /// The right reply, but without any absence code.
    NoCodes,
}

/// An iSAMS tenant on a loopback port. It stops when it is dropped.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use rollmark::testing::FakeSchool;
/// use rollmark::testing::simulator::Simulator;
///
/// let simulator = Simulator::start(FakeSchool::demo("2026-11-20".parse()?)).await?;
/// assert!(simulator.url().starts_with("http://127.0.0.1:"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Simulator {
    state: Arc<Mutex<State>>,
    address: SocketAddr,
    serving: JoinHandle<()>,
}

struct State {
    school: FakeSchool,
    key: String,
    client_id: String,
    client_secret: String,
    /// The tokens that are valid, with their scopes, and how many were given out.
    tokens: HashMap<String, Vec<String>>,
    tokens_given: u64,
    /// Other names for fields, by the simulator's own.
    renamed: HashMap<String, String>,
    today: Option<NaiveDate>,
    /// Every nth request meets the next of these faults: n, and the faults.
    regular_faults: (u64, Vec<Fault>),
    methods: Vec<String>,
    shuffle: Option<u64>,
    row_cap: Option<usize>,
    cache: Option<(TimeDelta, TestClock)>,
    replies: HashMap<String, (DateTime<Utc>, Bytes)>,
    faults: VecDeque<Fault>,
    /// While a request meets [`Fault::NoCodes`].
    hides_codes: bool,
    requests: u64,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("requests", &self.requests).finish_non_exhaustive()
    }
}

impl Simulator {
    /// Serves the school on a free loopback port. Needs a tokio runtime.
    ///
    /// # Errors
    /// No port can be opened.
    pub async fn start(school: FakeSchool) -> io::Result<Self> {
        Self::start_at(school, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Serves the school at this address; port 0 is a free one.
    ///
    /// # Errors
    /// The address can't be opened.
    pub async fn start_at(school: FakeSchool, address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State {
            school,
            key: "5f7e6c1a-0000-4000-8000-0123456789ab".to_owned(),
            client_id: "0d9c8b7a-0000-4000-8000-0123456789ab".to_owned(),
            client_secret: "7a6b5c4d-0000-4000-8000-0123456789ab".to_owned(),
            tokens: HashMap::new(),
            tokens_given: 0,
            renamed: HashMap::new(),
            today: None,
            regular_faults: (0, Vec::new()),
            methods: batch::METHODS.iter().map(|method| method.name.to_owned()).collect(),
            shuffle: None,
            row_cap: None,
            cache: None,
            replies: HashMap::new(),
            faults: VecDeque::new(),
            hides_codes: false,
            requests: 0,
        }));
        let serving = tokio::spawn(serve(listener, Arc::clone(&state)));
        Ok(Self { state, address, serving })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The tenant's address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The Batch key that it accepts.
    pub fn api_key(&self) -> String {
        self.lock().key.clone()
    }

    /// The OAuth client that it knows.
    pub fn client_id(&self) -> String {
        self.lock().client_id.clone()
    }

    /// That client's secret.
    pub fn client_secret(&self) -> String {
        self.lock().client_secret.clone()
    }

    /// Sets the OAuth client that it knows; at first both are GUIDs, as at iSAMS.
    pub fn set_client(&self, id: &str, secret: &str) {
        let mut state = self.lock();
        (state.client_id, state.client_secret) = (id.to_owned(), secret.to_owned());
    }

    /// Makes every token that was given out invalid.
    pub fn revoke_token(&self) {
        self.lock().tokens.clear();
    }

    /// How many tokens are valid.
    pub fn valid_tokens(&self) -> usize {
        self.lock().tokens.len()
    }

    /// Sets the only date that the REST API knows; at first it is the latest of the school's registration periods.
    pub fn set_today(&self, today: NaiveDate) {
        self.lock().today = Some(today);
    }

    /// Every `requests`-th request meets one of these faults, each in its turn.
    pub fn fail_every(&self, requests: u64, faults: impl IntoIterator<Item = Fault>) {
        self.lock().regular_faults = (requests, faults.into_iter().collect());
    }

    /// Changes the school. Replies in the key's cache stay as they are.
    pub fn change(&self, change: impl FnOnce(&mut FakeSchool)) {
        change(&mut self.lock().school);
    }

    /// Allocates only these methods to the key; at first it has all.
    pub fn allow_methods<'a>(&self, methods: impl IntoIterator<Item = &'a str>) {
        self.lock().methods = methods.into_iter().map(str::to_owned).collect();
    }

    /// Sends rows in another order, the same for the same seed.
    pub fn shuffle(&self, seed: u64) {
        self.lock().shuffle = Some(seed);
    }

    /// Gives a field of the Batch API another name, in every container that has it: `rename_field("StartDateTime", "AwayFrom")`.
    pub fn rename_field(&self, field: &str, name: &str) {
        self.lock().renamed.insert(field.to_owned(), name.to_owned());
    }

    /// Cuts every container after this many rows, silently.
    pub fn cap_rows(&self, most: usize) {
        self.lock().row_cap = Some(most);
    }

    /// Answers the same request with the same reply for this long by the test's clock.
    pub fn cache_for(&self, expiry: TimeDelta, clock: &TestClock) {
        self.lock().cache = Some((expiry, clock.clone()));
    }

    /// The next request meets this fault. Faults queue up, one for each request.
    pub fn fail_next(&self, fault: Fault) {
        self.lock().faults.push_back(fault);
    }

    /// How many requests have come so far.
    pub fn requests(&self) -> u64 {
        self.lock().requests
    }
}

impl State {
    fn codes(&self) -> &[Code] {
        if self.hides_codes { &[] } else { self.school.codes() }
    }

    /// What this request meets, if it is an nth one.
    fn regular_fault(&self) -> Option<Fault> {
        let (every, faults) = &self.regular_faults;
        if *every == 0 || faults.is_empty() || !self.requests.is_multiple_of(*every) {
            return None;
        }
        let turn = (self.requests / every - 1) as usize % faults.len();
        faults.get(turn).copied()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    loop {
        // A connection that fails to open is the client's affair.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, Arc::clone(&state)));
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>, state: Arc<Mutex<State>>) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MOST_REQUEST_BYTES).collect().await.map(http_body_util::Collected::to_bytes);
    let mut state = lock(&state);
    state.requests += 1;
    let queued = state.faults.pop_front();
    let fault = queued.or_else(|| state.regular_fault());
    let reply = match (fault, body) {
        (Some(fault @ (Fault::Reset | Fault::HalfDocument | Fault::SlowDrip)), Ok(body)) => {
            let whole = route(&head, &body, &mut state);
            return Ok(broken(whole, fault));
        }
        (Some(Fault::WrongContentType), Ok(body)) => {
            Reply { content_type: "text/html", ..route(&head, &body, &mut state) }
        }
        (Some(Fault::NoCodes), Ok(body)) => {
            state.hides_codes = true;
            let reply = route(&head, &body, &mut state);
            state.hides_codes = false;
            reply
        }
        (Some(fault), _) => faulty(fault),
        (None, Ok(body)) => route(&head, &body, &mut state),
        (None, Err(_)) => Reply::status(StatusCode::PAYLOAD_TOO_LARGE),
    };
    Ok(reply.into_response())
}

fn route(head: &Parts, body: &[u8], state: &mut State) -> Reply {
    let path = head.uri.path();
    let path = after("/main", path).filter(|path| path.starts_with('/')).unwrap_or(path);
    let page = [batch::XML_PAGE, batch::JSON_PAGE].into_iter().find(|page| path.eq_ignore_ascii_case(page));
    let is_auth = |known: &&str| path.eq_ignore_ascii_case(known);
    let auth = [TOKEN_PATH, REVOCATION_PATH, DISCOVERY_PATH].into_iter().find(is_auth);
    let rest_path = after(rest::PATH, path);
    let (allowed, names): (&[Method], _) = match (page, rest_path, auth) {
        (Some(_), ..) => (&[Method::POST, Method::GET], "GET, POST"),
        (_, Some(_), _) | (.., Some(DISCOVERY_PATH)) => (&[Method::GET, Method::HEAD], "GET, HEAD"),
        (.., Some(_)) => (&[Method::POST], "POST"),
        _ => return Reply::status(StatusCode::NOT_FOUND),
    };
    if !allowed.contains(&head.method) {
        return rest::error(StatusCode::METHOD_NOT_ALLOWED, "The resource does not support this HTTP method.")
            .with_header(ALLOW, HeaderValue::from_static(names));
    }
    let query = form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes());
    let query: HashMap<String, String> = query.map(|(name, value)| (name.to_lowercase(), value.into_owned())).collect();
    match (page, rest_path, auth) {
        (Some(page), ..) => {
            let key = query.get("apikey").map(String::as_str).unwrap_or_default();
            let is = |known: &str| key.trim_matches(['{', '}']).eq_ignore_ascii_case(known);
            let is_valid = match authorization(head, "Bearer") {
                None => is(&state.key),
                Some(_) => has_token(head, "apiv1", state) && is(&state.client_id),
            };
            match is_valid {
                true => batch::answer(page, body, state),
                false if key.is_empty() => batch::message(
                    StatusCode::BAD_REQUEST,
                    "MissingParameter",
                    "Missing Field: apiKey",
                    "The apiKey was not supplied or was in an incorrect format.",
                ),
                false => batch::message(
                    StatusCode::UNAUTHORIZED,
                    "InvalidApiKey",
                    "Invalid API Key",
                    "The API key is invalid. Please contact your iSAMS administrator.",
                ),
            }
        }
        (_, Some(path), _) if has_token(head, "restapi", state) => rest::answer(path, &query, state),
        (_, Some(_), _) => rest::error(StatusCode::UNAUTHORIZED, "Authorization has been denied for this request."),
        (.., Some(DISCOVERY_PATH)) => discovery(head),
        _ => token(head, auth == Some(REVOCATION_PATH), body, state),
    }
}

/// What follows the beginning of a path, whatever its case.
fn after<'a>(beginning: &str, path: &'a str) -> Option<&'a str> {
    let (start, rest) = path.split_at_checked(beginning.len())?;
    start.eq_ignore_ascii_case(beginning).then_some(rest)
}

/// What stands behind the name of a scheme, whatever its case.
fn authorization<'a>(head: &'a Parts, scheme: &str) -> Option<&'a [u8]> {
    let value = head.headers.get(AUTHORIZATION)?.as_bytes();
    let (name, rest) = value.split_at_checked(scheme.len())?;
    (name.eq_ignore_ascii_case(scheme.as_bytes()) && rest.starts_with(b" ")).then(|| rest.trim_ascii())
}

fn has_token(head: &Parts, scope: &str, state: &State) -> bool {
    let given = authorization(head, "Bearer").and_then(|token| std::str::from_utf8(token).ok());
    given.and_then(|token| state.tokens.get(token)).is_some_and(|scopes| scopes.iter().any(|known| known == scope))
}

const TOKEN_PATH: &str = "/auth/connect/token";
const REVOCATION_PATH: &str = "/auth/connect/revocation";
const DISCOVERY_PATH: &str = "/auth/.well-known/openid-configuration";
const SCOPES: [&str; 2] = ["apiv1", "restapi"];

/// Where tokens are given (OpenID Connect Discovery; that iSAMS serves it is assumed).
fn discovery(head: &Parts) -> Reply {
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let at = |path: &str| format!("http://{host}{path}");
    rest::json(
        StatusCode::OK,
        &serde_json::json!({
            "issuer": at("/auth"),
            "token_endpoint": at(TOKEN_PATH),
            "revocation_endpoint": at(REVOCATION_PATH),
            "scopes_supported": SCOPES,
            "grant_types_supported": ["client_credentials"],
        }),
    )
}

/// OAuth 2 client credentials in the form or as HTTP Basic: gives a token, or takes one back.
fn token(head: &Parts, is_revocation: bool, body: &[u8], state: &mut State) -> Reply {
    let form: HashMap<String, String> = form_urlencoded::parse(body).into_owned().collect();
    let get = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let in_form = || vec![(get("client_id").to_owned(), get("client_secret").to_owned())];
    let given = basic_credentials(head).unwrap_or_else(in_form);
    let refusal = |error| rest::json(StatusCode::BAD_REQUEST, &serde_json::json!({ "error": error }));
    if !given.contains(&(state.client_id.clone(), state.client_secret.clone())) {
        return refusal("invalid_client");
    }
    if is_revocation {
        state.tokens.remove(get("token"));
        return Reply::status(StatusCode::OK);
    }
    if get("grant_type") != "client_credentials" {
        return refusal("unsupported_grant_type");
    }
    let mut scopes: Vec<&str> = get("scope").split_whitespace().collect();
    if !scopes.iter().all(|scope| SCOPES.contains(scope)) {
        return refusal("invalid_scope");
    }
    if scopes.is_empty() {
        scopes.extend(SCOPES);
    }
    state.tokens_given += 1;
    let token = format!("token-{}", state.tokens_given);
    state.tokens.insert(token.clone(), scopes.iter().map(|scope| (*scope).to_owned()).collect());
    let scope = scopes.join(" ");
    let reply =
        serde_json::json!({ "access_token": token, "token_type": "Bearer", "expires_in": 3600, "scope": scope });
    rest::json(StatusCode::OK, &reply)
}

/// Id and secret as HTTP Basic carries them: plain, as many clients send them (in UTF-8 or Latin-1), and read as a form
/// (RFC 6749).
fn basic_credentials(head: &Parts) -> Option<Vec<(String, String)>> {
    let bytes = BASE64_STANDARD.decode(authorization(head, "Basic")?).ok()?;
    let text =
        String::from_utf8(bytes).unwrap_or_else(|error| error.as_bytes().iter().copied().map(char::from).collect());
    let (id, secret) = text.split_once(':')?;
    let form = format!("{id}&{secret}");
    let mut decoded = form_urlencoded::parse(form.as_bytes()).map(|(text, _)| text.into_owned());
    let decoded = (decoded.next()?, decoded.next()?);
    Some(vec![(id.to_owned(), secret.to_owned()), decoded])
}

/// A reply before it goes out.
struct Reply {
    status: StatusCode,
    content_type: &'static str,
    header: Option<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl Reply {
    fn status(status: StatusCode) -> Self {
        Self { status, content_type: "text/plain", header: None, body: Bytes::new() }
    }

    fn xml(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self { status, content_type: "application/xml", header: None, body: body.into() }
    }

    fn with_header(self, name: HeaderName, value: HeaderValue) -> Self {
        Self { header: Some((name, value)), ..self }
    }

    fn into_response(self) -> Response<Body> {
        let body = Full::new(self.body).map_err(|never| match never {}).boxed_unsync();
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        response.headers_mut().extend(self.header);
        response
    }
}

fn faulty(fault: Fault) -> Reply {
    match fault {
        Fault::Deadlock => batch::unhandled(
            "Transaction was deadlocked on lock resources with another process and has been chosen as the deadlock \
             victim. Rerun the transaction.",
        ),
        Fault::LockTimeOut => batch::unhandled("Lock request time out period exceeded."),
        Fault::Status(status, retry_after) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let header = retry_after.map(|seconds| (RETRY_AFTER, seconds.into()));
            Reply { header, ..Reply::status(status) }
        }
        Fault::LoginPage => {
            let page = "<!DOCTYPE html>\n<html><head><title>Log in</title></head><body><form></form></body></html>";
            Reply { content_type: "text/html", ..Reply::xml(StatusCode::OK, page) }
        }
        Fault::ErrorObject => rest::error(StatusCode::OK, "The registration period has been archived."),
        Fault::NotXml => Reply::xml(StatusCode::OK, "Service temporarily unavailable"),
        _ => Reply::xml(StatusCode::OK, ""),
    }
}

fn broken(whole: Reply, fault: Fault) -> Response<Body> {
    let half = whole.body.slice(..whole.body.len() / 2);
    if fault == Fault::HalfDocument {
        return Reply { body: half, ..whole }.into_response();
    }
    if fault == Fault::SlowDrip {
        let drop = |_| async {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            Ok(Frame::data(Bytes::from_static(b" ")))
        };
        let body = stream::iter([Ok(Frame::data(half))]).chain(stream::repeat(()).then(drop));
        return Response::new(StreamBody::new(body).boxed_unsync());
    }
    let frames = [Ok(Frame::data(half)), Err(io::Error::other("the simulator was asked to break off"))];
    Response::new(StreamBody::new(stream::iter(frames)).boxed_unsync())
}
