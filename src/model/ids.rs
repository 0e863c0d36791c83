use std::cmp::Ordering;
use std::fmt;

use lean_string::LeanString;
use serde::{Deserialize, Deserializer, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// White space around the text is removed. Ids are compared exactly, and sort by code point.
        ///
        /// ```
        #[doc = concat!("use rollmark::model::", stringify!($name), ";")]
        ///
        #[doc = concat!("let id = ", stringify!($name), "::new(\" 0042 \");")]
        /// assert_eq!(id.as_str(), "0042");
        /// assert_eq!(id, "0042".into());
        /// ```
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(LeanString);

        impl $name {
            /// Makes the id from its text, without the white space around it.
            pub fn new(text: impl AsRef<str>) -> Self {
                Self(LeanString::from(text.as_ref().trim()))
            }

            /// The id's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self::new(text)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }

        impl From<&$name> for $name {
            fn from(id: &Self) -> Self {
                id.clone()
            }
        }

        impl From<&String> for $name {
            fn from(text: &String) -> Self {
                Self::new(text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = std::convert::Infallible;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Ok(Self::new(text))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = LeanString::deserialize(deserializer)?;
                Ok(if text.trim().len() == text.len() { Self(text) } else { Self::new(text) })
            }
        }
    };
}

id! {
    /// A student, by the id that the management system and the portal share (iSAMS: `PupilId`, verified).
    StudentId
}
id! {
    /// A record's own id: a registration's row id or an out-of-school record's id.
    RecordId
}
id! {
    /// A registration period's id.
    PeriodId
}
id! {
    /// A code's id in the code table (iSAMS: numeric, verified).
    CodeId
}
id! {
    /// A code as a record carries it: the id of a code, or its letter.
    RawCode
}
id! {
    /// A school, by its key in the portal's store. Any text; every school of a store has its own.
    SchoolId
}

/// The order of ids as the rules compare them (R1.4): missing, then all-digit ids by value, then others by code point.
///
/// All-digit ids of equal value (leading zeros) compare as text.
pub(crate) fn compare_ids(a: Option<impl AsRef<str>>, b: Option<impl AsRef<str>>) -> Ordering {
    fn key(id: &str) -> (bool, usize, &str, &str) {
        if id.bytes().all(|byte| byte.is_ascii_digit()) {
            let digits = id.trim_start_matches('0');
            (false, digits.len(), digits, id)
        } else {
            (true, 0, id, id)
        }
    }
    a.as_ref().map(|id| key(id.as_ref())).cmp(&b.as_ref().map(|id| key(id.as_ref())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_order_missing_then_numbers_by_value_then_text() {
        let ordered = [
            None,
            Some("0"),
            Some("007"),
            Some("7"),
            Some("10"),
            Some("99999999999999999999999"),
            Some("+1"),
            Some("1a"),
        ];
        for pair in ordered.windows(2) {
            assert_eq!(compare_ids(pair[0], pair[1]), Ordering::Less, "{pair:?}");
        }
    }
}
