/// A text that is not one of the names of a type. The message lists them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not {what}; use {}", known(names))]
pub struct UnknownName {
    what: &'static str,
    names: &'static [&'static str],
}

fn known(names: &[&str]) -> String {
    match names {
        [others @ .., last] if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        names => names.concat(),
    }
}

impl UnknownName {
    pub(crate) fn new(what: &'static str, names: &'static [&'static str]) -> Self {
        Self { what, names }
    }
}

/// Gives an enum of unit variants its names in files: `name`, `FromStr`, `Serialize`, `Deserialize` and, except with `@only`,
/// `Display`. With `else`, a name that a newer version of this library has written is read as that variant.
macro_rules! names {
    ($type:ident, $what:literal, { $($variant:ident => $name:literal,)+ } $(else $unknown:ident)?) => {
        names!(@only $type, $what, { $($variant => $name,)+ } $(else $unknown)?);

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }
    };
    (@only $type:ident, $what:literal, { $($variant:ident => $name:literal,)+ } $(else $unknown:ident)?) => {
        impl $type {
            /// The name in files, reports and flags, such as `not_taken`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                    $(Self::$unknown => "unknown",)?
                }
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::model::UnknownName;

            /// Reads a name, exactly as [`name`](Self::name) writes it.
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($name => Ok(Self::$variant),)+
                    _ => Err($crate::model::UnknownName::new($what, &[$($name),+])),
                }
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = std::borrow::Cow::<str>::deserialize(deserializer)?;
                let read = name.parse();
                $(let read = read.or(Ok::<_, $crate::model::UnknownName>(Self::$unknown));)?
                read.map_err(serde::de::Error::custom)
            }
        }
    };
}

/// Setters of fields: `with_thing(thing: Type) => value of the field;`. A setter without its own doc comment gets one that
/// links to the getter or field.
macro_rules! setters {
    ($type:ident $(<$life:lifetime>)? { $($setters:tt)+ }) => {
        impl $(<$life>)? $type $(<$life>)? {
            $crate::model::setters!(@of $($setters)+);
        }
    };
    (@of $with:ident($field:ident: $of:ty) => $set:expr; $($rest:tt)*) => {
        $crate::model::setters! {
            @of
            #[doc = concat!("Sets [`", stringify!($field), "`](Self::", stringify!($field), ").")]
            $with($field: $of) => $set;
            $($rest)*
        }
    };
    (@of $(#[$doc:meta])+ $with:ident($field:ident: $of:ty) => $set:expr; $($rest:tt)*) => {
        $(#[$doc])+
        #[must_use]
        pub fn $with(mut self, $field: $of) -> Self {
            self.$field = $set;
            self
        }

        $crate::model::setters!(@of $($rest)*);
    };
    (@of) => {};
}

pub(crate) use {names, setters};

#[cfg(test)]
mod tests {
    use crate::model::{DecisionRule, FeedTime, Issue, Session};
    use crate::rules::PmRule;

    #[test]
    fn what_a_file_holds_is_read_as_it_is_written() {
        for text in ["2026-01-14", "2026-01-14T08:40:00.500", "2026-01-14T24:00:00", "2026-01-14T24:00:00+01:00"] {
            assert_eq!(text.parse::<FeedTime>().unwrap().to_string(), text);
        }
        for session in Session::BOTH {
            assert_eq!(session.to_string().parse(), Ok(session));
        }
        for text in ["13:30", "13:30:05", "periods"] {
            assert_eq!(text.parse::<PmRule>().unwrap().to_string(), text);
        }
        let unknown = "noon".parse::<Session>().unwrap_err();
        assert_eq!(unknown.to_string(), "not a session; use AM or PM");
    }

    #[test]
    fn a_name_that_a_newer_version_wrote_is_read_as_unknown() {
        let issues: crate::model::Issues = serde_json::from_str(
            r#"{"bad_value":{"count":1,"examples":[]},"from_the_future":{"count":2,"examples":[]}}"#,
        )
        .unwrap();
        assert_eq!(issues.count(Issue::Unknown), 2);
        assert_eq!(serde_json::from_str::<DecisionRule>(r#""by_lot""#).unwrap(), DecisionRule::Unknown);
        assert!(serde_json::from_str::<Session>(r#""noon""#).is_err());
    }
}
