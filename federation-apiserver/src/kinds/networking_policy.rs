//! networking.k8s.io/v1 NetworkPolicy, ServiceCIDR and IPAddress.

use apimachinery::{
    FieldError, FieldPath, addresses,
    labels::validate_label_selector,
    meta::Scope,
    names::{self, NameRule},
};
use serde_json::{Value, json};

use crate::{
    registry::{Column, Faults, Generation, Kind},
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
        validate: |object, faults| {
            let (cidrs, path) = (&object["spec"]["cidrs"], FieldPath::new("spec.cidrs"));
            match items(&object["spec"], "cidrs").count() {
                0 => faults.push(FieldError::required(&path, "at least one CIDR required")),
                1 | 2 => {
                    let all = items(&object["spec"], "cidrs").enumerate();
                    let read = |(index, cidr): (usize, &Value)| {
                        let cidr = cidr.as_str().unwrap_or_default();
                        let fault = addresses::canonical_cidr(cidr);
                        faults
                            .extend(fault.map(|fault| FieldError::invalid(&path.index(index), cidr, &fault)));
                        addresses::cidr(cidr).value
                    };
                    let families: Vec<_> =
                        all.filter_map(read).map(|network| network.address.is_ipv4()).collect();
                    if let [one, other] = families[..]
                        && one == other
                    {
                        let message = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
                        faults.push(FieldError::invalid(&path, cidrs.clone(), message));
                    }
                }
                _ => {
                    let spec = object["spec"].clone();
                    faults.push(FieldError::invalid(&path, spec, "may only hold up to 2 values"));
                }
            }
        },
        validate_update: |new, old, faults| {
            let (before, path) = (items(&old["spec"], "cidrs").count(), FieldPath::new("spec.cidrs"));
            let after = items(&new["spec"], "cidrs").count();
            if after != before && (before, after) != (1, 2) {
                faults.push(FieldError::invalid(&path, new["spec"]["cidrs"].clone(), IMMUTABLE));
                return;
            }
            // One of the other family may come, and nothing else changes.
            for (index, cidr) in items(&old["spec"], "cidrs").enumerate() {
                immutable(&new["spec"]["cidrs"][index], cidr, &path.index(index), faults);
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
        validate: |object, faults| {
            let (parent, path) = (&object["spec"]["parentRef"], FieldPath::new("spec.parentRef"));
            if !parent.is_object() {
                faults.push(FieldError::required(&path, ""));
                return;
            }
            let group = text(parent, "group");
            if !group.is_empty() {
                subdomain(group, &path.child("group"), faults);
            }
            required(parent, &path, "resource", faults);
            segment(parent, &path, "resource", faults);
            required(parent, &path, "name", faults);
            segment(parent, &path, "name", faults);
            segment(parent, &path, "namespace", faults);
        },
        validate_update: |new, old, faults| {
            immutable(&new["spec"]["parentRef"], &old["spec"]["parentRef"], &"spec.parentRef".into(), faults);
        },
        ..Kind::BUILT_IN
    },
];

/// What must fit in a path, if it is there.
fn segment(object: &Value, path: &FieldPath, name: &str, faults: &mut Faults) {
    let (found, path) = (text(object, name), path.child(name));
    faults.extend(names::path_segment(found).iter().map(|fault| FieldError::invalid(&path, found, fault)));
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

fn validate(object: &Value, faults: &mut Faults) {
    let (spec, path) = (&object["spec"], FieldPath::new("spec"));
    faults.extend(validate_label_selector(&spec["podSelector"], &path.child("podSelector")));
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (index, rule) in items(spec, direction).enumerate() {
            let path = path.child(direction).index(index);
            for (at, port) in items(rule, "ports").enumerate() {
                validate_port(port, &path.child("ports").index(at), faults);
            }
            for (at, peer) in items(rule, peers).enumerate() {
                validate_peer(peer, &path.child(peers).index(at), faults);
            }
        }
    }
    let types = spec["policyTypes"].as_array().map_or(0, Vec::len);
    if types > 2 {
        let message = "may not specify more than two policyTypes";
        faults.push(FieldError::invalid(&path.child("policyTypes"), spec["policyTypes"].clone(), message));
        return;
    }
    for (index, kind) in items(spec, "policyTypes").enumerate() {
        let path = path.child("policyTypes").index(index);
        listed(kind.as_str().unwrap_or_default(), &path, &["Ingress", "Egress"], faults);
    }
}

fn validate_port(port: &Value, path: &FieldPath, faults: &mut Faults) {
    listed(text(port, "protocol"), &path.child("protocol"), &["TCP", "UDP", "SCTP"], faults);
    match &port["port"] {
        Value::Null => {
            if !port["endPort"].is_null() {
                let message = "may not be specified when `port` is not specified";
                faults.push(FieldError::invalid(&path.child("endPort"), port["endPort"].clone(), message));
            }
        }
        number @ Value::Number(_) => {
            net::port_or_name(number, &path.child("port"), faults);
            if let Some(end) = port["endPort"].as_i64() {
                if number.as_i64().is_some_and(|start| end < start) {
                    let message = "must be greater than or equal to `port`";
                    faults.push(FieldError::invalid(&path.child("endPort"), end, message));
                }
                net::port(end, &path.child("endPort"), faults);
            }
        }
        name => {
            if !port["endPort"].is_null() {
                let message = "may not be specified when `port` is non-numeric";
                faults.push(FieldError::invalid(&path.child("endPort"), port["endPort"].clone(), message));
            }
            net::port_or_name(name, &path.child("port"), faults);
        }
    }
}

fn validate_peer(peer: &Value, path: &FieldPath, faults: &mut Faults) {
    let mut given = 0;
    for name in ["podSelector", "namespaceSelector"] {
        if let Some(selector) = peer.get(name).filter(|selector| selector.is_object()) {
            given += 1;
            faults.extend(validate_label_selector(selector, &path.child(name)));
        }
    }
    let (block, block_path) = (&peer["ipBlock"], path.child("ipBlock"));
    if block.is_object() {
        given += 1;
        if let Some(network) = required(block, &block_path, "cidr", faults)
            && let Some(outer) = net::cidr(network, &block_path.child("cidr"), faults)
        {
            for (index, except) in items(block, "except").enumerate() {
                let except = except.as_str().unwrap_or_default();
                let path = block_path.child("except").index(index);
                if let Some(inner) = net::cidr(except, &path, faults)
                    && !net::strictly_within(inner, outer)
                {
                    faults.push(FieldError::invalid(&path, except, "must be a strict subset of `cidr`"));
                }
            }
        }
    }
    if given == 0 {
        faults.push(FieldError::required(path, "must specify a peer"));
    } else if given > 1 && block.is_object() {
        let message = "may not specify both ipBlock and another peer";
        faults.push(FieldError::forbidden(path, message));
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
            let mut faults = Faults::new();
            validate(&policy(block), &mut faults);
            faults.iter().map(ToString::to_string).collect::<Vec<_>>()
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
