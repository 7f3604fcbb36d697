//! storage.k8s.io/v1.

use std::collections::{BTreeMap, BTreeSet};

use apimachinery::{FieldError, FieldPath, labels::validate_label_selector, meta::Scope};
use serde_json::{Value, json};

use crate::{
    registry::{Column, ErrorList, Kind, field},
    validation::{
        IMMUTABLE, driver, immutable, items, items_mut, listed, non_negative, null_if_absent, one_of,
        pod_warnings, quantities, required, set, subdomain, text,
    },
};

const BASE: Kind = Kind { group: "storage.k8s.io", scope: Scope::Cluster, ..Kind::BUILT_IN };

/// Marks the StorageClass of claims that name none.
const DEFAULT_CLASS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

pub(super) const KINDS: &[&Kind] = &[
    &Kind {
        kind: "CSIDriver",
        plural: "csidrivers",
        returns_deleted: true,
        unconditional_update: false,
        singular: "csidriver",
        columns: &[
            Column::NAME,
            Column::boolean("AttachRequired", "Whether volumes are attached.", |object, _| {
                flag(object, "attachRequired", true)
            }),
            Column::boolean("PodInfoOnMount", "Whether it is told the pod.", |object, _| {
                flag(object, "podInfoOnMount", false)
            }),
            Column::boolean("StorageCapacity", "Whether capacity counts.", |object, _| {
                flag(object, "storageCapacity", false)
            }),
            Column::text("TokenRequests", "Audiences of its tokens.", |object, _| {
                let audiences =
                    items(&object["spec"], "tokenRequests").map(|request| text(request, "audience"));
                let all = audiences.collect::<Vec<_>>().join(",");
                if all.is_empty() { "<unset>".into() } else { all.into() }
            }),
            Column::boolean("RequiresRepublish", "Whether it is called again and again.", |object, _| {
                flag(object, "requiresRepublish", false)
            }),
            Column::text("Modes", "Life cycles of its volumes.", |object, _| {
                let modes = items(&object["spec"], "volumeLifecycleModes").filter_map(Value::as_str);
                let all = modes.collect::<Vec<_>>().join(",");
                if all.is_empty() { "<none>".into() } else { all.into() }
            }),
            Column::AGE,
        ],
        default: |object| {
            let spec = &mut object["spec"];
            for (name, value) in [
                ("attachRequired", true),
                ("podInfoOnMount", false),
                ("storageCapacity", false),
                ("requiresRepublish", false),
                ("seLinuxMount", false),
            ] {
                set(spec, name, value);
            }
            set(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
            if spec["volumeLifecycleModes"].as_array().is_none_or(Vec::is_empty) && spec.is_object() {
                spec["volumeLifecycleModes"] = json!(["Persistent"]);
            }
        },
        validate: |object, errors| {
            let (spec, path) = (&object["spec"], FieldPath::new("spec"));
            let policies = ["File", "None", "ReadWriteOnceWithFSType"];
            one_of(text(spec, "fsGroupPolicy"), &path.child("fsGroupPolicy"), &policies, errors);
            token_requests(spec, &path.child("tokenRequests"), errors);
            for mode in items(spec, "volumeLifecycleModes").filter_map(Value::as_str) {
                let path = path.child("volumeLifecycleModes");
                listed(mode, &path, &["Persistent", "Ephemeral"], errors);
            }
            let period = "nodeAllocatableUpdatePeriodSeconds";
            if let Some(seconds) = spec[period].as_i64().filter(|seconds| *seconds < 10) {
                let message = "must be greater than or equal to 10 seconds";
                errors.push(FieldError::invalid(&path.child(period), seconds, message));
            }
            if spec[IN_SECRETS].is_boolean() && items(spec, "tokenRequests").next().is_none() {
                let message = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
                errors.push(FieldError::invalid(&path.child(IN_SECRETS), spec[IN_SECRETS].clone(), message));
            }
        },
        prepare_create: |object| drop_disabled(object, &Value::Null),
        prepare_update: drop_disabled,
        validate_update: |new, old, errors| {
            // kube-apiserver calls the first one so.
            for (name, place) in
                [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")]
            {
                let path = FieldPath::new("spec").child(place);
                immutable(&new["spec"][name], &old["spec"][name], &path, errors);
            }
        },
        ..BASE
    },
    &Kind {
        kind: "CSINode",
        plural: "csinodes",
        returns_deleted: true,
        unconditional_update: false,
        singular: "csinode",
        columns: &[
            Column::NAME,
            Column::integer("Drivers", "Drivers registered on the node.", |object, _| {
                object["spec"]["drivers"].as_array().map_or(0, Vec::len).into()
            }),
            Column::AGE,
        ],
        always: &["/spec/drivers"],
        default: |object| {
            if let Some(spec) = object.get_mut("spec") {
                null_if_absent(spec, "drivers");
                for driver in items_mut(spec, "drivers") {
                    if driver["topologyKeys"].as_array().is_none_or(Vec::is_empty) {
                        driver["topologyKeys"] = Value::Null;
                    }
                }
            }
        },
        validate: validate_node,
        validate_update: validate_node_update,
        ..BASE
    },
    &Kind {
        kind: "CSIStorageCapacity",
        plural: "csistoragecapacities",
        unconditional_update: false,
        singular: "csistoragecapacity",
        scope: Scope::Namespaced,
        columns: &[
            Column::NAME,
            Column::text("StorageClassName", "Whose capacity it is.", |object, _| {
                field(object, "/storageClassName")
            }),
            Column::text("Capacity", "How much there is.", |object, _| match &object["capacity"] {
                Value::Null => "<unset>".into(),
                amount => quantities::shown(amount).into(),
            }),
        ],
        validate: |object, errors| {
            let selector = &object["nodeTopology"];
            if selector.is_object() {
                errors.extend(validate_label_selector(selector, &"nodeTopology".into()));
            }
            subdomain(text(object, "storageClassName"), &"storageClassName".into(), errors);
            quantities::non_negative(&object["capacity"], &"capacity".into(), errors);
        },
        validate_update: |new, old, errors| {
            for name in ["nodeTopology", "storageClassName"] {
                immutable(&new[name], &old[name], &FieldPath::new(name), errors);
            }
        },
        warn: |object, _| {
            let (selector, path) = (&object["nodeTopology"], FieldPath::new("nodeTopology"));
            let mut warnings = pod_warnings::of_requirements(selector, "matchExpressions", &path);
            warnings.extend(pod_warnings::of_labels(&selector["matchLabels"], &path.child("matchLabels")));
            warnings
        },
        ..BASE
    },
    &Kind {
        kind: "StorageClass",
        plural: "storageclasses",
        returns_deleted: true,
        singular: "storageclass",
        short_names: &["sc"],
        columns: &[
            Column {
                cell: |object, _| {
                    let annotations = &object["metadata"]["annotations"];
                    let default = DEFAULT_CLASS.iter().any(|name| annotations[*name] == "true");
                    let name = text(&object["metadata"], "name");
                    if default { format!("{name} (default)").into() } else { name.into() }
                },
                ..Column::NAME
            },
            Column::text("Provisioner", "Who makes its volumes.", |object, _| field(object, "/provisioner")),
            Column::text(
                "ReclaimPolicy",
                "What happens to volumes that are released.",
                |object, _| match text(object, "reclaimPolicy") {
                    "" => "Delete".into(),
                    policy => policy.into(),
                },
            ),
            Column::text("VolumeBindingMode", "When volumes are made and bound.", |object, _| {
                match text(object, "volumeBindingMode") {
                    "" => "Immediate".into(),
                    mode => mode.into(),
                }
            }),
            Column::text("AllowVolumeExpansion", "Whether volumes can grow.", |object, _| {
                (object["allowVolumeExpansion"] == true).into()
            }),
            Column::AGE,
        ],
        default: |object| {
            set(object, "reclaimPolicy", "Delete");
            set(object, "volumeBindingMode", "Immediate");
        },
        validate: validate_class,
        warn: |object, _| {
            let mut warnings = Vec::new();
            for (index, term) in items(object, "allowedTopologies").enumerate() {
                let path = FieldPath::new("allowedTopologies").index(index).child("matchLabelExpressions");
                for (at, requirement) in items(term, "matchLabelExpressions").enumerate() {
                    let why = pod_warnings::former(text(requirement, "key"));
                    let path = path.index(at).child("key");
                    warnings.extend(why.map(|why| format!("{}: {why}", path.as_str())));
                }
            }
            warnings
        },
        validate_update: |new, old, errors| {
            for name in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
                let path = FieldPath::new(name);
                if new[name] != old[name] {
                    if name == "volumeBindingMode" {
                        immutable(&new[name], &old[name], &path, errors);
                    } else {
                        let message = format!("updates to {name} are forbidden.");
                        errors.push(FieldError::forbidden(&path, &message));
                    }
                }
            }
        },
        ..BASE
    },
    &Kind {
        kind: "VolumeAttachment",
        plural: "volumeattachments",
        returns_deleted: true,
        unconditional_update: false,
        singular: "volumeattachment",
        status: true,
        columns: &[
            Column::NAME,
            Column {
                format: "name",
                ..Column::text("Attacher", "The driver that attaches.", |object, _| {
                    field(object, "/spec/attacher")
                })
            },
            Column::text("PV", "The volume.", |object, _| field(object, "/spec/source/persistentVolumeName")),
            Column::text("Node", "The node.", |object, _| field(object, "/spec/nodeName")),
            Column::boolean("Attached", "Whether it is attached.", |object, _| {
                (object["status"]["attached"] == true).into()
            }),
            Column::AGE,
        ],
        prepare_create: |object| object["status"] = json!({"attached": false}),
        validate: validate_attachment,
        validate_update: |new, old, errors| {
            immutable(&new["spec"], &old["spec"], &"spec".into(), errors);
        },
        ..BASE
    },
    &Kind {
        kind: "VolumeAttributesClass",
        plural: "volumeattributesclasses",
        returns_deleted: true,
        singular: "volumeattributesclass",
        short_names: &["vac"],
        columns: &[
            Column::NAME,
            Column::text("DriverName", "Whose volumes it is for.", |object, _| field(object, "/driverName")),
            Column::AGE,
        ],
        validate: |object, errors| {
            let path = FieldPath::default();
            if let Some(name) = required(object, &path, "driverName", errors) {
                let found = apimachinery::names::qualified_name(&name.to_lowercase());
                let path = path.child("driverName");
                errors.extend(found.iter().map(|error| FieldError::invalid(&path, name, error)));
            }
            if object["parameters"].as_object().is_none_or(serde_json::Map::is_empty) {
                errors.push(FieldError::required(
                    &"parameters".into(),
                    "must contain at least one key/value pair",
                ));
            }
        },
        validate_update: |new, old, errors| {
            for name in ["driverName", "parameters"] {
                if new[name] != old[name] {
                    let message = format!("updates to {name} are forbidden.");
                    errors.push(FieldError::forbidden(&FieldPath::new(name), &message));
                }
            }
        },
        ..BASE
    },
];

const IN_SECRETS: &str = "serviceAccountTokenInSecrets";

/// Takes away what `VolumeLimitScaling`, which is off, would look at, unless it was there before.
fn drop_disabled(object: &mut Value, old: &Value) {
    const NAME: &str = "preventPodSchedulingIfMissing";
    if old["spec"][NAME].is_null()
        && let Some(spec) = object["spec"].as_object_mut()
    {
        spec.remove(NAME);
    }
}

/// Tokens that a driver gets: one for each audience, and good for a while.
fn token_requests(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (index, request) in items(spec, "tokenRequests").enumerate() {
        let (path, audience) = (path.index(index), text(request, "audience"));
        if !seen.insert(audience) {
            errors.push(FieldError::duplicate(&path.child("audience"), audience));
            continue;
        }
        let Some(seconds) = request["expirationSeconds"].as_i64() else { continue };
        let message = match seconds {
            ..600 => "may not specify a duration less than 10 minutes",
            600..=0x1_0000_0000 => continue,
            _ => "may not specify a duration larger than 2^32 seconds",
        };
        errors.push(FieldError::invalid(&path.child("expirationSeconds"), seconds, message));
    }
}

fn flag(object: &Value, name: &str, default: bool) -> Value {
    object["spec"][name].as_bool().unwrap_or(default).into()
}

/// The longest name of a node in a driver's own words: `csiNodeIDMaxLength`.
const NODE_ID_MAX: usize = 256;

/// `validation.ValidateCSINode`.
fn validate_node(object: &Value, errors: &mut ErrorList) {
    let (mut seen, path) = (BTreeSet::new(), FieldPath::new("spec.drivers"));
    for (index, one) in items(&object["spec"], "drivers").enumerate() {
        let (path, name) = (path.index(index), text(one, "name"));
        driver(name, &path.child("name"), errors);
        if let Some(id) = required(one, &path, "nodeID", errors)
            && id.len() > NODE_ID_MAX
        {
            let message = format!("must be {NODE_ID_MAX} characters or less");
            errors.push(FieldError::invalid(&path.child("nodeID"), id, &message));
        }
        non_negative(&one["allocatable"], &path.child("allocatable"), &["count"], errors);
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
        topology_keys(one, &path, errors);
    }
}

/// `validation.ValidateCSINodeUpdate`: a driver stays what it was, but for how many volumes it attaches.
fn validate_node_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    let before: BTreeMap<_, _> =
        items(&old["spec"], "drivers").map(|driver| (text(driver, "name"), driver)).collect();
    for driver in items(&new["spec"], "drivers") {
        let Some(old) = before.get(text(driver, "name")) else { continue };
        let same_keys = items(driver, "topologyKeys").eq(items(old, "topologyKeys"));
        if driver["nodeID"] != old["nodeID"] || !same_keys {
            errors.push(FieldError::invalid(&"CSINodeDriver".into(), driver.clone(), IMMUTABLE));
        }
    }
}

/// All keys are told with what is wrong of one, so nothing is told of two.
fn topology_keys(driver: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let (mut keys, mut told) = (BTreeSet::new(), BTreeSet::new());
    for key in items(driver, "topologyKeys").map(|key| key.as_str().unwrap_or_default()) {
        let new = keys.insert(key);
        if key.is_empty() && new {
            errors.push(FieldError::required(path, ""));
        }
        if !new {
            if told.insert(format!("twice {key}")) {
                errors.push(FieldError::duplicate(path, key));
            }
            continue;
        }
        for error in apimachinery::names::qualified_name(key) {
            if told.insert(error.clone()) {
                errors.push(FieldError::invalid(path, driver["topologyKeys"].clone(), &error));
            }
        }
    }
}

/// `validation.ValidateVolumeAttachment` and `ValidateVolumeAttachmentV1`.
fn validate_attachment(object: &Value, errors: &mut ErrorList) {
    let (spec, path) = (&object["spec"], FieldPath::new("spec"));
    required(spec, &path, "attacher", errors);
    let (source, place) = (&spec["source"], path.child("source"));
    let volume = source["persistentVolumeName"].as_str();
    let name_path = place.child("persistentVolumeName");
    const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (source["inlineVolumeSpec"].is_object(), volume) {
        (false, None) => errors.push(FieldError::required(&place, ONE)),
        (true, Some(_)) => errors.push(FieldError::forbidden(&place, ONE)),
        (false, Some("")) => {
            errors.push(FieldError::required(&name_path, "must specify non empty persistentVolumeName"));
        }
        _ => {}
    }
    subdomain(text(spec, "nodeName"), &path.child("nodeName"), errors);
    driver(text(spec, "attacher"), &path.child("attacher"), errors);
    if let Some(name) = volume {
        subdomain(name, &name_path, errors);
    }
}

/// `validation.validateAllowedTopologies`: no key and no value twice, and no term that says the same as another.
fn topologies(object: &Value, errors: &mut ErrorList) {
    const LIST: &str = "matchLabelExpressions";
    // kube-apiserver compares with empty terms, too.
    let mut seen = BTreeSet::from([BTreeMap::new()]);
    for (index, term) in items(object, "allowedTopologies").enumerate() {
        let path = FieldPath::new("allowedTopologies").index(index).child(LIST);
        let mut said: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (at, requirement) in items(term, LIST).enumerate() {
            let (path, key) = (path.index(at), text(requirement, "key"));
            let values_path = path.child("values");
            let mut values = BTreeSet::new();
            for (at, value) in items(requirement, "values").enumerate() {
                let value = value.as_str().unwrap_or_default();
                if !values.insert(value) {
                    errors.push(FieldError::duplicate(&values_path.index(at), value));
                }
            }
            if values.is_empty() {
                errors.push(FieldError::required(&values_path, ""));
            }
            let key_path = path.child("key");
            let found = apimachinery::names::label_key(key);
            errors.extend(found.iter().map(|error| FieldError::invalid(&key_path, key, error)));
            if said.insert(key, values).is_some() {
                errors.push(FieldError::duplicate(&key_path, key));
            }
        }
        if !seen.insert(said) {
            errors.push(FieldError::duplicate(&path, ""));
        }
    }
}

fn validate_class(object: &Value, errors: &mut ErrorList) {
    let root = FieldPath::default();
    if let Some(name) = required(object, &root, "provisioner", errors) {
        let path = root.child("provisioner");
        let found = apimachinery::names::qualified_name(&name.to_lowercase());
        errors.extend(found.iter().map(|error| FieldError::invalid(&path, name, error)));
    }
    for (key, _) in object["parameters"].as_object().into_iter().flatten() {
        if key.is_empty() {
            let message = "field can not be empty.";
            errors.push(FieldError::invalid(&root.child("parameters"), key.as_str(), message));
        }
    }
    // An empty one says nothing, but is no other one either.
    if let Some(policy) = object["reclaimPolicy"].as_str().filter(|policy| !policy.is_empty()) {
        one_of(policy, &root.child("reclaimPolicy"), &["Delete", "Retain"], errors);
    }
    let modes = ["Immediate", "WaitForFirstConsumer"];
    one_of(text(object, "volumeBindingMode"), &root.child("volumeBindingMode"), &modes, errors);
    topologies(object, errors);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn told(validate: fn(&Value, &mut ErrorList), object: &Value, expect: &[&str]) {
        let mut errors = ErrorList::new();
        validate(object, &mut errors);
        assert_eq!(errors.iter().map(|error| error.field.as_str()).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn drivers_of_a_node_have_names_of_their_own() {
        let good = json!({"spec": {"drivers": [{"name": "a.b", "nodeID": "x", "topologyKeys": ["a"]}]}});
        told(validate_node, &good, &[]);
        let drivers = json!([
            {"name": "A_", "topologyKeys": ["a", "a"]},
            {"name": "a.b", "nodeID": "x", "allocatable": {"count": -1}},
            {"name": "a.b", "nodeID": "y"},
        ]);
        let expect = [
            "spec.drivers[0].name",
            "spec.drivers[0].nodeID",
            "spec.drivers[0]",
            "spec.drivers[1].allocatable.count",
            "spec.drivers[2].name",
        ];
        told(validate_node, &json!({"spec": {"drivers": drivers}}), &expect);
    }

    #[test]
    fn drivers_of_a_node_stay_what_they_were() {
        let node = |id: &str, count: u32| json!({"spec": {"drivers": [{"name": "a.b", "nodeID": id, "allocatable": {"count": count}}]}});
        let told = |new: &Value, old: &Value| {
            let mut errors = ErrorList::new();
            validate_node_update(new, old, &mut errors);
            errors.len()
        };
        assert_eq!(told(&node("x", 2), &node("x", 1)), 0);
        assert_eq!(told(&node("y", 1), &node("x", 1)), 1);
        assert_eq!(told(&node("x", 1), &json!({"spec": {"drivers": null}})), 0);
    }

    #[test]
    fn what_is_attached_has_a_name_and_a_node() {
        let good =
            json!({"spec": {"attacher": "a.b", "nodeName": "n", "source": {"persistentVolumeName": "p"}}});
        told(validate_attachment, &good, &[]);
        let expect = ["spec.attacher", "spec.source", "spec.nodeName", "spec.attacher", "spec.attacher"];
        told(validate_attachment, &json!({}), &expect);
    }

    #[test]
    fn a_driver_gets_a_token_for_each_audience() {
        let spec = json!({"tokenRequests": [
            {"audience": "a", "expirationSeconds": 600},
            {"audience": "a"},
            {"audience": "b", "expirationSeconds": 599},
            {"audience": "c", "expirationSeconds": 4_294_967_297_i64},
        ]});
        let mut errors = ErrorList::new();
        token_requests(&spec, &FieldPath::new("spec.tokenRequests"), &mut errors);
        assert_eq!(
            errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                r#"spec.tokenRequests[1].audience: Duplicate value: "a""#,
                "spec.tokenRequests[2].expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes",
                "spec.tokenRequests[3].expirationSeconds: Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds",
            ]
        );
    }

    #[test]
    fn topologies_say_nothing_twice() {
        let terms = json!([
            {"matchLabelExpressions": [{"key": "a", "values": ["b", "b"]}, {"key": "a", "values": ["c"]}]},
            {"matchLabelExpressions": [{"key": "a", "values": ["c"]}]},
        ]);
        let expect = [
            "allowedTopologies[0].matchLabelExpressions[0].values[1]",
            "allowedTopologies[0].matchLabelExpressions[1].key",
            "allowedTopologies[1].matchLabelExpressions",
        ];
        told(topologies, &json!({"allowedTopologies": terms}), &expect);
    }
}
