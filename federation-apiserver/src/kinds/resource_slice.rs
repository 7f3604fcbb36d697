//! What ResourceSlices may say of devices: the rules of `pkg/apis/resource/validation` for them.

use std::collections::HashSet;

use apimachinery::{FieldError, FieldPath, names};
use serde_json::{Value, json};

use super::{
    resource::{few, pool_name, validate_name},
    resource_capacity::request_policy,
};
use crate::{
    registry::ErrorList,
    validation::{driver, items, label, listed, pod_spec, required, subdomain, text},
};

const DEVICES_MAX: usize = 128;
/// The same if any device has taints, takes from counters, or has lists of attributes.
const DEVICES_WITH_MORE_MAX: usize = 64;
const ATTRIBUTES_AND_CAPACITIES_MAX: usize = 32;
const TAINTS_MAX: usize = 16;
const CONSUMPTIONS_MAX: usize = 2;
const COUNTER_SETS_MAX: usize = 8;
const COUNTERS_MAX: usize = 32;
const CONDITIONS_MAX: usize = 4;
const ID_MAX: usize = 32;
const VALUE_MAX: usize = 64;

const LISTS: [&str; 4] = ["bools", "ints", "strings", "versions"];
pub(super) const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];
const IDENTIFIER: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name', or 'MY_NAME', or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')";
const NODES_OF_DEVICE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";

/// Drops the lists of attributes, whose feature gate (`DRAListTypeAttributes`) is off, unless the slice had some before.
pub(super) fn drop_lists(slice: &mut Value, old: Option<&Value>) {
    if old.is_some_and(|old| items(&old["spec"], "devices").any(has_lists)) {
        return;
    }
    let devices = slice.pointer_mut("/spec/devices").and_then(Value::as_array_mut);
    for device in devices.into_iter().flatten() {
        let attributes = device.get_mut("attributes").and_then(Value::as_object_mut);
        for attribute in attributes.into_iter().flat_map(serde_json::Map::values_mut) {
            if let Some(attribute) = attribute.as_object_mut() {
                attribute.retain(|name, _| !LISTS.contains(&name.as_str()));
            }
        }
    }
}

fn has_lists(device: &Value) -> bool {
    let mut attributes = device["attributes"].as_object().into_iter().flatten();
    attributes.any(|(_, attribute)| LISTS.iter().any(|list| !attribute[*list].is_null()))
}

pub(super) fn validate(slice: &Value, errors: &mut ErrorList) {
    let (spec, path) = (&slice["spec"], FieldPath::new("spec"));
    driver(text(spec, "driver"), &path.child("driver"), errors);
    validate_pool(&spec["pool"], &path.child("pool"), errors);
    nodes_of_slice(spec, &path, errors);
    if !spec["sharedCounters"].is_null() && !spec["devices"].is_null() {
        let message = "only one of `sharedCounters` or `devices` is allowed";
        errors.push(FieldError::invalid(&path, "", message));
    }
    let has = |device: &Value, name: &str| items(device, name).next().is_some();
    let more = items(spec, "devices")
        .any(|device| has(device, "taints") || has(device, "consumesCounters") || has_lists(device));
    let most = if more { DEVICES_WITH_MORE_MAX } else { DEVICES_MAX };
    let mut seen = HashSet::new();
    for (index, device) in few(spec, "devices", &path, most, errors).iter().enumerate() {
        let path = path.child("devices").index(index);
        validate_name(device, &path, &mut seen, errors);
        validate_device(device, spec["perDeviceNodeSelection"] == true, &path, errors);
    }
    let mut seen = HashSet::new();
    for (index, set) in few(spec, "sharedCounters", &path, COUNTER_SETS_MAX, errors).iter().enumerate() {
        let path = path.child("sharedCounters").index(index);
        validate_name(set, &path, &mut seen, errors);
        counters(set, &path, errors);
    }
}

fn validate_pool(pool: &Value, path: &FieldPath, errors: &mut ErrorList) {
    pool_name(pool, "name", path, errors);
    for (field, least, message) in [
        ("resourceSliceCount", 1, "must be greater than zero"),
        ("generation", 0, "must be greater than or equal to zero"),
    ] {
        let number = pool[field].as_i64().unwrap_or_default();
        if number < least {
            errors.push(FieldError::invalid(&path.child(field), number, message));
        }
    }
}

/// Where the devices are: said once. Slices of counters only say it through those of their devices.
fn nodes_of_slice(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let mut set = Vec::new();
    if let Some(node) = spec["nodeName"].as_str() {
        let path = path.child("nodeName");
        if node.is_empty() {
            let message = "must be either unset or set to a non-empty string";
            errors.push(FieldError::invalid(&path, node, message));
        } else {
            set.push("`nodeName`");
            subdomain(node, &path, errors);
        }
    }
    if spec["nodeSelector"].is_object() {
        set.push("`nodeSelector`");
        let path = path.child("nodeSelector");
        pod_spec::node_selector(&spec["nodeSelector"], &path, errors);
        let terms = &spec["nodeSelector"]["nodeSelectorTerms"];
        if terms.as_array().is_some_and(|terms| terms.len() > 1) {
            // One alone can be merged with those of other slices.
            let message = "must have exactly one node selector term";
            errors.push(FieldError::invalid(&path.child("nodeSelectorTerms"), terms.clone(), message));
        }
    }
    for (field, name) in [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")]
    {
        flag(spec, field, name, path, &mut set, errors);
    }
    let what = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match set.len() {
        0 if items(spec, "sharedCounters").next().is_none() => errors.push(FieldError::required(path, what)),
        0 | 1 => {}
        _ => {
            let message = format!("{what}, but multiple fields are set");
            errors.push(FieldError::invalid(path, format!("{{{}}}", set.join(", ")), &message));
        }
    }
}

fn flag(
    object: &Value,
    field: &str,
    name: &'static str,
    path: &FieldPath,
    set: &mut Vec<&'static str>,
    errors: &mut ErrorList,
) {
    match object[field].as_bool() {
        Some(true) => set.push(name),
        Some(false) => {
            let message = "must be either unset or set to true";
            errors.push(FieldError::invalid(&path.child(field), false, message));
        }
        None => {}
    }
}

fn validate_device(device: &Value, by_device: bool, path: &FieldPath, errors: &mut ErrorList) {
    let count = |field: &str| device[field].as_object().map_or(0, serde_json::Map::len);
    let all = count("attributes") + count("capacity");
    if all > ATTRIBUTES_AND_CAPACITIES_MAX {
        let message = format!(
            "the total number of attributes and capacities must not exceed {ATTRIBUTES_AND_CAPACITIES_MAX}"
        );
        errors.push(FieldError::invalid(path, all, &message));
    }
    let place = path.child("attributes");
    for (name, attribute) in device["attributes"].as_object().into_iter().flatten() {
        qualified(name, &place, errors);
        validate_attribute(attribute, &place.key(name), errors);
    }
    let place = path.child("capacity");
    for (name, capacity) in device["capacity"].as_object().into_iter().flatten() {
        qualified(name, &place, errors);
        let (policy, path) = (&capacity["requestPolicy"], place.key(name).child("requestPolicy"));
        if policy.is_object() && device["allowMultipleAllocations"] != true {
            errors.push(FieldError::forbidden(&path, "allowMultipleAllocations must be true"));
        } else if policy.is_object() {
            request_policy(policy, &capacity["value"], &path, errors);
        }
    }
    for (index, taint) in few(device, "taints", path, TAINTS_MAX, errors).iter().enumerate() {
        validate_taint(taint, &path.child("taints").index(index), errors);
    }
    let mut seen = HashSet::new();
    let consumptions = few(device, "consumesCounters", path, CONSUMPTIONS_MAX, errors);
    for (index, consumption) in consumptions.iter().enumerate() {
        let path = path.child("consumesCounters").index(index);
        if let Some(set) = required(consumption, &path, "counterSet", errors) {
            label(set, &path.child("counterSet"), errors);
            if !seen.insert(set) {
                errors.push(FieldError::duplicate(&path.child("counterSet"), set));
            }
        }
        counters(consumption, &path, errors);
    }
    nodes_of_device(device, by_device, path, errors);
    binding(device, path, errors);
}

fn nodes_of_device(device: &Value, by_device: bool, path: &FieldPath, errors: &mut ErrorList) {
    if !by_device {
        if ["nodeName", "nodeSelector", "allNodes"].iter().any(|field| !device[*field].is_null()) {
            let message = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
            errors.push(FieldError::invalid(path, "null", message));
        }
        return;
    }
    let mut set = Vec::new();
    if let Some(node) = device["nodeName"].as_str() {
        let path = path.child("nodeName");
        if node.is_empty() {
            errors.push(FieldError::invalid(&path, node, "must not be empty"));
        } else {
            set.push("`nodeName`");
            subdomain(node, &path, errors);
        }
    }
    if device["nodeSelector"].is_object() {
        set.push("`nodeSelector`");
        pod_spec::node_selector(&device["nodeSelector"], &path.child("nodeSelector"), errors);
    }
    flag(device, "allNodes", "`allNodes`", path, &mut set, errors);
    match set.len() {
        0 => errors.push(FieldError::required(path, NODES_OF_DEVICE)),
        1 => {}
        _ => {
            let given = format!("{{{}}}", set.join(", "));
            errors.push(FieldError::invalid(path, given, NODES_OF_DEVICE));
        }
    }
}

/// A name that may have a domain before it.
pub(super) fn qualified(name: &str, path: &FieldPath, errors: &mut ErrorList) {
    let identifier = |id: &str, errors: &mut ErrorList| {
        if id.len() > ID_MAX {
            errors.push(FieldError::too_long(path, ID_MAX));
        }
        let mut bytes = id.bytes();
        let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        if !first || !bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            errors.push(FieldError::invalid(path, id, IDENTIFIER));
        }
    };
    match name.split('/').collect::<Vec<_>>()[..] {
        [id] => identifier(id, errors),
        [domain, id] => {
            if domain.is_empty() {
                errors.push(FieldError::invalid(path, "", "the domain must not be empty"));
            } else {
                driver(domain, path, errors);
            }
            if id.is_empty() {
                errors.push(FieldError::invalid(path, "", "the name must not be empty"));
            } else {
                identifier(id, errors);
            }
        }
        _ => errors.push(FieldError::invalid(path, name, "must not contain more than one slash")),
    }
}

fn validate_attribute(attribute: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let mut given = ["bool", "int"].iter().filter(|field| !attribute[**field].is_null()).count();
    let value = |value: &Value, is_version: bool, path: &FieldPath, errors: &mut ErrorList| {
        let value = value.as_str().unwrap_or_default();
        if is_version && !is_semantic(value) {
            let message = "must be a string compatible with semver.org spec 2.0.0";
            errors.push(FieldError::invalid(path, value, message));
        }
        if value.len() > VALUE_MAX {
            errors.push(FieldError::too_long(path, VALUE_MAX));
        }
    };
    for field in ["string", "version"] {
        if !attribute[field].is_null() {
            given += 1;
            value(&attribute[field], field == "version", &path.child(field), errors);
        }
    }
    for list in LISTS {
        let Some(all) = attribute[list].as_array() else { continue };
        given += 1;
        let path = path.child(list);
        if all.is_empty() {
            errors.push(FieldError::invalid(&path, json!([]), "must not be empty if specified"));
        }
        if matches!(list, "strings" | "versions") {
            for (index, item) in all.iter().enumerate() {
                value(item, list == "versions", &path.index(index), errors);
            }
        }
    }
    let message = "exactly one value must be specified";
    match given {
        0 => errors.push(FieldError::invalid(path, "", message)),
        1 => {}
        _ => errors.push(FieldError::invalid(path, attribute.clone(), message)),
    }
}

/// Whether a text is a version as semver.org has it: `1.2.3-rc.1+build`.
fn is_semantic(version: &str) -> bool {
    let number = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'))
    };
    let word = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let (rest, build) = version.split_once('+').map_or((version, None), |(rest, build)| (rest, Some(build)));
    let (core, pre) = rest.split_once('-').map_or((rest, None), |(core, pre)| (core, Some(pre)));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    core.split('.').count() == 3
        && core.split('.').all(number)
        && pre.is_none_or(|pre| pre.split('.').all(|part| word(part) && (!digits(part) || number(part))))
        && build.is_none_or(|build| build.split('.').all(word))
}

/// Of DeviceTaintRules, too.
pub(super) fn validate_taint(taint: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let (key, value) = (text(taint, "key"), text(taint, "value"));
    let place = path.child("key");
    errors.extend(names::qualified_name(key).iter().map(|error| FieldError::invalid(&place, key, error)));
    let place = path.child("value");
    errors.extend(names::label_value(value).iter().map(|error| FieldError::invalid(&place, value, error)));
    if let Some(effect) = required(taint, path, "effect", errors) {
        listed(effect, &path.child("effect"), &EFFECTS, errors);
    }
}

fn counters(object: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let path = path.child("counters");
    match object["counters"].as_object() {
        Some(counters) if counters.len() > COUNTERS_MAX => {
            errors.push(FieldError::too_many(&path, counters.len(), COUNTERS_MAX));
        }
        Some(counters) if !counters.is_empty() => {
            counters.keys().for_each(|name| label(name, &path, errors));
        }
        _ => errors.push(FieldError::required(&path, "")),
    }
}

/// What must hold before a pod is bound: both lists, or none.
pub(super) fn binding(device: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let [ready, failed] = ["bindingConditions", "bindingFailureConditions"];
    let mut known = HashSet::new();
    for list in [ready, failed] {
        let conditions = few(device, list, path, CONDITIONS_MAX, errors);
        let path = path.child(list);
        let mut seen = HashSet::new();
        for (index, condition) in conditions.iter().enumerate() {
            let (condition, path) = (condition.as_str().unwrap_or_default(), path.index(index));
            let found = names::qualified_name(condition);
            errors.extend(found.iter().map(|error| FieldError::invalid(&path, condition, error)));
            if !seen.insert(condition) {
                errors.push(FieldError::duplicate(&path, condition));
            }
            if list == ready {
                known.insert(condition);
            } else if known.contains(condition) {
                let message = "bindingFailureConditions must not overlap with bindingConditions";
                errors.push(FieldError::invalid(&path, condition, message));
            }
        }
    }
    let given = |list: &str| items(device, list).next().is_some();
    for (missing, other) in [(ready, failed), (failed, ready)] {
        if !given(missing) && given(other) {
            let message = format!("{missing} are required to use {other}");
            errors.push(FieldError::invalid(&path.child(missing), device[missing].clone(), &message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(spec: Value) -> Vec<String> {
        let mut base = json!({"driver": "d.example.com", "nodeName": "n", "pool": {"name": "p", "resourceSliceCount": 1}});
        for (name, value) in spec.as_object().into_iter().flatten() {
            base[name] = value.clone();
        }
        let mut errors = ErrorList::new();
        validate(&json!({"spec": base}), &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    fn of_device(mut device: Value) -> Vec<String> {
        device["name"] = "d".into();
        told(json!({"devices": [device]}))
    }

    #[test]
    fn a_slice_offers_so_much_and_no_more() {
        let device = |at: usize| json!({"name": format!("d{at}")});
        let mut devices: Vec<_> = (0..128).map(device).collect();
        assert_eq!(told(json!({"devices": devices})), [""; 0]);
        devices[7]["taints"] = json!([{"key": "a", "effect": "None"}]);
        assert_eq!(
            told(json!({"devices": devices})),
            ["spec.devices: Too many: 128: must have at most 64 items"]
        );
        devices[7] = device(6);
        assert_eq!(told(json!({"devices": devices})), ["spec.devices[7].name: Duplicate value: \"d6\""]);
        devices.push(device(7));
        assert_eq!(
            told(json!({"devices": devices})),
            ["spec.devices: Too many: 129: must have at most 128 items"]
        );
    }

    #[test]
    fn a_slice_says_once_where_its_devices_are() {
        assert_eq!(
            told(
                json!({"allNodes": true, "pool": {"name": "a//b", "resourceSliceCount": 0, "generation": -1}})
            )[1..],
            [
                "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
                "spec.pool.generation: Invalid value: -1: must be greater than or equal to zero",
                "spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set",
            ]
        );
        assert_eq!(
            of_device(json!({"nodeName": "n"})),
            [
                "spec.devices[0]: Invalid value: \"null\": `nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec"
            ]
        );
        let each = json!({"nodeName": null, "perDeviceNodeSelection": true, "devices": [
            {"name": "a", "allNodes": true}, {"name": "b"}, {"name": "c", "allNodes": false, "nodeName": "n"},
        ]});
        assert_eq!(
            told(each),
            [
                format!("spec.devices[1]: Required value: {NODES_OF_DEVICE}"),
                "spec.devices[2].allNodes: Invalid value: false: must be either unset or set to true"
                    .to_owned(),
            ]
        );
    }

    #[test]
    fn lists_of_attributes_are_only_kept() {
        let slice = |attributes: Value| json!({"spec": {"devices": [{"attributes": attributes}]}});
        let both = slice(json!({"a": {"int": 1}, "b": {"strings": ["x"]}}));
        let mut new = both.clone();
        drop_lists(&mut new, None);
        assert_eq!(new, slice(json!({"a": {"int": 1}, "b": {}})));
        let mut new = both.clone();
        drop_lists(&mut new, Some(&slice(json!({"a": {"int": 1}}))));
        assert_eq!(new, slice(json!({"a": {"int": 1}, "b": {}})));
        let mut new = both.clone();
        drop_lists(&mut new, Some(&both));
        assert_eq!(new, both);
    }

    #[test]
    fn attributes_have_names_and_one_value() {
        assert_eq!(
            of_device(json!({"attributes": {
                "a": {"int": 1}, "example.com/b": {"version": "1.2.3-rc.1+b"}, "c": {"strings": ["x"]},
            }})),
            [""; 0]
        );
        let path = "spec.devices[0].attributes";
        let check = |name: &str, attribute: Value, why: &str| {
            assert_eq!(of_device(json!({"attributes": {name: attribute}})), [format!("{path}{why}")]);
        };
        check(
            "a/b/c",
            json!({"bool": true}),
            ": Invalid value: \"a/b/c\": must not contain more than one slash",
        );
        check("/b", json!({"bool": true}), ": Invalid value: \"\": the domain must not be empty");
        check("a-b", json!({"bool": true}), &format!(": Invalid value: \"a-b\": {IDENTIFIER}"));
        check("a", json!({}), "[a]: Invalid value: \"\": exactly one value must be specified");
        check(
            "a",
            json!({"version": "1.02.3"}),
            "[a].version: Invalid value: \"1.02.3\": must be a string compatible with semver.org spec 2.0.0",
        );
        check("a", json!({"string": "x".repeat(65)}), "[a].string: Too long: may not be more than 64 bytes");
        let many: serde_json::Map<_, _> = (0..33).map(|at| (format!("a{at}"), json!({"int": at}))).collect();
        assert_eq!(
            of_device(json!({"attributes": many})),
            [
                "spec.devices[0]: Invalid value: 33: the total number of attributes and capacities must not exceed 32"
            ]
        );
    }

    #[test]
    fn taints_counters_and_conditions_are_whole() {
        assert_eq!(of_device(json!({"taints": [{"key": "a", "effect": "Odd"}, {"key": "a b"}]})).len(), 3);
        let counters = json!({"c": {"value": "1"}});
        let both = json!([{"counterSet": "s", "counters": counters}, {"counterSet": "s"}]);
        assert_eq!(
            of_device(json!({"consumesCounters": both})),
            [
                "spec.devices[0].consumesCounters[1].counterSet: Duplicate value: \"s\"",
                "spec.devices[0].consumesCounters[1].counters: Required value",
            ]
        );
        assert_eq!(
            of_device(json!({"bindingConditions": ["a"], "bindingFailureConditions": ["a"]})),
            [
                "spec.devices[0].bindingFailureConditions[0]: Invalid value: \"a\": bindingFailureConditions must not overlap with bindingConditions"
            ]
        );
        assert_eq!(
            of_device(json!({"bindingConditions": ["a"]})),
            [
                "spec.devices[0].bindingFailureConditions: Invalid value: null: bindingFailureConditions are required to use bindingConditions"
            ]
        );
        let sets = json!([{"name": "s", "counters": counters}]);
        assert_eq!(told(json!({"sharedCounters": sets, "nodeName": null})), [""; 0]);
        assert_eq!(
            told(json!({"sharedCounters": sets, "devices": []})),
            ["spec: Invalid value: \"\": only one of `sharedCounters` or `devices` is allowed"]
        );
    }

    #[test]
    fn only_what_many_may_have_has_a_policy() {
        let capacity = json!({"m": {"value": "1", "requestPolicy": {}}});
        assert_eq!(
            of_device(json!({"capacity": capacity})),
            ["spec.devices[0].capacity[m].requestPolicy: Forbidden: allowMultipleAllocations must be true"]
        );
    }
}
