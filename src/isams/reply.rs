//! What the parsers of both formats make of a reply.

use super::body::MOST_TEXT_BYTES;
use super::failure::{too_large, too_many_fields};
use crate::source::{FetchedKind, SourceError};

/// More fields than any item or other object has.
pub(super) const MOST_FIELDS: usize = 512;

/// What a parser finds: the containers of a reply, and their items.
pub(super) trait Sink {
    /// An element that may be a container; its kind, if its items are wanted.
    fn container(&mut self, name: &str) -> Option<FetchedKind>;
    /// The name of the next item's element.
    fn item_name(&mut self, _name: &str) {}
    /// One item of it; its fields by name, without empty ones.
    fn item(&mut self, kind: FetchedKind, fields: &[(String, String)]) -> Result<(), SourceError>;
}

/// For replies of which only a message counts.
pub(super) struct Nothing;

impl Sink for Nothing {
    fn container(&mut self, _: &str) -> Option<FetchedKind> {
        None
    }

    fn item(&mut self, _: FetchedKind, _: &[(String, String)]) -> Result<(), SourceError> {
        Ok(())
    }
}

/// The fields of one item, kept for the next to save allocations.
#[derive(Default)]
pub(super) struct Fields {
    list: Vec<(String, String)>,
    used: usize,
    /// Of this item, empty fields too.
    opened: usize,
    length: usize,
}

impl Fields {
    pub(super) fn open(&mut self, name: &str) -> Result<(), SourceError> {
        self.count(name.len())?;
        match self.list.get_mut(self.used) {
            Some((known, value)) => {
                known.clear();
                known.push_str(name);
                value.clear();
            }
            None => self.list.push((name.to_owned(), String::new())),
        }
        self.used += 1;
        Ok(())
    }

    /// Opens a field of the [`expected`](Self::expected) name.
    pub(super) fn open_expected(&mut self) -> Result<(), SourceError> {
        let Some((name, value)) = self.list.get_mut(self.used) else { return Ok(()) };
        value.clear();
        let length = name.len();
        self.used += 1;
        self.count(length)
    }

    /// The name that the next field had in the item before, which it nearly always has again.
    pub(super) fn expected(&self) -> &str {
        self.list.get(self.used).map_or("", |(name, _)| name)
    }

    /// Closes the last field and opens another of its name.
    pub(super) fn open_again(&mut self) -> Result<(), SourceError> {
        let last = self.used.checked_sub(1).and_then(|at| self.list.get(at));
        let Some(name) = last.map(|(name, _)| name.clone()) else { return Ok(()) };
        self.close();
        self.open(&name)
    }

    pub(super) fn append(&mut self, text: &str) -> Result<(), SourceError> {
        let Some((_, value)) = self.used.checked_sub(1).and_then(|at| self.list.get_mut(at)) else { return Ok(()) };
        value.push_str(text);
        self.lengthen(text.len())
    }

    /// Counts a field with a name of this length.
    fn count(&mut self, length: usize) -> Result<(), SourceError> {
        self.opened += 1;
        if self.opened > MOST_FIELDS {
            return Err(too_many_fields());
        }
        self.lengthen(length)
    }

    fn lengthen(&mut self, by: usize) -> Result<(), SourceError> {
        self.length += by;
        if self.length > MOST_TEXT_BYTES { Err(too_large("a record of more than a megabyte")) } else { Ok(()) }
    }

    /// The last field is whole: it is trimmed, and dropped if nothing is left (R1.6).
    pub(super) fn close(&mut self) {
        let Some((_, value)) = self.used.checked_sub(1).and_then(|at| self.list.get_mut(at)) else { return };
        // Nearly every value has nothing to trim.
        if let [first, .., last] = value.as_bytes()
            && first.is_ascii_graphic()
            && last.is_ascii_graphic()
        {
            return;
        }
        value.truncate(value.trim_end().len());
        let blanks = value.len() - value.trim_start().len();
        value.drain(..blanks);
        if value.is_empty() {
            self.used -= 1;
        }
    }

    pub(super) fn get(&self) -> &[(String, String)] {
        self.list.get(..self.used).unwrap_or_default()
    }

    pub(super) fn clear(&mut self) {
        (self.used, self.opened, self.length) = (0, 0, 0);
    }
}

/// What a reply holds, as it comes.
#[cfg(all(test, feature = "__tests"))]
#[derive(Debug, Default, PartialEq)]
pub(super) struct Everything(Vec<String>);

#[cfg(all(test, feature = "__tests"))]
impl Sink for Everything {
    fn container(&mut self, name: &str) -> Option<FetchedKind> {
        super::vocabulary::contents_of(name).map(|contents| contents.kind)
    }

    fn item_name(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }

    fn item(&mut self, kind: FetchedKind, fields: &[(String, String)]) -> Result<(), SourceError> {
        self.0.push(format!("{kind} {fields:?}"));
        Ok(())
    }
}

/// Checks that two ways of reading find the same in a document: as it is, cut here, and with a byte here that is not text.
#[cfg(all(test, feature = "__tests"))]
pub(super) fn assert_same<R: std::fmt::Debug>(
    document: &str,
    here: usize,
    one: impl Fn(&[u8], &mut Everything) -> R,
    other: impl Fn(&[u8], &mut Everything) -> R,
) {
    let whole = document.as_bytes();
    let (before, after) = whole.split_at(here.min(whole.len()));
    for bytes in [whole, before, &[before, b"\xFF", after].concat()] {
        let [mut found, mut found_too] = [Everything::default(), Everything::default()];
        let ends = [one(bytes, &mut found), other(bytes, &mut found_too)].map(|end| format!("{end:?}"));
        assert_eq!((found, &ends[0]), (found_too, &ends[1]), "{}", String::from_utf8_lossy(bytes));
    }
}
