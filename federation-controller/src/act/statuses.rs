//! Statuses of templates and of their Placements, from the members' reports.
//!
//! Changes within [`GATHER`] are one write, and an unchanged status is not written.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Value, json};

use federation_core::api::{ClusterOutcome, PlacementSpec, PlacementStatus};
use federation_core::status::{self, Member};
use federation_core::template as core_template;
use federation_runtime::clock::Instant;
use federation_runtime::shutdown::Shutdown;

use super::write::{self, Writer};
use crate::decide::ledger::Ledger;
use crate::decide::queue::{Priority, Queue};
use crate::hub::sessions::Sessions;
use crate::observe::{Decided, Key, Report, Reports, Template, World};

/// Half of the 20 ms in which a status should be back.
const GATHER: Duration = Duration::from_millis(8);
/// A Placement's status waits this long for the answers that connected agents owe: mostly it is then written once and not for each
/// cluster, and `Pending` is written only where it says something.
const ANSWERS: Duration = Duration::from_millis(500);
/// And up to this long for an agent that answered for other objects within [`ANSWERS`]: it works off a burst, and would only have to
/// wait for statuses that say so.
const BURST: Duration = Duration::from_secs(10);
/// After a failed write.
const AGAIN: Duration = Duration::from_millis(200);
/// Workers: as many as there may be writes in flight, since each one mostly waits.
pub(crate) const WORKERS: usize = 64;

/// Reason of a cluster that has not answered yet.
const PENDING: &str = "Pending";

/// Writes statuses.
#[derive(Clone)]
pub(crate) struct Statuses {
    pub(crate) world: World,
    pub(crate) queue: Queue<Key>,
    pub(crate) ledger: Ledger,
    pub(crate) sessions: Sessions,
    pub(crate) writer: Writer,
}

impl Statuses {
    /// One worker: writes until `shutdown`.
    pub(crate) async fn work(self, shutdown: Shutdown) {
        let statuses = &self;
        let look = |key: Key| async move {
            tokio::time::sleep(GATHER).await;
            match statuses.write(&key).await {
                Ok(()) | Err(write::Error::Gone(_)) => {}
                Err(error) => {
                    tracing::debug!(%key, %error, "a status could not be written: again later");
                    statuses.queue.add_after(key, Priority::Background, AGAIN);
                }
            }
        };
        self.queue.work("statuses", &shutdown, look).await;
    }

    async fn write(&self, key: &Key) -> Result<(), write::Error> {
        let (Some(template), Some(decided)) = (self.world.template(key), self.world.decided(key)) else {
            return Ok(());
        };
        let reports = self.world.reports(key);
        let generation = core_template::generation(&template.object);
        let (written, reasons, stalled, wanted) = self.ledger.with(key, &template.uid, |entry| {
            (
                entry.status,
                entry.reasons.clone(),
                entry.stalled.clone(),
                entry.wanted.map_or(generation, |(_, generation)| generation),
            )
        });

        let merged = self.merged(&template, &decided.spec, &reports, generation);
        let (mut template_hash, mut placement_hash) = written;
        if let Some(merged) = merged {
            let hash = hash(&merged);
            if hash != template_hash && template.object.get("status") != Some(&merged) {
                let put = self.writer.put_status(&key.kind.path(&key.namespace), &key.name, &merged).await;
                match put {
                    // A custom kind may have no status of its own, or a schema that takes no such one: so be it.
                    Err(error) if status::is_custom(key.kind.group) && error.is_refusal() => {
                        tracing::debug!(%key, %error, "the API takes no such status");
                    }
                    // What a member reports may be against newer rules. The rest of what is known of the object is told all the same.
                    Err(error) if error.is_invalid() => {
                        tracing::warn!(%key, %error, "the API refuses the merged status");
                    }
                    put => put?,
                }
            }
            template_hash = hash;
        }
        let mut placement = outcome(&template, &decided.spec, &reports, wanted);
        let owes = |cluster: &ClusterOutcome| {
            // From an agent that is not there nothing is due soon, and that it is pending is news.
            cluster.reason == PENDING && self.sessions.is_connected(&cluster.name)
        };
        let owing: Vec<&str> =
            placement.clusters.iter().filter(|cluster| owes(cluster)).map(|cluster| &*cluster.name).collect();
        let owed = self.ledger.with(key, &template.uid, |entry| {
            entry.status.0 = template_hash;
            let since = (!owing.is_empty()).then(|| entry.owed_since.unwrap_or_else(Instant::now));
            entry.owed_since = since;
            since.map(Instant::elapsed)
        });
        let working = owing.iter().any(|cluster| self.sessions.answered_within(cluster, ANSWERS));
        if owed.is_some_and(|owed| owed < ANSWERS || (working && owed < BURST)) {
            self.queue.add_after(key.clone(), Priority::Normal, ANSWERS);
            return Ok(());
        }
        placement.reasons = reasons;
        placement.conditions = conditions(&decided, &placement, stalled, Timestamp::now());
        let value = json!(placement);
        let hash = hash(&value);
        if hash != placement_hash && decided.status != placement {
            self.writer.put_placement_status(key, &placement).await?;
            self.world.set_outcome(key, decided.spec.epoch, placement);
        }
        placement_hash = hash;
        self.ledger.with(key, &template.uid, |entry| entry.status = (template_hash, placement_hash));
        Ok(())
    }

    fn merged(
        &self,
        template: &Template,
        spec: &PlacementSpec,
        reports: &Reports,
        generation: i64,
    ) -> Option<Value> {
        let members: Vec<Member<'_>> = reports
            .iter()
            .filter(|(_, report)| report.uid == *template.uid)
            .filter_map(|(cluster, report)| {
                Some(Member {
                    cluster,
                    status: report.status.as_ref()?,
                    held_generation: report.status_generation,
                    member_generation: report.member_generation,
                    fresh: report.current && self.sessions.is_connected(cluster),
                })
            })
            .collect();
        let kind = template.key.kind;
        if status::is_custom(kind.group) {
            return status::merge_custom(generation, &members, &spec.clusters);
        }
        let merged = status::merge(kind.kind, generation, &members, &spec.clusters)?;
        Some(status::fit(kind.kind, &template.object, merged))
    }
}

/// What became of the copies.
fn outcome(template: &Template, spec: &PlacementSpec, reports: &Reports, wanted: i64) -> PlacementStatus {
    let clusters = spec
        .clusters
        .iter()
        .map(|target| {
            let report =
                reports.get(&target.name).map(Arc::as_ref).filter(|report| report.uid == *template.uid);
            ClusterOutcome {
                name: target.name.clone(),
                applied_generation: report.and_then(|report| report.applied_generation),
                reason: reason(report, wanted, template.deleting),
                message: report.map(|report| report.message.clone()).unwrap_or_default(),
                ready_replicas: report
                    .and_then(|report| report.status.as_ref()?.get("readyReplicas")?.as_i64()),
            }
        })
        .collect();
    PlacementStatus { clusters, ..PlacementStatus::default() }
}

fn reason(report: Option<&Report>, wanted: i64, deleting: bool) -> String {
    if deleting {
        return "Removing".into();
    }
    match report {
        None => PENDING.into(),
        // A word about an older generation says nothing of this one.
        Some(report) if report.reason == "Applied" && report.applied_generation < Some(wanted) => {
            PENDING.into()
        }
        Some(report) if report.reason.is_empty() => PENDING.into(),
        Some(report) => report.reason.clone(),
    }
}

fn conditions(
    decided: &Decided,
    status: &PlacementStatus,
    stalled: Option<String>,
    now: Timestamp,
) -> Vec<Condition> {
    let condition = |kind: &str, holds: bool, reason: &str, message: String| {
        let word = if holds { "True" } else { "False" };
        let since = decided
            .status
            .conditions
            .iter()
            .find(|old| old.type_ == kind && old.status == word)
            .map_or(Time(now), |old| old.last_transition_time.clone());
        Condition {
            type_: kind.into(),
            status: word.into(),
            reason: reason.into(),
            message,
            observed_generation: None,
            last_transition_time: since,
        }
    };
    let placed = !decided.spec.clusters.is_empty();
    let missing: Vec<String> = status
        .clusters
        .iter()
        .filter(|cluster| cluster.reason != "Applied")
        .map(|cluster| format!("{}: {}", cluster.name, cluster.reason))
        .collect();
    let mut conditions = vec![
        condition(
            "Applied",
            placed && missing.is_empty(),
            if missing.is_empty() { "Applied" } else { "NotApplied" },
            missing.join(", "),
        ),
        condition(
            "Placed",
            placed,
            if placed { "Placed" } else { "NoCluster" },
            if placed { String::new() } else { "no cluster may take it: see reasons".into() },
        ),
    ];
    // As kstatus knows it: there is one only while something stands in the way.
    conditions.extend(stalled.map(|why| condition("Stalled", true, "Unread", why)));
    conditions
}

fn hash(value: &Value) -> u64 {
    let mut hash = DefaultHasher::new();
    value.hash(&mut hash);
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_an_older_generation_is_pending() {
        let report = Report { reason: "Applied".into(), applied_generation: Some(1), ..Report::default() };
        assert_eq!(reason(Some(&report), 2, false), "Pending");
        assert_eq!(reason(Some(&report), 1, false), "Applied");
        assert_eq!(reason(None, 1, false), "Pending");
        let refused = Report { reason: "Invalid".into(), applied_generation: Some(1), ..Report::default() };
        assert_eq!(reason(Some(&refused), 2, false), "Invalid");
    }
}
