//! `Impersonate-*` headers: a user acts as another, if permitted.

use std::{collections::BTreeMap, sync::Arc};

use apimachinery::{ApiError, rbac::Attributes, status::Reason};
use http::{HeaderMap, HeaderName};

use super::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, User, authz::Authorizer};
use crate::http::query::percent_decode;

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
        // kube-apiserver answers 500, not 400.
        let message = format!("requested [{}] without impersonating a user", references(&user));
        return Err(ApiError::new(500, Reason::InternalError, message));
    }
    Ok(Some(user))
}

/// What was asked for, as Go prints its references to objects.
fn references(user: &User) -> String {
    const GROUP_VERSION: &str = "authentication.k8s.io/v1";
    let groups = user.groups.iter().map(|name| format!("{{Group  {name}    }}"));
    let extra = user.extra.iter().flat_map(|(key, values)| {
        values.iter().map(move |value| format!("{{UserExtra  {value}  {GROUP_VERSION}  {key}}}"))
    });
    let uid = (!user.uid.is_empty()).then(|| format!("{{UID  {}  {GROUP_VERSION}  }}", user.uid));
    groups.chain(extra).chain(uid).collect::<Vec<_>>().join(" ")
}

/// The user that the request acts as; none if it acts as its own.
pub async fn impersonate(
    headers: &HeaderMap,
    user: &User,
    authorizer: &Authorizer,
) -> Result<Option<Arc<User>>, ApiError> {
    let Some(mut wanted) = wanted(headers)? else { return Ok(None) };
    let base = Attributes::resource("impersonate");
    let account = service_account(&wanted.name);
    let identity = "authentication.k8s.io";
    match account {
        Some((namespace, name)) => {
            let asked = Attributes { resource: "serviceaccounts", namespace, name, ..base };
            authorizer.authorize(user, &asked).await?;
        }
        None => {
            authorizer.authorize(user, &Attributes { resource: "users", name: &wanted.name, ..base }).await?;
        }
    }
    for name in &wanted.groups {
        authorizer.authorize(user, &Attributes { resource: "groups", name, ..base }).await?;
    }
    for (key, values) in &wanted.extra {
        for name in values {
            let asked =
                Attributes { group: identity, resource: "userextras", subresource: key, name, ..base };
            authorizer.authorize(user, &asked).await?;
        }
    }
    if !wanted.uid.is_empty() {
        let asked = Attributes { group: identity, resource: "uids", name: &wanted.uid, ..base };
        authorizer.authorize(user, &asked).await?;
    }
    if let (Some((namespace, _)), true) = (account, wanted.groups.is_empty()) {
        wanted.groups = account_groups(namespace).to_vec();
    }
    // Who is somebody else is somebody: the group cannot be left out.
    let implied = if wanted.name == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
    if !wanted.is_in(implied) && !wanted.is_in(UNAUTHENTICATED) {
        wanted.groups.push(implied.to_owned());
    }
    Ok(Some(Arc::new(wanted)))
}

/// Namespace and name of a service account's user name.
pub fn service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    let good = !namespace.is_empty() && !name.is_empty() && !name.contains(':');
    good.then_some((namespace, name))
}

/// The groups of a namespace's service accounts, but for `system:authenticated`.
pub fn account_groups(namespace: &str) -> [String; 2] {
    ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]
}
