//! The figures of `cargo xtask bench abuse`: what a server that is abused does meanwhile for those who mean it, and what it costs it.
//!
//! ```text
//! abuse run COUNT   a server in a process of its own, and one kind of abuse after the other, of COUNT datagrams each
//! abuse serve LIMIT that server, which says its address; LIMIT: loopback or elsewhere, where answers are limited as they are for others
//! ```
//!
//! Beside each abuse an honest client, of another network, asks 1,000 times a second over UDP (150 times where answers are limited, to 200), and another
//! one now and then over TCP. For each kind a line of a table is printed, and then all of them as one line of JSON.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use dns_lb::testing::udp::{Limit, Rng, bind};
use dns_lb::{Options, Service};
use federation_runtime::endpoints::{Health, Metrics};
use federation_runtime::shutdown::Shutdown;
use p256::ecdsa::SigningKey;
use proto::v1;
use socket2::{Domain, Protocol, Socket, Type};

/// Honest queries a second,
const RATE: f64 = 1000.0;
/// and where answers are limited.
const MODEST: f64 = 150.0;
/// An honest answer that takes longer is none.
const LATE: Duration = Duration::from_secs(1);
/// Slow clients of TCP, by address: as many as may be inside.
const SLOW: (u8, usize) = (16, 64);
/// For how long they are slow.
const SLOWLY: Duration = Duration::from_secs(10);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["run", count] => run(count.parse().unwrap()),
        ["serve", limit] => serve(*limit == "elsewhere"),
        _ => eprintln!("use: abuse run COUNT, or abuse serve loopback|elsewhere"),
    }
}

fn zone(origin: &str, keys: Vec<v1::DnsKey>, compact: u32) -> v1::Zone {
    let record = |n: usize| v1::RecordSet {
        name: format!("web{n:02}.{origin}"),
        ttl: 10,
        r#type: "A".into(),
        tiers: vec![v1::Tier {
            choices: vec![v1::Choice {
                data: vec![format!("192.0.2.{n}")],
                weight: 1,
                ..v1::Choice::default()
            }],
        }],
        ..v1::RecordSet::default()
    };
    v1::Zone {
        origin: origin.into(),
        nameservers: vec![format!("ns1.{origin}")],
        records: (0..100).map(record).collect(),
        keys,
        compact_denial: compact,
        ..v1::Zone::default()
    }
}

#[tokio::main]
async fn serve(limited: bool) {
    let secret = SigningKey::from_slice(&[7; 32]).unwrap();
    let public = secret.verifying_key().to_sec1_point(false).as_bytes()[1..].to_vec();
    let key =
        v1::DnsKey { public_key: public.into(), private_key: vec![7; 32].into(), wanted_at_parent: true };
    let listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    let limit = Limit { loopback: limited, ..Limit::default() };
    let service =
        Service::bind(Options { listen, ..Options::default() }, Health::new(), Metrics::new()).unwrap();
    let service = service.limited(limit);
    let (address, state) = (service.addresses()[0], service.state());
    let running = tokio::spawn(service.run(Shutdown::new()));
    let update = v1::ZoneUpdate {
        epoch: 1,
        zones: vec![
            zone("open.test.", Vec::new(), 0),
            zone("signed.test.", vec![key.clone()], 0),
            zone("compact.test.", vec![key], 500),
        ],
        ..v1::ZoneUpdate::default()
    };
    state.offer(update).await;
    println!("{address}");
    running.await.unwrap().unwrap();
}

/// A server in a process of its own.
struct Served {
    process: Child,
    address: SocketAddr,
}

impl Served {
    fn start(limit: &str) -> Self {
        let this = std::env::current_exe().unwrap();
        let mut process = Command::new(this).args(["serve", limit]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        std::io::BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { process, address: line.trim().parse().unwrap() }
    }

    /// Resident memory, KiB.
    fn resident(&self) -> i64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_ascii_whitespace().next().unwrap().parse().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A query, with an OPT that wants signatures if `signed`.
fn query(id: u16, name: &str, kind: u16, signed: bool) -> Vec<u8> {
    let mut query = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(signed)];
    query[..2].copy_from_slice(&id.to_be_bytes());
    for label in name.split_terminator('.') {
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.push(0);
    query.extend_from_slice(&kind.to_be_bytes());
    query.extend_from_slice(&[0, 1]);
    if signed {
        query.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0]);
    }
    query
}

/// One datagram of this kind of abuse.
fn nuisance(kind: &str, rng: &mut Rng) -> Vec<u8> {
    let roll = rng.next_u64();
    let random = |zone: &str, signed| query(roll as u16, &format!("{:016x}.{zone}", !roll), 1, signed);
    let good = || query(roll as u16, "web01.open.test.", 1, true);
    match kind {
        "empty" => Vec::new(),
        "malformed" => {
            let mut octets = good();
            match roll % 4 {
                0 => octets.truncate((roll >> 8) as usize % octets.len()),
                1 => octets[4..12].fill(0xff),
                2 => octets = (0..(roll >> 8) % 300).map(|_| rng.next_u64() as u8).collect(),
                _ => {
                    for _ in 0..=(roll >> 8) % 4 {
                        let at = rng.next_u64() as usize % octets.len();
                        octets[at] = rng.next_u64() as u8;
                    }
                }
            }
            octets
        }
        "oversized" => {
            let mut octets = good();
            octets.resize(1233 + (roll >> 8) as usize % 7000, roll as u8);
            octets
        }
        "loops" => {
            let mut octets = good();
            octets.truncate(12);
            octets[10..12].copy_from_slice(&[0, 2]);
            match roll % 3 {
                // A question's name, or that of an additional record, that points at itself.
                0 => octets.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]),
                1 => octets.extend_from_slice(&[0, 0, 1, 0, 1, 0xc0, 17, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]),
                // Pointers to pointers, as many as fit.
                _ => {
                    octets.extend_from_slice(&[0, 0, 1, 0, 1]);
                    for at in (17..1200_u16).step_by(2) {
                        octets.extend_from_slice(&(0xc000 | (at + 2)).to_be_bytes());
                    }
                }
            }
            octets
        }
        "names" => random("open.test.", false),
        "names-signed" => random("signed.test.", true),
        "names-compact" => random("compact.test.", true),
        // The largest answers that there are.
        _ => query(roll as u16, "signed.test.", 48, true),
    }
}

/// What became of honest queries meanwhile.
struct Honest {
    asked: usize,
    answered: usize,
    p99_ms: f64,
    tcp_asked: usize,
    tcp_answered: usize,
    tcp_worst_ms: f64,
}

fn honest(address: SocketAddr, rate: f64, over: &AtomicBool) -> Honest {
    let socket = UdpSocket::bind("127.9.0.1:0").unwrap();
    socket.connect(address).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut sent_at = vec![Instant::now(); 1 << 16];
    let (mut asked, mut latencies, mut buffer) = (0_usize, Vec::new(), [0; 1500]);
    let start = Instant::now();
    let mut end = None;
    std::thread::scope(|scope| {
        let by_tcp = scope.spawn(|| {
            let (mut asked, mut answered, mut worst) = (0, 0, Duration::ZERO);
            while !over.load(SeqCst) {
                asked += 1;
                let begun = Instant::now();
                answered += usize::from(tcp(address).is_ok());
                worst = worst.max(begun.elapsed());
                std::thread::sleep(Duration::from_millis(100));
            }
            (asked, answered, worst)
        });
        while end.is_none_or(|end: Instant| end.elapsed() < LATE) {
            if over.load(SeqCst) {
                end.get_or_insert_with(Instant::now);
            }
            while end.is_none() && asked < (start.elapsed().as_secs_f64() * rate) as usize {
                sent_at[asked & 0xffff] = Instant::now();
                let _ = socket.send(&query(asked as u16, "web02.open.test.", 1, false));
                asked += 1;
            }
            while let Ok(length) = socket.recv(&mut buffer) {
                let took = sent_at[usize::from(u16::from_be_bytes([buffer[0], buffer[1]]))].elapsed();
                // An answer with an address.
                if length > 12 && buffer[3].trailing_zeros() >= 4 && buffer[7] == 1 && took < LATE {
                    latencies.push(took.as_secs_f64() * 1e3);
                }
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        let (tcp_asked, tcp_answered, worst) = by_tcp.join().unwrap();
        latencies.sort_by(f64::total_cmp);
        let p99_ms = latencies.get(latencies.len() * 99 / 100).copied().unwrap_or(f64::NAN);
        let tcp_worst_ms = worst.as_secs_f64() * 1e3;
        Honest { asked, answered: latencies.len(), p99_ms, tcp_asked, tcp_answered, tcp_worst_ms }
    })
}

/// One query by TCP, from an address that nobody else has.
fn tcp(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = from([127, 0, 0, 200].into(), address)?;
    let octets = query(1, "web02.open.test.", 1, false);
    stream.write_all(&[&(octets.len() as u16).to_be_bytes(), &octets[..]].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    stream.read_exact(&mut vec![0; u16::from_be_bytes(length).into()])
}

fn from(own: Ipv4Addr, address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::from((own, 0)).into())?;
    socket.connect_timeout(&address.into(), Duration::from_secs(10))?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

/// Sends `count` of this kind; how many octets went, and how many came back.
fn flood(kind: &str, address: SocketAddr, count: u64) -> (u64, u64, u64) {
    let socket = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    socket.connect(address).unwrap();
    socket.set_nonblocking(true).unwrap();
    let (mut rng, mut buffer) = (Rng::new(2026), [0; 4096]);
    let (mut sent, mut out, mut back) = (0, 0, 0);
    let mut take = |back: &mut u64| {
        while let Ok(length) = socket.recv(&mut buffer) {
            *back += length as u64;
        }
    };
    for n in 0..count {
        let octets = nuisance(kind, &mut rng);
        if socket.send(&octets).is_ok() {
            sent += 1;
            out += octets.len() as u64;
        }
        if n.is_multiple_of(16) {
            take(&mut back);
        }
    }
    std::thread::sleep(Duration::from_millis(200));
    take(&mut back);
    (sent, out, back)
}

/// Clients of TCP that send an octet now and then, and come again when they are let go.
fn slow(address: SocketAddr) -> u64 {
    let end = Instant::now() + SLOWLY;
    let (addresses, each) = SLOW;
    let mut inside: Vec<(Ipv4Addr, Option<TcpStream>)> = (0..addresses)
        .flat_map(|n| std::iter::repeat_n(Ipv4Addr::new(127, 0, 1, n), each))
        .map(|own| (own, None))
        .collect();
    let mut connections = 0;
    while Instant::now() < end {
        for (own, stream) in &mut inside {
            if stream.as_mut().is_none_or(|stream| stream.write_all(&[0]).is_err()) {
                *stream = from(*own, address).ok();
                connections += u64::from(stream.is_some());
            }
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    connections
}

fn run(count: u64) {
    println!(
        "{:<14} {:>9} {:>8} {:>9} {:>9} {:>8} {:>8} {:>8} {:>9}",
        "abuse", "sent", "per s", "answered", "of", "p99 ms", "tcp", "worst ms", "KiB more"
    );
    let kinds = [
        "none",
        "empty",
        "malformed",
        "oversized",
        "loops",
        "names",
        "names-signed",
        "names-compact",
        "reflection",
        "slow-tcp",
    ];
    let mut lines = Vec::new();
    for kind in kinds {
        let (limit, rate) = if kind == "reflection" { ("elsewhere", MODEST) } else { ("loopback", RATE) };
        let mut server = Served::start(limit);
        let (address, over) = (server.address, AtomicBool::new(false));
        // What it needs for its first answers.
        flood("names-signed", address, 2000);
        let before = server.resident();
        let (seen, (sent, out, back), seconds) = std::thread::scope(|scope| {
            let seen = scope.spawn(|| honest(address, rate, &over));
            let begun = Instant::now();
            let flooded = match kind {
                "none" => {
                    std::thread::sleep(Duration::from_secs(3));
                    (0, 0, 0)
                }
                "slow-tcp" => (slow(address), 0, 0),
                kind => flood(kind, address, count),
            };
            let seconds = begun.elapsed().as_secs_f64();
            over.store(true, SeqCst);
            (seen.join().unwrap(), flooded, seconds)
        });
        let grown = server.resident() - before;
        assert!(server.process.try_wait().unwrap().is_none(), "{kind}: the server ended");
        let Honest { asked, answered, p99_ms, tcp_asked, tcp_answered, tcp_worst_ms } = seen;
        let by_tcp = format!("{tcp_answered}/{tcp_asked}");
        println!(
            "{kind:<14} {sent:>9} {:>8.0} {answered:>9} {asked:>9} {p99_ms:>8.2} {by_tcp:>8} {tcp_worst_ms:>8.1} {grown:>9}",
            sent as f64 / seconds,
        );
        let amplified = back as f64 / out.max(1) as f64;
        lines.push(format!(
            r#""{kind}":{{"sent":{sent},"per_second":{:.0},"asked":{asked},"answered":{answered},"p99_ms":{p99_ms:.2},"tcp_asked":{tcp_asked},"tcp_answered":{tcp_answered},"tcp_worst_ms":{tcp_worst_ms:.1},"resident_kib_more":{grown},"octets_back_for_each":{amplified:.3}}}"#,
            sent as f64 / seconds,
        ));
    }
    println!("{{{}}}", lines.join(","));
}
