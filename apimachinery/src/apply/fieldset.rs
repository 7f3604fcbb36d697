//! Sets of field paths, and their wire form FieldsV1 (KEP-555).

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

/// One step of a path in its wire form: `f:name`, `k:{"name":"a"}`, `v:"x"` or `i:0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathElement(String);

impl PathElement {
    /// A field of a struct or an entry of a map.
    pub fn field(name: &str) -> Self {
        let mut text = String::with_capacity(name.len() + 2);
        text.push_str("f:");
        text.push_str(name);
        Self(text)
    }

    /// A list item with these keys.
    pub fn keys(keys: Map<String, Value>) -> Self {
        Self(format!("k:{}", Value::Object(keys)))
    }

    /// An item of a set.
    pub fn value(value: &Value) -> Self {
        Self(format!("v:{value}"))
    }

    /// An item of a list that has no other name.
    pub fn index(index: usize) -> Self {
        Self(format!("i:{index}"))
    }

    /// Reads the wire form.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "f" => Some(Self(text.to_owned())),
            "k" => Some(Self::keys(serde_json::from_str(rest).ok()?)),
            "v" => Some(Self::value(&serde_json::from_str(rest).ok()?)),
            "i" => rest.parse::<i64>().ok().map(|index| Self(format!("i:{index}"))),
            _ => None,
        }
    }

    /// The field's name, if the step is a field.
    pub fn as_field(&self) -> Option<&str> {
        self.0.strip_prefix("f:")
    }

    pub(super) fn is_item(&self) -> bool {
        self.0.starts_with("k:")
    }
}

/// `.name`, `[key="x"]`, `[="v"]` or `[0]`: the form of conflict messages.
impl fmt::Display for PathElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.split_once(':') {
            Some(("f", name)) => write!(f, ".{name}"),
            Some(("k", keys)) => {
                let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let pairs: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
                write!(f, "[{}]", pairs.join(","))
            }
            Some(("v", value)) => write!(f, "[={value}]"),
            Some((_, rest)) => write!(f, "[{rest}]"),
            None => f.write_str(&self.0),
        }
    }
}

/// Bytes of one step that messages show. A client chooses the names of steps: many faults below a long one would take gigabytes to tell.
const SHOWN_STEP_BYTES: usize = 1024;

impl PathElement {
    /// As much of it as messages show.
    fn shown(&self) -> String {
        let mut text = self.to_string();
        text.truncate(text.floor_char_boundary(SHOWN_STEP_BYTES));
        text
    }
}

/// Prints a path as conflict messages do.
pub fn path_text(path: &[PathElement]) -> String {
    path.iter().map(PathElement::shown).collect()
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Node {
    member: bool,
    below: FieldSet,
}

impl Node {
    fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

/// A set of paths. A path may be a member while paths below it are not, and the other way round.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet {
    // No node is empty: sets with the same members are equal.
    nodes: BTreeMap<PathElement, Node>,
}

/// Why a FieldsV1 document cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A level is not a JSON object.
    #[error("fieldsV1 must consist of objects")]
    NotAnObject,
    /// A key is none of `f:`, `k:`, `v:`, `i:` or `.`.
    #[error("fieldsV1 has a key that is no path element: {0:?}")]
    Element(String),
}

impl FieldSet {
    /// True when the set has no path.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds a path; the empty path, the object itself, is never a member.
    pub fn insert(&mut self, path: &[PathElement]) {
        let Some((first, rest)) = path.split_first() else { return };
        // Most often what is on the way is there.
        let node = match self.nodes.get_mut(first) {
            Some(node) => node,
            None => self.nodes.entry(first.clone()).or_default(),
        };
        if rest.is_empty() {
            node.member = true;
        } else {
            node.below.insert(rest);
        }
    }

    /// Whether the path of one step is a member.
    pub fn has(&self, element: &PathElement) -> bool {
        self.nodes.get(element).is_some_and(|node| node.member)
    }

    /// Whether the path is a member.
    pub fn has_path(&self, path: &[PathElement]) -> bool {
        match path.split_first() {
            Some((first, [])) => self.has(first),
            Some((first, rest)) => self.below(first).is_some_and(|below| below.has_path(rest)),
            None => false,
        }
    }

    /// The paths below a step.
    pub fn below(&self, element: &PathElement) -> Option<&Self> {
        self.nodes.get(element).map(|node| &node.below).filter(|below| !below.is_empty())
    }

    fn put(&mut self, element: &PathElement, node: Node) {
        if !node.is_empty() {
            self.nodes.insert(element.clone(), node);
        }
    }

    /// Takes in a step: whether it is a member, and the paths below it.
    pub(super) fn add_step(&mut self, element: &PathElement, member: bool, below: Self) {
        let node = Node { member, below };
        match self.nodes.get_mut(element) {
            Some(mine) => {
                mine.member |= node.member;
                mine.below.add(node.below);
            }
            None => self.put(element, node),
        }
    }

    /// Paths of either set.
    pub fn union(&self, other: &Self) -> Self {
        let mut out = self.clone();
        out.add(other.clone());
        out
    }

    /// Takes in the paths of another set.
    pub(super) fn add(&mut self, other: Self) {
        if self.nodes.is_empty() {
            *self = other;
            return;
        }
        for (element, node) in other.nodes {
            match self.nodes.get_mut(&element) {
                Some(mine) => {
                    mine.member |= node.member;
                    mine.below.add(node.below);
                }
                None => drop(self.nodes.insert(element, node)),
            }
        }
    }

    /// Drops the paths that another set has.
    pub(super) fn subtract(&mut self, other: &Self) {
        if other.nodes.is_empty() {
            return;
        }
        self.nodes.retain(|element, mine| {
            if let Some(theirs) = other.nodes.get(element) {
                mine.member &= !theirs.member;
                mine.below.subtract(&theirs.below);
            }
            !mine.is_empty()
        });
    }

    /// Paths of both sets.
    pub fn intersection(&self, other: &Self) -> Self {
        let mut out = Self::default();
        for (element, mine) in &self.nodes {
            if let Some(theirs) = other.nodes.get(element) {
                let member = mine.member && theirs.member;
                out.put(element, Node { member, below: mine.below.intersection(&theirs.below) });
            }
        }
        out
    }

    /// Paths of this set that the other has not.
    pub fn difference(&self, other: &Self) -> Self {
        let mut out = self.clone();
        out.subtract(other);
        out
    }

    /// Paths of this set that are neither in the other nor below one of its members.
    pub fn recursive_difference(&self, other: &Self) -> Self {
        let mut out = Self::default();
        for (element, mine) in &self.nodes {
            match other.nodes.get(element) {
                Some(theirs) if theirs.member => {}
                Some(theirs) => out.put(
                    element,
                    Node { member: mine.member, below: mine.below.recursive_difference(&theirs.below) },
                ),
                None => out.put(element, mine.clone()),
            }
        }
        out
    }

    /// Tells the text of each path that has none below it and is not in `but`, for as long as `tell` wants more: in order, those of a level
    /// before those below it, as Kubernetes' `Set.Iterate` does.
    pub(super) fn each_leaf(&self, but: &Self, tell: &mut dyn FnMut(&str) -> bool) -> bool {
        self.tell_leaves(&mut String::new(), Some(but), tell)
    }

    fn tell_leaves(&self, text: &mut String, but: Option<&Self>, tell: &mut dyn FnMut(&str) -> bool) -> bool {
        let length = text.len();
        let spared = |element: &PathElement| but.and_then(|but| but.nodes.get(element));
        let mut more = true;
        for (element, node) in &self.nodes {
            let leaf = node.member && node.below.is_empty();
            if more && leaf && !spared(element).is_some_and(|spared| spared.member) {
                text.push_str(&element.shown());
                more = tell(text);
                text.truncate(length);
            }
        }
        for (element, node) in &self.nodes {
            if more && !node.below.is_empty() {
                text.push_str(&element.shown());
                more = node.below.tell_leaves(text, spared(element).map(|spared| &spared.below), tell);
                text.truncate(length);
            }
        }
        more
    }

    /// Rebuilds the set: `rule` gets each step with its membership and the paths below it.
    pub(super) fn map_nodes(&self, mut rule: impl FnMut(&PathElement, bool, &Self) -> (bool, Self)) -> Self {
        let mut out = Self::default();
        for (element, node) in &self.nodes {
            let (member, below) = rule(element, node.member, &node.below);
            out.put(element, Node { member, below });
        }
        out
    }

    /// The wire form.
    pub fn to_value(&self) -> Value {
        let mut object = Map::new();
        for (element, node) in &self.nodes {
            let mut below = node.below.to_value();
            if let (true, Value::Object(fields)) = (node.member && !node.below.is_empty(), &mut below) {
                fields.insert(".".to_owned(), Value::Object(Map::new()));
            }
            object.insert(element.0.clone(), below);
        }
        Value::Object(object)
    }

    /// Reads the wire form.
    pub fn from_value(value: &Value) -> Result<Self, DecodeError> {
        let object = value.as_object().ok_or(DecodeError::NotAnObject)?;
        let mut out = Self::default();
        for (key, below) in object {
            if key == "." {
                continue;
            }
            let element = PathElement::parse(key).ok_or_else(|| DecodeError::Element(key.clone()))?;
            let fields = below.as_object().ok_or(DecodeError::NotAnObject)?;
            let member = fields.is_empty() || fields.contains_key(".");
            out.put(&element, Node { member, below: Self::from_value(below)? });
        }
        Ok(out)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(value: Value) -> FieldSet {
        FieldSet::from_value(&value).unwrap()
    }

    #[test]
    fn the_wire_form_is_read_and_written() {
        let wire = json!({
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}, "f:finalizers": {"v:\"e.com/a\"": {}}},
            "f:spec": {"f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:name": {}}}},
        });
        assert_eq!(set(wire.clone()).to_value(), wire);
        assert!(FieldSet::from_value(&json!({"x:a": {}})).is_err());
        assert!(FieldSet::from_value(&json!({"f:a": 1})).is_err());
    }

    #[test]
    fn keys_are_sorted_whatever_order_they_came_in() {
        let element = PathElement::parse(r#"k:{"protocol":"TCP","containerPort":80}"#).unwrap();
        assert_eq!(element.to_string(), r#"[containerPort=80,protocol="TCP"]"#);
    }

    #[test]
    fn sets_are_sets() {
        let a = set(json!({"f:x": {".": {}, "f:y": {}}, "f:z": {}}));
        let b = set(json!({"f:x": {}, "f:w": {}}));
        assert_eq!(a.union(&b), set(json!({"f:x": {".": {}, "f:y": {}}, "f:z": {}, "f:w": {}})));
        assert_eq!(a.intersection(&b), set(json!({"f:x": {}})));
        assert_eq!(a.difference(&b), set(json!({"f:x": {"f:y": {}}, "f:z": {}})));
        assert_eq!(a.recursive_difference(&b), set(json!({"f:z": {}})));
        let leaves = |but: &FieldSet, most: usize| {
            let mut told = Vec::new();
            let all = a.each_leaf(but, &mut |text| {
                told.push(text.to_owned());
                told.len() < most
            });
            (told, all)
        };
        let all = vec![".z".to_owned(), ".x.y".to_owned()];
        assert_eq!(leaves(&b, 9), (all.clone(), true), "what is above a leaf spares nothing below it");
        assert_eq!(leaves(&FieldSet::default(), 1), (all[..1].to_vec(), false));
        assert_eq!(leaves(&a, 9), (Vec::new(), true));
    }

    #[test]
    fn of_long_steps_messages_show_the_beginning() {
        let path = [PathElement::field(&"é".repeat(1 << 20)), PathElement::field("a")];
        assert_eq!(path_text(&path), format!(".{}.a", "é".repeat(SHOWN_STEP_BYTES / 2 - 1)));
    }
}
