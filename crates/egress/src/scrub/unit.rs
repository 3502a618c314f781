//! Units: the ways in which a text may write one character. Pure, and bounded: a unit is at most [`REACH`] bytes long.
//!
//! Known are the character itself; `%XX`; `\uXXXX`, `\u{X}`, `\xXX` and the short escapes of JSON and of programming
//! languages, behind any number of backslashes (JSON within JSON doubles them); and HTML's character references. Each of
//! these may itself be written in units, up to [`DEPTH`] times over: `%2541`, `\u0026#65;`, `%5C%75%30%30%34%31`.

/// The longest unit, in bytes.
pub(super) const REACH: usize = 96;

/// How often an encoding may be encoded again.
const DEPTH: u8 = 3;

/// The named character references that software writes for ASCII characters that credentials may have.
const NAMED: &[(&[u8], u8)] = &[
    (b"amp", b'&'),
    (b"apos", b'\''),
    (b"colon", b':'),
    (b"equals", b'='),
    (b"gt", b'>'),
    (b"lowbar", b'_'),
    (b"lt", b'<'),
    (b"period", b'.'),
    (b"plus", b'+'),
    (b"quot", b'"'),
    (b"sol", b'/'),
];

const LONGEST_NAME: usize = 6;

/// The longest run of backslashes that is read as one: enough for JSON within JSON, four times over.
const LONGEST_RUN: usize = 16;

/// One way to read the beginning of a text: these bytes (a character in UTF-8, or one raw byte), written in `len` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unit {
    bytes: [u8; 4],
    count: u8,
    /// The bytes of text that it takes, at least 1.
    pub(super) len: usize,
}

impl Unit {
    /// A byte that stands for itself.
    pub(super) fn byte(byte: u8, len: usize) -> Self {
        Self { bytes: [byte, 0, 0, 0], count: 1, len }
    }

    fn code(code: u32, len: usize) -> Option<Self> {
        let mut bytes = [0; 4];
        let count = char::from_u32(code)?.encode_utf8(&mut bytes).len();
        Some(Self { bytes, count: u8::try_from(count).ok()?, len })
    }

    /// What it stands for.
    pub(super) fn meaning(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.count)).unwrap_or_default()
    }

    fn ascii(&self) -> Option<u8> {
        match self.meaning() {
            [byte] => Some(*byte),
            _ => None,
        }
    }
}

/// Whether more than the byte itself can begin here.
pub(super) fn is_introducer(byte: u8) -> bool {
    matches!(byte, b'%' | b'\\' | b'&')
}

/// Tells every way to read the beginning of the text, of which no more than [`REACH`] bytes are looked at.
pub(super) fn each(text: &[u8], found: &mut dyn FnMut(Unit)) {
    if let Some(short) = short_escape(text) {
        // The commonest by far, and no reading of it goes on: neither its character nor what follows begins anything more.
        super::work::count(1);
        found(Unit::byte(b'\\', 1));
        found(short);
        return;
    }
    each_to(text.get(..REACH).unwrap_or(text), DEPTH, found);
}

/// An escape of two bytes, of a character that begins no encoding.
fn short_escape(text: &[u8]) -> Option<Unit> {
    let (b'\\', kind) = (*text.first()?, *text.get(1)?) else { return None };
    short(kind).filter(|meaning| !is_introducer(*meaning)).map(|meaning| Unit::byte(meaning, 2))
}

/// What a backslash and this character stand for, where that is one character and the whole of the escape.
fn short(kind: u8) -> Option<u8> {
    match kind {
        b'b' => Some(8),
        b't' => Some(b'\t'),
        b'n' => Some(b'\n'),
        b'f' => Some(12),
        b'r' => Some(b'\r'),
        _ => kind.is_ascii_punctuation().then_some(kind),
    }
}

fn each_to(text: &[u8], depth: u8, found: &mut dyn FnMut(Unit)) {
    let Some(first) = text.first() else { return };
    super::work::count(1);
    found(Unit::byte(*first, 1));
    if depth == 0 || !is_introducer(*first) {
        return;
    }
    let is_run = text.get(1) == Some(&b'\\');
    each_to(text, depth - 1, &mut |introducer| {
        if is_run && introducer.len > 1 {
            return; // Part of a run of backslashes, which is read as a whole from its first.
        }
        let rest = Reader { text, at: introducer.len, depth: depth - 1 };
        match introducer.ascii() {
            Some(b'%') => found_if(rest.percent(), found),
            Some(b'&') => found_if(rest.reference(), found),
            Some(b'\\') => rest.escape(found),
            _ => {}
        }
    });
}

fn found_if(unit: Option<Unit>, found: &mut dyn FnMut(Unit)) {
    if let Some(unit) = unit {
        found(unit);
    }
}

/// Reads the rest of an encoding, each of its characters being a unit itself.
#[derive(Clone, Copy)]
struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    depth: u8,
}

impl Reader<'_> {
    /// The next character, if some reading of it is as wanted.
    fn take(&mut self, wanted: impl Fn(u8) -> bool) -> Option<u8> {
        let rest = self.text.get(self.at..)?;
        let raw = *rest.first()?;
        if wanted(raw) {
            self.at += 1;
            return Some(raw);
        }
        if self.depth == 0 || !is_introducer(raw) {
            return None;
        }
        let mut taken = None;
        each_to(rest, self.depth, &mut |unit| {
            if let Some(byte) = unit.ascii().filter(|byte| taken.is_none() && wanted(*byte)) {
                taken = Some((byte, unit.len));
            }
        });
        let (byte, len) = taken?;
        self.at += len;
        Some(byte)
    }

    fn takes(&mut self, wanted: u8) -> bool {
        self.take(|byte| byte == wanted).is_some()
    }

    /// Between `least` and `most` digits, as many as there are.
    fn number(&mut self, radix: u32, least: usize, most: usize) -> Option<u32> {
        let mut value: u32 = 0;
        let mut digits = 0;
        while digits < most {
            let Some(byte) = self.take(|byte| char::from(byte).is_digit(radix)) else { break };
            value = value.checked_mul(radix)?.checked_add(char::from(byte).to_digit(radix)?)?;
            digits += 1;
        }
        (digits >= least).then_some(value)
    }

    /// `%XX`, after the percent sign: a byte (RFC 3986 §2.1).
    fn percent(mut self) -> Option<Unit> {
        let byte = u8::try_from(self.number(16, 2, 2)?).ok()?;
        Some(Unit::byte(byte, self.at))
    }

    /// `&#N;`, `&#xN;` or `&name;`, after the ampersand. Browsers do not insist on the semicolon after a number.
    fn reference(mut self) -> Option<Unit> {
        if self.takes(b'#') {
            let radix = if self.take(|byte| byte == b'x' || byte == b'X').is_some() { 16 } else { 10 };
            let code = self.number(radix, 1, 8)?;
            self.takes(b';');
            return Unit::code(code, self.at);
        }
        let mut name = Vec::with_capacity(LONGEST_NAME);
        while name.len() < LONGEST_NAME {
            let Some(letter) = self.take(|byte| byte.is_ascii_lowercase()) else { break };
            name.push(letter);
        }
        let (_, byte) = NAMED.iter().find(|(known, _)| *known == name)?;
        self.takes(b';').then(|| Unit::byte(*byte, self.at))
    }

    /// What follows a backslash (RFC 8259 §7, and the escapes of JavaScript and C).
    fn escape(mut self, found: &mut dyn FnMut(Unit)) {
        // A backslash that is escaped once, twice or three times over is written as 2, 4 or 8 of them.
        let mut run = 1;
        while run < LONGEST_RUN && self.takes(b'\\') {
            run += 1;
            if matches!(run, 2 | 4 | 8) {
                found(Unit::byte(b'\\', self.at));
            }
        }
        let rest = self.text.get(self.at..).unwrap_or_default();
        if rest.first() == Some(&b'\\') {
            return; // The run is longer than any that is read as one.
        }
        each_to(rest, self.depth, &mut |kind| {
            let after = Self { at: self.at + kind.len, ..self };
            found_if(kind.ascii().and_then(|kind| after.escaped(kind)), found);
        });
    }

    /// What a backslash and this character begin.
    fn escaped(mut self, kind: u8) -> Option<Unit> {
        match kind {
            b'u' => self.unicode(),
            b'x' => {
                let byte = u8::try_from(self.number(16, 2, 2)?).ok()?;
                Some(Unit::byte(byte, self.at))
            }
            _ => short(kind).map(|meaning| Unit::byte(meaning, self.at)),
        }
    }

    /// `XXXX` or `{X}`, after `\u`. A character beyond U+FFFF is two of the former, its surrogates.
    fn unicode(&mut self) -> Option<Unit> {
        if self.takes(b'{') {
            let code = self.number(16, 1, 6)?;
            return if self.takes(b'}') { Unit::code(code, self.at) } else { None };
        }
        let high = self.number(16, 4, 4)?;
        if !(0xd800..0xdc00).contains(&high) {
            return Unit::code(high, self.at);
        }
        for _ in 0..LONGEST_RUN {
            if !self.takes(b'\\') {
                break;
            }
        }
        let low = if self.takes(b'u') { self.number(16, 4, 4)? } else { return None };
        let low = low.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
        Unit::code(0x1_0000 + ((high - 0xd800) << 10) + low, self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, usize)> {
        let mut units = Vec::new();
        each(text.as_bytes(), &mut |unit| {
            let reading = (String::from_utf8_lossy(unit.meaning()).into_owned(), unit.len);
            if !units.contains(&reading) {
                units.push(reading);
            }
        });
        units
    }

    #[test]
    fn a_character_is_read_in_every_way_it_may_be_written() {
        for (text, meaning) in [
            ("A", "A"),
            ("%41", "A"),
            ("%2f", "/"),
            ("%2F", "/"),
            ("%2541", "A"),
            ("%252541", "A"),
            ("%25%34%31", "A"),
            (r"\u0041", "A"),
            (r"\u002F", "/"),
            (r"\u002f", "/"),
            (r"\\u0041", "A"),
            (r"\\\\u0041", "A"),
            (r"\u00e9", "é"),
            (r"\ud83d\ude00", "😀"),
            (r"\u{41}", "A"),
            (r"\x41", "A"),
            (r"\/", "/"),
            (r"\\/", "/"),
            (r"\\\/", "/"),
            (r#"\""#, "\""),
            (r"\n", "\n"),
            (r"\\", "\\"),
            (r"\\\\", "\\"),
            ("%5Cu0041", "A"),
            ("%5C%75%30%30%34%31", "A"),
            ("%5C%2F", "/"),
            ("&#65;", "A"),
            ("&#x41;", "A"),
            ("&#X0041;", "A"),
            ("&#0065;", "A"),
            ("&#65", "A"),
            ("&amp;", "&"),
            ("&sol;", "/"),
            ("&amp;#65;", "A"),
            (r"\u0026#65;", "A"),
            (r"\u0026amp;#65;", "A"),
            (r"\u002541", "A"),
            ("&#37;41", "A"),
        ] {
            assert!(read(text).contains(&(meaning.to_owned(), text.len())), "{text}: {:?}", read(text));
        }
    }

    #[test]
    fn what_is_no_encoding_stands_for_itself() {
        for text in [
            "%", "%4", "%4g", r"\", r"\u004", r"\ud83d", r"\ud83dx", r"\u{}", r"\xg1", "&", "&#;", "&#x;", "&amp",
            "&nbsp;",
        ] {
            assert_eq!(read(text), [(text[..1].to_owned(), 1)], "{text}");
        }
    }

    #[test]
    fn a_short_escape_is_read_as_any_other() {
        for (kind, next) in (0..=u8::MAX).flat_map(|kind| (0..=u8::MAX).map(move |next| (kind, next))) {
            for text in [vec![b'\\', kind], vec![b'\\', kind, next], vec![b'\\', kind, next, b'4', b'1', b';']] {
                let (mut quick, mut whole) = (Vec::new(), Vec::new());
                each(&text, &mut |unit| quick.push(unit));
                each_to(&text, DEPTH, &mut |unit| whole.push(unit));
                assert!(
                    quick.iter().all(|unit| whole.contains(unit)) && whole.iter().all(|unit| quick.contains(unit)),
                    "{}: {quick:?}, {whole:?}",
                    text.escape_ascii()
                );
            }
        }
    }

    #[test]
    fn no_more_is_read_than_the_reach() {
        let padded = format!("&#x{}41;", "0".repeat(200));
        assert!(read(&padded).iter().all(|(_, len)| *len <= REACH));
        let run = format!("{}u0041", "\\".repeat(REACH));
        assert!(read(&run).iter().all(|(meaning, len)| *len <= REACH && meaning == "\\"));
    }
}
