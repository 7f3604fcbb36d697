//! The driver of `federation_core::traffic`: zones from what is seen, pushed at once, kept on disk.
//!
//! It also knows when a cluster has been left by users: when no answer points there any more, every DNS server has said that it
//! serves that, and the last such answer has run out of every cache.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Notify;

use federation_core::api::{API_VERSION, TaintEffect, TrafficPolicyStatus};
use federation_core::traffic::{
    Answers, Backend, ClusterTraffic, NameServer, Selection, ServiceView, TrafficDecision, TrafficInput,
    Zone, zones,
};
use federation_runtime::files::{self, Access};
use federation_runtime::shutdown::Shutdown;
use proto::v1;

use crate::act::write::Writer;
use crate::decide::board::{Board, Snapshot};
use crate::decide::queue::{Priority, Queue};
use crate::epoch::Epochs;
use crate::hub::zones::Zones;
use crate::observe::{Key, Template, World};

/// Changes within this time are one zone: short against any TTL, long against a burst of endpoints.
const GATHER: Duration = Duration::from_millis(5);
/// A little more than the TTL, for clocks and for answers that were on their way.
const AFTER_TTL: Duration = Duration::from_secs(1);

/// What the operator says of the zone.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) zone: String,
    pub(crate) nameservers: Vec<NameServer>,
    pub(crate) ttl_seconds: u32,
    pub(crate) incarnation: String,
    pub(crate) file: PathBuf,
}

/// Kept over restarts, so that a restart never forgets the last answers.
#[derive(Default, Serialize, Deserialize)]
struct Kept {
    answers: Answers,
    /// Every origin that ever had records.
    #[serde(default)]
    origins: BTreeSet<String>,
}

/// The driver. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Traffic(Arc<Inner>);

struct Inner {
    poke: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    // By namespace/service and cluster: since when no answer points there.
    withdrawn: HashMap<(String, String), Withdrawn>,
    // What the last decision answers, and the longest time that an answer may be cached.
    answers: Answers,
    // The first zones of this process: what was answered before, and when, is not known, so it counts as answered until then.
    first: Option<Withdrawn>,
}

#[derive(Clone, Copy)]
struct Withdrawn {
    epoch: u64,
    ttl: Duration,
    // When every DNS server was seen to serve it.
    served: Option<Instant>,
}

/// What the driver reads, and whom it tells.
pub(crate) struct Surroundings {
    pub(crate) settings: Settings,
    pub(crate) world: World,
    pub(crate) board: Board,
    pub(crate) epochs: Epochs,
    pub(crate) zones: Zones,
    pub(crate) queue: Queue<Key>,
    pub(crate) writer: Writer,
}

impl Traffic {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner { poke: Notify::new(), state: Mutex::default() }))
    }

    /// Something that answers are made from changed.
    pub(crate) fn poke(&self) {
        self.0.poke.notify_one();
    }

    /// Clusters that no cached DNS answer sends users of this object to any more.
    ///
    /// Users come to an object by the Services of its namespace that select its Pods. With no such Service no user comes.
    pub(crate) fn drained(
        &self,
        template: &Template,
        world: &World,
        snapshot: &Snapshot,
    ) -> BTreeSet<String> {
        let services = selecting(template, world);
        let state = self.0.state.lock();
        snapshot
            .views
            .iter()
            .map(|view| &view.name)
            .filter(|cluster| {
                services.iter().all(|service| {
                    let Some(first) = &state.first else { return false };
                    let answered =
                        state.answers.0.get(service).is_some_and(|clusters| clusters.contains_key(*cluster));
                    let withdrawn = state.withdrawn.get(&(service.clone(), (*cluster).clone()));
                    !answered && withdrawn.unwrap_or(first).is_over()
                })
            })
            .cloned()
            .collect()
    }

    /// Decides whenever poked, until `shutdown`.
    pub(crate) async fn run(self, surroundings: Surroundings, shutdown: Shutdown) {
        let mut kept = load(&surroundings.settings.file);
        let mut served = surroundings.zones.changes();
        let mut last_zones: Vec<Zone> = Vec::new();
        let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
        // Before the view is whole, a Service that was not told yet would look deleted.
        while !surroundings.world.is_synced() {
            tokio::select! {
                () = shutdown.wait() => return,
                () = tokio::time::sleep(GATHER) => {}
            }
        }
        self.poke();
        loop {
            let wait = self.next_end().unwrap_or(Duration::from_secs(60));
            tokio::select! {
                () = shutdown.wait() => return,
                () = self.0.poke.notified() => {
                    tokio::time::sleep(GATHER).await;
                    self.decide(&surroundings, &mut kept, &mut last_zones, &mut told).await;
                }
                changed = served.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep(wait) => {}
            }
            self.note_served(&surroundings);
        }
    }

    async fn decide(
        &self,
        surroundings: &Surroundings,
        kept: &mut Kept,
        last_zones: &mut Vec<Zone>,
        told: &mut BTreeMap<String, Vec<String>>,
    ) {
        let settings = &surroundings.settings;
        let Some((federation, suffix)) = TrafficInput::split_zone(&settings.zone) else { return };
        let snapshot = surroundings.board.snapshot();
        let (services, policies) = (service_views(&surroundings.world), surroundings.world.traffic());
        let clusters = cluster_traffic(&snapshot);
        let epoch = surroundings.epochs.current();
        let input = |epoch| TrafficInput {
            federation,
            suffix,
            nameservers: &settings.nameservers,
            hostmaster: "",
            ttl_seconds: settings.ttl_seconds,
            negative_ttl_seconds: settings.ttl_seconds,
            services: &services,
            clusters: &clusters,
            policies: &policies,
            previous: &kept.answers,
            epoch,
            frozen: snapshot.frozen.as_deref(),
        };
        let first = zones(&input(epoch));
        let begun = self.0.state.lock().first.is_some();
        if begun && without_serials(&first.zones) == without_serials(last_zones) {
            return;
        }
        let epoch = match surroundings.epochs.next().await {
            Ok(epoch) => epoch,
            Err(error) => {
                tracing::warn!(%error, "no epoch for the zones: again soon");
                let again = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    again.poke();
                });
                return;
            }
        };
        let decision = zones(&input(epoch));
        surroundings.zones.publish(v1::ZoneUpdate {
            epoch,
            incarnation: settings.incarnation.clone(),
            zones: decision.zones.iter().map(wire).collect(),
            withdrawn: withdrawn_origins(&mut kept.origins, &decision.zones),
            ..v1::ZoneUpdate::default()
        });
        for explanation in decision.explanations.iter().filter(|explanation| !explanation.answered) {
            tracing::debug!(
                object = explanation.object,
                cluster = explanation.cluster,
                rule = explanation.rule,
                explanation.message
            );
        }
        self.note_withdrawn(&kept.answers, &decision, epoch, max_ttl(&decision.zones));
        last_zones.clone_from(&decision.zones);
        kept.answers = decision.answers.clone();
        save(&settings.file, kept);
        tell_policies(surroundings, &decision, epoch, told).await;
    }

    /// Starts the clock of every cluster that lost its place in an answer, and stops that of those that came back.
    fn note_withdrawn(&self, before: &Answers, decision: &TrafficDecision, epoch: u64, ttl: Duration) {
        let mut state = self.0.state.lock();
        for (service, clusters) in &before.0 {
            let now = decision.answers.0.get(service);
            for cluster in clusters.keys() {
                if !now.is_some_and(|now| now.contains_key(cluster)) {
                    state.withdrawn.entry((service.clone(), cluster.clone())).or_insert(Withdrawn {
                        epoch,
                        ttl,
                        served: None,
                    });
                }
            }
        }
        state.withdrawn.retain(|(service, cluster), _| {
            !decision.answers.0.get(service).is_some_and(|clusters| clusters.contains_key(cluster))
        });
        state.answers = decision.answers.clone();
        state.first.get_or_insert(Withdrawn { epoch, ttl, served: None });
    }

    /// Looks who serves what; when a cluster is left by its last user, the objects are looked at again.
    fn note_served(&self, surroundings: &Surroundings) {
        let mut over = BTreeSet::new();
        {
            let mut state = self.0.state.lock();
            if let Some(first) = &mut state.first
                && first.served.is_none()
                && surroundings.zones.all_serve(first.epoch)
            {
                first.served = Some(Instant::now());
            }
            for ((service, _), withdrawn) in &mut state.withdrawn {
                if withdrawn.served.is_none() && surroundings.zones.all_serve(withdrawn.epoch) {
                    withdrawn.served = Some(Instant::now());
                }
                if withdrawn.is_over() {
                    over.insert(service.split('/').next().unwrap_or_default().to_owned());
                }
            }
        }
        let draining = surroundings
            .board
            .snapshot()
            .views
            .iter()
            .any(|view| view.spec.taints.iter().any(|taint| taint.effect == TaintEffect::NoExecute));
        if !draining {
            return;
        }
        for namespace in over {
            for key in surroundings.world.keys_in(&namespace) {
                if federation_core::template::has_replicas(key.kind.kind) {
                    surroundings.queue.add(key, Priority::Urgent);
                }
            }
        }
    }

    /// When the next withdrawal runs out.
    fn next_end(&self) -> Option<Duration> {
        let state = self.0.state.lock();
        state
            .withdrawn
            .values()
            .chain(&state.first)
            .filter_map(|withdrawn| {
                let served = withdrawn.served?;
                let end = served + withdrawn.ttl + AFTER_TTL;
                end.checked_duration_since(Instant::now())
            })
            .min()
            .map(|wait| wait + Duration::from_millis(1))
    }
}

impl Withdrawn {
    fn is_over(&self) -> bool {
        self.served.is_some_and(|served| served.elapsed() >= self.ttl + AFTER_TTL)
    }
}

/// Names (`namespace/name`) of the Services that select an object's Pods.
fn selecting(template: &Template, world: &World) -> Vec<String> {
    let Some(labels) = template.object.pointer("/spec/template/metadata/labels").and_then(Value::as_object)
    else {
        return Vec::new();
    };
    world
        .services_in(&template.key.namespace)
        .iter()
        .filter(|service| {
            service.object.pointer("/spec/selector").and_then(Value::as_object).is_some_and(|selector| {
                !selector.is_empty() && selector.iter().all(|(name, value)| labels.get(name) == Some(value))
            })
        })
        .map(|service| format!("{}/{}", service.key.namespace, service.key.name))
        .collect()
}

fn service_views(world: &World) -> Vec<ServiceView> {
    let mut views: Vec<ServiceView> = world
        .services()
        .into_iter()
        .filter(|(template, _)| !template.deleting)
        .filter(|(template, _)| {
            federation_core::template::Template::from_value(template.key.kind.plural, &template.object)
                .is_ok_and(|view| federation_core::select::federated(&view).is_ok())
        })
        .map(|(template, reports)| ServiceView {
            namespace: template.key.namespace.to_string(),
            name: template.key.name.to_string(),
            backends: reports
                .into_iter()
                .filter(|(_, report)| report.uid == *template.uid)
                .filter_map(|(cluster, report)| {
                    let state = report.service?;
                    Some((
                        cluster,
                        Backend {
                            ready_endpoints: state.ready_endpoints,
                            addresses: state.addresses,
                            absent: state.absent,
                        },
                    ))
                })
                .collect(),
        })
        .collect();
    views.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    views
}

fn cluster_traffic(snapshot: &Snapshot) -> BTreeMap<String, ClusterTraffic> {
    snapshot
        .views
        .iter()
        .map(|view| {
            (
                view.name.clone(),
                ClusterTraffic {
                    verdict: view.verdict,
                    weight: view.spec.traffic_weight,
                    region: view.spec.region.clone(),
                    zone: view.spec.zone.clone(),
                    draining: view.spec.taints.iter().any(|taint| taint.effect == TaintEffect::NoExecute),
                    addresses: view.spec.addresses.clone(),
                },
            )
        })
        .collect()
}

/// Tells each TrafficPolicy what is answered for it now.
async fn tell_policies(
    surroundings: &Surroundings,
    decision: &TrafficDecision,
    epoch: u64,
    told: &mut BTreeMap<String, Vec<String>>,
) {
    let policies = surroundings.world.traffic();
    for (name, answering) in &decision.answering {
        if told.get(name) == Some(answering) {
            continue;
        }
        let Some((namespace, policy)) = name.split_once('/') else { continue };
        let generation = policies
            .iter()
            .find(|kept| kept.name() == policy && kept.metadata.namespace.as_deref() == Some(namespace))
            .and_then(|kept| kept.metadata.generation);
        let status = TrafficPolicyStatus {
            observed_generation: generation,
            answering: answering.clone(),
            epoch: Some(epoch),
        };
        let collection = format!("/apis/{API_VERSION}/namespaces/{namespace}/trafficpolicies");
        match surroundings.writer.put_status(&collection, policy, &serde_json::json!(status)).await {
            Ok(()) => {
                told.insert(name.clone(), answering.clone());
            }
            Err(error) => tracing::debug!(%error, name, "the status of a TrafficPolicy could not be written"),
        }
    }
    told.retain(|name, _| decision.answering.contains_key(name));
}

/// Origins that had records once and have none now, told explicitly: a dns-lb takes no zone's absence for its end. `known` is every origin
/// that ever had records.
fn withdrawn_origins(known: &mut BTreeSet<String>, zones: &[Zone]) -> Vec<String> {
    let filled: BTreeSet<&str> =
        zones.iter().filter(|zone| !zone.records.is_empty()).map(|zone| zone.origin.as_str()).collect();
    known.extend(filled.iter().map(ToString::to_string));
    known.iter().filter(|origin| !filled.contains(origin.as_str())).cloned().collect()
}

fn without_serials(zones: &[Zone]) -> Vec<Zone> {
    zones.iter().map(|zone| Zone { serial: 0, ..zone.clone() }).collect()
}

fn max_ttl(zones: &[Zone]) -> Duration {
    let records = zones.iter().flat_map(|zone| zone.records.iter().map(|record| record.ttl));
    Duration::from_secs(u64::from(records.max().unwrap_or_default()))
}

fn wire(zone: &Zone) -> v1::Zone {
    v1::Zone {
        origin: zone.origin.clone(),
        serial: zone.serial,
        default_ttl: zone.default_ttl,
        negative_ttl: zone.negative_ttl,
        nameservers: zone.nameservers.clone(),
        hostmaster: zone.hostmaster.clone(),
        records: zone
            .records
            .iter()
            .map(|record| v1::RecordSet {
                name: record.name.clone(),
                ttl: record.ttl,
                r#type: record.rtype.as_str().into(),
                selection: match record.selection {
                    Selection::All => v1::Selection::All.into(),
                    Selection::Weighted => v1::Selection::Weighted.into(),
                },
                service: record.service.clone(),
                tiers: record
                    .tiers
                    .iter()
                    .map(|tier| v1::Tier {
                        choices: tier
                            .choices
                            .iter()
                            .map(|choice| v1::Choice {
                                data: choice.data.clone(),
                                weight: choice.weight,
                                cluster: choice.cluster.clone(),
                            })
                            .collect(),
                    })
                    .collect(),
                ..v1::RecordSet::default()
            })
            .collect(),
        ..v1::Zone::default()
    }
}

fn load(file: &std::path::Path) -> Kept {
    match std::fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!(%error, file = %file.display(), "the last answers could not be read: starting without");
            Kept::default()
        }),
        Err(_) => Kept::default(),
    }
}

fn save(file: &std::path::Path, kept: &Kept) {
    let bytes = serde_json::to_vec(kept).unwrap_or_default();
    if let Err(error) = files::replace(file, &bytes, Access::Private) {
        tracing::warn!(%error, file = %file.display(), "the last answers could not be kept");
    }
}
