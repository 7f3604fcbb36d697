//! Custom kinds whose versions a webhook converts, with a real HTTPS server that does.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::{
    https::{self, Https},
    world::World,
};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const NEW: &str = "/apis/net.example.com/v1/namespaces/demo/places";
const OLD: &str = "/apis/net.example.com/v1beta1/namespaces/demo/places";

/// A server that converts Places: `spec.hostPort` of v1beta1 is `spec.host` and `spec.port` of v1.
struct Converter {
    server: Https,
    /// `request` of each review.
    asked: Arc<Mutex<Vec<Value>>>,
    /// What to do to answers, one after another.
    spoiled: Arc<Mutex<VecDeque<Spoil>>>,
}

type Spoil = Box<dyn Fn(&mut Value) + Send>;

impl Converter {
    async fn new() -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let spoiled: Arc<Mutex<VecDeque<Spoil>>> = Arc::default();
        let (seen, spoils) = (Arc::clone(&asked), Arc::clone(&spoiled));
        let server = Https::start(move |request| {
            let (seen, spoils) = (Arc::clone(&seen), Arc::clone(&spoils));
            async move {
                let mut review = https::json_of(request).await;
                let request = review["request"].take();
                let wanted = request["desiredAPIVersion"].as_str().unwrap();
                let objects = request["objects"].as_array().unwrap().iter();
                let poisoned = objects.clone().any(|object| object["spec"]["note"] == "poison");
                let converted: Vec<_> = objects.map(|object| convert(object.clone(), wanted)).collect();
                review["response"] = json!({"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": converted});
                if poisoned {
                    review["response"]["result"] = json!({"status": "Failed", "message": "poisoned"});
                }
                seen.lock().push(request);
                if let Some(spoil) = spoils.lock().pop_front() {
                    spoil(&mut review);
                }
                https::answer(&review)
            }
        });
        Self { server: server.await, asked, spoiled }
    }

    fn calls(&self) -> usize {
        self.asked.lock().len()
    }

    fn spoil(&self, spoil: impl Fn(&mut Value) + Send + 'static) {
        self.spoiled.lock().push_back(Box::new(spoil));
    }
}

fn convert(mut object: Value, wanted: &str) -> Value {
    // What an applier gives up may be all that there is, so that a webhook meets objects without a spec.
    let mut nothing = serde_json::Map::new();
    let spec = object.get_mut("spec").and_then(Value::as_object_mut).unwrap_or(&mut nothing);
    if wanted.ends_with("/v1") {
        if let Some(text) = spec.remove("hostPort") {
            let (host, port) = text.as_str().unwrap().split_once(':').unwrap();
            spec.insert("host".into(), host.into());
            spec.insert("port".into(), port.into());
        }
    } else if let (Some(host), Some(port)) = (spec.remove("host"), spec.remove("port")) {
        let text = format!("{}:{}", host.as_str().unwrap(), port.as_str().unwrap());
        spec.insert("hostPort".into(), text.into());
    }
    object["apiVersion"] = wanted.into();
    object
}

fn places(client: &Value) -> Value {
    let text = || json!({"type": "string"});
    let schema = |spec: Value| json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": spec}}}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "places.net.example.com"},
        "spec": {
            "group": "net.example.com", "scope": "Namespaced", "names": {"plural": "places", "kind": "Place"},
            "conversion": {"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": client}},
            "versions": [
                {"name": "v1", "served": true, "storage": true,
                 "schema": schema(json!({"host": text(), "port": text(), "note": text()}))},
                {"name": "v1beta1", "served": true, "storage": false,
                 "schema": schema(json!({"hostPort": text(), "note": text()})),
                 "additionalPrinterColumns": [{"name": "At", "type": "string", "jsonPath": ".spec.hostPort"}]},
            ],
        },
    })
}

fn old(name: &str, at: &str) -> Value {
    json!({"apiVersion": "net.example.com/v1beta1", "kind": "Place", "metadata": {"name": name}, "spec": {"hostPort": at}})
}

/// The next frame of a watch.
pub(crate) async fn next(
    body: &mut (impl http_body::Body<Data = Bytes, Error: std::fmt::Debug> + Unpin),
) -> Value {
    serde_json::from_slice(&body.frame().await.unwrap().unwrap().into_data().unwrap()).unwrap()
}

impl World {
    async fn converting() -> (Self, Converter) {
        let (world, converter) = (Self::new().await, Converter::new().await);
        world.expect(StatusCode::CREATED, Method::POST, CRDS, Some(places(&converter.server.config()))).await;
        (world, converter)
    }

    async fn get(&self, path: &str) -> Value {
        self.expect(StatusCode::OK, Method::GET, path, None).await
    }

    async fn apply(&self, path: &str, manager: &str, object: &Value) -> (StatusCode, Value) {
        let request = Request::patch(format!("{path}?fieldManager={manager}"))
            .header("content-type", "application/apply-patch+yaml")
            .body(Full::from(object.to_string()))
            .unwrap();
        self.send(request).await
    }
}

#[tokio::test]
async fn an_object_is_read_written_and_listed_in_each_version() {
    let (world, converter) = World::converting().await;
    for name in ["a", "b", "c"] {
        let made = world
            .expect(StatusCode::CREATED, Method::POST, OLD, Some(old(name, &format!("{name}.example:80"))))
            .await;
        assert_eq!(
            (&made["apiVersion"], &made["spec"]["hostPort"]),
            (&json!("net.example.com/v1beta1"), &json!(format!("{name}.example:80")))
        );
    }
    let asked = converter.calls();
    let stored = world.get(&format!("{NEW}/a")).await;
    assert_eq!(stored["spec"], json!({"host": "a.example", "port": "80"}));
    world.get(NEW).await;
    assert_eq!(converter.calls(), asked, "what is stored so is not converted");

    // What a version was asked for once is remembered; a definition that has changed forgets.
    let touch = json!({"metadata": {"annotations": {"touched": "yes"}}});
    world.expect(StatusCode::OK, Method::PATCH, &format!("{CRDS}/places.net.example.com"), Some(touch)).await;
    let list = world.get(OLD).await;
    assert_eq!(list["kind"], "PlaceList");
    let at: Vec<_> =
        list["items"].as_array().unwrap().iter().map(|item| item["spec"]["hostPort"].clone()).collect();
    assert_eq!(at, ["a.example:80", "b.example:80", "c.example:80"]);
    assert_eq!(converter.calls(), asked + 1, "a list is converted in one call");
    assert_eq!(converter.asked.lock().last().unwrap()["objects"].as_array().unwrap().len(), 3);
    let table = world.table(OLD).await;
    assert_eq!(table["rows"][1]["cells"], json!(["b", "b.example:80"]));

    let patched = world
        .expect(
            StatusCode::OK,
            Method::PATCH,
            &format!("{OLD}/a"),
            Some(json!({"spec": {"hostPort": "z.example:81"}})),
        )
        .await;
    assert_eq!(patched["spec"]["hostPort"], "z.example:81");
    let mut whole = world.get(&format!("{NEW}/a")).await;
    assert_eq!(whole["spec"], json!({"host": "z.example", "port": "81"}));
    whole["spec"]["port"] = "82".into();
    world.expect(StatusCode::OK, Method::PUT, &format!("{NEW}/a"), Some(whole)).await;
    assert_eq!(world.get(&format!("{OLD}/a")).await["spec"]["hostPort"], "z.example:82");
    let dry = old("d", "d.example:1");
    let dry = world.expect(StatusCode::CREATED, Method::POST, &format!("{OLD}?dryRun=All"), Some(dry)).await;
    assert_eq!(dry["spec"]["hostPort"], "d.example:1");
    world.expect(StatusCode::OK, Method::DELETE, &format!("{OLD}/b"), None).await;
    world.expect(StatusCode::OK, Method::DELETE, OLD, None).await;
    assert_eq!(world.get(NEW).await["items"], json!([]));
}

#[tokio::test]
async fn a_list_is_converted_however_long_it_is() {
    let (world, converter) = World::converting().await;
    // All together they are longer than an answer that is read.
    let note = "x".repeat(1_400_000);
    for number in 0..7 {
        let place = json!({"apiVersion": "net.example.com/v1", "kind": "Place", "metadata": {"name": format!("p{number}")},
            "spec": {"host": "h", "port": "1", "note": note}});
        world.expect(StatusCode::CREATED, Method::POST, NEW, Some(place)).await;
    }
    let list = world.get(OLD).await;
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 7);
    assert!(items.iter().all(|item| item["spec"]["hostPort"] == "h:1"));
    assert!(converter.calls() > 1);
}

#[tokio::test]
async fn objects_of_the_former_storage_version_are_converted_from_it() {
    let (world, converter) = World::converting().await;
    world.expect(StatusCode::CREATED, Method::POST, OLD, Some(old("a", "a.example:80"))).await;
    let turned = json!({"spec": {"versions": [{"storage": false}, {"storage": true}]}});
    let mut definition = world.get(&format!("{CRDS}/places.net.example.com")).await;
    for (at, version) in turned["spec"]["versions"].as_array().unwrap().iter().enumerate() {
        definition["spec"]["versions"][at]["storage"] = version["storage"].clone();
    }
    let path = format!("{CRDS}/places.net.example.com");
    let definition = world.expect(StatusCode::OK, Method::PUT, &path, Some(definition)).await;
    assert_eq!(definition["status"]["storedVersions"], json!(["v1", "v1beta1"]));
    world.expect(StatusCode::CREATED, Method::POST, OLD, Some(old("b", "b.example:80"))).await;
    let asked = converter.calls();
    let list = world.get(NEW).await;
    assert_eq!(list["items"][0]["spec"]["host"], "a.example");
    assert_eq!(list["items"][1]["spec"]["host"], "b.example");
    let sent = converter.asked.lock().last().unwrap()["objects"].clone();
    assert_eq!(
        (converter.calls(), sent.as_array().unwrap().len()),
        (asked + 1, 1),
        "only what is of another version is sent"
    );
}

#[tokio::test]
async fn a_watch_tells_every_change_in_its_version() {
    let (world, _converter) = World::converting().await;
    world.expect(StatusCode::CREATED, Method::POST, OLD, Some(old("a", "a.example:80"))).await;
    let watch = async || {
        let request = Request::get(format!("{OLD}?watch=1&timeoutSeconds=20"));
        let request = request.body(Full::<Bytes>::default()).unwrap();
        world.server.service().oneshot(request).await.unwrap().into_body()
    };
    let at = format!("{NEW}/a");
    let mut body = watch().await;
    let first = next(&mut body).await;
    world.expect(StatusCode::OK, Method::PATCH, &at, Some(json!({"spec": {"port": "81"}}))).await;
    let second = next(&mut body).await;
    world.expect(StatusCode::OK, Method::DELETE, &at, None).await;
    let third = next(&mut body).await;
    let told = [&first, &second, &third].map(|frame| (&frame["type"], &frame["object"]["spec"]["hostPort"]));
    let wanted = [("ADDED", 80), ("MODIFIED", 81), ("DELETED", 81)];
    for (told, (kind, port)) in told.into_iter().zip(wanted) {
        assert_eq!(told, (&json!(kind), &json!(format!("a.example:{port}"))));
    }

    // A change that cannot be converted ends the watch with an error.
    world.expect(StatusCode::CREATED, Method::POST, OLD, Some(old("a", "a.example:80"))).await;
    let mut body = watch().await;
    assert_eq!(next(&mut body).await["type"], "ADDED");
    let poison = json!({"spec": {"note": "poison"}});
    world.expect(StatusCode::OK, Method::PATCH, &at, Some(poison)).await;
    let frame = next(&mut body).await;
    assert_eq!(
        (&frame["type"], &frame["object"]["message"]),
        (
            &json!("ERROR"),
            &json!(
                "Internal error occurred: conversion webhook for net.example.com/v1, Kind=Place failed: poisoned"
            )
        )
    );
    assert!(body.frame().await.is_none(), "that was the end");
}

#[tokio::test]
async fn fields_are_selected_by_as_the_version_that_was_asked_for_has_them() {
    let (world, converter) = (World::new().await, Converter::new().await);
    let mut definition = places(&converter.server.config());
    let versions = definition["spec"]["versions"].as_array_mut().unwrap();
    versions[0]["selectableFields"] = json!([{"jsonPath": ".spec.host"}, {"jsonPath": ".spec.port"}]);
    versions[1]["selectableFields"] = json!([{"jsonPath": ".spec.hostPort"}]);
    world.expect(StatusCode::CREATED, Method::POST, CRDS, Some(definition)).await;
    for (name, at) in [("a", "one:80"), ("b", "one:8080"), ("c", "two:80")] {
        world.expect(StatusCode::CREATED, Method::POST, OLD, Some(old(name, at))).await;
    }
    let names = async |path: String| -> (Vec<String>, Value) {
        let list = world.get(&path).await;
        let items = list["items"].as_array().unwrap().iter();
        let names = items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect();
        (names, list)
    };
    assert_eq!(names(format!("{NEW}?fieldSelector=spec.host%3Done")).await.0, ["a", "b"]);
    assert_eq!(names(format!("{NEW}?fieldSelector=spec.host%3Done,spec.port%3D80")).await.0, ["a"]);
    assert_eq!(names(format!("{OLD}?fieldSelector=spec.hostPort%3Done:80")).await.0, ["a"]);
    assert_eq!(names(format!("{OLD}?fieldSelector=spec.hostPort!%3Done:80")).await.0, ["b", "c"]);
    let selected = format!("{OLD}?fieldSelector=spec.hostPort!%3Dtwo:80&limit=1");
    let (first, list) = names(selected.clone()).await;
    let token = list["metadata"]["continue"].as_str().unwrap();
    assert_eq!(list["metadata"]["remainingItemCount"], Value::Null);
    let (second, list) = names(format!("{selected}&continue={token}")).await;
    assert_eq!((first, second), (vec!["a".to_owned()], vec!["b".to_owned()]));
    assert_eq!(list["metadata"]["continue"], "");

    let watched = format!("{OLD}?watch=1&timeoutSeconds=20&fieldSelector=spec.hostPort%3Dtwo:80");
    let request = Request::get(watched).body(Full::<Bytes>::default()).unwrap();
    let mut body = world.server.service().oneshot(request).await.unwrap().into_body();
    let frame = next(&mut body).await;
    assert_eq!((&frame["type"], &frame["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("c")));
    // One that nobody asked for, one that comes into view, changes, and leaves it.
    for (name, at) in [("b", "one:81"), ("a", "two:80"), ("a", "three:80")] {
        let object =
            json!({"spec": {"host": at.split_once(':').unwrap().0, "port": at.split_once(':').unwrap().1}});
        world.expect(StatusCode::OK, Method::PATCH, &format!("{NEW}/{name}"), Some(object)).await;
    }
    for (kind, at) in [("ADDED", "two:80"), ("DELETED", "two:80")] {
        let frame = next(&mut body).await;
        assert_eq!((&frame["type"], &frame["object"]["metadata"]["name"]), (&json!(kind), &json!("a")));
        assert_eq!(frame["object"]["spec"]["hostPort"], at);
    }
    let gone = format!("{OLD}?fieldSelector=spec.hostPort%3Dtwo:80");
    world.expect(StatusCode::OK, Method::DELETE, &gone, None).await;
    let frame = next(&mut body).await;
    assert_eq!((&frame["type"], &frame["object"]["metadata"]["name"]), (&json!("DELETED"), &json!("c")));
    assert_eq!(names(NEW.to_owned()).await.0, ["a", "b"]);
}

#[tokio::test]
async fn failures_are_told_in_kubernetes_words() {
    let (world, converter) = World::converting().await;
    let mut stored = old("a", "a.example:80");
    stored["metadata"]["labels"] = json!({"l": "1"});
    world.expect(StatusCode::CREATED, Method::POST, OLD, Some(stored)).await;
    let refused = async |spoil: fn(&mut Value)| {
        // A changed definition forgets what it has converted.
        let touch = json!({"metadata": {"annotations": {"touched": uuid::Uuid::new_v4().to_string()}}});
        world
            .expect(StatusCode::OK, Method::PATCH, &format!("{CRDS}/places.net.example.com"), Some(touch))
            .await;
        converter.spoil(spoil);
        let status =
            world.expect(StatusCode::INTERNAL_SERVER_ERROR, Method::GET, &format!("{OLD}/a"), None).await;
        assert!(status["reason"].is_null(), "{status}");
        status["message"].as_str().unwrap().to_owned()
    };
    let head = "conversion webhook for net.example.com/v1, Kind=Place";
    assert_eq!(
        refused(|review| review["response"]["result"] = json!({"status": "Failed", "message": "no idea"}))
            .await,
        format!("{head} failed: no idea")
    );
    assert_eq!(
        refused(|review| review["response"]["result"] = json!({"status": "Failed"})).await,
        format!("{head} failed: response.result.status was 'Failed', not 'Success'")
    );
    assert_eq!(
        refused(|review| review["response"]["convertedObjects"] = json!([])).await,
        format!("{head} returned 0 objects, expected 1")
    );
    assert_eq!(
        refused(
            |review| review["response"]["convertedObjects"][0]["apiVersion"] = "net.example.com/v2".into()
        )
        .await,
        format!(
            "{head} returned invalid object at index 0: invalid groupVersion (expected net.example.com/v1beta1, received net.example.com/v2)"
        )
    );
    assert_eq!(
        refused(|review| review["response"]["convertedObjects"][0]["metadata"]["name"] = "b".into()).await,
        format!("{head} returned invalid object: must have the same name: a != b")
    );
    assert_eq!(
        refused(|review| review["response"]["convertedObjects"][0]["metadata"]["labels"] = json!({"l": 2}))
            .await,
        format!(
            "{head} returned invalid metadata: metadata.labels[l] must be a string, but is int64 in converted object"
        )
    );
    // Labels and annotations are the webhook's, the rest of metadata is not.
    converter.spoil(|review| {
        let metadata = &mut review["response"]["convertedObjects"][0]["metadata"];
        metadata["labels"] = json!({"m": "2"});
        metadata["finalizers"] = json!(["example.com/mine"]);
    });
    let touch = json!({"metadata": {"annotations": {"touched": "at last"}}});
    world.expect(StatusCode::OK, Method::PATCH, &format!("{CRDS}/places.net.example.com"), Some(touch)).await;
    let seen = world.get(&format!("{OLD}/a")).await;
    assert_eq!(
        (&seen["metadata"]["labels"], &seen["metadata"]["finalizers"]),
        (&json!({"m": "2"}), &Value::Null)
    );
}

#[tokio::test]
async fn one_that_is_away_is_told_and_one_behind_a_service_is_found() {
    let (world, converter) = (World::new().await, Converter::new().await);
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let url = format!("https://127.0.0.1:{closed}/convert");
    world.expect(StatusCode::CREATED, Method::POST, CRDS, Some(places(&json!({"url": url})))).await;
    let status =
        world.expect(StatusCode::INTERNAL_SERVER_ERROR, Method::POST, OLD, Some(old("a", "a:1"))).await;
    assert_eq!(
        status["message"],
        format!(
            "conversion webhook for net.example.com/v1beta1, Kind=Place failed: Post \"{url}?timeout=30s\": dial tcp 127.0.0.1:{closed}: connect: connection refused"
        )
    );
    assert_eq!(world.get(NEW).await["items"], json!([]), "nothing was stored");

    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hooks"}, "spec": {"ports": [{"port": 443}]}});
    world.expect(StatusCode::CREATED, Method::POST, "/api/v1/namespaces/demo/services", Some(service)).await;
    let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "hooks"},
        "subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"port": converter.server.port}]}]});
    world
        .expect(StatusCode::CREATED, Method::POST, "/api/v1/namespaces/demo/endpoints", Some(endpoints))
        .await;
    let client = json!({"service": {"namespace": "demo", "name": "hooks", "path": "/convert"}, "caBundle": converter.server.bundle(), "url": null});
    let patch = json!({"spec": {"conversion": {"webhook": {"clientConfig": client}}}});
    world.expect(StatusCode::OK, Method::PATCH, &format!("{CRDS}/places.net.example.com"), Some(patch)).await;
    world.expect(StatusCode::CREATED, Method::POST, OLD, Some(old("a", "a:1"))).await;
}

#[tokio::test]
async fn appliers_of_two_versions_own_fields_in_their_own_version() {
    let (world, _converter) = World::converting().await;
    let place = format!("{OLD}/a");
    let (code, _) = world.apply(&place, "one", &old("a", "a.example:80")).await;
    assert_eq!(code, StatusCode::CREATED);
    let new = |spec: Value| json!({"apiVersion": "net.example.com/v1", "kind": "Place", "metadata": {"name": "a"}, "spec": spec});
    let place = format!("{NEW}/a");
    let (code, both) = world.apply(&place, "two", &new(json!({"note": "mine"}))).await;
    assert_eq!(code, StatusCode::OK, "{both}");
    let managers: Vec<_> = both["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["manager"].clone(), entry["apiVersion"].clone()))
        .collect();
    assert_eq!(
        managers,
        [(json!("one"), json!("net.example.com/v1beta1")), (json!("two"), json!("net.example.com/v1"))]
    );
    let (code, status) = world.apply(&place, "two", &new(json!({"note": "mine", "port": "81"}))).await;
    assert_eq!(code, StatusCode::CONFLICT, "{status}");
    assert_eq!(status["details"]["causes"][0]["field"], ".spec.hostPort", "{status}");
    assert_eq!(status["details"]["causes"][0]["message"], "conflict with \"one\"");
    // Whoever applies in another version is still the same, and what he does not name any more goes.
    let (code, last) = world.apply(&place, "one", &new(json!({"host": "b.example", "port": "80"}))).await;
    assert_eq!(code, StatusCode::OK, "{last}");
    assert_eq!(last["spec"], json!({"host": "b.example", "port": "80", "note": "mine"}));
    let (code, last) = world.apply(&place, "one", &new(json!({}))).await;
    assert_eq!((code, &last["spec"]), (StatusCode::OK, &json!({"note": "mine"})));
}

#[tokio::test]
async fn a_conversion_that_fails_for_a_policy_is_a_failure_of_the_policy() {
    let (world, converter) = World::converting().await;
    let group = "/apis/admissionregistration.k8s.io/v1";
    let rules = json!([{"apiGroups": ["net.example.com"], "apiVersions": ["v1beta1"], "operations": ["*"], "resources": ["places"]}]);
    let sorts = [
        (
            "Validating",
            "validatingadmissionpolicies",
            "validations",
            json!([{"expression": "true"}]),
            json!({"validationActions": ["Deny"]}),
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (
            "Mutating",
            "mutatingadmissionpolicies",
            "mutations",
            json!([{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]),
            json!({}),
            StatusCode::FORBIDDEN,
        ),
    ];
    for (sort, plural, work, steps, mut bound, refused) in sorts {
        let policies = format!("{group}/{plural}");
        let bindings = format!("{}policybindings", policies.trim_end_matches("policies"));
        let mut policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{sort}AdmissionPolicy"), "metadata": {"name": "old"},
            "spec": {"failurePolicy": "Ignore", "matchConstraints": {"resourceRules": rules}},
        });
        policy["spec"][work] = steps;
        bound["policyName"] = "old".into();
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{sort}AdmissionPolicyBinding"),
            "metadata": {"name": "old"}, "spec": bound,
        });
        world.expect(StatusCode::CREATED, Method::POST, &policies, Some(policy)).await;
        world.expect(StatusCode::CREATED, Method::POST, &bindings, Some(binding)).await;
        // What is written in the version in which it is stored is converted for the policy alone.
        let place = |name: &str| json!({"apiVersion": "net.example.com/v1", "kind": "Place", "metadata": {"name": name}, "spec": {"note": "poison"}});
        let before = converter.calls();
        world.expect(StatusCode::CREATED, Method::POST, NEW, Some(place(&sort.to_lowercase()))).await;
        assert!(converter.calls() > before, "{sort}: the policy was to see another version");
        let strict = json!({"spec": {"failurePolicy": "Fail"}});
        world.expect(StatusCode::OK, Method::PATCH, &format!("{policies}/old"), Some(strict)).await;
        let status = world.expect(refused, Method::POST, NEW, Some(place("strict"))).await;
        let message = status["message"].as_str().unwrap();
        assert!(message.contains("failed to convert object version"), "{status}");
        world.expect(StatusCode::OK, Method::DELETE, &format!("{bindings}/old"), None).await;
        world.expect(StatusCode::OK, Method::DELETE, &format!("{policies}/old"), None).await;
    }
}
