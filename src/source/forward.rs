//! Pointers to a source are sources.

use std::sync::Arc;

use async_trait::async_trait;

use super::{AttendanceSource, Capabilities, FetchRequest, RecordStream, SourceError};
use crate::explain::Wording;

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        #[async_trait]
        impl<T: AttendanceSource + ?Sized> AttendanceSource for $pointer {
            fn capabilities(&self) -> Capabilities {
                (**self).capabilities()
            }

            fn wording(&self) -> Wording {
                (**self).wording()
            }

            async fn fetch(&self, request: &FetchRequest) -> Result<RecordStream, SourceError> {
                (**self).fetch(request).await
            }
        }
    )*};
}

forward!(&T, Arc<T>, Box<T>);
