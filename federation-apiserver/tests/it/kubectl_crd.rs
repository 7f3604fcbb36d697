//! kubectl with a custom kind, from its definition to its end.

use crate::kubectl::Session;

const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crontabs.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, kind: CronTab, shortNames: [ct], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        description: A table of jobs.
        properties:
          spec:
            type: object
            x-kubernetes-validations:
            - {rule: "self.replicas <= 5", message: "five are enough"}
            properties:
              cronSpec: {type: string, description: When the jobs run.}
              replicas: {type: integer, default: 1}
          status:
            type: object
            properties: {replicas: {type: integer}}
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}
    additionalPrinterColumns:
    - {name: Spec, type: string, jsonPath: .spec.cronSpec}
    - {name: Replicas, type: integer, jsonPath: .spec.replicas}
"#;

const TAB: &str = r#"
apiVersion: stable.example.com/v1
kind: CronTab
metadata: {name: nightly}
spec: {cronSpec: "0 3 * * *"}
"#;

#[test]
fn a_custom_kind_is_used_like_any_other() {
    let Some(session) = Session::start() else { return };
    let ok = |line: &str, expect: &[&str]| session.ok(line, expect);
    session.ok_with(
        "apply -f -",
        DEFINITION,
        &["customresourcedefinition.apiextensions.k8s.io/crontabs.stable.example.com created"],
    );
    ok("wait --for=condition=established --timeout=10s crd/crontabs.stable.example.com", &["condition met"]);
    ok("api-resources --api-group=stable.example.com", &["crontabs", "ct", "CronTab"]);
    ok("explain crontab.spec", &["cronSpec", "When the jobs run.", "replicas"]);
    session.ok_with("apply -f -", TAB, &["crontab.stable.example.com/nightly created"]);
    ok("get ct", &["NAME", "SPEC", "REPLICAS", "nightly", "0 3 * * *"]);
    ok("get all", &["crontab.stable.example.com/nightly"]);
    ok("scale ct/nightly --replicas=3", &["scaled"]);
    ok("get ct nightly -o jsonpath={.spec.replicas}:{.metadata.generation}", &["3:2"]);
    session.fails("scale ct/nightly --replicas=9", "", &["five are enough"]);
    session.ok_with("apply --server-side --force-conflicts -f -", TAB, &["serverside-applied"]);
    let wrong = TAB.replace("cronSpec", "cronspec");
    session.fails("apply -f -", &wrong, &["unknown field \"spec.cronspec\""]);
    ok("patch ct nightly --type=merge -p {\"spec\":{\"replicas\":2}}", &["patched"]);
    ok("delete ct nightly", &["deleted"]);
    ok("delete crd crontabs.stable.example.com", &["deleted"]);
    session.fails("get ct", "", &["could not find the requested resource"]);
}

/// kubectl asks the published documents how it may patch: strategic merge patches are for Kubernetes' own kinds, whatever a group is called.
#[test]
fn kinds_of_groups_below_k8s_io_are_applied_as_custom_ones() {
    let Some(session) = Session::start() else { return };
    let definition = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: gateways.gateway.networking.k8s.io
  annotations: {api-approved.kubernetes.io: "https://github.com/kubernetes-sigs/gateway-api/pull/1538"}
spec:
  group: gateway.networking.k8s.io
  scope: Namespaced
  names: {plural: gateways, kind: Gateway}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {class: {type: string}}}}}}
"#;
    session.ok_with("apply -f -", definition, &["created"]);
    session.ok(
        "wait --for=condition=established --timeout=10s crd/gateways.gateway.networking.k8s.io",
        &["condition met"],
    );
    let gateway = |class: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: a}}\nspec: {{class: {class}}}\n"
        )
    };
    session.ok_with("apply -f -", &gateway("one"), &["gateway.gateway.networking.k8s.io/a created"]);
    session.ok_with("apply -f -", &gateway("two"), &["gateway.gateway.networking.k8s.io/a configured"]);
    session.ok("get gateway a -o jsonpath={.spec.class}", &["two"]);
}

/// Lists are checked by kubectl itself, against the document of version 2.
#[test]
fn kubectl_takes_any_fields_where_any_are_allowed() {
    let Some(session) = Session::start() else { return };
    let definition = r"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: foos.company.com}
spec:
  group: company.com
  scope: Namespaced
  names: {plural: foos, kind: Foo}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";
    session.ok_with("apply -f -", definition, &["created"]);
    session.ok("wait --for=condition=established --timeout=10s crd/foos.company.com", &["condition met"]);
    let list = r"
apiVersion: v1
kind: List
items:
- {apiVersion: company.com/v1, kind: Foo, metadata: {name: test}, someField: field1, otherField: {deep: [1]}}
";
    session.ok_with("apply -f -", list, &["foo.company.com/test created"]);
    session.ok("get foo test -o jsonpath={.someField}{.otherField.deep[0]}", &["field11"]);
}
