//! Property tests over random histories of traffic. A failing one prints its seed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::api::{AllDownRule, TrafficPolicySpec, Verdict};

/// SplitMix64: the histories are the same on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % below.max(1)
    }

    fn flip(&mut self, percent: u64) -> bool {
        self.roll(100) < percent
    }
}

const CLUSTERS: usize = 6;

/// One Service in six clusters of three regions, whose states change at random.
struct History {
    dice: Dice,
    now_ms: i64,
    service: ServiceView,
    clusters: BTreeMap<String, ClusterTraffic>,
    policy: TrafficPolicy,
    places: Places,
    latency: Latency,
    memory: Memory,
    frozen: Option<&'static str>,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let names: Vec<String> = (0..CLUSTERS).map(|index| format!("c{index}")).collect();
        let backend = |index: usize| Backend {
            ready_endpoints: 1,
            addresses: vec![IpAddr::V4(Ipv4Addr::new(192, 0, 2, index as u8 + 1)).to_string()],
            ..Backend::default()
        };
        let cluster = |index: usize| ClusterTraffic {
            verdict: Verdict::Healthy,
            region: format!("r{}", index % 3),
            ..ClusterTraffic::default()
        };
        let spec = Self::spec(&mut dice);
        let policy = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec});
        let regions = json!({"metadata": {"name": "all"}, "spec": {"regions": {
            "r0": {"prefixes": ["192.0.2.0/25"], "nearest": ["r2"]},
            "r1": {"prefixes": ["192.0.2.128/25"], "location": "0,0"},
            "r2": {"prefixes": ["2001:db8::/32"], "location": "10,10"},
        }}});
        Self {
            now_ms: 1_000_000_000,
            service: ServiceView {
                namespace: "shop".into(),
                name: "web".into(),
                ports: Vec::new(),
                backends: names.iter().enumerate().map(|(at, name)| (name.clone(), backend(at))).collect(),
            },
            clusters: names.iter().enumerate().map(|(at, name)| (name.clone(), cluster(at))).collect(),
            policy: serde_json::from_value(policy).unwrap(),
            places: Places::new(&[serde_json::from_value(regions).unwrap()]),
            latency: Latency::default(),
            memory: Memory::default(),
            frozen: None,
            dice,
        }
    }

    /// Any policy, but without switches.
    fn spec(dice: &mut Dice) -> TrafficPolicySpec {
        let one_of = |dice: &mut Dice, all: &[&str]| all[dice.roll(all.len() as u64) as usize].to_owned();
        let mut spec = json!({
            "service": "web",
            "strategy": one_of(dice, &["Weighted", "Failover", "All", "Sticky"]),
            "proximity": one_of(dice, &["None", "Region", "Nearest", "Latency"]),
            "ttlSeconds": 1 + dice.roll(120),
            "health": {
                "panicPercent": dice.roll(101),
                "onPanic": one_of(dice, &["NextTier", "IgnoreHealth"]),
                "minimumHoldSeconds": dice.roll(3) * 20,
                "slowStartSeconds": dice.roll(3) * 30,
                "drainSeconds": dice.roll(3) * 30,
            },
            "weights": {"c0": dice.roll(4), "c1": 7, "c2": 1000},
        });
        if dice.flip(50) {
            spec["tiers"] = json!([{"regions": ["r1"]}, {"clusters": ["c0", "c5"]}]);
        }
        if dice.flip(50) {
            spec["safety"] = json!({"minClusters": dice.roll(4), "maxWithdrawnPercent": 1 + dice.roll(100),
                "windowSeconds": 10 + dice.roll(60)});
        }
        serde_json::from_value(spec).unwrap()
    }

    fn decide(&self) -> TrafficDecision {
        zones(&TrafficInput {
            federation: "fed",
            suffix: "example.test",
            clusterset: None,
            nameservers: &[],
            hostmaster: "",
            ttl_seconds: 5,
            negative_ttl_seconds: 2,
            services: std::slice::from_ref(&self.service),
            clusters: &self.clusters,
            policies: std::slice::from_ref(&self.policy),
            places: &self.places,
            latency: &self.latency,
            previous: &self.memory,
            epoch: 7,
            frozen: self.frozen,
            now_ms: self.now_ms,
        })
    }

    /// Decides, and keeps what is to be kept.
    fn step(&mut self) -> TrafficDecision {
        let decision = self.decide();
        self.memory = decision.memory.clone();
        decision
    }

    /// Something happens to one cluster, and some time passes.
    fn happen(&mut self) {
        self.now_ms += self.dice.roll(15_000) as i64;
        let name = format!("c{}", self.dice.roll(CLUSTERS as u64));
        let what = self.dice.roll(10);
        let well = self.dice.flip(50);
        let (cluster, backend) =
            (self.clusters.get_mut(&name).unwrap(), self.service.backends.get_mut(&name).unwrap());
        match what {
            0..=3 => cluster.verdict = if well { Verdict::Healthy } else { Verdict::HubUnreachable },
            4 => cluster.verdict = Verdict::Unknown,
            5 | 6 => backend.ready_endpoints = u32::from(well),
            7 => {
                let probe = Probe { passing: well, age_ms: 0, message: "probed".into() };
                backend.probe = (!well || probe.passing).then_some(probe);
            }
            8 => cluster.draining = !well,
            _ => self.frozen = (!well && self.frozen.is_none()).then_some("mass failure"),
        }
    }
}

fn records(decision: &TrafficDecision) -> impl Iterator<Item = &RecordSet> {
    decision.zones.iter().flat_map(|zone| &zone.records)
}

fn all_tiers(record: &RecordSet) -> impl Iterator<Item = &Tier> {
    record.tiers.iter().chain(record.variants.iter().flat_map(|variant| &variant.tiers))
}

#[test]
fn automation_never_empties_a_name() {
    for seed in 0..60 {
        let mut history = History::new(seed);
        history.step();
        for round in 0..60 {
            history.happen();
            let decision = history.step();
            let name = "web.shop.fed.svc.example.test.";
            let record = records(&decision).find(|record| record.name == name);
            let record = record.unwrap_or_else(|| panic!("seed {seed}, round {round}: the name is gone"));
            assert!(!record.tiers.is_empty(), "seed {seed}, round {round}");
            for tier in all_tiers(record) {
                assert!(!tier.choices.is_empty(), "seed {seed}, round {round}: an empty tier");
                for choice in &tier.choices {
                    assert!(!choice.data.is_empty() && choice.weight > 0, "seed {seed}, round {round}");
                }
            }
        }
    }
}

#[test]
fn weights_are_exact_but_for_ramps() {
    for seed in 0..60 {
        let mut history = History::new(seed);
        history.step();
        for round in 0..40 {
            history.happen();
            let decision = history.step();
            let front = &decision.memory.fronts["shop/web/web"];
            let slow_ms = i64::from(history.policy.spec.health.slow_start_seconds.unwrap_or(0)) * 1000;
            let ramps = |cluster: &str| {
                let memory = &front.clusters[cluster];
                memory.drain_ms.is_some() || memory.since_ms + slow_ms > history.now_ms
            };
            for tier in records(&decision).flat_map(all_tiers) {
                // Clusters that do not ramp have exactly the ratio that the policy says.
                let steady: Vec<(u64, u64)> = tier
                    .choices
                    .iter()
                    .filter(|choice| !ramps(&choice.cluster))
                    .map(|choice| {
                        let said = history.policy.spec.weights.get(&choice.cluster).copied();
                        (u64::from(choice.weight), u64::from(said.unwrap_or(DEFAULT_WEIGHT)))
                    })
                    .collect();
                if history.policy.spec.strategy == crate::api::Strategy::All
                    || steady.iter().any(|(_, said)| *said == 0)
                {
                    continue;
                }
                for pair in steady.windows(2) {
                    let ((one, one_said), (other, other_said)) = (pair[0], pair[1]);
                    assert_eq!(one * other_said, other * one_said, "seed {seed}, round {round}: {tier:?}");
                }
            }
        }
    }
}

#[test]
fn nothing_changes_before_the_moment_that_was_named() {
    for seed in 0..60 {
        let mut history = History::new(seed);
        history.step();
        for round in 0..40 {
            history.happen();
            let decision = history.step();
            let next_ms = decision.next_ms.unwrap_or(history.now_ms + 1_000_000);
            assert!(next_ms > history.now_ms, "seed {seed}, round {round}: {next_ms} is not later");
            let at = history.now_ms;
            let left = u64::try_from(next_ms - at).unwrap();
            for later in [at + history.dice.roll(left) as i64, next_ms - 1] {
                history.now_ms = later;
                let again = history.decide();
                assert!(
                    again.zones == decision.zones,
                    "seed {seed}, round {round}: at {later} for {next_ms}: {:#?} were {:#?}",
                    again.explanations,
                    decision.explanations
                );
            }
            history.now_ms = at;
        }
    }
}

#[test]
fn no_window_sees_more_withdrawn_than_its_share() {
    for seed in 0..100 {
        let mut history = History::new(seed);
        let percent = 1 + history.dice.roll(100) as u32;
        let window_ms = (10 + history.dice.roll(60) as i64) * 1000;
        let spec = &mut history.policy.spec;
        spec.weights.clear();
        spec.safety.max_withdrawn_percent = Some(percent);
        spec.safety.window_seconds = Some((window_ms / 1000) as u32);
        spec.safety.min_clusters = None;
        let mut before = on(&history.step());
        let mut withdrawn: Vec<i64> = Vec::new();
        for round in 0..80 {
            history.happen();
            // A drain is an operator's act, and not bound.
            history.clusters.values_mut().for_each(|cluster| cluster.draining = false);
            let now = on(&history.step());
            withdrawn.extend(before.difference(&now).map(|_| history.now_ms));
            let inside = withdrawn.iter().filter(|at| **at + window_ms > history.now_ms).count() as u64;
            let whole = CLUSTERS as u64 * u64::from(DEFAULT_WEIGHT);
            assert!(
                inside * u64::from(DEFAULT_WEIGHT) * 100 <= whole * u64::from(percent),
                "seed {seed}, round {round}: {inside} of {CLUSTERS} were withdrawn within {window_ms} ms, {percent} % may"
            );
            before = now;
        }
    }
}

#[test]
fn at_least_so_many_clusters_stay() {
    for seed in 0..60 {
        let mut history = History::new(seed);
        let least = 1 + history.dice.roll(4) as usize;
        history.policy.spec.safety.min_clusters = Some(least as u32);
        let mut before = on(&history.step()).len();
        for round in 0..60 {
            history.happen();
            history.clusters.values_mut().for_each(|cluster| cluster.draining = false);
            let now = on(&history.step()).len();
            assert!(
                now >= least.min(before),
                "seed {seed}, round {round}: {now} of {before} are on, {least} must"
            );
            before = now;
        }
    }
}

#[test]
fn a_switch_by_hand_outranks_everything() {
    for seed in 0..60 {
        let mut history = History::new(seed);
        history.step();
        for round in 0..40 {
            history.happen();
            let cluster = format!("c{}", history.dice.roll(CLUSTERS as u64));
            let off = history.dice.flip(50);
            let switch = json!({"state": if off { "Off" } else { "On" }, "reason": "a test", "by": "alice"});
            history.policy.spec.overrides =
                BTreeMap::from([(cluster.clone(), serde_json::from_value(switch).unwrap())]);
            let decision = history.step();
            let told = records(&decision)
                .flat_map(all_tiers)
                .any(|tier| tier.choices.iter().any(|choice| choice.cluster == cluster));
            let said = decision.explanations.iter().find(|why| why.cluster == cluster).unwrap();
            if off {
                assert!(!told, "seed {seed}, round {round}: {cluster} is off");
                assert_eq!(said.rule, "SwitchedOff", "seed {seed}, round {round}");
            } else {
                assert_eq!(said.rule, "SwitchedOn", "seed {seed}, round {round}");
                assert!(said.answered && said.message.contains("alice"), "seed {seed}, round {round}");
            }
        }
    }
}

#[test]
fn with_no_data_a_name_has_no_dead_address() {
    for seed in 0..60 {
        let mut history = History::new(seed);
        history.policy.spec.health.all_down = AllDownRule::NoData;
        history.policy.spec.safety = crate::api::SafetyRules::default();
        history.step();
        for cluster in history.clusters.values_mut() {
            cluster.verdict = Verdict::ApiDown;
        }
        let decision = history.step();
        let mut sets = records(&decision).filter(|record| record.name.starts_with("web."));
        assert!(
            sets.all(|record| all_tiers(record)
                .all(|tier| tier.choices.iter().all(|choice| choice.data.is_empty()))
                || history.policy.spec.health.on_panic == crate::api::PanicRule::IgnoreHealth),
            "seed {seed}"
        );
    }
}

/// The clusters that are on.
fn on(decision: &TrafficDecision) -> BTreeSet<String> {
    let front = &decision.memory.fronts["shop/web/web"];
    front.clusters.iter().filter(|(_, memory)| memory.on).map(|(name, _)| name.clone()).collect()
}

proptest! {
    #[test]
    fn ramps_are_monotone_and_name_their_next_step(since in 0_i64..1_000_000, seconds in 0_u32..10_000, elapsed in 0_i64..20_000_000) {
        let (up, down) = (Ramp::up(since, seconds, since + elapsed), Ramp::down(since, seconds, since + elapsed));
        prop_assert!((1..=RAMP_STEPS).contains(&up.steps));
        prop_assert!(down.steps <= RAMP_STEPS);
        prop_assert_eq!(up.next_ms.is_none(), up.steps == RAMP_STEPS);
        prop_assert_eq!(down.next_ms.is_none(), down.steps == 0);
        if let Some(next) = up.next_ms {
            prop_assert!(next > since + elapsed);
            prop_assert_eq!(Ramp::up(since, seconds, next - 1).steps, up.steps);
            prop_assert_eq!(Ramp::up(since, seconds, next).steps, up.steps + 1);
        }
        if let Some(next) = down.next_ms {
            prop_assert!(next > since + elapsed);
            prop_assert_eq!(Ramp::down(since, seconds, next - 1).steps, down.steps);
            prop_assert_eq!(Ramp::down(since, seconds, next).steps, down.steps - 1);
        }
    }

    #[test]
    fn an_answer_never_outlives_a_change_but_by_the_floor(wanted in 1_u32..90_000, floor in 1_u32..90_000, left in -1000_i64..200_000_000) {
        let now = 1_000_000_000;
        let bound = bounded(wanted, floor, now, Some(now + left));
        prop_assert!(bound.ttl >= floor.min(wanted) && bound.ttl <= wanted);
        prop_assert!(i64::from(bound.ttl) * 1000 <= left || bound.ttl == floor.min(wanted));
        if let Some(next) = bound.next_ms {
            // It holds until then, and is shorter from then on.
            prop_assert!(next > now);
            prop_assert_eq!(bounded(wanted, floor, next - 1, Some(now + left)).ttl, bound.ttl);
            prop_assert!(bounded(wanted, floor, next, Some(now + left)).ttl < bound.ttl);
        }
    }

    #[test]
    fn a_prefix_holds_what_its_bits_say(one in any::<u32>(), other in any::<u32>(), short in 0_u8..=32, long in 0_u8..=32) {
        let (one, other) = (Ipv4Addr::from(one), Ipv4Addr::from(other));
        let (a, b) = (Prefix::of(one.into(), short), Prefix::of(other.into(), long));
        let shift = 32 - u32::from(short);
        let same = u32::from(one).checked_shr(shift).unwrap_or(0) == u32::from(other).checked_shr(shift).unwrap_or(0);
        prop_assert_eq!(a.holds(&b), short <= long && same);
        prop_assert_eq!(a.to_string().parse::<Prefix>(), Ok(a));
    }

    #[test]
    fn noise_never_changes_an_order_and_a_real_change_does(noise in proptest::collection::vec(0_u32..1400, 100)) {
        let mut latency = Latency::default();
        let mut at = 1;
        let sample = |to, rtt_us| Sample { from: "here", to, rtt_us };
        latency.observe(sample("a", 20_000), at);
        latency.observe(sample("b", 20_001), at);
        for noise in noise {
            at += 1000;
            // Up to 7 % in either direction.
            latency.observe(sample("a", 20_000 + noise), at);
            latency.observe(sample("b", 20_000 - noise), at);
            prop_assert_eq!(latency.order("here"), ["a", "b"]);
        }
        for _ in 0..100 {
            at += 1000;
            latency.observe(sample("b", 15_000), at);
        }
        prop_assert_eq!(latency.order("here"), ["b", "a"]);
        prop_assert!(latency.age(at + 2 * SAMPLE_STALE_MS));
        prop_assert!(latency.order("here").is_empty());
    }
}
