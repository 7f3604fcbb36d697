//! MutatingAdmissionPolicies.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{World, config_map, deployment};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/demo/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/demo/deployments";

fn apply(expression: &str) -> Value {
    json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}})
}

fn patch(expression: &str) -> Value {
    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}})
}

fn policy(name: &str, mutations: &[Value]) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [{"apiGroups": ["", "apps"], "apiVersions": ["v1"],
                "operations": ["CREATE", "UPDATE"], "resources": ["configmaps", "deployments"]}]},
            "mutations": mutations,
        },
    })
}

impl World {
    /// A policy with a binding of its name.
    async fn mutate(&self, policy: Value, binding: Value) {
        let name = policy["metadata"]["name"].clone();
        let policies = format!("{GROUP}/mutatingadmissionpolicies");
        self.expect(StatusCode::CREATED, Method::POST, &policies, Some(policy)).await;
        let mut spec = json!({"policyName": name});
        for (key, value) in binding.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
            "metadata": {"name": name}, "spec": spec,
        });
        let bindings = format!("{GROUP}/mutatingadmissionpolicybindings");
        self.expect(StatusCode::CREATED, Method::POST, &bindings, Some(binding)).await;
    }
}

#[tokio::test]
async fn a_configuration_is_merged_by_keys_and_owned_by_nobody() {
    let world = World::new().await;
    let expression = "Object{metadata: Object.metadata{annotations: {'by': request.userInfo.username}}, \
        spec: Object.spec{replicas: object.spec.replicas + 1, template: Object.spec.template{spec: Object.spec.template.spec{containers: [\
        Object.spec.template.spec.containers{name: 'web', env: [Object.spec.template.spec.containers.env{name: 'A', value: 'b'}]}]}}}}";
    let mut object = policy("labels", &[apply(expression)]);
    object["spec"]["matchConditions"] =
        json!([{"name": "is-deployment", "expression": "object.kind == 'Deployment'"}]);
    world.mutate(object, json!({})).await;
    let made = world.expect(StatusCode::CREATED, Method::POST, DEPLOYMENTS, Some(deployment("web"))).await;
    assert_eq!(made["metadata"]["annotations"], json!({"by": "federation:in-process"}));
    assert_eq!(made["spec"]["replicas"], 2);
    let container = &made["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        (&container["image"], &container["env"]),
        (&json!("nginx:1"), &json!([{"name": "A", "value": "b"}]))
    );
    assert!(!made["metadata"]["managedFields"].to_string().contains("f:env"), "{made}");
    let change = json!({"spec": {"replicas": 5}});
    let path = format!("{DEPLOYMENTS}/web");
    let changed = world.expect(StatusCode::OK, Method::PATCH, &path, Some(change)).await;
    assert_eq!(changed["spec"]["replicas"], 6);
    let other = world.expect(StatusCode::CREATED, Method::POST, MAPS, Some(config_map("a"))).await;
    assert_eq!(other["metadata"].get("annotations"), None);
}

#[tokio::test]
async fn operations_are_applied_one_after_another_unless_a_test_fails() {
    let world = World::new().await;
    let escaped = "[JSONPatch{op: 'test', path: '/data/k', value: 'v'}, \
        JSONPatch{op: 'add', path: '/metadata/labels', value: {'a': 'b'}}, \
        JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('example.com/x'), value: 'y'}]";
    let counted = "object.data.k == 'v' ? [JSONPatch{op: 'replace', path: '/data/k', value: string(size(object.metadata.labels))}] : []";
    world.mutate(policy("patches", &[patch(escaped), patch(counted)]), json!({})).await;
    let made = world.expect(StatusCode::CREATED, Method::POST, MAPS, Some(config_map("a"))).await;
    assert_eq!(made["metadata"]["labels"], json!({"a": "b", "example.com/x": "y"}));
    assert_eq!(made["data"]["k"], "2");
    let mut other = config_map("b");
    other["data"]["k"] = "w".into();
    let made = world.expect(StatusCode::CREATED, Method::POST, MAPS, Some(other)).await;
    assert_eq!((made["metadata"].get("labels"), &made["data"]), (None, &json!({"k": "w"})));
}

#[tokio::test]
async fn parameters_are_told_and_missed() {
    let world = World::new().await;
    let expression = "Object{data: {'limit': params.data.limit, 'of': variables.name}}";
    let mut object = policy("params", &[apply(expression)]);
    object["spec"]["paramKind"] = json!({"apiVersion": "v1", "kind": "ConfigMap"});
    object["spec"]["variables"] = json!([{"name": "name", "expression": "object.metadata.name"}]);
    object["spec"]["matchConditions"] =
        json!([{"name": "not-params", "expression": "object.metadata.name != 'limits'"}]);
    let mut limits = config_map("limits");
    limits["data"] = json!({"limit": "3"});
    world.expect(StatusCode::CREATED, Method::POST, MAPS, Some(limits)).await;
    let reference = json!({"name": "limits", "namespace": "demo", "parameterNotFoundAction": "Deny"});
    world.mutate(object, json!({"paramRef": reference})).await;
    let made = world.expect(StatusCode::CREATED, Method::POST, MAPS, Some(config_map("a"))).await;
    assert_eq!(made["data"], json!({"k": "v", "limit": "3", "of": "a"}));
    world.expect(StatusCode::OK, Method::DELETE, &format!("{MAPS}/limits"), None).await;
    let refused = world.expect(StatusCode::FORBIDDEN, Method::POST, MAPS, Some(config_map("b"))).await;
    let why = "policy 'params' with binding 'params' denied request: failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction";
    assert_eq!(refused["message"], why);
    assert_eq!(refused["reason"], "Invalid");
    assert_eq!(refused["details"]["causes"], json!([{"message": why}]));
}

#[tokio::test]
async fn what_fails_refuses_the_write_unless_it_is_to_be_ignored() {
    let world = World::new().await;
    let errors = [
        (
            "Object{spec: Object.spec{selector: Object.spec.selector{matchLabels: {'app': 'x'}}}}",
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.selector",
        ),
        (
            "Object{spec: Object.spec{replicas: 'many'}}",
            "error applying patch: failed to convert patch object to typed object: .spec.replicas: expected numeric (int or float), got string",
        ),
        (
            "Object{spec: Object.status{replicas: 1}}",
            "type mismatch: unexpected type name \"Object.status\", expected \"Object.spec\", which matches field name path from root Object type",
        ),
        (
            "Object{metadata: Object.metadata{labels: {'a': object.metadata.labels['b']}}}",
            "expression 'Object{metadata: Object.metadata{labels: {'a': object.metadata.labels['b']}}}' resulted in error: no such key: labels",
        ),
    ];
    let path = format!("{GROUP}/mutatingadmissionpolicies/faulty");
    world.mutate(policy("faulty", &[apply(errors[0].0)]), json!({})).await;
    for (expression, why) in errors {
        let change = json!({"spec": {"mutations": [apply(expression)]}});
        world.expect(StatusCode::OK, Method::PATCH, &path, Some(change)).await;
        let refused =
            world.expect(StatusCode::FORBIDDEN, Method::POST, DEPLOYMENTS, Some(deployment("web"))).await;
        let message = format!("policy 'faulty' with binding 'faulty' denied request: {why}");
        assert_eq!(refused["message"], message);
    }
    let change = json!({"spec": {"failurePolicy": "Ignore"}});
    world.expect(StatusCode::OK, Method::PATCH, &path, Some(change)).await;
    world.expect(StatusCode::CREATED, Method::POST, DEPLOYMENTS, Some(deployment("web"))).await;
}

#[tokio::test]
async fn who_asks_for_it_sees_what_later_ones_change() {
    let world = World::new().await;
    let count = "Object{data: {'seen': string(size(object.data))}}";
    for (name, reinvocation) in [("a-once", "Never"), ("b-again", "IfNeeded")] {
        let key = format!("Object{{data: {{'{name}': string(size(object.data))}}}}");
        let mut object = policy(name, &[apply(&key)]);
        object["spec"]["reinvocationPolicy"] = reinvocation.into();
        world.mutate(object, json!({})).await;
    }
    world.mutate(policy("c-later", &[apply(count)]), json!({})).await;
    let made = world.expect(StatusCode::CREATED, Method::POST, MAPS, Some(config_map("a"))).await;
    assert_eq!(made["data"], json!({"k": "v", "a-once": "1", "b-again": "4", "seen": "3"}));
}

#[tokio::test]
async fn a_policy_that_cannot_work_is_refused() {
    let world = World::new().await;
    let path = format!("{GROUP}/mutatingadmissionpolicies");
    let both = json!({"patchType": "JSONPatch", "jsonPatch": {"expression": "Object{}"}, "applyConfiguration": {"expression": "Object{}"}});
    let mutations = [
        apply("Object{spec: Other{}}"),
        apply("{'a': 1}"),
        both,
        json!({"patchType": "Merge"}),
        patch("[JSONPatch{operation: 'add'}]"),
    ];
    let refused = world
        .expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, &path, Some(policy("bad", &mutations)))
        .await;
    let message = refused["message"].as_str().unwrap();
    for part in [
        "undeclared reference to 'Other' (in container '')",
        "spec.mutations[1].applyConfiguration.expression: Invalid value: \"{'a': 1}\": must evaluate to Object",
        "spec.mutations[2].applyConfiguration: Forbidden: ",
        "spec.mutations[2].jsonPatch.expression: Invalid value: \"Object{}\": must evaluate to list(JSONPatch)",
        "spec.mutations[3].patchType: Unsupported value: \"Merge\": supported values: \"ApplyConfiguration\", \"JSONPatch\"",
        "undefined field 'operation'",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let refused =
        world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, &path, Some(policy("bad", &[]))).await;
    assert!(refused["message"].as_str().unwrap().contains("spec.mutations: Required value"), "{refused}");
}

#[tokio::test]
async fn a_mutation_for_one_version_is_made_in_the_others() {
    let world = World::new().await;
    let expression = "Object{spec: Object.spec{targetCPUUtilizationPercentage: object.spec.targetCPUUtilizationPercentage - 10}}";
    let mut object = policy("less", &[apply(expression)]);
    let rule = json!([{"apiGroups": ["autoscaling"], "apiVersions": ["v1"], "operations": ["CREATE"],
        "resources": ["horizontalpodautoscalers"]}]);
    object["spec"]["matchConstraints"]["resourceRules"] = rule;
    world.mutate(object, json!({})).await;
    let target = json!({"type": "Utilization", "averageUtilization": 80});
    let autoscaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"},
        "spec": {
            "maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        },
    });
    let path = "/apis/autoscaling/v2/namespaces/demo/horizontalpodautoscalers";
    let made = world.expect(StatusCode::CREATED, Method::POST, path, Some(autoscaler)).await;
    assert_eq!(made["apiVersion"], "autoscaling/v2");
    assert_eq!(made["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 70);
}
