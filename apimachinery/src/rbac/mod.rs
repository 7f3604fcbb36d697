//! Role-based access control, pure: rules, what they allow, and who holds them.
//!
//! [`Rule`] is one `PolicyRule`; [`Index`] finds the rules of a user among all roles and bindings; [`missing`] tells what
//! a user would grant without holding it. Nothing here reads a store: roles and bindings come in as JSON values, and an
//! index takes in one that changes without looking at the others.
//!
//! ```
//! use apimachinery::rbac::{Attributes, Rule};
//! let rule = Rule::from_value(&serde_json::json!({"apiGroups": ["apps"], "resources": ["*/scale"], "verbs": ["get"]}));
//! let asked = Attributes { group: "apps", resource: "deployments", subresource: "scale", ..Attributes::resource("get") };
//! assert!(rule.allows(&asked));
//! ```

mod cover;
mod index;

use std::fmt::{self, Write as _};

use serde_json::{Map, Value};

pub use cover::missing;
pub use index::{Index, Subject, Verdict};

/// What a request wants to do, as authorization sees it (`authorizer.Attributes`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// `get`, `list`...; for a path the lower-case HTTP method.
    pub verb: &'a str,
    /// The path, if no resource is asked for.
    pub path: Option<&'a str>,
    /// Empty for cluster-scoped requests.
    pub namespace: &'a str,
    /// API group; empty for core.
    pub group: &'a str,
    /// API version; roles do not look at it.
    pub version: &'a str,
    /// Plural resource name.
    pub resource: &'a str,
    /// Empty if the object itself is meant.
    pub subresource: &'a str,
    /// Empty if a collection is meant.
    pub name: &'a str,
}

impl<'a> Attributes<'a> {
    /// A request on a resource that struct update syntax completes.
    pub fn resource(verb: &'a str) -> Self {
        Self {
            verb,
            path: None,
            namespace: "",
            group: "",
            version: "",
            resource: "",
            subresource: "",
            name: "",
        }
    }

    /// A request on a path.
    pub fn path(verb: &'a str, path: &'a str) -> Self {
        Self { path: Some(path), ..Self::resource(verb) }
    }
}

/// One `rbac.authorization.k8s.io/v1` PolicyRule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Verbs; `*` is all.
    pub verbs: Vec<String>,
    /// API groups; `*` is all.
    pub groups: Vec<String>,
    /// Resources, `pods/log`, `*/scale` or `*`.
    pub resources: Vec<String>,
    /// Names of objects; empty for all.
    pub names: Vec<String>,
    /// Paths; `*` at the end is any rest.
    pub urls: Vec<String>,
}

impl Rule {
    /// Reads a rule as it stands in a role.
    pub fn from_value(rule: &Value) -> Self {
        let texts = |name: &str| {
            let texts = rule[name].as_array().into_iter().flatten();
            texts.filter_map(|text| text.as_str().map(str::to_owned)).collect()
        };
        Self {
            verbs: texts("verbs"),
            groups: texts("apiGroups"),
            resources: texts("resources"),
            names: texts("resourceNames"),
            urls: texts("nonResourceURLs"),
        }
    }

    /// The rules of a role.
    pub fn of_role(role: &Value) -> Vec<Self> {
        role["rules"].as_array().into_iter().flatten().map(Self::from_value).collect()
    }

    /// The rule as it stands in a role.
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        for (name, texts) in self.parts() {
            if !texts.is_empty() {
                map.insert(name.0.to_owned(), texts.clone().into());
            }
        }
        Value::Object(map)
    }

    /// JSON names, names in messages, and values, in the order of messages.
    fn parts(&self) -> [((&'static str, &'static str), &Vec<String>); 5] {
        [
            (("apiGroups", "APIGroups"), &self.groups),
            (("resources", "Resources"), &self.resources),
            (("nonResourceURLs", "NonResourceURLs"), &self.urls),
            (("resourceNames", "ResourceNames"), &self.names),
            (("verbs", "Verbs"), &self.verbs),
        ]
    }

    /// Whether the rule allows a request (`rbac.RuleAllows`).
    pub fn allows(&self, asked: &Attributes<'_>) -> bool {
        if !has_or_all(&self.verbs, asked.verb) {
            return false;
        }
        if let Some(path) = asked.path {
            return self.urls.iter().any(|url| url_covers(url, path));
        }
        has_or_all(&self.groups, asked.group)
            && self.resources.iter().any(|resource| resource_matches(resource, asked))
            && (self.names.is_empty() || self.names.iter().any(|name| name == asked.name))
    }
}

fn has_or_all(list: &[String], text: &str) -> bool {
    list.iter().any(|known| known == "*" || known == text)
}

fn resource_matches(rule: &str, asked: &Attributes<'_>) -> bool {
    if rule == "*" {
        return true;
    }
    if asked.subresource.is_empty() {
        return rule == asked.resource;
    }
    rule.split_once('/').is_some_and(|(resource, subresource)| {
        subresource == asked.subresource && (resource == "*" || resource == asked.resource)
    })
}

/// `*` at the end stands for any rest.
fn url_covers(rule: &str, path: &str) -> bool {
    rule == path || (rule.ends_with('*') && path.starts_with(rule.trim_end_matches('*')))
}

/// Go's `%q` of a list of strings.
pub fn quoted(texts: &[String]) -> String {
    let mut out = "[".to_owned();
    for (index, text) in texts.iter().enumerate() {
        let space = if index > 0 { " " } else { "" };
        // Writing to a String cannot fail.
        let _ok = write!(out, "{space}{text:?}");
    }
    out.push(']');
    out
}

impl fmt::Display for Rule {
    /// `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`, as the escalation check prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        let parts = self.parts().into_iter().filter(|(_, texts)| !texts.is_empty());
        for (index, ((_, name), texts)) in parts.enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{name}:{}", quoted(texts))?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(rule: Value, asked: &Attributes<'_>, expect: bool) {
        assert_eq!(Rule::from_value(&rule).allows(asked), expect, "{rule} {asked:?}");
    }

    #[test]
    fn a_subresource_is_another_resource() {
        let pods = Attributes { resource: "pods", ..Attributes::resource("get") };
        let log = Attributes { subresource: "log", ..pods };
        let rule = |resource: &str| json!({"apiGroups": [""], "resources": [resource], "verbs": ["get"]});
        for (resource, of_pods, of_log) in [
            ("pods", true, false),
            ("pods/log", false, true),
            ("*/log", false, true),
            ("*", true, true),
            ("pods/*", false, false),
        ] {
            check(rule(resource), &pods, of_pods);
            check(rule(resource), &log, of_log);
        }
    }

    #[test]
    fn a_named_rule_does_not_allow_a_collection() {
        let rule =
            json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"], "verbs": ["*"]});
        let all = Attributes { resource: "secrets", ..Attributes::resource("list") };
        check(rule.clone(), &all, false);
        check(rule.clone(), &Attributes { name: "a", ..all }, true);
        check(rule, &Attributes { name: "b", ..all }, false);
    }

    #[test]
    fn a_star_ends_a_path() {
        let rule = json!({"nonResourceURLs": ["/healthz", "/apis/*"], "verbs": ["get"]});
        for (path, expect) in
            [("/healthz", true), ("/healthz/", false), ("/apis/apps", true), ("/apis", false)]
        {
            check(rule.clone(), &Attributes::path("get", path), expect);
        }
        check(rule, &Attributes::path("post", "/healthz"), false);
    }
}
