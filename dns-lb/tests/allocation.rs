//! The UDP path does not allocate: counted by an allocator of this test's own, from the received datagram to the sent answer.
// An allocator is unsafe to write; this one only counts and hands on.
#![allow(unsafe_code, clippy::unwrap_used, missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use dns_lb::answer::Scratch;
use dns_lb::compile::Snapshot;
use dns_lb::dnssec::Signatures;
use dns_lb::metrics::{ClusterSlots, Counters, Transport};
use dns_lb::publish::Published;
use dns_lb::udp::{Batch, Dice, Worker};
use dns_lb::wire::Rcode;
use dns_lb::zone::Zones;
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

/// A query for `name` and `kind`, with an OPT that asks for NSID if `edns`.
fn query(name: &[u8], kind: u16, edns: bool) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)];
    message.extend_from_slice(name);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    if edns {
        message.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 4, 0, 3, 0, 0]);
    }
    message
}

#[test]
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
            ],
            ..v1::Zone::default()
        }],
        ..v1::ZoneUpdate::default()
    };
    let zones = Arc::new(Zones::from_update(&update).unwrap());
    let published =
        Published::new(Snapshot::compile(zones, false, &ClusterSlots::default(), &mut Signatures::default()));
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    }
    client.connect(server.local_addr().unwrap()).unwrap();
    let receiving = server.try_clone().unwrap();
    let counters = Arc::new(Counters::new(Transport::Udp));
    let mut worker = Worker {
        socket: server,
        reader: published.reader(),
        instance: Arc::from(&b"test-1"[..]),
        counters: counters.clone(),
        dice: Dice::new(1),
    };
    let names: [&[u8]; 7] = [
        b"\x03wEb\x04test\x00",
        b"\x05alias\x04test\x00",
        b"\x01x\x04wild\x04test\x00",
        b"\x04none\x04test\x00",
        b"\x04test\x00",
        b"\x07outside\x00",
        b"\xc0\x0c",
    ];
    let mut queries = Vec::new();
    for name in names {
        for kind in [1, 2, 6, 28, 255] {
            queries.extend([query(name, kind, false), query(name, kind, true)]);
        }
    }
    let (mut batch, mut scratch, mut buffer) = (Batch::new(false), Scratch::default(), [0; 1232]);
    for query in &queries {
        client.send(query).unwrap();
        let before = ALLOCATIONS.with(Cell::get);
        assert_eq!(batch.receive(&receiving).unwrap(), 1);
        worker.answer_batch(&mut batch, &mut scratch);
        let after = ALLOCATIONS.with(Cell::get);
        assert_eq!(after - before, 0, "{query:02x?}");
        client.recv(&mut buffer).unwrap();
    }
    assert!(counters.answers(Rcode::NOERROR) > 20 && counters.answers(Rcode::FORMERR) == 10);
}
