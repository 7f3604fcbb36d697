//! Kinds beyond the first seven: those that are federated by default, and those that a policy brings.

use serde_json::{Value, json};

use crate::federation::{Federation, Member, until};

fn object(api_version: &str, kind: &str, body: Value) -> Value {
    let mut object = json!({"apiVersion": api_version, "kind": kind});
    for (field, value) in body.as_object().unwrap() {
        object[field] = value.clone();
    }
    object
}

fn pod_template() -> Value {
    json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "x", "image": "example.test/x:1"}]}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_default_kind_appears_in_both_members() {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    let selector = json!({"matchLabels": {"app": "x"}});
    let objects = [
        (
            "/api/v1/namespaces/default/persistentvolumeclaims",
            object(
                "v1",
                "PersistentVolumeClaim",
                json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
            ),
        ),
        (
            "/apis/apps/v1/namespaces/default/statefulsets",
            object(
                "apps/v1",
                "StatefulSet",
                json!({"metadata": {"name": "db"}, "spec": {"replicas": 3, "serviceName": "db", "selector": selector, "template": pod_template()}}),
            ),
        ),
        (
            "/apis/apps/v1/namespaces/default/daemonsets",
            object(
                "apps/v1",
                "DaemonSet",
                json!({"metadata": {"name": "logs"}, "spec": {"selector": selector, "template": pod_template()}}),
            ),
        ),
        (
            "/apis/networking.k8s.io/v1/namespaces/default/ingresses",
            object(
                "networking.k8s.io/v1",
                "Ingress",
                json!({"metadata": {"name": "web"}, "spec": {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}}),
            ),
        ),
        (
            "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies",
            object(
                "networking.k8s.io/v1",
                "NetworkPolicy",
                json!({"metadata": {"name": "closed"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}),
            ),
        ),
        (
            "/apis/policy/v1/namespaces/default/poddisruptionbudgets",
            object(
                "policy/v1",
                "PodDisruptionBudget",
                json!({"metadata": {"name": "web"}, "spec": {"minAvailable": 1, "selector": selector}}),
            ),
        ),
        (
            "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles",
            object(
                "rbac.authorization.k8s.io/v1",
                "Role",
                json!({"metadata": {"name": "reader"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}),
            ),
        ),
        (
            "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings",
            object(
                "rbac.authorization.k8s.io/v1",
                "RoleBinding",
                json!({"metadata": {"name": "readers"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
                       "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "readers"}]}),
            ),
        ),
        (
            "/apis/storage.k8s.io/v1/storageclasses",
            object(
                "storage.k8s.io/v1",
                "StorageClass",
                json!({"metadata": {"name": "fast"}, "provisioner": "example.test/disk"}),
            ),
        ),
    ];
    for (collection, object) in &objects {
        federation.api.create(collection, object).await;
    }
    for (collection, object) in &objects {
        let path = format!("{collection}/{}", object["metadata"]["name"].as_str().unwrap());
        for member in [&taiwan, &tokyo] {
            member.api.there(&path).await;
        }
    }
    let sets = "/apis/apps/v1/namespaces/default/statefulsets/db";
    let replicas = |set: Option<Value>| set.unwrap()["spec"]["replicas"].as_i64().unwrap();
    assert_eq!(replicas(taiwan.api.get(sets).await) + replicas(tokyo.api.get(sets).await), 3);
}

/// Finalizers that protect what is in use are each cluster's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_nobody_uses_goes_everywhere() {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    let collection = "/api/v1/namespaces/default/persistentvolumeclaims";
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let claim = object("v1", "PersistentVolumeClaim", json!({"metadata": {"name": "data"}, "spec": spec}));
    federation.api.create(collection, &claim).await;
    let path = format!("{collection}/data");
    let finalizers = json!(["kubernetes.io/pvc-protection"]);
    for member in [&taiwan, &tokyo] {
        assert_eq!(member.api.there(&path).await["metadata"]["finalizers"], finalizers);
    }
    federation.api.delete(&path, Some("Background")).await;
    federation.api.gone(&path).await;
    for member in [&taiwan, &tokyo] {
        member.api.gone(&path).await;
    }
}

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.test/v1/namespaces/default/widgets";

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.test"},
        "spec": {
            "group": "example.test", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                {"type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}}}}}],
        },
    })
}

fn widget(name: &str, size: i64) -> Value {
    object("example.test/v1", "Widget", json!({"metadata": {"name": name}, "spec": {"size": size}}))
}

fn selecting(selectors: &Value) -> Value {
    let spec = json!({"resourceSelectors": selectors});
    object(
        "federation.rs/v1alpha1",
        "ClusterPlacementPolicy",
        json!({"metadata": {"name": "widgets"}, "spec": spec}),
    )
}

const CLUSTER_POLICIES: &str = "/apis/federation.rs/v1alpha1/clusterplacementpolicies";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_custom_kind_is_federated_with_its_definition_once_a_policy_selects_them() {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    // The policy first: the kind is found when it comes.
    let policy = selecting(&json!([
        {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "name": "widgets.example.test"},
        {"apiVersion": "example.test/v1", "kind": "Widget"},
    ]));
    federation.api.create(CLUSTER_POLICIES, &policy).await;
    federation.api.create(DEFINITIONS, &definition()).await;
    until("the kind is served", || async { federation.api.get(WIDGETS).await }).await;
    federation.api.create(WIDGETS, &widget("one", 1)).await;
    let path = format!("{WIDGETS}/one");
    for member in [&taiwan, &tokyo] {
        assert_eq!(member.api.there(&path).await["spec"]["size"], 1);
    }
    federation.api.merge(&path, &json!({"spec": {"size": 2}})).await;
    for member in [&taiwan, &tokyo] {
        member.api.until(&path, "follows", |copy| copy["spec"]["size"] == 2).await;
    }
    // A hand-made change is put back.
    tokyo.api.merge(&path, &json!({"spec": {"size": 9}})).await;
    tokyo.api.until(&path, "is put back", |copy| copy["spec"]["size"] == 2).await;

    federation.api.delete(&path, Some("Background")).await;
    federation.api.gone(&path).await;
    for member in [&taiwan, &tokyo] {
        assert_eq!(member.api.get(&path).await, None, "{}", member.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statuses_of_a_custom_kind_come_back_as_one() {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    let policy = selecting(&json!([
        {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "name": "widgets.example.test"},
        {"apiVersion": "example.test/v1", "kind": "Widget"},
    ]));
    federation.api.create(CLUSTER_POLICIES, &policy).await;
    let mut definition = definition();
    let version = &mut definition["spec"]["versions"][0];
    version["subresources"] = json!({"status": {}});
    version["schema"]["openAPIV3Schema"]["properties"]["status"] =
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    federation.api.create(DEFINITIONS, &definition).await;
    until("the kind is served", || async { federation.api.get(WIDGETS).await }).await;
    federation.api.create(WIDGETS, &widget("one", 1)).await;
    let path = format!("{WIDGETS}/one");
    // What a controller in each member would write.
    let tell = async |member: &Member, replicas: i64, ready: &str| {
        let copy = member.api.there(&path).await;
        let status = json!({
            "observedGeneration": copy["metadata"]["generation"], "readyReplicas": replicas, "phase": "Running",
            "conditions": [{"type": "Ready", "status": ready, "reason": "Said", "message": "so it is"}],
        });
        member.api.merge(&format!("{path}/status"), &json!({"status": status})).await;
    };
    tell(&taiwan, 2, "True").await;
    let condition = |widget: &Value| widget["status"]["conditions"][0]["status"].clone();
    federation.api.until(&path, "waits for the other", |widget| condition(widget) == "Unknown").await;
    tell(&tokyo, 3, "True").await;
    let whole = |widget: &Value| condition(widget) == "True" && widget["status"]["readyReplicas"] == 5;
    federation.api.until(&path, "is ready in both", whole).await;
    let widget = federation.api.there(&path).await;
    assert_eq!(widget["status"]["observedGeneration"], widget["metadata"]["generation"]);
    assert_eq!(widget["status"]["phase"], "Running");
    tell(&tokyo, 0, "False").await;
    let message = "tokyo: so it is";
    let fallen = |widget: &Value| widget["status"]["conditions"][0]["message"] == message;
    federation.api.until(&path, "says who is not", fallen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_of_a_custom_kind_outlive_its_policy_and_the_controller() {
    let (mut federation, taiwan, _tokyo) = Federation::pair().await;
    federation.api.create(DEFINITIONS, &definition()).await;
    taiwan.api.create(DEFINITIONS, &definition()).await;
    let policy = selecting(&json!([{"apiVersion": "example.test/v1", "kind": "Widget"}]));
    federation.api.create(CLUSTER_POLICIES, &policy).await;
    until("the kind is served", || async { federation.api.get(WIDGETS).await }).await;
    federation.api.create(WIDGETS, &widget("one", 1)).await;
    let path = format!("{WIDGETS}/one");
    // Only taiwan has the definition; it came after its agent had connected.
    taiwan.api.there(&path).await;
    federation.stop_controller().await;
    federation.start_controller().await;
    federation.api.merge(&path, &json!({"spec": {"size": 2}})).await;
    taiwan.api.until(&path, "follows the new controller", |copy| copy["spec"]["size"] == 2).await;

    federation.api.delete(&format!("{CLUSTER_POLICIES}/widgets"), None).await;
    taiwan.api.until(&path, "is released", |copy| crate::federation::template_uid(copy).is_none()).await;
    assert!(federation.api.get(&path).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_stays_at_home_unless_a_policy_says_where_it_runs() {
    let (federation, taiwan, tokyo) = Federation::pair().await;
    let jobs = "/apis/batch/v1/namespaces/default/jobs";
    let job = |name: &str| {
        let mut template = pod_template();
        template["spec"]["restartPolicy"] = "Never".into();
        object("batch/v1", "Job", json!({"metadata": {"name": name}, "spec": {"template": template}}))
    };
    let spec = json!({
        "resourceSelectors": [{"apiVersion": "batch/v1", "kind": "Job", "name": "report"}],
        "clusters": {"names": ["tokyo"]},
    });
    let policy = object(
        "federation.rs/v1alpha1",
        "PlacementPolicy",
        json!({"metadata": {"name": "reports"}, "spec": spec}),
    );
    federation.api.create("/apis/federation.rs/v1alpha1/namespaces/default/placementpolicies", &policy).await;
    federation.api.create(jobs, &job("local")).await;
    federation.api.create(jobs, &job("report")).await;
    tokyo.api.there(&format!("{jobs}/report")).await;
    federation.applied(&format!("{}/jobs.batch.report", crate::federation::PLACEMENTS), &["tokyo"]).await;
    for member in [&taiwan, &tokyo] {
        assert_eq!(member.api.get(&format!("{jobs}/local")).await, None, "{}", member.name);
    }
    assert_eq!(taiwan.api.get(&format!("{jobs}/report")).await, None);
}
