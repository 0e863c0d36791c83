use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use chrono::TimeDelta;
use futures::{FutureExt, StreamExt};
use reqwest::{Client, Url};
use secrecy::SecretString;
use tokio::sync::mpsc;

use super::auth::{Credentials, Scope};
use super::{FieldNames, batch, rest, transport};
use crate::explain::Wording;
use crate::source::{AttendanceSource, Capabilities, FetchRequest, RecordStream, SourceError};

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

/// Which of the two APIs is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interface {
    Batch,
    Rest,
}

/// How long giving back a token may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// A school's iSAMS.
///
/// `Debug` and `Display` show the address only, never a credential.
///
/// ```
/// use chrono::TimeDelta;
/// use rollmark::isams::Isams;
///
/// let source = Isams::batch("https://school.isams.cloud", "00000000-0000-0000-0000-000000000000".to_owned())?
///     .cache_expiry(TimeDelta::hours(6));
/// assert_eq!(source.to_string(), "iSAMS at school.isams.cloud");
/// # Ok::<(), rollmark::source::SourceError>(())
/// ```
#[derive(Clone)]
pub struct Isams(Arc<Settings>);

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) client: Client,
    pub(super) url: Url,
    pub(super) interface: Interface,
    pub(super) credentials: Arc<Credentials>,
    pub(super) format: Format,
    pub(super) names: FieldNames,
    pub(super) ignored_fields: Vec<String>,
    pub(super) has_code_table: bool,
    pub(super) cache_expiry: TimeDelta,
    pub(super) total_deadline: Duration,
    pub(super) max_bytes: u64,
    pub(super) max_rows_per_day: u64,
    pub(super) max_held_bytes: u64,
    pub(super) suspicious_rows: Option<u64>,
    pub(super) look_back_days: u32,
    pub(super) slice_days: Option<u32>,
    /// A large reply was found to be cut: ask day by day from the start.
    pub(super) start_split: Arc<AtomicBool>,
}

impl Isams {
    /// The Batch API with an API key. The address's path, if it has one, comes before the API's.
    ///
    /// # Errors
    /// The address is no URL, or is plain http to another host than this machine.
    pub fn batch(url: &str, api_key: impl Into<String>) -> Result<Self, SourceError> {
        let url = transport::parse_url(url)?;
        Self::new(url, Interface::Batch, Credentials::Key(SecretString::from(api_key.into().trim())))
    }

    /// The Batch API with an OAuth client (scope `apiv1`). Its token is fetched when it is needed, renewed ahead of its end,
    /// and fetched anew if it is refused.
    ///
    /// # Errors
    /// The address is no URL, or is plain http to another host than this machine.
    pub fn batch_oauth(
        url: &str,
        client_id: impl Into<String>,
        client_secret: impl Into<String>,
    ) -> Result<Self, SourceError> {
        let url = transport::parse_url(url)?;
        let credentials = Credentials::client(&url, Scope::Batch, client_id.into(), client_secret.into())?;
        Self::new(url, Interface::Batch, credentials)
    }

    /// The REST API with an OAuth client (scope `restapi`). It reaches today only, register by register.
    ///
    /// It has neither times of update nor out-of-school records: each mark is iSAMS's own verdict, which its decision says
    /// ([`judged_by_source`](crate::model::Decision::judged_by_source)). Its absence codes do not say whether they count as
    /// absences; they are taken to (assumed). Replies are not cached.
    ///
    /// # Errors
    /// The address is no URL, or is plain http to another host than this machine.
    pub fn rest(
        url: &str,
        client_id: impl Into<String>,
        client_secret: impl Into<String>,
    ) -> Result<Self, SourceError> {
        let url = transport::parse_url(url)?;
        let credentials = Credentials::client(&url, Scope::Rest, client_id.into(), client_secret.into())?;
        Ok(Self::new(url, Interface::Rest, credentials)?.cache_expiry(TimeDelta::zero()))
    }

    /// Gives back the OAuth token, if one is held; a later fetch gets another. Dropping the source leaves it to run out.
    ///
    /// # Errors
    /// iSAMS can't be reached or has no such service (assumed to be there). The token is forgotten all the same.
    pub async fn close(&self) -> Result<(), SourceError> {
        let deadline = tokio::time::Instant::now() + CLOSE_TIMEOUT;
        self.0.credentials.revoke(deadline).await
    }

    fn new(url: Url, interface: Interface, credentials: Credentials) -> Result<Self, SourceError> {
        Ok(Self(Arc::new(Settings {
            client: transport::client(&url, transport::same_host(&url, interface == Interface::Batch))?,
            url,
            interface,
            credentials: Arc::new(credentials),
            format: Format::Xml,
            names: FieldNames::default(),
            ignored_fields: Vec::new(),
            has_code_table: true,
            cache_expiry: TimeDelta::hours(24),
            total_deadline: Duration::from_secs(180),
            max_bytes: 2 << 30,
            max_rows_per_day: 60_000,
            max_held_bytes: 512 << 20,
            suspicious_rows: Some(2_000),
            look_back_days: 180,
            slice_days: None,
            start_split: Arc::default(),
        })))
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.0
    }

    fn with(mut self, set: impl FnOnce(&mut Settings)) -> Self {
        set(Arc::make_mut(&mut self.0));
        self
    }

    /// Sets in which form the Batch API answers. The default is XML, the only one in which a missing container shows.
    #[must_use]
    pub fn format(self, format: Format) -> Self {
        self.with(|settings| settings.format = format)
    }

    /// Sets what the key's cache expiry is set to in iSAMS. The default is iSAMS's own: 24 hours.
    #[must_use]
    pub fn cache_expiry(self, expiry: TimeDelta) -> Self {
        self.with(|settings| settings.cache_expiry = expiry)
    }

    /// Sets how long a whole fetch may take, with every retry, counted from when its request was made. The default is 3
    /// minutes.
    #[must_use]
    pub fn total_deadline(self, longest: Duration) -> Self {
        self.with(|settings| settings.total_deadline = longest)
    }

    /// Sets how many bytes a reply may have, after decompression. The default is 2 GiB; a list of the REST API may have
    /// 8 MiB at most.
    #[must_use]
    pub fn max_bytes(self, most: u64) -> Self {
        self.with(|settings| settings.max_bytes = most)
    }

    /// Sets how many registrations a reply may hold for each day that was asked for (over REST, all registers together),
    /// which bounds the memory that a sync of it takes. The default is 60,000: 5,000 students with 12 registers a day. Of
    /// registration periods a reply may hold a 30th of it for each day, of out-of-school records a 120th for each day and
    /// twice as many as this in any case, of codes a 12th.
    #[must_use]
    pub fn max_rows_per_day(self, most: u64) -> Self {
        self.with(|settings| settings.max_rows_per_day = most)
    }

    /// Sets how many bytes a fetch of the Batch API may hold: about what a sync holds of its records. That is the texts of
    /// all records, and for each out-of-school record four times its size besides. The default is 512 MiB.
    #[must_use]
    pub fn max_held_bytes(self, most: u64) -> Self {
        self.with(|settings| settings.max_held_bytes = most)
    }

    /// Sets the number of rows at which a reply is suspected to be cut (assumed: 2,000); `None` suspects nothing.
    #[must_use]
    pub fn suspicious_rows(self, rows: Option<u64>) -> Self {
        self.with(|settings| settings.suspicious_rows = rows)
    }

    /// Sets how many days before the window out-of-school records are asked for (assumed to be filtered by their
    /// beginning). The default is 180.
    #[must_use]
    pub fn look_back_days(self, days: u32) -> Self {
        self.with(|settings| settings.look_back_days = days)
    }

    /// Sets in slices of how many days (at least 1) the Batch API is asked for a window, 3 slices at a time; `None`, the
    /// default, asks for the whole window at once.
    #[must_use]
    pub fn slice_days(self, days: Option<u32>) -> Self {
        self.with(|settings| settings.slice_days = days)
    }

    /// Sets under which names the fields of each record are looked for.
    #[must_use]
    pub fn field_names(self, names: FieldNames) -> Self {
        self.with(|settings| settings.names = names)
    }

    /// Names fields that decide nothing. A field of out-of-school records that no list of [`FieldNames`] has and that looks
    /// like a time of update or a code stops a fetch where no record has one under a listed name, unless it is named here.
    #[must_use]
    pub fn ignored_fields(self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.with(|settings| settings.ignored_fields = names.into_iter().map(Into::into).collect())
    }

    /// Sets whether the school has a code table, which it has unless this says otherwise. iSAMS is not asked for one then,
    /// and every code counts as an absence.
    #[must_use]
    pub fn has_code_table(self, has_one: bool) -> Self {
        self.with(|settings| settings.has_code_table = has_one)
    }
}

impl fmt::Display for Isams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "iSAMS at {}", self.0.url.host_str().unwrap_or_default())
    }
}

impl fmt::Debug for Isams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Isams").field(&self.0.url.host_str()).finish()
    }
}

/// Batches of records that wait to be resolved.
const WAITING: usize = 8;

#[async_trait]
impl AttendanceSource for Isams {
    fn capabilities(&self) -> Capabilities {
        let capabilities =
            Capabilities::new().with_code_table(self.0.has_code_table).with_cache_expiry(self.0.cache_expiry);
        match self.0.interface {
            Interface::Batch => capabilities,
            Interface::Rest => capabilities.with_stamps(false).with_out_of_school(false).with_today_only(true),
        }
    }

    fn wording(&self) -> Wording {
        Wording::for_api_key().with_code_table("code table (RegistrationCodes)")
    }

    async fn fetch(&self, request: &FetchRequest) -> Result<RecordStream, SourceError> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let (settings, request) = (Arc::clone(&self.0), request.clone());
        let fetch = match settings.interface {
            Interface::Batch => batch::Fetch::new(settings, request, sender).run().boxed(),
            Interface::Rest => rest::Fetch::new(settings, request, sender).run().boxed(),
        };
        // The fetch runs as the stream is read, and stops with it.
        let running = futures::stream::once(fetch).filter_map(async |result| result.err().map(Err));
        let rows = futures::stream::unfold(receiver, async |mut receiver| {
            let item = receiver.recv().await?;
            Some((Ok(item), receiver))
        });
        Ok(RecordStream::new(futures::stream::select(rows, running)))
    }
}
