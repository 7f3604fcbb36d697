//! Joining, and being refused.

use std::time::Duration;

use serde_json::json;

use crate::clusters::leave;
use crate::federation::{
    CLUSTERS, CONFIG_MAPS, Federation, Member, PLACEMENTS, Settings, config_map, until_within,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_taken_and_a_token_that_was_used_are_refused_clearly() {
    let federation = Federation::start(Settings::default()).await;
    let token = federation.token().await;
    let first = Member::new("taiwan").await;
    let joined = federation.join("taiwan").await;
    let error = federation.refused(&first, &token).await;
    assert!(error.contains("\"taiwan\" is taken") && error.contains("fedctl unjoin taiwan"), "{error}");
    assert!(!joined.agent_ended());

    // The refused join did not use the token up.
    let other = Member::new("tokyo").await;
    let used = federation.join_with("tokyo", &token).await;
    let error = federation.refused(&other, &token).await;
    assert!(error.contains("token"), "{error}");
    assert!(!used.agent_ended());
    let error = federation.refused(&other, "aaaaaa.bbbbbbbbbbbbbbbb").await;
    assert!(error.contains("fedctl token create"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_of_a_cluster_that_is_not_accepted_any_more_is_sent_away_and_comes_back_when_it_is() {
    let (federation, mut taiwan, _tokyo) = Federation::pair_with(Settings::quick()).await;
    let path = format!("{CLUSTERS}/taiwan");
    federation.api.merge(&path, &json!({"spec": {"hubAccepts": false}})).await;
    federation.verdict("taiwan", "HubUnreachable").await;
    taiwan.stop_agent().await;
    let why = federation.rejected(&taiwan, "not accepted by the hub").await;
    assert!(why.contains("set spec.hubAccepts of Cluster taiwan to true"), "{why}");
    federation.restart_agent(&mut taiwan);
    federation.api.merge(&path, &json!({"spec": {"hubAccepts": true}})).await;
    // It asks now and then.
    until_within(Duration::from_secs(20), "it is back", || async {
        let found = federation.api.get(&path).await?;
        (found["status"]["verdict"] == "Healthy").then_some(())
    })
    .await;
    assert!(!taiwan.agent_ended());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_of_a_cluster_that_left_does_not_speak_for_the_next_one_of_its_name() {
    let (federation, mut former, _tokyo) = Federation::pair_with(Settings::quick()).await;
    federation.api.create(CONFIG_MAPS, &config_map("settings", "one")).await;
    federation.applied(&format!("{PLACEMENTS}/configmaps.settings"), &["taiwan", "tokyo"]).await;
    leave(&federation, "taiwan", "forget").await;
    federation.api.gone(&format!("{CLUSTERS}/taiwan")).await;
    // The former agent runs on, and dials.
    let next = federation.join("taiwan").await;
    federation.verdict("taiwan", "Healthy").await;
    former.stop_agent().await;
    let why = federation.rejected(&former, "another one than this certificate was signed for").await;
    assert!(why.contains("not a member of this federation any more"), "{why}");
    let path = format!("{CONFIG_MAPS}/settings");
    assert_eq!(next.api.there(&path).await["data"]["key"], "one");
    federation.api.merge(&path, &json!({"data": {"key": "two"}})).await;
    next.api.until(&path, "follows", |copy| copy["data"]["key"] == "two").await;
    assert_eq!(former.api.get(&path).await.expect("nothing is wiped")["data"]["key"], "one");
    assert!(!next.agent_ended());
}
