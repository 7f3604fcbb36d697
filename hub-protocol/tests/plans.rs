//! Contingency plans: shipped as changes, acted on when the survivors agree, and given back to a hub that returns.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bytes::Bytes;
use hub_protocol::agent::{self, Action, Desired, Persist};
use hub_protocol::agreement::Agreement;
use hub_protocol::{Key, hub, plans};
use proto::v1::{self, hub_message::Message as Down};

const AWAY: u64 = 5_000;

fn key(name: &str) -> Key {
    Key {
        group: "apps".into(),
        version: "v1".into(),
        kind: "Deployment".into(),
        resource: "deployments".into(),
        namespace: "default".into(),
        name: name.into(),
    }
}

fn plans(epoch: u64, to: u32, after_ms: u64) -> v1::Plans {
    let take = |name: &str| v1::Take { key: Some(key(name).into()), uid: "u".into(), from: 2, to, after_ms };
    let loss = v1::LossPlan {
        name: "cluster/taiwan".into(),
        clusters: vec!["taiwan".into()],
        takes: vec![take("ledger"), take("web")],
        ..v1::LossPlan::default()
    };
    let point = v1::MeetingPoint { instance: "one".into(), addresses: vec!["192.0.2.1:6445".into()] };
    let council = v1::Council {
        clusters: vec!["taiwan".into(), "tokyo".into()],
        servers: vec![point],
        away_ms: AWAY as u32,
        uids: Vec::new(),
    };
    let mut plans = v1::Plans { epoch, council: Some(council), losses: vec![loss], ..v1::Plans::default() };
    plans.digest = plans::digest(&plans);
    plans
}

/// Tokyo's agent, its hub, and the wire between them.
struct World {
    now: u64,
    agent: agent::Session,
    hub: hub::Session,
    connected: bool,
    kept: v1::KeptPlans,
    applied: Vec<(String, u32)>,
    events: Vec<hub::Event>,
    sent: Vec<Down>,
    agreed: Vec<Agreement>,
    /// What the DNS server says when it is met.
    server: Option<v1::Word>,
    /// What tokyo's agent sees of taiwan.
    down: bool,
}

impl World {
    fn new() -> Self {
        let config = agent::Config { cluster: "tokyo".into(), ..agent::Config::default() };
        let mut hub = hub::Session::new(hub::Config::default());
        for (name, lease_ms) in [("web", 0), ("ledger", 5_000)] {
            hub.set_desired(desired(name, 1, 2, lease_ms));
        }
        hub.desired_complete();
        Self {
            now: 0,
            agent: agent::Session::new(0, config, Desired::default()),
            hub,
            connected: true,
            kept: v1::KeptPlans::default(),
            applied: Vec::new(),
            events: Vec::new(),
            sent: Vec::new(),
            agreed: Vec::new(),
            server: None,
            down: false,
        }
    }

    fn run(&mut self, until: u64) {
        while self.now < until {
            self.now += 100;
            self.hub.tick(self.now);
            self.agent.tick(self.now);
            while let Some(action) = self.agent.poll_action() {
                self.obey(action);
            }
            while let Some(message) = self.agent.poll_transmit() {
                if self.connected {
                    self.hub.handle_message(self.now, message);
                }
            }
            while let Some(event) = self.hub.poll_event() {
                self.events.push(event);
            }
            while let Some(message) = self.hub.poll_transmit() {
                if self.connected {
                    self.sent.extend(message.message.clone());
                    self.agent.handle_message(self.now, message);
                }
            }
        }
    }

    fn obey(&mut self, action: Action) {
        let now = self.now;
        match action {
            Action::Connect if self.connected => {
                self.hub.reconnected(now);
                self.agent.connected(now, now.to_string());
            }
            Action::Connect => self.agent.disconnected(now, 1),
            Action::Disconnect { .. } => {
                self.hub.disconnected();
                self.agent.disconnected(now, 1);
            }
            Action::Apply(entry) => {
                // The ledger's lease lapses without the hub: it stops, which is another story.
                if entry.key == key("web") || entry.floor > 0 {
                    self.applied.push((entry.key.name.clone(), entry.floor));
                }
                let applied = v1::Applied {
                    key: Some((&entry.key).into()),
                    uid: entry.uid,
                    generation: entry.generation,
                    epoch: entry.epoch,
                    result: v1::ApplyResult::Applied.into(),
                    ..v1::Applied::default()
                };
                self.agent.applied(now, applied);
            }
            Action::Persist(Persist::Plans(kept)) => self.kept = *kept,
            Action::Meet { word, servers } => {
                assert_eq!((word.voter.as_str(), servers[0].instance.as_str()), ("agent/tokyo", "one"));
                if let Some(server) = self.server.clone() {
                    self.agent.met(now, "one", vec![server, word]);
                }
            }
            Action::Agreed(agreement) => self.agreed.push(agreement),
            _ => {}
        }
        let state = if self.down { v1::ProbeState::Doubted } else { v1::ProbeState::Up };
        let vote = v1::ProbeVote {
            service: "default/web".into(),
            cluster: "taiwan".into(),
            state: state.into(),
            ..v1::ProbeVote::default()
        };
        self.agent.set_votes(now, vec![vote]);
    }

    /// What the DNS server says from now on, with what it sees of taiwan.
    fn says(&mut self, hub_silent_ms: u64, down: bool) {
        let seen = v1::Seen { cluster: "taiwan".into(), down, for_ms: 60_000 };
        self.server = Some(v1::Word {
            voter: "dns/one".into(),
            hub_silent_ms,
            seen: vec![seen],
            ..v1::Word::default()
        });
    }

    fn hello(&self) -> &v1::Hello {
        let last = self.events.iter().rev().find_map(|event| match event {
            hub::Event::Connected(hello) => Some(hello),
            _ => None,
        });
        last.unwrap()
    }
}

fn desired(name: &str, epoch: u64, replicas: u32, lease_ms: u32) -> hub::Desired {
    hub::Desired {
        key: key(name),
        uid: "u".into(),
        generation: 1,
        epoch,
        manifest: Bytes::from(format!("{{\"spec\":{{\"replicas\":{replicas}}}}}")),
        conflict: v1::ConflictPolicy::Refuse,
        lease_ms,
    }
}

/// Plans are held, and the hub was lost at 10 s.
fn without_a_hub(after_ms: u64) -> World {
    let mut world = World::new();
    world.hub.set_plans(0, plans(7, 4, after_ms));
    world.run(10_000);
    assert_eq!(world.kept.plans.as_ref().unwrap().epoch, 7);
    world.connected = false;
    world.applied.clear();
    world
}

#[test]
fn plans_are_told_whole_once_and_then_as_changes() {
    let mut world = World::new();
    world.hub.set_plans(0, plans(7, 4, 1000));
    world.run(5_000);
    world.hub.set_plans(world.now, plans(8, 5, 1000));
    world.run(6_000);
    let told: Vec<_> = world
        .sent
        .iter()
        .filter_map(|message| match message {
            Down::Plans(plans) => Some((plans.epoch, plans.base, plans.council.is_some())),
            _ => None,
        })
        .collect();
    assert_eq!(told, [(7, 0, true), (8, 7, false)]);
    assert_eq!(world.kept.plans, Some(plans(8, 5, 1000)));
    // A new stream to one that holds them needs nothing.
    world.connected = false;
    world.run(30_000);
    world.connected = true;
    world.sent.clear();
    world.run(60_000);
    assert!(world.agent.is_connected() && !world.sent.iter().any(|sent| matches!(sent, Down::Plans(_))));
    assert_eq!(world.hello().plans_epoch, 8);
}

#[test]
fn the_survivor_runs_more_once_all_agree_for_long_enough() {
    let mut world = without_a_hub(8_000);
    world.down = true;
    world.says(AWAY, true);
    world.run(17_900);
    assert_eq!(world.applied, [], "it has seen it down for less than evictAfter");
    world.run(25_000);
    assert_eq!(world.applied, [("web".to_owned(), 4)], "what may run in one cluster at a time is left alone");
    assert!(
        world
            .agreed
            .iter()
            .any(|agreed| matches!(agreed, Agreement::Lost(lost) if lost.contains_key("taiwan")))
    );
    let acted = world.kept.acted.as_ref().unwrap();
    assert_eq!((acted.revision, acted.epoch, acted.losses[0].as_str()), (1, 7, "cluster/taiwan"));
}

#[test]
fn one_who_hears_the_hub_or_sees_the_cluster_holds_it_back() {
    for (hub_silent_ms, down) in [(0, true), (AWAY, false)] {
        let mut world = without_a_hub(1_000);
        world.down = true;
        world.says(hub_silent_ms, down);
        world.run(60_000);
        assert_eq!(world.applied, [], "{hub_silent_ms} {down}");
    }
}

#[test]
fn an_agent_that_is_cut_off_alone_does_nothing() {
    let mut world = without_a_hub(1_000);
    world.down = true;
    world.run(60_000);
    assert_eq!(world.applied, []);
    assert_eq!(world.agreed, [Agreement::TooFew { heard: 1, of: 3 }]);
}

#[test]
fn what_was_done_stands_until_the_hub_has_taken_it_in() {
    let mut world = without_a_hub(1_000);
    world.down = true;
    world.says(AWAY, true);
    world.run(30_000);
    assert_eq!(world.applied, [("web".to_owned(), 4)]);
    // Over a restart of the agent too.
    let mut again = Desired::load(
        1,
        String::new(),
        world.agent.desired().iter().cloned().map(|entry| agent::Entry { floor: 0, ..entry }),
    );
    again.restore(world.kept.acted.as_ref().unwrap());
    assert_eq!(again.get(&key("web")).unwrap().floor, 4);
    let config = agent::Config { cluster: "tokyo".into(), ..agent::Config::default() };
    world.agent = agent::Session::with_plans(world.now, config, again, world.kept.clone());
    world.applied.clear();
    world.connected = true;
    world.run(40_000);
    let acted = world.hello().acted.clone().unwrap();
    assert_eq!((acted.clusters, acted.raised.len()), (vec!["taiwan".to_owned()], 1));
    // A decision that knows nothing of it changes nothing.
    world.hub.set_desired(hub::Desired { generation: 2, ..desired("web", 9, 2, 0) });
    world.run(42_000);
    assert_eq!(world.applied.last(), Some(&("web".to_owned(), 4)));
    world.hub.set_desired(hub::Desired { generation: 2, ..desired("web", 10, 4, 0) });
    world.hub.set_adopted(1);
    world.run(45_000);
    assert_eq!(world.applied.last(), Some(&("web".to_owned(), 0)), "the manifest says it now");
    assert!(world.kept.acted.is_none() && world.kept.revision == 1);
}

#[test]
fn what_an_agent_did_whose_count_began_anew_is_not_taken_for_what_was_adopted_before() {
    let mut session = hub::Session::new(hub::Config::default());
    session.set_adopted(5);
    let mut told_after = |hello: v1::Hello| {
        session.reconnected(0);
        let say = |session: &mut hub::Session, message| {
            session.handle_message(1, v1::AgentMessage { message: Some(message) });
        };
        say(&mut session, v1::agent_message::Message::Hello(hello));
        say(&mut session, v1::agent_message::Message::Heartbeat(v1::Heartbeat::default()));
        std::iter::from_fn(|| session.poll_transmit())
            .find_map(|message| match message.message {
                Some(Down::HeartbeatAck(ack)) => Some(ack.adopted),
                _ => None,
            })
            .unwrap()
    };
    assert_eq!(told_after(v1::Hello::default()), 5);
    let acted = Some(v1::Acted { revision: 1, ..v1::Acted::default() });
    assert_eq!(told_after(v1::Hello { acted, ..v1::Hello::default() }), 0);
}
