//! The member's API server: the few requests that the agent makes, and what their failures mean.

mod serves;

use std::fmt;
use std::time::Duration;

use federation_core::api::marks;
use federation_runtime::errors::Chain;
use hub_protocol::Key;
use kube::Client;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

/// One request ends within this; an API server that takes longer is unwell, and the job is tried again.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why a request failed, sorted by what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The object is not there.
    NotFound,
    /// Refused for good: the manifest or the agent's rights must change.
    Refused {
        /// For a condition.
        reason: Reason,
        /// The server's words.
        message: String,
    },
    /// Worth another try.
    Transient {
        /// For a condition.
        reason: Reason,
        /// What happened.
        message: String,
    },
}

/// What a request failed of. Told to people by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Something is there already, or was changed meanwhile.
    Conflict,
    /// It may be made only where nothing is, and a registry does not take that condition from whoever applies.
    Precondition,
    /// The manifest cannot be taken.
    Invalid,
    /// The agent's rights are not enough.
    Forbidden,
    /// The agent is not known.
    Unauthorized,
    /// Its namespace is not there.
    NamespaceMissing,
    /// Its namespace is being deleted.
    NamespaceTerminating,
    /// Something holds the object that is there and is being deleted. It may last.
    Terminating,
    /// The kind is not served.
    NotServed,
    /// The API server does not answer, or not as it should.
    Unavailable,
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

impl Failure {
    /// What has the object's name is being deleted.
    pub(crate) fn terminating() -> Self {
        Self::Transient {
            reason: Reason::Terminating,
            message: "what is there is being deleted, and waits for its finalizers; it is made anew when it is gone".into(),
        }
    }
}

/// What is read of the answer to an apply: the object itself comes by the watch.
#[derive(Deserialize)]
struct Written {
    metadata: WrittenMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenMeta {
    #[serde(default)]
    resource_version: String,
    deletion_timestamp: Option<IgnoredAny>,
}

/// Metadata alone, where the server can do that: since Kubernetes 1.15 all but some aggregated ones.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

/// A thin client over one API server.
#[derive(Clone)]
pub(crate) struct Member {
    client: Client,
}

impl Member {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// The object as it is.
    pub(crate) async fn get(&self, key: &Key) -> Result<Value, Failure> {
        let found = self.call("GET", path(key), None, Vec::new()).await;
        // Nothing but a Namespace's own absence makes a GET say so.
        found.map_err(|failure| match failure {
            Failure::Transient { reason: Reason::NamespaceMissing, .. } => Failure::NotFound,
            other => other,
        })
    }

    /// What a path answers.
    async fn read(&self, path: String) -> Result<Value, Failure> {
        self.call("GET", path, None, Vec::new()).await
    }

    /// Server-side apply; returns the resource version that it led to. Conflicts with other managers are taken over: the federation's
    /// answer is the truth for the fields that it sends. A server takes it of what is being deleted too, which is no copy any more.
    pub(crate) async fn apply(&self, key: &Key, body: Vec<u8>) -> Result<u64, Failure> {
        let path = format!("{}?fieldManager={}&force=true", path(key), marks::FIELD_MANAGER);
        let request = http::Request::builder().header(http::header::ACCEPT, METADATA);
        let written: Written =
            self.send(request, "PATCH", path, Some("application/apply-patch+yaml"), body).await?;
        if written.metadata.deletion_timestamp.is_some() {
            return Err(Failure::terminating());
        }
        Ok(written.metadata.resource_version.parse().unwrap_or(0))
    }

    /// JSON merge patch, RFC 7396.
    pub(crate) async fn merge(&self, key: &Key, patch: &Value) -> Result<Value, Failure> {
        let path = format!("{}?fieldManager={}", path(key), marks::FIELD_MANAGER);
        self.call("PATCH", path, Some("application/merge-patch+json"), patch.to_string().into_bytes()).await
    }

    /// Deletes the very object that was looked at.
    pub(crate) async fn delete(&self, key: &Key, uid: &str) -> Result<Value, Failure> {
        let body = serde_json::json!({
            "kind": "DeleteOptions", "apiVersion": "v1",
            "propagationPolicy": "Background", "preconditions": {"uid": uid},
        });
        self.call("DELETE", path(key), Some("application/json"), body.to_string().into_bytes()).await
    }

    /// Creates an object in a collection.
    pub(crate) async fn create(&self, collection: String, body: &Value) -> Result<Value, Failure> {
        self.call("POST", collection, Some("application/json"), body.to_string().into_bytes()).await
    }

    async fn call(
        &self,
        method: &str,
        path: String,
        content: Option<&str>,
        body: Vec<u8>,
    ) -> Result<Value, Failure> {
        self.send(http::Request::builder(), method, path, content, body).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        request: http::request::Builder,
        method: &str,
        path: String,
        content: Option<&str>,
        body: Vec<u8>,
    ) -> Result<T, Failure> {
        let mut request = request.method(method).uri(path);
        if let Some(content) = content {
            request = request.header(http::header::CONTENT_TYPE, content);
        }
        let request = request
            .body(body)
            .map_err(|error| Failure::Refused { reason: Reason::Invalid, message: error.to_string() })?;
        match tokio::time::timeout(TIMEOUT, self.client.request::<T>(request)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(kube::Error::Api(status))) => Err(sort(status.code, &status.reason, &status.message)),
            Ok(Err(error)) => {
                Err(Failure::Transient { reason: Reason::Unavailable, message: Chain(&error).to_string() })
            }
            Err(_) => Err(Failure::Transient {
                reason: Reason::Unavailable,
                message: format!("the member's API server did not answer within {} s", TIMEOUT.as_secs()),
            }),
        }
    }
}

/// API conventions, "HTTP status codes".
fn sort(code: u16, reason: &str, message: &str) -> Failure {
    let message = message.to_owned();
    match code {
        // A kind that is not served answers 404 without the reason of a missing object ("the server could not find the requested resource").
        404 if message.contains("namespaces \"") => {
            Failure::Transient { reason: Reason::NamespaceMissing, message }
        }
        404 if reason == "NotFound" && !message.contains("could not find the requested resource") => {
            Failure::NotFound
        }
        404 => Failure::Refused { reason: Reason::NotServed, message },
        400 | 413 | 415 | 422 => Failure::Refused { reason: Reason::Invalid, message },
        // A namespace that is being deleted refuses new objects until it is gone.
        403 if message.contains("because it is being terminated") => {
            Failure::Transient { reason: Reason::NamespaceTerminating, message }
        }
        403 => Failure::Refused { reason: Reason::Forbidden, message },
        // Server-side apply answers 500 to a manifest that does not fit the schema.
        500 if message.contains("failed to create typed patch object") => {
            Failure::Refused { reason: Reason::Invalid, message }
        }
        // Up to Kubernetes 1.22 Services did so (kubernetes/kubernetes#106745).
        409 | 500.. if message.contains("resourceVersion") => {
            Failure::Transient { reason: Reason::Precondition, message }
        }
        401 => Failure::Transient { reason: Reason::Unauthorized, message },
        405 => Failure::Refused { reason: Reason::NotServed, message },
        409 => Failure::Transient { reason: Reason::Conflict, message },
        _ => Failure::Transient { reason: Reason::Unavailable, message },
    }
}

/// The object's URL path.
pub(crate) fn path(key: &Key) -> String {
    format!("{}/{}", collection(key), key.name)
}

/// The path of the collection that the object is in.
pub(crate) fn collection(key: &Key) -> String {
    let mut path = if key.group.is_empty() {
        format!("/api/{}", key.version)
    } else {
        format!("/apis/{}/{}", key.group, key.version)
    };
    if !key.namespace.is_empty() {
        path.push_str("/namespaces/");
        path.push_str(&key.namespace);
    }
    path.push('/');
    path.push_str(&key.resource);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_sorted_by_what_to_do_about_them() {
        assert!(matches!(sort(404, "NotFound", "configmaps \"a\" not found"), Failure::NotFound));
        assert!(matches!(
            sort(404, "NotFound", "the server could not find the requested resource"),
            Failure::Refused { reason: Reason::NotServed, .. }
        ));
        assert!(matches!(
            sort(404, "NotFound", "namespaces \"shop\" not found"),
            Failure::Transient { reason: Reason::NamespaceMissing, .. }
        ));
        assert!(matches!(sort(422, "Invalid", ""), Failure::Refused { reason: Reason::Invalid, .. }));
        assert!(matches!(sort(403, "Forbidden", "no"), Failure::Refused { reason: Reason::Forbidden, .. }));
        assert!(matches!(sort(429, "TooManyRequests", ""), Failure::Transient { .. }));
        assert!(matches!(sort(503, "", ""), Failure::Transient { .. }));
    }

    #[test]
    fn paths_follow_group_and_scope() {
        let mut key =
            Key { version: "v1".into(), resource: "namespaces".into(), name: "a".into(), ..Key::default() };
        assert_eq!(path(&key), "/api/v1/namespaces/a");
        key = Key { group: "apps".into(), resource: "deployments".into(), namespace: "n".into(), ..key };
        assert_eq!(path(&key), "/apis/apps/v1/namespaces/n/deployments/a");
    }
}
