//! Behaviour of HTTPS and SVCB records beside addresses.

use serde_json::json;

use super::*;
use crate::dns::{Data, Type};

const HTTPS: &str = "_8443._https.web.shop.fed.svc.example.test.";

#[test]
fn hints_follow_verdict_strategy_and_region_as_addresses_do() {
    let mut world = World::new();
    world.backend("taiwan").addresses.push("2001:db8::1".into());
    world.policy(json!({"service": "web", "proximity": "Region", "weights": {"tokyo": 7}, "ttlSeconds": 60,
        "serviceBindings": [{"alpn": ["h2", "h3"]}]}));
    let regions = json!({"metadata": {"name": "all"}, "spec": {"regions": {"asia-northeast": {"prefixes": ["192.0.2.0/24"]}}}});
    world.places = Places::new(&[serde_json::from_value(regions).unwrap()]);
    let decision = world.step();
    let taiwan = "1 . alpn=h2,h3 ipv4hint=192.0.2.1 ipv6hint=2001:db8::1*100";
    let tokyo = "1 . alpn=h2,h3 ipv4hint=192.0.2.2*7";
    assert_eq!(answer(&decision, WEB, RecordType::Https), format!("{taiwan} {tokyo}"));
    let record = |rtype| {
        let mut records = decision.zones.iter().flat_map(|zone| &zone.records);
        records.find(|record| record.name == WEB && record.rtype == rtype).unwrap()
    };
    let (https, a) = (record(RecordType::Https), record(RecordType::A));
    assert_eq!((https.ttl, https.selection, &https.service), (60, Selection::Weighted, &a.service));
    let first = |record: &RecordSet| record.variants[0].tiers[0].choices[0].cluster.clone();
    assert_eq!((first(https), first(a)), ("tokyo".into(), "tokyo".into()));
    world.cluster("taiwan").verdict = Verdict::ApiDown;
    assert_eq!(answer(&world.step(), WEB, RecordType::Https), tokyo);
}

#[test]
fn a_port_is_the_one_that_users_reach_in_the_cluster() {
    let mut world = World::new();
    let port = |name: &str, number| ServicePort { name: name.into(), protocol: "TCP".into(), number };
    world.services[0].ports = vec![port("http", 80), port("https", 443)];
    world.backend("tokyo").ports = BTreeMap::from([("https".into(), 30443)]);
    world.policy(
        json!({"service": "web", "serviceBindings": [{"hints": false}, {"priority": 2, "port": 8443}]}),
    );
    let decision = world.step();
    let expected =
        "1 .,2 . port=8443 ipv4hint=192.0.2.1*100 1 . port=30443,2 . port=8443 ipv4hint=192.0.2.2*100";
    assert_eq!(answer(&decision, WEB, RecordType::Https), expected);
}

#[test]
fn records_of_other_ports_and_schemes_stand_at_names_of_their_own() {
    let mut world = World::new();
    let long = "x".repeat(60);
    world.policy(json!({"service": "web", "hostnames": [format!("{long}.{long}.{long}.x"), "dns"], "health": {"allDown": "NoData"},
        "serviceBindings": [{"prefix": "_8443._https"}, {"type": "SVCB", "prefix": "_dns", "alpn": ["dot"]},
            {"prefix": format!("_{}", &long[..59]), "alpn": ["h2"]}]}));
    let decision = world.step();
    // Where addresses are, for there are none behind the prefix.
    let at = "web.shop.fed.svc.example.test.";
    assert_eq!(
        answer(&decision, HTTPS, RecordType::Https),
        format!("1 {at} ipv4hint=192.0.2.1*100 1 {at} ipv4hint=192.0.2.2*100")
    );
    assert_eq!(answer(&decision, WEB, RecordType::Https), "none");
    let resolver = answer(&decision, "_dns.dns.fed.example.test.", RecordType::Svcb);
    let at = "dns.fed.example.test. alpn=dot";
    assert_eq!(resolver, format!("1 {at} ipv4hint=192.0.2.1*100 1 {at} ipv4hint=192.0.2.2*100"));
    assert!(
        problems_of(&decision, "shop", "p0")[0].contains("serviceBindings"),
        "{:?}",
        decision.explanations
    );
    for record in decision.zones.iter().flat_map(|zone| &zone.records) {
        let kind = Type::of_zone(record.rtype.as_str()).unwrap();
        for data in record.tiers.iter().flat_map(|tier| &tier.choices).flat_map(|choice| &choice.data) {
            assert!(Data::parse(kind, data).is_ok(), "{data}");
        }
    }
    // Nobody serves: the names stay, as they do with addresses.
    world.cluster("taiwan").verdict = Verdict::ApiDown;
    world.cluster("tokyo").verdict = Verdict::ApiDown;
    let decision = world.step();
    assert_eq!(answer(&decision, HTTPS, RecordType::Https), "*1");
    assert_eq!(decision.owners[HTTPS].service, "shop/web");
}

#[test]
fn a_page_that_says_sorry_is_hinted_at_too() {
    let mut world = World::new();
    world.policy(json!({"service": "web", "health": {"allDown": "Fallback", "fallback": ["192.0.2.9"]},
        "serviceBindings": [{"alpn": ["h2"]}]}));
    world.step();
    world.cluster("taiwan").verdict = Verdict::ApiDown;
    world.cluster("tokyo").verdict = Verdict::ApiDown;
    assert_eq!(answer(&world.step(), WEB, RecordType::Https), "1 . alpn=h2 ipv4hint=192.0.2.9*1");
}
