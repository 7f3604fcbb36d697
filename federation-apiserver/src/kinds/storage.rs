//! storage.k8s.io/v1.

use apimachinery::{FieldError, FieldPath, meta::Scope};
use serde_json::{Value, json};

use crate::{
    registry::{Column, Faults, Kind, field},
    validation::{immutable, items, null_if_absent, one_of, quantities, required, set, set_text, text},
};

const BASE: Kind = Kind { group: "storage.k8s.io", scope: Scope::Cluster, ..Kind::BUILT_IN };

/// Marks the StorageClass of claims that name none.
const DEFAULT_CLASS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

pub(super) const KINDS: &[&Kind] = &[
    &Kind {
        kind: "CSIDriver",
        plural: "csidrivers",
        returns_deleted: true,
        singular: "csidriver",
        columns: &[
            Column::NAME,
            Column::boolean("AttachRequired", "Whether volumes are attached.", |object, _| {
                flag(object, "attachRequired", true)
            }),
            Column::boolean("PodInfoOnMount", "Whether it is told the pod.", |object, _| {
                flag(object, "podInfoOnMount", false)
            }),
            Column::boolean("StorageCapacity", "Whether capacity counts.", |object, _| {
                flag(object, "storageCapacity", false)
            }),
            Column::text("TokenRequests", "Audiences of its tokens.", |object, _| {
                let audiences =
                    items(&object["spec"], "tokenRequests").map(|request| text(request, "audience"));
                let all = audiences.collect::<Vec<_>>().join(",");
                if all.is_empty() { "<unset>".into() } else { all.into() }
            }),
            Column::boolean("RequiresRepublish", "Whether it is called again and again.", |object, _| {
                flag(object, "requiresRepublish", false)
            }),
            Column::text("Modes", "Life cycles of its volumes.", |object, _| {
                let modes = items(&object["spec"], "volumeLifecycleModes").filter_map(Value::as_str);
                let all = modes.collect::<Vec<_>>().join(",");
                if all.is_empty() { "<none>".into() } else { all.into() }
            }),
            Column::AGE,
        ],
        default: |object| {
            let spec = &mut object["spec"];
            for (name, value) in [
                ("attachRequired", true),
                ("podInfoOnMount", false),
                ("storageCapacity", false),
                ("requiresRepublish", false),
                ("seLinuxMount", false),
            ] {
                set(spec, name, value);
            }
            set(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
            if spec["volumeLifecycleModes"].as_array().is_none_or(Vec::is_empty) && spec.is_object() {
                spec["volumeLifecycleModes"] = json!(["Persistent"]);
            }
        },
        ..BASE
    },
    &Kind {
        kind: "CSINode",
        plural: "csinodes",
        returns_deleted: true,
        singular: "csinode",
        columns: &[
            Column::NAME,
            Column::integer("Drivers", "Drivers registered on the node.", |object, _| {
                object["spec"]["drivers"].as_array().map_or(0, Vec::len).into()
            }),
            Column::AGE,
        ],
        always: &["/spec/drivers"],
        default: |object| {
            if let Some(spec) = object.get_mut("spec") {
                null_if_absent(spec, "drivers");
            }
        },
        ..BASE
    },
    &Kind {
        kind: "CSIStorageCapacity",
        plural: "csistoragecapacities",
        singular: "csistoragecapacity",
        scope: Scope::Namespaced,
        columns: &[
            Column::NAME,
            Column::text("StorageClassName", "Whose capacity it is.", |object, _| {
                field(object, "/storageClassName")
            }),
            Column::text("Capacity", "How much there is.", |object, _| match &object["capacity"] {
                Value::Null => "<unset>".into(),
                amount => quantities::shown(amount).into(),
            }),
        ],
        validate: |object, faults| {
            required(object, &FieldPath::default(), "storageClassName", faults);
        },
        ..BASE
    },
    &Kind {
        kind: "StorageClass",
        plural: "storageclasses",
        returns_deleted: true,
        singular: "storageclass",
        short_names: &["sc"],
        columns: &[
            Column {
                cell: |object, _| {
                    let annotations = &object["metadata"]["annotations"];
                    let default = DEFAULT_CLASS.iter().any(|name| annotations[*name] == "true");
                    let name = text(&object["metadata"], "name");
                    if default { format!("{name} (default)").into() } else { name.into() }
                },
                ..Column::NAME
            },
            Column::text("Provisioner", "Who makes its volumes.", |object, _| field(object, "/provisioner")),
            Column::text(
                "ReclaimPolicy",
                "What happens to volumes that are released.",
                |object, _| match text(object, "reclaimPolicy") {
                    "" => "Delete".into(),
                    policy => policy.into(),
                },
            ),
            Column::text("VolumeBindingMode", "When volumes are made and bound.", |object, _| {
                match text(object, "volumeBindingMode") {
                    "" => "Immediate".into(),
                    mode => mode.into(),
                }
            }),
            Column::text("AllowVolumeExpansion", "Whether volumes can grow.", |object, _| {
                (object["allowVolumeExpansion"] == true).into()
            }),
            Column::AGE,
        ],
        default: |object| {
            set_text(object, "reclaimPolicy", "Delete");
            set_text(object, "volumeBindingMode", "Immediate");
        },
        validate: validate_class,
        validate_update: |new, old, faults| {
            for name in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
                let path = FieldPath::new(name);
                if new[name] != old[name] {
                    if name == "volumeBindingMode" {
                        immutable(&new[name], &old[name], &path, faults);
                    } else {
                        let message = format!("updates to {name} are forbidden.");
                        faults.push(FieldError::forbidden(&path, &message));
                    }
                }
            }
        },
        ..BASE
    },
    &Kind {
        kind: "VolumeAttachment",
        plural: "volumeattachments",
        returns_deleted: true,
        singular: "volumeattachment",
        status: true,
        columns: &[
            Column::NAME,
            Column::text("Attacher", "The driver that attaches.", |object, _| {
                field(object, "/spec/attacher")
            }),
            Column::text("PV", "The volume.", |object, _| field(object, "/spec/source/persistentVolumeName")),
            Column::text("Node", "The node.", |object, _| field(object, "/spec/nodeName")),
            Column::boolean("Attached", "Whether it is attached.", |object, _| {
                (object["status"]["attached"] == true).into()
            }),
            Column::AGE,
        ],
        prepare_create: |object| object["status"] = json!({"attached": false}),
        validate: |object, faults| {
            let (spec, path) = (&object["spec"], FieldPath::new("spec"));
            required(spec, &path, "attacher", faults);
            required(spec, &path, "nodeName", faults);
        },
        validate_update: |new, old, faults| {
            immutable(&new["spec"], &old["spec"], &"spec".into(), faults);
        },
        ..BASE
    },
    &Kind {
        kind: "VolumeAttributesClass",
        plural: "volumeattributesclasses",
        returns_deleted: true,
        singular: "volumeattributesclass",
        short_names: &["vac"],
        columns: &[
            Column::NAME,
            Column::text("DriverName", "Whose volumes it is for.", |object, _| field(object, "/driverName")),
            Column::AGE,
        ],
        validate: |object, faults| {
            required(object, &FieldPath::default(), "driverName", faults);
            if object["parameters"].as_object().is_none_or(serde_json::Map::is_empty) {
                faults.push(FieldError::required(
                    &"parameters".into(),
                    "must contain at least one key/value pair",
                ));
            }
        },
        validate_update: |new, old, faults| {
            for name in ["driverName", "parameters"] {
                immutable(&new[name], &old[name], &FieldPath::new(name), faults);
            }
        },
        ..BASE
    },
];

fn flag(object: &Value, name: &str, default: bool) -> Value {
    object["spec"][name].as_bool().unwrap_or(default).into()
}

fn validate_class(object: &Value, faults: &mut Faults) {
    let root = FieldPath::default();
    if let Some(name) = required(object, &root, "provisioner", faults) {
        let path = root.child("provisioner");
        let found = apimachinery::names::qualified_name(&name.to_lowercase());
        faults.extend(found.iter().map(|fault| FieldError::invalid(&path, name, fault)));
    }
    for (key, _) in object["parameters"].as_object().into_iter().flatten() {
        if key.is_empty() {
            let message = "field can not be empty.";
            faults.push(FieldError::invalid(&root.child("parameters"), key.as_str(), message));
        }
    }
    one_of(text(object, "reclaimPolicy"), &root.child("reclaimPolicy"), &["Delete", "Retain"], faults);
    let modes = ["Immediate", "WaitForFirstConsumer"];
    one_of(text(object, "volumeBindingMode"), &root.child("volumeBindingMode"), &modes, faults);
}
