//! allOf, anyOf, oneOf and not, as kube-openapi's `schemaPropsValidator` tells them.

use apimachinery::{FieldError, FieldReason};
use serde_json::Value;

use super::{Checks, Structural, check};

/// Checks the alternatives of one node.
pub(super) fn check(checks: &Checks, value: &Value, path: &str, faults: &mut Vec<FieldError>) {
    let try_one = |schema: &Structural| {
        let mut found = Vec::new();
        check::check(schema, value, None, path, &mut found);
        found
    };
    if !checks.any_of.is_empty() {
        let outcomes: Vec<_> = checks.any_of.iter().map(try_one).collect();
        if outcomes.iter().all(|found| !found.is_empty()) {
            faults.push(about(format!("{path:?} must validate at least one schema (anyOf)")));
            faults.extend(outcomes.into_iter().next().unwrap_or_default());
        }
    }
    if !checks.one_of.is_empty() {
        let outcomes: Vec<_> = checks.one_of.iter().map(try_one).collect();
        let valid = outcomes.iter().filter(|found| found.is_empty()).count();
        if valid != 1 {
            let count = if valid == 0 {
                "Found none valid".to_owned()
            } else {
                format!("Found {valid} valid alternatives")
            };
            faults.push(about(format!("{path:?} must validate one and only one schema (oneOf). {count}")));
        }
        if valid == 0 {
            faults.extend(outcomes.into_iter().next().unwrap_or_default());
        }
    }
    if !checks.all_of.is_empty() {
        let outcomes: Vec<_> = checks.all_of.iter().map(try_one).collect();
        let valid = outcomes.iter().filter(|found| found.is_empty()).count();
        if valid < outcomes.len() {
            let none = if valid == 0 { ". None validated" } else { "" };
            faults.extend(outcomes.into_iter().flatten());
            faults.push(about(format!("{path:?} must validate all the schemas (allOf){none}")));
        }
    }
    if let Some(schema) = &checks.not
        && try_one(schema).is_empty()
    {
        faults.push(about(format!("{path:?} must not validate the schema (not)")));
    }
}

/// kube-apiserver has no field for these faults, and prints Go's nil.
pub(super) fn about(detail: String) -> FieldError {
    check::fault(FieldReason::Invalid, "<nil>", "", &detail)
}
