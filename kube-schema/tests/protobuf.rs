//! Protobuf bodies as real clients send them, round trips, and hostile input.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use kube_schema::protobuf::{self, Error, TypeMeta};
use serde_json::{Value, json};

/// Bodies captured from kubectl 1.32.
macro_rules! kubectl {
    ($name:literal) => {
        protobuf::decode(include_bytes!(concat!("fixtures/kubectl-1.32/", $name, ".pb"))).unwrap().1
    };
}

#[test]
fn kubectl_create_deployment_decodes() {
    assert_eq!(
        kubectl!("deployments"),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": {
                "replicas": 3,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "nginx", "image": "nginx:1.27", "ports": [{"containerPort": 80}]}]},
                },
            },
        })
    );
}

#[test]
fn kubectl_create_of_other_kinds_decodes() {
    assert_eq!(kubectl!("secrets")["data"], json!({"user": "YWRtaW4=", "pw": "czNjcjN0"}));
    assert_eq!(kubectl!("configmaps")["data"], json!({"a": "b", "c": "d"}));
    assert_eq!(
        kubectl!("namespaces"),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    );
    assert_eq!(kubectl!("serviceaccounts")["metadata"]["name"], "robot");
    assert_eq!(
        kubectl!("roles")["rules"],
        json!([{"verbs": ["get", "list"], "apiGroups": ["apps"], "resources": ["deployments"]}])
    );
    assert_eq!(
        kubectl!("services")["spec"]["ports"],
        json!([{"name": "80-8080", "protocol": "TCP", "port": 80, "targetPort": 8080}])
    );
    assert_eq!(kubectl!("token")["kind"], "TokenRequest");
}

fn objects() -> Vec<Value> {
    vec![
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "odd", "namespace": "default", "creationTimestamp": "2026-11-24T17:00:00Z", "generation": 2,
                "annotations": {"a": "b"}, "finalizers": ["e.com/x"],
                "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "u", "controller": false}],
                "managedFields": [{"manager": "m", "operation": "Apply", "apiVersion": "v1", "time": "2026-11-24T17:00:00Z",
                    "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}}}}}}],
            },
            "spec": {
                "containers": [{
                    "name": "c", "image": "i",
                    "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}},
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "livenessProbe": {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 3},
                    "readinessProbe": {"tcpSocket": {"port": 8080}},
                    "securityContext": {"privileged": false, "runAsUser": 0},
                    "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": true}}}],
                }],
                "volumes": [
                    {"name": "v", "emptyDir": {}},
                    {"name": "w", "configMap": {"name": "cm", "defaultMode": 420}},
                ],
                "securityContext": {"supplementalGroups": [1, 2, 300]},
                "terminationGracePeriodSeconds": 0,
            },
            "status": {"startTime": "2026-11-24T17:00:01Z", "phase": "Running"},
        }),
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"},
            "spec": {"holderIdentity": "me", "leaseDurationSeconds": 15, "leaseTransitions": 0,
                "acquireTime": "2026-11-24T17:00:00.000001Z", "renewTime": "2026-11-24T17:00:00.100000Z"},
        }),
        json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p"},
            "reason": "Started", "message": "m", "count": 3, "type": "Normal", "firstTimestamp": "2026-11-24T17:00:00Z",
            "eventTime": "2026-11-24T17:00:00.000000Z", "source": {"component": "c"},
        }),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}, "binaryData": {"x": "AAECAw==", "y": ""}}),
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "n"},
            "spec": {"podSelector": {}, "ingress": [{}], "policyTypes": ["Ingress"]},
        }),
        json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": "u", "extra": {"scopes": ["a", "b"]}, "resourceAttributes": {"verb": "get"}},
            "status": {"allowed": false},
        }),
        json!({
            "apiVersion": "v1", "kind": "Status", "status": "Failure", "message": "m", "reason": "NotFound", "code": 404,
            "details": {"name": "x", "kind": "pods", "causes": [{"reason": "FieldValueRequired", "field": "f"}]},
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": "r"},
            "data": {"spec": {"any": [1, "two", null]}}, "revision": 7,
        }),
        json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "propagationPolicy": "Foreground",
            "preconditions": {"uid": "u"},
        }),
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "s"}, "spec": {"replicas": 3}}),
        json!({
            "apiVersion": "v1", "kind": "SecretList", "metadata": {"resourceVersion": "9"},
            "items": [{"metadata": {"name": "a"}, "data": {"k": "dg=="}}, {"metadata": {"name": "b"}}],
        }),
        json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {"resourceVersion": "9"},
            "items": [{"metadata": {"name": "a"}}],
        }),
    ]
}

#[test]
fn json_survives_the_way_through_protobuf() {
    for object in objects() {
        let body = protobuf::encode_object(&object).unwrap();
        assert_eq!(protobuf::decode(&body).unwrap().1, object, "{}", object["kind"]);
    }
}

#[test]
fn a_watch_event_holds_a_whole_body() {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    let frame = protobuf::encode_watch_event("ADDED", &protobuf::encode_object(&object).unwrap());
    let meta = TypeMeta { api_version: "v1".into(), kind: "WatchEvent".into() };
    let event = protobuf::decode_raw(&meta, &frame).unwrap();
    assert_eq!(event["type"], "ADDED");
    assert_eq!(event["object"], object);
}

#[test]
fn custom_resources_have_no_protobuf() {
    assert!(!protobuf::supports("federation.rs/v1alpha1", "Cluster"));
    assert!(protobuf::supports("apps/v1", "Deployment"));
    assert!(matches!(
        protobuf::encode_object(&json!({"apiVersion": "a/v1", "kind": "B"})),
        Err(Error::Kind { .. })
    ));
}

#[test]
fn a_wrong_type_is_named_with_its_path() {
    let object = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": 1}]}});
    let error = protobuf::encode_object(&object).unwrap_err();
    assert_eq!(error.to_string(), r#"field "spec.containers[0].name" must be string, found number"#);
}

#[test]
fn damaged_bodies_give_errors_and_never_panic() {
    let seed = 0x5eed_u64;
    println!("seed {seed}");
    let mut state = seed;
    let mut random = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize
    };
    for object in objects() {
        let body = protobuf::encode_object(&object).unwrap();
        for length in 0..body.len() {
            let _ = protobuf::decode(&body[..length]);
        }
        for _ in 0..2000 {
            let mut damaged = body.clone();
            for _ in 0..=random() % 4 {
                let at = random() % damaged.len();
                damaged[at] = random() as u8;
            }
            if let Ok((meta, value)) = protobuf::decode(&damaged) {
                let _ = protobuf::encode(&meta, &value);
            }
        }
    }
}

#[test]
fn endless_nesting_is_refused() {
    let mut body = protobuf::encode_object(&json!({"apiVersion": "v1", "kind": "ConfigMap"})).unwrap();
    let list = TypeMeta { api_version: "v1".into(), kind: "WatchEvent".into() };
    for _ in 0..100 {
        let event = protobuf::encode_watch_event("ADDED", &body);
        // The envelope that makes the event an object of the next event.
        body = b"k8s\0".to_vec();
        body.extend(b"\x0a\x10\x0a\x02v1\x12\x0aWatchEvent\x12");
        let mut length = event.len();
        while length >= 0x80 {
            body.push(length as u8 | 0x80);
            length >>= 7;
        }
        body.push(length as u8);
        body.extend(event);
    }
    assert!(matches!(protobuf::decode(&body), Err(Error::TooDeep)));
    assert!(protobuf::decode_raw(&list, &protobuf::encode_watch_event("ADDED", &body)).is_err());
}

/// Kinds of the two other servers that kube-apiserver is made of, as it wrote them.
#[test]
fn definitions_and_services_of_apis_are_read_and_written_as_kube_apiserver_does() {
    macro_rules! of_kube_apiserver {
        ($name:literal) => {
            (
                include_bytes!(concat!("fixtures/kube-apiserver-1.20/", $name, ".pb")).as_slice(),
                include_str!(concat!("fixtures/kube-apiserver-1.20/", $name, ".json")),
            )
        };
    }
    for (bytes, text) in [of_kube_apiserver!("definition"), of_kube_apiserver!("apiservice")] {
        let object: Value = serde_json::from_str(text).unwrap();
        assert_eq!(protobuf::decode(bytes).unwrap().1, object);
        let written = protobuf::encode_object(&object).unwrap();
        assert_eq!(protobuf::decode(&written).unwrap().1, object);
    }
}

#[test]
fn kinds_that_became_stable_keep_their_form() {
    let class = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttributesClass", "metadata": {"name": "a"},
        "driverName": "d", "parameters": {"k": "v"},
    });
    let written = protobuf::encode_object(&class).unwrap();
    assert_eq!(protobuf::decode(&written).unwrap().1, class);
    assert!(protobuf::supports("admissionregistration.k8s.io/v1", "MutatingAdmissionPolicyBindingList"));
    assert!(!protobuf::supports("storage.k8s.io/v1", "Other"));
}

#[test]
fn fields_that_came_later_are_kept() {
    let rule = json!({"action": "Restart", "exitCodes": {"operator": "In", "values": [1, 42]}});
    let key = json!({"volumeName": "v", "path": "a", "key": "K", "optional": false});
    let certificate = json!({"signerName": "e.com/s", "keyType": "ED25519", "credentialBundlePath": "c", "userAnnotations": {"e.com/a": "b"}});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {
            "containers": [{
                "name": "c", "restartPolicy": "Never", "restartPolicyRules": [rule],
                "env": [{"name": "K", "valueFrom": {"fileKeyRef": key}}],
            }],
            "hostnameOverride": "other",
            "volumes": [{"name": "v", "projected": {"sources": [{"podCertificate": certificate}]}}],
        },
        "status": {
            "allocatedResources": {"cpu": "1"}, "resources": {"requests": {"cpu": "1"}},
            "extendedResourceClaimStatus": {
                "requestMappings": [{"containerName": "c", "resourceName": "e.com/gpu", "requestName": "r"}],
                "resourceClaimName": "p-claim",
            },
        },
    });
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "status": {"declaredFeatures": ["A", "B"]}});
    let driver = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": "d"},
        "spec": {"serviceAccountTokenInSecrets": false, "preventPodSchedulingIfMissing": true},
    });
    let result = json!({
        "request": "r", "driver": "d", "pool": "p", "device": "0", "bindingConditions": ["a"],
        "shareID": "a3a1c9f4-0000-4000-8000-000000000000", "consumedCapacity": {"memory": "1Gi"},
    });
    let request = json!({"name": "r", "exactly": {"deviceClassName": "c", "capacity": {"requests": {"memory": "1Gi"}}}});
    let claim = json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": "c"},
        "spec": {"devices": {"requests": [request], "constraints": [{"distinctAttribute": "d/a"}]}},
        "status": {"allocation": {"devices": {"results": [result]}, "allocationTimestamp": "2026-11-24T17:00:00Z"}},
    });
    let policy = json!({"default": "1Gi", "validRange": {"min": "1Gi", "step": "1Gi"}});
    let device = json!({
        "name": "0", "bindsToNode": true, "allowMultipleAllocations": true,
        "capacity": {"memory": {"value": "8Gi", "requestPolicy": policy}},
    });
    let slice = json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "s"},
        "spec": {
            "driver": "d", "nodeName": "n", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
            "devices": [device],
        },
    });
    for object in [pod, node, driver, claim, slice] {
        let written = protobuf::encode_object(&object).unwrap();
        assert_eq!(protobuf::decode(&written).unwrap().1, object);
    }
}
