//! Pod specs and templates: the defaults by which every workload lives (`core/v1/defaults.go`), and the rules of templates.

use apimachinery::{FieldError, FieldPath, labels::validate_labels, meta::validate_annotations};
use serde_json::{Value, json};

use super::{items_mut, listed, pod_annotations, set, set_text, text};
use crate::registry::ErrorList;

pub(crate) use super::pod_spec::validate_spec;

/// Containers, ports and volumes of a pod that are completed, here and by admission. With more of them an object is larger than the store takes; but a body has room
/// for a million that say nothing, each of which would become a kilobyte.
pub(crate) const COMPLETED_MAX: usize = 1 << 16;

/// Fills in what kube-apiserver fills into a pod spec.
pub(crate) fn default_spec(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    set_text(spec, "dnsPolicy", "ClusterFirst");
    set_text(spec, "restartPolicy", "Always");
    set_text(spec, "schedulerName", "default-scheduler");
    set(spec, "securityContext", json!({}));
    set(spec, "terminationGracePeriodSeconds", 30);
    let mut left = COMPLETED_MAX;
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in items_mut(spec, list) {
            let Some(others) = left.checked_sub(1) else { break };
            left = others - default_container(container, others);
        }
    }
    items_mut(spec, "volumes").take(left).for_each(default_volume);
    // The old name of the field stands for the new one where that is not said, and tells it otherwise, for clients that read it.
    let account = match text(spec, "serviceAccountName") {
        "" => text(spec, "serviceAccount"),
        name => name,
    };
    if !account.is_empty() {
        let account = account.to_owned();
        spec["serviceAccountName"] = account.as_str().into();
        spec["serviceAccount"] = account.into();
    }
}

/// The first of a pod's addresses stands in two places; where they differ, the older one counts (`Convert_v1_PodStatus_To_core_PodStatus`).
fn settle_addresses(status: &mut Value) {
    let (first, all) = (text(status, "podIP").to_owned(), &status["podIPs"]);
    let listed = all[0]["ip"].as_str().unwrap_or_default().to_owned();
    if first.is_empty() && !listed.is_empty() {
        status["podIP"] = listed.into();
    } else if !first.is_empty() && first != listed {
        status["podIPs"] = json!([{"ip": first}]);
    }
}

/// What is filled into Pods, but not into templates: limits are requests, too, and host ports stand beside container ports.
pub(crate) fn default_pod(object: &mut Value) {
    if object["status"].is_object() {
        settle_addresses(&mut object["status"]);
        // Go writes a struct even if nothing is in it.
        for list in ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"] {
            for container in items_mut(&mut object["status"], list).take(COMPLETED_MAX) {
                set(container, "state", json!({}));
                set(container, "lastState", json!({}));
            }
        }
    }
    let spec = &mut object["spec"];
    if !spec.is_object() {
        return;
    }
    default_spec(spec);
    set(spec, "enableServiceLinks", true);
    let host = spec["hostNetwork"] == true;
    for list in ["initContainers", "containers"] {
        for container in items_mut(spec, list) {
            let limits = container["resources"]["limits"].as_object().cloned().unwrap_or_default();
            for (name, amount) in limits {
                set(&mut container["resources"], "requests", json!({}));
                set(&mut container["resources"]["requests"], &name, amount);
            }
            for port in items_mut(container, "ports").filter(|_| host) {
                let number = port["containerPort"].clone();
                set(port, "hostPort", number);
            }
        }
    }
    super::pod_resources::default(spec);
}

/// Completes a container, and so many of its ports. Returns how many those are.
fn default_container(container: &mut Value, ports_max: usize) -> usize {
    set_text(container, "terminationMessagePath", "/dev/termination-log");
    set_text(container, "terminationMessagePolicy", "File");
    set(container, "resources", json!({}));
    let floating = is_floating(text(container, "image"));
    set_text(container, "imagePullPolicy", if floating { "Always" } else { "IfNotPresent" });
    let mut ports = 0;
    for port in items_mut(container, "ports").take(ports_max) {
        set_text(port, "protocol", "TCP");
        ports += 1;
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.get_mut(probe).filter(|probe| probe.is_object()) else { continue };
        for (name, value) in
            [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
        {
            if probe[name] == 0 {
                probe[name] = Value::Null;
            }
            set(probe, name, value);
        }
        default_http_get(probe);
        if let Some(grpc) = probe.get_mut("grpc") {
            set(grpc, "service", "");
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(hook) = container.get_mut("lifecycle").and_then(|lifecycle| lifecycle.get_mut(hook)) {
            default_http_get(hook);
        }
    }
    for env in items_mut(container, "env") {
        if let Some(source) = env.pointer_mut("/valueFrom/fieldRef") {
            set_text(source, "apiVersion", "v1");
        }
        if let Some(source) = env.pointer_mut("/valueFrom/resourceFieldRef") {
            set(source, "divisor", "0");
        }
    }
    ports
}

/// Whether an image may be another one tomorrow.
fn is_floating(image: &str) -> bool {
    let name = image.rsplit('/').next().unwrap_or_default();
    !name.contains('@') && name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn default_http_get(handler: &mut Value) {
    if let Some(get) = handler.get_mut("httpGet") {
        set_text(get, "path", "/");
        set_text(get, "scheme", "HTTP");
    }
}

/// (volume source, field, default).
const VOLUME_TEXTS: &[(&str, &str, &str)] = &[
    ("iscsi", "iscsiInterface", "default"),
    ("rbd", "pool", "rbd"),
    ("rbd", "user", "admin"),
    ("rbd", "keyring", "/etc/ceph/keyring"),
    ("scaleIO", "storageMode", "ThinProvisioned"),
    ("scaleIO", "fsType", "xfs"),
];

fn default_volume(volume: &mut Value) {
    let sources = volume.as_object().into_iter().flatten();
    if sources.filter(|(name, source)| *name != "name" && !source.is_null()).count() == 0 {
        volume["emptyDir"] = json!({});
    }
    for source in ["secret", "configMap", "projected", "downwardAPI"] {
        if let Some(source) = volume.get_mut(source) {
            set(source, "defaultMode", 420);
        }
    }
    default_downward(volume);
    if let Some(projected) = volume.get_mut("projected") {
        for source in items_mut(projected, "sources") {
            default_downward(source);
            if let Some(token) = source.get_mut("serviceAccountToken") {
                set(token, "expirationSeconds", 3600);
            }
        }
    }
    if let Some(image) = volume.get_mut("image") {
        let policy = if is_floating(text(image, "reference")) { "Always" } else { "IfNotPresent" };
        set_text(image, "pullPolicy", policy);
    }
    default_sources(volume);
    if let Some(spec) = volume.pointer_mut("/ephemeral/volumeClaimTemplate/spec") {
        set(spec, "volumeMode", "Filesystem");
    }
}

/// Fills in what volumes of pods and PersistentVolumes say alike.
pub(crate) fn default_sources(volume: &mut Value) {
    if let Some(path) = volume.get_mut("hostPath") {
        set(path, "type", "");
    }
    for (source, field, default) in VOLUME_TEXTS {
        if let Some(source) = volume.get_mut(*source) {
            set_text(source, field, default);
        }
    }
    if let Some(disk) = volume.get_mut("azureDisk") {
        for (field, default) in [("cachingMode", "ReadWrite"), ("kind", "Shared"), ("fsType", "ext4")] {
            set(disk, field, default);
        }
        set(disk, "readOnly", false);
    }
}

fn default_downward(source: &mut Value) {
    if let Some(downward) = source.get_mut("downwardAPI") {
        for item in items_mut(downward, "items") {
            if let Some(field) = item.get_mut("fieldRef") {
                set_text(field, "apiVersion", "v1");
            }
            if let Some(amount) = item.get_mut("resourceFieldRef") {
                set(amount, "divisor", "0");
            }
        }
    }
}

/// Finds the errors of a pod template, but for the restart policy, on which kinds differ.
pub(crate) fn validate_template(template: &Value, path: &FieldPath, errors: &mut ErrorList) {
    // Without `metadata`, as kube-apiserver names the places.
    if let Some(labels) = template["metadata"].get("labels") {
        errors.gather(|errors| validate_labels(labels, &path.child("labels"), errors));
    }
    if let Some(annotations) = template["metadata"].get("annotations") {
        errors.gather(|errors| validate_annotations(annotations, &path.child("annotations"), errors));
    }
    pod_annotations::validate(template, &path.child("annotations"), errors);
    validate_spec(&template["spec"], &path.child("spec"), errors);
    pod_annotations::match_fields(template, &path.child("spec"), errors);
    if template["spec"]["ephemeralContainers"].as_array().is_some_and(|list| !list.is_empty()) {
        let message = "ephemeral containers not allowed in pod template";
        errors.push(FieldError::forbidden(&path.child("spec").child("ephemeralContainers"), message));
    }
}

/// The restart policy of a pod.
pub(super) fn validate_restart_policy(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let policy = text(spec, "restartPolicy");
    listed(policy, &path.child("restartPolicy"), &["Always", "OnFailure", "Never"], errors);
}

/// `qos.ComputePodQOS`: Guaranteed, Burstable or BestEffort. Where the pod has resources as a whole, those count.
pub(crate) fn qos_class(spec: &Value) -> &'static str {
    // What is said of the pod as a whole is said instead of what its containers say (KEP-2837).
    let whole = ["limits", "requests"]
        .iter()
        .any(|part| spec["resources"][*part].as_object().is_some_and(|amounts| !amounts.is_empty()));
    let lists: &[&str] = if whole { &[] } else { &["containers", "initContainers"] };
    let containers = lists.iter().flat_map(|list| super::items(spec, list));
    let mut guaranteed = true;
    let mut any = false;
    for holder in whole.then_some(spec).into_iter().chain(containers) {
        let amount = |part: &str, name: &str| {
            super::quantities::parse(&holder["resources"][part][name]).filter(|amount| !amount.is_zero())
        };
        for name in ["cpu", "memory"] {
            let (limit, request) = (amount("limits", name), amount("requests", name));
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && limit == request.or(limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Whether a pod will not run again, however it ended.
pub(crate) fn has_ended(pod: &Value) -> bool {
    matches!(text(&pod["status"], "phase"), "Succeeded" | "Failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_gets_the_defaults_of_kubernetes() {
        let mut pod = json!({"spec": {
            "containers": [{"name": "a", "image": "web:1", "resources": {"limits": {"cpu": "1"}},
                "ports": [{"containerPort": 80}], "readinessProbe": {"httpGet": {"port": 80}}}],
            "volumes": [{"name": "v"}, {"name": "s", "secret": {"secretName": "x"}}],
            "serviceAccountName": "robot",
        }});
        default_pod(&mut pod);
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["imagePullPolicy"], "IfNotPresent");
        assert_eq!(container["resources"]["requests"], json!({"cpu": "1"}));
        assert_eq!(
            container["readinessProbe"]["httpGet"],
            json!({"port": 80, "path": "/", "scheme": "HTTP"})
        );
        assert_eq!(pod["spec"]["volumes"][0]["emptyDir"], json!({}));
        assert_eq!(pod["spec"]["volumes"][1]["secret"]["defaultMode"], 420);
        assert_eq!(pod["spec"]["serviceAccount"], "robot");
        for (name, old, expect) in [("", "b", "b"), ("a", "b", "a"), ("a", "", "a")] {
            let mut spec = json!({"serviceAccountName": name, "serviceAccount": old});
            default_spec(&mut spec);
            assert_eq!(
                (&spec["serviceAccountName"], &spec["serviceAccount"]),
                (&json!(expect), &json!(expect))
            );
        }
        assert_eq!(pod["spec"]["enableServiceLinks"], true);
    }

    #[test]
    fn no_more_is_completed_than_an_object_can_hold() {
        let many = |says: &str| vec![json!({says: "x"}); COMPLETED_MAX];
        let mut spec = json!({
            "containers": [{"ports": many("name")}, {"ports": many("name")}], "volumes": many("name"),
        });
        default_spec(&mut spec);
        let completed = |list: &Value, field: &str| {
            list.as_array().into_iter().flatten().filter(|item| item.get(field).is_some()).count()
        };
        let ports = |container: usize| completed(&spec["containers"][container]["ports"], "protocol");
        assert_eq!((ports(0), ports(1)), (COMPLETED_MAX - 1, 0));
        assert_eq!(completed(&spec["containers"], "imagePullPolicy"), 1);
        assert_eq!(completed(&spec["volumes"], "emptyDir"), 0);
        let containers: Vec<_> = many("name").into_iter().chain(many("image")).collect();
        let mut pod = json!({"spec": {"containers": containers}});
        default_pod(&mut pod);
        assert_eq!(completed(&pod["spec"]["containers"], "imagePullPolicy"), COMPLETED_MAX);
    }

    #[test]
    fn a_container_always_has_a_state_and_a_last_one() {
        let mut pod =
            json!({"spec": {}, "status": {"containerStatuses": [{"name": "a", "state": {"running": {}}}]}});
        default_pod(&mut pod);
        let expect = json!({"name": "a", "state": {"running": {}}, "lastState": {}});
        assert_eq!(pod["status"]["containerStatuses"], json!([expect]));
    }

    #[test]
    fn the_quality_of_service_follows_from_requests_and_limits() {
        let of = |resources: Value| qos_class(&json!({"containers": [{"resources": resources}]}));
        assert_eq!(of(json!({})), "BestEffort");
        assert_eq!(of(json!({"requests": {"cpu": "1"}})), "Burstable");
        let both = json!({"cpu": "1", "memory": "1Gi"});
        assert_eq!(of(json!({"limits": both, "requests": both})), "Guaranteed");
    }
}
