//! Whether one cluster serves one Service, from all that is known of both.

use crate::api::Verdict;

use super::address::reached;
use super::{Address, Backend, ClusterTraffic};

/// Probes that were heard longer ago say nothing: six rounds at the default interval.
pub const PROBE_STALE_MS: i64 = 60_000;

/// How a cluster stands with a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Users are served there.
    Serves { addresses: Vec<Address>, rule: &'static str, message: String },
    /// It is not known, and what was answered stays.
    Kept { message: &'static str },
    /// Users are not served there.
    Not { addresses: Vec<Address>, cause: Cause, rule: &'static str, message: String },
}

/// Whose doing it is that a cluster does not serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Automation found it out: [`crate::api::SafetyRules`] bind.
    Observed,
    /// An operator said so.
    Wanted,
}

/// `cluster` is none for one that is no member; `known` is what was answered last, if it was; `own` are the origins of the zones that are answered
/// here.
pub(super) fn standing(
    cluster: Option<&ClusterTraffic>,
    backend: Option<&Backend>,
    known: Option<&[Address]>,
    own: &[String],
) -> Standing {
    let not = |addresses: Vec<Address>, cause, rule, message: &str| Standing::Not {
        addresses,
        cause,
        rule,
        message: message.to_owned(),
    };
    let Some(cluster) = cluster else {
        return not(Vec::new(), Cause::Wanted, "NotReady", "it is not a member");
    };
    let Some(backend) = backend else {
        // No report is no loss.
        return if cluster.verdict == Verdict::Unknown && !cluster.draining {
            Standing::Kept { message: "nothing was heard of it yet" }
        } else {
            not(Vec::new(), Cause::Wanted, "Absent", "it holds no copy of the Service")
        };
    };
    let (addresses, refused) = addresses(cluster, backend, own);
    if cluster.weight == Some(0) {
        return not(addresses, Cause::Wanted, "WeightZero", "spec.trafficWeight of the cluster is 0");
    }
    if backend.absent {
        return not(Vec::new(), Cause::Observed, "Absent", "its copy of the Service is gone");
    }
    let probe = backend.probe.as_ref().filter(|probe| probe.age_ms <= PROBE_STALE_MS);
    if let Some(probe) = probe.filter(|probe| !probe.passing) {
        return not(addresses, Cause::Observed, "ProbesFail", &probe.message);
    }
    match (cluster.verdict, probe) {
        (Verdict::Healthy, _) => {
            if backend.ready_endpoints == 0 {
                return not(addresses, Cause::Observed, "NoEndpoints", "no endpoint is ready");
            }
            if addresses.is_empty() {
                return not(addresses, Cause::Observed, "NoAddress", &refused);
            }
            let mut message = format!("{} endpoints are ready", backend.ready_endpoints);
            if let Some(name @ Address::Host(_)) = addresses.first() {
                message.push_str(&format!(
                    "; users reach it by the name {name} alone, so the answer is a CNAME"
                ));
            }
            Standing::Serves { addresses, rule: "Serving", message }
        }
        (Verdict::Unknown, None) if known.is_some() => {
            Standing::Kept { message: "there is no verdict on it yet" }
        }
        (Verdict::Partitioned, None) if known.is_some() => {
            Standing::Kept { message: "some see users served there and others do not" }
        }
        (Verdict::HubUnreachable | Verdict::ApiDown, None) if known.is_some() && cluster.users_served => {
            Standing::Kept {
                message: "the hub does not hear of it, and users of its other Services are served",
            }
        }
        // The hub does not hear of it, and users reach it all the same: what they see counts.
        (
            Verdict::HubUnreachable | Verdict::ApiDown | Verdict::Partitioned | Verdict::Unknown,
            Some(probe),
        ) => {
            let addresses = match known {
                Some(known) if addresses.is_empty() => known.to_vec(),
                _ => addresses,
            };
            if addresses.is_empty() {
                return not(addresses, Cause::Observed, "NoAddress", &refused);
            }
            let message = format!("the verdict is {:?}, but {}", cluster.verdict, probe.message);
            Standing::Serves { addresses, rule: "ProbesPass", message }
        }
        (verdict, _) => not(addresses, Cause::Observed, "NotReady", &format!("the verdict is {verdict:?}")),
    }
}

/// The addresses of a Service in a cluster, and what to say if there are none.
fn addresses(cluster: &ClusterTraffic, backend: &Backend, own: &[String]) -> (Vec<Address>, String) {
    let told = if backend.addresses.is_empty() { &cluster.addresses } else { &backend.addresses };
    let addresses = reached(told, own);
    let message = if told.is_empty() {
        "neither its Service nor the Cluster's spec.addresses says an address".into()
    } else {
        format!("{} are neither IP addresses nor names outside of the federation's zones", told.join(", "))
    };
    (addresses, message)
}
