use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The cause of an error, in rollmark's own words: fixed words, codes and positions only, never a value, an address, a
/// key or the text of a reply. The errors of this crate give it as their [`source`](Error::source).
///
/// ```
/// use rollmark::model::Cause;
///
/// let cause = Cause::new("the file ends in line 12").with_cause(Cause::new("unexpected end of file"));
/// assert_eq!(cause.to_string(), "the file ends in line 12");
/// ```
#[derive(Clone, Debug)]
pub struct Cause {
    words: Cow<'static, str>,
    next: Option<Arc<Cause>>,
}

impl Cause {
    /// A cause in these words.
    pub fn new(words: impl Into<Cow<'static, str>>) -> Self {
        Self { words: words.into(), next: None }
    }

    /// Sets the cause of this cause.
    #[must_use]
    pub fn with_cause(mut self, next: Cause) -> Self {
        self.next = Some(Arc::new(next));
        self
    }

    /// The operating system's error, by its kind and its number. Any custom text in it is left out.
    #[cfg(feature = "sync")]
    pub(crate) fn of_io(error: &std::io::Error) -> Self {
        let kind = error.kind();
        match error.raw_os_error() {
            Some(code) => Self::new(format!("{kind} (os error {code})")),
            None => Self::new(kind.to_string()),
        }
    }

    /// What is wrong with a JSON text, and where.
    #[cfg(feature = "sync")]
    pub(crate) fn of_json(error: &serde_json::Error) -> Self {
        Self::of_json_at(error, format_args!("line {}, column {}", error.line(), error.column()))
    }

    /// The same, for JSON whose position the caller counts.
    #[cfg(feature = "sync")]
    pub(crate) fn of_json_at(error: &serde_json::Error, place: impl fmt::Display) -> Self {
        use serde_json::error::Category;
        let what = match error.classify() {
            Category::Io => "reading failed",
            Category::Syntax => "it is not JSON",
            Category::Data => "the JSON does not have the expected structure",
            Category::Eof => "the JSON ends early",
        };
        Self::new(format!("{what} ({place})"))
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.next.as_deref().map(|next| next as _)
    }
}

/// Whether another try can succeed without a change to anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retry {
    /// No: another try would fail in the same way.
    Never,
    /// Yes, at once.
    Now,
    /// Yes, after this time at the earliest.
    After(Duration),
    /// Not now: it was tried several times already. Leave it to the next scheduled run.
    Exhausted,
}

impl Retry {
    /// The shortest wait before another try; `None` if there should be no other try now.
    pub fn wait(self) -> Option<Duration> {
        match self {
            Self::Now => Some(Duration::ZERO),
            Self::After(wait) => Some(wait),
            Self::Never | Self::Exhausted => None,
        }
    }
}

/// What the errors of the rooms have in common: `kind`, `message`, `retry` and `cause`, and how they are read and set.
#[cfg(feature = "sync")]
macro_rules! opaque_error {
    ($type:ident, $kind:ident) => {
        impl $type {
            /// Sets whether another try is worth it.
            #[must_use]
            pub fn with_retry(mut self, retry: $crate::model::Retry) -> Self {
                self.retry = retry;
                self
            }

            /// Sets the cause. The message must not repeat it, and its text must hold no secret.
            #[must_use]
            pub fn with_cause(mut self, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
                self.cause = Some(std::sync::Arc::new(cause));
                self
            }

            /// What kind of failure it is.
            pub fn kind(&self) -> $kind {
                self.kind
            }

            /// Whether another try can succeed without a change to anything.
            pub fn retry(&self) -> $crate::model::Retry {
                self.retry
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.message)
            }
        }

        impl std::error::Error for $type {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                self.cause.as_deref().map(|cause| cause as _)
            }
        }
    };
}

#[cfg(feature = "sync")]
pub(crate) use opaque_error;
