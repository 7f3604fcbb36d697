//! The meeting service for voters while the hub is away: each agent leaves its word and receives the words of all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use federation_prober::Probing;
use federation_runtime::clock::Instant;
use federation_runtime::pki::Peer;
use federation_runtime::shutdown::Shutdown;
use hub_protocol::Sight;
use hub_protocol::agreement::{self, WORD_LIFE_MS};
use parking_lot::Mutex;
use proto::v1;
use proto::v1::survivors_server::{Survivors, SurvivorsServer};
use tokio::net::TcpListener;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use super::Hub;
use super::connections::connections;
use crate::state::State;

/// How often what is seen is noted: a quarter of a probe's interval.
const INTERVAL: Duration = Duration::from_millis(250);
/// A word is a few hundred octets, and names at most every cluster.
const WORD_MAX: usize = 1 << 16;
/// Clusters in one word.
const SEEN_MAX: usize = 256;
/// A TLS handshake that takes longer is not one of ours.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What is said here. Cheap to clone.
#[derive(Clone)]
pub struct Meeting(Arc<Inner>);

struct Inner {
    instance: String,
    state: State,
    started: Instant,
    sight: Mutex<Sight>,
    // By voter and uid of its Cluster, with when it was said: who has left and has the name of another says nothing in that one's place.
    // Certificates bound them by the number of members.
    words: Mutex<BTreeMap<(String, String), (u64, v1::Word)>>,
}

impl Meeting {
    /// Where nobody has met yet.
    pub fn new(instance: &str, state: State) -> Self {
        Self(Arc::new(Inner {
            instance: instance.to_owned(),
            state,
            started: Instant::now(),
            sight: Mutex::default(),
            words: Mutex::default(),
        }))
    }

    /// Serves on a bound socket, and notes what is seen, until `shutdown`.
    pub(crate) async fn run(
        self,
        listener: Arc<TcpListener>,
        hub: Hub,
        probing: Probing,
        shutdown: Shutdown,
    ) {
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(&hub.identity.certificate_pem, &hub.identity.key_pem))
            .client_ca_root(Certificate::from_pem(&hub.ca_pem))
            .timeout(HANDSHAKE);
        let service = SurvivorsServer::new(self.clone()).max_decoding_message_size(WORD_MAX);
        let server = match Server::builder().tls_config(tls) {
            Ok(mut server) => server.add_service(service),
            Err(error) => {
                tracing::error!(%error, "nobody can meet here: the certificate was refused");
                return;
            }
        };
        let ending = shutdown.clone();
        let serving =
            server.serve_with_incoming_shutdown(connections(listener), async move { ending.wait().await });
        let looking = async {
            loop {
                tokio::time::sleep(INTERVAL).await;
                self.look(&probing);
            }
        };
        tokio::select! {
            ended = serving => if let Err(error) = ended {
                tracing::error!(%error, "nobody can meet here any more");
            },
            () = looking => {}
        }
    }

    /// Notes what is seen.
    pub fn look(&self, probing: &Probing) {
        self.0.sight.lock().note(self.now(), &probing.votes());
    }

    /// An agent leaves its word, and takes everybody's but its own. `uid` is its Cluster's, by its certificate.
    pub fn leave_word(&self, cluster: &str, uid: &str, mut word: v1::Word) -> Vec<v1::Word> {
        let voter = (agreement::agent(cluster), uid.to_owned());
        (word.voter, word.uid) = voter.clone();
        word.age_ms = 0;
        word.seen.truncate(SEEN_MAX);
        let now = self.now();
        let mut reply = vec![self.own()];
        let mut words = self.0.words.lock();
        words.retain(|_, (at, _)| now.saturating_sub(*at) < WORD_LIFE_MS);
        words.insert(voter.clone(), (now, word));
        reply.extend(words.iter().filter(|(of, _)| **of != voter).map(|(_, (at, word))| {
            let age_ms = u32::try_from(now.saturating_sub(*at)).unwrap_or(u32::MAX);
            v1::Word { age_ms, ..word.clone() }
        }));
        reply
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What this server says itself.
    fn own(&self) -> v1::Word {
        let (connected, since) = self.0.state.hub();
        let silent = if connected { Duration::ZERO } else { since };
        v1::Word {
            voter: agreement::server(&self.0.instance),
            hub_silent_ms: u64::try_from(silent.as_millis()).unwrap_or(u64::MAX),
            seen: self.0.sight.lock().seen(self.now()),
            ..v1::Word::default()
        }
    }
}

#[tonic::async_trait]
impl Survivors for Meeting {
    async fn meet(&self, request: Request<v1::MeetRequest>) -> Result<Response<v1::MeetReply>, Status> {
        let certificates = request.peer_certs();
        let certificate = certificates.as_deref().and_then(|all| all.first());
        let certificate =
            certificate.ok_or_else(|| Status::unauthenticated("show a member's certificate"))?;
        let peer = Peer::from_der(certificate)
            .map_err(|error| Status::unauthenticated(format!("client certificate: {error}")))?;
        let cluster = peer.agent().ok_or_else(|| {
            Status::permission_denied(format!(
                "{} is not an agent: its certificate names no cluster",
                peer.user
            ))
        })?;
        let word = request.get_ref().word.clone().unwrap_or_default();
        Ok(Response::new(v1::MeetReply { words: self.leave_word(cluster, &peer.uid, word) }))
    }
}
