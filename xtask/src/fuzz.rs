//! `cargo xtask fuzz`: the tests that generate random network input, for a minute each, or as long as given.

use anyhow::Result;

use crate::test::cargo_with;

const SECONDS: u64 = 60;
const SEED: u64 = 2026;

/// How long.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Seconds of each.
    #[arg(long, default_value_t = SECONDS)]
    seconds: u64,
    /// Where they start.
    #[arg(long, default_value_t = SEED)]
    seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { seconds: SECONDS, seed: SEED }
    }
}

/// Runs them beside each other. Not by nextest, which ends what takes long.
pub(crate) fn run(options: &Options) -> Result<()> {
    let words = ["test", "--workspace", "--test", "it", "--", "--nocapture"];
    let tests = ["queries_with_options_are_read_alike", "no_octets_bring_an_answer_that_is_none"];
    let (seconds, seed) = (options.seconds.to_string(), options.seed.to_string());
    cargo_with(&[&words[..], &tests].concat(), &[("DNS_FUZZ_SECONDS", &seconds), ("DNS_FUZZ_SEED", &seed)])
}
