//! Some seeds of the whole federation, and the list of planted bugs: see the crate. `cargo xtask test` runs many more beside this.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::thread;

use simulation::{Bug, Case, OnFailure, Story, catch, replay, run};

/// A few seconds of two cores.
const SEEDS: u64 = 200;
/// A planted bug is caught within so many seeds of its kind of world.
const SEEDS_WITH_BUG: u64 = 400;

#[test]
fn every_seed_keeps_what_must_hold_and_converges() {
    let outcome = run(0..SEEDS, OnFailure::GoOn);
    println!("{SEEDS} seeds: {}", outcome.tally);
    if let Some((seed, violation)) = outcome.failed.first() {
        let (again, trace) = replay(Case::of(*seed));
        let lines: Vec<&str> = trace.lines().collect();
        let tail = &lines[lines.len().saturating_sub(60)..];
        assert_eq!(again.as_ref(), Err(violation), "seed {seed} is not the same world twice");
        panic!("seed {seed}: {violation} (alone: cargo xtask simulate --seed {seed})\n{}", tail.join("\n"));
    }
    // A simulation in which nothing happens proves nothing.
    let tally = outcome.tally;
    assert!(tally.applied > 20 * SEEDS && tally.removed > SEEDS && tally.kills > SEEDS, "{tally}");
    assert!(tally.acts > SEEDS / 100 && tally.restores > SEEDS / 20, "{tally}");
}

#[test]
fn a_seed_is_the_same_world_each_time() {
    thread::scope(|scope| {
        for (story, _) in Story::all() {
            scope.spawn(move || {
                let case = Case { story: Some(story), ..Case::of(7) };
                assert_eq!(replay(case), replay(case), "{story:?}");
            });
        }
    });
}

#[test]
fn every_planted_bug_is_caught_by_its_check() {
    for (bug, by, story) in Bug::ALL {
        let Some((case, violation)) = catch(0..SEEDS_WITH_BUG, bug, by, story) else {
            panic!("{SEEDS_WITH_BUG} seeds of {story:?} did not catch {bug:?} by {by:?}")
        };
        println!("{bug:?}: seed {} of {story:?}: {violation}", case.seed);
    }
}
