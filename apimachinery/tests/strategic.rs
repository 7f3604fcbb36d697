//! Strategic merge patch: the vectors of Kubernetes' own implementation.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use apimachinery::patch::{
    PatchError,
    strategic::{FieldMerge, MergeSchema, MergeStrategy, apply, create_three_way, create_two_way},
};
use serde_json::{Value, json};

struct VectorSchema(Value);

impl MergeSchema for VectorSchema {
    fn field(&self, parent: &str, field: &str) -> Option<FieldMerge> {
        let field = self.0.get(parent)?.get(field)?;
        let text = |name: &str| field.get(name).and_then(Value::as_str).map(str::to_owned);
        let strategies = field.get("strategy").and_then(Value::as_array).into_iter().flatten();
        Some(FieldMerge {
            merge_key: text("key"),
            strategies: strategies
                .map(|strategy| match strategy.as_str().unwrap() {
                    "merge" => MergeStrategy::Merge,
                    "replace" => MergeStrategy::Replace,
                    _ => MergeStrategy::RetainKeys,
                })
                .collect(),
            child: text("items").or_else(|| text("type")),
        })
    }
}

#[test]
fn the_vectors_hold() {
    let file: Value = serde_json::from_str(include_str!("vectors/strategic-merge.json")).unwrap();
    let schema = VectorSchema(file["schema"].clone());
    let root = file["schema"]["root"].as_str().unwrap();
    let mut failures = Vec::new();
    for case in file["cases"].as_array().unwrap() {
        let name = &case["description"];
        let mut check = |what: &str, got: Result<Value, _>, expect: &Value| {
            if got.as_ref() != Ok(expect) {
                failures.push(format!("{name}: {what}: got {got:?}, expected {expect}"));
            }
        };
        let patched = apply(&schema, root, &case["original"], &case["twoWay"]);
        if let Some(text) = case.get("expectedError").and_then(Value::as_str) {
            let error = patched.unwrap_err().to_string();
            assert!(error.contains(text), "{name}: {error}");
            continue;
        }
        check("apply two-way", patched, case.get("twoWayResult").or_else(|| case.get("modified")).unwrap());
        if let Some(three_way) = case.get("threeWay") {
            let (original, modified, current) = (&case["original"], &case["modified"], &case["current"]);
            check("create two-way", create_two_way(&schema, root, original, modified), &case["twoWay"]);
            let created = create_three_way(&schema, root, original, modified, current);
            check("create three-way", created, three_way);
            check("apply three-way", apply(&schema, root, current, three_way), &case["result"]);
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// Objects of a type with a list of scalars that merges, one that is replaced, a list of named objects, and a text.
struct Lists;

impl MergeSchema for Lists {
    fn field(&self, parent: &str, field: &str) -> Option<FieldMerge> {
        let merge = |key: Option<&str>| FieldMerge {
            merge_key: key.map(str::to_owned),
            strategies: vec![MergeStrategy::Merge],
            child: None,
        };
        match (parent, field) {
            ("v1.Lists", "set") => Some(merge(None)),
            ("v1.Lists", "named") => Some(merge(Some("name"))),
            ("v1.Lists", "plain" | "text" | "objects") => Some(FieldMerge::default()),
            _ => None,
        }
    }
}

/// Applies a patch to an object with all fields: the fields that have changed, or the error.
fn patched(patch: &Value) -> Result<Value, PatchError> {
    let object = json!({"set": ["a", "b"], "plain": ["x", "y"], "text": "t", "objects": [{"key": "k"}],
        "named": [{"name": "A"}, {"name": "B"}]});
    let made = apply(&Lists, "v1.Lists", &object, patch)?;
    let mut changed = serde_json::Map::new();
    for field in ["set", "plain", "text", "objects", "named"] {
        if made.get(field) != object.get(field) {
            changed.insert(field.to_owned(), made.get(field).cloned().unwrap_or_default());
        }
    }
    Ok(Value::Object(changed))
}

#[test]
fn a_list_that_takes_the_place_of_another_is_taken_as_it_is() {
    let objects = json!([{"key": "k", "$patch": "delete"}, {"key": "l", "odd": null}]);
    assert_eq!(patched(&json!({"objects": objects})), Ok(json!({"objects": objects})));
}

#[test]
fn values_are_taken_out_of_lists_of_scalars_only() {
    let delete =
        |field: &str, value: Value| patched(&json!({format!("$deleteFromPrimitiveList/{field}"): value}));
    assert_eq!(delete("set", json!(["a", "c"])), Ok(json!({"set": ["b"]})));
    assert_eq!(delete("plain", json!(["x"])), Ok(json!({"plain": ["y"]})), "whatever its strategy");
    assert_eq!(delete("set", Value::Null), Ok(json!({"set": null})), "as any null");
    for (field, value) in [
        ("set", json!("a")),
        ("set", json!({})),
        ("set", json!([])),
        ("text", json!(["t"])),
        ("nothing", json!(["a"])),
        ("named", json!([{"name": "A"}])),
    ] {
        assert_eq!(delete(field, value.clone()), Ok(json!({})), "{field} {value}");
    }
    let unlike =
        |lists: &str| Err(PatchError::Unexpected(format!("list element types are not identical: {lists}")));
    assert_eq!(delete("named", json!(["A"])), unlike("[[map[name:A] map[name:B]] [A]]"));
    assert_eq!(delete("set", json!([1])), unlike("[[a b] [1]]"));
    assert_eq!(delete("plain", json!([null])), unlike("[[x y] [<nil>]]"));
    assert_eq!(
        patched(&json!({"$deleteFromPrimitiveList": ["a"]})),
        Err(PatchError::Malformed("invalid patch format of primitive list".to_owned()))
    );
}

#[test]
fn orders_are_of_lists_and_name_what_they_order() {
    let order = |field: &str, value: Value| patched(&json!({format!("$setElementOrder/{field}"): value}));
    let unexpected = |text: &str| Err(PatchError::Unexpected(text.to_owned()));
    assert_eq!(order("set", json!(["b", "a"])), Ok(json!({"set": ["b", "a"]})));
    assert_eq!(order("plain", json!(["y", "x"])), Ok(json!({"plain": ["y", "x"]})));
    assert_eq!(order("set", json!("a")), unexpected("expected a []interface {}, but received a string"));
    assert_eq!(order("set", Value::Null), unexpected("expected a []interface {}, but received a %!s(<nil>)"));
    assert_eq!(order("text", json!(["t"])), unexpected("expected a []interface {}, but received a string"));
    assert_eq!(
        order("nothing", json!(["t"])),
        unexpected("unable to find api field in struct Lists for the json field \"nothing\"")
    );
    assert_eq!(
        order("named", json!([{}])),
        unexpected("map: map[] does not contain declared merge key: name")
    );
    assert_eq!(order("named", json!(["A"])), unexpected("value for key 0 is not a map"));
    assert_eq!(
        patched(&json!({"$setElementOrder": []})),
        Err(PatchError::Malformed("invalid patch format of setElementOrder list".to_owned()))
    );
    let both = |order: Value| patched(&json!({"$setElementOrder/named": order, "named": [{"name": "C"}]}));
    assert_eq!(
        both(json!([{"name": "B"}])),
        unexpected(
            "the order in patch list:\n[map[name:C]]\n doesn't match $setElementOrder list:\n[map[name:B]]"
        )
    );
    let all = json!([{"name": "C"}, {"name": "B"}, {"name": "A"}]);
    assert_eq!(both(all.clone()), Ok(json!({"named": all})));
    assert!(both(json!([])).is_ok(), "no order is any order");
}

#[test]
fn directives_that_are_none_are_told_with_what_they_stand_in() {
    let unexpected = |text: &str| Err(PatchError::Unexpected(text.to_owned()));
    assert_eq!(
        patched(&json!({"$patch": "odd"})),
        unexpected("unknown patch type: odd in map: map[$patch:odd]")
    );
    assert_eq!(
        patched(&json!({"named": [{"$patch": 1, "name": "A"}]})),
        unexpected("unknown patch type: %!s(int64=1) in map: map[$patch:1 name:A]")
    );
    assert_eq!(
        patched(&json!({"named": [{"$patch": "merge", "name": "A"}]})),
        unexpected("merging lists cannot yet be specified in the patch")
    );
    assert_eq!(
        patched(&json!({"named": [{"value": 1}]})),
        unexpected("map: map[value:1] does not contain declared merge key: name")
    );
    assert_eq!(
        patched(&json!({"$retainKeys": "text"})),
        Err(PatchError::Malformed("invalid patch format of retainKeys".to_owned()))
    );
    // Where there is nothing to change, what says how to change it goes.
    assert_eq!(patched(&json!({"text": {"$patch": "replace", "a": 1}})), Ok(json!({"text": null})));
}

#[test]
fn many_retained_keys_take_little_to_apply() {
    let schema = VectorSchema(json!({}));
    let names: Vec<String> = (0..60_000).map(|number| format!("n{number}")).collect();
    let original: Value = names.iter().map(|name| (format!("old-{name}"), json!(1))).collect();
    let mut patch: Value = names.iter().map(|name| (name.clone(), json!(2))).collect();
    let expect = patch.clone();
    patch["$retainKeys"] = names.into();
    assert!(apply(&schema, "any", &original, &patch).unwrap() == expect);
}
