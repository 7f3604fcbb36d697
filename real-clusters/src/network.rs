//! The network of the sites: namespaces, routes, and links with delay and a cut switch.
//!
//! ```text
//!   the caller's namespace 10.201.0.2 ── wan 10.201.0.1 ──netdelay── taiwan 10.201.1.2, pods 10.101.0.0/16, services 10.111.0.0/16
//!                    user 10.201.3.2 ──┘            └────netdelay── tokyo  10.201.2.2, pods 10.102.0.0/16, services 10.112.0.0/16
//! ```

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::kit::Kit;
use crate::process::{Processes, quiet, run, wait_until};

const STATE: &str = "/run/federation-clusters";
const WAN: &str = "wan";
const USER: &str = "user";

/// A place with its own network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// Also the namespace's and the cluster's name.
    pub name: &'static str,
    /// Third part of the site's addresses.
    pub(crate) index: u8,
    /// Round trip to the wan router, milliseconds.
    pub rtt_ms: u32,
}

impl Site {
    /// 2 ms away.
    pub const TAIWAN: Self = Self { name: "taiwan", index: 1, rtt_ms: 2 };
    /// 33 ms away.
    pub const TOKYO: Self = Self { name: "tokyo", index: 2, rtt_ms: 33 };

    /// 5 ms away. Not part of the network until [`Network::join`].
    pub const NAGOYA: Self = Self { name: "nagoya", index: 4, rtt_ms: 5 };
    /// As Nagoya.
    pub const OSAKA: Self = Self { name: "osaka", index: 5, rtt_ms: 5 };
    /// As Nagoya.
    pub const SEOUL: Self = Self { name: "seoul", index: 6, rtt_ms: 5 };

    /// The site of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::TAIWAN, Self::TOKYO, Self::NAGOYA, Self::OSAKA, Self::SEOUL]
            .into_iter()
            .find(|site| site.name == name)
    }

    /// Address of the site's one node, which is also its API server's.
    pub fn address(self) -> String {
        format!("10.201.{}.2", self.index)
    }
}

/// Where state of clusters and links is kept.
pub(crate) fn state_root() -> PathBuf {
    std::env::var_os("FEDERATION_CLUSTERS").map_or_else(|| STATE.into(), PathBuf::from)
}

/// The namespaces and links between the sites.
#[derive(Clone, Debug)]
pub struct Network {
    sites: Vec<Site>,
    links: Processes,
}

impl Network {
    /// Address of the caller's side, where the federation's control plane listens for the sites.
    pub const HERE: &'static str = "10.201.0.2";
    /// Network namespace of the web users.
    pub const USERS: &'static str = USER;

    /// A network that is up already, or to be taken down.
    pub fn existing(sites: &[Site]) -> Self {
        Self { sites: sites.to_vec(), links: Processes::new(&state_root(), None) }
    }

    /// Makes the namespaces and links. What an earlier run left is taken down first.
    ///
    /// # Errors
    /// When a device or a route cannot be made.
    pub fn up(kit: &Kit, sites: &[Site]) -> Result<Self> {
        let network = Self::existing(sites);
        network.down()?;
        fs::create_dir_all(state_root())?;
        for namespace in sites.iter().map(|site| site.name).chain([WAN, USER]) {
            site_namespace(namespace)?;
        }
        ip("link add fed0 type veth peer name fed1 netns wan")?;
        ip(&format!("addr add {}/24 dev fed0", Self::HERE))?;
        ip("link set fed0 up")?;
        ip("-n wan addr add 10.201.0.1/24 dev fed1")?;
        ip("-n wan link set fed1 up")?;
        ip("link add usr0 netns user type veth peer name usr1 netns wan")?;
        ip("-n user addr add 10.201.3.2/24 dev usr0")?;
        ip("-n user link set usr0 up")?;
        ip("-n user route add default via 10.201.3.1")?;
        ip("-n wan addr add 10.201.3.1/24 dev usr1")?;
        ip("-n wan link set usr1 up")?;
        for site in sites {
            network.link(kit, *site)?;
        }
        for prefix in ["10.201.0.0/16", "10.101.0.0/16", "10.102.0.0/16", "10.111.0.0/16", "10.112.0.0/16"] {
            ip(&format!("route add {prefix} via 10.201.0.1 dev fed0"))?;
        }
        Ok(network)
    }

    /// Adds a site to a network that is up. What an earlier run left of it is taken away first.
    ///
    /// # Errors
    /// When the network is not up, or a device or a route cannot be made.
    pub fn join(&self, kit: &Kit, site: Site) -> Result<()> {
        self.leave(site)?;
        site_namespace(site.name)?;
        self.link(kit, site)
    }

    /// Takes a site out of the network.
    ///
    /// # Errors
    /// When `ip` cannot be run.
    pub fn leave(&self, site: Site) -> Result<()> {
        self.links.stop(&format!("link-{}", site.name), Duration::from_secs(2))?;
        let _ = fs::remove_file(Self::socket(site));
        quiet(Command::new("ip").args(["netns", "del", site.name])).map(drop)
    }

    fn link(&self, kit: &Kit, site: Site) -> Result<()> {
        let Site { name, index, rtt_ms } = site;
        let socket = Self::socket(site);
        let command = [
            kit.program("netdelay"),
            "--a".into(),
            format!("wan:to-{name}"),
            "--b".into(),
            format!("{name}:wan0"),
            "--delay-ms".into(),
            format!("{}", f64::from(rtt_ms) / 2.0),
            "--ctl".into(),
            socket.to_string_lossy().into_owned(),
        ];
        self.links.start(&format!("link-{name}"), &command)?;
        wait_until("the link's control socket", Duration::from_secs(5), || Ok(socket.exists()))
            .with_context(|| self.links.log_tail(&format!("link-{name}")))?;
        ip(&format!("-n wan addr add 10.201.{index}.1 peer 10.201.{index}.2 dev to-{name}"))?;
        ip(&format!("-n wan link set to-{name} txqueuelen 1000 up"))?;
        ip(&format!("-n {name} addr add 10.201.{index}.2 peer 10.201.{index}.1 dev wan0"))?;
        ip(&format!("-n {name} link set wan0 txqueuelen 1000 up"))?;
        ip(&format!("-n {name} route add default via 10.201.{index}.1"))?;
        ip(&format!("-n wan route add 10.10{index}.0.0/16 via 10.201.{index}.2"))?;
        ip(&format!("-n wan route add 10.11{index}.0.0/16 via 10.201.{index}.2"))
    }

    /// Loses every packet to and from a site, those in flight too.
    ///
    /// # Errors
    /// When the link does not answer.
    pub fn cut(&self, site: Site) -> Result<()> {
        Self::tell(site, "cut").map(drop)
    }

    /// Ends a cut.
    ///
    /// # Errors
    /// When the link does not answer.
    pub fn heal(&self, site: Site) -> Result<()> {
        Self::tell(site, "heal").map(drop)
    }

    /// Changes a site's round trip, milliseconds.
    ///
    /// # Errors
    /// When the link does not answer.
    pub fn rtt(&self, site: Site, rtt_ms: u32) -> Result<()> {
        Self::tell(site, &format!("delay-ms {}", f64::from(rtt_ms) / 2.0)).map(drop)
    }

    fn socket(site: Site) -> PathBuf {
        state_root().join(format!("link-{}.sock", site.name))
    }

    fn tell(site: Site, line: &str) -> Result<String> {
        let mut stream = UnixStream::connect(Self::socket(site))
            .with_context(|| format!("{}'s link is not up", site.name))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        writeln!(stream, "{line}")?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        ensure!(answer.starts_with("ok "), "{}'s link answered {answer:?} to {line:?}", site.name);
        Ok(answer)
    }

    /// Takes the network down. What is not there is no error.
    ///
    /// # Errors
    /// When `ip` cannot be run.
    pub fn down(&self) -> Result<()> {
        for site in &self.sites {
            self.leave(*site)?;
        }
        quiet(Command::new("ip").args(["link", "del", "fed0"]))?;
        for namespace in [WAN, USER] {
            quiet(Command::new("ip").args(["netns", "del", namespace]))?;
        }
        Ok(())
    }
}

fn site_namespace(name: &str) -> Result<()> {
    ip(&format!("netns add {name}"))?;
    ip(&format!("-n {name} link set lo up"))?;
    inside(name, "sysctl -qw net.ipv4.ip_forward=1")
}

fn ip(arguments: &str) -> Result<()> {
    run(Command::new("ip").args(arguments.split(' '))).map(drop)
}

fn inside(namespace: &str, command: &str) -> Result<()> {
    run(Command::new("nsenter").arg(format!("--net=/run/netns/{namespace}")).args(command.split(' ')))
        .map(drop)
}
