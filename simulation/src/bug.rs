//! Bugs to be planted in the world around the parts, to see that the checks catch them.

use proto::v1::{
    self, agent_message::Message as Up, dns_message::Message as DnsUp, hub_message::Message as Down,
};
use serde_json::Value;

use crate::story::Story;

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// None.
    None,
    // Removals without a permit.
    /// The agent deletes what the hub's digest does not cover.
    AbsenceRemoves,
    /// What the hub releases is removed, with a permit that nobody gave.
    ReleaseRemoves,
    /// The member deletes whatever has the name, whose copy it may be.
    AnyUidRemoves,
    /// The gate is not asked: whoever is unwell loses a copy.
    GateIgnored,
    /// The hub takes copies for ready as soon as they are there.
    ReadyTooSoon,
    /// Nobody says of which decision's copy it is how a Service is reached.
    ServiceUndated,
    /// Freezes end as soon as they begin.
    FreezeIgnored,
    // Older epochs.
    /// Late messages of earlier streams reach the member past the fence.
    LateMessages,
    /// An agent's disk forgets epochs, and so the fence, at a restart.
    ForgetfulDisk,
    /// A DNS server takes whatever zones come.
    ZonesUnfenced,
    // Empty answers.
    /// Zones arrive without their records, and named as withdrawn.
    EmptyZone,
    /// A DNS server does not read its disk when it starts.
    DiskNotRead,
    // Two actives.
    /// Members do not scale down what their agent's lease has lapsed on.
    LapseIgnored,
    /// The hub acknowledges every heartbeat as current.
    AlwaysCurrent,
    // Users are left where nothing serves.
    /// Nobody's votes reach the hub.
    VotesLost,
    // No convergence.
    /// Removals and releases are lost on the way, and not sent again.
    LostRemovals,
    /// The hub does not hear that agents and DNS servers saw newer epochs than its own.
    RestoreUnseen,
    /// The controller's watch swallows changes.
    DeafWatch,
    // Contingency plans.
    /// Plans do not reach the agents.
    PlansLost,
    /// What survivors say to each other is lost.
    WordsLost,
    /// Whatever survivors say, it is understood that they miss the hub.
    HubTakenForDead,
    /// The hub does not hear what an agent did by plans.
    ActedUnheard,
    /// An agent is told that the hub took in what it did, and it was not heard.
    NeverAdopted,
}

impl Bug {
    /// Every bug, with the words of the check that catches it, and the kind of world in which it soon does.
    pub const ALL: [(Self, &str, Story); 23] = [
        (Self::AbsenceRemoves, "without a permit", Story::Mixed),
        (Self::ReleaseRemoves, "nobody asked", Story::Mixed),
        (Self::AnyUidRemoves, "without a permit", Story::Strangers),
        (Self::GateIgnored, "nobody asked", Story::Mixed),
        (Self::ReadyTooSoon, "before others were ready", Story::Moves),
        (Self::ServiceUndated, "may be gone", Story::Moves),
        (Self::FreezeIgnored, "nothing may move", Story::Blackout),
        (Self::LateMessages, "older", Story::Mixed),
        (Self::ForgetfulDisk, "older", Story::PowerCut),
        (Self::ZonesUnfenced, "older", Story::Mixed),
        (Self::EmptyZone, "empty answer", Story::Mixed),
        (Self::DiskNotRead, "empty answer", Story::Mixed),
        (Self::LapseIgnored, "two clusters", Story::Fencing),
        (Self::AlwaysCurrent, "two clusters", Story::Fencing),
        (Self::VotesLost, "still sent", Story::Quiet),
        (Self::LostRemovals, "did not converge", Story::Moves),
        (Self::RestoreUnseen, "did not converge", Story::Mixed),
        (Self::DeafWatch, "did not converge", Story::Strangers),
        (Self::PlansLost, "hold plans", Story::Outage),
        (Self::WordsLost, "nobody acted", Story::Outage),
        (Self::HubTakenForDead, "it acts on its plans", Story::Outage),
        (Self::ActedUnheard, "did not converge", Story::Outage),
        (Self::NeverAdopted, "gives them up", Story::Outage),
    ];
}

/// What a bug makes of what the hub says; nothing if it is lost.
pub(crate) fn tamper(bug: Bug, message: v1::HubMessage) -> Option<v1::HubMessage> {
    let message = match (bug, message.message?) {
        (Bug::LostRemovals, Down::Remove(_) | Down::Release(_)) | (Bug::PlansLost, Down::Plans(_)) => {
            return None;
        }
        (Bug::ReleaseRemoves, Down::Release(release)) => Down::Remove(v1::Remove {
            key: release.key,
            uid: release.uid,
            epoch: release.epoch,
            permit: Some(v1::Permit::default()),
        }),
        (Bug::AlwaysCurrent, Down::HeartbeatAck(ack)) => {
            Down::HeartbeatAck(v1::HeartbeatAck { current: true, ..ack })
        }
        (Bug::NeverAdopted, Down::HeartbeatAck(ack)) => {
            Down::HeartbeatAck(v1::HeartbeatAck { current: true, adopted: u64::MAX, ..ack })
        }
        (_, message) => message,
    };
    Some(v1::HubMessage { message: Some(message) })
}

/// What a bug makes of what an agent says; `wanted` are the replicas of each of its copies.
pub(crate) fn tamper_report(
    bug: Bug,
    message: &mut v1::AgentMessage,
    wanted: impl Fn(&v1::Key) -> Option<i64>,
) {
    match (bug, &mut message.message) {
        (Bug::RestoreUnseen, Some(Up::Hello(hello))) => (hello.epoch, hello.plans_epoch) = (0, 0),
        (Bug::RestoreUnseen, Some(Up::Heartbeat(heartbeat))) => heartbeat.epoch = 0,
        (Bug::ActedUnheard | Bug::NeverAdopted, Some(Up::Hello(hello))) => hello.acted = None,
        (Bug::VotesLost, Some(Up::Heartbeat(heartbeat))) => heartbeat.votes.clear(),
        (Bug::ServiceUndated, Some(Up::Service(state))) => state.epoch = 0,
        (Bug::ReadyTooSoon, Some(Up::Status(status))) => {
            let Some(wanted) = status.key.as_ref().and_then(wanted) else { return };
            let Ok(mut told) = serde_json::from_slice::<Value>(&status.status) else { return };
            told["replicas"] = wanted.into();
            told["readyReplicas"] = wanted.into();
            status.status = told.to_string().into();
        }
        _ => {}
    }
}

/// What a bug makes of what a DNS server says; nothing if it is lost.
pub(crate) fn tamper_server(bug: Bug, message: v1::DnsMessage) -> Option<v1::DnsMessage> {
    let message = match (bug, message.message?) {
        (Bug::VotesLost, DnsUp::Votes(_)) => return None,
        (Bug::RestoreUnseen, DnsUp::Hello(hello)) => DnsUp::Hello(v1::DnsHello { epoch: 0, ..hello }),
        (_, message) => message,
    };
    Some(v1::DnsMessage { message: Some(message) })
}

/// What a bug makes of what survivors say to each other.
pub(crate) fn tamper_words(bug: Bug, words: &mut Vec<v1::Word>) {
    match bug {
        Bug::WordsLost => words.clear(),
        Bug::HubTakenForDead => words.iter_mut().for_each(|word| word.hub_silent_ms = u64::MAX),
        _ => {}
    }
}
