//! Exchanging words with the other voters at the DNS servers, with or without a hub.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use federation_runtime::tasks;
use parking_lot::Mutex;
use proto::v1;
use proto::v1::survivors_client::SurvivorsClient;
use tonic::transport::Channel;

use crate::identity::Membership;
use crate::link::beside::PART;

/// A server that takes longer is met the next time.
const PATIENCE: Duration = Duration::from_secs(2);
/// Words of one reply: a few hundred voters with what they see of a few dozen clusters.
const REPLY_MAX: usize = 4 << 20;

/// An address, and the connection to it.
type Open = (String, SurvivorsClient<Channel>);

/// Connections to the servers, by instance; none while somebody is asking there. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Meetings(Arc<Mutex<HashMap<String, Option<Open>>>>);

impl Meetings {
    /// Leaves the word at one server; its words, or `None` if it cannot be reached now, or is being asked already.
    pub(crate) async fn meet(
        &self,
        membership: &Membership,
        server: &v1::MeetingPoint,
        word: v1::Word,
    ) -> Option<Vec<v1::Word>> {
        let former = match self.0.lock().insert(server.instance.clone(), None) {
            Some(None) => return None,
            Some(Some(open)) if server.addresses.contains(&open.0) => Some(open),
            _ => None,
        };
        let asked = tokio::time::timeout(PATIENCE, ask(membership, server, former, word));
        // Whatever fails, the server may be asked again.
        let answer = match tasks::caught(PART, asked).await {
            Ok(answer) => answer.ok().flatten(),
            Err(panicked) => {
                tracing::error!(server = server.instance, %panicked, "asking a server failed");
                None
            }
        };
        let mut open = self.0.lock();
        open.remove(&server.instance);
        let (connection, words) = answer?;
        open.insert(server.instance.clone(), Some(connection));
        Some(words)
    }
}

async fn ask(
    membership: &Membership,
    server: &v1::MeetingPoint,
    former: Option<Open>,
    word: v1::Word,
) -> Option<(Open, Vec<v1::Word>)> {
    let request = v1::MeetRequest { word: Some(word) };
    if let Some((address, mut client)) = former
        && let Ok(reply) = client.meet(request.clone()).await
    {
        return Some(((address, client), reply.into_inner().words));
    }
    for address in &server.addresses {
        let Ok(channel) = membership.dial_dns(address).await else { continue };
        let mut client = SurvivorsClient::new(channel).max_decoding_message_size(REPLY_MAX);
        match client.meet(request.clone()).await {
            Ok(reply) => return Some(((address.clone(), client), reply.into_inner().words)),
            Err(status) => tracing::debug!(address, message = status.message(), "not met"),
        }
    }
    None
}
