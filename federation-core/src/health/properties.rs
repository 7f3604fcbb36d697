//! Property tests of the verdicts. A failing case is printed, and proptest keeps its seed.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::api::Verdict;

const CLUSTERS: [&str; 4] = ["osaka", "seoul", "taiwan", "tokyo"];

/// What happens to one cluster within half a second.
#[derive(Clone, Copy, Debug)]
struct Slice {
    beat: bool,
    api_ok: bool,
    /// Of the controller and two DNS servers: 0 silent, 1 up, 2 down, 3 doubted.
    votes: [u8; 3],
}

fn slice() -> impl Strategy<Value = Slice> {
    (any::<bool>(), prop::bool::weighted(0.8), prop::array::uniform3(0..4_u8))
        .prop_map(|(beat, api_ok, votes)| Slice { beat, api_ok, votes })
}

fn voters() -> [Voter; 3] {
    let dns = |name: &str| Voter::Dns { identity: name.into(), instance: name.into() };
    [Voter::Controller, dns("one"), dns("two")]
}

fn machine() -> Verdicts {
    let mut verdicts = Verdicts::new(Options::default(), 0);
    for cluster in CLUSTERS {
        verdicts.add(cluster, 0);
    }
    let lives = BTreeMap::from([("default/web".to_owned(), VOTE_LIFE_MS)]);
    verdicts.expect_votes(CLUSTERS.iter().map(|cluster| ((*cluster).to_owned(), lives.clone())).collect());
    verdicts
}

fn feed(verdicts: &mut Verdicts, now_ms: i64, cluster: &str, slice: Slice) {
    if slice.beat {
        let signal = Signal::Heartbeat { api_ok: slice.api_ok, message: String::new() };
        verdicts.observe(now_ms, cluster, signal);
    }
    for (voter, said) in voters().iter().zip(slice.votes) {
        let outcome = match said {
            0 => continue,
            1 => Outcome::Up,
            2 => Outcome::Down,
            _ => Outcome::Doubted,
        };
        let failures = u32::from(outcome != Outcome::Up) * 2;
        let vote = Vote { outcome, failures, at_ms: now_ms, ..Vote::default() };
        verdicts.vote(voter, cluster, "default/web", vote);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_verdict_is_backed_by_votes_and_the_next_step_is_never_far(
        history in prop::collection::vec(prop::array::uniform4(slice()), 1..60)
    ) {
        let mut verdicts = machine();
        let mut now_ms = 0;
        for slices in history {
            now_ms += 500;
            for (cluster, slice) in CLUSTERS.iter().zip(slices) {
                feed(&mut verdicts, now_ms, cluster, slice);
            }
            let changes = verdicts.step(now_ms);
            let deadline = verdicts.next_deadline_ms().unwrap();
            prop_assert!(deadline > now_ms && deadline <= now_ms + 1000);
            for change in changes.iter().filter(|change| change.to == Verdict::DataPlaneDown) {
                if change.from == Verdict::DataPlaneDown {
                    continue;
                }
                let (_, report) =
                    verdicts.reports(now_ms).find(|(name, _)| *name == change.cluster).unwrap();
                let said = |outcome| {
                    report.votes.iter().filter(|vote| vote.counts && vote.vote.outcome == outcome).count()
                };
                let (ups, downs) = (said(Outcome::Up), said(Outcome::Down));
                let silent = report.agent.missed >= 3;
                prop_assert!(downs > ups, "{downs} down against {ups} up");
                prop_assert!(downs >= 2 || silent, "one word moved users");
            }
            for (name, view) in verdicts.views() {
                prop_assert!(!(view.users_served && view.verdict == Verdict::Unknown && view.rule != Rule::NotHeardYet), "{name}");
            }
        }
    }

    #[test]
    fn users_who_are_served_are_never_said_not_to_be(
        history in prop::collection::vec(prop::array::uniform4(slice()), 1..60)
    ) {
        let mut verdicts = machine();
        let mut now_ms = 0;
        for slices in history {
            now_ms += 500;
            for (cluster, slice) in CLUSTERS.iter().zip(slices) {
                feed(&mut verdicts, now_ms, cluster, Slice { votes: [1; 3], ..slice });
            }
            verdicts.step(now_ms);
            for (name, view) in verdicts.views() {
                let wrong = matches!(view.verdict, Verdict::DataPlaneDown | Verdict::Partitioned);
                prop_assert!(!wrong, "{name}: {view:?}");
            }
        }
    }

    #[test]
    fn when_everything_is_well_for_long_everything_is_healthy_and_nothing_frozen(
        history in prop::collection::vec(prop::array::uniform4(slice()), 1..60)
    ) {
        let mut verdicts = machine();
        let mut now_ms = 0;
        for slices in history {
            now_ms += 500;
            for (cluster, slice) in CLUSTERS.iter().zip(slices) {
                feed(&mut verdicts, now_ms, cluster, slice);
            }
            verdicts.step(now_ms);
        }
        let well = Slice { beat: true, api_ok: true, votes: [1; 3] };
        // A flapping cluster is held down for at most some three half-lives.
        for _ in 0..400 {
            now_ms += 500;
            for cluster in CLUSTERS {
                feed(&mut verdicts, now_ms, cluster, well);
            }
            verdicts.step(now_ms);
        }
        for (name, view) in verdicts.views() {
            prop_assert_eq!(view.verdict, Verdict::Healthy, "{}", name);
        }
        prop_assert_eq!(verdicts.frozen(), None);
    }
}
