//! Many seeds, on all cores.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use parking_lot::Mutex;

use crate::{Bug, Story, Tally, Violation, World};

/// Which world it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// Says everything that is drawn.
    pub seed: u64,
    /// What is planted in it.
    pub bug: Bug,
    /// Its kind, where that is not drawn.
    pub story: Option<Story>,
}

impl Case {
    /// The world of a seed.
    pub const fn of(seed: u64) -> Self {
        Self { seed, bug: Bug::None, story: None }
    }
}

/// What came of many seeds.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Seeds that were run.
    pub seeds: u64,
    /// What happened in them.
    pub tally: Tally,
    /// Those that failed, by seed.
    pub failed: Vec<(u64, Violation)>,
    /// The lowest of those after which the rest was left.
    enough: Option<(u64, Violation)>,
}

/// What becomes of the rest when a seed fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// They are run.
    GoOn,
    /// Those that are not begun are left.
    Stop,
}

/// Runs seeds on all cores, in order but for the last few.
pub fn run(seeds: Range<u64>, on_failure: OnFailure) -> Outcome {
    run_until(seeds, Case::of, |_, _| on_failure == OnFailure::Stop)
}

/// The lowest of the seeds, as far as they were begun, whose world keeps what must hold, and in which the check with these words fails as soon
/// as the bug is planted in it.
pub fn catch(seeds: Range<u64>, bug: Bug, by: &str, story: Story) -> Option<(Case, Violation)> {
    let case = |seed| Case { seed, bug, story: Some(story) };
    let proves = |seed: u64, violation: &Violation| {
        let without = Case { bug: Bug::None, ..case(seed) };
        violation.0.contains(by) && World::new(without, false).run().is_ok()
    };
    let outcome = run_until(seeds, case, proves);
    outcome.enough.map(|(seed, violation)| (case(seed), violation))
}

fn run_until(
    seeds: Range<u64>,
    case: impl Fn(u64) -> Case + Sync,
    is_enough: impl Fn(u64, &Violation) -> bool + Sync,
) -> Outcome {
    let (next, stop) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let total: Mutex<Outcome> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let mut world = World::new(case(seed), false);
                    let result = world.run();
                    let enough = result.as_ref().is_err_and(|violation| is_enough(seed, violation));
                    let mut total = total.lock();
                    total.seeds += 1;
                    total.tally.add(world.tally());
                    if let Err(violation) = result {
                        if enough {
                            stop.store(true, Ordering::Relaxed);
                            let lower = total.enough.as_ref().is_none_or(|(known, _)| seed < *known);
                            if lower {
                                total.enough = Some((seed, violation.clone()));
                            }
                        }
                        total.failed.push((seed, violation));
                    }
                }
            });
        }
    });
    let mut outcome = total.into_inner();
    outcome.failed.sort_by_key(|(seed, _)| *seed);
    outcome
}

/// A world with its trace.
pub fn replay(case: Case) -> (Result<(), Violation>, String) {
    let mut world = World::new(case, true);
    let result = world.run();
    (result, world.trace())
}
