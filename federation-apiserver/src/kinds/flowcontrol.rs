//! flowcontrol.apiserver.k8s.io/v1: how requests are classed and how many of a class run at a time.

mod rules;

use apimachinery::meta::Scope;
use serde_json::{Value, json};

use crate::{
    registry::{Column, Generation, Kind, field},
    validation::{condition, set, set_text, text},
};

const BASE: Kind = Kind {
    group: "flowcontrol.apiserver.k8s.io",
    scope: Scope::Cluster,
    status: true,
    generation: Generation::Spec,
    ..Kind::BUILT_IN
};

pub(super) const KINDS: &[&Kind] = &[
    &Kind {
        kind: "FlowSchema",
        plural: "flowschemas",
        singular: "flowschema",
        columns: &[
            Column::NAME,
            Column::text("PriorityLevel", "Where its requests are counted.", |object, _| {
                field(object, "/spec/priorityLevelConfiguration/name")
            }),
            Column::integer("MatchingPrecedence", "Which schema is asked first.", |object, _| {
                object["spec"]["matchingPrecedence"].as_i64().unwrap_or_default().into()
            }),
            Column::text("DistinguisherMethod", "What tells its flows apart.", |object, _| {
                object["spec"]["distinguisherMethod"]["type"].as_str().unwrap_or("<none>").into()
            }),
            Column::AGE,
            Column::text("MissingPL", "Whether that priority level is missing.", |object, _| {
                condition(object, "Dangling").map_or("?", |condition| text(condition, "status")).into()
            }),
        ],
        default: |object| {
            set(&mut object["spec"], "matchingPrecedence", 1000);
        },
        prepare_create: |object| object["status"] = json!({}),
        validate: rules::schema,
        ..BASE
    },
    &Kind {
        kind: "PriorityLevelConfiguration",
        plural: "prioritylevelconfigurations",
        singular: "prioritylevelconfiguration",
        columns: &[
            Column::NAME,
            Column::text("Type", "Limited or exempt.", |object, _| field(object, "/spec/type")),
            Column::text("NominalConcurrencyShares", "Its share.", |object, _| {
                let exempt = &object["spec"]["exempt"]["nominalConcurrencyShares"];
                shown(if exempt.is_null() {
                    &object["spec"]["limited"]["nominalConcurrencyShares"]
                } else {
                    exempt
                })
            }),
            Column::text("Queues", "How many queues.", |object, _| queuing(object, "queues")),
            Column::text("HandSize", "How many queues a flow may use.", |object, _| {
                queuing(object, "handSize")
            }),
            Column::text("QueueLengthLimit", "How long a queue may be.", |object, _| {
                queuing(object, "queueLengthLimit")
            }),
            Column::AGE,
        ],
        default,
        prepare_create: |object| object["status"] = json!({}),
        validate: rules::level,
        ..BASE
    },
];

fn shown(value: &Value) -> Value {
    value.as_i64().map_or_else(|| "<none>".to_owned(), |number| number.to_string()).into()
}

fn queuing(object: &Value, name: &str) -> Value {
    shown(&object["spec"]["limited"]["limitResponse"]["queuing"][name])
}

fn default(object: &mut Value) {
    let spec = &mut object["spec"];
    if let Some(exempt) = spec.get_mut("exempt") {
        set(exempt, "nominalConcurrencyShares", 0);
        set(exempt, "lendablePercent", 0);
    }
    if let Some(limited) = spec.get_mut("limited") {
        set(limited, "nominalConcurrencyShares", 30);
        set(limited, "lendablePercent", 0);
        set(limited, "limitResponse", json!({}));
        let response = &mut limited["limitResponse"];
        set_text(response, "type", "Reject");
        if let Some(queuing) = response.get_mut("queuing") {
            set(queuing, "handSize", 8);
            set(queuing, "queues", 64);
            set(queuing, "queueLengthLimit", 50);
        }
    }
}
