//! The agent against a hub on loopback.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod hub;
mod join;

/// Flags as the command line gives them.
fn options(arguments: &[&str]) -> member_agent::Options {
    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        options: member_agent::Options,
    }
    let arguments = std::iter::once("member-agent").chain(arguments.iter().copied());
    <Cli as clap::Parser>::try_parse_from(arguments).unwrap().options
}
