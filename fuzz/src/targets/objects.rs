//! Objects of the API, and patches of them.

use apimachinery::apply::{self, Conflicts, FieldSet, Manager, ObjectType, Schema, TypeRef};
use apimachinery::labels::Selector;
use apimachinery::meta::{Scope, validate_object_meta};
use apimachinery::names::NameRule;
use apimachinery::patch::{json as json_patch, merge, strategic};
use kube_schema::structural::Structural;
use kube_schema::{Empties, Report, Schemas, protobuf};
use serde_json::{Value, json};

use super::{Case, same};
use crate::dice::Dice;
use crate::mutate;

/// Names that fields of built-in kinds have, and what patches say.
const WORDS: &[&str] = &[
    "name",
    "spec",
    "metadata",
    "labels",
    "annotations",
    "template",
    "containers",
    "ports",
    "containerPort",
    "protocol",
    "image",
    "env",
    "value",
    "valueFrom",
    "replicas",
    "finalizers",
    "ownerReferences",
    "uid",
    "$patch",
    "delete",
    "replace",
    "$retainKeys",
    "$setElementOrder/containers",
    "$deleteFromPrimitiveList/finalizers",
    "key",
    "",
    "-",
    "~1",
    "managedFields",
    "status",
];

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "u1", "resourceVersion": "7", "generation": 2,
            "labels": {"app": "web", "tier": "front"}, "annotations": {"a/b": "c"}, "finalizers": ["x/y", "x/z"],
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u2", "controller": true}],
        },
        "spec": {
            "replicas": 3, "selector": {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "containers": [
                        {
                            "name": "web", "image": "nginx:1", "args": ["-x", "-y"],
                            "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                            "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "UDP"}],
                            "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}},
                            "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 3},
                        },
                        {"name": "side", "image": "side:2"},
                    ],
                    "volumes": [{"name": "v", "emptyDir": {}}], "tolerations": [{"key": "k", "operator": "Exists", "tolerationSeconds": 5}],
                    "nodeSelector": {"a": "b"}, "imagePullSecrets": [{"name": "s"}],
                },
            },
        },
        "status": {"replicas": 3, "conditions": [{"type": "Available", "status": "True", "lastUpdateTime": "2026-01-02T03:04:05Z"}]},
    })
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "type": "LoadBalancer", "selector": {"app": "web"}, "clusterIPs": ["10.0.0.1"], "clusterIP": "10.0.0.1",
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
    })
}

fn objects() -> Vec<Value> {
    vec![
        deployment(),
        service(),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "b"}, "binaryData": {"x": "AAEC"}, "immutable": true}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "YQ=="}, "type": "Opaque"}),
        json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "j"}, "spec": {
            "schedule": "* * * * *", "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": []}}}}}}),
        json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "d"}, "involvedObject": {"kind": "Pod"},
            "firstTimestamp": "2026-01-02T03:04:05Z", "eventTime": "2026-01-02T03:04:05.123456Z", "count": 3}),
    ]
}

/// Depth that the API server's parsers refuse; what nests deeper comes to none of these.
fn shallow(value: &Value, levels: usize) -> bool {
    match value {
        Value::Object(members) => levels > 0 && members.values().all(|member| shallow(member, levels - 1)),
        Value::Array(items) => levels > 0 && items.iter().all(|item| shallow(item, levels - 1)),
        _ => true,
    }
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(members) => members.values().any(has_null),
        _ => false,
    }
}

pub(super) fn patches() -> Case {
    let objects = objects();
    let patches = [
        json!([
            {"op": "add", "path": "/metadata/labels/x", "value": "y"}, {"op": "remove", "path": "/spec/replicas"},
            {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "b"},
            {"op": "test", "path": "/metadata/annotations/a~1b", "value": "c"},
        ]),
        json!([{"op": "move", "from": "/metadata/labels", "path": "/metadata/annotations"}, {"op": "copy", "from": "/spec", "path": "/spec/template/x"}]),
        json!([{"op": "add", "path": "/metadata/finalizers/-", "value": []}, {"op": "add", "path": "/metadata/finalizers/-1", "value": 1}]),
        json!([{"op": "replace", "path": "", "value": {"a": 1}}, {"op": "test", "path": "", "value": null}]),
    ];
    Box::new(move |dice| {
        let (object, other) = (mutate::value(dice, &objects, WORDS), mutate::value(dice, &objects, WORDS));
        let patch = mutate::value(
            dice,
            &patches,
            &["op", "path", "from", "value", "/", "/a~0", "~", "-", "-1", "01", "add", "copy"],
        );
        dice.show(|| format!("{object}\n{other}\n{patch}"));
        let mut patched = object.clone();
        if json_patch::apply(&mut patched, &patch).is_err() {
            same("a refused patch changes nothing", &patched, &object)?;
        }
        // Null takes away: what has one cannot be patched to.
        let mut merged = object.clone();
        merge::apply(&mut merged, &merge::diff(&object, &other));
        if !has_null(&other) && object.is_object() && other.is_object() {
            // Of what is in a list none arrives, and it stays in a list that does not differ.
            same("what differs, merged", &without_nulls(merged), &without_nulls(other))?;
        }
        let mut patched = object;
        merge::apply(&mut patched, &patch);
        Ok(())
    })
}

pub(super) fn strategic() -> Case {
    let (objects, schemas) = (objects(), Schemas::builtin());
    let mut samples = objects.clone();
    samples.extend([
        json!({"spec": {"template": {"spec": {
            "$setElementOrder/containers": [{"name": "side"}, {"name": "web"}],
            "containers": [{"name": "web", "$patch": "delete"}, {"name": "new", "image": "x"}],
        }}}}),
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["x/y"], "labels": {"$patch": "replace", "a": "b"}}}),
        json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
    ]);
    let names: Vec<String> = ["Deployment", "Service"]
        .iter()
        .zip([("apps", "v1"), ("", "v1")])
        .filter_map(|(kind, (group, version))| schemas.name_of(group, version, kind).map(str::to_owned))
        .collect();
    Box::new(move |dice| {
        let kind = dice.pick(&names).clone();
        let object = mutate::value(dice, &objects, WORDS);
        let other = mutate::value(dice, &objects, WORDS);
        let patch = mutate::value(dice, &samples, WORDS);
        dice.show(|| format!("{kind}\n{object}\n{other}\n{patch}"));
        let _patched = strategic::apply(&schemas, &kind, &object, &patch);
        let _three = strategic::create_three_way(&schemas, &kind, &other, &patch, &object);
        if let Ok(nothing) = strategic::create_two_way(&schemas, &kind, &object, &object) {
            same("what does not differ", &nothing, &json!({}))?;
        }
        if let Ok(patch) = strategic::create_two_way(&schemas, &kind, &object, &other) {
            let _other = strategic::apply(&schemas, &kind, &object, &patch);
        }
        Ok(())
    })
}

/// A value without the members that are null. In lists nulls are items.
fn without_nulls(mut value: Value) -> Value {
    match &mut value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(|member| *member = without_nulls(member.take()));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = without_nulls(item.take())),
        _ => {}
    }
    value
}

/// Whether an object has what every object must have before it is applied: its kind, version and names are texts, and its metadata is what
/// metadata may be. Nulls take fields away.
fn has_head(object: &Value) -> bool {
    let is_metadata = |(key, value): (&String, &Value)| match key.as_str() {
        "name" | "namespace" | "uid" | "creationTimestamp" => value.is_string(),
        "generation" => value.is_number(),
        "labels" | "annotations" => value.is_object(),
        "finalizers" | "managedFields" => value.is_array(),
        _ => false,
    };
    let metadata = object["metadata"].as_object();
    object["apiVersion"].is_string()
        && object["kind"].is_string()
        && metadata.is_some_and(|metadata| metadata.iter().all(is_metadata))
        && !has_null(object)
}

pub(super) fn apply() -> Case {
    let schemas = Schemas::builtin();
    let schema: Schema = schemas.apply_schema();
    let roots: Vec<(&str, &str, &str, TypeRef, Value)> =
        [("apps", "v1", "Deployment", deployment()), ("", "v1", "Service", service())]
            .into_iter()
            .filter_map(|(group, version, kind, sample)| {
                let name = schemas.name_of(group, version, kind)?;
                Some((group, version, kind, TypeRef::named(name), sample))
            })
            .collect();
    let objects = objects();
    let sets = [
        json!({"f:spec": {"f:replicas": {}, "f:template": {".": {}, "f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {".": {}, "f:image": {}}}}}}}),
        json!({"f:metadata": {"f:finalizers": {"v:\"x/y\"": {}, "i:0": {}}, "f:labels": {"f:app": {}}}}),
    ];
    let words = ["f:spec", "k:{\"name\":\"a\"}", "v:1", "i:0", "i:-1", ".", "f:", "k:{}", "v:", "x"];
    Box::new(move |dice| {
        let fields = mutate::value(dice, &sets, &words);
        let (group, version, name, root, sample) = dice.pick(&roots);
        let deduced = dice.one_in(5);
        let kind = if deduced { ObjectType::deduced() } else { ObjectType::new(&schema, root) };
        let own = [sample.clone()];
        let from: &[Value] = if dice.one_in(3) { &objects } else { &own };
        let (live, config) = (mutate::value(dice, from, WORDS), mutate::value(dice, from, WORDS));
        dice.show(|| format!("{fields}\n{root:?}\n{live}\n{config}"));
        if let Ok(set) = FieldSet::from_value(&fields) {
            let again = FieldSet::from_value(&set.to_value()).map_err(|error| error.to_string())?;
            same("a set once written", &set, &again)?;
            same("a set without itself", &set.difference(&set).is_empty(), &true)?;
            same("a set with itself", &set.union(&set), &set)?;
        }
        if !config.is_object() || !live.is_object() {
            return Ok(());
        }
        let manager = |name| Manager {
            name,
            api_version: "apps/v1",
            subresource: "",
            now: "2026-01-02T03:04:05Z",
            resets: None,
        };
        let Ok(live) = apply::update(kind, None, live, &manager("other")) else { return Ok(()) };
        let _refused = apply::apply(kind, Some(&live), &config, &manager("me"), Conflicts::Refuse);
        let Ok(first) = apply::apply(kind, Some(&live), &config, &manager("me"), Conflicts::Force) else {
            return Ok(());
        };
        let second = apply::apply(kind, Some(&first), &config, &manager("me"), Conflicts::Refuse);
        // What its schema does not take never comes this far.
        let taken = |object: &Value| {
            let report = schemas.validate(group, version, name, object);
            report.is_some_and(|report| report == Report::default()) && !object.to_string().contains("null")
        };
        let reaches_it: &dyn Fn(&Value) -> bool = if deduced { &has_head } else { &taken };
        if reaches_it(&first) && reaches_it(&config) {
            let second =
                second.map_err(|error| format!("what was applied is refused the second time: {error}"))?;
            same("applied twice", &first, &second)?;
        }
        let _updated = apply::update(kind, Some(&first), live, &manager("third"));
        Ok(())
    })
}

pub(super) fn protobuf() -> Case {
    let objects = objects();
    let encoded: Vec<Vec<u8>> =
        objects.iter().filter_map(|object| protobuf::encode_object(object).ok()).collect();
    Box::new(move |dice| {
        if encoded.len() != objects.len() {
            return Err("an object of a built-in kind cannot be encoded".to_owned());
        }
        let octets = if dice.one_in(2) {
            let object = mutate::value(dice, &objects, WORDS);
            dice.show(|| object.to_string());
            if !shallow(&object, 60) {
                return Ok(());
            }
            let Ok(octets) = protobuf::encode_object(&object) else { return Ok(()) };
            octets
        } else {
            let sample = dice.pick(&encoded).clone();
            let mut octets = protobuf::MAGIC.to_vec();
            octets.extend(mutate::message(dice, sample.get(4..).unwrap_or_default()));
            octets
        };
        dice.show(|| format!("{octets:02x?}"));
        let Ok((meta, object)) = protobuf::decode(&octets) else { return Ok(()) };
        let once = protobuf::encode(&meta, &object)
            .map_err(|error| format!("what was read cannot be written: {error}\n  {object}"))?;
        let (again_meta, again) =
            protobuf::decode(&once).map_err(|error| format!("what was written cannot be read: {error}"))?;
        same("its kind", &(&meta.api_version, &meta.kind), &(&again_meta.api_version, &again_meta.kind))?;
        let twice = protobuf::encode(&again_meta, &again).map_err(|error| error.to_string())?;
        let (_, last) = protobuf::decode(&twice).map_err(|error| error.to_string())?;
        same("written twice", &again, &last)
    })
}

pub(super) fn validation() -> Case {
    let (objects, schemas) = (objects(), Schemas::builtin());
    Box::new(move |dice| {
        let mut object = mutate::value(dice, &objects, WORDS);
        let (group, version, kind) = *dice.pick(&[
            ("apps", "v1", "Deployment"),
            ("", "v1", "Service"),
            ("", "v1", "Event"),
            ("", "v1", "Secret"),
        ]);
        let text = mutate::octets(dice, object.to_string().as_bytes());
        dice.show(|| format!("{kind}\n{object}\n{}", String::from_utf8_lossy(&text)));
        let _duplicates = kube_schema::duplicate_fields(&text);
        let _faults = kube_schema::strict_faults(&text, &["spec.x".to_owned()]);
        if let Some(report) = schemas.validate(group, version, kind, &object) {
            let _warnings = report.warnings().count();
        }
        let _selector = Selector::from_label_selector(object.pointer("/spec/selector"));
        let _meta = validate_object_meta(&object, NameRule::Dns1123Subdomain, Scope::Namespaced);
        schemas.canonicalise(group, version, kind, &mut object, Empties::Omitted);
        let mut again = object.clone();
        schemas.canonicalise(group, version, kind, &mut again, Empties::Omitted);
        same("canonical twice", &object, &again)
    })
}

fn schemas() -> [Value; 3] {
    [
        json!({"type": "object", "required": ["spec"], "properties": {
            "spec": {
                "type": "object",
                "x-kubernetes-validations": [{"rule": "self.min <= self.max", "message": "no"}, {"rule": "self.max >= oldSelf.max"}],
                "properties": {
                    "min": {"type": "integer", "minimum": 0, "default": 1}, "max": {"type": "integer", "maximum": 10, "multipleOf": 2},
                    "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5, "format": "date-time"},
                    "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "maxItems": 3, "items": {
                        "type": "object", "properties": {"name": {"type": "string"}, "value": {"x-kubernetes-int-or-string": true}}, "required": ["name"]}},
                    "set": {"type": "array", "x-kubernetes-list-type": "set", "uniqueItems": true, "items": {"type": "string", "enum": ["a", "b"]}},
                    "any": {"x-kubernetes-preserve-unknown-fields": true},
                    "embedded": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
                },
            },
        }}),
        json!({"type": "object", "additionalProperties": {"type": "number", "nullable": true, "exclusiveMinimum": true, "minimum": 0.5}}),
        json!({"type": "object", "properties": {"a": {"type": "string"}}, "anyOf": [{"required": ["a"]}, {"not": {"required": ["b"]}}],
            "oneOf": [{"properties": {"a": {"enum": ["x"]}}}], "allOf": [{"minProperties": 1}], "default": {"a": "x"}}),
    ]
}

pub(super) fn definitions() -> Case {
    let schemas = schemas();
    let objects = [
        json!({"apiVersion": "a/v1", "kind": "A", "metadata": {"name": "x"}, "spec": {
            "min": 1, "max": 4, "name": "abc", "list": [{"name": "a", "value": "1"}, {"name": "b", "value": 2}], "set": ["a"],
            "any": {"x": [1]}, "embedded": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {}},
        }}),
        json!({"a": "x", "b": 1.5, "c": null}),
    ];
    let words = [
        "type",
        "object",
        "array",
        "string",
        "integer",
        "number",
        "boolean",
        "properties",
        "items",
        "additionalProperties",
        "default",
        "nullable",
        "x-kubernetes-validations",
        "rule",
        "messageExpression",
        "fieldPath",
        "reason",
        "self",
        "oldSelf",
        "self.all(x, x)",
        "pattern",
        "(a*)*b",
        "format",
        "int32",
        "duration",
        "byte",
        "required",
        "enum",
        "x-kubernetes-list-type",
        "map",
        "atomic",
        "x-kubernetes-int-or-string",
        "$ref",
        "maxLength",
        "a",
        "spec",
    ];
    Box::new(move |dice| {
        let schema = mutate::value(dice, &schemas, &words);
        let mut object = mutate::value(dice, &objects, &words);
        let old = mutate::value(dice, &objects, &words);
        dice.show(|| format!("{schema}\n{object}\n{old}"));
        let Ok(mut structural) = Structural::parse(&schema) else { return Ok(()) };
        let _faults = structural.compile_rules();
        let _expensive = structural.expensive_rules();
        let _pruned = structural.prune(&mut object, true);
        twice(dice, &object, "pruned", |object| drop(structural.prune(object, true)))?;
        structural.fill_defaults(&mut object);
        twice(dice, &object, "filled", |object| structural.fill_defaults(object))?;
        structural.prune_nulls(&mut object);
        let _errors =
            structural.check(&object, Some(&old)).len() + structural.check_status(&object, Some(&old)).len();
        let _rules = [structural.check_rules(&object, Some(&old)), structural.check_rules(&object, None)];
        Ok(())
    })
}

/// What is done already is not done again.
fn twice(dice: &Dice, object: &Value, what: &str, again: impl FnOnce(&mut Value)) -> Result<(), String> {
    let mut second = object.clone();
    again(&mut second);
    dice.show(|| format!("{what}: {object}"));
    same(&format!("{what} twice"), object, &second)
}
