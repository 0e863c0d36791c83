//! Replies that are saved in files, and read again without the management system.

mod mask;

use std::fmt;
use std::fs::{self, DirEntry, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Utc};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use self::mask::{Mask, Masks};

use super::{
    AttendanceSource, Capabilities, Completeness, FetchItem, FetchRequest, Part, RecordStream, SourceError,
    SourceErrorKind,
};
use crate::explain::Wording;
use crate::model::{Cause, FeedTime, Record, StudentId};

/// A century.
const LONGEST_CACHE: TimeDelta = TimeDelta::days(100 * 366);
/// The number of records that are read together.
const BATCH: usize = 256;
/// The greatest length in bytes of a saved record.
const LONGEST_LINE: usize = 16 << 20;
const LONGEST_MANIFEST: u64 = 16 << 20;
/// The ends of file names: of files of records, and of files that are still being written.
const RECORDS: &str = ".records.jsonl";
const UNFINISHED: &str = ".part";

/// The version of the file format, for manifests and records alike.
const FORMAT: u32 = 1;

/// What is saved about a complete fetch in addition to its records.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Manifest {
    fetched_at: DateTime<Utc>,
    #[serde(flatten)]
    capabilities: Capabilities,
    records: u64,
    /// The hash of the file of records.
    records_sha256: String,
    parts: Vec<Part>,
    undecided_fields: Vec<String>,
    /// The names of things in the source; replies that were saved before this field existed are from iSAMS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wording: Option<Wording>,
}

/// The file of a manifest.
#[derive(Serialize, Deserialize)]
struct Sealed {
    format: u32,
    fetch: Manifest,
    /// The hash of the manifest, so that an altered count is noticed.
    sha256: String,
}

/// The part of a manifest that is read before its format is known.
#[derive(Deserialize)]
struct Form {
    /// The first version did not have this field.
    format: Option<u32>,
}

pub(crate) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Manifest {
    fn sha256(&self) -> serde_json::Result<String> {
        Ok(hex(Sha256::new_with_prefix(serde_json::to_vec(self)?)))
    }

    /// Reads the manifest in this file.
    fn read(text: &[u8], path: &Path) -> Result<Self, SourceError> {
        let form: Form =
            serde_json::from_slice(text).map_err(|error| altered(path).with_cause(Cause::of_json(&error)))?;
        if form.format != Some(FORMAT) {
            return Err(SourceError::new(
                SourceErrorKind::BadRecord,
                format!("{} was kept by another version of rollmark; save the replies again", path.display()),
            ));
        }
        Self::unsealed(text).ok_or_else(|| altered(path))
    }

    /// `None` for a manifest that was altered.
    fn unsealed(text: &[u8]) -> Option<Self> {
        let Sealed { fetch, sha256, .. } = serde_json::from_slice(text).ok()?;
        let expiry = fetch.capabilities.cache_expiry;
        let is_possible = is_real(fetch.fetched_at.date_naive()) && kept_expiry(expiry) == expiry;
        (is_possible && fetch.sha256().ok()? == sha256).then_some(fetch)
    }

    fn completeness(&self) -> Completeness {
        let verdict = self.parts.iter().copied().fold(Completeness::new(), Completeness::with_part);
        verdict.with_undecided_fields(&self.undecided_fields)
    }
}

/// A cache expiry as a manifest holds it: in whole seconds, from zero to a century.
fn kept_expiry(expiry: TimeDelta) -> TimeDelta {
    TimeDelta::seconds(expiry.clamp(TimeDelta::zero(), LONGEST_CACHE).num_seconds())
}

fn manifest_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("replies-{number}.json"))
}

fn records_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("replies-{number}{RECORDS}"))
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> SourceError {
    let message = format!("can't {doing} {}: {error}", path.display());
    SourceError::new(SourceErrorKind::Configuration, message).with_cause(Cause::of_io(error))
}

fn in_use(folder: &Path) -> SourceError {
    SourceError::new(
        SourceErrorKind::Configuration,
        format!("the folder {} holds saved replies already; name another", folder.display()),
    )
}

/// Whether this date can stand in a feed.
fn is_real(date: NaiveDate) -> bool {
    (1..=9999).contains(&date.year())
}

/// Opens a regular file: a pipe or a device in its place could go on forever.
fn open_regular(path: &Path) -> Result<File, SourceError> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => File::open(path).map_err(|error| failed("read", path, &error)),
        Ok(_) => Err(SourceError::new(
            SourceErrorKind::Configuration,
            format!("{} is not a regular file; save the replies again", path.display()),
        )),
        Err(error) => Err(failed("read", path, &error)),
    }
}

/// A source that keeps the replies of every complete fetch in a folder, for [`ReplaySource`].
///
/// It keeps every record as it was read, before any rule, and not the bytes that were sent. So it works for every kind
/// of source, and holds nothing that rollmark does not read. The records are pupils' data, unless they are
/// [masked](Self::with_masking). On Unix, only their owner can read the files. A fetch that fails leaves no files; the
/// next run removes what a killed run left unfinished.
///
/// ```no_run
/// # fn example(source: std::sync::Arc<dyn rollmark::source::AttendanceSource>) -> Result<(), rollmark::source::SourceError> {
/// use rollmark::source::{ReplaySource, SavingSource};
///
/// let saving = SavingSource::new(source, "evidence", chrono::Utc::now())?.with_masking(true);
/// // … a sync or a diagnosis with `saving`; later, elsewhere:
/// let replay = ReplaySource::open("evidence")?;
/// # Ok(())
/// # }
/// ```
pub struct SavingSource {
    inner: Arc<dyn AttendanceSource>,
    folder: PathBuf,
    fetched_at: DateTime<Utc>,
    is_masked: bool,
    fetches: AtomicU64,
    masks: Masks,
}

impl SavingSource {
    /// Keeps the records of `inner` in this folder. The folder is created if it does not exist; its parent has to
    /// exist. `fetched_at` is kept as the time of the fetch.
    ///
    /// # Errors
    /// The folder can't be created, or it already holds replies.
    pub fn new(
        inner: impl AttendanceSource + 'static,
        folder: impl Into<PathBuf>,
        fetched_at: DateTime<Utc>,
    ) -> Result<Self, SourceError> {
        let folder = folder.into();
        if !folder.is_dir() {
            let mut builder = fs::DirBuilder::new();
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder.create(&folder).map_err(|error| failed("make the folder", &folder, &error))?;
        }
        let entries = fs::read_dir(&folder).map_err(|error| failed("read the folder", &folder, &error))?;
        let mut leftovers = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| failed("read the folder", &folder, &error))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if !name.starts_with("replies-") {
                continue;
            }
            if name.ends_with(".json") {
                return Err(in_use(&folder));
            }
            // Records without a manifest do not count either.
            if name.ends_with(UNFINISHED) || name.ends_with(RECORDS) {
                leftovers.push(entry);
            }
        }
        leftovers.iter().for_each(remove_leftover);
        Ok(Self {
            inner: Arc::new(inner),
            folder,
            fetched_at,
            is_masked: false,
            fetches: AtomicU64::new(0),
            masks: Masks::default(),
        })
    }

    /// Sets whether to mask the records: ids of students, records and periods, comments, reasons, names of periods and
    /// codes, session flags that are neither `am` nor `pm`, and codes that the code table does not have are replaced by
    /// numbered ones. Every decision and every issue stays the same. Students and records are put in random order, so
    /// that a class list does not show who is who. Times, code ids and letters stay as they are. A fetch is held in
    /// memory until it is complete.
    #[must_use]
    pub fn with_masking(mut self, is_masked: bool) -> Self {
        self.is_masked = is_masked;
        self
    }

    /// The id of a student in the masked replies of the last fetch, once that fetch is complete.
    pub fn masked_student(&self, student: &StudentId) -> Option<StudentId> {
        self.masks.lock().unwrap_or_else(PoisonError::into_inner).get(student).cloned()
    }
}

/// Leaves out the masks, which are the key to masked replies.
impl fmt::Debug for SavingSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SavingSource")
            .field("inner", &self.inner)
            .field("folder", &self.folder)
            .field("fetched_at", &self.fetched_at)
            .field("is_masked", &self.is_masked)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for SavingSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, with its replies kept", self.inner)
    }
}

#[async_trait]
impl AttendanceSource for SavingSource {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn wording(&self) -> Wording {
        self.inner.wording()
    }

    async fn fetch(&self, request: &FetchRequest) -> Result<RecordStream, SourceError> {
        let stream = self.inner.fetch(request).await?;
        let number = self.fetches.fetch_add(1, Ordering::Relaxed) + 1;
        let mut recorder = Recorder::new(self, number)?;
        Ok(RecordStream::new(stream.map(move |item| recorder.take(item?))))
    }
}

/// Removes a file that an ended run left unfinished. A run that is still writing holds a lock on its file.
fn remove_leftover(entry: &DirEntry) {
    let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
    if is_file && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
        let _ = fs::remove_file(entry.path());
    }
}

/// Writes one fetch; its files get their final names when it is complete, and are removed otherwise.
struct Recorder {
    file: BufWriter<File>,
    hash: Sha256,
    records_path: PathBuf,
    manifest_path: PathBuf,
    manifest: Manifest,
    /// The records that wait to be masked.
    waiting: Option<Vec<Record>>,
    masks: Masks,
}

/// The name of a file until it is complete; no two runs share it.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}{UNFINISHED}", std::process::id()));
    name.into()
}

fn create_private(path: &Path) -> Result<File, SourceError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path).map_err(|error| failed("create", path, &error))?;
    // If the file system has no locks, a run that starts meanwhile treats the file as a leftover; this run then fails.
    let _ = file.try_lock();
    Ok(file)
}

impl Recorder {
    fn new(saving: &SavingSource, number: u64) -> Result<Self, SourceError> {
        let records_path = records_path(&saving.folder, number);
        let mut capabilities = saving.inner.capabilities();
        capabilities.cache_expiry = kept_expiry(capabilities.cache_expiry);
        Ok(Self {
            file: BufWriter::new(create_private(&unfinished(&records_path))?),
            hash: Sha256::new(),
            records_path,
            manifest_path: manifest_path(&saving.folder, number),
            manifest: Manifest {
                fetched_at: saving.fetched_at,
                capabilities,
                records: 0,
                records_sha256: String::new(),
                parts: Vec::new(),
                undecided_fields: Vec::new(),
                wording: Some(saving.inner.wording()),
            },
            waiting: saving.is_masked.then(Vec::new),
            masks: Arc::clone(&saving.masks),
        })
    }

    fn take(&mut self, item: FetchItem) -> Result<FetchItem, SourceError> {
        match item {
            FetchItem::Records(batch) => {
                let keep = |record| self.keep(&record).map(|()| record);
                Ok(FetchItem::Records(batch.into_iter().map(keep).collect::<Result<_, _>>()?))
            }
            FetchItem::Complete(completeness) => {
                self.finish(&completeness)?;
                Ok(FetchItem::Complete(completeness))
            }
        }
    }

    fn keep(&mut self, record: &Record) -> Result<(), SourceError> {
        match &mut self.waiting {
            Some(waiting) => {
                waiting.push(record.clone());
                Ok(())
            }
            None => self.write(record),
        }
    }

    fn write(&mut self, record: &Record) -> Result<(), SourceError> {
        let write_failed = |error: io::Error| failed("write", &self.records_path, &error);
        let mut line = serde_json::to_vec(record).map_err(|error| write_failed(error.into()))?;
        line.push(b'\n');
        if line.len() > LONGEST_LINE {
            let message =
                "a record is larger than 16 MiB, which can't be saved; check its comment or reason".to_owned();
            return Err(SourceError::new(SourceErrorKind::TooLarge, message));
        }
        self.file.write_all(&line).map_err(write_failed)?;
        self.hash.update(&line);
        self.manifest.records += 1;
        Ok(())
    }

    fn finish(&mut self, completeness: &Completeness) -> Result<(), SourceError> {
        if let Some(records) = self.waiting.take() {
            let (records, students) = Mask::apply_to(records);
            for record in &records {
                self.write(record)?;
            }
            *self.masks.lock().unwrap_or_else(PoisonError::into_inner) = students;
        }
        self.file.flush().map_err(|error| failed("write", &self.records_path, &error))?;
        self.manifest.records_sha256 = hex(self.hash.clone());
        self.manifest.parts = completeness.parts().to_vec();
        self.manifest.undecided_fields = completeness.undecided_fields().to_vec();
        let write_failed = |error: io::Error| failed("write", &self.manifest_path, &error);
        let sha256 = self.manifest.sha256().map_err(|error| write_failed(error.into()))?;
        let sealed = Sealed { format: FORMAT, fetch: self.manifest.clone(), sha256 };
        let mut manifest = create_private(&unfinished(&self.manifest_path))?;
        serde_json::to_writer_pretty(&mut manifest, &sealed).map_err(|error| write_failed(error.into()))?;
        // Another run may have been faster.
        if self.manifest_path.exists() {
            return Err(in_use(self.manifest_path.parent().unwrap_or(&self.manifest_path)));
        }
        // The manifest comes last: records without one do not count.
        for path in [&self.records_path, &self.manifest_path] {
            fs::rename(unfinished(path), path).map_err(|error| failed("write", path, &error))?;
        }
        Ok(())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        for path in [&self.records_path, &self.manifest_path] {
            let _ = fs::remove_file(unfinished(path));
        }
    }
}

/// The replies that a [`SavingSource`] has saved, as a source. It can be asked for any part of what they cover.
#[derive(Clone, Debug)]
pub struct ReplaySource {
    folder: PathBuf,
    /// The newest fetch first.
    fetches: Vec<(u64, Manifest)>,
}

impl ReplaySource {
    /// Opens a folder of saved replies.
    ///
    /// # Errors
    /// The folder holds no replies, or they can't be read.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, SourceError> {
        let folder = folder.into();
        let entries = fs::read_dir(&folder).map_err(|error| failed("read the folder", &folder, &error))?;
        let mut fetches = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| failed("read the folder", &folder, &error))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let number = name.strip_prefix("replies-").and_then(|rest| rest.strip_suffix(".json"));
            let Some(number) = number.and_then(|number| number.parse::<u64>().ok()) else { continue };
            let mut text = Vec::new();
            let read = open_regular(&path)?.take(LONGEST_MANIFEST).read_to_end(&mut text);
            read.map_err(|error| failed("read", &path, &error))?;
            fetches.push((number, Manifest::read(&text, &path)?));
        }
        if fetches.is_empty() {
            return Err(SourceError::new(
                SourceErrorKind::Configuration,
                format!("the folder {} holds no saved replies", folder.display()),
            ));
        }
        fetches.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        Ok(Self { folder, fetches })
    }

    fn newest(&self) -> Option<&Manifest> {
        self.fetches.first().map(|(_, manifest)| manifest)
    }

    /// Sets how old the replies could be when they were fetched. The default is the original source's value.
    #[must_use]
    pub fn with_cache_expiry(mut self, expiry: TimeDelta) -> Self {
        self.fetches.iter_mut().for_each(|(_, manifest)| manifest.capabilities.cache_expiry = kept_expiry(expiry));
        self
    }

    /// Sets whether the original source has a code table. The default is the original source's value.
    #[must_use]
    pub fn with_code_table(mut self, has: bool) -> Self {
        self.fetches.iter_mut().for_each(|(_, manifest)| manifest.capabilities.has_code_table = has);
        self
    }

    /// When the newest of the replies was fetched.
    pub fn fetched_at(&self) -> DateTime<Utc> {
        self.newest().map_or(DateTime::UNIX_EPOCH, |manifest| manifest.fetched_at)
    }
}

fn altered(path: &Path) -> SourceError {
    SourceError::new(
        SourceErrorKind::BadRecord,
        format!("{} is damaged or was altered; save the replies again", path.display()),
    )
}

/// Checks that the file holds what was saved, before any record counts.
fn check_records(path: &Path, manifest: &Manifest) -> Result<(), SourceError> {
    let mut file = open_regular(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(bytes) => hash.update(buffer.get(..bytes).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed("read", path, &error)),
        }
    }
    if hex(hash) == manifest.records_sha256 { Ok(()) } else { Err(altered(path)) }
}

/// Reads one line; `None` if it does not hold a record.
fn read_record(line: &[u8]) -> Option<Record> {
    let record = serde_json::from_slice(line.strip_suffix(b"\n")?).ok()?;
    let times: Vec<FeedTime> = match &record {
        Record::Registration(row) => [Some(row.at), row.last_updated].into_iter().flatten().collect(),
        Record::OutOfSchool(span) => [Some(span.from), span.to, span.last_updated].into_iter().flatten().collect(),
        Record::Period(period) => vec![period.at],
        Record::Code(_) => Vec::new(),
        Record::SessionMark(mark) => {
            [Some(FeedTime::Date(mark.date)), mark.last_updated].into_iter().flatten().collect()
        }
    };
    times.into_iter().all(is_possible).then_some(record)
}

/// Whether a feed can hold this time. The end of a day is held as the next date's midnight, which can be in the year 10000.
fn is_possible(time: FeedTime) -> bool {
    let date = time.as_written().date();
    let written = if time.is_end_of_day() { date.pred_opt() } else { Some(date) };
    written.is_some_and(is_real)
}

impl fmt::Display for ReplaySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the saved replies in {}", self.folder.display())
    }
}

#[async_trait]
impl AttendanceSource for ReplaySource {
    fn capabilities(&self) -> Capabilities {
        self.newest().map(|manifest| manifest.capabilities).unwrap_or_default()
    }

    fn wording(&self) -> Wording {
        self.newest().and_then(|manifest| manifest.wording.clone()).unwrap_or(Wording::for_api_key())
    }

    async fn fetch(&self, request: &FetchRequest) -> Result<RecordStream, SourceError> {
        let covers = |manifest: &Manifest| {
            let completeness = manifest.completeness();
            let needed = manifest.capabilities.needed(request.periods());
            needed.into_iter().all(|kind| completeness.covers(kind, request.window()))
        };
        let Some((number, manifest)) = self.fetches.iter().find(|(_, manifest)| covers(manifest)).cloned() else {
            let periods = if request.periods() { " with registration periods" } else { "" };
            return Err(SourceError::new(
                SourceErrorKind::Incomplete,
                format!(
                    "the saved replies don't cover {} to {}{periods}; ask for other dates, or save them again",
                    request.window().from(),
                    request.window().to()
                ),
            ));
        };
        let path = records_path(&self.folder, number);
        check_records(&path, &manifest)?;
        let mut file = BufReader::new(open_regular(&path)?);
        let counters = request.counters().clone();
        let mut read = 0;
        let next_record = move || -> Option<Result<Record, SourceError>> {
            let mut line = Vec::new();
            match (&mut file).take(LONGEST_LINE as u64).read_until(b'\n', &mut line) {
                Err(error) => return Some(Err(failed("read", &path, &error))),
                Ok(0) if read == manifest.records => return None,
                Ok(0) => return Some(Err(altered(&path))),
                Ok(bytes) => counters.add_bytes(bytes as u64),
            }
            read += 1;
            let record = read_record(&line).filter(|_| read <= manifest.records);
            Some(record.ok_or_else(|| altered(&path)))
        };
        let mut records = std::iter::from_fn(next_record).peekable();
        let batches = std::iter::from_fn(move || {
            records.peek()?;
            Some(records.by_ref().take(BATCH).collect::<Result<_, _>>().map(FetchItem::Records))
        });
        let verdict = FetchItem::Complete(manifest.completeness());
        Ok(RecordStream::new(futures::stream::iter(batches.chain([Ok(verdict)]))))
    }
}
