//! What a source sends, record by record.

use futures::StreamExt;
use rollmark::model::Record;
use rollmark::source::{Completeness, FetchItem, RecordStream, SourceError};

#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    Record(Record),
    Complete(Completeness),
}

/// All items of a stream; an error is the last.
pub async fn items(stream: RecordStream) -> Vec<Result<Item, SourceError>> {
    let single = |item| match item {
        Ok(FetchItem::Records(batch)) => batch.into_iter().map(|record| Ok(Item::Record(record))).collect(),
        Ok(FetchItem::Complete(verdict)) => vec![Ok(Item::Complete(verdict))],
        Ok(item) => panic!("an unknown item: {item:?}"),
        Err(error) => vec![Err(error)],
    };
    stream.map(single).collect::<Vec<_>>().await.concat()
}
