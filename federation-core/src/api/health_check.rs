//! How Services are probed: `spec.healthCheck` of a TrafficPolicy.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the addresses of a Service in each cluster are probed. If unset: a TCP connection to the Service's first port.
///
/// Probes come from the controller, from every DNS server and from agents of other clusters. No single prober's result withdraws a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HealthCheck {
    /// Protocol of the probe.
    pub protocol: Protocol,
    /// The port; if unset, the Service's first port, or its node port where users connect to nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// For HTTP and HTTPS: path and query of the GET; `/` if unset.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// For HTTP, HTTPS and GRPC: the Host header, and for HTTPS the server name (SNI); the policy's first hostname, else the address, if unset.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// For HTTP and HTTPS: status codes that count as success, each as `200` or `200-399`; 200-399 if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expected_statuses: Vec<String>,
    /// For GRPC: the service name for `grpc.health.v1.Health/Check`; the whole server if unset.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub grpc_service: String,
    /// For HTTPS: a certificate that is not from a public authority counts as failure. The expiry is reported in any case.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub verify_certificate: bool,
    /// Milliseconds between two probes of one prober; 1000 if unset. A failure is followed by the next probe at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 200, max = 3_600_000))]
    pub interval_millis: Option<u32>,
    /// Timeout of a probe in milliseconds; 700 if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 50, max = 60_000))]
    pub timeout_millis: Option<u32>,
    /// Consecutive successes after which a prober votes Up; 2 if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub rise: Option<u32>,
    /// Consecutive failures after which a prober votes Down; 2 if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub fall: Option<u32>,
    /// Whether a DNS server may withdraw a cluster by its own probes while the hub is away; true if unset. The last answer always stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub withdraw_without_hub: Option<bool>,
}

/// Protocol of a probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Protocol {
    /// A TCP connection.
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    /// HTTP/1.1 GET.
    #[serde(rename = "HTTP")]
    Http,
    /// HTTP/1.1 GET over TLS.
    #[serde(rename = "HTTPS")]
    Https,
    /// `grpc.health.v1.Health/Check`.
    #[serde(rename = "GRPC")]
    Grpc,
    /// Nothing is probed.
    None,
}

impl HealthCheck {
    /// See [`Self::interval_millis`].
    pub const INTERVAL_MILLIS: u32 = 1000;
    /// See [`Self::timeout_millis`]. With the defaults a prober says Down at most 1.1 + 0.7 + 0.7 seconds after the last packet.
    pub const TIMEOUT_MILLIS: u32 = 700;
    /// See [`Self::rise`] and [`Self::fall`].
    pub const IN_A_ROW: u32 = 2;

    /// What is wrong, by field.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut range = |field, value: Option<u32>, least: u32, most: u32| {
            if value.is_some_and(|value| value < least || value > most) {
                problems.push((field, format!("must be between {least} and {most}")));
            }
        };
        range("intervalMillis", self.interval_millis, 200, 3_600_000);
        range("timeoutMillis", self.timeout_millis, 50, 60_000);
        range("rise", self.rise, 1, 100);
        range("fall", self.fall, 1, 100);
        if self.port == Some(0) {
            problems.push(("port", "must be between 1 and 65535".into()));
        }
        if !self.path.is_empty() && !self.path.starts_with('/') {
            problems.push(("path", "must begin with a slash".into()));
        }
        if self.path.chars().any(|character| !character.is_ascii_graphic()) {
            problems.push(("path", "must be ASCII without spaces: write others as %XX".into()));
        }
        let host = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
        if !self.host.bytes().all(host) {
            problems.push(("host", "must be a host name or an address, with or without a port".into()));
        }
        if self.expected_statuses.iter().any(|text| statuses(text).is_none()) {
            let message = "must be statuses from 100 to 599, each 200 or 200-399";
            problems.push(("expectedStatuses", message.into()));
        }
        problems
    }

    /// The statuses that are well, as ranges with both ends. What cannot be read is left out.
    pub fn statuses(&self) -> Vec<(u16, u16)> {
        let named: Vec<_> = self.expected_statuses.iter().filter_map(|text| statuses(text)).collect();
        if named.is_empty() { vec![(200, 399)] } else { named }
    }
}

fn statuses(text: &str) -> Option<(u16, u16)> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let (low, high): (u16, u16) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
    (100 <= low && low <= high && high <= 599).then_some((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(statuses: &[&str]) -> HealthCheck {
        HealthCheck {
            expected_statuses: statuses.iter().map(ToString::to_string).collect(),
            ..HealthCheck::default()
        }
    }

    #[test]
    fn statuses_are_ranges() {
        assert_eq!(check(&[]).statuses(), [(200, 399)]);
        assert_eq!(check(&["204", "300-308"]).statuses(), [(204, 204), (300, 308)]);
        assert!(check(&["204"]).problems().is_empty());
        for wrong in ["", "20", "200-", "399-200", "600", "ok"] {
            assert_eq!(check(&[wrong]).problems().len(), 1, "{wrong}");
        }
    }

    #[test]
    fn problems_name_their_field() {
        let wrong = HealthCheck {
            interval_millis: Some(10),
            path: "healthz".into(),
            host: "a b".into(),
            fall: Some(0),
            ..HealthCheck::default()
        };
        let fields: Vec<_> = wrong.problems().into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["intervalMillis", "fall", "path", "host"]);
    }
}
