//! A server on a temporary folder.

use bytes::Bytes;
use federation_apiserver::{ApiServer, EndpointScope, Parts, store};
use federation_runtime::endpoints::{Health, Metrics};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

pub(crate) struct World {
    pub(crate) server: ApiServer,
    pub(crate) draining: CancellationToken,
    _folder: TempDir,
}

impl World {
    /// A server that has the namespace `demo`.
    pub(crate) async fn new() -> Self {
        Self::with(|parts| parts).await
    }

    /// The same of other parts.
    pub(crate) async fn with(adjust: impl FnOnce(Parts) -> Parts) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let storage = store::Storage::open(store::Options::new(folder.path())).await.unwrap();
        let draining = CancellationToken::new();
        let server = ApiServer::new(adjust(Parts {
            storage,
            tokens: Default::default(),
            accounts: None,
            audit: None,
            authorization: vec![Default::default()],
            ranges: Default::default(),
            endpoint_scope: EndpointScope::Any,
            health: Health::new(),
            metrics: Metrics::new(),
            draining: draining.clone(),
            others: Default::default(),
            flags: [("listen".to_owned(), "127.0.0.1:0".to_owned())].into(),
        }));
        let world = Self { server, draining, _folder: folder };
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}});
        world.expect(StatusCode::CREATED, Method::POST, "/api/v1/namespaces", Some(namespace)).await;
        world
    }

    pub(crate) fn client(&self) -> kube::Client {
        kube::Client::new(self.server.service(), "demo")
    }

    /// One request as the administrator; JSON in and out.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> (StatusCode, Value) {
        let response = self.server.service().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let value = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into());
        (status, value)
    }

    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let content_type =
            if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .body(Full::from(body))
            .unwrap();
        self.send(request).await
    }

    /// GET with an Accept header.
    pub(crate) async fn accepting(&self, path: &str, accept: &str) -> Value {
        let request = Request::builder().uri(path).header("accept", accept).body(Full::default()).unwrap();
        let (status, value) = self.send(request).await;
        assert_eq!(status, StatusCode::OK, "{path}: {value}");
        value
    }

    /// The Table of a collection.
    pub(crate) async fn table(&self, path: &str) -> Value {
        self.accepting(path, "application/json;as=Table;v=v1;g=meta.k8s.io").await
    }

    #[track_caller]
    pub(crate) fn expect(
        &self,
        code: StatusCode,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> impl Future<Output = Value> {
        let path = path.to_owned();
        let caller = std::panic::Location::caller();
        async move {
            let (found, value) = self.request(method, &path, body).await;
            assert_eq!(found, code, "{caller}: {path}: {value}");
            value
        }
    }
}

pub(crate) fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "v"}})
}

pub(crate) fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "web", "image": "nginx:1"}]},
            },
        },
    })
}
