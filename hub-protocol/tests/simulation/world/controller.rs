//! The hub's side: a controller that decides, and forgets.

use bytes::Bytes;
use hub_protocol::{FENCED, Key, hub};
use proto::v1::{self, ConflictPolicy, RemoveResult};
use rand::RngExt as _;

use super::{Copy, World};

const OBJECTS: u64 = 6;

fn key(number: u64) -> Key {
    Key {
        version: "v1".into(),
        kind: "ConfigMap".into(),
        resource: "configmaps".into(),
        namespace: "n".into(),
        name: format!("o{number}"),
        ..Key::default()
    }
}

pub(super) fn session(incarnation: &str) -> hub::Session {
    hub::Session::new(hub::Config {
        incarnation: incarnation.into(),
        window: 2,
        digest_interval_ms: 1_000,
        silence_ms: 4_000,
        heartbeat_ms: 500,
        ..hub::Config::default()
    })
}

fn desired(key: &Key, copy: &Copy) -> hub::Desired {
    hub::Desired {
        key: key.clone(),
        uid: copy.uid.clone(),
        generation: copy.generation,
        epoch: copy.epoch,
        manifest: Bytes::from(format!("{{\"generation\":{}}}", copy.generation)),
        conflict: ConflictPolicy::Refuse,
        lease_ms: 0,
    }
}

impl World {
    pub(super) fn restart_hub(&mut self) {
        self.restarts += 1;
        self.break_stream("the hub restarts");
        self.hub = session(&self.incarnation);
        // It does not remember, but holds no permits either.
        self.froze_at = 0;
        self.hub_needs_reload = true;
    }

    /// The hub's store goes back to an older copy.
    pub(super) fn restore_hub(&mut self) {
        let Some((epoch, templates, removals)) = self.backup.clone() else { return };
        self.restart_hub();
        self.note("the hub's store is an older copy");
        self.epoch = epoch;
        self.templates = templates;
        self.removals = removals;
    }

    /// The controller decides something.
    pub(super) fn decide(&mut self) {
        if self.hub_needs_reload {
            if self.chance(200) {
                self.reload();
            }
            return;
        }
        if self.chance(30) {
            let cluster = format!("peer-{}", self.random.random_range(0..3));
            self.probes = vec![v1::Probe { cluster, ..v1::Probe::default() }];
            self.hub.set_probes(self.probes.clone());
        }
        if !self.chance(120) {
            return;
        }
        let key = key(self.random.random_range(0..OBJECTS));
        self.epoch += 1;
        self.serial += 1;
        match self.templates.get(&key).cloned() {
            None => {
                let copy = match self.removals.get(&key).map(|(uid, _)| uid.clone()) {
                    None => Copy { uid: format!("uid-{}", self.serial), epoch: self.epoch, generation: 1 },
                    Some(_) if self.chance(500) => return,
                    // It is wanted again before it is gone. No generation of it is as high as the number of all decisions.
                    Some(uid) => Copy { uid, epoch: self.epoch, generation: self.serial as i64 },
                };
                self.removals.remove(&key);
                self.want(&key, copy);
            }
            Some(copy) if self.chance(300) => self.remove(&key, copy.uid),
            Some(copy) => {
                self.want(&key, Copy { epoch: self.epoch, generation: copy.generation + 1, ..copy });
            }
        }
    }

    fn want(&mut self, key: &Key, copy: Copy) {
        self.note(format!("want {key} {copy:?}"));
        self.templates.insert(key.clone(), copy.clone());
        self.hub.set_desired(desired(key, &copy));
    }

    fn remove(&mut self, key: &Key, uid: String) {
        self.note(format!("remove {key} {uid} epoch {}", self.epoch));
        self.templates.remove(key);
        self.removals.insert(key.clone(), (uid.clone(), self.epoch));
        self.permitted.insert((uid.clone(), self.epoch));
        let permit = v1::Permit { id: "p".into(), epoch: self.epoch, reason: "deleted".into() };
        self.hub.request_removal(key.clone(), uid, self.epoch, permit);
    }

    pub(super) fn reload(&mut self) {
        self.hub_needs_reload = false;
        self.reload_templates();
        for (key, (uid, _)) in self.removals.clone() {
            self.epoch += 1;
            self.remove(&key, uid);
        }
        self.hub.desired_complete();
    }

    pub(super) fn reload_templates(&mut self) {
        self.hub.set_epoch(self.epoch);
        self.hub.set_probes(self.probes.clone());
        for (key, copy) in &self.templates {
            self.hub.set_desired(desired(key, copy));
        }
    }

    pub(super) fn learn(&mut self) -> Result<(), String> {
        while let Some(event) = self.hub.poll_event() {
            match event {
                hub::Event::Connected(hello) if hello.epoch > self.epoch => {
                    // Restored from an older copy: everything is decided anew with newer epochs.
                    self.note(format!("the hub is behind: epoch {} against {}", self.epoch, hello.epoch));
                    self.epoch = hello.epoch + 1;
                    for copy in self.templates.values_mut() {
                        self.epoch += 1;
                        copy.epoch = self.epoch;
                    }
                    if !self.hub_needs_reload {
                        self.reload();
                    }
                }
                hub::Event::Removed(removed) => {
                    let key = Key::from(removed.key.clone().unwrap());
                    self.note(format!("removed {key} {:?} {}", removed.result(), removed.message));
                    if removed.result() != RemoveResult::Refused {
                        self.removals.remove(&key);
                    } else if self.removals.get(&key).is_some_and(|(uid, _)| *uid == removed.uid) {
                        // Decided again, with a new permit.
                        self.epoch += 1;
                        self.remove(&key, removed.uid);
                    }
                }
                hub::Event::Lapsed { key, uid }
                    if self.removals.get(&key).is_some_and(|(wanted, _)| *wanted == uid) =>
                {
                    self.epoch += 1;
                    self.remove(&key, uid);
                }
                // The store was an older copy, but other decisions have overtaken the agent's epoch meanwhile.
                hub::Event::Applied(applied) if applied.reason == FENCED => {
                    let key = Key::from(applied.key.unwrap());
                    if let Some(copy) =
                        self.templates.get(&key).cloned().filter(|copy| copy.uid == applied.uid)
                    {
                        self.epoch += 1;
                        self.want(&key, Copy { epoch: self.epoch, ..copy });
                    }
                }
                hub::Event::Heartbeat(heartbeat) => {
                    let newest = heartbeat.votes.first().map_or(0, |vote| vote.failures);
                    if newest < self.heard {
                        return Err(format!("votes {newest} were heard after {}", self.heard));
                    }
                    self.heard = newest;
                }
                hub::Event::Lost { .. } => {
                    let was = self.connected;
                    self.break_stream("the hub gives the stream up");
                    debug_assert!(was);
                }
                _ => {}
            }
        }
        Ok(())
    }
}
