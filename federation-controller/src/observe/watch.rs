//! An endless list and watch: a collection of the API as a stream of changes.
//!
//! kube's own watcher wants typed metadata and clones it; this one keeps each object as the `Value` that came, and says when
//! the view is whole, because only a whole view may lead to a removal.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use futures::TryStreamExt;
use kube::Client;
use kube::api::{ListParams, WatchParams};
use kube::core::{Request, WatchEvent};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use uuid::Uuid;

use federation_runtime::errors::Chain;
use federation_runtime::shutdown::Shutdown;

/// Objects in one page of a list: 500, as kube-apiserver's clients ask for.
const PAGE: u32 = 500;
/// Seconds after which the server ends a watch, so that a connection that died silently is noticed.
const WATCH_SECONDS: u32 = 280;
/// Longest silence of a watch: past its end by a margin for a slow server. A connection that died without a word is noticed by this.
const SILENCE: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 15);
/// Bounds of the pause after a failure.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// One change of a collection.
#[derive(Debug)]
pub(crate) enum Change {
    /// The object is there, as it is now.
    Present(Value),
    /// The object is gone; its last known state, or its name and uid alone where it went while nobody watched.
    Gone(Value),
    /// The view is whole: everything that is there was told, and everything else is gone.
    Synced,
    /// This object, `namespace/name`, could not be taken in: what is known of it is old, or nothing. Told by [`Watch::follow`] each time.
    Untaken(String),
    /// Nothing changed, and the watch runs.
    Alive,
    /// The watch broke, and the view may have holes until the next `Synced`.
    Broken,
    /// The API does not serve the collection (any more): a CustomResourceDefinition was deleted.
    NotServed,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    metadata: PageMeta,
    #[serde(default)]
    items: Vec<Value>,
    #[serde(default, rename = "apiVersion")]
    api_version: String,
    #[serde(default)]
    kind: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PageMeta {
    resource_version: String,
    r#continue: Option<String>,
}

/// What is there, and which it is: another one of the same name is another one.
type Known = HashMap<String, Uuid>;

/// What the reader says to the one who takes it in.
enum Told {
    Change(Change),
    /// All that is there was told.
    Listed(Known),
}

/// A collection that is listed and watched. What was told outlives its reader and whoever takes it in: after a panic of either,
/// [`Watch::begin`] tells everything anew, and what has gone meanwhile.
pub(crate) struct Watch {
    client: Client,
    pub(super) path: String,
    pub(super) shutdown: Shutdown,
    // Changes on their way: so many, that the next page is read while this one is taken in.
    room: usize,
    known: Known,
    // Handed out, and taken in when the next is asked for.
    last_gone: Option<String>,
    gone: VecDeque<(String, Uuid)>,
    listed: Option<Known>,
    told: mpsc::Receiver<Told>,
    reader: Option<JoinHandle<()>>,
}

impl Watch {
    /// Of a collection, with room for so many changes on their way.
    pub(crate) fn new(client: Client, path: String, room: usize, shutdown: Shutdown) -> Self {
        let told = mpsc::channel(1).1;
        let known = Known::new();
        let (gone, last_gone) = (VecDeque::new(), None);
        Self { client, path, shutdown, room, known, last_gone, gone, listed: None, told, reader: None }
    }

    /// Reads from the beginning.
    pub(crate) fn begin(&mut self) {
        self.end();
        let (sender, told) = mpsc::channel(self.room);
        self.told = told;
        let (client, path, shutdown) = (self.client.clone(), self.path.clone(), self.shutdown.clone());
        self.reader = Some(tokio::spawn(run(client, path, sender, shutdown)));
        // What was not taken in is still known to be there.
        (self.last_gone, self.listed) = (None, None);
        self.gone.clear();
    }

    /// The next change. `None`: its reader has ended, because of the shutdown or by a panic.
    pub(crate) async fn next(&mut self) -> Option<Change> {
        loop {
            if let Some(change) = self.left_over() {
                return Some(change);
            }
            let told = self.told.recv().await?;
            if let Some(change) = self.take(told) {
                return Some(change);
            }
        }
    }

    /// A change that needs no waiting for.
    pub(crate) fn try_next(&mut self) -> Option<Change> {
        loop {
            if let Some(change) = self.left_over() {
                return Some(change);
            }
            let told = self.told.try_recv().ok()?;
            if let Some(change) = self.take(told) {
                return Some(change);
            }
        }
    }

    /// What is left to be said of a list.
    fn left_over(&mut self) -> Option<Change> {
        if let Some(gone) = self.last_gone.take() {
            self.known.remove(&gone);
        }
        if let Some((identity, uid)) = self.gone.pop_front() {
            let (namespace, name) = identity.split_once('/').unwrap_or(("", &identity));
            let tomb = serde_json::json!({"metadata": {"namespace": namespace, "name": name, "uid": uid.to_string()}});
            self.last_gone = Some(identity);
            return Some(Change::Gone(tomb));
        }
        self.known = self.listed.take()?;
        Some(Change::Synced)
    }

    fn take(&mut self, told: Told) -> Option<Change> {
        match told {
            Told::Change(change) => {
                match &change {
                    Change::Present(object) => {
                        self.known.insert(identity(object), uid(object));
                    }
                    Change::Gone(object) => self.last_gone = Some(identity(object)),
                    Change::Synced
                    | Change::Untaken(_)
                    | Change::Alive
                    | Change::Broken
                    | Change::NotServed => {}
                }
                Some(change)
            }
            Told::Listed(listed) => {
                let gone = self.known.iter().filter(|(identity, _)| !listed.contains_key(*identity));
                self.gone = gone.map(|(identity, uid)| (identity.clone(), *uid)).collect();
                self.listed = Some(listed);
                None
            }
        }
    }

    /// What was handed out last was not taken in. If it is gone, that is told again with the next list.
    pub(super) fn keep_known(&mut self) {
        let Some(gone) = self.last_gone.take() else { return };
        if let (Some(listed), Some(uid)) = (&mut self.listed, self.known.get(&gone)) {
            listed.insert(gone, *uid);
        }
    }

    fn end(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.abort();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}

/// Lists and watches the collection at `path` until `shutdown`, telling every change to `changes`.
async fn run(client: Client, path: String, changes: mpsc::Sender<Told>, shutdown: Shutdown) {
    let mut pause = PAUSE.0;
    while !shutdown.started() {
        let outcome = tokio::select! {
            () = shutdown.wait() => return,
            outcome = once(&client, &path, &changes, &mut pause) => outcome,
        };
        match outcome {
            Ok(()) => {}
            Err(Error::Closed) => return,
            Err(error) => {
                let gone = matches!(&error, Error::List(kube::Error::Api(status)) if status.code == 404);
                if gone {
                    tracing::debug!(path, "not served");
                } else {
                    tracing::warn!(path, error = %Chain(&error), "watch failed; listing again");
                }
                let change = if gone { Change::NotServed } else { Change::Broken };
                if changes.send(Told::Change(change)).await.is_err() {
                    return;
                }
                tokio::select! {
                    () = shutdown.wait() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("build the request")]
    Request(#[source] kube::core::request::Error),
    #[error("list")]
    List(#[source] kube::Error),
    #[error("watch")]
    Watch(#[source] kube::Error),
    #[error("the watch was refused: {0}")]
    Refused(String),
    #[error("the watch was silent for {} s", SILENCE.as_secs())]
    Silent,
    #[error("the receiver is gone")]
    Closed,
}

/// One list, and then watches from it until the version is too old or something fails.
async fn once(
    client: &Client,
    path: &str,
    changes: &mpsc::Sender<Told>,
    pause: &mut Duration,
) -> Result<(), Error> {
    let request = Request::new(path);
    let mut version = list(client, &request, changes).await?;
    *pause = PAUSE.0;
    loop {
        let parameters = WatchParams::default().timeout(WATCH_SECONDS);
        let watch = request.watch(&parameters, &version).map_err(Error::Request)?;
        let events = match client.request_events::<Value>(watch).await {
            Ok(events) => events,
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) => return Err(Error::Watch(error)),
        };
        let mut events = std::pin::pin!(events);
        changes.send(Told::Change(Change::Alive)).await.map_err(|_| Error::Closed)?;
        loop {
            let next = tokio::time::timeout(SILENCE, events.try_next()).await.map_err(|_| Error::Silent)?;
            let event = match next {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(error) if is_gone(&error) => return Ok(()),
                Err(error) => return Err(Error::Watch(error)),
            };
            let change = match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    remember_version(&object, &mut version);
                    Change::Present(object)
                }
                WatchEvent::Deleted(object) => {
                    remember_version(&object, &mut version);
                    Change::Gone(object)
                }
                WatchEvent::Bookmark(bookmark) => {
                    version = bookmark.metadata.resource_version;
                    Change::Alive
                }
                WatchEvent::Error(status) if status.code == 410 => return Ok(()),
                WatchEvent::Error(status) => return Err(Error::Refused(status.message)),
            };
            changes.send(Told::Change(change)).await.map_err(|_| Error::Closed)?;
        }
    }
}

/// Tells every object, and then which they are. Returns the list's version.
async fn list(client: &Client, request: &Request, changes: &mpsc::Sender<Told>) -> Result<String, Error> {
    let mut seen = Known::new();
    let mut next: Option<String> = None;
    let version = loop {
        let mut parameters = ListParams::default().limit(PAGE);
        if let Some(next) = next.take() {
            parameters = parameters.continue_token(&next);
        }
        let page: Page =
            client.request(request.list(&parameters).map_err(Error::Request)?).await.map_err(Error::List)?;
        let kind = page.kind.strip_suffix("List").unwrap_or(&page.kind).to_owned();
        for mut object in page.items {
            // Items of a typed list carry neither apiVersion nor kind.
            if let Some(fields) = object.as_object_mut() {
                fields.entry("apiVersion").or_insert_with(|| page.api_version.clone().into());
                fields.entry("kind").or_insert_with(|| kind.clone().into());
            }
            seen.insert(identity(&object), uid(&object));
            changes.send(Told::Change(Change::Present(object))).await.map_err(|_| Error::Closed)?;
        }
        match page.metadata.r#continue.filter(|next| !next.is_empty()) {
            Some(more) => next = Some(more),
            None => break page.metadata.resource_version,
        }
    };
    changes.send(Told::Listed(seen)).await.map_err(|_| Error::Closed)?;
    Ok(version)
}

pub(super) fn identity(object: &Value) -> String {
    let text = |name: &str| object.pointer(name).and_then(Value::as_str).unwrap_or_default();
    format!("{}/{}", text("/metadata/namespace"), text("/metadata/name"))
}

/// Kubernetes' are UUIDs; what is none is none here.
fn uid(object: &Value) -> Uuid {
    let text = object.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
    Uuid::parse_str(text).unwrap_or_default()
}

fn remember_version(object: &Value, version: &mut String) {
    if let Some(newer) = object.pointer("/metadata/resourceVersion").and_then(Value::as_str) {
        newer.clone_into(version);
    }
}

fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 410)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use std::sync::Arc;

    use kube::client::Body;
    use serde_json::json;

    use super::*;

    pub(crate) const UID: &str = "0d1c2b3a-4f5e-4678-9abc-def012345678";

    pub(crate) const CLUSTERS: &str = "/apis/federation.rs/v1alpha1/clusters";

    /// An API that answers each list with the next one; its watches say nothing.
    pub(crate) fn api(lists: Vec<Value>) -> Client {
        let lists = Arc::new(parking_lot::Mutex::new(lists.into_iter()));
        let answer = move |request: http::Request<Body>| {
            let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
            let list = (!is_watch).then(|| lists.lock().next().unwrap());
            async move {
                let Some(list) = list else { return std::future::pending().await };
                let body = Body::from(list.to_string().into_bytes());
                http::Response::builder().status(200).body(body).map_err(kube::Error::HttpError)
            }
        };
        Client::new(tower::service_fn(answer), "default")
    }

    pub(crate) fn list_of(items: Value) -> Value {
        json!({"kind": "ClusterList", "apiVersion": "federation.rs/v1alpha1",
            "metadata": {"resourceVersion": "7"}, "items": items})
    }

    /// What is told up to the end of a list, in short.
    async fn until_synced(watch: &mut Watch) -> Vec<String> {
        let mut told = Vec::new();
        loop {
            let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            told.push(match watch.next().await.unwrap() {
                Change::Present(object) => format!("+{}", name(&object)),
                Change::Gone(object) => {
                    assert_eq!(object["metadata"]["uid"], UID);
                    format!("-{}", name(&object))
                }
                Change::Synced => return told,
                other => format!("{other:?}"),
            });
        }
    }

    #[tokio::test]
    async fn what_went_while_nobody_watched_is_told_with_its_uid() {
        let cluster = |name: &str| json!({"metadata": {"name": name, "uid": UID}});
        let client = api(vec![
            list_of(json!([cluster("taiwan"), cluster("japan")])),
            list_of(json!([cluster("japan")])),
            list_of(json!([cluster("japan")])),
        ]);
        let mut watch = Watch::new(client, CLUSTERS.into(), 1, Shutdown::new());
        watch.begin();
        assert_eq!(until_synced(&mut watch).await, ["+taiwan", "+japan"]);
        watch.begin();
        assert_eq!(until_synced(&mut watch).await, ["+japan", "-taiwan"]);
        watch.begin();
        assert_eq!(until_synced(&mut watch).await, ["+japan"], "once is enough");
    }

    #[tokio::test]
    async fn what_was_not_taken_in_is_told_again() {
        let cluster = |name: &str| json!({"metadata": {"name": name, "uid": UID}});
        let empty = || list_of(json!([]));
        let client = api(vec![list_of(json!([cluster("taiwan"), cluster("japan")])), empty(), empty()]);
        let mut watch = Watch::new(client, CLUSTERS.into(), 8, Shutdown::new());
        watch.begin();
        assert!(matches!(watch.next().await.unwrap(), Change::Present(_)));
        // Whoever was to take it in panics: there was no end of a list, and it is known all the same.
        watch.begin();
        let Change::Gone(tomb) = watch.next().await.unwrap() else { unreachable!("it is gone") };
        assert_eq!(tomb["metadata"], json!({"namespace": "", "name": "taiwan", "uid": UID}));
        // That it is gone was handed out, and not taken in.
        watch.begin();
        assert_eq!(until_synced(&mut watch).await, ["-taiwan"]);
    }
}
