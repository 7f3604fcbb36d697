//! core/v1 Pod and PodTemplate. The federation itself runs no pods; sandbox members do, on this same server.

mod allocated_resources;
mod columns;
mod disabled_fields;
mod prepare;
mod rules;
mod status;

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::{
    admission::keep_token,
    registry::{Column, Generation, Kind, Subresource},
    validation::{ephemeral_containers, items, pod, pod_resize, pod_warnings, text, workload},
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
                validate: Some(ephemeral_containers::validate_ephemeral),
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
                changes: &[
                    "/spec/containers/*/resizePolicy",
                    "/spec/containers/*/resources",
                    "/spec/initContainers/*/resizePolicy",
                    "/spec/initContainers/*/resources",
                    "/spec/resources",
                ],
                validate: Some(pod_resize::validate),
            },
        ],
        generation: Generation::Spec,
        unconditional_update: false,
        columns: columns::COLUMNS,
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
        carry_over: prepare::carry_over,
        prepare_create: prepare::begin,
        prepare_update: keep_what_is_given,
        stamp: |new, old, part, _| {
            disabled_fields::leave_out(new, Some(old));
            if part == "status" {
                status::keep(new, old);
            }
        },
        validate: rules::validate,
        validate_create: rules::validate_create,
        validate_update: rules::validate_update,
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
        validate: |object, errors| pod::validate_template(&object["template"], &"template".into(), errors),
        warn: |object, _| pod_warnings::of_template(&object["template"], &"template".into()),
        ..Kind::BUILT_IN
    },
];

/// What would go to the node of a pod.
const fn connecting(name: &'static str) -> Subresource {
    let verbs = &["create", "get"];
    Subresource { name, group: "", version: "v1", kind: "", verbs, changes: &[], validate: None }
}

/// What admission has given a pod stays when an update leaves it out, so that the manifest that made a pod replaces it, too.
fn keep_what_is_given(pod: &mut Value, old: &Value) {
    disabled_fields::leave_out(pod, Some(old));
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

#[cfg(test)]
mod tests {
    use super::*;

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
