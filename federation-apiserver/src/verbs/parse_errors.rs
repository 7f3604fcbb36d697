//! What is wrong with a text, in the words of Go's parsers: clients and test suites match on them.

use apimachinery::json::type_name;
pub(super) use apimachinery::patch::printed;
use serde_json::Value;
use serde_json::error::Category;

/// Bytes of a body that an error tells.
const SUMMARY_BYTES: usize = 30;

/// Parses JSON, or says where it is wrong.
pub(crate) fn parsed(text: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(text).map_err(|error| json_error(text, &error))
}

/// The error of Go's JSON parser where serde's has found one.
fn json_error(text: &[u8], error: &serde_json::Error) -> String {
    if error.classify() == Category::Eof || text.is_empty() {
        return "unexpected end of JSON input".to_owned();
    }
    let said = error.to_string();
    if said.starts_with("recursion limit exceeded") {
        return "exceeded max depth".to_owned();
    }
    let Some(letter) = letter_at(text, error.line(), error.column()) else { return said };
    let place = match said.split(" at line ").next().unwrap_or_default() {
        "key must be a string" => "looking for beginning of object key string",
        "expected `:`" => "after object key",
        "expected `,` or `}`" => "after object key:value pair",
        "expected `,` or `]`" => "after array element",
        "trailing characters" => "after top-level value",
        "trailing comma" if letter == '}' => "looking for beginning of object key string",
        "expected value" | "trailing comma" => "looking for beginning of value",
        "invalid escape" => "in string escape code",
        "invalid number" => "in numeric literal",
        other if other.starts_with("control character") => "in string literal",
        _ => return said,
    };
    match letter {
        '\'' => format!(r"invalid character '\'' {place}"),
        '"' => format!("invalid character '\"' {place}"),
        letter => format!("invalid character {letter:?} {place}"),
    }
}

/// The letter at a line and a column, both from 1. Go takes the byte that is there for a letter of its own.
fn letter_at(text: &[u8], line: usize, column: usize) -> Option<char> {
    let line = text.split(|byte| *byte == b'\n').nth(line.checked_sub(1)?)?;
    line.get(column.checked_sub(1)?).map(|byte| char::from(*byte))
}

/// Why a JSON value is no object, as Go says when it looks for its kind; none if it may be one.
pub(super) fn no_object(value: &Value) -> Option<String> {
    if value.is_null() || value.is_object() {
        return None;
    }
    let found = type_name(value);
    Some(format!(
        r#"json: cannot unmarshal {found} into Go value of type struct {{ APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }}"#
    ))
}

/// The beginning of a body, for people.
pub(super) fn summary(body: &[u8]) -> String {
    let (head, more) = match body.get(..SUMMARY_BYTES) {
        Some(head) if body.len() > SUMMARY_BYTES => (head, " ..."),
        _ => (body, ""),
    };
    match head.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(head)),
        Some(_) => format!("{}{more}", hex::encode(head)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: &str) {
        let found = serde_json::from_str::<Value>(text).map_err(|error| json_error(text.as_bytes(), &error));
        assert_eq!(found, Err(expect.to_owned()), "{text}");
    }

    #[test]
    fn broken_json_is_told_as_go_tells_it() {
        check("", "unexpected end of JSON input");
        check("{", "unexpected end of JSON input");
        check("{\"a\":1,}", "invalid character '}' looking for beginning of object key string");
        check("{\"a\" 1}", "invalid character '1' after object key");
        check("{\"a\":1 \"b\"}", "invalid character '\"' after object key:value pair");
        check("[1 2]", "invalid character '2' after array element");
        check("{} x", "invalid character 'x' after top-level value");
        check("{\n'a':1}", "invalid character '\\'' looking for beginning of object key string");
        check("x", "invalid character 'x' looking for beginning of value");
        check("é", "invalid character 'Ã' looking for beginning of value");
    }

    #[test]
    fn of_a_body_its_beginning_is_told() {
        assert_eq!((&*summary(b""), &*summary(b"[]"), &*summary(b"{}")), ("<empty>", "5b5d", "{}"));
        assert_eq!(summary(&[b'{'; 40]), format!("{} ...", "{".repeat(30)));
    }
}
