//! The roles and bindings that a control plane starts with, and what becomes of them at a restart.

use apimachinery::rbac::{Rule, missing};
use serde_json::{Map, Value, json};

use crate::store::{Key, ResourceKey};

/// RBAC's API group.
pub const GROUP: &str = "rbac.authorization.k8s.io";
/// Objects that say `false` here are left alone.
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// One role or binding.
#[derive(Clone, Debug)]
pub struct BootstrapObject {
    /// Where it is.
    pub key: Key,
    /// What it is.
    pub object: Value,
}

/// Every role and binding, roles first.
pub fn all() -> Vec<BootstrapObject> {
    let mut all: Vec<BootstrapObject> = Vec::new();
    for line in include_str!("default_roles.txt").lines() {
        if let Some(rest) = line.strip_prefix("role ") {
            all.push(role(rest));
        } else if let Some(rest) = line.strip_prefix("bind ") {
            all.push(binding(rest));
        } else if let Some(rule) = line.strip_prefix("  ")
            && let Some(BootstrapObject { object, .. }) = all.last_mut()
        {
            let rule = rule_of(rule).to_value();
            match object["rules"].as_array_mut() {
                Some(rules) => rules.push(rule),
                None => object["rules"] = json!([rule]),
            }
        }
    }
    all
}

fn start(name: &str, kind: &str) -> BootstrapObject {
    let (namespace, name) = name.split_once('/').unwrap_or(("", name));
    let kind = if namespace.is_empty() { format!("Cluster{kind}") } else { kind.to_owned() };
    let mut metadata = json!({
        "name": name,
        "annotations": {AUTOUPDATE: "true"},
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
    });
    if !namespace.is_empty() {
        metadata["namespace"] = namespace.into();
    }
    let resource = format!("{}s", kind.to_ascii_lowercase());
    BootstrapObject {
        key: Key::new(ResourceKey::new(GROUP, resource), namespace, name),
        object: json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": metadata}),
    }
}

fn role(line: &str) -> BootstrapObject {
    let mut words = line.split(' ');
    let mut role = start(words.next().unwrap_or_default(), "Role");
    role.object["rules"] = Value::Null;
    while let (Some(how), Some(name)) = (words.next(), words.next()) {
        let label = format!("{GROUP}/aggregate-to-{name}");
        if how == "in" {
            role.object["metadata"]["labels"][label] = "true".into();
        } else {
            role.object["aggregationRule"] =
                json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]});
        }
    }
    role
}

fn rule_of(line: &str) -> Rule {
    let list = |text: &str| -> Vec<String> {
        text.split(',').map(|text| if text == "\"\"" { String::new() } else { text.to_owned() }).collect()
    };
    let verbs = |text: &str| -> Vec<String> {
        let read = ["get", "list", "watch"];
        let write = ["create", "delete", "deletecollection", "patch", "update"];
        let mut verbs: Vec<String> = text
            .split(',')
            .flat_map(|verb| match verb {
                "read" => read.to_vec(),
                "write" => write.to_vec(),
                other => vec![other],
            })
            .map(str::to_owned)
            .collect();
        verbs.sort();
        verbs
    };
    let parts: Vec<&str> = line.split(" : ").collect();
    match parts.as_slice() {
        [verb, groups, resources, names @ ..] => Rule {
            verbs: verbs(verb),
            groups: list(groups),
            resources: list(resources),
            names: names.first().map(|names| list(names)).unwrap_or_default(),
            urls: Vec::new(),
        },
        _ => {
            let mut words = line.split(' ');
            let verbs = verbs(words.next().unwrap_or_default());
            Rule { verbs, urls: words.map(str::to_owned).collect(), ..Rule::default() }
        }
    }
}

fn binding(line: &str) -> BootstrapObject {
    let (head, subjects) = line.split_once(' ').unwrap_or((line, ""));
    let mut binding = start(head, "RoleBinding");
    let mut kind = if binding.key.namespace.is_empty() { "ClusterRole" } else { "Role" };
    let (mut name, mut subjects) = (binding.key.name.clone(), subjects);
    if let Some(rest) = subjects.strip_prefix("= ") {
        let mut words = rest.splitn(3, ' ');
        kind = words.next().unwrap_or(kind);
        words.next().unwrap_or_default().clone_into(&mut name);
        subjects = words.next().unwrap_or_default();
    }
    binding.object["roleRef"] = json!({"apiGroup": GROUP, "kind": kind, "name": name});
    let subjects: Vec<Value> = subjects
        .split(' ')
        .filter_map(|subject| {
            let (kind, name) = subject.split_once(':')?;
            Some(match kind {
                "user" => json!({"apiGroup": GROUP, "kind": "User", "name": name}),
                "group" => json!({"apiGroup": GROUP, "kind": "Group", "name": name}),
                _ => {
                    let (namespace, name) = name.split_once('/')?;
                    json!({"kind": "ServiceAccount", "name": name, "namespace": namespace})
                }
            })
        })
        .collect();
    if !subjects.is_empty() {
        binding.object["subjects"] = subjects.into();
    }
    binding
}

/// What an object that is there must become so that it grants at least what the default grants; none if it does, or if
/// it says that it shall be left alone. Nothing is taken away: that is the administrator's addition.
pub fn reconciled(default: &Value, found: &Value) -> Option<Value> {
    if found["metadata"]["annotations"][AUTOUPDATE] == "false" {
        return None;
    }
    let mut next = found.clone();
    for part in ["labels", "annotations"] {
        let mut map = found["metadata"][part].as_object().cloned().unwrap_or_else(Map::new);
        for (name, value) in default["metadata"][part].as_object().into_iter().flatten() {
            map.entry(name.clone()).or_insert_with(|| value.clone());
        }
        next["metadata"][part] = map.into();
    }
    let extend = |next: &mut Value, field: &str, extra: Vec<Value>| {
        if extra.is_empty() {
            return;
        }
        match next[field].as_array_mut() {
            Some(list) => list.extend(extra),
            None => next[field] = extra.into(),
        }
    };
    if default["roleRef"].is_null() {
        if default["aggregationRule"].is_object() {
            next["aggregationRule"] = default["aggregationRule"].clone();
        } else {
            let extra = missing(&Rule::of_role(found), &Rule::of_role(default));
            extend(&mut next, "rules", extra.iter().map(Rule::to_value).collect());
        }
    } else {
        let known = found["subjects"].as_array().map_or(&[][..], Vec::as_slice);
        let wanted = default["subjects"].as_array().into_iter().flatten();
        let extra = wanted.filter(|subject| !known.contains(subject)).cloned().collect();
        extend(&mut next, "subjects", extra);
    }
    (next != *found).then_some(next)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn object(name: &str) -> Value {
        all().into_iter().find(|default| default.key.name == name).unwrap().object
    }

    #[test]
    fn defaults_read_as_kubernetes_prints_them() {
        assert_eq!(
            object("cluster-admin")["rules"],
            json!([
                {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
                {"nonResourceURLs": ["*"], "verbs": ["*"]},
            ])
        );
        let edit = object("edit");
        assert_eq!(edit["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-admin"], "true");
        assert_eq!(edit["rules"], Value::Null);
        let binding = object("system::extension-apiserver-authentication-reader");
        assert_eq!(binding["kind"], "RoleBinding");
        assert_eq!(binding["roleRef"]["name"], "extension-apiserver-authentication-reader");
        assert_eq!(binding["subjects"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn controllers_watch_what_they_list_and_have_their_roles() {
        let all = all();
        for BootstrapObject { key, object } in &all {
            let Some(controller) = key.name.strip_prefix("system:controller:") else { continue };
            if object["kind"] != "ClusterRole" {
                continue;
            }
            for rule in object["rules"].as_array().unwrap() {
                let may = |verb: &str| rule["verbs"].as_array().unwrap().iter().any(|known| known == verb);
                assert!(!may("list") || may("watch"), "{controller}: {rule}");
            }
            let is_bound = |other: &BootstrapObject| {
                other.object["kind"] == "ClusterRoleBinding"
                    && other.key.name == key.name
                    && other.object["subjects"][0]["name"] == controller
            };
            assert!(all.iter().any(is_bound), "{controller}");
        }
    }

    #[test]
    fn a_weakened_role_is_mended_unless_it_says_no() {
        let default = object("system:basic-user");
        let mut found = default.clone();
        found["rules"].as_array_mut().unwrap().remove(0);
        found["rules"].as_array_mut().unwrap().push(json!({"verbs": ["get"], "nonResourceURLs": ["/mine"]}));
        let mended = reconciled(&default, &found).unwrap();
        assert!(missing(&Rule::of_role(&mended), &Rule::of_role(&default)).is_empty());
        assert!(mended["rules"].to_string().contains("/mine"));
        assert_eq!(reconciled(&default, &mended), None);
        found["metadata"]["annotations"][AUTOUPDATE] = "false".into();
        assert_eq!(reconciled(&default, &found), None);
    }
}
