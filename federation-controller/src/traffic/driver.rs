//! The traffic loop: decide, publish the zones, save the memory, write statuses.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use federation_core::api::ClientRegions;
use federation_core::traffic::{Places, TrafficInput, Zone, zones};
use federation_runtime::shutdown::Shutdown;
use federation_runtime::{clock, tasks};
use proto::v1;

use super::kept::Kept;
use super::status::{self, Told};
use super::turns::Turns;
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
        let mut turns = Turns::default();
        loop {
            tokio::select! {
                biased;
                () = shutdown.wait() => return,
                () = self.0.published.notified() => {}
            }
            let Some(last) = self.last() else { continue };
            turns.tell(&context, &last.decision.explanations);
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
        let snapshot = context.board.snapshot();
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
        let mut decision = zones(&input);
        state.next_ms = decision.next_ms;
        let located = wire::is_located(&decision.zones);
        let begun = self.0.drains.lock().has_begun();
        let same = say_the_same(&decision.zones, &state.zones)
            && state
                .published
                .as_ref()
                .is_some_and(|last| last.1 == located && Arc::ptr_eq(&last.0, &places));
        let same = same && !others && state.extras.as_ref() == Some(&extras);
        let same = same
            && match (&state.otherwise, &without) {
                (Some(last), Some(now)) => say_the_same(last, &now.zones),
                (last, now) => last.is_none() && now.is_none(),
            };
        let mut epoch = self.last().map_or(0, |last| last.epoch);
        let above = epoch.max(self.0.above.load(Ordering::SeqCst));
        let same = same && epoch == above;
        if !begun || !same {
            // An API that hangs must not hold up what else is done here, nor the next answer once it is back.
            epoch = context.epochs.next_above(above, EPOCH_WAIT).await;
            if epoch <= above {
                tracing::warn!(epoch, above, "no new epoch for the zones: again soon");
                state.next_ms = Some(now_ms + RETRY.as_millis() as i64);
                return;
            }
            decision.set_epoch(epoch);
            let update = |epoch, zones: &[Zone]| {
                let mut dressed: Vec<v1::Zone> = zones.iter().map(wire::zone).collect();
                context.dns.dress(&extras, &format!("{}.", settings.zone), epoch, &mut dressed);
                v1::ZoneUpdate {
                    epoch,
                    incarnation: settings.incarnation.clone(),
                    zones: dressed,
                    regions: wire::is_located(zones).then(|| wire::regions(&places)),
                    probes: state.probed.probes.clone(),
                    cookie_secrets: extras
                        .cookie_secrets
                        .iter()
                        .map(|secret| secret.to_vec().into())
                        .collect(),
                    ..v1::ZoneUpdate::default()
                }
            };
            let mut published = update(epoch, &decision.zones);
            published.withdrawn = wire::withdrawn_origins(&mut state.kept.origins, &published.zones, &extras);
            let mut without = without;
            if let Some(without) = &mut without {
                // A drill without a way back for those who lose the hub is none that may be published.
                let later = context.epochs.next_above(epoch, EPOCH_WAIT).await;
                if later <= epoch {
                    tracing::warn!(epoch, "no new epoch for the zones without the drill: again soon");
                    state.next_ms = Some(now_ms + RETRY.as_millis() as i64);
                    return;
                }
                without.set_epoch(later);
                published.otherwise = Some(Box::new(update(later, &without.zones)));
                published.lease_ms = LEASE_MS;
            }
            context.zones.publish(published);
            state.otherwise = without.map(|without| without.zones);
            self.0.drains.lock().note_published(
                &state.kept.memory.answers,
                &decision.memory.answers,
                epoch,
                wire::max_ttl(&decision.zones),
            );
            state.zones.clone_from(&decision.zones);
            state.published = Some((places.clone(), located));
            state.extras = Some(extras);
        }
        // Holds, ramps and withdrawals are remembered though no answer changed.
        if state.kept.memory != decision.memory || !same {
            state.kept.memory = decision.memory.clone();
            state.kept.latency = latency;
            state.kept.save(&settings.keeping);
        }
        let regions = clusters.into_iter().map(|(name, cluster)| (name, cluster.region)).collect();
        let published = Arc::new(Published { epoch, at_ms: now_ms, decision, policies, places, regions });
        *self.0.last.lock() = Some(published);
        self.0.published.notify_one();
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
