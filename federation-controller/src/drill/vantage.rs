//! The vantage points of a drill's users: the hub, agents of clusters that are not lost, and the command that runs the drill.
//!
//! All look at the same: every DNS server, and the pages of the application. Agents are told each second what to look at, and stop when they
//! hear it no more; they say what they saw by a call of their own. Who runs the drill reads it from the status.

use federation_core::api::{DrillAddress, DrillLook, FailoverDrillSpec, Protocol, Verdict};
use proto::v1;
use serde_json::Value;

use super::DrillContext;

/// Name of the hub as a vantage.
pub(super) const HUB: &str = "hub";
/// In front of a cluster's name: its agent as a vantage.
pub(super) const AGENT: &str = "agent/";
/// Users for each DNS server: 40 pages a second, which is enough to see a gap of 25 ms and little enough to disturb nobody.
pub(super) const USERS: usize = 4;
/// Agents that look: a drill's status holds what each of them saw.
const AGENTS_MAX: usize = 4;
/// An agent that does not hear for so long what to look at stops, milliseconds.
const LOOK_MS: u32 = 4_000;

/// What users look at. None if nobody answers, or the Service has no port.
pub(super) fn look(context: &DrillContext, spec: &FailoverDrillSpec) -> Option<DrillLook> {
    let services = context.world.services();
    let (service, reports) = services.into_iter().find(|(service, _)| {
        &*service.key.namespace == spec.app.namespace() && *service.key.name == *spec.app.name
    })?;
    let port = first_port(&service.object)?;
    let name =
        format!("{}.{}.svc.{}.", spec.app.name, spec.app.namespace(), context.zone.trim_end_matches('.'));
    let snapshot = context.cluster_state.snapshot();
    let mut addresses = Vec::new();
    for (cluster, report) in &reports {
        let Some(state) = &report.service else { continue };
        let view = snapshot.views.iter().find(|view| view.name == *cluster);
        let declared = view.map(|view| view.spec.addresses.clone()).unwrap_or_default();
        let own = if state.addresses.is_empty() { &declared } else { &state.addresses };
        let port = state.ports.values().next().and_then(|port| u16::try_from(*port).ok());
        addresses.extend(own.iter().map(|address| DrillAddress {
            address: address.clone(),
            cluster: cluster.clone(),
            port,
        }));
    }
    let dns: Vec<String> = context.zones.addresses().iter().map(ToString::to_string).collect();
    (!dns.is_empty()).then(|| DrillLook { name, dns, port, path: page(context, spec), addresses })
}

/// The clusters whose agents look: those that are well and are not lost.
pub(super) fn agents(context: &DrillContext, lose: &[String]) -> Vec<String> {
    let snapshot = context.cluster_state.snapshot();
    let well = snapshot.views.iter().filter(|view| {
        view.verdict == Verdict::Healthy
            && !lose.contains(&view.name)
            && context.sessions.is_connected(&view.name)
    });
    let mut names: Vec<String> = well.map(|view| view.name.clone()).collect();
    names.sort();
    names.truncate(AGENTS_MAX);
    names
}

/// What agents are told.
pub(super) fn order(drill: &str, look: &DrillLook, lost: Option<&[String]>) -> v1::Look {
    v1::Look {
        drill: drill.to_owned(),
        look: serde_json::to_vec(look).unwrap_or_default().into(),
        begun: lost.is_some(),
        lost: lost.unwrap_or_default().to_vec(),
        lease_ms: LOOK_MS,
    }
}

fn first_port(service: &Value) -> Option<u16> {
    let ports = service.pointer("/spec/ports")?.as_array()?;
    ports.first()?["port"].as_u64().and_then(|port| u16::try_from(port).ok())
}

/// The page that the TrafficPolicy's health check asks for, else the first one.
fn page(context: &DrillContext, spec: &FailoverDrillSpec) -> String {
    let policies = context.world.traffic();
    let own = policies.iter().find(|policy| {
        policy.spec.service == spec.app.name
            && policy.metadata.namespace.as_deref().unwrap_or_default() == spec.app.namespace()
    });
    let check = own.and_then(|policy| policy.spec.health_check.as_ref());
    let path = check.filter(|check| check.protocol == Protocol::Http).map(|check| check.path.clone());
    path.filter(|path| path.starts_with('/')).unwrap_or_else(|| "/".into())
}
