//! Do no harm: what looks like "not wanted" and is not.

use serde_json::json;

use crate::federation::{CONFIG_MAPS, Federation, PLACEMENTS, POLICIES, config_map, policy, template_uid};

async fn placed(federation: &Federation) -> String {
    federation.api.create(CONFIG_MAPS, &config_map("settings", "one")).await;
    federation.applied(&format!("{PLACEMENTS}/configmaps.settings"), &["taiwan", "tokyo"]).await;
    format!("{CONFIG_MAPS}/settings")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_leaves_a_cluster_out_removes_the_copy_there_once_another_has_it() {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    let path = placed(&federation).await;
    let spec = json!({"clusters": {"names": ["tokyo"]}});
    federation.api.create(POLICIES, &policy("v1", "ConfigMap", spec)).await;
    taiwan.api.gone(&path).await;
    federation.applied(&format!("{PLACEMENTS}/configmaps.settings"), &["tokyo"]).await;
    assert!(tokyo.api.get(&path).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_selects_no_cluster_removes_nothing_and_says_so() {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    let path = placed(&federation).await;
    let spec = json!({"clusters": {"names": ["typo"]}});
    federation.api.create(POLICIES, &policy("v1", "ConfigMap", spec)).await;
    let placement = format!("{PLACEMENTS}/configmaps.settings");
    federation
        .api
        .until(&placement, "is decided by the policy", |found| {
            found["spec"]["policy"] == "PlacementPolicy/policy"
        })
        .await;
    federation
        .api
        .until(&placement, "says that the last copies stay", |found| {
            let reasons = found["status"]["reasons"].as_array().map(Vec::as_slice).unwrap_or_default();
            reasons.len() == 2 && reasons.iter().all(|reason| reason["rule"] == "ReplacementNotReady")
        })
        .await;
    for member in [&taiwan, &tokyo] {
        assert!(member.api.get(&path).await.is_some(), "{}", member.name);
    }
    // Corrected, everything is as before, and was never gone.
    let selection = json!({"spec": {"clusters": {"names": ["taiwan", "tokyo"]}}});
    federation.api.merge(&format!("{POLICIES}/policy"), &selection).await;
    federation.applied(&placement, &["taiwan", "tokyo"]).await;
    for member in [&taiwan, &tokyo] {
        assert!(member.api.get(&path).await.is_some(), "{}", member.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_placement_deleted_by_hand_is_made_anew_and_forgets_no_copy() {
    let (federation, taiwan, mut tokyo) = Federation::pair().await;
    let path = placed(&federation).await;
    // Tokyo is to give its copy up, and cannot be asked: only the Placement knows.
    tokyo.stop_agent().await;
    let spec = json!({"clusters": {"names": ["taiwan"]}});
    federation.api.create(POLICIES, &policy("v1", "ConfigMap", spec)).await;
    let placement = format!("{PLACEMENTS}/configmaps.settings");
    let before = federation
        .api
        .until(&placement, "tokyo is leaving", |found| found["spec"]["clusters"][1]["leaving"] == true)
        .await;
    federation.api.delete(&placement, None).await;
    let after = federation
        .api
        .until(&placement, "is made anew", |found| found["metadata"]["uid"] != before["metadata"]["uid"])
        .await;
    assert_eq!(after["spec"]["clusters"], before["spec"]["clusters"]);
    assert!(taiwan.api.get(&path).await.is_some());
    federation.restart_agent(&mut tokyo);
    tokyo.api.gone(&path).await;
    assert!(taiwan.api.get(&path).await.is_some());
}

/// Whether the last decision about a template outlives it until the controller looks: the garbage collector may come before or after that.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LastDecision {
    Collected,
    Found,
}

async fn a_namesake_takes_over(last_decision: LastDecision) {
    let (mut federation, taiwan, tokyo) = Federation::pair().await;
    let path = placed(&federation).await;
    let placement = format!("{PLACEMENTS}/configmaps.settings");
    // Behind the controller's back: its finalizer is forced off, and the name is used again before it looks.
    federation.stop_controller().await;
    if last_decision == LastDecision::Found {
        federation.api.merge(&placement, &json!({"metadata": {"ownerReferences": null}})).await;
    }
    federation.api.merge(&path, &json!({"metadata": {"finalizers": null}})).await;
    federation.api.delete(&path, Some("Background")).await;
    if last_decision == LastDecision::Collected {
        federation.api.gone(&placement).await;
    }
    let anew = federation.api.create(CONFIG_MAPS, &config_map("settings", "anew")).await;
    let copies = (taiwan.api.get(&path).await.unwrap(), tokyo.api.get(&path).await.unwrap());
    federation.start_controller().await;
    for (member, copy) in [(&taiwan, copies.0), (&tokyo, copies.1)] {
        let after = member.api.until(&path, "is taken over", |copy| copy["data"]["key"] == "anew").await;
        assert_eq!(template_uid(&after), anew["metadata"]["uid"].as_str());
        assert_eq!(after["metadata"]["uid"], copy["metadata"]["uid"], "it was never gone");
    }
    federation.applied(&placement, &["taiwan", "tokyo"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_made_anew_under_its_name_takes_its_copies_over() {
    a_namesake_takes_over(LastDecision::Collected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_made_anew_takes_the_copies_over_of_which_a_decision_is_left() {
    a_namesake_takes_over(LastDecision::Found).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_of_a_template_that_vanished_while_nobody_looked_are_released_and_not_removed() {
    let (mut federation, taiwan, tokyo) = Federation::pair().await;
    let path = placed(&federation).await;
    federation.stop_controller().await;
    federation.api.merge(&path, &json!({"metadata": {"finalizers": null}})).await;
    federation.api.delete(&path, Some("Orphan")).await;
    federation.start_controller().await;
    federation.api.create(CONFIG_MAPS, &config_map("marker", "one")).await;
    federation.applied(&format!("{PLACEMENTS}/configmaps.marker"), &["taiwan", "tokyo"]).await;
    for member in [&taiwan, &tokyo] {
        let copy = member.api.get(&path).await.expect("the copy stays");
        assert_eq!(copy["data"]["key"], "one");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_label_that_takes_an_object_back_releases_its_copies() {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    let path = placed(&federation).await;
    federation.api.merge(&path, &json!({"metadata": {"labels": {"federation.rs/local": "true"}}})).await;
    for member in [&taiwan, &tokyo] {
        let copy = member.api.until(&path, "is released", |copy| template_uid(copy).is_none()).await;
        assert_eq!(copy["data"]["key"], "one");
    }
    federation
        .api
        .until(&path, "is without our finalizer", |found| found["metadata"]["finalizers"].is_null())
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_was_taken_back_by_mistake_has_its_copies_again() {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    let path = placed(&federation).await;
    let template = federation.api.there(&path).await;
    let uid = template["metadata"]["uid"].as_str();
    let local = |value: &str| json!({"metadata": {"labels": {"federation.rs/local": value}}});
    federation.api.merge(&path, &local("true")).await;
    taiwan.api.until(&path, "is released", |copy| template_uid(copy).is_none()).await;
    federation.api.merge(&path, &local("false")).await;
    for member in [&taiwan, &tokyo] {
        member.api.until(&path, "is a copy again", |copy| template_uid(copy) == uid).await;
    }
    federation.applied(&format!("{PLACEMENTS}/configmaps.settings"), &["taiwan", "tokyo"]).await;
}
