//! Batch XML, read as events: never more of a feed than one item.

use std::io::{BufRead, Read};

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::body::{Body, DEEPEST, is_padding};
use super::failure::{bad_reply, ended_early, goes_on, not_text, read_error, text_for_records, too_deep, web_page};
use super::message::{Message, OWN_TEXT, is_html, is_message, is_refusal};
use super::plain;
use super::reply::{Fields, Sink};
use super::vocabulary::is_around;
use crate::model::Cause;
use crate::source::{FetchedKind, SourceError};

/// Reads one reply. A message of the API in it, wherever it stands, is given back, whatever else there is.
pub(super) fn read(raw: impl Read, sink: &mut impl Sink) -> Result<Option<Message>, SourceError> {
    read_with(raw, sink, plain::xml_item)
}

/// Reads one reply, with this way to read an item of the plain form.
fn read_with(
    raw: impl Read,
    sink: &mut impl Sink,
    plain_item: impl for<'a> Fn(&'a str, &mut Fields) -> Option<(&'a str, usize)>,
) -> Result<Option<Message>, SourceError> {
    let mut body = Body::new(raw);
    let beginning = body.peek().map_err(|error| read_error(&error))?;
    if !beginning.is_empty() && !beginning.starts_with(b"<") {
        return Err(bad_reply("the reply is not XML; check the address"));
    }
    let progress = body.progress();
    let mut reader = Reader::from_reader(body);
    let mut buffer = Vec::new();
    let mut reading = XmlReading {
        sink,
        depth: 0,
        has_root: false,
        is_after_tag: false,
        around: 0,
        container: None,
        fields: Fields::default(),
        said_at: None,
        said: Fields::default(),
        message: None,
    };
    loop {
        // Between two items, the parser has no part of the next one.
        while reading.is_between_items() {
            let mut stream = reader.stream();
            let text = plain::beginning(stream.fill_buf().map_err(|error| read_error(&error))?);
            let mut rest = text;
            while let Some(behind) = reading.plain_item(rest, &plain_item)? {
                rest = behind;
            }
            let length = text.len() - rest.len();
            if length == 0 {
                break;
            }
            stream.consume(length);
            progress.set(0);
        }
        buffer.clear();
        let event = match reader.read_event_into(&mut buffer) {
            Ok(event) => event,
            Err(error) => return Err(xml_error(&error, reader.error_position(), reader.get_ref().is_at_end())),
        };
        reading.is_after_tag = matches!(event, Event::Start(_) | Event::End(_) | Event::Empty(_));
        match event {
            Event::Start(tag) => reading.start(&tag)?,
            Event::End(_) => reading.end()?,
            Event::Empty(tag) => {
                reading.start(&tag)?;
                reading.end()?;
            }
            Event::Text(text) => reading.text(&text)?,
            Event::CData(text) => reading.text(&text)?,
            Event::GeneralRef(entity) => {
                let character = entity.resolve_char_ref().ok().flatten().map(String::from);
                match character.as_deref().or_else(|| quick_xml::escape::resolve_predefined_entity(&entity)) {
                    Some(text) => reading.text(text)?,
                    None if reading.container.is_none() && reading.said_at.is_none() => {}
                    None => return Err(refused("an entity that XML does not define")),
                }
            }
            Event::DocType(kind)
                if kind.trim_start().get(..4).is_some_and(|name| name.eq_ignore_ascii_case("html")) =>
            {
                return Err(web_page());
            }
            Event::DocType(_) => return Err(refused("a document type declaration")),
            Event::Eof if reading.depth > 0 => return Err(ended_early()),
            Event::Eof if reading.has_root => return Ok(reading.message),
            Event::Eof => return Err(bad_reply("the reply holds no document")),
            _ => {}
        }
        progress.set(0);
    }
}

/// Where the parser stands, and what it has read of the element there.
struct XmlReading<'a, S> {
    sink: &'a mut S,
    depth: usize,
    has_root: bool,
    /// Whether the last event was a tag's.
    is_after_tag: bool,
    /// How many of the open elements, from the root on, are those around the containers.
    around: usize,
    /// The open container, and its depth.
    container: Option<(FetchedKind, usize)>,
    fields: Fields,
    /// The depth of the open message. It can stand in the middle of a record.
    said_at: Option<usize>,
    said: Fields,
    message: Option<Message>,
}

impl<S: Sink> XmlReading<'_, S> {
    /// Whether the parser stands directly in a container, after a tag.
    fn is_between_items(&self) -> bool {
        self.is_after_tag && self.said_at.is_none() && self.container.is_some_and(|(_, opened)| opened == self.depth)
    }

    /// Takes the item at the beginning of this text if it has the plain form, and returns what stands behind it.
    fn plain_item<'a>(
        &mut self,
        text: &'a str,
        read: impl Fn(&'a str, &mut Fields) -> Option<(&'a str, usize)>,
    ) -> Result<Option<&'a str>, SourceError> {
        let Some((kind, _)) = self.container else { return Ok(None) };
        let found = read(text, &mut self.fields);
        if let Some((name, _)) = found {
            self.sink.item_name(name);
            self.take_item(kind)?;
        }
        self.fields.clear();
        Ok(found.and_then(|(_, length)| text.get(length..)))
    }

    /// What is left of a record after a message is not a record.
    fn take_item(&mut self, kind: FetchedKind) -> Result<(), SourceError> {
        match self.message {
            None => self.sink.item(kind, self.fields.get()),
            Some(_) => Ok(()),
        }
    }

    fn start(&mut self, tag: &BytesStart<'_>) -> Result<(), SourceError> {
        if self.has_root && self.depth == 0 {
            return Err(goes_on());
        }
        self.has_root = true;
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(too_deep());
        }
        let name = tag.local_name();
        let name: &str = name.as_ref();
        let below = self.container.map(|(_, opened)| self.depth - opened);
        match (self.said_at, below) {
            (Some(opened), _) if self.depth == opened + 1 => self.said.open(name)?,
            (Some(_), _) => {}
            // What goes wrong after the first rows can be said among them.
            (None, None | Some(1)) if is_html(name) && (self.depth == 1 || below.is_some()) => {
                return Err(web_page());
            }
            (None, _) if is_message(name) || (below.is_none() && is_refusal(name)) => {
                self.said_at = Some(self.depth);
                self.said.clear();
                self.said.open(OWN_TEXT)?;
            }
            (None, Some(1)) => {
                self.sink.item_name(name);
                for attribute in tag.attributes() {
                    let attribute =
                        attribute.map_err(|_| refused("an attribute that is not well formed or occurs twice"))?;
                    self.fields.open(attribute.key.local_name().into_inner())?;
                    let value = quick_xml::escape::unescape(&attribute.value)
                        .map_err(|_| refused("an entity that XML does not define"))?;
                    self.fields.append(&value)?;
                    self.fields.close();
                }
            }
            (None, Some(2)) => self.fields.open(name)?,
            (None, Some(_)) => {}
            (None, None) => {
                if is_around(name) && self.depth == self.around + 1 {
                    self.around = self.depth;
                }
                self.container = self.sink.container(name).map(|kind| (kind, self.depth));
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), SourceError> {
        match (self.said_at, self.container) {
            (Some(opened), _) if self.depth == opened => {
                self.message = self.message.take().or_else(|| Message::from_fields(self.said.get()));
                self.said_at = None;
            }
            (Some(opened), _) if self.depth == opened + 1 => self.said.close(),
            (Some(_), _) => {}
            (None, Some((_, opened))) if self.depth == opened => {
                self.container = None;
                self.fields.clear();
            }
            (None, Some((kind, opened))) if self.depth == opened + 1 => {
                self.take_item(kind)?;
                self.fields.clear();
            }
            (None, Some((_, opened))) if self.depth == opened + 2 => self.fields.close(),
            // An item's grandchildren's text is its children's.
            (None, _) => {}
        }
        self.depth = self.depth.saturating_sub(1);
        self.around = self.around.min(self.depth);
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), SourceError> {
        let is_blank = text.trim().is_empty();
        match (self.said_at, self.container) {
            // A message's own text comes before its fields.
            (Some(opened), _) if self.depth > opened || self.said.get().len() == 1 => self.said.append(text),
            (Some(_), _) => Ok(()),
            (None, Some((_, opened))) if self.depth > opened + 1 => self.fields.append(text),
            (None, Some((_, opened))) if self.depth == opened && !is_blank => Err(text_for_records()),
            (None, None) if self.depth == 0 && self.has_root && !is_padding(text.as_bytes()) => Err(goes_on()),
            (None, None) if self.depth > 0 && self.depth == self.around && !is_blank => Err(text_for_records()),
            (None, _) => Ok(()),
        }
    }
}

fn xml_error(error: &quick_xml::Error, position: u64, is_at_end: bool) -> SourceError {
    use quick_xml::Error::{Encoding, IllFormed, InvalidAttr, Io, Syntax};
    let (failure, what) = match error {
        Io(error) => return read_error(error),
        Encoding(_) => (not_text(), "bytes that are not text"),
        _ if is_at_end => (ended_early(), "an end in the middle"),
        Syntax(_) => (not_well_formed(), "a tag, comment or text without an end"),
        IllFormed(_) => (not_well_formed(), "tags that do not match"),
        InvalidAttr(_) => (not_well_formed(), "an attribute that is not well formed"),
        _ => (not_well_formed(), "a mistake"),
    };
    failure.with_cause(Cause::new(format!("the XML has {what} at byte {position}")))
}

fn not_well_formed() -> SourceError {
    bad_reply("the reply is not well-formed XML")
}

fn refused(what: &str) -> SourceError {
    bad_reply(format!("the reply holds {what}, which iSAMS never sends"))
}

#[cfg(all(test, feature = "__tests"))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::isams::reply::{Everything, assert_same};

    fn part() -> impl Strategy<Value = String> {
        let texts = [
            "",
            " ",
            "1",
            "O'Neil",
            "é",
            "&amp;",
            "&",
            "&#39;",
            "&#x41;",
            "&#0;",
            "&#xD800;",
            "&nope;",
            "a&lt;b",
            "&amp",
            "&;",
            "<![CDATA[ x ]]>",
            "<![CDATA[]]>",
            "<![CDATA[a]]&amp;]]>",
            "<!-->",
            "<!--->",
            "<!-- -- -->",
            "<!--a--->",
            "<!-- - -->",
            "<?p?>",
            "]]>",
            "\r\n",
            "\u{0}",
        ];
        let names = ["Id", "PupilId", "Late", "n:Code", "Message", "html", "a_b", "1", "É", "RegistrationPeriods"];
        let (text, name) = (prop::sample::select(texts.to_vec()), prop::sample::select(names.to_vec()));
        let forms = [
            "<#>*</#>",
            "<# />",
            "<#/>",
            "<# a=\"1\">*</#>",
            "<#>*",
            "</#>",
            "*",
            "<#\n>*</# >",
            "<# >*</#\n>",
            "<#/ >",
            "<!-- a --><#>*</#>",
            "<#><b>*</b></#>",
        ];
        (prop::sample::select(forms.to_vec()), name, text)
            .prop_map(|(form, name, text)| form.replace('#', name).replace('*', text))
    }

    fn item() -> impl Strategy<Value = String> {
        let tags = [
            "<Row>",
            "<Row Id=\"1\">",
            "<Row Id=\"1\" Id=\"2\">",
            "<Row a='1' b=\"&lt;\">",
            "<Row\n Id = '1'>",
            "<Row  a=\"1\"b=\"2\">",
            "<Row Id=\"\" Id=\"1\" >",
            "<Row a='&x;'>",
            "<Message>",
            "<x:Row>",
        ];
        let ends = ["</Row>", "</Message>", "</x:Row>", " "];
        let (tag, end) = (prop::sample::select(tags.to_vec()), prop::sample::select(ends.to_vec()));
        (tag, prop::collection::vec(part(), 0..6), end).prop_map(|(tag, parts, end)| {
            let fits = end.trim_start_matches("</").trim_end_matches('>');
            let end = if tag[1..].starts_with(fits.trim()) { end } else { "</Row>" };
            format!("{tag}{}{end}", parts.concat())
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn the_plain_form_reads_as_the_parser_reads_it(
            items in prop::collection::vec(item(), 0..5),
            between in prop::sample::select(vec!["", "\n  ", "x", "<!-- -->", " <!--é-->\n", "&amp;", "<![CDATA[ ]]>"]),
            cut in 0..400_usize,
        ) {
            let document = format!(
                "<iSAMS><RegistrationStatuses>{}</RegistrationStatuses><OutOfSchoolPupils /><Other><Row/></Other></iSAMS>",
                items.join(between)
            );
            let by_parser = |bytes: &[u8], found: &mut Everything| read_with(bytes, found, |_, _| None);
            assert_same(&document, cut, |bytes, found| read(bytes, found), by_parser);
        }
    }
}
