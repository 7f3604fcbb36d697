//! Behaviour of the names of Multi-Cluster Services.

use serde_json::json;

use super::*;

const NAME: &str = "web.shop.svc.clusterset.local.";

fn ports(world: &mut World) {
    let port = |name: &str, protocol: &str, number| ServicePort {
        name: name.into(),
        protocol: protocol.into(),
        number,
    };
    world.services[0].ports = vec![port("http", "TCP", 80), port("dns", "UDP", 53), port("", "TCP", 9)];
}

fn endpoint(host: &str, addresses: &[&str]) -> Endpoint {
    Endpoint { host: host.into(), addresses: addresses.iter().map(|text| text.parse().unwrap()).collect() }
}

#[test]
fn a_service_has_its_name_its_ports_and_a_name_in_each_cluster() {
    let mut world = World::new();
    ports(&mut world);
    world.clusterset = Some("ClusterSet.local");
    world.policy(json!({"service": "web", "weights": {"tokyo": 7}, "serviceBindings": [{"alpn": ["h2"]}]}));
    let decision = world.step();
    assert_eq!(answer(&decision, NAME, RecordType::A), "192.0.2.1*100 192.0.2.2*7");
    let https = "1 . alpn=h2 ipv4hint=192.0.2.1*100 1 . alpn=h2 ipv4hint=192.0.2.2*7";
    assert_eq!(answer(&decision, NAME, RecordType::Https), https);
    let http = format!("0 0 80 {NAME}*100 0 0 80 {NAME}*7");
    assert_eq!(answer(&decision, &format!("_http._tcp.{NAME}"), RecordType::Srv), http);
    let dns = format!("0 0 53 {NAME}*100 0 0 53 {NAME}*7");
    assert_eq!(answer(&decision, &format!("_dns._udp.{NAME}"), RecordType::Srv), dns);
    assert_eq!(answer(&decision, &format!("tokyo.{NAME}"), RecordType::A), "192.0.2.2*1");
    assert_eq!(answer(&decision, "dns-version.clusterset.local.", RecordType::Txt), "\"1.0.0\"*1");
    // By its own name a cluster is found whatever the verdict.
    world.cluster("tokyo").verdict = Verdict::ApiDown;
    let decision = world.step();
    assert_eq!(answer(&decision, NAME, RecordType::A), "192.0.2.1*100");
    assert_eq!(answer(&decision, &format!("tokyo.{NAME}"), RecordType::A), "192.0.2.2*1");
    world.clusterset = None;
    assert_eq!(answer(&world.step(), NAME, RecordType::A), "none");
}

#[test]
fn a_port_that_is_not_the_same_everywhere_is_named_by_cluster() {
    let mut world = World::new();
    ports(&mut world);
    world.clusterset = Some("clusterset.local");
    world.backend("tokyo").ports = BTreeMap::from([("http".into(), 30080)]);
    let decision = world.step();
    let expected = format!("0 100 80 taiwan.{NAME}*100 0 100 30080 tokyo.{NAME}*100");
    assert_eq!(answer(&decision, &format!("_http._tcp.{NAME}"), RecordType::Srv), expected);
}

#[test]
fn a_headless_service_is_its_endpoints() {
    let mut world = World::new();
    ports(&mut world);
    world.clusterset = Some("clusterset.local");
    world.backend("taiwan").addresses.clear();
    world.backend("tokyo").addresses.clear();
    world.backend("taiwan").endpoints =
        vec![endpoint("db-0", &["10.1.0.1", "2001:db8::1"]), endpoint("10-1-0-2", &["10.1.0.2"])];
    world.backend("tokyo").endpoints = vec![endpoint("db-0", &["10.2.0.1"])];
    let decision = world.step();
    assert_eq!(answer(&decision, NAME, RecordType::A), "10.1.0.1,10.1.0.2*1 10.2.0.1*1");
    assert_eq!(answer(&decision, NAME, RecordType::Aaaa), "2001:db8::1*1");
    assert_eq!(answer(&decision, &format!("db-0.tokyo.{NAME}"), RecordType::A), "10.2.0.1*1");
    assert_eq!(answer(&decision, &format!("10-1-0-2.taiwan.{NAME}"), RecordType::A), "10.1.0.2*1");
    let http =
        format!("0 0 80 db-0.taiwan.{NAME},0 0 80 10-1-0-2.taiwan.{NAME}*1 0 0 80 db-0.tokyo.{NAME}*1");
    assert_eq!(answer(&decision, &format!("_http._tcp.{NAME}"), RecordType::Srv), http);
    world.cluster("taiwan").verdict = Verdict::DataPlaneDown;
    assert_eq!(answer(&world.step(), NAME, RecordType::A), "10.2.0.1*1");
    world.cluster("tokyo").verdict = Verdict::DataPlaneDown;
    assert_eq!(answer(&world.step(), NAME, RecordType::A), "10.1.0.1,10.1.0.2*1 10.2.0.1*1");
    // However many there are, the zone is one that DNS servers take.
    let many = (0..500).map(|n| endpoint(&format!("db-{n}"), &["10.3.0.1"])).collect();
    world.backend("tokyo").endpoints = many;
    let decision = world.step();
    let records = decision.zones.iter().flat_map(|zone| &zone.records);
    let most = records
        .flat_map(|record| &record.tiers)
        .map(|tier| tier.choices.iter().map(|choice| choice.data.len()).sum::<usize>());
    assert!(most.max() <= Some(100));
}
