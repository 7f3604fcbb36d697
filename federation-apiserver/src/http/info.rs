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
    /// What stands behind a `proxy`, with the slash in front of it; empty if nothing does.
    pub rest: String,
    /// The path had the old `watch/` prefix.
    pub watch_prefix: bool,
    /// The path names a namespace in front of the resource: `namespaces/a/pods`, but not `namespaces/a`.
    pub inside_namespace: bool,
    /// No route of this server is for it: it has an empty step. Another server that is asked through this one may know what to do with it,
    /// so it is authorized like any other.
    pub unrouted: bool,
    /// It has steps behind the subresource. The same, but for custom kinds, where nobody looks at them.
    pub goes_on: bool,
}

impl Target {
    /// Parses a URL path.
    pub fn parse(path: &str) -> Self {
        parse_resource(path).map_or_else(|| Self::Path(path.to_owned()), Self::Resource)
    }
}

/// Reads a path as Kubernetes does: decoded first and then taken apart, so that who authorizes sees what whoever serves it sees.
fn parse_resource(path: &str) -> Option<ResourcePath> {
    let escaped = path.contains('%');
    let whole: Cow<'_, str> = if escaped { percent_decode(path, false).into() } else { path.into() };
    let inner = whole.trim_matches('/');
    let parts: Vec<&str> = inner.split('/').collect();
    let (group, version, mut rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return None,
    };
    let mut parsed =
        ResourcePath { group: group.to_owned(), version: version.to_owned(), ..ResourcePath::default() };
    if let ["watch", after @ ..] = rest {
        parsed.watch_prefix = true;
        rest = after;
    }
    let own = |text: &&str| (*text).to_owned();
    let rest = match rest {
        // A subresource of the Namespace itself; anything else after its name is a resource inside it.
        ["namespaces", namespace] | ["namespaces", namespace, "status" | "finalize", ..] => {
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
    let steps = if through { &rest[..3] } else { rest };
    let empty = path.starts_with("//") || path.ends_with("//") || version.is_empty();
    let empty = empty || parts[0] == "apis" && group.is_empty() || steps.iter().any(|step| step.is_empty());
    // However it is written: a slash in a name is none that separates steps.
    let hidden = escaped && path.matches('/').count() != whole.matches('/').count() && !through;
    parsed.unrouted = empty || hidden;
    parsed.goes_on = steps.len() > 3;
    parsed.resource = rest.first().map(own)?;
    parsed.name = rest.get(1).map(own);
    parsed.subresource = rest.get(2).map(own);
    if through {
        parsed.rest = rest[3..].iter().flat_map(|step| ["/", step]).collect();
        if whole.ends_with('/') && !parsed.rest.ends_with('/') {
            parsed.rest.push('/');
        }
    }
    Some(parsed)
}

/// The verb that authorization and metrics know a request by.
pub(crate) fn verb(method: &Method, path: &ResourcePath, query: &Query) -> &'static str {
    match *method {
        // Whatever the method is.
        _ if path.watch_prefix => "watch",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if path.name.is_some() => "delete",
        Method::DELETE => "deletecollection",
        Method::GET | Method::HEAD => {
            if path.name.is_none() && query.flag("watch") {
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
pub(crate) fn path_verb(method: &Method) -> &'static str {
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
        check("/api/v1/namespaces/a/config%6Daps/b", ("", Some("a"), "configmaps", Some("b"), None));
        assert_eq!(Target::parse("/apis/apps/v1"), Target::Path("/apis/apps/v1".into()));
        assert_eq!(Target::parse("/healthz"), Target::Path("/healthz".into()));
    }

    #[test]
    fn the_old_prefix_of_a_watch_is_the_verb_whatever_the_method() {
        let verb = |method, path| {
            let Target::Resource(found) = Target::parse(path) else { panic!("{path} is a resource") };
            verb(&method, &found, &Query::parse(""))
        };
        for method in [Method::GET, Method::HEAD, Method::POST, Method::DELETE, Method::OPTIONS] {
            assert_eq!(verb(method, "/api/v1/watch/namespaces/a/pods"), "watch");
        }
        assert_eq!(verb(Method::DELETE, "/api/v1/namespaces/a/pods"), "deletecollection");
        assert_eq!(verb(Method::OPTIONS, "/api/v1/namespaces/a/pods"), "");
    }

    #[test]
    fn what_has_no_route_here_is_asked_about_as_a_resource_all_the_same() {
        let unrouted = |path: &str| {
            let target = Target::parse(path);
            matches!(target, Target::Resource(path) if path.unrouted || path.goes_on)
        };
        for path in [
            "//api/v1/pods",
            "/api/v1/pods//",
            "/api/v1//pods",
            "/api//pods/a",
            "/apis//v1/pods",
            "/api/v1/namespaces/a/configmaps/b%2Fc",
            "/api/v1/namespaces/a/configmaps//status",
            "/api/v1/namespaces/a/configmaps/b/proxy/c",
        ] {
            assert!(unrouted(path), "{path}");
        }
        assert!(!unrouted("/api/v1/namespaces/a/configmaps/b"));
        let machines =
            "/apis/subresources.kubevirt.io/v1/namespaces/n/virtualmachineinstances/vm/portforward/22";
        let portforward = Some("portforward");
        check(
            machines,
            ("subresources.kubevirt.io", Some("n"), "virtualmachineinstances", Some("vm"), portforward),
        );
        check(
            "/apis/metrics.k8s.io/v1beta1/namespaces/kube-system%2Fpods",
            ("metrics.k8s.io", Some("kube-system"), "pods", None, None),
        );
    }
}
