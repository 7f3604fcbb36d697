//! Every kind: a good object is stored with Kubernetes' defaults, a bad one is refused with Kubernetes' causes.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{World, deployment};

/// Where objects of an API version and plural are, in `demo` unless cluster-scoped.
fn path(api_version: &str, plural: &str, namespaced: bool) -> String {
    let root = if api_version.contains('/') { "apis" } else { "api" };
    let scope = if namespaced { "namespaces/demo/" } else { "" };
    format!("/{root}/{api_version}/{scope}{plural}")
}

fn pod_spec() -> Value {
    json!({"containers": [{"name": "web", "image": "nginx:1"}]})
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": pod_spec()})
}

fn workload() -> Value {
    json!({"selector": {"matchLabels": {"app": "web"}}, "template": template()})
}

fn job_template() -> Value {
    let mut template = template();
    template["spec"]["restartPolicy"] = "Never".into();
    template
}

/// (api version, kind, plural, namespaced, the object without its head, what must then be in it)
type Good = (&'static str, &'static str, &'static str, bool, Value, Vec<(&'static str, Value)>);

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

fn with_head(api_version: &str, kind: &str, name: &str, mut object: Value) -> Value {
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.into();
    object["metadata"]["name"] = name.into();
    object
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

/// (api version, kind, plural, namespaced, the object without its head, the fields and messages of its causes)
type Bad = (&'static str, &'static str, &'static str, bool, Value, Vec<(&'static str, &'static str)>);

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

#[tokio::test]
async fn a_service_keeps_its_address_and_gives_it_back() {
    let world = World::new().await;
    let services = "/api/v1/namespaces/demo/services";
    let service = |name: &str| with_head("v1", "Service", name, json!({"spec": {"ports": [{"port": 80}]}}));
    let made = world.expect(StatusCode::CREATED, Method::POST, services, Some(service("a"))).await;
    let address = made["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert!(address.starts_with("10."), "{address}");
    // Nobody owns what the server allocates: the copies in members are without it.
    assert!(!made["metadata"]["managedFields"].to_string().contains("clusterIP"));
    let again = world.expect(StatusCode::OK, Method::PUT, &format!("{services}/a"), Some(service("a"))).await;
    assert_eq!(again["spec"]["clusterIP"], address.as_str());
    let mut same = service("b");
    same["spec"]["clusterIP"] = address.as_str().into();
    let status =
        world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, services, Some(same.clone())).await;
    assert_eq!(
        status["message"],
        format!(
            "Service \"b\" is invalid: spec.clusterIPs: Invalid value: [\"{address}\"]: failed to allocate IP {address}: provided IP is already allocated"
        )
    );
    world.expect(StatusCode::OK, Method::DELETE, &format!("{services}/a"), None).await;
    world.expect(StatusCode::CREATED, Method::POST, services, Some(same)).await;
    let dry = format!("{services}?dryRun=All");
    let mut fixed = service("c");
    fixed["spec"]["clusterIP"] = "10.96.200.1".into();
    world.expect(StatusCode::CREATED, Method::POST, &dry, Some(fixed.clone())).await;
    world.expect(StatusCode::CREATED, Method::POST, services, Some(fixed)).await;
}

#[tokio::test]
async fn an_autoscaler_is_the_same_object_in_both_versions() {
    let world = World::new().await;
    let plural = "horizontalpodautoscalers";
    let (v1, v2) = (path("autoscaling/v1", plural, true), path("autoscaling/v2", plural, true));
    let target = json!({"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"});
    let object =
        json!({"spec": {"maxReplicas": 4, "targetCPUUtilizationPercentage": 60, "scaleTargetRef": target}});
    let object = with_head("autoscaling/v1", "HorizontalPodAutoscaler", "a", object);
    let made = world.expect(StatusCode::CREATED, Method::POST, &v1, Some(object)).await;
    assert_eq!(made["spec"]["targetCPUUtilizationPercentage"], 60);
    let newer = world.expect(StatusCode::OK, Method::GET, &format!("{v2}/a"), None).await;
    assert_eq!(newer["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 60);
    assert_eq!(newer["metadata"]["uid"], made["metadata"]["uid"]);
    let patch = json!({"spec": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}}});
    world.expect(StatusCode::OK, Method::PATCH, &format!("{v2}/a"), Some(patch)).await;
    let older = world.expect(StatusCode::OK, Method::GET, &format!("{v1}/a"), None).await;
    let behavior = &older["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/behavior"];
    assert!(behavior.as_str().unwrap().contains("60"), "{older}");
    let back = world.expect(StatusCode::OK, Method::PUT, &format!("{v1}/a"), Some(older)).await;
    assert_eq!(back["spec"]["maxReplicas"], 4);
    let kept = world.expect(StatusCode::OK, Method::GET, &format!("{v2}/a"), None).await;
    assert_eq!(kept["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"], 60);
    // As Go's types of the two versions leave out what is nothing.
    let nothing = json!({"desiredReplicas": 0, "currentMetrics": null});
    assert_eq!((&newer["status"], &kept["status"]), (&nothing, &nothing));
    assert_eq!(back["status"], json!({"desiredReplicas": 0, "currentReplicas": 0}));
    let measured = json!({"status": {"currentReplicas": 1, "desiredReplicas": 2}});
    let told = world.expect(StatusCode::OK, Method::PATCH, &format!("{v2}/a/status"), Some(measured)).await;
    assert_eq!(told["status"], json!({"currentReplicas": 1, "desiredReplicas": 2, "currentMetrics": null}));
}

#[tokio::test]
async fn a_pod_is_bound_once_and_evicted_within_its_budget() {
    let world = World::new().await;
    let pods = "/api/v1/namespaces/demo/pods";
    let mut pod = with_head("v1", "Pod", "a", json!({"spec": pod_spec()}));
    pod["metadata"]["labels"] = json!({"app": "web"});
    world.expect(StatusCode::CREATED, Method::POST, pods, Some(pod)).await;
    let binding = with_head("v1", "Binding", "a", json!({"target": {"kind": "Node", "name": "n1"}}));
    let bindings = "/api/v1/namespaces/demo/bindings";
    world.expect(StatusCode::CREATED, Method::POST, bindings, Some(binding.clone())).await;
    let status =
        world.expect(StatusCode::CONFLICT, Method::POST, &format!("{pods}/a/binding"), Some(binding)).await;
    assert!(status["message"].as_str().unwrap().contains("already assigned to node \"n1\""), "{status}");
    let running = json!({"status": {"phase": "Running"}});
    world.expect(StatusCode::OK, Method::PATCH, &format!("{pods}/a/status"), Some(running)).await;
    let budgets = path("policy/v1", "poddisruptionbudgets", true);
    let budget = json!({"spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
    let budget = with_head("policy/v1", "PodDisruptionBudget", "b", budget);
    world.expect(StatusCode::CREATED, Method::POST, &budgets, Some(budget)).await;
    let observed = json!({"status": {"observedGeneration": 1}});
    world.expect(StatusCode::OK, Method::PATCH, &format!("{budgets}/b/status"), Some(observed)).await;
    let eviction = with_head("policy/v1", "Eviction", "a", json!({}));
    let evict = format!("{pods}/a/eviction");
    let status =
        world.expect(StatusCode::TOO_MANY_REQUESTS, Method::POST, &evict, Some(eviction.clone())).await;
    assert_eq!(status["message"], "Cannot evict pod as it would violate the pod's disruption budget.");
    assert_eq!(status["details"]["causes"][0]["reason"], "DisruptionBudget");
    let allowed = json!({"status": {"disruptionsAllowed": 1}});
    world.expect(StatusCode::OK, Method::PATCH, &format!("{budgets}/b/status"), Some(allowed)).await;
    world.expect(StatusCode::CREATED, Method::POST, &evict, Some(eviction)).await;
    let spent = world.expect(StatusCode::OK, Method::GET, &format!("{budgets}/b"), None).await;
    assert_eq!(spent["status"]["disruptionsAllowed"], 0);
    assert_eq!(spent["status"]["conditions"][0]["reason"], "InsufficientPods");
    let leaving = world.expect(StatusCode::OK, Method::GET, &format!("{pods}/a"), None).await;
    assert_eq!(leaving["metadata"]["deletionGracePeriodSeconds"], 30, "its node ends it");
    let told = leaving["status"]["conditions"].as_array().unwrap();
    let why = told.iter().find(|condition| condition["type"] == "DisruptionTarget").unwrap();
    assert_eq!((&why["status"], &why["reason"]), (&json!("True"), &json!("EvictionByEvictionAPI")));
}

#[tokio::test]
async fn an_eviction_is_of_the_pod_that_is_meant() {
    let world = World::new().await;
    let pods = "/api/v1/namespaces/demo/pods";
    let mut pod = with_head("v1", "Pod", "a", json!({"spec": pod_spec()}));
    pod["metadata"]["finalizers"] = json!(["example.com/hold"]);
    let made = world.expect(StatusCode::CREATED, Method::POST, pods, Some(pod)).await;
    let path = format!("{pods}/a/eviction");
    let eviction = |preconditions: Value| {
        with_head("policy/v1", "Eviction", "a", json!({"deleteOptions": {"preconditions": preconditions}}))
    };
    let other = eviction(json!({"uid": "other"}));
    let status = world.expect(StatusCode::CONFLICT, Method::POST, &path, Some(other)).await;
    let uid = made["metadata"]["uid"].as_str().unwrap();
    assert_eq!(
        status["message"],
        format!(
            "Operation cannot be fulfilled on Pod \"a\": the UID in the precondition (other) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
        )
    );
    let meant = eviction(json!({"uid": uid, "resourceVersion": made["metadata"]["resourceVersion"]}));
    world.expect(StatusCode::CREATED, Method::POST, &path, Some(meant)).await;
    let leaving = world.expect(StatusCode::OK, Method::GET, &format!("{pods}/a"), None).await;
    assert!(leaving["metadata"]["deletionTimestamp"].is_string());
    let told = leaving["status"]["conditions"].as_array().unwrap();
    assert!(told.iter().any(|condition| condition["type"] == "DisruptionTarget"), "{leaving}");
}

#[tokio::test]
async fn both_forms_of_discovery_say_the_same() {
    let world = World::new().await;
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    for root in ["/api", "/apis"] {
        let aggregated = world.accepting(root, accept).await;
        for group in aggregated["items"].as_array().unwrap() {
            let name = group["metadata"]["name"].as_str().unwrap_or_default();
            for version in group["versions"].as_array().unwrap() {
                let (path, version) = match name {
                    "" => (format!("/api/{}", version["version"].as_str().unwrap()), version),
                    name => (format!("/apis/{name}/{}", version["version"].as_str().unwrap()), version),
                };
                let plain = world.expect(StatusCode::OK, Method::GET, &path, None).await;
                let mut expected = Vec::new();
                for resource in version["resources"].as_array().unwrap() {
                    let plural = resource["resource"].as_str().unwrap();
                    expected.push((plural.to_owned(), resource["verbs"].clone()));
                    for part in resource["subresources"].as_array().into_iter().flatten() {
                        let name = part["subresource"].as_str().unwrap();
                        expected.push((format!("{plural}/{name}"), part["verbs"].clone()));
                    }
                }
                let found: Vec<_> = plain["resources"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|resource| {
                        (resource["name"].as_str().unwrap().to_owned(), resource["verbs"].clone())
                    })
                    .collect();
                assert_eq!(found, expected, "{path}");
            }
        }
    }
    let mut web = deployment("web");
    web["spec"]["template"]["spec"]["containers"][0]["image"] = "nginx".into();
    let path = "/apis/apps/v1/namespaces/demo/deployments";
    let made = world.expect(StatusCode::CREATED, Method::POST, path, Some(web)).await;
    assert_eq!(made["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"], "Always");
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
async fn the_scale_of_a_replication_controller_has_its_selector() {
    let world = World::new().await;
    let controller = json!({"metadata": {"name": "rc"}, "spec": {"replicas": 0, "selector": {"a": "b", "c": "d"},
        "template": {"metadata": {"labels": {"a": "b", "c": "d"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let path = "/api/v1/namespaces/demo/replicationcontrollers";
    world.expect(StatusCode::CREATED, Method::POST, path, Some(controller)).await;
    let scale = world.expect(StatusCode::OK, Method::GET, &format!("{path}/rc/scale"), None).await;
    assert_eq!(scale["status"], json!({"replicas": 0, "selector": "a=b,c=d"}));
}

#[tokio::test]
async fn both_forms_of_events_have_the_same_columns() {
    let world = World::new().await;
    let columns = |table: Value| {
        let definitions = table["columnDefinitions"].as_array().unwrap().clone();
        definitions
            .iter()
            .map(|column| (column["name"].clone(), column["priority"].clone()))
            .collect::<Vec<_>>()
    };
    let core = columns(world.table("/api/v1/namespaces/demo/events").await);
    assert_eq!(core, columns(world.table("/apis/events.k8s.io/v1/namespaces/demo/events").await));
    assert_eq!(core.len(), 10);
}
