use std::fmt;

use async_trait::async_trait;

use crate::source::{AttendanceSource, Capabilities, FetchRequest, RecordStream, SourceError};

mockall::mock! {
    /// A source whose calls a test scripts one by one, to test one precise fault.
    #[derive(Debug)]
    pub AttendanceSource {}

    #[async_trait]
    impl AttendanceSource for AttendanceSource {
        fn capabilities(&self) -> Capabilities;
        async fn fetch(&self, request: &FetchRequest) -> Result<RecordStream, SourceError>;
    }
}

impl fmt::Display for MockAttendanceSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mock")
    }
}
