//! `Impersonate-*` headers: a user acts as another, if permitted.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use apimachinery::{
    ApiError, FieldPath,
    field::{aggregate, quoted},
    names,
    rbac::Attributes,
};
use http::{HeaderMap, HeaderName};
use parking_lot::Mutex;

use super::{
    ANONYMOUS, AUTHENTICATED, MASTERS, UNAUTHENTICATED, User,
    authz::{Authorizer, Decision, refuse},
};
use crate::{http::query::percent_decode, registry::ErrorList, validation::domain_path};

const PREFIX: &str = "impersonate-";
const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA: &str = "impersonate-extra-";

/// Whom the headers name, if they name anybody.
pub fn wanted(headers: &HeaderMap) -> Result<Option<User>, ApiError> {
    if !headers.keys().any(|name| name.as_str().starts_with(PREFIX)) {
        return Ok(None);
    }
    let texts = |name: &str| -> Vec<String> {
        headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect()
    };
    let first = |name: &str| texts(name).into_iter().next().unwrap_or_default();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in headers.keys().filter_map(|name: &HeaderName| name.as_str().strip_prefix(EXTRA)) {
        extra.insert(percent_decode(name, false), texts(&format!("{EXTRA}{name}")));
    }
    let user = User { name: first(USER), uid: first(UID), groups: texts(GROUP), extra };
    if user.name.is_empty() {
        if user == User::default() {
            return Ok(None);
        }
        let message = format!("requested {} without impersonating a user name", printed(&user));
        return Err(ApiError::bad_request(message));
    }
    Ok(Some(user))
}

/// What was asked for, as Go prints a user.
fn printed(user: &User) -> String {
    let list = |texts: &[String]| {
        let texts: Vec<_> = texts.iter().map(|text| quoted(text)).collect();
        format!("[]string{{{}}}", texts.join(", "))
    };
    let groups = if user.groups.is_empty() { "[]string(nil)".to_owned() } else { list(&user.groups) };
    let extra = user.extra.iter().map(|(key, values)| format!("{}:{}", quoted(key), list(values)));
    let extra = match &extra.collect::<Vec<_>>()[..] {
        [] => "map[string][]string(nil)".to_owned(),
        all => format!("map[string][]string{{{}}}", all.join(", ")),
    };
    let (name, uid) = (quoted(&user.name), quoted(&user.uid));
    format!("&user.DefaultInfo{{Name:{name}, UID:{uid}, Groups:{groups}, Extra:{extra}}}")
}

/// Whom a request acts as.
pub struct ImpersonatedUser {
    /// The user, with the groups that he always has.
    pub user: Arc<User>,
    /// The verb by which it may, if that is one of constrained impersonation (KEP-5284).
    pub constraint: Option<String>,
}

/// The ways to act as another, in the order in which they are tried. But for the last one, each is also confined to the requests that one may
/// make by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Of a service account: as the node on which it runs.
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    /// As who is neither a node nor a service account.
    UserInfo,
    /// As anybody, and for every request.
    Legacy,
}

const MODES: [Mode; 5] =
    [Mode::AssociatedNode, Mode::ArbitraryNode, Mode::ServiceAccount, Mode::UserInfo, Mode::Legacy];

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::AssociatedNode => "associated-node",
            Self::ArbitraryNode => "arbitrary-node",
            Self::ServiceAccount => "serviceaccount",
            Self::UserInfo => "user-info",
            Self::Legacy => "",
        }
    }

    fn applies(self, wanted: &User, user: &User) -> bool {
        let bare = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
        let (node, account) = (node(&wanted.name), service_account(&wanted.name));
        match self {
            Self::AssociatedNode => {
                let own = user.extra.get(NODE_NAME).map(Vec::as_slice);
                let there = matches!((own, node), (Some([own]), Some(node)) if own == node);
                bare && there && service_account(&user.name).is_some()
            }
            Self::ArbitraryNode => bare && node.is_some(),
            Self::ServiceAccount => bare && account.is_some(),
            Self::UserInfo => node.is_none() && account.is_none(),
            Self::Legacy => true,
        }
    }
}

/// Where a token says on which node its pod runs.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// What is asked of a service account that acts as its node, in place of everything that tells one node from another.
const ASSOCIATED: &str = "authentication.kubernetes.io/associated-node-keys";
const IDENTITY: &str = "authentication.k8s.io";
/// From so many groups, or values, on it is asked first whether all of them are allowed.
const MANY: usize = 4;
/// Users whose last way is remembered: a page of memory for each hundred of them.
const MOST_REMEMBERED: usize = 1024;

/// Which way a user acted as another the last time: it is tried first, and what is told of it is what he is told.
#[derive(Debug, Default)]
pub struct LastModes(Mutex<HashMap<String, Mode>>);

impl LastModes {
    fn last(&self, user: &User) -> Option<Mode> {
        self.0.lock().get(&user.name).copied()
    }

    fn keep(&self, user: &User, mode: Mode) {
        let mut known = self.0.lock();
        if known.len() >= MOST_REMEMBERED && !known.contains_key(&user.name) {
            known.clear();
        }
        known.insert(user.name.clone(), mode);
    }
}

/// The user that a request acts as; none if it acts as its own. `asked` is what it asks for.
pub async fn impersonate(
    headers: &HeaderMap,
    user: &User,
    asked: &Attributes<'_>,
    authorizer: &Authorizer,
) -> Result<Option<ImpersonatedUser>, ApiError> {
    let Some(wanted) = wanted(headers)? else { return Ok(None) };
    if !user.is_in(AUTHENTICATED) && !authorizer.admits_anonymous() {
        return Err(ApiError::unauthorized());
    }
    let last = authorizer.impersonations().last(user);
    let mut first = None;
    for mode in last.into_iter().chain(MODES.into_iter().filter(|mode| Some(*mode) != last)) {
        if !mode.applies(&wanted, user) {
            continue;
        }
        match Box::pin(act(mode, &wanted, user, asked, authorizer)).await {
            Ok(impersonated_user) => {
                authorizer.impersonations().keep(user, mode);
                return Ok(Some(impersonated_user));
            }
            Err(error) => _ = first.get_or_insert(error),
        }
    }
    Err(first.unwrap_or_else(|| ApiError::internal("all impersonation modes failed")))
}

/// Asks whether a user may act as another by one of the ways.
async fn act(
    mode: Mode,
    wanted: &User,
    user: &User,
    asked: &Attributes<'_>,
    authorizer: &Authorizer,
) -> Result<ImpersonatedUser, ApiError> {
    let constrained = mode != Mode::Legacy;
    let as_node;
    let user = if mode == Mode::AssociatedNode {
        let keys = user.extra.keys().cloned().collect();
        as_node = User { extra: BTreeMap::from([(ASSOCIATED.to_owned(), keys)]), ..user.clone() };
        &as_node
    } else {
        user
    };
    if constrained {
        let verb = format!("impersonate-on:{}:{}", mode.name(), asked.verb);
        check(authorizer, user, &Attributes { verb: &verb, ..*asked }).await?;
    }
    let verb = if constrained { format!("impersonate:{}", mode.name()) } else { "impersonate".to_owned() };
    let identity = Attributes { group: IDENTITY, version: "v1", ..Attributes::resource(&verb) };
    let base = if constrained { identity } else { Attributes { group: "", ..identity } };
    let mut actual = wanted.clone();
    let name = match (node(&wanted.name).filter(|_| constrained), service_account(&wanted.name)) {
        (Some(node), _) => {
            actual.groups = vec![NODES.to_owned()];
            let name = if mode == Mode::AssociatedNode { "*" } else { node };
            Attributes { resource: "nodes", name, ..base }
        }
        (None, Some((namespace, name))) => {
            if wanted.groups.is_empty() {
                actual.groups = account_groups(namespace).to_vec();
            }
            Attributes { resource: "serviceaccounts", namespace, name, ..base }
        }
        (None, None) => Attributes { resource: "users", name: &wanted.name, ..base },
    };
    check(authorizer, user, &name).await?;
    if !wanted.uid.is_empty() {
        check(authorizer, user, &Attributes { resource: "uids", name: &wanted.uid, ..identity }).await?;
    }
    check_groups(&wanted.groups, user, Attributes { resource: "groups", ..base }, constrained, authorizer)
        .await?;
    let extra = Attributes { resource: "userextras", ..identity };
    check_extra(&wanted.extra, user, extra, constrained, authorizer).await?;
    // Who is somebody else is somebody: the group cannot be left out.
    let implied = if actual.name == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
    if !actual.is_in(implied) && !actual.is_in(UNAUTHENTICATED) {
        actual.groups.push(implied.to_owned());
    }
    Ok(ImpersonatedUser { user: Arc::new(actual), constraint: constrained.then_some(verb) })
}

/// Whether one permission for all makes a check of each unnecessary. It is asked about only where there are many.
async fn permits_all(count: usize, all: &Attributes<'_>, user: &User, authorizer: &Authorizer) -> bool {
    count >= MANY && check(authorizer, user, all).await.is_ok()
}

async fn check_groups(
    groups: &[String],
    user: &User,
    base: Attributes<'_>,
    constrained: bool,
    authorizer: &Authorizer,
) -> Result<(), ApiError> {
    if constrained {
        if groups.iter().any(String::is_empty) {
            return Err(refuse(user, &base, "impersonating the empty string group is not allowed"));
        }
        if groups.iter().any(|group| group == MASTERS) {
            let asked = Attributes { name: MASTERS, ..base };
            return Err(refuse(user, &asked, "impersonating the system:masters group is not allowed"));
        }
        let all = Attributes { name: "*", ..base };
        if permits_all(groups.len(), &all, user, authorizer).await {
            return Ok(());
        }
    }
    for name in groups {
        check(authorizer, user, &Attributes { name, ..base }).await?;
    }
    Ok(())
}

async fn check_extra(
    extra: &BTreeMap<String, Vec<String>>,
    user: &User,
    base: Attributes<'_>,
    constrained: bool,
    authorizer: &Authorizer,
) -> Result<(), ApiError> {
    if constrained {
        for (key, values) in extra {
            if let Some(why) = odd_extra(key, values) {
                return Err(refuse(user, &base, &why));
            }
        }
        let count = extra.len().max(extra.values().map(Vec::len).sum());
        let all = Attributes { subresource: "*", name: "*", ..base };
        if permits_all(count, &all, user, authorizer).await {
            return Ok(());
        }
    }
    for (key, values) in extra {
        for name in values {
            check(authorizer, user, &Attributes { subresource: key, name, ..base }).await?;
        }
    }
    Ok(())
}

/// What nobody may say of somebody else: `validateExtra`.
fn odd_extra(key: &str, values: &[String]) -> Option<String> {
    if key.is_empty() {
        return Some("impersonating the empty string key in extra is not allowed".to_owned());
    }
    let mut errors = ErrorList::new();
    domain_path(key, &FieldPath::new("extra.key"), &mut errors);
    if !errors.is_empty() {
        let why = aggregate(&errors);
        return Some(format!("impersonating an invalid key in extra is not allowed: {why}"));
    }
    if key != key.to_lowercase() {
        return Some(format!("impersonating a non-lowercase key in extra is not allowed: {}", quoted(key)));
    }
    let empty = values.iter().any(String::is_empty);
    empty.then(|| "impersonating the empty string value in extra is not allowed".to_owned())
}

/// Whoever could not be asked has not allowed it either.
async fn check(authorizer: &Authorizer, user: &User, asked: &Attributes<'_>) -> Result<(), ApiError> {
    match authorizer.decide(user, asked).await {
        Decision::Allow(_) => Ok(()),
        Decision::NoOpinion(reason) | Decision::Deny(reason) | Decision::Failed(reason) => {
            Err(refuse(user, asked, &reason))
        }
    }
}

/// The group of all nodes.
const NODES: &str = "system:nodes";

/// The node of a user name.
fn node(user: &str) -> Option<&str> {
    user.strip_prefix("system:node:").filter(|name| names::dns1123_subdomain(name).is_empty())
}

/// Namespace and name of a service account's user name: `serviceaccount.SplitUsername`.
pub fn service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    let good = names::dns1123_label(namespace).is_empty() && names::dns1123_subdomain(name).is_empty();
    good.then_some((namespace, name))
}

/// The groups of a namespace's service accounts, but for `system:authenticated`.
pub fn account_groups(namespace: &str) -> [String; 2] {
    ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_account_has_names_that_there_can_be() {
        let account = |rest: &str| {
            let user = format!("system:serviceaccount:{rest}");
            service_account(&user).map(|(namespace, name)| [namespace, name].map(str::to_owned))
        };
        assert_eq!(account("demo:robot.v1"), Some(["demo", "robot.v1"].map(str::to_owned)));
        for bad in ["demo", "demo:", ":robot", "demo:robot:x", "A B:c", "a.b:c", "demo:C", "demo:a_b"] {
            assert_eq!(account(bad), None, "{bad}");
        }
        assert_eq!(service_account("demo:robot"), None);
    }
}
