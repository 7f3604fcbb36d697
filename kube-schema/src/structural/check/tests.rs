//! What is told of objects that do not fit.

use serde_json::{Map, json};

use super::*;
use crate::{bounds::MOST_TOLD, structural::faults::LOOK_BYTES};

#[track_caller]
fn faults(spec_schema: Value, spec: Value, old: Option<Value>) -> Vec<String> {
    let schema = json!({"type": "object", "properties": {"spec": spec_schema}});
    let old = old.map(|spec| json!({"spec": spec}));
    let schema = Structural::parse(&schema).unwrap();
    schema.check(&json!({"spec": spec}), old.as_ref()).iter().map(ToString::to_string).collect()
}

#[test]
fn texts_are_those_of_kube_apiserver() {
    let schema = json!({"type": "object", "required": ["need"], "properties": {
        "int": {"type": "integer", "minimum": 1, "maximum": 10},
        "text": {"type": "string", "maxLength": 3, "minLength": 2, "pattern": "^[a-z]+$"},
        "choice": {"type": "string", "enum": ["a", "b"]},
        "list": {"type": "array", "maxItems": 1, "items": {"type": "string"}},
        "port": {"x-kubernetes-int-or-string": true},
    }});
    let spec = json!({"int": "x", "text": "A", "choice": "c", "list": [1, 2], "port": true});
    assert_eq!(
        faults(schema.clone(), spec, None),
        [
            r#"spec.choice: Unsupported value: "c": supported values: "a", "b""#,
            r#"spec.int: Invalid value: "string": spec.int in body must be of type integer: "string""#,
            "spec.list: Too many: 2: must have at most 1 item",
            r#"spec.list[0]: Invalid value: "integer": spec.list[0] in body must be of type string: "integer""#,
            r#"spec.list[1]: Invalid value: "integer": spec.list[1] in body must be of type string: "integer""#,
            r#"spec.port: Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean""#,
            r#"spec.text: Invalid value: "A": spec.text in body should be at least 2 chars long"#,
            "spec.need: Required value",
        ]
    );
    assert_eq!(
        faults(schema, json!({"int": 11, "text": "abcd", "need": 1}), None),
        [
            "spec.int: Invalid value: 11: spec.int in body should be less than or equal to 10",
            "spec.text: Too long: may not be more than 3 bytes",
        ]
    );
}

#[test]
fn numbers_fit_in_what_they_shall_be() {
    let told = |schema: Value, number: Value, old: Option<Value>| {
        let schema = json!({"type": "object", "properties": {"n": schema}});
        faults(schema, json!({"n": number}), old.map(|old| json!({"n": old})))
    };
    let int = json!({"type": "integer", "format": "int32"});
    assert_eq!(told(int.clone(), json!(2_147_483_647), None), [""; 0]);
    let large = json!(3_000_000_000_u32);
    let fault =
        r#"<nil>: Invalid value: "": Checked value must be of type integer with format int32 in spec.n"#;
    assert_eq!(told(int.clone(), large.clone(), None), [fault]);
    assert_eq!(told(int, large.clone(), Some(large)), [""; 0], "an older server took it");
    let bounded = json!({"type": "integer", "format": "int32", "maximum": 4_294_967_295_u32});
    assert_eq!(
        told(bounded, json!(1), None),
        [
            r#"<nil>: Invalid value: "": Maximum boundary value must be of type integer with format int32 in spec.n"#
        ]
    );
    let float = json!({"type": "number", "format": "float"});
    assert_eq!(told(float.clone(), json!(1.5), None), [""; 0]);
    assert_eq!(
        told(float, json!(1e39), None),
        [r#"<nil>: Invalid value: "": Checked value must be of type number with format float in spec.n"#]
    );
    let double = json!({"type": "number", "format": "double"});
    assert_eq!(told(double, json!(1e39), None), [""; 0]);
    let odd = json!({"type": "integer", "format": "uint8"});
    assert_eq!(told(odd, json!(300), None), [""; 0], "nobody knows this one");
}

#[test]
fn whole_numbers_are_compared_with_bounds_without_their_fraction() {
    let told = |number: Value| {
        let schema = json!({"type": "object", "properties": {"n": {"type": "number", "minimum": 2.5}}});
        faults(schema, json!({"n": number}), None)
    };
    assert_eq!(told(json!(2)), [""; 0]);
    assert_eq!(told(json!(2.25)).len(), 1);
    assert_eq!(
        told(json!(1)),
        ["spec.n: Invalid value: 1: spec.n in body should be greater than or equal to 2"]
    );
}

#[test]
fn what_has_the_wrong_type_is_no_listed_value_either() {
    let choice = json!({"type": "string", "enum": ["a", "b"]});
    let either = json!({
        "type": "object", "properties": {"b": {"type": "string"}, "c": {"type": "string"}},
        "oneOf": [{"required": ["b"]}, {"required": ["c"]}],
    });
    let mut or_null = choice.clone();
    or_null["nullable"] = true.into();
    let schema = json!({"type": "object", "properties": {"null": or_null}});
    assert_eq!(
        faults(schema, json!({"null": null}), None),
        [r#"spec.null: Unsupported value: null: supported values: "a", "b""#]
    );
    let schema = json!({"type": "object", "properties": {"choice": choice, "either": either}});
    assert_eq!(
        faults(schema, json!({"choice": 1, "either": 5}), None),
        [
            r#"spec.choice: Invalid value: "integer": spec.choice in body must be of type string: "integer""#,
            r#"spec.choice: Unsupported value: 1: supported values: "a", "b""#,
            r#"spec.either: Invalid value: "integer": spec.either in body must be of type object: "integer""#,
            r#"<nil>: Invalid value: "": "spec.either" must validate one and only one schema (oneOf). Found 2 valid alternatives"#,
        ]
    );
}

#[test]
fn numbers_are_listed_without_their_fraction() {
    let told = |listed: Value, number: Value| {
        let schema = json!({"type": "object", "properties": {"n": {"type": "number", "enum": [listed]}}});
        faults(schema, json!({"n": number}), None).len()
    };
    assert_eq!(told(json!(2), json!(2.5)), 0);
    assert_eq!(told(json!(2.0), json!(2)), 0);
    assert_eq!(told(json!(2.5), json!(2)), 1);
    assert_eq!(told(json!(2), json!(3)), 1);
}

#[test]
fn a_format_without_a_type_is_for_texts() {
    let schema =
        json!({"type": "object", "properties": {"f": {"type": "string", "allOf": [{"format": "cidr"}]}}});
    let told = |value: Value| faults(schema.clone(), json!({"f": value}), None);
    assert_eq!(told(json!("10.0.0.0/8")), [""; 0]);
    assert_eq!(
        told(json!(5)),
        [
            r#"spec.f: Invalid value: "integer": spec.f in body must be of type string: "integer""#,
            r#"spec.f: Invalid value: "int64": spec.f in body must be of type cidr: "int64""#,
            r#"<nil>: Invalid value: "": "spec.f" must validate all the schemas (allOf). None validated"#,
        ]
    );
}

#[test]
fn a_multiple_is_as_exact_as_its_digits() {
    let told = |divisor: Value, number: Value| {
        let schema =
            json!({"type": "object", "properties": {"n": {"type": "number", "multipleOf": divisor}}});
        faults(schema, json!({"n": number}), None).len()
    };
    for (divisor, number) in [
        (json!(0.01), json!(0.07)),
        (json!(0.01), json!(19.99)),
        (json!(0.01), json!(-0.07)),
        (json!(0.01), json!(3)),
        (json!(0.5), json!(1.5)),
        (json!(1.5), json!(4.5)),
        (json!(1.5), json!(2)),
        (json!(3), json!(9_007_199_254_740_993_i64)),
        (json!(3), json!(0)),
    ] {
        assert_eq!(told(divisor.clone(), number.clone()), 0, "{number} of {divisor}");
    }
    for (divisor, number) in [
        (json!(0.01), json!(0.075)),
        (json!(0.5), json!(1.25)),
        (json!(3), json!(9_007_199_254_740_992_i64)),
        (json!(0.01), json!(1e30)),
        (json!(0.01), json!(1e-12)),
    ] {
        assert_eq!(told(divisor.clone(), number.clone()), 1, "{number} of {divisor}");
    }
}

#[test]
fn of_lists_without_keys_nothing_is_known_unless_they_are_as_they_were() {
    let list = |kind: &str| {
        let items = json!({"type": "integer", "format": "int32"});
        let mut list = json!({"type": "array", "items": items});
        if !kind.is_empty() {
            list["x-kubernetes-list-type"] = kind.into();
        }
        json!({"type": "object", "properties": {"l": list}})
    };
    let (old, new) = (json!({"l": [3_000_000_000_u32, 1]}), json!({"l": [3_000_000_000_u32, 2]}));
    for kind in ["", "atomic", "set"] {
        assert_eq!(faults(list(kind), old.clone(), Some(old.clone())), [""; 0], "{kind}");
        assert_eq!(faults(list(kind), new.clone(), Some(old.clone())).len(), 1, "{kind}");
    }
}

#[test]
fn names_of_kubernetes_are_formats() {
    let schema = json!({"type": "object", "properties": {
        "short": {"type": "string", "format": "k8s-short-name"},
        "long": {"type": "string", "format": "k8s-long-name"},
    }});
    assert_eq!(faults(schema.clone(), json!({"short": "a-b", "long": "a.b"}), None), [""; 0]);
    assert_eq!(
        faults(schema, json!({"short": "A_b", "long": "a..b"}), None),
        [
            r#"spec.long: Invalid value: "a..b": spec.long in body must be of type k8s-long-name: "a..b""#,
            r#"spec.short: Invalid value: "A_b": spec.short in body must be of type k8s-short-name: "A_b""#,
        ]
    );
}

#[test]
fn many_faults_below_a_long_key_take_little_to_tell() {
    let schema =
        json!({"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}});
    let told = faults(schema, json!({"k".repeat(1 << 20): vec![1; 100_000]}), None);
    assert_eq!(told.len(), MOST_TOLD);
    assert!(told.iter().all(|text| text.len() < 4096));
}

#[test]
fn null_is_no_value_unless_it_is_said() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string", "nullable": true}}});
    assert_eq!(
        faults(schema, json!({"a": null, "b": null}), None),
        [r#"spec.a: Invalid value: "null": spec.a in body must be of type string: "null""#]
    );
}

#[test]
fn what_was_wrong_before_may_stay() {
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "integer", "maximum": 5}, "b": {"type": "integer"},
        "m": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer", "maximum": 5}}}},
    }});
    let old = json!({"a": 9, "b": 1, "m": [{"k": "x", "v": 9}]});
    let moved = json!({"a": 9, "b": 2, "m": [{"k": "y", "v": 1}, {"k": "x", "v": 9}]});
    assert!(faults(schema.clone(), moved, Some(old.clone())).is_empty());
    let worse = json!({"a": 8, "b": 2, "m": [{"k": "x", "v": 9}]});
    assert_eq!(faults(schema, worse, Some(old)).len(), 1);
}

#[test]
fn alternatives_are_told_as_kube_openapi_tells_them() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
        "oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
    assert_eq!(
        faults(schema.clone(), json!({}), None),
        [
            r#"<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found none valid"#,
            "spec.a: Required value",
        ]
    );
    assert_eq!(
        faults(schema, json!({"a": "", "b": ""}), None),
        [
            r#"<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found 2 valid alternatives"#
        ]
    );
}

#[test]
fn of_alternatives_the_one_that_fits_best_is_told() {
    let text = json!({"type": "string", "minLength": 2});
    let branch = |names: &[&str]| {
        let properties: Map<String, Value> =
            names.iter().map(|name| ((*name).to_owned(), json!({"minLength": 2}))).collect();
        json!({"properties": properties, "required": ["need"]})
    };
    for keyword in ["anyOf", "oneOf"] {
        let schema = json!({
            "type": "object", "properties": {"a": text, "b": text, "need": text},
            keyword: [branch(&["a"]), branch(&["a", "b"]), branch(&["b"])],
        });
        let told = faults(schema, json!({"a": "xx", "b": "x"}), None);
        // The second one looks at both fields.
        assert!(told.iter().any(|text| text.starts_with("spec.b: Invalid value")), "{told:?}");
        assert_eq!(told.iter().filter(|text| text.starts_with("spec.b: Invalid value")).count(), 1);
    }
}

#[test]
fn a_status_is_told_from_where_it_begins() {
    let status = json!({"type": "object", "required": ["a"], "properties": {
        "a": {"type": "string"}, "b": {"type": "integer", "maximum": 2},
    }, "not": {"required": ["c"]}});
    let schema = json!({"type": "object", "properties": {"status": status, "spec": {"type": "string"}}});
    let schema = Structural::parse(&schema).unwrap();
    let told = |status: Value| {
        let found = schema.check_status(&json!({"spec": 1, "status": status}), None);
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        told(json!({"b": 3, "c": 1})),
        [
            r#"status: Invalid value: "": "" must not validate the schema (not)"#,
            "status.b: Invalid value: 3: b in body should be less than or equal to 2",
            "status.a: Required value",
        ]
    );
    let found = schema.check_status(&json!({"spec": 1}), None);
    assert_eq!(found, [], "nothing else is looked at");
}

#[test]
fn duplicates_may_stay_where_there_were_some() {
    let set = json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}});
    let schema = json!({"type": "object", "properties": {"a": set, "b": set}});
    let old = json!({"a": ["x", "x"]});
    let new = json!({"a": ["x", "x", "x"], "b": ["y", "y"]});
    assert_eq!(faults(schema.clone(), new.clone(), Some(old)), [""; 0]);
    let told = [r#"spec.a[1]: Duplicate value: "x""#, r#"spec.b[1]: Duplicate value: "y""#];
    assert_eq!(faults(schema, new, Some(json!({"a": ["x"]}))), told);
}

#[test]
fn sets_and_list_maps_have_no_duplicates() {
    let schema = json!({"type": "object", "properties": {
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}}}},
    }});
    assert_eq!(
        faults(schema, json!({"set": ["a", "b", "a"], "map": [{"k": "x"}, {"k": "x"}]}), None),
        [r#"spec.map[1]: Duplicate value: {"k":"x"}"#, r#"spec.set[2]: Duplicate value: "a""#,]
    );
}

#[test]
fn entries_of_long_lists_are_found_by_their_keys() {
    let schema = json!({"type": "object", "properties": {
        "m": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a", "b"],
            "items": {"type": "object", "x-kubernetes-validations": [{"rule": "self.v == oldSelf.v", "message": "it stays"}],
                "properties": {"a": {"type": "string"}, "b": {"type": "integer"}, "v": {"type": "integer", "maximum": 5}}}},
    }});
    let entry = |at: usize| json!({"a": format!("a{at}"), "b": at % 7, "v": 9});
    let old: Vec<Value> = (0..50_000).map(entry).collect();
    let mut new: Vec<Value> = old.iter().rev().cloned().collect();
    new.push(json!({"a": "new", "v": 1}));
    let (old, new) = (json!({"m": old}), json!({"m": new}));
    assert_eq!(faults(schema.clone(), new.clone(), Some(old.clone())), [""; 0]);
    let schema = json!({"type": "object", "properties": {"spec": schema}});
    let mut schema = Structural::parse(&schema).unwrap();
    assert_eq!(schema.compile_rules(), []);
    let (old, mut new) = (json!({"spec": old}), json!({"spec": new}));
    assert_eq!(schema.check_rules(&new, Some(&old)).faults, []);
    new["spec"]["m"][0]["v"] = 4.into();
    let told: Vec<_> = schema.check_rules(&new, Some(&old)).faults.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["spec.m[0]: Invalid value: it stays"]);
}

#[test]
fn what_takes_too_long_is_refused_however_many_alternatives_or_listed_values_there_are() {
    let alternatives = vec![json!({"pattern": "b"}); 100];
    let schema = json!({"type": "object", "properties": {
        "list": {"type": "array", "items": {"type": "string", "anyOf": alternatives}},
        "listed": {"type": "array", "items": {"type": "integer", "enum": (0..1600).collect::<Vec<_>>()}},
        "text": {"type": "string", "pattern": "b"},
    }});
    let schema = Structural::parse(&schema).unwrap();
    let too_long = [r#"<nil>: Invalid value: "": the object takes too long to be checked"#];
    let told = |object: &Value, looks: usize| -> Vec<String> {
        schema.check_within(object, None, looks).iter().map(ToString::to_string).collect()
    };
    let object = json!({"list": vec!["a"; 40]});
    assert_eq!(told(&object, 4000), too_long);
    assert_eq!(told(&object, 5000).len(), 80);
    let object = json!({"listed": vec![1; 40]});
    assert_eq!(told(&object, 4000), too_long);
    assert_eq!(told(&object, 5000), [""; 0]);
    let object = json!({"text": "a".repeat(LOOK_BYTES * 100)});
    assert_eq!(told(&object, 100), too_long);
    assert_eq!(told(&object, 110).len(), 1);
}

#[test]
fn faults_of_one_alternative_are_told_and_no_more_than_a_hundred_of_all() {
    let many = |keyword: &str| json!({"type": "string", keyword: (0..500).map(|at| json!({"minLength": 9 + at})).collect::<Vec<_>>()});
    let told = |keyword: &str| faults(json!({"properties": {"a": many(keyword)}}), json!({"a": "b"}), None);
    let fault = r#"spec.a: Invalid value: "b": spec.a in body should be at least 9 chars long"#;
    for keyword in ["anyOf", "oneOf"] {
        assert_eq!(told(keyword)[1..], [fault], "{keyword}");
    }
    assert_eq!(told("allOf").len(), MOST_TOLD + 1);
}

#[test]
fn patterns_are_compiled_when_they_are_needed() {
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "string", "pattern": "^b$"}, "c": {"type": "string", "pattern": "("},
    }});
    let schema = Structural::parse(&schema).unwrap();
    let is_compiled = |name: &str| schema.properties[name].checks.pattern.as_ref().unwrap().is_compiled();
    assert!(schema.check(&json!({"a": "b"}), None).is_empty());
    assert!(is_compiled("a") && !is_compiled("c"));
    let told = schema.check(&json!({"c": "b"}), None);
    assert_eq!(
        told[0].to_string(),
        r#"c: Invalid value: "b": c in body should match '('"#,
        "no text matches it"
    );
}
