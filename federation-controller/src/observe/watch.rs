//! An endless list and watch: a collection of the API as a stream of changes.
//!
//! kube's own watcher wants typed metadata and clones it; this one keeps each object as the `Value` that came, and says when
//! the view is whole, because only a whole view may lead to a removal.

use std::collections::HashMap;
use std::time::Duration;

use futures::TryStreamExt;
use kube::Client;
use kube::api::{ListParams, WatchParams};
use kube::core::{Request, WatchEvent};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc;
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

/// Lists and watches the collection at `path` until `shutdown`, telling every change to `changes`.
pub(crate) async fn run(client: Client, path: String, changes: mpsc::Sender<Change>, shutdown: Shutdown) {
    let mut pause = PAUSE.0;
    let mut known = Known::new();
    while !shutdown.started() {
        let outcome = tokio::select! {
            () = shutdown.wait() => return,
            outcome = once(&client, &path, &changes, &mut known, &mut pause) => outcome,
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
                if changes.send(if gone { Change::NotServed } else { Change::Broken }).await.is_err() {
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
    changes: &mpsc::Sender<Change>,
    known: &mut Known,
    pause: &mut Duration,
) -> Result<(), Error> {
    let request = Request::new(path);
    let mut version = list(client, &request, changes, known).await?;
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
        changes.send(Change::Alive).await.map_err(|_| Error::Closed)?;
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
                    known.insert(identity(&object), uid(&object));
                    Change::Present(object)
                }
                WatchEvent::Deleted(object) => {
                    remember_version(&object, &mut version);
                    known.remove(&identity(&object));
                    Change::Gone(object)
                }
                WatchEvent::Bookmark(bookmark) => {
                    version = bookmark.metadata.resource_version;
                    Change::Alive
                }
                WatchEvent::Error(status) if status.code == 410 => return Ok(()),
                WatchEvent::Error(status) => return Err(Error::Refused(status.message)),
            };
            changes.send(change).await.map_err(|_| Error::Closed)?;
        }
    }
}

/// Tells every object, then what is gone since the last list, then `Synced`. Returns the list's version.
async fn list(
    client: &Client,
    request: &Request,
    changes: &mpsc::Sender<Change>,
    known: &mut Known,
) -> Result<String, Error> {
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
            changes.send(Change::Present(object)).await.map_err(|_| Error::Closed)?;
        }
        match page.metadata.r#continue.filter(|next| !next.is_empty()) {
            Some(more) => next = Some(more),
            None => break page.metadata.resource_version,
        }
    };
    for (gone, uid) in known.iter().filter(|(identity, _)| !seen.contains_key(*identity)) {
        let (namespace, name) = gone.split_once('/').unwrap_or(("", gone));
        let tomb =
            serde_json::json!({"metadata": {"namespace": namespace, "name": name, "uid": uid.to_string()}});
        changes.send(Change::Gone(tomb)).await.map_err(|_| Error::Closed)?;
    }
    *known = seen;
    changes.send(Change::Synced).await.map_err(|_| Error::Closed)?;
    Ok(version)
}

fn identity(object: &Value) -> String {
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
mod tests {
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    const UID: &str = "0d1c2b3a-4f5e-4678-9abc-def012345678";

    /// An API that answers each request with the next list.
    fn api(lists: Vec<Value>) -> Client {
        let lists = std::sync::Arc::new(parking_lot::Mutex::new(lists.into_iter()));
        let answer = move |_: http::Request<Body>| {
            let list = lists.lock().next().unwrap();
            async move {
                let body = Body::from(list.to_string().into_bytes());
                http::Response::builder().status(200).body(body).map_err(kube::Error::HttpError)
            }
        };
        Client::new(tower::service_fn(answer), "default")
    }

    #[tokio::test]
    async fn what_went_while_nobody_watched_is_told_with_its_uid() {
        let list_of = |items: Value| json!({"kind": "ClusterList", "apiVersion": "federation.rs/v1alpha1", "metadata": {"resourceVersion": "7"}, "items": items});
        let cluster = json!({"metadata": {"name": "taiwan", "uid": UID}});
        let client = api(vec![list_of(json!([cluster])), list_of(json!([]))]);
        let request = Request::new("/apis/federation.rs/v1alpha1/clusters");
        let (changes, mut told) = mpsc::channel(8);
        let mut known = Known::new();
        for _ in 0..2 {
            list(&client, &request, &changes, &mut known).await.unwrap();
        }
        assert!(matches!(told.recv().await.unwrap(), Change::Present(_)));
        assert!(matches!(told.recv().await.unwrap(), Change::Synced));
        let Change::Gone(tomb) = told.recv().await.unwrap() else { unreachable!("it is gone") };
        assert_eq!(tomb["metadata"], json!({"namespace": "", "name": "taiwan", "uid": UID}));
    }
}
