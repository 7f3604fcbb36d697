//! How a Service is spoken to, and where its ports are: HTTPS records with hints and Multi-Cluster Services' names, asked by dig.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use federation_runtime::endpoints::{Health, Metrics};
use federation_runtime::shutdown::Shutdown;
use proto::v1;
use serde_json::json;

use crate::federation::{DEPLOYMENTS, Federation, SERVICES, Settings, deployment, until};
use crate::traffic::{NAME, POLICIES, is_of, resolve, served, until_each, until_only};

/// The records of one answer, as dig prints them.
fn dig(server: SocketAddr, name: &str, kind: &str) -> Vec<String> {
    let output = Command::new("dig")
        .args([&format!("@{}", server.ip()), "-p", &server.port().to_string()])
        .args(["+short", "+tries=1", "+time=2", kind, name])
        .output()
        .expect("dig: apt-get install bind9-dnsutils");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn hints(records: &[String]) -> Vec<IpAddr> {
    let hint = |record: &String| record.split("ipv4hint=").nth(1)?.split(' ').next()?.parse().ok();
    records.iter().filter_map(hint).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn https_records_send_users_where_addresses_do() {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    let dns = federation.dns().await;
    let bindings = json!([{"alpn": ["h2"], "port": 8080}, {"prefix": "_8443._https", "alpn": ["h3"]}]);
    served(&federation, &json!({"strategy": "All", "serviceBindings": bindings})).await;
    let both = until("both clusters are in HTTPS records", || async {
        let records = dig(dns, NAME, "HTTPS");
        let hints = hints(&records);
        let of = |member| hints.iter().any(|address| is_of(*address, member));
        (of(&taiwan) && of(&tokyo)).then_some(records)
    })
    .await;
    let begin = "1 . alpn=\"h2\" port=8080 ipv4hint=127.";
    assert!(both.iter().all(|record| record.starts_with(begin)), "{both:?}");
    let prefixed = dig(dns, &format!("_8443._https.{NAME}"), "HTTPS");
    let begin = format!("1 {}. alpn=\"h3\" ipv4hint=", NAME.trim_end_matches('.'));
    assert!(prefixed.len() == 2 && prefixed[0].starts_with(&begin), "{prefixed:?}");
    // Their verdict goes, and so do the hints: at the same time as the addresses.
    let switch = json!({"spec": {"overrides": {"taiwan": {"state": "Off", "reason": "maintenance"}}}});
    federation.api.merge(&format!("{POLICIES}/web"), &switch).await;
    until_only(dns, &tokyo).await;
    let addresses = resolve(dns, NAME).await;
    let left = dig(dns, NAME, "HTTPS");
    assert_eq!(hints(&left), addresses.into_iter().collect::<Vec<_>>(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_balancer_that_says_a_name_is_answered_by_it() {
    const LB: &str = "lb-1.elb.example.net.";
    let (federation, taiwan, tokyo) = Federation::pair().await;
    let dns = federation.dns().await;
    served(&federation, &json!({"ttlSeconds": 1})).await;
    until_each(dns, NAME, [&taiwan, &tokyo]).await;
    let named =
        json!({"metadata": {"annotations": {sandbox::plan::LOAD_BALANCER_NAME: LB.trim_end_matches('.')}}});
    tokyo.api.merge(&format!("{SERVICES}/web"), &named).await;
    let answered = |target: String| async move {
        until(&format!("{target} is answered"), || async {
            let records = dig(dns, NAME, "A");
            (*records.first()? == target).then_some(records)
        })
        .await
    };
    assert_eq!(answered(LB.into()).await, [LB], "its addresses are its provider's to say");
    let of_taiwan = answered(format!("taiwan.{NAME}")).await;
    let addresses: Vec<IpAddr> = of_taiwan[1..].iter().map(|text| text.parse().unwrap()).collect();
    assert!(
        !addresses.is_empty() && addresses.iter().all(|address| is_of(*address, &taiwan)),
        "{of_taiwan:?}"
    );
    // One that has gone is not led to.
    let switch = json!({"spec": {"overrides": {"taiwan": {"state": "Off", "reason": "maintenance"}}}});
    federation.api.merge(&format!("{POLICIES}/web"), &switch).await;
    until("every answer is the other's name", || async {
        (0..16).all(|_| dig(dns, NAME, "A") == [LB]).then_some(())
    })
    .await;
}

/// The name server of somebody who runs load balancers.
fn provider() -> (SocketAddr, dns_lb::State) {
    let options = dns_lb::Options {
        listen: vec![([127, 0, 0, 1], 0).into()],
        threads: std::num::NonZeroUsize::new(1),
        ..dns_lb::Options::default()
    };
    let service = dns_lb::Service::bind(options, Health::new(), Metrics::new()).unwrap();
    let (address, state) = (service.addresses()[0], service.state());
    tokio::spawn(service.run(Shutdown::new()));
    (address, state)
}

/// What it says from then on of its one load balancer, for a second at a time.
fn leads_to(epoch: u64, name: &str, address: IpAddr) -> v1::ZoneUpdate {
    let choice = v1::Choice { data: vec![address.to_string()], weight: 1, ..v1::Choice::default() };
    let record = v1::RecordSet {
        name: name.into(),
        ttl: 1,
        r#type: "A".into(),
        tiers: vec![v1::Tier { choices: vec![choice] }],
        ..v1::RecordSet::default()
    };
    let zone = v1::Zone {
        origin: name.split_once('.').unwrap().1.into(),
        nameservers: vec!["ns.example.net.".into()],
        records: vec![record],
        ..v1::Zone::default()
    };
    v1::ZoneUpdate { epoch, zones: vec![zone], ..v1::ZoneUpdate::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_balancer_that_says_a_name_is_probed_where_its_name_leads() {
    const LB: &str = "lb-2.elb.example.net.";
    let (resolver, says) = provider();
    let (federation, taiwan, tokyo) =
        Federation::pair_with(Settings { resolver, ..Settings::default() }).await;
    let dns = federation.dns().await;
    served(&federation, &json!({"ttlSeconds": 1})).await;
    let mut own = None;
    for member in [&taiwan, &tokyo] {
        own = Some(
            until("both clusters are answered", || async {
                resolve(dns, NAME).await.into_iter().find(|address| is_of(*address, member))
            })
            .await,
        );
    }
    let own = own.unwrap();
    let named =
        json!({"metadata": {"annotations": {sandbox::plan::LOAD_BALANCER_NAME: LB.trim_end_matches('.')}}});
    tokyo.api.merge(&format!("{SERVICES}/web"), &named).await;
    // The controller, the DNS server and the other member's agent.
    let seen = |state: v1::ProbeState| {
        let federation = &federation;
        async move {
            until(&format!("three see it {state:?}"), || async {
                let health = federation.health().await;
                let tokyo = health.clusters.iter().find(|cluster| cluster.cluster == "tokyo")?;
                let votes = tokyo.votes.iter().filter_map(|vote| vote.vote.as_ref());
                (votes.filter(|vote| vote.state() == state).count() >= 3).then_some(())
            })
            .await;
        }
    };
    seen(v1::ProbeState::Unproven).await;
    let answered = |target: String| async move {
        until(&format!("{target} is among the answers"), || async {
            dig(dns, NAME, "A").first().is_some_and(|first| *first == target).then_some(())
        })
        .await;
    };
    // Nobody resolves it yet: that is no word about the cluster, which says itself that it serves.
    answered(LB.into()).await;
    says.offer(leads_to(1, LB, own)).await;
    seen(v1::ProbeState::Up).await;
    answered(LB.into()).await;
    // Its provider leads it to where nobody listens.
    says.offer(leads_to(2, LB, [127, 255, 255, 254].into())).await;
    let other = format!("taiwan.{NAME}");
    until("every answer is the other's name", || async {
        (0..16).all(|_| dig(dns, NAME, "A").first() == Some(&other)).then_some(())
    })
    .await;
    says.offer(leads_to(3, LB, own)).await;
    answered(LB.into()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn multi_cluster_services_are_found_by_name_port_and_cluster() {
    let settings = Settings { clusterset: Some("clusterset.local"), ..Settings::default() };
    let (federation, taiwan, tokyo) = Federation::pair_with(settings).await;
    let dns = federation.dns().await;
    federation.api.create(DEPLOYMENTS, &deployment("web", 4)).await;
    let service = |name: &str, mut spec: serde_json::Value| {
        spec["selector"] = json!({"app": "web"});
        spec["ports"] = json!([{"name": "http", "port": 8080, "targetPort": 8080}]);
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
    };
    federation.api.create(SERVICES, &service("web", json!({"type": "LoadBalancer"}))).await;
    federation.api.create(SERVICES, &service("pods", json!({"clusterIP": "None"}))).await;
    let name = "web.default.svc.clusterset.local.";
    until_each(dns, name, [&taiwan, &tokyo]).await;
    assert_eq!(dig(dns, &format!("_http._tcp.{name}"), "SRV"), [format!("0 0 8080 {name}")]);
    assert_eq!(dig(dns, "dns-version.clusterset.local.", "TXT"), ["\"1.0.0\""]);
    let of_tokyo = resolve(dns, &format!("tokyo.{name}")).await;
    assert!(!of_tokyo.is_empty() && of_tokyo.iter().all(|address| is_of(*address, &tokyo)), "{of_tokyo:?}");
    // Of a headless Service there are the endpoints of both, each with a name.
    let targets = until("every endpoint has a name", || async {
        let found = dig(dns, "_http._tcp.pods.default.svc.clusterset.local.", "SRV");
        let of = |cluster: &str| found.iter().any(|target| target.contains(&format!(".{cluster}.pods.")));
        (of("taiwan") && of("tokyo")).then_some(found)
    })
    .await;
    for target in targets {
        let host = target.rsplit(' ').next().unwrap().to_owned();
        assert_eq!(resolve(dns, &host).await.len(), 1, "{host}");
    }
}
