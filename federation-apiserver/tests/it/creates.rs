//! What becomes of new objects: in which order they are looked at, what is theirs to say, and what is said in their place.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::World;

const MAPS: &str = "/api/v1/namespaces/demo/configmaps";
const PODS: &str = "/api/v1/namespaces/demo/pods";

async fn made(world: &World, path: &str, object: Value) -> Value {
    world.expect(StatusCode::CREATED, Method::POST, path, Some(object)).await
}

/// The messages of all causes for which an object is refused.
async fn refused(world: &World, path: &str, object: Value) -> Vec<String> {
    let status = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, path, Some(object)).await;
    let causes = status["details"]["causes"].as_array().unwrap();
    let told = |cause: &Value| {
        format!("{}: {}", cause["field"].as_str().unwrap(), cause["message"].as_str().unwrap())
    };
    causes.iter().map(told).collect()
}

#[tokio::test]
async fn a_version_is_refused_last_of_all() {
    let world = World::new().await;
    let bad = json!({"metadata": {"name": "A", "resourceVersion": "7"}});
    world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, MAPS, Some(bad)).await;
    let map = |name: &str, version: &str| json!({"metadata": {"name": name, "resourceVersion": version}});
    let status =
        world.expect(StatusCode::INTERNAL_SERVER_ERROR, Method::POST, MAPS, Some(map("a", "7"))).await;
    assert_eq!(status["message"], "resourceVersion should not be set on objects to be created");
    // A dry run does not come so far.
    let shown = made(&world, &format!("{MAPS}?dryRun=All"), map("a", "7")).await;
    assert_eq!(shown["metadata"]["resourceVersion"], "7");
    let stored = made(&world, MAPS, map("a", "0")).await;
    assert_ne!(stored["metadata"]["resourceVersion"], "0");
}

#[tokio::test]
async fn who_counts_no_generations_keeps_the_one_that_was_sent() {
    let world = World::new().await;
    let meta = |name: &str, generation: u64| json!({"name": name, "generation": generation});
    let map = made(&world, MAPS, json!({"metadata": meta("a", 5)})).await;
    assert_eq!(map["metadata"]["generation"], 5);
    let map = made(&world, MAPS, json!({"metadata": meta("b", 0)})).await;
    assert!(map["metadata"].get("generation").is_none());
    let changed = json!({"metadata": {"generation": 9}, "data": {"k": "v"}});
    let map = world.expect(StatusCode::OK, Method::PATCH, &format!("{MAPS}/a"), Some(changed)).await;
    assert_eq!(map["metadata"]["generation"], 5);
    let spec = json!({"containers": [{"name": "c", "image": "i"}]});
    let pod = made(&world, PODS, json!({"metadata": meta("a", 5), "spec": spec})).await;
    assert_eq!(pod["metadata"]["generation"], 1);
}

#[tokio::test]
async fn plugins_call_an_object_by_how_its_name_will_start() {
    let world = World::new().await;
    let pod = |meta: Value| json!({"metadata": meta, "spec": {"priority": 7, "containers": [{"name": "c", "image": "i"}]}});
    for (meta, called) in
        [(json!({"name": "web"}), "web"), (json!({"generateName": "web-"}), "web-"), (json!({}), "Unknown")]
    {
        let status = world.expect(StatusCode::FORBIDDEN, Method::POST, PODS, Some(pod(meta))).await;
        let message = status["message"].as_str().unwrap();
        let start = format!("pods {called:?} is forbidden: the integer value of priority (7) must not");
        assert!(message.starts_with(&start), "{message}");
    }
    let nowhere = json!({"metadata": {"generateName": "a-"}});
    world
        .expect(StatusCode::NOT_FOUND, Method::POST, "/api/v1/namespaces/none/configmaps", Some(nowhere))
        .await;
}

#[tokio::test]
async fn an_empty_word_is_no_missing_one() {
    let world = World::new().await;
    let claims = "/api/v1/namespaces/demo/persistentvolumeclaims";
    let claim = json!({"metadata": {"name": "a"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "volumeMode": "",
    }});
    assert_eq!(
        refused(&world, claims, claim).await,
        [r#"spec.volumeMode: Unsupported value: "": supported values: "Block", "Filesystem""#]
    );
    let classes = "/apis/storage.k8s.io/v1/storageclasses";
    let class = |mode: &str| json!({"metadata": {"name": "a"}, "provisioner": "p", "reclaimPolicy": "", "volumeBindingMode": mode});
    assert_eq!(
        refused(&world, classes, class("")).await,
        [
            r#"volumeBindingMode: Unsupported value: "": supported values: "Immediate", "WaitForFirstConsumer""#
        ]
    );
    assert_eq!(made(&world, classes, class("Immediate")).await["reclaimPolicy"], "");
    let policies = "/apis/networking.k8s.io/v1/namespaces/demo/networkpolicies";
    let policy = json!({"metadata": {"name": "a"}, "spec": {"podSelector": {}, "ingress": [{"ports": [{"protocol": ""}]}]}});
    assert_eq!(
        refused(&world, policies, policy).await,
        [
            r#"spec.ingress[0].ports[0].protocol: Unsupported value: "": supported values: "TCP", "UDP", "SCTP""#
        ]
    );
    let hooks = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    let hook = json!({"metadata": {"name": "a"}, "webhooks": [{
        "name": "a.b.example", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": {"name": "w", "namespace": "demo"}},
        "failurePolicy": "", "matchPolicy": "", "reinvocationPolicy": "",
        "rules": [{"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["pods"], "scope": ""}],
    }]});
    let told = refused(&world, hooks, hook).await;
    for name in ["failurePolicy", "matchPolicy", "reinvocationPolicy", "rules[0].scope"] {
        let start = format!(r#"webhooks[0].{name}: Unsupported value: """#);
        assert_eq!(told.iter().filter(|error| error.starts_with(&start)).count(), 1, "{told:?}");
    }
    let classes = "/apis/networking.k8s.io/v1/ingressclasses";
    let class = json!({"metadata": {"name": "a"}, "spec": {"controller": "e.io/c", "parameters": {"apiGroup": "", "kind": "K", "name": "n"}}});
    let told = refused(&world, classes, class).await;
    assert!(
        told.len() == 1 && told[0].starts_with(r#"spec.parameters.apiGroup: Invalid value: """#),
        "{told:?}"
    );
    let services = "/apis/apiregistration.k8s.io/v1/apiservices";
    let service = json!({"metadata": {"name": "v1.e.io"}, "spec": {
        "group": "e.io", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1,
        "service": {"namespace": "n", "name": "s", "port": 0},
    }});
    assert_eq!(
        refused(&world, services, service).await,
        ["spec.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive"]
    );
}

#[tokio::test]
async fn a_claim_is_made_from_what_a_claim_can_be_made_from() {
    let world = World::new().await;
    let claims = "/api/v1/namespaces/demo/persistentvolumeclaims";
    let claim = async |name: &str, sources: Value| {
        let mut spec =
            json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        for (name, source) in sources.as_object().unwrap() {
            spec[name.as_str()] = source.clone();
        }
        let made = made(&world, claims, json!({"metadata": {"name": name}, "spec": spec})).await;
        (made["spec"]["dataSource"].clone(), made["spec"]["dataSourceRef"].clone())
    };
    assert_eq!(claim("a", json!({"dataSource": {}})).await, (Value::Null, Value::Null));
    let other = json!({"apiGroup": null, "kind": "PersistentVolumeClaim", "name": "a"});
    assert_eq!(
        claim("b", json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "a"}})).await,
        (other.clone(), other.clone())
    );
    let filled = json!({"apiGroup": "e.io", "kind": "Filler", "name": "f"});
    assert_eq!(claim("c", json!({"dataSourceRef": filled})).await, (filled.clone(), filled.clone()));
    assert_eq!(claim("d", json!({"dataSource": filled})).await, (Value::Null, Value::Null));
    // Who knows only the older name may write what he has read.
    let path = format!("{claims}/c");
    let mut read = world.expect(StatusCode::OK, Method::GET, &path, None).await;
    read["spec"].as_object_mut().unwrap().remove("dataSourceRef");
    let written = world.expect(StatusCode::OK, Method::PUT, &path, Some(read)).await;
    assert_eq!(written["spec"]["dataSourceRef"], filled);
}

#[tokio::test]
async fn a_driver_of_a_node_has_keys_or_null() {
    let world = World::new().await;
    let nodes = "/apis/storage.k8s.io/v1/csinodes";
    let drivers = json!([{"name": "a.b", "nodeID": "x"}, {"name": "c.d", "nodeID": "y", "topologyKeys": []}]);
    let node = made(&world, nodes, json!({"metadata": {"name": "a"}, "spec": {"drivers": drivers}})).await;
    for driver in node["spec"]["drivers"].as_array().unwrap() {
        assert_eq!(driver.get("topologyKeys"), Some(&Value::Null));
    }
}

#[tokio::test]
async fn a_namespace_whose_name_is_generated_is_labelled_with_it() {
    let world = World::new().await;
    let labels = json!({"kubernetes.io/metadata.name": "kube-system"});
    let namespace = json!({"metadata": {"generateName": "x-", "labels": labels}});
    let made = made(&world, "/api/v1/namespaces", namespace).await;
    assert!(made["metadata"]["name"].as_str().unwrap().starts_with("x-"));
    assert_eq!(made["metadata"]["labels"]["kubernetes.io/metadata.name"], made["metadata"]["name"]);
}

#[tokio::test]
async fn a_name_that_is_taken_is_refused_with_more_words_if_the_server_could_choose_it() {
    let world = World::new().await;
    made(&world, MAPS, json!({"metadata": {"name": "a"}})).await;
    let held = json!({"metadata": {"name": "b", "finalizers": ["example.com/wait"]}});
    made(&world, MAPS, held).await;
    world.expect(StatusCode::OK, Method::DELETE, &format!("{MAPS}/b"), None).await;
    let more = ", the server was not able to generate a unique name for the object";
    for (name, prefix, told) in [
        ("a", "", r#"configmaps "a" already exists"#.to_owned()),
        ("a", "x-", format!(r#"configmaps "a" already exists{more}"#)),
        ("b", "x-", format!(r#"object is being deleted: configmaps "b" already exists{more}"#)),
    ] {
        for query in ["", "?dryRun=All"] {
            let object = json!({"metadata": {"name": name, "generateName": prefix}});
            let path = format!("{MAPS}{query}");
            let status = world.expect(StatusCode::CONFLICT, Method::POST, &path, Some(object)).await;
            assert_eq!((&status["message"], &status["reason"]), (&json!(told), &json!("AlreadyExists")));
            let again = (!prefix.is_empty()).then_some(1);
            assert_eq!(status["details"]["retryAfterSeconds"].as_i64(), again);
        }
    }
}

#[tokio::test]
async fn null_in_a_list_is_an_element_that_says_nothing() {
    let world = World::new().await;
    let required = |fields: &[&str]| -> Vec<String> {
        fields.iter().map(|field| format!("{field}: Required value")).collect()
    };
    let container = json!({"name": "c", "image": "i"});
    let of = |list: &str, elements: Value| {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [container]}});
        pod["spec"][list] = elements;
        pod
    };
    for (pod, fields) in [
        (of("containers", json!([null])), &["spec.containers[0].name", "spec.containers[0].image"][..]),
        (
            of("containers", json!([container, null])),
            &["spec.containers[1].name", "spec.containers[1].image"],
        ),
        (
            of("initContainers", json!([null])),
            &["spec.initContainers[0].name", "spec.initContainers[0].image"],
        ),
        (of("volumes", json!([null])), &["spec.volumes[0].name"]),
    ] {
        assert_eq!(refused(&world, PODS, pod).await, required(fields));
    }
    let ingress = json!({"metadata": {"name": "i"}, "spec": {"rules": [{"http": {"paths": [null]}}]}});
    assert_eq!(
        refused(&world, "/apis/networking.k8s.io/v1/namespaces/demo/ingresses", ingress).await,
        ["spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified"]
    );
}

#[tokio::test]
async fn a_new_node_takes_no_pods_yet() {
    let world = World::new().await;
    let node = json!({"metadata": {"name": "n"}, "spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}});
    let made = world.expect(StatusCode::CREATED, Method::POST, "/api/v1/nodes", Some(node)).await;
    let ready = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
    assert_eq!(made["spec"]["taints"], json!([{"key": "a", "effect": "NoExecute"}, ready]));
    let free = json!({"spec": {"taints": []}});
    let freed = world.expect(StatusCode::OK, Method::PATCH, "/api/v1/nodes/n", Some(free)).await;
    assert_eq!(freed["spec"], json!({}));
}

#[tokio::test]
async fn an_event_has_no_reporter_but_the_one_that_it_names() {
    let world = World::new().await;
    const EVENTS: &str = "/api/v1/namespaces/demo/events";
    let event = |name: &str, reporter: Value| {
        let mut event = json!({
            "metadata": {"name": name},
            "involvedObject": {"kind": "ConfigMap", "namespace": "demo", "name": "a"},
            "source": {"component": "watcher", "host": "here"},
        });
        event.as_object_mut().unwrap().extend(reporter.as_object().unwrap().clone());
        event
    };
    let old = made(&world, EVENTS, event("old", json!({}))).await;
    assert_eq!((&old["reportingComponent"], &old["reportingInstance"]), (&json!(""), &json!("")));
    let named = json!({"reportingComponent": "watcher.example.com/w", "reportingInstance": "w-1"});
    let new = made(&world, EVENTS, event("new", named)).await;
    assert_eq!(new["reportingComponent"], "watcher.example.com/w");
    // The selector finds the source of both.
    let found = world
        .expect(StatusCode::OK, Method::GET, &format!("{EVENTS}?fieldSelector=source%3Dwatcher"), None)
        .await;
    assert_eq!(found["items"].as_array().unwrap().len(), 2);
}
