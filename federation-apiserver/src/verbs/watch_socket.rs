//! A watch over a WebSocket, as browsers and some clients open it (`handlers.WatchServer.HandleWS`): each event is one message.

use std::{convert::Infallible, pin::pin, time::Duration};

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
use crate::{
    auth::subprotocol,
    http::{
        Body,
        negotiate::Encoding,
        websocket::{self, ClientFrame, Message},
    },
};

/// Answers the handshake, and then tells the frames of a watch as messages.
pub(super) fn tell<F>(upgrade: OnUpgrade, call: &Call, frames: F) -> Response<Body>
where
    F: http_body::Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let protocols: Vec<_> = subprotocol::others(&call.headers).collect();
    let response = websocket::handshake(&call.headers, &protocols);
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
        // The writer ends when the reader does, whose channel is closed then.
        let heard = hear(reader, say);
        let mut sent = pin!(send(writer, frames, pings, message, skipped));
        tokio::select! {
            () = heard => {
                // One who has gone takes nothing any more, not even a farewell.
                let _gone = tokio::time::timeout(FAREWELL, sent).await;
            }
            () = &mut sent => {}
        }
    });
    response
}

/// How long a client that ends the conversation is told of the end.
const FAREWELL: Duration = Duration::from_secs(5);

/// Hears a client until it ends. What it says is not listened to, but for pings.
async fn hear(mut reader: impl AsyncRead + Unpin, pings: mpsc::Sender<Vec<u8>>) {
    loop {
        match websocket::hear(&mut reader).await {
            Ok(ClientFrame::Other) => {}
            Ok(ClientFrame::Ping(payload)) => {
                if pings.send(payload).await.is_err() {
                    return;
                }
            }
            Ok(ClientFrame::Close) | Err(_) => return,
        }
    }
}

/// Tells events and answers pings, each in whole frames, until there are no more of either, and then that this is the end.
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
            biased;
            ping = pings.recv() => match ping {
                Some(payload) => websocket::frame(Message::Pong, &payload),
                None => break,
            },
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
