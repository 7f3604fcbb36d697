//! A member cluster: copies, pods that take their time, and statuses that lag.

use std::collections::BTreeMap;

use hub_protocol::Key;
use member_agent::manifest::{self, Wanted};
use proto::v1::{ObjectStatus, ServiceState};
use serde_json::{Value, json};

use crate::dice::Dice;

/// What pods may take to end, milliseconds: what the templates say.
pub(crate) const GRACE_MS: u64 = 2_000;

#[derive(Clone, Copy, Debug)]
struct Pod {
    ready_at: u64,
    ends_at: Option<u64>,
}

/// One copy.
#[derive(Clone, Debug)]
pub(crate) struct Copy {
    pub(crate) uid: String,
    pub(crate) generation: i64,
    pub(crate) epoch: u64,
    /// As it was applied.
    pub(crate) body: Value,
    member_generation: i64,
    pods: Vec<Pod>,
    // When the member's own controllers look at it, if they have not since it changed.
    look_at: Option<u64>,
    observed: i64,
    told: Option<Counts>,
    /// A user of the member put it there: it is not the federation's.
    pub(crate) foreign: bool,
}

impl Copy {
    pub(crate) fn replicas(&self) -> Option<i64> {
        self.body.pointer("/spec/replicas").and_then(Value::as_i64)
    }

    /// Whether some pod of it may be at work.
    pub(crate) fn runs(&self, now: u64) -> bool {
        self.pods.iter().any(|pod| pod.ends_at.is_none_or(|end| now < end))
    }

    fn ready(&self, now: u64) -> usize {
        self.pods.iter().filter(|pod| pod.ends_at.is_none() && pod.ready_at <= now).count()
    }

    pub(crate) fn is_up(&self, now: u64) -> bool {
        self.replicas().is_some_and(|replicas| self.ready(now) as i64 == replicas && self.look_at.is_none())
    }

    fn evolve(&mut self, now: u64, dice: &mut Dice) {
        self.pods.retain(|pod| pod.ends_at.is_none_or(|end| now < end));
        if self.look_at.is_some_and(|at| now >= at) {
            self.look_at = None;
            self.observed = self.member_generation;
            let wanted = self.replicas().unwrap_or(0).max(0) as usize;
            let mut standing: Vec<&mut Pod> =
                self.pods.iter_mut().filter(|pod| pod.ends_at.is_none()).collect();
            // As the ReplicaSet controller ranks them: those that are not ready go first.
            standing.sort_by_key(|pod| pod.ready_at > now);
            for pod in standing.into_iter().skip(wanted) {
                pod.ends_at = Some(now + dice.between(0, GRACE_MS));
            }
            let have = self.pods.iter().filter(|pod| pod.ends_at.is_none()).count();
            for _ in have..wanted {
                self.pods.push(Pod { ready_at: now + dice.between(200, 2_000), ends_at: None });
            }
        }
    }

    fn counts(&self, now: u64) -> Counts {
        let replicas = self.pods.iter().filter(|pod| pod.ends_at.is_none()).count();
        Counts { observed: self.observed, replicas, ready: self.ready(now) }
    }
}

/// What a status says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    observed: i64,
    replicas: usize,
    ready: usize,
}

impl Counts {
    fn to_json(self) -> Value {
        json!({"observedGeneration": self.observed, "replicas": self.replicas, "readyReplicas": self.ready})
    }
}

/// The cluster.
#[derive(Debug, Default)]
pub(crate) struct Member {
    pub(crate) copies: BTreeMap<Key, Copy>,
    // Pods of copies that are gone.
    ending: Vec<(String, u64)>,
    told: BTreeMap<Key, ServiceState>,
}

impl Member {
    /// Applies what is wanted.
    pub(crate) fn apply(&mut self, now: u64, wanted: &Wanted, dice: &mut Dice) {
        let entry = &wanted.entry;
        let body = wanted.value().unwrap_or_default();
        let fresh = Copy {
            uid: String::new(),
            generation: 0,
            epoch: 0,
            body: Value::Null,
            member_generation: 0,
            pods: Vec::new(),
            look_at: None,
            observed: 0,
            told: None,
            foreign: false,
        };
        let copy = self.copies.entry(entry.key.clone()).or_insert(fresh);
        if copy.body.get("spec") != body.get("spec") {
            copy.member_generation += 1;
            copy.look_at = Some(now + dice.between(0, 400));
        }
        copy.uid.clone_from(&entry.uid);
        copy.generation = entry.generation;
        copy.epoch = entry.epoch;
        copy.body = body;
        copy.told = None;
    }

    /// Takes a copy away; its pods end.
    pub(crate) fn remove(&mut self, now: u64, key: &Key, dice: &mut Dice) {
        let Some(copy) = self.copies.remove(key) else { return };
        for pod in copy.pods {
            let end = pod.ends_at.unwrap_or_else(|| now + dice.between(0, GRACE_MS));
            self.ending.push((copy.uid.clone(), end));
        }
    }

    /// A user of the member puts something else where a copy was.
    pub(crate) fn usurp(&mut self, key: &Key) {
        if let Some(copy) = self.copies.get_mut(key) {
            copy.uid = "a stranger's".into();
            copy.body = Value::Null;
            copy.foreign = true;
        }
    }

    /// Users of the member take away what they put there.
    pub(crate) fn reclaim(&mut self) {
        self.copies.retain(|_, copy| !copy.foreign);
    }

    /// Whether pods of a template may be at work here.
    pub(crate) fn runs(&self, uid: &str, now: u64) -> bool {
        self.copies.values().any(|copy| copy.uid == uid && copy.runs(now))
            || self.ending.iter().any(|(of, end)| of == uid && now < *end)
    }

    /// Ready pods of a template.
    pub(crate) fn ready(&self, uid: &str, now: u64) -> usize {
        self.copies.values().filter(|copy| copy.uid == uid).map(|copy| copy.ready(now)).sum()
    }

    /// Ready pods behind a Service of this name.
    pub(crate) fn endpoints(&self, name: &str, now: u64) -> usize {
        let of = |key: &Key| key.resource == "deployments" && key.name == name;
        self.copies.iter().filter(|(key, _)| of(key)).map(|(_, copy)| copy.ready(now)).sum()
    }

    /// Time passes; statuses that are new.
    pub(crate) fn evolve(&mut self, now: u64, dice: &mut Dice) -> Vec<ObjectStatus> {
        self.ending.retain(|(_, end)| now < *end);
        let mut told = Vec::new();
        for (key, copy) in self.copies.iter_mut().filter(|(key, _)| key.resource == "deployments") {
            copy.evolve(now, dice);
            let counts = copy.counts(now);
            if copy.told != Some(counts) {
                told.push(ObjectStatus {
                    key: Some(key.into()),
                    uid: copy.uid.clone(),
                    generation: copy.generation,
                    member_generation: copy.member_generation,
                    status: counts.to_json().to_string().into(),
                    epoch: manifest::epoch(&copy.body),
                });
                copy.told = Some(counts);
            }
        }
        told
    }

    /// How Services are reached, where that is new.
    pub(crate) fn services(&mut self, now: u64, address: &str) -> Vec<ServiceState> {
        let mut states = Vec::new();
        for (key, copy) in self.copies.iter().filter(|(key, _)| key.resource == "services") {
            let ready = self.endpoints(&key.name, now) as u32;
            let epoch = manifest::epoch(&copy.body);
            let is_told = |known: &ServiceState| {
                (&known.uid, known.ready_endpoints, known.epoch) == (&copy.uid, ready, epoch)
            };
            if !self.told.get(key).is_some_and(is_told) {
                states.push(ServiceState {
                    key: Some(key.into()),
                    uid: copy.uid.clone(),
                    ready_endpoints: ready,
                    addresses: vec![address.to_owned()],
                    ports: [("http".to_owned(), 80)].into(),
                    epoch,
                    ..ServiceState::default()
                });
            }
        }
        for state in &states {
            self.told.insert(state.key.clone().unwrap_or_default().into(), state.clone());
        }
        let copies = &self.copies;
        self.told.retain(|key, known| {
            let there = copies.contains_key(key);
            if !there {
                states.push(ServiceState {
                    key: known.key.clone(),
                    uid: known.uid.clone(),
                    absent: true,
                    ..ServiceState::default()
                });
            }
            there
        });
        states
    }

    /// The agent that was told is gone: the next one is told everything.
    pub(crate) fn forget_told(&mut self) {
        self.told.clear();
        self.copies.values_mut().for_each(|copy| copy.told = None);
    }
}
