//! Every kind: a bad object, and a change that is not allowed, is refused with Kubernetes' causes.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    kinds::{job_template, path, pod_spec, template, with_head, workload},
    world::World,
};

/// (api version, kind, plural, namespaced, the object without its head, the fields and messages of its causes)
type Bad = (&'static str, &'static str, &'static str, bool, Value, Vec<(&'static str, &'static str)>);

#[expect(clippy::too_many_lines, reason = "it is a table")]
fn bad() -> Vec<Bad> {
    let mut always = template();
    always["spec"]["restartPolicy"] = "Always".into();
    let mut stateful = workload();
    stateful["podManagementPolicy"] = "Sometimes".into();
    vec![
        (
            "v1",
            "Pod",
            "pods",
            true,
            json!({"spec": {"containers": [
                {"name": "A", "image": "", "ports": [{"containerPort": 70000}], "volumeMounts": [{"name": "v", "mountPath": "/"}]},
                {"name": "b", "image": "i", "livenessProbe": {}, "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}},
            ]}}),
            vec![
                ("spec.containers[0].name", "Invalid value"),
                ("spec.containers[0].image", "Required value"),
                ("spec.containers[0].ports[0].containerPort", "must be between 1 and 65535, inclusive"),
                ("spec.containers[0].volumeMounts[0].name", "Not found: \"v\""),
                ("spec.containers[1].livenessProbe", "Required value: must specify a handler type"),
                (
                    "spec.containers[1].resources.requests",
                    "Invalid value: \"2\": must be less than or equal to cpu limit of 1",
                ),
            ],
        ),
        (
            "v1",
            "Service",
            "services",
            true,
            json!({"spec": {"type": "NodePort", "clusterIP": "None", "ports": [{"port": 0}]}}),
            vec![
                (
                    "spec.clusterIPs[0]",
                    "Invalid value: \"None\": may not be set to 'None' for NodePort services",
                ),
                ("spec.ports[0].port", "Invalid value: 0: must be between 1 and 65535, inclusive"),
                ("spec.ports[0].targetPort", "Invalid value: 0: must be between 1 and 65535, inclusive"),
            ],
        ),
        (
            "v1",
            "PersistentVolumeClaim",
            "persistentvolumeclaims",
            true,
            json!({"spec": {"accessModes": ["X"]}}),
            vec![
                ("spec.accessModes", "Unsupported value: \"X\""),
                ("spec.resources[storage]", "Required value"),
            ],
        ),
        (
            "apps/v1",
            "StatefulSet",
            "statefulsets",
            true,
            json!({"spec": stateful}),
            vec![(
                "spec.podManagementPolicy",
                "Invalid value: \"Sometimes\": must be 'OrderedReady' or 'Parallel'",
            )],
        ),
        (
            "apps/v1",
            "DaemonSet",
            "daemonsets",
            true,
            json!({"spec": {
            "selector": {"matchLabels": {"app": "other"}}, "template": template()}}),
            vec![("spec.template.metadata.labels", "`selector` does not match template `labels`")],
        ),
        (
            "batch/v1",
            "Job",
            "jobs",
            true,
            json!({"spec": {"parallelism": -1, "template": always}}),
            vec![
                ("spec.parallelism", "Invalid value: -1: must be greater than or equal to 0"),
                (
                    "spec.template.spec.restartPolicy",
                    "Required value: valid values: \"OnFailure\", \"Never\"",
                ),
            ],
        ),
        (
            "batch/v1",
            "CronJob",
            "cronjobs",
            true,
            json!({"spec": {"schedule": "* * *", "timeZone": "Mars/Base",
            "jobTemplate": {"spec": {"template": job_template()}}}}),
            vec![
                ("spec.schedule", "Invalid value: \"* * *\": expected exactly 5 fields, found 3: [* * *]"),
                ("spec.timeZone", "unknown time zone Mars/Base"),
            ],
        ),
        (
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            "horizontalpodautoscalers",
            true,
            json!({"spec": {
            "minReplicas": 5, "maxReplicas": 2, "scaleTargetRef": {"kind": "Deployment", "name": ""}}}),
            vec![
                ("spec.maxReplicas", "Invalid value: 2: must be greater than or equal to `minReplicas`"),
                ("spec.scaleTargetRef.name", "Required value"),
            ],
        ),
        (
            "policy/v1",
            "PodDisruptionBudget",
            "poddisruptionbudgets",
            true,
            json!({"spec": {"minAvailable": 1, "maxUnavailable": "120%"}}),
            vec![
                ("spec", "minAvailable and maxUnavailable cannot be both set"),
                ("spec.maxUnavailable", "must not be greater than 100%"),
            ],
        ),
        (
            "networking.k8s.io/v1",
            "Ingress",
            "ingresses",
            true,
            json!({"spec": {"rules": [
            {"host": "10.0.0.1", "http": {"paths": [{"path": "x", "pathType": "Prefix", "backend": {}}]}}]}}),
            vec![
                ("spec.rules[0].host", "must be a DNS name, not an IP address"),
                ("spec.rules[0].http.paths[0].path", "must be an absolute path"),
                ("spec.rules[0].http.paths[0].backend", "resource or service backend is required"),
            ],
        ),
        (
            "networking.k8s.io/v1",
            "NetworkPolicy",
            "networkpolicies",
            true,
            json!({"spec": {"podSelector": {}, "ingress": [
            {"from": [{}, {"ipBlock": {"cidr": "10.0.0.0/16", "except": ["11.0.0.0/24"]}}]}]}}),
            vec![
                ("spec.ingress[0].from[0]", "must specify a peer"),
                ("spec.ingress[0].from[1].ipBlock.except[0]", "must be a strict subset of `cidr`"),
            ],
        ),
        (
            "scheduling.k8s.io/v1",
            "PriorityClass",
            "priorityclasses",
            false,
            json!({"value": 2_000_000_000}),
            vec![("value", "maximum allowed value of a user defined priority is 1000000000")],
        ),
    ]
}

#[tokio::test]
async fn bad_objects_are_refused_with_all_their_causes() {
    let world = World::new().await;
    for (api_version, kind, plural, namespaced, object, expected) in bad() {
        let path = path(api_version, plural, namespaced);
        let object = with_head(api_version, kind, "a", object);
        let status = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, &path, Some(object)).await;
        assert_eq!(status["details"]["kind"], kind);
        let causes = status["details"]["causes"].as_array().unwrap();
        for (field, message) in expected {
            let told = causes
                .iter()
                .any(|cause| cause["field"] == field && cause["message"].as_str().unwrap().contains(message));
            assert!(told, "{kind}: no cause {field}: {message} in {causes:?}");
        }
    }
}

/// (api version, kind, plural, the object without its head, a merge patch, the cause)
type Change = (&'static str, &'static str, &'static str, Value, Value, (&'static str, &'static str));

fn forbidden_changes() -> Vec<Change> {
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let web = json!({"spec": {"ports": [{"port": 80}]}});
    vec![
        (
            "apps/v1",
            "StatefulSet",
            "statefulsets",
            json!({"spec": workload()}),
            json!({"spec": {"serviceName": "x"}}),
            (
                "spec",
                "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
            ),
        ),
        (
            "apps/v1",
            "DaemonSet",
            "daemonsets",
            json!({"spec": workload()}),
            json!({"spec": {"selector": {"matchLabels": {"b": "c"}}}}),
            ("spec.selector", "field is immutable"),
        ),
        (
            "batch/v1",
            "Job",
            "jobs",
            json!({"spec": {"template": job_template()}}),
            json!({"spec": {"completions": 3}}),
            ("spec.completions", "field is immutable"),
        ),
        (
            "v1",
            "PersistentVolumeClaim",
            "persistentvolumeclaims",
            json!({"spec": claim}),
            json!({"spec": {"accessModes": ["ReadOnlyMany"]}}),
            ("spec", "spec is immutable after creation"),
        ),
        (
            "v1",
            "Service",
            "services",
            web,
            json!({"spec": {"clusterIP": "10.96.1.1"}}),
            ("spec.clusterIPs[0]", "may not change once set"),
        ),
        (
            "v1",
            "Pod",
            "pods",
            json!({"spec": pod_spec()}),
            json!({"spec": {"hostname": "x"}}),
            ("spec", "pod updates may not change fields other than"),
        ),
    ]
}

#[tokio::test]
async fn what_cannot_change_does_not() {
    let world = World::new().await;
    for (api_version, kind, plural, object, patch, (field, message)) in forbidden_changes() {
        let path = path(api_version, plural, true);
        let object = with_head(api_version, kind, "a", object);
        world.expect(StatusCode::CREATED, Method::POST, &path, Some(object)).await;
        let path = format!("{path}/a");
        let status = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::PATCH, &path, Some(patch)).await;
        let causes = status["details"]["causes"].as_array().unwrap();
        let told = causes
            .iter()
            .any(|cause| cause["field"] == field && cause["message"].as_str().unwrap().contains(message));
        assert!(told, "{kind}: {causes:?}");
    }
}
