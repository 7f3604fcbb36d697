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
/// An answer is made in this order: `proximity` ranks the clusters for the client's region; `tiers` (or `order`) rank them within each
/// of these ranks; `health` leaves out those that do not serve; `strategy` picks from the first rank that is left. `safety` limits what
/// automation may withdraw, and `overrides` outrank everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficPolicySpec {
    /// Name of the Service, in the same namespace.
    pub service: String,
    /// Further host names for the Service, inside the federation's zone. `*.shop` matches every name below `shop` that does not exist otherwise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// How an answer is made from the clusters of the answering tier.
    pub strategy: Strategy,
    /// Clusters in one answer, for Weighted: 1 to 16, and 1 if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub picks: Option<u32>,
    /// Whether clients get nearby clusters first. ClientRegions objects define the regions of clients.
    #[serde(skip_serializing_if = "is_default")]
    pub proximity: Proximity,
    /// Short form of `tiers` for Failover: cluster names, best first, each a tier of its own. Clusters not named form the last tier.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<String>,
    /// Failover tiers, best first, for any strategy. Clusters in no tier form the last one. Mutually exclusive with `order`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<TrafficTier>,
    /// Weights within a tier, by cluster name, 0 to 1000; the Cluster's trafficWeight if not named. 0 means no traffic.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<String, u32>,
    /// TTL of answers in seconds; the zone's default if unset. It is shortened before a foreseeable change: the end of a drain or of a hold,
    /// the expiry of an override, a verdict that is about to change.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub ttl_seconds: Option<u32>,
    /// Lower bound for shortened TTLs, in seconds; 1 if unset. Not above ttlSeconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub min_ttl_seconds: Option<u32>,
    /// HTTPS and SVCB records (RFC 9460) for the Service, with address hints.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub service_bindings: Vec<ServiceBinding>,
    /// How probers look whether users are served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// What is done about clusters that do not serve.
    #[serde(skip_serializing_if = "is_default")]
    pub health: HealthRules,
    /// Limits on what automation may withdraw. Overrides, drains and weights are not limited.
    #[serde(skip_serializing_if = "is_default")]
    pub safety: SafetyRules,
    /// Manual overrides by cluster name. They outrank automation until they expire; see `fedctl traffic set`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub overrides: BTreeMap<String, TrafficOverride>,
}

/// How an answer is made from several clusters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Strategy {
    /// Each answer has one serving cluster (or `picks` of them), chosen by weight.
    #[default]
    Weighted,
    /// The first serving cluster in the order of tiers.
    Failover,
    /// Each answer has all serving clusters.
    All,
    /// One cluster by weight, the same for all clients of a network as long as it serves (rendezvous hashing of the client prefix).
    Sticky,
}

/// Whether clients get nearby clusters first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Proximity {
    /// The same clusters for all clients.
    #[default]
    None,
    /// The clusters of the client's region first, then all others together.
    Region,
    /// The clusters of the client's region first, then those of other regions: in the order that its ClientRegions object declares, else by
    /// distance.
    Nearest,
    /// By measured round-trip time from the client's region; regions without measurements follow, as with Nearest.
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
    /// A tier is in panic if less than this percentage of its weight serves; 50 if unset. 0 means never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub panic_percent: Option<u32>,
    /// What a tier in panic does.
    #[serde(skip_serializing_if = "is_default")]
    pub on_panic: PanicRule,
    /// What is answered when no cluster serves.
    #[serde(skip_serializing_if = "is_default")]
    pub all_down: AllDownRule,
    /// IP addresses for `allDown: Fallback`, for example of a static error page.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fallback: Vec<String>,
    /// Minimum number of seconds that a withdrawn cluster stays withdrawn after it serves again, while others serve; 0 to 86400.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86400))]
    pub minimum_hold_seconds: Option<u32>,
    /// Seconds in which the weight of a returning cluster rises from a tenth to its full value; 0 to 86400.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86400))]
    pub slow_start_seconds: Option<u32>,
    /// Seconds in which the weight of a draining cluster falls to zero; 0 to 86400.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86400))]
    pub drain_seconds: Option<u32>,
}

/// What a tier in panic does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PanicRule {
    /// Tiers that are not in panic come first. If there is none, the serving clusters of this tier are answered.
    #[default]
    NextTier,
    /// Health is ignored: all clusters of the tier that have an address are answered, on the assumption that the checks are wrong.
    IgnoreHealth,
}

/// What is answered when no cluster serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AllDownRule {
    /// The last answer is kept.
    #[default]
    LastKnown,
    /// All clusters that have an address.
    All,
    /// The addresses in `fallback`.
    Fallback,
    /// The name exists and has no addresses.
    NoData,
}

/// Limits on what automation may withdraw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SafetyRules {
    /// Minimum number of clusters that automation leaves in the answers, if there are that many; 0 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub min_clusters: Option<u32>,
    /// Percentage of the answered weight that automation may withdraw within one window; no limit if unset. With 30 and two equal clusters,
    /// neither is ever withdrawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_withdrawn_percent: Option<u32>,
    /// Length of the window in seconds, 1 to 86400; 60 if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub window_seconds: Option<u32>,
}

/// A manual override of one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficOverride {
    /// On: answered regardless of health. Off: not answered.
    pub state: SwitchState,
    /// Why it was set.
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

/// State of an override.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SwitchState {
    /// Answered.
    On,
    /// Not answered.
    #[default]
    Off,
}

/// What is answered at present.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficPolicyStatus {
    /// Generation that the controller last read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Clusters that are answered at present.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answering: Vec<String>,
    /// Epoch of the zone that says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Every cluster that has the Service, and why it is answered or not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<ClusterAnswer>,
    /// Problems of the policy itself, for example a hostname that another policy has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// Why one cluster is answered, or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterAnswer {
    /// The Cluster's name.
    pub name: String,
    /// Whether answers may contain it.
    pub answered: bool,
    /// The rule that decided, in one word.
    pub rule: String,
    /// The same for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// For `skip_serializing_if`.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
