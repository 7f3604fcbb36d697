//! Watches the API, plans, writes; and runs the pods' servers and the Services' load balancers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::objects;
use crate::plan::{Action, World, plan};
use crate::proxy::Proxy;
use crate::server::Server;

/// Changes that come together are planned together.
const SETTLE: Duration = Duration::from_millis(5);
/// Every plan is made anew so often, whether anything changed or not.
const PERIOD: Duration = Duration::from_secs(2);

/// What a sandbox cluster is like.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cluster's name, which its pods answer with.
    pub cluster: String,
    /// 1 to 126: the cluster's addresses are 127.<index>.x.y.
    pub index: u8,
    /// From a pod's creation to its readiness.
    pub start_delay: Duration,
    /// How long a deleted pod goes on serving.
    pub grace: Duration,
}

/// The sandbox ended because it could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node object could not be written.
    #[error("cannot register the sandbox's node")]
    Register(#[source] kube::Error),
}

/// The workload side of one sandbox cluster.
pub struct Workloads {
    client: Client,
    options: Options,
    changed: Arc<Notify>,
    // By uid.
    pods: HashMap<String, Running>,
    // By "namespace/name" and port.
    proxies: HashMap<(String, u16), Proxy>,
    // Load balancer addresses, given once and kept.
    addresses: BTreeMap<String, Ipv4Addr>,
}

struct Running {
    address: Ipv4Addr,
    port: u16,
    server: Option<Server>,
    ready_at: Instant,
    gone_at: Option<Instant>,
}

struct Caches {
    deployments: Store<Deployment>,
    replica_sets: Store<ReplicaSet>,
    pods: Store<Pod>,
    services: Store<Service>,
    endpoints: Store<Endpoints>,
}

impl Workloads {
    /// A workload side over `client`.
    pub fn new(client: Client, options: Options) -> Self {
        Self {
            client,
            options,
            changed: Arc::new(Notify::new()),
            pods: HashMap::new(),
            proxies: HashMap::new(),
            addresses: BTreeMap::new(),
        }
    }

    /// Runs until `stop`.
    ///
    /// # Errors
    /// When the node object cannot be written at the start. Later failures are retried.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        self.register_node().await.map_err(Error::Register)?;
        let caches = Caches {
            deployments: self.reflect(&stop),
            replica_sets: self.reflect(&stop),
            pods: self.reflect(&stop),
            services: self.reflect(&stop),
            endpoints: self.reflect(&stop),
        };
        loop {
            let due = self.due();
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.changed.notified() => tokio::time::sleep(SETTLE).await,
                () = tokio::time::sleep_until(due) => {}
            }
            self.step(&caches).await;
        }
    }

    /// When something is to be done that no change announces.
    fn due(&self) -> Instant {
        let now = Instant::now();
        let times = self
            .pods
            .values()
            .filter_map(|pod| pod.gone_at.or_else(|| pod.server.is_none().then_some(pod.ready_at)));
        times.chain([now + PERIOD]).min().unwrap_or(now).max(now + Duration::from_millis(1))
    }

    fn reflect<K>(&self, stop: &CancellationToken) -> Store<K>
    where
        K: kube::Resource<DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        let (reader, writer) = reflector::store();
        let stream =
            watcher(Api::<K>::all(self.client.clone()), watcher::Config::default()).default_backoff();
        let events = reflector::reflector(writer, stream);
        let changed = self.changed.clone();
        let stop = stop.clone();
        tokio::spawn(async move {
            tokio::pin!(events);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    event = events.next() => match event {
                        Some(Ok(_)) => changed.notify_one(),
                        Some(Err(error)) => tracing::debug!(%error, "a sandbox watch is tried again"),
                        None => return,
                    },
                }
            }
        });
        reader
    }

    async fn step(&mut self, caches: &Caches) {
        let world = World {
            deployments: caches.deployments.state(),
            replica_sets: caches.replica_sets.state(),
            pods: caches.pods.state(),
            services: caches.services.state(),
            endpoints: caches.endpoints.state(),
        };
        self.run_pods(&world).await;
        self.run_services(&world).await;
        let addresses = &self.addresses;
        let actions = plan(&world, |service| addresses.get(&service_key(service)).map(ToString::to_string));
        // Writes are independent of each other: the next plan mends what one of them missed.
        futures::stream::iter(actions)
            .for_each_concurrent(16, |action| async {
                if let Err(error) = self.write(action).await {
                    tracing::debug!(%error, "a sandbox write is tried again");
                    self.changed.notify_one();
                }
            })
            .await;
    }

    async fn run_pods(&mut self, world: &World) {
        let now = Instant::now();
        let live: BTreeSet<&str> = world
            .pods
            .iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .filter_map(|pod| pod.metadata.uid.as_deref())
            .collect();
        for (uid, running) in &mut self.pods {
            if !live.contains(uid.as_str()) {
                running.gone_at.get_or_insert(now + self.options.grace);
            }
        }
        self.pods.retain(|_, running| running.gone_at.is_none_or(|gone| gone > now));
        let taken: BTreeSet<Ipv4Addr> = self.pods.values().map(|pod| pod.address).collect();
        let mut free = addresses(self.options.index).filter(|address| !taken.contains(address));
        for pod in &world.pods {
            let Some(uid) = pod.metadata.uid.clone() else { continue };
            if !live.contains(uid.as_str()) {
                continue;
            }
            if !self.pods.contains_key(&uid) {
                let Some(address) = free.next() else {
                    tracing::warn!(cluster = self.options.cluster, "no address is left for another pod");
                    continue;
                };
                let ready_at = now + self.options.start_delay;
                let running = Running {
                    address,
                    port: objects::container_port(pod),
                    server: None,
                    ready_at,
                    gone_at: None,
                };
                self.pods.insert(uid.clone(), running);
            }
            let Some(running) = self.pods.get_mut(&uid) else { continue };
            if running.server.is_none() && running.ready_at <= now {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                let identity = format!("cluster={0} pod={name} node={0}-sandbox\n", self.options.cluster);
                match Server::start(running.address, running.port, identity).await {
                    Ok(server) => running.server = Some(server),
                    Err(error) => {
                        tracing::warn!(%error, address = %running.address, port = running.port, "a sandbox pod cannot listen");
                        running.ready_at = now + Duration::from_secs(1);
                    }
                }
            }
            let (address, listening) = (running.address, running.server.is_some());
            if objects::pod_ready(pod) != listening || pod.status.is_none() {
                self.write_pod_status(pod, address, listening).await;
            }
        }
    }

    async fn write_pod_status(&self, pod: &Pod, address: Ipv4Addr, ready: bool) {
        let (namespace, name) = objects::key(&pod.metadata);
        let state = if ready { "True" } else { "False" };
        let phase = if ready { "Running" } else { "Pending" };
        let conditions: Vec<_> = ["Initialized", "Ready", "ContainersReady", "PodScheduled"]
            .map(|kind| json!({"type": kind, "status": if kind == "PodScheduled" || kind == "Initialized" { "True" } else { state }}))
            .to_vec();
        let containers: Vec<_> = pod
            .spec
            .iter()
            .flat_map(|spec| &spec.containers)
            .map(|container| json!({"name": container.name, "image": container.image, "imageID": "", "ready": ready, "restartCount": 0}))
            .collect();
        let status = json!({"status": {
            "phase": phase, "podIP": address.to_string(), "hostIP": "127.0.0.1", "conditions": conditions,
            "containerStatuses": containers,
        }});
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        if let Err(error) = api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await {
            tracing::debug!(%error, name, "a pod's status is tried again");
        }
    }

    async fn run_services(&mut self, world: &World) {
        let mut wanted = BTreeSet::new();
        for service in &world.services {
            let Some(spec) = &service.spec else { continue };
            if spec.type_.as_deref() != Some("LoadBalancer") {
                continue;
            }
            let key = service_key(service);
            let address = self.load_balancer_address(&key);
            for port in spec.ports.iter().flatten() {
                let Ok(number) = u16::try_from(port.port) else { continue };
                wanted.insert((key.clone(), number));
                let slot = (key.clone(), number);
                if !self.proxies.contains_key(&slot) {
                    match Proxy::start(address, number).await {
                        Ok(proxy) => {
                            self.proxies.insert(slot.clone(), proxy);
                        }
                        Err(error) => {
                            tracing::warn!(%error, %address, port = number, "a sandbox load balancer cannot listen");
                            continue;
                        }
                    }
                }
                let target = u16::try_from(objects::target_port(port)).unwrap_or(number);
                let selector = spec.selector.clone().unwrap_or_default();
                let backends = world
                    .pods
                    .iter()
                    .filter(|pod| pod.metadata.namespace == service.metadata.namespace)
                    .filter(|pod| {
                        objects::selects(&selector, pod) && pod.metadata.deletion_timestamp.is_none()
                    })
                    .filter_map(|pod| self.pods.get(pod.metadata.uid.as_deref()?))
                    .filter(|running| running.server.is_some() && running.gone_at.is_none())
                    .map(|running| SocketAddr::from((running.address, target)))
                    .collect();
                if let Some(proxy) = self.proxies.get(&slot) {
                    proxy.set_backends(backends);
                }
            }
        }
        self.proxies.retain(|slot, _| wanted.contains(slot));
    }

    fn load_balancer_address(&mut self, key: &str) -> Ipv4Addr {
        let next = u8::try_from(self.addresses.len() + 1).unwrap_or(u8::MAX);
        *self
            .addresses
            .entry(key.to_owned())
            .or_insert_with(|| Ipv4Addr::new(127, self.options.index, 255, next))
    }

    async fn register_node(&self) -> Result<(), kube::Error> {
        let name = format!("{}-sandbox", self.options.cluster);
        let api: Api<Node> = Api::all(self.client.clone());
        let node: Node =
            serde_json::from_value(json!({"metadata": {"name": name}})).map_err(kube::Error::SerdeError)?;
        match api.create(&PostParams::default(), &node).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error),
        }
        let resources = json!({"cpu": "8", "memory": "16Gi", "pods": "1000"});
        let status = json!({"status": {
            "allocatable": resources, "capacity": resources,
            "addresses": [{"type": "InternalIP", "address": format!("127.{}.0.1", self.options.index)}],
            "conditions": [{"type": "Ready", "status": "True", "reason": "Sandbox", "message": "not a Kubernetes node",
                            "lastHeartbeatTime": null, "lastTransitionTime": null}],
        }});
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await.map(drop)
    }

    async fn write(&self, action: Action) -> Result<(), kube::Error> {
        let client = self.client.clone();
        let (post, patch, delete) =
            (PostParams::default(), PatchParams::default(), DeleteParams::background());
        let outcome = match action {
            Action::CreateReplicaSet(set) => {
                Api::namespaced(client, set.metadata.namespace.as_deref().unwrap_or_default())
                    .create(&post, &set)
                    .await
                    .map(drop)
            }
            Action::CreatePod(pod) => {
                Api::namespaced(client, pod.metadata.namespace.as_deref().unwrap_or_default())
                    .create(&post, &pod)
                    .await
                    .map(drop)
            }
            Action::Scale { namespace, name, replicas } => Api::<ReplicaSet>::namespaced(client, &namespace)
                .patch(&name, &patch, &Patch::Merge(&json!({"spec": {"replicas": replicas}})))
                .await
                .map(drop),
            Action::DeleteReplicaSet { namespace, name } => {
                Api::<ReplicaSet>::namespaced(client, &namespace).delete(&name, &delete).await.map(drop)
            }
            Action::DeletePod { namespace, name } => {
                Api::<Pod>::namespaced(client, &namespace).delete(&name, &delete).await.map(drop)
            }
            Action::DeploymentStatus { namespace, name, status } => {
                Api::<Deployment>::namespaced(client, &namespace)
                    .patch_status(
                        &name,
                        &patch,
                        &Patch::Merge(&json!({"status": whole(&status, DEPLOYMENT_COUNTS)})),
                    )
                    .await
                    .map(drop)
            }
            Action::ReplicaSetStatus { namespace, name, status } => {
                Api::<ReplicaSet>::namespaced(client, &namespace)
                    .patch_status(
                        &name,
                        &patch,
                        &Patch::Merge(&json!({"status": whole(&status, REPLICA_SET_COUNTS)})),
                    )
                    .await
                    .map(drop)
            }
            Action::ServiceStatus { namespace, name, status } => {
                Api::<Service>::namespaced(client, &namespace)
                    .patch_status(&name, &patch, &Patch::Merge(&json!({"status": status})))
                    .await
                    .map(drop)
            }
            Action::Endpoints(endpoints) => self.write_endpoints(endpoints).await,
        };
        match outcome {
            // Another plan was faster, or the object went away: the next plan sees it.
            Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => Ok(()),
            other => other,
        }
    }

    async fn write_endpoints(&self, endpoints: Endpoints) -> Result<(), kube::Error> {
        let (namespace, name) = objects::key(&endpoints.metadata);
        let api: Api<Endpoints> = Api::namespaced(self.client.clone(), &namespace);
        let patch = json!({"subsets": endpoints.subsets});
        match api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {
                api.create(&PostParams::default(), &endpoints).await.map(drop)
            }
            other => other.map(drop),
        }
    }
}

const DEPLOYMENT_COUNTS: &[&str] =
    &["replicas", "readyReplicas", "availableReplicas", "updatedReplicas", "unavailableReplicas"];
const REPLICA_SET_COUNTS: &[&str] = &["readyReplicas", "availableReplicas", "fullyLabeledReplicas"];

/// A status as a merge patch that also takes away counts that are zero, and so unset.
fn whole(status: &impl serde::Serialize, counts: &[&str]) -> serde_json::Value {
    let mut value = serde_json::to_value(status).unwrap_or_default();
    if let Some(map) = value.as_object_mut() {
        for count in counts {
            map.entry(*count).or_insert(serde_json::Value::Null);
        }
    }
    value
}

/// Those of pods: .0.x and .255.x are left for nodes and load balancers.
fn addresses(index: u8) -> impl Iterator<Item = Ipv4Addr> {
    (1..=254u8).flat_map(move |third| (1..=254u8).map(move |fourth| Ipv4Addr::new(127, index, third, fourth)))
}

fn service_key(service: &Service) -> String {
    let (namespace, name) = objects::key(&service.metadata);
    format!("{namespace}/{name}")
}
