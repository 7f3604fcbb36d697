//! The agent's side: its disk, and the member that it changes.

use std::collections::{BTreeMap, VecDeque};

use hub_protocol::Key;
use hub_protocol::agent::{self, Action, Entry, Outcome, Persist};
use proto::v1::{self, ApplyResult, RemoveResult};
use rand::RngExt as _;

use super::{Copy, World};

#[derive(Default)]
pub(super) struct Disk {
    pub(super) entries: BTreeMap<Key, Entry>,
    pub(super) epoch: u64,
    pub(super) incarnation: String,
}

pub(super) fn session(now: u64, desired: agent::Desired) -> agent::Session {
    let config = agent::Config {
        lost_after: 3,
        greeting_ms: 2_000,
        backoff_cap_ms: 2_000,
        ..agent::Config::default()
    };
    agent::Session::new(now, config, desired)
}

impl World {
    pub(super) fn restart_agent(&mut self) {
        self.restarts += 1;
        self.break_stream("the agent restarts");
        self.jobs.clear();
        let desired = agent::Desired::load(
            self.disk.epoch,
            self.disk.incarnation.clone(),
            self.disk.entries.values().cloned(),
        );
        self.agent = session(self.now, desired);
        self.probed.clear();
        self.vote();
    }

    /// The agent's prober has news.
    pub(super) fn vote(&mut self) {
        self.voted += 1;
        let cluster = self.probed.first().map(|probe| probe.cluster.clone()).unwrap_or_default();
        let vote = v1::ProbeVote { cluster, failures: self.voted, ..v1::ProbeVote::default() };
        self.agent.set_votes(self.now, vec![vote]);
    }

    pub(super) fn act(&mut self) {
        while let Some(action) = self.agent.poll_action() {
            match action {
                Action::Connect => self.connecting_at = Some(self.now + self.random.random_range(0..300)),
                Action::Disconnect { .. } => {
                    let was = self.connected;
                    self.break_stream("the agent gives the stream up");
                    if !was {
                        let random = self.random.random();
                        self.agent.disconnected(self.now, random);
                    }
                }
                Action::Persist(Persist::Put(entry)) => {
                    self.disk.entries.insert(entry.key.clone(), entry);
                }
                Action::Persist(Persist::Forget(key)) => {
                    self.disk.entries.remove(&key);
                }
                Action::Persist(Persist::Meta { epoch, incarnation }) => {
                    self.disk.epoch = epoch;
                    self.disk.incarnation = incarnation;
                }
                Action::Apply(Entry { ref key, .. })
                | Action::Delete { ref key, .. }
                | Action::Unmark { ref key, .. } => {
                    let (key, at) = (key.clone(), self.now + self.random.random_range(0..400));
                    self.jobs.entry(key).or_default().push_back((at, action));
                }
                Action::Probe(probes) => self.probed = probes,
                // What an agent does while the hub is away has tests of its own.
                Action::Persist(Persist::Plans(_))
                | Action::Look(_)
                | Action::Meet { .. }
                | Action::Agreed(_)
                | Action::Acted { .. }
                | Action::PostEvent { .. }
                | Action::Freeze { .. }
                | Action::Thaw
                | Action::Void { .. }
                | Action::Isolate { .. }
                | Action::Rejoin { .. } => {}
            }
        }
    }

    pub(super) fn carry_out(&mut self) -> Result<(), String> {
        let keys: Vec<Key> = self.jobs.keys().cloned().collect();
        for key in keys {
            while let Some((at, action)) = self.jobs.get_mut(&key).and_then(VecDeque::pop_front) {
                let fails = !self.calm && self.chance(100);
                if at > self.now || fails {
                    self.jobs.get_mut(&key).unwrap().push_front((at.max(self.now), action));
                    break;
                }
                self.perform(action)?;
            }
        }
        Ok(())
    }

    fn perform(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::Apply(entry) => {
                // Now and then the member says no: a quota is full, a kind is not installed yet. Not to the successor of a copy of another
                // uid: the template's finalizer keeps a name from being used again while such a copy stands, and this world has none.
                let other = self.member.get(&entry.key).is_some_and(|copy| copy.uid != entry.uid);
                let refused = !self.calm && !other && self.chance(200);
                let result = if refused { ApplyResult::Refused } else { ApplyResult::Applied };
                let copy = Copy { uid: entry.uid.clone(), epoch: entry.epoch, generation: entry.generation };
                if !refused {
                    self.write(&entry.key, copy)?;
                }
                self.agent.applied(
                    self.now,
                    v1::Applied {
                        key: Some((&entry.key).into()),
                        uid: entry.uid,
                        generation: entry.generation,
                        epoch: entry.epoch,
                        result: result.into(),
                        ..v1::Applied::default()
                    },
                );
            }
            Action::Delete { key, uid, epoch } => {
                // As the executor does: only the very copy.
                if self.member.get(&key).is_some_and(|copy| copy.uid == uid) {
                    self.check_removal(&key, &uid, epoch)?;
                    self.member.remove(&key);
                    self.removed += 1;
                    self.note(format!("member deletes {key}"));
                }
                let outcome = Outcome { result: RemoveResult::Removed, message: String::new() };
                self.agent.withdrawn(&key, &uid, epoch, outcome);
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn write(&mut self, key: &Key, copy: Copy) -> Result<(), String> {
        self.applied += 1;
        self.note(format!("member applies {key} {copy:?}"));
        if let Some(old) = self.member.get(key) {
            let older = if old.uid == copy.uid {
                (copy.epoch, copy.generation) < (old.epoch, old.generation)
            } else {
                copy.epoch < old.epoch
            };
            if older {
                return Err(format!("{key}: older {copy:?} was applied over {old:?}"));
            }
        }
        self.member.insert(key.clone(), copy);
        Ok(())
    }

    pub(super) fn check_removal(&self, key: &Key, uid: &str, epoch: u64) -> Result<(), String> {
        if self.permitted.contains(&(uid.to_owned(), epoch)) {
            Ok(())
        } else {
            Err(format!("{key}: uid {uid} was removed at epoch {epoch} without a permit"))
        }
    }
}
