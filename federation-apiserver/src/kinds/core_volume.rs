//! core/v1 PersistentVolume.

use apimachinery::{FieldError, FieldPath, meta::Scope};
use serde_json::{Value, json};

use super::core_claim;
use crate::{
    registry::{Column, ErrorList, Kind, field},
    validation::{
        IMMUTABLE, deleting, immutable, items, one_of, pod, pod_spec, pod_warnings, quantities, required,
        set, set_text, subdomain, text, volume,
    },
};

const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

pub(super) const VOLUME_MODE: Column =
    Column::text("VolumeMode", "Filesystem or Block.", |object, _| unset(field(object, "/spec/volumeMode")))
        .wide();

pub(super) const KINDS: &[&Kind] = &[&Kind {
    kind: "PersistentVolume",
    plural: "persistentvolumes",
    returns_deleted: true,
    singular: "persistentvolume",
    short_names: &["pv"],
    scope: Scope::Cluster,
    status: true,
    columns: &[
        Column::NAME,
        Column::text("Capacity", "Its size.", |object, _| amount(&object["spec"]["capacity"])),
        Column::text("Access Modes", "All ways in which it can be mounted.", |object, _| {
            modes(&object["spec"]["accessModes"])
        }),
        Column::text("Reclaim Policy", "What happens when its claim releases it.", |object, _| {
            field(object, "/spec/persistentVolumeReclaimPolicy")
        }),
        PHASE,
        Column::text("Claim", "The claim that it is bound to.", |object, _| {
            let claim = &object["spec"]["claimRef"];
            if !claim.is_object() {
                return "".into();
            }
            format!("{}/{}", text(claim, "namespace"), text(claim, "name")).into()
        }),
        Column::text("StorageClass", "StorageClass of the pv", |object, _| class(object)),
        ATTRIBUTES_CLASS,
        Column::text("Reason", "Why it failed, in one word.", |object, _| field(object, "/status/reason")),
        Column::AGE,
        VOLUME_MODE,
    ],
    default: |object| {
        set_text(&mut object["spec"], "persistentVolumeReclaimPolicy", "Retain");
        set(&mut object["spec"], "volumeMode", "Filesystem");
        pod::default_sources(&mut object["spec"]);
    },
    prepare_create: |object| {
        let now = object["metadata"]["creationTimestamp"].clone();
        object["status"] = json!({"phase": "Pending", "lastPhaseTransitionTime": now});
    },
    stamp: |new, old, part, now| {
        if part == "status" {
            stamp_phase(&mut new["status"], &old["status"], now);
        }
    },
    validate: validate_volume,
    validate_update: validate_volume_update,
    warn: |volume, _| warnings(volume),
    ..Kind::BUILT_IN
}];

pub(super) const PHASE: Column = Column::text("Status", "Its phase.", |object, _| {
    if deleting(object) { "Terminating".into() } else { field(object, "/status/phase") }
});
pub(super) const ATTRIBUTES_CLASS: Column =
    Column::text("VolumeAttributesClass", "Its tunable class.", |object, _| {
        unset(field(object, "/spec/volumeAttributesClassName"))
    });

fn unset(value: Value) -> Value {
    if value == "" { "<unset>".into() } else { value }
}

pub(super) fn amount(amounts: &Value) -> Value {
    match &amounts["storage"] {
        Value::Null => "".into(),
        storage => quantities::shown(storage).into(),
    }
}

/// `GetAccessModesAsString`: RWO,ROX,RWX,RWOP.
pub(super) fn modes(modes: &Value) -> Value {
    let has = |mode: &str| modes.as_array().into_iter().flatten().any(|found| found == mode);
    let short = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    short.iter().filter(|(mode, _)| has(mode)).map(|(_, short)| *short).collect::<Vec<_>>().join(",").into()
}

pub(super) fn class(object: &Value) -> Value {
    match text(&object["metadata"]["annotations"], "volume.beta.kubernetes.io/storage-class") {
        "" => field(object, "/spec/storageClassName"),
        class => class.into(),
    }
}

/// Modes that are known; `none` says what is told where there are none.
pub(super) fn access_modes(spec: &Value, path: &FieldPath, none: &str, errors: &mut ErrorList) {
    let path = path.child("accessModes");
    let found: Vec<_> = items(spec, "accessModes").filter_map(Value::as_str).collect();
    if found.is_empty() {
        errors.push(FieldError::required(&path, none));
    }
    for mode in &found {
        one_of(mode, &path, &MODES, errors);
    }
    if found.len() > 1 && found.contains(&"ReadWriteOncePod") {
        let message = "may not use ReadWriteOncePod with other access modes";
        errors.push(FieldError::forbidden(&path, message));
    }
}

/// Fields of a volume's spec that are no source.
const NO_SOURCE: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

fn all_sources(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let fields = object["spec"].as_object().into_iter().flatten();
    fields.filter(|(name, value)| !NO_SOURCE.contains(&name.as_str()) && value.is_object())
}

fn source(object: &Value) -> Option<(&String, &Value)> {
    all_sources(object).next()
}

/// There is one source, and it says where it is.
fn sources(object: &Value, path: &FieldPath, errors: &mut ErrorList) {
    if source(object).is_none() {
        errors.push(FieldError::required(path, "must specify a volume type"));
    }
    for (index, (name, source)) in all_sources(object).enumerate() {
        let path = path.child(name);
        if index > 0 {
            errors.push(FieldError::forbidden(&path, volume::MORE_THAN_ONE));
            continue;
        }
        volume::validate_source(name, source, &path, errors);
        match name.as_str() {
            "local" => _ = required(source, &path, "path", errors),
            "csi" => attached(source, &path, errors),
            _ => {}
        }
    }
}

/// Secrets that a driver is told, in the order in which they are looked at. The one for staging is not.
const SECRETS: [&str; 4] = [
    "controllerPublishSecretRef",
    "controllerExpandSecretRef",
    "nodePublishSecretRef",
    "nodeExpandSecretRef",
];

/// What a driver is told of a volume, but for its own name: `validation.validateCSIPersistentVolumeSource`.
fn attached(source: &Value, path: &FieldPath, errors: &mut ErrorList) {
    required(source, path, "volumeHandle", errors);
    for name in SECRETS.into_iter().filter(|name| source[*name].is_object()) {
        volume::secret_somewhere(&source[name], &path.child(name), errors);
    }
}

/// Writes down when the phase became what it is, where the writer does not say.
fn stamp_phase(new: &mut Value, old: &Value, now: &str) {
    const SINCE: &str = "lastPhaseTransitionTime";
    let said = new[SINCE].clone();
    if new["phase"] != old["phase"] {
        if said.is_null() || said == old[SINCE] {
            set_always(new, SINCE, now.into());
        }
    } else if said.is_null() && !old[SINCE].is_null() {
        set_always(new, SINCE, old[SINCE].clone());
    }
}

fn set_always(object: &mut Value, name: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(name.to_owned(), value);
    }
}

/// A volume stays where it is: `validation.ValidatePersistentVolumeUpdate`.
fn validate_volume_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    let path = FieldPath::new("spec");
    let added = "controllerExpandSecretRef";
    let sources = |object: &Value| {
        source(object).map(|(name, source)| {
            let mut source = source.clone();
            if name == "csi"
                && old["spec"]["csi"][added].is_null()
                && let Some(source) = source.as_object_mut()
            {
                source.remove(added);
            }
            (name.clone(), source)
        })
    };
    if sources(new) != sources(old) {
        let message = "spec.persistentvolumesource is immutable after creation";
        errors.push(FieldError::forbidden(&path.child("persistentvolumesource"), message));
    }
    // Without `spec`, as kube-apiserver names these places.
    let mode = FieldPath::new("volumeMode");
    immutable(&new["spec"]["volumeMode"], &old["spec"]["volumeMode"], &mode, errors);
    let nodes = |object: &Value| object["spec"]["nodeAffinity"].clone();
    if !nodes(old).is_null() && !same_nodes(&nodes(new), &nodes(old)) {
        let message = format!("{IMMUTABLE}, except for updating from beta label to GA");
        errors.push(FieldError::invalid(&"nodeAffinity".into(), nodes(new), &message));
    }
    let class = |object: &Value| object["spec"]["volumeAttributesClassName"].is_null();
    if class(new) && !class(old) {
        let message = "update from non-nil value to nil is forbidden";
        errors.push(FieldError::forbidden(&path.child("volumeAttributesClassName"), message));
    }
}

/// Whether a volume can be on the same nodes as before, but that their labels may have newer names.
fn same_nodes(new: &Value, old: &Value) -> bool {
    let mut old = old.clone();
    let terms = |affinity: &Value| affinity["required"]["nodeSelectorTerms"].as_array().cloned();
    for (index, term) in terms(new).unwrap_or_default().iter().enumerate() {
        for list in ["matchExpressions", "matchFields"] {
            for (at, requirement) in items(term, list).enumerate() {
                let place = format!("/required/nodeSelectorTerms/{index}/{list}/{at}");
                let Some(before) = old.pointer_mut(&place).filter(|before| before.is_object()) else {
                    continue;
                };
                if pod_warnings::newer(text(before, "key")) == Some(text(requirement, "key")) {
                    before["key"] = requirement["key"].clone();
                }
            }
        }
    }
    *new == old
}

/// Sources that went, in the order in which they are told of.
const FORMER_SOURCES: [&str; 6] =
    ["cephfs", "photonPersistentDisk", "scaleIO", "storageos", "glusterfs", "rbd"];

/// `persistentvolume.GetWarningsForPersistentVolume`.
fn warnings(volume: &Value) -> Vec<String> {
    let (spec, path, mut warnings) = (&volume["spec"], FieldPath::new("spec"), Vec::new());
    if volume["metadata"]["annotations"].get(core_claim::CLASS).is_some() {
        warnings.push(format!(
            "metadata.annotations[{}]: deprecated since v1.8; use \"storageClassName\" attribute instead",
            core_claim::CLASS
        ));
    }
    if spec["persistentVolumeReclaimPolicy"] == "Recycle" {
        warnings.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".to_owned());
    }
    let terms = path.child("nodeAffinity").child("required").child("nodeSelectorTerms");
    for (index, term) in items(&spec["nodeAffinity"]["required"], "nodeSelectorTerms").enumerate() {
        warnings.extend(pod_warnings::of_requirements(term, "matchExpressions", &terms.index(index)));
    }
    for name in FORMER_SOURCES.into_iter().filter(|name| spec[*name].is_object()) {
        // kube-apiserver spells one of them otherwise here.
        let place = if name == "storageos" { "storageOS" } else { name };
        let why = pod_warnings::former_source(name).unwrap_or_default();
        warnings.push(format!("{}: {why}", path.child(place).as_str()));
    }
    warnings
}

fn validate_volume(object: &Value, errors: &mut ErrorList) {
    let (spec, path) = (&object["spec"], FieldPath::new("spec"));
    access_modes(spec, &path, "", errors);
    if spec["capacity"].as_object().is_none_or(serde_json::Map::is_empty) {
        errors.push(FieldError::required(&path.child("capacity"), ""));
    }
    if spec["capacity"]["storage"].is_null() || spec["capacity"].as_object().is_some_and(|all| all.len() > 1)
    {
        let path = path.child("capacity");
        errors.push(FieldError::not_supported(&path, spec["capacity"].clone(), &["storage"]));
    }
    for (name, value) in spec["capacity"].as_object().into_iter().flatten() {
        let path = path.child("capacity").key(name);
        let Some(found) = quantities::parse(value) else { continue };
        if found.is_negative() {
            errors.push(FieldError::invalid(&path, found.units(), "must be a valid resource quantity"));
        }
        if found.is_negative() || found.is_zero() {
            let message = "must be greater than zero";
            errors.push(FieldError::invalid(&path, quantities::shown(value), message));
        }
    }
    let policies = ["Delete", "Recycle", "Retain"];
    let policy = text(spec, "persistentVolumeReclaimPolicy");
    one_of(policy, &path.child("persistentVolumeReclaimPolicy"), &policies, errors);
    if spec["nodeAffinity"].is_object() {
        let (selector, path) =
            (&spec["nodeAffinity"]["required"], path.child("nodeAffinity").child("required"));
        if selector.is_object() {
            pod_spec::node_selector(selector, &path, errors);
        } else {
            errors.push(FieldError::required(&path, "must specify required node constraints"));
        }
    }
    sources(object, &path, errors);
    let at = text(&spec["hostPath"], "path");
    if policy == "Recycle" && at.starts_with('/') && at.split('/').all(|part| matches!(part, "" | ".")) {
        let path = path.child("persistentVolumeReclaimPolicy");
        errors.push(FieldError::forbidden(&path, "may not be 'recycle' for a hostPath mount of '/'"));
    }
    let class = text(spec, "storageClassName");
    if !class.is_empty() {
        subdomain(class, &path.child("storageClassName"), errors);
    }
    one_of(text(spec, "volumeMode"), &path.child("volumeMode"), &["Block", "Filesystem"], errors);
    if let Some(class) = spec["volumeAttributesClassName"].as_str() {
        let place = path.child("volumeAttributesClassName");
        if class.is_empty() {
            errors.push(FieldError::required(&place, "an empty string is disallowed"));
        } else {
            subdomain(class, &place, errors);
        }
        if !spec["csi"].is_object() {
            let message = "has to be specified when using volumeAttributesClassName";
            errors.push(FieldError::required(&path.child("csi"), message));
        }
    }
    if spec["local"].is_object() && !spec["nodeAffinity"].is_object() {
        errors.push(FieldError::required(&path.child("nodeAffinity"), "Local volume requires node affinity"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn told(spec: Value, expect: &[&str]) {
        let mut errors = ErrorList::new();
        let mut object = json!({"spec": spec});
        for (name, value) in [("persistentVolumeReclaimPolicy", "Retain"), ("volumeMode", "Filesystem")] {
            set_text(&mut object["spec"], name, value);
        }
        validate_volume(&object, &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn a_volume_tells_since_when_it_is_in_its_phase() {
        let stamped = |mut new: Value, old: Value| {
            stamp_phase(&mut new, &old, "2026-01-01T00:00:00Z");
            new["lastPhaseTransitionTime"].clone()
        };
        let since = |phase: &str, time: &str| json!({"phase": phase, "lastPhaseTransitionTime": time});
        assert_eq!(stamped(json!({"phase": "Bound"}), json!({"phase": "Pending"})), "2026-01-01T00:00:00Z");
        assert_eq!(stamped(since("Bound", "a"), since("Pending", "a")), "2026-01-01T00:00:00Z");
        assert_eq!(stamped(since("Bound", "b"), since("Pending", "a")), "b");
        assert_eq!(stamped(json!({"phase": "Bound"}), since("Bound", "a")), "a");
        assert_eq!(stamped(json!({"phase": "Bound"}), json!({"phase": "Bound"})), Value::Null);
    }

    #[test]
    fn a_volume_stays_where_it_is() {
        let told = |new: Value, old: Value| {
            let mut errors = ErrorList::new();
            validate_volume_update(&json!({"spec": new}), &json!({"spec": old}), &mut errors);
            errors.iter().map(|error| error.field.clone()).collect::<Vec<_>>()
        };
        let nodes = |key: &str| {
            let terms = json!([{"matchExpressions": [{"key": key, "operator": "In", "values": ["a"]}]}]);
            json!({"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}})
        };
        let (beta, now) = ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone");
        assert_eq!(told(nodes(now), json!({})), [""; 0]);
        assert_eq!(told(nodes(now), nodes(beta)), [""; 0]);
        assert_eq!(told(nodes(beta), nodes(now)), ["nodeAffinity"]);
        assert_eq!(told(json!({}), nodes(now)), ["nodeAffinity"]);
        let csi = |secret: Value| json!({"csi": {"driver": "d", "controllerExpandSecretRef": secret}});
        let (one, other) = (json!({"name": "a"}), json!({"name": "b"}));
        assert_eq!(told(csi(one.clone()), json!({"csi": {"driver": "d"}})), [""; 0]);
        assert_eq!(told(csi(other), csi(one)), ["spec.persistentvolumesource"]);
        assert_eq!(
            told(json!({}), json!({"volumeAttributesClassName": "a"})),
            ["spec.volumeAttributesClassName"]
        );
    }

    #[test]
    fn what_went_is_warned_of() {
        let volume = json!({"metadata": {"annotations": {core_claim::CLASS: "a"}}, "spec": {
            "persistentVolumeReclaimPolicy": "Recycle", "rbd": {},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "failure-domain.beta.kubernetes.io/zone"}]},
            ]}},
        }});
        assert_eq!(
            warnings(&volume),
            [
                r#"metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use "storageClassName" attribute instead"#,
                "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.",
                r#"spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].key: failure-domain.beta.kubernetes.io/zone is deprecated since v1.17; use "topology.kubernetes.io/zone" instead"#,
                "spec.rbd: deprecated in v1.28, non-functional in v1.31+",
            ]
        );
    }

    #[test]
    fn secrets_of_a_driver_have_a_name_and_a_namespace() {
        let (modes, size) = (json!(["ReadWriteOnce"]), json!({"storage": "1Gi"}));
        told(
            json!({"accessModes": modes, "capacity": size, "csi": {
                "driver": "d", "volumeHandle": "h", "nodePublishSecretRef": {}, "nodeStageSecretRef": {},
            }}),
            &[
                "spec.csi.nodePublishSecretRef.name: Required value",
                "spec.csi.nodePublishSecretRef.namespace: Required value",
            ],
        );
    }

    #[test]
    fn a_volume_is_in_one_place_and_not_the_whole_host() {
        let (modes, size) = (json!(["ReadWriteOnce"]), json!({"storage": "1Gi"}));
        told(json!({"accessModes": modes, "capacity": size, "hostPath": {"path": "/x"}}), &[]);
        told(
            json!({"accessModes": modes, "capacity": size, "hostPath": {"path": "/x"}, "nfs": {"path": "y"}}),
            &["spec.nfs: Forbidden: may not specify more than 1 volume type"],
        );
        told(
            json!({"accessModes": modes, "capacity": size, "hostPath": {"path": "/"}, "nodeAffinity": {},
                "persistentVolumeReclaimPolicy": "Recycle"}),
            &[
                "spec.nodeAffinity.required: Required value: must specify required node constraints",
                "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'",
            ],
        );
        let nodes = |terms: Value| json!({"accessModes": modes, "capacity": size, "hostPath": {"path": "/x"}, "nodeAffinity": {"required": {"nodeSelectorTerms": terms}}});
        told(
            nodes(json!([])),
            &[
                "spec.nodeAffinity.required.nodeSelectorTerms: Required value: must have at least one node selector term",
            ],
        );
        told(
            nodes(json!([{"matchExpressions": [{"key": "a", "operator": "Bad"}]}])),
            &[
                r#"spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].operator: Invalid value: "Bad": not a valid selector operator"#,
            ],
        );
        told(
            json!({"accessModes": modes, "capacity": {"storage": "-1"}, "hostPath": {"path": "/x"}}),
            &[
                "spec.capacity[storage]: Invalid value: -1: must be a valid resource quantity",
                r#"spec.capacity[storage]: Invalid value: "-1": must be greater than zero"#,
            ],
        );
    }
}
