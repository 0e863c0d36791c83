use std::fmt;
use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::spelling;
use crate::isams::{Batch, FieldNames, Format, Rest};
use crate::model::{SchoolId, names, setters};
use crate::rules::{MidnightEnd, PmRule, Rules, SyncWindow, TieBreak};
use crate::source::{AttendanceSource, SourceError, SourceErrorKind, newest_zone};
use crate::store::MarkStore;
use crate::sync::{AttendanceSync, Guards, Sweep, SyncRequest};

/// Which interface of iSAMS is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Interface {
    /// The Batch API, as XML.
    #[default]
    Xml,
    /// The Batch API, as JSON.
    Json,
    /// The REST API: today's registers.
    Rest,
}

names!(Interface, "an interface", { Xml => "xml", Json => "json", Rest => "rest", });

/// How AM and PM registers are distinguished ([R3](crate::guide::rules#r3)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PmRuleKind {
    /// PM begins at [`SyncJob::pm_start`].
    #[default]
    Time,
    /// The flag of the registration period decides.
    Periods,
}

names!(PmRuleKind, "a PM rule", { Time => "time", Periods => "periods", });

/// One school's sync as data, for a job queue or for a table of a portal.
///
/// As JSON, its keys are those of a school in a file of `rollmark fleet`: the long flags of `rollmark sync`, with underscores.
/// [`json_schema`](Self::json_schema) describes them. A job says where a secret is, in an environment variable or a file, and
/// never holds one. A job is checked when it is read: an unknown key is an error, and so are settings that contradict each
/// other.
///
/// ```
/// use rollmark::fleet::SyncJob;
/// use rollmark::store::MemoryStore;
///
/// let job: SyncJob = serde_json::from_str(
///     r#"{"id": "greenfield", "url": "https://greenfield.isams.cloud", "api_key_env": "GREENFIELD_KEY", "pm_start": "13:30"}"#,
/// )?;
/// # let file = tempfile::NamedTempFile::new()?;
/// # std::fs::write(&file, "key")?;
/// # let job = rollmark::fleet::SyncJob::new(job.id, job.url).with_api_key_file(file.path());
/// let sync = job.sync(MemoryStore::new())?;
/// # async fn run(job: SyncJob, sync: rollmark::sync::AttendanceSync) -> Result<(), Box<dyn std::error::Error>> {
/// let report = sync.run(job.request(chrono::Utc::now())?).await?;
/// # Ok(())
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
#[non_exhaustive]
pub struct SyncJob {
    /// The school's key in the store.
    pub id: SchoolId,
    /// The tenant, such as `https://school.isams.cloud`.
    pub url: String,
    /// The environment variable that holds the Batch API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_env: Option<String>,
    /// The file whose first line is the Batch API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_file: Option<PathBuf>,
    /// The OAuth client, instead of a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The environment variable that holds the OAuth client's secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_env: Option<String>,
    /// The file whose first line is the OAuth client's secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_file: Option<PathBuf>,
    /// Which interface is read.
    #[serde(default)]
    pub format: Interface,
    /// The school's IANA time zone. The rules are the newest of this machine's and the bundled ones.
    #[serde(default = "london")]
    pub timezone: String,
    /// How AM and PM registers are distinguished.
    #[serde(default)]
    pub pm_rule: PmRuleKind,
    /// When PM begins under the time rule, in school time, included.
    #[serde(default = "noon", with = "spelling::clock")]
    pub pm_start: NaiveTime,
    /// Which record wins a tie.
    #[serde(default, with = "spelling::tie")]
    pub tie: TieBreak,
    /// What an end at midnight means in an out-of-school record of whole days.
    #[serde(default, with = "spelling::midnight_end")]
    pub midnight_end: MidnightEnd,
    /// Days before today.
    #[serde(default = "days")]
    pub days: u32,
    /// Days after today.
    #[serde(default)]
    pub look_ahead: u32,
    /// The cache expiry that is set for the key. `None` means 24 hours, or no cache over REST.
    #[serde(default, with = "spelling::duration", skip_serializing_if = "Option::is_none")]
    pub cache_expiry: Option<TimeDelta>,
    /// Whether the source has no code table, so that it is not asked for one.
    #[serde(default)]
    pub no_code_table: bool,
    /// The names under which a field is looked for, such as `out_of_school_updated=SavedAt`.
    #[serde(default)]
    pub field: Vec<String>,
    /// Fields that decide nothing.
    #[serde(default)]
    pub ignore_field: Vec<String>,
    /// Dates on which the school was closed.
    #[serde(default)]
    pub closed: Vec<NaiveDate>,
    /// Whether students without any record in the fetch have left.
    #[serde(default)]
    pub leavers: bool,
    /// Whether the limits on removals ([R11](crate::guide::rules#r11)) are lifted, but never the proof.
    #[serde(default)]
    pub allow_removals: bool,
    /// Whether the stops on mass change and on vanished codes are lifted.
    #[serde(default)]
    pub allow_mass_change: bool,
    /// Whether a slice of the dates before the window is read too, in rotation ([`Sweep`]).
    #[serde(default = "yes")]
    pub sweep: bool,
    /// The first date that is swept; `None` means the latest 1 September.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep_from: Option<NaiveDate>,
    /// The number of nights in which every older date is read; `None` means 14.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep_nights: Option<NonZeroU32>,
}

fn london() -> String {
    "Europe/London".to_owned()
}

fn noon() -> NaiveTime {
    PmRule::NOON
}

fn days() -> u32 {
    SyncWindow::default().days
}

fn yes() -> bool {
    true
}

setters!(SyncJob {
    with_api_key_env(api_key_env: impl Into<String>) => Some(api_key_env.into());
    with_api_key_file(api_key_file: impl Into<PathBuf>) => Some(api_key_file.into());
    with_client_id(client_id: impl Into<String>) => Some(client_id.into());
    with_client_secret_env(client_secret_env: impl Into<String>) => Some(client_secret_env.into());
    with_client_secret_file(client_secret_file: impl Into<PathBuf>) => Some(client_secret_file.into());
    with_format(format: Interface) => format;
    with_timezone(timezone: impl Into<String>) => timezone.into();
    with_pm_rule(pm_rule: PmRuleKind) => pm_rule;
    with_pm_start(pm_start: NaiveTime) => pm_start;
    with_tie(tie: TieBreak) => tie;
    with_midnight_end(midnight_end: MidnightEnd) => midnight_end;
    with_days(days: u32) => days;
    with_look_ahead(look_ahead: u32) => look_ahead;
    with_cache_expiry(cache_expiry: TimeDelta) => Some(cache_expiry);
    with_no_code_table(no_code_table: bool) => no_code_table;
    with_field(field: Vec<String>) => field;
    with_ignore_field(ignore_field: Vec<String>) => ignore_field;
    with_closed(closed: Vec<NaiveDate>) => closed;
    with_leavers(leavers: bool) => leavers;
    with_allow_removals(allow_removals: bool) => allow_removals;
    with_allow_mass_change(allow_mass_change: bool) => allow_mass_change;
    with_sweep(sweep: bool) => sweep;
    with_sweep_from(sweep_from: NaiveDate) => Some(sweep_from);
    with_sweep_nights(sweep_nights: NonZeroU32) => Some(sweep_nights);
});

impl SyncJob {
    /// A school's sync with the default settings. Name its credentials too.
    pub fn new(id: impl Into<SchoolId>, url: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            url: url.into(),
            api_key_env: None,
            api_key_file: None,
            client_id: None,
            client_secret_env: None,
            client_secret_file: None,
            format: Interface::default(),
            timezone: london(),
            pm_rule: PmRuleKind::default(),
            pm_start: noon(),
            tie: TieBreak::default(),
            midnight_end: MidnightEnd::default(),
            days: days(),
            look_ahead: 0,
            cache_expiry: None,
            no_code_table: false,
            field: Vec::new(),
            ignore_field: Vec::new(),
            closed: Vec::new(),
            leavers: false,
            allow_removals: false,
            allow_mass_change: false,
            sweep: yes(),
            sweep_from: None,
            sweep_nights: None,
        }
    }

    /// The JSON Schema (2020-12) of a job, for those who write jobs in another language. In the source code it is the file
    /// `src/fleet/sync_job.schema.json`.
    pub fn json_schema() -> &'static str {
        include_str!("sync_job.schema.json")
    }

    /// Makes the school's sync into this store. Reads the secret and the time zone's rules from small files or the environment.
    ///
    /// # Errors
    /// The settings contradict each other, the secret can't be found, or the address can't be a tenant's. The kind is
    /// [`SourceErrorKind::Configuration`].
    pub fn sync(&self, store: impl MarkStore + 'static) -> Result<AttendanceSync, SourceError> {
        Ok(AttendanceSync::new(self.source()?, store, self.id.clone(), self.rules()?))
    }

    /// The request for a run at this moment: the window that ends today at the school, and older dates in rotation.
    ///
    /// # Errors
    /// The time zone is not known.
    pub fn request(&self, now: DateTime<Utc>) -> Result<SyncRequest, SourceError> {
        let today = self.rules()?.zone().wall_time(now).date();
        let window = SyncWindow::default().with_days(self.days).with_look_ahead(self.look_ahead);
        let guards = Guards::default()
            .with_allow_removals(self.allow_removals)
            .with_leavers(self.leavers)
            .with_allow_mass_change(self.allow_mass_change);
        let request = SyncRequest::of_window(window, today)
            .with_guards(guards)
            .with_closed_dates(self.closed.iter().copied())
            .with_now(now);
        Ok(if self.sweep { request.with_sweep(self.sweep_settings()) } else { request })
    }

    fn sweep_settings(&self) -> Sweep {
        let sweep = self.sweep_from.map_or(Sweep::default(), |from| Sweep::default().with_from(from));
        self.sweep_nights.map_or(sweep, |nights| sweep.with_nights(nights))
    }

    fn rules(&self) -> Result<Rules, SourceError> {
        let zone = newest_zone(&self.timezone).map_err(|error| configuration(format!("timezone: {error}")))?;
        let pm_rule = match self.pm_rule {
            PmRuleKind::Time => PmRule::FirstFrom(self.pm_start),
            PmRuleKind::Periods => PmRule::RegistrationPeriods,
        };
        Ok(Rules::new(zone).with_pm(pm_rule).with_tie_break(self.tie).with_midnight_end(self.midnight_end))
    }

    /// The source for the tenant, with its secret.
    fn source(&self) -> Result<Arc<dyn AttendanceSource>, SourceError> {
        self.check()?;
        let Some(client_id) = &self.client_id else {
            let key = secret("api_key", self.api_key_env.as_deref(), self.api_key_file.as_deref())?;
            return Ok(Arc::new(self.set_up(Batch::new(&self.url, key)?)?));
        };
        let secret = secret("client_secret", self.client_secret_env.as_deref(), self.client_secret_file.as_deref())?;
        if self.format != Interface::Rest {
            return Ok(Arc::new(self.set_up(Batch::for_client(&self.url, client_id, secret)?)?));
        }
        let rest = Rest::new(&self.url, client_id, secret)?.with_code_table(!self.no_code_table);
        Ok(Arc::new(match self.cache_expiry {
            Some(expiry) => rest.with_cache_expiry(expiry),
            None => rest,
        }))
    }

    fn set_up(&self, batch: Batch) -> Result<Batch, SourceError> {
        let format = if self.format == Interface::Json { Format::Json } else { Format::Xml };
        let batch = batch
            .with_format(format)
            .with_field_names(self.field_names()?)
            .with_ignored_fields(&self.ignore_field)
            .with_code_table(!self.no_code_table);
        Ok(match self.cache_expiry {
            Some(expiry) => batch.with_cache_expiry(expiry),
            None => batch,
        })
    }

    fn field_names(&self) -> Result<FieldNames, SourceError> {
        self.field.iter().try_fold(FieldNames::default(), |names, field| {
            let (list, replacing) = field
                .split_once('=')
                .ok_or_else(|| configuration("field: no names; out_of_school_updated=SavedAt gives a list one name"))?;
            names.with_names(list, replacing.split(',').map(str::to_owned).collect::<Vec<_>>())
        })
    }

    /// Checks that the settings do not contradict each other.
    fn check(&self) -> Result<(), SourceError> {
        let is_rest = self.format == Interface::Rest;
        let keys = usize::from(self.api_key_env.is_some()) + usize::from(self.api_key_file.is_some());
        let secrets = usize::from(self.client_secret_env.is_some()) + usize::from(self.client_secret_file.is_some());
        match (keys, self.client_id.is_some(), secrets) {
            (1, false, 0) if is_rest => {
                return Err(configuration("format rest needs an OAuth client; an API key does not open it"));
            }
            (1, false, 0) | (0, true, 1) => {}
            _ => {
                return Err(configuration(
                    "the credentials are incomplete, or there are two kinds; name api_key_env or api_key_file, or else \
                     client_id and one of client_secret_env and client_secret_file",
                ));
            }
        }
        if is_rest && !(self.field.is_empty() && self.ignore_field.is_empty()) {
            return Err(configuration(
                "field and ignore_field are for the Batch interface; the fields of rest are known",
            ));
        }
        if !self.sweep && (self.sweep_from.is_some() || self.sweep_nights.is_some()) {
            return Err(configuration("sweep_from and sweep_nights are settings of a sweep, which is switched off"));
        }
        self.field_names().map(drop)
    }
}

fn configuration(message: impl Into<String>) -> SourceError {
    SourceError::new(SourceErrorKind::Configuration, message)
}

/// The secret from a variable, or from the first line of a file.
fn secret(name: &str, variable: Option<&str>, file: Option<&Path>) -> Result<String, SourceError> {
    let found = match (variable, file) {
        (Some(variable), _) => std::env::var(variable)
            .map_err(|_| configuration(format!("the environment variable {variable} ({name}_env) is not set")))?,
        (None, Some(file)) => {
            let text = fs::read_to_string(file)
                .map_err(|error| configuration(format!("{} ({name}_file) can't be read: {error}", file.display())))?;
            text.lines().next().unwrap_or_default().trim().to_owned()
        }
        (None, None) => String::new(),
    };
    if found.is_empty() { Err(configuration(format!("the secret that {name} names is empty"))) } else { Ok(found) }
}

impl Serialize for SyncJob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

/// Refuses settings that contradict each other.
impl<'de> Deserialize<'de> for SyncJob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let job = Self::deserialize(deserializer)?;
        job.check().map_err(serde::de::Error::custom)?;
        Ok(job)
    }
}

/// Shows only the school: an address can hold secrets that it should not.
impl fmt::Debug for SyncJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncJob").field("id", &self.id).finish_non_exhaustive()
    }
}
