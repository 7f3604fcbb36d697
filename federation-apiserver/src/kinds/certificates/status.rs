//! The status of a CertificateSigningRequest: who approves is told by the subresource `approval` alone, and what was decided or issued
//! stays (`apis/certificates/validation`, `registry/certificates`).

use apimachinery::{FieldError, FieldPath};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use x509_parser::{certificate::X509Certificate, pem::Pem, prelude::FromDer as _};

use crate::{
    registry::Faults,
    validation::{items, items_mut, one_of, text},
};

/// What is decided by who may approve.
const DECISIONS: [&str; 2] = ["Approved", "Denied"];
/// What stays once it holds, in the order in which it is told.
const LASTING: [&str; 3] = ["Approved", "Denied", "Failed"];

/// Gives conditions their times: a transition's is kept while the condition stays as it was.
pub(super) fn stamp(new: &mut Value, old: &Value, now: &str) {
    let Some(status) = new.get_mut("status") else { return };
    for condition in items_mut(status, "conditions") {
        let same =
            |other: &&Value| other["type"] == condition["type"] && other["status"] == condition["status"];
        let before = items(&old["status"], "conditions").find(same);
        let before = before.map(|other| text(other, "lastTransitionTime")).filter(|time| !time.is_empty());
        let changed = before.unwrap_or(now).to_owned();
        if text(condition, "lastUpdateTime").is_empty() {
            condition["lastUpdateTime"] = now.into();
        }
        if text(condition, "lastTransitionTime").is_empty() {
            condition["lastTransitionTime"] = changed.into();
        }
    }
}

/// The rules of conditions.
pub(super) fn validate_conditions(object: &Value, faults: &mut Faults) {
    let mut seen = Vec::new();
    for (index, found) in items(&object["status"], "conditions").enumerate() {
        let path = FieldPath::new("status.conditions").index(index);
        let (kind, status) = (text(found, "type"), text(found, "status"));
        if kind.is_empty() {
            faults.push(FieldError::required(&path.child("type"), ""));
        }
        if status.is_empty() {
            faults.push(FieldError::required(&path.child("status"), ""));
        } else {
            let known: &[&str] =
                if LASTING.contains(&kind) { &["True"] } else { &["False", "True", "Unknown"] };
            one_of(status, &path.child("status"), known, faults);
        }
        let other = DECISIONS.iter().any(|other| *other != kind && seen.contains(other));
        if DECISIONS.contains(&kind) && other {
            let message = "Approved and Denied conditions are mutually exclusive";
            faults.push(FieldError::invalid(&path.child("type"), kind, message));
        }
        if seen.contains(&kind) {
            faults.push(FieldError::duplicate(&path.child("type"), kind));
        }
        seen.push(kind);
    }
}

/// The rules of a change of the status.
pub(super) fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    validate_change(new, old, false, faults);
}

/// The rules of a change through `approval`.
pub(super) fn validate_approval(new: &Value, old: &Value, faults: &mut Faults) {
    validate_change(new, old, true, faults);
}

fn validate_change(new: &Value, old: &Value, approves: bool, faults: &mut Faults) {
    let path = FieldPath::new("status.conditions");
    for kind in LASTING {
        let of = |object: &Value| -> Vec<Value> {
            let all = items(&object["status"], "conditions");
            all.filter(|condition| condition["type"] == kind).cloned().collect()
        };
        let (before, after) = (of(old), of(new));
        let may = approves || !DECISIONS.contains(&kind);
        let what = if after.len() < before.len() {
            "remove"
        } else if may || after == before {
            continue;
        } else if after.len() > before.len() {
            "add"
        } else {
            "modify"
        };
        faults.push(FieldError::forbidden(
            &path,
            &format!("updates may not {what} a condition of type {kind:?}"),
        ));
    }
    let certificate = |object: &Value| text(&object["status"], "certificate").to_owned();
    let (before, after) = (certificate(old), certificate(new));
    let path = FieldPath::new("status.certificate");
    if before == after {
        return;
    }
    if !before.is_empty() {
        faults.push(FieldError::forbidden(&path, "updates may not modify existing certificate content"));
    } else if let Err(why) = check_certificate(&after) {
        faults.push(FieldError::invalid(&path, "<certificate data>", &why));
    }
}

/// What is issued is PEM of certificates, and of nothing else.
fn check_certificate(content: &str) -> Result<(), String> {
    let bytes = STANDARD.decode(content).unwrap_or_default();
    let mut any = false;
    for block in Pem::iter_from_buffer(&bytes) {
        let Ok(block) = block else { break };
        if block.label != "CERTIFICATE" {
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.label));
        }
        X509Certificate::from_der(&block.contents).map_err(|_| "x509: malformed certificate".to_owned())?;
        any = true;
    }
    if any { Ok(()) } else { Err("must contain at least one CERTIFICATE PEM block".to_owned()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(conditions: Value) -> Value {
        json!({"status": {"conditions": conditions}})
    }

    #[track_caller]
    fn told(rules: fn(&Value, &Value, &mut Faults), new: &Value, old: &Value, expect: &[&str]) {
        let mut faults = Faults::new();
        validate_conditions(new, &mut faults);
        rules(new, old, &mut faults);
        assert_eq!(faults.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn who_writes_the_status_approves_nothing() {
        let approved = with(json!([{"type": "Approved", "status": "True"}]));
        told(validate_approval, &approved, &with(json!([])), &[]);
        told(
            validate_update,
            &approved,
            &with(json!([])),
            &["status.conditions: Forbidden: updates may not add a condition of type \"Approved\""],
        );
    }

    #[test]
    fn what_is_decided_stays() {
        let approved = with(json!([{"type": "Approved", "status": "True"}]));
        told(
            validate_approval,
            &with(json!([])),
            &approved,
            &["status.conditions: Forbidden: updates may not remove a condition of type \"Approved\""],
        );
        let both =
            with(json!([{"type": "Approved", "status": "True"}, {"type": "Denied", "status": "True"}]));
        let message = "Approved and Denied conditions are mutually exclusive";
        told(
            validate_approval,
            &both,
            &approved,
            &[&format!("status.conditions[1].type: Invalid value: \"Denied\": {message}")],
        );
    }

    #[test]
    fn a_decision_is_true_or_not_there() {
        told(
            validate_approval,
            &with(json!([{"type": "Approved", "status": "False"}, {}])),
            &with(json!([])),
            &[
                "status.conditions[0].status: Unsupported value: \"False\": supported values: \"True\"",
                "status.conditions[1].type: Required value",
                "status.conditions[1].status: Required value",
            ],
        );
    }

    #[test]
    fn a_certificate_is_pem_and_issued_once() {
        let issued = |content: &str| json!({"status": {"certificate": content}});
        told(
            validate_update,
            &issued("AAAA"),
            &json!({}),
            &[
                "status.certificate: Invalid value: \"<certificate data>\": must contain at least one CERTIFICATE PEM block",
            ],
        );
        told(
            validate_update,
            &json!({}),
            &issued("AAAA"),
            &["status.certificate: Forbidden: updates may not modify existing certificate content"],
        );
    }

    #[test]
    fn a_transition_keeps_its_time() {
        let condition = |kind: &str, status: &str| json!({"type": kind, "status": status});
        let mut old = with(json!([condition("A", "True"), condition("B", "True")]));
        stamp(&mut old, &json!({}), "then");
        let mut new = with(json!([condition("A", "True"), condition("B", "False")]));
        stamp(&mut new, &old, "now");
        let times = |at: usize| {
            let condition = &new["status"]["conditions"][at];
            [text(condition, "lastTransitionTime"), text(condition, "lastUpdateTime")]
        };
        assert_eq!((times(0), times(1)), (["then", "now"], ["now", "now"]));
    }
}
