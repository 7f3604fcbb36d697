//! Everything that reads what others sent, against random input: `cargo xtask fuzz`.
//!
//! A [`Target`] knows well-formed input, damages it as [`Dice`] say, and checks what its reader makes of it: no panic, and what is written
//! again means the same. Each input is of its own dice, thrown by the seed, the target's name and the input's number, so that one can be
//! tried again alone: what failed says how.

#![recursion_limit = "512"]

mod dice;
mod mutate;
mod targets;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::Parser;

use dice::Dice;
use targets::{ALL, Case, Target};

/// Threads of servers have as much.
const STACK: usize = 2 << 20;
/// Failures of one target that are told.
const FAILURES_MAX: usize = 3;

#[derive(Parser)]
#[command(name = "fuzz", about = "Sends random input to everything that reads what others sent")]
struct Options {
    /// Seconds for each target.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Which input is made.
    #[arg(long, default_value_t = 2026)]
    seed: u64,
    /// Only this target. May be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Only this one input, which is printed.
    #[arg(long, value_name = "NUMBER")]
    input: Option<u64>,
    /// Lists the targets.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        for target in ALL {
            println!("{:<14}{}", target.name, target.what);
        }
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = options.only.iter().find(|name| ALL.iter().all(|target| target.name != **name)) {
        eprintln!("there is no target {unknown:?}: see --list");
        return ExitCode::FAILURE;
    }
    federation_runtime::tls::install_provider();
    let wanted =
        |target: &&Target| options.only.is_empty() || options.only.iter().any(|name| name == target.name);
    let queue: Mutex<VecDeque<&Target>> = Mutex::new(ALL.iter().filter(wanted).collect());
    let failures = Mutex::new(0);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            let work = || {
                while let Some(target) = queue.lock().ok().and_then(|mut queue| queue.pop_front()) {
                    let failed = run(target, &options);
                    if let Ok(mut all) = failures.lock() {
                        *all += failed;
                    }
                }
            };
            // A thread that cannot be started is one that does not help.
            if std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work).is_err() {
                eprintln!("a thread could not be started");
            }
        }
    });
    match failures.into_inner() {
        Ok(0) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Runs a target for its time, or for one input; the number of failures.
fn run(target: &Target, options: &Options) -> usize {
    let mut check = (target.make)();
    if let Some(number) = options.input {
        let outcome = one(&mut check, &mut Dice::of(options.seed, target.name, number).loud());
        println!("{}: {}", target.name, outcome.as_ref().err().map_or("nothing is wrong", String::as_str));
        return usize::from(outcome.is_err());
    }
    let (start, limit) = (Instant::now(), Duration::from_secs(options.seconds));
    let (mut count, mut failures, mut slowest) = (0_u64, 0, (Duration::ZERO, 0));
    while start.elapsed() < limit && failures < FAILURES_MAX {
        let begun = Instant::now();
        let outcome = one(&mut check, &mut Dice::of(options.seed, target.name, count));
        slowest = slowest.max((begun.elapsed(), count));
        if let Err(why) = outcome {
            failures += 1;
            eprintln!(
                "{}: {why}\n  again: cargo xtask fuzz --only {0} --seed {} --input {count}",
                target.name, options.seed
            );
        }
        count += 1;
    }
    println!(
        "{:<14}seed {}: {count} inputs in {:.0} s, {failures} failures; the slowest, number {}, took {} ms",
        target.name,
        options.seed,
        start.elapsed().as_secs_f64(),
        slowest.1,
        slowest.0.as_millis()
    );
    failures
}

fn one(check: &mut Case, dice: &mut Dice) -> Result<(), String> {
    // What a panic left half done is seen by later inputs; the first failure is the one to look at.
    catch_unwind(AssertUnwindSafe(|| check(dice))).unwrap_or_else(|_| Err("it panicked".to_owned()))
}
