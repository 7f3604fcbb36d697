//! Requests that are of a kind of their own, as policies see them: Bindings, Evictions, Scales, requests for tokens, and reviews.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{World, deployment};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const PODS: &str = "/api/v1/namespaces/demo/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/demo/deployments";

fn rule(group: &str, resources: &[&str]) -> Value {
    json!([{"apiGroups": [group], "apiVersions": ["v1"], "operations": ["*"], "resources": resources}])
}

impl World {
    /// A policy of a kind, with a binding of its name.
    async fn ask(&self, kind: &str, rules: Value, more: Value) {
        let name = kind.to_lowercase();
        let plural = name.replace("policy", "policies");
        let mut spec = json!({"matchConstraints": {"resourceRules": rules}});
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let policy = json!({"metadata": {"name": name}, "spec": spec});
        self.expect(StatusCode::CREATED, Method::POST, &format!("{GROUP}/{plural}"), Some(policy)).await;
        let mut bound = json!({"metadata": {"name": name}, "spec": {"policyName": name}});
        if kind.starts_with("Validating") {
            bound["spec"]["validationActions"] = json!(["Deny"]);
        }
        let path = format!("{GROUP}/{name}bindings");
        self.expect(StatusCode::CREATED, Method::POST, &path, Some(bound)).await;
    }

    async fn forbid(&self, rules: Value, expression: &str) {
        let validations = json!([{"expression": expression, "message": "so it is"}]);
        self.ask("ValidatingAdmissionPolicy", rules, json!({"validations": validations})).await;
    }

    async fn has_pod(&self, name: &str) {
        let spec = json!({"containers": [{"name": "a", "image": "a:1"}]});
        let pod = json!({"metadata": {"name": name}, "spec": spec});
        self.expect(StatusCode::CREATED, Method::POST, PODS, Some(pod)).await;
    }
}

fn binding(pod: &str, node: &str) -> Value {
    json!({"metadata": {"name": pod}, "target": {"kind": "Node", "name": node}})
}

#[tokio::test]
async fn policies_judge_a_binding_and_not_what_comes_of_it() {
    let world = World::new().await;
    world.has_pod("a").await;
    let expression = "request.operation == 'CREATE' && request.kind.kind == 'Binding' && request.subResource == 'binding' \
        && request.name == 'a' && request.namespace == 'demo' && oldObject == null && object.target.name != 'closed'";
    world.forbid(rule("", &["pods", "pods/binding"]), expression).await;
    let path = format!("{PODS}/a/binding");
    let status = world
        .expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, &path, Some(binding("a", "closed")))
        .await;
    assert_eq!(
        status["message"],
        "pods \"a\" is forbidden: ValidatingAdmissionPolicy 'validatingadmissionpolicy' with binding 'validatingadmissionpolicy' \
         denied request: so it is"
    );
    world.expect(StatusCode::CREATED, Method::POST, &path, Some(binding("a", "open"))).await;
    let pod = world.expect(StatusCode::OK, Method::GET, &format!("{PODS}/a"), None).await;
    assert_eq!(pod["spec"]["nodeName"], "open");
}

#[tokio::test]
async fn a_binding_of_old_goes_by_its_own_resource() {
    let world = World::new().await;
    world.has_pod("a").await;
    world
        .forbid(rule("", &["bindings"]), "request.subResource != '' || object.target.name != 'closed'")
        .await;
    let path = "/api/v1/namespaces/demo/bindings";
    world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, path, Some(binding("a", "closed"))).await;
    world.expect(StatusCode::CREATED, Method::POST, path, Some(binding("a", "open"))).await;
}

#[tokio::test]
async fn a_binding_is_of_the_pod_that_its_writer_knows_and_of_none_that_is_held_back() {
    let world = World::new().await;
    world.has_pod("a").await;
    let path = format!("{PODS}/a/binding");
    let mut other = binding("a", "node");
    other["metadata"]["uid"] = "other".into();
    let status = world.expect(StatusCode::CONFLICT, Method::POST, &path, Some(other)).await;
    let message = status["message"].as_str().unwrap();
    assert!(
        message.contains("Precondition failed: UID in precondition: other, UID in object meta: "),
        "{message}"
    );
    let gated = json!({"metadata": {"name": "gated"}, "spec": {
        "schedulingGates": [{"name": "example.com/wait"}], "containers": [{"name": "a", "image": "a:1"}],
    }});
    world.expect(StatusCode::CREATED, Method::POST, PODS, Some(gated)).await;
    let path = format!("{PODS}/gated/binding");
    let status =
        world.expect(StatusCode::CONFLICT, Method::POST, &path, Some(binding("gated", "node"))).await;
    assert_eq!(
        status["message"],
        "Operation cannot be fulfilled on pods/binding \"gated\": pod gated has non-empty .spec.schedulingGates"
    );
}

#[tokio::test]
async fn policies_judge_and_change_an_eviction_and_not_the_deletion() {
    let world = World::new().await;
    world.has_pod("a").await;
    world
        .expect(StatusCode::CREATED, Method::POST, &format!("{PODS}/a/binding"), Some(binding("a", "n")))
        .await;
    let expression = "request.operation == 'CREATE' && request.kind.group == 'policy' && request.kind.kind == 'Eviction' \
        && has(object.metadata.labels)";
    world.forbid(rule("", &["pods", "pods/eviction"]), expression).await;
    let change = "Object{deleteOptions: Object.deleteOptions{gracePeriodSeconds: 7}}";
    let mutations =
        json!([{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": change}}]);
    world.ask("MutatingAdmissionPolicy", rule("", &["pods/eviction"]), json!({"mutations": mutations})).await;
    let path = format!("{PODS}/a/eviction");
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}});
    let mut labelled = eviction.clone();
    labelled["metadata"]["labels"] = json!({"asked": "for"});
    world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, &path, Some(eviction)).await;
    world.expect(StatusCode::CREATED, Method::POST, &path, Some(labelled)).await;
    let pod = world.expect(StatusCode::OK, Method::GET, &format!("{PODS}/a"), None).await;
    assert_eq!(pod["metadata"]["deletionGracePeriodSeconds"], 7);
}

#[tokio::test]
async fn policies_see_a_scale_as_a_scale() {
    let world = World::new().await;
    world.expect(StatusCode::CREATED, Method::POST, DEPLOYMENTS, Some(deployment("web"))).await;
    let expression = "request.operation == 'UPDATE' && request.kind.kind == 'Scale' && request.resource.resource == 'deployments' \
        && object.kind == 'Scale' && object.spec.replicas < 10 && oldObject.spec.replicas == 1 && object.status.selector == 'app=web'";
    world.forbid(rule("apps", &["deployments", "deployments/scale"]), expression).await;
    let path = format!("{DEPLOYMENTS}/web/scale");
    let much = json!({"spec": {"replicas": 20}});
    let status = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::PATCH, &path, Some(much)).await;
    assert!(status["message"].as_str().unwrap().ends_with("denied request: so it is"), "{status}");
    let change = "Object{spec: Object.spec{replicas: object.spec.replicas + 1}}";
    let mutations =
        json!([{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": change}}]);
    world
        .ask("MutatingAdmissionPolicy", rule("apps", &["deployments/scale"]), json!({"mutations": mutations}))
        .await;
    let less = json!({"spec": {"replicas": 3}});
    let scale = world.expect(StatusCode::OK, Method::PATCH, &path, Some(less)).await;
    assert_eq!(scale["spec"]["replicas"], 4);
}

#[tokio::test]
async fn policies_see_reviews() {
    let world = World::new().await;
    world.forbid(rule("authorization.k8s.io", &["*"]), "object.spec.user != 'eve'").await;
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let review =
        |user: &str| json!({"spec": {"user": user, "nonResourceAttributes": {"path": "/", "verb": "get"}}});
    world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, path, Some(review("eve"))).await;
    world.expect(StatusCode::CREATED, Method::POST, path, Some(review("bob"))).await;
}
