//! The gate's driver: collects its inputs, asks it, keeps the accounts and counts the answers.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use federation_core::api::{HeldDecision, HeldRemovalSpec};
use federation_core::gate::accounts::{self, Accounts, Limits};
use federation_core::gate::{
    self, Budget, Cause, Circumstances, Permit, Refusal, Removal, Replacement, Rule,
};
use federation_runtime::clock;
use parking_lot::Mutex;

use crate::epoch::Epochs;
use crate::metrics::Metrics;
use crate::observe::{Key, World};

/// A watch says something at least this often: the API server ends it after 280 s, and a new one is a word too. Older is none.
const MAX_SOURCE_AGE_MS: i64 = 300_000;
/// The number of all copies is read this often: it is a bound, not a balance.
const FLEET_AGE_MS: i64 = 1000;

/// One question.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) key: &'a Key,
    pub(crate) cluster: &'a str,
    pub(crate) cause: Cause,
    /// What it is charged to; `None` for what a user deleted by its own name.
    pub(crate) charge: Option<&'a accounts::Cause>,
    pub(crate) replacement: Replacement,
    /// The newest epoch that was given out. The removal gets a newer one of its own if it is permitted: a refusal uses up none.
    pub(crate) epoch: u64,
    /// Epoch of the newest decision for the object.
    pub(crate) decided: u64,
}

/// Asks for permits. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Inner>);

struct Inner {
    world: World,
    epochs: Epochs,
    sequence: AtomicU64,
    state: Mutex<State>,
    metrics: Metrics,
}

/// A HeldRemoval on its way to the API. Dropped before it is written, also by a panic, it is written by the next refusal.
pub(crate) struct Hold {
    gate: Gate,
    pub(crate) id: String,
    pub(crate) spec: HeldRemovalSpec,
    written: bool,
}

impl Hold {
    /// It is in the API.
    pub(crate) fn written(mut self) {
        self.written = true;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.written {
            self.gate.unhold(&self.id);
        }
    }
}

#[derive(Default)]
struct State {
    accounts: Accounts<Key>,
    // HeldRemovals that are in the API, or on their way there.
    held: HashSet<String>,
    // All copies, and when they were counted.
    fleet: (u64, i64),
}

impl Gate {
    pub(crate) fn new(world: World, epochs: Epochs, metrics: Metrics) -> Self {
        Self(Arc::new(Inner { world, epochs, sequence: AtomicU64::new(0), state: Mutex::default(), metrics }))
    }

    /// Asks for a copy's removal.
    pub(crate) fn ask(&self, asked: &Asked<'_>, frozen: Option<String>) -> Result<Permit, Refusal> {
        let key = asked.key;
        let removal = Removal {
            cluster: asked.cluster.to_owned(),
            object: format!("{} {}/{}", key.kind.kind, key.namespace, key.name),
            cause: asked.cause,
            epoch: asked.epoch,
        };
        let mut state = self.0.state.lock();
        let budget = match asked.charge {
            None => Budget::UNBOUNDED,
            Some(cause) => {
                let now = now_ms();
                // Of later than now is what was counted before the clock was set back.
                if now.saturating_sub(state.fleet.1) >= FLEET_AGE_MS || now < state.fleet.1 {
                    state.fleet = (self.0.world.copies(), now);
                }
                let fleet = state.fleet.0;
                state.accounts.want(cause, key, asked.cluster, fleet, now)
            }
        };
        let circumstances = Circumstances {
            frozen: frozen.or_else(|| self.0.epochs.restored()),
            epoch: asked.decided,
            source: self.0.world.source(),
            max_source_age_ms: MAX_SOURCE_AGE_MS,
            replacement: asked.replacement,
            budget,
            sequence: self.0.sequence.fetch_add(1, Ordering::Relaxed),
        };
        let answer = gate::permit(&removal, &circumstances);
        match &answer {
            Ok(_) => {
                if let Some(cause) = asked.charge {
                    state.accounts.spend(&cause.id(), key, asked.cluster);
                }
                Metrics::count(&self.0.metrics.permits, "permitted");
            }
            Err(refusal) => Metrics::count(&self.0.metrics.permits, &refusal.rule.to_string()),
        }
        answer
    }

    /// Whether nothing is known of a cause yet.
    pub(crate) fn is_new(&self, cause: &accounts::Cause) -> bool {
        !self.0.state.lock().accounts.is_open(&cause.id())
    }

    /// Whether a person decided to release the copies of the cause instead of removing them. If so, also records that this copy is one of them.
    pub(crate) fn note_released(&self, cause: &accounts::Cause, key: &Key, cluster: &str) -> bool {
        let mut state = self.0.state.lock();
        let released = state.accounts.decision(&cause.id()) == HeldDecision::Release;
        if released {
            state.accounts.release(cause, key, cluster);
        }
        released
    }

    /// The HeldRemoval that is to be written for a refusal; `None` if there is one already.
    pub(crate) fn hold(&self, cause: &accounts::Cause, refusal: &Refusal) -> Option<Hold> {
        if refusal.rule != Rule::Budget {
            return None;
        }
        let id = cause.id();
        let mut state = self.0.state.lock();
        if !state.held.insert(id.clone()) {
            return None;
        }
        let copies = state.accounts.waiting(&id).max(cause.known);
        let message = format!(
            "{refusal}. Go on with `fedctl confirm {id}`, or leave the copies where they are with `fedctl confirm {id} --release`"
        );
        let decision = HeldDecision::Undecided;
        let spec = HeldRemovalSpec { cause: cause.subject.clone(), copies, message, decision };
        Some(Hold { gate: self.clone(), id, spec, written: false })
    }

    /// A HeldRemoval could not be written, or was deleted by hand: the next refusal writes it.
    pub(crate) fn unhold(&self, id: &str) {
        self.0.state.lock().held.remove(id);
    }

    /// What a HeldRemoval says now. Returns the objects to be looked at again.
    pub(crate) fn decide(&self, id: &str, decision: HeldDecision) -> Vec<Key> {
        let mut state = self.0.state.lock();
        state.held.insert(id.to_owned());
        state.accounts.decide(id, decision, now_ms())
    }

    /// The budgets as they are now.
    pub(crate) fn set_limits(&self, limits: Limits) {
        self.0.state.lock().accounts.set_limits(limits);
    }

    /// The copies of an object that are to go are these.
    pub(crate) fn keep_only(&self, key: &Key, clusters: &BTreeSet<&str>) {
        self.0.state.lock().accounts.keep_only(key, clusters);
    }

    /// HeldRemovals that have nothing to hold any more. Asked only when every object was looked at: before that, who waits for a decision is
    /// not known.
    pub(crate) fn ended(&self) -> Vec<String> {
        let mut state = self.0.state.lock();
        let ended = state.accounts.tidy(now_ms());
        for id in &ended {
            state.held.remove(id);
        }
        ended
    }
}

fn now_ms() -> i64 {
    clock::unix_ms()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn a_held_removal_that_was_not_written_is_written_by_the_next_refusal() {
        let gate = testing::machine().await.gate;
        let cause =
            accounts::Cause { subject: "Cluster a".into(), instance: "u".into(), known: 0, by_share: true };
        let refusal = Refusal { rule: Rule::Budget, message: "too many".into() };
        drop(gate.hold(&cause, &refusal).expect("the first refusal writes it"));
        gate.hold(&cause, &refusal).expect("it was not written").written();
        assert!(gate.hold(&cause, &refusal).is_none());
    }
}
