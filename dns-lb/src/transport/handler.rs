//! What the connections of one transport are served with.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use federation_runtime::shutdown::Shutdown;

use super::{ConnectionLimiter, Responder};
use crate::transfer::{Special, Transfer, Transfers};
use crate::udp::Clock;

/// What the connections of one transport are served with.
#[derive(Clone, Debug)]
pub struct Handler {
    /// Answers queries.
    pub responder: Arc<Responder>,
    /// Limits the connections.
    pub limiter: Arc<ConnectionLimiter>,
    /// Zone transfers, if they are enabled.
    pub transfers: Option<Arc<Transfers>>,
    /// Ends the connections.
    pub shutdown: Shutdown,
    /// Whether the shutdown is because a successor has taken over.
    pub succeeded: Arc<AtomicBool>,
}

/// The response to a query.
#[derive(Debug)]
pub(super) enum Response {
    /// One message, which was written.
    Message,
    /// A zone, in messages from there.
    Transfer(Transfer, Arc<Transfers>),
}

impl Handler {
    /// The response to `query`; one message is appended to `output`. `None` if it gets none, and nothing is appended.
    pub(super) fn respond(&self, query: &[u8], client: SocketAddr, output: &mut Vec<u8>) -> Option<Response> {
        let special = self
            .transfers
            .as_ref()
            .and_then(|transfers| transfers.inspect(query, client.ip()).zip(Some(transfers)));
        match special {
            None => self.responder.answer(query, client, output).then_some(Response::Message),
            Some((Special::Answer(answer), _)) => {
                output.extend_from_slice(&answer);
                Some(Response::Message)
            }
            Some((Special::Signed(query, mut session), _)) => {
                let mut answer = Vec::new();
                if !self.responder.answer(&query, client, &mut answer) {
                    return None;
                }
                session.sign(&mut answer, Clock::seconds().into());
                output.extend_from_slice(&answer);
                Some(Response::Message)
            }
            Some((Special::Transfer(transfer), transfers)) => {
                Some(Response::Transfer(transfer, transfers.clone()))
            }
        }
    }

    /// The response to `query` where only one message is possible: transfers are refused (RFC 8484 section 5).
    pub(super) fn answer(&self, query: &[u8], client: SocketAddr) -> Option<Vec<u8>> {
        let mut answer = Vec::new();
        let answered = match self.respond(query, client, &mut answer)? {
            Response::Message => true,
            Response::Transfer(..) => self.responder.answer(query, client, &mut answer),
        };
        answered.then_some(answer)
    }
}
