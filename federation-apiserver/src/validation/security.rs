//! The rules of security contexts, of pods and of containers.

use std::collections::HashSet;

use apimachinery::{FieldError, FieldPath};
use serde_json::Value;

use super::{items, one_of, text};
use crate::registry::Faults;

const ID_RANGE: &str = "must be between 0 and 2147483647, inclusive";

/// Ids of users and groups.
fn id(number: &Value, path: &FieldPath, faults: &mut Faults) {
    if let Some(number) = number.as_i64()
        && !(0..=i64::from(i32::MAX)).contains(&number)
    {
        faults.push(FieldError::invalid(path, number, ID_RANGE));
    }
}

/// `validation.ValidatePodSecurityContext`.
pub(super) fn validate_pod(spec: &Value, path: &FieldPath, faults: &mut Faults) {
    let (context, path) = (&spec["securityContext"], path.child("securityContext"));
    if !context.is_object() {
        return;
    }
    for name in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(&context[name], &path.child(name), faults);
    }
    for (index, group) in items(context, "supplementalGroups").enumerate() {
        id(group, &path.child("supplementalGroups").index(index), faults);
    }
    sysctls(context, &path, faults);
    if let Some(policy) = context["fsGroupChangePolicy"].as_str() {
        one_of(policy, &path.child("fsGroupChangePolicy"), &["Always", "OnRootMismatch"], faults);
    }
    seccomp(context, &path, faults);
}

/// `validation.ValidateSecurityContext`.
pub(super) fn validate_container(context: &Value, path: &FieldPath, faults: &mut Faults) {
    if !context.is_object() {
        return;
    }
    for name in ["runAsUser", "runAsGroup"] {
        id(&context[name], &path.child(name), faults);
    }
    if let Some(kind) = context["procMount"].as_str() {
        one_of(kind, &path.child("procMount"), &["Default", "Unmasked"], faults);
    }
    seccomp(context, path, faults);
    if context["allowPrivilegeEscalation"] != false {
        return;
    }
    if context["privileged"] == true {
        let message = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        faults.push(FieldError::invalid(path, context.clone(), message));
    }
    if items(&context["capabilities"], "add").any(|capability| capability == "CAP_SYS_ADMIN") {
        let message = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
        faults.push(FieldError::invalid(path, context.clone(), message));
    }
}

fn seccomp(context: &Value, path: &FieldPath, faults: &mut Faults) {
    let (profile, path) = (&context["seccompProfile"], path.child("seccompProfile"));
    if !profile.is_object() {
        return;
    }
    let (kind, local) = (text(profile, "type"), profile["localhostProfile"].as_str());
    match (kind, local) {
        ("", _) => {
            faults.push(FieldError::required(
                &path.child("type"),
                "type is required when seccompProfile is set",
            ));
        }
        ("Localhost", None | Some("")) => {
            let message = "must be set when seccomp type is Localhost";
            faults.push(FieldError::required(&path.child("localhostProfile"), message));
        }
        ("Localhost", Some(_)) => {}
        (_, Some(local)) if !local.is_empty() => {
            let message = "can only be set when seccomp type is Localhost";
            faults.push(FieldError::invalid(&path.child("localhostProfile"), local, message));
        }
        _ => {}
    }
    if !kind.is_empty() {
        one_of(kind, &path.child("type"), &["Localhost", "RuntimeDefault", "Unconfined"], faults);
    }
}

fn sysctls(context: &Value, path: &FieldPath, faults: &mut Faults) {
    let mut seen = HashSet::new();
    for (index, entry) in items(context, "sysctls").enumerate() {
        let path = path.child("sysctls").index(index).child("name");
        let name = text(entry, "name");
        let first = seen.insert(name);
        if name.is_empty() {
            faults.push(FieldError::required(&path, ""));
        } else if !is_sysctl(name) {
            let message = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            faults.push(FieldError::invalid(&path, name, message));
        } else if !first {
            faults.push(FieldError::duplicate(&path, name));
        }
    }
}

fn is_sysctl(name: &str) -> bool {
    let good = |part: &str| {
        let edge =
            |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        edge(part.bytes().next())
            && edge(part.bytes().last())
            && part
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte))
    };
    name.len() <= 253 && name.split(['.', '/']).all(good)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sysctls_are_told_apart_however_many_there_are() {
        let mut listed: Vec<_> = (0..100_000).map(|number| json!({"name": format!("a{number}")})).collect();
        listed.extend([
            json!({"name": "a7"}),
            json!({"name": ""}),
            json!({"name": "A"}),
            json!({"name": "A"}),
        ]);
        let mut faults = Faults::new();
        sysctls(&json!({"sysctls": listed}), &FieldPath::new("c"), &mut faults);
        let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 4, "{told:?}");
        assert_eq!(told[0], r#"c.sysctls[100000].name: Duplicate value: "a7""#);
        assert_eq!(told[1], "c.sysctls[100001].name: Required value");
        // What is no name is not told to be there twice.
        assert!(told[3].starts_with(r#"c.sysctls[100003].name: Invalid value: "A""#), "{told:?}");
    }
}
