//! Floods: memory stays what it was, and those who mean it are answered.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use dns_lb::testing::udp::Rng;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;

use crate::support::{Running, options, query, records, update};

const SEED: u64 = 2026;

fn resident_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_ascii_whitespace().next().unwrap().parse().unwrap()
}

/// A name that nobody has asked for, or octets that are no query.
fn nuisance(rng: &mut Rng) -> Vec<u8> {
    let roll = rng.next_u64();
    if roll.is_multiple_of(2) {
        return query(&format!("{:016x}.fed.example.test.", rng.next_u64()), RecordType::A).to_vec().unwrap();
    }
    let mut octets = query("web.default.fed.example.test.", RecordType::A).to_vec().unwrap();
    match roll % 5 {
        0 => octets.truncate(usize::from(roll as u8) % octets.len()),
        // A name that points at itself.
        1 => octets.splice(12.., [0xc0, 12, 0, 1, 0, 1]).for_each(drop),
        2 => octets.extend(std::iter::repeat_n(roll as u8, 1200)),
        3 => octets = vec![roll as u8; usize::from((roll >> 8) as u8)],
        _ => octets[4..12].fill(0xff),
    }
    octets
}

/// `DNS_FLOOD` datagrams; a million by hand.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_costs_no_memory_and_nobody_their_answer() {
    let count = std::env::var("DNS_FLOOD").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000_u64);
    let server = Running::start(options()).await;
    server.state.offer(update(7, records())).await;
    let address = server.address;
    let over = Arc::new(AtomicBool::new(false));
    let honest = {
        let over = over.clone();
        tokio::task::spawn_blocking(move || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(address).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            let sent = query("ns1.fed.example.test.", RecordType::A).to_vec().unwrap();
            let (mut asked, mut answered, mut buffer) = (0_u64, 0_u64, [0; 512]);
            while !over.load(SeqCst) {
                socket.send(&sent).unwrap();
                asked += 1;
                if let Ok(length) = socket.recv(&mut buffer) {
                    let reply = Message::from_vec(&buffer[..length]).unwrap();
                    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
                    answered += 1;
                }
            }
            (asked, answered)
        })
    };
    let before = resident_kib();
    let (flooded, elapsed) = tokio::task::spawn_blocking(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(address).unwrap();
        let (mut rng, start) = (Rng::new(SEED), Instant::now());
        let flooded = (0..count).filter(|_| socket.send(&nuisance(&mut rng)).is_ok()).count() as u64;
        (flooded, start.elapsed())
    })
    .await
    .unwrap();
    over.store(true, SeqCst);
    let (asked, answered) = honest.await.unwrap();
    let grown = resident_kib() - before;
    println!("{flooded} in {elapsed:?}; {answered} of {asked} answered; {grown} KiB more");
    assert!(flooded > count / 2);
    assert!(answered * 10 >= asked * 9, "{answered} of {asked} were answered, seed {SEED}");
    // The sender's and other tests' own memory counts too.
    assert!(grown < 32 << 10, "{grown} KiB more, seed {SEED}");
    server.stop().await;
}
