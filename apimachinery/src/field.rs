//! Field paths and field errors, as `k8s.io/apimachinery/pkg/util/validation/field` prints them.

use std::fmt;

use serde_json::Value;

/// The path of a field in an object, such as `spec.template.spec.containers[0].name`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(String);

impl FieldPath {
    /// Starts a path at a top-level field; an empty name is the object itself.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// A field below this one: `spec` + `replicas` is `spec.replicas`.
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.to_owned()) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// An element of this list: `containers[0]`.
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// An entry of this map: `labels[app]`.
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for FieldPath {
    fn from(path: &str) -> Self {
        Self(path.to_owned())
    }
}

/// What is wrong with a field: the `reason` of a Status cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldReason {
    /// A value that is referred to does not exist.
    NotFound,
    /// The field must be given.
    Required,
    /// The value must be unique and is not.
    Duplicate,
    /// The value breaks a rule.
    Invalid,
    /// The value is not in the list of known values.
    NotSupported,
    /// The value may not be given here.
    Forbidden,
    /// The value is longer than allowed.
    TooLong,
    /// The list has more items than allowed.
    TooMany,
    /// The value has a JSON type that the field does not take.
    TypeInvalid,
    /// The check itself failed.
    Internal,
}

impl FieldReason {
    /// The wire form, as `metav1.CauseType`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

/// One fault of one field. `message` excludes the field's name; `Display` includes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The kind of fault.
    pub reason: FieldReason,
    /// The field, such as `spec.replicas`.
    pub field: String,
    /// The text behind the field, such as `Invalid value: -1: must be greater than or equal to 0`.
    pub message: String,
}

impl FieldError {
    /// Builds an error from its parts; the value is printed when the reason prints one.
    pub fn new(reason: FieldReason, field: &FieldPath, value: Option<&Value>, detail: &str) -> Self {
        let mut message = reason.words().to_owned();
        if let Some(value) = value {
            message.push_str(": ");
            match value {
                Value::String(text) => quote(text, &mut message),
                // Numbers are bare, as Go's %v prints them, and whatever has parts is JSON.
                other => message.push_str(&other.to_string()),
            }
        }
        if !detail.is_empty() {
            message.push_str(": ");
            message.push_str(detail);
        }
        Self { reason, field: field.0.clone(), message }
    }

    /// `Required value`, with a detail unless empty.
    pub fn required(field: &FieldPath, detail: &str) -> Self {
        Self::new(FieldReason::Required, field, None, detail)
    }

    /// `Invalid value: VALUE: detail`.
    pub fn invalid(field: &FieldPath, value: impl Into<Value>, detail: &str) -> Self {
        Self::new(FieldReason::Invalid, field, Some(&value.into()), detail)
    }

    /// `Invalid value: VALUE: detail` for a value of the wrong JSON type.
    pub fn type_invalid(field: &FieldPath, value: impl Into<Value>, detail: &str) -> Self {
        Self::new(FieldReason::TypeInvalid, field, Some(&value.into()), detail)
    }

    /// `Duplicate value: VALUE`.
    pub fn duplicate(field: &FieldPath, value: impl Into<Value>) -> Self {
        Self::new(FieldReason::Duplicate, field, Some(&value.into()), "")
    }

    /// `Not found: VALUE`.
    pub fn not_found(field: &FieldPath, value: impl Into<Value>) -> Self {
        Self::new(FieldReason::NotFound, field, Some(&value.into()), "")
    }

    /// `Unsupported value: VALUE: supported values: "a", "b"`.
    pub fn not_supported(field: &FieldPath, value: impl Into<Value>, supported: &[&str]) -> Self {
        let mut names: Vec<String> = supported.iter().map(|name| format!("{name:?}")).collect();
        names.sort();
        let detail =
            if names.is_empty() { String::new() } else { format!("supported values: {}", names.join(", ")) };
        Self::new(FieldReason::NotSupported, field, Some(&value.into()), &detail)
    }

    /// The same with the supported values in an order of their own.
    pub fn not_listed(field: &FieldPath, value: impl Into<Value>, supported: &[&str]) -> Self {
        let names: Vec<String> = supported.iter().map(|name| format!("{name:?}")).collect();
        let detail = format!("supported values: {}", names.join(", "));
        Self::new(FieldReason::NotSupported, field, Some(&value.into()), &detail)
    }

    /// `Forbidden: detail`.
    pub fn forbidden(field: &FieldPath, detail: &str) -> Self {
        Self::new(FieldReason::Forbidden, field, None, detail)
    }

    /// `Too long: may not be more than N bytes`.
    pub fn too_long(field: &FieldPath, max_bytes: usize) -> Self {
        Self::new(FieldReason::TooLong, field, None, &format!("may not be more than {max_bytes} bytes"))
    }

    /// `Too many: N: must have at most M items`.
    pub fn too_many(field: &FieldPath, actual: usize, max: usize) -> Self {
        let items = if max == 1 { "item" } else { "items" };
        Self::new(
            FieldReason::TooMany,
            field,
            Some(&Value::from(actual)),
            &format!("must have at most {max} {items}"),
        )
    }

    /// `Internal error: detail`.
    pub fn internal(field: &FieldPath, detail: &str) -> Self {
        Self::new(FieldReason::Internal, field, None, detail)
    }
}

/// A text as Go's `%q` prints it.
fn quote(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        let short = match letter {
            '"' => "\\\"",
            '\\' => "\\\\",
            '\u{7}' => "\\a",
            '\u{8}' => "\\b",
            '\t' => "\\t",
            '\n' => "\\n",
            '\u{b}' => "\\v",
            '\u{c}' => "\\f",
            '\r' => "\\r",
            _ => "",
        };
        match letter {
            _ if !short.is_empty() => out.push_str(short),
            '\0'..='\u{1f}' | '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(letter))),
            _ if letter.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            _ => out.push(letter),
        }
    }
    out.push('"');
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.field, self.message)
        }
    }
}

impl std::error::Error for FieldError {}

/// Joins errors as Go's `Aggregate` does: one bare, several in brackets, each text once.
pub fn aggregate(errors: &[FieldError]) -> String {
    let mut texts: Vec<String> = Vec::with_capacity(errors.len());
    for error in errors {
        let text = error.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    match texts.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_kubernetes() {
        let spec = FieldPath::new("spec");
        assert_eq!(
            FieldError::invalid(&spec.child("replicas"), -1, "must be greater than or equal to 0")
                .to_string(),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0"
        );
        assert_eq!(
            FieldError::not_supported(&spec.child("type"), "X", &["B", "A"]).to_string(),
            r#"spec.type: Unsupported value: "X": supported values: "A", "B""#
        );
        assert_eq!(
            FieldError::required(&spec.child("selector"), "").to_string(),
            "spec.selector: Required value"
        );
        assert_eq!(
            FieldError::duplicate(&spec.child("ports").index(1).child("name"), "http").to_string(),
            r#"spec.ports[1].name: Duplicate value: "http""#
        );
    }

    #[test]
    fn texts_are_quoted_as_go_quotes_them() {
        let told = |text: &str| FieldError::duplicate(&FieldPath::new("f"), text).message;
        for (text, quoted) in [
            ("a \"b\" \\ é 字", r#""a \"b\" \\ é 字""#),
            ("\u{7}\u{b}\n\t", r#""\a\v\n\t""#),
            ("\u{1}\u{7f}\u{85}", r#""\x01\x7f\u0085""#),
        ] {
            assert_eq!(told(text), format!("Duplicate value: {quoted}"));
        }
    }

    #[test]
    fn several_errors_are_bracketed_and_each_is_told_once() {
        let a = FieldError::required(&FieldPath::new("a"), "");
        let b = FieldError::forbidden(&FieldPath::new("b"), "no");
        assert_eq!(aggregate(&[a.clone(), b, a]), "[a: Required value, b: Forbidden: no]");
    }
}
