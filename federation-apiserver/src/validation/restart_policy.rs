//! Which containers run again after they have ended: `podutil.ContainerShouldRestart` (KEP-5307, KEP-5532).

use serde_json::Value;

use super::{items, text};

/// Whether a container's end may have all of its pod begin anew (`podutil.AllContainersCouldRestart`).
pub(crate) fn all_may(spec: &Value) -> bool {
    ["initContainers", "containers"]
        .into_iter()
        .flat_map(|list| items(spec, list))
        .flat_map(|container| items(container, "restartPolicyRules"))
        .any(|rule| rule["action"] == "RestartAllContainers")
}

/// Whether a container that ended with a code runs again: by its rules, by its own policy, by that of its pod.
pub(crate) fn may(container: &Value, spec: &Value, code: i64) -> bool {
    let by = |policy: &str| match policy {
        "Always" => Some(true),
        "OnFailure" => Some(code != 0),
        "Never" => Some(false),
        _ => None,
    };
    let own = container["restartPolicy"].as_str();
    let matches = |rule: &&Value| {
        let listed = items(&rule["exitCodes"], "values").any(|value| value.as_i64() == Some(code));
        match text(&rule["exitCodes"], "operator") {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        }
    };
    let rule = own.and_then(|_| items(container, "restartPolicyRules").find(matches));
    rule.is_some_and(|rule| rule["action"] == "Restart")
        || own.and_then(by).or_else(|| by(text(spec, "restartPolicy"))).unwrap_or(true)
}
