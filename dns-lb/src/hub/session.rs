//! The session with the hub on one stream: what is sent, and how updates are handled.

use std::net::SocketAddr;

use federation_prober::Probing;
use hub_protocol::zones::Pieces;
use proto::v1;

use super::votes::SentVotes;
use crate::state::{Applied, State};

/// The session on one stream, whatever carries it.
pub struct Session {
    state: State,
    probing: Probing,
    hello: v1::DnsHello,
    // Everything was asked for, and has not come yet.
    asked: bool,
    pieces: Pieces,
    sent: SentVotes,
}

impl Session {
    /// The stream is up. `listen` is where the server answers, `meet` where agents may meet.
    pub fn new(
        state: State,
        probing: Probing,
        instance: &str,
        listen: &[SocketAddr],
        meet: Option<SocketAddr>,
    ) -> Self {
        let (epoch, incarnation) = state.base();
        let hello = v1::DnsHello {
            instance: instance.to_owned(),
            epoch,
            incarnation,
            listen: listen.iter().map(ToString::to_string).collect(),
            changes: true,
            meet: meet.iter().map(ToString::to_string).collect(),
            pieces: true,
        };
        Self { state, probing, hello, asked: false, pieces: Pieces::default(), sent: SentVotes::default() }
    }

    /// What is said first.
    pub fn hello(&self) -> v1::DnsMessage {
        say(v1::dns_message::Message::Hello(self.hello.clone()))
    }

    /// Handles an update, or a piece of one; the answer, if there is one.
    pub async fn receive(&mut self, message: v1::ZoneUpdate) -> Option<v1::DnsMessage> {
        let update = self.pieces.take(message).unwrap_or_else(|error| {
            tracing::error!(%error, "an update of the hub cannot be read: the zones served stay as they are");
            None
        })?;
        self.asked &= update.base > 0;
        let applied = self.state.offer(update).await;
        self.probing.set_targets(self.state.targets().to_vec());
        match applied {
            Applied::Served { epoch } => {
                Some(say(v1::dns_message::Message::Served(v1::ZoneServed { epoch })))
            }
            Applied::Resync if !self.asked => {
                tracing::info!("a change does not fit: all zones are asked for");
                self.asked = true;
                let again = v1::DnsHello { epoch: 0, ..self.hello.clone() };
                Some(say(v1::dns_message::Message::Hello(again)))
            }
            Applied::Resync | Applied::Partly | Applied::Refused => None,
        }
    }

    /// Votes that changed since they were sent, or failed first.
    pub fn changed_votes(&mut self) -> Vec<v1::DnsMessage> {
        votes(self.sent.changed(self.probing.votes()))
    }

    /// All votes.
    pub fn all_votes(&mut self) -> Vec<v1::DnsMessage> {
        votes(self.sent.all(self.probing.votes()))
    }
}

fn votes(pieces: Vec<v1::ProbeVotes>) -> Vec<v1::DnsMessage> {
    pieces.into_iter().map(|votes| say(v1::dns_message::Message::Votes(votes))).collect()
}

fn say(message: v1::dns_message::Message) -> v1::DnsMessage {
    v1::DnsMessage { message: Some(message) }
}
