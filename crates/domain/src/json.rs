//! JSON from strangers, read strictly: one meaning a text, and bounds on everything that can grow.
//!
//! Two parsers that disagree on a repeated key can be played against each other (RFC 8259 §4 leaves it open; RFC 7493
//! §2.3 forbids it), so a repeated key is a fault here and never a choice. This module must never repair or guess.

use std::{cell::RefCell, fmt};

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How much of a stranger's JSON is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest text, in bytes.
    pub bytes: usize,
    /// How many arrays and objects may be open at once.
    pub depth: usize,
}

impl Limits {
    /// The depth that every body of Keyholder's own API keeps to.
    pub const DEPTH: usize = 32;

    /// Texts of at most so many bytes, nested at most [`Limits::DEPTH`] deep.
    pub const fn bytes(bytes: usize) -> Self {
        Self { bytes, depth: Self::DEPTH }
    }
}

/// Why a text is not taken as JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    /// Longer than the limit, in bytes.
    #[error("longer than {limit} bytes")]
    TooLong {
        /// The limit that was passed.
        limit: usize,
    },
    /// More arrays and objects inside each other than the limit.
    #[error("nested deeper than {limit} levels")]
    TooDeep {
        /// The limit that was passed.
        limit: usize,
    },
    /// An object names the same member twice.
    #[error("an object has two members {key:?}")]
    DuplicateKey {
        /// The member's name, at most its first 64 characters.
        key: String,
    },
    /// Not JSON, or not UTF-8.
    #[error("not JSON: line {line}, column {column}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// In bytes, counted from 1; 0 at the very beginning of a line.
        column: usize,
    },
}

/// Reads one JSON text, whole.
///
/// # Errors
/// [`JsonFault`] where the text is too long, too deep, not JSON, followed by anything but blanks, or repeats a key.
pub fn parse_strict(bytes: &[u8], limits: Limits) -> Result<Value, JsonFault> {
    if bytes.len() > limits.bytes {
        return Err(JsonFault::TooLong { limit: limits.bytes });
    }
    let fault = RefCell::new(None);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let seed = Strict { limit: limits.depth, left: limits.depth, fault: &fault };
    let read = seed.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    read.map_err(|error| {
        fault.take().unwrap_or_else(|| {
            // The reader has a depth limit of its own, reached first only where the caller allows more than 127 levels.
            JsonFault::Syntax { line: error.line(), column: error.column() }
        })
    })
}

/// The one text of a value: members in the order of their names' bytes, no blanks. Equal values have equal texts, so
/// that the text can be hashed.
pub fn canonical(value: &Value) -> Vec<u8> {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text.into_bytes()
}

fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_canonical(item, text);
            }
            text.push(']');
        }
        Value::Object(members) => {
            // Sorted here, since a feature of serde_json that any crate may switch on keeps members in order of
            // insertion.
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(key, _)| *key);
            text.push('{');
            for (index, (key, member)) in members.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                write_canonical(member, text);
            }
            text.push('}');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}

/// Reads any value, counting down the levels that are left.
#[derive(Clone, Copy)]
struct Strict<'a> {
    limit: usize,
    left: usize,
    fault: &'a RefCell<Option<JsonFault>>,
}

impl Strict<'_> {
    /// Notes the fault beside the reader, whose own error can carry only words.
    fn refuse<E: de::Error>(self, fault: JsonFault) -> E {
        let words = E::custom(&fault);
        self.fault.replace(Some(fault));
        words
    }

    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        match self.left.checked_sub(1) {
            Some(left) => Ok(Self { left, ..self }),
            None => Err(self.refuse(JsonFault::TooDeep { limit: self.limit })),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(self.refuse(JsonFault::DuplicateKey { key: key.chars().take(64).collect() }));
            }
            let member = members.next_value_seed(inner)?;
            object.insert(key, member);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn parse(text: &str) -> Result<Value, JsonFault> {
        parse_strict(text.as_bytes(), Limits { bytes: 64, depth: 3 })
    }

    #[test]
    fn what_is_read() {
        for (text, value) in [
            ("null", json!(null)),
            (" {\"a\" : [1, -2, 1.5, true, \"\\u00e9\\n\"]}\n", json!({"a": [1, -2, 1.5, true, "é\n"]})),
            ("{\"$serde_json::private::Number\":\"1\"}", json!({"$serde_json::private::Number": "1"})),
            ("{\"$serde_json::private::RawValue\":\"1\"}", json!({"$serde_json::private::RawValue": "1"})),
            ("18446744073709551615", json!(u64::MAX)),
            ("[[[]]]", json!([[[]]])),
        ] {
            assert_eq!(parse(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_is_refused() {
        let syntax = |line, column| JsonFault::Syntax { line, column };
        let twice = |key: &str| JsonFault::DuplicateKey { key: key.to_owned() };
        for (text, fault) in [
            ("", syntax(1, 0)),
            ("{", syntax(1, 1)),
            ("{}{}", syntax(1, 3)),
            ("{\n  \"a\": 01}", syntax(2, 9)),
            ("\"\\ud800\"", syntax(1, 8)),
            ("\u{feff}{}", syntax(1, 1)),
            ("[1,]", syntax(1, 4)),
            ("NaN", syntax(1, 1)),
            ("1e999", syntax(1, 5)),
            ("{\"a\":1,\"a\":1}", twice("a")),
            ("{\"a\":1,\"\\u0061\":2}", twice("a")),
            ("[{\"b\":{\"c\":0,\"c\":0}}]", twice("c")),
            ("[[[[]]]]", JsonFault::TooDeep { limit: 3 }),
            ("{\"a\":{\"b\":{\"c\":{}}}}", JsonFault::TooDeep { limit: 3 }),
            (&"[".repeat(64), JsonFault::TooDeep { limit: 3 }),
            (&" ".repeat(65), JsonFault::TooLong { limit: 64 }),
        ] {
            assert_eq!(parse(text), Err(fault), "{text}");
        }
        assert_eq!(parse_strict(b"\"\xff\"", Limits::bytes(9)), Err(syntax(1, 2)), "not UTF-8");
    }

    #[test]
    fn the_callers_text_is_cut_before_it_is_repeated() {
        let key = "k".repeat(1000);
        let text = format!("{{\"{key}\":1,\"{key}\":2}}");
        let fault = parse_strict(text.as_bytes(), Limits::bytes(4096)).unwrap_err();
        assert_eq!(fault, JsonFault::DuplicateKey { key: "k".repeat(64) });
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-c\"\\\\é]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c\"é]{0,3}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_canonical_text_means_the_value_and_has_one_form(value in any_json()) {
            let text = canonical(&value);
            let read = parse_strict(&text, Limits::bytes(1 << 20)).unwrap();
            prop_assert_eq!(&read, &value);
            prop_assert_eq!(canonical(&read), text);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse_strict(&bytes, Limits { bytes: 60, depth: 2 });
        }
    }
}
