//! `PolicyRulesWithSubjects` of a FlowSchema, read once: each request is held against all of them.

use apimachinery::rbac::Attributes;
use serde_json::Value;

use crate::auth::User;

/// Who asks what.
#[derive(Debug)]
pub(super) struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<Resources>,
    paths: Vec<Paths>,
}

/// Names, or all of them.
#[derive(Debug)]
struct Names(Vec<String>);

#[derive(Debug)]
enum Subject {
    User(String),
    Group(String),
    Account { namespace: String, name: String },
}

#[derive(Debug)]
struct Resources {
    verbs: Names,
    groups: Names,
    resources: Names,
    namespaces: Names,
    of_cluster: bool,
}

#[derive(Debug)]
struct Paths {
    verbs: Names,
    urls: Names,
}

const ANY: &str = "*";

pub(super) fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

impl Names {
    fn read(rule: &Value, field: &str) -> Self {
        Self(list(rule, field).filter_map(|name| name.as_str().map(str::to_owned)).collect())
    }

    fn has(&self, wanted: &str) -> bool {
        self.0.iter().any(|name| name == ANY || name == wanted)
    }

    /// Whether `resource`, or a part of it, is among them.
    fn has_part(&self, resource: &str, part: &str) -> bool {
        if part.is_empty() {
            return self.has(resource);
        }
        let is_it = |name: &str| name.split_once('/').is_some_and(|both| both == (resource, part));
        self.0.iter().any(|name| name == ANY || is_it(name))
    }
}

impl Rule {
    pub(super) fn read(rule: &Value) -> Self {
        let resources = list(rule, "resourceRules").map(|rule| Resources {
            verbs: Names::read(rule, "verbs"),
            groups: Names::read(rule, "apiGroups"),
            resources: Names::read(rule, "resources"),
            namespaces: Names::read(rule, "namespaces"),
            of_cluster: rule["clusterScope"] == true,
        });
        let paths = list(rule, "nonResourceRules").map(|rule| Paths {
            verbs: Names::read(rule, "verbs"),
            urls: Names::read(rule, "nonResourceURLs"),
        });
        Self {
            subjects: list(rule, "subjects").filter_map(Subject::read).collect(),
            resources: resources.collect(),
            paths: paths.collect(),
        }
    }

    /// Whether it is about a user and what he asks.
    pub(super) fn fits(&self, user: &User, asked: &Attributes<'_>) -> bool {
        if !self.subjects.iter().any(|subject| subject.is(user)) {
            return false;
        }
        match asked.path {
            Some(path) => self
                .paths
                .iter()
                .any(|rule| rule.verbs.has(asked.verb) && rule.urls.0.iter().any(|url| is_path(url, path))),
            None => self.resources.iter().any(|rule| {
                rule.verbs.has(asked.verb)
                    && rule.groups.has(asked.group)
                    && rule.resources.has_part(asked.resource, asked.subresource)
                    && match asked.namespace {
                        "" => rule.of_cluster,
                        namespace => rule.namespaces.has(namespace),
                    }
            }),
        }
    }
}

impl Subject {
    fn read(subject: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        match subject["kind"].as_str()? {
            "User" => text(&subject["user"]["name"]).map(Self::User),
            "Group" => text(&subject["group"]["name"]).map(Self::Group),
            "ServiceAccount" => {
                let account = &subject["serviceAccount"];
                Some(Self::Account { namespace: text(&account["namespace"])?, name: text(&account["name"])? })
            }
            _ => None,
        }
    }

    fn is(&self, user: &User) -> bool {
        match self {
            Self::User(name) => name == ANY || *name == user.name,
            Self::Group(group) => group == ANY || user.is_in(group),
            Self::Account { namespace, name } => {
                let own = user.name.strip_prefix("system:serviceaccount:");
                own.and_then(|rest| rest.split_once(':')).is_some_and(|(own_namespace, own_name)| {
                    namespace == own_namespace && (name == ANY || name == own_name)
                })
            }
        }
    }
}

fn is_path(url: &str, path: &str) -> bool {
    url == ANY
        || url == path
        || url.strip_suffix('*').is_some_and(|head| head.ends_with('/') && path.starts_with(head))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_is_about_subjects_and_what_they_ask() {
        let rule = Rule::read(&json!({
            "subjects": [
                {"kind": "Group", "group": {"name": "system:authenticated"}},
                {"kind": "ServiceAccount", "serviceAccount": {"namespace": "a", "name": "*"}},
            ],
            "resourceRules": [{"verbs": ["get"], "apiGroups": ["apps"], "resources": ["deployments/scale"], "namespaces": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["/healthz", "/apis/*"]}],
        }));
        let user = User::new("u", []);
        let scale = Attributes {
            group: "apps",
            resource: "deployments",
            subresource: "scale",
            namespace: "n",
            ..Attributes::resource("get")
        };
        assert!(rule.fits(&user, &scale));
        assert!(!rule.fits(&user, &Attributes { subresource: "", ..scale }));
        assert!(!rule.fits(&user, &Attributes { namespace: "", ..scale }), "not of the whole cluster");
        assert!(rule.fits(&user, &Attributes::path("get", "/apis/x")));
        assert!(!rule.fits(&user, &Attributes::path("get", "/metrics")));
        let account = |name: &str| User { name: name.into(), ..User::default() };
        assert!(rule.fits(&account("system:serviceaccount:a:b"), &scale));
        assert!(!rule.fits(&account("system:serviceaccount:c:b"), &scale));
    }
}
