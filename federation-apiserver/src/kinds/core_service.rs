//! core/v1 Service and Endpoints.
//!
//! A federated Service is a template: each member's own API server assigns the cluster IP, so none is assigned here and
//! `spec.clusterIP` stays as the user sent it, most often unset.

use apimachinery::{
    FieldError, FieldPath,
    names::{self, NameRule},
};
use serde_json::Value;

use crate::registry::{Column, Faults, Kind, field, joined};

pub(super) const KINDS: &[&Kind] = &[
    &Kind {
        kind: "Service",
        plural: "services",
        singular: "service",
        short_names: &["svc"],
        categories: &["all"],
        status: true,
        create_on_update: true,
        columns: &[
            Column::NAME,
            Column::text("Type", "How it is exposed.", |object, _| field(object, "/spec/type")),
            Column::text("Cluster-IP", "Assigned by each member.", |object, _| {
                none_if_empty(field(object, "/spec/clusterIP"))
            }),
            Column::text("External-IP", "Addresses that users reach.", |object, _| external(object)),
            Column::text("Port(s)", "Ports and protocols.", |object, _| ports(object)),
            Column::AGE,
            Column::text("Selector", "Which pods.", |object, _| {
                joined(
                    object["spec"]["selector"]
                        .as_object()
                        .into_iter()
                        .flatten()
                        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())),
                )
            })
            .wide(),
        ],
        selectable: &[("spec.type", "/spec/type"), ("spec.clusterIP", "/spec/clusterIP")],
        name_rule: NameRule::Dns1035Label,
        default: default_service,
        validate: validate_service,
        ..Kind::BUILT_IN
    },
    &Kind {
        kind: "Endpoints",
        plural: "endpoints",
        singular: "endpoints",
        short_names: &["ep"],
        create_on_update: true,
        columns: &[
            Column::NAME,
            Column::text("Endpoints", "Addresses and ports.", |object, _| endpoints(object)),
            Column::AGE,
        ],
        ..Kind::BUILT_IN
    },
];

fn none_if_empty(value: Value) -> Value {
    if value == "" { "<none>".into() } else { value }
}

fn external(object: &Value) -> Value {
    let ingress = object["status"]["loadBalancer"]["ingress"].as_array().into_iter().flatten();
    let mut addresses: Vec<String> = ingress
        .filter_map(|entry| entry["ip"].as_str().or_else(|| entry["hostname"].as_str()).map(str::to_owned))
        .collect();
    addresses.extend(strings(&object["spec"]["externalIPs"]));
    match object["spec"]["type"].as_str() {
        Some("ExternalName") => field(object, "/spec/externalName"),
        Some("LoadBalancer") if addresses.is_empty() => "<pending>".into(),
        _ => joined(addresses),
    }
}

fn strings(list: &Value) -> impl Iterator<Item = String> + '_ {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned)
}

fn ports(object: &Value) -> Value {
    joined(object["spec"]["ports"].as_array().into_iter().flatten().map(|port| {
        let node = port["nodePort"]
            .as_i64()
            .filter(|node| *node > 0)
            .map_or(String::new(), |node| format!(":{node}"));
        format!("{}{node}/{}", port["port"], port["protocol"].as_str().unwrap_or("TCP"))
    }))
}

fn endpoints(object: &Value) -> Value {
    let mut found = Vec::new();
    for subset in object["subsets"].as_array().into_iter().flatten() {
        for address in subset["addresses"].as_array().into_iter().flatten() {
            for port in subset["ports"].as_array().into_iter().flatten() {
                found.push(format!("{}:{}", address["ip"].as_str().unwrap_or_default(), port["port"]));
            }
        }
    }
    joined(found)
}

fn default_service(object: &mut Value) {
    let spec = &mut object["spec"];
    let mut set = |name: &str, value: Value| {
        if spec[name].is_null() {
            spec[name] = value;
        }
    };
    set("type", "ClusterIP".into());
    set("sessionAffinity", "None".into());
    if spec["type"] != "ExternalName" && spec["internalTrafficPolicy"].is_null() {
        spec["internalTrafficPolicy"] = "Cluster".into();
    }
    if matches!(spec["type"].as_str(), Some("NodePort" | "LoadBalancer")) {
        if spec["externalTrafficPolicy"].is_null() {
            spec["externalTrafficPolicy"] = "Cluster".into();
        }
        if spec["type"] == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"].is_null() {
            spec["allocateLoadBalancerNodePorts"] = true.into();
        }
    }
    for port in spec["ports"].as_array_mut().into_iter().flatten().filter(|port| port.is_object()) {
        if port["protocol"].as_str().unwrap_or_default().is_empty() {
            port["protocol"] = "TCP".into();
        }
        if matches!(&port["targetPort"], Value::Null) || port["targetPort"] == 0 || port["targetPort"] == "" {
            port["targetPort"] = port["port"].clone();
        }
    }
    if object["status"].is_null() {
        object["status"] = serde_json::json!({"loadBalancer": {}});
    }
}

fn validate_service(object: &Value, faults: &mut Faults) {
    let spec = &object["spec"];
    let path = FieldPath::new("spec");
    let kind = spec["type"].as_str().unwrap_or_default();
    if !matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer" | "ExternalName") {
        let known = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
        faults.push(FieldError::not_supported(&path.child("type"), kind, &known));
    }
    let affinity = spec["sessionAffinity"].as_str().unwrap_or_default();
    if !matches!(affinity, "None" | "ClientIP") {
        faults.push(FieldError::not_supported(
            &path.child("sessionAffinity"),
            affinity,
            &["ClientIP", "None"],
        ));
    }
    let none = Vec::new();
    let ports = spec["ports"].as_array().unwrap_or(&none);
    let headless = spec["clusterIP"] == "None";
    if ports.is_empty() && !headless && kind != "ExternalName" {
        faults.push(FieldError::required(&path.child("ports"), ""));
    }
    if kind == "ExternalName" {
        let name = spec["externalName"].as_str().unwrap_or_default();
        if name.is_empty() {
            faults.push(FieldError::required(&path.child("externalName"), ""));
        } else {
            for fault in names::dns1123_subdomain(name.trim_end_matches('.')) {
                faults.push(FieldError::invalid(&path.child("externalName"), name, &fault));
            }
        }
    }
    if let Some(ip) = spec["clusterIP"].as_str()
        && !matches!(ip, "" | "None")
        && ip.parse::<std::net::IpAddr>().is_err()
    {
        let message = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        faults.push(FieldError::invalid(&path.child("clusterIPs").index(0), ip, message));
    }
    if let Some(selector) = spec.get("selector") {
        apimachinery::labels::validate_labels(selector, &path.child("selector"), faults);
    }
    let mut seen_names = Vec::new();
    let mut seen_ports = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.child("ports").index(index);
        check_port(port, &path, ports.len() > 1, faults);
        if let Some(name) = port["name"].as_str().filter(|name| !name.is_empty()) {
            if seen_names.contains(&name) {
                faults.push(FieldError::duplicate(&path.child("name"), name));
            }
            seen_names.push(name);
        }
        let pair = (&port["protocol"], &port["port"]);
        if seen_ports.contains(&pair) {
            faults
                .push(FieldError::duplicate(&path, serde_json::json!({"port": pair.1, "protocol": pair.0})));
        }
        seen_ports.push(pair);
    }
}

fn check_port(port: &Value, path: &FieldPath, name_required: bool, faults: &mut Faults) {
    const RANGE: &str = "must be between 1 and 65535, inclusive";
    let name = port["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        if name_required {
            faults.push(FieldError::required(&path.child("name"), ""));
        }
    } else {
        for fault in names::dns1123_label(name) {
            faults.push(FieldError::invalid(&path.child("name"), name, &fault));
        }
    }
    let number = port["port"].as_i64().unwrap_or_default();
    if !(1..=65535).contains(&number) {
        faults.push(FieldError::invalid(&path.child("port"), number, RANGE));
    }
    if let Some(target) = port["targetPort"].as_i64()
        && !(1..=65535).contains(&target)
    {
        faults.push(FieldError::invalid(&path.child("targetPort"), target, RANGE));
    }
    let protocol = port["protocol"].as_str().unwrap_or_default();
    if !matches!(protocol, "TCP" | "UDP" | "SCTP") {
        faults.push(FieldError::not_supported(&path.child("protocol"), protocol, &["SCTP", "TCP", "UDP"]));
    }
}
