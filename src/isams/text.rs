//! Texts from outside: how long they may be, and what of them can be shown.

use std::collections::BTreeSet;

use super::escapes::NO_CHARACTER;

/// The longest id, letter, name and free text that makes sense, in characters. A longer id is an error: cut, it could be
/// another's. A longer letter counts as unreadable. Names and free texts are cut.
const LONGEST_ID: usize = 64;
pub(super) const LONGEST_LETTER: usize = 16;
pub(super) const LONGEST_NAME: usize = 100;
pub(super) const LONGEST_TEXT: usize = 250;

/// The beginning of a text, of at most this many characters.
pub(super) fn clipped(text: &str, longest: usize) -> &str {
    let end = text.char_indices().nth(longest).map_or(text.len(), |(end, _)| end);
    text.get(..end).unwrap_or_default()
}

pub(super) fn is_at_most(text: &str, longest: usize) -> bool {
    text.char_indices().nth(longest).is_none()
}

/// Whether a text can be an id or another short value.
pub(super) fn is_id(text: &str) -> bool {
    let is_usual = text.len() <= LONGEST_ID && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_usual
        || (is_at_most(text, LONGEST_ID)
            && !text.contains(|letter: char| letter.is_control() || letter == NO_CHARACTER))
}

/// A name from outside as an error can show it: short, and without what a terminal acts on.
pub(super) fn printable(name: &str) -> String {
    name.chars().filter(|letter| is_plain(*letter)).take(60).collect()
}

/// A name from outside that no list has, as an error or a probe can show it: only what looks like a name, since a tenant can
/// put anything there, even a credential.
pub(super) fn unknown_name(name: &str) -> &str {
    let is_of_names = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '-');
    let is_name = !name.is_empty() && is_at_most(name, 40) && name.chars().all(is_of_names) && !may_be_secret(name);
    if is_name { name } else { "(a name that is not shown)" }
}

/// Names from outside as an error can list them: sorted, each once, and not too many.
pub(super) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const MOST: usize = 40;
    let names: BTreeSet<&str> = names.map(unknown_name).collect();
    let mut listed: Vec<String> = names.iter().take(MOST).map(|name| (*name).to_owned()).collect();
    match names.len() {
        0 => "none".to_owned(),
        count if count > MOST => {
            listed.push(format!("and {} more", count - MOST));
            listed.join(", ")
        }
        _ => listed.join(", "),
    }
}

/// Whether a letter only shows: no control character, and none that breaks a line, turns the direction or takes no room.
pub(super) fn is_plain(letter: char) -> bool {
    !letter.is_control()
        && letter != NO_CHARACTER
        && !matches!(
            letter,
            '\u{00AD}' | '\u{061C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
                | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{E0000}'..='\u{E007F}'
        )
}

/// Keys, tokens and secrets are long and hold digits.
pub(super) fn may_be_secret(word: &str) -> bool {
    word.chars().count() >= 16 && word.contains(char::is_numeric)
}
