//! The server's flags.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use apimachinery::go_duration::{milliseconds, seconds};

use crate::answer::CookiePolicy;
use crate::client::Prefix;
use crate::metrics::NAMES_DEFAULT;
use crate::tap::TapOptions;
use crate::transfer::Notify;
use crate::transport::{EncryptedOptions, Limits};
use crate::udp::Limit;

/// Arguments of dns-lb.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Address to answer on, over UDP and TCP. May be repeated.
    #[arg(long = "listen", value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5353")]
    pub listen: Vec<SocketAddr>,
    /// Address of the hub. If not given, only the zones on disk are served.
    #[arg(long, value_name = "HOST:PORT")]
    pub hub: Option<String>,
    /// Address where agents and this server exchange what they see, so that surviving clusters can act while the hub is away. Set it on
    /// servers that do not fail together with the hub; agents must be able to reach it.
    #[arg(long, value_name = "ADDRESS:PORT", requires = "hub")]
    pub meet_listen: Option<SocketAddr>,
    /// Directory where the last zones are kept. If not given, a restart begins without zones.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Directory with ca.crt, dns-lb.crt and dns-lb.key; instead of --ca, --cert and --key.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["ca", "cert", "key"])]
    pub pki: Option<PathBuf>,
    /// Certificate authority of the federation, PEM.
    #[arg(long, value_name = "FILE", requires_all = ["cert", "key"])]
    pub ca: Option<PathBuf>,
    /// This server's certificate, PEM.
    #[arg(long, value_name = "FILE", requires = "ca")]
    pub cert: Option<PathBuf>,
    /// This server's key, PEM.
    #[arg(long, value_name = "FILE", requires = "ca")]
    pub key: Option<PathBuf>,
    /// Name of this server, for NSID, id.server and the hub. At most 64 bytes.
    #[arg(long, default_value = "dns-lb")]
    pub instance: String,
    /// Unix socket for upgrades without losing a query: a new process with the same path takes over the sockets of the old one.
    #[arg(long, value_name = "PATH", requires = "data_dir")]
    pub takeover: Option<PathBuf>,
    /// DNS resolver for probing load balancers that have a host name instead of an address; if not given, those of /etc/resolv.conf. May be
    /// repeated.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub probe_resolver: Vec<SocketAddr>,
    /// UDP threads per address; one per core if not given.
    #[arg(long, value_name = "N")]
    pub threads: Option<std::num::NonZeroUsize>,
    /// Address for /metrics, /healthz, /livez and /readyz over HTTP; not served if not given.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics_listen: Option<SocketAddr>,
    /// How many balanced names have metrics of their own; the others are counted together. 0 for none.
    #[arg(long, value_name = "N", default_value_t = NAMES_DEFAULT)]
    pub metrics_names: usize,
    /// Time without the hub after which answers to EDNS clients are marked stale (RFC 8914), as 60s or 5m.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = seconds)]
    pub stale_after: Duration,
    /// UDP answers per second about one name to one network (/24 or /56), for each thread; 0 for no limit. Clients with a valid DNS cookie
    /// are not limited.
    #[arg(long, value_name = "N", default_value_t = Limit::default().per_second)]
    pub rate_limit: u32,
    /// Beyond the limit, one in N answers is sent truncated instead of dropped, so that real clients retry over TCP; 0 for none.
    #[arg(long, value_name = "N", default_value_t = Limit::default().slip)]
    pub rate_limit_slip: u32,
    /// DNS cookies over UDP; `require` makes clients without a valid server cookie ask again.
    #[arg(long, value_enum, default_value_t)]
    pub cookies: CookiePolicy,
    /// DNS cookie secrets to use instead of the hub's, to share them with servers outside the federation: 1 to 4 lines of 32 hexadecimal digits;
    /// the first one makes new cookies, all are accepted.
    #[arg(long, value_name = "FILE")]
    pub cookie_secret_file: Option<PathBuf>,
    /// Country database in MaxMind format, for clients whose prefix is in no ClientRegions object.
    #[arg(long, value_name = "FILE")]
    pub geo_database: Option<PathBuf>,
    /// The log of queries, and dnstap.
    #[command(flatten)]
    pub tap: TapOptions,
    /// DNS over TLS, HTTPS and QUIC.
    #[command(flatten)]
    pub encrypted: EncryptedOptions,
    /// Maximum number of connections, separately for TCP, TLS, HTTPS and QUIC.
    #[arg(long, value_name = "N", default_value_t = Limits::default().connections)]
    pub connections: usize,
    /// Maximum number of connections from one IPv4 address or IPv6 /64; further ones are closed at once.
    #[arg(long, value_name = "N", default_value_t = Limits::default().per_client)]
    pub connections_per_client: usize,
    /// How long a connection may be idle, and a client may take for one message, as 10s or 500ms.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = milliseconds)]
    pub idle_timeout: Duration,
    /// TSIG keys for zone transfers and --notify: lines of hmac-sha256:NAME:SECRET, the secret in base64.
    #[arg(long, value_name = "FILE")]
    pub tsig_key_file: Option<PathBuf>,
    /// Prefix of clients that may transfer zones without TSIG. May be repeated.
    #[arg(long, value_name = "PREFIX")]
    pub transfer_to: Vec<Prefix>,
    /// Secondary to notify of zone changes; with a key's name the message is signed. May be repeated.
    #[arg(long, value_name = "[KEY@]ADDRESS:PORT")]
    pub notify: Vec<Notify>,
    /// Accept this store, by its ID, although its epochs are not newer than what is served: after the federation's store was created anew.
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
            stale_after: Duration::from_secs(60),
            rate_limit: Limit::default().per_second,
            rate_limit_slip: Limit::default().slip,
            cookies: CookiePolicy::default(),
            cookie_secret_file: None,
            geo_database: None,
            tap: TapOptions::default(),
            encrypted: EncryptedOptions::default(),
            connections: Limits::default().connections,
            connections_per_client: Limits::default().per_client,
            idle_timeout: Limits::default().idle,
            tsig_key_file: None,
            transfer_to: Vec::new(),
            notify: Vec::new(),
            adopt_incarnation: None,
        }
    }
}

impl Options {
    pub(crate) fn limit(&self) -> Limit {
        Limit { per_second: self.rate_limit, slip: self.rate_limit_slip, ..Limit::default() }
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            connections: self.connections,
            per_client: self.connections_per_client,
            idle: self.idle_timeout,
        }
    }
}
