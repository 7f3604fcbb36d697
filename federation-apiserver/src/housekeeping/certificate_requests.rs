//! CertificateSigningRequests of `kubernetes.io/kube-apiserver-client`: signed once they are approved, and gone when they are old.
//! kube-controller-manager's controllers `csrsigning` and `csrcleaner`.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use federation_runtime::pki::{Authority, ClientUsages};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{Action, Edit, action::Condition};
use crate::{
    store::{Key, ResourceKey, Snapshot, Stored},
    validation::{holds, items, text},
};

/// Who signs certificates by which clients are known to the API server. The others of Kubernetes are for nodes, which a federation has not.
const SIGNER: &str = "kubernetes.io/kube-apiserver-client";
/// Longest life of a certificate, and the one of who asks for none: `--cluster-signing-duration`.
const LIFE: Duration = Duration::from_hours(365 * 24);
/// After what time what was decided goes.
const DECIDED: SignedDuration = SignedDuration::from_hours(1);
/// After what time what nobody decides goes.
const PENDING: SignedDuration = SignedDuration::from_hours(24);

/// Whether a change of this object may ask for something.
pub(super) fn concerns(key: &Key) -> bool {
    key.resource == requests()
}

fn requests() -> ResourceKey {
    ResourceKey::new("certificates.k8s.io", "certificatesigningrequests")
}

/// Signs what is approved.
pub(super) fn signatures(snapshot: &Snapshot, authority: &Authority) -> Vec<Action> {
    let requests = requests();
    snapshot
        .range(&requests, None, None)
        .filter_map(|request| {
            let object = request.value().ok()?;
            let edit = if wants_signature(&object) { answer(&object, authority) } else { return None };
            Some(Action::Edit { key: request.key.clone(), uid: request.meta.uid.clone(), edit })
        })
        .collect()
}

fn is_issued(object: &Value) -> bool {
    !text(&object["status"], "certificate").is_empty()
}

fn wants_signature(object: &Value) -> bool {
    text(&object["spec"], "signerName") == SIGNER
        && holds(object, "Approved")
        && !holds(object, "Denied")
        && !holds(object, "Failed")
        && !is_issued(object)
}

/// The certificate, or why there is none.
fn answer(object: &Value, authority: &Authority) -> Edit {
    let spec = &object["spec"];
    let signed = usages(spec).and_then(|usages| {
        let request = STANDARD.decode(text(spec, "request")).unwrap_or_default();
        let request = String::from_utf8_lossy(&request);
        let asked = spec["expirationSeconds"].as_u64().map_or(LIFE, Duration::from_secs);
        authority.sign_client(&request, usages, asked.min(LIFE)).map_err(|error| error.to_string())
    });
    match signed {
        Ok(pem) => Edit::Certificate(STANDARD.encode(pem)),
        Err(message) => Edit::Conditions(vec![Condition {
            kind: "Failed",
            holds: true,
            reason: "SignerValidationFailure",
            message,
        }]),
    }
}

/// `signer.validAPIServerClientUsages`.
fn usages(spec: &Value) -> Result<ClientUsages, String> {
    let mut usages = ClientUsages::default();
    let mut is_client = false;
    for usage in items(spec, "usages").filter_map(Value::as_str) {
        match usage {
            "digital signature" => usages.digital_signature = true,
            "key encipherment" => usages.key_encipherment = true,
            "client auth" => is_client = true,
            other => return Err(format!("invalid usage for client certificate: {other}")),
        }
    }
    if is_client {
        Ok(usages)
    } else {
        Err("missing required usage for client certificate: client auth".into())
    }
}

/// Deletes requests that have served.
pub(super) fn outdated(snapshot: &Snapshot, now: Timestamp) -> Vec<Action> {
    let requests = requests();
    snapshot
        .range(&requests, None, None)
        .filter(|request| is_outdated(request, now))
        .map(|request| Action::Delete {
            key: request.key.clone(),
            uid: request.meta.uid.clone(),
            propagation: None,
            revision: Some(request.revision),
        })
        .collect()
}

fn is_outdated(request: &Stored, now: Timestamp) -> bool {
    let older = |time: Timestamp, life: SignedDuration| now.duration_since(time) > life;
    // Most are young, and are not parsed for that.
    let Some(created) = request.meta.created.filter(|created| older(*created, DECIDED)) else { return false };
    let Ok(object) = request.value() else { return false };
    let mut conditions = items(&object["status"], "conditions").peekable();
    if conditions.peek().is_none() {
        return older(created, PENDING);
    }
    conditions.any(|condition| {
        let since = text(condition, "lastUpdateTime").parse().ok();
        let served = match text(condition, "type") {
            "Approved" => is_issued(&object),
            "Denied" | "Failed" => true,
            _ => false,
        };
        served && older(since.unwrap_or(created), DECIDED)
    })
}
