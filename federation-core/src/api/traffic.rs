//! The kind TrafficPolicy: which DNS answers users of one Service get.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resource::kind;
use super::{HealthCheck, ServiceBinding};

kind! {
    /// DNS answers for one Service.
    TrafficPolicy, "trafficpolicies", k8s_openapi::NamespaceResourceScope, TrafficPolicySpec, TrafficPolicyStatus
}

/// DNS answers for one Service. A Service without a TrafficPolicy is answered with the defaults.
///
/// The steps of one answer, in this order: `proximity` ranks the clusters for the client's region; `tiers` (or `order`) rank them
/// within each such rank; `health` leaves out who does not serve; `strategy` picks from the first rank that is left. `safety` and
/// `overrides` bound what automation may do to all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficPolicySpec {
    /// Name of the Service, in the same namespace.
    pub service: String,
    /// Host names inside the federation's zone, besides the Service's own names. `*.shop` stands for every name below `shop` that nothing else has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// How one answer is made from the clusters of the answering tier.
    pub strategy: Strategy,
    /// Clusters in one answer, for Weighted: 1 to 16, and 1 if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub picks: Option<u32>,
    /// Whether clients get clusters near to them first. Clients' regions are told by ClientRegions objects.
    #[serde(skip_serializing_if = "is_default")]
    pub proximity: Proximity,
    /// For Failover: cluster names, best first, each a tier of its own; clusters not named come last, together. Short for `tiers`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<String>,
    /// Failover tiers, best first, with any strategy; clusters that no tier names come last, together. Not together with `order`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<TrafficTier>,
    /// Shares among the clusters of one tier, by cluster name, 0 to 1000; the Cluster's trafficWeight if not named. 0 means none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<String, u32>,
    /// Seconds that an answer may be cached while nothing is about to change; the zone's default if unset. Before a change that is
    /// known to come (the end of a drain or of a hold, an override's expiry, a verdict that wavers) answers live shorter.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub ttl_seconds: Option<u32>,
    /// Seconds that an answer may always be cached; 1 if unset. Not above ttlSeconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub min_ttl_seconds: Option<u32>,
    /// HTTPS and SVCB records (RFC 9460) beside the addresses: how the Service is spoken to, with hints of the same addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub service_bindings: Vec<ServiceBinding>,
    /// How probers look whether users are served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// What is done about clusters that do not serve.
    #[serde(skip_serializing_if = "is_default")]
    pub health: HealthRules,
    /// Bounds to what automation may withdraw. Switches by hand, drains and weights are not bound.
    #[serde(skip_serializing_if = "is_default")]
    pub safety: SafetyRules,
    /// Switches by hand, by cluster name. They outrank automation until they expire; see `fedctl traffic set`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub overrides: BTreeMap<String, TrafficOverride>,
}

/// How one answer is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Strategy {
    /// All serving clusters, each answer one of them (or `picks`), by weight.
    #[default]
    Weighted,
    /// The first serving cluster in order.
    Failover,
    /// All serving clusters in each answer.
    All,
    /// One cluster by weight, the same for all clients of one network as long as it serves (rendezvous hashing by client prefix).
    Sticky,
}

/// Whether clients get clusters near to them first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Proximity {
    /// Everybody gets the same.
    #[default]
    None,
    /// The clusters of the client's region first, then all others together.
    Region,
    /// The clusters of the client's region first, then those of other regions in the order that its ClientRegions says: as declared,
    /// else by distance.
    Nearest,
    /// The regions of clusters by measured round-trip time from the client's region; unmeasured ones as with Nearest, after them.
    Latency,
}

/// Clusters of one failover rank.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficTier {
    /// Cluster names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<String>,
    /// Regions, all of whose clusters are of this rank.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<String>,
}

/// What is done about clusters that do not serve.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HealthRules {
    /// A tier of which less than this percentage (of weight) serves is in panic; 50 if unset, and 0 means never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub panic_percent: Option<u32>,
    /// What a tier in panic does.
    #[serde(skip_serializing_if = "is_default")]
    pub on_panic: PanicRule,
    /// What is answered when no cluster serves.
    #[serde(skip_serializing_if = "is_default")]
    pub all_down: AllDownRule,
    /// IP addresses for `allDown: Fallback`, for example of a page that says sorry.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fallback: Vec<String>,
    /// Seconds for which a cluster that was withdrawn stays away at least, though it serves again, while others serve; 0 to 86400.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86400))]
    pub minimum_hold_seconds: Option<u32>,
    /// Seconds in which the weight of a cluster that came back rises from a tenth to the whole; 0 to 86400.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86400))]
    pub slow_start_seconds: Option<u32>,
    /// Seconds in which the weight of a draining cluster falls to none; 0 to 86400.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86400))]
    pub drain_seconds: Option<u32>,
}

/// What a tier in panic does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PanicRule {
    /// It comes after the tiers that are not in panic; those of it that serve are answered if there is no such tier.
    #[default]
    NextTier,
    /// Health is ignored in it: all its clusters with an address are answered, because so many at once are rather a fault of the checks.
    IgnoreHealth,
}

/// What is answered when no cluster serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AllDownRule {
    /// What was answered last.
    #[default]
    LastKnown,
    /// All clusters that have an address.
    All,
    /// The addresses in `fallback`.
    Fallback,
    /// No address: the name exists, and has none.
    NoData,
}

/// Bounds to what automation may withdraw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SafetyRules {
    /// Automation leaves at least so many clusters in the answers, if so many are there; 0 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub min_clusters: Option<u32>,
    /// Percentage, by weight, of what is answered that automation may withdraw in one window; no bound if unset. With 30 and two equal
    /// clusters neither is ever withdrawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_withdrawn_percent: Option<u32>,
    /// Seconds of the window, 1 to 86400; 60 if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub window_seconds: Option<u32>,
}

/// A switch by hand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficOverride {
    /// On: answered whatever its health. Off: not answered.
    pub state: SwitchState,
    /// Why, for those who find it later.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Who set it: the user of the request, written by the API server.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// Since when, written by the API server.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub since: Option<Time>,
    /// When it ends by itself; never if unset. The controller removes expired ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub until: Option<Time>,
}

impl TrafficOverride {
    /// Whether it has ended.
    pub fn is_over(&self, now_ms: i64) -> bool {
        self.until_ms().is_some_and(|until| until <= now_ms)
    }

    /// When it ends, Unix milliseconds.
    pub fn until_ms(&self) -> Option<i64> {
        self.until.as_ref().map(|until| until.0.as_millisecond())
    }
}

/// Positions of a switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SwitchState {
    /// Answered.
    On,
    /// Not answered.
    #[default]
    Off,
}

/// What is answered now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficPolicyStatus {
    /// Generation that the controller last read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Clusters that are answered now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answering: Vec<String>,
    /// Epoch of the zone that says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Every cluster that has the Service, and why it is answered or not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<ClusterAnswer>,
    /// What is wrong with the policy itself, for example a hostname that another one has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// Why one cluster is answered, or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterAnswer {
    /// The Cluster's name.
    pub name: String,
    /// Whether answers may hold it.
    pub answered: bool,
    /// The rule that decided, in one word.
    pub rule: String,
    /// The same for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// What says nothing is not written.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
