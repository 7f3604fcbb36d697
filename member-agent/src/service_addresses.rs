//! How users outside the cluster reach a federated Service, computed from the Service, its Endpoints and the nodes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use apimachinery::quantity::Quantity;
use federation_core::api::marks;
use hub_protocol::Key;
use parking_lot::Mutex;
use proto::v1;
use serde_json::Value;

use crate::manifest;
use crate::world::{Report, World};

/// What matters of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Node {
    ready: bool,
    external: Vec<String>,
    internal: Vec<String>,
    cpu_millis: i64,
    memory_bytes: i64,
    pods: u32,
}

type Name = (String, String);

#[derive(Debug, Default)]
struct State {
    services: HashMap<Name, Value>,
    ready: HashMap<Name, Ready>,
    nodes: BTreeMap<String, Node>,
}

/// Endpoints of one Service that are told by name.
const HOSTS_MAX: usize = 100;

/// Ready endpoints of a Service.
#[derive(Clone, Debug, Default, PartialEq)]
struct Ready {
    /// Distinct addresses.
    count: u32,
    hosts: Vec<v1::ServiceEndpoint>,
}

/// Collects what the watches see and reports a Service when its reachability may have changed; the session drops repeats.
#[derive(Debug)]
pub(crate) struct ServiceAddresses {
    world: Arc<World>,
    state: Mutex<State>,
    // Held from when a Service is described until that is told: of two watches' words the newer is told last.
    telling: tokio::sync::Mutex<()>,
}

impl ServiceAddresses {
    pub(crate) fn new(world: Arc<World>) -> Self {
        Self { world, state: Mutex::default(), telling: tokio::sync::Mutex::default() }
    }

    pub(crate) async fn service(&self, key: &Key, live: Option<&Value>) {
        let name = (key.namespace.clone(), key.name.clone());
        match live {
            Some(live) => self.state.lock().services.insert(name.clone(), live.clone()),
            None => self.state.lock().services.remove(&name),
        };
        self.report([name]).await;
    }

    pub(crate) async fn endpoints(&self, namespace: &str, name: &str, live: Option<&Value>) {
        let name = (namespace.to_owned(), name.to_owned());
        let ready = live.map(ready_endpoints).unwrap_or_default();
        let old = {
            let mut state = self.state.lock();
            if live.is_some() {
                state.ready.insert(name.clone(), ready.clone())
            } else {
                state.ready.remove(&name)
            }
        };
        // None that is known is none that is ready.
        if old.unwrap_or_default() != ready {
            self.report([name]).await;
        }
    }

    pub(crate) async fn node(&self, name: &str, live: Option<&Value>) {
        let changed = {
            let mut state = self.state.lock();
            match live.map(node) {
                Some(node) => state.nodes.insert(name.to_owned(), node.clone()) != Some(node),
                None => state.nodes.remove(name).is_some(),
            }
        };
        if changed {
            let names: Vec<Name> = self.state.lock().services.keys().cloned().collect();
            self.report(names).await;
        }
    }

    /// Nodes that are known.
    pub(crate) fn nodes(&self) -> Vec<String> {
        self.state.lock().nodes.keys().cloned().collect()
    }

    /// Services whose Endpoints are known, by namespace and name.
    pub(crate) fn with_endpoints(&self) -> Vec<(String, String)> {
        self.state.lock().ready.keys().cloned().collect()
    }

    /// Sum over the ready nodes.
    pub(crate) fn capacity(&self) -> v1::Capacity {
        let state = self.state.lock();
        let ready = state.nodes.values().filter(|node| node.ready);
        let mut capacity = v1::Capacity { nodes: state.nodes.len() as u32, ..v1::Capacity::default() };
        for node in ready {
            capacity.nodes_ready += 1;
            let sum = i64::saturating_add;
            capacity.cpu_allocatable_millis = sum(capacity.cpu_allocatable_millis, node.cpu_millis);
            capacity.memory_allocatable_bytes = sum(capacity.memory_allocatable_bytes, node.memory_bytes);
            capacity.pods_allocatable = capacity.pods_allocatable.saturating_add(node.pods);
        }
        capacity
    }

    async fn report(&self, names: impl IntoIterator<Item = Name>) {
        for (namespace, name) in names {
            let key = Key {
                version: "v1".into(),
                kind: "Service".into(),
                resource: "services".into(),
                namespace: namespace.clone(),
                name: name.clone(),
                ..Key::default()
            };
            let Some(wanted) = self.world.held(&key) else { continue };
            let uid = &wanted.entry.uid;
            let _telling = self.telling.lock().await;
            let service = {
                let state = self.state.lock();
                let id = (namespace, name);
                let none = Ready::default();
                let ready = state.ready.get(&id).unwrap_or(&none);
                let live = state.services.get(&id);
                if live.is_some_and(|live| is_of_another(live, uid)) {
                    continue;
                }
                describe(live, ready, state.nodes.values())
            };
            let report = v1::ServiceState { key: Some(key.into()), uid: uid.clone(), ..service };
            // An error means that the agent is ending.
            let _ = self.world.reports.send(Report::Service(report)).await;
        }
    }
}

/// Whether what is there is the copy of another template, whose name the wanted one has now: how that is reached says nothing of this one.
fn is_of_another(live: &Value, uid: &str) -> bool {
    manifest::annotation(live, marks::TEMPLATE_UID).is_some_and(|of| of != uid)
}

/// Addresses in the order of preference that users' paths have: a load balancer (its addresses, else its name), node ports of ready nodes, external addresses.
fn describe<'a>(
    service: Option<&Value>,
    ready: &Ready,
    nodes: impl Iterator<Item = &'a Node>,
) -> v1::ServiceState {
    let Some(service) = service else {
        return v1::ServiceState { absent: true, ..v1::ServiceState::default() };
    };
    let mut state = v1::ServiceState {
        ready_endpoints: ready.count,
        epoch: manifest::epoch(service),
        ..v1::ServiceState::default()
    };
    let text = |pointer: &str| service.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let items = |pointer: &str| {
        service.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    };
    if text("/spec/clusterIP") == "None" {
        state.endpoints.clone_from(&ready.hosts);
    }
    let kind = text("/spec/type");
    if kind == "LoadBalancer" {
        let ingress = items("/status/loadBalancer/ingress");
        let of = |field: &str| -> Vec<String> {
            ingress.iter().filter_map(|item| Some(item.get(field)?.as_str()?.to_owned())).collect()
        };
        state.addresses = of("ip");
        if state.addresses.is_empty() {
            // Some clouds say a name alone, whose addresses change.
            state.addresses = of("hostname");
        }
    }
    if state.addresses.is_empty() && matches!(kind, "LoadBalancer" | "NodePort") {
        for port in items("/spec/ports") {
            let Some(node_port) = port.get("nodePort").and_then(Value::as_u64) else { continue };
            let name = port.get("name").and_then(Value::as_str).unwrap_or_default();
            state.ports.insert(name.to_owned(), node_port as u32);
        }
        if !state.ports.is_empty() {
            let ready: Vec<&Node> = nodes.filter(|node| node.ready).collect();
            let external: BTreeSet<&String> = ready.iter().flat_map(|node| &node.external).collect();
            let internal: BTreeSet<&String> = ready.iter().flat_map(|node| &node.internal).collect();
            let chosen = if external.is_empty() { internal } else { external };
            state.addresses = chosen.into_iter().cloned().collect();
        }
    }
    if state.addresses.is_empty() {
        state.ports.clear();
        state.addresses =
            items("/spec/externalIPs").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    }
    state
}

/// Ready endpoints of an Endpoints object (core/v1, which Kubernetes 1.20 and the newest both serve).
fn ready_endpoints(endpoints: &Value) -> Ready {
    let subsets = endpoints.get("subsets").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut addresses: BTreeSet<&str> = BTreeSet::new();
    let mut hosts: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for address in subsets.iter().filter_map(|subset| subset.get("addresses")?.as_array()).flatten() {
        let Some(ip) = address.get("ip").and_then(Value::as_str) else { continue };
        addresses.insert(ip);
        let host = match address.get("hostname").and_then(Value::as_str) {
            Some(hostname) => hostname.to_owned(),
            None => label(ip),
        };
        hosts.entry(host).or_default().insert(ip);
    }
    let endpoint = |(host, addresses): (String, BTreeSet<&str>)| v1::ServiceEndpoint {
        host,
        addresses: addresses.into_iter().map(str::to_owned).collect(),
    };
    let hosts = hosts.into_iter().take(HOSTS_MAX).map(endpoint).collect();
    Ready { count: addresses.len() as u32, hosts }
}

/// An address as a DNS label, as Kubernetes' DNS has it for endpoints without a hostname.
fn label(ip: &str) -> String {
    match ip.parse::<std::net::IpAddr>() {
        // Written out: a label neither begins nor ends with a hyphen.
        Ok(std::net::IpAddr::V6(v6)) => v6.segments().map(|segment| format!("{segment:x}")).join("-"),
        _ => ip.replace('.', "-"),
    }
}

fn node(node: &Value) -> Node {
    let items = |pointer: &str| {
        node.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    };
    let field =
        |item: &Value, name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let addresses = |kind: &str| -> Vec<String> {
        items("/status/addresses")
            .iter()
            .filter(|item| field(item, "type") == kind)
            .map(|item| field(item, "address"))
            .collect()
    };
    let amount = |name: &str| {
        let quantity =
            node.pointer("/status/allocatable").and_then(|all| all.get(name)).and_then(Value::as_str);
        quantity.and_then(|text| text.parse::<Quantity>().ok()).unwrap_or_default()
    };
    Node {
        ready: items("/status/conditions")
            .iter()
            .any(|item| field(item, "type") == "Ready" && field(item, "status") == "True"),
        external: addresses("ExternalIP"),
        internal: addresses("InternalIP"),
        cpu_millis: amount("cpu").millis(),
        memory_bytes: amount("memory").units(),
        pods: u32::try_from(amount("pods").units()).unwrap_or(0),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::manifest::Wanted;
    use crate::testing::{held, service};

    fn ready_node(internal: &str, external: &[&str]) -> Node {
        let addresses: Vec<Value> = std::iter::once(json!({"type": "InternalIP", "address": internal}))
            .chain(external.iter().map(|ip| json!({"type": "ExternalIP", "address": ip})))
            .collect();
        node(&json!({"status": {"addresses": addresses, "conditions": [{"type": "Ready", "status": "True"}],
            "allocatable": {"cpu": "2", "memory": "1Gi", "pods": "110"}}}))
    }

    fn ready(count: u32) -> Ready {
        Ready { count, hosts: Vec::new() }
    }

    #[tokio::test]
    async fn endpoints_that_are_gone_are_not_remembered() {
        let (reports, _heard) = tokio::sync::mpsc::channel(1);
        let addresses = ServiceAddresses::new(Arc::new(World::new(reports)));
        let endpoints = json!({"subsets": [{"addresses": [{"ip": "10.1.0.1"}]}]});
        addresses.endpoints("shop", "web", Some(&endpoints)).await;
        assert_eq!(addresses.state.lock().ready.len(), 1);
        addresses.endpoints("shop", "web", None).await;
        assert!(addresses.state.lock().ready.is_empty());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_last_word_of_a_service_is_what_is_so_whichever_watch_spoke_last() {
        let key = service();
        let (reports, mut heard) = tokio::sync::mpsc::channel(8);
        let world = Arc::new(World::new(reports));
        world.put(Arc::new(Wanted::new(held(key.clone(), "{}"))));
        let addresses = Arc::new(ServiceAddresses::new(world));
        let service = json!({"spec": {"type": "ClusterIP", "clusterIP": "10.96.0.1"}});
        for round in 1..3000 {
            let ready = if round % 2 == 0 { json!([]) } else { json!([{"ip": "10.1.0.1"}]) };
            let endpoints = json!({"subsets": [{"addresses": ready}]});
            let (one, other) = (addresses.clone(), addresses.clone());
            let (key, service) = (key.clone(), service.clone());
            let services = tokio::spawn(async move { one.service(&key, Some(&service)).await });
            let ready = tokio::spawn(async move { other.endpoints("shop", "web", Some(&endpoints)).await });
            services.await.unwrap();
            ready.await.unwrap();
            let mut last = None;
            while let Ok(Report::Service(state)) = heard.try_recv() {
                last = Some(state.ready_endpoints);
            }
            assert_eq!(last, Some(round % 2), "round {round}");
        }
    }

    #[tokio::test]
    async fn how_a_service_is_reached_is_told_of_the_wanted_templates_copy_with_the_epoch_of_its_decision() {
        let key = service();
        let (reports, mut heard) = tokio::sync::mpsc::channel(8);
        let world = Arc::new(World::new(reports));
        let entry = held(key.clone(), "{}");
        let uid = entry.uid.clone();
        world.put(Arc::new(Wanted::new(entry)));
        let addresses = ServiceAddresses::new(world);
        let live = |uid: &str, epoch: &str| {
            let annotations = json!({marks::TEMPLATE_UID: uid, marks::EPOCH: epoch});
            json!({"metadata": {"annotations": annotations}, "spec": {"type": "ClusterIP"}})
        };
        addresses.service(&key, Some(&live("the one before", "3"))).await;
        assert!(heard.try_recv().is_err(), "nothing is known of the wanted one yet");
        addresses.service(&key, Some(&live(&uid, "4"))).await;
        let told = heard.try_recv();
        assert!(
            matches!(told, Ok(Report::Service(told)) if told.uid == uid && told.epoch == 4 && !told.absent)
        );
    }

    #[test]
    fn endpoints_of_a_headless_service_are_told_by_name() {
        let endpoints = ready_endpoints(&json!({"subsets": [{"addresses": [
            {"ip": "10.1.0.1", "hostname": "db-0"}, {"ip": "10.1.0.2"}, {"ip": "2001:db8::1"}]}]}));
        let hosts: Vec<&str> = endpoints.hosts.iter().map(|endpoint| endpoint.host.as_str()).collect();
        assert_eq!(hosts, ["10-1-0-2", "2001-db8-0-0-0-0-0-1", "db-0"]);
        let headless = json!({"spec": {"clusterIP": "None"}});
        assert_eq!(describe(Some(&headless), &endpoints, [].iter()).endpoints, endpoints.hosts);
        let service = json!({"spec": {"clusterIP": "10.96.0.1"}});
        assert!(describe(Some(&service), &endpoints, [].iter()).endpoints.is_empty());
    }

    #[test]
    fn a_load_balancer_is_reached_at_its_ingress() {
        let service = json!({"spec": {"type": "LoadBalancer", "ports": [{"port": 80, "nodePort": 30080}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}});
        let state = describe(Some(&service), &ready(2), [ready_node("10.0.0.1", &[])].iter());
        assert_eq!(
            (state.addresses, state.ports.len(), state.ready_endpoints),
            (vec!["192.0.2.7".to_owned()], 0, 2)
        );
    }

    #[test]
    fn a_load_balancer_with_no_address_is_reached_by_its_name_and_not_at_the_nodes() {
        let service = |ingress: Value| {
            json!({"spec": {"type": "LoadBalancer", "ports": [{"port": 443, "nodePort": 30443}]},
                "status": {"loadBalancer": {"ingress": ingress}}})
        };
        let reached = |ingress: Value| {
            let nodes = [ready_node("10.0.0.1", &["198.51.100.1"])];
            let state = describe(Some(&service(ingress)), &ready(1), nodes.iter());
            (state.addresses, state.ports.len())
        };
        let name = json!([{"hostname": "lb-1.elb.example.net"}]);
        assert_eq!(reached(name), (vec!["lb-1.elb.example.net".into()], 0));
        let both = json!([{"hostname": "lb-1.elb.example.net"}, {"ip": "192.0.2.7"}]);
        assert_eq!(reached(both), (vec!["192.0.2.7".into()], 0));
        assert_eq!(reached(json!([])), (vec!["198.51.100.1".into()], 1));
    }

    #[test]
    fn a_node_port_is_reached_at_ready_nodes_preferably_from_outside() {
        let service =
            json!({"spec": {"type": "NodePort", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]}});
        let down = Node { ready: false, ..ready_node("10.0.0.9", &["198.51.100.9"]) };
        let state = describe(Some(&service), &ready(1), [ready_node("10.0.0.1", &[]), down.clone()].iter());
        assert_eq!(state.addresses, ["10.0.0.1"]);
        assert_eq!(state.ports.get("http"), Some(&30080));
        let state =
            describe(Some(&service), &ready(1), [ready_node("10.0.0.1", &["198.51.100.1"]), down].iter());
        assert_eq!(state.addresses, ["198.51.100.1"]);
    }

    #[test]
    fn external_addresses_come_last_and_a_lost_service_is_absent() {
        let service = json!({"spec": {"type": "ClusterIP", "externalIPs": ["203.0.113.5"]}});
        assert_eq!(describe(Some(&service), &ready(1), [].iter()).addresses, ["203.0.113.5"]);
        assert!(describe(None, &ready(1), [].iter()).absent);
    }

    #[test]
    fn only_ready_addresses_count_and_each_once() {
        let endpoints = json!({"subsets": [
            {"addresses": [{"ip": "10.1.0.1"}, {"ip": "10.1.0.2"}], "notReadyAddresses": [{"ip": "10.1.0.3"}]},
            {"addresses": [{"ip": "10.1.0.1"}]}]});
        assert_eq!(ready_endpoints(&endpoints).count, 2);
        assert_eq!(ready_endpoints(&json!({})), Ready::default());
    }
}
