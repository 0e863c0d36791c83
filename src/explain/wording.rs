use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::model::setters;

/// The names of things in a management system, and how to change its settings. A source supplies them, so that advice
/// names the right screen.
///
/// The default fits any source. All texts are English, in the form that each field asks for.
///
/// ```
/// use rollmark::explain::Wording;
///
/// let wording = Wording::for_api_key().with_code_table("code table (AbsenceCodes)");
/// assert_ne!(wording, Wording::default());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Wording {
    /// What gives access to the system: a singular noun whose last word can stand for the whole (`API key`).
    pub access: Cow<'static, str>,
    /// What the list of registration codes is called: a singular noun.
    pub code_table: Cow<'static, str>,
    /// How to shorten the cache expiry to the advised time: whole sentences.
    pub cache_advice: Cow<'static, str>,
    /// How to make the system refresh its cache at once: the end of a sentence, without a full stop. Empty if there is
    /// no way.
    pub cache_refresh: Cow<'static, str>,
    /// How to tell the source the name of a field: words in which `{}` stands for the field
    /// (`out_of_school_updated`).
    pub field: Cow<'static, str>,
    /// What to do about a field that may hold a time of update or a code: whole sentences.
    pub field_advice: Cow<'static, str>,
}

setters!(Wording {
    with_access(access: impl Into<Cow<'static, str>>) => access.into();
    with_code_table(code_table: impl Into<Cow<'static, str>>) => code_table.into();
    with_cache_advice(cache_advice: impl Into<Cow<'static, str>>) => cache_advice.into();
    with_cache_refresh(cache_refresh: impl Into<Cow<'static, str>>) => cache_refresh.into();
    with_field(field: impl Into<Cow<'static, str>>) => field.into();
    with_field_advice(field_advice: impl Into<Cow<'static, str>>) => field_advice.into();
});

impl Default for Wording {
    /// Wording for any source.
    fn default() -> Self {
        Self {
            access: "account".into(),
            code_table: "code table".into(),
            cache_advice: "Let the management system keep its replies for 4 to 6 hours.".into(),
            cache_refresh: "".into(),
            field: "a setting of the source".into(),
            field_advice: "Name it in the settings of the source, or say there that it is nothing of the kind.".into(),
        }
    }
}

impl Wording {
    /// Wording for a system with an API key, whose cache is a setting of that key, and whose field names can be given on
    /// the command line.
    pub fn for_api_key() -> Self {
        Self::default()
            .with_access("API key")
            .with_cache_advice(
                "Set the cache expiry of the API key to 4 to 6 hours in the management system's control panel; saving the \
                 key also refreshes it.",
            )
            .with_cache_refresh("saving the API key's settings refreshes its cache at once")
            .with_field("setting {}; on the command line, --field {}=NAME")
            .with_field_advice(
                "Name it (--field out_of_school_updated=NAME or out_of_school_code=NAME), or say that it is nothing of the \
                 kind (--ignore-field NAME).",
            )
    }

    /// The last word of what gives access to the system: "key".
    pub(crate) fn key(&self) -> &str {
        self.access.rsplit(' ').next().unwrap_or_default()
    }

    /// How to give the name of this field.
    pub(crate) fn named_field(&self, name: &str) -> String {
        self.field.replace("{}", name)
    }
}
