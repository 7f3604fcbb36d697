//! The rules of volumes.

use apimachinery::{FieldError, FieldPath};
use serde_json::Value;

use super::{items, label, one_of, required, text};
use crate::registry::Faults;

/// Finds the faults of a spec's volumes, and returns their names.
pub(super) fn validate_all<'a>(spec: &'a Value, path: &FieldPath, faults: &mut Faults) -> Vec<&'a str> {
    let mut names = Vec::new();
    for (index, volume) in items(spec, "volumes").enumerate() {
        let path = path.child("volumes").index(index);
        if let Some(name) = required(volume, &path, "name", faults) {
            label(name, &path.child("name"), faults);
            if names.contains(&name) {
                faults.push(FieldError::duplicate(&path.child("name"), name));
            }
            names.push(name);
        }
        validate(volume, &path, faults);
    }
    names
}

fn validate(volume: &Value, path: &FieldPath, faults: &mut Faults) {
    let sources = volume.as_object().into_iter().flatten();
    let mut given = 0;
    for (name, source) in sources.filter(|(name, source)| *name != "name" && source.is_object()) {
        given += 1;
        let path = path.child(name);
        if given > 1 {
            faults.push(FieldError::forbidden(&path, "may not specify more than 1 volume type"));
            continue;
        }
        let mut require = |field: &str| {
            required(source, &path, field, faults);
        };
        match name.as_str() {
            "secret" => require("secretName"),
            "configMap" => require("name"),
            "persistentVolumeClaim" => require("claimName"),
            "hostPath" => host_path(source, &path, faults),
            "nfs" => {
                require("server");
                require("path");
                if !text(source, "path").is_empty() && !text(source, "path").starts_with('/') {
                    let message = "must be an absolute path";
                    faults.push(FieldError::invalid(&path.child("path"), text(source, "path"), message));
                }
            }
            "csi" => require("driver"),
            "iscsi" => {
                require("targetPortal");
                require("iqn");
            }
            "cephfs" if source["monitors"].as_array().is_none_or(Vec::is_empty) => {
                faults.push(FieldError::required(&path.child("monitors"), ""));
            }
            "glusterfs" => {
                require("endpoints");
                require("path");
            }
            "ephemeral" if !source["volumeClaimTemplate"].is_object() => {
                faults.push(FieldError::required(&path.child("volumeClaimTemplate"), ""));
            }
            _ => {}
        }
        mode(source, &path, faults);
        keys(source, &path, faults);
    }
}

/// What may be asked to stand at a path of the host.
const HOST_TYPES: [&str; 8] = [
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

/// `validation.validateHostPathVolumeSource`.
pub(crate) fn host_path(source: &Value, path: &FieldPath, faults: &mut Faults) {
    if let Some(at) = required(source, path, "path", faults)
        && at.split('/').any(|part| part == "..")
    {
        faults.push(FieldError::invalid(&path.child("path"), at, "must not contain '..'"));
    }
    one_of(text(source, "type"), &path.child("type"), &HOST_TYPES, faults);
}

fn mode(source: &Value, path: &FieldPath, faults: &mut Faults) {
    if let Some(mode) = source["defaultMode"].as_i64()
        && !(0..=0o777).contains(&mode)
    {
        let message = "must be a number between 0 and 0777 (octal), both inclusive";
        faults.push(FieldError::invalid(&path.child("defaultMode"), mode, message));
    }
}

/// Which keys become which files.
fn keys(source: &Value, path: &FieldPath, faults: &mut Faults) {
    for (index, item) in items(source, "items").enumerate() {
        let path = path.child("items").index(index);
        if item.get("fieldRef").is_none() && item.get("resourceFieldRef").is_none() {
            required(item, &path, "key", faults);
        }
        if let Some(file) = required(item, &path, "path", faults) {
            if file.starts_with('/') {
                faults.push(FieldError::invalid(&path.child("path"), file, "must be a relative path"));
            } else if file.split('/').any(|part| part == "..") {
                faults.push(FieldError::invalid(&path.child("path"), file, "must not contain '..'"));
            }
        }
    }
}
