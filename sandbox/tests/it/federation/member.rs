//! One sandbox cluster with its agent.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use kube::Client;
use sandbox::Workloads;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::{Api, Running, api_server};

/// Addresses 127.<index>.x.y must not be shared by clusters that run at once, also not with a demo beside the tests.
static INDEX: AtomicU8 = AtomicU8::new(11);

/// An index that no cluster has, of this process or another one, for as long as the socket is held.
fn claim() -> (u8, std::net::UdpSocket) {
    loop {
        let index = INDEX.fetch_add(1, Ordering::Relaxed);
        assert!(index < 127, "too many clusters for 127.0.0.0/8");
        let address = std::net::Ipv4Addr::new(127, index, 254, 254);
        if let Ok(claim) = std::net::UdpSocket::bind((address, 65_053)) {
            return (index, claim);
        }
    }
}

/// One sandbox cluster with its agent.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) api: Api,
    pub(crate) index: u8,
    _claim: std::net::UdpSocket,
    /// Where its agent reaches the hub, if not where the others do.
    pub(super) hub: Option<SocketAddr>,
    pub(super) agent: Option<Running>,
    directory: TempDir,
    api_server: Running,
    workloads: JoinHandle<()>,
    options: sandbox::Options,
    /// The API server does not answer the agent.
    api_down: Arc<AtomicBool>,
}

impl Member {
    pub(crate) async fn new(name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (client, api_server) = api_server(directory.path()).await;
        let (index, claim) = claim();
        let options = sandbox::Options {
            cluster: name.to_owned(),
            index,
            start_delay: Duration::from_millis(50),
            grace: Duration::from_millis(50),
        };
        let workloads = run_workloads(&client, options.clone(), &api_server);
        Self {
            name: name.to_owned(),
            api: Api(client),
            index,
            _claim: claim,
            hub: None,
            agent: None,
            directory,
            api_server,
            workloads,
            options,
            api_down: Arc::default(),
        }
    }

    pub(super) fn directory(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    /// A client of the API server that fails while `api_down` holds: what is under way goes on, and no request is taken.
    pub(super) fn agents_client(&self) -> Client {
        let (client, down) = (self.api.0.clone(), self.api_down.clone());
        let send = move |request: http::Request<kube::client::Body>| {
            let (client, down) = (client.clone(), down.clone());
            async move {
                if down.load(Ordering::SeqCst) {
                    return Err(kube::Error::Service("connection refused".into()));
                }
                client.send(request).await
            }
        };
        Client::new(tower::service_fn(send), "default")
    }

    /// From now on the API server answers the agent, or does not.
    pub(crate) fn set_api_down(&self, down: bool) {
        self.api_down.store(down, Ordering::SeqCst);
    }

    /// Every pod and load balancer dies, and nobody writes so into the API: what a member is like whose nodes lost their network.
    pub(crate) async fn kill_data_plane(&mut self) {
        self.workloads.abort();
        let _ = (&mut self.workloads).await;
    }

    /// Its pods run again.
    pub(crate) fn revive_data_plane(&mut self) {
        self.workloads = run_workloads(&self.api.0, self.options.clone(), &self.api_server);
    }

    pub(crate) async fn stop_agent(&mut self) {
        self.agent.take().unwrap().end().await;
    }

    /// Whether the agent ended by itself.
    pub(crate) fn agent_ended(&self) -> bool {
        self.agent.as_ref().is_none_or(|agent| agent.task.is_finished())
    }
}

fn run_workloads(client: &Client, options: sandbox::Options, api_server: &Running) -> JoinHandle<()> {
    let workloads = Workloads::new(client.clone(), options);
    let ending = api_server.shutdown.token();
    tokio::spawn(async move { workloads.run(ending).await.unwrap() })
}
