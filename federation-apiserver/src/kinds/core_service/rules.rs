//! What a Service must be, what of it may change, and of what its writer is warned (`core/validation.validateService` and the functions that it
//! calls, in their order).

use std::{collections::HashSet, net::IpAddr};

use apimachinery::{FieldError, FieldPath, labels::validate_labels};
use serde_json::{Value, json};

use super::is_externally_accessible;
use crate::{
    registry::ErrorList,
    validation::{items, label, listed, net, one_of, qualified, status, subdomain, text},
};

const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const LOAD_BALANCER_ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
const SET_ONCE: &str = "may not change once set";
const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
const POLICIES: [&str; 2] = ["Cluster", "Local"];

pub(super) fn validate(object: &Value, errors: &mut ErrorList) {
    let spec = &object["spec"];
    let path = FieldPath::new("spec");
    let kind = text(spec, "type");
    let none = Vec::new();
    let ports = spec["ports"].as_array().unwrap_or(&none);
    topology(object, errors);
    if ports.is_empty() && !is_headless(spec) && kind != "ExternalName" {
        errors.push(FieldError::required(&path.child("ports"), ""));
    }
    type_rules(spec, kind, &path, errors);
    each_port(ports, &path, errors);
    if let Some(selector) = spec.get("selector") {
        errors.gather(|errors| validate_labels(selector, &path.child("selector"), errors));
    }
    affinity(spec, &path, errors);
    if kind != "ExternalName" {
        cluster_ips(spec, &path, errors);
    }
    for (index, address) in items(spec, "externalIPs").enumerate() {
        let path = path.child("externalIPs").index(index);
        net::not_special(address.as_str().unwrap_or_default(), &path, errors);
    }
    one_of(kind, &path.child("type"), &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"], errors);
    ports_together(ports, kind, &path, errors);
    source_ranges(object, kind, &path, errors);
    if kind != "LoadBalancer" && !spec["allocateLoadBalancerNodePorts"].is_null() {
        errors.push(FieldError::forbidden(&path.child("allocateLoadBalancerNodePorts"), LOAD_BALANCER_ONLY));
    }
    if kind == "LoadBalancer" {
        qualified(spec, &path, "loadBalancerClass", errors);
    } else if !spec["loadBalancerClass"].is_null() {
        errors.push(FieldError::forbidden(&path.child("loadBalancerClass"), LOAD_BALANCER_ONLY));
    }
    traffic(spec, kind, &path, errors);
    status::validate_load_balancer(object, Some(kind), errors);
}

fn is_headless(spec: &Value) -> bool {
    spec["clusterIP"] == "None"
}

/// The old annotation and the new one say the same.
fn topology(object: &Value, errors: &mut ErrorList) {
    let annotations = &object["metadata"]["annotations"];
    let (Some(hints), Some(mode)) = (annotations.get(TOPOLOGY_HINTS), annotations.get(TOPOLOGY_MODE)) else {
        return;
    };
    if hints != mode {
        let path = FieldPath::new("metadata.annotations").key(TOPOLOGY_MODE);
        let message = format!("must match annotations[{TOPOLOGY_HINTS}] when both are specified");
        errors.push(FieldError::invalid(&path, mode.clone(), &message));
    }
}

fn type_rules(spec: &Value, kind: &str, path: &FieldPath, errors: &mut ErrorList) {
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(spec) => {
            let message = format!("may not be set to 'None' for {kind} services");
            errors.push(FieldError::invalid(&path.child("clusterIPs").index(0), "None", &message));
        }
        "ExternalName" => {
            let message = "may not be set for ExternalName services";
            for name in ["clusterIPs", "ipFamilies"] {
                if items(spec, name).next().is_some() {
                    errors.push(FieldError::forbidden(&path.child(name), message));
                }
            }
            if !spec["ipFamilyPolicy"].is_null() {
                errors.push(FieldError::forbidden(&path.child("ipFamilyPolicy"), message));
            }
            let (name, path) = (text(spec, "externalName"), path.child("externalName"));
            match name.strip_suffix('.').unwrap_or(name) {
                "" => errors.push(FieldError::required(&path, "")),
                name => subdomain(name, &path, errors),
            }
        }
        _ => {}
    }
}

fn each_port(ports: &[Value], path: &FieldPath, errors: &mut ErrorList) {
    let mut names = HashSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.child("ports").index(index);
        match text(port, "name") {
            "" if ports.len() > 1 => errors.push(FieldError::required(&path.child("name"), "")),
            "" => {}
            name => {
                label(name, &path.child("name"), errors);
                if !names.insert(name) {
                    errors.push(FieldError::duplicate(&path.child("name"), name));
                }
            }
        }
        net::port(port["port"].as_i64().unwrap_or_default(), &path.child("port"), errors);
        one_of(text(port, "protocol"), &path.child("protocol"), &net::PROTOCOLS, errors);
        if !port["targetPort"].is_null() {
            net::port_or_name(&port["targetPort"], &path.child("targetPort"), errors);
        }
        qualified(port, &path, "appProtocol", errors);
    }
}

fn ports_together(ports: &[Value], kind: &str, path: &FieldPath, errors: &mut ErrorList) {
    let path = |index: usize| path.child("ports").index(index);
    let on_nodes = || {
        let number = |port: &Value| port["nodePort"].as_i64().filter(|number| *number != 0);
        ports
            .iter()
            .enumerate()
            .filter_map(move |(index, port)| Some((index, number(port)?, &port["protocol"])))
    };
    if kind == "ClusterIP" {
        let message = "may not be used when `type` is 'ClusterIP'";
        errors.extend(
            on_nodes().map(|(index, ..)| FieldError::forbidden(&path(index).child("nodePort"), message)),
        );
    }
    let mut seen = HashSet::new();
    for (index, number, protocol) in on_nodes() {
        if !seen.insert((number, protocol)) {
            errors.push(FieldError::duplicate(&path(index).child("nodePort"), number));
        }
    }
    let mut seen = HashSet::new();
    for (index, port) in ports.iter().enumerate() {
        let pair = (&port["protocol"], &port["port"]);
        if !seen.insert(pair) {
            let key = json!({"Name": "", "Protocol": pair.0, "AppProtocol": null, "Port": pair.1, "TargetPort": 0, "NodePort": 0});
            errors.push(FieldError::duplicate(&path(index), key));
        }
    }
}

fn affinity(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    one_of(text(spec, "sessionAffinity"), &path.child("sessionAffinity"), &["ClientIP", "None"], errors);
    if let Some(seconds) = spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"].as_i64()
        && !(1..=86400).contains(&seconds)
    {
        let path = path.child("sessionAffinityConfig").child("clientIP").child("timeoutSeconds");
        errors.push(FieldError::invalid(&path, seconds, "must be greater than 0 and less than 86400"));
    }
}

/// `validation.ValidateServiceClusterIPsRelatedFields`.
fn cluster_ips(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let (all, addresses) = (path.child("clusterIPs"), &spec["clusterIPs"]);
    let invalid = |message: &str| FieldError::invalid(&all, addresses.clone(), message);
    let (single, first) = (text(spec, "clusterIP"), items(spec, "clusterIPs").next());
    if first.is_some_and(|first| first != single) {
        errors.push(invalid("first value must match `clusterIP`"));
    }
    let families: Vec<_> =
        items(spec, "ipFamilies").map(|family| family.as_str().unwrap_or_default()).collect();
    let mut seen = HashSet::new();
    for (index, family) in families.iter().enumerate() {
        let path = path.child("ipFamilies").index(index);
        one_of(family, &path, &FAMILIES, errors);
        if !seen.insert(family) {
            errors.push(FieldError::duplicate(&path, *family));
        }
    }
    if let Some(policy) = spec["ipFamilyPolicy"].as_str() {
        let known = ["PreferDualStack", "RequireDualStack", "SingleStack"];
        one_of(policy, &path.child("ipFamilyPolicy"), &known, errors);
    }
    let count = items(spec, "clusterIPs").count();
    let mut parsed: Vec<Option<IpAddr>> = Vec::with_capacity(count);
    for (index, address) in items(spec, "clusterIPs").enumerate() {
        if index == 0 && address == "None" {
            if count > 1 {
                errors.push(invalid("'None' must be the first and only value"));
            }
            parsed.push(None);
        } else {
            parsed.push(net::ip(address.as_str().unwrap_or_default(), &all.index(index), errors));
        }
    }
    if count > 2 {
        errors.push(invalid("may only hold up to 2 values"));
    }
    // Whatever is no address would only be complained of once more.
    let Some(parsed) = parsed.into_iter().collect::<Option<Vec<_>>>() else { return };
    if let [one, other, ..] = parsed[..]
        && (count > 2 || one.is_ipv4() == other.is_ipv4())
    {
        errors.push(invalid("may specify no more than one IP for each IP family"));
    }
    for (index, (address, family)) in parsed.iter().zip(families).enumerate() {
        if FAMILIES.contains(&family) && address.is_ipv4() != (family == "IPv4") {
            let message = format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            errors.push(FieldError::invalid(&all.index(index), address.to_string(), &message));
        }
    }
}

/// Whose traffic a load balancer lets in, by the field or else by the old annotation. Spaces around are part of the API.
fn source_ranges(object: &Value, kind: &str, path: &FieldPath, errors: &mut ErrorList) {
    let spec = &object["spec"];
    if items(spec, "loadBalancerSourceRanges").next().is_some() {
        // Spelt as in Go, as kube-apiserver names the place.
        let path = path.child("LoadBalancerSourceRanges");
        if kind != "LoadBalancer" {
            errors.push(FieldError::forbidden(&path, LOAD_BALANCER_ONLY));
        }
        for (index, range) in items(spec, "loadBalancerSourceRanges").enumerate() {
            net::cidr(range.as_str().unwrap_or_default().trim(), &path.index(index), errors);
        }
    } else if let Some(ranges) = object["metadata"]["annotations"][SOURCE_RANGES].as_str() {
        let path = FieldPath::new("metadata.annotations").key(SOURCE_RANGES);
        if kind != "LoadBalancer" {
            errors.push(FieldError::forbidden(&path, LOAD_BALANCER_ONLY));
        }
        if !ranges.trim().is_empty() {
            for range in ranges.split(',') {
                net::cidr(range.trim(), &path, errors);
            }
        }
    }
}

fn traffic(spec: &Value, kind: &str, path: &FieldPath, errors: &mut ErrorList) {
    let external = text(spec, "externalTrafficPolicy");
    if !external.is_empty() {
        let path = path.child("externalTrafficPolicy");
        if is_externally_accessible(spec) {
            one_of(external, &path, &POLICIES, errors);
        } else {
            let message = "may only be set for externally-accessible services";
            errors.push(FieldError::invalid(&path, external, message));
        }
    }
    let health = spec["healthCheckNodePort"].as_i64().unwrap_or_default();
    if health != 0 {
        let path = path.child("healthCheckNodePort");
        if kind == "LoadBalancer" && external == "Local" {
            net::port(health, &path, errors);
        } else {
            let message =
                "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.push(FieldError::invalid(&path, health, message));
        }
    }
    if let Some(internal) = spec["internalTrafficPolicy"].as_str() {
        one_of(internal, &path.child("internalTrafficPolicy"), &POLICIES, errors);
    }
    if let Some(distribution) = spec["trafficDistribution"].as_str() {
        let known = ["PreferClose", "PreferSameZone", "PreferSameNode"];
        listed(distribution, &path.child("trafficDistribution"), &known, errors);
    }
}

/// Addresses and families stand, but for a Service that becomes or was an ExternalName.
pub(super) fn validate_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    let (new, old) = (&new["spec"], &old["spec"]);
    let path = FieldPath::new("spec");
    if text(old, "type") != "ExternalName" && text(new, "type") != "ExternalName" {
        let (before, after) = (text(old, "clusterIP"), text(new, "clusterIP"));
        if !before.is_empty() && before != after {
            let path = path.child("clusterIPs").index(0);
            errors.push(FieldError::invalid(&path, new["clusterIPs"].clone(), SET_ONCE));
        }
        let family = |spec: &Value| items(spec, "ipFamilies").next().cloned().unwrap_or_default();
        if !is_headless(old) && !is_headless(new) && !family(old).is_null() && family(old) != family(new) {
            let path = path.child("ipFamilies").index(0);
            errors.push(FieldError::invalid(&path, new["ipFamilies"].clone(), SET_ONCE));
        }
    }
    if text(old, "type") == "LoadBalancer"
        && text(new, "type") == "LoadBalancer"
        && old["loadBalancerClass"] != new["loadBalancerClass"]
    {
        let path = path.child("loadBalancerClass");
        errors.push(FieldError::invalid(&path, new["loadBalancerClass"].clone(), SET_ONCE));
    }
    let checked = |spec: &Value| spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local";
    if checked(old) && checked(new) && old["healthCheckNodePort"] != new["healthCheckNodePort"] {
        errors.push(FieldError::forbidden(&path.child("healthCheckNodePort"), "field is immutable"));
    }
}

/// What is taken and goes nowhere, or goes on for some versions only (`service.GetWarningsForService`).
pub(super) fn warnings(service: &Value) -> Vec<String> {
    let (spec, mut warnings) = (&service["spec"], Vec::new());
    if service["metadata"]["annotations"].get(TOPOLOGY_HINTS).is_some() {
        warnings
            .push(format!("annotation {TOPOLOGY_HINTS} is deprecated, please use {TOPOLOGY_MODE} instead"));
    }
    let external = items(spec, "externalIPs").next().is_some();
    if external {
        warnings.push("spec.externalIPs is deprecated".to_owned());
    }
    let by_name = spec["type"] == "ExternalName";
    let warn_of_ips = |name: &str| -> Vec<String> {
        let addresses = items(spec, name).enumerate();
        addresses
            .filter_map(|(at, address)| net::ip_warning(address.as_str()?, &format!("spec.{name}[{at}]")))
            .collect()
    };
    if is_headless(spec) {
        for (name, said) in [
            ("loadBalancerIP", !text(spec, "loadBalancerIP").is_empty()),
            ("externalIPs", external),
            ("SessionAffinity", spec["sessionAffinity"] != "None"),
        ] {
            if said {
                warnings.push(format!("spec.{name} is ignored for headless services"));
            }
        }
    } else {
        warnings.extend(warn_of_ips("clusterIPs"));
    }
    warnings.extend(warn_of_ips("externalIPs"));
    warnings.extend(net::ip_warning(text(spec, "loadBalancerIP"), "spec.loadBalancerIP"));
    for (at, range) in items(spec, "loadBalancerSourceRanges").enumerate() {
        let path = format!("spec.loadBalancerSourceRanges[{at}]");
        warnings.extend(net::cidr_warnings(range.as_str().unwrap_or_default(), &path));
    }
    if by_name && external {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !by_name && !text(spec, "externalName").is_empty() {
        warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if spec["trafficDistribution"] == "PreferClose" {
        let message = "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"";
        warnings.push(message.to_owned());
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_told_apart_however_many_there_are() {
        let port = |number: usize| json!({"name": format!("a{number}"), "port": 1 + number % 50_000, "protocol": if number < 50_000 { "TCP" } else { "UDP" }, "nodePort": 1 + number % 50_000});
        let mut listed: Vec<_> = (0..100_000).map(port).collect();
        listed.push(port(7));
        let mut errors = ErrorList::new();
        each_port(&listed, &FieldPath::new("spec"), &mut errors);
        ports_together(&listed, "NodePort", &FieldPath::new("spec"), &mut errors);
        let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert_eq!(told[0], r#"spec.ports[100000].name: Duplicate value: "a7""#);
        assert_eq!(told[1], "spec.ports[100000].nodePort: Duplicate value: 8");
        assert!(told[2].starts_with("spec.ports[100000]: Duplicate value: {"), "{told:?}");
    }
}
