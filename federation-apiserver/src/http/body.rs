//! Request and response bodies.

use std::{convert::Infallible, task::Poll};

use apimachinery::ApiError;
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http_body::Frame;
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
pub(crate) fn pieces(mut steps: impl Iterator<Item = Bytes> + Send + 'static) -> Body {
    let mut done = 0;
    stream(futures::stream::poll_fn(move |context| {
        loop {
            if done == STEPS_AT_A_TIME {
                done = 0;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            done += 1;
            match steps.next() {
                Some(piece) if piece.is_empty() => {}
                piece => return Poll::Ready(piece),
            }
        }
    }))
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
