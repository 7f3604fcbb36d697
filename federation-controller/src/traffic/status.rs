//! Writes the TrafficPolicies' statuses, and removes expired overrides from their specs.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value, json};

use federation_core::api::{API_VERSION, ClientRegionsStatus, TrafficPolicy, TrafficPolicyStatus};
use federation_core::traffic::{Findings, Places};
use federation_runtime::clock;

use super::{Published, TrafficContext};

/// What each object was told last.
#[derive(Default)]
pub(super) struct Told {
    policies: BTreeMap<String, TrafficPolicyStatus>,
    regions: BTreeMap<String, ClientRegionsStatus>,
}

impl Told {
    /// Tells each TrafficPolicy what is answered for it now.
    pub(super) async fn policies(&mut self, context: &TrafficContext, last: &Published) {
        let Published { decision, policies, .. } = last;
        let mut findings = decision.findings();
        for policy in policies.iter() {
            let (namespace, name) = named(policy);
            let name = format!("{namespace}/{name}");
            let Findings { clusters, problems } =
                findings.remove(&(namespace, policy.name())).unwrap_or_default();
            let mut status = TrafficPolicyStatus {
                observed_generation: policy.metadata.generation,
                answering: decision.answering.get(&name).cloned().unwrap_or_default(),
                epoch: None,
                clusters,
                problems,
            };
            if !decision.answering.contains_key(&name) {
                let service = &policy.spec.service;
                status.problems.push(format!("there is no federated Service {namespace}/{service}"));
            }
            // A new epoch that says the same is no news.
            if self
                .policies
                .get(&name)
                .is_some_and(|told| TrafficPolicyStatus { epoch: None, ..told.clone() } == status)
            {
                continue;
            }
            status.epoch = Some(last.epoch);
            let collection = format!("/apis/{API_VERSION}/namespaces/{namespace}/trafficpolicies");
            match context.writer.put_status(&collection, policy.name(), &json!(status)).await {
                Ok(()) => {
                    self.policies.insert(name, status);
                }
                Err(error) => {
                    tracing::debug!(%error, name, "the status of a TrafficPolicy could not be written");
                }
            }
        }
        let exist: HashSet<(&str, &str)> = policies.iter().map(named).collect();
        self.policies.retain(|name, _| name.split_once('/').is_some_and(|name| exist.contains(&name)));
    }

    /// Tells each ClientRegions what of it is used.
    pub(super) async fn regions(&mut self, context: &TrafficContext, places: &Places) {
        let objects = context.world.client_regions();
        for object in objects.iter() {
            let ours = |prefix: &&String| {
                let region = prefix.parse().ok().and_then(|prefix| places.prefixes.get(&prefix));
                region.is_some_and(|region| object.spec.regions.contains_key(region))
            };
            let status = ClientRegionsStatus {
                observed_generation: object.metadata.generation,
                prefixes: Some(
                    object.spec.regions.values().flat_map(|region| &region.prefixes).filter(ours).count()
                        as u32,
                ),
                problems: places.problems.get(object.name()).cloned().unwrap_or_default(),
            };
            if self.regions.get(object.name()) == Some(&status) {
                continue;
            }
            let collection = format!("/apis/{API_VERSION}/clientregions");
            match context.writer.put_status(&collection, object.name(), &json!(status)).await {
                Ok(()) => {
                    self.regions.insert(object.name().to_owned(), status);
                }
                Err(error) => {
                    tracing::debug!(%error, name = object.name(), "the status of ClientRegions could not be written");
                }
            }
        }
        self.regions.retain(|name, _| objects.iter().any(|object| object.name() == name));
    }
}

/// Namespace and name.
fn named(policy: &TrafficPolicy) -> (&str, &str) {
    (policy.metadata.namespace.as_deref().unwrap_or_default(), policy.name())
}

/// Removes switches that ended by themselves. Whoever changes the policy at the same time wins; the next round finds them again.
pub(super) async fn clean_overrides(context: &TrafficContext) {
    let now_ms = clock::unix_ms();
    for policy in context.world.traffic().iter() {
        let over: Map<String, Value> = policy
            .spec
            .overrides
            .iter()
            .filter(|(_, switch)| switch.is_over(now_ms))
            .map(|(cluster, _)| (cluster.clone(), Value::Null))
            .collect();
        if over.is_empty() {
            continue;
        }
        let names: Vec<String> = over.keys().cloned().collect();
        let namespace = policy.metadata.namespace.as_deref().unwrap_or_default();
        let collection = format!("/apis/{API_VERSION}/namespaces/{namespace}/trafficpolicies");
        let patch = json!({
            "metadata": {"resourceVersion": policy.metadata.resource_version},
            "spec": {"overrides": over},
        });
        match context.writer.merge(&collection, policy.name(), patch).await {
            Ok(()) => tracing::info!(
                namespace,
                policy = policy.name(),
                clusters = names.join(","),
                "switches expired and were removed"
            ),
            Err(error) => {
                tracing::debug!(%error, policy = policy.name(), "expired switches could not be removed");
            }
        }
    }
}
