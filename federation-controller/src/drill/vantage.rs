//! The hub as a vantage: web users who ask every DNS server, and fetch the pages of the application.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use federation_core::api::{DrillUsers, FailoverDrillSpec, Protocol};
use federation_core::drill::{Outcome, Tally};
use hickory_proto::rr::Name;
use parking_lot::Mutex;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use web_users::{Fetch, Site};

use super::Surroundings;

/// Name of this vantage.
pub(super) const HUB: &str = "hub";
/// Users for each DNS server: 40 pages a second, which is enough to see a gap of 25 ms and little enough to disturb nobody.
const USERS: usize = 4;
/// DNS servers that are asked; more of them see the same zones.
const DOORS_MAX: usize = 4;

/// Users who look while a drill runs. They stop when this is dropped.
pub(super) struct Vantage {
    counted: Arc<Mutex<Counted>>,
    stop: CancellationToken,
}

struct Counted {
    tally: Tally,
    since: Instant,
}

impl Vantage {
    /// Lets the users loose. None if nobody answers, or the Service has no port.
    pub(super) fn start(around: &Surroundings, spec: &FailoverDrillSpec) -> Option<Self> {
        let services = around.world.services();
        let (service, reports) = services.into_iter().find(|(service, _)| {
            &*service.key.namespace == spec.app.namespace() && *service.key.name == *spec.app.name
        })?;
        let port = first_port(&service.object)?;
        let name =
            format!("{}.{}.svc.{}.", spec.app.name, spec.app.namespace(), around.zone.trim_end_matches('.'));
        let name = Name::from_ascii(name).ok()?;
        let mut owners: BTreeMap<IpAddr, String> = BTreeMap::new();
        let mut ports = BTreeMap::new();
        let snapshot = around.board.snapshot();
        for (cluster, report) in &reports {
            let Some(state) = &report.service else { continue };
            let view = snapshot.views.iter().find(|view| view.name == *cluster);
            let declared = view.map(|view| view.spec.addresses.clone()).unwrap_or_default();
            let own = if state.addresses.is_empty() { &declared } else { &state.addresses };
            for address in own.iter().filter_map(|text| text.parse::<IpAddr>().ok()) {
                owners.insert(address, cluster.clone());
                if let Some(port) = state.ports.values().next().and_then(|port| u16::try_from(*port).ok()) {
                    ports.insert(address, port);
                }
            }
        }
        let doors = around.zones.doors();
        if doors.is_empty() {
            return None;
        }
        let counted = Arc::new(Mutex::new(Counted { tally: Tally::new(&[]), since: Instant::now() }));
        let stop = CancellationToken::new();
        let count = counted.clone();
        let owners = Arc::new(owners);
        let seen = Arc::new(move |fetch: Fetch| {
            let took_ms = u32::try_from(fetch.took.as_millis()).unwrap_or(u32::MAX);
            let mut counted = count.lock();
            let Counted { tally, since } = &mut *counted;
            let after_ms = millis(fetch.at.saturating_duration_since(*since));
            match &fetch.outcome {
                Ok(page) => {
                    let owner = owners.get(&page.address).map_or("", String::as_str);
                    tally.note(after_ms, took_ms, Outcome::Served(owner));
                }
                Err(failure) => tally.note(after_ms, took_ms, Outcome::Failed(&failure.to_string())),
            }
        });
        let path = page(around, spec);
        for dns in doors.into_iter().take(DOORS_MAX) {
            let site = Site { dns, name: name.clone(), port, ports: ports.clone(), path: path.clone() };
            web_users::start(USERS, &site, web_users::PAUSE, seen.clone(), &stop);
        }
        Some(Self { counted, stop })
    }

    /// Clusters are lost from now on: what was seen before was the warm-up.
    pub(super) fn begin(&self, lost: &[String]) {
        *self.counted.lock() = Counted { tally: Tally::new(lost), since: Instant::now() };
    }

    /// What they saw so far.
    pub(super) fn figures(&self) -> DrillUsers {
        self.counted.lock().tally.figures()
    }
}

impl Drop for Vantage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn first_port(service: &Value) -> Option<u16> {
    let ports = service.pointer("/spec/ports")?.as_array()?;
    ports.first()?["port"].as_u64().and_then(|port| u16::try_from(port).ok())
}

/// The page that the TrafficPolicy's health check asks for, else the first one.
fn page(around: &Surroundings, spec: &FailoverDrillSpec) -> String {
    let policies = around.world.traffic();
    let own = policies.iter().find(|policy| {
        policy.spec.service == spec.app.name
            && policy.metadata.namespace.as_deref().unwrap_or_default() == spec.app.namespace()
    });
    let check = own.and_then(|policy| policy.spec.health_check.as_ref());
    let path = check.filter(|check| check.protocol == Protocol::Http).map(|check| check.path.clone());
    path.filter(|path| path.starts_with('/')).unwrap_or_else(|| "/".into())
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
