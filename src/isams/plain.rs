//! The forms that nearly every item of a Batch reply has, read without a parser: in XML attributes, then children without
//! children or attributes of their own; in JSON an object of texts. Whatever has another form is left to the parsers, which
//! cost several times as much.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memmem};
use quick_xml::escape::{resolve_predefined_entity, unescape};
use quick_xml::events::BytesRef;

use super::message::{is_html, is_message};
use super::reply::Fields;

/// How many bytes are checked to be text at a time: dozens of items, and little where a parser has to read one in between.
const CHECKED: usize = 16 << 10;

/// The text at the beginning of these bytes: not all of it, and nothing that comes after what is not text.
pub(super) fn beginning(bytes: &[u8]) -> &str {
    let bytes = bytes.get(..CHECKED).unwrap_or(bytes);
    std::str::from_utf8(bytes).unwrap_or_else(|_| bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid()))
}

/// Reads the item at the beginning of this text, with the white space and comments before it: its element's name, and how
/// long it is. `None` if it has another form or is not there in whole; what `fields` hold then says nothing.
pub(super) fn xml_item<'a>(text: &'a str, fields: &mut Fields) -> Option<(&'a str, usize)> {
    let mut rest = Rest(text);
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
    rest.tag_end(">")?;
    loop {
        rest.blanks()?;
        if rest.end_tag(name).is_some() {
            return Some((name, text.len() - rest.0.len()));
        }
        rest.skip("<")?;
        let expected = rest.expected_name(fields.expected());
        let child = expected.or_else(|| rest.name()).filter(|child| !is_message(child))?;
        match expected {
            Some(_) => fields.open_expected(),
            None => fields.open(child),
        }
        .ok()?;
        if rest.tag_end(">").is_some() {
            while rest.end_tag(child).is_none() {
                fields.append(&rest.piece()?).ok()?;
            }
        } else {
            rest.tag_end("/>")?;
        }
        fields.close();
    }
}

/// More keys than a plain object has; each is compared with those before it.
const MOST_KEYS: usize = 32;

/// Reads the item at the beginning of this rest of an array, after a comma, and says how long both are. `None` if it has
/// another form or is not there in whole; what `fields` hold then says nothing.
pub(super) fn json_item(text: &str, fields: &mut Fields) -> Option<usize> {
    let mut rest = Rest(text);
    let mut keys: [&str; MOST_KEYS] = [""; MOST_KEYS];
    fields.clear();
    rest.token(",")?;
    rest.token("{")?;
    for count in 0..MOST_KEYS {
        let key = rest.json_text().filter(|key| !is_message(key))?;
        let name = key.trim_start_matches('@');
        // One that stands twice is for the parser to refuse.
        let (before, others) = keys.split_at_mut_checked(count)?;
        if before.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            return None;
        }
        *others.first_mut()? = name;
        rest.token(":")?;
        fields.open(name).ok()?;
        if rest.token("null").is_none() {
            fields.append(rest.json_text()?).ok()?;
        }
        fields.close();
        if rest.token("}").is_some() {
            return Some(text.len() - rest.0.len());
        }
        rest.token(",")?;
    }
    None
}

/// What is still to be read.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn skip(&mut self, expected: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(expected)?;
        Some(())
    }

    /// What comes before this place, which is then skipped.
    fn take(&mut self, place: usize) -> Option<&'a str> {
        let (taken, rest) = self.0.split_at_checked(place)?;
        self.0 = rest;
        Some(taken)
    }

    /// What comes before this end; both are then skipped.
    fn take_until(&mut self, end: &str) -> Option<&'a str> {
        let taken = self.take(memmem::find(self.0.as_bytes(), end.as_bytes())?)?;
        self.skip(end)?;
        Some(taken)
    }

    /// White space of XML and of JSON.
    fn space(&mut self) {
        self.0 = self.0.trim_start_matches(BLANKS);
    }

    /// White space and comments up to the next tag.
    fn blanks(&mut self) -> Option<()> {
        loop {
            self.space();
            if self.comment().is_none() {
                return self.0.starts_with('<').then_some(());
            }
        }
    }

    /// `<!-- -->`, without another hyphen beside its ends.
    fn comment(&mut self) -> Option<()> {
        let mut ahead = Rest(self.0.strip_prefix("<!--")?);
        if ahead.0.starts_with(['-', '>']) {
            return None;
        }
        ahead.take_until("--")?;
        ahead.skip(">")?;
        *self = ahead;
        Some(())
    }

    /// `<Name`
    fn start_tag(&mut self) -> Option<&'a str> {
        self.skip("<")?;
        self.name()
    }

    /// The end of a start tag, `>` or `/>`.
    fn tag_end(&mut self, expected: &str) -> Option<()> {
        let mut ahead = Rest(self.0);
        ahead.space();
        ahead.skip(expected)?;
        *self = ahead;
        Some(())
    }

    /// `</Name>`
    fn end_tag(&mut self, name: &str) -> Option<()> {
        let mut ahead = Rest(self.0.strip_prefix("</")?.strip_prefix(name)?);
        ahead.tag_end(">")?;
        *self = ahead;
        Some(())
    }

    /// ` Name=`
    fn attribute_name(&mut self) -> Option<&'a str> {
        let mut ahead = Rest(self.0);
        ahead.space();
        let has_space = ahead.0.len() < self.0.len();
        let name = ahead.name().filter(|_| has_space)?;
        ahead.skip("=")?;
        *self = ahead;
        Some(name)
    }

    fn attribute_value(&mut self) -> Option<Cow<'a, str>> {
        let quote = self.0.bytes().next().filter(|quote| matches!(quote, b'"' | b'\''))?;
        self.take(1)?;
        let value = self.take(memchr(quote, self.0.as_bytes())?)?;
        self.take(1)?;
        unescape(value).ok().filter(|_| !value.contains('<'))
    }

    /// This name, if it stands there in whole.
    fn expected_name(&mut self, name: &str) -> Option<&'a str> {
        let (found, rest) = self.0.split_at_checked(name.len()).filter(|(found, _)| *found == name)?;
        if found.is_empty() || !rest.starts_with('>') {
            return None;
        }
        self.0 = rest;
        Some(found)
    }

    /// A name in ASCII and without a prefix.
    fn name(&mut self) -> Option<&'a str> {
        let is_of_names = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        let name = self.take(self.0.bytes().position(|byte| !is_of_names(byte))?)?;
        Some(name).filter(|name| name.starts_with(|letter: char| letter.is_ascii_alphabetic()))
    }

    /// The next piece of an element's text: up to an entity or a tag, or what one entity, comment or section stands for.
    fn piece(&mut self) -> Option<Cow<'a, str>> {
        match self.0.as_bytes() {
            [b'&', ..] => {
                self.take(1)?;
                let is_of_entities = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'#';
                let entity = self.take(self.0.bytes().position(|byte| !is_of_entities(byte))?)?;
                self.skip(";")?;
                match entity.starts_with('#') {
                    true => BytesRef::new(entity).resolve_char_ref().ok()?.map(|letter| letter.to_string().into()),
                    false => resolve_predefined_entity(entity).map(Cow::from),
                }
            }
            [b'<', b'!', b'-', ..] => self.comment().map(|()| Cow::default()),
            [b'<', ..] => {
                self.skip("<![CDATA[")?;
                self.take_until("]]>").map(Cow::from)
            }
            text => self.take(memchr2(b'<', b'&', text)?).map(Cow::from),
        }
    }

    /// A token of JSON, after white space.
    fn token(&mut self, expected: &str) -> Option<()> {
        self.space();
        self.skip(expected)
    }

    /// A text of JSON without an escape, after white space.
    fn json_text(&mut self) -> Option<&'a str> {
        self.token("\"")?;
        let text = self.take(memchr2(b'"', b'\\', self.0.as_bytes())?)?;
        self.skip("\"")?;
        // JSON holds no control character as it is.
        Some(text).filter(|text| text.bytes().all(|byte| byte >= b' '))
    }
}

/// White space of XML and of JSON.
const BLANKS: [char; 4] = [' ', '\n', '\r', '\t'];
