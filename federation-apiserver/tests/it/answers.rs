//! What answers tell besides the object itself: owners, classes of traffic, warnings.

use std::sync::Arc;

use bytes::Bytes;
use federation_apiserver::{auth::User, auth::authz::Mode, housekeeping};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::world::{World, config_map, deployment};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/demo/deployments";

/// The fields of the only owner.
fn owned(object: &Value) -> &Value {
    let managed = object["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(managed.len(), 1, "{object}");
    &managed[0]["fieldsV1"]
}

/// Structs that are there in any case are nobody's; what stands in them is.
#[tokio::test]
async fn a_create_owns_what_it_brought_and_not_what_is_always_there() {
    let world = World::new().await;
    let made = world.expect(StatusCode::CREATED, Method::POST, DEPLOYMENTS, Some(deployment("web"))).await;
    let spec = &owned(&made)["f:spec"];
    let template = &spec["f:template"];
    for part in
        [spec, template, &template["f:metadata"], &template["f:spec"], &template["f:spec"]["f:containers"]]
    {
        assert!(part.is_object() && part.get(".").is_none(), "{part} in {spec}");
    }
    assert_eq!(template["f:metadata"]["f:labels"], json!({".": {}, "f:app": {}}));
    assert_eq!(template["f:spec"]["f:containers"]["k:{\"name\":\"web\"}"]["."], json!({}));
    // A map that may be absent is added with its first entry.
    let path = "/api/v1/namespaces/demo/configmaps";
    let made = world.expect(StatusCode::CREATED, Method::POST, path, Some(config_map("a"))).await;
    assert_eq!(owned(&made), &json!({"f:data": {".": {}, "f:k": {}}}));
    let review = json!({"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let asked = world.expect(StatusCode::CREATED, Method::POST, path, Some(review)).await;
    assert_eq!(
        owned(&asked),
        &json!({"f:spec": {"f:nonResourceAttributes": {".": {}, "f:path": {}, "f:verb": {}}}})
    );
}

#[tokio::test]
async fn a_scale_of_nothing_leaves_the_number_out() {
    let world = World::new().await;
    let mut none = deployment("web");
    none["spec"]["replicas"] = 0.into();
    world.expect(StatusCode::CREATED, Method::POST, DEPLOYMENTS, Some(none)).await;
    let scale = world.expect(StatusCode::OK, Method::GET, &format!("{DEPLOYMENTS}/web/scale"), None).await;
    assert_eq!((&scale["spec"], &scale["status"]["replicas"]), (&json!({}), &json!(0)));
}

#[tokio::test]
async fn a_table_without_objects_says_so() {
    let world = World::new().await;
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let table = world.accepting("/api/v1/namespaces?includeObject=None", accept).await;
    assert_eq!(table["rows"][0].get("object"), Some(&Value::Null), "{table}");
}

#[tokio::test]
async fn a_view_is_of_the_version_that_is_asked_for() {
    let world = World::new().await;
    let (all, one) = ("/api/v1/namespaces", "/api/v1/namespaces/demo");
    for version in ["v1", "v1beta1"] {
        let said = json!(format!("meta.k8s.io/{version}"));
        let accept = |view: &str| format!("application/json;as={view};v={version};g=meta.k8s.io");
        for path in [all, one] {
            let table = world.accepting(path, &accept("Table")).await;
            assert_eq!((&table["apiVersion"], &table["rows"][0]["object"]["apiVersion"]), (&said, &said));
        }
        let list = world.accepting(all, &accept("PartialObjectMetadataList")).await;
        assert_eq!((&list["apiVersion"], &list["items"][0]["apiVersion"]), (&said, &said));
        assert_eq!(world.accepting(one, &accept("PartialObjectMetadata")).await["apiVersion"], said);
        let path = format!("{all}?includeObject=Object");
        let table = world.accepting(&path, &accept("Table")).await;
        assert_eq!(table["rows"][0]["object"]["apiVersion"], "v1");
    }
}

#[tokio::test]
async fn a_large_list_is_sent_in_pieces_that_say_the_same_as_its_pages() {
    let world = World::new().await;
    let path = "/api/v1/namespaces/demo/configmaps";
    for number in 0..40 {
        // Smaller than a piece, as large as one, larger.
        let mut object = config_map(&format!("m{number:02}"));
        object["data"]["k"] = "x".repeat(1000 + number * number * 100).into();
        world.expect(StatusCode::CREATED, Method::POST, path, Some(object)).await;
    }
    let list = world.expect(StatusCode::OK, Method::GET, path, None).await;
    assert!(list.to_string().len() > 1 << 20);
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("ConfigMapList"), &json!("v1")));
    let (mut pages, mut next) = (Vec::new(), String::new());
    loop {
        let page = format!("{path}?limit=1&continue={next}");
        let page = world.expect(StatusCode::OK, Method::GET, &page, None).await;
        assert_eq!(page["metadata"]["resourceVersion"], list["metadata"]["resourceVersion"]);
        pages.extend(page["items"].as_array().unwrap().clone());
        match page["metadata"]["continue"].as_str() {
            Some(token) => token.clone_into(&mut next),
            None => break,
        }
    }
    assert_eq!((pages.len(), &Value::Array(pages)), (40, &list["items"]));
}

async fn headers(
    world: &World,
    user: Option<User>,
    path: &str,
    body: Option<Value>,
) -> (StatusCode, HeaderMap) {
    let service = match user {
        Some(user) => world.server.service_as(Some(user)),
        None => world.server.service(),
    };
    let method = if body.is_some() { Method::POST } else { Method::GET };
    let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .body(Full::from(body))
        .unwrap();
    let response = service.oneshot(request).await.unwrap();
    (response.status(), response.headers().clone())
}

#[tokio::test]
async fn answers_tell_the_class_of_their_request() {
    let world =
        World::with(|parts| federation_apiserver::Parts { authorization: vec![Mode::Rbac], ..parts }).await;
    let kinds = Arc::new(world.server.kind_table());
    let storage = world.server.storage().clone();
    let (_, before) = headers(&world, None, "/api/v1/namespaces", None).await;
    assert!(!before.contains_key("x-kubernetes-pf-flowschema-uid"), "without schemas there are no classes");
    housekeeping::Service::new(storage, kinds, Default::default()).step(true).await;
    let uid = async |plural: &str, name: &str| {
        let path = format!("/apis/flowcontrol.apiserver.k8s.io/v1/{plural}/{name}");
        let object = world.expect(StatusCode::OK, Method::GET, &path, None).await;
        object["metadata"]["uid"].as_str().unwrap().to_owned()
    };
    let user = User::new("u", []);
    for (user, path, code, schema, level) in [
        (None, "/api/v1/namespaces", 200, "exempt", "exempt"),
        (Some(user.clone()), "/healthz", 200, "probes", "exempt"),
        // Who is refused is classed, too, and his answer is no document.
        (Some(user), "/api/v1/namespaces", 403, "global-default", "global-default"),
    ] {
        let (found, headers) = headers(&world, user, path, None).await;
        assert_eq!(found.as_u16(), code, "{path}");
        let told = |name: &str| headers[name].to_str().unwrap().to_owned();
        assert_eq!(told("x-kubernetes-pf-flowschema-uid"), uid("flowschemas", schema).await, "{path}");
        let wanted = uid("prioritylevelconfigurations", level).await;
        assert_eq!(told("x-kubernetes-pf-prioritylevel-uid"), wanted, "{path}");
        assert_eq!(
            headers.get("x-content-type-options").is_some(),
            code == 403 || path == "/healthz",
            "{path}"
        );
    }
}

#[tokio::test]
async fn who_is_refused_is_warned_all_the_same() {
    let world = World::new().await;
    let mut wrong = deployment("web");
    wrong["spec"]["more"] = 1.into();
    wrong["spec"]["replicas"] = (-1).into();
    let (code, headers) = headers(&world, None, DEPLOYMENTS, Some(wrong)).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(headers["warning"], "299 - \"unknown field \\\"spec.more\\\"\"");
}

#[tokio::test]
async fn an_access_review_may_ask_about_selectors() {
    let world = World::new().await;
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let review = |selector: Value| json!({"spec": {"resourceAttributes": {"verb": "list", "resource": "pods", "labelSelector": selector}}});
    let good = review(json!({"requirements": [{"key": "a", "operator": "In", "values": ["b"]}]}));
    let answer = world.expect(StatusCode::CREATED, Method::POST, path, Some(good)).await;
    assert_eq!(answer["status"]["allowed"], true);
    let status =
        world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, path, Some(review(json!({})))).await;
    assert_eq!(status["details"]["causes"][0]["field"], "spec.resourceAttributes.labelSelector.requirements");
}

#[tokio::test]
async fn a_pod_is_given_what_nobody_owns() {
    let world = World::new().await;
    let path = "/api/v1/namespaces/demo/pods";
    let pod = |name: &str, class: &str| json!({"metadata": {"name": name}, "spec": {"priorityClassName": class, "containers": [{"name": "c", "image": "i"}]}});
    let class = json!({"metadata": {"name": "high"}, "value": 7, "preemptionPolicy": "Never"});
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    world.expect(StatusCode::CREATED, Method::POST, classes, Some(class)).await;
    let made = world.expect(StatusCode::CREATED, Method::POST, path, Some(pod("a", "high"))).await;
    let spec = &made["spec"];
    assert_eq!((&spec["priority"], &spec["preemptionPolicy"]), (&json!(7), &json!("Never")));
    assert_eq!(spec["tolerations"].as_array().map(Vec::len), Some(2));
    let owned = &owned(&made)["f:spec"];
    for name in ["f:priority", "f:preemptionPolicy", "f:tolerations", "f:serviceAccountName"] {
        assert!(owned.get(name).is_none(), "{name} in {owned}");
    }
    let status = world.expect(StatusCode::FORBIDDEN, Method::POST, path, Some(pod("b", "none"))).await;
    assert_eq!(status["message"], "pods \"b\" is forbidden: no PriorityClass with name none was found");
    // Of a runtime it is asked after the priority.
    for (priority, why) in [
        ("none", "no PriorityClass with name none was found"),
        ("high", r#"pod rejected: RuntimeClass "a\u200bb" not found"#),
    ] {
        let mut strange = pod("b", priority);
        strange["spec"]["runtimeClassName"] = "a\u{200b}b".into();
        let status = world.expect(StatusCode::FORBIDDEN, Method::POST, path, Some(strange)).await;
        assert_eq!(status["message"], format!("pods \"b\" is forbidden: {why}"));
    }
    let wrong = json!({"metadata": {"name": "a"}, "target": {"name": false}});
    let status =
        world.expect(StatusCode::BAD_REQUEST, Method::POST, &format!("{path}/a/binding"), Some(wrong)).await;
    assert_eq!(
        status["message"],
        "Binding in version \"v1\" cannot be handled as a Binding: json: cannot unmarshal bool into Go struct field ObjectReference.target.name of type string"
    );
}

/// Who scales by applying owns the replicas, through the subresource; who scaled before is asked first.
#[tokio::test]
async fn an_applied_scale_conflicts_with_who_scaled_before() {
    let world = World::new().await;
    world.expect(StatusCode::CREATED, Method::POST, DEPLOYMENTS, Some(deployment("web"))).await;
    let path = format!("{DEPLOYMENTS}/web/scale");
    let scaled = json!({"spec": {"replicas": 3}});
    world.expect(StatusCode::OK, Method::PATCH, &format!("{path}?fieldManager=first"), Some(scaled)).await;
    let apply = |query: &str, version: &str, replicas: u32| {
        let scale = json!({
            "apiVersion": version, "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": replicas},
        });
        Request::builder()
            .method(Method::PATCH)
            .uri(format!("{path}?fieldManager=second{query}"))
            .header("content-type", "application/apply-patch+yaml")
            .body(Full::from(scale.to_string()))
            .unwrap()
    };
    let (code, status) = world.send(apply("", "autoscaling/v1", 5)).await;
    assert_eq!(code, StatusCode::CONFLICT, "{status}");
    assert_eq!(
        status["details"]["causes"],
        json!([{"reason": "FieldManagerConflict", "field": ".spec.replicas",
            "message": "conflict with \"first\" with subresource \"scale\" using autoscaling/v1"}])
    );
    let (code, _) = world.send(apply("", "apps/v1", 5)).await;
    assert_eq!(code, StatusCode::BAD_REQUEST);
    let (code, scale) = world.send(apply("&force=true", "autoscaling/v1", 5)).await;
    assert_eq!((code, &scale["spec"]["replicas"]), (StatusCode::OK, &json!(5)), "{scale}");
    let found = world.expect(StatusCode::OK, Method::GET, &format!("{DEPLOYMENTS}/web"), None).await;
    let owners: Vec<_> = found["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["subresource"] == "scale")
        .map(|entry| (&entry["manager"], &entry["operation"], &entry["fieldsV1"]))
        .collect();
    assert_eq!(owners, [(&json!("second"), &json!("Apply"), &json!({"f:spec": {"f:replicas": {}}}))]);
}

/// Go's zero, which webhooks are shown as well: not the default of the kind.
#[tokio::test]
async fn replicas_that_nobody_applies_any_more_are_none() {
    let world = World::new().await;
    world.expect(StatusCode::CREATED, Method::POST, DEPLOYMENTS, Some(deployment("web"))).await;
    let path = format!("{DEPLOYMENTS}/web/scale");
    for (spec, replicas) in [(json!({"replicas": 5}), json!(5)), (json!({}), Value::Null)] {
        let scale = json!({
            "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": spec,
        });
        let request = Request::builder()
            .method(Method::PATCH)
            .uri(format!("{path}?fieldManager=a&force=true"))
            .header("content-type", "application/apply-patch+yaml")
            .body(Full::from(scale.to_string()))
            .unwrap();
        let (code, scale) = world.send(request).await;
        assert_eq!((code, &scale["spec"]["replicas"]), (StatusCode::OK, &replicas), "{scale}");
    }
    let found = world.expect(StatusCode::OK, Method::GET, &format!("{DEPLOYMENTS}/web"), None).await;
    assert_eq!(found["spec"]["replicas"], 0);
}

/// As etcd, which has the copies: a patch is small, what it leaves need not be.
#[tokio::test]
async fn an_object_does_not_grow_beyond_what_etcd_takes() {
    let world = World::new().await;
    let path = "/api/v1/namespaces/demo/configmaps";
    world.expect(StatusCode::CREATED, Method::POST, path, Some(config_map("a"))).await;
    let keys = |letter: char| {
        let all = (0..2500).map(|number| (format!("{letter}{number:0>252}"), json!("")));
        json!({"data": all.collect::<serde_json::Map<_, _>>()})
    };
    let path = format!("{path}/a");
    let grown = world.expect(StatusCode::OK, Method::PATCH, &path, Some(keys('a'))).await;
    assert!(grown["metadata"]["managedFields"].is_array());
    // It is too large with the owners of its fields only.
    let grown = world.expect(StatusCode::OK, Method::PATCH, &path, Some(keys('b'))).await;
    assert_eq!(grown["metadata"].get("managedFields"), None);
    let status = world.expect(StatusCode::INTERNAL_SERVER_ERROR, Method::PATCH, &path, Some(keys('c'))).await;
    assert_eq!(status["message"], "etcdserver: request is too large");
}

/// A million of them fit in a body, and each takes a kilobyte once it has its defaults.
#[tokio::test]
async fn an_object_has_no_more_parts_than_one_that_is_stored() {
    let world = World::new().await;
    let path = "/api/v1/namespaces/demo/services";
    let service = |name: &str, ports: usize| json!({"metadata": {"name": name}, "spec": {"ports": vec![json!({}); ports]}});
    let too_large = "etcdserver: request is too large";
    let many = Some(service("a", 200_000));
    let status = world.expect(StatusCode::INTERNAL_SERVER_ERROR, Method::POST, path, many.clone()).await;
    assert_eq!(status["message"], too_large);
    world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, path, Some(service("a", 1000))).await;
    let service = json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}});
    world.expect(StatusCode::CREATED, Method::POST, path, Some(service)).await;
    let path = format!("{path}/a");
    let status = world.expect(StatusCode::INTERNAL_SERVER_ERROR, Method::PATCH, &path, many).await;
    assert_eq!(status["message"], too_large);
}

/// What `base64` prints has lines; Go skips their ends, and writes none.
#[tokio::test]
async fn bytes_may_be_written_in_lines() {
    let world = World::new().await;
    let secret = json!({"metadata": {"name": "a"}, "data": {"k": "aGVs\nbG8=\n"}});
    let path = "/api/v1/namespaces/demo/secrets";
    let made = world.expect(StatusCode::CREATED, Method::POST, path, Some(secret)).await;
    assert_eq!(made["data"]["k"], "aGVsbG8=");
}

#[tokio::test]
async fn the_components_of_a_cluster_say_how_they_are() {
    let world = World::new().await;
    let path = "/api/v1/componentstatuses";
    let told = async |path: &str| {
        let list = world.expect(StatusCode::OK, Method::GET, path, None).await;
        let items = list["items"].as_array().unwrap().clone();
        items
            .iter()
            .map(|item| {
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                (text(&item["metadata"]["name"]), text(&item["conditions"][0]["status"]))
            })
            .collect::<Vec<_>>()
    };
    let pair = |name: &str, status: &str| (name.to_owned(), status.to_owned());
    let (manager, store) = (pair("controller-manager", "True"), pair("etcd-0", "True"));
    assert_eq!(told(path).await, [manager.clone(), store.clone(), pair("scheduler", "Unknown")]);
    let system = json!({"metadata": {"name": "kube-system"}});
    world.expect(StatusCode::CREATED, Method::POST, "/api/v1/namespaces", Some(system)).await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
    let spec = json!({"holderIdentity": "a", "leaseDurationSeconds": 3600, "renewTime": "2999-01-01T00:00:00.000000Z"});
    let lease = json!({"metadata": {"name": "kube-scheduler"}, "spec": spec});
    world.expect(StatusCode::CREATED, Method::POST, leases, Some(lease)).await;
    assert_eq!(told(path).await, [manager, store.clone(), pair("scheduler", "True")]);
    assert_eq!(told(&format!("{path}?fieldSelector=metadata.name=etcd-0")).await, [store]);
    let one = world.expect(StatusCode::OK, Method::GET, &format!("{path}/etcd-0"), None).await;
    assert_eq!(one["conditions"], json!([{"type": "Healthy", "status": "True", "message": "ok"}]));
    let none =
        world.expect(StatusCode::INTERNAL_SERVER_ERROR, Method::GET, &format!("{path}/none"), None).await;
    assert_eq!(none["message"], "Component not found: none");
}
