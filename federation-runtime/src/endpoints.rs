//! `/metrics`, `/healthz`, `/livez` and `/readyz`, as Kubernetes' own components serve them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use parking_lot::{Mutex, RwLock};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::shutdown::Shutdown;
use crate::tasks::{self, Failures};
use crate::usage::Usage;

/// Interval at which readiness is looked at by those who wait for it.
const READY_POLL: Duration = Duration::from_millis(2);

/// Who declares a check by its name alone; [`Health::share`] counts from one.
const BY_NAME: u64 = 0;

/// The readiness checks of a part. Cheap to clone; all clones share the same checks.
#[derive(Clone, Default)]
pub struct Health {
    // By name of the check: who says that it fails, and why. It passes if nobody does.
    checks: Arc<RwLock<BTreeMap<&'static str, BTreeMap<u64, String>>>>,
    shares: Arc<AtomicU64>,
    // What else must be ready.
    parts: Arc<[(&'static str, Self)]>,
}

/// One of several that a check is about, such as workers of one name: it passes when all of them are well.
pub(crate) struct Share {
    health: Health,
    check: &'static str,
    number: u64,
}

impl Share {
    /// This one fails.
    pub(crate) fn wait_for(&self, why: String) {
        self.health.checks.write().entry(self.check).or_default().insert(self.number, why);
    }

    /// This one is well.
    pub(crate) fn ready(&self) {
        self.health.checks.write().entry(self.check).or_default().remove(&self.number);
    }
}

/// What is gone fails no more: its work was dropped while it failed.
impl Drop for Share {
    fn drop(&mut self) {
        if let Some(fails) = self.health.checks.write().get_mut(self.check) {
            fails.remove(&self.number);
        }
    }
}

impl Health {
    /// No checks yet: the part is ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Of several parts in one process: ready when all of them are. A report names the checks of each behind the part's name.
    pub fn of_parts(parts: impl IntoIterator<Item = (&'static str, Self)>) -> Self {
        Self { parts: parts.into_iter().collect(), ..Self::default() }
    }

    /// Declares `check`, or marks it as failing.
    pub fn wait_for(&self, check: &'static str, why: impl Into<String>) {
        self.checks.write().entry(check).or_default().insert(BY_NAME, why.into());
    }

    /// Marks `check` as passing.
    pub fn ready(&self, check: &'static str) {
        self.checks.write().entry(check).or_default().remove(&BY_NAME);
    }

    /// A share in `check`, which passes only if all of its shares do. It is not declared before it fails.
    pub(crate) fn share(&self, check: &'static str) -> Share {
        let number = BY_NAME + 1 + self.shares.fetch_add(1, Ordering::Relaxed);
        Share { health: self.clone(), check, number }
    }

    /// Whether every check passes.
    pub fn is_ready(&self) -> bool {
        self.checks.read().values().all(BTreeMap::is_empty)
            && self.parts.iter().all(|(_, part)| part.is_ready())
    }

    /// Waits until every check passes.
    pub async fn until_ready(&self) {
        while !self.is_ready() {
            tasks::sleep(READY_POLL).await;
        }
    }

    /// Every check of its own by name, with the reason if it fails.
    pub fn checks(&self) -> Vec<(&'static str, Option<String>)> {
        self.checks.read().iter().map(|(name, fails)| (*name, why(fails).cloned())).collect()
    }

    /// Status and text of `/readyz`, in Kubernetes' notation.
    pub fn report(&self, verbose: bool) -> (StatusCode, String) {
        let ready = self.is_ready();
        if ready && !verbose {
            return (StatusCode::OK, "ok".into());
        }
        let mut text = String::new();
        self.list("", &mut text);
        text.push_str(if ready { "readyz check passed\n" } else { "readyz check failed\n" });
        (if ready { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }, text)
    }

    /// One line for each check; `part` and a slash come before its name.
    fn list(&self, part: &str, text: &mut String) {
        for (name, check) in self.checks() {
            match check {
                None => text.push_str(&format!("[+]{part}{name} ok\n")),
                Some(why) => text.push_str(&format!("[-]{part}{name} failed: {why}\n")),
            }
        }
        for (name, health) in self.parts.iter() {
            health.list(&format!("{part}{name}/"), text);
        }
    }
}

/// Why a check fails: one reason of those that there are.
fn why(fails: &BTreeMap<u64, String>) -> Option<&String> {
    fails.values().next()
}

/// Metrics of one part (or, under `fedctl up`, of several), encoded when scraped. What the process uses, and which of its tasks failed, is among them.
#[derive(Clone)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Usage));
        registry.register_collector(Box::new(Failures));
        Self(Arc::new(Mutex::new(registry)))
    }
}

impl Metrics {
    /// A registry of what the process uses, and nothing else yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers metrics: each part calls this once.
    pub fn register<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.0.lock())
    }

    /// The text exposition, OpenMetrics 1.0.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.0.lock());
        text
    }
}

/// Media type of [`Metrics::encode`].
pub const METRICS_MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The four endpoints as a router, for parts that have an HTTP listener of their own.
pub fn router(health: Health, metrics: Metrics) -> Router {
    Router::new()
        .route("/readyz", get(readyz))
        .route("/healthz", get(|| async { "ok" }))
        .route("/livez", get(|| async { "ok" }))
        .route("/metrics", get(scrape))
        .with_state((health, metrics))
}

/// Serves the four endpoints over plain HTTP until `shutdown`. Returns the bound address at once.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(
    listen: SocketAddr,
    health: Health,
    metrics: Metrics,
    shutdown: Shutdown,
) -> std::io::Result<SocketAddr> {
    serve_on(TcpListener::bind(listen).await?, health, metrics, shutdown)
}

/// The same, on a listener that is bound already.
///
/// # Errors
/// When it does not say where it is.
pub fn serve_on(
    listener: TcpListener,
    health: Health,
    metrics: Metrics,
    shutdown: Shutdown,
) -> std::io::Result<SocketAddr> {
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        let served = axum::serve(listener, router(health, metrics))
            .with_graceful_shutdown(async move { shutdown.wait().await })
            .await;
        if let Err(error) = served {
            tracing::warn!(%error, "the metrics listener ended");
        }
    });
    Ok(address)
}

async fn readyz(
    State((health, _)): State<(Health, Metrics)>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    health.report(query.contains_key("verbose")).into_response()
}

async fn scrape(State((_, metrics)): State<(Health, Metrics)>) -> Response {
    ([(header::CONTENT_TYPE, METRICS_MEDIA_TYPE)], metrics.encode()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_for_a_part_hears_when_it_becomes_ready_and_not_only_whether_it_is() {
        let health = Health::new();
        health.wait_for("watches", "not whole yet");
        let waiting = tokio::spawn({
            let health = health.clone();
            async move { health.until_ready().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        health.ready("watches");
        let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        assert!(matches!(waited, Ok(Ok(()))));
    }

    #[test]
    fn a_process_of_several_parts_is_ready_when_all_are_and_says_which_part_is_not() {
        let (controller, dns) = (Health::new(), Health::new());
        controller.ready("prober");
        dns.ready("prober");
        let both = Health::of_parts([("controller", controller), ("dns", dns.clone())]);
        assert_eq!(both.report(false), (StatusCode::OK, "ok".into()));
        dns.wait_for("prober", "it panicked");
        let told = "[+]controller/prober ok\n[-]dns/prober failed: it panicked\nreadyz check failed\n";
        assert_eq!(both.report(false), (StatusCode::INTERNAL_SERVER_ERROR, told.into()));
    }
}
