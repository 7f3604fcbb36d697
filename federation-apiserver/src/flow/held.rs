//! Seats of requests whose answers are made while they are sent.

use std::{sync::Arc, time::Duration};

use http::Response;
use http_body::Body as _;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::Seat;
use crate::http::{Body, body};

/// Lets a request keep its seat until its answer is made to its end, or nobody wants it any more, but no longer than that: who does not read
/// must not keep others waiting.
pub(crate) fn until_end(seat: Seat, response: Response<Body>, longest: Duration) -> Response<Body> {
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    let seat = Arc::new(Mutex::new(Some(seat)));
    let late = Arc::clone(&seat);
    let mut timer = JoinSet::new();
    timer.spawn(async move {
        tokio::time::sleep(longest).await;
        late.lock().take();
    });
    let held = Held { seat, _timer: timer };
    response.map(|inner| body::keeping(inner, held))
}

struct Held {
    seat: Arc<Mutex<Option<Seat>>>,
    _timer: JoinSet<()>,
}

impl Drop for Held {
    fn drop(&mut self) {
        // The timer has the seat, too, until it is dropped by whichever thread runs it.
        self.seat.lock().take();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::Bytes;
    use federation_runtime::endpoints::Metrics;
    use http_body_util::BodyExt as _;

    use super::{
        super::{Flow, REQUEST_WAIT_LIMIT},
        *,
    };

    /// A flow with one seat, and an answer that keeps it.
    async fn held(longest: Duration) -> (Flow, Response<Body>) {
        let flow = Flow::new(1, Duration::from_millis(5), &Metrics::new());
        let seat = flow.enter(None, "a").await.unwrap();
        let pieces = [Bytes::from_static(b"a"), Bytes::from_static(b"b")];
        let response = until_end(seat, Response::new(body::pieces(pieces.into_iter())), longest);
        assert_eq!(flow.enter(None, "b").await.err().unwrap().code, 429);
        (flow, response)
    }

    #[tokio::test]
    async fn a_seat_is_kept_until_the_answer_is_at_its_end_or_dropped() {
        let (flow, response) = held(REQUEST_WAIT_LIMIT).await;
        let mut body = response.into_body();
        assert!(body.frame().await.is_some());
        assert_eq!(flow.enter(None, "b").await.err().unwrap().code, 429);
        assert!(body.frame().await.is_some() && body.frame().await.is_none());
        drop(flow.enter(None, "b").await.unwrap());
        let (flow, response) = held(REQUEST_WAIT_LIMIT).await;
        drop(response);
        drop(flow.enter(None, "b").await.unwrap());
    }

    #[tokio::test]
    async fn who_does_not_read_loses_the_seat_in_the_end() {
        let (flow, _response) = held(Duration::from_millis(50)).await;
        while flow.enter(None, "b").await.is_err() {}
    }

    #[tokio::test]
    async fn an_answer_that_is_whole_keeps_no_seat() {
        let flow = Flow::new(1, Duration::from_millis(5), &Metrics::new());
        let seat = flow.enter(None, "a").await.unwrap();
        let _response = until_end(seat, Response::new(body::full("a")), REQUEST_WAIT_LIMIT);
        drop(flow.enter(None, "b").await.unwrap());
    }
}
