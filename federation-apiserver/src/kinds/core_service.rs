//! core/v1 Service and Endpoints.
//!
//! A federated Service has a cluster IP of this API, stable for its life ([`crate::allocation`]); each member's copy has
//! one of its own.

use std::collections::HashSet;

use apimachinery::{
    FieldError, FieldPath,
    labels::validate_labels,
    names::{self, NameRule},
};
use serde_json::{Value, json};

use crate::{
    registry::{Column, Faults, Kind, Subresource, field, joined},
    validation::{
        items, items_mut, label, net, one_of, qualified, set, set_text, status, subdomain, text, workload,
    },
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
        name_rule: NameRule::Dns1035Label,
        default: default_service,
        prepare_create: |object| object["status"] = json!({"loadBalancer": {}}),
        validate: validate_service,
        validate_update: validate_service_update,
        warn: |service, _| warnings(service),
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
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
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

fn validate_service(object: &Value, faults: &mut Faults) {
    let spec = &object["spec"];
    let path = FieldPath::new("spec");
    let kind = text(spec, "type");
    let headless = spec["clusterIP"] == "None";
    let none = Vec::new();
    let ports = spec["ports"].as_array().unwrap_or(&none);
    if ports.is_empty() && !headless && kind != "ExternalName" {
        faults.push(FieldError::required(&path.child("ports"), ""));
    }
    type_rules(spec, kind, headless, &path, faults);
    validate_ports(ports, kind, &path, faults);
    if let Some(selector) = spec.get("selector") {
        faults.gather(|faults| validate_labels(selector, &path.child("selector"), faults));
    }
    let affinity = text(spec, "sessionAffinity");
    one_of(affinity, &path.child("sessionAffinity"), &["ClientIP", "None"], faults);
    if let Some(seconds) = spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"].as_i64()
        && !(1..=86400).contains(&seconds)
    {
        let path = path.child("sessionAffinityConfig").child("clientIP").child("timeoutSeconds");
        faults.push(FieldError::invalid(&path, seconds, "must be greater than 0 and less than 86400"));
    }
    addresses(spec, &path, faults);
    one_of(kind, &path.child("type"), &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"], faults);
    for (index, range) in items(spec, "loadBalancerSourceRanges").enumerate() {
        // Spelt as in Go, as kube-apiserver names the place.
        let path = path.child("LoadBalancerSourceRanges");
        if kind != "LoadBalancer" {
            let message = "may only be used when `type` is 'LoadBalancer'";
            faults.push(FieldError::forbidden(&path, message));
            break;
        }
        net::cidr(range.as_str().unwrap_or_default().trim(), &path.index(index), faults);
    }
    traffic(spec, kind, &path, faults);
    status::validate_load_balancer(object, faults);
}

fn type_rules(spec: &Value, kind: &str, headless: bool, path: &FieldPath, faults: &mut Faults) {
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let message = format!("may not be set to 'None' for {kind} services");
            faults.push(FieldError::invalid(&path.child("clusterIPs").index(0), "None", &message));
        }
        "ExternalName" => {
            if !text(spec, "clusterIP").is_empty() {
                let message = "may not be set for ExternalName services";
                faults.push(FieldError::forbidden(&path.child("clusterIPs"), message));
            }
            let name = text(spec, "externalName");
            if name.is_empty() {
                faults.push(FieldError::required(&path.child("externalName"), ""));
            } else {
                for fault in names::dns1123_subdomain(name.trim_end_matches('.')) {
                    faults.push(FieldError::invalid(&path.child("externalName"), name, &fault));
                }
            }
        }
        _ => {}
    }
}

fn addresses(spec: &Value, path: &FieldPath, faults: &mut Faults) {
    let all = path.child("clusterIPs");
    let (count, before) = (items(spec, "clusterIPs").count(), faults.len());
    for (index, address) in items(spec, "clusterIPs").enumerate() {
        let address = address.as_str().unwrap_or_default();
        if address != "None" || index > 0 {
            net::ip(address, &all.index(index), faults);
        } else if count > 1 {
            let message = "'None' must be the first and only value";
            faults.push(FieldError::invalid(&all, spec["clusterIPs"].clone(), message));
        }
    }
    if count > 2 {
        let message = "may only hold up to 2 values";
        faults.push(FieldError::invalid(&all, spec["clusterIPs"].clone(), message));
    }
    let family = |address: &Value| Some(address.as_str()?.parse::<std::net::IpAddr>().ok()?.is_ipv4());
    if count == 2
        && faults.len() == before
        && family(&spec["clusterIPs"][0]) == family(&spec["clusterIPs"][1])
    {
        let message = "may specify no more than one IP for each IP family";
        faults.push(FieldError::invalid(&all, spec["clusterIPs"].clone(), message));
    }
    let (single, first) = (text(spec, "clusterIP"), items(spec, "clusterIPs").next());
    if first.is_some_and(|first| first != single) {
        let message = "first value must match `clusterIP`";
        faults.push(FieldError::invalid(&path.child("clusterIPs"), spec["clusterIPs"].clone(), message));
    }
    for (index, family) in items(spec, "ipFamilies").enumerate() {
        let family = family.as_str().unwrap_or_default();
        one_of(family, &path.child("ipFamilies").index(index), &["IPv4", "IPv6"], faults);
    }
    if let Some(policy) = spec["ipFamilyPolicy"].as_str() {
        let known = ["PreferDualStack", "RequireDualStack", "SingleStack"];
        one_of(policy, &path.child("ipFamilyPolicy"), &known, faults);
    }
    for (index, address) in items(spec, "externalIPs").enumerate() {
        let path = path.child("externalIPs").index(index);
        net::not_special(address.as_str().unwrap_or_default(), &path, faults);
    }
}

/// What is taken and goes nowhere: `service.GetWarningsForService`.
fn warnings(service: &Value) -> Vec<String> {
    const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
    let (spec, mut warnings) = (&service["spec"], Vec::new());
    if service["metadata"]["annotations"].get(HINTS).is_some() {
        warnings.push(format!(
            "annotation {HINTS} is deprecated, please use service.kubernetes.io/topology-mode instead"
        ));
    }
    let external = items(spec, "externalIPs").next().is_some();
    let by_name = spec["type"] == "ExternalName";
    if by_name && external {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !by_name && !text(spec, "externalName").is_empty() {
        warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if spec["clusterIP"] == "None" {
        for (name, said) in [
            ("loadBalancerIP", !text(spec, "loadBalancerIP").is_empty()),
            ("externalIPs", external),
            ("SessionAffinity", spec["sessionAffinity"] != "None"),
        ] {
            if said {
                warnings.push(format!("spec.{name} is ignored for headless services"));
            }
        }
    }
    warnings
}

fn traffic(spec: &Value, kind: &str, path: &FieldPath, faults: &mut Faults) {
    let policies = ["Cluster", "Local"];
    let external = text(spec, "externalTrafficPolicy");
    let faces_users = matches!(kind, "NodePort" | "LoadBalancer")
        || kind == "ClusterIP" && spec["externalIPs"].as_array().is_some_and(|all| !all.is_empty());
    if !external.is_empty() {
        let path = path.child("externalTrafficPolicy");
        if faces_users {
            one_of(external, &path, &policies, faults);
        } else {
            let message = "may only be set for externally-accessible services";
            faults.push(FieldError::invalid(&path, external, message));
        }
    }
    if spec["healthCheckNodePort"].as_i64().unwrap_or_default() != 0
        && !(kind == "LoadBalancer" && external == "Local")
    {
        let message = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        let port = spec["healthCheckNodePort"].clone();
        faults.push(FieldError::invalid(&path.child("healthCheckNodePort"), port, message));
    }
    if let Some(internal) = spec["internalTrafficPolicy"].as_str() {
        one_of(internal, &path.child("internalTrafficPolicy"), &policies, faults);
    }
    if let Some(distribution) = spec["trafficDistribution"].as_str() {
        let known = ["PreferClose", "PreferSameNode", "PreferSameZone"];
        one_of(distribution, &path.child("trafficDistribution"), &known, faults);
    }
    let load_balancer = kind == "LoadBalancer";
    if load_balancer {
        qualified(spec, path, "loadBalancerClass", faults);
    }
    for name in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        if !load_balancer && !spec[name].is_null() {
            let message = "may only be used when `type` is 'LoadBalancer'";
            faults.push(FieldError::forbidden(&path.child(name), message));
        }
    }
}

fn validate_ports(ports: &[Value], kind: &str, path: &FieldPath, faults: &mut Faults) {
    let mut seen_names = HashSet::new();
    let mut seen_ports = HashSet::new();
    let mut seen_node_ports = HashSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.child("ports").index(index);
        check_port(port, &path, ports.len() > 1, faults);
        if let Some(name) = port["name"].as_str().filter(|name| !name.is_empty())
            && !seen_names.insert(name)
        {
            faults.push(FieldError::duplicate(&path.child("name"), name));
        }
        let node = port["nodePort"].as_i64().unwrap_or_default();
        if node != 0 {
            if kind == "ClusterIP" {
                let message = format!("may not be used when `type` is '{kind}'");
                faults.push(FieldError::forbidden(&path.child("nodePort"), &message));
            }
            if !seen_node_ports.insert((node, &port["protocol"])) {
                faults.push(FieldError::duplicate(&path.child("nodePort"), node));
            }
        }
    }
    for (index, port) in ports.iter().enumerate() {
        let path = path.child("ports").index(index);
        let pair = (&port["protocol"], &port["port"]);
        if !seen_ports.insert(pair) {
            faults.push(FieldError::duplicate(&path, json!({"Name": "", "Protocol": pair.0, "AppProtocol": null, "Port": pair.1, "TargetPort": 0, "NodePort": 0})));
        }
    }
}

fn check_port(port: &Value, path: &FieldPath, name_required: bool, faults: &mut Faults) {
    let name = text(port, "name");
    if name.is_empty() {
        if name_required {
            faults.push(FieldError::required(&path.child("name"), ""));
        }
    } else {
        for fault in names::dns1123_label(name) {
            faults.push(FieldError::invalid(&path.child("name"), name, &fault));
        }
    }
    net::port(port["port"].as_i64().unwrap_or_default(), &path.child("port"), faults);
    one_of(text(port, "protocol"), &path.child("protocol"), &net::PROTOCOLS, faults);
    qualified(port, path, "appProtocol", faults);
    if !port["targetPort"].is_null() {
        net::port_or_name(&port["targetPort"], &path.child("targetPort"), faults);
    }
}

/// Addresses stand, but for a Service that becomes or was an ExternalName.
fn validate_service_update(new: &Value, old: &Value, faults: &mut Faults) {
    let (new, old) = (&new["spec"], &old["spec"]);
    let path = FieldPath::new("spec");
    if text(old, "type") != "ExternalName" && text(new, "type") != "ExternalName" {
        let (before, after) = (text(old, "clusterIP"), text(new, "clusterIP"));
        if !before.is_empty() && before != after {
            let message = "may not change once set";
            let path = path.child("clusterIPs").index(0);
            faults.push(FieldError::invalid(&path, new["clusterIPs"].clone(), message));
        }
        let family = |spec: &Value| items(spec, "ipFamilies").next().cloned().unwrap_or_default();
        if !family(old).is_null() && family(old) != family(new) {
            let message = "may not change once set";
            faults.push(FieldError::invalid(&path.child("ipFamilies").index(0), family(new), message));
        }
    }
    if text(old, "type") == "LoadBalancer"
        && text(new, "type") == "LoadBalancer"
        && old["loadBalancerClass"] != new["loadBalancerClass"]
    {
        let path = path.child("loadBalancerClass");
        faults.push(FieldError::invalid(&path, new["loadBalancerClass"].clone(), "may not change once set"));
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

fn validate_endpoints(object: &Value, faults: &mut Faults) {
    for (index, subset) in items(object, "subsets").enumerate() {
        let path = FieldPath::new("subsets").index(index);
        let empty = |name: &str| subset[name].as_array().is_none_or(Vec::is_empty);
        if empty("addresses") && empty("notReadyAddresses") {
            let message = "must specify `addresses` or `notReadyAddresses`";
            faults.push(FieldError::required(&path, message));
        }
        for list in ["addresses", "notReadyAddresses"] {
            for (at, address) in items(subset, list).enumerate() {
                let path = path.child(list).index(at);
                net::ip(text(address, "ip"), &path.child("ip"), faults);
                if !text(address, "hostname").is_empty() {
                    label(text(address, "hostname"), &path.child("hostname"), faults);
                }
                if let Some(node) = address["nodeName"].as_str() {
                    subdomain(node, &path.child("nodeName"), faults);
                }
            }
        }
        let several = subset["ports"].as_array().is_some_and(|ports| ports.len() > 1);
        for (at, port) in items(subset, "ports").enumerate() {
            let path = path.child("ports").index(at);
            match text(port, "name") {
                "" if several => faults.push(FieldError::required(&path.child("name"), "")),
                "" => {}
                name => label(name, &path.child("name"), faults),
            }
            net::port(port["port"].as_i64().unwrap_or_default(), &path.child("port"), faults);
            one_of(text(port, "protocol"), &path.child("protocol"), &net::PROTOCOLS, faults);
            qualified(port, &path, "appProtocol", faults);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_told_apart_however_many_there_are() {
        let port = |number: usize| json!({"name": format!("a{number}"), "port": 1 + number % 50_000, "protocol": if number < 50_000 { "TCP" } else { "UDP" }, "nodePort": 1 + number % 50_000});
        let mut listed: Vec<_> = (0..100_000).map(port).collect();
        listed.push(port(7));
        let mut faults = Faults::new();
        validate_ports(&listed, "NodePort", &FieldPath::new("spec"), &mut faults);
        let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert_eq!(told[0], r#"spec.ports[100000].name: Duplicate value: "a7""#);
        assert_eq!(told[1], "spec.ports[100000].nodePort: Duplicate value: 8");
        assert!(told[2].starts_with("spec.ports[100000]: Duplicate value: {"), "{told:?}");
    }
}
