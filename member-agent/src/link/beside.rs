//! What runs beside the session: the stream's reader, a drill's questions, and the renewal of the certificate.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use federation_runtime::errors::Chain;
use federation_runtime::tasks;
use hub_protocol::MESSAGE_LIMIT;
use hub_protocol::agent::Facts;
use parking_lot::Mutex;
use proto::v1::{self, agent_client::AgentClient};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::Channel;

use super::MESSAGES;
use crate::identity::Membership;

/// How failures of what runs beside the session are counted.
pub(crate) const PART: &str = "link";

/// Interval at which an isolated agent asks whether its drill goes on.
const ASK: Duration = Duration::from_millis(500);

/// What the connection's tasks tell this one. `attempt` tells a new stream's words from an old one's.
pub(super) enum Input {
    Dialled { attempt: u64, facts: Option<Facts>, result: Result<Channel, String> },
    Message { attempt: u64, message: v1::HubMessage },
    Closed { attempt: u64, end: End },
    Held { drill: String, lease_ms: Option<u64> },
    Met { instance: String, words: Vec<v1::Word> },
}

/// How a stream ended.
pub(super) struct End {
    pub(super) reason: String,
    // Refused for a reason that only a person can change.
    pub(super) refused: bool,
}

impl End {
    fn of(status: &tonic::Status) -> Self {
        let refused = matches!(
            status.code(),
            Code::PermissionDenied | Code::FailedPrecondition | Code::Unauthenticated
        );
        Self { reason: status.message().to_owned(), refused }
    }
}

/// An open stream. Its reader ends with it.
pub(super) struct Connection {
    pub(super) attempt: u64,
    pub(super) up: mpsc::Sender<v1::AgentMessage>,
    reader: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Has work run among these tasks. If it panics, that is counted, and ends nothing else.
pub(super) fn run(tasks: &mut JoinSet<()>, work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
    tasks.spawn(async move {
        if let Err(panicked) = tasks::caught(PART, work).await {
            tracing::error!(%panicked, "what ran beside the session failed");
        }
    })
}

/// Dials; who fails at it has not reached the hub, and it is dialled again.
pub(super) async fn dialled(dial: impl Future<Output = ()>, attempt: u64, inputs: mpsc::Sender<Input>) {
    if let Err(panicked) = tasks::caught(PART, dial).await {
        let result = Err(panicked.to_string());
        // An error means that the agent is ending.
        let _ = inputs.send(Input::Dialled { attempt, facts: None, result }).await;
    }
}

/// Opens the stream. The Hello is queued before the hub answers, so neither side waits for the other.
pub(super) fn open(channel: Channel, attempt: u64, inputs: mpsc::Sender<Input>) -> Connection {
    let (up, out) = mpsc::channel(MESSAGES);
    let told = inputs.clone();
    let read = async move {
        let mut client = AgentClient::new(channel)
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT);
        let mut stream = match client.session(ReceiverStream::new(out)).await {
            Err(status) => return End::of(&status),
            Ok(response) => response.into_inner(),
        };
        loop {
            match stream.message().await {
                Ok(Some(message)) => {
                    // An error means that the agent is ending.
                    let _ = told.send(Input::Message { attempt, message }).await;
                }
                Ok(None) => return End { reason: "the hub closed it".into(), refused: false },
                Err(status) => return End::of(&status),
            }
        }
    };
    let reader = tokio::spawn(async move {
        let failed = |why: tasks::Panicked| End { reason: why.to_string(), refused: false };
        let end = tasks::caught(PART, read).await.unwrap_or_else(failed);
        // An error means that the agent is ending.
        let _ = inputs.send(Input::Closed { attempt, end }).await;
    });
    Connection { attempt, up, reader }
}

/// Asks the hub whether a drill goes on, until this task is ended. No answer is none: the lease lapses.
pub(super) async fn ask(membership: Membership, hub: String, drill: String, inputs: mpsc::Sender<Input>) {
    let mut client: Option<AgentClient<Channel>> = None;
    loop {
        tokio::time::sleep(ASK).await;
        if client.is_none() {
            client = membership.dial(&hub).await.ok().map(AgentClient::new);
        }
        let Some(open) = &mut client else { continue };
        match open.hold(v1::HoldRequest { drill: drill.clone() }).await {
            Ok(reply) => {
                let reply = reply.into_inner();
                let lease_ms = reply.held.then_some(u64::from(reply.lease_ms));
                if inputs.send(Input::Held { drill: drill.clone(), lease_ms }).await.is_err() {
                    return;
                }
            }
            Err(_) => client = None,
        }
    }
}

/// Renews the certificate after two thirds of its life, and tries again each minute until that works.
pub(super) async fn renew(
    newest: Arc<Mutex<Membership>>,
    directory: PathBuf,
    hub: String,
    renewed: mpsc::Sender<Membership>,
) {
    loop {
        let membership = newest.lock().clone();
        let renew_at = membership.peer().map_or(0, |peer| peer.renew_at());
        let wait = renew_at - jiff::Timestamp::now().as_second();
        // In steps, because a machine that slept does not count the time.
        tokio::time::sleep(Duration::from_secs(wait.clamp(1, 60) as u64)).await;
        if wait > 60 {
            continue;
        }
        match membership.renew(&directory, &hub).await {
            Ok(fresh) => {
                tracing::info!("the certificate was renewed");
                *newest.lock() = fresh.clone();
                if renewed.send(fresh).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = %Chain(&error),
                    "the certificate could not be renewed; trying again in a minute"
                );
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
        }
    }
}
