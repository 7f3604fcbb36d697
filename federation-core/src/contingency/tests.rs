//! Behaviour of contingency plans.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::*;
use crate::api::{
    ClusterPlacementPolicy, ClusterSpec, ClusterTarget, PlacementSpec, ResourceSelector, Verdict, marks,
};
use crate::placement::{ClusterView, Defaults, Observed, Request, place, takeover_ms};
use crate::template::Template;

pub(super) const EVICT_AFTER_MS: i64 = 30_000;

/// A Deployment in clusters that are well, as it was decided.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) template: Template,
    pub(super) policies: Vec<ClusterPlacementPolicy>,
    pub(super) clusters: Vec<ClusterView>,
    pub(super) current: Option<PlacementSpec>,
    pub(super) observed: BTreeMap<String, Observed>,
}

impl World {
    pub(super) fn new(replicas: i64, names: &[&str]) -> Self {
        let clusters = names
            .iter()
            .map(|name| ClusterView {
                name: (*name).into(),
                verdict: Verdict::Healthy,
                joined: true,
                ..ClusterView::default()
            })
            .collect();
        let template = Template {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            resource: "deployments".into(),
            namespace: "shop".into(),
            name: "web".into(),
            uid: "u".into(),
            replicas: Some(replicas),
            grace_ms: 1000,
            ..Template::default()
        };
        Self { template, policies: vec![], clusters, current: None, observed: BTreeMap::new() }
    }

    pub(super) fn policy(mut self, spec: serde_json::Value) -> Self {
        let mut policy: ClusterPlacementPolicy =
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
        policy.spec.resource_selectors = vec![ResourceSelector {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            ..Default::default()
        }];
        self.policies = vec![policy];
        self
    }

    pub(super) fn request<T>(&self, ask: impl FnOnce(&Request<'_>) -> T) -> T {
        ask(&Request {
            template: &self.template,
            policies: &[],
            cluster_policies: &self.policies,
            clusters: &self.clusters,
            current: self.current.as_ref(),
            observed: &self.observed,
            traffic_drained: &BTreeSet::new(),
            silent_ms: &BTreeMap::new(),
            defaults: Defaults { evict_after_ms: EVICT_AFTER_MS },
            frozen: None,
            restored: None,
            now_ms: 1_000_000_000,
        })
    }

    /// Decided until nothing changes, and everything ready.
    pub(super) fn placed(mut self) -> Self {
        for _ in 0..4 {
            self.current = Some(self.request(|request| place(request).spec(request.template, 1)));
            for target in &self.current.as_ref().unwrap().clusters {
                let count = target.replicas.unwrap_or_default();
                self.observed.insert(
                    target.name.clone(),
                    Observed { replicas: count, ready: count, ..Observed::default() },
                );
            }
        }
        self
    }

    pub(super) fn lose(&self, clusters: &[&str]) -> Option<Takeover> {
        self.request(|request| take_over(request, &loss(clusters)))
    }
}

pub(super) fn loss(clusters: &[&str]) -> Loss {
    Loss { name: "some".into(), clusters: clusters.iter().map(|name| (*name).into()).collect() }
}

#[track_caller]
fn check(found: Option<Takeover>, takes: &[(&str, i64, i64)], missing: i64) {
    let found = found.unwrap();
    let seen: Vec<_> = found.takes.iter().map(|(name, take)| (name.as_str(), take.from, take.to)).collect();
    assert_eq!((seen.as_slice(), found.missing), (takes, missing), "{found:?}");
}

#[test]
fn survivors_take_what_was_lost_and_nobody_else_moves() {
    let world = World::new(6, &["osaka", "taiwan", "tokyo"]).placed();
    check(world.lose(&["taiwan"]), &[("osaka", 2, 3), ("tokyo", 2, 3)], 0);
    check(world.lose(&["osaka", "taiwan"]), &[("tokyo", 2, 6)], 0);
    assert_eq!(world.lose(&["taiwan"]).unwrap().after_ms, EVICT_AFTER_MS);
    check(world.lose(&["osaka", "taiwan", "tokyo"]), &[], 6);
}

#[test]
fn what_is_not_in_a_cluster_is_not_lost_with_it() {
    let world =
        World::new(4, &["taiwan", "tokyo"]).policy(json!({"clusters": {"names": ["tokyo"]}})).placed();
    assert_eq!(world.lose(&["taiwan"]), None);
    check(world.lose(&["tokyo"]), &[], 4);
}

#[test]
fn a_standby_of_weight_nothing_takes_nothing_and_one_of_weight_takes_all() {
    let weights =
        |tokyo: i64| json!({"replicas": {"clusters": {"taiwan": {"weight": 1}, "tokyo": {"weight": tokyo}}}});
    let world = World::new(4, &["taiwan", "tokyo"]).policy(weights(0)).placed();
    check(world.lose(&["taiwan"]), &[], 4);
    let world = World::new(1, &["taiwan", "tokyo"]).policy(weights(1)).placed();
    let home = world.current.as_ref().unwrap().clusters.iter().find(|held| held.replicas == Some(1)).unwrap();
    let other = if home.name == "taiwan" { "tokyo" } else { "taiwan" };
    check(world.lose(&[&home.name.clone()]), &[(other, 0, 1)], 0);
}

#[test]
fn maxima_bound_what_is_taken() {
    let bounded = json!({"replicas": {"clusters": {"*": {"weight": 1, "maxReplicas": 3}}}});
    let world = World::new(6, &["osaka", "taiwan", "tokyo"]).policy(bounded).placed();
    check(world.lose(&["taiwan"]), &[("osaka", 2, 3), ("tokyo", 2, 3)], 0);
    check(world.lose(&["osaka", "taiwan"]), &[("tokyo", 2, 3)], 3);
}

#[test]
fn who_is_cordoned_or_has_a_bad_verdict_takes_nothing() {
    let mut world = World::new(6, &["osaka", "taiwan", "tokyo"]).placed();
    world.clusters[0].spec.cordoned = true;
    check(world.lose(&["taiwan"]), &[("tokyo", 2, 4)], 0);
    world.clusters[0].spec.cordoned = false;
    world.clusters[0].verdict = Verdict::HubUnreachable;
    world.clusters[0].since_ms = 1_000_000_000;
    check(world.lose(&["taiwan"]), &[("tokyo", 2, 4)], 0);
}

#[test]
fn what_may_run_once_starts_elsewhere_only_after_the_lease_must_have_lapsed() {
    let policy = json!({"failover": {"prefer": "Exclusivity", "evictAfterSeconds": 1},
        "replicas": {"clusters": {"taiwan": {"weight": 9}, "tokyo": {"weight": 1}}}});
    let world = World::new(2, &["taiwan", "tokyo"]).policy(policy).placed();
    check(world.lose(&["taiwan"]), &[("tokyo", 0, 2)], 0);
    let found = world.lose(&["taiwan"]).unwrap();
    assert!(found.exclusive);
    // The lease of 5 s, a tenth of it, and the pods' end.
    assert_eq!(found.after_ms, takeover_ms(1000, 1000));
    assert!(found.after_ms >= 5_500 + 1000);
    assert_eq!(world.lose(&["tokyo"]), None, "the standby's loss moves nothing");
}

#[test]
fn domains_are_said_by_region_zone_and_label() {
    let place = |name: &str, region: &str, zone: &str, domain: &str| ClusterView {
        name: name.into(),
        joined: true,
        spec: ClusterSpec { region: region.into(), zone: zone.into(), ..ClusterSpec::default() },
        labels: if domain.is_empty() {
            BTreeMap::new()
        } else {
            BTreeMap::from([(marks::FAILURE_DOMAIN.to_owned(), domain.to_owned())])
        },
        ..ClusterView::default()
    };
    let found = losses(&[
        place("a1", "asia", "a", "grid"),
        place("a2", "asia", "a", ""),
        place("b", "asia", "b", "grid"),
        place("c", "europe", "a", ""),
        ClusterView { joined: false, ..place("d", "europe", "a", "") },
    ]);
    let shown: Vec<_> = found
        .iter()
        .map(|loss| format!("{} {}", loss.name, loss.clusters.iter().cloned().collect::<Vec<_>>().join(",")))
        .collect();
    assert_eq!(
        shown,
        [
            "cluster/a1 a1",
            "cluster/a2 a2",
            "cluster/b b",
            "cluster/c c",
            "domain/grid a1,b",
            "region/asia a1,a2,b",
            "zone/asia/a a1,a2",
        ]
    );
    // A region that is one zone is prepared for once.
    let found = losses(&[place("a1", "asia", "a", "x"), place("a2", "asia", "a", "x")]);
    assert_eq!(
        found.iter().map(|loss| loss.name.as_str()).collect::<Vec<_>>(),
        ["cluster/a1", "cluster/a2", "zone/asia/a"]
    );
}

#[test]
fn what_does_not_fit_is_said() {
    let world = World::new(6, &["osaka", "taiwan", "tokyo"]).placed();
    let takeover = world.lose(&["taiwan"]).unwrap();
    let object = json!({"spec": {"template": {"spec": {
        "containers": [{"resources": {"requests": {"cpu": "250m", "memory": "64Mi"}}}, {"resources": {"requests": {"cpu": 1}}}],
        "initContainers": [{"resources": {"requests": {"memory": "1Gi"}}}]}}}});
    let needs = Needs::of(&object);
    assert_eq!(needs, Needs { cpu_millis: 1250, memory_bytes: 1 << 30 });
    let wishes = [Wish { workload: "deployments shop/web", needs, takeover: &takeover }; 2];
    let free = BTreeMap::from([
        ("osaka".to_owned(), Free { cpu_millis: Some(2500), memory_bytes: Some(2 << 30), pods: Some(2) }),
        ("tokyo".to_owned(), Free { cpu_millis: Some(2499), memory_bytes: None, pods: Some(1) }),
    ]);
    let found = unfit(&loss(&["taiwan"]), 3, &wishes, &free);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].rule, found[0].cluster.as_str()), (rules::NO_ROOM, "tokyo"));
    assert_eq!(
        found[0].message,
        "2 pods are asked for and 1 are free; 2500 thousandths of a processor are asked for and 2499 are free"
    );
    let found = unfit(&loss(&["osaka", "taiwan"]), 3, &[], &free);
    assert_eq!(found[0].rule, rules::TOO_MANY);
    assert!(unfit(&loss(&["taiwan"]), 2, &[], &free).is_empty(), "one of two fails over");
}

#[test]
fn a_target_that_leaves_is_no_survivor() {
    let mut world = World::new(4, &["taiwan", "tokyo"]).placed();
    let current = world.current.as_mut().unwrap();
    current.clusters.push(ClusterTarget {
        name: "osaka".into(),
        replicas: Some(2),
        lost: false,
        leaving: true,
        lease: None,
    });
    check(world.lose(&["taiwan"]), &[("tokyo", 2, 4)], 0);
}

#[test]
fn what_was_done_without_the_hub_stands_until_the_lost_cluster_is_back() {
    let mut world = World::new(4, &["taiwan", "tokyo"]).placed();
    let act = Act {
        cluster: "tokyo".into(),
        epoch: 7,
        revision: 1,
        replicas: 4,
        lost: BTreeSet::from(["taiwan".to_owned()]),
    };
    let adopted = adopt(world.current.as_ref().unwrap(), &act).unwrap();
    assert_eq!(adopt(&adopted, &act), None, "once");
    assert!(adopt(&adopted, &Act { revision: 2, ..act }).is_some());
    world.current = Some(adopted);
    let replicas = |world: &World| -> Vec<(String, Option<i64>, bool)> {
        let decided = world.request(place).clusters;
        decided.into_iter().map(|target| (target.name, target.replicas, target.leaving)).collect()
    };
    let stands = [("taiwan".to_owned(), Some(2), true), ("tokyo".to_owned(), Some(4), false)];
    world.observed.insert("tokyo".into(), Observed { replicas: 4, ready: 4, ..Observed::default() });
    // The hub has just started; it sees nobody, then the survivor, and then that the other one is lost.
    for (taiwan, tokyo) in [
        (Verdict::Unknown, Verdict::Unknown),
        (Verdict::Unknown, Verdict::Healthy),
        (Verdict::HubUnreachable, Verdict::Healthy),
        (Verdict::DataPlaneDown, Verdict::Healthy),
    ] {
        for (cluster, verdict) in world.clusters.iter_mut().zip([taiwan, tokyo]) {
            cluster.verdict = verdict;
            cluster.since_ms = 1_000_000_000;
        }
        assert_eq!(replicas(&world), stands, "{taiwan:?} {tokyo:?}");
    }
    world.clusters[0].verdict = Verdict::Healthy;
    assert_eq!(
        replicas(&world),
        [("taiwan".to_owned(), Some(2), false), ("tokyo".to_owned(), Some(2), false)],
        "what is ready in both is divided again"
    );
    world.observed.insert("taiwan".into(), Observed { replicas: 2, ready: 0, ..Observed::default() });
    assert_eq!(replicas(&world)[1].1, Some(4), "and not before it is ready");
}
