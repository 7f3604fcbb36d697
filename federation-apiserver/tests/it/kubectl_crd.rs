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
