//! Validation of a drill's spec.

use apimachinery::names;

use crate::api::FailoverDrillSpec;

use super::{Calendar, Hypothesis};

/// Clusters that one drill may lose.
const LOSE_MAX: usize = 64;

/// Every fault with the field, below `spec`, that it is in.
pub fn problems(spec: &FailoverDrillSpec) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut say = |field: String, message: String| found.push((field, message));
    if spec.lose.is_empty() {
        say("lose".into(), "name at least one cluster".into());
    }
    if spec.lose.len() > LOSE_MAX {
        say("lose".into(), format!("must have at most {LOSE_MAX} items"));
    }
    for (index, cluster) in spec.lose.iter().enumerate() {
        for fault in names::dns1123_label(cluster) {
            say(format!("lose[{index}]"), fault);
        }
        if spec.lose[..index].contains(cluster) {
            say(format!("lose[{index}]"), format!("{cluster} is named twice"));
        }
    }
    if spec.app.name.is_empty() {
        say("app.name".into(), "name a Service".into());
    } else {
        for fault in names::dns1035_label(&spec.app.name) {
            say("app.name".into(), fault);
        }
    }
    if !spec.app.namespace.is_empty() {
        for fault in names::dns1123_label(&spec.app.namespace) {
            say("app.namespace".into(), fault);
        }
    }
    if let Err(fault) = spec.hypothesis.parse::<Hypothesis>() {
        say("hypothesis".into(), fault.to_string());
    }
    for (field, value, least, most) in [
        ("durationSeconds", spec.duration_seconds, 1, 3600),
        ("leaseDurationSeconds", spec.lease_duration_seconds, 2, 300),
        ("historyLimit", spec.history_limit, 1, 500),
    ] {
        if value.is_some_and(|value| !(least..=most).contains(&value)) {
            say(field.into(), format!("must be between {least} and {most}, inclusive"));
        }
    }
    if !spec.schedule.is_empty() {
        if let Err(fault) = spec.schedule.parse::<Calendar>() {
            say("schedule".into(), fault.to_string());
        }
        if !spec.holder_identity.is_empty() {
            say("holderIdentity".into(), "a schedule has no holder".into());
        }
    }
    found
}
