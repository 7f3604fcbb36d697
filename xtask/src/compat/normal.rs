//! Frees answers of what no two servers share.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A value without uids, times, versions, tokens, generated names and the server's own address.
pub(super) fn value(value: &Value, address: &str, names: &BTreeMap<String, String>) -> Value {
    match value {
        Value::Object(object) => Value::Object(fields(object, address, names)),
        Value::Array(items) => items.iter().map(|item| self::value(item, address, names)).collect(),
        Value::String(text) => self::text(text, address, names).into(),
        other => other.clone(),
    }
}

fn fields(
    object: &Map<String, Value>,
    address: &str,
    names: &BTreeMap<String, String>,
) -> Map<String, Value> {
    let suffixed = object.get("generateName").and_then(Value::as_str);
    let kept = object.iter().map(|(name, inner)| {
        let inner = match (name.as_str(), inner, suffixed) {
            ("uid", Value::String(text), _) if !text.is_empty() => "<uid>".into(),
            ("resourceVersion", Value::String(text), _) if !text.is_empty() => "<version>".into(),
            ("continue", Value::String(text), _) if !text.is_empty() => "<continue>".into(),
            ("name", Value::String(text), Some(prefix)) if text.starts_with(prefix) => {
                format!("{prefix}<suffix>").into()
            }
            // Discovery lists them in whatever order.
            ("verbs", Value::Array(verbs), _) => {
                let mut verbs = verbs.clone();
                verbs.sort_by_key(ToString::to_string);
                Value::Array(verbs)
            }
            _ => value(inner, address, names),
        };
        (name.clone(), inner)
    });
    kept.collect()
}

/// `5s`, `2m3s`: how a Table tells an age.
fn is_age(text: &str) -> bool {
    let units = text.bytes().filter(|byte| matches!(byte, b's' | b'm' | b'h' | b'd')).count();
    units > 0
        && text.ends_with(['s', 'm', 'h', 'd'])
        && text.bytes().filter(u8::is_ascii_digit).count() + units == text.len()
        && text.starts_with(|letter: char| letter.is_ascii_digit())
}

fn text(text: &str, address: &str, names: &BTreeMap<String, String>) -> String {
    if is_age(text) {
        return "<age>".to_owned();
    }
    let mut text = text.replace(address, "<server>");
    for (name, value) in names {
        // Short ones would be found anywhere.
        if name != "ns" && value.len() > 2 {
            text = text.replace(value.as_str(), &format!("<{name}>"));
        }
    }
    let text = replaced(&text, uid_at, "<uid>");
    let text = replaced(&text, time_at, "<time>");
    ["current: ", "in record (", "resource version: ", "resource version: <number> ("]
        .iter()
        .fold(text, |text, head| number_after(&text, head))
}

/// Replaces what `at` finds: it tells the length of a match at the beginning of a text.
fn replaced(text: &str, at: fn(&str) -> Option<usize>, with: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(letter) = rest.chars().next() {
        match at(rest) {
            Some(length) => {
                out.push_str(with);
                rest = &rest[length..];
            }
            None => {
                out.push(letter);
                rest = &rest[letter.len_utf8()..];
            }
        }
    }
    out
}

fn like(text: &str, pattern: &str, letter: fn(u8) -> bool) -> Option<usize> {
    let found = text.as_bytes().get(..pattern.len())?;
    let fits = found.iter().zip(pattern.bytes()).all(|(found, wanted)| match wanted {
        b'0' => letter(*found),
        other => *found == other,
    });
    fits.then_some(pattern.len())
}

fn uid_at(text: &str) -> Option<usize> {
    like(text, "00000000-0000-0000-0000-000000000000", |byte| byte.is_ascii_hexdigit())
}

fn time_at(text: &str) -> Option<usize> {
    let length = like(text, "0000-00-00T00:00:00", |byte| byte.is_ascii_digit())?;
    let rest = text.get(length..)?;
    let fraction = rest.find(|letter: char| letter != '.' && !letter.is_ascii_digit())?;
    rest[fraction..].starts_with('Z').then_some(length + fraction + 1)
}

fn number_after(text: &str, head: &str) -> String {
    let Some(start) = text.find(head).map(|at| at + head.len()) else { return text.to_owned() };
    let (before, rest) = text.split_at(start);
    let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    if digits == 0 { text.to_owned() } else { format!("{before}<number>{}", &rest[digits..]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_the_servers_own_goes() {
        let found = json!({
            "metadata": {"generateName": "a-", "name": "a-x7f2b", "uid": "u", "resourceVersion": "7", "labels": {"a": "b"}},
            "message": "at 2020-01-02T03:04:05Z 59105207-26cc-4faf-871e-589123ab85f1 on 127.0.0.1:1, current: 17 it was 2020-01-02T03:04:05.123456Z",
        });
        let normal = value(&found, "127.0.0.1:1", &BTreeMap::new());
        assert_eq!(
            normal,
            json!({
                "metadata": {"generateName": "a-", "name": "a-<suffix>", "uid": "<uid>", "resourceVersion": "<version>", "labels": {"a": "b"}},
                "message": "at <time> <uid> on <server>, current: <number> it was <time>",
            })
        );
    }
}
