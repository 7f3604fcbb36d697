//! core/v1 Node, ComponentStatus and Binding. The federation itself has no nodes; sandbox members do, on this same server.

use std::collections::HashSet;

use apimachinery::{FieldError, FieldPath, FieldReason, meta::Scope, names};
use serde_json::{Value, json};

use crate::{
    registry::{Column, Faults, Kind, Subresource, field, joined},
    validation::{condition, items, net, set, text},
};

pub(super) const KINDS: &[&Kind] = &[
    &Kind {
        kind: "Node",
        plural: "nodes",
        singular: "node",
        short_names: &["no"],
        scope: Scope::Cluster,
        status: true,
        subresources: &[Subresource::proxy("NodeProxyOptions")],
        columns: &[
            Column::NAME,
            Column::text("Status", "The status of the node", |object, _| ready(object)),
            Column::text("Roles", "The roles of the node", |object, _| roles(object)),
            Column::AGE,
            Column::text("Version", "Kubelet Version reported by the node.", |object, _| {
                field(object, "/status/nodeInfo/kubeletVersion")
            }),
            Column::text("Internal-IP", "Its address inside.", |object, _| address(object, "InternalIP"))
                .wide(),
            Column::text("External-IP", "Its address outside.", |object, _| address(object, "ExternalIP"))
                .wide(),
            Column::text("OS-Image", "Its operating system.", |object, _| info(object, "osImage")).wide(),
            Column::text("Kernel-Version", "Its kernel.", |object, _| info(object, "kernelVersion")).wide(),
            Column::text("Container-Runtime", "What runs its containers.", |object, _| {
                info(object, "containerRuntimeVersion")
            })
            .wide(),
        ],
        selectable: &[("spec.unschedulable", "/spec/unschedulable")],
        default,
        prepare_create: not_ready,
        validate,
        validate_update,
        ..Kind::BUILT_IN
    },
    &Kind {
        kind: "ComponentStatus",
        plural: "componentstatuses",
        singular: "componentstatus",
        short_names: &["cs"],
        scope: Scope::Cluster,
        verbs: &["get", "list"],
        deprecation: Some("v1 ComponentStatus is deprecated in v1.19+"),
        columns: &[
            Column::NAME,
            Column::text("Status", "Status of the component conditions", |object, _| {
                component(object, "status")
            }),
            Column::text("Message", "Message of the component conditions", |object, _| {
                component(object, "message")
            }),
            Column::text("Error", "Error of the component conditions", |object, _| {
                component(object, "error")
            }),
        ],
        ..Kind::BUILT_IN
    },
    &Kind { kind: "Binding", plural: "bindings", singular: "binding", verbs: &["create"], ..Kind::BUILT_IN },
];

/// What a kubelet tells of its machine. Go writes it even if nothing is told.
const INFO: [&str; 10] = [
    "machineID",
    "systemUUID",
    "bootID",
    "kernelVersion",
    "osImage",
    "containerRuntimeVersion",
    "kubeletVersion",
    "kubeProxyVersion",
    "operatingSystem",
    "architecture",
];

fn default(object: &mut Value) {
    settle_networks(&mut object["spec"]);
    set(object, "status", json!({}));
    let status = &mut object["status"];
    let capacity = status["capacity"].clone();
    if capacity.is_object() {
        set(status, "allocatable", capacity);
    }
    set(status, "nodeInfo", json!({}));
    for name in INFO {
        set(&mut status["nodeInfo"], name, "");
    }
    set(status, "daemonEndpoints", json!({}));
    set(&mut status["daemonEndpoints"], "kubeletEndpoint", json!({}));
    set(&mut status["daemonEndpoints"]["kubeletEndpoint"], "Port", 0);
}

/// The first of a node's networks for pods stands in two places; where they differ, the older one counts
/// (`Convert_v1_NodeSpec_To_core_NodeSpec`).
fn settle_networks(spec: &mut Value) {
    let first = text(spec, "podCIDR").to_owned();
    let listed = spec["podCIDRs"][0].as_str().unwrap_or_default().to_owned();
    if first.is_empty() && !listed.is_empty() {
        spec["podCIDR"] = listed.into();
    } else if !first.is_empty() && first != listed {
        spec["podCIDRs"] = json!([first]);
    }
}

/// No pod goes to a new node before it has said that it is ready: the admission plugin TaintNodesByCondition.
fn not_ready(object: &mut Value) {
    let taint = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
    let same = |other: &Value| other["key"] == taint["key"] && other["effect"] == taint["effect"];
    if !items(&object["spec"], "taints").any(same) {
        set(object, "spec", json!({}));
        set(&mut object["spec"], "taints", json!([]));
        if let Some(taints) = object["spec"]["taints"].as_array_mut() {
            taints.push(taint);
        }
    }
}

fn component(object: &Value, name: &str) -> Value {
    let healthy = items(object, "conditions").find(|condition| condition["type"] == "Healthy");
    match (name, healthy) {
        ("status", Some(condition)) if condition["status"] == "True" => "Healthy".into(),
        ("status", Some(condition)) if condition["status"] == "False" => "Unhealthy".into(),
        ("status", _) => "Unknown".into(),
        (_, Some(condition)) => text(condition, name).into(),
        (_, None) => "".into(),
    }
}

fn ready(object: &Value) -> Value {
    let mut text = match condition(object, "Ready") {
        Some(condition) if condition["status"] == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if object["spec"]["unschedulable"] == true {
        text.push_str(",SchedulingDisabled");
    }
    text.into()
}

fn roles(object: &Value) -> Value {
    let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
    let mut roles: Vec<_> = labels
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) if !role.is_empty() => Some(role.to_owned()),
            _ if key == "kubernetes.io/role" => {
                value.as_str().filter(|role| !role.is_empty()).map(str::to_owned)
            }
            _ => None,
        })
        .collect();
    roles.sort();
    roles.dedup();
    joined(roles)
}

fn address(object: &Value, kind: &str) -> Value {
    let found = items(&object["status"], "addresses").find(|address| address["type"] == kind);
    found.map_or("<none>", |address| text(address, "address")).into()
}

fn info(object: &Value, name: &str) -> Value {
    match text(&object["status"]["nodeInfo"], name) {
        "" => "<unknown>".into(),
        found => found.into(),
    }
}

fn validate(object: &Value, faults: &mut Faults) {
    let (spec, path) = (&object["spec"], FieldPath::new("spec"));
    // kube-apiserver calls them so.
    let taints = FieldPath::new("metadata.taints");
    let mut seen = HashSet::new();
    for (index, taint) in items(spec, "taints").enumerate() {
        let path = taints.index(index);
        let key = text(taint, "key");
        faults.extend(
            names::label_key(key).iter().map(|fault| FieldError::invalid(&path.child("key"), key, fault)),
        );
        let value = text(taint, "value");
        let wrong = names::label_value(value);
        if !wrong.is_empty() {
            faults.push(FieldError::invalid(&path.child("value"), value, &wrong.join(";")));
        }
        let effect = text(taint, "effect");
        if effect.is_empty() {
            faults.push(FieldError::required(&path.child("effect"), ""));
        } else if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
            // Not in the order of the alphabet, as they are everywhere else.
            let known = r#"supported values: "NoSchedule", "PreferNoSchedule", "NoExecute""#;
            let value = Value::from(effect);
            let reason = FieldReason::NotSupported;
            faults.push(FieldError::new(reason, &path.child("effect"), Some(&value), known));
        }
        if !seen.insert((text(taint, "key"), effect)) {
            let mut error = FieldError::duplicate(&path, taint.clone());
            error.message.push_str(": taints must be unique by key and effect pair");
            faults.push(error);
        }
    }
    for (index, network) in items(spec, "podCIDRs").enumerate() {
        net::cidr(network.as_str().unwrap_or_default(), &path.child("podCIDRs").index(index), faults);
    }
}

fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    // Of networks only the list is told, which stands for the single field, too.
    for (name, place) in [("podCIDR", "podCIDRs"), ("providerID", "providerID")] {
        let before = text(&old["spec"], name);
        if !before.is_empty() && before != text(&new["spec"], name) {
            let message = format!("node updates may not change {name} except from \"\" to valid");
            faults.push(FieldError::forbidden(&FieldPath::new("spec").child(place), &message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_network_of_a_node_stands_in_both_fields() {
        let settled = |mut spec: Value| {
            settle_networks(&mut spec);
            (spec["podCIDR"].clone(), spec["podCIDRs"].clone())
        };
        let both = |first: &str| (json!(first), json!([first]));
        assert_eq!(settled(json!({"podCIDR": "10.0.0.1/24"})), both("10.0.0.1/24"));
        assert_eq!(settled(json!({"podCIDRs": ["10.0.0.0/24"]})), both("10.0.0.0/24"));
        assert_eq!(
            settled(json!({"podCIDR": "10.0.1.0/24", "podCIDRs": ["10.0.0.0/24", "fd00::/64"]})),
            both("10.0.1.0/24")
        );
        assert_eq!(settled(json!({})), (Value::Null, Value::Null));
    }

    #[test]
    fn a_node_tells_nothing_in_as_many_words() {
        let mut node = json!({"spec": {}});
        default(&mut node);
        assert_eq!(node["status"]["daemonEndpoints"], json!({"kubeletEndpoint": {"Port": 0}}));
        let info = node["status"]["nodeInfo"].as_object().expect("it is filled in");
        assert!(info.len() == INFO.len() && info.values().all(|value| value == ""));
    }
}
