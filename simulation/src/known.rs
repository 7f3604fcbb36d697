//! What the hub knew about ready pods when it made a decision: it cannot preserve what it cannot know.

use std::collections::{BTreeMap, BTreeSet};

use hub_protocol::Key;
use proto::v1::{self, agent_message::Message as Up, hub_message::Message as Down};
use serde_json::Value;

/// Manifests that are remembered of one copy: more than are ever under way.
const SENT: usize = 16;

/// By site and uid.
type Place = (usize, String);

/// What hubs know, one after the other: what an earlier one was told, a later one has to ask for.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Where some pod is ready.
    ready: BTreeSet<Place>,
    /// Of each manifest: epoch, generation, and whether some pod was known to be ready there.
    sent: BTreeMap<Place, Vec<(u64, i64, bool)>>,
}

impl Known {
    /// The hub hears something of an agent.
    pub(crate) fn hear(&mut self, site: usize, message: &v1::AgentMessage) {
        match &message.message {
            Some(Up::Status(status)) => self.hear_status(site, status),
            // What is gone has no pods, and a namesake's that are taken over later are others.
            Some(Up::Removed(removed)) => {
                self.ready.remove(&(site, removed.uid.clone()));
            }
            Some(Up::DigestReply(reply)) if !reply.equal => {
                let listed = |uid: &String| reply.items.iter().any(|item| item.uid == *uid);
                self.ready.retain(|(of, uid)| *of != site || listed(uid));
            }
            _ => {}
        }
    }

    fn hear_status(&mut self, site: usize, status: &v1::ObjectStatus) {
        let Ok(told) = serde_json::from_slice::<Value>(&status.status) else { return };
        let ready = told.get("readyReplicas").and_then(Value::as_u64).unwrap_or_default();
        let place = (site, status.uid.clone());
        if ready > 0 {
            self.ready.insert(place);
        } else {
            self.ready.remove(&place);
        }
    }

    /// The hub sends a manifest.
    pub(crate) fn say(&mut self, site: usize, message: &v1::HubMessage) {
        let Some(Down::Apply(apply)) = &message.message else { return };
        if apply.key.clone().is_none_or(|key| Key::from(key).resource != "deployments") {
            return;
        }
        let place = (site, apply.uid.clone());
        let known = self.ready.contains(&place);
        let sent = self.sent.entry(place).or_default();
        if sent.len() >= SENT {
            sent.remove(0);
        }
        sent.push((apply.epoch, apply.generation, known));
    }

    /// Whether some pod of a copy was known to be ready when the manifest that it holds was sent.
    pub(crate) fn knew(&self, site: usize, uid: &str, epoch: u64, generation: i64) -> bool {
        let sent = self.sent.get(&(site, uid.to_owned()));
        let of = |(of_epoch, of_generation, _): &&(u64, i64, bool)| {
            (*of_epoch, *of_generation) == (epoch, generation)
        };
        sent.and_then(|sent| sent.iter().rev().find(of)).is_none_or(|(.., known)| *known)
    }
}
