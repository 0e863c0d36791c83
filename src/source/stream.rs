use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};

use super::{Completeness, SourceError};
use crate::model::Record;

/// Some records, in any order, that are handed over together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordBatch(Vec<Record>);

impl RecordBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch with room for `records` records.
    #[cfg(feature = "isams")]
    pub(crate) fn with_capacity(records: usize) -> Self {
        Self(Vec::with_capacity(records))
    }

    /// Adds a record.
    pub fn push(&mut self, record: Record) {
        self.0.push(record);
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Extend<Record> for RecordBatch {
    fn extend<I: IntoIterator<Item = Record>>(&mut self, records: I) {
        self.0.extend(records);
    }
}

impl FromIterator<Record> for RecordBatch {
    fn from_iter<I: IntoIterator<Item = Record>>(records: I) -> Self {
        Self(records.into_iter().collect())
    }
}

impl IntoIterator for RecordBatch {
    type Item = Record;
    type IntoIter = std::vec::IntoIter<Record>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// An item that a source streams: records, or at the end the proof of completeness.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FetchItem {
    /// Records in any order. Codes and periods should come first.
    Records(RecordBatch),
    /// What was requested and read in full. The last item, exactly once.
    Complete(Completeness),
}

/// The records of one fetch, a stream of [`FetchItem`]s. It borrows nothing, and dropping it cancels the fetch.
///
/// ```
/// use rollmark::model::{Code, Record};
/// use rollmark::rules::Window;
/// use rollmark::source::{Completeness, FetchItem, FetchedKind, RecordBatch, RecordStream, SourceError};
///
/// let codes = vec![Record::Code(Code::new("17", true).with_letter("M"))];
/// let completeness = Completeness::whole(Window::day("2026-11-20".parse()?), [(FetchedKind::Codes, 1)]);
/// // Everything is there.
/// let stream = RecordStream::of(codes.clone(), completeness.clone());
/// // Items as they arrive.
/// let batch = RecordBatch::from_iter(codes);
/// let items: [Result<FetchItem, SourceError>; 2] = [Ok(FetchItem::Records(batch)), Ok(FetchItem::Complete(completeness))];
/// let stream = RecordStream::new(futures::stream::iter(items));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RecordStream(BoxStream<'static, Result<FetchItem, SourceError>>);

impl RecordStream {
    /// A fetch whose items are handed on as they arrive.
    pub fn new(items: impl Stream<Item = Result<FetchItem, SourceError>> + Send + 'static) -> Self {
        Self(items.boxed())
    }

    /// A complete fetch whose records are already in memory.
    pub fn of(records: impl IntoIterator<Item = Record>, completeness: Completeness) -> Self {
        let items = [FetchItem::Records(records.into_iter().collect()), FetchItem::Complete(completeness)];
        Self::new(futures::stream::iter(items.map(Ok)))
    }

    /// The next item; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<FetchItem, SourceError>> {
        self.0.next().await
    }
}

impl Stream for RecordStream {
    type Item = Result<FetchItem, SourceError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(context)
    }
}

impl fmt::Debug for RecordStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordStream").finish_non_exhaustive()
    }
}
