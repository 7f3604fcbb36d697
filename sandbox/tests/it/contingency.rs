//! What survivors do by plan while the hub is away, and what becomes of it when it is back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use federation_runtime::pki::Subject;
use federation_runtime::shutdown::Shutdown;
use proto::v1;
use serde_json::{Value, json};

use crate::federation::{EVENTS, Federation, Member, PLACEMENTS, Settings, until, until_within};
use crate::traffic::{NAME, served, until_each, until_only};

const WEB: &str = "/apis/apps/v1/namespaces/default/deployments/web";
/// Three seconds without the hub, evictAfter, and detection; on a busy machine.
const TAKEOVER: Duration = Duration::from_secs(30);

async fn replicas(member: &Member) -> i64 {
    member.api.get(WEB).await.unwrap()["spec"]["replicas"].as_i64().unwrap()
}

async fn plans(federation: &Federation) -> v1::PlansResponse {
    let mut operations = federation.operations(&Subject::admin()).await;
    operations.plans(v1::PlansRequest {}).await.unwrap().into_inner()
}

/// What a survivor takes over at the loss of one cluster.
fn takes(found: &v1::PlansResponse, lost: &str) -> Vec<(String, i64, i64)> {
    let name = format!("cluster/{lost}");
    let plan = found.plans.iter().find(|plan| plan.loss == name);
    let workloads = plan.into_iter().flat_map(|plan| &plan.workloads);
    let takes = workloads.flat_map(|workload| &workload.takes);
    takes.map(|take| (take.cluster.clone(), take.from, take.to)).collect()
}

/// The Service `web` in both members, users seen to be served in both by agents and the DNS server, plans in every agent, and every agent
/// meeting the others.
async fn prepared(federation: &Federation, dns: SocketAddr, taiwan: &Member, tokyo: &Member) {
    served(federation, &json!({})).await;
    until_each(dns, NAME, [taiwan, tokyo]).await;
    for member in [taiwan, tokyo] {
        federation
            .healthy_as(&member.name, "users are seen to be served", |found| {
                let up = |vote: &&v1::HealthVote| {
                    vote.vote.as_ref().is_some_and(|word| word.state() == v1::ProbeState::Up)
                };
                found.votes.iter().filter(up).count() >= 3
            })
            .await;
    }
    until_within(Duration::from_secs(20), "plans are made, held, and can be agreed on", || async {
        let found = plans(federation).await;
        let held = found.holders.iter().filter(|holder| holder.current && holder.meets == ["one"]).count();
        let ready = takes(&found, "taiwan") == [("tokyo".to_owned(), 2, 4)]
            && takes(&found, "tokyo") == [("taiwan".to_owned(), 2, 4)]
            && found.plans.iter().all(|plan| plan.findings.is_empty());
        (held == 2 && ready).then_some(())
    })
    .await;
}

/// Well past the time after which a survivor would have acted, it runs what it ran.
async fn nothing_moves(member: &Member) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(7) {
        assert_eq!(replicas(member).await, 2, "after {:?}", start.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_hub_the_survivor_acts_on_its_plan_and_a_hub_that_returns_adopts_it() {
    let (mut federation, mut taiwan, tokyo) = Federation::pair_with(Settings::quick()).await;
    let dns = federation.dns_where_agents_meet("one", Shutdown::new());
    prepared(&federation, dns, &taiwan, &tokyo).await;

    federation.stop_controller().await;
    taiwan.kill_data_plane().await;
    taiwan.stop_agent().await;
    let lost = Instant::now();
    until_only(dns, &tokyo).await;
    eprintln!("without a hub: answers moved after {:?}", lost.elapsed());
    until_within(TAKEOVER, "tokyo runs all four", || async {
        let copy = tokyo.api.get(WEB).await?;
        (copy["spec"]["replicas"] == 4 && copy["status"]["readyReplicas"] == 4).then_some(())
    })
    .await;
    eprintln!("without a hub: replicas replaced after {:?}", lost.elapsed());

    // From now on tokyo runs four, whatever the hub learns, and in whatever order.
    let watched = tokyo.api.clone();
    let watching = tokio::spawn(async move {
        loop {
            let copy = watched.get(WEB).await.unwrap();
            assert_eq!(copy["spec"]["replicas"], 4, "it flaps");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    federation.start_controller().await;
    let placement = format!("{PLACEMENTS}/deployments.apps.web");
    let adopted = |found: &Value| {
        let spec = &found["spec"];
        spec["clusters"][1]["replicas"] == 4 && spec["adopted"][0]["cluster"] == "tokyo"
    };
    federation.api.until(&placement, "starts from what tokyo did", adopted).await;
    until("an Event tells of it", || async {
        let events = federation.api.items(EVENTS).await;
        events.into_iter().find(|event| {
            event["reason"] == "ContingencyPlanActed" && event["involvedObject"]["name"] == "tokyo"
        })
    })
    .await;
    until("operators are told that it is adopted", || async {
        let acts = plans(&federation).await.acts;
        let act = acts.first().filter(|act| act.adopted)?;
        assert_eq!(
            (act.cluster.as_str(), act.losses.as_slice()),
            ("tokyo", ["cluster/taiwan".to_owned()].as_slice())
        );
        Some(())
    })
    .await;
    assert!(!watching.is_finished(), "tokyo's copy was scaled down: {:?}", watching.await);
    watching.abort();

    // Taiwan returns, and takes its own by the planner's rules.
    taiwan.revive_data_plane();
    federation.restart_agent(&mut taiwan);
    until_within(2 * TAKEOVER, "replicas are divided again", || async {
        (replicas(&taiwan).await == 2 && replicas(&tokyo).await == 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_only_one_site_cannot_reach_is_not_away() {
    let (federation, mut taiwan, tokyo, link) =
        Federation::pair_over_a_link_to("tokyo", Settings::quick()).await;
    let dns = federation.dns_where_agents_meet("one", Shutdown::new());
    prepared(&federation, dns, &taiwan, &tokyo).await;
    // Tokyo hears nothing of the hub, and taiwan is dead; but the DNS server hears the hub.
    link.cut();
    taiwan.kill_data_plane().await;
    taiwan.stop_agent().await;
    nothing_moves(&tokyo).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_cut_off_from_everybody_does_nothing() {
    let (mut federation, mut taiwan, tokyo) = Federation::pair_with(Settings::quick()).await;
    let meeting = Shutdown::new();
    let dns = federation.dns_where_agents_meet("one", meeting.clone());
    prepared(&federation, dns, &taiwan, &tokyo).await;
    federation.stop_controller().await;
    meeting.start();
    taiwan.kill_data_plane().await;
    taiwan.stop_agent().await;
    nothing_moves(&tokyo).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_place_to_meet_the_plan_says_so() {
    let (federation, _taiwan, _tokyo) = Federation::pair_with(Settings::quick()).await;
    let _dns = federation.dns().await;
    served(&federation, &json!({})).await;
    until("the plan says that nobody would act on it", || async {
        let found = plans(&federation).await;
        let plan = found.plans.iter().find(|plan| plan.loss == "cluster/taiwan")?;
        plan.findings.iter().find(|finding| finding.rule == "NobodyToAsk").map(|_| ())
    })
    .await;
    // A DNS server's certificate opens another door.
    let mut stranger = federation.operations(&Subject::dns()).await;
    let refused = stranger.plans(v1::PlansRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
}
