//! When an agent gives up a hub that does not answer.

use hub_protocol::agent::{Action, Config, Desired, Session};
use proto::v1::{self, agent_message::Message as Up, hub_message::Message as Down};

/// A session that the hub has welcomed at 20.
fn welcomed() -> Session {
    let mut session = Session::new(0, Config::default(), Desired::default());
    session.tick(0);
    session.connected(10, "one".into());
    say(&mut session, 20, Down::Welcome(v1::Welcome { session: "one".into(), ..v1::Welcome::default() }));
    session.tick(20);
    while session.poll_action().is_some() {}
    sent(&mut session);
    session
}

fn say(session: &mut Session, now: u64, message: Down) {
    session.handle_message(now, v1::HubMessage { message: Some(message) });
}

fn acknowledge(session: &mut Session, now: u64, sequence: u64) {
    say(session, now, Down::HeartbeatAck(v1::HeartbeatAck { sequence, ..v1::HeartbeatAck::default() }));
}

/// The numbers of the heartbeats that it sends.
fn sent(session: &mut Session) -> Vec<u64> {
    let messages = std::iter::from_fn(|| session.poll_transmit());
    messages
        .filter_map(|message| match message.message {
            Some(Up::Heartbeat(heartbeat)) => Some(heartbeat.sequence),
            _ => None,
        })
        .collect()
}

fn gives_up(session: &mut Session) -> bool {
    std::iter::from_fn(|| session.poll_action()).any(|action| matches!(action, Action::Disconnect { .. }))
}

fn down(target: u32) -> v1::ProbeVote {
    v1::ProbeVote { cluster: format!("c{target}"), state: v1::ProbeState::Down.into(), ..Default::default() }
}

#[test]
fn votes_that_turn_within_one_round_trip_are_no_lost_hub() {
    let mut session = welcomed();
    for turned in 1..=20 {
        let now = 100 + u64::from(turned) * 50;
        session.set_votes(now, (0..turned).map(down).collect());
        session.tick(now);
        assert_eq!(sent(&mut session), [u64::from(turned) + 1], "each is told at once");
        assert!(!gives_up(&mut session), "after {turned} votes");
    }
    acknowledge(&mut session, 1200, 21);
    assert_eq!(session.rtt_micros(), 100_000);
    session.tick(1300);
    assert!(!gives_up(&mut session));
}

#[test]
fn a_sites_fall_is_told_at_once_and_in_few_heartbeats() {
    let mut session = welcomed();
    let mut told = Vec::new();
    for now in 100..400 {
        session.set_votes(now, (0..=(now - 100) as u32).map(down).collect());
        session.tick(now);
        told.extend(sent(&mut session).iter().map(|_| now));
    }
    assert_eq!(told, [100, 150, 200, 250, 300, 350]);
    let last = session.next_deadline();
    assert_eq!(last, Some(400), "and the last of it no later than that");
}

#[test]
fn a_hub_that_answers_nothing_for_five_periods_is_lost() {
    let mut session = welcomed();
    let mut now = 20;
    while !gives_up(&mut session) {
        now = session.next_deadline().map_or(now, |at| at.max(now));
        assert!(now < 60_000, "it never gives up");
        session.tick(now);
    }
    assert_eq!(now, 5020);
}

#[test]
fn a_burst_does_not_make_a_dead_hub_look_alive() {
    let mut session = welcomed();
    for turned in 1..=200 {
        session.set_votes(100, (0..turned).map(down).collect());
        session.tick(100);
    }
    let mut now = 100;
    while !gives_up(&mut session) {
        now = session.next_deadline().map_or(now, |at| at.max(now));
        assert!(now < 60_000, "it never gives up");
        session.tick(now);
    }
    assert!((5020..6100).contains(&now), "{now}");
}

#[test]
fn an_agent_that_slept_listens_before_it_gives_up() {
    let mut session = welcomed();
    session.tick(60_000);
    assert!(!gives_up(&mut session), "the answer may be in the socket");
    acknowledge(&mut session, 60_001, 2);
    session.tick(61_000);
    assert!(!gives_up(&mut session));
}
