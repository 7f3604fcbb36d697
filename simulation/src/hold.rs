//! What must hold of a world as a whole, at every step.

use crate::bug::Bug;
use crate::check::Violation;
use crate::users::{SOLO, WEB};
use crate::world::World;

impl World {
    /// Uid of the Deployment web, unless its user deleted it.
    pub(crate) fn web(&self) -> Option<String> {
        let store = self.store.0.lock();
        let web = store.data.objects.get(WEB).filter(|_| !store.is_deleting(WEB))?;
        web.pointer("/metadata/uid")?.as_str().map(str::to_owned)
    }

    pub(crate) fn ready(&self, uid: Option<&str>) -> usize {
        uid.map_or(0, |uid| self.sites.iter().map(|site| site.member.ready(uid, self.now)).sum())
    }

    /// Notes whether anything may move.
    pub(crate) fn watch_freeze(&mut self) {
        let Some(machine) = self.hub.machine() else {
            self.checks.frozen = None;
            return;
        };
        let frozen = machine.frozen().is_some();
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
