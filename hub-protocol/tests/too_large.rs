//! A manifest that no message holds keeps no other from its member, and its member from nothing else.

#![allow(missing_docs)]

use bytes::Bytes;
use hub_protocol::hub::{Config, Desired, Event, Session};
use hub_protocol::{Digest, Key, MANIFEST_LIMIT, MESSAGE_LIMIT, TOO_LARGE, content_hash, item_hash};
use prost::Message as _;
use proto::v1::{
    self, ApplyResult, ConflictPolicy, agent_message::Message as Up, hub_message::Message as Down,
};

/// With everything but the name as long as Kubernetes takes it.
fn key(name: &str) -> Key {
    Key {
        group: "g".repeat(253),
        version: "v".repeat(63),
        kind: "K".repeat(63),
        resource: "r".repeat(63),
        namespace: "n".repeat(63),
        name: name.to_owned(),
    }
}

fn manifest(octets: usize) -> Bytes {
    Bytes::from(vec![b' '; octets])
}

fn desired(name: &str, generation: i64, octets: usize) -> Desired {
    Desired {
        key: key(name),
        uid: name.to_owned(),
        generation,
        epoch: 7,
        manifest: manifest(octets),
        conflict: ConflictPolicy::Refuse,
        lease_ms: 0,
    }
}

fn item(name: &str, generation: i64, octets: usize) -> v1::digest_reply::Item {
    v1::digest_reply::Item {
        key: Some(key(name).into()),
        uid: name.to_owned(),
        generation,
        epoch: 7,
        hash: content_hash(&manifest(octets)),
        replicas: None,
    }
}

fn hear(session: &mut Session, message: Up) {
    session.handle_message(1, v1::AgentMessage { message: Some(message) });
}

/// The agent comes, and says what it holds.
fn comes(session: &mut Session, items: Vec<v1::digest_reply::Item>) {
    session.reconnected(0);
    hear(session, Up::Hello(v1::Hello::default()));
    hear(session, Up::DigestReply(v1::DigestReply { items, ..v1::DigestReply::default() }));
}

/// Manifests that are sent, by uid and generation.
fn sent(session: &mut Session) -> Vec<(String, i64)> {
    std::iter::from_fn(|| session.poll_transmit())
        .filter_map(|message| {
            assert!(message.encoded_len() <= MESSAGE_LIMIT, "{} octets", message.encoded_len());
            match message.message {
                Some(Down::Apply(apply)) => Some((apply.uid, apply.generation)),
                _ => None,
            }
        })
        .collect()
}

/// What the controller hears of manifests that are not, and of strays: how many there are.
fn heard(session: &mut Session) -> (Vec<(String, i64)>, usize) {
    let (mut refused, mut strays) = (Vec::new(), 0);
    for event in std::iter::from_fn(|| session.poll_event()) {
        match event {
            Event::Applied(applied) if applied.reason == TOO_LARGE => {
                assert_eq!(applied.result(), ApplyResult::Refused);
                assert_eq!(applied.key.map(Key::from), Some(key(&applied.uid)));
                refused.push((applied.uid, applied.generation));
            }
            Event::Strays { count, .. } => strays = count,
            _ => {}
        }
    }
    (refused, strays)
}

/// Whether the agent is told that it holds what is wanted, if it holds these.
fn current(session: &mut Session, items: &[v1::digest_reply::Item]) -> bool {
    let mut digest = Digest::default();
    for item in items {
        digest.add(item_hash(&item.uid, item.generation, item.hash));
    }
    let (digest, objects) = (digest.sum, digest.objects);
    hear(session, Up::Heartbeat(v1::Heartbeat { sequence: 1, digest, objects, ..v1::Heartbeat::default() }));
    std::iter::from_fn(|| session.poll_transmit())
        .any(|message| matches!(message.message, Some(Down::HeartbeatAck(ack)) if ack.current))
}

fn named(name: &str, generation: i64) -> Vec<(String, i64)> {
    vec![(name.to_owned(), generation)]
}

#[test]
fn what_no_message_holds_is_refused_once_and_the_others_go_out() {
    let mut session = Session::new(Config::default());
    session.set_desired(desired("before", 1, 2));
    session.set_desired(desired("large", 1, MANIFEST_LIMIT + 1));
    session.set_desired(desired("other", 1, MANIFEST_LIMIT));
    session.desired_complete();
    comes(&mut session, Vec::new());
    assert_eq!(sent(&mut session), [("before".to_owned(), 1), ("other".to_owned(), 1)]);
    assert_eq!(heard(&mut session), (named("large", 1), 0));
    // Nothing waits for it: not the agent's leases either.
    let holds = [item("before", 1, 2), item("other", 1, MANIFEST_LIMIT)];
    comes(&mut session, holds.to_vec());
    assert!(current(&mut session, &holds));
    assert_eq!((session.pending(), sent(&mut session)), (0, Vec::new()));
    // Wanted again, and by a newer decision.
    session.set_desired(desired("large", 1, MANIFEST_LIMIT + 1));
    session.set_desired(Desired { epoch: 8, ..desired("large", 1, MANIFEST_LIMIT + 1) });
    assert!(heard(&mut session).0.is_empty());
    session.set_desired(desired("large", 2, MANIFEST_LIMIT + 1));
    assert_eq!(heard(&mut session).0, named("large", 2));
    session.set_desired(desired("large", 3, 2));
    assert_eq!(sent(&mut session), named("large", 3));
}

#[test]
fn a_member_keeps_what_it_has_of_what_has_become_too_large() {
    let mut session = Session::new(Config::default());
    session.set_desired(desired("grows", 1, 2));
    session.desired_complete();
    let holds = [item("grows", 1, 2)];
    comes(&mut session, holds.to_vec());
    session.set_desired(desired("grows", 2, MANIFEST_LIMIT + 1));
    assert!(current(&mut session, &holds));
    assert_eq!((sent(&mut session), heard(&mut session)), (Vec::new(), (named("grows", 2), 0)));
    // A hub that starts anew has never wanted the small one.
    let mut session = Session::new(Config::default());
    session.set_desired(desired("grows", 2, MANIFEST_LIMIT + 1));
    session.desired_complete();
    comes(&mut session, holds.to_vec());
    assert!(current(&mut session, &holds));
    assert_eq!((sent(&mut session), heard(&mut session)), (Vec::new(), (named("grows", 2), 0)));
    // It goes as everything goes.
    session.release(key("grows"), "grows".into(), 9);
    let released =
        session.poll_transmit().is_some_and(|message| matches!(message.message, Some(Down::Release(_))));
    assert!(released);
}
