//! What the member serves.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use futures::{StreamExt as _, stream};
use hub_protocol::agent::Facts;
use kube::Client;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::timeout;

/// All of it is read within this, or nothing is said.
const TIMEOUT: Duration = Duration::from_secs(5);
/// One version of one group.
const GROUP_TIMEOUT: Duration = Duration::from_secs(2);
/// Requests at once.
const CONCURRENT: usize = 8;
/// A group that never answered is waited for so many reads, before the rest is told without it: the server behind an aggregated one may be
/// down for good.
const PATIENCE: u32 = 3;

/// Reads what the member's API server says of itself.
pub(crate) struct Discovery {
    client: Client,
    // Kinds by group and version, as last read.
    known: Mutex<BTreeMap<String, Vec<String>>>,
    // How often in a row those did not answer that never have.
    silent: Mutex<BTreeMap<String, u32>>,
}

impl Discovery {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, known: Mutex::default(), silent: Mutex::default() }
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Version and served APIs, and whether each was read now; `None` if the API server does not answer. Of a group that does not answer
    /// (the server behind an aggregated one is down, or there are too many requests just now) what it said last is still so; before it has
    /// said anything nothing is known of the member, for a while.
    pub(crate) async fn facts(&self) -> Option<(Facts, bool)> {
        timeout(TIMEOUT, self.read()).await.ok().flatten()
    }

    async fn read(&self) -> Option<(Facts, bool)> {
        let version = self.client.apiserver_version().await.ok()?;
        let groups = self.client.list_api_groups().await.ok()?;
        let versions: Vec<String> = groups
            .groups
            .iter()
            .flat_map(|group| &group.versions)
            .map(|version| version.group_version.clone())
            .chain(["v1".to_owned()])
            .collect();
        let listed: HashSet<String> = versions.iter().cloned().collect();
        let answers: Vec<(String, Option<Vec<String>>)> = stream::iter(versions)
            .map(|version| async move {
                let kinds = self.kinds(&version).await;
                (version, kinds)
            })
            .buffer_unordered(CONCURRENT)
            .collect()
            .await;
        let mut known = self.known.lock();
        known.retain(|version, _| listed.contains(version));
        let mut silent = self.silent.lock();
        silent.retain(|version, _| listed.contains(version));
        let (mut whole, mut waits) = (true, false);
        for (version, kinds) in answers {
            match kinds {
                Some(kinds) => {
                    silent.remove(&version);
                    known.insert(version, kinds);
                }
                None => {
                    whole = false;
                    if !known.contains_key(&version) {
                        let reads = silent.entry(version).or_default();
                        *reads = reads.saturating_add(1);
                        waits |= *reads < PATIENCE;
                    }
                }
            }
        }
        if waits {
            return None;
        }
        let apis: BTreeSet<String> = known
            .iter()
            .flat_map(|(version, kinds)| kinds.iter().map(move |kind| format!("{version}/{kind}")))
            .collect();
        let facts = Facts {
            agent_version: env!("CARGO_PKG_VERSION").into(),
            kubernetes_version: version.git_version,
            apis: apis.into_iter().collect(),
        };
        Some((facts, whole))
    }

    /// The kinds of one version of a group; `None` if that is not known now.
    async fn kinds(&self, group_version: &str) -> Option<Vec<String>> {
        let root = if group_version.contains('/') { "apis" } else { "api" };
        let request = http::Request::get(format!("/{root}/{group_version}")).body(Vec::new()).ok()?;
        let list: Value = match timeout(GROUP_TIMEOUT, self.client.request(request)).await.ok()? {
            Ok(list) => list,
            Err(kube::Error::Api(status)) if status.code == 404 => return Some(Vec::new()),
            Err(error) => {
                tracing::debug!(group_version, %error, "an API group does not answer");
                return None;
            }
        };
        let resources = list.get("resources")?.as_array()?;
        let whole = |resource: &&Value| {
            resource.get("name").and_then(Value::as_str).is_some_and(|name| !name.contains('/'))
        };
        let kind = |resource: &Value| Some(resource.get("kind")?.as_str()?.to_owned());
        Some(resources.iter().filter(whole).filter_map(kind).collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU16, Ordering};

    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// An API server whose `apps/v1` answers with this code.
    fn member(code: Arc<AtomicU16>) -> Client {
        let answer = move |request: http::Request<Body>| {
            let code = code.load(Ordering::SeqCst);
            let of = |kinds: &[&str]| {
                let resources: Vec<Value> =
                    kinds.iter().map(|kind| json!({"name": kind.to_lowercase(), "kind": kind, "singularName": "", "namespaced": true, "verbs": []})).collect();
                json!({"kind": "APIResourceList", "groupVersion": "", "resources": resources})
            };
            let (code, body) = match request.uri().path() {
                "/version" => (
                    200,
                    json!({"major": "1", "minor": "30", "gitVersion": "v1.30.0", "gitCommit": "", "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": ""}),
                ),
                "/apis" | "/apis/" => {
                    let version = json!({"groupVersion": "apps/v1", "version": "v1"});
                    (
                        200,
                        json!({"kind": "APIGroupList", "groups": [{"name": "apps", "versions": [version], "preferredVersion": version}]}),
                    )
                }
                "/apis/apps/v1" if code == 200 => (200, of(&["Deployment"])),
                "/apis/apps/v1" => (
                    code,
                    json!({"kind": "Status", "status": "Failure", "code": code, "reason": "x", "message": "x"}),
                ),
                _ => (200, of(&["ConfigMap"])),
            };
            async move {
                let body = Body::from(body.to_string().into_bytes());
                http::Response::builder().status(code).body(body).map_err(kube::Error::HttpError)
            }
        };
        Client::new(tower::service_fn(answer), "default")
    }

    #[tokio::test]
    async fn a_group_that_does_not_answer_is_served_as_it_last_was_and_one_that_is_gone_is_not() {
        let code = Arc::new(AtomicU16::new(200));
        let discovery = Discovery::new(member(code.clone()));
        for (answer, apis, whole) in [
            (200, vec!["apps/v1/Deployment", "v1/ConfigMap"], true),
            (429, vec!["apps/v1/Deployment", "v1/ConfigMap"], false),
            (503, vec!["apps/v1/Deployment", "v1/ConfigMap"], false),
            (404, vec!["v1/ConfigMap"], true),
            (503, vec!["v1/ConfigMap"], false),
        ] {
            code.store(answer, Ordering::SeqCst);
            let (facts, all) = discovery.facts().await.unwrap();
            assert_eq!((facts.apis, all), (apis.into_iter().map(String::from).collect(), whole), "{answer}");
        }
    }

    #[tokio::test]
    async fn a_group_that_has_never_answered_is_waited_for_before_the_member_serves_all_but_it() {
        let code = Arc::new(AtomicU16::new(503));
        let discovery = Discovery::new(member(code.clone()));
        for _ in 1..PATIENCE {
            assert!(discovery.facts().await.is_none(), "it may serve Deployments");
        }
        let (facts, whole) = discovery.facts().await.unwrap();
        assert_eq!((facts.apis, whole), (vec!["v1/ConfigMap".to_owned()], false));
        code.store(200, Ordering::SeqCst);
        assert_eq!(discovery.facts().await.unwrap().0.apis, ["apps/v1/Deployment", "v1/ConfigMap"]);
    }
}
