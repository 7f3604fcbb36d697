//! A freeze, what operators are told of it, and the word that ends it.

use federation_runtime::pki::Subject;
use proto::v1;
use serde_json::Value;
use tonic::Code;

use crate::federation::{DEPLOYMENTS, EVENTS, Federation, PLACEMENTS, Settings, deployment, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_freeze_says_why_and_ends_by_an_operators_word_for_all_that_it_named() {
    let (federation, mut taiwan, mut tokyo) = Federation::pair_with(Settings::quick()).await;
    federation.api.create(DEPLOYMENTS, &deployment("web", 4)).await;
    federation.applied(&format!("{PLACEMENTS}/deployments.apps.web"), &["taiwan", "tokyo"]).await;
    let mut operations = federation.operations(&Subject::admin()).await;
    let ask = |reason: &str| v1::UnfreezeRequest { reason: reason.into() };
    let refused = operations.unfreeze(ask("nothing to do")).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);

    taiwan.stop_agent().await;
    tokyo.stop_agent().await;
    let frozen = until("it is frozen", || async {
        let health = federation.health().await;
        (!health.frozen.is_empty()).then_some(health)
    })
    .await;
    assert!(frozen.frozen.contains("2 of 2 clusters went bad at once"), "{}", frozen.frozen);
    assert_eq!(frozen.frozen_clusters, ["taiwan", "tokyo"]);
    for name in ["taiwan", "tokyo"] {
        federation.verdict(name, "HubUnreachable").await;
    }

    let refused = operations.unfreeze(ask("  ")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let refused = federation.operations(&Subject::dns()).await.unfreeze(ask("why not")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(!federation.health().await.frozen.is_empty());

    let done = operations.unfreeze(ask("both sites are being moved")).await.unwrap().into_inner();
    assert_eq!(done.unfreeze.unwrap().clusters, ["taiwan", "tokyo"]);
    let health = federation.health().await;
    assert_eq!(health.frozen, "");
    let last = health.last_unfreeze.unwrap();
    assert_eq!((last.by.as_str(), last.reason.as_str()), ("admin", "both sites are being moved"));
    assert!(last.at_ms > 0 && last.freeze.contains("2 of 2"));
    until("Events tell of it", || async {
        let events = federation.api.items(EVENTS).await;
        let told = |name: &str| {
            events
                .iter()
                .any(|event: &Value| event["reason"] == "Unfrozen" && event["involvedObject"]["name"] == name)
        };
        (told("taiwan") && told("tokyo")).then_some(())
    })
    .await;
    // Many judgements later, by the hub's own clock, it is not found again for the same clusters.
    for cluster in federation.health().await.clusters {
        let later = cluster.since_ms_ago + 3000;
        federation.healthy_as(&cluster.cluster, "is judged again", |found| found.since_ms_ago > later).await;
    }
    assert_eq!(federation.health().await.frozen, "");

    // What was said outlives the controller.
    let mut federation = federation;
    federation.stop_controller().await;
    federation.start_controller().await;
    assert_eq!(federation.health().await.last_unfreeze.unwrap().reason, "both sites are being moved");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_freeze_ends_by_itself_when_the_clusters_recover() {
    let (federation, mut taiwan, mut tokyo) = Federation::pair_with(Settings::quick()).await;
    taiwan.stop_agent().await;
    tokyo.stop_agent().await;
    until("it is frozen", || async { (!federation.health().await.frozen.is_empty()).then_some(()) }).await;
    federation.restart_agent(&mut taiwan);
    federation.restart_agent(&mut tokyo);
    until("it is thawed", || async { federation.health().await.frozen.is_empty().then_some(()) }).await;
    assert_eq!(federation.health().await.last_unfreeze, None, "nobody said so");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_operators_are_told_and_an_unknown_cluster_is_not_found() {
    let (federation, _taiwan, _tokyo) = Federation::pair().await;
    let ask = |cluster: &str| v1::HealthRequest { cluster: cluster.into() };
    let mut operations = federation.operations(&Subject::admin()).await;
    let one = operations.health(ask("taiwan")).await.unwrap().into_inner();
    assert_eq!(one.clusters.len(), 1);
    assert_eq!(
        (one.clusters[0].verdict.as_str(), one.clusters[0].rule.as_str()),
        ("Healthy", "HeartbeatsArrive")
    );
    assert_eq!(operations.health(ask("osaka")).await.unwrap_err().code(), Code::NotFound);
    let refused = federation.operations(&Subject::dns()).await.health(ask("")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}
