//! The JSONPath of printer columns and scale subresources: fields, indexes, `*` and equality filters.

use serde_json::Value;

/// A parsed path such as `.status.conditions[?(@.type=="Ready")].status`.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    Every,
    Filter { path: JsonPath, equal: bool, value: Value },
}

/// Why a text is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid JSONPath {path:?}: {what}")]
pub struct JsonPathError {
    /// The text.
    pub path: String,
    /// What is wrong with it.
    pub what: &'static str,
}

impl JsonPath {
    /// Parses a path, with or without the braces of kubectl.
    pub fn parse(text: &str) -> Result<Self, JsonPathError> {
        let inner = text.trim();
        let inner = inner.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(inner);
        let inner = inner.strip_prefix(['$', '@']).unwrap_or(inner);
        steps(inner).map(Self).map_err(|what| JsonPathError { path: text.to_owned(), what })
    }

    /// All values that the path finds, in order.
    pub fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![value];
        for step in &self.0 {
            found = found.into_iter().flat_map(|value| step.find(value)).collect();
        }
        found
    }

    /// The first value that the path finds.
    pub fn first<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.find(value).into_iter().next()
    }
}

impl Step {
    fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        match (self, value) {
            (Self::Field(name), Value::Object(fields)) => fields.get(name).into_iter().collect(),
            (Self::Index(index), Value::Array(items)) => {
                let length = items.len() as i64;
                let at = if *index < 0 { index + length } else { *index };
                usize::try_from(at).ok().and_then(|at| items.get(at)).into_iter().collect()
            }
            (Self::Every, Value::Array(items)) => items.iter().collect(),
            (Self::Every, Value::Object(fields)) => fields.values().collect(),
            (Self::Filter { path, equal, value: wanted }, Value::Array(items)) => {
                items.iter().filter(|item| (path.first(item) == Some(wanted)) == *equal).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn steps(mut rest: &str) -> Result<Vec<Step>, &'static str> {
    let mut steps = Vec::new();
    while let Some(first) = rest.chars().next() {
        if first == '[' {
            let end = closing_bracket(rest).ok_or("a bracket is not closed")?;
            steps.push(bracket(rest.get(1..end).unwrap_or_default())?);
            rest = rest.get(end + 1..).unwrap_or_default();
            continue;
        }
        let body = rest.strip_prefix('.').unwrap_or(rest);
        let (name, length) = field_name(body);
        match name.as_str() {
            "" if body.is_empty() && steps.is_empty() => {}
            "" if body.starts_with('[') => {}
            "" => return Err("a field name is missing"),
            "*" => steps.push(Step::Every),
            _ => steps.push(Step::Field(name)),
        }
        rest = body.get(length..).unwrap_or_default();
    }
    Ok(steps)
}

/// A field name, where `\.` is a dot, and the bytes it takes.
fn field_name(text: &str) -> (String, usize) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '.' | '[' => return (name, at),
            '\\' => name.extend(chars.next().map(|(_, next)| next)),
            other => name.push(other),
        }
    }
    (name, text.len())
}

fn closing_bracket(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 1 => return Some(at),
            (None, ']') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

fn bracket(body: &str) -> Result<Step, &'static str> {
    let body = body.trim();
    if body == "*" {
        return Ok(Step::Every);
    }
    if let Some(Value::String(name)) = literal(body) {
        return Ok(Step::Field(name));
    }
    if let Some(filter) = body.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) {
        let (left, right, equal) = filter
            .split_once("==")
            .map(|(left, right)| (left, right, true))
            .or_else(|| filter.split_once("!=").map(|(left, right)| (left, right, false)))
            .ok_or("a filter compares with == or !=")?;
        let left = left.trim().strip_prefix('@').ok_or("a filter starts with @")?;
        let value = literal(right.trim()).ok_or("a filter compares with a literal")?;
        return Ok(Step::Filter { path: JsonPath(steps(left)?), equal, value });
    }
    body.parse().map(Step::Index).map_err(|_| "brackets hold an index, a quoted name, * or a filter")
}

fn literal(text: &str) -> Option<Value> {
    match text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        Some(text) => Some(Value::from(text)),
        None => {
            serde_json::from_str(text).ok().filter(|value: &Value| !value.is_number() || !text.is_empty())
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(path: &str, expect: Value) {
        let object = json!({
            "spec": {"replicas": 3},
            "metadata": {"annotations": {"a.b/c": "x"}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]},
        });
        let found: Vec<Value> = JsonPath::parse(path).unwrap().find(&object).into_iter().cloned().collect();
        assert_eq!(Value::from(found), expect, "{path}");
    }

    #[test]
    fn printer_columns_find_their_values() {
        check(".spec.replicas", json!([3]));
        check("{.spec.replicas}", json!([3]));
        check("$.spec.replicas", json!([3]));
        check(r#".status.conditions[?(@.type=="Ready")].status"#, json!(["True"]));
        check(".status.conditions[?(@.type!='Ready')].status", json!(["False"]));
        check(".status.conditions[*].type", json!(["Ready", "Other"]));
        check(".status.conditions[-1].type", json!(["Other"]));
        check(r".metadata.annotations.a\.b/c", json!(["x"]));
        check(".metadata.annotations['a.b/c']", json!(["x"]));
        check(".spec.nothing.here", json!([]));
    }

    #[test]
    fn nonsense_is_refused() {
        for path in ["..a", ".a[", ".a[x]", ".a[?(@.b)]"] {
            assert!(JsonPath::parse(path).is_err(), "{path}");
        }
    }
}
