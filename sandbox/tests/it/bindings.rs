//! How a Service is spoken to, and where its ports are: HTTPS records with hints and Multi-Cluster Services' names, asked by dig.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use serde_json::json;

use crate::federation::{DEPLOYMENTS, Federation, SERVICES, Settings, deployment, until};
use crate::traffic::{NAME, POLICIES, is_of, resolve, served, until_only};

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
    for member in [&taiwan, &tokyo] {
        until("both clusters are answered", || async {
            resolve(dns, NAME).await.into_iter().any(|address| is_of(address, member)).then_some(())
        })
        .await;
    }
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
    for member in [&taiwan, &tokyo] {
        until("both clusters are answered with", || async {
            resolve(dns, name).await.into_iter().any(|address| is_of(address, member)).then_some(())
        })
        .await;
    }
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
