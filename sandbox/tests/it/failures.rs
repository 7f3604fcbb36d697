//! The hub away, the controller gone in the middle, clusters lost.

use std::time::Duration;

use federation_core::api::marks;
use serde_json::{Value, json};

use crate::federation::{
    CLUSTERS, CONFIG_MAPS, DEPLOYMENTS, Federation, Member, PLACEMENTS, POLICIES, Settings, config_map,
    deployment, policy, until,
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

/// Taiwan was lost with two of four replicas, so that Tokyo runs all of them, and is well again; its share waits.
async fn lost_and_well_again(failback: Value) -> (Federation, Member, Member) {
    let (federation, mut taiwan, tokyo) = Federation::pair_with(Settings::quick()).await;
    let spec = json!({"failover": {"failback": failback}});
    federation.api.create(POLICIES, &policy("apps/v1", "Deployment", spec)).await;
    federation.api.create(DEPLOYMENTS, &deployment("web", 4)).await;
    let path = format!("{DEPLOYMENTS}/web");
    federation.api.until(&path, "is ready", |found| found["status"]["readyReplicas"] == 4).await;
    taiwan.stop_agent().await;
    tokyo.api.until(&path, "runs all of them", |copy| copy["status"]["readyReplicas"] == 4).await;
    federation.restart_agent(&mut taiwan);
    federation.verdict("taiwan", "Healthy").await;
    let waits = |found: &Value| {
        let reasons = found["status"]["reasons"].as_array().map(Vec::as_slice).unwrap_or_default();
        let waits =
            reasons.iter().any(|reason| reason["cluster"] == "taiwan" && reason["rule"] == "FailbackWaits");
        waits && shares(found) == [("taiwan", Some(2), true), ("tokyo", Some(4), false)]
    };
    federation.api.until(&format!("{PLACEMENTS}/deployments.apps.web"), "waits with its share", waits).await;
    (federation, taiwan, tokyo)
}

/// Of a Placement: each cluster with its replicas, and whether it is left.
fn shares<'a>(placement: &'a Value) -> Vec<(&'a str, Option<i64>, bool)> {
    let clusters = placement["spec"]["clusters"].as_array().map(Vec::as_slice).unwrap_or_default();
    let share = |target: &'a Value| {
        let name = target["name"].as_str().unwrap_or_default();
        (name, target["replicas"].as_i64(), target["leaving"] == true)
    };
    clusters.iter().map(share).collect()
}

async fn both_run_their_halves(federation: &Federation, members: [&Member; 2]) {
    let placement = format!("{PLACEMENTS}/deployments.apps.web");
    let halves = |found: &Value| shares(found) == [("taiwan", Some(2), false), ("tokyo", Some(2), false)];
    federation.api.until(&placement, "says half each", halves).await;
    for member in members {
        let path = format!("{DEPLOYMENTS}/web");
        let runs = |copy: &Value| copy["spec"]["replicas"] == 2 && copy["status"]["readyReplicas"] == 2;
        member.api.until(&path, "runs its half", runs).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_comes_back_gets_its_share_when_it_has_been_well_for_as_long_as_the_policy_says() {
    let (federation, taiwan, tokyo) = lost_and_well_again(json!({"afterSeconds": 4})).await;
    both_run_their_halves(&federation, [&taiwan, &tokyo]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_comes_back_gets_its_share_by_an_operators_word_where_the_policy_waits_for_it() {
    let (mut federation, taiwan, tokyo) = lost_and_well_again(json!({"mode": "Manual"})).await;
    // A controller that starts anew waits for it, too.
    federation.stop_controller().await;
    federation.start_controller().await;
    federation.verdict("taiwan", "Healthy").await;
    federation
        .api
        .merge(&format!("{DEPLOYMENTS}/web"), &json!({"metadata": {"labels": {"touched": "yes"}}}))
        .await;
    let path = format!("{DEPLOYMENTS}/web");
    tokyo.api.until(&path, "has the label", |copy| copy["metadata"]["labels"]["touched"] == "yes").await;
    let placed = federation.api.there(&format!("{PLACEMENTS}/deployments.apps.web")).await;
    assert_eq!(shares(&placed), [("taiwan", Some(2), true), ("tokyo", Some(4), false)]);
    // As `fedctl failback taiwan` says it; once more if Taiwan is well only since then, as a controller that starts anew may find it.
    until("taiwan is no longer left", || async {
        let word =
            json!({"metadata": {"annotations": {marks::FAILBACK: jiff::Timestamp::now().to_string()}}});
        federation.api.merge(&format!("{CLUSTERS}/taiwan"), &word).await;
        let stays = |placed: &Value| shares(placed).iter().all(|(_, _, leaving)| !leaving);
        let placement = format!("{PLACEMENTS}/deployments.apps.web");
        let heard = federation.api.until(&placement, "taiwan stays", stays);
        tokio::time::timeout(Duration::from_secs(1), heard).await.ok()
    })
    .await;
    both_run_their_halves(&federation, [&taiwan, &tokyo]).await;
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
    // Well past evictAfter, by the hub's own clock, a write shows that decisions are still made; they move nothing.
    for name in ["taiwan", "tokyo"] {
        federation.healthy_as(name, "has been lost for long", |found| found.since_ms_ago > 1000).await;
    }
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
