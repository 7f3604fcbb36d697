//! JSON's types by name.

use serde_json::Value;

/// What Go's encoding/json calls a value in its errors, for example `cannot unmarshal number`.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
