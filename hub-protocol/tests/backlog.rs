//! What one agent may make the hub keep.

use hub_protocol::MANIFEST_LIMIT;
use hub_protocol::hub::{Config, Session};
use proto::v1::{self, agent_message::Message as Up, hub_message::Message as Down};

fn say(session: &mut Session, now: u64, message: Up) {
    session.handle_message(now, v1::AgentMessage { message: Some(message) });
}

fn heartbeat(sequence: u64) -> Up {
    Up::Heartbeat(v1::Heartbeat { sequence, digest: 1, objects: 1, ..v1::Heartbeat::default() })
}

#[test]
fn an_agent_that_speaks_and_does_not_read_costs_a_few_messages() {
    let mut session = Session::new(Config::default());
    session.desired_complete();
    session.reconnected(0);
    say(&mut session, 0, Up::Hello(v1::Hello { session: "one".into(), ..v1::Hello::default() }));
    for sequence in 1..=10_000 {
        let now = sequence * 1000;
        say(&mut session, now, heartbeat(sequence));
        say(
            &mut session,
            now,
            Up::DigestReply(v1::DigestReply { equal: true, ..v1::DigestReply::default() }),
        );
        while session.poll_event().is_some() {}
    }
    let waiting: Vec<_> =
        std::iter::from_fn(|| session.poll_transmit()).filter_map(|message| message.message).collect();
    assert!(waiting.len() <= 4, "{} messages wait", waiting.len());
    let newest = waiting.iter().find_map(|message| match message {
        Down::HeartbeatAck(ack) => Some(ack.sequence),
        _ => None,
    });
    assert_eq!(newest, Some(10_000), "the newest acknowledgement stands for all");
}

#[test]
fn events_that_find_no_room_while_the_agent_is_away_are_counted_and_the_newest_are_kept() {
    let mut session = Session::new(Config { event_backlog: 2, ..Config::default() });
    for id in ["one", "two", "three"] {
        session.deliver_event(v1::DeliverEvent { id: id.into(), ..v1::DeliverEvent::default() });
    }
    let event = vec![0; MANIFEST_LIMIT + 1].into();
    session.deliver_event(v1::DeliverEvent { event, ..v1::DeliverEvent::default() });
    assert_eq!(session.events_dropped(), 2);
    session.reconnected(0);
    say(&mut session, 0, Up::Hello(v1::Hello::default()));
    let ids = std::iter::from_fn(|| session.poll_transmit()).filter_map(|message| match message.message {
        Some(Down::Event(event)) => Some(event.id),
        _ => None,
    });
    assert_eq!(ids.collect::<Vec<_>>(), ["two", "three"]);
}
