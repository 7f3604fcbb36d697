use serde_json::json;

use super::*;

#[track_caller]
fn told(field: Value, expect: &[&str]) {
    let schema = json!({"type": "object", "properties": {"f": field}});
    let mut errors = ErrorList::new();
    check(&schema, &FieldPath::new("s"), &mut errors);
    assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
}

#[test]
fn a_default_keeps_to_its_format() {
    told(
        json!({"type": "integer", "format": "int32", "default": 3_000_000_000_u32}),
        &[
            r#"s.properties[f].default: Invalid value: "": Checked value must be of type integer with format int32 in "#,
        ],
    );
}

#[test]
fn lists_that_are_sets_or_maps_have_fitting_items() {
    let object = json!({"type": "object", "properties": {"k": {"type": "string"}}, "required": ["k"]});
    told(
        json!({"type": "array", "items": object, "x-kubernetes-list-type": "set"}),
        &[
            "s.properties[f].items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set",
        ],
    );
    told(
        json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-map-keys": ["a"]}),
        &[
            "s.properties[f].x-kubernetes-list-type: Required value: must be map if x-kubernetes-list-map-keys is non-empty",
        ],
    );
    told(
        json!({"type": "array", "items": object, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k", "k"]}),
        &[
            r#"s.properties[f].x-kubernetes-list-map-keys: Invalid value: ["k","k"]: must not contain duplicate entries"#,
        ],
    );
}

#[test]
fn a_field_may_be_closed_or_have_a_type_beside_int_or_string() {
    told(json!({"type": "object", "additionalProperties": false}), &[]);
    told(json!({"type": "string", "x-kubernetes-int-or-string": true}), &[]);
}

#[test]
fn what_any_object_has_stays_what_it_is() {
    let mut errors = ErrorList::new();
    let schema = json!({"type": "object", "properties": {"kind": {"type": "integer"}, "metadata": {"type": "string"}}});
    check(&schema, &FieldPath::new("s"), &mut errors);
    let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert!(
        told.contains(&r#"s.properties[kind].type: Invalid value: "integer": must be string"#.to_owned()),
        "{told:?}"
    );
    assert!(
        told.contains(&r#"s.properties[metadata].type: Invalid value: "string": must be object"#.to_owned()),
        "{told:?}"
    );
}

#[test]
fn conditions_may_say_that_a_keyword_is_not_meant() {
    told(json!({"type": "string", "anyOf": [{"nullable": false, "minLength": 1}]}), &[]);
    told(
        json!({"type": "string", "anyOf": [{"nullable": true}]}),
        &["s.properties[f].anyOf[0].nullable: Forbidden: must be false to be structural"],
    );
}

#[test]
fn keywords_that_kubernetes_does_not_take_are_forbidden_even_where_they_say_nothing() {
    let forbidden = |key: &str, value: Value| {
        let expect = format!("s.properties[f].{key}: Forbidden: {key} is not supported");
        told(json!({"type": "object", key: value}), &[&expect]);
    };
    for key in ["$ref", "dependencies", "additionalItems"] {
        forbidden(key, if key == "$ref" { json!("") } else { json!({}) });
    }
    for key in ["definitions", "patternProperties"] {
        forbidden(key, json!({"a": {"type": "string"}}));
    }
    told(json!({"type": "object", "uniqueItems": false}), &[]);
}

#[test]
fn no_schema_says_its_dialect_and_none_is_null_at_the_root() {
    let told = |schema: Value| {
        let mut errors = ErrorList::new();
        check(&schema, &FieldPath::new("s"), &mut errors);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let dialect = [r#"s: Invalid value: "": OpenAPIV3Schema 'schema' is not supported"#];
    assert_eq!(told(json!({"type": "object", "$schema": "x"})), dialect);
    let list = json!({"type": "array", "items": {"type": "string", "$schema": "x"}});
    assert_eq!(told(json!({"type": "object", "properties": {"f": list}})), dialect);
    assert_eq!(
        told(json!({"type": "object", "nullable": true})),
        ["s.nullable: Forbidden: nullable cannot be true at the root"]
    );
    assert_eq!(
        told(json!({"type": "null"})),
        [
            r#"s.type: Unsupported value: "null": supported values: "array", "boolean", "integer", "number", "object", "string""#,
            "s.type: Forbidden: type cannot be set to null, use nullable as an alternative",
            r#"s.type: Invalid value: "null": must be object at the root"#,
        ]
    );
}

#[test]
fn conditions_have_types_where_they_speak_of_lists_and_maps() {
    told(
        json!({"type": "object", "anyOf": [{"x-kubernetes-map-type": "atomic"}]}),
        &[
            "s.properties[f].anyOf[0].type: Required value: must be object if x-kubernetes-map-type is specified",
            "s.properties[f].anyOf[0].x-kubernetes-map-type: Forbidden: must be undefined to be structural",
        ],
    );
}
