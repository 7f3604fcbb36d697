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
    Slice(Slice),
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

#[derive(Debug, Clone, PartialEq)]
struct Slice {
    from: Option<i64>,
    to: Option<i64>,
    step: Option<i64>,
    /// The end is that of one item.
    one: bool,
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

/// How much paths may still look at: a path of a few kilobytes can find the same values millions of times. It is shared by the paths that are
/// asked about one object, and none that needs more finds anything.
#[derive(Debug)]
pub struct Looks(usize);

impl Looks {
    /// Values looked at for one object, in a few milliseconds. The longest list whose items have something to tell has fifty thousand of them.
    const MAX: usize = 1 << 18;
    /// Bytes of a text that are compared in one look.
    const TEXT_BYTES: usize = 64;

    fn take(&mut self, count: usize) -> Option<()> {
        self.0 = self.0.checked_sub(count)?;
        Some(())
    }
}

impl Default for Looks {
    fn default() -> Self {
        Self(Self::MAX)
    }
}

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
    pub fn find<'v>(&'v self, value: &'v Value, looks: &mut Looks) -> Vec<&'v Value> {
        self.walk(vec![value], looks).unwrap_or_default()
    }

    /// The first value that the path finds.
    pub fn first<'v>(&'v self, value: &'v Value, looks: &mut Looks) -> Option<&'v Value> {
        self.find(value, looks).into_iter().next()
    }

    fn walk<'v>(&'v self, mut found: Vec<&'v Value>, looks: &mut Looks) -> Option<Vec<&'v Value>> {
        for step in &self.0 {
            looks.take(1 + found.len())?;
            found = step.walk(found, looks)?;
        }
        Some(found)
    }

    /// What the path finds from an item, to be compared: one value at most. `None` if there are several, or the path does not fit.
    fn compared<'v>(&'v self, item: &'v Value, looks: &mut Looks) -> Option<Vec<&'v Value>> {
        self.walk(vec![item], looks).filter(|found| found.len() <= 1)
    }
}

impl Step {
    /// What the step finds from these values. `None` if it does not fit one of them.
    fn walk<'v>(&'v self, from: Vec<&'v Value>, looks: &mut Looks) -> Option<Vec<&'v Value>> {
        // Null is nothing at all.
        let present = || from.iter().copied().filter(|value| !value.is_null());
        let mut found = Vec::new();
        match self {
            Self::Field(name) => found.extend(present().filter_map(|value| value.as_object()?.get(name))),
            Self::Every => {
                for value in present() {
                    looks.take(parts(value))?;
                    found.extend(children(value));
                }
            }
            Self::Slice(slice) => {
                for value in present() {
                    match slice.of(value.as_array()?)? {
                        // As client-go does it, who asks for no items of one gets none of all others, either.
                        [] => break,
                        items => {
                            let step = slice.step()?;
                            looks.take(items.len().div_ceil(step))?;
                            found.extend(items.iter().step_by(step));
                        }
                    }
                }
            }
            Self::Union(paths) => {
                for path in paths {
                    found.extend(path.walk(from.clone(), looks)?);
                }
            }
            Self::Recursive => present().try_for_each(|value| descend(value, &mut found, looks))?,
            // A filter fits nothing but lists, and null is none.
            Self::Exists(path) => {
                for value in from {
                    for item in value.as_array()? {
                        looks.take(1)?;
                        if path.walk(vec![item], looks).is_some_and(|found| !found.is_empty()) {
                            found.push(item);
                        }
                    }
                }
            }
            Self::Filter { left, operator, right } => {
                for value in from {
                    for item in value.as_array()? {
                        looks.take(1)?;
                        let Some(left) = left.compared(item, looks)?.pop() else { continue };
                        let Some(right) = right.compared(item, looks)?.pop() else { continue };
                        if operator.compare(left, right, looks)? {
                            found.push(item);
                        }
                    }
                }
            }
            Self::Text(text) => found.push(text),
            Self::Literal(value) => found = vec![value; from.len()],
            Self::Unknown => return None,
        }
        Some(found)
    }
}

impl Slice {
    fn step(&self) -> Option<usize> {
        usize::try_from(self.step.unwrap_or(1)).ok().filter(|step| *step > 0)
    }

    /// The items that it is about. `None` if there are none at its ends.
    fn of<'v>(&self, items: &'v [Value]) -> Option<&'v [Value]> {
        let length = i64::try_from(items.len()).ok()?;
        let behind = |at: i64| if at < 0 { at.checked_add(length) } else { Some(at) };
        let start = behind(self.from.unwrap_or_default())?;
        let end = match self.to {
            None => length,
            Some(0) if self.one => length,
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

fn parts(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    }
}

/// Every value that has parts, from the outside in.
fn descend<'v>(value: &'v Value, found: &mut Vec<&'v Value>, looks: &mut Looks) -> Option<()> {
    let parts = parts(value);
    if parts > 0 {
        looks.take(parts)?;
        found.push(value);
        for child in children(value) {
            descend(child, found, looks)?;
        }
    }
    Some(())
}

impl Operator {
    /// `None` where the two cannot be compared.
    fn compare(self, left: &Value, right: &Value, looks: &mut Looks) -> Option<bool> {
        let order = match (left, right) {
            (Value::String(left), Value::String(right)) => {
                looks.take(left.len().min(right.len()) / Looks::TEXT_BYTES)?;
                left.cmp(right)
            }
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
            "lists": [{"b": null}, {"b": [{"c": 1}]}],
            "status": {"conditions": [
                {"type": "Ready", "status": "True", "at": 1}, {"type": "Other", "status": "False", "at": 2},
            ]},
        });
        let path_read = JsonPath::parse(path).unwrap();
        let found: Vec<Value> = path_read.find(&object, &mut Looks::default()).into_iter().cloned().collect();
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
        check(".lists[1].b[?(@.c)]", json!([{"c": 1}]));
        check(".lists[*].b[?(@.c)]", json!([]));
        check(".lists[*].b[?(@.c==1)]", json!([]));
        check(".lists[*].b[0].c", json!([1]));
    }

    #[test]
    fn a_descent_finds_no_more_than_can_be_told() {
        let path = JsonPath::parse(&"...*".repeat(40)).unwrap();
        let mut object = json!({});
        for _ in 0..40 {
            object = json!({"a": object, "b": {"c": 1}});
        }
        assert!(path.find(&object, &mut Looks::default()).is_empty());
    }

    /// How much a path looks at, whether it finds anything or not.
    fn looked_at(path: &str, object: &Value) -> usize {
        let (path, mut looks) = (JsonPath::parse(path).unwrap(), Looks::default());
        path.find(object, &mut looks);
        Looks::MAX - looks.0
    }

    #[test]
    fn what_a_path_finds_again_and_again_is_looked_at_each_time() {
        let again = format!(".a[{}0]", "0,".repeat(9));
        let object = json!({"a": [vec![json!({"b": "x".repeat(640), "c": "x".repeat(640)}); 100]]});
        let once = looked_at(".a[0]", &object);
        assert!(once < 10, "{once}");
        let path = |after: &str| looked_at(&format!("{again}{after}"), &object);
        assert!((1000..1100).contains(&path("[*]")), "{}", path("[*]"));
        assert!((1000..1100).contains(&path(".*")));
        assert!((3000..4000).contains(&path("..")));
        assert!((3000..4000).contains(&path("[?(@.b)]")));
        assert!((1000..1100).contains(&path("[?(@)]")));
        assert!((200..300).contains(&path(&again[2..])), "{}", path(&again[2..]));
        assert!(path("[?(@.b==@.c)]") > 1000 * 640 / Looks::TEXT_BYTES);
    }

    #[test]
    fn paths_of_one_object_find_nothing_more_once_they_have_looked_at_much() {
        let object = json!({"list": vec![1; 1000], "name": "a"});
        let greedy = JsonPath::parse(&format!(".list[{}:][?(@)]", ":,".repeat(1000))).unwrap();
        let (name, mut looks) = (JsonPath::parse(".name").unwrap(), Looks::default());
        assert_eq!(name.first(&object, &mut looks), Some(&json!("a")));
        assert_eq!(greedy.first(&object, &mut looks), None);
        assert!(looks.0 < 2000);
        assert!(greedy.first(&object, &mut looks).is_none() && name.first(&object, &mut looks).is_some());
    }

    #[test]
    fn a_long_list_is_looked_through() {
        let items = (0..40_000).map(|at| json!({"type": at.to_string(), "status": "True"}));
        let object = json!({"conditions": items.collect::<Vec<_>>()});
        let path = JsonPath::parse(r#".conditions[?(@.type=="39999")].status"#).unwrap();
        assert_eq!(path.first(&object, &mut Looks::default()), Some(&json!("True")));
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
