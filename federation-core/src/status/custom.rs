//! Custom kinds: what can be said of a status without knowing what it means.
//!
//! Conditions are merged by their type: one that is good when true holds where every placed cluster says so, and one that is bad when true
//! (kstatus' "abnormal-true": Stalled, Degraded and their like) where any does. Counts of replicas are summed. Everything else is told where all placed clusters say
//! the same, and left out where they do not: what clusters disagree about has no one value.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Member, World, put, text, total};

/// Ends of the names of conditions that are bad news when they are true.
const BAD_NEWS: [&str; 12] = [
    "degraded",
    "stalled",
    "reconciling",
    "failed",
    "failure",
    "error",
    "pressure",
    "unavailable",
    "paused",
    "suspended",
    "blocked",
    "terminating",
];

impl World<'_> {
    /// The merged status; none as long as no placed cluster that is in touch has told one.
    pub(super) fn custom(&self) -> Option<Value> {
        let told: Vec<&Member<'_>> = self
            .staying()
            .filter_map(|target| self.member(&target.name))
            .filter(|member| member.fresh && member.status.is_object())
            .collect();
        let everywhere = told.len() == self.staying().count();
        let names: BTreeSet<&String> =
            told.iter().filter_map(|member| member.status.as_object()).flat_map(Map::keys).collect();
        if names.is_empty() {
            return None;
        }
        let mut status = Map::new();
        for name in names {
            let values: Vec<&Value> = told.iter().filter_map(|member| member.status.get(name)).collect();
            let numbers: Vec<i64> = values.iter().filter_map(|value| value.as_i64()).collect();
            match name.as_str() {
                "observedGeneration" => self.observed(&mut status),
                "conditions" => {
                    status.insert(name.clone(), self.conditions(&told).into());
                }
                counted if numbers.len() == values.len() && counted.to_lowercase().ends_with("replicas") => {
                    put(&mut status, name, total(numbers));
                }
                _ if everywhere
                    && values.len() == told.len()
                    && values.windows(2).all(|pair| pair[0] == pair[1]) =>
                {
                    status.extend(values.first().map(|value| (name.clone(), Value::clone(value))));
                }
                _ => {}
            }
        }
        Some(Value::Object(status))
    }

    fn conditions(&self, told: &[&Member<'_>]) -> Vec<Value> {
        let all = |member: &Member<'_>| {
            member.status.get("conditions").and_then(Value::as_array).cloned().unwrap_or_default()
        };
        let mut kinds = Vec::new();
        for kind in
            told.iter().flat_map(|member| all(member)).map(|condition| text(&condition, "type").to_owned())
        {
            if !kind.is_empty() && !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        kinds.iter().map(|kind| self.condition_of(kind, told)).collect()
    }

    fn condition_of(&self, kind: &str, told: &[&Member<'_>]) -> Value {
        let said: Vec<(&str, &Value)> =
            told.iter().filter_map(|member| Some((member.cluster, member.condition(kind)?))).collect();
        let silent: Vec<&str> = self
            .staying()
            .map(|target| target.name.as_str())
            .filter(|name| !said.iter().any(|(cluster, _)| cluster == name))
            .collect();
        let lower = kind.to_lowercase();
        // One cluster that says the worst says it for all.
        let order = if BAD_NEWS.iter().any(|end| lower.ends_with(end)) {
            ["True", "Unknown", "False"]
        } else {
            ["False", "Unknown", "True"]
        };
        let worst =
            order.iter().find(|status| said.iter().any(|(_, found)| text(found, "status") == **status));
        let worst = worst.copied().unwrap_or("Unknown");
        let status = if worst == order[2] && !silent.is_empty() { "Unknown" } else { worst };
        let of_status: Vec<&(&str, &Value)> =
            said.iter().filter(|(_, found)| text(found, "status") == worst).collect();
        let reason = match of_status.first() {
            Some((_, first)) if status == worst => text(first, "reason"),
            _ => "Waiting",
        };
        let mut messages: Vec<String> = match (of_status.as_slice(), status == worst) {
            ([(_, only)], true) if self.staying().count() == 1 => vec![text(only, "message").to_owned()],
            (several, true) => several
                .iter()
                .map(|(cluster, found)| format!("{cluster}: {}", text(found, "message")))
                .collect(),
            (_, false) => Vec::new(),
        };
        if status != worst || worst != order[0] {
            messages.extend(silent.iter().map(|cluster| format!("{cluster}: has not said so yet")));
        }
        let mut merged =
            json!({"type": kind, "status": status, "reason": reason, "message": messages.join("; ")});
        let latest = said.iter().map(|(_, found)| text(found, "lastTransitionTime")).max();
        if let Some(latest) = latest.filter(|latest| !latest.is_empty()) {
            merged["lastTransitionTime"] = latest.into();
        }
        if said.iter().any(|(_, found)| found.get("observedGeneration").is_some()) {
            let mut observed = Map::new();
            self.observed(&mut observed);
            if let Some(generation) = observed.remove("observedGeneration") {
                merged["observedGeneration"] = generation;
            }
        }
        merged
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::super::{Member, merge_custom};
    use crate::api::ClusterTarget;

    fn merged(statuses: &[(&str, Value)], placed: &[&str]) -> Option<Value> {
        let members: Vec<_> = statuses
            .iter()
            .map(|(cluster, status)| Member {
                cluster,
                status,
                held_generation: 2,
                member_generation: 7,
                fresh: true,
            })
            .collect();
        let desired: Vec<_> = placed
            .iter()
            .map(|name| ClusterTarget { name: (*name).into(), ..ClusterTarget::default() })
            .collect();
        merge_custom(2, &members, &desired)
    }

    fn ready(status: &str) -> Value {
        json!({"observedGeneration": 7, "replicas": 2, "phase": "Running", "conditions": [
            {"type": "Ready", "status": status, "reason": "R", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "Degraded", "status": if status == "True" { "False" } else { "True" }, "reason": "D", "message": "d"},
        ]})
    }

    #[test]
    fn one_clusters_status_is_told_as_it_is_but_for_its_generation() {
        let mut wanted = ready("True");
        wanted["observedGeneration"] = 2.into();
        assert_eq!(merged(&[("taiwan", ready("True"))], &["taiwan"]).unwrap(), wanted);
        assert_eq!(merged(&[], &["taiwan"]), None);
    }

    #[test]
    fn good_news_must_be_everywhere_and_bad_news_anywhere() {
        let both =
            merged(&[("taiwan", ready("True")), ("tokyo", ready("False"))], &["taiwan", "tokyo"]).unwrap();
        assert_eq!((&both["replicas"], &both["phase"]), (&json!(4), &json!("Running")));
        assert_eq!(
            both["conditions"],
            json!([
                {"type": "Ready", "status": "False", "reason": "R", "message": "tokyo: m", "lastTransitionTime": "2026-01-01T00:00:00Z"},
                {"type": "Degraded", "status": "True", "reason": "D", "message": "tokyo: d"},
            ])
        );
        let waiting = merged(&[("taiwan", ready("True"))], &["taiwan", "tokyo"]).unwrap();
        assert_eq!(
            waiting["conditions"][0],
            json!({"type": "Ready", "status": "Unknown", "reason": "Waiting", "message": "tokyo: has not said so yet",
                "lastTransitionTime": "2026-01-01T00:00:00Z"})
        );
        assert!(waiting.get("phase").is_none(), "nobody knows what the other will say");
        assert!(waiting.get("observedGeneration").is_none());
    }

    #[test]
    fn what_clusters_disagree_about_is_left_out() {
        let status = |phase: &str| json!({"phase": phase, "size": {"gib": 1}});
        let both = merged(&[("taiwan", status("A")), ("tokyo", status("B"))], &["taiwan", "tokyo"]).unwrap();
        assert_eq!(both, json!({"size": {"gib": 1}}));
    }
}
