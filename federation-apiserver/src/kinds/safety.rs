//! The kinds of group `federation.rs` that limit removals.

use apimachinery::{FieldError, FieldPath, meta::Scope, names::NameRule};
use federation_core::api;
use serde_json::Value;

use super::federation::{BASE, parses};
use crate::registry::{Column, ErrorList, Kind, field};

const CLUSTER_SCOPED: Kind = Kind {
    scope: Scope::Cluster,
    name_rule: NameRule::Dns1123Subdomain,
    // Nothing writes one yet.
    status: false,
    ..BASE
};

pub(super) const KINDS: &[&Kind] = &[
    &Kind {
        kind: "DeletionBudget",
        plural: "deletionbudgets",
        singular: "deletionbudget",
        short_names: &["fdb"],
        columns: &[
            Column::NAME,
            Column::text("Objects", "Copies that one cause may remove.", |object, _| {
                field(object, "/spec/objects")
            }),
            Column::text("Percent", "Share of all copies.", |object, _| {
                field(object, "/spec/percentOfFleet")
            }),
            Column::text("Window", "Seconds.", |object, _| field(object, "/spec/windowSeconds")),
            Column::AGE,
        ],
        validate: |object, errors| {
            if parses::<api::DeletionBudget>(object, errors) {
                budget(&object["spec"], errors);
            }
        },
        ..CLUSTER_SCOPED
    },
    &Kind {
        kind: "HeldRemoval",
        plural: "heldremovals",
        singular: "heldremoval",
        short_names: &["fhr"],
        columns: &[
            Column::NAME,
            Column::text("Cause", "What would remove them.", |object, _| field(object, "/spec/cause")),
            Column::text("Copies", "How many would go.", |object, _| field(object, "/spec/copies")),
            Column::text("Decision", "What a person decided.", |object, _| field(object, "/spec/decision")),
            Column::AGE,
        ],
        validate: |object, errors| {
            parses::<api::HeldRemoval>(object, errors);
        },
        ..CLUSTER_SCOPED
    },
    &Kind {
        kind: "Trash",
        plural: "trash",
        singular: "trash",
        short_names: &["ftr"],
        columns: &[
            Column::NAME,
            Column::text("Kind", "What was deleted.", |object, _| field(object, "/spec/kind")),
            Column::text("Namespace", "Where it was.", |object, _| field(object, "/spec/namespace")),
            Column::text("Object", "Its name.", |object, _| field(object, "/spec/name")),
            Column::text("Expires", "When it is gone for good.", |object, _| field(object, "/spec/expires")),
            Column::AGE,
        ],
        validate: |object, errors| {
            parses::<api::Trash>(object, errors);
        },
        ..CLUSTER_SCOPED
    },
];

fn budget(spec: &Value, errors: &mut ErrorList) {
    for (name, most) in [("percentOfFleet", 100), ("windowSeconds", 86_400)] {
        let path = FieldPath::new("spec").child(name);
        if let Some(value) = spec[name].as_i64().filter(|value| !(1..=most).contains(value)) {
            errors.push(FieldError::invalid(&path, value, &format!("must be between 1 and {most}")));
        }
    }
}
