//! Invariants of the whole world that are checked at every step.

use crate::bug::Bug;
use crate::check::Violation;
use crate::users::{SOLO, WEB, WORKER};
use crate::world::World;

impl World {
    /// Names and uids of the workloads that may run anywhere, unless their users deleted them.
    pub(crate) fn workloads(&self) -> [(&'static str, Option<String>); 2] {
        let store = self.store.0.lock();
        [("web", WEB), ("worker", WORKER)].map(|(name, path)| {
            let workload = store.data.objects.get(path).filter(|_| !store.is_deleting(path));
            let uid = workload.and_then(|workload| workload.pointer("/metadata/uid")?.as_str());
            (name, uid.map(str::to_owned))
        })
    }

    /// An agent acted on its plans: only where more than half of all voters miss the hub.
    pub(crate) fn may_act(&self, index: usize) -> Result<(), Violation> {
        let agents = self.sites.iter().map(|site| &site.hearing);
        let voters = agents.chain(self.servers.iter().map(|server| &server.hearing));
        let missing = voters.filter(|voter| voter.missed_it(self.now)).count();
        let all = self.sites.len() + self.servers.len();
        if missing * 2 > all {
            return Ok(());
        }
        Err(Violation(format!(
            "{}: it acts on its plans, and of {all} voters {missing} miss the hub",
            self.sites[index].name
        )))
    }

    /// Ready pods of each workload that may run anywhere, by site.
    pub(crate) fn ready(&self, uid: Option<&str>) -> Vec<usize> {
        let Some(uid) = uid else { return Vec::new() };
        self.sites.iter().map(|site| site.member.ready(uid, self.now)).collect()
    }

    /// The last ready pods of a workload do not go before others are ready, as far as the hub knew of them: pods that became ready since are
    /// not missed. They do not fail by themselves. Those of a namesake count, too: a template that is back since the store was restored takes them
    /// over, one member after the other.
    pub(crate) fn stay_ready(&self, name: &str, uid: &str, before: &[usize]) -> Result<(), Violation> {
        let total: usize = before.iter().sum();
        if total == 0 || self.sites.iter().any(|site| site.member.endpoints(name, self.now) > 0) {
            return Ok(());
        }
        let missed = before.iter().enumerate().filter(|(_, ready)| **ready > 0).any(|(index, _)| {
            let copy = self.sites[index].member.copies.values().find(|copy| copy.uid == uid);
            copy.is_none_or(|copy| self.known.knew(index, uid, copy.epoch, copy.generation))
        });
        if missed { self.checks.last_ready_goes(uid, total) } else { Ok(()) }
    }

    /// Notes whether anything may move.
    pub(crate) fn watch_freeze(&mut self) {
        let Some(machine) = self.hub.machine() else {
            self.checks.frozen = None;
            return;
        };
        let reason = machine.frozen();
        let frozen = reason.is_some();
        if frozen != self.checks.frozen.is_some() {
            self.checks.note(self.now, || match reason {
                Some(reason) => format!("hub: frozen: {reason}"),
                None => "hub: not frozen any more".into(),
            });
        }
        if self.bug == Bug::FreezeIgnored {
            let dark = self.sites.iter().filter(|site| self.now < site.dark_until).count();
            if frozen {
                self.checks.frozen.get_or_insert_with(|| machine.epoch());
                machine.thaw();
            } else if dark * 2 <= self.sites.len() {
                self.checks.frozen = None;
            }
        } else if frozen {
            self.checks.frozen.get_or_insert_with(|| machine.epoch());
        } else {
            self.checks.frozen = None;
        }
    }

    /// What may run in one cluster at a time runs in one.
    pub(crate) fn one_at_a_time(&self) -> Result<(), Violation> {
        if !self.plan.exclusive {
            return Ok(());
        }
        let store = self.store.0.lock();
        let Some(uid) = store.data.objects.get(SOLO).and_then(|solo| solo.pointer("/metadata/uid")?.as_str())
        else {
            return Ok(());
        };
        let run: Vec<&str> = self
            .sites
            .iter()
            .filter(|site| site.member.runs(uid, self.now))
            .map(|site| site.name.as_str())
            .collect();
        if run.len() > 1 {
            return Err(Violation(format!(
                "solo may run in one cluster at a time, and runs in two clusters: {run:?}"
            )));
        }
        Ok(())
    }
}
