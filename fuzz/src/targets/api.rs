//! Whole requests to the API server: paths, queries, headers and bodies, by whatever media type.

use std::time::Duration;

use bytes::Bytes;
use federation_apiserver::{ApiServer, EndpointScope, Parts, store, testing::Body};
use federation_runtime::endpoints::{Health, Metrics};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::Case;
use crate::dice::Dice;
use crate::mutate;

/// Answers come to an end by then.
const PATIENCE: Duration = Duration::from_secs(10);
/// A watch that is silent for so long has told what it has to tell for now.
const SILENCE: Duration = Duration::from_millis(3);

/// What kube-apiserver, too, answers with 500 though the request is at fault: an apply that its schema does not allow, and a watch of a version
/// that is none.
const FAULTS_OF_REQUESTS: [&str; 3] =
    ["failed to create typed", "failed to convert", "resourceVersion: Invalid value"];
/// What is not implemented, and a revision that does not come in time.
const ALLOWED: [u16; 2] = [501, 504];

const PATHS: &[&str] = &[
    "/api/v1/namespaces/demo/configmaps",
    "/api/v1/namespaces/demo/configmaps/a?fieldManager=me&force=true&dryRun=All&fieldValidation=Strict",
    "/api/v1/configmaps?labelSelector=a%3Db,c+in+(d)&fieldSelector=metadata.name%3Da&limit=2&continue=x&resourceVersion=1&resourceVersionMatch=Exact",
    "/apis/apps/v1/namespaces/demo/deployments/web",
    "/apis/apps/v1/namespaces/demo/deployments/web/scale",
    "/apis/apps/v1/deployments?watch=1&timeoutSeconds=0&allowWatchBookmarks=true",
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.a.test",
    "/apis/a.test/v1/namespaces/demo/things",
    "/apis/a.test/v1/namespaces/demo/things/one/status",
    "/apis/authorization.k8s.io/v1/subjectaccessreviews",
    "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "/api/v1/namespaces/demo/services/web/status?pretty=true",
    "/openapi/v3/apis/apps/v1?hash=1",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "/api/v1/configmaps?watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&fieldSelector=metadata.name%3Da",
    "/api/v1/namespaces/demo/configmaps?watch=1&resourceVersion=1&labelSelector=a",
];

const TYPES: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/merge-patch+json",
    "application/json-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json;stream=watch; charset=utf-8",
];

const ACCEPTS: &[&str] = &[
    "application/json",
    "application/json;as=Table;v=v1;g=meta.k8s.io, */*;q=0.1",
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    "application/vnd.kubernetes.protobuf",
    "application/yaml",
];

const WORDS: &[&str] = &[
    "metadata",
    "name",
    "namespace",
    "spec",
    "labels",
    "status",
    "data",
    "finalizers",
    "ownerReferences",
    "uid",
    "resourceVersion",
    "generateName",
    "demo",
    "a",
    "web",
    "kind",
    "apiVersion",
    "v1",
    "managedFields",
    "rules",
    "schema",
    "versions",
    "$patch",
    "replicas",
];

fn bodies() -> Vec<Value> {
    vec![
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "labels": {"a": "b"}}, "data": {"k": "v"}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
            "replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}], "resources": {"limits": {"cpu": "1"}}}]}}}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}}),
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "things.a.test"}, "spec": {
            "group": "a.test", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing", "singular": "thing", "listKind": "ThingList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}, "scale": {
                "specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}},
                "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": {
                    "size": {"type": "integer", "default": 1, "x-kubernetes-validations": [{"rule": "self < 10"}]}}}}}}}]}}),
        json!({"apiVersion": "a.test/v1", "kind": "Thing", "metadata": {"name": "one"}, "spec": {"size": 3}}),
        json!([{"op": "add", "path": "/data/x", "value": "y"}, {"op": "test", "path": "/metadata/name", "value": "a"}]),
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "$patch": "delete"}]}}}}),
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": 5}}),
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {"user": "u", "groups": ["g"],
            "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "demo"}}}),
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "p"}, "spec": {
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]},
            "validations": [{"expression": "object.metadata.name != 'x'"}], "variables": [{"name": "v", "expression": "1"}]}}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "r"}, "rules": [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}),
        json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground", "preconditions": {"uid": "x"}, "gracePeriodSeconds": 0}),
    ]
}

struct World {
    runtime: tokio::runtime::Runtime,
    server: ApiServer,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let folder = tempfile::tempdir()?;
        let storage = runtime.block_on(store::Storage::open(store::Options::new(folder.path())))?;
        let server = ApiServer::new(Parts {
            storage,
            tokens: Default::default(),
            accounts: None,
            audit: None,
            authorization: vec![Default::default()],
            ranges: Default::default(),
            endpoint_scope: EndpointScope::Any,
            health: Health::new(),
            metrics: Metrics::new(),
            draining: CancellationToken::new(),
            others: Default::default(),
            flags: Default::default(),
        });
        let world = Self { runtime, server, _folder: folder };
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}});
        let request = Request::post("/api/v1/namespaces").header("content-type", "application/json");
        let status =
            world.send(request.body(Full::from(namespace.to_string()))?).map_err(anyhow::Error::msg)?;
        // If all requests were refused, nothing would be tried.
        anyhow::ensure!(status == StatusCode::CREATED, "the namespace is answered with {status}");
        Ok(world)
    }

    /// Sends it; the status, or what the server should not say.
    fn send(&self, request: Request<Full<Bytes>>) -> Result<StatusCode, String> {
        let watches = request.uri().query().is_some_and(|query| query.contains("watch"));
        let answered = async {
            let response = self
                .server
                .service()
                .oneshot(request)
                .await
                .map_err(|error| format!("no answer: {error}"))?;
            let status = response.status();
            if watches && status.is_success() {
                let is_json =
                    response.headers().get("content-type").is_some_and(|kind| kind == "application/json");
                events(response.into_body(), is_json).await?;
                return Ok(status);
            }
            let body = tokio::time::timeout(PATIENCE, response.into_body().collect()).await;
            let body = body.map_err(|_| "the answer does not end".to_owned())?;
            let body = body.map_err(|error| format!("the answer breaks off: {error}"))?.to_bytes();
            let text = String::from_utf8_lossy(&body);
            let known = FAULTS_OF_REQUESTS.iter().any(|words| text.contains(words));
            if status.is_server_error() && !ALLOWED.contains(&status.as_u16()) && !known {
                return Err(format!("{status}: {text}"));
            }
            Ok(status)
        };
        self.runtime.block_on(answered)
    }
}

/// Reads what a watch tells at once. What comes to an end is none.
async fn events(mut body: Body, is_json: bool) -> Result<(), String> {
    let mut octets = Vec::new();
    while let Ok(frame) = tokio::time::timeout(SILENCE, body.frame()).await {
        let Some(frame) = frame else { return Ok(()) };
        let frame = frame.map_err(|error| format!("the watch breaks off: {error}"))?;
        octets.extend_from_slice(frame.data_ref().map_or(&[][..], |data| &data[..]));
    }
    let end = octets.iter().rposition(|octet| *octet == b'\n').unwrap_or_default();
    for line in
        octets.get(..end).unwrap_or_default().split(|octet| *octet == b'\n').filter(|_| is_json && end > 0)
    {
        let event: Value = serde_json::from_slice(line)
            .map_err(|error| format!("an event is no JSON: {error}: {}", String::from_utf8_lossy(line)))?;
        if !event["type"].is_string() || !event["object"].is_object() {
            return Err(format!("this is no event: {event}"));
        }
    }
    Ok(())
}

fn request(dice: &mut Dice, bodies: &[Value]) -> Option<Request<Full<Bytes>>> {
    let methods =
        [Method::GET, Method::POST, Method::POST, Method::PUT, Method::PATCH, Method::PATCH, Method::DELETE];
    let method = dice.pick(&methods).clone();
    let path = if dice.one_in(2) {
        dice.pick(PATHS).split('?').next().unwrap_or_default().to_owned()
    } else {
        mutate::text(
            dice,
            PATHS,
            &[
                "/",
                "?",
                "&",
                "=",
                "%",
                "%00",
                "%2F",
                "watch=true",
                "limit=-1",
                "demo",
                "status",
                "..",
                "labelSelector=",
            ],
        )
    };
    let content = *dice.pick(TYPES);
    let body = mutate::value(dice, bodies, WORDS);
    let body = if content.ends_with("protobuf") {
        mutate::octets(dice, &kube_schema::protobuf::encode_object(&body).unwrap_or_default())
    } else if dice.one_in(6) {
        mutate::octets(dice, body.to_string().as_bytes())
    } else {
        body.to_string().into_bytes()
    };
    let accept = if dice.one_in(8) {
        mutate::text(dice, ACCEPTS, &[";", ",", "=", "q=", "*"])
    } else {
        (*dice.pick(ACCEPTS)).to_owned()
    };
    let user = dice
        .one_in(10)
        .then(|| mutate::text(dice, &["Bearer a.b.c", "Basic YTpi", "Bearer "], &[".", " ", "=", "eyJ"]));
    dice.show(|| {
        format!("{method} {path}\n{content}, {accept}, {user:?}\n{}", String::from_utf8_lossy(&body))
    });
    let mut request =
        Request::builder().method(method).uri(path).header("content-type", content).header("accept", accept);
    if let Some(user) = user {
        request = request.header("authorization", user);
    }
    // What is no request of HTTP does not come this far.
    request.body(Full::from(body)).ok()
}

pub(super) fn api() -> Case {
    let (world, bodies) = (World::new(), bodies());
    Box::new(move |dice| {
        let world = world.as_ref().map_err(|error| format!("no server: {error:#}"))?;
        request(dice, &bodies).map_or(Ok(()), |request| world.send(request).map(drop))
    })
}
