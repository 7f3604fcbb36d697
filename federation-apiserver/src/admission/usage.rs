//! What objects cost under a ResourceQuota. Pure.

use apimachinery::quantity::Quantity;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::{
    store::ResourceKey,
    validation::{
        pod, pod_resources,
        quantities::{Amounts, parse},
    },
};

/// Kinds whose count has a name of its own, besides `count/...`.
const COUNTED: [&str; 6] = [
    "configmaps",
    "persistentvolumeclaims",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
];
/// Container resources that a name without `requests.` or `limits.` stands for (their requests).
const SHORT: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// `count/deployments.apps`.
pub(crate) fn count_name(resource: &ResourceKey) -> String {
    format!("count/{resource}")
}

/// Whether the costs of this resource's objects differ, so that each must be looked at. All others cost one each.
pub(crate) fn differs(resource: &ResourceKey) -> bool {
    resource.group.is_empty() && matches!(&*resource.resource, "pods" | "services" | "persistentvolumeclaims")
}

/// Whether objects of a resource count for the quota resource of this name.
pub(crate) fn concerns(resource: &ResourceKey, name: &str) -> bool {
    if let Some(counted) = name.strip_prefix("count/") {
        return counted.split_once('.').map_or_else(
            || resource.group.is_empty() && counted == &*resource.resource,
            |(plural, group)| plural == &*resource.resource && group == &*resource.group,
        );
    }
    if !resource.group.is_empty() {
        return false;
    }
    match &*resource.resource {
        "pods" => {
            name == "pods"
                || SHORT.contains(&name)
                || (name.starts_with("requests.") || name.starts_with("limits."))
                    && name != "requests.storage"
                || name.starts_with("hugepages-")
        }
        "services" => name == "services" || name.starts_with("services."),
        "persistentvolumeclaims" => {
            name == "persistentvolumeclaims"
                || name == "requests.storage"
                || name.contains(".storageclass.storage.k8s.io/")
        }
        plural => name == plural && COUNTED.contains(&plural),
    }
}

/// What one object costs.
pub(crate) fn of(resource: &ResourceKey, object: &Value) -> Amounts {
    let one = Quantity::from_units(1);
    let mut amounts = Amounts::from([(count_name(resource), one)]);
    if !resource.group.is_empty() {
        return amounts;
    }
    match &*resource.resource {
        "pods" if matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) => {}
        "pods" => {
            amounts.insert("pods".to_owned(), one);
            amounts.extend(of_pod(&object["spec"]));
        }
        "services" => {
            amounts.insert("services".to_owned(), one);
            let ports = object["spec"]["ports"].as_array().map_or(0, Vec::len);
            let ports = Quantity::from_units(i64::try_from(ports).unwrap_or(i64::MAX));
            match object["spec"]["type"].as_str() {
                Some("NodePort") => {
                    amounts.insert("services.nodeports".to_owned(), ports);
                }
                Some("LoadBalancer") => {
                    amounts.insert("services.loadbalancers".to_owned(), one);
                    if object["spec"]["allocateLoadBalancerNodePorts"] != false {
                        amounts.insert("services.nodeports".to_owned(), ports);
                    }
                }
                _ => {}
            }
        }
        "persistentvolumeclaims" => {
            amounts.insert("persistentvolumeclaims".to_owned(), one);
            let storage = parse(&object["spec"]["resources"]["requests"]["storage"]).unwrap_or_default();
            amounts.insert("requests.storage".to_owned(), storage);
            if let Some(class) = object["spec"]["storageClassName"].as_str().filter(|class| !class.is_empty())
            {
                let prefix = format!("{class}.storageclass.storage.k8s.io");
                amounts.insert(format!("{prefix}/requests.storage"), storage);
                amounts.insert(format!("{prefix}/persistentvolumeclaims"), one);
            }
        }
        plural if COUNTED.contains(&plural) => {
            amounts.insert(plural.to_owned(), one);
        }
        _ => {}
    }
    amounts
}

/// The cost of a pod that is being deleted. A grace period after its time only the object itself counts, since its node may be lost.
pub(crate) fn of_deleted_pod(resource: &ResourceKey, pod: &Value, now: Timestamp) -> Amounts {
    let mut amounts = of(resource, pod);
    let metadata = &pod["metadata"];
    let until = metadata["deletionTimestamp"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
    if let (Some(until), Some(grace)) = (until, metadata["deletionGracePeriodSeconds"].as_i64())
        && now.duration_since(until) > SignedDuration::from_secs(grace)
    {
        amounts.retain(|name, _| name.starts_with("count/"));
    }
    amounts
}

fn of_pod(spec: &Value) -> Amounts {
    let mut amounts = Amounts::new();
    for (name, amount) in pod_resources::with_overhead(spec, "requests") {
        if SHORT.contains(&name.as_str()) || name.starts_with("hugepages-") {
            amounts.insert(name.clone(), amount);
        }
        amounts.insert(format!("requests.{name}"), amount);
    }
    for (name, amount) in pod_resources::with_overhead(spec, "limits") {
        amounts.insert(format!("limits.{name}"), amount);
    }
    amounts
}

/// What quota scopes look at in a pod.
#[derive(Debug)]
pub(crate) struct PodTraits {
    best_effort: bool,
    terminating: bool,
    class: Box<str>,
    /// Whether its affinity refers to pods in other namespaces.
    across: bool,
}

impl PodTraits {
    /// Those of a pod; other objects have none.
    pub(crate) fn of(resource: &ResourceKey, object: &Value) -> Option<Self> {
        if !resource.group.is_empty() || &*resource.resource != "pods" {
            return None;
        }
        let spec = &object["spec"];
        let affinity = &spec["affinity"];
        let affinity = if affinity.is_null() { String::new() } else { affinity.to_string() };
        Some(Self {
            best_effort: pod::qos_class(spec) == "BestEffort",
            terminating: spec["activeDeadlineSeconds"].as_i64().is_some_and(|seconds| seconds >= 0),
            class: spec["priorityClassName"].as_str().unwrap_or_default().into(),
            across: affinity.contains("\"namespaceSelector\":{") || affinity.contains("\"namespaces\":[\""),
        })
    }
}

/// Whether a quota has scopes.
pub(crate) fn is_scoped(quota: &Value) -> bool {
    let spec = &quota["spec"];
    spec["scopes"].as_array().is_some_and(|scopes| !scopes.is_empty()) || spec["scopeSelector"].is_object()
}

/// Whether a pod is in a quota's scopes. Other objects are only in scope of quotas without scopes.
pub(crate) fn in_scope(quota: &Value, pod: Option<&PodTraits>) -> bool {
    let spec = &quota["spec"];
    let scopes = spec["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let selectors = spec["scopeSelector"]["matchExpressions"].as_array().into_iter().flatten();
    let mut terms = scopes.map(|scope| (scope, "Exists", Vec::new())).chain(selectors.map(|term| {
        let values = term["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let text = |name: &str| term[name].as_str().unwrap_or_default();
        (text("scopeName"), text("operator"), values)
    }));
    terms.all(|(scope, operator, values)| pod.is_some_and(|pod| holds(scope, operator, &values, pod)))
}

fn holds(scope: &str, operator: &str, values: &[&str], pod: &PodTraits) -> bool {
    match scope {
        "BestEffort" => pod.best_effort,
        "NotBestEffort" => !pod.best_effort,
        "Terminating" => pod.terminating,
        "NotTerminating" => !pod.terminating,
        "PriorityClass" => match operator {
            "In" => values.contains(&&*pod.class),
            "NotIn" => !values.contains(&&*pod.class),
            "DoesNotExist" => pod.class.is_empty(),
            _ => !pod.class.is_empty(),
        },
        "CrossNamespacePodAffinity" => pod.across,
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn core(resource: &str) -> ResourceKey {
        ResourceKey::new("", resource)
    }

    #[test]
    fn a_pod_costs_what_its_containers_ask_for() {
        let pod = json!({"spec": {
            "containers": [
                {"resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": 1}}},
                {"resources": {"requests": {"cpu": "200m"}}},
            ],
            "initContainers": [{"resources": {"requests": {"cpu": "1", "memory": "1Mi"}}}],
        }});
        let amounts = of(&core("pods"), &pod);
        let text = |name: &str| amounts[name].to_string();
        assert_eq!(text("requests.cpu"), "1");
        assert_eq!(text("memory"), "64Mi");
        assert_eq!(text("limits.cpu"), "1");
        assert_eq!(text("pods"), "1");
        let done = json!({"spec": pod["spec"], "status": {"phase": "Succeeded"}});
        assert_eq!(of(&core("pods"), &done).keys().collect::<Vec<_>>(), ["count/pods"]);
    }

    #[test]
    fn a_pod_costs_the_most_that_it_has_at_any_time() {
        let of = |cpu: &str| json!({"requests": {"cpu": cpu}, "limits": {"cpu": cpu}});
        let mut spec = json!({
            "containers": [{"resources": of("1")}],
            "initContainers": [
                {"resources": of("1500m")},
                {"restartPolicy": "Always", "resources": of("500m")},
                {"resources": of("1200m")},
                {"restartPolicy": "Always", "resources": of("100m")},
            ],
        });
        let cost = |spec: &Value, side: &str| pod_resources::with_overhead(spec, side)["cpu"].to_string();
        // The init container with those that began before it.
        assert_eq!(cost(&spec, "requests"), "1700m");
        spec["overhead"] = json!({"cpu": "50m", "memory": "1Mi"});
        assert_eq!(cost(&spec, "requests"), "1750m");
        assert_eq!(cost(&spec, "limits"), "1750m");
        assert_eq!(pod_resources::with_overhead(&spec, "limits").len(), 1);
        assert_eq!(pod_resources::of_pod(&spec, "requests")["cpu"].to_string(), "1700m");
        spec["resources"] = json!({"requests": {"cpu": "3", "odd": "1"}});
        assert_eq!(cost(&spec, "requests"), "3050m");
        assert_eq!(pod_resources::of_pod(&spec, "requests").len(), 1);
    }

    #[test]
    fn a_pod_that_should_be_gone_is_not_charged() {
        let now: Timestamp = "2026-11-24T17:01:00Z".parse().unwrap();
        let costs = |until: &str| {
            let pod = json!({"metadata": {"deletionTimestamp": until, "deletionGracePeriodSeconds": 30}, "spec": {}});
            of_deleted_pod(&core("pods"), &pod, now).into_keys().collect::<Vec<_>>()
        };
        assert_eq!(costs("2026-11-24T17:00:30Z"), ["count/pods", "pods"]);
        assert_eq!(costs("2026-11-24T17:00:29Z"), ["count/pods"]);
    }

    #[test]
    fn names_belong_to_their_resources() {
        let deployments = ResourceKey::new("apps", "deployments");
        assert!(concerns(&deployments, "count/deployments.apps"));
        assert!(!concerns(&deployments, "count/deployments"));
        assert!(concerns(&core("configmaps"), "configmaps"));
        assert!(concerns(&core("services"), "services.nodeports"));
        assert!(concerns(&core("persistentvolumeclaims"), "requests.storage"));
        assert!(!concerns(&core("pods"), "requests.storage"));
        assert!(concerns(&core("pods"), "requests.nvidia.com/gpu"));
    }

    #[test]
    fn scopes_are_of_pods() {
        let quota = json!({"spec": {"scopes": ["BestEffort"]}});
        let in_scope = |quota: &Value, resource: &ResourceKey, object: &Value| {
            in_scope(quota, PodTraits::of(resource, object).as_ref())
        };
        let pod = json!({"spec": {"containers": [{}]}});
        assert!(in_scope(&quota, &core("pods"), &pod));
        assert!(!in_scope(&quota, &core("configmaps"), &json!({})));
        let wants = json!({"spec": {"containers": [{"resources": {"limits": {"cpu": "1"}}}]}});
        assert!(!in_scope(&quota, &core("pods"), &wants));
        let only_overhead = json!({"spec": {"containers": [{}], "overhead": {"cpu": "1"}}});
        assert!(in_scope(&quota, &core("pods"), &only_overhead));
    }
}
