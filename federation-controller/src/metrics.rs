//! The controller's metrics.

use std::sync::LazyLock;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::health::VERDICTS;

/// A cluster and a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ClusterLabel {
    /// The Cluster's name.
    pub(crate) cluster: String,
}

/// A cluster and one of its possible verdicts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct VerdictLabel {
    /// The Cluster's name.
    pub(crate) cluster: String,
    /// As in `.status.verdict`.
    pub(crate) verdict: String,
}

/// A cluster and what votes say of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct VoteLabel {
    /// The Cluster's name.
    pub(crate) cluster: String,
    /// `up` or `down`.
    pub(crate) says: &'static str,
}

/// A cluster, and whether it comes or goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct MoveLabel {
    /// The Cluster's name.
    pub(crate) cluster: String,
    /// `in` or `out`.
    pub(crate) direction: &'static str,
}

/// A cluster, and whether users are sent there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct AnswerLabel {
    /// The Cluster's name.
    pub(crate) cluster: String,
    /// `on` or `off`.
    pub(crate) to: &'static str,
}

/// What became of something.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OutcomeLabel {
    /// `changed`, `unchanged`, `failed`; for the gate `permitted`, or why not.
    pub(crate) outcome: String,
}

/// The controller's metrics. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Keys that wait in the work queue.
    pub(crate) queue_depth: Gauge,
    /// Placement decisions, by outcome.
    pub(crate) decisions: Family<OutcomeLabel, Counter>,
    /// Replicas that a decision moved from cluster to cluster.
    pub(crate) moved: Family<MoveLabel, Counter>,
    /// Clusters that came into a Service's answers, or went.
    pub(crate) answers: Family<AnswerLabel, Counter>,
    /// Events that were not written.
    pub(crate) events_dropped: Counter,
    /// Requests to the gate, by outcome.
    pub(crate) permits: Family<OutcomeLabel, Counter>,
    /// Agents connected now.
    pub(crate) sessions: Gauge,
    /// dns-lbs connected now.
    pub(crate) dns_sessions: Gauge,
    /// 1 while the cluster's verdict is Healthy, 0 otherwise.
    pub(crate) healthy: Family<ClusterLabel, Gauge>,
    /// 1 for the verdict that a cluster has, 0 for the others.
    pub(crate) verdict: Family<VerdictLabel, Gauge>,
    /// Changes from a good verdict to a bad one.
    pub(crate) falls: Family<ClusterLabel, Counter>,
    /// Votes that count, by cluster and what they say.
    pub(crate) votes: Family<VoteLabel, Gauge>,
    /// 1 while verdicts are frozen by the mass-failure interlock.
    pub(crate) frozen: Gauge,
    /// Epoch of the newest zones.
    pub(crate) zone_epoch: Gauge,
    /// Octets of the newest zones on their way to a DNS server that needs everything.
    pub(crate) zone_update_bytes: Gauge,
    /// Updates of the zones that were not sent to a DNS server, because they are larger than it takes.
    pub(crate) zone_updates_withheld: Counter,
    /// Objects in members that belong to no template.
    pub(crate) strays: Family<ClusterLabel, Gauge>,
    /// Objects of the API that could not be read, or not be taken in.
    pub(crate) untaken: Gauge,
    /// Seconds from the template's watch event to the member's Applied.
    pub(crate) propagation: Histogram,
}

impl Metrics {
    /// Registers every metric.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("federation_controller");
        let metrics = Self {
            queue_depth: Gauge::default(),
            decisions: Family::default(),
            moved: Family::default(),
            answers: Family::default(),
            events_dropped: Counter::default(),
            permits: Family::default(),
            sessions: Gauge::default(),
            dns_sessions: Gauge::default(),
            healthy: Family::default(),
            verdict: Family::default(),
            falls: Family::default(),
            votes: Family::default(),
            frozen: Gauge::default(),
            zone_epoch: Gauge::default(),
            zone_update_bytes: Gauge::default(),
            zone_updates_withheld: Counter::default(),
            strays: Family::default(),
            untaken: Gauge::default(),
            // 1 ms to 16 s, doubling: the target is a median of 25 ms.
            propagation: Histogram::new((0..15).map(|power| 0.001 * f64::from(1 << power))),
        };
        registry.register("queue_depth", "Objects that wait to be decided", metrics.queue_depth.clone());
        registry.register("decisions", "Placement decisions by outcome", metrics.decisions.clone());
        registry.register("replicas_moved", "Replicas planned elsewhere, by cluster", metrics.moved.clone());
        registry.register(
            "answer_changes",
            "Services whose users are sent to a cluster again (on), or no more (off)",
            metrics.answers.clone(),
        );
        registry.register(
            "events_dropped",
            "Events not written: too many waited or were about one object, or the API took them not",
            metrics.events_dropped.clone(),
        );
        registry.register("permits", "Answers of the removal gate by outcome", metrics.permits.clone());
        registry.register("sessions", "Agents connected", metrics.sessions.clone());
        registry.register("dns_sessions", "DNS servers connected", metrics.dns_sessions.clone());
        registry.register("cluster_healthy", "Whether the verdict is Healthy", metrics.healthy.clone());
        registry.register(
            "cluster_verdict",
            "1 for the verdict that the cluster has",
            metrics.verdict.clone(),
        );
        registry.register("cluster_falls", "Changes from a good verdict to a bad one", metrics.falls.clone());
        registry.register("cluster_votes", "Probers' votes that count", metrics.votes.clone());
        registry.register("frozen", "Whether verdicts are frozen", metrics.frozen.clone());
        registry.register("zone_epoch", "Epoch of the newest zones", metrics.zone_epoch.clone());
        registry.register(
            "zone_update_bytes",
            "Size of a whole update of the zones; DNS servers take up to 512 MiB",
            metrics.zone_update_bytes.clone(),
        );
        registry.register(
            "zone_updates_withheld",
            "Updates of the zones that are larger than a DNS server takes, and were not sent to it",
            metrics.zone_updates_withheld.clone(),
        );
        registry.register("strays", "Member copies without a template", metrics.strays.clone());
        registry.register(
            "untaken_objects",
            "Objects of the API that cannot be read, or not be taken in: while there are any nothing is removed",
            metrics.untaken.clone(),
        );
        registry.register(
            "propagation_seconds",
            "From the watch event of a template to Applied in a member",
            metrics.propagation.clone(),
        );
        metrics
    }

    /// Metrics that nobody reads.
    pub(crate) fn unread() -> Self {
        static UNREAD: LazyLock<Metrics> = LazyLock::new(|| Metrics::register(&mut Registry::default()));
        UNREAD.clone()
    }

    /// Forgets a cluster that left.
    pub(crate) fn forget(&self, cluster: &str) {
        let label = ClusterLabel { cluster: cluster.to_owned() };
        self.healthy.remove(&label);
        self.falls.remove(&label);
        self.strays.remove(&label);
        for verdict in VERDICTS {
            self.verdict
                .remove(&VerdictLabel { cluster: cluster.to_owned(), verdict: format!("{verdict:?}") });
        }
        for direction in ["in", "out"] {
            self.moved.remove(&MoveLabel { cluster: cluster.to_owned(), direction });
        }
        for to in ["on", "off"] {
            self.answers.remove(&AnswerLabel { cluster: cluster.to_owned(), to });
        }
        for says in ["up", "down"] {
            self.votes.remove(&VoteLabel { cluster: cluster.to_owned(), says });
        }
    }

    /// Counts one outcome.
    pub(crate) fn count(family: &Family<OutcomeLabel, Counter>, outcome: &str) {
        family.get_or_create(&OutcomeLabel { outcome: outcome.into() }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_any_more_of_a_cluster_that_left() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        for name in ["taiwan", "tokyo"] {
            let cluster = || name.to_owned();
            let label = ClusterLabel { cluster: cluster() };
            metrics.healthy.get_or_create(&label).set(1);
            metrics.falls.get_or_create(&label).inc();
            metrics.strays.get_or_create(&label).set(1);
            let verdict = "Healthy".to_owned();
            metrics.verdict.get_or_create(&VerdictLabel { cluster: cluster(), verdict }).set(1);
            metrics.votes.get_or_create(&VoteLabel { cluster: cluster(), says: "up" }).set(1);
            metrics.moved.get_or_create(&MoveLabel { cluster: cluster(), direction: "out" }).inc();
            metrics.answers.get_or_create(&AnswerLabel { cluster: cluster(), to: "off" }).inc();
        }
        metrics.forget("taiwan");
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
        assert!(!text.contains("taiwan") && text.matches("tokyo").count() == 7, "{text}");
    }
}
