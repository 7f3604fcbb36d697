//! Queries a second and CPU time a query of one UDP thread, beside an echo of the same batches that reads nothing: the limit.
//!
//! ```text
//! taskset -c 0 qps serve echo 5301 4 &   taskset -c 1 qps ask 127.0.0.1:5301 3
//! taskset -c 0 qps serve dns  5302 4 &   taskset -c 1 qps ask 127.0.0.1:5302 3
//! ```
//!
//! The client keeps a window of queries under way on one socket, and makes each answer the next query in its own buffer.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dns_lb::answer::{CookiePolicy, Scratch};
use dns_lb::compile::Snapshot;
use dns_lb::dnssec::Signatures;
use dns_lb::metrics::{ClusterSlots, Counters, Transport};
use dns_lb::publish::Published;
use dns_lb::udp::{Batch, Clock, Dice, Limit, Limiter, Worker, bind};
use dns_lb::zone::Zones;
use proto::v1;

/// Names asked for in turn.
const NAMES: usize = 100;
/// Queries under way.
const WINDOW: usize = 512;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", what, port, seconds] => {
            serve(*what == "dns", port.parse().unwrap(), seconds.parse().unwrap());
        }
        ["ask", server, seconds] => ask(server.parse().unwrap(), seconds.parse().unwrap()),
        _ => eprintln!("use: qps serve echo|dns PORT SECONDS, or qps ask ADDRESS:PORT SECONDS"),
    }
}

fn zones() -> Zones {
    let choice = |data: String, weight, cluster: &str| v1::Choice {
        data: vec![data],
        weight,
        cluster: cluster.into(),
    };
    let records = (0..NAMES).map(|n| v1::RecordSet {
        name: format!("web{n:02}.default.fed.example.test."),
        ttl: 10,
        r#type: "A".into(),
        selection: v1::Selection::Weighted.into(),
        tiers: vec![v1::Tier {
            choices: vec![
                choice(format!("192.0.2.{n}"), 3, "taiwan"),
                choice(format!("198.51.100.{n}"), 1, "tokyo"),
            ],
        }],
        ..v1::RecordSet::default()
    });
    let zone = v1::Zone {
        origin: "fed.example.test.".into(),
        nameservers: vec!["ns1.fed.example.test.".into()],
        records: records.collect(),
        ..v1::Zone::default()
    };
    let update = v1::ZoneUpdate {
        epoch: 1,
        incarnation: "bench".into(),
        zones: vec![zone],
        ..v1::ZoneUpdate::default()
    };
    Zones::from_update(&update).unwrap()
}

fn serve(dns: bool, port: u16, seconds: u64) {
    let published = Published::new(Snapshot::compile(
        Arc::new(zones()),
        false,
        &ClusterSlots::default(),
        &mut Signatures::default(),
    ));
    let socket = bind(SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
    let mut worker = Worker {
        socket: socket.try_clone().unwrap(),
        reader: published.reader(),
        instance: Arc::from(&b"bench"[..]),
        counters: Arc::new(Counters::new(Transport::Udp)),
        dice: Dice::new(1),
        cookies: CookiePolicy::Answer,
        limiter: Limiter::new(Limit { per_second: 4_000_000, slip: 2, loopback: true }, 1),
        clock: Clock::default(),
    };
    let (mut batch, mut scratch, mut answered) = (Batch::new(false), Scratch::default(), 0);
    let end = Instant::now() + Duration::from_secs(seconds);
    let before = cpu_nanoseconds();
    while Instant::now() < end {
        let Ok(count) = batch.receive(&socket) else { continue };
        answered += count as u64;
        if dns {
            worker.answer_batch(&mut batch, &mut scratch);
        } else {
            batch.answer_each(|buffer, length, _| {
                buffer[2] |= 0x80;
                Some(length)
            });
            batch.send(&socket);
        }
    }
    let per_query = (cpu_nanoseconds() - before) as f64 / answered.max(1) as f64;
    println!(
        "server {} answered {answered} cpu_us_per_query {:.3}",
        if dns { "dns" } else { "echo" },
        per_query / 1e3
    );
}

/// CPU time of this thread (the first figure of schedstat).
fn cpu_nanoseconds() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_ascii_whitespace().next().unwrap().parse().unwrap()
}

fn ask(server: SocketAddr, seconds: u64) {
    let queries: Vec<Vec<u8>> = (0..NAMES)
        .map(|n| {
            let mut query = vec![0, n as u8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            for label in [&format!("web{n:02}"), "default", "fed", "example", "test"] {
                query.push(label.len() as u8);
                query.extend_from_slice(label.as_bytes());
            }
            query.extend_from_slice(&[0, 0, 1, 0, 1]);
            query
        })
        .collect();
    let socket = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    for query in queries.iter().cycle().take(WINDOW) {
        socket.send_to(query, server).unwrap();
    }
    let (mut batch, mut answers, mut next) = (Batch::new(false), 0_u64, 0);
    let (start, limit) = (Instant::now(), Duration::from_secs(seconds));
    while start.elapsed() < limit {
        let Ok(count) = batch.receive(&socket) else { continue };
        answers += count as u64;
        batch.answer_each(|buffer, _, _| {
            let query = &queries[next % NAMES];
            next += 1;
            buffer[..query.len()].copy_from_slice(query);
            Some(query.len())
        });
        batch.send(&socket);
    }
    println!("client answers_per_second {:.0}", answers as f64 / start.elapsed().as_secs_f64());
}
