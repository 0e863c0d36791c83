use std::collections::BTreeSet;

use secrecy::{ExposeSecret, SecretString};

use super::fields::{clipped, is_plain, printable};
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

/// What a failing server says of a deadlock or a lock time-out is worth another try.
const TRY_AGAIN: [&str; 2] = ["deadlocked", "lock request time out"];

impl Message {
    /// The message with these fields; its text can also be its own, under [`OWN_TEXT`]. None where nothing is said.
    pub(super) fn from_fields(fields: &[(String, String)]) -> Option<Self> {
        let get = |wanted: &str| {
            let field = fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            field.map(|(_, value)| value.clone())
        };
        fields.iter().any(|(_, value)| !value.trim().is_empty()).then(|| Self {
            name: get("MessageName").unwrap_or_default(),
            title: get("Title").unwrap_or_default(),
            description: get("Description").or_else(|| get(OWN_TEXT)).unwrap_or_default(),
        })
    }

    /// A message that is a text (seen of other APIs, also with status 200).
    pub(super) fn from_text(text: &str) -> Option<Self> {
        let is_said = !text.trim().is_empty();
        is_said.then(|| Self { description: text.to_owned(), ..Self::default() })
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
        } else if !matches!(status, 400 | 404)
            && TRY_AGAIN.iter().any(|text| self.description.to_lowercase().contains(text))
        {
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
        let [name, title, description] = [&self.name, &self.title, &self.description].map(|text| {
            let text =
                secrets.iter().fold(clipped(text, LONGEST_SEARCHED).to_owned(), |text, secret| without(&text, secret));
            let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
            line.chars().filter(|letter| is_plain(*letter)).take(300).collect::<String>()
        });
        let said: Vec<&str> = [&*title, &*description].into_iter().filter(|text| !text.is_empty()).collect();
        match said.is_empty() {
            true if name.is_empty() => String::new(),
            true => format!(": {}", printable(&name)),
            false => format!(": {}", said.join(": ")),
        }
    }
}

/// More than is shown of a text, and little enough to be searched.
const LONGEST_SEARCHED: usize = 4_000;

/// A secret with fewer letters and digits could be a word, and is taken out only as it is.
const SHORT: usize = 8;

/// The text without a secret, as it is or as a form encodes it. Only letters and digits are compared, without their case: a
/// GUID comes back in capitals, in braces, without dashes.
fn without(text: &str, secret: &SecretString) -> String {
    let secret = secret.expose_secret();
    let encoded: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let spellings: BTreeSet<&str> = [secret, &encoded].into_iter().filter(|secret| !secret.is_empty()).collect();
    let masked = spellings.iter().fold(text.to_owned(), |text, secret| masked(&text, secret));
    if text.chars().count() < LONGEST_SEARCHED {
        return masked;
    }
    // The text was cut off, perhaps in the middle of a secret.
    let kept = masked.chars().count().saturating_sub(encoded.len());
    masked.chars().take(kept).collect()
}

fn masked(text: &str, secret: &str) -> String {
    let text = text.replace(secret, "…");
    let wanted: Vec<char> = letters(secret).map(|(letter, ..)| letter).collect();
    if wanted.len() < SHORT {
        return text;
    }
    let found: Vec<(char, usize, usize)> = letters(&text).collect();
    let (mut masked, mut copied, mut at) = (String::new(), 0, 0);
    while let Some(place) = found.get(at..at + wanted.len()) {
        let is_secret = place.iter().map(|(letter, ..)| letter).eq(&wanted);
        if let (true, Some((_, start, _)), Some((.., end))) = (is_secret, place.first(), place.last()) {
            masked.push_str(text.get(copied..*start).unwrap_or_default());
            masked.push('…');
            copied = *end;
        }
        at += if is_secret { wanted.len() } else { 1 };
    }
    masked + text.get(copied..).unwrap_or_default()
}

/// The letters and digits of a text in lower case, each with where it begins and ends.
fn letters(text: &str) -> impl Iterator<Item = (char, usize, usize)> + '_ {
    let letters = text.char_indices().filter(|(_, letter)| letter.is_alphanumeric());
    letters.flat_map(|(at, letter)| letter.to_lowercase().map(move |lower| (lower, at, at + letter.len_utf8())))
}
