//! core/v1 PersistentVolumeClaim.

use apimachinery::{FieldError, FieldPath, names};
use serde_json::{Value, json};

use super::core_volume::{ATTRIBUTES_CLASS, PHASE, VOLUME_MODE, access_modes, amount, class, modes};
use crate::{
    registry::{Column, ErrorList, Kind, field},
    validation::{
        IMMUTABLE, immutable, label, null_if_absent, one_of, quantities, required, set, subdomain, text,
    },
};

/// The annotation that names the class before there was a field for it.
pub(super) const CLASS: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) const KINDS: &[&Kind] = &[&Kind {
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
    validate: |object, errors| {
        validate_claim(&object["spec"], &"spec".into(), errors);
        validate_status(&object["status"], &"status".into(), errors);
    },
    validate_update: validate_claim_update,
    warn: |claim, _| claim_warnings(claim),
    ..Kind::BUILT_IN
}];

/// `persistentvolumeclaim.GetWarningsForPersistentVolumeClaim`.
fn claim_warnings(claim: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    if claim["metadata"]["annotations"].get(CLASS).is_some() {
        warnings.push(format!(
            "metadata.annotations[{CLASS}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
        ));
    }
    warnings.extend(fractions(&claim["spec"], "spec"));
    warnings
}

/// What is warned of where a claim asks for parts of bytes.
pub(super) fn fractions(spec: &Value, place: &str) -> Vec<String> {
    let warning = |part: &&str| {
        let amount = quantities::parse(&spec["resources"][*part]["storage"])?;
        (amount.millis() % 1000 != 0).then(|| {
            format!(
                "{place}.resources.{part}[storage]: fractional byte value \"{amount}\" is invalid, must be an integer"
            )
        })
    };
    ["requests", "limits"].iter().filter_map(warning).collect()
}

/// Only a bound claim tells size and modes.
fn bound(object: &Value, tell: fn(&Value) -> Value) -> Value {
    if text(&object["spec"], "volumeName").is_empty() { "".into() } else { tell(object) }
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

/// Drops a source in whose place another volume may be made, unless it was there before, and lets the two names of the source stand for each other
/// inside one namespace: `EnforceDataSourceBackwardsCompatibility` and `NormalizeDataSources`. Sources in other namespaces, which are behind a gate
/// that is off in Kubernetes 1.36, are kept: members may have it on.
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

/// The spec of a claim, and of a template of claims.
pub(super) fn validate_claim(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    access_modes(spec, path, "at least 1 access mode is required", errors);
    if let Some(selector) = spec.get("selector") {
        errors.extend(apimachinery::labels::validate_label_selector(selector, &path.child("selector")));
    }
    let storage = path.child("resources").key("storage");
    match &spec["resources"]["requests"]["storage"] {
        Value::Null => errors.push(FieldError::required(&storage, "")),
        value => {
            if let Some(found) = quantities::parse(value)
                && (found.is_zero() || found.is_negative())
            {
                errors.push(FieldError::invalid(&storage, value.clone(), "must be greater than zero"));
            }
        }
    }
    if let Some(class) = spec["storageClassName"].as_str().filter(|class| !class.is_empty()) {
        subdomain(class, &path.child("storageClassName"), errors);
    }
    if !spec["volumeMode"].is_null() {
        one_of(text(spec, "volumeMode"), &path.child("volumeMode"), &["Block", "Filesystem"], errors);
    }
    validate_data_sources(spec, path, errors);
    if let Some(class) = spec["volumeAttributesClassName"].as_str().filter(|class| !class.is_empty()) {
        subdomain(class, &path.child("volumeAttributesClassName"), errors);
    }
}

/// Words for how far a claim is on its way to another size.
const RESIZES: [&str; 5] = [
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

/// `validation.ValidatePersistentVolumeClaimStatusUpdate`.
fn validate_status(status: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let members = |name: &str| status[name].as_object().into_iter().flatten();
    let amount = |value: &Value, path: &FieldPath, errors: &mut ErrorList| {
        if let Some(found) = quantities::parse(value).filter(|found| found.is_negative()) {
            errors.push(FieldError::invalid(path, found.units(), "must be a valid resource quantity"));
        }
    };
    for (name, value) in members("capacity") {
        amount(value, &path.child("capacity").key(name), errors);
    }
    let place = path.child("allocatedResourceStatuses");
    for (name, word) in members("allocatedResourceStatuses") {
        resized(name, &place, errors);
        if word.as_str().is_none_or(|word| !RESIZES.contains(&word)) {
            errors.push(FieldError::not_supported(&place, name.as_str(), &RESIZES));
        }
    }
    let place = path.child("allocatedResources");
    for (name, value) in members("allocatedResources") {
        let before = errors.len();
        resized(name, &place, errors);
        if errors.len() == before {
            amount(value, &place.key(name), errors);
        }
    }
}

/// What a claim can have another size of: `validation.validatePersistentVolumeClaimResourceKey`.
fn resized(name: &str, path: &FieldPath, errors: &mut ErrorList) {
    let found = names::qualified_name(name);
    errors.extend(found.iter().map(|error| FieldError::invalid(path, name, error)));
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    if found.is_empty() && native && name != "storage" {
        errors.push(FieldError::not_supported(path, name, &["storage"]));
    }
}

/// What a volume is filled from: `validation.validateDataSource` and `validateDataSourceRef`.
fn validate_data_sources(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    for name in ["dataSource", "dataSourceRef"] {
        let (source, path) = (&spec[name], path.child(name));
        if !source.is_object() {
            continue;
        }
        required(source, &path, "name", errors);
        let kind = required(source, &path, "kind", errors).unwrap_or_default();
        let group = text(source, "apiGroup");
        if !group.is_empty() {
            subdomain(group, &path.child("apiGroup"), errors);
        } else if kind != "PersistentVolumeClaim" {
            let message = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.push(FieldError::invalid(&path, kind, message));
        }
        let namespace = text(source, "namespace");
        if name == "dataSourceRef" && !namespace.is_empty() {
            label(namespace, &path.child("namespace"), errors);
        }
    }
    let (old, new) = (&spec["dataSource"], &spec["dataSourceRef"]);
    if !old.is_object() || !new.is_object() {
        return;
    }
    // Go tells a path here, which has nothing to show.
    if !text(new, "namespace").is_empty() {
        let message = "may not be specified when dataSourceRef.namespace is specified";
        errors.push(FieldError::invalid(path, json!({}), message));
    } else if ["apiGroup", "kind", "name"].iter().any(|field| text(old, field) != text(new, field)) {
        errors.push(FieldError::invalid(path, json!({}), "must match dataSourceRef"));
    }
}

/// Whether a claim that named no class gets one now: the default one, or the one that its annotation named.
fn gets_class(new: &Value, old: &Value) -> bool {
    let class = &new["spec"]["storageClassName"];
    let annotated = &old["metadata"]["annotations"][CLASS];
    old["spec"]["storageClassName"].is_null()
        && class.is_string()
        && (annotated.is_null() || annotated == class)
}

/// Whether the class goes from the annotation to the field: `validateStorageClassUpgradeFromAnnotation`.
fn moves_class(new: &Value, old: &Value) -> bool {
    let [before, after] = [old, new].map(|object| &object["metadata"]["annotations"][CLASS]);
    gets_class(new, old) && before.is_string() && (after.is_null() || after == before)
}

/// A claim's spec stands once it is made, but for a volume to bind it to, the class that it was made without, and another size for a bound
/// one.
fn validate_claim_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    let path = FieldPath::new("spec");
    if !moves_class(new, old) {
        let [before, after] = [old, new].map(|object| text(&object["metadata"]["annotations"], CLASS));
        if before != after {
            let path = FieldPath::new("metadata.annotations").child(CLASS);
            errors.push(FieldError::invalid(&path, after, IMMUTABLE));
        }
    }
    // A claim that was stored by one name of its source only has both as well.
    let mut before = old["spec"].clone();
    settle_sources(&mut before, Some(&old["spec"]));
    let mut kept = new["spec"].clone();
    let mut forgive = |name: &str| match before.get(name) {
        Some(value) => kept[name] = value.clone(),
        None => _ = kept.as_object_mut().and_then(|spec| spec.remove(name)),
    };
    if text(&old["spec"], "volumeName").is_empty() {
        forgive("volumeName");
    }
    if gets_class(new, old) {
        forgive("storageClassName");
    }
    if new["status"]["phase"] == "Bound" {
        forgive("volumeAttributesClassName");
        let storage = &old["spec"]["resources"]["requests"]["storage"];
        let requests = kept.pointer_mut("/resources/requests").and_then(Value::as_object_mut);
        if let Some(requests) = requests.filter(|_| !storage.is_null()) {
            requests.insert("storage".into(), storage.clone());
        }
    }
    if kept != before {
        let message = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        errors.push(FieldError::forbidden(&path, message));
    }
    let size = |amounts: &Value| quantities::parse(&amounts["storage"]);
    let request = |object: &Value| size(&object["spec"]["resources"]["requests"]);
    if request(new) < request(old)
        && request(new) <= Some(size(&old["status"]["capacity"]).unwrap_or_default())
    {
        let path = path.child("resources").child("requests").child("storage");
        errors.push(FieldError::forbidden(&path, "field can not be less than status.capacity"));
    }
    // Without `spec`, as kube-apiserver names the place.
    let mode = FieldPath::new("volumeMode");
    immutable(&new["spec"]["volumeMode"], &old["spec"]["volumeMode"], &mode, errors);
    let class = &new["spec"]["volumeAttributesClassName"];
    if *class != old["spec"]["volumeAttributesClassName"]
        && !old["status"]["currentVolumeAttributesClassName"].is_null()
        && is_blank(class)
    {
        let none = if class.is_null() { "nil" } else { "empty string" };
        let message =
            format!("update to {none} is forbidden when status.currentVolumeAttributesClassName is not nil");
        errors.push(FieldError::forbidden(&path.child("volumeAttributesClassName"), &message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(settled(far.clone()), far, "members may have the gate on");
    }

    #[test]
    fn a_claim_that_was_stored_with_one_name_of_its_source_can_be_changed() {
        let snapshot = json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s"});
        for name in ["dataSource", "dataSourceRef"] {
            let old = claim(json!({name: snapshot}), json!({}));
            let mut new = old.clone();
            settle_sources(&mut new["spec"], Some(&old["spec"]));
            changed(&new, &old, &[]);
            new["spec"][name]["name"] = "other".into();
            changed(
                &new,
                &old,
                &[
                    "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
                ],
            );
        }
    }

    fn claim(spec: Value, status: Value) -> Value {
        let mut object = json!({"metadata": {}, "spec": {"volumeName": "v", "volumeMode": "Filesystem"}, "status": status});
        for (name, value) in spec.as_object().into_iter().flatten() {
            object["spec"][name] = value.clone();
        }
        object
    }

    #[track_caller]
    fn changed(new: &Value, old: &Value, expect: &[&str]) {
        let mut errors = ErrorList::new();
        validate_claim_update(new, old, &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn a_claim_shrinks_down_to_what_it_has() {
        let sized = |size: &str, phase: &str| {
            let status = json!({"phase": phase, "capacity": {"storage": "10Gi"}});
            claim(json!({"resources": {"requests": {"storage": size}}}), status)
        };
        let old = sized("20Gi", "Bound");
        changed(&sized("30Gi", "Bound"), &old, &[]);
        changed(&sized("15Gi", "Bound"), &old, &[]);
        let less = "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity";
        changed(&sized("10Gi", "Bound"), &old, &[less]);
        changed(&sized("1Gi", "Bound"), &old, &[less]);
        let stands = "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        changed(&sized("30Gi", "Pending"), &sized("20Gi", "Pending"), &[stands]);
    }

    #[test]
    fn a_claim_without_a_class_gets_one_once() {
        let classed = |class: Value, annotation: Option<&str>| {
            let mut object = claim(json!({"storageClassName": class}), json!({"phase": "Pending"}));
            if let Some(class) = annotation {
                object["metadata"]["annotations"] = json!({CLASS: class});
            }
            object
        };
        let mut none = claim(json!({}), json!({"phase": "Pending"}));
        changed(&classed(json!("fast"), None), &none, &[]);
        let stands = "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        changed(&classed(json!("fast"), None), &classed(json!("slow"), None), &[stands]);
        changed(&none, &classed(json!("slow"), None), &[stands]);
        none["metadata"]["annotations"] = json!({CLASS: "slow"});
        changed(&classed(json!("slow"), None), &none, &[]);
        changed(&classed(json!("slow"), Some("slow")), &none, &[]);
        let annotation = r#"metadata.annotations.volume.beta.kubernetes.io/storage-class: Invalid value: "": field is immutable"#;
        changed(&classed(json!("fast"), None), &none, &[annotation, stands]);
    }

    #[test]
    fn a_class_of_attributes_that_was_applied_does_not_go() {
        let status = json!({"phase": "Bound", "currentVolumeAttributesClassName": "gold"});
        let classed = |class: Value| claim(json!({"volumeAttributesClassName": class}), status.clone());
        let old = classed(json!("gold"));
        changed(&classed(json!("silver")), &old, &[]);
        changed(
            &classed(json!("")),
            &old,
            &[
                "spec.volumeAttributesClassName: Forbidden: update to empty string is forbidden when status.currentVolumeAttributesClassName is not nil",
            ],
        );
        changed(
            &claim(json!({}), status.clone()),
            &old,
            &[
                "spec.volumeAttributesClassName: Forbidden: update to nil is forbidden when status.currentVolumeAttributesClassName is not nil",
            ],
        );
    }

    #[test]
    fn a_claim_tells_sizes_only() {
        let status = json!({
            "capacity": {"storage": "-1"},
            "allocatedResources": {"cpu": "1", "storage": "1Gi"},
            "allocatedResourceStatuses": {"storage": "Odd"},
        });
        let mut errors = ErrorList::new();
        validate_status(&status, &FieldPath::new("status"), &mut errors);
        assert_eq!(
            errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "status.capacity[storage]: Invalid value: -1: must be a valid resource quantity",
                r#"status.allocatedResourceStatuses: Unsupported value: "storage": supported values: "ControllerResizeInProgress", "ControllerResizeInfeasible", "NodeResizeInProgress", "NodeResizeInfeasible", "NodeResizePending""#,
                r#"status.allocatedResources: Unsupported value: "cpu": supported values: "storage""#,
            ]
        );
    }
}
