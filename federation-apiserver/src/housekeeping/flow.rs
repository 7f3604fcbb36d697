//! The FlowSchemas and PriorityLevelConfigurations that kube-apiserver makes at its start, as far as they are about clients that a
//! control plane without nodes has.

use serde_json::{Value, json};

use super::Action;
use crate::store::{Key, ResourceKey, Snapshot};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";

/// Makes what is not there.
pub(super) fn required(snapshot: &Snapshot) -> Vec<Action> {
    let levels = levels()
        .map(|(name, spec)| ("prioritylevelconfigurations", "PriorityLevelConfiguration", name, spec));
    let schemas = schemas().map(|(name, spec)| ("flowschemas", "FlowSchema", name, spec));
    let all = levels.into_iter().chain(schemas);
    all.filter_map(|(resource, kind, name, spec)| {
        let key = Key::new(ResourceKey::new(GROUP, resource), "", name);
        let object = json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": kind,
            "metadata": {
                "name": name, "generation": 1, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"},
            },
            "spec": spec, "status": {},
        });
        snapshot.get(&key).is_none().then_some(Action::Create { key, object })
    })
    .collect()
}

fn levels() -> [(&'static str, Value); 4] {
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

fn schemas() -> [(&'static str, Value); 5] {
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
