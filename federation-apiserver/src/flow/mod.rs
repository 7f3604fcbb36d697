//! How many requests are at work, and whose turn is next: priority and fairness (KEP-1040).
//!
//! A FlowSchema classes a request ([`classify`]), its PriorityLevelConfiguration says how many may be at work and how the others wait
//! ([`seats`] decides), and here requests wait. `system:masters` and what is exempt never wait. Where the store has no configuration yet, one level holds
//! everybody.

mod classify;
mod defaults;
mod held;
mod metrics;
mod rule;
mod seats;

use std::{sync::Arc, time::Duration};

use apimachinery::ApiError;
use federation_runtime::endpoints::Metrics;
use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};
use tokio::sync::oneshot;

pub(crate) use classify::{Classification, Classifier};
pub(crate) use defaults::{levels, mandatory_level, mandatory_schema, schemas};
pub(crate) use held::until_end;
use seats::{Arrival, Limits, Place, Queuing, Seats};

use crate::store::Storage;

/// Requests at work at a time: kube-apiserver's `--max-requests-inflight` and `--max-mutating-requests-inflight` together.
pub(crate) const SEATS: usize = 600;
/// Requests of all users that wait. With their heads of up to 1 MiB, and most often some KiB, they must fit into memory. Levels share it as they share
/// the seats: one level of 128 queues of 50 alone would fill it.
const WAITING_TOTAL_MAX: usize = 6_000;
/// How long a request waits: a quarter of its time, as in kube-apiserver.
pub(crate) const REQUEST_WAIT_LIMIT: Duration = Duration::from_secs(15);
/// The level of those whom no schema classes.
const UNCLASSED: &str = "";

/// What refused requests are counted under.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    flow_schema: String,
    priority_level: String,
    reason: &'static str,
}

type Waiters = Seats<oneshot::Sender<Place>>;

/// The seats and the queues.
pub(crate) struct Flow {
    seats: Arc<Mutex<Waiters>>,
    classes: Arc<Classifier>,
    patience: Duration,
    refused: Family<Refused, Counter>,
}

/// A seat; dropping it gives it to whoever is next. What is exempt sits on none.
pub(crate) struct Seat(Option<(Arc<Mutex<Waiters>>, Place)>);

impl Flow {
    /// Seats for so many requests, and how long one waits for a seat.
    pub(crate) fn new(seats: usize, patience: Duration, metrics: &Metrics) -> Self {
        let refused = Family::default();
        metrics.register(|registry| {
            registry.register(
                "apiserver_flowcontrol_rejected_requests",
                "Requests that were sent away, by schema, level and reason",
                refused.clone(),
            );
        });
        let mut seats = Seats::new(seats, WAITING_TOTAL_MAX);
        // Nobody waits yet.
        drop(seats.share_out(&with_unclassed(Vec::new())));
        Self { seats: Arc::new(Mutex::new(seats)), classes: Arc::default(), patience, refused }
    }

    /// Has the levels of a store told among the metrics.
    pub(crate) fn register_metrics(self, metrics: &Metrics, storage: Storage) -> Self {
        let levels = metrics::LevelMetrics {
            seats: Arc::clone(&self.seats),
            classes: Arc::clone(&self.classes),
            storage,
        };
        metrics.register(|registry| registry.register_collector(Box::new(levels)));
        self
    }

    /// The schemas and levels.
    pub(crate) fn classes(&self) -> &Classifier {
        &self.classes
    }

    /// Waits for a seat, or says 429.
    pub(crate) async fn enter(&self, class: Option<&Classification>, user: &str) -> Result<Seat, ApiError> {
        if class.is_some_and(Classification::is_exempt) {
            return Ok(Seat(None));
        }
        let (level, flow) = match class {
            Some(class) => (class.level(), class.flow()),
            None => (UNCLASSED, classify::flow_of(&["", user])),
        };
        let mut receiver = None;
        let (arrival, next) = {
            let mut seats = self.seats.lock();
            let next = recompute_shares(&mut seats, &self.classes);
            // A level of this very moment, which the seats have not heard of yet.
            let level = if seats.knows(level) { level } else { UNCLASSED };
            let mut arrive = |seats: &mut Waiters| {
                seats.arrive(level, flow, || {
                    let (sender, turn) = oneshot::channel();
                    receiver = Some(turn);
                    sender
                })
            };
            let mut arrival = arrive(&mut seats);
            // Where there is no room, those may stand in the way who have given up.
            if arrival == Arrival::Refused && seats.forget(oneshot::Sender::is_closed) > 0 {
                arrival = arrive(&mut seats);
            }
            (arrival, next)
        };
        wake(&self.seats, next);
        match arrival {
            Arrival::Seated(place) => return Ok(Seat(Some((Arc::clone(&self.seats), place)))),
            Arrival::Refused => return Err(self.refuse(class, "queue-full")),
            Arrival::Waits => {}
        }
        let Some(receiver) = receiver else { return Err(self.refuse(class, "queue-full")) };
        // A seat that is given while this request gives up goes to the next: the sender finds the receiver gone, or the
        // guard below takes the message out and drops the seat.
        let waiting = Waiting { receiver, seats: Arc::clone(&self.seats) };
        match tokio::time::timeout(self.patience, waiting.turn()).await {
            Ok(Some(seat)) => Ok(seat),
            Ok(None) | Err(_) => Err(self.refuse(class, "time-out")),
        }
    }

    fn refuse(&self, class: Option<&Classification>, reason: &'static str) -> ApiError {
        let counted = Refused {
            flow_schema: class.map_or("", Classification::schema).to_owned(),
            priority_level: class.map_or("", Classification::level).to_owned(),
            reason,
        };
        self.refused.get_or_create(&counted).inc();
        overloaded()
    }
}

struct Waiting {
    receiver: oneshot::Receiver<Place>,
    seats: Arc<Mutex<Waiters>>,
}

impl Waiting {
    async fn turn(mut self) -> Option<Seat> {
        let turn = (&mut self.receiver).await;
        turn.ok().map(|place| Seat(Some((Arc::clone(&self.seats), place))))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.receiver.close();
        if let Ok(place) = self.receiver.try_recv() {
            // The seat came in the very moment in which nobody waited for it any more.
            drop(Seat(Some((Arc::clone(&self.seats), place))));
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some((seats, place)) = self.0.take() {
            let next = seats.lock().leave(place);
            wake(&seats, next);
        }
    }
}

/// Shares the seats out anew if the levels have changed. Returns who may sit down now.
fn recompute_shares(seats: &mut Waiters, classes: &Classifier) -> Vec<(Place, oneshot::Sender<Place>)> {
    let changed = classes.changed_levels();
    changed.map(|levels| seats.share_out(&with_unclassed(levels))).unwrap_or_default()
}

/// Tells those who may sit down. Who has given up meanwhile is passed over.
fn wake(seats: &Mutex<Waiters>, mut next: Vec<(Place, oneshot::Sender<Place>)>) {
    while let Some((place, waiting)) = next.pop() {
        if waiting.send(place).is_err() {
            next.extend(seats.lock().leave(place));
        }
    }
}

/// The levels, and one for those whom no schema classes: without levels it has everything, with them it may only borrow what is lent.
fn with_unclassed(mut levels: Vec<(Arc<str>, Limits)>) -> Vec<(Arc<str>, Limits)> {
    let everybody = Limits {
        shares: u64::from(levels.is_empty()),
        lendable_percent: 0,
        borrowing_percent: None,
        queuing: Some(Queuing { queues: 128, hand: 1, length: 50 }),
    };
    levels.push((UNCLASSED.into(), everybody));
    levels
}

fn overloaded() -> ApiError {
    ApiError::too_many_requests(
        "the server has received too many requests and has asked us to try again later",
        1,
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_too_long_is_sent_away_and_takes_no_seat() {
        let flow = Flow::new(1, Duration::from_millis(20), &Metrics::new());
        let seat = flow.enter(None, "a").await.unwrap();
        assert_eq!(flow.enter(None, "b").await.err().unwrap().code, 429);
        drop(seat);
        drop(flow.enter(None, "a").await.unwrap());
        drop(flow.enter(None, "b").await.unwrap());
    }

    #[tokio::test]
    async fn who_has_given_up_keeps_nobody_out() {
        let flow = Arc::new(Flow::new(1, Duration::from_millis(5), &Metrics::new()));
        let _seat = flow.enter(None, "a").await.unwrap();
        for _ in 0..60 {
            assert!(flow.enter(None, "b").await.is_err());
        }
        let count = |reason| {
            let under = Refused { flow_schema: String::new(), priority_level: String::new(), reason };
            flow.refused.get_or_create(&under).get()
        };
        assert_eq!((count("time-out"), count("queue-full")), (60, 0));
    }

    #[tokio::test]
    async fn a_free_seat_wakes_who_waits() {
        let flow = Arc::new(Flow::new(1, REQUEST_WAIT_LIMIT, &Metrics::new()));
        let seat = flow.enter(None, "a").await.unwrap();
        let other = Arc::clone(&flow);
        let waiting = tokio::spawn(async move { other.enter(None, "b").await.is_ok() });
        tokio::task::yield_now().await;
        drop(seat);
        assert!(waiting.await.unwrap());
    }
}
