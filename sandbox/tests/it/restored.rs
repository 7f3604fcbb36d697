//! A store that was restored from a backup: members hold newer decisions than it knows of.

use federation_runtime::pki::Subject;
use proto::v1;
use serde_json::{Value, json};

use crate::federation::{
    CONFIG_MAPS, DEPLOYMENTS, EVENTS, Federation, Member, PLACEMENTS, POLICIES, config_map, deployment,
    policy, until,
};

const PLACEMENT: &str = "deployments.apps.web";

async fn runs(member: &Member, replicas: i64) {
    let path = format!("{DEPLOYMENTS}/web");
    let ready =
        |copy: &Value| copy["spec"]["replicas"] == replicas && copy["status"]["readyReplicas"] == replicas;
    member.api.until(&path, &format!("runs {replicas}"), ready).await;
}

async fn scale(federation: &Federation, replicas: i64) {
    federation.api.merge(&format!("{DEPLOYMENTS}/web"), &json!({"spec": {"replicas": replicas}})).await;
}

/// Waits until the hub hears both agents: they try again after ever longer waits.
async fn heard(federation: &Federation) {
    for name in ["taiwan", "tokyo"] {
        federation.healthy_as(name, "is heard", |found| found.verdict == "Healthy").await;
    }
}

/// Whether a reason of the Placement has this rule.
fn says(placement: &Value, rule: &str) -> bool {
    let reasons = placement["status"]["reasons"].as_array().map(Vec::as_slice).unwrap_or_default();
    reasons.iter().any(|reason| reason["rule"] == rule)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_store_takes_nothing_away_until_an_operator_says_that_it_is_right() {
    let (mut federation, taiwan, tokyo) = Federation::pair().await;
    federation.api.create(DEPLOYMENTS, &deployment("web", 4)).await;
    federation.api.create(CONFIG_MAPS, &config_map("settings", "one")).await;
    for name in [PLACEMENT, "configmaps.settings"] {
        federation.applied(&format!("{PLACEMENTS}/{name}"), &["taiwan", "tokyo"]).await;
    }
    let backup = federation.back_up().await;
    heard(&federation).await;
    scale(&federation, 6).await;
    federation.api.create(CONFIG_MAPS, &config_map("later", "one")).await;
    for member in [&taiwan, &tokyo] {
        runs(member, 3).await;
        member.api.there(&format!("{CONFIG_MAPS}/later")).await;
    }

    federation.restore(&backup).await;
    heard(&federation).await;
    until("it is seen that the store was restored", || async {
        let restored = federation.health().await.restored;
        restored.contains("the store was restored from a backup").then_some(())
    })
    .await;
    // The template says four again; the members run six, and go on.
    let path = format!("{PLACEMENTS}/{PLACEMENT}");
    federation.api.until(&path, "says why nothing goes", |found| says(found, "StoreRestored")).await;
    federation.api.delete(&format!("{CONFIG_MAPS}/settings"), Some("Background")).await;
    until("the gate refuses, and an Event says so", || async {
        let events = federation.api.items(EVENTS).await;
        events
            .iter()
            .any(|event| {
                event["reason"] == "RemovalRefused"
                    && event["message"].as_str().is_some_and(|text| text.contains("restored from a backup"))
            })
            .then_some(())
    })
    .await;
    for member in [&taiwan, &tokyo] {
        runs(member, 3).await;
        for name in ["settings", "later"] {
            assert!(member.api.get(&format!("{CONFIG_MAPS}/{name}")).await.is_some(), "{}", member.name);
        }
    }
    // A controller that starts anew knows it still.
    federation.stop_controller().await;
    federation.start_controller().await;
    heard(&federation).await;
    assert!(federation.health().await.restored.contains("restored from a backup"));

    let mut operations = federation.operations(&Subject::admin()).await;
    let word = v1::UnfreezeRequest { reason: "it is the right backup".into() };
    operations.unfreeze(word).await.unwrap();
    assert_eq!(federation.health().await.restored, "");
    until("four run together", || async {
        let mut together = 0;
        for member in [&taiwan, &tokyo] {
            let copy = member.api.get(&format!("{DEPLOYMENTS}/web")).await?;
            together += copy["status"]["readyReplicas"].as_i64()?;
        }
        (together == 4).then_some(())
    })
    .await;
    for member in [&taiwan, &tokyo] {
        member.api.gone(&format!("{CONFIG_MAPS}/settings")).await;
        assert!(member.api.get(&format!("{CONFIG_MAPS}/later")).await.is_some(), "a stray stays");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_restored_store_never_placed_stays_where_it_runs() {
    let (mut federation, taiwan, tokyo) = Federation::pair().await;
    federation.stop_controller().await;
    federation.api.create(DEPLOYMENTS, &deployment("web", 2)).await;
    // The template is there, and nothing was decided of it.
    let backup = federation.back_up().await;
    heard(&federation).await;
    let path = format!("{PLACEMENTS}/{PLACEMENT}");
    federation.applied(&path, &["taiwan", "tokyo"]).await;
    let shares = json!({"replicas": {"rebalance": true, "clusters": {"tokyo": {"weight": 1}}}});
    federation.api.create(POLICIES, &policy("apps/v1", "Deployment", shares)).await;
    runs(&tokyo, 2).await;
    taiwan.api.until(&format!("{DEPLOYMENTS}/web"), "runs none", |copy| copy["spec"]["replicas"] == 0).await;

    federation.restore(&backup).await;
    heard(&federation).await;
    let placed = federation.api.there(&path).await;
    let replicas = |cluster: usize| placed["spec"]["clusters"][cluster]["replicas"].as_i64();
    assert_eq!((replicas(0), replicas(1)), (Some(0), Some(2)), "{placed}");
    runs(&tokyo, 2).await;
}
