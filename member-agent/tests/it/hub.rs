//! A hub on loopback: the real certificates, the real session machine, a test as its controller.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use federation_runtime::pki::{Authority, HUB_NAME, LIFE_OF_AGENTS, LIFE_OF_PARTS, SpkiPin, Subject};
use hub_protocol::hub;
use proto::v1::agent_server::{Agent, AgentServer};
use proto::v1::enrollment_server::{Enrollment, EnrollmentServer};
use proto::v1::{self};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

#[derive(Clone)]
pub(crate) struct Hub {
    pub(crate) address: SocketAddr,
    pub(crate) pin: SpkiPin,
    shared: Arc<Shared>,
}

struct Shared {
    authority: Authority,
    session: Mutex<hub::Session>,
    events: Mutex<VecDeque<hub::Event>>,
    tokens: Mutex<Vec<String>>,
    start: Instant,
}

impl Hub {
    pub(crate) async fn start(directory: &Path, token: &str) -> Self {
        let authority = Authority::load_or_create(directory).unwrap();
        let identity = authority.issue(&Subject::apiserver(), &[HUB_NAME.to_owned()], LIFE_OF_PARTS).unwrap();
        // The CA goes with the chain, so that one who joins can find the pinned key in it.
        let chain = format!("{}{}", identity.certificate_pem, authority.certificate_pem);
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(chain, &identity.key_pem))
            .client_ca_root(Certificate::from_pem(&authority.certificate_pem))
            .client_auth_optional(true);
        let pin = authority.pin().unwrap();
        let config = hub::Config { incarnation: "store".into(), ..hub::Config::default() };
        let shared = Arc::new(Shared {
            authority,
            session: Mutex::new(hub::Session::new(config)),
            events: Mutex::default(),
            tokens: Mutex::new(vec![token.into()]),
            start: Instant::now(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let hub = Self { address, pin, shared };
        let router = Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(EnrollmentServer::new(hub.clone()))
            .add_service(AgentServer::new(hub.clone()));
        tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
        hub
    }

    pub(crate) fn session<T>(&self, act: impl FnOnce(u64, &mut hub::Session) -> T) -> T {
        act(self.shared.start.elapsed().as_millis() as u64, &mut self.shared.session.lock().unwrap())
    }

    /// Waits for an event; everything before it is dropped.
    pub(crate) async fn wait<T>(&self, what: &str, mut matches: impl FnMut(&hub::Event) -> Option<T>) -> T {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(20) {
            while let Some(event) = { self.shared.events.lock().unwrap().pop_front() } {
                if let Some(found) = matches(&event) {
                    return found;
                }
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("{what} did not come within 20 s");
    }
}

#[tonic::async_trait]
impl Enrollment for Hub {
    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        let request = request.into_inner();
        if request.cluster == "mute" {
            std::future::pending::<()>().await;
        }
        let mut tokens = self.shared.tokens.lock().unwrap();
        let Some(at) = tokens.iter().position(|token| *token == request.token) else {
            return Err(Status::unauthenticated("the token is unknown, expired or used"));
        };
        if request.cluster == "taken" {
            return Err(Status::already_exists("cluster name \"taken\" is taken"));
        }
        tokens.remove(at);
        let authority = &self.shared.authority;
        let signed =
            authority.sign_request(&request.csr_pem, &Subject::agent(&request.cluster, ""), LIFE_OF_AGENTS);
        Ok(Response::new(v1::JoinResponse {
            certificate_pem: signed.map_err(|error| Status::invalid_argument(error.to_string()))?,
            ca_pem: authority.certificate_pem.clone(),
        }))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        if request.peer_certs().is_none() {
            return Err(Status::unauthenticated("no certificate"));
        }
        let authority = &self.shared.authority;
        let signed = authority.sign_request(
            &request.into_inner().csr_pem,
            &Subject::agent("taiwan", ""),
            LIFE_OF_AGENTS,
        );
        Ok(Response::new(v1::RenewResponse {
            certificate_pem: signed.map_err(|error| Status::invalid_argument(error.to_string()))?,
            ca_pem: authority.certificate_pem.clone(),
        }))
    }
}

#[tonic::async_trait]
impl Agent for Hub {
    type SessionStream = Pin<Box<dyn futures::Stream<Item = Result<v1::HubMessage, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        if request.peer_certs().is_none() {
            return Err(Status::unauthenticated("no certificate"));
        }
        let mut up = request.into_inner();
        let (down, messages) = mpsc::channel(64);
        let hub = self.clone();
        hub.session(|now, session| session.reconnected(now));
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(2));
            loop {
                tokio::select! {
                    message = up.message() => match message {
                        Ok(Some(message)) => hub.session(|now, session| session.handle_message(now, message)),
                        _ => break,
                    },
                    _ = ticks.tick() => {}
                }
                while let Some(message) = hub.session(|_, session| session.poll_transmit()) {
                    if down.send(Ok(message)).await.is_err() {
                        break;
                    }
                }
                while let Some(event) = hub.session(|_, session| session.poll_event()) {
                    hub.shared.events.lock().unwrap().push_back(event);
                }
            }
            hub.session(|_, session| session.disconnected());
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }

    /// A hub that dies in the middle of a drill.
    async fn hold(&self, _: Request<v1::HoldRequest>) -> Result<Response<v1::HoldReply>, Status> {
        Err(Status::unavailable("it is dead"))
    }

    async fn saw(&self, _: Request<v1::SawRequest>) -> Result<Response<v1::SawReply>, Status> {
        Err(Status::unavailable("it is dead"))
    }
}
