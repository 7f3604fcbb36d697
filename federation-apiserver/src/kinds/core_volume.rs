//! core/v1 PersistentVolume and PersistentVolumeClaim.

use apimachinery::{FieldError, FieldPath, meta::Scope};
use serde_json::{Value, json};

use crate::{
    registry::{Column, Faults, Kind, field},
    validation::{
        deleting, immutable, items, label, null_if_absent, one_of, pod, pod_spec, quantities, required, set,
        set_text, subdomain, text, volume,
    },
};

const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

const VOLUME_MODE: Column =
    Column::text("VolumeMode", "Filesystem or Block.", |object, _| unset(field(object, "/spec/volumeMode")))
        .wide();

pub(super) const KINDS: &[&Kind] = &[
    &Kind {
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
            Column::text("Reason", "Why it failed, in one word.", |object, _| {
                field(object, "/status/reason")
            }),
            Column::AGE,
            VOLUME_MODE,
        ],
        default: |object| {
            set_text(&mut object["spec"], "persistentVolumeReclaimPolicy", "Retain");
            set(&mut object["spec"], "volumeMode", "Filesystem");
            pod::default_sources(&mut object["spec"]);
        },
        prepare_create: |object| object["status"] = json!({"phase": "Pending"}),
        validate: validate_volume,
        validate_update: |new, old, faults| {
            let path = FieldPath::new("spec");
            let sources =
                |object: &Value| source(object).map(|(name, source)| (name.clone(), source.clone()));
            if sources(new) != sources(old) {
                let message = "spec.persistentvolumesource is immutable after creation";
                faults.push(FieldError::forbidden(&path.child("persistentvolumesource"), message));
            }
            immutable(
                &new["spec"]["volumeMode"],
                &old["spec"]["volumeMode"],
                // Without `spec`, as kube-apiserver names the place.
                &"volumeMode".into(),
                faults,
            );
        },
        ..Kind::BUILT_IN
    },
    &Kind {
        kind: "PersistentVolumeClaim",
        plural: "persistentvolumeclaims",
        returns_deleted: true,
        singular: "persistentvolumeclaim",
        short_names: &["pvc"],
        status: true,
        columns: &[
            Column::NAME,
            PHASE,
            Column::text("Volume", "The volume that it is bound to.", |object, _| {
                field(object, "/spec/volumeName")
            }),
            Column::text("Capacity", "The size of that volume.", |object, _| {
                bound(object, |object| amount(&object["status"]["capacity"]))
            }),
            Column::text("Access Modes", "The ways in which that volume can be mounted.", |object, _| {
                bound(object, |object| modes(&object["status"]["accessModes"]))
            }),
            Column::text("StorageClass", "StorageClass of the pvc", |object, _| class(object)),
            ATTRIBUTES_CLASS,
            Column::AGE,
            VOLUME_MODE,
        ],
        default: default_claim,
        prepare_create: |object| {
            object["status"] = json!({"phase": "Pending"});
            settle_sources(&mut object["spec"], None);
        },
        prepare_update: |new, old| settle_sources(&mut new["spec"], Some(&old["spec"])),
        validate: |object, faults| validate_claim(&object["spec"], &"spec".into(), faults),
        validate_update: validate_claim_update,
        warn: |claim, _| claim_warnings(claim),
        ..Kind::BUILT_IN
    },
];

const PHASE: Column = Column::text("Status", "Its phase.", |object, _| {
    if deleting(object) { "Terminating".into() } else { field(object, "/status/phase") }
});
const ATTRIBUTES_CLASS: Column = Column::text("VolumeAttributesClass", "Its tunable class.", |object, _| {
    unset(field(object, "/spec/volumeAttributesClassName"))
});

/// `persistentvolumeclaim.GetWarningsForPersistentVolumeClaim`.
fn claim_warnings(claim: &Value) -> Vec<String> {
    const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
    let mut warnings = Vec::new();
    if claim["metadata"]["annotations"].get(CLASS).is_some() {
        warnings.push(format!(
            "metadata.annotations[{CLASS}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
        ));
    }
    let amount = quantities::parse(&claim["spec"]["resources"]["requests"]["storage"]);
    if let Some(amount) = amount.filter(|amount| amount.millis() % 1000 != 0) {
        warnings.push(format!(
            "spec.resources.requests[storage]: fractional byte value \"{amount}\" is invalid, must be an integer"
        ));
    }
    warnings
}

fn unset(value: Value) -> Value {
    if value == "" { "<unset>".into() } else { value }
}

fn amount(amounts: &Value) -> Value {
    match &amounts["storage"] {
        Value::Null => "".into(),
        storage => quantities::shown(storage).into(),
    }
}

/// Only a bound claim tells size and modes.
fn bound(object: &Value, tell: fn(&Value) -> Value) -> Value {
    if text(&object["spec"], "volumeName").is_empty() { "".into() } else { tell(object) }
}

/// `GetAccessModesAsString`: RWO,ROX,RWX,RWOP.
fn modes(modes: &Value) -> Value {
    let has = |mode: &str| modes.as_array().into_iter().flatten().any(|found| found == mode);
    let short = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    short.iter().filter(|(mode, _)| has(mode)).map(|(_, short)| *short).collect::<Vec<_>>().join(",").into()
}

fn class(object: &Value) -> Value {
    match text(&object["metadata"]["annotations"], "volume.beta.kubernetes.io/storage-class") {
        "" => field(object, "/spec/storageClassName"),
        class => class.into(),
    }
}

pub(super) fn default_claim(object: &mut Value) {
    let spec = &mut object["spec"];
    set(spec, "volumeMode", "Filesystem");
    for name in ["dataSource", "dataSourceRef"] {
        if let Some(source) = spec.get_mut(name).filter(|source| source.is_object()) {
            null_if_absent(source, "apiGroup");
            set(source, "kind", "");
            set(source, "name", "");
        }
    }
}

fn is_blank(value: &Value) -> bool {
    value.as_str().unwrap_or_default().is_empty()
}

/// Drops a source in whose place another volume may be made, unless it was there before, and lets the two names of the source stand for each
/// other inside one namespace: `EnforceDataSourceBackwardsCompatibility` and `NormalizeDataSources`.
fn settle_sources(spec: &mut Value, old: Option<&Value>) {
    let usual = |source: &Value| match (text(source, "apiGroup"), text(source, "kind")) {
        ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot") => true,
        _ => !source.is_object(),
    };
    if !usual(&spec["dataSource"])
        && !spec["dataSourceRef"].is_object()
        && old.is_none_or(|old| !old["dataSource"].is_object() && !old["dataSourceRef"].is_object())
        && let Some(spec) = spec.as_object_mut()
    {
        spec.remove("dataSource");
    }
    for (source, other) in [("dataSource", "dataSourceRef"), ("dataSourceRef", "dataSource")] {
        let mut found = spec[source].clone();
        if let Some(fields) =
            found.as_object_mut().filter(|fields| fields.get("namespace").is_none_or(is_blank))
        {
            fields.remove("namespace");
            set(spec, other, found);
        }
    }
}

/// Modes that are known; `none` says what is told where there are none.
fn access_modes(spec: &Value, path: &FieldPath, none: &str, faults: &mut Faults) {
    let path = path.child("accessModes");
    let found: Vec<_> = items(spec, "accessModes").filter_map(Value::as_str).collect();
    if found.is_empty() {
        faults.push(FieldError::required(&path, none));
    }
    for mode in &found {
        one_of(mode, &path, &MODES, faults);
    }
    if found.len() > 1 && found.contains(&"ReadWriteOncePod") {
        let message = "may not use ReadWriteOncePod with other access modes";
        faults.push(FieldError::forbidden(&path, message));
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
fn sources(object: &Value, path: &FieldPath, faults: &mut Faults) {
    if source(object).is_none() {
        faults.push(FieldError::required(path, "must specify a volume type"));
    }
    for (index, (name, source)) in all_sources(object).enumerate() {
        let path = path.child(name);
        if index > 0 {
            faults.push(FieldError::forbidden(&path, volume::MORE_THAN_ONE));
            continue;
        }
        volume::validate_source(name, source, &path, faults);
        match name.as_str() {
            "local" => _ = required(source, &path, "path", faults),
            "csi" => attached(source, &path, faults),
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
fn attached(source: &Value, path: &FieldPath, faults: &mut Faults) {
    required(source, path, "volumeHandle", faults);
    for name in SECRETS.into_iter().filter(|name| source[*name].is_object()) {
        volume::secret_somewhere(&source[name], &path.child(name), faults);
    }
}

fn validate_volume(object: &Value, faults: &mut Faults) {
    let (spec, path) = (&object["spec"], FieldPath::new("spec"));
    access_modes(spec, &path, "", faults);
    if spec["capacity"].as_object().is_none_or(serde_json::Map::is_empty) {
        faults.push(FieldError::required(&path.child("capacity"), ""));
    }
    if spec["capacity"]["storage"].is_null() || spec["capacity"].as_object().is_some_and(|all| all.len() > 1)
    {
        let path = path.child("capacity");
        faults.push(FieldError::not_supported(&path, spec["capacity"].clone(), &["storage"]));
    }
    for (name, value) in spec["capacity"].as_object().into_iter().flatten() {
        let path = path.child("capacity").key(name);
        let Some(found) = quantities::parse(value) else { continue };
        if found.is_negative() {
            faults.push(FieldError::invalid(&path, found.units(), "must be a valid resource quantity"));
        }
        if found.is_negative() || found.is_zero() {
            let message = "must be greater than zero";
            faults.push(FieldError::invalid(&path, quantities::shown(value), message));
        }
    }
    let policies = ["Delete", "Recycle", "Retain"];
    let policy = text(spec, "persistentVolumeReclaimPolicy");
    one_of(policy, &path.child("persistentVolumeReclaimPolicy"), &policies, faults);
    if spec["nodeAffinity"].is_object() {
        let (selector, path) =
            (&spec["nodeAffinity"]["required"], path.child("nodeAffinity").child("required"));
        if selector.is_object() {
            pod_spec::node_selector(selector, &path, faults);
        } else {
            faults.push(FieldError::required(&path, "must specify required node constraints"));
        }
    }
    sources(object, &path, faults);
    let at = text(&spec["hostPath"], "path");
    if policy == "Recycle" && at.starts_with('/') && at.split('/').all(|part| matches!(part, "" | ".")) {
        let path = path.child("persistentVolumeReclaimPolicy");
        faults.push(FieldError::forbidden(&path, "may not be 'recycle' for a hostPath mount of '/'"));
    }
    let class = text(spec, "storageClassName");
    if !class.is_empty() {
        subdomain(class, &path.child("storageClassName"), faults);
    }
    one_of(text(spec, "volumeMode"), &path.child("volumeMode"), &["Block", "Filesystem"], faults);
    if spec["local"].is_object() && !spec["nodeAffinity"].is_object() {
        faults.push(FieldError::required(&path.child("nodeAffinity"), "Local volume requires node affinity"));
    }
}

/// The spec of a claim, and of a template of claims.
pub(super) fn validate_claim(spec: &Value, path: &FieldPath, faults: &mut Faults) {
    access_modes(spec, path, "at least 1 access mode is required", faults);
    if let Some(selector) = spec.get("selector") {
        faults.extend(apimachinery::labels::validate_label_selector(selector, &path.child("selector")));
    }
    let storage = path.child("resources").key("storage");
    match &spec["resources"]["requests"]["storage"] {
        Value::Null => faults.push(FieldError::required(&storage, "")),
        value => {
            if let Some(found) = quantities::parse(value)
                && (found.is_zero() || found.is_negative())
            {
                faults.push(FieldError::invalid(&storage, value.clone(), "must be greater than zero"));
            }
        }
    }
    if let Some(class) = spec["storageClassName"].as_str().filter(|class| !class.is_empty()) {
        subdomain(class, &path.child("storageClassName"), faults);
    }
    validate_data_sources(spec, path, faults);
    if !spec["volumeMode"].is_null() {
        one_of(text(spec, "volumeMode"), &path.child("volumeMode"), &["Block", "Filesystem"], faults);
    }
}

/// What a volume is filled from: `validation.validateDataSource` and `validateDataSourceRef`.
fn validate_data_sources(spec: &Value, path: &FieldPath, faults: &mut Faults) {
    for name in ["dataSource", "dataSourceRef"] {
        let (source, path) = (&spec[name], path.child(name));
        if !source.is_object() {
            continue;
        }
        required(source, &path, "name", faults);
        let kind = required(source, &path, "kind", faults).unwrap_or_default();
        let group = text(source, "apiGroup");
        if !group.is_empty() {
            subdomain(group, &path.child("apiGroup"), faults);
        } else if kind != "PersistentVolumeClaim" {
            let message = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            faults.push(FieldError::invalid(&path, kind, message));
        }
        let namespace = text(source, "namespace");
        if name == "dataSourceRef" && !namespace.is_empty() {
            label(namespace, &path.child("namespace"), faults);
        }
    }
    let (old, new) = (&spec["dataSource"], &spec["dataSourceRef"]);
    if !old.is_object() || !new.is_object() {
        return;
    }
    // Go tells a path here, which has nothing to show.
    if !text(new, "namespace").is_empty() {
        let message = "may not be specified when dataSourceRef.namespace is specified";
        faults.push(FieldError::invalid(path, json!({}), message));
    } else if ["apiGroup", "kind", "name"].iter().any(|field| text(old, field) != text(new, field)) {
        faults.push(FieldError::invalid(path, json!({}), "must match dataSourceRef"));
    }
}

/// A claim's spec stands once it is made, but for a volume to bind it to, and more room for a bound one.
fn validate_claim_update(new: &Value, old: &Value, faults: &mut Faults) {
    let path = FieldPath::new("spec");
    let bound = old["status"]["phase"] == "Bound";
    let kept = |object: &Value| {
        let mut spec = object["spec"].clone();
        if let Some(spec) = spec.as_object_mut() {
            spec.remove("volumeAttributesClassName");
            if text(&old["spec"], "volumeName").is_empty() {
                spec.remove("volumeName");
            }
            if bound {
                spec.remove("resources");
            }
        }
        spec
    };
    if kept(new) != kept(old) {
        let message = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        faults.push(FieldError::forbidden(&path, message));
    }
    let request = |object: &Value| quantities::parse(&object["spec"]["resources"]["requests"]["storage"]);
    if bound && request(new) < request(old) {
        let path = path.child("resources").child("requests").child("storage");
        faults.push(FieldError::forbidden(&path, "field can not be less than status.capacity"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn told(spec: Value, expect: &[&str]) {
        let mut faults = Faults::new();
        let mut object = json!({"spec": spec});
        for (name, value) in [("persistentVolumeReclaimPolicy", "Retain"), ("volumeMode", "Filesystem")] {
            set_text(&mut object["spec"], name, value);
        }
        validate_volume(&object, &mut faults);
        assert_eq!(faults.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn an_old_name_of_a_source_has_only_what_it_could_have() {
        let settled = |mut spec: Value| {
            settle_sources(&mut spec, None);
            spec
        };
        let snapshot = json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s"});
        let both = json!({"dataSource": snapshot, "dataSourceRef": snapshot});
        assert_eq!(settled(json!({"dataSource": snapshot})), both);
        assert_eq!(settled(json!({"dataSourceRef": snapshot})), both);
        assert_eq!(settled(json!({"dataSource": {"apiGroup": null, "kind": "", "name": ""}})), json!({}));
        let far = json!({"dataSourceRef": {"apiGroup": null, "kind": "PersistentVolumeClaim", "name": "c", "namespace": "n"}});
        assert_eq!(settled(far.clone()), far);
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
