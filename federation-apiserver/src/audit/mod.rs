//! Audit: `audit.k8s.io/v1` Events of requests, as lines of JSON in a log, and in batches to a webhook.
//!
//! A [`Policy`] says for each request how much is recorded; the record then grows with the request, and each stage hands
//! one finished line to the log's queue. A request that is not recorded costs the walk over the policy's rules and no more.

mod body;
mod context;
mod event;
mod log;
mod policy;
mod rotate;
pub mod webhook;

use std::sync::Arc;

use apimachinery::rbac::Attributes;

pub(crate) use body::{names_in, until_end, value_of, whole};
pub(crate) use context::{AuditContext, RequestAttributes};
pub(crate) use event::Reference;
pub use log::{Log, LogError, Mode};
pub use policy::{Choice, Level, Policy, PolicyError, Stage};
pub use rotate::Rotation;
use webhook::Webhook;

use crate::auth::User;

/// What is recorded, and where.
pub struct Audit {
    policy: Policy,
    log: Option<Arc<Log>>,
    webhook: Option<Webhook>,
}

impl Audit {
    /// Records by a policy.
    pub fn new(policy: Policy, log: Option<Log>, webhook: Option<Webhook>) -> Arc<Self> {
        Arc::new(Self { policy, log: log.map(Arc::new), webhook })
    }

    /// Hands an event to all that take events, and waits for those that must not lose any.
    async fn send(&self, line: Vec<u8>) {
        if let Some(webhook) = &self.webhook {
            webhook.send(&line).await;
        }
        if let Some(log) = &self.log {
            log.send(line).await;
        }
    }

    /// The same from where nothing can wait.
    fn send_detached(&self, line: Vec<u8>) {
        if let Some(webhook) = &self.webhook {
            webhook.send_detached(&line);
        }
        if let Some(log) = &self.log {
            log.send_detached(line);
        }
    }

    /// Events that did not reach the log, or not the webhook.
    pub fn lost(&self) -> u64 {
        self.log.as_ref().map_or(0, |log| log.lost()) + self.webhook.as_ref().map_or(0, Webhook::lost)
    }

    /// Writes and sends what waits, and ends.
    pub async fn close(&self) {
        if let Some(webhook) = &self.webhook {
            webhook.close().await;
        }
        if let Some(log) = &self.log {
            log.close().await;
        }
    }

    /// Begins the record of a request, if the policy wants one.
    pub(crate) fn begin<'a>(
        self: &Arc<Self>,
        user: &User,
        asked: &Attributes<'_>,
        attributes: impl FnOnce() -> RequestAttributes<'a>,
    ) -> Option<Arc<AuditContext>> {
        let choice = self.policy.choose(user, asked);
        if choice.level == Level::None {
            return None;
        }
        Some(Arc::new(AuditContext::new(Arc::clone(self), choice, attributes())))
    }
}
