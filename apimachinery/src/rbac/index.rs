//! Who holds which rules: all roles and bindings, by subject.

use std::{collections::HashSet, sync::Arc};

use im::HashMap;
use serde_json::Value;

use super::{Attributes, Rule};

/// A role is told again only while there are no more rules than these: a user can bind one of thirty thousand rules to himself as often as he likes.
const MOST_REPEATED: usize = 20_000;

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

/// The role that a binding names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Named {
    /// It is a Role of the binding's own namespace, and no ClusterRole.
    is_local: bool,
    name: Box<str>,
}

impl Named {
    fn missing(&self) -> String {
        let what = if self.is_local { "role" } else { "clusterrole" };
        format!("{what}.rbac.authorization.k8s.io {:?} not found", self.name)
    }
}

/// What one binding gives to one subject. The rules are looked up when they are asked for, so that a role may change by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    binding: Arc<str>,
    role: Arc<Named>,
    /// `RBAC: allowed by ...`
    reason: Arc<str>,
}

/// Those of each subject, in order of the bindings' names.
type Grants = HashMap<Box<str>, Arc<Vec<Grant>>>;
/// The rules of roles by their names.
type Roles = HashMap<Box<str>, Arc<[Rule]>>;

/// Grants that hold in one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Place {
    users: Grants,
    groups: Grants,
}

impl Place {
    fn grants<'a>(&'a self, subject: Subject<'a>) -> impl Iterator<Item = &'a Grant> {
        let groups = subject.groups.iter().filter_map(|group| self.groups.get(group.as_str()));
        self.users.get(subject.user).into_iter().chain(groups).flat_map(|grants| grants.iter())
    }

    fn is_empty(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty()
    }

    fn table(&mut self, kind: Kind) -> &mut Grants {
        match kind {
            Kind::User => &mut self.users,
            Kind::Group => &mut self.groups,
        }
    }
}

/// How a subject is known when it asks.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    User,
    Group,
}

/// All grants, everywhere and by namespace. A clone costs nothing, and what changes in it afterwards is only what a role or a binding is
/// about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    everywhere: Place,
    namespaces: HashMap<Box<str>, Place>,
    cluster_roles: Roles,
    /// By namespace.
    roles: HashMap<Box<str>, Roles>,
}

impl Index {
    /// Decides on a request. Allocates only to tell of missing roles.
    pub fn authorize(&self, subject: Subject<'_>, asked: &Attributes<'_>) -> Verdict {
        let mut missing = Missing::default();
        for (grant, rules) in self.grants(subject, asked.namespace) {
            match rules {
                Some(rules) if rules.iter().any(|rule| rule.allows(asked)) => {
                    return Verdict::Allowed(Arc::clone(&grant.reason));
                }
                Some(_) => {}
                None => missing.add(&grant.role),
            }
        }
        let texts: Vec<String> = missing.in_order.into_iter().map(Named::missing).collect();
        Verdict::NoOpinion(match texts.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        })
    }

    /// Every rule that a subject holds in a namespace, or everywhere if that is empty; and the roles that are not there. A role that several
    /// bindings give is told for each of them, up to [`MOST_REPEATED`].
    pub fn rules(&self, subject: Subject<'_>, namespace: &str) -> (Vec<Rule>, Vec<Arc<str>>) {
        let (mut rules, mut errors, mut told) = (Vec::new(), Vec::new(), HashSet::new());
        for (grant, own) in self.grants(subject, namespace) {
            match own {
                Some(own) => {
                    if told.insert(own.as_ptr()) || rules.len() + own.len() <= MOST_REPEATED {
                        rules.extend(own.iter().cloned());
                    }
                }
                None => errors.push(grant.role.missing().into()),
            }
        }
        (rules, errors)
    }

    /// The rules of a role that a binding in `namespace` refers to; the error is the text for people.
    pub fn role(&self, kind: &str, name: &str, namespace: &str) -> Result<Arc<[Rule]>, String> {
        let role = named(kind, name);
        self.found(&role, self.roles.get(namespace)).cloned().ok_or_else(|| role.missing())
    }

    fn found<'a>(&'a self, role: &Named, local: Option<&'a Roles>) -> Option<&'a Arc<[Rule]>> {
        if role.is_local { local?.get(&role.name) } else { self.cluster_roles.get(&role.name) }
    }

    /// The grants of a subject, and the rules of each if its role is there. A ClusterRoleBinding cannot give a Role, whichever namespace is
    /// asked about.
    fn grants<'a>(
        &'a self,
        subject: Subject<'a>,
        namespace: &str,
    ) -> impl Iterator<Item = (&'a Grant, Option<&'a Arc<[Rule]>>)> {
        let inside = if namespace.is_empty() { None } else { self.namespaces.get(namespace) };
        let local = self.roles.get(namespace);
        let everywhere =
            self.everywhere.grants(subject).map(move |grant| (grant, self.found(&grant.role, None)));
        let inside = inside.into_iter().flat_map(move |place| place.grants(subject));
        everywhere.chain(inside.map(move |grant| (grant, self.found(&grant.role, local))))
    }

    /// Takes in a ClusterRole, or with a namespace a Role, as it is now.
    pub fn put_role(&mut self, namespace: &str, name: &str, rules: Arc<[Rule]>) {
        if namespace.is_empty() {
            self.cluster_roles.insert(name.into(), rules);
        } else {
            self.roles.entry(namespace.into()).or_default().insert(name.into(), rules);
        }
    }

    /// Forgets a ClusterRole, or with a namespace a Role.
    pub fn remove_role(&mut self, namespace: &str, name: &str) {
        if namespace.is_empty() {
            self.cluster_roles.remove(name);
        } else if let Some(roles) = self.roles.get_mut(namespace) {
            roles.remove(name);
            if roles.is_empty() {
                self.roles.remove(namespace);
            }
        }
    }

    /// Takes in a ClusterRoleBinding, or with a namespace a RoleBinding. One that was there before must have been removed.
    pub fn put_binding(&mut self, namespace: &str, name: &str, binding: &Value) {
        let (kind, role) = (text(&binding["roleRef"], "kind"), text(&binding["roleRef"], "name"));
        let whole = if namespace.is_empty() {
            format!("ClusterRoleBinding {name:?}")
        } else {
            format!("RoleBinding {:?}", format!("{name}/{namespace}"))
        };
        let (binding_name, named) = (Arc::from(name), Arc::new(named(kind, role)));
        for subject in Bound::of(binding, namespace) {
            let Bound { kind: subject_kind, shown, .. } = &subject;
            let reason = format!("RBAC: allowed by {whole} of {kind} {role:?} to {subject_kind} {shown:?}");
            let (binding, role) = (Arc::clone(&binding_name), Arc::clone(&named));
            let grant = Grant { binding, role, reason: reason.into() };
            let place = if namespace.is_empty() {
                &mut self.everywhere
            } else {
                self.namespaces.entry(namespace.into()).or_default()
            };
            let grants = place.table(subject.asks_as).entry(subject.key.into()).or_default();
            let grants = Arc::make_mut(grants);
            let at = grants.partition_point(|other| *other.binding <= *name);
            grants.insert(at, grant);
        }
    }

    /// Forgets a binding, which is told as it was put.
    pub fn remove_binding(&mut self, namespace: &str, name: &str, binding: &Value) {
        for subject in Bound::of(binding, namespace) {
            let place = if namespace.is_empty() {
                &mut self.everywhere
            } else {
                let Some(place) = self.namespaces.get_mut(namespace) else { return };
                place
            };
            let table = place.table(subject.asks_as);
            let Some(grants) = table.get_mut(&*subject.key) else { continue };
            let grants = Arc::make_mut(grants);
            let first = grants.partition_point(|other| *other.binding < *name);
            let last = grants.partition_point(|other| *other.binding <= *name);
            grants.drain(first..last);
            if grants.is_empty() {
                table.remove(&*subject.key);
            }
        }
        if self.namespaces.get(namespace).is_some_and(Place::is_empty) {
            self.namespaces.remove(namespace);
        }
    }
}

/// Roles that are not there, each once.
#[derive(Default)]
struct Missing<'a> {
    known: HashSet<&'a Named>,
    in_order: Vec<&'a Named>,
}

impl<'a> Missing<'a> {
    fn add(&mut self, role: &'a Named) {
        if self.known.insert(role) {
            self.in_order.push(role);
        }
    }
}

/// A subject of a binding.
struct Bound<'a> {
    asks_as: Kind,
    key: String,
    kind: &'a str,
    /// As reasons show it.
    shown: String,
}

impl<'a> Bound<'a> {
    /// Those of a binding in a namespace, each once: the first time that it is named.
    fn of(binding: &'a Value, namespace: &'a str) -> impl Iterator<Item = Self> {
        let subjects = binding["subjects"].as_array().into_iter().flatten();
        let mut known = HashSet::new();
        let bound = subjects.filter_map(move |subject| {
            let (kind, name) = (text(subject, "kind"), text(subject, "name"));
            let same = |asks_as| Self { asks_as, key: name.to_owned(), kind, shown: name.to_owned() };
            match kind {
                "User" => Some(same(Kind::User)),
                "Group" => Some(same(Kind::Group)),
                "ServiceAccount" => {
                    let own = text(subject, "namespace");
                    let own = if own.is_empty() { namespace } else { own };
                    let key = format!("system:serviceaccount:{own}:{name}");
                    Some(Self { asks_as: Kind::User, key, kind, shown: format!("{name}/{own}") })
                }
                _ => None,
            }
        });
        bound.filter(move |subject| known.insert((subject.asks_as, subject.key.clone())))
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn named(kind: &str, name: &str) -> Named {
    Named { is_local: kind == "Role", name: name.into() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn rules(rules: Value) -> Arc<[Rule]> {
        Rule::of_role(&json!({"rules": rules})).into()
    }

    fn index() -> Index {
        let mut index = Index::default();
        index.put_role(
            "",
            "view",
            rules(json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}])),
        );
        let of = |kind: &str, name: &str, subject: Value| json!({"roleRef": {"kind": kind, "name": name}, "subjects": [subject]});
        index.put_binding("", "all", &of("ClusterRole", "view", json!({"kind": "Group", "name": "dev"})));
        index.put_binding(
            "a",
            "one",
            &of("ClusterRole", "view", json!({"kind": "ServiceAccount", "name": "bot"})),
        );
        index.put_binding("a", "none", &of("Role", "gone", json!({"kind": "User", "name": "eve"})));
        index
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

    #[test]
    fn a_role_of_a_namespace_is_for_bindings_of_that_namespace() {
        let mut index = Index::default();
        let all = || rules(json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]));
        index.put_role("", "own", all());
        let binding = json!({"roleRef": {"kind": "Role", "name": "own"}, "subjects": [{"kind": "User", "name": "ann"}]});
        index.put_binding("", "everywhere", &binding);
        index.put_binding("a", "inside", &binding);
        let may = |index: &Index| {
            let asked = Attributes { resource: "pods", namespace: "a", ..Attributes::resource("get") };
            index.authorize(Subject { user: "ann", groups: &[] }, &asked)
        };
        // Told once, however many bindings name it.
        let missing = r#"RBAC: role.rbac.authorization.k8s.io "own" not found"#;
        assert_eq!(may(&index), Verdict::NoOpinion(missing.to_owned()));
        index.put_role("a", "own", all());
        // The binding for all namespaces does not give it.
        let reason = r#"RBAC: allowed by RoleBinding "inside/a" of Role "own" to User "ann""#;
        assert_eq!(may(&index), Verdict::Allowed(reason.into()));
        index.remove_binding("a", "inside", &binding);
        assert_eq!(may(&index), Verdict::NoOpinion(missing.to_owned()));
    }

    #[test]
    fn a_binding_that_names_a_subject_again_and_again_gives_it_one_grant() {
        let mut index = index();
        let before = index.clone();
        let mut subjects = vec![
            json!({"kind": "ServiceAccount", "name": "bot"}),
            json!({"kind": "User", "name": "system:serviceaccount:a:bot"}),
        ];
        subjects.extend(vec![json!({"kind": "User", "name": "ann"}); 50_000]);
        let binding = json!({"roleRef": {"kind": "ClusterRole", "name": "view"}, "subjects": subjects});
        index.put_binding("a", "again", &binding);
        let grants = |user: &str| {
            let (rules, missing) = index.rules(Subject { user, groups: &[] }, "a");
            assert!(missing.is_empty());
            rules.len()
        };
        assert_eq!(grants("ann"), 1);
        assert_eq!(grants("system:serviceaccount:a:bot"), 2, "one of the binding that was there before");
        let asked = Attributes { resource: "pods", namespace: "a", ..Attributes::resource("get") };
        let reason =
            r#"RBAC: allowed by RoleBinding "again/a" of ClusterRole "view" to ServiceAccount "bot/a""#;
        let bot = Subject { user: "system:serviceaccount:a:bot", groups: &[] };
        assert_eq!(index.authorize(bot, &asked), Verdict::Allowed(reason.into()), "as it was named first");
        index.remove_binding("a", "again", &binding);
        assert_eq!(index, before);
    }

    #[test]
    fn a_long_role_that_many_bindings_give_is_told_once() {
        let mut index = Index::default();
        let bind = |index: &mut Index, role: &str| {
            let binding = json!({"roleRef": {"kind": "Role", "name": role}, "subjects": [{"kind": "User", "name": "ann"}]});
            for at in 0..100 {
                index.put_binding("a", &format!("{role}{at}"), &binding);
            }
        };
        let some = |count: usize| -> Arc<[Rule]> { vec![Rule::default(); count].into() };
        index.put_role("a", "short", some(2));
        index.put_role("a", "long", some(MOST_REPEATED));
        let told = |index: &Index| index.rules(Subject { user: "ann", groups: &[] }, "a").0.len();
        bind(&mut index, "short");
        assert_eq!(told(&index), 200);
        bind(&mut index, "long");
        assert_eq!(told(&index), MOST_REPEATED + 2);
    }

    type Bindings = BTreeMap<(String, String), Value>;

    fn whole(roles: &BTreeMap<(String, String), Arc<[Rule]>>, bindings: &Bindings) -> Index {
        let mut index = Index::default();
        for ((namespace, name), rules) in roles {
            index.put_role(namespace, name, Arc::clone(rules));
        }
        for ((namespace, name), binding) in bindings {
            index.put_binding(namespace, name, binding);
        }
        index
    }

    /// One of three namespaces, one of six names, and what is to be there: nothing, or something that is told by numbers.
    type Step = ((u8, u8), bool, Option<(bool, u8, Vec<(u8, u8)>)>);

    fn step() -> impl Strategy<Value = Step> {
        let subjects = prop::collection::vec((0..4_u8, 0..3_u8), 0..4);
        ((0..3_u8, 0..6_u8), any::<bool>(), prop::option::of((any::<bool>(), 0..6_u8, subjects)))
    }

    fn binding((is_local, role, subjects): &(bool, u8, Vec<(u8, u8)>)) -> Value {
        let subject = |(kind, name): &(u8, u8)| {
            let kind = ["User", "Group", "ServiceAccount", "Odd"][usize::from(*kind)];
            json!({"kind": kind, "name": format!("s{name}")})
        };
        let kind = if *is_local { "Role" } else { "ClusterRole" };
        json!({
            "roleRef": {"kind": kind, "name": format!("n{role}")},
            "subjects": subjects.iter().map(subject).collect::<Vec<_>>(),
        })
    }

    proptest! {
        #[test]
        fn what_changes_came_to_is_what_is_made_of_everything(steps in prop::collection::vec(step(), 0..60)) {
            let (mut roles, mut bindings) = (BTreeMap::new(), Bindings::new());
            let mut index = Index::default();
            for ((namespace, name), of_role, what) in steps {
                let key = (["", "a", "b"][usize::from(namespace)].to_owned(), format!("n{name}"));
                let (namespace, name) = (key.0.as_str(), key.1.as_str());
                if of_role {
                    if let Some((_, verb, _)) = what {
                        let rules = rules(json!([{"verbs": [format!("v{verb}")]}]));
                        index.put_role(namespace, name, Arc::clone(&rules));
                        roles.insert(key, rules);
                    } else {
                        index.remove_role(namespace, name);
                        roles.remove(&key);
                    }
                } else {
                    if let Some(before) = bindings.remove(&key) {
                        index.remove_binding(namespace, name, &before);
                    }
                    if let Some(what) = what {
                        let binding = binding(&what);
                        index.put_binding(namespace, name, &binding);
                        bindings.insert(key, binding);
                    }
                }
            }
            prop_assert_eq!(index, whole(&roles, &bindings));
        }
    }
}
