//! The admission plugin `ServiceAccount`: adds the account's image pull secrets to a new Pod, and mounts a token where clients in its
//! containers look for one.

use std::collections::HashMap;

use apimachinery::names::{self, SUFFIX_LEN};
use serde_json::{Value, json};

use crate::validation::{items, items_mut, pod::COMPLETED_MAX, text};

/// Where clients look for a token (`rest.InClusterConfig`).
const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The volume's name begins with it.
const VOLUME: &str = "kube-api-access-";
/// An hour, and seven seconds that mark such tokens (KEP-1205).
const EXPIRATION_SECONDS: i64 = 3607;

/// Adds the account's image pull secrets and a token to a pod's spec. An account that does not exist yet counts as one without settings.
pub(super) fn apply_account(spec: &mut Value, account: Option<&Value>, random: [u8; SUFFIX_LEN]) {
    let account = account.unwrap_or(&Value::Null);
    let says = |object: &Value| object["automountServiceAccountToken"].as_bool();
    if says(spec).or_else(|| says(account)).unwrap_or(true) {
        mount(spec, random);
    }
    if items(spec, "imagePullSecrets").next().is_none() {
        let secrets: Vec<Value> =
            items(account, "imagePullSecrets").map(|secret| json!({"name": text(secret, "name")})).collect();
        if !secrets.is_empty() {
            spec["imagePullSecrets"] = secrets.into();
        }
    }
}

/// Mounts a token in every container that has no other mount at its path.
fn mount(spec: &mut Value, random: [u8; SUFFIX_LEN]) {
    let given =
        items(spec, "volumes").map(|volume| text(volume, "name")).find(|name| name.starts_with(VOLUME));
    let is_new = given.is_none();
    let name = given.map_or_else(|| names::generated_name(VOLUME, random), str::to_owned);
    let (mut mounted, mut left) = (false, COMPLETED_MAX);
    for list in ["initContainers", "containers"] {
        for container in items_mut(spec, list) {
            let Some(others) = left.checked_sub(1) else { break };
            left = others;
            if items(container, "volumeMounts").any(|mount| mount["mountPath"] == MOUNT) {
                continue;
            }
            if !container["volumeMounts"].is_array() {
                container["volumeMounts"] = json!([]);
            }
            if let Some(mounts) = container["volumeMounts"].as_array_mut() {
                mounts.push(json!({"name": name, "readOnly": true, "mountPath": MOUNT}));
                mounted = true;
            }
        }
    }
    if !mounted || !is_new {
        return;
    }
    if !spec["volumes"].is_array() {
        spec["volumes"] = json!([]);
    }
    if let Some(volumes) = spec["volumes"].as_array_mut() {
        volumes.push(json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
            {"serviceAccountToken": {"expirationSeconds": EXPIRATION_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
            ]}},
        ]}}));
    }
}

/// Keeps the token volume when an update leaves it out, so that a pod can be replaced by the manifest that made it.
pub(crate) fn keep(spec: &mut Value, old: &Value) {
    let given = |volume: &&Value| text(volume, "name").starts_with(VOLUME);
    let Some(volume) = items(old, "volumes").find(given).cloned() else { return };
    if items(spec, "volumes").any(|own| given(&own)) {
        return;
    }
    let is_token = |mount: &&Value| mount["mountPath"] == MOUNT && mount["name"] == volume["name"];
    for list in ["initContainers", "containers"] {
        let before: HashMap<&str, &Value> =
            items(old, list).map(|before| (text(before, "name"), before)).collect();
        for container in items_mut(spec, list) {
            let before = before.get(text(container, "name"));
            let mount = before.and_then(|before| items(before, "volumeMounts").find(is_token));
            let taken = items(container, "volumeMounts").any(|own| own["mountPath"] == MOUNT);
            if let Some(mount) = mount.filter(|_| !taken) {
                append(container, "volumeMounts", mount.clone());
            }
        }
    }
    append(spec, "volumes", volume);
}

fn append(object: &mut Value, list: &str, item: Value) {
    match object[list].as_array_mut() {
        Some(items) => items.push(item),
        None => object[list] = json!([item]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANDOM: [u8; SUFFIX_LEN] = [0; SUFFIX_LEN];

    fn with_account(mut spec: Value, account: &Value) -> Value {
        apply_account(&mut spec, Some(account), RANDOM);
        spec
    }

    #[test]
    fn every_container_finds_a_token_where_clients_look() {
        let own = json!([{"name": "own", "mountPath": MOUNT}]);
        let spec = json!({"containers": [{"name": "a"}, {"name": "b", "volumeMounts": own}], "initContainers": [{"name": "i"}]});
        let spec = with_account(spec, &Value::Null);
        let name = text(&spec["volumes"][0], "name").to_owned();
        assert!(name.starts_with(VOLUME) && name.len() == VOLUME.len() + SUFFIX_LEN, "{name}");
        let mount = json!([{"name": name, "readOnly": true, "mountPath": MOUNT}]);
        assert_eq!(spec["containers"][0]["volumeMounts"], mount);
        assert_eq!(spec["containers"][1]["volumeMounts"], own);
        assert_eq!(spec["initContainers"][0]["volumeMounts"], mount);
        let sources = &spec["volumes"][0]["projected"]["sources"];
        assert_eq!(sources[0]["serviceAccountToken"], json!({"expirationSeconds": 3607, "path": "token"}));
    }

    #[test]
    fn no_more_containers_get_one_than_an_object_can_hold() {
        let spec = json!({"initContainers": [{}], "containers": vec![json!({}); COMPLETED_MAX]});
        let spec = with_account(spec, &Value::Null);
        let given =
            |list| items(&spec, list).filter(|container| container["volumeMounts"].is_array()).count();
        assert_eq!((given("initContainers"), given("containers")), (1, COMPLETED_MAX - 1));
    }

    #[test]
    fn who_wants_no_token_gets_none() {
        let no = json!({"automountServiceAccountToken": false});
        let spec = json!({"containers": [{"name": "a"}]});
        assert_eq!(with_account(spec.clone(), &no), spec);
        let spec = json!({"automountServiceAccountToken": false, "containers": [{"name": "a"}]});
        assert_eq!(with_account(spec.clone(), &Value::Null), spec);
        let spec = json!({"automountServiceAccountToken": true, "containers": [{"name": "a"}]});
        assert!(with_account(spec, &no)["volumes"].is_array());
    }

    #[test]
    fn images_are_pulled_with_the_secrets_of_the_account() {
        let account = json!({"automountServiceAccountToken": false, "imagePullSecrets": [{"name": "s"}]});
        assert_eq!(with_account(json!({}), &account)["imagePullSecrets"], json!([{"name": "s"}]));
        let own = json!({"imagePullSecrets": [{"name": "own"}]});
        assert_eq!(with_account(own.clone(), &account), own);
    }

    #[test]
    fn a_manifest_replaces_the_pod_that_it_made() {
        let manifest = json!({"containers": [{"name": "a"}]});
        let old = with_account(manifest.clone(), &Value::Null);
        let mut new = manifest;
        keep(&mut new, &old);
        assert_eq!(new, old);
    }
}
