//! Seeded worlds: a hub with its controller, an agent with its disk and its member, and a network that breaks.
//!
//! At every step: no copy is deleted without a permitted removal of that very uid; no older `(epoch, generation)` is applied over a newer
//! one. Once the faults stop, member and hub agree within a bounded time. `SIMULATION_SEED=n` runs one seed alone.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod world;

use world::{Bug, World};

const SEEDS: u64 = 3000;

#[test]
fn every_seed_removes_only_what_is_permitted_and_converges() {
    let only: Option<u64> = std::env::var("SIMULATION_SEED").ok().map(|text| text.parse().unwrap());
    let seeds = only.map_or(0..SEEDS, |seed| seed..seed + 1);
    let (mut applied, mut removed, mut restarts) = (0, 0, 0);
    for seed in seeds {
        let mut world = World::new(seed, Bug::None);
        if let Err(violation) = world.run() {
            panic!("seed {seed}: {violation} (run it alone with SIMULATION_SEED={seed})\n{}", world.log());
        }
        applied += world.applied;
        removed += world.removed;
        restarts += world.restarts;
    }
    println!("{applied} applies, {removed} removals, {restarts} restarts");
    if only.is_none() {
        // A simulation in which nothing happens proves nothing.
        assert!(
            applied > 10 * SEEDS && removed > SEEDS && restarts > SEEDS,
            "{applied} {removed} {restarts}"
        );
    }
}

#[track_caller]
fn is_caught(bug: Bug, by: &str) {
    let caught = (0..300)
        .filter_map(|seed| World::new(seed, bug).run().err())
        .find(|violation| violation.contains(by));
    assert!(caught.is_some(), "300 seeds did not catch {bug:?}");
}

#[test]
fn removal_by_absence_is_caught() {
    is_caught(Bug::RemoveByAbsence, "without a permit");
}

#[test]
fn a_missing_fence_is_caught() {
    is_caught(Bug::NoFence, "older");
}

#[test]
fn a_hub_that_forgets_removals_at_a_reconnect_is_caught() {
    is_caught(Bug::LostRemovals, "did not converge");
}
