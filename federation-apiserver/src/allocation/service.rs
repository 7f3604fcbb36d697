//! What a Service needs, and what of it stays when it changes (`pkg/registry/core/service/storage`).

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr},
};

use apimachinery::{FieldError, FieldPath};
use serde_json::{Value, json};

use super::{Network, Ranges, Token};
use crate::{
    kinds::is_externally_accessible,
    registry::ErrorList,
    validation::{items, items_mut, text},
};

const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

fn protocol(port: &Value) -> &'static str {
    let own = text(port, "protocol");
    PROTOCOLS.into_iter().find(|known| *known == own).unwrap_or("TCP")
}

fn node_port(port: &Value) -> Option<u16> {
    port["nodePort"].as_u64().and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0)
}

/// Everything that a Service has for itself.
pub(super) fn tokens(object: &Value) -> Vec<Token> {
    let spec = &object["spec"];
    let addresses = items(spec, "clusterIPs")
        .chain([&spec["clusterIP"]])
        .filter_map(|address| address.as_str()?.parse().ok())
        .map(Token::Address);
    let ports = items(spec, "ports")
        .filter_map(|port| node_port(port).map(|number| Token::Port(number, protocol(port))));
    let health = spec["healthCheckNodePort"].as_u64().and_then(|number| u16::try_from(number).ok());
    addresses
        .chain(ports)
        .chain(health.filter(|port| *port > 0).map(|port| Token::Port(port, "TCP")))
        .collect()
}

fn kind(object: &Value) -> &str {
    text(&object["spec"], "type")
}

fn needs_cluster_ip(object: &Value) -> bool {
    matches!(kind(object), "ClusterIP" | "NodePort" | "LoadBalancer" | "")
}

fn needs_node_ports(object: &Value) -> bool {
    match kind(object) {
        "NodePort" => true,
        "LoadBalancer" => object["spec"]["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    }
}

fn needs_health_port(object: &Value) -> bool {
    kind(object) == "LoadBalancer" && object["spec"]["externalTrafficPolicy"] == "Local"
}

/// One completion: what is free, and what was taken.
pub(super) struct Choice<'a, F> {
    ranges: &'a Ranges,
    /// Where addresses come from, the range's own network first.
    networks: &'a [Network],
    is_free: F,
    /// What the object has already. Nobody asks for it again, and nobody else gets it.
    had: Vec<Token>,
    /// What it will have.
    taken: Vec<Token>,
    /// What of this is new.
    pub(super) chosen: Vec<Token>,
}

impl<'a, F: Fn(Token) -> bool> Choice<'a, F> {
    pub(super) fn new(ranges: &'a Ranges, networks: &'a [Network], is_free: F) -> Self {
        Self { ranges, networks, is_free, had: Vec::new(), taken: Vec::new(), chosen: Vec::new() }
    }

    pub(super) fn complete(&mut self, object: &mut Value, old: Option<&Value>) -> Result<(), ErrorList> {
        if !object["spec"].is_object() {
            return Ok(());
        }
        if let Some(old) = old {
            keep(object, old);
            self.had = tokens(old);
        }
        normalise(object);
        let mut errors = ErrorList::new();
        // An address never changes, which is validation's to tell: the new one is not even looked for.
        let moved = old.is_some_and(|old| {
            let had = text(&old["spec"], "clusterIP");
            needs_cluster_ip(old) && !had.is_empty() && had != text(&object["spec"], "clusterIP")
        });
        if needs_cluster_ip(object) && !moved {
            families(object, old, &mut errors);
            if errors.is_empty() {
                self.addresses(object, &mut errors);
            }
        }
        self.ports(object, &mut errors);
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn take(&mut self, token: Token) -> bool {
        if self.taken.contains(&token) {
            return false;
        }
        let had = self.had.contains(&token);
        if !had {
            if !(self.is_free)(token) {
                return false;
            }
            self.chosen.push(token);
        }
        self.taken.push(token);
        true
    }

    fn addresses(&mut self, object: &mut Value, errors: &mut ErrorList) {
        let spec = &mut object["spec"];
        let path = FieldPath::new("spec.clusterIPs");
        match text(spec, "clusterIP") {
            "None" => {}
            "" => {
                let random = rand::random();
                let mut all = self.networks.iter().flat_map(|network| network.candidates(random));
                let Some(found) = all.find(|address| (self.is_free)(Token::Address(*address))) else {
                    let message = "failed to allocate a serviceIP: range is full";
                    errors.push(FieldError::internal(&path, message));
                    return;
                };
                self.chosen.push(Token::Address(found));
                spec["clusterIP"] = found.to_string().into();
                spec["clusterIPs"] = json!([found.to_string()]);
            }
            asked => {
                // Another family, and what is no address, is validation's to tell.
                let Ok(address) = asked.parse::<Ipv4Addr>() else { return };
                // Its network may be on its way out.
                if self.had.contains(&Token::Address(address)) {
                    return;
                }
                let refuse = |why: &str| {
                    let message = format!("failed to allocate IP {asked}: {why}");
                    FieldError::invalid(&path, json!([asked]), &message)
                };
                let Some(spanning) = self.networks.iter().find(|network| network.spans(address)) else {
                    errors.push(refuse("the provided network does not match the current range"));
                    return;
                };
                if !self.networks.iter().any(|network| network.contains(address)) {
                    let why = format!(
                        "the provided IP ({asked}) is not in the valid range. The range of valid IPs is {spanning}"
                    );
                    errors.push(refuse(&why));
                } else if !self.take(Token::Address(address)) {
                    errors.push(refuse("provided IP is already allocated"));
                }
            }
        }
    }

    fn ports(&mut self, object: &mut Value, errors: &mut ErrorList) {
        let Some(range) = self.ranges.node_ports.clone() else { return };
        let wanted = needs_node_ports(object);
        let health = needs_health_port(object);
        let spec = &mut object["spec"];
        // Those who chose come first, or they would find their port given away.
        for (index, port) in items(spec, "ports").enumerate() {
            let Some(number) = node_port(port) else { continue };
            let path = FieldPath::new("spec.ports").index(index).child("nodePort");
            let token = Token::Port(number, protocol(port));
            if !range.0.contains(&number) && !self.had.contains(&token) {
                let message =
                    format!("provided port is not in the valid range. The range of valid ports is {range}");
                errors.push(FieldError::invalid(&path, number, &message));
            } else if !self.take(token) {
                errors.push(FieldError::invalid(&path, number, "provided port is already allocated"));
            }
        }
        let mut shared: Vec<(i64, u16, &'static str)> = items(spec, "ports")
            .filter_map(|port| Some((port["port"].as_i64()?, node_port(port)?, protocol(port))))
            .collect();
        for port in items_mut(spec, "ports").filter(|_| wanted) {
            if node_port(port).is_some() {
                continue;
            }
            let (number, own) = (port["port"].as_i64().unwrap_or_default(), protocol(port));
            // One port for both protocols, as DNS servers like it.
            let same = shared
                .iter()
                .find(|(other, _, protocol)| *other == number && *protocol != own)
                .map(|(_, node, _)| *node)
                .filter(|node| self.take(Token::Port(*node, own)));
            let Some(node) = same.or_else(|| self.any_port(&range, own)) else {
                let message = "failed to allocate a nodePort: range is full";
                errors.push(FieldError::internal(&FieldPath::new("spec.ports"), message));
                return;
            };
            port["nodePort"] = node.into();
            shared.push((number, node, own));
        }
        if health
            && spec["healthCheckNodePort"].as_u64().unwrap_or_default() == 0
            && let Some(node) = self.any_port(&range, "TCP")
        {
            spec["healthCheckNodePort"] = node.into();
        }
    }

    fn any_port(&mut self, range: &super::PortRange, protocol: &'static str) -> Option<u16> {
        let (start, end) = (u32::from(*range.0.start()), u32::from(*range.0.end()));
        let size = end - start + 1;
        let first: u32 = rand::random_range(0..size);
        let mut all = (0..size).map(|step| (start + (first + step) % size) as u16);
        all.find(|port| self.take(Token::Port(*port, protocol)))
    }
}

/// What an update leaves out stays; what the new type has no use for goes, unless somebody asks for it anew.
fn keep(object: &mut Value, old: &Value) {
    let (before, after) = (needs_cluster_ip(old), needs_cluster_ip(object));
    let same_addresses = object["spec"]["clusterIP"] == old["spec"]["clusterIP"];
    let same_plural = object["spec"]["clusterIPs"] == old["spec"]["clusterIPs"];
    let spec = &mut object["spec"];
    if before && after {
        if !same_addresses && same_plural && !text(spec, "clusterIP").is_empty() {
            // Who changes the singular field means both.
            remove(spec, "clusterIPs");
        }
        if text(spec, "clusterIP").is_empty() {
            put(spec, "clusterIP", &old["spec"]["clusterIP"]);
        }
        if spec["clusterIPs"].as_array().is_none_or(Vec::is_empty)
            && spec["clusterIP"] == old["spec"]["clusterIP"]
        {
            put(spec, "clusterIPs", &old["spec"]["clusterIPs"]);
        }
        for name in ["ipFamilies", "ipFamilyPolicy"] {
            if spec[name].is_null() {
                put(spec, name, &old["spec"][name]);
            }
        }
    } else if before && !after && (same_addresses || text(spec, "clusterIP").is_empty()) {
        for name in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            remove(spec, name);
        }
    }
    let (before, after) = (needs_node_ports(old), needs_node_ports(object));
    let health = (needs_health_port(old), needs_health_port(object));
    let spec = &mut object["spec"];
    let had: Vec<_> =
        items(&old["spec"], "ports").map(|port| (text(port, "name"), node_port(port))).collect();
    if before && after {
        let kept: HashSet<_> = items(spec, "ports").filter_map(node_port).collect();
        // Of a name that stands twice the first counts.
        let had: HashMap<_, _> = had.into_iter().rev().collect();
        for port in items_mut(spec, "ports") {
            if node_port(port).is_some() {
                continue;
            }
            let known = had.get(text(port, "name")).copied().flatten();
            if let Some(node) = known.filter(|node| !kept.contains(node)) {
                port["nodePort"] = node.into();
            }
        }
    } else if before && !after && kind_of(spec) != "LoadBalancer" {
        // The same ports sent back are left over, not asked for.
        let old_ports: HashSet<_> = had.iter().filter_map(|(_, node)| *node).collect();
        let new_ports: Vec<_> = items(spec, "ports").filter_map(node_port).collect();
        if new_ports.iter().all(|port| old_ports.contains(port)) {
            items_mut(spec, "ports").for_each(|port| remove(port, "nodePort"));
        }
    }
    match health {
        (true, true) if spec["healthCheckNodePort"].as_u64().unwrap_or_default() == 0 => {
            put(spec, "healthCheckNodePort", &old["spec"]["healthCheckNodePort"]);
        }
        (true, false) if spec["healthCheckNodePort"] == old["spec"]["healthCheckNodePort"] => {
            remove(spec, "healthCheckNodePort");
        }
        _ => {}
    }
    if is_externally_accessible(&old["spec"])
        && !is_externally_accessible(spec)
        && spec["externalTrafficPolicy"] == old["spec"]["externalTrafficPolicy"]
    {
        remove(spec, "externalTrafficPolicy");
    }
    if kind(old) == "LoadBalancer" && kind_of(spec) != "LoadBalancer" {
        for name in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if spec[name] == old["spec"][name] {
                remove(spec, name);
            }
        }
    }
}

fn kind_of(spec: &Value) -> &str {
    text(spec, "type")
}

fn put(to: &mut Value, name: &str, value: &Value) {
    if !value.is_null() {
        to[name] = value.clone();
    }
}

fn remove(from: &mut Value, name: &str) {
    if let Some(from) = from.as_object_mut() {
        from.remove(name);
    }
}

/// The singular and the plural field say the same.
fn normalise(object: &mut Value) {
    let spec = &mut object["spec"];
    let single = text(spec, "clusterIP").to_owned();
    let none = spec["clusterIPs"].as_array().is_none_or(Vec::is_empty);
    if !single.is_empty() && none {
        spec["clusterIPs"] = json!([single]);
    } else if single.is_empty() {
        let first = items(spec, "clusterIPs").next().cloned();
        match first {
            Some(first) => spec["clusterIP"] = first,
            // What is empty is not there: Go omits it.
            None => remove(spec, "clusterIP"),
        }
    }
}

/// Which families a Service is of (`initIPFamilyFields`). This API speaks IPv4; only a headless Service without selector may be of both families,
/// because its endpoints are.
fn families(object: &mut Value, old: Option<&Value>, errors: &mut ErrorList) {
    let spec = &mut object["spec"];
    let of_families = ["clusterIPs", "ipFamilies", "ipFamilyPolicy"];
    let known = |name: &&str| old.is_some_and(|old| old["spec"].get(name) == spec.get(name));
    if !spec["ipFamilies"].is_null() && of_families.iter().all(known) {
        // What an older server took stays.
        return;
    }
    let free = text(spec, "clusterIP") == "None"
        && spec["selector"].as_object().is_none_or(serde_json::Map::is_empty);
    if spec["ipFamilyPolicy"].is_null() {
        spec["ipFamilyPolicy"] = if free { "RequireDualStack" } else { "SingleStack" }.into();
    }
    let policy = text(spec, "ipFamilyPolicy").to_owned();
    let path = FieldPath::new("spec");
    let mut refuse = |message: &str| {
        errors.push(FieldError::invalid(&path.child("ipFamilyPolicy"), policy.as_str(), message));
    };
    let count = |spec: &Value, name: &str| items(spec, name).count();
    let before = old.map_or(0, |old| count(&old["spec"], "ipFamilies"));
    if policy == "SingleStack" {
        if old.is_some_and(|old| old["spec"]["ipFamilies"] == spec["ipFamilies"])
            && let Some(families) = spec["ipFamilies"].as_array_mut()
        {
            families.truncate(1);
        }
        for (name, what) in [("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")] {
            if count(spec, name) == 2 {
                refuse(&format!(
                    "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
                ));
            }
        }
    } else if count(spec, "ipFamilies") < before
        && old.is_some_and(|old| old["spec"]["ipFamilies"][0] == spec["ipFamilies"][0])
    {
        refuse("must be 'SingleStack' to release the secondary IP family");
    }
    let mut families: Vec<String> =
        items(spec, "ipFamilies").filter_map(Value::as_str).map(str::to_owned).collect();
    for (index, address) in items(spec, "clusterIPs").enumerate().skip(families.len()) {
        match address.as_str().and_then(|address| address.parse().ok()) {
            Some(IpAddr::V4(_)) => families.push("IPv4".to_owned()),
            Some(IpAddr::V6(_)) => {
                let path = path.child("clusterIPs").index(index);
                let message = "IPv6 is not configured on this cluster";
                errors.push(FieldError::invalid(&path, spec["clusterIPs"].clone(), message));
            }
            // None, and what validation will tell.
            None => break,
        }
    }
    if !errors.is_empty() {
        return;
    }
    if families.is_empty() {
        families.push("IPv4".to_owned());
    }
    if free {
        if policy != "SingleStack" && families.len() == 1 {
            families.push(if families[0] == "IPv4" { "IPv6" } else { "IPv4" }.to_owned());
        }
    } else {
        if policy == "RequireDualStack" {
            let message = "this cluster is not configured for dual-stack services";
            errors.push(FieldError::invalid(&path.child("ipFamilyPolicy"), policy.as_str(), message));
        }
        for (index, family) in families.iter().enumerate().filter(|(_, family)| *family == "IPv6") {
            let path = path.child("ipFamilies").index(index);
            errors.push(FieldError::invalid(&path, family.as_str(), "not configured on this cluster"));
        }
    }
    spec["ipFamilies"] = families.into();
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn complete(object: &mut Value, old: Option<&Value>, taken: &[Token]) -> Result<(), ErrorList> {
        let ranges = Ranges::default();
        Choice::new(&ranges, &[ranges.cluster_ips], |token| !taken.contains(&token)).complete(object, old)
    }

    fn service(kind: &str) -> Value {
        json!({"spec": {"type": kind, "selector": {"a": "b"}, "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}})
    }

    #[test]
    fn a_service_gets_an_address_and_keeps_it() {
        let mut first = service("ClusterIP");
        complete(&mut first, None, &[]).unwrap();
        assert_eq!(first["spec"]["clusterIPs"], json!([first["spec"]["clusterIP"]]));
        assert_eq!(first["spec"]["ipFamilies"], json!(["IPv4"]));
        let mut again = service("ClusterIP");
        complete(&mut again, Some(&first), &[]).unwrap();
        assert_eq!(again["spec"]["clusterIP"], first["spec"]["clusterIP"]);
        let mut external = service("ExternalName");
        external["spec"]["clusterIP"] = first["spec"]["clusterIP"].clone();
        complete(&mut external, Some(&first), &[]).unwrap();
        assert_eq!(external["spec"].get("clusterIP"), None);
        let mut emptied = service("ExternalName");
        emptied["spec"]["clusterIP"] = "".into();
        complete(&mut emptied, Some(&first), &[]).unwrap();
        assert_eq!(emptied["spec"].get("clusterIP"), None);
        let mut still = emptied.clone();
        still["spec"]["clusterIP"] = "".into();
        complete(&mut still, Some(&emptied), &[]).unwrap();
        assert_eq!(still["spec"].get("clusterIP"), None);
    }

    #[test]
    fn an_address_that_changes_is_left_to_validation() {
        let mut first = service("ClusterIP");
        complete(&mut first, None, &[]).unwrap();
        let mut moved = first.clone();
        moved["spec"]["clusterIP"] = "10.0.0.99".into();
        complete(&mut moved, Some(&first), &[]).unwrap();
        assert_eq!(moved["spec"]["clusterIPs"], json!(["10.0.0.99"]));
    }

    #[test]
    fn node_ports_stay_with_their_names_and_go_with_the_type() {
        let mut first = service("NodePort");
        complete(&mut first, None, &[]).unwrap();
        let port = first["spec"]["ports"][0]["nodePort"].clone();
        assert!((30000..=32767).contains(&port.as_u64().unwrap()));
        let mut moved = service("NodePort");
        moved["spec"]["ports"][0]["port"] = 8080.into();
        complete(&mut moved, Some(&first), &[]).unwrap();
        assert_eq!(moved["spec"]["ports"][0]["nodePort"], port);
        let mut inner = first.clone();
        inner["spec"]["type"] = "ClusterIP".into();
        complete(&mut inner, Some(&first), &[]).unwrap();
        assert_eq!(inner["spec"]["ports"][0].get("nodePort"), None);
    }

    #[test]
    fn what_is_taken_is_refused_with_kubernetes_words() {
        let mut asked = service("ClusterIP");
        asked["spec"]["clusterIP"] = "10.96.0.9".into();
        let taken = [Token::Address("10.96.0.9".parse().unwrap())];
        let errors = complete(&mut asked.clone(), None, &taken).unwrap_err();
        assert_eq!(
            errors[0].to_string(),
            r#"spec.clusterIPs: Invalid value: ["10.96.0.9"]: failed to allocate IP 10.96.0.9: provided IP is already allocated"#
        );
        asked["spec"]["clusterIP"] = "1.2.3.4".into();
        let why = complete(&mut asked, None, &[]).unwrap_err()[0].message.clone();
        assert!(why.ends_with("the provided network does not match the current range"), "{why}");
        asked["spec"]["clusterIP"] = "10.96.0.0".into();
        asked["spec"]["clusterIPs"] = json!(["10.96.0.0"]);
        let why = complete(&mut asked, None, &[]).unwrap_err()[0].message.clone();
        let words =
            "the provided IP (10.96.0.0) is not in the valid range. The range of valid IPs is 10.96.0.0/12";
        assert!(why.ends_with(words), "{why}");
        let mut port = service("NodePort");
        port["spec"]["ports"][0]["nodePort"] = 80.into();
        assert!(complete(&mut port, None, &[]).unwrap_err()[0].message.contains("30000-32767"));
    }

    #[test]
    fn families_that_nobody_serves_are_refused() {
        let told = |spec: Value| {
            let mut service = service("ClusterIP");
            for (name, value) in spec.as_object().unwrap() {
                service["spec"][name] = value.clone();
            }
            complete(&mut service, None, &[]).unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            told(json!({"ipFamilyPolicy": "RequireDualStack"})),
            [
                r#"spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services"#
            ]
        );
        assert_eq!(
            told(json!({"ipFamilies": ["IPv6"]})),
            [r#"spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster"#]
        );
        assert_eq!(
            told(json!({"clusterIP": "2001:db8::1"})),
            [r#"spec.clusterIPs[0]: Invalid value: ["2001:db8::1"]: IPv6 is not configured on this cluster"#]
        );
        assert_eq!(
            told(json!({"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "SingleStack"})),
            [
                r#"spec.ipFamilyPolicy: Invalid value: "SingleStack": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified"#
            ]
        );
        let mut preferred = service("ClusterIP");
        preferred["spec"]["ipFamilyPolicy"] = "PreferDualStack".into();
        complete(&mut preferred, None, &[]).unwrap();
        assert_eq!(preferred["spec"]["ipFamilies"], json!(["IPv4"]));
    }

    #[test]
    fn endpoints_of_both_families_have_a_service_of_both() {
        let mut headless = json!({"spec": {"type": "ClusterIP", "clusterIP": "None"}});
        complete(&mut headless, None, &[]).unwrap();
        assert_eq!(headless["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
        let mut single = headless.clone();
        single["spec"]["ipFamilyPolicy"] = "SingleStack".into();
        complete(&mut single, Some(&headless), &[]).unwrap();
        assert_eq!(single["spec"]["ipFamilies"], json!(["IPv4"]));
        let mut fewer = headless.clone();
        fewer["spec"]["ipFamilies"] = json!(["IPv4"]);
        let errors = complete(&mut fewer, Some(&headless), &[]).unwrap_err();
        assert_eq!(
            errors[0].to_string(),
            r#"spec.ipFamilyPolicy: Invalid value: "RequireDualStack": must be 'SingleStack' to release the secondary IP family"#
        );
    }

    #[test]
    fn what_an_older_server_took_of_families_stays() {
        let mut old = service("ClusterIP");
        complete(&mut old, None, &[]).unwrap();
        old["spec"]["ipFamilyPolicy"] = "RequireDualStack".into();
        let mut changed = old.clone();
        changed["spec"]["ports"][0]["port"] = 81.into();
        complete(&mut changed, Some(&old), &[]).unwrap();
    }

    #[test]
    fn one_node_port_serves_both_protocols_of_a_port() {
        let mut dns = json!({"spec": {"type": "NodePort", "ports": [
            {"name": "udp", "port": 53, "protocol": "UDP"}, {"name": "tcp", "port": 53, "protocol": "TCP"}]}});
        complete(&mut dns, None, &[]).unwrap();
        assert_eq!(dns["spec"]["ports"][0]["nodePort"], dns["spec"]["ports"][1]["nodePort"]);
    }
}
