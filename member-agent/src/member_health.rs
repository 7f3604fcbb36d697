//! The member's vital signs: whether its API server answers, and its capacity.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::quantity::Quantity;
use hub_protocol::agent::Vitals;
use kube::Client;
use proto::v1;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::metrics::Metrics;
use crate::service_addresses::ServiceAddresses;
use crate::world::{Report, World};

const PROBE_EVERY: Duration = Duration::from_secs(1);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// What pods take changes slowly and costs a list of all of them.
const TAKEN_EVERY: Duration = Duration::from_secs(60);
/// After a failure.
const TAKEN_AGAIN: Duration = Duration::from_secs(15);
/// The largest clusters (kubernetes.io, "Considerations for large clusters": 150,000 pods) are 600 pages.
const TAKEN_TIMEOUT: Duration = Duration::from_secs(60);
/// Pods a page: about 1 MiB.
const PAGE: usize = 250;

/// What the pods take that are on a node and not over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Taken {
    pods: u32,
    cpu_millis: i64,
    memory_bytes: i64,
}

/// Probes each second and reports what it sees.
pub(crate) async fn watch(
    client: Client,
    addresses: Arc<ServiceAddresses>,
    world: Arc<World>,
    metrics: Metrics,
    not_after: watch::Receiver<i64>,
) {
    let taken = watch::Sender::new(Taken::default());
    // Beside each other: whether the API server answers is asked each second, however long the list of pods takes.
    tokio::select! {
        () = count(&client, &taken) => {}
        () = beat(&client, &addresses, &world, &metrics, &not_after, &taken) => {}
    }
}

/// Counts now and then what is taken.
async fn count(client: &Client, taken: &watch::Sender<Taken>) {
    let mut failing = false;
    loop {
        match timeout(TAKEN_TIMEOUT, requests(client)).await.ok().flatten() {
            Some(found) => {
                failing = false;
                taken.send_replace(found);
                sleep(TAKEN_EVERY).await;
            }
            None => {
                // A member that does not let us list pods shows all its capacity as free.
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(
                        "the member's pods could not be listed: what they take is told as it last was"
                    );
                }
                sleep(TAKEN_AGAIN).await;
            }
        }
    }
}

async fn beat(
    client: &Client,
    addresses: &ServiceAddresses,
    world: &World,
    metrics: &Metrics,
    not_after: &watch::Receiver<i64>,
    taken: &watch::Sender<Taken>,
) {
    let mut ticks = interval(PROBE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let probe = probe(client).await;
        metrics.api_ok.set(i64::from(probe.is_ok()));
        let taken = *taken.borrow();
        let capacity = v1::Capacity {
            cpu_requested_millis: taken.cpu_millis,
            memory_requested_bytes: taken.memory_bytes,
            pods_running: taken.pods,
            ..addresses.capacity()
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

/// Sums up all pages of pods; `None` if one of them could not be read.
async fn requests(client: &Client) -> Option<Taken> {
    let (mut pods, mut cpu, mut memory) = (0_u32, Quantity::default(), Quantity::default());
    let mut next = String::new();
    loop {
        let path = format!(
            "/api/v1/pods?limit={PAGE}&continue={next}&fieldSelector=status.phase!%3DSucceeded,status.phase!%3DFailed,spec.nodeName!%3D"
        );
        let list: Value = client.request(http::Request::get(path).body(Vec::new()).ok()?).await.ok()?;
        for pod in list.get("items")?.as_array()? {
            pods = pods.saturating_add(1);
            for container in pod.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten() {
                let amount = |name: &str| {
                    let text =
                        container.pointer("/resources/requests").and_then(|all| all.get(name)?.as_str());
                    text.and_then(|text| text.parse::<Quantity>().ok()).unwrap_or_default()
                };
                cpu = cpu.saturating_add(amount("cpu"));
                memory = memory.saturating_add(amount("memory"));
            }
        }
        match list.pointer("/metadata/continue").and_then(Value::as_str) {
            Some(token) if !token.is_empty() => token.clone_into(&mut next),
            _ => return Some(Taken { pods, cpu_millis: cpu.millis(), memory_bytes: memory.units() }),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// A member that answers at once, but for its pods, of which it has these, or which it never lists.
    fn member(pods: Option<Value>) -> Client {
        let answer = move |request: http::Request<Body>| {
            let pods = pods.clone();
            async move {
                let body = match (request.uri().path(), pods) {
                    ("/api/v1/pods", None) => std::future::pending().await,
                    ("/api/v1/pods", Some(pods)) => json!({"items": pods}).to_string(),
                    _ => "ok".to_owned(),
                };
                let body = Body::from(body.into_bytes());
                http::Response::builder().status(200).body(body).map_err(kube::Error::HttpError)
            }
        };
        Client::new(tower::service_fn(answer), "default")
    }

    #[tokio::test]
    async fn a_list_of_pods_that_takes_long_keeps_no_word_of_the_api_server_back() {
        let (reports, mut heard) = tokio::sync::mpsc::channel(4);
        let world = Arc::new(World::new(reports));
        let addresses = Arc::new(ServiceAddresses::new(world.clone()));
        let (_, not_after) = watch::channel(0);
        let watching = tokio::spawn(watch(member(None), addresses, world, Metrics::default(), not_after));
        for _ in 0..2 {
            let report = timeout(4 * PROBE_EVERY, heard.recv()).await.expect("it is told each second");
            assert!(matches!(report, Some(Report::Vitals(vitals)) if vitals.api_ok));
        }
        watching.abort();
    }

    #[tokio::test]
    async fn what_pods_take_is_their_number_and_what_they_request() {
        let pod = |cpu: &str, memory: &str| {
            let requests = json!({"cpu": cpu, "memory": memory});
            json!({"spec": {"containers": [{"resources": {"requests": requests}}, {"name": "asks for nothing"}]}})
        };
        let client = member(Some(json!([pod("250m", "64Mi"), pod("1", "1Gi")])));
        let taken = requests(&client).await.unwrap();
        assert_eq!(taken, Taken { pods: 2, cpu_millis: 1250, memory_bytes: (1024 + 64) << 20 });
    }
}
