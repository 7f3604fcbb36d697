//! Bugs to be planted in the world around the parts, to see that the checks catch them.

use proto::v1::{self, agent_message::Message as Up, hub_message::Message as Down};
use serde_json::Value;

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
    /// The hub does not hear that an agent saw newer epochs than its own.
    RestoreUnseen,
    /// The controller's watch swallows changes.
    DeafWatch,
}

impl Bug {
    /// Every bug, with the words of the check that catches it.
    pub const ALL: [(Self, &str); 17] = [
        (Self::AbsenceRemoves, "without a permit"),
        (Self::ReleaseRemoves, "nobody asked"),
        (Self::AnyUidRemoves, "without a permit"),
        (Self::GateIgnored, "nobody asked"),
        (Self::ReadyTooSoon, "before others were ready"),
        (Self::FreezeIgnored, "nothing may move"),
        (Self::LateMessages, "older"),
        (Self::ForgetfulDisk, "older"),
        (Self::ZonesUnfenced, "older"),
        (Self::EmptyZone, "empty answer"),
        (Self::DiskNotRead, "empty answer"),
        (Self::LapseIgnored, "two clusters"),
        (Self::AlwaysCurrent, "two clusters"),
        (Self::VotesLost, "still sent"),
        (Self::LostRemovals, "did not converge"),
        (Self::RestoreUnseen, "did not converge"),
        (Self::DeafWatch, "did not converge"),
    ];
}

/// What a bug makes of what the hub says; nothing if it is lost.
pub(crate) fn tamper(bug: Bug, message: v1::HubMessage) -> Option<v1::HubMessage> {
    let message = match (bug, message.message?) {
        (Bug::LostRemovals, Down::Remove(_) | Down::Release(_)) => return None,
        (Bug::ReleaseRemoves, Down::Release(release)) => Down::Remove(v1::Remove {
            key: release.key,
            uid: release.uid,
            epoch: release.epoch,
            permit: Some(v1::Permit::default()),
        }),
        (Bug::AlwaysCurrent, Down::HeartbeatAck(ack)) => {
            Down::HeartbeatAck(v1::HeartbeatAck { current: true, ..ack })
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
        (Bug::RestoreUnseen, Some(Up::Hello(hello))) => hello.epoch = 0,
        (Bug::RestoreUnseen, Some(Up::Heartbeat(heartbeat))) => heartbeat.epoch = 0,
        (Bug::VotesLost, Some(Up::Heartbeat(heartbeat))) => heartbeat.votes.clear(),
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
