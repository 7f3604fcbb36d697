//! The other kinds that run something: StatefulSets, DaemonSets, Jobs and CronJobs, and what watches over them.

use serde_json::{Map, Value, json};

use super::{Member, World, condition, holds, put, text, total};

impl World<'_> {
    pub(super) fn stateful_set(&self) -> Value {
        let mut status = Map::new();
        self.observed(&mut status);
        // The two that are told even when they are 0.
        for field in ["replicas", "availableReplicas"] {
            status.insert(field.into(), self.sum(field).into());
        }
        for field in ["readyReplicas", "currentReplicas"] {
            put(&mut status, field, self.sum(field));
        }
        put(&mut status, "updatedReplicas", self.sum_of_current("updatedReplicas"));
        // `kubectl rollout status` compares the two revisions: their names differ from member to member, so only whether
        // all are equal is told, by the name of the first.
        let revisions: Vec<_> = self
            .fresh()
            .filter_map(|member| {
                let revision = |name: &str| member.status.get(name).and_then(Value::as_str);
                Some((revision("currentRevision")?, revision("updateRevision")?))
            })
            .collect();
        let unlike = revisions.iter().find(|(current, update)| current != update);
        if let Some((current, update)) = unlike.or_else(|| revisions.first()) {
            status.insert("currentRevision".into(), (*current).into());
            status.insert("updateRevision".into(), (*update).into());
        }
        Value::Object(status)
    }

    pub(super) fn daemon_set(&self) -> Value {
        let mut status = Map::new();
        self.observed(&mut status);
        for field in ["currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady"]
        {
            status.insert(field.into(), self.sum(field).into());
        }
        for field in ["numberAvailable", "numberUnavailable"] {
            put(&mut status, field, self.sum(field));
        }
        put(&mut status, "updatedNumberScheduled", self.sum_of_current("updatedNumberScheduled"));
        Value::Object(status)
    }

    /// Complete when it is in every cluster, failed when it is in one: each cluster runs all of it.
    pub(super) fn job(&self) -> Value {
        let mut status = Map::new();
        for field in ["active", "succeeded", "failed", "ready"] {
            put(&mut status, field, self.sum(field));
        }
        if let Some(start) = self.times("startTime").into_iter().min() {
            status.insert("startTime".into(), start.into());
        }
        let said = |kind: &str| -> Vec<(&str, &Value)> {
            self.staying()
                .filter_map(|target| self.member(&target.name))
                .filter_map(|member| Some((member.cluster, member.condition(kind)?)))
                .filter(|(_, condition)| holds(condition))
                .collect()
        };
        let (complete, failed) = (said("Complete"), said("Failed"));
        let all: Vec<&Value> = complete.iter().map(|(_, condition)| *condition).collect();
        if let Some((cluster, first)) = failed.first() {
            let message = format!("{cluster}: {}", text(first, "message"));
            let merged = condition("Failed", true, text(first, "reason"), &message, &[first]);
            status.insert("conditions".into(), json!([merged]));
        } else if !all.is_empty() && all.len() == self.staying().count() {
            let message = "The Job is complete in every cluster.";
            let merged = condition("Complete", true, "CompletionsReached", message, &all);
            status.insert("conditions".into(), json!([merged]));
            if let Some(end) = self.times("completionTime").into_iter().max() {
                status.insert("completionTime".into(), end.into());
            }
        }
        Value::Object(status)
    }

    pub(super) fn cron_job(&self) -> Value {
        let mut status = Map::new();
        for field in ["lastScheduleTime", "lastSuccessfulTime"] {
            if let Some(last) = self.times(field).into_iter().max() {
                status.insert(field.into(), last.into());
            }
        }
        Value::Object(status)
    }

    pub(super) fn disruption_budget(&self) -> Value {
        let mut status = Map::new();
        self.observed(&mut status);
        for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
            status.insert(field.into(), self.sum(field).into());
        }
        Value::Object(status)
    }

    pub(super) fn autoscaler(&self) -> Value {
        let mut status = Map::new();
        for field in ["currentReplicas", "desiredReplicas"] {
            status.insert(field.into(), self.sum(field).into());
        }
        Value::Object(status)
    }

    /// Bound when it is in every cluster, lost when it is in one. The size told is the first one's.
    pub(super) fn claim(&self) -> Value {
        let phases: Vec<(&Member<'_>, &str)> = self
            .staying()
            .filter_map(|target| self.member(&target.name))
            .map(|member| (member, text(member.status, "phase")))
            .collect();
        let everywhere = phases.len() == self.staying().count() && !phases.is_empty();
        if phases.iter().any(|(_, phase)| *phase == "Lost") {
            return json!({"phase": "Lost"});
        }
        if !everywhere || phases.iter().any(|(_, phase)| *phase != "Bound") {
            return json!({"phase": "Pending"});
        }
        let mut status = json!({"phase": "Bound"});
        if let Some((member, _)) = phases.first() {
            for field in ["accessModes", "capacity"] {
                if let Some(value) = member.status.get(field) {
                    status[field] = value.clone();
                }
            }
        }
        status
    }

    fn sum_of_current(&self, field: &str) -> i64 {
        let current = self.fresh().filter(|member| member.is_current(self.generation));
        total(current.map(|member| member.number(field)))
    }

    /// RFC 3339 in UTC sorts as text.
    fn times(&self, field: &str) -> Vec<String> {
        self.fresh()
            .filter_map(|member| member.status.get(field).and_then(Value::as_str).map(str::to_owned))
            .collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{Member, merge};
    use crate::api::ClusterTarget;
    use serde_json::{Value, json};

    fn target(name: &str) -> ClusterTarget {
        ClusterTarget { name: name.into(), ..ClusterTarget::default() }
    }

    fn merged(kind: &str, taiwan: &Value, tokyo: &Value) -> Value {
        let member = |cluster, status| Member {
            cluster,
            status,
            held_generation: 1,
            member_generation: 1,
            fresh: true,
        };
        let members = [member("taiwan", taiwan), member("tokyo", tokyo)];
        merge(kind, 1, &members, &[target("taiwan"), target("tokyo")]).unwrap()
    }

    #[test]
    fn a_job_is_complete_when_it_is_so_everywhere() {
        let done = json!({"succeeded": 1, "startTime": "2024-01-01T00:00:00Z", "completionTime": "2024-01-01T00:00:09Z",
            "conditions": [{"type": "Complete", "status": "True"}]});
        let busy = json!({"active": 1, "startTime": "2024-01-01T00:00:05Z"});
        let one = merged("Job", &done, &busy);
        assert_eq!(one, json!({"active": 1, "succeeded": 1, "startTime": "2024-01-01T00:00:00Z"}));
        let both = merged("Job", &done, &done);
        assert_eq!(both["conditions"][0]["type"], "Complete");
        assert_eq!(both["completionTime"], "2024-01-01T00:00:09Z");
        let failed =
            json!({"failed": 1, "conditions": [{"type": "Failed", "status": "True", "reason": "X"}]});
        assert_eq!(merged("Job", &done, &failed)["conditions"][0]["reason"], "X");
    }

    #[test]
    fn sets_are_summed_and_claims_are_bound_together() {
        let set = json!({"observedGeneration": 1, "replicas": 2, "availableReplicas": 1, "updatedReplicas": 2,
            "currentRevision": "a", "updateRevision": "a"});
        let found = merged("StatefulSet", &set, &set);
        assert_eq!((&found["replicas"], &found["updatedReplicas"]), (&json!(4), &json!(4)));
        let nodes = json!({"observedGeneration": 1, "desiredNumberScheduled": 3, "numberReady": 2});
        assert_eq!(merged("DaemonSet", &nodes, &nodes)["numberReady"], 4);
        let bound = json!({"phase": "Bound", "capacity": {"storage": "1Gi"}});
        assert_eq!(merged("PersistentVolumeClaim", &bound, &bound), bound);
        let pending = json!({"phase": "Pending"});
        assert_eq!(merged("PersistentVolumeClaim", &bound, &pending), pending);
    }
}
