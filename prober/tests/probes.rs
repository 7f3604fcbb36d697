//! Probes of real servers on loopback: what each protocol calls well, and how fast a death is seen.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use federation_core::probe::{Alone, Check, Get, Key, Protocol, Target};
use federation_prober::Probing;
use federation_runtime::shutdown::Shutdown;
use proto::v1::{ProbeState, ProbeVote};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const LIMIT: Duration = Duration::from_secs(10);

fn target(cluster: &str, address: SocketAddr, protocol: Protocol) -> Target {
    Target {
        key: Key { service: "default/web".into(), cluster: cluster.into() },
        addresses: vec![address.ip()],
        port: address.port(),
        check: Check { protocol, ..Check::default() },
        alone: Alone::default(),
    }
}

fn get(path: &str) -> Get {
    Get { path: path.into(), host: "www.example.test".into(), statuses: vec![(200, 399)] }
}

/// Waits for a vote on a cluster that `holds`.
async fn until(probing: &Probing, cluster: &str, holds: impl Fn(&ProbeVote) -> bool) -> ProbeVote {
    let begun = Instant::now();
    loop {
        let votes = probing.votes();
        if let Some(vote) = votes.iter().find(|vote| vote.cluster == cluster && holds(vote)) {
            return vote.clone();
        }
        assert!(begun.elapsed() < LIMIT, "never, of {cluster}: {votes:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn is(state: ProbeState) -> impl Fn(&ProbeVote) -> bool {
    move |vote| vote.state() == state
}

/// A server that answers each connection's first words with these.
async fn server(answer: &'static str) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut words = [0; 1024];
                let read = stream.read(&mut words).await.unwrap_or(0);
                if read > 0 {
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    (address, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_is_well_by_its_status() {
    let (well, _well) = server("HTTP/1.1 204 No Content\r\n\r\n").await;
    let (ill, _ill) = server("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n").await;
    let (mute, _mute) = server("").await;
    let probing = Probing::start(1, Shutdown::new());
    probing.set_targets(vec![
        target("well", well, Protocol::Http(get("/"))),
        target("ill", ill, Protocol::Http(get("/healthz"))),
        target("mute", mute, Protocol::Http(get("/"))),
    ]);
    let vote = until(&probing, "well", is(ProbeState::Up)).await;
    assert!(vote.rtt_micros > 0 && vote.message.is_empty());
    let vote = until(&probing, "ill", |vote| vote.failures > 1).await;
    // What never answered is no vote.
    assert_eq!(vote.state(), ProbeState::Unproven);
    assert!(vote.message.contains("GET /healthz was answered 503"), "{}", vote.message);
    until(&probing, "mute", |vote| vote.failures > 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn https_sends_the_name_and_tells_the_certificates_expiry() {
    federation_runtime::tls::install_provider();
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["www.example.test".into()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let name = stream.get_ref().1.server_name() == Some("www.example.test");
                let mut words = [0; 1024];
                let _ = stream.read(&mut words).await;
                let status = if name { "200 OK" } else { "421 Misdirected Request" };
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    let probing = Probing::start(1, Shutdown::new());
    probing.set_targets(vec![
        target("taiwan", address, Protocol::Https { get: get("/"), verify: false }),
        target("tokyo", address, Protocol::Https { get: get("/"), verify: true }),
    ]);
    let vote = until(&probing, "taiwan", is(ProbeState::Up)).await;
    // rcgen's default is the year 4096.
    assert!(vote.certificate_not_after > 4_000_000_000, "{}", vote.certificate_not_after);
    let vote = until(&probing, "tokyo", |vote| vote.failures > 0).await;
    assert!(vote.message.contains("TLS"), "{}", vote.message);
}

/// A gRPC server's health by hand: HTTP/2 by hyper, the status in trailers.
async fn grpc(status: u8) -> SocketAddr {
    use bytes::Bytes;
    use http_body_util::{BodyExt as _, StreamBody};
    use hyper::body::Frame;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer =
                hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| async move {
                    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                    let asked = request.into_body().collect().await.unwrap().to_bytes();
                    assert_eq!(&asked[5..], b"\x0a\x03web");
                    let mut trailers = http::HeaderMap::new();
                    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                    let frames = [
                        Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from(vec![
                            0, 0, 0, 0, 2, 8, status,
                        ]))),
                        Ok(Frame::trailers(trailers)),
                    ];
                    let body = StreamBody::new(futures::stream::iter(frames));
                    Ok::<_, std::convert::Infallible>(
                        http::Response::builder()
                            .header("content-type", "application/grpc")
                            .body(body)
                            .unwrap(),
                    )
                });
            let executor = hyper_util::rt::TokioExecutor::new();
            let io = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(hyper::server::conn::http2::Builder::new(executor).serve_connection(io, answer));
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_is_well_when_it_serves() {
    let spoken = || Protocol::Grpc { service: "web".into(), host: String::new() };
    let probing = Probing::start(1, Shutdown::new());
    probing.set_targets(vec![
        target("taiwan", grpc(1).await, spoken()),
        target("tokyo", grpc(2).await, spoken()),
    ]);
    until(&probing, "taiwan", is(ProbeState::Up)).await;
    let vote = until(&probing, "tokyo", |vote| vote.failures > 0).await;
    assert!(vote.message.contains("NOT_SERVING"), "{}", vote.message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_is_seen_within_three_seconds_and_told_at_once() {
    let (taiwan, dying) = server("").await;
    let (tokyo, _living) = server("").await;
    let probing = Probing::start(1, Shutdown::new());
    let mut changes = probing.changes();
    probing.set_targets(vec![target("taiwan", taiwan, Protocol::Tcp), target("tokyo", tokyo, Protocol::Tcp)]);
    until(&probing, "taiwan", is(ProbeState::Up)).await;
    until(&probing, "tokyo", is(ProbeState::Up)).await;
    dying.abort();
    let _ = dying.await;
    let died = Instant::now();
    changes.borrow_and_update();
    until(&probing, "taiwan", is(ProbeState::Down)).await;
    assert!(died.elapsed() < Duration::from_secs(3), "{:?}", died.elapsed());
    assert!(changes.has_changed().unwrap());
    let down = probing.down();
    assert_eq!((down.len(), down[0].key.cluster.as_str()), (1, "taiwan"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_that_answers_is_enough() {
    let (well, _well) = server("").await;
    let probing = Probing::start(1, Shutdown::new());
    let mut two = target("taiwan", well, Protocol::Tcp);
    // Nobody listens at the second one's port.
    two.addresses.insert(0, "127.0.0.77".parse().unwrap());
    probing.set_targets(vec![two]);
    let vote = until(&probing, "taiwan", is(ProbeState::Up)).await;
    assert_eq!(vote.failures, 0);
}
