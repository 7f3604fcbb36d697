//! What an operator's Prometheus is told of answers.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use dns_lb::Options;
use hickory_proto::rr::RecordType;

use crate::support::{Running, options, query, records, update};

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_counted_by_balanced_name_transport_and_cluster() {
    let server = Running::start(Options { metrics_names: 3, ..options() }).await;
    server.state.offer(update(7, records())).await;
    let address = server.address;
    tokio::task::spawn_blocking(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let ask = |name: &str| {
            let sent = query(&format!("{name}.fed.example.test."), RecordType::A).to_vec().unwrap();
            socket.send(&sent).unwrap();
            socket.recv(&mut [0; 1500]).unwrap();
            sent
        };
        // Each of these has answers of one cluster alone, but for the last, which is no cluster's.
        for name in ["tiers", "tiers", "alias", "ns1"] {
            ask(name);
        }
        let sent = ask("tiers");
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&[&(sent.len() as u16).to_be_bytes()[..], &sent].concat()).unwrap();
        stream.read_exact(&mut [0; 2]).unwrap();
    })
    .await
    .unwrap();
    let text = server.metrics.encode();
    let named: Vec<&str> = text.lines().filter(|line| line.starts_with("dns_name_answers_total{")).collect();
    // Names are known in the order of the zone: all, balanced, geo, …
    let count = |labels: &str| -> u64 {
        let found = named.iter().filter(|line| line.contains(labels));
        found.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    };
    assert_eq!(count(r#"transport="udp""#), 4, "{named:#?}");
    assert_eq!(count(r#"transport="tcp",cluster="tokyo""#), 1, "{named:#?}");
    // The bound: three names have counters, and these are not among them.
    assert_eq!(count(r#"name="(other)",transport="udp",cluster="tokyo"} "#) + count("web"), 4, "{named:#?}");
    assert!(!text.contains("ns1"), "what is not balanced is not counted by name");
    server.stop().await;

    let server = Running::start(options()).await;
    server.state.offer(update(7, records())).await;
    let address = server.address;
    tokio::task::spawn_blocking(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let sent = query("tiers.fed.example.test.", RecordType::A).to_vec().unwrap();
        for _ in 0..3 {
            socket.send(&sent).unwrap();
            socket.recv(&mut [0; 1500]).unwrap();
        }
    })
    .await
    .unwrap();
    let line = r#"dns_name_answers_total{name="tiers.fed.example.test.",transport="udp",cluster="tokyo"} 3"#;
    let text = server.metrics.encode();
    assert!(text.contains(line), "{line} is not in {text}");
    server.stop().await;
}
