//! What is held for a person's word, and what comes back from the trash.

use serde_json::{Value, json};

use crate::federation::{
    CLUSTERS, CONFIG_MAPS, EVENTS, Federation, Member, PLACEMENTS, POLICIES, config_map, policy,
    template_uid, until,
};

const NAMESPACES: &str = "/api/v1/namespaces";
const SHOP: &str = "/api/v1/namespaces/shop/configmaps";
const HELD: &str = "/apis/federation.rs/v1alpha1/heldremovals";
const TRASH: &str = "/apis/federation.rs/v1alpha1/trash";
const BUDGETS: &str = "/apis/federation.rs/v1alpha1/deletionbudgets";

/// A federation in which one cause may remove five copies, and a Namespace of four ConfigMaps in both members.
async fn shop() -> (Federation, Member, Member) {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    federation.api.create(BUDGETS, &budget()).await;
    federation.api.create(NAMESPACES, &json!({"metadata": {"name": "shop"}})).await;
    for name in ["a", "b", "c", "d"] {
        federation.api.create(SHOP, &config_map(name, "one")).await;
        let placement = format!("/apis/federation.rs/v1alpha1/namespaces/shop/placements/configmaps.{name}");
        federation.applied(&placement, &["taiwan", "tokyo"]).await;
    }
    (federation, taiwan, tokyo)
}

fn budget() -> Value {
    json!({"apiVersion": "federation.rs/v1alpha1", "kind": "DeletionBudget", "metadata": {"name": "small"}, "spec": {"objects": 5}})
}

async fn held(federation: &Federation) -> Value {
    until("a removal is held", || async { federation.api.items(HELD).await.into_iter().next() }).await
}

async fn decide(federation: &Federation, held: &Value, decision: &str) {
    let path = format!("{HELD}/{}", held["metadata"]["name"].as_str().unwrap());
    federation.api.merge(&path, &json!({"spec": {"decision": decision}})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_holds_too_much_is_held_whole_until_a_person_confirms() {
    let (mut federation, taiwan, tokyo) = shop().await;
    federation.api.delete(&format!("{NAMESPACES}/shop"), Some("Background")).await;
    let found = held(&federation).await;
    assert_eq!(found["spec"]["cause"], "Namespace shop");
    assert_eq!(found["spec"]["copies"], 10, "four ConfigMaps and the Namespace, in two clusters");
    until("the refusal is an Event", || async {
        let events = federation.api.items("/api/v1/events").await;
        events.into_iter().find(|event| event["reason"] == "RemovalRefused")
    })
    .await;
    // A restart of the controller forgets no hold.
    federation.stop_controller().await;
    federation.start_controller().await;
    // Others' deletes go on meanwhile.
    federation.api.create(CONFIG_MAPS, &config_map("by-name", "one")).await;
    federation.applied(&format!("{PLACEMENTS}/configmaps.by-name"), &["taiwan", "tokyo"]).await;
    federation.api.delete(&format!("{CONFIG_MAPS}/by-name"), Some("Background")).await;
    for member in [&taiwan, &tokyo] {
        member.api.gone(&format!("{CONFIG_MAPS}/by-name")).await;
        for name in ["a", "b", "c", "d"] {
            assert!(member.api.get(&format!("{SHOP}/{name}")).await.is_some(), "{} {name}", member.name);
        }
    }

    decide(&federation, &found, "Remove").await;
    for member in [&taiwan, &tokyo] {
        member.api.gone(&format!("{NAMESPACES}/shop")).await;
    }
    federation.api.gone(&format!("{NAMESPACES}/shop")).await;
    federation.api.gone(&format!("{HELD}/{}", found["metadata"]["name"].as_str().unwrap())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_namespace_can_be_let_go_with_its_copies_left_in_the_members() {
    let (federation, taiwan, tokyo) = shop().await;
    federation.api.delete(&format!("{NAMESPACES}/shop"), Some("Background")).await;
    let found = held(&federation).await;
    decide(&federation, &found, "Release").await;
    federation.api.gone(&format!("{NAMESPACES}/shop")).await;
    for member in [&taiwan, &tokyo] {
        for name in ["a", "b", "c", "d"] {
            let copy = member.api.get(&format!("{SHOP}/{name}")).await.expect("it stays");
            assert_eq!(template_uid(&copy), None, "and is the federation's no more");
        }
    }
    federation.api.gone(&format!("{HELD}/{}", found["metadata"]["name"].as_str().unwrap())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_would_remove_too_much_removes_nothing_and_its_correction_ends_the_hold() {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    federation.api.create(BUDGETS, &budget()).await;
    let names: Vec<String> = (0..6).map(|number| format!("settings-{number}")).collect();
    for name in &names {
        federation.api.create(CONFIG_MAPS, &config_map(name, "one")).await;
    }
    for name in &names {
        federation.applied(&format!("{PLACEMENTS}/configmaps.{name}"), &["taiwan", "tokyo"]).await;
    }
    let spec = json!({"clusters": {"names": ["tokyo"]}});
    federation.api.create(POLICIES, &policy("v1", "ConfigMap", spec)).await;
    let found = held(&federation).await;
    assert_eq!(found["spec"]["cause"], "PlacementPolicy default/policy");
    assert_eq!(found["spec"]["copies"], 6);
    for name in &names {
        assert!(taiwan.api.get(&format!("{CONFIG_MAPS}/{name}")).await.is_some(), "{name}");
    }
    // The policy is mended: everything is as it was, and was never gone.
    let both = json!({"spec": {"clusters": {"names": ["taiwan", "tokyo"]}}});
    federation.api.merge(&format!("{POLICIES}/policy"), &both).await;
    for name in &names {
        federation.applied(&format!("{PLACEMENTS}/configmaps.{name}"), &["taiwan", "tokyo"]).await;
    }
    decide(&federation, &found, "Remove").await;
    federation.api.gone(&format!("{HELD}/{}", found["metadata"]["name"].as_str().unwrap())).await;
    for member in [&taiwan, &tokyo] {
        for name in &names {
            assert!(member.api.get(&format!("{CONFIG_MAPS}/{name}")).await.is_some(), "{name}");
        }
    }
    let refusals = federation.api.items(EVENTS).await;
    assert!(refusals.iter().any(|event| event["reason"] == "RemovalRefused"), "{refusals:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_label_of_a_cluster_that_unselects_too_much_is_held_until_it_is_back_or_a_person_confirms() {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    federation.api.create(BUDGETS, &budget()).await;
    let label = async |name: &str, tier: Value| {
        let labels = json!({"metadata": {"labels": {"tier": tier}}});
        federation.api.merge(&format!("{CLUSTERS}/{name}"), &labels).await;
    };
    label("taiwan", json!("gold")).await;
    label("tokyo", json!("gold")).await;
    let spec = json!({"clusters": {"labelSelector": {"matchLabels": {"tier": "gold"}}}});
    federation.api.create(POLICIES, &policy("v1", "ConfigMap", spec)).await;
    let names: Vec<String> = (0..6).map(|number| format!("settings-{number}")).collect();
    let placed = async || {
        for name in &names {
            federation.applied(&format!("{PLACEMENTS}/configmaps.{name}"), &["taiwan", "tokyo"]).await;
        }
    };
    for name in &names {
        federation.api.create(CONFIG_MAPS, &config_map(name, "one")).await;
    }
    placed().await;

    label("taiwan", Value::Null).await;
    let found = held(&federation).await;
    assert_eq!(found["spec"]["copies"], 6, "{found}");
    for name in &names {
        assert!(taiwan.api.get(&format!("{CONFIG_MAPS}/{name}")).await.is_some(), "{name}");
    }
    // It was a mistake: everything is as it was, and was never gone.
    label("taiwan", json!("gold")).await;
    placed().await;
    for name in &names {
        assert!(taiwan.api.get(&format!("{CONFIG_MAPS}/{name}")).await.is_some(), "{name}");
    }
    // Now it is meant.
    label("taiwan", json!("silver")).await;
    decide(&federation, &found, "Remove").await;
    for name in &names {
        taiwan.api.gone(&format!("{CONFIG_MAPS}/{name}")).await;
        assert!(tokyo.api.get(&format!("{CONFIG_MAPS}/{name}")).await.is_some(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_permitted_again_for_an_agent_that_was_away_costs_no_budget_twice() {
    let (federation, taiwan, mut tokyo) = Federation::pair().await;
    federation.api.create(BUDGETS, &budget()).await;
    federation.api.create(NAMESPACES, &json!({"metadata": {"name": "shop"}})).await;
    federation.api.create(SHOP, &config_map("a", "one")).await;
    let placement = "/apis/federation.rs/v1alpha1/namespaces/shop/placements/configmaps.a";
    federation.applied(placement, &["taiwan", "tokyo"]).await;
    tokyo.stop_agent().await;
    // Two copies and two Namespaces: four of the five that one cause may remove.
    federation.api.delete(&format!("{NAMESPACES}/shop"), Some("Background")).await;
    taiwan.api.gone(&format!("{NAMESPACES}/shop")).await;
    assert!(tokyo.api.get(&format!("{SHOP}/a")).await.is_some());
    federation.restart_agent(&mut tokyo);
    tokyo.api.gone(&format!("{NAMESPACES}/shop")).await;
    federation.api.gone(&format!("{NAMESPACES}/shop")).await;
    let events = federation.api.items("/api/v1/events").await;
    assert!(!events.iter().any(|event| event["reason"] == "RemovalRefused"), "{events:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_template_is_in_the_trash_as_its_user_wrote_it() {
    let (federation, taiwan, _tokyo) = Federation::pair().await;
    let mut template = config_map("settings", "one");
    template["metadata"]["labels"] = json!({"app": "web"});
    let created = federation.api.create(CONFIG_MAPS, &template).await;
    federation.applied(&format!("{PLACEMENTS}/configmaps.settings"), &["taiwan", "tokyo"]).await;
    let path = format!("{CONFIG_MAPS}/settings");
    federation.api.delete(&path, Some("Background")).await;
    federation.api.gone(&path).await;
    taiwan.api.gone(&path).await;

    let uid = created["metadata"]["uid"].as_str().unwrap();
    let kept = federation.api.there(&format!("{TRASH}/configmaps.settings.default.{}", &uid[..8])).await;
    assert_eq!(kept["spec"]["clusters"], json!(["taiwan", "tokyo"]));
    let manifest: Value = serde_json::from_str(kept["spec"]["manifest"].as_str().unwrap()).unwrap();
    template["metadata"]["namespace"] = "default".into();
    assert_eq!(manifest, template);
    // Made anew from it, it goes where it was.
    federation.api.create(CONFIG_MAPS, &manifest).await;
    assert_eq!(taiwan.api.there(&path).await["data"]["key"], "one");
}
