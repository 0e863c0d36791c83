//! What both interfaces of a tenant have in common: its address, who asks, and how much a fetch may take.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use reqwest::{Client, RequestBuilder, Response, Url};
use tokio::sync::mpsc;

use super::auth::Credentials;
use super::transport::{Attempt, Connection};
use crate::source::{FetchItem, RecordStream, SourceError};

/// How long giving back a token may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// How many batches of records may wait to be resolved.
const WAITING: usize = 8;

/// A school's iSAMS, whichever interface is read.
#[derive(Clone)]
pub(super) struct Tenant {
    pub(super) url: Url,
    connection: Connection,
    /// Whether requests are POSTs.
    posts: bool,
    client: Client,
    credentials: Arc<Credentials>,
    pub(super) has_code_table: bool,
    pub(super) total_deadline: Duration,
    pub(super) max_bytes: u64,
    pub(super) max_rows_per_day: u64,
}

impl Tenant {
    pub(super) fn new(url: Url, credentials: Credentials, posts: bool) -> Result<Self, SourceError> {
        let connection = Connection::default();
        Ok(Self {
            client: connection.client(&url, posts)?,
            url,
            connection,
            posts,
            credentials: Arc::new(credentials),
            has_code_table: true,
            total_deadline: Duration::from_secs(180),
            max_bytes: 2 << 30,
            max_rows_per_day: 60_000,
        })
    }

    /// Changes how the tenant is reached.
    pub(super) fn reconnect(
        &mut self,
        change: impl FnOnce(&mut Connection) -> Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        change(&mut self.connection)?;
        self.client = self.connection.client(&self.url, self.posts)?;
        Ok(())
    }

    /// A request for this path below the tenant's address.
    pub(super) fn request<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> RequestBuilder {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if self.posts { self.client.post(url) } else { self.client.get(url) }
    }

    /// Sends a request with the tenant's credentials.
    pub(super) async fn send(&self, request: RequestBuilder, attempt: &Attempt) -> Result<Response, SourceError> {
        self.credentials.send(request, &self.client, attempt).await
    }

    pub(super) async fn close(&self) -> Result<(), SourceError> {
        let deadline = tokio::time::Instant::now() + CLOSE_TIMEOUT;
        self.credentials.revoke(&self.client, deadline).await
    }

    pub(super) fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }
}

/// The stream of a fetch, which runs as the stream is read, and stops with it.
pub(super) fn stream<F>(fetch: impl FnOnce(mpsc::Sender<FetchItem>) -> F) -> RecordStream
where
    F: Future<Output = Result<(), SourceError>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(WAITING);
    let running = futures::stream::once(fetch(sender).boxed()).filter_map(async |result| result.err().map(Err));
    let rows = futures::stream::unfold(receiver, async |mut receiver| {
        let item = receiver.recv().await?;
        Some((Ok(item), receiver))
    });
    RecordStream::new(futures::stream::select(rows, running))
}

/// What the types of both interfaces offer.
macro_rules! tenant_methods {
    ($type:ident, $name:literal) => {
        impl $type {
            /// Sets the proxy through which iSAMS and its token service are reached, such as `http://proxy.school.example:8080`.
            /// The address can hold a name and a password. A tenant on this machine is reached without a proxy.
            ///
            /// Without this setting, the proxy is the one that the environment names (`HTTPS_PROXY`).
            ///
            /// # Errors
            /// The address is not a proxy's.
            pub fn with_proxy(mut self, url: &str) -> Result<Self, SourceError> {
                self.tenant.reconnect(|connection| connection.set_proxy(url))?;
                Ok(self)
            }

            /// Trusts one more certificate authority, given as its certificate in PEM: for example that of a school's proxy
            /// that inspects TLS connections. Can be called several times.
            ///
            /// # Errors
            /// This is not a certificate in PEM.
            #[cfg(feature = "rustls")]
            pub fn with_root_certificate(mut self, pem: &[u8]) -> Result<Self, SourceError> {
                self.tenant.reconnect(|connection| connection.add_root_certificate(pem))?;
                Ok(self)
            }

            /// Sets how long a whole fetch may take, including every retry, counted from when its request was made. The default
            /// is 3 minutes.
            #[must_use]
            pub fn with_total_deadline(mut self, longest: Duration) -> Self {
                self.tenant.total_deadline = longest;
                self
            }

            /// Sets how many bytes a reply may have, after decompression. The default is 2 GiB; a list of the REST API may have
            /// 8 MiB at most.
            #[must_use]
            pub fn with_max_bytes(mut self, most: u64) -> Self {
                self.tenant.max_bytes = most;
                self
            }

            /// Limits how many rows a reply may hold, which bounds the memory that a sync takes. The default is 60,000: 5,000
            /// students with 12 registers a day. Each kind has its own limit:
            ///
            /// | rows | limit |
            /// |---|---|
            /// | registrations (over REST, of all registers together) | this number for each day that is asked for |
            /// | registration periods | 1/30 of this number for each day |
            /// | out-of-school records | 1/120 of this number for each day, and at least twice this number |
            /// | codes | 1/12 of this number |
            #[must_use]
            pub fn with_max_rows_per_day(mut self, most: u64) -> Self {
                self.tenant.max_rows_per_day = most;
                self
            }

            /// Sets whether the school has a code table. The default is true. If it has none, iSAMS is not asked for one, and
            /// every code counts as an absence.
            #[must_use]
            pub fn with_code_table(mut self, has_one: bool) -> Self {
                self.tenant.has_code_table = has_one;
                self
            }

            /// Gives back the OAuth token, if one is held; a later fetch gets another. If the source is only dropped, the token
            /// stays valid until it expires.
            ///
            /// # Errors
            /// iSAMS can't be reached, or has no such service (it is assumed to have one). The token is forgotten all the same.
            pub async fn close(&self) -> Result<(), SourceError> {
                self.tenant.close().await
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "iSAMS at {}", self.tenant.host())
            }
        }

        /// Shows the host only, never a credential.
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple($name).field(&self.tenant.host()).finish()
            }
        }
    };
}

pub(super) use tenant_methods;
