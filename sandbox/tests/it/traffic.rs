//! DNS follows.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use serde_json::json;
use tokio::net::UdpSocket;

use crate::federation::{CLUSTERS, DEPLOYMENTS, Federation, Member, PLACEMENTS, SERVICES, deployment, until};

/// The addresses of one answer; none for what is not an answer.
async fn resolve(server: SocketAddr, name: &str) -> BTreeSet<IpAddr> {
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

fn is_of(address: IpAddr, member: &Member) -> bool {
    matches!(address, IpAddr::V4(address) if address.octets()[..2] == [127, member.index])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_cluster_leaves_the_answers_before_it_is_empty() {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    let dns = federation.dns().await;
    federation.api.create(DEPLOYMENTS, &deployment("web", 4)).await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 8080, "targetPort": 8080}]}});
    federation.api.create(SERVICES, &service).await;
    let policy = json!({"apiVersion": "federation.rs/v1alpha1", "kind": "TrafficPolicy", "metadata": {"name": "web"},
        "spec": {"service": "web", "ttlSeconds": 1}});
    let policies = "/apis/federation.rs/v1alpha1/namespaces/default/trafficpolicies";
    federation.api.create(policies, &policy).await;
    let name = "web.default.fed.svc.example.test.";
    for member in [&taiwan, &tokyo] {
        until("both clusters are answered with", || async {
            resolve(dns, name).await.into_iter().any(|address| is_of(address, member)).then_some(())
        })
        .await;
    }
    let taint = json!({"spec": {"taints": [{"key": "federation.rs/drain", "effect": "NoExecute"}]}});
    federation.api.merge(&format!("{CLUSTERS}/taiwan"), &taint).await;
    let copy = format!("{DEPLOYMENTS}/web");
    until("only tokyo is answered with, while taiwan still serves", || async {
        // Who resolved just before may come for the answer's whole TTL.
        let serving = taiwan.api.get(&copy).await.unwrap()["status"]["readyReplicas"].as_i64().unwrap_or(0);
        let answer = resolve(dns, name).await;
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
    let answer = resolve(dns, name).await;
    assert!(!answer.is_empty() && answer.iter().all(|address| is_of(*address, &tokyo)), "{answer:?}");
}
