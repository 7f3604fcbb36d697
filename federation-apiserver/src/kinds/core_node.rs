//! core/v1 Pod and Node. The federation itself has neither; sandbox members do, on this same server.

use apimachinery::meta::Scope;
use serde_json::{Value, json};

use crate::{
    registry::{Column, Generation, Kind, field},
    validation::pod,
};

pub(super) const KINDS: &[&Kind] = &[
    &Kind {
        kind: "Pod",
        plural: "pods",
        singular: "pod",
        short_names: &["po"],
        categories: &["all"],
        status: true,
        generation: Generation::Spec,
        unconditional_update: false,
        columns: &[
            Column::NAME,
            Column::text("Ready", "Ready containers of all.", |object, _| ready(object)),
            Column::text("Status", "Phase.", |object, _| phase(object)),
            Column::text("Restarts", "How often containers restarted.", |object, _| restarts(object)),
            Column::AGE,
            Column::text("IP", "Its address.", |object, _| or_none(field(object, "/status/podIP"))).wide(),
            Column::text("Node", "Where it runs.", |object, _| or_none(field(object, "/spec/nodeName")))
                .wide(),
        ],
        selectable: &[
            ("spec.nodeName", "/spec/nodeName"),
            ("spec.restartPolicy", "/spec/restartPolicy"),
            ("spec.schedulerName", "/spec/schedulerName"),
            ("spec.serviceAccountName", "/spec/serviceAccountName"),
            ("spec.hostNetwork", "/spec/hostNetwork"),
            ("status.phase", "/status/phase"),
            ("status.podIP", "/status/podIP"),
            ("status.nominatedNodeName", "/status/nominatedNodeName"),
        ],
        default: |object| pod::default_spec(&mut object["spec"]),
        prepare_create: |object| object["status"] = json!({"phase": "Pending"}),
        validate: |object, faults| pod::validate_spec(&object["spec"], &"spec".into(), faults),
        ..Kind::BUILT_IN
    },
    &Kind {
        kind: "Node",
        plural: "nodes",
        singular: "node",
        short_names: &["no"],
        scope: Scope::Cluster,
        status: true,
        columns: &[
            Column::NAME,
            Column::text("Status", "Whether it is ready.", |object, _| node_ready(object)),
            Column::AGE,
            Column::text("Version", "Kubelet's version.", |object, _| {
                field(object, "/status/nodeInfo/kubeletVersion")
            }),
        ],
        selectable: &[("spec.unschedulable", "/spec/unschedulable")],
        ..Kind::BUILT_IN
    },
];

fn or_none(value: Value) -> Value {
    if value == "" { "<none>".into() } else { value }
}

fn statuses(object: &Value) -> impl Iterator<Item = &Value> {
    object["status"]["containerStatuses"].as_array().into_iter().flatten()
}

fn ready(object: &Value) -> Value {
    let ready = statuses(object).filter(|status| status["ready"] == true).count();
    format!("{ready}/{}", object["spec"]["containers"].as_array().map_or(0, Vec::len)).into()
}

fn phase(object: &Value) -> Value {
    if object["metadata"]["deletionTimestamp"].is_string() {
        return "Terminating".into();
    }
    let reason = field(object, "/status/reason");
    if reason == "" { field(object, "/status/phase") } else { reason }
}

fn restarts(object: &Value) -> Value {
    statuses(object).filter_map(|status| status["restartCount"].as_i64()).sum::<i64>().to_string().into()
}

fn node_ready(object: &Value) -> Value {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let ready = conditions.into_iter().find(|condition| condition["type"] == "Ready");
    let mut text = match ready {
        Some(condition) if condition["status"] == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if object["spec"]["unschedulable"] == true {
        text.push_str(",SchedulingDisabled");
    }
    text.into()
}
