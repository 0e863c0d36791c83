//! `MockAttendanceSource` builds, stands in for any source, and says what it was told.

use futures::{TryStreamExt, stream};
use rollmark::rules::{SyncWindow, Window};
use rollmark::source::{
    AttendanceSource, Capabilities, Completeness, FetchItem, FetchRequest, FetchedKind, RecordStream, SourceError,
    SourceErrorKind,
};
use rollmark::testing::MockAttendanceSource;

fn window() -> Window {
    SyncWindow::default().ending("2026-11-20".parse().unwrap())
}

#[tokio::test]
async fn a_mock_gives_the_error_that_it_was_told() {
    let error = SourceError::new(SourceErrorKind::Credentials, "the API key was refused; check the key");
    let mut mock = MockAttendanceSource::new();
    mock.expect_fetch().times(1).returning(move |_| Err(error.clone()));

    let source: &dyn AttendanceSource = &mock;
    let error = source.fetch(&FetchRequest::new(window())).await.err().unwrap();
    assert_eq!(error.kind(), SourceErrorKind::Credentials);
    assert_eq!(error.to_string(), "the API key was refused; check the key");
    assert_eq!(source.to_string(), "a mock");
}

#[tokio::test]
async fn a_mock_gives_the_stream_that_it_was_told() {
    let verdict =
        FetchItem::Complete(Completeness::whole(window(), [(FetchedKind::Codes, 0), (FetchedKind::Registrations, 0)]));
    let mut mock = MockAttendanceSource::new();
    let told = verdict.clone();
    mock.expect_capabilities().return_const(Capabilities::default());
    mock.expect_fetch().returning(move |_| Ok(RecordStream::new(stream::iter([Ok(told.clone())]))));

    let source: Box<dyn AttendanceSource> = Box::new(mock);
    let stream = source.fetch(&FetchRequest::new(window())).await.unwrap();
    assert_eq!(stream.try_collect::<Vec<_>>().await.unwrap(), [verdict]);
    assert_eq!(source.capabilities(), Capabilities::default());
}
