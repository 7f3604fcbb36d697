//! scheduling.k8s.io/v1 PriorityClass and node.k8s.io/v1 RuntimeClass.

use std::collections::HashSet;

use apimachinery::{FieldError, FieldPath, labels::validate_labels, meta::Scope};
use serde_json::json;

use crate::{
    registry::{Column, Kind, field},
    validation::{immutable, items, label, listed, pod_spec, pod_warnings, quantities, set, text},
};

/// Above this only the system's own classes are.
const USER_HIGHEST: i64 = 1_000_000_000;

pub(super) const KINDS: &[&Kind] = &[
    &Kind {
        group: "scheduling.k8s.io",
        kind: "PriorityClass",
        plural: "priorityclasses",
        singular: "priorityclass",
        short_names: &["pc"],
        scope: Scope::Cluster,
        generation: crate::registry::Generation::Fixed,
        columns: &[
            Column::NAME,
            Column::integer("Value", "The priority that pods of this class receive.", |object, _| {
                object["value"].as_i64().unwrap_or_default().into()
            }),
            Column::boolean("Global-Default", "Whether pods without a class have this one.", |object, _| {
                (object["globalDefault"] == true).into()
            }),
            Column::AGE,
            Column::text("PreemptionPolicy", "Whether pods of it preempt others.", |object, _| {
                field(object, "/preemptionPolicy")
            }),
        ],
        default: |object| {
            set(object, "value", 0);
            set(object, "preemptionPolicy", "PreemptLowerPriority");
        },
        validate: |object, errors| {
            let value = object["value"].as_i64().unwrap_or_default();
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            if name.starts_with("system-") {
                if !matches!(name, "system-node-critical" | "system-cluster-critical") {
                    let message = format!(
                        "priority class names with 'system-' prefix are reserved for system use only. error: {name} is not a known system priority class"
                    );
                    errors.push(FieldError::forbidden(&"metadata.name".into(), &message));
                }
            } else if value > USER_HIGHEST {
                let message = format!("maximum allowed value of a user defined priority is {USER_HIGHEST}");
                errors.push(FieldError::forbidden(&"value".into(), &message));
            }
            let known = ["PreemptLowerPriority", "Never"];
            listed(text(object, "preemptionPolicy"), &"preemptionPolicy".into(), &known, errors);
        },
        validate_update: |new, old, errors| {
            if new["value"] != old["value"] {
                errors.push(FieldError::forbidden(&"Value".into(), "may not be changed in an update."));
            }
            immutable(&new["preemptionPolicy"], &old["preemptionPolicy"], &"preemptionPolicy".into(), errors);
        },
        ..Kind::BUILT_IN
    },
    &Kind {
        group: "node.k8s.io",
        kind: "RuntimeClass",
        plural: "runtimeclasses",
        singular: "runtimeclass",
        scope: Scope::Cluster,
        bare_finalizers: true,
        unconditional_update: false,
        create_on_update: true,
        warn: |object, _| {
            let selector = object["scheduling"]["nodeSelector"].as_object().into_iter().flatten();
            let told = selector.filter_map(|(label, _)| pod_warnings::former(label));
            told.map(|why| format!("scheduling.nodeSelector: {why}")).collect()
        },
        columns: &[
            Column::NAME,
            Column::text("Handler", "The name of the runtime's configuration.", |object, _| {
                field(object, "/handler")
            }),
            Column::AGE,
        ],
        validate: |object, errors| {
            label(text(object, "handler"), &"handler".into(), errors);
            // Told as the limits that it stands for.
            let limits = json!({"limits": object["overhead"]["podFixed"]});
            quantities::container(&limits, &"overhead".into(), errors);
            if let Some(selector) = object["scheduling"].get("nodeSelector") {
                errors.gather(|errors| validate_labels(selector, &"scheduling.nodeSelector".into(), errors));
            }
            let (mut seen, path) = (HashSet::new(), FieldPath::new("scheduling.tolerations"));
            for (index, toleration) in items(&object["scheduling"], "tolerations").enumerate() {
                pod_spec::toleration(toleration, &path.index(index), errors);
                if !seen.insert(["key", "operator", "value", "effect"].map(|field| text(toleration, field))) {
                    errors.push(FieldError::duplicate(&path.index(index), toleration.clone()));
                }
            }
        },
        validate_update: |new, old, errors| {
            immutable(&new["handler"], &old["handler"], &"handler".into(), errors);
        },
        ..Kind::BUILT_IN
    },
];
