//! The stream of zones from the hub.

use std::net::SocketAddr;
use std::time::Duration;

use federation_prober::Probing;
use federation_runtime::pki::{HUB_NAME, Identity};
use federation_runtime::shutdown::Shutdown;
use hub_protocol::zones::MESSAGE_MAX;
use proto::v1::zones_client::ZonesClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use super::talk::Talk;
use crate::state::State;
use crate::udp::Dice;

/// First wait between connections.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// Longest wait between connections.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Timeout of a connection attempt.
const CONNECT: Duration = Duration::from_secs(5);
/// A hub that does not answer pings for this long is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Messages under way: acknowledgements, and votes in pieces, of which the largest prober has 40.
const QUEUE: usize = 64;
/// Interval at which all votes are sent again; changed votes are sent at once.
const VOTES_EVERY: Duration = Duration::from_secs(3);
/// Retry interval for votes that did not fit into the queue.
const VOTES_AGAIN: Duration = Duration::from_millis(100);

/// Where the hub is, and who we are to it.
#[derive(Clone, Debug)]
pub struct Hub {
    /// `host:port`.
    pub address: String,
    /// PEM of the federation's authority.
    pub ca_pem: String,
    /// Ours.
    pub identity: Identity,
}

/// Keeps a stream to the hub.
pub struct Client {
    /// The hub.
    pub hub: Hub,
    /// Who says hello.
    pub instance: String,
    /// Where it answers.
    pub listen: Vec<SocketAddr>,
    /// Where agents may meet.
    pub meet: Option<SocketAddr>,
    /// What updates are applied to.
    pub state: State,
    /// What probes from here.
    pub probing: Probing,
    /// For the jitter.
    pub dice: Dice,
}

#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("cannot connect to the hub")]
    Connect(#[from] tonic::transport::Error),
    #[error("the hub ended the stream: {}", .0.message())]
    Status(#[from] tonic::Status),
    #[error("the hub ended the stream")]
    Ended,
}

impl Client {
    /// Watches, and connects again whenever the stream ends, until `shutdown`.
    pub async fn run(mut self, shutdown: Shutdown) {
        let mut backoff = BACKOFF_MIN;
        loop {
            let mut received = false;
            let error = tokio::select! {
                error = self.watch(&mut received) => error,
                () = shutdown.wait() => return,
            };
            self.state.disconnected();
            if received {
                backoff = BACKOFF_MIN;
            }
            // Between half and the whole, so that servers do not come back to a restarted hub all at once.
            let wait = backoff.mul_f64(0.5 + (self.dice.roll() >> 33) as f64 / (1_u64 << 32) as f64);
            tracing::warn!(
                hub = self.hub.address,
                error = &error as &dyn std::error::Error,
                again_in_ms = wait.as_millis() as u64,
                "no stream from the hub: the last zones are served"
            );
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shutdown.wait() => return,
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn watch(&mut self, received: &mut bool) -> StreamError {
        match self.stream(received).await {
            Ok(()) => StreamError::Ended,
            Err(error) => error,
        }
    }

    async fn stream(&mut self, received: &mut bool) -> Result<(), StreamError> {
        let mut client = ZonesClient::new(self.connect().await?).max_decoding_message_size(MESSAGE_MAX);
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut talk =
            Talk::new(self.state.clone(), self.probing.clone(), &self.instance, &self.listen, self.meet);
        // The queue is empty, and its receiver is held here.
        let _ = sender.try_send(talk.hello());
        let mut updates = client.watch(ReceiverStream::new(receiver)).await?.into_inner();
        tracing::info!(hub = self.hub.address, epoch = self.state.base().0, "watching the hub's zones");
        self.state.connected();
        let mut turned = self.probing.changes();
        let mut repeat = tokio::time::interval(VOTES_EVERY);
        loop {
            let votes = tokio::select! {
                update = updates.message() => {
                    let Some(update) = update? else { return Ok(()) };
                    *received = true;
                    if let Some(answer) = talk.heard(update).await
                        && sender.send(answer).await.is_err()
                    {
                        return Ok(());
                    }
                    continue;
                }
                Ok(()) = turned.changed() => talk.turned(),
                _ = repeat.tick() => talk.all(),
            };
            for votes in votes {
                if sender.try_send(votes).is_err() {
                    repeat.reset_after(VOTES_AGAIN);
                    break;
                }
            }
        }
    }

    async fn connect(&self) -> Result<Channel, tonic::transport::Error> {
        let Identity { certificate_pem, key_pem } = &self.hub.identity;
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.hub.ca_pem))
            .identity(tonic::transport::Identity::from_pem(certificate_pem, key_pem))
            .domain_name(HUB_NAME);
        Endpoint::from_shared(format!("https://{}", self.hub.address))?
            .tls_config(tls)?
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true)
            .connect()
            .await
    }
}
