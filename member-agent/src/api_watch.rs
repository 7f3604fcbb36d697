//! Watches which APIs the member serves, so that a kind that appears after the agent has connected can be placed there at once.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use tokio::time::{Instant, timeout_at};

use crate::discovery::Discovery;
use crate::world::{Report, World};

/// An API server serves a new kind some moments after its definition came: read at these times after the last change.
const AFTER: [Duration; 3] = [Duration::from_millis(250), Duration::from_secs(2), Duration::from_secs(10)];
/// What came otherwise (an aggregated API, a new version of the API server) is noticed within this.
const AT_LEAST: Duration = Duration::from_secs(300);
/// What did not answer is asked again.
const AGAIN: Duration = Duration::from_secs(15);

/// Tells what is served whenever it may have changed, until it is dropped.
pub(crate) async fn watch(discovery: Arc<Discovery>, world: Arc<World>) {
    let definitions: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(discovery.client());
    let mut changes = pin!(watcher(definitions, watcher::Config::default()).default_backoff());
    let mut reads = AFTER.len();
    let mut due = Instant::now() + AT_LEAST;
    loop {
        match timeout_at(due, changes.next()).await {
            Ok(Some(Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_) | watcher::Event::InitDone))) => {
                reads = 0;
                due = Instant::now() + AFTER[0];
            }
            Ok(Some(Ok(_))) => {}
            // A member that does not let us watch definitions is read every few minutes.
            Ok(Some(Err(error))) => tracing::debug!(%error, "the member's definitions cannot be watched"),
            Ok(None) => return,
            Err(_) => {
                reads += 1;
                due = Instant::now() + AFTER.get(reads).copied().unwrap_or(AT_LEAST);
                let answer = discovery.facts().await;
                if answer.as_ref().is_none_or(|(_, whole)| !whole) {
                    due = due.min(Instant::now() + AGAIN);
                }
                let Some((facts, _)) = answer else { continue };
                if world.reports.send(Report::Facts(facts)).await.is_err() {
                    return;
                }
            }
        }
    }
}
