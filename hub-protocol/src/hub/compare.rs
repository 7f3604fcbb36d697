//! Anti-entropy: heartbeats carry the digest of what the agent holds, and where it differs the tables are compared.

use proto::v1::{self, hub_message::Message as Down};

use super::{Event, Link, Sent, Session, enqueue};
use crate::{Digest, Key, item_hash};

/// Items that nobody wants and that are remembered of one agent. Twice what the largest clusters hold in all (kubernetes.io, "Considerations
/// for large clusters": 150,000 pods); each takes a few hundred octets.
const UNKNOWN_MAX: usize = 300_000;
/// Strays that are told by name.
const STRAYS_NAMED: usize = 10;

impl Session {
    pub(super) fn greet(&mut self, now: u64, hello: v1::Hello) {
        self.control.push_back(Down::Welcome(v1::Welcome {
            session: hello.session.clone(),
            hub: self.config.hub.clone(),
            incarnation: self.config.incarnation.clone(),
            epoch: self.epoch,
            heartbeat_ms: self.config.heartbeat_ms,
        }));
        self.ask(now);
        // Also when there is nothing to probe: the agent may still hold an earlier hub's list.
        self.control.push_back(Down::Probes(v1::Probes { probes: self.probes.clone() }));
        let held = (hello.plans_epoch, hello.plans_digest);
        self.control.extend(self.plans.held(now, held, self.config.digest_interval_ms).map(Down::Plans));
        if hello.acted.is_some() {
            // Its count may have begun anew, with another disk.
            self.plans.adopted = 0;
        }
        self.events.push_back(Event::Connected(hello));
        let lapsed = self.removals.iter().filter(|(_, removal)| removal.lapsed);
        let asked = lapsed.map(|(key, removal)| Event::Lapsed { key: key.clone(), uid: removal.uid.clone() });
        self.events.extend(asked);
    }

    fn ask(&mut self, now: u64) {
        self.asked_at = Some(now);
        if self.link == Link::Greeting {
            self.link = Link::Comparing { asked: self.changes, begun: false };
        }
        self.control.retain(|message| !matches!(message, Down::Digest(_)));
        self.control.push_back(Down::Digest(v1::Digest {
            digest: self.digest.sum,
            objects: self.digest.objects,
            epoch: self.epoch,
        }));
    }

    pub(super) fn beat(&mut self, now: u64, heartbeat: v1::Heartbeat) {
        let theirs = Digest { sum: heartbeat.digest, objects: heartbeat.objects };
        // Before the controller has given everything, an object that moved away may be missing in both tables.
        let current = self.complete && (theirs == self.digest || self.explained(theirs));
        if current {
            self.leased_at = Some(now);
        }
        // The newest acknowledges those before it: an agent that does not read makes the queue no longer.
        self.control.retain(|message| !matches!(message, Down::HeartbeatAck(_)));
        self.control.push_back(Down::HeartbeatAck(v1::HeartbeatAck {
            sequence: heartbeat.sequence,
            epoch: self.epoch,
            current,
            adopted: self.plans.adopted,
            permits_from: self.permits_from,
        }));
        let held = (heartbeat.plans_epoch, heartbeat.plans_digest);
        self.control.extend(self.plans.held(now, held, self.config.digest_interval_ms).map(Down::Plans));
        let quiet = self.complete
            && self.link == Link::Up
            && self.in_flight == 0
            && self.first.is_empty()
            && self.then.is_empty()
            // What waits for a permit may wait for long.
            && self.removals.values().all(|removal| removal.lapsed);
        let rested = self.asked_at.is_none_or(|at| now >= at + self.config.digest_interval_ms);
        if quiet && rested && theirs != self.digest && !self.explained(theirs) {
            self.events.push_back(Event::Mismatch { ours: self.digest, theirs });
            self.link = Link::Comparing { asked: self.changes, begun: false };
            self.ask(now);
        }
        self.recount_strays();
        self.events.push_back(Event::Heartbeat(heartbeat));
    }

    /// Whether known strays account for the difference.
    fn explained(&self, theirs: Digest) -> bool {
        let mut with_strays = self.digest;
        for item in self.unknown.values() {
            with_strays.add(item_hash(&item.uid, item.generation, item.hash));
        }
        with_strays == theirs
    }

    /// Takes in an answer, or a page of one.
    pub(super) fn compare(&mut self, reply: v1::DigestReply) {
        let Link::Comparing { asked, begun } = self.link else {
            self.events.push_back(Event::Violation("an answer to no question"));
            return;
        };
        if !begun {
            self.unknown.clear();
            // Nothing is under way while tables are compared.
            self.table.values_mut().for_each(|entry| entry.absent = !reply.equal);
            let (from, to) = if reply.equal { (None, Sent::Held) } else { (Some(Sent::Held), Sent::No) };
            for entry in self.table.values_mut().filter(|entry| entry.changed <= asked) {
                if from.is_none_or(|from| entry.sent == from) {
                    entry.sent = to;
                }
                entry.theirs = None;
            }
        }
        if !reply.equal {
            self.take_items(reply.items);
            if reply.more {
                self.link = Link::Comparing { asked, begun: true };
                return;
            }
        }
        self.link = Link::Up;
        self.told = true;
        self.first.clear();
        self.then.clear();
        for (key, entry) in &self.table {
            if entry.sent == Sent::No {
                enqueue(&mut self.first, &mut self.then, key);
            }
        }
        self.report_strays();
        self.report_unlisted();
    }

    /// Tells which copies that are to be removed the agent does not hold.
    fn report_unlisted(&mut self) {
        let lapsed = self.removals.iter().filter(|(_, removal)| removal.lapsed);
        let unlisted = lapsed.filter(|(key, removal)| self.may_be_gone(key, &removal.uid));
        let unlisted = unlisted.map(|(key, removal)| (key.clone(), removal.uid.clone()));
        let events: Vec<Event> = unlisted.map(|(key, uid)| Event::Unlisted { key, uid }).collect();
        self.events.extend(events);
    }

    fn take_items(&mut self, items: Vec<v1::digest_reply::Item>) {
        for item in items {
            let Some(key) = item.key.clone().map(Key::from) else { continue };
            if let Some(entry) = self.table.get_mut(&key) {
                entry.absent = false;
                let same = item.uid == entry.desired.uid
                    && item.generation == entry.desired.generation
                    && item.hash == entry.hash;
                if !same {
                    entry.theirs = Some(item);
                } else if entry.sent == Sent::No {
                    entry.sent = Sent::Held;
                }
            } else if self.removals.get(&key).is_none_or(|removal| removal.lapsed) {
                if self.unknown.len() >= UNKNOWN_MAX {
                    self.events.push_back(Event::Violation("more objects than a member holds"));
                    return;
                }
                self.unknown.insert(key, item);
            }
        }
    }

    /// Whether what the agent holds, and is not in the table, is neither to go nor an older copy of what no message holds.
    fn is_stray(&self, key: &Key) -> bool {
        !self.removals.contains_key(key) && !self.too_large.contains_key(key)
    }

    /// Tells what the agent holds besides, after a comparison.
    pub(super) fn report_strays(&mut self) {
        if !self.complete || self.link != Link::Up {
            return;
        }
        let strays = self.unknown.iter().filter(|(key, _)| self.is_stray(key));
        let some: Vec<_> = strays.clone().take(STRAYS_NAMED).map(|(_, item)| item.clone()).collect();
        let count = strays.count();
        if count > 0 || self.strays > 0 {
            self.strays = count;
            self.events.push_back(Event::Strays { count, some });
        }
    }

    /// Tells it again if some of that is wanted since.
    fn recount_strays(&mut self) {
        if self.strays > 0 {
            let strays = self.unknown.keys().filter(|key| self.is_stray(key));
            if strays.count() != self.strays {
                self.report_strays();
            }
        }
    }
}
