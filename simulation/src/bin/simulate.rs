//! `simulate [--seeds N] [--from N]`: many seeds. `--seed N [--story NAME] [--bug NAME]`: one, with its trace. `--mutations [N]`: every planted
//! bug, and the seed that catches it.

use std::process::ExitCode;
use std::time::Instant;

use simulation::{Bug, Case, OnFailure, Story, catch, replay, run};

/// A planted bug is to be caught within so many seeds.
const SEEDS_WITH_BUG: u64 = 2000;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match asked(&words) {
        Ok(Asked { case: Some(case), .. }) => one(case),
        Ok(Asked { from, mutations: Some(within), .. }) => mutations(from..from.saturating_add(within)),
        Ok(Asked { from, seeds, .. }) => many(from..from.saturating_add(seeds)),
        Err(word) => {
            eprintln!(
                "simulate: {word}: it is --seeds N, --from N, --seed N [--story NAME] [--bug NAME], or --mutations [N]"
            );
            ExitCode::from(2)
        }
    }
}

struct Asked {
    seeds: u64,
    from: u64,
    case: Option<Case>,
    mutations: Option<u64>,
}

/// What is asked for, or the word that is not understood.
fn asked(words: &[String]) -> Result<Asked, &str> {
    let mut asked = Asked { seeds: 1000, from: 0, case: None, mutations: None };
    let (mut story, mut bug) = (None, Bug::None);
    let mut rest = words.iter().peekable();
    while let Some(word) = rest.next() {
        let said = rest.next_if(|next| !next.starts_with("--")).map(String::as_str);
        let number = said.and_then(|said| said.parse::<u64>().ok());
        let is = |name: String| said.is_some_and(|said| name.eq_ignore_ascii_case(said));
        match (word.as_str(), number) {
            ("--seeds", Some(number)) => asked.seeds = number,
            ("--from", Some(number)) => asked.from = number,
            ("--seed", Some(number)) => asked.case = Some(Case::of(number)),
            ("--mutations", number) => asked.mutations = Some(number.unwrap_or(SEEDS_WITH_BUG)),
            ("--story", None) => {
                let found = Story::all().map(|(story, _)| story).find(|story| is(format!("{story:?}")));
                let Some(found) = found else { return Err(word) };
                story = Some(found);
            }
            ("--bug", None) => {
                let found = Bug::ALL.into_iter().find(|(bug, ..)| is(format!("{bug:?}")));
                let Some((found, ..)) = found else { return Err(word) };
                bug = found;
            }
            _ => return Err(word),
        }
    }
    asked.case = asked.case.map(|case| Case { bug, story, ..case });
    Ok(asked)
}

fn one(case: Case) -> ExitCode {
    let (result, trace) = replay(case);
    println!("{trace}");
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(violation) => {
            eprintln!("seed {}: {violation}", case.seed);
            ExitCode::FAILURE
        }
    }
}

fn many(seeds: std::ops::Range<u64>) -> ExitCode {
    let start = Instant::now();
    let outcome = run(seeds, OnFailure::GoOn);
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
    for (bug, by, story) in Bug::ALL {
        let start = Instant::now();
        let caught = catch(seeds.clone(), bug, by, story);
        let seconds = start.elapsed().as_secs_f64();
        match caught {
            Some((case, violation)) => {
                println!("{bug:?}: caught by seed {} of {story:?} in {seconds:.1} s: {violation}", case.seed);
            }
            None => {
                missed += 1;
                println!("{bug:?}: not caught by seeds {seeds:?} of {story:?} in {seconds:.1} s");
            }
        }
    }
    println!("{} of {} mutations are caught", Bug::ALL.len() - missed, Bug::ALL.len());
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
