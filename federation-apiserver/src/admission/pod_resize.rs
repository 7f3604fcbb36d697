//! Which resizes of pods a node can do: those that its declared features allow (the plugin `NodeDeclaredFeatureValidator`), up to its capacity,
//! and on Linux (`PodResizeValidator`).

use apimachinery::{ApiError, field::quoted};
use serde_json::Value;

use crate::{
    store::{Key, ResourceKey},
    validation::{
        items,
        pod_resources::with_overhead,
        quantities::{Amounts, amounts, parse},
        text,
    },
    verbs::Call,
};

const SYSTEM: &str = "kubernetes.io/os";

/// Checks a resize of a pod that is on a node. Other writes of pods pass.
pub(super) fn check(call: &Call, name: &str, old: Option<&Value>, new: &Value) -> Result<(), ApiError> {
    let resizes = call.path.subresource.as_deref() == Some("resize");
    let Some(old) = old.filter(|_| resizes) else { return Ok(()) };
    let at = text(&new["spec"], "nodeName");
    // A container that does not change is not counted.
    if at.is_empty() || new["metadata"]["generation"] == old["metadata"]["generation"] {
        return Ok(());
    }
    let refused = |why: &str| ApiError::forbidden(&call.resource(), name, why);
    let found = call.shared.storage.get(&Key::new(ResourceKey::new("", "nodes"), "", at));
    let Some(node) = found.and_then(|stored| stored.value().ok()) else {
        return Err(refused(&format!("node {} not found", quoted(at))));
    };
    let declares = |feature: &str| {
        items(&node["status"], "declaredFeatures").any(|declared| declared.as_str() == Some(feature))
    };
    let missing: Vec<&str> = needed(old, new).filter(|feature| !declares(feature)).collect();
    if !missing.is_empty() {
        let (features, at) = (missing.join(", "), quoted(at));
        let why = format!("pod update requires features {features} which are not available on node {at}");
        return Err(refused(&why));
    }
    if let Some(why) = excess(&new["spec"], &node["status"]["allocatable"]) {
        return Err(refused(&why).with_cause("NodeCapacity", "", ""));
    }
    let system = text(&node["metadata"]["labels"], SYSTEM);
    if system != "linux" {
        let (at, system) = (quoted(at), quoted(system));
        let why = format!("pod resize is only supported on linux nodes, node {at} is {system}");
        return Err(refused(&why).with_cause("UnsupportedPlatform", "", ""));
    }
    Ok(())
}

/// The features that a node must have declared for such a resize.
fn needed(old: &Value, new: &Value) -> impl Iterator<Item = &'static str> + use<> {
    let cpu = |container: &Value| parse(&container["resources"]["requests"]["cpu"]).unwrap_or_default();
    let mut both = items(&old["spec"], "containers").zip(items(&new["spec"], "containers"));
    let exclusive = text(&old["status"], "qosClass") == "Guaranteed"
        && both.any(|(before, after)| cpu(before) != cpu(after));
    let whole = old["spec"]["resources"] != new["spec"]["resources"];
    let all = [
        exclusive.then_some("GuaranteedQoSPodCPUResize"),
        whole.then_some("InPlacePodLevelResourcesVerticalScaling"),
    ];
    all.into_iter().flatten()
}

/// The pod's requests that exceed its node's capacity.
fn excess(spec: &Value, allocatable: &Value) -> Option<String> {
    let (requests, has) = (with_overhead(spec, "requests"), amounts(allocatable));
    let told: Vec<String> = ["cpu", "memory"]
        .iter()
        .filter_map(|name| {
            let of = |amounts: &Amounts| {
                let amount = amounts.get(*name).copied().unwrap_or_default();
                if *name == "cpu" { amount.millis() } else { amount.units() }
            };
            let (asked, has) = (of(&requests), of(&has));
            (asked > has).then(|| format!("{name}, requested: {asked}, allocatable: {has}"))
        })
        .collect();
    (!told.is_empty()).then(|| format!("Node didn't have enough allocatable resources: {}", told.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn some_resizes_are_not_for_every_node() {
        let pod = |class: &str, cpu: &str, whole: Value| {
            let containers = json!([{"resources": {"requests": {"cpu": cpu}}}]);
            json!({"spec": {"containers": containers, "resources": whole}, "status": {"qosClass": class}})
        };
        let needs = |class: &str, cpu: &str, whole: &str| -> Vec<_> {
            let amount = |cpu: &str| json!({"requests": {"cpu": cpu}});
            needed(&pod(class, "1", amount("4")), &pod(class, cpu, amount(whole))).collect()
        };
        assert!(needs("Burstable", "2", "4").is_empty());
        assert!(needs("Guaranteed", "1000m", "4").is_empty());
        assert_eq!(needs("Guaranteed", "2", "4"), ["GuaranteedQoSPodCPUResize"]);
        assert_eq!(needs("Burstable", "2", "5"), ["InPlacePodLevelResourcesVerticalScaling"]);
    }

    #[track_caller]
    fn check(spec: Value, expect: Option<&str>) {
        let allocatable = json!({"cpu": "2", "memory": "1Gi"});
        let whole = expect.map(|what| format!("Node didn't have enough allocatable resources: {what}"));
        assert_eq!(excess(&spec, &allocatable), whole);
    }

    #[test]
    fn a_pod_is_no_larger_than_its_node() {
        let containers =
            |cpu: &str, memory: &str| json!([{"resources": {"requests": {"cpu": cpu, "memory": memory}}}]);
        check(json!({"containers": containers("2", "1Gi")}), None);
        check(json!({"containers": [{}]}), None);
        let both =
            "cpu, requested: 2500, allocatable: 2000; memory, requested: 2147483648, allocatable: 1073741824";
        check(json!({"containers": containers("2500m", "2Gi")}), Some(both));
        check(
            json!({"containers": containers("2", "1"), "overhead": {"cpu": "1m"}}),
            Some("cpu, requested: 2001, allocatable: 2000"),
        );
        let whole = json!({"requests": {"cpu": "3"}});
        check(
            json!({"containers": containers("1", "1"), "resources": whole}),
            Some("cpu, requested: 3000, allocatable: 2000"),
        );
    }
}
