//! Authorization.

use apimachinery::{
    ApiError,
    status::{GroupResource, Reason},
};

use super::{AUTHENTICATED, CONTROLLERS, MASTERS, User};
use crate::http::info::{ResourcePath, Target};

/// Groups whose certificates come from the same authority but are for other doors: agents speak to the hub, dns-lb to the
/// traffic feed. Neither has business at the API, whatever the mode.
const OTHER_DOORS: [&str; 2] = ["federation:agents", "federation:dns"];

/// Paths that anybody may read.
const PUBLIC: [&str; 4] = ["/healthz", "/livez", "/readyz", "/version"];

/// Who may do what, beyond `system:masters` and `federation:controllers`, who may do everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Every authenticated user may do everything.
    #[default]
    #[value(name = "AlwaysAllow")]
    AlwaysAllow,
    /// Every authenticated user may read everything but Secrets; only the two groups write.
    #[value(name = "ReadOnly")]
    ReadOnly,
}

/// Decides.
pub fn authorize(mode: Mode, user: &User, verb: &str, target: &Target) -> Result<(), ApiError> {
    if user.is_in(MASTERS) || user.is_in(CONTROLLERS) {
        return Ok(());
    }
    if let Target::Path(path) = target
        && PUBLIC.iter().any(|public| {
            path == public || path.strip_prefix(public).is_some_and(|rest| rest.starts_with('/'))
        })
    {
        return Ok(());
    }
    if !user.is_in(AUTHENTICATED) {
        return Err(ApiError::unauthorized());
    }
    if OTHER_DOORS.iter().any(|group| user.is_in(group)) {
        return Err(refuse(user, verb, target));
    }
    let reads = matches!(verb, "get" | "list" | "watch");
    let secret =
        matches!(target, Target::Resource(path) if path.group.is_empty() && path.resource == "secrets");
    match mode {
        Mode::AlwaysAllow => Ok(()),
        Mode::ReadOnly if reads && !secret => Ok(()),
        Mode::ReadOnly => Err(refuse(user, verb, target)),
    }
}

/// kube-apiserver's text.
fn refuse(user: &User, verb: &str, target: &Target) -> ApiError {
    match target {
        Target::Path(path) => {
            let why = format!("User {:?} cannot {verb} path {path:?}", user.name);
            ApiError::new(403, Reason::Forbidden, format!("forbidden: {why}"))
        }
        Target::Resource(path) => {
            let resource = GroupResource::new(path.group.as_str(), path.resource.as_str());
            ApiError::forbidden(
                &resource,
                path.name.as_deref().unwrap_or_default(),
                &sentence(user, verb, path),
            )
        }
    }
}

fn sentence(user: &User, verb: &str, path: &ResourcePath) -> String {
    let resource = match &path.subresource {
        Some(subresource) => format!("{}/{subresource}", path.resource),
        None => path.resource.clone(),
    };
    let place = match &path.namespace {
        Some(namespace) => format!("in the namespace {namespace:?}"),
        None => "at the cluster scope".to_owned(),
    };
    format!("User {:?} cannot {verb} resource {resource:?} in API group {:?} {place}", user.name, path.group)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(mode: Mode, user: &User, verb: &str, path: &str) -> u16 {
        authorize(mode, user, verb, &Target::parse(path)).map_or_else(|error| error.code, |()| 200)
    }

    #[test]
    fn an_agent_is_refused_in_every_mode() {
        let agent = User::new("federation:agent:taiwan", ["federation:agents".to_owned()]);
        assert_eq!(code(Mode::AlwaysAllow, &agent, "list", "/api/v1/secrets"), 403);
    }

    #[test]
    fn nobody_writes_or_reads_without_a_name() {
        assert_eq!(code(Mode::AlwaysAllow, &User::anonymous(), "list", "/api/v1/secrets"), 401);
        assert_eq!(code(Mode::AlwaysAllow, &User::anonymous(), "get", "/healthz"), 200);
        assert_eq!(code(Mode::AlwaysAllow, &User::anonymous(), "get", "/healthzz"), 401);
    }

    #[test]
    fn readers_do_not_read_secrets() {
        let user = User::new("alice", []);
        assert_eq!(code(Mode::ReadOnly, &user, "list", "/api/v1/configmaps"), 200);
        assert_eq!(code(Mode::ReadOnly, &user, "get", "/api/v1/namespaces/a/secrets/b"), 403);
        assert_eq!(code(Mode::ReadOnly, &user, "create", "/api/v1/namespaces/a/configmaps"), 403);
    }
}
