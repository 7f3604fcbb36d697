//! Which FlowSchema a request belongs to: told in its answer, as kube-apiserver's priority and fairness tells it.
//!
//! The schemas class requests and nothing more: seats are shared evenly between users, whatever shares the levels have.

use std::sync::Arc;

use apimachinery::rbac::Attributes;
use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::{
    auth::User,
    cache::Collection,
    store::{ResourceKey, Snapshot, Storage},
};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// The class of a request, as its answer tells it.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    schema: HeaderValue,
    level: HeaderValue,
}

impl Class {
    /// Adds the headers.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        headers.insert(SCHEMA_UID, self.schema.clone());
        headers.insert(LEVEL_UID, self.level.clone());
    }
}

/// One FlowSchema whose level there is.
struct Schema {
    precedence: i64,
    name: String,
    rules: Vec<Value>,
    class: Class,
}

/// The schemas of one state of the store.
struct Table {
    schemas: Vec<Schema>,
    read: [Collection; 2],
}

/// The schemas as they are now.
pub(crate) struct Classes(ArcSwap<Table>);

fn keys() -> [ResourceKey; 2] {
    ["flowschemas", "prioritylevelconfigurations"].map(|resource| ResourceKey::new(GROUP, resource))
}

impl Classes {
    pub(crate) fn new(storage: &Storage) -> Self {
        Self(ArcSwap::from_pointee(Table::read(&storage.snapshot())))
    }

    /// The class of a request; none if no schema fits.
    pub(crate) fn class(&self, storage: &Storage, user: &User, asked: &Attributes<'_>) -> Option<Class> {
        let snapshot = storage.snapshot();
        let mut table = self.0.load_full();
        if !table.is_of(&snapshot) {
            table = Arc::new(Table::read(&snapshot));
            self.0.store(Arc::clone(&table));
        }
        table.find(user, asked).cloned()
    }
}

impl Table {
    fn read(snapshot: &Snapshot) -> Self {
        let [schemas, levels] = keys();
        let found = snapshot.range(&schemas, None, None).filter_map(|stored| {
            let mut spec = stored.value().ok()?["spec"].take();
            let level = spec["priorityLevelConfiguration"]["name"].as_str()?;
            let level = snapshot.get(&crate::store::Key::new(levels.clone(), "", level))?;
            let rules = match spec["rules"].take() {
                Value::Array(rules) => rules,
                _ => Vec::new(),
            };
            Some(Schema {
                precedence: spec["matchingPrecedence"].as_i64().unwrap_or(1000),
                name: stored.key.name.clone(),
                rules,
                class: Class {
                    schema: HeaderValue::from_str(&stored.meta.uid).ok()?,
                    level: HeaderValue::from_str(&level.meta.uid).ok()?,
                },
            })
        });
        let mut found: Vec<_> = found.collect();
        found.sort_by(|one, other| (one.precedence, &one.name).cmp(&(other.precedence, &other.name)));
        Self { schemas: found, read: keys().map(|key| snapshot.collection(&key)) }
    }

    fn is_of(&self, snapshot: &Snapshot) -> bool {
        keys().iter().zip(&self.read).all(|(key, read)| snapshot.collection(key).same(read))
    }

    fn find(&self, user: &User, asked: &Attributes<'_>) -> Option<&Class> {
        let schema =
            self.schemas.iter().find(|schema| schema.rules.iter().any(|rule| fits(rule, user, asked)));
        schema.map(|schema| &schema.class)
    }
}

/// Whether a `PolicyRulesWithSubjects` is about a user and what he asks.
fn fits(rule: &Value, user: &User, asked: &Attributes<'_>) -> bool {
    if !list(rule, "subjects").any(|subject| is_subject(subject, user)) {
        return false;
    }
    match asked.path {
        Some(path) => list(rule, "nonResourceRules").any(|rule| {
            has(rule, "verbs", asked.verb) && list(rule, "nonResourceURLs").any(|url| is_path(url, path))
        }),
        None => {
            let resource = match asked.subresource {
                "" => asked.resource.to_owned(),
                part => format!("{}/{part}", asked.resource),
            };
            list(rule, "resourceRules").any(|rule| {
                has(rule, "verbs", asked.verb)
                    && has(rule, "apiGroups", asked.group)
                    && has(rule, "resources", &resource)
                    && match asked.namespace {
                        "" => rule["clusterScope"] == true,
                        namespace => has(rule, "namespaces", namespace),
                    }
            })
        }
    }
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

fn has(rule: &Value, name: &str, wanted: &str) -> bool {
    list(rule, name).any(|entry| entry == "*" || entry == wanted)
}

fn is_path(url: &Value, path: &str) -> bool {
    match url.as_str().unwrap_or_default() {
        "*" => true,
        url => {
            url == path
                || url.strip_suffix('*').is_some_and(|head| head.ends_with('/') && path.starts_with(head))
        }
    }
}

fn is_subject(subject: &Value, user: &User) -> bool {
    match subject["kind"].as_str() {
        Some("User") => subject["user"]["name"] == "*" || subject["user"]["name"] == user.name.as_str(),
        Some("Group") => match subject["group"]["name"].as_str() {
            Some("*") => true,
            Some(group) => user.is_in(group),
            None => false,
        },
        Some("ServiceAccount") => {
            let account = &subject["serviceAccount"];
            let (namespace, name) = (account["namespace"].as_str(), account["name"].as_str());
            let own = user.name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
            own.is_some_and(|(own_namespace, own_name)| {
                namespace == Some(own_namespace) && (name == Some("*") || name == Some(own_name))
            })
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_is_about_subjects_and_what_they_ask() {
        let rule = json!({
            "subjects": [
                {"kind": "Group", "group": {"name": "system:authenticated"}},
                {"kind": "ServiceAccount", "serviceAccount": {"namespace": "a", "name": "*"}},
            ],
            "resourceRules": [{"verbs": ["get"], "apiGroups": ["apps"], "resources": ["deployments/scale"], "namespaces": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["/healthz", "/apis/*"]}],
        });
        let user = User::new("u", []);
        let scale = Attributes {
            group: "apps",
            resource: "deployments",
            subresource: "scale",
            namespace: "n",
            ..Attributes::resource("get")
        };
        assert!(fits(&rule, &user, &scale));
        assert!(!fits(&rule, &user, &Attributes { subresource: "", ..scale }));
        assert!(!fits(&rule, &user, &Attributes { namespace: "", ..scale }), "not of the whole cluster");
        assert!(fits(&rule, &user, &Attributes::path("get", "/apis/x")));
        assert!(!fits(&rule, &user, &Attributes::path("get", "/metrics")));
        let account = |name: &str| User { name: name.into(), ..User::default() };
        assert!(fits(&rule, &account("system:serviceaccount:a:b"), &scale));
        assert!(!fits(&rule, &account("system:serviceaccount:c:b"), &scale));
    }
}
