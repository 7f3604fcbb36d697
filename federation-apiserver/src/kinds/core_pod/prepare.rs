//! What a new pod is given by the server itself, and what older manifests say of it by annotations.

use apimachinery::FieldPath;
use serde_json::{Value, json};

use super::disabled_fields;
use crate::{
    registry::ErrorList,
    validation::{items, items_mut, legacy_annotations::APP_ARMOR, pod, security_context, text},
};

const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// The status that a pod begins with. One behind gates is told not to be scheduled (`applySchedulingGatedCondition`).
pub(super) fn begin(pod: &mut Value) {
    disabled_fields::leave_out(pod, None);
    let class = pod::qos_class(&pod["spec"]);
    pod["status"] = json!({"phase": "Pending", "qosClass": class});
    if items(&pod["spec"], "schedulingGates").next().is_some() {
        pod["status"]["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "lastProbeTime": null,
            "lastTransitionTime": pod["metadata"]["creationTimestamp"],
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
}

/// Carries over what annotations say of how containers are confined, and tells who still says it so (`applyAppArmorVersionSkew`).
pub(super) fn carry_over(pod: &mut Value) -> Vec<String> {
    if pod["spec"]["os"]["name"] == "windows" {
        return Vec::new();
    }
    let annotations = pod["metadata"]["annotations"].clone();
    let Some(annotations) = annotations.as_object() else { return Vec::new() };
    if !annotations.keys().any(|key| key.starts_with(APP_ARMOR)) {
        return Vec::new();
    }
    let of_pod = pod["spec"]["securityContext"]["appArmorProfile"].clone();
    let mut warnings = Vec::new();
    for list in LISTS {
        for container in items_mut(&mut pod["spec"], list) {
            let key = format!("{APP_ARMOR}{}", text(container, "name"));
            let Some(said) = annotations.get(&key).and_then(Value::as_str) else { continue };
            if !container["securityContext"]["appArmorProfile"].is_null() {
                continue;
            }
            let profile = profile(said);
            if profile.as_ref() == Some(&of_pod) {
                continue;
            }
            if let Some(profile) = profile {
                if !container["securityContext"].is_object() {
                    container["securityContext"] = json!({});
                }
                container["securityContext"]["appArmorProfile"] = profile;
            }
            let path = FieldPath::new("metadata.annotations").key(&key);
            let path = path.as_str();
            warnings
                .push(format!("{path}: deprecated since v1.30; use the \"appArmorProfile\" field instead"));
        }
    }
    warnings
}

/// The field for what an annotation says, if that is valid.
fn profile(said: &str) -> Option<Value> {
    let profile = match (said, said.strip_prefix("localhost/")) {
        ("unconfined", _) => json!({"type": "Unconfined"}),
        ("runtime/default", _) => json!({"type": "RuntimeDefault"}),
        (_, Some(name)) if !name.is_empty() => json!({"type": "Localhost", "localhostProfile": name}),
        _ => return None,
    };
    let mut errors = ErrorList::new();
    security_context::app_armor(&json!({"appArmorProfile": profile}), &FieldPath::default(), &mut errors);
    errors.is_empty().then_some(profile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_annotations_say_becomes_a_field_unless_there_is_one() {
        let check = |said: &str, context: Value, of_pod: Value, expect: Value, warned: bool| {
            let annotations = json!({"container.apparmor.security.beta.kubernetes.io/c": said});
            let mut pod = json!({
                "metadata": {"annotations": annotations},
                "spec": {"securityContext": of_pod, "containers": [{"name": "c", "securityContext": context}, {"name": "d"}]},
            });
            let warnings = carry_over(&mut pod);
            let container = &pod["spec"]["containers"][0];
            assert_eq!(container["securityContext"]["appArmorProfile"], expect, "{said}");
            assert_eq!(pod["spec"]["containers"][1], json!({"name": "d"}));
            let words = "metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: deprecated since v1.30; use the \"appArmorProfile\" field instead";
            assert_eq!(warnings, if warned { vec![words.to_owned()] } else { vec![] }, "{said}");
        };
        let (none, unconfined) = (Value::Null, json!({"type": "Unconfined"}));
        check("unconfined", none.clone(), none.clone(), unconfined.clone(), true);
        check("runtime/default", none.clone(), none.clone(), json!({"type": "RuntimeDefault"}), true);
        let local = json!({"type": "Localhost", "localhostProfile": "web"});
        check("localhost/web", none.clone(), none.clone(), local.clone(), true);
        for odd in ["localhost/", "localhost/ padded", "", "odd"] {
            check(odd, none.clone(), none.clone(), none.clone(), true);
        }
        let own = json!({"appArmorProfile": local});
        check("unconfined", own, none.clone(), local, false);
        check("unconfined", none.clone(), json!({"appArmorProfile": unconfined}), none, false);
    }

    #[test]
    fn a_pod_behind_gates_says_so() {
        let mut pod = json!({"metadata": {}, "spec": {"schedulingGates": [{"name": "a"}]}});
        begin(&mut pod);
        assert_eq!(pod["status"]["conditions"][0]["reason"], "SchedulingGated");
    }
}
