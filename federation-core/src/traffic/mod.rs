//! DNS zones from Services' states, verdicts and policies: which clusters the users of a Service are sent to.
//!
//! # How an answer is decided
//!
//! `standing` (does the cluster serve?) → `choose` (hold, drain, [all down](crate::api::AllDownRule), safety, switches by hand) →
//! `pipeline` (ranks by nearness, failover tiers, panic, weights) → `zone` (names, record sets, variants for regions of clients).
//! Everything that depends on time says when it changes next ([`TrafficDecision::next_ms`]), and answers live no longer than until
//! they may have to change ([`ttl`](bounded)).
//!
//! A cluster serves a Service if no fresh [`Probe`] says otherwise, its verdict is Healthy (or probes say that users reach it though
//! the hub does not), an endpoint is ready, and it has an address. Exceptions, all on the side of answering:
//! - while nothing may move (mass failure), and where nothing serves any more, the *last answer stays*, unless the policy says what
//!   comes instead;
//! - a verdict that is not known yet (a restarted controller) keeps what was answered;
//! - a draining cluster, and one that the workloads behind the Service leave by decision, is answered as long as no other one serves.
//!
//! A name disappears only when its user deletes the Service or the policy, and becomes empty only by manual overrides.
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
//! With `--clusterset-zone` there is one zone more, of Multi-Cluster Services' names: see `zone/clusterset.rs`.
//!
//! Each has A and AAAA records, and the HTTPS and SVCB records of its policy's `serviceBindings`, at the name itself or at `<prefix>.<name>`. All of
//! them are made from the same tiers, so that hints never point elsewhere than addresses.
//!
//! A cluster whose load balancer says a name and no address is an alias: see `zone/alias.rs`.
//!
//! The last three are Federation v1's. When nothing served nearby, v1 answered with a CNAME from the zone's name to the region's, and from there
//! to the global one. Here the tiers of one record set have the same effect and save the resolver two queries. Each regional name has its own
//! zone, so that the federation need not be authoritative for the whole suffix, which belongs to others.

mod address;
mod choose;
mod content;
mod explain;
mod input;
mod latency;
mod leaving;
mod memory;
mod pipeline;
mod places;
mod prefix;
mod ramp;
mod record;
mod safety;
mod standing;
mod ttl;
mod zone;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::api::{ClusterAnswer, TrafficPolicy};

pub use address::{Address, AddressError, reached};
pub use explain::{Lookup, LookupError, Reason, lookup};
pub use input::{
    Backend, ClusterTraffic, Endpoint, NameServer, Probe, ServicePort, ServiceView, TrafficInput,
};
pub use latency::{HYSTERESIS_PERCENT, Latency, SAMPLE_STALE_MS, Sample};
pub use leaving::{Workload, left, selects};
pub use memory::{Answers, ClusterMemory, FrontMemory, Memory, Withdrawal};
pub use places::{CONTINENTS, PREFIXES_MAX, Places, REGIONS_MAX, is_country, is_region_name, location};
pub use prefix::{Prefix, PrefixError};
pub use ramp::{RAMP_STEPS, Ramp};
pub use record::{Choice, RecordSet, RecordType, Selection, Tier, Variant, Zone, serial};
pub use standing::PROBE_STALE_MS;
pub use ttl::{Bound, bounded};

use choose::{Chosen, Front};
use zone::Decided;

/// Weight of a cluster whose operator says nothing.
pub const DEFAULT_WEIGHT: u32 = 100;
/// Seconds below which no answer's life is shortened, if the policy says nothing.
pub const MIN_TTL_SECONDS: u32 = 1;

/// The answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrafficDecision {
    /// All zones, whole, by origin.
    pub zones: Vec<Zone>,
    /// To be given back as [`TrafficInput::previous`].
    pub memory: Memory,
    /// By policy, `namespace/name`: the clusters that may be answered now, in order: those of the first tier.
    pub answering: BTreeMap<String, Vec<String>>,
    /// Why each cluster is answered, or not.
    pub explanations: Vec<Explanation>,
    /// Whose each name is.
    pub owners: BTreeMap<String, Owner>,
    /// When to decide again though nothing was heard, Unix milliseconds.
    pub next_ms: Option<i64>,
}

impl TrafficDecision {
    /// Whether some answer for the Service points at the cluster.
    pub fn points_at(&self, namespace: &str, service: &str, cluster: &str) -> bool {
        self.memory
            .answers
            .0
            .get(&format!("{namespace}/{service}"))
            .is_some_and(|clusters| clusters.contains_key(cluster))
    }

    /// Gives the zones the serial of an epoch: nothing else of a decision depends on it.
    pub fn set_epoch(&mut self, epoch: u64) {
        for zone in &mut self.zones {
            zone.serial = serial(epoch);
        }
    }

    /// What the statuses of the policies say, by namespace and name of the policy.
    pub fn findings(&self) -> HashMap<(&str, &str), Findings> {
        let mut all: HashMap<(&str, &str), Findings> = HashMap::new();
        for why in self.explanations.iter().filter(|why| !why.policy.is_empty()) {
            let namespace = why.object.split('/').next().unwrap_or_default();
            let findings = all.entry((namespace, &why.policy)).or_default();
            if why.cluster.is_empty() {
                findings.problems.push(why.message.clone());
            } else {
                findings.clusters.push(ClusterAnswer {
                    name: why.cluster.clone(),
                    answered: why.answered,
                    rule: why.rule.to_owned(),
                    message: why.message.clone(),
                });
            }
        }
        all
    }
}

/// What there is to say of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Why each cluster is answered, or not.
    pub clusters: Vec<ClusterAnswer>,
    /// What is wrong with the policy itself.
    pub problems: Vec<String>,
}

/// Whose a name is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// `namespace/service`.
    pub service: String,
    /// Name of the TrafficPolicy that decides for it; empty if there is none.
    pub policy: String,
}

/// Why a cluster is answered for a Service, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// `namespace/service`, or `namespace/policy` for what is wrong with a policy.
    pub object: String,
    /// The policy's name; empty if there is none.
    pub policy: String,
    /// The cluster; empty if it is about the object.
    pub cluster: String,
    /// Whether it is answered.
    pub answered: bool,
    /// `Serving`, `ProbesPass`, `LastAnswerKept`, `Draining`, `Hold`, `NotReady`, `ProbesFail`, `NoEndpoints`, `NoAddress`, `Absent`,
    /// `WeightZero`, `Frozen`, `MinClusters`, `WithdrawalLimit`, `AllDown`, `Panic`, `SwitchedOn`, `SwitchedOff`; `Hostname`, `Label`.
    pub rule: &'static str,
    /// For people.
    pub message: String,
}

/// Decides. Pure.
pub fn zones(input: &TrafficInput<'_>) -> TrafficDecision {
    let mut decision = TrafficDecision::default();
    let mut zones = zone::Builder::new(input);
    let origins = zones.origins();
    let unset = TrafficPolicy::default();
    let plain = [&unset];
    let mut all: Vec<Decided<'_>> = Vec::new();
    let policies = by_service(input.policies);
    for service in input.services {
        let policies = policies.get(&(service.namespace.as_str(), service.name.as_str()));
        let policies = policies.map_or_else(|| plain.as_slice(), Vec::as_slice);
        let from = all.len();
        for &policy in policies {
            let front = Front { service, policy: policy.name(), spec: &policy.spec };
            let chosen = choose::choose(input, front, &origins, &mut decision.explanations);
            all.push(decide(input, front, chosen, &mut decision));
        }
        // The oldest policy speaks for the Service's own names.
        if let Some(first) = all.get(from) {
            zones.service(first, &mut decision.explanations);
            zones.clusterset(first);
        }
    }
    zones.hostnames(&all, &mut decision.explanations);
    decision.explanations.append(&mut zones.problems);
    (decision.zones, decision.owners) = zones.finish();
    decision
}

/// The policies of each Service that has some, by its namespace and name, oldest first.
fn by_service(policies: &[TrafficPolicy]) -> HashMap<(&str, &str), Vec<&TrafficPolicy>> {
    let mut all: HashMap<(&str, &str), Vec<&TrafficPolicy>> = HashMap::new();
    for policy in policies {
        let Some(namespace) = policy.metadata.namespace.as_deref() else { continue };
        all.entry((namespace, &policy.spec.service)).or_default().push(policy);
    }
    for policies in all.values_mut() {
        policies.sort_by_key(|policy| {
            let created = policy.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (created.is_none(), created, policy.name().to_owned())
        });
    }
    all
}

/// What follows for the memory, the status and the TTL.
fn decide<'a>(
    input: &TrafficInput<'_>,
    front: Front<'a>,
    mut chosen: Chosen,
    decision: &mut TrafficDecision,
) -> Decided<'a> {
    let tiers = pipeline::tiers(input, front.spec, &chosen, &[]);
    let mut answered: BTreeMap<String, Vec<Address>> =
        chosen.on.iter().map(|(cluster, on)| (cluster.clone(), on.addresses.clone())).collect();
    for share in tiers.iter().flatten() {
        if answered.contains_key(&share.cluster) {
            continue;
        }
        answered.insert(share.cluster.clone(), share.addresses.clone());
        let said = decision.explanations.iter_mut().rev().find(|why| {
            why.cluster == share.cluster && why.object == front.object() && why.policy == front.policy
        });
        if let Some(why) = said {
            why.message =
                format!("too little of its tier serves, and onPanic is IgnoreHealth, though {}", why.message);
            (why.answered, why.rule) = (true, "Panic");
        }
    }
    if !front.policy.is_empty() {
        let name = format!("{}/{}", front.service.namespace, front.policy);
        let first = tiers.first().into_iter().flatten().map(|share| share.cluster.clone());
        decision.answering.insert(name, first.collect());
    }
    if !answered.is_empty() {
        decision.memory.answers.0.entry(front.object()).or_default().extend(answered);
    }
    let wanted = front.spec.ttl_seconds.unwrap_or(input.ttl_seconds);
    let floor = front.spec.min_ttl_seconds.unwrap_or(MIN_TTL_SECONDS);
    let bound = bounded(wanted, floor, input.now_ms, chosen.turn_ms);
    for at_ms in [chosen.next_ms, bound.next_ms].into_iter().flatten() {
        decision.next_ms = Some(decision.next_ms.map_or(at_ms, |next| next.min(at_ms)));
    }
    decision.memory.fronts.insert(front.key(), std::mem::take(&mut chosen.memory));
    Decided { front, chosen, ttl: bound.ttl }
}

/// The regions, and the zones of each, that clusters are in; what is no DNS label is left out.
fn places_of_clusters(input: &TrafficInput<'_>) -> BTreeMap<String, BTreeSet<String>> {
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
mod properties;
#[cfg(test)]
mod tests;
