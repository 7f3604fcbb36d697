//! What the observer makes of what watches tell.

use federation_core::health::Signal;
use hub_protocol::hub::Event;
use proto::v1;
use serde_json::json;

use super::{SYNCED, Served};
use crate::hub::sessions::Listener as _;
use crate::machine::Word;
use crate::observe::watch::Change;
use crate::testing::machine;

const CLUSTERS: &str = "/apis/federation.rs/v1alpha1/clusters";

#[tokio::test]
async fn what_was_on_its_way_from_a_cluster_that_has_left_takes_it_in_no_more() {
    let machine = machine().await;
    let cluster = json!({"apiVersion": "federation.rs/v1alpha1", "kind": "Cluster",
        "metadata": {"name": "taiwan", "uid": "u"}, "spec": {}});
    machine.observe(CLUSTERS, Word::Present(cluster.clone()));
    let stream = machine.agent_connected("taiwan");
    let known = || {
        let judged = machine.health.told().reports.len();
        let sessions = machine.sessions.silent_ms().len();
        (judged, machine.cluster_state.member("taiwan").heartbeat.is_some(), sessions)
    };
    let beat = || machine.agent_events.heard("taiwan", Event::Heartbeat(v1::Heartbeat::default()));
    beat();
    assert_eq!(known(), (1, true, 1));
    machine.observe(CLUSTERS, Word::Gone(cluster));
    beat();
    machine.health.observe("taiwan", Signal::SessionLost);
    machine.agent_left("taiwan", stream);
    assert_eq!(known(), (0, false, 0));
}

#[tokio::test]
async fn a_policy_that_is_told_again_as_it_was_asks_for_no_look_at_anything() {
    let machine = machine().await;
    let config_map = json!({"metadata": {"namespace": "shop", "name": "web", "uid": "u"}});
    machine.observe("/api/v1/configmaps", Word::Present(config_map));
    let asked = || {
        let mut count = 0;
        while let Some(key) = machine.queue.try_take() {
            machine.queue.done(&key);
            count += 1;
        }
        count
    };
    assert_eq!(asked(), 1);
    for (collection, namespace) in [("clusterplacementpolicies", None), ("placementpolicies", Some("shop"))] {
        let path = format!("/apis/federation.rs/v1alpha1/{collection}");
        let policy = |generation: i64| json!({"metadata": {"name": "a", "namespace": namespace, "generation": generation}, "spec": {}});
        for (generation, looks) in [(1, 1), (1, 0), (2, 1)] {
            machine.observe(&path, Word::Present(policy(generation)));
            assert_eq!(asked(), looks, "{collection} of generation {generation}");
        }
    }
}

#[tokio::test]
async fn what_was_kept_of_an_object_that_could_not_be_taken_in_is_told_on_when_it_is() {
    let machine = machine().await;
    let config_map = json!({"metadata": {"namespace": "shop", "name": "web", "uid": "u"}});
    machine.observe("/api/v1/configmaps", Word::Present(config_map));
    let looked_at = || machine.queue.try_take().inspect(|key| machine.queue.done(key)).is_some();
    assert!(looked_at() && !looked_at());
    let cluster = json!({"apiVersion": "federation.rs/v1alpha1", "kind": "Cluster",
        "metadata": {"name": "taiwan", "uid": "u", "labels": {"tier": "gold"}}, "spec": {}});
    // As far as it came before it failed.
    machine.world.put_cluster(serde_json::from_value(cluster.clone()).expect("a Cluster"));
    machine.observer.take(Served::Always, CLUSTERS, Change::Untaken("/taiwan".into()));
    assert!(!looked_at());
    machine.observe(CLUSTERS, Word::Present(cluster));
    assert!(looked_at());
    assert!(machine.cluster_state.snapshot().views.iter().any(|view| view.name == "taiwan"));
}

#[tokio::test]
async fn readiness_says_which_view_is_not_whole_whenever_one_is_not() {
    let machine = machine().await;
    let collections = machine.declare(&["configmaps"]);
    let why = || {
        let checks = machine.observer.readiness.checks();
        checks.into_iter().find_map(|(name, why)| (name == SYNCED).then_some(why)).flatten()
    };
    for collection in &collections {
        machine.observe(collection, Word::Synced);
    }
    assert_eq!(why(), None);
    machine.observe(CLUSTERS, Word::Broken);
    assert!(why().is_some_and(|why| why.contains(CLUSTERS)));
    machine.observe(CLUSTERS, Word::Synced);
    assert_eq!(why(), None);
}

#[tokio::test]
async fn a_cluster_that_a_join_put_there_before_the_watch_told_of_it_is_judged() {
    let machine = machine().await;
    let cluster = json!({"apiVersion": "federation.rs/v1alpha1", "kind": "Cluster",
        "metadata": {"name": "taiwan", "uid": "u"}, "spec": {}});
    machine.agent_events.world.put_cluster(serde_json::from_value(cluster.clone()).expect("a Cluster"));
    machine.observe(CLUSTERS, Word::Present(cluster));
    assert!(machine.health.judges("taiwan"));
}

/// Another version of the controller may have written it. What it says might keep a copy.
#[tokio::test]
async fn nothing_is_complete_while_an_object_of_ours_cannot_be_read() {
    let machine = machine().await;
    for collection in machine.declare(&[]) {
        machine.observe(&collection, Word::Synced);
    }
    for collection in [
        "clusters",
        "placementpolicies",
        "clusterplacementpolicies",
        "placements",
        "clusterplacements",
        "deletionbudgets",
        "heldremovals",
        "trafficpolicies",
        "clientregions",
        "failoverdrills",
    ] {
        let path = format!("/apis/federation.rs/v1alpha1/{collection}");
        let named = |name: &str| json!({"metadata": {"namespace": "shop", "name": name, "uid": name}, "spec": "unheard of"});
        assert!(machine.world.is_complete(), "{collection}");
        machine.observe(&path, Word::Present(named("a")));
        machine.observe(&path, Word::Present(named("b")));
        assert!(machine.world.is_synced() && !machine.world.is_complete(), "{collection}");
        assert_eq!(machine.observer.metrics.untaken.get(), 2, "{collection}");
        // The watch breaks, and tells of no change.
        machine.observer.take(Served::Always, &path, Change::Broken);
        machine.observer.take(Served::Always, &path, Change::Synced);
        assert!(!machine.world.is_complete(), "{collection}");
        machine.observe(&path, Word::Gone(named("a")));
        assert!(!machine.world.is_complete(), "{collection}");
        machine.observe(&path, Word::Gone(named("b")));
        assert!(machine.world.is_complete(), "{collection}");
    }
}
