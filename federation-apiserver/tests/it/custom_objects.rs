//! How requests on objects of custom kinds are answered: what kube-apiserver does otherwise for them than for built-in ones.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::{
    crd::{CRDS, TABS, crontabs, tab, with_type},
    world::{World, config_map},
};

const MAPS: &str = "/api/v1/namespaces/demo/configmaps";
const APPLY: &str = "application/apply-patch+yaml";

fn get(path: &str, accept: &str) -> Request<Full<Bytes>> {
    Request::builder().uri(path).header("accept", accept).body(Full::default()).unwrap()
}

fn message(status: &Value) -> &str {
    status["message"].as_str().unwrap_or_default()
}

fn causes(status: &Value) -> Vec<String> {
    let causes = status["details"]["causes"].as_array().into_iter().flatten();
    causes
        .map(|cause| format!("{}: {}", cause["field"].as_str().unwrap(), cause["message"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn a_body_that_does_not_say_what_it_is_is_told_apart_from_one_of_another_version() {
    let world = World::with_crontabs().await;
    let head = "the object provided is unrecognized (must be of type CronTab): couldn't get version/kind; json parse error: json: cannot unmarshal number into Go struct field";
    let other =
        "the API version in the data () does not match the expected API version (stable.example.com/v1)";
    for (body, expect) in [
        (json!({"kind": "CronTab"}), other.to_owned()),
        (
            json!({"apiVersion": 5, "kind": "CronTab"}),
            format!("{head} .apiVersion of type string ({{\"apiVersion\":5,\"kind\":\"CronTa ...)"),
        ),
        (json!({"kind": 5}), format!("{head} .kind of type string ({{\"kind\":5}})")),
    ] {
        let status = world.expect(StatusCode::BAD_REQUEST, Method::POST, TABS, Some(body)).await;
        assert_eq!(message(&status), expect);
    }
}

#[tokio::test]
async fn metadata_of_the_wrong_type_is_told_as_that_of_any_object() {
    let world = World::with_crontabs().await;
    let head = r#"CronTab in version "v1" cannot be handled as a CronTab: "#;
    for (metadata, why) in [
        (json!(5), "json: cannot unmarshal number into Go value of type v1.ObjectMeta"),
        (
            json!({"name": "a", "labels": {"x": 5}}),
            "json: cannot unmarshal number into Go struct field ObjectMeta.labels of type string",
        ),
        (
            json!({"name": "a", "managedFields": [{"manager": 5}]}),
            "json: cannot unmarshal number into Go struct field ManagedFieldsEntry.managedFields.manager of type string",
        ),
    ] {
        let mut object = tab("a");
        object["metadata"] = metadata;
        let status = world.expect(StatusCode::BAD_REQUEST, Method::POST, TABS, Some(object)).await;
        assert_eq!(message(&status), format!("{head}{why}"));
    }
    world.expect(StatusCode::CREATED, Method::POST, TABS, Some(tab("a"))).await;
    let patch = json!({"metadata": {"labels": {"x": 5}}});
    let path = format!("{TABS}/a");
    let status = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::PATCH, &path, Some(patch)).await;
    let why = "json: cannot unmarshal number into Go struct field ObjectMeta.labels of type string";
    assert!(message(&status).ends_with(why), "{status}");
}

#[tokio::test]
async fn an_object_within_an_object_is_read_as_one_before_its_fields_are_checked() {
    let world = World::new().await;
    let mut definition = crontabs();
    let schema = json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true});
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["template"] =
        schema;
    world.expect(StatusCode::CREATED, Method::POST, CRDS, Some(definition)).await;
    let of = |template: Value| {
        let mut object = tab("a");
        object["spec"]["template"] = template;
        object
    };
    let head = r#"CronTab in version "v1" cannot be handled as a CronTab: spec.template."#;
    for (template, why) in [
        (
            json!({"apiVersion": "v1", "kind": "X", "metadata": {"labels": {"a": 5}}}),
            r#"metadata: Invalid value: {"labels":{"a":5}}: json: cannot unmarshal number into Go struct field ObjectMeta.labels of type string"#,
        ),
        (json!({"apiVersion": 5, "kind": "X"}), "apiVersion: Invalid value: 5: must be a string"),
    ] {
        let status = world.expect(StatusCode::BAD_REQUEST, Method::POST, TABS, Some(of(template))).await;
        assert_eq!(message(&status), format!("{head}{why}"));
    }
    let empty = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, TABS, Some(of(json!({})))).await;
    let required = ["spec.template.apiVersion: Required value", "spec.template.kind: Required value"];
    assert_eq!(causes(&empty), required);
}

#[tokio::test]
async fn what_is_not_known_is_answered_with_what_is() {
    let world = World::with_crontabs().await;
    world.expect(StatusCode::CREATED, Method::POST, TABS, Some(tab("a"))).await;
    let one = format!("{TABS}/a");
    let (code, _) = world.send(get(&one, "application/*")).await;
    assert_eq!(code, StatusCode::OK);
    let known = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
    let (code, status) = world.send(get(&one, "text/html")).await;
    assert_eq!(code, StatusCode::NOT_ACCEPTABLE);
    assert_eq!(message(&status), format!("only the following media types are accepted: {known}"));
    let (code, status) = world.send(with_type(Method::POST, TABS, "text/plain", &tab("b"))).await;
    assert_eq!(code, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let told = "the body of the request was in an unknown format - accepted media types include: ";
    assert_eq!(message(&status), format!("{told}{known}"));
    // What stands behind a subresource is not looked at; a built-in kind has no such path.
    let path = format!("{one}/status/further/on");
    let found = world.expect(StatusCode::OK, Method::GET, &path, None).await;
    assert_eq!(found["metadata"]["name"], "a");
    world.expect(StatusCode::NOT_FOUND, Method::GET, &format!("{one}/none/further"), None).await;
    let path = "/apis/apps/v1/namespaces/demo/deployments/a/status/x";
    world.expect(StatusCode::NOT_FOUND, Method::GET, path, None).await;
}

#[tokio::test]
async fn the_ownership_of_replicas_goes_through_their_scale_if_there_is_any() {
    let world = World::with_crontabs().await;
    let owners = |object: &Value| -> Vec<(String, bool)> {
        let entries = object["metadata"]["managedFields"].as_array().unwrap().iter();
        let owning = entries.filter(|entry| entry["fieldsV1"]["f:spec"].get("f:replicas").is_some());
        owning
            .map(|entry| (entry["manager"].as_str().unwrap().to_owned(), entry["time"].is_string()))
            .collect()
    };
    world.expect(StatusCode::CREATED, Method::POST, &format!("{TABS}?fieldManager=me"), Some(tab("a"))).await;
    let (one, scale) = (format!("{TABS}/a"), format!("{TABS}/a/scale?fieldManager=hpa"));
    let to = |replicas: i32| Some(json!({"spec": {"replicas": replicas}}));
    world.expect(StatusCode::OK, Method::PATCH, &scale, to(3)).await;
    let found = world.expect(StatusCode::OK, Method::GET, &one, None).await;
    assert_eq!(owners(&found), [("hpa".to_owned(), false)]);
    let configuration = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "a"}, "spec": {"replicas": 4}});
    let apply = |query: &str| {
        with_type(Method::PATCH, &format!("{one}/scale?fieldManager=ap{query}"), APPLY, &configuration)
    };
    let (code, status) = world.send(apply("")).await;
    assert_eq!(code, StatusCode::CONFLICT, "{status}");
    let (code, status) = world.send(apply("&force=true")).await;
    let why = "failed to convert new object (/a; autoscaling/v1, Kind=Scale) to proper version: request to convert CR to an invalid group/version: autoscaling/v1";
    assert_eq!((code, message(&status)), (StatusCode::INTERNAL_SERVER_ERROR, why));
    // Of replicas that nobody owns nobody becomes the owner.
    let mut bare = tab("b");
    bare["spec"].as_object_mut().unwrap().remove("replicas");
    world.expect(StatusCode::CREATED, Method::POST, TABS, Some(bare)).await;
    let two = format!("{TABS}/b");
    world.expect(StatusCode::OK, Method::PATCH, &format!("{two}/scale"), to(2)).await;
    let found = world.expect(StatusCode::OK, Method::GET, &two, None).await;
    assert_eq!((&found["spec"]["replicas"], owners(&found)), (&json!(2), vec![]));
    let nameless = Some(json!({"kind": "Scale"}));
    let status = world.expect(StatusCode::BAD_REQUEST, Method::PUT, &format!("{two}/scale"), nameless).await;
    let why = "the name of the object (b based on URL) was undeterminable: name must be provided";
    assert_eq!(message(&status), why);
}

#[tokio::test]
async fn errors_in_changes_of_metadata_are_told_twice() {
    let world = World::with_crontabs().await;
    let mut held = tab("a");
    held["metadata"]["finalizers"] = json!(["a.io/x"]);
    world.expect(StatusCode::CREATED, Method::POST, TABS, Some(held)).await;
    let path = format!("{TABS}/a");
    world.expect(StatusCode::OK, Method::DELETE, &path, None).await;
    for patch in [
        json!({"metadata": {"uid": "x"}}),
        json!({"metadata": {"finalizers": ["a.io/x", "b.io/y"]}}),
        json!({"metadata": {"labels": {"a b": "c"}}}),
    ] {
        let status = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::PATCH, &path, Some(patch)).await;
        let told = causes(&status);
        assert_eq!((told.len(), &told[0]), (2, &told[1]), "{status}");
        assert_eq!(message(&status).matches(&told[0]).count(), 1, "{status}");
    }
}

#[tokio::test]
async fn rules_are_not_asked_of_an_object_whose_metadata_is_wrong() {
    let world = World::new().await;
    let mut definition = crontabs();
    let spec = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    spec["x-kubernetes-validations"] = json!([{"rule": "self.replicas < 5"}]);
    world.expect(StatusCode::CREATED, Method::POST, CRDS, Some(definition)).await;
    let mut object = tab("");
    object["spec"]["replicas"] = 7.into();
    let status = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, TABS, Some(object)).await;
    let told = causes(&status);
    assert_eq!(told[0], "metadata.name: Required value: name or generateName is required");
    assert!(
        told[1].starts_with("<nil>: Invalid value: null: some validation rules were not checked"),
        "{told:?}"
    );
    let mut object = tab("a");
    object["spec"]["replicas"] = json!("x");
    let status = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, TABS, Some(object)).await;
    let accessor = ".spec.replicas: Invalid value: 0: .spec.replicas accessor error: x is of the type string, expected int64";
    assert!(causes(&status).iter().any(|cause| cause == accessor), "{status}");
}

#[tokio::test]
async fn an_empty_list_of_owners_says_nothing_of_a_custom_object() {
    let world = World::with_crontabs().await;
    world.expect(StatusCode::CREATED, Method::POST, TABS, Some(tab("a"))).await;
    world.expect(StatusCode::CREATED, Method::POST, MAPS, Some(config_map("a"))).await;
    let patch = json!({"metadata": {"managedFields": []}});
    let patched =
        world.expect(StatusCode::OK, Method::PATCH, &format!("{TABS}/a"), Some(patch.clone())).await;
    assert!(patched["metadata"]["managedFields"].is_array(), "{patched}");
    let patched = world.expect(StatusCode::OK, Method::PATCH, &format!("{MAPS}/a"), Some(patch)).await;
    assert!(patched["metadata"]["managedFields"].is_null(), "{patched}");
}

#[tokio::test]
async fn who_applies_what_is_there_has_no_time_and_conflicts_are_told_from_the_top() {
    let world = World::with_crontabs().await;
    let apply = |manager: &str, spec: Value| {
        let object = json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": "a"}, "spec": spec});
        world.send(with_type(Method::PATCH, &format!("{TABS}/a?fieldManager={manager}"), APPLY, &object))
    };
    let spec = json!({"cronSpec": "* * * * */5", "ports": [{"name": "a", "port": 1}]});
    assert_eq!(apply("one", spec.clone()).await.0, StatusCode::CREATED);
    let (code, made) = apply("two", spec).await;
    assert_eq!(code, StatusCode::OK, "{made}");
    let times: Vec<_> = made["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (&entry["manager"], entry["time"].is_string()))
        .collect();
    assert_eq!(times, [(&json!("two"), false), (&json!("one"), true)]);
    let (code, status) =
        apply("three", json!({"cronSpec": "1 * * * *", "ports": [{"name": "a", "port": 2}]})).await;
    assert_eq!(code, StatusCode::CONFLICT);
    let fields: Vec<_> =
        status["details"]["causes"].as_array().unwrap().iter().map(|cause| &cause["field"]).collect();
    assert_eq!(fields[..2], [".spec.cronSpec", r#".spec.ports[name="a"].port"#]);
}

#[tokio::test]
async fn a_collection_is_deleted_as_it_was_at_a_version() {
    let world = World::new().await;
    let first = world.expect(StatusCode::CREATED, Method::POST, MAPS, Some(config_map("a"))).await;
    world.expect(StatusCode::CREATED, Method::POST, MAPS, Some(config_map("b"))).await;
    let version = first["metadata"]["resourceVersion"].as_str().unwrap();
    let names = |list: &Value| -> Vec<Value> {
        list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].clone()).collect()
    };
    let path = format!("{MAPS}?resourceVersion={version}");
    let gone = world.expect(StatusCode::OK, Method::DELETE, &path, None).await;
    assert_eq!(names(&gone), ["a"]);
    world.expect(StatusCode::CREATED, Method::POST, MAPS, Some(config_map("c"))).await;
    let gone = world.expect(StatusCode::OK, Method::DELETE, &format!("{MAPS}?limit=1"), None).await;
    assert_eq!(names(&gone), ["b"]);
    assert!(gone["metadata"]["continue"].is_string(), "{gone}");
    let left = world.expect(StatusCode::OK, Method::GET, MAPS, None).await;
    assert_eq!(names(&left), ["c"]);
}

#[tokio::test]
async fn options_of_lists_and_watches_are_checked_in_the_order_of_kubernetes() {
    let world = World::new().await;
    let why = r#"resourceVersion: Invalid value: "x": strconv.ParseUint: parsing "x": invalid syntax"#;
    for (query, code, expect) in [
        ("watch=1&resourceVersion=x", 500, why.to_owned()),
        ("resourceVersion=x", 400, format!("invalid resource version: {why}")),
        (
            "limit=1&continue=x&resourceVersion=1",
            400,
            "invalid continue token: continue key is not valid: illegal base64 data at input byte 0"
                .to_owned(),
        ),
        (
            "resourceVersion=x&fieldSelector=q%3D1",
            400,
            r#""q" is not a known field selector: only "metadata.name", "metadata.namespace""#.to_owned(),
        ),
    ] {
        let (found, status) = world.request(Method::GET, &format!("{MAPS}?{query}"), None).await;
        assert_eq!((found.as_u16(), message(&status)), (code, expect.as_str()), "{query}");
    }
    for empty in ["%3D", "!%3D", "%3D%3D"] {
        world.expect(StatusCode::OK, Method::GET, &format!("{MAPS}?fieldSelector={empty}"), None).await;
    }
}

#[tokio::test]
async fn a_patch_of_null_is_no_merge_patch_and_changes_nothing_strategically() {
    let world = World::new().await;
    let made = world.expect(StatusCode::CREATED, Method::POST, MAPS, Some(config_map("a"))).await;
    let path = format!("{MAPS}/a");
    let status = world.expect(StatusCode::BAD_REQUEST, Method::PATCH, &path, Some(Value::Null)).await;
    assert_eq!(message(&status), "Invalid JSON Patch");
    let strategic = "application/strategic-merge-patch+json";
    let (code, patched) = world.send(with_type(Method::PATCH, &path, strategic, &Value::Null)).await;
    assert_eq!((code, patched), (StatusCode::OK, made));
}

/// Versions that differ in name only are one object as the version tells it that is stored.
#[tokio::test]
async fn what_the_stored_version_does_not_specify_is_lost_and_its_defaults_are_filled_in() {
    let world = World::new().await;
    let fields = |fields: Value| json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}});
    let string = json!({"type": "string"});
    let definition = json!({
        "metadata": {"name": "tanks.e.com"},
        "spec": {
            "group": "e.com", "scope": "Namespaced", "names": {"plural": "tanks", "kind": "Tank"},
            "versions": [
                {"name": "v1", "served": true, "storage": true,
                 "schema": fields(json!({"a": string, "b": {"type": "string", "default": "x"}}))},
                {"name": "v2", "served": true, "storage": false,
                 "schema": fields(json!({"a": string, "c": {"type": "string", "default": "y"}}))},
            ],
        },
    });
    world.expect(StatusCode::CREATED, Method::POST, CRDS, Some(definition)).await;
    let path = |version: &str, name: &str| format!("/apis/e.com/{version}/namespaces/demo/tanks{name}");
    let tank = |version: &str, name: &str, spec: Value| {
        Some(
            json!({"apiVersion": format!("e.com/{version}"), "kind": "Tank", "metadata": {"name": name}, "spec": spec}),
        )
    };
    let made = tank("v1", "one", json!({"a": "1"}));
    world.expect(StatusCode::CREATED, Method::POST, &path("v1", ""), made).await;
    let found = world.expect(StatusCode::OK, Method::GET, &path("v2", "/one"), None).await;
    assert_eq!(found["spec"], json!({"a": "1"}), "the second version's defaults are for what is sent in it");
    let made = tank("v2", "two", json!({"a": "1", "c": "2"}));
    let made = world.expect(StatusCode::CREATED, Method::POST, &path("v2", ""), made).await;
    assert_eq!((&made["apiVersion"], &made["spec"]), (&json!("e.com/v2"), &json!({"a": "1"})));
    let found = world.expect(StatusCode::OK, Method::GET, &path("v1", "/two"), None).await;
    assert_eq!(found["spec"], json!({"a": "1", "b": "x"}));
}

#[tokio::test]
async fn columns_have_any_path_and_end_where_one_is_none() {
    let world = World::new().await;
    let mut definition = crontabs();
    let columns =
        [".spec.ports[-1:].name", ".spec.ports[?(@.port>1)].name", ".spec.ports", ".spec[", ".spec.image"];
    let columns: Vec<_> =
        columns.iter().map(|path| json!({"name": path, "type": "string", "jsonPath": path})).collect();
    definition["spec"]["versions"][0]["additionalPrinterColumns"] = columns.into();
    world.expect(StatusCode::CREATED, Method::POST, CRDS, Some(definition)).await;
    let mut object = tab("a");
    object["spec"]["ports"] = json!([{"name": "a", "port": 1}, {"name": "b", "port": 2}]);
    world.expect(StatusCode::CREATED, Method::POST, TABS, Some(object)).await;
    let table = world.table(TABS).await;
    let list = r#"[{"name":"a","port":1},{"name":"b","port":2}]"#;
    assert_eq!(table["rows"][0]["cells"], json!(["a", "b", "b", list]));
}

#[tokio::test]
async fn an_object_within_an_object_may_be_applied_whatever_its_schema_tells() {
    let world = World::new().await;
    let mut definition = crontabs();
    let schema = json!({"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object", "properties": {"a": {"type": "string"}}}}});
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["template"] =
        schema;
    world.expect(StatusCode::CREATED, Method::POST, CRDS, Some(definition)).await;
    let template = json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": "x", "labels": {"a": "b"}, "finalizers": ["a/b"]}});
    let mut object = tab("a");
    object["spec"]["template"] = template;
    let (code, made) =
        world.send(with_type(Method::PATCH, &format!("{TABS}/a?fieldManager=m"), APPLY, &object)).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let owned = &made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:template"];
    let expect = json!({"f:apiVersion": {}, "f:kind": {}, "f:metadata": {"f:name": {}, "f:labels": {"f:a": {}}, "f:finalizers": {"v:\"a/b\"": {}}}});
    assert_eq!(*owned, expect);
}

#[tokio::test]
async fn a_value_of_the_wrong_type_is_looked_at_all_the_same() {
    let world = World::new().await;
    let mut definition = crontabs();
    let fields =
        definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
            .as_object_mut()
            .unwrap();
    fields.insert("choice".to_owned(), json!({"type": "string", "nullable": true, "enum": ["a", null]}));
    fields.insert("count".to_owned(), json!({"type": "integer", "format": "int32", "minimum": 1.5}));
    fields.insert("day".to_owned(), json!({"type": "string", "format": "date"}));
    world.expect(StatusCode::CREATED, Method::POST, CRDS, Some(definition)).await;
    for (field, value, expect) in [
        (
            "choice",
            json!(5),
            &[
                r#"spec.choice: Invalid value: "integer": spec.choice in body must be of type string: "integer""#,
                r#"spec.choice: Unsupported value: 5: supported values: "a", "null""#,
            ][..],
        ),
        ("choice", json!(null), &[r#"spec.choice: Unsupported value: null: supported values: "a", "null""#]),
        (
            "count",
            json!(2.5),
            &[
                r#"spec.count: Invalid value: "float64": spec.count in body must be of type int32: "float64""#,
                r#"<nil>: Invalid value: "": Checked value must be of type integer with format int32 in spec.count"#,
            ],
        ),
        (
            "count",
            json!(true),
            &[r#"spec.count: Invalid value: "": spec.count in body must be of type int32: """#],
        ),
        (
            "day",
            json!(5),
            &[r#"spec.day: Invalid value: "int64": spec.day in body must be of type date: "int64""#],
        ),
        (
            "count",
            json!(0),
            &["spec.count: Invalid value: 0: spec.count in body should be greater than or equal to 1.5"],
        ),
    ] {
        let mut object = tab("a");
        object["spec"][field] = value;
        let status = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, TABS, Some(object)).await;
        let told: Vec<_> =
            causes(&status).into_iter().filter(|cause| !cause.contains("Minimum boundary")).collect();
        assert_eq!(told, expect);
    }
    let path = format!("{TABS}/a/status");
    world.expect(StatusCode::CREATED, Method::POST, TABS, Some(tab("a"))).await;
    let patch = Some(json!({"status": {"selector": 5}}));
    let status = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::PATCH, &path, patch).await;
    let told = [
        r#"status.selector: Invalid value: "integer": selector in body must be of type string: "integer""#,
        r#".status.selector: Invalid value: "": .status.selector accessor error: 5 is of the type int64, expected string"#,
    ];
    assert_eq!(causes(&status), told);
}
