//! CustomResourceDefinitions, and the kinds that they bring.

use std::sync::Arc;

use bytes::Bytes;
use federation_apiserver::housekeeping;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::world::World;

pub(crate) const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
pub(crate) const TABS: &str = "/apis/stable.example.com/v1/namespaces/demo/crontabs";

pub(crate) fn crontabs() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {
            "group": "stable.example.com", "scope": "Namespaced",
            "names": {"plural": "crontabs", "kind": "CronTab", "shortNames": ["ct"], "categories": ["all"]},
            "versions": [
                {"name": "v1", "served": true, "storage": true,
                 "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "required": ["cronSpec"], "properties": {
                        "cronSpec": {"type": "string", "pattern": r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$"},
                        "image": {"type": "string", "default": "busybox"},
                        "replicas": {"type": "integer", "minimum": 0, "maximum": 10},
                        "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                            "items": {"type": "object", "required": ["name"], "properties": {
                                "name": {"type": "string"}, "port": {"x-kubernetes-int-or-string": true}}}},
                    }},
                    "status": {"type": "object", "properties": {"replicas": {"type": "integer"}, "selector": {"type": "string"}}},
                 }}},
                 "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                    "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
                 "selectableFields": [{"jsonPath": ".spec.image"}],
                 "additionalPrinterColumns": [
                    {"name": "Spec", "type": "string", "jsonPath": ".spec.cronSpec"},
                    {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas", "priority": 1},
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                 ]},
                {"name": "v1beta1", "served": true, "storage": false, "deprecated": true,
                 "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}},
            ],
        },
    })
}

pub(crate) fn tab(name: &str) -> Value {
    json!({
        "apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": name},
        "spec": {"cronSpec": "* * * * */5", "replicas": 1},
    })
}

impl World {
    pub(crate) async fn with_crontabs() -> Self {
        let world = Self::new().await;
        world.expect(StatusCode::CREATED, Method::POST, CRDS, Some(crontabs())).await;
        world
    }

    pub(crate) async fn keep_house(&self, until: impl AsyncFn() -> bool) {
        let table = Arc::new(self.server.kind_table());
        let storage = self.server.storage().clone();
        let mut housekeeping = housekeeping::Service::new(storage, table, housekeeping::Options::default());
        while !until().await {
            housekeeping.step(true).await;
        }
    }

    pub(crate) async fn warnings(&self, request: Request<Full<Bytes>>) -> (StatusCode, Vec<String>, Value) {
        let response = self.server.service().oneshot(request).await.unwrap();
        let warnings = response.headers().get_all("warning").iter();
        let warnings = warnings.map(|value| value.to_str().unwrap().to_owned()).collect();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, warnings, serde_json::from_slice(&body).unwrap_or_default())
    }
}

pub(crate) fn with_type(
    method: Method,
    path: &str,
    content_type: &str,
    body: &Value,
) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content_type)
        .body(Full::from(body.to_string()))
        .unwrap()
}

#[tokio::test]
async fn a_definition_is_completed_and_its_kind_established() {
    let world = World::new().await;
    let made = world.expect(StatusCode::CREATED, Method::POST, CRDS, Some(crontabs())).await;
    assert_eq!(made["spec"]["names"]["listKind"], "CronTabList");
    assert_eq!(made["spec"]["names"]["singular"], "crontab");
    assert_eq!(made["spec"]["conversion"]["strategy"], "None");
    let nothing =
        json!({"conditions": null, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": ["v1"]});
    assert_eq!(made["status"], nothing, "nobody has looked at it when it is made");
    let path = format!("{CRDS}/crontabs.stable.example.com");
    let settled = world.expect(StatusCode::OK, Method::GET, &path, None).await;
    assert_eq!(settled["status"]["acceptedNames"], made["spec"]["names"]);
    assert_eq!(settled["status"]["storedVersions"], json!(["v1"]));
    let kinds: Vec<_> =
        settled["status"]["conditions"].as_array().unwrap().iter().map(|c| &c["type"]).collect();
    assert_eq!(kinds, ["NamesAccepted", "Established"]);
    let owners = settled["metadata"]["managedFields"].as_array().unwrap();
    let owner = owners.iter().find(|entry| entry["subresource"] == "status").unwrap();
    assert_eq!((&owner["manager"], &owner["operation"]), (&json!("kube-apiserver"), &json!("Update")));
    assert!(owner["fieldsV1"]["f:status"]["f:conditions"].is_object(), "{owner}");
    let path = format!("{path}/status");
    let patched = world.expect(StatusCode::OK, Method::PATCH, &path, Some(json!({"status": null}))).await;
    assert_eq!(patched["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(patched["status"]["acceptedNames"], made["spec"]["names"]);
}

#[tokio::test]
async fn a_faulty_definition_is_refused_with_all_errors() {
    let world = World::new().await;
    let mut object = crontabs();
    object["metadata"]["name"] = "wrong.example.com".into();
    object["spec"]["scope"] = "Planet".into();
    object["spec"]["versions"][1]["storage"] = true.into();
    object["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["x"] =
        json!({"description": "no type"});
    object["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["image"]
        ["default"] = 7.into();
    let status = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, CRDS, Some(object)).await;
    let message = status["message"].as_str().unwrap();
    assert_eq!(status["details"]["causes"][0]["field"], "metadata.name", "{status}");
    for part in [
        r#"metadata.name: Invalid value: "wrong.example.com": must be spec.names.plural+"."+spec.group"#,
        r#"spec.scope: Unsupported value: "Planet": supported values: "Cluster", "Namespaced""#,
        "must have exactly one version marked as storage version",
        "spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[x].type: Required value: must not be empty for specified object fields",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
}

#[tokio::test]
async fn objects_are_pruned_defaulted_and_validated() {
    let world = World::with_crontabs().await;
    let mut object = tab("a");
    object["spec"]["colour"] = "red".into();
    object["metadata"]["nonsense"] = 1.into();
    let (code, warnings, made) =
        world.warnings(with_type(Method::POST, TABS, "application/json", &object)).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    assert_eq!(made["spec"], json!({"cronSpec": "* * * * */5", "image": "busybox", "replicas": 1}));
    assert_eq!(made["metadata"]["generation"], 1);
    assert!(warnings.iter().any(|text| text.contains(r#"unknown field \"spec.colour\""#)), "{warnings:?}");
    let strict = format!("{TABS}?fieldValidation=Strict");
    object["metadata"]["name"] = "b".into();
    let status = world.expect(StatusCode::BAD_REQUEST, Method::POST, &strict, Some(object)).await;
    assert!(
        status["message"].as_str().unwrap().contains(
            r#"strict decoding error: unknown field "metadata.nonsense", unknown field "spec.colour""#
        ),
        "{status}"
    );
    let mut wrong = tab("c");
    wrong["spec"] = json!({"cronSpec": "never", "replicas": 11, "image": 3});
    let status = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, TABS, Some(wrong)).await;
    assert_eq!(
        status["message"],
        r#"CronTab.stable.example.com "c" is invalid: [spec.cronSpec: Invalid value: "never": spec.cronSpec in body should match '^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$', spec.image: Invalid value: "integer": spec.image in body must be of type string: "integer", spec.replicas: Invalid value: 11: spec.replicas in body should be less than or equal to 10]"#
    );
    let mut bare = tab("d");
    bare.as_object_mut().unwrap().remove("kind");
    let status = world.expect(StatusCode::BAD_REQUEST, Method::POST, TABS, Some(bare)).await;
    let unknown =
        "the object provided is unrecognized (must be of type CronTab): Object 'Kind' is missing in '{";
    assert!(status["message"].as_str().unwrap().starts_with(unknown), "{status}");
    let status = world
        .expect(StatusCode::UNPROCESSABLE_ENTITY, Method::PUT, &format!("{TABS}/a"), Some(tab("a")))
        .await;
    assert_eq!(
        status["details"]["causes"][0]["message"],
        "Invalid value: 0: must be specified for an update"
    );
}

#[tokio::test]
async fn discovery_and_openapi_follow_the_definitions() {
    let world = World::new().await;
    let index = |value: Value| value["paths"]["apis/stable.example.com/v1"]["serverRelativeURL"].clone();
    assert!(index(world.expect(StatusCode::OK, Method::GET, "/openapi/v3", None).await).is_null());
    world.expect(StatusCode::NOT_FOUND, Method::GET, TABS, None).await;
    world.expect(StatusCode::CREATED, Method::POST, CRDS, Some(crontabs())).await;
    let group = world.expect(StatusCode::OK, Method::GET, "/apis/stable.example.com", None).await;
    let versions: Vec<_> = group["versions"].as_array().unwrap().iter().map(|v| &v["version"]).collect();
    assert_eq!(versions, ["v1", "v1beta1"]);
    let list = world.expect(StatusCode::OK, Method::GET, "/apis/stable.example.com/v1", None).await;
    let names: Vec<_> = list["resources"].as_array().unwrap().iter().map(|r| &r["name"]).collect();
    assert_eq!(names, ["crontabs", "crontabs/status", "crontabs/scale"]);
    let verbs = json!(["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"]);
    assert_eq!(list["resources"][0]["verbs"], verbs);
    assert_eq!(list["resources"][0]["shortNames"], json!(["ct"]));
    let url = index(world.expect(StatusCode::OK, Method::GET, "/openapi/v3", None).await);
    let document = world.expect(StatusCode::OK, Method::GET, url.as_str().unwrap(), None).await;
    let definition = &document["components"]["schemas"]["com.example.stable.v1.CronTab"];
    assert_eq!(definition["properties"]["spec"]["properties"]["replicas"]["maximum"], 10);
    assert_eq!(definition["x-kubernetes-group-version-kind"][0]["kind"], "CronTab");
    world.expect(StatusCode::OK, Method::DELETE, &format!("{CRDS}/crontabs.stable.example.com"), None).await;
    world
        .keep_house(async || {
            world.request(Method::GET, "/apis/stable.example.com", None).await.0 == StatusCode::NOT_FOUND
        })
        .await;
    assert!(index(world.expect(StatusCode::OK, Method::GET, "/openapi/v3", None).await).is_null());
}

#[tokio::test]
async fn status_and_scale_have_a_life_of_their_own() {
    let world = World::with_crontabs().await;
    let mut object = tab("a");
    object["status"] = json!({"replicas": 9});
    let made = world.expect(StatusCode::CREATED, Method::POST, TABS, Some(object)).await;
    assert!(made.get("status").is_none());
    let path = format!("{TABS}/a");
    let patch = json!({"status": {"replicas": 3, "selector": "a=b"}, "spec": {"replicas": 7}});
    let patched = world.expect(StatusCode::OK, Method::PATCH, &format!("{path}/status"), Some(patch)).await;
    assert_eq!((&patched["spec"]["replicas"], &patched["metadata"]["generation"]), (&json!(1), &json!(1)));
    let scale = world.expect(StatusCode::OK, Method::GET, &format!("{path}/scale"), None).await;
    assert_eq!(scale["spec"]["replicas"], 1);
    assert_eq!(scale["status"], json!({"replicas": 3, "selector": "a=b"}));
    let patch = json!({"spec": {"replicas": 4}});
    world.expect(StatusCode::OK, Method::PATCH, &format!("{path}/scale"), Some(patch)).await;
    let found = world.expect(StatusCode::OK, Method::GET, &path, None).await;
    assert_eq!((&found["spec"]["replicas"], &found["metadata"]["generation"]), (&json!(4), &json!(2)));
    let patch = json!({"spec": {"replicas": 40}});
    world
        .expect(StatusCode::UNPROCESSABLE_ENTITY, Method::PATCH, &format!("{path}/scale"), Some(patch))
        .await;
}

#[tokio::test]
async fn all_versions_are_one_set_of_objects() {
    let world = World::with_crontabs().await;
    world.expect(StatusCode::CREATED, Method::POST, TABS, Some(tab("a"))).await;
    let beta = "/apis/stable.example.com/v1beta1/namespaces/demo/crontabs/a";
    let request = Request::get(beta).body(Full::default()).unwrap();
    let (_, warnings, found) = world.warnings(request).await;
    assert_eq!(found["apiVersion"], "stable.example.com/v1beta1");
    assert_eq!(found["spec"]["cronSpec"], "* * * * */5");
    assert_eq!(
        warnings,
        [r#"299 - "stable.example.com/v1beta1 CronTab is deprecated; use stable.example.com/v1 CronTab""#]
    );
    let chosen = world
        .expect(StatusCode::OK, Method::GET, &format!("{TABS}?fieldSelector=spec.image=busybox"), None)
        .await;
    assert_eq!(chosen["items"].as_array().unwrap().len(), 1);
    assert_eq!(chosen["kind"], "CronTabList");
    let none =
        world.expect(StatusCode::OK, Method::GET, &format!("{TABS}?fieldSelector=spec.image=x"), None).await;
    assert!(none["items"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn a_table_has_the_printer_columns() {
    let world = World::with_crontabs().await;
    world.expect(StatusCode::CREATED, Method::POST, TABS, Some(tab("a"))).await;
    let request = Request::get(TABS)
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Full::default())
        .unwrap();
    let (_, table) = world.send(request).await;
    let names: Vec<_> = table["columnDefinitions"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
    assert_eq!(names, ["Name", "Spec", "Replicas", "Age"]);
    assert_eq!(table["columnDefinitions"][0]["description"], apimachinery::table::NAME_DESCRIPTION);
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(cells[..3], [json!("a"), json!("* * * * */5"), json!(1)]);
}

#[tokio::test]
async fn appliers_own_the_entries_of_list_maps() {
    let world = World::with_crontabs().await;
    let apply = async |manager: &str, name: &str, port: Value| {
        let body = json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": "a"},
            "spec": {"cronSpec": "* * * * */5", "ports": [{"name": name, "port": port}]}});
        let path = format!("{TABS}/a?fieldManager={manager}");
        world.send(with_type(Method::PATCH, &path, "application/apply-patch+yaml", &body)).await
    };
    assert_eq!(apply("one", "http", 80.into()).await.0, StatusCode::CREATED);
    let (code, both) = apply("two", "https", "tls".into()).await;
    assert_eq!(code, StatusCode::OK, "{both}");
    assert_eq!(both["spec"]["ports"].as_array().unwrap().len(), 2);
    let (code, status) = apply("two", "http", 81.into()).await;
    assert_eq!(code, StatusCode::CONFLICT);
    assert!(status["message"].as_str().unwrap().contains(r#".spec.ports[name="http"].port"#), "{status}");
    let strategic =
        with_type(Method::PATCH, &format!("{TABS}/a"), "application/strategic-merge-patch+json", &json!({}));
    assert_eq!(world.send(strategic).await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn a_changed_schema_counts_for_what_is_stored() {
    let world = World::with_crontabs().await;
    world.expect(StatusCode::CREATED, Method::POST, TABS, Some(tab("a"))).await;
    let path = format!("{CRDS}/crontabs.stable.example.com");
    let mut object = world.expect(StatusCode::OK, Method::GET, &path, None).await;
    let spec = &mut object["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    spec["properties"]["newer"] = json!({"type": "string", "default": "here"});
    spec["properties"]["replicas"]["maximum"] = 0.into();
    spec["properties"].as_object_mut().unwrap().remove("ports");
    world.expect(StatusCode::OK, Method::PUT, &path, Some(object)).await;
    let found = world.expect(StatusCode::OK, Method::GET, &format!("{TABS}/a"), None).await;
    assert_eq!(found["spec"]["newer"], "here");
    // One replica is too many now, but it was there before.
    let patch = json!({"spec": {"image": "other"}});
    world.expect(StatusCode::OK, Method::PATCH, &format!("{TABS}/a"), Some(patch)).await;
    let patch = json!({"spec": {"replicas": 2}});
    world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::PATCH, &format!("{TABS}/a"), Some(patch)).await;
}

/// Who scales what says no number yet says the first one; until then there is no Scale to be seen.
#[tokio::test]
async fn a_scale_says_the_first_number() {
    let world = World::new().await;
    let scale = json!({"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"});
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition = json!({
        "metadata": {"name": "tanks.e.com"},
        "spec": {
            "group": "e.com", "scope": "Namespaced", "names": {"plural": "tanks", "kind": "Tank"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"scale": scale},
                "schema": {"openAPIV3Schema": anything}}],
        },
    });
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    world.expect(StatusCode::CREATED, Method::POST, definitions, Some(definition)).await;
    let tanks = "/apis/e.com/v1/namespaces/demo/tanks";
    let tank = json!({"apiVersion": "e.com/v1", "kind": "Tank", "metadata": {"name": "a"}});
    world.expect(StatusCode::CREATED, Method::POST, tanks, Some(tank)).await;
    let path = format!("{tanks}/a/scale");
    world.expect(StatusCode::INTERNAL_SERVER_ERROR, Method::GET, &path, None).await;
    let patch = json!({"spec": {"replicas": 4}});
    let scaled = world.expect(StatusCode::OK, Method::PATCH, &path, Some(patch)).await;
    assert_eq!(scaled["spec"]["replicas"], 4);
    let found = world.expect(StatusCode::OK, Method::GET, &format!("{tanks}/a"), None).await;
    assert_eq!(found["spec"]["size"], 4);
}

/// As kube-apiserver reads objects of custom kinds: nulls where there can be none are nothing, and whole numbers are integers.
#[tokio::test]
async fn nulls_and_numbers_are_read_as_go_reads_them() {
    let world = World::new().await;
    let properties = json!({
        "count": {"type": "integer"}, "ratio": {"type": "number"}, "name": {"type": "string", "default": "x"},
        "any": {"x-kubernetes-preserve-unknown-fields": true}, "small": {"type": "integer", "format": "int32"},
    });
    let schema =
        json!({"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}});
    let definition = json!({
        "metadata": {"name": "tanks.e.com"},
        "spec": {
            "group": "e.com", "scope": "Namespaced", "names": {"plural": "tanks", "kind": "Tank"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    });
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    world.expect(StatusCode::CREATED, Method::POST, definitions, Some(definition)).await;
    let tanks = "/apis/e.com/v1/namespaces/demo/tanks";
    let spec = json!({
        "count": null, "name": null, "ratio": 2.0, "small": 3.0,
        "any": {"a": 1.0, "b": null, "c": 1.5, "d": 1e3},
    });
    let tank = json!({"apiVersion": "e.com/v1", "kind": "Tank", "metadata": {"name": "a"}, "spec": spec});
    let made = world.expect(StatusCode::CREATED, Method::POST, tanks, Some(tank.clone())).await;
    let any = json!({"a": 1, "b": null, "c": 1.5, "d": 1000});
    let expect = json!({"name": "x", "ratio": 2, "small": 3, "any": any});
    assert_eq!(made["spec"], expect);
    let mut nameless = tank;
    nameless["apiVersion"] = json!("");
    let status = world.expect(StatusCode::BAD_REQUEST, Method::POST, tanks, Some(nameless)).await;
    let message = "the API version in the data () does not match the expected API version (e.com/v1)";
    assert_eq!(status["message"], message);
}

/// A custom kind may be named like one that pods are bound with.
#[tokio::test]
async fn a_custom_binding_binds_no_pod() {
    let world = World::new().await;
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "bindings.stable.example.com"},
        "spec": {
            "group": "stable.example.com", "scope": "Namespaced", "names": {"plural": "bindings", "kind": "Binding"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    });
    world.expect(StatusCode::CREATED, Method::POST, CRDS, Some(definition)).await;
    let path = "/apis/stable.example.com/v1/namespaces/demo/bindings";
    let own = json!({"apiVersion": "stable.example.com/v1", "kind": "Binding", "metadata": {"name": "a"}});
    world.expect(StatusCode::CREATED, Method::POST, path, Some(own)).await;
    let pods =
        json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "b"}, "target": {"name": "n"}});
    world.expect(StatusCode::BAD_REQUEST, Method::POST, path, Some(pods)).await;
}

#[tokio::test]
async fn the_metadata_of_an_object_within_an_object_is_that_of_any_object() {
    let world = World::new().await;
    let mut object = crontabs();
    object["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["template"] = json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true});
    world.expect(StatusCode::CREATED, Method::POST, CRDS, Some(object)).await;
    let mut object = tab("a");
    let metadata = json!({"name": "t", "foo": "b", "labels": {"c": "d"}});
    object["spec"]["template"] = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "foo": "b"});
    let strict = format!("{TABS}?fieldValidation=Strict");
    let status = world.expect(StatusCode::BAD_REQUEST, Method::POST, &strict, Some(object.clone())).await;
    let message = status["message"].as_str().unwrap();
    assert!(
        message.ends_with(r#"strict decoding error: unknown field "spec.template.metadata.foo""#),
        "{message}"
    );
    let (code, warnings, made) =
        world.warnings(with_type(Method::POST, TABS, "application/json", &object)).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    assert!(warnings[0].contains(r#"unknown field \"spec.template.metadata.foo\""#), "{warnings:?}");
    assert_eq!(made["spec"]["template"]["metadata"], json!({"name": "t", "labels": {"c": "d"}}));
    assert_eq!(made["spec"]["template"]["foo"], "b");
}
