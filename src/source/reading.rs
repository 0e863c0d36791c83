//! Reading a complete fetch.

use std::time::Instant;

use tracing::field::Empty;
use tracing::{Instrument, info_span};

use super::{
    AttendanceSource, Completeness, Coverage, FetchItem, FetchRequest, FetchedKind, SourceError, SourceErrorKind, retry,
};
use crate::explain::Wording;
use crate::model::Record;

/// The most tries of one fetch.
const TRIES: usize = 4;
/// The number of rows between two progress reports.
const ROWS_PER_SIGN: u64 = 4_096;

/// The progress of a fetch.
pub(crate) enum Progress {
    /// A fetch begins; tries count from 1.
    Started(u32),
    /// This try has failed.
    Failed(u32, SourceErrorKind),
    /// The number of records read so far in this try.
    Read(u64),
    /// Everything was read: this many records.
    Complete(u64),
}

/// Reads a complete fetch into a new value from `start`, such as a [`Resolver`](crate::rules::Resolver) or a vector.
///
/// A fetch that breaks off is discarded and started again, up to four tries in all, with growing waits: no row of a
/// broken reply ever counts. A source that asks for a wait of more than a minute is not asked again. The records must
/// cover every date of the window, for every kind that the source's capabilities promise.
///
/// # Errors
/// The source's error, or [`SourceErrorKind::Incomplete`] if there is no proof that everything was read.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use rollmark::rules::Window;
/// use rollmark::source::{FetchRequest, read_all};
/// use rollmark::testing::{FakeSchool, FakeSource};
///
/// let today = "2026-11-20".parse()?;
/// let source = FakeSource::new(FakeSchool::demo(today));
/// let (records, completeness) = read_all(&source, &FetchRequest::new(Window::day(today)), Vec::new).await?;
/// assert!(!records.is_empty() && completeness.as_of(chrono::Utc::now()).is_none());
/// # Ok(())
/// # }
/// ```
pub async fn read_all<S: Extend<Record>>(
    source: &dyn AttendanceSource,
    request: &FetchRequest,
    start: impl Fn() -> S,
) -> Result<(S, Completeness), SourceError> {
    read_watched(source, request, start, |_| {}).await
}

/// Like [`read_all`], and reports its progress.
pub(crate) async fn read_watched<S: Extend<Record>>(
    source: &dyn AttendanceSource,
    request: &FetchRequest,
    start: impl Fn() -> S,
    tell: impl Fn(Progress),
) -> Result<(S, Completeness), SourceError> {
    let (started, mut attempt) = (Instant::now(), 1);
    let (window, counters) = (request.window(), request.counters());
    let mut waits = retry::waits(TRIES);
    let (state, completeness) = loop {
        tell(Progress::Started(attempt));
        let (from, to) = (window.from(), window.to());
        let span = info_span!("rollmark.fetch", %from, %to, attempt, rows = Empty, bytes = Empty);
        let bytes_before = counters.tally().bytes;
        let folded = fold(source, request, start(), &tell).instrument(span.clone()).await;
        span.record("bytes", counters.tally().bytes - bytes_before);
        let error = match folded {
            Ok((state, completeness)) => {
                span.record("rows", completeness.parts().iter().map(|part| part.rows).sum::<u64>());
                break (state, completeness);
            }
            Err(error) => error,
        };
        tell(Progress::Failed(attempt, error.kind()));
        let Some(least) = error.retry().wait().filter(|wait| *wait <= retry::LONGEST_WAIT) else { return Err(error) };
        let Some(wait) = waits.next() else {
            let seconds = started.elapsed().as_secs_f32();
            return Err(error.exhausted(&format!("the whole fetch was tried {attempt} times in {seconds:.1} s")));
        };
        let wait = least.max(wait);
        span.in_scope(|| retry::warn(error.kind(), wait));
        drop(span);
        tokio::time::sleep(wait).await;
        attempt += 1;
        counters.add_retry();
    };
    if completeness.parts().iter().any(|part| part.coverage != Coverage::Everything) {
        return Err(incomplete("it holds only changes, not every record"));
    }
    match source.capabilities().needed(request.periods()).into_iter().find(|kind| !completeness.covers(*kind, window)) {
        None => Ok((state, completeness)),
        Some(kind) => Err(incomplete(&format!("some dates have no answer for {kind}"))),
    }
}

/// Reads one fetch up to its proof of completeness. Nothing is kept from a fetch that breaks off.
async fn fold<S: Extend<Record>>(
    source: &dyn AttendanceSource,
    request: &FetchRequest,
    mut state: S,
    tell: &impl Fn(Progress),
) -> Result<(S, Completeness), SourceError> {
    let gives_session_marks = source.capabilities().gives_session_marks;
    let mut stream = source.fetch(request).await?;
    let mut verdict = None;
    let mut records = 0;
    while let Some(item) = stream.next().await {
        match item? {
            _ if verdict.is_some() => return Err(incomplete("records came after the verdict")),
            FetchItem::Records(batch) => {
                for record in batch {
                    match record {
                        Record::Registration(_) if gives_session_marks => {
                            return Err(other_kind(FetchedKind::SessionMarks, FetchedKind::Registrations));
                        }
                        Record::SessionMark(_) if !gives_session_marks => {
                            return Err(other_kind(FetchedKind::Registrations, FetchedKind::SessionMarks));
                        }
                        record => state.extend([record]),
                    }
                    records += 1;
                    if records % ROWS_PER_SIGN == 0 {
                        tell(Progress::Read(records));
                    }
                }
            }
            FetchItem::Complete(completeness) => verdict = Some(completeness),
        }
    }
    // A source whose answer was cut short may answer in full next time.
    let completeness = verdict.ok_or_else(|| {
        SourceError::temporary(
            SourceErrorKind::Incomplete,
            "the source's answer ended before it was complete; nothing was written",
        )
    })?;
    tell(Progress::Complete(records));
    Ok((state, completeness))
}

/// The error for an answer that proves nothing, and why.
fn incomplete(why: &str) -> SourceError {
    let message = format!("the source's answer is incomplete ({why}); nothing was written");
    SourceError::new(SourceErrorKind::Incomplete, message)
}

/// The error for a source that streams a kind that it does not promise: nothing says whether that kind was read in full.
fn other_kind(promised: FetchedKind, streamed: FetchedKind) -> SourceError {
    SourceError::new(
        SourceErrorKind::BadRecord,
        format!(
            "the source says that it gives {promised}, but it sent {streamed}; correct the source: it must give one of the two \
             and say which (gives_session_marks)"
        ),
    )
}

/// Refuses a fetch in which records have codes but the source's code table is empty (R11.6): every absence would lose its
/// letter, and every visit would count as an absence.
pub(crate) fn refuse_if_codes_are_missing(
    source: &dyn AttendanceSource,
    lacks_code_table: bool,
) -> Result<(), SourceError> {
    if !lacks_code_table || !source.capabilities().has_code_table {
        return Ok(());
    }
    let Wording { code_table, access, .. } = source.wording();
    Err(SourceError::new(
        SourceErrorKind::Incomplete,
        format!(
            "the {code_table} is empty, but records have codes; let the {access} read the registration codes, or say that \
             there is no code table (--no-code-table)"
        ),
    ))
}
