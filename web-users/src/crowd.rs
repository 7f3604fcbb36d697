//! Users who look while a drill runs, and what they saw.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use federation_core::api::{DrillLook, DrillUsers};
use federation_core::drill::{Outcome, Tally};
use hickory_proto::rr::Name;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{Fetch, PAUSE, Site};

/// DNS servers that are asked; more of them see the same zones.
const SERVERS_MAX: usize = 4;

/// The crowd. It goes when this is dropped.
pub struct Crowd {
    counted: Arc<Mutex<Counted>>,
    stop: CancellationToken,
}

struct Counted {
    tally: Tally,
    since: Instant,
    // Whether somebody got a page before anything was lost; none while that is open.
    fit: Option<bool>,
}

impl Crowd {
    /// Lets so many users loose for each DNS server. None if what they are to look at is nothing: no server, no name.
    pub fn start(look: &DrillLook, users: usize) -> Option<Self> {
        let name = Name::from_ascii(&look.name).ok()?;
        let (mut owners, mut ports) = (BTreeMap::<IpAddr, String>::new(), BTreeMap::new());
        for own in &look.addresses {
            let Ok(address) = own.address.parse() else { continue };
            owners.insert(address, own.cluster.clone());
            ports.extend(own.port.map(|port| (address, port)));
        }
        let servers: Vec<SocketAddr> =
            look.dns.iter().filter_map(|address| address.parse().ok()).take(SERVERS_MAX).collect();
        if servers.is_empty() {
            return None;
        }
        let counted =
            Arc::new(Mutex::new(Counted { tally: Tally::new(&[]), since: Instant::now(), fit: None }));
        let stop = CancellationToken::new();
        let count = counted.clone();
        let seen = Arc::new(move |fetch: Fetch| {
            let took_ms = u32::try_from(fetch.took.as_millis()).unwrap_or(u32::MAX);
            let mut counted = count.lock();
            let Counted { tally, since, .. } = &mut *counted;
            let after_ms = millis(fetch.at.saturating_duration_since(*since));
            match &fetch.outcome {
                Ok(page) => {
                    let owner = owners.get(&page.address).map_or("", String::as_str);
                    tally.note(after_ms, took_ms, Outcome::Served(owner));
                }
                Err(failure) => tally.note(after_ms, took_ms, Outcome::Failed(&failure.to_string())),
            }
        });
        for dns in servers {
            let path = look.path.clone();
            let site = Site { dns, name: name.clone(), port: look.port, ports: ports.clone(), path };
            crate::start(users, &site, PAUSE, seen.clone(), &stop);
        }
        Some(Self { counted, stop })
    }

    /// Clusters are lost from now on: what was seen before was the warm-up.
    pub fn begin(&self, lost: &[String]) {
        let mut counted = self.counted.lock();
        let warm = counted.tally.figures();
        *counted = Counted {
            tally: Tally::new(lost),
            since: Instant::now(),
            fit: Some(warm.requests > warm.failed),
        };
    }

    /// Whether this is a place from which users are served at all: somebody got a page before anything was lost. What such a place does not
    /// see later is the loss, and what another one does not see is its own way there.
    pub fn is_fit(&self) -> bool {
        self.counted.lock().fit == Some(true)
    }

    /// What they saw so far.
    pub fn figures(&self) -> DrillUsers {
        self.counted.lock().tally.figures()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
