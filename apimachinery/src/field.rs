//! Field paths and field errors, as `k8s.io/apimachinery/pkg/util/validation/field` prints them.

use std::{collections::HashSet, fmt};

use serde_json::Value;

/// Faults of one object that anybody keeps. More than are ever told, so that the first are told in any case; a body of 3 MiB can have millions,
/// of hundreds of bytes each.
pub const FAULTS_MAX: usize = 4096;

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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
        let mut names: Vec<String> = supported.iter().map(|name| quoted(name)).collect();
        names.sort();
        let detail =
            if names.is_empty() { String::new() } else { format!("supported values: {}", names.join(", ")) };
        Self::new(FieldReason::NotSupported, field, Some(&value.into()), &detail)
    }

    /// The same with the supported values in an order of their own.
    pub fn not_listed(field: &FieldPath, value: impl Into<Value>, supported: &[&str]) -> Self {
        let names: Vec<String> = supported.iter().map(|name| quoted(name)).collect();
        let detail = format!("supported values: {}", names.join(", "));
        Self::new(FieldReason::NotSupported, field, Some(&value.into()), &detail)
    }

    /// `Forbidden: detail`.
    pub fn forbidden(field: &FieldPath, detail: &str) -> Self {
        Self::new(FieldReason::Forbidden, field, None, detail)
    }

    /// `Too long: may not be more than N bytes`.
    pub fn too_long(field: &FieldPath, max_bytes: usize) -> Self {
        let bytes = if max_bytes == 1 { "byte" } else { "bytes" };
        Self::new(FieldReason::TooLong, field, None, &format!("may not be more than {max_bytes} {bytes}"))
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

/// A text as Go's `strconv.Quote` and `%q` print it.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    quote(text, &mut out);
    out
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            ' '..='~' => out.push(letter),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\0'..='\u{1f}' | '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(letter))),
            _ if is_print(letter) => out.push(letter),
            '\0'..='\u{ffff}' => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            _ => out.push_str(&format!("\\U{:08x}", u32::from(letter))),
        }
    }
    out.push('"');
}

/// Go's `strconv.IsPrint` of what is not ASCII: letters, marks, numbers, punctuation and symbols. Behind another letter Rust escapes
/// all others, and no marks.
fn is_print(letter: char) -> bool {
    let mut pair = [b'a'; 5];
    letter.encode_utf8(&mut pair[1..]);
    let pair = std::str::from_utf8(&pair[..=letter.len_utf8()]).unwrap_or_default();
    pair.escape_debug().nth(1) == Some(letter)
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Of a fault that is nobody's, too: as Go prints it.
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl std::error::Error for FieldError {}

/// As many faults are told. kube-apiserver tells all, however many a body of 3 MiB has; whoever mends a thousand asks again.
const MOST_TOLD: usize = 1000;
/// Bytes of fields and messages after which no other fault is told: each may show all that was sent.
const MOST_TOLD_BYTES: usize = 1 << 20;

/// The first faults: a thousand, and no more behind the first MiB of text. The very first one is told in any case.
pub fn told(errors: &[FieldError]) -> &[FieldError] {
    let sizes = errors.iter().map(|error| error.field.len() + error.message.len());
    let before = sizes.scan(0, |sum, size| Some(std::mem::replace(sum, *sum + size)));
    let count = before.take(MOST_TOLD).take_while(|before| *before < MOST_TOLD_BYTES).count();
    errors.get(..count).unwrap_or(errors)
}

/// Joins the [`told`] ones of errors as Go's `Aggregate` does: one bare, several in brackets, each text once.
pub fn aggregate(errors: &[FieldError]) -> String {
    let mut seen = HashSet::new();
    let news = told(errors).iter().filter(|error| seen.insert((&error.field, &error.message)));
    let texts: Vec<_> = news.map(ToString::to_string).collect();
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
            ("a\u{a0}\u{ad}\u{200b}\u{200c}\u{2028}\u{feff}", r#""a\u00a0\u00ad\u200b\u200c\u2028\ufeff""#),
            ("\u{e000}\u{e0001}\u{10ffff}", r#""\ue000\U000e0001\U0010ffff""#),
            // Marks and what text could not be read as are printed.
            ("e\u{301}\u{301} \u{fffd} ' 😀", "\"e\u{301}\u{301} \u{fffd} ' 😀\""),
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

    #[test]
    fn of_very_many_faults_the_first_are_told() {
        let fault = |at: usize| FieldError::required(&FieldPath::new("spec.containers").index(at), "");
        let many: Vec<_> = (0..1_000_000).map(fault).collect();
        assert_eq!(told(&many), &many[..MOST_TOLD]);
        assert_eq!(aggregate(&many).matches("Required value").count(), MOST_TOLD);
        assert_eq!(told(&many[..MOST_TOLD]).len(), MOST_TOLD);
        let long = FieldError::invalid(&FieldPath::new("data"), "x".repeat(MOST_TOLD_BYTES), "");
        assert_eq!(told(&[many[0].clone(), long.clone(), long.clone()]).len(), 2);
        assert_eq!(told(&[long.clone(), long]).len(), 1);
        assert_eq!(told(&[]), &[]);
    }
}
