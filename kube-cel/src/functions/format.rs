//! `"%s is %d".format([…])`, as cel-go's library of strings has it (`ext/formatting.go`).

use apimachinery::{field::quoted, numbers};

use super::{Outcome, convert};
use crate::{Key, Value, error::EvalError};

/// Bytes that a text may have.
const TEXT_MAX: usize = 4 << 20;
/// Digits behind the point, if a clause does not say how many.
const DIGITS: usize = 6;
/// Of a double, more digits than these mean nothing.
const DIGITS_MAX: usize = 1000;

/// Fills values into a pattern.
pub(super) fn format(pattern: &str, items: &[Value]) -> Outcome {
    let (mut out, mut rest, mut at) = (String::new(), pattern, 0);
    while let Some((before, clause)) = rest.split_once('%') {
        out.push_str(before);
        if let Some(behind) = clause.strip_prefix('%') {
            out.push('%');
            rest = behind;
            continue;
        }
        let item = items.get(at).ok_or_else(|| EvalError::failed(format!("index {at} out of range")))?;
        if clause.is_empty() {
            return Err(EvalError::failed("unexpected end of string"));
        }
        let (digits, verb, behind) = parse(clause)
            .map_err(|why| EvalError::failed(format!("could not parse formatting clause: {why}")))?;
        let text = filled(verb, digits, item)
            .map_err(|why| EvalError::failed(format!("error during formatting: {why}")))?;
        out.push_str(&text);
        if out.len() > TEXT_MAX {
            return Err(EvalError::Budget);
        }
        (rest, at) = (behind, at + 1);
    }
    out.push_str(rest);
    Ok(out.into())
}

/// The digits behind the point and the verb of a clause, and what follows.
fn parse(clause: &str) -> Result<(usize, char, &str), String> {
    let (mut digits, mut rest) = (DIGITS, clause);
    if let Some(behind) = clause.strip_prefix('.') {
        let wrong = |why: &str| format!("error while parsing precision: {why}");
        let end = behind.find(|letter: char| !letter.is_ascii_digit());
        let end = end.ok_or_else(|| wrong("could not find end of precision specifier"))?;
        let number;
        (number, rest) = behind.split_at(end);
        let read = number.parse::<usize>().ok().filter(|digits| *digits <= DIGITS_MAX);
        digits = read.ok_or_else(|| {
            let what = if number.is_empty() { "invalid syntax" } else { "value out of range" };
            let why = format!("strconv.Atoi: parsing {}: {what}", quoted(number));
            wrong(&format!("error while converting precision to integer: {why}"))
        })?;
    }
    let mut letters = rest.chars();
    match letters.next().unwrap_or_default() {
        verb @ ('s' | 'd' | 'f' | 'e' | 'b' | 'x' | 'X' | 'o') => Ok((digits, verb, letters.as_str())),
        other => Err(format!("unrecognized formatting clause \"{other}\"")),
    }
}

/// What stands for a value.
fn filled(verb: char, digits: usize, item: &Value) -> Result<String, String> {
    let wrong = |what: &str| Err(format!("{what}, was given {}", item.type_name()));
    match (verb, item) {
        ('s', item) => shown(item),
        ('d' | 'b' | 'x' | 'X' | 'o', Value::Int(number)) => {
            let sign = if *number < 0 { "-" } else { "" };
            Ok(sign.to_owned() + &whole(verb, number.unsigned_abs()))
        }
        ('d' | 'b' | 'x' | 'X' | 'o', Value::Uint(number)) => Ok(whole(verb, *number)),
        ('b', Value::Bool(flag)) => Ok(String::from(if *flag { "1" } else { "0" })),
        ('x' | 'X', Value::String(text)) => Ok(hex(verb, text.as_bytes())),
        ('x' | 'X', Value::Bytes(bytes)) => Ok(hex(verb, bytes)),
        ('f' | 'e', item) => match (verb, double(item)) {
            ('f', Some(number)) => Ok(fixed(number, digits)),
            (_, Some(number)) => Ok(scientific(number, digits)),
            ('f', None) => wrong("fixed-point clause can only be used on doubles"),
            (_, None) => wrong("scientific clause can only be used on doubles"),
        },
        ('d', _) => wrong("decimal clause can only be used on integers"),
        ('b', _) => wrong("only integers and bools can be formatted as binary"),
        ('o', _) => wrong("octal clause can only be used on integers"),
        _ => wrong("only integers, byte buffers, and strings can be formatted as hex"),
    }
}

fn whole(verb: char, number: u64) -> String {
    match verb {
        'b' => format!("{number:b}"),
        'x' => format!("{number:x}"),
        'X' => format!("{number:X}"),
        'o' => format!("{number:o}"),
        _ => number.to_string(),
    }
}

fn hex(verb: char, bytes: &[u8]) -> String {
    let digit = |byte: &u8| if verb == 'x' { format!("{byte:02x}") } else { format!("{byte:02X}") };
    bytes.iter().map(digit).collect()
}

/// A double, or what is written for one that is no number.
fn double(item: &Value) -> Option<f64> {
    match item {
        Value::Double(number) => Some(*number),
        Value::String(text) => match &**text {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

/// As English has it: with a comma before each three digits.
fn fixed(number: f64, digits: usize) -> String {
    if let Some(odd) = no_number(number) {
        return odd;
    }
    let text = format!("{:.digits$}", number.abs());
    let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut out = String::from(if number.is_sign_negative() { "-" } else { "" });
    for (at, digit) in whole.char_indices() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + fraction
}

/// As English has it: `2.718280 × 10⁰⁰`. There are always six digits behind the point, and what should be their number is a width.
fn scientific(number: f64, width: usize) -> String {
    const SMALL: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let text = no_number(number).unwrap_or_else(|| {
        let text = format!("{number:.DIGITS$e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(("", exponent), |rest| ("⁻", rest));
        let small = |digit: char| digit.to_digit(10).and_then(|digit| SMALL.get(digit as usize));
        let exponent: String = format!("{exponent:0>2}").chars().filter_map(small).collect();
        format!("{digits}\u{202f}×\u{202f}10{sign}{exponent}")
    });
    format!("{text:>width$}")
}

fn no_number(number: f64) -> Option<String> {
    let text = match number {
        _ if number.is_nan() => "NaN",
        f64::INFINITY => "∞",
        f64::NEG_INFINITY => "-∞",
        _ => return None,
    };
    Some(text.to_owned())
}

/// A value as `%s` shows it.
fn shown(item: &Value) -> Result<String, String> {
    match item {
        Value::Null => Ok("null".to_owned()),
        Value::List(_) | Value::Map(_) => element(item),
        Value::Bool(_)
        | Value::Int(_)
        | Value::Uint(_)
        | Value::Double(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::Duration(_)
        | Value::Timestamp(_)
        | Value::Type(_) => text(item),
        _ => Err(format!(
            "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps, was given {}",
            item.type_name()
        )),
    }
}

/// A value in a list or a map, as an expression would write it.
fn element(item: &Value) -> Result<String, String> {
    match item {
        Value::String(text) => Ok(quoted(text)),
        Value::Bytes(_) => Ok(format!("b{}", quoted(&text(item)?))),
        Value::Timestamp(_) => Ok(format!("timestamp({})", quoted(&text(item)?))),
        Value::Duration(_) => Ok(format!("duration({})", quoted(&text(item)?))),
        Value::Double(number) if number.is_finite() => Ok(format!("{number:.DIGITS$}")),
        Value::Double(number) => Ok(quoted(&numbers::general(*number))),
        Value::List(items) => {
            let texts: Vec<_> = items.iter().map(element).collect::<Result<_, _>>()?;
            Ok(format!("[{}]", texts.join(", ")))
        }
        Value::Map(map) => {
            let entry = |(key, value): (&Key, &Value)| -> Result<(String, String), String> {
                let key = match key {
                    Key::String(text) => quoted(text),
                    other => other.to_string(),
                };
                Ok((key, element(value)?))
            };
            let mut entries: Vec<_> = map.iter().map(entry).collect::<Result<_, _>>()?;
            entries.sort();
            let texts: Vec<_> = entries.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
            Ok(format!("{{{}}}", texts.join(", ")))
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Type(_) => shown(item),
        other => Err(format!("no formatting function for {}", other.type_name())),
    }
}

fn text(item: &Value) -> Result<String, String> {
    match convert::text(item) {
        Ok(Value::String(text)) => Ok(text.to_string()),
        Ok(other) => Err(format!("could not convert argument {} to string", quoted(other.type_name()))),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::*;

    #[track_caller]
    fn check(pattern: &str, item: impl Into<Value>, expect: &str) {
        assert_eq!(format(pattern, &[item.into()]), Ok(expect.into()), "{pattern}");
    }

    #[test]
    fn lists_and_maps_are_shown_as_expressions_write_them() {
        let map = BTreeMap::from([
            (Key::String("b".into()), Value::Double(1.5)),
            (Key::String("a\"".into()), Value::list(vec!["x".into(), Value::Null])),
            (Key::Int(10), Value::Bool(true)),
            (Key::Int(9), Value::Double(f64::NAN)),
        ]);
        check("%s", Value::Map(Arc::new(map)), r#"{"a\"":["x", null], "b":1.500000, 10:true, 9:"NaN"}"#);
        let times = vec![Value::Duration(90_000_000_000), Value::Timestamp(jiff::Timestamp::UNIX_EPOCH)];
        check("%s", Value::list(times), r#"[duration("90s"), timestamp("1970-01-01T00:00:00Z")]"#);
        check("%s", Value::list(vec![Value::Bytes(Arc::from(*b"a\n"))]), r#"[b"a\n"]"#);
        check("%s", "a\"", "a\"");
        check("%s", Value::Double(1e6), "1e+06");
    }

    #[test]
    fn numbers_have_their_forms() {
        for (pattern, number, expect) in [
            ("%d", -5, "-5"),
            ("%b", -5, "-101"),
            ("%x", -255, "-ff"),
            ("%X", 255, "FF"),
            ("%o", 30, "36"),
            ("%x", i64::MIN, "-8000000000000000"),
        ] {
            check(pattern, Value::Int(number), expect);
        }
        check("%x", Value::Uint(u64::MAX), "ffffffffffffffff");
        check("%b%%", Value::Bool(true), "1%");
        check("%X", "hé", "68C3A9");
        check("%x", Value::Bytes(Arc::from([0, 255])), "00ff");
        for (pattern, number, expect) in [
            ("%f", 3.15, "3.150000"),
            ("%.0f", 999.5, "1,000"),
            ("%.2f", -1_234_567.891, "-1,234,567.89"),
            ("%.1f", 0.25, "0.2"),
            ("%f", f64::NEG_INFINITY, "-∞"),
            ("%e", 25.0, "2.500000\u{202f}×\u{202f}10⁰¹"),
            ("%.2e", -0.000_015, "-1.500000\u{202f}×\u{202f}10⁻⁰⁵"),
        ] {
            check(pattern, Value::Double(number), expect);
        }
        check("%f", "Infinity", "∞");
    }

    #[test]
    fn what_cannot_be_formatted_is_told_in_words_of_cel_go() {
        let told = |pattern: &str, item: Value| format(pattern, &[item]).map_err(|error| error.to_string());
        for (pattern, item, expect) in [
            (
                "%d",
                "a".into(),
                "error during formatting: decimal clause can only be used on integers, was given string",
            ),
            (
                "%f",
                Value::Int(1),
                "error during formatting: fixed-point clause can only be used on doubles, was given int",
            ),
            (
                "%x",
                Value::Double(1.0),
                "error during formatting: only integers, byte buffers, and strings can be formatted as hex, was given double",
            ),
            (
                "%b",
                Value::Null,
                "error during formatting: only integers and bools can be formatted as binary, was given null_type",
            ),
            ("%q", Value::Null, "could not parse formatting clause: unrecognized formatting clause \"q\""),
            (
                "%.f",
                Value::Null,
                "could not parse formatting clause: error while parsing precision: error while converting precision to integer: strconv.Atoi: parsing \"\": invalid syntax",
            ),
            (
                "%.5",
                Value::Null,
                "could not parse formatting clause: error while parsing precision: could not find end of precision specifier",
            ),
            ("%s%s", Value::Null, "index 1 out of range"),
            ("a%", Value::Null, "unexpected end of string"),
            (
                "%s",
                Value::list(vec![Value::Optional(None)]),
                "error during formatting: no formatting function for optional_type",
            ),
        ] {
            assert_eq!(told(pattern, item), Err(expect.to_owned()), "{pattern}");
        }
        assert!(told("%.999999999f", Value::Double(1.0)).is_err());
    }
}
