//! Where another server is: a URL, or a Service.
//!
//! A federation has no nodes, so a cluster IP of its own leads nowhere by itself. A Service is therefore resolved in this order:
//! `ExternalName` to that name; else the first ready address of the Service's Endpoints; else the first ready one of its
//! EndpointSlices; else its cluster IP, which an operator may route. The name that TLS asks for is always
//! `<service>.<namespace>.svc`, as from kube-apiserver.

use std::sync::LazyLock;

use http::Uri;
use serde_json::Value;

use crate::store::{Key, ResourceKey, Snapshot};

static SERVICES: LazyLock<ResourceKey> = LazyLock::new(|| ResourceKey::new("", "services"));
static ENDPOINTS: LazyLock<ResourceKey> = LazyLock::new(|| ResourceKey::new("", "endpoints"));
static SLICES: LazyLock<ResourceKey> =
    LazyLock::new(|| ResourceKey::new("discovery.k8s.io", "endpointslices"));

/// Where another server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// At a host and port, below a path.
    Url {
        /// As in the URL; IPv6 in brackets.
        host: String,
        port: u16,
        path: String,
    },
    /// Behind a Service.
    Service { namespace: String, name: String, port: u16, path: String },
}

impl Destination {
    /// Reads an HTTPS URL.
    pub(crate) fn from_url(url: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("{url:?} is no URL: {error}"))?;
        if uri.scheme_str() != Some("https") {
            return Err(format!("{url:?} must begin with https://"));
        }
        let host = uri.host().unwrap_or_default().to_owned();
        Ok(Self::Url { host, port: uri.port_u16().unwrap_or(443), path: uri.path().to_owned() })
    }

    /// Reads a `clientConfig` of a webhook, or the `service` of an APIService in the same form.
    pub(crate) fn read(config: &Value) -> Result<Self, String> {
        if let Some(url) = config["url"].as_str() {
            return Self::from_url(url);
        }
        let service = &config["service"];
        let text = |name: &str| service[name].as_str().unwrap_or_default().to_owned();
        if !service.is_object() {
            return Err("it names neither a url nor a service".to_owned());
        }
        let path = text("path");
        Ok(Self::Service {
            namespace: text("namespace"),
            name: text("name"),
            port: service["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(443),
            path: if path.starts_with('/') { path } else { format!("/{path}") },
        })
    }

    /// The whole URL with a query, which may be empty.
    pub(crate) fn url(&self, query: &str) -> String {
        format!("https://{}{}", self.host(), self.target(query))
    }

    /// The whole URL of a path and query on the same server.
    pub(super) fn at(&self, target: &str) -> String {
        format!("https://{}{target}", self.host())
    }

    /// Path and query.
    pub(crate) fn target(&self, query: &str) -> String {
        let (Self::Url { path, .. } | Self::Service { path, .. }) = self;
        if query.is_empty() { path.clone() } else { format!("{path}?{query}") }
    }

    /// Of the header `Host`.
    pub(super) fn host(&self) -> String {
        match self {
            Self::Url { host, port: 443, .. } => host.clone(),
            Self::Url { host, port, .. } => format!("{host}:{port}"),
            Self::Service { namespace, name, port, .. } => format!("{name}.{namespace}.svc:{port}"),
        }
    }

    /// The name in the certificate.
    pub(super) fn tls_name(&self) -> String {
        match self {
            Self::Url { host, .. } => host.trim_matches(['[', ']']).to_owned(),
            Self::Service { namespace, name, .. } => format!("{name}.{namespace}.svc"),
        }
    }

    /// The address to connect to.
    pub(super) fn dial(&self, snapshot: &Snapshot) -> Result<String, String> {
        match self {
            Self::Url { host, port, .. } => Ok(format!("{host}:{port}")),
            Self::Service { namespace, name, port, .. } => resolve(snapshot, namespace, name, *port),
        }
    }
}

fn resolve(snapshot: &Snapshot, namespace: &str, name: &str, port: u16) -> Result<String, String> {
    let value = |resource: &ResourceKey| {
        let stored = snapshot.get(&Key::new(resource.clone(), namespace, name))?;
        stored.value().ok()
    };
    let service = value(&SERVICES).ok_or_else(|| format!("service {name:?} not found"))?;
    let spec = &service["spec"];
    if spec["type"] == "ExternalName" {
        let external = spec["externalName"].as_str().unwrap_or_default();
        return Ok(format!("{external}:{port}"));
    }
    let ports = spec["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let named = ports
        .iter()
        .find(|candidate| candidate["port"].as_u64() == Some(u64::from(port)))
        .ok_or_else(|| format!("no service port {port} found for service {name:?}"))?;
    let port_name = named["name"].as_str().unwrap_or_default();
    if let Some(address) = value(&ENDPOINTS).and_then(|endpoints| from_endpoints(&endpoints, port_name)) {
        return Ok(address);
    }
    let slices = snapshot.range(&SLICES, Some(namespace), None);
    let own = slices.filter(|slice| {
        slice.meta.labels.get("kubernetes.io/service-name").is_some_and(|service| service == name)
    });
    for slice in own {
        if let Some(address) = slice.value().ok().and_then(|slice| from_slice(&slice, port_name)) {
            return Ok(address);
        }
    }
    match spec["clusterIP"].as_str() {
        Some(ip) if !ip.is_empty() && ip != "None" => Ok(join(ip, u64::from(port))),
        _ => Err(format!("no endpoints available for service {name:?}")),
    }
}

/// Whether there is a way to the Service that an APIService names. The error is the reason and the message of its condition.
pub(crate) fn reachable(snapshot: &Snapshot, spec: &Value) -> Result<(), (&'static str, String)> {
    let text = |field: &str| spec["service"][field].as_str().unwrap_or_default();
    let (namespace, name) = (text("namespace"), text("name"));
    let value = |resource: &ResourceKey| {
        let stored = snapshot.get(&Key::new(resource.clone(), namespace, name))?;
        stored.value().ok()
    };
    let Some(service) = value(&SERVICES) else {
        return Err(("ServiceNotFound", format!("service/{name} in {namespace:?} is not present")));
    };
    if service["spec"]["type"] == "ExternalName" {
        return Ok(());
    }
    let port = spec["service"]["port"].as_u64().unwrap_or(443);
    let mut ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let Some(found) = ports.find(|candidate| candidate["port"].as_u64() == Some(port)) else {
        let message = format!("service/{name} in {namespace:?} is not listening on port {port}");
        return Err(("ServicePortError", message));
    };
    let port_name = found["name"].as_str().unwrap_or_default();
    let no_address = service["spec"]["clusterIP"].as_str().is_none_or(|ip| ip.is_empty() || ip == "None");
    if no_address && resolve(snapshot, namespace, name, u16::try_from(port).unwrap_or_default()).is_err() {
        let message = format!(
            "endpoints for service/{name} in {namespace:?} have no addresses with port name {port_name:?}"
        );
        return Err(("MissingEndpoints", message));
    }
    Ok(())
}

fn port_of(ports: &Value, name: &str) -> Option<u64> {
    let ports = ports.as_array()?;
    ports.iter().find(|port| port["name"].as_str().unwrap_or_default() == name)?["port"].as_u64()
}

fn from_endpoints(endpoints: &Value, port_name: &str) -> Option<String> {
    endpoints["subsets"].as_array()?.iter().find_map(|subset| {
        let ip = subset["addresses"].get(0)?["ip"].as_str()?;
        Some(join(ip, port_of(&subset["ports"], port_name)?))
    })
}

fn from_slice(slice: &Value, port_name: &str) -> Option<String> {
    let port = port_of(&slice["ports"], port_name)?;
    // `ready` that is absent means ready.
    let ready = |endpoint: &&Value| endpoint["conditions"]["ready"] != false;
    let endpoint = slice["endpoints"].as_array()?.iter().find(ready)?;
    Some(join(endpoint["addresses"].get(0)?.as_str()?, port))
}

fn join(ip: &str, port: u64) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_url_and_a_service_are_told_as_kubernetes_tells_them() {
        let url =
            Destination::read(&json!({"url": "https://hooks.example.com:9443/check"})).expect("it is right");
        assert_eq!(url.url("timeout=5s"), "https://hooks.example.com:9443/check?timeout=5s");
        let service =
            json!({"service": {"namespace": "ops", "name": "hooks", "port": 443, "path": "/check"}});
        let service = Destination::read(&service).expect("it is right");
        assert_eq!(service.url(""), "https://hooks.ops.svc:443/check");
        assert_eq!(service.tls_name(), "hooks.ops.svc");
        Destination::read(&json!({"url": "http://hooks.example.com"})).expect_err("it is wrong");
    }

    #[test]
    fn the_first_ready_address_with_the_port_is_taken() {
        let slice = json!({
            "ports": [{"name": "https", "port": 8443}],
            "endpoints": [
                {"addresses": ["10.0.0.1"], "conditions": {"ready": false}},
                {"addresses": ["fd00::2"], "conditions": {"ready": true}},
            ],
        });
        assert_eq!(from_slice(&slice, "https").as_deref(), Some("[fd00::2]:8443"));
        assert_eq!(from_slice(&slice, "metrics"), None);
        let endpoints = json!({"subsets": [{"addresses": [{"ip": "10.0.0.3"}], "ports": [{"port": 9443}]}]});
        assert_eq!(from_endpoints(&endpoints, "").as_deref(), Some("10.0.0.3:9443"));
    }
}
