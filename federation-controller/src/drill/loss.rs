//! The loss that a drill simulates, as an input of decisions.

use std::collections::BTreeMap;

use federation_core::api::{DrillScope, Verdict};
use federation_core::placement::ClusterView;
use federation_core::traffic::{ClusterTraffic, Probe, ServiceView};
use serde_json::Value;

use crate::observe::{Template, World};

/// A loss that is rehearsed now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    /// Name of the drill.
    pub(crate) drill: String,
    pub(crate) scope: DrillScope,
    pub(crate) clusters: Vec<String>,
    pub(crate) namespace: String,
    /// The Service's name.
    pub(crate) app: String,
    /// Since when, Unix milliseconds.
    pub(crate) since_ms: i64,
}

impl Loss {
    /// What explanations say.
    pub(crate) fn message(&self) -> String {
        format!("as if lost, in drill {}", self.drill)
    }

    /// Users of the application find the clusters failing, as if every DNS server's probe said so: what binds automation binds a drill.
    pub(crate) fn services(&self, services: &mut [ServiceView]) {
        if self.scope == DrillScope::Isolate {
            return;
        }
        let own =
            |service: &&mut ServiceView| service.namespace == self.namespace && service.name == self.app;
        for service in services.iter_mut().filter(own) {
            for (_, backend) in service.backends.iter_mut().filter(|(name, _)| self.clusters.contains(name)) {
                backend.probe = Some(Probe { passing: false, age_ms: 0, message: self.message() });
            }
        }
    }

    /// Services and clusters as they would be without the drill.
    pub(crate) fn unharmed(
        &self,
        services: &[ServiceView],
        clusters: &BTreeMap<String, ClusterTraffic>,
    ) -> (Vec<ServiceView>, BTreeMap<String, ClusterTraffic>) {
        let (mut services, mut clusters) = (services.to_vec(), clusters.clone());
        if self.scope == DrillScope::Isolate {
            for (_, cluster) in clusters.iter_mut().filter(|(name, _)| self.clusters.contains(name)) {
                cluster.verdict = Verdict::Healthy;
            }
            let backends = services.iter_mut().flat_map(|service| &mut service.backends);
            for (_, backend) in backends.filter(|(name, _)| self.clusters.contains(name)) {
                backend.probe = None;
            }
        }
        (services, clusters)
    }

    /// The clusters as the placement of one object sees them; none if it sees them as they are.
    pub(crate) fn views(
        &self,
        world: &World,
        template: &Template,
        views: &[ClusterView],
    ) -> Option<Vec<ClusterView>> {
        if self.scope != DrillScope::Schedule || !is_workload(world, template, &self.namespace, &self.app) {
            return None;
        }
        let mut views = views.to_vec();
        for view in views.iter_mut().filter(|view| self.clusters.contains(&view.name)) {
            view.verdict = Verdict::DataPlaneDown;
            view.users_served = false;
            view.since_ms = self.since_ms;
            view.rehearsed = true;
        }
        Some(views)
    }
}

/// Whether a template has the replicas behind a Service: its pods carry the labels that the Service selects.
pub(super) fn is_workload(world: &World, template: &Template, namespace: &str, service: &str) -> bool {
    if &*template.key.namespace != namespace
        || template.object.pointer("/spec/replicas").and_then(Value::as_i64).is_none()
    {
        return false;
    }
    let services = world.services_in(namespace);
    let Some(found) = services.iter().find(|found| &*found.key.name == service) else { return false };
    let Some(selector) = found.object.pointer("/spec/selector").and_then(Value::as_object) else {
        return false;
    };
    let labels = template.object.pointer("/spec/template/metadata/labels").unwrap_or(&Value::Null);
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
