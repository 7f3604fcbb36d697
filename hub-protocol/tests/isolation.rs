//! An agent that a drill cuts off: away for real, and back by a word or by silence.

use hub_protocol::agent::{Action, Config, Desired, Session};
use proto::v1::{self, agent_message::Message as Up, hub_message::Message as Down};

fn actions(session: &mut Session) -> Vec<Action> {
    std::iter::from_fn(|| session.poll_action()).collect()
}

fn say(session: &mut Session, now: u64, message: Down) {
    session.handle_message(now, v1::HubMessage { message: Some(message) });
}

/// A session that the hub has welcomed, and cut off at 1000 for five seconds.
fn cut_off() -> Session {
    let mut session = Session::new(0, Config::default(), Desired::default());
    session.tick(0);
    assert!(matches!(actions(&mut session).as_slice(), [Action::Connect]));
    session.connected(10, "one".into());
    let hello = session.poll_transmit().and_then(|message| message.message);
    assert!(matches!(hello, Some(Up::Hello(hello)) if hello.isolable));
    say(&mut session, 20, Down::Welcome(v1::Welcome { session: "one".into(), ..v1::Welcome::default() }));
    actions(&mut session);
    say(&mut session, 1000, Down::Isolate(v1::Isolate { drill: "cut".into(), lease_ms: 5000 }));
    let told = actions(&mut session);
    let left = told.iter().any(|action| matches!(action, Action::Disconnect { .. }));
    let asks = told.iter().any(|action| matches!(action, Action::Isolate { drill } if drill == "cut"));
    assert!(left && asks, "{told:?}");
    session.disconnected(1000, 7);
    assert_eq!(session.isolated(), Some("cut"));
    session
}

/// Ticks as a driver does, until it dials; when that was.
fn dials(session: &mut Session, mut now: u64) -> u64 {
    loop {
        now = session.next_deadline().map_or(now, |at| at.max(now));
        session.tick(now);
        if actions(session).iter().any(|action| matches!(action, Action::Connect)) {
            return now;
        }
        assert!(now < 60_000, "it never dials");
    }
}

#[test]
fn without_a_word_of_the_hub_it_comes_back_when_the_lease_lapses() {
    let mut session = cut_off();
    assert_eq!(dials(&mut session, 1000), 6000);
    assert_eq!(session.isolated(), None);
}

#[test]
fn it_stays_away_while_the_hub_says_so_and_not_longer() {
    let mut session = cut_off();
    session.held(5000, "cut", Some(5000));
    session.tick(9999);
    assert!(actions(&mut session).is_empty());
    session.held(9999, "cut", None);
    assert_eq!(dials(&mut session, 9999), 9999);
}
