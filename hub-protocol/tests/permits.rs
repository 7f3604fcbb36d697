//! For how long a permit is good, and removals of what is another template's.
#![allow(clippy::panic, missing_docs)]

use hub_protocol::agent::{self, Action, Desired};
use hub_protocol::hub::{self, Event, Withdrawal};
use hub_protocol::{Key, VOID};
use proto::v1::{self, RemoveResult, agent_message::Message as Up, hub_message::Message as Down};

const MANIFEST: &[u8] = b"{}";

fn key() -> Key {
    Key::from(v1::Key { resource: "configmaps".into(), name: "web".into(), ..v1::Key::default() })
}

fn permit(epoch: u64) -> v1::Permit {
    v1::Permit { epoch, ..v1::Permit::default() }
}

fn hear(session: &mut hub::Session, message: Up) {
    session.handle_message(1, v1::AgentMessage { message: Some(message) });
}

fn sent(session: &mut hub::Session) -> Vec<Down> {
    std::iter::from_fn(|| session.poll_transmit()).filter_map(|message| message.message).collect()
}

fn removals(session: &mut hub::Session) -> Vec<u64> {
    let epoch = |message| if let Down::Remove(remove) = message { Some(remove.epoch) } else { None };
    sent(session).into_iter().filter_map(epoch).collect()
}

/// Objects that the gate is to be asked about again.
fn lapsed(session: &mut hub::Session) -> Vec<Key> {
    let lapsed = |event| if let Event::Lapsed { key, .. } = event { Some(key) } else { None };
    std::iter::from_fn(|| session.poll_event()).filter_map(lapsed).collect()
}

fn item() -> v1::digest_reply::Item {
    let hash = hub_protocol::content_hash(MANIFEST);
    v1::digest_reply::Item {
        key: Some(key().into()),
        uid: "u".into(),
        generation: 1,
        epoch: 1,
        hash,
        replicas: None,
    }
}

/// The agent comes, with its copy.
fn comes(session: &mut hub::Session) {
    session.reconnected(0);
    hear(session, Up::Hello(v1::Hello::default()));
    hear(session, Up::DigestReply(v1::DigestReply { items: vec![item()], ..v1::DigestReply::default() }));
}

/// Whether the agent is told that it holds what is wanted, and the permits' oldest epoch that it is told.
fn beats(session: &mut hub::Session, sequence: u64) -> (bool, u64) {
    let digest = hub_protocol::item_hash("u", 1, hub_protocol::content_hash(MANIFEST));
    hear(session, Up::Heartbeat(v1::Heartbeat { sequence, digest, objects: 1, ..v1::Heartbeat::default() }));
    let told = |message| if let Down::HeartbeatAck(ack) = message { Some(ack) } else { None };
    let ack = sent(session).into_iter().find_map(told).unwrap_or_default();
    (ack.current, ack.permits_from)
}

#[test]
fn what_was_permitted_while_the_agent_was_away_is_asked_again_when_it_comes() {
    let mut session = hub::Session::new(hub::Config::default());
    session.desired_complete();
    session.request_removal(key(), "u".into(), 5, permit(5));
    assert_eq!(session.withdrawal(&key()).map(|pending| pending.how), Some(Withdrawal::Lapsed));
    comes(&mut session);
    assert_eq!(lapsed(&mut session), [key()]);
    assert_eq!(removals(&mut session), [] as [u64; 0]);
    // It holds what is known to be there: its leases do not lapse over what waits for a permit.
    assert!(beats(&mut session, 1).0);
    session.request_removal(key(), "u".into(), 6, permit(6));
    assert_eq!(removals(&mut session), [6]);
    // On the next stream, anew.
    session.disconnected();
    comes(&mut session);
    assert_eq!((lapsed(&mut session), removals(&mut session)), (vec![key()], vec![]));
    assert!(!std::iter::from_fn(|| session.poll_event()).any(|event| matches!(event, Event::Strays { .. })));
}

/// Copies that are to go, and that the agent does not list.
fn unlisted(session: &mut hub::Session) -> Vec<(Key, String)> {
    let unlisted = |event| if let Event::Unlisted { key, uid } = event { Some((key, uid)) } else { None };
    std::iter::from_fn(|| session.poll_event()).filter_map(unlisted).collect()
}

#[test]
fn a_copy_that_went_before_its_agent_could_say_so_is_known_not_to_be_listed_and_still_asked_for() {
    let mut session = hub::Session::new(hub::Config::default());
    session.desired_complete();
    comes(&mut session);
    session.request_removal(key(), "u".into(), 6, permit(6));
    assert_eq!(removals(&mut session), [6]);
    session.disconnected();
    // It did not get that.
    comes(&mut session);
    assert_eq!(unlisted(&mut session), []);
    session.request_removal(key(), "u".into(), 7, permit(7));
    assert_eq!(removals(&mut session), [7]);
    session.disconnected();
    // It did, and removed the copy; its next run knows nothing of it. Both sides list the same now, or another template's copy is there.
    for reply in [
        v1::DigestReply { equal: true, ..v1::DigestReply::default() },
        v1::DigestReply::default(),
        v1::DigestReply {
            items: vec![v1::digest_reply::Item { uid: "another's".into(), ..item() }],
            ..v1::DigestReply::default()
        },
    ] {
        session.reconnected(5);
        hear(&mut session, Up::Hello(v1::Hello::default()));
        hear(&mut session, Up::DigestReply(reply));
        assert_eq!(unlisted(&mut session), [(key(), "u".to_owned())]);
        assert_eq!(session.withdrawal(&key()).map(|pending| pending.how), Some(Withdrawal::Lapsed));
        session.disconnected();
    }
    // What is permitted on this stream is under way.
    session.reconnected(7);
    hear(&mut session, Up::Hello(v1::Hello::default()));
    session.request_removal(key(), "u".into(), 8, permit(8));
    hear(&mut session, Up::DigestReply(v1::DigestReply::default()));
    assert_eq!(unlisted(&mut session), []);
}

#[test]
fn a_freeze_voids_permits_that_are_on_their_way() {
    let mut session = hub::Session::new(hub::Config::default());
    session.desired_complete();
    comes(&mut session);
    lapsed(&mut session);
    sent(&mut session);
    session.request_removal(key(), "u".into(), 7, permit(7));
    assert!(session.may_be_gone(&key(), "u") && !session.may_be_gone(&key(), "another's"));
    session.void_permits(8);
    assert_eq!((lapsed(&mut session), removals(&mut session)), (vec![key()], vec![]));
    assert!(session.may_be_gone(&key(), "u"), "it may have been done before the freeze");
    assert_eq!(beats(&mut session, 1).1, 8, "the agent is told, too");
    // Whoever asked before the freeze and comes late.
    session.request_removal(key(), "u".into(), 7, permit(7));
    assert_eq!((lapsed(&mut session), removals(&mut session)), (vec![key()], vec![]));
    session.request_removal(key(), "u".into(), 9, permit(9));
    assert_eq!((lapsed(&mut session), removals(&mut session)), (vec![], vec![9]));
    let removed = v1::Removed {
        key: Some(key().into()),
        uid: "u".into(),
        epoch: 9,
        result: RemoveResult::Removed.into(),
        ..v1::Removed::default()
    };
    hear(&mut session, Up::Removed(removed));
    assert_eq!(session.withdrawal(&key()), None);
}

/// An agent that holds a copy of the template `u`.
fn holding() -> agent::Session {
    let mut session = agent::Session::new(0, agent::Config::default(), Desired::default());
    session.tick(0);
    session.connected(10, "one".into());
    say(&mut session, Down::Welcome(v1::Welcome { session: "one".into(), ..v1::Welcome::default() }));
    let (key, manifest) = (Some(key().into()), MANIFEST.into());
    let apply = v1::Apply { key, uid: "u".into(), generation: 1, epoch: 1, manifest, ..v1::Apply::default() };
    say(&mut session, Down::Apply(apply));
    done(&mut session);
    session
}

fn say(session: &mut agent::Session, message: Down) {
    session.handle_message(20, v1::HubMessage { message: Some(message) });
}

/// What it does but for writing it down, and what it answers to removals.
fn done(session: &mut agent::Session) -> (Vec<Action>, Vec<(RemoveResult, String)>) {
    let actions = std::iter::from_fn(|| session.poll_action())
        .filter(|action| !matches!(action, Action::Persist(_)))
        .collect();
    let answers = std::iter::from_fn(|| session.poll_transmit())
        .filter_map(|message| match message.message {
            Some(Up::Removed(removed)) => Some((removed.result(), removed.message)),
            _ => None,
        })
        .collect();
    (actions, answers)
}

fn remove(uid: &str, epoch: u64) -> Down {
    let key = Some(key().into());
    Down::Remove(v1::Remove { key, uid: uid.into(), epoch, permit: Some(permit(epoch)) })
}

#[test]
fn an_agent_refuses_permits_from_before_a_freeze() {
    let mut session = holding();
    say(
        &mut session,
        Down::HeartbeatAck(v1::HeartbeatAck { permits_from: 8, ..v1::HeartbeatAck::default() }),
    );
    say(&mut session, remove("u", 7));
    let (actions, answers) = done(&mut session);
    assert_eq!(actions, [Action::Void { before: 8 }]);
    assert_eq!(answers, [(RemoveResult::Refused, VOID.to_owned())]);
    say(&mut session, remove("u", 8));
    let (actions, answers) = done(&mut session);
    assert!(matches!(actions.as_slice(), [Action::Delete { epoch: 8, .. }]), "{actions:?}");
    assert!(answers.is_empty());
}

#[test]
fn a_removal_of_a_copy_whose_place_another_templates_has_taken_is_done_and_touches_nothing() {
    let mut session = holding();
    say(&mut session, remove("former", 9));
    let (actions, answers) = done(&mut session);
    assert!(actions.is_empty(), "{actions:?}");
    assert_eq!(answers.len(), 1);
    assert!(answers.iter().all(|(result, why)| {
        *result == RemoveResult::Removed && why.contains("another template's copy; it was left alone")
    }));
    assert!(session.desired().get(&key()).is_some_and(|held| held.uid == "u"));
}
