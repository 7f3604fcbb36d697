//! Acting on contingency plans while the hub is away: the agent's half.
//!
//! The agent meets the other voters at the DNS servers of the council, more often once it hears the hub no more. When they agree (see
//! [`agreement`](crate::agreement)) that the hub is away and that other clusters have been lost for long enough, it runs as many replicas as
//! the plan of that loss gives it: a floor under what the manifests say. It never runs less by a plan, and never acts on what may run in one
//! cluster at a time. Floors stand, over restarts too, until the hub says that its decisions have taken them in.

use std::collections::{BTreeMap, BTreeSet};

use proto::v1;

use super::Desired;
use super::desired::State;
use crate::Key;
use crate::agreement::{self, Agreement, Heard, WORD_LIFE_MS};
use crate::plans;
use crate::sight::Sight;

/// Between two meetings while the hub is heard, milliseconds: three of them are a word's life.
const MEET_MS: u64 = 4_000;
/// Between two meetings while it is not.
const MEET_SOON_MS: u64 = 1_000;
/// Words that are kept: more voters than a federation has.
const WORDS_MAX: usize = 512;

/// The agent's half.
#[derive(Debug)]
pub(super) struct Survivors {
    cluster: String,
    kept: v1::KeptPlans,
    sight: Sight,
    words: BTreeMap<String, Heard>,
    /// By instance: when its words were last taken.
    met: BTreeMap<String, u64>,
    hub_heard_at: u64,
    meet_at: u64,
    last: Option<Agreement>,
}

/// Floors that were raised by one act.
#[derive(Debug, PartialEq)]
pub(super) struct Act {
    /// By object: at least so many replicas.
    pub(super) floors: Vec<(Key, u32)>,
    /// For the log.
    pub(super) reason: String,
}

impl Survivors {
    pub(super) fn new(now: u64, cluster: String, kept: v1::KeptPlans) -> Self {
        Self {
            cluster,
            kept,
            sight: Sight::default(),
            words: BTreeMap::new(),
            met: BTreeMap::new(),
            hub_heard_at: now,
            meet_at: now,
            last: None,
        }
    }

    /// What belongs on the disk.
    pub(super) fn kept(&self) -> &v1::KeptPlans {
        &self.kept
    }

    /// Epoch and digest of the plans.
    pub(super) fn held(&self) -> (u64, u64) {
        self.kept.plans.as_ref().map(|plans| (plans.epoch, plans.digest)).unwrap_or_default()
    }

    /// What was done by plans, and is not taken in.
    pub(super) fn acted(&self) -> Option<&v1::Acted> {
        self.kept.acted.as_ref()
    }

    /// At least so many replicas of an object; 0 if no plan says so.
    pub(super) fn floor(&self, key: &Key, uid: &str) -> u32 {
        let raised = self.acted().into_iter().flat_map(|acted| &acted.raised);
        raised
            .filter(|raised| {
                raised.uid == uid && raised.key.as_ref().is_some_and(|of| Key::from(of.clone()) == *key)
            })
            .map(|raised| raised.replicas)
            .max()
            .unwrap_or(0)
    }

    pub(super) fn hear_hub(&mut self, now: u64) {
        self.hub_heard_at = now;
        self.last = None;
    }

    pub(super) fn see(&mut self, now: u64, votes: &[v1::ProbeVote]) {
        self.sight.note(now, votes);
    }

    /// Takes plans in; whether they are new. Those that do not fit are dropped: the digest in the next heartbeat says so.
    pub(super) fn offer(&mut self, told: v1::Plans) -> bool {
        let held = self.kept.plans.as_ref();
        if held.is_some_and(|held| told.epoch < held.epoch && told.base != 0) {
            return false;
        }
        match plans::apply(held, told) {
            Ok(plans) => {
                self.kept.plans = Some(plans);
                true
            }
            Err(plans::Unfit) => false,
        }
    }

    /// The hub's decisions have taken in what was done; the objects whose floors are gone.
    pub(super) fn adopted(&mut self, revision: u64) -> Vec<Key> {
        if self.acted().is_none_or(|acted| acted.revision > revision) {
            return Vec::new();
        }
        let acted = self.kept.acted.take().unwrap_or_default();
        acted.raised.into_iter().filter_map(|raised| raised.key.map(Key::from)).collect()
    }

    /// Where to meet now, and what to say there.
    pub(super) fn meet(&mut self, now: u64) -> Option<(v1::Word, Vec<v1::MeetingPoint>)> {
        let servers = self.council().map(|council| council.servers.clone()).unwrap_or_default();
        if now < self.meet_at || servers.is_empty() {
            return None;
        }
        self.meet_at = now + if self.is_silent(now, 2) { MEET_SOON_MS } else { MEET_MS };
        Some((self.word(now), servers))
    }

    /// When [`Self::meet`] is next to be asked.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.council().filter(|council| !council.servers.is_empty()).map(|_| self.meet_at)
    }

    /// Words that were taken from a server.
    pub(super) fn met(&mut self, now: u64, instance: &str, words: Vec<v1::Word>) {
        self.met.retain(|_, at| now.saturating_sub(*at) < WORD_LIFE_MS);
        self.met.insert(instance.to_owned(), now);
        let council = self.council().cloned().unwrap_or_default();
        for word in words.into_iter().filter(|word| agreement::is_voter(&council, word)) {
            let at = now.saturating_sub(word.age_ms.into());
            let newer = self.words.get(&word.voter).is_none_or(|known| known.at <= at);
            if newer && (self.words.len() < WORDS_MAX || self.words.contains_key(&word.voter)) {
                self.words.insert(word.voter.clone(), Heard { at, word });
            }
        }
        self.words.retain(|_, heard| now.saturating_sub(heard.at) < WORD_LIFE_MS);
    }

    /// Servers whose words were taken lately.
    pub(super) fn meets(&self, now: u64) -> Vec<String> {
        let lately = self.met.iter().filter(|(_, at)| now.saturating_sub(**at) < WORD_LIFE_MS);
        lately.map(|(instance, _)| instance.clone()).collect()
    }

    /// What the survivors agree on, when that is another thing than before; for the log.
    pub(super) fn news(&mut self, now: u64) -> Option<Agreement> {
        let agreement = self.agreement(now)?;
        let other = match (&self.last, &agreement) {
            // How long it lasts is no news.
            (Some(Agreement::Lost(before)), Agreement::Lost(after)) => !before.keys().eq(after.keys()),
            (before, after) => before.as_ref() != Some(after),
        };
        self.last = Some(agreement.clone());
        other.then_some(agreement)
    }

    /// Raises floors where the survivors agree that it is time.
    pub(super) fn act(&mut self, now: u64, desired: &Desired) -> Option<Act> {
        let Agreement::Lost(lost) = self.agreement(now)? else { return None };
        // One that is lost itself, in the others' eyes, takes nothing over.
        if lost.is_empty() || lost.contains_key(&self.cluster) {
            return None;
        }
        let plans = self.kept.plans.as_ref()?;
        let (mut floors, mut losses, mut clusters) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        for loss in chosen(plans, &lost) {
            let for_ms = loss.clusters.iter().filter_map(|name| lost.get(name)).min().copied().unwrap_or(0);
            for take in loss.takes.iter().filter(|take| take.after_ms <= for_ms) {
                let Some(key) = take.key.clone().map(Key::from) else { continue };
                let may = |entry: &super::Entry| {
                    entry.state == State::Held && entry.uid == take.uid && entry.lease_ms == 0
                };
                if desired.get(&key).is_some_and(may) {
                    let floor = floors.entry(key).or_insert_with(|| (take.uid.clone(), take.from));
                    floor.1 = floor.1.saturating_add(take.to.saturating_sub(take.from));
                    losses.insert(loss.name.clone());
                    clusters.extend(loss.clusters.iter().cloned());
                }
            }
        }
        let epoch = plans.epoch;
        floors.retain(|key, (uid, floor)| *floor > self.floor(key, uid));
        if floors.is_empty() {
            return None;
        }
        let mut acted = self.kept.acted.take().unwrap_or_default();
        self.kept.revision += 1;
        acted.revision = self.kept.revision;
        acted.epoch = epoch;
        losses.extend(acted.losses);
        clusters.extend(acted.clusters);
        for (key, (uid, replicas)) in &floors {
            acted.raised.retain(|raised| raised.key.as_ref().is_none_or(|of| Key::from(of.clone()) != *key));
            acted.raised.push(v1::Raised { key: Some(key.into()), uid: uid.clone(), replicas: *replicas });
        }
        let reason = format!(
            "{}, by the plans of epoch {epoch}",
            losses.iter().cloned().collect::<Vec<_>>().join(" and ")
        );
        acted.losses = losses.into_iter().collect();
        acted.clusters = clusters.into_iter().collect();
        self.kept.acted = Some(acted);
        Some(Act { floors: floors.into_iter().map(|(key, (_, floor))| (key, floor)).collect(), reason })
    }

    /// What the words come to, once the hub has been silent here for long enough.
    fn agreement(&mut self, now: u64) -> Option<Agreement> {
        if !self.is_silent(now, 1) {
            return None;
        }
        let own = self.word(now);
        self.words.insert(own.voter.clone(), Heard { at: now, word: own });
        Some(agreement::agree(self.council()?, &self.words, now))
    }

    fn word(&self, now: u64) -> v1::Word {
        v1::Word {
            voter: agreement::agent(&self.cluster),
            hub_silent_ms: now.saturating_sub(self.hub_heard_at),
            seen: self.sight.seen(now),
            ..v1::Word::default()
        }
    }

    fn council(&self) -> Option<&v1::Council> {
        self.kept.plans.as_ref()?.council.as_ref()
    }

    /// Whether the hub was silent for that part of the time after which it is away.
    fn is_silent(&self, now: u64, part: u64) -> bool {
        self.council()
            .is_some_and(|council| now.saturating_sub(self.hub_heard_at) * part >= u64::from(council.away_ms))
    }
}

/// The plans that cover what is lost: the largest first, and no cluster twice.
fn chosen<'a>(plans: &'a v1::Plans, lost: &BTreeMap<String, u64>) -> Vec<&'a v1::LossPlan> {
    let mut fitting: Vec<&v1::LossPlan> = plans
        .losses
        .iter()
        .filter(|loss| !loss.clusters.is_empty() && loss.clusters.iter().all(|name| lost.contains_key(name)))
        .collect();
    fitting.sort_by(|a, b| b.clusters.len().cmp(&a.clusters.len()).then(a.name.cmp(&b.name)));
    let mut covered: BTreeSet<&str> = BTreeSet::new();
    fitting.retain(|loss| {
        let free = loss.clusters.iter().all(|name| !covered.contains(name.as_str()));
        if free {
            covered.extend(loss.clusters.iter().map(String::as_str));
        }
        free
    });
    fitting
}
