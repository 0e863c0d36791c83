//! One page of a REST list: JSON in which no object has a name twice, and in which numbers stay as they are written.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::body::DEEPEST;
use super::failure::{bad_reply, json_error, name_twice, not_text, other_json, too_deep, too_large, too_many_fields};
use super::message::Message;
use super::reply::MOST_FIELDS;
use crate::source::SourceError;

/// More records than any list has.
const MOST_ELEMENTS: usize = 200_000;

/// An object's fields, found whatever the case of their names.
pub(super) struct Object<'a>(Vec<(String, &'a RawValue)>);

struct ObjectFields;

impl<'de> Visitor<'de> for ObjectFields {
    type Value = Result<Object<'de>, SourceError>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut fields, mut known) = (Vec::new(), HashSet::new());
        let mut refused = None;
        while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
            if !known.insert(name.to_ascii_lowercase()) {
                refused = Some(name_twice(&name));
            } else if fields.len() == MOST_FIELDS {
                refused = Some(too_many_fields());
            } else {
                fields.push((name, value));
                continue;
            }
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        }
        Ok(refused.map_or(Ok(Object(fields)), Err))
    }
}

struct Elements;

impl<'de> Visitor<'de> for Elements {
    type Value = Result<Vec<&'de RawValue>, SourceError>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element()? {
            elements.push(element);
            if elements.len() > MOST_ELEMENTS {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(Err(too_large("a list of more than 200,000 records")));
            }
        }
        Ok(Ok(elements))
    }
}

/// What a value is, with its parts.
enum Json<'a> {
    Object(Object<'a>),
    List(Vec<&'a RawValue>),
    Scalar,
}

fn json(text: &str) -> Result<Json<'_>, SourceError> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = match text.trim_ascii_start().as_bytes().first() {
        Some(b'{') => deserializer.deserialize_map(ObjectFields).map(|fields| fields.map(Json::Object)),
        Some(b'[') => deserializer.deserialize_seq(Elements).map(|elements| elements.map(Json::List)),
        _ => deserializer.deserialize_ignored_any(IgnoredAny).map(|_| Ok(Json::Scalar)),
    };
    read.and_then(|read| deserializer.end().map(|()| read)).map_err(|error| json_error(&error))?
}

/// Refuses a value in which anything is there twice, too deep or too long.
fn check(text: &str, depth: usize) -> Result<(), SourceError> {
    if depth > DEEPEST {
        return Err(too_deep());
    }
    match json(text)? {
        Json::Object(object) => object.0.iter().try_for_each(|(_, value)| check(value.get(), depth + 1)),
        Json::List(elements) => elements.iter().try_for_each(|element| check(element.get(), depth + 1)),
        Json::Scalar => Ok(()),
    }
}

fn elements(value: &RawValue) -> Option<Vec<&RawValue>> {
    match json(value.get()) {
        Ok(Json::List(elements)) => Some(elements),
        _ => None,
    }
}

pub(super) fn object(value: &RawValue) -> Option<Object<'_>> {
    match json(value.get()) {
        Ok(Json::Object(object)) => Some(object),
        _ => None,
    }
}

/// A value that is not a text, number or truth value: a list, half of a surrogate pair, a number that is not whole.
pub(super) struct Unreadable;

/// A scalar as trimmed text. A number keeps every digit; `5.0` is 5.
fn text_of(value: &RawValue) -> Result<String, Unreadable> {
    let written = value.get();
    match written.as_bytes().first() {
        Some(b'"') => {
            let text: String = serde_json::from_str(written).map_err(|_| Unreadable)?;
            Ok(text.trim().to_owned())
        }
        Some(b'{' | b'[') => Err(Unreadable),
        Some(b'n') => Ok(String::new()),
        Some(b't' | b'f') => Ok(written.to_owned()),
        _ => whole_number(written).ok_or(Unreadable),
    }
}

fn whole_number(written: &str) -> Option<String> {
    let (whole, fraction) = written.split_once('.').unwrap_or((written, ""));
    if fraction.bytes().all(|digit| digit == b'0') && !whole.contains(['e', 'E']) {
        return Some(whole.to_owned());
    }
    let number: f64 = written.parse().ok()?;
    let is_exact = number.fract() == 0.0 && number.abs() < 9e15;
    is_exact.then(|| format!("{number:.0}"))
}

impl<'a> Object<'a> {
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    /// A field as text; ids come as numbers and as text. Null and nothing are missing.
    pub(super) fn text(&self, name: &str) -> Option<Result<String, Unreadable>> {
        let text = text_of(self.get(name)?);
        text.map(|text| Some(text).filter(|text| !text.is_empty())).transpose()
    }

    /// A number of things, also as text.
    fn count(&self, name: &str) -> Option<u64> {
        whole_number(&self.text(name)?.ok()?)?.parse().ok()
    }
}

/// How a list is found in its page.
#[derive(Clone, Copy)]
pub(super) enum ListName<'a> {
    /// By its name.
    Known(&'a str),
    /// Its name is not documented: the only list, or the only one of records with this field.
    WithField(&'static str),
}

/// A reply for one page.
pub(super) enum Page<'a> {
    /// A list with nothing else.
    Bare(Vec<&'a RawValue>),
    Object(Object<'a>),
}

/// What a page says of itself, as far as it does.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Paging {
    pub(super) page: Option<u64>,
    pub(super) pages: Option<u64>,
    pub(super) total: Option<u64>,
    /// Records of this page, or of all.
    pub(super) count: Option<u64>,
    pub(super) size: Option<u64>,
    /// There is a link to another page (HAL).
    pub(super) has_next: bool,
}

impl<'a> Page<'a> {
    pub(super) fn parse(text: &'a [u8]) -> Result<Self, SourceError> {
        let text = std::str::from_utf8(text).map_err(|_| not_text())?;
        if text.is_empty() {
            return Err(bad_reply("the reply is empty; check the address and the client's rights"));
        }
        check(text, 0)?;
        match json(text)? {
            Json::Object(object) => Ok(Self::Object(object)),
            Json::List(elements) => Ok(Self::Bare(elements)),
            Json::Scalar => Err(other_json()),
        }
    }

    pub(super) fn paging(&self) -> Paging {
        let Self::Object(page) = self else { return Paging::default() };
        let next = page.get("_links").and_then(object).and_then(|links| links.get("next"));
        Paging {
            page: page.count("page"),
            pages: page.count("totalPages"),
            total: page.count("totalCount"),
            count: page.count("count"),
            size: page.count("pageSize").filter(|size| *size > 0),
            has_next: next.is_some_and(has_content),
        }
    }

    /// What iSAMS says instead of a list, or beside one: that is an error whatever the status.
    pub(super) fn refusal(&self) -> Option<Message> {
        let Self::Object(page) = self else { return None };
        let is_filled = |name: &str| page.get(name).is_some_and(has_content);
        let is_no = |name: &str| page.get(name).is_some_and(|value| !has_content(value) && value.get() != "null");
        let has_words =
            ["message", "error", "errors", "title", "detail", "exceptionMessage"].iter().any(|name| is_filled(name));
        let says_no = ["success", "succeeded", "isSuccess", "ok"].iter().any(|name| is_no(name));
        let has_status = ["status", "statusCode"].iter().any(|name| page.count(name).is_some_and(|code| code >= 400));
        (has_words || says_no || has_status).then(|| self.words())
    }

    /// The words of an error: iSAMS's `message`, or those of a problem as other servers write it (RFC 9457).
    pub(super) fn words(&self) -> Message {
        let Self::Object(page) = self else { return Message::default() };
        let said = |name: &str| page.get(name).and_then(|value| first_text(value, 0));
        let names = ["message", "detail", "error_description", "error", "errors"];
        Message {
            title: said("title").unwrap_or_default(),
            description: names.into_iter().find_map(said).unwrap_or_default(),
            ..Message::default()
        }
    }

    /// The records of a page under their name, if it holds a list of them. A known list can be null for an empty one.
    pub(super) fn records(&self, name: ListName<'_>) -> Option<(Option<String>, Vec<&'a RawValue>)> {
        let (name, list) = match (self, name) {
            (Self::Bare(list), _) => (None, list.clone()),
            (Self::Object(page), ListName::Known(name)) => match page.get(name)? {
                null if null.get() == "null" => (Some(name), Vec::new()),
                list => (Some(name), elements(list)?),
            },
            (Self::Object(page), ListName::WithField(field)) => page.only_list(field)?,
        };
        let is_record = |element: &&RawValue| element.get().starts_with('{');
        list.iter().all(is_record).then(|| (name.map(str::to_owned), list))
    }
}

/// A list with its name in the page.
type Named<'n, 'a> = (Option<&'n str>, Vec<&'a RawValue>);

impl<'a> Object<'a> {
    fn only_list(&self, field: &str) -> Option<Named<'_, 'a>> {
        let is_of_errors =
            |name: &str| ["errors", "messages", "warnings"].iter().any(|of| of.eq_ignore_ascii_case(name));
        let lists = self.0.iter().filter(|(name, _)| !is_of_errors(name));
        let mut lists: Vec<Named<'_, 'a>> =
            lists.filter_map(|(name, value)| Some((Some(name.as_str()), elements(value)?))).collect();
        if lists.iter().all(|(_, list)| list.is_empty()) {
            return lists.pop();
        }
        if lists.len() > 1 {
            let has_field = |item: &&RawValue| object(item).is_some_and(|item| item.get(field).is_some());
            lists.retain(|(_, list)| list.iter().any(has_field));
        }
        lists.pop().filter(|_| lists.is_empty())
    }
}

/// Whether a value says anything: not null, false, 0, or empty.
fn has_content(value: &RawValue) -> bool {
    match json(value.get()) {
        Ok(Json::Object(object)) => !object.0.is_empty(),
        Ok(Json::List(elements)) => !elements.is_empty(),
        _ => !matches!(text_of(value).as_deref(), Ok("" | "0" | "false")),
    }
}

/// The first text in a value; an object's own message goes first.
fn first_text(value: &RawValue, depth: usize) -> Option<String> {
    if depth > DEEPEST {
        return None;
    }
    match json(value.get()).ok()? {
        Json::Object(object) => {
            let message = object.get("message").and_then(|message| first_text(message, depth + 1));
            message.or_else(|| object.0.iter().find_map(|(_, value)| first_text(value, depth + 1)))
        }
        Json::List(elements) => elements.into_iter().find_map(|element| first_text(element, depth + 1)),
        Json::Scalar => text_of(value).ok().filter(|text| value.get().starts_with('"') && !text.is_empty()),
    }
}
