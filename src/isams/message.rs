use secrecy::{ExposeSecret, SecretString};

use super::fields::printable;
use crate::source::{SourceError, SourceErrorKind};

/// A `<Message>` of the API (verified): what iSAMS says instead of data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) description: String,
}

/// What a failing server says of a deadlock or a lock time-out is worth another try.
const TRY_AGAIN: [&str; 2] = ["deadlocked", "lock request time out"];

impl Message {
    pub(super) fn from_fields(fields: &[(String, String)]) -> Self {
        let get = |wanted: &str| {
            let field = fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            field.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        Self { name: get("MessageName"), title: get("Title"), description: get("Description") }
    }

    /// The message as an error; the status counts where the message's name says nothing.
    pub(super) fn into_error(self, status: u16, secrets: &[SecretString]) -> SourceError {
        let said = self.quoted(secrets);
        let is = |name: &str| self.name.eq_ignore_ascii_case(name);
        if is("InvalidApiKey") || (status == 401 && !is("MethodsNotAllocatedToKeyException")) {
            SourceError::permanent(
                SourceErrorKind::Credentials,
                format!("iSAMS refuses the API key or client; check it and its limits in the control panel{said}"),
            )
        } else if is("MethodsNotAllocatedToKeyException") || status == 403 {
            SourceError::permanent(
                SourceErrorKind::NotAllowed,
                format!("the API key or client lacks a right; allocate the method to it in the control panel{said}"),
            )
        } else if TRY_AGAIN.iter().any(|text| self.description.to_lowercase().contains(text)) {
            SourceError::temporary(SourceErrorKind::Server, format!("iSAMS was too busy to answer{said}"))
        } else if matches!(status, 408 | 429 | 502..=504) {
            let kind = if status == 429 { SourceErrorKind::Throttled } else { SourceErrorKind::Server };
            SourceError::temporary(kind, format!("iSAMS can't answer now (HTTP status {status}){said}"))
        } else {
            SourceError::permanent(
                SourceErrorKind::Server,
                format!("iSAMS answered with an error (HTTP status {status}){said}"),
            )
        }
    }

    /// Its title and description on one line, without a secret.
    fn quoted(&self, secrets: &[SecretString]) -> String {
        let texts = [&self.title, &self.description].map(|text| {
            let line = secrets.iter().fold(text.clone(), |line, secret| without(&line, secret));
            let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
            line.chars().filter(|letter| !letter.is_control()).take(300).collect::<String>()
        });
        let said: Vec<&str> = texts.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
        match said.is_empty() {
            true if self.name.is_empty() => String::new(),
            true => format!(
                ": {}",
                printable(&secrets.iter().fold(self.name.clone(), |name, secret| without(&name, secret)))
            ),
            false => format!(": {}", said.join(": ")),
        }
    }
}

/// The text without a secret, as it is or as a URL or a form encodes it, in any case: GUIDs come back in capitals.
fn without(text: &str, secret: &SecretString) -> String {
    let secret = secret.expose_secret().trim().trim_matches(['{', '}']);
    let encoded: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    [secret, &encoded].into_iter().filter(|secret| !secret.is_empty()).fold(text.to_owned(), |text, secret| {
        // Only ASCII letters change, so that places in one text are places in the other.
        let (lower, wanted) = (text.to_ascii_lowercase(), secret.to_ascii_lowercase());
        let mut rest = 0;
        let mut masked = String::with_capacity(text.len());
        for (at, found) in lower.match_indices(&wanted) {
            masked.push_str(text.get(rest..at).unwrap_or_default());
            masked.push('…');
            rest = at + found.len();
        }
        masked.push_str(text.get(rest..).unwrap_or_default());
        masked
    })
}
