//! What is no resource: the list of paths, health, discovery, and places where nothing is.

use std::sync::Arc;

use bytes::Bytes;
use federation_apiserver::housekeeping;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::{
    crd::{crontabs, tab},
    world::{World, deployment},
};

const NO_PAGE: &str = "404 page not found\n";

async fn ask(world: &World, method: Method, path: &str) -> (StatusCode, String, String) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "federation.example:6443")
        .body(Full::<Bytes>::default())
        .unwrap();
    let response: Response<_> = world.server.service().oneshot(request).await.unwrap();
    let code = response.status();
    let content = response.headers()["content-type"].to_str().unwrap().to_owned();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, content, String::from_utf8(bytes.to_vec()).unwrap())
}

async fn get(world: &World, path: &str) -> (StatusCode, String, String) {
    ask(world, Method::GET, path).await
}

#[tokio::test]
async fn a_server_tells_what_it_is_and_how_it_does() {
    let world = World::new().await;
    let (code, content, text) = get(&world, "/statusz").await;
    assert_eq!((code, content.as_str()), (StatusCode::OK, "text/plain; charset=utf-8"));
    assert!(
        text.starts_with("\nkube-apiserver statusz\nWarning: This endpoint is not meant to be"),
        "{text}"
    );
    for line in
        ["Emulation version: 1.36", "Paths: /flagz /healthz /livez /metrics /readyz /statusz /version"]
    {
        assert!(text.lines().any(|own| own == line), "{line} in {text}");
    }
    let page = world.accepting("/statusz", "application/json;v=v1beta1;g=config.k8s.io;as=Statusz").await;
    assert_eq!((&page["kind"], &page["apiVersion"]), (&json!("Statusz"), &json!("config.k8s.io/v1beta1")));
    let (code, _, text) = get(&world, "/metrics/slis").await;
    assert_eq!(code, StatusCode::OK);
    let line = r#"kubernetes_healthcheck{name="etcd",type="readyz"} 1"#;
    assert!(text.lines().any(|own| own == line), "{text}");
}

#[tokio::test]
async fn a_server_shows_its_flags() {
    let world = World::new().await;
    let (code, content, text) = get(&world, "/flagz").await;
    assert_eq!((code, content.as_str()), (StatusCode::OK, "text/plain; charset=utf-8"));
    assert!(text.starts_with("\nkube-apiserver flagz\nWarning: This endpoint is not meant to be"), "{text}");
    let line = text.lines().last().unwrap();
    let separators = [":", ": ", "=", " "];
    assert!(separators.iter().any(|separator| line == format!("listen{separator}127.0.0.1:0")), "{line}");
    assert_eq!(get(&world, "/flagz").await.2, text, "one process has one separator");
    let page = world.accepting("/flagz", "application/json;v=v1beta1;g=config.k8s.io;as=Flagz").await;
    assert_eq!(
        page,
        json!({"kind": "Flagz", "apiVersion": "config.k8s.io/v1beta1", "metadata": {"name": "kube-apiserver"},
            "flags": {"listen": "127.0.0.1:0"}})
    );
    assert_eq!(ask(&world, Method::POST, "/flagz").await.2, text, "it does not look at the method");
}

#[tokio::test]
async fn the_root_lists_groups_versions_and_checks_in_order() {
    let world = World::new().await;
    let (code, _, text) = get(&world, "/").await;
    let value: Value = serde_json::from_str(&text).unwrap();
    let paths: Vec<_> = value["paths"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(code == StatusCode::OK && paths.is_sorted(), "{paths:?}");
    for path in ["/api/v1", "/apis/", "/apis/apps", "/apis/apps/v1", "/livez/ping", "/readyz/shutdown"] {
        assert!(paths.contains(&path), "{path} in {paths:?}");
    }
    for path in paths.iter().filter(|path| !path.contains("openapi")) {
        assert_eq!(get(&world, path).await.0, StatusCode::OK, "{path}");
    }
    let (code, _, elsewhere) = get(&world, "/nothing").await;
    assert_eq!((code, elsewhere), (StatusCode::NOT_FOUND, text));
}

#[tokio::test]
async fn a_group_that_is_not_served_is_no_api() {
    let world = World::new().await;
    for path in ["/apis/nothing", "/apis/nothing/v1", "/apis/nothing/v1/things"] {
        let found = get(&world, path).await;
        let wanted = (StatusCode::NOT_FOUND, "text/plain; charset=utf-8".to_owned(), NO_PAGE.to_owned());
        assert_eq!(found, wanted, "{path}");
    }
    for path in ["/apis/apps/v9", "/apis/apps/v1/things", "/api/v2", "/api/v1/things"] {
        let (code, content, text) = get(&world, path).await;
        assert_eq!((code, &*content), (StatusCode::NOT_FOUND, "application/json"), "{path}");
        assert!(text.contains("the server could not find the requested resource"), "{text}");
    }
}

/// kube-apiserver's web services have a method for each route; its other handlers do not look at it.
#[tokio::test]
async fn most_paths_are_there_for_every_method() {
    let world = World::new().await;
    for path in ["/", "/apis", "/apis/apps", "/metrics", "/openapi/v2", "/openapi/v3", "/healthz"] {
        for method in [Method::HEAD, Method::POST, Method::OPTIONS] {
            assert_eq!(ask(&world, method, path).await.0, StatusCode::OK, "{path}");
        }
    }
    for path in ["/nothing", "/healthz/nothing", "/metrics/", "/openapi/v2/", "/apis/apps/v9", "/version/a"] {
        for method in [Method::GET, Method::HEAD, Method::POST] {
            assert_eq!(ask(&world, method, path).await.0, StatusCode::NOT_FOUND, "{path}");
        }
    }
    for path in ["/api", "/api/v1", "/apis/apps/v1", "/version", "/openid/v1/jwks"] {
        assert_eq!(ask(&world, Method::POST, path).await.0, StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
    for path in ["/api/v1/namespaces/demo/configmaps/a/nothing", "/api/v1/namespaces/demo/pods/a/b/c"] {
        for method in [Method::HEAD, Method::POST, Method::DELETE] {
            assert_eq!(ask(&world, method, path).await.0, StatusCode::NOT_FOUND, "{path}");
        }
    }
    let watched = "/api/v1/watch/namespaces/demo/configmaps";
    for method in [Method::POST, Method::DELETE] {
        assert_eq!(ask(&world, method, watched).await.0, StatusCode::METHOD_NOT_ALLOWED);
    }
    // No part of an object has such a path.
    for path in ["pods/a/log", "pods/a/status", "configmaps/a/nothing"] {
        let path = format!("/api/v1/watch/namespaces/demo/{path}");
        for method in [Method::GET, Method::DELETE] {
            assert_eq!(ask(&world, method, &path).await.0, StatusCode::NOT_FOUND, "{path}");
        }
    }
}

/// A custom kind has one handler for all that is asked of it, which looks at the verb where a built-in kind has a route for each method.
#[tokio::test]
async fn a_custom_kind_says_what_it_does_not_do() {
    let world = World::new().await;
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let mut definition = crontabs();
    definition["spec"]["versions"][0]["subresources"].as_object_mut().unwrap().remove("scale");
    world.expect(StatusCode::CREATED, Method::POST, definitions, Some(definition)).await;
    let group = "/apis/stable.example.com";
    let tabs = format!("{group}/v1/namespaces/demo/crontabs");
    world.expect(StatusCode::CREATED, Method::POST, &format!("{tabs}/b"), Some(tab("a"))).await;
    for (path, code) in [("", 200), ("/a", 200), ("/a/status", 200), ("/b", 404)] {
        let (found, _, text) = ask(&world, Method::HEAD, &format!("{tabs}{path}")).await;
        assert_eq!((found.as_u16(), &*text), (code, ""), "{path}");
    }
    for path in ["/a/scale", "/a/nothing"] {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let missed = world.expect(StatusCode::NOT_FOUND, method, &format!("{tabs}{path}"), None).await;
            assert_eq!(missed["message"], "crontabs.stable.example.com \"a\" not found");
        }
    }
    for (method, verb) in [(Method::POST, "create"), (Method::DELETE, "delete"), (Method::OPTIONS, "")] {
        let refused =
            world.expect(StatusCode::METHOD_NOT_ALLOWED, method, &format!("{tabs}/a/status"), None).await;
        let wanted = format!("{verb} is not supported on resources of kind \"crontabs.stable.example.com\"");
        assert_eq!(refused["message"], wanted);
    }
    for method in [Method::PUT, Method::PATCH] {
        let refused = world.expect(StatusCode::BAD_REQUEST, method, &tabs, None).await;
        assert_eq!(refused["message"], "name must be provided");
    }
    for path in ["", "/v1"] {
        assert_eq!(ask(&world, Method::POST, &format!("{group}{path}")).await.0, StatusCode::OK);
    }
    for (method, path) in [
        (Method::GET, "/v9"),
        (Method::GET, "/v9/crontabs"),
        (Method::GET, "/v1/nothings"),
        (Method::GET, "/v1/crontabs/a"),
        (Method::POST, "/v1/crontabs"),
        (Method::DELETE, "/v1/crontabs"),
        (Method::GET, "/v1/namespaces/demo"),
    ] {
        let (code, content, text) = ask(&world, method, &format!("{group}{path}")).await;
        let found = (code, &*content, &*text);
        assert_eq!(found, (StatusCode::NOT_FOUND, "text/plain; charset=utf-8", NO_PAGE), "{path}");
    }
}

#[tokio::test]
async fn discovery_says_where_it_was_found() {
    let world = World::new().await;
    let (_, _, text) = get(&world, "/api").await;
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["serverAddressByClientCIDRs"][0]["serverAddress"], "federation.example:6443");
    let version = |text: String| serde_json::from_str::<Value>(&text).unwrap().get("apiVersion").cloned();
    assert_eq!(version(get(&world, "/api/v1").await.2), None);
    assert_eq!(version(get(&world, "/apis/apps/v1").await.2), Some("v1".into()));
}

#[tokio::test]
async fn the_version_and_the_paths_are_written_as_they_are() {
    let world = World::new().await;
    for (path, begin) in [
        ("/version", "{\n  \"major\": \"1\",\n  \"minor\": "),
        ("/", "{\n  \"paths\": [\n    \""),
        ("/a", "{\n  \"paths\": [\n    \""),
    ] {
        let (_, _, text) = get(&world, path).await;
        assert!(text.starts_with(begin) && text.ends_with("\n}"), "{text}");
    }
}

#[tokio::test]
async fn a_resource_has_no_head_and_a_table_is_plain_json() {
    let world = World::new().await;
    for path in ["/api/v1/namespaces", "/api/v1/namespaces/demo", "/version"] {
        assert_eq!(ask(&world, Method::HEAD, path).await.0, StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
    assert_eq!(ask(&world, Method::HEAD, "/healthz").await.2, "", "a HEAD has no body");
    let request = Request::builder()
        .uri("/api/v1/namespaces")
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Full::<Bytes>::default())
        .unwrap();
    let response = world.server.service().oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
}

#[tokio::test]
async fn the_server_is_found_by_a_service_of_its_own() {
    let world = World::new().await;
    let storage = world.server.storage().clone();
    let keep = async |port: u16| {
        let endpoint = housekeeping::Endpoint {
            cluster_ip: "10.96.0.1".parse().unwrap(),
            advertised: ([192, 0, 2, 7], port).into(),
        };
        let options = housekeeping::Options { endpoint: Some(endpoint), ..Default::default() };
        let kinds = Arc::new(world.server.kind_table());
        housekeeping::Service::new(storage.clone(), kinds, options).step(true).await;
    };
    keep(6443).await;
    keep(6443).await;
    let get = async |path: &str| world.expect(StatusCode::OK, Method::GET, path, None).await;
    let service = get("/api/v1/namespaces/default/services/kubernetes").await;
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.1");
    assert_eq!(service["spec"]["ports"][0]["targetPort"], 6443);
    assert_eq!(service["metadata"]["labels"]["component"], "apiserver");
    // It has come elsewhere: who follows the Endpoints finds it.
    keep(7443).await;
    let endpoints = get("/api/v1/namespaces/default/endpoints/kubernetes").await;
    assert_eq!(
        endpoints["subsets"],
        serde_json::json!([{"addresses": [{"ip": "192.0.2.7"}], "ports": [{"name": "https", "port": 7443, "protocol": "TCP"}]}])
    );
    let slice = get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes").await;
    assert_eq!(
        (&slice["endpoints"][0]["addresses"][0], &slice["ports"][0]["port"]),
        (&"192.0.2.7".into(), &7443.into())
    );
    // Its address is nobody else's.
    let mine = serde_json::json!({"metadata": {"name": "mine"}, "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}});
    let path = "/api/v1/namespaces/demo/services";
    world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, path, Some(mine)).await;
}

#[tokio::test]
async fn what_is_deprecated_says_so() {
    let world = World::new().await;
    for (path, warning) in [
        ("/api/v1/componentstatuses", "299 - \"v1 ComponentStatus is deprecated in v1.19+\""),
        (
            "/api/v1/namespaces/demo/endpoints",
            "299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\"",
        ),
    ] {
        let request = Request::builder().uri(path).body(Full::<Bytes>::default()).unwrap();
        let response = world.server.service().oneshot(request).await.unwrap();
        assert_eq!(response.headers()["warning"], warning);
    }
}

/// Discovery, metrics and Tables come in the forms that Kubernetes has.
#[tokio::test]
async fn documents_come_in_every_form() {
    let world = World::new().await;
    let asked = async |path: &str, accept: &str| {
        let request =
            Request::builder().uri(path).header("accept", accept).body(Full::<Bytes>::default()).unwrap();
        let response = world.server.service().oneshot(request).await.unwrap();
        let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
        let code = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (code, content_type, bytes)
    };
    for path in ["/api", "/apis", "/api/v1", "/apis/apps", "/apis/apps/v1"] {
        let (_, content_type, bytes) = asked(path, "application/vnd.kubernetes.protobuf").await;
        assert_eq!(content_type, "application/vnd.kubernetes.protobuf", "{path}");
        assert!(bytes.starts_with(b"k8s\0"));
        let (_, content_type, bytes) = asked(path, "application/yaml").await;
        assert_eq!(content_type, "application/yaml", "{path}");
        // Those of the core group have none, ever since.
        let named = String::from_utf8_lossy(&bytes).contains("apiVersion: v1");
        assert_eq!(named, path.starts_with("/apis"), "{path}");
    }
    let (_, content_type, bytes) =
        asked("/api/v1/namespaces", "application/yaml;as=Table;v=v1;g=meta.k8s.io").await;
    assert_eq!(content_type, "application/yaml");
    assert!(String::from_utf8_lossy(&bytes).contains("kind: Table"));
    let (code, _, bytes) = asked("/api/v1/namespaces?watch=1", "application/yaml").await;
    assert_eq!(code, StatusCode::NOT_ACCEPTABLE);
    assert!(String::from_utf8_lossy(&bytes).contains("application/json;stream=watch"));
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let (_, content_type, _) = asked(definitions, "application/vnd.kubernetes.protobuf").await;
    assert_eq!(content_type, "application/vnd.kubernetes.protobuf");
    let (_, content_type, bytes) = asked("/metrics", "*/*").await;
    assert_eq!(content_type, "text/plain; version=0.0.4; charset=utf-8");
    assert!(String::from_utf8_lossy(&bytes).contains("# TYPE apiserver_request_total counter"));
    let (_, content_type, bytes) = asked("/metrics", "application/openmetrics-text; version=1.0.0").await;
    assert!(content_type.starts_with("application/openmetrics-text"), "{content_type}");
    assert!(bytes.ends_with(b"# EOF\n"));
}

/// The names and labels that dashboards ask for.
#[tokio::test]
async fn metrics_have_the_names_of_kubernetes() {
    let world = World::new().await;
    let maps = "/api/v1/namespaces/demo/configmaps";
    world.expect(StatusCode::CREATED, Method::POST, maps, Some(crate::world::config_map("a"))).await;
    world.expect(StatusCode::OK, Method::GET, "/api/v1/configmaps", None).await;
    let watch = Request::get(format!("{maps}?watch=true")).body(Full::<Bytes>::default()).unwrap();
    let mut watching = world.server.service().oneshot(watch).await.unwrap().into_body();
    watching.frame().await.unwrap().unwrap();
    let (_, metrics) = world.request(Method::GET, "/metrics", None).await;
    let metrics = metrics.as_str().unwrap().to_owned();
    let of_maps = r#"group="",version="v1",resource="configmaps""#;
    for expect in [
        format!(
            r#"apiserver_request_total{{verb="POST",dry_run="",{of_maps},subresource="",scope="resource",component="apiserver",code="201"}} 1"#
        ),
        format!(
            r#"apiserver_request_duration_seconds_count{{verb="LIST",dry_run="",{of_maps},subresource="",scope="cluster",component="apiserver"}} 1"#
        ),
        format!(
            r#"apiserver_longrunning_requests{{verb="WATCH",{of_maps},subresource="",scope="namespace",component="apiserver"}} 1"#
        ),
        format!(r"apiserver_watch_events_total{{{of_maps}}} 1"),
        r#"apiserver_current_inflight_requests{request_kind="readOnly"} 1"#.to_owned(),
        r#"apiserver_current_inflight_requests{request_kind="mutating"} 0"#.to_owned(),
        r#"apiserver_storage_objects{resource="configmaps"} 1"#.to_owned(),
        r#"apiserver_resource_objects{group="",resource="namespaces"} 1"#.to_owned(),
        r#"etcd_request_duration_seconds_count{operation="create",group="",resource="configmaps"} 1"#
            .to_owned(),
        "# TYPE process_cpu_seconds_total counter".to_owned(),
    ] {
        assert!(metrics.lines().any(|line| line == expect), "{expect}\n{metrics}");
    }
}

#[tokio::test]
async fn both_forms_of_discovery_say_the_same() {
    let world = World::new().await;
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    for root in ["/api", "/apis"] {
        let aggregated = world.accepting(root, accept).await;
        for group in aggregated["items"].as_array().unwrap() {
            let name = group["metadata"]["name"].as_str().unwrap_or_default();
            for version in group["versions"].as_array().unwrap() {
                let (path, version) = match name {
                    "" => (format!("/api/{}", version["version"].as_str().unwrap()), version),
                    name => (format!("/apis/{name}/{}", version["version"].as_str().unwrap()), version),
                };
                let plain = world.expect(StatusCode::OK, Method::GET, &path, None).await;
                let mut expected = Vec::new();
                for resource in version["resources"].as_array().unwrap() {
                    let plural = resource["resource"].as_str().unwrap();
                    expected.push((plural.to_owned(), resource["verbs"].clone()));
                    for part in resource["subresources"].as_array().into_iter().flatten() {
                        let name = part["subresource"].as_str().unwrap();
                        expected.push((format!("{plural}/{name}"), part["verbs"].clone()));
                    }
                }
                let found: Vec<_> = plain["resources"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|resource| {
                        (resource["name"].as_str().unwrap().to_owned(), resource["verbs"].clone())
                    })
                    .collect();
                assert_eq!(found, expected, "{path}");
            }
        }
    }
    let mut web = deployment("web");
    web["spec"]["template"]["spec"]["containers"][0]["image"] = "nginx".into();
    let path = "/apis/apps/v1/namespaces/demo/deployments";
    let made = world.expect(StatusCode::CREATED, Method::POST, path, Some(web)).await;
    assert_eq!(made["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"], "Always");
}

#[tokio::test]
async fn how_long_a_request_may_take_is_read_as_go_reads_it() {
    let world = World::new().await;
    let maps = "/api/v1/namespaces/demo/configmaps";
    for timeout in ["", "0", "0s", "-1s", "20s", "20.5s", "1000000h", "1m20s", "%2B20s"] {
        let path = format!("{maps}?timeout={timeout}");
        world.expect(StatusCode::OK, Method::GET, &path, None).await;
    }
    for (timeout, why) in [
        ("5", r#"missing unit in duration "5""#),
        ("PT5S", r#"invalid duration "PT5S""#),
        ("1%20minute", r#"unknown unit " minute" in duration "1 minute""#),
    ] {
        let path = format!("{maps}?timeout={timeout}");
        let refused = world.expect(StatusCode::BAD_REQUEST, Method::GET, &path, None).await;
        assert_eq!(refused["message"], format!("invalid timeout specified in the request URL - time: {why}"));
    }
    let log = "/api/v1/namespaces/demo/pods/none/log?timeout=5";
    world.expect(StatusCode::NOT_FOUND, Method::GET, log, None).await;
}
