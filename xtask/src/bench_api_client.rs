//! The client of `cargo xtask bench api`: one HTTP/1.1 connection over TLS for each client, and what is timed over it.
//!
//! It shares the machine with the servers, so it does as little as it can: a connection is driven by the task that asks, bytes are taken from the
//! system as many as there are, and what nobody looks at is not kept.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use federation_runtime::{pki::Identity, tls};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::bench_api_plain::{Media, Plain};

/// Where to connect, and as whom.
#[derive(Clone)]
pub(crate) struct Target {
    /// `127.0.0.1:6443`.
    pub(crate) address: String,
    pub(crate) ca_pem: String,
    pub(crate) identity: Identity,
}

/// One connection. It goes on only while something is asked.
pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
    connection: Pin<Box<Wire>>,
    host: String,
}

type Wire = Connection<TokioIo<TlsStream<BufReader<TcpStream>>>, Full<Bytes>>;

const JSON: &str = "application/json";
const APPLY: &str = "application/apply-patch+yaml";
/// An event that takes longer than this is lost.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes that are taken from the system at a time.
const READ_BYTES: usize = 64 << 10;

impl Client {
    pub(crate) async fn connect(target: &Target) -> Result<Self> {
        let config = tls::client(Some(&target.identity), &target.ca_pem, &["http/1.1"])?;
        let stream = TcpStream::connect(&target.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let stream = BufReader::with_capacity(READ_BYTES, stream);
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, connection: Box::pin(connection), host: target.address.clone() })
    }

    /// Sends a request, and does something with the answer.
    async fn talk<T>(
        &mut self,
        request: Request<Full<Bytes>>,
        hear: impl AsyncFnOnce(Response<Incoming>) -> Result<T>,
    ) -> Result<T> {
        let Self { sender, connection, .. } = self;
        let talk = async {
            sender.ready().await?;
            hear(sender.send_request(request).await?).await
        };
        driven(connection, talk).await
    }

    fn request(&self, method: &str, path: &str, kind: &str, body: Bytes) -> Result<Request<Full<Bytes>>> {
        Ok(Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.host)
            .header("user-agent", "bench/1")
            .header("accept", JSON)
            .header("content-type", kind)
            .body(Full::new(body))?)
    }

    /// Whether the server ended the connection.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// A request with these headers, and its whole answer of whatever kind.
    pub(crate) async fn exchange(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<(u16, HeaderMap, Bytes)> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.host)
            .header("user-agent", "compat/1");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body))?;
        self.talk(request, async |response| {
            let (head, body) = response.into_parts();
            Ok((head.status.as_u16(), head.headers, body.collect().await?.to_bytes()))
        })
        .await
    }

    /// A request and its whole answer, which must be a success.
    pub(crate) async fn ask(&mut self, method: &str, path: &str, kind: &str, body: Bytes) -> Result<Bytes> {
        let request = self.request(method, path, kind, body)?;
        self.talk(request, async |response| {
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            ensure!(status.is_success(), "{method} {path}: {status} {}", String::from_utf8_lossy(&body));
            Ok(body)
        })
        .await
    }

    /// Reads an answer to its end and keeps nothing: its bytes.
    async fn drain(&mut self, path: &str) -> Result<usize> {
        let request = self.request("GET", path, JSON, Bytes::new())?;
        self.talk(request, async |response| {
            ensure!(response.status().is_success(), "{path}: {}", response.status());
            let (mut body, mut bytes) = (response.into_body(), 0);
            while let Some(frame) = body.frame().await {
                bytes += frame?.data_ref().map_or(0, Bytes::len);
            }
            Ok(bytes)
        })
        .await
    }

    pub(crate) async fn create(&mut self, path: &str, object: &serde_json::Value) -> Result<Bytes> {
        self.ask("POST", path, JSON, serde_json::to_vec(object)?.into()).await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<Bytes> {
        self.ask("GET", path, JSON, Bytes::new()).await
    }
}

/// Does something over a connection, and keeps the connection going meanwhile.
async fn driven<T>(connection: &mut Pin<Box<Wire>>, work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut work = pin!(work);
    let mut open = true;
    poll_fn(|context| {
        loop {
            if let Poll::Ready(result) = work.as_mut().poll(context) {
                return Poll::Ready(result);
            }
            if !open {
                return Poll::Pending;
            }
            match connection.as_mut().poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                // What was heard to the end is there to be taken.
                Poll::Ready(Ok(())) => open = false,
            }
        }
    })
    .await
}

/// A ConfigMap whose JSON has 1 KiB.
fn config_map(name: &str) -> Vec<u8> {
    let frame = format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}},"data":{{"value":""}}}}"#
    );
    let (head, tail) = frame.split_at(frame.len() - 3);
    format!("{head}{}{tail}", "x".repeat(1024 - frame.len())).into_bytes()
}

/// ConfigMaps a second, made by so many clients at once.
pub(crate) async fn creates(
    target: &Target,
    path: &str,
    first: usize,
    count: usize,
    clients: usize,
) -> Result<f64> {
    let mut connected = Vec::new();
    for _ in 0..clients {
        connected.push(Plain::connect(target).await?);
    }
    let next = Arc::new(AtomicU64::new(first as u64));
    let end = (first + count) as u64;
    let start = Instant::now();
    let mut tasks = Vec::new();
    for mut client in connected {
        let (next, path) = (Arc::clone(&next), path.to_owned());
        tasks.push(tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= end {
                    return Ok::<(), anyhow::Error>(());
                }
                client.ask("POST", &path, JSON, &config_map(&format!("c-{number:06}"))).await?;
            }
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// Milliseconds of each of so many creates, one after another.
pub(crate) async fn creates_in_turn(
    target: &Target,
    path: &str,
    prefix: &str,
    count: usize,
) -> Result<Vec<f64>> {
    let mut client = Plain::connect(target).await?;
    let mut times = Vec::with_capacity(count);
    for number in 0..count {
        let body = config_map(&format!("{prefix}-{number:06}"));
        let start = Instant::now();
        client.ask("POST", path, JSON, &body).await?;
        times.push(ms(start.elapsed()));
    }
    Ok(times)
}

/// Milliseconds of each of so many GETs of ConfigMaps that [`creates`] made.
pub(crate) async fn gets(target: &Target, path: &str, count: usize) -> Result<Vec<f64>> {
    let mut client = Plain::connect(target).await?;
    let mut times = Vec::with_capacity(count);
    for number in 0..count {
        let path = format!("{path}/c-{number:06}");
        let start = Instant::now();
        client.ask("GET", &path, JSON, &[]).await?;
        times.push(ms(start.elapsed()));
    }
    Ok(times)
}

/// Milliseconds of each of so many lists.
pub(crate) async fn lists(target: &Target, path: &str, count: usize) -> Result<Vec<f64>> {
    let mut client = Client::connect(target).await?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        let bytes = client.drain(path).await?;
        times.push(ms(start.elapsed()));
        ensure!(bytes > count, "the list is empty");
    }
    Ok(times)
}

/// Milliseconds of each of so many server-side applies of a Deployment, each with another image.
pub(crate) async fn applies(target: &Target, path: &str, round: usize, count: usize) -> Result<Vec<f64>> {
    let mut client = Plain::connect(target).await?;
    let path = format!("{path}/web?fieldManager=bench&force=true");
    let mut times = Vec::with_capacity(count);
    for number in 0..=count {
        let body = serde_json::json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": format!("web:{round}.{number}"),
                    "ports": [{"containerPort": 80}], "env": [{"name": "A", "value": "b"}]}]}}}
        });
        let body = serde_json::to_vec(&body)?;
        let start = Instant::now();
        client.ask("PATCH", &path, APPLY, &body).await?;
        // The first may have to make the object.
        if number > 0 {
            times.push(ms(start.elapsed()));
        }
    }
    Ok(times)
}

/// Milliseconds from the start of a write to its event, of each event of each of so many watchers.
pub(crate) async fn events(
    target: &Target,
    path: &str,
    prefix: &str,
    watchers: usize,
    media: Media,
    writes: usize,
) -> Result<Vec<f64>> {
    let list: serde_json::Value = serde_json::from_slice(&Client::connect(target).await?.get(path).await?)?;
    let version = list["metadata"]["resourceVersion"].as_str().context("a list without resourceVersion")?;
    let from = format!("{path}?watch=true&resourceVersion={version}");
    let seen = Arc::new(Seen::by(watchers));
    let mut tasks = Vec::new();
    let (started, mut begun) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..watchers {
        let client = Plain::connect(target).await?;
        tasks.push(tokio::spawn(receive(client, from.clone(), media, started.clone(), Arc::clone(&seen))));
    }
    for _ in 0..watchers {
        begun.recv().await.context("a watch ended")??;
    }
    let mut client = Plain::connect(target).await?;
    let mut times = Vec::with_capacity(writes * watchers);
    for number in 0..writes {
        let body = config_map(&format!("{prefix}-{number:06}"));
        let start = Instant::now();
        client.ask("POST", path, JSON, &body).await?;
        tokio::time::timeout(PATIENCE, seen.all()).await.context("an event was lost")?;
        times.extend(seen.take().into_iter().map(|at| ms(at.duration_since(start))));
    }
    for task in tasks {
        task.abort();
    }
    Ok(times)
}

/// When the events of one write were whole.
#[derive(Default)]
pub(crate) struct Seen {
    expected: usize,
    count: AtomicUsize,
    times: Mutex<Vec<Instant>>,
    /// Everybody has seen it.
    all: Notify,
}

impl Seen {
    pub(crate) fn by(watchers: usize) -> Self {
        Self { expected: watchers, ..Self::default() }
    }

    pub(crate) fn note(&self, at: Instant) {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).push(at);
        if self.count.fetch_add(1, Ordering::AcqRel) + 1 == self.expected {
            self.count.store(0, Ordering::Release);
            self.all.notify_one();
        }
    }

    /// Waits until everybody has seen it.
    pub(crate) async fn all(&self) {
        self.all.notified().await;
    }

    pub(crate) fn take(&self) -> Vec<Instant> {
        std::mem::take(&mut *self.times.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Watches, and tells when each event was whole.
async fn receive(
    mut client: Plain,
    path: String,
    media: Media,
    started: tokio::sync::mpsc::UnboundedSender<Result<()>>,
    seen: Arc<Seen>,
) {
    let begun = client.watch(&path, media).await;
    let is_begun = begun.is_ok();
    let _gone = started.send(begun);
    // A watch that ends early is missed by the one that waits for all.
    while is_begun && let Ok(count) = client.events(media).await {
        (0..count).for_each(|_| seen.note(Instant::now()));
    }
}

pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
