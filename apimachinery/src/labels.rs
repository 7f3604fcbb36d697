//! Label selectors: the string form of URLs and the structured form of specs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use crate::field::{FAULTS_MAX, FieldError, FieldPath};
use crate::names;

mod lexer;
mod parser;

/// The labels of an object.
pub type Labels = BTreeMap<String, String>;

/// What a requirement asks of the value of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operator {
    /// The key is there and its value is one of these. `=` and `==` are `In` with one value.
    In(BTreeSet<String>),
    /// The key is absent or its value is none of these.
    NotIn(BTreeSet<String>),
    /// The key is there.
    Exists,
    /// The key is absent.
    DoesNotExist,
    /// The value is a whole number above this one.
    GreaterThan(i64),
    /// The value is a whole number below this one.
    LessThan(i64),
}

/// One term of a selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// The label key.
    pub key: String,
    /// What is asked of it.
    pub operator: Operator,
}

impl Requirement {
    /// Whether the labels meet the requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.operator {
            Operator::In(values) => value.is_some_and(|value| values.contains(value)),
            Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan(bound) => number().is_some_and(|number| number > *bound),
            Operator::LessThan(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |values: &BTreeSet<String>| values.iter().cloned().collect::<Vec<_>>().join(",");
        match &self.operator {
            Operator::In(values) if values.len() == 1 => write!(f, "{}={}", self.key, list(values)),
            Operator::NotIn(values) if values.len() == 1 => write!(f, "{}!={}", self.key, list(values)),
            Operator::In(values) => write!(f, "{} in ({})", self.key, list(values)),
            Operator::NotIn(values) => write!(f, "{} notin ({})", self.key, list(values)),
            Operator::Exists => f.write_str(&self.key),
            Operator::DoesNotExist => write!(f, "!{}", self.key),
            Operator::GreaterThan(bound) => write!(f, "{}>{bound}", self.key),
            Operator::LessThan(bound) => write!(f, "{}<{bound}", self.key),
        }
    }
}

/// A label selector; all its requirements must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// Selects no object: an absent `metav1.LabelSelector`.
    Nothing,
    /// Selects the objects that meet all of these; none at all selects everything.
    All(Vec<Requirement>),
}

impl Default for Selector {
    fn default() -> Self {
        Self::everything()
    }
}

/// Why a selector cannot be used; the text is Kubernetes' own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

impl Selector {
    /// Selects every object.
    pub const fn everything() -> Self {
        Self::All(Vec::new())
    }

    /// True when no object can fail the selector.
    pub fn is_everything(&self) -> bool {
        matches!(self, Self::All(requirements) if requirements.is_empty())
    }

    /// Parses the form of `?labelSelector=`: `a=b,c!=d,e in (f,g),h notin (i),j,!k`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        parser::parse(text).map(Self::All).map_err(SelectorError)
    }

    /// Selects the objects that have all these labels.
    pub fn from_labels(labels: &Labels) -> Self {
        Self::All(labels.iter().map(|(key, value)| equals(key, value)).collect())
    }

    /// Reads a `metav1.LabelSelector`: absent or null selects nothing, empty selects everything.
    pub fn from_label_selector(selector: Option<&Value>) -> Result<Self, SelectorError> {
        let Some(Value::Object(selector)) = selector else { return Ok(Self::Nothing) };
        let mut requirements = Vec::new();
        if let Some(Value::Object(labels)) = selector.get("matchLabels") {
            for (key, value) in labels {
                requirements.push(equals(key, value.as_str().unwrap_or_default()));
            }
        }
        for expression in selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            requirements.push(expression_requirement(expression)?);
        }
        Ok(Self::All(requirements))
    }

    /// Whether the labels are selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        match self {
            Self::Nothing => false,
            Self::All(requirements) => requirements.iter().all(|requirement| requirement.matches(labels)),
        }
    }

    /// Whether the object's `metadata.labels` are selected.
    pub fn matches_object(&self, object: &Value) -> bool {
        self.is_everything() || self.matches(&labels_of(object))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::All(requirements) = self else { return Ok(()) };
        let texts: Vec<String> = requirements.iter().map(Requirement::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

fn equals(key: &str, value: &str) -> Requirement {
    Requirement { key: key.to_owned(), operator: Operator::In(BTreeSet::from([value.to_owned()])) }
}

/// The labels of an object; what is not a string is left out.
pub fn labels_of(object: &Value) -> Labels {
    object
        .pointer("/metadata/labels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn expression_requirement(expression: &Value) -> Result<Requirement, SelectorError> {
    let text = |name: &str| expression.get(name).and_then(Value::as_str).unwrap_or_default();
    let values: BTreeSet<String> = expression
        .get("values")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|value| value.as_str().map(str::to_owned))
        .collect();
    let operator = match text("operator") {
        "In" | "NotIn" if values.is_empty() => {
            return Err(SelectorError(
                "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
                    .to_owned(),
            ));
        }
        "In" => Operator::In(values),
        "NotIn" => Operator::NotIn(values),
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        other => return Err(SelectorError(format!("{other:?} is not a valid label selector operator"))),
    };
    Ok(Requirement { key: text("key").to_owned(), operator })
}

/// Every fault of a `metav1.LabelSelector` at `path`.
pub fn validate_label_selector(selector: &Value, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(labels) = selector.get("matchLabels") {
        validate_labels(labels, &path.child("matchLabels"), &mut errors);
    }
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    for (index, expression) in expressions.into_iter().flatten().enumerate() {
        let path = path.child("matchExpressions").index(index);
        let text = |name: &str| expression.get(name).and_then(Value::as_str).unwrap_or_default();
        let values = expression.get("values").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        match text("operator") {
            "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
                &path.child("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
                &path.child("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.push(FieldError::invalid(
                &path.child("operator"),
                other,
                "not a valid selector operator",
            )),
        }
        for fault in names::label_key(text("key")) {
            errors.push(FieldError::invalid(&path.child("key"), text("key"), &fault));
        }
        for (index, value) in values.iter().enumerate() {
            for fault in names::label_value(value.as_str().unwrap_or_default()) {
                errors.push(FieldError::invalid(&path.child("values").index(index), value.clone(), &fault));
            }
        }
    }
    errors
}

/// Adds the faults of a map of labels at `path`.
pub fn validate_labels(labels: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(labels) = labels.as_object() else { return };
    for (key, value) in labels {
        if errors.len() >= FAULTS_MAX {
            return;
        }
        for fault in names::label_key(key) {
            errors.push(FieldError::invalid(path, key.as_str(), &fault));
        }
        match value.as_str() {
            Some(text) => {
                for fault in names::label_value(text) {
                    errors.push(FieldError::invalid(path, text, &fault));
                }
            }
            None => errors.push(FieldError::type_invalid(&path.key(key), value.clone(), "must be a string")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[track_caller]
    fn check(selector: &str, pairs: &[(&str, &str)], expect: bool) {
        assert_eq!(Selector::parse(selector).unwrap().matches(&labels(pairs)), expect, "{selector}");
    }

    #[test]
    fn selectors_select() {
        let web = &[("app", "web"), ("tier", "front"), ("n", "5")][..];
        for (selector, expect) in [
            ("", true),
            ("app=web", true),
            ("app==web", true),
            ("app = web , tier", true),
            ("app!=web", false),
            ("other!=web", true),
            ("app in (web,db)", true),
            ("app notin (web, db)", false),
            ("other notin (web)", true),
            ("!app", false),
            ("!other", true),
            ("n>4", true),
            ("n<5", false),
            ("app=", false),
            ("app in (db,web),tier=front,!x", true),
            ("in in (a)", false),
        ] {
            check(selector, web, expect);
        }
        check("app=", &[("app", "")], true);
        check("app in (,a)", &[("app", "")], true);
    }

    #[test]
    fn bad_selectors_tell_what_was_expected() {
        #[track_caller]
        fn fails(selector: &str, message: &str) {
            assert_eq!(Selector::parse(selector).unwrap_err().0, message, "{selector}");
        }
        fails("app=web,", "found '', expected: identifier after ','");
        fails("app in web", "unable to parse requirement: found 'web' expected: '('");
        fails("=web", "found '=', expected: !, identifier, or 'end of string'");
        fails("app web", "unable to parse requirement: found 'web', expected: in, notin, =, ==, !=, gt, lt");
        assert!(Selector::parse("a in (b").is_err());
        assert!(Selector::parse("app=a b").is_err());
        assert!(Selector::parse("n>x").unwrap_err().0.contains("must be an integer"));
        assert!(Selector::parse("-a=b").unwrap_err().0.contains("<nil>: Invalid value: \"-a\""));
        assert!(Selector::parse("a=-b").unwrap_err().0.contains("values[0][a]: Invalid value: \"-b\""));
    }

    #[test]
    fn an_absent_structured_selector_selects_nothing_and_an_empty_one_everything() {
        assert!(!Selector::from_label_selector(None).unwrap().matches(&Labels::new()));
        assert!(Selector::from_label_selector(Some(&json!({}))).unwrap().matches(&Labels::new()));
        let selector = json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["back"]}],
        });
        let selector = Selector::from_label_selector(Some(&selector)).unwrap();
        assert!(selector.matches(&labels(&[("app", "web")])));
        assert!(!selector.matches(&labels(&[("app", "web"), ("tier", "back")])));
        assert_eq!(selector.to_string(), "app=web,tier!=back");
    }

    #[test]
    fn a_structured_selector_is_validated() {
        let bad = json!({"matchExpressions": [
            {"key": "a", "operator": "In"},
            {"key": "a", "operator": "Exists", "values": ["x"]},
            {"key": "a", "operator": "Near"},
        ]});
        let errors = validate_label_selector(&bad, &FieldPath::new("spec.selector"));
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "spec.selector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
                "spec.selector.matchExpressions[1].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                "spec.selector.matchExpressions[2].operator: Invalid value: \"Near\": not a valid selector operator",
            ]
        );
    }
}
