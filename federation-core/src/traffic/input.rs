//! The inputs of traffic decisions.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::api::{TrafficPolicy, Verdict};

use super::{Latency, Memory, Places};

/// Everything that the answers are made from.
#[derive(Clone, Debug)]
pub struct TrafficInput<'a> {
    /// The federation's name: the first label of `--dns-zone`.
    pub federation: &'a str,
    /// The rest of `--dns-zone`, without a final dot.
    pub suffix: &'a str,
    /// Name of the zone of Multi-Cluster Services (KEP-1645); none: there is none.
    pub clusterset: Option<&'a str>,
    /// The servers of the zones.
    pub nameservers: &'a [NameServer],
    /// Mailbox of the zones' operator as a domain name (SOA RNAME); `hostmaster.<zone>` if empty.
    pub hostmaster: &'a str,
    /// Seconds, where a policy says nothing.
    pub ttl_seconds: u32,
    /// Seconds that resolvers keep a negative answer (RFC 2308).
    pub negative_ttl_seconds: u32,
    /// Federated Services.
    pub services: &'a [ServiceView],
    /// By cluster name.
    pub clusters: &'a BTreeMap<String, ClusterTraffic>,
    /// All TrafficPolicies.
    pub policies: &'a [TrafficPolicy],
    /// Where clients are, and what is near to them.
    pub places: &'a Places,
    /// Measured round-trip times.
    pub latency: &'a Latency,
    /// [`super::TrafficDecision::memory`] of the last decision.
    pub previous: &'a Memory,
    /// Epoch of this decision.
    pub epoch: u64,
    /// Why nothing may move now.
    pub frozen: Option<&'a str>,
    /// Unix milliseconds.
    pub now_ms: i64,
}

impl<'a> TrafficInput<'a> {
    /// Splits `--dns-zone` into the federation's name and the suffix.
    pub fn split_zone(dns_zone: &'a str) -> Option<(&'a str, &'a str)> {
        let (federation, suffix) = dns_zone.trim_end_matches('.').split_once('.')?;
        (!federation.is_empty() && !suffix.is_empty()).then_some((federation, suffix))
    }
}

/// A server of the zones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameServer {
    /// Fully qualified host name.
    pub name: String,
    /// Its addresses; published where the name is inside a zone.
    pub addresses: Vec<IpAddr>,
}

/// One federated Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its ports, in order.
    pub ports: Vec<ServicePort>,
    /// By cluster name: what the clusters that it is placed on say.
    pub backends: BTreeMap<String, Backend>,
}

/// One endpoint of a headless Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// Its hostname, or its first address as a label.
    pub host: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// A port of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty if it is the only one and has none.
    pub name: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Where users connect to, if the cluster says nothing else.
    pub number: u16,
}

/// A Service in one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backend {
    /// Ready endpoints.
    pub ready_endpoints: u32,
    /// Addresses that users can connect to, and names where there are none: see [`super::Address`]. What is neither is left out, and said so.
    pub addresses: Vec<String>,
    /// Ports by which users reach it there in place of the Service's own (node ports), by the port's name.
    pub ports: BTreeMap<String, u16>,
    /// Of a headless Service: its ready endpoints.
    pub endpoints: Vec<Endpoint>,
    /// The copy is gone.
    pub absent: bool,
    /// It leaves the cluster by decision, or its workloads do: see [`super::left`].
    pub leaving: bool,
    /// What those who probe the addresses say together, if they agree.
    pub probe: Option<Probe>,
}

impl ServiceView {
    /// The number by which users reach a port in a cluster; an empty name of a cluster is for what is in none.
    pub fn port_in(&self, port: &ServicePort, cluster: &str) -> u16 {
        let there = self.backends.get(cluster).and_then(|backend| backend.ports.get(&port.name));
        there.copied().unwrap_or(port.number)
    }
}

/// The quorum of the data plane on one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Users are served there.
    pub passing: bool,
    /// Milliseconds since the quorum was last heard. After [`super::PROBE_STALE_MS`] it says nothing.
    pub age_ms: i64,
    /// For people.
    pub message: String,
}

/// A cluster, as far as traffic goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterTraffic {
    /// The one verdict.
    pub verdict: Verdict,
    /// Probes see users of some Service served there.
    pub users_served: bool,
    /// spec.trafficWeight; 0 means no answers.
    pub weight: Option<u32>,
    /// spec.region.
    pub region: String,
    /// spec.zone.
    pub zone: String,
    /// A NoExecute taint: users go elsewhere as soon as somebody else serves.
    pub draining: bool,
    /// spec.addresses: for Services that have none themselves.
    pub addresses: Vec<String>,
    /// Unix milliseconds at which the verdict may turn, if something points that way already.
    pub turn_ms: Option<i64>,
}
