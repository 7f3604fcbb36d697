//! DNS over TLS, HTTPS and QUIC, asked by kdig and curl, and by clients that mean harm.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dns_lb::Options;
use dns_lb::testing::transport::{EncryptedAddresses, EncryptedOptions};
use hickory_proto::op::Message;
use hickory_proto::rr::RecordType as T;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, ConnectionError, Endpoint, VarInt};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use crate::support::{Running, options, query, records, update};

const PATIENCE: Duration = Duration::from_secs(20);
pub const HOST: &str = "dns.example.test";

/// A certificate of its own authority, in files.
pub struct Files(TempDir);

impl Files {
    pub fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.renew();
        files
    }

    pub fn certificate(&self) -> PathBuf {
        self.0.path().join("tls.crt")
    }

    pub fn key(&self) -> PathBuf {
        self.0.path().join("tls.key")
    }

    fn renew(&self) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec![HOST.into(), "127.0.0.1".into()]).unwrap();
        std::fs::write(self.certificate(), cert.pem()).unwrap();
        std::fs::write(self.key(), signing_key.serialize_pem()).unwrap();
    }

    fn options(&self) -> Options {
        let any = || vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        let encrypted = EncryptedOptions {
            dot_listen: any(),
            doh_listen: any(),
            doq_listen: any(),
            tls_cert: Some(self.certificate()),
            tls_key: Some(self.key()),
        };
        Options { encrypted, ..options() }
    }

    fn trust(&self, alpn: &str) -> rustls::ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.certificate()).unwrap()).unwrap();
        let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        config
    }

    pub fn quic(&self) -> Endpoint {
        let mut endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let tls = QuicClientConfig::try_from(self.trust("doq")).unwrap();
        endpoint.set_default_client_config(ClientConfig::new(Arc::new(tls)));
        endpoint
    }

    fn tls(&self, at: SocketAddr) -> StreamOwned<ClientConnection, TcpStream> {
        let stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let host = HOST.try_into().unwrap();
        StreamOwned::new(ClientConnection::new(Arc::new(self.trust("dot")), host).unwrap(), stream)
    }
}

async fn started(options: Options) -> (Running, EncryptedAddresses) {
    let server = Running::start(options).await;
    server.state.offer(update(7, records())).await;
    let encrypted = server.encrypted.clone();
    (server, encrypted)
}

fn kdig(at: SocketAddr, authority: &Path, arguments: &[&str]) -> String {
    let output = Command::new("kdig")
        .args([&format!("@{}", at.ip()), "-p", &at.port().to_string(), "+retry=0", "+time=20"])
        .args([&format!("+tls-ca={}", authority.display()), &format!("+tls-hostname={HOST}")])
        .args(arguments)
        .output()
        .expect("kdig: apt-get install knot-dnsutils");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn kdig_is_answered_over_tls_https_and_quic() {
    let files = Files::new();
    let (server, at) = started(files.options()).await;
    let authority = files.certificate();
    tokio::task::spawn_blocking(move || {
        for (address, how) in [
            (at.dot[0], &["+tls"][..]),
            (at.doh[0], &["+https=/dns-query"]),
            (at.doh[0], &["+https=/dns-query", "+https-get"]),
            (at.doq[0], &["+quic"]),
        ] {
            let ask = |more: &[&str]| kdig(address, &authority, &[how, more].concat());
            assert_eq!(ask(&["+short", "ns1.fed.example.test.", "A"]).trim(), "192.0.2.53", "{how:?}");
            // Too much for a datagram: here it fits.
            assert_eq!(ask(&["+short", "big.fed.example.test.", "AAAA"]).lines().count(), 60, "{how:?}");
            let missing = ask(&["nothing.fed.example.test.", "A"]);
            assert!(missing.contains("status: NXDOMAIN"), "{how:?}: {missing}");
            let whole = ask(&["+padding", "fed.example.test.", "SOA"]);
            // Both as RFC 8467 wants them: nobody on the way sees which of many answers this was.
            assert!(whole.contains("PADDING") && whole.contains("Received 468 B"), "{how:?}: {whole}");
            let bare = ask(&["+nopadding", "+edns", "fed.example.test.", "SOA"]);
            assert!(!bare.contains("PADDING") && bare.contains("EDNS"), "{how:?}: {bare}");
        }
    })
    .await
    .unwrap();
    let metrics = server.metrics.encode();
    for line in [
        r#"dns_queries_total{transport="tls",rcode="NOERROR"} 4"#,
        r#"dns_queries_total{transport="https",rcode="NXDOMAIN"} 2"#,
        r#"dns_queries_total{transport="quic",rcode="NOERROR"} 4"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    server.stop().await;
}

/// Status, headers and body.
fn curl(authority: &Path, arguments: &[&str]) -> (u16, String, Vec<u8>) {
    let output = Command::new("curl")
        .args(["-s", "-i", "--http2", "--max-time", "20", "--noproxy", "*", "--cacert"])
        .arg(authority)
        .args(arguments)
        .output()
        .expect("curl: apt-get install curl");
    let end = output.stdout.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or_else(|| {
        panic!("{}", String::from_utf8_lossy(&output.stderr));
    });
    let head = String::from_utf8_lossy(&output.stdout[..end]).to_lowercase();
    let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
    (status, head, output.stdout[end + 4..].to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn https_says_how_long_an_answer_may_be_kept_and_what_is_wrong_with_a_request() {
    let files = Files::new();
    let (server, at) = started(files.options()).await;
    tokio::task::spawn_blocking(move || {
        let url = format!("https://{}/dns-query", at.doh[0]);
        let get = |name: &str, kind| {
            let sent = URL_SAFE_NO_PAD.encode(query(name, kind).to_vec().unwrap());
            curl(&files.certificate(), &[&format!("{url}?dns={sent}")])
        };
        for (name, kind, cache) in [
            ("ns1.fed.example.test.", T::A, "cache-control: private, max-age=10"),
            ("fed.example.test.", T::SOA, "cache-control: private, max-age=30"),
            // The SOA's minimum.
            ("nothing.fed.example.test.", T::A, "cache-control: private, max-age=5"),
            ("geo.fed.example.test.", T::A, "cache-control: private, max-age=10"),
            ("elsewhere.test.", T::A, "cache-control: no-store"),
        ] {
            let (status, head, body) = get(name, kind);
            assert!(status == 200 && head.contains("http/2 200"), "{head}");
            assert!(head.contains("content-type: application/dns-message"), "{head}");
            assert!(head.contains(cache), "{name}: {cache} is not in {head}");
            assert_eq!(Message::from_vec(&body).unwrap().metadata.id, 0x1234);
        }
        let status = |arguments: &[&str]| curl(&files.certificate(), arguments).0;
        let body = files.0.path().join("query");
        let post = |kind: &str, octets: &[u8]| {
            std::fs::write(&body, octets).unwrap();
            let data = format!("@{}", body.display());
            status(&["-H", &format!("content-type: {kind}"), "--data-binary", &data, &url])
        };
        let good = query("ns1.fed.example.test.", T::A).to_vec().unwrap();
        assert_eq!(post("application/dns-message", &good), 200);
        assert_eq!(post("application/json", &good), 415);
        assert_eq!(post("application/dns-message", &[0; 4096]), 200, "FORMERR is an answer");
        assert_eq!(post("application/dns-message", &[0; 4097]), 413);
        assert_eq!(post("application/dns-message", &good[..11]), 400);
        assert_eq!(status(&[&url]), 400);
        for wrong in ["?dns=", "?dns=AAAA", "?dns=%00", "?dns=ab+/", "?dns=AA==", "?dns=AAAB&dns=AAAB"] {
            assert_eq!(status(&[&format!("{url}{wrong}")]), 400, "{wrong}");
        }
        assert_eq!(status(&[&format!("{url}?dns={}", "A".repeat(6000))]), 400);
        assert_eq!(status(&[&format!("https://{}/", at.doh[0])]), 404);
        assert_eq!(status(&["-X", "PUT", &url]), 405);
    })
    .await
    .unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown_without_a_restart_and_a_bad_one_is_not() {
    let files = Files::new();
    let (server, at) = started(files.options()).await;
    tokio::task::spawn_blocking(move || {
        let old = files.0.path().join("old.crt");
        std::fs::copy(files.certificate(), &old).unwrap();
        let asked = ["+tls", "+short", "ns1.fed.example.test.", "A"];
        let served = |authority: &Path| kdig(at.dot[0], authority, &asked).trim() == "192.0.2.53";
        assert!(served(&old));
        // A connection that is there stays.
        let mut there = files.tls(at.dot[0]);
        there.write_all(&framed(0)).unwrap();
        there.read_exact(&mut [0; 20]).unwrap();
        files.renew();
        let begun = Instant::now();
        while !served(&files.certificate()) {
            assert!(begun.elapsed() < PATIENCE, "the new certificate is not shown");
        }
        assert!(!served(&old));
        there.write_all(&framed(0)).unwrap();
        there.read_exact(&mut [0; 20]).unwrap();
        // A key of somebody else: the certificate before stays, for longer than files are looked at.
        let good = files.0.path().join("good.crt");
        std::fs::copy(files.certificate(), &good).unwrap();
        std::fs::copy(&old, files.certificate()).unwrap();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(3) {
            assert!(served(&good));
        }
    })
    .await
    .unwrap();
    server.stop().await;
}

fn framed(id: u16) -> Vec<u8> {
    let mut message = query("ns1.fed.example.test.", T::A);
    message.metadata.id = id;
    let octets = message.to_vec().unwrap();
    [&(octets.len() as u16).to_be_bytes(), &octets[..]].concat()
}

/// The end of a connection by the other side.
fn is_over(stream: &mut impl Read) -> bool {
    loop {
        match stream.read(&mut [0; 4096]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => {
                use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, UnexpectedEof};
                return matches!(error.kind(), ConnectionAborted | ConnectionReset | UnexpectedEof);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_dawdles_over_a_handshake_or_a_message_is_let_go() {
    let files = Files::new();
    let (server, at) = started(Options { idle_timeout: Duration::from_millis(300), ..files.options() }).await;
    tokio::task::spawn_blocking(move || {
        for address in [at.dot[0], at.doh[0]] {
            let mut silent = TcpStream::connect(address).unwrap();
            silent.set_read_timeout(Some(PATIENCE)).unwrap();
            assert!(is_over(&mut silent), "no handshake");
            let mut slow = TcpStream::connect(address).unwrap();
            slow.set_read_timeout(Some(PATIENCE)).unwrap();
            // The beginning of a ClientHello.
            slow.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
            assert!(is_over(&mut slow), "half a handshake");
            let mut wrong = TcpStream::connect(address).unwrap();
            wrong.set_read_timeout(Some(PATIENCE)).unwrap();
            wrong.write_all(&framed(0)).unwrap();
            assert!(is_over(&mut wrong), "plain DNS");
        }
        let mut silent = files.tls(at.dot[0]);
        silent.write_all(&framed(0)).unwrap();
        assert!(is_over(&mut silent));
        let mut half = files.tls(at.dot[0]);
        half.write_all(&framed(0)[..9]).unwrap();
        assert!(is_over(&mut half));
        let mut nonsense = files.tls(at.dot[0]);
        nonsense.write_all(&[0, 0]).unwrap();
        assert!(is_over(&mut nonsense));
        // HTTP/2: a preface and PINGs for ever, or half a request.
        for frames in [&[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8][..], &[0, 0, 9, 1, 0, 0, 0, 0, 1]]
        {
            let mut stream = TcpStream::connect(at.doh[0]).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let host = HOST.try_into().unwrap();
            let mut tls = ClientConnection::new(Arc::new(files.trust("h2")), host).unwrap();
            while tls.is_handshaking() {
                tls.complete_io(&mut stream).unwrap();
            }
            stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            let mut stream = StreamOwned::new(tls, stream);
            stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
            stream.write_all(frames).unwrap();
            let begun = Instant::now();
            while !is_over(&mut stream) {
                assert!(begun.elapsed() < PATIENCE, "it is still served");
                let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
                if stream.write_all(&ping).is_err() {
                    break;
                }
            }
        }
        let asked = ["+tls", "+short", "ns1.fed.example.test.", "A"];
        assert_eq!(kdig(at.dot[0], &files.certificate(), &asked).trim(), "192.0.2.53");
    })
    .await
    .unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quic_client_that_breaks_the_protocol_is_told_so_and_others_are_served() {
    let files = Files::new();
    let (server, at) =
        started(Options { idle_timeout: Duration::from_millis(1000), ..files.options() }).await;
    let client = files.quic();
    let connect = || async { client.connect(at.doq[0], HOST).unwrap().await.unwrap() };
    let keepalive = {
        let mut octets = framed(0);
        octets[13] = 1;
        octets.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 4, 0, 11, 0, 0]);
        let length = octets.len() as u16 - 2;
        octets[..2].copy_from_slice(&length.to_be_bytes());
        octets
    };
    for (what, octets) in [
        ("an identifier", framed(7)),
        ("edns-tcp-keepalive", keepalive),
        ("half a query", framed(0)[..9].to_vec()),
        ("half a length", vec![0]),
        ("nothing", Vec::new()),
        ("no query", vec![0, 2, 0, 0]),
        ("two queries", framed(0).repeat(2)),
    ] {
        let connection = connect().await;
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        send.write_all(&octets).await.unwrap();
        send.finish().unwrap();
        match connection.closed().await {
            ConnectionError::ApplicationClosed(close) => {
                assert_eq!(close.error_code, VarInt::from_u32(2), "{what}");
            }
            other => panic!("{what}: {other}"),
        }
    }
    // Many at once on one connection, each on a stream of its own; and no stream that nobody would answer on.
    let connection = connect().await;
    let asked = (0..200).map(|_| async {
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(&framed(0)).await.unwrap();
        send.finish().unwrap();
        receive.read_to_end(65537).await.unwrap()
    });
    for answer in futures::future::join_all(asked).await {
        assert_eq!(Message::from_vec(&answer[2..]).unwrap().answers.len(), 1);
    }
    let one_way = tokio::time::timeout(Duration::from_millis(100), connection.open_uni()).await;
    assert!(one_way.is_err(), "a stream without a way back");
    // A query that never ends is given up; and then silence ends the connection.
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&framed(0)[..9]).await.unwrap();
    assert!(tokio::time::timeout(PATIENCE, receive.read_to_end(65537)).await.unwrap().is_err());
    tokio::time::timeout(PATIENCE, connection.closed()).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_has_a_share_of_each_encrypted_transport() {
    let files = Files::new();
    let limited = Options { connections: 16, connections_per_client: 2, ..files.options() };
    let (server, at) = started(limited).await;
    let client = files.quic();
    let mut inside = Vec::new();
    for _ in 0..2 {
        inside.push(client.connect(at.doq[0], HOST).unwrap().await.unwrap());
    }
    assert!(client.connect(at.doq[0], HOST).unwrap().await.is_err(), "a third is refused");
    inside.pop().unwrap().close(VarInt::from_u32(0), b"");
    let begun = Instant::now();
    while client.connect(at.doq[0], HOST).unwrap().await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "the place of who has left stays taken");
    }
    tokio::task::spawn_blocking(move || {
        let mut inside: Vec<_> = (0..2).map(|_| files.tls(at.dot[0])).collect();
        for stream in &mut inside {
            stream.write_all(&framed(0)).unwrap();
            stream.read_exact(&mut [0; 20]).unwrap();
        }
        let mut third = files.tls(at.dot[0]);
        assert!(third.write_all(&framed(0)).is_err() || is_over(&mut third));
        // The transports do not take each other's places.
        let asked = ["+https=/dns-query", "+short", "ns1.fed.example.test.", "A"];
        assert_eq!(kdig(at.doh[0], &files.certificate(), &asked).trim(), "192.0.2.53");
    })
    .await
    .unwrap();
    server.stop().await;
}

#[tokio::test]
async fn encrypted_transports_need_a_certificate_that_fits() {
    let files = Files::new();
    let error = |options: Options| {
        let (health, metrics) = (Default::default(), federation_runtime::endpoints::Metrics::new());
        let error = dns_lb::Service::bind(options, health, metrics).err().unwrap();
        let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
        causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    };
    let mut none = files.options();
    none.encrypted.tls_key = None;
    assert!(error(none).contains("give --tls-cert and --tls-key"));
    let mut swapped = files.options();
    swapped.encrypted.tls_key = Some(files.certificate());
    assert!(error(swapped).contains("tls.crt is not PEM"));
    std::fs::write(files.certificate(), "").unwrap();
    assert!(error(files.options()).contains("holds no certificate"));
}
