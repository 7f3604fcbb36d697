//! core/v1 Pod and PodTemplate. The federation itself runs no pods; sandbox members do, on this same server.

use std::collections::HashSet;

use apimachinery::{FieldError, FieldPath, field::quoted};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    admission::keep_token,
    registry::{Column, Faults, Generation, Kind, Subresource, field, human_duration},
    validation::{
        container, deleting, items, mirror, net, pod, pod_parts, pod_warnings, spreading, subdomain, text,
        workload,
    },
};

pub(super) const KINDS: &[&Kind] = &[
    &Kind {
        kind: "Pod",
        plural: "pods",
        returns_deleted: true,
        singular: "pod",
        short_names: &["po"],
        categories: &["all"],
        status: true,
        subresources: &[
            Subresource { kind: "PodAttachOptions", ..connecting("attach") },
            Subresource {
                name: "binding",
                group: "",
                version: "v1",
                kind: "Binding",
                verbs: &["create"],
                changes: &[],
                validate: None,
            },
            Subresource {
                name: "ephemeralcontainers",
                group: "",
                version: "v1",
                kind: "Pod",
                verbs: Subresource::PART,
                changes: &["/spec/ephemeralContainers"],
                validate: Some(pod_parts::validate_ephemeral),
            },
            Subresource {
                name: "eviction",
                group: "policy",
                version: "v1",
                kind: "Eviction",
                verbs: &["create"],
                changes: &[],
                validate: None,
            },
            Subresource { kind: "PodExecOptions", ..connecting("exec") },
            Subresource { kind: "Pod", verbs: &["get"], ..connecting("log") },
            Subresource { kind: "PodPortForwardOptions", ..connecting("portforward") },
            Subresource::proxy("PodProxyOptions"),
            Subresource {
                name: "resize",
                group: "",
                version: "v1",
                kind: "Pod",
                verbs: Subresource::PART,
                changes: &["/spec/containers/*/resources", "/spec/initContainers/*/resources"],
                validate: Some(pod_parts::validate_resize),
            },
        ],
        generation: Generation::Spec,
        columns: &[
            Column::NAME,
            Column::text(
                "Ready",
                "The aggregate readiness state of this pod for accepting traffic.",
                |pod, now| {
                    let glance = Glance::of(pod, now);
                    format!("{}/{}", glance.ready, glance.total).into()
                },
            ),
            Column::text("Status", "The aggregate status of the containers in this pod.", |pod, now| {
                Glance::of(pod, now).reason.into()
            }),
            Column::text(
                "Restarts",
                "How often the containers of this pod have been restarted.",
                |pod, now| Glance::of(pod, now).restarts.into(),
            ),
            Column::AGE,
            Column::text("IP", "IP address allocated to the pod.", |pod, _| {
                let first = field(pod, "/status/podIPs/0/ip");
                or_none(if first == "" { field(pod, "/status/podIP") } else { first })
            })
            .wide(),
            Column::text("Node", "Where it runs.", |pod, _| or_none(field(pod, "/spec/nodeName"))).wide(),
            Column::text("Nominated Node", "Where room is being made for it.", |pod, _| {
                or_none(field(pod, "/status/nominatedNodeName"))
            })
            .wide(),
            Column::text("Readiness Gates", "Conditions of others that must hold.", |pod, _| gates(pod))
                .wide(),
        ],
        selectable: &[
            ("spec.nodeName", "/spec/nodeName"),
            ("spec.restartPolicy", "/spec/restartPolicy"),
            ("spec.schedulerName", "/spec/schedulerName"),
            ("spec.serviceAccountName", "/spec/serviceAccountName"),
            ("spec.hostNetwork", "/spec/hostNetwork"),
            ("status.phase", "/status/phase"),
            ("status.podIP", "/status/podIP"),
            ("status.nominatedNodeName", "/status/nominatedNodeName"),
        ],
        default: pod::default_pod,
        prepare_create: |object| {
            let class = pod::qos_class(&object["spec"]);
            object["status"] = json!({"phase": "Pending", "qosClass": class});
        },
        prepare_update: keep_what_is_given,
        validate: |object, faults| {
            pod::validate_spec(&object["spec"], &"spec".into(), faults);
            container::validate_of_pods(&object["spec"], &"spec".into(), faults);
            for (index, volume) in items(&object["spec"], "volumes").enumerate() {
                // In a template it may be filled in later.
                if volume["image"].is_object() && text(&volume["image"], "reference").is_empty() {
                    let path = FieldPath::new("spec.volumes").index(index).child("image").child("reference");
                    faults.push(FieldError::required(&path, ""));
                }
            }
            validate_app_armor(object, faults);
            mirror::validate(object, faults);
            validate_status(&object["status"], faults);
        },
        validate_create: |object, faults| {
            if object["spec"]["ephemeralContainers"].as_array().is_some_and(|list| !list.is_empty()) {
                let path = FieldPath::new("spec.ephemeralContainers");
                faults.push(FieldError::forbidden(&path, "cannot be set on create"));
            }
            let gated = items(&object["spec"], "schedulingGates").next().is_some();
            if gated && !text(&object["spec"], "nodeName").is_empty() {
                let message = "cannot be set until all schedulingGates have been cleared";
                faults.push(FieldError::forbidden(&"spec.nodeName".into(), message));
            }
        },
        validate_update,
        warn: |pod, old| {
            // Who changes pods is seldom a person.
            if old.is_some() { Vec::new() } else { pod_warnings::of_pod(pod) }
        },
        ..Kind::BUILT_IN
    },
    &Kind {
        kind: "PodTemplate",
        plural: "podtemplates",
        returns_deleted: true,
        singular: "podtemplate",
        generation: Generation::Spec,
        columns: &[
            Column::NAME,
            Column::text("Containers", "Names of each container in the template.", |object, _| {
                workload::containers(&object["template"], "name")
            }),
            Column::text("Images", "Images referenced by each container in the template.", |object, _| {
                workload::containers(&object["template"], "image")
            }),
            Column::text("Pod Labels", "The labels for the pod template.", |object, _| {
                workload::labels(&object["template"]["metadata"]["labels"])
            }),
        ],
        default: workload::default_template,
        validate: |object, faults| pod::validate_template(&object["template"], &"template".into(), faults),
        warn: |object, _| pod_warnings::of_template(&object["template"], &"template".into()),
        ..Kind::BUILT_IN
    },
];

/// What would go to the node of a pod.
const fn connecting(name: &'static str) -> Subresource {
    let verbs = &["create", "get"];
    Subresource { name, group: "", version: "v1", kind: "", verbs, changes: &[], validate: None }
}

fn or_none(value: Value) -> Value {
    if value == "" { "<none>".into() } else { value }
}

fn gates(pod: &Value) -> Value {
    let all = pod["spec"]["readinessGates"].as_array().map_or(0, Vec::len);
    if all == 0 {
        return "<none>".into();
    }
    let holds = items(&pod["spec"], "readinessGates").filter(|gate| holds(pod, text(gate, "conditionType")));
    format!("{}/{all}", holds.count()).into()
}

fn holds(pod: &Value, kind: &str) -> bool {
    items(&pod["status"], "conditions")
        .any(|condition| condition["type"] == kind && condition["status"] == "True")
}

/// A pod at a glance: what `kubectl get pods` says of it (`printers/internalversion.printPod`).
struct Glance {
    ready: usize,
    total: usize,
    reason: String,
    restarts: String,
}

impl Glance {
    fn of(pod: &Value, now: Timestamp) -> Self {
        let (spec, status) = (&pod["spec"], &pod["status"]);
        let sidecar = |name: &str| {
            items(spec, "initContainers")
                .any(|container| text(container, "name") == name && container["restartPolicy"] == "Always")
        };
        let sidecars = items(spec, "initContainers").filter(|one| one["restartPolicy"] == "Always").count();
        let mut glance = Self {
            ready: 0,
            total: items(spec, "containers").count() + sidecars,
            reason: text(status, "phase").to_owned(),
            restarts: String::new(),
        };
        let own = text(status, "reason");
        if !own.is_empty() {
            own.clone_into(&mut glance.reason);
        }
        if items(status, "conditions")
            .any(|condition| condition["type"] == "PodScheduled" && condition["reason"] == "SchedulingGated")
        {
            "SchedulingGated".clone_into(&mut glance.reason);
        }
        let (mut restarts, mut sidecar_restarts) = (0, 0);
        let mut last: Option<Timestamp> = None;
        let mut initializing = false;
        let of_all = items(spec, "initContainers").count();
        for (index, container) in items(status, "initContainerStatuses").enumerate() {
            count_restarts(container, &mut restarts, &mut last);
            let sidecar = sidecar(text(container, "name"));
            if sidecar {
                sidecar_restarts += container["restartCount"].as_i64().unwrap_or_default();
            }
            let (ended, waiting) = (&container["state"]["terminated"], &container["state"]["waiting"]);
            if ended["exitCode"] == 0 {
                continue;
            }
            if sidecar && container["started"] == true {
                glance.ready += usize::from(container["ready"] == true);
                continue;
            }
            glance.reason = if ended.is_object() {
                format!("Init:{}", ending(ended))
            } else if !matches!(text(waiting, "reason"), "" | "PodInitializing") {
                format!("Init:{}", text(waiting, "reason"))
            } else {
                format!("Init:{index}/{of_all}")
            };
            initializing = true;
            break;
        }
        if !initializing || holds(pod, "Initialized") {
            restarts = sidecar_restarts;
            glance.look_at_containers(pod, &mut restarts, &mut last);
        }
        if deleting(pod) {
            if own == "NodeLost" {
                "Unknown".clone_into(&mut glance.reason);
            } else if !matches!(text(status, "phase"), "Succeeded" | "Failed") {
                "Terminating".clone_into(&mut glance.reason);
            }
        }
        glance.restarts = match last {
            Some(time) if restarts > 0 => {
                format!("{restarts} ({} ago)", human_duration(now.as_second() - time.as_second()))
            }
            _ => restarts.to_string(),
        };
        glance
    }

    fn look_at_containers(&mut self, pod: &Value, restarts: &mut i64, last: &mut Option<Timestamp>) {
        let mut running = false;
        let statuses: Vec<_> = items(&pod["status"], "containerStatuses").collect();
        for container in statuses.into_iter().rev() {
            count_restarts(container, restarts, last);
            let state = &container["state"];
            if !text(&state["waiting"], "reason").is_empty() {
                text(&state["waiting"], "reason").clone_into(&mut self.reason);
            } else if state["terminated"].is_object() {
                self.reason = ending(&state["terminated"]);
            } else if container["ready"] == true && state["running"].is_object() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            let ready = holds(pod, "Ready");
            if ready { "Running" } else { "NotReady" }.clone_into(&mut self.reason);
        }
    }
}

fn count_restarts(container: &Value, restarts: &mut i64, last: &mut Option<Timestamp>) {
    *restarts += container["restartCount"].as_i64().unwrap_or_default();
    let ended = &container["lastState"]["terminated"]["finishedAt"];
    if let Some(time) = ended.as_str().and_then(|text| text.parse().ok()) {
        *last = (*last).max(Some(time));
    }
}

/// How a container ended.
fn ending(ended: &Value) -> String {
    let reason = text(ended, "reason");
    match ended["signal"].as_i64() {
        _ if !reason.is_empty() => reason.to_owned(),
        Some(signal) if signal != 0 => format!("Signal:{signal}"),
        _ => format!("ExitCode:{}", ended["exitCode"].as_i64().unwrap_or_default()),
    }
}

/// What admission has given a pod stays when an update leaves it out, so that the manifest that made a pod replaces it, too.
fn keep_what_is_given(pod: &mut Value, old: &Value) {
    let Some(spec) = pod["spec"].as_object_mut() else { return };
    for name in ["serviceAccountName", "serviceAccount", "priority", "preemptionPolicy"] {
        let absent = spec.get(name).is_none_or(|value| value.is_null() || value == "");
        if let Some(given) = old["spec"].get(name).filter(|_| absent) {
            spec.insert(name.to_owned(), given.clone());
        }
    }
    keep_token(&mut pod["spec"], &old["spec"]);
    let Some(spec) = pod["spec"].as_object_mut() else { return };
    let tolerations = spec.entry("tolerations").or_insert_with(|| json!([]));
    let Some(tolerations) = tolerations.as_array_mut() else { return };
    let key = |toleration: &Value| text(toleration, "key").to_owned();
    let is_for_ends = |own: &&Value| matches!(text(own, "effect"), "" | "NoExecute");
    let mut own: HashSet<String> = tolerations.iter().filter(is_for_ends).map(key).collect();
    // One without a key is for all of them.
    let all = own.contains("");
    for given in items(&old["spec"], "tolerations").filter(|given| !all && is_patience(given)) {
        if own.insert(key(given)) {
            tolerations.push(given.clone());
        }
    }
    if tolerations.is_empty() {
        spec.remove("tolerations");
    }
}

/// Whether it is one of the two that every pod gets (`DefaultTolerationSeconds`).
fn is_patience(toleration: &Value) -> bool {
    let key = text(toleration, "key");
    matches!(key, "node.kubernetes.io/not-ready" | "node.kubernetes.io/unreachable")
        && toleration["effect"] == "NoExecute"
}

/// Before there was a field for it, annotations said how a container is confined.
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// `validation.ValidateAppArmorPodAnnotations`.
fn validate_app_armor(pod: &Value, faults: &mut Faults) {
    let spec = &pod["spec"];
    let mut known: Option<HashSet<&str>> = None;
    for (key, profile) in pod["metadata"]["annotations"].as_object().into_iter().flatten() {
        let Some(container) = key.strip_prefix(APP_ARMOR) else { continue };
        let path = FieldPath::new("metadata.annotations").key(key);
        let known = known.get_or_insert_with(|| {
            ["initContainers", "containers", "ephemeralContainers"]
                .into_iter()
                .flat_map(|list| items(spec, list))
                .map(|container| text(container, "name"))
                .collect()
        });
        if !known.contains(container) {
            faults.push(FieldError::invalid(&path, container, "container not found"));
        }
        let profile = profile.as_str().unwrap_or_default();
        if !matches!(profile, "" | "runtime/default" | "unconfined") && !profile.starts_with("localhost/") {
            let message = format!("invalid AppArmor profile name: {}", quoted(profile));
            faults.push(FieldError::invalid(&path, profile, &message));
        }
    }
}

/// Where a pod is and where room is made for it: `validation.ValidatePodStatusUpdate`.
fn validate_status(status: &Value, faults: &mut Faults) {
    let path = FieldPath::new("status");
    let nominated = text(status, "nominatedNodeName");
    if !nominated.is_empty() {
        subdomain(nominated, &path.child("nominatedNodeName"), faults);
    }
    for list in ["podIPs", "hostIPs"] {
        for (index, address) in items(status, list).enumerate() {
            net::ip(text(address, "ip"), &path.child(list).index(index), faults);
        }
    }
}

/// The deadline of a pod comes nearer, and never goes.
fn validate_deadline(new: &Value, old: &Value, faults: &mut Faults) {
    let path = FieldPath::new("spec.activeDeadlineSeconds");
    let seconds = |pod: &Value| pod["spec"]["activeDeadlineSeconds"].as_i64();
    match (seconds(old), seconds(new)) {
        (Some(before), Some(after)) if after > before => {
            faults.push(FieldError::invalid(&path, after, "must be less than or equal to previous value"));
        }
        (Some(_), None) => {
            let message = "must not update from a positive integer to nil value";
            faults.push(FieldError::invalid(&path, "null", message));
        }
        _ => {}
    }
}

/// A pod's spec stands, but for images, its deadline, its grace, more tolerations, and where it was not scheduled yet.
fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    mirror::validate_update(new, old, faults);
    let path = FieldPath::new("spec");
    // An older hub may not have filled in every default.
    let mut defaulted = old.clone();
    pod::default_pod(&mut defaulted);
    let old = &defaulted;
    for list in ["containers", "initContainers"] {
        if items(&new["spec"], list).count() != items(&old["spec"], list).count() {
            let message = "pod updates may not add or remove containers";
            faults.push(FieldError::forbidden(&path.child(list), message));
            return;
        }
    }
    let before = faults.len();
    validate_deadline(new, old, faults);
    if faults.len() > before && !new["spec"]["activeDeadlineSeconds"].is_null() {
        return;
    }
    let kept = |object: &Value| {
        let mut spec = object["spec"].clone();
        for list in ["containers", "initContainers"] {
            for container in crate::validation::items_mut(&mut spec, list) {
                container["image"] = Value::Null;
            }
        }
        if let Some(spec) = spec.as_object_mut() {
            for name in ["activeDeadlineSeconds", "tolerations"] {
                spec.remove(name);
            }
            // A grace below zero counts as one second, and may be written so.
            if old["spec"]["terminationGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds < 0)
                && new["spec"]["terminationGracePeriodSeconds"] == 1
            {
                spec.remove("terminationGracePeriodSeconds");
            }
            // Gates open, and a pod behind one may be narrowed down.
            if old["spec"]["schedulingGates"].is_array() {
                for name in ["schedulingGates", "nodeSelector", "affinity"] {
                    spec.remove(name);
                }
            }
        }
        spec
    };
    // How long a taint is tolerated may change.
    let alike = |toleration: &Value| {
        let mut toleration = toleration.clone();
        if let Some(map) = toleration.as_object_mut() {
            map.remove("tolerationSeconds");
        }
        toleration
    };
    let after: HashSet<Value> = items(&new["spec"], "tolerations").map(alike).collect();
    if items(&old["spec"], "tolerations").any(|toleration| !after.contains(&alike(toleration))) {
        let message = "existing toleration can not be modified except its tolerationSeconds";
        faults.push(FieldError::forbidden(&path.child("tolerations"), message));
    }
    spreading::gates_only_go(&new["spec"], &old["spec"], &path, faults);
    let gated = items(&old["spec"], "schedulingGates").next().is_some();
    for (key, value) in old["spec"]["nodeSelector"].as_object().into_iter().flatten().filter(|_| gated) {
        let now = &new["spec"]["nodeSelector"][key];
        if now != value {
            let message = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
            let now = now.as_str().unwrap_or_default();
            faults.push(FieldError::invalid(&path.child("nodeSelector"), now, message));
        }
    }
    if kept(new) != kept(old) {
        let message = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
        faults.push(FieldError::forbidden(&path, message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pod: &Value, expect: (&str, &str, &str)) {
        let glance = Glance::of(pod, "2024-01-01T00:10:00Z".parse().unwrap_or_default());
        let ready = format!("{}/{}", glance.ready, glance.total);
        assert_eq!((ready.as_str(), glance.reason.as_str(), glance.restarts.as_str()), expect);
    }

    #[test]
    fn a_pod_is_told_as_kubectl_tells_it() {
        let spec = json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}, {"name": "b"}]});
        check(&json!({"spec": spec, "status": {"phase": "Pending"}}), ("0/2", "Pending", "0"));
        let init = json!([{"name": "i", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]);
        let status = json!({"phase": "Pending", "initContainerStatuses": init});
        check(&json!({"spec": spec, "status": status}), ("0/2", "Init:ImagePullBackOff", "0"));
        let status = json!({"phase": "Running", "containerStatuses": [
            {"name": "a", "ready": true, "restartCount": 0, "state": {"running": {}}},
            {"name": "b", "ready": false, "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"finishedAt": "2024-01-01T00:05:00Z"}}},
        ]});
        check(&json!({"spec": spec, "status": status}), ("1/2", "CrashLoopBackOff", "3 (5m ago)"));
        let gone =
            json!({"metadata": {"deletionTimestamp": "x"}, "spec": spec, "status": {"phase": "Running"}});
        check(&gone, ("0/2", "Terminating", "0"));
    }

    #[track_caller]
    fn told(faults: &Faults, expect: &[&str]) {
        assert_eq!(faults.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn a_deadline_comes_nearer_and_never_goes() {
        let pod = |seconds: Value| {
            let mut pod = json!({"spec": {"activeDeadlineSeconds": seconds}});
            pod::default_pod(&mut pod);
            pod
        };
        let check = |old: Value, new: Value, expect: &[&str]| {
            let mut faults = Faults::new();
            validate_update(&pod(new), &pod(old), &mut faults);
            told(&faults, expect);
        };
        check(Value::Null, json!(9), &[]);
        check(json!(9), json!(5), &[]);
        check(
            json!(9),
            json!(99),
            &["spec.activeDeadlineSeconds: Invalid value: 99: must be less than or equal to previous value"],
        );
        check(
            json!(9),
            Value::Null,
            &[
                "spec.activeDeadlineSeconds: Invalid value: \"null\": must not update from a positive integer to nil value",
            ],
        );
    }

    #[test]
    fn containers_neither_come_nor_go() {
        let pod = |names: &[&str]| json!({"spec": {"containers": names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>()}});
        let mut faults = Faults::new();
        validate_update(&pod(&["a", "b"]), &pod(&["a"]), &mut faults);
        told(&faults, &["spec.containers: Forbidden: pod updates may not add or remove containers"]);
    }

    #[test]
    fn annotations_confine_only_containers_that_are_there() {
        let mut faults = Faults::new();
        let annotations = json!({
            "container.apparmor.security.beta.kubernetes.io/c": "odd",
            "container.apparmor.security.beta.kubernetes.io/none": "runtime/default",
        });
        let pod = json!({"metadata": {"annotations": annotations}, "spec": {"containers": [{"name": "c"}]}});
        validate_app_armor(&pod, &mut faults);
        told(
            &faults,
            &[
                r#"metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: Invalid value: "odd": invalid AppArmor profile name: "odd""#,
                r#"metadata.annotations[container.apparmor.security.beta.kubernetes.io/none]: Invalid value: "none": container not found"#,
            ],
        );
    }

    #[test]
    fn what_is_tolerated_stays_in_any_order_however_much_it_is() {
        let toleration = |number: usize| json!({"operator": "Exists", "key": format!("a{number}")});
        let pod = |tolerations: Vec<Value>| json!({"spec": {"tolerations": tolerations}});
        let check = |old: Vec<Value>, new: Vec<Value>, expect: &[&str]| {
            let mut faults = Faults::new();
            validate_update(&pod(new), &pod(old), &mut faults);
            let told: Vec<_> = faults.iter().filter(|fault| fault.field == "spec.tolerations").collect();
            assert_eq!(told.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
        };
        let old: Vec<Value> = (0..100_000).map(toleration).collect();
        let new: Vec<Value> = (0..100_001).rev().map(toleration).collect();
        check(old.clone(), new, &[]);
        let fewer = old[1..].to_vec();
        check(
            old,
            fewer,
            &[
                "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
            ],
        );
    }

    #[test]
    fn the_patience_that_a_pod_was_given_stays_once() {
        let patience = |state: &str, seconds: u64| json!({"key": format!("node.kubernetes.io/{state}"), "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
        let given = [patience("not-ready", 300), patience("unreachable", 300), patience("unreachable", 301)];
        let mut other = patience("unreachable", 1);
        other["effect"] = json!("NoSchedule");
        let old = json!({"spec": {"tolerations": given}});
        let mut pod = json!({"spec": {"tolerations": [patience("not-ready", 5), other]}});
        keep_what_is_given(&mut pod, &old);
        let expect = json!([patience("not-ready", 5), other, patience("unreachable", 300)]);
        assert_eq!(pod["spec"]["tolerations"], expect);
    }
}
