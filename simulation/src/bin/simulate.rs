//! `simulate [--seeds N] [--from N]`: many seeds. `--seed N`: one, with its trace. `--mutations [N]`: every planted bug, and the seed that
//! catches it.

use std::process::ExitCode;
use std::time::Instant;

use simulation::{Bug, OnFailure, catch, replay, run};

/// A planted bug is to be caught within so many seeds.
const SEEDS_WITH_BUG: u64 = 2000;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut asked = Asked { seeds: 1000, from: 0, seed: None, mutations: None };
    let mut rest = words.iter().peekable();
    while let Some(word) = rest.next() {
        let number = rest.peek().and_then(|number| number.parse::<u64>().ok());
        if number.is_some() {
            rest.next();
        }
        match (word.as_str(), number) {
            ("--seeds", Some(number)) => asked.seeds = number,
            ("--from", Some(number)) => asked.from = number,
            ("--seed", Some(number)) => asked.seed = Some(number),
            ("--mutations", number) => asked.mutations = Some(number.unwrap_or(SEEDS_WITH_BUG)),
            _ => {
                eprintln!("simulate: {word}: it is --seeds N, --from N, --seed N, or --mutations [N]");
                return ExitCode::from(2);
            }
        }
    }
    match (asked.seed, asked.mutations) {
        (Some(seed), _) => one(seed),
        (None, Some(within)) => mutations(asked.from..asked.from.saturating_add(within)),
        (None, None) => many(asked.from..asked.from.saturating_add(asked.seeds)),
    }
}

struct Asked {
    seeds: u64,
    from: u64,
    seed: Option<u64>,
    mutations: Option<u64>,
}

fn one(seed: u64) -> ExitCode {
    let (result, trace) = replay(seed, Bug::None);
    println!("{trace}");
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(violation) => {
            eprintln!("seed {seed}: {violation}");
            ExitCode::FAILURE
        }
    }
}

fn many(seeds: std::ops::Range<u64>) -> ExitCode {
    let start = Instant::now();
    let outcome = run(seeds, Bug::None, OnFailure::GoOn);
    for (seed, violation) in &outcome.failed {
        println!("seed {seed}: {violation}");
    }
    println!(
        "{} seeds in {:.1} s, {} failed; {}",
        outcome.seeds,
        start.elapsed().as_secs_f64(),
        outcome.failed.len(),
        outcome.tally
    );
    if outcome.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn mutations(seeds: std::ops::Range<u64>) -> ExitCode {
    let mut missed = 0;
    for (bug, by) in Bug::ALL {
        let start = Instant::now();
        // Seeds that fail without it prove nothing.
        let mut from = seeds.start;
        let caught = loop {
            match catch(from..seeds.end, bug, by) {
                Some((seed, _)) if replay(seed, Bug::None).0.is_err() => from = seed + 1,
                caught => break caught,
            }
        };
        let seconds = start.elapsed().as_secs_f64();
        match caught {
            Some((seed, violation)) => {
                println!("{bug:?}: caught by seed {seed} in {seconds:.1} s: {violation}");
            }
            None => {
                missed += 1;
                println!("{bug:?}: not caught by seeds {seeds:?} in {seconds:.1} s");
            }
        }
    }
    println!("{} of {} mutations are caught", Bug::ALL.len() - missed, Bug::ALL.len());
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
