//! Behaviour of clusters that users reach by the name of a load balancer.

use serde_json::json;

use super::*;
use crate::dns::{Data, Type};

const LB: &str = "lb-1.elb.example.net.";
const TAIWAN: &str = "taiwan.web.shop.fed.svc.example.test.";

/// Tokyo's load balancer says a name.
fn world() -> World {
    let mut world = World::new();
    world.backend("tokyo").addresses = vec!["LB-1.elb.example.net".into()];
    world
}

fn step(world: &mut World) -> TrafficDecision {
    let decision = world.step();
    let records = || decision.zones.iter().flat_map(|zone| &zone.records);
    for record in records() {
        let kind = Type::of_zone(record.rtype.as_str()).unwrap();
        let choices = record.variants.iter().flat_map(|of| &of.tiers).chain(&record.tiers);
        for choice in choices.flat_map(|tier| &tier.choices) {
            assert!(choice.data.iter().all(|data| Data::parse(kind, data).is_ok()), "{record:?}");
        }
        if record.rtype == RecordType::Cname {
            let beside = records().filter(|other| other.name == record.name).count();
            assert_eq!(beside, 1, "a CNAME stands alone at {}", record.name);
        }
    }
    decision
}

#[test]
fn what_is_chosen_decides_between_addresses_and_a_name() {
    let mut world = world();
    world.policy(json!({"service": "web", "weights": {"tokyo": 7}, "hostnames": ["www", "*.shop"]}));
    let decision = step(&mut world);
    assert_eq!(answer(&decision, WEB, RecordType::Cname), format!("{TAIWAN}*100 {LB}*7"));
    assert_eq!(answer(&decision, WEB, RecordType::A), "none");
    assert_eq!(answer(&decision, TAIWAN, RecordType::A), "192.0.2.1*1");
    let here = "taiwan.web.shop.svc.fed.example.test.";
    for name in ["web.shop.svc", "www", "*.shop"] {
        let name = format!("{name}.fed.example.test.");
        assert_eq!(answer(&decision, &name, RecordType::Cname), format!("{here}*100 {LB}*7"));
    }
    assert_eq!(answer(&decision, here, RecordType::A), "192.0.2.1*1");
    let near = answer(&decision, "web.shop.fed.svc.asia-northeast.example.test.", RecordType::Cname);
    assert_eq!(near, format!("{LB}*7 | taiwan.web.shop.fed.svc.asia-northeast.example.test.*100"));
    let why = decision.explanations.iter().find(|why| why.cluster == "tokyo").unwrap();
    assert!(why.answered && why.message.contains("lb-1.elb.example.net alone"), "{why:?}");
}

#[test]
fn a_name_does_not_turn_with_the_health_of_its_clusters() {
    let mut world = world();
    world.policy(json!({"service": "web", "strategy": "Failover", "order": ["tokyo", "taiwan"]}));
    let cname = |decision: &TrafficDecision| answer(decision, WEB, RecordType::Cname);
    assert_eq!(cname(&step(&mut world)), format!("{LB}*100 | {TAIWAN}*100"));
    world.cluster("tokyo").verdict = Verdict::DataPlaneDown;
    assert_eq!(cname(&step(&mut world)), format!("{TAIWAN}*100"));
    world.cluster("taiwan").verdict = Verdict::DataPlaneDown;
    assert_eq!(cname(&step(&mut world)), format!("{TAIWAN}*100"), "the last answer stays");
    world.cluster("tokyo").verdict = Verdict::Healthy;
    assert_eq!(cname(&step(&mut world)), format!("{LB}*100"));
    // Caches may still lead there.
    world.cluster("taiwan").weight = Some(0);
    assert_eq!(answer(&step(&mut world), TAIWAN, RecordType::A), "192.0.2.1*1");
    // Sorry pages are addresses.
    let mut world = self::world();
    world.policy(json!({"service": "web", "health": {"allDown": "Fallback", "fallback": ["192.0.2.9"]}}));
    world.cluster("taiwan").verdict = Verdict::DataPlaneDown;
    world.cluster("tokyo").verdict = Verdict::DataPlaneDown;
    assert_eq!(answer(&step(&mut world), WEB, RecordType::A), "192.0.2.9*1");
}

#[test]
fn where_no_alias_may_stand_the_others_are_answered_and_it_is_told() {
    let mut world = world();
    world.policy(json!({"service": "web", "hostnames": ["fed.example.test", "ns1"]}));
    let decision = step(&mut world);
    assert_eq!(answer(&decision, "fed.example.test.", RecordType::A), "192.0.2.1*100");
    let problems = problems_of(&decision, "shop", "p0");
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].starts_with("fed.example.test. cannot be a CNAME") && problems[0].contains("tokyo"));
    assert!(problems[1].starts_with("ns1.fed.example.test. cannot be a CNAME"));
    let places = Places::default();
    let found = lookup(&decision, &places, "fed.example.test", None).unwrap();
    assert_eq!(found.notes, [problems[0].as_str()]);
    assert!(lookup(&decision, &places, WEB, None).unwrap().notes.is_empty());
}

#[test]
fn bindings_stand_where_addresses_do_or_lead_there() {
    let mut world = world();
    world.policy(json!({"service": "web",
        "serviceBindings": [{"alpn": ["h2"]}, {"prefix": "_8443._https", "port": 8443}]}));
    let decision = step(&mut world);
    assert_eq!(answer(&decision, WEB, RecordType::Https), "none");
    assert_eq!(answer(&decision, TAIWAN, RecordType::Https), "1 . alpn=h2 ipv4hint=192.0.2.1*1");
    let of_port = answer(&decision, &format!("_8443._https.{WEB}"), RecordType::Https);
    assert_eq!(of_port, format!("1 {TAIWAN} port=8443 ipv4hint=192.0.2.1*100 1 {LB} port=8443*100"));
}

#[test]
fn ports_lead_to_no_alias() {
    const NAME: &str = "web.shop.svc.clusterset.local.";
    let mut world = world();
    world.clusterset = Some("clusterset.local");
    world.services[0].ports = vec![ServicePort { name: "http".into(), protocol: "TCP".into(), number: 80 }];
    let decision = step(&mut world);
    assert_eq!(answer(&decision, NAME, RecordType::Cname), format!("taiwan.{NAME}*100 {LB}*100"));
    assert_eq!(
        answer(&decision, &format!("_http._tcp.{NAME}"), RecordType::Srv),
        format!("0 100 80 taiwan.{NAME}*100 0 100 80 {LB}*100")
    );
    assert_eq!(answer(&decision, &format!("taiwan.{NAME}"), RecordType::A), "192.0.2.1*1");
    assert_eq!(answer(&decision, &format!("tokyo.{NAME}"), RecordType::Cname), format!("{LB}*1"));
}

#[test]
fn addresses_come_before_names_and_no_name_leads_back_here() {
    let mut world = world();
    world.backend("tokyo").addresses.push("192.0.2.2".into());
    check(&step(&mut world), "192.0.2.1*100 192.0.2.2*100");
    world.backend("tokyo").addresses = vec!["a.web.fed.example.test".into()];
    check(&step(&mut world), "192.0.2.1*100");
    let mut world = self::world();
    world.backend("taiwan").addresses = vec!["b.example.net".into(), "a.example.net".into()];
    assert_eq!(answer(&step(&mut world), WEB, RecordType::Cname), format!("a.example.net.*100 {LB}*100"));
}
