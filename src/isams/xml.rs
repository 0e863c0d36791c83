//! Batch XML, read as events: never more of a feed than one item.

use std::io::Read;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::body::{
    Body, DEEPEST, ended_early, goes_on, is_padding, not_text, read_error, text_for_records, too_large, web_page,
};
use super::message::Message;
use super::reply::{Fields, Sink};
use crate::source::{FetchedKind, SourceError, SourceErrorKind};

/// Where the parser stands.
enum Place {
    Outside,
    /// In a container (or in a message) that opened at this depth.
    In(Option<FetchedKind>, usize),
}

/// Reads one reply. A message of the API in it is given back, whatever else there is.
pub(super) fn read(raw: impl Read, sink: &mut impl Sink) -> Result<Option<Message>, SourceError> {
    let mut body = Body::new(raw);
    let beginning = body.peek().map_err(|error| read_error(&error))?;
    if !beginning.is_empty() && !beginning.starts_with(b"<") {
        return Err(SourceError::permanent(SourceErrorKind::BadReply, "the reply is not XML; check the address"));
    }
    let progress = body.progress();
    let mut reader = Reader::from_reader(body);
    reader.config_mut().expand_empty_elements = true;
    let mut buffer = Vec::new();
    let mut fields = Fields::default();
    let mut depth = 0_usize;
    let mut place = Place::Outside;
    let mut message = None;
    let mut has_root = false;
    loop {
        buffer.clear();
        let event = match reader.read_event_into(&mut buffer) {
            Ok(event) => event,
            Err(error) => return Err(xml_error(&error, reader.get_ref().is_at_end())),
        };
        match event {
            Event::Start(_) if has_root && depth == 0 => return Err(goes_on()),
            Event::Start(tag) => {
                has_root = true;
                depth += 1;
                if depth > DEEPEST {
                    return Err(too_large("elements that nest too deep"));
                }
                start(&tag, depth, &mut place, &mut fields, sink)?;
            }
            Event::End(_) => {
                match place {
                    Place::In(kind, opened) if depth == opened => {
                        if kind.is_none() {
                            message = Some(Message::from_fields(fields.get()));
                        }
                        fields.clear();
                        place = Place::Outside;
                    }
                    Place::In(Some(kind), opened) if depth == opened + 1 => {
                        sink.item(kind, fields.get())?;
                        fields.clear();
                    }
                    // A message's children are fields; an item's grandchildren's text is its children's.
                    Place::In(None, opened) if depth == opened + 1 => fields.close(),
                    Place::In(Some(_), opened) if depth == opened + 2 => fields.close(),
                    _ => {}
                }
                depth = depth.saturating_sub(1);
            }
            Event::Text(text) if is_in_field(&place, depth) => fields.append(&text)?,
            Event::CData(text) if is_in_field(&place, depth) => fields.append(&text)?,
            Event::Text(text) if has_root && depth == 0 && !is_padding(text.as_bytes()) => return Err(goes_on()),
            Event::Text(text) if !text.trim().is_empty() && is_between_items(&place, depth) => {
                return Err(text_for_records());
            }
            Event::CData(text) if !text.trim().is_empty() && is_between_items(&place, depth) => {
                return Err(text_for_records());
            }
            Event::GeneralRef(entity) if is_in_field(&place, depth) => {
                let character = entity.resolve_char_ref().ok().flatten().map(String::from);
                match character.as_deref().or_else(|| quick_xml::escape::resolve_predefined_entity(&entity)) {
                    Some(text) => fields.append(text)?,
                    None => return Err(refused("an entity that XML does not define")),
                }
            }
            Event::DocType(kind)
                if kind.trim_start().get(..4).is_some_and(|name| name.eq_ignore_ascii_case("html")) =>
            {
                return Err(web_page());
            }
            Event::DocType(_) => return Err(refused("a document type declaration")),
            Event::Eof if depth > 0 => return Err(ended_early()),
            Event::Eof if has_root => return Ok(message),
            Event::Eof => return Err(SourceError::permanent(SourceErrorKind::BadReply, "the reply holds no document")),
            _ => {}
        }
        progress.set(0);
    }
}

fn is_between_items(place: &Place, depth: usize) -> bool {
    matches!(place, Place::In(Some(_), opened) if depth == *opened)
}

fn is_in_field(place: &Place, depth: usize) -> bool {
    match place {
        Place::Outside => false,
        Place::In(None, opened) => depth > *opened,
        Place::In(Some(_), opened) => depth > *opened + 1,
    }
}

fn start(
    tag: &BytesStart<'_>,
    depth: usize,
    place: &mut Place,
    fields: &mut Fields,
    sink: &mut impl Sink,
) -> Result<(), SourceError> {
    let name = tag.local_name();
    let name: &str = name.as_ref();
    if depth == 1 && name.eq_ignore_ascii_case("html") {
        return Err(web_page());
    }
    match *place {
        Place::Outside => {
            if let Some(kind) = sink.container(name) {
                *place = Place::In(Some(kind), depth);
            } else if name.eq_ignore_ascii_case("Message") {
                *place = Place::In(None, depth);
            }
        }
        // What goes wrong after the first rows can be said in their midst.
        Place::In(Some(_), opened) if depth == opened + 1 && name.eq_ignore_ascii_case("html") => {
            return Err(web_page());
        }
        Place::In(Some(_), opened) if depth == opened + 1 && name.eq_ignore_ascii_case("Message") => {
            *place = Place::In(None, depth);
        }
        Place::In(Some(_), opened) if depth == opened + 1 => {
            sink.item_name(name);
            for attribute in tag.attributes().with_checks(false) {
                let attribute = attribute.map_err(|_| refused("an attribute that is not well formed"))?;
                fields.open(attribute.key.local_name().into_inner())?;
                let value = quick_xml::escape::unescape(&attribute.value)
                    .map_err(|_| refused("an entity that XML does not define"))?;
                fields.append(&value)?;
                fields.close();
            }
        }
        Place::In(Some(_), opened) if depth == opened + 2 => fields.open(name)?,
        Place::In(None, opened) if depth == opened + 1 => fields.open(name)?,
        Place::In(..) => {}
    }
    Ok(())
}

fn xml_error(error: &quick_xml::Error, is_at_end: bool) -> SourceError {
    match error {
        quick_xml::Error::Io(error) => read_error(error),
        quick_xml::Error::Encoding(_) => not_text(),
        _ if is_at_end => ended_early(),
        _ => SourceError::permanent(SourceErrorKind::BadReply, "the reply is not well-formed XML"),
    }
}

fn refused(what: &str) -> SourceError {
    SourceError::permanent(SourceErrorKind::BadReply, format!("the reply holds {what}, which iSAMS never sends"))
}
