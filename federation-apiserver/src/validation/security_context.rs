//! The rules of security contexts, of pods and of containers.

use std::collections::HashSet;

use apimachinery::{FieldError, FieldPath};
use serde_json::Value;

use super::{items, listed, one_of, text, visit, windows};
use crate::registry::ErrorList;

const ID_RANGE: &str = "must be between 0 and 2147483647, inclusive";

/// Ids of users and groups.
pub(crate) fn id(number: &Value, path: &FieldPath, errors: &mut ErrorList) {
    if let Some(number) = number.as_i64()
        && !(0..=i64::from(i32::MAX)).contains(&number)
    {
        errors.push(FieldError::invalid(path, number, ID_RANGE));
    }
}

/// `validation.ValidatePodSecurityContext`.
pub(super) fn validate_pod(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let (context, path) = (&spec["securityContext"], path.child("securityContext"));
    if !context.is_object() {
        return;
    }
    for name in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(&context[name], &path.child(name), errors);
    }
    for (index, group) in items(context, "supplementalGroups").enumerate() {
        id(group, &path.child("supplementalGroups").index(index), errors);
    }
    if spec["shareProcessNamespace"] == true && spec["hostPID"] == true {
        let message = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(&path.child("shareProcessNamespace"), true, message));
    }
    sysctls(spec, &path, errors);
    if let Some(policy) = context["fsGroupChangePolicy"].as_str() {
        one_of(policy, &path.child("fsGroupChangePolicy"), &["Always", "OnRootMismatch"], errors);
    }
    seccomp(context, &path, errors);
    windows::options(context, &path, errors);
    app_armor(context, &path, errors);
    for (name, known) in [
        ("supplementalGroupsPolicy", ["Merge", "Strict"]),
        ("seLinuxChangePolicy", ["MountOption", "Recursive"]),
    ] {
        if let Some(policy) = context[name].as_str() {
            one_of(policy, &path.child(name), &known, errors);
        }
    }
}

/// Users of a pod's own do not go together with what is the host's, nor with devices (KEP-127). kube-apiserver names the places so.
pub(super) fn host_users(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    const MESSAGE: &str = "when `hostUsers` is false";
    if spec["hostUsers"] != false {
        return;
    }
    for (name, told) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if spec[name] == true {
            errors.push(FieldError::forbidden(&path.child(told), MESSAGE));
        }
    }
    for (container, path) in visit::placed(spec, path) {
        if items(container, "volumeDevices").next().is_some() {
            errors.push(FieldError::forbidden(&path.child("volumeDevices"), MESSAGE));
        }
    }
}

/// `validation.ValidateAppArmorProfileField`.
pub(crate) fn app_armor(context: &Value, path: &FieldPath, errors: &mut ErrorList) {
    const LOCAL: &str = "must be set when AppArmor type is Localhost";
    let (profile, path) = (&context["appArmorProfile"], path.child("appArmorProfile"));
    if !profile.is_object() {
        return;
    }
    let (kind, local) = (text(profile, "type"), profile["localhostProfile"].as_str());
    let place = path.child("localhostProfile");
    match (kind, local) {
        ("Localhost", None) => errors.push(FieldError::required(&place, LOCAL)),
        ("Localhost", Some(local)) => {
            if local.trim() != local {
                errors.push(FieldError::invalid(&place, local, "must not be padded with whitespace"));
            } else if local.is_empty() {
                errors.push(FieldError::required(&place, LOCAL));
            }
            if local.len() > 4095 {
                errors.push(FieldError::too_long(&place, 4095));
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(local)) => {
            let message = "can only be set when AppArmor type is Localhost";
            errors.push(FieldError::invalid(&place, local, message));
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => {
            let message = "type is required when appArmorProfile is set";
            errors.push(FieldError::required(&path.child("type"), message));
        }
        (other, _) => {
            one_of(other, &path.child("type"), &["Localhost", "RuntimeDefault", "Unconfined"], errors);
        }
    }
}

/// `validation.ValidateSecurityContext`.
pub(super) fn validate_container(
    context: &Value,
    host_users: bool,
    path: &FieldPath,
    errors: &mut ErrorList,
) {
    if !context.is_object() {
        return;
    }
    for name in ["runAsUser", "runAsGroup"] {
        id(&context[name], &path.child(name), errors);
    }
    if let Some(kind) = context["procMount"].as_str() {
        one_of(kind, &path.child("procMount"), &["Default", "Unmasked"], errors);
        if host_users && kind == "Unmasked" {
            let message = "`hostUsers` must be false to use `Unmasked`";
            errors.push(FieldError::invalid(&path.child("procMount"), kind, message));
        }
    }
    seccomp(context, path, errors);
    if context["allowPrivilegeEscalation"] == false {
        if context["privileged"] == true {
            let message = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(FieldError::invalid(path, context.clone(), message));
        }
        if items(&context["capabilities"], "add").any(|capability| capability == "CAP_SYS_ADMIN") {
            let message =
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(FieldError::invalid(path, context.clone(), message));
        }
    }
    windows::options(context, path, errors);
    app_armor(context, path, errors);
}

fn seccomp(context: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let (profile, path) = (&context["seccompProfile"], path.child("seccompProfile"));
    if !profile.is_object() {
        return;
    }
    let (kind, local) = (text(profile, "type"), profile["localhostProfile"].as_str());
    let place = path.child("type");
    if kind.is_empty() {
        errors.push(FieldError::required(&place, "type is required when seccompProfile is set"));
    } else {
        listed(kind, &place, &["Localhost", "RuntimeDefault", "Unconfined"], errors);
    }
    let place = path.child("localhostProfile");
    match (kind, local) {
        ("Localhost", None) => {
            let message = "must be set when seccomp type is Localhost";
            errors.push(FieldError::required(&place, message));
        }
        ("Localhost", Some(local)) => descending(local, &place, errors),
        (_, Some(_)) => {
            let message = "can only be set when seccomp type is Localhost";
            errors.push(FieldError::invalid(&place, profile.clone(), message));
        }
        (_, None) => {}
    }
}

/// `validation.validateLocalDescendingPath`: a path that leads to no other place than below the one that it starts from.
pub(super) fn descending(local: &str, path: &FieldPath, errors: &mut ErrorList) {
    if local.starts_with('/') {
        errors.push(FieldError::invalid(path, local, "must be a relative path"));
    }
    if local.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(path, local, "must not contain '..'"));
    }
}

fn sysctls(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let mut seen = HashSet::new();
    for (index, entry) in items(&spec["securityContext"], "sysctls").enumerate() {
        let path = path.child("sysctls").index(index).child("name");
        let name = text(entry, "name");
        let first = seen.insert(name);
        if name.is_empty() {
            errors.push(FieldError::required(&path, ""));
        } else if !is_sysctl(name) {
            let message = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.push(FieldError::invalid(&path, name, message));
        } else if !first {
            errors.push(FieldError::duplicate(&path, name));
        }
        if let Some(shared) = namespace_of(name).filter(|shared| spec[*shared] == true) {
            let message = format!("may not be specified when '{shared}' is true");
            errors.push(FieldError::invalid(&path, name, &message));
        }
    }
}

/// The field of a pod by which a setting of the kernel is the host's and not its own: `sysctl.GetNamespace`.
fn namespace_of(name: &str) -> Option<&'static str> {
    // `a/b.c` is `a.b/c`.
    let slashed = name.chars().find(|letter| matches!(letter, '.' | '/')) == Some('/');
    let swap = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let name = if slashed { name.chars().map(swap).collect() } else { name.to_owned() };
    if name.starts_with("net.") {
        return Some("hostNetwork");
    }
    let ipc = name == "kernel.sem"
        || ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|start| name.starts_with(start));
    ipc.then_some("hostIPC")
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
        let mut errors = ErrorList::new();
        sysctls(&json!({"securityContext": {"sysctls": listed}}), &FieldPath::new("c"), &mut errors);
        let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 4, "{told:?}");
        assert_eq!(told[0], r#"c.sysctls[100000].name: Duplicate value: "a7""#);
        assert_eq!(told[1], "c.sysctls[100001].name: Required value");
        // What is no name is not told to be there twice.
        assert!(told[3].starts_with(r#"c.sysctls[100003].name: Invalid value: "A""#), "{told:?}");
    }

    #[track_caller]
    fn told(spec: &Value, expect: &[&str]) {
        let mut errors = ErrorList::new();
        let path = FieldPath::new("spec");
        validate_pod(spec, &path, &mut errors);
        host_users(spec, &path, &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn a_profile_of_app_armor_is_local_or_has_no_name() {
        let with = |profile: Value| json!({"securityContext": {"appArmorProfile": profile}});
        told(&with(json!({"type": "RuntimeDefault"})), &[]);
        told(&with(json!({"type": "Localhost", "localhostProfile": "p"})), &[]);
        told(
            &with(json!({"type": "Localhost"})),
            &[
                "spec.securityContext.appArmorProfile.localhostProfile: Required value: must be set when AppArmor type is Localhost",
            ],
        );
        told(
            &with(json!({"type": "x"})),
            &[
                r#"spec.securityContext.appArmorProfile.type: Unsupported value: "x": supported values: "Localhost", "RuntimeDefault", "Unconfined""#,
            ],
        );
    }

    #[test]
    fn settings_of_the_kernel_are_not_the_pods_where_it_shares_them_with_the_host() {
        let with = |shared: &str, sysctl: &str| json!({shared: true, "securityContext": {"sysctls": [{"name": sysctl}]}});
        told(&with("hostIPC", "net.core.somaxconn"), &[]);
        for sysctl in ["net.core.somaxconn", "net/core/somaxconn"] {
            let error = format!(
                "spec.securityContext.sysctls[0].name: Invalid value: {sysctl:?}: may not be specified when 'hostNetwork' is true"
            );
            told(&with("hostNetwork", sysctl), &[&error]);
        }
        told(
            &with("hostIPC", "kernel.shm_rmid_forced"),
            &[
                r#"spec.securityContext.sysctls[0].name: Invalid value: "kernel.shm_rmid_forced": may not be specified when 'hostIPC' is true"#,
            ],
        );
    }

    #[test]
    fn a_profile_of_seccomp_is_below_the_place_of_profiles() {
        let with = |profile: Value| json!({"securityContext": {"seccompProfile": profile}});
        told(&with(json!({"type": "Localhost", "localhostProfile": "a/b"})), &[]);
        told(
            &with(json!({"type": "Localhost", "localhostProfile": "/a/../b"})),
            &[
                r#"spec.securityContext.seccompProfile.localhostProfile: Invalid value: "/a/../b": must be a relative path"#,
                r#"spec.securityContext.seccompProfile.localhostProfile: Invalid value: "/a/../b": must not contain '..'"#,
            ],
        );
    }

    #[test]
    fn users_of_its_own_do_not_go_together_with_the_hosts_network() {
        told(&json!({"hostUsers": true, "hostNetwork": true}), &[]);
        told(
            &json!({
                "hostUsers": false, "hostNetwork": true, "hostPID": true,
                "containers": [{}, {"volumeDevices": [{"name": "v", "devicePath": "/v"}]}],
            }),
            &[
                "spec.hostNetwork: Forbidden: when `hostUsers` is false",
                "spec.HostPID: Forbidden: when `hostUsers` is false",
                "spec.containers[1].volumeDevices: Forbidden: when `hostUsers` is false",
            ],
        );
    }

    #[test]
    fn groups_of_an_image_are_merged_or_left_out() {
        told(
            &json!({"securityContext": {"supplementalGroupsPolicy": "x", "seLinuxChangePolicy": "Recursive"}}),
            &[
                r#"spec.securityContext.supplementalGroupsPolicy: Unsupported value: "x": supported values: "Merge", "Strict""#,
            ],
        );
    }

    #[test]
    fn proc_is_unmasked_for_users_of_the_pods_own_only() {
        let check = |host_users: bool| {
            let mut errors = ErrorList::new();
            let context = json!({"procMount": "Unmasked"});
            validate_container(&context, host_users, &FieldPath::new("c"), &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(check(false), Vec::<String>::new());
        assert_eq!(
            check(true),
            [r#"c.procMount: Invalid value: "Unmasked": `hostUsers` must be false to use `Unmasked`"#]
        );
    }
}
