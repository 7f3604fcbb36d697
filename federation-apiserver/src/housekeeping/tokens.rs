//! Secrets of type `kubernetes.io/service-account-token`: filled when they appear, and gone with their account.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use super::{Action, Edit};
use crate::{
    auth::service_account_tokens::{ACCOUNT_NAME, ACCOUNT_UID, ServiceAccountTokens, TOKEN_SECRET},
    store::{Key, ResourceKey, Snapshot, Stored},
};

/// Whether a change of this object may ask for something.
pub(super) fn concerns(object: &Stored) -> bool {
    match &*object.key.resource.resource {
        "serviceaccounts" => true,
        "secrets" => is_token(object),
        _ => false,
    }
}

fn is_token(secret: &Stored) -> bool {
    secret.meta.fields.get("type").is_some_and(|kind| kind == TOKEN_SECRET)
}

/// Fills Secrets that have no token, and removes those whose account is gone.
pub(super) fn settle(
    snapshot: &Snapshot,
    accounts: &ServiceAccountTokens,
    root_ca_pem: Option<&str>,
) -> Vec<Action> {
    let secrets = ResourceKey::new("", "secrets");
    snapshot
        .range(&secrets, None, None)
        .filter(|secret| is_token(secret) && !secret.meta.deleting)
        .filter_map(|secret| one(snapshot, &secret, accounts, root_ca_pem))
        .collect()
}

fn one(
    snapshot: &Snapshot,
    secret: &Stored,
    accounts: &ServiceAccountTokens,
    root_ca_pem: Option<&str>,
) -> Option<Action> {
    let value = secret.value().ok()?;
    let annotation = |name: &str| value["metadata"]["annotations"][name].as_str().unwrap_or_default();
    let (namespace, name) = (&secret.key.namespace, annotation(ACCOUNT_NAME));
    let account = snapshot.get(&Key::new(ResourceKey::new("", "serviceaccounts"), namespace, name));
    let (key, uid) = (secret.key.clone(), secret.meta.uid.clone());
    let known = annotation(ACCOUNT_UID);
    let Some(account) = account.filter(|account| known.is_empty() || known == account.meta.uid) else {
        return Some(Action::Delete { key, uid, propagation: None, revision: Some(secret.revision) });
    };
    let mut data = value["data"].clone();
    if !data.is_object() {
        data = json!({});
    }
    if data["token"].as_str().unwrap_or_default().is_empty() {
        let token = accounts.issue_for_secret(namespace, &key.name, name, &account.meta.uid)?;
        data["token"] = STANDARD.encode(token).into();
    }
    data["namespace"] = STANDARD.encode(namespace).into();
    if let Some(pem) = root_ca_pem {
        data["ca.crt"] = STANDARD.encode(pem).into();
    }
    let mut annotations = value["metadata"]["annotations"].clone();
    annotations[ACCOUNT_UID] = account.meta.uid.clone().into();
    if data == value["data"] && annotations == value["metadata"]["annotations"] {
        return None;
    }
    let parts = json!({"data": data, "metadata": {"annotations": annotations}});
    Some(Action::Edit { key, uid, edit: Edit::Parts(parts) })
}
