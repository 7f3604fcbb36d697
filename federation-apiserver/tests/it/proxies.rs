//! `proxy` below pods, Services and nodes: looked at as kube-apiserver does, and going nowhere.

use bytes::Bytes;
use federation_apiserver::{EndpointScope, Parts};
use futures::FutureExt as _;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::world::World;

const PODS: &str = "/api/v1/namespaces/demo/pods";
const SERVICES: &str = "/api/v1/namespaces/demo/services";
const ENDPOINTS: &str = "/api/v1/namespaces/demo/endpoints";

impl World {
    /// A pod with an address.
    async fn pod(&self, name: &str, ip: &str) {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]}});
        self.expect(StatusCode::CREATED, Method::POST, PODS, Some(pod)).await;
        let status = json!({"status": {"podIP": ip, "podIPs": [{"ip": ip}]}});
        self.expect(StatusCode::OK, Method::PATCH, &format!("{PODS}/{name}/status"), Some(status)).await;
    }

    /// What a GET through something is refused with.
    async fn through(&self, path: &str) -> (u16, String) {
        let (code, status) = self.request(Method::GET, path, None).await;
        (code.as_u16(), status["message"].as_str().unwrap_or_default().to_owned())
    }
}

fn service(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"clusterIP": "None", "ports": [{"name": "web", "port": 80}, {"name": "other", "port": 81}]}})
}

fn endpoints(name: &str, address: Value, port: u16) -> Value {
    json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": name},
        "subsets": [{"addresses": [address], "ports": [{"name": "web", "port": port}]}]})
}

#[tokio::test]
async fn what_is_not_there_is_told_as_kube_apiserver_tells_it() {
    let world = World::new().await;
    assert_eq!(
        world.through(&format!("{PODS}/none/proxy/a/b")).await,
        (404, "pods \"none\" not found".into())
    );
    assert_eq!(
        world.through(&format!("{PODS}/ftp:none:80/proxy")).await,
        (400, "invalid pod request \"ftp:none:80\"".into())
    );
    world.pod("local", "127.0.0.1").await;
    assert_eq!(world.through(&format!("{PODS}/local/proxy/")).await, (400, "address not allowed".into()));
    assert_eq!(
        world.through("/api/v1/nodes/none/proxy/logs").await,
        (404, "nodes \"none\" not found".into())
    );

    world.expect(StatusCode::CREATED, Method::POST, SERVICES, Some(service("a"))).await;
    let found = async |path: &str| world.through(&format!("{SERVICES}/{path}/proxy/")).await;
    assert_eq!(found("none").await, (404, "services \"none\" not found".into()));
    assert_eq!(found("none:80").await, (404, "services \"none\" not found".into()));
    assert_eq!(found("a:82").await, (503, "no service port 82 found for service \"a\"".into()));
    let empty = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "a"}});
    world.expect(StatusCode::CREATED, Method::POST, ENDPOINTS, Some(empty)).await;
    assert_eq!(found("a:80").await, (503, "no endpoints available for service \"a\"".into()));
    // Whatever the method, and whatever is accepted.
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        let path = format!("{SERVICES}/a:web/proxy/x");
        world.expect(StatusCode::SERVICE_UNAVAILABLE, method, &path, None).await;
    }
    let page = Request::get(format!("{SERVICES}/a:web/proxy/x")).header("accept", "text/html");
    let (code, _) = world.send(page.body(Full::<Bytes>::default()).unwrap()).await;
    assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn nothing_is_reached_through_this_server() {
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    world.expect(StatusCode::CREATED, Method::POST, SERVICES, Some(service("a"))).await;
    // An address of nobody's pod is no endpoint, as with kube-apiserver.
    world.pod("p", "10.1.2.3").await;
    let bare = endpoints("a", json!({"ip": "10.9.9.9"}), port);
    world.expect(StatusCode::CREATED, Method::POST, ENDPOINTS, Some(bare)).await;
    assert_eq!(
        world.through(&format!("{SERVICES}/a:80/proxy/")).await,
        (503, "no endpoints available for service \"a:80\"".into())
    );
    let target = json!({"kind": "Pod", "namespace": "demo", "name": "p"});
    for (ip, reached) in [("10.9.9.9", false), ("10.1.2.3", true)] {
        let of_pod = endpoints("a", json!({"ip": ip, "targetRef": target}), port);
        world.expect(StatusCode::OK, Method::PUT, &format!("{ENDPOINTS}/a"), Some(of_pod)).await;
        let (code, message) = world.through(&format!("{SERVICES}/a:web/proxy/")).await;
        assert_eq!(
            (code, message.starts_with("error trying to reach service: ")),
            (503, reached),
            "{message}"
        );
    }
    let (code, message) = world.through(&format!("{PODS}/p:{port}/proxy/")).await;
    assert_eq!((code, message.starts_with("error trying to reach service: ")), (503, true), "{message}");
    assert!(listener.accept().now_or_never().is_none());
}

#[tokio::test]
async fn discovery_lists_what_goes_through() {
    let world = World::new().await;
    let list = world.expect(StatusCode::OK, Method::GET, "/api/v1", None).await;
    for (name, kind) in [
        ("nodes/proxy", "NodeProxyOptions"),
        ("pods/proxy", "PodProxyOptions"),
        ("services/proxy", "ServiceProxyOptions"),
    ] {
        let found = list["resources"].as_array().unwrap().iter().find(|resource| resource["name"] == name);
        let found = found.unwrap_or_else(|| panic!("{name} is listed"));
        assert_eq!(found["kind"], kind);
        assert_eq!(found["verbs"], json!(["create", "delete", "get", "patch", "update"]));
    }
}

#[tokio::test]
async fn endpoints_lead_away_from_this_machine() {
    let world = World::with(|parts| Parts { endpoint_scope: EndpointScope::External, ..parts }).await;
    let slices = "/apis/discovery.k8s.io/v1/namespaces/demo/endpointslices";
    for (ip, why) in [
        ("127.0.0.1", "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        ("169.254.169.254", "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        ("0.0.0.0", "may not be unspecified (0.0.0.0)"),
        ("224.0.0.5", "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
    ] {
        let wrong = endpoints("a", json!({"ip": ip}), 80);
        let told = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, ENDPOINTS, Some(wrong)).await;
        assert_eq!(
            told["message"],
            format!("Endpoints \"a\" is invalid: subsets[0].addresses[0].ip: Invalid value: \"{ip}\": {why}")
        );
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "a"},
            "addressType": "IPv4", "endpoints": [{"addresses": [ip]}], "ports": []});
        let told = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, slices, Some(slice)).await;
        assert_eq!(told["details"]["causes"][0]["field"], "endpoints[0].addresses[0]");
    }
    let good = endpoints("a", json!({"ip": "10.0.0.1"}), 80);
    world.expect(StatusCode::CREATED, Method::POST, ENDPOINTS, Some(good)).await;
    let wrong = json!({"subsets": [{"addresses": [{"ip": "::1"}], "ports": [{"port": 80}]}]});
    let path = format!("{ENDPOINTS}/a");
    world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::PATCH, &path, Some(wrong)).await;
}
