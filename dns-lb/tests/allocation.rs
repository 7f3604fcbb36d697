//! The UDP path does not allocate: counted by an allocator of this test's own, from the received datagram to the sent answer.
// An allocator is unsafe to write; this one only counts and hands on.
#![allow(unsafe_code, clippy::unwrap_used, missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use dns_lb::testing::answer::{CookiePolicy, Scratch};
use dns_lb::testing::client::ClientMap;
use dns_lb::testing::compile::Snapshot;
use dns_lb::testing::dnssec::Signatures;
use dns_lb::testing::metrics::{DnsMetrics, Transport};
use dns_lb::testing::publish::Published;
use dns_lb::testing::tap::{Output, TapOptions, Writer};
use dns_lb::testing::transfer::Keys;
use dns_lb::testing::udp::{Batch, Clock, Limit, Limiter, Rng, Worker};
use dns_lb::testing::wire::Rcode;
use dns_lb::testing::zone::Zones;
use proto::v1;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is handed on unchanged to the system's allocator, which keeps the trait's contract; the counter is a
// thread-local Cell with a constant initialiser, whose access does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Options of queries: NSID and the zone's version; clients in a region, in none, of IPv6, and one that tells too little; cookies without
/// and with a server's part.
const OPTIONS: [&[u8]; 7] = [
    &[0, 3, 0, 0, 0, 19, 0, 0],
    &[0, 8, 0, 7, 0, 1, 24, 0, 10, 1, 2],
    &[0, 8, 0, 7, 0, 1, 24, 0, 203, 0, 113],
    &[0, 8, 0, 8, 0, 2, 32, 0, 0x20, 1, 0xd, 0xb8],
    &[0, 8, 0, 5, 0, 1, 8, 0, 10],
    &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8],
    &[0, 10, 0, 24, 1, 2, 3, 4, 5, 6, 7, 8, 1, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8],
];

/// A query for `name` and `kind`, with an OPT of these options, that wants signatures.
fn query(name: &[u8], kind: u16, options: Option<&[u8]>) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(options.is_some())];
    message.extend_from_slice(name);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    if let Some(options) = options {
        message.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, options.len() as u8]);
        message.extend_from_slice(options);
    }
    message
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is one world, and all that is asked of it")]
fn no_query_in_the_usual_form_allocates() {
    let choice =
        |data: &str, weight| v1::Choice { data: vec![data.into()], weight, cluster: "taiwan".into() };
    let set = |name: &str, kind: &str, choices| v1::RecordSet {
        name: name.into(),
        ttl: 10,
        r#type: kind.into(),
        selection: v1::Selection::Weighted.into(),
        tiers: vec![v1::Tier { choices }],
        ..v1::RecordSet::default()
    };
    let update = v1::ZoneUpdate {
        epoch: 1,
        incarnation: "store".into(),
        zones: vec![v1::Zone {
            origin: "test.".into(),
            nameservers: vec!["ns.test.".into()],
            records: vec![
                set("web.test.", "A", vec![choice("192.0.2.1", 3), choice("192.0.2.2", 1)]),
                set("alias.test.", "CNAME", vec![choice("web.test.", 1)]),
                set("*.wild.test.", "A", vec![choice("192.0.2.3", 1)]),
                v1::RecordSet {
                    selection: v1::Selection::Sticky.into(),
                    ..set("sticky.test.", "A", vec![choice("192.0.2.4", 1), choice("192.0.2.5", 2)])
                },
                v1::RecordSet {
                    picks: 2,
                    variants: vec![v1::Variant {
                        regions: vec!["asia".into()],
                        tiers: vec![v1::Tier { choices: vec![choice("192.0.2.6", 1)] }],
                        ..v1::Variant::default()
                    }],
                    ..set(
                        "geo.test.",
                        "A",
                        vec![choice("192.0.2.7", 1), choice("192.0.2.8", 2), choice("192.0.2.9", 3)],
                    )
                },
            ],
            ..v1::Zone::default()
        }],
        regions: Some(v1::Regions {
            prefixes: vec![
                v1::ClientPrefix { prefix: "10.1.0.0/16".into(), region: "asia".into() },
                v1::ClientPrefix { prefix: "10.1.2.0/25".into(), region: "europe".into() },
                v1::ClientPrefix { prefix: "2001:db8::/32".into(), region: "asia".into() },
            ],
            ..v1::Regions::default()
        }),
        cookie_secrets: vec![vec![1; 16].into()],
        ..v1::ZoneUpdate::default()
    };
    let zones = Arc::new(Zones::from_update(&update).unwrap());
    let clients = Arc::new(ClientMap::new(zones.regions.prefixes.clone()));
    let metrics = DnsMetrics::default();
    let snapshot = Snapshot::compile(zones, false, &metrics.clusters, &mut Signatures::default());
    let published = Published::new(snapshot.with_clients(clients));
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    }
    client.connect(server.local_addr().unwrap()).unwrap();
    let receiving = server.try_clone().unwrap();
    let counters = metrics.thread(Transport::Udp);
    let mut worker = Worker {
        socket: server,
        reader: published.reader(),
        instance: Arc::from(&b"test-1"[..]),
        counters: counters.clone(),
        rng: Rng::new(1),
        cookies: CookiePolicy::Answer,
        limiter: Limiter::new(Limit { loopback: true, ..Limit::default() }, 1),
        clock: Clock::default(),
        keys: Keys::default(),
        tap: None,
    };
    let names: [&[u8]; 9] = [
        b"\x03wEb\x04test\x00",
        b"\x05alias\x04test\x00",
        b"\x01x\x04wild\x04test\x00",
        b"\x06sticky\x04test\x00",
        b"\x03geo\x04test\x00",
        b"\x04none\x04test\x00",
        b"\x04test\x00",
        b"\x07outside\x00",
        b"\xc0\x0c",
    ];
    let mut queries = Vec::new();
    for name in names {
        for kind in [1, 2, 6, 28, 255] {
            queries.push(query(name, kind, None));
            queries.extend(OPTIONS.map(|options| query(name, kind, Some(options))));
        }
    }
    let (mut batch, mut scratch, mut buffer) = (Batch::new(false), Scratch::default(), [0; 1232]);
    let mut exchange = |query: &[u8]| {
        client.send(query).unwrap();
        let before = ALLOCATIONS.with(Cell::get);
        assert_eq!(batch.receive(&receiving).unwrap(), 1);
        worker.answer_batch(&mut batch, &mut scratch);
        let after = ALLOCATIONS.with(Cell::get);
        assert_eq!(after - before, 0, "{query:02x?}");
    };
    for query in &queries {
        exchange(query);
        client.recv(&mut buffer).unwrap();
    }
    assert!(counters.answers(Rcode::NOERROR) > 80 && counters.answers(Rcode::FORMERR) == 40);
    // The same where everything is written down, by another thread.
    let options = TapOptions { query_log: Some("/dev/null".into()), ..TapOptions::default() };
    let writer = Writer::start(&options, "test-1", metrics.clusters).unwrap().unwrap();
    worker.tap = Some(writer.taps().tap(Transport::Udp, None, Rng::new(2)));
    let mut exchange = |query: &[u8]| {
        client.send(query).unwrap();
        let before = ALLOCATIONS.with(Cell::get);
        assert_eq!(batch.receive(&receiving).unwrap(), 1);
        worker.answer_batch(&mut batch, &mut scratch);
        let after = ALLOCATIONS.with(Cell::get);
        assert_eq!(after - before, 0, "{query:02x?}");
    };
    for query in &queries {
        exchange(query);
        client.recv(&mut buffer).unwrap();
    }
    // Beyond the limit, where every second answer is cut and the others are withheld.
    for _ in 0..2 * Limit::default().per_second {
        exchange(&queries[0]);
    }
    let (withheld, cut) = counters.limits();
    assert!(withheld > 0 && cut > 0, "{withheld} {cut}");
    let taps = writer.taps().clone();
    writer.end();
    let counts = taps.counts(Output::Log);
    let (written, dropped) = (counts.written.load(Relaxed), counts.dropped.load(Relaxed));
    assert_eq!(
        (written > 0, written + dropped),
        (true, queries.len() as u64 + 400),
        "every query is counted"
    );
}
