//! What a pod has as a whole: its resources (KEP-2837), and claims of devices (KEP-4381).

use std::collections::{BTreeSet, HashMap, HashSet};

use apimachinery::{FieldError, FieldPath, FieldReason, quantity::Quantity};
use serde_json::{Value, json};

use super::{
    items, label,
    quantities::{self, Amounts},
    subdomain, text, visit,
};
use crate::registry::ErrorList;

/// Claims of devices, by names that are the pod's own: `validation.validatePodResourceClaims`.
pub(super) fn claims(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let mut seen = HashSet::new();
    for (index, claim) in items(spec, "resourceClaims").enumerate() {
        let path = path.child("resourceClaims").index(index);
        let name = text(claim, "name");
        if name.is_empty() {
            errors.push(FieldError::required(&path.child("name"), ""));
        } else if seen.insert(name) {
            label(name, &path.child("name"), errors);
        } else {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
        let sources = ["resourceClaimName", "resourceClaimTemplateName"];
        let message = match sources.iter().filter(|source| claim[**source].is_string()).count() {
            0 => "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            1 => "",
            _ => "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
        };
        if !message.is_empty() {
            errors.push(FieldError::invalid(&path, claim.clone(), message));
        }
        for source in sources {
            if let Some(name) = claim[source].as_str() {
                subdomain(name, &path.child(source), errors);
            }
        }
    }
}

/// What the containers of a pod may name of its claims.
pub(super) struct Claims<'a> {
    names: BTreeSet<&'a str>,
    /// Why a name is none of them.
    told: String,
}

/// Bytes of names that are told to whoever names another one. Each of many may be told.
const TOLD_MAX: usize = 1024;

impl<'a> Claims<'a> {
    pub(super) fn of(spec: &'a Value) -> Self {
        let all = items(spec, "resourceClaims").map(|claim| text(claim, "name"));
        let names: BTreeSet<_> = all.filter(|name| !name.is_empty()).collect();
        let mut told = "must be one of the names in pod.spec.resourceClaims".to_owned();
        if names.is_empty() {
            told.push_str(" which is empty");
        }
        for (index, name) in names.iter().enumerate() {
            if told.len() + name.len() > TOLD_MAX {
                told.push_str(", ...");
                break;
            }
            told.push_str(if index == 0 { ": " } else { ", " });
            told.push_str(name);
        }
        Self { names, told }
    }

    /// What a container uses is claimed by its pod, and once: `validation.validateResourceClaimNames`.
    pub(super) fn validate(&self, container: &'a Value, path: &FieldPath, errors: &mut ErrorList) {
        let path = path.child("resources").child("claims");
        let (mut whole, mut parts) = (HashSet::new(), HashMap::<&str, HashSet<&str>>::new());
        for (index, claim) in items(&container["resources"], "claims").enumerate() {
            let (name, request, path) = (text(claim, "name"), text(claim, "request"), path.index(index));
            if name.is_empty() {
                errors.push(FieldError::required(&path, ""));
                continue;
            }
            let used = parts.entry(name).or_default();
            if whole.contains(name) {
                errors.push(FieldError::duplicate(&path, name));
            } else if request.is_empty() {
                // A claim is used as a whole, or by its requests.
                errors.extend(used.iter().map(|_| FieldError::duplicate(&path, name)));
                whole.insert(name);
            } else {
                label(request, &path.child("request"), errors);
                if !used.insert(request) {
                    errors.push(FieldError::duplicate(&path, format!("{name}/{request}")));
                }
            }
            if !self.names.contains(name) {
                let name = name.into();
                errors.push(FieldError::new(FieldReason::NotFound, &path, Some(&name), &self.told));
            }
        }
    }
}

/// What a whole pod may ask for.
fn is_for_pods(resource: &str) -> bool {
    matches!(resource, "cpu" | "memory") || resource.starts_with("hugepages-")
}

/// `validation.validatePodResourceName`.
fn name_for_pods(name: &str, path: &FieldPath, errors: &mut ErrorList) {
    let before = errors.len();
    quantities::standard_name(name, path, errors);
    if errors.len() == before && !is_for_pods(name) {
        errors.push(FieldError::not_supported(path, name, &["cpu", "hugepages-", "memory"]));
    }
}

/// The resources of the whole pod, which those of its containers fit into: `validation.validatePodResources`.
pub(super) fn validate(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let (resources, path) = (&spec["resources"], path.child("resources"));
    if !resources.is_object() {
        return;
    }
    if spec["os"]["name"] == "windows" {
        errors.push(FieldError::forbidden(&path, "may not be set for a windows pod"));
        return;
    }
    if !resources["claims"].is_null() {
        let message = "claims may not be set for Resources at pod-level";
        errors.push(FieldError::forbidden(&path.child("claims"), message));
    }
    quantities::requirements(resources, &path, name_for_pods, errors);
    let mut covers = |part: &str, name: &str, sum: Quantity| {
        // What is not said of the pod is not asked of it.
        let Some(own) = quantities::parse(&resources[part][name]) else { return };
        if sum > own {
            let message = format!("must be greater than or equal to aggregate container {part} of {sum}");
            errors.push(FieldError::invalid(&path.child(part).key(name), own.to_string(), &message));
        }
    };
    for (name, sum) in of_containers(spec, "requests") {
        covers("requests", &name, sum);
    }
    for (name, sum) in of_containers(spec, "limits") {
        if is_huge(&name) {
            covers("limits", &name, sum);
        }
    }
    for (index, container) in items(spec, "containers").enumerate() {
        for (name, limit) in container["resources"]["limits"].as_object().into_iter().flatten() {
            let (Some(limit), Some(whole)) =
                (quantities::parse(limit), quantities::parse(&resources["limits"][name]))
            else {
                continue;
            };
            if limit > whole {
                let message = format!("must be less than or equal to pod limits of {whole}");
                let path = path.child("containers").index(index).key(name).child("limits");
                errors.push(FieldError::invalid(&path, limit.to_string(), &message));
            }
        }
    }
}

/// `resourcehelper.AggregateContainerRequests` and its sibling for limits: what runs at the same time, added; of what runs before, the most.
fn of_containers(spec: &Value, part: &str) -> Amounts {
    let amounts = |container: &Value| quantities::amounts(&container["resources"][part]);
    let mut sum = Amounts::new();
    let add = |to: &mut Amounts, name: String, amount: Quantity| {
        let place = to.entry(name).or_default();
        *place = place.saturating_add(amount);
    };
    for container in items(spec, "containers") {
        for (name, amount) in amounts(container) {
            add(&mut sum, name, amount);
        }
    }
    // Of what a container does not name only sidecars have some, who are in the sum.
    let (mut sidecars, mut most) = (Amounts::new(), Amounts::new());
    for container in items(spec, "initContainers") {
        let sidecar = visit::is_sidecar(container);
        for (name, amount) in amounts(container) {
            let beside = sidecars.get(&name).copied().unwrap_or_default().saturating_add(amount);
            if sidecar {
                add(&mut sum, name.clone(), amount);
                sidecars.insert(name.clone(), beside);
            }
            let place = most.entry(name).or_default();
            *place = (*place).max(beside);
        }
    }
    for (name, amount) in most {
        let place = sum.entry(name).or_default();
        *place = (*place).max(amount);
    }
    sum
}

/// Whether a pod says something of its resources as a whole: `resourcehelper.IsPodLevelResourcesSet`.
pub(crate) fn has_own(spec: &Value) -> bool {
    let said = |part: &str| spec["resources"][part].as_object().into_iter().flatten();
    said("limits").chain(said("requests")).any(|(name, _)| is_for_pods(name))
}

/// What a pod requests, or is limited to: what is said of it as a whole, else what its containers come to.
pub(crate) fn of_pod(spec: &Value, part: &str) -> Amounts {
    let mut total = of_containers(spec, part);
    total.extend(
        quantities::amounts(&spec["resources"][part]).into_iter().filter(|(name, _)| is_for_pods(name)),
    );
    total
}

/// The same with what it takes to run it (`resourcehelper.PodRequests` and `PodLimits`).
pub(crate) fn with_overhead(spec: &Value, part: &str) -> Amounts {
    let mut total = of_pod(spec, part);
    for (name, amount) in quantities::amounts(&spec["overhead"]) {
        // What has no limit gets none by this.
        let limited = total.get(&name).is_some_and(|amount| !amount.is_zero());
        if part == "requests" || limited {
            let place = total.entry(name).or_default();
            *place = place.saturating_add(amount);
        }
    }
    total
}

fn is_huge(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// What a pod that says something of its resources has by that: `defaultHugePagePodLimits` and `defaultPodRequests`.
pub(super) fn default(spec: &mut Value) {
    let said = |spec: &Value, part: &str| spec["resources"][part].as_object().cloned().unwrap_or_default();
    let (mut limits, mut requests) = (said(spec, "limits"), said(spec, "requests"));
    if limits.is_empty() && requests.is_empty() {
        return;
    }
    for (name, sum) in of_containers(spec, "limits") {
        if is_huge(&name) && !requests.contains_key(&name) && !limits.contains_key(&name) {
            limits.insert(name, sum.to_string().into());
        }
    }
    if limits.is_empty() {
        return;
    }
    // Huge pages are never overcommitted.
    for (name, sum) in of_containers(spec, "requests") {
        if matches!(name.as_str(), "cpu" | "memory") && !requests.contains_key(&name) {
            requests.insert(name, sum.to_string().into());
        }
    }
    for (name, limit) in &limits {
        if is_for_pods(name) && !requests.contains_key(name) {
            requests.insert(name.clone(), limit.clone());
        }
    }
    spec["resources"]["limits"] = json!(limits);
    if !requests.is_empty() {
        spec["resources"]["requests"] = json!(requests);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[track_caller]
    fn told(spec: &Value, expect: &[&str]) {
        let mut errors = ErrorList::new();
        claims(spec, &FieldPath::new("spec"), &mut errors);
        validate(spec, &FieldPath::new("spec"), &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    fn with(pod: Value, container: Value) -> Value {
        json!({"resources": pod, "containers": [{"resources": container}]})
    }

    #[test]
    fn containers_fit_into_their_pod() {
        told(&with(json!({"requests": {"cpu": "2"}}), json!({"requests": {"cpu": "2"}})), &[]);
        told(
            &with(json!({"requests": {"cpu": "1"}}), json!({"requests": {"cpu": "2"}})),
            &[
                r#"spec.resources.requests[cpu]: Invalid value: "1": must be greater than or equal to aggregate container requests of 2"#,
            ],
        );
        told(
            &with(json!({"limits": {"cpu": "1"}}), json!({"limits": {"cpu": "2"}})),
            &[
                r#"spec.resources.containers[0][cpu].limits: Invalid value: "2": must be less than or equal to pod limits of 1"#,
            ],
        );
        told(
            &with(json!({"limits": {"example.com/x": "1"}, "requests": {"example.com/x": "1"}}), json!({})),
            &[
                r#"spec.resources.limits[example.com/x]: Unsupported value: "example.com/x": supported values: "cpu", "hugepages-", "memory""#,
                r#"spec.resources.requests[example.com/x]: Unsupported value: "example.com/x": supported values: "cpu", "hugepages-", "memory""#,
            ],
        );
    }

    #[test]
    fn sidecars_count_beside_what_runs_before_and_after_them() {
        let asks = |cpu: &str| json!({"requests": {"cpu": cpu}});
        let spec = json!({
            "initContainers": [{"resources": asks("1"), "restartPolicy": "Always"}, {"resources": asks("4")}],
            "containers": [{"resources": asks("2")}],
        });
        let sum = of_containers(&spec, "requests");
        assert_eq!(sum.get("cpu").map(ToString::to_string).as_deref(), Some("5"));
    }

    #[test]
    fn what_is_said_of_a_pod_as_a_whole_counts() {
        let mut spec = with(
            json!({"requests": {"cpu": "4"}}),
            json!({"requests": {"cpu": "1", "example.com/a": "1"}, "limits": {"memory": "1Gi"}}),
        );
        spec["overhead"] = json!({"cpu": "1", "memory": "1Gi"});
        let text = |part: &str| -> BTreeMap<String, String> {
            with_overhead(&spec, part).into_iter().map(|(name, amount)| (name, amount.to_string())).collect()
        };
        let pair = |name: &str, amount: &str| (name.to_owned(), amount.to_owned());
        assert_eq!(
            text("requests"),
            BTreeMap::from([pair("cpu", "5"), pair("example.com/a", "1"), pair("memory", "1Gi")])
        );
        assert_eq!(text("limits"), BTreeMap::from([pair("memory", "2Gi")]));
        assert!(has_own(&spec));
        assert!(!has_own(&json!({"resources": {}})));
    }

    #[test]
    fn a_pod_asks_for_what_its_containers_ask_for_or_for_its_limits() {
        let mut spec =
            with(json!({"limits": {"cpu": "2", "memory": "1Gi"}}), json!({"requests": {"cpu": "1"}}));
        default(&mut spec);
        assert_eq!(spec["resources"]["requests"], json!({"cpu": "1", "memory": "1Gi"}));
        let mut plain = json!({"containers": [{"resources": {"requests": {"cpu": "1"}}}]});
        default(&mut plain);
        assert!(plain["resources"].is_null());
        let mut asking = with(json!({"requests": {"cpu": "2"}}), json!({"requests": {"memory": "1Gi"}}));
        let once = asking.clone();
        default(&mut asking);
        assert_eq!(asking, once, "what has no limit keeps to its words");
    }

    #[test]
    fn huge_pages_of_containers_are_limits_of_their_pod() {
        let huge = json!({"limits": {"hugepages-2Mi": "4Mi"}});
        let mut spec = with(json!({"limits": {"cpu": "1"}}), huge.clone());
        default(&mut spec);
        assert_eq!(spec["resources"]["limits"], json!({"cpu": "1", "hugepages-2Mi": "4Mi"}));
        assert_eq!(spec["resources"]["requests"], spec["resources"]["limits"]);
        told(
            &with(json!({"limits": {"cpu": "1", "hugepages-2Mi": "2Mi"}}), huge),
            &[
                r#"spec.resources.limits[hugepages-2Mi]: Invalid value: "2Mi": must be greater than or equal to aggregate container limits of 4Mi"#,
                r#"spec.resources.containers[0][hugepages-2Mi].limits: Invalid value: "4Mi": must be less than or equal to pod limits of 2Mi"#,
            ],
        );
    }

    #[test]
    fn a_pod_is_not_asked_for_what_only_containers_have() {
        let devices = json!({"requests": {"example.com/gpu": "1"}, "limits": {"example.com/gpu": "1"}});
        told(&with(json!({"requests": {"cpu": "1"}}), devices), &[]);
        let mut windows = with(json!({"requests": {"cpu": "1"}}), json!({}));
        windows["os"] = json!({"name": "windows"});
        told(&windows, &["spec.resources: Forbidden: may not be set for a windows pod"]);
        told(
            &with(json!({"requests": {"odd": "1"}}), json!({})),
            &[
                r#"spec.resources.requests[odd]: Invalid value: "odd": must be a standard resource type or fully qualified"#,
            ],
        );
    }

    #[test]
    fn many_sidecars_are_added_up_at_once() {
        let sidecar = |number: usize| json!({"restartPolicy": "Always", "resources": {"requests": {format!("example.com/a{number}"): 1}}});
        let spec = json!({"initContainers": (0..50_000).map(sidecar).collect::<Vec<_>>()});
        assert_eq!(of_containers(&spec, "requests").len(), 50_000);
    }

    #[test]
    fn a_claim_has_one_source_and_a_name_of_its_own() {
        told(
            &json!({"resourceClaims": [{"name": "a", "resourceClaimName": "x"}, {"name": "a"}]}),
            &[
                r#"spec.resourceClaims[1].name: Duplicate value: "a""#,
                r#"spec.resourceClaims[1]: Invalid value: {"name":"a"}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"#,
            ],
        );
        let spec = json!({"resourceClaims": [{"name": "d"}, {"name": "a"}]});
        let used = |claims: Value, expect: &[&str]| {
            let mut errors = ErrorList::new();
            let container = json!({"resources": {"claims": claims}});
            Claims::of(&spec).validate(&container, &FieldPath::new("c"), &mut errors);
            assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
        };
        used(json!([{"name": "a", "request": "x"}, {"name": "a", "request": "y"}, {"name": "d"}]), &[]);
        used(
            json!([{"name": "a"}, {"name": "b"}, {"name": "a"}, {}]),
            &[
                r#"c.resources.claims[1]: Not found: "b": must be one of the names in pod.spec.resourceClaims: a, d"#,
                r#"c.resources.claims[2]: Duplicate value: "a""#,
                "c.resources.claims[3]: Required value",
            ],
        );
        used(
            json!([{"name": "a", "request": "x"}, {"name": "a", "request": "x"}, {"name": "a"}]),
            &[
                r#"c.resources.claims[1]: Duplicate value: "a/x""#,
                r#"c.resources.claims[2]: Duplicate value: "a""#,
            ],
        );
    }
}
