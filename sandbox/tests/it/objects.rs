//! The way of one object: there, changed, refused, gone.

use serde_json::json;

use crate::federation::{
    CONFIG_MAPS, DEPLOYMENTS, EVENTS, Federation, PLACEMENTS, POLICIES, config_map, deployment, policy,
    template_uid, until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_created_appears_in_both_members_and_changes_follow() {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    federation.api.create("/api/v1/namespaces", &json!({"metadata": {"name": "shop"}})).await;
    let maps = "/api/v1/namespaces/shop/configmaps";
    let template = federation.api.create(maps, &config_map("settings", "one")).await;
    let path = format!("{maps}/settings");
    for member in [&taiwan, &tokyo] {
        let copy = member.api.there(&path).await;
        assert_eq!(copy["data"]["key"], "one");
        assert_eq!(template_uid(&copy), template["metadata"]["uid"].as_str());
    }
    federation.api.merge(&path, &json!({"data": {"key": "two"}})).await;
    for member in [&taiwan, &tokyo] {
        member.api.until(&path, "is changed", |copy| copy["data"]["key"] == "two").await;
    }
    let placement = "/apis/federation.rs/v1alpha1/namespaces/shop/placements/configmaps.settings";
    federation.applied(placement, &["taiwan", "tokyo"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_member_refuses_is_said_on_placement_and_event_and_others_proceed() {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    // There already, and nobody said that the federation may take it.
    taiwan.api.create(CONFIG_MAPS, &config_map("settings", "theirs")).await;
    federation.api.create(CONFIG_MAPS, &config_map("settings", "ours")).await;
    federation.api.create(CONFIG_MAPS, &config_map("other", "ours")).await;

    let path = format!("{CONFIG_MAPS}/settings");
    tokyo.api.until(&path, "is applied", |copy| copy["data"]["key"] == "ours").await;
    taiwan.api.there(&format!("{CONFIG_MAPS}/other")).await;
    let placement = format!("{PLACEMENTS}/configmaps.settings");
    federation
        .api
        .until(&placement, "tells of the conflict", |found| {
            let outcomes = &found["status"]["clusters"];
            outcomes[0]["reason"] == "Conflict"
                && outcomes[0]["message"].as_str().is_some_and(|text| text.contains("not the federation's"))
                && outcomes[1]["reason"] == "Applied"
        })
        .await;
    until("an Event tells of the conflict", || async {
        let events = federation.api.items(EVENTS).await;
        events.into_iter().find(|event| {
            event["reason"] == "FailedApply"
                && event["involvedObject"]["name"] == "settings"
                && event["message"].as_str().is_some_and(|text| text.starts_with("taiwan: Conflict"))
        })
    })
    .await;
    assert_eq!(taiwan.api.get(&path).await.unwrap()["data"]["key"], "theirs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statuses_merge_and_are_observed_only_when_every_placed_cluster_has_seen_the_change() {
    let (federation, _taiwan, mut tokyo) = Federation::pair().await;
    let path = format!("{DEPLOYMENTS}/web");
    federation.api.create(DEPLOYMENTS, &deployment("web", 4)).await;
    let merged = federation.api.until(&path, "is ready", |found| found["status"]["readyReplicas"] == 4).await;
    assert_eq!(merged["status"]["observedGeneration"], merged["metadata"]["generation"]);

    tokyo.stop_agent().await;
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "example.test/web:2"}]}}}});
    let changed = federation.api.merge(&path, &image).await;
    let generation = changed["metadata"]["generation"].as_i64().unwrap();
    let placement = format!("{PLACEMENTS}/deployments.apps.web");
    federation
        .api
        .until(&placement, "taiwan has the new generation", |found| {
            found["status"]["clusters"][0]["appliedGeneration"] == generation
        })
        .await;
    // Taiwan has it and tokyo has not: a rollout that waits for the generation must go on waiting.
    let now = federation.api.get(&path).await.unwrap();
    assert!(now["status"]["observedGeneration"].as_i64().unwrap() < generation, "{}", now["status"]);

    federation.restart_agent(&mut tokyo);
    federation
        .api
        .until(&path, "is observed", |found| found["status"]["observedGeneration"] == generation)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_background_delete_removes_the_copies() {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    federation.api.create(CONFIG_MAPS, &config_map("settings", "one")).await;
    federation.applied(&format!("{PLACEMENTS}/configmaps.settings"), &["taiwan", "tokyo"]).await;
    let path = format!("{CONFIG_MAPS}/settings");
    federation.api.delete(&path, Some("Background")).await;
    federation.api.gone(&path).await;
    for member in [&taiwan, &tokyo] {
        assert_eq!(member.api.get(&path).await, None, "{}", member.name);
    }
    federation.api.gone(&format!("{PLACEMENTS}/configmaps.settings")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orphaning_delete_and_one_without_a_policy_leave_the_copies_unmarked() {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    for (name, propagation) in [("orphaned", Some("Orphan")), ("silent", None)] {
        federation.api.create(CONFIG_MAPS, &config_map(name, "one")).await;
        federation.applied(&format!("{PLACEMENTS}/configmaps.{name}"), &["taiwan", "tokyo"]).await;
        let path = format!("{CONFIG_MAPS}/{name}");
        federation.api.delete(&path, propagation).await;
        federation.api.gone(&path).await;
        for member in [&taiwan, &tokyo] {
            let copy = member.api.get(&path).await.expect("the copy stays");
            assert_eq!((template_uid(&copy), &copy["data"]["key"]), (None, &json!("one")));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_says_delete_lets_a_silent_delete_remove_the_copies() {
    let (federation, taiwan, _tokyo) = Federation::pair().await;
    federation.api.create(POLICIES, &policy("v1", "ConfigMap", json!({"deletion": "Delete"}))).await;
    federation.api.create(CONFIG_MAPS, &config_map("settings", "one")).await;
    let path = format!("{CONFIG_MAPS}/settings");
    taiwan.api.there(&path).await;
    federation
        .api
        .until(&format!("{PLACEMENTS}/configmaps.settings"), "is decided by the policy", |found| {
            found["spec"]["policy"] == "PlacementPolicy/policy"
        })
        .await;
    federation.api.delete(&path, None).await;
    federation.api.gone(&path).await;
    taiwan.api.gone(&path).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_background_delete_of_a_namespace_removes_it_and_its_contents_in_members() {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    federation.api.create("/api/v1/namespaces", &json!({"metadata": {"name": "shop"}})).await;
    let maps = "/api/v1/namespaces/shop/configmaps";
    for name in ["a", "b"] {
        federation.api.create(maps, &config_map(name, "one")).await;
        let placement = format!("/apis/federation.rs/v1alpha1/namespaces/shop/placements/configmaps.{name}");
        federation.applied(&placement, &["taiwan", "tokyo"]).await;
    }
    federation.api.delete("/api/v1/namespaces/shop", Some("Background")).await;
    federation.api.gone("/api/v1/namespaces/shop").await;
    for member in [&taiwan, &tokyo] {
        member.api.gone("/api/v1/namespaces/shop").await;
        assert_eq!(member.api.get(&format!("{maps}/a")).await, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_and_deletes_by_hand_in_a_member_are_put_back_within_a_second() {
    let (federation, taiwan, _tokyo) = Federation::pair().await;
    federation.api.create(CONFIG_MAPS, &config_map("settings", "ours")).await;
    federation.applied(&format!("{PLACEMENTS}/configmaps.settings"), &["taiwan", "tokyo"]).await;
    let path = format!("{CONFIG_MAPS}/settings");

    let start = std::time::Instant::now();
    taiwan.api.merge(&path, &json!({"data": {"key": "by hand"}})).await;
    taiwan.api.until(&path, "is as wanted", |copy| copy["data"]["key"] == "ours").await;
    assert!(start.elapsed().as_millis() < 1000, "{:?}", start.elapsed());

    let start = std::time::Instant::now();
    let before = taiwan.api.get(&path).await.unwrap();
    taiwan.api.delete(&path, Some("Background")).await;
    taiwan
        .api
        .until(&path, "is made anew", |copy| copy["metadata"]["uid"] != before["metadata"]["uid"])
        .await;
    assert!(start.elapsed().as_millis() < 1000, "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_added_by_hand_to_a_list_that_is_one_value_is_put_back_and_a_sidecar_is_left_alone() {
    let (federation, taiwan, _tokyo) = Federation::pair().await;
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    federation.api.create(roles, &json!({"metadata": {"name": "reader"}, "rules": rules})).await;
    let placement = format!("{PLACEMENTS}/roles.rbac.authorization.k8s.io.reader");
    federation.applied(&placement, &["taiwan", "tokyo"]).await;
    let path = format!("{roles}/reader");
    let more = json!([rules[0], {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    taiwan.api.merge(&path, &json!({"rules": more})).await;
    taiwan.api.until(&path, "is as wanted", |copy| copy["rules"] == rules).await;
    // Neither with the same number of rules, nor without a trace of whose they are.
    let mut wider = rules.clone();
    wider[0]["resourceNames"] = json!(["one"]);
    taiwan.api.merge(&path, &json!({"rules": wider})).await;
    taiwan.api.until(&path, "is as wanted", |copy| copy["rules"] == rules).await;
    taiwan.api.merge(&path, &json!({"metadata": {"managedFields": [{}]}, "rules": more})).await;
    taiwan.api.until(&path, "is as wanted", |copy| copy["rules"] == rules).await;

    federation.api.create(DEPLOYMENTS, &deployment("web", 2)).await;
    federation.applied(&format!("{PLACEMENTS}/deployments.apps.web"), &["taiwan", "tokyo"]).await;
    let path = format!("{DEPLOYMENTS}/web");
    let mut containers = taiwan.api.there(&path).await["spec"]["template"]["spec"]["containers"].clone();
    containers.as_array_mut().unwrap().push(json!({"name": "sidecar", "image": "sidecar"}));
    let injected = json!({"spec": {"replicas": 9, "template": {"spec": {"containers": containers}}}});
    taiwan.api.merge(&path, &injected).await;
    let copy = taiwan.api.until(&path, "is as wanted", |copy| copy["spec"]["replicas"] == 1).await;
    assert_eq!(copy["spec"]["template"]["spec"]["containers"][1]["name"], "sidecar", "{copy}");
}
