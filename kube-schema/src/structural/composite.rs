//! allOf, anyOf, oneOf and not, as kube-openapi's `schemaPropsValidator` tells them.

use apimachinery::{FieldError, FieldReason};
use serde_json::Value;

use super::{Checks, Structural, check};

/// Checks the alternatives of one node. Returns how many checks of theirs count ([`check::check`]).
pub(super) fn check(checks: &Checks, value: &Value, path: &str, faults: &mut Vec<FieldError>) -> u64 {
    let try_one = |schema: &Structural| Outcome::of(schema, value, path);
    let mut counted = 0;
    if !checks.any_of.is_empty() {
        let mut best: Option<Outcome> = None;
        for schema in &checks.any_of {
            let outcome = try_one(schema);
            if outcome.is_valid() || best.as_ref().is_none_or(|best| outcome.is_nearer(best)) {
                best = Some(outcome);
            }
            if best.as_ref().is_some_and(Outcome::is_valid) {
                break;
            }
        }
        if let Some(best) = best {
            if !best.is_valid() {
                faults.push(about(format!("{path:?} must validate at least one schema (anyOf)")));
            }
            counted += best.counted;
            faults.extend(best.faults);
        }
    }
    if !checks.one_of.is_empty() {
        let (valid, misfits): (Vec<_>, Vec<_>) =
            checks.one_of.iter().map(try_one).partition(Outcome::is_valid);
        let mut told = |count: &str| {
            faults.push(about(format!("{path:?} must validate one and only one schema (oneOf). {count}")));
        };
        match valid.as_slice() {
            [only] => counted += only.counted,
            [] => {
                told("Found none valid");
                // Of those that are as near as each other, the first.
                let best =
                    misfits.into_iter().reduce(|best, next| if next.is_nearer(&best) { next } else { best });
                if let Some(best) = best {
                    counted += best.counted;
                    faults.extend(best.faults);
                }
            }
            several => told(&format!("Found {} valid alternatives", several.len())),
        }
    }
    if !checks.all_of.is_empty() {
        let outcomes: Vec<_> = checks.all_of.iter().map(try_one).collect();
        let valid = outcomes.iter().filter(|outcome| outcome.is_valid()).count();
        counted += outcomes.iter().map(|outcome| outcome.counted).sum::<u64>();
        if valid < outcomes.len() {
            let none = if valid == 0 { ". None validated" } else { "" };
            faults.extend(outcomes.into_iter().flat_map(|outcome| outcome.faults));
            faults.push(about(format!("{path:?} must validate all the schemas (allOf){none}")));
        }
    }
    if let Some(schema) = &checks.not
        && try_one(schema).is_valid()
    {
        faults.push(about(format!("{path:?} must not validate the schema (not)")));
    }
    counted
}

/// What one alternative says of a value.
struct Outcome {
    counted: u64,
    faults: Vec<FieldError>,
}

impl Outcome {
    fn of(schema: &Structural, value: &Value, path: &str) -> Self {
        let mut faults = Vec::new();
        let counted = check::check(schema, value, None, path, &mut faults);
        Self { counted, faults }
    }

    fn is_valid(&self) -> bool {
        self.faults.is_empty()
    }

    /// Whether more was checked, and found right: the faults of that alternative are told.
    fn is_nearer(&self, other: &Self) -> bool {
        self.counted > other.counted
    }
}

/// kube-apiserver has no field for these faults, and prints Go's nil.
pub(super) fn about(detail: String) -> FieldError {
    check::fault(FieldReason::Invalid, check::NOWHERE, "", &detail)
}
