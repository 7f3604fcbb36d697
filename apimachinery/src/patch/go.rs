//! Values and types as Go's `fmt` prints them in the errors of patches.

use std::fmt::Write as _;

use serde_json::Value;

use crate::{field::quoted, json::go_type, numbers::general};

/// A value as `%v` prints it.
pub fn printed(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(printed).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(fields) => {
            let mut text = String::from("map[");
            for (place, (name, value)) in fields.iter().enumerate() {
                let gap = if place == 0 { "" } else { " " };
                let _infallible = write!(text, "{gap}{name}:{}", printed(value));
            }
            text + "]"
        }
        other => other.to_string(),
    }
}

/// A value as `%#v` prints it: as it is written in a program.
pub(crate) fn as_source(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::String(text) => quoted(text),
        Value::Number(number) if number.is_f64() => number.as_f64().map(general).unwrap_or_default(),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(as_source).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Object(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|(name, value)| format!("{}:{}", quoted(name), as_source(value))).collect();
            format!("map[string]interface {{}}{{{}}}", fields.join(", "))
        }
        other => other.to_string(),
    }
}

/// A value as `%s` prints it: what is no text says so.
pub(super) fn as_text(value: &Value) -> String {
    match value {
        Value::String(_) | Value::Array(_) | Value::Object(_) => printed(value),
        Value::Null => type_of(value).to_owned(),
        other => format!("%!s({}={other})", type_of(other)),
    }
}

/// The type of a value as `%s` prints it: null has none.
pub(super) fn type_of(value: &Value) -> &'static str {
    if value.is_null() { "%!s(<nil>)" } else { go_type(value) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_printed_as_go_prints_them() {
        let value = json!({"b": [1, "x", null], "a": {"c": true}});
        assert_eq!(printed(&value), "map[a:map[c:true] b:[1 x <nil>]]");
        let texts = [json!("x"), json!(1), json!(null), json!([]), json!(1.5)].map(|value| as_text(&value));
        assert_eq!(texts, ["x", "%!s(int64=1)", "%!s(<nil>)", "[]", "%!s(float64=1.5)"]);
    }
}
