//! What DNS servers refuse never stands in a zone: one such set would cost all the others their updates.

use serde_json::json;

use super::*;
use crate::dns::{Name, RECORDS_MAX, TEXT_MAX};

/// Sets of one name and one type, and of each variant.
fn sizes(decision: &TrafficDecision) -> Vec<(usize, usize)> {
    let records = decision.zones.iter().flat_map(|zone| &zone.records);
    let answers =
        records.flat_map(|record| record.variants.iter().map(|of| &of.tiers).chain([&record.tiers]));
    let size = |tiers: &Vec<Tier>| {
        let data = || tiers.iter().flat_map(|tier| &tier.choices).flat_map(|choice| &choice.data);
        (data().count(), data().map(String::len).sum())
    };
    answers.map(size).collect()
}

fn with_clusters(count: usize, addresses: usize) -> World {
    let mut world = World::new();
    for n in 0..count {
        let address =
            |at: usize| [format!("10.{}.{}.{}", n / 256, n % 256, at), format!("2001:db8:{n:x}::{at:x}")];
        let backend = Backend {
            ready_endpoints: 1,
            addresses: (0..addresses).flat_map(address).collect(),
            ..Backend::default()
        };
        let cluster = world.clusters["taiwan"].clone();
        world.clusters.insert(format!("c{n:04}"), cluster);
        world.services[0].backends.insert(format!("c{n:04}"), backend);
    }
    world
}

#[test]
fn a_set_is_never_more_than_dns_servers_take() {
    for (clusters, addresses, named) in [(30, 10, 10), (30, 60, 16), (300, 20, 1), (1500, 2, 1)] {
        let mut world = with_clusters(clusters, addresses);
        let bindings: Vec<_> = (0..3).map(|n| json!({"priority": n + 1, "alpn": ["h2", "h3"]})).collect();
        world.policy(json!({"service": "web", "strategy": "All", "serviceBindings": bindings}));
        let decision = world.step();
        for (records, text) in sizes(&decision) {
            assert!(records <= RECORDS_MAX && text <= TEXT_MAX, "{records} records, {text} octets");
        }
        let own = |record: &&RecordSet| record.name == "web.shop.svc.fed.example.test.";
        let record = decision.zones[0].records.iter().find(own);
        let choices = &record.unwrap().tiers[0].choices;
        assert!(choices.len() >= clusters.min(RECORDS_MAX), "everybody whom there is room for");
        assert_eq!(choices[0].data.len(), named, "of {clusters} clusters with {addresses} addresses");
    }
}

#[test]
fn a_name_that_is_too_long_is_left_out_and_told_of() {
    let mut world = World::new();
    let long = |letter: &str| letter.repeat(63);
    (world.services[0].namespace, world.services[0].name) = (long("n"), long("s"));
    for name in ["taiwan", "tokyo"] {
        (world.cluster(name).region, world.cluster(name).zone) = (long("r"), long("z"));
    }
    let decision = world.step();
    for record in decision.zones.iter().flat_map(|zone| &zone.records) {
        assert!(Name::parse(&record.name).is_ok(), "{}", record.name);
    }
    let global = format!("{}.{}.svc.fed.example.test.", long("s"), long("n"));
    assert_eq!(answer(&decision, &global, RecordType::A), "192.0.2.1*100 192.0.2.2*100");
    let told = decision.explanations.iter().filter(|why| why.rule == "Hostname").count();
    assert_eq!(told, 1, "{:?}", decision.explanations);
}

#[test]
fn no_zone_lies_within_another_whatever_regions_are_called() {
    let mut world = World::new();
    world.clusterset = Some("clusterset.local");
    for (region, zone) in [("fed", "a"), ("svc", "fed"), ("asia", "fed"), ("fed", "svc"), ("svc", "svc")] {
        (world.cluster("taiwan").region, world.cluster("taiwan").zone) = (region.into(), zone.into());
        let decision = world.step();
        let origins: Vec<Name> =
            decision.zones.iter().map(|zone| Name::parse(&zone.origin).unwrap()).collect();
        for (at, one) in origins.iter().enumerate() {
            let around = origins.iter().enumerate().find(|(other, zone)| *other != at && one.is_within(zone));
            assert_eq!(around, None, "{one}, for region {region} and zone {zone}");
        }
        let name = "web.shop.svc.fed.example.test.";
        assert_eq!(answer(&decision, name, RecordType::A), "192.0.2.1*100 192.0.2.2*100");
    }
}

#[test]
fn names_of_clusters_and_endpoints_are_bound_too() {
    let mut world = with_clusters(1, 3000);
    world.clusterset = Some("clusterset.local");
    let port = |name: &str| ServicePort { name: name.into(), protocol: "TCP".into(), number: 80 };
    world.services[0].ports = vec![port("http")];
    let decision = world.step();
    assert!(sizes(&decision).iter().all(|(records, text)| *records <= RECORDS_MAX && *text <= TEXT_MAX));
    // Endpoints with as many addresses as somebody wrote there, in a cluster and under names as long as they can be.
    let long = |letter: &str| letter.repeat(63);
    let addresses = |n: usize| (0..90).map(|at| format!("10.{n}.0.{at}").parse().unwrap()).collect();
    let endpoints = (0..90).map(|n| Endpoint { host: format!("db-{n}"), addresses: addresses(n) });
    let too_long = Endpoint { host: long("h"), addresses: addresses(91) };
    let backend = Backend {
        ready_endpoints: 1,
        endpoints: [too_long].into_iter().chain(endpoints).collect(),
        ..Backend::default()
    };
    let cluster = world.clusters["taiwan"].clone();
    world.clusters.insert(long("c"), cluster);
    (world.services[0].name, world.services[0].namespace) = (long("s"), long("n"));
    world.services[0].backends = BTreeMap::from([(long("c"), backend)]);
    let decision = world.step();
    assert!(sizes(&decision).iter().all(|(records, text)| *records <= RECORDS_MAX && *text <= TEXT_MAX));
    let targets =
        decision.zones.iter().flat_map(|zone| &zone.records).filter(|record| record.rtype == RecordType::Srv);
    let targets: Vec<&String> = targets
        .flat_map(|record| &record.tiers)
        .flat_map(|tier| &tier.choices)
        .flat_map(|choice| &choice.data)
        .collect();
    assert_eq!(targets.len(), 90);
    for data in targets {
        assert!(crate::dns::Data::parse(crate::dns::Type::SRV, data).is_ok(), "{data}");
    }
}
