//! Strings, regular expressions, encodings and named formats.

use apimachinery::{formats, names};
use base64::Engine as _;
use regex::Regex;

use super::{Outcome, format};
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
        ("format", [String(pattern), List(items)]) if method => format::format(pattern, items),
        ("strings.quote", [String(text)]) => Ok(quote(text).into()),
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

/// Where a part begins, in letters; -1 if it is nowhere. An empty one is where the search begins, wherever that is.
fn index_of(text: &str, part: &str, rest: &[Value], last: bool) -> Outcome {
    let count = |bytes: usize| text.get(..bytes).unwrap_or_default().chars().count() as i64;
    let from = match rest {
        [] => None,
        [Value::Int(from)] => Some(*from),
        _ => return Err(EvalError::NoSuchOverload),
    };
    if part.is_empty() {
        return Ok(Value::Int(from.unwrap_or_else(|| if last { count(text.len()) } else { 0 })));
    }
    let start = from
        .filter(|from| *from < 0)
        .map_or_else(|| Ok(from.map(|from| offset(text, from))), |from| Err(out_of_range(from)))?;
    let found = match (start, last) {
        (None, false) => text.find(part),
        (None, true) => text.rfind(part),
        // Beyond the end there is nothing.
        (Some(None), _) => None,
        (Some(Some(start)), false) => {
            text.get(start..).and_then(|rest| rest.find(part)).map(|found| found + start)
        }
        (Some(Some(end)), true) if end == text.len() => None,
        (Some(Some(end)), true) => {
            // It may begin there, and reach as far as it likes.
            let reach = text.get(end..).and_then(|rest| rest.char_indices().nth(part.chars().count()));
            let limit = reach.map_or(text.len(), |(length, _)| end + length);
            text.get(..limit).and_then(|rest| rest.rfind(part))
        }
    };
    Ok(Value::Int(found.map_or(-1, count)))
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
        // Go splits at an empty mark into letters, the last of which is all the rest.
        _ if mark.is_empty() => letters(text, limit),
        1.. => text.splitn(limit as usize, mark).map(Value::from).collect(),
        _ => text.split(mark).map(Value::from).collect(),
    };
    Value::list(parts)
}

fn letters(text: &str, limit: i64) -> Vec<Value> {
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let (mut parts, mut rest) = (Vec::new(), text.chars());
    while parts.len() + 1 < most
        && let Some(letter) = rest.next()
    {
        parts.push(letter.to_string().into());
    }
    if !rest.as_str().is_empty() {
        parts.push(rest.as_str().into());
    }
    parts
}

/// A text in quotes, with the escapes that expressions know by a letter.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            '\\' | '"' => quoted.extend(['\\', letter]),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

fn substring(text: &str, from: i64, to: Option<i64>) -> Outcome {
    if let Some(to) = to.filter(|to| from > *to) {
        return Err(EvalError::failed(format!("invalid substring range. start: {from}, end: {to}")));
    }
    let start = offset(text, from).ok_or_else(|| out_of_range(from))?;
    let end = match to {
        Some(to) => offset(text, to).ok_or_else(|| out_of_range(to))?,
        None => text.len(),
    };
    Ok(text.get(start..end).unwrap_or_default().into())
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
