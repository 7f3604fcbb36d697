//! autoscaling/v1: one CPU percentage, and everything else of v2 in annotations.
//!
//! Follows `pkg/apis/autoscaling/v1/conversion.go`: what v1 has no field for travels as JSON in annotations whose names
//! start with `autoscaling.alpha.kubernetes.io/`, so that an object that passes through v1 loses nothing.

use kube_schema::{Empties, Schemas};
use serde_json::{Map, Value, json};

use super::autoscaling_annotations::{Side, behavior, behavior_text, metrics, metrics_text};
use crate::validation::set;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";

pub(super) fn default(object: &mut Value) {
    set(&mut object["spec"], "minReplicas", 1);
}

/// The v2 metric that the v1 field says.
fn cpu(percent: &Value) -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}}})
}

fn is_cpu(metric: &Value) -> bool {
    metric["resource"]["name"] == "cpu" && !metric["resource"]["target"]["averageUtilization"].is_null()
}

/// The first metric of the processor is the one that v1 tells a percentage of, if it has one.
fn first_percent(metrics: &[Value]) -> Option<Value> {
    let first =
        metrics.iter().find(|metric| metric["type"] == "Resource" && metric["resource"]["name"] == "cpu")?;
    Some(first["resource"]["target"]["averageUtilization"].clone()).filter(|percent| !percent.is_null())
}

fn is_current_cpu(metric: &Value) -> bool {
    metric["resource"]["name"] == "cpu" && !metric["resource"]["current"]["averageUtilization"].is_null()
}

fn entries(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(entries)) => entries,
        _ => Vec::new(),
    }
}

/// What an annotation says of a member of v2's `spec` or `status`, without what v2 does not know. Go ignores an annotation that it cannot decode:
/// so does this where v2 could not be decoded.
fn decoded(part: &str, member: &str, value: Value) -> Option<Value> {
    const KIND: (&str, &str, &str) = ("autoscaling", "v2", "HorizontalPodAutoscaler");
    let (group, version, kind) = KIND;
    let schemas = Schemas::builtin();
    let mut object = json!({part: {member: value}});
    if !schemas.validate(group, version, kind, &object)?.mismatches.is_empty() {
        return None;
    }
    schemas.canonicalise(group, version, kind, &mut object, Empties::Omitted);
    Some(object[part][member].take())
}

/// From v1 to v2.
pub(super) fn to_v2(mut object: Value) -> Value {
    object["apiVersion"] = "autoscaling/v2".into();
    let mut annotation = |name: &str| -> Option<Value> {
        let annotations = object["metadata"].get_mut("annotations")?.as_object_mut()?;
        let text = annotations.remove(name)?;
        serde_json::from_str(text.as_str()?).ok()
    };
    let mut all_metrics = |name: &str, side, part: &str, member: &str| {
        let found = annotation(name).filter(|found| found.is_array() || found.is_null())?;
        decoded(part, member, metrics(entries(Some(found)), side).into())
    };
    let wanted = entries(all_metrics(METRICS, Side::Target, "spec", "metrics"));
    let current = all_metrics(CURRENT_METRICS, Side::Current, "status", "currentMetrics");
    let current = current.map(|current| entries(Some(current)));
    let rules = annotation(BEHAVIOR).and_then(|rules| decoded("spec", "behavior", behavior(rules)));
    let rules = rules.filter(|rules| rules.as_object().is_some_and(|rules| !rules.is_empty()));
    let conditions = annotation(CONDITIONS).and_then(|found| decoded("status", "conditions", found));
    let conditions = conditions.filter(Value::is_array);
    drop_empty_annotations(&mut object);
    if let Some(spec) = object["spec"].as_object_mut() {
        let percent = spec.remove("targetCPUUtilizationPercentage").filter(|value| !value.is_null());
        let mut all = wanted;
        all.extend(percent.map(|percent| cpu(&percent)));
        if !all.is_empty() {
            spec.insert("metrics".into(), all.into());
        }
        if let Some(rules) = rules {
            spec.insert("behavior".into(), rules);
        }
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        let percent = status.remove("currentCPUUtilizationPercentage").filter(|value| !value.is_null());
        let usage = |percent| json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": percent}}});
        // The annotation says more than the field.
        let all = current.unwrap_or_else(|| percent.map(usage).into_iter().collect());
        if !all.is_empty() {
            status.insert("currentMetrics".into(), all.into());
        }
        // v2 leaves it out.
        if status.get("currentReplicas").is_some_and(|count| *count == 0) {
            status.remove("currentReplicas");
        }
        if let Some(conditions) = conditions {
            status.insert("conditions".into(), conditions);
        }
    }
    object
}

/// From v2 to v1.
pub(super) fn from_v2(mut object: Value) -> Value {
    object["apiVersion"] = "autoscaling/v1".into();
    let mut annotations = Map::new();
    let mut tell = |name: &str, text: String| {
        annotations.insert(name.to_owned(), text.into());
    };
    if let Some(spec) = object["spec"].as_object_mut() {
        let mut metrics = entries(spec.remove("metrics"));
        if let Some(percent) = first_percent(&metrics) {
            spec.insert("targetCPUUtilizationPercentage".into(), percent);
        }
        metrics.retain(|metric| !is_cpu(metric));
        if !metrics.is_empty() {
            tell(METRICS, metrics_text(&metrics, Side::Target));
        }
        if let Some(behavior) = spec.remove("behavior").filter(|behavior| !behavior.is_null()) {
            tell(BEHAVIOR, behavior_text(&behavior));
        }
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        let current = entries(status.remove("currentMetrics"));
        if let Some(metric) = current.iter().find(|metric| is_current_cpu(metric)) {
            let percent = metric["resource"]["current"]["averageUtilization"].clone();
            status.insert("currentCPUUtilizationPercentage".into(), percent);
        }
        if !current.is_empty() {
            tell(CURRENT_METRICS, metrics_text(&current, Side::Current));
        }
        if let Some(conditions) = status.remove("conditions").filter(Value::is_array) {
            tell(CONDITIONS, conditions.to_string());
        }
        for name in ["currentReplicas", "desiredReplicas"] {
            status.entry(name).or_insert_with(|| 0.into());
        }
    }
    if !annotations.is_empty() {
        set(&mut object["metadata"], "annotations", json!({}));
        if let Some(all) = object["metadata"]["annotations"].as_object_mut() {
            all.extend(annotations);
        }
    }
    object
}

fn drop_empty_annotations(object: &mut Value) {
    let Some(metadata) = object["metadata"].as_object_mut() else { return };
    if metadata.get("annotations").and_then(Value::as_object).is_some_and(Map::is_empty) {
        metadata.remove("annotations");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_autoscaler_loses_nothing_on_its_way_through_v1() {
        let v2 = json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"},
            "spec": {
                "maxReplicas": 5,
                "metrics": [{"type": "Pods", "pods": {"metric": {"name": "qps"},
                    "target": {"type": "AverageValue", "averageValue": "5"}}}, cpu(&json!(60))],
                "behavior": {"scaleDown": {"selectPolicy": "Max"}},
            },
            "status": {"currentReplicas": 2, "desiredReplicas": 3,
                "conditions": [{"type": "AbleToScale", "status": "True", "lastTransitionTime": null}]},
        });
        let v1 = from_v2(v2.clone());
        assert_eq!(v1["spec"]["targetCPUUtilizationPercentage"], 60);
        assert!(v1["metadata"]["annotations"][METRICS].as_str().is_some_and(|text| text.contains("qps")));
        assert_eq!(to_v2(v1), v2);
    }

    #[test]
    fn the_percentage_comes_after_the_annotations_metrics_and_is_the_first_of_them() {
        let memory = json!({"type": "Resource", "resource": {"name": "memory", "targetAverageValue": "1Gi"}});
        let percent =
            json!({"type": "Resource", "resource": {"name": "cpu", "targetAverageUtilization": 33}});
        let amount = json!({"type": "Resource", "resource": {"name": "cpu", "targetAverageValue": "3"}});
        let v1 = |metrics: &[&Value]| {
            json!({"spec": {"targetCPUUtilizationPercentage": 50},
                "metadata": {"annotations": {METRICS: json!(metrics).to_string()}}})
        };
        let told = |metrics: &[&Value]| {
            let v2 = to_v2(v1(metrics));
            let all = v2["spec"]["metrics"].as_array().cloned().unwrap_or_default();
            let all: Vec<_> = all.iter().map(|metric| metric["resource"]["target"].clone()).collect();
            (json!(all), from_v2(v2)["spec"].get("targetCPUUtilizationPercentage").cloned())
        };
        let utilized = |percent: i64| json!({"type": "Utilization", "averageUtilization": percent});
        let average = |amount: &str| json!({"type": "AverageValue", "averageValue": amount});
        assert_eq!(told(&[&memory]), (json!([average("1Gi"), utilized(50)]), Some(json!(50))));
        assert_eq!(
            told(&[&memory, &percent]),
            (json!([average("1Gi"), utilized(33), utilized(50)]), Some(json!(33)))
        );
        assert_eq!(told(&[&amount]), (json!([average("3"), utilized(50)]), None), "the first one has none");
    }

    #[test]
    fn what_is_measured_is_told_by_the_annotation_if_there_is_one() {
        let v1 = |annotations: Value| {
            let object = json!({"spec": {}, "metadata": {"annotations": annotations},
                "status": {"currentReplicas": 0, "desiredReplicas": 0, "currentCPUUtilizationPercentage": 7}});
            to_v2(object)["status"].clone()
        };
        let cpu =
            json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 7}}});
        assert_eq!(v1(json!({"a": "b"})), json!({"desiredReplicas": 0, "currentMetrics": [cpu]}));
        assert_eq!(
            v1(json!({CURRENT_METRICS: "odd"})),
            json!({"desiredReplicas": 0, "currentMetrics": [cpu]})
        );
        assert_eq!(v1(json!({CURRENT_METRICS: "[]"})), json!({"desiredReplicas": 0}));
    }

    #[test]
    fn annotations_that_go_cannot_decode_say_nothing() {
        let object = |annotations: Value| {
            to_v2(json!({
                "metadata": {"annotations": annotations},
                "spec": {"targetCPUUtilizationPercentage": 5}, "status": {"desiredReplicas": 1},
            }))
        };
        let plain = object(json!({"a": "b"}));
        for (name, text) in [
            (BEHAVIOR, "5"),
            (BEHAVIOR, "[5]"),
            (BEHAVIOR, "{}"),
            (BEHAVIOR, r#"{"ScaleUp": {"Policies": 5}}"#),
            (METRICS, "5"),
            (METRICS, "[5]"),
            (METRICS, r#"[{"type": "Resource", "resource": 5}]"#),
            (
                METRICS,
                r#"[{"type": "Resource", "resource": {"name": "cpu", "targetAverageUtilization": "x"}}]"#,
            ),
            (
                METRICS,
                r#"[{"type": "Pods", "pods": {"metricName": "m", "targetAverageValue": "1", "selector": 5}}]"#,
            ),
            (CURRENT_METRICS, "[5]"),
            (
                CURRENT_METRICS,
                r#"[{"type": "Resource", "resource": {"name": "cpu", "currentAverageValue": "x"}}]"#,
            ),
            (CONDITIONS, "5"),
            (CONDITIONS, r#"[{"type": "T", "lastTransitionTime": "now"}]"#),
        ] {
            assert_eq!(object(json!({"a": "b", name: text})), plain, "{name}: {text}");
        }
        let odd = object(
            json!({METRICS: r#"[{"type": "Resource", "odd": 1, "resource": {"name": "memory", "targetAverageValue": "1024Mi"}}]"#}),
        );
        let target = json!({"type": "AverageValue", "averageValue": "1Gi"});
        assert_eq!(
            odd["spec"]["metrics"][0],
            json!({"type": "Resource", "resource": {"name": "memory", "target": target}}),
            "what v2 does not know goes"
        );
    }
}
