//! Health: check by check, and of a server that is only being started.

use std::time::Duration;

use federation_apiserver::{ApiServer, Options, Service};
use federation_runtime::{
    endpoints::{Health, Metrics},
    shutdown::Shutdown,
};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use tower::ServiceExt as _;

use crate::world::World;

async fn ask(server: &ApiServer, method: Method, path: &str) -> (StatusCode, String) {
    let request = Request::builder().method(method).uri(path).body(Full::<bytes::Bytes>::default()).unwrap();
    let response = server.service().oneshot(request).await.unwrap();
    let code = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8(bytes.to_vec()).unwrap())
}

async fn get(server: &ApiServer, path: &str) -> (StatusCode, String) {
    ask(server, Method::GET, path).await
}

#[tokio::test]
async fn health_is_told_check_by_check_and_to_every_method() {
    let server = World::new().await.server;
    let livez = get(&server, "/livez?verbose").await.1;
    assert_eq!(livez, "[+]ping ok\n[+]log ok\n[+]etcd ok\nlivez check passed\n");
    let healthz = get(&server, "/healthz?verbose&exclude=etcd").await.1;
    assert_eq!(healthz, "[+]ping ok\n[+]log ok\n[+]etcd excluded: ok\nhealthz check passed\n");
    let readyz = get(&server, "/readyz?verbose").await.1;
    assert_eq!(
        readyz,
        "[+]ping ok\n[+]log ok\n[+]etcd ok\n[+]etcd-readiness ok\n[+]shutdown ok\nreadyz check passed\n"
    );
    assert_eq!(get(&server, "/readyz/ping").await.1, "ok");
    for path in ["/readyz/nothing", "/livez/shutdown", "/healthz/etcd-readiness"] {
        assert_eq!(get(&server, path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(ask(&server, Method::POST, "/healthz").await, (StatusCode::OK, "ok".to_owned()));
}

#[tokio::test]
async fn why_a_check_fails_is_told_where_one_asks_for_it_alone() {
    let world = World::new().await;
    world.draining.cancel();
    let (code, text) = get(&world.server, "/readyz").await;
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(text.ends_with("[-]shutdown failed: reason withheld\nreadyz check failed\n"), "{text}");
    let alone = get(&world.server, "/readyz/shutdown").await.1;
    assert_eq!(alone, "internal server error: process is shutting down\n");
    assert_eq!(get(&world.server, "/readyz?exclude=shutdown").await, (StatusCode::OK, "ok".to_owned()));
    assert_eq!(get(&world.server, "/livez").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_server_is_healthy_once_it_has_done_what_its_hooks_stand_for() {
    let folder = tempfile::tempdir().unwrap();
    let (health, shutdown) = (Health::new(), Shutdown::new());
    let options = Options { listen: ([127, 0, 0, 1], 0).into(), ..Options::new(folder.path().to_path_buf()) };
    let service = Service::start(options, health.clone(), Metrics::new(), &shutdown).await.unwrap();
    let server = service.server();
    let (code, before) = get(&server, "/healthz").await;
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(before.contains("[-]poststarthook/start-system-namespaces-controller failed: reason withheld\n"));
    assert!(before.contains("[+]poststarthook/crd-informer-synced ok\n"), "{before}");
    let alone = get(&server, "/readyz/poststarthook/bootstrap-controller").await.1;
    assert_eq!(alone, "internal server error: not finished\n");

    let running = tokio::spawn(service.run(shutdown.clone()));
    while !health.is_ready() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let path = "/api/v1/namespaces/default/services/kubernetes";
    assert_eq!(get(&server, path).await.0, StatusCode::OK, "what must exist does");
    // What `health handlers should contain necessary checks` of Kubernetes' end-to-end tests asks for, of 1.20 and of now.
    let necessary = [
        "ping",
        "log",
        "etcd",
        "poststarthook/start-apiserver-admission-initializer",
        "poststarthook/start-kube-apiserver-admission-initializer",
        "poststarthook/generic-apiserver-start-informers",
        "poststarthook/start-apiextensions-informers",
        "poststarthook/start-apiextensions-controllers",
        "poststarthook/crd-informer-synced",
        "poststarthook/start-system-namespaces-controller",
        "poststarthook/bootstrap-controller",
        "poststarthook/scheduling/bootstrap-system-priority-classes",
        "poststarthook/start-cluster-authentication-info-controller",
        "poststarthook/start-kube-aggregator-informers",
        "poststarthook/apiservice-registration-controller",
        "poststarthook/apiservice-status-local-available-controller",
        "poststarthook/apiservice-status-remote-available-controller",
        "poststarthook/apiservice-status-available-controller",
        "poststarthook/kube-apiserver-autoregistration",
        "autoregister-completion",
        "poststarthook/apiservice-openapi-controller",
    ];
    for endpoint in ["healthz", "livez", "readyz"] {
        let (code, text) = get(&server, &format!("/{endpoint}?verbose=1")).await;
        assert_eq!(code, StatusCode::OK, "{text}");
        let lines: Vec<_> = text.lines().collect();
        for name in necessary {
            assert!(lines.contains(&&*format!("[+]{name} ok")), "{endpoint}: {name} in {text}");
        }
        assert_eq!(lines.contains(&"[+]informer-sync ok"), endpoint == "readyz");
        assert!(!text.contains("rbac/bootstrap-roles"), "nobody asks for roles here: {text}");
    }
    // What housekeeping has decided is done soon.
    let depth = "workqueue_depth{name=\"housekeeping\"} 0";
    let mut metrics = String::new();
    while !metrics.lines().any(|line| line == depth) {
        tokio::task::yield_now().await;
        metrics = get(&server, "/metrics").await.1;
    }
    let added =
        metrics.lines().find_map(|line| line.strip_prefix("workqueue_adds_total{name=\"housekeeping\"} "));
    assert!(added.is_some_and(|count| count.parse::<u32>().is_ok_and(|count| count > 20)), "{metrics}");
    shutdown.start();
    running.await.unwrap().unwrap();
}
