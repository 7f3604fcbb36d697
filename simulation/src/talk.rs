//! Messages between the hub, the agents and the DNS servers.

use std::collections::BTreeSet;

use proto::v1::{self, hub_message::Message as Down};

use crate::bug::{Bug, tamper, tamper_report, tamper_server, tamper_words};
use crate::check::Violation;
use crate::net::{Node, delay};
use crate::users;
use crate::world::World;

/// An agent's session is looked at for silence this often, milliseconds.
const LOOK_MS: u64 = 500;

impl World {
    /// What agents and DNS servers said arrives at the hub.
    pub(crate) fn listen(&mut self) {
        let now = self.now;
        let look = now >= self.look_at;
        if look {
            self.look_at = now + LOOK_MS;
        }
        for (index, site) in self.sites.iter_mut().enumerate() {
            let Some(machine) = self.hub.machine() else { continue };
            if site.link.hub_notices.is_some_and(|at| now >= at) {
                site.link.hub_notices = None;
                if let Some(stream) = site.link.hub.take() {
                    machine.agent_left(&site.name, stream);
                }
            }
            let open = self.net.is_open(Node::Site(index), Node::Hub, now);
            let mut lost = false;
            while site.link.hub.is_some()
                && let Some(mut message) = site.link.up.receive(now, open)
            {
                self.known.hear(index, &message);
                self.anew.hear(index, &message);
                if self.bug != Bug::None {
                    let replicas = |key: &v1::Key| site.member.copies.get(&key.clone().into())?.replicas();
                    tamper_report(self.bug, &mut message, replicas);
                }
                lost |= !machine.agent_said(&site.name, Some(message));
            }
            if look && site.link.hub.is_some() {
                lost |= !machine.agent_said(&site.name, None);
            }
            if lost {
                self.checks.note(now, || format!("hub: {} fell silent", site.name));
                if let Some(stream) = site.link.hub.take() {
                    machine.agent_left(&site.name, stream);
                }
                let after = self.dice.below(2_000);
                site.cut(now, after, 0);
            }
        }
        for (index, server) in self.servers.iter_mut().enumerate() {
            let open = self.net.is_open(Node::Server(index), Node::Hub, now);
            while let Some(stream) = &mut server.stream
                && let Some(message) = server.up.receive(now, open)
            {
                if let Some(message) = tamper_server(self.bug, message) {
                    stream.said(message);
                }
            }
        }
    }

    /// What the hub has to say.
    pub(crate) fn speak(&mut self) -> Result<(), Violation> {
        let now = self.now;
        let Some(machine) = self.hub.machine() else { return Ok(()) };
        for (index, site) in self.sites.iter_mut().enumerate().filter(|(_, site)| site.link.hub.is_some()) {
            while let Some(message) = machine.to_agent(&site.name) {
                self.known.say(index, &message);
                self.anew.say(index, &message);
                let Some(message) = tamper(self.bug, message) else { continue };
                if let Some(Down::Remove(remove)) = &message.message
                    && remove.permit.is_some()
                {
                    self.checks.permits(&site.name, &remove.uid, remove.epoch)?;
                }
                if !site.link.cut {
                    site.link.down.send(now + delay(&mut self.dice), message);
                }
            }
            if self.bug == Bug::GateIgnored
                && self.dice.chance(20)
                && let Some((key, copy)) = site.member.copies.iter().next()
            {
                let (epoch, uid) = (machine.epoch() + 1, copy.uid.clone());
                self.checks.permits(&site.name, &uid, epoch)?;
                let permit = Some(v1::Permit { epoch, ..v1::Permit::default() });
                let remove = v1::Remove { key: Some(key.into()), uid, epoch, permit };
                site.link.down.send(now, v1::HubMessage { message: Some(Down::Remove(remove)) });
            }
        }
        if let Some(given) = machine.addresses(&self.name.to_string()) {
            let stays = {
                let store = self.store.0.lock();
                &users::staying(&store, users::SERVICE) & &users::staying(&store, users::WEB)
            };
            let stays = self.sites.iter().filter(|site| stays.contains(&site.name));
            let stays: BTreeSet<&str> = stays.map(|site| site.address.as_str()).collect();
            self.anew.lead(given, &stays, |site| self.sites[site].address.clone())?;
        }
        for server in &mut self.servers {
            if let Some(stream) = &mut server.stream {
                while let Some(update) = stream.update() {
                    server.down.send(now + delay(&mut self.dice), update);
                }
            }
        }
        Ok(())
    }

    /// An agent meets others at the DNS servers, as far as it reaches them.
    pub(crate) fn meet(&mut self, index: usize) {
        let now = self.now;
        let site = &mut self.sites[index];
        let Some((word, points)) = site.meets.take() else { return };
        for point in points {
            let found = self.servers.iter().enumerate().find(|(_, server)| server.name == point.instance);
            let Some((number, server)) = found else { continue };
            if self.net.talk(Node::Site(index), Node::Server(number), now)
                && let Some(mut words) = server.meet(now, &site.name, word.clone())
            {
                tamper_words(self.bug, &mut words);
                site.words.send(now + 2 * delay(&mut self.dice), (point.instance, words));
            }
        }
    }

    /// An agent dials.
    pub(crate) fn connect(&mut self, index: usize) {
        let now = self.now;
        let site = &mut self.sites[index];
        if site.link.connecting_at.is_none_or(|at| now < at) {
            return;
        }
        let reached = self.net.talk(Node::Hub, Node::Site(index), now);
        match self.hub.machine().filter(|_| reached) {
            Some(machine) => {
                self.hub.clock.enter(now);
                let stream = machine.agent_connected(&site.name);
                // What the hub believed of an earlier stream ends with it.
                if let Some(earlier) = site.link.hub.take() {
                    machine.agent_left(&site.name, earlier);
                }
                self.checks.note(now, || format!("{}: connected", site.name));
                site.connected(now, stream);
            }
            None => site.disconnected(now, self.dice.roll()),
        }
    }
}
