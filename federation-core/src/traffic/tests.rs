//! Behaviour of traffic.
#![allow(clippy::unwrap_used, clippy::panic)]

use serde_json::json;

use super::*;
use crate::api::Verdict;

mod alias;
mod bindings;
mod bounds;
mod clusterset;
mod policy;

struct World {
    services: Vec<ServiceView>,
    clusters: BTreeMap<String, ClusterTraffic>,
    policies: Vec<TrafficPolicy>,
    previous: Memory,
    places: Places,
    latency: Latency,
    now_ms: i64,
    frozen: Option<&'static str>,
    nameservers: Vec<NameServer>,
    clusterset: Option<&'static str>,
}

impl World {
    /// Taiwan and Tokyo serve `shop/web`, at 192.0.2.1 and 192.0.2.2.
    fn new() -> Self {
        let cluster = |region: &str| ClusterTraffic {
            verdict: Verdict::Healthy,
            region: region.into(),
            zone: "a".into(),
            ..ClusterTraffic::default()
        };
        let backend = |address: &str| Backend {
            ready_endpoints: 2,
            addresses: vec![address.into()],
            ..Backend::default()
        };
        Self {
            services: vec![ServiceView {
                namespace: "shop".into(),
                name: "web".into(),
                ports: Vec::new(),
                backends: BTreeMap::from([
                    ("taiwan".into(), backend("192.0.2.1")),
                    ("tokyo".into(), backend("192.0.2.2")),
                ]),
            }],
            clusters: BTreeMap::from([
                ("taiwan".into(), cluster("asia-east")),
                ("tokyo".into(), cluster("asia-northeast")),
            ]),
            policies: vec![],
            previous: Memory::default(),
            places: Places::default(),
            latency: Latency::default(),
            now_ms: 1_000_000,
            frozen: None,
            clusterset: None,
            nameservers: vec![NameServer {
                name: "ns1.fed.example.test".into(),
                addresses: vec!["192.0.2.53".parse().unwrap()],
            }],
        }
    }

    fn step(&mut self) -> TrafficDecision {
        let decision = zones(&TrafficInput {
            federation: "fed",
            suffix: "example.test",
            clusterset: self.clusterset,
            nameservers: &self.nameservers,
            hostmaster: "",
            ttl_seconds: 5,
            negative_ttl_seconds: 2,
            services: &self.services,
            clusters: &self.clusters,
            policies: &self.policies,
            previous: &self.previous,
            epoch: 7,
            frozen: self.frozen,
            places: &self.places,
            latency: &self.latency,
            now_ms: self.now_ms,
        });
        self.previous = decision.memory.clone();
        decision
    }

    fn cluster(&mut self, name: &str) -> &mut ClusterTraffic {
        self.clusters.get_mut(name).unwrap()
    }

    fn backend(&mut self, name: &str) -> &mut Backend {
        self.services[0].backends.get_mut(name).unwrap()
    }

    fn policy(&mut self, spec: serde_json::Value) {
        let name = format!("p{}", self.policies.len());
        let policy = json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec});
        self.policies.push(serde_json::from_value(policy).unwrap());
    }
}

/// The tiers of a name: `192.0.2.1*100 192.0.2.2*100 | …`.
fn answer(decision: &TrafficDecision, name: &str, rtype: RecordType) -> String {
    let record = decision
        .zones
        .iter()
        .flat_map(|zone| &zone.records)
        .find(|record| record.name == name && record.rtype == rtype);
    let choice = |choice: &Choice| format!("{}*{}", choice.data.join(","), choice.weight);
    let tier = |tier: &Tier| tier.choices.iter().map(choice).collect::<Vec<_>>().join(" ");
    record
        .map_or_else(|| "none".into(), |record| record.tiers.iter().map(tier).collect::<Vec<_>>().join(" | "))
}

/// What is wrong with a policy itself.
fn problems_of(decision: &TrafficDecision, namespace: &str, policy: &str) -> Vec<String> {
    decision.findings().remove(&(namespace, policy)).unwrap_or_default().problems
}

const WEB: &str = "web.shop.fed.svc.example.test.";

#[track_caller]
fn check(decision: &TrafficDecision, expect: &str) {
    assert_eq!(answer(decision, WEB, RecordType::A), expect, "{:#?}", decision.explanations);
}

#[test]
fn a_cluster_that_the_workloads_of_a_service_leave_is_not_answered_for_it_while_another_serves() {
    let mut world = World::new();
    world.step();
    world.backend("taiwan").leaving = true;
    let decision = world.step();
    assert!(!decision.points_at("shop", "web", "taiwan") && decision.points_at("shop", "web", "tokyo"));
    let why = decision.explanations.iter().find(|why| why.cluster == "taiwan").unwrap();
    assert_eq!((why.answered, why.rule), (false, "Draining"));
    // Its users have nowhere else to go.
    world.backend("tokyo").ready_endpoints = 0;
    assert!(world.step().points_at("shop", "web", "taiwan"));
}

#[test]
fn a_service_has_its_names_in_the_right_zones() {
    let decision = World::new().step();
    let origins: Vec<&str> = decision.zones.iter().map(|zone| zone.origin.as_str()).collect();
    assert_eq!(
        origins,
        [
            "fed.example.test.",
            "fed.svc.a.asia-east.example.test.",
            "fed.svc.a.asia-northeast.example.test.",
            "fed.svc.asia-east.example.test.",
            "fed.svc.asia-northeast.example.test.",
            "fed.svc.example.test.",
        ]
    );
    let both = "192.0.2.1*100 192.0.2.2*100";
    check(&decision, both);
    assert_eq!(answer(&decision, "web.shop.svc.fed.example.test.", RecordType::A), both);
    let near = |name: &str| answer(&decision, name, RecordType::A);
    assert_eq!(near("web.shop.fed.svc.asia-northeast.example.test."), "192.0.2.2*100 | 192.0.2.1*100");
    assert_eq!(near("web.shop.fed.svc.a.asia-east.example.test."), "192.0.2.1*100 | 192.0.2.2*100");
    assert_eq!(near("ns1.fed.example.test."), "192.0.2.53*1");
    for zone in &decision.zones {
        assert_eq!(
            (zone.serial, zone.negative_ttl, zone.hostmaster.as_str()),
            (7, 2, "hostmaster.fed.example.test.")
        );
        assert_eq!(zone.nameservers, ["ns1.fed.example.test."]);
        assert!(zone.records.iter().all(|record| record.name.ends_with(&zone.origin)));
    }
}

#[test]
fn a_cluster_that_does_not_serve_is_left_out() {
    let mut world = World::new();
    world.cluster("taiwan").verdict = Verdict::HubUnreachable;
    check(&world.step(), "192.0.2.2*100");
    let mut world = World::new();
    world.backend("taiwan").ready_endpoints = 0;
    check(&world.step(), "192.0.2.2*100");
    let mut world = World::new();
    world.backend("taiwan").absent = true;
    check(&world.step(), "192.0.2.2*100");
    let mut world = World::new();
    world.cluster("taiwan").weight = Some(0);
    check(&world.step(), "192.0.2.2*100");
    let mut world = World::new();
    world.backend("taiwan").addresses = vec!["load balancer".into()];
    let decision = world.step();
    check(&decision, "192.0.2.2*100");
    assert!(
        decision
            .explanations
            .iter()
            .any(|why| why.rule == "NoAddress" && why.message.contains("load balancer"))
    );
}

#[test]
fn when_nobody_serves_the_last_answer_stays() {
    let mut world = World::new();
    world.cluster("tokyo").verdict = Verdict::HubUnreachable;
    world.step();
    world.cluster("taiwan").verdict = Verdict::HubUnreachable;
    check(&world.step(), "192.0.2.1*100");
    check(&world.step(), "192.0.2.1*100");
    world.cluster("tokyo").verdict = Verdict::Healthy;
    check(&world.step(), "192.0.2.2*100");
    // A Service that was never answered has no name.
    let mut world = World::new();
    for name in ["taiwan", "tokyo"] {
        world.backend(name).ready_endpoints = 0;
    }
    check(&world.step(), "none");
}

#[test]
fn while_frozen_every_answer_stays() {
    let mut world = World::new();
    world.step();
    world.frozen = Some("mass failure");
    world.cluster("taiwan").verdict = Verdict::HubUnreachable;
    world.cluster("tokyo").verdict = Verdict::HubUnreachable;
    check(&world.step(), "192.0.2.1*100 192.0.2.2*100");
}

#[test]
fn a_restarted_controller_answers_as_before_until_it_has_heard_of_everybody() {
    let mut world = World::new();
    world.step();
    world.cluster("taiwan").verdict = Verdict::Unknown;
    world.cluster("tokyo").verdict = Verdict::Unknown;
    world.services[0].backends.remove("taiwan");
    check(&world.step(), "192.0.2.1*100 192.0.2.2*100");
    world.cluster("tokyo").verdict = Verdict::Healthy;
    check(&world.step(), "192.0.2.1*100 192.0.2.2*100");
    world.cluster("taiwan").verdict = Verdict::HubUnreachable;
    check(&world.step(), "192.0.2.2*100");
}

#[test]
fn a_draining_cluster_is_answered_only_while_nobody_else_serves() {
    let mut world = World::new();
    world.cluster("taiwan").draining = true;
    world.backend("tokyo").ready_endpoints = 0;
    let decision = world.step();
    check(&decision, "192.0.2.1*100");
    assert!(decision.points_at("shop", "web", "taiwan"));
    world.backend("tokyo").ready_endpoints = 1;
    let decision = world.step();
    check(&decision, "192.0.2.2*100");
    assert!(!decision.points_at("shop", "web", "taiwan"));
}

#[test]
fn failover_ranks_by_order_and_the_rest_comes_last() {
    let mut world = World::new();
    world.policy(json!({"service": "web", "strategy": "Failover", "order": ["tokyo"], "ttlSeconds": 9}));
    let decision = world.step();
    check(&decision, "192.0.2.2*100 | 192.0.2.1*100");
    assert_eq!(decision.answering["shop/p0"], ["tokyo"]);
    let zone = decision.zones.iter().find(|zone| zone.origin == "fed.svc.example.test.").unwrap();
    assert_eq!(zone.records[0].ttl, 9);
    world.cluster("tokyo").verdict = Verdict::ApiDown;
    assert_eq!(world.step().answering["shop/p0"], ["taiwan"]);
}

#[test]
fn weights_come_from_the_policy_then_from_the_cluster_and_never_empty_a_name() {
    let mut world = World::new();
    world.cluster("tokyo").weight = Some(7);
    world.policy(json!({"service": "web", "weights": {"taiwan": 3}}));
    check(&world.step(), "192.0.2.1*3 192.0.2.2*7");
    world.policies[0].spec.weights.insert("taiwan".into(), 0);
    let decision = world.step();
    check(&decision, "192.0.2.2*7");
    assert_eq!(decision.answering["shop/p0"], ["tokyo"]);
    world.backend("tokyo").ready_endpoints = 0;
    check(&world.step(), "192.0.2.1*1");
}

#[test]
fn both_families_are_answered_and_the_clusters_addresses_fill_in() {
    let mut world = World::new();
    world.backend("taiwan").addresses = vec!["192.0.2.1".into(), "2001:db8::1".into()];
    world.backend("tokyo").addresses.clear();
    world.cluster("tokyo").addresses = vec!["2001:db8::2".into()];
    let decision = world.step();
    check(&decision, "192.0.2.1*100");
    assert_eq!(answer(&decision, WEB, RecordType::Aaaa), "2001:db8::1*100 2001:db8::2*100");
}

#[test]
fn hostnames_are_inside_the_zone_and_belong_to_one_policy() {
    let mut world = World::new();
    let hostnames =
        json!(["shop", "WWW.fed.example.test", "fed.example.test.", "other.test.", "a_b", "x.svc"]);
    world.policy(json!({"service": "web", "hostnames": hostnames}));
    world.policy(json!({"service": "web", "hostnames": ["shop"]}));
    let decision = world.step();
    let both = "192.0.2.1*100 192.0.2.2*100";
    for name in ["shop.fed.example.test.", "www.fed.example.test.", "fed.example.test."] {
        assert_eq!(answer(&decision, name, RecordType::A), both, "{name}");
    }
    let refused: Vec<&str> = decision
        .explanations
        .iter()
        .filter(|why| why.rule == "Hostname")
        .map(|why| why.message.as_str())
        .collect();
    assert_eq!(refused.len(), 4, "{refused:#?}");
    assert!(refused[3].contains("the older TrafficPolicy shop/p0 has it"));
}

#[test]
fn a_hostname_may_stand_for_all_below_a_name() {
    let mut world = World::new();
    world.policy(json!({"service": "web", "hostnames": ["*.shop", "*", "a.*.b", "*.svc"],
        "serviceBindings": [{"alpn": ["h2"]}, {"prefix": "_8443._https"}]}));
    let decision = world.step();
    for name in ["*.shop.fed.example.test.", "*.fed.example.test."] {
        assert_eq!(answer(&decision, name, RecordType::A), "192.0.2.1*100 192.0.2.2*100", "{name}");
        assert!(answer(&decision, name, RecordType::Https).starts_with("1 . alpn=h2"), "{name}");
    }
    let problems = problems_of(&decision, "shop", "p0");
    assert_eq!(problems.len(), 4, "two hostnames, and a prefix in front of each wildcard: {problems:#?}");
}

#[test]
fn what_is_found_is_said_of_the_policy_that_it_is_about() {
    let mut world = World::new();
    world.policy(json!({"service": "web", "hostnames": ["www"]}));
    world.policy(json!({"service": "web", "hostnames": ["www"]}));
    world.policy(json!({"service": "other", "hostnames": ["www.other"]}));
    let decision = world.step();
    let findings = decision.findings();
    let clusters = |policy: &'static str| {
        let found = findings.get(&("shop", policy)).into_iter().flat_map(|found| &found.clusters);
        found.map(|cluster| cluster.name.as_str()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!((clusters("p0"), clusters("p1")), ("taiwan tokyo".into(), "taiwan tokyo".into()));
    assert_eq!(clusters("p2"), "", "there is no such Service");
    assert!(problems_of(&decision, "shop", "p1")[0].contains("the older TrafficPolicy shop/p0 has it"));
    assert!(problems_of(&decision, "shop", "p0").is_empty());
    assert!(problems_of(&decision, "other", "p1").is_empty(), "one of that name in another namespace");
}

#[test]
fn an_epoch_changes_nothing_of_a_decision_but_the_serials() {
    let mut world = World::new();
    world.policy(json!({"service": "web", "hostnames": ["www"]}));
    let decision = world.step();
    let mut later = decision.clone();
    later.set_epoch(8);
    assert!(later.zones.iter().all(|zone| zone.serial == serial(8)));
    assert!(later.zones != decision.zones);
    assert!(later.zones.iter().zip(&decision.zones).all(|(one, other)| one.says_the_same(other)));
    later.zones[0].default_ttl += 1;
    assert!(!later.zones[0].says_the_same(&decision.zones[0]));
    later.set_epoch(7);
    later.zones[0].default_ttl -= 1;
    assert_eq!(later, decision);
}

#[test]
fn serials_rise_with_epochs() {
    assert_eq!((serial(1), serial(7), serial(0), serial(1 << 32)), (1, 7, 1, 1));
    assert_eq!(TrafficInput::split_zone("fed.example.test."), Some(("fed", "example.test")));
    assert_eq!(TrafficInput::split_zone("fed"), None);
}
