//! The agent's metrics.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use proto::v1::{ApplyResult, RemoveResult};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// The agent's metrics. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    applies: Family<ResultLabel, Counter>,
    removals: Family<ResultLabel, Counter>,
    corrections: Counter,
    connects: Counter,
    pub(crate) acts: Counter,
    pub(crate) events_dropped: Counter,
    pub(crate) connected: Gauge,
    pub(crate) frozen: Gauge,
    pub(crate) objects: Gauge,
    pub(crate) api_ok: Gauge,
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("federation_agent");
        registry.register("applies", "Server-side applies in the member, by result", self.applies.clone());
        registry.register(
            "removals",
            "Removals and releases in the member, by result",
            self.removals.clone(),
        );
        registry.register(
            "drift_corrections",
            "Hand-made changes that were put back",
            self.corrections.clone(),
        );
        registry.register("hub_connects", "Streams to the hub that were opened", self.connects.clone());
        registry.register(
            "contingency_acts",
            "Times that contingency plans were acted on while the hub was away",
            self.acts.clone(),
        );
        registry.register(
            "events_dropped",
            "Events from the federation that found no place in the queue into the member",
            self.events_dropped.clone(),
        );
        registry.register("hub_connected", "1 while the hub's stream is up", self.connected.clone());
        registry.register("removals_frozen", "1 while removals are refused", self.frozen.clone());
        registry.register("desired_objects", "Objects of the desired state", self.objects.clone());
        registry.register("member_api_ok", "1 while the member's API server answers", self.api_ok.clone());
    }

    pub(crate) fn applied(&self, result: ApplyResult, drift: bool) {
        let result_label = match result {
            ApplyResult::Applied => "applied",
            ApplyResult::Refused => "refused",
            ApplyResult::Retrying | ApplyResult::Unspecified => "retrying",
        };
        self.applies.get_or_create(&ResultLabel { result: result_label }).inc();
        if drift && result == ApplyResult::Applied {
            self.corrections.inc();
        }
    }

    pub(crate) fn removed(&self, result: RemoveResult) {
        let result = match result {
            RemoveResult::Removed => "removed",
            RemoveResult::Released => "released",
            RemoveResult::Refused | RemoveResult::Unspecified => "refused",
        };
        self.removals.get_or_create(&ResultLabel { result }).inc();
    }

    pub(crate) fn connect(&self) {
        self.connects.inc();
    }
}
