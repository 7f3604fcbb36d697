//! The status of a CertificateSigningRequest: who approves is told by the subresource `approval` alone, and what was decided or issued
//! stays (`apis/certificates/validation`, `registry/certificates`).

use std::collections::{HashMap, HashSet};

use apimachinery::{FieldError, FieldPath};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use x509_parser::{certificate::X509Certificate, pem::Pem, prelude::FromDer as _};

use crate::{
    registry::ErrorList,
    validation::{items, items_mut, one_of, text},
};

/// What is decided by who may approve.
const DECISIONS: [&str; 2] = ["Approved", "Denied"];
/// What stays once it holds, in the order in which it is told.
const LASTING: [&str; 3] = ["Approved", "Denied", "Failed"];

/// The conditions of a type, in order.
fn of_type<'a>(object: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> + use<'a> {
    items(&object["status"], "conditions").filter(move |condition| condition["type"] == kind)
}

/// Whether two conditions tell the same. What one of them leaves out may be empty or null in the other one, as Go writes it.
fn same(one: &Value, other: &Value) -> bool {
    let told = |condition: &Value| {
        let all = condition.as_object().into_iter().flatten();
        let told = all.filter(|(_, value)| !value.is_null() && *value != "");
        told.map(|(name, value)| (name.clone(), value.clone())).collect::<Vec<_>>()
    };
    one == other || told(one) == told(other)
}

/// Whether two objects have conditions that tell the same.
pub(crate) fn same_conditions(one: &Value, other: &Value) -> bool {
    let of = |object: &Value| object["status"]["conditions"].as_array().map_or(0, Vec::len);
    let conditions = items(&one["status"], "conditions").zip(items(&other["status"], "conditions"));
    of(one) == of(other) && conditions.into_iter().all(|(one, other)| same(one, other))
}

/// Keeps what was decided: who writes a status says nothing about it. What comes or goes is left for the rules to refuse.
/// `registry/certificates.preserveConditionInstances`.
fn keep_decisions(new: &mut Value, old: &Value) {
    for kind in DECISIONS {
        if of_type(new, kind).count() != of_type(old, kind).count() {
            continue;
        }
        let Some(status) = new.get_mut("status") else { return };
        let own = items_mut(status, "conditions").filter(|condition| condition["type"] == kind);
        for (own, before) in own.zip(of_type(old, kind)) {
            own.clone_from(before);
            // Go writes a time that is not set as null.
            for time in ["lastTransitionTime", "lastUpdateTime"] {
                if own.is_object() && own[time].is_null() {
                    own[time] = Value::Null;
                }
            }
        }
    }
}

/// What writing a part of a request leaves: through `status` no decision changes, and conditions have their times.
/// `registry/certificates.{csrStatusStrategy,csrApprovalStrategy}.PrepareForUpdate`.
pub(super) fn settle(new: &mut Value, old: &Value, part: &str, now: &str) {
    if part == "status" {
        keep_decisions(new, old);
    }
    stamp(new, old, now);
}

/// Gives conditions their times: a transition's is kept while the condition stays as it was. A decision that is the very one which was
/// stored is left alone: older hubs and some clients gave it no times, and a status that gave it some would change it.
fn stamp(new: &mut Value, old: &Value, now: &str) {
    let Some(status) = new.get_mut("status") else { return };
    let mut times = HashMap::new();
    for condition in items(&old["status"], "conditions") {
        let time = text(condition, "lastTransitionTime");
        if !time.is_empty() {
            times.entry((text(condition, "type"), text(condition, "status"))).or_insert(time);
        }
    }
    let mut decided = DECISIONS.map(|kind| of_type(old, kind));
    for condition in items_mut(status, "conditions") {
        let at = DECISIONS.iter().position(|kind| condition["type"] == *kind);
        if at.and_then(|at| decided[at].next()).is_some_and(|before| same(before, condition)) {
            continue;
        }
        let before = times.get(&(text(condition, "type"), text(condition, "status")));
        let changed = (*before.unwrap_or(&now)).to_owned();
        if text(condition, "lastUpdateTime").is_empty() {
            condition["lastUpdateTime"] = now.into();
        }
        if text(condition, "lastTransitionTime").is_empty() {
            condition["lastTransitionTime"] = changed.into();
        }
    }
}

/// The rules of conditions.
pub(super) fn validate_conditions(object: &Value, errors: &mut ErrorList) {
    let mut seen = HashSet::new();
    for (index, found) in items(&object["status"], "conditions").enumerate() {
        let path = FieldPath::new("status.conditions").index(index);
        let (kind, status) = (text(found, "type"), text(found, "status"));
        if kind.is_empty() {
            errors.push(FieldError::required(&path.child("type"), ""));
        }
        if status.is_empty() {
            errors.push(FieldError::required(&path.child("status"), ""));
        } else {
            let known: &[&str] =
                if LASTING.contains(&kind) { &["True"] } else { &["False", "True", "Unknown"] };
            one_of(status, &path.child("status"), known, errors);
        }
        let other = DECISIONS.iter().any(|other| *other != kind && seen.contains(other));
        if DECISIONS.contains(&kind) && other {
            let message = "Approved and Denied conditions are mutually exclusive";
            errors.push(FieldError::invalid(&path.child("type"), kind, message));
        }
        if !seen.insert(kind) {
            errors.push(FieldError::duplicate(&path.child("type"), kind));
        }
    }
}

/// The rules of a change of the status.
pub(super) fn validate_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    validate_change(new, old, false, errors);
}

/// The rules of a change through `approval`.
pub(super) fn validate_approval(new: &Value, old: &Value, errors: &mut ErrorList) {
    validate_change(new, old, true, errors);
}

fn validate_change(new: &Value, old: &Value, approves: bool, errors: &mut ErrorList) {
    let path = FieldPath::new("status.conditions");
    for kind in LASTING {
        let (before, after): (Vec<_>, Vec<_>) = (of_type(old, kind).collect(), of_type(new, kind).collect());
        let may = approves || !DECISIONS.contains(&kind);
        let what = if after.len() < before.len() {
            "remove"
        } else if may
            || after.len() == before.len() && after.iter().zip(&before).all(|(one, other)| same(one, other))
        {
            continue;
        } else if after.len() > before.len() {
            "add"
        } else {
            "modify"
        };
        errors.push(FieldError::forbidden(
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
        errors.push(FieldError::forbidden(&path, "updates may not modify existing certificate content"));
    } else if let Err(why) = check_certificate(&after) {
        errors.push(FieldError::invalid(&path, "<certificate data>", &why));
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
    fn told(rules: fn(&Value, &Value, &mut ErrorList), new: &Value, old: &Value, expect: &[&str]) {
        let mut errors = ErrorList::new();
        validate_conditions(new, &mut errors);
        rules(new, old, &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
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
    fn who_writes_the_status_changes_no_decision() {
        let approved =
            json!({"type": "Approved", "status": "True", "lastUpdateTime": "then", "message": "ok"});
        let failed = json!({"type": "Failed", "status": "True"});
        let old = with(json!([approved]));
        let mut new = with(json!([failed, {"type": "Approved", "status": "True"}]));
        keep_decisions(&mut new, &old);
        let mut kept = approved.clone();
        kept["lastTransitionTime"] = Value::Null;
        assert_eq!(new, with(json!([failed, kept])));
        stamp(&mut new, &old, "now");
        assert_eq!(new["status"]["conditions"][1], kept, "it has no time of a transition, as before");
        assert_eq!(new["status"]["conditions"][0]["lastTransitionTime"], "now");
        told(validate_update, &new, &old, &[]);
        // What comes or goes is refused.
        let mut more = with(json!([approved, {"type": "Denied", "status": "True"}]));
        let mut expected = more.clone();
        expected["status"]["conditions"][0] = kept;
        keep_decisions(&mut more, &old);
        assert_eq!(more, expected);
    }

    #[test]
    fn many_conditions_take_little_to_look_at() {
        let condition = |at: usize| json!({"type": format!("T{at}"), "status": "True"});
        let many = |count: usize| with((0..count).map(condition).collect());
        let old = many(100_000);
        let mut new = many(100_001);
        stamp(&mut new, &old, "now");
        told(validate_update, &new, &old, &[]);
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
