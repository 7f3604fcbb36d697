//! Zones from services' states, verdicts and policies: which clusters the users of a Service are sent to.
//!
//! A cluster serves a Service if its verdict is Healthy, an endpoint is ready, and it has an address. Exceptions, all on the side of
//! answering:
//! - while nothing may move (mass failure), and where nothing serves any more, the *last answer stays*;
//! - a verdict that is not known yet (a restarted controller) keeps what was answered;
//! - a draining cluster is answered as long as no other one serves.
//!
//! Only its user makes a name go away, by deleting the Service or the policy.
//!
//! # Names
//!
//! The first label of `--dns-zone` is the federation's name, the rest the suffix. For `fed.example.test`:
//!
//! | name | zone | answered by |
//! |---|---|---|
//! | hostnames of a TrafficPolicy | `fed.example.test.` | all clusters |
//! | `<svc>.<ns>.svc.fed.example.test.` | `fed.example.test.` | all clusters |
//! | `<svc>.<ns>.fed.svc.example.test.` | `fed.svc.example.test.` | all clusters |
//! | `<svc>.<ns>.fed.svc.<region>.example.test.` | `fed.svc.<region>.example.test.` | the region's first, then all |
//! | `<svc>.<ns>.fed.svc.<zone>.<region>.example.test.` | `fed.svc.<zone>.<region>.example.test.` | the zone's first, the region's, then all |
//!
//! The last three are Federation v1's. It made a CNAME from the zone's name to the region's, and from there to the global one, when nothing
//! served nearby; here the tiers of one record set say the same, and the resolver is spared two questions. Each regional name has a zone
//! of its own, so that the federation never has to be authoritative for the whole suffix, which is somebody else's.

mod choose;
mod zone;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::api::{Strategy, TrafficPolicy, Verdict};

pub use zone::{Choice, RecordSet, RecordType, Selection, Tier, Zone, serial};

/// Weight of a cluster whose operator says nothing.
pub const DEFAULT_WEIGHT: u32 = 100;

/// Everything that the answers are made from.
#[derive(Clone, Debug)]
pub struct TrafficInput<'a> {
    /// The federation's name: the first label of `--dns-zone`.
    pub federation: &'a str,
    /// The rest of `--dns-zone`, without a final dot.
    pub suffix: &'a str,
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
    /// [`TrafficDecision::answers`] of the last decision.
    pub previous: &'a Answers,
    /// Epoch of this decision.
    pub epoch: u64,
    /// Why nothing may move now.
    pub frozen: Option<&'a str>,
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
    /// By cluster name: what the clusters that it is placed on say.
    pub backends: BTreeMap<String, Backend>,
}

/// A Service in one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backend {
    /// Ready endpoints.
    pub ready_endpoints: u32,
    /// Literal addresses that users can connect to. What is no IP address is left out, and said so.
    pub addresses: Vec<String>,
    /// The copy is gone.
    pub absent: bool,
}

/// A cluster, as far as traffic goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterTraffic {
    /// The one verdict.
    pub verdict: Verdict,
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
}

/// What is answered: by `namespace/service`, by cluster, its addresses. Kept from one decision to the next, over restarts too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Answers(pub BTreeMap<String, BTreeMap<String, Vec<IpAddr>>>);

/// The answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrafficDecision {
    /// All zones, whole, by origin.
    pub zones: Vec<Zone>,
    /// To be given back as [`TrafficInput::previous`].
    pub answers: Answers,
    /// By policy, `namespace/name`: the clusters that may be answered now, in order. With Failover only the first tier.
    pub answering: BTreeMap<String, Vec<String>>,
    /// Why each cluster is answered, or not.
    pub explanations: Vec<Explanation>,
}

impl TrafficDecision {
    /// Whether some answer for the Service points at the cluster.
    pub fn points_at(&self, namespace: &str, service: &str, cluster: &str) -> bool {
        self.answers
            .0
            .get(&format!("{namespace}/{service}"))
            .is_some_and(|clusters| clusters.contains_key(cluster))
    }
}

/// Why a cluster is answered for a Service, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// `namespace/service`, or `namespace/policy` for what is wrong with a policy.
    pub object: String,
    /// The cluster; empty if it is about the object.
    pub cluster: String,
    /// Whether it is answered.
    pub answered: bool,
    /// `Serving`, `LastAnswerKept`, `Draining`, `NotReady`, `NoEndpoints`, `NoAddress`, `Absent`, `WeightZero`, `Frozen`, `Hostname`, `Label`.
    pub rule: &'static str,
    /// For people.
    pub message: String,
}

/// Decides. Pure.
pub fn zones(input: &TrafficInput<'_>) -> TrafficDecision {
    let mut decision = TrafficDecision::default();
    let mut zones = zone::Builder::new(input);
    for service in input.services {
        let chosen = choose::backends(input, service, &mut decision.explanations);
        let key = format!("{}/{}", service.namespace, service.name);
        let mut policies: Vec<&TrafficPolicy> = input
            .policies
            .iter()
            .filter(|policy| {
                policy.metadata.namespace.as_deref() == Some(&service.namespace)
                    && policy.spec.service == service.name
            })
            .collect();
        // The oldest policy speaks for the Service's own names, and keeps a hostname that two of them want.
        policies.sort_by_key(|policy| {
            let created = policy.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (created.is_none(), created, policy.name().to_owned())
        });
        let plain = TrafficPolicy::default();
        zones.service(
            service,
            &chosen,
            policies.first().copied().unwrap_or(&plain),
            &mut decision.explanations,
        );
        for policy in policies {
            let name = format!("{}/{}", service.namespace, policy.name());
            decision.answering.insert(name, answering(input, policy, &chosen));
        }
        if !chosen.is_empty() {
            decision.answers.0.insert(key, chosen);
        }
    }
    zones.hostnames(input, &decision.answers, &mut decision.explanations);
    decision.zones = zones.finish();
    decision
}

/// The clusters that a policy answers with now.
fn answering(
    input: &TrafficInput<'_>,
    policy: &TrafficPolicy,
    chosen: &BTreeMap<String, Vec<IpAddr>>,
) -> Vec<String> {
    match policy.spec.strategy {
        Strategy::Failover => {
            zone::failover_tiers(&policy.spec.order, chosen.keys()).into_iter().next().unwrap_or_default()
        }
        Strategy::Weighted => {
            let share = |cluster: &&String| zone::weight(input, &policy.spec, cluster) > 0;
            let weighted: Vec<String> = chosen.keys().filter(share).cloned().collect();
            // Where all weights are 0 each counts the same: never empty.
            if weighted.is_empty() { chosen.keys().cloned().collect() } else { weighted }
        }
        Strategy::All => chosen.keys().cloned().collect(),
    }
}

/// The regions, and the zones of each, that clusters are in; what is no DNS label is left out.
fn places(input: &TrafficInput<'_>) -> BTreeMap<String, BTreeSet<String>> {
    let mut places: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for cluster in input.clusters.values().filter(|cluster| zone::is_label(&cluster.region)) {
        let zones = places.entry(cluster.region.clone()).or_default();
        if zone::is_label(&cluster.zone) {
            zones.insert(cluster.zone.clone());
        }
    }
    places
}

#[cfg(test)]
mod tests;
