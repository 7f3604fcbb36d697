//! What autoscaling/v1 has no field for, as the JSON of its annotations: metrics in types of its own, behavior in Go's internal ones.
//!
//! Follows `pkg/apis/autoscaling/v1/conversion.go` and the types that it marshals, whose fields come in the order of the types.

use serde_json::{Map, Value, json};

/// What a metric says: how much is wanted, or how much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// `spec.metrics`.
    Target,
    /// `status.currentMetrics`.
    Current,
}

impl Side {
    /// Where v2 has the amounts.
    fn amounts(self) -> &'static str {
        match self {
            Self::Target => "target",
            Self::Current => "current",
        }
    }

    /// The name of an amount in v1: `targetAverageValue`.
    fn named(self, amount: &str) -> String {
        format!("{}{amount}", self.amounts())
    }
}

/// The kinds of metrics, in the order of v1's type.
const KINDS: [&str; 5] = ["object", "pods", "resource", "containerResource", "external"];

/// The annotation of v2's metrics.
pub(super) fn metrics_text(metrics: &[Value], side: Side) -> String {
    let all: Vec<String> = metrics.iter().map(|metric| metric_text(metric, side)).collect();
    format!("[{}]", all.join(","))
}

fn metric_text(metric: &Value, side: Side) -> String {
    let mut fields = vec![("type".to_owned(), shown(&metric["type"]))];
    for kind in KINDS {
        let source = &metric[kind];
        if source.is_object() {
            fields.push((kind.to_owned(), Some(source_text(kind, source, side))));
        }
    }
    struct_text(&fields)
}

fn source_text(kind: &str, source: &Value, side: Side) -> String {
    let amounts = &source[side.amounts()];
    let amount = |amount: &str, field: &str| (side.named(amount), shown(&amounts[field]));
    // Amounts that are no pointers in Go are there in any case.
    let always = |amount: &str, field: &str| {
        (side.named(amount), Some(shown(&amounts[field]).unwrap_or_else(|| r#""0""#.to_owned())))
    };
    let own = |name: &str, value: &Value| (name.to_owned(), shown(value));
    let metric = &source["metric"];
    let (name, selector) = (own("metricName", &metric["name"]), own("selector", &metric["selector"]));
    struct_text(&match kind {
        "object" => vec![
            ("target".to_owned(), Some(reference_text(&source["describedObject"]))),
            name,
            always("Value", "value"),
            selector,
            own("averageValue", &amounts["averageValue"]),
        ],
        "pods" => vec![name, always("AverageValue", "averageValue"), selector],
        "external" => {
            let value = match side {
                Side::Target => amount("Value", "value"),
                Side::Current => always("Value", "value"),
            };
            let selector = own("metricSelector", &metric["selector"]);
            vec![name, selector, value, amount("AverageValue", "averageValue")]
        }
        _ => {
            let average = match side {
                Side::Target => amount("AverageValue", "averageValue"),
                Side::Current => always("AverageValue", "averageValue"),
            };
            let utilization = amount("AverageUtilization", "averageUtilization");
            vec![own("name", &source["name"]), utilization, average, own("container", &source["container"])]
        }
    })
}

fn reference_text(reference: &Value) -> String {
    let fields = ["kind", "name", "apiVersion"].map(|name| (name.to_owned(), shown(&reference[name])));
    struct_text(&fields)
}

/// A value as it stands in a field that may be absent.
fn shown(value: &Value) -> Option<String> {
    (!value.is_null()).then(|| value.to_string())
}

/// Fields in the order of Go's type.
fn struct_text(fields: &[(String, Option<String>)]) -> String {
    let all: Vec<String> =
        fields.iter().filter_map(|(name, text)| Some(format!("\"{name}\":{}", text.as_ref()?))).collect();
    format!("{{{}}}", all.join(","))
}

/// v2's metrics of the annotation's.
pub(super) fn metrics(annotation: Vec<Value>, side: Side) -> Vec<Value> {
    annotation.into_iter().map(|metric| to_v2(metric, side)).collect()
}

fn to_v2(mut metric: Value, side: Side) -> Value {
    for kind in KINDS {
        let source = &metric[kind];
        if !source.is_object() {
            continue;
        }
        let said = |name: &str| source.get(name).filter(|value| !value.is_null()).cloned();
        let given = |amount: &str| said(&side.named(amount));
        let mut amounts = Map::new();
        let found = [
            ("value", given("Value")),
            ("averageValue", given("AverageValue").or_else(|| said("averageValue"))),
            ("averageUtilization", given("AverageUtilization")),
        ];
        amounts.extend(found.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        if side == Side::Target {
            let kind = if amounts.contains_key("averageUtilization") {
                "Utilization"
            } else if amounts.contains_key("averageValue") {
                // What is asked of the average stands beside a zero.
                amounts.remove("value");
                "AverageValue"
            } else {
                "Value"
            };
            amounts.insert("type".to_owned(), kind.into());
        }
        let mut v2 = Map::new();
        match kind {
            "resource" | "containerResource" => {
                for name in ["name", "container"] {
                    v2.extend(source.get(name).map(|value| (name.to_owned(), value.clone())));
                }
            }
            _ => {
                let selector = source.get("selector").or_else(|| source.get("metricSelector"));
                let mut named = json!({"name": source["metricName"]});
                if let Some(selector) = selector {
                    named["selector"] = selector.clone();
                }
                v2.insert("metric".to_owned(), named);
                if kind == "object" {
                    v2.insert("describedObject".to_owned(), source["target"].clone());
                }
            }
        }
        v2.insert(side.amounts().to_owned(), amounts.into());
        metric[kind] = v2.into();
    }
    metric
}

/// The annotation of v2's behavior: Go marshals its internal type here, whose fields have no names for JSON.
pub(super) fn behavior_text(behavior: &Value) -> String {
    let field = |name: &str, value: &Value| (name.to_owned(), Some(value.to_string()));
    let rules = |rules: &Value| {
        if !rules.is_object() {
            return "null".to_owned();
        }
        let policies = rules["policies"].as_array().map(|policies| {
            let all: Vec<String> = policies
                .iter()
                .map(|policy| {
                    struct_text(&[
                        field("Type", &policy["type"]),
                        field("Value", &policy["value"]),
                        field("PeriodSeconds", &policy["periodSeconds"]),
                    ])
                })
                .collect();
            format!("[{}]", all.join(","))
        });
        struct_text(&[
            field("StabilizationWindowSeconds", &rules["stabilizationWindowSeconds"]),
            field("SelectPolicy", &rules["selectPolicy"]),
            ("Policies".to_owned(), Some(policies.unwrap_or_else(|| "null".to_owned()))),
            field("Tolerance", &rules["tolerance"]),
        ])
    };
    struct_text(&[
        ("ScaleUp".to_owned(), Some(rules(&behavior["scaleUp"]))),
        ("ScaleDown".to_owned(), Some(rules(&behavior["scaleDown"]))),
    ])
}

/// v2's behavior of the annotation's. Names are read in either case, as Go reads them.
pub(super) fn behavior(annotation: Value) -> Value {
    match annotation {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| {
                    let mut letters = name.chars();
                    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
                    (first.into_iter().chain(letters).collect(), behavior(value))
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(behavior).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn passes(metrics_of_v2: Value, side: Side, text: &str) {
        let all = metrics_of_v2.as_array().cloned().unwrap_or_default();
        let told = metrics_text(&all, side);
        assert_eq!(told, text);
        let read: Vec<Value> = serde_json::from_str(&told).unwrap_or_default();
        assert_eq!(Value::from(metrics(read, side)), metrics_of_v2);
    }

    #[test]
    fn metrics_are_told_in_the_types_of_v1() {
        passes(
            json!([
                {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "100Mi"}}},
                {"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "1500m"}}},
                {"type": "External", "external": {"metric": {"name": "e", "selector": {"matchLabels": {"a": "b"}}}, "target": {"type": "Value", "value": "3"}}},
                {"type": "Object", "object": {"describedObject": {"apiVersion": "v1", "kind": "Service", "name": "s"}, "metric": {"name": "o"}, "target": {"type": "AverageValue", "averageValue": "2"}}},
                {"type": "ContainerResource", "containerResource": {"container": "c", "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
            ]),
            Side::Target,
            concat!(
                r#"[{"type":"Resource","resource":{"name":"memory","targetAverageValue":"100Mi"}},"#,
                r#"{"type":"Pods","pods":{"metricName":"m","targetAverageValue":"1500m"}},"#,
                r#"{"type":"External","external":{"metricName":"e","metricSelector":{"matchLabels":{"a":"b"}},"targetValue":"3"}},"#,
                r#"{"type":"Object","object":{"target":{"kind":"Service","name":"s","apiVersion":"v1"},"metricName":"o","targetValue":"0","averageValue":"2"}},"#,
                r#"{"type":"ContainerResource","containerResource":{"name":"cpu","targetAverageUtilization":50,"container":"c"}}]"#,
            ),
        );
        passes(
            json!([{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 7, "averageValue": "70m"}}}]),
            Side::Current,
            r#"[{"type":"Resource","resource":{"name":"cpu","currentAverageUtilization":7,"currentAverageValue":"70m"}}]"#,
        );
    }

    #[test]
    fn behavior_is_told_as_go_marshals_its_own_type() {
        let v2 = json!({"scaleDown": {"policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}], "selectPolicy": "Max"}});
        let text = behavior_text(&v2);
        assert_eq!(
            text,
            r#"{"ScaleUp":null,"ScaleDown":{"StabilizationWindowSeconds":null,"SelectPolicy":"Max","Policies":[{"Type":"Percent","Value":100,"PeriodSeconds":15}],"Tolerance":null}}"#
        );
        assert_eq!(behavior(serde_json::from_str(&text).unwrap_or_default()), v2);
    }
}
