//! What the status of a Pod tells of what its containers have: claims of devices, how well these are, and users.

use std::collections::{HashMap, HashSet};

use apimachinery::{FieldError, FieldPath};
use serde_json::Value;

use super::status::LISTS;
use crate::{
    registry::ErrorList,
    validation::{items, label, one_of, security_context, subdomain, text},
};

/// Which claims were made for a pod: `validation.validatePodResourceClaimStatuses`.
pub(super) fn claims(pod: &Value, errors: &mut ErrorList) {
    let path = FieldPath::new("status.resourceClaimStatuses");
    let known: HashSet<&str> =
        items(&pod["spec"], "resourceClaims").map(|claim| text(claim, "name")).collect();
    let mut seen = HashSet::new();
    for (index, claim) in items(&pod["status"], "resourceClaimStatuses").enumerate() {
        let (name, path) = (text(claim, "name"), path.index(index));
        if !known.contains(name) {
            let message = "must match the name of an entry in `spec.resourceClaims`";
            errors.push(FieldError::invalid(&path.child("name"), name, message));
        }
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
        if let Some(name) = claim["resourceClaimName"].as_str() {
            subdomain(name, &path.child("resourceClaimName"), errors);
        }
    }
}

/// The claim that stands for resources which containers ask for by name: `validation.validatePodExtendedResourceClaimStatus`.
pub(super) fn extended_claim(pod: &Value, errors: &mut ErrorList) {
    let (claim, spec) = (&pod["status"]["extendedResourceClaimStatus"], &pod["spec"]);
    let path = FieldPath::new("status.extendedResourceClaimStatus");
    if !claim.is_object() {
        return;
    }
    let containers: HashMap<&str, &Value> = ["initContainers", "containers"]
        .into_iter()
        .flat_map(|list| items(spec, list))
        .map(|container| (text(container, "name"), container))
        .collect();
    let mappings = path.child("requestMappings");
    if items(claim, "requestMappings").next().is_none() {
        errors.push(FieldError::required(&mappings, "at least one request mapping is required"));
    }
    let mut seen = HashSet::new();
    for (index, mapping) in items(claim, "requestMappings").enumerate() {
        let place = mappings.index(index);
        let told =
            ["containerName", "resourceName", "requestName"].map(|field| (field, text(mapping, field)));
        let [(_, container), (_, resource), (_, request)] = told;
        match containers.get(container) {
            Some(container) if container["resources"]["requests"].get(resource).is_none() => {
                let message = "must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests";
                errors.push(FieldError::invalid(&place.child("resourceName"), resource, message));
            }
            Some(_) => {}
            None => {
                let message =
                    "must match the name of an entry in spec.initContainers.name or spec.containers.name";
                errors.push(FieldError::invalid(&place.child("containerName"), container, message));
            }
        }
        // Without the place of its mapping, as kube-apiserver names it.
        label(request, &path.child("requestName"), errors);
        if !seen.insert((container, resource, request)) {
            errors.extend(told.map(|(field, value)| FieldError::duplicate(&place.child(field), value)));
        }
    }
    let path = path.child("resourceClaimName");
    match text(claim, "resourceClaimName") {
        "" => errors.push(FieldError::required(&path, "")),
        name => subdomain(name, &path, errors),
    }
}

/// Who a container runs as: `validation.validateContainerStatusUsers`.
pub(super) fn users(pod: &Value, errors: &mut ErrorList) {
    let system = pod["spec"]["os"]["name"].as_str().unwrap_or("linux");
    for (list, _) in LISTS {
        for (index, state) in items(&pod["status"], list).enumerate() {
            let user = &state["user"]["linux"];
            if !user.is_object() {
                continue;
            }
            let path = FieldPath::new("status").child(list).index(index).child("user").child("linux");
            match system {
                "windows" => errors.push(FieldError::forbidden(&path, "cannot be set for a windows pod")),
                "linux" => {
                    for name in ["uid", "gid"] {
                        security_context::id(&user[name], &path.child(name), errors);
                    }
                    for (at, group) in items(user, "supplementalGroups").enumerate() {
                        security_context::id(group, &path.child("supplementalGroups").index(at), errors);
                    }
                }
                _ => {}
            }
        }
    }
}

/// `core.ResourceHealthMessageMaxLength`.
const LONGEST_MESSAGE: usize = 1024;

/// How well the devices of a container are: `validation.validateContainerStatusAllocatedResourcesStatus`.
pub(super) fn allocated(pod: &Value, errors: &mut ErrorList) {
    for (list, containers) in LISTS {
        let path = FieldPath::new("status").child(list);
        let mut known: HashMap<&str, Asked<'_>> = HashMap::new();
        for container in items(&pod["spec"], containers) {
            known.entry(text(container, "name")).or_insert_with(|| Asked::by(container));
        }
        for (index, state) in items(&pod["status"], list).enumerate() {
            let path = path.index(index).child("allocatedResourcesStatus");
            if containers == "ephemeralContainers" {
                if items(state, "allocatedResourcesStatus").next().is_some() {
                    errors.push(FieldError::forbidden(&path, "must not be specified in container status"));
                }
                continue;
            }
            let asked = known.get(text(state, "name"));
            for (at, resource) in items(state, "allocatedResourcesStatus").enumerate() {
                let path = path.index(at);
                if let Some(asked) = asked {
                    asked.check(text(resource, "name"), &path.child("name"), errors);
                }
                health(resource, &path.child("resources"), errors);
            }
        }
    }
}

/// What a container asks for: resources, and claims or parts of them.
struct Asked<'a> {
    resources: &'a Value,
    claims: HashSet<String>,
}

impl<'a> Asked<'a> {
    fn by(container: &'a Value) -> Self {
        let resources = &container["resources"];
        let named = |claim: &Value| match (text(claim, "name"), text(claim, "request")) {
            (name, "") => name.to_owned(),
            (name, request) => format!("{name}/{request}"),
        };
        Self { resources, claims: items(resources, "claims").map(named).collect() }
    }

    fn check(&self, name: &str, path: &FieldPath, errors: &mut ErrorList) {
        let (asked, message) = match name.strip_prefix("claim:") {
            Some(name) => (
                self.claims.contains(name),
                "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty",
            ),
            None => (
                self.resources["requests"].get(name).is_some(),
                "must match one of the container's resource requests",
            ),
        };
        if !asked {
            errors.push(FieldError::invalid(path, name, message));
        }
    }
}

fn health(resource: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let mut seen = HashSet::new();
    for (index, device) in items(resource, "resources").enumerate() {
        let (path, id) = (path.index(index), text(device, "resourceID"));
        one_of(text(device, "health"), &path.child("health"), &["Healthy", "Unhealthy", "Unknown"], errors);
        match device["message"].as_str().map(str::len) {
            Some(0) => {
                let message = "must be non-empty if specified";
                errors.push(FieldError::required(&path.child("message"), message));
            }
            Some(length) if length > LONGEST_MESSAGE => {
                errors.push(FieldError::too_long(&path.child("message"), LONGEST_MESSAGE));
            }
            _ => {}
        }
        if !seen.insert(id) {
            errors.push(FieldError::duplicate(&path.child("resourceID"), id));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What is wrong with a status.
    #[track_caller]
    fn told(spec: &Value, status: Value, expect: &[&str]) {
        let pod = json!({"spec": spec, "status": status});
        let mut errors = ErrorList::new();
        for rule in [claims, extended_claim, users, allocated] {
            rule(&pod, &mut errors);
        }
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn claims_in_a_status_are_those_of_the_pod() {
        let spec = json!({"resourceClaims": [{"name": "a"}]});
        told(&spec, json!({"resourceClaimStatuses": [{"name": "a", "resourceClaimName": "x"}]}), &[]);
        told(
            &spec,
            json!({"resourceClaimStatuses": [{"name": "b"}, {"name": "b"}]}),
            &[
                r#"status.resourceClaimStatuses[0].name: Invalid value: "b": must match the name of an entry in `spec.resourceClaims`"#,
                r#"status.resourceClaimStatuses[1].name: Invalid value: "b": must match the name of an entry in `spec.resourceClaims`"#,
                r#"status.resourceClaimStatuses[1].name: Duplicate value: "b""#,
            ],
        );
        let spec = json!({"containers": [{"name": "c", "resources": {"requests": {"example.com/a": 1}}}]});
        let mapping = |container: &str, resource: &str| json!({"containerName": container, "resourceName": resource, "requestName": "r"});
        let with = |mappings: Value, name: &str| json!({"extendedResourceClaimStatus": {"requestMappings": mappings, "resourceClaimName": name}});
        told(&spec, with(json!([mapping("c", "example.com/a")]), "x"), &[]);
        let path = "status.extendedResourceClaimStatus";
        told(
            &spec,
            with(json!([]), ""),
            &[
                &format!("{path}.requestMappings: Required value: at least one request mapping is required"),
                &format!("{path}.resourceClaimName: Required value"),
            ],
        );
        let once = mapping("d", "example.com/a");
        told(
            &spec,
            with(json!([mapping("c", "example.com/b"), once, once]), "x"),
            &[
                &format!(
                    "{path}.requestMappings[0].resourceName: Invalid value: \"example.com/b\": must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests"
                ),
                &format!(
                    "{path}.requestMappings[1].containerName: Invalid value: \"d\": must match the name of an entry in spec.initContainers.name or spec.containers.name"
                ),
                &format!(
                    "{path}.requestMappings[2].containerName: Invalid value: \"d\": must match the name of an entry in spec.initContainers.name or spec.containers.name"
                ),
                &format!("{path}.requestMappings[2].containerName: Duplicate value: \"d\""),
                &format!("{path}.requestMappings[2].resourceName: Duplicate value: \"example.com/a\""),
                &format!("{path}.requestMappings[2].requestName: Duplicate value: \"r\""),
            ],
        );
    }

    #[test]
    fn who_a_container_runs_as_and_what_it_has_is_what_can_be() {
        let with = |user: Value| json!({"containerStatuses": [{"name": "c", "user": {"linux": user}}]});
        let user = with(json!({"uid": -1, "gid": 0}));
        let error = "status.containerStatuses[0].user.linux.uid: Invalid value: -1: must be between 0 and 2147483647, inclusive";
        told(&json!({}), user.clone(), &[error]);
        let error = "status.containerStatuses[0].user.linux: Forbidden: cannot be set for a windows pod";
        told(&json!({"os": {"name": "windows"}}), user, &[error]);
        let spec = json!({"containers": [{"name": "c", "resources": {
            "requests": {"example.com/a": 1}, "claims": [{"name": "x", "request": "y"}, {"name": "z"}],
        }}]});
        let with = |name: &str, devices: Value| json!({"containerStatuses": [{"name": "c", "allocatedResourcesStatus": [{"name": name, "resources": devices}]}]});
        for name in ["example.com/a", "claim:x/y", "claim:z"] {
            told(&spec, with(name, json!([{"resourceID": "1", "health": "Healthy"}])), &[]);
        }
        let path = "status.containerStatuses[0].allocatedResourcesStatus[0]";
        told(
            &spec,
            with(
                "claim:x",
                json!([{"resourceID": "1", "health": "Odd", "message": ""}, {"resourceID": "1", "health": "Unknown"}]),
            ),
            &[
                &format!(
                    "{path}.name: Invalid value: \"claim:x\": must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty"
                ),
                &format!(
                    r#"{path}.resources[0].health: Unsupported value: "Odd": supported values: "Healthy", "Unhealthy", "Unknown""#
                ),
                &format!("{path}.resources[0].message: Required value: must be non-empty if specified"),
                &format!(r#"{path}.resources[1].resourceID: Duplicate value: "1""#),
            ],
        );
    }

    #[test]
    fn what_a_container_asks_for_is_looked_up_at_once_however_much_it_is() {
        let all = || (0..20_000).map(|at| format!("c{at}"));
        let claims: Vec<_> = all().map(|name| json!({"name": name, "request": "r"})).collect();
        let told_of: Vec<_> = all().map(|name| json!({"name": format!("claim:{name}/r")})).collect();
        let spec = json!({"containers": [{"name": "c", "resources": {"claims": claims}}]});
        let state = json!({"name": "c", "allocatedResourcesStatus": told_of});
        told(&spec, json!({"containerStatuses": [state]}), &[]);
    }
}
