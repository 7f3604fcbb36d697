//! The server's side of a WebSocket (RFC 6455), as far as watches need it: what is sent are whole messages, and of what comes only
//! pings and the end matter.

use std::io;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Uri, header};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::{Body, body};

/// RFC 6455, section 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const VERSION: &str = "13";
/// Bytes that a control frame has at most (section 5.5).
const CONTROL_MAX_BYTES: u64 = 125;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// UTF-8.
    Text,
    /// Anything.
    Binary,
    /// The end.
    Close,
    /// The answer to a ping.
    Pong,
}

/// What a client says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ClientFrame {
    /// It wants to hear this again.
    Ping(Vec<u8>),
    /// It ends the conversation.
    Close,
    /// Anything else, which nobody here listens to.
    Other,
}

/// Whether a request asks for a WebSocket, as `wsstream.IsWebSocketRequest` tells it.
pub(crate) fn is_asked(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text(header::UPGRADE).eq_ignore_ascii_case("websocket")
        && text(header::CONNECTION).split(',').any(|name| name.trim().eq_ignore_ascii_case("upgrade"))
}

/// The answer to a handshake by which a client wants to speak one of these subprotocols: 101 if it is right, else why it is not, without a
/// word, as Go's server does it.
pub(crate) fn handshake(headers: &HeaderMap, protocols: &[&str]) -> Response<Body> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut response = Response::new(body::empty());
    let key = text(header::SEC_WEBSOCKET_KEY);
    let is_browser = text(header::ORIGIN).parse().is_ok_and(|origin: Uri| origin.scheme().is_some());
    if key.is_empty() {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    } else if text(header::SEC_WEBSOCKET_VERSION) != VERSION {
        *response.status_mut() = StatusCode::BAD_REQUEST;
        let version = HeaderValue::from_static(VERSION);
        response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, version);
    } else if !is_browser {
        *response.status_mut() = StatusCode::FORBIDDEN;
    } else if protocols.len() > 1 {
        // A watch speaks none in particular, so there is none to choose.
        *response.status_mut() = StatusCode::BAD_REQUEST;
    } else {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        // Browsers give up where none of those that they name is named again.
        if let Some(Ok(protocol)) = protocols.first().map(|name| HeaderValue::from_str(name)) {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        if let Ok(accept) = HeaderValue::from_str(&accept(key)) {
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
    }
    response
}

/// `Sec-WebSocket-Accept` (section 4.2.2): SHA-1 proves here that the server has understood, and protects nothing.
fn accept(key: &str) -> String {
    BASE64_STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes()))
}

/// A message in one frame, without a mask, as servers send it (section 5.2).
pub(crate) fn frame(message: Message, payload: &[u8]) -> Vec<u8> {
    let opcode = match message {
        Message::Text => 0x1,
        Message::Binary => 0x2,
        Message::Close => 0x8,
        Message::Pong => 0xA,
    };
    let mut frame = Vec::with_capacity(payload.len() + 10);
    frame.push(0x80 | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ ..126), _) => frame.push(length),
        (_, Ok(length)) => {
            frame.push(126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// The frame of a normal end (section 7.4.1).
pub(crate) fn close() -> Vec<u8> {
    frame(Message::Close, &1000_u16.to_be_bytes())
}

/// Reads one frame of a client, and keeps nothing of it but what a ping says.
///
/// # Errors
/// When the connection ends, or what comes is no frame of a client.
pub(crate) async fn hear(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<ClientFrame> {
    let broken = || io::Error::from(io::ErrorKind::InvalidData);
    let (first, second) = (reader.read_u8().await?, reader.read_u8().await?);
    let length = match second & 0x7F {
        126 => u64::from(reader.read_u16().await?),
        127 => reader.read_u64().await?,
        short => u64::from(short),
    };
    if second & 0x80 == 0 {
        // Section 5.1: what a client sends is masked.
        return Err(broken());
    }
    let mut mask = [0; 4];
    reader.read_exact(&mut mask).await?;
    match first & 0xF {
        0x8 => Ok(ClientFrame::Close),
        0x9 if length <= CONTROL_MAX_BYTES => {
            let mut payload = vec![0; usize::try_from(length).map_err(|_| broken())?];
            reader.read_exact(&mut payload).await?;
            for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
                *byte ^= mask;
            }
            Ok(ClientFrame::Ping(payload))
        }
        0x9 => Err(broken()),
        _ => {
            let skipped = tokio::io::copy(&mut reader.take(length), &mut tokio::io::sink()).await?;
            if skipped == length { Ok(ClientFrame::Other) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_is_that_of_the_rfc() {
        // Section 1.3.
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let mut headers = HeaderMap::new();
        for (name, value, expect) in [
            ("upgrade", "WebSocket", 400),
            ("connection", "keep-alive, Upgrade", 400),
            ("sec-websocket-key", "a", 400),
            ("sec-websocket-version", "13", 403),
            ("origin", "null", 403),
            ("origin", "https://example.com", 101),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
            assert_eq!(handshake(&headers, &[]).status().as_u16(), expect, "{name}");
            assert_eq!(is_asked(&headers), headers.len() > 1, "{name}");
        }
        assert_eq!(handshake(&headers, &["a"]).headers()["sec-websocket-protocol"], "a");
        assert_eq!(handshake(&headers, &["a", "b"]).status(), 400);
    }

    #[test]
    fn lengths_take_as_many_bytes_as_they_need() {
        assert_eq!(frame(Message::Text, b"ab"), [0x81, 2, b'a', b'b']);
        assert_eq!(frame(Message::Binary, &[0; 126])[..4], [0x82, 126, 0, 126]);
        assert_eq!(frame(Message::Binary, &vec![0; 1 << 16])[..10], [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(close(), [0x88, 2, 3, 0xE8]);
    }

    #[tokio::test]
    async fn pings_are_unmasked_and_the_rest_is_passed_over() {
        let mut said: &[u8] =
            &[0x81, 0x82, 1, 2, 3, 4, 0, 0, 0x89, 0x81, 1, 2, 3, 4, b'a' ^ 1, 0x88, 0x80, 0, 0, 0, 0];
        assert_eq!(hear(&mut said).await.unwrap(), ClientFrame::Other);
        assert_eq!(hear(&mut said).await.unwrap(), ClientFrame::Ping(b"a".to_vec()));
        assert_eq!(hear(&mut said).await.unwrap(), ClientFrame::Close);
        assert!(hear(&mut said).await.is_err(), "it is over");
        assert!(hear(&mut &[0x81, 1, b'a'][..]).await.is_err(), "it has no mask");
        assert!(
            hear(&mut &[0x81, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0][..])
                .await
                .is_err()
        );
    }
}
