//! The schemas of CustomResourceDefinitions: their rules, their formats, and how they are read.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    crd::{CRDS, TABS, crontabs, tab, with_type},
    world::World,
};

#[tokio::test]
async fn rules_in_cel_are_checked_when_they_are_written_and_when_they_are_asked() {
    let world = World::new().await;
    let mut object = crontabs();
    let spec = &mut object["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    spec["x-kubernetes-validations"] = json!([{"rule": "self.replica > 1"}]);
    let status =
        world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, CRDS, Some(object.clone())).await;
    let message = status["message"].as_str().unwrap();
    assert!(
        message.contains("properties[spec].x-kubernetes-validations[0].rule: Invalid value"),
        "{message}"
    );
    assert!(
        message.contains("compilation failed: ERROR: <input>:1:5: undefined field 'replica'"),
        "{message}"
    );
    let spec = &mut object["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    spec["x-kubernetes-validations"] = json!([
        {"rule": "!has(self.replicas) || self.replicas % 2 == 1", "messageExpression": "'%d is even'.format([self.replicas])", "fieldPath": ".replicas"},
        {"rule": "self.cronSpec == oldSelf.cronSpec", "message": "cronSpec is immutable", "reason": "FieldValueForbidden"},
    ]);
    world.expect(StatusCode::CREATED, Method::POST, CRDS, Some(object)).await;
    let mut even = tab("even");
    even["spec"]["replicas"] = 2.into();
    let status = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, TABS, Some(even)).await;
    assert_eq!(
        status["message"],
        r#"CronTab.stable.example.com "even" is invalid: spec.replicas: Invalid value: 2 is even"#
    );
    let mut wrong = tab("wrong");
    wrong["spec"]["image"] = 3.into();
    let status = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, TABS, Some(wrong)).await;
    let unchecked = "Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
    assert_eq!(
        status["details"]["causes"][1],
        json!({"field": "<nil>", "message": unchecked, "reason": "FieldValueInvalid"})
    );
    world.expect(StatusCode::CREATED, Method::POST, TABS, Some(tab("a"))).await;
    let patch = json!({"spec": {"cronSpec": "1 * * * *"}});
    let status = world
        .expect(StatusCode::UNPROCESSABLE_ENTITY, Method::PATCH, &format!("{TABS}/a"), Some(patch))
        .await;
    assert_eq!(status["details"]["causes"][0]["reason"], "FieldValueForbidden");
}

#[tokio::test]
async fn new_rules_name_nothing_that_kubernetes_does_not_have() {
    let world = World::new().await;
    let rule = |rule: &str| {
        let mut object = crontabs();
        let spec = &mut object["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        spec["x-kubernetes-validations"] = json!([{"rule": rule}]);
        object
    };
    let former = rule("math.abs(self.replicas) > 0");
    let status = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, CRDS, Some(former)).await;
    let message = status["message"].as_str().unwrap();
    assert!(message.contains("<input>:1:1: undeclared reference to 'math' (in container '')"), "{message}");
    let sorted = rule("lists.range(3).sortBy(n, -n)[0] == 2");
    world.expect(StatusCode::CREATED, Method::POST, CRDS, Some(sorted)).await;
}

#[tokio::test]
async fn formats_are_kept_to_and_those_that_nobody_knows_are_warned_of() {
    let world = World::new().await;
    let mut definition = crontabs();
    let schema = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let fields = schema["properties"]["spec"]["properties"].as_object_mut().unwrap();
    for (name, kind, format) in [
        ("small", "integer", "int32"),
        ("bounded", "integer", "int32"),
        ("odd", "string", "zzz"),
        ("when", "string", "date-time"),
    ] {
        fields.insert(name.to_owned(), json!({"type": kind, "format": format}));
    }
    fields["bounded"]["maximum"] = json!(4_294_967_295_u32);
    let json = "application/json";
    let (code, warnings, made) = world.warnings(with_type(Method::POST, CRDS, json, &definition)).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    assert_eq!(warnings, [r#"299 - "unrecognized format \"zzz\"""#]);
    let path = format!("{CRDS}/crontabs.stable.example.com");
    let mut labelled = world.expect(StatusCode::OK, Method::GET, &path, None).await;
    labelled["metadata"]["labels"] = json!({"a": "b"});
    let (code, warnings, _) = world.warnings(with_type(Method::PUT, &path, json, &labelled)).await;
    assert_eq!((code, warnings), (StatusCode::OK, vec![]), "only new ones are told");
    for (name, value, why) in [
        (
            "small",
            json!(3_000_000_000_u32),
            r#"<nil>: Invalid value: "": Checked value must be of type integer with format int32 in spec.small"#,
        ),
        (
            "bounded",
            json!(1),
            r#"<nil>: Invalid value: "": Maximum boundary value must be of type integer with format int32 in spec.bounded"#,
        ),
    ] {
        let mut wrong = tab("a");
        wrong["spec"][name] = value;
        let status = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, TABS, Some(wrong)).await;
        assert_eq!(status["message"], format!("CronTab.stable.example.com \"a\" is invalid: {why}"));
    }
    let mut wrong = tab("a");
    wrong["spec"]["when"] = "noon".into();
    let status = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, TABS, Some(wrong)).await;
    let causes = json!([{"field": "spec.when", "message": r#"Invalid value: "noon": spec.when in body must be of type date-time: "noon""#, "reason": "FieldValueTypeInvalid"}]);
    assert_eq!(status["details"]["causes"], causes);
    let mut good = tab("a");
    good["spec"]["small"] = 2_147_483_647.into();
    world.expect(StatusCode::CREATED, Method::POST, TABS, Some(good)).await;
}

#[tokio::test]
async fn rules_of_transitions_are_told_where_values_are_not_told_apart() {
    let world = World::new().await;
    let mut object = crontabs();
    object["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["list"] = json!({"type": "array", "items": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}});
    let status = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, CRDS, Some(object)).await;
    let message = status["message"].as_str().unwrap();
    let place = "spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[list]";
    let part = format!(
        "{place}.items.x-kubernetes-validations[0].rule: Invalid value: \"self == oldSelf\": oldSelf cannot be used on the uncorrelatable portion of the schema within {place}"
    );
    assert!(message.contains(&part), "{message}");
}

#[tokio::test]
async fn schemas_are_read_wherever_they_stand() {
    let world = World::new().await;
    let path = format!("{CRDS}?dryRun=All");
    let with = |inner: Value| {
        let mut object = crontabs();
        object["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = json!({"type": "object", "properties": {
            "list": {"type": "array", "items": inner}, "map": {"type": "object", "additionalProperties": inner},
        }});
        object["spec"]["versions"].as_array_mut().unwrap().truncate(1);
        object["spec"]["versions"][0].as_object_mut().unwrap().remove("selectableFields");
        object["spec"]["versions"][0].as_object_mut().unwrap().remove("additionalPrinterColumns");
        object
    };
    // What Go leaves out, or does not know, is not stored in inner schemas, either.
    let plain = json!({"type": "string"});
    let odd = json!({"type": "string", "id": "", "nullable": false, "definitions": {}, "enum": null, "discriminator": 1, "allOf": []});
    let made = world.expect(StatusCode::CREATED, Method::POST, &path, Some(with(odd))).await;
    assert_eq!(made["spec"]["versions"][0]["schema"], with(plain)["spec"]["versions"][0]["schema"]);
    let refused = json!({"type": "string", "dependencies": {}});
    let status =
        world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, &path, Some(with(refused))).await;
    let fields: Vec<_> = status["details"]["causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cause| {
            (cause["field"].as_str().unwrap().rsplit("openAPIV3Schema.").next().unwrap(), &cause["message"])
        })
        .collect();
    let message = json!("Forbidden: dependencies is not supported");
    assert_eq!(
        fields,
        [
            ("properties[list].items.dependencies", &message),
            ("properties[map].additionalProperties.dependencies", &message)
        ]
    );
    let mistyped = json!({"type": "string", "minLength": "x"});
    let status = world.expect(StatusCode::BAD_REQUEST, Method::POST, &path, Some(with(mistyped))).await;
    let told = "json: cannot unmarshal string into Go struct field JSONSchemaProps.minLength of type int64";
    assert!(status["message"].as_str().unwrap().ends_with(told), "{status}");
}

#[tokio::test]
async fn what_was_invalid_before_stands_in_nobodys_way_and_is_warned_of() {
    let world = World::with_crontabs().await;
    let list = |items: Value| {
        let image = json!({"type": "string"});
        json!({"type": "object", "properties": {"list": {"type": "array", "items": items}, "image": image}})
    };
    let replace = async |items: Value| {
        let path = format!("{CRDS}/crontabs.stable.example.com");
        let mut definition = world.expect(StatusCode::OK, Method::GET, &path, None).await;
        for version in definition["spec"]["versions"].as_array_mut().unwrap() {
            version["schema"]["openAPIV3Schema"]["properties"]["spec"] = list(items.clone());
            version["schema"]["openAPIV3Schema"]["properties"]["status"] = list(items.clone());
        }
        world.expect(StatusCode::OK, Method::PUT, &path, Some(definition)).await;
    };
    replace(json!({"type": "string"})).await;
    let mut object = tab("a");
    object["spec"] = json!({"list": ["long", "a"]});
    world.expect(StatusCode::CREATED, Method::POST, TABS, Some(object)).await;
    let path = format!("{TABS}/a");
    let patch = async |body: Value| {
        let merge = "application/merge-patch+json";
        let (code, warnings, _) = world.warnings(with_type(Method::PATCH, &path, merge, &body)).await;
        (code, warnings)
    };
    let rule = json!({"rule": "self.size() < 3", "message": "too long"});
    replace(json!({"type": "string", "maxLength": 10, "x-kubernetes-validations": [rule]})).await;
    let told = r#"299 - "spec.list[0]: Invalid value: \"long\": too long""#.to_owned();
    let labelled = patch(json!({"metadata": {"labels": {"a": "b"}}})).await;
    assert_eq!(labelled, (StatusCode::OK, vec![told]));
    let (code, warnings) = patch(json!({"spec": {"list": ["long", "b"]}})).await;
    assert_eq!((code, warnings), (StatusCode::UNPROCESSABLE_ENTITY, vec![]), "the list is one value");
}
