//! The ways in which a text may be written, as data: what is planted to see that the search would find it.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};

/// A way to write a secret: its name, and the writing.
pub(crate) type Encoding = (&'static str, fn(&str) -> String);

/// Every encoding that is looked for.
pub(crate) const ENCODINGS: &[Encoding] = &[
    ("plain", str::to_owned),
    ("base64", |it| STANDARD.encode(it)),
    ("base64 after one byte", |it| STANDARD.encode(format!("?{it}"))),
    ("base64 after two bytes", |it| STANDARD.encode(format!("??{it}?"))),
    ("base64 without padding", |it| STANDARD_NO_PAD.encode(format!("{it}>"))),
    ("base64 for addresses", |it| URL_SAFE.encode(it)),
    ("base64 for addresses after one byte", |it| URL_SAFE_NO_PAD.encode(format!("?{it}??"))),
    ("base64 for addresses after two bytes", |it| URL_SAFE_NO_PAD.encode(format!("??{it}"))),
    ("base64 in lines", |it| lines(&STANDARD.encode(it), "\r\n")),
    ("base64 in a string's lines", |it| lines(&STANDARD.encode(it), "\\n")),
    ("base64 with slashes escaped", |it| STANDARD.encode(format!("???>{it}")).replace('/', "\\/")),
    ("base64 in an address", |it| STANDARD.encode(format!("?{it}")).replace('=', "%3D").replace('+', "%2B")),
    ("base64 in the middle of a word", |it| format!("abc{}xyz", STANDARD_NO_PAD.encode(format!("???{it}???")))),
    ("every byte by percent", |it| each(it, |_, byte| format!("%{byte:02X}"))),
    ("some bytes by percent", |it| some(it, |place, byte| two_cases(place, byte, "%"))),
    ("percent twice", |it| each(it, |_, byte| format!("%25{byte:02x}"))),
    ("every character escaped", |it| each(it, |_, byte| format!("\\u{byte:04x}"))),
    ("some characters escaped", |it| some(it, |place, byte| two_cases(place, byte, "\\u00"))),
    ("escaped twice", |it| each(it, |_, byte| format!("\\\\u{byte:04X}"))),
    ("escaped percent", |it| each(it, |_, byte| format!("\\u0025{byte:02x}"))),
    ("percent escapes", |it| each(it, |_, byte| format!("%5Cu{byte:04x}"))),
    ("decimal references", |it| each(it, |_, byte| format!("&#{byte};"))),
    ("hexadecimal references", |it| some(it, |_, byte| format!("&#x{byte:X};"))),
    ("escaped references", |it| each(it, |_, byte| format!("\\u0026#{byte};"))),
    ("hexadecimal", |it| hex::encode(it)),
    ("hexadecimal after half a byte", |it| format!("f{}", hex::encode_upper(it))),
];

fn lines(text: &str, end: &str) -> String {
    text.as_bytes().chunks(13).map(String::from_utf8_lossy).collect::<Vec<_>>().join(end)
}

fn each(text: &str, write: fn(usize, u8) -> String) -> String {
    text.bytes().enumerate().map(|(place, byte)| write(place, byte)).collect()
}

fn some(text: &str, write: fn(usize, u8) -> String) -> String {
    let or_plain = |(place, byte)| if place % 3 == 1 { write(place, byte) } else { char::from(byte).to_string() };
    text.bytes().enumerate().map(or_plain).collect()
}

fn two_cases(place: usize, byte: u8, before: &str) -> String {
    if place.is_multiple_of(2) { format!("{before}{byte:02x}") } else { format!("{before}{byte:02X}") }
}
