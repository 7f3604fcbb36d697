//! networking.k8s.io/v1 NetworkPolicy, ServiceCIDR and IPAddress.

use apimachinery::{FieldError, FieldPath, labels::validate_label_selector, meta::Scope};
use serde_json::{Value, json};

use crate::{
    registry::{Column, Faults, Generation, Kind},
    validation::{IMMUTABLE, immutable, items, items_mut, listed, net, required, set, text, workload},
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
                        net::cidr(cidr.as_str().unwrap_or_default(), &path.index(index), faults)
                    };
                    let families: Vec<_> =
                        all.filter_map(read).map(|(address, _)| address.is_ipv4()).collect();
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
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            net::ip(name, &"metadata.name".into(), faults);
            let (parent, path) = (&object["spec"]["parentRef"], FieldPath::new("spec.parentRef"));
            if parent.is_object() {
                required(parent, &path, "resource", faults);
                required(parent, &path, "name", faults);
            } else {
                faults.push(FieldError::required(&path, ""));
            }
        },
        validate_update: |new, old, faults| {
            immutable(&new["spec"]["parentRef"], &old["spec"]["parentRef"], &"spec.parentRef".into(), faults);
        },
        ..Kind::BUILT_IN
    },
];

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
        if given > 0 {
            let message = "may not specify both ipBlock and another peer";
            faults.push(FieldError::forbidden(path, message));
        }
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
                    let message = format!("must be a strict subset of `cidr`: {network:?}");
                    faults.push(FieldError::invalid(&path, except, message.as_str()));
                }
            }
        }
    }
    if given == 0 {
        faults.push(FieldError::required(path, "must specify a peer"));
    }
}
