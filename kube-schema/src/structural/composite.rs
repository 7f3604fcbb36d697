//! allOf, anyOf, oneOf and not, as kube-openapi's `schemaPropsValidator` tells them.

use apimachinery::{FieldError, FieldReason};
use serde_json::Value;

use super::{
    Checks, check,
    faults::{Faults, Outcome},
};

/// Checks the alternatives of one node. Returns how many checks of theirs count ([`check::check`]). Of anyOf and oneOf no more than the outcome of
/// one is kept: each fault may hold the value, and there are as many alternatives as a definition has room for.
pub(super) fn check(checks: &Checks, value: &Value, path: &str, faults: &mut Faults) -> u64 {
    any_of(checks, value, path, faults)
        + one_of(checks, value, path, faults)
        + all_of(checks, value, path, faults)
        + not(checks, value, path, faults)
}

fn any_of(checks: &Checks, value: &Value, path: &str, faults: &mut Faults) -> u64 {
    let mut best: Option<Outcome> = None;
    for schema in &checks.any_of {
        let outcome = faults.of(schema, value, path);
        if outcome.is_valid() {
            return outcome.counted;
        }
        keep_nearer(&mut best, outcome);
    }
    let Some(best) = best else { return 0 };
    faults.push(about(format!("{path:?} must validate at least one schema (anyOf)")));
    let counted = best.counted;
    faults.merge(best);
    counted
}

fn one_of(checks: &Checks, value: &Value, path: &str, faults: &mut Faults) -> u64 {
    let (mut best, mut valid, mut counted) = (None, 0, 0);
    for schema in &checks.one_of {
        let outcome = faults.of(schema, value, path);
        if outcome.is_valid() {
            valid += 1;
            counted = outcome.counted;
        } else if valid == 0 {
            keep_nearer(&mut best, outcome);
        }
    }
    let mut told = |count: &str| {
        faults.push(about(format!("{path:?} must validate one and only one schema (oneOf). {count}")));
    };
    match (valid, best) {
        (0, None) => 0,
        (0, Some(best)) => {
            told("Found none valid");
            let counted = best.counted;
            faults.merge(best);
            counted
        }
        (1, _) => counted,
        _ => {
            told(&format!("Found {valid} valid alternatives"));
            0
        }
    }
}

fn all_of(checks: &Checks, value: &Value, path: &str, faults: &mut Faults) -> u64 {
    let (mut valid, mut counted) = (0, 0);
    for schema in &checks.all_of {
        let outcome = faults.of(schema, value, path);
        valid += usize::from(outcome.is_valid());
        counted += outcome.counted;
        if !faults.is_full() {
            faults.merge(outcome);
        }
    }
    if valid < checks.all_of.len() {
        let none = if valid == 0 { ". None validated" } else { "" };
        faults.push(about(format!("{path:?} must validate all the schemas (allOf){none}")));
    }
    counted
}

fn not(checks: &Checks, value: &Value, path: &str, faults: &mut Faults) -> u64 {
    if let Some(schema) = &checks.not
        && faults.of(schema, value, path).is_valid()
    {
        faults.push(about(format!("{path:?} must not validate the schema (not)")));
    }
    0
}

/// Keeps the alternative whose faults are told; of those that are as near as each other, the first.
fn keep_nearer(best: &mut Option<Outcome>, next: Outcome) {
    if best.as_ref().is_none_or(|best| next.is_nearer(best)) {
        *best = Some(next);
    }
}

/// kube-apiserver has no field for these faults, and prints Go's nil.
pub(super) fn about(detail: String) -> FieldError {
    check::fault(FieldReason::Invalid, check::NOWHERE, "", &detail)
}
