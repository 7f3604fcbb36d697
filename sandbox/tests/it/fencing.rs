//! Workloads that may run in one cluster at a time.

use std::time::Duration;

use serde_json::{Value, json};

use crate::federation::{
    DEPLOYMENTS, Federation, Member, PLACEMENTS, POLICIES, Settings, deployment, policy, until_within,
};

/// A lease of 5 s, a tenth of it, the margin, and detection.
const TAKEOVER: Duration = Duration::from_secs(30);

async fn exclusive(federation: &Federation) {
    let spec = json!({"failover": {"prefer": "Exclusivity"}, "replicas": {"clusters": {"taiwan": {"weight": 9}, "tokyo": {"weight": 1}}}});
    federation.api.create(POLICIES, &policy("apps/v1", "Deployment", spec)).await;
    let mut template = deployment("ledger", 2);
    template["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 0.into();
    federation.api.create(DEPLOYMENTS, &template).await;
}

const LEDGER: &str = "/apis/apps/v1/namespaces/default/deployments/ledger";

async fn replicas(member: &Member) -> Option<i64> {
    member.api.get(LEDGER).await?["spec"]["replicas"].as_i64()
}

async fn runs(member: &Member, count: i64) {
    until_within(TAKEOVER, &format!("{} runs {count}", member.name), || async {
        (replicas(member).await == Some(count)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_cut_off_stops_its_copy_itself_and_only_then_another_one_starts() {
    let (federation, taiwan, tokyo, link) = Federation::pair_over_a_link(Settings::quick()).await;
    exclusive(&federation).await;
    runs(&taiwan, 2).await;
    runs(&tokyo, 0).await;

    link.cut();
    // Whenever tokyo is seen to run, taiwan has stopped: looked at in that order, and all the time.
    until_within(TAKEOVER, "tokyo takes over", || async {
        let started = replicas(&tokyo).await == Some(2);
        let stopped = replicas(&taiwan).await == Some(0);
        assert!(stopped || !started, "both run");
        started.then_some(())
    })
    .await;
    link.mend();
    federation.verdict("taiwan", "Healthy").await;
    let placement = format!("{PLACEMENTS}/deployments.apps.ledger");
    federation
        .api
        .until(&placement, "taiwan stands by", |found: &Value| {
            found["status"]["reasons"].as_array().is_some_and(|reasons| reasons[0]["rule"] == "Standby")
        })
        .await;
    assert_eq!((replicas(&taiwan).await, replicas(&tokyo).await), (Some(0), Some(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_hub_for_longer_than_the_lease_it_stops_and_with_the_hub_it_runs_again_where_it_ran() {
    let (mut federation, mut taiwan, tokyo) = Federation::pair_with(Settings::quick()).await;
    exclusive(&federation).await;
    runs(&taiwan, 2).await;
    federation.stop_controller().await;
    runs(&taiwan, 0).await;
    // A stopped copy stays stopped over a restart of the agent.
    taiwan.stop_agent().await;
    federation.restart_agent(&mut taiwan);
    let put_back = taiwan.api.merge(LEDGER, &json!({"spec": {"replicas": 1}})).await;
    assert_eq!(put_back["spec"]["replicas"], 1);
    runs(&taiwan, 0).await;

    federation.start_controller().await;
    runs(&taiwan, 2).await;
    runs(&tokyo, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_stops_it_here_before_it_starts_there() {
    let (federation, taiwan, tokyo) = Federation::pair_with(Settings::quick()).await;
    exclusive(&federation).await;
    runs(&taiwan, 2).await;
    let taint = json!({"spec": {"taints": [{"key": "federation.rs/drain", "effect": "NoExecute"}]}});
    federation.api.merge(&format!("{}/taiwan", crate::federation::CLUSTERS), &taint).await;
    until_within(TAKEOVER, "tokyo runs it", || async {
        let started = replicas(&tokyo).await == Some(2);
        assert!(!started || replicas(&taiwan).await == Some(0), "both run");
        started.then_some(())
    })
    .await;
}
