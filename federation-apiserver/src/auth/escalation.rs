//! Escalation checks on writes of roles and bindings: users can grant only permissions that they have.

use apimachinery::{
    ApiError,
    rbac::{Attributes, Rule, missing, quoted},
    status::GroupResource,
};
use serde_json::Value;

use super::{
    MASTERS, User,
    authz::{Authorizer, Decision},
    bootstrap_policy::GROUP,
};
use crate::validation::text;

/// Lines of one refusal: a role may lack more than anybody reads.
const LINES_MAX: usize = 100;
/// Bytes of one of them.
const LINE_MAX_BYTES: usize = 1 << 10;

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
        bounded(&lines, "\n")
    );
    if !errors.is_empty() {
        why.push_str(&format!("; resolution errors: [{}]", bounded(&errors, ", ")));
    }
    Err(why)
}

/// The first of the lines, each up to its bound, and how many more there are.
fn bounded<T: AsRef<str>>(lines: &[T], between: &str) -> String {
    let mut told: Vec<String> = lines.iter().take(LINES_MAX).map(|line| shortened(line.as_ref())).collect();
    let more = lines.len().saturating_sub(LINES_MAX);
    if more > 0 {
        told.push(format!("and {more} more"));
    }
    told.join(between)
}

fn shortened(line: &str) -> String {
    if line.len() <= LINE_MAX_BYTES {
        return line.to_owned();
    }
    let mut end = LINE_MAX_BYTES;
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", &line[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_tells_no_more_than_somebody_reads() {
        assert_eq!(bounded(&["a", "b"], ", "), "a, b");
        let lines: Vec<String> = (0..LINES_MAX + 2).map(|line| line.to_string()).collect();
        let told = bounded(&lines, "\n");
        assert_eq!(told.lines().count(), LINES_MAX + 1);
        assert!(told.ends_with("\n99\nand 2 more"), "{told}");
        // A letter of two bytes is not cut in two.
        let long = bounded(&[format!("x{}", "é".repeat(LINE_MAX_BYTES))], "\n");
        assert_eq!(long, format!("x{}...", "é".repeat(LINE_MAX_BYTES / 2 - 1)));
    }
}
