//! Request and response bodies.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use apimachinery::ApiError;
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http_body::{Frame, SizeHint};
use http_body_util::{
    BodyExt as _, Empty, Full, LengthLimitError, Limited, StreamBody, combinators::UnsyncBoxBody,
};

/// A response body.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;
/// Any error of a request body.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// kube-apiserver's `MaxRequestBodyBytes`, for which it has no flag: etcd's 1.5 MiB, doubled for the overhead of JSON.
pub(crate) const LIMIT_BYTES: usize = 3 << 20;

/// A body that is known whole.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

/// No body.
pub(crate) fn empty() -> Body {
    Empty::new().boxed_unsync()
}

/// A body that comes in pieces, each of them sent at once.
pub(crate) fn stream(pieces: impl Stream<Item = Bytes> + Send + 'static) -> Body {
    StreamBody::new(pieces.map(|piece| Ok(Frame::data(piece)))).boxed_unsync()
}

/// Steps of making a body that are done before others have the thread. A step takes up to a millisecond.
pub(crate) const STEPS_AT_A_TIME: u32 = 4;

/// A body whose pieces are made while it is sent. An empty one is not sent: it is a step that has made nothing to send yet.
pub(crate) fn pieces(steps: impl Iterator<Item = Bytes> + Send + 'static) -> Body {
    stream(futures::stream::unfold((steps, 0), |(mut steps, mut done)| async move {
        loop {
            if done == STEPS_AT_A_TIME {
                done = 0;
                // A task that wakes itself runs on dozens of times before the sockets are looked at, this one does not.
                tokio::task::yield_now().await;
            }
            done += 1;
            match steps.next()? {
                piece if piece.is_empty() => {}
                piece => return Some((piece, (steps, done))),
            }
        }
    }))
}

/// A body that keeps something until it is at its end, or nobody wants it any more.
pub(crate) fn keeping(inner: Body, kept: impl Send + Unpin + 'static) -> Body {
    Keeping { inner, kept: Some(kept) }.boxed_unsync()
}

struct Keeping<K> {
    inner: Body,
    kept: Option<K>,
}

impl<K: Unpin> http_body::Body for Keeping<K> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        if matches!(polled, Poll::Ready(None)) {
            self.kept = None;
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

/// Reads a request body of at most [`LIMIT_BYTES`].
pub(crate) async fn read<B>(body: B) -> Result<Bytes, ApiError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    match Limited::new(body, LIMIT_BYTES).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::request_entity_too_large(LIMIT_BYTES)),
        Err(error) => Err(ApiError::bad_request(format!("the body could not be read: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    };

    use http_body::Body as _;
    use tokio::{io::AsyncReadExt as _, net::UnixStream};

    use super::*;

    #[tokio::test]
    async fn what_a_body_keeps_it_keeps_to_its_end_or_its_own() {
        let (kept, seen) = (Arc::new(()), |kept: &Arc<()>| Arc::strong_count(kept) > 1);
        let mut body = keeping(pieces(["a".into(), "b".into()].into_iter()), Arc::clone(&kept));
        for _ in 0..2 {
            assert!(body.frame().await.is_some() && seen(&kept));
        }
        assert!(body.frame().await.is_none() && !seen(&kept));
        let dropped = keeping(full("a"), Arc::clone(&kept));
        assert_eq!(dropped.size_hint().exact(), Some(1));
        assert!(seen(&kept));
        drop(dropped);
        assert!(!seen(&kept));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn sockets_are_looked_at_while_a_body_is_made() {
        /// Far fewer than a task does that wakes itself.
        const SOON: usize = 100;
        let (mut here, there) = UnixStream::pair().expect("two sockets");
        there.writable().await.expect("there is room");
        let heard = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&heard);
        let other = tokio::spawn(async move {
            let read = here.read_u8().await;
            told.store(true, Ordering::SeqCst);
            read
        });
        let made = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&made);
        let steps = std::iter::from_fn(move || {
            let step = count.fetch_add(1, Ordering::SeqCst);
            if step == 0 {
                assert_eq!(there.try_write(&[7]).expect("there is room"), 1);
            }
            (step < SOON && !heard.load(Ordering::SeqCst)).then(Bytes::new)
        });
        assert!(tokio::spawn(pieces(steps).collect()).await.is_ok());
        assert!(made.load(Ordering::SeqCst) < SOON);
        assert!(other.await.is_ok_and(|read| read.is_ok_and(|byte| byte == 7)));
    }
}
