//! core/v1 Node, ComponentStatus and Binding. The federation itself has no nodes; sandbox members do, on this same server.

use std::collections::HashSet;

use apimachinery::{FieldError, FieldPath, FieldReason, meta::Scope, names};
use serde_json::{Value, json};

use crate::{
    registry::{Column, ErrorList, Kind, Subresource, field, joined},
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
            Column::text("Kernel-Version", "Its kernel, and for which machines.", |object, _| kernel(object))
                .wide(),
            Column::text("Container-Runtime", "What runs its containers.", |object, _| {
                info(object, "containerRuntimeVersion")
            })
            .wide(),
        ],
        selectable: &[("spec.unschedulable", "/spec/unschedulable")],
        default,
        prepare_create: |object| {
            not_ready(object);
            remove(&mut object["spec"], "configSource");
            remove(&mut object["status"], "config");
        },
        prepare_update: |new, old| {
            if old["spec"]["configSource"].is_null() {
                remove(&mut new["spec"], "configSource");
            }
        },
        validate,
        validate_update,
        warn: |node, _| {
            let former = [
                ("configSource", "the feature is removed"),
                ("externalID", "this field is deprecated, and is unused by Kubernetes"),
            ];
            let said = |name: &str| !matches!(&node["spec"][name], Value::Null) && node["spec"][name] != "";
            let told = former.iter().filter(|(name, _)| said(name));
            told.map(|(name, why)| format!("spec.{name}: {why}")).collect()
        },
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

fn remove(object: &mut Value, name: &str) {
    if let Some(object) = object.as_object_mut() {
        object.remove(name);
    }
}

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

/// `6.8.0-124-generic (amd64)`.
fn kernel(object: &Value) -> Value {
    let info = &object["status"]["nodeInfo"];
    match (text(info, "kernelVersion"), text(info, "architecture")) {
        ("", _) => "<unknown>".into(),
        (kernel, "") => kernel.into(),
        (kernel, architecture) => format!("{kernel} ({architecture})").into(),
    }
}

fn validate(object: &Value, errors: &mut ErrorList) {
    let (spec, path) = (&object["spec"], FieldPath::new("spec"));
    // kube-apiserver calls them so.
    let taints = FieldPath::new("metadata.taints");
    let mut seen = HashSet::new();
    for (index, taint) in items(spec, "taints").enumerate() {
        let path = taints.index(index);
        let key = text(taint, "key");
        errors.extend(
            names::label_key(key).iter().map(|error| FieldError::invalid(&path.child("key"), key, error)),
        );
        let value = text(taint, "value");
        let wrong = names::label_value(value);
        if !wrong.is_empty() {
            errors.push(FieldError::invalid(&path.child("value"), value, &wrong.join(";")));
        }
        let effect = text(taint, "effect");
        if effect.is_empty() {
            errors.push(FieldError::required(&path.child("effect"), ""));
        } else if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
            // Not in the order of the alphabet, as they are everywhere else.
            let known = r#"supported values: "NoSchedule", "PreferNoSchedule", "NoExecute""#;
            let value = Value::from(effect);
            let reason = FieldReason::NotSupported;
            errors.push(FieldError::new(reason, &path.child("effect"), Some(&value), known));
        }
        if !seen.insert((text(taint, "key"), effect)) {
            let mut error = FieldError::duplicate(&path, taint.clone());
            error.message.push_str(": taints must be unique by key and effect pair");
            errors.push(error);
        }
    }
    declared_features(&object["status"], errors);
    let place = path.child("podCIDRs");
    let read = |(index, network): (usize, &Value)| {
        net::cidr(network.as_str().unwrap_or_default(), &place.index(index), errors)
    };
    let networks: Vec<_> = items(spec, "podCIDRs").enumerate().map(read).collect();
    let families: HashSet<_> = networks.iter().flatten().map(|network| network.address.is_ipv4()).collect();
    if networks.len() > 2 || networks.len() == 2 && families.len() < 2 && !networks.contains(&None) {
        let message = "may specify no more than one CIDR for each IP family";
        errors.push(FieldError::invalid(&place, spec["podCIDRs"].clone(), message));
    }
}

/// What the kubelet of a node says that it can do: each once, and in the order of the alphabet.
fn declared_features(status: &Value, errors: &mut ErrorList) {
    let path = FieldPath::new("status.declaredFeatures");
    let mut before: Option<&str> = None;
    for (index, name) in items(status, "declaredFeatures").enumerate() {
        let (name, path) = (name.as_str().unwrap_or_default(), path.index(index));
        if before == Some(name) {
            errors.push(FieldError::duplicate(&path, name));
        } else if before.is_some_and(|before| before > name) {
            errors.push(FieldError::invalid(&path, name, "list must be sorted alphabetically"));
        }
        before = Some(name);
        if name.len() > names::SUBDOMAIN_MAX_BYTES {
            let message = format!(
                "invalid feature name {name:?}: must be no more than {} characters",
                names::SUBDOMAIN_MAX_BYTES
            );
            errors.push(FieldError::invalid(&path, name, &message));
        } else if !is_feature(name) {
            let message = format!(
                "invalid feature name {name:?}: must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes"
            );
            errors.push(FieldError::invalid(&path, name, &message));
        }
    }
}

fn is_feature(name: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    name.split('/').all(part) && name.starts_with(|first: char| first.is_ascii_uppercase())
}

fn validate_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    let addresses = |node: &Value| node["status"]["addresses"].clone();
    if addresses(new) != addresses(old) {
        let mut seen = HashSet::new();
        for (index, address) in items(&new["status"], "addresses").enumerate() {
            let (kind, at) = (text(address, "type"), text(address, "address"));
            if !seen.insert((kind, at)) {
                let path = FieldPath::new("status.addresses").index(index);
                errors.push(FieldError::duplicate(&path, json!({"Type": kind, "Address": at})));
            }
        }
    }
    // Of networks only the list is told, which stands for the single field, too.
    let networks = |node: &Value| node["spec"]["podCIDRs"].clone();
    let changed = items(&old["spec"], "podCIDRs").next().is_some() && networks(old) != networks(new);
    let (before, after) = (text(&old["spec"], "providerID"), text(&new["spec"], "providerID"));
    for (name, place, changed) in [
        ("podCIDR", "podCIDRs", changed),
        ("providerID", "providerID", !before.is_empty() && before != after),
    ] {
        if changed {
            let message = format!("node updates may not change {name} except from \"\" to valid");
            errors.push(FieldError::forbidden(&FieldPath::new("spec").child(place), &message));
        }
    }
    if text(&new["spec"], "externalID") != text(&old["spec"], "externalID") {
        errors.push(FieldError::forbidden(&"spec.externalID".into(), "may not be updated"));
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

    #[track_caller]
    fn told(find: impl FnOnce(&mut ErrorList), expect: &[&str]) {
        let mut errors = ErrorList::new();
        find(&mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn a_node_has_a_network_of_each_family() {
        let check = |networks: Value, expect: &[&str]| {
            told(|errors| validate(&json!({"spec": {"podCIDRs": networks}}), errors), expect);
        };
        check(json!(["10.0.0.0/24", "fd00::/64"]), &[]);
        check(
            json!(["10.0.0.0/24", "10.0.1.0/24"]),
            &[
                r#"spec.podCIDRs: Invalid value: ["10.0.0.0/24","10.0.1.0/24"]: may specify no more than one CIDR for each IP family"#,
            ],
        );
        check(
            json!(["10.0.0.1/24"]),
            &[
                r#"spec.podCIDRs[0]: Invalid value: "10.0.0.1/24": must not have bits set beyond the prefix length"#,
            ],
        );
    }

    #[test]
    fn what_a_node_can_do_is_told_in_order() {
        let check = |names: Value, expect: &[&str]| {
            told(|errors| declared_features(&json!({"declaredFeatures": names}), errors), expect);
        };
        check(json!(["A", "B/c", "B/d"]), &[]);
        check(
            json!(["B", "A", "A"]),
            &[
                r#"status.declaredFeatures[1]: Invalid value: "A": list must be sorted alphabetically"#,
                r#"status.declaredFeatures[2]: Duplicate value: "A""#,
            ],
        );
        for odd in ["a", "A b", "A//B", "/A", ""] {
            let mut errors = ErrorList::new();
            declared_features(&json!({"declaredFeatures": [odd]}), &mut errors);
            assert_eq!(errors.len(), 1, "{odd}");
        }
    }

    #[test]
    fn a_node_stays_what_it_is() {
        let addresses = |count: usize| json!({"status": {"addresses": vec![json!({"type": "InternalIP", "address": "10.0.0.1"}); count]}});
        told(|errors| validate_update(&addresses(1), &json!({}), errors), &[]);
        told(
            |errors| validate_update(&addresses(2), &addresses(1), errors),
            &[r#"status.addresses[1]: Duplicate value: {"Address":"10.0.0.1","Type":"InternalIP"}"#],
        );
        told(|errors| validate_update(&addresses(2), &addresses(2), errors), &[]);
        let spec = |networks: Value, id: &str| json!({"spec": {"podCIDRs": networks, "externalID": id}});
        let both = json!(["10.0.0.0/24", "fd00::/64"]);
        told(
            |errors| validate_update(&spec(json!(["10.0.0.0/24"]), "b"), &spec(both, "a"), errors),
            &[
                r#"spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid"#,
                "spec.externalID: Forbidden: may not be updated",
            ],
        );
    }

    #[test]
    fn a_kernel_is_told_with_its_architecture() {
        let told = |version: &str, architecture: &str| {
            let info = json!({"kernelVersion": version, "architecture": architecture});
            kernel(&json!({"status": {"nodeInfo": info}}))
        };
        assert_eq!(told("6.8.0-124-generic", "amd64"), "6.8.0-124-generic (amd64)");
        assert_eq!(told("6.8.0-124-generic", ""), "6.8.0-124-generic");
        assert_eq!(told("", "amd64"), "<unknown>");
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
