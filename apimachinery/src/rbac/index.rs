//! Who holds which rules: all roles and bindings, by subject.

use std::{collections::HashMap, sync::Arc};

use serde_json::Value;

use super::{Attributes, Rule};

/// Whose rules are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// User name; of a service account `system:serviceaccount:NAMESPACE:NAME`.
    pub user: &'a str,
    /// Groups.
    pub groups: &'a [String],
}

/// What role-based access control says to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A rule allows it; says which binding gave it.
    Allowed(Arc<str>),
    /// No rule does. Says what bindings name roles that are not there; most often empty.
    NoOpinion(String),
}

/// The rules that one binding gives to one subject.
#[derive(Clone, Debug)]
struct Grant {
    /// The role's rules, or why there are none.
    rules: Result<Arc<[Rule]>, Arc<str>>,
    /// `RBAC: allowed by ...`
    reason: Arc<str>,
}

/// Grants that hold in one place.
#[derive(Clone, Debug, Default)]
struct Place {
    users: HashMap<Box<str>, Vec<Grant>>,
    groups: HashMap<Box<str>, Vec<Grant>>,
}

impl Place {
    fn grants<'a>(&'a self, subject: Subject<'a>) -> impl Iterator<Item = &'a Grant> {
        let groups = subject.groups.iter().filter_map(|group| self.groups.get(group.as_str()));
        self.users.get(subject.user).into_iter().chain(groups).flatten()
    }
}

/// All grants, everywhere and by namespace. Immutable: a change of a role or binding makes another one.
#[derive(Clone, Debug, Default)]
pub struct Index {
    everywhere: Place,
    namespaces: HashMap<Box<str>, Place>,
    cluster_roles: HashMap<Box<str>, Arc<[Rule]>>,
    /// By `namespace/name`.
    roles: HashMap<Box<str>, Arc<[Rule]>>,
}

impl Index {
    /// Decides on a request. Allocates only to tell of missing roles.
    pub fn authorize(&self, subject: Subject<'_>, asked: &Attributes<'_>) -> Verdict {
        let mut errors: Vec<&Arc<str>> = Vec::new();
        for grant in self.grants(subject, asked.namespace) {
            match &grant.rules {
                Ok(rules) if rules.iter().any(|rule| rule.allows(asked)) => {
                    return Verdict::Allowed(Arc::clone(&grant.reason));
                }
                Ok(_) => {}
                Err(error) if errors.contains(&error) => {}
                Err(error) => errors.push(error),
            }
        }
        Verdict::NoOpinion(match errors.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => {
                let texts: Vec<&str> = many.iter().map(|text| &***text).collect();
                format!("RBAC: [{}]", texts.join(", "))
            }
        })
    }

    /// Every rule that a subject holds in a namespace, or everywhere if that is empty; and the roles that are not there.
    pub fn rules(&self, subject: Subject<'_>, namespace: &str) -> (Vec<Rule>, Vec<Arc<str>>) {
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        for grant in self.grants(subject, namespace) {
            match &grant.rules {
                Ok(own) => rules.extend(own.iter().cloned()),
                Err(error) => errors.push(Arc::clone(error)),
            }
        }
        (rules, errors)
    }

    /// The rules of a role that a binding in `namespace` refers to; the error is the text for people.
    pub fn role(&self, kind: &str, name: &str, namespace: &str) -> Result<Arc<[Rule]>, String> {
        let (found, what) = if kind == "Role" {
            (self.roles.get(format!("{namespace}/{name}").as_str()), "role")
        } else {
            (self.cluster_roles.get(name), "clusterrole")
        };
        found.cloned().ok_or_else(|| format!("{what}.rbac.authorization.k8s.io {name:?} not found"))
    }

    fn grants<'a>(&'a self, subject: Subject<'a>, namespace: &str) -> impl Iterator<Item = &'a Grant> {
        let inside = if namespace.is_empty() { None } else { self.namespaces.get(namespace) };
        self.everywhere.grants(subject).chain(inside.into_iter().flat_map(move |place| place.grants(subject)))
    }
}

/// Makes an [`Index`]: first all roles, then all bindings.
#[derive(Debug, Default)]
pub struct Builder {
    index: Index,
}

impl Builder {
    /// Adds a ClusterRole, or with a namespace a Role.
    pub fn role(&mut self, namespace: &str, name: &str, rules: Arc<[Rule]>) {
        if namespace.is_empty() {
            self.index.cluster_roles.insert(name.into(), rules);
        } else {
            self.index.roles.insert(format!("{namespace}/{name}").into(), rules);
        }
    }

    /// Adds a ClusterRoleBinding, or with a namespace a RoleBinding.
    pub fn binding(&mut self, namespace: &str, name: &str, binding: &Value) {
        let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
        let (kind, role) = (text(&binding["roleRef"], "kind"), text(&binding["roleRef"], "name"));
        let rules = self.index.role(&kind, &role, namespace).map_err(Arc::from);
        let place = if namespace.is_empty() {
            &mut self.index.everywhere
        } else {
            self.index.namespaces.entry(namespace.into()).or_default()
        };
        let whole = if namespace.is_empty() {
            format!("ClusterRoleBinding {name:?}")
        } else {
            format!("RoleBinding {:?}", format!("{name}/{namespace}"))
        };
        for subject in binding["subjects"].as_array().into_iter().flatten() {
            let (subject_kind, subject_name) = (text(subject, "kind"), text(subject, "name"));
            let mut shown = subject_name.clone();
            let (table, key) = match subject_kind.as_str() {
                "User" => (&mut place.users, subject_name),
                "Group" => (&mut place.groups, subject_name),
                "ServiceAccount" => {
                    let own = text(subject, "namespace");
                    let own = if own.is_empty() { namespace } else { own.as_str() };
                    shown = format!("{subject_name}/{own}");
                    (&mut place.users, format!("system:serviceaccount:{own}:{subject_name}"))
                }
                _ => continue,
            };
            let reason = format!("RBAC: allowed by {whole} of {kind} {role:?} to {subject_kind} {shown:?}");
            let grant = Grant { rules: rules.clone(), reason: reason.into() };
            table.entry(key.into()).or_default().push(grant);
        }
    }

    /// The index.
    pub fn build(self) -> Index {
        self.index
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn index() -> Index {
        let mut builder = Builder::default();
        let rules = |value| Rule::of_role(&json!({"rules": value})).into();
        builder.role(
            "",
            "view",
            rules(json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}])),
        );
        let of = |kind: &str, name: &str, subject: Value| json!({"roleRef": {"kind": kind, "name": name}, "subjects": [subject]});
        builder.binding("", "all", &of("ClusterRole", "view", json!({"kind": "Group", "name": "dev"})));
        builder.binding(
            "a",
            "one",
            &of("ClusterRole", "view", json!({"kind": "ServiceAccount", "name": "bot"})),
        );
        builder.binding("a", "none", &of("Role", "gone", json!({"kind": "User", "name": "eve"})));
        builder.build()
    }

    #[track_caller]
    fn check(user: &str, groups: &[&str], namespace: &str, expect: &str) {
        let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        let asked = Attributes { resource: "pods", namespace, ..Attributes::resource("get") };
        let found = match index().authorize(Subject { user, groups: &groups }, &asked) {
            Verdict::Allowed(reason) => reason.to_string(),
            Verdict::NoOpinion(reason) => format!("no {reason}"),
        };
        assert_eq!(found, expect);
    }

    #[test]
    fn a_cluster_binding_holds_in_every_namespace() {
        let reason = r#"RBAC: allowed by ClusterRoleBinding "all" of ClusterRole "view" to Group "dev""#;
        check("ann", &["dev"], "b", reason);
        check("ann", &["dev"], "", reason);
        check("ann", &[], "b", "no ");
    }

    #[test]
    fn a_binding_holds_in_its_own_namespace() {
        let bot = "system:serviceaccount:a:bot";
        let reason =
            r#"RBAC: allowed by RoleBinding "one/a" of ClusterRole "view" to ServiceAccount "bot/a""#;
        check(bot, &[], "a", reason);
        check(bot, &[], "b", "no ");
        check(bot, &[], "", "no ");
    }

    #[test]
    fn a_binding_to_a_missing_role_is_told() {
        check("eve", &[], "a", r#"no RBAC: role.rbac.authorization.k8s.io "gone" not found"#);
    }
}
