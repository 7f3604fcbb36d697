//! resource.k8s.io/v1: devices that pods claim (KEP-4381).

use std::collections::HashSet;

use apimachinery::{FieldError, FieldPath, meta::Scope};
use kube_cel::{Program, Type};
use serde_json::{Value, json};

use super::{
    resource_rules::{self as rules, Requests},
    resource_slice,
};
use crate::{
    registry::{Column, ErrorList, Kind, field},
    validation::{
        IMMUTABLE, deleting, immutable, items, items_mut, label, listed, news, required, set, set_text,
        subdomain, text,
    },
};

const BASE: Kind = Kind { group: "resource.k8s.io", returns_deleted: true, ..Kind::BUILT_IN };

/// Items that lists may have (`apis/resource/types.go`).
const MOST_REQUESTS: usize = 32;
const MOST_ALTERNATIVES: usize = 8;
const MOST_CONSTRAINTS: usize = 32;
const MOST_CONFIGURATIONS: usize = 32;
const MOST_SELECTORS: usize = 32;
/// Bytes of an expression.
const EXPRESSION_MAX: usize = 10 << 10;
/// Bytes.
const POOL_NAME_MAX: usize = 253;

/// How many devices are asked for.
const MODES: [&str; 2] = ["All", "ExactCount"];

pub(super) const KINDS: &[&Kind] = &[
    &Kind {
        kind: "DeviceClass",
        plural: "deviceclasses",
        singular: "deviceclass",
        scope: Scope::Cluster,
        validate_create: |object, errors| {
            validate_selectors(&object["spec"], &Value::Null, &FieldPath::new("spec"), errors);
            validate_configurations(object, errors);
        },
        validate_update: |new, old, errors| {
            validate_selectors(&new["spec"], &old["spec"], &FieldPath::new("spec"), errors);
            news(validate_configurations, new, old, errors);
        },
        ..BASE
    },
    &Kind {
        kind: "ResourceClaim",
        plural: "resourceclaims",
        singular: "resourceclaim",
        status: true,
        columns: &[
            Column::NAME,
            Column::text("State", "Whether devices are allocated, and reserved for pods.", |claim, _| {
                state(claim).into()
            }),
            Column::AGE,
        ],
        default: |object| default_claim(&mut object["spec"]),
        // It never changes.
        validate_create: |object, errors| {
            validate_claim(&object["spec"], &FieldPath::new("spec"), errors);
        },
        stamp: |new, old, part, _| {
            if part == "status" {
                forget_returned(new, old);
            }
        },
        validate_update: |new, old, errors| {
            immutable(&new["spec"], &old["spec"], &"spec".into(), errors);
            rules::status(new, old, errors);
        },
        ..BASE
    },
    &Kind {
        kind: "ResourceClaimTemplate",
        plural: "resourceclaimtemplates",
        singular: "resourceclaimtemplate",
        default: |object| default_claim(&mut object["spec"]["spec"]),
        validate_create: |object, errors| {
            validate_claim(&object["spec"]["spec"], &FieldPath::new("spec.spec"), errors);
        },
        validate_update: |new, old, errors| {
            immutable(&new["spec"], &old["spec"], &"spec".into(), errors);
        },
        ..BASE
    },
    &Kind {
        kind: "ResourceSlice",
        plural: "resourceslices",
        singular: "resourceslice",
        scope: Scope::Cluster,
        columns: &[
            Column::NAME,
            Column::text("Node", "The node whose devices they are.", |slice, _| {
                let node = text(&slice["spec"], "nodeName");
                if node.is_empty() { "<all>".into() } else { node.into() }
            }),
            Column::text("Driver", "Who offers the devices.", |slice, _| field(slice, "/spec/driver")),
            Column::text("Pool", "The pool that they are in.", |slice, _| field(slice, "/spec/pool/name")),
            Column::AGE,
        ],
        selectable: &[("spec.nodeName", "/spec/nodeName"), ("spec.driver", "/spec/driver")],
        prepare_create: |slice| resource_slice::drop_lists(slice, None),
        prepare_update: |new, old| resource_slice::drop_lists(new, Some(old)),
        validate: resource_slice::validate,
        validate_update: |new, old, errors| {
            for name in ["driver", "nodeName"] {
                let path = FieldPath::new("spec").child(name);
                immutable(&new["spec"][name], &old["spec"][name], &path, errors);
            }
            let name = |slice: &Value| slice["spec"]["pool"]["name"].clone();
            if name(new) != name(old) {
                errors.push(FieldError::invalid(&FieldPath::new("spec.pool.name"), name(new), IMMUTABLE));
            }
        },
        ..BASE
    },
];

/// `printers.resourceClaimState`.
fn state(claim: &Value) -> String {
    let (allocated, deleted) = (claim["status"]["allocation"].is_object(), deleting(claim));
    let reserved = items(&claim["status"], "reservedFor").next().is_some();
    let states = [
        (deleted, "deleted"),
        (!allocated && !deleted, "pending"),
        (allocated, "allocated"),
        (allocated && reserved, "reserved"),
    ];
    states.iter().filter(|(holds, _)| *holds).map(|(_, name)| *name).collect::<Vec<_>>().join(",")
}

fn default_claim(spec: &mut Value) {
    let Some(devices) = spec.get_mut("devices") else { return };
    for request in items_mut(devices, "requests") {
        if let Some(exactly) = request.get_mut("exactly") {
            default_request(exactly);
        }
        items_mut(request, "firstAvailable").for_each(default_request);
    }
}

fn default_request(request: &mut Value) {
    set_text(request, "allocationMode", "ExactCount");
    if request["allocationMode"] == "ExactCount" {
        if request["count"] == 0 {
            request["count"] = Value::Null;
        }
        set(request, "count", 1);
    }
}

/// The items of a list, unless they are more than it may have: then they are refused, and nobody looks at them.
pub(super) fn few<'a>(
    object: &'a Value,
    name: &str,
    path: &FieldPath,
    most: usize,
    errors: &mut ErrorList,
) -> &'a [Value] {
    let found = object[name].as_array().map(Vec::as_slice).unwrap_or_default();
    let too_many = found.len() > most;
    if too_many {
        errors.push(FieldError::too_many(&path.child(name), found.len(), most));
    }
    if too_many { &[] } else { found }
}

/// What a class hands to drivers.
fn validate_configurations(class: &Value, errors: &mut ErrorList) {
    let path = FieldPath::new("spec");
    let list = few(&class["spec"], "config", &path, MOST_CONFIGURATIONS, errors);
    for (index, config) in list.iter().enumerate() {
        rules::configuration(config, &path.child("config").index(index), errors);
    }
}

fn validate_claim(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let (devices, path) = (&spec["devices"], path.child("devices"));
    let mut seen = HashSet::new();
    let whole = &path;
    let requests = few(devices, "requests", whole, MOST_REQUESTS, errors);
    let path = whole.child("requests");
    for (index, request) in requests.iter().enumerate() {
        let path = path.index(index);
        validate_name(request, &path, &mut seen, errors);
        let (exactly, others) = (&request["exactly"], items(request, "firstAvailable").next().is_some());
        match (exactly.is_object(), others) {
            (false, false) => {
                let message = "exactly one of `exactly` or `firstAvailable` is required";
                errors.push(FieldError::required(&path, message));
            }
            (true, true) => {
                let message =
                    "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
                errors.push(FieldError::invalid(&path, "null", message));
            }
            (true, false) => validate_request(exactly, &path.child("exactly"), errors),
            (false, true) => {
                let mut seen = HashSet::new();
                let requests = few(request, "firstAvailable", &path, MOST_ALTERNATIVES, errors);
                let path = path.child("firstAvailable");
                for (index, request) in requests.iter().enumerate() {
                    validate_name(request, &path.index(index), &mut seen, errors);
                    validate_request(request, &path.index(index), errors);
                }
            }
        }
    }
    let names = Requests::of(devices);
    for (index, constraint) in few(devices, "constraints", whole, MOST_CONSTRAINTS, errors).iter().enumerate()
    {
        names.check_constraint(constraint, &whole.child("constraints").index(index), errors);
    }
    for (index, config) in few(devices, "config", whole, MOST_CONFIGURATIONS, errors).iter().enumerate() {
        names.check_configuration(config, &whole.child("config").index(index), errors);
    }
}

/// The name of a pool of devices: one subdomain or several.
pub(super) fn pool_name(object: &Value, field: &str, path: &FieldPath, errors: &mut ErrorList) {
    let Some(name) = required(object, path, field, errors) else { return };
    let path = path.child(field);
    if name.len() > POOL_NAME_MAX {
        errors.push(FieldError::too_long(&path, POOL_NAME_MAX));
    }
    name.split('/').for_each(|part| subdomain(part, &path, errors));
}

pub(super) fn validate_name<'a>(
    request: &'a Value,
    path: &FieldPath,
    seen: &mut HashSet<&'a str>,
    errors: &mut ErrorList,
) {
    let Some(name) = required(request, path, "name", errors) else { return };
    label(name, &path.child("name"), errors);
    if !seen.insert(name) {
        errors.push(FieldError::duplicate(&path.child("name"), name));
    }
}

fn validate_request(request: &Value, path: &FieldPath, errors: &mut ErrorList) {
    if let Some(class) = required(request, path, "deviceClassName", errors) {
        subdomain(class, &path.child("deviceClassName"), errors);
    }
    validate_selectors(request, &Value::Null, path, errors);
    listed(text(request, "allocationMode"), &path.child("allocationMode"), &MODES, errors);
    let count = request["count"].as_i64().unwrap_or_default();
    let (path, tolerations) = (path.child("count"), path.child("tolerations"));
    if request["allocationMode"] == "All" && count != 0 {
        errors.push(FieldError::invalid(&path, count, "must not be specified when allocationMode is 'All'"));
    } else if request["allocationMode"] == "ExactCount" && count <= 0 {
        errors.push(FieldError::invalid(&path, count, "must be greater than zero"));
    }
    for (index, toleration) in items(request, "tolerations").enumerate() {
        rules::toleration(toleration, &tolerations.index(index), errors);
    }
}

/// Expressions are for whoever allocates devices to evaluate; they must be such that he can. What has been stored was looked at then.
fn validate_selectors(object: &Value, old: &Value, path: &FieldPath, errors: &mut ErrorList) {
    if object["selectors"] == old["selectors"] {
        return;
    }
    let known: HashSet<&Value> = items(old, "selectors").collect();
    for (index, selector) in few(object, "selectors", path, MOST_SELECTORS, errors).iter().enumerate() {
        let path = path.child("selectors").index(index).child("cel");
        if known.contains(selector) {
            continue;
        }
        if !selector["cel"].is_object() {
            errors.push(FieldError::required(&path, ""));
        } else if let Some(source) = required(&selector["cel"], &path, "expression", errors) {
            validate_expression(source, &path.child("expression"), errors);
        }
    }
}

/// An expression about a device, as drivers tell of it (`dynamic-resource-allocation/cel`).
fn validate_expression(source: &str, path: &FieldPath, errors: &mut ErrorList) {
    if source.len() > EXPRESSION_MAX {
        errors.push(FieldError::too_long(path, EXPRESSION_MAX));
        return;
    }
    let map = |value: Type| Type::Map(Box::new(Type::String), Box::new(value));
    let device = Type::object([
        ("driver".to_owned(), Type::String),
        ("attributes".to_owned(), map(map(Type::Dyn))),
        ("capacity".to_owned(), map(map(Type::Opaque("kubernetes.Quantity")))),
        ("allowMultipleAllocations".to_owned(), Type::Bool),
    ]);
    let wrong = match Program::compile(source, &[("device", device)]) {
        Err(error) => format!("compilation failed: {error}"),
        Ok(program) => match program.result() {
            Type::Bool | Type::Dyn => return,
            other => format!("must evaluate to bool or the unknown type, not {other}"),
        },
    };
    errors.push(FieldError::invalid(path, source, &wrong));
}

/// What drivers say of devices goes with the devices: `dropDeallocatedStatusDevices`.
fn forget_returned(new: &mut Value, old: &Value) {
    type Device<'a> = (&'a str, &'a str, &'a str);
    fn device(of: &Value) -> Device<'_> {
        (text(of, "driver"), text(of, "pool"), text(of, "device"))
    }
    fn allocated(claim: &Value) -> HashSet<Device<'_>> {
        items(&claim["status"]["allocation"]["devices"], "results").map(device).collect()
    }
    let (had, has) = (allocated(old), allocated(new));
    let returned: HashSet<_> = had.difference(&has).collect();
    if returned.is_empty() {
        return;
    }
    let kept: Vec<Value> =
        items(&new["status"], "devices").filter(|of| !returned.contains(&device(of))).cloned().collect();
    if let Some(status) = new["status"].as_object_mut().filter(|status| status.contains_key("devices")) {
        status.insert("devices".to_owned(), kept.into());
        if status["devices"] == json!([]) {
            status.remove("devices");
        }
    }
}

/// Where a write asks for devices that others use, or grants them, for which its namespace must be labelled: `resourceutils.AuthorizedForAdmin`
/// and `AuthorizedForAdminStatus`.
pub(crate) fn admin_access(plural: &str, old: Option<&Value>, new: &Value) -> Option<FieldPath> {
    let path = match plural {
        // What is asked for never changes.
        "resourceclaims" if old.is_none() => asked(&new["spec"]),
        "resourceclaimtemplates" if old.is_none() => asked(&new["spec"]["spec"]),
        "resourceclaims" if old.is_some_and(|old| granted(old).is_none()) => granted(new),
        _ => None,
    };
    path.map(|path| path.child("adminAccess"))
}

/// The first request that asks for it. Kubernetes tells its path in a template as if it were in a claim.
fn asked(spec: &Value) -> Option<FieldPath> {
    let mut requests = items(&spec["devices"], "requests");
    let at = requests.position(|request| request["exactly"]["adminAccess"] == true)?;
    Some(FieldPath::new("spec.devices.requests").index(at))
}

/// The first device that was allocated so.
fn granted(claim: &Value) -> Option<FieldPath> {
    let at = items(&claim["status"]["allocation"]["devices"], "results")
        .position(|device| device["adminAccess"] == true)?;
    Some(FieldPath::new("status.allocation.devices.results").index(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: &str, object: &Value) -> Vec<String> {
        let kind = KINDS.iter().find(|found| found.kind == kind).expect("there is such a kind");
        let mut errors = ErrorList::new();
        (kind.validate)(object, &mut errors);
        (kind.validate_create)(object, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    fn named(count: usize) -> Vec<Value> {
        let selector = json!({"cel": {"expression": "true"}});
        let request = |at: usize| {
            json!({"name": format!("r{at}"), "exactly": {
                "deviceClassName": "c", "allocationMode": "All", "selectors": vec![&selector; 32],
            }})
        };
        (0..count).map(request).collect()
    }

    #[test]
    fn devices_are_selected_by_what_drivers_tell_of_them() {
        let check = |source: &str, expect: &str| {
            let selector = json!({"cel": {"expression": source}});
            let found = told("DeviceClass", &json!({"spec": {"selectors": [selector]}}));
            let Some(found) = found.first() else { return assert_eq!("", expect, "{source}") };
            let begin = format!("spec.selectors[0].cel.expression: Invalid value: {source:?}: ");
            let found = found.strip_prefix(&begin).unwrap_or(found);
            assert!(!expect.is_empty() && found.starts_with(expect), "{source}: {found}");
        };
        for good in [
            r#"device.driver == "d.io" && device.attributes["d.io"].model == "a""#,
            r#"device.capacity["d.io"].memory.compareTo(quantity("1Gi")) >= 0"#,
            r#"device.attributes["d.io"].version.isGreaterThan(semver("1.0.0"))"#,
            r#"cel.bind(dra, device.attributes["d.io"], dra.one && dra.other)"#,
            r#"device.attributes["d.io"].anything"#,
            "device.allowMultipleAllocations == true",
        ] {
            check(good, "");
        }
        check(
            r#"device.attributes["d.io"].x =="#,
            "compilation failed: ERROR: <input>:1:31: Syntax error: mismatched input '<EOF>'",
        );
        check(r#""a""#, "must evaluate to bool or the unknown type, not string");
        check("device.nope == 1", "compilation failed: ERROR: <input>:1:7: undefined field 'nope'");
        let long = json!({"spec": {"selectors": [{"cel": {"expression": "true".repeat(2561)}}]}});
        assert_eq!(
            told("DeviceClass", &long),
            ["spec.selectors[0].cel.expression: Too long: may not be more than 10240 bytes"]
        );
    }

    #[test]
    fn what_selects_devices_is_looked_at_once() {
        let changed = |kind: &str, new: &Value, old: &Value| {
            let kind = KINDS.iter().find(|found| found.kind == kind).expect("there is such a kind");
            let mut errors = ErrorList::new();
            (kind.validate)(new, &mut errors);
            (kind.validate_update)(new, old, &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        // An older server took it.
        let (odd, good) = (json!({"cel": {"expression": "1"}}), json!({"cel": {"expression": "true"}}));
        let class = |selectors: &[&Value]| json!({"spec": {"selectors": selectors}});
        let stored = class(&[&odd]);
        assert_eq!(changed("DeviceClass", &stored, &stored), [""; 0]);
        assert_eq!(changed("DeviceClass", &class(&[&good, &odd]), &stored), [""; 0]);
        assert_eq!(
            changed("DeviceClass", &class(&[&good, &odd]), &class(&[&good])),
            [
                r#"spec.selectors[1].cel.expression: Invalid value: "1": must evaluate to bool or the unknown type, not int"#
            ]
        );
        let mut claims = named(1);
        claims[0]["exactly"]["selectors"] = json!([odd]);
        let claim = json!({"spec": {"devices": {"requests": claims}}});
        assert_eq!(told("ResourceClaim", &claim).len(), 1);
        let mut labelled = claim.clone();
        labelled["metadata"]["labels"] = json!({"a": "b"});
        assert_eq!(changed("ResourceClaim", &labelled, &claim), [""; 0]);
        let template = json!({"spec": claim});
        assert_eq!(told("ResourceClaimTemplate", &template).len(), 1);
        assert_eq!(changed("ResourceClaimTemplate", &template, &template), [""; 0]);
    }

    #[test]
    fn a_claim_asks_for_so_much_and_no_more() {
        let claim = |requests: Vec<Value>| json!({"spec": {"devices": {"requests": requests}}});
        assert_eq!(told("ResourceClaim", &claim(named(32))), [""; 0]);
        assert_eq!(
            told("ResourceClaim", &claim(named(33))),
            ["spec.devices.requests: Too many: 33: must have at most 32 items"]
        );
        let alternative =
            |at: usize| json!({"name": format!("a{at}"), "deviceClassName": "c", "allocationMode": "All"});
        let first = |count: usize| json!({"name": "r", "firstAvailable": (0..count).map(alternative).collect::<Vec<_>>()});
        assert_eq!(told("ResourceClaim", &claim(vec![first(8)])), [""; 0]);
        assert_eq!(
            told("ResourceClaimTemplate", &json!({"spec": claim(vec![first(9)])})),
            ["spec.spec.devices.requests[0].firstAvailable: Too many: 9: must have at most 8 items"]
        );
        let many =
            json!({"spec": {"devices": {"constraints": vec![json!({}); 33], "config": vec![json!({}); 33]}}});
        assert_eq!(
            told("ResourceClaim", &many),
            [
                "spec.devices.constraints: Too many: 33: must have at most 32 items",
                "spec.devices.config: Too many: 33: must have at most 32 items",
            ]
        );
        let class = json!({"spec": {"selectors": vec![json!({}); 33], "config": vec![json!({}); 33]}});
        assert_eq!(
            told("DeviceClass", &class),
            [
                "spec.selectors: Too many: 33: must have at most 32 items",
                "spec.config: Too many: 33: must have at most 32 items",
            ]
        );
    }

    #[test]
    fn nothing_is_told_of_devices_that_were_given_back() {
        let device = |name: &str| json!({"driver": "d", "pool": "p", "device": name});
        let claim = |allocated: &[&str], told: &[&str]| {
            let all = |names: &[&str]| names.iter().map(|name| device(name)).collect::<Vec<_>>();
            json!({"status": {"allocation": {"devices": {"results": all(allocated)}}, "devices": all(told)}})
        };
        let after = |mut new: Value, old: &Value| {
            forget_returned(&mut new, old);
            new["status"].get("devices").cloned()
        };
        let old = claim(&["a", "b"], &["a", "b"]);
        assert_eq!(after(claim(&["a"], &["a", "b"]), &old), Some(json!([device("a")])));
        assert_eq!(after(claim(&["a", "b"], &["a", "b"]), &old), Some(json!([device("a"), device("b")])));
        assert_eq!(after(claim(&[], &["a", "b"]), &old), None);
    }

    #[test]
    fn who_asks_for_devices_of_others_is_told_where() {
        let asking = json!({"devices": {"requests": [{}, {"exactly": {"adminAccess": true}}]}});
        let place = |path: Option<FieldPath>| path.map(|path| path.as_str().to_owned());
        let expect = Some("spec.devices.requests[1].adminAccess".to_owned());
        assert_eq!(place(admin_access("resourceclaims", None, &json!({"spec": asking}))), expect);
        assert_eq!(
            place(admin_access("resourceclaimtemplates", None, &json!({"spec": {"spec": asking}}))),
            expect
        );
        let given = json!({"status": {"allocation": {"devices": {"results": [{"adminAccess": true}]}}}});
        assert_eq!(
            place(admin_access("resourceclaims", Some(&json!({})), &given)),
            Some("status.allocation.devices.results[0].adminAccess".to_owned())
        );
        assert!(admin_access("resourceclaims", Some(&given), &given).is_none(), "it has been granted");
        assert!(admin_access("deviceclasses", None, &json!({"spec": asking})).is_none());
    }
}
