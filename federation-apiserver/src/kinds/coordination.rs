//! coordination.k8s.io/v1 Lease.

use apimachinery::{FieldError, FieldPath};
use serde_json::Value;

use crate::registry::{Column, Faults, Kind, field};

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
    unconditional_update: false,
    create_on_update: true,
    validate,
    ..Kind::BUILT_IN
}];

fn validate(object: &Value, faults: &mut Faults) {
    let spec = FieldPath::new("spec");
    if let Some(seconds) = object["spec"]["leaseDurationSeconds"].as_i64()
        && seconds <= 0
    {
        faults.push(FieldError::invalid(
            &spec.child("leaseDurationSeconds"),
            seconds,
            "must be greater than 0",
        ));
    }
    if let Some(transitions) = object["spec"]["leaseTransitions"].as_i64()
        && transitions < 0
    {
        let message = "must be greater than or equal to 0";
        faults.push(FieldError::invalid(&spec.child("leaseTransitions"), transitions, message));
    }
}
