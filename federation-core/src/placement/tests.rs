//! Behaviour of placement.
#![allow(clippy::unwrap_used, clippy::panic)]

mod exclusive;
mod leaving;
mod loss;
mod properties;
mod restored;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::*;
use crate::api::{Taint, TaintEffect};

/// A federation that lives through decisions: each one is the next one's past.
#[derive(Clone, Debug)]
struct World {
    template: Template,
    cluster_policies: Vec<ClusterPlacementPolicy>,
    clusters: Vec<ClusterView>,
    current: Option<PlacementSpec>,
    observed: BTreeMap<String, Observed>,
    traffic_drained: BTreeSet<String>,
    silent_ms: BTreeMap<String, i64>,
    frozen: Option<&'static str>,
    restored: Option<&'static str>,
    now_ms: i64,
}

const EVICT_AFTER_MS: i64 = 30_000;

impl World {
    fn new(replicas: Option<i64>, clusters: &[&str]) -> Self {
        let (api_version, kind) =
            if replicas.is_some() { ("apps/v1", "Deployment") } else { ("v1", "Secret") };
        Self {
            template: Template {
                api_version: api_version.into(),
                kind: kind.into(),
                resource: format!("{}s", kind.to_lowercase()),
                namespace: "shop".into(),
                name: "web".into(),
                uid: "u".into(),
                replicas,
                ..Template::default()
            },
            cluster_policies: vec![],
            clusters: clusters.iter().map(|name| healthy(name)).collect(),
            current: None,
            observed: BTreeMap::new(),
            traffic_drained: BTreeSet::new(),
            silent_ms: BTreeMap::new(),
            frozen: None,
            restored: None,
            now_ms: 1_000_000,
        }
    }

    fn decide(&self) -> Decision {
        place(&Request {
            template: &self.template,
            policies: &[],
            cluster_policies: &self.cluster_policies,
            clusters: &self.clusters,
            current: self.current.as_ref(),
            observed: &self.observed,
            traffic_drained: &self.traffic_drained,
            silent_ms: &self.silent_ms,
            defaults: Defaults { evict_after_ms: EVICT_AFTER_MS },
            frozen: self.frozen,
            restored: self.restored,
            now_ms: self.now_ms,
        })
    }

    /// Decides, and takes the decision for the present one.
    fn step(&mut self) -> Decision {
        let decision = self.decide();
        self.current = Some(decision.spec(&self.template, 1));
        decision
    }

    /// Every cluster that can be seen runs what it was told.
    fn all_ready(&mut self) {
        for target in self.current.iter().flat_map(|current| &current.clusters) {
            let count = target.replicas.or(self.template.replicas).unwrap_or_default();
            self.observed.insert(
                target.name.clone(),
                Observed { replicas: count, ready: count, ..Observed::default() },
            );
        }
    }

    fn cluster(&mut self, name: &str) -> &mut ClusterView {
        self.clusters.iter_mut().find(|cluster| cluster.name == name).unwrap()
    }

    fn lose(&mut self, name: &str) {
        let now_ms = self.now_ms;
        let cluster = self.cluster(name);
        cluster.verdict = Verdict::HubUnreachable;
        cluster.since_ms = now_ms;
        self.observed.remove(name);
    }

    fn taint(&mut self, name: &str, effect: TaintEffect) {
        self.cluster(name).spec.taints.push(Taint {
            key: marks::DRAIN_TAINT.into(),
            value: String::new(),
            effect,
        });
    }

    fn policy(&mut self, spec: serde_json::Value) {
        let mut policy: ClusterPlacementPolicy =
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
        policy.spec.resource_selectors = vec![crate::api::ResourceSelector {
            api_version: self.template.api_version.clone(),
            kind: self.template.kind.clone(),
            ..Default::default()
        }];
        self.cluster_policies = vec![policy];
    }
}

fn healthy(name: &str) -> ClusterView {
    ClusterView { name: name.into(), verdict: Verdict::Healthy, joined: true, ..ClusterView::default() }
}

/// `taiwan=2 tokyo=2!`: an exclamation mark for those that leave.
fn targets(decision: &Decision) -> String {
    let target = |target: &ClusterTarget| {
        let replicas = target.replicas.map(|replicas| format!("={replicas}")).unwrap_or_default();
        format!("{}{replicas}{}", target.name, if target.leaving { "!" } else { "" })
    };
    decision.clusters.iter().map(target).collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn check(decision: &Decision, expect: &str) {
    assert_eq!(targets(decision), expect, "{:#?}", decision.reasons);
}

fn rule<'a>(decision: &'a Decision, cluster: &str) -> &'a str {
    &decision.reasons.iter().find(|reason| reason.cluster == cluster).unwrap().rule
}

#[test]
fn without_a_policy_every_cluster_gets_its_equal_share() {
    let mut world = World::new(Some(4), &["tokyo", "taiwan"]);
    check(&world.step(), "taiwan=2 tokyo=2");
    let mut secret = World::new(None, &["tokyo", "taiwan"]);
    check(&secret.step(), "taiwan tokyo");
}

#[test]
fn weights_of_policies_and_of_v1_annotations_divide() {
    let mut world = World::new(Some(4), &["taiwan", "tokyo"]);
    world.policy(json!({"replicas": {"clusters": {"taiwan": {"weight": 3}, "*": {"weight": 1}}}}));
    let decision = world.decide();
    check(&decision, "taiwan=3 tokyo=1");
    assert_eq!(decision.policy, "ClusterPlacementPolicy/p");
    // The annotation stands on the object itself, and wins.
    let annotation = r#"{"Clusters": {"tokyo": {"Weight": 3}, "*": {"weight": 1}}}"#;
    world.template.annotations.insert(marks::V1_DEPLOYMENT_PREFERENCES.into(), annotation.into());
    check(&world.decide(), "taiwan=1 tokyo=3");
}

#[test]
fn changed_weights_move_replicas_only_with_rebalance_and_only_as_others_become_ready() {
    let mut world = World::new(Some(4), &["taiwan", "tokyo"]);
    world.step();
    world.all_ready();
    let shares = json!({"taiwan": {"weight": 3}, "tokyo": {"weight": 1}});
    world.policy(json!({"replicas": {"clusters": shares}}));
    check(&world.decide(), "taiwan=2 tokyo=2");
    world.policy(json!({"replicas": {"rebalance": true, "clusters": shares}}));
    let decision = world.step();
    check(&decision, "taiwan=3 tokyo=2");
    assert_eq!(rule(&decision, "tokyo"), rules::REPLACEMENT_NOT_READY);
    world.all_ready();
    check(&world.step(), "taiwan=3 tokyo=1");
}

#[test]
fn duplicated_replicas_are_left_to_the_template() {
    let mut world = World::new(Some(4), &["taiwan", "tokyo"]);
    world.policy(json!({"replicas": {"mode": "Duplicate"}}));
    check(&world.decide(), "taiwan tokyo");
}

#[test]
fn selection_narrows_by_name_label_exclusion_and_v1_selector() {
    let mut world = World::new(None, &["osaka", "taiwan", "tokyo"]);
    world.cluster("taiwan").labels.insert("gpu".into(), "yes".into());
    world.policy(json!({"clusters": {"names": ["taiwan", "tokyo"]}}));
    check(&world.decide(), "taiwan tokyo");
    world.policy(json!({"clusters": {"exclude": ["tokyo"]}}));
    check(&world.decide(), "osaka taiwan");
    world.policy(json!({"clusters": {"labelSelector": {"matchLabels": {"gpu": "yes"}}}}));
    let decision = world.decide();
    check(&decision, "taiwan");
    assert_eq!(rule(&decision, "tokyo"), rules::CLUSTER_SELECTION);
    world.cluster_policies.clear();
    let annotation = r#"[{"key": "gpu", "operator": "DoesNotExist"}]"#;
    world.template.annotations.insert(marks::V1_CLUSTER_SELECTOR.into(), annotation.into());
    check(&world.decide(), "osaka tokyo");
}

#[test]
fn an_annotation_that_cannot_be_read_moves_nothing() {
    let mut world = World::new(Some(4), &["taiwan", "tokyo"]);
    world.step();
    world.template.annotations.insert(marks::V1_CLUSTER_SELECTOR.into(), "nonsense".into());
    let decision = world.decide();
    check(&decision, "taiwan=2 tokyo=2");
    assert_eq!(rule(&decision, "taiwan"), rules::INVALID_ANNOTATION);
    world.current = None;
    check(&world.decide(), "");
}

#[test]
fn nothing_new_comes_to_a_cordoned_cluster_and_what_is_there_stays() {
    let mut world = World::new(Some(4), &["taiwan", "tokyo"]);
    world.step();
    world.all_ready();
    world.cluster("taiwan").spec.cordoned = true;
    check(&world.step(), "taiwan=2 tokyo=2");
    world.template.replicas = Some(10);
    check(&world.step(), "taiwan=2 tokyo=8");
    world.current = None;
    check(&world.step(), "tokyo=10");
}

#[test]
fn an_api_that_is_not_served_and_an_unjoined_cluster_are_refused() {
    let mut world = World::new(Some(2), &["osaka", "taiwan", "tokyo"]);
    world.cluster("osaka").apis = vec!["v1/Secret".into()];
    world.cluster("tokyo").joined = false;
    let decision = world.decide();
    check(&decision, "taiwan=2");
    assert_eq!(
        (rule(&decision, "osaka"), rule(&decision, "tokyo")),
        (rules::API_NOT_SERVED, rules::NOT_JOINED)
    );
}

#[test]
fn a_cluster_that_cannot_be_read_keeps_what_it_has_and_gets_nothing_more() {
    let mut world = World::new(Some(4), &["taiwan", "tokyo"]);
    world.step();
    world.all_ready();
    // Nothing is known of it but its name, so that a policy may seem to leave it out.
    *world.cluster("tokyo") = ClusterView { name: "tokyo".into(), unread: true, ..ClusterView::default() };
    world.observed.remove("tokyo");
    world.policy(json!({"clusters": {"labelSelector": {"matchExpressions": [{"key": "edge", "operator": "DoesNotExist"}]}}}));
    world.template.replicas = Some(6);
    let decision = world.step();
    check(&decision, "taiwan=4 tokyo=2");
    assert_eq!(rule(&decision, "tokyo"), rules::CLUSTER_UNREAD);
    world.current = None;
    let decision = world.decide();
    check(&decision, "taiwan=6");
    assert!(decision.is_undecided("tokyo"));
}

#[test]
fn where_it_cannot_be_told_yet_whether_an_object_may_come_is_undecided() {
    let mut world = World::new(None, &["kyoto", "osaka", "taiwan", "tokyo"]);
    world.cluster("kyoto").joined = false;
    world.cluster("osaka").verdict = Verdict::Unknown;
    world.cluster("tokyo").spec.cordoned = true;
    let undecided = |world: &World| -> Vec<String> {
        let decision = world.decide();
        let clusters = world.clusters.iter().map(|cluster| cluster.name.clone());
        clusters.filter(|cluster| decision.is_undecided(cluster)).collect()
    };
    check(&world.decide(), "taiwan");
    assert_eq!(undecided(&world), ["kyoto", "osaka"]);
    world.policy(json!({"clusters": {"names": ["osaka", "tokyo"]}}));
    assert_eq!(undecided(&world), ["osaka"], "the others are not wanted, whatever is seen of them");
    world.cluster_policies.clear();
    // What is there stays where it is.
    world.step();
    world.lose("taiwan");
    assert_eq!(undecided(&world), ["kyoto", "osaka"]);
}

#[test]
fn the_hash_follows_what_users_wrote_and_not_what_flickers() {
    let mut world = World::new(Some(4), &["taiwan", "tokyo"]);
    let hash = world.step().inputs_hash;
    world.all_ready();
    assert_eq!(world.step().inputs_hash, hash);
    world.now_ms += 5;
    world.cluster("taiwan").labels.insert("unrelated".into(), "x".into());
    assert_eq!(world.step().inputs_hash, hash);
    world.template.replicas = Some(5);
    assert_ne!(world.step().inputs_hash, hash);
}
