//! Probes of real servers on loopback: what each protocol calls well, and how fast a death is seen.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use federation_core::probe::{Alone, Check, Get, Key, Protocol, Target};
use federation_prober::Probing;
use federation_runtime::endpoints::Health;
use federation_runtime::shutdown::Shutdown;
use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use proto::v1::{ProbeState, ProbeVote};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;

const LIMIT: Duration = Duration::from_secs(10);

fn target(cluster: &str, address: SocketAddr, protocol: Protocol) -> Target {
    Target {
        key: Key { service: "default/web".into(), cluster: cluster.into() },
        addresses: vec![address.ip()],
        host: None,
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
    let probing = Probing::start(1, Vec::new(), Health::new(), Shutdown::new());
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
    let probing = Probing::start(1, Vec::new(), Health::new(), Shutdown::new());
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
    let probing = Probing::start(1, Vec::new(), Health::new(), Shutdown::new());
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
    let probing = Probing::start(1, Vec::new(), Health::new(), Shutdown::new());
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
    let probing = Probing::start(1, Vec::new(), Health::new(), Shutdown::new());
    let mut two = target("taiwan", well, Protocol::Tcp);
    // Nobody listens at the second one's port.
    two.addresses.insert(0, "127.0.0.77".parse().unwrap());
    probing.set_targets(vec![two]);
    let vote = until(&probing, "taiwan", is(ProbeState::Up)).await;
    assert_eq!(vote.failures, 0);
}

/// A resolver that knows one name, and answers as it is told: the address and how long it counts, none for a name that is not there, and not at all
/// while it is mute.
#[derive(Default)]
struct Resolver {
    says: Mutex<Option<(Ipv4Addr, u32)>>,
    mute: AtomicBool,
    cut: AtomicBool,
    asked: AtomicUsize,
}

impl Resolver {
    fn answer(&self, octets: &[u8], by_tcp: bool) -> Vec<u8> {
        let mut message = Message::from_vec(octets).unwrap();
        assert!(message.metadata.recursion_desired);
        message.metadata.message_type = MessageType::Response;
        let asked = message.queries[0].clone();
        assert_eq!(asked.name.to_ascii(), "lb.example.net.");
        match *self.says.lock().unwrap() {
            _ if self.cut.load(SeqCst) && !by_tcp => message.metadata.truncation = true,
            None => message.metadata.response_code = ResponseCode::NXDomain,
            Some((address, ttl)) if asked.query_type == RecordType::A => {
                let alias = Name::from_ascii("b.lb.example.net.").unwrap();
                let cname = RData::CNAME(CNAME(alias.clone()));
                message.add_answer(Record::from_rdata(asked.name, 300, cname));
                message.add_answer(Record::from_rdata(alias, ttl, RData::A(A(address))));
            }
            Some(_) => {}
        }
        message.to_vec().unwrap()
    }

    async fn start() -> (Arc<Self>, SocketAddr) {
        let resolver = Arc::new(Self::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let socket = UdpSocket::bind(address).await.unwrap();
        let (over_udp, over_tcp) = (resolver.clone(), resolver.clone());
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                over_udp.asked.fetch_add(1, SeqCst);
                if !over_udp.mute.load(SeqCst) {
                    let answer = over_udp.answer(&buffer[..length], false);
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut octets = vec![0; stream.read_u16().await.unwrap().into()];
                stream.read_exact(&mut octets).await.unwrap();
                let answer = over_tcp.answer(&octets, true);
                stream.write_u16(answer.len() as u16).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
        (resolver, address)
    }

    fn say(&self, address: Option<Ipv4Addr>, ttl: u32) {
        *self.says.lock().unwrap() = address.map(|address| (address, ttl));
    }
}

/// Two servers at one port of two addresses.
async fn neighbours() -> (SocketAddr, SocketAddr, JoinHandle<()>) {
    let (here, task) = server("x").await;
    (here, SocketAddr::from(([127, 0, 0, 2], here.port())), task)
}

fn named(port: u16) -> Target {
    let mut target = target("named", ([127, 0, 0, 1], port).into(), Protocol::Tcp);
    target.addresses.clear();
    target.host = Some("lb.example.net.".into());
    target.check = Check { interval_ms: 100, ..target.check };
    target
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_probed_where_it_leads_for_as_long_as_it_is_said_to() {
    let (resolver, at) = Resolver::start().await;
    let (here, elsewhere, _serving) = neighbours().await;
    let loopback = |address: SocketAddr| if let IpAddr::V4(v4) = address.ip() { v4 } else { unreachable!() };
    let probing = Probing::start(1, vec![at], Health::new(), Shutdown::new());
    probing.set_targets(vec![named(here.port())]);
    let vote = until(&probing, "named", |vote| vote.failures > 0).await;
    assert!(vote.message.contains("lb.example.net. has no address"), "{}", vote.message);
    assert_eq!(vote.state(), ProbeState::Unproven);
    resolver.cut.store(true, SeqCst);
    resolver.say(Some(loopback(here)), 1);
    until(&probing, "named", is(ProbeState::Up)).await;
    // Nobody listens there: users who are led there are not served.
    resolver.say(Some(loopback(elsewhere)), 3600);
    let vote = until(&probing, "named", is(ProbeState::Down)).await;
    assert!(vote.message.contains("127.0.0.2"), "{}", vote.message);
    // It counts for an hour: nobody is asked meanwhile.
    let before = resolver.asked.load(SeqCst);
    until(&probing, "named", |vote| vote.failures > 12).await;
    assert_eq!(resolver.asked.load(SeqCst), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resolver_that_is_silent_is_no_word_about_the_name_and_one_that_denies_it_is() {
    let (resolver, at) = Resolver::start().await;
    let (here, task) = server("x").await;
    resolver.say(Some(Ipv4Addr::LOCALHOST), 0);
    // Nobody is at the first one.
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    let probing = Probing::start(1, vec![nobody, at], Health::new(), Shutdown::new());
    probing.set_targets(vec![named(here.port())]);
    until(&probing, "named", is(ProbeState::Up)).await;
    resolver.mute.store(true, SeqCst);
    let before = resolver.asked.load(SeqCst);
    let asked = || resolver.asked.load(SeqCst) - before;
    let begun = Instant::now();
    while asked() < 6 {
        assert!(begun.elapsed() < LIMIT, "asked {} times", asked());
        let votes = probing.votes();
        assert!(votes.iter().all(|vote| vote.state() == ProbeState::Up && vote.failures == 0), "{votes:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Its last address is probed on, and what happens there is seen.
    task.abort();
    until(&probing, "named", is(ProbeState::Down)).await;
    let again = TcpListener::bind(here).await.unwrap();
    until(&probing, "named", is(ProbeState::Up)).await;
    resolver.say(None, 0);
    resolver.mute.store(false, SeqCst);
    let vote = until(&probing, "named", is(ProbeState::Down)).await;
    assert!(vote.message.contains("has no address"), "{}", vote.message);
    drop(again);
}

/// A probe may have less time than the resolver would be waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_last_is_not_forgotten_by_a_probe_that_has_little_time() {
    let (resolver, at) = Resolver::start().await;
    let (here, _serving) = server("x").await;
    resolver.say(Some(Ipv4Addr::LOCALHOST), 0);
    let probing = Probing::start(1, vec![at], Health::new(), Shutdown::new());
    let mut target = named(here.port());
    target.check.timeout_ms = 250;
    probing.set_targets(vec![target]);
    until(&probing, "named", is(ProbeState::Up)).await;
    resolver.mute.store(true, SeqCst);
    let before = resolver.asked.load(SeqCst);
    let asked = || resolver.asked.load(SeqCst) - before;
    let begun = Instant::now();
    while asked() < 8 {
        assert!(begun.elapsed() < LIMIT, "asked {} times", asked());
        let votes = probing.votes();
        assert!(votes.iter().all(|vote| vote.state() == ProbeState::Up), "{votes:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_leads_nobody_to_the_probers_own_link() {
    let (resolver, at) = Resolver::start().await;
    resolver.say(Some(Ipv4Addr::new(169, 254, 169, 254)), 1);
    let probing = Probing::start(1, vec![at], Health::new(), Shutdown::new());
    probing.set_targets(vec![named(80)]);
    let vote = until(&probing, "named", |vote| vote.failures > 0).await;
    assert!(vote.message.contains("has no address"), "{}", vote.message);
}
