//! Behaviour of the verdicts.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;

/// Verdicts and a clock that ticks in tenths of a second.
struct World {
    verdicts: Verdicts,
    now_ms: i64,
    silent: Vec<&'static str>,
    api_down: Vec<&'static str>,
    clusters: Vec<&'static str>,
}

impl World {
    fn new(clusters: &[&'static str]) -> Self {
        let mut verdicts = Verdicts::new(Options::default(), 0);
        for cluster in clusters {
            verdicts.add(cluster, 0);
        }
        let mut world =
            Self { verdicts, now_ms: 0, silent: vec![], api_down: vec![], clusters: clusters.to_vec() };
        world.run(3_000);
        world
    }

    /// Taiwan fell, and tokyo falls silent a little later.
    fn frozen_while_tokyo_is_about_to_fall() -> Self {
        let mut world = Self::new(&["taiwan", "tokyo"]);
        world.silent.push("taiwan");
        world.run(1_000);
        world.silent.push("tokyo");
        while world.verdicts.frozen().is_none() {
            world.run(100);
        }
        world
    }

    /// Lets time pass; gives the changes with their times.
    fn run(&mut self, duration_ms: i64) -> Vec<(i64, Change)> {
        let mut changes = Vec::new();
        for _ in 0..duration_ms / 100 {
            self.now_ms += 100;
            if self.now_ms % 1000 == 0 {
                for cluster in &self.clusters {
                    if !self.silent.contains(cluster) {
                        let api_ok = !self.api_down.contains(cluster);
                        let signal = Signal::Heartbeat { api_ok, message: "connection refused".into() };
                        self.verdicts.observe(self.now_ms, cluster, signal);
                    }
                }
            }
            changes.extend(self.verdicts.step(self.now_ms).into_iter().map(|change| (self.now_ms, change)));
        }
        changes
    }

    fn verdict(&self, cluster: &str) -> Verdict {
        self.verdicts.view(cluster).unwrap().verdict
    }
}

fn summary(changes: &[(i64, Change)]) -> Vec<(i64, &str, Verdict)> {
    changes.iter().map(|(at, change)| (*at, change.cluster.as_str(), change.to)).collect()
}

#[test]
fn the_first_heartbeat_makes_a_new_cluster_healthy() {
    let world = World::new(&["taiwan", "tokyo"]);
    assert_eq!((world.verdict("taiwan"), world.verdict("tokyo")), (Verdict::Healthy, Verdict::Healthy));
}

#[test]
fn three_missed_heartbeats_are_a_loss_and_two_good_ones_a_return() {
    let mut world = World::new(&["taiwan", "tokyo"]);
    world.silent.push("taiwan");
    let changes = world.run(20_000);
    assert_eq!(summary(&changes), [(6_000, "taiwan", Verdict::HubUnreachable)]);
    assert_eq!(world.verdicts.frozen(), None, "one of two is half, and fails over");
    world.silent.clear();
    let changes = world.run(10_000);
    assert_eq!(summary(&changes), [(25_000, "taiwan", Verdict::Healthy)]);
}

#[test]
fn a_lost_session_is_one_missed_heartbeat_at_once() {
    let mut world = World::new(&["taiwan", "tokyo"]);
    world.silent.push("taiwan");
    world.verdicts.observe(world.now_ms, "taiwan", Signal::SessionLost);
    assert_eq!(summary(&world.run(10_000)), [(5_000, "taiwan", Verdict::HubUnreachable)]);
    // A reconnect in time is no loss.
    let mut world = World::new(&["taiwan", "tokyo"]);
    world.verdicts.observe(world.now_ms, "taiwan", Signal::SessionLost);
    assert!(world.run(10_000).is_empty());
}

#[test]
fn an_api_server_that_does_not_answer_its_agent_is_down() {
    let mut world = World::new(&["taiwan", "tokyo"]);
    world.api_down.push("tokyo");
    let changes = world.run(5_000);
    assert_eq!(summary(&changes), [(6_000, "tokyo", Verdict::ApiDown)]);
    assert!(changes[0].1.reason.contains("connection refused"));
    world.api_down.clear();
    assert_eq!(summary(&world.run(5_000)), [(10_000, "tokyo", Verdict::Healthy)]);
}

#[test]
fn both_of_two_gone_freezes_before_anything_can_move() {
    let mut world = World::new(&["taiwan", "tokyo"]);
    // Tokyo falls silent one beat later than Taiwan.
    world.silent.push("taiwan");
    world.run(1_000);
    world.silent.push("tokyo");
    loop {
        let changes = world.run(100);
        if !changes.is_empty() {
            assert!(world.verdicts.frozen().unwrap().contains("2 of 2"), "{changes:?}");
            break;
        }
    }
    world.run(100_000);
    assert!(world.verdicts.frozen().is_some(), "a freeze does not wear off");
    assert_eq!(world.verdict("tokyo"), Verdict::HubUnreachable);

    world.silent.retain(|cluster| *cluster != "tokyo");
    world.run(6_000);
    assert!(world.verdicts.frozen().is_some(), "Tokyo is back, and Taiwan may be on its way");
    world.run(2_000);
    assert_eq!(world.verdicts.frozen(), None);
    assert_eq!(world.verdict("taiwan"), Verdict::HubUnreachable);
    let since_ms = world.verdicts.view("taiwan").unwrap().since_ms;
    assert!(world.now_ms - since_ms < 2_000, "evictions are counted from the thaw");
}

#[test]
fn a_cluster_long_gone_is_no_part_of_a_new_failure() {
    let mut world = World::new(&["osaka", "taiwan", "tokyo"]);
    world.silent.push("osaka");
    world.run(60_000);
    world.silent.push("taiwan");
    world.run(60_000);
    assert_eq!(world.verdicts.frozen(), None);
    world.silent.push("tokyo");
    world.run(60_000);
    assert!(world.verdicts.frozen().is_some(), "the last one is everything that was left");
}

#[test]
fn two_of_three_at_once_freeze() {
    let mut world = World::new(&["osaka", "taiwan", "tokyo"]);
    world.silent.extend(["osaka", "taiwan"]);
    world.run(10_000);
    assert!(world.verdicts.frozen().unwrap().contains("osaka, taiwan"));
    world.verdicts.thaw(world.now_ms);
    world.run(10_000);
    assert_eq!(world.verdicts.frozen(), None, "an operator's word holds");
}

#[test]
fn an_operators_word_is_about_all_that_the_freeze_named() {
    let mut world = World::frozen_while_tokyo_is_about_to_fall();
    assert_eq!(world.verdicts.frozen_clusters(), ["taiwan", "tokyo"]);
    assert_ne!(world.verdict("tokyo"), Verdict::HubUnreachable);
    assert_eq!(world.verdicts.thaw(world.now_ms), Some(vec!["taiwan".to_owned(), "tokyo".to_owned()]));
    world.run(20_000);
    assert_eq!(world.verdict("tokyo"), Verdict::HubUnreachable);
    assert_eq!(world.verdicts.frozen(), None, "not again for the same clusters");
    assert_eq!(world.verdicts.thaw(world.now_ms), None);
    // Once they have been well, their next fall is a new one.
    world.silent.clear();
    world.run(60_000);
    assert_eq!(world.verdict("tokyo"), Verdict::Healthy);
    world.silent.extend(["taiwan", "tokyo"]);
    world.run(10_000);
    assert!(world.verdicts.frozen().is_some());
}

#[test]
fn a_freeze_lasts_while_those_that_were_about_to_fall_do() {
    let mut world = World::frozen_while_tokyo_is_about_to_fall();
    // Taiwan is heard again, and tokyo, which is about to fall, is all that is left: nothing may move yet.
    world.silent.retain(|name| *name == "tokyo");
    while world.verdict("tokyo") == Verdict::Healthy {
        assert!(world.verdicts.frozen().is_some(), "it ended before tokyo fell");
        world.run(100);
    }
}

#[test]
fn one_cluster_alone_is_lost_without_a_freeze() {
    let mut world = World::new(&["taiwan"]);
    world.silent.push("taiwan");
    world.run(10_000);
    assert_eq!((world.verdict("taiwan"), world.verdicts.frozen()), (Verdict::HubUnreachable, None));
}

#[test]
fn silence_while_this_process_was_stopped_is_its_own() {
    let mut world = World::new(&["taiwan", "tokyo"]);
    world.now_ms += 60_000;
    assert!(world.verdicts.step(world.now_ms).is_empty());
    assert!(world.run(10_000).is_empty());
}

#[test]
fn after_a_restart_silence_counts_only_when_the_grace_is_over() {
    let mut world = World::new(&["tokyo"]);
    let now_ms = world.now_ms;
    world.verdicts.restore("taiwan", Verdict::Healthy, 0, now_ms);
    world.verdicts.restore("osaka", Verdict::ApiDown, -9, now_ms);
    let osaka = world.verdicts.view("osaka").unwrap();
    assert_eq!((osaka.verdict, osaka.since_ms), (Verdict::ApiDown, -9));
    world.run(10_000);
    assert_eq!(world.verdict("taiwan"), Verdict::Unknown);
    world.run(5_000);
    assert_eq!(world.verdict("taiwan"), Verdict::HubUnreachable);
}

#[test]
fn a_flapping_cluster_is_held_down_for_a_bounded_time() {
    let mut world = World::new(&["osaka", "taiwan", "tokyo"]);
    let mut falls = 0;
    for _ in 0..6 {
        world.silent.push("taiwan");
        falls += world.run(4_000).iter().filter(|(_, change)| change.to == Verdict::HubUnreachable).count();
        world.silent.clear();
        world.run(3_000);
    }
    assert!(falls < 6, "the last flaps move nothing");
    assert_eq!(world.verdict("taiwan"), Verdict::HubUnreachable);
    world.run(180_000);
    assert_eq!(world.verdict("taiwan"), Verdict::Healthy);
}

#[test]
fn the_next_deadline_is_never_missed() {
    let mut verdicts = Verdicts::new(Options::default(), 0);
    assert_eq!(verdicts.next_deadline_ms(), None);
    verdicts.observe(0, "taiwan", Signal::Heartbeat { api_ok: true, message: String::new() });
    verdicts.observe(0, "tokyo", Signal::Heartbeat { api_ok: true, message: String::new() });
    verdicts.step(0);
    let mut now_ms = 0;
    for beat in 1..=10 {
        verdicts.observe(now_ms, "tokyo", Signal::Heartbeat { api_ok: true, message: String::new() });
        let deadline = verdicts.next_deadline_ms().unwrap();
        assert!(deadline > now_ms && deadline <= now_ms + 1000, "{beat}");
        now_ms = deadline;
        if let Some(change) = verdicts.step(now_ms).first() {
            assert_eq!((now_ms, change.cluster.as_str()), (3_000, "taiwan"));
            return;
        }
    }
    panic!("taiwan was never lost");
}

#[test]
fn a_clock_that_is_set_back_stops_no_verdict() {
    let mut world = World::new(&["taiwan", "tokyo"]);
    world.silent.push("taiwan");
    world.run(1_000);
    // Before anybody could judge; the clock is set back for longer than everything that is counted.
    world.now_ms += 3_000_000;
    world.run(200);
    world.now_ms -= 3_000_000;
    let set = world.now_ms;
    let changes = world.run(10_000);
    let [(at, change)] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!((change.cluster.as_str(), change.to), ("taiwan", Verdict::HubUnreachable));
    assert!(at - set <= 5_000, "{} ms", at - set);
    assert!(world.verdicts.view("taiwan").unwrap().since_ms <= world.now_ms);
    world.silent.clear();
    assert_eq!(summary(&world.run(10_000)).len(), 1);
    assert_eq!(world.verdict("taiwan"), Verdict::Healthy);
    // And what was bad before it was set back has been bad since then at the latest.
    world.silent.push("taiwan");
    world.run(10_000);
    world.now_ms -= 8_000;
    let set = world.now_ms;
    world.run(1_000);
    assert_eq!(world.verdict("taiwan"), Verdict::HubUnreachable);
    assert!(world.verdicts.view("taiwan").unwrap().since_ms <= set + 100);
}
