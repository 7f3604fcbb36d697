//! What kube-apiserver's own admission plugins give, and ask.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::World;

const PODS: &str = "/api/v1/namespaces/demo/pods";
const CLAIMS: &str = "/api/v1/namespaces/demo/persistentvolumeclaims";
const INGRESSES: &str = "/apis/networking.k8s.io/v1/namespaces/demo/ingresses";
const STORAGE_CLASSES: &str = "/apis/storage.k8s.io/v1/storageclasses";
const PRIORITY_CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";

impl World {
    async fn create(&self, path: &str, object: Value) -> Value {
        self.expect(StatusCode::CREATED, Method::POST, path, Some(object)).await
    }

    async fn change(&self, path: &str, patch: Value) -> Value {
        self.expect(StatusCode::OK, Method::PATCH, path, Some(patch)).await
    }

    /// Why a write is refused with 403.
    async fn refused(&self, method: Method, path: &str, object: Value) -> String {
        let status = self.expect(StatusCode::FORBIDDEN, method, path, Some(object)).await;
        status["message"].as_str().unwrap_or_default().to_owned()
    }
}

fn pod(name: &str, more: Value) -> Value {
    let mut pod = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    for (name, value) in more.as_object().into_iter().flatten() {
        pod["spec"][name] = value.clone();
    }
    pod
}

fn claim(name: &str, more: Value) -> Value {
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let mut claim = json!({"metadata": {"name": name}, "spec": spec});
    for (name, value) in more.as_object().into_iter().flatten() {
        claim["spec"][name] = value.clone();
    }
    claim
}

#[tokio::test]
async fn a_pod_gets_what_the_class_of_its_runtime_says() {
    let world = World::new().await;
    let given = json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"});
    let class = json!({
        "metadata": {"name": "small"}, "handler": "runc", "overhead": {"podFixed": {"cpu": "250m"}},
        "scheduling": {"nodeSelector": {"a": "b", "c": "d"}, "tolerations": [given]},
    });
    let classes = "/apis/node.k8s.io/v1/runtimeclasses";
    world.create(classes, class).await;
    world.create(classes, json!({"metadata": {"name": "bare"}, "handler": "runc"})).await;
    let small = |selector: Value, more: Value| json!({"runtimeClassName": "small", "nodeSelector": selector, "overhead": more});
    let made = world.create(PODS, pod("a", small(json!({"a": "b"}), Value::Null))).await;
    let spec = &made["spec"];
    assert_eq!(spec["nodeSelector"], json!({"a": "b", "c": "d"}));
    assert_eq!(spec["overhead"], json!({"cpu": "250m"}));
    let tolerations = spec["tolerations"].as_array().expect("it tolerates something");
    assert_eq!((tolerations.len(), &tolerations[2]), (3, &given));
    assert!(!made["metadata"]["managedFields"].to_string().contains("f:overhead"), "{made}");
    let other = json!({"cpu": "1m"});
    for (more, why) in [
        (
            small(json!({"a": "z"}), Value::Null),
            "conflict: runtimeClass.scheduling.nodeSelector[a] = b; pod.spec.nodeSelector[a] = z",
        ),
        (
            small(json!({"a": "b"}), other.clone()),
            "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
        ),
        (
            json!({"runtimeClassName": "bare", "overhead": other}),
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ),
        (
            json!({"overhead": other}),
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ),
        (json!({"runtimeClassName": "none"}), "pod rejected: RuntimeClass \"none\" not found"),
    ] {
        let found = world.refused(Method::POST, PODS, pod("b", more)).await;
        assert_eq!(found, format!("pods \"b\" is forbidden: {why}"));
    }
    let nameless = Some(pod("b", json!({"runtimeClassName": ""})));
    let status = world.expect(StatusCode::INTERNAL_SERVER_ERROR, Method::POST, PODS, nameless).await;
    assert_eq!(status["message"], "resource name may not be empty");
}

#[tokio::test]
async fn a_claim_that_names_no_class_has_the_default() {
    let world = World::new().await;
    let made = world.create(CLAIMS, claim("before", json!({}))).await;
    assert_eq!(made["spec"].get("storageClassName"), None);
    let class = json!({
        "metadata": {"name": "fast", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "a.b/c",
    });
    world.create(STORAGE_CLASSES, class).await;
    world.create(STORAGE_CLASSES, json!({"metadata": {"name": "slow"}, "provisioner": "a.b/c"})).await;
    let made = world.create(CLAIMS, claim("a", json!({}))).await;
    assert_eq!(made["spec"]["storageClassName"], "fast");
    assert!(!made["metadata"]["managedFields"].to_string().contains("storageClassName"), "{made}");
    for class in ["", "slow"] {
        let named = claim(&format!("named-{class}x"), json!({"storageClassName": class}));
        assert_eq!(world.create(CLAIMS, named).await["spec"]["storageClassName"], class);
    }
    let mut annotated = claim("annotated", json!({}));
    annotated["metadata"]["annotations"] = json!({"volume.beta.kubernetes.io/storage-class": "slow"});
    assert_eq!(world.create(CLAIMS, annotated).await["spec"].get("storageClassName"), None);
}

#[tokio::test]
async fn an_ingress_that_names_no_class_has_the_default() {
    let world = World::new().await;
    let ingress = |name: &str, annotations: Value, class: Value| {
        let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
        json!({
            "metadata": {"name": name, "annotations": annotations},
            "spec": {"defaultBackend": backend, "ingressClassName": class},
        })
    };
    let class = json!({
        "metadata": {"name": "main", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
        "spec": {"controller": "a.b/c"},
    });
    let before = world.create(INGRESSES, ingress("before", json!({}), Value::Null)).await;
    assert_eq!(before["spec"].get("ingressClassName"), None);
    world.create("/apis/networking.k8s.io/v1/ingressclasses", class).await;
    let made = world.create(INGRESSES, ingress("a", json!({}), Value::Null)).await;
    assert_eq!(made["spec"]["ingressClassName"], "main");
    let named = world.create(INGRESSES, ingress("named", json!({}), json!("other"))).await;
    assert_eq!(named["spec"]["ingressClassName"], "other");
    let by_annotation = json!({"kubernetes.io/ingress.class": "other"});
    let annotated = world.create(INGRESSES, ingress("annotated", by_annotation, Value::Null)).await;
    assert_eq!(annotated["spec"].get("ingressClassName"), None);
    // Only what is new is given one.
    let path = format!("{INGRESSES}/before");
    let changed = world.change(&path, json!({"metadata": {"labels": {"a": "b"}}})).await;
    assert_eq!(changed["spec"].get("ingressClassName"), None);
}

#[tokio::test]
async fn only_one_class_of_pods_is_the_default() {
    let world = World::new().await;
    let class =
        |name: &str, default: bool| json!({"metadata": {"name": name}, "value": 5, "globalDefault": default});
    world.create(PRIORITY_CLASSES, class("first", true)).await;
    world.create(PRIORITY_CLASSES, class("second", false)).await;
    let refused = |name: &str| {
        format!(
            "priorityclasses.scheduling.k8s.io \"{name}\" is forbidden: PriorityClass first is already marked as default. Only one default can exist"
        )
    };
    let found = world.refused(Method::POST, PRIORITY_CLASSES, class("third", true)).await;
    assert_eq!(found, refused("third"));
    let (first, second) = (format!("{PRIORITY_CLASSES}/first"), format!("{PRIORITY_CLASSES}/second"));
    let default = |is: bool| json!({"globalDefault": is, "description": "d"});
    assert_eq!(world.refused(Method::PATCH, &second, default(true)).await, refused("second"));
    world.change(&first, default(true)).await;
    let made = world.create(PODS, pod("a", json!({}))).await;
    assert_eq!(made["spec"]["priorityClassName"], "first");
    let never = json!({"preemptionPolicy": "Never"});
    assert_eq!(
        world.refused(Method::POST, PODS, pod("b", never)).await,
        "pods \"b\" is forbidden: the string value of PreemptionPolicy (Never) must not be provided in pod spec; priority admission controller computed PreemptLowerPriority from the given PriorityClass name"
    );
    world.change(&first, default(false)).await;
    world.change(&second, default(true)).await;
}

#[tokio::test]
async fn a_claim_grows_where_its_class_lets_it() {
    let world = World::new().await;
    let class = |name: &str, grows: bool| json!({"metadata": {"name": name}, "provisioner": "a.b/c", "allowVolumeExpansion": grows});
    world.create(STORAGE_CLASSES, class("grows", true)).await;
    world.create(STORAGE_CLASSES, class("stays", false)).await;
    let larger = || json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    for name in ["grows", "stays", "none"] {
        world.create(CLAIMS, claim(name, json!({"storageClassName": name}))).await;
        let bound = json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}});
        world.change(&format!("{CLAIMS}/{name}/status"), bound).await;
    }
    let grown = world.change(&format!("{CLAIMS}/grows"), larger()).await;
    assert_eq!(grown["spec"]["resources"]["requests"]["storage"], "2Gi");
    for name in ["stays", "none"] {
        let path = format!("{CLAIMS}/{name}");
        assert_eq!(
            world.refused(Method::PATCH, &path, larger()).await,
            format!(
                "persistentvolumeclaims \"{name}\" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
            )
        );
        // All else may change.
        world.change(&path, json!({"metadata": {"labels": {"a": "b"}}})).await;
    }
}

fn node(name: &str, more: Value) -> Value {
    let labels = json!({
        "topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r", "kubernetes.io/os": "linux",
    });
    json!({"metadata": {"name": name, "labels": labels}, "status": more})
}

#[tokio::test]
async fn a_pod_is_labelled_with_the_place_of_its_node() {
    let world = World::new().await;
    world.create("/api/v1/nodes", node("n", json!({}))).await;
    let place = json!({"topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r"});
    let made = world.create(PODS, pod("placed", json!({"nodeName": "n"}))).await;
    assert_eq!(made["metadata"]["labels"], place);
    let made = world.create(PODS, pod("elsewhere", json!({"nodeName": "none"}))).await;
    assert_eq!(made["metadata"].get("labels"), None);
    let mut unplaced = pod("bound", json!({}));
    unplaced["metadata"]["labels"] = json!({"a": "b", "topology.kubernetes.io/zone": "old"});
    let made = world.create(PODS, unplaced).await;
    let path = format!("{PODS}/bound");
    let binding = |uid: &Value| json!({"metadata": {"name": "bound", "uid": uid, "labels": {"c": "d"}}, "target": {"kind": "Node", "name": "n"}});
    let stranger = Some(binding(&json!("another")));
    let bind = format!("{path}/binding");
    let status = world.expect(StatusCode::CONFLICT, Method::POST, &bind, stranger).await;
    let uid = &made["metadata"]["uid"];
    assert_eq!(
        status["message"],
        format!(
            "Operation cannot be fulfilled on pods \"bound\": StorageError: invalid object, Code: 4, Key: /registry/pods/demo/bound, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: another, UID in object meta: {}",
            uid.as_str().unwrap_or_default()
        )
    );
    world.create(&bind, binding(uid)).await;
    let found = world.expect(StatusCode::OK, Method::GET, &path, None).await;
    let mut whole = place;
    whole["a"] = "b".into();
    whole["c"] = "d".into();
    assert_eq!(found["metadata"]["labels"], whole);
    let gated = pod("gated", json!({"schedulingGates": [{"name": "e.com/g"}]}));
    world.create(PODS, gated).await;
    let target = Some(json!({"metadata": {"name": "gated"}, "target": {"name": "n"}}));
    let status =
        world.expect(StatusCode::CONFLICT, Method::POST, &format!("{PODS}/gated/binding"), target).await;
    assert_eq!(
        status["message"],
        "Operation cannot be fulfilled on pods/binding \"gated\": pod gated has non-empty .spec.schedulingGates"
    );
}

#[tokio::test]
async fn a_resize_is_within_what_the_node_has() {
    let world = World::new().await;
    let allocatable = json!({"allocatable": {"cpu": "2", "memory": "1Gi"}});
    world.create("/api/v1/nodes", node("n", allocatable.clone())).await;
    let mut windows = node("w", allocatable);
    windows["metadata"]["labels"] = json!({"kubernetes.io/os": "windows"});
    world.create("/api/v1/nodes", windows).await;
    let of = |cpu: &str| json!([{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]);
    for (name, at) in [("a", "n"), ("b", "none"), ("c", "w")] {
        world.create(PODS, pod(name, json!({"nodeName": at, "containers": of("1")}))).await;
    }
    let path = |name: &str| format!("{PODS}/{name}/resize");
    let wanted = |cpu: &str| json!({"spec": {"containers": of(cpu)}});
    let resized = world.change(&path("a"), wanted("2")).await;
    assert_eq!(resized["spec"]["containers"][0]["resources"]["requests"]["cpu"], "2");
    for (name, cpu, why) in [
        ("a", "3", "Node didn't have enough allocatable resources: cpu, requested: 3000, allocatable: 2000"),
        ("b", "2", "node \"none\" not found"),
        ("c", "2", "pod resize is only supported on linux nodes, node \"w\" is \"windows\""),
    ] {
        let found = world.refused(Method::PATCH, &path(name), wanted(cpu)).await;
        assert_eq!(found, format!("pods \"{name}\" is forbidden: {why}"));
    }
}
