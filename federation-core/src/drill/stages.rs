//! The stages of a failover, in milliseconds after the loss.

use crate::api::{DrillReplicas, DrillScope, DrillStage, FailoverDrillSpec, FailoverDrillStatus};

use super::{Facts, Seen, recovery_ms};

/// Stages that one drill may have; more DNS servers than that are summed up by the last of them.
const STAGES_MAX: usize = 256;

/// Names of stages.
pub mod names {
    /// Decisions see the cluster as lost.
    pub const DETECTED: &str = "Detected";
    /// Zones without it were published.
    pub const DECIDED: &str = "Decided";
    /// A DNS server answers by such a zone.
    pub const DNS_CHANGED: &str = "DNSChanged";
    /// All DNS servers do.
    pub const DNS_EVERYWHERE: &str = "DNSChangedEverywhere";
    /// As many replicas as are wanted exist in the clusters that are left.
    pub const CREATED: &str = "ReplicasCreated";
    /// They are ready.
    pub const READY: &str = "ReplicasReady";
    /// Nobody was failed or sent to a lost cluster after this.
    pub const RECOVERED: &str = "UsersRecovered";
    /// All is as before.
    pub const RESTORED: &str = "Restored";
}

/// Adds what is newly seen to the status.
pub(super) fn measure(
    spec: &FailoverDrillSpec,
    status: &mut FailoverDrillStatus,
    start_ms: i64,
    seen: &Seen<'_>,
) {
    let after = |at_ms: i64| at_ms.saturating_sub(start_ms).max(0);
    for cluster in &status.lost.clone() {
        if let Some((at_ms, why)) = seen.detected.get(cluster) {
            note(status, names::DETECTED, cluster, after(*at_ms), why);
        }
    }
    if let Some(at_ms) = seen.decided_ms {
        note(status, names::DECIDED, "", after(at_ms), "zones without it were published");
    }
    for (server, at_ms) in seen.dns.iter().filter_map(|(server, at_ms)| Some((server, (*at_ms)?))) {
        note(status, names::DNS_CHANGED, server, after(at_ms), "");
    }
    if !seen.dns.is_empty() && seen.dns.values().all(Option::is_some) {
        let last = seen.dns.values().flatten().max().copied().unwrap_or(start_ms);
        note(status, names::DNS_EVERYWHERE, "", after(last), &format!("{} DNS servers", seen.dns.len()));
    }
    replicas(status, seen.facts);
    if let Some(app) = &seen.facts.app {
        let lost = &status.lost;
        let (left, ready) = (app.left(lost, |share| share.replicas), app.left(lost, |share| share.ready));
        if spec.scope != DrillScope::Traffic && app.wanted > 0 {
            if left >= app.wanted {
                note(status, names::CREATED, "", after(seen.now_ms), &format!("{left} replicas"));
            }
            if ready >= app.wanted {
                note(status, names::READY, "", after(seen.now_ms), &format!("{ready} replicas"));
            }
        }
    }
    recovered(status, after(seen.now_ms));
}

/// Counts the application's replicas, as far as it is known.
pub(super) fn replicas(status: &mut FailoverDrillStatus, facts: &Facts) {
    let Some(app) = &facts.app else { return };
    let left = app.left(&status.lost, |share| share.ready);
    let replicas = status.replicas.get_or_insert_with(|| DrillReplicas {
        ready_before: app.left(&[], |share| share.ready),
        ..DrillReplicas::default()
    });
    (replicas.wanted, replicas.ready_left) = (app.wanted, left);
}

/// Recovery moves while users are still harmed now and then.
fn recovered(status: &mut FailoverDrillStatus, elapsed_ms: i64) {
    if status.users.values().all(|users| users.requests == 0) {
        return;
    }
    let recovery = recovery_ms(status, elapsed_ms);
    status.stages.retain(|stage| stage.name != names::RECOVERED);
    if let Some(after_ms) = recovery {
        note(status, names::RECOVERED, "", after_ms, "the last of them");
    }
}

/// Each stage is reached once.
pub(super) fn note(
    status: &mut FailoverDrillStatus,
    name: &str,
    subject: &str,
    after_ms: i64,
    message: &str,
) {
    let known = status.stages.iter().any(|stage| stage.name == name && stage.subject == subject);
    if !known && status.stages.len() < STAGES_MAX {
        status.stages.push(DrillStage {
            name: name.into(),
            subject: subject.into(),
            after_ms,
            message: message.into(),
        });
        status.stages.sort_by_key(|stage| stage.after_ms);
    }
}
