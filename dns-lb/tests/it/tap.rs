//! What is written down of queries: lines of JSON, and dnstap before its real readers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dns_lb::Options;
use dns_lb::testing::tap::TapOptions;
use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use serde_json::Value;

use crate::support::{Running, options, query, records, update, with_edns};

const PATIENCE: Duration = Duration::from_secs(10);

fn ask(address: SocketAddr, message: &Message) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send(&message.to_vec().unwrap()).unwrap();
    socket.recv(&mut [0; 1500]).unwrap();
    socket.local_addr().unwrap().port()
}

fn ask_tcp(address: SocketAddr, message: &Message) {
    let sent = message.to_vec().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&[&(sent.len() as u16).to_be_bytes()[..], &sent].concat()).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    stream.read_exact(&mut vec![0; u16::from_be_bytes(length) as usize]).unwrap();
}

async fn serving(tap: TapOptions) -> Running {
    let server = Running::start(Options { tap, instance: "test-1".into(), ..options() }).await;
    server.state.offer(update(7, records())).await;
    server
}

fn tiers() -> Message {
    query("tiers.fed.example.test.", RecordType::A)
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_query_is_a_line_of_the_log_and_a_file_that_is_moved_away_is_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("queries.json");
    let server = serving(TapOptions { query_log: Some(file.clone()), ..TapOptions::default() }).await;
    let address = server.address;
    let moved = directory.path().join("queries.json.1");
    let paths = (file.clone(), moved.clone());
    tokio::task::spawn_blocking(move || {
        let (file, moved) = paths;
        let port = ask(address, &with_edns(tiers(), 1232));
        ask(address, &query("nothing.fed.example.test.", RecordType::AAAA));
        ask_tcp(address, &tiers());
        until("three lines", || lines(&file).len() == 3);
        let found = lines(&file);
        let udp = found.iter().find(|line| line["port"] == u64::from(port)).unwrap();
        for (key, value) in [
            ("transport", Value::from("udp")),
            ("client", "127.0.0.1".into()),
            ("name", "tiers.fed.example.test.".into()),
            ("type", "A".into()),
            ("rcode", "NOERROR".into()),
            ("cluster", "tokyo".into()),
            ("answers", vec![Value::from("A 192.0.2.31")].into()),
            ("fate", "sent".into()),
            ("dnssec_ok", false.into()),
        ] {
            assert_eq!(udp[key], value, "{key} of {udp}");
        }
        assert!(found.iter().any(|line| line["rcode"] == "NXDOMAIN" && line["type"] == "AAAA"), "{found:?}");
        assert!(found.iter().any(|line| line["transport"] == "tcp" && line["cluster"] == "tokyo"));
        std::fs::rename(&file, &moved).unwrap();
        until("a new file", || {
            ask(address, &tiers());
            file.exists()
        });
    })
    .await
    .unwrap();
    server.stop().await;
    assert!(!lines(&file).is_empty() && lines(&moved).len() >= 3, "nothing is lost at the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_is_a_sample_and_what_nobody_takes_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("queries.json");
    let tap = TapOptions {
        query_log: Some(file.clone()),
        query_log_sample: std::num::NonZeroU32::new(10),
        dnstap_socket: Some(directory.path().join("nobody.sock")),
        ..TapOptions::default()
    };
    let server = serving(tap).await;
    let (address, metrics) = (server.address, server.metrics.clone());
    tokio::task::spawn_blocking(move || {
        for _ in 0..300 {
            ask(address, &tiers());
        }
        let dropped = r#"dns_tap_total{output="dnstap",outcome="dropped"} 600"#;
        until("every message is counted", || metrics.encode().contains(dropped));
    })
    .await
    .unwrap();
    server.stop().await;
    let found = lines(&file).len();
    assert!((5..80).contains(&found), "{found} of 300, one in 10 wanted");
}

/// What `dnstap-read` says of the messages in `file`.
fn read(file: &Path) -> String {
    let output = Command::new("dnstap-read").arg(file).output();
    let output = output.expect("dnstap-read: apt-get install bind9-dnsutils");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// That there are the query and the answer of each, as a reader shows them.
fn check(text: &str) {
    for part in [
        "AQ 127.0.0.1:",
        "AR 127.0.0.1:",
        " UDP ",
        " TCP ",
        "tiers.fed.example.test/IN/A",
        "nothing.fed.example.test/IN/AAAA",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert_eq!(text.lines().count(), 6, "{text}");
}

fn some_queries(address: SocketAddr) {
    ask(address, &tiers());
    ask(address, &query("nothing.fed.example.test.", RecordType::AAAA));
    ask_tcp(address, &tiers());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_dnstap_is_read_by_its_reader() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("queries.tap");
    std::fs::write(&file, "of the last run").unwrap();
    let server = serving(TapOptions { dnstap_file: Some(file.clone()), ..TapOptions::default() }).await;
    let address = server.address;
    tokio::task::spawn_blocking(move || some_queries(address)).await.unwrap();
    server.stop().await;
    check(&read(&file));
    assert_eq!(std::fs::read_to_string(directory.path().join("queries.tap.old")).unwrap(), "of the last run");
}

struct Capture(Child);

impl Capture {
    fn start(socket: &Path, file: &Path) -> Self {
        let child = Command::new("fstrm_capture")
            .args(["-t", "protobuf:dnstap.Dnstap", "-u"])
            .arg(socket)
            .arg("-w")
            .arg(file)
            .stderr(Stdio::null())
            .spawn()
            .expect("fstrm_capture: apt-get install fstrm-bin");
        until("fstrm_capture listens", || socket.exists());
        Self(child)
    }

    /// It writes what it has when it is told to end.
    fn end(mut self) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        self.0.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_of_dnstap_is_found_when_its_reader_comes_and_again_when_it_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let socket = path.join("dnstap.sock");
    let server = serving(TapOptions { dnstap_socket: Some(socket.clone()), ..TapOptions::default() }).await;
    let (address, metrics) = (server.address, server.metrics.clone());
    let written = move || -> u64 {
        let text = metrics.encode();
        let label = r#"dns_tap_total{output="dnstap",outcome="written"} "#;
        let line = text.lines().find_map(|line| line.strip_prefix(label));
        line.map_or(0, |count| count.parse().unwrap())
    };
    let last = tokio::task::spawn_blocking(move || {
        // Nobody is there yet: these are lost.
        ask(address, &tiers());
        for round in ["first", "second"] {
            let capture = Capture::start(&socket, &path.join(round));
            let before = written();
            until("dnstap is connected", || {
                ask(address, &tiers());
                written() > before
            });
            if round == "second" {
                return capture;
            }
            capture.end();
            let _ = std::fs::remove_file(&socket);
        }
        unreachable!("the second round returns")
    })
    .await
    .unwrap();
    tokio::task::spawn_blocking(move || some_queries(address)).await.unwrap();
    server.stop().await;
    last.end();
    for round in ["first", "second"] {
        let text = read(&directory.path().join(round));
        assert!(text.contains("AQ 127.0.0.1:") && text.contains("tiers.fed.example.test/IN/A"), "{text}");
        assert_eq!(text.contains("nothing.fed.example.test"), round == "second", "{text}");
    }
}
