//! A reply's body as the parsers read it: decoded, and within limits.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use encoding_rs_io::{DecodeReaderBytes, DecodeReaderBytesBuilder};

use super::failure::{not_text, read_error, too_large, web_page};
use crate::source::SourceError;

/// The longest text, name or tag of a reply, in bytes; real ones are a thousand times shorter.
pub(super) const MOST_TEXT_BYTES: usize = 1 << 20;

/// How deep a reply's elements may nest; real ones nest five deep.
pub(super) const DEEPEST: usize = 32;

/// A body in UTF-8, without a byte order mark.
fn decoded<R: Read>(raw: R) -> DecodeReaderBytes<R, Vec<u8>> {
    DecodeReaderBytesBuilder::new().utf8_passthru(true).strip_bom(true).build(raw)
}

/// A body in UTF-8: a byte order mark decides; without one it is taken to be UTF-8 (what a document claims of itself is known to
/// be wrong). Refuses to give out more than [`MOST_TEXT_BYTES`] without any [`progress`](Self::progress).
pub(super) struct Body<R: Read> {
    reader: BufReader<DecodeReaderBytes<R, Vec<u8>>>,
    since_progress: Rc<Cell<usize>>,
    position: u64,
    is_at_end: bool,
}

impl<R: Read> Body<R> {
    pub(super) fn new(raw: R) -> Self {
        Self {
            reader: BufReader::with_capacity(64 << 10, decoded(raw)),
            since_progress: Rc::default(),
            position: 0,
            is_at_end: false,
        }
    }

    /// How much was given out since the parser last set this to 0, having made something of it.
    pub(super) fn progress(&self) -> Rc<Cell<usize>> {
        Rc::clone(&self.since_progress)
    }

    /// How many bytes were taken so far.
    pub(super) fn position(&self) -> u64 {
        self.position
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
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

impl<R: Read> BufRead for Body<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.since_progress.get() > MOST_TEXT_BYTES {
            return Err(io::Error::other(too_large("a text or tag of more than a megabyte")));
        }
        let bytes = self.reader.fill_buf()?;
        self.is_at_end = bytes.is_empty();
        Ok(bytes)
    }

    fn consume(&mut self, amount: usize) {
        self.since_progress.set(self.since_progress.get() + amount);
        self.position += amount as u64;
        self.reader.consume(amount);
    }
}

/// The text of a short body, without white space around it. A web page is refused.
pub(super) fn text_of(raw: &[u8]) -> Result<Vec<u8>, SourceError> {
    let mut text = Vec::new();
    decoded(raw).read_to_end(&mut text).map_err(|error| read_error(&error))?;
    let text = text.trim_ascii();
    if is_page(text) { Err(web_page()) } else { Ok(text.to_vec()) }
}

/// Whether the body of an error is an HTML page.
pub(super) fn is_web_page(raw: &[u8]) -> bool {
    let mut beginning = Vec::new();
    let _ = decoded(raw).take(4_096).read_to_end(&mut beginning);
    let beginning = String::from_utf8_lossy(&beginning).to_ascii_lowercase();
    beginning.trim_start().starts_with("<!doctype html") || beginning.contains("<html")
}

/// Whether a text where JSON is asked for is a web page.
pub(super) fn is_page(text: &[u8]) -> bool {
    text.trim_ascii_start().starts_with(b"<")
}

/// What can follow a document and says nothing: white space, and what servers fill their blocks with.
pub(super) fn is_padding(bytes: &[u8]) -> bool {
    const MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];
    bytes.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0 || MARK.contains(byte))
}
