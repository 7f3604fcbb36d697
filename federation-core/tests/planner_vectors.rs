//! The vectors of Federation v1's planner, plan and overflow, exactly.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use federation_core::api::ClusterShare;
use federation_core::planner::{PlanRequest, Preferences, plan};
use proptest::collection::btree_map;
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    group: String,
    rebalance: bool,
    preferences: BTreeMap<String, ClusterShare>,
    replicas: i64,
    clusters: Vec<String>,
    current: BTreeMap<String, i64>,
    capacity: BTreeMap<String, i64>,
    plan: BTreeMap<String, i64>,
    overflow: BTreeMap<String, i64>,
}

#[test]
fn every_vector_of_federation_v1_gives_its_plan_and_overflow() {
    let file: File = serde_json::from_str(include_str!("../testdata/planner.json")).unwrap();
    for (index, vector) in file.vectors.into_iter().enumerate() {
        let preferences = Preferences { rebalance: vector.rebalance, clusters: vector.preferences };
        let answer = plan(&PlanRequest {
            preferences: &preferences,
            replicas: vector.replicas,
            clusters: &vector.clusters,
            current: &vector.current,
            capacity: &vector.capacity,
            key: "",
        });
        assert_eq!(answer.replicas, vector.plan, "{index} {}", vector.group);
        assert_eq!(answer.overflow, vector.overflow, "{index} {}", vector.group);
    }
}

#[test]
fn a_cluster_that_was_short_of_its_minimum_does_not_kill_what_runs_elsewhere() {
    // v1 gave A its 40 first and left C 10 of its 30.
    let share = |min_replicas| ClusterShare { weight: 1, min_replicas, max_replicas: None };
    let preferences = Preferences {
        rebalance: false,
        clusters: BTreeMap::from([("A".into(), share(40)), ("C".into(), share(0))]),
    };
    let answer = plan(&PlanRequest {
        preferences: &preferences,
        replicas: 50,
        clusters: &["A".into(), "C".into()],
        current: &BTreeMap::from([("C".into(), 30)]),
        ..PlanRequest::default()
    });
    assert_eq!(answer.replicas, BTreeMap::from([("A".into(), 20), ("C".into(), 30)]));
}

fn shares() -> impl Strategy<Value = BTreeMap<String, ClusterShare>> {
    let share =
        (0..6i64, 0..12i64, proptest::option::of(0..20i64)).prop_map(|(weight, min_replicas, room)| {
            ClusterShare { weight, min_replicas, max_replicas: room.map(|room| min_replicas + room) }
        });
    btree_map("[A-F*]", share, 0..6)
}

fn counts() -> impl Strategy<Value = BTreeMap<String, i64>> {
    btree_map("[A-F]", 0..40i64, 0..6)
}

fn clusters() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::btree_set("[A-F]", 0..6).prop_map(|names| names.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_plan_covers_every_cluster_and_never_exceeds_what_is_wanted(
        rebalance: bool, shares in shares(), current in counts(), capacity in counts(), clusters in clusters(),
        replicas in 0..120i64,
    ) {
        let preferences = Preferences { rebalance, clusters: shares };
        let request = PlanRequest {
            preferences: &preferences, replicas, clusters: &clusters, current: &current, capacity: &capacity, key: "ns/x",
        };
        let answer = plan(&request);
        prop_assert_eq!(answer.replicas.keys().collect::<Vec<_>>(), clusters.iter().collect::<Vec<_>>());
        prop_assert!(answer.replicas.values().all(|count| *count >= 0));
        prop_assert!(answer.replicas.values().sum::<i64>() <= replicas);
        prop_assert_eq!(&answer, &plan(&request));
        for (name, count) in &answer.replicas {
            if let Some(maximum) = share_of(&preferences, name).and_then(|share| share.max_replicas) {
                prop_assert!(*count <= maximum);
            }
        }
    }

    #[test]
    fn without_rebalance_no_running_replica_is_killed_while_no_more_run_than_are_wanted(
        shares in shares(), current in counts(), capacity in counts(), clusters in clusters(), room in 0..60i64,
    ) {
        let preferences = Preferences { rebalance: false, clusters: shares };
        // What runs in a cluster that no preference covers, or above a maximum that the user set, is not wanted there.
        let wanted = |name: &str| {
            let running = current.get(name).copied().unwrap_or_default();
            share_of(&preferences, name)
                .map_or(0, |share| share.max_replicas.map_or(running, |maximum| running.min(maximum)))
        };
        let replicas = clusters.iter().map(|name| wanted(name)).sum::<i64>() + room;
        let answer = plan(&PlanRequest {
            preferences: &preferences, replicas, clusters: &clusters, current: &current, capacity: &capacity, key: "ns/x",
        });
        for (name, count) in &answer.replicas {
            prop_assert!(*count >= wanted(name), "{} falls from {} to {}", name, wanted(name), count);
        }
    }

    #[test]
    fn a_plan_that_is_carried_out_is_planned_again(
        shares in shares(), current in counts(), clusters in clusters(), replicas in 0..120i64,
    ) {
        let preferences = Preferences { rebalance: false, clusters: shares };
        let ask = |current: &BTreeMap<String, i64>| plan(&PlanRequest {
            preferences: &preferences, replicas, clusters: &clusters, current, key: "ns/x", ..PlanRequest::default()
        });
        let first = ask(&current);
        prop_assert_eq!(&ask(&first.replicas).replicas, &first.replicas);
    }
}

fn share_of<'a>(preferences: &'a Preferences, name: &str) -> Option<&'a ClusterShare> {
    preferences.clusters.get(name).or_else(|| preferences.clusters.get("*"))
}
