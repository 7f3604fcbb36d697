//! The probe targets, and their distribution: to DNS servers with the zones, to agents on their streams, and to the controller's own prober.

use std::collections::BTreeMap;

use serde_json::Value;

use federation_core::probe::{ProbedService, Reached, Target, peers, targets};
use federation_core::traffic::{Address, ClusterTraffic, ServiceView, reached};
use federation_prober::{Probing, probe};
use proto::v1;

use crate::health::Health;
use crate::hub::sessions::Sessions;
use crate::observe::World;

/// Whom the targets are told.
pub(crate) struct Probers {
    pub(crate) health: Health,
    pub(crate) own: Probing,
    pub(crate) sessions: Sessions,
}

/// What was told last.
#[derive(Default)]
pub(super) struct Told {
    targets: Vec<Target>,
    clusters: Vec<String>,
    /// As messages.
    pub(super) probes: Vec<v1::Probe>,
}

impl Told {
    /// Tells everybody what is to be probed now; says whether the DNS servers are to be told, too, which is done with the zones.
    pub(super) fn tell(
        &mut self,
        probers: &Probers,
        targets: Vec<Target>,
        clusters: &BTreeMap<String, ClusterTraffic>,
    ) -> bool {
        // A cluster that was taken in since is expected to be voted on from now on.
        probers.health.expect(&targets);
        let names: Vec<String> = clusters.keys().cloned().collect();
        let same = targets == self.targets;
        if same && names == self.clusters {
            return false;
        }
        if !same {
            self.probes = targets.iter().map(probe).collect();
            probers.own.set_targets(targets.clone());
        }
        let mut work: BTreeMap<&str, Vec<v1::Probe>> =
            names.iter().map(|name| (name.as_str(), Vec::new())).collect();
        for (target, probe) in targets.iter().zip(&self.probes) {
            for peer in peers(&target.key, names.iter().map(String::as_str)) {
                work.entry(peer).or_default().push(probe.clone());
            }
        }
        for (cluster, probes) in work {
            probers.sessions.probe(cluster, probes);
        }
        self.targets = targets;
        self.clusters = names;
        !same
    }
}

/// What is to be probed: each federated Service at the addresses, or the name, by which users reach it in each cluster. `own` are the origins of the
/// zones that are answered here.
pub(super) fn of(
    world: &World,
    services: &[ServiceView],
    clusters: &BTreeMap<String, ClusterTraffic>,
    policies: &[federation_core::api::TrafficPolicy],
    own: &[String],
) -> Vec<Target> {
    let mut told = BTreeMap::new();
    for (template, reports) in world.services() {
        let ports: BTreeMap<String, BTreeMap<String, u32>> = reports
            .into_iter()
            .filter(|(_, report)| report.uid == *template.uid)
            .filter_map(|(cluster, report)| {
                Some((cluster, report.service.clone()?.ports.into_iter().collect()))
            })
            .collect();
        let key = (template.key.namespace.to_string(), template.key.name.to_string());
        told.insert(key, (first_port(&template.object), ports));
    }
    let probed = |service: &ServiceView| {
        let (port, mut ports) = told.remove(&(service.namespace.clone(), service.name.clone()))?;
        let clusters = service
            .backends
            .iter()
            .filter(|(_, backend)| !backend.absent)
            .filter_map(|(name, backend)| {
                let cluster = clusters.get(name)?;
                let told = if backend.addresses.is_empty() { &cluster.addresses } else { &backend.addresses };
                let ports = ports.remove(name).unwrap_or_default();
                let unready = backend.ready_endpoints == 0;
                let mut at = Reached { ports, unready, ..Reached::default() };
                for address in reached(told, own) {
                    match address {
                        Address::Ip(ip) => at.addresses.push(ip),
                        Address::Host(host) => at.host = Some(host),
                    }
                }
                Some((name.clone(), at))
            })
            .collect();
        let (namespace, name) = (service.namespace.clone(), service.name.clone());
        Some(ProbedService { namespace, name, port, clusters })
    };
    let probed: Vec<ProbedService> = services.iter().filter_map(probed).collect();
    targets(&probed, policies)
}

/// Name and number of a Service's first TCP port.
fn first_port(service: &Value) -> Option<(String, u16)> {
    let ports = service.pointer("/spec/ports")?.as_array()?;
    let tcp = |port: &&Value| port.get("protocol").and_then(Value::as_str).unwrap_or("TCP") == "TCP";
    let port = ports.iter().find(tcp)?;
    let name = port.get("name").and_then(Value::as_str).unwrap_or_default();
    let number = port.get("port").and_then(Value::as_u64).and_then(|number| u16::try_from(number).ok())?;
    Some((name.to_owned(), number))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn udp_is_not_probed() {
        let service =
            json!({"spec": {"ports": [{"port": 53, "protocol": "UDP"}, {"name": "http", "port": 80}]}});
        assert_eq!(first_port(&service), Some(("http".into(), 80)));
        assert_eq!(first_port(&json!({"spec": {"ports": [{"port": 53, "protocol": "UDP"}]}})), None);
    }
}
