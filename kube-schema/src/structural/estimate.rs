//! Rules that may cost too much on the largest object: Kubernetes refuses them when they are written.

use apimachinery::FieldReason;
use kube_cel::Shape;
use serde_json::Value;

use super::{Structural, Type, rules::RuleFault};

/// Bytes of a request (`MaxRequestSizeBytes`).
const REQUEST_MAX: u64 = 3 << 20;
/// `StaticEstimatedCostLimit`
const COST_MAX: u64 = 10_000_000;

impl Shape for &Structural {
    fn field(self, name: &str) -> Option<Self> {
        Structural::field(self, name)
    }

    fn item(self) -> Option<Self> {
        self.items.as_deref().or(self.additional.as_deref())
    }

    fn most(self) -> u64 {
        let (declared, item, beside) = match (&self.items, &self.additional) {
            (Some(items), _) => (self.checks.max_items, items, 1),
            // A key in its quotes, a colon and a comma.
            (None, Some(values)) => (self.checks.max_properties, values, 5),
            (None, None) => return 0,
        };
        declared.unwrap_or_else(|| REQUEST_MAX / (least_bytes(item) + beside))
    }
}

/// Bytes of the shortest value.
fn least_bytes(schema: &Structural) -> u64 {
    match schema.kind {
        Some(Type::Object) => {
            let fields = schema.checks.required.iter().filter_map(|name| {
                let field = schema.properties.get(name).filter(|field| field.default.is_none())?;
                Some(name.len() as u64 + 3 + least_bytes(field))
            });
            2 + fields.sum::<u64>()
        }
        Some(Type::String | Type::Array) => 2,
        Some(Type::Boolean) => 4,
        Some(Type::Integer | Type::Number) | None => 1,
    }
}

impl Structural {
    /// The rules of this schema and all below it that may cost too much. They must have been compiled.
    pub fn expensive_rules(&self) -> Vec<RuleFault> {
        let mut faults = Vec::new();
        look(self, "", Some(1), &mut faults);
        faults
    }
}

/// `times` is how many values of this schema an object has at most; none if nothing bounds that but the size of a request.
fn look(schema: &Structural, path: &str, times: Option<u64>, faults: &mut Vec<RuleFault>) {
    for (at, rule) in schema.compiled.iter().enumerate() {
        let once = rule.loops(schema);
        let times = times.unwrap_or_else(|| REQUEST_MAX / (least_bytes(schema) + 1));
        let cost = once.saturating_mul(times);
        if cost > COST_MAX {
            let factor = cost as f64 / COST_MAX as f64;
            let factor = if factor > 100.0 {
                "more than 100x".to_owned()
            } else if factor < 1.5 {
                format!("{factor:.6}x")
            } else {
                format!("{factor:.1}x")
            };
            faults.push(RuleFault {
                path: format!("{path}.x-kubernetes-validations[{at}].rule"),
                reason: FieldReason::Forbidden,
                value: Value::Null,
                detail: format!(
                    "estimated rule cost exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
                ),
                within: None,
                stops: false,
            });
        }
    }
    for (name, property) in &schema.properties {
        look(property, &format!("{path}.properties[{name}]"), times, faults);
    }
    let inner = |declared: Option<u64>| times.zip(declared).map(|(times, most)| times.saturating_mul(most));
    if let Some(values) = &schema.additional {
        look(values, &format!("{path}.additionalProperties"), inner(schema.checks.max_properties), faults);
    }
    if let Some(items) = &schema.items {
        look(items, &format!("{path}.items"), inner(schema.checks.max_items), faults);
    }
}
