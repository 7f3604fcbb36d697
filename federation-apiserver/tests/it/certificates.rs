//! Requests for certificates: who may approve and sign them, as a real kube-apiserver answers, and what an older hub had stored of them.

use std::collections::BTreeMap;

use federation_apiserver::{
    auth::authz::Mode,
    store::{Encoded, Key, Meta, ResourceKey, Write},
};
use federation_runtime::pki::Peer;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{access::Access, world::World};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";

/// Of CN=a, O=system:masters.
const OF_MASTERS: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIZk1JR0hBZ0VBTUNVeEZ6QVZCZ05WQkFvTURuTjVjM1JsYlRwdFlYTjBaWEp6TVFvd0NBWURWUVFEREFGaApNRmt3RXdZSEtvWkl6ajBDQVFZSUtvWkl6ajBEQVFjRFFnQUVtcStmc0FyaXZ1U2xiSkIyRDlLYzFUOEtGTGRyClMvcWk5ZzMxR3llVGlzU2thcFZrdjlLNW1UWXEvWFhsQUdkbmcyKzh5aUwzd3NNaEVmTzg2TXZnNHFBQU1Bb0cKQ0NxR1NNNDlCQU1DQTBjQU1FUUNJQ2NNSXVXNjFaVXFCWmFScmlmQTlQeFdzU2Q1SE1EUmphN2hPY1c4RVU5ZgpBaUJoQ09rSVZkWlZya1JSR0s5U3NMSlN5SFA3RzR0RXZMc1R6ZkJ0TWU4b2lRPT0KLS0tLS1FTkQgQ0VSVElGSUNBVEUgUkVRVUVTVC0tLS0tCg==";
/// Of CN=a, O=dev.
const OF_DEV: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIVE1Id0NBUUF3R2pFTU1Bb0dBMVVFQ2d3RFpHVjJNUW93Q0FZRFZRUUREQUZoTUZrd0V3WUhLb1pJemowQwpBUVlJS29aSXpqMERBUWNEUWdBRWZZeTlNSDNpd2pRem8yMzloM2x6Q2ZuZXI4MWZ6WU1ldWpWbWxxN0ZXYmsyCm44dzkzUTJ3bXFOdVJLRjFVMllVVEM3WHdQczdiQmxMQ2FyUmFXMWtGcUFBTUFvR0NDcUdTTTQ5QkFNQ0EwY0EKTUVRQ0lBVUZLTXU5M0p6U3ZLV3lXRldQRTdaa2JZRU95emUwUGoxQmtoMjdwTkNMQWlCM3BvZFBuNEx5UXlIdQpJUXBBQ29vSmEwZWg5Z21IenN3bGRUWXdyTW9CUnc9PQotLS0tLUVORCBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0K";
const CERTIFICATE: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUJiekNDQVJXZ0F3SUJBZ0lVZGllZHlRdE5qeGxKS0pWR2VYM0U4K01qYXdVd0NnWUlLb1pJemowRUF3SXcKRERFS01BZ0dBMVVFQXd3QllUQWdGdzB5TmpFeE16QXdNRFUzTlRGYUdBOHlNVEkyTVRFd05qQXdOVGMxTVZvdwpEREVLTUFnR0ExVUVBd3dCWVRCWk1CTUdCeXFHU000OUFnRUdDQ3FHU000OUF3RUhBMElBQkU1VGpKTTJjcE1vCmx3SEEvOGJvbEI2UlZ0ME9ia1phQVZDL1pTQ0hoc2RHUUlINjNNL2plNjhPalNTSGwvTDdHNjcrUmxzSEtLY2gKdmRNYVI4cG5qVG1qVXpCUk1CMEdBMVVkRGdRV0JCUWFFU0szQis4TVF6anhyRWxCQ0xOL05jSWkwREFmQmdOVgpIU01FR0RBV2dCUWFFU0szQis4TVF6anhyRWxCQ0xOL05jSWkwREFQQmdOVkhSTUJBZjhFQlRBREFRSC9NQW9HCkNDcUdTTTQ5QkFNQ0EwZ0FNRVVDSVFEYVYrMmtDSlhlMlpsYjBqTGh2K09Pc3JyZjBZUjVmZHVNMDRoZ0IrSFAKeVFJZ0dpeVJvMXc1OUExYU53cllNUU4yUDFnV2pQaE1xS3NyeXc0bytySTVXT1k9Ci0tLS0tRU5EIENFUlRJRklDQVRFLS0tLS0K";

fn request(name: &str, signer: &str, request: &str) -> Value {
    json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
        "spec": {"request": request, "signerName": signer, "usages": ["client auth"]},
    })
}

fn approval() -> Value {
    json!({"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "r"}]}})
}

fn issue() -> Value {
    json!({"status": {"certificate": CERTIFICATE}})
}

/// alice may write every request, and decide on one signer's; bob the same of all of a domain's.
async fn world() -> Access {
    let access = Access::new(&[Mode::Rbac]).await;
    let role = |name: &str, signer: &str| {
        json!({"metadata": {"name": name}, "rules": [
            {"apiGroups": ["certificates.k8s.io"], "verbs": ["*"], "resources": [
                "certificatesigningrequests", "certificatesigningrequests/approval", "certificatesigningrequests/status",
            ]},
            {"apiGroups": ["certificates.k8s.io"], "verbs": ["approve", "sign"], "resources": ["signers"], "resourceNames": [signer]},
        ]})
    };
    for (name, user, signer) in [("one", "alice", "example.com/x"), ("all", "bob", "example.com/*")] {
        access.make("/apis/rbac.authorization.k8s.io/v1/clusterroles", role(name, signer)).await;
        access.grant("", name, json!({"kind": "User", "name": user})).await;
    }
    for (name, signer) in [("x", "example.com/x"), ("y", "example.com/y"), ("client", CLIENT)] {
        access.make(REQUESTS, request(name, signer, OF_DEV)).await;
    }
    access
}

/// What the change of a part of a request is refused with; nothing if it is not.
async fn change(access: &Access, user: &str, path: &str, body: Value) -> Option<String> {
    let (code, answer) =
        access.send(user, &[], Method::PATCH, &format!("{REQUESTS}/{path}"), Some(body)).await;
    if code == StatusCode::OK {
        return None;
    }
    assert_eq!((code, &answer["reason"]), (StatusCode::FORBIDDEN, &json!("Forbidden")), "{answer}");
    answer["message"].as_str().map(ToOwned::to_owned)
}

fn refused(name: &str, verb: &str, signer: &str) -> String {
    format!(
        "certificatesigningrequests.certificates.k8s.io {name:?} is forbidden: user not permitted to {verb} requests with signerName {signer:?}"
    )
}

#[tokio::test]
async fn certificates_are_approved_and_signed_by_those_who_may_do_so_for_the_signer() {
    let access = world().await;
    for user in ["alice", "bob"] {
        for (path, verb, body) in
            [("client/approval", "approve", approval()), ("client/status", "sign", issue())]
        {
            assert_eq!(
                change(&access, user, path, body).await,
                Some(refused("client", verb, CLIENT)),
                "{user}"
            );
        }
    }
    assert_eq!(
        change(&access, "alice", "y/approval", approval()).await,
        Some(refused("y", "approve", "example.com/y"))
    );
    // Who changes nothing by it is asked all the same.
    assert_eq!(
        change(&access, "alice", "y/approval", json!({})).await,
        Some(refused("y", "approve", "example.com/y"))
    );
    assert_eq!(
        change(&access, "alice", "y/status", issue()).await,
        Some(refused("y", "sign", "example.com/y"))
    );
    let failed = json!({"status": {"conditions": [{"type": "Failed", "status": "True"}]}});
    assert_eq!(
        change(&access, "alice", "y/status", failed).await,
        Some(refused("y", "sign", "example.com/y"))
    );
    // What a PUT would change is refused as well, and what changes nothing of it is not.
    let (_, mut whole) = access.send("alice", &[], Method::GET, &format!("{REQUESTS}/y"), None).await;
    let note = json!({"metadata": {"annotations": {"a": "b"}}});
    assert_eq!(change(&access, "alice", "y/status", note).await, None);
    whole["metadata"]["resourceVersion"] = Value::Null;
    whole["status"] = approval()["status"].clone();
    let path = format!("{REQUESTS}/y/approval");
    let (code, answer) = access.send("alice", &[], Method::PUT, &path, Some(whole)).await;
    assert_eq!(code, StatusCode::FORBIDDEN, "{answer}");
    for (user, name) in [("alice", "x"), ("bob", "y"), ("root", "client")] {
        assert_eq!(change(&access, user, &format!("{name}/approval"), approval()).await, None, "{user}");
        assert_eq!(change(&access, user, &format!("{name}/status"), issue()).await, None, "{user}");
    }
}

#[tokio::test]
async fn nobody_asks_for_certificates_of_the_masters() {
    let access = world().await;
    let make = async |user: &str, signer: &str, content: &str| {
        let body = Some(request("m", signer, content));
        let (code, answer) =
            access.send(user, &[], Method::POST, &format!("{REQUESTS}?dryRun=All"), body).await;
        (code.as_u16(), answer["message"].as_str().unwrap_or_default().to_owned())
    };
    let head = "certificatesigningrequests.certificates.k8s.io \"m\" is forbidden: ";
    for user in ["alice", "root"] {
        let why =
            "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed";
        assert_eq!(make(user, CLIENT, OF_MASTERS).await, (403, format!("{head}{why}")));
        assert_eq!(make(user, "example.com/x", OF_MASTERS).await, (201, String::new()));
        assert_eq!(make(user, CLIENT, OF_DEV).await, (201, String::new()));
    }
    // Two in one: who signs might take the other one.
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let both = [STANDARD.decode(OF_DEV).unwrap(), STANDARD.decode(OF_MASTERS).unwrap()].concat();
    let (code, why) = make("alice", CLIENT, &STANDARD.encode(both)).await;
    assert_eq!((code, why), (403, format!("{head}failed to parse CSR: PEM must hold one block only")));
}

/// A server that holds a request, `a`, with these conditions, as an older hub stored it.
async fn with_conditions(conditions: Value) -> World {
    let world = World::new().await;
    let mut object = request("a", "example.com/x", OF_DEV);
    object["metadata"] = json!({
        "name": "a", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["example.com/held"],
    });
    object["status"]["conditions"] = conditions;
    let key = Key::new(ResourceKey::new("certificates.k8s.io", "certificatesigningrequests"), "", "a");
    let object = Encoded::new(&object, Meta::from_value(&object, BTreeMap::new()));
    world.server.storage().write(Write::Create { key, object, within: None }).await.unwrap();
    world
}

#[tokio::test]
async fn certificates_that_an_older_hub_approved_can_be_signed() {
    let path = format!("{REQUESTS}/a");
    let approved = json!([{"type": "Approved", "status": "True", "message": "ok", "lastUpdateTime": "2026-01-01T00:00:00Z"}]);
    let world = with_conditions(approved.clone()).await;
    let mut whole = world.expect(StatusCode::OK, Method::GET, &path, None).await;
    whole["status"]["certificate"] = CERTIFICATE.into();
    // Even where the signer writes back less of it than there was.
    whole["status"]["conditions"] = json!([{"type": "Approved", "status": "True"}]);
    let status = format!("{path}/status");
    let signed = world.expect(StatusCode::OK, Method::PUT, &status, Some(whole.clone())).await;
    let mut kept = approved[0].clone();
    kept["lastTransitionTime"] = Value::Null;
    assert_eq!(signed["status"], json!({"certificate": CERTIFICATE, "conditions": [kept]}));
    whole["metadata"]["resourceVersion"] = Value::Null;
    whole["status"]["conditions"] = json!([]);
    let answer = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::PUT, &status, Some(whole)).await;
    let message = "updates may not remove a condition of type \"Approved\"";
    assert!(answer["message"].as_str().unwrap().contains(message), "{answer}");
}

#[tokio::test]
async fn odd_conditions_of_certificates_that_an_older_hub_stored_do_not_stand_in_the_way() {
    let path = format!("{REQUESTS}/a");
    let odd = json!([{"type": "Approved"}, {"type": "Approved", "status": "False"}, {"type": "Denied", "status": "True"}]);
    let world = with_conditions(odd).await;
    let signed = world.expect(StatusCode::OK, Method::PATCH, &format!("{path}/status"), Some(issue())).await;
    let told = |at: usize, name: &str| signed["status"]["conditions"][at][name].as_str().unwrap_or_default();
    let kept = [0, 1, 2].map(|at| (told(at, "type"), told(at, "status"), told(at, "lastUpdateTime")));
    assert_eq!(kept, [("Approved", "", ""), ("Approved", "False", ""), ("Denied", "True", "")]);
    let label = json!({"metadata": {"labels": {"l": "a"}}});
    world.expect(StatusCode::OK, Method::PATCH, &path, Some(label)).await;
    world.expect(StatusCode::OK, Method::DELETE, &path, None).await;
    world.expect(StatusCode::OK, Method::PATCH, &path, Some(json!({"metadata": {"finalizers": null}}))).await;
    world.expect(StatusCode::NOT_FOUND, Method::GET, &path, None).await;
}

#[tokio::test]
async fn resource_claims_with_admin_access_are_for_namespaces_with_a_label() {
    let access = Access::new(&[Mode::Rbac]).await;
    access.grant("demo", "edit", json!({"kind": "User", "name": "alice"})).await;
    let root = "/apis/resource.k8s.io/v1/namespaces/demo";
    let spec = json!({"devices": {"requests": [
        {"name": "a", "exactly": {"deviceClassName": "c"}},
        {"name": "b", "exactly": {"deviceClassName": "c", "adminAccess": true}},
    ]}});
    let objects = [
        ("ResourceClaim", "resourceclaims", spec.clone()),
        ("ResourceClaimTemplate", "resourceclaimtemplates", json!({"spec": spec})),
    ];
    let make = async |(kind, plural, spec): &(&str, &str, Value)| {
        let body = json!({"apiVersion": "resource.k8s.io/v1", "kind": kind, "metadata": {"name": "a"}, "spec": spec});
        access.send("alice", &[], Method::POST, &format!("{root}/{plural}"), Some(body)).await
    };
    let label = async |value: &str| {
        let body = json!({"metadata": {"labels": {"resource.kubernetes.io/admin-access": value}}});
        let (code, answer) =
            access.send("root", &[], Method::PATCH, "/api/v1/namespaces/demo", Some(body)).await;
        assert_eq!(code, StatusCode::OK, "{answer}");
    };
    for value in ["", "yes"] {
        label(value).await;
        for object in &objects {
            let (code, answer) = make(object).await;
            assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
            assert_eq!(
                answer["message"],
                format!(
                    "{}.resource.k8s.io \"a\" is invalid: spec.devices.requests[1].adminAccess: Forbidden: admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace",
                    object.0
                )
            );
        }
    }
    // Nor is it granted to a claim that does not ask for it.
    let plain = json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": "b"},
        "spec": {"devices": {"requests": [{"name": "a", "exactly": {"deviceClassName": "c"}}]}},
    });
    access.make(&format!("{root}/resourceclaims"), plain).await;
    let granted = json!({"status": {"allocation": {"devices": {"results": [
        {"request": "a", "driver": "d.example.com", "pool": "p", "device": "d", "adminAccess": true},
    ]}}}});
    let grant = async || {
        let path = format!("{root}/resourceclaims/b/status");
        access.send("root", &[], Method::PATCH, &path, Some(granted.clone())).await
    };
    let (code, answer) = grant().await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
    assert_eq!(answer["details"]["causes"][0]["field"], "status.allocation.devices.results[0].adminAccess");
    label("true").await;
    for object in &objects {
        let (code, answer) = make(object).await;
        assert_eq!(code, StatusCode::CREATED, "{answer}");
    }
    let (code, answer) = grant().await;
    assert_eq!(code, StatusCode::OK, "{answer}");
}

#[tokio::test]
async fn a_decision_may_leave_marks_on_the_request() {
    let access = world().await;
    let mut marked = approval();
    marked["metadata"] = json!({"annotations": {"decided": "yes"}, "labels": {"by": "alice"}});
    assert_eq!(change(&access, "alice", "x/approval", marked).await, None);
    let mut issued = issue();
    issued["metadata"] = json!({"annotations": {"issued": "yes"}});
    assert_eq!(change(&access, "alice", "x/status", issued).await, None);
    let (_, request) = access.send("alice", &[], Method::GET, &format!("{REQUESTS}/x"), None).await;
    assert_eq!(request["metadata"]["annotations"], json!({"decided": "yes", "issued": "yes"}));
    assert_eq!(request["metadata"]["labels"], json!({"by": "alice"}));
    assert_eq!(request["status"]["conditions"][0]["type"], "Approved");
}

#[tokio::test]
async fn clients_get_the_certificates_that_were_approved() {
    let mut access = world().await;
    let get = async |access: &Access, name: &str| {
        access.send("root", &[], Method::GET, &format!("{REQUESTS}/{name}"), None).await.1["status"].clone()
    };
    access.settle().await;
    assert_eq!(get(&access, "client").await, json!({}));
    let mut serving = request("serving", CLIENT, OF_DEV);
    serving["spec"]["usages"] = json!(["client auth", "server auth"]);
    access.make(REQUESTS, serving).await;
    let mut short = request("short", CLIENT, OF_DEV);
    short["spec"]["expirationSeconds"] = json!(600);
    access.make(REQUESTS, short).await;
    for name in ["client", "short", "serving", "x"] {
        assert_eq!(change(&access, "root", &format!("{name}/approval"), approval()).await, None, "{name}");
    }
    access.settle().await;
    let peer = async |name: &str| {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let status = get(&access, name).await;
        let pem = STANDARD.decode(status["certificate"].as_str().unwrap()).unwrap();
        Peer::from_pem(std::str::from_utf8(&pem).unwrap()).unwrap()
    };
    let issued = peer("client").await;
    assert_eq!((issued.user.as_str(), issued.groups[0].as_str()), ("a", "dev"));
    assert!(issued.not_after - issued.not_before >= 365 * 24 * 3600);
    let issued = peer("short").await;
    assert!((600..=1000).contains(&(issued.not_after - issued.not_before)));
    let failed = &get(&access, "serving").await["conditions"][1];
    assert_eq!(failed["type"], "Failed", "{failed}");
    let why = "invalid usage for client certificate: server auth";
    assert_eq!((&failed["reason"], &failed["message"]), (&json!("SignerValidationFailure"), &json!(why)));
    // Another signer's is left to it.
    assert_eq!(get(&access, "x").await.get("certificate"), None);
}

#[tokio::test]
async fn the_status_of_a_claim_is_told_and_nothing_else_with_it() {
    let access = world().await;
    let claims = "/apis/resource.k8s.io/v1/namespaces/demo/resourceclaims";
    let claim = json!({"metadata": {"name": "a", "labels": {"a": "b"}}, "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}}});
    let (code, answer) = access.send("root", &[], Method::POST, claims, Some(claim)).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
    let result = json!({"request": "r", "driver": "d.example.com", "pool": "p", "device": "x"});
    let told = json!({"driver": "d.example.com", "pool": "p", "device": "x", "data": {"a": 1}});
    let status = json!({
        "metadata": {"labels": {"a": "c"}, "annotations": {"d": "e"}, "finalizers": ["f.example.com/x"]},
        "status": {"allocation": {"devices": {"results": [result]}}, "devices": [told]},
    });
    let path = format!("{claims}/a/status");
    let (code, claim) = access.send("root", &[], Method::PATCH, &path, Some(status)).await;
    assert_eq!(code, StatusCode::OK, "{claim}");
    let metadata = &claim["metadata"];
    assert_eq!((&metadata["labels"], &metadata["annotations"]), (&json!({"a": "b"}), &Value::Null));
    assert_eq!(metadata["finalizers"], Value::Null);
    assert_eq!(claim["status"]["devices"][0]["data"], json!({"a": 1}));
    // What drivers said of a device goes with it.
    let returned = json!({"status": {"allocation": null}});
    let (code, claim) = access.send("root", &[], Method::PATCH, &path, Some(returned)).await;
    assert_eq!(code, StatusCode::OK, "{claim}");
    assert_eq!(claim["status"]["devices"], Value::Null);
}
