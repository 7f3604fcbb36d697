//! Web users: each resolves a name by DNS, keeps the answer for its TTL, connects, and fetches over HTTP. What they see is the measure of
//! a failover, in the demo as in a drill.
//!
//! [`start`] starts the users. Every attempt is passed to a closure as a [`Fetch`], with the duration of each step, or with the step that
//! failed and why. The caller decides from address and text which cluster served a page. A [`Crowd`] is for drills: it knows the clusters'
//! addresses and counts.

mod crowd;
mod fetch;
mod resolve;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::rr::Name;
use tokio_util::sync::CancellationToken;

pub use crowd::Crowd;
pub use resolve::{Answer, resolve};

/// Between two fetches of one user.
pub const PAUSE: Duration = Duration::from_millis(100);
/// A page that takes longer, without resolving, has failed.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// What users ask for, and where they ask.
#[derive(Clone, Debug)]
pub struct Site {
    /// The DNS server, in place of a resolver that forwards to it.
    pub dns: SocketAddr,
    /// The name.
    pub name: Name,
    /// The port of the pages.
    pub port: u16,
    /// Addresses whose port is another one.
    pub ports: BTreeMap<IpAddr, u16>,
    /// Path of the page, from its slash.
    pub path: String,
}

/// One attempt.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// When it began.
    pub at: Instant,
    /// How long all of it took.
    pub took: Duration,
    /// The page, or why there was none.
    pub outcome: Result<Page, Failure>,
}

/// A page that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Who served it.
    pub address: IpAddr,
    /// The response, with its header.
    pub text: String,
    /// Time to resolve; zero from the user's cache.
    pub resolve: Duration,
    /// Time to connect.
    pub connect: Duration,
    /// Time from the request to the end of the page.
    pub fetch: Duration,
}

/// Why there was no page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{step}: {message}")]
pub struct Failure {
    /// Where it ended.
    pub step: Step,
    /// For people.
    pub message: String,
}

/// What a user does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Asks DNS.
    Resolve,
    /// Connects to the address.
    Connect,
    /// Sends a request, and reads the page.
    Fetch,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Fetch => "fetch",
        })
    }
}

/// Starts `count` users, who run until `stop` and pass every finished attempt to `seen`.
pub fn start(
    count: usize,
    site: &Site,
    pause: Duration,
    seen: Arc<dyn Fn(Fetch) + Send + Sync>,
    stop: &CancellationToken,
) {
    for index in 0..count {
        let (site, seen, stop) = (site.clone(), seen.clone(), stop.clone());
        // Spread over the pause, so that the crowd does not march in step.
        let offset = pause * u32::try_from(index).unwrap_or(0) / u32::try_from(count.max(1)).unwrap_or(1);
        tokio::spawn(async move {
            let run = async {
                tokio::time::sleep(offset).await;
                let mut user = User { site, cached: None };
                loop {
                    let at = Instant::now();
                    let outcome = user.visit().await;
                    let took = at.elapsed();
                    seen(Fetch { at, took, outcome });
                    tokio::time::sleep(pause.saturating_sub(took)).await;
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = run => {}
            }
        });
    }
}

struct User {
    site: Site,
    cached: Option<(IpAddr, Instant)>,
}

impl User {
    async fn visit(&mut self) -> Result<Page, Failure> {
        let began = Instant::now();
        let address = self.address().await.map_err(|error| failure(Step::Resolve, &error))?;
        let resolve = began.elapsed();
        let port = self.site.ports.get(&address).copied().unwrap_or(self.site.port);
        let host = self.site.name.to_ascii();
        let host = host.trim_end_matches('.');
        let page = fetch::page(SocketAddr::new(address, port), host, &self.site.path, PATIENCE).await?;
        Ok(Page { address, text: page.text, resolve, connect: page.connect, fetch: page.fetch })
    }

    async fn address(&mut self) -> Result<IpAddr, resolve::Error> {
        if let Some((address, until)) = self.cached
            && Instant::now() < until
        {
            return Ok(address);
        }
        let answer = resolve(self.site.dns, &self.site.name).await?;
        self.cached = Some((answer.address, Instant::now() + answer.ttl));
        Ok(answer.address)
    }
}

fn failure(step: Step, error: &dyn fmt::Display) -> Failure {
    Failure { step, message: error.to_string() }
}
