//! What the workload controllers write next, from what the API holds. Pure and level-triggered: names are derived, so that
//! writing twice is harmless.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet, ReplicaSetSpec, ReplicaSetStatus,
};
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, LoadBalancerIngress, LoadBalancerStatus, Pod,
    Service, ServiceStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::Resource;

use crate::objects::{self, controller_of, hash_of_template, label_of_hash, owner, pod_ready, selects};

/// Annotation of a Service whose load balancer says this name, and no address, as some clouds' do.
pub const LOAD_BALANCER_NAME: &str = "sandbox.federation.rs/load-balancer-name";

/// What the API holds.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Every Deployment.
    pub deployments: Vec<Arc<Deployment>>,
    /// Every ReplicaSet.
    pub replica_sets: Vec<Arc<ReplicaSet>>,
    /// Every Pod.
    pub pods: Vec<Arc<Pod>>,
    /// Every Service.
    pub services: Vec<Arc<Service>>,
    /// Every Endpoints.
    pub endpoints: Vec<Arc<Endpoints>>,
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create a ReplicaSet.
    CreateReplicaSet(ReplicaSet),
    /// Set a ReplicaSet's replicas.
    Scale {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// spec.replicas.
        replicas: i32,
    },
    /// Delete a ReplicaSet of an old revision.
    DeleteReplicaSet {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// Create a Pod.
    CreatePod(Pod),
    /// Delete a Pod.
    DeletePod {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// Write a Deployment's status.
    DeploymentStatus {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// The status.
        status: DeploymentStatus,
    },
    /// Write a ReplicaSet's status.
    ReplicaSetStatus {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// The status.
        status: ReplicaSetStatus,
    },
    /// Create or replace an Endpoints.
    Endpoints(Endpoints),
    /// Write a Service's status.
    ServiceStatus {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// The status.
        status: ServiceStatus,
    },
}

/// Everything that should be written next. `address`: the load balancer address of a Service, if it has one.
pub fn plan(world: &World, address: impl Fn(&Service) -> Option<String>) -> Vec<Action> {
    let mut actions = Vec::new();
    let sets = by_controller(&world.replica_sets);
    for deployment in &world.deployments {
        plan_deployment(of(&sets, &deployment.metadata), deployment, &mut actions);
    }
    let mut pods = by_controller(&world.pods);
    for replica_set in &world.replica_sets {
        plan_replica_set(of(&pods, &replica_set.metadata), replica_set, &mut actions);
    }
    for set in world.replica_sets.iter().filter_map(|set| set.metadata.uid.as_deref()) {
        pods.remove(set);
    }
    for pod in pods.into_values().flatten() {
        if controller_of(&pod.metadata).is_some_and(|owner| owner.kind == "ReplicaSet") {
            let (namespace, name) = objects::key(&pod.metadata);
            actions.push(Action::DeletePod { namespace, name });
        }
    }
    for service in &world.services {
        plan_service(world, service, address(service), &mut actions);
    }
    actions
}

/// Objects by the uid of what controls them.
fn by_controller<K: Resource<DynamicType = ()>>(objects: &[Arc<K>]) -> HashMap<&str, Vec<&K>> {
    let mut found: HashMap<&str, Vec<&K>> = HashMap::new();
    for object in objects {
        if let Some(owner) = controller_of(object.meta()) {
            found.entry(&owner.uid).or_default().push(object);
        }
    }
    found
}

fn of<'a, K>(objects: &'a HashMap<&str, Vec<&'a K>>, controller: &ObjectMeta) -> &'a [&'a K] {
    controller.uid.as_deref().and_then(|uid| objects.get(uid)).map_or(&[], Vec::as_slice)
}

fn plan_deployment(ours: &[&ReplicaSet], deployment: &Deployment, actions: &mut Vec<Action>) {
    let spec = &deployment.spec;
    if deployment.metadata.deletion_timestamp.is_some() {
        return;
    }
    let (namespace, name) = objects::key(&deployment.metadata);
    let wanted = spec.replicas.unwrap_or(1);
    let hash = hash_of_template(&spec.template);
    let current_name = format!("{name}-{hash}");
    let current = ours.iter().find(|set| set.metadata.name.as_deref() == Some(&current_name));
    match current {
        None => actions.push(Action::CreateReplicaSet(replica_set(deployment, &hash, wanted))),
        Some(set) if replicas(set) != wanted => {
            actions.push(Action::Scale {
                namespace: namespace.clone(),
                name: current_name.clone(),
                replicas: wanted,
            });
        }
        Some(_) => {}
    }
    let current_ready = current.map_or(0, |set| ready(set));
    for old in ours.iter().filter(|set| set.metadata.name.as_deref() != Some(&current_name)) {
        let (namespace, name) = objects::key(&old.metadata);
        if replicas(old) == 0 && old.status.as_ref().is_some_and(|status| status.replicas == 0) {
            actions.push(Action::DeleteReplicaSet { namespace, name });
        } else {
            // Surge before removal: an old pod goes only when a new one is ready in its place.
            let keep = (wanted - current_ready).clamp(0, replicas(old));
            if keep != replicas(old) {
                actions.push(Action::Scale { namespace, name, replicas: keep });
            }
        }
    }
    let status = deployment_status(deployment, ours, current.copied());
    if deployment.status.as_ref() != Some(&status) {
        actions.push(Action::DeploymentStatus { namespace, name, status });
    }
}

fn replica_set(deployment: &Deployment, hash: &str, replicas: i32) -> ReplicaSet {
    let (namespace, name) = objects::key(&deployment.metadata);
    let spec = deployment.spec.clone();
    let mut template = spec.template;
    let (label, value) = label_of_hash(hash);
    template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default()
        .insert(label.clone(), value.clone());
    let mut selector: LabelSelector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(label, value);
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{hash}")),
            namespace: Some(namespace),
            labels: template.metadata.as_ref().and_then(|meta| meta.labels.clone()),
            owner_references: Some(vec![owner("apps/v1", "Deployment", &deployment.metadata)]),
            ..Default::default()
        },
        spec: ReplicaSetSpec {
            replicas: Some(replicas),
            selector,
            template: Some(template),
            ..Default::default()
        },
        status: None,
    }
}

fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

fn ready(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0)
}

fn deployment_status(
    deployment: &Deployment,
    ours: &[&ReplicaSet],
    current: Option<&ReplicaSet>,
) -> DeploymentStatus {
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let total: i32 = ours.iter().filter_map(|set| set.status.as_ref()).map(|status| status.replicas).sum();
    let ready: i32 = ours.iter().map(|set| ready(set)).sum();
    let updated = current.and_then(|set| set.status.as_ref()).map_or(0, |status| status.replicas);
    let available = ready >= wanted;
    let complete = available && updated >= wanted && total == wanted;
    let earlier = deployment.status.as_ref().and_then(|status| status.conditions.as_ref());
    let condition = |kind: &str, holds: bool, reason: &str| {
        let status = if holds { "True" } else { "False" };
        // An unchanged condition keeps its times, so that an unchanged status is equal.
        let kept = earlier
            .into_iter()
            .flatten()
            .find(|old| old.type_.as_deref() == Some(kind) && old.status.as_deref() == Some(status));
        DeploymentCondition {
            type_: Some(kind.into()),
            status: Some(status.into()),
            reason: Some(reason.into()),
            message: None,
            last_transition_time: kept.and_then(|old| old.last_transition_time.clone()),
            last_update_time: kept.and_then(|old| old.last_update_time.clone()),
        }
    };
    let some = |count: i32| (count > 0).then_some(count);
    DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(total),
        ready_replicas: some(ready),
        available_replicas: some(ready),
        updated_replicas: some(updated),
        unavailable_replicas: some(wanted - ready),
        conditions: Some(vec![
            condition(
                "Available",
                available,
                if available { "MinimumReplicasAvailable" } else { "MinimumReplicasUnavailable" },
            ),
            condition(
                "Progressing",
                true,
                if complete { "NewReplicaSetAvailable" } else { "ReplicaSetUpdated" },
            ),
        ]),
        ..Default::default()
    }
}

fn plan_replica_set(pods: &[&Pod], set: &ReplicaSet, actions: &mut Vec<Action>) {
    let spec = &set.spec;
    if set.metadata.deletion_timestamp.is_some() {
        return;
    }
    let (namespace, name) = objects::key(&set.metadata);
    let wanted = replicas(set).max(0);
    let ours: BTreeMap<&str, &Pod> = pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .filter_map(|pod| Some((pod.metadata.name.as_deref()?, *pod)))
        .collect();
    let names: Vec<String> = (0..wanted).map(|index| format!("{name}-{index}")).collect();
    for pod_name in &names {
        if !ours.contains_key(pod_name.as_str()) {
            actions.push(Action::CreatePod(pod(set, spec, pod_name)));
        }
    }
    for pod_name in ours.keys() {
        if !names.iter().any(|name| name == pod_name) {
            actions.push(Action::DeletePod { namespace: namespace.clone(), name: (*pod_name).to_owned() });
        }
    }
    let ready = ours.values().filter(|pod| pod_ready(pod)).count() as i32;
    let status = ReplicaSetStatus {
        replicas: ours.len() as i32,
        ready_replicas: (ready > 0).then_some(ready),
        available_replicas: (ready > 0).then_some(ready),
        fully_labeled_replicas: (!ours.is_empty()).then_some(ours.len() as i32),
        observed_generation: set.metadata.generation,
        ..Default::default()
    };
    if set.status.as_ref() != Some(&status) {
        actions.push(Action::ReplicaSetStatus { namespace, name, status });
    }
}

fn pod(set: &ReplicaSet, spec: &ReplicaSetSpec, name: &str) -> Pod {
    let template = spec.template.clone().unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: set.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: meta.annotations,
            owner_references: Some(vec![owner("apps/v1", "ReplicaSet", &set.metadata)]),
            ..Default::default()
        },
        spec: template.spec,
        status: None,
    }
}

fn plan_service(world: &World, service: &Service, address: Option<String>, actions: &mut Vec<Action>) {
    let Some(spec) = &service.spec else { return };
    if service.metadata.deletion_timestamp.is_some() {
        return;
    }
    let (namespace, name) = objects::key(&service.metadata);
    if let Some(selector) = spec.selector.as_ref().filter(|selector| !selector.is_empty()) {
        let mut addresses: Vec<EndpointAddress> = world
            .pods
            .iter()
            .filter(|pod| {
                pod.metadata.namespace == service.metadata.namespace
                    && selects(selector, pod)
                    && pod_ready(pod)
            })
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .filter_map(|pod| {
                let ip = pod.status.as_ref()?.pod_ip.clone()?;
                Some(EndpointAddress { ip, target_ref: Some(objects::reference(pod)), ..Default::default() })
            })
            .collect();
        addresses.sort_by(|a, b| a.ip.cmp(&b.ip));
        let ports = spec.ports.iter().flatten().map(|port| EndpointPort {
            name: port.name.clone(),
            port: objects::target_port(port),
            protocol: Some("TCP".into()),
            ..Default::default()
        });
        let subset =
            EndpointSubset { addresses: Some(addresses), ports: Some(ports.collect()), ..Default::default() };
        let empty = subset.addresses.as_ref().is_none_or(Vec::is_empty);
        let subsets = (!empty).then(|| vec![subset]);
        let current = world.endpoints.iter().find(|e| {
            e.metadata.namespace == service.metadata.namespace && e.metadata.name == service.metadata.name
        });
        let held =
            current.and_then(|endpoints| endpoints.subsets.clone()).filter(|subsets| !subsets.is_empty());
        if current.is_none() || held != subsets {
            actions.push(Action::Endpoints(Endpoints {
                metadata: ObjectMeta {
                    name: Some(name.clone()),
                    namespace: Some(namespace.clone()),
                    owner_references: Some(vec![owner("v1", "Service", &service.metadata)]),
                    ..Default::default()
                },
                subsets,
            }));
        }
    }
    if let Some(ip) = address {
        let annotations = service.metadata.annotations.as_ref();
        let ingress = match annotations.and_then(|annotations| annotations.get(LOAD_BALANCER_NAME)) {
            Some(name) => LoadBalancerIngress { hostname: Some(name.clone()), ..Default::default() },
            None => LoadBalancerIngress { ip: Some(ip), ..Default::default() },
        };
        let held = service.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.clone());
        let said = |ingress: &LoadBalancerIngress| (ingress.ip.clone(), ingress.hostname.clone());
        if held.as_ref().and_then(|held| held.first()).map(said) != Some(said(&ingress)) {
            let load_balancer = Some(LoadBalancerStatus { ingress: Some(vec![ingress]) });
            actions.push(Action::ServiceStatus {
                namespace,
                name,
                status: ServiceStatus { load_balancer, ..Default::default() },
            });
        }
    }
}
