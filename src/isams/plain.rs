//! The forms that nearly every item of a Batch reply has, read without a parser: in XML attributes, then children that hold
//! nothing but plain text; in JSON an object of texts. Whatever has another form is left to the parsers, which cost several
//! times as much.

use memchr::{memchr, memchr2};

use super::message::{is_html, is_message};
use super::reply::Fields;

/// Reads the item at the beginning of these bytes, with the white space before it: its element's name, and how long it is.
/// `None` if it has another form or is not there in whole; what `fields` hold then says nothing.
pub(super) fn item<'a>(bytes: &'a [u8], fields: &mut Fields) -> Option<(&'a str, usize)> {
    let mut rest = Rest(bytes.trim_ascii_start());
    fields.clear();
    let name = rest.start_tag().filter(|name| !is_message(name) && !is_html(name))?;
    while let Some((attribute, value)) = rest.attribute() {
        // One that stands twice is for the parser to refuse.
        let is_new = fields.get().iter().all(|(known, _)| known != attribute);
        fields.open(attribute).ok().filter(|()| is_new)?;
        fields.append(value).ok()?;
        fields.close();
    }
    rest.skip(b">")?;
    loop {
        rest.text()?;
        if rest.end_tag(name).is_some() {
            return Some((name, bytes.len() - rest.0.len()));
        }
        let child = rest.start_tag().filter(|child| !is_message(child))?;
        fields.open(child).ok()?;
        if rest.skip(b">").is_some() {
            fields.append(rest.text()?).ok()?;
            rest.end_tag(child)?;
        } else {
            rest.skip(b"/>").or_else(|| rest.skip(b" />"))?;
        }
        fields.close();
    }
}

/// More keys than a plain object has; each is compared with those before it.
const MOST_KEYS: usize = 32;

/// Reads the item at the beginning of this rest of an array, after a comma, and says how long both are. `None` if it has
/// another form or is not there in whole; what `fields` hold then says nothing.
pub(super) fn json_item(bytes: &[u8], fields: &mut Fields) -> Option<usize> {
    let mut rest = Rest(bytes);
    let mut keys: [&str; MOST_KEYS] = [""; MOST_KEYS];
    fields.clear();
    rest.token(b",")?;
    rest.token(b"{")?;
    for count in 0..MOST_KEYS {
        let key = rest.json_text().filter(|key| !is_message(key))?;
        let name = key.trim_start_matches('@');
        // One that stands twice is for the parser to refuse.
        let (before, others) = keys.split_at_mut_checked(count)?;
        if before.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            return None;
        }
        *others.first_mut()? = name;
        rest.token(b":")?;
        fields.open(name).ok()?;
        if rest.token(b"null").is_none() {
            fields.append(rest.json_text()?).ok()?;
        }
        fields.close();
        if rest.token(b"}").is_some() {
            return Some(bytes.len() - rest.0.len());
        }
        rest.token(b",")?;
    }
    None
}

/// What is still to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn skip(&mut self, expected: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(expected)?;
        Some(())
    }

    /// `<Name`
    fn start_tag(&mut self) -> Option<&'a str> {
        self.skip(b"<")?;
        self.name()
    }

    /// `</Name>`
    fn end_tag(&mut self, name: &str) -> Option<()> {
        let rest = self.0.strip_prefix(b"</")?.strip_prefix(name.as_bytes())?.strip_prefix(b">")?;
        self.0 = rest;
        Some(())
    }

    /// ` Name="value"`
    fn attribute(&mut self) -> Option<(&'a str, &'a str)> {
        let mut ahead = Rest(self.0.strip_prefix(b" ")?);
        let name = ahead.name()?;
        ahead.skip(b"=\"")?;
        let (value, rest) = ahead.0.split_at_checked(memchr(b'"', ahead.0)?)?;
        if memchr2(b'<', b'&', value).is_some() {
            return None;
        }
        let value = std::str::from_utf8(value).ok()?;
        self.0 = rest.strip_prefix(b"\"")?;
        Some((name, value))
    }

    /// A name in ASCII and without a prefix.
    fn name(&mut self) -> Option<&'a str> {
        let is_of_names = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        let length = self.0.iter().position(|byte| !is_of_names(byte))?;
        let (name, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(name).ok().filter(|name| name.starts_with(|letter: char| letter.is_ascii_alphabetic()))
    }

    /// A token of JSON, after white space.
    fn token(&mut self, expected: &[u8]) -> Option<()> {
        while let [b' ' | b'\n' | b'\r' | b'\t', rest @ ..] = self.0 {
            self.0 = rest;
        }
        self.skip(expected)
    }

    /// A text of JSON without an escape, after white space.
    fn json_text(&mut self) -> Option<&'a str> {
        self.token(b"\"")?;
        let (text, rest) = self.0.split_at_checked(memchr2(b'"', b'\\', self.0)?)?;
        self.0 = rest;
        self.skip(b"\"")?;
        // JSON holds no control character as it is.
        std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte >= b' '))
    }

    /// The text up to the next tag, if it is plain.
    fn text(&mut self) -> Option<&'a str> {
        let (text, rest) = self.0.split_at_checked(memchr2(b'<', b'&', self.0)?)?;
        self.0 = rest;
        std::str::from_utf8(text).ok().filter(|_| rest.first() == Some(&b'<'))
    }
}
