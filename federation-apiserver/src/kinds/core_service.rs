//! core/v1 Service and Endpoints.
//!
//! A federated Service has a cluster IP of this API, stable for its life ([`crate::allocation`]); each member's copy has
//! one of its own.

mod rules;

use apimachinery::{FieldError, FieldPath, names::NameRule};
use serde_json::{Value, json};

use crate::{
    registry::{Column, ErrorList, Kind, Subresource, field, joined},
    validation::{items, items_mut, label, net, one_of, qualified, set, set_text, subdomain, text, workload},
};

pub(super) const KINDS: &[&Kind] = &[
    &Kind {
        kind: "Service",
        plural: "services",
        returns_deleted: true,
        singular: "service",
        short_names: &["svc"],
        categories: &["all"],
        status: true,
        subresources: &[Subresource::proxy("ServiceProxyOptions")],
        create_on_update: true,
        allocates: true,
        columns: &[
            Column::NAME,
            Column::text("Type", "How it is exposed.", |object, _| field(object, "/spec/type")),
            Column::text("Cluster-IP", "Its address inside.", |object, _| {
                none_if_empty(field(object, "/spec/clusterIP"))
            }),
            Column::text("External-IP", "Addresses that users reach.", |object, _| external(object)),
            Column::text("Port(s)", "Ports and protocols.", |object, _| ports(object)),
            Column::AGE,
            Column::text("Selector", "Which pods.", |object, _| {
                workload::labels(&object["spec"]["selector"])
            })
            .wide(),
        ],
        selectable: &[("spec.type", "/spec/type"), ("spec.clusterIP", "/spec/clusterIP")],
        name_rule: NameRule::Dns1123Label,
        default: default_service,
        prepare_create: |object| object["status"] = json!({"loadBalancer": {}}),
        prepare_update: |object, old| {
            if old["spec"]["type"] == "LoadBalancer" && object["spec"]["type"] != "LoadBalancer" {
                object["status"]["loadBalancer"] = json!({});
            }
        },
        validate: rules::validate,
        validate_update: rules::validate_update,
        warn: |service, _| rules::warnings(service),
        ..Kind::BUILT_IN
    },
    &Kind {
        kind: "Endpoints",
        plural: "endpoints",
        singular: "endpoints",
        short_names: &["ep"],
        create_on_update: true,
        deprecation: Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
        columns: &[
            Column::NAME,
            Column::text("Endpoints", "Addresses and ports.", |object, _| endpoints(object)),
            Column::AGE,
        ],
        default: |object| {
            for subset in items_mut(object, "subsets") {
                items_mut(subset, "ports").for_each(|port| set_text(port, "protocol", "TCP"));
            }
        },
        places,
        validate: validate_endpoints,
        warn: |object, _| {
            // The controller of Kubernetes writes addresses in their one form.
            let managed = &object["metadata"]["labels"]["endpoints.kubernetes.io/managed-by"];
            let places = if managed == "endpoint-controller" { Vec::new() } else { places(object) };
            places.iter().filter_map(|(path, address)| net::ip_warning(address, path.as_str())).collect()
        },
        ..Kind::BUILT_IN
    },
];

fn none_if_empty(value: Value) -> Value {
    if value == "" { "<none>".into() } else { value }
}

fn external(object: &Value) -> Value {
    let ingress = items(&object["status"]["loadBalancer"], "ingress");
    let mut addresses: Vec<String> = ingress
        .filter_map(|entry| entry["ip"].as_str().or_else(|| entry["hostname"].as_str()).map(str::to_owned))
        .collect();
    addresses.extend(items(&object["spec"], "externalIPs").filter_map(Value::as_str).map(str::to_owned));
    match object["spec"]["type"].as_str() {
        Some("ExternalName") => field(object, "/spec/externalName"),
        Some("LoadBalancer") if addresses.is_empty() => "<pending>".into(),
        _ => joined(addresses),
    }
}

fn ports(object: &Value) -> Value {
    joined(items(&object["spec"], "ports").map(|port| {
        let node = port["nodePort"]
            .as_i64()
            .filter(|node| *node > 0)
            .map_or(String::new(), |node| format!(":{node}"));
        format!("{}{node}/{}", port["port"], port["protocol"].as_str().unwrap_or("TCP"))
    }))
}

/// `formatEndpoints`: three of them, and how many more.
fn endpoints(object: &Value) -> Value {
    let mut found = Vec::new();
    for subset in items(object, "subsets") {
        let addresses = || items(subset, "addresses").map(|address| text(address, "ip"));
        let before = found.len();
        for port in items(subset, "ports") {
            found.extend(addresses().map(|ip| format!("{ip}:{}", port["port"])));
        }
        if found.len() == before {
            found.extend(addresses().map(str::to_owned));
        }
    }
    match found.len() {
        0..=3 => joined(found),
        count => format!("{} + {} more...", found[..3].join(","), count - 3).into(),
    }
}

/// Whether traffic from outside comes to a Service: `service.ExternallyAccessible`.
pub(crate) fn is_externally_accessible(spec: &Value) -> bool {
    match text(spec, "type") {
        "NodePort" | "LoadBalancer" => true,
        "ClusterIP" => items(spec, "externalIPs").next().is_some(),
        _ => false,
    }
}

fn default_service(object: &mut Value) {
    let spec = &mut object["spec"];
    if !spec.is_object() {
        return;
    }
    set_text(spec, "sessionAffinity", "None");
    if spec["sessionAffinity"] == "None" {
        if let Some(spec) = spec.as_object_mut() {
            spec.remove("sessionAffinityConfig");
        }
    } else if spec["sessionAffinity"] == "ClientIP"
        && spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"].is_null()
    {
        spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": 10800}});
    }
    set_text(spec, "type", "ClusterIP");
    let kind = text(spec, "type").to_owned();
    if matches!(kind.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
        set(spec, "internalTrafficPolicy", "Cluster");
    }
    if is_externally_accessible(spec) {
        set_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        set(spec, "allocateLoadBalancerNodePorts", true);
    }
    if kind == "LoadBalancer"
        && let Some(balancer) = object.pointer_mut("/status/loadBalancer")
    {
        for ingress in items_mut(balancer, "ingress").filter(|ingress| !text(ingress, "ip").is_empty()) {
            set(ingress, "ipMode", "VIP");
        }
    }
    let spec = &mut object["spec"];
    for port in items_mut(spec, "ports") {
        set_text(port, "protocol", "TCP");
        if port["targetPort"].is_null() || port["targetPort"] == 0 || port["targetPort"] == "" {
            port["targetPort"] = port["port"].as_i64().unwrap_or_default().into();
        }
    }
    if object["status"].is_null() {
        object["status"] = json!({"loadBalancer": {}});
    }
}

fn places(object: &Value) -> Vec<(FieldPath, &str)> {
    let mut places = Vec::new();
    for (index, subset) in items(object, "subsets").enumerate() {
        let path = FieldPath::new("subsets").index(index);
        for list in ["addresses", "notReadyAddresses"] {
            let addresses = items(subset, list).enumerate();
            places.extend(
                addresses.map(|(at, address)| (path.child(list).index(at).child("ip"), text(address, "ip"))),
            );
        }
    }
    places
}

fn validate_endpoints(object: &Value, errors: &mut ErrorList) {
    for (index, subset) in items(object, "subsets").enumerate() {
        let path = FieldPath::new("subsets").index(index);
        let empty = |name: &str| subset[name].as_array().is_none_or(Vec::is_empty);
        if empty("addresses") && empty("notReadyAddresses") {
            let message = "must specify `addresses` or `notReadyAddresses`";
            errors.push(FieldError::required(&path, message));
        }
        for list in ["addresses", "notReadyAddresses"] {
            for (at, address) in items(subset, list).enumerate() {
                let path = path.child(list).index(at);
                net::ip(text(address, "ip"), &path.child("ip"), errors);
                if !text(address, "hostname").is_empty() {
                    label(text(address, "hostname"), &path.child("hostname"), errors);
                }
                if let Some(node) = address["nodeName"].as_str() {
                    subdomain(node, &path.child("nodeName"), errors);
                }
            }
        }
        let several = subset["ports"].as_array().is_some_and(|ports| ports.len() > 1);
        for (at, port) in items(subset, "ports").enumerate() {
            let path = path.child("ports").index(at);
            match text(port, "name") {
                "" if several => errors.push(FieldError::required(&path.child("name"), "")),
                "" => {}
                name => label(name, &path.child("name"), errors),
            }
            net::port(port["port"].as_i64().unwrap_or_default(), &path.child("port"), errors);
            one_of(text(port, "protocol"), &path.child("protocol"), &net::PROTOCOLS, errors);
            qualified(port, &path, "appProtocol", errors);
        }
    }
}
