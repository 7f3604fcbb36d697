//! The columns of `kubectl get pods`.

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    registry::{Column, field, human_duration},
    validation::{deleting, holds, items, pod, text, visit},
};

pub(super) const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Ready", "The aggregate readiness state of this pod for accepting traffic.", |pod, now| {
        let glance = Glance::of(pod, now);
        format!("{}/{}", glance.ready, glance.total).into()
    }),
    Column::text("Status", "The aggregate status of the containers in this pod.", |pod, now| {
        Glance::of(pod, now).reason.into()
    }),
    Column::text("Restarts", "How often the containers of this pod have been restarted.", |pod, now| {
        Glance::of(pod, now).restarts.into()
    }),
    Column::AGE,
    Column::text("IP", "IP address allocated to the pod.", |pod, _| {
        let first = field(pod, "/status/podIPs/0/ip");
        or_none(if first == "" { field(pod, "/status/podIP") } else { first })
    })
    .wide(),
    Column::text("Node", "Where it runs.", |pod, _| or_none(field(pod, "/spec/nodeName"))).wide(),
    Column::text("Nominated Node", "Where room is being made for it.", |pod, _| {
        or_none(field(pod, "/status/nominatedNodeName"))
    })
    .wide(),
    Column::text("Readiness Gates", "Conditions of others that must hold.", |pod, _| gates(pod)).wide(),
];

fn or_none(value: Value) -> Value {
    if value == "" { "<none>".into() } else { value }
}

fn gates(pod: &Value) -> Value {
    let all = pod["spec"]["readinessGates"].as_array().map_or(0, Vec::len);
    if all == 0 {
        return "<none>".into();
    }
    let open = items(&pod["spec"], "readinessGates").filter(|gate| holds(pod, text(gate, "conditionType")));
    format!("{}/{all}", open.count()).into()
}

/// What `kubectl get pods` says of it (`printers/internalversion.printPod`).
struct Glance {
    ready: usize,
    total: usize,
    reason: String,
    restarts: String,
}

impl Glance {
    fn of(pod: &Value, now: Timestamp) -> Self {
        let (spec, status) = (&pod["spec"], &pod["status"]);
        let sidecars = items(spec, "initContainers").filter(|one| visit::is_sidecar(one));
        let sidecars: HashSet<&str> = sidecars.map(|one| text(one, "name")).collect();
        let mut glance = Self {
            ready: 0,
            total: items(spec, "containers").count() + sidecars.len(),
            reason: text(status, "phase").to_owned(),
            restarts: String::new(),
        };
        let own = text(status, "reason");
        if !own.is_empty() {
            own.clone_into(&mut glance.reason);
        }
        if items(status, "conditions")
            .any(|condition| condition["type"] == "PodScheduled" && condition["reason"] == "SchedulingGated")
        {
            "SchedulingGated".clone_into(&mut glance.reason);
        }
        let (mut restarts, mut sidecar_restarts) = (0, 0);
        let mut last: Option<Timestamp> = None;
        let mut initializing = false;
        let of_all = items(spec, "initContainers").count();
        for (index, container) in items(status, "initContainerStatuses").enumerate() {
            count_restarts(container, &mut restarts, &mut last);
            let sidecar = sidecars.contains(text(container, "name"));
            if sidecar {
                sidecar_restarts += container["restartCount"].as_i64().unwrap_or_default();
            }
            let (ended, waiting) = (&container["state"]["terminated"], &container["state"]["waiting"]);
            if ended["exitCode"] == 0 {
                continue;
            }
            if sidecar && container["started"] == true {
                glance.ready += usize::from(container["ready"] == true);
                continue;
            }
            glance.reason = if ended.is_object() {
                format!("Init:{}", ending(ended))
            } else if !matches!(text(waiting, "reason"), "" | "PodInitializing") {
                format!("Init:{}", text(waiting, "reason"))
            } else {
                format!("Init:{index}/{of_all}")
            };
            initializing = true;
            break;
        }
        if !initializing || holds(pod, "Initialized") {
            restarts = sidecar_restarts;
            glance.look_at_containers(pod, &mut restarts, &mut last);
        }
        if deleting(pod) {
            if own == "NodeLost" {
                "Unknown".clone_into(&mut glance.reason);
            } else if !pod::has_ended(pod) {
                "Terminating".clone_into(&mut glance.reason);
            }
        }
        glance.restarts = match last {
            Some(time) if restarts > 0 => {
                format!("{restarts} ({} ago)", human_duration(now.as_second() - time.as_second()))
            }
            _ => restarts.to_string(),
        };
        glance
    }

    fn look_at_containers(&mut self, pod: &Value, restarts: &mut i64, last: &mut Option<Timestamp>) {
        let mut running = false;
        let statuses: Vec<_> = items(&pod["status"], "containerStatuses").collect();
        for container in statuses.into_iter().rev() {
            count_restarts(container, restarts, last);
            let state = &container["state"];
            if !text(&state["waiting"], "reason").is_empty() {
                text(&state["waiting"], "reason").clone_into(&mut self.reason);
            } else if state["terminated"].is_object() {
                self.reason = ending(&state["terminated"]);
            } else if container["ready"] == true && state["running"].is_object() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            let ready = holds(pod, "Ready");
            if ready { "Running" } else { "NotReady" }.clone_into(&mut self.reason);
        }
    }
}

fn count_restarts(container: &Value, restarts: &mut i64, last: &mut Option<Timestamp>) {
    *restarts += container["restartCount"].as_i64().unwrap_or_default();
    let ended = &container["lastState"]["terminated"]["finishedAt"];
    if let Some(time) = ended.as_str().and_then(|text| text.parse().ok()) {
        *last = (*last).max(Some(time));
    }
}

/// How a container ended.
fn ending(ended: &Value) -> String {
    let reason = text(ended, "reason");
    match ended["signal"].as_i64() {
        _ if !reason.is_empty() => reason.to_owned(),
        Some(signal) if signal != 0 => format!("Signal:{signal}"),
        _ => format!("ExitCode:{}", ended["exitCode"].as_i64().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(pod: &Value, expect: (&str, &str, &str)) {
        let glance = Glance::of(pod, "2024-01-01T00:10:00Z".parse().unwrap_or_default());
        let ready = format!("{}/{}", glance.ready, glance.total);
        assert_eq!((ready.as_str(), glance.reason.as_str(), glance.restarts.as_str()), expect);
    }

    #[test]
    fn a_pod_is_told_as_kubectl_tells_it() {
        let spec = json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}, {"name": "b"}]});
        check(&json!({"spec": spec, "status": {"phase": "Pending"}}), ("0/2", "Pending", "0"));
        let init = json!([{"name": "i", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]);
        let status = json!({"phase": "Pending", "initContainerStatuses": init});
        check(&json!({"spec": spec, "status": status}), ("0/2", "Init:ImagePullBackOff", "0"));
        let status = json!({"phase": "Running", "containerStatuses": [
            {"name": "a", "ready": true, "restartCount": 0, "state": {"running": {}}},
            {"name": "b", "ready": false, "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"finishedAt": "2024-01-01T00:05:00Z"}}},
        ]});
        check(&json!({"spec": spec, "status": status}), ("1/2", "CrashLoopBackOff", "3 (5m ago)"));
        let gone =
            json!({"metadata": {"deletionTimestamp": "x"}, "spec": spec, "status": {"phase": "Running"}});
        check(&gone, ("0/2", "Terminating", "0"));
    }

    #[test]
    fn many_sidecars_are_seen_at_once() {
        let name = |number: usize| format!("c{number}");
        let sidecars: Vec<_> =
            (0..50_000).map(|number| json!({"name": name(number), "restartPolicy": "Always"})).collect();
        let states: Vec<_> = (0..50_000)
            .map(|number| json!({"name": name(number), "started": true, "ready": true, "restartCount": 1}))
            .collect();
        let pod = json!({"spec": {"initContainers": sidecars}, "status": {"phase": "Running", "initContainerStatuses": states}});
        check(&pod, ("50000/50000", "Running", "50000"));
    }
}
