//! Clusters that are lost, and come back.

use super::*;

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
