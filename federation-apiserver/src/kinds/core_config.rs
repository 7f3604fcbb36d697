//! core/v1 ConfigMap, Secret and ServiceAccount.

use apimachinery::{FieldError, FieldPath, json::type_name};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    registry::{Column, ErrorList, Kind, Subresource, field},
    validation::{config_key, text},
    verbs::parse_errors,
};

/// `MaxSecretSize`: keys aside, the values of one ConfigMap or Secret.
const DATA_MAX_BYTES: usize = 1 << 20;

pub(super) const KINDS: &[&Kind] = &[
    &Kind {
        kind: "ConfigMap",
        plural: "configmaps",
        singular: "configmap",
        short_names: &["cm"],
        columns: &[
            Column::NAME,
            Column::text("Data", "The number of entries", |object, _| {
                entries(object, &["data", "binaryData"]).into()
            }),
            Column::AGE,
        ],
        validate: validate_config_map,
        validate_update: |new, old, errors| immutable(new, old, &["data", "binaryData"], errors),
        ..Kind::BUILT_IN
    },
    &Kind {
        kind: "Secret",
        plural: "secrets",
        singular: "secret",
        columns: &[
            Column::NAME,
            Column::text("Type", "Used to facilitate programmatic handling of secret data.", |object, _| {
                field(object, "/type")
            }),
            Column::text("Data", "The number of entries", |object, _| entries(object, &["data"]).into()),
            Column::AGE,
        ],
        selectable: &[("type", "/type")],
        default: default_secret,
        validate: validate_secret,
        validate_update: |new, old, errors| {
            if new["type"] != old["type"] {
                errors.push(FieldError::invalid(
                    &FieldPath::new("type"),
                    new["type"].clone(),
                    "field is immutable",
                ));
            }
            immutable(new, old, &["data"], errors);
        },
        ..Kind::BUILT_IN
    },
    &Kind {
        kind: "ServiceAccount",
        plural: "serviceaccounts",
        returns_deleted: true,
        singular: "serviceaccount",
        short_names: &["sa"],
        subresources: &[Subresource {
            name: "token",
            group: "authentication.k8s.io",
            version: "v1",
            kind: "TokenRequest",
            verbs: &["create"],
            changes: &[],
            validate: None,
        }],
        columns: &[
            Column::NAME,
            Column::text("Secrets", "The number of secrets", |object, _| {
                object["secrets"].as_array().map_or(0, Vec::len).into()
            }),
            Column::AGE,
        ],
        warn: |account, _| {
            const MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";
            let said = account["metadata"]["annotations"].get(MOUNTABLE).is_some();
            let warning = format!(
                "metadata.annotations[{MOUNTABLE}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
            );
            said.then_some(warning).into_iter().collect()
        },
        ..Kind::BUILT_IN
    },
];

fn entries(object: &Value, fields: &[&str]) -> usize {
    fields.iter().filter_map(|name| object[*name].as_object()).map(serde_json::Map::len).sum()
}

fn validate_config_map(object: &Value, errors: &mut ErrorList) {
    let mut size = 0;
    for name in ["data", "binaryData"] {
        let path = FieldPath::new(name);
        for (key, value) in object[name].as_object().into_iter().flatten() {
            config_key(key, &path.key(key), errors);
            if name == "data" && object["binaryData"].get(key).is_some() {
                errors.push(FieldError::invalid(
                    &path.key(key),
                    key.as_str(),
                    "duplicate of key present in binaryData",
                ));
            }
            size += if name == "data" { value.as_str().map_or(0, str::len) } else { decoded_len(value) };
            if name == "binaryData" && !is_base64(value) {
                errors.push(FieldError::invalid(&path.key(key), value.clone(), "must be base64"));
            }
        }
    }
    if size > DATA_MAX_BYTES {
        errors.push(FieldError::too_long(&FieldPath::new("[]"), DATA_MAX_BYTES));
    }
}

fn is_base64(value: &Value) -> bool {
    value.is_null() || value.as_str().is_some_and(|text| STANDARD.decode(text).is_ok())
}

fn decoded_len(value: &Value) -> usize {
    value.as_str().map_or(0, |text| text.trim_end_matches('=').len() * 3 / 4)
}

/// stringData is written into data and never read back; the type is Opaque if unset.
fn default_secret(object: &mut Value) {
    let strings = object.as_object_mut().and_then(|object| object.remove("stringData"));
    if let Some(Value::Object(strings)) = strings {
        if !object["data"].is_object() {
            object["data"] = json!({});
        }
        for (key, value) in strings {
            object["data"][key] = STANDARD.encode(value.as_str().unwrap_or_default()).into();
        }
    }
    if object["type"].as_str().unwrap_or_default().is_empty() {
        object["type"] = "Opaque".into();
    }
}

/// Why what is encoded is no JSON object, as Go says it; none if it is one.
fn why_no_json(encoded: &Value) -> Option<String> {
    let bytes = STANDARD.decode(encoded.as_str().unwrap_or_default()).ok()?;
    match parse_errors::parsed(&bytes) {
        Ok(Value::Object(_) | Value::Null) => None,
        Ok(other) => Some(format!(
            "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            type_name(&other)
        )),
        Err(why) => Some(why),
    }
}

/// What each Secret type requires: `validation.ValidateSecret`.
fn validate_secret(object: &Value, errors: &mut ErrorList) {
    let path = FieldPath::new("data");
    let mut size = 0;
    for (key, value) in object["data"].as_object().into_iter().flatten() {
        config_key(key, &path.key(key), errors);
        if !is_base64(value) {
            errors.push(FieldError::invalid(&path.key(key), "<redacted>", "must be base64"));
        }
        size += decoded_len(value);
    }
    if size > DATA_MAX_BYTES {
        errors.push(FieldError::too_long(&path, DATA_MAX_BYTES));
    }
    for (kind, key) in
        [("kubernetes.io/dockerconfigjson", ".dockerconfigjson"), ("kubernetes.io/dockercfg", ".dockercfg")]
    {
        if object["type"] == kind
            && let Some(why) = object["data"].get(key).and_then(why_no_json)
        {
            errors.push(FieldError::invalid(&path.key(key), "<secret contents redacted>", &why));
        }
    }
    let mut require = |key: &str| {
        if object["data"].get(key).is_none() {
            errors.push(FieldError::required(&path.key(key), ""));
        }
    };
    match object["type"].as_str().unwrap_or_default() {
        "kubernetes.io/tls" => ["tls.crt", "tls.key"].into_iter().for_each(&mut require),
        "kubernetes.io/dockerconfigjson" => require(".dockerconfigjson"),
        "kubernetes.io/dockercfg" => require(".dockercfg"),
        "kubernetes.io/ssh-auth" if text(&object["data"], "ssh-privatekey").is_empty() => {
            errors.push(FieldError::required(&path.key("ssh-privatekey"), ""));
        }
        "kubernetes.io/basic-auth"
            if object["data"].get("username").is_none() && object["data"].get("password").is_none() =>
        {
            require("username");
            require("password");
        }
        "kubernetes.io/service-account-token" => {
            let annotation = "kubernetes.io/service-account.name";
            if object["metadata"]["annotations"][annotation].as_str().unwrap_or_default().is_empty() {
                errors
                    .push(FieldError::required(&FieldPath::new("metadata.annotations").key(annotation), ""));
            }
        }
        _ => {}
    }
}

fn immutable(new: &Value, old: &Value, fields: &[&str], errors: &mut ErrorList) {
    const MESSAGE: &str = "field is immutable when `immutable` is set";
    if old["immutable"] != true {
        return;
    }
    if new["immutable"] != true {
        errors.push(FieldError::forbidden(&FieldPath::new("immutable"), MESSAGE));
    }
    for name in fields {
        if new[*name] != old[*name] {
            errors.push(FieldError::forbidden(&FieldPath::new(*name), MESSAGE));
        }
    }
}
