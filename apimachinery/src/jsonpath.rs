//! The JSONPath of printer columns, as client-go's `util/jsonpath` reads the inside of one pair of braces.

mod parser;

use std::cmp::Ordering;

use serde_json::Value;

/// A parsed path such as `.status.conditions[?(@.type=="Ready")].status`.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    /// `*`
    Every,
    /// `[0]`, `[-1:]`, `[1:5:2]`
    Slice {
        from: Option<i64>,
        to: Option<i64>,
        step: Option<i64>,
        /// The end is that of one item.
        one: bool,
    },
    /// `[0,2]`
    Union(Vec<JsonPath>),
    /// `..`
    Recursive,
    /// `[?(@.a)]`
    Exists(JsonPath),
    /// `[?(@.a=="b")]`
    Filter {
        left: JsonPath,
        operator: Operator,
        right: JsonPath,
    },
    /// A text that stands by itself.
    Text(Value),
    /// A number or a truth value.
    Literal(Value),
    /// A word that means nothing here.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Unknown,
}

/// Why a text is no path, in client-go's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JsonPathError(String);

/// Values that a step finds at most: one that finds more finds nothing. `..` again and again finds more than there is.
const FOUND_MAX: usize = 10_000;

impl JsonPath {
    /// Parses a path, with or without the braces of kubectl.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, JsonPathError> {
        let inner = text.trim();
        let inner = inner.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(inner);
        parser::parse(inner).map_err(JsonPathError)
    }

    /// All values that the path finds, in order; none if it does not fit the value.
    pub fn find<'v>(&'v self, value: &'v Value) -> Vec<&'v Value> {
        self.walk(vec![value]).unwrap_or_default()
    }

    /// The first value that the path finds.
    pub fn first<'v>(&'v self, value: &'v Value) -> Option<&'v Value> {
        self.find(value).into_iter().next()
    }

    fn walk<'v>(&'v self, mut found: Vec<&'v Value>) -> Option<Vec<&'v Value>> {
        for step in &self.0 {
            found = step.walk(found)?;
            if found.len() > FOUND_MAX {
                return None;
            }
        }
        Some(found)
    }
}

impl Step {
    /// What the step finds from these values. `None` if it does not fit one of them.
    fn walk<'v>(&'v self, from: Vec<&'v Value>) -> Option<Vec<&'v Value>> {
        // Null is nothing at all.
        let present = || from.iter().copied().filter(|value| !value.is_null());
        let found = match self {
            Self::Field(name) => present().filter_map(|value| value.as_object()?.get(name)).collect(),
            Self::Every => present().flat_map(children).collect(),
            Self::Slice { .. } => {
                let mut found = Vec::new();
                for value in present() {
                    match self.slice(value.as_array()?)? {
                        // As client-go does it, who asks for no items of one gets none of all others, either.
                        [] => break,
                        items => found.extend(items.iter().step_by(self.step()?)),
                    }
                }
                found
            }
            Self::Union(paths) => {
                let mut found = Vec::new();
                for path in paths {
                    found.extend(path.walk(from.clone())?);
                }
                found
            }
            Self::Recursive => {
                let mut found = Vec::new();
                present().try_for_each(|value| descend(value, &mut found))?;
                found
            }
            Self::Exists(path) => {
                let mut found = Vec::new();
                for value in present() {
                    let has =
                        |item: &&'v Value| path.walk(vec![*item]).is_some_and(|found| !found.is_empty());
                    found.extend(value.as_array()?.iter().filter(has));
                }
                found
            }
            Self::Filter { left, operator, right } => {
                let mut found = Vec::new();
                for value in present() {
                    for item in value.as_array()? {
                        let (left, right) = (left.walk(vec![item])?, right.walk(vec![item])?);
                        match (left.as_slice(), right.as_slice()) {
                            ([], _) | (_, []) => {}
                            ([left], [right]) => {
                                if operator.compare(left, right)? {
                                    found.push(item);
                                }
                            }
                            // One can be compared at a time.
                            _ => return None,
                        }
                    }
                }
                found
            }
            Self::Text(text) => vec![text],
            Self::Literal(value) => vec![value; from.len()],
            Self::Unknown => return None,
        };
        Some(found)
    }

    fn step(&self) -> Option<usize> {
        match self {
            Self::Slice { step: Some(step), .. } => usize::try_from(*step).ok().filter(|step| *step > 0),
            _ => Some(1),
        }
    }

    /// The items that a slice is about. `None` if there are none at its ends.
    fn slice<'v>(&self, items: &'v [Value]) -> Option<&'v [Value]> {
        let Self::Slice { from, to, one, .. } = self else { return None };
        let length = i64::try_from(items.len()).ok()?;
        let behind = |at: i64| if at < 0 { at.checked_add(length) } else { Some(at) };
        let start = behind(from.unwrap_or_default())?;
        let end = match *to {
            None => length,
            Some(0) if *one => length,
            Some(to) => behind(to)?,
        };
        if start == end {
            return Some(&[]);
        }
        let at = |place: i64| usize::try_from(place).ok();
        if start >= length {
            return None;
        }
        items.get(at(start)?..at(end)?)
    }
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(fields) => Box::new(fields.values()),
        _ => Box::new(std::iter::empty()),
    }
}

/// Every value that has parts, from the outside in.
fn descend<'v>(value: &'v Value, found: &mut Vec<&'v Value>) -> Option<()> {
    if children(value).next().is_some() {
        found.push(value);
        if found.len() > FOUND_MAX {
            return None;
        }
        for child in children(value) {
            descend(child, found)?;
        }
    }
    Some(())
}

impl Operator {
    /// `None` where the two cannot be compared.
    fn compare(self, left: &Value, right: &Value) -> Option<bool> {
        let order = match (left, right) {
            (Value::String(left), Value::String(right)) => left.cmp(right),
            // Truth has no order.
            (Value::Bool(left), Value::Bool(right)) => match self {
                Self::Equal | Self::NotEqual => left.cmp(right),
                _ => return None,
            },
            (Value::Number(left), Value::Number(right)) if left.is_f64() == right.is_f64() => {
                match (left.as_i64(), right.as_i64()) {
                    (Some(left), Some(right)) => left.cmp(&right),
                    _ => left.as_f64()?.partial_cmp(&right.as_f64()?)?,
                }
            }
            _ => return None,
        };
        match self {
            Self::Equal => Some(order == Ordering::Equal),
            Self::NotEqual => Some(order != Ordering::Equal),
            Self::Less => Some(order == Ordering::Less),
            Self::LessOrEqual => Some(order != Ordering::Greater),
            Self::Greater => Some(order == Ordering::Greater),
            Self::GreaterOrEqual => Some(order != Ordering::Less),
            Self::Unknown => None,
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
            "spec": {"replicas": 3, "list": [1, 2, 3, 4], "none": null},
            "metadata": {"annotations": {"a.b/c": "x"}},
            "status": {"conditions": [
                {"type": "Ready", "status": "True", "at": 1}, {"type": "Other", "status": "False", "at": 2},
            ]},
        });
        let path_read = JsonPath::parse(path).unwrap();
        let found: Vec<Value> = path_read.find(&object).into_iter().cloned().collect();
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
        check(".status.conditions[-1:].type", json!(["Other"]));
        check(r".metadata.annotations.a\.b/c", json!(["x"]));
        check(r".metadata.annotations['a\.b/c']", json!(["x"]));
        check(".spec.nothing.here", json!([]));
        check(".spec.none", json!([null]));
    }

    #[test]
    fn slices_unions_and_descents_are_those_of_client_go() {
        check(".spec.list[1:3]", json!([2, 3]));
        check(".spec.list[::2]", json!([1, 3]));
        check(".spec.list[:-1]", json!([1, 2, 3]));
        check(".spec.list[0,2]", json!([1, 3]));
        check(".spec.list[]", json!([1]));
        check(".spec.list[9]", json!([]));
        check(".spec.list[3:9]", json!([]));
        check(".spec.list[2:2]", json!([]));
        check(".spec.list[::0]", json!([]));
        check("..replicas", json!([3]));
        check(".status..type", json!(["Ready", "Other"]));
        check(".spec.*", json!([[1, 2, 3, 4], null, 3]));
        check(".spec.replicas[0]", json!([]));
    }

    #[test]
    fn filters_compare_what_is_alike() {
        check(".status.conditions[?(@.at>1)].type", json!(["Other"]));
        check(".status.conditions[?(@.at<=1)].type", json!(["Ready"]));
        check(".status.conditions[?(@.at)].type", json!(["Ready", "Other"]));
        check(".status.conditions[?(@.none)].type", json!([]));
        check(".status.conditions[?(@.none!='x')].type", json!([]));
        check(".status.conditions[?(@.at=='1')].type", json!([]));
        check(".status.conditions[?(@.at==1.0)].type", json!([]));
        check(".spec[?(@.a)]", json!([]));
    }

    #[test]
    fn a_descent_finds_no_more_than_can_be_told() {
        let path = JsonPath::parse(&"...*".repeat(40)).unwrap();
        let mut object = json!({});
        for _ in 0..40 {
            object = json!({"a": object, "b": {"c": 1}});
        }
        assert!(path.find(&object).is_empty());
    }

    #[test]
    fn nonsense_is_refused() {
        for (path, why) in [
            ("....a", "invalid multiple recursive descent"),
            (".a[", "unterminated array"),
            (".a[x]", "invalid array index x"),
            (".a[-]", "array index - is not a number"),
            (".a[?(@.b)", "unclosed array expect ]"),
            (".a[?(@.b", "unterminated filter"),
            (".a\n", "unclosed action"),
            (".a#{", "unrecognized character in action: U+007B '{'"),
            (".a \"x", "unterminated quoted string"),
            (".a 1.2.3", "cannot parse number 1.2.3"),
        ] {
            assert_eq!(
                JsonPath::parse(&format!("{{{path}}}")).map_err(|error| error.to_string()).err().as_deref(),
                Some(why),
                "{path}"
            );
        }
    }
}
