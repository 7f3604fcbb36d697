//! `/healthz`, `/livez` and `/readyz`, whole and check by check, as kube-apiserver serves them.
//!
//! Why a check fails is told where one asks for that check alone, which takes a permission, and in the log: the three are for everybody.

use std::{collections::BTreeSet, fmt::Write as _};

use federation_runtime::logging;
use http::{HeaderValue, Response, StatusCode, header};

use super::Shared;
use crate::{
    http::{Body, query::Query, respond},
    post_start_hooks,
};

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
    let checks = checks(shared, endpoint);
    if let Some(only) = only {
        let (_, error) = checks.into_iter().find(|(name, _)| *name == only)?;
        return Some(match error {
            None => respond::text(StatusCode::OK, "ok"),
            Some(why) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {why}\n")),
        });
    }
    let excluded = query.all("exclude").collect();
    let (healthy, text) = report(endpoint, &checks, excluded, query.all("verbose").next().is_some());
    if !healthy {
        let failing: Vec<_> = checks.iter().filter(|check| check.1.is_some()).collect();
        tracing::debug!(endpoint, ?failing, "a check fails");
    }
    Some(plain(if healthy { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }, text))
}

/// The results of all checks as metrics, for objectives of service levels (`component-base/metrics/prometheus/slis`).
pub(super) fn indicators(shared: &Shared) -> String {
    let mut text = String::from(
        "# HELP kubernetes_healthcheck This metric records the result of a single healthcheck.\n# TYPE kubernetes_healthcheck gauge\n",
    );
    for endpoint in ENDPOINTS {
        for (name, error) in checks(shared, endpoint) {
            let good = u8::from(error.is_none());
            let _infallible =
                writeln!(text, "kubernetes_healthcheck{{name=\"{name}\",type=\"{endpoint}\"}} {good}");
        }
    }
    text.push_str("# EOF\n");
    text
}

fn plain(code: StatusCode, text: String) -> Response<Body> {
    let mut response = respond::text(code, text);
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Alive is who can still write; ready is who follows what is written, too.
fn checks(shared: &Shared, endpoint: &str) -> Vec<Check> {
    let ready = endpoint == "readyz";
    let open = shared.storage.is_open();
    // By the name that Kubernetes' store has in all clusters.
    let store = || (!open).then(|| "the store is closed: see the server's log".to_owned());
    let mut checks = vec![
        ("ping", None),
        ("log", (!logging::flows()).then(|| "logging blocked".to_owned())),
        ("etcd", store()),
    ];
    let mut told = shared.health.checks();
    let mut take = |name| told.iter().position(|(known, _)| *known == name).map(|at| told.remove(at));
    let hooks: Vec<_> = post_start_hooks::names().filter_map(&mut take).collect();
    if ready {
        checks.push(("etcd-readiness", store()));
        checks.extend(take(post_start_hooks::INFORMERS));
        checks.extend(told);
    }
    checks.extend(hooks);
    if ready {
        let leaving = shared.draining.is_cancelled();
        checks.push(("shutdown", leaving.then(|| "process is shutting down".to_owned())));
    }
    checks
}

/// Whether all is well, and the text that says so.
fn report(endpoint: &str, checks: &[Check], mut excluded: BTreeSet<&str>, verbose: bool) -> (bool, String) {
    let (mut healthy, mut text) = (true, String::new());
    for (name, error) in checks {
        let _infallible = if excluded.remove(name) {
            writeln!(text, "[+]{name} excluded: ok")
        } else if error.is_none() {
            writeln!(text, "[+]{name} ok")
        } else {
            healthy = false;
            writeln!(text, "[-]{name} failed: reason withheld")
        };
    }
    if healthy && !verbose {
        return (true, "ok".to_owned());
    }
    if !excluded.is_empty() {
        let unknown = excluded.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(",");
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
        let report = |checks, excluded: &[&'static str], verbose| {
            report("livez", checks, excluded.iter().copied().collect(), verbose)
        };
        assert_eq!(
            report(&checks, &[], false),
            (false, "[+]ping ok\n[-]etcd failed: reason withheld\nlivez check failed\n".to_owned())
        );
        assert_eq!(report(&checks, &["etcd"], false), (true, "ok".to_owned()));
        assert_eq!(
            report(&checks, &["etcd"], true),
            (true, "[+]ping ok\n[+]etcd excluded: ok\nlivez check passed\n".to_owned())
        );
        let odd = report(&checks[..1], &["odd", "even", "odd"], true).1;
        assert_eq!(
            odd,
            "[+]ping ok\nwarn: some health checks cannot be excluded: no matches for \"even\",\"odd\"\nlivez check passed\n"
        );
    }
}
