//! LimitRange: default requests and limits of containers, and their bounds. Pure.

use std::collections::BTreeMap;

use apimachinery::quantity::Quantity;
use serde_json::{Value, json};

use crate::validation::{
    pod::COMPLETED_MAX,
    pod_resources,
    quantities::{Amounts, amounts},
};

/// The annotation in which the plugin records its defaults.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

fn items<'a>(range: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    let limits = range["spec"]["limits"].as_array().into_iter().flatten();
    limits.filter(move |item| item["type"] == kind)
}

/// Fills in the requests and limits that the containers of a pod leave out.
pub(crate) fn default_pod(range: &Value, pod: &mut Value) {
    let mut wanted: BTreeMap<&str, BTreeMap<String, Value>> = BTreeMap::new();
    for item in items(range, "Container") {
        for (side, field) in [("requests", "defaultRequest"), ("limits", "default")] {
            for (name, value) in item[field].as_object().into_iter().flatten() {
                wanted.entry(side).or_default().insert(name.clone(), value.clone());
            }
        }
    }
    let (mut notes, mut left) = (Vec::new(), if wanted.is_empty() { 0 } else { COMPLETED_MAX });
    for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
        for container in pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(others) = left.checked_sub(1) else { break };
            left = others;
            for (side, note) in [("requests", "request"), ("limits", "limit")] {
                let mut set = Vec::new();
                for (name, value) in wanted.get(side).into_iter().flatten() {
                    if container["resources"][side][name].is_null() {
                        container["resources"][side][name] = value.clone();
                        set.push(name.clone());
                    }
                }
                if !set.is_empty() {
                    let name = container["name"].as_str().unwrap_or_default();
                    notes.push(format!("{} {note} for {what} {name}", set.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        if !pod["metadata"]["annotations"].is_object() {
            pod["metadata"]["annotations"] = json!({});
        }
        let note = format!("LimitRanger plugin set: {}", notes.join("; "));
        pod["metadata"]["annotations"][ANNOTATION] = note.into();
    }
}

/// Why a pod does not fit; nothing if it does.
pub(crate) fn check_pod(range: &Value, pod: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    for item in items(range, "Container") {
        for list in ["containers", "initContainers"] {
            for container in pod["spec"][list].as_array().into_iter().flatten() {
                let side = |side: &str| amounts(&container["resources"][side]);
                check(item, "Container", &side("requests"), &side("limits"), &mut errors);
            }
        }
    }
    for item in items(range, "Pod") {
        let side = |side: &str| pod_resources::of_pod(&pod["spec"], side);
        check(item, "Pod", &side("requests"), &side("limits"), &mut errors);
    }
    errors
}

/// Why a claim does not fit; nothing if it does.
pub(crate) fn check_claim(range: &Value, claim: &Value) -> Vec<String> {
    let requests = amounts(&claim["spec"]["resources"]["requests"]);
    let mut errors = Vec::new();
    let what = "PersistentVolumeClaim";
    for item in items(range, what) {
        for (name, min) in amounts(&item["min"]) {
            match requests.get(&name) {
                Some(request) if *request < min => {
                    errors
                        .push(format!("minimum {name} usage per {what} is {min}, but request is {request}"));
                }
                Some(_) => {}
                None => {
                    errors
                        .push(format!("minimum {name} usage per {what} is {min}.  No request is specified"));
                }
            }
        }
        for (name, max) in amounts(&item["max"]) {
            match requests.get(&name) {
                Some(request) if *request > max => {
                    errors
                        .push(format!("maximum {name} usage per {what} is {max}, but request is {request}"));
                }
                Some(_) => {}
                None => {
                    errors
                        .push(format!("maximum {name} usage per {what} is {max}.  No request is specified"));
                }
            }
        }
    }
    errors
}

fn check(item: &Value, what: &str, requests: &Amounts, limits: &Amounts, errors: &mut Vec<String>) {
    for (name, min) in amounts(&item["min"]) {
        match (requests.get(&name), limits.get(&name)) {
            (None, _) => {
                errors.push(format!("minimum {name} usage per {what} is {min}.  No request is specified"));
            }
            (Some(request), _) if *request < min => {
                errors.push(format!("minimum {name} usage per {what} is {min}, but request is {request}"));
            }
            (_, Some(limit)) if *limit < min => {
                errors.push(format!("minimum {name} usage per {what} is {min}, but limit is {limit}"));
            }
            _ => {}
        }
    }
    for (name, max) in amounts(&item["max"]) {
        match (limits.get(&name), requests.get(&name)) {
            (None, _) => {
                errors.push(format!("maximum {name} usage per {what} is {max}.  No limit is specified"));
            }
            (Some(limit), _) if *limit > max => {
                errors.push(format!("maximum {name} usage per {what} is {max}, but limit is {limit}"));
            }
            (_, Some(request)) if *request > max => {
                errors.push(format!("maximum {name} usage per {what} is {max}, but request is {request}"));
            }
            _ => {}
        }
    }
    for (name, ratio) in amounts(&item["maxLimitRequestRatio"]) {
        let side =
            |amounts: &Amounts| amounts.get(&name).copied().filter(|amount: &Quantity| !amount.is_zero());
        match (side(requests), side(limits)) {
            (None, _) | (_, None) => {
                let other = if side(requests).is_none() { "request" } else { "limit" };
                errors.push(format!(
                    "{name} max limit to request ratio per {what} is {ratio}, but no {other} is specified or {other} is 0"
                ));
            }
            (Some(request), Some(limit)) => {
                let found = limit.millis() as f64 / request.millis() as f64;
                if found > ratio.millis() as f64 / 1000.0 {
                    errors.push(format!(
                        "{name} max limit to request ratio per {what} is {ratio}, but provided ratio is {found:.6}"
                    ));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range() -> Value {
        json!({"spec": {"limits": [{
            "type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"},
            "min": {"cpu": "50m"}, "max": {"cpu": "1"},
        }]}})
    }

    #[test]
    fn a_container_gets_what_it_leaves_out() {
        let mut pod = json!({"metadata": {}, "spec": {"containers": [{"name": "a"}]}});
        default_pod(&range(), &mut pod);
        assert_eq!(
            pod["spec"]["containers"][0]["resources"],
            json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "500m"}})
        );
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: cpu request for container a; cpu limit for container a"
        );
        assert!(check_pod(&range(), &pod).is_empty());
    }

    #[test]
    fn too_little_and_too_much_are_told() {
        let pod = |request: &str, limit: &str| json!({"spec": {"containers": [{"resources": {"requests": {"cpu": request}, "limits": {"cpu": limit}}}]}});
        assert_eq!(
            check_pod(&range(), &pod("10m", "2")),
            [
                "minimum cpu usage per Container is 50m, but request is 10m",
                "maximum cpu usage per Container is 1, but limit is 2"
            ]
        );
    }
}
