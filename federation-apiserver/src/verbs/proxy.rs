//! `proxy` below a pod, a Service or a node: what kube-apiserver looks at before it goes there (`registry/core/*.ResourceLocation`), and no more.
//!
//! This server is in no network of pods. It would reach addresses that happen to be its own neighbours', whatever is there, for
//! everybody who may write Endpoints: so it goes nowhere, and says so.

use std::net::IpAddr;

use apimachinery::ApiError;
use http::Response;
use serde_json::Value;

use super::{Call, kubelet};
use crate::{
    http::Body,
    store::{Key, ResourceKey},
    validation::{items, text},
};

/// Where a request would go that may go nowhere.
const UNREACHABLE: &str = "error trying to reach service: this API server is in no network of nodes and pods: ask the member cluster that runs it";

/// Any request through a pod, a Service or a node.
pub(super) fn connect(call: &Call) -> Result<Response<Body>, ApiError> {
    let kind = call.kind.singular;
    let invalid = || ApiError::bad_request(format!("invalid {kind} request {:?}", call.name()));
    let target = Target::parse(call.name()).ok_or_else(invalid)?;
    Err(match kind {
        "pod" => to_pod(call, &target),
        "service" => to_service(call, &target),
        _ => kubelet::unreachable(call, target.name),
    })
}

/// That nothing is reached from here.
pub(super) fn unreachable() -> ApiError {
    ApiError::service_unavailable(UNREACHABLE)
}

/// `name`, `name:port` or `scheme:name:port`.
#[derive(Debug, PartialEq, Eq)]
struct Target<'a> {
    name: &'a str,
    port: &'a str,
}

impl<'a> Target<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => return None,
        };
        (!name.is_empty() && matches!(scheme, "" | "http" | "https")).then_some(Self { name, port })
    }
}

/// An object of the core group in the request's namespace. One that is missing is told as of the request's own resource, whatever it is.
fn object(call: &Call, resource: &str, name: &str) -> Result<Value, ApiError> {
    let key = Key::new(ResourceKey::new("", resource), call.namespace(), name);
    let missing = || ApiError::not_found(&call.resource(), name);
    call.shared.storage.get(&key).ok_or_else(missing)?.value().map_err(ApiError::internal)
}

fn to_pod(call: &Call, target: &Target<'_>) -> ApiError {
    match object(call, "pods", target.name) {
        Err(error) => error,
        Ok(pod) if addresses(&pod).next().is_some_and(is_global_unicast) => unreachable(),
        Ok(_) => ApiError::bad_request("address not allowed"),
    }
}

fn to_service(call: &Call, target: &Target<'_>) -> ApiError {
    match endpoint(call, target) {
        Ok(true) => unreachable(),
        Ok(false) => {
            ApiError::service_unavailable(format!("no endpoints available for service {:?}", call.name()))
        }
        Err(error) => error,
    }
}

/// Whether there is an address that a Service's port leads to: that of a pod, since no other is believed.
fn endpoint(call: &Call, target: &Target<'_>) -> Result<bool, ApiError> {
    let service;
    let port = match target.port.parse::<i64>() {
        Err(_) => target.port,
        Ok(number) => {
            service = object(call, "services", target.name)?;
            let found = items(&service["spec"], "ports").find(|port| port["port"] == number);
            let missing = || {
                let why = format!("no service port {number} found for service {:?}", target.name);
                ApiError::service_unavailable(why)
            };
            text(found.ok_or_else(missing)?, "name")
        }
    };
    let endpoints = object(call, "endpoints", target.name)?;
    if items(&endpoints, "subsets").next().is_none() {
        let why = format!("no endpoints available for service {:?}", target.name);
        return Err(ApiError::service_unavailable(why));
    }
    let is_pods = |address: &Value| {
        let of = &address["targetRef"];
        let pod = object(call, "pods", text(of, "name"));
        text(of, "namespace") == call.namespace()
            && pod.is_ok_and(|pod| addresses(&pod).any(|ip| ip == text(address, "ip")))
    };
    Ok(items(&endpoints, "subsets").any(|subset| {
        items(subset, "ports").any(|candidate| text(candidate, "name") == port)
            && items(subset, "addresses").any(is_pods)
    }))
}

fn addresses(pod: &Value) -> impl Iterator<Item = &str> {
    items(&pod["status"], "podIPs").map(|address| text(address, "ip"))
}

/// Go's `IP.IsGlobalUnicast`: private networks are among them.
fn is_global_unicast(ip: &str) -> bool {
    match ip.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => {
            !(ip.is_broadcast()
                || ip.is_unspecified()
                || ip.is_loopback()
                || ip.is_multicast()
                || ip.is_link_local())
        }
        Ok(IpAddr::V6(ip)) => {
            !(ip.is_unspecified()
                || ip.is_loopback()
                || ip.is_multicast()
                || ip.is_unicast_link_local()
                || ip.to_ipv4_mapped().is_some_and(|ip| !is_global_unicast(&ip.to_string())))
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_have_a_scheme_and_a_port() {
        assert_eq!(Target::parse("a"), Some(Target { name: "a", port: "" }));
        assert_eq!(Target::parse("a:80"), Some(Target { name: "a", port: "80" }));
        assert_eq!(Target::parse("https:a:web"), Some(Target { name: "a", port: "web" }));
        assert_eq!(Target::parse("https:a:"), Some(Target { name: "a", port: "" }));
        for wrong in ["", ":80", "ftp:a:80", "a:b:c:d"] {
            assert_eq!(Target::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn addresses_of_this_machine_and_of_its_neighbours_are_not_allowed() {
        for good in ["10.0.0.1", "192.0.2.1", "fd00::1"] {
            assert!(is_global_unicast(good), "{good}");
        }
        for wrong in
            ["", "127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "::1", "fe80::1", "::ffff:127.0.0.1"]
        {
            assert!(!is_global_unicast(wrong), "{wrong}");
        }
    }
}
