//! A web user, somewhere on the internet.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use anyhow::{Context as _, Result};
use real_clusters::Network;

use crate::command::{Outcome, run};

/// A web user: resolves at the federation's DNS server, fetches over HTTP, both from a network namespace of its own.
#[derive(Clone, Copy, Debug)]
pub struct User {
    resolver: SocketAddr,
}

impl User {
    pub(crate) fn new(resolver: SocketAddr) -> Self {
        Self { resolver }
    }

    fn inside(program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", Network::USERS)).arg(program);
        command
    }

    /// Runs dig with words such as `NAME A +tcp`, and returns all that it printed.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn dig(&self, words: &[&str]) -> Result<String> {
        let resolver = format!("@{}", self.resolver.ip());
        let port = self.resolver.port().to_string();
        run(Self::inside("dig")
            .args([&resolver, "-p", &port, "+time=1", "+tries=2", "+norecurse"])
            .args(words))
    }

    /// Addresses of a name, in order.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn resolve(&self, name: &str) -> Result<Vec<IpAddr>> {
        let mut addresses: Vec<IpAddr> =
            self.dig(&[name, "A", "+short"])?.lines().filter_map(|line| line.trim().parse().ok()).collect();
        addresses.sort_unstable();
        Ok(addresses)
    }

    /// GET of a URL: the body of a 2xx answer.
    ///
    /// # Errors
    /// When there is no such answer within 2 s.
    pub fn get(&self, url: &str) -> Result<String> {
        run(Self::inside("curl").args(["-sSf", "--max-time", "2", url]))
    }

    /// GET, whatever comes of it.
    ///
    /// # Errors
    /// When curl cannot be started.
    pub fn try_get(&self, url: &str) -> Result<Outcome> {
        Outcome::of(Self::inside("curl").args(["-sSf", "--max-time", "2", url]))
    }

    /// Resolves a name and fetches from what was answered, as a browser does. Returns the body: `cluster=… pod=…`.
    ///
    /// # Errors
    /// When the name has no address, or the address does not serve.
    pub fn browse(&self, name: &str, port: u16) -> Result<String> {
        let addresses = self.resolve(name)?;
        let address = addresses.first().with_context(|| format!("{name} has no address"))?;
        self.get(&format!("http://{address}:{port}/"))
    }
}
