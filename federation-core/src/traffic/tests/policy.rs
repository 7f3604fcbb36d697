//! Behaviour of the steps that a TrafficPolicy asks for: each alone, and together.

use serde_json::json;

use super::*;

impl World {
    /// With Osaka, which serves at 192.0.2.3 from Tokyo's region.
    fn three() -> Self {
        let mut world = Self::new();
        let osaka = ClusterTraffic { zone: "b".into(), ..world.clusters["tokyo"].clone() };
        world.clusters.insert("osaka".into(), osaka);
        let backend =
            Backend { ready_endpoints: 1, addresses: vec!["192.0.2.3".into()], ..Backend::default() };
        world.services[0].backends.insert("osaka".into(), backend);
        world
    }

    fn after(&mut self, seconds: i64) -> TrafficDecision {
        self.now_ms += seconds * 1000;
        self.step()
    }

    fn spec(&mut self) -> &mut crate::api::TrafficPolicySpec {
        &mut self.policies[0].spec
    }

    fn switch(&mut self, cluster: &str, switch: serde_json::Value) {
        self.spec().overrides.insert(cluster.into(), serde_json::from_value(switch).unwrap());
    }

    fn regions(&mut self, regions: serde_json::Value) {
        let object = json!({"metadata": {"name": "all"}, "spec": {"regions": regions}});
        self.places = Places::new(&[serde_json::from_value(object).unwrap()]);
    }
}

fn record<'a>(decision: &'a TrafficDecision, name: &str) -> &'a RecordSet {
    let mut records = decision.zones.iter().flat_map(|zone| &zone.records);
    records.find(|record| record.name == name && record.rtype == RecordType::A).unwrap()
}

/// What clients of a region get, as [`answer`].
fn answer_in(decision: &TrafficDecision, region: &str) -> String {
    let tier = |tier: &Tier| {
        let of = |choice: &Choice| format!("{}*{}", choice.data.join(","), choice.weight);
        tier.choices.iter().map(of).collect::<Vec<_>>().join(" ")
    };
    record(decision, WEB).tiers_for(Some(region)).iter().map(tier).collect::<Vec<_>>().join(" | ")
}

fn rule<'a>(decision: &'a TrafficDecision, cluster: &str) -> &'a str {
    decision.explanations.iter().find(|why| why.cluster == cluster).unwrap().rule
}

#[test]
fn tiers_are_of_any_depth_and_compose_with_weights() {
    let mut world = World::three();
    world.policy(json!({"service": "web", "weights": {"osaka": 300},
        "tiers": [{"regions": ["asia-northeast"]}, {"clusters": ["taiwan"]}]}));
    check(&world.step(), "192.0.2.3*300 192.0.2.2*100 | 192.0.2.1*100");
    world.backend("osaka").ready_endpoints = 0;
    world.backend("tokyo").ready_endpoints = 0;
    check(&world.step(), "192.0.2.1*100");
}

#[test]
fn a_tier_in_panic_comes_last_or_ignores_health() {
    let mut world = World::three();
    world.policy(
        json!({"service": "web", "tiers": [{"regions": ["asia-northeast"]}], "health": {"panicPercent": 60}}),
    );
    world.step();
    world.backend("osaka").ready_endpoints = 0;
    // Half of the first tier serves, which is less than 60 %.
    check(&world.step(), "192.0.2.1*100 | 192.0.2.2*100");
    world.spec().health.on_panic = crate::api::PanicRule::IgnoreHealth;
    let decision = world.step();
    check(&decision, "192.0.2.3*100 192.0.2.2*100 | 192.0.2.1*100");
    assert_eq!(rule(&decision, "osaka"), "Panic");
    assert!(decision.points_at("shop", "web", "osaka"), "who is answered is not left");
    world.spec().health.panic_percent = Some(50);
    check(&world.step(), "192.0.2.2*100 | 192.0.2.1*100");
}

#[test]
fn when_all_are_down_the_policy_says_what_is_answered() {
    let all_down = |health: serde_json::Value| {
        let mut world = World::new();
        world.policy(json!({"service": "web", "health": health}));
        world.cluster("tokyo").verdict = Verdict::ApiDown;
        world.step();
        world.cluster("taiwan").verdict = Verdict::ApiDown;
        let decision = world.step();
        // And again: it does not forget.
        assert_eq!(world.step().zones, decision.zones);
        world.cluster("tokyo").verdict = Verdict::Healthy;
        check(&world.step(), "192.0.2.2*100");
        decision
    };
    check(&all_down(json!({})), "192.0.2.1*100");
    check(&all_down(json!({"allDown": "All"})), "192.0.2.1*100 192.0.2.2*100");
    check(&all_down(json!({"allDown": "Fallback", "fallback": ["192.0.2.9"]})), "192.0.2.9*1");
    let decision = all_down(json!({"allDown": "NoData"}));
    check(&decision, "*1");
    assert!(record(&decision, WEB).tiers[0].choices[0].data.is_empty(), "the name exists without an address");
}

#[test]
fn a_cluster_that_comes_back_too_early_is_held_back() {
    let mut world = World::new();
    world.policy(json!({"service": "web", "health": {"minimumHoldSeconds": 60}, "ttlSeconds": 40}));
    world.step();
    world.cluster("taiwan").verdict = Verdict::ApiDown;
    check(&world.step(), "192.0.2.2*100");
    world.cluster("taiwan").verdict = Verdict::Healthy;
    let decision = world.after(20);
    check(&decision, "192.0.2.2*100");
    assert_eq!(rule(&decision, "taiwan"), "Hold");
    // 40 s are left, and the TTL fits; half a minute later it does not.
    assert_eq!(record(&decision, WEB).ttl, 40);
    assert_eq!(record(&world.after(15), WEB).ttl, 20);
    let decision = world.after(25);
    check(&decision, "192.0.2.1*100 192.0.2.2*100");
    assert_eq!(record(&decision, WEB).ttl, 40);
    // Nobody is held back where nobody else serves.
    world.cluster("taiwan").verdict = Verdict::ApiDown;
    world.step();
    world.cluster("taiwan").verdict = Verdict::Healthy;
    world.cluster("tokyo").verdict = Verdict::ApiDown;
    check(&world.step(), "192.0.2.1*100");
}

#[test]
fn users_come_slowly_and_leave_slowly() {
    let mut world = World::new();
    world.policy(json!({"service": "web", "health": {"slowStartSeconds": 100, "drainSeconds": 100}}));
    check(&world.step(), "192.0.2.1*100 192.0.2.2*100");
    world.cluster("taiwan").verdict = Verdict::ApiDown;
    world.step();
    world.cluster("taiwan").verdict = Verdict::Healthy;
    let decision = world.step();
    check(&decision, "192.0.2.1*100 192.0.2.2*1000");
    assert_eq!(decision.next_ms, Some(world.now_ms + 10_000));
    check(&world.after(10), "192.0.2.1*200 192.0.2.2*1000");
    check(&world.after(90), "192.0.2.1*100 192.0.2.2*100");
    world.cluster("tokyo").draining = true;
    check(&world.step(), "192.0.2.1*100 192.0.2.2*100");
    let decision = world.after(55);
    check(&decision, "192.0.2.1*1000 192.0.2.2*500");
    assert!(decision.points_at("shop", "web", "tokyo"));
    assert_eq!(record(&decision, WEB).ttl, 5);
    // Just before the end answers live no longer than until then.
    assert_eq!(record(&world.after(43), WEB).ttl, 2);
    let decision = world.after(2);
    check(&decision, "192.0.2.1*100");
    assert!(!decision.points_at("shop", "web", "tokyo"));
}

#[test]
fn a_clock_that_is_set_back_makes_holds_and_drains_begin_anew_and_no_longer() {
    let mut world = World::new();
    world.now_ms = 1_800_000_000_000;
    world.policy(json!({"service": "web", "health": {"minimumHoldSeconds": 60, "drainSeconds": 100}}));
    world.step();
    world.cluster("taiwan").verdict = Verdict::ApiDown;
    world.step();
    world.cluster("taiwan").verdict = Verdict::Healthy;
    assert_eq!(rule(&world.after(-900), "taiwan"), "Hold");
    check(&world.after(60), "192.0.2.1*100 192.0.2.2*100");
    world.cluster("tokyo").draining = true;
    world.after(0);
    assert!(world.after(-900).points_at("shop", "web", "tokyo"));
    assert!(world.after(98).points_at("shop", "web", "tokyo"));
    assert!(!world.after(2).points_at("shop", "web", "tokyo"));
}

#[test]
fn safety_rules_bind_automation_but_not_hands() {
    let mut world = World::three();
    world.policy(json!({"service": "web", "safety": {"maxWithdrawnPercent": 40, "windowSeconds": 60}}));
    world.step();
    for name in ["osaka", "taiwan"] {
        world.cluster(name).verdict = Verdict::ApiDown;
    }
    let decision = world.step();
    check(&decision, "192.0.2.1*100 192.0.2.2*100");
    assert_eq!(rule(&decision, "taiwan"), "WithdrawalLimit");
    // The TTL of 5 s is too long from then on.
    assert_eq!(decision.next_ms, Some(world.now_ms + 55_001));
    check(&world.after(59), "192.0.2.1*100 192.0.2.2*100");
    // One of two is more than 40 %: it stays until somebody says so.
    check(&world.after(2), "192.0.2.1*100 192.0.2.2*100");
    world.switch("taiwan", json!({"state": "Off", "reason": "it is dead", "by": "alice"}));
    check(&world.step(), "192.0.2.2*100");

    let mut world = World::three();
    world.policy(json!({"service": "web", "safety": {"minClusters": 2}}));
    world.step();
    for name in ["osaka", "taiwan"] {
        world.cluster(name).verdict = Verdict::ApiDown;
    }
    let decision = world.step();
    check(&decision, "192.0.2.3*100 192.0.2.2*100");
    assert_eq!(rule(&decision, "osaka"), "MinClusters");
}

#[test]
fn switches_outrank_automation_until_they_expire() {
    let mut world = World::new();
    world.policy(json!({"service": "web"}));
    world.step();
    let until = "1970-01-01T00:17:40Z";
    world.switch("taiwan", json!({"state": "Off", "reason": "maintenance", "by": "alice", "until": until}));
    world.cluster("tokyo").verdict = Verdict::ApiDown;
    let decision = world.step();
    // Taiwan is off by hand, and the last answer of the others stays.
    check(&decision, "192.0.2.2*100");
    let why = decision.explanations.iter().find(|why| why.cluster == "taiwan").unwrap();
    assert_eq!((why.rule, why.message.as_str()), ("SwitchedOff", "by alice: maintenance"));
    assert_eq!(decision.next_ms, Some(1_060_000 - 5_000 + 1));
    world.frozen = Some("mass failure");
    check(&world.step(), "192.0.2.2*100");
    world.frozen = None;
    world.now_ms = 1_060_000;
    check(&world.step(), "192.0.2.1*100");
    // On: whatever its health.
    world.spec().overrides.clear();
    world.switch("tokyo", json!({"state": "On", "reason": "the check is wrong"}));
    check(&world.step(), "192.0.2.1*100 192.0.2.2*100");
    // Everything off: the name stays, without an address.
    for name in ["taiwan", "tokyo"] {
        world.switch(name, json!({"state": "Off", "reason": "a test"}));
    }
    check(&world.step(), "*1");
}

#[test]
fn probes_are_believed_over_silence_and_over_the_agent() {
    let probe = |passing| Some(Probe { passing, age_ms: 500, message: "3 of 3 see it".into() });
    let mut world = World::new();
    world.step();
    world.cluster("taiwan").verdict = Verdict::HubUnreachable;
    world.backend("taiwan").probe = probe(true);
    world.backend("tokyo").probe = probe(false);
    let decision = world.step();
    check(&decision, "192.0.2.1*100");
    assert_eq!((rule(&decision, "taiwan"), rule(&decision, "tokyo")), ("ProbesPass", "ProbesFail"));
    // Old probes say nothing.
    for name in ["taiwan", "tokyo"] {
        world.backend(name).probe.as_mut().unwrap().age_ms = PROBE_STALE_MS + 1;
    }
    check(&world.step(), "192.0.2.2*100");
}

#[test]
fn a_verdict_that_wavers_shortens_answers() {
    let mut world = World::new();
    world.policy(json!({"service": "web", "ttlSeconds": 60, "minTtlSeconds": 4}));
    world.cluster("taiwan").turn_ms = Some(world.now_ms + 2000);
    assert_eq!(record(&world.step(), WEB).ttl, 4);
    world.cluster("taiwan").turn_ms = None;
    assert_eq!(record(&world.step(), WEB).ttl, 60);
}

#[test]
fn clients_get_their_region_first() {
    let mut world = World::three();
    world.policy(json!({"service": "web", "proximity": "Region", "tiers": [{"clusters": ["tokyo"]}]}));
    world.regions(json!({"asia-east": {"prefixes": ["203.0.113.0/24"]}, "asia-northeast": {"prefixes": ["198.51.100.0/24"]},
        "europe": {"prefixes": ["2001:db8::/32"]}}));
    let decision = world.step();
    check(&decision, "192.0.2.2*100 | 192.0.2.3*100 192.0.2.1*100");
    // Nearness ranks first, and the tiers within each rank.
    assert_eq!(answer_in(&decision, "asia-east"), "192.0.2.1*100 | 192.0.2.2*100 | 192.0.2.3*100");
    assert_eq!(answer_in(&decision, "asia-northeast"), "192.0.2.2*100 | 192.0.2.3*100 | 192.0.2.1*100");
    assert_eq!(answer_in(&decision, "europe"), answer(&decision, WEB, RecordType::A));
    let named: Vec<&[String]> =
        record(&decision, WEB).variants.iter().map(|variant| variant.regions.as_slice()).collect();
    assert_eq!(named, [["asia-east"], ["asia-northeast"]], "what is no different needs no variant");

    let found = lookup(&decision, &world.places, WEB, Some("203.0.113.7".parse().unwrap())).unwrap();
    assert_eq!((found.region, found.scope, found.policy), (Some("asia-east"), 24, "p0"));
    let osaka = found.reasons.iter().find(|reason| reason.cluster == "osaka").unwrap();
    assert_eq!((osaka.tier, osaka.share), (Some(2), (100, 100)));
    assert!(matches!(lookup(&decision, &world.places, "x.test", None), Err(LookupError::Outside(..))));
    assert!(matches!(
        lookup(&decision, &world.places, "x.fed.svc.example.test", None),
        Err(LookupError::Unknown(..))
    ));
}

/// The scope is of the piece that is left between other regions, not of the prefix; and there is one for clients of no region, too.
#[test]
fn the_scope_is_of_those_who_are_answered_alike() {
    let mut world = World::three();
    world.regions(json!({"asia": {"prefixes": ["198.51.0.0/16"]}, "europe": {"prefixes": ["198.51.100.0/24", "2001:db8::/32"]}}));
    for (client, scope) in [
        ("198.51.100.7", 24),
        ("198.51.101.7", 24),
        ("198.51.200.0/24", 17),
        ("198.51.0.0/16", 18),
        ("203.0.113.7", 5),
        ("0.0.0.0/0", 1),
        ("2001:db8:1::/48", 32),
        ("2001:db9::1", 32),
        ("fe00::1", 1),
    ] {
        assert_eq!(world.places.scope_of(client.parse().unwrap()), scope, "{client}");
    }
}

#[test]
fn the_nearest_region_is_the_declared_one_then_the_closest() {
    let mut world = World::three();
    world.cluster("osaka").region = "us-west".into();
    world.policy(json!({"service": "web", "proximity": "Nearest"}));
    world.regions(json!({
        "manila": {"prefixes": ["203.0.113.0/24"], "location": "14.6,121.0"},
        "europe": {"prefixes": ["2001:db8::/32"], "location": "50.1,8.7", "nearest": ["us-west"]},
        "asia-east": {"location": "25.0,121.5"}, "asia-northeast": {"location": "35.7,139.7"},
        "us-west": {"location": "45.6,-121.2"},
    }));
    let decision = world.step();
    assert_eq!(answer_in(&decision, "manila"), "192.0.2.1*100 | 192.0.2.2*100 | 192.0.2.3*100");
    assert_eq!(answer_in(&decision, "europe"), "192.0.2.3*100 | 192.0.2.2*100 | 192.0.2.1*100");
    world.spec().proximity = crate::api::Proximity::Latency;
    let sample = |to, rtt_us| Sample { from: "manila", to, rtt_us };
    world.latency.observe(sample("asia-northeast", 40_000), world.now_ms);
    world.latency.observe(sample("asia-east", 60_000), world.now_ms);
    assert_eq!(answer_in(&world.step(), "manila"), "192.0.2.2*100 | 192.0.2.1*100 | 192.0.2.3*100");
}

#[test]
fn what_cannot_be_used_of_client_regions_is_told() {
    let object = |name: &str, regions: serde_json::Value| {
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"regions": regions}})).unwrap()
    };
    let places = Places::new(&[
        object("b", json!({"west": {"prefixes": ["192.0.2.0/24", "192.0.2.1/24"], "countries": ["TW"]}})),
        object(
            "a",
            json!({"east": {"prefixes": ["192.0.2.0/24", "192.0.0.0/16"], "vantages": ["dns-1"]}, "a b": {}}),
        ),
    ]);
    assert_eq!(places.region_of("192.0.2.9/32".parse().unwrap()), Some(("east", 24)));
    assert_eq!(places.region_of("192.0.3.0/24".parse().unwrap()), Some(("east", 16)));
    assert_eq!(places.region_of("192.0.0.0/8".parse().unwrap()), None);
    assert_eq!(places.region_of_vantage("dns-1"), Some("east"));
    assert_eq!(places.client_regions().into_iter().collect::<Vec<_>>(), ["east", "west"]);
    assert_eq!((places.problems["a"].len(), places.problems["b"].len()), (1, 2));
    // Each of these would have DNS servers refuse the whole table, and every answer with it.
    let refused = json!({"prefixes": ["::ffff:192.0.2.0/120", "::1/128"], "countries": ["tw", "TWN", "JP"], "continents": ["as", "AS"]});
    let places = Places::new(&[object("c", json!({"west": refused}))]);
    assert_eq!(places.problems["c"].len(), 4, "{:?}", places.problems);
    assert_eq!((places.prefixes.len(), places.countries.len(), places.continents.len()), (1, 1, 1));
}

#[test]
fn a_policy_says_how_many_and_whether_they_stick() {
    let mut world = World::three();
    world.policy(json!({"service": "web", "picks": 2}));
    let decision = world.step();
    let (selection, picks) = (record(&decision, WEB).selection, record(&decision, WEB).picks);
    assert_eq!((selection, picks), (Selection::Weighted, 2));
    world.spec().strategy = crate::api::Strategy::Sticky;
    let decision = world.step();
    let (selection, picks) = (record(&decision, WEB).selection, record(&decision, WEB).picks);
    assert_eq!((selection, picks), (Selection::Sticky, 1));
}

#[test]
fn a_new_policy_begins_with_what_was_answered() {
    let mut world = World::new();
    world.step();
    world.policy(json!({"service": "web", "health": {"slowStartSeconds": 100}}));
    world.cluster("taiwan").verdict = Verdict::ApiDown;
    world.cluster("tokyo").verdict = Verdict::ApiDown;
    check(&world.step(), "192.0.2.1*100 192.0.2.2*100");
    let kept: Memory = serde_json::from_str(&serde_json::to_string(&world.previous).unwrap()).unwrap();
    assert_eq!(kept, world.previous, "what is kept survives a restart");
}
