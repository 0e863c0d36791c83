//! The flags that the subcommands share.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use clap::{Args, ValueEnum};
use rollmark::codes::{CodeTable, Jurisdiction};
use rollmark::isams::{Batch, FieldNames, Format, Rest};
use rollmark::model::{SchoolId, StudentId, UnknownName, Zone};
use rollmark::rules::{MidnightEnd, PmRule, Rules, SyncWindow, TieBreak, Window};
use rollmark::source::{AttendanceSource, ReplaySource, SavingSource, SourceError, newest_zone};
use rollmark::store::{MarkStore, MemoryStore, RunQuery, SqliteStore, StoreError};

use crate::output::{Failure, Needed, store_files, tell, wrong_flags};
use crate::program::covered;

/// Where the records come from.
#[derive(Args, Clone)]
pub struct SourceFlags {
    /// The tenant, such as https://school.isams.cloud
    #[arg(long, env = "ISAMS_URL")]
    url: Option<String>,
    /// Batch API key; other processes can see it here, so prefer the variable or the file
    #[arg(long, env = "ISAMS_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// The file whose first line is the Batch API key; - is standard input
    #[arg(long, value_name = "FILE", value_parser = read_secret)]
    api_key_file: Option<SecretFile>,
    /// OAuth client, instead of the key alone
    #[arg(long, env = "ISAMS_CLIENT_ID", hide_env_values = true)]
    client_id: Option<String>,
    /// The OAuth client's secret
    #[arg(long, env = "ISAMS_CLIENT_SECRET", hide_env_values = true)]
    client_secret: Option<String>,
    /// The file whose first line is the OAuth client's secret; - is standard input
    #[arg(long, value_name = "FILE", value_parser = read_secret)]
    client_secret_file: Option<SecretFile>,
    /// Which interface to read
    #[arg(long, value_enum, default_value_t = Interface::Xml)]
    format: Interface,
    /// What the key's cache expiry is set to: 24h, 90m, 1h 30m, 0s [default: 24h; rest: 0s]
    #[arg(long, value_parser = parse_expiry, value_name = "DURATION")]
    cache_expiry: Option<TimeDelta>,
    /// The source has no code table: it is not asked for one
    #[arg(long)]
    no_code_table: bool,
    /// Under which names a field is looked for, such as out_of_school_updated=SavedAt; can be repeated
    #[arg(long = "field", value_parser = parse_field, value_name = "LIST=NAME[,NAME]…")]
    fields: Vec<(String, Vec<String>)>,
    /// A field that decides nothing; can be repeated
    #[arg(long = "ignore-field", value_name = "NAME")]
    ignored_fields: Vec<String>,
}

#[derive(ValueEnum, Clone, Copy)]
enum Interface {
    Xml,
    Json,
    Rest,
}

impl SourceFlags {
    /// The tenant that the flags name, if they name one.
    ///
    /// The error is a wrong flag.
    pub fn tenant(&self) -> Result<Option<Tenant>, String> {
        // An empty environment variable is one that is not set.
        let given = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
        let secret = |flag: &str, value: &Option<String>, of_file: &Option<SecretFile>| match (given(value), of_file) {
            (Some(_), Some(_)) => {
                Err(format!("{flag} or its variable is given, and {flag}-file too; give one of them"))
            }
            (value, of_file) => Ok(value.or(of_file.as_ref().map(|file| file.secret.clone()))),
        };
        let key = secret("--api-key", &self.api_key, &self.api_key_file)?;
        let credentials =
            (key, given(&self.client_id), secret("--client-secret", &self.client_secret, &self.client_secret_file)?);
        let Some(url) = given(&self.url) else {
            return match credentials {
                (None, None, None) => Ok(None),
                _ => Err("there are credentials but no --url; name the tenant that they belong to".to_owned()),
            };
        };
        let is_rest = matches!(self.format, Interface::Rest);
        if is_rest && !(self.fields.is_empty() && self.ignored_fields.is_empty()) {
            return Err(
                "--field and --ignore-field are for the Batch interface; the fields of --format rest are known"
                    .to_owned(),
            );
        }
        let tenant = match credentials {
            (Some(_), None, None) if is_rest => {
                return Err(
                    "--format rest needs --client-id and --client-secret; an API key does not open it".to_owned()
                );
            }
            (Some(key), None, None) => {
                Batch::new(&url, key).and_then(|batch| self.set_up(batch)).map(|batch| Tenant::Batch(Box::new(batch)))
            }
            (None, Some(id), Some(secret)) if is_rest => Rest::new(&url, id, secret).map(|rest| {
                let rest = rest.with_code_table(!self.no_code_table);
                Tenant::Rest(Box::new(match self.cache_expiry {
                    Some(expiry) => rest.with_cache_expiry(expiry),
                    None => rest,
                }))
            }),
            (None, Some(id), Some(secret)) => Batch::for_client(&url, id, secret)
                .and_then(|batch| self.set_up(batch))
                .map(|batch| Tenant::Batch(Box::new(batch))),
            (Some(_), ..) => {
                return Err(
                    "there are an API key and an OAuth client; give one of them (a variable can hold the other: \
                     ISAMS_API_KEY, ISAMS_CLIENT_ID, ISAMS_CLIENT_SECRET)"
                        .to_owned(),
                );
            }
            _ => return Err("a --url needs either --api-key, or --client-id and --client-secret".to_owned()),
        };
        tenant.map(Some).map_err(|error| error.to_string())
    }

    fn set_up(&self, batch: Batch) -> Result<Batch, SourceError> {
        let no_names = Ok(FieldNames::default());
        let names = self.fields.iter().fold(no_names, |names, (list, fields)| names?.with_names(list, fields.clone()));
        let format = if matches!(self.format, Interface::Json) { Format::Json } else { Format::Xml };
        let batch = batch.with_format(format).with_field_names(names?).with_ignored_fields(&self.ignored_fields);
        let batch = batch.with_code_table(!self.no_code_table);
        Ok(match self.cache_expiry {
            Some(expiry) => batch.with_cache_expiry(expiry),
            None => batch,
        })
    }
}

/// A tenant, by the interface that is read.
pub enum Tenant {
    Batch(Box<Batch>),
    Rest(Box<Rest>),
}

/// Replies that are kept, or read instead of a tenant.
#[derive(Args, Clone)]
pub struct ReplyFlags {
    /// Keeps what was read in this folder; it is pupils' data
    #[arg(long, value_name = "DIR")]
    save_replies: Option<PathBuf>,
    /// Replaces the ids of students, records and periods and all free texts in what is kept
    #[arg(long, requires = "save_replies")]
    mask: bool,
    /// Reads kept replies instead of a tenant, as of the time when they were fetched
    #[arg(long, value_name = "DIR", conflicts_with = "save_replies")]
    replay: Option<PathBuf>,
}

impl ReplyFlags {
    /// The folder in which replies are kept, or from which they are read.
    pub fn folder(&self) -> Option<&Path> {
        self.save_replies.as_deref().or(self.replay.as_deref())
    }

    /// The kept replies, if the flags name any.
    fn replay(&self, source: &SourceFlags) -> Result<Option<ReplaySource>, SourceError> {
        let Some(folder) = &self.replay else { return Ok(None) };
        let mut replay = ReplaySource::open(folder)?;
        if source.no_code_table {
            replay = replay.with_code_table(false);
        }
        Ok(Some(match source.cache_expiry {
            Some(expiry) => replay.with_cache_expiry(expiry),
            None => replay,
        }))
    }

    fn keeping(
        &self,
        source: Arc<dyn AttendanceSource>,
        now: DateTime<Utc>,
    ) -> Result<(Arc<dyn AttendanceSource>, Kept), SourceError> {
        let Some(folder) = &self.save_replies else { return Ok((source, Kept(None))) };
        let saving = Arc::new(SavingSource::new(source, folder, now)?.with_masking(self.mask));
        if !self.mask {
            tell(&format!("warning: {} will hold pupils' data; --mask replaces ids and texts", folder.display()));
        }
        Ok((Arc::clone(&saving) as Arc<dyn AttendanceSource>, Kept(Some(saving))))
    }
}

/// What keeps the replies of a run, if anything does.
pub struct Kept(Option<Arc<SavingSource>>);

impl Kept {
    /// Says under which ids these students stand in masked replies.
    pub fn tell(&self, students: impl IntoIterator<Item = StudentId>) {
        for student in students {
            if let Some(masked) = self.0.as_ref().and_then(|saving| saving.masked_student(&student)) {
                tell(&format!("in the saved replies, student {student} is {masked}"));
            }
        }
    }
}

/// What is read, by which rules, when, and of which dates.
#[derive(Args, Clone)]
pub struct ReadFlags {
    #[command(flatten)]
    source: SourceFlags,
    #[command(flatten)]
    pub replies: ReplyFlags,
    #[command(flatten)]
    rules: RuleFlags,
    #[command(flatten)]
    window: WindowFlags,
}

impl ReadFlags {
    /// The tenant or the kept replies that the flags name. Kept replies set the moment of the run.
    pub fn source(&mut self) -> Result<Arc<dyn AttendanceSource>, SourceError> {
        if let Some(replay) = self.replies.replay(&self.source)? {
            self.window.now.get_or_insert(replay.fetched_at());
            return Ok(Arc::new(replay));
        }
        match self.source.tenant().unwrap_or_else(|error| wrong_flags(error)) {
            Some(Tenant::Batch(batch)) => Ok(Arc::from(batch as Box<dyn AttendanceSource>)),
            Some(Tenant::Rest(rest)) => Ok(Arc::from(rest as Box<dyn AttendanceSource>)),
            None => wrong_flags(NO_SOURCE.to_owned()),
        }
    }

    /// What would end the program with a wrong flag.
    pub fn validate(&self) -> Result<(), String> {
        if self.source.tenant()?.is_none() && self.replies.replay.is_none() {
            return Err(NO_SOURCE.to_owned());
        }
        self.window.window_or(&self.rules.timezone, SyncWindow::default()).map(|_| ())
    }

    /// The files that hold the secrets.
    pub fn needed_files(&self) -> impl Iterator<Item = Needed> {
        let SourceFlags { api_key_file, client_secret_file, .. } = &self.source;
        [api_key_file, client_secret_file].into_iter().flatten().filter_map(SecretFile::needed)
    }

    /// The source, with its replies kept if the flags say so; and what keeps them.
    pub fn keeping(&self, source: Arc<dyn AttendanceSource>) -> Result<(Arc<dyn AttendanceSource>, Kept), SourceError> {
        self.replies.keeping(source, self.now())
    }

    /// The tenant, if its Batch interface is read.
    pub fn batch(&self) -> Option<Box<Batch>> {
        match self.source.tenant() {
            Ok(Some(Tenant::Batch(batch))) if self.replies.replay.is_none() => Some(batch),
            _ => None,
        }
    }

    pub fn rules(&self) -> Rules {
        self.rules.rules()
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.window.now()
    }

    /// The ordinary window and today, unless an explicit range is asked for.
    pub fn sync_window(&self) -> Option<(SyncWindow, NaiveDate)> {
        let window = &self.window;
        let is_explicit = window.from.is_some();
        (!is_explicit).then(|| (window.around_today(SyncWindow::default()), window.today(&self.rules.timezone)))
    }

    /// The dates; a wrong flag ends the program.
    pub fn window(&self) -> Window {
        self.window.window_or(&self.rules.timezone, SyncWindow::default()).unwrap_or_else(|error| wrong_flags(error))
    }
}

const NO_SOURCE: &str = "there is nothing to read; name a tenant with --url, or kept replies with --replay. Without a \
    tenant: rollmark simulate serves a made-up school, and cargo run --features simulator --example sync plays a sync of one";

/// How marks are decided.
#[derive(Args, Clone)]
pub struct RuleFlags {
    /// The school's IANA time zone
    #[arg(long, default_value = "Europe/London", value_parser = parse_zone)]
    timezone: Zone,
    /// How AM and PM registers are distinguished
    #[arg(long, value_enum, default_value_t = PmRuleName::Time)]
    pm_rule: PmRuleName,
    /// When PM begins under the time rule, included; HH:MM:SS too
    #[arg(long, default_value = "12:00", value_parser = parse_clock, value_name = "HH:MM")]
    pm_start: NaiveTime,
    /// Which record wins a tie
    #[arg(long, value_enum, default_value_t = TieName::OutOfSchool)]
    tie: TieName,
    /// What an end at midnight means where an out-of-school record spans whole days
    #[arg(long, value_enum, default_value_t = MidnightEndName::Excluded)]
    midnight_end: MidnightEndName,
}

#[derive(ValueEnum, Clone, Copy)]
enum PmRuleName {
    Time,
    Periods,
}

#[derive(ValueEnum, Clone, Copy)]
enum TieName {
    OutOfSchool,
    Registration,
}

#[derive(ValueEnum, Clone, Copy)]
enum MidnightEndName {
    Excluded,
    Included,
}

impl RuleFlags {
    fn rules(&self) -> Rules {
        let pm_rule = match self.pm_rule {
            PmRuleName::Time => PmRule::FirstFrom(self.pm_start),
            PmRuleName::Periods => PmRule::RegistrationPeriods,
        };
        let tie_break = match self.tie {
            TieName::OutOfSchool => TieBreak::OutOfSchool,
            TieName::Registration => TieBreak::Registration,
        };
        let midnight_end = match self.midnight_end {
            MidnightEndName::Excluded => MidnightEnd::Excluded,
            MidnightEndName::Included => MidnightEnd::IncludesDate,
        };
        Rules::new(self.timezone.clone()).with_pm(pm_rule).with_tie_break(tie_break).with_midnight_end(midnight_end)
    }
}

/// What codes mean.
#[derive(Args, Clone)]
pub struct CodeFlags {
    /// Whose codes: England's statutory ones, or the school's own, of which only being there has a class
    #[arg(long, default_value = "england", value_parser = parse_jurisdiction, value_name = "england|school")]
    codes: Jurisdiction,
    /// Which statutory code one of the school's own letters stands for, such as HOL=G; can be repeated
    #[arg(long = "map", value_parser = parse_mapping, value_name = "LETTER=CODE")]
    mapping: Vec<(String, String)>,
}

impl CodeFlags {
    /// The table; a wrong flag ends the program.
    pub fn table(&self) -> CodeTable {
        code_table(self.codes, &self.mapping)
    }
}

/// The table of these codes, with a school's own letters; a wrong flag ends the program.
pub fn code_table(codes: Jurisdiction, mapping: &[(String, String)]) -> CodeTable {
    let table = match codes {
        Jurisdiction::SchoolsOwn => CodeTable::custom("the school's own codes", []),
        _ => Ok(CodeTable::england()),
    };
    let mut letters = BTreeSet::new();
    if let Some((letter, _)) = mapping.iter().find(|(letter, _)| !letters.insert(letter)) {
        wrong_flags(format!("--map names the letter {letter} twice; say once what it stands for"));
    }
    let mapped = |table: CodeTable, (letter, code): &(String, String)| table.with_mapping(letter, code);
    table
        .and_then(|table| mapping.iter().try_fold(table, mapped))
        .unwrap_or_else(|error| wrong_flags(error.to_string()))
}

/// When a run happens, and which dates it covers.
#[derive(Args, Clone)]
pub struct WindowFlags {
    /// The moment at which the run is taken to happen [default: the clock]
    #[arg(long, value_parser = parse_instant, value_name = "RFC3339")]
    now: Option<DateTime<Utc>>,
    /// The school's today [default: the school date of --now]
    #[arg(long, value_parser = parse_date, value_name = "DATE")]
    today: Option<NaiveDate>,
    /// Days before today [default: 30]
    #[arg(long, value_name = "N", value_parser = parse_days, conflicts_with_all = ["from", "to"])]
    days: Option<u32>,
    /// Days after today [default: 0]
    #[arg(long, value_name = "N", value_parser = parse_days, conflicts_with_all = ["from", "to"])]
    look_ahead: Option<u32>,
    /// The first date of an explicit range, included
    #[arg(long, value_parser = parse_date, value_name = "DATE", requires = "to")]
    from: Option<NaiveDate>,
    /// The last date of an explicit range, included
    #[arg(long, value_parser = parse_date, value_name = "DATE", requires = "from")]
    to: Option<NaiveDate>,
}

impl WindowFlags {
    fn now(&self) -> DateTime<Utc> {
        self.now.unwrap_or_else(Utc::now)
    }

    fn today(&self, zone: &Zone) -> NaiveDate {
        self.today.unwrap_or_else(|| zone.wall_time(self.now()).date())
    }

    /// The window of the flags, or this one. The error is a wrong flag.
    pub fn window_or(&self, zone: &Zone, default: SyncWindow) -> Result<Window, String> {
        let today = self.today(zone);
        match (self.from, self.to) {
            (Some(from), Some(to)) => {
                Window::between(from, to).map(|window| window.with_today(today)).map_err(|error| error.to_string())
            }
            _ => Ok(self.around_today(default).ending(today)),
        }
    }

    /// The days before and after today.
    fn around_today(&self, default: SyncWindow) -> SyncWindow {
        let days = self.days.unwrap_or(default.days);
        SyncWindow::default().with_days(days).with_look_ahead(self.look_ahead.unwrap_or(default.look_ahead))
    }
}

/// A school's marks, and where they live; without --store only as long as the run.
#[derive(Args, Clone)]
pub struct StoreFlags {
    /// The school's key in the store
    #[arg(long, value_name = "ID", default_value = "school", value_parser = parse_id)]
    school: String,
    /// The portal's store, to compare with; it is only read: sqlite:PATH or postgres://USER@HOST:PORT/DATABASE; memory
    /// compares with no store
    #[arg(long = "store", value_name = "STORE", default_value = "memory")]
    pub place: StorePlace,
    #[command(flatten)]
    password: StorePassword,
}

impl StoreFlags {
    /// What would end the program with a wrong flag.
    pub fn validate(&self) -> Result<(), String> {
        self.place.validate(&self.password)
    }

    /// The store's own files, and the one that holds its password.
    pub fn needed_files(&self) -> impl Iterator<Item = Needed> {
        let password = self.password.store_password_file.as_ref().and_then(SecretFile::needed);
        self.place.file().into_iter().flat_map(store_files).chain(password)
    }

    /// The store, which is neither created nor migrated if it is only read, and the school.
    pub fn open(&self, read_only: bool) -> Result<(Arc<dyn MarkStore>, SchoolId), StoreError> {
        Ok((self.place.open(&self.password, read_only)?, SchoolId::new(&self.school)))
    }
}

/// A school's marks in a store that outlives the command.
#[derive(Args)]
pub struct KeptStore {
    /// The store: sqlite:PATH or postgres://USER@HOST:PORT/DATABASE
    #[arg(long = "store", value_name = "STORE", value_parser = parse_kept_store)]
    place: StorePlace,
    #[command(flatten)]
    password: StorePassword,
    /// The school's key in the store
    #[arg(long, value_name = "ID", default_value = "school", value_parser = parse_id)]
    school: String,
}

impl KeptStore {
    /// The store and the school, to write; a store that is not there is created.
    pub fn open(&self) -> Result<(Arc<dyn MarkStore>, SchoolId), StoreError> {
        Ok((self.place.open(&self.password, false)?, SchoolId::new(&self.school)))
    }

    /// The store and the school, to read; says so if the store holds nothing of the school.
    pub async fn open_to_read(&self) -> Result<(Arc<dyn MarkStore>, SchoolId), StoreError> {
        let (store, school) = (self.place.open(&self.password, true)?, SchoolId::new(&self.school));
        warn_without_runs(&*store, &school).await?;
        Ok((store, school))
    }

    /// The store, which must be there, and the school.
    pub async fn open_existing(&self) -> Result<(Arc<dyn MarkStore>, SchoolId), Failure> {
        Ok((self.place.open_existing(&self.password).await?, SchoolId::new(&self.school)))
    }
}

/// Says so if no run was ever written for the school: the store or the school may be mistyped.
pub async fn warn_without_runs(store: &dyn MarkStore, school: &SchoolId) -> Result<(), StoreError> {
    if store.runs(school, &RunQuery::all().with_newest(1)).await?.is_empty() {
        tell(&format!("warning: the store holds no run of school {school}; check --store and --school"));
    }
    Ok(())
}

/// A file that is opened once as a whole, however many schools it holds: each then gets a connection of its own.
pub struct SqliteFile {
    path: PathBuf,
    opened: Mutex<Option<SqliteStore>>,
}

impl SqliteFile {
    fn open(&self, read_only: bool) -> Result<SqliteStore, StoreError> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = &*opened {
            return store.with_own_connection();
        }
        let store = if read_only { SqliteStore::open_read_only(&self.path) } else { SqliteStore::open(&self.path) }?;
        Ok(opened.insert(store).clone())
    }
}

/// Where marks live.
#[derive(Clone)]
pub enum StorePlace {
    Memory,
    Sqlite(Arc<SqliteFile>),
    #[cfg(feature = "postgres")]
    Postgres(Box<crate::postgres::Address>),
}

impl std::str::FromStr for StorePlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "memory" => Ok(Self::Memory),
            // An address can hold a password, so it is not taken for a path that errors would name.
            Some(("sqlite", path)) if path.contains("://") => Err("an address is not the path of a file".to_owned()),
            Some(("sqlite", path)) if !path.is_empty() => {
                Ok(Self::Sqlite(Arc::new(SqliteFile { path: path.into(), opened: Mutex::default() })))
            }
            #[cfg(feature = "postgres")]
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => {
                Ok(Self::Postgres(Box::new(text.parse()?)))
            }
            #[cfg(not(feature = "postgres"))]
            Some(("postgres" | "postgresql", _)) => Err("this program was built without PostgreSQL; install it with \
                 cargo install --path . --features cli,postgres"
                .to_owned()),
            _ => Err("not a store; say memory, sqlite:PATH or postgres://USER@HOST:PORT/DATABASE".to_owned()),
        }
    }
}

/// What opens a store with a password.
#[derive(Args, Clone)]
struct StorePassword {
    /// The file whose first line is the password of a PostgreSQL store; - is standard input [default: that of the service that
    /// PGSERVICE or ?service=NAME names, or the variable PGPASSWORD]
    #[arg(long, value_name = "FILE", value_parser = read_secret)]
    store_password_file: Option<SecretFile>,
}

#[cfg(feature = "postgres")]
impl StorePassword {
    fn secret(&self) -> Option<&str> {
        self.store_password_file.as_ref().map(|file| &*file.secret)
    }
}

impl StorePlace {
    /// The store's file, where it has one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(file) => Some(&file.path),
            _ => None,
        }
    }

    /// The place by which the same file was named before, if it was: so it is opened once as a whole.
    pub fn share_file(&mut self, known: &mut BTreeMap<PathBuf, Self>) {
        if let Some(path) = self.file().map(Path::to_owned) {
            *self = known.entry(path).or_insert_with(|| self.clone()).clone();
        }
    }

    /// Opens a store that must be there.
    async fn open_existing(&self, password: &StorePassword) -> Result<Arc<dyn MarkStore>, Failure> {
        match self {
            Self::Sqlite(file) if !file.path.exists() => {
                Err(format!("there is no store at {}; check --store", file.path.display()).into())
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(address) => {
                let store = address.store(password.secret())?;
                match store.is_there().await? {
                    true => Ok(Arc::new(store)),
                    false => Err("the database holds no store (schema rollmark); check --store".into()),
                }
            }
            _ => Ok(self.open(password, false)?),
        }
    }

    /// What would end the program with a wrong flag.
    fn validate(&self, password: &StorePassword) -> Result<(), String> {
        let takes_one = match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => true,
            _ => false,
        };
        match password.store_password_file.is_some() && !takes_one {
            true => Err("--store-password-file is for a store postgres://…; leave it out".to_owned()),
            false => Ok(()),
        }
    }

    /// Opens the store; one that is only read is neither created nor migrated.
    fn open(&self, password: &StorePassword, read_only: bool) -> Result<Arc<dyn MarkStore>, StoreError> {
        self.validate(password).unwrap_or_else(|error| wrong_flags(error));
        Ok(match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(address) => Arc::new(address.store(password.secret())?),
            Self::Memory => Arc::new(MemoryStore::new()),
            Self::Sqlite(file) => Arc::new(file.open(read_only)?),
        })
    }
}

/// A store that outlives the command.
fn parse_kept_store(text: &str) -> Result<StorePlace, String> {
    match text.parse()? {
        StorePlace::Memory => {
            Err("a store in memory ends with the command; say sqlite:PATH or postgres://USER@HOST:PORT/DATABASE"
                .to_owned())
        }
        place => Ok(place),
    }
}

/// A secret, and the file whose first line it is.
#[derive(Clone)]
struct SecretFile {
    path: PathBuf,
    secret: String,
}

impl SecretFile {
    /// The file, unless it is standard input.
    fn needed(&self) -> Option<Needed> {
        (self.path != Path::new("-")).then(|| (self.path.clone(), "the file of a secret"))
    }
}

/// More than any key, secret or password has, in bytes.
const LONGEST_SECRET: u64 = 16_384;

/// The first line of a file, or of standard input. It is read with the flags, while a signal still ends the program.
fn read_secret(path: &str) -> Result<SecretFile, String> {
    let read = || {
        let input: Box<dyn Read> = if path == "-" { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
        let mut line = String::new();
        BufReader::new(input.take(LONGEST_SECRET)).read_line(&mut line).map(|_| line)
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err("its first line is not UTF-8 text".to_owned()),
        Err(error) => Err(format!("can't read it: {error}")),
        Ok(line) if line.len() as u64 == LONGEST_SECRET => Err("its first line is too long for a secret".to_owned()),
        // Some editors begin a file with a byte order mark.
        Ok(line) => match line.trim_start_matches('\u{FEFF}').trim() {
            "" => Err("its first line is empty".to_owned()),
            secret => Ok(SecretFile { path: path.into(), secret: secret.to_owned() }),
        },
    }
}

fn parse_zone(text: &str) -> Result<Zone, String> {
    newest_zone(text).map_err(|error| error.to_string())
}

pub fn parse_jurisdiction(text: &str) -> Result<Jurisdiction, String> {
    text.parse().map_err(|error: UnknownName| error.to_string())
}

pub fn parse_mapping(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').map(|(letter, code)| (letter.trim(), code.trim()));
    let whole = parts.filter(|(letter, code)| !letter.is_empty() && !code.is_empty());
    whole
        .map(|(letter, code)| (letter.to_owned(), code.to_owned()))
        .ok_or_else(|| "expected LETTER=CODE, for example HOL=G".to_owned())
}

fn parse_clock(text: &str) -> Result<NaiveTime, String> {
    let format = if text.len() == 8 { "%H:%M:%S" } else { "%H:%M" };
    let time = NaiveTime::parse_from_str(text, format).ok().filter(|_| matches!(text.len(), 5 | 8));
    time.ok_or_else(|| "not a time of day; 13:30 is one".to_owned())
}

/// An id, without the spaces around it.
pub fn parse_id(text: &str) -> Result<String, String> {
    let id = text.trim();
    if id.is_empty() { Err("it is empty; give an id".to_owned()) } else { Ok(id.to_owned()) }
}

/// A number of days. More than a hundred years can only be a mistake.
fn parse_days(text: &str) -> Result<u32, String> {
    let days = text.parse().ok().filter(|days| *days <= 36_525);
    days.ok_or_else(|| "not a number of days; 30 is one, and 36525 the greatest".to_owned())
}

pub fn parse_date(text: &str) -> Result<NaiveDate, String> {
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().filter(|_| text.len() == 10);
    date.ok_or_else(|| "not a date; 2026-11-20 is one".to_owned())
}

pub fn parse_instant(text: &str) -> Result<DateTime<Utc>, String> {
    DateTime::parse_from_rfc3339(text)
        .map(|instant| instant.to_utc())
        .map_err(|_| "not a moment; 2026-11-20T18:00:00Z is one".to_owned())
}

pub fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| NO_DURATION.to_owned())
}

fn parse_expiry(text: &str) -> Result<TimeDelta, String> {
    TimeDelta::from_std(parse_duration(text)?).map_err(|_| NO_DURATION.to_owned())
}

const NO_DURATION: &str = "not a duration; say 24h, 90m, 1h 30m or 0s";

/// A list of field names with the names that replace it.
fn parse_field(text: &str) -> Result<(String, Vec<String>), String> {
    let (list, names) = text.split_once('=').ok_or("expected LIST=NAME, for example out_of_school_updated=SavedAt")?;
    let names: Vec<String> = names.split(',').map(str::to_owned).collect();
    // What is wrong shows here, with all lists' names.
    FieldNames::default().with_names(&covered(list), names.clone()).map_err(|error| error.to_string())?;
    Ok((list.to_owned(), names))
}

/// How long a second run of the same school waits for the first.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);
