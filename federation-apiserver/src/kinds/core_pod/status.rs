//! What may be written into the status of a Pod: `validation.ValidatePodStatusUpdate`. Errors that the stored status has as well do not
//! stand in the way of others who write it.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use apimachinery::{FieldError, FieldPath, names};
use serde_json::{Value, json};

use super::allocated_resources;
use crate::{
    registry::ErrorList,
    validation::{IMMUTABLE, items, items_mut, net, news, restart_policy, subdomain, text},
};

/// The lists of states of containers, and where the containers stand in the spec.
pub(super) const LISTS: [(&str, &str); 3] = [
    ("containerStatuses", "containers"),
    ("initContainerStatuses", "initContainers"),
    ("ephemeralContainerStatuses", "ephemeralContainers"),
];
const NOT_BELOW_ZERO: &str = "must be a non-negative integer";

/// What a writer who leaves it out leaves as it was: the class, and which generation was seen (`podStatusStrategy.PrepareForUpdate`).
pub(super) fn keep(new: &mut Value, old: &Value) {
    let before = &old["status"];
    if text(&new["status"], "qosClass").is_empty() && !text(before, "qosClass").is_empty() {
        new["status"]["qosClass"] = before["qosClass"].clone();
    }
    let seen = |of: &Value| of["observedGeneration"].as_i64().filter(|generation| *generation != 0);
    if seen(&new["status"]).is_none()
        && let Some(generation) = seen(before)
    {
        new["status"]["observedGeneration"] = generation.into();
    }
    // There may be several conditions of a type.
    let mut known: HashMap<&str, Vec<Option<i64>>> = HashMap::new();
    for condition in items(before, "conditions") {
        known.entry(text(condition, "type")).or_default().push(seen(condition));
    }
    for generations in known.values_mut() {
        generations.reverse();
    }
    for condition in items_mut(&mut new["status"], "conditions") {
        let next = known.get_mut(text(condition, "type")).and_then(Vec::pop).flatten();
        if seen(condition).is_none()
            && let Some(generation) = next
        {
            condition["observedGeneration"] = generation.into();
        }
    }
}

/// Finds the errors of a written status.
pub(super) fn validate_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    if new["status"] == old["status"] {
        return;
    }
    let (status, before, path) = (&new["status"], &old["status"], FieldPath::new("status"));
    news(conditions, new, old, errors);
    nominated(new, old, &path.child("nominatedNodeName"), errors);
    news(generation_seen, new, old, errors);
    // An older server may not have told it.
    let (class, was) = (text(status, "qosClass"), text(before, "qosClass"));
    if class != was && !was.is_empty() {
        errors.push(FieldError::invalid(&path.child("qosClass"), class, IMMUTABLE));
    }
    for (list, containers) in LISTS {
        states(new, old, (list, containers), errors);
    }
    news(allocated_resources::claims, new, old, errors);
    news(allocated_resources::extended_claim, new, old, errors);
    for list in ["podIPs", "hostIPs"] {
        addresses(status, before, list, errors);
    }
    news(allocated_resources::users, new, old, errors);
    news(allocated_resources::allocated, new, old, errors);
}

fn conditions(pod: &Value, errors: &mut ErrorList) {
    let path = FieldPath::new("status.conditions");
    for (index, condition) in items(&pod["status"], "conditions").enumerate() {
        let path = path.index(index);
        if let Some(generation) = condition["observedGeneration"].as_i64().filter(|number| *number < 0) {
            let path = path.child("observedGeneration");
            errors.push(FieldError::invalid(&path, generation, NOT_BELOW_ZERO));
        }
        let kind = text(condition, "type");
        if !matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            // kube-apiserver names the place so.
            let path = path.child("Type");
            let found = names::qualified_name(kind);
            errors.extend(found.iter().map(|error| FieldError::invalid(&path, kind, error)));
        }
    }
}

fn generation_seen(pod: &Value, errors: &mut ErrorList) {
    if let Some(generation) = pod["status"]["observedGeneration"].as_i64().filter(|number| *number < 0) {
        let path = FieldPath::new("status.observedGeneration");
        errors.push(FieldError::invalid(&path, generation, NOT_BELOW_ZERO));
    }
}

/// Where room is made for a pod is told before it is bound to a node.
fn nominated(new: &Value, old: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let node = text(&new["status"], "nominatedNodeName");
    if node.is_empty() || node == text(&old["status"], "nominatedNodeName") {
        return;
    }
    subdomain(node, path, errors);
    if !text(&old["spec"], "nodeName").is_empty() {
        let message = "may not be set on pods that are already bound to a node";
        errors.push(FieldError::forbidden(path, message));
    }
}

/// A container that has ended runs again only if its policy says so: `validation.ValidateContainerStateTransition` and its siblings.
fn states(new: &Value, old: &Value, (list, containers): (&str, &str), errors: &mut ErrorList) {
    let (spec, path) = (&old["spec"], FieldPath::new("status").child(list));
    let ephemeral = containers == "ephemeralContainers";
    if !ephemeral && restart_policy::all_may(spec) {
        return;
    }
    let ended = |state: &&Value| state["state"]["terminated"].is_object();
    let alive: HashSet<&str> =
        items(&new["status"], list).filter(|state| !ended(state)).map(|state| text(state, "name")).collect();
    let mut known: HashMap<&str, &Value> = HashMap::new();
    for container in items(spec, containers) {
        known.entry(text(container, "name")).or_insert(container);
    }
    for (index, state) in items(&old["status"], list).enumerate().filter(|(_, state)| ended(state)) {
        let name = text(state, "name");
        let code = state["state"]["terminated"]["exitCode"].as_i64().unwrap_or_default();
        let may = !ephemeral && known.get(name).is_some_and(|it| restart_policy::may(it, spec, code));
        if alive.contains(name) && !may {
            let path = path.index(index).child("state");
            errors.push(FieldError::forbidden(&path, "may not be transitioned to non-terminated state"));
        }
    }
}

/// One address of each family, of the pod and of its host: `validation.validatePodIPs` and `validateHostIPs`.
fn addresses(status: &Value, before: &Value, list: &str, errors: &mut ErrorList) {
    let path = FieldPath::new("status").child(list);
    let all = |status: &'_ Value| -> Vec<String> {
        items(status, list).map(|address| text(address, "ip").to_owned()).collect()
    };
    let (told, known) = (all(status), all(before));
    let host = list == "hostIPs";
    if told == known && (!host || status["hostIP"] == before["hostIP"]) {
        return;
    }
    if host
        && let Some(first) = told.first()
        && first != text(status, "hostIP")
    {
        let path = path.index(0).child("ip");
        errors.push(FieldError::invalid(&path, first.as_str(), "must be equal to `hostIP`"));
    }
    let known: HashSet<_> = known.into_iter().collect();
    for (index, address) in told.iter().enumerate().filter(|(_, address)| !known.contains(*address)) {
        net::ip(address, &path.index(index), errors);
    }
    if told.len() < 2 {
        return;
    }
    let parsed: Vec<_> = told.iter().map(|address| address.parse::<IpAddr>()).collect();
    if let Some((index, (address, _))) = told.iter().zip(&parsed).enumerate().find(|(_, (_, ip))| ip.is_err())
    {
        let why = format!("failed to check for dual stack with error:invalid IP[{index}]: {address}");
        errors.push(FieldError::internal(&path, &why));
    }
    let fours = parsed.iter().flatten().filter(|address| address.to_canonical().is_ipv4()).count();
    if fours != 1 || told.len() != 2 || parsed.iter().any(Result::is_err) {
        let shown: Vec<_> = told.iter().map(|address| json!({"IP": address})).collect();
        let message = "may specify no more than one IP for each IP family";
        errors.push(FieldError::invalid(&path, shown, message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a write of a status is refused for.
    #[track_caller]
    fn told(spec: &Value, old: Value, new: Value, expect: &[&str]) {
        let pod = |status: Value| json!({"spec": spec, "status": status});
        let (mut new, old) = (pod(new), pod(old));
        keep(&mut new, &old);
        let mut errors = ErrorList::new();
        validate_update(&new, &old, &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    const ENDED: &str = "Forbidden: may not be transitioned to non-terminated state";

    #[test]
    fn what_has_ended_runs_again_only_as_its_policy_says() {
        let (ended, runs) = (
            |name: &str, code: i64| json!({"name": name, "state": {"terminated": {"exitCode": code}}}),
            |name: &str| json!({"name": name, "state": {"running": {}}}),
        );
        let check = |policy: &str, container: Value, code: i64, may: bool| {
            for (list, states) in
                [("containers", "containerStatuses"), ("initContainers", "initContainerStatuses")]
            {
                let mut container = container.clone();
                container["name"] = "c".into();
                let spec = json!({"restartPolicy": policy, list: [container]});
                let error = format!("status.{states}[1].state: {ENDED}");
                let expect = if may { &[][..] } else { &[error.as_str()][..] };
                let old = json!({states: [runs("other"), ended("c", code)]});
                told(&spec, old, json!({states: [runs("c")]}), expect);
            }
        };
        check("Always", json!({}), 0, true);
        check("OnFailure", json!({}), 1, true);
        check("OnFailure", json!({}), 0, false);
        check("Never", json!({}), 1, false);
        check("Never", json!({"restartPolicy": "Always"}), 1, true);
        check("Always", json!({"restartPolicy": "Never"}), 1, false);
        let rules = |action: &str, operator: &str| json!({"restartPolicy": "Never", "restartPolicyRules": [{"action": action, "exitCodes": {"operator": operator, "values": [7]}}]});
        check("Never", rules("Restart", "In"), 7, true);
        check("Never", rules("Restart", "In"), 8, false);
        check("Never", rules("Restart", "NotIn"), 8, true);
        check("Never", rules("RestartAllContainers", "In"), 8, true);
        // Nobody knows of it, and what is there for a look never comes back.
        let states = |state: Value| json!({"containerStatuses": [state]});
        let error = format!("status.containerStatuses[0].state: {ENDED}");
        told(&json!({"restartPolicy": "Always"}), states(ended("c", 1)), states(runs("c")), &[&error]);
        let states = |state: Value| json!({"ephemeralContainerStatuses": [state]});
        let spec = json!({"restartPolicy": "Always", "ephemeralContainers": [{"name": "c"}]});
        let error = format!("status.ephemeralContainerStatuses[0].state: {ENDED}");
        told(&spec, states(ended("c", 1)), states(runs("c")), &[&error]);
        told(&spec, states(ended("c", 1)), states(ended("c", 2)), &[]);
        told(&spec, states(ended("c", 1)), json!({}), &[]);
    }

    #[test]
    fn the_class_and_what_was_seen_of_a_pod_stay_where_nobody_tells_them() {
        let condition = |kind: &str, seen: i64| json!({"type": kind, "observedGeneration": seen});
        let old = json!({"status": {
            "qosClass": "Burstable", "observedGeneration": 3,
            "conditions": [condition("Ready", 2), condition("a/b", 1), condition("Ready", 3)],
        }});
        let mut new = json!({"status": {"conditions": [{"type": "Ready"}, condition("a/b", 4), {"type": "Ready"}, {"type": "Ready"}]}});
        keep(&mut new, &old);
        assert_eq!(
            new["status"],
            json!({
                "qosClass": "Burstable", "observedGeneration": 3,
                "conditions": [condition("Ready", 2), condition("a/b", 4), condition("Ready", 3), {"type": "Ready"}],
            })
        );
        told(
            &json!({}),
            old["status"].clone(),
            json!({"qosClass": "Guaranteed"}),
            &[r#"status.qosClass: Invalid value: "Guaranteed": field is immutable"#],
        );
        told(&json!({}), json!({}), json!({"qosClass": "Guaranteed"}), &[]);
    }

    #[test]
    fn conditions_have_qualified_names_and_generations_that_were() {
        let with = |conditions: Value| json!({"conditions": conditions});
        told(&json!({}), json!({}), with(json!([{"type": "Ready"}, {"type": "example.com/a"}])), &[]);
        let odd = json!({"type": "a/b/c"});
        let error = "status.conditions[0].Type: Invalid value: \"a/b/c\": a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
        told(&json!({}), json!({}), with(json!([odd])), &[error]);
        // It was there before.
        told(&json!({}), with(json!([odd])), with(json!([{"type": "Ready"}, odd])), &[]);
        told(
            &json!({}),
            json!({}),
            json!({"observedGeneration": -1, "conditions": [{"type": "Ready", "observedGeneration": -2}]}),
            &[
                "status.conditions[0].observedGeneration: Invalid value: -2: must be a non-negative integer",
                "status.observedGeneration: Invalid value: -1: must be a non-negative integer",
            ],
        );
    }

    #[test]
    fn room_is_made_for_pods_without_a_node() {
        let to = |node: &str| json!({"nominatedNodeName": node});
        told(&json!({}), json!({}), to("n"), &[]);
        let bound = json!({"nodeName": "n"});
        let error =
            "status.nominatedNodeName: Forbidden: may not be set on pods that are already bound to a node";
        told(&bound, json!({}), to("m"), &[error]);
        let mut same = to("n");
        same["phase"] = "Running".into();
        told(&bound, to("n"), same, &[]);
        told(&bound, to("n"), to(""), &[]);
    }

    #[test]
    fn a_pod_and_its_host_have_one_address_of_each_family() {
        let pair = |list: &str, addresses: [&str; 2]| json!({list: addresses.map(|ip| json!({"ip": ip})), "hostIP": addresses[0]});
        for list in ["podIPs", "hostIPs"] {
            told(&json!({}), json!({}), pair(list, ["1.2.3.4", "fd00::1"]), &[]);
            let error = format!(
                r#"status.{list}: Invalid value: [{{"IP":"1.2.3.4"}},{{"IP":"1.2.3.5"}}]: may specify no more than one IP for each IP family"#
            );
            told(&json!({}), json!({}), pair(list, ["1.2.3.4", "1.2.3.5"]), &[&error]);
            let bad = format!(
                r#"status.{list}[1]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#
            );
            let internal = format!(
                "status.{list}: Internal error: failed to check for dual stack with error:invalid IP[1]: x"
            );
            let two = format!(
                r#"status.{list}: Invalid value: [{{"IP":"1.2.3.4"}},{{"IP":"x"}}]: may specify no more than one IP for each IP family"#
            );
            told(&json!({}), json!({}), pair(list, ["1.2.3.4", "x"]), &[&bad, &internal, &two]);
        }
        let host = |host: &str| json!({"hostIP": host, "hostIPs": [{"ip": "1.2.3.5"}]});
        let error = r#"status.hostIPs[0].ip: Invalid value: "1.2.3.5": must be equal to `hostIP`"#;
        told(&json!({}), json!({}), host("1.2.3.4"), &[error]);
        told(&json!({}), json!({}), host("1.2.3.5"), &[]);
    }
}
