//! What one agent may make the hub keep.

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
    session.desired_complete(0);
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
