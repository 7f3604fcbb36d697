//! What zones take in memory: counted by an allocator of this test's own.
// An allocator is unsafe to write; this one only counts and hands on.
#![allow(unsafe_code, clippy::unwrap_used, missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use dns_lb::testing::compile::Snapshot;
use dns_lb::testing::dnssec::Signatures;
use dns_lb::testing::metrics::ClusterSlots;
use dns_lb::testing::zone::Zones;
use p256::ecdsa::SigningKey;
use proto::v1;

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
/// Held by a test that counts: where tests share a process they do so one after the other.
static ALONE: Mutex<()> = Mutex::new(());
/// What an allocator needs for itself, and rounds up to, on average: glibc has a word and multiples of 16.
const OVERHEAD: usize = 16;

// SAFETY: every call is handed on unchanged to the system's allocator, which keeps the trait's contract; the counter is an atomic.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size() + OVERHEAD, Relaxed);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size() + OVERHEAD, Relaxed);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const NAMES: usize = 10_000;
/// Of a signed zone, whose signatures take their time to make: a tenth of the names, and a tenth of the memory.
const SIGNED: usize = 1_000;
const VIEWS: usize = 8;

/// Names with two clusters' addresses by weight, others in each of the regions, as `cargo xtask bench dns` has them.
fn update(names: usize, keys: Vec<v1::DnsKey>) -> v1::ZoneUpdate {
    let choice = |address: String, weight, cluster: usize| v1::Choice {
        data: vec![address],
        weight,
        cluster: format!("cluster-{cluster}"),
    };
    let record = |n: usize| {
        let (high, low) = (n / 250, n % 250);
        let tiers = |network: usize, view: usize| {
            vec![v1::Tier {
                choices: vec![
                    choice(format!("{network}.{view}.{high}.{low}"), 3, view),
                    choice(format!("{}.{view}.{high}.{low}", network + 1), 1, (view + 1) % VIEWS),
                ],
            }]
        };
        v1::RecordSet {
            name: format!("geo{n:05}.default.fed.example.test."),
            ttl: 10,
            r#type: "A".into(),
            selection: v1::Selection::Weighted.into(),
            tiers: tiers(10, VIEWS),
            variants: (0..VIEWS)
                .map(|view| v1::Variant {
                    regions: vec![format!("region-{view}")],
                    selection: v1::Selection::Weighted.into(),
                    tiers: tiers(12, view),
                    picks: 0,
                })
                .collect(),
            ..v1::RecordSet::default()
        }
    };
    v1::ZoneUpdate {
        epoch: 1,
        incarnation: "store-1".into(),
        zones: vec![v1::Zone {
            origin: "fed.example.test.".into(),
            nameservers: vec!["ns.example.net.".into()],
            records: (0..names).map(record).collect(),
            keys,
            ..v1::Zone::default()
        }],
        ..v1::ZoneUpdate::default()
    }
}

fn mib(octets: usize) -> f64 {
    octets as f64 / f64::from(1 << 20)
}

fn key() -> v1::DnsKey {
    let secret = SigningKey::from_slice(&[7; 32]).unwrap();
    let public = secret.verifying_key().to_sec1_point(false).as_bytes()[1..].to_vec();
    v1::DnsKey { public_key: public.into(), private_key: vec![7; 32].into(), wanted_at_parent: true }
}

/// Each name has 18 signatures, one for each address, and one for its place in the chain: their octets alone are 12 of the MiB.
#[test]
fn a_signed_zone_takes_less_than_21_mib_for_ten_thousand_names() {
    let _alone = ALONE.lock().unwrap();
    let described = update(SIGNED, vec![key()]);
    let before = HELD.load(Relaxed);
    let zones = Arc::new(Zones::from_update(&described).unwrap());
    let (clusters, mut signatures) = (ClusterSlots::default(), Signatures::default());
    signatures.begin(1_795_500_000);
    let snapshot = Snapshot::compile(zones, false, &clusters, &mut signatures);
    drop(signatures);
    let all = HELD.load(Relaxed) - before;
    println!("a signed name {} octets", all / SIGNED);
    assert!(snapshot.table.len() >= SIGNED);
    assert!(all < (21 << 20) * SIGNED / NAMES, "{:.2} MiB for {SIGNED} names", mib(all));
}

/// Every address is another one: only what is not an address can be shared.
#[test]
fn ten_thousand_names_with_eight_views_take_less_than_6_mib() {
    let _alone = ALONE.lock().unwrap();
    let described = update(NAMES, Vec::new());
    let before = HELD.load(Relaxed);
    let zones = Arc::new(Zones::from_update(&described).unwrap());
    let model = HELD.load(Relaxed) - before;
    let snapshot = Snapshot::compile(zones, false, &ClusterSlots::default(), &mut Signatures::default());
    let all = HELD.load(Relaxed) - before;
    println!("zones {:.1} MiB, with answers {:.1} MiB", mib(model), mib(all));
    assert!(all < 6 << 20, "{:.1} MiB", mib(all));
    // The next snapshot holds in common with this one what did not change.
    let mut changed = described.clone();
    changed.zones[0].records[77].ttl = 11;
    let mut zones = Zones::from_update(&changed).unwrap();
    zones.share(&snapshot.zones);
    drop((described, changed));
    let before = HELD.load(Relaxed);
    let next = snapshot.next(Arc::new(zones), false, &ClusterSlots::default(), &mut Signatures::default());
    let both = HELD.load(Relaxed) - before;
    println!("a changed name {:.3} MiB", mib(both));
    assert!(both < 1 << 18, "{:.3} MiB", mib(both));
    drop(next);
}
