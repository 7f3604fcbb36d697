//! The engine of `cargo xtask bench dns`: servers to measure, and the client that measures.
//!
//! ```text
//! qps serve echo PORT          answers each datagram with itself: what the sockets cost
//! qps serve dns PORT           one UDP thread of dns-lb
//! qps ask ADDRESS KIND SECONDS answers a second with a full window, KIND being plain, edns, geo or dnssec
//! qps pace ADDRESS KIND SECONDS RATE   latencies at so many queries a second
//! qps disk DIR open|signed     a zone of 10,000 names with 8 views, for `dns-lb --data-dir DIR`, whose memory it is
//! qps user                     nanoseconds of this program's own code for an answer, without the kernel's, of each KIND
//! qps update                   how long a change of one name in such a zone takes to be answered
//! ```
//!
//! `ask` and `pace` print one line of JSON.
#![allow(clippy::unwrap_used)]

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dns_lb::testing::answer::{Context, CookiePolicy, Scratch, Secrets, answer};
use dns_lb::testing::client::ClientMap;
use dns_lb::testing::compile::Snapshot;
use dns_lb::testing::dnssec::Signatures;
use dns_lb::testing::hub::Disk;
use dns_lb::testing::metrics::{ClusterSlots, Counters, Transport};
use dns_lb::testing::publish::Published;
use dns_lb::testing::state::Applied;
use dns_lb::testing::transfer::Keys;
use dns_lb::testing::udp::{Batch, Clock, Limit, Limiter, Rng, Worker, bind};
use dns_lb::testing::zone::Zones;
use dns_lb::{Options, Service};
use federation_runtime::endpoints::{Health, Metrics};
use federation_runtime::shutdown::Shutdown;
use p256::ecdsa::SigningKey;
use proto::v1;

/// Names asked for in turn.
const NAMES: usize = 100;
/// Queries under way.
const WINDOW: usize = 512;
/// Datagrams in one call of the echo and of the client.
const ECHO_BATCH: usize = 64;
/// Views of a name.
const VIEWS: usize = 8;
/// Names of the zone whose memory is measured.
const MANY: usize = 10_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", "echo", port] => echo(port.parse().unwrap()),
        ["serve", "dns", port] => serve(port.parse().unwrap()),
        ["ask", server, kind, seconds] => ask(server.parse().unwrap(), kind, seconds.parse().unwrap()),
        ["pace", server, kind, seconds, rate] => {
            pace(server.parse().unwrap(), kind, seconds.parse().unwrap(), rate.parse().unwrap());
        }
        ["disk", directory, signed] => {
            Disk::new(std::path::Path::new(directory)).store(&many(1, *signed == "signed")).unwrap();
        }
        ["user"] => user(),
        ["update"] => update(),
        _ => eprintln!("use: qps serve echo|dns PORT, ask ADDRESS KIND SECONDS, pace …, disk …, or update"),
    }
}

fn choice(data: String, weight: u32, cluster: &str) -> v1::Choice {
    v1::Choice { data: vec![data], weight, cluster: cluster.into() }
}

fn tier(choices: Vec<v1::Choice>) -> Vec<v1::Tier> {
    vec![v1::Tier { choices }]
}

/// One address of two, by weight.
fn plain(origin: &str, n: usize) -> v1::RecordSet {
    v1::RecordSet {
        name: format!("web{n:02}.default.{origin}"),
        ttl: 10,
        r#type: "A".into(),
        selection: v1::Selection::Weighted.into(),
        tiers: tier(vec![
            choice(format!("192.0.2.{}", n % 250), 3, "taiwan"),
            choice(format!("198.51.100.{}", n % 250), 1, "tokyo"),
        ]),
        ..v1::RecordSet::default()
    }
}

/// The same, with addresses of their own in each of [`VIEWS`] regions.
fn geo(origin: &str, n: usize, changed: u8) -> v1::RecordSet {
    let variants = (0..VIEWS).map(|view| v1::Variant {
        regions: vec![format!("region-{view}")],
        selection: v1::Selection::Weighted.into(),
        tiers: tier(vec![
            choice(format!("10.{view}.{}.{}", n / 250, n % 250), 3, &format!("cluster-{view}")),
            choice(format!("11.{view}.{}.{changed}", n % 250), 1, &format!("cluster-{}", (view + 1) % VIEWS)),
        ]),
        picks: 0,
    });
    v1::RecordSet {
        name: format!("geo{n:02}.default.{origin}"),
        variants: variants.collect(),
        ..plain(origin, n)
    }
}

/// 2,000 prefixes of IPv4 in turn to the regions, and as many of IPv6.
fn regions() -> v1::Regions {
    let region = |n: usize| format!("region-{}", n % VIEWS);
    let v4 = (0..2000).map(|n| (format!("{}.{}.0.0/18", 20 + n / 200, n % 200), region(n)));
    let v6 = (0..2000).map(|n| (format!("2001:{n:x}::/32"), region(n)));
    let prefixes = v4.chain(v6).map(|(prefix, region)| v1::ClientPrefix { prefix, region });
    v1::Regions { prefixes: prefixes.collect(), ..v1::Regions::default() }
}

fn zone(origin: &str, records: Vec<v1::RecordSet>, keys: Vec<v1::DnsKey>) -> v1::Zone {
    v1::Zone {
        origin: origin.into(),
        nameservers: vec!["ns.example.net.".into()],
        records,
        keys,
        ..v1::Zone::default()
    }
}

fn key() -> v1::DnsKey {
    let secret = SigningKey::from_slice(&[7; 32]).unwrap();
    let public = secret.verifying_key().to_sec1_point(false).as_bytes()[1..].to_vec();
    v1::DnsKey { public_key: public.into(), private_key: vec![7; 32].into(), wanted_at_parent: true }
}

fn bench_zones() -> Zones {
    let open = "fed.example.test.";
    let records = (0..NAMES).flat_map(|n| [plain(open, n), geo(open, n, 1)]).collect();
    let signed = "signed.example.test.";
    let zones = vec![
        zone(open, records, Vec::new()),
        zone(signed, (0..NAMES).map(|n| plain(signed, n)).collect(), vec![key()]),
    ];
    let update = v1::ZoneUpdate {
        epoch: 1,
        incarnation: "bench".into(),
        zones,
        regions: Some(regions()),
        cookie_secrets: vec![vec![7; 16].into()],
        ..v1::ZoneUpdate::default()
    };
    Zones::from_update(&update).unwrap()
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn echo(port: u16) {
    let socket = bind(local(port)).unwrap();
    let mut batch = Batch::sized(false, ECHO_BATCH);
    loop {
        if batch.receive(&socket).is_ok() {
            batch.answer_each(|buffer, length, _| {
                buffer[2] |= 0x80;
                Some(length)
            });
            batch.send(&socket);
        }
    }
}

fn snapshot() -> Snapshot {
    let zones = Arc::new(bench_zones());
    let clients = Arc::new(ClientMap::new(zones.regions.prefixes.clone()));
    let now = Clock::seconds();
    let mut signatures = Signatures::default();
    signatures.begin(now);
    let snapshot = Snapshot::compile(zones, false, &ClusterSlots::default(), &mut signatures);
    Snapshot { secrets: Secrets(vec![[7; 16]]), ..snapshot.with_clients(clients) }
}

fn serve(port: u16) {
    let mut worker = Worker {
        socket: bind(local(port)).unwrap(),
        reader: Published::new(snapshot()).reader(),
        instance: Arc::from(&b"bench"[..]),
        counters: Arc::new(Counters::new(Transport::Udp)),
        rng: Rng::new(1),
        cookies: CookiePolicy::Answer,
        // Looked at for each answer, as for clients from elsewhere, but never reached.
        limiter: Limiter::new(Limit { per_second: 4_000_000, slip: 2, loopback: true }, 1),
        clock: Clock::default(),
        keys: Keys::default(),
        tap: None,
    };
    worker.run(&Shutdown::new()).unwrap();
}

/// The least of many rounds, in which everything is in the nearest cache: what a change of the code does is seen there, and not what it costs.
fn user() {
    let snapshot = snapshot();
    let counters = Counters::new(Transport::Udp);
    let (mut scratch, mut rng, mut buffer) = (Scratch::default(), Rng::new(1), [0; 1232]);
    for kind in ["plain", "edns", "geo", "dnssec"] {
        let queries = queries(kind);
        let mut round = || {
            let start = Instant::now();
            for query in &queries {
                buffer[..query.len()].copy_from_slice(query);
                let context = Context {
                    snapshot: &snapshot,
                    instance: b"bench",
                    transport: Transport::Udp,
                    source: local(0).ip(),
                    now: 1,
                    cookies: CookiePolicy::Answer,
                    random: rng.next_u64(),
                    keys: None,
                };
                let reply = answer(&mut buffer, query.len(), &mut scratch, &context, &counters);
                assert!(reply.is_some_and(|reply| is_answer(&buffer[..reply.length])));
            }
            start.elapsed().as_secs_f64() * 1e9 / NAMES as f64
        };
        let least = (0..2000).map(|_| round()).fold(f64::INFINITY, f64::min);
        println!(r#"{{"kind":"{kind}","user_ns":{least:.1}}}"#);
    }
}

/// The queries of a kind, to be sent in turn.
fn queries(kind: &str) -> Vec<Vec<u8>> {
    let (first, third) = match kind {
        "geo" => ("geo", "fed"),
        "dnssec" => ("web", "signed"),
        _ => ("web", "fed"),
    };
    let query = |n: usize| {
        let opt = kind != "plain";
        let mut query = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(opt)];
        for label in [&format!("{first}{n:02}"), "default", third, "example", "test"] {
            query.push(label.len() as u8);
            query.extend_from_slice(label.as_bytes());
        }
        query.extend_from_slice(&[0, 0, 1, 0, 1]);
        match kind {
            "plain" => {}
            "edns" => query.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]),
            "dnssec" => query.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0]),
            _ => {
                let (high, low) = (20 + n as u8 / 10, n as u8);
                query.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 11]);
                query.extend_from_slice(&[0, 8, 0, 7, 0, 1, 24, 0, high, low, 1]);
            }
        }
        query
    };
    (0..NAMES).map(query).collect()
}

/// What came back is an answer to the question; the echo is one too.
fn is_answer(reply: &[u8]) -> bool {
    reply.len() > 12 && reply[2] & 0x80 != 0 && reply[3].trailing_zeros() >= 4
}

fn ask(server: SocketAddr, kind: &str, seconds: f64) {
    let queries = queries(kind);
    let socket = bind(local(0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let fill = |next: &mut usize, count: usize| {
        for _ in 0..count {
            let _ = socket.send_to(&queries[*next % NAMES], server);
            *next += 1;
        }
    };
    let (mut batch, mut answers, mut wrong, mut next, mut bytes) =
        (Batch::sized(false, ECHO_BATCH), 0_u64, 0_u64, 0, 0_u64);
    fill(&mut next, WINDOW);
    let (start, limit) = (Instant::now(), Duration::from_secs_f64(seconds));
    while start.elapsed() < limit {
        match batch.receive(&socket) {
            Ok(count) => answers += count as u64,
            // What was lost is sent anew.
            Err(_) => fill(&mut next, WINDOW),
        }
        batch.answer_each(|buffer, length, _| {
            wrong += u64::from(!is_answer(&buffer[..length]));
            bytes += length as u64;
            let query = &queries[next % NAMES];
            next += 1;
            buffer[..query.len()].copy_from_slice(query);
            Some(query.len())
        });
        batch.send(&socket);
    }
    println!(
        r#"{{"answers":{answers},"wrong":{wrong},"per_second":{:.0},"octets":{:.0}}}"#,
        answers as f64 / start.elapsed().as_secs_f64(),
        bytes as f64 / answers.max(1) as f64
    );
}

fn pace(server: SocketAddr, kind: &str, seconds: f64, rate: f64) {
    let queries = queries(kind);
    let socket = UdpSocket::bind(local(0)).unwrap();
    socket.connect(server).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut sent_at = vec![Instant::now(); 1 << 16];
    let (mut latencies, mut sent, mut buffer) =
        (Vec::with_capacity((seconds * rate) as usize), 0_usize, [0; 4096]);
    let (start, end) = (Instant::now(), Duration::from_secs_f64(seconds));
    loop {
        let elapsed = start.elapsed();
        if elapsed > end + Duration::from_millis(200) {
            break;
        }
        let due = (elapsed.min(end).as_secs_f64() * rate) as usize;
        while sent < due {
            let mut query = queries[sent % NAMES].clone();
            query[..2].copy_from_slice(&(sent as u16).to_be_bytes());
            sent_at[sent & 0xffff] = Instant::now();
            let _ = socket.send(&query);
            sent += 1;
        }
        while let Ok(length) = socket.recv(&mut buffer) {
            if length > 2 {
                let id = u16::from_be_bytes([buffer[0], buffer[1]]);
                latencies.push(sent_at[usize::from(id)].elapsed().as_secs_f64() * 1e6);
            }
        }
    }
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| latencies.get((latencies.len() as f64 * share) as usize).copied().unwrap_or(0.0);
    println!(
        r#"{{"sent":{sent},"answered":{},"p50_us":{:.0},"p99_us":{:.0}}}"#,
        latencies.len(),
        at(0.5),
        at(0.99)
    );
}

/// The zone whose memory is measured.
fn many(epoch: u64, signed: bool) -> v1::ZoneUpdate {
    let (origin, keys) = ("fed.example.test.", if signed { vec![key()] } else { Vec::new() });
    v1::ZoneUpdate {
        epoch,
        incarnation: "bench".into(),
        zones: vec![zone(origin, (0..MANY).map(|n| geo(origin, n, 0)).collect(), keys)],
        regions: Some(regions()),
        ..v1::ZoneUpdate::default()
    }
}

/// A whole server with a large zone; what is changed is an address in each view of one name.
#[tokio::main]
async fn update() {
    const CHANGES: u64 = 20;
    for signing in [false, true] {
        let options =
            Options { listen: vec![local(0)], threads: std::num::NonZeroUsize::new(1), ..Options::default() };
        let service = Service::bind(options, Health::new(), Metrics::new()).unwrap();
        let (address, state, shutdown) = (service.addresses()[0], service.state(), Shutdown::new());
        let running = tokio::spawn(service.run(shutdown.clone()));
        let mut head = many(1, signing);
        assert_eq!(state.offer(head.clone()).await, Applied::Served { epoch: 1 });
        head.zones[0].records.clear();
        head.regions = None;
        let socket = UdpSocket::bind(local(0)).unwrap();
        socket.connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        // The version is what tells epochs apart.
        let mut query = queries("plain")[0].clone();
        query[12..16].copy_from_slice(b"\x05geo");
        query[11] = 1;
        query.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 4, 0, 19, 0, 0]);
        let mut times = Vec::new();
        for epoch in 2..=CHANGES {
            let mut offered = v1::ZoneUpdate { epoch, base: epoch - 1, ..head.clone() };
            offered.zones[0].serial = epoch as u32;
            offered.zones[0].records = vec![geo("fed.example.test.", 0, epoch as u8)];
            let (socket, query) = (socket.try_clone().unwrap(), query.clone());
            let start = Instant::now();
            let asking = tokio::task::spawn_blocking(move || {
                let mut buffer = [0; 1500];
                loop {
                    socket.send(&query).unwrap();
                    let length = socket.recv(&mut buffer).unwrap();
                    let option = [&[5, 246][..], &epoch.to_be_bytes()].concat();
                    if buffer[..length].windows(10).any(|window| window[1..] == option[1..]) {
                        return start.elapsed();
                    }
                }
            });
            assert_eq!(state.offer(offered).await, Applied::Served { epoch });
            times.push(asking.await.unwrap().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        println!(r#"{{"signed":{signing},"update_ms":{:.1}}}"#, times[times.len() / 2]);
        shutdown.start();
        running.await.unwrap().unwrap();
    }
}
