//! Behaviour of placement.
#![allow(clippy::unwrap_used, clippy::panic)]

mod exclusive;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
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
fn a_lost_clusters_share_takes_nothing_that_is_ready_from_others_when_fewer_are_wanted() {
    let mut world = World::new(Some(4), &["taiwan", "tokyo"]);
    world.step();
    world.all_ready();
    world.lose("taiwan");
    world.template.replicas = Some(2);
    // Taiwan's two would be all that is wanted, and nobody knows whether they run.
    let decision = world.step();
    check(&decision, "taiwan=2 tokyo=2");
    assert_eq!(rule(&decision, "tokyo"), rules::REPLACEMENT_NOT_READY);
    world.now_ms += EVICT_AFTER_MS;
    check(&world.step(), "taiwan=2! tokyo=2");
    // None wanted is none wanted, whoever is lost.
    world.template.replicas = Some(0);
    check(&world.step(), "taiwan=2! tokyo=0");
}

#[test]
fn what_may_have_become_ready_since_the_last_report_does_not_go_before_anything_else_is_known_to_be() {
    let mut world = World::new(Some(3), &["taiwan", "tokyo"]);
    world.policy(json!({"replicas": {"clusters": {"taiwan": {"weight": 2}, "tokyo": {"weight": 1}}}}));
    check(&world.step(), "taiwan=2 tokyo=1");
    let told = |ready| Observed { replicas: 2, ready, ..Observed::default() };
    world.observed = BTreeMap::from([("taiwan".into(), told(0)), ("tokyo".into(), told(0))]);
    world.policy(json!({"clusters": {"names": ["taiwan", "tokyo"]}, "replicas": {"clusters": {"tokyo": {"weight": 1}}}}));
    world.template.replicas = Some(1);
    // Taiwan's two are not ready by its last report, nor is Tokyo's one: one of each stays, since either may be the only one by now.
    let decision = world.step();
    check(&decision, "taiwan=1 tokyo=1");
    assert_eq!(rule(&decision, "taiwan"), rules::REPLACEMENT_NOT_READY);
    check(&world.step(), "taiwan=1 tokyo=1");
    world.observed.insert("tokyo".into(), Observed { replicas: 1, ready: 1, ..Observed::default() });
    check(&world.step(), "taiwan=0 tokyo=1");
    // None wanted is none wanted, ready or not.
    world.observed = BTreeMap::from([("taiwan".into(), told(0)), ("tokyo".into(), told(0))]);
    world.template.replicas = Some(0);
    check(&world.step(), "taiwan=0 tokyo=0");
}

#[test]
fn a_restored_store_takes_nothing_away_and_replaces_what_is_lost() {
    let mut world = World::new(Some(6), &["osaka", "taiwan", "tokyo"]);
    world.step();
    world.all_ready();
    world.restored = Some("the store was restored");
    world.template.replicas = Some(0);
    let decision = world.step();
    check(&decision, "osaka=2 taiwan=2 tokyo=2");
    assert_eq!(rule(&decision, "osaka"), rules::STORE_RESTORED);
    world.template.replicas = Some(6);
    world.taint("tokyo", TaintEffect::NoExecute);
    world.traffic_drained.insert("tokyo".into());
    world.step();
    world.all_ready();
    check(&world.step(), "osaka=3 taiwan=3 tokyo=2!");
    world.lose("taiwan");
    world.now_ms += EVICT_AFTER_MS;
    check(&world.step(), "osaka=6 taiwan=3! tokyo=2!");
    world.all_ready();
    world.restored = None;
    check(&world.step(), "osaka=6 taiwan=3! tokyo=0!");
}

#[test]
fn where_every_cluster_runs_all_a_restored_store_takes_nothing_away_either() {
    let mut world = World::new(Some(5), &["osaka", "taiwan", "tokyo"]);
    world.policy(json!({"replicas": {"mode": "Duplicate"}}));
    check(&world.step(), "osaka taiwan tokyo");
    // The template of the backup says three, by the same decision; Tokyo's agent is not there.
    let claim = |cluster: &str| Claim { cluster: cluster.into(), epoch: 1, replicas: Some(5) };
    world.current = recover(world.current.as_ref(), &[claim("osaka"), claim("taiwan")]);
    world.restored = Some("the store was restored");
    world.template.replicas = Some(3);
    let decision = world.step();
    check(&decision, "osaka=5 taiwan=5 tokyo=3");
    assert_eq!(rule(&decision, "osaka"), rules::STORE_RESTORED);
    // A user who wants fewer gets them when a person has confirmed the store.
    world.template.replicas = Some(1);
    world.taint("taiwan", TaintEffect::NoExecute);
    check(&world.step(), "osaka=5 taiwan=5! tokyo=3");
    world.template.replicas = Some(6);
    check(&world.step(), "osaka=6 taiwan=5! tokyo=6");
    world.restored = None;
    check(&world.step(), "osaka taiwan=5! tokyo");
}

#[test]
fn a_copy_that_only_its_member_knows_of_goes_after_its_replacement_is_ready() {
    let mut world = World::new(Some(2), &["taiwan", "tokyo"]);
    // A backup knows of no decision; Tokyo runs both, and Taiwan, which was told of it once, none.
    let claim =
        |cluster: &str, replicas| Claim { cluster: cluster.into(), epoch: 7, replicas: Some(replicas) };
    world.current = recover(None, &[claim("taiwan", 0), claim("tokyo", 2)]);
    check(&world.decide(), "taiwan=0 tokyo=2");
    world.policy(json!({"replicas": {"rebalance": true}}));
    world.observed.insert("tokyo".into(), Observed { replicas: 2, ready: 2, ..Observed::default() });
    check(&world.step(), "taiwan=1 tokyo=2");
    world.all_ready();
    check(&world.step(), "taiwan=1 tokyo=1");
}

#[test]
fn a_drained_cluster_waits_for_ready_replicas_and_not_for_a_lost_clusters_share() {
    let mut world = World::new(Some(6), &["osaka", "taiwan", "tokyo"]);
    world.step();
    world.all_ready();
    world.lose("taiwan");
    world.taint("tokyo", TaintEffect::NoExecute);
    world.traffic_drained.insert("tokyo".into());
    check(&world.step(), "osaka=4 taiwan=2 tokyo=2!");
    world.observed.insert("osaka".into(), Observed { replicas: 4, ready: 4, ..Observed::default() });
    check(&world.step(), "osaka=4 taiwan=2 tokyo=2!");
    world.now_ms += EVICT_AFTER_MS;
    check(&world.step(), "osaka=6 taiwan=2! tokyo=2!");
    world.observed.insert("osaka".into(), Observed { replicas: 6, ready: 6, ..Observed::default() });
    check(&world.step(), "osaka=6 taiwan=2! tokyo=0!");
}

#[test]
fn a_lost_cluster_is_replaced_after_evict_after_and_comes_back_to_its_share() {
    let mut world = World::new(Some(4), &["taiwan", "tokyo"]);
    world.step();
    world.all_ready();
    world.lose("taiwan");
    let decision = world.step();
    check(&decision, "taiwan=2 tokyo=2");
    assert_eq!(decision.next_check_ms, Some(world.now_ms + EVICT_AFTER_MS));
    world.now_ms += EVICT_AFTER_MS - 1;
    check(&world.step(), "taiwan=2 tokyo=2");
    world.now_ms += 1;
    check(&world.step(), "taiwan=2! tokyo=4");
    world.observed.insert("tokyo".into(), Observed { replicas: 4, ready: 4, ..Observed::default() });
    check(&world.step(), "taiwan=2! tokyo=4");

    // It is back, and nothing is heard of its pods yet: nobody shrinks.
    world.cluster("taiwan").verdict = Verdict::Healthy;
    check(&world.step(), "taiwan=2 tokyo=4");
    world.observed.insert("taiwan".into(), Observed { replicas: 2, ready: 1, ..Observed::default() });
    let decision = world.step();
    assert!(decision.clusters.iter().map(|target| target.replicas.unwrap()).sum::<i64>() >= 4);
    world.all_ready();
    world.step();
    world.all_ready();
    let settled = world.step();
    assert_eq!(
        settled.clusters.iter().map(|target| target.replicas.unwrap()).sum::<i64>(),
        4,
        "{}",
        targets(&settled)
    );
}

#[test]
fn a_cluster_that_is_back_gets_its_share_when_it_has_been_well_for_as_long_as_the_policy_says() {
    let mut world = World::new(Some(4), &["taiwan", "tokyo"]);
    world.policy(json!({"failover": {"failback": {"afterSeconds": 60}}}));
    world.step();
    world.all_ready();
    world.lose("taiwan");
    world.now_ms += EVICT_AFTER_MS;
    check(&world.step(), "taiwan=2! tokyo=4");
    world.all_ready();
    let back_ms = world.now_ms;
    *world.cluster("taiwan") = ClusterView { since_ms: back_ms, ..healthy("taiwan") };
    let decision = world.step();
    check(&decision, "taiwan=2! tokyo=4");
    assert_eq!(
        (rule(&decision, "taiwan"), decision.next_check_ms),
        (rules::FAILBACK_WAITS, Some(back_ms + 60_000))
    );
    world.now_ms = back_ms + 59_999;
    check(&world.step(), "taiwan=2! tokyo=4");
    // One that fails again begins anew.
    let mut again = world.clone();
    again.cluster("taiwan").since_ms = back_ms + 50_000;
    again.now_ms = back_ms + 60_000;
    check(&again.step(), "taiwan=2! tokyo=4");
    world.now_ms = back_ms + 60_000;
    check(&world.step(), "taiwan=2 tokyo=2");
    // A drained cluster, or one of a drill, was not lost: nothing holds it back.
    let mut drained = World::new(Some(4), &["taiwan", "tokyo"]);
    drained.policy(json!({"failover": {"failback": {"mode": "Manual", "afterSeconds": 60}}}));
    drained.step();
    drained.all_ready();
    drained.taint("taiwan", TaintEffect::NoExecute);
    check(&drained.step(), "taiwan=2! tokyo=4");
    drained.all_ready();
    *drained.cluster("taiwan") = healthy("taiwan");
    check(&drained.step(), "taiwan=2 tokyo=2");
    drained.lose("taiwan");
    drained.cluster("taiwan").rehearsed = true;
    drained.now_ms += EVICT_AFTER_MS;
    check(&drained.step(), "taiwan=2! tokyo=4");
    drained.all_ready();
    *drained.cluster("taiwan") = healthy("taiwan");
    check(&drained.step(), "taiwan=2 tokyo=2");
    // What was never replaced has nothing to wait for.
    let mut short = World::new(Some(4), &["taiwan", "tokyo"]);
    short.policy(json!({"failover": {"failback": {"mode": "Manual"}}}));
    short.step();
    short.all_ready();
    short.lose("taiwan");
    short.step();
    *short.cluster("taiwan") = healthy("taiwan");
    check(&short.step(), "taiwan=2 tokyo=2");
}

#[test]
fn a_cluster_that_is_back_waits_for_an_operators_word_where_the_policy_says_so() {
    let mut world = World::new(Some(4), &["taiwan", "tokyo"]);
    world.policy(json!({"failover": {"failback": {"mode": "Manual"}}}));
    world.step();
    world.all_ready();
    world.lose("taiwan");
    world.now_ms += EVICT_AFTER_MS;
    world.step();
    world.all_ready();
    let back_ms = world.now_ms;
    // A word from before it was lost is about another loss.
    let failback_ms = Some(back_ms - 1);
    *world.cluster("taiwan") = ClusterView { since_ms: back_ms, failback_ms, ..healthy("taiwan") };
    world.now_ms += 1000 * EVICT_AFTER_MS;
    let decision = world.step();
    check(&decision, "taiwan=2! tokyo=4");
    assert_eq!((rule(&decision, "taiwan"), decision.next_check_ms), (rules::FAILBACK_WAITS, None));
    world.cluster("taiwan").failback_ms = Some(back_ms + 5);
    check(&world.step(), "taiwan=2 tokyo=2");
}

#[test]
fn a_mass_failure_moves_nothing_however_long_it_lasts() {
    let mut world = World::new(Some(4), &["taiwan", "tokyo"]);
    world.step();
    world.lose("taiwan");
    world.lose("tokyo");
    world.frozen = Some("2 of 2 clusters went bad at once");
    world.now_ms += 100 * EVICT_AFTER_MS;
    let decision = world.step();
    check(&decision, "taiwan=2 tokyo=2");
    assert_eq!(rule(&decision, "taiwan"), rules::FROZEN);
}

#[test]
fn nothing_moves_on_an_unknown_verdict() {
    let mut world = World::new(Some(4), &["taiwan", "tokyo"]);
    world.step();
    for name in ["taiwan", "tokyo"] {
        world.cluster(name).verdict = Verdict::Unknown;
    }
    world.now_ms += 100 * EVICT_AFTER_MS;
    let decision = world.step();
    check(&decision, "taiwan=2 tokyo=2");
    assert_eq!(decision.next_check_ms, None);
}

#[test]
fn a_drain_waits_for_the_replacement_and_then_for_the_traffic() {
    let mut world = World::new(Some(4), &["taiwan", "tokyo"]);
    world.step();
    world.all_ready();
    world.taint("taiwan", TaintEffect::NoExecute);
    let decision = world.step();
    check(&decision, "taiwan=2! tokyo=4");
    assert_eq!(rule(&decision, "taiwan"), rules::REPLACEMENT_NOT_READY);
    world.observed.insert("tokyo".into(), Observed { replicas: 4, ready: 3, ..Observed::default() });
    check(&world.step(), "taiwan=2! tokyo=4");
    world.observed.insert("tokyo".into(), Observed { replicas: 4, ready: 4, ..Observed::default() });
    let decision = world.step();
    check(&decision, "taiwan=2! tokyo=4");
    assert_eq!(rule(&decision, "taiwan"), rules::TRAFFIC_NOT_DRAINED);
    world.traffic_drained.insert("taiwan".into());
    check(&world.step(), "taiwan=0! tokyo=4");
    // A pod that restarts elsewhere afterwards changes nothing.
    world.observed.insert("tokyo".into(), Observed { replicas: 4, ready: 3, ..Observed::default() });
    check(&world.step(), "taiwan=0! tokyo=4");
}

#[test]
fn what_was_taken_away_is_not_spare_a_second_time_while_reports_lag() {
    let mut world = World::new(Some(4), &["taiwan", "tokyo"]);
    world.policy(json!({"replicas": {"rebalance": true}}));
    world.step();
    world.all_ready();
    world.lose("taiwan");
    world.now_ms += EVICT_AFTER_MS;
    world.template.replicas = Some(6);
    world.observed.remove("taiwan");
    check(&world.step(), "taiwan=2! tokyo=6");
    let ready = |count| Observed { replicas: count, ready: count, ..Observed::default() };
    world.observed.insert("tokyo".into(), ready(6));
    *world.cluster("taiwan") = healthy("taiwan");
    world.observed.insert("taiwan".into(), ready(2));
    check(&world.step(), "taiwan=3 tokyo=4");
    // Tokyo still reports six, which are four by now.
    check(&world.step(), "taiwan=3 tokyo=4");
    world.observed.insert("tokyo".into(), ready(4));
    check(&world.step(), "taiwan=3 tokyo=4");
    world.observed.insert("taiwan".into(), ready(3));
    check(&world.step(), "taiwan=3 tokyo=3");
}

#[test]
fn the_last_cluster_is_not_drained_empty() {
    let mut world = World::new(Some(4), &["taiwan"]);
    world.step();
    world.all_ready();
    world.taint("taiwan", TaintEffect::NoExecute);
    world.traffic_drained.insert("taiwan".into());
    check(&world.step(), "taiwan=4!");
    // Nor into a cluster that nobody can see.
    let mut world = World::new(Some(4), &["taiwan", "tokyo"]);
    world.step();
    world.all_ready();
    world.lose("tokyo");
    world.taint("taiwan", TaintEffect::NoExecute);
    world.traffic_drained.insert("taiwan".into());
    check(&world.step(), "taiwan=2! tokyo=2");
}

#[test]
fn a_drain_leaves_what_has_no_replicas_in_place() {
    let mut world = World::new(None, &["taiwan", "tokyo"]);
    world.step();
    world.taint("taiwan", TaintEffect::NoExecute);
    world.traffic_drained.insert("taiwan".into());
    check(&world.step(), "taiwan! tokyo");
    check(&world.step(), "taiwan! tokyo");
}

#[test]
fn an_unselected_cluster_is_given_up_once_replaced_and_one_out_of_sight_is_kept() {
    let mut world = World::new(Some(4), &["taiwan", "tokyo"]);
    world.step();
    world.all_ready();
    world.policy(json!({"clusters": {"exclude": ["taiwan"]}}));
    check(&world.step(), "taiwan=2! tokyo=4");
    world.all_ready();
    world.traffic_drained.insert("taiwan".into());
    let mut lost = world.clone();
    lost.lose("taiwan");
    check(&lost.step(), "taiwan=2! tokyo=4");
    check(&world.step(), "tokyo=4");
}

#[test]
fn a_policy_that_selects_nothing_does_not_remove_everything() {
    let mut world = World::new(None, &["taiwan", "tokyo"]);
    world.step();
    world.policy(json!({"clusters": {"names": ["tiawan"]}}));
    world.traffic_drained.extend(["taiwan".to_owned(), "tokyo".to_owned()]);
    check(&world.step(), "taiwan! tokyo!");
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

fn worlds() -> impl Strategy<Value = World> {
    let cluster = (0..4u8, 0..3u8, any::<bool>(), proptest::option::of(0..8i64), 0..8i64);
    (0..20i64, proptest::collection::vec(cluster, 1..6), any::<bool>()).prop_map(
        |(replicas, members, rebalance)| {
            let names: Vec<String> = (0..members.len()).map(|n| format!("c{n}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let mut world = World::new(Some(replicas), &names);
            let mut shares = serde_json::Map::new();
            for (name, (weight, minimum, _, room, _)) in names.iter().zip(&members) {
                let maximum = room.map(|room| i64::from(*minimum) + room);
                shares.insert(
                    (*name).into(),
                    json!({"weight": weight, "minReplicas": minimum, "maxReplicas": maximum}),
                );
            }
            world.policy(json!({"replicas": {"rebalance": rebalance, "clusters": shares}}));
            world.step();
            for (name, (.., seen, _, ready)) in names.iter().zip(&members) {
                if *seen {
                    world.observed.insert(
                        (*name).into(),
                        Observed { replicas: *ready, ready: *ready, ..Observed::default() },
                    );
                }
            }
            world
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn readiness_time_and_unrelated_labels_move_nothing(world in worlds(), later in 0..1_000_000_000i64) {
        let mut world = world;
        let before = world.current.clone().unwrap().clusters;
        world.now_ms += later;
        world.template.labels.insert("note".into(), "changed".into());
        world.clusters.iter_mut().for_each(|cluster| { cluster.labels.insert("note".into(), "changed".into()); });
        world.clusters.reverse();
        prop_assert_eq!(world.step().clusters, before);
    }

    #[test]
    fn a_decision_that_is_carried_out_is_decided_again(world in worlds(), grown in 0..20i64) {
        let mut world = world;
        world.template.replicas = Some(grown);
        for _ in 0..8 {
            world.all_ready();
            world.step();
        }
        let settled = world.current.clone().unwrap().clusters;
        prop_assert!(settled.iter().filter_map(|target| target.replicas).sum::<i64>() <= grown);
        world.all_ready();
        prop_assert_eq!(world.step().clusters, settled);
    }

    #[test]
    fn losing_a_cluster_shrinks_no_other_one_and_forgets_nothing(world in worlds()) {
        let mut world = world;
        world.all_ready();
        let before = world.current.clone().unwrap().clusters;
        world.lose("c0");
        world.now_ms += EVICT_AFTER_MS;
        let after = world.step().clusters;
        prop_assert_eq!(after.len(), before.len());
        for (old, new) in before.iter().zip(&after) {
            prop_assert!(new.replicas >= old.replicas, "{:?} became {:?}", old, new);
            prop_assert_eq!(new.leaving, new.name == "c0");
        }
    }
}
