//! YAML bodies, as Go's parser takes them: of several documents the first counts, of a key that stands twice the last one, unless
//! `fieldValidation` asks for more.

use std::{collections::HashSet, fmt};

use apimachinery::{ApiError, field::quoted, numbers};
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::{DuplicateKeyPolicy, Spanned};

use super::{object, yaml_errors};

/// Why a body is no YAML that is taken.
pub(super) enum Unreadable {
    /// What is wrong with the text.
    Text(String),
    /// It is refused for another reason.
    Refused(ApiError),
}

/// Parses YAML, or says where it is wrong.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, Unreadable> {
    // What clients send as YAML is JSON most often, which is YAML too, and whose parser takes a fraction of the time.
    if bytes.starts_with(b"{")
        && let Ok(value) = serde_json::from_slice(bytes)
    {
        object::check_depth(&value).map_err(Unreadable::Refused)?;
        return Ok(value);
    }
    let invalid = |_| Unreadable::Text("yaml: invalid leading UTF-8 octet".to_owned());
    let text = std::str::from_utf8(bytes).map_err(invalid)?;
    // Numbers that begin with a zero are octal, as file modes are.
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        legacy_octal_numbers: true,
    };
    let text = first_document(text);
    let tree: Tree = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| Unreadable::Text(yaml_errors::translated(&error.to_string(), text)))?;
    object::check_depth(&tree.0).map_err(Unreadable::Refused)?;
    Ok(tree.0)
}

/// A document whose keys are texts, whatever they are: Go reads `no` as false, and makes a text of that.
struct Tree(Value);

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor).map(Self)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<Tree>()? {
            let key = match key.0 {
                Value::String(text) => text,
                Value::Number(number) if number.is_f64() => {
                    number.as_f64().map(numbers::general).unwrap_or_default()
                }
                key @ (Value::Bool(_) | Value::Number(_)) => key.to_string(),
                Value::Null => return Err(A::Error::custom("unsupported map key of type: %!s(<nil>)")),
                Value::Array(_) | Value::Object(_) => return Err(A::Error::custom("invalid map key")),
            };
            object.insert(key, map.next_value::<Tree>()?.0);
        }
        Ok(object.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Tree>()? {
            list.push(item.0);
        }
        Ok(list.into())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

/// The first document of a stream: up to the next marker. Nothing within a document may look like one (YAML 1.2, section 9.1.2).
fn first_document(text: &str) -> &str {
    let marks = |line: &str, marker: &str| {
        line.strip_prefix(marker)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
    };
    let (mut at, mut begun) = (0, false);
    for line in text.split_inclusive('\n') {
        let is_start = marks(line, "---");
        if begun && (is_start || marks(line, "...")) {
            return text.get(..at).unwrap_or(text);
        }
        // Comments and directives stand before a document, too.
        begun |= is_start || !(line.trim().is_empty() || line.starts_with(['#', '%']));
        at += line.len();
    }
    text
}

/// What Go's strict parser says of the keys that stand twice: `line 4: key "a" already set in map`.
pub(super) fn duplicates(bytes: &[u8]) -> Vec<String> {
    if bytes.starts_with(b"{") && kube_schema::duplicate_fields(bytes).is_ok_and(|twice| twice.is_empty()) {
        return Vec::new();
    }
    let options = serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::PassThrough };
    let text = first_document(std::str::from_utf8(bytes).unwrap_or_default());
    let node: Result<Node, _> = serde_saphyr::from_str_with_options(text, options);
    node.map(|node| node.0).unwrap_or_default()
}

/// The errors of a part of a document.
struct Node(Vec<String>);

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ErrorList).map(Self)
    }
}

struct ErrorList;

impl<'de> Visitor<'de> for ErrorList {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut found, mut seen) = (Vec::new(), HashSet::new());
        while let Some(key) = map.next_key::<String>()? {
            let value: Spanned<Node> = map.next_value()?;
            found.extend(value.value.0);
            if !seen.insert(key.clone()) {
                let line = value.referenced.line();
                found.push(format!("line {line}: key {} already set in map", quoted(&key)));
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut found = Vec::new();
        while let Some(item) = items.next_element::<Node>()? {
            found.extend(item.0);
        }
        Ok(found)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Vec::new())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_several_documents_the_first_counts() {
        let check = |text: &str, expect: Value| {
            assert_eq!(parse(text.as_bytes()).ok(), Some(expect), "{text}");
        };
        check("a: 1\n---\na: 2\n", json!({"a": 1}));
        check("# c\n%YAML 1.2\n---\na: 1\n--- {b: 2}\n", json!({"a": 1}));
        check("a: 1\n...\n]: nonsense", json!({"a": 1}));
        check("a: |\n  --- no marker\nb: ---x\n", json!({"a": "--- no marker\n", "b": "---x"}));
        check("---\n---\na: 1\n", Value::Null);
        assert!(duplicates(b"a: 1\n---\nb: 1\nb: 2\n").is_empty());
    }

    #[test]
    fn scalars_and_keys_are_those_of_go() {
        let check = |text: &str, expect: Value| {
            assert_eq!(parse(text.as_bytes()).ok(), Some(expect), "{text}");
        };
        check(
            "mode: 0644\nnone: 0\nplain: 10\nodd: 08x\n",
            json!({"mode": 420, "none": 0, "plain": 10, "odd": "08x"}),
        );
        check("no: 1\nYes: {on: off}\n'no': 2\n", json!({"false": 1, "true": {"true": false}, "no": 2}));
        check("1: a\n0x10: b\n1.5: c\n", json!({"1": "a", "16": "b", "1.5": "c"}));
        check(
            "a: &x {b: [1, ~, 2.5]}\nc: *x\n",
            json!({"a": {"b": [1, null, 2.5]}, "c": {"b": [1, null, 2.5]}}),
        );
        assert!(parse(b"~: 1").is_err() && parse(b"? [a]\n: 1").is_err());
    }

    #[test]
    fn of_a_key_that_stands_twice_the_last_counts_and_each_is_told() {
        let text = b"a: 1\nb:\n  c: 2\n  c: 3\nd: [{e: 4, e: 5}]\na: 6\n";
        assert_eq!(parse(text).ok(), Some(json!({"a": 6, "b": {"c": 3}, "d": [{"e": 5}]})));
        assert_eq!(
            duplicates(text),
            [
                r#"line 4: key "c" already set in map"#,
                r#"line 5: key "e" already set in map"#,
                r#"line 6: key "a" already set in map"#,
            ]
        );
        assert!(duplicates(b"a: {b: 1}\nc: {b: 2}\nd: null\n").is_empty());
        assert_eq!(duplicates(br#"{"a": 1, "a": 2}"#), [r#"line 1: key "a" already set in map"#]);
    }
}
