//! The traffic loop: decide, publish the zones, save the memory, write statuses.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use federation_core::api::ClientRegions;
use federation_core::traffic::{Places, TrafficDecision, TrafficInput, Zone, zones};
use federation_runtime::shutdown::Shutdown;
use federation_runtime::{clock, tasks};
use proto::v1;

use super::kept::Kept;
use super::status::{self, Told};
use super::{Published, Traffic, TrafficContext, probed, views, wire};
use crate::dns::Extras;
use crate::drill::LEASE_MS;
use crate::epoch::EPOCH_WAIT;

/// Changes within this time are one zone: short against any TTL, long against a burst of endpoints.
const GATHER: Duration = Duration::from_millis(5);
/// It is decided again at least this often, for clocks that are set.
const AT_LEAST: Duration = Duration::from_secs(60);
/// After an epoch could not be taken.
const RETRY: Duration = Duration::from_millis(200);

/// What the loop keeps between two decisions.
struct Loop {
    kept: Kept,
    zones: Vec<Zone>,
    // What was published besides, without the drill.
    otherwise: Option<Vec<Zone>>,
    // The objects that the table was made from, with the table.
    places: Option<(Arc<Vec<ClientRegions>>, Arc<Places>)>,
    probed: probed::Told,
    // The table of the last zones, and whether it was sent.
    published: Option<(Arc<Places>, bool)>,
    extras: Option<Arc<Extras>>,
    // When the last decision wants to be made again, Unix milliseconds.
    next_ms: Option<i64>,
}

impl Loop {
    /// Where clients are: made anew only when the objects change.
    fn places(&mut self, context: &TrafficContext) -> Arc<Places> {
        let objects = context.world.client_regions();
        match &self.places {
            Some((last, places)) if Arc::ptr_eq(last, &objects) => places.clone(),
            _ => {
                let places = Arc::new(Places::new(&objects));
                self.places = Some((objects, places.clone()));
                places
            }
        }
    }

    /// Whether what was published last answers the same.
    fn says_the_same(&self, answer: &Answer) -> bool {
        let otherwise = match (&self.otherwise, &answer.without) {
            (Some(last), Some(now)) => say_the_same(last, &now.zones),
            (last, now) => last.is_none() && now.is_none(),
        };
        let table = self.published.as_ref().is_some_and(|(places, located)| {
            *located == answer.located && Arc::ptr_eq(places, &answer.places)
        });
        otherwise
            && table
            && self.extras.as_ref() == Some(&answer.extras)
            && say_the_same(&answer.decision.zones, &self.zones)
    }

    /// A new epoch above that one. If there is none now, it is decided again soon.
    async fn epoch_above(&mut self, context: &TrafficContext, above: u64, now_ms: i64) -> Option<u64> {
        // An API that hangs must not hold up what else is done here, nor the next answer once it is back.
        let epoch = context.epochs.next_above(above, EPOCH_WAIT).await;
        if epoch > above {
            return Some(epoch);
        }
        tracing::warn!(epoch, above, "no new epoch for the zones: again soon");
        self.next_ms = Some(now_ms + RETRY.as_millis() as i64);
        None
    }
}

impl Traffic {
    /// Decides whenever poked and when time itself changes an answer, until `shutdown`.
    pub(crate) async fn run(self, context: Arc<TrafficContext>, shutdown: Shutdown) {
        let mut served = context.zones.changes();
        let mut state = Loop {
            kept: Kept::load(&context.settings.keeping),
            zones: Vec::new(),
            otherwise: None,
            places: None,
            probed: probed::Told::default(),
            published: None,
            extras: None,
            next_ms: None,
        };
        // Before the view is whole, a Service that was not told yet would look deleted.
        while !context.world.is_synced() {
            tokio::select! {
                biased;
                () = shutdown.wait() => return,
                () = tasks::sleep(GATHER) => {}
            }
        }
        self.0.latency.lock().clone_from(&state.kept.latency);
        self.poke();
        loop {
            let due = state.next_ms.map_or(AT_LEAST, until).min(AT_LEAST);
            let left = self.0.drains.lock().next_end().unwrap_or(AT_LEAST);
            tokio::select! {
                biased;
                () = shutdown.wait() => return,
                () = self.0.poke.notified() => {
                    tasks::sleep(GATHER).await;
                    self.decide(&context, &mut state).await;
                }
                changed = served.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = tasks::sleep(due) => self.decide(&context, &mut state).await,
                () = tasks::sleep(left) => {}
            }
            self.note_acknowledged(&context);
        }
    }

    /// Tells the API what was decided: apart from deciding, so that an API that is away holds up no answer.
    pub(crate) async fn tell(self, context: Arc<TrafficContext>, shutdown: Shutdown) {
        let mut told = Told::default();
        loop {
            tokio::select! {
                biased;
                () = shutdown.wait() => return,
                () = self.0.published.notified() => {}
            }
            let Some(last) = self.last() else { continue };
            told.policies(&context, &last).await;
            told.regions(&context, &last.places).await;
            status::clean_overrides(&context).await;
        }
    }

    async fn decide(&self, context: &TrafficContext, state: &mut Loop) {
        let settings = &context.settings;
        let Some((federation, suffix)) = TrafficInput::split_zone(&settings.zone) else { return };
        // Without its keys a signed zone would be broken: they are told of by a poke.
        let Some(extras) = context.dns.extras() else { return };
        let snapshot = context.cluster_state.snapshot();
        let mut services = views::services(&context.world, &self.all_served());
        let policies = context.world.traffic();
        let clusters = views::clusters(&snapshot);
        let own: Vec<String> = state.zones.iter().map(|zone| zone.origin.clone()).collect();
        let targets = probed::of(&context.world, &services, &clusters, &policies, &own);
        let others = state.probed.tell(&context.probers, targets, &clusters);
        // What a drill takes, and what there would be without it.
        let loss = context.drills.loss();
        let whole = loss.as_ref().map(|loss| loss.unharmed(&services, &clusters));
        if let Some(loss) = &loss {
            loss.services(&mut services);
        }
        let places = state.places(context);
        let now_ms = clock::unix_ms();
        let latency = {
            let mut latency = self.0.latency.lock();
            latency.age(now_ms);
            latency.clone()
        };
        let input = TrafficInput {
            federation,
            suffix,
            clusterset: settings.clusterset.as_deref(),
            nameservers: &settings.nameservers,
            hostmaster: "",
            ttl_seconds: settings.ttl_seconds,
            negative_ttl_seconds: settings.ttl_seconds,
            services: &services,
            clusters: &clusters,
            policies: &policies,
            places: &places,
            latency: &latency,
            previous: &state.kept.memory,
            epoch: context.epochs.current(),
            frozen: snapshot.frozen.as_deref(),
            now_ms,
        };
        let without = whole
            .as_ref()
            .map(|(services, clusters)| zones(&TrafficInput { services, clusters, ..input.clone() }));
        let decision = zones(&input);
        state.next_ms = decision.next_ms;
        let located = wire::is_located(&decision.zones);
        let mut answer = Answer { decision, without, places, located, extras, now_ms };
        let begun = self.0.drains.lock().has_begun();
        let mut epoch = self.last().map_or(0, |last| last.epoch);
        let above = epoch.max(self.0.above.load(Ordering::SeqCst));
        let same = state.says_the_same(&answer) && !others && epoch == above;
        if !begun || !same {
            let Some(published) = self.publish(context, state, &mut answer, above).await else { return };
            epoch = published;
        }
        let Answer { decision, places, .. } = answer;
        // Holds, ramps and withdrawals are remembered though no answer changed.
        if state.kept.memory != decision.memory || !same {
            state.kept.memory = decision.memory.clone();
            state.kept.latency = latency;
            state.kept.save(&settings.keeping);
        }
        let (world, metrics, recorder) = (&context.world, &context.metrics, &context.recorder);
        self.0.turns.lock().tell(world, metrics, recorder, &decision.explanations);
        let regions = clusters.into_iter().map(|(name, cluster)| (name, cluster.region)).collect();
        let published = Arc::new(Published { epoch, at_ms: now_ms, decision, policies, places, regions });
        *self.0.last.lock() = Some(published);
        self.0.published.notify_one();
    }

    /// Gives an answer to the DNS servers, with an epoch above that one; the epoch. `None`: there is none now, and it is decided again soon.
    async fn publish(
        &self,
        context: &TrafficContext,
        state: &mut Loop,
        answer: &mut Answer,
        above: u64,
    ) -> Option<u64> {
        let epoch = state.epoch_above(context, above, answer.now_ms).await?;
        answer.decision.set_epoch(epoch);
        let mut update = answer.update(context, state, epoch, &answer.decision.zones);
        update.withdrawn = wire::withdrawn_origins(&mut state.kept.origins, &update.zones, &answer.extras);
        if let Some(mut without) = answer.without.take() {
            // A drill without a way back for those who lose the hub is none that may be published.
            let later = state.epoch_above(context, epoch, answer.now_ms).await?;
            without.set_epoch(later);
            update.otherwise = Some(Box::new(answer.update(context, state, later, &without.zones)));
            update.lease_ms = LEASE_MS;
            answer.without = Some(without);
        }
        context.zones.publish(update);
        state.otherwise = answer.without.take().map(|without| without.zones);
        self.0.drains.lock().note_published(
            &state.kept.memory.answers,
            &answer.decision.memory.answers,
            epoch,
            wire::max_ttl(&answer.decision.zones),
        );
        state.zones.clone_from(&answer.decision.zones);
        state.published = Some((answer.places.clone(), answer.located));
        state.extras = Some(answer.extras.clone());
        Some(epoch)
    }
}

/// What is answered from now on, and what that was made from.
struct Answer {
    decision: TrafficDecision,
    // What there would be without the drill, while one runs.
    without: Option<TrafficDecision>,
    places: Arc<Places>,
    // Whether the zones need the table of places.
    located: bool,
    extras: Arc<Extras>,
    now_ms: i64,
}

impl Answer {
    /// The message for the DNS servers, with one of the two decisions' zones.
    fn update(&self, context: &TrafficContext, state: &Loop, epoch: u64, zones: &[Zone]) -> v1::ZoneUpdate {
        let settings = &context.settings;
        let mut dressed: Vec<v1::Zone> = zones.iter().map(wire::zone).collect();
        context.dns.dress(&self.extras, &format!("{}.", settings.zone), epoch, &mut dressed);
        v1::ZoneUpdate {
            epoch,
            incarnation: settings.incarnation.clone(),
            zones: dressed,
            regions: wire::is_located(zones).then(|| wire::regions(&self.places)),
            probes: state.probed.probes.clone(),
            cookie_secrets: self.extras.cookie_secrets.iter().map(|secret| secret.to_vec().into()).collect(),
            ..v1::ZoneUpdate::default()
        }
    }
}

/// The time until then. A moment that has passed is now, but never at once again and again.
fn until(at_ms: i64) -> Duration {
    let left = at_ms.saturating_sub(clock::unix_ms());
    Duration::from_millis(u64::try_from(left).unwrap_or(0).max(GATHER.as_millis() as u64))
}

/// Whether these are the same zones but for their serials.
fn say_the_same(last: &[Zone], now: &[Zone]) -> bool {
    last.len() == now.len() && last.iter().zip(now).all(|(last, now)| last.says_the_same(now))
}

#[cfg(test)]
mod tests {
    use federation_core::api::Verdict;
    use federation_core::health::View;
    use hub_protocol::hub::Event;
    use serde_json::json;

    use super::*;
    use crate::hub::sessions::Listener as _;
    use crate::machine::{Machine, Word};
    use crate::observe::{Key, Kind};
    use crate::testing;

    /// A controller with a Service that two clusters serve; nothing of it runs.
    async fn controller() -> Machine {
        let machine = testing::machine().await;
        let own = "/apis/federation.rs/v1alpha1";
        let collections = machine.declare(&["services"]);
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": "web", "uid": "u"},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}});
        machine.observe("/api/v1/services", Word::Present(service));
        let key = Key::new(Kind::find("", "services").expect("a kind"), "shop", "web").to_wire();
        for (name, address) in [("taiwan", "192.0.2.1"), ("tokyo", "192.0.2.2")] {
            let cluster = json!({"apiVersion": "federation.rs/v1alpha1", "kind": "Cluster",
                "metadata": {"name": name, "uid": name}, "spec": {}});
            machine.observe(&format!("{own}/clusters"), Word::Present(cluster));
            let view = View { verdict: Verdict::Healthy, ..View::default() };
            machine.cluster_state.verdicts(vec![(name.to_owned(), view, 1)], None);
            let state = v1::ServiceState {
                key: Some(key.clone()),
                uid: "u".into(),
                ready_endpoints: 1,
                addresses: vec![address.into()],
                ..v1::ServiceState::default()
            };
            machine.agent_events.heard(name, Event::Service(state));
        }
        for collection in collections {
            machine.observe(&collection, Word::Synced);
        }
        machine
    }

    /// What the next run of the loop publishes first, before it ends as by a panic.
    async fn published(machine: &Machine, context: &Arc<TrafficContext>, known: u64) -> v1::ZoneUpdate {
        let mut server = machine.dns_connected();
        let hello = v1::dns_message::Message::Hello(v1::DnsHello::default());
        server.said(v1::DnsMessage { message: Some(hello) });
        let run = tokio::spawn(machine.traffic.clone().run(context.clone(), Shutdown::new()));
        let update = async {
            loop {
                if let Some(update) = server.update().filter(|update| update.epoch > known) {
                    return update;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let update = tokio::time::timeout(Duration::from_secs(20), update).await.expect("it publishes");
        run.abort();
        update
    }

    #[tokio::test]
    async fn a_loop_that_is_started_anew_answers_as_before_and_by_a_newer_epoch() {
        let machine = controller().await;
        let context = Arc::new(machine.traffic_context());
        let first = published(&machine, &context, 0).await;
        let records = |update: &v1::ZoneUpdate| -> Vec<v1::RecordSet> {
            update.zones.iter().flat_map(|zone| zone.records.clone()).collect()
        };
        for address in ["192.0.2.1", "192.0.2.2"] {
            assert!(format!("{:?}", records(&first)).contains(address), "{address} is an answer");
        }
        let second = published(&machine, &context, first.epoch).await;
        assert_eq!(records(&second), records(&first));
        assert_eq!(second.withdrawn, first.withdrawn);
    }
}
