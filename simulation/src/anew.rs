//! Copies of the Service that were asked for, and what the hub has heard of them since: users are led to none that may be gone.

use std::collections::{BTreeMap, BTreeSet};

use hub_protocol::Key;
use proto::v1::{self, agent_message::Message as Up, hub_message::Message as Down};

use crate::check::Violation;

/// By site, whose copy was asked for: the epoch by which it was given anew, as long as nothing was heard of that one.
#[derive(Debug, Default)]
pub(crate) struct Anew {
    asked: BTreeMap<usize, Option<u64>>,
    /// Addresses that users may be given by this hub's newest zones; nothing before it has made any.
    given: Option<BTreeSet<String>>,
}

impl Anew {
    /// The hub says something to an agent.
    pub(crate) fn say(&mut self, site: usize, message: &v1::HubMessage) {
        match &message.message {
            Some(Down::Remove(v1::Remove { key, .. }) | Down::Release(v1::Release { key, .. }))
                if is_service(key.as_ref()) =>
            {
                self.asked.insert(site, None);
            }
            Some(Down::Apply(apply)) if is_service(apply.key.as_ref()) => {
                if let Some(given @ None) = self.asked.get_mut(&site) {
                    *given = Some(apply.epoch);
                }
            }
            _ => {}
        }
    }

    /// The hub hears something of an agent.
    pub(crate) fn hear(&mut self, site: usize, message: &v1::AgentMessage) {
        let Some(given) = self.asked.get(&site) else { return };
        let is_there = match &message.message {
            Some(Up::Service(state)) => given.is_some_and(|given| !state.absent && state.epoch >= given),
            // It was not asked for after all, or says so now.
            Some(Up::DigestReply(reply)) => {
                given.is_none() && reply.items.iter().any(|item| is_service(item.key.as_ref()))
            }
            _ => false,
        };
        if is_there {
            self.asked.remove(&site);
        }
    }

    /// The hub has made its zones: no user is newly sent to a copy that was asked for and of which nothing was heard since, if another serves that
    /// `stays`, by its address.
    pub(crate) fn lead(
        &mut self,
        now: BTreeSet<String>,
        stays: &BTreeSet<&str>,
        address: impl Fn(usize) -> String,
    ) -> Result<(), Violation> {
        let before = self.given.replace(now.clone());
        let Some(before) = before else { return Ok(()) };
        let newly = |site: &&usize| now.contains(&address(**site)) && !before.contains(&address(**site));
        let is_asked = |given: &String| self.asked.keys().any(|site| address(*site) == *given);
        let another = now.iter().any(|given| stays.contains(given.as_str()) && !is_asked(given));
        match self.asked.keys().find(newly).filter(|_| another) {
            Some(site) => Err(Violation(format!(
                "c{site}: users are sent to its copy of the Service, which was asked for and may be gone"
            ))),
            None => Ok(()),
        }
    }
}

fn is_service(key: Option<&v1::Key>) -> bool {
    key.is_some_and(|key| Key::from(key.clone()).resource == "services")
}
