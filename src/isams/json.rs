//! Batch JSON, read as a stream: never more of a feed than one item.
//!
//! Its quirks are verified: attributes are `@Name`, every scalar is a string, one child is an object and several are an
//! array, an empty container is null, missing or an empty string, and a text beside attributes is `#text`.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, Read};
use std::rc::Rc;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::body::{Body, is_padding};
use super::escapes::Escapes;
use super::failure::{
    bad_reply, goes_on, json_error_at, name_twice, other_json, read_error, text_for_records, too_large,
};
use super::message::{Message, is_message, is_refusal};
use super::plain;
use super::reply::{Fields, MOST_FIELDS, Nothing, Sink};
use super::vocabulary::is_around;
use super::xml;
use crate::source::{FetchedKind, SourceError};

/// Reads one reply. A message of the API in it is given back, whatever else there is.
pub(super) fn read(raw: impl Read, sink: &mut impl Sink) -> Result<Option<Message>, SourceError> {
    read_with(raw, sink, plain::json_item)
}

/// Reads one reply, with this way to read an item of the plain form.
fn read_with(
    raw: impl Read,
    sink: &mut impl Sink,
    plain_item: impl Fn(&str, &mut Fields) -> Option<usize>,
) -> Result<Option<Message>, SourceError> {
    let mut body = Body::new(raw);
    let beginning = body.peek().map_err(|error| read_error(&error))?;
    // Errors can come as XML all the same, and web pages look like it.
    if beginning.starts_with(b"<") {
        return match xml::read(body, &mut Nothing)? {
            Some(message) => Ok(Some(message)),
            None => Err(bad_reply("the reply is XML where JSON was asked for")),
        };
    }
    let reading = RefCell::new(JsonReading {
        sink,
        progress: body.progress(),
        fields: Fields::default(),
        keys: Vec::new(),
        hasher: RandomState::new(),
        said: Fields::default(),
        failed: None,
        message: None,
        is_isams: false,
        has_container: false,
        has_other_text: false,
    });
    let between = Cell::new(None);
    let json = Items { json: Escapes::new(&mut body), plain_item, reading: &reading, between: &between, last: None };
    let mut deserializer = serde_json::Deserializer::from_reader(json);
    let walked = Place { reading: &reading, between: &between, at: At::Outside }.deserialize(&mut deserializer);
    drop(deserializer);
    let reading = reading.into_inner();
    let (is_isams, message) = (reading.is_isams, reading.message);
    // Empty containers can be left out (verified), but then nothing stands in their place.
    let is_other = reading.has_other_text && !reading.has_container && message.is_none();
    if let Some(error) = reading.failed {
        return message.map_or(Err(error), |message| Ok(Some(message)));
    }
    match walked {
        Ok(()) if is_isams && is_other => Err(text_for_records()),
        Ok(()) if is_isams || message.is_some() => loop {
            let rest = body.fill_buf().map_err(|error| read_error(&error))?;
            match (rest.len(), is_padding(rest)) {
                (0, _) => return Ok(message),
                (length, true) => body.consume(length),
                (_, false) => return Err(goes_on()),
            }
        },
        Ok(()) => Err(other_json()),
        Err(error) if error.is_io() => Err(read_error(&error.into())),
        Err(error) => Err(json_error_at(&error, body.position())),
    }
}

/// The JSON as its parser gets it: without items of the plain form, which are read here.
struct Items<'r, 'a, R, S, P> {
    json: Escapes<R>,
    plain_item: P,
    reading: &'r RefCell<JsonReading<'a, S>>,
    between: &'r Cell<Option<FetchedKind>>,
    /// The last byte that the parser was given, but for white space.
    last: Option<u8>,
}

impl<R: BufRead, S: Sink, P: Fn(&str, &mut Fields) -> Option<usize>> Read for Items<'_, '_, R, S, P> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // After anything but an object, the parser may have the comma already.
        if let Some(kind) = self.between.get()
            && self.last == Some(b'}')
        {
            let mut reading = self.reading.borrow_mut();
            while let Some(bytes) = self.json.unread()? {
                let text = plain::beginning(bytes);
                let mut rest = text;
                while let Some(length) = (self.plain_item)(rest, &mut reading.fields) {
                    rest = rest.get(length..).unwrap_or_default();
                    if let Err(error) = reading.end_item(kind) {
                        reading.failed = Some(error);
                        return Err(io::Error::other("refused"));
                    }
                }
                let length = text.len() - rest.len();
                if length == 0 {
                    break;
                }
                self.json.skip(length);
                reading.progress.set(0);
            }
            reading.fields.clear();
        }
        let length = self.json.read(buffer)?;
        self.last = buffer.get(..length).and_then(|given| given.trim_ascii().last()).copied().or(self.last);
        Ok(length)
    }
}

struct JsonReading<'a, S> {
    sink: &'a mut S,
    progress: Rc<Cell<usize>>,
    fields: Fields,
    /// The keys of the open objects so far, as hashes.
    keys: Vec<u64>,
    hasher: RandomState,
    /// The fields of a message, which can stand in the middle of a record.
    said: Fields,
    failed: Option<SourceError>,
    message: Option<Message>,
    is_isams: bool,
    /// A container, or an empty element around all of them.
    has_container: bool,
    /// A text beside the containers, or in their place.
    has_other_text: bool,
}

impl<S: Sink> JsonReading<'_, S> {
    /// Takes a key of an object whose first key is this. One that comes twice has two values, and nothing says which
    /// counts; several elements of one name are an array. Names are found in any case, and in containers and records
    /// attributes count like elements.
    fn take_key(&mut self, key: &str, at: At, first_key: usize) -> Result<(), SourceError> {
        let name = match at {
            At::Container(_) | At::Items(_) | At::Item(_) | At::Field => key.trim_start_matches('@'),
            _ => key,
        };
        let hash = self.hasher.hash_one(name.to_ascii_lowercase());
        let keys = self.keys.get(first_key..).unwrap_or_default();
        if keys.len() >= MOST_FIELDS {
            return Err(too_large("an object with hundreds of fields"));
        }
        if keys.contains(&hash) {
            return Err(name_twice(key));
        }
        self.keys.push(hash);
        Ok(())
    }

    /// The item's fields are read. What is left of a record after a message is not a record.
    fn end_item(&mut self, kind: FetchedKind) -> Result<(), SourceError> {
        let taken = match self.message {
            None => self.sink.item(kind, self.fields.get()),
            Some(_) => Ok(()),
        };
        self.fields.clear();
        taken
    }

    /// Our own error, kept beside the parser's, which only carries a text.
    fn check<T, E: Error>(&mut self, result: Result<T, SourceError>) -> Result<T, E> {
        result.map_err(|error| {
            self.failed = Some(error);
            E::custom("refused")
        })
    }
}

/// Where in the document a value stands.
#[derive(Clone, Copy)]
enum At {
    Outside,
    /// The value of a key around the containers.
    Around,
    /// The value of a container's key.
    Container(FetchedKind),
    /// One item, or an array of them.
    Items(FetchedKind),
    /// One item of an array.
    Item(FetchedKind),
    /// The value of a message's key.
    Message,
    /// The value of one of a message's fields.
    Said,
    /// The value of one field.
    Field,
    /// Text where only records should be.
    Text,
}

struct Place<'r, 'a, S> {
    reading: &'r RefCell<JsonReading<'a, S>>,
    /// The kind of an array's items, while the parser stands behind one of them.
    between: &'r Cell<Option<FetchedKind>>,
    at: At,
}

impl<'de, S: Sink> DeserializeSeed<'de> for Place<'_, '_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.between.set(None);
        deserializer.deserialize_any(self)
    }
}

impl<'de, S: Sink> Visitor<'de> for Place<'_, '_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a part of a reply")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { reading: shared, between, at } = self;
        let first_key = shared.borrow().keys.len();
        while let Some(key) = map.next_key::<String>()? {
            let mut reading = shared.borrow_mut();
            reading.progress.set(0);
            let taken = reading.take_key(&key, at, first_key);
            reading.check(taken)?;
            let place = match at {
                At::Outside | At::Around => match reading.sink.container(&key) {
                    Some(kind) => {
                        reading.has_container = true;
                        Some(At::Container(kind))
                    }
                    None if matches!((at, &*key), (At::Around, "#text" | "#cdata-section")) => Some(At::Text),
                    None if key.starts_with('@') => None,
                    None if is_refusal(&key) => Some(At::Message),
                    None if is_around(&key) => Some(At::Around),
                    None => Some(At::Outside),
                },
                At::Container(_) | At::Items(_) | At::Item(_) | At::Field if is_message(&key) => Some(At::Message),
                // Text between the items, and what converters make of comments, is not one of them.
                At::Container(_) if matches!(&*key, "#text" | "#cdata-section") => Some(At::Text),
                At::Container(kind) if !key.starts_with(['@', '#']) => {
                    reading.sink.item_name(&key);
                    Some(At::Items(kind))
                }
                At::Items(_) | At::Item(_) => {
                    let opened = reading.fields.open(key.trim_start_matches('@'));
                    reading.check(opened)?;
                    Some(At::Field)
                }
                At::Message => {
                    let opened = reading.said.open(&key);
                    reading.check(opened)?;
                    Some(At::Said)
                }
                // The text beside attributes, or below further elements, is the field's.
                At::Field | At::Said if !key.starts_with('@') => Some(at),
                At::Container(_) | At::Field | At::Said | At::Text => None,
            };
            let Some(place) = place else {
                drop(reading);
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            reading.is_isams |= matches!(at, At::Outside) && key.eq_ignore_ascii_case("iSAMS");
            let is_manager = matches!((at, place), (At::Around, At::Around));
            let had_other_text = is_manager && std::mem::take(&mut reading.has_other_text);
            drop(reading);
            map.next_value_seed(Place { reading: shared, between, at: place })?;
            let mut reading = shared.borrow_mut();
            match (at, place) {
                // One in which nothing stands says that every container is empty.
                _ if is_manager => {
                    reading.has_container |= !reading.has_other_text;
                    reading.has_other_text |= had_other_text;
                }
                (At::Items(_) | At::Item(_), At::Field) => reading.fields.close(),
                (At::Message, _) => reading.said.close(),
                _ => {}
            }
        }
        let reading = &mut *shared.borrow_mut();
        reading.keys.truncate(first_key);
        match at {
            At::Items(kind) | At::Item(kind) => {
                let taken = reading.end_item(kind);
                reading.check(taken)
            }
            At::Message => {
                reading.message = reading.message.take().or_else(|| Message::from_fields(reading.said.get()));
                reading.said.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let Self { reading: shared, between, at } = self;
        let at = match at {
            // An array straight in a container can only be its items.
            At::Container(kind) | At::Items(kind) => At::Item(kind),
            at => at,
        };
        while elements.next_element_seed(Place { reading: shared, between, at })?.is_some() {
            // Several elements of one name are several fields.
            let mut reading = shared.borrow_mut();
            let opened = match at {
                At::Field => reading.fields.open_again(),
                At::Said => reading.said.open_again(),
                _ => Ok(()),
            };
            reading.check(opened)?;
            between.set(if let At::Item(kind) = at { Some(kind) } else { None });
        }
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let (reading, at) = (&mut *self.reading.borrow_mut(), self.at);
        reading.progress.set(0);
        let is_blank = text.trim().is_empty();
        let taken = match at {
            At::Field => reading.fields.append(text),
            At::Said => reading.said.append(text),
            At::Message => {
                reading.message = reading.message.take().or_else(|| Message::from_text(text));
                Ok(())
            }
            // An item without fields: which one is missing is for the sink to say.
            At::Item(kind) => reading.end_item(kind),
            At::Items(kind) if !is_blank => reading.end_item(kind),
            At::Around | At::Container(_) | At::Text if !is_blank => Err(text_for_records()),
            At::Outside => {
                reading.has_other_text |= !is_blank;
                Ok(())
            }
            _ => Ok(()),
        };
        reading.check(taken)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        // `"error": false` says that nothing is wrong.
        if let (At::Message, false) = (self.at, value) {
            return Ok(());
        }
        self.visit_str(if value { "true" } else { "false" })
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.visit_str(&value.to_string())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.visit_str(&value.to_string())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        // Such a number was rounded when it was read: an id of more than 19 digits.
        if value.abs() > 9e15 {
            let refused = Err(bad_reply("the reply holds a number that is too large to be exact; iSAMS sends texts"));
            return self.reading.borrow_mut().check(refused);
        }
        self.visit_str(&value.to_string())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.visit_str("")
    }
}

#[cfg(all(test, feature = "__tests"))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::isams::reply::{Everything, assert_same};

    fn field() -> impl Strategy<Value = String> {
        let keys = ["@Id", "Id", "id", "PupilId", "@@Late", "#text", "Message", "é", "a\\u0062", "", "b\u{1}"];
        let values = [
            "\"1\"",
            "\"\"",
            "\" x \"",
            "\"O'Neil\"",
            "\"é\"",
            "\"\\n\"",
            "\"\\ud83d\"",
            "\"\t\"",
            "null",
            "true",
            "1",
            "1e30",
            "{}",
            "[]",
            "[\"1\",\"2\"]",
            "{\"@a\":\"1\",\"#text\":\"x\"}",
            "{\"Title\":\"no\"}",
            "nul",
            "[{},{\"Code\":\"1\"}]",
            "\"",
        ];
        let (key, value) = (prop::sample::select(keys.to_vec()), prop::sample::select(values.to_vec()));
        let usual = prop::sample::select(vec!["Code", "Name", "A", "B"]);
        let texts = prop::sample::select(vec!["\"1\"", "\" é\"", "null"]);
        prop_oneof![
            1 => (key, value).prop_map(|(key, value)| format!("\"{key}\": {value}")),
            4 => (usual, texts).prop_map(|(key, value)| format!("\"{key}\":{value}")),
        ]
    }

    fn item() -> impl Strategy<Value = String> {
        let object = prop::collection::vec(field(), 0..5).prop_map(|fields| format!("{{{}}}", fields.join(" ,\n")));
        prop_oneof![8 => object, 1 => prop::sample::select(vec!["1".to_owned(), "\"x\"".to_owned(), "[]".to_owned(), String::new()])]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn the_plain_form_reads_as_the_parser_reads_it(
            items in prop::collection::vec(item(), 0..6),
            between in prop::sample::select(vec![",", " ,\n ", ", ,", ""]),
            cut in 0..400_usize,
        ) {
            let document = format!(
                "{{\"iSAMS\":{{\"RegistrationStatuses\":{{\"Row\":[{}]}},\"OutOfSchoolPupils\":null,\"Other\":[{{}},{{}}]}}}}",
                items.join(between)
            );
            let by_parser = |bytes: &[u8], found: &mut Everything| read_with(bytes, found, |_, _| None);
            assert_same(&document, cut, |bytes, found| read(bytes, found), by_parser);
        }
    }
}
