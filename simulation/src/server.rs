//! A DNS server: the real state with its fence, a disk, a prober, and users who ask.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dns_lb::testing::hub::{Disk, Fence, Meeting, Memory, Session, review_withdrawals};
use dns_lb::testing::metrics::DnsMetrics;
use dns_lb::testing::state::State;
use dns_lb::testing::wire::{Name, Type};
use dns_lb::testing::zone::{Answer, Asker, Data, resolve};
use federation_controller::machine::DnsStream;
use federation_prober::Probing;
use federation_runtime::endpoints::Health;
use futures::FutureExt as _;
use proto::v1;

use crate::bug::Bug;
use crate::check::{Checks, Violation};
use crate::clock::Clock;
use crate::dice::Dice;
use crate::hearing::Hearing;
use crate::pipe::Pipe;
use crate::site::{Around, probe};

/// It is looked this often at what is to be withdrawn without the hub, milliseconds.
const LOOK_MS: u64 = 500;
/// What is seen is said again this often, milliseconds.
const VOTES_MS: u64 = 3000;

/// A stream that is silent for so long is known to be, milliseconds.
const KEEPALIVE_MS: u64 = 10_000;

struct Process {
    state: State,
    probing: Probing,
    session: Option<Session>,
    meeting: Meeting,
    looked_at: u64,
    voted_at: u64,
    probe_at: u64,
}

/// The server.
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) clock: Clock,
    pub(crate) up: Pipe<v1::DnsMessage>,
    pub(crate) down: Pipe<v1::ZoneUpdate>,
    /// The hub's end.
    pub(crate) stream: Option<DnsStream>,
    pub(crate) cut_at: Option<u64>,
    pub(crate) connects_at: u64,
    pub(crate) starts_at: u64,
    pub(crate) hearing: Hearing,
    // When both ways to the hub were last open.
    reached_at: u64,
    process: Option<Process>,
    disk: Memory,
    metrics: Arc<DnsMetrics>,
    // Where agents meet.
    meet: SocketAddr,
    // As it was before the last update.
    before: Option<v1::ZoneUpdate>,
}

impl Server {
    pub(crate) fn new(index: usize, dice: &mut Dice) -> Self {
        Self {
            name: format!("d{index}"),
            clock: Clock::new(dice),
            up: Pipe::default(),
            down: Pipe::default(),
            stream: None,
            cut_at: None,
            connects_at: 0,
            starts_at: 0,
            hearing: Hearing::default(),
            reached_at: 0,
            process: None,
            disk: Memory::default(),
            metrics: Arc::new(DnsMetrics::default()),
            meet: SocketAddr::from(([192, 0, 2, 100 + index as u8], 443)),
            before: None,
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.stream.is_some() && self.process.as_ref().is_some_and(|process| process.session.is_some())
    }

    /// The process is killed. What it wrote last may not have reached its disk.
    pub(crate) fn kill(&mut self, now: u64, down_ms: u64, loses_last: bool) {
        self.process = None;
        self.starts_at = now + down_ms;
        self.cut(now, 0);
        if loses_last && let Some(before) = self.before.take() {
            *self.disk.lock() = Some(before);
        }
    }

    /// The stream breaks; the server notices after so long.
    pub(crate) fn cut(&mut self, now: u64, after: u64) {
        self.up.take();
        self.down.take();
        self.stream = None;
        self.cut_at.get_or_insert(now + after);
    }

    fn start(&mut self, around: &mut Around<'_>) {
        self.clock.enter(around.now);
        let disk = Disk::in_memory(self.disk.clone());
        let (health, fence) = (Health::new(), Fence::default());
        let state = State::new(self.metrics.clone(), health, Some(disk), fence, Duration::from_secs(3600));
        if around.bug != Bug::DiskNotRead {
            // A disk in memory is never damaged.
            let _ = state.load();
        }
        let probing = Probing::still(around.dice.roll());
        probing.set_targets(state.targets().to_vec());
        let meeting = Meeting::new(&self.name, state.clone());
        self.process =
            Some(Process { state, probing, session: None, meeting, looked_at: 0, voted_at: 0, probe_at: 0 });
        around.checks.server_starts(&self.name);
        around.checks.note(around.now, || format!("{}: the DNS server starts", self.name));
    }

    /// The stream is up.
    pub(crate) fn connected(&mut self, now: u64, stream: DnsStream) {
        self.clock.enter(now);
        self.up = Pipe::default();
        self.down = Pipe::default();
        self.stream = Some(stream);
        self.cut_at = None;
        if let Some(process) = &mut self.process {
            process.state.connected();
            let session = Session::new(
                process.state.clone(),
                process.probing.clone(),
                &self.name,
                &[],
                Some(self.meet),
            );
            self.up.send(now, session.hello());
            process.session = Some(session);
        }
    }

    /// Says whether the hub is reached; a stream on which nothing comes back is given up.
    pub(crate) fn reaches_hub(&mut self, now: u64, reached: bool) {
        if reached {
            self.reached_at = now;
        } else if now - self.reached_at >= KEEPALIVE_MS && self.stream.is_some() {
            self.cut(now, 0);
        }
    }

    pub(crate) fn wants_to_connect(&self, now: u64) -> bool {
        self.process.as_ref().is_some_and(|process| process.session.is_none()) && now >= self.connects_at
    }

    /// Lets the server go on.
    pub(crate) fn step(
        &mut self,
        hub_to_server: bool,
        reach: impl Fn(&str) -> bool,
        around: &mut Around<'_>,
    ) -> Result<(), Violation> {
        let now = around.now;
        if self.process.is_none() {
            if now < self.starts_at {
                return Ok(());
            }
            self.start(around);
        }
        self.clock.enter(now);
        let Some(process) = &mut self.process else { return Ok(()) };
        if self.cut_at.is_some_and(|at| now >= at) {
            self.cut_at = None;
            if process.session.take().is_some() {
                process.state.disconnected();
                self.connects_at = now + around.dice.between(100, 3_000);
            }
        }
        if let Some(session) = &mut process.session {
            self.hearing.note(now);
            while let Some(mut update) = self.down.receive(now, hub_to_server) {
                self.before.clone_from(&self.disk.lock());
                if around.bug == Bug::ZonesUnfenced && around.dice.chance(200) {
                    // As if what is served said nothing of what may come.
                    update = v1::ZoneUpdate { epoch: update.epoch / 2, base: 0, ..update };
                    process.state = State::new(
                        self.metrics.clone(),
                        Health::new(),
                        Some(Disk::in_memory(self.disk.clone())),
                        Fence::default(),
                        Duration::from_secs(3600),
                    );
                    *session = Session::new(
                        process.state.clone(),
                        process.probing.clone(),
                        &self.name,
                        &[],
                        Some(self.meet),
                    );
                }
                if around.bug == Bug::EmptyZone && around.dice.chance(300) {
                    for zone in &mut update.zones {
                        zone.records.clear();
                        update.withdrawn.push(zone.origin.clone());
                    }
                }
                let epoch = update.epoch;
                let answer = session.receive(update).now_or_never().flatten();
                around.checks.note(now, || format!("{}: zones of epoch {epoch}", self.name));
                if let Some(answer) = answer {
                    self.up.send(now + crate::net::delay(around.dice), answer);
                }
            }
            let mut votes = session.changed_votes();
            if now >= process.voted_at {
                process.voted_at = now + VOTES_MS;
                votes.extend(session.all_votes());
            }
            for vote in votes {
                self.up.send(now + crate::net::delay(around.dice), vote);
            }
        } else {
            self.down.take();
        }
        if now >= process.probe_at {
            process.probe_at = probe(&process.probing, now, reach);
        }
        if now >= process.looked_at {
            process.looked_at = now + LOOK_MS;
            review_withdrawals(&process.state, &process.probing);
            process.meeting.look(&process.probing);
        }
        around.checks.serves(&self.name, process.state.served().0)
    }

    /// The addresses that a user gets; none while nobody answers.
    pub(crate) fn ask(&self, name: &Name, key: u64) -> Option<Vec<String>> {
        let snapshot = self.process.as_ref()?.state.published().snapshot();
        let asker = Asker { key, ..Asker::default() };
        let found = resolve(&snapshot.zones, name, Type::A, &asker, key);
        let data = |answer: &Answer| match answer {
            Answer::Record { data: Data::A(address), .. } => Some(address.to_string()),
            _ => None,
        };
        Some(found.answers.iter().filter_map(data).collect())
    }

    /// An agent leaves its word, and takes everybody's; none while nobody answers.
    pub(crate) fn meet(&self, now: u64, cluster: &str, word: v1::Word) -> Option<Vec<v1::Word>> {
        self.clock.enter(now);
        Some(self.process.as_ref()?.meeting.leave_word(cluster, "", word))
    }

    /// Epoch of what is served.
    pub(crate) fn epoch(&self) -> u64 {
        self.process.as_ref().map_or(0, |process| process.state.served().0)
    }
}

/// Users ask every server that is up.
pub(crate) fn users_ask(
    servers: &[Server],
    name: &Name,
    now: u64,
    checks: &mut Checks,
    dice: &mut Dice,
) -> Result<(), Violation> {
    for server in servers {
        if let Some(addresses) = server.ask(name, dice.roll()) {
            let (who, count) = (&server.name, addresses.len());
            checks.note(now, || format!("{who}: a user gets {addresses:?}"));
            checks.answers(who, count)?;
        }
    }
    Ok(())
}
