//! Workloads that may run in one cluster at a time: single decisions, and a world with agents, leases and pods in which no two clusters
//! may ever run at once.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::api::Lease;

fn exclusive(replicas: i64, clusters: &[&str]) -> World {
    let mut world = World::new(Some(replicas), clusters);
    world.template.grace_ms = 10_000;
    world.policy(json!({"failover": {"prefer": "Exclusivity"}}));
    world
}

fn lease() -> Lease {
    Lease::of(EVICT_AFTER_MS, 10_000)
}

fn takeover_ms() -> i64 {
    lease().takeover_ms().unwrap()
}

fn down(since_ms: i64) -> Observed {
    Observed { of_last_decision: true, down_since_ms: Some(since_ms), ..Observed::default() }
}

#[test]
fn one_cluster_runs_all_replicas_and_the_others_stand_by() {
    let mut world = exclusive(3, &["taiwan", "tokyo"]);
    world.policy(json!({"failover": {"prefer": "Exclusivity"}, "replicas": {"clusters": {"taiwan": {"weight": 1}, "tokyo": {"weight": 2}}}}));
    let decision = world.step();
    assert_eq!(targets(&decision), "taiwan=0 tokyo=3");
    assert_eq!(decision.lease, Some(lease()));
    assert!(decision.clusters.iter().all(|target| target.lease.is_none()));
    assert_eq!(decision.reasons[0].rule, rules::STANDBY);
    world.all_ready();
    assert_eq!(targets(&world.step()), "taiwan=0 tokyo=3");
}

#[test]
fn the_lease_lapses_before_another_cluster_starts_however_evict_after_and_grace_stand() {
    for (evict_after_ms, grace_ms) in
        [(300_000, 30_000), (30_000, 30_000), (0, 0), (i64::MAX, 600_000), (60_000, -1)]
    {
        let lease = Lease::of(evict_after_ms, grace_ms);
        let (lease_ms, takeover_ms) = (lease.lease_ms.unwrap(), lease.takeover_ms().unwrap());
        assert!(takeover_ms >= lease_ms + lease_ms / 10 + grace_ms.max(0), "{lease:?}");
        assert!((5_000..=600_000).contains(&lease_ms), "{lease:?}");
    }
    // Where evictAfter leaves room, the takeover is no later than it.
    assert!(Lease::of(300_000, 30_000).takeover_ms().unwrap() <= 300_000);
}

#[test]
fn a_lost_cluster_is_replaced_only_once_its_lease_must_have_lapsed() {
    let mut world = exclusive(2, &["taiwan", "tokyo"]);
    world.policy(json!({"failover": {"prefer": "Exclusivity"}, "replicas": {"clusters": {"taiwan": {"weight": 9}, "tokyo": {"weight": 1}}}}));
    assert_eq!(targets(&world.step()), "taiwan=2 tokyo=0");
    world.all_ready();
    world.observed.insert("tokyo".into(), down(world.now_ms - 60_000));
    world.lose("taiwan");
    world.now_ms += EVICT_AFTER_MS;
    world.silent_ms.insert("taiwan".into(), takeover_ms() - 1);
    let waiting = world.step();
    // It is written down that taiwan is to stop: an agent that comes back now is told so before it may run.
    assert_eq!(targets(&waiting), "taiwan=0! tokyo=0");
    assert_eq!(waiting.next_check_ms, Some(world.now_ms + 1));

    world.silent_ms.insert("taiwan".into(), takeover_ms());
    let taken = world.step();
    assert_eq!(targets(&taken), "taiwan=0! tokyo=2");
    assert_eq!(taken.reasons[0].rule, rules::LEASE_LAPSED);
    // Taiwan comes back: it stands by, and nothing moves back by itself.
    *world.cluster("taiwan") = healthy("taiwan");
    world.silent_ms.clear();
    assert_eq!(targets(&world.step()), "taiwan=0 tokyo=2");
}

#[test]
fn a_drained_cluster_stops_and_its_pods_end_before_the_next_one_starts() {
    let mut world = exclusive(2, &["taiwan", "tokyo"]);
    world.policy(json!({"failover": {"prefer": "Exclusivity"}, "replicas": {"clusters": {"taiwan": {"weight": 9}, "tokyo": {"weight": 1}}}}));
    world.step();
    world.all_ready();
    world.observed.insert("tokyo".into(), down(0));
    world.taint("taiwan", TaintEffect::NoExecute);
    assert_eq!(targets(&world.step()), "taiwan=0! tokyo=0");
    // Not yet reported down.
    assert_eq!(targets(&world.step()), "taiwan=0! tokyo=0");
    world.observed.insert("taiwan".into(), down(world.now_ms));
    let decision = world.step();
    assert_eq!(targets(&decision), "taiwan=0! tokyo=0");
    world.now_ms = decision.next_check_ms.unwrap();
    assert_eq!(targets(&world.step()), "taiwan=0! tokyo=2");
}

#[test]
fn a_silent_cluster_is_told_to_stop_before_another_one_is_told_to_start() {
    let mut world = exclusive(1, &["taiwan", "tokyo"]);
    world.policy(json!({"failover": {"prefer": "Exclusivity", "evictAfterSeconds": 3600}, "replicas": {"clusters": {"taiwan": {"weight": 9}, "tokyo": {"weight": 1}}}}));
    world.step();
    world.observed.insert("tokyo".into(), down(0));
    world.lose("taiwan");
    world.now_ms += 3_600_000;
    world.silent_ms.insert("taiwan".into(), 3_600_000);
    let told = world.step();
    assert_eq!(targets(&told), "taiwan=0! tokyo=0");
    assert!(told.next_check_ms.unwrap() <= world.now_ms + 1);
    assert_eq!(targets(&world.step()), "taiwan=0! tokyo=1");
}

#[test]
fn a_shorter_lease_counts_only_once_the_agent_has_shown_that_it_knows_it() {
    let prefer = |evict_after: u32| {
        json!({
            "failover": {"prefer": "Exclusivity", "evictAfterSeconds": evict_after},
            "replicas": {"clusters": {"taiwan": {"weight": 9}, "tokyo": {"weight": 1}}},
        })
    };
    let long = Lease::of(600_000, 10_000);
    for knows in [false, true] {
        let mut world = exclusive(1, &["taiwan", "tokyo"]);
        world.policy(prefer(600));
        assert_eq!(targets(&world.step()), "taiwan=1 tokyo=0");
        world.observed.insert("tokyo".into(), down(0));
        // The policy is changed when taiwan has just been cut off, or a moment before, so that its agent has seen it.
        world.policy(prefer(20));
        let decision = world.step();
        assert_eq!(
            (decision.lease, decision.clusters[0].lease),
            (Some(Lease::of(20_000, 10_000)), Some(long))
        );
        let seen = Observed { replicas: 1, ready: 1, of_last_decision: true, down_since_ms: None };
        if knows {
            world.observed.insert("taiwan".into(), seen);
            assert_eq!(world.step().clusters[0].lease, None);
        }
        world.observed.remove("taiwan");
        world.lose("taiwan");
        world.now_ms += 60_000;
        world.silent_ms.insert("taiwan".into(), 60_000);
        world.step();
        // It is to stop in any case; only whether it has stopped is the question.
        let taken = if knows { "taiwan=0! tokyo=1" } else { "taiwan=0! tokyo=0" };
        assert_eq!(targets(&world.step()), taken);
        let rest = long.takeover_ms().unwrap() - 60_000;
        world.now_ms += rest;
        world.silent_ms.insert("taiwan".into(), 60_000 + rest);
        world.step();
        assert_eq!(targets(&world.step()), "taiwan=0! tokyo=1");
    }
}

#[test]
fn an_agent_that_was_never_told_of_a_lease_is_never_taken_for_stopped() {
    let mut world = World::new(Some(1), &["taiwan", "tokyo"]);
    let weights = json!({"clusters": {"taiwan": {"weight": 9}, "tokyo": {"weight": 1}}});
    world.policy(json!({"replicas": weights}));
    let before = targets(&world.step());
    assert!(before.starts_with("taiwan=1"), "{before}");
    world.lose("taiwan");
    world.policy(json!({"replicas": weights, "failover": {"prefer": "Exclusivity"}}));
    for _ in 0..3 {
        world.now_ms += 100 * EVICT_AFTER_MS;
        world.silent_ms.insert("taiwan".into(), 100 * EVICT_AFTER_MS);
        assert_eq!(targets(&world.step()), "taiwan=0! tokyo=0");
    }
}

#[test]
fn nothing_is_taken_over_while_frozen_or_without_a_verdict() {
    for frozen in [true, false] {
        let mut world = exclusive(2, &["taiwan", "tokyo"]);
        world.step();
        world.all_ready();
        let before = targets(&world.step());
        let running = if before.starts_with("taiwan=2") { "taiwan" } else { "tokyo" };
        world.lose(running);
        if frozen {
            world.frozen = Some("half of the clusters went bad");
        } else {
            world.cluster(running).verdict = Verdict::Unknown;
        }
        world.silent_ms.insert(running.into(), i64::MAX / 2);
        world.now_ms += 100 * EVICT_AFTER_MS;
        assert_eq!(targets(&world.step()), before);
    }
}

/// What happens to a cluster in one step of the world below.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Cut(usize),
    Heal(usize),
    Drain(usize),
    Undrain(usize),
    /// The policy's evictAfter and the pods' grace are from now on, seconds.
    Terms(u32, i64),
    Time(i64),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        2 => (0..3usize).prop_map(Happening::Cut),
        2 => (0..3usize).prop_map(Happening::Heal),
        1 => (0..3usize).prop_map(Happening::Drain),
        1 => (0..3usize).prop_map(Happening::Undrain),
        1 => (0..90u32, 0..30i64).prop_map(|(evict_after, grace)| Happening::Terms(evict_after, grace)),
        6 => (1..40_000i64).prop_map(Happening::Time),
    ];
    proptest::collection::vec(one, 1..60)
}

/// One member: an agent that does as agents do, and pods that take the grace to end that they were made with.
#[derive(Clone, Copy, Debug, Default)]
struct Member {
    cut: bool,
    told: i64,
    /// What the hub's table says; the agent's says the same before a heartbeat is acknowledged as current.
    table: i64,
    /// The same of the lease and of the pods' grace.
    table_terms: (i64, i64),
    told_terms: (i64, i64),
    /// Of the pods that run.
    grace: i64,
    /// When the last acknowledged heartbeat was sent.
    renewed: i64,
    stopped: bool,
    /// Pods run until then; `i64::MAX` while they are wanted.
    pods_until: i64,
    down_since: Option<i64>,
}

impl Member {
    fn tick(&mut self, now: i64) {
        if !self.cut {
            (self.told, self.told_terms) = (self.table, self.table_terms);
            self.renewed = now;
            self.stopped = false;
        }
        let (lease_ms, grace) = self.told_terms;
        if now >= self.renewed + lease_ms {
            self.stopped = true;
        }
        let wanted = self.told > 0 && !self.stopped;
        if wanted {
            (self.pods_until, self.grace) = (i64::MAX, grace);
        } else if self.pods_until == i64::MAX {
            self.pods_until = now + self.grace;
        }
        self.down_since = if wanted { None } else { self.down_since.or(Some(now)) };
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_two_clusters_ever_run_at_once(happenings in happenings()) {
        let names = ["a", "b", "c"];
        let mut world = exclusive(2, &names);
        let mut members = [Member::default(); 3];
        let mut script = happenings.into_iter();
        let mut rest = 0;
        loop {
            if rest <= 0 {
                match script.next() {
                    None => break,
                    Some(Happening::Time(ms)) => rest = ms,
                    Some(Happening::Cut(member)) => {
                        if !members[member].cut {
                            members[member].cut = true;
                            world.lose(names[member]);
                        }
                    }
                    Some(Happening::Heal(member)) => {
                        members[member].cut = false;
                        world.cluster(names[member]).verdict = Verdict::Healthy;
                    }
                    Some(Happening::Drain(member)) => world.taint(names[member], TaintEffect::NoExecute),
                    Some(Happening::Undrain(member)) => world.cluster(names[member]).spec.taints.clear(),
                    Some(Happening::Terms(evict_after, grace)) => {
                        world.policy(json!({"failover": {"prefer": "Exclusivity", "evictAfterSeconds": evict_after}}));
                        world.template.grace_ms = grace * 1000;
                    }
                }
            } else {
                world.now_ms += 1000;
                rest -= 1000;
            }
            for (name, member) in names.iter().zip(&mut members) {
                member.tick(world.now_ms);
                world.silent_ms.insert((*name).into(), world.now_ms - member.renewed);
                if member.cut {
                    world.observed.remove(*name);
                } else {
                    let running = if member.down_since.is_none() { member.told } else { 0 };
                    let down_since_ms = member.down_since;
                    let seen = Observed { replicas: running, ready: running, of_last_decision: true, down_since_ms };
                    world.observed.insert((*name).into(), seen);
                }
            }
            let decision = world.step();
            for target in &decision.clusters {
                let index = names.iter().position(|name| *name == target.name).unwrap();
                members[index].table = target.replicas.unwrap();
                members[index].table_terms = (decision.lease.unwrap().lease_ms.unwrap(), world.template.grace_ms);
            }
            for member in &mut members {
                member.tick(world.now_ms);
            }
            let running: Vec<_> = names.iter().zip(&members).filter(|(_, member)| member.pods_until > world.now_ms).collect();
            prop_assert!(running.len() <= 1, "at {}: {running:?}", world.now_ms);
        }
        // Once everything is well again, it runs, and in one cluster.
        for (name, member) in names.iter().zip(&mut members) {
            member.cut = false;
            *world.cluster(name) = healthy(name);
        }
        for _ in 0..200 {
            world.now_ms += 500;
            for (name, member) in names.iter().zip(&mut members) {
                member.tick(world.now_ms);
                world.silent_ms.insert((*name).into(), 0);
                let running = if member.down_since.is_none() { member.told } else { 0 };
                let down_since_ms = member.down_since;
                let seen = Observed { replicas: running, ready: running, of_last_decision: true, down_since_ms };
                world.observed.insert((*name).into(), seen);
            }
            let decision = world.step();
            for target in &decision.clusters {
                let index = names.iter().position(|name| *name == target.name).unwrap();
                members[index].table = target.replicas.unwrap();
                members[index].table_terms = (decision.lease.unwrap().lease_ms.unwrap(), world.template.grace_ms);
            }
        }
        let told: Vec<i64> = members.iter().map(|member| member.told).collect();
        prop_assert_eq!(told.iter().sum::<i64>(), 2, "{:?}", told);
    }
}
