//! A comparison of more objects than one message holds.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bytes::Bytes;
use hub_protocol::agent::{self, Entry, State};
use hub_protocol::{ITEMS, Key, MESSAGE_LIMIT, hub};
use prost::Message as _;
use proto::v1::{self, ConflictPolicy, agent_message::Message as Up, hub_message::Message as Down};

/// Together longer than a message may be.
const OBJECTS: usize = 6 * ITEMS + 5;

/// With names as long as Kubernetes takes them.
fn key(number: usize) -> Key {
    Key {
        group: "g".repeat(253),
        version: "v".repeat(63),
        kind: "K".repeat(63),
        resource: "r".repeat(63),
        namespace: "n".repeat(63),
        name: format!("{number:0>253}"),
    }
}

fn entry(number: usize, uid: &str) -> Entry {
    Entry {
        key: key(number),
        uid: format!("{uid}-{number:0>32}"),
        generation: i64::MAX,
        epoch: u64::MAX / 2,
        manifest: Bytes::from_static(b"{}"),
        conflict: ConflictPolicy::Refuse,
        lease_ms: 0,
        stopped: false,
        floor: 0,
        state: State::Held,
    }
}

fn desired(number: usize, uid: &str) -> hub::Desired {
    let Entry { key, uid, generation, epoch, manifest, conflict, lease_ms, .. } = entry(number, uid);
    hub::Desired { key, uid, generation, epoch, manifest, conflict, lease_ms }
}

#[test]
fn a_hub_that_restarts_compares_more_objects_than_a_message_holds() {
    let holds = (0..OBJECTS).map(|number| entry(number, "same"));
    let table = agent::Desired::load(u64::MAX / 2, String::new(), holds);
    let mut agent = agent::Session::new(0, agent::Config::default(), table);
    agent.tick(0);
    while agent.poll_action().is_some() {}
    let mut hub = hub::Session::new(hub::Config::default());
    // Two are strays, the last of all among them; one was made anew meanwhile; one is new.
    hub.set_desired(desired(OBJECTS, "same"));
    hub.set_desired(desired(7, "other"));
    for number in (1..OBJECTS - 1).filter(|number| *number != 7) {
        hub.set_desired(desired(number, "same"));
    }
    hub.desired_complete();
    hub.reconnected(0);
    agent.connected(0, "one".into());

    let (mut pages, mut applies, mut heartbeats_before_the_last_page) = (0, Vec::new(), 0);
    let mut heartbeats = 0;
    loop {
        let mut quiet = true;
        if let Some(message) = agent.poll_transmit() {
            quiet = false;
            assert!(message.encoded_len() < MESSAGE_LIMIT, "{} octets", message.encoded_len());
            match &message.message {
                Some(Up::DigestReply(_)) => {
                    pages += 1;
                    heartbeats_before_the_last_page = heartbeats;
                    agent.tick(pages * 1000);
                }
                Some(Up::Heartbeat(_)) => heartbeats += 1,
                _ => {}
            }
            hub.handle_message(0, message);
        }
        while let Some(message) = hub.poll_transmit() {
            quiet = false;
            if let Some(Down::Apply(apply)) = &message.message {
                applies.push(Key::from(apply.key.clone().unwrap()));
            }
            agent.handle_message(pages * 1000, message);
        }
        if quiet {
            break;
        }
    }
    assert_eq!(pages, OBJECTS.div_ceil(ITEMS) as u64);
    assert!(heartbeats_before_the_last_page + 2 >= pages, "heartbeats go between the pages");
    applies.sort();
    assert_eq!(applies, [key(7), key(OBJECTS)]);
    let strays: Vec<Key> = std::iter::from_fn(|| hub.poll_event())
        .filter_map(|event| match event {
            hub::Event::Strays { count: 2, some } => Some(some),
            hub::Event::Strays { count, .. } => panic!("{count}"),
            hub::Event::Violation(what) => panic!("{what}"),
            _ => None,
        })
        .flatten()
        .map(|item| Key::from(item.key.unwrap()))
        .collect();
    assert_eq!(strays, [key(0), key(OBJECTS - 1)]);
}

#[test]
fn strays_are_counted_anew_with_each_comparison_and_are_none_when_they_are_wanted() {
    let mut hub = hub::Session::new(hub::Config::default());
    hub.desired_complete();
    let say = |hub: &mut hub::Session, message| {
        hub.handle_message(0, v1::AgentMessage { message: Some(message) });
    };
    let counts = |hub: &mut hub::Session| -> Vec<usize> {
        std::iter::from_fn(|| hub.poll_event())
            .filter_map(|event| match event {
                hub::Event::Strays { count, .. } => Some(count),
                _ => None,
            })
            .collect()
    };
    for stream in ["one", "two", "three"] {
        hub.reconnected(0);
        say(&mut hub, Up::Hello(v1::Hello { session: stream.into(), ..v1::Hello::default() }));
        let items = [1, 2].map(|number| v1::digest_reply::Item {
            key: Some((&key(number)).into()),
            uid: "same".into(),
            ..v1::digest_reply::Item::default()
        });
        say(&mut hub, Up::DigestReply(v1::DigestReply { equal: false, items: items.into(), more: false }));
        assert_eq!(counts(&mut hub), [2], "{stream}");
    }
    let beat = || Up::Heartbeat(v1::Heartbeat::default());
    say(&mut hub, beat());
    assert!(counts(&mut hub).is_empty(), "nothing new");
    // Their manifests are applied again.
    hub.set_desired(desired(1, "same"));
    hub.set_desired(desired(2, "same"));
    say(&mut hub, beat());
    assert_eq!(counts(&mut hub), [0]);
    say(&mut hub, beat());
    assert!(counts(&mut hub).is_empty());
}

#[test]
fn what_is_wanted_while_the_answer_comes_is_sent_if_it_is_not_there() {
    let mut hub = hub::Session::new(hub::Config::default());
    for number in 0..4 {
        hub.set_desired(desired(number, "same"));
    }
    hub.desired_complete();
    hub.reconnected(0);
    let say = |hub: &mut hub::Session, message| {
        hub.handle_message(0, v1::AgentMessage { message: Some(message) });
    };
    let item = |number: usize| {
        let entry = entry(number, "same");
        let hash = hub_protocol::content_hash(&entry.manifest);
        let Entry { key, uid, generation, epoch, .. } = entry;
        v1::digest_reply::Item { key: Some((&key).into()), uid, generation, epoch, hash, replicas: None }
    };
    let page = |items: &[usize], more| {
        let items = items.iter().map(|number| item(*number)).collect();
        Up::DigestReply(v1::DigestReply { equal: false, items, more })
    };
    let applies = |hub: &mut hub::Session| -> Vec<Key> {
        std::iter::from_fn(|| hub.poll_transmit())
            .filter_map(|message| match message.message {
                Some(Down::Apply(apply)) => apply.key.map(Key::from),
                _ => None,
            })
            .collect()
    };
    say(&mut hub, Up::Hello(v1::Hello { session: "one".into(), ..v1::Hello::default() }));
    say(&mut hub, page(&[0, 5], true));
    assert!(applies(&mut hub).is_empty(), "nothing is sent before all of the answer is there");
    // One that the agent has said that it holds, one that it will say, and one that it does not hold.
    for number in [5, 6, 7] {
        hub.set_desired(desired(number, "same"));
    }
    say(&mut hub, page(&[1, 6], true));
    say(&mut hub, page(&[2], false));
    assert_eq!(applies(&mut hub), [key(3), key(7)]);
    assert!(
        !std::iter::from_fn(|| hub.poll_event()).any(|event| matches!(event, hub::Event::Strays { .. })),
        "nothing is astray"
    );
}
