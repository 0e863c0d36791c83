//! How long to wait before a new try after a failure.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use super::SourceErrorKind;

/// The longest wait between two tries. A source that asks for a longer one is not asked again.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(60);
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// The waits between `tries` tries, each about twice the one before, with a random part.
pub(crate) fn waits(tries: usize) -> ExponentialBackoff {
    let waits = ExponentialBuilder::default().with_min_delay(FIRST_WAIT).with_max_delay(LONGEST_WAIT);
    waits.with_max_times(tries.saturating_sub(1)).with_jitter().build()
}

/// Logs that there was a failure and that there will be another try, without the error's message, which can name records.
pub(crate) fn warn(failure: SourceErrorKind, wait: Duration) {
    tracing::warn!(?failure, wait_seconds = wait.as_secs_f64(), "failed, and is tried again");
}
