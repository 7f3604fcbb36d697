//! The pre-flight and the course.

use std::collections::BTreeMap;

use super::stages::names;
use super::*;
use crate::api::{DrillApp, DrillPhase, DrillScope, DrillUsers, FailoverDrillSpec, FailoverDrillStatus};

pub(super) fn mk_spec(scope: DrillScope, hypothesis: &str) -> FailoverDrillSpec {
    FailoverDrillSpec {
        lose: vec!["taiwan".into()],
        app: DrillApp { namespace: String::new(), name: "web".into() },
        scope,
        hypothesis: hypothesis.into(),
        ..FailoverDrillSpec::default()
    }
}

pub(super) fn mk_facts() -> Facts {
    let cluster = ClusterFacts { healthy: true, open: true, isolable: true };
    let share = |room| AppShare { answered: true, replicas: 2, ready: 2, room };
    Facts {
        clusters: ["taiwan", "tokyo"].map(|name| (name.to_owned(), cluster.clone())).into(),
        app: Some(AppFacts {
            wanted: 4,
            evict_after_ms: 5000,
            shares: BTreeMap::from([("taiwan".into(), share(None)), ("tokyo".into(), share(Some(10)))]),
        }),
        vantages: 1,
        ..Facts::default()
    }
}

/// A drill, and the clock that it is looked at by.
struct World {
    spec: FailoverDrillSpec,
    status: FailoverDrillStatus,
    facts: Facts,
    detected: BTreeMap<String, (i64, String)>,
    decided_ms: Option<i64>,
    dns: BTreeMap<String, Option<i64>>,
    restored: bool,
    runner: &'static str,
    now_ms: i64,
    lost: Vec<String>,
}

impl World {
    fn new(spec: FailoverDrillSpec) -> Self {
        Self {
            spec,
            status: FailoverDrillStatus::default(),
            facts: mk_facts(),
            detected: BTreeMap::new(),
            decided_ms: None,
            dns: BTreeMap::from([("one".to_owned(), None)]),
            restored: false,
            runner: "first",
            now_ms: 1_000_000,
            lost: Vec::new(),
        }
    }

    fn step(&mut self, after_ms: i64) -> DrillPhase {
        self.now_ms += after_ms;
        let seen = Seen {
            now_ms: self.now_ms,
            renewed_ms: 1_000_000,
            generation: Some(1),
            deleted: false,
            runner: self.runner,
            facts: &self.facts,
            detected: &self.detected,
            decided_ms: self.decided_ms,
            dns: &self.dns,
            restored: self.restored,
        };
        let step = step(&self.spec, &self.status, &seen);
        (self.status, self.lost) = (step.status, step.lost);
        self.status.phase
    }

    fn users(&mut self, requests: u64, failed: u64, last_harm_ms: Option<i64>, last_heard_ms: i64) {
        let users = DrillUsers {
            requests,
            failed,
            last_harm_ms,
            last_heard_ms: Some(last_heard_ms),
            p99_ms: 12,
            ..DrillUsers::default()
        };
        self.status.users.insert("here".into(), users);
    }

    #[track_caller]
    fn ended(&self, outcome: DrillPhase, reason: &str, message: &str) {
        assert_eq!(self.lost, Vec::<String>::new(), "nothing is lost any more");
        let told = (self.status.outcome, self.status.reason.as_str(), self.status.message.as_str());
        assert_eq!(told, (Some(outcome), reason, message));
    }
}

#[track_caller]
fn check(spec: &FailoverDrillSpec, facts: &Facts, expect: &[(&str, bool)]) {
    let found = preflight(spec, facts);
    let rules: Vec<(&str, bool)> =
        found.iter().map(|finding| (finding.rule.as_str(), finding.forcible)).collect();
    assert_eq!(rules, expect, "{found:?}");
}

#[test]
fn preflight_says_all_that_speaks_against_a_drill() {
    let spec = mk_spec(DrillScope::Traffic, "rto<10s");
    check(&spec, &mk_facts(), &[]);
    let mut facts = mk_facts();
    facts.frozen = Some("2 of 3 clusters went bad at once".into());
    facts.other = Some("earlier".into());
    check(&spec, &facts, &[("Frozen", false), ("AnotherRuns", false)]);
    let mut facts = mk_facts();
    facts.clusters.remove("tokyo");
    facts.app = None;
    check(&spec, &facts, &[("NothingLeft", false), ("NoSuchApp", false)]);
    let mut other = spec;
    other.lose = vec!["osaka".into()];
    check(&other, &mk_facts(), &[("NoSuchCluster", false), ("NotServedThere", true)]);
    let mut facts = mk_facts();
    facts.vantages = 0;
    check(&mk_spec(DrillScope::Traffic, "errors<1%"), &facts, &[("NoVantage", true)]);
}

#[test]
fn preflight_isolates_only_what_comes_back_by_itself() {
    let spec = mk_spec(DrillScope::Isolate, "");
    check(&spec, &mk_facts(), &[]);
    let mut facts = mk_facts();
    facts.clusters.get_mut("taiwan").expect("it is there").isolable = false;
    check(&spec, &facts, &[("NotIsolable", false)]);
}

#[test]
fn preflight_refuses_what_capacity_says_cannot_pass() {
    // Half is ready elsewhere, and traffic drills create nothing.
    check(&mk_spec(DrillScope::Traffic, "ready>=80%"), &mk_facts(), &[("Capacity", true)]);
    check(&mk_spec(DrillScope::Traffic, "ready>=50%"), &mk_facts(), &[]);
    // With replicas that move it depends on room and on time.
    let spec = mk_spec(DrillScope::Schedule, "ready>=80%");
    check(&spec, &mk_facts(), &[]);
    let mut facts = mk_facts();
    let app = facts.app.as_mut().expect("there is one");
    app.evict_after_ms = 300_000;
    app.shares.get_mut("tokyo").expect("it is there").room = Some(1);
    check(&spec, &facts, &[("Capacity", true), ("EvictsTooLate", true)]);
}

#[test]
fn a_drill_whose_users_move_in_time_passes_and_says_how_long_each_stage_took() {
    let mut world = World::new(mk_spec(DrillScope::Traffic, "rto<5s,errors<=0%,p99<50ms"));
    assert_eq!(world.step(0), DrillPhase::Running);
    assert_eq!(world.lost, ["taiwan"]);
    let start_ms = world.now_ms;
    world.detected.insert("taiwan".into(), (start_ms, "the drill says so".into()));
    world.decided_ms = Some(start_ms + 4);
    world.dns.insert("one".into(), Some(start_ms + 9));
    world.users(30, 0, Some(1900), 2000);
    assert_eq!(world.step(2000), DrillPhase::Running);
    assert!(world.status.hypothesis.iter().all(|term| term.held.is_none()));
    world.users(500, 0, Some(2100), 30_000);
    assert_eq!(world.step(28_000), DrillPhase::Restoring);
    world.ended(DrillPhase::Passed, "HypothesisHeld", "its time was up, and every term held");
    assert_eq!(world.step(10), DrillPhase::Restoring);
    world.restored = true;
    assert_eq!(world.step(10), DrillPhase::Passed);
    let stages: Vec<(&str, i64)> =
        world.status.stages.iter().map(|stage| (stage.name.as_str(), stage.after_ms)).collect();
    assert_eq!(
        stages,
        [
            (names::DETECTED, 0),
            (names::DECIDED, 4),
            (names::DNS_CHANGED, 9),
            (names::DNS_EVERYWHERE, 9),
            (names::RECOVERED, 2100),
            (names::RESTORED, 30_020)
        ]
    );
}

#[test]
fn replicas_count_where_the_scope_moves_them() {
    let mut world = World::new(mk_spec(DrillScope::Schedule, "ready>=80%"));
    world.step(0);
    let tokyo = |world: &mut World, replicas, ready| {
        let app = world.facts.app.as_mut().expect("there is one");
        let share = app.shares.get_mut("tokyo").expect("it is there");
        (share.replicas, share.ready) = (replicas, ready);
    };
    tokyo(&mut world, 4, 2);
    world.step(6000);
    tokyo(&mut world, 4, 4);
    world.step(1000);
    world.step(23_000);
    world.ended(DrillPhase::Passed, "HypothesisHeld", "its time was up, and every term held");
    let after =
        |name: &str| world.status.stages.iter().find(|stage| stage.name == name).map(|stage| stage.after_ms);
    assert_eq!((after(names::CREATED), after(names::READY)), (Some(6000), Some(7000)));
    let replicas = world.status.replicas.clone().expect("they were measured");
    assert_eq!((replicas.wanted, replicas.ready_before, replicas.ready_left), (4, 4, 4));
}

#[test]
fn it_ends_as_soon_as_the_hypothesis_cannot_hold() {
    let mut world = World::new(mk_spec(DrillScope::Traffic, "rto<2s"));
    world.step(0);
    world.users(10, 0, Some(1999), 1999);
    assert_eq!(world.step(1999), DrillPhase::Running);
    world.users(11, 0, Some(2000), 2000);
    world.step(1);
    let message = "it cannot hold any more: rto<2s was expected, measured: more than 2000 ms";
    world.ended(DrillPhase::Failed, "HypothesisBroken", message);
    // The budget of errors: one percent of the 3000 pages of 30 s.
    let mut world = World::new(mk_spec(DrillScope::Traffic, "errors<=1%"));
    world.step(0);
    world.users(300, 30, Some(2000), 3000);
    assert_eq!(world.step(3000), DrillPhase::Running);
    world.users(300, 31, Some(2000), 3000);
    world.step(0);
    let message = "it cannot hold any more: errors<=1% was expected, measured: 31 of 300 pages (10.333%)";
    world.ended(DrillPhase::Failed, "HypothesisBroken", message);
}

#[test]
fn without_a_vantage_recovery_is_when_every_dns_server_changed() {
    let mut world = World::new(mk_spec(DrillScope::Traffic, "rto<2s"));
    world.facts.vantages = 0;
    world.step(0);
    world.step(1999);
    world.step(1);
    let message = "it cannot hold any more: rto<2s was expected, measured: more than 2000 ms";
    world.ended(DrillPhase::Failed, "HypothesisBroken", message);
}

#[test]
fn every_dead_mans_switch_ends_it() {
    let start = || {
        let mut world = World::new(mk_spec(DrillScope::Isolate, ""));
        world.spec.holder_identity = "fedctl".into();
        assert_eq!(world.step(0), DrillPhase::Running);
        world
    };
    let mut world = start();
    assert_eq!(world.step(9_999), DrillPhase::Running);
    world.step(1);
    world.ended(DrillPhase::Aborted, "LeaseLapsed", "fedctl did not renew its lease");
    let mut world = start();
    world.spec.stop = true;
    world.step(1);
    world.ended(DrillPhase::Aborted, "Stopped", "it was stopped");
    let mut world = start();
    world.runner = "second";
    world.step(1);
    world.ended(DrillPhase::Aborted, "HubRestarted", "the hub that ran it is gone");
    let mut world = start();
    world.facts.frozen = Some("its own link is suspect".into());
    world.step(1);
    world.ended(DrillPhase::Aborted, "Frozen", "nothing moves now: its own link is suspect");
    let mut world = start();
    world.facts.clusters.get_mut("tokyo").expect("it is there").healthy = false;
    world.step(1);
    let message = "tokyo is not Healthy, and nobody rehearses that";
    world.ended(DrillPhase::Aborted, "AnotherClusterLost", message);
    // The one that is rehearsed may well be seen as lost.
    let mut world = start();
    world.facts.clusters.get_mut("taiwan").expect("it is there").healthy = false;
    assert_eq!(world.step(1), DrillPhase::Running);
}

#[test]
fn what_is_not_restored_in_time_has_not_passed() {
    let mut world = World::new(mk_spec(DrillScope::Traffic, ""));
    world.step(0);
    world.step(30_000);
    assert_eq!(world.step(RESTORE_MAX_MS - 1), DrillPhase::Restoring);
    assert_eq!(world.step(1), DrillPhase::Failed);
    assert_eq!(world.status.reason, "NotRestored");
}

#[test]
fn force_passes_over_doubts_and_never_over_dangers() {
    let mut world = World::new(mk_spec(DrillScope::Traffic, "ready>=80%"));
    assert_eq!(world.step(0), DrillPhase::Refused);
    assert!(world.status.message.ends_with("ready>=80% cannot hold; force passes over that"));
    let mut world = World::new(mk_spec(DrillScope::Traffic, "ready>=80%"));
    world.spec.force = true;
    assert_eq!(world.step(0), DrillPhase::Running);
    let mut world = World::new(mk_spec(DrillScope::Traffic, ""));
    world.spec.force = true;
    world.facts.other = Some("earlier".into());
    assert_eq!(world.step(0), DrillPhase::Refused);
    assert_eq!(world.status.message, "drill earlier is not over yet");
    let mut world = World::new(mk_spec(DrillScope::Traffic, ""));
    world.spec.dry_run = true;
    assert_eq!(world.step(0), DrillPhase::Cleared);
}

#[test]
fn faults_of_a_spec_name_their_fields() {
    let mut spec = mk_spec(DrillScope::Traffic, "rto<x");
    spec.lose = vec!["Taiwan".into(), "tokyo".into(), "tokyo".into()];
    spec.app.name = String::new();
    spec.duration_seconds = Some(0);
    spec.lease_duration_seconds = Some(1);
    spec.schedule = "* * *".into();
    let fields: Vec<String> = problems(&spec).into_iter().map(|(field, _)| field).collect();
    assert_eq!(
        fields,
        [
            "lose[0]",
            "lose[2]",
            "app.name",
            "hypothesis",
            "durationSeconds",
            "leaseDurationSeconds",
            "schedule"
        ]
    );
}
