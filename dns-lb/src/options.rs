//! What the operator can say.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::answer::CookiePolicy;
use crate::client::Prefix;
use crate::doors::{EncryptedOptions, Limits};
use crate::metrics::NAMES_DEFAULT;
use crate::tap::TapOptions;
use crate::transfer::Notify;
use crate::udp::Limit;

/// Arguments of dns-lb.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Address to answer on, UDP and TCP. May be given several times.
    #[arg(long = "listen", value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5353")]
    pub listen: Vec<SocketAddr>,
    /// The hub, as host:port. Without it only the zones on disk are served.
    #[arg(long, value_name = "HOST:PORT")]
    pub hub: Option<String>,
    /// Address where this server and the members' agents tell each other what they see, so that the survivors of a loss can act while the hub
    /// is away. Give it to servers that do not fall with the hub; agents must reach it.
    #[arg(long, value_name = "ADDRESS:PORT", requires = "hub")]
    pub meet_listen: Option<SocketAddr>,
    /// Where the last zones are kept. Without it a restart starts empty.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Directory with ca.crt, dns-lb.crt and dns-lb.key; the three flags below say it file by file.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["ca", "cert", "key"])]
    pub pki: Option<PathBuf>,
    /// The federation's authority, PEM.
    #[arg(long, value_name = "FILE", requires_all = ["cert", "key"])]
    pub ca: Option<PathBuf>,
    /// This server's certificate, PEM.
    #[arg(long, value_name = "FILE", requires = "ca")]
    pub cert: Option<PathBuf>,
    /// This server's key, PEM.
    #[arg(long, value_name = "FILE", requires = "ca")]
    pub key: Option<PathBuf>,
    /// This server's name: what NSID and id.server say, and who it is to the hub. At most 64 octets.
    #[arg(long, default_value = "dns-lb")]
    pub instance: String,
    /// Unix socket at which a version that is started later asks for the sockets, and this one does of the version before it: so none loses
    /// a query.
    #[arg(long, value_name = "PATH", requires = "data_dir")]
    pub takeover: Option<PathBuf>,
    /// Resolver that is asked for the addresses of load balancers that say a name, to probe them; those of /etc/resolv.conf if none is given. May be
    /// given several times.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub probe_resolver: Vec<SocketAddr>,
    /// UDP threads for each address; one for each core if not given.
    #[arg(long, value_name = "N")]
    pub threads: Option<std::num::NonZeroUsize>,
    /// Where /metrics, /healthz, /livez and /readyz are served, over plain HTTP.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics_listen: Option<SocketAddr>,
    /// Balanced names whose answers are counted one by one; those of names beyond are counted together. 0: none are.
    #[arg(long, value_name = "N", default_value_t = NAMES_DEFAULT)]
    pub metrics_names: usize,
    /// Seconds without the hub after which answers are marked stale (RFC 8914) to clients that speak EDNS.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub stale_after: u64,
    /// Answers about one name to one network (/24 or /56) in a second, over UDP and for each thread; 0 for no limit. Clients with a
    /// good DNS cookie are not limited.
    #[arg(long, value_name = "N", default_value_t = Limit::default().per_second)]
    pub rate_limit: u32,
    /// One in N answers beyond the limit is cut instead of withheld, so that the client may come by TCP; 0 for none.
    #[arg(long, value_name = "N", default_value_t = Limit::default().slip)]
    pub rate_limit_slip: u32,
    /// What clients with DNS cookies get over UDP: `require` has those without a good one ask again.
    #[arg(long, value_enum, default_value_t)]
    pub cookies: CookiePolicy,
    /// Secrets of DNS cookies, in place of the hub's, for servers that share theirs with some that the hub does not know: lines of 32 hexadecimal digits, the one that makes cookies first.
    #[arg(long, value_name = "FILE")]
    pub cookie_secret_file: Option<PathBuf>,
    /// Database of countries in MaxMind's format: the region of clients that the hub's table does not name.
    #[arg(long, value_name = "FILE")]
    pub geo_database: Option<PathBuf>,
    /// The log of queries, and dnstap.
    #[command(flatten)]
    pub tap: TapOptions,
    /// The encrypted doors.
    #[command(flatten)]
    pub encrypted: EncryptedOptions,
    /// Connections at a time, each for TCP, TLS, HTTPS and QUIC.
    #[arg(long, value_name = "N", default_value_t = Limits::default().connections)]
    pub connections: usize,
    /// Of them, those of one IPv4 address or IPv6 /64; more are closed at once.
    #[arg(long, value_name = "N", default_value_t = Limits::default().per_client)]
    pub connections_per_client: usize,
    /// Milliseconds that a connection may be silent, and that a client may take for one message.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = Limits::default().idle.as_millis() as u64)]
    pub idle_timeout: u64,
    /// Secrets of those who may transfer whole zones, and of --notify: lines hmac-sha256:NAME:SECRET, the secret in base64.
    #[arg(long, value_name = "FILE")]
    pub tsig_key_file: Option<PathBuf>,
    /// Who may transfer whole zones without a secret. May be given several times.
    #[arg(long, value_name = "PREFIX", value_parser = Prefix::parse)]
    pub transfer_to: Vec<Prefix>,
    /// A secondary to tell of each change of a zone; with a key's name the message is signed. May be given several times.
    #[arg(long, value_name = "[KEY@]ADDRESS:PORT")]
    pub notify: Vec<Notify>,
    /// Accept epochs of this store though they are not newer than what is served: after the federation's store was made anew.
    #[arg(long, value_name = "ID")]
    pub adopt_incarnation: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 5353))],
            hub: None,
            meet_listen: None,
            data_dir: None,
            pki: None,
            ca: None,
            cert: None,
            key: None,
            instance: "dns-lb".into(),
            takeover: None,
            probe_resolver: Vec::new(),
            threads: None,
            metrics_listen: None,
            metrics_names: NAMES_DEFAULT,
            stale_after: 60,
            rate_limit: Limit::default().per_second,
            rate_limit_slip: Limit::default().slip,
            cookies: CookiePolicy::default(),
            cookie_secret_file: None,
            geo_database: None,
            tap: TapOptions::default(),
            encrypted: EncryptedOptions::default(),
            connections: Limits::default().connections,
            connections_per_client: Limits::default().per_client,
            idle_timeout: Limits::default().idle.as_millis() as u64,
            tsig_key_file: None,
            transfer_to: Vec::new(),
            notify: Vec::new(),
            adopt_incarnation: None,
        }
    }
}

impl Options {
    pub(crate) fn stale_after(&self) -> Duration {
        Duration::from_secs(self.stale_after)
    }

    pub(crate) fn limit(&self) -> Limit {
        Limit { per_second: self.rate_limit, slip: self.rate_limit_slip, ..Limit::default() }
    }

    pub(crate) fn limits(&self) -> Limits {
        let idle = Duration::from_millis(self.idle_timeout);
        Limits { connections: self.connections, per_client: self.connections_per_client, idle }
    }
}
