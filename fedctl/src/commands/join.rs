//! `fedctl join NAME`

use anyhow::Result;
use clap::builder::Arg;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use federation_runtime::shutdown::Shutdown;
use member_agent::Service;

/// Options of `fedctl join`: the agent's, with the cluster's name as a positional argument, and a data directory if none is given.
#[derive(Clone, Debug)]
pub(crate) struct Options(member_agent::Options);

impl Args for Options {
    fn augment_args(command: Command) -> Command {
        member_agent::Options::augment_args(command)
            .mut_arg("name", |_| {
                Arg::new("name")
                    .value_name("CLUSTER")
                    .help("The cluster's name in the federation")
                    .required(true)
                    .value_parser(super::cluster_name)
            })
            .mut_arg("hub", |arg| arg.value_parser(super::init::address))
            .mut_arg("data_dir", |arg| arg.required(false).default_value("agent-CLUSTER"))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Options {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut options = member_agent::Options::from_arg_matches(matches)?;
        if matches.value_source("data_dir") == Some(ValueSource::DefaultValue) {
            options.data_dir = format!("agent-{}", options.name).into();
        }
        Ok(Self(options))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

pub(crate) async fn run(options: Options, shutdown: Shutdown) -> Result<()> {
    Ok(Service::new(options.0).run(shutdown).await?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn agent(line: &str) -> member_agent::Options {
        Line::try_parse_from(line.split(' ')).unwrap().options.0
    }

    #[test]
    fn what_a_frozen_agent_asks_for_can_be_given() {
        assert!(!agent("join taiwan --hub hub:6444").accept_new_hub);
        let told = agent("join taiwan --hub hub:6444 --accept-new-hub --label tier=one");
        assert!(told.accept_new_hub);
        assert_eq!(told.data_dir, std::path::Path::new("agent-taiwan"));
        assert_eq!(
            agent("join taiwan --hub hub:6444 --data-dir here").data_dir,
            std::path::Path::new("here")
        );
        let refused = |line: &str| Line::try_parse_from(line.split(' ')).err().unwrap().to_string();
        assert!(refused("join Taiwan_1 --hub hub:6444").contains("must be a DNS label"));
        assert!(refused("join taiwan --hub https://hub:6444").contains("must be a host and a port"));
        assert!(refused("join taiwan --hub hub:6444 --label tier").contains("write KEY=VALUE"));
        assert!(refused("join --hub hub:6444").contains("<CLUSTER>"));
        assert_eq!((told.name.as_str(), told.labels), ("taiwan", vec![("tier".into(), "one".into())]));
    }
}
