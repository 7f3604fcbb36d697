//! Cordon, drain, and leaving.

use serde_json::{Value, json};

use crate::federation::{
    CLUSTERS, CONFIG_MAPS, DEPLOYMENTS, Federation, Member, PLACEMENTS, config_map, deployment, template_uid,
    until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_new_is_placed_in_a_cordoned_cluster_and_what_is_there_stays() {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    federation.api.create(CONFIG_MAPS, &config_map("old", "one")).await;
    federation.applied(&format!("{PLACEMENTS}/configmaps.old"), &["taiwan", "tokyo"]).await;
    federation.api.merge(&format!("{CLUSTERS}/taiwan"), &json!({"spec": {"cordoned": true}})).await;
    // The decision about the old one says when the cordon is known.
    federation
        .api
        .until(&format!("{PLACEMENTS}/configmaps.old"), "knows of the cordon", |found| {
            found["status"]["reasons"][0]["rule"] == "Cordoned"
        })
        .await;
    federation.api.create(CONFIG_MAPS, &config_map("new", "one")).await;
    federation.applied(&format!("{PLACEMENTS}/configmaps.new"), &["tokyo"]).await;
    tokyo.api.there(&format!("{CONFIG_MAPS}/new")).await;
    assert_eq!(taiwan.api.get(&format!("{CONFIG_MAPS}/new")).await, None);
    // It is still looked after.
    federation.api.merge(&format!("{CONFIG_MAPS}/old"), &json!({"data": {"key": "two"}})).await;
    taiwan.api.until(&format!("{CONFIG_MAPS}/old"), "follows", |copy| copy["data"]["key"] == "two").await;
}

/// Replicas that a Placement gives to a cluster.
fn replicas(placement: &Value, cluster: &str) -> i64 {
    let clusters = placement["spec"]["clusters"].as_array().unwrap();
    clusters
        .iter()
        .find(|target| target["name"] == cluster)
        .map_or(0, |target| target["replicas"].as_i64().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_moves_replicas_with_no_moment_below_what_was_asked_for() {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    federation.api.create(DEPLOYMENTS, &deployment("web", 4)).await;
    let path = format!("{DEPLOYMENTS}/web");
    federation.api.until(&path, "is ready", |found| found["status"]["readyReplicas"] == 4).await;
    let taint = json!({"spec": {"taints": [{"key": "federation.rs/drain", "effect": "NoExecute"}]}});
    federation.api.merge(&format!("{CLUSTERS}/taiwan"), &taint).await;
    let ready =
        |copy: Option<Value>| copy.map_or(0, |copy| copy["status"]["readyReplicas"].as_i64().unwrap_or(0));
    let placement = format!("{PLACEMENTS}/deployments.apps.web");
    until("taiwan is empty", || async {
        // Tokyo last: what is counted twice may be too many, never too few.
        let left = ready(taiwan.api.get(&path).await);
        let sum = left + ready(tokyo.api.get(&path).await);
        assert!(sum >= 4, "only {sum} were ready during the drain");
        let decided = federation.api.get(&placement).await.unwrap();
        (left == 0 && replicas(&decided, "taiwan") == 0 && replicas(&decided, "tokyo") == 4).then_some(())
    })
    .await;
    assert!(taiwan.api.get(&path).await.is_some(), "a drain removes no object");
}

pub(crate) async fn leave(federation: &Federation, name: &str, mode: &str) {
    let path = format!("{CLUSTERS}/{name}");
    let annotation = json!({"metadata": {"annotations": {"federation.rs/unjoin-mode": mode}}});
    federation.api.merge(&path, &annotation).await;
    federation.api.delete(&path, None).await;
}

async fn two_objects(federation: &Federation) {
    federation.api.create(CONFIG_MAPS, &config_map("settings", "one")).await;
    federation.api.create(DEPLOYMENTS, &deployment("web", 4)).await;
    federation.applied(&format!("{PLACEMENTS}/configmaps.settings"), &["taiwan", "tokyo"]).await;
    let path = format!("{DEPLOYMENTS}/web");
    federation.api.until(&path, "is ready", |found| found["status"]["readyReplicas"] == 4).await;
}

/// The agent of a cluster that left hears so, and nothing in its cluster is touched for that.
async fn a_zombie_is_refused_and_not_wiped(federation: &Federation, zombie: &mut Member) {
    if !zombie.agent_ended() {
        zombie.stop_agent().await;
    }
    let before = zombie.api.items(CONFIG_MAPS).await;
    let refusal = federation.rejected(zombie, "not a member of this federation").await;
    assert!(refusal.contains(&format!("fedctl join {}", zombie.name)), "{refusal}");
    assert_eq!(zombie.api.items(CONFIG_MAPS).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_detaches_keeps_its_copies_unmarked() {
    let (federation, mut taiwan, tokyo) = Federation::pair().await;
    two_objects(&federation).await;
    leave(&federation, "taiwan", "detach").await;
    federation.api.gone(&format!("{CLUSTERS}/taiwan")).await;
    let path = format!("{CONFIG_MAPS}/settings");
    let copy = taiwan.api.get(&path).await.expect("the copy stays");
    assert_eq!((template_uid(&copy), &copy["data"]["key"]), (None, &json!("one")));
    assert!(taiwan.api.get(&format!("{DEPLOYMENTS}/web")).await.is_some());
    assert!(template_uid(&tokyo.api.get(&path).await.unwrap()).is_some());
    // Replicas are now tokyo's alone.
    federation
        .api
        .until(&format!("{PLACEMENTS}/deployments.apps.web"), "tokyo runs all", |found| {
            replicas(found, "tokyo") == 4
        })
        .await;
    a_zombie_is_refused_and_not_wiped(&federation, &mut taiwan).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_leaves_by_drain_loses_its_copies_after_they_run_elsewhere() {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    two_objects(&federation).await;
    leave(&federation, "taiwan", "drain").await;
    federation.api.gone(&format!("{CLUSTERS}/taiwan")).await;
    assert_eq!(taiwan.api.get(&format!("{CONFIG_MAPS}/settings")).await, None);
    assert_eq!(taiwan.api.get(&format!("{DEPLOYMENTS}/web")).await, None);
    let copy = tokyo.api.get(&format!("{DEPLOYMENTS}/web")).await.unwrap();
    assert_eq!(copy["status"]["readyReplicas"], 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_forgotten_is_out_at_once_and_is_not_wiped_when_it_returns() {
    let (federation, mut taiwan, tokyo) = Federation::pair().await;
    two_objects(&federation).await;
    taiwan.stop_agent().await;
    leave(&federation, "taiwan", "forget").await;
    federation.api.gone(&format!("{CLUSTERS}/taiwan")).await;
    federation.applied(&format!("{PLACEMENTS}/configmaps.settings"), &["tokyo"]).await;
    tokyo
        .api
        .until(&format!("{DEPLOYMENTS}/web"), "runs all", |copy| copy["status"]["readyReplicas"] == 4)
        .await;
    assert!(taiwan.api.get(&format!("{CONFIG_MAPS}/settings")).await.is_some());
    a_zombie_is_refused_and_not_wiped(&federation, &mut taiwan).await;
}
