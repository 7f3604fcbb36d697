//! A name's address, as a resolver asks for it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::net::UdpSocket;

/// Timeout of one attempt.
const TIMEOUT: Duration = Duration::from_millis(500);
/// Number of attempts.
const TRIES: usize = 2;

/// A DNS answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The first of [`Self::addresses`], which is never empty.
    pub address: IpAddr,
    /// All of them.
    pub addresses: Vec<IpAddr>,
    /// The shortest TTL of its records.
    pub ttl: Duration,
}

/// Why there was no address.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket.
    #[error("{0}")]
    Socket(#[from] std::io::Error),
    /// The question.
    #[error("the query cannot be encoded: {0}")]
    Question(#[from] hickory_proto::ProtoError),
    /// The answer.
    #[error("the response is not a DNS message: {0}")]
    Message(#[from] hickory_proto::serialize::binary::DecodeError),
    /// Another response code than NOERROR.
    #[error("the server answered {0}")]
    Code(ResponseCode),
    /// No address in it.
    #[error("the answer is empty")]
    Empty,
    /// Nothing came.
    #[error("no answer within {} ms", TIMEOUT.as_millis())]
    Late,
}

/// Asks one server for the name's IPv4 addresses, over UDP, twice if need be.
///
/// # Errors
/// When there is none, or no answer.
pub async fn resolve(server: SocketAddr, name: &Name) -> Result<Answer, Error> {
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    let mut last = Error::Late;
    for _ in 0..TRIES {
        match tokio::time::timeout(TIMEOUT, ask(&socket, name)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => last = error,
            Err(_) => last = Error::Late,
        }
    }
    Err(last)
}

async fn ask(socket: &UdpSocket, name: &Name) -> Result<Answer, Error> {
    let id: u16 = rand::random();
    let mut query = Message::new(id, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(name.clone(), RecordType::A));
    socket.send(&query.to_vec()?).await?;
    let mut buffer = [0_u8; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = Message::from_vec(buffer.get(..length).unwrap_or_default())?;
        if answer.metadata.id != id {
            continue;
        }
        if answer.metadata.response_code != ResponseCode::NoError {
            return Err(Error::Code(answer.metadata.response_code));
        }
        let mut ttl = u32::MAX;
        let mut addresses = Vec::new();
        for record in &answer.answers {
            ttl = ttl.min(record.ttl);
            match &record.data {
                RData::A(address) => addresses.push(IpAddr::V4(address.0)),
                RData::AAAA(address) => addresses.push(IpAddr::V6(address.0)),
                _ => {}
            }
        }
        let address = addresses.first().copied().ok_or(Error::Empty)?;
        return Ok(Answer { address, addresses, ttl: Duration::from_secs(ttl.into()) });
    }
}
