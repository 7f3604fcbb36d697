//! Invariants that are checked at every step, and the history they need.
//!
//! Nothing here asks the parts why they did something: what users asked for, and what was sent, is noted as it happens, and what members
//! and DNS servers do is held against that.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use hub_protocol::Key;
use hub_protocol::agent::Entry;

use crate::member::Copy;

/// Lines of the trace that are kept.
const TRACE: usize = 4000;

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// The checks.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    /// Whether notes are kept.
    pub(crate) verbose: bool,
    /// Agents may die between two writes; not where a lease counts on them.
    pub(crate) may_kill_agents: bool,
    trace: VecDeque<String>,
    /// Removals that the hub sent with a permit: cluster, uid, epoch.
    permits: BTreeSet<(String, String, u64)>,
    /// Templates whose users asked for the copies to go.
    deleted: BTreeSet<String>,
    /// Templates of which copies went in this step because their users deleted them, or were released to the members' own users, who take them
    /// away at once.
    given_up: BTreeSet<String>,
    /// Clusters that a policy left out at some time.
    excluded: BTreeSet<String>,
    /// Newest (epoch, generation) that was applied, by cluster and object.
    newest: BTreeMap<(String, Key), (String, u64, i64)>,
    /// Newest epoch that a DNS server served in its life.
    served: BTreeMap<String, u64>,
    /// Whether a DNS server ever answered.
    answered: BTreeSet<String>,
    /// Nothing may move; the newest epoch when that began.
    pub(crate) frozen: Option<u64>,
}

impl Checks {
    pub(crate) fn new(verbose: bool, may_kill_agents: bool) -> Self {
        Self { verbose, may_kill_agents, ..Self::default() }
    }

    pub(crate) fn note(&mut self, now: u64, text: impl FnOnce() -> String) {
        if self.verbose {
            if self.trace.len() >= TRACE {
                self.trace.pop_front();
            }
            self.trace.push_back(format!("{now:>7} {}", text()));
        }
    }

    pub(crate) fn trace(&self) -> String {
        self.trace.iter().cloned().collect::<Vec<_>>().join("\n")
    }

    /// A user deleted a template and asked for its copies to go.
    pub(crate) fn user_deletes(&mut self, uid: &str) {
        self.deleted.insert(uid.to_owned());
    }

    /// A step begins.
    pub(crate) fn begin_step(&mut self) {
        self.given_up.clear();
    }

    /// A copy is released: what becomes of it is no doing of the federation's.
    pub(crate) fn releases(&mut self, now: u64, cluster: &str, key: &Key, uid: &str) {
        self.note(now, || format!("{cluster}: {key} {uid} is released"));
        self.given_up.insert(uid.to_owned());
    }

    /// A policy leaves a cluster out.
    pub(crate) fn policy_excludes(&mut self, cluster: &str) {
        self.excluded.insert(cluster.to_owned());
    }

    /// The hub sends a removal. Each has an epoch of its own: one of a later epoch was permitted since.
    pub(crate) fn permits(&mut self, cluster: &str, uid: &str, epoch: u64) -> Result<(), Violation> {
        let new = self.permits.insert((cluster.to_owned(), uid.to_owned(), epoch));
        match self.frozen {
            Some(at) if new && epoch > at => Err(Violation(format!(
                "{cluster}: the removal of uid {uid} is permitted at epoch {epoch}, and nothing may move since {at}"
            ))),
            _ => Ok(()),
        }
    }

    /// The last ready pods of a workload go. What its users asked for in the time before the store was restored may still be carried out; all else
    /// is to be kept, also of a template that is back.
    pub(crate) fn last_ready_goes(&self, uid: &str, pods: usize) -> Result<(), Violation> {
        if self.given_up.contains(uid) {
            return Ok(());
        }
        Err(Violation(format!("the last of {pods} ready pods of uid {uid} went before others were ready")))
    }

    /// A member is about to lose a copy.
    pub(crate) fn removes(
        &mut self,
        now: u64,
        cluster: &str,
        key: &Key,
        uid: &str,
        epoch: u64,
    ) -> Result<(), Violation> {
        self.note(now, || format!("{cluster}: {key} {uid} is removed at epoch {epoch}"));
        if !self.permits.contains(&(cluster.to_owned(), uid.to_owned(), epoch)) {
            return Err(Violation(format!(
                "{cluster}: {key} of uid {uid} is removed at epoch {epoch} without a permit"
            )));
        }
        if !self.deleted.contains(uid) && !self.excluded.contains(cluster) {
            return Err(Violation(format!(
                "{cluster}: {key} of uid {uid} is removed, and nobody asked for that"
            )));
        }
        if self.deleted.contains(uid) {
            self.given_up.insert(uid.to_owned());
        }
        Ok(())
    }

    /// A member is about to take a manifest.
    pub(crate) fn applies(
        &mut self,
        now: u64,
        cluster: &str,
        held: Option<&Copy>,
        entry: &Entry,
    ) -> Result<(), Violation> {
        self.note(now, || {
            let (uid, epoch, stopped) =
                (&entry.uid, entry.epoch, if entry.stopped { ", stopped" } else { "" });
            let text = String::from_utf8_lossy(&entry.manifest);
            let spec = text.split("\"replicas\":").nth(1).and_then(|rest| rest.split([',', '}']).next());
            let replicas = spec.map(|spec| format!(", {spec} replicas")).unwrap_or_default();
            format!(
                "{cluster}: {} {uid} epoch {epoch} generation {}{replicas}{stopped} is applied",
                entry.key, entry.generation
            )
        });
        let place = (cluster.to_owned(), entry.key.clone());
        let known = self.newest.get(&place).cloned();
        if let Some((uid, epoch, generation)) = known {
            let older = if uid == entry.uid {
                (entry.epoch, entry.generation) < (epoch, generation)
            } else {
                // Generations of different templates do not compare.
                entry.epoch < epoch
            };
            // What is gone is nobody's any more: a store that was restored may bring it back.
            if older && held.is_some() {
                return Err(Violation(format!(
                    "{cluster}: {} of an older epoch is applied: {} generation {} of uid {} over {epoch} generation {generation} of uid {uid}",
                    entry.key, entry.epoch, entry.generation, entry.uid
                )));
            }
        }
        self.newest.insert(place, (entry.uid.clone(), entry.epoch, entry.generation));
        Ok(())
    }

    /// A DNS server starts: what it serves may be what was on its disk.
    pub(crate) fn server_starts(&mut self, server: &str) {
        self.served.remove(server);
    }

    /// A DNS server lost what it wrote last: that may have been the first answers that it had.
    pub(crate) fn server_forgets(&mut self, server: usize) {
        self.answered.remove(&format!("d{server}"));
    }

    /// What a DNS server serves.
    pub(crate) fn serves(&mut self, server: &str, epoch: u64) -> Result<(), Violation> {
        let newest = self.served.entry(server.to_owned()).or_default();
        if epoch < *newest {
            return Err(Violation(format!(
                "{server}: zones of the older epoch {epoch} are served after {newest}"
            )));
        }
        *newest = epoch;
        Ok(())
    }

    /// A user asks a DNS server for a name that nobody took away.
    pub(crate) fn answers(&mut self, server: &str, addresses: usize) -> Result<(), Violation> {
        if addresses > 0 {
            self.answered.insert(server.to_owned());
        } else if self.answered.contains(server) {
            return Err(Violation(format!(
                "{server}: a user gets an empty answer, and got one that was not before"
            )));
        }
        Ok(())
    }
}
