use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::model::{Retry, names, opaque_error};

/// The kinds of [`SourceError`], by what a caller can do about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SourceErrorKind {
    /// The source doesn't answer, or the connection broke: check the address and the network.
    Connection,
    /// The key, client or token was refused: check the credentials.
    Credentials,
    /// The credentials lack a right: grant it in the management system.
    NotAllowed,
    /// There were too many requests: wait.
    Throttled,
    /// The source failed on its side: try later.
    Server,
    /// The reply is not what was requested (a web page, half a document, no document).
    BadReply,
    /// A record lacks a required field, or the field can't be read: name the field, or correct the record in the
    /// source.
    BadRecord,
    /// Part of the requested data is missing from the reply.
    Incomplete,
    /// The reply is larger than the limits allow.
    TooLarge,
    /// The fetch took longer than its deadline.
    TimedOut,
    /// The source has a wrong setting.
    Configuration,
}

names!(@only SourceErrorKind, "a kind of failure", {
    Connection => "connection",
    Credentials => "credentials",
    NotAllowed => "not_allowed",
    Throttled => "throttled",
    Server => "server",
    BadReply => "bad_reply",
    BadRecord => "bad_record",
    Incomplete => "incomplete",
    TooLarge => "too_large",
    TimedOut => "timed_out",
    Configuration => "configuration",
});

impl fmt::Display for SourceErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Connection => "there is no answer, or the connection broke",
            Self::Credentials => "the credentials are refused",
            Self::NotAllowed => "the credentials lack a permission",
            Self::Throttled => "too many requests",
            Self::Server => "the management system has failed",
            Self::BadReply => "the reply is not what was asked for",
            Self::BadRecord => "a record can't be read",
            Self::Incomplete => "part of the answer is missing",
            Self::TooLarge => "the reply is too large",
            Self::TimedOut => "the deadline has passed",
            Self::Configuration => "the source has a wrong setting",
        })
    }
}

/// Why a fetch failed. The message is one line: what happened, and what to do. It never holds a key, the query of a
/// URL, the body of a reply, or anything about a pupil except ids. The cause is its [`source`](Error::source).
///
/// ```
/// use rollmark::model::{Cause, Retry};
/// use rollmark::source::{SourceError, SourceErrorKind};
///
/// let error = SourceError::temporary(SourceErrorKind::Connection, "the export server does not answer; check its address")
///     .with_cause(Cause::new("connection refused"));
/// assert_eq!(error.retry(), Retry::Now);
/// ```
#[derive(Clone, Debug)]
pub struct SourceError {
    kind: SourceErrorKind,
    message: String,
    retry: Retry,
    cause: Option<Arc<dyn Error + Send + Sync>>,
}

impl SourceError {
    /// A failure that another try would not avoid ([`Retry::Never`]).
    pub fn new(kind: SourceErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry: Retry::Never, cause: None }
    }

    /// A failure that another try can avoid ([`Retry::Now`]).
    pub fn temporary(kind: SourceErrorKind, message: impl Into<String>) -> Self {
        Self::new(kind, message).with_retry(Retry::Now)
    }

    /// The same failure after the last try. The message then says what was tried, and a failure that another try could
    /// avoid becomes [`Retry::Exhausted`].
    #[must_use]
    pub fn exhausted(mut self, tried: &str) -> Self {
        if self.retry.wait().is_some() || self.kind == SourceErrorKind::TimedOut {
            self.retry = Retry::Exhausted;
        }
        self.message = format!("{} ({tried})", self.message);
        self
    }

    /// The same failure in other words.
    #[cfg(feature = "isams")]
    pub(crate) fn reworded(mut self, reword: impl FnOnce(&str) -> String) -> Self {
        self.message = reword(&self.message);
        self
    }
}

opaque_error!(SourceError, SourceErrorKind);
