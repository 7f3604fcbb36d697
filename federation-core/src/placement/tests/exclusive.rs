//! Workloads that may run in one cluster at a time: single decisions, and a world with agents, leases and pods in which no two clusters
//! may ever run at once.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::placement::exclusive::Terms;

fn exclusive(replicas: i64, clusters: &[&str]) -> World {
    let mut world = World::new(Some(replicas), clusters);
    world.template.grace_ms = 10_000;
    world.policy(json!({"failover": {"prefer": "Exclusivity"}}));
    world
}

fn terms() -> Terms {
    Terms::of(EVICT_AFTER_MS, 10_000)
}

fn down(since_ms: i64) -> Observed {
    Observed { replicas: 0, ready: 0, down_since_ms: Some(since_ms) }
}

#[test]
fn one_cluster_runs_all_replicas_and_the_others_stand_by() {
    let mut world = exclusive(3, &["taiwan", "tokyo"]);
    world.policy(json!({"failover": {"prefer": "Exclusivity"}, "replicas": {"clusters": {"taiwan": {"weight": 1}, "tokyo": {"weight": 2}}}}));
    let decision = world.step();
    assert_eq!(targets(&decision), "taiwan=0 tokyo=3");
    assert_eq!(i64::from(decision.lease_ms), terms().lease_ms);
    assert_eq!(decision.reasons[0].rule, rules::STANDBY);
    world.all_ready();
    assert_eq!(targets(&world.step()), "taiwan=0 tokyo=3");
}

#[test]
fn the_lease_lapses_before_another_cluster_starts_however_evict_after_and_grace_stand() {
    for (evict_after_ms, grace_ms) in
        [(300_000, 30_000), (30_000, 30_000), (0, 0), (i64::MAX, 600_000), (60_000, -1)]
    {
        let terms = Terms::of(evict_after_ms, grace_ms);
        assert!(terms.takeover_ms >= terms.lease_ms + terms.lease_ms / 10 + grace_ms.max(0), "{terms:?}");
        assert!((5_000..=600_000).contains(&terms.lease_ms), "{terms:?}");
    }
    // Where evictAfter leaves room, the takeover is no later than it.
    assert!(Terms::of(300_000, 30_000).takeover_ms <= 300_000);
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
    world.silent_ms.insert("taiwan".into(), terms().takeover_ms - 1);
    let waiting = world.step();
    // It is written down that taiwan is to stop: an agent that comes back now is told so before it may run.
    assert_eq!(targets(&waiting), "taiwan=0! tokyo=0");
    assert_eq!(waiting.next_check_ms, Some(world.now_ms + 1));

    world.silent_ms.insert("taiwan".into(), terms().takeover_ms);
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
    Time(i64),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        2 => (0..3usize).prop_map(Happening::Cut),
        2 => (0..3usize).prop_map(Happening::Heal),
        1 => (0..3usize).prop_map(Happening::Drain),
        1 => (0..3usize).prop_map(Happening::Undrain),
        6 => (1..40_000i64).prop_map(Happening::Time),
    ];
    proptest::collection::vec(one, 1..60)
}

/// One member: an agent that does as agents do, and pods that take their grace to end.
#[derive(Clone, Copy, Debug, Default)]
struct Member {
    cut: bool,
    told: i64,
    /// What the hub's table says; the agent's says the same before a heartbeat is acknowledged as current.
    table: i64,
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
            self.told = self.table;
            self.renewed = now;
            self.stopped = false;
        }
        if now >= self.renewed + terms().lease_ms {
            self.stopped = true;
        }
        let wanted = self.told > 0 && !self.stopped;
        if wanted {
            self.pods_until = i64::MAX;
        } else if self.pods_until == i64::MAX {
            self.pods_until = now + 10_000;
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
                    let seen = Observed { replicas: running, ready: running, down_since_ms };
                    world.observed.insert((*name).into(), seen);
                }
            }
            let decision = world.step();
            for target in &decision.clusters {
                let index = names.iter().position(|name| *name == target.name).unwrap();
                members[index].table = target.replicas.unwrap();
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
                world.observed.insert((*name).into(), Observed { replicas: running, ready: running, down_since_ms });
            }
            for target in &world.step().clusters {
                let index = names.iter().position(|name| *name == target.name).unwrap();
                members[index].table = target.replicas.unwrap();
            }
        }
        let told: Vec<i64> = members.iter().map(|member| member.told).collect();
        prop_assert_eq!(told.iter().sum::<i64>(), 2, "{:?}", told);
    }
}
