//! An iSAMS tenant on a loopback port, serving a [`FakeSchool`]: for tests of a whole HTTP stack.
//!
//! It is strict: a wrong request gets the error that iSAMS gives. Nodes and errors that are verified look like iSAMS's own;
//! the items of out-of-school records and registration periods use assumed names. It serves the Batch API as XML and JSON,
//! with a key or an OAuth client.

mod batch;

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures::stream;
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::source::{FakeSchool, TestClock};

/// The largest request that is read.
const MOST_REQUEST_BYTES: usize = 1 << 20;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Something that goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// iSAMS's message about a deadlock, with status 500.
    Deadlock,
    /// iSAMS's message about a lock time-out, with status 500.
    LockTimeOut,
    /// This status without a body, and a wish to wait for so many seconds.
    Status(u16, Option<u64>),
    /// A login page as HTML, with status 200.
    LoginPage,
    /// Status 200 and nothing else.
    EmptyBody,
    /// The connection breaks in the middle of the reply.
    Reset,
    /// Half of the document, sent as if it were whole.
    HalfDocument,
    /// Status 200 and a text that is no document.
    NotXml,
}

/// An iSAMS tenant on a loopback port. It stops when it is dropped.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use rollmark::isams::simulator::Simulator;
/// use rollmark::source::FakeSchool;
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
    /// The token that is valid, and how many were given out.
    token: Option<String>,
    tokens: u64,
    methods: Vec<String>,
    shuffle: Option<u64>,
    row_cap: Option<usize>,
    cache: Option<(TimeDelta, TestClock)>,
    replies: HashMap<String, (DateTime<Utc>, Bytes)>,
    faults: VecDeque<Fault>,
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
            client_id: "rollmark-demonstration".to_owned(),
            // Characters that a form has to encode.
            client_secret: "s&cr=t +%/ü".to_owned(),
            token: None,
            tokens: 0,
            methods: batch::METHODS.iter().map(|method| method.name.to_owned()).collect(),
            shuffle: None,
            row_cap: None,
            cache: None,
            replies: HashMap::new(),
            faults: VecDeque::new(),
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

    /// Makes the token that was given out last invalid.
    pub fn revoke_token(&self) {
        self.lock().token = None;
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

    /// Cuts every container at so many rows, without a word.
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
    let fault = state.faults.pop_front();
    let reply = match (fault, body) {
        (Some(fault @ (Fault::Reset | Fault::HalfDocument)), Ok(body)) => {
            let whole = route(&head, &body, &mut state);
            return Ok(broken(whole, fault));
        }
        (Some(fault), _) => faulty(fault),
        (None, Ok(body)) => route(&head, &body, &mut state),
        (None, Err(_)) => Reply::status(StatusCode::PAYLOAD_TOO_LARGE),
    };
    Ok(reply.into_response())
}

fn route(head: &Parts, body: &[u8], state: &mut State) -> Reply {
    let is_token = head.uri.path() == "/auth/connect/token";
    let pages = [batch::XML_PAGE, batch::JSON_PAGE];
    let page = pages.into_iter().find(|page| head.uri.path().eq_ignore_ascii_case(page));
    if page.is_none() && !is_token {
        return Reply::status(StatusCode::NOT_FOUND);
    }
    if head.method != Method::POST {
        return Reply::status(StatusCode::METHOD_NOT_ALLOWED);
    }
    let Some(page) = page else { return token(body, state) };
    let query = form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes());
    let key = query.into_owned().find(|(name, _)| name == "apiKey").map(|(_, key)| key).unwrap_or_default();
    let token = head.headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
    let is_valid = match token {
        None => key.trim_matches(['{', '}']).eq_ignore_ascii_case(&state.key),
        Some(token) => {
            state.token.is_some() && token.strip_prefix("Bearer ") == state.token.as_deref() && key == state.client_id
        }
    };
    if is_valid {
        batch::answer(page, body, state)
    } else {
        batch::message(StatusCode::UNAUTHORIZED, "InvalidApiKey", "Invalid API key", "The API key is not valid.")
    }
}

/// OAuth 2 client credentials in a form, for the Batch scope.
fn token(body: &[u8], state: &mut State) -> Reply {
    let form: HashMap<String, String> = form_urlencoded::parse(body).into_owned().collect();
    let is = |name: &str, value: &str| form.get(name).is_some_and(|given| given == value);
    let json = |status, body: serde_json::Value| Reply {
        content_type: "application/json",
        ..Reply::xml(status, body.to_string())
    };
    let refusal = if !is("grant_type", "client_credentials") {
        Some("unsupported_grant_type")
    } else if !is("client_id", &state.client_id) || !is("client_secret", &state.client_secret) {
        Some("invalid_client")
    } else if !is("scope", "apiv1") {
        Some("invalid_scope")
    } else {
        None
    };
    if let Some(error) = refusal {
        return json(StatusCode::BAD_REQUEST, serde_json::json!({ "error": error }));
    }
    state.tokens += 1;
    let token = format!("token-{}", state.tokens);
    state.token = Some(token.clone());
    json(StatusCode::OK, serde_json::json!({ "access_token": token, "token_type": "Bearer", "expires_in": 3600 }))
}

/// A reply before it goes out.
struct Reply {
    status: StatusCode,
    content_type: &'static str,
    retry_after: Option<u64>,
    body: Bytes,
}

impl Reply {
    fn status(status: StatusCode) -> Self {
        Self { status, content_type: "text/plain", retry_after: None, body: Bytes::new() }
    }

    fn xml(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self { status, content_type: "application/xml", retry_after: None, body: body.into() }
    }

    fn into_response(self) -> Response<Body> {
        let body = Full::new(self.body).map_err(|never| match never {}).boxed_unsync();
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(self.content_type));
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

fn faulty(fault: Fault) -> Reply {
    let failed = |description| {
        batch::message(StatusCode::INTERNAL_SERVER_ERROR, "UnhandledException", "Unhandled exception", description)
    };
    match fault {
        Fault::Deadlock => failed(
            "Transaction was deadlocked on lock resources with another process and has been chosen as the deadlock \
             victim. Rerun the transaction.",
        ),
        Fault::LockTimeOut => failed("Lock request time out period exceeded."),
        Fault::Status(status, retry_after) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            Reply { retry_after, ..Reply::status(status) }
        }
        Fault::LoginPage => {
            let page = "<!DOCTYPE html>\n<html><head><title>Log in</title></head><body><form></form></body></html>";
            Reply { content_type: "text/html", ..Reply::xml(StatusCode::OK, page) }
        }
        Fault::NotXml => Reply::xml(StatusCode::OK, "Service temporarily unavailable"),
        Fault::EmptyBody | Fault::Reset | Fault::HalfDocument => Reply::xml(StatusCode::OK, ""),
    }
}

fn broken(whole: Reply, fault: Fault) -> Response<Body> {
    let half = whole.body.slice(..whole.body.len() / 2);
    if fault == Fault::HalfDocument {
        return Reply { body: half, ..whole }.into_response();
    }
    let frames = [Ok(Frame::data(half)), Err(io::Error::other("the simulator was asked to break off"))];
    Response::new(StreamBody::new(stream::iter(frames)).boxed_unsync())
}
