//! What is probed, and how.

use crate::api::{HealthCheck, Protocol as Spoken};

/// One Service in one cluster, as its users reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which.
    pub key: Key,
    /// Literal IP addresses. One that answers is enough.
    pub addresses: Vec<std::net::IpAddr>,
    /// Where there are none: the name of a load balancer, lower case and with the final dot, whose addresses are looked up.
    pub host: Option<String>,
    /// TCP port.
    pub port: u16,
    /// What is asked.
    pub check: Check,
    /// What a DNS server may do by its own word while the hub is away.
    pub alone: Alone,
}

/// A Service in a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// `namespace/name`.
    pub service: String,
    /// The Cluster's name.
    pub cluster: String,
}

/// Bounds to what a DNS server withdraws while the hub is away. It never withdraws the last answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alone {
    /// It may withdraw at all.
    pub may_withdraw: bool,
    /// At least so many clusters stay.
    pub min_clusters: u32,
    /// At most this percentage of the Service's clusters, by weight, goes; 100 is no bound.
    pub max_withdrawn_percent: u32,
}

/// A health check, every field set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is spoken.
    pub protocol: Protocol,
    /// Milliseconds between two probes.
    pub interval_ms: u32,
    /// Milliseconds that an answer may take.
    pub timeout_ms: u32,
    /// Successes in a row that make Up.
    pub rise: u32,
    /// Failures in a row that make Down.
    pub fall: u32,
}

/// What a probe speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// A connection that is taken.
    Tcp,
    /// HTTP/1.1 GET.
    Http(Get),
    /// HTTP/1.1 GET over TLS.
    Https {
        /// What is asked; its host is the server name (SNI), too.
        get: Get,
        /// A certificate that no public authority vouches for is a failure.
        verify: bool,
    },
    /// `grpc.health.v1.Health/Check`.
    Grpc {
        /// The service that is asked about; empty for the server as a whole.
        service: String,
        /// The authority of the request; the address if empty.
        host: String,
    },
}

/// A GET.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Get {
    /// Path and query.
    pub path: String,
    /// The Host header; the address if empty.
    pub host: String,
    /// Statuses that are well, as ranges with both ends.
    pub statuses: Vec<(u16, u16)>,
}

impl Get {
    /// Whether a status is well.
    pub fn expects(&self, status: u16) -> bool {
        self.statuses.iter().any(|(low, high)| (*low..=*high).contains(&status))
    }
}

impl Default for Check {
    fn default() -> Self {
        Self {
            protocol: Protocol::Tcp,
            interval_ms: HealthCheck::INTERVAL_MILLIS,
            timeout_ms: HealthCheck::TIMEOUT_MILLIS,
            rise: HealthCheck::IN_A_ROW,
            fall: HealthCheck::IN_A_ROW,
        }
    }
}

impl Check {
    /// What a policy's health check comes to; none where it says that nothing is probed. `hostname` is the policy's first one.
    pub fn of(check: Option<&HealthCheck>, hostname: Option<&str>) -> Option<Self> {
        let Some(check) = check else { return Some(Self::default()) };
        let host = if check.host.is_empty() { hostname.unwrap_or_default() } else { &check.host };
        let get = || Get {
            path: if check.path.is_empty() { "/".into() } else { check.path.clone() },
            host: host.trim_end_matches('.').to_owned(),
            statuses: check.statuses(),
        };
        let protocol = match check.protocol {
            Spoken::Tcp => Protocol::Tcp,
            Spoken::Http => Protocol::Http(get()),
            Spoken::Https => Protocol::Https { get: get(), verify: check.verify_certificate },
            Spoken::Grpc => Protocol::Grpc { service: check.grpc_service.clone(), host: get().host },
            Spoken::None => return None,
        };
        let default = Self::default();
        Some(Self {
            protocol,
            interval_ms: check.interval_millis.unwrap_or(default.interval_ms),
            timeout_ms: check.timeout_millis.unwrap_or(default.timeout_ms),
            rise: check.rise.unwrap_or(default.rise),
            fall: check.fall.unwrap_or(default.fall),
        })
    }

    /// The same for whom users reach by the name `host`, where the check names no other.
    #[must_use]
    pub fn at(mut self, host: &str) -> Self {
        if let Protocol::Http(Get { host: named, .. })
        | Protocol::Https { get: Get { host: named, .. }, .. }
        | Protocol::Grpc { host: named, .. } = &mut self.protocol
            && named.is_empty()
        {
            host.trim_end_matches('.').clone_into(named);
        }
        self
    }

    /// Milliseconds for which a vote by this check counts: three rounds, and never less than [`crate::health::VOTE_LIFE_MS`].
    pub fn vote_life_ms(&self) -> i64 {
        let rounds = 3 * i64::from(self.interval_ms) + i64::from(self.timeout_ms);
        rounds.max(crate::health::VOTE_LIFE_MS)
    }
}
