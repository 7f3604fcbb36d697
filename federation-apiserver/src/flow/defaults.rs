//! The FlowSchemas and PriorityLevelConfigurations that kube-apiserver makes at its start, as far as they are about clients that a
//! control plane without nodes has (`pkg/apis/flowcontrol/bootstrap`).

use serde_json::{Value, json};

/// What nobody may change: without it there would be requests that belong nowhere.
const MANDATORY: [&str; 2] = ["exempt", "catch-all"];

/// The spec that a level must have, if it is one of those that no server is without.
pub(crate) fn mandatory_level(name: &str) -> Option<Value> {
    MANDATORY
        .contains(&name)
        .then(|| levels().into_iter().find(|(known, _)| *known == name))?
        .map(|(_, spec)| spec)
}

/// The spec that a schema must have, if it is one of those that no server is without.
pub(crate) fn mandatory_schema(name: &str) -> Option<Value> {
    MANDATORY
        .contains(&name)
        .then(|| schemas().into_iter().find(|(known, _)| *known == name))?
        .map(|(_, spec)| spec)
}

/// The levels by name, with their specs.
pub(crate) fn levels() -> [(&'static str, Value); 4] {
    let limited = |shares: i64, lendable: i64, response: Value| {
        json!({"type": "Limited", "limited": {
            "nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response,
        }})
    };
    let queue = |hand: i64| json!({"type": "Queue", "queuing": {"queues": 128, "handSize": hand, "queueLengthLimit": 50}});
    [
        (
            "exempt",
            json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}),
        ),
        ("workload-low", limited(100, 90, queue(6))),
        ("global-default", limited(20, 50, queue(6))),
        ("catch-all", limited(5, 0, json!({"type": "Reject"}))),
    ]
}

/// The schemas by name, with their specs.
pub(crate) fn schemas() -> [(&'static str, Value); 5] {
    let group = |name: &str| json!({"kind": "Group", "group": {"name": name}});
    let everything = json!({
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    });
    let spec = |precedence: i64, level: &str, by_user: bool, subjects: Vec<Value>, rules: &Value| {
        let mut rules = rules.clone();
        rules["subjects"] = subjects.into();
        let mut spec = json!({
            "matchingPrecedence": precedence, "priorityLevelConfiguration": {"name": level}, "rules": [rules],
        });
        if by_user {
            spec["distinguisherMethod"] = json!({"type": "ByUser"});
        }
        spec
    };
    let all = || vec![group("system:unauthenticated"), group("system:authenticated")];
    let probes = json!({"nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]});
    [
        ("exempt", spec(1, "exempt", false, vec![group("system:masters")], &everything)),
        ("probes", spec(2, "exempt", false, all(), &probes)),
        (
            "service-accounts",
            spec(9000, "workload-low", true, vec![group("system:serviceaccounts")], &everything),
        ),
        ("global-default", spec(9900, "global-default", true, all(), &everything)),
        ("catch-all", spec(10_000, "catch-all", true, all(), &everything)),
    ]
}
