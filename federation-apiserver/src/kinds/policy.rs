//! policy/v1 PodDisruptionBudget.

use apimachinery::{FieldError, FieldPath, labels::validate_label_selector, names::NameRule};
use serde_json::{Value, json};

use crate::{
    registry::{Column, ErrorList, Generation, Kind, count},
    validation::{intstr, non_negative, one_of},
};

pub(super) const KINDS: &[&Kind] = &[&Kind {
    group: "policy",
    kind: "PodDisruptionBudget",
    plural: "poddisruptionbudgets",
    singular: "poddisruptionbudget",
    short_names: &["pdb"],
    status: true,
    // Nothing is asked of its name, and of its metadata no more than of everything.
    name_rule: NameRule::PathSegment,
    bare_finalizers: true,
    generation: Generation::Spec,
    unconditional_update: false,
    columns: &[
        Column::NAME,
        Column::text("Min Available", "The minimum number of pods that must be available.", |object, _| {
            bound(&object["spec"]["minAvailable"])
        }),
        Column::text(
            "Max Unavailable",
            "The maximum number of pods that may be unavailable.",
            |object, _| bound(&object["spec"]["maxUnavailable"]),
        ),
        Column::integer(
            "Allowed Disruptions",
            "Calculated number of pods that may be disrupted at this time.",
            |object, _| count(object, "/status/disruptionsAllowed"),
        ),
        Column::AGE,
    ],
    prepare_create: |object| {
        object["status"] =
            json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0});
    },
    validate,
    ..Kind::BUILT_IN
}];

fn bound(value: &Value) -> Value {
    match value {
        Value::Null => "N/A".into(),
        Value::String(text) => text.as_str().into(),
        number => number.to_string().into(),
    }
}

fn validate(object: &Value, errors: &mut ErrorList) {
    let (spec, path) = (&object["spec"], FieldPath::new("spec"));
    if !spec["minAvailable"].is_null() && !spec["maxUnavailable"].is_null() {
        let message = "minAvailable and maxUnavailable cannot be both set";
        errors.push(FieldError::invalid(&path, spec.clone(), message));
    }
    for name in ["minAvailable", "maxUnavailable"] {
        intstr::non_negative(&spec[name], &path.child(name), errors);
        intstr::at_most_all(&spec[name], &path.child(name), errors);
    }
    let counts = ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];
    non_negative(&object["status"], &"status".into(), &counts, errors);
    if let Some(selector) = spec.get("selector") {
        errors.extend(validate_label_selector(selector, &path.child("selector")));
    }
    if let Some(policy) = spec["unhealthyPodEvictionPolicy"].as_str() {
        let known = ["AlwaysAllow", "IfHealthyBudget"];
        one_of(policy, &path.child("unhealthyPodEvictionPolicy"), &known, errors);
    }
}
