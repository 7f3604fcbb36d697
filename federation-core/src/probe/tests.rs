//! Behaviour of the prober, with a simulated network. Each simulation prints its seed when it fails.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::api::{HealthCheck, Protocol as Spoken, TrafficPolicy, TrafficPolicySpec};
use crate::health::Outcome;

fn target(cluster: &str) -> Target {
    Target {
        key: Key { service: "default/web".into(), cluster: cluster.into() },
        addresses: vec!["192.0.2.1".parse().unwrap()],
        host: None,
        port: 80,
        check: Check::default(),
        alone: Alone { may_withdraw: true, min_clusters: 0, max_withdrawn_percent: 100 },
    }
}

/// A prober in a network where answers take 20 ms, and what is cut off is noticed only by the timeout.
struct Net {
    prober: Prober,
    now_ms: i64,
    cut: BTreeSet<String>,
    flying: Vec<(i64, Attempt, bool)>,
    starts: BTreeMap<String, Vec<i64>>,
}

impl Net {
    fn new(seed: u64, clusters: &[&str]) -> Self {
        let mut prober = Prober::new(seed);
        prober.set_targets(0, clusters.iter().map(|cluster| target(cluster)).collect());
        Self { prober, now_ms: 0, cut: BTreeSet::new(), flying: Vec::new(), starts: BTreeMap::new() }
    }

    /// Lets time pass until `stop` holds, at most until then; when it did.
    fn run(&mut self, until_ms: i64, mut stop: impl FnMut(&Prober) -> bool) -> i64 {
        while self.now_ms < until_ms && !stop(&self.prober) {
            self.now_ms += 1;
            let (done, flying) =
                std::mem::take(&mut self.flying).into_iter().partition(|(at, ..)| *at <= self.now_ms);
            self.flying = flying;
            let done: Vec<(i64, Attempt, bool)> = done;
            for (_, attempt, well) in done {
                let outcome = if well { Ok(20_000) } else { Err(Failure::Silence("timed out".into())) };
                self.prober.ended(self.now_ms, &attempt, Ended { outcome, certificate_not_after: None });
            }
            for attempt in self.prober.poll(self.now_ms) {
                let cluster = attempt.target.key.cluster.clone();
                let well = !self.cut.contains(&cluster);
                self.starts.entry(cluster).or_default().push(self.now_ms);
                self.flying.push((self.now_ms + if well { 20 } else { 700 }, attempt, well));
            }
        }
        self.now_ms
    }

    fn outcome(&self, cluster: &str) -> Outcome {
        self.prober.vote(&target(cluster).key).map(|vote| vote.outcome).unwrap_or_default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_stops_answering_is_down_within_three_seconds(seed: u64, at_ms in 3_000..6_000_i64) {
        let mut net = Net::new(seed, &["taiwan", "tokyo"]);
        net.run(at_ms, |_| false);
        prop_assert_eq!(net.outcome("taiwan"), Outcome::Up);
        net.cut.insert("taiwan".into());
        let key = target("taiwan").key;
        let down = net.run(at_ms + 10_000, |prober| prober.vote(&key).unwrap().outcome == Outcome::Down);
        // An answer may have been on its way; and a witness takes its 20 ms.
        prop_assert!(down - at_ms <= 2_860, "seed {seed}: {} ms", down - at_ms);
        prop_assert_eq!(net.outcome("tokyo"), Outcome::Up);
        net.cut.clear();
        let up = net.run(down + 10_000, |prober| prober.vote(&key).unwrap().outcome == Outcome::Up);
        prop_assert!(up - down <= 3_100, "seed {seed}: back after {} ms", up - down);
    }

    #[test]
    fn a_blip_of_a_second_turns_no_vote(seed: u64, at_ms in 3_000..6_000_i64, lasts_ms in 1..=BLIP_MS) {
        let mut net = Net::new(seed, &["taiwan", "tokyo"]);
        net.run(at_ms, |_| false);
        net.cut.insert("taiwan".into());
        let key = target("taiwan").key;
        let is_down = |prober: &Prober| prober.vote(&key).unwrap().outcome == Outcome::Down;
        net.run(at_ms + lasts_ms, is_down);
        net.cut.clear();
        net.run(at_ms + 5_000, is_down);
        prop_assert_eq!(net.now_ms, at_ms + 5_000, "seed {}: it was down", seed);
    }

    #[test]
    fn a_prober_that_reaches_nothing_doubts_itself(seed: u64, at_ms in 3_000..6_000_i64) {
        let mut net = Net::new(seed, &["osaka", "taiwan", "tokyo"]);
        net.run(at_ms, |_| false);
        net.cut.extend(["osaka", "taiwan", "tokyo"].map(str::to_owned));
        net.run(at_ms + 10_000, |prober| {
            prober.votes().any(|(_, vote)| vote.outcome == Outcome::Down)
        });
        for cluster in ["osaka", "taiwan", "tokyo"] {
            prop_assert_eq!(net.outcome(cluster), Outcome::Doubted, "seed {}: {}", seed, cluster);
        }
        // One that answers again is the witness against the others.
        net.cut.remove("tokyo");
        net.run(net.now_ms + 2_500, |_| false);
        prop_assert_eq!(net.outcome("taiwan"), Outcome::Down, "seed {}", seed);
    }

    #[test]
    fn no_target_is_probed_more_often_than_it_bears(
        seed: u64, cuts in prop::collection::vec((0..3_usize, any::<bool>(), 50..900_i64), 1..30)
    ) {
        let clusters = ["osaka", "taiwan", "tokyo"];
        let mut net = Net::new(seed, &clusters);
        for (which, cut, pause_ms) in cuts {
            if cut { net.cut.insert(clusters[which].into()); } else { net.cut.remove(clusters[which]); }
            net.run(net.now_ms + pause_ms, |_| false);
        }
        for (cluster, starts) in &net.starts {
            for pair in starts.windows(2) {
                prop_assert!(pair[1] - pair[0] >= GAP_MS, "seed {seed}: {cluster} at {pair:?}");
            }
        }
    }
}

#[test]
fn what_never_answered_is_no_vote() {
    let mut net = Net::new(1, &["taiwan", "tokyo"]);
    net.cut.insert("taiwan".into());
    net.run(10_000, |_| false);
    assert_eq!(net.outcome("taiwan"), Outcome::Unproven);
    assert!(net.prober.vote(&target("taiwan").key).unwrap().failures > 5);
}

#[test]
fn one_failure_turns_no_vote_but_is_told() {
    let mut prober = Prober::new(1);
    prober.set_targets(0, vec![target("taiwan")]);
    let mut now_ms = prober.next_deadline_ms().unwrap();
    let mut end = |prober: &mut Prober, outcome: Result<u32, Failure>| {
        let attempt = prober.poll(now_ms).pop().unwrap();
        now_ms += 10;
        prober.ended(now_ms, &attempt, Ended { outcome, certificate_not_after: None });
        now_ms = prober.next_deadline_ms().unwrap();
        prober.votes().next().map(|(_, vote)| (vote.outcome, vote.failures)).unwrap()
    };
    assert_eq!(end(&mut prober, Ok(9)), (Outcome::Up, 0));
    let before = prober.version();
    let refused = || Err(Failure::Refusal("refused".into()));
    assert_eq!(end(&mut prober, refused()), (Outcome::Up, 1));
    assert_ne!(prober.version(), before);
    assert_eq!(end(&mut prober, Ok(9)), (Outcome::Up, 0));
    // Two refusals are enough: it is tried again at once.
    assert_eq!(end(&mut prober, refused()), (Outcome::Up, 1));
    assert_eq!(end(&mut prober, refused()), (Outcome::Down, 2));
}

#[test]
fn probes_whose_end_nobody_tells_are_made_again() {
    let mut prober = Prober::new(1);
    prober.set_targets(0, vec![target("taiwan"), target("japan")]);
    let lost = prober.poll(10_000);
    assert_eq!((lost.len(), prober.next_deadline_ms()), (2, None));
    prober.abandon(10_000);
    assert!(prober.next_deadline_ms().is_some_and(|at| at < 20_000));
    assert_eq!(prober.poll(20_000).len(), 2);
}

#[test]
fn a_target_that_changed_its_address_keeps_what_is_known_and_one_with_another_check_does_not() {
    let mut net = Net::new(1, &["taiwan"]);
    net.run(3_000, |_| false);
    let mut moved = target("taiwan");
    moved.addresses = vec!["192.0.2.9".parse().unwrap()];
    net.prober.set_targets(net.now_ms, vec![moved.clone()]);
    assert_eq!(net.outcome("taiwan"), Outcome::Up);
    moved.check.timeout_ms = 100;
    net.prober.set_targets(net.now_ms, vec![moved]);
    assert_eq!(net.prober.vote(&target("taiwan").key), None);
    net.prober.set_targets(net.now_ms, vec![]);
    net.run(net.now_ms + 2_000, |_| false);
    assert_eq!((net.prober.votes().count(), net.prober.next_deadline_ms()), (0, None));
}

#[test]
fn what_is_down_stays_down_under_another_check_until_that_succeeds() {
    let mut net = Net::new(1, &["taiwan", "tokyo"]);
    net.run(3_000, |_| false);
    net.cut.insert("taiwan".into());
    net.run(9_000, |_| false);
    assert_eq!((net.outcome("taiwan"), net.outcome("tokyo")), (Outcome::Down, Outcome::Up));
    let changed = |cluster: &str| {
        let mut changed = target(cluster);
        changed.check.timeout_ms = 500;
        changed
    };
    net.prober.set_targets(net.now_ms, vec![changed("taiwan"), changed("tokyo")]);
    assert_eq!(net.outcome("taiwan"), Outcome::Down);
    assert_eq!(net.prober.vote(&target("tokyo").key), None, "nothing is known of this check there");
    net.run(net.now_ms + 5_000, |_| false);
    assert_eq!((net.outcome("taiwan"), net.outcome("tokyo")), (Outcome::Down, Outcome::Up));
    net.cut.clear();
    net.run(net.now_ms + 5_000, |_| false);
    assert_eq!(net.outcome("taiwan"), Outcome::Up);
    // Another load balancer is another target.
    net.cut.insert("taiwan".into());
    net.run(net.now_ms + 5_000, |_| false);
    assert_eq!(net.outcome("taiwan"), Outcome::Down);
    let mut elsewhere = changed("taiwan");
    elsewhere.host = Some("lb.example.net.".into());
    net.prober.set_targets(net.now_ms, vec![elsewhere]);
    assert_eq!(net.prober.vote(&target("taiwan").key), None);
}

#[test]
fn no_more_targets_are_probed_than_there_may_be_nor_more_at_once() {
    let mut prober = Prober::new(1);
    let many = (0..TARGETS_MAX + 3).map(|number| Target {
        key: Key { service: format!("default/web-{number}"), cluster: "taiwan".into() },
        ..target("taiwan")
    });
    prober.set_targets(0, many.collect());
    assert_eq!(prober.dropped(), 3);
    let attempts = prober.poll(5_000);
    assert_eq!((attempts.len(), prober.next_deadline_ms()), (IN_FLIGHT_MAX, None));
    prober.ended(5_001, &attempts[0], Ended { outcome: Ok(1), certificate_not_after: None });
    assert_eq!(prober.poll(5_001).len(), 1);
}

fn service() -> ProbedService {
    let reached = |address: &str| Reached { addresses: vec![address.parse().unwrap()], ..Reached::default() };
    ProbedService {
        namespace: "default".into(),
        name: "web".into(),
        port: Some(("http".into(), 8080)),
        clusters: BTreeMap::from([
            ("taiwan".to_owned(), reached("192.0.2.1")),
            (
                "tokyo".to_owned(),
                Reached { ports: BTreeMap::from([("http".into(), 30080)]), ..reached("192.0.2.2") },
            ),
            ("osaka".to_owned(), Reached { unready: true, ..reached("192.0.2.3") }),
        ]),
    }
}

#[test]
fn a_service_without_a_policy_is_probed_by_a_connection_where_users_reach_it() {
    let found = targets(&[service()], &[]);
    let short: Vec<_> = found.iter().map(|target| (target.key.cluster.as_str(), target.port)).collect();
    assert_eq!(short, [("taiwan", 8080), ("tokyo", 30080)], "osaka says itself that it is not ready");
    assert!(found.iter().all(|target| target.check.protocol == Protocol::Tcp && target.alone.may_withdraw));
}

#[test]
fn a_policy_says_how_its_service_is_probed() {
    let mut policy = TrafficPolicy::new(
        "web",
        TrafficPolicySpec {
            service: "web".into(),
            hostnames: vec!["www.fed.example.test".into()],
            health_check: Some(HealthCheck {
                protocol: Spoken::Https,
                port: Some(8443),
                interval_millis: Some(20_000),
                withdraw_without_hub: Some(false),
                ..HealthCheck::default()
            }),
            ..TrafficPolicySpec::default()
        },
    );
    policy.metadata.namespace = Some("default".into());
    let found = targets(&[service()], std::slice::from_ref(&policy));
    assert_eq!((found.len(), found[0].port, found[0].alone.may_withdraw), (2, 8443, false));
    assert_eq!(found[0].check.vote_life_ms(), 60_700);
    let Protocol::Https { get, verify } = &found[0].check.protocol else { panic!("{found:?}") };
    assert_eq!((get.host.as_str(), get.path.as_str(), *verify), ("www.fed.example.test", "/", false));
    assert!(get.expects(204) && !get.expects(500));
    policy.spec.health_check = Some(HealthCheck { protocol: Spoken::None, ..HealthCheck::default() });
    assert!(targets(&[service()], &[policy]).is_empty());
}

#[test]
fn nothing_on_the_probers_own_link_is_probed_whatever_a_member_publishes() {
    let mut published = service();
    for reached in published.clusters.values_mut() {
        reached.addresses =
            "169.254.169.254 fe80::1 ::ffff:169.254.169.254 64:ff9b::a9fe:a9fe 0.0.0.0 224.0.0.1 fd00:ec2::254 fd20:ce::254 100.100.100.200 192.0.2.7"
                .split(' ')
                .map(|text| text.parse().unwrap())
                .collect();
    }
    for target in targets(&[published.clone()], &[]) {
        assert_eq!(target.addresses, ["192.0.2.7".parse::<std::net::IpAddr>().unwrap()]);
    }
    for reached in published.clusters.values_mut() {
        reached.addresses.pop();
    }
    assert!(targets(&[published], &[]).is_empty());
}

#[test]
fn a_load_balancer_that_says_a_name_is_probed_by_it() {
    let mut published = service();
    let tokyo = published.clusters.get_mut("tokyo").unwrap();
    tokyo.addresses.clear();
    tokyo.host = Some("lb-1.elb.example.net.".into());
    let found = targets(std::slice::from_ref(&published), &[]);
    let of = |found: &[Target]| found.iter().find(|target| target.key.cluster == "tokyo").unwrap().clone();
    let tokyo = of(&found);
    assert_eq!((tokyo.host.as_deref(), tokyo.port), (Some("lb-1.elb.example.net."), 30080));
    assert!(tokyo.addresses.is_empty());
    // Whom nobody gives another name is asked by its own.
    let spec = TrafficPolicySpec {
        service: "web".into(),
        health_check: Some(HealthCheck { protocol: Spoken::Https, ..HealthCheck::default() }),
        ..TrafficPolicySpec::default()
    };
    let mut policy = TrafficPolicy::new("web", spec);
    policy.metadata.namespace = Some("default".into());
    let asked = |policy: &TrafficPolicy| {
        let found = targets(std::slice::from_ref(&published), std::slice::from_ref(policy));
        let Protocol::Https { get, .. } = of(&found).check.protocol else { panic!("{found:?}") };
        get.host
    };
    assert_eq!(asked(&policy), "lb-1.elb.example.net");
    policy.spec.hostnames = vec!["www.fed.example.test".into()];
    assert_eq!(asked(&policy), "www.fed.example.test");
}

#[test]
fn what_was_seen_at_an_address_is_not_known_of_a_name() {
    let mut prober = Prober::new(1);
    let key = target("taiwan").key;
    let outcome = |prober: &Prober| prober.vote(&key).map(|vote| vote.outcome);
    let turn = |prober: &mut Prober, now_ms: i64, outcome: Result<u32, Failure>| {
        let attempts = prober.poll(now_ms);
        let [attempt] = attempts.as_slice() else { panic!("not due at {now_ms}") };
        prober.ended(now_ms, attempt, Ended { outcome, certificate_not_after: None });
    };
    prober.set_targets(0, vec![target("taiwan")]);
    turn(&mut prober, 5_000, Ok(1));
    assert_eq!(outcome(&prober), Some(Outcome::Up));
    let named = |host: &str| Target { addresses: Vec::new(), host: Some(host.into()), ..target("taiwan") };
    prober.set_targets(6_000, vec![named("lb.example.net.")]);
    let unknown = || Err(Failure::Refusal("there is no such name".into()));
    turn(&mut prober, 20_000, unknown());
    turn(&mut prober, 40_000, unknown());
    assert_eq!(outcome(&prober), Some(Outcome::Unproven), "this prober's resolver may not know the name");
    turn(&mut prober, 60_000, Ok(1));
    assert_eq!(outcome(&prober), Some(Outcome::Up));
    let (mut now_ms, mut tries) = (80_000, 0);
    while outcome(&prober) == Some(Outcome::Up) {
        turn(&mut prober, now_ms, unknown());
        (now_ms, tries) = (now_ms + 20_000, tries + 1);
        assert!(tries < 10);
    }
    assert_eq!(outcome(&prober), Some(Outcome::Down));
}
