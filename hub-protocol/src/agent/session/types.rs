//! Inputs and actions of the session, besides the protocol's messages.

use bytes::Bytes;
use proto::v1;

use crate::Key;
use crate::agent::Entry;
use crate::agreement::Agreement;

/// Limits of the session.
#[derive(Clone, Debug)]
pub struct Config {
    /// This cluster's name in the federation.
    pub cluster: String,
    /// Heartbeats without an answer after which the hub is called lost, the oldest of them as many heartbeat periods old.
    pub lost_after: u32,
    /// How long the hub may take to open the stream and to welcome, milliseconds.
    pub greeting_ms: u64,
    /// Shortest wait before another attempt to connect, milliseconds.
    pub backoff_base_ms: u64,
    /// Longest wait before another attempt to connect, milliseconds.
    pub backoff_cap_ms: u64,
    /// Shortest wait after the hub has refused this agent, milliseconds; the longest is twice that.
    pub refused_ms: u64,
    /// The operator says that the hub's store was replaced on purpose: take its incarnation instead of freezing.
    pub accept_new_incarnation: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cluster: String::new(),
            lost_after: 5,
            greeting_ms: 10_000,
            backoff_base_ms: 200,
            backoff_cap_ms: 10_000,
            refused_ms: 5_000,
            accept_new_incarnation: false,
        }
    }
}

/// What the agent says of its member when it connects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Version of the agent.
    pub agent_version: String,
    /// Version of the member's API server.
    pub kubernetes_version: String,
    /// Served APIs as `group/version/Kind` (`v1/Secret` for core).
    pub apis: Vec<String>,
}

/// What the agent last saw of its member; sent with each heartbeat.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vitals {
    /// The member's API server answers.
    pub api_ok: bool,
    /// Why it does not.
    pub api_message: String,
    /// Nodes and what they offer.
    pub capacity: Option<v1::Capacity>,
    /// Expiry of the agent's certificate, Unix seconds.
    pub certificate_not_after: i64,
}

/// How a removal or release ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What was done.
    pub result: v1::RemoveResult,
    /// A sentence for the operator.
    pub message: String,
}

/// What must be on disk before the actions that follow it are carried out.
#[derive(Clone, Debug, PartialEq)]
pub enum Persist {
    /// This entry, whole.
    Put(Entry),
    /// No entry of this key.
    Forget(Key),
    /// Newest epoch and the store that it came from.
    Meta {
        /// See [`Desired::epoch`].
        epoch: u64,
        /// See [`Desired::incarnation`].
        incarnation: String,
    },
    /// Contingency plans, and what was done by them, whole.
    Plans(Box<v1::KeptPlans>),
}

/// What the executor has to do. Actions for one key are carried out in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Open a stream, then call [`Session::connected`] or [`Session::disconnected`].
    Connect,
    /// Close the stream, then call [`Session::disconnected`].
    Disconnect {
        /// Why, for the log.
        reason: String,
    },
    /// Write to disk.
    Persist(Persist),
    /// Make the member's object so, and report with [`Session::applied`].
    Apply(Entry),
    /// Delete the member's copy if it is marked as the copy of this uid, and report with [`Session::withdrawn`].
    Delete {
        /// Which object.
        key: Key,
        /// The template's uid.
        uid: String,
        /// Epoch of the permitted removal.
        epoch: u64,
    },
    /// Take the federation's marks off the copy, and report with [`Session::withdrawn`].
    Unmark {
        /// Which object.
        key: Key,
        /// The template's uid.
        uid: String,
        /// Epoch of the release.
        epoch: u64,
    },
    /// Post an Event in the member, once for each id.
    PostEvent {
        /// The hub's id for this delivery.
        id: String,
        /// The object that it is about.
        regarding: Key,
        /// JSON, core/v1 Event.
        event: Bytes,
    },
    /// Removals are refused from now on.
    Freeze {
        /// Why.
        reason: String,
    },
    /// Removals are possible again.
    Thaw,
    /// Permits of epochs before this one are void: a Delete of such a one that is not done yet is to be refused with [`VOID`](crate::VOID).
    Void {
        /// The oldest epoch that is not.
        before: u64,
    },
    /// A drill cuts this agent off: ask the hub's `Hold` about it until [`Action::Rejoin`], and report with [`Session::held`].
    Isolate {
        /// The drill.
        drill: String,
    },
    /// The agent is not cut off any more.
    Rejoin {
        /// The drill.
        drill: String,
    },
    /// Leave the word at each of these servers (`Survivors.Meet`), and report their words with [`Session::met`]. One that cannot be reached is
    /// not reported.
    Meet {
        /// What to say.
        word: v1::Word,
        /// Where.
        servers: Vec<v1::MeetingPoint>,
    },
    /// What the survivors agree on while the hub is away has changed; for the log.
    Agreed(Agreement),
    /// Contingency plans were acted on: the Applies that follow run more.
    Acted {
        /// Which, for the log.
        reason: String,
    },
    /// Look at an application as users do, for a drill, until that was not said for a while.
    Look(v1::Look),
    /// Probe these from now on, in place of what was probed before, and report with [`Session::set_votes`].
    Probe(Vec<v1::Probe>),
}
