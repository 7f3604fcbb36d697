//! How long a cold start signs: names with eight views, on as many cores as this process may use.
//!
//! `cargo run --release -p dns-lb --example sign -- 10000`; with `taskset -c 0` in front of the program, one thread signs.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Instant;

use dns_lb::testing::compile::Snapshot;
use dns_lb::testing::dnssec::Signatures;
use dns_lb::testing::metrics::ClusterSlots;
use dns_lb::testing::zone::Zones;
use p256::ecdsa::SigningKey;
use proto::v1;

const VIEWS: usize = 8;

fn update(names: usize) -> v1::ZoneUpdate {
    let choice = |address: String| v1::Choice { data: vec![address], weight: 1, cluster: "taiwan".into() };
    let tiers = |n: usize, view: usize| {
        let (high, low) = (n / 250, n % 250);
        let choices = [0, 1].map(|last| choice(format!("{}.{view}.{high}.{low}", 10 + last))).to_vec();
        vec![v1::Tier { choices }]
    };
    let weighted = v1::Selection::Weighted.into();
    let record = |n: usize| v1::RecordSet {
        name: format!("geo{n:05}.default.fed.example.test."),
        ttl: 10,
        r#type: "A".into(),
        selection: weighted,
        tiers: tiers(n, VIEWS),
        variants: (0..VIEWS)
            .map(|view| v1::Variant {
                regions: vec![format!("region-{view}")],
                selection: weighted,
                tiers: tiers(n, view),
                picks: 0,
            })
            .collect(),
        ..v1::RecordSet::default()
    };
    let secret = SigningKey::from_slice(&[1; 32]).unwrap();
    let public = secret.verifying_key().to_sec1_point(false).as_bytes()[1..].to_vec();
    let key =
        v1::DnsKey { public_key: public.into(), private_key: vec![1; 32].into(), wanted_at_parent: true };
    v1::ZoneUpdate {
        epoch: 1,
        incarnation: "store-1".into(),
        zones: vec![v1::Zone {
            origin: "fed.example.test.".into(),
            nameservers: vec!["ns.example.net.".into()],
            records: (0..names).map(record).collect(),
            keys: vec![key],
            ..v1::Zone::default()
        }],
        ..v1::ZoneUpdate::default()
    }
}

fn main() {
    let names = std::env::args().nth(1).map_or(1000, |text| text.parse().unwrap());
    let zones = Arc::new(Zones::from_update(&update(names)).unwrap());
    let mut signatures = Signatures::default();
    signatures.begin(1_795_500_000);
    let start = Instant::now();
    let snapshot = Snapshot::compile(zones, false, &ClusterSlots::default(), &mut signatures);
    let taken = start.elapsed();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    println!(
        "{} names, {} signatures, {cores} cores: {:.2} s",
        snapshot.table.len(),
        signatures.made(),
        taken.as_secs_f64()
    );
}
