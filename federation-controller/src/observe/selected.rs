//! Kinds beyond the default ones: found by discovery when a policy, or a decision of an earlier run, names them, and watched
//! from then on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use federation_core::select::{self, group_of};
use kube::Client;
use parking_lot::Mutex;
use tokio::sync::Notify;

use federation_runtime::errors::Chain;
use federation_runtime::shutdown::Shutdown;

use super::kinds::Kind;
use super::reflect::Observer;

/// A kind that is not served yet is asked for again this often; a CustomResourceDefinition that comes is noticed at once.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// After a failed question.
const RETRY: Duration = Duration::from_secs(2);

/// Kinds that are waited for. Each costs a question in every round, and policies are anybody's who may write one.
const OPEN_MAX: usize = 256;

/// What policies name that is not watched yet. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Wanted(Arc<Inner>);

#[derive(Default)]
struct Inner {
    // (apiVersion, kind)
    open: Mutex<BTreeSet<(String, String)>>,
    watched: Mutex<BTreeSet<(String, String)>>,
    changed: Notify,
}

impl Wanted {
    /// A policy or a Placement names a kind.
    pub(super) fn name(&self, api_version: &str, kind: &str) {
        let group = group_of(api_version);
        if select::is_default(group, kind) || !select::may_select(group, kind) {
            return;
        }
        // One object is served in every version of its group: the first that is named is watched.
        if self.0.watched.lock().contains(&(group.to_owned(), kind.to_owned())) {
            return;
        }
        let mut open = self.0.open.lock();
        if open.len() >= OPEN_MAX {
            tracing::warn!(api_version, kind, "too many kinds are waited for: this one is not");
        } else if open.insert((api_version.to_owned(), kind.to_owned())) {
            self.0.changed.notify_one();
        }
    }

    /// What is served has changed.
    pub(super) fn look_again(&self) {
        self.0.changed.notify_one();
    }

    /// Starts the watches of what is named, as soon as it is served, until `shutdown`.
    pub(super) async fn serve(self, observer: Observer, client: Client, shutdown: Shutdown) {
        loop {
            let mut pause = ASK_AGAIN;
            let open: Vec<(String, String)> = self.0.open.lock().iter().cloned().collect();
            for (api_version, kind) in open {
                match find(&client, &api_version, &kind).await {
                    Ok(Some(row)) => {
                        let group_kind = (group_of(&api_version).to_owned(), kind.clone());
                        if !self.0.watched.lock().contains(&group_kind) {
                            tracing::info!(%api_version, kind, "a policy selects this kind: it is watched");
                            observer.watch_templates(&client, row, &shutdown);
                            self.0.watched.lock().insert(group_kind);
                        }
                        self.0.open.lock().remove(&(api_version, kind));
                    }
                    Ok(None) => {
                        tracing::debug!(%api_version, kind, "a policy selects a kind that is not served");
                    }
                    Err(error) => {
                        tracing::warn!(%api_version, kind, error = %Chain(&error), "discovery failed");
                        pause = RETRY;
                    }
                }
            }
            tokio::select! {
                () = shutdown.wait() => return,
                () = self.0.changed.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

/// The row of a kind that the API serves; `None` if it does not.
async fn find(client: &Client, api_version: &str, kind: &str) -> Result<Option<&'static Kind>, kube::Error> {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let list = if group.is_empty() {
        client.list_core_api_resources(version).await
    } else {
        client.list_api_group_resources(api_version).await
    };
    let list = match list {
        Ok(list) => list,
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
        Err(error) => return Err(error),
    };
    let watchable =
        |verbs: &[String]| ["list", "watch", "patch"].iter().all(|verb| verbs.iter().any(|has| has == verb));
    let found = list
        .resources
        .iter()
        .find(|resource| resource.kind == kind && !resource.name.contains('/') && watchable(&resource.verbs));
    Ok(found.map(|resource| Kind::learn(group, version, kind, &resource.name, resource.namespaced)))
}
