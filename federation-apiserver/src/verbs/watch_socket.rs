//! A watch over a WebSocket, as browsers and some clients open it (`handlers.WatchServer.HandleWS`): each event is one message.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
};

use super::Call;
use crate::http::{
    Body,
    negotiate::Encoding,
    websocket::{self, Heard, Message},
};

/// Answers the handshake, and then tells the frames of a watch as messages.
pub(super) fn tell<F>(upgrade: OnUpgrade, call: &Call, frames: F) -> Response<Body>
where
    F: http_body::Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let response = websocket::handshake(&call.headers);
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    // A message has a length, where a stream of protobuf needs four bytes for it.
    let (message, skipped) = match call.format.encoding {
        Encoding::Protobuf => (Message::Binary, 4),
        Encoding::Json | Encoding::Yaml => (Message::Text, 0),
    };
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
        let (say, pings) = mpsc::channel(1);
        tokio::select! {
            () = hear(reader, say) => {}
            () = send(writer, frames, pings, message, skipped) => {}
        }
    });
    response
}

/// Hears a client until it ends. What it says is not listened to, but for pings.
async fn hear(mut reader: impl AsyncRead + Unpin, pings: mpsc::Sender<Vec<u8>>) {
    loop {
        match websocket::hear(&mut reader).await {
            Ok(Heard::Other) => {}
            Ok(Heard::Ping(payload)) => {
                if pings.send(payload).await.is_err() {
                    return;
                }
            }
            Ok(Heard::Close) | Err(_) => return,
        }
    }
}

async fn send<F>(
    mut writer: impl AsyncWrite + Unpin,
    mut frames: F,
    mut pings: mpsc::Receiver<Vec<u8>>,
    message: Message,
    skipped: usize,
) where
    F: http_body::Body<Data = Bytes, Error = Infallible> + Unpin,
{
    loop {
        let sent = tokio::select! {
            Some(payload) = pings.recv() => websocket::frame(Message::Pong, &payload),
            frame = frames.frame() => {
                let data = frame.and_then(|frame| frame.ok()?.into_data().ok());
                match data.as_ref().and_then(|data| data.get(skipped..)) {
                    Some(data) => websocket::frame(message, data),
                    None => break,
                }
            }
        };
        if writer.write_all(&sent).await.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
    // Nobody is left to be told that the end could not be told.
    let _gone = writer.write_all(&websocket::close()).await;
    let _gone = writer.shutdown().await;
}
