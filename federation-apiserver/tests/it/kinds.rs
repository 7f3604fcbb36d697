//! Every kind: a good object is stored with Kubernetes' defaults and shown as a table.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::World;

/// Where objects of an API version and plural are, in `demo` unless cluster-scoped.
pub(crate) fn path(api_version: &str, plural: &str, namespaced: bool) -> String {
    let root = if api_version.contains('/') { "apis" } else { "api" };
    let scope = if namespaced { "namespaces/demo/" } else { "" };
    format!("/{root}/{api_version}/{scope}{plural}")
}

pub(crate) fn pod_spec() -> Value {
    json!({"containers": [{"name": "web", "image": "nginx:1"}]})
}

pub(crate) fn template() -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": pod_spec()})
}

pub(crate) fn workload() -> Value {
    json!({"selector": {"matchLabels": {"app": "web"}}, "template": template()})
}

pub(crate) fn job_template() -> Value {
    let mut template = template();
    template["spec"]["restartPolicy"] = "Never".into();
    template
}

pub(crate) fn with_head(api_version: &str, kind: &str, name: &str, mut object: Value) -> Value {
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.into();
    object["metadata"]["name"] = name.into();
    object
}

/// (api version, kind, plural, namespaced, the object without its head, what must then be in it)
type Good = (&'static str, &'static str, &'static str, bool, Value, Vec<(&'static str, Value)>);

#[expect(clippy::too_many_lines, reason = "it is a table")]
fn good() -> Vec<Good> {
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let mut stateful = workload();
    stateful["serviceName"] = "web".into();
    stateful["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": claim}]);
    vec![
        (
            "v1",
            "Pod",
            "pods",
            true,
            json!({"spec": pod_spec()}),
            vec![
                ("/status/phase", json!("Pending")),
                ("/status/qosClass", json!("BestEffort")),
                ("/spec/enableServiceLinks", json!(true)),
            ],
        ),
        (
            "v1",
            "PodTemplate",
            "podtemplates",
            true,
            json!({"template": template()}),
            vec![("/template/spec/restartPolicy", json!("Always"))],
        ),
        (
            "v1",
            "ReplicationController",
            "replicationcontrollers",
            true,
            json!({"spec": {"template": template()}}),
            vec![("/spec/selector", json!({"app": "web"})), ("/spec/replicas", json!(1))],
        ),
        (
            "v1",
            "PersistentVolumeClaim",
            "persistentvolumeclaims",
            true,
            json!({"spec": claim}),
            vec![("/spec/volumeMode", json!("Filesystem")), ("/status/phase", json!("Pending"))],
        ),
        (
            "v1",
            "PersistentVolume",
            "persistentvolumes",
            false,
            json!({"spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/data"}}}),
            vec![
                ("/spec/persistentVolumeReclaimPolicy", json!("Retain")),
                ("/spec/hostPath/type", json!("")),
            ],
        ),
        ("v1", "ResourceQuota", "resourcequotas", true, json!({"spec": {"hard": {"pods": "3"}}}), vec![]),
        (
            "v1",
            "LimitRange",
            "limitranges",
            true,
            json!({"spec": {"limits": [
            {"type": "Container", "max": {"cpu": "2"}}]}}),
            vec![("/spec/limits/0/defaultRequest/cpu", json!("2"))],
        ),
        ("v1", "Node", "nodes", false, json!({}), vec![]),
        (
            "v1",
            "Endpoints",
            "endpoints",
            true,
            json!({"subsets": [
            {"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]}),
            vec![("/subsets/0/ports/0/protocol", json!("TCP"))],
        ),
        (
            "apps/v1",
            "StatefulSet",
            "statefulsets",
            true,
            json!({"spec": stateful}),
            vec![
                ("/spec/podManagementPolicy", json!("OrderedReady")),
                ("/spec/updateStrategy/rollingUpdate/partition", json!(0)),
                ("/spec/volumeClaimTemplates/0/status/phase", json!("Pending")),
                (
                    "/spec/persistentVolumeClaimRetentionPolicy",
                    json!({"whenDeleted": "Retain", "whenScaled": "Retain"}),
                ),
            ],
        ),
        (
            "apps/v1",
            "DaemonSet",
            "daemonsets",
            true,
            json!({"spec": workload()}),
            vec![
                ("/spec/updateStrategy/rollingUpdate", json!({"maxUnavailable": 1, "maxSurge": 0})),
                ("/metadata/annotations/deprecated.daemonset.template.generation", json!("1")),
            ],
        ),
        (
            "apps/v1",
            "ControllerRevision",
            "controllerrevisions",
            true,
            json!({"revision": 1, "data": {"a": 1}}),
            vec![],
        ),
        (
            "batch/v1",
            "Job",
            "jobs",
            true,
            json!({"spec": {"template": job_template()}}),
            vec![
                ("/spec/completions", json!(1)),
                ("/spec/backoffLimit", json!(6)),
                ("/spec/completionMode", json!("NonIndexed")),
                ("/spec/template/metadata/labels/job-name", json!("a")),
            ],
        ),
        (
            "batch/v1",
            "CronJob",
            "cronjobs",
            true,
            json!({"spec": {"schedule": "*/5 * * * *",
            "jobTemplate": {"spec": {"template": job_template()}}}}),
            vec![("/spec/concurrencyPolicy", json!("Allow")), ("/spec/successfulJobsHistoryLimit", json!(3))],
        ),
        (
            "policy/v1",
            "PodDisruptionBudget",
            "poddisruptionbudgets",
            true,
            json!({"spec": {"minAvailable": 1}}),
            vec![("/status/disruptionsAllowed", json!(0))],
        ),
        (
            "networking.k8s.io/v1",
            "Ingress",
            "ingresses",
            true,
            json!({"spec": {
            "defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}}),
            vec![("/status", json!({"loadBalancer": {}}))],
        ),
        (
            "networking.k8s.io/v1",
            "IngressClass",
            "ingressclasses",
            false,
            json!({"spec": {"controller": "a.example/b"}}),
            vec![],
        ),
        (
            "networking.k8s.io/v1",
            "NetworkPolicy",
            "networkpolicies",
            true,
            json!({"spec": {
            "podSelector": {}, "egress": [{"ports": [{"port": 53}]}]}}),
            vec![
                ("/spec/policyTypes", json!(["Ingress", "Egress"])),
                ("/spec/egress/0/ports/0/protocol", json!("TCP")),
            ],
        ),
        (
            "discovery.k8s.io/v1",
            "EndpointSlice",
            "endpointslices",
            true,
            json!({"addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]}),
            vec![("/ports/0", json!({"name": "", "port": 80, "protocol": "TCP"}))],
        ),
        (
            "storage.k8s.io/v1",
            "StorageClass",
            "storageclasses",
            false,
            json!({"provisioner": "a.example/b"}),
            vec![("/reclaimPolicy", json!("Delete")), ("/volumeBindingMode", json!("Immediate"))],
        ),
        (
            "storage.k8s.io/v1",
            "CSIDriver",
            "csidrivers",
            false,
            json!({"spec": {}}),
            vec![("/spec/attachRequired", json!(true))],
        ),
        (
            "scheduling.k8s.io/v1",
            "PriorityClass",
            "priorityclasses",
            false,
            json!({"value": 7}),
            vec![("/preemptionPolicy", json!("PreemptLowerPriority"))],
        ),
        ("node.k8s.io/v1", "RuntimeClass", "runtimeclasses", false, json!({"handler": "runc"}), vec![]),
        (
            "admissionregistration.k8s.io/v1",
            "ValidatingWebhookConfiguration",
            "validatingwebhookconfigurations",
            false,
            json!({"webhooks": [{"name": "a.b.example", "sideEffects": "None", "admissionReviewVersions": ["v1"],
                "clientConfig": {"service": {"name": "w", "namespace": "demo"}}}]}),
            vec![
                ("/webhooks/0/failurePolicy", json!("Fail")),
                ("/webhooks/0/clientConfig/service/port", json!(443)),
            ],
        ),
        (
            "flowcontrol.apiserver.k8s.io/v1",
            "PriorityLevelConfiguration",
            "prioritylevelconfigurations",
            false,
            json!({"spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 5}}}),
            vec![("/spec/limited/limitResponse/type", json!("Reject"))],
        ),
        (
            "resource.k8s.io/v1",
            "DeviceClass",
            "deviceclasses",
            false,
            json!({"spec": {"selectors": [{"cel": {"expression": "device.driver == 'd.example.com'"}}]}}),
            vec![],
        ),
        (
            "resource.k8s.io/v1",
            "ResourceClaim",
            "resourceclaims",
            true,
            json!({"spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}}}),
            vec![
                ("/spec/devices/requests/0/exactly/allocationMode", json!("ExactCount")),
                ("/spec/devices/requests/0/exactly/count", json!(1)),
            ],
        ),
        (
            "resource.k8s.io/v1",
            "ResourceClaimTemplate",
            "resourceclaimtemplates",
            true,
            json!({"spec": {"spec": {"devices": {"requests": [
                {"name": "r", "firstAvailable": [{"name": "s", "deviceClassName": "c"}]},
            ]}}}}),
            vec![("/spec/spec/devices/requests/0/firstAvailable/0/count", json!(1))],
        ),
        (
            "resource.k8s.io/v1",
            "ResourceSlice",
            "resourceslices",
            false,
            json!({"spec": {
                "driver": "d.example.com", "nodeName": "n", "devices": [{"name": "one"}],
                "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
            }}),
            vec![],
        ),
    ]
}

#[tokio::test]
async fn good_objects_of_every_kind_are_stored_with_their_defaults_and_shown_as_a_table() {
    let world = World::new().await;
    for (api_version, kind, plural, namespaced, object, expected) in good() {
        let path = path(api_version, plural, namespaced);
        let object = with_head(api_version, kind, "a", object);
        let made = world.expect(StatusCode::CREATED, Method::POST, &path, Some(object)).await;
        for (pointer, value) in expected {
            assert_eq!(made.pointer(pointer), Some(&value), "{kind} {pointer}: {made}");
        }
        // What comes back is as good as what went in, and changes nothing.
        let again = world.expect(StatusCode::OK, Method::PUT, &format!("{path}/a"), Some(made.clone())).await;
        assert_eq!(again["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"], "{kind}");
        let table = world.table(&path).await;
        let rows = table["rows"].as_array().unwrap();
        let columns = table["columnDefinitions"].as_array().unwrap();
        assert!(rows.iter().all(|row| row["cells"].as_array().unwrap().len() == columns.len()), "{kind}");
        let names: Vec<_> = rows.iter().map(|row| &row["object"]["metadata"]["name"]).collect();
        assert!(names.contains(&&json!("a")), "{kind}: {table}");
    }
}
