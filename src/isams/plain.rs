//! The forms that nearly every item of a Batch reply has, read without a parser: in XML attributes, then children without
//! children or attributes of their own; in JSON an object of texts. Whatever has another form is left to the parsers, which cost several
//! times as much.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memmem};
use quick_xml::escape::{resolve_predefined_entity, unescape};
use quick_xml::events::BytesRef;

use super::message::{is_html, is_message};
use super::reply::Fields;

/// Reads the item at the beginning of these bytes, with the white space and comments before it: its element's name, and how
/// long it is. `None` if it has another form or is not there in whole; what `fields` hold then says nothing.
pub(super) fn xml_item<'a>(bytes: &'a [u8], fields: &mut Fields) -> Option<(&'a str, usize)> {
    let mut rest = Rest(bytes);
    fields.clear();
    rest.blanks()?;
    let name = rest.start_tag().filter(|name| !is_message(name) && !is_html(name))?;
    while let Some(attribute) = rest.attribute_name() {
        // One that stands twice is for the parser to refuse; an empty one is not among the fields.
        let is_new = fields.get().iter().all(|(known, _)| known != attribute);
        let value = rest.attribute_value().filter(|value| is_new && !value.trim().is_empty())?;
        fields.open(attribute).ok()?;
        fields.append(&value).ok()?;
        fields.close();
    }
    rest.tag_end(b">")?;
    loop {
        rest.blanks()?;
        if rest.end_tag(name).is_some() {
            return Some((name, bytes.len() - rest.0.len()));
        }
        rest.skip(b"<")?;
        let expected = rest.expected_name(fields.expected());
        let child = expected.or_else(|| rest.name()).filter(|child| !is_message(child))?;
        fields.open(child).ok()?;
        if rest.tag_end(b">").is_some() {
            while rest.end_tag(child).is_none() {
                fields.append(&rest.piece()?).ok()?;
            }
        } else {
            rest.tag_end(b"/>")?;
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

    /// White space of XML and of JSON.
    fn space(&mut self) {
        while let [b' ' | b'\n' | b'\r' | b'\t', rest @ ..] = self.0 {
            self.0 = rest;
        }
    }

    /// White space and comments up to the next tag.
    fn blanks(&mut self) -> Option<()> {
        loop {
            self.space();
            if self.comment().is_none() {
                return (self.0.first() == Some(&b'<')).then_some(());
            }
        }
    }

    /// `<!-- -->`, without another hyphen beside its ends.
    fn comment(&mut self) -> Option<()> {
        let text = self.0.strip_prefix(b"<!--").filter(|text| !text.starts_with(b"-") && !text.starts_with(b">"))?;
        let (text, rest) = split_at(text, b"--")?;
        std::str::from_utf8(text).ok()?;
        self.0 = rest.strip_prefix(b">")?;
        Some(())
    }

    /// `<Name`
    fn start_tag(&mut self) -> Option<&'a str> {
        self.skip(b"<")?;
        self.name()
    }

    /// The end of a start tag, `>` or `/>`.
    fn tag_end(&mut self, expected: &[u8]) -> Option<()> {
        let mut ahead = Rest(self.0);
        ahead.space();
        ahead.skip(expected)?;
        *self = ahead;
        Some(())
    }

    /// `</Name>`
    fn end_tag(&mut self, name: &str) -> Option<()> {
        let mut ahead = Rest(self.0.strip_prefix(b"</")?.strip_prefix(name.as_bytes())?);
        ahead.tag_end(b">")?;
        *self = ahead;
        Some(())
    }

    /// ` Name=`
    fn attribute_name(&mut self) -> Option<&'a str> {
        let mut ahead = Rest(self.0);
        ahead.space();
        let is_apart = ahead.0.len() < self.0.len();
        let name = ahead.name().filter(|_| is_apart)?;
        ahead.skip(b"=")?;
        *self = ahead;
        Some(name)
    }

    fn attribute_value(&mut self) -> Option<Cow<'a, str>> {
        let (quote, rest) = self.0.split_first().filter(|(quote, _)| matches!(quote, b'"' | b'\''))?;
        let (value, rest) = rest.split_at_checked(memchr(*quote, rest)?)?;
        self.0 = rest.get(1..)?;
        let value = std::str::from_utf8(value).ok().filter(|value| !value.contains('<'))?;
        unescape(value).ok()
    }

    /// This name, if it stands there in whole.
    fn expected_name(&mut self, name: &str) -> Option<&'a str> {
        let (found, rest) = self.0.split_at_checked(name.len())?;
        let is_whole = found == name.as_bytes() && !found.is_empty() && rest.first() == Some(&b'>');
        self.0 = if is_whole { rest } else { self.0 };
        if is_whole { std::str::from_utf8(found).ok() } else { None }
    }

    /// A name in ASCII and without a prefix.
    fn name(&mut self) -> Option<&'a str> {
        let is_of_names = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        let length = self.0.iter().position(|byte| !is_of_names(byte))?;
        let (name, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(name).ok().filter(|name| name.starts_with(|letter: char| letter.is_ascii_alphabetic()))
    }

    /// The next piece of an element's text: up to an entity or a tag, or what one entity, comment or section stands for.
    fn piece(&mut self) -> Option<Cow<'a, str>> {
        match self.0 {
            [b'&', rest @ ..] => {
                let is_of_entities = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'#';
                let (entity, rest) = rest.split_at_checked(rest.iter().position(|byte| !is_of_entities(byte))?)?;
                let entity = std::str::from_utf8(entity).ok().filter(|entity| !entity.is_empty())?;
                self.0 = rest.strip_prefix(b";")?;
                match entity.starts_with('#') {
                    true => BytesRef::new(entity).resolve_char_ref().ok()?.map(|letter| letter.to_string().into()),
                    false => resolve_predefined_entity(entity).map(Cow::from),
                }
            }
            [b'<', b'!', b'-', ..] => self.comment().map(|()| Cow::default()),
            [b'<', ..] => {
                let (text, rest) = split_at(self.0.strip_prefix(b"<![CDATA[")?, b"]]>")?;
                self.0 = rest;
                std::str::from_utf8(text).ok().map(Cow::from)
            }
            text => {
                let (text, rest) = text.split_at_checked(memchr2(b'<', b'&', text)?)?;
                self.0 = rest;
                std::str::from_utf8(text).ok().map(Cow::from)
            }
        }
    }

    /// A token of JSON, after white space.
    fn token(&mut self, expected: &[u8]) -> Option<()> {
        self.space();
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
}

/// What stands before and behind the first of these.
fn split_at<'a>(bytes: &'a [u8], end: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = memmem::find(bytes, end)?;
    Some((bytes.get(..at)?, bytes.get(at + end.len()..)?))
}
