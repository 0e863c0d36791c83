//! What every source and every store must do, as functions for testing your own.
//!
//! Each function returns the first broken promise as a [`Violation`]:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), rollmark::testing::conformance::Violation> {
//! use rollmark::testing::FakeSource;
//! use rollmark::testing::conformance::source;
//!
//! source::every(&FakeSource::new(source::school()), &source::school()).await
//! # }
//! ```

pub mod source;
pub mod store;

use std::fmt::{self, Debug};

use crate::source::SourceError;
use crate::store::StoreError;

/// A promise of a trait that an implementation has broken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The promise that every implementation makes.
    pub promise: &'static str,
    /// The first difference from the promise, in one line.
    pub first_difference: String,
}

impl Violation {
    fn new(promise: &'static str, first_difference: impl Into<String>) -> Self {
        Self { promise, first_difference: first_difference.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this promise is broken: {}. {}", self.promise, self.first_difference)
    }
}

impl std::error::Error for Violation {}

impl From<StoreError> for Violation {
    fn from(error: StoreError) -> Self {
        Self::new("a store that can be reached answers", format!("It says: {error}"))
    }
}

impl From<SourceError> for Violation {
    fn from(error: SourceError) -> Self {
        Self::new("a source that can be reached answers", format!("It says: {error}"))
    }
}

/// Says whether a promise is kept.
pub type Kept = Result<(), Violation>;

fn ensure(holds: bool, promise: &'static str, otherwise: impl FnOnce() -> String) -> Kept {
    if holds { Ok(()) } else { Err(Violation::new(promise, otherwise())) }
}

fn equal<T: PartialEq + Debug>(found: &T, expected: &T, promise: &'static str) -> Kept {
    ensure(found == expected, promise, || match difference(found, expected) {
        Some((place, found, expected)) => format!("Expected{place} {expected}, found {found}"),
        None => format!("Expected {}, found {}", shown(expected), shown(found)),
    })
}

/// Compares two lists and names the first element that differs.
fn equal_lists<T: PartialEq + Debug>(found: &[T], expected: &[T], promise: &'static str) -> Kept {
    let same = found.iter().zip(expected).take_while(|(found, expected)| found == expected).count();
    ensure(found == expected, promise, || {
        let counts = format!("Of {} expected and {} found, number {}", expected.len(), found.len(), same + 1);
        match (found.get(same), expected.get(same)) {
            (Some(found), Some(expected)) => match difference(found, expected) {
                Some((place, differs, wanted)) => {
                    format!("{counts} is to have{place} {wanted}, and has {differs}: {}", shown(found))
                }
                None => format!("{counts} is to be {}, and is {}", shown(expected), shown(found)),
            },
            (found, expected) => {
                let one = |one: Option<&T>| one.map_or("nothing".to_owned(), shown);
                format!("{counts} is to be {}, and is {}", one(expected), one(found))
            }
        }
    })
}

/// The first field that differs: its place, what was found there, and what was expected. `None` if they differ in their form.
fn difference<T: Debug>(found: &T, expected: &T) -> Option<(String, String, String)> {
    let (found, expected) = (format!("{found:#?}"), format!("{expected:#?}"));
    let mut path: Vec<(usize, &str)> = Vec::new();
    for (found, expected) in found.lines().zip(expected.lines()) {
        let depth = found.len() - found.trim_start().len();
        path.retain(|(outer, _)| *outer < depth);
        let name = found.trim_start().split_once(": ").map(|(name, _)| name);
        path.extend(name.map(|name| (depth, name)));
        if found != expected {
            let place: Vec<&str> = path.iter().map(|(_, name)| *name).collect();
            let value = |line: &str| {
                line.trim().trim_end_matches(',').rsplit_once(": ").map_or(line.trim(), |(_, value)| value).to_owned()
            };
            return (!place.is_empty()).then(|| (format!(" {}", place.join(".")), value(found), value(expected)));
        }
    }
    None
}

fn shown(value: &impl Debug) -> String {
    const MOST: usize = 400;
    let text = format!("{value:?}");
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
