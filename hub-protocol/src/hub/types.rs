//! Inputs and events of the hub's side.

use bytes::Bytes;
use proto::v1;

use crate::{Digest, HEARTBEAT_MS, Key};

/// What the hub says of itself, and its limits.
#[derive(Clone, Debug)]
pub struct Config {
    /// The hub's name, for the agent's log.
    pub hub: String,
    /// Identity of the store behind the hub: the uid of the Namespace `kube-system`.
    pub incarnation: String,
    /// Heartbeat period that agents are asked for, milliseconds.
    pub heartbeat_ms: u32,
    /// Most Applies sent and not yet answered. 512 manifests of 2 KiB are 1 MiB: at 100 ms of round trip and apply time that is
    /// 5,000 objects a second, above what an API server takes, and bounds what one slow agent holds in the hub's send buffers.
    pub window: usize,
    /// Most undelivered Events (posted to the federation for this member) kept while the agent is away; the oldest go first.
    pub event_backlog: usize,
    /// Least time between two anti-entropy questions, milliseconds.
    pub digest_interval_ms: u64,
    /// Silence after which the stream is called lost, milliseconds.
    pub silence_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hub: "hub".into(),
            incarnation: String::new(),
            heartbeat_ms: HEARTBEAT_MS,
            window: 512,
            event_backlog: 256,
            digest_interval_ms: 5_000,
            silence_ms: 10_000,
        }
    }
}

/// Desired state of one object in this member.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// Which object.
    pub key: Key,
    /// The template's uid.
    pub uid: String,
    /// The template's generation.
    pub generation: i64,
    /// Epoch of the decision.
    pub epoch: u64,
    /// JSON, rendered for this member.
    pub manifest: Bytes,
    /// What to do with an object that is there and not ours.
    pub conflict: v1::ConflictPolicy,
    /// It may run in one cluster at a time: the agent's lease on it, milliseconds. 0: no lease.
    pub lease_ms: u32,
}

/// How a copy is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withdrawal {
    /// It is released.
    Release,
    /// It is removed, with a permit.
    Removal,
    /// It is to be removed, once there is a permit again.
    Lapsed,
}

/// A copy that is to go, and of which the agent has not said that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingWithdrawal<'a> {
    /// The template's uid.
    pub uid: &'a str,
    /// How.
    pub how: Withdrawal,
}

/// What the hub's controller learns.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The agent said hello. Its `epoch` is the newest that it ever saw: a hub with an older one was restored from a backup and must raise its own.
    Connected(v1::Hello),
    /// The stream was lost, or silent for too long: the driver closes it and calls [`Session::disconnected`].
    Lost {
        /// Since when nothing came, milliseconds of the driver's clock.
        since_ms: u64,
    },
    /// A heartbeat, already acknowledged.
    Heartbeat(v1::Heartbeat),
    /// Outcome of an Apply, or why there is none ([`TOO_LARGE`](crate::TOO_LARGE)).
    Applied(v1::Applied),
    /// Outcome of a removal or release; it is no longer pending.
    Removed(v1::Removed),
    /// The permit of a pending removal is void: the gate is to be asked again, and [`Session::request_removal`](super::Session::request_removal)
    /// called if it permits.
    Lapsed {
        /// Which object.
        key: Key,
        /// The template's uid.
        uid: String,
    },
    /// The agent has said what it holds, and a copy whose removal waits for another permit is not in it. It may be gone, or go just now: what
    /// was said of it on earlier streams is of the past. The removal stays pending, since an agent that lost its disk lists nothing either.
    Unlisted {
        /// Which object.
        key: Key,
        /// The template's uid.
        uid: String,
    },
    /// Status of a member copy.
    Status(v1::ObjectStatus),
    /// Reachability of a Service.
    Service(v1::ServiceState),
    /// An Event in the member.
    MemberEvent(v1::MemberEvent),
    /// The agent's table differs from the hub's though nothing is under way; the items are being compared.
    Mismatch {
        /// The hub's digest.
        ours: Digest,
        /// The agent's.
        theirs: Digest,
    },
    /// The agent holds objects that the hub does not want and did not remove: so many now. Never removed for that.
    Strays {
        /// How many.
        count: usize,
        /// Some of them.
        some: Vec<v1::digest_reply::Item>,
    },
    /// The agent sent something that this protocol does not allow; it was dropped.
    Violation(&'static str),
}
