//! Replies that are kept in files, and read again without the management system.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use serde::{Deserialize, Serialize};

use super::{
    AttendanceSource, Capabilities, Completeness, FetchRequest, FetchedKind, Part, RecordStream, SourceError,
    SourceErrorKind, SourceRecord,
};
use crate::model::{PeriodId, Record, RecordId, StudentId, compare_ids};

/// What is kept of a complete fetch beside its records.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Manifest {
    fetched_at: DateTime<Utc>,
    has_stamps: bool,
    has_period_flags: bool,
    has_out_of_school: bool,
    today_only: bool,
    cache_seconds: i64,
    records: u64,
    parts: Vec<Part>,
    #[serde(default)]
    lacks_code_table: bool,
    #[serde(default)]
    undecided_fields: Vec<String>,
}

impl Manifest {
    fn completeness(&self) -> Completeness {
        Completeness { parts: self.parts.clone(), undecided_fields: self.undecided_fields.clone() }
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            has_stamps: self.has_stamps,
            has_period_flags: self.has_period_flags,
            has_out_of_school: self.has_out_of_school,
            has_code_table: !self.lacks_code_table,
            today_only: self.today_only,
            cache_expiry: TimeDelta::try_seconds(self.cache_seconds).unwrap_or(TimeDelta::MAX),
        }
    }
}

fn manifest_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("replies-{number}.json"))
}

fn records_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("replies-{number}.records.jsonl"))
}

fn failed(doing: &str, path: &Path, error: &std::io::Error) -> SourceError {
    let message = format!("can't {doing} {}: {error}", path.display());
    SourceError::permanent(SourceErrorKind::Configuration, message)
}

/// A source that keeps the replies of every complete fetch in a folder, for [`ReplaySource`].
///
/// What is kept is every record as it was read, before any rule, and not the bytes of the wire: that serves for every way
/// in, and holds nothing that rollmark does not read. They are pupils' data, unless they are [masked](Self::masked). The
/// files are readable by their owner only (on Unix). A fetch that fails leaves none.
///
/// ```no_run
/// # fn example(source: std::sync::Arc<dyn rollmark::source::AttendanceSource>) -> Result<(), rollmark::source::SourceError> {
/// use rollmark::source::{ReplaySource, SavingSource};
///
/// let saving = SavingSource::new(source, "evidence", chrono::Utc::now())?.masked();
/// // … a sync or a diagnosis with `saving`; later, elsewhere:
/// let replay = ReplaySource::open("evidence")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SavingSource {
    inner: Arc<dyn AttendanceSource>,
    folder: PathBuf,
    fetched_at: DateTime<Utc>,
    is_masked: bool,
    fetches: AtomicU64,
    masks: Masks,
}

/// The masked id of each student.
type Masks = Arc<Mutex<BTreeMap<StudentId, StudentId>>>;

impl SavingSource {
    /// Keeps what `inner` replies in this folder, which is created if it is not there (its parent is not). `fetched_at` is
    /// the instant that is kept as the time of the fetch.
    ///
    /// # Errors
    /// The folder can't be made, or holds replies already.
    pub fn new(
        inner: Arc<dyn AttendanceSource>,
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
        for entry in entries {
            let name = entry.map_err(|error| failed("read the folder", &folder, &error))?.file_name();
            if name.to_string_lossy().starts_with("replies-") {
                return Err(SourceError::permanent(
                    SourceErrorKind::Configuration,
                    format!("the folder {} holds saved replies already; name another", folder.display()),
                ));
            }
        }
        Ok(Self { inner, folder, fetched_at, is_masked: false, fetches: AtomicU64::new(0), masks: Masks::default() })
    }

    /// Replaces the ids of students, records and periods, comments, reasons and names of periods by numbered ones, within a
    /// fetch the same for the same and in the same order, so that every decision stays. Times and codes stay as they are.
    /// Holds a fetch in memory until it is complete.
    #[must_use]
    pub fn masked(mut self) -> Self {
        self.is_masked = true;
        self
    }

    /// Under which id a student stands in the masked replies of the last fetch, once it is complete.
    pub fn masked_student(&self, student: &StudentId) -> Option<StudentId> {
        self.masks.lock().unwrap_or_else(PoisonError::into_inner).get(student).cloned()
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

    async fn fetch(&self, request: &FetchRequest) -> Result<RecordStream, SourceError> {
        let stream = self.inner.fetch(request).await?;
        let number = self.fetches.fetch_add(1, Ordering::Relaxed) + 1;
        let mut recorder = Recorder::new(self, number)?;
        Ok(stream.map(move |item| recorder.take(item?)).boxed())
    }
}

/// Writes one fetch; its files go away unless it is complete.
struct Recorder {
    file: BufWriter<File>,
    records_path: PathBuf,
    manifest_path: PathBuf,
    manifest: Manifest,
    /// What waits to be masked.
    waiting: Option<Vec<Record>>,
    masks: Masks,
    is_complete: bool,
}

fn create_private(path: &Path) -> Result<File, SourceError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error| failed("create", path, &error))
}

impl Recorder {
    fn new(saving: &SavingSource, number: u64) -> Result<Self, SourceError> {
        let records_path = records_path(&saving.folder, number);
        let capabilities = saving.inner.capabilities();
        Ok(Self {
            file: BufWriter::new(create_private(&records_path)?),
            records_path,
            manifest_path: manifest_path(&saving.folder, number),
            manifest: Manifest {
                fetched_at: saving.fetched_at,
                has_stamps: capabilities.has_stamps,
                has_period_flags: capabilities.has_period_flags,
                has_out_of_school: capabilities.has_out_of_school,
                today_only: capabilities.today_only,
                cache_seconds: capabilities.cache_expiry.num_seconds(),
                records: 0,
                parts: Vec::new(),
                lacks_code_table: !capabilities.has_code_table,
                undecided_fields: Vec::new(),
            },
            waiting: saving.is_masked.then(Vec::new),
            masks: Arc::clone(&saving.masks),
            is_complete: false,
        })
    }

    fn take(&mut self, item: SourceRecord) -> Result<SourceRecord, SourceError> {
        match &item {
            SourceRecord::Record(record) => match &mut self.waiting {
                Some(waiting) => waiting.push(record.clone()),
                None => self.write(record)?,
            },
            SourceRecord::Complete(completeness) => self.finish(completeness)?,
        }
        Ok(item)
    }

    fn write(&mut self, record: &Record) -> Result<(), SourceError> {
        self.manifest.records += 1;
        let written = serde_json::to_writer(&mut self.file, record).map_err(std::io::Error::from);
        written.and_then(|()| self.file.write_all(b"\n")).map_err(|error| failed("write", &self.records_path, &error))
    }

    fn finish(&mut self, completeness: &Completeness) -> Result<(), SourceError> {
        if let Some(records) = self.waiting.take() {
            let mask = Mask::of(&records);
            for record in records {
                self.write(&mask.apply(record))?;
            }
            *self.masks.lock().unwrap_or_else(PoisonError::into_inner) = mask.students;
        }
        self.file.flush().map_err(|error| failed("write", &self.records_path, &error))?;
        self.manifest.parts.clone_from(&completeness.parts);
        self.manifest.undecided_fields.clone_from(&completeness.undecided_fields);
        let mut manifest = create_private(&self.manifest_path)?;
        serde_json::to_writer_pretty(&mut manifest, &self.manifest)
            .map_err(|error| failed("write", &self.manifest_path, &error.into()))?;
        self.is_complete = true;
        Ok(())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if !self.is_complete {
            let _ = fs::remove_file(&self.records_path);
            let _ = fs::remove_file(&self.manifest_path);
        }
    }
}

/// What replaces what. Order and equality stay, since ids and texts decide ties (R1.4, R4, R6.2).
struct Mask {
    students: BTreeMap<StudentId, StudentId>,
    ids: BTreeMap<RecordId, RecordId>,
    periods: BTreeMap<PeriodId, PeriodId>,
    texts: BTreeMap<Box<str>, Box<str>>,
}

impl Mask {
    fn of(records: &[Record]) -> Self {
        let (mut students, mut ids) = (BTreeSet::new(), BTreeSet::new());
        let (mut periods, mut texts) = (BTreeSet::new(), BTreeSet::new());
        for record in records {
            match record {
                Record::Registration(row) => {
                    students.insert(row.student.clone());
                    ids.extend(row.id.clone());
                    periods.extend(row.period.clone());
                    texts.extend(row.comment.clone());
                }
                Record::OutOfSchool(span) => {
                    students.insert(span.student.clone());
                    ids.extend(span.id.clone());
                    texts.extend(span.reason.clone());
                }
                Record::Period(period) => {
                    periods.insert(period.id.clone());
                    texts.extend(period.name.clone());
                }
                Record::Code(_) => {}
            }
        }
        let mut ids: Vec<RecordId> = ids.into_iter().collect();
        ids.sort_by(|a, b| compare_ids(Some(a.as_str()), Some(b.as_str())));
        let number = |prefix: &'static str| (1_u64..).map(move |number| format!("{prefix}{number:08}"));
        Self {
            students: students.into_iter().zip(number("student-").map(StudentId::new)).collect(),
            ids: ids.into_iter().zip((1_u64..).map(|number| RecordId::new(number.to_string()))).collect(),
            periods: periods.into_iter().zip(number("period-").map(PeriodId::new)).collect(),
            texts: texts.into_iter().zip(number("text ").map(String::into_boxed_str)).collect(),
        }
    }

    fn apply(&self, record: Record) -> Record {
        fn masked<K: Ord, V: Clone>(map: &BTreeMap<K, V>, key: Option<K>) -> Option<V> {
            map.get(&key?).cloned()
        }
        let student = |id: &StudentId| self.students.get(id).cloned().unwrap_or_else(|| StudentId::new(""));
        match record {
            Record::Registration(mut row) => {
                row.student = student(&row.student);
                row.id = masked(&self.ids, row.id);
                row.period = masked(&self.periods, row.period);
                row.comment = masked(&self.texts, row.comment);
                Record::Registration(row)
            }
            Record::OutOfSchool(mut span) => {
                span.student = student(&span.student);
                span.id = masked(&self.ids, span.id);
                span.reason = masked(&self.texts, span.reason);
                Record::OutOfSchool(span)
            }
            Record::Period(mut period) => {
                period.id = masked(&self.periods, Some(period.id)).unwrap_or_else(|| PeriodId::new(""));
                period.name = masked(&self.texts, period.name);
                Record::Period(period)
            }
            Record::Code(code) => Record::Code(code),
        }
    }
}

/// The replies that a [`SavingSource`] has kept, as a source of their own. It answers any part of what they cover.
#[derive(Clone, Debug)]
pub struct ReplaySource {
    folder: PathBuf,
    /// The newest fetch first.
    fetches: Vec<(u64, Manifest)>,
}

impl ReplaySource {
    /// Opens a folder of kept replies.
    ///
    /// # Errors
    /// The folder holds none, or they can't be read.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, SourceError> {
        let folder = folder.into();
        let entries = fs::read_dir(&folder).map_err(|error| failed("read the folder", &folder, &error))?;
        let mut fetches = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| failed("read the folder", &folder, &error))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let number = name.strip_prefix("replies-").and_then(|rest| rest.strip_suffix(".json"));
            let Some(number) = number.and_then(|number| number.parse::<u64>().ok()) else { continue };
            let text = fs::read(&path).map_err(|error| failed("read", &path, &error))?;
            let manifest = serde_json::from_slice(&text).map_err(|_| damaged(&path, 1))?;
            fetches.push((number, manifest));
        }
        if fetches.is_empty() {
            return Err(SourceError::permanent(
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

    /// Sets how old the replies could be when they were fetched; at first it is what was kept of their source.
    #[must_use]
    pub fn cache_expiry(mut self, expiry: TimeDelta) -> Self {
        self.fetches.iter_mut().for_each(|(_, manifest)| manifest.cache_seconds = expiry.num_seconds());
        self
    }

    /// When the newest of the replies was fetched.
    pub fn fetched_at(&self) -> DateTime<Utc> {
        self.newest().map_or(DateTime::UNIX_EPOCH, |manifest| manifest.fetched_at)
    }
}

fn damaged(path: &Path, line: u64) -> SourceError {
    SourceError::permanent(
        SourceErrorKind::BadRecord,
        format!("line {line} of {} is damaged; save the replies anew", path.display()),
    )
}

impl fmt::Display for ReplaySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the saved replies in {}", self.folder.display())
    }
}

#[async_trait]
impl AttendanceSource for ReplaySource {
    fn capabilities(&self) -> Capabilities {
        self.newest().map(Manifest::capabilities).unwrap_or_default()
    }

    async fn fetch(&self, request: &FetchRequest) -> Result<RecordStream, SourceError> {
        let covers = |manifest: &Manifest| {
            let completeness = manifest.completeness();
            let mut kinds = vec![FetchedKind::Registrations];
            kinds.extend(manifest.has_out_of_school.then_some(FetchedKind::OutOfSchool));
            kinds.extend(request.periods.then_some(FetchedKind::Periods));
            kinds.into_iter().all(|kind| completeness.covers(kind, request.window))
        };
        let Some((number, manifest)) = self.fetches.iter().find(|(_, manifest)| covers(manifest)).cloned() else {
            let periods = if request.periods { " with registration periods" } else { "" };
            return Err(SourceError::permanent(
                SourceErrorKind::Incomplete,
                format!(
                    "the saved replies don't cover {} to {}{periods}; ask for other dates, or save them anew",
                    request.window.from(),
                    request.window.to()
                ),
            ));
        };
        let path = records_path(&self.folder, number);
        let mut file = BufReader::new(File::open(&path).map_err(|error| failed("read", &path, &error))?);
        let counters = request.counters.clone();
        let mut read = 0;
        let next_record = move || -> Option<Result<SourceRecord, SourceError>> {
            let mut line = String::new();
            match file.read_line(&mut line) {
                Err(error) => return Some(Err(failed("read", &path, &error))),
                Ok(0) if read < manifest.records => return Some(Err(damaged(&path, read + 1))),
                Ok(0) => return None,
                Ok(bytes) => counters.add_bytes(bytes as u64),
            }
            read += 1;
            Some(serde_json::from_str(&line).map(SourceRecord::Record).map_err(|_| damaged(&path, read)))
        };
        let records = futures::stream::iter(std::iter::from_fn(next_record));
        let verdict = manifest.completeness();
        Ok(records.chain(futures::stream::iter([Ok(SourceRecord::Complete(verdict))])).boxed())
    }
}
