//! discovery.k8s.io/v1 EndpointSlice.

use std::collections::HashSet;

use apimachinery::{FieldError, FieldPath};
use serde_json::Value;

use crate::{
    registry::{Column, ErrorList, Generation, Kind, field},
    validation::{
        immutable, items, items_mut, label, net, null_if_absent, one_of, qualified, set, subdomain, text,
    },
};

/// Ports and endpoints of a slice (`maxPorts`, `maxEndpoints`).
const PORTS_MAX: usize = 20_000;
const ENDPOINTS_MAX: usize = 1_000;
/// Addresses of an endpoint, and labels that say where it is (`maxAddresses`, `maxTopologyLabels`).
const ADDRESSES_MAX: usize = 100;
const TOPOLOGY_MAX: usize = 16;

pub(super) const KINDS: &[&Kind] = &[&Kind {
    group: "discovery.k8s.io",
    kind: "EndpointSlice",
    plural: "endpointslices",
    singular: "endpointslice",
    generation: Generation::Spec,
    columns: &[
        Column::NAME,
        Column::text("AddressType", "The type of address carried by this EndpointSlice.", |object, _| {
            field(object, "/addressType")
        }),
        Column::text("Ports", "The network ports exposed by each endpoint in this slice.", |object, _| {
            let ports =
                items(object, "ports").map(|port| match (port["port"].as_i64(), text(port, "name")) {
                    (Some(number), _) => number.to_string(),
                    (None, "") => "*".to_owned(),
                    (None, name) => name.to_owned(),
                });
            some(ports.collect())
        }),
        Column::text("Endpoints", "The addresses of the endpoints in this slice.", |object, _| {
            let addresses = items(object, "endpoints").flat_map(|endpoint| items(endpoint, "addresses"));
            some(addresses.filter_map(Value::as_str).map(str::to_owned).collect())
        }),
        Column::AGE,
    ],
    always: &["/endpoints", "/ports"],
    default: |object| {
        for port in items_mut(object, "ports") {
            set(port, "name", "");
            set(port, "protocol", "TCP");
        }
        null_if_absent(object, "endpoints");
        null_if_absent(object, "ports");
    },
    places,
    validate,
    validate_update: |new, old, errors| {
        immutable(&new["addressType"], &old["addressType"], &"addressType".into(), errors);
    },
    warn,
    ..Kind::BUILT_IN
}];

fn places(object: &Value) -> Vec<(FieldPath, &str)> {
    let endpoints = items(object, "endpoints").enumerate();
    let addresses = endpoints.flat_map(|(index, endpoint)| {
        let path = FieldPath::new("endpoints").index(index).child("addresses");
        let all = items(endpoint, "addresses").filter_map(Value::as_str).enumerate();
        all.map(move |(at, address)| (path.index(at), address))
    });
    addresses.collect()
}

/// Who writes addresses in their one form: the controllers of Kubernetes.
const CONTROLLERS: [&str; 2] =
    ["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"];

fn warn(object: &Value, _: Option<&Value>) -> Vec<String> {
    let managed = text(&object["metadata"]["labels"], "endpointslice.kubernetes.io/managed-by");
    match text(object, "addressType") {
        "FQDN" => vec!["spec.addressType: FQDN endpoints are deprecated".to_owned()],
        "IPv4" | "IPv6" if !CONTROLLERS.contains(&managed) => places(object)
            .iter()
            .filter_map(|(path, address)| net::ip_warning(address, path.as_str()))
            .collect(),
        _ => Vec::new(),
    }
}

/// Three of them, and how many more.
fn some(all: Vec<String>) -> Value {
    match all.len() {
        0 => "<unset>".into(),
        1..=3 => all.join(",").into(),
        count => format!("{} + {} more...", all[..3].join(","), count - 3).into(),
    }
}

/// Hints of one sort that an endpoint may have.
const MOST_HINTS: usize = 8;

/// For whom an endpoint is meant: `validation.validateHints`.
fn hints(hints: &Value, path: &FieldPath, errors: &mut ErrorList) {
    for list in ["forZones", "forNodes"] {
        let (path, count) = (path.child(list), items(hints, list).count());
        if count > MOST_HINTS {
            errors.push(FieldError::too_many(&path, count, MOST_HINTS));
            continue;
        }
        let mut seen = Vec::new();
        for (index, hint) in items(hints, list).enumerate() {
            let (path, name) = (path.index(index).child("name"), text(hint, "name"));
            if seen.contains(&name) {
                errors.push(FieldError::duplicate(&path, name));
            }
            seen.push(name);
            if list == "forNodes" {
                subdomain(name, &path, errors);
            } else {
                let found = apimachinery::names::label_value(name);
                errors.extend(found.iter().map(|error| FieldError::invalid(&path, name, error)));
            }
        }
    }
}

fn validate(object: &Value, errors: &mut ErrorList) {
    let kind = text(object, "addressType");
    let known = ["FQDN", "IPv4", "IPv6"];
    if kind.is_empty() {
        errors.push(FieldError::required(&FieldPath::new("addressType"), ""));
    } else {
        one_of(kind, &"addressType".into(), &known, errors);
    }
    let count = items(object, "endpoints").count();
    if count > ENDPOINTS_MAX {
        errors.push(FieldError::too_many(&"endpoints".into(), count, ENDPOINTS_MAX));
    } else {
        validate_endpoints(object, kind, errors);
    }
    validate_ports(object, errors);
}

fn validate_endpoints(object: &Value, kind: &str, errors: &mut ErrorList) {
    for (index, endpoint) in items(object, "endpoints").enumerate() {
        let path = FieldPath::new("endpoints").index(index);
        match items(endpoint, "addresses").count() {
            0 => {
                let message = "must contain at least 1 address";
                errors.push(FieldError::required(&path.child("addresses"), message));
            }
            count if count > ADDRESSES_MAX => {
                errors.push(FieldError::too_many(&path.child("addresses"), count, ADDRESSES_MAX));
            }
            _ => {}
        }
        for (at, address) in items(endpoint, "addresses").enumerate() {
            let (address, path) = (address.as_str().unwrap_or_default(), path.child("addresses").index(at));
            match kind {
                "IPv4" | "IPv6" => {
                    let found = net::ip(address, &path, errors);
                    if found.is_some_and(|found| found.is_ipv4() != (kind == "IPv4")) {
                        let message = format!("must be an {kind} address");
                        errors.push(FieldError::invalid(&path, address, &message));
                    }
                }
                "FQDN" => net::host_name(address, &path, errors),
                _ => {}
            }
        }
        if let Some(node) = endpoint["nodeName"].as_str() {
            subdomain(node, &path.child("nodeName"), errors);
        }
        let (topology, place) = (&endpoint["deprecatedTopology"], path.child("deprecatedTopology"));
        let count = topology.as_object().map_or(0, serde_json::Map::len);
        if count > TOPOLOGY_MAX {
            errors.push(FieldError::too_many(&place, count, TOPOLOGY_MAX));
        }
        if let Some(name) = endpoint["hostname"].as_str() {
            label(name, &path.child("hostname"), errors);
        }
        hints(&endpoint["hints"], &path.child("hints"), errors);
    }
}

fn validate_ports(object: &Value, errors: &mut ErrorList) {
    let path = FieldPath::new("ports");
    let count = items(object, "ports").count();
    if count > PORTS_MAX {
        errors.push(FieldError::too_many(&path, count, PORTS_MAX));
        return;
    }
    let mut names = HashSet::new();
    for (index, port) in items(object, "ports").enumerate() {
        let path = path.index(index);
        let name = text(port, "name");
        if !name.is_empty() {
            label(name, &path.child("name"), errors);
        }
        if !names.insert(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
        one_of(text(port, "protocol"), &path.child("protocol"), &net::PROTOCOLS, errors);
        qualified(port, &path, "appProtocol", errors);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(names: impl Iterator<Item = String>, expect: &[&str]) {
        let ports: Vec<_> = names.map(|name| json!({"name": name, "protocol": "TCP"})).collect();
        let mut errors = ErrorList::new();
        validate(&json!({"addressType": "IPv4", "ports": ports}), &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn ports_are_told_apart_and_counted() {
        let texts =
            |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>().into_iter();
        check(texts(&["", "a"]), &[]);
        check(
            texts(&["", "a", "", "a"]),
            &[r#"ports[2].name: Duplicate value: """#, r#"ports[3].name: Duplicate value: "a""#],
        );
        let many = |count: usize| (0..count).map(|number| format!("a{number}"));
        check(many(PORTS_MAX), &[]);
        check(
            many(PORTS_MAX + 1).chain(texts(&["a1"])),
            &["ports: Too many: 20002: must have at most 20000 items"],
        );
    }

    #[test]
    fn endpoints_and_their_addresses_are_counted_and_named() {
        let told = |kind: &str, endpoints: Vec<Value>| {
            let mut errors = ErrorList::new();
            validate(&json!({"addressType": kind, "endpoints": endpoints}), &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let many = |count: usize| vec![json!({"addresses": ["192.0.2.1"]}); count];
        assert_eq!(told("IPv4", many(1000)), [""; 0]);
        assert_eq!(told("IPv4", many(1001)), ["endpoints: Too many: 1001: must have at most 1000 items"]);
        assert_eq!(
            told("IPv4", vec![json!({"addresses": vec!["192.0.2.1"; 101]})]),
            ["endpoints[0].addresses: Too many: 101: must have at most 100 items"]
        );
        let topology: serde_json::Map<_, _> = (0..17).map(|at| (format!("a{at}"), json!("b"))).collect();
        assert_eq!(
            told("IPv4", vec![json!({"addresses": ["192.0.2.1"], "deprecatedTopology": topology})]),
            ["endpoints[0].deprecatedTopology: Too many: 17: must have at most 16 items"]
        );
        let named = |name: &str| told("FQDN", vec![json!({"addresses": [name]})]);
        assert_eq!(named("a.example."), [""; 0]);
        assert_eq!(
            named("a"),
            [
                r#"endpoints[0].addresses[0]: Invalid value: "a": should be a domain with at least two segments separated by dots"#
            ]
        );
    }

    #[test]
    fn odd_forms_of_addresses_are_warned_of_and_those_that_mean_two_refused() {
        let slice = |address: &str, manager: &str| {
            json!({
                "metadata": {"labels": {"endpointslice.kubernetes.io/managed-by": manager}},
                "addressType": "IPv6", "endpoints": [{"addresses": [address]}],
            })
        };
        let canonical = r#"endpoints[0].addresses[0]: IPv6 address "2001:DB8::1" should be in RFC 5952 canonical format ("2001:db8::1")"#;
        assert_eq!(warn(&slice("2001:DB8::1", "somebody"), None), [canonical]);
        assert_eq!(warn(&slice("2001:db8::1", "somebody"), None), [""; 0]);
        assert_eq!(warn(&slice("2001:DB8::1", CONTROLLERS[0]), None), [""; 0]);
        let mut errors = ErrorList::new();
        validate(&slice("::ffff:1.2.3.4", ""), &mut errors);
        assert_eq!(
            errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                r#"endpoints[0].addresses[0]: Invalid value: "::ffff:1.2.3.4": must not be an IPv4-mapped IPv6 address"#
            ]
        );
    }

    #[test]
    fn an_endpoint_is_for_few_zones_and_each_once() {
        let told = |zones: &[&str]| {
            let mut errors = ErrorList::new();
            let list: Vec<_> = zones.iter().map(|zone| json!({"name": zone})).collect();
            hints(&json!({"forZones": list}), &FieldPath::new("hints"), &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(told(&["a", "b"]), [""; 0]);
        assert_eq!(told(&["a", "a"]), [r#"hints.forZones[1].name: Duplicate value: "a""#]);
        assert_eq!(told(&["a"; 9]), ["hints.forZones: Too many: 9: must have at most 8 items"]);
    }
}
