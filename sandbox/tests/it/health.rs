//! What is said of the clusters by everybody who looks, the one verdict that follows, and what moves for it.

use std::time::{Duration, Instant};

use federation_runtime::pki::Subject;
use proto::v1;
use serde_json::{Value, json};
use tokio_stream::wrappers::ReceiverStream;

use crate::federation::{
    CLUSTERS, CONFIG_MAPS, DEPLOYMENTS, EVENTS, Federation, PLACEMENTS, Settings, config_map, until,
    until_within,
};
use crate::link::Link;
use crate::traffic::{NAME, resolve, served, until_each, until_only};

const PLACEMENT: &str = "/apis/federation.rs/v1alpha1/namespaces/default/placements/deployments.apps.web";

fn ups(cluster: &v1::ClusterHealth) -> usize {
    let up = |vote: &&v1::HealthVote| {
        vote.counts && vote.vote.as_ref().is_some_and(|word| word.state() == v1::ProbeState::Up)
    };
    cluster.votes.iter().filter(up).count()
}

/// The Service `web` in both members, with so many probers each that see its users served.
async fn probed(federation: &Federation, probers: usize) {
    served(federation, &json!({})).await;
    for name in ["taiwan", "tokyo"] {
        federation.healthy_as(name, "users are seen to be served", |found| ups(found) >= probers).await;
    }
}

async fn clusters(federation: &Federation) -> Value {
    federation.api.get(PLACEMENT).await.unwrap()["spec"]["clusters"].clone()
}

/// Well past evictAfter of the verdict on taiwan, decisions are made anew.
async fn decided_again(federation: &Federation) {
    federation.healthy_as("taiwan", "stays as it is judged", |found| found.since_ms_ago > 1500).await;
    let label = json!({"metadata": {"labels": {"touched": "yes"}}});
    federation.api.merge(&format!("{DEPLOYMENTS}/web"), &label).await;
    federation.api.create(CONFIG_MAPS, &config_map("marker", "one")).await;
    federation.api.there(&format!("{PLACEMENTS}/configmaps.marker")).await;
}

async fn event(federation: &Federation, reason: &str, cluster: &str) {
    until(&format!("an Event {reason} on {cluster}"), || async {
        let events = federation.api.items(EVENTS).await;
        let about = |event: &&Value| {
            event["reason"] == reason
                && event["involvedObject"]["kind"] == "Cluster"
                && event["involvedObject"]["name"] == cluster
        };
        events.iter().find(about).map(|_| ())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_plane_that_dies_under_a_living_agent_is_seen_within_three_seconds_and_left() {
    // The default heartbeat and check.
    let settings = Settings { evict_after: Duration::from_secs(1), ..Settings::default() };
    let (federation, mut taiwan, tokyo) = Federation::pair_with(settings).await;
    let dns = federation.dns().await;
    // The controller, the DNS server, and the other member's agent.
    probed(&federation, 3).await;
    until_each(dns, NAME, [&taiwan, &tokyo]).await;
    taiwan.kill_data_plane().await;
    let died = Instant::now();
    federation.verdict("taiwan", "DataPlaneDown").await;
    let took = died.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    until_only(dns, &tokyo).await;
    eprintln!("data plane dead: verdict after {took:?}, answers after {:?}", died.elapsed());
    let found = federation.healthy_as("taiwan", "is down", |found| found.rule == "QuorumFails").await;
    assert!(found.agent.as_ref().is_some_and(|agent| agent.api_ok && agent.missed == 0), "{found:?}");
    assert!(found.reason.contains("votes say that users are not served"), "{}", found.reason);
    let tokyo_runs = |found: &Value| {
        let all = found["spec"]["clusters"].as_array();
        all.is_some_and(|all| all.iter().any(|target| target["name"] == "tokyo" && target["replicas"] == 4))
    };
    federation.api.until(PLACEMENT, "tokyo runs all", tokyo_runs).await;
    event(&federation, "DataPlaneDown", "taiwan").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_is_cut_off_from_a_member_moves_nothing_while_its_users_are_served() {
    let (federation, taiwan, tokyo, link) = Federation::pair_over_a_link(Settings::quick()).await;
    let dns = federation.dns().await;
    // That taiwan's agent sees tokyo is heard no more after the cut.
    probed(&federation, 3).await;
    until_each(dns, NAME, [&taiwan, &tokyo]).await;
    let before = clusters(&federation).await;

    link.cut();
    federation.verdict("taiwan", "HubUnreachable").await;
    let found = federation.healthy_as("taiwan", "is silent", |found| found.rule == "UsersServed").await;
    assert!(found.users_served && found.agent.is_some_and(|agent| agent.missed >= 3));
    decided_again(&federation).await;
    assert_eq!(clusters(&federation).await, before);
    until_each(dns, NAME, [&taiwan, &tokyo]).await;

    link.mend();
    federation.verdict("taiwan", "Healthy").await;
    assert_eq!(clusters(&federation).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_api_server_is_down_keeps_its_users_and_its_replicas() {
    let (federation, taiwan, tokyo) = Federation::pair_with(Settings::quick()).await;
    let dns = federation.dns().await;
    probed(&federation, 3).await;
    until_each(dns, NAME, [&taiwan, &tokyo]).await;
    let before = clusters(&federation).await;
    taiwan.set_api_down(true);
    federation.verdict("taiwan", "ApiDown").await;
    let found = federation.healthy_as("taiwan", "its API is down", |found| found.rule == "UsersServed").await;
    assert!(found.agent.is_some_and(|agent| agent.api_message.contains("connection refused")));
    decided_again(&federation).await;
    assert_eq!(clusters(&federation).await, before);
    until_each(dns, NAME, [&taiwan, &tokyo]).await;
    taiwan.set_api_down(false);
    federation.verdict("taiwan", "Healthy").await;
}

/// A DNS server somewhere else, which sees other things than the others. Its stream ends with what is given back.
async fn elsewhere(
    federation: &Federation,
    identity: &str,
    instance: &str,
    saw: v1::ProbeState,
) -> tokio::task::JoinHandle<()> {
    let channel = federation.channel(&Subject::dns_named(identity)).await;
    let (instance, saw) = (instance.to_owned(), i32::from(saw));
    tokio::spawn(async move {
        let (sender, receiver) = tokio::sync::mpsc::channel(8);
        let said = |message| v1::DnsMessage { message: Some(message) };
        let hello = v1::DnsHello { instance, ..v1::DnsHello::default() };
        sender.send(said(v1::dns_message::Message::Hello(hello))).await.unwrap();
        let mut client = v1::zones_client::ZonesClient::new(channel);
        let _updates = client.watch(ReceiverStream::new(receiver)).await.unwrap();
        loop {
            let vote = v1::ProbeVote {
                service: "default/web".into(),
                cluster: "taiwan".into(),
                state: saw,
                failures: 2,
                message: "no route to host".into(),
                ..v1::ProbeVote::default()
            };
            let votes = v1::ProbeVotes { votes: vec![vote] };
            if sender.send(said(v1::dns_message::Message::Votes(votes))).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_names_of_one_certificate_are_one_vote() {
    let (federation, _taiwan, _tokyo) = Federation::pair_with(Settings::quick()).await;
    // The controller and tokyo's agent.
    probed(&federation, 2).await;
    let (one, other) = (
        elsewhere(&federation, "osaka", "osaka-1", v1::ProbeState::Down).await,
        elsewhere(&federation, "osaka", "osaka-2", v1::ProbeState::Down).await,
    );
    let of_osaka = |vote: &&v1::HealthVote| vote.voter.starts_with("dns/osaka");
    let both = |found: &v1::ClusterHealth| found.votes.iter().filter(of_osaka).count() == 2;
    let found = federation.healthy_as("taiwan", "both are heard", both).await;
    assert_eq!(found.votes.iter().filter(of_osaka).filter(|vote| vote.counts).count(), 1);
    assert_eq!((found.verdict.as_str(), found.data_plane.as_str()), ("Healthy", "Up"), "{found:?}");
    one.abort();
    other.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_half_see_users_served_and_half_do_not_nothing_moves() {
    let (federation, _taiwan, _tokyo) = Federation::pair_with(Settings::quick()).await;
    // The controller and tokyo's agent.
    probed(&federation, 2).await;
    let before = clusters(&federation).await;
    let (one, other) = (
        elsewhere(&federation, "osaka-1", "osaka-1", v1::ProbeState::Down).await,
        elsewhere(&federation, "osaka-2", "osaka-2", v1::ProbeState::Down).await,
    );
    federation.verdict("taiwan", "Partitioned").await;
    let found = federation.healthy_as("taiwan", "is judged", |found| found.rule == "VotersDisagree").await;
    assert!(found.reason.contains("no route to host"), "{}", found.reason);
    decided_again(&federation).await;
    assert_eq!(clusters(&federation).await, before);
    let name = NAME.to_owned();
    let mut operations = federation.operations(&Subject::admin()).await;
    let request = v1::LookupRequest { name, from: String::new() };
    let looked = operations.lookup(request).await.unwrap().into_inner();
    assert!(looked.reasons.iter().all(|reason| reason.answered), "{:?}", looked.reasons);
    one.abort();
    other.abort();
    // Their last votes live for 10 s, and then the cluster has to be seen well for a while.
    until_within(Duration::from_secs(40), "taiwan is well again", || async {
        let found = federation.api.get(&format!("{CLUSTERS}/taiwan")).await?;
        (found["status"]["verdict"] == "Healthy").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_flaps_is_held_down_though_it_is_heard() {
    let federation = Federation::start(Settings::quick()).await;
    let link = Link::to(federation.hub_address()).await;
    let _taiwan = federation.join_through("taiwan", link.address).await;
    // Three, so that one that flaps is no mass failure.
    let _others = (federation.join("tokyo").await, federation.join("osaka").await);
    for name in ["taiwan", "tokyo", "osaka"] {
        federation.verdict(name, "Healthy").await;
    }
    for fall in 1..=4 {
        link.cut();
        federation.verdict("taiwan", "HubUnreachable").await;
        link.mend();
        if fall < 4 {
            federation.verdict("taiwan", "Healthy").await;
        }
    }
    let heard = |found: &v1::ClusterHealth| found.agent.as_ref().is_some_and(|agent| agent.missed == 0);
    let found = federation.healthy_as("taiwan", "is heard again", heard).await;
    assert!(found.held_down && found.penalty > 3.0, "{found:?}");
    // Ten heartbeats later it is still down.
    let age = found.since_ms_ago + 3000;
    let heard_long = |found: &v1::ClusterHealth| heard(found) && found.since_ms_ago > age;
    let found = federation.healthy_as("taiwan", "is heard still", heard_long).await;
    assert_eq!((found.verdict.as_str(), found.held_down), ("HubUnreachable", true));
    assert_eq!(federation.health().await.frozen, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_hub_a_dns_server_withdraws_what_it_sees_dead_and_never_the_last_answer() {
    let (mut federation, mut taiwan, mut tokyo) = Federation::pair_with(Settings::quick()).await;
    let dns = federation.dns().await;
    probed(&federation, 3).await;
    until_each(dns, NAME, [&taiwan, &tokyo]).await;
    federation.stop_controller().await;
    taiwan.kill_data_plane().await;
    until_only(dns, &tokyo).await;
    // Its last answer stays, dead or not; in a second or two it would have been seen.
    tokyo.kill_data_plane().await;
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        assert!(!resolve(dns, NAME).await.is_empty());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The hub is back, and its word counts again.
    federation.start_controller().await;
    until_within(Duration::from_secs(20), "it is answered as the hub says", || async {
        let mut operations = federation.operations(&Subject::admin()).await;
        let status = operations.dns_status(v1::DnsStatusRequest {}).await.unwrap().into_inner();
        let current = |server: &v1::DnsServer| server.connected && server.epoch == status.epoch;
        (status.servers.iter().any(current) && !resolve(dns, NAME).await.is_empty()).then_some(())
    })
    .await;
    assert!(federation.api.get(&format!("{PLACEMENTS}/deployments.apps.web")).await.is_some());
}
