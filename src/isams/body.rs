//! A reply's body as the parsers read it: decoded, and within limits.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use encoding_rs_io::{DecodeReaderBytes, DecodeReaderBytesBuilder};

use crate::source::{FetchedKind, SourceError, SourceErrorKind};

/// The longest text, name or tag of a reply; real ones are a thousand times shorter.
pub(super) const LONGEST_TEXT: usize = 1 << 20;

/// How deep a reply's elements may nest; real ones nest five deep.
pub(super) const DEEPEST: usize = 32;

/// A body in UTF-8, without a byte order mark.
fn decoded<R: Read>(raw: R) -> DecodeReaderBytes<R, Vec<u8>> {
    DecodeReaderBytesBuilder::new().utf8_passthru(true).strip_bom(true).build(raw)
}

/// A body in UTF-8: a byte order mark decides, else it is taken for UTF-8 (what a document claims of itself is known to
/// be wrong). Refuses to give out more than [`LONGEST_TEXT`] without any [`progress`](Self::progress).
pub(super) struct Body<R: Read> {
    reader: BufReader<DecodeReaderBytes<R, Vec<u8>>>,
    since_progress: Rc<Cell<usize>>,
    is_at_end: bool,
}

impl<R: Read> Body<R> {
    pub(super) fn new(raw: R) -> Self {
        Self {
            reader: BufReader::with_capacity(64 << 10, decoded(raw)),
            since_progress: Rc::default(),
            is_at_end: false,
        }
    }

    /// How much was given out since the parser last set this to 0, having made something of it.
    pub(super) fn progress(&self) -> Rc<Cell<usize>> {
        Rc::clone(&self.since_progress)
    }

    /// Whether the parser has seen the end.
    pub(super) fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    /// The first bytes after white space, without taking them.
    pub(super) fn peek(&mut self) -> io::Result<&[u8]> {
        let bytes = self.reader.fill_buf()?;
        if bytes.iter().take(4).any(|byte| *byte == 0) {
            return Err(io::Error::other(not_text()));
        }
        Ok(bytes.trim_ascii_start())
    }
}

impl<R: Read> Read for Body<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer.iter_mut().zip(&available[..length]).for_each(|(to, from)| *to = *from);
        self.consume(length);
        Ok(length)
    }
}

impl<R: Read> BufRead for Body<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.since_progress.get() > LONGEST_TEXT {
            return Err(io::Error::other(too_large("a text or tag of more than a megabyte")));
        }
        let bytes = self.reader.fill_buf()?;
        self.is_at_end = bytes.is_empty();
        Ok(bytes)
    }

    fn consume(&mut self, amount: usize) {
        self.since_progress.set(self.since_progress.get() + amount);
        self.reader.consume(amount);
    }
}

/// The text of a short body, without white space around it. A page for people is refused.
pub(super) fn text_of(raw: &[u8]) -> Result<Vec<u8>, SourceError> {
    let mut text = Vec::new();
    decoded(raw).read_to_end(&mut text).map_err(|error| read_error(&error))?;
    let text = text.trim_ascii();
    if is_page(text) { Err(web_page()) } else { Ok(text.to_vec()) }
}

/// Whether a text where JSON is asked for is a page for people.
pub(super) fn is_page(text: &[u8]) -> bool {
    text.trim_ascii_start().starts_with(b"<")
}

/// What can follow a document and says nothing: white space, and what servers fill their blocks with.
pub(super) fn is_padding(bytes: &[u8]) -> bool {
    const MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];
    bytes.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0 || MARK.contains(byte))
}

pub(super) fn bad_reply(message: impl Into<String>) -> SourceError {
    SourceError::new(SourceErrorKind::BadReply, message)
}

pub(super) fn too_large(what: &str) -> SourceError {
    SourceError::new(SourceErrorKind::TooLarge, format!("the reply holds {what}, so reading stopped there"))
}

/// More records of a kind than a school has.
pub(super) fn too_many(kind: FetchedKind, most: u64) -> SourceError {
    SourceError::new(
        SourceErrorKind::TooLarge,
        format!(
            "the reply holds more than {most} {kind}, so reading stopped there; ask for fewer days, or raise max_rows_per_day if \
             the school really has so many"
        ),
    )
}

/// The error that a failed read stands for: our own, if one of our readers raised it.
pub(super) fn read_error(error: &io::Error) -> SourceError {
    let own = error.get_ref().and_then(|inner| inner.downcast_ref::<SourceError>());
    own.cloned().unwrap_or_else(|| {
        SourceError::temporary(SourceErrorKind::Connection, "the connection broke off in the middle of the reply")
    })
}

pub(super) fn not_text() -> SourceError {
    bad_reply("the reply is neither UTF-8 nor UTF-16 with a byte order mark")
}

pub(super) fn goes_on() -> SourceError {
    bad_reply("the reply goes on after the end of its document")
}

pub(super) fn text_for_records() -> SourceError {
    bad_reply("the reply holds a text where iSAMS sends records; check the address")
}

pub(super) fn ended_early() -> SourceError {
    SourceError::temporary(SourceErrorKind::BadReply, "the reply ends in the middle of the document")
}

pub(super) fn web_page() -> SourceError {
    bad_reply("the reply is an HTML page instead of data, a login page or a proxy's; check the address")
}
