//! `grpc.health.v1.Health/Check` over HTTP/2 without TLS.

use std::net::SocketAddr;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// Octets of an answer: a status is two.
const ANSWER_MAX: usize = 4096;

/// Asks once.
///
/// # Errors
/// In words, when the server does not answer, or not `SERVING`.
pub(crate) async fn check(
    stream: TcpStream,
    address: SocketAddr,
    service: &str,
    host: &str,
) -> Result<(), String> {
    let authority = if host.is_empty() { address.to_string() } else { host.to_owned() };
    let request = Request::post(format!("http://{authority}/grpc.health.v1.Health/Check"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, "federation-prober")
        .body(Full::new(framed(service)))
        .map_err(|error| error.to_string())?;
    let words = |error: hyper::Error| error.to_string();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(words)?;
    let asked = async move {
        let response = sender.send_request(request).await.map_err(words)?;
        if response.status() != http::StatusCode::OK {
            return Err(format!("it answered {}, which is no gRPC", response.status()));
        }
        let early = response.headers().get("grpc-status").cloned();
        let body = Limited::new(response.into_body(), ANSWER_MAX)
            .collect()
            .await
            .map_err(|error| error.to_string())?;
        let code = body.trailers().and_then(|trailers| trailers.get("grpc-status").cloned()).or(early);
        judge(code.as_ref().and_then(|code| code.to_str().ok()), &body.to_bytes())
    };
    tokio::pin!(asked);
    tokio::select! {
        answer = &mut asked => answer,
        ended = connection => match ended {
            Err(error) => Err(error.to_string()),
            // The answer may have come with the end.
            Ok(()) => asked.await,
        },
    }
}

/// `HealthCheckRequest {string service = 1}` as one gRPC message: not compressed, its length, the message.
fn framed(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(&message);
    frame.freeze()
}

/// What `grpc-status` and `HealthCheckResponse {ServingStatus status = 1}` say.
fn judge(code: Option<&str>, body: &[u8]) -> Result<(), String> {
    match code {
        Some("0") => {}
        // NOT_FOUND: the server does not know the service that it was asked about.
        Some("5") => return Err("the server does not know the service".into()),
        Some(code) => return Err(format!("grpc-status {code}")),
        None => return Err("no grpc-status came".into()),
    }
    match body {
        [0, 0, 0, 0, 2, 0x08, 1, ..] => Ok(()),
        [0, 0, 0, 0, 2, 0x08, 2, ..] => Err("NOT_SERVING".into()),
        [0, 0, 0, 0, 2, 0x08, 3, ..] => Err("SERVICE_UNKNOWN".into()),
        _ => Err("UNKNOWN".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_framed_as_grpc_wants_it() {
        assert_eq!(&framed("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&framed("web")[..], [0, 0, 0, 0, 5, 0x0a, 3, b'w', b'e', b'b']);
        let long = framed(&"x".repeat(300));
        assert_eq!(&long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 2]);
    }

    #[test]
    fn only_serving_is_well() {
        assert_eq!(judge(Some("0"), &[0, 0, 0, 0, 2, 8, 1]), Ok(()));
        assert_eq!(judge(Some("0"), &[0, 0, 0, 0, 2, 8, 2]), Err("NOT_SERVING".into()));
        // Proto3 leaves UNKNOWN, which is 0, out.
        assert_eq!(judge(Some("0"), &[0, 0, 0, 0, 0]), Err("UNKNOWN".into()));
        assert!(judge(Some("12"), &[]).is_err_and(|words| words.contains("12")));
        assert!(judge(None, &[0, 0, 0, 0, 2, 8, 1]).is_err());
    }
}
