//! gzip for large answers, where the client takes it.

use std::io::Write as _;

use apimachinery::ApiError;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::{
    body::{self, Body, STEPS_AT_A_TIME},
    negotiate::accepts_gzip,
    respond,
};

/// From here on an answer is compressed, if the client can read that: kube-apiserver's own threshold.
const GZIP_FROM_BYTES: usize = 128 << 10;
/// Compressed bytes that are sent at a time.
const SENT_BYTES: usize = 16 << 10;
/// Bytes that are compressed at a time: a millisecond's work.
const STEP_BYTES: usize = 64 << 10;

/// An answer that is known whole.
pub(crate) fn bytes_for(
    request: &HeaderMap,
    code: StatusCode,
    content_type: &'static str,
    content: Vec<u8>,
) -> Response<Body> {
    if content.len() < GZIP_FROM_BYTES || !accepts_gzip(request) {
        return respond::bytes(code, content_type, content);
    }
    let mut encoder = encoder(content.len() / 4);
    match encoder.write_all(&content).and_then(|()| encoder.finish()) {
        Ok(compressed) => compressed_as_such(respond::bytes(code, content_type, compressed)),
        Err(_) => respond::bytes(code, content_type, content),
    }
}

/// An answer that is made while it is sent, step by step as [`body::pieces`] takes them. The first piece is made before; of what can be
/// compressed, as many as tell whether it is. After an error among these the answer is that error. A later one ends what is sent: it cannot be
/// taken back.
pub(crate) async fn pieces_for(
    request: &HeaderMap,
    content_type: &'static str,
    mut steps: impl Iterator<Item = Result<Bytes, ApiError>> + Send + 'static,
) -> Result<Response<Body>, ApiError> {
    let zipped = accepts_gzip(request);
    let wanted = if zipped { GZIP_FROM_BYTES } else { 1 };
    let (mut first, mut size, mut done) = (Vec::new(), 0, 0);
    while size < wanted
        && let Some(piece) = steps.next()
    {
        let piece = piece?;
        size += piece.len();
        first.push(piece);
        done += 1;
        if done == STEPS_AT_A_TIME {
            done = 0;
            tokio::task::yield_now().await;
        }
    }
    if zipped && size < GZIP_FROM_BYTES {
        return Ok(respond::bytes(StatusCode::OK, content_type, first.concat()));
    }
    let steps = first.into_iter().chain(steps.map_while(Result::ok));
    let body = if zipped { body::pieces(Gzip::new(steps)) } else { body::pieces(steps) };
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    Ok(if zipped { compressed_as_such(response) } else { response })
}

/// Level 4 as kube-apiserver: most of the gain for a fraction of level 9's time.
fn encoder(expected_bytes: usize) -> GzEncoder<Vec<u8>> {
    GzEncoder::new(Vec::with_capacity(expected_bytes), Compression::new(4))
}

fn compressed_as_such(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

/// Compresses pieces, a part of one in each step.
struct Gzip<P> {
    pieces: P,
    /// What is left of a piece.
    rest: Bytes,
    /// Nothing once it is done.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl<P: Iterator<Item = Bytes>> Gzip<P> {
    fn new(pieces: P) -> Self {
        Self { pieces, rest: Bytes::new(), encoder: Some(encoder(2 * SENT_BYTES)) }
    }
}

impl<P: Iterator<Item = Bytes>> Iterator for Gzip<P> {
    type Item = Bytes;

    /// What can be sent after a step. Mostly nothing: a compressor gathers.
    fn next(&mut self) -> Option<Bytes> {
        let encoder = self.encoder.as_mut()?;
        if self.rest.is_empty() {
            match self.pieces.next() {
                Some(piece) => self.rest = piece,
                None => return self.encoder.take()?.finish().ok().map(Bytes::from),
            }
        }
        let part = self.rest.split_to(self.rest.len().min(STEP_BYTES));
        // A vector takes everything.
        if encoder.write_all(&part).is_err() {
            self.encoder = None;
            return None;
        }
        let is_much = encoder.get_ref().len() >= SENT_BYTES;
        Some(if is_much { std::mem::take(encoder.get_mut()).into() } else { Bytes::new() })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        pin::Pin,
        task::{Context, Poll, Waker},
    };

    use flate2::read::GzDecoder;
    use http_body::Body as _;
    use http_body_util::BodyExt as _;

    use super::*;

    fn asking_for_gzip() -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"))])
    }

    /// Pieces that hardly compress.
    fn pieces(count: u32) -> Vec<Bytes> {
        let mut state = 1_u32;
        let mut byte = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..count).map(|_| (0..64 << 10).map(|_| byte()).collect::<Vec<_>>().into()).collect()
    }

    async fn whole(response: Response<Body>) -> Vec<u8> {
        response.into_body().collect().await.expect("a body cannot fail").to_bytes().into()
    }

    /// The answer that has these pieces.
    async fn answer(request: &HeaderMap, pieces: Vec<Bytes>) -> Response<Body> {
        let made = pieces_for(request, "text/plain", pieces.into_iter().map(Ok)).await;
        made.expect("no piece is an error")
    }

    #[tokio::test]
    async fn pieces_are_compressed_to_what_they_are_together() {
        let mut content = pieces(9);
        // A step that has made nothing, and a large piece.
        content.insert(5, Bytes::new());
        content.push(pieces(9).concat().into());
        let response = answer(&asking_for_gzip(), content.clone()).await;
        assert_eq!(response.headers()[header::CONTENT_ENCODING], "gzip");
        assert_eq!(response.headers()[header::VARY], "Accept-Encoding");
        let mut read = Vec::new();
        GzDecoder::new(&whole(response).await[..]).read_to_end(&mut read).expect("it is gzip");
        assert_eq!(read, content.concat());
    }

    #[tokio::test]
    async fn little_is_not_compressed_and_neither_is_what_nobody_wants_compressed() {
        for (request, count) in [(asking_for_gzip(), 1), (HeaderMap::new(), 9)] {
            let response = answer(&request, pieces(count)).await;
            assert_eq!(response.headers().get(header::CONTENT_ENCODING), None);
            assert_eq!(response.headers()[header::CONTENT_TYPE], "text/plain");
            assert_eq!(whole(response).await, pieces(count).concat());
        }
    }

    #[tokio::test]
    async fn others_have_the_thread_while_much_is_compressed_to_little() {
        let zeros = Bytes::from(vec![0; STEP_BYTES]);
        let mut body = answer(&asking_for_gzip(), vec![zeros; 100]).await.into_body();
        let (mut pauses, mut frames) = (0, 0);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            match Pin::new(&mut body).poll_frame(&mut context) {
                Poll::Pending => pauses += 1,
                Poll::Ready(Some(_)) => frames += 1,
                Poll::Ready(None) => break,
            }
        }
        assert_eq!((pauses, frames), (100 / STEPS_AT_A_TIME, 1));
    }

    #[tokio::test]
    async fn the_answer_is_the_error_if_nothing_was_sent_before_it() {
        let error = || Err(ApiError::internal("broken"));
        for request in [HeaderMap::new(), asking_for_gzip()] {
            let steps = [Ok(Bytes::new()), error(), Ok("a".into())];
            let refused = pieces_for(&request, "text/plain", steps.into_iter()).await;
            assert_eq!(refused.err().map(|error| error.code), Some(500));
        }
        let steps = [Ok("a".into()), error(), Ok("b".into())];
        let response = pieces_for(&HeaderMap::new(), "text/plain", steps.into_iter()).await;
        assert_eq!(whole(response.expect("it has begun")).await, b"a");
    }
}
