//! What holds in every federation.

use proptest::prelude::*;

use super::*;

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
