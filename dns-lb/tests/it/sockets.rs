//! Real packets over loopback.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use dns_lb::testing::state::Applied;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use proto::v1;

use crate::support::{Running, fixed, framed, options, query, records, update};

/// Long enough for a busy machine; an answer takes 0.1 ms.
const PATIENCE: Duration = Duration::from_secs(10);

fn dig(server: SocketAddr, arguments: &[&str]) -> String {
    let output = Command::new("dig")
        .args([&format!("@{}", server.ip()), "-p", &server.port().to_string(), "+tries=1", "+time=10"])
        .args(arguments)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn dig_reads_the_answers() {
    let server = Running::start(options()).await;
    assert!(dig(server.address, &["fed.example.test.", "SOA"]).contains("status: REFUSED"));
    server.state.offer(update(7, records())).await;
    let at = server.address;
    assert_eq!(dig(at, &["+short", "ns1.fed.example.test."]).trim(), "192.0.2.53");
    let whole = dig(at, &["+nsid", "nothing.fed.example.test."]);
    for part in [
        "status: NXDOMAIN",
        "flags: qr aa rd;",
        "NSID",
        "(\"dns-lb\")",
        "udp: 1232",
        "fed.example.test.\t5\tIN\tSOA",
    ] {
        assert!(whole.contains(part), "{part} is not in {whole}");
    }
    assert!(!whole.contains("WARNING: Message parser reports malformed"), "{whole}");
    // Truncated over UDP: dig comes again by TCP.
    assert_eq!(dig(at, &["+short", "big.fed.example.test.", "AAAA"]).lines().count(), 60);
    assert_eq!(dig(at, &["+short", "CH", "TXT", "id.server."]).trim(), "\"dns-lb\"");
    assert_eq!(
        dig(at, &["+short", "_http._tcp.web.fed.example.test.", "SRV"]).trim(),
        "10 5 80 web.default.fed.example.test."
    );
    assert!(dig(at, &["+edns=7", "+noednsnegotiation", "fed.example.test."]).contains("BADVERS"));
    assert!(dig(at, &["+opcode=notify", "fed.example.test."]).contains("status: NOTIMP"));
    assert!(dig(at, &["fed.example.test.", "AXFR"]).contains("Transfer failed"));
    let metrics = server.metrics.encode();
    for line in ["dns_zone_epoch 7", r#"dns_queries_total{transport="udp",rcode="NXDOMAIN"} 1"#] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_answers_pipelined_queries_in_order_and_bears_bad_ones() {
    let server = Running::start(options()).await;
    server.state.offer(update(7, records())).await;
    let address = server.address;
    tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut sent = Vec::new();
        for id in 0..50 {
            let mut message = query("big.fed.example.test.", RecordType::AAAA);
            message.metadata.id = id;
            sent.extend(framed(&message));
        }
        stream.write_all(&sent).unwrap();
        for id in 0..50 {
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut reply = vec![0; u16::from_be_bytes(length) as usize];
            stream.read_exact(&mut reply).unwrap();
            let reply = Message::from_vec(&reply).unwrap();
            assert_eq!((reply.metadata.id, reply.answers.len()), (id, 60));
        }
        // A message of no length ends this connection, not the server.
        stream.write_all(&[0, 0]).unwrap();
        assert_eq!(stream.read(&mut [0; 2]).unwrap(), 0);
        // A promise of much, and nothing: others are answered meanwhile.
        let mut slow = TcpStream::connect(address).unwrap();
        slow.write_all(&[0xff, 0xff, 1]).unwrap();
        assert_eq!(dig(address, &["+tcp", "+short", "ns1.fed.example.test."]).trim(), "192.0.2.53");
    })
    .await
    .unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_under_load_fails_no_query_and_mixes_no_epochs() {
    const SWAPS: u64 = 200;
    let server = Running::start(options()).await;
    // Two records that must always be of one epoch.
    let at = |epoch: u64| {
        let address = format!("10.0.{}.{}", epoch / 256, epoch % 256);
        let text = format!("epoch-{epoch}");
        update(
            epoch,
            vec![
                fixed("web.fed.example.test.", "A", &[&address]),
                v1::RecordSet { ttl: 1000 + epoch as u32, ..fixed("txt.fed.example.test.", "TXT", &[&text]) },
            ],
        )
    };
    server.state.offer(at(1)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (address, stopped) = (server.address, stop.clone());
    // What clients may see: set before an epoch is offered, and after it is acknowledged.
    let newest = Arc::new(std::sync::atomic::AtomicU64::new(1));
    let oldest = Arc::new(std::sync::atomic::AtomicU64::new(1));
    let (newest_seen, oldest_seen) = (newest.clone(), oldest.clone());
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let (stop, newest, oldest) = (stopped.clone(), newest_seen.clone(), oldest_seen.clone());
            std::thread::spawn(move || {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                socket.connect(address).unwrap();
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                let sent = query("txt.fed.example.test.", RecordType::TXT).to_vec().unwrap();
                let mut buffer = [0; 1232];
                let mut answers = 0_u64;
                while !stop.load(SeqCst) {
                    let acknowledged = oldest.load(SeqCst);
                    socket.send(&sent).unwrap();
                    let length = socket.recv(&mut buffer).unwrap();
                    let reply = Message::from_vec(&buffer[..length]).unwrap();
                    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
                    let [record] = reply.answers.as_slice() else { panic!("{reply:?}") };
                    let epoch: u64 = record
                        .data
                        .to_string()
                        .trim_matches('"')
                        .strip_prefix("epoch-")
                        .unwrap()
                        .parse()
                        .unwrap();
                    assert_eq!(u64::from(record.ttl), 1000 + epoch, "two epochs in one answer");
                    assert!(epoch >= acknowledged, "epoch {epoch} after {acknowledged} was acknowledged");
                    assert!(epoch <= newest.load(SeqCst));
                    answers += 1;
                }
                answers
            })
        })
        .collect();
    for epoch in 2..=SWAPS {
        newest.store(epoch, SeqCst);
        assert_eq!(server.state.offer(at(epoch)).await, Applied::Served { epoch });
        oldest.store(epoch, SeqCst);
    }
    stop.store(true, SeqCst);
    let answers: u64 = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert!(answers > 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_socket_answers_from_the_address_that_was_asked() {
    let server =
        Running::start(dns_lb::Options { listen: vec![SocketAddr::from(([0, 0, 0, 0], 0))], ..options() })
            .await;
    server.state.offer(update(7, records())).await;
    let port = server.address.port();
    tokio::task::spawn_blocking(move || {
        let asked = SocketAddr::from(([127, 0, 0, 7], port));
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let sent = query("ns1.fed.example.test.", RecordType::A).to_vec().unwrap();
        socket.send_to(&sent, asked).unwrap();
        let (_, from) = socket.recv_from(&mut [0; 512]).unwrap();
        assert_eq!(from, asked);
    })
    .await
    .unwrap();
    server.stop().await;
}
