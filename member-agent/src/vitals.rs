//! How the member is: does its API server answer, how much has it.

use std::sync::Arc;
use std::time::Duration;

use hub_protocol::agent::Vitals;
use kube::Client;
use proto::v1;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::metrics::Metrics;
use crate::quantity;
use crate::reach::Reach;
use crate::world::{Report, World};

const PROBE_EVERY: Duration = Duration::from_secs(1);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// What is requested of the nodes changes slowly and costs a list of all pods.
const REQUESTED_EVERY: u32 = 60;
const REQUESTED_TIMEOUT: Duration = Duration::from_secs(5);
/// Pods a page: about 1 MiB.
const PAGE: usize = 250;

/// Probes each second and reports what it sees.
pub(crate) async fn watch(
    client: Client,
    reach: Arc<Reach>,
    world: Arc<World>,
    metrics: Metrics,
    not_after: watch::Receiver<i64>,
) {
    let mut ticks = interval(PROBE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut requested = (0, 0);
    let mut round: u32 = 0;
    loop {
        ticks.tick().await;
        let probe = probe(&client).await;
        metrics.api_ok.set(i64::from(probe.is_ok()));
        if probe.is_ok() && round.is_multiple_of(REQUESTED_EVERY) {
            // A member that does not let us list pods shows all its capacity as free.
            requested = timeout(REQUESTED_TIMEOUT, requests(&client)).await.ok().flatten().unwrap_or(requested);
        }
        round = round.wrapping_add(1);
        let capacity = v1::Capacity {
            cpu_requested_millis: requested.0,
            memory_requested_bytes: requested.1,
            ..reach.capacity()
        };
        let vitals = Vitals {
            api_ok: probe.is_ok(),
            api_message: probe.err().unwrap_or_default(),
            capacity: Some(capacity),
            certificate_not_after: *not_after.borrow(),
        };
        if world.reports.send(Report::Vitals(vitals)).await.is_err() {
            return;
        }
    }
}

async fn probe(client: &Client) -> Result<(), String> {
    let get = |path: &str| {
        let request = http::Request::get(path).body(Vec::new());
        let client = client.clone();
        async move {
            let request = request.map_err(|error| error.to_string())?;
            match timeout(PROBE_TIMEOUT, client.request_text(request)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("no answer within {} s", PROBE_TIMEOUT.as_secs())),
            }
        }
    };
    match get("/readyz").await {
        Ok(()) => Ok(()),
        // Not everybody may read /readyz; the version is open to all.
        Err(readyz) => match get("/version").await {
            Ok(()) if !readyz.contains("readyz check failed") => Ok(()),
            _ => Err(readyz),
        },
    }
}

/// CPU (thousandths) and memory (bytes) that pods which are not over request.
async fn requests(client: &Client) -> Option<(i64, i64)> {
    let (mut cpu, mut memory) = (0, 0);
    let mut next = String::new();
    loop {
        let path = format!(
            "/api/v1/pods?limit={PAGE}&continue={next}&fieldSelector=status.phase!%3DSucceeded,status.phase!%3DFailed,spec.nodeName!%3D"
        );
        let list: Value = client.request(http::Request::get(path).body(Vec::new()).ok()?).await.ok()?;
        for pod in list.get("items")?.as_array()? {
            for container in pod.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten() {
                let amount = |name: &str| {
                    let text =
                        container.pointer("/resources/requests").and_then(|all| all.get(name)?.as_str());
                    text.and_then(quantity::millis).unwrap_or(0)
                };
                cpu += amount("cpu");
                memory += amount("memory") / 1000;
            }
        }
        match list.pointer("/metadata/continue").and_then(Value::as_str) {
            Some(token) if !token.is_empty() => token.clone_into(&mut next),
            _ => return Some((cpu as i64, memory as i64)),
        }
    }
}
