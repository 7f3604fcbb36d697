//! The stream of zones from the hub.

use std::net::SocketAddr;
use std::time::Duration;

use federation_prober::Probing;
use federation_runtime::pki::{HUB_NAME, Identity};
use federation_runtime::shutdown::Shutdown;
use hub_protocol::zones::MESSAGE_MAX;
use proto::v1::{self, zones_client::ZonesClient};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use super::session::Session;
use crate::state::State;
use crate::udp::Rng;

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
    pub rng: Rng,
}

#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("cannot connect to the hub")]
    Connect(#[from] tonic::transport::Error),
    #[error("the hub ended the stream: {}", .0.message())]
    Status(#[from] Status),
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
            let wait = backoff.mul_f64(0.5 + (self.rng.next_u64() >> 33) as f64 / (1_u64 << 32) as f64);
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
        let mut session =
            Session::new(self.state.clone(), self.probing.clone(), &self.instance, &self.listen, self.meet);
        // The queue is empty, and its receiver is held here.
        let _ = sender.try_send(session.hello());
        let mut updates = client.watch(ReceiverStream::new(receiver)).await?.into_inner();
        tracing::info!(hub = self.hub.address, epoch = self.state.base().0, "watching the hub's zones");
        self.state.connected();
        converse(&mut session, &mut updates, &sender, self.probing.changes(), received).await
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

/// Hears updates, and says what is to be said of them and what is seen, until the stream ends.
///
/// Updates are heard whether the hub reads or not: it may be waiting itself until its updates are read.
async fn converse(
    session: &mut Session,
    updates: &mut (impl Stream<Item = Result<v1::ZoneUpdate, Status>> + Unpin),
    sender: &mpsc::Sender<v1::DnsMessage>,
    mut turned: watch::Receiver<u64>,
    received: &mut bool,
) -> Result<(), StreamError> {
    let mut repeat = tokio::time::interval(VOTES_EVERY);
    let mut unsent = Answers::default();
    loop {
        let votes = tokio::select! {
            update = updates.next() => {
                let Some(update) = update.transpose()? else { return Ok(()) };
                *received = true;
                if let Some(answer) = session.receive(update).await {
                    unsent.push(answer);
                }
                continue;
            }
            room = sender.reserve(), if !unsent.is_empty() => {
                let Ok(room) = room else { return Ok(()) };
                if let Some(answer) = unsent.pop() {
                    room.send(answer);
                }
                continue;
            }
            Ok(()) = turned.changed() => session.changed_votes(),
            _ = repeat.tick() => session.all_votes(),
        };
        for votes in votes {
            if sender.try_send(votes).is_err() {
                repeat.reset_after(VOTES_AGAIN);
                break;
            }
        }
    }
}

/// Answers to updates that wait until there is room in the queue: one of each kind, since a newer one stands for those before it.
#[derive(Default)]
struct Answers {
    served: Option<v1::DnsMessage>,
    // Sent last: it asks for everything, whatever was acknowledged before.
    hello: Option<v1::DnsMessage>,
}

impl Answers {
    fn push(&mut self, answer: v1::DnsMessage) {
        match answer.message {
            Some(v1::dns_message::Message::Hello(_)) => self.hello = Some(answer),
            _ => self.served = Some(answer),
        }
    }

    fn pop(&mut self) -> Option<v1::DnsMessage> {
        self.served.take().or_else(|| self.hello.take())
    }

    fn is_empty(&self) -> bool {
        self.served.is_none() && self.hello.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use federation_runtime::endpoints::Health;
    use hub_protocol::zones;
    use v1::dns_message::Message;

    use super::*;
    use crate::hub::Fence;
    use crate::metrics::DnsMetrics;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn update(epoch: u64) -> v1::ZoneUpdate {
        let zone = v1::Zone {
            origin: "fed.example.test.".into(),
            serial: epoch as u32,
            default_ttl: 30,
            negative_ttl: 5,
            nameservers: vec!["ns1.fed.example.test.".into()],
            hostmaster: "admin.fed.example.test.".into(),
            ..v1::Zone::default()
        };
        v1::ZoneUpdate { epoch, incarnation: "store".into(), zones: vec![zone], ..v1::ZoneUpdate::default() }
    }

    #[tokio::test]
    async fn updates_are_read_while_the_hub_reads_no_answers_and_the_newest_is_acknowledged_then() {
        let metrics = Arc::new(DnsMetrics::default());
        let state = State::new(metrics, Health::new(), None, Fence::default(), Duration::from_secs(3600));
        let probing = Probing::still(1);
        let mut session = Session::new(state.clone(), probing.clone(), "dns-1", &[], None);
        // A stream with room for one message in each direction.
        let (hub, updates) = mpsc::channel(1);
        let (sender, mut answers) = mpsc::channel(1);
        let turned = probing.changes();
        let talking = tokio::spawn(async move {
            converse(&mut session, &mut ReceiverStream::new(updates), &sender, turned, &mut false).await
        });
        let sent = async {
            for epoch in 1..=20 {
                for piece in zones::cut(update(epoch), 40) {
                    hub.send(Ok(piece)).await.expect("it is open");
                }
            }
            // A change of what it does not have, and one of what it has.
            hub.send(Ok(v1::ZoneUpdate { base: 30, ..update(31) })).await.expect("it is open");
            let change = zones::change(&update(20), &update(21)).expect("only the serial differs");
            hub.send(Ok(change)).await.expect("it is open");
        };
        tokio::time::timeout(PATIENCE, sent).await.expect("updates are read although answers are not");
        let said = async {
            let (mut served, mut asked) = (0, 0);
            while served < 21 || asked == 0 {
                match answers.recv().await.expect("it is open").message {
                    Some(Message::Served(of)) => {
                        assert!(of.epoch > served, "{} after {served}", of.epoch);
                        served = of.epoch;
                    }
                    Some(Message::Hello(hello)) => {
                        assert_eq!(hello.epoch, 0);
                        asked += 1;
                    }
                    _ => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, said).await.expect("both are said, the acknowledgement of the newest");
        drop(hub);
        assert!(talking.await.expect("it does not panic").is_ok());
    }
}
