//! `/healthz`, `/livez` and `/readyz`, whole and check by check, as kube-apiserver serves them.

use std::fmt::Write as _;

use http::{HeaderValue, Response, StatusCode, header};

use super::Shared;
use crate::http::{Body, query::Query, respond};

/// One check: its name, and why it fails if it does.
type Check = (&'static str, Option<String>);

const ENDPOINTS: [&str; 3] = ["healthz", "livez", "readyz"];

/// The paths of all checks, sorted.
pub(super) fn paths(shared: &Shared) -> Vec<String> {
    ENDPOINTS
        .iter()
        .flat_map(|endpoint| {
            let checks = checks(shared, endpoint).into_iter();
            std::iter::once(format!("/{endpoint}"))
                .chain(checks.map(move |(name, _)| format!("/{endpoint}/{name}")))
        })
        .collect()
}

/// The answer at a path, if it is one of these.
pub(super) fn find(shared: &Shared, path: &str, query: &Query) -> Option<Response<Body>> {
    let path = path.strip_prefix('/')?;
    let (endpoint, only) =
        path.split_once('/').map_or((path, None), |(endpoint, name)| (endpoint, Some(name)));
    let endpoint = ENDPOINTS.iter().find(|known| **known == endpoint)?;
    let mut checks = checks(shared, endpoint);
    if let Some(only) = only {
        checks.retain(|(name, _)| *name == only);
        if checks.is_empty() {
            return None;
        }
    }
    let excluded: Vec<&str> = query.all("exclude").collect();
    let verbose = query.all("verbose").next().is_some() && only.is_none();
    let (healthy, text) = report(endpoint, &checks, &excluded, verbose);
    let code = if healthy { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    let mut response = respond::text(code, text);
    if only.is_some() {
        return Some(response);
    }
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Some(response)
}

/// Alive is who can still write; ready is who has what must exist, too.
fn checks(shared: &Shared, endpoint: &str) -> Vec<Check> {
    let open = shared.storage.is_open();
    let mut checks = vec![
        ("ping", None),
        // By the name that Kubernetes' store has in all clusters.
        ("etcd", (!open).then(|| "the store is closed: see the server's log".to_owned())),
    ];
    if endpoint == "readyz" {
        checks.extend(shared.health.checks());
        let leaving = shared.draining.is_cancelled();
        checks.push(("shutdown", leaving.then(|| "process is shutting down".to_owned())));
    }
    checks
}

/// Whether all is well, and the text that says so.
fn report(endpoint: &str, checks: &[Check], excluded: &[&str], verbose: bool) -> (bool, String) {
    let unknown: Vec<_> =
        excluded.iter().filter(|name| checks.iter().all(|(known, _)| known != *name)).collect();
    let failing = |check: &&Check| check.1.is_some() && !excluded.contains(&check.0);
    let healthy = checks.iter().find(failing).is_none();
    if healthy && !verbose {
        return (true, "ok".to_owned());
    }
    let mut text = String::new();
    for (name, fault) in checks {
        let _infallible = match fault {
            _ if excluded.contains(name) => writeln!(text, "[+]{name} excluded: ok"),
            None => writeln!(text, "[+]{name} ok"),
            Some(why) => writeln!(text, "[-]{name} failed: {why}"),
        };
    }
    if !unknown.is_empty() {
        let unknown = unknown.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(",");
        let _infallible =
            writeln!(text, "warn: some health checks cannot be excluded: no matches for {unknown}");
    }
    let _infallible = writeln!(text, "{endpoint} check {}", if healthy { "passed" } else { "failed" });
    (healthy, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_is_left_out_fails_nothing() {
        let checks = [("ping", None), ("etcd", Some("closed".to_owned()))];
        assert_eq!(
            report("livez", &checks, &[], false),
            (false, "[+]ping ok\n[-]etcd failed: closed\nlivez check failed\n".to_owned())
        );
        assert_eq!(report("livez", &checks, &["etcd"], false), (true, "ok".to_owned()));
        assert_eq!(
            report("livez", &checks, &["etcd"], true),
            (true, "[+]ping ok\n[+]etcd excluded: ok\nlivez check passed\n".to_owned())
        );
        let odd = report("livez", &checks[..1], &["odd"], true).1;
        assert_eq!(
            odd,
            "[+]ping ok\nwarn: some health checks cannot be excluded: no matches for \"odd\"\nlivez check passed\n"
        );
    }
}
