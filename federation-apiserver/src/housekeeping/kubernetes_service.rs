//! The Service `default/kubernetes`, by which clients inside of a cluster find its API server: here, this one.
//!
//! kube-apiserver makes it at its start with the first address of the service range, and Endpoints and an EndpointSlice with the
//! address that it advertises. Every member has its own, so it is never federated.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

use super::{Action, Edit};
use crate::store::{Key, ResourceKey, Snapshot};

const NAMESPACE: &str = "default";
const NAME: &str = "kubernetes";

/// Where clients find this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address of the Service.
    pub cluster_ip: Ipv4Addr,
    /// The address and port that are behind it.
    pub advertised: SocketAddr,
}

/// Whether a change of this object may have taken away what [`required`] makes.
pub(super) fn concerns(key: &Key) -> bool {
    key.name == NAME
        && key.namespace == NAMESPACE
        && matches!(&*key.resource.resource, "services" | "endpoints" | "endpointslices")
}

/// Makes what is not there, and corrects where it leads.
pub(super) fn required(snapshot: &Snapshot, endpoint: Endpoint) -> Vec<Action> {
    let key = |group: &str, resource: &str| Key::new(ResourceKey::new(group, resource), NAMESPACE, NAME);
    let wanted = [
        (key("", "services"), service(endpoint), &[][..]),
        (key("", "endpoints"), endpoints(endpoint), &["subsets"][..]),
        (key("discovery.k8s.io", "endpointslices"), slice(endpoint), &["endpoints", "ports"][..]),
    ];
    let actions = wanted.into_iter().filter_map(|(key, object, kept)| {
        let Some(stored) = snapshot.get(&key) else { return Some(Action::Create { key, object }) };
        let found = stored.value().ok()?;
        if stored.meta.deleting || kept.iter().all(|name| found[*name] == object[*name]) {
            return None;
        }
        let parts: serde_json::Map<_, _> =
            kept.iter().map(|name| ((*name).to_owned(), object[*name].clone())).collect();
        let edit = Edit::Parts(Value::Object(parts));
        Some(Action::Edit { key, uid: stored.meta.uid.clone(), edit })
    });
    actions.collect()
}

fn service(endpoint: Endpoint) -> Value {
    let ip = endpoint.cluster_ip.to_string();
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": NAME, "namespace": NAMESPACE, "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "sessionAffinity": "None",
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": endpoint.advertised.port()}],
        },
        "status": {"loadBalancer": {}},
    })
}

fn port(endpoint: Endpoint) -> Value {
    json!([{"name": "https", "protocol": "TCP", "port": endpoint.advertised.port()}])
}

fn endpoints(endpoint: Endpoint) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {
            "name": NAME, "namespace": NAMESPACE, "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [{"addresses": [{"ip": endpoint.advertised.ip().to_string()}], "ports": port(endpoint)}],
    })
}

fn slice(endpoint: Endpoint) -> Value {
    let family = match endpoint.advertised.ip() {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": NAME, "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": NAME}, "generation": 1,
        },
        "addressType": family,
        "endpoints": [{"addresses": [endpoint.advertised.ip().to_string()], "conditions": {"ready": true}}],
        "ports": port(endpoint),
    })
}
