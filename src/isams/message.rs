use super::confidential::Confidential;
use super::failure::cannot_answer_now;
use crate::source::{SourceError, SourceErrorKind};

/// A `<Message>` of the API (verified): what iSAMS says instead of data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) description: String,
}

/// The name under which a text of an element's own is one of its fields.
pub(super) const OWN_TEXT: &str = "#text";

/// Whether an element or a key is a message, wherever it stands.
pub(super) fn is_message(name: &str) -> bool {
    name.eq_ignore_ascii_case("Message")
}

/// Whether an element begins a web page.
pub(super) fn is_html(name: &str) -> bool {
    name.eq_ignore_ascii_case("html")
}

/// Whether an element or a key outside of records says what went wrong, in words other than iSAMS's own.
pub(super) fn is_refusal(name: &str) -> bool {
    is_message(name) || ["Error", "Errors"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// What a failing server says of a deadlock or a lock time-out is worth another try.
const TRY_AGAIN: [&str; 2] = ["deadlocked", "lock request time out"];

impl Message {
    /// The message with these fields; its text can also be its own, under [`OWN_TEXT`]. `None` if nothing is said.
    pub(super) fn from_fields(fields: &[(String, String)]) -> Option<Self> {
        let get = |wanted: &str| {
            let field = fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            field.map(|(_, value)| value.clone())
        };
        fields.iter().any(|(_, value)| !value.trim().is_empty()).then(|| Self {
            name: get("MessageName").unwrap_or_default(),
            title: get("Title").unwrap_or_default(),
            description: ["Description", "Message", OWN_TEXT].into_iter().find_map(get).unwrap_or_default(),
        })
    }

    /// A message that is a text (seen of other APIs, also with status 200).
    pub(super) fn from_text(text: &str) -> Option<Self> {
        let is_said = !text.trim().is_empty();
        is_said.then(|| Self { description: text.to_owned(), ..Self::default() })
    }

    /// The message as an error; the status counts where the message's name says nothing.
    pub(super) fn into_error(self, status: u16, confidential: &Confidential) -> SourceError {
        let said = self.quoted(confidential);
        let is = |name: &str| self.name.eq_ignore_ascii_case(name);
        let meant = match status {
            _ if is("InvalidApiKey") => 401,
            _ if is("MethodsNotAllocatedToKeyException") => 403,
            _ => status,
        };
        let description = self.description.to_lowercase();
        match meant {
            401 => SourceError::new(
                SourceErrorKind::Credentials,
                format!("iSAMS refuses the API key or client; check it and its limits in the control panel{said}"),
            ),
            403 => SourceError::new(
                SourceErrorKind::NotAllowed,
                format!("the API key or client lacks a right; allocate the method to it in the control panel{said}"),
            ),
            _ if !matches!(status, 400 | 404) && TRY_AGAIN.iter().any(|text| description.contains(text)) => {
                SourceError::temporary(SourceErrorKind::Server, format!("iSAMS was too busy to answer{said}"))
            }
            _ => cannot_answer_now(status, "", &said).unwrap_or_else(|| {
                let message = format!("iSAMS answered with an error (HTTP status {status}){said}");
                SourceError::new(SourceErrorKind::Server, message)
            }),
        }
    }

    /// Its title and description on one line, without a secret.
    fn quoted(&self, confidential: &Confidential) -> String {
        let [name, title, description] =
            [&self.name, &self.title, &self.description].map(|text| confidential.shown(text));
        let said: Vec<&str> = [&*title, &*description].into_iter().filter(|text| !text.is_empty()).collect();
        match said.is_empty() {
            true if name.is_empty() => String::new(),
            true => format!(": {name}"),
            false => format!(": {}", said.join(": ")),
        }
    }
}
