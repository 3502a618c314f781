//! Framing: where one HTTP/1 request ends and the next begins, judged before the HTTP library sees a byte of it.
//!
//! The grammar is a strict part of RFC 9112's: whatever passes has one reading only, so that no proxy before us and no library behind
//! us can see other borders between requests than we do. Pure: it is given bytes and gives bytes back. It never mends what it reads.

use bytes::{Buf, BytesMut};

/// The most headers of a request, and the most bytes of its head.
pub(super) const MOST_HEADERS: usize = 64;
pub(super) const MOST_HEAD_BYTES: usize = 32 * 1024;

/// The most empty lines before a request: RFC 9112 §2.2 asks that at least one be overlooked.
const MOST_EMPTY_LINES: u8 = 2;
/// The most digits of a chunk's size: less than 4 GiB, and no way to an overflow.
const MOST_SIZE_DIGITS: u8 = 8;
/// The most bytes of chunk extensions in one body (RFC 9112 §7.1.1 asks for a limit). Nobody needs any.
const MOST_EXTENSION_BYTES: u16 = 256;
/// The most bytes of a body's trailer fields.
const MOST_TRAILER_BYTES: usize = 4 * 1024;

/// Why a request is refused before it is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FramingFault {
    /// It is not HTTP/1, or could be read in more than one way.
    #[error("{0}")]
    Malformed(&'static str),
    /// Its head has too many bytes or too many fields.
    #[error("the head has more than {MOST_HEAD_BYTES} bytes or {MOST_HEADERS} fields")]
    TooLarge,
}

use FramingFault::{Malformed, TooLarge};

/// How a request's body ends (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Bytes(u64),
    Chunked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In a head, or before one; so many bytes of it have been looked at.
    Head {
        scanned: usize,
    },
    /// In a body of known length.
    Body {
        left: u64,
    },
    /// In a chunk's size.
    Size {
        digits: u8,
        size: u64,
    },
    /// In a chunk's extension.
    Extension {
        size: u64,
    },
    /// Before the line feed that ends the line of a chunk's size.
    SizeEnd {
        size: u64,
    },
    /// In a chunk.
    Chunk {
        left: u64,
    },
    /// Before the carriage return, then the line feed, behind a chunk.
    ChunkReturn,
    ChunkEnd,
    /// In the trailer section; so many bytes of it have been looked at.
    Trailer {
        scanned: usize,
    },
}

/// What has been judged of a connection's bytes.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    empty_lines: u8,
    extension_bytes: u16,
}

impl Framing {
    pub(super) fn new() -> Self {
        Self { state: State::Head { scanned: 0 }, empty_lines: 0, extension_bytes: 0 }
    }

    /// Whether the next byte is one of a head.
    pub(super) fn is_in_head(&self) -> bool {
        matches!(self.state, State::Head { .. })
    }

    /// Moves what can be judged from `from` to `to`, up to the end of one head or, once in a body, to the end of that body. `true`: it
    /// got on.
    ///
    /// # Errors
    /// Nothing of the request, or nothing more of its body, is handed over then.
    pub(super) fn advance(&mut self, from: &mut BytesMut, to: &mut BytesMut) -> Result<bool, FramingFault> {
        if let State::Head { scanned } = self.state {
            return self.head(scanned, from, to);
        }
        let before = from.len();
        while !from.is_empty() && !self.is_in_head() {
            match self.state {
                State::Body { left } => {
                    let left = pass(from, to, left);
                    self.state = if left == 0 { State::Head { scanned: 0 } } else { State::Body { left } };
                }
                State::Chunk { left } => {
                    let left = pass(from, to, left);
                    self.state = if left == 0 { State::ChunkReturn } else { State::Chunk { left } };
                }
                State::Trailer { scanned } => {
                    if !self.trailer(scanned, from, to)? {
                        break;
                    }
                }
                State::Head { .. } => {}
                _ => {
                    let byte = from.get_u8();
                    self.state = self.chunk_line(byte)?;
                    to.extend_from_slice(&[byte]);
                }
            }
        }
        Ok(from.len() != before)
    }

    /// A head is handed over whole, or not at all.
    fn head(&mut self, mut scanned: usize, from: &mut BytesMut, to: &mut BytesMut) -> Result<bool, FramingFault> {
        while scanned == 0 && from.starts_with(b"\r\n") {
            self.empty_lines += 1;
            if self.empty_lines > MOST_EMPTY_LINES {
                return Err(Malformed("there are empty lines before the request"));
            }
            from.advance(2);
        }
        if scanned == 0 && **from == *b"\r" {
            return Ok(false);
        }
        let end = end_of_section(from, &mut scanned)?;
        if end.unwrap_or(from.len()) > MOST_HEAD_BYTES {
            return Err(TooLarge);
        }
        let Some(end) = end else {
            self.state = State::Head { scanned };
            return Ok(false);
        };
        let head = from.split_to(end);
        self.state = match judge_head(&head)? {
            Length::Bytes(0) => State::Head { scanned: 0 },
            Length::Bytes(left) => State::Body { left },
            Length::Chunked => State::Size { digits: 0, size: 0 },
        };
        (self.empty_lines, self.extension_bytes) = (0, 0);
        to.unsplit(head);
        Ok(true)
    }

    /// One byte of the line of a chunk's size, or of the line's end behind a chunk.
    ///
    /// White space is refused that RFC 9112 §7.1.1 calls bad: what one reader takes for a part of the size another does not.
    fn chunk_line(&mut self, byte: u8) -> Result<State, FramingFault> {
        match (self.state, byte) {
            (State::Size { digits, size }, _) if byte.is_ascii_hexdigit() => {
                if digits == MOST_SIZE_DIGITS {
                    return Err(Malformed("a chunk is larger than could be"));
                }
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                Ok(State::Size { digits: digits + 1, size: size * 16 + digit })
            }
            (State::Size { digits: 1.., size } | State::Extension { size }, b'\r') => Ok(State::SizeEnd { size }),
            (State::Size { digits: 1.., size }, b';') | (State::Extension { size }, 0x21..=0x7e) => {
                self.extension(size)
            }
            (State::SizeEnd { size: 0 }, b'\n') => Ok(State::Trailer { scanned: 0 }),
            (State::SizeEnd { size }, b'\n') => Ok(State::Chunk { left: size }),
            (State::ChunkReturn, b'\r') => Ok(State::ChunkEnd),
            (State::ChunkEnd, b'\n') => Ok(State::Size { digits: 0, size: 0 }),
            _ => Err(Malformed("a chunk's size or end is not one")),
        }
    }

    fn extension(&mut self, size: u64) -> Result<State, FramingFault> {
        self.extension_bytes += 1;
        if self.extension_bytes > MOST_EXTENSION_BYTES {
            return Err(Malformed("the chunks have too long extensions"));
        }
        Ok(State::Extension { size })
    }

    /// The trailer section, judged like a head's fields and handed over whole.
    fn trailer(&mut self, mut scanned: usize, from: &mut BytesMut, to: &mut BytesMut) -> Result<bool, FramingFault> {
        let end = if from.starts_with(b"\r\n") { Some(2) } else { end_of_section(from, &mut scanned)? };
        if end.unwrap_or(from.len()) > MOST_TRAILER_BYTES {
            return Err(TooLarge);
        }
        let Some(end) = end else {
            self.state = State::Trailer { scanned };
            return Ok(false);
        };
        let section = from.split_to(end);
        let mut fields = Fields::default();
        for line in lines(&section) {
            fields.take(line)?;
        }
        if fields.length.is_some() || fields.chunked || fields.hosts > 0 {
            return Err(Malformed("a trailer field belongs into the head"));
        }
        self.state = State::Head { scanned: 0 };
        to.unsplit(section);
        Ok(true)
    }
}

/// Hands over at most so many bytes; how many are still to come.
fn pass(from: &mut BytesMut, to: &mut BytesMut, left: u64) -> u64 {
    let now = usize::try_from(left).unwrap_or(usize::MAX).min(from.len());
    to.unsplit(from.split_to(now));
    left - now as u64
}

/// Where the empty line ends that ends a section of lines. Each byte is looked at once.
///
/// A line ends with CRLF and with nothing else: a bare CR or LF is where readers differ (RFC 9112 §2.2).
fn end_of_section(bytes: &[u8], scanned: &mut usize) -> Result<Option<usize>, FramingFault> {
    while let Some(byte) = bytes.get(*scanned) {
        let before = scanned.checked_sub(1).and_then(|at| bytes.get(at));
        match (before, byte) {
            (Some(b'\r'), b'\n') => {
                let end = *scanned + 1;
                if bytes.get(..end).is_some_and(|so_far| so_far.ends_with(b"\r\n\r\n")) {
                    *scanned = end;
                    return Ok(Some(end));
                }
            }
            (Some(b'\r'), _) | (_, b'\n') => return Err(Malformed("a line does not end with CRLF")),
            (_, 0..=8 | 11 | 12 | 14..=31 | 127) => return Err(Malformed("there is a control character in the head")),
            _ => {}
        }
        *scanned += 1;
    }
    Ok(None)
}

/// The lines of a section, without their ends and without the empty one.
fn lines(section: &[u8]) -> impl Iterator<Item = &[u8]> {
    section.split(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\r")).filter(|line| !line.is_empty())
}

/// Judges a whole head, and tells how its body ends.
fn judge_head(head: &[u8]) -> Result<Length, FramingFault> {
    let mut lines = lines(head);
    let is_11 = request_line(lines.next().unwrap_or_default())?;
    let mut fields = Fields::default();
    for line in lines {
        fields.take(line)?;
    }
    // RFC 9112 §3.2; in HTTP/1.0 there may be none.
    if fields.hosts > 1 || (is_11 && fields.hosts == 0) {
        return Err(Malformed("there is not one Host field"));
    }
    match (fields.length, fields.chunked) {
        // RFC 9112 §6.1 lets a server refuse both, and says why it should.
        (Some(_), true) => Err(Malformed("there are a Content-Length and a Transfer-Encoding")),
        (None, true) if !is_11 => Err(Malformed("HTTP/1.0 has no Transfer-Encoding")),
        (None, true) => Ok(Length::Chunked),
        (length, false) => Ok(Length::Bytes(length.unwrap_or(0))),
    }
}

/// `method SP target SP version` (RFC 9112 §3); whether it is HTTP/1.1.
fn request_line(line: &[u8]) -> Result<bool, FramingFault> {
    const WRONG: FramingFault = Malformed("the first line is not an HTTP/1 request line");
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(WRONG);
    };
    let target_is_one = target.iter().all(u8::is_ascii_graphic) && http::Uri::try_from(target).is_ok();
    if !is_token(method) || !target_is_one {
        return Err(WRONG);
    }
    match version {
        b"HTTP/1.1" => Ok(true),
        b"HTTP/1.0" => Ok(false),
        _ => Err(WRONG),
    }
}

/// What the fields say about the request's borders.
#[derive(Default)]
struct Fields {
    count: usize,
    length: Option<u64>,
    chunked: bool,
    hosts: u8,
}

impl Fields {
    fn take(&mut self, line: &[u8]) -> Result<(), FramingFault> {
        self.count += 1;
        if self.count > MOST_HEADERS {
            return Err(TooLarge);
        }
        // A name is a token: a folded line begins with white space, and white space before the colon is no part of a name
        // (RFC 9112 §5.1, §5.2).
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(0);
        let (name, value) = line.split_at_checked(colon).unwrap_or_default();
        if !is_token(name) {
            return Err(Malformed("a header field has no name, a folded line, or a space in its name"));
        }
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = (1..=18).contains(&value.len()).then(|| decimal(value)).flatten();
            let length = length.ok_or(Malformed("a Content-Length is not a number"))?;
            if self.length.replace(length).is_some() {
                return Err(Malformed("there are two Content-Length fields"));
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            // The one coding that every reader knows, and once.
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed("a Transfer-Encoding is not chunked"));
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"host") {
            self.hosts = self.hosts.saturating_add(1);
            if !value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:[]%".contains(byte)) {
                return Err(Malformed("a Host is not one"));
            }
        }
        Ok(())
    }
}

/// Digits and nothing else: no sign, no list.
fn decimal(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0_u64, |number, byte| {
        byte.is_ascii_digit().then(|| number.checked_mul(10)?.checked_add(u64::from(byte - b'0'))).flatten()
    })
}

/// A token (RFC 9110 §5.6.2).
fn is_token(text: &[u8]) -> bool {
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(legal)
}

#[cfg(test)]
#[path = "framing_tests.rs"]
mod tests;
