//! A Kubernetes API as tests use it, and waiting for what is to come.

use std::time::{Duration, Instant};

use kube::Client;
use serde_json::{Value, json};

/// Nothing that a test waits for takes longer, on a busy machine either.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// Waits until `look` finds something.
#[track_caller]
pub(crate) fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    look: impl FnMut() -> F,
) -> impl Future<Output = T> {
    until_within(LIMIT, what, look)
}

/// Waits until `look` finds something that may take longer than others.
#[track_caller]
pub(crate) fn until_within<T, F: Future<Output = Option<T>>>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> F,
) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let start = Instant::now();
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(start.elapsed() < limit, "{caller}: never: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A Kubernetes API, by paths and values.
#[derive(Clone)]
pub(crate) struct Api(pub(crate) Client);

impl Api {
    async fn send(&self, method: &str, path: &str, content: &str, body: &Value) -> kube::Result<Value> {
        let request = http::Request::builder().method(method).uri(path).header("content-type", content);
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.0.request(request.body(body).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Option<Value> {
        match self.send("GET", path, "application/json", &Value::Null).await {
            Ok(found) => Some(found),
            Err(kube::Error::Api(status)) if status.code == 404 => None,
            Err(error) => panic!("GET {path}: {error}"),
        }
    }

    #[track_caller]
    pub(crate) fn create(&self, collection: &str, object: &Value) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        async move {
            let answer = self.send("POST", collection, "application/json", object).await;
            answer.unwrap_or_else(|error| panic!("{caller}: POST {collection}: {error}"))
        }
    }

    pub(crate) async fn merge(&self, path: &str, patch: &Value) -> Value {
        let answer = self.send("PATCH", path, "application/merge-patch+json", patch).await;
        answer.unwrap_or_else(|error| panic!("PATCH {path}: {error}"))
    }

    pub(crate) async fn delete(&self, path: &str, propagation: Option<&str>) {
        let body = propagation.map_or_else(|| json!({}), |policy| json!({"propagationPolicy": policy}));
        let answer = self.send("DELETE", path, "application/json", &body).await;
        answer.unwrap_or_else(|error| panic!("DELETE {path}: {error}"));
    }

    /// Waits until the object is there and `holds` of it.
    pub(crate) async fn until(&self, path: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        until(&format!("{path}: {what}"), || async { self.get(path).await.filter(|found| holds(found)) })
            .await
    }

    /// Waits until the object is there.
    pub(crate) async fn there(&self, path: &str) -> Value {
        self.until(path, "is there", |_| true).await
    }

    /// Waits until the object is gone.
    pub(crate) async fn gone(&self, path: &str) {
        until(&format!("{path} is gone"), || async { self.get(path).await.is_none().then_some(()) }).await;
    }

    pub(crate) async fn items(&self, collection: &str) -> Vec<Value> {
        let list = self.get(collection).await.unwrap();
        list["items"].as_array().unwrap().clone()
    }
}
