//! Which clusters an object goes to, with how many replicas, and why.
//!
//! [`standing`] classifies each cluster by what may happen to the object there, [`divide`] (or [`exclusive`], for workloads that may run in only
//! one cluster at a time) distributes the replicas, and this file assembles the decision. `recover` is for stores restored from a backup,
//! [`withdrawn`] for copies that are wanted again while they are to go.
//!
//! Invariants:
//! - *Sticky*: the last decision is an input, and an unrelated change moves nothing. Changing readiness never moves a replica; only the
//!   users' input, and lasting verdicts, do.
//! - *Surge before removal*: replicas leave a cluster only as far as ready replicas elsewhere replace them.
//! - *Do no harm*: an unreachable cluster is not lost. A cluster with a bad verdict keeps its target: unchanged until `evictAfter`, and then
//!   as `leaving`, so that it is reconciled and not wiped when it returns.

mod divide;
mod exclusive;
mod recover;
mod standing;
mod withdrawn;

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{
    ClusterPlacementPolicy, ClusterSpec, ClusterTarget, Conflict, FailoverPreference, Lease, Override,
    PlacementPolicy, PlacementPolicySpec, PlacementSpec, Propagation, Reason, ReplicaMode, Verdict, marks,
};
use crate::labels::{self, Labels, Requirement};
use crate::planner::Preferences;
use crate::select;
use crate::template::Template;

pub use exclusive::takeover_ms;
pub use recover::{Claim, Witness, is_doubtful, recover};
pub use standing::{Standing, rules};
pub use withdrawn::{Withdrawals, Withdrawn, is_new, is_of_given, still_held};

/// What the decision needs to know of one member cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterView {
    /// The Cluster's name.
    pub name: String,
    /// Labels of the Cluster object.
    pub labels: Labels,
    /// What its operator says.
    pub spec: ClusterSpec,
    /// The one verdict.
    pub verdict: Verdict,
    /// When the verdict became what it is, in Unix milliseconds.
    pub since_ms: i64,
    /// Probes see users served there: whatever the verdict, nothing needs to move.
    pub users_served: bool,
    /// Served APIs, as in `Cluster.status.apis`; empty while they are not known.
    pub apis: Vec<String>,
    /// Its agent has connected with a certificate.
    pub joined: bool,
    /// When an operator last said that it may have its shares again, Unix milliseconds.
    pub failback_ms: Option<i64>,
    /// A drill says that it is lost: once that is over, it was not.
    pub rehearsed: bool,
    /// Its Cluster object cannot be read: nothing else is known of it.
    pub unread: bool,
}

/// What runs in one cluster, from a report of its present session. Reports of earlier sessions do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Replicas that exist.
    pub replicas: i64,
    /// Replicas that are ready.
    pub ready: i64,
    /// It has said so of the copy that the last decision wants, not of one that an earlier decision wanted.
    pub of_last_decision: bool,
    /// Since when it has said, of the copy that the last decision wants, that no replica exists; Unix milliseconds.
    pub down_since_ms: Option<i64>,
}

/// Defaults from the controller's flags, for what policies leave unset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// Milliseconds of a bad verdict after which replicas are placed elsewhere.
    pub evict_after_ms: i64,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { evict_after_ms: 300_000 }
    }
}

/// All inputs of one decision.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The object.
    pub template: &'a Template,
    /// All PlacementPolicies of its namespace (others do no harm).
    pub policies: &'a [PlacementPolicy],
    /// All ClusterPlacementPolicies.
    pub cluster_policies: &'a [ClusterPlacementPolicy],
    /// All clusters, in any order.
    pub clusters: &'a [ClusterView],
    /// The last decision for this object.
    pub current: Option<&'a PlacementSpec>,
    /// By cluster name.
    pub observed: &'a BTreeMap<String, Observed>,
    /// Clusters to which no DNS answer, including cached ones, sends users of this object any more.
    pub traffic_drained: &'a BTreeSet<String>,
    /// By cluster name: milliseconds since its agent's leases can last have been renewed. Absent: just now.
    pub silent_ms: &'a BTreeMap<String, i64>,
    /// Flags.
    pub defaults: Defaults,
    /// Why nothing may move now; see [`crate::health::Verdicts::frozen`].
    pub frozen: Option<&'a str>,
    /// Why no cluster gives up replicas that the store does not ask for any more: it was restored from a backup. What is lost is replaced all
    /// the same.
    pub restored: Option<&'a str>,
    /// Unix milliseconds.
    pub now_ms: i64,
}

/// The decision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// Targets, ordered by name. A cluster that was in the last decision and is no longer here has been given up: its copy may be removed,
    /// through the gate.
    pub clusters: Vec<ClusterTarget>,
    /// Why, one for each cluster, ordered by name.
    pub reasons: Vec<Reason>,
    /// Hash of what users wrote and of how each cluster stands: what the decision tends to. Readiness, which only sets the pace at
    /// which it gets there, is left out, so that a Placement is not written for each replica that becomes ready.
    pub inputs_hash: String,
    /// The policy that decided; empty for the defaults.
    pub policy: String,
    /// Its metadata.generation.
    pub policy_generation: Option<i64>,
    /// It is a PlacementPolicy, which people write who may write in its namespace, not a ClusterPlacementPolicy.
    pub policy_of_namespace: bool,
    /// What to do with objects that are not ours.
    pub conflict: Conflict,
    /// What a delete without a propagation policy does.
    pub deletion: Propagation,
    /// The policy's overrides, for [`crate::render::render`].
    pub overrides: Vec<Override>,
    /// The agents' lease on an object that may run in one cluster at a time.
    pub lease: Option<Lease>,
    /// When the decision must be made again even if no input changes, in Unix milliseconds.
    pub next_check_ms: Option<i64>,
}

impl Decision {
    /// The lease as agents are told it: milliseconds; 0 where there is none.
    pub fn lease_ms(&self) -> u32 {
        let lease_ms = self.lease.and_then(|lease| lease.lease_ms);
        lease_ms.map_or(0, |lease_ms| u32::try_from(lease_ms).unwrap_or(u32::MAX))
    }

    /// Whether the object does not go to a cluster only because it cannot be told yet whether it may. Another decision will, with nobody
    /// having wished anything else.
    pub fn is_undecided(&self, cluster: &str) -> bool {
        let passing = [rules::CLUSTER_UNREAD, rules::NOT_JOINED, rules::NOT_READY, rules::INVALID_ANNOTATION];
        let is_passing = |reason: &Reason| !reason.selected && passing.contains(&reason.rule.as_str());
        self.reasons.iter().any(|reason| reason.cluster == cluster && is_passing(reason))
    }

    /// The Placement's spec for this decision.
    pub fn spec(&self, template: &Template, epoch: u64) -> PlacementSpec {
        PlacementSpec {
            template: crate::api::TemplateReference {
                api_version: template.api_version.clone(),
                kind: template.kind.clone(),
                resource: template.resource.clone(),
                name: template.name.clone(),
                uid: template.uid.clone(),
            },
            clusters: self.clusters.clone(),
            inputs_hash: self.inputs_hash.clone(),
            policy: self.policy.clone(),
            policy_generation: self.policy_generation,
            lease: self.lease,
            epoch,
            adopted: Vec::new(),
            former: Vec::new(),
        }
    }
}

/// Decides. Pure; call it whenever an input changed, and at [`Decision::next_check_ms`].
pub fn place(request: &Request<'_>) -> Decision {
    let policy = select::policy(request.template, request.policies, request.cluster_policies);
    let silent = PlacementPolicySpec::default();
    let spec = policy.as_ref().map_or(&silent, |policy| policy.spec);
    let mut decision = Decision {
        policy: policy.as_ref().map(|policy| policy.name.clone()).unwrap_or_default(),
        policy_generation: policy.as_ref().and_then(|policy| policy.generation),
        policy_of_namespace: policy.as_ref().is_some_and(|policy| policy.of_namespace),
        conflict: spec.conflict.unwrap_or_default(),
        deletion: spec.deletion.unwrap_or_default(),
        overrides: spec.overrides.clone(),
        ..Decision::default()
    };
    let wishes = match Wishes::read(request, spec) {
        Ok(wishes) => wishes,
        Err(message) => {
            // As v1: an object whose selector cannot be read is not synced at all. What is placed stays placed.
            hold(request, &message, &mut decision);
            return decision;
        }
    };
    let mut clusters: Vec<&ClusterView> = request.clusters.iter().collect();
    clusters.sort_by(|a, b| a.name.cmp(&b.name));
    let mut placed: Vec<Placed<'_>> = clusters
        .into_iter()
        .map(|cluster| {
            let held = request
                .current
                .and_then(|current| current.clusters.iter().find(|held| held.name == cluster.name));
            let verdict = standing::of(request, &wishes, cluster, held);
            Placed {
                cluster,
                held,
                standing: verdict.standing,
                replicas: None,
                leaving: false,
                lease: Lease::default(),
                reason: verdict.reason,
            }
        })
        .collect();

    decision.next_check_ms =
        placed.iter().filter_map(|placed| standing::deadline_ms(request, &wishes, placed)).min();
    match (request.template.replicas, wishes.mode) {
        (Some(replicas), _) if spec.failover.prefer == FailoverPreference::Exclusivity => {
            exclusive::exclusive(request, &wishes, replicas.max(0), &mut placed, &mut decision);
        }
        (Some(replicas), ReplicaMode::Divide) => {
            divide::divide(request, &wishes, replicas.max(0), &mut placed);
        }
        (Some(replicas), ReplicaMode::Duplicate) => divide::duplicate(request, replicas.max(0), &mut placed),
        (None, _) => divide::without_replicas(request, &mut placed),
    }

    decision.inputs_hash = inputs_hash(request, &decision, &placed);
    for placed in placed {
        if placed.standing != Standing::Refused {
            decision.clusters.push(ClusterTarget {
                name: placed.cluster.name.clone(),
                replicas: placed.replicas,
                leaving: placed.leaving,
                lost: placed.leaving && placed.is_lost(),
                lease: decision.lease.and_then(|told| (placed.lease != told).then_some(placed.lease)),
            });
        }
        decision.reasons.push(placed.reason);
    }
    decision
}

/// The users' settings, from policy and annotations.
struct Wishes<'a> {
    policy: &'a PlacementPolicySpec,
    v1_selector: Vec<Requirement>,
    preferences: Preferences,
    mode: ReplicaMode,
    evict_after_ms: i64,
}

impl<'a> Wishes<'a> {
    /// Federation v1's annotations stand on the object itself, and so win over a policy's replicas; the selector narrows further.
    fn read(request: &Request<'_>, policy: &'a PlacementPolicySpec) -> Result<Self, String> {
        let annotations = &request.template.annotations;
        let v1_selector = match annotations.get(marks::V1_CLUSTER_SELECTOR) {
            None => Vec::new(),
            Some(text) => labels::cluster_selector(text)
                .map_err(|error| format!("annotation {}: {error}", marks::V1_CLUSTER_SELECTOR))?,
        };
        let key = match request.template.kind.as_str() {
            "Deployment" => Some(marks::V1_DEPLOYMENT_PREFERENCES),
            "ReplicaSet" => Some(marks::V1_REPLICA_SET_PREFERENCES),
            _ => None,
        };
        let annotated = key.and_then(|key| annotations.get(key).map(|text| (key, text)));
        let (preferences, mode) = match annotated {
            Some((key, text)) => {
                let preferences =
                    Preferences::from_v1(text).map_err(|error| format!("annotation {key}: {error}"))?;
                (preferences, ReplicaMode::Divide)
            }
            None => (Preferences::from_policy(&policy.replicas), policy.replicas.mode),
        };
        let evict_after_ms = policy
            .failover
            .evict_after_seconds
            .map_or(request.defaults.evict_after_ms, |seconds| i64::from(seconds) * 1000);
        Ok(Self { policy, v1_selector, preferences, mode, evict_after_ms })
    }
}

/// One cluster during the decision.
struct Placed<'a> {
    cluster: &'a ClusterView,
    held: Option<&'a ClusterTarget>,
    standing: Standing,
    replicas: Option<i64>,
    leaving: bool,
    // Of what may run in one cluster at a time.
    lease: Lease,
    reason: Reason,
}

impl Placed<'_> {
    /// Replicas of the last decision.
    fn held_replicas(&self) -> i64 {
        self.held.and_then(|held| held.replicas).unwrap_or_default()
    }

    /// Whether it is replaced elsewhere because it was lost, in earnest.
    fn is_lost(&self) -> bool {
        let falls = self.cluster.verdict != Verdict::Healthy && !self.cluster.rehearsed;
        let was = self.held.is_some_and(|held| held.lost);
        was || (falls && matches!(self.reason.rule.as_str(), rules::EVICTED | rules::LEASE_LAPSED))
    }

    fn observed(&self, request: &Request<'_>) -> Option<Observed> {
        request.observed.get(&self.cluster.name).copied()
    }

    fn explain(&mut self, rule: &str, message: impl Into<String>) {
        self.reason.rule = rule.into();
        self.reason.message = message.into();
    }
}

/// Repeats the last decision.
fn hold(request: &Request<'_>, message: &str, decision: &mut Decision) {
    decision.clusters = request.current.map(|current| current.clusters.clone()).unwrap_or_default();
    for cluster in request.clusters {
        decision.reasons.push(Reason {
            cluster: cluster.name.clone(),
            selected: decision.clusters.iter().any(|held| held.name == cluster.name),
            rule: rules::INVALID_ANNOTATION.into(),
            message: message.into(),
        });
    }
    decision.reasons.sort_by(|a, b| a.cluster.cmp(&b.cluster));
    decision.inputs_hash = inputs_hash(request, decision, &[]);
}

fn inputs_hash(request: &Request<'_>, decision: &Decision, placed: &[Placed<'_>]) -> String {
    let template = request.template;
    let mut text = format!(
        "{}\0{}\0{}\0{:?}\0{:?}\0{}\0{:?}\0{:?}",
        template.api(),
        template.key(),
        template.uid,
        template.replicas,
        template.annotations.iter().filter(|(key, _)| key.contains("federation")).collect::<Vec<_>>(),
        decision.policy,
        decision.policy_generation,
        request.frozen.is_some(),
    );
    for placed in placed {
        let name = &placed.cluster.name;
        text += &format!("\0{name}\0{:?}\0{}", placed.standing, placed.reason.rule);
    }
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(text.as_bytes()))
}

#[cfg(test)]
mod tests;
