//! Strings, regular expressions, encodings and named formats.

use apimachinery::{formats, names};
use base64::Engine as _;
use regex::Regex;

use super::{Outcome, convert};
use crate::{Value, error::EvalError};

/// Compiled size of a pattern: keeps repetition of repetitions from taking memory.
const PATTERN_SIZE_MAX: usize = 1 << 20;
/// Bytes that a string operation may make.
const TEXT_MAX: usize = 4 << 20;

/// The functions that look for what a regular expression means.
pub(crate) const SEARCHES: [&str; 3] = ["matches", "find", "findAll"];

/// The regular expression that a call names, if it is one of those.
pub(crate) fn pattern<'v>(name: &str, values: &'v [Value]) -> Option<&'v str> {
    match values {
        [Value::String(_), Value::String(pattern), ..] if SEARCHES.contains(&name) => Some(pattern),
        _ => None,
    }
}

/// Calls one of them with the expression as it was compiled.
pub(crate) fn search(name: &str, values: &[Value], regex: &Regex) -> Outcome {
    match (name, values) {
        ("matches", [Value::String(text), _]) => Ok(Value::Bool(regex.is_match(text))),
        ("find", [Value::String(text), _]) => Ok(regex.find(text).map_or("", |found| found.as_str()).into()),
        ("findAll", [Value::String(text), _, rest @ ..]) => {
            let limit = match rest {
                [Value::Int(limit)] => usize::try_from(*limit).unwrap_or(usize::MAX),
                _ => usize::MAX,
            };
            let found = regex.find_iter(text).take(limit);
            Ok(Value::list(found.map(|found| found.as_str().into()).collect()))
        }
        _ => Err(EvalError::NoSuchOverload),
    }
}

pub(super) fn call(name: &str, method: bool, values: &[Value]) -> Option<Outcome> {
    use Value::{Bytes, Int, List, String};
    Some(match (name, values) {
        ("contains", [String(text), String(part)]) => Ok(Value::Bool(text.contains(&**part))),
        ("startsWith", [String(text), String(part)]) => Ok(Value::Bool(text.starts_with(&**part))),
        ("endsWith", [String(text), String(part)]) => Ok(Value::Bool(text.ends_with(&**part))),
        ("charAt", [String(text), Int(at)]) => char_at(text, *at),
        ("indexOf", [String(text), String(part), rest @ ..]) => index_of(text, part, rest, false),
        ("lastIndexOf", [String(text), String(part), rest @ ..]) => index_of(text, part, rest, true),
        ("lowerAscii", [String(text)]) => Ok(text.to_ascii_lowercase().into()),
        ("upperAscii", [String(text)]) => Ok(text.to_ascii_uppercase().into()),
        ("trim", [String(text)]) => Ok(text.trim().into()),
        ("reverse", [String(text)]) => Ok(text.chars().rev().collect::<std::string::String>().into()),
        ("replace", [String(text), String(from), String(to), rest @ ..]) => replace(text, from, to, rest),
        ("split", [String(text), String(mark), rest @ ..]) => Ok(split(text, mark, rest)),
        ("substring", [String(text), Int(from)]) => substring(text, *from, None),
        ("substring", [String(text), Int(from), Int(to)]) => substring(text, *from, Some(*to)),
        ("join", [List(items), rest @ ..]) => {
            let mark = match rest {
                [String(mark)] => &**mark,
                _ => "",
            };
            join(items, mark)
        }
        ("format", [String(pattern), List(items)]) if method => format(pattern, items),
        ("strings.quote", [String(text)]) => Ok(format!("{text:?}").into()),
        ("jsonpatch.escapeKey", [String(text)]) => Ok(text.replace('~', "~0").replace('/', "~1").into()),
        ("base64.encode", [Bytes(bytes)]) => {
            Ok(base64::engine::general_purpose::STANDARD.encode(bytes).into())
        }
        ("base64.decode", [String(text)]) => base64::engine::general_purpose::STANDARD
            .decode(&**text)
            .map(|bytes| Bytes(bytes.into()))
            .map_err(|error| EvalError::failed(format!("illegal base64 data: {error}"))),
        ("format.named", [String(name)]) => Ok(FORMATS
            .iter()
            .find(|known| **known == &**name)
            .map_or(Value::Optional(None), |known| Value::some(Value::Format(known)))),
        ("validate", [Value::Format(format), String(text)]) => Ok(validate(format, text)),
        _ => {
            let known = name.strip_prefix("format.").filter(|_| values.is_empty())?;
            let format = FORMATS.iter().find(|format| **format == known)?;
            Ok(Value::Format(format))
        }
    })
}

const FORMATS: [&str; 13] = [
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "qualifiedName",
    "dns1123LabelPrefix",
    "dns1123SubdomainPrefix",
    "dns1035LabelPrefix",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime",
];

/// None if the text has the format, else what is wrong with it.
fn validate(format: &str, text: &str) -> Value {
    let prefix = |check: fn(&str) -> Vec<String>| {
        // A prefix may end with the dash that generated names need.
        let whole = text.strip_suffix('-').map_or_else(|| text.to_owned(), |stem| format!("{stem}a"));
        check(&whole)
    };
    let plain = |good: bool, what: &str| {
        if good { Vec::new() } else { vec![what.to_owned()] }
    };
    let faults = match format {
        "dns1123Label" => names::dns1123_label(text),
        "dns1123Subdomain" => names::dns1123_subdomain(text),
        "dns1035Label" => names::dns1035_label(text),
        "dns1123LabelPrefix" => prefix(names::dns1123_label),
        "dns1123SubdomainPrefix" => prefix(names::dns1123_subdomain),
        "dns1035LabelPrefix" => prefix(names::dns1035_label),
        "qualifiedName" => names::qualified_name(text),
        "labelValue" => names::label_value(text),
        "uri" => plain(super::net::parse_url(text).is_some(), "invalid URI"),
        "uuid" => plain(formats::is_uuid(text, None), "does not match the UUID format"),
        "byte" => plain(formats::is_base64(text), "invalid base64"),
        "date" => plain(formats::is_date(text), "invalid date"),
        _ => plain(formats::is_date_time(text), "invalid datetime"),
    };
    if faults.is_empty() {
        return Value::Optional(None);
    }
    Value::some(Value::list(faults.into_iter().map(Value::from).collect()))
}

/// Compiles a pattern, within bounds.
pub(crate) fn compile(pattern: &str) -> Result<Regex, EvalError> {
    regex::RegexBuilder::new(pattern)
        .size_limit(PATTERN_SIZE_MAX)
        .dfa_size_limit(PATTERN_SIZE_MAX)
        .build()
        .map_err(|error| EvalError::failed(format!("error parsing regexp: {error}")))
}

fn offset(text: &str, at: i64) -> Option<usize> {
    let at = usize::try_from(at).ok()?;
    let mut offsets = text.char_indices().map(|(offset, _)| offset).chain([text.len()]);
    offsets.nth(at)
}

fn out_of_range(at: i64) -> EvalError {
    EvalError::failed(format!("index out of range: {at}"))
}

fn char_at(text: &str, at: i64) -> Outcome {
    let offset = offset(text, at).ok_or_else(|| out_of_range(at))?;
    let rest = text.get(offset..).unwrap_or_default();
    Ok(rest.chars().next().map(String::from).unwrap_or_default().into())
}

fn index_of(text: &str, part: &str, rest: &[Value], last: bool) -> Outcome {
    let count = |bytes: usize| Value::Int(text.get(..bytes).unwrap_or_default().chars().count() as i64);
    let found = match (rest, last) {
        ([], false) => text.find(part),
        ([], true) => text.rfind(part),
        ([Value::Int(from)], false) => {
            let start = offset(text, *from).ok_or_else(|| out_of_range(*from))?;
            text.get(start..).and_then(|rest| rest.find(part)).map(|found| found + start)
        }
        ([Value::Int(from)], true) => {
            let end = offset(text, *from).ok_or_else(|| out_of_range(*from))?;
            let limit = (end + part.len()).min(text.len());
            text.get(..limit).and_then(|rest| rest.rfind(part))
        }
        _ => return Err(EvalError::NoSuchOverload),
    };
    Ok(found.map_or(Value::Int(-1), count))
}

fn replace(text: &str, from: &str, to: &str, rest: &[Value]) -> Outcome {
    let grown = (text.len() + 1).saturating_mul(to.len() + 1);
    if grown > TEXT_MAX && text.matches(from).count().saturating_mul(to.len()) > TEXT_MAX {
        return Err(EvalError::Budget);
    }
    Ok(match rest {
        [Value::Int(limit)] if *limit >= 0 => text.replacen(from, to, *limit as usize).into(),
        _ => text.replace(from, to).into(),
    })
}

fn split(text: &str, mark: &str, rest: &[Value]) -> Value {
    let limit = match rest {
        [Value::Int(limit)] => *limit,
        _ => -1,
    };
    let parts: Vec<Value> = match limit {
        0 => Vec::new(),
        // Go splits an empty separator into letters.
        _ if mark.is_empty() => text.chars().map(|letter| letter.to_string().into()).collect(),
        1.. => text.splitn(limit as usize, mark).map(Value::from).collect(),
        _ => text.split(mark).map(Value::from).collect(),
    };
    Value::list(parts)
}

fn substring(text: &str, from: i64, to: Option<i64>) -> Outcome {
    let start = offset(text, from).ok_or_else(|| out_of_range(from))?;
    let end = match to {
        Some(to) => offset(text, to).ok_or_else(|| out_of_range(to))?,
        None => text.len(),
    };
    let part = text.get(start..end);
    part.map(Value::from).ok_or_else(|| {
        EvalError::failed(format!("invalid substring range. start: {from}, end: {}", to.unwrap_or(0)))
    })
}

fn join(items: &[Value], mark: &str) -> Outcome {
    let mut texts = Vec::with_capacity(items.len());
    for item in items {
        match item {
            Value::String(text) => texts.push(&**text),
            _ => return Err(EvalError::NoSuchOverload),
        }
    }
    Ok(texts.join(mark).into())
}

/// `"%s is %d".format([…])`.
fn format(pattern: &str, items: &[Value]) -> Outcome {
    let mut out = String::new();
    let mut items = items.iter();
    let mut letters = pattern.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let mut precision = None;
        if letters.next_if_eq(&'.').is_some() {
            let mut digits = 0_usize;
            while let Some(digit) = letters.peek().and_then(|letter| letter.to_digit(10)) {
                digits = digits * 10 + digit as usize;
                letters.next();
                if digits > 100 {
                    return Err(EvalError::failed("precision is larger than 100"));
                }
            }
            precision = Some(digits);
        }
        let verb = letters.next().ok_or_else(|| EvalError::failed("unexpected end of string"))?;
        if verb == '%' {
            out.push('%');
            continue;
        }
        let item = items.next().ok_or_else(|| EvalError::failed("index out of range"))?;
        let text = clause(verb, precision, item)?;
        out.push_str(&text);
        if out.len() > TEXT_MAX {
            return Err(EvalError::Budget);
        }
    }
    Ok(out.into())
}

fn clause(verb: char, precision: Option<usize>, item: &Value) -> Result<String, EvalError> {
    let digits = precision.unwrap_or(6);
    Ok(match (verb, item) {
        ('s', item) => shown(item),
        ('d', Value::Int(number)) => number.to_string(),
        ('d', Value::Uint(number)) => number.to_string(),
        ('f', Value::Double(number)) => format!("{number:.digits$}"),
        ('f', Value::Int(number)) => format!("{:.digits$}", *number as f64),
        ('e', Value::Double(number)) => format!("{number:.digits$e}"),
        ('b', Value::Int(number)) => format!("{number:b}"),
        ('b', Value::Bool(flag)) => String::from(if *flag { "1" } else { "0" }),
        ('o', Value::Int(number)) => format!("{number:o}"),
        ('x', Value::Int(number)) => format!("{number:x}"),
        ('X', Value::Int(number)) => format!("{number:X}"),
        ('x', Value::String(text)) => text.bytes().fold(String::new(), |mut text, byte| {
            text.push_str(&format!("{byte:02x}"));
            text
        }),
        _ => {
            return Err(EvalError::failed(format!(
                "error during formatting: %{verb} does not take {}",
                item.type_name()
            )));
        }
    })
}

fn shown(item: &Value) -> String {
    match item {
        Value::Null => "null".to_owned(),
        Value::List(items) => {
            let texts: Vec<_> = items.iter().map(shown).collect();
            format!("[{}]", texts.join(", "))
        }
        Value::Map(map) => {
            let texts: Vec<_> = map
                .iter()
                .map(|(key, value)| {
                    let key = match key {
                        crate::Key::String(text) => text.to_string(),
                        crate::Key::Int(number) => number.to_string(),
                        crate::Key::Uint(number) => number.to_string(),
                        crate::Key::Bool(flag) => flag.to_string(),
                    };
                    format!("{key}: {}", shown(value))
                })
                .collect();
            format!("{{{}}}", texts.join(", "))
        }
        other => match convert::text(other) {
            Ok(Value::String(text)) => text.to_string(),
            _ => other.type_name().to_owned(),
        },
    }
}
