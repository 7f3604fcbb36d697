//! Watches over WebSockets.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::world::{World, config_map};

const CONFIG_MAPS: &str = "/api/v1/namespaces/demo/configmaps";
const PATIENCE: Duration = Duration::from_secs(20);

type Socket = TokioIo<hyper::upgrade::Upgraded>;

/// Asks for a WebSocket: the status, and the connection if it became one.
async fn open(world: &World, accept: &str, origin: Option<&str>) -> (StatusCode, Option<Socket>) {
    let (client, server) = tokio::io::duplex(1 << 16);
    let service = TowerToHyperService::new(world.server.service());
    let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service);
    tokio::spawn(serving.with_upgrades());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let mut request = Request::get(format!("{CONFIG_MAPS}?watch=true&resourceVersion=0"))
        .header("host", "localhost")
        .header("accept", accept)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", BASE64_STANDARD.encode([7; 16]));
    if let Some(origin) = origin {
        request = request.header("origin", origin);
    }
    let response = sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
    let status = response.status();
    if status != StatusCode::SWITCHING_PROTOCOLS {
        return (status, None);
    }
    assert_eq!(response.headers()["upgrade"], "websocket");
    assert!(response.headers().contains_key("sec-websocket-accept"));
    (status, Some(TokioIo::new(hyper::upgrade::on(response).await.unwrap())))
}

/// The opcode and the payload of the next frame.
async fn frame(socket: &mut Socket) -> (u8, Vec<u8>) {
    let read = async {
        let first = socket.read_u8().await.unwrap();
        assert_eq!(first & 0x80, 0x80, "whole");
        let length = match socket.read_u8().await.unwrap() {
            126 => usize::from(socket.read_u16().await.unwrap()),
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        socket.read_exact(&mut payload).await.unwrap();
        (first & 0xF, payload)
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap()
}

#[tokio::test]
async fn a_watch_is_told_in_messages_of_a_websocket() {
    let world = World::new().await;
    let make =
        |name: &str| world.expect(StatusCode::CREATED, Method::POST, CONFIG_MAPS, Some(config_map(name)));
    make("a").await;
    let (status, socket) = open(&world, "application/json", Some("https://example.com")).await;
    assert_eq!(status, StatusCode::SWITCHING_PROTOCOLS);
    let mut socket = socket.unwrap();
    make("b").await;
    for name in ["a", "b"] {
        let (opcode, payload) = frame(&mut socket).await;
        let event: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!((opcode, &event["type"]), (1, &"ADDED".into()));
        assert_eq!(event["object"]["metadata"]["name"], name);
    }
    // A ping is answered, and a word is not.
    socket.write_all(&[0x81, 0x81, 0, 0, 0, 0, b'x', 0x89, 0x81, 0, 0, 0, 0, b'p']).await.unwrap();
    assert_eq!(frame(&mut socket).await, (0xA, b"p".to_vec()));
    // The end of the server is told.
    world.draining.cancel();
    assert_eq!(frame(&mut socket).await, (8, vec![3, 0xE8]));
}

#[tokio::test]
async fn protobuf_comes_in_binary_messages_without_a_length_of_its_own() {
    let world = World::new().await;
    world.expect(StatusCode::CREATED, Method::POST, CONFIG_MAPS, Some(config_map("a"))).await;
    let (_, socket) =
        open(&world, "application/vnd.kubernetes.protobuf;stream=watch", Some("https://a.b")).await;
    let (opcode, payload) = frame(&mut socket.unwrap()).await;
    assert_eq!((opcode, payload.get(..7)), (2, Some(&b"\x0a\x05ADDED"[..])));
}

#[tokio::test]
async fn who_does_not_say_where_he_comes_from_gets_no_websocket() {
    let world = World::new().await;
    for origin in [None, Some("null")] {
        assert_eq!(open(&world, "application/json", origin).await.0, StatusCode::FORBIDDEN);
    }
}
