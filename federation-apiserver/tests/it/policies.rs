//! ValidatingAdmissionPolicies.

use federation_apiserver::housekeeping::{Options, Service};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::world::{World, config_map};

const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";
const MAPS: &str = "/api/v1/namespaces/demo/configmaps";

fn policy(validations: &Value) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "named"},
        "spec": {
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
                "operations": ["CREATE", "UPDATE", "DELETE"], "resources": ["configmaps"]}]},
            "variables": [{"name": "keys", "expression": "object == null ? 0 : size(object.?data.orValue({}))"}],
            "validations": validations,
        },
    })
}

fn binding(spec: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "bound"}, "spec": {"policyName": "named"},
    });
    for (key, value) in spec.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    object
}

impl World {
    async fn bind(&self, policy: Value, spec: &Value) {
        self.expect(StatusCode::CREATED, Method::POST, POLICIES, Some(policy)).await;
        self.expect(StatusCode::CREATED, Method::POST, BINDINGS, Some(binding(spec))).await;
    }
}

#[tokio::test]
async fn a_denied_write_is_told_by_whom_and_why() {
    let world = World::new().await;
    let rules = json!([
        {"expression": "variables.keys < 2", "messageExpression": "'%d keys are too many'.format([variables.keys])"},
        {"expression": "request.operation != 'DELETE' || oldObject.metadata.name != 'kept'", "reason": "Forbidden"},
    ]);
    world.bind(policy(&rules), &json!({"validationActions": ["Deny"]})).await;
    world.expect(StatusCode::CREATED, Method::POST, MAPS, Some(config_map("kept"))).await;
    let mut large = config_map("large");
    large["data"]["more"] = "v".into();
    let status = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, MAPS, Some(large)).await;
    assert_eq!(
        status["message"],
        r#"configmaps "large" is forbidden: ValidatingAdmissionPolicy 'named' with binding 'bound' denied request: 2 keys are too many"#
    );
    assert_eq!(status["reason"], "Invalid");
    let patch = json!({"data": {"more": "v"}});
    world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::PATCH, &format!("{MAPS}/kept"), Some(patch)).await;
    let status = world.expect(StatusCode::FORBIDDEN, Method::DELETE, &format!("{MAPS}/kept"), None).await;
    assert!(
        status["message"].as_str().unwrap().contains("failed expression: request.operation != 'DELETE'"),
        "{status}"
    );
    world.expect(StatusCode::OK, Method::DELETE, &format!("{BINDINGS}/bound"), None).await;
    world.expect(StatusCode::OK, Method::DELETE, &format!("{MAPS}/kept"), None).await;
}

#[tokio::test]
async fn a_warning_lets_the_write_pass() {
    let world = World::new().await;
    let rules =
        json!([{"expression": "object.metadata.name.startsWith('a')", "message": "names start with a"}]);
    world.bind(policy(&rules), &json!({"validationActions": ["Warn"]})).await;
    let request = Request::post(MAPS)
        .header("content-type", "application/json")
        .body(Full::from(config_map("b").to_string()))
        .unwrap();
    let response = world.server.service().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(
        response.headers()["warning"],
        "299 - \"Validation failed for ValidatingAdmissionPolicy 'named' with binding 'bound': names start with a\""
    );
}

#[tokio::test]
async fn conditions_parameters_and_failures_are_heeded() {
    let world = World::new().await;
    let rules = json!([{"expression": "variables.keys <= int(params.data.most)"}]);
    let mut object = policy(&rules);
    object["spec"]["paramKind"] = json!({"apiVersion": "v1", "kind": "ConfigMap"});
    object["spec"]["matchConditions"] =
        json!([{"name": "not-params", "expression": "object == null || object.metadata.name != 'limits'"}]);
    let reference = json!({"name": "limits", "namespace": "demo", "parameterNotFoundAction": "Deny"});
    world.bind(object, &json!({"validationActions": ["Deny"], "paramRef": reference})).await;
    let status =
        world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, MAPS, Some(config_map("a"))).await;
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .contains("no params found for policy binding with `Deny` parameterNotFoundAction"),
        "{status}"
    );
    // The limits themselves are wanted first, and no condition is asked without them.
    world.expect(StatusCode::OK, Method::DELETE, &format!("{BINDINGS}/bound"), None).await;
    let mut limits = config_map("limits");
    limits["data"] = json!({"most": "1"});
    world.expect(StatusCode::CREATED, Method::POST, MAPS, Some(limits)).await;
    let bound = binding(&json!({"validationActions": ["Deny"], "paramRef": reference}));
    world.expect(StatusCode::CREATED, Method::POST, BINDINGS, Some(bound)).await;
    world.expect(StatusCode::CREATED, Method::POST, MAPS, Some(config_map("a"))).await;
    let patch = json!({"data": {"most": "many", "other": "x"}});
    world.expect(StatusCode::OK, Method::PATCH, &format!("{MAPS}/limits"), Some(patch)).await;
    let status =
        world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, MAPS, Some(config_map("b"))).await;
    assert!(status["message"].as_str().unwrap().contains("resulted in error"), "{status}");
    let patch = json!({"spec": {"failurePolicy": "Ignore"}});
    world.expect(StatusCode::OK, Method::PATCH, &format!("{POLICIES}/named"), Some(patch)).await;
    world.expect(StatusCode::CREATED, Method::POST, MAPS, Some(config_map("b"))).await;
}

#[tokio::test]
async fn an_expression_that_does_not_compile_is_refused() {
    let world = World::new().await;
    let rules = json!([{"expression": "variables.missing > 1"}, {"expression": "1 + 1"}]);
    let status =
        world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, POLICIES, Some(policy(&rules))).await;
    let message = status["message"].as_str().unwrap();
    assert!(message.contains("spec.validations[0].expression: Invalid value: \"variables.missing > 1\": compilation failed: ERROR: <input>:1:10: undefined field 'missing'"), "{message}");
    assert!(
        message.contains("spec.validations[1].expression: Invalid value: \"1 + 1\": must evaluate to bool"),
        "{message}"
    );
}

#[tokio::test]
async fn expressions_ask_the_authorizer() {
    let world = World::new().await;
    let rules = json!([
        {"expression": "authorizer.group('apps').resource('deployments').namespace(request.namespace).check('create').allowed()"},
        {"expression": "authorizer.requestResource.check('custom').allowed() && authorizer.path('/healthz').check('get').allowed()"},
        {"expression": "authorizer.serviceAccount('demo', 'robot').group('').resource('pods').name('x').check('get').errored() == false"},
        {"expression": "!authorizer.serviceAccount('demo', 'robot').group('').resource('pods').check('get').allowed()",
         "message": "robots may"},
    ]);
    world.bind(policy(&rules), &json!({"validationActions": ["Deny"]})).await;
    // Everybody may do everything here.
    let status =
        world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, MAPS, Some(config_map("a"))).await;
    assert_eq!(
        status["message"],
        r#"configmaps "a" is forbidden: ValidatingAdmissionPolicy 'named' with binding 'bound' denied request: robots may"#
    );
}

#[tokio::test]
async fn rules_conditions_and_bindings_are_checked() {
    let world = World::new().await;
    let mut object = policy(&json!([{"expression": "request.nothing == ''"}]));
    object["spec"]["matchConditions"] = json!([{"name": "not a name", "expression": "object.metadata.name"}]);
    object["spec"]["matchConstraints"]["resourceRules"][0]["operations"] = json!(["*", "READ"]);
    object["spec"]["paramKind"] = json!({"apiVersion": "a/b/c", "kind": "K"});
    let status = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, POLICIES, Some(object)).await;
    let message = status["message"].as_str().unwrap();
    for part in [
        "undefined field 'nothing'",
        "spec.matchConditions[0].name: Invalid value: \"not a name\"",
        "spec.matchConstraints.resourceRules[0].operations: Invalid value: [\"*\",\"READ\"]: if '*' is present, must not specify other operations",
        "spec.matchConstraints.resourceRules[0].operations[1]: Unsupported value: \"READ\"",
        "spec.paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let bound = binding(
        &json!({"validationActions": ["Deny", "Deny"], "paramRef": {"parameterNotFoundAction": "Maybe"}}),
    );
    let status = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, BINDINGS, Some(bound)).await;
    let message = status["message"].as_str().unwrap();
    for part in [
        "spec.paramRef: Required value: one of name or selector must be specified",
        "spec.paramRef.parameterNotFoundAction: Unsupported value: \"Maybe\"",
        "spec.validationActions[1]: Duplicate value: \"Deny\"",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let webhook = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": {"name": "hooks"},
        "webhooks": [{
            "name": "a.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {"url": "http://user@example.com/x?y=z"},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods", "*"]}],
            "matchConditions": [{"name": "broken", "expression": "object.metadata.name != "}],
        }],
    });
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    let status = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, path, Some(webhook)).await;
    let message = status["message"].as_str().unwrap();
    for part in [
        "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[:port]/path",
        "user information is not permitted in the URL",
        "query parameters are not permitted in the URL",
        "if '*' is present, must not specify other resources without subresources",
        "webhooks[0].matchConditions[0].expression: Invalid value: \"object.metadata.name !=\": compilation failed: ",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[tokio::test]
async fn expressions_are_checked_against_the_kinds_that_a_policy_is_for() {
    let mut storage = None;
    let world = World::with(|parts| {
        storage = Some(parts.storage.clone());
        parts
    })
    .await;
    let kinds = std::sync::Arc::new(world.server.kind_table());
    let mut housekeeping = Service::new(storage.unwrap(), kinds, Options::default());
    let rules = json!([
        {"expression": "object.metadata.generation > '1'", "messageExpression": "'got ' + object.metadata.generation"},
        {"expression": "object.metadata.name != ''"},
    ]);
    let mut object = policy(&rules);
    object["spec"]["variables"] = json!([]);
    world.expect(StatusCode::CREATED, Method::POST, POLICIES, Some(object)).await;
    assert_eq!(housekeeping.step(false).await, 0);
    let path = format!("{POLICIES}/named");
    let found = world.expect(StatusCode::OK, Method::GET, &path, None).await;
    assert_eq!(found["status"]["observedGeneration"], 1);
    let warnings = found["status"]["typeChecking"]["expressionWarnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert_eq!(warnings[0]["fieldRef"], "spec.validations[0].expression");
    let text = warnings[0]["warning"].as_str().unwrap();
    assert!(text.starts_with("/v1, Kind=ConfigMap: ERROR: <input>:1:28: found no matching overload for '_>_' applied to '(int, string)'"), "{text}");
    assert_eq!(warnings[1]["fieldRef"], "spec.validations[0].messageExpression");
    let patch = json!({"spec": {"validations": [{"expression": "object.data.size() > 1"}]}});
    world.expect(StatusCode::OK, Method::PATCH, &path, Some(patch)).await;
    assert_eq!(housekeeping.step(false).await, 0);
    let found = world.expect(StatusCode::OK, Method::GET, &path, None).await;
    assert_eq!(found["status"], json!({"observedGeneration": 2, "typeChecking": {}}));
    // Parameters of a kind that is not known may have anything, and are there.
    let spec = json!({
        "paramKind": {"apiVersion": "example.com/v1", "kind": "Odd"},
        "variables": [{"name": "limit", "expression": "params.limit"}],
        "validations": [{"expression": "object.data.size() < variables.limit && params.on"}],
    });
    world.expect(StatusCode::OK, Method::PATCH, &path, Some(json!({"spec": spec}))).await;
    assert_eq!(housekeeping.step(false).await, 0);
    let found = world.expect(StatusCode::OK, Method::GET, &path, None).await;
    assert_eq!(found["status"], json!({"observedGeneration": 3, "typeChecking": {}}));
}

fn autoscaler(name: &str, percent: u32) -> Value {
    let target = json!({"type": "Utilization", "averageUtilization": percent});
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name},
        "spec": {
            "maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        },
    })
}

#[tokio::test]
async fn a_policy_for_one_version_holds_in_the_others() {
    let world = World::new().await;
    let rules = json!([
        {"expression": "object.spec.targetCPUUtilizationPercentage < 80", "message": "80 is too much"},
        {"expression": "request.kind.version == 'v1' && request.requestKind.version == 'v2'"},
    ]);
    let mut object = policy(&rules);
    object["spec"]["variables"] = json!([]);
    let rule = json!([{"apiGroups": ["autoscaling"], "apiVersions": ["v1"], "operations": ["*"],
        "resources": ["horizontalpodautoscalers"]}]);
    object["spec"]["matchConstraints"]["resourceRules"] = rule;
    world.bind(object, &json!({"validationActions": ["Deny"]})).await;
    let path = "/apis/autoscaling/v2/namespaces/demo/horizontalpodautoscalers";
    let status = world
        .expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, path, Some(autoscaler("much", 90)))
        .await;
    assert!(status["message"].as_str().expect("it has one").ends_with("80 is too much"), "{status}");
    let made = world.expect(StatusCode::CREATED, Method::POST, path, Some(autoscaler("less", 70))).await;
    assert_eq!(made["apiVersion"], "autoscaling/v2");
    let exact = json!({"spec": {"matchConstraints": {"matchPolicy": "Exact"}}});
    world.expect(StatusCode::OK, Method::PATCH, &format!("{POLICIES}/named"), Some(exact)).await;
    world.expect(StatusCode::CREATED, Method::POST, path, Some(autoscaler("much", 90))).await;
}
