//! coordination.k8s.io/v1 Lease.

use apimachinery::{FieldError, FieldPath};
use serde_json::Value;

use crate::registry::{Column, ErrorList, Kind, field};

pub(super) const KINDS: &[&Kind] = &[&Kind {
    group: "coordination.k8s.io",
    kind: "Lease",
    plural: "leases",
    singular: "lease",
    columns: &[
        Column::NAME,
        Column::text("Holder", "Who holds it.", |object, _| field(object, "/spec/holderIdentity")),
        Column::AGE,
    ],
    bare_finalizers: true,
    unconditional_update: false,
    create_on_update: true,
    prepare_create: |object| drop_disabled(object, &Value::Null),
    prepare_update: drop_disabled,
    validate,
    ..Kind::BUILT_IN
}];

/// Takes away what `CoordinatedLeaderElection`, which is off, would elect by, unless it was there before.
fn drop_disabled(object: &mut Value, old: &Value) {
    for name in ["strategy", "preferredHolder"] {
        if old["spec"][name].is_null()
            && let Some(spec) = object["spec"].as_object_mut()
        {
            spec.remove(name);
        }
    }
}

fn validate(object: &Value, errors: &mut ErrorList) {
    let spec = FieldPath::new("spec");
    if let Some(seconds) = object["spec"]["leaseDurationSeconds"].as_i64()
        && seconds <= 0
    {
        errors.push(FieldError::invalid(
            &spec.child("leaseDurationSeconds"),
            seconds,
            "must be greater than 0",
        ));
    }
    if let Some(transitions) = object["spec"]["leaseTransitions"].as_i64()
        && transitions < 0
    {
        let message = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(&spec.child("leaseTransitions"), transitions, message));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nobody_is_elected_by_a_strategy() {
        let lease = |spec: Value| json!({"spec": spec});
        let coordinated = lease(json!({"holderIdentity": "a", "strategy": "OldestEmulationVersion"}));
        let kept = |old: &Value| {
            let mut new = coordinated.clone();
            drop_disabled(&mut new, old);
            new
        };
        assert_eq!(kept(&Value::Null), lease(json!({"holderIdentity": "a"})));
        assert_eq!(kept(&coordinated), coordinated);
    }
}
