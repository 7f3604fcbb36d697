//! Field ownership: the vectors of structured-merge-diff, and the life of managed fields.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use apimachinery::apply::{
    ApplyError, Conflicts, Duplicates, FieldSet, ManagedEntry, Manager, ObjectType, PathElement, Schema,
    TypeRef, apply, managed_fields, update,
};
use serde_json::{Value, json};

fn vectors(text: &str) -> Vec<Value> {
    serde_json::from_str::<Value>(text).unwrap()["vectors"].as_array().unwrap().clone()
}

#[test]
fn the_merge_vectors_hold() {
    for vector in vectors(include_str!("vectors/structured-merge.json")) {
        let schema: Schema = serde_json::from_value(vector["schema"].clone()).unwrap();
        let root = TypeRef::named(vector["root"].as_str().unwrap());
        let merged = ObjectType::new(&schema, &root).merge(&vector["lhs"], &vector["rhs"]);
        assert_eq!(merged.as_ref(), Ok(&vector["out"]), "{vector}");
    }
}

#[test]
fn the_validation_vectors_hold() {
    for vector in vectors(include_str!("vectors/structured-validate.json")) {
        let schema: Schema = serde_json::from_value(vector["schema"].clone()).unwrap();
        let root = TypeRef::named(vector["root"].as_str().unwrap());
        let kind = ObjectType::new(&schema, &root);
        let strict = kind.validate(&vector["object"], Duplicates::Refuse).is_ok();
        let lenient = kind.validate(&vector["object"], Duplicates::Allow).is_ok();
        let expect = match vector["expect"].as_str().unwrap() {
            "valid" => (true, true),
            "duplicates" => (false, true),
            _ => (false, false),
        };
        assert_eq!((strict, lenient), expect, "{vector}");
    }
}

fn schema() -> Schema {
    serde_json::from_value(json!({"types": [
        {"name": "Deployment", "map": {"fields": [
            {"name": "apiVersion", "type": {"scalar": "string"}},
            {"name": "kind", "type": {"scalar": "string"}},
            {"name": "metadata", "type": {"namedType": "Meta"}},
            {"name": "spec", "type": {"namedType": "Spec"}},
            {"name": "status", "type": {"namedType": "__untyped_deduced_"}},
        ]}},
        {"name": "Meta", "map": {"fields": [
            {"name": "name", "type": {"scalar": "string"}},
            {"name": "uid", "type": {"scalar": "string"}},
            {"name": "resourceVersion", "type": {"scalar": "string"}},
            {"name": "creationTimestamp", "type": {"scalar": "string"}},
            {"name": "labels", "type": {"map": {"elementType": {"scalar": "string"}}}},
            {"name": "finalizers", "type": {"list": {"elementRelationship": "associative", "elementType": {"scalar": "string"}}}},
        ]}},
        {"name": "Spec", "map": {"fields": [
            {"name": "replicas", "type": {"scalar": "numeric"}},
            {"name": "args", "type": {"list": {"elementRelationship": "atomic", "elementType": {"scalar": "string"}}}},
            {"name": "ports", "type": {"list": {"elementRelationship": "associative", "keys": ["containerPort", "protocol"], "elementType": {"namedType": "Port"}}}},
        ]}},
        {"name": "Port", "map": {"fields": [
            {"name": "containerPort", "type": {"scalar": "numeric"}},
            {"name": "protocol", "type": {"scalar": "string"}, "default": "TCP"},
            {"name": "name", "type": {"scalar": "string"}},
        ]}},
    ]}))
    .unwrap()
}

struct World {
    schema: Schema,
    root: TypeRef,
}

impl World {
    fn new() -> Self {
        Self { schema: schema(), root: TypeRef::named("Deployment") }
    }

    fn apply(
        &self,
        live: Option<&Value>,
        by: &str,
        config: Value,
        how: Conflicts,
    ) -> Result<Value, ApplyError> {
        apply(ObjectType::new(&self.schema, &self.root), live, &config, &manager(by, ""), how)
    }

    fn update(&self, live: Option<&Value>, by: &str, new: Value) -> Value {
        update(ObjectType::new(&self.schema, &self.root), live, new, &manager(by, "")).unwrap()
    }
}

fn manager<'a>(name: &'a str, subresource: &'a str) -> Manager<'a> {
    Manager { name, api_version: "apps/v1", subresource, now: "2026-01-02T03:04:05Z", resets: None }
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec})
}

fn owned(object: &Value, by: &str) -> Option<Value> {
    let entries = managed_fields(object).unwrap();
    entries.iter().find(|entry| entry.owner.manager == by).map(|entry| entry.fields.to_value())
}

#[test]
fn an_applier_owns_what_it_sets_and_names_items_by_key_with_defaults() {
    let world = World::new();
    let config = deployment(json!({"replicas": 3, "ports": [{"containerPort": 80}], "args": ["a"]}));
    let live = world.apply(None, "a", config, Conflicts::Refuse).unwrap();
    assert_eq!(
        owned(&live, "a").unwrap(),
        json!({"f:spec": {"f:replicas": {}, "f:args": {}, "f:ports": {
            "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}},
        }}})
    );
    let entry = &live["metadata"]["managedFields"][0];
    assert_eq!(entry["operation"], "Apply");
    assert_eq!(entry["fieldsType"], "FieldsV1");
    assert_eq!(entry["time"], "2026-01-02T03:04:05Z");
}

#[test]
fn a_different_value_conflicts_with_its_owner_and_force_takes_it() {
    let world = World::new();
    let live = world.apply(None, "a", deployment(json!({"replicas": 3})), Conflicts::Refuse).unwrap();
    let error =
        world.apply(Some(&live), "b", deployment(json!({"replicas": 5})), Conflicts::Refuse).unwrap_err();
    assert_eq!(error.to_string(), "Apply failed with 1 conflict: conflict with \"a\": .spec.replicas");
    let status = apimachinery::ApiError::from(&error).to_value();
    assert_eq!(status["code"], 409);
    assert_eq!(
        status["details"]["causes"],
        json!([{"reason": "FieldManagerConflict", "message": "conflict with \"a\"", "field": ".spec.replicas"}])
    );
    let taken = world.apply(Some(&live), "b", deployment(json!({"replicas": 5})), Conflicts::Force).unwrap();
    assert_eq!(taken["spec"]["replicas"], 5);
    assert_eq!(owned(&taken, "a"), None);
    assert_eq!(owned(&taken, "b").unwrap(), json!({"f:spec": {"f:replicas": {}}}));
}

#[test]
fn an_equal_value_is_shared_and_goes_only_with_its_last_owner() {
    let world = World::new();
    let live = world.apply(None, "a", deployment(json!({"replicas": 3})), Conflicts::Refuse).unwrap();
    let live = world.apply(Some(&live), "b", deployment(json!({"replicas": 3})), Conflicts::Refuse).unwrap();
    let live = world.apply(Some(&live), "a", deployment(json!({})), Conflicts::Refuse).unwrap();
    assert_eq!(live["spec"]["replicas"], 3, "b still owns it");
    let live = world.apply(Some(&live), "b", deployment(json!({})), Conflicts::Refuse).unwrap();
    assert_eq!(live["spec"].get("replicas"), None);
}

#[test]
fn a_dropped_list_item_goes_and_others_stay() {
    let world = World::new();
    let ports = |ports: &[u16]| {
        let ports: Vec<Value> =
            ports.iter().map(|p| json!({"containerPort": p, "protocol": "TCP"})).collect();
        deployment(json!({"ports": ports}))
    };
    let live = world.apply(None, "a", ports(&[80, 81]), Conflicts::Refuse).unwrap();
    let live = world.apply(Some(&live), "b", ports(&[90]), Conflicts::Refuse).unwrap();
    let live = world.apply(Some(&live), "a", ports(&[81]), Conflicts::Refuse).unwrap();
    let left: Vec<&Value> =
        live["spec"]["ports"].as_array().unwrap().iter().map(|port| &port["containerPort"]).collect();
    assert_eq!(left, [81, 90]);
}

#[test]
fn a_dropped_item_stays_while_another_owns_a_field_of_it() {
    let world = World::new();
    let live = world.apply(
        None,
        "a",
        deployment(json!({"ports": [{"containerPort": 80, "protocol": "TCP"}]})),
        Conflicts::Refuse,
    );
    let named = deployment(json!({"ports": [{"containerPort": 80, "protocol": "TCP", "name": "http"}]}));
    let live = world.apply(Some(&live.unwrap()), "b", named, Conflicts::Refuse).unwrap();
    let live = world.apply(Some(&live), "a", deployment(json!({})), Conflicts::Refuse).unwrap();
    assert_eq!(live["spec"]["ports"], json!([{"containerPort": 80, "protocol": "TCP", "name": "http"}]));
}

#[test]
fn an_apply_that_changes_nothing_leaves_the_object_as_it_is() {
    let world = World::new();
    let config = deployment(json!({"replicas": 3}));
    let live = world.apply(None, "a", config.clone(), Conflicts::Refuse).unwrap();
    let later = Manager { now: "2027-01-01T00:00:00Z", ..manager("a", "") };
    let kind = ObjectType::new(&world.schema, &world.root);
    assert_eq!(apply(kind, Some(&live), &config, &later, Conflicts::Refuse).unwrap(), live);
}

#[test]
fn an_update_takes_what_it_changes_and_conflicts_name_its_version() {
    let world = World::new();
    let live =
        world.apply(None, "a", deployment(json!({"replicas": 3, "args": ["x"]})), Conflicts::Refuse).unwrap();
    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = json!(7);
    let live = world.update(Some(&live), "kubectl", scaled);
    assert_eq!(owned(&live, "kubectl").unwrap(), json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(owned(&live, "a").unwrap(), json!({"f:spec": {"f:args": {}}}));
    let error = world
        .apply(Some(&live), "a", deployment(json!({"replicas": 3, "args": ["x"]})), Conflicts::Refuse)
        .unwrap_err();
    assert!(error.to_string().contains("conflict with \"kubectl\" using apps/v1: .spec.replicas"), "{error}");
}

#[test]
fn an_update_that_changes_nothing_keeps_times() {
    let world = World::new();
    let live = world.update(None, "kubectl", deployment(json!({"replicas": 1})));
    let later = Manager { now: "2027-01-01T00:00:00Z", ..manager("kubectl", "") };
    let kind = ObjectType::new(&world.schema, &world.root);
    assert_eq!(update(kind, Some(&live), live.clone(), &later).unwrap(), live);
}

#[test]
fn subresources_have_entries_of_their_own() {
    let world = World::new();
    let live = world.update(None, "c", deployment(json!({"replicas": 1})));
    let mut new = live.clone();
    new["status"] = json!({"ready": 1});
    let kind = ObjectType::new(&world.schema, &world.root);
    let live = update(kind, Some(&live), new, &manager("c", "status")).unwrap();
    let entries = managed_fields(&live).unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[1].owner.subresource, "status");
    assert_eq!(entries[1].fields.to_value(), json!({"f:status": {".": {}, "f:ready": {}}}));
}

#[test]
fn managed_fields_can_be_cleared_and_what_is_untracked_stays_so() {
    let world = World::new();
    let live = world.update(None, "c", deployment(json!({"replicas": 1})));
    let mut new = live.clone();
    new["metadata"]["managedFields"] = json!([{}]);
    let live = world.update(Some(&live), "c", new);
    assert_eq!(live["metadata"].get("managedFields"), None);
    let again = world.update(Some(&live), "c", deployment(json!({"replicas": 2})));
    assert_eq!(again["metadata"].get("managedFields"), None);
    let applied =
        world.apply(Some(&again), "a", deployment(json!({"replicas": 2})), Conflicts::Refuse).unwrap();
    assert!(owned(&applied, "before-first-apply").is_some());
}

#[test]
fn unknown_fields_and_managed_fields_in_a_configuration_are_refused() {
    let world = World::new();
    let error = world.apply(None, "a", deployment(json!({"color": 1})), Conflicts::Refuse).unwrap_err();
    assert!(error.to_string().contains(".spec.color: field not declared in schema"), "{error}");
    let mut config = deployment(json!({}));
    config["metadata"]["managedFields"] = json!([]);
    let error = world.apply(None, "a", config, Conflicts::Refuse).unwrap_err();
    assert_eq!(error.to_string(), "metadata.managedFields must be nil");
}

#[test]
fn without_a_schema_maps_are_separable_and_lists_atomic() {
    let kind = ObjectType::deduced();
    let a = json!({"spec": {"x": {"a": 1}, "l": [1]}});
    let live = apply(kind, None, &a, &manager("a", ""), Conflicts::Refuse).unwrap();
    let b = json!({"spec": {"x": {"b": 1}}});
    let live = apply(kind, Some(&live), &b, &manager("b", ""), Conflicts::Refuse).unwrap();
    assert_eq!(live["spec"], json!({"x": {"a": 1, "b": 1}, "l": [1]}));
    let b = json!({"spec": {"l": [2]}});
    assert!(apply(kind, Some(&live), &b, &manager("b", ""), Conflicts::Refuse).is_err());
}

#[test]
fn update_managers_are_bounded() {
    let world = World::new();
    let mut live = world.update(None, "m0", deployment(json!({"replicas": 0})));
    for n in 1..20 {
        let mut new = live.clone();
        new["metadata"]["labels"][format!("l{n}")] = json!("x");
        live = world.update(Some(&live), &format!("m{n}"), new);
    }
    let entries = managed_fields(&live).unwrap();
    assert_eq!(entries.len(), 10);
    assert!(entries.iter().any(|entry| entry.owner.manager == "ancient-changes"));
}

#[test]
fn what_the_server_keeps_as_it_is_nobody_comes_to_own_by_an_apply() {
    let mut resets = FieldSet::default();
    resets.insert(&[PathElement::field("status")]);
    let by = |name| Manager { resets: Some(&resets), ..manager(name, "") };
    let configuration = |replicas: i64, ready: i64| {
        let mut object = deployment(json!({"replicas": replicas}));
        object["status"] = json!({"readyReplicas": ready});
        object
    };
    let kind = ObjectType::deduced();
    let live = apply(kind, None, &configuration(1, 1), &by("a"), Conflicts::Refuse).unwrap();
    assert_eq!(owned(&live, "a"), Some(json!({"f:spec": {".": {}, "f:replicas": {}}})));
    // Another one's status is no conflict, and no change.
    let mut live = update(kind, Some(&live), configuration(1, 2), &manager("kubelet", "status")).unwrap();
    live["status"]["readyReplicas"] = json!(2);
    let again = apply(kind, Some(&live), &configuration(1, 3), &by("a"), Conflicts::Refuse).unwrap();
    assert_eq!(again, live);
}

/// An entry of `metadata.managedFields` for fields of the object's `data`.
fn entry(manager: &str, operation: &str, version: &str, fields: impl IntoIterator<Item = String>) -> Value {
    let fields: Value = fields.into_iter().map(|name| (format!("f:{name}"), json!({}))).collect();
    json!({"manager": manager, "operation": operation, "apiVersion": version, "fieldsType": "FieldsV1",
        "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:data": fields}})
}

fn data(count: usize, value: &str) -> Value {
    (0..count).map(|at| (format!("n{at}"), Value::from(value))).collect()
}

const WRITER: Manager<'_> = Manager {
    name: "writer",
    api_version: "e/v1",
    subresource: "",
    now: "2026-02-02T00:00:00Z",
    resets: None,
};

#[test]
fn many_managers_take_little_to_fold() {
    let entries: Vec<Value> =
        (0..20_000).map(|at| entry(&format!("m{at}"), "Update", "e/v1", [format!("n{at}")])).collect();
    let live = json!({"metadata": {"managedFields": [entries[0]]}, "data": data(20_000, "x")});
    let object = json!({"metadata": {"managedFields": entries}, "data": data(20_000, "x")});
    let stored = update(ObjectType::deduced(), Some(&live), object, &WRITER).unwrap();
    let entries = managed_fields(&stored).unwrap();
    assert_eq!(entries.len(), 10);
    let ancient = entries.iter().find(|entry| entry.owner.manager == "ancient-changes").unwrap();
    assert_eq!(ancient.time.as_deref(), Some("2026-01-01T00:00:00Z"));
}

#[test]
fn the_time_of_an_update_tells_when_its_manager_last_set_something() {
    let kind = ObjectType::deduced();
    let at = |now| Manager { now, ..WRITER };
    let time = |object: &Value| object["metadata"]["managedFields"][0]["time"].clone();
    let made = update(kind, None, json!({"data": data(2, "x")}), &at("2026-01-01T00:00:00Z")).unwrap();
    let same = update(kind, Some(&made), json!({"data": data(2, "x")}), &at("2026-01-02T00:00:00Z")).unwrap();
    assert_eq!(time(&same), "2026-01-01T00:00:00Z");
    let set = update(kind, Some(&made), json!({"data": data(2, "y")}), &at("2026-01-02T00:00:00Z")).unwrap();
    assert_eq!(time(&set), "2026-01-02T00:00:00Z", "the same fields, with other values");
    let less = update(kind, Some(&set), json!({"data": data(1, "y")}), &at("2026-01-03T00:00:00Z")).unwrap();
    assert_eq!(time(&less), "2026-01-02T00:00:00Z");
    assert_eq!(owned(&less, "writer").unwrap(), json!({"f:data": {".": {}, "f:n0": {}}}));
}

#[test]
fn of_several_entries_of_one_owner_the_last_counts() {
    let entries = [
        entry("a", "Update", "e/v1", ["x".to_owned()]),
        entry("a", "Update", "e/v1", ["y".to_owned()]),
        entry("a", "Apply", "e/v1", ["x".to_owned()]),
        entry("a", "Apply", "e/v2", ["z".to_owned()]),
    ];
    let found = managed_fields(&json!({"metadata": {"managedFields": entries}})).unwrap();
    let told: Vec<_> =
        found.iter().map(|entry| (&*entry.owner.api_version, entry.fields.to_value())).collect();
    assert_eq!(told, [("e/v1", json!({"f:data": {"f:y": {}}})), ("e/v2", json!({"f:data": {"f:z": {}}}))]);
}

#[test]
fn what_an_apply_to_a_part_finds_untracked_is_told_of_that_part() {
    let live = json!({"apiVersion": "e/v1", "kind": "E", "data": data(1, "x")});
    let status = Manager { subresource: "status", ..WRITER };
    let config = json!({"apiVersion": "e/v1", "kind": "E", "status": {"a": "b"}});
    let applied = apply(ObjectType::deduced(), Some(&live), &config, &status, Conflicts::Refuse).unwrap();
    let found = managed_fields(&applied).unwrap();
    let owners: Vec<_> =
        found.iter().map(|entry| (&*entry.owner.manager, &*entry.owner.subresource)).collect();
    assert_eq!(owners, [("writer", "status"), ("before-first-apply", "status")]);
}

/// Who is left, and with what, after an update of an object that others have updated.
fn folded(others: impl IntoIterator<Item = Value>) -> Vec<(String, String, Value)> {
    let entries: Vec<Value> = others.into_iter().collect();
    let data: Value = (b'a'..=b'z').map(|name| (char::from(name).to_string(), json!("x"))).collect();
    let live = json!({"metadata": {"managedFields": entries}, "data": data});
    let mut object = live.clone();
    object["data"]["new"] = "y".into();
    let stored = update(ObjectType::deduced(), Some(&live), object, &WRITER).unwrap();
    let found = managed_fields(&stored).unwrap();
    let told = |entry: ManagedEntry| {
        let place = format!("{}/{}", entry.owner.api_version, entry.owner.subresource);
        (entry.owner.manager, place, entry.fields.to_value()["f:data"].clone())
    };
    found.into_iter().map(told).collect()
}

#[test]
fn the_oldest_updates_are_folded_by_version_whatever_part_they_were_of() {
    let named = |name: char| entry(&name.to_string(), "Update", "e/v1", [name.to_string()]);
    // All are of the same second: then names tell the order.
    let mut others: Vec<Value> = ('a'..='l').rev().map(named).collect();
    others.iter_mut().find(|other| other["manager"] == "b").unwrap()["subresource"] = "status".into();
    let found = folded(others);
    assert_eq!(found.len(), 10);
    let fields = json!({"f:a": {}, "f:b": {}, "f:c": {}, "f:d": {}});
    assert_eq!(found[0], ("ancient-changes".to_owned(), "e/v1/".to_owned(), fields));
    assert_eq!(found[1].0, "e");
    // What was folded goes on with what is next.
    let mut others: Vec<Value> = ('e'..='m').map(named).collect();
    others.push(entry("ancient-changes", "Update", "e/v1", ["a".to_owned()]));
    let found = folded(others);
    let fields = json!({"f:a": {}, "f:e": {}});
    assert_eq!(found[0], ("ancient-changes".to_owned(), "e/v1/".to_owned(), fields));
}

#[test]
fn one_update_of_each_version_is_left_as_it_is() {
    let of_version =
        |at: u8| entry("m", "Update", &format!("e/v{}", at + 2), [char::from(b'a' + at).to_string()]);
    let found = folded((0..12).map(of_version));
    assert_eq!(found.len(), 13);
    assert!(found.iter().all(|(manager, ..)| manager != "ancient-changes"), "{found:?}");
}

#[test]
fn managers_of_many_versions_take_little_to_follow() {
    let kind = ObjectType::deduced();
    let names = |range: std::ops::Range<usize>| range.map(|at| format!("n{at}"));
    let mut entries: Vec<Value> =
        (0..5_000).map(|at| entry("other", "Update", &format!("e/v{}", at + 2), names(at..at + 1))).collect();
    entries.push(entry("writer", "Apply", "e/v1", names(0..30_000)));
    let live = json!({"metadata": {"managedFields": entries}, "data": data(30_000, "x")});
    let updated = update(kind, Some(&live), json!({"data": data(30_000, "y")}), &WRITER).unwrap();
    assert_eq!(managed_fields(&updated).unwrap().len(), 1, "all others have lost all");
    // What others own stays, in whatever version they said so.
    let nothing = json!({"data": {"z": "1"}});
    let applied = apply(kind, Some(&live), &nothing, &WRITER, Conflicts::Refuse).unwrap();
    assert_eq!(applied["data"].as_object().unwrap().len(), 5_001);
    let all = json!({"data": data(30_000, "y")});
    let Err(ApplyError::Conflicts(found)) = apply(kind, Some(&live), &all, &WRITER, Conflicts::Refuse) else {
        panic!("others own some of it");
    };
    assert_eq!(found.len(), 5_000);
}

#[test]
fn conflicts_below_long_names_take_little_to_tell() {
    let name = "x".repeat(1 << 20);
    let object = |value: &str| json!({name.as_str(): data(50_000, value)});
    let kind = ObjectType::deduced();
    let other = Manager { name: "other", ..WRITER };
    let live = apply(kind, None, &object("x"), &other, Conflicts::Refuse).unwrap();
    let Err(error) = apply(kind, Some(&live), &object("y"), &WRITER, Conflicts::Refuse) else {
        panic!("another one owns it");
    };
    let text = error.to_string();
    assert!(text.contains(r#"conflicts with "other":"#), "{}", text.len());
    assert!(text.len() < 2 << 20, "{}", text.len());
    assert!(apply(kind, Some(&live), &object("y"), &WRITER, Conflicts::Force).is_ok());
}
