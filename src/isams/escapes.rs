//! Half surrogate pairs in JSON, which no text can hold.

use std::io::{self, BufRead, Read};

/// Stands for half a surrogate pair. It is not a character, so no real text holds it; a text with it can't be read.
pub(super) const NO_CHARACTER: char = '\u{FFFF}';

/// JSON in which every half of a surrogate pair (`\ud83d` alone) is [`NO_CHARACTER`] instead, since JSON's parser refuses
/// the whole document for it. All else is as it was.
pub(super) struct Escapes<R> {
    json: R,
    /// What was read ahead to see a whole escape, the last byte first.
    ahead: Vec<u8>,
}

impl<R: BufRead> Escapes<R> {
    pub(super) fn new(json: R) -> Self {
        Self { json, ahead: Vec::new() }
    }

    /// What of the JSON is there to be read, as it is written; `None` in the middle of an escape.
    pub(super) fn unread(&mut self) -> io::Result<Option<&[u8]>> {
        if self.ahead.is_empty() { self.json.fill_buf().map(Some) } else { Ok(None) }
    }

    /// Takes this many bytes of what is unread.
    pub(super) fn skip(&mut self, length: usize) {
        self.json.consume(length);
    }

    /// Takes the next byte if it is one of these.
    fn next_if(&mut self, is_it: impl Fn(u8) -> bool) -> io::Result<Option<u8>> {
        let next = self.json.fill_buf()?.first().copied().filter(|byte| is_it(*byte));
        self.json.consume(next.is_some().into());
        Ok(next)
    }

    /// Reads escapes after a backslash, up to the first that is not the first half of a pair.
    fn read_ahead(&mut self) -> io::Result<()> {
        let mut read = Vec::new();
        let mut first: Option<Vec<u8>> = None;
        loop {
            let mut escape = vec![b'\\'];
            escape.extend(self.next_if(|_| true)?);
            while escape.get(1) == Some(&b'u')
                && escape.len() < 6
                && let Some(digit) = self.next_if(|byte| byte.is_ascii_hexdigit())?
            {
                escape.push(digit);
            }
            let half = half_of(&escape);
            match (first.take(), half) {
                (Some(first), Some(Half::Second)) => {
                    read.extend(first);
                    read.extend(escape);
                    break;
                }
                (Some(_), _) => read.extend(br"\uffff"),
                (None, _) => {}
            }
            match half {
                None => {
                    read.extend(escape);
                    break;
                }
                Some(Half::Second) => {
                    read.extend(br"\uffff");
                    break;
                }
                Some(Half::First) if self.next_if(|byte| byte == b'\\')?.is_some() => first = Some(escape),
                Some(Half::First) => {
                    read.extend(br"\uffff");
                    break;
                }
            }
        }
        read.reverse();
        self.ahead = read;
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Half {
    First,
    Second,
}

/// Which half of a surrogate pair an escape is, if it is one.
fn half_of(escape: &[u8]) -> Option<Half> {
    let digits = std::str::from_utf8(escape.get(2..6)?).ok()?;
    match u16::from_str_radix(digits, 16).ok()? {
        0xD800..=0xDBFF => Some(Half::First),
        0xDC00..=0xDFFF => Some(Half::Second),
        _ => None,
    }
}

impl<R: BufRead> Read for Escapes<R> {
    /// Gives one byte at a time, as JSON's parser asks for them.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(first) = buffer.first_mut() else { return Ok(0) };
        if self.ahead.is_empty() && self.next_if(|byte| byte == b'\\')?.is_some() {
            self.read_ahead()?;
        }
        let next = match self.ahead.pop() {
            None => self.next_if(|_| true)?,
            ahead => ahead,
        };
        Ok(next.map_or(0, |byte| {
            *first = byte;
            1
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    fn read(json: &str) -> String {
        // Every chunk is one byte, so that every escape is split.
        let mut text = String::new();
        Escapes::new(BufReader::with_capacity(1, json.as_bytes())).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn half_a_surrogate_pair_is_no_character() {
        for (json, expected) in [
            (r#""\ud83d""#, r#""\uffff""#),
            (r#""\ude00""#, r#""\uffff""#),
            (r#""\uD83Dx""#, r#""\uffffx""#),
            (r#""\ud83d\n""#, r#""\uffff\n""#),
            (r#""\ud83d\u0041""#, r#""\uffff\u0041""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\uffff\ud83d\ude00""#),
            (r#""\ud83d\ud83d\ud83d""#, r#""\uffff\uffff\uffff""#),
            (r#""\ude00\ud83d""#, r#""\uffff\uffff""#),
        ] {
            assert_eq!(read(json), expected, "{json}");
        }
    }

    #[test]
    fn all_else_is_as_it_was() {
        for json in
            [r#""\ud83d\ude00""#, r#""\\ud83d""#, r#""\\\\ud83d\"""#, r#""\u00e9 é""#, r#""\ud8"#, r#""\u"#, "\"\\", ""]
        {
            assert_eq!(read(json), json, "{json}");
        }
    }
}
