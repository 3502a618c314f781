//! Canonical JSON by RFC 8785: the one text of a value, so that a hash or a MAC over it is one over its meaning.
//!
//! It writes what another implementation of the RFC writes, byte for byte: members in the order of their names' UTF-16 code units, numbers
//! as ECMAScript writes them. [`crate::json::canonical`] is older and differs from it in both; hashes over its texts are stored, and so it
//! stays as it is. Must never write a number that another reader could take for a different one.

use serde_json::{Number, Value};

/// Whole numbers up to here are all exact as IEEE 754 doubles (RFC 7493 §2.2).
const MOST_EXACT: u64 = 1 << 53;

/// A number that is no IEEE 754 double: its canonical text would stand for its neighbour as well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a number that is not exact as an IEEE 754 double")]
pub struct Inexact;

/// The canonical text of a value.
///
/// # Errors
/// [`Inexact`].
pub fn canonical(value: &Value) -> Result<String, Inexact> {
    let mut text = String::new();
    write(value, &mut text)?;
    Ok(text)
}

fn write(value: &Value, text: &mut String) -> Result<(), Inexact> {
    match value {
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write(item, text)?;
            }
            text.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
            text.push('{');
            for (index, (name, member)) in members.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                // Texts are escaped as RFC 8785 §3.2.2.2 wants it: the short forms where there are any, no others than needed.
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                write(member, text)?;
            }
            text.push('}');
        }
        Value::Number(number) => text.push_str(&in_ecmascript(exact(number)?)),
        scalar => text.push_str(&scalar.to_string()),
    }
    Ok(())
}

fn exact(number: &Number) -> Result<f64, Inexact> {
    let whole = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
    if whole.is_some_and(|whole| whole > MOST_EXACT) {
        return Err(Inexact);
    }
    number.as_f64().ok_or(Inexact)
}

/// A number as ECMAScript's `Number::toString` writes it (ECMA-262 §6.1.6.1.20): the fewest digits that stand for it, plainly between 1e-6
/// and 1e21, with an exponent otherwise.
fn in_ecmascript(number: f64) -> String {
    if number == 0.0 {
        // Minus zero is zero (RFC 8785 §3.2.2.3).
        return "0".to_owned();
    }
    let sign = if number < 0.0 { "-" } else { "" };
    let shortest = format!("{:e}", number.abs());
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let digits = even_of_two(number.abs(), mantissa.replace('.', ""), exponent);
    // The value is 0.DIGITS × 10^point.
    let point = exponent + 1;
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or_default());
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let plain = match point {
        _ if point >= count && point <= 21 => format!("{digits}{}", zeros(point - count)),
        1..=21 => {
            let (whole, rest) = digits.split_at(usize::try_from(point).unwrap_or_default());
            format!("{whole}.{rest}")
        }
        -5..=0 => format!("0.{}{digits}", zeros(-point)),
        _ => {
            let (first, rest) = digits.split_at(1);
            let dot = if rest.is_empty() { "" } else { "." };
            format!("{first}{dot}{rest}e{exponent:+}")
        }
    };
    format!("{sign}{plain}")
}

/// Of two texts of the same length that are equally near to the number, the even one: ECMAScript says which. Rust takes the upper one.
fn even_of_two(number: f64, digits: String, exponent: i32) -> String {
    /// A double has no more digits than that.
    const ALL: usize = 800;
    let exact = format!("{number:.ALL$e}");
    let exact: String = exact.chars().take_while(|letter| *letter != 'e').filter(char::is_ascii_digit).collect();
    let Some((lower, rest)) = exact.split_at_checked(digits.len()) else { return digits };
    let is_between = rest.starts_with('5') && rest.chars().skip(1).all(|digit| digit == '0');
    let is_even = lower.ends_with(['0', '2', '4', '6', '8']);
    let last = i32::try_from(digits.len()).unwrap_or(i32::MAX) - 1;
    // Beside a power of two the lower one may stand for the number below.
    let stands_for_it =
        || format!("{lower}e{}", exponent - last).parse::<f64>().is_ok_and(|read| read.total_cmp(&number).is_eq());
    if is_between && is_even && stands_for_it() { lower.to_owned() } else { digits }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn the_example_of_the_rfc() {
        // RFC 8785 §3.2.2 and §3.2.3.
        let value = json!({
            "numbers": [333_333_333.333_333_3, 1E30, 4.50, 2e-3, 0.000_000_000_000_000_000_000_000_001],
            "string": "\u{20ac}$\u{f}\nA'B\"\\\\\"/",
            "literals": [null, true, false],
        });
        assert_eq!(
            canonical(&value).unwrap(),
            "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
             \"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}"
        );
    }

    #[test]
    fn names_stand_in_the_order_of_their_utf16_units() {
        // RFC 8785 §3.2.3: by UTF-8's bytes, the smiling face would stand last.
        let value = json!({ "\u{20ac}": 1, "\r": 2, "\u{fb33}": 3, "1": 4, "\u{1f600}": 5, "\u{80}": 6, "\u{f6}": 7 });
        let text = canonical(&value).unwrap();
        let order: Vec<_> = ["\\r", "1", "\u{80}", "\u{f6}", "\u{20ac}", "\u{1f600}", "\u{fb33}"]
            .iter()
            .map(|name| text.find(&format!("\"{name}\":")).unwrap())
            .collect();
        assert!(order.is_sorted(), "{text}");
    }

    #[test]
    fn numbers_are_written_as_ecmascript_writes_them() {
        // RFC 8785, appendix B.
        for (bits, text) in [
            (0x0000_0000_0000_0000_u64, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0xc340_0000_0000_0000, "-9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5554, "333333333.33333325"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
            (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
        ] {
            assert_eq!(in_ecmascript(f64::from_bits(bits)), text, "{bits:#x}");
        }
    }

    #[test]
    fn what_is_no_double_has_no_canonical_text() {
        for exact in [json!(9_007_199_254_740_992_u64), json!(-9_007_199_254_740_992_i64), json!(1.5), json!(1e300)] {
            assert!(canonical(&exact).is_ok(), "{exact}");
        }
        for inexact in [json!(9_007_199_254_740_993_u64), json!(u64::MAX), json!(i64::MIN)] {
            assert_eq!(canonical(&json!({ "a": [inexact] })), Err(Inexact));
        }
    }

    proptest! {
        #[test]
        fn a_number_is_read_back_as_itself(bits: u64) {
            let number = f64::from_bits(bits);
            prop_assume!(number.is_finite());
            // Compared as numbers: zero has two signs and one text.
            prop_assert!(in_ecmascript(number).parse::<f64>().is_ok_and(|read| read.total_cmp(&number).is_eq() || number == 0.0));
        }

        #[test]
        fn a_number_between_two_texts_is_read_back_as_itself(whole in 0_u64..1 << 52, quarters in 0_u8..4) {
            // Ties lie among these: `1424953923781206.25`.
            let number = f64::from(u32::try_from(whole >> 21).unwrap()).mul_add(f64::from(1 << 21), f64::from(quarters) / 4.0);
            prop_assert!(in_ecmascript(number).parse::<f64>().is_ok_and(|read| read.total_cmp(&number).is_eq()));
        }

        #[test]
        fn a_text_is_read_back_as_itself(text: String) {
            let canonical = canonical(&Value::from(text.as_str())).unwrap();
            prop_assert_eq!(serde_json::from_str::<String>(&canonical).unwrap(), text);
        }
    }
}
