//! Merging the members' statuses into the template's status.
//!
//! What people and tools read from it: `kubectl rollout status` waits until `observedGeneration` has reached `metadata.generation`, and then
//! until `updatedReplicas` is all of `spec.replicas`, `replicas` no more than those and `availableReplicas` no less; `kubectl wait` reads
//! conditions. So a generation counts as observed only when every placed cluster has observed it, a cluster's numbers about an older
//! generation are not counted as updated, and numbers of clusters that cannot be seen are not counted at all.

mod custom;
mod workloads;

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::api::ClusterTarget;

/// What one member says of its copy.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// The Cluster's name.
    pub cluster: &'a str,
    /// `.status` of the copy.
    pub status: &'a Value,
    /// Template generation whose manifest the member holds.
    pub held_generation: i64,
    /// metadata.generation of the copy; 0 where the kind has none.
    pub member_generation: i64,
    /// The member is in touch: its numbers are of now.
    pub fresh: bool,
}

impl Member<'_> {
    fn number(&self, field: &str) -> i64 {
        self.status.get(field).and_then(Value::as_i64).unwrap_or_default()
    }

    /// The member's own controllers have seen the manifest that it holds.
    fn has_observed(&self) -> bool {
        self.number("observedGeneration") >= self.member_generation
    }

    fn is_current(&self, generation: i64) -> bool {
        self.held_generation >= generation && self.has_observed()
    }

    fn condition(&self, kind: &str) -> Option<&Value> {
        self.status
            .get("conditions")
            .and_then(Value::as_array)?
            .iter()
            .find(|condition| condition.get("type").and_then(Value::as_str) == Some(kind))
    }
}

/// Leaves out of a merged status what the template cannot have: only a Service of type LoadBalancer has ways in, whatever overrides make of its
/// copies.
pub fn fit(kind: &str, template: &Value, merged: Value) -> Value {
    let service_type = template.pointer("/spec/type").and_then(Value::as_str);
    if kind == "Service" && service_type != Some("LoadBalancer") {
        return json!({"loadBalancer": {}});
    }
    merged
}

/// The template's status; `None` for kinds whose status is not made of their copies'.
///
/// `desired` is the decision. Clusters that are leaving are counted as long as they are in touch, but nobody waits for them.
pub fn merge(
    kind: &str,
    generation: i64,
    members: &[Member<'_>],
    desired: &[ClusterTarget],
) -> Option<Value> {
    let world = World { generation, members, desired };
    match kind {
        "Deployment" => Some(world.deployment()),
        "ReplicaSet" => Some(world.replica_set()),
        "Service" | "Ingress" => Some(world.service()),
        "StatefulSet" => Some(world.stateful_set()),
        "DaemonSet" => Some(world.daemon_set()),
        "Job" => Some(world.job()),
        "CronJob" => Some(world.cron_job()),
        "PodDisruptionBudget" => Some(world.disruption_budget()),
        "HorizontalPodAutoscaler" => Some(world.autoscaler()),
        "PersistentVolumeClaim" => Some(world.claim()),
        _ => None,
    }
}

/// The status of a template of a custom kind, of whose statuses nothing is known; `None` as long as no member has told one.
pub fn merge_custom(generation: i64, members: &[Member<'_>], desired: &[ClusterTarget]) -> Option<Value> {
    World { generation, members, desired }.custom()
}

fn is_plain_address(text: &str) -> bool {
    match text.parse() {
        Ok(IpAddr::V4(_)) => true,
        Ok(IpAddr::V6(address)) => address.to_ipv4_mapped().is_none(),
        Err(_) => text.is_empty(),
    }
}

/// API groups of Kubernetes itself, and this federation's own, that have a dot in them. What has none is Kubernetes', too.
const OWN_GROUPS: [&str; 19] = [
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "federation.rs",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
    "storagemigration.k8s.io",
];

/// Whether kinds of a group are custom ones.
pub fn is_custom(group: &str) -> bool {
    group.contains('.') && !OWN_GROUPS.contains(&group)
}

struct World<'a> {
    generation: i64,
    members: &'a [Member<'a>],
    desired: &'a [ClusterTarget],
}

/// Integers of these statuses that are left out when 0, as in Kubernetes.
const DEPLOYMENT_SUMS: [&str; 4] = ["replicas", "readyReplicas", "availableReplicas", "unavailableReplicas"];

impl<'a> World<'a> {
    fn deployment(&self) -> Value {
        let mut status = Map::new();
        self.observed(&mut status);
        for field in DEPLOYMENT_SUMS {
            put(&mut status, field, self.sum(field));
        }
        let updated = self.fresh().filter(|member| member.is_current(self.generation));
        put(&mut status, "updatedReplicas", total(updated.map(|member| member.number("updatedReplicas"))));
        let conditions: Vec<Value> =
            [self.available(), self.progressing(), self.replica_failure()].into_iter().flatten().collect();
        if !conditions.is_empty() {
            status.insert("conditions".into(), conditions.into());
        }
        Value::Object(status)
    }

    fn replica_set(&self) -> Value {
        let mut status = Map::new();
        self.observed(&mut status);
        // `replicas` is the one field that ReplicaSets always have.
        status.insert("replicas".into(), self.sum("replicas").into());
        for field in ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"] {
            put(&mut status, field, self.sum(field));
        }
        if let Some(failure) = self.replica_failure() {
            status.insert("conditions".into(), json!([failure]));
        }
        Value::Object(status)
    }

    /// The ways in, of all clusters in touch: sorted, each once. Addresses that programs read differently (with leading zeros, or of IPv4 written as
    /// IPv6) may come from old members; no newer API server takes them.
    fn service(&self) -> Value {
        let mut ingress: Vec<(String, &Value)> = self
            .fresh()
            .filter_map(|member| member.status.pointer("/loadBalancer/ingress")?.as_array())
            .flatten()
            .filter(|entry| entry.get("ip").and_then(Value::as_str).is_none_or(is_plain_address))
            .map(|entry| (entry.to_string(), entry))
            .collect();
        ingress.sort_by(|a, b| a.0.cmp(&b.0));
        ingress.dedup_by(|a, b| a.0 == b.0);
        if ingress.is_empty() {
            return json!({"loadBalancer": {}});
        }
        let ingress: Vec<&Value> = ingress.into_iter().map(|(_, entry)| entry).collect();
        json!({"loadBalancer": {"ingress": ingress}})
    }

    /// The lowest generation that the placed clusters have observed; the template's own only if all have.
    fn observed(&self, status: &mut Map<String, Value>) {
        let observed = self
            .staying()
            .map(|target| match self.member(&target.name) {
                Some(member) if member.is_current(self.generation) => self.generation,
                // It holds an older manifest, or holds this one and its controllers have not seen it.
                Some(member) => member.held_generation.min(self.generation - 1).max(0),
                None => 0,
            })
            .min()
            .unwrap_or_default();
        put(status, "observedGeneration", observed);
    }

    /// Available if every cluster that should run something says so.
    fn available(&self) -> Option<Value> {
        let mut missing = Vec::new();
        let mut seen = Vec::new();
        for target in self.staying().filter(|target| target.replicas != Some(0)) {
            match self.member(&target.name) {
                Some(member) if member.fresh => match member.condition("Available") {
                    Some(condition) => {
                        seen.push(condition);
                        if !holds(condition) {
                            missing.push(format!("{}: {}", target.name, text(condition, "message")));
                        }
                    }
                    None => missing.push(format!("{}: has not said so yet", target.name)),
                },
                Some(_) => missing.push(format!("{}: is not in touch", target.name)),
                None => missing.push(format!("{}: has not reported yet", target.name)),
            }
        }
        if self.members.is_empty() {
            return None;
        }
        Some(if missing.is_empty() {
            let message = "Deployment has minimum availability in every cluster.";
            condition("Available", true, "MinimumReplicasAvailable", message, &seen)
        } else {
            condition("Available", false, "MinimumReplicasUnavailable", &missing.join("; "), &seen)
        })
    }

    /// Progressing unless some cluster has given up. `kubectl rollout status` fails on the reason `ProgressDeadlineExceeded`.
    fn progressing(&self) -> Option<Value> {
        let said: Vec<(&str, &Value)> = self
            .staying()
            .filter_map(|target| self.member(&target.name).filter(|member| member.fresh))
            .filter(|member| member.is_current(self.generation))
            .filter_map(|member| Some((member.cluster, member.condition("Progressing")?)))
            .collect();
        let all: Vec<&Value> = said.iter().map(|(_, condition)| *condition).collect();
        if let Some((cluster, failed)) = said.iter().find(|(_, condition)| !holds(condition)) {
            let message = format!("{cluster}: {}", text(failed, "message"));
            return Some(condition("Progressing", false, text(failed, "reason"), &message, &all));
        }
        if said.is_empty() {
            return None;
        }
        let waiting = self.staying().count() - said.len();
        let busy = said.iter().find(|(_, condition)| text(condition, "reason") != "NewReplicaSetAvailable");
        Some(match busy {
            _ if waiting > 0 => {
                let message = format!("{waiting} clusters have not observed this generation yet.");
                condition("Progressing", true, "ReplicaSetUpdated", &message, &all)
            }
            Some((cluster, busy)) => {
                let message = format!("{cluster}: {}", text(busy, "message"));
                condition("Progressing", true, text(busy, "reason"), &message, &all)
            }
            None => {
                let message = "The rollout has been completed in every cluster.";
                condition("Progressing", true, "NewReplicaSetAvailable", message, &all)
            }
        })
    }

    fn replica_failure(&self) -> Option<Value> {
        let failing: Vec<(&str, &Value)> = self
            .fresh()
            .filter_map(|member| Some((member.cluster, member.condition("ReplicaFailure")?)))
            .filter(|(_, condition)| holds(condition))
            .collect();
        let (_, first) = failing.first()?;
        let messages: Vec<String> = failing
            .iter()
            .map(|(cluster, condition)| format!("{cluster}: {}", text(condition, "message")))
            .collect();
        let all: Vec<&Value> = failing.iter().map(|(_, condition)| *condition).collect();
        Some(condition("ReplicaFailure", true, text(first, "reason"), &messages.join("; "), &all))
    }

    fn sum(&self, field: &str) -> i64 {
        total(self.fresh().map(|member| member.number(field)))
    }

    fn member(&self, cluster: &str) -> Option<&'a Member<'a>> {
        self.members.iter().find(|member| member.cluster == cluster)
    }

    /// Members of the decision that are in touch, the leaving ones too: their pods still run.
    fn fresh(&self) -> impl Iterator<Item = &'a Member<'a>> + '_ {
        self.members
            .iter()
            .filter(|member| member.fresh && self.desired.iter().any(|target| target.name == member.cluster))
    }

    fn staying(&self) -> impl Iterator<Item = &'a ClusterTarget> {
        self.desired.iter().filter(|target| !target.leaving)
    }
}

/// Members may say any number.
fn total(numbers: impl IntoIterator<Item = i64>) -> i64 {
    numbers.into_iter().fold(0, i64::saturating_add)
}

fn put(status: &mut Map<String, Value>, field: &str, number: i64) {
    if number != 0 {
        status.insert(field.to_owned(), number.into());
    }
}

fn text<'a>(condition: &'a Value, field: &str) -> &'a str {
    condition.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn holds(condition: &Value) -> bool {
    text(condition, "status") == "True"
}

/// A condition whose times are the latest of those that it is made of: RFC 3339 in UTC sorts as text.
fn condition(kind: &str, status: bool, reason: &str, message: &str, parts: &[&Value]) -> Value {
    let mut merged = json!({
        "type": kind,
        "status": if status { "True" } else { "False" },
        "reason": reason,
        "message": message,
    });
    for field in ["lastUpdateTime", "lastTransitionTime"] {
        if let Some(latest) =
            parts.iter().map(|part| text(part, field)).max().filter(|latest| !latest.is_empty())
        {
            merged[field] = latest.into();
        }
    }
    merged
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_no_cluster_can_mean_break_nothing() {
        let most = json!({"replicas": i64::MAX, "updatedReplicas": i64::MAX, "readyReplicas": i64::MIN});
        let members = [member("taiwan", &most, 1, 0), member("tokyo", &most, 1, 0)];
        let desired = [target("taiwan", 1), target("tokyo", 1)];
        for merged in [merge("Deployment", 1, &members, &desired), merge_custom(1, &members, &desired)] {
            let merged = merged.unwrap();
            assert_eq!((&merged["replicas"], &merged["readyReplicas"]), (&json!(i64::MAX), &json!(i64::MIN)));
        }
        assert!(merge("StatefulSet", 1, &members, &desired).is_some());
    }

    fn target(name: &str, replicas: i64) -> ClusterTarget {
        ClusterTarget { name: name.into(), replicas: Some(replicas), ..ClusterTarget::default() }
    }

    fn member<'a>(cluster: &'a str, status: &'a Value, held: i64, own: i64) -> Member<'a> {
        Member { cluster, status, held_generation: held, member_generation: own, fresh: true }
    }

    fn rolled_out(replicas: i64, observed: i64) -> Value {
        json!({
            "observedGeneration": observed, "replicas": replicas, "updatedReplicas": replicas,
            "readyReplicas": replicas, "availableReplicas": replicas,
            "conditions": [
                {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable", "message": "ok",
                 "lastTransitionTime": "2026-01-01T00:00:00Z", "lastUpdateTime": "2026-01-01T00:00:00Z"},
                {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable", "message": "done",
                 "lastTransitionTime": "2026-01-01T00:00:00Z", "lastUpdateTime": "2026-01-01T00:00:05Z"},
            ],
        })
    }

    fn condition_of<'a>(status: &'a Value, kind: &str) -> &'a Value {
        status["conditions"].as_array().unwrap().iter().find(|condition| condition["type"] == kind).unwrap()
    }

    #[test]
    fn a_deployment_that_is_rolled_out_everywhere_says_so() {
        let (taiwan, tokyo) = (rolled_out(3, 8), rolled_out(1, 5));
        let members = [member("taiwan", &taiwan, 2, 8), member("tokyo", &tokyo, 2, 5)];
        let status = merge("Deployment", 2, &members, &[target("taiwan", 3), target("tokyo", 1)]).unwrap();
        assert_eq!(status["observedGeneration"], 2);
        assert_eq!(
            (&status["replicas"], &status["updatedReplicas"], &status["availableReplicas"]),
            (&json!(4), &json!(4), &json!(4))
        );
        assert!(status.get("unavailableReplicas").is_none());
        assert_eq!(condition_of(&status, "Available")["status"], "True");
        assert_eq!(condition_of(&status, "Progressing")["reason"], "NewReplicaSetAvailable");
        assert_eq!(condition_of(&status, "Progressing")["lastUpdateTime"], "2026-01-01T00:00:05Z");
    }

    #[test]
    fn a_generation_is_observed_only_when_every_placed_cluster_has_observed_it() {
        let desired = [target("taiwan", 3), target("tokyo", 1)];
        let (taiwan, tokyo) = (rolled_out(3, 8), rolled_out(1, 5));
        let observed = |members: &[Member<'_>]| {
            merge("Deployment", 4, members, &desired)
                .unwrap()
                .get("observedGeneration")
                .and_then(Value::as_i64)
        };
        // Tokyo holds the old manifest.
        assert_eq!(observed(&[member("taiwan", &taiwan, 4, 8), member("tokyo", &tokyo, 3, 5)]), Some(3));
        // Tokyo holds the new one, and its controllers have not seen it.
        assert_eq!(observed(&[member("taiwan", &taiwan, 4, 8), member("tokyo", &tokyo, 4, 6)]), Some(3));
        // Tokyo has said nothing.
        assert_eq!(observed(&[member("taiwan", &taiwan, 4, 8)]), None);
        assert_eq!(observed(&[member("taiwan", &taiwan, 4, 8), member("tokyo", &tokyo, 4, 5)]), Some(4));
    }

    #[test]
    fn old_replicas_are_not_counted_as_updated() {
        let (taiwan, tokyo) = (rolled_out(3, 8), rolled_out(1, 5));
        let members = [member("taiwan", &taiwan, 4, 8), member("tokyo", &tokyo, 3, 5)];
        let status = merge("Deployment", 4, &members, &[target("taiwan", 3), target("tokyo", 1)]).unwrap();
        assert_eq!((&status["replicas"], &status["updatedReplicas"]), (&json!(4), &json!(3)));
        assert_eq!(condition_of(&status, "Progressing")["reason"], "ReplicaSetUpdated");
    }

    #[test]
    fn a_cluster_out_of_touch_is_not_counted_as_available() {
        let (taiwan, tokyo) = (rolled_out(3, 8), rolled_out(1, 5));
        let mut lost = member("taiwan", &taiwan, 2, 8);
        lost.fresh = false;
        let members = [lost, member("tokyo", &tokyo, 2, 5)];
        let mut desired = [target("taiwan", 3), target("tokyo", 1)];
        let status = merge("Deployment", 2, &members, &desired).unwrap();
        assert_eq!(status["availableReplicas"], 1);
        let available = condition_of(&status, "Available");
        assert_eq!(
            (&available["status"], &available["message"]),
            (&json!("False"), &json!("taiwan: is not in touch"))
        );
        // Once it is replaced nobody waits for it.
        desired[0].leaving = true;
        let status = merge("Deployment", 2, &members, &desired).unwrap();
        assert_eq!(condition_of(&status, "Available")["status"], "True");
        assert_eq!(status["observedGeneration"], 2);
    }

    #[test]
    fn a_rollout_that_one_cluster_gave_up_fails() {
        let taiwan = rolled_out(3, 8);
        let tokyo = json!({"observedGeneration": 5, "replicas": 1, "unavailableReplicas": 1, "conditions": [
            {"type": "Available", "status": "False", "reason": "MinimumReplicasUnavailable", "message": "too few"},
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}]});
        let members = [member("taiwan", &taiwan, 2, 8), member("tokyo", &tokyo, 2, 5)];
        let status = merge("Deployment", 2, &members, &[target("taiwan", 3), target("tokyo", 1)]).unwrap();
        let progressing = condition_of(&status, "Progressing");
        assert_eq!(
            (&progressing["reason"], &progressing["message"]),
            (&json!("ProgressDeadlineExceeded"), &json!("tokyo: timed out"))
        );
        assert_eq!(condition_of(&status, "Available")["message"], "tokyo: too few");
    }

    #[test]
    fn replica_sets_sum_and_services_unite() {
        let status =
            json!({"observedGeneration": 1, "replicas": 2, "fullyLabeledReplicas": 2, "readyReplicas": 1});
        let members = [member("taiwan", &status, 1, 1), member("tokyo", &status, 1, 1)];
        let desired = [target("taiwan", 2), target("tokyo", 2)];
        assert_eq!(
            merge("ReplicaSet", 1, &members, &desired).unwrap(),
            json!({"observedGeneration": 1, "replicas": 4, "fullyLabeledReplicas": 4, "readyReplicas": 2})
        );
        let taiwan = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}, {"ip": "192.0.2.1"}]}});
        let tokyo = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}});
        let members = [member("taiwan", &taiwan, 1, 0), member("tokyo", &tokyo, 1, 0)];
        assert_eq!(
            merge("Service", 1, &members, &desired).unwrap(),
            json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.9"}]}})
        );
        let odd = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.01"}, {"hostname": "a.example"}, {"ip": "::ffff:192.0.2.1"}]}});
        let members = [member("taiwan", &odd, 1, 0)];
        let united = merge("Service", 1, &members, &desired).unwrap();
        assert_eq!(united, json!({"loadBalancer": {"ingress": [{"hostname": "a.example"}]}}));
        let template = |kind: &str| json!({"spec": {"type": kind}});
        assert_eq!(fit("Service", &template("LoadBalancer"), united.clone()), united);
        assert_eq!(fit("Service", &template("ClusterIP"), united.clone()), json!({"loadBalancer": {}}));
        assert_eq!(fit("Ingress", &json!({"spec": {}}), united.clone()), united);
        assert_eq!(merge("Namespace", 1, &[], &desired), None);
    }
}
