//! The inputs of a decision, from what is observed.

use std::collections::{BTreeMap, BTreeSet};

use federation_core::api::{ClusterTarget, TaintEffect};
use federation_core::traffic::{
    Backend, ClusterTraffic, Endpoint, Probe, ServicePort, ServiceView, Workload, left,
};
use serde_json::{Map, Value};

use crate::decide::cluster_state::Snapshot;
use crate::observe::{Template, Workloads, World};

use super::AllServed;

/// Federated Services with what the members say of them, and what probers do, in order.
pub(super) fn services(world: &World, served: &AllServed) -> Vec<ServiceView> {
    let probe = |cluster: &str, service: &str| {
        let served = served.get(cluster)?.get(service)?;
        Some(Probe { passing: served.passing, age_ms: served.age_ms, message: served.message.clone() })
    };
    let workloads = world.where_workloads_leave();
    let mut views: Vec<ServiceView> = world
        .services()
        .into_iter()
        .filter(|(template, _)| !template.deleting)
        .filter(|(template, _)| {
            federation_core::template::Template::from_value(template.key.kind.plural, &template.object)
                .is_ok_and(|view| federation_core::select::federated(&view, || false).is_ok())
        })
        .map(|(template, reports)| {
            let (namespace, name) = (template.key.namespace.to_string(), template.key.name.to_string());
            let service = format!("{namespace}/{name}");
            let decided = world.decided(&template.key).filter(|last| last.spec.template.uid == *template.uid);
            // A copy where the Service was not placed is a stray, as a store that was restored leaves them: nobody keeps it as it should be, and
            // what is to leave that cluster would wait for its users for ever.
            let placed = |cluster: &str| {
                decided
                    .as_ref()
                    .is_none_or(|last| last.spec.clusters.iter().any(|target| target.name == cluster))
            };
            let own = decided.as_ref().map_or(&[][..], |last| &last.spec.clusters);
            let left = left_by_decision(&template, own, &workloads);
            let backends = reports
                .into_iter()
                .filter(|(cluster, report)| report.uid == *template.uid && placed(cluster))
                .filter_map(|(cluster, report)| {
                    let state = report.service.clone()?;
                    let ports = state.ports.into_iter();
                    let ports = ports.filter_map(|(name, port)| Some((name, u16::try_from(port).ok()?)));
                    let backend = Backend {
                        ready_endpoints: state.ready_endpoints,
                        addresses: state.addresses,
                        ports: ports.collect(),
                        endpoints: state.endpoints.into_iter().map(endpoint).collect(),
                        absent: state.absent,
                        leaving: left.contains(&cluster),
                        probe: probe(&cluster, &service),
                    };
                    Some((cluster, backend))
                })
                .collect();
            ServiceView { namespace, name, ports: ports(&template.object), backends }
        })
        .collect();
    views.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    views
}

/// Clusters that a Service leaves by decision, or the workloads behind it. `own` are its own.
fn left_by_decision(service: &Template, own: &[ClusterTarget], workloads: &Workloads) -> BTreeSet<String> {
    let found = workloads.get(&service.key.namespace).map(Vec::as_slice).unwrap_or_default();
    let workloads: Vec<Workload<'_>> = found
        .iter()
        .filter_map(|(template, decided)| {
            Some(Workload { labels: template.pod_labels()?, clusters: &decided.spec.clusters })
        })
        .collect();
    let none = Map::new();
    left(own, service.selector().unwrap_or(&none), &workloads).into_iter().map(str::to_owned).collect()
}

fn endpoint(told: proto::v1::ServiceEndpoint) -> Endpoint {
    let addresses = told.addresses.iter().filter_map(|text| text.parse().ok()).collect();
    Endpoint { host: told.host, addresses }
}

fn ports(service: &Value) -> Vec<ServicePort> {
    let ports = service.pointer("/spec/ports").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let text = |port: &Value, field: &str| port[field].as_str().map(str::to_owned);
    ports
        .iter()
        .filter_map(|port| {
            Some(ServicePort {
                name: text(port, "name").unwrap_or_default(),
                protocol: text(port, "protocol").unwrap_or_else(|| "TCP".into()),
                number: u16::try_from(port["port"].as_u64()?).ok()?,
            })
        })
        .collect()
}

/// The clusters, by name.
pub(super) fn clusters(snapshot: &Snapshot) -> BTreeMap<String, ClusterTraffic> {
    snapshot
        .views
        .iter()
        .map(|view| {
            (
                view.name.clone(),
                ClusterTraffic {
                    verdict: view.verdict,
                    users_served: view.users_served,
                    weight: view.spec.traffic_weight,
                    region: view.spec.region.clone(),
                    zone: view.spec.zone.clone(),
                    draining: view.spec.taints.iter().any(|taint| taint.effect == TaintEffect::NoExecute),
                    addresses: view.spec.addresses.clone(),
                    turn_ms: None,
                },
            )
        })
        .collect()
}
