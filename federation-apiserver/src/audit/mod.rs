//! The audit log: `audit.k8s.io/v1` Events of requests, as lines of JSON.
//!
//! A [`Policy`] says for each request how much is recorded; the record then grows with the request, and each stage hands
//! one finished line to the log's queue. A request that is not recorded costs the walk over the policy's rules and no more.

mod body;
mod log;
mod policy;
mod record;
mod rotate;

use std::sync::Arc;

use apimachinery::rbac::Attributes;

pub(crate) use body::{until_end, value_of, whole};
pub use log::{Log, LogError, Mode};
pub use policy::{Choice, Level, Policy, PolicyError, Stage};
pub(crate) use record::{Opening, Record};
pub use rotate::Rotation;

use crate::auth::User;

/// What is recorded, and where.
pub struct Audit {
    policy: Policy,
    log: Arc<Log>,
}

impl Audit {
    /// Records by a policy.
    pub fn new(policy: Policy, log: Log) -> Arc<Self> {
        Arc::new(Self { policy, log: Arc::new(log) })
    }

    /// The log below.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Begins the record of a request, if the policy wants one.
    pub(crate) fn begin<'a>(
        self: &Arc<Self>,
        user: &User,
        asked: &Attributes<'_>,
        opening: impl FnOnce() -> Opening<'a>,
    ) -> Option<Arc<Record>> {
        let choice = self.policy.choose(user, asked);
        if choice.level == Level::None {
            return None;
        }
        Some(Arc::new(Record::new(Arc::clone(self), choice, &opening())))
    }
}
