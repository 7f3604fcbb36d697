//! What a request is about: Kubernetes' `RequestInfo`.

use std::borrow::Cow;

use http::Method;

use super::query::{Query, percent_decode};

/// What a request asks of the API, as authorization sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A path outside of the resources.
    Path(String),
    /// A resource, an object of it, or a part of one.
    Resource(ResourcePath),
}

/// A path below `/api/v1/` or `/apis/GROUP/VERSION/`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourcePath {
    /// API group; empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Namespace, if the path names one. For a Namespace object it is its own name, as in Kubernetes.
    pub namespace: Option<String>,
    /// Plural resource name.
    pub resource: String,
    /// Object name, if the path names one.
    pub name: Option<String>,
    /// `status`, `scale`…
    pub subresource: Option<String>,
    /// The path had the old `watch/` prefix.
    pub watch_prefix: bool,
    /// The path names a namespace in front of the resource: `namespaces/a/pods`, but not `namespaces/a`.
    pub inside_namespace: bool,
}

impl Target {
    /// Parses a URL path.
    pub fn parse(path: &str) -> Self {
        parse_resource(path).map_or_else(|| Self::Path(path.to_owned()), Self::Resource)
    }
}

/// A part of a path. Most stand there as they are.
fn decoded(part: &str) -> Cow<'_, str> {
    if part.contains('%') { percent_decode(part, false).into() } else { part.into() }
}

fn parse_resource(path: &str) -> Option<ResourcePath> {
    let inner = path.strip_prefix('/').unwrap_or(path);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    let parts: Vec<Cow<'_, str>> = inner.split('/').map(decoded).collect();
    let parts: Vec<&str> = parts.iter().map(|part| &**part).collect();
    let (group, version, mut rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !group.is_empty() => (*group, *version, rest),
        _ => return None,
    };
    if version.is_empty() {
        return None;
    }
    let mut parsed =
        ResourcePath { group: group.to_owned(), version: version.to_owned(), ..ResourcePath::default() };
    if let ["watch", after @ ..] = rest {
        parsed.watch_prefix = true;
        rest = after;
    }
    let own = |text: &&str| (*text).to_owned();
    let rest = match rest {
        // A subresource of the Namespace itself; anything else after its name is a resource inside it.
        ["namespaces", namespace] | ["namespaces", namespace, "status" | "finalize"] => {
            parsed.namespace = Some((*namespace).to_owned());
            rest
        }
        // No namespace is all of them.
        ["namespaces", "", inside @ ..] if !inside.is_empty() => inside,
        ["namespaces", namespace, inside @ ..] if !inside.is_empty() => {
            parsed.namespace = Some((*namespace).to_owned());
            parsed.inside_namespace = true;
            inside
        }
        _ => rest,
    };
    // What comes behind `proxy` is a path of somebody else's.
    let through = group.is_empty() && matches!(rest, ["pods" | "services" | "nodes", _, "proxy", ..]);
    // No step is empty, and no name has a slash in it, however it is written.
    let strange = rest.len() > 3 || rest.iter().any(|part| part.is_empty() || part.contains('/'));
    if strange && !through {
        return None;
    }
    parsed.resource = rest.first().map(own)?;
    parsed.name = rest.get(1).map(own);
    parsed.subresource = rest.get(2).map(own);
    Some(parsed)
}

/// The verb that authorization and metrics know a request by.
pub fn verb(method: &Method, path: &ResourcePath, query: &Query) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if path.name.is_some() => "delete",
        Method::DELETE => "deletecollection",
        Method::GET | Method::HEAD => {
            if path.watch_prefix || (path.name.is_none() && query.flag("watch")) {
                "watch"
            } else if path.name.is_some() {
                "get"
            } else {
                "list"
            }
        }
        _ => "",
    }
}

/// The verb of a request on a path: its method in lower case.
pub fn path_verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "",
    }
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expect: (&str, Option<&str>, &str, Option<&str>, Option<&str>)) {
        let Target::Resource(found) = Target::parse(path) else { panic!("{path} is a resource") };
        assert_eq!(
            (
                found.group.as_str(),
                found.namespace.as_deref(),
                found.resource.as_str(),
                found.name.as_deref(),
                found.subresource.as_deref()
            ),
            expect
        );
    }

    #[test]
    fn paths_are_read_as_kubernetes_reads_them() {
        check("/api/v1/namespaces", ("", None, "namespaces", None, None));
        check("/api/v1/namespaces/a", ("", Some("a"), "namespaces", Some("a"), None));
        check(
            "/api/v1/namespaces/a/services/https:b:web/proxy/c/d/e",
            ("", Some("a"), "services", Some("https:b:web"), Some("proxy")),
        );
        assert!(matches!(Target::parse("/api/v1/namespaces/a/configmaps/b/proxy/c"), Target::Path(_)));
        check("/api/v1/namespaces/a/status", ("", Some("a"), "namespaces", Some("a"), Some("status")));
        check("/api/v1/namespaces/a/pods", ("", Some("a"), "pods", None, None));
        check(
            "/apis/apps/v1/namespaces/a/deployments/b/scale",
            ("apps", Some("a"), "deployments", Some("b"), Some("scale")),
        );
        check("/apis/apps/v1/deployments", ("apps", None, "deployments", None, None));
        // No namespace is all of them; nothing else may be empty, and no name has a slash.
        check("/api/v1/namespaces//pods", ("", None, "pods", None, None));
        check("/api/v1/namespaces/", ("", None, "namespaces", None, None));
        for path in [
            "//api/v1/pods",
            "/api/v1//pods",
            "/api//pods",
            "/apis//v1/pods",
            "/api/v1/namespaces/a/configmaps/b%2Fc",
            "/api/v1/namespaces/a/configmaps//status",
        ] {
            assert!(matches!(Target::parse(path), Target::Path(_)), "{path}");
        }
        assert_eq!(Target::parse("/apis/apps/v1"), Target::Path("/apis/apps/v1".into()));
        assert_eq!(Target::parse("/healthz"), Target::Path("/healthz".into()));
    }
}
