//! Messages of dnstap (dnstap.proto, package dnstap): protobuf, written down by hand as structures.

use std::net::{IpAddr, SocketAddr};

use prost::Message as _;

use super::queue::{Entry, Outcome};
use crate::metrics::Transport;

/// `Dnstap.type`: a message.
const MESSAGE: i32 = 1;
/// `Message.type`.
const AUTH_QUERY: i32 = 1;
const AUTH_RESPONSE: i32 = 2;
/// A second.
const NANOSECONDS: u64 = 1_000_000_000;

#[derive(Clone, PartialEq, prost::Message)]
struct Dnstap {
    #[prost(bytes = "vec", optional, tag = "1")]
    identity: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    version: Option<Vec<u8>>,
    #[prost(message, optional, tag = "14")]
    message: Option<Message>,
    #[prost(int32, required, tag = "15")]
    kind: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Message {
    #[prost(int32, required, tag = "1")]
    kind: i32,
    #[prost(int32, optional, tag = "2")]
    socket_family: Option<i32>,
    #[prost(int32, optional, tag = "3")]
    socket_protocol: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "4")]
    query_address: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "5")]
    response_address: Option<Vec<u8>>,
    #[prost(uint32, optional, tag = "6")]
    query_port: Option<u32>,
    #[prost(uint32, optional, tag = "7")]
    response_port: Option<u32>,
    #[prost(uint64, optional, tag = "8")]
    query_time_sec: Option<u64>,
    #[prost(fixed32, optional, tag = "9")]
    query_time_nsec: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "10")]
    query_message: Option<Vec<u8>>,
    #[prost(uint64, optional, tag = "12")]
    response_time_sec: Option<u64>,
    #[prost(fixed32, optional, tag = "13")]
    response_time_nsec: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "14")]
    response_message: Option<Vec<u8>>,
}

/// Makes messages of one server.
pub(super) struct Encoder {
    identity: Vec<u8>,
}

impl Encoder {
    pub(super) fn new(identity: &str) -> Self {
        Self { identity: identity.into() }
    }

    /// The query; and the answer, if it was sent.
    pub(super) fn frames(&self, entry: &Entry) -> impl Iterator<Item = Vec<u8>> {
        let query = Message { kind: AUTH_QUERY, query_message: Some(entry.query.clone()), ..common(entry) };
        let sent = matches!(entry.outcome, Outcome::Sent | Outcome::Cut);
        let answer = sent.then(|| Message {
            kind: AUTH_RESPONSE,
            response_time_sec: Some(entry.answered / NANOSECONDS),
            response_time_nsec: Some((entry.answered % NANOSECONDS) as u32),
            response_message: Some(entry.answer.clone()),
            ..common(entry)
        });
        let whole = |message| {
            let version = Some(concat!("dns-lb ", env!("CARGO_PKG_VERSION")).into());
            let identity = Some(self.identity.clone());
            Dnstap { identity, version, message: Some(message), kind: MESSAGE }.encode_to_vec()
        };
        std::iter::once(query).chain(answer).map(whole)
    }
}

fn common(entry: &Entry) -> Message {
    let protocol = match entry.transport {
        Transport::Udp => 1,
        Transport::Tcp => 2,
        Transport::Tls => 3,
        Transport::Https => 4,
        Transport::Quic => 7,
    };
    let server = entry.server.filter(|server| !server.ip().is_unspecified());
    Message {
        socket_family: Some(if entry.client.ip().to_canonical().is_ipv4() { 1 } else { 2 }),
        socket_protocol: Some(protocol),
        query_address: Some(octets(entry.client)),
        response_address: server.map(octets),
        query_port: Some(entry.client.port().into()),
        response_port: entry.server.map(|server| server.port().into()),
        query_time_sec: Some(entry.asked / NANOSECONDS),
        query_time_nsec: Some((entry.asked % NANOSECONDS) as u32),
        ..Message::default()
    }
}

fn octets(address: SocketAddr) -> Vec<u8> {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
