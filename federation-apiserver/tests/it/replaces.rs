//! PUT: which version it must name, and what of an object it cannot change; and what else replaces a part of one.

use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::world::World;

async fn made(world: &World, path: &str, object: Value) -> Value {
    world.expect(StatusCode::CREATED, Method::POST, path, Some(object)).await
}

/// The fields for which a PUT of an object is refused.
async fn refused(world: &World, path: &str, object: Value) -> Vec<String> {
    let status = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::PUT, path, Some(object)).await;
    let causes = status["details"]["causes"].as_array().unwrap();
    causes.iter().map(|cause| cause["field"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_version_is_named_where_kubernetes_wants_one() {
    let world = World::new().await;
    let spec = json!({"containers": [{"name": "c", "image": "i"}]});
    let job = json!({"template": {"spec": {"restartPolicy": "Never", "containers": spec["containers"]}}});
    let (batch, storage) = ("/apis/batch/v1/namespaces/demo", "/apis/storage.k8s.io/v1");
    let cases = [
        ("/api/v1/namespaces/demo/pods".to_owned(), json!({"spec": spec}), false),
        (format!("{batch}/jobs"), json!({"spec": job}), false),
        (
            format!("{batch}/cronjobs"),
            json!({"spec": {"schedule": "@daily", "jobTemplate": {"spec": job}}}),
            false,
        ),
        (format!("{storage}/csidrivers"), json!({"spec": {}}), false),
        (format!("{storage}/csinodes"), json!({"spec": {"drivers": []}}), false),
        ("/apis/node.k8s.io/v1/runtimeclasses".to_owned(), json!({"handler": "h"}), false),
        ("/api/v1/namespaces/demo/configmaps".to_owned(), json!({"data": {"a": "b"}}), true),
    ];
    for (path, mut object, any) in cases {
        object["metadata"] = json!({"name": "a"});
        let mut made = made(&world, &path, object).await;
        made["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        let path = format!("{path}/a");
        if any {
            world.expect(StatusCode::OK, Method::PUT, &path, Some(made)).await;
        } else {
            assert_eq!(refused(&world, &path, made).await, ["metadata.resourceVersion"], "{path}");
        }
    }
}

#[tokio::test]
async fn a_driver_stays_what_it_was() {
    let world = World::new().await;
    let (drivers, nodes) = ("/apis/storage.k8s.io/v1/csidrivers", "/apis/storage.k8s.io/v1/csinodes");
    let mut driver = made(&world, drivers, json!({"metadata": {"name": "a.b"}, "spec": {}})).await;
    driver["spec"]["attachRequired"] = false.into();
    driver["spec"]["volumeLifecycleModes"] = json!(["Ephemeral"]);
    let told = refused(&world, &format!("{drivers}/a.b"), driver).await;
    assert_eq!(told, ["spec.attachedRequired", "spec.volumeLifecycleModes"]);
    let spec = json!({"drivers": [{"name": "a.b", "nodeID": "x", "allocatable": {"count": 1}}]});
    let mut node = made(&world, nodes, json!({"metadata": {"name": "n"}, "spec": spec})).await;
    let path = format!("{nodes}/n");
    node["spec"]["drivers"][0]["allocatable"]["count"] = 2.into();
    let mut node = world.expect(StatusCode::OK, Method::PUT, &path, Some(node)).await;
    node["spec"]["drivers"][0]["nodeID"] = "y".into();
    assert_eq!(refused(&world, &path, node).await, ["CSINodeDriver"]);
}

#[tokio::test]
async fn who_tolerates_everything_is_given_no_patience() {
    let world = World::new().await;
    let pods = "/api/v1/namespaces/demo/pods";
    let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let mut pod = made(&world, pods, pod).await;
    let given = pod["spec"]["tolerations"].as_array_mut().unwrap();
    assert_eq!(given.len(), 2);
    given[0].as_object_mut().unwrap().remove("key");
    // One without a key is for all ends of nodes: none of the two is given again, and they are gone.
    given.truncate(1);
    assert_eq!(refused(&world, &format!("{pods}/a"), pod).await, ["spec.tolerations"]);
}

#[tokio::test]
async fn the_new_name_of_an_account_wins() {
    let world = World::new().await;
    let pods = "/api/v1/namespaces/demo/pods";
    let spec = json!({"containers": [{"name": "c", "image": "i"}], "serviceAccountName": "default", "serviceAccount": "none"});
    let mut pod = made(&world, pods, json!({"metadata": {"name": "a"}, "spec": spec})).await;
    assert_eq!(pod["spec"]["serviceAccount"], "default");
    pod["spec"]["serviceAccount"] = "other".into();
    let put = world.expect(StatusCode::OK, Method::PUT, &format!("{pods}/a"), Some(pod.clone())).await;
    assert_eq!(put["metadata"]["resourceVersion"], pod["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn a_patch_replaces_what_is_not_there() {
    let world = World::new().await;
    let maps = "/api/v1/namespaces/demo/configmaps";
    made(&world, maps, json!({"metadata": {"name": "a"}, "data": {"k": "v"}})).await;
    let patch = async |operations: Value| {
        let request =
            Request::patch(format!("{maps}/a")).header("content-type", "application/json-patch+json");
        world.send(request.body(Full::from(operations.to_string())).unwrap()).await
    };
    let (code, map) = patch(json!([
        {"op": "replace", "path": "/data/l", "value": "w"},
        {"op": "replace", "path": "/metadata/labels", "value": {"a": "b"}},
        {"op": "replace", "path": "/data/k"},
    ]))
    .await;
    assert_eq!(code, StatusCode::OK, "{map}");
    assert_eq!((&map["data"], &map["metadata"]["labels"]), (&json!({"k": "", "l": "w"}), &json!({"a": "b"})));
    let (code, _) = patch(json!([{"op": "replace", "path": "/nowhere/x", "value": "w"}])).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    let many = vec![json!({"op": "remove", "path": "/data/k"}); 10_001];
    let (code, status) = patch(many.into()).await;
    assert_eq!(code, StatusCode::PAYLOAD_TOO_LARGE);
    let told = "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001";
    assert_eq!(status["message"], told);
}

#[tokio::test]
async fn who_means_another_object_of_the_name_is_told_so_as_by_etcd() {
    let world = World::new().await;
    let told = |key: &str, found: &str| {
        format!(
            "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: another, UID in object meta: {found}"
        )
    };
    let path = "/api/v1/namespaces/demo/endpoints";
    let mut object = made(&world, path, json!({"metadata": {"name": "a"}})).await;
    let uid = object["metadata"]["uid"].as_str().unwrap().to_owned();
    object["metadata"]["uid"] = json!("another");
    let cases = [
        ("a", "", told("/registry/services/endpoints/demo/a", &uid)),
        ("a", "?dryRun=All", told("/services/endpoints/demo/a", &uid)),
        // None is another one, too, even where a PUT makes what is not there.
        ("b", "", told("/registry/services/endpoints/demo/b", "")),
    ];
    for (name, query, told) in cases {
        // Whatever version is named.
        for version in [object["metadata"]["resourceVersion"].clone(), json!("1"), Value::Null] {
            let mut object = object.clone();
            object["metadata"]["name"] = json!(name);
            object["metadata"]["resourceVersion"] = version;
            let path = format!("{path}/{name}{query}");
            let status = world.expect(StatusCode::CONFLICT, Method::PUT, &path, Some(object)).await;
            let expect = format!("Operation cannot be fulfilled on endpoints \"{name}\": {told}");
            assert_eq!(status["message"], expect.as_str());
        }
    }
}

#[tokio::test]
async fn a_delete_of_another_version_is_told_by_each_registry_in_its_words() {
    let world = World::new().await;
    let options = |field: &str| json!({"preconditions": {field: "0"}});
    let told = async |path: &str, field: &str| {
        let status = world.expect(StatusCode::CONFLICT, Method::DELETE, path, Some(options(field))).await;
        status["message"].as_str().unwrap().to_owned()
    };
    let namespace = world.expect(StatusCode::OK, Method::GET, "/api/v1/namespaces/demo", None).await;
    let (uid, version) = (&namespace["metadata"]["uid"], &namespace["metadata"]["resourceVersion"]);
    let head = "Operation cannot be fulfilled on namespaces \"demo\": Precondition failed: ";
    for (field, name, found) in [("uid", "UID", uid), ("resourceVersion", "ResourceVersion", version)] {
        let found = found.as_str().unwrap();
        let expect = format!("{head}{name} in precondition: 0, {name} in object meta: {found}");
        assert_eq!(told("/api/v1/namespaces/demo", field).await, expect);
    }
    let map = made(&world, "/api/v1/namespaces/demo/configmaps", json!({"metadata": {"name": "a"}})).await;
    let version = map["metadata"]["resourceVersion"].as_str().unwrap();
    let expect = format!(
        "Operation cannot be fulfilled on ConfigMap \"a\": the ResourceVersion in the precondition (0) does not match the ResourceVersion in record ({version}). The object might have been modified"
    );
    assert_eq!(told("/api/v1/namespaces/demo/configmaps/a", "resourceVersion").await, expect);
}
