//! A store that was restored from a backup.

use super::*;

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
