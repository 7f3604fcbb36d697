//! The hub away, the controller gone in the middle, clusters lost.

use std::time::Duration;

use serde_json::json;

use crate::federation::{
    CLUSTERS, CONFIG_MAPS, DEPLOYMENTS, Federation, PLACEMENTS, Settings, config_map, deployment, until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_hub_an_agent_goes_on_correcting_drift() {
    let (mut federation, taiwan, _tokyo) = Federation::pair().await;
    federation.api.create(CONFIG_MAPS, &config_map("settings", "ours")).await;
    federation.applied(&format!("{PLACEMENTS}/configmaps.settings"), &["taiwan", "tokyo"]).await;
    federation.stop_controller().await;
    let path = format!("{CONFIG_MAPS}/settings");
    taiwan.api.merge(&path, &json!({"data": {"key": "by hand"}})).await;
    taiwan.api.until(&path, "is as wanted", |copy| copy["data"]["key"] == "ours").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_starts_without_a_hub_corrects_what_changed_meanwhile() {
    let (mut federation, mut taiwan, _tokyo) = Federation::pair().await;
    federation.api.create(CONFIG_MAPS, &config_map("settings", "ours")).await;
    federation.applied(&format!("{PLACEMENTS}/configmaps.settings"), &["taiwan", "tokyo"]).await;
    federation.stop_controller().await;
    taiwan.stop_agent().await;
    let path = format!("{CONFIG_MAPS}/settings");
    taiwan.api.delete(&path, None).await;
    taiwan.api.gone(&path).await;
    federation.restart_agent(&mut taiwan);
    taiwan.api.until(&path, "is made anew", |copy| copy["data"]["key"] == "ours").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_restarts_in_the_middle_removes_nothing_and_finishes() {
    let (mut federation, taiwan, tokyo) = Federation::pair().await;
    for number in 0..40 {
        federation.api.create(CONFIG_MAPS, &config_map(&format!("map-{number}"), "one")).await;
        if number == 20 {
            federation.stop_controller().await;
        }
    }
    let before = taiwan.api.items(CONFIG_MAPS).await;
    federation.start_controller().await;
    for member in [&taiwan, &tokyo] {
        until("all are there", || async {
            let count = member
                .api
                .items(CONFIG_MAPS)
                .await
                .iter()
                .filter(|map| map["metadata"]["labels"]["federation.rs/managed"] == "true")
                .count();
            (count == 40).then_some(())
        })
        .await;
    }
    for copy in before {
        let path = format!("{CONFIG_MAPS}/{}", copy["metadata"]["name"].as_str().unwrap());
        let after = taiwan.api.get(&path).await.unwrap();
        assert_eq!(after["metadata"]["uid"], copy["metadata"]["uid"], "{path} was made anew");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_that_a_restart_interrupts_is_finished() {
    let (mut federation, taiwan, mut tokyo) = Federation::pair().await;
    federation.api.create(CONFIG_MAPS, &config_map("settings", "one")).await;
    federation.applied(&format!("{PLACEMENTS}/configmaps.settings"), &["taiwan", "tokyo"]).await;
    tokyo.stop_agent().await;
    let path = format!("{CONFIG_MAPS}/settings");
    federation.api.delete(&path, Some("Background")).await;
    taiwan.api.gone(&path).await;
    federation.stop_controller().await;
    federation.start_controller().await;
    assert!(federation.api.get(&path).await.is_some(), "tokyo has not said that its copy is gone");
    federation.restart_agent(&mut tokyo);
    tokyo.api.gone(&path).await;
    federation.api.gone(&path).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_of_a_lost_cluster_move_after_evict_after_and_its_copy_is_not_wiped() {
    let (federation, mut taiwan, _tokyo) = Federation::pair_with(Settings::quick()).await;
    federation.api.create(DEPLOYMENTS, &deployment("web", 4)).await;
    let path = format!("{DEPLOYMENTS}/web");
    federation.api.until(&path, "is ready", |found| found["status"]["readyReplicas"] == 4).await;
    taiwan.stop_agent().await;
    federation.verdict("taiwan", "HubUnreachable").await;
    let placement = format!("{PLACEMENTS}/deployments.apps.web");
    federation
        .api
        .until(&placement, "tokyo runs all", |found| {
            let clusters = &found["spec"]["clusters"];
            clusters[1]["name"] == "tokyo" && clusters[1]["replicas"] == 4
        })
        .await;
    assert_eq!(
        taiwan.api.get(&path).await.unwrap()["spec"]["replicas"],
        2,
        "nothing was told to a lost cluster"
    );
    federation.restart_agent(&mut taiwan);
    federation.verdict("taiwan", "Healthy").await;
    assert!(taiwan.api.get(&path).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_both_clusters_are_lost_at_once_nothing_moves_until_they_are_back() {
    let (federation, mut taiwan, mut tokyo) = Federation::pair_with(Settings::quick()).await;
    federation.api.create(DEPLOYMENTS, &deployment("web", 4)).await;
    let placement = format!("{PLACEMENTS}/deployments.apps.web");
    federation.applied(&placement, &["taiwan", "tokyo"]).await;
    let before = federation.api.get(&placement).await.unwrap()["spec"]["clusters"].clone();
    tokio::join!(taiwan.stop_agent(), tokyo.stop_agent());
    for name in ["taiwan", "tokyo"] {
        federation
            .api
            .until(&format!("{CLUSTERS}/{name}"), "is frozen", |found| {
                found["status"]["conditions"].as_array().is_some_and(|all| {
                    all.iter().any(|one| one["type"] == "Frozen" && one["status"] == "True")
                })
            })
            .await;
    }
    // Well past evictAfter, a write shows that decisions are still made; they move nothing.
    tokio::time::sleep(Duration::from_millis(1000)).await;
    let label = json!({"metadata": {"labels": {"touched": "yes"}}});
    federation.api.merge(&format!("{DEPLOYMENTS}/web"), &label).await;
    federation.api.create(CONFIG_MAPS, &config_map("marker", "one")).await;
    federation.api.there(&format!("{PLACEMENTS}/configmaps.marker")).await;
    assert_eq!(federation.api.get(&placement).await.unwrap()["spec"]["clusters"], before);

    federation.restart_agent(&mut taiwan);
    federation.restart_agent(&mut tokyo);
    for name in ["taiwan", "tokyo"] {
        federation
            .api
            .until(&format!("{CLUSTERS}/{name}"), "is thawed", |found| {
                found["status"]["verdict"] == "Healthy"
                    && found["status"]["conditions"].as_array().is_some_and(|all| {
                        all.iter().any(|one| one["type"] == "Frozen" && one["status"] == "False")
                    })
            })
            .await;
    }
    for member in [&taiwan, &tokyo] {
        member
            .api
            .until(&format!("{DEPLOYMENTS}/web"), "has the new label", |copy| {
                copy["metadata"]["labels"]["touched"] == "yes"
            })
            .await;
    }
    assert_eq!(federation.api.get(&placement).await.unwrap()["spec"]["clusters"], before);
}
