//! Nobody grants what he does not hold: the checks on writes of roles and bindings.

use apimachinery::{
    ApiError,
    rbac::{Attributes, Rule, missing, quoted},
    status::GroupResource,
};
use serde_json::Value;

use super::{
    MASTERS, User,
    authz::{Authorizer, Decision},
    defaults::GROUP,
};

/// Checks a role or binding that is to be written, in place of `old` if there is one. Other kinds pass.
pub async fn check(
    authorizer: &Authorizer,
    user: &User,
    resource: &GroupResource,
    old: Option<&Value>,
    new: &Value,
) -> Result<(), ApiError> {
    if resource.group != GROUP || user.is_in(MASTERS) {
        return Ok(());
    }
    match resource.resource.as_str() {
        "roles" | "clusterroles" => role(authorizer, user, resource, old, new).await,
        "rolebindings" | "clusterrolebindings" => binding(authorizer, user, resource, old, new).await,
        _ => Ok(()),
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

async fn role(
    authorizer: &Authorizer,
    user: &User,
    resource: &GroupResource,
    old: Option<&Value>,
    new: &Value,
) -> Result<(), ApiError> {
    if old.is_some_and(|old| old["rules"] == new["rules"] && old["aggregationRule"] == new["aggregationRule"])
    {
        return Ok(());
    }
    let (namespace, name) = (text(&new["metadata"], "namespace"), text(&new["metadata"], "name"));
    let escalate = Attributes {
        group: GROUP,
        resource: &resource.resource,
        namespace,
        name,
        ..Attributes::resource("escalate")
    };
    if matches!(authorizer.decide(user, &escalate).await, Decision::Allow(_)) {
        return Ok(());
    }
    confirm(authorizer, user, namespace, &Rule::of_role(new))
        .map_err(|why| ApiError::forbidden(resource, name, &why))?;
    if new["aggregationRule"].is_object() || old.is_some_and(|old| old["aggregationRule"].is_object()) {
        // It may gather anything.
        let all = || vec!["*".to_owned()];
        let everything = [
            Rule { verbs: all(), groups: all(), resources: all(), ..Rule::default() },
            Rule { verbs: all(), urls: all(), ..Rule::default() },
        ];
        confirm(authorizer, user, namespace, &everything).map_err(|_| {
            ApiError::forbidden(
                resource,
                name,
                "must have cluster-admin privileges to use the aggregationRule",
            )
        })?;
    }
    Ok(())
}

async fn binding(
    authorizer: &Authorizer,
    user: &User,
    resource: &GroupResource,
    old: Option<&Value>,
    new: &Value,
) -> Result<(), ApiError> {
    if old.is_some_and(|old| old["roleRef"] == new["roleRef"] && old["subjects"] == new["subjects"]) {
        return Ok(());
    }
    let (namespace, name) = (text(&new["metadata"], "namespace"), text(&new["metadata"], "name"));
    let (kind, role) = (text(&new["roleRef"], "kind"), text(&new["roleRef"], "name"));
    let bind = Attributes {
        group: GROUP,
        resource: if kind == "Role" { "roles" } else { "clusterroles" },
        namespace,
        name: role,
        ..Attributes::resource("bind")
    };
    if matches!(authorizer.decide(user, &bind).await, Decision::Allow(_)) {
        return Ok(());
    }
    let rules = authorizer
        .policy()
        .index()
        .role(kind, role, namespace)
        .map_err(|_| ApiError::not_found(&GroupResource::new(GROUP, bind.resource), role))?;
    confirm(authorizer, user, namespace, &rules).map_err(|why| ApiError::forbidden(resource, name, &why))
}

/// `validation.ConfirmNoEscalation`: the user must hold the rules himself, where they would count.
fn confirm(authorizer: &Authorizer, user: &User, namespace: &str, wanted: &[Rule]) -> Result<(), String> {
    let (held, errors) = authorizer.policy().index().rules(super::authz::subject(user), namespace);
    let missing = missing(&held, wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let mut lines: Vec<String> = missing.iter().map(ToString::to_string).collect();
    lines.sort();
    lines.dedup();
    let mut why = format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        quoted(&user.groups),
        lines.join("\n")
    );
    if !errors.is_empty() {
        let texts: Vec<&str> = errors.iter().map(|error| &**error).collect();
        why.push_str(&format!("; resolution errors: [{}]", texts.join(", ")));
    }
    Err(why)
}
