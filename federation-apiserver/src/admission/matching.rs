//! Which requests a policy matches: `matchConstraints` and `matchResources`.

use std::collections::BTreeMap;

use apimachinery::labels::{Selector, labels_of};
use serde_json::Value;

use crate::registry::{Kind, KindRef};

/// The operation of a request, as policies name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
    /// A connection to a pod, a Service or a node.
    Connect,
}

impl Operation {
    /// The operation of a write of objects of kind `form` (if not the call's own), with or without old ones.
    pub(crate) fn of(form: Option<&Kind>, replaces: bool) -> Self {
        match form {
            Some(form) if form.verbs == ["connect"] => Self::Connect,
            _ if replaces => Self::Update,
            _ => Self::Create,
        }
    }

    /// The verb that it is authorized by.
    pub(crate) fn verb(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Connect => "connect",
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// The attributes of a request that rules match.
#[derive(Clone)]
pub(crate) struct Subject<'a> {
    pub(crate) group: &'a str,
    pub(crate) version: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) namespaced: bool,
    pub(crate) name: &'a str,
    pub(crate) operation: Operation,
    /// The labels of the namespace; none for cluster-scoped objects.
    pub(crate) namespace_labels: Option<BTreeMap<String, String>>,
    pub(crate) object: Option<&'a Value>,
    pub(crate) old: Option<&'a Value>,
}

/// In which version of its kind a request matches.
#[derive(Clone, Copy)]
pub(crate) enum Chosen<'a> {
    /// In its own.
    Own,
    /// In another version that the rules name (`matchPolicy: Equivalent`).
    Other(&'a KindRef),
}

/// Whether constraints match a request, and in which version of its kind; `others` are the other versions that are served.
/// Absent constraints match all (`policy/matching.Matcher`).
pub(crate) fn chosen<'a>(
    constraints: &Value,
    subject: &Subject<'_>,
    others: &'a [KindRef],
) -> Option<Chosen<'a>> {
    if constraints.is_null() {
        return Some(Chosen::Own);
    }
    let others = if constraints["matchPolicy"] == "Exact" { &[] } else { others };
    let by = |name: &str| {
        let rules = constraints[name].as_array().map(Vec::as_slice).unwrap_or_default();
        let matched = |subject: &Subject<'_>| rules.iter().any(|rule| rule_matches(rule, subject));
        let as_other = |kind: &&KindRef| {
            let (group, version, resource) = (kind.group, kind.version, kind.plural);
            matched(&Subject { group, version, resource, ..subject.clone() })
        };
        match (rules.is_empty(), matched(subject)) {
            (true, _) => None,
            (false, true) => Some(Chosen::Own),
            (false, false) => others.iter().find(as_other).map(Chosen::Other),
        }
    };
    if by("excludeResourceRules").is_some() {
        return None;
    }
    let unruled = constraints["resourceRules"].as_array().is_none_or(Vec::is_empty);
    let found = if unruled { Chosen::Own } else { by("resourceRules")? };
    let in_namespace = match &subject.namespace_labels {
        Some(labels) => selects(&constraints["namespaceSelector"], labels),
        None => true,
    };
    let selector = &constraints["objectSelector"];
    let selected = |object: Option<&Value>| match subject.operation {
        // Options have no labels, not even none.
        Operation::Connect => object.is_some() && selects_all(selector),
        _ => object.is_some_and(|object| selects(selector, &labels_of(object))),
    };
    (in_namespace && (selected(subject.object) || selected(subject.old))).then_some(found)
}

fn selects(selector: &Value, labels: &BTreeMap<String, String>) -> bool {
    selector.is_null()
        || Selector::from_label_selector(Some(selector)).is_ok_and(|selector| selector.matches(labels))
}

fn selects_all(selector: &Value) -> bool {
    selector.is_null()
        || Selector::from_label_selector(Some(selector)).is_ok_and(|selector| selector.is_everything())
}

fn rule_matches(rule: &Value, subject: &Subject<'_>) -> bool {
    let listed = |name: &str, wanted: &str| {
        let items = rule[name].as_array().into_iter().flatten().filter_map(Value::as_str);
        items.into_iter().any(|item| item == "*" || item == wanted)
    };
    let names = rule["resourceNames"].as_array().map(Vec::as_slice).unwrap_or_default();
    let scope = match rule["scope"].as_str() {
        Some("Cluster") => !subject.namespaced,
        Some("Namespaced") => subject.namespaced,
        _ => true,
    };
    let resources = rule["resources"].as_array().into_iter().flatten().filter_map(Value::as_str);
    scope
        && listed("apiGroups", subject.group)
        && listed("apiVersions", subject.version)
        && listed("operations", subject.operation.as_str())
        && resources.into_iter().any(|pattern| resource_matches(pattern, subject))
        && (names.is_empty() || names.iter().any(|name| name == subject.name))
}

/// `pods`, `pods/status`, `pods/*`, `*/scale`, `*` (all but subresources) and `*/*`.
fn resource_matches(pattern: &str, subject: &Subject<'_>) -> bool {
    let (resource, subresource) = pattern.split_once('/').unwrap_or((pattern, ""));
    (resource == "*" || resource == subject.resource)
        && (subresource == subject.subresource || subresource == "*")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn subject<'a>(resource: &'a str, subresource: &'a str, object: &'a Value) -> Subject<'a> {
        Subject {
            group: "apps",
            version: "v1",
            resource,
            subresource,
            namespaced: true,
            name: "web",
            operation: Operation::Create,
            namespace_labels: Some([("env".to_owned(), "prod".to_owned())].into()),
            object: Some(object),
            old: None,
        }
    }

    fn matches(constraints: &Value, subject: &Subject<'_>) -> bool {
        chosen(constraints, subject, &[]).is_some()
    }

    fn constraints(resources: &Value) -> Value {
        json!({"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["*"], "operations": ["CREATE"], "resources": resources}]})
    }

    #[test]
    fn resources_are_matched_as_kubernetes_matches_them() {
        let object = json!({});
        for (patterns, resource, subresource, expect) in [
            (json!(["deployments"]), "deployments", "", true),
            (json!(["deployments"]), "deployments", "status", false),
            (json!(["deployments/*"]), "deployments", "status", true),
            (json!(["*"]), "deployments", "status", false),
            (json!(["*/*"]), "deployments", "status", true),
            (json!(["*/scale"]), "deployments", "scale", true),
        ] {
            let found = matches(&constraints(&patterns), &subject(resource, subresource, &object));
            assert_eq!(found, expect, "{patterns} {resource}/{subresource}");
        }
    }

    #[test]
    fn selectors_ask_the_namespace_and_the_object() {
        let object = json!({"metadata": {"labels": {"app": "web"}}});
        let mut rules = constraints(&json!(["*"]));
        rules["namespaceSelector"] = json!({"matchLabels": {"env": "prod"}});
        rules["objectSelector"] = json!({"matchLabels": {"app": "web"}});
        assert!(matches(&rules, &subject("deployments", "", &object)));
        rules["namespaceSelector"] = json!({"matchLabels": {"env": "test"}});
        assert!(!matches(&rules, &subject("deployments", "", &object)));
        rules["namespaceSelector"] = json!({});
        rules["objectSelector"] = json!({"matchLabels": {"app": "db"}});
        assert!(!matches(&rules, &subject("deployments", "", &object)));
    }

    #[test]
    fn another_version_of_the_same_objects_is_meant_unless_it_must_be_exact() {
        let (object, served) = (json!({}), crate::registry::Registry::get());
        let others: Vec<KindRef> = served
            .find("autoscaling", "v1", "horizontalpodautoscalers")
            .map(KindRef::Fixed)
            .into_iter()
            .collect();
        let asked = Subject {
            group: "autoscaling",
            version: "v2",
            ..subject("horizontalpodautoscalers", "", &object)
        };
        let mut rules = json!({"resourceRules": [{"apiGroups": ["autoscaling"], "apiVersions": ["v1"], "operations": ["*"],
            "resources": ["horizontalpodautoscalers"]}]});
        assert!(
            matches!(chosen(&rules, &asked, &others), Some(Chosen::Other(kind)) if kind.version == "v1"),
            "the rules name v1"
        );
        let excluded = json!({"excludeResourceRules": rules["resourceRules"]});
        assert!(chosen(&excluded, &asked, &others).is_none(), "what is excluded is so in each version");
        rules["matchPolicy"] = "Exact".into();
        assert!(chosen(&rules, &asked, &others).is_none(), "only v1 is meant");
    }
}
