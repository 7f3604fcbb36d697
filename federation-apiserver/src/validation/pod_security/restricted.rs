//! What the strictest level forbids beyond the others: whatever is no good practice for an application.

use serde_json::Value;

use super::{
    Standard, Violation,
    baseline::{OWN_USERS, adding, has_own_users, is_confined, mounts_of_proc, unconfined},
    wording::{distinct, named, of_containers, plural, quoted, setters, those},
};
use crate::validation::{items, text};

type Check = fn(Standard, &Value) -> Option<Violation>;

/// The checks in the order of their names.
const CHECKS: [Check; 7] = [escalation, capabilities, proc_mount, volumes, non_root, user, seccomp];

pub(super) fn check(standard: Standard, spec: &Value) -> Vec<Violation> {
    CHECKS.iter().filter_map(|check| check(standard, spec)).collect()
}

/// Whether the pod is for a system that has nothing of what is asked for.
fn is_exempt(standard: Standard, spec: &Value) -> bool {
    standard.since(25) && spec["os"]["name"] == "windows"
}

fn escalation(standard: Standard, spec: &Value) -> Option<Violation> {
    if !standard.since(8) || is_exempt(standard, spec) {
        return None;
    }
    let wrong = those(spec, |container| container["securityContext"]["allowPrivilegeEscalation"] != false);
    let detail =
        || format!("{} must set securityContext.allowPrivilegeEscalation=false", of_containers(&wrong));
    (!wrong.is_empty()).then(|| Violation::new("allowPrivilegeEscalation != false", detail()))
}

fn capabilities(standard: Standard, spec: &Value) -> Option<Violation> {
    if !standard.since(22) || is_exempt(standard, spec) {
        return None;
    }
    let drops_all = |container: &Value| {
        items(&container["securityContext"]["capabilities"], "drop").any(|one| one == "ALL")
    };
    let wrong = those(spec, |container| !drops_all(container));
    let kept = (!wrong.is_empty())
        .then(|| format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", of_containers(&wrong)));
    let details: Vec<_> = kept.into_iter().chain(adding(spec, &["NET_BIND_SERVICE"])).collect();
    (!details.is_empty()).then(|| Violation::new("unrestricted capabilities", details.join("; ")))
}

/// Users of a pod's own are no reason to see more.
fn proc_mount(standard: Standard, spec: &Value) -> Option<Violation> {
    if standard.since(OWN_USERS) { mounts_of_proc(spec) } else { None }
}

/// Sources of volumes that anybody may use.
const SOURCES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];
/// All others that are known to this check.
const OTHERS: [&str; 20] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
];

fn volumes(_: Standard, spec: &Value) -> Option<Violation> {
    let bad = |volume: &Value| -> Option<&str> {
        let has = |source: &&str| volume[*source].is_object();
        if SOURCES.iter().any(has) || has(&"image") {
            return None;
        }
        let other = OTHERS.into_iter().chain(["storageos"]).find(has);
        Some(other.unwrap_or("unknown"))
    };
    let wrong = items(spec, "volumes").filter(|volume| bad(volume).is_some());
    let names: Vec<_> = wrong.map(|volume| text(volume, "name").to_owned()).collect();
    if names.is_empty() {
        return None;
    }
    let kinds = distinct(items(spec, "volumes").filter_map(bad).map(str::to_owned).collect());
    let detail = format!(
        "{} {} {} {}",
        named("volume", "volumes", &names),
        plural("uses", "use", names.len()),
        plural("restricted volume type", "restricted volume types", kinds.len()),
        quoted(&kinds)
    );
    Some(Violation::new("restricted volume types", detail))
}

fn non_root(standard: Standard, spec: &Value) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    if has_own_users(standard, spec) {
        return None;
    }
    let said = |one: &Value| one["securityContext"]["runAsNonRoot"].as_bool();
    let who = setters(said(spec) == Some(false), &those(spec, |container| said(container) == Some(false)));
    if !who.is_empty() {
        let detail = format!("{} must not set securityContext.runAsNonRoot=false", who.join(" and "));
        return Some(Violation::new(REASON, detail));
    }
    let silent = those(spec, |container| said(container).is_none());
    if silent.is_empty() || said(spec) == Some(true) {
        return None;
    }
    let detail = format!("pod or {} must set securityContext.runAsNonRoot=true", of_containers(&silent));
    Some(Violation::new(REASON, detail))
}

fn user(standard: Standard, spec: &Value) -> Option<Violation> {
    if !standard.since(23) || has_own_users(standard, spec) {
        return None;
    }
    let bad = |one: &Value| one["securityContext"]["runAsUser"] == 0;
    let who = setters(bad(spec), &those(spec, bad));
    let detail = || format!("{} must not set runAsUser=0", who.join(" and "));
    (!who.is_empty()).then(|| Violation::new("runAsUser=0", detail()))
}

fn seccomp(standard: Standard, spec: &Value) -> Option<Violation> {
    if !standard.since(19) || is_exempt(standard, spec) {
        return None;
    }
    if let Some(told) = unconfined(spec) {
        return Some(told);
    }
    let said = |one: &Value| text(&one["securityContext"]["seccompProfile"], "type").to_owned();
    let silent = those(spec, |container| said(container).is_empty());
    if silent.is_empty() || is_confined(&said(spec)) {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        of_containers(&silent)
    );
    Some(Violation::new("seccompProfile", detail))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Level, check, details};
    use super::*;

    #[track_caller]
    fn told(minor: Option<u32>, spec: &Value, expect: &str) {
        let standard = Standard { level: Level::Restricted, minor };
        assert_eq!(details(&check(standard, &json!({}), spec)), expect);
    }

    #[test]
    fn a_plain_pod_is_told_all_that_it_lacks() {
        told(
            None,
            &json!({"containers": [{"name": "web"}]}),
            "allowPrivilegeEscalation != false (container \"web\" must set securityContext.allowPrivilegeEscalation=false), \
             unrestricted capabilities (container \"web\" must set securityContext.capabilities.drop=[\"ALL\"]), \
             runAsNonRoot != true (pod or container \"web\" must set securityContext.runAsNonRoot=true), \
             seccompProfile (pod or container \"web\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
        );
    }

    #[test]
    fn a_careful_pod_is_taken() {
        let careful = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}});
        told(
            None,
            &json!({
                "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{"name": "web", "securityContext": careful}],
                "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "image": {}}],
            }),
            "",
        );
        told(
            None,
            &json!({
                "os": {"name": "windows"}, "securityContext": {"runAsNonRoot": true}, "containers": [{"name": "web"}],
            }),
            "",
        );
    }

    #[test]
    fn stricter_checks_stand_in_the_place_of_others() {
        let careful = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["SYS_TIME"]}});
        told(
            None,
            &json!({
                "hostUsers": false, "securityContext": {"seccompProfile": {"type": "Unconfined"}},
                "containers": [{"name": "a", "securityContext": careful}, {"name": "b", "securityContext": careful}],
                "volumes": [{"name": "v", "hostPath": {}}, {"name": "w", "nfs": {}}],
            }),
            "unrestricted capabilities (containers \"a\", \"b\" must not include \"SYS_TIME\" in securityContext.capabilities.add), \
             restricted volume types (volumes \"v\", \"w\" use restricted volume types \"hostPath\", \"nfs\"), \
             seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        );
    }

    #[test]
    fn nobody_is_root() {
        let spec = json!({"securityContext": {"runAsUser": 0}, "containers": [{"name": "a", "securityContext": {"runAsUser": 0}}]});
        let found = user(Standard { level: Level::Restricted, minor: None }, &spec);
        assert_eq!(
            found,
            Some(Violation::new("runAsUser=0", "pod and container \"a\" must not set runAsUser=0"))
        );
        assert_eq!(user(Standard { level: Level::Restricted, minor: Some(22) }, &spec), None);
        let own = json!({"hostUsers": false, "securityContext": {"runAsUser": 0, "runAsNonRoot": false}});
        let by = |minor: u32| {
            let standard = Standard { level: Level::Restricted, minor: Some(minor) };
            [user(standard, &own), non_root(standard, &own)].into_iter().flatten().count()
        };
        assert_eq!((by(35), by(34)), (0, 2), "the root of its own users is not the host's");
    }
}
