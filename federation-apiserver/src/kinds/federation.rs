//! The kinds of group `federation.rs`, and the annotations of Federation v1.

use std::{collections::BTreeMap, net::IpAddr};

use apimachinery::{
    FieldError, FieldPath,
    labels::validate_label_selector,
    meta::Scope,
    names::{self, NameRule},
};
use federation_core::api::{self, marks};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    registry::{Column, ErrorList, Generation, Kind, field, joined},
    validation,
};

pub(super) const BASE: Kind = Kind {
    group: api::GROUP,
    version: api::VERSION,
    categories: &["federation"],
    status: true,
    generation: Generation::Spec,
    unconditional_update: false,
    built_in: false,
    ..Kind::BUILT_IN
};

const WHERE: Column =
    Column::text("Clusters", "Where the copies go, with replicas.", |object, _| targets(object));
const APPLIED: Column =
    Column::text("Applied", "Clusters that hold the present copy, of all.", |object, _| applied(object));
const TEMPLATE: Column = Column::text("Template", "What is placed.", |object, _| template(object));
const SELECTS: Column = Column::text("Selects", "Which kinds.", |object, _| selects(object));
const MODE: Column =
    Column::text("Replicas", "How replicas are spread.", |object, _| field(object, "/spec/replicas/mode"));

pub(super) const KINDS: &[&Kind] = &[
    &Kind {
        kind: "Cluster",
        plural: "clusters",
        singular: "cluster",
        short_names: &["fcl"],
        scope: Scope::Cluster,
        name_rule: NameRule::Dns1123Label,
        columns: &[
            Column::NAME,
            Column::text("Ready", "Whether the verdict is Healthy.", |object, _| condition(object, "Ready")),
            Column::text("Verdict", "The one health verdict.", |object, _| field(object, "/status/verdict")),
            Column::text("Region", "Region.", |object, _| field(object, "/spec/region")),
            Column::text("Zone", "Zone.", |object, _| field(object, "/spec/zone")),
            Column::text("Version", "Kubernetes version.", |object, _| {
                field(object, "/status/kubernetesVersion")
            }),
            Column::AGE,
            Column::text("Agent", "Version of the agent.", |object, _| field(object, "/status/agentVersion"))
                .wide(),
            Column::text("Epoch", "Epoch of the verdict.", |object, _| field(object, "/status/epoch")).wide(),
            Column::text("Reason", "Why the verdict is what it is.", |object, _| {
                field(object, "/status/verdictReason")
            })
            .wide(),
        ],
        validate: |object, errors| {
            if parses::<api::Cluster>(object, errors) {
                cluster(&object["spec"], errors);
            }
        },
        ..BASE
    },
    &Kind {
        kind: "Placement",
        plural: "placements",
        singular: "placement",
        short_names: &["fpl"],
        columns: &[Column::NAME, TEMPLATE, WHERE, APPLIED, Column::AGE],
        validate: |object, errors| {
            parses::<api::Placement>(object, errors);
        },
        ..BASE
    },
    &Kind {
        kind: "ClusterPlacement",
        plural: "clusterplacements",
        singular: "clusterplacement",
        short_names: &["fcpl"],
        scope: Scope::Cluster,
        columns: &[Column::NAME, TEMPLATE, WHERE, APPLIED, Column::AGE],
        validate: |object, errors| {
            parses::<api::ClusterPlacement>(object, errors);
        },
        ..BASE
    },
    &Kind {
        kind: "PlacementPolicy",
        plural: "placementpolicies",
        singular: "placementpolicy",
        short_names: &["fpp"],
        columns: &[Column::NAME, SELECTS, MODE, Column::AGE],
        validate: |object, errors| {
            if parses::<api::PlacementPolicy>(object, errors) {
                policy(&object["spec"], errors);
            }
        },
        ..BASE
    },
    &Kind {
        kind: "ClusterPlacementPolicy",
        plural: "clusterplacementpolicies",
        singular: "clusterplacementpolicy",
        short_names: &["fcpp"],
        scope: Scope::Cluster,
        columns: &[Column::NAME, SELECTS, MODE, Column::AGE],
        validate: |object, errors| {
            if parses::<api::ClusterPlacementPolicy>(object, errors) {
                policy(&object["spec"], errors);
            }
        },
        ..BASE
    },
];

/// Whether the object has the types of its struct; a wrong one is told with what serde says.
pub(super) fn parses<T: DeserializeOwned>(object: &Value, errors: &mut ErrorList) -> bool {
    for part in ["spec", "status"] {
        if object.get(part).is_some_and(|value| !value.is_object() && !value.is_null()) {
            errors.push(FieldError::type_invalid(
                &FieldPath::new(part),
                object[part].clone(),
                "must be of type object",
            ));
            return false;
        }
    }
    match serde_json::from_value::<T>(object.clone()) {
        Ok(_) => true,
        Err(error) => {
            errors.push(FieldError::invalid(
                &FieldPath::new("spec"),
                object["spec"].clone(),
                &error.to_string(),
            ));
            false
        }
    }
}

pub(super) fn strings(list: &Value) -> impl Iterator<Item = String> + '_ {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned)
}

fn condition(object: &Value, kind: &str) -> Value {
    let found = validation::condition(object, kind);
    found.map_or_else(|| "Unknown".into(), |condition| condition["status"].clone())
}

fn targets(object: &Value) -> Value {
    joined(object["spec"]["clusters"].as_array().into_iter().flatten().map(|target| {
        let name = target["name"].as_str().unwrap_or_default();
        target["replicas"].as_i64().map_or_else(|| name.to_owned(), |replicas| format!("{name}={replicas}"))
    }))
}

fn applied(object: &Value) -> Value {
    let wanted = object["spec"]["clusters"].as_array().map_or(0, Vec::len);
    let outcomes = object["status"]["clusters"].as_array().into_iter().flatten();
    let applied = outcomes.filter(|outcome| outcome["reason"] == "Applied").count();
    format!("{applied}/{wanted}").into()
}

fn template(object: &Value) -> Value {
    let reference = &object["spec"]["template"];
    let text = |name: &str| reference[name].as_str().unwrap_or_default();
    format!("{}/{}", text("kind"), text("name")).into()
}

fn selects(object: &Value) -> Value {
    let selectors = object["spec"]["resourceSelectors"].as_array().into_iter().flatten();
    joined(selectors.map(|selector| {
        let kind = selector["kind"].as_str().unwrap_or_default();
        selector["name"].as_str().map_or_else(|| kind.to_owned(), |name| format!("{kind}/{name}"))
    }))
}

/// Region and zone become DNS labels of the federated names.
fn dns_label(spec: &Value, name: &str, errors: &mut ErrorList) {
    if let Some(text) = spec[name].as_str().filter(|text| !text.is_empty()) {
        for error in names::dns1123_label(text) {
            errors.push(FieldError::invalid(&FieldPath::new("spec").child(name), text, &error));
        }
    }
}

fn cluster(spec: &Value, errors: &mut ErrorList) {
    let path = FieldPath::new("spec");
    dns_label(spec, "region", errors);
    dns_label(spec, "zone", errors);
    check_weight(&spec["trafficWeight"], &path.child("trafficWeight"), errors);
    for (index, address) in spec["addresses"].as_array().into_iter().flatten().enumerate() {
        if address.as_str().and_then(|text| text.parse::<IpAddr>().ok()).is_none() {
            let message = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.push(FieldError::invalid(&path.child("addresses").index(index), address.clone(), message));
        }
    }
    for (index, taint) in spec["taints"].as_array().into_iter().flatten().enumerate() {
        let path = path.child("taints").index(index);
        let key = taint["key"].as_str().unwrap_or_default();
        for error in names::label_key(key) {
            errors.push(FieldError::invalid(&path.child("key"), key, &error));
        }
        let value = taint["value"].as_str().unwrap_or_default();
        for error in names::label_value(value) {
            errors.push(FieldError::invalid(&path.child("value"), value, &error));
        }
    }
}

pub(super) fn check_weight(weight: &Value, path: &FieldPath, errors: &mut ErrorList) {
    if let Some(number) = weight.as_u64()
        && number > 1000
    {
        errors.push(FieldError::invalid(path, number, "must be between 0 and 1000, inclusive"));
    }
}

fn policy(spec: &Value, errors: &mut ErrorList) {
    let path = FieldPath::new("spec");
    let none = Vec::new();
    let selectors = spec["resourceSelectors"].as_array().unwrap_or(&none);
    if selectors.is_empty() {
        errors.push(FieldError::required(&path.child("resourceSelectors"), "must select at least one kind"));
    }
    for (index, selector) in selectors.iter().enumerate() {
        let path = path.child("resourceSelectors").index(index);
        for name in ["apiVersion", "kind"] {
            if selector[name].as_str().unwrap_or_default().is_empty() {
                errors.push(FieldError::required(&path.child(name), ""));
            }
        }
        if let Some(labels) = selector.get("labelSelector").filter(|labels| !labels.is_null()) {
            errors.extend(validate_label_selector(labels, &path.child("labelSelector")));
        }
    }
    let clusters = path.child("clusters");
    if let Some(labels) = spec["clusters"].get("labelSelector").filter(|labels| !labels.is_null()) {
        errors.extend(validate_label_selector(labels, &clusters.child("labelSelector")));
    }
    for list in ["names", "exclude"] {
        check_names(&spec["clusters"][list], &clusters.child(list), errors);
    }
    for (name, share) in spec["replicas"]["clusters"].as_object().into_iter().flatten() {
        check_share(share, &path.child("replicas").child("clusters").key(name), errors);
    }
    for (index, change) in spec["overrides"].as_array().into_iter().flatten().enumerate() {
        let path = path.child("overrides").index(index);
        check_names(&change["clusters"], &path.child("clusters"), errors);
        check_json_patch(&change["jsonPatch"], &path.child("jsonPatch"), errors);
    }
}

pub(super) fn check_names(list: &Value, path: &FieldPath, errors: &mut ErrorList) {
    for (index, name) in strings(list).enumerate() {
        for error in names::dns1123_label(&name) {
            errors.push(FieldError::invalid(&path.index(index), name.as_str(), &error));
        }
    }
}

fn check_share(share: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let number = |name: &str| share[name].as_i64();
    for name in ["weight", "minReplicas", "maxReplicas"] {
        if let Some(value) = number(name)
            && value < 0
        {
            errors.push(FieldError::invalid(&path.child(name), value, "must be greater than or equal to 0"));
        }
    }
    if let (Some(min), Some(max)) = (number("minReplicas"), number("maxReplicas"))
        && min > max
    {
        errors.push(FieldError::invalid(
            &path.child("minReplicas"),
            min,
            "must not be greater than maxReplicas",
        ));
    }
}

/// RFC 6902 section 4, operation by operation.
fn check_json_patch(patch: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let none = Vec::new();
    let operations = patch.as_array().unwrap_or(&none);
    if operations.is_empty() {
        errors.push(FieldError::required(path, "must hold at least one operation"));
    }
    for (index, operation) in operations.iter().enumerate() {
        let path = path.index(index);
        let op = operation["op"].as_str().unwrap_or_default();
        if !matches!(op, "add" | "remove" | "replace" | "move" | "copy" | "test") {
            let known = ["add", "copy", "move", "remove", "replace", "test"];
            errors.push(FieldError::not_supported(&path.child("op"), op, &known));
        }
        let mut pointer = |name: &str| match operation[name].as_str() {
            None => errors.push(FieldError::required(&path.child(name), "")),
            Some(text) if !text.is_empty() && !text.starts_with('/') => {
                errors.push(FieldError::invalid(
                    &path.child(name),
                    text,
                    "must be a JSON pointer: empty, or beginning with \"/\"",
                ));
            }
            Some(_) => {}
        };
        pointer("path");
        if matches!(op, "move" | "copy") {
            pointer("from");
        }
        if matches!(op, "add" | "replace" | "test") && operation.get("value").is_none() {
            errors.push(FieldError::required(&path.child("value"), ""));
        }
    }
}

/// Federation v1's annotations: their JSON must parse as v1 defined it, or the object would be placed by surprise.
pub(super) fn check_v1_annotations(object: &Value, preferences: &str, errors: &mut ErrorList) {
    #[derive(serde::Deserialize)]
    struct Preferences {
        #[serde(default)]
        clusters: BTreeMap<String, Share>,
        #[serde(default, rename = "rebalance")]
        _rebalance: bool,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    #[derive(Default)]
    struct Share {
        weight: i64,
        min_replicas: i64,
        max_replicas: Option<i64>,
    }
    let path = FieldPath::new("metadata.annotations");
    let annotations = &object["metadata"]["annotations"];
    if let Some(text) = annotations[preferences].as_str() {
        let path = path.key(preferences);
        match serde_json::from_str::<Preferences>(text) {
            Err(error) => {
                errors.push(FieldError::invalid(&path, text, &format!("must be JSON preferences: {error}")));
            }
            Ok(found) => {
                let bad = found.clusters.iter().find(|(_, share)| {
                    share.weight < 0
                        || share.min_replicas < 0
                        || share.max_replicas.is_some_and(|max| max < 0 || max < share.min_replicas)
                });
                if let Some((name, _)) = bad {
                    let message = format!(
                        "cluster {name:?}: weight, minReplicas and maxReplicas must not be negative, and minReplicas not above maxReplicas"
                    );
                    errors.push(FieldError::invalid(&path, text, &message));
                }
            }
        }
    }
    check_cluster_selector(object, errors);
}

/// `federation.alpha.kubernetes.io/cluster-selector`: a JSON list of requirements.
pub(crate) fn check_cluster_selector(object: &Value, errors: &mut ErrorList) {
    #[derive(serde::Deserialize)]
    struct Requirement {
        key: String,
        operator: String,
        #[serde(default)]
        values: Vec<String>,
    }
    let Some(text) = object["metadata"]["annotations"][marks::V1_CLUSTER_SELECTOR].as_str() else { return };
    let path = FieldPath::new("metadata.annotations").key(marks::V1_CLUSTER_SELECTOR);
    let requirements = match serde_json::from_str::<Vec<Requirement>>(text) {
        Ok(requirements) => requirements,
        Err(error) => {
            let message = format!("must be a JSON list of label requirements: {error}");
            errors.push(FieldError::invalid(&path, text, &message));
            return;
        }
    };
    for requirement in requirements {
        let values = requirement.values.len();
        let fits = match requirement.operator.to_ascii_lowercase().as_str() {
            "in" | "notin" => values > 0,
            "exists" | "doesnotexist" | "!" => values == 0,
            "=" | "==" | "!=" => values == 1,
            "gt" | "lt" => values == 1 && requirement.values.iter().all(|value| value.parse::<i64>().is_ok()),
            _ => false,
        };
        if !fits || !names::label_key(&requirement.key).is_empty() {
            let message = format!(
                "requirement on {:?}: the key must be a label key, the operator one of in, notin, exists, !, =, ==, !=, gt, lt, with values that fit",
                requirement.key
            );
            errors.push(FieldError::invalid(&path, text, &message));
        }
    }
}
