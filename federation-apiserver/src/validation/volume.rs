//! The rules of volumes.

use std::collections::HashSet;

use apimachinery::{FieldError, FieldPath, quantity::Quantity};
use serde_json::Value;

use super::{driver, env, items, label, one_of, quantities, required, subdomain, text};
use crate::registry::ErrorList;

/// Finds the errors of a spec's volumes, and returns their names.
pub(super) fn validate_all<'a>(
    spec: &'a Value,
    path: &FieldPath,
    errors: &mut ErrorList,
) -> HashSet<&'a str> {
    let mut seen = HashSet::new();
    for (index, volume) in items(spec, "volumes").enumerate() {
        if errors.is_full() {
            break;
        }
        let path = path.child("volumes").index(index);
        if let Some(name) = required(volume, &path, "name", errors) {
            label(name, &path.child("name"), errors);
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            }
        }
        validate(volume, &path, errors);
    }
    seen
}

fn validate(volume: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let sources = volume.as_object().into_iter().flatten();
    let mut given = 0;
    for (name, source) in sources.filter(|(name, source)| *name != "name" && source.is_object()) {
        given += 1;
        if given > 1 {
            errors.push(FieldError::forbidden(&path.child(name), MORE_THAN_ONE));
            continue;
        }
        // kube-apiserver calls it so.
        let path = path.child(if name == "gcePersistentDisk" { "persistentDisk" } else { name });
        validate_source(name, source, &path, errors);
        if name == "csi" && source["nodePublishSecretRef"].is_object() {
            secret(&source["nodePublishSecretRef"], &path.child("nodePublishSecretRef"), errors);
        }
        // Files of the downward API have no keys.
        if name != "downwardAPI" {
            keys(source, &path, errors);
        }
    }
}

/// What is told of a second source, of a volume and of a PersistentVolume.
pub(crate) const MORE_THAN_ONE: &str = "may not specify more than 1 volume type";

/// The rules of one kind of source, whose name is the field's.
pub(crate) fn validate_source(name: &str, source: &Value, path: &FieldPath, errors: &mut ErrorList) {
    for (field, detail) in needed(name) {
        if is_empty(&source[*field]) {
            errors.push(FieldError::required(&path.child(field), detail));
        }
    }
    match name {
        "hostPath" => host_path(source, path, errors),
        "nfs" if !text(source, "path").is_empty() && !text(source, "path").starts_with('/') => {
            let message = "must be an absolute path";
            errors.push(FieldError::invalid(&path.child("path"), text(source, "path"), message));
        }
        "emptyDir" if quantities::parse(&source["sizeLimit"]).is_some_and(Quantity::is_negative) => {
            let message = "SizeLimit field must be a valid resource quantity";
            errors.push(FieldError::forbidden(&path.child("sizeLimit"), message));
        }
        "azureDisk" => azure_disk(source, path, errors),
        "csi" => driver(text(source, "driver"), &path.child("driver"), errors),
        "downwardAPI" => {
            items(source, "items").for_each(|file| downward_file(file, path, errors));
        }
        "projected" => projected(source, path, errors),
        "gitRepo" if text(source, "directory").split('/').any(|part| part == "..") => {
            let directory = text(source, "directory");
            errors.push(FieldError::invalid(&path.child("directory"), directory, NO_BACKSTEPS));
        }
        "image" => {
            let known = ["Always", "IfNotPresent", "Never"];
            one_of(text(source, "pullPolicy"), &path.child("pullPolicy"), &known, errors);
        }
        "iscsi" => iscsi(source, path, errors),
        "fc" if is_empty(&source["targetWWNs"]) && is_empty(&source["wwids"]) => {
            let message = "must specify either targetWWNs or wwids, but not both";
            errors.push(FieldError::required(&path.child("targetWWNs"), message));
        }
        "flocker" if is_empty(&source["datasetName"]) && is_empty(&source["datasetUUID"]) => {
            let message = "one of datasetName and datasetUUID is required";
            errors.push(FieldError::required(path, message));
        }
        "gcePersistentDisk" | "awsElasticBlockStore" => {
            let partition = source["partition"].as_i64().unwrap_or_default();
            if !(0..=255).contains(&partition) {
                let message = "must be between 1 and 255, inclusive";
                errors.push(FieldError::invalid(&path.child("partition"), partition, message));
            }
        }
        "ephemeral" if !source["volumeClaimTemplate"].is_object() => {
            errors.push(FieldError::required(&path.child("volumeClaimTemplate"), ""));
        }
        _ => {}
    }
    mode(source, "defaultMode", path, errors);
}

/// A Secret that is referred to by its name.
fn secret(reference: &Value, path: &FieldPath, errors: &mut ErrorList) {
    if let Some(name) = required(reference, path, "name", errors) {
        subdomain(name, &path.child("name"), errors);
    }
}

/// A Secret of some namespace: `validation.validatePVSecretReference`.
pub(crate) fn secret_somewhere(reference: &Value, path: &FieldPath, errors: &mut ErrorList) {
    secret(reference, path, errors);
    if let Some(namespace) = required(reference, path, "namespace", errors) {
        label(namespace, &path.child("namespace"), errors);
    }
}

/// `validation.validateAzureDisk`. Who names no mode and no kind gets the usual ones, but an empty one is none.
fn azure_disk(source: &Value, path: &FieldPath, errors: &mut ErrorList) {
    if let Some(mode) = source["cachingMode"].as_str() {
        one_of(mode, &path.child("cachingMode"), &["None", "ReadOnly", "ReadWrite"], errors);
    }
    let Some(kind) = source["kind"].as_str() else { return };
    one_of(kind, &path.child("kind"), &["Dedicated", "Managed", "Shared"], errors);
    let (start, form) = if kind == "Managed" {
        const MANAGED: &str =
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
        ("/subscriptions/", MANAGED)
    } else {
        ("https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd")
    };
    let at = text(source, "diskURI");
    if !at.starts_with(start) {
        errors.push(FieldError::not_supported(&path.child("diskURI"), at, &[form]));
    }
}

/// What may be asked to stand at a path of the host.
const HOST_TYPES: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// `validation.validateHostPathVolumeSource`.
fn host_path(source: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let Some(at) = required(source, path, "path", errors) else { return };
    if at.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(&path.child("path"), at, NO_BACKSTEPS));
    }
    one_of(text(source, "type"), &path.child("type"), &HOST_TYPES, errors);
}

pub(super) const NO_BACKSTEPS: &str = "must not contain '..'";

/// Fields without which a source leads nowhere, and what is told of them.
fn needed(source: &str) -> &'static [(&'static str, &'static str)] {
    match source {
        "awsElasticBlockStore" | "cinder" | "portworxVolume" => &[("volumeID", "")],
        "azureDisk" => &[("diskName", ""), ("diskURI", "")],
        "azureFile" => &[("secretName", ""), ("shareName", "")],
        "cephfs" => &[("monitors", "")],
        "configMap" => &[("name", "")],
        "flexVolume" => &[("driver", "")],
        "gcePersistentDisk" => &[("pdName", "")],
        "gitRepo" => &[("repository", "")],
        "glusterfs" => &[("endpoints", ""), ("path", "")],
        "iscsi" => &[("targetPortal", ""), ("iqn", "")],
        "nfs" => &[("server", ""), ("path", "")],
        "persistentVolumeClaim" => &[("claimName", "")],
        "photonPersistentDisk" => &[("pdID", "")],
        "quobyte" => {
            &[("registry", "must be a host:port pair or multiple pairs separated by commas"), ("volume", "")]
        }
        "rbd" => &[("monitors", ""), ("image", "")],
        "scaleIO" => &[("gateway", ""), ("system", ""), ("volumeName", "")],
        "secret" => &[("secretName", "")],
        "storageos" => &[("volumeName", "")],
        "vsphereVolume" => &[("volumePath", "")],
        _ => &[],
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn iscsi(source: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let name = text(source, "iqn");
    if !name.is_empty() && !["iqn", "eui", "naa"].iter().any(|start| name.starts_with(start)) {
        let message = "must be valid format starting with iqn, eui, or naa";
        errors.push(FieldError::invalid(&path.child("iqn"), name, message));
    }
    let lun = source["lun"].as_i64().unwrap_or_default();
    if !(0..=255).contains(&lun) {
        errors.push(FieldError::invalid(&path.child("lun"), lun, "must be between 0 and 255, inclusive"));
    }
}

/// Fields of a pod that its files can tell.
const TOLD: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

/// A file of the downward API. kube-apiserver does not tell which one is wrong.
fn downward_file(file: &Value, path: &FieldPath, errors: &mut ErrorList) {
    if let Some(name) = required(file, path, "path", errors) {
        local_path(name, &path.child("path"), errors);
    }
    let (field, amount) = (&file["fieldRef"], &file["resourceFieldRef"]);
    match (field.is_object(), amount.is_object()) {
        (true, both) => {
            env::field_reference(field, &path.child("fieldRef"), &TOLD, errors);
            if both {
                let message = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(FieldError::invalid(path, "resource", message));
            }
        }
        (false, true) => {
            let place = path.child("resourceFieldRef");
            if required(amount, &place, "containerName", errors).is_some() {
                env::amount_reference(amount, &place, errors);
            }
        }
        (false, false) => {
            let message = "one of fieldRef and resourceFieldRef is required";
            errors.push(FieldError::required(path, message));
        }
    }
    mode(file, "mode", path, errors);
}

/// Several sources in one volume: `validation.validateProjectionSources`.
fn projected(volume: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let mut seen = HashSet::new();
    for (index, source) in items(volume, "sources").enumerate() {
        let place = path.child("sources").index(index);
        let mut given = 0;
        for name in [
            "secret",
            "configMap",
            "downwardAPI",
            "serviceAccountToken",
            "clusterTrustBundle",
            "podCertificate",
        ] {
            let (source, place) = (&source[name], place.child(name));
            if !source.is_object() {
                continue;
            }
            given += 1;
            match name {
                "secret" | "configMap" => {
                    required(source, &place, "name", errors);
                    keys(source, &place, errors);
                }
                "downwardAPI" => {
                    items(source, "items").for_each(|file| downward_file(file, &place, errors));
                }
                "serviceAccountToken" => token(source, path, &place, errors),
                _ => {}
            }
            let files = items(source, "items").chain((name == "serviceAccountToken").then_some(source));
            for file in files.map(|file| text(file, "path")).filter(|file| !file.is_empty()) {
                if !seen.insert(file) {
                    let owner =
                        if matches!(name, "secret" | "configMap") { text(source, "name") } else { file };
                    errors.push(FieldError::invalid(path, owner, "conflicting duplicate paths"));
                }
            }
        }
        if given > 1 {
            errors.push(FieldError::forbidden(&place, MORE_THAN_ONE));
        }
    }
}

/// A token of the pod's account. The path is told without the place of its source.
fn token(source: &Value, path: &FieldPath, place: &FieldPath, errors: &mut ErrorList) {
    let (seconds, place) =
        (source["expirationSeconds"].as_i64().unwrap_or_default(), place.child("expirationSeconds"));
    if seconds < 600 {
        errors.push(FieldError::invalid(&place, seconds, "may not specify a duration less than 10 minutes"));
    } else if seconds > 1 << 32 {
        let message = "may not specify a duration larger than 2^32 seconds";
        errors.push(FieldError::invalid(&place, seconds, message));
    }
    if let Some(name) = required(source, path, "path", errors) {
        local_path(name, &path.child("path"), errors);
    }
}

/// `validation.validateLocalNonReservedPath`: below the volume, and not among the names that it keeps for itself.
fn local_path(file: &str, path: &FieldPath, errors: &mut ErrorList) {
    if file.starts_with('/') {
        errors.push(FieldError::invalid(path, file, "must be a relative path"));
    } else if file.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(path, file, NO_BACKSTEPS));
    } else if file.starts_with("..") {
        errors.push(FieldError::invalid(path, file, "must not start with '..'"));
    }
}

fn mode(source: &Value, field: &str, path: &FieldPath, errors: &mut ErrorList) {
    if let Some(mode) = source[field].as_i64()
        && !(0..=0o777).contains(&mode)
    {
        let message = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.push(FieldError::invalid(&path.child(field), mode, message));
    }
}

/// Which keys become which files.
fn keys(source: &Value, path: &FieldPath, errors: &mut ErrorList) {
    for (index, item) in items(source, "items").enumerate() {
        let path = path.child("items").index(index);
        required(item, &path, "key", errors);
        if let Some(file) = required(item, &path, "path", errors) {
            local_path(file, &path.child("path"), errors);
        }
        mode(item, "mode", &path, errors);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn told(volume: Value, expect: &[&str]) {
        let mut errors = ErrorList::new();
        validate(&volume, &FieldPath::new("v"), &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn files_of_the_downward_api_tell_what_they_can() {
        let files = |items: Value| json!({"name": "a", "downwardAPI": {"defaultMode": 420, "items": items}});
        told(files(json!([{"path": "a", "fieldRef": {"fieldPath": "metadata.labels['x']"}}])), &[]);
        told(
            files(
                json!([{"path": "a", "fieldRef": {"fieldPath": "spec.nodeName"}}, {"path": "b", "fieldRef": {"fieldPath": "x"}}]),
            ),
            &[
                r#"v.downwardAPI.fieldRef.fieldPath: Unsupported value: "spec.nodeName": supported values: "metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid""#,
                r#"v.downwardAPI.fieldRef.fieldPath: Invalid value: "x": error converting fieldPath: field label not supported: x"#,
            ],
        );
        told(
            files(json!([{"path": "a", "resourceFieldRef": {"resource": "limits.cpu"}}])),
            &["v.downwardAPI.resourceFieldRef.containerName: Required value"],
        );
        told(
            files(json!([{}])),
            &[
                "v.downwardAPI.path: Required value",
                "v.downwardAPI: Required value: one of fieldRef and resourceFieldRef is required",
            ],
        );
    }

    #[test]
    fn projections_are_whole_and_do_not_meet() {
        let of = |sources: Value| json!({"name": "a", "projected": {"sources": sources}});
        told(
            of(
                json!([{"secret": {"name": "s"}}, {"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}]),
            ),
            &[],
        );
        told(
            of(json!([{"secret": {}, "configMap": {"name": "c"}}])),
            &[
                "v.projected.sources[0].secret.name: Required value",
                "v.projected.sources[0]: Forbidden: may not specify more than 1 volume type",
            ],
        );
        told(
            of(json!([
                {"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}},
                {"configMap": {"name": "x", "items": [{"key": "k", "path": "t"}]}},
            ])),
            &[r#"v.projected: Invalid value: "x": conflicting duplicate paths"#],
        );
    }

    #[test]
    fn what_is_said_to_be_nothing_is_not_left_out() {
        let disk = |kind: &str, at: &str| json!({"name": "a", "azureDisk": {"diskName": "d", "diskURI": at, "kind": kind, "cachingMode": "None"}});
        told(disk("Managed", "/subscriptions/x"), &[]);
        told(disk("Shared", "https://x"), &[]);
        told(
            disk("", "https://x"),
            &[
                r#"v.azureDisk.kind: Unsupported value: "": supported values: "Dedicated", "Managed", "Shared""#,
            ],
        );
        told(
            json!({"name": "a", "csi": {"driver": "d", "nodePublishSecretRef": {}}}),
            &["v.csi.nodePublishSecretRef.name: Required value"],
        );
    }

    #[test]
    fn sources_lead_somewhere() {
        told(json!({"name": "a", "gcePersistentDisk": {}}), &["v.persistentDisk.pdName: Required value"]);
        told(
            json!({"name": "a", "flocker": {}}),
            &["v.flocker: Required value: one of datasetName and datasetUUID is required"],
        );
        told(
            json!({"name": "a", "emptyDir": {"sizeLimit": "-1"}}),
            &["v.emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity"],
        );
        told(
            json!({"name": "a", "image": {"reference": "i", "pullPolicy": "x"}}),
            &[
                r#"v.image.pullPolicy: Unsupported value: "x": supported values: "Always", "IfNotPresent", "Never""#,
            ],
        );
    }
}
