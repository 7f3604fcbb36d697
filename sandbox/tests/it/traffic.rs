//! DNS follows.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use federation_runtime::pki::Subject;
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use proto::v1;
use serde_json::{Value, json};
use tokio::net::UdpSocket;

use crate::federation::{
    CLUSTERS, DEPLOYMENTS, Federation, Member, PLACEMENTS, POLICIES as PLACEMENT_POLICIES, SERVICES,
    deployment, policy, until, until_within,
};

/// The addresses of one answer; none for what is not an answer.
pub(crate) async fn resolve(server: SocketAddr, name: &str) -> BTreeSet<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut query = Message::new(1, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    socket.send_to(&query.to_vec().unwrap(), server).await.unwrap();
    let mut buffer = [0; 4096];
    let answer = tokio::time::timeout(Duration::from_millis(500), socket.recv(&mut buffer)).await;
    let Ok(Ok(length)) = answer else { return BTreeSet::new() };
    let message = Message::from_vec(&buffer[..length]).unwrap();
    let address = |data: &RData| match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        _ => None,
    };
    message.answers.iter().filter_map(|record| address(&record.data)).collect()
}

pub(crate) fn is_of(address: IpAddr, member: &Member) -> bool {
    matches!(address, IpAddr::V4(address) if address.octets()[..2] == [127, member.index])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_cluster_leaves_the_answers_before_it_is_empty() {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    let dns = federation.dns().await;
    served(&federation, &json!({})).await;
    until_each(dns, NAME, [&taiwan, &tokyo]).await;
    let taint = json!({"spec": {"taints": [{"key": "federation.rs/drain", "effect": "NoExecute"}]}});
    federation.api.merge(&format!("{CLUSTERS}/taiwan"), &taint).await;
    let copy = format!("{DEPLOYMENTS}/web");
    until("only tokyo is answered with, while taiwan still serves", || async {
        // Who resolved just before may come for the answer's whole TTL.
        let serving = taiwan.api.get(&copy).await.unwrap()["status"]["readyReplicas"].as_i64().unwrap_or(0);
        let answer = resolve(dns, NAME).await;
        let told = answer.iter().any(|address| is_of(*address, &taiwan));
        assert!(!told || serving > 0, "users are sent to a cluster that serves nothing");
        (!answer.is_empty() && !told).then_some(())
    })
    .await;
    federation
        .api
        .until(&format!("{PLACEMENTS}/deployments.apps.web"), "taiwan is empty", |found| {
            let clusters = found["spec"]["clusters"].as_array().unwrap();
            clusters.iter().all(|target| target["name"] != "taiwan" || target["replicas"] == 0)
        })
        .await;
    let answer = resolve(dns, NAME).await;
    assert!(!answer.is_empty() && answer.iter().all(|address| is_of(*address, &tokyo)), "{answer:?}");
}

pub(crate) const POLICIES: &str = "/apis/federation.rs/v1alpha1/namespaces/default/trafficpolicies";
pub(crate) const NAME: &str = "web.default.fed.svc.example.test.";
/// With two clusters of equal weight, this many answers from one of them are no accident but once in 65,536.
const ANSWERS: usize = 16;

/// A Deployment with its Service, served by both members, and a TrafficPolicy `web` with this in its spec.
pub(crate) async fn served(federation: &Federation, spec: &Value) {
    federation.api.create(DEPLOYMENTS, &deployment("web", 4)).await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 8080, "targetPort": 8080}]}});
    federation.api.create(SERVICES, &service).await;
    let mut policy = json!({"apiVersion": "federation.rs/v1alpha1", "kind": "TrafficPolicy", "metadata": {"name": "web"},
        "spec": {"service": "web", "ttlSeconds": 1}});
    for (field, value) in spec.as_object().unwrap() {
        policy["spec"][field] = value.clone();
    }
    federation.api.create(POLICIES, &policy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_leaves_a_cluster_out_for_a_deployment_alone_takes_its_services_users_away_first() {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    let dns = federation.dns().await;
    served(&federation, &json!({})).await;
    until_each(dns, NAME, [&taiwan, &tokyo]).await;
    let placement = policy("apps/v1", "Deployment", json!({"clusters": {"names": ["tokyo"]}}));
    federation.api.create(PLACEMENT_POLICIES, &placement).await;
    let copy = format!("{DEPLOYMENTS}/web");
    until("taiwan is left by its users, and then by the Deployment", || async {
        // Whoever resolves after this look is not sent to what is not there.
        let there = taiwan.api.get(&copy).await.is_some();
        let told = resolve(dns, NAME).await.iter().any(|address| is_of(*address, &taiwan));
        assert!(!told || there, "users are sent to a cluster that serves nothing");
        (!there && !told).then_some(())
    })
    .await;
    assert!(
        taiwan.api.get(&format!("{SERVICES}/web")).await.is_some(),
        "the policy is not about the Service"
    );
    until_only(dns, &tokyo).await;
}

/// Waits until some answer points at the member.
pub(crate) async fn until_answered(dns: SocketAddr, name: &str, member: &Member) {
    // Much may have just started, and tests run beside each other.
    until_within(Duration::from_secs(30), &format!("{} is answered with", member.name), || async {
        resolve(dns, name).await.into_iter().any(|address| is_of(address, member)).then_some(())
    })
    .await;
}

/// The same of each of them.
pub(crate) async fn until_each(dns: SocketAddr, name: &str, members: [&Member; 2]) {
    for member in members {
        until_answered(dns, name, member).await;
    }
}

/// Waits until every answer points at one member.
pub(crate) async fn until_only(dns: SocketAddr, member: &Member) {
    until("every answer is of one member", || async {
        for _ in 0..ANSWERS {
            let answer = resolve(dns, NAME).await;
            if answer.is_empty() || !answer.iter().all(|address| is_of(*address, member)) {
                return None;
            }
        }
        Some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_by_hand_moves_users_until_it_expires() {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    let dns = federation.dns().await;
    served(&federation, &json!({})).await;
    until_each(dns, NAME, [&taiwan, &tokyo]).await;
    let until_time = jiff::Timestamp::now() + Duration::from_secs(4);
    let switch =
        json!({"state": "Off", "reason": "maintenance", "by": "mallory", "until": until_time.to_string()});
    let patch = json!({"spec": {"overrides": {"taiwan": switch}}});
    let policy = federation.api.merge(&format!("{POLICIES}/web"), &patch).await;
    // Who it was is for the API server to say.
    assert_eq!(policy["spec"]["overrides"]["taiwan"]["by"], "federation:in-process");
    until_only(dns, &tokyo).await;
    let of_taiwan = |policy: &Value, rule: &str| {
        let clusters = policy["status"]["clusters"].as_array().into_iter().flatten();
        clusters.into_iter().any(|cluster| cluster["name"] == "taiwan" && cluster["rule"] == rule)
    };
    let path = format!("{POLICIES}/web");
    federation
        .api
        .until(&path, "says who switched taiwan off", |policy| of_taiwan(policy, "SwitchedOff"))
        .await;
    federation
        .api
        .until(&path, "the switch is gone", |policy| {
            policy["spec"].get("overrides").is_none_or(|overrides| overrides.get("taiwan").is_none())
        })
        .await;
    until_answered(dns, NAME, &taiwan).await;
    federation.api.until(&path, "says that taiwan serves", |policy| of_taiwan(policy, "Serving")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_answered_by_their_region_and_every_answer_is_explained() {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    let dns = federation.dns().await;
    for (cluster, region) in [("taiwan", "asia-east"), ("tokyo", "asia-northeast")] {
        federation.api.merge(&format!("{CLUSTERS}/{cluster}"), &json!({"spec": {"region": region}})).await;
    }
    let regions = "/apis/federation.rs/v1alpha1/clientregions";
    let object = json!({"apiVersion": "federation.rs/v1alpha1", "kind": "ClientRegions", "metadata": {"name": "all"},
        "spec": {"regions": {"asia-east": {"prefixes": ["127.0.0.0/8"]}}}});
    federation.api.create(regions, &object).await;
    served(&federation, &json!({"proximity": "Region"})).await;
    until_only(dns, &taiwan).await;

    let operations = federation.operations(&Subject::admin()).await;
    let request = v1::LookupRequest { name: NAME.into(), from: "127.0.0.1".into() };
    // Tokyo is the next tier, which no answer shows.
    let found = until("both clusters are explained", || async {
        let found = operations.clone().lookup(request.clone()).await.unwrap().into_inner();
        (found.reasons.len() == 2 && found.reasons.iter().all(|reason| reason.answered)).then_some(found)
    })
    .await;
    assert_eq!((found.region.as_str(), found.scope, found.policy.as_str()), ("asia-east", 8, "web"));
    let places: Vec<(&str, u32)> =
        found.reasons.iter().map(|reason| (reason.cluster.as_str(), reason.tier)).collect();
    assert_eq!(places, [("taiwan", 1), ("tokyo", 2)], "{found:#?}");
    assert!(found.reasons.iter().all(|reason| reason.answered && reason.rule == "Serving"), "{found:#?}");
    until("the DNS server serves the newest zones", || async {
        let status =
            federation.operations(&Subject::admin()).await.dns_status(v1::DnsStatusRequest {}).await.unwrap();
        let status = status.into_inner();
        let served =
            |server: &v1::DnsServer| server.connected && server.epoch == status.epoch && server.lag_ms == 0;
        (status.servers.len() == 1 && status.servers.iter().all(served)).then_some(())
    })
    .await;
    // A DNS server's certificate opens another door.
    let refused = federation.operations(&Subject::dns()).await.lookup(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);

    let moved =
        json!({"spec": {"regions": {"asia-east": null, "asia-northeast": {"prefixes": ["127.0.0.0/16"]}}}});
    federation.api.merge(&format!("{regions}/all"), &moved).await;
    until_only(dns, &tokyo).await;
    federation
        .api
        .until(&format!("{regions}/all"), "counts its prefixes", |object| object["status"]["prefixes"] == 1)
        .await;
}
