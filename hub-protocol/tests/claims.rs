//! What agents say that they hold, for a hub whose store knows less.
#![allow(missing_docs)]

use bytes::Bytes;
use hub_protocol::Key;
use hub_protocol::agent;
use hub_protocol::hub::{Config, Desired, Session};
use proto::v1::{self, agent_message::Message as Up, hub_message::Message as Down};

fn key() -> Key {
    Key {
        group: "apps".into(),
        version: "v1".into(),
        kind: "Deployment".into(),
        resource: "deployments".into(),
        namespace: "shop".into(),
        name: "web".into(),
    }
}

fn desired(epoch: u64, replicas: u32) -> Desired {
    Desired {
        key: key(),
        uid: "u".into(),
        generation: 1,
        epoch,
        manifest: Bytes::from(format!("{{\"spec\":{{\"replicas\":{replicas}}}}}")),
        conflict: v1::ConflictPolicy::Refuse,
        lease_ms: 0,
    }
}

/// An agent that was told of three replicas at epoch 50.
fn agent() -> agent::Session {
    let told = agent::Entry {
        key: key(),
        uid: "u".into(),
        generation: 1,
        epoch: 50,
        manifest: desired(50, 3).manifest,
        conflict: v1::ConflictPolicy::Refuse,
        lease_ms: 0,
        stopped: false,
        floor: 0,
        state: agent::State::Held,
    };
    let kept = agent::Desired::load(50, "store".into(), [told]);
    agent::Session::new(0, agent::Config::default(), kept)
}

/// What its executor says of the decision of epoch 51.
fn applied() -> v1::Applied {
    v1::Applied {
        key: Some(key().into()),
        uid: "u".into(),
        generation: 1,
        epoch: 51,
        result: v1::ApplyResult::Applied.into(),
        ..v1::Applied::default()
    }
}

/// Everything that both have to say to each other.
fn talk(hub: &mut Session, agent: &mut agent::Session) {
    loop {
        let (up, down) = (agent.poll_transmit(), hub.poll_transmit());
        if up.is_none() && down.is_none() {
            return;
        }
        if let Some(message) = up {
            hub.handle_message(1, message);
        }
        if let Some(message) = down {
            agent.handle_message(1, message);
        }
    }
}

fn connect(hub: &mut Session, agent: &mut agent::Session) {
    hub.reconnected(0);
    agent.tick(0);
    agent.connected(0, "session".into());
    talk(hub, agent);
}

fn claimed(hub: &Session) -> Option<(u64, Option<u32>)> {
    hub.claim(&key()).map(|item| (item.epoch, item.replicas))
}

#[test]
fn what_an_agent_runs_is_known_before_anything_is_wanted_and_until_it_has_taken_that() {
    let mut hub = Session::new(Config { incarnation: "store".into(), ..Config::default() });
    let mut agent = agent();
    let other = Key { name: "other".into(), ..key() };
    assert!(!hub.is_compared() && !hub.has_told() && !hub.holds_none(&other));
    connect(&mut hub, &mut agent);
    assert!(hub.is_compared() && hub.has_told());
    assert!(hub.holds_none(&other) && !hub.holds_none(&key()));
    // Also when it is wanted there, until the agent has taken it.
    hub.set_desired(Desired { key: other.clone(), ..desired(51, 3) });
    assert!(hub.is_without(&other));
    talk(&mut hub, &mut agent);
    assert!(hub.holds_none(&other) && !hub.is_without(&other), "it is on its way");
    agent.applied(1, v1::Applied { key: Some(other.clone().into()), ..applied() });
    talk(&mut hub, &mut agent);
    assert!(!hub.holds_none(&other));
    assert_eq!(claimed(&hub), Some((50, Some(3))));

    // An older decision is refused, and changes nothing of what is known.
    hub.set_desired(desired(7, 1));
    talk(&mut hub, &mut agent);
    assert_eq!(claimed(&hub), Some((50, Some(3))));

    hub.set_desired(desired(51, 1));
    talk(&mut hub, &mut agent);
    agent.applied(1, applied());
    talk(&mut hub, &mut agent);
    assert_eq!(claimed(&hub), None);
}

#[test]
fn what_differs_from_what_was_wanted_before_the_agent_came_is_known_too() {
    let mut hub = Session::new(Config { incarnation: "store".into(), ..Config::default() });
    hub.set_desired(desired(7, 1));
    connect(&mut hub, &mut agent());
    assert_eq!(claimed(&hub), Some((50, Some(3))));
    hub.disconnected();
    assert_eq!(claimed(&hub), None, "of another connection nothing is known");
    assert!(!hub.is_compared() && hub.has_told(), "but what was wanted here since it told");
}

#[test]
fn kinds_without_replicas_tell_none_and_what_is_stopped_runs_none() {
    let mut hub = Session::new(Config::default());
    hub.reconnected(0);
    hub.handle_message(0, v1::AgentMessage { message: Some(Up::Hello(v1::Hello::default())) });
    let asked = std::iter::from_fn(|| hub.poll_transmit()).filter_map(|message| message.message);
    assert!(asked.into_iter().any(|message| matches!(message, Down::Digest(_))));

    let mut entry = agent().desired().get(&key()).cloned().expect("it is held");
    entry.stopped = true;
    let config = Key { kind: "ConfigMap".into(), resource: "configmaps".into(), ..key() };
    let other = agent::Entry { key: config.clone(), ..entry.clone() };
    let kept = agent::Desired::load(50, String::new(), [entry, other]);
    let mut agent = agent::Session::new(0, agent::Config::default(), kept);
    let mut hub = Session::new(Config::default());
    connect(&mut hub, &mut agent);
    assert_eq!(claimed(&hub), Some((50, Some(0))));
    assert_eq!(hub.claim(&config).map(|item| item.replicas), Some(None));
}

#[test]
fn other_contents_under_the_same_numbers_are_answered_too() {
    let mut hub = Session::new(Config { incarnation: "store".into(), ..Config::default() });
    let mut agent = agent();
    connect(&mut hub, &mut agent);
    // A store that was restored from a backup counts on from there: what it gives has been given before.
    for replicas in [2, 4] {
        hub.set_desired(desired(51, replicas));
        talk(&mut hub, &mut agent);
        assert_eq!(hub.pending(), 1);
        agent.applied(1, applied());
        talk(&mut hub, &mut agent);
        assert_eq!(hub.pending(), 0, "{replicas}");
    }
}
