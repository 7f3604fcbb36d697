//! Behaviour of the verdicts when probers vote.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use super::*;
use crate::api::Verdict;

/// Clusters of which `default/web` is probed, and a clock that ticks in tenths of a second.
struct World {
    verdicts: Verdicts,
    now_ms: i64,
    clusters: Vec<&'static str>,
    /// Whose heartbeats the hub does not hear.
    silent: Vec<&'static str>,
    api_down: Vec<&'static str>,
    /// Where no prober reaches anything.
    dead: Vec<&'static str>,
    /// What one prober does not reach though it is there.
    blind: Vec<(Voter, &'static str)>,
    voters: Vec<Voter>,
}

fn dns(name: &str) -> Voter {
    Voter::Dns { identity: name.into(), instance: name.into() }
}

impl World {
    fn new(clusters: &[&'static str], voters: &[Voter]) -> Self {
        let mut verdicts = Verdicts::new(Options::default(), 0);
        for cluster in clusters {
            verdicts.add(cluster, 0);
        }
        let lives = BTreeMap::from([("default/web".to_owned(), VOTE_LIFE_MS)]);
        verdicts
            .expect_votes(clusters.iter().map(|cluster| ((*cluster).to_owned(), lives.clone())).collect());
        let mut world = Self {
            verdicts,
            now_ms: 0,
            clusters: clusters.to_vec(),
            silent: vec![],
            api_down: vec![],
            dead: vec![],
            blind: vec![],
            voters: voters.to_vec(),
        };
        world.run(4_000);
        world
    }

    fn run(&mut self, duration_ms: i64) -> Vec<(i64, Change)> {
        let mut changes = Vec::new();
        for _ in 0..duration_ms / 100 {
            self.now_ms += 100;
            if self.now_ms % 1000 == 0 {
                self.beat();
            }
            // Probers are out of step, as they are.
            for (number, voter) in self.voters.clone().iter().enumerate() {
                if self.now_ms % 1000 == 300 * (number as i64 + 1) {
                    self.probe(voter);
                }
            }
            changes.extend(self.verdicts.step(self.now_ms).into_iter().map(|change| (self.now_ms, change)));
        }
        changes
    }

    fn beat(&mut self) {
        for cluster in &self.clusters {
            if !self.silent.contains(cluster) {
                let api_ok = !self.api_down.contains(cluster);
                let signal = Signal::Heartbeat { api_ok, message: "connection refused".into() };
                self.verdicts.observe(self.now_ms, cluster, signal);
            }
        }
    }

    fn probe(&mut self, voter: &Voter) {
        for cluster in self.clusters.clone() {
            let fails = self.dead.contains(&cluster) || self.blind.contains(&(voter.clone(), cluster));
            let vote = Vote {
                outcome: if fails { Outcome::Down } else { Outcome::Up },
                failures: u32::from(fails) * 2,
                at_ms: self.now_ms,
                message: if fails { "timed out".into() } else { String::new() },
                ..Vote::default()
            };
            self.verdicts.vote(voter, cluster, "default/web", vote);
        }
    }

    fn view(&self, cluster: &str) -> View {
        self.verdicts.view(cluster).unwrap()
    }

    /// Whether the probers' word takes users away. One word alone, and two that differ, say nothing.
    fn is_withdrawn(&self, cluster: &str) -> bool {
        let served = self.verdicts.served(self.now_ms);
        served[cluster].get("default/web").is_some_and(|served| !served.passing)
    }
}

fn summary(changes: &[(i64, Change)]) -> Vec<(i64, &str, Verdict, Rule)> {
    changes.iter().map(|(at, change)| (*at, change.cluster.as_str(), change.to, change.rule)).collect()
}

#[test]
fn a_data_plane_that_dies_while_the_api_is_up_is_down_as_soon_as_two_probers_say_so() {
    let mut world = World::new(&["taiwan", "tokyo"], &[Voter::Controller, dns("one")]);
    world.dead.push("taiwan");
    let changes = world.run(5_000);
    let down = Verdict::DataPlaneDown;
    assert_eq!(summary(&changes), [(4_600, "taiwan", down, Rule::QuorumFails)]);
    assert!(changes[0].1.reason.contains("2 of 2 votes"), "{}", changes[0].1.reason);
    assert_eq!(world.verdicts.frozen(), None);
    let served = world.verdicts.served(world.now_ms);
    assert!(!served["taiwan"]["default/web"].passing && served["tokyo"]["default/web"].passing);
    world.dead.clear();
    assert_eq!(summary(&world.run(5_000)), [(9_600, "taiwan", Verdict::Healthy, Rule::AllWell)]);
}

fn of_one_identity(instance: &str) -> Voter {
    Voter::Dns { identity: "shared".into(), instance: instance.into() }
}

#[test]
fn one_certificate_under_many_names_is_one_word_and_withdraws_nobody() {
    let servers = [of_one_identity("one"), of_one_identity("two"), of_one_identity("three")];
    let mut world = World::new(&["taiwan", "tokyo"], &servers);
    world.blind.extend(servers.iter().map(|server| (server.clone(), "taiwan")));
    assert!(world.run(10_000).iter().all(|(_, change)| change.to != Verdict::DataPlaneDown));
    assert!(!world.is_withdrawn("taiwan"));
    // With another's word they are two, not four.
    world.voters = vec![of_one_identity("one"), of_one_identity("two"), Voter::Controller];
    world.blind.push((Voter::Controller, "taiwan"));
    let changes = world.run(5_000);
    let fell = &changes.last().unwrap().1;
    assert_eq!(fell.rule, Rule::QuorumFails);
    assert!(fell.reason.contains("2 of 2 votes"), "{}", fell.reason);
    let (_, report) = world.verdicts.reports(world.now_ms).find(|(name, _)| *name == "taiwan").unwrap();
    assert_eq!(report.votes.iter().filter(|vote| vote.counts).count(), 2);
}

#[test]
fn one_identity_sees_users_served_if_one_of_its_servers_does() {
    let servers = [of_one_identity("one"), of_one_identity("two"), Voter::Controller];
    let mut world = World::new(&["taiwan", "tokyo"], &servers);
    world.blind.push((of_one_identity("one"), "taiwan"));
    world.blind.push((Voter::Controller, "taiwan"));
    assert!(world.run(10_000).iter().all(|(_, change)| change.to != Verdict::DataPlaneDown));
    assert!(!world.is_withdrawn("taiwan"));
}

#[test]
fn a_hub_that_is_cut_off_one_member_moves_nobody_while_users_are_served() {
    let mut world = World::new(&["taiwan", "tokyo"], &[Voter::Controller, dns("one")]);
    world.silent.push("taiwan");
    // The controller's own probes go the same way.
    world.blind.push((Voter::Controller, "taiwan"));
    let changes = world.run(60_000);
    assert_eq!(changes.last().unwrap().1.to, Verdict::HubUnreachable);
    assert!(changes.iter().all(|(_, change)| change.to != Verdict::DataPlaneDown), "{changes:?}");
    let view = world.view("taiwan");
    assert_eq!((view.rule, view.users_served), (Rule::UsersServed, true));
    assert!(world.verdicts.served(world.now_ms)["taiwan"]["default/web"].passing);
    assert_eq!(world.verdicts.frozen(), None);
}

#[test]
fn silence_and_the_only_prober_are_two_words() {
    let mut world = World::new(&["taiwan", "tokyo"], &[dns("one")]);
    world.dead.push("taiwan");
    world.run(2_500);
    assert_ne!(world.view("taiwan").verdict, Verdict::DataPlaneDown, "one word is no quorum");
    world.silent.push("taiwan");
    world.run(4_000);
    let view = world.view("taiwan");
    assert_eq!((view.verdict, view.rule), (Verdict::DataPlaneDown, Rule::SilentAndUnserved));
}

#[test]
fn an_api_server_that_is_down_moves_nobody_while_users_are_served() {
    let mut world = World::new(&["taiwan", "tokyo"], &[Voter::Controller, dns("one")]);
    world.api_down.push("taiwan");
    world.run(10_000);
    let view = world.view("taiwan");
    assert_eq!((view.verdict, view.rule, view.users_served), (Verdict::ApiDown, Rule::UsersServed, true));
}

#[test]
fn voters_that_disagree_for_a_while_are_a_partition() {
    let mut world = World::new(&["taiwan", "tokyo"], &[Voter::Controller, dns("one")]);
    world.blind.push((dns("one"), "taiwan"));
    let changes = world.run(10_000);
    assert_eq!(summary(&changes), [(6_600, "taiwan", Verdict::Partitioned, Rule::VotersDisagree)]);
    world.blind.clear();
    assert_eq!(world.run(5_000).last().unwrap().1.to, Verdict::Healthy);
}

#[test]
fn a_third_prober_settles_what_two_disagree_about() {
    let mut world = World::new(&["taiwan", "tokyo"], &[Voter::Controller, dns("one"), dns("two")]);
    world.blind.push((dns("one"), "taiwan"));
    assert!(world.run(10_000).is_empty());
    world.blind.push((dns("two"), "taiwan"));
    world.run(2_000);
    assert_eq!(world.view("taiwan").verdict, Verdict::DataPlaneDown);
}

#[test]
fn old_votes_count_for_nothing() {
    let mut world = World::new(&["taiwan", "tokyo"], &[Voter::Controller, dns("one")]);
    world.blind.push((dns("one"), "taiwan"));
    world.run(10_000);
    assert_eq!(world.view("taiwan").verdict, Verdict::Partitioned);
    // The DNS server that disagreed is gone for good.
    world.voters.pop();
    let changes = world.run(15_000);
    assert_eq!(changes.last().unwrap().1.to, Verdict::Healthy);
    let (at, _) = changes.last().unwrap();
    assert!((23_000..25_500).contains(at), "its last vote was at 13.6 s and counts for 10 s: {at}");
}

#[test]
fn a_hub_whose_own_link_is_cut_says_so_and_freezes() {
    let clusters = ["fukuoka", "nagoya", "osaka", "taiwan", "tokyo"];
    let mut world = World::new(&clusters, &[Voter::Controller, dns("one")]);
    world.silent.extend(["osaka", "taiwan", "tokyo"]);
    world.run(10_000);
    let frozen = world.verdicts.frozen().unwrap().to_owned();
    assert!(frozen.contains("3 of 5") && frozen.contains("the hub's own link is suspect"), "{frozen}");
    world.silent.clear();
    world.run(5_000);
    assert_eq!(world.verdicts.frozen(), None);
}

#[test]
fn what_fails_everywhere_at_once_freezes_before_anybody_moves() {
    let mut world = World::new(&["taiwan", "tokyo"], &[Voter::Controller, dns("one")]);
    world.dead.extend(["taiwan", "tokyo"]);
    loop {
        let changes = world.run(100);
        if changes.iter().any(|(_, change)| change.to == Verdict::DataPlaneDown) {
            assert!(world.verdicts.frozen().is_some(), "{changes:?}");
            break;
        }
    }
}

#[test]
fn most_clusters_cut_at_once_freeze_before_the_one_that_is_probed_is_given_up() {
    let clusters = ["fukuoka", "nagoya", "osaka", "taiwan", "tokyo"];
    for phase_ms in (0..1000).step_by(100) {
        let mut world = World::new(&clusters, &[]);
        world.voters.clear();
        world.run(3_000 + phase_ms);
        // Only Taiwan's and Tokyo's users are looked at; the soonest that two probers can say so.
        let cut_ms = world.now_ms;
        world.silent.extend(["nagoya", "osaka", "taiwan"]);
        world.run(1_700);
        for voter in [dns("one"), dns("two")] {
            let vote = Vote { outcome: Outcome::Down, failures: 2, at_ms: world.now_ms, ..Vote::default() };
            world.verdicts.vote(&voter, "taiwan", "default/web", vote);
        }
        world.run(100);
        assert_eq!(world.view("taiwan").verdict, Verdict::DataPlaneDown, "{phase_ms}");
        assert!(world.verdicts.frozen().is_some(), "cut at {cut_ms}, looked at {}", world.now_ms);
    }
}

#[test]
fn a_cluster_that_nobody_looks_at_any_more_stays_down_for_a_while() {
    let mut world = World::new(&["taiwan", "tokyo"], &[Voter::Controller, dns("one")]);
    world.dead.push("taiwan");
    world.run(5_000);
    assert_eq!(world.view("taiwan").verdict, Verdict::DataPlaneDown);
    // Its replicas have moved away, so that its Service is probed no more.
    let lives = BTreeMap::from([("default/web".to_owned(), VOTE_LIFE_MS)]);
    world.verdicts.expect_votes(BTreeMap::from([("tokyo".to_owned(), lives)]));
    world.run(200_000);
    assert_eq!(world.view("taiwan").verdict, Verdict::DataPlaneDown);
    world.run(120_000);
    assert_eq!(world.view("taiwan").verdict, Verdict::Healthy);
}

#[test]
fn heartbeats_that_flap_every_five_seconds_move_no_user() {
    let mut world = World::new(&["osaka", "taiwan", "tokyo"], &[Voter::Controller, dns("one")]);
    for _ in 0..12 {
        world.silent.push("taiwan");
        let lost = world.run(5_000);
        world.silent.clear();
        let back = world.run(5_000);
        for (_, change) in lost.iter().chain(&back) {
            assert!(matches!(change.to, Verdict::HubUnreachable | Verdict::Healthy), "{change:?}");
        }
        assert!(world.verdicts.served(world.now_ms)["taiwan"]["default/web"].passing);
        assert_eq!(world.verdicts.frozen(), None);
    }
}

#[test]
fn a_data_plane_that_flaps_is_held_down_and_its_users_move_but_a_few_times() {
    let mut world = World::new(&["osaka", "taiwan", "tokyo"], &[Voter::Controller, dns("one")]);
    let mut falls = 0;
    for _ in 0..24 {
        world.dead.push("taiwan");
        let changes = world.run(5_000);
        falls += changes
            .iter()
            .filter(|(_, change)| change.from != change.to && change.to == Verdict::DataPlaneDown)
            .count();
        world.dead.clear();
        world.run(5_000);
    }
    // Held down with the fifth fall (1 + 0.89 + 0.79 + 0.71 + 0.63 > 3.5), and until it has been quiet.
    assert_eq!(falls, 5, "in 24 flaps");
    assert!(world.verdicts.reports(world.now_ms).any(|(name, report)| name == "taiwan" && report.held_down));
    world.run(180_000);
    assert_eq!(world.view("taiwan").verdict, Verdict::Healthy);
}

#[test]
fn who_flaps_with_all_that_it_has_is_down_all_the_time_once_it_is_held_down() {
    let mut world = World::new(&["osaka", "taiwan", "tokyo"], &[Voter::Controller, dns("one")]);
    let mut changes = Vec::new();
    for _ in 0..12 {
        // Heartbeats are missed before probers have counted, and come back after them.
        world.silent.push("taiwan");
        changes.extend(world.run(700));
        world.dead.push("taiwan");
        changes.extend(world.run(4_300));
        world.dead.clear();
        changes.extend(world.run(700));
        world.silent.clear();
        changes.extend(world.run(4_300));
    }
    let withdrawn = |change: &Change| change.from != change.to && change.to == Verdict::DataPlaneDown;
    assert!(changes.iter().filter(|(_, change)| withdrawn(change)).count() <= 5, "{changes:?}");
    assert_eq!(world.view("taiwan").verdict, Verdict::DataPlaneDown);
}

#[test]
fn those_that_come_back_from_a_mass_failure_later_than_others_are_waited_for() {
    let clusters = ["fukuoka", "nagoya", "osaka", "taiwan", "tokyo"];
    let mut world = World::new(&clusters, &[Voter::Controller, dns("one")]);
    world.silent.extend(["nagoya", "osaka", "taiwan"]);
    world.dead.extend(["nagoya", "osaka", "taiwan"]);
    world.run(10_000);
    assert!(world.verdicts.frozen().is_some());
    world.silent.retain(|name| *name != "nagoya");
    world.dead.retain(|name| *name != "nagoya");
    world.run(4_000);
    assert_eq!(world.view("nagoya").verdict, Verdict::Healthy);
    assert!(world.verdicts.frozen().is_some(), "the others may be on their way");
    world.run(4_000);
    assert_eq!(world.verdicts.frozen(), None, "two of five may be given up");
}

#[test]
fn a_report_holds_every_vote_with_its_age() {
    let mut world = World::new(&["taiwan", "tokyo"], &[Voter::Controller, dns("one")]);
    world.run(500);
    let reports: BTreeMap<_, _> = world.verdicts.reports(world.now_ms).collect();
    let taiwan = &reports["taiwan"];
    assert_eq!((taiwan.agent.age_ms, taiwan.agent.missed, taiwan.agent.api_ok), (Some(500), 0, true));
    let votes: Vec<_> =
        taiwan.votes.iter().map(|vote| (vote.voter.to_string(), vote.age_ms, vote.counts)).collect();
    assert_eq!(votes, [("controller".to_owned(), 200, true), ("dns/one".to_owned(), 900, true)]);
    assert_eq!(taiwan.data, Quorum::Up);
}

#[test]
fn what_survivors_took_for_lost_is_not_well_for_its_heartbeats_alone() {
    let mut world = World::new(&["taiwan", "tokyo"], &[]);
    world.dead.push("taiwan");
    world.verdicts.doubt("taiwan", world.now_ms);
    world.verdicts.doubt("nowhere", world.now_ms);
    let changes = world.run(5_000);
    let changes: Vec<_> =
        changes.iter().map(|(_, change)| (&*change.cluster, change.to, change.rule)).collect();
    assert_eq!(changes, [("taiwan", Verdict::Unknown, Rule::TakenOver)]);
    // Survivors' word again changes nothing.
    world.verdicts.doubt("taiwan", world.now_ms);
    assert!(world.run(5_000).is_empty());
    world.voters = vec![dns("one"), dns("two")];
    world.run(3_000);
    assert_eq!(world.view("taiwan").verdict, Verdict::DataPlaneDown);
    world.dead.clear();
    world.run(3_000);
    assert_eq!(world.view("taiwan").verdict, Verdict::Healthy);
    assert_eq!(world.view("tokyo").verdict, Verdict::Healthy);
}

#[test]
fn a_doubt_ends_when_probers_see_users_served_or_nobody_looks_for_long() {
    let mut world = World::new(&["taiwan", "tokyo"], &[Voter::Controller, dns("one")]);
    world.verdicts.doubt("taiwan", world.now_ms);
    assert!(world.run(10_000).is_empty(), "probers say that it is well");
    let mut unseen = World::new(&["taiwan", "tokyo"], &[]);
    unseen.verdicts.doubt("taiwan", unseen.now_ms);
    unseen.run(Options::default().unseen_hold_ms - 1_000);
    assert_eq!(unseen.view("taiwan").verdict, Verdict::Unknown);
    unseen.run(2_000);
    assert_eq!(unseen.view("taiwan").verdict, Verdict::Healthy);
}

#[test]
fn a_data_plane_that_was_down_before_a_restart_stays_so_until_probers_have_looked() {
    let mut world = World::new(&["tokyo"], &[]);
    let now_ms = world.now_ms;
    world.verdicts.restore("taiwan", Verdict::DataPlaneDown, now_ms - 9, now_ms);
    world.clusters.push("taiwan");
    let lives = BTreeMap::from([("default/web".to_owned(), VOTE_LIFE_MS)]);
    world.verdicts.expect_votes(BTreeMap::from([("taiwan".to_owned(), lives)]));
    assert!(world.run(5_000).is_empty(), "heartbeats say nothing of its users");
    world.voters = vec![dns("one")];
    world.run(3_000);
    assert_eq!(world.view("taiwan").verdict, Verdict::Healthy);
}
