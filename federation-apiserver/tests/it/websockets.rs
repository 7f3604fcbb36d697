//! Watches over WebSockets.

use std::time::Duration;

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use federation_apiserver::{Handler, auth::authz::Mode};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::Full;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    access::Access,
    world::{World, config_map},
};

const CONFIG_MAPS: &str = "/api/v1/namespaces/demo/configmaps";
const PATIENCE: Duration = Duration::from_secs(20);

type Socket = TokioIo<hyper::upgrade::Upgraded>;

/// Asks for a WebSocket: the status, and the connection if it became one.
async fn open(world: &World, accept: &str, origin: Option<&str>) -> (StatusCode, Option<Socket>) {
    let (status, _, socket) = ask(world.server.service(), accept, origin, None).await;
    (status, socket)
}

/// The same of any connection, as one who speaks subprotocols.
async fn ask(
    service: Handler,
    accept: &str,
    origin: Option<&str>,
    protocol: Option<&str>,
) -> (StatusCode, HeaderMap, Option<Socket>) {
    let (client, serving) = tokio::io::duplex(1 << 16);
    let service = TowerToHyperService::new(service);
    let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(serving), service);
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
    if let Some(protocol) = protocol {
        request = request.header("sec-websocket-protocol", protocol);
    }
    let response = sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    if status != StatusCode::SWITCHING_PROTOCOLS {
        return (status, headers, None);
    }
    assert_eq!(headers["upgrade"], "websocket");
    assert!(headers.contains_key("sec-websocket-accept"));
    (status, headers, Some(TokioIo::new(hyper::upgrade::on(response).await.unwrap())))
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

/// What a client says to end the conversation: a frame without a word, and a mask of nothing.
const END: [u8; 6] = [0x88, 0x80, 0, 0, 0, 0];

#[tokio::test]
async fn who_says_farewell_is_answered() {
    let world = World::new().await;
    world.expect(StatusCode::CREATED, Method::POST, CONFIG_MAPS, Some(config_map("a"))).await;
    let (_, socket) = open(&world, "application/json", Some("https://a.b")).await;
    let mut socket = socket.unwrap();
    assert_eq!(frame(&mut socket).await.0, 1, "the event");
    socket.write_all(&END).await.unwrap();
    assert_eq!(frame(&mut socket).await, (8, vec![3, 0xE8]));
    let end = tokio::time::timeout(PATIENCE, socket.read_u8()).await.unwrap();
    assert!(end.is_err(), "nothing comes after it: {end:?}");
}

#[tokio::test]
async fn a_subprotocol_is_named_again_and_none_is_chosen_of_several() {
    let world = World::new().await;
    let origin = Some("https://a.b");
    let (status, headers, _) = ask(world.server.service(), "application/json", origin, Some("a.b")).await;
    assert_eq!(status, StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(headers["sec-websocket-protocol"], "a.b");
    let (status, ..) = ask(world.server.service(), "application/json", origin, Some("a, b")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_browser_sends_its_token_as_a_subprotocol() {
    let access = Access::new(&[Mode::Rbac]).await;
    let as_one = |token: &str| {
        format!("a.b, base64url.bearer.authorization.k8s.io.{}", BASE64_URL_SAFE_NO_PAD.encode(token))
    };
    let origin = Some("https://a.b");
    let (status, ..) = ask(access.unknown(), "application/json", origin, None).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "nobody may see them");
    let (status, headers, _) = ask(access.unknown(), "application/json", origin, Some(&as_one("root"))).await;
    assert_eq!(status, StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(headers["sec-websocket-protocol"], "a.b", "and the token is not told again");
    let (status, ..) = ask(access.unknown(), "application/json", origin, Some(&as_one("unknown"))).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}
