//! HTTPS servers in this process, as others run them beside a control plane.

use std::{
    convert::Infallible,
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use federation_runtime::{
    pki::{Authority, LIFE_OF_PARTS, Peer, Subject},
    tls::{self, Clients},
};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What a handler answers with.
pub(crate) type Answer = Response<BoxBody<Bytes, Infallible>>;

/// Who the client's certificate says that it is, as an extension of the request.
#[derive(Clone)]
pub(crate) struct Client(pub(crate) String);

/// An HTTPS server with an authority of its own.
pub(crate) struct Https {
    pub(crate) port: u16,
    pub(crate) ca_pem: String,
}

impl Https {
    /// Serves under the names `127.0.0.1` and `hooks.demo.svc`.
    pub(crate) async fn start<F>(
        handler: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_create(folder.path()).unwrap();
        Self::start_with(&authority, &authority.certificate_pem, handler).await
    }

    /// The same with a given authority, and clients whose certificates come from another.
    pub(crate) async fn start_with<F>(
        authority: &Authority,
        clients_ca_pem: &str,
        handler: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let names = ["127.0.0.1".to_owned(), "hooks.demo.svc".to_owned()];
        let identity = authority.issue(&Subject::apiserver(), &names, LIFE_OF_PARTS).unwrap();
        let config = tls::server(&identity, clients_ca_pem, Clients::Optional, &["http/1.1"]).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, handler) = (acceptor.clone(), handler.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let peer = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                    let peer = peer.map(|leaf| Client(Peer::from_der(leaf).unwrap().user));
                    let service = service_fn(move |mut request: Request<Incoming>| {
                        if let Some(peer) = &peer {
                            request.extensions_mut().insert(peer.clone());
                        }
                        let answered = handler(request);
                        async move { Ok::<_, Infallible>(answered.await) }
                    });
                    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    let _ended = connection.with_upgrades().await;
                });
            }
        });
        Self { port, ca_pem: authority.certificate_pem.clone() }
    }

    /// Its authority as `caBundle`.
    pub(crate) fn bundle(&self) -> String {
        BASE64_STANDARD.encode(&self.ca_pem)
    }

    /// A kubeconfig that names it, in a folder.
    pub(crate) fn kubeconfig(&self, folder: &Path) -> PathBuf {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "webhook",
            "clusters": [{"name": "them", "cluster": {
                "server": format!("https://127.0.0.1:{}/review", self.port), "certificate-authority-data": self.bundle(),
            }}],
            "users": [{"name": "us", "user": {"token": "ours"}}],
            "contexts": [{"name": "webhook", "context": {"cluster": "them", "user": "us"}}],
        });
        let path = folder.join("webhook.conf");
        std::fs::write(&path, config.to_string()).unwrap();
        path
    }

    /// A `clientConfig` that names it by URL.
    pub(crate) fn config(&self) -> Value {
        json!({"url": format!("https://127.0.0.1:{}/review", self.port), "caBundle": self.bundle()})
    }
}

/// The whole body of a request, as JSON.
pub(crate) async fn json_of(request: Request<Incoming>) -> Value {
    serde_json::from_slice(&request.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

/// An answer of JSON.
pub(crate) fn answer(value: &Value) -> Answer {
    Response::builder()
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(value.to_string())).boxed())
        .unwrap()
}
