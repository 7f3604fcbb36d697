//! The crowd of web users that the demo looks at: what each of them saw, in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hickory_proto::rr::Name;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

pub(crate) use web_users::resolve;

/// What one fetch came to.
#[derive(Clone, Debug)]
pub(crate) struct Fetch {
    pub(crate) at: Instant,
    pub(crate) took: Duration,
    /// The cluster that answered, or why there was no page.
    pub(crate) outcome: Result<String, String>,
}

/// Every fetch so far, in order of completion.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Fetch>>>);

impl Log {
    pub(crate) fn since(&self, start: Instant) -> Vec<Fetch> {
        self.0.lock().iter().filter(|fetch| fetch.at >= start).cloned().collect()
    }
}

/// Where and what users ask.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) dns: SocketAddr,
    pub(crate) name: String,
    pub(crate) port: u16,
}

/// Starts `count` users, who go on until `stop`.
pub(crate) fn start(count: usize, site: &Site, log: &Log, stop: &CancellationToken) -> Result<()> {
    let name = Name::from_ascii(&site.name).with_context(|| format!("{:?} is not a DNS name", site.name))?;
    let site =
        web_users::Site { dns: site.dns, name, port: site.port, ports: Default::default(), path: "/".into() };
    let log = log.clone();
    let seen = move |fetch: web_users::Fetch| {
        let outcome = fetch.outcome.map_err(|failure| failure.to_string());
        let outcome = outcome.and_then(|page| {
            cluster(&page.text).ok_or_else(|| "the page does not say which cluster it comes from".to_owned())
        });
        log.0.lock().push(Fetch { at: fetch.at, took: fetch.took, outcome });
    };
    web_users::start(count, &site, web_users::PAUSE, Arc::new(seen), stop);
    Ok(())
}

/// What a sandbox member's page says of itself.
fn cluster(page: &str) -> Option<String> {
    page.split_whitespace().find_map(|word| word.strip_prefix("cluster=")).map(ToOwned::to_owned)
}
