//! The rules of which operating system a pod is for (KEP-2802): each has settings that the other has not.

use apimachinery::{FieldError, FieldPath};
use serde_json::Value;

use super::{one_of, text, visit};
use crate::registry::ErrorList;

/// What pods of Windows cannot say: of themselves, in their security context, and in those of their containers.
const OF_PODS: [&str; 4] = ["hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"];
const OF_CONTEXTS: [&str; 11] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
];
const OF_CONTAINERS: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

/// `validation.validateOS`, `validateLinux` and `validateWindows`.
pub(super) fn validate(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    if !spec["os"].is_object() {
        return;
    }
    let place = path.child("os");
    match text(&spec["os"], "name") {
        "linux" => linux(spec, path, errors),
        "windows" => windows(spec, path, errors),
        "" => errors.push(FieldError::required(&place.child("name"), "cannot be empty")),
        other => one_of(other, &place, &["linux", "windows"], errors),
    }
}

/// Whether something is said of it: what is false or empty Go does not tell from nothing where it keeps no pointer.
fn is_said(value: &Value, name: &str) -> bool {
    match name {
        "hostPID" | "hostIPC" => value[name] == true,
        "sysctls" => value[name].as_array().is_some_and(|list| !list.is_empty()),
        _ => !value[name].is_null(),
    }
}

/// The security contexts of all containers, and where they stand.
fn contexts<'a>(spec: &'a Value, path: &FieldPath) -> impl Iterator<Item = (&'a Value, FieldPath)> {
    visit::placed(spec, path)
        .map(|(container, path)| (&container["securityContext"], path.child("securityContext")))
}

fn linux(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let own = (&spec["securityContext"], path.child("securityContext"));
    for (context, path) in std::iter::once(own).chain(contexts(spec, path)) {
        if is_said(context, "windowsOptions") {
            let message = "windows options cannot be set for a linux pod";
            errors.push(FieldError::forbidden(&path.child("windowsOptions"), message));
        }
    }
}

fn windows(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let mut refuse = |value: &Value, path: &FieldPath, names: &[&str]| {
        for name in names.iter().filter(|name| is_said(value, name)) {
            errors.push(FieldError::forbidden(&path.child(name), "cannot be set for a windows pod"));
        }
    };
    let context = (&spec["securityContext"], path.child("securityContext"));
    refuse(context.0, &context.1, &OF_CONTEXTS[..2]);
    refuse(spec, path, &OF_PODS[..3]);
    refuse(context.0, &context.1, &OF_CONTEXTS[2..6]);
    refuse(spec, path, &OF_PODS[3..]);
    refuse(context.0, &context.1, &OF_CONTEXTS[6..]);
    for (context, path) in contexts(spec, path) {
        refuse(context, &path, &OF_CONTAINERS);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn told(spec: &Value, expect: &[&str]) {
        let mut errors = ErrorList::new();
        validate(spec, &FieldPath::new("spec"), &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn settings_of_one_system_are_not_for_the_other() {
        told(&json!({"os": {"name": "linux"}, "hostPID": true}), &[]);
        told(
            &json!({"os": {"name": "linux"}, "securityContext": {"windowsOptions": {}}}),
            &[
                "spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod",
            ],
        );
        told(
            &json!({
                "os": {"name": "windows"}, "hostPID": true, "hostIPC": false, "securityContext": {"runAsUser": 0},
                "containers": [{"securityContext": {"privileged": false}}],
            }),
            &[
                "spec.hostPID: Forbidden: cannot be set for a windows pod",
                "spec.securityContext.runAsUser: Forbidden: cannot be set for a windows pod",
                "spec.containers[0].securityContext.privileged: Forbidden: cannot be set for a windows pod",
            ],
        );
    }

    #[test]
    fn there_are_two_systems() {
        told(&json!({"os": {}}), &["spec.os.name: Required value: cannot be empty"]);
        told(
            &json!({"os": {"name": "mac"}}),
            &[r#"spec.os: Unsupported value: "mac": supported values: "linux", "windows""#],
        );
    }
}
