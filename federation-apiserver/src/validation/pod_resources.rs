//! What a pod has as a whole: its resources (KEP-2837), and claims of devices (KEP-4381).

use std::collections::{BTreeMap, HashSet};

use apimachinery::{FieldError, FieldPath, quantity::Quantity};
use serde_json::{Value, json};

use super::{items, label, quantities, subdomain, text};
use crate::registry::Faults;

/// Claims of devices, by names that are the pod's own: `validation.validatePodResourceClaims`.
pub(super) fn claims(spec: &Value, path: &FieldPath, faults: &mut Faults) {
    let mut seen = HashSet::new();
    for (index, claim) in items(spec, "resourceClaims").enumerate() {
        let path = path.child("resourceClaims").index(index);
        let name = text(claim, "name");
        if name.is_empty() {
            faults.push(FieldError::required(&path.child("name"), ""));
        } else if seen.insert(name) {
            label(name, &path.child("name"), faults);
        } else {
            faults.push(FieldError::duplicate(&path.child("name"), name));
        }
        let sources = ["resourceClaimName", "resourceClaimTemplateName"];
        let message = match sources.iter().filter(|source| claim[**source].is_string()).count() {
            0 => "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            1 => "",
            _ => "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
        };
        if !message.is_empty() {
            faults.push(FieldError::invalid(&path, claim.clone(), message));
        }
        for source in sources {
            if let Some(name) = claim[source].as_str() {
                subdomain(name, &path.child(source), faults);
            }
        }
    }
}

/// What a container uses is claimed by its pod, and once.
pub(super) fn claims_of_container(
    container: &Value,
    path: &FieldPath,
    known: &HashSet<&str>,
    faults: &mut Faults,
) {
    let path = path.child("resources").child("claims");
    let mut seen = HashSet::new();
    for (index, claim) in items(&container["resources"], "claims").enumerate() {
        let (name, path) = (text(claim, "name"), path.index(index));
        if name.is_empty() {
            faults.push(FieldError::required(&path.child("name"), ""));
            continue;
        }
        let request = text(claim, "request");
        let used = if request.is_empty() { name.to_owned() } else { format!("{name}/{request}") };
        if !seen.insert(used.clone()) {
            faults.push(FieldError::duplicate(&path, used.as_str()));
        }
        if !known.contains(name) {
            faults.push(FieldError::not_found(&path.child("name"), name));
        }
    }
}

/// What a whole pod may ask for.
fn is_for_pods(resource: &str) -> bool {
    matches!(resource, "cpu" | "memory") || resource.starts_with("hugepages-")
}

/// The resources of the whole pod, which those of its containers fit into: `validation.validatePodResources`.
pub(super) fn validate(spec: &Value, path: &FieldPath, faults: &mut Faults) {
    let (resources, path) = (&spec["resources"], path.child("resources"));
    if !resources.is_object() {
        return;
    }
    if !resources["claims"].is_null() {
        let message = "claims cannot be set for Resources at pod-level";
        faults.push(FieldError::forbidden(&path.child("claims"), message));
    }
    for part in ["limits", "requests"] {
        for (name, _) in resources[part].as_object().into_iter().flatten() {
            if !is_for_pods(name) {
                let path = path.child(part).key(name);
                faults.push(FieldError::not_supported(
                    &path,
                    name.as_str(),
                    &["cpu", "hugepages-", "memory"],
                ));
            }
        }
    }
    quantities::container(resources, &path, faults);
    for (name, sum) in requests_of_containers(spec) {
        let own = quantities::parse(&resources["requests"][&name]).unwrap_or_default();
        if sum > own {
            let message = format!("must be greater than or equal to aggregate container requests of {sum}");
            let path = path.child("requests").key(&name);
            faults.push(FieldError::invalid(&path, own.to_string(), &message));
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
                faults.push(FieldError::invalid(&path, limit.to_string(), &message));
            }
        }
    }
}

/// `resourcehelper.AggregateContainerRequests`: what runs at the same time, added; of what runs before, the most.
fn requests_of_containers(spec: &Value) -> BTreeMap<String, Quantity> {
    let requests = |container: &Value| -> Vec<(String, Quantity)> {
        let all = container["resources"]["requests"].as_object().into_iter().flatten();
        all.filter_map(|(name, amount)| Some((name.clone(), quantities::parse(amount)?))).collect()
    };
    let mut sum: BTreeMap<String, Quantity> = BTreeMap::new();
    let add = |to: &mut BTreeMap<String, Quantity>, name: String, amount: Quantity| {
        let place = to.entry(name).or_default();
        *place = place.saturating_add(amount);
    };
    for container in items(spec, "containers") {
        for (name, amount) in requests(container) {
            add(&mut sum, name, amount);
        }
    }
    let (mut sidecars, mut most) = (BTreeMap::new(), BTreeMap::<String, Quantity>::new());
    for container in items(spec, "initContainers") {
        let sidecar = container["restartPolicy"] == "Always";
        let mut beside = sidecars.clone();
        for (name, amount) in requests(container) {
            if sidecar {
                add(&mut sum, name.clone(), amount);
                add(&mut sidecars, name.clone(), amount);
            }
            add(&mut beside, name, amount);
        }
        for (name, amount) in beside {
            let place = most.entry(name).or_default();
            *place = (*place).max(amount);
        }
    }
    for (name, amount) in most {
        let place = sum.entry(name).or_default();
        *place = (*place).max(amount);
    }
    sum
}

/// What a pod that says something of its resources asks for by that: `defaultPodRequests`.
pub(super) fn default(spec: &mut Value) {
    if !spec["resources"].is_object() {
        return;
    }
    let mut requests = spec["resources"]["requests"].as_object().cloned().unwrap_or_default();
    // Huge pages are never overcommitted.
    for (name, sum) in requests_of_containers(spec) {
        if matches!(name.as_str(), "cpu" | "memory") && !requests.contains_key(&name) {
            requests.insert(name, sum.to_string().into());
        }
    }
    for (name, limit) in spec["resources"]["limits"].as_object().into_iter().flatten() {
        if is_for_pods(name) && !requests.contains_key(name) {
            requests.insert(name.clone(), limit.clone());
        }
    }
    if !requests.is_empty() {
        spec["resources"]["requests"] = json!(requests);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn told(spec: &Value, expect: &[&str]) {
        let mut faults = Faults::new();
        claims(spec, &FieldPath::new("spec"), &mut faults);
        validate(spec, &FieldPath::new("spec"), &mut faults);
        assert_eq!(faults.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
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
        let sum = requests_of_containers(&spec);
        assert_eq!(sum.get("cpu").map(ToString::to_string).as_deref(), Some("5"));
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
        let mut faults = Faults::new();
        let container = json!({"resources": {"claims": [{"name": "a"}, {"name": "b"}, {"name": "a"}]}});
        claims_of_container(&container, &FieldPath::new("c"), &HashSet::from(["a"]), &mut faults);
        assert_eq!(
            faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                r#"c.resources.claims[1].name: Not found: "b""#,
                r#"c.resources.claims[2]: Duplicate value: "a""#,
            ]
        );
    }
}
