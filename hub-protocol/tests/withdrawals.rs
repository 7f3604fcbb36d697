//! Removals and releases that wait for an agent that is away.

use hub_protocol::Key;
use hub_protocol::hub::{Config, Desired, Session, Withdrawal};
use proto::v1::{self, agent_message::Message as Up, hub_message::Message as Down};

fn say(session: &mut Session, now: u64, message: Up) {
    session.handle_message(now, v1::AgentMessage { message: Some(message) });
}

fn heard(session: &mut Session) -> Vec<Down> {
    std::iter::from_fn(|| session.poll_transmit()).filter_map(|message| message.message).collect()
}

/// Everything that an agent is told which comes and holds the object.
fn told(session: &mut Session, now: u64, key: &Key) -> Vec<Down> {
    session.reconnected(now);
    say(session, now, Up::Hello(v1::Hello::default()));
    let item = v1::digest_reply::Item {
        key: Some(key.clone().into()),
        uid: "u".into(),
        ..v1::digest_reply::Item::default()
    };
    let mut told = heard(session);
    say(session, now, Up::DigestReply(v1::DigestReply { items: vec![item], ..v1::DigestReply::default() }));
    told.extend(heard(session));
    told
}

fn withdrawals(told: &[Down]) -> Vec<&'static str> {
    told.iter()
        .filter_map(|message| match message {
            Down::Remove(_) => Some("remove"),
            Down::Release(_) => Some("release"),
            _ => None,
        })
        .collect()
}

fn withdrawal(session: &Session, key: &Key) -> Option<Withdrawal> {
    session.withdrawal(key).map(|pending| pending.how)
}

#[test]
fn a_release_takes_the_place_of_a_removal_that_was_not_answered() {
    let key = Key::from(v1::Key { name: "web".into(), ..v1::Key::default() });
    let mut session = Session::new(Config::default());
    session.desired_complete();
    session.reconnected(0);
    session.request_removal(key.clone(), "u".into(), 5, v1::Permit::default());
    assert_eq!(withdrawal(&session, &key), Some(Withdrawal::Removal));

    // The agent went away without a word, and the operator thinks better of it.
    session.disconnected();
    session.release(key.clone(), "u".into(), 6);
    assert_eq!(withdrawal(&session, &key), Some(Withdrawal::Release));
    assert_eq!(withdrawals(&told(&mut session, 4, &key)), ["release"]);
    // Also where both came while it was connected: nothing is said twice.
    let other = Key::from(v1::Key { name: "db".into(), ..v1::Key::default() });
    session.request_removal(other.clone(), "v".into(), 7, v1::Permit::default());
    session.release(other, "v".into(), 8);
    assert_eq!(withdrawals(&heard(&mut session)), ["release"]);
}

fn desired(key: &Key, uid: &str, epoch: u64) -> Desired {
    Desired {
        key: key.clone(),
        uid: uid.into(),
        generation: 1,
        epoch,
        manifest: "{}".into(),
        conflict: v1::ConflictPolicy::Refuse,
        lease_ms: 0,
    }
}

#[test]
fn a_copy_whose_name_is_wanted_again_for_another_template_is_taken_over_unless_its_release_was_told() {
    let key = Key::from(v1::Key { name: "web".into(), ..v1::Key::default() });
    let mut session = Session::new(Config::default());
    session.desired_complete();
    session.release(key.clone(), "u".into(), 5);
    session.set_desired(desired(&key, "v", 6));
    assert_eq!(withdrawal(&session, &key), None);
    let told = told(&mut session, 1, &key);
    assert!(withdrawals(&told).is_empty());
    assert!(told.iter().any(|message| matches!(message, Down::Apply(apply) if apply.uid == "v")));

    // The agent may be at it.
    session.release(key.clone(), "v".into(), 7);
    assert_eq!(withdrawals(&heard(&mut session)), ["release"]);
    session.set_desired(desired(&key, "w", 8));
    session.take_back_release(&key, "v");
    assert_eq!(withdrawal(&session, &key), Some(Withdrawal::Release));
}
