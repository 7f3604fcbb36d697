//! Many seeds, on all cores.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use parking_lot::Mutex;

use crate::{Bug, Tally, Violation, World};

/// What came of many seeds.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Seeds that were run.
    pub seeds: u64,
    /// What happened in them.
    pub tally: Tally,
    /// Those that failed, by seed.
    pub failed: Vec<(u64, Violation)>,
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
pub fn run(seeds: Range<u64>, bug: Bug, on_failure: OnFailure) -> Outcome {
    run_until(seeds, bug, |_| on_failure == OnFailure::Stop)
}

/// The lowest of the seeds, as far as they were begun, that a check with these words catches the bug in.
pub fn catch(seeds: Range<u64>, bug: Bug, by: &str) -> Option<(u64, Violation)> {
    let outcome = run_until(seeds, bug, |violation| violation.0.contains(by));
    outcome.failed.into_iter().find(|(_, violation)| violation.0.contains(by))
}

fn run_until(seeds: Range<u64>, bug: Bug, is_enough: impl Fn(&Violation) -> bool + Sync) -> Outcome {
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
                    let mut world = World::new(seed, bug, false);
                    let result = world.run();
                    let mut total = total.lock();
                    total.seeds += 1;
                    total.tally.add(world.tally());
                    if let Err(violation) = result {
                        if is_enough(&violation) {
                            stop.store(true, Ordering::Relaxed);
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

/// A seed with its trace.
pub fn replay(seed: u64, bug: Bug) -> (Result<(), Violation>, String) {
    let mut world = World::new(seed, bug, true);
    let result = world.run();
    (result, world.trace())
}
