//! Which updates are applied.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use dns_lb::testing::hub::{Disk, Fence, Offer, Refused};
use dns_lb::testing::state::{Applied, State};
use dns_lb::testing::zone::Zones;
use federation_runtime::endpoints::Health;
use proto::v1;

use crate::dnssec::key;
use crate::support::{fixed, records, update};

fn judge(served: &v1::ZoneUpdate, offered: v1::ZoneUpdate, fence: &Fence) -> Offer {
    fence.judge(Some(&Zones::from_update(served).unwrap()), || Some(served.clone()), offered)
}

fn judge_without_disk(served: &v1::ZoneUpdate, offered: v1::ZoneUpdate) -> Offer {
    Fence::default().judge(Some(&Zones::from_update(served).unwrap()), || None, offered)
}

#[test]
fn only_newer_epochs_are_applied() {
    let served = update(10, records());
    let fence = Fence::default();
    assert!(matches!(judge(&served, update(11, records()), &fence), Offer::Apply { .. }));
    assert_eq!(judge(&served, update(10, records()), &fence), Offer::Current);
    assert_eq!(
        judge(&served, update(9, records()), &fence),
        Offer::Refuse(Refused::Older { offered: 9, served: 10 })
    );
}

#[test]
fn another_store_must_be_newer_or_named_by_the_operator() {
    let served = update(10, records());
    let other = |epoch| v1::ZoneUpdate { incarnation: "store-2".into(), ..update(epoch, records()) };
    let fence = Fence::default();
    assert!(matches!(judge(&served, other(11), &fence), Offer::Apply { .. }));
    for epoch in [1, 10] {
        assert!(matches!(judge(&served, other(epoch), &fence), Offer::Refuse(Refused::Incarnation { .. })));
    }
    let adopting = Fence { adopt: Some("store-2".into()) };
    assert!(matches!(judge(&served, other(1), &adopting), Offer::Apply { .. }));
}

#[test]
fn a_zone_that_would_become_empty_is_held_and_the_rest_applied() {
    let mut served = update(10, records());
    let mut second = served.zones[0].clone();
    second.origin = "two.test.".into();
    second.records = vec![fixed("a.two.test.", "A", &["192.0.2.1"])];
    served.zones.push(second.clone());
    second.records = vec![fixed("a.two.test.", "A", &["192.0.2.2"])];
    let mut emptied = update(11, Vec::new());
    emptied.zones.push(second.clone());
    let mut gone = update(11, Vec::new());
    gone.zones = vec![second];
    for offered in [emptied, gone] {
        // Without a disk it is held as well; there is nothing to be kept.
        let Offer::Apply { zones, held, .. } = judge_without_disk(&served, offered.clone()) else {
            panic!("not applied")
        };
        assert_eq!(held.len(), 1);
        let counts: Vec<usize> = zones.zones.iter().map(|zone| zone.set_count()).collect();
        assert!(counts.contains(&records().len()) && counts.contains(&1), "{counts:?}");
        let Offer::Apply { zones, update, held } = judge(&served, offered, &Fence::default()) else {
            panic!("not applied")
        };
        assert_eq!(held.len(), 1);
        assert_eq!(held[0].origin.to_string(), "fed.example.test.");
        assert_eq!(zones.epoch, 11);
        let kept = Zones::from_update(&update).unwrap();
        for zones in [&zones, &kept] {
            let counts: Vec<usize> = zones.zones.iter().map(|zone| zone.set_count()).collect();
            assert!(counts.contains(&records().len()) && counts.contains(&1), "{counts:?}");
        }
        // What changed in the other zone is served.
        assert!(update.zones.iter().any(|zone| zone.records[0].tiers[0].choices[0].data == ["192.0.2.2"]));
    }
}

#[test]
fn a_zone_that_the_hub_withdraws_by_name_goes() {
    let served = update(10, records());
    let mut emptied = update(11, Vec::new());
    emptied.withdrawn = vec!["Fed.Example.test.".into()];
    let mut gone = emptied.clone();
    gone.zones.clear();
    for offered in [emptied, gone] {
        let Offer::Apply { zones, held, .. } = judge(&served, offered, &Fence::default()) else {
            panic!("not applied")
        };
        assert!(held.is_empty());
        assert_eq!(zones.zones.iter().map(|zone| zone.set_count()).sum::<usize>(), 0);
    }
}

#[test]
fn invalid_updates_are_refused_with_every_reason() {
    let o = "fed.example.test.";
    for (record, reason) in [
        (fixed("web.other.test.", "A", &["192.0.2.1"]), "is not within fed.example.test."),
        (fixed("web.fed.example.test", "A", &["192.0.2.1"]), "fully qualified"),
        (fixed("w b.fed.example.test.", "A", &["192.0.2.1"]), "may stand in a label"),
        (fixed(o, "A", &["nonsense"]), "is not an IPv4 address"),
        (fixed(o, "RRSIG", &["1 a."]), "no type of records"),
        (fixed(o, "CNAME", &["a.test."]), "a CNAME must be the only record"),
        (fixed("sub.fed.example.test.", "DS", &["1 13 2 00"]), "is not a DS record"),
        (
            fixed("sub.fed.example.test.", "DS", &[&format!("1 13 2 {}", "00".repeat(32))]),
            "beside its NS records",
        ),
        (v1::RecordSet { ttl: u32::MAX, ..fixed(o, "A", &["192.0.2.1"]) }, "ttl"),
        (v1::RecordSet { tiers: Vec::new(), ..fixed(o, "A", &[]) }, "at least one choice"),
        (v1::RecordSet { selection: 9, ..fixed(o, "A", &["192.0.2.1"]) }, "selection: 9"),
    ] {
        let offered = update(11, vec![record]);
        let Offer::Refuse(refused) = judge(&update(10, records()), offered, &Fence::default()) else {
            panic!("{reason}: was applied")
        };
        assert!(refused.to_string().contains(reason), "{refused}");
    }
    let mut overlapping = update(11, Vec::new());
    let mut inner = overlapping.zones[0].clone();
    inner.origin = "inner.fed.example.test.".into();
    overlapping.zones.push(inner);
    assert!(Zones::from_update(&overlapping).unwrap_err().to_string().contains("another zone"));
}

#[tokio::test]
async fn a_review_at_the_wrong_moment_brings_no_older_zones_back() {
    let state = State::new(Default::default(), Health::new(), None, Fence::default(), Duration::ZERO);
    let over = Arc::new(AtomicBool::new(false));
    let reviews = std::thread::spawn({
        let (state, over) = (state.clone(), Arc::clone(&over));
        move || {
            while !over.load(Ordering::Relaxed) {
                state.disconnected();
                state.review();
                state.connected();
                state.review();
            }
        }
    });
    for epoch in 1..=300 {
        assert_eq!(state.offer(update(epoch, records())).await, Applied::Served { epoch });
        assert_eq!(state.published().snapshot().zones.epoch, epoch);
    }
    over.store(true, Ordering::Relaxed);
    reviews.join().unwrap();
    assert_eq!(state.published().snapshot().zones.epoch, 300);
}

/// One core has one thread for everything but UDP.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_comes_by_a_connection_is_answered_while_a_large_zone_is_signed() {
    let state = State::new(Default::default(), Health::new(), None, Fence::default(), Duration::MAX);
    let names = (0..300).map(|n| fixed(&format!("n{n}.fed.example.test."), "A", &["192.0.2.1"]));
    let mut large = update(1, names.collect());
    large.zones[0].keys = vec![key(1)];
    let turns = Arc::new(AtomicUsize::new(0));
    let others = tokio::spawn({
        let turns = Arc::clone(&turns);
        async move {
            loop {
                turns.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        }
    });
    let meanwhile = tokio::spawn(async move {
        let before = turns.load(Ordering::Relaxed);
        assert_eq!(state.offer(large).await, Applied::Served { epoch: 1 });
        turns.load(Ordering::Relaxed) - before
    });
    let meanwhile = meanwhile.await.unwrap();
    others.abort();
    assert!(meanwhile > 0, "everybody waited");
}

#[tokio::test]
async fn zones_outlive_a_restart_and_the_fence_with_them() {
    let directory = tempfile::tempdir().unwrap();
    let start = |health: &Health| {
        let disk = Some(Disk::new(directory.path()));
        State::new(Default::default(), health.clone(), disk, Fence::default(), Duration::from_secs(60))
    };
    let health = Health::new();
    let state = start(&health);
    state.load().unwrap();
    assert!(!health.is_ready());
    assert_eq!(state.offer(update(10, records())).await, Applied::Served { epoch: 10 });
    assert!(health.is_ready());

    let health = Health::new();
    let state = start(&health);
    state.load().unwrap();
    assert!(health.is_ready());
    assert_eq!(state.served(), (10, "store-1".into()));
    assert_eq!(state.offer(update(9, records())).await, Applied::Refused);
    assert_eq!(state.offer(update(10, records())).await, Applied::Served { epoch: 10 });

    // One wrong octet, and nothing is believed.
    let file = directory.path().join("zones");
    let mut octets = std::fs::read(&file).unwrap();
    *octets.last_mut().unwrap() ^= 1;
    std::fs::write(&file, octets).unwrap();
    assert!(start(&Health::new()).load().unwrap_err().to_string().contains("is damaged"));
}

#[test]
fn regions_and_variants_are_validated_too() {
    let o = "web.fed.example.test.";
    let table = |prefix: &str, region: &str| v1::Regions {
        prefixes: vec![v1::ClientPrefix { prefix: prefix.into(), region: region.into() }],
        ..v1::Regions::default()
    };
    let variant = |regions: &[&str]| v1::Variant {
        regions: regions.iter().map(ToString::to_string).collect(),
        tiers: fixed(o, "A", &["192.0.2.2"]).tiers,
        ..v1::Variant::default()
    };
    let with = |variants| v1::RecordSet { variants, ..fixed(o, "A", &["192.0.2.1"]) };
    let mut twice = table("10.0.0.0/8", "asia");
    twice.prefixes.push(twice.prefixes[0].clone());
    let code =
        v1::Regions { countries: [("tw".to_owned(), "asia".to_owned())].into(), ..v1::Regions::default() };
    for (regions, variants, secrets, reason) in [
        (table("10.0.0.1/8", "asia"), vec![], vec![], "write 10.0.0.0/8"),
        (table("10.0.0.0/8", "a b"), vec![], vec![], "is not a name"),
        (twice, vec![], vec![], "is listed twice"),
        (code, vec![], vec![], "two capital letters"),
        (v1::Regions::default(), vec![variant(&[])], vec![], "at least one region"),
        (v1::Regions::default(), vec![variant(&["a"]), variant(&["a"])], vec![], "\"a\" is listed twice"),
        (v1::Regions::default(), vec![], vec![vec![1; 15].into()], "16 octets"),
    ] {
        let offered = v1::ZoneUpdate {
            regions: Some(regions),
            cookie_secrets: secrets,
            ..update(11, vec![with(variants)])
        };
        let refused = Zones::from_update(&offered).unwrap_err();
        assert!(refused.to_string().contains(reason), "{refused}");
    }
    let offered = v1::ZoneUpdate {
        regions: Some(table("10.0.0.0/8", "asia")),
        cookie_secrets: vec![vec![1; 16].into(), vec![2; 16].into()],
        ..update(11, vec![with(vec![variant(&["asia", "europe"])])])
    };
    let zones = Zones::from_update(&offered).unwrap();
    assert_eq!((zones.regions.names.count(), zones.cookie_secrets.len()), (3, 2));
}

#[test]
fn a_held_zone_keeps_its_variants_for_the_same_regions() {
    let o = "web.fed.example.test.";
    let variant = v1::Variant {
        regions: vec!["asia".into()],
        tiers: fixed(o, "A", &["192.0.2.2"]).tiers,
        ..v1::Variant::default()
    };
    let served = update(10, vec![v1::RecordSet { variants: vec![variant], ..fixed(o, "A", &["192.0.2.1"]) }]);
    // Another region comes first in the new table.
    let offered = v1::ZoneUpdate {
        regions: Some(v1::Regions {
            prefixes: vec![v1::ClientPrefix { prefix: "192.0.2.0/24".into(), region: "europe".into() }],
            ..v1::Regions::default()
        }),
        ..update(11, Vec::new())
    };
    for judged in [judge(&served, offered.clone(), &Fence::default()), judge_without_disk(&served, offered)] {
        let Offer::Apply { zones, .. } = judged else { panic!("not applied") };
        let name = dns_lb::testing::wire::Name::parse(o).unwrap();
        let (_, set) = zones.zones[0].names[&name].iter().next().unwrap();
        let of = |region: &str| {
            let region = zones.regions.names.get(region).unwrap();
            set.units(dns_lb::testing::wire::Type::A, region).units[0].data[0].clone()
        };
        let address = |last| dns_lb::testing::zone::Data::A([192, 0, 2, last].into());
        assert_eq!((of("asia"), of("europe")), (address(2), address(1)));
    }
}
