//! The rules of pod specs: `validation.ValidatePodSpec`.

use apimachinery::{
    FieldError, FieldPath,
    labels::{validate_label_selector, validate_labels},
    names,
};
use serde_json::Value;

use super::{
    container, env, items, label, listed, net, one_of, pod, pod_os, pod_resources, security_context,
    subdomain, text, topology_spread, volume, windows,
};
use crate::registry::ErrorList;

const SECONDS_RANGE: &str = "must be between 1 and 2147483647, inclusive";

/// Finds the errors of a pod spec, in the order in which kube-apiserver tells them.
pub(crate) fn validate_spec(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let volumes = volume::validate_all(spec, path, errors);
    pod_resources::claims(spec, path, errors);
    container::validate_all(spec, path, &volumes, errors);
    pod_resources::validate(spec, path, errors);
    host_network(spec, path, errors);
    pod::validate_restart_policy(spec, path, errors);
    let known = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    listed(text(spec, "dnsPolicy"), &path.child("dnsPolicy"), &known, errors);
    if let Some(selector) = spec.get("nodeSelector") {
        errors.gather(|errors| validate_labels(selector, &path.child("nodeSelector"), errors));
    }
    security_context::validate_pod(spec, path, errors);
    affinity(&spec["affinity"], &path.child("affinity"), errors);
    dns(spec, path, errors);
    for (index, gate) in items(spec, "readinessGates").enumerate() {
        let path = path.child("readinessGates").index(index).child("conditionType");
        let name = text(gate, "conditionType");
        errors
            .extend(names::qualified_name(name).iter().map(|error| FieldError::invalid(&path, name, error)));
    }
    topology_spread::gates(spec, path, errors);
    topology_spread::validate(spec, path, errors);
    windows::host_process(spec, path, errors);
    security_context::host_users(spec, path, errors);
    if let Some(name) = spec["hostnameOverride"].as_str() {
        hostname_override(spec, name, path, errors);
    }
    let named = |name: &str, rule: fn(&str, &FieldPath, &mut ErrorList), errors: &mut ErrorList| {
        if let Some(found) = spec[name].as_str().filter(|found| !found.is_empty()) {
            rule(found, &path.child(name), errors);
        }
    };
    named("serviceAccountName", subdomain, errors);
    named("nodeName", subdomain, errors);
    if let Some(seconds) = spec["activeDeadlineSeconds"].as_i64()
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        errors.push(FieldError::invalid(&path.child("activeDeadlineSeconds"), seconds, SECONDS_RANGE));
    }
    named("hostname", label, errors);
    named("subdomain", label, errors);
    for (index, entry) in items(spec, "tolerations").enumerate() {
        toleration(entry, &path.child("tolerations").index(index), errors);
    }
    for (index, alias) in items(spec, "hostAliases").enumerate() {
        let path = path.child("hostAliases").index(index);
        net::ip(text(alias, "ip"), &path.child("ip"), errors);
        for (at, name) in items(alias, "hostnames").enumerate() {
            subdomain(name.as_str().unwrap_or_default(), &path.child("hostnames").index(at), errors);
        }
    }
    named("priorityClassName", subdomain, errors);
    // An empty class is one that was asked for: Go tells it from none.
    if let Some(name) = spec["runtimeClassName"].as_str() {
        subdomain(name, &path.child("runtimeClassName"), errors);
    }
    if let Some(policy) = spec["preemptionPolicy"].as_str() {
        one_of(policy, &path.child("preemptionPolicy"), &["Never", "PreemptLowerPriority"], errors);
    }
    super::quantities::map(&spec["overhead"], &path.child("overhead"), errors);
    pod_os::validate(spec, path, errors);
    env::volumes(spec, path, errors);
}

/// A name that a pod has whatever else it says: KEP-4762.
fn hostname_override(spec: &Value, name: &str, path: &FieldPath, errors: &mut ErrorList) {
    let path = path.child("hostnameOverride");
    if spec["setHostnameAsFQDN"] == true {
        errors.push(FieldError::forbidden(&path, "may not be specified when setHostnameAsFQDN is true"));
    }
    if spec["hostNetwork"] == true {
        errors.push(FieldError::forbidden(&path, "may not be specified when hostNetwork is true"));
    }
    if name.len() > 64 {
        errors.push(FieldError::too_long(&path, 64));
    }
    subdomain(name, &path, errors);
}

/// Domains that names are looked for in, and characters of all of them with spaces between: what libc reads.
const MOST_SEARCHES: usize = 32;
const MOST_SEARCHED: usize = 2048;

/// `validation.validatePodDNSConfig`.
fn dns(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let (config, path) = (&spec["dnsConfig"], path.child("dnsConfig"));
    let servers = items(config, "nameservers").count();
    if spec["dnsPolicy"] == "None" && (config.is_null() || servers == 0) {
        errors.push(if config.is_null() {
            FieldError::required(&path, "must provide `dnsConfig` when `dnsPolicy` is None")
        } else {
            let message = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            FieldError::required(&path.child("nameservers"), message)
        });
        return;
    }
    if servers > 3 {
        let message = "must not have more than 3 nameservers";
        errors.push(FieldError::invalid(&path.child("nameservers"), config["nameservers"].clone(), message));
    }
    for (index, server) in items(config, "nameservers").enumerate() {
        net::ip(server.as_str().unwrap_or_default(), &path.child("nameservers").index(index), errors);
    }
    let (searches, place) = (|| items(config, "searches").filter_map(Value::as_str), path.child("searches"));
    let mut too_many = |message: String| {
        errors.push(FieldError::invalid(&place, config["searches"].clone(), &message));
    };
    let count = searches().count();
    if count > MOST_SEARCHES {
        too_many(format!("must not have more than {MOST_SEARCHES} search paths"));
    }
    if searches().map(str::len).sum::<usize>() + count.saturating_sub(1) > MOST_SEARCHED {
        too_many(format!(
            "must not have more than {MOST_SEARCHED} characters (including spaces) in the search list"
        ));
    }
    for (index, name) in searches().enumerate() {
        // A dot at the end is a name from the root, and one alone is the root.
        if name != "." {
            let (name, place) = (name.strip_suffix('.').unwrap_or(name), place.index(index));
            let found = names::dns_search(name);
            errors.extend(found.iter().map(|error| FieldError::invalid(&place, name, error)));
        }
    }
    for (index, option) in items(config, "options").enumerate() {
        if text(option, "name").is_empty() {
            let message = "must not be empty";
            errors.push(FieldError::required(&path.child("options").index(index), message));
        }
    }
}

pub(crate) fn toleration(entry: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let key = text(entry, "key");
    if !key.is_empty() {
        let path = path.child("key");
        errors.extend(names::label_key(key).iter().map(|error| FieldError::invalid(&path, key, error)));
    }
    let operator = text(entry, "operator");
    if key.is_empty() && operator != "Exists" {
        let message =
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errors.push(FieldError::invalid(&path.child("operator"), operator, message));
    }
    if !entry["tolerationSeconds"].is_null() && text(entry, "effect") != "NoExecute" {
        let message = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        errors.push(FieldError::invalid(&path.child("effect"), text(entry, "effect"), message));
    }
    match operator {
        "" | "Equal" => {
            let (path, value) = (path.child("operator"), text(entry, "value"));
            let found = names::label_value(value);
            if !found.is_empty() {
                errors.push(FieldError::invalid(&path, value, &found.join(";")));
            }
        }
        "Exists" => {
            let value = text(entry, "value");
            if !value.is_empty() {
                let message = "value must be empty when `operator` is 'Exists'";
                errors.push(FieldError::invalid(&path.child("operator"), value, message));
            }
        }
        // These are behind a gate that is off.
        "Gt" | "Lt" => {
            let known = ["Equal", "Exists", "Lt", "Gt"];
            errors.push(FieldError::not_listed(&path.child("operator"), operator, &known));
        }
        other => one_of(other, &path.child("operator"), &["Equal", "Exists"], errors),
    }
    let effect = text(entry, "effect");
    if !effect.is_empty() {
        listed(effect, &path.child("effect"), &["NoSchedule", "PreferNoSchedule", "NoExecute"], errors);
    }
}

/// Affinity to nodes and to pods.
fn affinity(affinity: &Value, path: &FieldPath, errors: &mut ErrorList) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let weight = |term: &Value, path: &FieldPath, errors: &mut ErrorList| {
        let weight = term["weight"].as_i64().unwrap_or_default();
        if !(1..=100).contains(&weight) {
            errors.push(FieldError::invalid(&path.child("weight"), weight, "must be in the range 1-100"));
        }
    };
    let (node, node_path) = (&affinity["nodeAffinity"], path.child("nodeAffinity"));
    if let Some(required) = node.get(REQUIRED).filter(|required| required.is_object()) {
        node_selector(required, &node_path.child(REQUIRED), errors);
    }
    for (index, term) in items(node, PREFERRED).enumerate() {
        let path = node_path.child(PREFERRED).index(index);
        weight(term, &path, errors);
        // What no node can have is preferred in vain, and that is all.
        node_term(&term["preference"], &path.child("preference"), Values::Any, errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let (pods, path) = (&affinity[kind], path.child(kind));
        for (index, term) in items(pods, REQUIRED).enumerate() {
            pod_term(term, &path.child(REQUIRED).index(index), errors);
        }
        for (index, term) in items(pods, PREFERRED).enumerate() {
            let path = path.child(PREFERRED).index(index);
            weight(term, &path, errors);
            pod_term(&term["podAffinityTerm"], &path.child("podAffinityTerm"), errors);
        }
    }
}

/// `validation.ValidateNodeSelector`.
pub(crate) fn node_selector(selector: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let path = path.child("nodeSelectorTerms");
    if selector["nodeSelectorTerms"].as_array().is_none_or(Vec::is_empty) {
        errors.push(FieldError::required(&path, "must have at least one node selector term"));
    }
    for (index, term) in items(selector, "nodeSelectorTerms").enumerate() {
        node_term(term, &path.index(index), Values::OfLabels, errors);
    }
}

/// What nodes may be selected by.
#[derive(Clone, Copy, PartialEq)]
enum Values {
    Any,
    /// What labels can have.
    OfLabels,
}

fn node_term(term: &Value, path: &FieldPath, values: Values, errors: &mut ErrorList) {
    node_expressions(term, path, values, errors);
    for (index, requirement) in items(term, "matchFields").enumerate() {
        let path = path.child("matchFields").index(index);
        let operator = text(requirement, "operator");
        if !matches!(operator, "In" | "NotIn") {
            let message = "not a valid selector operator";
            errors.push(FieldError::invalid(&path.child("operator"), operator, message));
        } else if items(requirement, "values").count() != 1 {
            let message = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.push(FieldError::required(&path.child("values"), message));
        }
        // The name is the only field of a node that is selected by.
        let key = text(requirement, "key");
        if key == "metadata.name" {
            for (at, name) in items(requirement, "values").enumerate() {
                subdomain(name.as_str().unwrap_or_default(), &path.child("values").index(at), errors);
            }
        } else {
            errors.push(FieldError::invalid(&path.child("key"), key, "not a valid field selector key"));
        }
    }
}

fn node_expressions(term: &Value, path: &FieldPath, values: Values, errors: &mut ErrorList) {
    for (index, expression) in items(term, "matchExpressions").enumerate() {
        let path = path.child("matchExpressions").index(index);
        let count = items(expression, "values").count();
        match text(expression, "operator") {
            "In" | "NotIn" if count == 0 => {
                let message = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(FieldError::required(&path.child("values"), message));
            }
            "Exists" | "DoesNotExist" if count > 0 => {
                let message = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(FieldError::forbidden(&path.child("values"), message));
            }
            "Gt" | "Lt" if count != 1 => {
                let message = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                errors.push(FieldError::required(&path.child("values"), message));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => {
                errors.push(FieldError::invalid(
                    &path.child("operator"),
                    other,
                    "not a valid selector operator",
                ));
            }
        }
        let (place, key) = (path.child("key"), text(expression, "key"));
        errors.extend(names::label_key(key).iter().map(|error| FieldError::invalid(&place, key, error)));
        if values == Values::Any {
            continue;
        }
        for (at, value) in items(expression, "values").filter_map(Value::as_str).enumerate() {
            let place = path.child("values").index(at);
            let found = names::label_value(value);
            errors.extend(found.iter().map(|error| FieldError::invalid(&place, value, error)));
        }
    }
}

fn pod_term(term: &Value, path: &FieldPath, errors: &mut ErrorList) {
    if let Some(selector) = term.get("labelSelector") {
        errors.extend(validate_label_selector(selector, &path.child("labelSelector")));
    }
    for name in items(term, "namespaces") {
        label(name.as_str().unwrap_or_default(), &path.child("namespace"), errors);
    }
    if let Some(selector) = term.get("namespaceSelector") {
        let path = path.child("namespaceSelector");
        errors.extend(validate_label_selector(selector, &path));
    }
    topology_spread::keys_of_term(term, path, errors);
    let (path, key) = (path.child("topologyKey"), text(term, "topologyKey"));
    if key.is_empty() {
        errors.push(FieldError::required(&path, "can not be empty"));
    }
    errors.extend(names::label_key(key).iter().map(|error| FieldError::invalid(&path, key, error)));
}

/// What uses the host's network listens where it says.
fn host_network(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    if spec["hostNetwork"] != true {
        return;
    }
    for (index, container) in items(spec, "containers").enumerate() {
        for (at, port) in items(container, "ports").enumerate() {
            let number = |name: &str| port[name].as_i64().unwrap_or_default();
            let (own, host) = (number("containerPort"), number("hostPort"));
            // Of a template it is filled in when pods are made.
            if host != 0 && host != own {
                let path = path.child("containers").index(index).child("ports").index(at).child("hostPort");
                let message = "must match `containerPort` when `hostNetwork` is true";
                errors.push(FieldError::invalid(&path, host, message));
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn told(check: fn(&Value, &FieldPath, &mut ErrorList), value: &Value, expect: &[&str]) {
        let mut errors = ErrorList::new();
        check(value, &FieldPath::new("s"), &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn nodes_are_selected_by_name_and_by_no_other_field() {
        let by = |key: &str, values: &[&str]| json!({"matchFields": [{"key": key, "operator": "In", "values": values}]});
        let node_term: fn(&Value, &FieldPath, &mut ErrorList) =
            |term, path, errors| node_term(term, path, Values::OfLabels, errors);
        told(node_term, &by("metadata.name", &["n"]), &[]);
        told(
            node_term,
            &by("other", &["a", "b"]),
            &[
                "s.matchFields[0].values: Required value: must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
                r#"s.matchFields[0].key: Invalid value: "other": not a valid field selector key"#,
            ],
        );
    }

    #[test]
    fn nodes_are_required_by_what_their_labels_can_have() {
        let with = |affinity: Value| json!({"nodeAffinity": affinity});
        let term = json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["x", "a b"]}]});
        let error = "s.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values[1]: Invalid value: \"a b\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
        told(
            affinity,
            &with(json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}})),
            &[error],
        );
        told(
            affinity,
            &with(
                json!({"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": term}]}),
            ),
            &[],
        );
    }

    #[test]
    fn names_are_looked_for_in_few_domains() {
        let with = |searches: Value| json!({"dnsConfig": {"searches": searches}});
        told(dns, &with(json!(["_tcp.a_b.example.com.", "."])), &[]);
        let many = vec!["a"; 33];
        let shown = serde_json::to_string(&many).unwrap();
        let error =
            format!("s.dnsConfig.searches: Invalid value: {shown}: must not have more than 32 search paths");
        told(dns, &with(json!(many)), &[&error]);
        let long = vec!["a".repeat(200); 11];
        let mut errors = ErrorList::new();
        dns(&with(json!(long)), &FieldPath::new("s"), &mut errors);
        let told_of: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(told_of.len(), 1, "{told_of:?}");
        assert!(
            told_of[0]
                .ends_with("must not have more than 2048 characters (including spaces) in the search list")
        );
        let mut errors = ErrorList::new();
        dns(&with(json!(["__a", "a.."])), &FieldPath::new("s"), &mut errors);
        assert_eq!(errors.len(), 2, "{errors:?}");
        told(
            dns,
            &json!({"dnsPolicy": "None", "dnsConfig": {"options": [{}]}}),
            &[
                "s.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None",
            ],
        );
    }

    #[test]
    fn ports_on_the_network_of_the_host_are_those_of_the_host() {
        let with = |host: u16| json!({"hostNetwork": true, "containers": [{"ports": [{"containerPort": 80, "hostPort": host}]}]});
        told(host_network, &with(80), &[]);
        told(host_network, &with(0), &[]);
        told(
            host_network,
            &with(81),
            &[
                "s.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true",
            ],
        );
    }

    #[test]
    fn a_taint_is_tolerated_by_being_there_or_by_its_value() {
        let with = |operator: &str| json!({"key": "a", "operator": operator, "value": "b c"});
        told(
            toleration,
            &with("Exists"),
            &["s.operator: Invalid value: \"b c\": value must be empty when `operator` is 'Exists'"],
        );
        told(
            toleration,
            &with("Gt"),
            &[r#"s.operator: Unsupported value: "Gt": supported values: "Equal", "Exists", "Lt", "Gt""#],
        );
        told(
            toleration,
            &with("Odd"),
            &[r#"s.operator: Unsupported value: "Odd": supported values: "Equal", "Exists""#],
        );
    }

    #[test]
    fn a_name_of_a_hosts_own_is_not_for_pods_on_the_network_of_the_host() {
        let rule: fn(&Value, &FieldPath, &mut ErrorList) =
            |spec, path, errors| hostname_override(spec, text(spec, "hostnameOverride"), path, errors);
        told(rule, &json!({"hostnameOverride": "a.b"}), &[]);
        told(
            rule,
            &json!({"hostnameOverride": "a.b", "setHostnameAsFQDN": true, "hostNetwork": true}),
            &[
                "s.hostnameOverride: Forbidden: may not be specified when setHostnameAsFQDN is true",
                "s.hostnameOverride: Forbidden: may not be specified when hostNetwork is true",
            ],
        );
    }
}
