//! Seats of requests whose answers are made while they are sent.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::Seat;
use crate::http::Body;

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
    response.map(|inner| Held { inner, seat, timer }.boxed_unsync())
}

struct Held {
    inner: Body,
    seat: Arc<Mutex<Option<Seat>>>,
    /// It ends with the body.
    timer: JoinSet<()>,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        if matches!(polled, Poll::Ready(None)) {
            self.seat.lock().take();
            self.timer.abort_all();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
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
    use federation_runtime::endpoints::Metrics;

    use super::{
        super::{Flow, REQUEST_WAIT_LIMIT},
        *,
    };
    use crate::http::body;

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
