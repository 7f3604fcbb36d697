//! Dividing replicas over clusters: Kubernetes Federation v1's planner, with one defect mended.
//!
//! Clusters are taken by weight, the heaviest first; ties are broken by the 32-bit FNV-1 hash of cluster name and key, so that
//! single-replica objects do not all land in the cluster that comes first in the alphabet. In that order each gets its minimum; then,
//! unless `rebalance` is set, what already runs is kept; what is left is divided by weight in rounds, rounding up. A cluster
//! that reaches its maximum or its capacity leaves the next round, and what its capacity turned away is counted as overflow.
//!
//! Mended: v1 gave minima before it looked at what runs, and so could kill running replicas to start others elsewhere although
//! there were enough for all. Here, while no more replicas run than are wanted, what runs is kept first, and a replica that runs has
//! proven that it fits, whatever the capacity estimate says. Where more run than are wanted the order is v1's.

use std::collections::BTreeMap;

use serde_json::Value;
use thiserror::Error;

use crate::api::{ClusterShare, ReplicaPolicy};

/// The share of every cluster that has none of its own.
pub const EVERY_OTHER: &str = "*";

/// What users say of the division.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preferences {
    /// Move running replicas when the wanted division changes.
    pub rebalance: bool,
    /// By cluster name; [`EVERY_OTHER`] stands for those not named. A cluster that no entry covers gets 0.
    pub clusters: BTreeMap<String, ClusterShare>,
}

/// One question to the planner.
#[derive(Clone, Debug)]
pub struct PlanRequest<'a> {
    /// The users' preferences.
    pub preferences: &'a Preferences,
    /// Replicas to divide.
    pub replicas: i64,
    /// Clusters that may get some.
    pub clusters: &'a [String],
    /// Replicas that run now.
    pub current: &'a BTreeMap<String, i64>,
    /// At most so many fit; a cluster that is absent has no bound.
    pub capacity: &'a BTreeMap<String, i64>,
    /// What is divided: `namespace/name`. Only breaks ties.
    pub key: &'a str,
}

/// The planner's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// An entry for every cluster asked about.
    pub replicas: BTreeMap<String, i64>,
    /// Replicas that a cluster's capacity turned away. Without `rebalance`, only what found no place anywhere else.
    pub overflow: BTreeMap<String, i64>,
    /// Why each cluster got what it got, for people.
    pub reasons: BTreeMap<String, String>,
}

/// Divides. Total: the sum of the plan never exceeds `replicas`, and may be less where maxima, capacities or zero weights say so.
pub fn plan(request: &PlanRequest<'_>) -> Plan {
    let mut plan = Plan::default();
    let mut shares = shares(request, &mut plan);
    let mut remaining = request.replicas.max(0);
    keep_and_fill_minima(request, &mut shares, &mut remaining);
    distribute(&mut shares, &mut remaining);

    for share in shares {
        let overflow =
            if request.preferences.rebalance { share.overflow } else { share.overflow.min(remaining) };
        if overflow > 0 {
            plan.overflow.insert(share.name.to_owned(), overflow);
        }
        plan.reasons.insert(share.name.to_owned(), share.explain());
        plan.replicas.insert(share.name.to_owned(), share.planned);
    }
    plan
}

struct Share<'a> {
    name: &'a str,
    hash: u32,
    weight: i64,
    minimum: i64,
    maximum: Option<i64>,
    capacity: Option<i64>,
    current: i64,
    planned: i64,
    /// Given because it runs, and still to be counted against the cluster's weight.
    preallocated: i64,
    kept: i64,
    overflow: i64,
    full: bool,
}

impl Share<'_> {
    /// The most that may be kept of what runs.
    fn keepable(&self) -> i64 {
        bounded(bounded(self.current, self.maximum), self.capacity)
    }

    fn explain(&self) -> String {
        let mut text = format!("weight {}", self.weight);
        if self.minimum > 0 {
            text += &format!(", minimum {}", self.minimum);
        }
        if self.kept > 0 {
            text += &format!(", {} kept that run", self.kept);
        }
        if let Some(maximum) = self.maximum.filter(|maximum| self.planned >= *maximum) {
            text += &format!(", at its maximum of {maximum}");
        }
        if self.overflow > 0 {
            text += &format!(", {} more did not fit", self.overflow);
        }
        text
    }
}

/// The clusters that some preference covers, in the order in which they are served.
fn shares<'a>(request: &PlanRequest<'a>, plan: &mut Plan) -> Vec<Share<'a>> {
    let preferences = &request.preferences.clusters;
    let mut shares = Vec::with_capacity(request.clusters.len());
    for name in request.clusters {
        let Some(preference) = preferences.get(name).or_else(|| preferences.get(EVERY_OTHER)) else {
            plan.replicas.insert(name.clone(), 0);
            plan.reasons.insert(name.clone(), "no preference names it, and there is no \"*\"".into());
            continue;
        };
        let current = request.current.get(name).copied().unwrap_or_default().max(0);
        let mut capacity = request.capacity.get(name).map(|capacity| (*capacity).max(0));
        if !request.preferences.rebalance {
            capacity = capacity.map(|capacity| capacity.max(bounded(current, preference.max_replicas)));
        }
        shares.push(Share {
            name,
            hash: fnv1_32(name.bytes().chain(request.key.bytes())),
            weight: preference.weight.max(0),
            minimum: preference.min_replicas.max(0),
            maximum: preference.max_replicas.map(|maximum| maximum.max(0)),
            capacity,
            current,
            planned: 0,
            preallocated: 0,
            kept: 0,
            overflow: 0,
            full: false,
        });
    }
    shares.sort_by(|a, b| b.weight.cmp(&a.weight).then(a.hash.cmp(&b.hash)).then(a.name.cmp(b.name)));
    shares
}

fn keep_and_fill_minima(request: &PlanRequest<'_>, shares: &mut [Share<'_>], remaining: &mut i64) {
    let running: i64 = shares.iter().map(Share::keepable).sum();
    let keep_first = !request.preferences.rebalance && running <= *remaining;
    if keep_first {
        for share in shares.iter_mut() {
            share.planned = share.keepable();
            *remaining -= share.planned;
        }
    }
    for share in shares.iter_mut() {
        let minimum = bounded(share.minimum, share.capacity);
        let more = (minimum - share.planned).clamp(0, *remaining);
        share.kept = (share.planned - minimum).max(0);
        share.preallocated = share.kept;
        share.planned += more;
        *remaining -= more;
    }
    if !request.preferences.rebalance && !keep_first {
        for share in shares.iter_mut() {
            let more = (share.keepable() - share.planned).clamp(0, *remaining);
            share.kept = more;
            share.preallocated = more;
            share.planned += more;
            *remaining -= more;
        }
    }
}

/// Rounds of division by weight. Each round either fills a cluster, or uses up at least half of what was preallocated, or is the last.
fn distribute(shares: &mut [Share<'_>], remaining: &mut i64) {
    let mut modified = true;
    while modified && *remaining > 0 {
        modified = false;
        let weights: i128 =
            shares.iter().filter(|share| !share.full).map(|share| i128::from(share.weight)).sum();
        if weights == 0 {
            return;
        }
        let pot = i128::from(*remaining);
        for share in shares.iter_mut().filter(|share| !share.full) {
            let due = (pot * i128::from(share.weight) + weights - 1) / weights;
            let due = i64::try_from(due).unwrap_or(i64::MAX).min(*remaining);
            let covered = due.min(share.preallocated);
            share.preallocated -= covered;
            modified |= covered > 0;

            let mut total = share.planned + due - covered;
            if let Some(maximum) = share.maximum.filter(|maximum| total > *maximum) {
                total = maximum;
                share.full = true;
            }
            if let Some(capacity) = share.capacity.filter(|capacity| total > *capacity) {
                share.overflow = total - capacity;
                total = capacity;
                share.full = true;
            }
            modified |= total > share.planned;
            *remaining -= total - share.planned;
            share.planned = total;
        }
    }
}

fn bounded(value: i64, bound: Option<i64>) -> i64 {
    bound.map_or(value, |bound| value.min(bound))
}

/// FNV-1 with 32 bits (not FNV-1a), as Go's `fnv.New32`.
fn fnv1_32(bytes: impl Iterator<Item = u8>) -> u32 {
    bytes.fold(0x811c_9dc5, |hash: u32, byte| hash.wrapping_mul(0x0100_0193) ^ u32::from(byte))
}

impl Default for PlanRequest<'_> {
    fn default() -> Self {
        static NONE: BTreeMap<String, i64> = BTreeMap::new();
        static EQUAL: Preferences = Preferences { rebalance: false, clusters: BTreeMap::new() };
        Self { preferences: &EQUAL, replicas: 0, clusters: &[], current: &NONE, capacity: &NONE, key: "" }
    }
}

impl Preferences {
    /// Every cluster with the same weight.
    pub fn equal() -> Self {
        let share = ClusterShare { weight: 1, ..Default::default() };
        Self { rebalance: false, clusters: BTreeMap::from([(EVERY_OTHER.to_owned(), share)]) }
    }

    /// Reads Federation v1's annotation. Its struct had no JSON tags, so Go took the keys without regard to case; so does this.
    pub fn from_v1(text: &str) -> Result<Self, PreferencesError> {
        let value: Value =
            serde_json::from_str(text).map_err(|error| PreferencesError::Json(error.to_string()))?;
        let fields = value.as_object().ok_or_else(|| PreferencesError::field("", "must be a JSON object"))?;
        let mut preferences = Self::equal();
        for (key, value) in fields {
            if key.eq_ignore_ascii_case("rebalance") {
                preferences.rebalance = value
                    .as_bool()
                    .ok_or_else(|| PreferencesError::field("rebalance", "must be true or false"))?;
            } else if key.eq_ignore_ascii_case("clusters") && !value.is_null() {
                let clusters = value.as_object().ok_or_else(|| {
                    PreferencesError::field("clusters", "must be an object of cluster names")
                })?;
                preferences.clusters = clusters
                    .iter()
                    .map(|(name, share)| Ok((name.clone(), v1_share(&format!("clusters.{name}"), share)?)))
                    .collect::<Result<_, _>>()?;
            }
        }
        Ok(preferences)
    }

    /// The preferences of a policy; equal weights where it names no clusters.
    pub fn from_policy(policy: &ReplicaPolicy) -> Self {
        let clusters =
            if policy.clusters.is_empty() { Self::equal().clusters } else { policy.clusters.clone() };
        Self { rebalance: policy.rebalance, clusters }
    }
}

/// Why preferences were refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PreferencesError {
    /// The text is no JSON.
    #[error("not JSON: {0}")]
    Json(String),
    /// A field has a value that makes no sense.
    #[error("{field}: {rule}")]
    Field {
        /// Path of the field inside the JSON.
        field: String,
        /// What it must be.
        rule: &'static str,
    },
}

impl PreferencesError {
    fn field(field: &str, rule: &'static str) -> Self {
        Self::Field { field: if field.is_empty() { "value".into() } else { field.into() }, rule }
    }
}

fn v1_share(path: &str, value: &Value) -> Result<ClusterShare, PreferencesError> {
    let fields = value.as_object().ok_or_else(|| PreferencesError::field(path, "must be an object"))?;
    let number = |name: &str| -> Result<Option<i64>, PreferencesError> {
        let found = fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        match found {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_i64().filter(|number| *number >= 0).map(Some).ok_or_else(|| {
                PreferencesError::field(&format!("{path}.{name}"), "must be a whole number, at least 0")
            }),
        }
    };
    let share = ClusterShare {
        weight: number("weight")?.unwrap_or_default(),
        min_replicas: number("minReplicas")?.unwrap_or_default(),
        max_replicas: number("maxReplicas")?,
    };
    if share.max_replicas.is_some_and(|maximum| maximum < share.min_replicas) {
        return Err(PreferencesError::field(&format!("{path}.maxReplicas"), "must be at least minReplicas"));
    }
    Ok(share)
}
