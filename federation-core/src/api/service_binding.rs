//! HTTPS and SVCB records of a Service: `spec.serviceBindings` of a TrafficPolicy.

use std::fmt::Write as _;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dns::{Data, Type};

/// One HTTPS or SVCB record (RFC 9460) for each cluster that is answered, at each of the policy's names.
///
/// Its address hints are the cluster's addresses. So a client that asks for it is sent to the same clusters, by the same strategy, as one that
/// asks for A and AAAA. The target is the name itself, even if the record has a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceBinding {
    /// Type of the record. Browsers ask for HTTPS.
    #[serde(rename = "type")]
    pub type_: BindingType,
    /// Labels in front of each name, each with an underscore: `_8443._https` for `https://name:8443`, `_dns` for a resolver (RFC 9461). None
    /// if unset, which is for `https://name`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// Lower ones are tried first, 1 to 65535; 1 if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub priority: Option<u16>,
    /// Protocols in addition to the scheme's default, such as `h2` and `h3`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alpn: Vec<String>,
    /// The scheme's default protocol (HTTP/1.1 for HTTPS) is not supported. Only together with alpn.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_default_alpn: bool,
    /// The port; if unset, for HTTPS without a prefix, that of the Service's port named `https` as users reach it in the cluster, and else the
    /// scheme's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// Encrypted Client Hello: an ECHConfigList in base64.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ech: String,
    /// Whether the record has the cluster's addresses (ipv4hint, ipv6hint); true if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hints: Option<bool>,
}

/// Types of service binding records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum BindingType {
    /// For the schemes `https` and `http` (RFC 9460 section 9).
    #[default]
    #[serde(rename = "HTTPS")]
    Https,
    /// For other schemes.
    #[serde(rename = "SVCB")]
    Svcb,
}

/// Octets of a prefix: names have at most 255.
const PREFIX_MAX: usize = 80;
/// Protocols in one record.
const ALPN_MAX: usize = 16;

impl ServiceBinding {
    /// Name of the Service's port that an HTTPS record takes its port from.
    pub const PORT_NAME: &'static str = "https";
    /// The port that `https` has by itself.
    pub const HTTPS_PORT: u16 = 443;

    /// What is wrong, by field.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let label = |label: &str| {
            let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            (2..=63).contains(&label.len())
                && label.strip_prefix('_').is_some_and(|rest| rest.bytes().all(inner))
        };
        let labels = |prefix: &str| prefix.len() <= PREFIX_MAX && prefix.split('.').all(label);
        if !self.prefix.is_empty() && !labels(&self.prefix) {
            let message = format!(
                "must be labels of an underscore and [a-z0-9-], such as _8443._https, of at most {PREFIX_MAX} characters"
            );
            problems.push(("prefix", message));
        }
        if self.priority == Some(0) {
            problems.push(("priority", "must be between 1 and 65535".into()));
        }
        if self.port == Some(0) {
            problems.push(("port", "must be between 1 and 65535".into()));
        }
        let id = |id: &String| {
            (1..=255).contains(&id.len())
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"./-_+".contains(&byte))
        };
        if self.alpn.len() > ALPN_MAX || !self.alpn.iter().all(id) {
            let message = format!(
                "must be at most {ALPN_MAX} of the protocols that IANA registers for ALPN, such as h2"
            );
            problems.push(("alpn", message));
        }
        if self.no_default_alpn && self.alpn.is_empty() {
            problems.push(("noDefaultAlpn", "means something only together with alpn".into()));
        }
        if !self.ech.is_empty() && Data::parse(Type::SVCB, &format!("1 . ech={}", self.ech)).is_err() {
            problems.push(("ech", "must be an ECHConfigList in base64".into()));
        }
        problems
    }

    /// Data of the record in presentation format, for a cluster with these addresses whose port is `port` where this does not say one. `target`
    /// is where it is; `.` is the record's own name (RFC 9460 section 2.5.2).
    pub fn data(&self, target: &str, port: Option<u16>, addresses: &[IpAddr]) -> String {
        let mut text = format!("{} {target}", self.priority.unwrap_or(1));
        if !self.alpn.is_empty() {
            let _ = write!(text, " alpn={}", self.alpn.join(","));
        }
        if self.no_default_alpn {
            text.push_str(" no-default-alpn");
        }
        if let Some(port) = self.port.or(port) {
            let _ = write!(text, " port={port}");
        }
        let mut hint = |key: &str, of_family: fn(&IpAddr) -> bool| {
            let family: Vec<String> =
                addresses.iter().filter(|address| of_family(address)).map(ToString::to_string).collect();
            if !family.is_empty() {
                let _ = write!(text, " {key}={}", family.join(","));
            }
        };
        if self.hints.unwrap_or(true) {
            hint("ipv4hint", IpAddr::is_ipv4);
            hint("ipv6hint", IpAddr::is_ipv6);
        }
        if !self.ech.is_empty() {
            let _ = write!(text, " ech={}", self.ech);
        }
        text
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn binding(spec: serde_json::Value) -> ServiceBinding {
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn a_record_says_how_and_where() {
        let whole = binding(serde_json::json!({
            "priority": 2, "alpn": ["h2", "h3"], "noDefaultAlpn": true, "port": 8443, "ech": "AAECAw==",
        }));
        assert_eq!(whole.problems(), []);
        let addresses = ["192.0.2.1", "2001:db8::1", "192.0.2.2"].map(|text| text.parse().unwrap());
        let text = whole.data(".", Some(30443), &addresses);
        let expected = "2 . alpn=h2,h3 no-default-alpn port=8443 ipv4hint=192.0.2.1,192.0.2.2 ipv6hint=2001:db8::1 ech=AAECAw==";
        assert_eq!(text, expected);
        assert!(Data::parse(Type::HTTPS, &text).is_ok());
        let plain = ServiceBinding::default();
        assert_eq!(plain.data("web.test.", None, &addresses[..1]), "1 web.test. ipv4hint=192.0.2.1");
        assert_eq!(plain.data(".", Some(30443), &[]), "1 . port=30443");
        let silent = binding(serde_json::json!({"hints": false, "alpn": ["h2"]}));
        assert_eq!(silent.data(".", None, &addresses), "1 . alpn=h2");
    }

    #[test]
    fn every_problem_names_its_field() {
        let wrong = binding(serde_json::json!({
            "prefix": "_8443.https", "priority": 0, "alpn": ["h 2"], "port": 0, "ech": "AAE",
        }));
        let fields: Vec<&str> = wrong.problems().into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["prefix", "priority", "port", "alpn", "ech"]);
        assert_eq!(binding(serde_json::json!({"noDefaultAlpn": true})).problems()[0].0, "noDefaultAlpn");
        assert_eq!(binding(serde_json::json!({"prefix": "_8443._https"})).problems(), []);
    }
}
