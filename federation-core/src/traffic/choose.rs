//! Which clusters are answered for one Service.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::api::Verdict;

use super::{Backend, ClusterTraffic, Explanation, ServiceView, TrafficInput};

/// The clusters that are answered, with their addresses, and why.
pub(super) fn backends(
    input: &TrafficInput<'_>,
    service: &ServiceView,
    explanations: &mut Vec<Explanation>,
) -> BTreeMap<String, Vec<IpAddr>> {
    let key = format!("{}/{}", service.namespace, service.name);
    let nothing = BTreeMap::new();
    let previous = input.previous.0.get(&key).unwrap_or(&nothing);
    let mut say = |cluster: &str, answered: bool, rule: &'static str, message: String| {
        explanations.push(Explanation {
            object: key.clone(),
            cluster: cluster.into(),
            answered,
            rule,
            message,
        });
    };

    if let Some(reason) = input.frozen.filter(|_| !previous.is_empty()) {
        for cluster in previous.keys() {
            say(cluster, true, "Frozen", format!("the last answer stays: {reason}"));
        }
        return previous.clone();
    }

    let mut serving: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    let mut draining: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for (name, backend) in &service.backends {
        let Some(cluster) = input.clusters.get(name) else {
            say(name, false, "NotReady", "it is no member".into());
            continue;
        };
        match state(cluster, backend, previous.get(name)) {
            State::Serves(addresses) if cluster.draining => {
                draining.insert(name.clone(), addresses);
            }
            State::Serves(addresses) => {
                say(name, true, "Serving", format!("{} endpoints are ready", backend.ready_endpoints));
                serving.insert(name.clone(), addresses);
            }
            State::Unknown(addresses) => {
                say(name, true, "LastAnswerKept", "there is no verdict on it yet".into());
                serving.insert(name.clone(), addresses);
            }
            State::Not(rule, message) => say(name, false, rule, message),
        }
    }
    // A cluster of the last answer from which nothing was heard since the start: no report is no loss.
    for (name, addresses) in previous {
        let unheard = !service.backends.contains_key(name)
            && input
                .clusters
                .get(name)
                .is_some_and(|cluster| cluster.verdict == Verdict::Unknown && !cluster.draining);
        if unheard {
            say(name, true, "LastAnswerKept", "nothing was heard of it yet".into());
            serving.insert(name.clone(), addresses.clone());
        }
    }
    if serving.is_empty() {
        for name in draining.keys() {
            say(name, true, "Draining", "it is being drained, but nobody else serves".into());
        }
        serving = draining;
    } else {
        for name in draining.keys() {
            say(name, false, "Draining", "it is being drained".into());
        }
    }
    if serving.is_empty() {
        for name in previous.keys() {
            say(name, true, "LastAnswerKept", "nobody serves: the last answer is better than none".into());
        }
        serving.clone_from(previous);
    }
    serving
}

enum State {
    Serves(Vec<IpAddr>),
    Unknown(Vec<IpAddr>),
    Not(&'static str, String),
}

fn state(cluster: &ClusterTraffic, backend: &Backend, previous: Option<&Vec<IpAddr>>) -> State {
    if let (Verdict::Unknown, Some(addresses)) = (cluster.verdict, previous) {
        return State::Unknown(addresses.clone());
    }
    if cluster.verdict != Verdict::Healthy {
        return State::Not("NotReady", format!("the verdict is {:?}", cluster.verdict));
    }
    if cluster.weight == Some(0) {
        return State::Not("WeightZero", "spec.trafficWeight of the cluster is 0".into());
    }
    if backend.absent {
        return State::Not("Absent", "its copy of the Service is gone".into());
    }
    if backend.ready_endpoints == 0 {
        return State::Not("NoEndpoints", "no endpoint is ready".into());
    }
    let own = if backend.addresses.is_empty() { &cluster.addresses } else { &backend.addresses };
    let mut addresses: Vec<IpAddr> = own.iter().filter_map(|text| text.parse().ok()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        let message = if own.is_empty() {
            "neither its Service nor the Cluster's spec.addresses says an address".into()
        } else {
            format!("{} are no IP addresses", own.join(", "))
        };
        return State::Not("NoAddress", message);
    }
    State::Serves(addresses)
}
