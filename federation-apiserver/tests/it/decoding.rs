//! Bodies that are not what they should be, in kube-apiserver's words.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::world::{World, config_map, deployment};

const CONFIG_MAPS: &str = "/api/v1/namespaces/demo/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/demo/deployments";
const JSON: &str = "application/json";

/// Sends a text as it is; tells the code and the message.
async fn send(world: &World, method: Method, path: &str, content: &str, body: &str) -> (u16, String) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content)
        .body(Full::from(body.to_owned()))
        .unwrap();
    let (code, value) = world.send(request).await;
    (code.as_u16(), value["message"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_body_without_a_kind_is_told_with_its_beginning() {
    let world = World::new().await;
    let head = "the object provided is unrecognized (must be of type ConfigMap): ";
    let go = r#"into Go value of type struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;
    for (body, message) in [
        (
            "",
            "couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)".to_owned(),
        ),
        ("{", "couldn't get version/kind; json parse error: unexpected end of JSON input ({)".to_owned()),
        (
            "[]",
            format!("couldn't get version/kind; json parse error: json: cannot unmarshal array {go} (5b5d)"),
        ),
        (
            r#"{"kind":"ConfigMap","apiVersion":"a/b/c"}"#,
            r#"unexpected GroupVersion string: a/b/c ({"kind":"ConfigMap","apiVersio ...)"#.to_owned(),
        ),
    ] {
        let found = send(&world, Method::POST, CONFIG_MAPS, JSON, body).await;
        assert_eq!(found, (400, format!("{head}{message}")), "{body}");
    }
    let found = send(&world, Method::POST, CONFIG_MAPS, JSON, "null").await;
    assert_eq!(
        found,
        (
            422,
            "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required"
                .into()
        )
    );
}

#[tokio::test]
async fn an_object_of_another_kind_or_version_is_refused() {
    let world = World::new().await;
    for (version, kind, message) in [
        (
            "v1",
            "Foo",
            r#"Foo in version "v1" cannot be handled as a ConfigMap: no kind "Foo" is registered for version "v1" in scheme "pkg/api/legacyscheme/scheme.go:30""#,
        ),
        (
            "foo/v1",
            "ConfigMap",
            r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: no kind "ConfigMap" is registered for version "foo/v1" in scheme "pkg/api/legacyscheme/scheme.go:30""#,
        ),
        (
            "apps/v1",
            "Deployment",
            r#"Deployment in version "v1" cannot be handled as a ConfigMap: converting (v1.Deployment) to (core.ConfigMap): unknown conversion"#,
        ),
    ] {
        let body = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}}).to_string();
        let found = send(&world, Method::POST, CONFIG_MAPS, JSON, &body).await;
        assert_eq!(found, (400, message.to_owned()));
    }
    let body = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler"}).to_string();
    let path = "/apis/autoscaling/v1/namespaces/demo/horizontalpodautoscalers";
    let (code, message) = send(&world, Method::POST, path, JSON, &body).await;
    assert_eq!(
        (code, &*message),
        (
            400,
            "the API version in the data (autoscaling/v2) does not match the expected API version (autoscaling/v1)"
        )
    );
}

#[tokio::test]
async fn wrong_types_are_told_once_and_as_go_tells_them() {
    let world = World::new().await;
    let mut wrong = deployment("web");
    wrong["spec"]["replicas"] = "three".into();
    let status = world.expect(StatusCode::BAD_REQUEST, Method::POST, DEPLOYMENTS, Some(wrong)).await;
    assert_eq!(
        status["message"],
        r#"Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"#
    );
    let secret = json!({"metadata": {"name": "a"}, "data": {"k": "***"}});
    let path = "/api/v1/namespaces/demo/secrets";
    let status = world.expect(StatusCode::BAD_REQUEST, Method::POST, path, Some(secret)).await;
    assert_eq!(
        status["message"],
        r#"Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 0"#
    );
}

#[tokio::test]
async fn what_a_patch_breaks_is_the_patchs_error() {
    let world = World::new().await;
    world.expect(StatusCode::CREATED, Method::POST, CONFIG_MAPS, Some(config_map("a"))).await;
    let path = format!("{CONFIG_MAPS}/a");
    for (content, body, code, message) in [
        (
            "application/json-patch+json",
            "{}",
            400,
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
        ),
        (
            "application/merge-patch+json",
            "[]",
            400,
            "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
        ("application/merge-patch+json", "{", 400, "error decoding patch: unexpected end of JSON input"),
        (
            "application/json-patch+json",
            r#"[{"op":"test","path":"/data/k","value":"x"}]"#,
            422,
            "the server rejected our request due to an error in our request",
        ),
        (
            "application/json-patch+json",
            r#"[{"op":"foo","path":"/data/k"}]"#,
            422,
            "the server rejected our request due to an error in our request",
        ),
        (
            "application/apply-patch+yaml",
            r#"{"apiVersion":"v1","kind":"ConfigMap","zz":1}"#,
            500,
            "failed to create typed patch object (/; /v1, Kind=ConfigMap): .zz: field not declared in schema",
        ),
        (
            "application/strategic-merge-patch+json",
            r#"{"data":{"k":1}}"#,
            422,
            r#" "" is invalid: patch: Invalid value: "map[data:map[k:1]]": cannot convert int64 to string"#,
        ),
        ("application/apply-patch+yaml", "{}", 400, "invalid object type: /, Kind="),
        (
            "application/merge-patch+json",
            r#"{"metadata":{"uid":"1"}}"#,
            422,
            r#"ConfigMap "a" is invalid: metadata.uid: Invalid value: "1": field is immutable"#,
        ),
    ] {
        let path = format!("{path}?fieldManager=m");
        let found = send(&world, Method::PATCH, &path, content, body).await;
        assert_eq!(found, (code, message.to_owned()), "{body}");
    }
}

#[tokio::test]
async fn a_patch_leaves_the_kind_and_the_version_as_texts() {
    let world = World::new().await;
    world.expect(StatusCode::CREATED, Method::POST, CONFIG_MAPS, Some(config_map("a"))).await;
    let path = format!("{CONFIG_MAPS}/a");
    for name in ["kind", "apiVersion"] {
        let merge = json!({name: 5}).to_string();
        let operations = json!([{"op": "replace", "path": format!("/{name}"), "value": 5}]).to_string();
        let told = format!("json: cannot unmarshal number into Go struct field .{name} of type string");
        for (content, body) in
            [("application/merge-patch+json", &merge), ("application/json-patch+json", &operations)]
        {
            let (code, message) = send(&world, Method::PATCH, &path, content, body).await;
            assert_eq!(code, 422, "{content}: {message}");
            assert!(message.ends_with(&told), "{message}");
        }
        let strategic = "application/strategic-merge-patch+json";
        let (code, message) = send(&world, Method::PATCH, &path, strategic, &merge).await;
        let told = format!(r#"patch: Invalid value: "map[{name}:5]": cannot convert int64 to string"#);
        assert_eq!((code, message.ends_with(&told)), (422, true), "{message}");
    }
}

#[tokio::test]
async fn a_delete_with_options_that_are_none_deletes_nothing() {
    let world = World::new().await;
    world.expect(StatusCode::CREATED, Method::POST, CONFIG_MAPS, Some(config_map("a"))).await;
    let path = format!("{CONFIG_MAPS}/a");
    let (code, message) = send(&world, Method::DELETE, &path, JSON, r#"{"gracePeriodSeconds":"x"}"#).await;
    assert_eq!(
        (code, &*message),
        (
            400,
            "json: cannot unmarshal string into Go struct field DeleteOptions.gracePeriodSeconds of type int64"
        )
    );
    world.expect(StatusCode::OK, Method::GET, &path, None).await;
    let status = world
        .expect(StatusCode::UNPROCESSABLE_ENTITY, Method::DELETE, &format!("{path}?dryRun=x"), None)
        .await;
    assert_eq!(
        status["message"],
        r#"DeleteOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: ["x"]: supported values: "All""#
    );
}

#[tokio::test]
async fn a_delete_with_a_body_takes_nothing_from_its_query() {
    let world = World::new().await;
    for body in ["{}", r#"{"kind":"DeleteOptions","apiVersion":"v1"}"#] {
        world.expect(StatusCode::CREATED, Method::POST, CONFIG_MAPS, Some(config_map("a"))).await;
        let path = format!("{CONFIG_MAPS}/a");
        let (code, message) =
            send(&world, Method::DELETE, &path, JSON, r#"{"kind":"Pod","apiVersion":"v1"}"#).await;
        let why = r#"no kind "Pod" is registered for version "v1" in scheme "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27""#;
        assert_eq!((code, &*message), (400, why));
        let dry = format!("{path}?dryRun=All&propagationPolicy=Foreground&gracePeriodSeconds=x");
        world.expect(StatusCode::OK, Method::DELETE, &format!("{path}?dryRun=All"), None).await;
        assert_eq!(send(&world, Method::DELETE, &dry, JSON, body).await.0, 200);
        world.expect(StatusCode::NOT_FOUND, Method::GET, &path, None).await;
    }
}

#[tokio::test]
async fn an_update_names_its_object_and_a_version_that_can_be() {
    let world = World::new().await;
    world.expect(StatusCode::CREATED, Method::POST, CONFIG_MAPS, Some(config_map("a"))).await;
    let path = format!("{CONFIG_MAPS}/a");
    for body in [json!({"data": {}}), Value::Null] {
        let status = world.expect(StatusCode::BAD_REQUEST, Method::PUT, &path, Some(body)).await;
        assert_eq!(
            status["message"],
            "the name of the object (a based on URL) was undeterminable: name must be provided"
        );
    }
    let mut strange = config_map("a");
    strange["metadata"]["resourceVersion"] = "abc".into();
    let status = world.expect(StatusCode::INTERNAL_SERVER_ERROR, Method::PUT, &path, Some(strange)).await;
    assert_eq!(status["message"], "strconv.ParseUint: parsing \"abc\": invalid syntax");
}

#[tokio::test]
async fn fields_that_no_schema_knows_are_dropped_and_told() {
    let world = World::new().await;
    let unknown = |name: &str| {
        let mut object = deployment(name);
        object["spec"]["template"]["spec"]["containers"][0]["imagee"] = "x".into();
        object["more"] = 1.into();
        object
    };
    let ask = |validation: &'static str, object: Value| {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{DEPLOYMENTS}{validation}"))
            .header("content-type", JSON)
            .body(Full::from(object.to_string()))
            .unwrap();
        world.server.service().oneshot(request)
    };
    let response = ask("", unknown("a")).await.unwrap();
    let warnings: Vec<_> = response.headers().get_all("warning").iter().collect();
    assert_eq!(
        warnings,
        [
            "299 - \"unknown field \\\"more\\\"\"",
            "299 - \"unknown field \\\"spec.template.spec.containers[0].imagee\\\"\""
        ]
    );
    let quiet = ask("?fieldValidation=Ignore", unknown("b")).await.unwrap();
    assert_eq!((quiet.status(), quiet.headers().get("warning")), (StatusCode::CREATED, None));
    assert_eq!(ask("?fieldValidation=Strict", unknown("c")).await.unwrap().status(), StatusCode::BAD_REQUEST);
    for name in ["a", "b"] {
        let path = format!("{DEPLOYMENTS}/{name}");
        let kept = world.expect(StatusCode::OK, Method::GET, &path, None).await;
        assert!(!kept.to_string().contains("imagee") && kept.get("more").is_none(), "{kept}");
        let patch = json!({"spec": {"foo": 1, "replicas": 2}});
        let patched = world.expect(StatusCode::OK, Method::PATCH, &path, Some(patch)).await;
        assert_eq!((&patched["spec"]["replicas"], patched["spec"].get("foo")), (&json!(2), None));
    }
}

#[tokio::test]
async fn owners_are_named_with_their_uid_and_are_no_events() {
    let world = World::new().await;
    let owned = |owner: Value| {
        let mut object = config_map("a");
        object["metadata"]["ownerReferences"] = json!([owner]);
        object
    };
    let refused = |owner: Value| {
        world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, CONFIG_MAPS, Some(owned(owner)))
    };
    let status = refused(json!({"apiVersion": "v1", "kind": "Pod", "name": "x"})).await;
    assert_eq!(
        status["details"]["causes"],
        json!([{"reason": "FieldValueInvalid", "field": "metadata.ownerReferences.uid",
            "message": "Invalid value: \"\": must not be empty"}])
    );
    let status = refused(json!({"apiVersion": "v1", "kind": "Event", "name": "x", "uid": "u"})).await;
    let cause = &status["details"]["causes"][0];
    assert_eq!(cause["field"], "metadata.ownerReferences");
    assert!(
        cause["message"].as_str().unwrap().ends_with("/v1, Kind=Event is disallowed from being an owner")
    );
}

#[tokio::test]
async fn media_types_that_are_none_are_refused() {
    let world = World::new().await;
    let told = "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf";
    for content in [";;", "text/plain"] {
        let found = send(&world, Method::POST, CONFIG_MAPS, content, "{}").await;
        assert_eq!(found, (415, told.to_owned()), "{content}");
    }
    let request = Request::builder()
        .uri(CONFIG_MAPS)
        .header("accept", "application/json;as=Foo;g=meta.k8s.io;v=v1")
        .body(Full::<Bytes>::default())
        .unwrap();
    let (code, status) = world.send(request).await;
    assert_eq!(code, StatusCode::NOT_ACCEPTABLE);
    assert_eq!(
        status["message"],
        "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"
    );
}

#[tokio::test]
async fn an_apply_that_makes_an_object_names_it() {
    let world = World::new().await;
    let path = format!("{CONFIG_MAPS}/new?fieldManager=m");
    let body = r#"{"apiVersion":"v1","kind":"ConfigMap","data":{"k":"v"}}"#;
    let (code, message) = send(&world, Method::PATCH, &path, "application/apply-patch+yaml", body).await;
    assert_eq!(
        (code, &*message),
        (400, "the name of the object (new based on URL) was undeterminable: name must be provided")
    );
}

#[tokio::test]
async fn keys_that_stand_twice_in_yaml_are_told_with_their_lines() {
    let world = World::new().await;
    let body =
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  k: v\n  k: w\nimmutable: false\n";
    let strict = format!("{CONFIG_MAPS}?fieldValidation=Strict");
    let found = send(&world, Method::POST, &strict, "application/yaml", body).await;
    let head = "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: ";
    let why = "yaml: unmarshal errors:\n  line 7: key \"k\" already set in map";
    assert_eq!(found, (400, format!("{head}{why}")));
    let apply = format!("{CONFIG_MAPS}/a?fieldManager=m&fieldValidation=Strict");
    let found = send(&world, Method::PATCH, &apply, "application/apply-patch+yaml", body).await;
    let refused = (400, format!("error strict decoding YAML: error converting YAML to JSON: {why}"));
    assert_eq!(found, refused);
    // It is looked at after what is applied, and whether or not anything changes.
    let unknown = format!("{body}more: 1\n");
    let (code, message) = send(&world, Method::PATCH, &apply, "application/apply-patch+yaml", &unknown).await;
    assert_eq!(code, 500);
    assert!(message.ends_with(".more: field not declared in schema"), "{message}");
    let (apply, other) = (apply.replace("/a?", "/b?"), body.replace("name: a", "name: b"));
    let lax = apply.replace("Strict", "Ignore");
    assert_eq!(send(&world, Method::PATCH, &lax, "application/apply-patch+yaml", &other).await.0, 201);
    assert_eq!(send(&world, Method::PATCH, &apply, "application/apply-patch+yaml", &other).await, refused);
    let request = Request::post(CONFIG_MAPS)
        .header("content-type", "application/yaml")
        .body(Full::from(body.to_owned()))
        .expect("it is a request");
    let response = world.server.service().oneshot(request).await.expect("it answers");
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(response.headers()["warning"], r#"299 - "line 7: key \"k\" already set in map""#);
    let made = world.expect(StatusCode::OK, Method::GET, &format!("{CONFIG_MAPS}/a"), None).await;
    assert_eq!(made["data"]["k"], "w");
}

#[tokio::test]
async fn nothing_is_told_of_fields_that_are_to_be_ignored() {
    let world = World::new().await;
    let body = r#"{"metadata":{"name":"a"},"data":{"k":"v","k":"w"},"a\"b\n":1}"#;
    let ask = async |validation: &str| {
        let path = format!("{CONFIG_MAPS}?dryRun=All&fieldValidation={validation}");
        let request = Request::post(path).header("content-type", JSON).body(Full::from(body)).unwrap();
        let response = world.server.service().oneshot(request).await.unwrap();
        let told = response.headers().get_all("warning").iter().map(|text| text.to_str().unwrap().to_owned());
        (response.status(), told.collect::<Vec<_>>())
    };
    assert_eq!(ask("Ignore").await, (StatusCode::CREATED, vec![]));
    let (code, told) = ask("Warn").await;
    assert_eq!((code, told.len()), (StatusCode::CREATED, 2), "{told:?}");
    let strict = format!("{CONFIG_MAPS}?fieldValidation=Strict");
    let (code, message) = send(&world, Method::POST, &strict, JSON, body).await;
    assert_eq!(code, 400);
    assert!(message.ends_with(r#": duplicate field "data.k", unknown field "a\"b\n""#), "{message}");
}

#[tokio::test]
async fn numbers_are_read_and_told_as_they_stand_there() {
    let world = World::new().await;
    let post = async |path: &str, body: String| {
        let request =
            Request::post(path).header("content-type", "application/json").body(Full::from(body)).unwrap();
        let response = world.server.service().oneshot(request).await.unwrap();
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    };
    for number in ["99999999999999999999", "1.5", "1e2"] {
        let body = deployment("web").to_string();
        let body = body.replacen("\"spec\":{", &format!("\"spec\":{{\"replicas\":{number},"), 1);
        let told = post("/apis/apps/v1/namespaces/demo/deployments", body).await;
        let words = format!(
            "cannot unmarshal number {number} into Go struct field DeploymentSpec.spec.replicas of type int32"
        );
        assert!(told.contains(&words), "{told}");
    }
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    });
    post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition.to_string()).await;
    let numbers = "[18446744073709551615,99999999999999999999,1e21,1.0,0.5,-9223372036854775808]";
    let body = format!(
        r#"{{"apiVersion":"example.com/v1","kind":"Thing","metadata":{{"name":"a"}},"n":{numbers}}}"#
    );
    let made = post("/apis/example.com/v1/namespaces/demo/things", body).await;
    let expect = r#""n":[18446744073709552000,100000000000000000000,1e+21,1,0.5,-9223372036854775808]"#;
    assert!(made.contains(expect), "{made}");
}

#[tokio::test]
async fn operations_that_are_none_are_told_as_kube_apiserver_reads_them() {
    let world = World::new().await;
    world.expect(StatusCode::CREATED, Method::POST, CONFIG_MAPS, Some(config_map("a"))).await;
    let head = "error decoding patch: json: cannot unmarshal";
    let unfit = "the server rejected our request due to an error in our request";
    let field = "jsonPatchOp.op of type string";
    for (query, body, code, message) in [
        ("", "[1]", 400, format!("{head} number into Go value of type handlers.jsonPatchOp")),
        ("", r#"[{"op":1}]"#, 400, format!("{head} number into Go struct field {field}")),
        (
            "",
            "x",
            400,
            "error decoding patch: invalid character 'x' looking for beginning of value".to_owned(),
        ),
        ("", "[null]", 422, unfit.to_owned()),
        (
            "?fieldValidation=Ignore",
            "{}",
            400,
            "json: cannot unmarshal object into Go value of type jsonpatch.Patch".to_owned(),
        ),
        (
            "?fieldValidation=Ignore",
            "[[]]",
            400,
            "json: cannot unmarshal array into Go value of type jsonpatch.Operation".to_owned(),
        ),
        ("?fieldValidation=Ignore", r#"[{"op":1}]"#, 422, unfit.to_owned()),
        ("?fieldValidation=Ignore", "", 400, "unexpected end of JSON input".to_owned()),
    ] {
        let request = Request::patch(format!("{CONFIG_MAPS}/a{query}"))
            .header("content-type", "application/json-patch+json")
            .body(Full::from(body))
            .unwrap();
        let (found, status) = world.send(request).await;
        assert_eq!(
            (found.as_u16(), status["message"].as_str()),
            (code, Some(message.as_str())),
            "{query} {body}"
        );
    }
    for nothing in ["null", "[]"] {
        let request = Request::patch(format!("{CONFIG_MAPS}/a"))
            .header("content-type", "application/json-patch+json")
            .body(Full::from(nothing))
            .unwrap();
        assert_eq!(world.send(request).await.0, StatusCode::OK, "{nothing}");
    }
}
