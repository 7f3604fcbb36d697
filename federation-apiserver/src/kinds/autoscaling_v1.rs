//! autoscaling/v1: one CPU percentage, and everything else of v2 in annotations.
//!
//! Follows `pkg/apis/autoscaling/v1/conversion.go`: what v1 has no field for travels as JSON in annotations whose names
//! start with `autoscaling.alpha.kubernetes.io/`, so that an object that passes through v1 loses nothing.

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

fn is_current_cpu(metric: &Value) -> bool {
    metric["resource"]["name"] == "cpu" && !metric["resource"]["current"]["averageUtilization"].is_null()
}

fn entries(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(entries)) => entries,
        _ => Vec::new(),
    }
}

/// From v1 to v2.
pub(super) fn to_v2(mut object: Value) -> Value {
    object["apiVersion"] = "autoscaling/v2".into();
    let mut annotation = |name: &str| -> Option<Value> {
        let annotations = object["metadata"].get_mut("annotations")?.as_object_mut()?;
        let text = annotations.remove(name)?;
        serde_json::from_str(text.as_str()?).ok()
    };
    let wanted = metrics(entries(annotation(METRICS)), Side::Target);
    let current = metrics(entries(annotation(CURRENT_METRICS)), Side::Current);
    let (rules, conditions) = (annotation(BEHAVIOR).map(behavior), annotation(CONDITIONS));
    drop_empty_annotations(&mut object);
    let mut all = Vec::new();
    if let Some(spec) = object["spec"].as_object_mut() {
        if let Some(percent) = spec.remove("targetCPUUtilizationPercentage").filter(|value| !value.is_null())
        {
            all.push(cpu(&percent));
        }
        all.extend(wanted);
        if !all.is_empty() {
            spec.insert("metrics".into(), all.into());
        }
        if let Some(rules) = rules {
            spec.insert("behavior".into(), rules);
        }
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        let mut all = Vec::new();
        if let Some(percent) =
            status.remove("currentCPUUtilizationPercentage").filter(|value| !value.is_null())
        {
            let value = current.iter().find(|metric| metric["resource"]["name"] == "cpu");
            let mut usage = json!({"averageUtilization": percent});
            if let Some(value) = value {
                usage["averageValue"] = value["resource"]["current"]["averageValue"].clone();
            }
            all.push(json!({"type": "Resource", "resource": {"name": "cpu", "current": usage}}));
        }
        all.extend(current.into_iter().filter(|metric| metric["resource"]["name"] != "cpu"));
        if !all.is_empty() {
            status.insert("currentMetrics".into(), all.into());
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
        if let Some(at) = metrics.iter().position(is_cpu) {
            let metric = metrics.remove(at);
            let percent = metric["resource"]["target"]["averageUtilization"].clone();
            spec.insert("targetCPUUtilizationPercentage".into(), percent);
        }
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
                "metrics": [cpu(&json!(60)), {"type": "Pods", "pods": {"metric": {"name": "qps"},
                    "target": {"type": "AverageValue", "averageValue": "5"}}}],
                "behavior": {"scaleDown": {"selectPolicy": "Max"}},
            },
            "status": {"currentReplicas": 2, "desiredReplicas": 3,
                "conditions": [{"type": "AbleToScale", "status": "True"}]},
        });
        let v1 = from_v2(v2.clone());
        assert_eq!(v1["spec"]["targetCPUUtilizationPercentage"], 60);
        assert!(v1["metadata"]["annotations"][METRICS].as_str().is_some_and(|text| text.contains("qps")));
        assert_eq!(to_v2(v1), v2);
    }
}
