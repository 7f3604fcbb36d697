//! Label selectors: Kubernetes' own, and the requirement list of Federation v1's cluster-selector annotation.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::Value;
use thiserror::Error;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// Whether `selector` selects `labels`. As in Kubernetes an empty selector selects everything; a requirement whose
/// operator is unknown selects nothing, so that a typo never widens a selection.
pub fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|requirement| {
            let values = requirement.values.as_deref().unwrap_or_default();
            Operator::parse(&requirement.operator)
                .is_some_and(|operator| operator.holds(labels.get(&requirement.key), values))
        })
}

/// One requirement of Federation v1's `federation.alpha.kubernetes.io/cluster-selector`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

impl Requirement {
    /// Whether `labels` satisfy this requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.operator.holds(labels.get(&self.key), &self.values)
    }
}

/// Why a cluster-selector annotation was refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SelectorError {
    /// The text is no JSON.
    #[error("not JSON: {0}")]
    Json(String),
    /// The text is JSON, but no list of objects.
    #[error("must be a JSON list of {{\"key\", \"operator\", \"values\"}}")]
    Shape,
    /// A requirement has no key.
    #[error("[{0}].key: must name a label")]
    Key(usize),
    /// An operator is not one of v1's.
    #[error(
        "[{index}].operator: {operator:?} is not one of In, NotIn, Exists, DoesNotExist, =, ==, !=, Gt, Lt"
    )]
    Operator {
        /// Position in the list.
        index: usize,
        /// What was given.
        operator: String,
    },
    /// The values do not suit the operator.
    #[error("[{index}].values: {rule}")]
    Values {
        /// Position in the list.
        index: usize,
        /// What the operator wants.
        rule: &'static str,
    },
}

/// Reads the value of a cluster-selector annotation. Keys are matched without regard to case, as Go's decoder did.
pub fn cluster_selector(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    let value: Value = serde_json::from_str(text).map_err(|error| SelectorError::Json(error.to_string()))?;
    let Value::Array(items) = value else { return Err(SelectorError::Shape) };
    items.iter().enumerate().map(|(index, item)| requirement(index, item)).collect()
}

fn requirement(index: usize, item: &Value) -> Result<Requirement, SelectorError> {
    let fields = item.as_object().ok_or(SelectorError::Shape)?;
    let field =
        |name: &str| fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let key = field("key").and_then(Value::as_str).unwrap_or_default();
    if key.is_empty() {
        return Err(SelectorError::Key(index));
    }
    let name = field("operator").and_then(Value::as_str).unwrap_or_default();
    let operator =
        Operator::parse(name).ok_or_else(|| SelectorError::Operator { index, operator: name.to_owned() })?;
    let values = match field("values") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(values)) => values
            .iter()
            .map(|value| value.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or(SelectorError::Values { index, rule: "must be strings" })?,
        Some(_) => return Err(SelectorError::Values { index, rule: "must be a list of strings" }),
    };
    operator.check(&values).map_err(|rule| SelectorError::Values { index, rule })?;
    Ok(Requirement { key: key.to_owned(), operator, values })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

impl Operator {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "In" | "in" | "=" | "==" => Self::In,
            "NotIn" | "notin" | "!=" => Self::NotIn,
            "Exists" | "exists" => Self::Exists,
            "DoesNotExist" | "!" => Self::DoesNotExist,
            "Gt" | "gt" | ">" => Self::GreaterThan,
            "Lt" | "lt" | "<" => Self::LessThan,
            _ => return None,
        })
    }

    fn check(self, values: &[String]) -> Result<(), &'static str> {
        match self {
            Self::In | Self::NotIn if values.is_empty() => Err("must have at least one value"),
            Self::Exists | Self::DoesNotExist if !values.is_empty() => Err("must be empty for this operator"),
            Self::GreaterThan | Self::LessThan
                if values.len() != 1 || values.iter().any(|value| value.parse::<i64>().is_err()) =>
            {
                Err("must be exactly one integer")
            }
            _ => Ok(()),
        }
    }

    fn holds(self, label: Option<&String>, values: &[String]) -> bool {
        let number = |text: Option<&String>| text.and_then(|text| text.parse::<i64>().ok());
        match self {
            Self::In => label.is_some_and(|label| values.contains(label)),
            // As in Kubernetes, a label that is absent is not in any list.
            Self::NotIn => label.is_none_or(|label| !values.contains(label)),
            Self::Exists => label.is_some(),
            Self::DoesNotExist => label.is_none(),
            Self::GreaterThan => {
                number(label).zip(number(values.first())).is_some_and(|(label, value)| label > value)
            }
            Self::LessThan => {
                number(label).zip(number(values.first())).is_some_and(|(label, value)| label < value)
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[track_caller]
    fn check(selector: &str, expect: bool) {
        let taiwan = labels(&[("region", "asia-east"), ("racks", "7")]);
        let requirements = cluster_selector(selector).unwrap();
        assert_eq!(requirements.iter().all(|requirement| requirement.matches(&taiwan)), expect, "{selector}");
    }

    #[test]
    fn every_operator_of_federation_v1_is_understood() {
        check("[]", true);
        check(r#"[{"key":"region","operator":"In","values":["asia-east","eu"]}]"#, true);
        check(r#"[{"key":"region","operator":"==","values":["eu"]}]"#, false);
        check(r#"[{"key":"region","operator":"!=","values":["eu"]}]"#, true);
        check(r#"[{"Key":"absent","Operator":"notin","Values":["x"]}]"#, true);
        check(r#"[{"key":"absent","operator":"exists"}]"#, false);
        check(r#"[{"key":"absent","operator":"!","values":null}]"#, true);
        check(r#"[{"key":"racks","operator":">","values":["6"]}]"#, true);
        check(r#"[{"key":"racks","operator":"Lt","values":["6"]}]"#, false);
        check(r#"[{"key":"region","operator":"gt","values":["6"]}]"#, false);
    }

    #[test]
    fn a_refusal_names_the_field() {
        let message = |text: &str| cluster_selector(text).unwrap_err().to_string();
        assert!(message("[{").starts_with("not JSON"));
        assert_eq!(
            message(r#"[{"key":"a","operator":"Exists"},{"operator":"In"}]"#),
            "[1].key: must name a label"
        );
        assert!(message(r#"[{"key":"a","operator":"like"}]"#).starts_with("[0].operator: \"like\""));
        assert_eq!(message(r#"[{"key":"a","operator":"In"}]"#), "[0].values: must have at least one value");
        assert_eq!(cluster_selector("{}"), Err(SelectorError::Shape));
    }

    #[test]
    fn an_unknown_operator_selects_nothing() {
        let selector: LabelSelector =
            serde_json::from_str(r#"{"matchExpressions":[{"key":"a","operator":"Like","values":["b"]}]}"#)
                .unwrap();
        assert!(!matches(&selector, &labels(&[("a", "b")])));
        assert!(matches(&LabelSelector::default(), &labels(&[])));
    }
}
