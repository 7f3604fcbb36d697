//! The rules of statuses: counts of pods, and where load balancers are.

use apimachinery::{FieldError, FieldPath, addresses, names};
use serde_json::Value;

use super::{items, net, non_negative, one_of, text};
use crate::registry::ErrorList;

/// What a workload's status counts, in the order in which it is checked.
pub(crate) struct Counts {
    pub(crate) all: &'static [&'static str],
    /// None of them is greater than `replicas`.
    pub(crate) parts: &'static [&'static str],
    /// What `readyReplicas` is called where more are available than ready.
    pub(crate) ready: &'static str,
}

/// Those of ReplicaSets and ReplicationControllers.
pub(crate) const REPLICAS: Counts = Counts {
    all: &[
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "terminatingReplicas",
        "observedGeneration",
    ],
    parts: &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
    ready: "readyReplicas",
};

/// Counts that are not below zero, and parts that are not more than the whole.
pub(crate) fn validate_counts(object: &Value, counts: &Counts, errors: &mut ErrorList) {
    let (status, path) = (&object["status"], FieldPath::new("status"));
    non_negative(status, &path, counts.all, errors);
    let count = |name: &str| status[name].as_i64().unwrap_or_default();
    for name in counts.parts {
        if count(name) > count("replicas") {
            let message = "cannot be greater than status.replicas";
            errors.push(FieldError::invalid(&path.child(name), count(name), message));
        }
    }
    if !counts.ready.is_empty() && count("availableReplicas") > count("readyReplicas") {
        let message = format!("cannot be greater than {}", counts.ready);
        errors.push(FieldError::invalid(
            &path.child("availableReplicas"),
            count("availableReplicas"),
            &message,
        ));
    }
}

/// A count of collisions only grows.
pub(crate) fn validate_collisions(new: &Value, old: &Value, errors: &mut ErrorList) {
    let count = |object: &Value| object["status"]["collisionCount"].as_i64();
    let (Some(before), after) = (count(old), count(new)) else { return };
    if after.is_none_or(|after| after < before) {
        let path = FieldPath::new("status.collisionCount");
        errors.push(FieldError::invalid(&path, after.unwrap_or_default(), "cannot be decremented"));
    }
}

/// Where the load balancers of a Service or an Ingress are: `validation.ValidateLoadBalancerStatus` and `ValidateIngressLoadBalancerStatus`. A Service has a
/// type.
pub(crate) fn validate_load_balancer(object: &Value, service: Option<&str>, errors: &mut ErrorList) {
    let path = FieldPath::new("status.loadBalancer.ingress");
    let count = items(&object["status"]["loadBalancer"], "ingress").count();
    if count > 0 && service.is_some_and(|kind| kind != "LoadBalancer") {
        errors.push(FieldError::forbidden(&path, "may only be used when `spec.type` is 'LoadBalancer'"));
        return;
    }
    for (index, ingress) in items(&object["status"]["loadBalancer"], "ingress").enumerate() {
        let path = path.index(index);
        let (ip, host) = (text(ingress, "ip"), text(ingress, "hostname"));
        if !ip.is_empty() {
            net::ip(ip, &path.child("ip"), errors);
        }
        match ingress["ipMode"].as_str().filter(|_| service.is_some()) {
            Some(_) if ip.is_empty() => {
                let message = "may not be specified when `ip` is not set";
                errors.push(FieldError::forbidden(&path.child("ipMode"), message));
            }
            Some(mode) => one_of(mode, &path.child("ipMode"), &["Proxy", "VIP"], errors),
            None => {}
        }
        if host.is_empty() {
            continue;
        }
        let path = path.child("hostname");
        errors.extend(
            names::dns1123_subdomain(host).iter().map(|error| FieldError::invalid(&path, host, error)),
        );
        if addresses::sloppy_ip(host).is_some() {
            errors.push(FieldError::invalid(&path, host, "must be a DNS name, not an IP address"));
        }
    }
}
