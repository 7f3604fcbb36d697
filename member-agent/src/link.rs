//! The one task that owns the session: feeds it messages, time and outcomes, and does what it says.

pub(crate) mod beside;
mod turn;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use federation_prober::Probing;
use federation_runtime::endpoints::Health;
use federation_runtime::shutdown::Shutdown;
use hub_protocol::agent::Session;
use proto::v1;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, sleep_until};

use crate::discovery::Discovery;
use crate::executor::Executor;
use crate::identity::Membership;
use crate::member::Member;
use crate::metrics::Metrics;
use crate::store::{self, Store};
use crate::welcome::Welcome;
use crate::world::{Report, World};
use turn::Turn;

/// Messages between the session and the stream, each way. Downwards at most a window of 512 manifests of a few KiB is under way, so this
/// is slack for the reader; upwards the session coalesces what finds no room.
const MESSAGES: usize = 128;
/// Inputs taken in before the session's actions are carried out: one fsync serves them all.
const BATCH: usize = 256;
/// Interval at which votes about other members are passed to the session; changed votes are passed at once.
const VOTES_EVERY: Duration = Duration::from_secs(1);

/// Everything that the session's task needs.
pub(crate) struct Link {
    pub(crate) session: Session,
    pub(crate) store: Store,
    pub(crate) world: Arc<World>,
    pub(crate) executor: Executor,
    pub(crate) member: Member,
    pub(crate) discovery: Arc<Discovery>,
    pub(crate) hub: String,
    pub(crate) directory: PathBuf,
    pub(crate) membership: Membership,
    pub(crate) not_after: watch::Sender<i64>,
    pub(crate) probing: Probing,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
    pub(crate) welcome: Welcome,
}

impl Link {
    /// Runs until `shutdown`, or until the desired state cannot be written.
    pub(crate) async fn run(
        self,
        mut reports: mpsc::Receiver<Report>,
        shutdown: Shutdown,
    ) -> Result<(), store::Error> {
        let (inputs_in, mut inputs) = mpsc::channel(MESSAGES);
        let (renewed_in, mut renewed) = mpsc::channel(1);
        let mut turned = self.probing.changes();
        let mut look = tokio::time::interval(VOTES_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut turn = Turn::new(self, inputs_in, renewed_in, &shutdown);
        loop {
            turn.carry_out()?;
            turn.send();
            // One input, and then what else is there already.
            let (wake, room) = (turn.wake(), turn.awaited_room());
            tokio::select! {
                () = shutdown.wait() => break,
                Some(input) = inputs.recv() => {
                    turn.take_input(input);
                    for _ in 0..BATCH {
                        let Ok(input) = inputs.try_recv() else { break };
                        turn.take_input(input);
                    }
                }
                Some(report) = reports.recv() => {
                    turn.take_report(report);
                    for _ in 0..BATCH {
                        let Ok(report) = reports.try_recv() else { break };
                        turn.take_report(report);
                    }
                }
                Some(membership) = renewed.recv() => turn.renewed(membership),
                Some(()) = permit(room) => {}
                Some(_ended) = turn.beside.join_next() => {}
                Ok(()) = turned.changed() => turn.pass_votes(),
                _ = look.tick() => turn.pass_votes(),
                () = sleep_until(wake.into()) => {}
            }
            turn.tick();
        }
        Ok(())
    }
}

async fn permit(up: Option<mpsc::Sender<v1::AgentMessage>>) -> Option<()> {
    up?.reserve_owned().await.ok().map(drop)
}
