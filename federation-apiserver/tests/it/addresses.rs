//! ServiceCIDRs and IPAddresses.

use std::sync::Arc;

use federation_apiserver::{
    Ranges,
    housekeeping::{Options, Service},
};
use http::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::world::World;

const NETWORKS: &str = "/apis/networking.k8s.io/v1/servicecidrs";
const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
const SERVICES: &str = "/api/v1/namespaces/demo/services";

fn service(name: &str, address: Option<&str>) -> Value {
    let mut service = json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
    if let Some(address) = address {
        service["spec"]["clusterIP"] = address.into();
    }
    service
}

fn network(name: &str, cidrs: &[&str]) -> Value {
    json!({"metadata": {"name": name}, "spec": {"cidrs": cidrs}})
}

/// A server with housekeeping, which looks until nothing is left to do.
struct Kept {
    world: World,
    housekeeping: Service,
    /// What housekeeping takes for the time.
    now: Timestamp,
}

impl Kept {
    async fn new() -> Self {
        let world = World::new().await;
        let options = Options { cluster_ips: Some(Ranges::CLUSTER_IPS), ..Options::default() };
        let kinds = Arc::new(world.server.kind_table());
        let housekeeping = Service::new(world.server.storage().clone(), kinds, options);
        let mut kept = Self { world, housekeeping, now: Timestamp::now() };
        kept.settle().await;
        kept
    }

    async fn settle(&mut self) {
        loop {
            let before = self.world.server.storage().snapshot().revision();
            assert_eq!(self.housekeeping.step_at(false, self.now).await, 0);
            if self.world.server.storage().snapshot().revision() == before {
                return;
            }
        }
    }

    /// Lets the time go by in which a deleted network stays.
    async fn settle_later(&mut self) {
        self.now = Timestamp::now() + SignedDuration::from_secs(11);
        self.settle().await;
    }

    async fn get(&self, path: &str) -> Value {
        self.world.expect(StatusCode::OK, Method::GET, path, None).await
    }

    async fn missing(&self, path: &str) {
        self.world.expect(StatusCode::NOT_FOUND, Method::GET, path, None).await;
    }

    async fn make(&self, path: &str, object: Value) -> Value {
        self.world.expect(StatusCode::CREATED, Method::POST, path, Some(object)).await
    }

    async fn refuse(&self, path: &str, object: Value) -> String {
        let status =
            self.world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, path, Some(object)).await;
        status["message"].as_str().unwrap().to_owned()
    }

    async fn remove(&self, path: &str) {
        self.world.expect(StatusCode::OK, Method::DELETE, path, None).await;
    }
}

fn ready(network: &Value) -> Value {
    let condition = &network["status"]["conditions"][0];
    assert_eq!(condition["type"], "Ready");
    condition["status"].clone()
}

#[tokio::test]
async fn the_network_of_the_flag_is_there_and_comes_again() {
    let mut kept = Kept::new().await;
    let path = format!("{NETWORKS}/kubernetes");
    let found = kept.get(&path).await;
    assert_eq!(found["spec"]["cidrs"], json!(["10.96.0.0/12"]));
    assert_eq!(found["metadata"]["finalizers"], json!(["networking.k8s.io/service-cidr-finalizer"]));
    assert_eq!(ready(&found), "True");
    kept.remove(&path).await;
    kept.settle_later().await;
    let again = kept.get(&path).await;
    assert_ne!(again["metadata"]["uid"], found["metadata"]["uid"], "nobody needed it");
}

#[tokio::test]
async fn every_cluster_ip_has_its_address_for_as_long_as_its_service_has_it() {
    let mut kept = Kept::new().await;
    let made = kept.make(SERVICES, service("web", None)).await;
    kept.make(SERVICES, service("headless", Some("None"))).await;
    kept.settle().await;
    let name = made["spec"]["clusterIP"].as_str().unwrap();
    let path = format!("{ADDRESSES}/{name}");
    let found = kept.get(&path).await;
    let labels = json!({"ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"});
    assert_eq!(found["metadata"]["labels"], labels);
    assert_eq!(
        found["spec"]["parentRef"],
        json!({"resource": "services", "namespace": "demo", "name": "web"})
    );
    assert_eq!(kept.get(ADDRESSES).await["items"].as_array().unwrap().len(), 1);
    // One that is taken away, or spoilt, is made anew.
    kept.remove(&path).await;
    kept.settle().await;
    let anew = kept.get(&path).await;
    assert_ne!(anew["metadata"]["uid"], found["metadata"]["uid"]);
    let spoilt = json!({"metadata": {"labels": {"ipaddress.kubernetes.io/managed-by": "somebody"}}});
    kept.world.expect(StatusCode::OK, Method::PATCH, &path, Some(spoilt)).await;
    kept.settle().await;
    assert_eq!(kept.get(&path).await["metadata"]["labels"], labels);
    kept.remove(&format!("{SERVICES}/web")).await;
    kept.settle().await;
    kept.missing(&path).await;
}

#[tokio::test]
async fn what_others_have_taken_out_is_not_given_away() {
    let mut kept = Kept::new().await;
    let parent = json!({"group": "gateway.networking.k8s.io", "resource": "gateways", "namespace": "demo", "name": "g"});
    kept.make(ADDRESSES, json!({"metadata": {"name": "10.96.0.77"}, "spec": {"parentRef": parent}})).await;
    let why = kept.refuse(SERVICES, service("web", Some("10.96.0.77"))).await;
    assert!(why.ends_with("failed to allocate IP 10.96.0.77: provided IP is already allocated"), "{why}");
    kept.settle().await;
    kept.remove(&format!("{ADDRESSES}/10.96.0.77")).await;
    kept.make(SERVICES, service("web", Some("10.96.0.77"))).await;
    kept.settle().await;
    assert_eq!(kept.get(&format!("{ADDRESSES}/10.96.0.77")).await["spec"]["parentRef"]["name"], "web");
}

#[tokio::test]
async fn a_further_network_gives_addresses_and_stays_while_it_is_needed() {
    let mut kept = Kept::new().await;
    let asked = service("web", Some("192.168.7.9"));
    let why = kept.refuse(SERVICES, asked.clone()).await;
    assert!(
        why.ends_with(
            "failed to allocate IP 192.168.7.9: the provided network does not match the current range"
        ),
        "{why}"
    );
    kept.make(NETWORKS, network("more", &["192.168.7.0/24"])).await;
    kept.make(SERVICES, asked).await;
    kept.settle().await;
    let path = format!("{NETWORKS}/more");
    assert_eq!(ready(&kept.get(&path).await), "True");
    kept.remove(&path).await;
    kept.settle().await;
    let held = kept.get(&path).await;
    assert_eq!(
        (ready(&held), &held["status"]["conditions"][0]["reason"]),
        (json!("False"), &json!("Terminating"))
    );
    kept.refuse(SERVICES, service("late", Some("192.168.7.10"))).await;
    let (web, labels) = (format!("{SERVICES}/web"), json!({"metadata": {"labels": {"a": "b"}}}));
    // Who has an address there already keeps it, and can be changed.
    kept.world.expect(StatusCode::OK, Method::PATCH, &web, Some(labels)).await;
    kept.remove(&web).await;
    kept.settle().await;
    // Nobody needs it any more, and yet somebody may be about to.
    kept.get(&path).await;
    kept.settle_later().await;
    kept.missing(&path).await;
}

#[tokio::test]
async fn two_networks_that_go_at_a_time_both_stay_for_an_address_that_is_in_both() {
    let mut kept = Kept::new().await;
    kept.make(NETWORKS, network("wide", &["192.168.0.0/16"])).await;
    kept.make(NETWORKS, network("narrow", &["192.168.7.0/24"])).await;
    kept.settle().await;
    kept.make(SERVICES, service("web", Some("192.168.7.9"))).await;
    let paths = ["wide", "narrow"].map(|name| format!("{NETWORKS}/{name}"));
    for path in &paths {
        kept.remove(path).await;
    }
    kept.settle().await;
    for path in &paths {
        assert_eq!(ready(&kept.get(path).await), "False", "{path}");
    }
    kept.remove(&format!("{SERVICES}/web")).await;
    kept.settle_later().await;
    for path in &paths {
        kept.missing(path).await;
    }
}

#[tokio::test]
async fn an_address_that_goes_from_one_service_to_the_next_is_told_of_the_next() {
    let mut kept = Kept::new().await;
    kept.make(SERVICES, service("a", Some("10.96.0.78"))).await;
    kept.settle().await;
    kept.remove(&format!("{SERVICES}/a")).await;
    kept.make(SERVICES, service("b", Some("10.96.0.78"))).await;
    kept.settle().await;
    let told = kept.get(&format!("{ADDRESSES}/10.96.0.78")).await;
    assert_eq!(told["spec"]["parentRef"]["name"], "b");
}

#[tokio::test]
async fn a_network_that_gives_no_addresses_says_so() {
    let mut kept = Kept::new().await;
    kept.make(NETWORKS, network("six", &["2001:db8::/64"])).await;
    kept.settle().await;
    assert_eq!(ready(&kept.get(&format!("{NETWORKS}/six")).await), "False");
    let why = kept.refuse(NETWORKS, network("two", &["10.0.0.0/24", "10.1.0.0/24"])).await;
    assert!(
        why.contains(
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
        ),
        "{why}"
    );
    let why = kept.refuse(NETWORKS, network("three", &["10.0.0.0/24", "2001:db8::/64", "10.1.0.0/24"])).await;
    assert!(why.contains("may only hold up to 2 values"), "{why}");
    let both = json!({"spec": {"cidrs": ["2001:db8::/64", "10.0.0.0/24"]}});
    kept.world.expect(StatusCode::OK, Method::PATCH, &format!("{NETWORKS}/six"), Some(both)).await;
    kept.settle().await;
    assert_eq!(ready(&kept.get(&format!("{NETWORKS}/six")).await), "True");
    let other = json!({"spec": {"cidrs": ["2001:db8::/64", "10.0.1.0/24"]}});
    let path = format!("{NETWORKS}/six");
    let status = kept.world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::PATCH, &path, Some(other)).await;
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .contains("spec.cidrs[1]: Invalid value: \"10.0.1.0/24\": field is immutable"),
        "{status}"
    );
}

#[tokio::test]
async fn addresses_and_networks_are_told_in_their_one_form() {
    let kept = Kept::new().await;
    let parent = json!({"group": "mygroup", "resource": "myresources", "namespace": "foo", "name": "bar"});
    let address = |name: &str| json!({"metadata": {"name": name}, "spec": {"parentRef": parent}});
    kept.make(ADDRESSES, address("fe80::42:1dff:fe84:f9e2")).await;
    let path = format!("{ADDRESSES}/fe80::42:1dff:fe84:f9e2");
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    kept.world.expect(StatusCode::OK, Method::PATCH, &path, Some(labels)).await;
    assert_eq!(kept.get(&path).await["metadata"]["labels"]["a"], "b");
    kept.remove(&path).await;
    kept.missing(&path).await;
    for (name, why) in [
        ("FE80::1", r#"must be in canonical form ("fe80::1")"#),
        ("010.0.0.1", "must not have leading 0s"),
        ("::ffff:1.2.3.4", "must not be an IPv4-mapped IPv6 address"),
        ("web", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
    ] {
        let told = kept.refuse(ADDRESSES, address(name)).await;
        assert!(told.ends_with(&format!("metadata.name: Invalid value: {name:?}: {why}")), "{told}");
    }
    let told = kept.refuse(NETWORKS, network("odd", &["10.0.0.5/8"])).await;
    assert!(told.ends_with("must not have bits set beyond the prefix length"), "{told}");
    let told = kept.refuse(NETWORKS, network("odd", &["2001:DB8::/64"])).await;
    assert!(told.ends_with(r#"must be in canonical form ("2001:db8::/64")"#), "{told}");
}
