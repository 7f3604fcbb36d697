//! `cargo xtask fuzz`: random input for everything that reads what others sent.
//!
//! The DNS server's own tests compare its two ways of answering, for a minute. All other readers are in the program `fuzz`, which tells seed
//! and number of an input that fails, and tries that one again with `--only`, `--seed` and `--input`.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::test::{cargo, cargo_with, command};

/// The DNS server's tests.
const DNS: &str = "dns";
const DNS_SECONDS: u64 = 60;
/// Of each other: together they take less than a minute on two cores.
const SECONDS: u64 = 5;
const SEED: u64 = 2026;

/// How long, and what.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Seconds for each reader; if not given, 60 for dns and 5 for each other.
    #[arg(long)]
    seconds: Option<u64>,
    /// Which input is made.
    #[arg(long, default_value_t = SEED)]
    seed: u64,
    /// Only this reader; `dns`, or one of --list. May be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Only this one input, which is printed.
    #[arg(long, value_name = "NUMBER", requires = "only")]
    input: Option<u64>,
    /// Lists the readers.
    #[arg(long)]
    list: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { seconds: None, seed: SEED, only: Vec::new(), input: None, list: false }
    }
}

/// Runs them, as many beside each other as there are cores.
pub(crate) fn run(options: &Options) -> Result<()> {
    let others: Vec<&String> = options.only.iter().filter(|name| *name != DNS).collect();
    if !options.list && (options.only.is_empty() || others.len() < options.only.len()) {
        dns(options.seconds.unwrap_or(DNS_SECONDS), options.seed)?;
    }
    if options.list {
        println!("{DNS:<14}queries to the DNS server");
    } else if others.is_empty() && !options.only.is_empty() {
        return Ok(());
    }
    // With the choice of features of everything else, so that nothing is compiled twice.
    cargo(&["build", "--quiet", "--workspace", "--bin", "fuzz"])?;
    let program = std::env::current_exe().context("find this program")?.with_file_name("fuzz");
    let mut fuzz = Command::new(program);
    fuzz.args([
        "--seconds",
        &options.seconds.unwrap_or(SECONDS).to_string(),
        "--seed",
        &options.seed.to_string(),
    ]);
    for name in others {
        fuzz.args(["--only", name.as_str()]);
    }
    if let Some(input) = options.input {
        fuzz.args(["--input", &input.to_string()]);
    }
    if options.list {
        fuzz.arg("--list");
    }
    command(&mut fuzz)
}

/// Not by nextest, which ends what takes long.
fn dns(seconds: u64, seed: u64) -> Result<()> {
    let words = ["test", "--workspace", "--test", "it", "--", "--nocapture"];
    let tests = ["queries_with_options_are_read_alike", "no_octets_bring_an_answer_that_is_none"];
    let (seconds, seed) = (seconds.to_string(), seed.to_string());
    cargo_with(&[&words[..], &tests].concat(), &[("DNS_FUZZ_SECONDS", &seconds), ("DNS_FUZZ_SEED", &seed)])
}
