//! When to probe which target, and the resulting votes: a state machine without clock or sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::health::{Outcome, Vote};

use super::{Key, Target};

/// Targets of one prober: 1,000 Services in each of 20 clusters. More are not probed, and counted.
pub const TARGETS_MAX: usize = 20_000;
/// Probes under way at once: half of the 1,024 files that a process may usually have open.
pub const IN_FLIGHT_MAX: usize = 512;
/// Milliseconds between the starts of two probes of one target, at least: ten a second is the most that a target bears.
pub const GAP_MS: i64 = 100;
/// Milliseconds that silence must last before it is more than a blip: so far apart are the starts of the first and the last probe of a row
/// of failures that makes Down. A refusal is no silence, and is tried again at once.
pub const BLIP_MS: i64 = 1000;
/// Milliseconds within which new targets are probed first, spread.
const SPREAD_MS: i64 = 1000;

/// A probe to be made now.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// What to reach, and how.
    pub target: Arc<Target>,
    generation: u64,
}

/// How a probe ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Round trip in microseconds, or how it failed.
    pub outcome: Result<u32, Failure>,
    /// Expiry of the certificate that was seen, Unix seconds.
    pub certificate_not_after: Option<i64>,
}

/// How a probe failed; with a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No answer in time, or none from there: it may be packets that were lost.
    Silence(String),
    /// Somebody answered that users are not served.
    Refusal(String),
}

/// The machine.
#[derive(Debug)]
pub struct Prober {
    slots: BTreeMap<Key, Slot>,
    // One entry for each slot that is not in flight.
    due: BTreeSet<(i64, Key)>,
    in_flight: usize,
    // By cluster: when the last probe that succeeded was begun. Only proven clusters are here.
    answered_ms: BTreeMap<String, i64>,
    // Targets that are down, but for want of a witness.
    doubted: BTreeSet<Key>,
    // By cluster: targets that answered when they were last probed. Where thousands fail at once, each looks for a witness.
    well: BTreeMap<String, BTreeSet<Key>>,
    dropped: usize,
    generation: u64,
    version: u64,
    random: u64,
}

#[derive(Debug)]
struct Slot {
    target: Arc<Target>,
    generation: u64,
    due_ms: Option<i64>,
    begun_ms: i64,
    proven: bool,
    down: bool,
    successes: u32,
    failures: u32,
    /// The last failure was silence.
    silent: bool,
    /// When the first probe of this row of failures was begun.
    failing_since_ms: i64,
    /// What was last said, with when the last probe ended; none before the first.
    vote: Option<Vote>,
}

impl Prober {
    /// Without targets. `seed` spreads the probes of many probers.
    pub fn new(seed: u64) -> Self {
        Self {
            slots: BTreeMap::new(),
            due: BTreeSet::new(),
            in_flight: 0,
            answered_ms: BTreeMap::new(),
            doubted: BTreeSet::new(),
            well: BTreeMap::new(),
            dropped: 0,
            generation: 0,
            version: 0,
            random: seed,
        }
    }

    /// Probes these from now on, in place of those before. What is known of a target stays if its check does, and the name by which it is
    /// reached, if it is by one: a prober whose resolver does not know the new one has never seen anything there. What is down stays so under another
    /// check until that succeeds: who changes the check of what is dead would else have users sent there.
    pub fn set_targets(&mut self, now_ms: i64, targets: Vec<Target>) {
        self.dropped = targets.len().saturating_sub(TARGETS_MAX);
        let mut before = std::mem::take(&mut self.slots);
        for target in targets.into_iter().take(TARGETS_MAX) {
            let key = target.key.clone();
            match before.remove(&key) {
                Some(mut slot) if slot.target.check == target.check && slot.target.host == target.host => {
                    if *slot.target != target {
                        slot.target = Arc::new(target);
                    }
                    self.slots.insert(key, slot);
                }
                old => {
                    if let Some(old) = &old {
                        self.retire(&key, old);
                    }
                    self.generation += 1;
                    let within = SPREAD_MS.min(i64::from(target.check.interval_ms)).max(1);
                    let due_ms = now_ms + (self.roll() % within as u64) as i64;
                    let dead = old.filter(|old| old.is_down() && old.target.host == target.host);
                    let slot = Slot::new(target, self.generation, due_ms);
                    self.slots.insert(key.clone(), slot.after(dead));
                    self.due.insert((due_ms, key));
                }
            }
        }
        for (key, slot) in before {
            self.retire(&key, &slot);
        }
        let slots = &self.slots;
        self.answered_ms.retain(|cluster, _| slots.keys().any(|key| key.cluster == *cluster));
        self.version += 1;
    }

    /// The probes that are due. Each must be ended by [`Self::ended`], or by [`Self::failed`].
    pub fn poll(&mut self, now_ms: i64) -> Vec<Attempt> {
        let mut attempts = Vec::new();
        while self.in_flight < IN_FLIGHT_MAX {
            let Some((due_ms, _)) = self.due.first() else { break };
            if *due_ms > now_ms {
                break;
            }
            let Some((_, key)) = self.due.pop_first() else { break };
            let Some(slot) = self.slots.get_mut(&key) else { continue };
            slot.due_ms = None;
            slot.begun_ms = now_ms;
            self.in_flight += 1;
            attempts.push(Attempt { target: slot.target.clone(), generation: slot.generation });
        }
        attempts
    }

    /// When [`Self::poll`] next has something; none while nothing is due, or as many are under way as may be.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        if self.in_flight >= IN_FLIGHT_MAX {
            return None;
        }
        self.due.first().map(|(due_ms, _)| *due_ms)
    }

    /// A probe ended.
    pub fn ended(&mut self, now_ms: i64, attempt: &Attempt, ended: Ended) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let key = &attempt.target.key;
        let jitter = self.roll() % 2001;
        let Some(slot) = self.slots.get_mut(key).filter(|slot| slot.generation == attempt.generation) else {
            return;
        };
        let regular = slot.regular_ms(jitter);
        let succeeded = ended.outcome.is_ok();
        let first_failure = !succeeded && slot.failures == 0;
        slot.note(now_ms, ended);
        if succeeded {
            self.well.entry(key.cluster.clone()).or_default().insert(key.clone());
        } else if let Some(well) = self.well.get_mut(&key.cluster) {
            well.remove(key);
        }
        let next = if slot.proven && !succeeded && !slot.down { slot.again_ms(now_ms) } else { regular };
        let due_ms = next.max(slot.begun_ms + GAP_MS);
        slot.due_ms = Some(due_ms);
        let begun_ms = slot.begun_ms;
        self.due.insert((due_ms, key.clone()));
        if succeeded {
            let answered = self.answered_ms.entry(key.cluster.clone()).or_insert(begun_ms);
            *answered = (*answered).max(begun_ms);
            self.witness(&key.cluster);
        }
        if first_failure {
            self.seek_witness(now_ms, key);
        }
        self.review(key);
    }

    /// A probe said nothing of its target, since this prober itself failed. What was said of the target before stays, with its age: it soon
    /// counts for nothing.
    pub fn failed(&mut self, attempt: &Attempt) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let key = &attempt.target.key;
        let jitter = self.roll() % 2001;
        let Some(slot) = self.slots.get_mut(key).filter(|slot| slot.generation == attempt.generation) else {
            return;
        };
        let due_ms = slot.regular_ms(jitter).max(slot.begun_ms + GAP_MS);
        slot.due_ms = Some(due_ms);
        self.due.insert((due_ms, key.clone()));
    }

    /// Nobody says any more how the probes that are under way end: they are due again.
    pub fn abandon(&mut self, now_ms: i64) {
        self.in_flight = 0;
        for (key, slot) in self.slots.iter_mut().filter(|(_, slot)| slot.due_ms.is_none()) {
            let due_ms = now_ms.max(slot.begun_ms + GAP_MS);
            slot.due_ms = Some(due_ms);
            self.due.insert((due_ms, key.clone()));
        }
    }

    /// What to say of every target that was probed.
    pub fn votes(&self) -> impl Iterator<Item = (&Key, &Vote)> {
        self.slots.iter().filter_map(|(key, slot)| Some((key, slot.vote.as_ref()?)))
    }

    /// What to say of one target; none if it is not probed, or was not yet.
    pub fn vote(&self, key: &Key) -> Option<&Vote> {
        self.slots.get(key)?.vote.as_ref()
    }

    /// Changes whenever a vote turns, and with the first failure of a row: then it should be told at once.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Targets.
    pub fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.slots.values().map(|slot| &slot.target)
    }

    /// Targets that are not probed, because they are too many.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// What is said of a target now, kept with the target.
    fn review(&mut self, key: &Key) {
        let Some(slot) = self.slots.get(key) else { return };
        let outcome = match (slot.proven, slot.down) {
            (false, _) => Outcome::Unproven,
            (true, false) => Outcome::Up,
            (true, true) if self.is_witnessed(key, slot.failing_since_ms) => Outcome::Down,
            // Once said, it is not taken back because others fail, too.
            (true, true) if slot.vote.as_ref().is_some_and(|vote| vote.outcome == Outcome::Down) => {
                Outcome::Down
            }
            (true, true) => Outcome::Doubted,
        };
        if outcome == Outcome::Doubted {
            self.doubted.insert(key.clone());
        } else {
            self.doubted.remove(key);
        }
        let Some(slot) = self.slots.get_mut(key) else { return };
        let failures = slot.failures;
        let vote = slot.vote.get_or_insert_default();
        if vote.outcome != outcome || (vote.failures > 0) != (failures > 0) {
            self.version += 1;
        }
        vote.outcome = outcome;
        vote.failures = failures;
    }

    /// Whether something in another cluster answered since then, so that it is not this prober that is cut off. Where nothing else ever
    /// answered there is nothing to compare with.
    fn is_witnessed(&self, key: &Key, since_ms: i64) -> bool {
        let mut others = self.answered_ms.iter().filter(|(cluster, _)| **cluster != key.cluster).peekable();
        others.peek().is_none() || others.any(|(_, answered_ms)| *answered_ms >= since_ms)
    }

    /// Something in `cluster` answered: doubts elsewhere may be over.
    fn witness(&mut self, cluster: &str) {
        let elsewhere: Vec<Key> = self.doubted.iter().filter(|key| key.cluster != cluster).cloned().collect();
        for key in elsewhere {
            self.review(&key);
        }
    }

    /// Something begins to fail: one target in each of two other clusters is probed now, so that nobody waits for a witness.
    fn seek_witness(&mut self, now_ms: i64, failing: &Key) {
        let clusters: Vec<&String> =
            self.answered_ms.keys().filter(|cluster| **cluster != failing.cluster).take(2).collect();
        let mut sooner = Vec::new();
        for cluster in clusters {
            let well = self.well.get(cluster).and_then(BTreeSet::first);
            let Some((key, slot)) = well.and_then(|key| Some((key, self.slots.get(key)?))) else { continue };
            let at_ms = now_ms.max(slot.begun_ms + GAP_MS);
            if let Some(due_ms) = slot.due_ms.filter(|due_ms| *due_ms > at_ms) {
                sooner.push((key.clone(), due_ms, at_ms));
            }
        }
        for (key, due_ms, at_ms) in sooner {
            self.due.remove(&(due_ms, key.clone()));
            self.due.insert((at_ms, key.clone()));
            if let Some(slot) = self.slots.get_mut(&key) {
                slot.due_ms = Some(at_ms);
            }
        }
    }

    fn retire(&mut self, key: &Key, slot: &Slot) {
        if let Some(due_ms) = slot.due_ms {
            self.due.remove(&(due_ms, key.clone()));
        }
        self.doubted.remove(key);
        if let Some(well) = self.well.get_mut(&key.cluster) {
            well.remove(key);
            if well.is_empty() {
                self.well.remove(&key.cluster);
            }
        }
    }

    /// `SplitMix64`: the probes of many probers must be spread, and nothing more.
    fn roll(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Slot {
    fn new(target: Target, generation: u64, due_ms: i64) -> Self {
        Self {
            target: Arc::new(target),
            generation,
            due_ms: Some(due_ms),
            begun_ms: due_ms,
            proven: false,
            down: false,
            successes: 0,
            failures: 0,
            silent: false,
            failing_since_ms: 0,
            vote: None,
        }
    }

    /// What was said of the target is that it is down.
    fn is_down(&self) -> bool {
        self.vote.as_ref().is_some_and(|vote| vote.outcome == Outcome::Down)
    }

    /// The same for a target that was down as `dead` is.
    fn after(self, dead: Option<Self>) -> Self {
        let Some(dead) = dead else { return self };
        let Self { target, generation, due_ms, begun_ms, .. } = self;
        Self { target, generation, due_ms, begun_ms, successes: 0, ..dead }
    }

    fn note(&mut self, now_ms: i64, ended: Ended) {
        let (rise, fall) = (self.target.check.rise.max(1), self.target.check.fall.max(1));
        let vote = self.vote.get_or_insert_default();
        vote.at_ms = now_ms;
        if ended.certificate_not_after.is_some() {
            vote.certificate_not_after = ended.certificate_not_after;
        }
        match ended.outcome {
            Ok(rtt_us) => {
                vote.rtt_us = rtt_us;
                vote.message.clear();
                self.failures = 0;
                self.successes = self.successes.saturating_add(1);
                // The first success ever is enough: there is nothing that it could contradict.
                self.down &= self.proven && self.successes < rise;
                self.proven = true;
            }
            Err(failure) => {
                if self.failures == 0 {
                    self.failing_since_ms = self.begun_ms;
                }
                self.successes = 0;
                self.failures = self.failures.saturating_add(1);
                self.silent = matches!(failure, Failure::Silence(_));
                // Who asks for one failure wants to know at once.
                let lasts = fall == 1 || !self.silent || self.begun_ms >= self.failing_since_ms + BLIP_MS;
                self.down |= self.failures >= fall && lasts;
                let (Failure::Silence(message) | Failure::Refusal(message)) = failure;
                vote.message = message;
            }
        }
    }

    /// When the next probe is due while nothing turns: between 0.9 and 1.1 of the interval after the last one was begun. `jitter` is of 0 to
    /// 2000.
    fn regular_ms(&self, jitter: u64) -> i64 {
        self.begun_ms + i64::from(self.target.check.interval_ms) * (9000 + jitter as i64) / 10_000
    }

    /// When a target that begins to fail is tried again: at once, but for the probe that may make it Down after silence.
    fn again_ms(&self, now_ms: i64) -> i64 {
        let decides = self.failures.saturating_add(1) >= self.target.check.fall.max(1);
        if self.silent && decides { now_ms.max(self.failing_since_ms + BLIP_MS) } else { now_ms }
    }
}
