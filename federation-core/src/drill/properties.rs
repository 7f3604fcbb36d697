//! Property tests of drills. A failing case is printed, and proptest keeps its seed.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::tests::{mk_facts, mk_spec};
use super::*;
use crate::api::{DrillPhase, DrillScope, DrillUsers, FailoverDrillStatus};

/// What happens between two looks.
#[derive(Clone, Debug)]
struct Slice {
    passed_ms: i64,
    renewed: bool,
    stop: bool,
    frozen: bool,
    other: bool,
    healthy: [bool; 2],
    app: bool,
    hub_restarts: bool,
    restored: bool,
    failed: u64,
    heard: bool,
}

fn slice() -> impl Strategy<Value = Slice> {
    let rarely = prop::bool::weighted(0.03);
    let mostly = prop::bool::weighted(0.95);
    (
        prop_oneof![9 => 0..3000_i64, 1 => 0..60_000_i64, 1 => -5000..0_i64],
        (prop::bool::weighted(0.8), rarely, prop::bool::weighted(0.03), prop::bool::weighted(0.1)),
        (mostly, prop::bool::weighted(0.9), prop::bool::weighted(0.95), prop::bool::weighted(0.02)),
        (any::<bool>(), 0..3_u64, any::<bool>()),
    )
        .prop_map(
            |(
                passed_ms,
                (renewed, stop, frozen, other),
                (one, two, app, restarts),
                (back, failed, heard),
            )| Slice {
                passed_ms,
                renewed,
                stop,
                frozen,
                other,
                healthy: [one, two],
                app,
                hub_restarts: restarts,
                restored: back,
                failed,
                heard,
            },
        )
}

fn scope() -> impl Strategy<Value = DrillScope> {
    prop_oneof![Just(DrillScope::Traffic), Just(DrillScope::Schedule), Just(DrillScope::Isolate)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever is seen, in whatever order, and whoever dies: nothing is lost but while Running; Running ends with its time; every course
    /// ends; what is over stays as it was; and what was lost is given back before it is over.
    #[test]
    fn every_course_ends_restored(
        scope in scope(),
        hypothesis in prop_oneof![Just(""), Just("rto<3s"), Just("errors<5%,ready>=40%")],
        held in any::<bool>(),
        slices in prop::collection::vec(slice(), 1..60),
    ) {
        let mut spec = mk_spec(scope, hypothesis);
        if held {
            spec.holder_identity = "fedctl".into();
        }
        let mut status = FailoverDrillStatus::default();
        let (mut now_ms, mut runs) = (10_000_000_i64, 0);
        let (mut ran, mut renewed_ms) = (false, 10_000_000);
        let calm = Slice {
            passed_ms: 10_000, renewed: true, stop: false, frozen: false, other: false, healthy: [true, true], app: true,
            hub_restarts: false, restored: false, failed: 0, heard: true,
        };
        // After the storm only time passes: enough for the drill's own and that of the restoring.
        let after = vec![calm; 16];
        for slice in slices.into_iter().chain(after) {
            now_ms += slice.passed_ms;
            runs += i32::from(slice.hub_restarts);
            spec.stop |= slice.stop;
            if slice.renewed {
                renewed_ms = now_ms;
            }
            let mut facts = mk_facts();
            facts.frozen = slice.frozen.then(|| "mass failure".into());
            facts.other = slice.other.then(|| "other".into());
            for (cluster, healthy) in facts.clusters.values_mut().zip(slice.healthy) {
                cluster.healthy = healthy;
            }
            if !slice.app {
                facts.app = None;
            }
            let start = status.start_time.as_ref().map(|time| time.0.as_millisecond());
            if let Some(start) = start.filter(|_| status.phase == DrillPhase::Running) {
                let users = status.users.entry("here".into()).or_insert_with(DrillUsers::default);
                users.requests += 10;
                users.failed += slice.failed;
                if slice.heard {
                    users.last_heard_ms = Some(now_ms - start);
                }
                if slice.failed > 0 {
                    users.last_harm_ms = Some(now_ms - start);
                }
            }
            let runner = format!("run {runs}");
            let (detected, dns) = (BTreeMap::new(), BTreeMap::new());
            let seen = Seen {
                now_ms, renewed_ms, generation: Some(1), deleted: false, runner: &runner, facts: &facts,
                detected: &detected, decided_ms: None, dns: &dns, restored: slice.restored,
            };
            let next = step(&spec, &status, &seen);
            if status.phase.is_over() {
                prop_assert_eq!(&next.status, &status);
            }
            if next.status.phase == DrillPhase::Running {
                ran = true;
                prop_assert_eq!(&next.lost, &spec.lose);
                prop_assert!(!spec.stop && next.status.runner == runner);
                let start = next.status.start_time.as_ref().map_or(0, |time| time.0.as_millisecond());
                prop_assert!((0..spec.duration_ms()).contains(&(now_ms - start)));
                prop_assert!(spec.lapses_ms(renewed_ms).is_none_or(|at_ms| at_ms > now_ms));
                prop_assert!(facts.frozen.is_none());
            } else {
                prop_assert!(next.lost.is_empty());
            }
            if status.phase == DrillPhase::Running {
                prop_assert!(matches!(next.status.phase, DrillPhase::Running | DrillPhase::Restoring));
            }
            status = next.status;
        }
        prop_assert!(status.phase.is_over(), "{:?}", status);
        if ran {
            prop_assert!(status.end_time.is_some() && status.completion_time.is_some());
            prop_assert!(status.phase != DrillPhase::Passed || status.outcome == Some(DrillPhase::Passed));
        }
        prop_assert!(!status.log.is_empty() && !status.reason.is_empty() && !status.message.is_empty());
    }
}
