//! Whether a world has converged: what users wrote, what was decided, what members run, and what DNS servers answer.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use crate::server::Server;
use crate::store::Store;
use crate::users::{self, SERVICE, SOLO, SOLO_REPLICAS};
use crate::world::{World, serves};

impl World {
    /// Why not everything agrees yet.
    pub(crate) fn disagreement(&self) -> Option<String> {
        let Some(machine) = self.hub.machine() else { return Some("the controller does not run".into()) };
        if !machine.is_idle() {
            return Some("the controller has work".into());
        }
        if let Some(frozen) = machine.frozen() {
            return Some(format!("frozen: {frozen}"));
        }
        for site in &self.sites {
            let name = &site.name;
            if !site.is_idle() {
                return Some(format!("{name}: its agent is not connected, or has work"));
            }
            if !machine.is_settled(name) {
                return Some(format!("{name}: the hub has something for it yet"));
            }
            if let Some(frozen) = site.frozen() {
                return Some(format!("{name}: removals are frozen: {frozen}"));
            }
            if site.disk.plans.acted.is_some() {
                return Some(format!("{name}: the hub has not taken in what its agent did by plans"));
            }
        }
        let store = self.store.0.lock();
        let mut placed: BTreeSet<(&str, &str)> = BTreeSet::new();
        for (path, object) in store.data.objects.iter().filter(|(path, _)| users::is_template(path)) {
            if let Some(why) = self.misplaced(&store, path, object, &mut placed) {
                return Some(format!("{path}: {why}"));
            }
        }
        if let Some(orphan) = store.data.objects.iter().find_map(|(path, placement)| {
            let uid = placement.pointer("/spec/template/uid").and_then(Value::as_str)?;
            let of =
                |object: &Arc<Value>| object.pointer("/metadata/uid").and_then(Value::as_str) == Some(uid);
            (path.contains("/placements/") && !store.data.objects.values().any(of)).then_some(path)
        }) {
            return Some(format!("{orphan} is of no template"));
        }
        // A store that was restored does not know of what was made since: those copies stay, as strays.
        if self.faults.restores == 0 {
            for site in &self.sites {
                if let Some((key, copy)) = site
                    .member
                    .copies
                    .iter()
                    .find(|(_, copy)| !placed.contains(&(site.name.as_str(), copy.uid.as_str())))
                {
                    return Some(format!("{}: {key} of uid {} is wanted by nobody", site.name, copy.uid));
                }
            }
        }
        drop(store);
        self.unserved()
    }

    /// What is not as its template and its placement say.
    fn misplaced<'s>(
        &'s self,
        store: &'s Store,
        path: &str,
        object: &'s Value,
        placed: &mut BTreeSet<(&'s str, &'s str)>,
    ) -> Option<String> {
        if store.is_deleting(path) {
            return Some("it is being deleted".into());
        }
        if users::is_local(object) {
            let is_placed = store.data.objects.contains_key(&users::placement_of(path));
            return is_placed.then(|| "it is local, and placed".into());
        }
        let uid = object.pointer("/metadata/uid")?.as_str()?;
        let Some(placement) = store.data.objects.get(&users::placement_of(path)) else {
            return Some("it is not placed".into());
        };
        let clusters = placement.pointer("/spec/clusters").and_then(Value::as_array);
        let mut replicas = 0;
        let mut seen = 0;
        for target in clusters.into_iter().flatten() {
            let name = target.get("name").and_then(Value::as_str).unwrap_or_default();
            if target.get("leaving").and_then(Value::as_bool) == Some(true) {
                return Some(format!("it leaves {name}"));
            }
            seen += 1;
            let site = self.sites.iter().find(|site| site.name == name)?;
            placed.insert((site.name.as_str(), uid));
            let Some(copy) = site.member.copies.values().find(|copy| copy.uid == uid) else {
                return Some(format!("{name} has no copy of uid {uid}"));
            };
            if users::wanted(&copy.body) != users::wanted(object) {
                return Some(format!(
                    "{name} holds {:?}, not {:?}",
                    users::wanted(&copy.body),
                    users::wanted(object)
                ));
            }
            let want = target.get("replicas").and_then(Value::as_i64);
            if copy.replicas() != want {
                return Some(format!("{name} holds {:?} replicas, not {want:?}", copy.replicas()));
            }
            if want.is_some() && !copy.is_up(self.now) {
                return Some(format!("{name}: not all replicas are ready"));
            }
            replicas += want.unwrap_or_default();
        }
        if seen == 0 {
            return Some("it is nowhere".into());
        }
        let whole =
            if path == SOLO { Some(SOLO_REPLICAS) } else { object.pointer("/spec/replicas")?.as_i64() };
        (path.contains("/deployments/") && Some(replicas) != whole)
            .then(|| format!("{replicas} replicas are placed, not {whole:?}"))
    }

    /// Who of the DNS servers does not answer as all should.
    fn unserved(&self) -> Option<String> {
        let newest = self.servers.iter().map(Server::epoch).max()?;
        let store = self.store.0.lock();
        let service = store.data.objects.get(SERVICE)?;
        let uid = service.pointer("/metadata/uid")?.as_str()?;
        let placed = users::placed(&store, SERVICE);
        let works: BTreeSet<&str> = self
            .sites
            .iter()
            .filter(|site| placed.contains(&site.name))
            .filter(|site| site.member.copies.values().any(|copy| copy.uid == uid) && serves(site, self.now))
            .map(|site| site.address.as_str())
            .collect();
        for server in &self.servers {
            if !server.is_connected() || server.epoch() != newest {
                return Some(format!("{}: it serves epoch {}, not {newest}", server.name, server.epoch()));
            }
            let answer = server.ask(&self.name, self.now).unwrap_or_default();
            if answer.is_empty() || !answer.iter().all(|address| works.contains(address.as_str())) {
                return Some(format!("{}: users get {answer:?}, and {works:?} work", server.name));
            }
        }
        None
    }
}
