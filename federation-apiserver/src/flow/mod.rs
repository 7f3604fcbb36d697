//! How many requests are at work, and whose turn is next.
//!
//! One client that asks without end must not keep the others out: requests beyond the seats wait in a queue for each user,
//! and a seat that comes free goes to the user who holds the fewest. `system:masters` and probes never wait.
//! [`queue`] decides; here requests wait.

mod classes;
mod queue;

use std::{sync::Arc, time::Duration};

use apimachinery::ApiError;
use parking_lot::Mutex;
use tokio::sync::oneshot;

pub(crate) use classes::{Class, Classes};
use queue::{Arrival, FairQueue};

/// Requests at work at a time: kube-apiserver's `--max-requests-inflight` and `--max-mutating-requests-inflight` together.
pub(crate) const SEATS: usize = 600;
/// Requests of one user that wait: kube-apiserver's `queueLengthLimit`.
const WAITING_MAX: usize = 50;
/// Requests of all users that wait. With their heads of up to 1 MiB, and most often some KiB, they must fit into memory.
const WAITING_TOTAL_MAX: usize = 6_000;
/// How long a request waits: a quarter of its time, as in kube-apiserver.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// The seats and the queues.
pub(crate) struct Flow {
    queue: Arc<Mutex<FairQueue<oneshot::Sender<()>>>>,
    patience: Duration,
}

/// A seat; dropping it gives it to whoever is next.
pub(crate) struct Seat {
    queue: Arc<Mutex<FairQueue<oneshot::Sender<()>>>>,
    user: Arc<str>,
}

impl Flow {
    /// Seats for so many requests, and how long one waits for a seat.
    pub(crate) fn new(seats: usize, patience: Duration) -> Self {
        let queue = FairQueue::new(seats, WAITING_MAX, WAITING_TOTAL_MAX);
        Self { queue: Arc::new(Mutex::new(queue)), patience }
    }

    /// Waits for a seat, or says 429.
    pub(crate) async fn enter(&self, user: &str) -> Result<Seat, ApiError> {
        let mut receiver = None;
        let arrival = self.queue.lock().arrive(user, || {
            let (sender, turn) = oneshot::channel();
            receiver = Some(turn);
            sender
        });
        let user = match arrival {
            Arrival::Seated(user) => return Ok(self.seat(user)),
            Arrival::Refused => return Err(overloaded()),
            Arrival::Waits(user) => user,
        };
        let Some(receiver) = receiver else { return Err(overloaded()) };
        // A seat that is given while this request gives up goes to the next: the sender finds the receiver gone, or the
        // guard below takes the message out and drops the seat.
        let waiting = Waiting { receiver, queue: Arc::clone(&self.queue), user };
        match tokio::time::timeout(self.patience, waiting.turn()).await {
            Ok(Some(seat)) => Ok(seat),
            Ok(None) | Err(_) => Err(overloaded()),
        }
    }

    fn seat(&self, user: Arc<str>) -> Seat {
        Seat { queue: Arc::clone(&self.queue), user }
    }
}

struct Waiting {
    receiver: oneshot::Receiver<()>,
    queue: Arc<Mutex<FairQueue<oneshot::Sender<()>>>>,
    user: Arc<str>,
}

impl Waiting {
    async fn turn(mut self) -> Option<Seat> {
        let turn = (&mut self.receiver).await;
        turn.ok().map(|()| Seat { queue: Arc::clone(&self.queue), user: Arc::clone(&self.user) })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.receiver.close();
        if self.receiver.try_recv().is_ok() {
            // The seat came in the very moment in which nobody waited for it any more.
            drop(Seat { queue: Arc::clone(&self.queue), user: Arc::clone(&self.user) });
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut queue = self.queue.lock();
        let mut next = queue.leave(&self.user);
        // Who has given up meanwhile is passed over.
        while let Some((user, waiting)) = next {
            if waiting.send(()).is_ok() {
                return;
            }
            next = queue.leave(&user);
        }
    }
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
        let flow = Flow::new(1, Duration::from_millis(20));
        let seat = flow.enter("a").await.unwrap();
        assert_eq!(flow.enter("b").await.err().unwrap().code, 429);
        drop(seat);
        drop(flow.enter("a").await.unwrap());
        drop(flow.enter("b").await.unwrap());
    }

    #[tokio::test]
    async fn a_free_seat_wakes_who_waits() {
        let flow = Arc::new(Flow::new(1, PATIENCE));
        let seat = flow.enter("a").await.unwrap();
        let other = Arc::clone(&flow);
        let waiting = tokio::spawn(async move { other.enter("b").await.is_ok() });
        tokio::task::yield_now().await;
        drop(seat);
        assert!(waiting.await.unwrap());
    }
}
