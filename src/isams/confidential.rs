//! What one fetch sends to a tenant in confidence, and texts without it.

use std::sync::{Arc, Mutex, PoisonError};

use secrecy::{ExposeSecret, SecretString};

use super::text::{is_plain, may_be_secret};

/// Stands for what is not shown.
const HIDDEN: &str = "…";

/// Every key, secret and token that a fetch has sent so far; its attempts share them.
#[derive(Clone, Default)]
pub(super) struct Confidential(Arc<Mutex<Vec<SecretString>>>);

impl Confidential {
    /// Keeps it out of every text from now on.
    pub(super) fn keep(&self, secret: &SecretString) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.iter().all(|known| known.expose_secret() != secret.expose_secret()) {
            known.push(secret.clone());
            // One can be the beginning of another.
            known.sort_by_key(|secret| std::cmp::Reverse(secret.expose_secret().trim().len()));
        }
    }

    /// The text without them, as they are or in other case.
    pub(super) fn hidden(&self, text: &str) -> String {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let secrets = known.iter().map(|secret| secret.expose_secret().trim()).filter(|secret| !secret.is_empty());
        secrets.fold(text.to_owned(), |text, secret| without(&text, secret))
    }

    /// What a tenant says as an error can show it: on one line, not too long, and without them. They can come back shortened
    /// or encoded, so every word that may be one of them is left out.
    pub(super) fn shown(&self, text: &str) -> String {
        let plain: String = text.chars().filter(|letter| letter.is_whitespace() || is_plain(*letter)).collect();
        let line = self.hidden(&plain.split_whitespace().collect::<Vec<_>>().join(" "));
        let words = line.split(' ').map(|word| if may_be_secret(word) { HIDDEN } else { word });
        words.collect::<Vec<_>>().join(" ").chars().take(300).collect()
    }
}

fn without(text: &str, secret: &str) -> String {
    let (mut kept, mut end) = (String::new(), 0);
    // Lower case in ASCII moves nothing.
    for (at, found) in text.to_ascii_lowercase().match_indices(&secret.to_ascii_lowercase()) {
        kept.push_str(text.get(end..at).unwrap_or_default());
        kept.push_str(HIDDEN);
        end = at + found.len();
    }
    kept + text.get(end..).unwrap_or_default()
}
