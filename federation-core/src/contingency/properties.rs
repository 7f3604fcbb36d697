//! Property tests of contingency plans. A failing case is printed, and proptest keeps its seed.

use proptest::prelude::*;
use serde_json::json;

use super::tests::World;
use crate::api::Verdict;

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

fn world() -> impl Strategy<Value = World> {
    let share = (0..4_i64, 0..3_i64, prop::option::of(0..6_i64));
    (
        0..20_i64,
        2..=5_usize,
        prop::collection::vec(share, 5),
        any::<bool>(),
        prop::bool::weighted(0.3),
        // After it was placed: cordoned, and out of reach.
        prop::collection::vec((prop::bool::weighted(0.1), prop::bool::weighted(0.1)), 5),
    )
        .prop_map(|(replicas, clusters, shares, rebalance, exclusive, marks)| {
            let shares: serde_json::Map<_, _> = NAMES
                .iter()
                .zip(shares)
                .map(|(name, (weight, min, max))| {
                    let mut share = json!({"weight": weight, "minReplicas": min});
                    if let Some(max) = max {
                        share["maxReplicas"] = max.max(min).into();
                    }
                    ((*name).to_owned(), share)
                })
                .collect();
            let prefer = if exclusive { "Exclusivity" } else { "Availability" };
            let world = World::new(replicas, &NAMES[..clusters]).policy(json!({
                "replicas": {"clusters": shares, "rebalance": rebalance}, "failover": {"prefer": prefer}}));
            let mut world = world.placed();
            for (cluster, (cordoned, silent)) in world.clusters.iter_mut().zip(marks) {
                cluster.spec.cordoned = cordoned;
                if silent {
                    cluster.verdict = Verdict::HubUnreachable;
                    cluster.since_ms = 1_000_000_000;
                }
            }
            world
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn plans_only_add_and_never_more_than_was_lost(world in world(), lost in 1..31_u32) {
        let lost: Vec<&str> = (0..5).filter(|at| lost >> at & 1 == 1).map(|at| NAMES[at]).collect();
        let Some(found) = world.lose(&lost) else { return Ok(()) };
        prop_assert_eq!(world.lose(&lost), Some(found.clone()), "it is the same each time");
        let today = &world.current.as_ref().expect("it was placed").clusters;
        let mut added = 0;
        for (name, take) in &found.takes {
            prop_assert!(!lost.contains(&name.as_str()), "{} is lost", name);
            prop_assert!(take.to > take.from, "only what grows is in a plan");
            let held = today.iter().find(|held| held.name == *name).and_then(|held| held.replicas);
            prop_assert_eq!(held.unwrap_or_default(), take.from);
            let cluster = world.clusters.iter().find(|cluster| cluster.name == *name).expect("a member");
            prop_assert!(!cluster.spec.cordoned && cluster.verdict == Verdict::Healthy, "{} is not open", name);
            added += take.to - take.from;
        }
        prop_assert!(found.missing >= 0);
        let wanted = world.template.replicas.unwrap_or_default();
        let left: i64 = today.iter().filter(|held| !lost.contains(&held.name.as_str())).filter_map(|held| held.replicas).sum();
        prop_assert!(added <= (wanted - left).max(0), "{} for {} that are missing", added, wanted - left);
        // What finds no place is said, and everything else is placed.
        prop_assert_eq!(found.missing, (wanted - left - added).clamp(0, found.lost));
        if found.exclusive {
            prop_assert!(found.takes.len() <= 1, "one cluster at a time");
            prop_assert!(left == 0 || found.takes.is_empty(), "nobody starts beside one who runs");
        }
    }

    #[test]
    fn with_equal_weights_and_no_bounds_everything_finds_a_place(replicas in 0..40_i64, clusters in 2..=5_usize, lost in 0..5_usize) {
        let world = World::new(replicas, &NAMES[..clusters]).placed();
        let Some(found) = world.lose(&[NAMES[lost % clusters]]) else { return Ok(()) };
        prop_assert_eq!(found.missing, 0);
        let added: i64 = found.takes.values().map(|take| take.to - take.from).sum();
        prop_assert_eq!(added, found.lost);
    }
}
