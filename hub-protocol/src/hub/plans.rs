//! Contingency plans on their way to the agent.

use proto::v1::{self, hub_message::Message as Down};

use super::Session;
use crate::plans;

/// What the agent is to hold, and what it was told on this stream.
#[derive(Debug, Default)]
pub(super) struct Plans {
    wanted: Option<v1::Plans>,
    /// What it holds once it has taken in everything that was sent.
    told: Option<v1::Plans>,
    told_at: u64,
    /// Revision of what it did by plans that decisions have taken in.
    pub(super) adopted: u64,
}

impl Plans {
    pub(super) fn disconnected(&mut self) {
        self.told = None;
        self.told_at = 0;
    }

    /// The agent says which plans it holds. What is to be sent if it is not what it should be; while it may not have taken in what was sent,
    /// nothing.
    pub(super) fn held(&mut self, now: u64, held: (u64, u64), patience_ms: u64) -> Option<v1::Plans> {
        let wanted = self.wanted.as_ref()?;
        if held == (wanted.epoch, wanted.digest) {
            self.told = self.wanted.clone();
            return None;
        }
        if self.told.is_some() && now < self.told_at.saturating_add(patience_ms) {
            return None;
        }
        self.told = self.wanted.clone();
        self.told_at = now;
        self.wanted.clone()
    }

    fn set(&mut self, now: u64, wanted: v1::Plans) -> Option<v1::Plans> {
        if self.wanted.as_ref().is_some_and(|before| before.epoch >= wanted.epoch) {
            return None;
        }
        let change = self.told.as_ref().map(|told| plans::change(told, &wanted));
        self.wanted = Some(wanted);
        if change.is_some() {
            self.told = self.wanted.clone();
            self.told_at = now;
        }
        change
    }
}

impl Session {
    /// The contingency plans of this member, whole, with their digest and an epoch that is newer than that of the plans before. A connected
    /// agent is told what changed; one that holds others is told everything.
    pub fn set_plans(&mut self, now: u64, wanted: v1::Plans) {
        let change = self.plans.set(now, wanted);
        self.control.extend(change.map(Down::Plans));
    }

    /// Decisions have taken in what the agent did by plans, up to this revision, and their manifests were given to this session.
    pub fn set_adopted(&mut self, revision: u64) {
        self.plans.adopted = self.plans.adopted.max(revision);
    }
}
