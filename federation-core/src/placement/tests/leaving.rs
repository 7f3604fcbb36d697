//! Clusters that are drained, and those that are not wanted any more.

use super::*;

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
