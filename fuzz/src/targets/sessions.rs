//! Messages between hub and agents, through the sessions of both.

use hub_protocol::{agent, hub};
use prost::Message as _;
use proto::v1::{self, agent_message::Message as Up, hub_message::Message as Down};

use super::{Case, same};
use crate::dice::Dice;
use crate::mutate;

/// Messages of one connection.
const MESSAGES: usize = 12;
/// What a session may say to one message: more is a loop.
const WORDS_MAX: usize = 10_000;

pub(super) fn sessions() -> Case {
    let (up, down) = (agent_messages(), hub_messages());
    Box::new(move |dice| {
        let mut hub =
            hub::Session::new(hub::Config { incarnation: "store-1".into(), ..hub::Config::default() });
        let config = agent::Config { cluster: "taiwan".into(), ..agent::Config::default() };
        let mut agent = agent::Session::new(0, config, agent::Desired::default());
        hub.reconnected(0);
        agent.tick(0);
        agent.connected(1, "session-1".into());
        let mut now = 1;
        for _ in 0..MESSAGES {
            now += dice.below(2000) as u64;
            if dice.one_in(2) {
                if let Some(message) = decoded::<v1::AgentMessage>(dice, &up)? {
                    hub.handle_message(now, message);
                }
                hub.tick(now);
                drained("the hub", std::iter::from_fn(|| hub.poll_transmit()).take(WORDS_MAX).count())?;
                drained("the hub", std::iter::from_fn(|| hub.poll_event()).take(WORDS_MAX).count())?;
            } else {
                if let Some(message) = decoded::<v1::HubMessage>(dice, &down)? {
                    agent.handle_message(now, message);
                }
                agent.tick(now);
                drained("the agent", std::iter::from_fn(|| agent.poll_transmit()).take(WORDS_MAX).count())?;
                drained("the agent", std::iter::from_fn(|| agent.poll_action()).take(WORDS_MAX).count())?;
            }
            let _deadlines = (hub.next_deadline(), agent.next_deadline());
        }
        hub.disconnected();
        agent.disconnected(now, dice.roll());
        Ok(())
    })
}

fn drained(who: &str, words: usize) -> Result<(), String> {
    if words < WORDS_MAX { Ok(()) } else { Err(format!("{who} says {WORDS_MAX} things to one message")) }
}

/// A damaged message, if it is still one; it must be the same after it was written and read again.
pub(super) fn decoded<M: prost::Message + Default + PartialEq + std::fmt::Debug>(
    dice: &mut Dice,
    samples: &[Vec<u8>],
) -> Result<Option<M>, String> {
    let sample = dice.pick(samples).clone();
    let octets = mutate::message(dice, &sample);
    let Ok(message) = M::decode(octets.as_slice()) else { return Ok(None) };
    dice.show(|| format!("{message:?}"));
    let written = message.encode_to_vec();
    let again = M::decode(written.as_slice()).map_err(|error| error.to_string())?;
    // A number that is none is not the same as itself.
    if M::decode(octets.as_slice()).is_ok_and(|copy| copy != message) {
        return Ok(None);
    }
    same("written and read again", &again, &message)?;
    Ok(Some(message))
}

fn key(kind: &str, name: &str) -> v1::Key {
    v1::Key {
        group: "apps".into(),
        version: "v1".into(),
        kind: kind.into(),
        resource: "deployments".into(),
        namespace: "shop".into(),
        name: name.into(),
    }
}

fn agent_messages() -> Vec<Vec<u8>> {
    let item = v1::digest_reply::Item {
        key: Some(key("Deployment", "web")),
        uid: "u1".into(),
        ..Default::default()
    };
    let messages = [
        Up::Hello(v1::Hello {
            session: "session-1".into(),
            epoch: 5,
            incarnation: "store-1".into(),
            ..v1::Hello::default()
        }),
        Up::Heartbeat(v1::Heartbeat { sequence: 7, ..v1::Heartbeat::default() }),
        Up::Applied(v1::Applied {
            key: Some(key("Deployment", "web")),
            uid: "u1".into(),
            ..v1::Applied::default()
        }),
        Up::Status(v1::ObjectStatus { key: Some(key("Deployment", "web")), ..v1::ObjectStatus::default() }),
        Up::Event(v1::MemberEvent::default()),
        Up::DigestReply(v1::DigestReply { items: vec![item], ..v1::DigestReply::default() }),
        Up::Service(v1::ServiceState::default()),
        Up::Removed(v1::Removed {
            key: Some(key("Deployment", "web")),
            uid: "u1".into(),
            ..v1::Removed::default()
        }),
    ];
    messages.map(|message| v1::AgentMessage { message: Some(message) }.encode_to_vec()).into()
}

fn hub_messages() -> Vec<Vec<u8>> {
    let messages = [
        Down::Welcome(v1::Welcome {
            session: "session-1".into(),
            hub: "hub".into(),
            incarnation: "store-1".into(),
            epoch: 5,
            heartbeat_ms: 1000,
        }),
        Down::Apply(v1::Apply {
            key: Some(key("Deployment", "web")),
            uid: "u1".into(),
            epoch: 5,
            manifest: br#"{"apiVersion":"apps/v1","kind":"Deployment"}"#.to_vec().into(),
            ..v1::Apply::default()
        }),
        Down::Remove(v1::Remove {
            key: Some(key("Deployment", "web")),
            uid: "u1".into(),
            epoch: 6,
            permit: Some(v1::Permit { id: "p".into(), epoch: 6, reason: "because".into() }),
        }),
        Down::Release(v1::Release {
            key: Some(key("Deployment", "web")),
            uid: "u1".into(),
            ..v1::Release::default()
        }),
        Down::Digest(v1::Digest::default()),
        Down::Event(v1::DeliverEvent::default()),
        Down::HeartbeatAck(v1::HeartbeatAck { sequence: 7, ..v1::HeartbeatAck::default() }),
        Down::Probes(v1::Probes::default()),
        Down::Isolate(v1::Isolate { drill: "d".into(), lease_ms: 5000 }),
        Down::Plans(v1::Plans::default()),
        Down::Look(v1::Look::default()),
    ];
    messages.map(|message| v1::HubMessage { message: Some(message) }.encode_to_vec()).into()
}
