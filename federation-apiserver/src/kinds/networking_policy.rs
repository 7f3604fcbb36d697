//! networking.k8s.io/v1 NetworkPolicy, ServiceCIDR and IPAddress.

use apimachinery::{
    FieldError, FieldPath, addresses,
    labels::validate_label_selector,
    meta::Scope,
    names::{self, NameRule},
};
use serde_json::{Value, json};

use crate::{
    registry::{Column, ErrorList, Generation, Kind},
    validation::{
        IMMUTABLE, immutable, items, items_mut, listed, net, required, set, subdomain, text, workload,
    },
};

const GROUP: &str = "networking.k8s.io";

pub(super) const KINDS: &[&Kind] = &[
    &Kind {
        group: GROUP,
        kind: "NetworkPolicy",
        plural: "networkpolicies",
        singular: "networkpolicy",
        short_names: &["netpol"],
        generation: Generation::Spec,
        columns: &[
            Column::NAME,
            Column::text(
                "Pod-Selector",
                "Selects the pods to which this NetworkPolicy object applies.",
                |object, _| workload::selector(object["spec"].get("podSelector")),
            ),
            Column::AGE,
        ],
        default,
        validate,
        warn,
        ..Kind::BUILT_IN
    },
    &Kind {
        group: GROUP,
        kind: "ServiceCIDR",
        plural: "servicecidrs",
        singular: "servicecidr",
        scope: Scope::Cluster,
        status: true,
        columns: &[
            Column::NAME,
            Column::text("CIDRs", "Networks that cluster IPs are taken from.", |object, _| {
                items(&object["spec"], "cidrs").filter_map(Value::as_str).collect::<Vec<_>>().join(",").into()
            }),
            Column::AGE,
        ],
        validate: |object, errors| {
            let (cidrs, path) = (&object["spec"]["cidrs"], FieldPath::new("spec.cidrs"));
            match items(&object["spec"], "cidrs").count() {
                0 => errors.push(FieldError::required(&path, "at least one CIDR required")),
                1 | 2 => {
                    let all = items(&object["spec"], "cidrs").enumerate();
                    let read = |(index, cidr): (usize, &Value)| {
                        let cidr = cidr.as_str().unwrap_or_default();
                        let error = addresses::canonical_cidr(cidr);
                        errors
                            .extend(error.map(|error| FieldError::invalid(&path.index(index), cidr, &error)));
                        addresses::cidr(cidr).value
                    };
                    let families: Vec<_> =
                        all.filter_map(read).map(|network| network.address.is_ipv4()).collect();
                    if let [one, other] = families[..]
                        && one == other
                    {
                        let message = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
                        errors.push(FieldError::invalid(&path, cidrs.clone(), message));
                    }
                }
                _ => {
                    let spec = object["spec"].clone();
                    errors.push(FieldError::invalid(&path, spec, "may only hold up to 2 values"));
                }
            }
        },
        validate_update: |new, old, errors| {
            let (before, path) = (items(&old["spec"], "cidrs").count(), FieldPath::new("spec.cidrs"));
            let after = items(&new["spec"], "cidrs").count();
            if after != before && (before, after) != (1, 2) {
                errors.push(FieldError::invalid(&path, new["spec"]["cidrs"].clone(), IMMUTABLE));
                return;
            }
            // One of the other family may come, and nothing else changes.
            for (index, cidr) in items(&old["spec"], "cidrs").enumerate() {
                immutable(&new["spec"]["cidrs"][index], cidr, &path.index(index), errors);
            }
        },
        ..Kind::BUILT_IN
    },
    &Kind {
        group: GROUP,
        kind: "IPAddress",
        plural: "ipaddresses",
        singular: "ipaddress",
        short_names: &["ip"],
        scope: Scope::Cluster,
        name_rule: NameRule::Address,
        columns: &[
            Column::NAME,
            Column::text("ParentRef", "What it belongs to.", |object, _| {
                let parent = &object["spec"]["parentRef"];
                let parts = [text(parent, "resource"), text(parent, "namespace"), text(parent, "name")];
                let group = text(parent, "group");
                let dot = if group.is_empty() { "" } else { "." };
                format!("{}{dot}{group}/{}/{}", parts[0], parts[1], parts[2]).into()
            }),
            Column::AGE,
        ],
        validate: |object, errors| {
            let (parent, path) = (&object["spec"]["parentRef"], FieldPath::new("spec.parentRef"));
            if !parent.is_object() {
                errors.push(FieldError::required(&path, ""));
                return;
            }
            let group = text(parent, "group");
            if !group.is_empty() {
                subdomain(group, &path.child("group"), errors);
            }
            required(parent, &path, "resource", errors);
            segment(parent, &path, "resource", errors);
            required(parent, &path, "name", errors);
            segment(parent, &path, "name", errors);
            segment(parent, &path, "namespace", errors);
        },
        validate_update: |new, old, errors| {
            immutable(&new["spec"]["parentRef"], &old["spec"]["parentRef"], &"spec.parentRef".into(), errors);
        },
        ..Kind::BUILT_IN
    },
];

/// What must fit in a path, if it is there.
fn segment(object: &Value, path: &FieldPath, name: &str, errors: &mut ErrorList) {
    let (found, path) = (text(object, name), path.child(name));
    errors.extend(names::path_segment(found).iter().map(|error| FieldError::invalid(&path, found, error)));
}

/// What is warned of in networks of peers: `networkPolicyWarnings`.
fn warn(object: &Value, _: Option<&Value>) -> Vec<String> {
    let mut warnings = Vec::new();
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (index, rule) in items(&object["spec"], direction).enumerate() {
            let path = FieldPath::new("spec").child(direction).index(index).child(peers);
            for (at, peer) in items(rule, peers).enumerate() {
                let (block, path) = (&peer["ipBlock"], path.index(at).child("ipBlock"));
                if let Some(network) = block["cidr"].as_str() {
                    warnings.extend(net::cidr_warnings(network, path.child("cidr").as_str()));
                }
                for (at, except) in items(block, "except").enumerate() {
                    let (except, path) = (except.as_str().unwrap_or_default(), path.child("except"));
                    warnings.extend(net::cidr_warnings(except, path.index(at).as_str()));
                }
            }
        }
    }
    warnings
}

fn default(object: &mut Value) {
    set(object, "spec", json!({}));
    let spec = &mut object["spec"];
    for direction in ["ingress", "egress"] {
        for rule in items_mut(spec, direction) {
            items_mut(rule, "ports").for_each(|port| set(port, "protocol", "TCP"));
        }
    }
    let egress = spec["egress"].as_array().is_some_and(|rules| !rules.is_empty());
    if spec["policyTypes"].as_array().is_none_or(Vec::is_empty) && spec.is_object() {
        spec["policyTypes"] = if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
    }
    set(spec, "podSelector", json!({}));
}

fn validate(object: &Value, errors: &mut ErrorList) {
    let (spec, path) = (&object["spec"], FieldPath::new("spec"));
    errors.extend(validate_label_selector(&spec["podSelector"], &path.child("podSelector")));
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (index, rule) in items(spec, direction).enumerate() {
            let path = path.child(direction).index(index);
            for (at, port) in items(rule, "ports").enumerate() {
                validate_port(port, &path.child("ports").index(at), errors);
            }
            for (at, peer) in items(rule, peers).enumerate() {
                validate_peer(peer, &path.child(peers).index(at), errors);
            }
        }
    }
    let types = spec["policyTypes"].as_array().map_or(0, Vec::len);
    if types > 2 {
        let message = "may not specify more than two policyTypes";
        errors.push(FieldError::invalid(&path.child("policyTypes"), spec["policyTypes"].clone(), message));
        return;
    }
    for (index, kind) in items(spec, "policyTypes").enumerate() {
        let path = path.child("policyTypes").index(index);
        listed(kind.as_str().unwrap_or_default(), &path, &["Ingress", "Egress"], errors);
    }
}

fn validate_port(port: &Value, path: &FieldPath, errors: &mut ErrorList) {
    listed(text(port, "protocol"), &path.child("protocol"), &["TCP", "UDP", "SCTP"], errors);
    match &port["port"] {
        Value::Null => {
            if !port["endPort"].is_null() {
                let message = "may not be specified when `port` is not specified";
                errors.push(FieldError::invalid(&path.child("endPort"), port["endPort"].clone(), message));
            }
        }
        number @ Value::Number(_) => {
            net::port_or_name(number, &path.child("port"), errors);
            if let Some(end) = port["endPort"].as_i64() {
                if number.as_i64().is_some_and(|start| end < start) {
                    let message = "must be greater than or equal to `port`";
                    errors.push(FieldError::invalid(&path.child("endPort"), end, message));
                }
                net::port(end, &path.child("endPort"), errors);
            }
        }
        name => {
            if !port["endPort"].is_null() {
                let message = "may not be specified when `port` is non-numeric";
                errors.push(FieldError::invalid(&path.child("endPort"), port["endPort"].clone(), message));
            }
            net::port_or_name(name, &path.child("port"), errors);
        }
    }
}

fn validate_peer(peer: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let mut given = 0;
    for name in ["podSelector", "namespaceSelector"] {
        if let Some(selector) = peer.get(name).filter(|selector| selector.is_object()) {
            given += 1;
            errors.extend(validate_label_selector(selector, &path.child(name)));
        }
    }
    let (block, block_path) = (&peer["ipBlock"], path.child("ipBlock"));
    if block.is_object() {
        given += 1;
        if let Some(network) = required(block, &block_path, "cidr", errors)
            && let Some(outer) = net::cidr(network, &block_path.child("cidr"), errors)
        {
            for (index, except) in items(block, "except").enumerate() {
                let except = except.as_str().unwrap_or_default();
                let path = block_path.child("except").index(index);
                if let Some(inner) = net::cidr(except, &path, errors)
                    && !net::strictly_within(inner, outer)
                {
                    errors.push(FieldError::invalid(&path, except, "must be a strict subset of `cidr`"));
                }
            }
        }
    }
    if given == 0 {
        errors.push(FieldError::required(path, "must specify a peer"));
    } else if given > 1 && block.is_object() {
        let message = "may not specify both ipBlock and another peer";
        errors.push(FieldError::forbidden(path, message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(block: Value) -> Value {
        json!({"spec": {"ingress": [{"from": [{"ipBlock": block}]}]}})
    }

    #[test]
    fn networks_of_peers_mean_the_same_to_everybody() {
        let told = |block: Value| {
            let mut errors = ErrorList::new();
            validate(&policy(block), &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(told(json!({"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]})), [""; 0]);
        assert_eq!(
            told(json!({"cidr": "10.0.0.5/8", "except": ["10.0.0.0/8", "11.0.0.0/16"]})),
            [
                r#"spec.ingress[0].from[0].ipBlock.cidr: Invalid value: "10.0.0.5/8": must not have bits set beyond the prefix length"#,
                r#"spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: "10.0.0.0/8": must be a strict subset of `cidr`"#,
                r#"spec.ingress[0].from[0].ipBlock.except[1]: Invalid value: "11.0.0.0/16": must be a strict subset of `cidr`"#,
            ]
        );
        assert_eq!(
            warn(&policy(json!({"cidr": "2001:DB8::/32", "except": ["2001:db8:0::/48"]})), None),
            [
                r#"spec.ingress[0].from[0].ipBlock.cidr: IPv6 CIDR value "2001:DB8::/32" should be in RFC 5952 canonical format ("2001:db8::/32")"#,
                r#"spec.ingress[0].from[0].ipBlock.except[0]: IPv6 CIDR value "2001:db8:0::/48" should be in RFC 5952 canonical format ("2001:db8::/48")"#,
            ]
        );
    }
}
