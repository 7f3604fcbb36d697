//! Keys in a key management service: a plugin of `k8s.io/kms` v2 plays it, on a socket and a thread of its own.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;

use super::*;

/// Both requests and answers, as far as the plugin looks at them: bytes first, a text second.
#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(bytes = "vec", tag = "1")]
    bytes: Vec<u8>,
    #[prost(string, tag = "2")]
    text: String,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(string, tag = "2")]
    healthz: String,
    #[prost(string, tag = "3")]
    key_id: String,
}

/// A plugin that "seals" by turning bits, differently for each key.
struct Plugin {
    socket: PathBuf,
    key: Arc<AtomicU8>,
    opened: Arc<AtomicUsize>,
    _end: tokio::sync::oneshot::Sender<()>,
}

impl Plugin {
    fn start(folder: &Path) -> Self {
        let socket = folder.join("kms.sock");
        let (key, opened) = (Arc::new(AtomicU8::new(1)), Arc::<AtomicUsize>::default());
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let (ready, listening) = std::sync::mpsc::channel();
        let (path, own_key, count) = (socket.clone(), Arc::clone(&key), Arc::clone(&opened));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::UnixListener::bind(path).unwrap();
                ready.send(()).unwrap();
                let serve = async {
                    while let Ok((stream, _)) = listener.accept().await {
                        let (key, count) = (Arc::clone(&own_key), Arc::clone(&count));
                        let service = hyper::service::service_fn(move |request| {
                            answer(request, key.load(Ordering::Relaxed), Arc::clone(&count))
                        });
                        let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
                    }
                };
                tokio::select! { () = serve => {}, _ = ended => {} }
            });
        });
        listening.recv().unwrap();
        Self { socket, key, opened, _end: end }
    }

    fn config(&self) -> Encryption {
        let endpoint = self.socket.display();
        Encryption::parse(&format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers: [{{kms: {{apiVersion: v2, name: safe, endpoint: 'unix://{endpoint}'}}}}, {{identity: {{}}}}]\n"
        ))
        .unwrap()
    }
}

async fn answer(
    request: Request<Incoming>,
    key: u8,
    opened: Arc<AtomicUsize>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    // Behind the five bytes of gRPC's own frame.
    let asked = body.slice(5..);
    let turned = |bytes: &[u8], key: u8| bytes.iter().map(|byte| byte ^ key).collect::<Vec<_>>();
    let reply = match path.as_str() {
        "/v2.KeyManagementService/Status" => {
            Status { version: "v2".into(), healthz: "ok".into(), key_id: format!("key-{key}") }
                .encode_to_vec()
        }
        "/v2.KeyManagementService/Encrypt" => {
            let asked = Envelope::decode(asked).unwrap();
            let mut sealed = turned(&asked.bytes, key);
            sealed.push(key);
            Envelope { bytes: sealed, text: format!("key-{key}") }.encode_to_vec()
        }
        _ => {
            opened.fetch_add(1, Ordering::Relaxed);
            let asked = Envelope::decode(asked).unwrap();
            let (key, sealed) = asked.bytes.split_last().unwrap();
            Envelope { bytes: turned(sealed, *key), text: String::new() }.encode_to_vec()
        }
    };
    let mut frame = vec![0];
    frame.extend((reply.len() as u32).to_be_bytes());
    frame.extend(reply);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = futures::stream::iter([Ok(Frame::data(Bytes::from(frame))), Ok(Frame::trailers(trailers))]);
    let body = StreamBody::new(frames).boxed();
    Ok(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
}

fn secret(name: &str) -> Key {
    Key::new(ResourceKey::new("", "secrets"), "default", name)
}

async fn open(folder: &Path, encryption: Encryption) -> Storage {
    Storage::open(Options { encryption, ..Options::new(folder) }).await.unwrap()
}

async fn write(storage: &Storage, name: &str) {
    let object = mk_object(name, "hush-hush-hush");
    storage.write(Write::Create { key: secret(name), object, within: None }).await.unwrap();
}

#[tokio::test]
async fn what_a_service_sealed_is_read_back_after_a_restart_with_one_question_for_each_seed() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = Plugin::start(folder.path());
    let storage = open(folder.path(), plugin.config()).await;
    for name in ["one", "two", "three"] {
        write(&storage, name).await;
    }
    storage.close().await;
    assert!(!on_disk(folder.path(), "hush-hush-hush") && on_disk(folder.path(), "k8s:enc:kms:v2:safe:"));
    let storage = open(folder.path(), plugin.config()).await;
    let value: Value = serde_json::from_slice(&storage.get(&secret("two")).unwrap().bytes).unwrap();
    assert_eq!(value["data"]["k"], "hush-hush-hush");
    assert_eq!(plugin.opened.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_was_sealed_with_a_key_that_has_turned_is_sealed_anew_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = Plugin::start(folder.path());
    let storage = open(folder.path(), plugin.config()).await;
    write(&storage, "one").await;
    storage.close().await;
    assert!(on_disk(folder.path(), "key-1"));
    plugin.key.store(2, Ordering::Relaxed);
    let storage = open(folder.path(), plugin.config()).await;
    assert!(storage.get(&secret("one")).is_some());
    storage.close().await;
    // Opened once more, nothing is of the first key any more.
    let opened = plugin.opened.load(Ordering::Relaxed);
    let storage = open(folder.path(), plugin.config()).await;
    assert!(storage.get(&secret("one")).is_some() && on_disk(folder.path(), "key-2"));
    assert_eq!(plugin.opened.load(Ordering::Relaxed), opened + 1);
}

#[tokio::test]
async fn a_service_that_is_not_there_is_told_at_the_start() {
    let error = Encryption::parse(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers: [{kms: {apiVersion: v2, name: safe, endpoint: 'unix:///nowhere/kms.sock', timeout: 1s}}]\n",
    );
    let error = error.unwrap_err().to_string();
    assert!(error.contains("resources[0].providers[0].kms: the service cannot be used"), "{error}");
}
