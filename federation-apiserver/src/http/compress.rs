//! gzip for large answers, where the client takes it.

use std::io::Write as _;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::{
    body::{self, Body},
    negotiate::accepts_gzip,
    respond,
};

/// From here on an answer is compressed, if the client can read that: kube-apiserver's own threshold.
const GZIP_FROM_BYTES: usize = 128 << 10;
/// Compressed bytes that are sent at a time.
const SENT_BYTES: usize = 16 << 10;

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

/// An answer that is made while it is sent.
pub(crate) fn pieces_for(
    request: &HeaderMap,
    content_type: &'static str,
    mut pieces: impl Iterator<Item = Bytes> + Send + 'static,
) -> Response<Body> {
    let streamed = |body| {
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    };
    if !accepts_gzip(request) {
        return streamed(body::pieces(pieces));
    }
    let (mut first, mut size) = (Vec::new(), 0);
    while size < GZIP_FROM_BYTES
        && let Some(piece) = pieces.next()
    {
        size += piece.len();
        first.push(piece);
    }
    if size < GZIP_FROM_BYTES {
        return respond::bytes(StatusCode::OK, content_type, first.concat());
    }
    compressed_as_such(streamed(body::pieces(Gzip::new(first.into_iter().chain(pieces)))))
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

/// Compresses pieces one by one.
struct Gzip<P> {
    pieces: P,
    /// Nothing once it is done.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl<P: Iterator<Item = Bytes>> Gzip<P> {
    fn new(pieces: P) -> Self {
        Self { pieces, encoder: Some(encoder(2 * SENT_BYTES)) }
    }
}

impl<P: Iterator<Item = Bytes>> Iterator for Gzip<P> {
    type Item = Bytes;

    /// What one piece becomes. Mostly nothing: a compressor gathers.
    fn next(&mut self) -> Option<Bytes> {
        let encoder = self.encoder.as_mut()?;
        for piece in self.pieces.by_ref() {
            // A vector takes everything.
            if encoder.write_all(&piece).is_err() {
                self.encoder = None;
                return None;
            }
            if encoder.get_ref().len() >= SENT_BYTES {
                return Some(std::mem::take(encoder.get_mut()).into());
            }
        }
        self.encoder.take()?.finish().ok().map(Bytes::from)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;
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

    #[tokio::test]
    async fn pieces_are_compressed_to_what_they_are_together() {
        let content = pieces(9);
        let response = pieces_for(&asking_for_gzip(), "text/plain", content.clone().into_iter());
        assert_eq!(response.headers()[header::CONTENT_ENCODING], "gzip");
        assert_eq!(response.headers()[header::VARY], "Accept-Encoding");
        let mut read = Vec::new();
        GzDecoder::new(&whole(response).await[..]).read_to_end(&mut read).expect("it is gzip");
        assert_eq!(read, content.concat());
    }

    #[tokio::test]
    async fn little_is_not_compressed_and_neither_is_what_nobody_wants_compressed() {
        for (request, count) in [(asking_for_gzip(), 1), (HeaderMap::new(), 9)] {
            let response = pieces_for(&request, "text/plain", pieces(count).into_iter());
            assert_eq!(response.headers().get(header::CONTENT_ENCODING), None);
            assert_eq!(response.headers()[header::CONTENT_TYPE], "text/plain");
            assert_eq!(whole(response).await, pieces(count).concat());
        }
    }
}
